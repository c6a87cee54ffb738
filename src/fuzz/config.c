/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration: which fields may become hostile, how many, and choices of the layout that are not
 * random. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/size.h"
#include "fuzz/internal.h"
#include "fuzz/text.h"

#define FIELDS_DEFAULT  3
#define RECIPES_DEFAULT 10   /* percent */
#define LIST_MAX        4096 /* globs and choices: more is a mistake */

void fuzz_config_init(struct fuzz_config *c)
{
    *c = (struct fuzz_config){.fields = FIELDS_DEFAULT, .recipes = RECIPES_DEFAULT, .limit = FUZZ_LIMIT};
}

void fuzz_config_finish(struct fuzz_config *c)
{
    for (size_t i = 0; i < c->nglobs; i++) {
        free(c->globs[i]);
    }
    for (size_t i = 0; i < c->nsettings; i++) {
        free(c->settings[i].name);
    }
    free(c->globs);
    free(c->settings);
    free(c->recipe);
    free(c->decoy);
    *c = (struct fuzz_config){0};
}

/* ---- what it says ---- */

static bool find_setting(const struct fuzz_setting *s, size_t n, const char *name, uint64_t *ret_value)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(s[i].name, name) == 0) {
            *ret_value = s[i].value;
            return true;
        }
    }
    return false;
}

/* Choices of a file beside the image are set by "backing1:cluster_bits=16". */
bool fuzz_setting_of(const struct fuzz_image *img, const char *name, uint64_t *ret_value)
{
    const struct fuzz_config *c = img->config;
    const struct fuzz_file *f = &img->file[img->cur];
    char labelled[FUZZ_PATH_MAX];

    if (c->nsettings + img->recipe_settings == 0) {
        return false;
    }
    if (f->label[0]) {
        snprintf(labelled, sizeof(labelled), "%s:%s", f->label, name);
        name = labelled;
    }
    return find_setting(c->settings, c->nsettings, name, ret_value) ||
           find_setting(img->recipe_setting, img->recipe_settings, name, ret_value);
}

bool fuzz_config_allows(const struct fuzz_config *c, const char *path, const char *plain)
{
    for (size_t i = 0; i < c->nglobs; i++) {
        const char *glob = c->globs[i];
        if (fuzz_glob_match(glob, strchr(glob, '[') ? path : plain)) {
            return true;
        }
    }
    return c->nglobs == 0;
}

/* ---- made from text ---- */

static int add_glob(struct fuzz_config *c, const char *text, struct err *err)
{
    char **globs = c->nglobs < LIST_MAX ? reallocarray(c->globs, c->nglobs + 1, sizeof(*globs)) : NULL;
    char *copy = strdup(text);

    if (globs) {
        c->globs = globs;
    }
    if (!globs || !copy) {
        free(copy);
        return err_set(err, -ENOMEM, "too many paths in the configuration");
    }
    c->globs[c->nglobs++] = copy;
    return 0;
}

static int add_setting(struct fuzz_config *c, const char *text, size_t name_len, struct err *err)
{
    uint64_t value;

    if (size_parse(text + name_len + 1, &value) < 0) {
        return err_set(err, -EINVAL, "%s: expected NAME=NUMBER", text);
    }
    struct fuzz_setting *list =
        c->nsettings < LIST_MAX ? reallocarray(c->settings, c->nsettings + 1, sizeof(*list)) : NULL;
    char *name = strndup(text, name_len);
    if (list) {
        c->settings = list;
    }
    if (!list || !name) {
        free(name);
        return err_set(err, -ENOMEM, "too many choices in the configuration");
    }
    c->settings[c->nsettings++] = (struct fuzz_setting){name, value};
    return 0;
}

/* What QEMU's fuzzer called a part. */
static const char *part_name(const struct fuzz_format *format, const char *name)
{
    for (const struct fuzz_alias *a = format ? format->aliases : NULL; a && a->alias; a++) {
        if (strcmp(a->alias, name) == 0) {
            return a->name;
        }
    }
    return name;
}

/* ["header"] and ["l2_tables", "l2_entry"]: every field of a part, or those of one name. */
static int add_pair(struct fuzz_config *c, const struct fuzz_format *format, const json_t *pair,
                    struct err *err)
{
    const char *part = json_string_value(json_array_get(pair, 0));
    const char *field = json_string_value(json_array_get(pair, 1));
    char glob[FUZZ_PATH_MAX];

    if (!part || json_array_size(pair) > 2 || (json_array_size(pair) == 2 && !field)) {
        return err_set(err, -EINVAL, "configuration: expected [[\"PART\"], [\"PART\", \"FIELD\"], ...]");
    }
    part = part_name(format, part);
    if (!field) { /* raw bytes have no fields: their path is the name */
        snprintf(glob, sizeof(glob), "%s", part);
        int r = add_glob(c, glob, err);
        if (r < 0) {
            return r;
        }
    }
    snprintf(glob, sizeof(glob), field ? "%s.*%s" : "%s.*", part, part_name(format, field ? field : ""));
    return add_glob(c, glob, err);
}

static int add_array(struct fuzz_config *c, const struct fuzz_format *format, const char *text,
                     struct err *err)
{
    json_error_t where;
    AUTO_JSON json_t *list = json_loads(text, 0, &where);
    size_t i;
    json_t *pair;

