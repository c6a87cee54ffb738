/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands of `blkproof fault` about the power of disks, and about disks that are copies of each other.
 */
#include "base/json.h"
#include "tools/fault/fault.h"

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static const char *disk_name(const json_t *disk)
{
    const char *device = text_of(disk, "device");

    return *device ? device : text_of(disk, "node-name");
}

/* Words with '=' are members; the others, and --disk, are disks. */
static json_t *power_args(const struct fault_tool *f)
{
    json_t *args = json_object(), *devices = json_array();

    for (int i = 0; i < f->nwords; i++) {
        const char *equals = strchr(f->words[i], '=');
        if (!equals) {
            json_array_append_new(devices, json_string(f->words[i]));
            continue;
        }
        char *end;
        long long number = strtoll(equals + 1, &end, 0);
        AUTO_FREE char *key = strndup(f->words[i], (size_t)(equals - f->words[i]));
        bool integer = key && (strcmp(key, "seed") == 0 || strcmp(key, "losses-max") == 0) && !*end;
        bool on = strcmp(equals + 1, "on") == 0, flag = on || strcmp(equals + 1, "off") == 0;
        json_object_set_new(args, key ? key : "",
                            integer ? json_integer(number)
                            : flag  ? json_boolean(on)
                                    : json_string(equals + 1));
    }
    if (f->disk) {
        json_array_append_new(devices, json_string(f->disk));
    }
    if (json_array_size(devices) > 0) {
        json_object_set(args, "devices", devices);
    }
    json_decref(devices);
    if (f->node) {
        json_object_set_new(args, "node-names", json_pack("[s]", f->node));
    }
    return args;
}

static void show_report(const json_t *disk)
{
    const json_t *report = json_object_get(disk, "report"), *loss;
    size_t i;

    printf("%s: %s, %lld bytes dirty\n", disk_name(disk),
           json_is_true(json_object_get(disk, "power")) ? "power is on" : "no power",
           number_of(disk, "dirty-bytes"));
    if (!json_is_object(report)) {
        return;
    }
    printf("  power cut %lld before operation %lld (survivors %s, torn %s, fill %s, seed %lld):\n"
           "  of %lld writes, %lld bytes in the cache, %lld bytes are lost legally, %lld bytes illegally\n",
           number_of(report, "cut"), number_of(report, "operation"), text_of(report, "survivors"),
           text_of(report, "torn"), text_of(report, "fill"), number_of(report, "seed"),
           number_of(report, "cached-writes"), number_of(report, "cached-bytes"),
           number_of(report, "legal-bytes"), number_of(report, "illegal-bytes"));
    json_array_foreach(json_object_get(report, "losses"), i, loss)
    {
        printf("  %-7s %-11s %lld+%lld  operation %lld: %s\n",
               json_is_true(json_object_get(loss, "legal")) ? "legal" : "ILLEGAL", text_of(loss, "fate"),
               number_of(loss, "offset"), number_of(loss, "bytes"), number_of(loss, "operation"),
               text_of(loss, "why"));
    }
    if (number_of(report, "omitted") > 0) {
        printf("  and %lld more\n", number_of(report, "omitted"));
    }
}

static co_fn int power_command(struct fault_tool *f, const char *command, json_t **ret_result,
                               struct err *err)
{
    int r = client_execute(&f->client, command, power_args(f), ret_result, err);

    if (r == 0 && f->json) {
        fault_show_json(*ret_result);
    }
    return r;
}

FAULT_COMMAND(fault_cmd_power_cut)
{
    AUTO_JSON json_t *result = NULL;
    const json_t *disk;
    size_t i;
    int r = power_command(f, "power-cut", &result, err);

    json_array_foreach(json_object_get(r == 0 && !f->json ? result : NULL, "disks"), i, disk)
    {
        const json_t *report = json_object_get(disk, "report");
        printf("%s: power cut %lld before operation %lld: %lld bytes lost legally, %lld illegally\n",
               disk_name(disk), number_of(report, "cut"), number_of(report, "operation"),
               number_of(report, "legal-bytes"), number_of(report, "illegal-bytes"));
    }
    return r;
}

FAULT_COMMAND(fault_cmd_power_on)
{
    AUTO_JSON json_t *result = NULL;
    int r = power_command(f, "power-on", &result, err);

    if (r == 0 && !f->json) {
        long long n = number_of(result, "disks");
        printf("%lld disk%s switched on\n", n, n == 1 ? "" : "s");
    }
    return r;
}

FAULT_COMMAND(fault_cmd_report)
{
    AUTO_JSON json_t *result = NULL;
    const json_t *disk;
    size_t i;
    int r = power_command(f, "query-power", &result, err);

    json_array_foreach(r == 0 && !f->json ? result : NULL, i, disk)
    {
        show_report(disk);
    }
    return r;
}

FAULT_COMMAND(fault_cmd_copies)
{
    AUTO_JSON json_t *result = NULL;
    json_t *devices = json_array();
    char *end;
    long long faults = strtoll(f->words[1], &end, 0);

    if (*end || end == f->words[1]) {
        json_decref(devices);
        return err_set(err, -EINVAL, "copies: '%s' is not a number", f->words[1]);
    }
    for (int i = 2; i < f->nwords; i++) {
        json_array_append_new(devices, json_string(f->words[i]));
    }
    return client_execute(
        &f->client, "fault-group-set",
        json_pack("{s:s, s:I, s:o}", "name", f->words[0], "faults", (json_int_t)faults, "devices", devices),
        &result, err);
}
