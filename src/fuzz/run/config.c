/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration of a campaign, and what of it is kept with the campaign. */
#include "fuzz/run/campaign.h"

#include "base/json.h"

void campaign_config_init(struct campaign_config *c)
{
    *c = (struct campaign_config){
        .seed = 1,
        .oracles = ORACLES_ALL,
        .limits = {.time_ns = 10 * NS_PER_SEC,
                   .memory_bytes = GiB,
                   .disk_bytes = 256 * MiB,
                   .output_bytes = 16 * MiB,
                   .file_bytes = 16 * GiB, /* mostly a hole: convert of a large empty disk */
                   .as_bytes = UINT64_MAX},
        .shards = 1,
        .gdb = true,
        .again = 3};
    fuzz_config_init(&c->fuzz);
    free(c->fuzz.decoy);
    c->fuzz.decoy = strdup(TESTDIR_DECOY);
}

void campaign_config_finish(struct campaign_config *c)
{
    for (size_t i = 0; i < c->nformats; i++) {
        free(c->formats[i]);
    }
    free(c->generator);
    free(c->images);
    run_commands_finish(&c->commands);
    fuzz_config_finish(&c->fuzz);
    *c = (struct campaign_config){0};
}

uint64_t campaign_test_seed(uint64_t seed, uint64_t n)
{
    return seed + n;
}

/* Members of the JSON form that are numbers. Limits are below 2^63, or UINT64_MAX for none, which is -1. */
static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
    {"seed", offsetof(struct campaign_config, seed)},
    {"shard", offsetof(struct campaign_config, shard)},
    {"shards", offsetof(struct campaign_config, shards)},
    {"timeout-ns", offsetof(struct campaign_config, limits.time_ns)},
    {"memory", offsetof(struct campaign_config, limits.memory_bytes)},
    {"disk", offsetof(struct campaign_config, limits.disk_bytes)},
    {"output", offsetof(struct campaign_config, limits.output_bytes)},
    {"file-size", offsetof(struct campaign_config, limits.file_bytes)},
    {"address-space", offsetof(struct campaign_config, limits.as_bytes)},
};

static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    {"generator", offsetof(struct campaign_config, generator)},
    {"images", offsetof(struct campaign_config, images)},
};

json_t *campaign_config_json(const struct campaign_config *c)
{
    json_t *j = json_object(), *formats = json_array();

    for (size_t i = 0; i < c->nformats; i++) {
        json_array_append_new(formats, json_string(c->formats[i]));
    }
    json_object_set_new(j, "formats", formats);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        const uint64_t *value = (const uint64_t *)((const char *)c + numbers[i].offset);
        json_object_set_new(j, numbers[i].name, json_integer((json_int_t)*value));
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const char *text = *(char *const *)((const char *)c + texts[i].offset);
        if (text) {
            json_object_set_new(j, texts[i].name, json_string(text));
        }
    }
    json_object_set_new(j, "oracles", json_integer(c->oracles));
    json_object_set_new(j, "gdb", json_boolean(c->gdb)); /* a stack more is another bucket */
    if (c->coverage) {
        json_object_set_new(j, "coverage", json_true());
    }
    json_object_set_new(j, "commands", run_commands_json(&c->commands));
    json_object_set_new(j, "fuzz", fuzz_config_json(&c->fuzz));
    return j;
}

int campaign_config_from_json(struct campaign_config *c, const json_t *j, struct err *err)
{
    size_t i;
    json_t *format;

    json_array_foreach(json_object_get(j, "formats"), i, format)
    {
        if (c->nformats < CAMPAIGN_FORMATS_MAX && json_is_string(format)) {
            c->formats[c->nformats++] = strdup(json_string_value(format));
        }
    }
    for (i = 0; i < ARRAY_SIZE(numbers); i++) {
        const json_t *value = json_object_get(j, numbers[i].name);
        if (!json_is_integer(value)) {
            return err_set(err, -EINVAL, "the configuration has no number '%s'", numbers[i].name);
        }
        *(uint64_t *)((char *)c + numbers[i].offset) = (uint64_t)json_integer_value(value);
    }
    for (i = 0; i < ARRAY_SIZE(texts); i++) {
        const char *text = json_string_value(json_object_get(j, texts[i].name));
        *(char **)((char *)c + texts[i].offset) = text ? strdup(text) : NULL;
    }
    c->oracles = (unsigned)json_integer_value(json_object_get(j, "oracles")) & ORACLES_ALL;
    c->gdb = !json_is_false(json_object_get(j, "gdb"));
    c->coverage = json_is_true(json_object_get(j, "coverage"));
    if (!c->shards || c->shard >= c->shards || !c->oracles) {
        return err_set(err, -EINVAL, "the configuration is not one of a campaign");
    }
    int r = fuzz_config_from_json(&c->fuzz, json_object_get(j, "fuzz"), err);
    return r < 0 ? r : run_commands_from_json(&c->commands, json_object_get(j, "commands"), err);
}