    if (!json_is_array(list)) {
        return err_set(err, -EINVAL, "configuration: not a JSON array: %s", where.text);
    }
    if (json_array_size(list) == 0) {
        c->valid = true; /* nothing is listed: nothing becomes hostile */
        return 0;
    }
    json_array_foreach(list, i, pair)
    {
        int r = json_is_string(pair) ? fuzz_config_add(c, format, json_string_value(pair), err)
                                     : add_pair(c, format, pair, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int fuzz_config_add(struct fuzz_config *c, const struct fuzz_format *format, const char *text,
                    struct err *err)
{
    const char *equals = strchr(text, '=');

    if (*text == '[') {
        return add_array(c, format, text, err);
    }
    if (*text == '\0') {
        return err_set(err, -EINVAL, "configuration: an empty path");
    }
    return equals ? add_setting(c, text, (size_t)(equals - text), err) : add_glob(c, text, err);
}

int fuzz_config_bias(struct fuzz_config *c, const char *text, struct err *err)
{
    char *end;

    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    bool percent = strcmp(end, "%") == 0;
    if (errno || end == text || *text == '-' || n == 0 || (percent ? n > 100 : *end || n > 1000)) {
        return err_set(err, -EINVAL,
                       "bias '%s': expected a number of fields (1 to 1000), or a share (1%% to 100%%)", text);
    }
    c->fields = percent ? c->fields : (unsigned)n;
    c->percent = percent ? (unsigned)n : 0;
    return 0;
}

/* ---- as JSON ---- */

void fuzz_config_text(const struct fuzz_config *c, struct text *t)
{
    text_open(t, '{');
    text_key(t, "valid");
    text_plain(t, c->valid ? "true" : "false");
    text_key(t, "fields");
    text_number(t, c->fields);
    text_key(t, "percent");
    text_number(t, c->percent);
    text_key(t, "recipes");
    text_number(t, c->recipes);
    text_key(t, "limit");
    text_number(t, c->limit);
    if (c->recipe) {
        text_key(t, "recipe");
        text_string(t, c->recipe);
    }
    if (c->decoy) {
        text_key(t, "decoy");
        text_string(t, c->decoy);
    }
    text_key(t, "paths");
    text_open(t, '[');
    for (size_t i = 0; i < c->nglobs; i++) {
        text_string(t, c->globs[i]);
    }
    text_close(t, ']');
    text_key(t, "set");
    text_open(t, '{');
    for (size_t i = 0; i < c->nsettings; i++) {
        text_key(t, c->settings[i].name);
        text_number(t, c->settings[i].value);
    }
    text_close(t, '}');
    text_close(t, '}');
}

json_t *fuzz_config_json(const struct fuzz_config *c)
{
    struct text t = {0};

    fuzz_config_text(c, &t);
    json_t *j = t.failed ? NULL : json_loadb(t.p, t.used, 0, NULL);
    free(t.p);
    return j;
}

static int take_number(const json_t *j, const char *name, uint64_t max, uint64_t *value, struct err *err)
{
    const json_t *v = json_object_get(j, name);

    if (!v) {
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max) {
        return err_set(err, -EINVAL, "configuration: '%s' is not a number from 0 to %" PRIu64, name, max);
    }
    *value = (uint64_t)json_integer_value(v);
    return 0;
}

static int take_text(const json_t *j, const char *name, char **text, struct err *err)
{
    const char *s = json_string_value(json_object_get(j, name));

    if (s) {
        free(*text);
        *text = strdup(s);
    }
    return s && !*text ? err_set(err, -ENOMEM, "no memory for a configuration") : 0;
}

static int take_lists(struct fuzz_config *c, const json_t *j, struct err *err)
{
    json_t *v, *set = json_object_get(j, "set");
    const char *name;
    size_t i;

    json_array_foreach(json_object_get(j, "paths"), i, v)
    {
        int r = json_is_string(v) ? add_glob(c, json_string_value(v), err)
                                  : err_set(err, -EINVAL, "configuration: a path that is no text");
        if (r < 0) {
            return r;
        }
    }
    json_object_foreach(set, name, v)
    {
        char text[FUZZ_PATH_MAX + 32];
        snprintf(text, sizeof(text), "%.*s=%lld", FUZZ_PATH_MAX, name, (long long)json_integer_value(v));
        int r = add_setting(c, text, MIN(strlen(name), (size_t)FUZZ_PATH_MAX), err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int fuzz_config_from_json(struct fuzz_config *c, const json_t *j, struct err *err)
{
    uint64_t fields = c->fields, percent = c->percent, recipes = c->recipes, limit = c->limit;
    const json_t *valid = json_object_get(j, "valid");
    int r;

    if ((r = take_number(j, "fields", 1000, &fields, err)) < 0 ||
        (r = take_number(j, "percent", 100, &percent, err)) < 0 ||
        (r = take_number(j, "recipes", 100, &recipes, err)) < 0 ||
        (r = take_number(j, "limit", FUZZ_LIMIT_MAX, &limit, err)) < 0 ||
        (r = take_text(j, "recipe", &c->recipe, err)) < 0 ||
        (r = take_text(j, "decoy", &c->decoy, err)) < 0) {
        return r;
    }
    if (limit < FUZZ_LIMIT_MIN) {
        return err_set(err, -EINVAL, "configuration: 'limit' is less than %" PRIu64, FUZZ_LIMIT_MIN);
    }
    c->valid = valid ? json_is_true(valid) : c->valid;
    c->fields = (unsigned)fields;
    c->percent = (unsigned)percent;
    c->recipes = (unsigned)recipes;
    c->limit = limit;
    return take_lists(c, j, err);
}
