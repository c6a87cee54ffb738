/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON glue; see json.h. */
#include "base/json.h"

#include <stdio.h>

/* Nesting of the text's brackets, outside strings: refuse before jansson recurses. */
static bool too_deep(const char *text)
{
    int depth = 0;
    bool in_string = false;

    for (const char *p = text; *p; p++) {
        if (in_string) {
            if (*p == '\\' && p[1]) {
                p++;
            } else if (*p == '"') {
                in_string = false;
            }
        } else if (*p == '"') {
            in_string = true;
        } else if (*p == '{' || *p == '[') {
            if (++depth > JSON_DEPTH_MAX) {
                return true;
            }
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
    }
    return false;
}

/* QEMU's dialect to JSON: strings may stand in single quotes, and \' is a quote in any string.
 * Never more than twice as long. */
static void to_json(const char *p, char *out)
{
    char quote = 0; /* of the string we are in */

    for (; *p; p++) {
        if (quote && *p == '\\' && p[1] == '\'') {
            *out++ = *++p;
        } else if (quote && *p == '\\' && p[1]) {
            *out++ = *p++;
            *out++ = *p;
        } else if (quote == '\'' && *p == '"') {
            *out++ = '\\';
            *out++ = '"';
        } else if (*p == quote || (!quote && (*p == '"' || *p == '\''))) {
            quote = quote ? 0 : *p;
            *out++ = '"';
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
}

int json_parse_object(const char *given, json_t **ret_object, struct err *err)
{
    json_error_t e;

    if (strlen(given) > JSON_TEXT_MAX) {
        return err_set(err, -EINVAL, "JSON text is longer than %u bytes", (unsigned)JSON_TEXT_MAX);
    }
    AUTO_FREE char *text = malloc(2 * strlen(given) + 1);
    if (!text) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    to_json(given, text);
    if (too_deep(text)) {
        return err_set(err, -EINVAL, "JSON text is nested more than %d deep", JSON_DEPTH_MAX);
    }
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!j) {
        return err_set(err, -EINVAL, "JSON parse error at column %d: %s", e.column, e.text);
    }
    if (!json_is_object(j)) {
        json_decref(j);
        return err_set(err, -EINVAL, "JSON text is not an object: expected {...}");
    }
    *ret_object = j;
    return 0;
}

/* Copy up to a single @stop or comma, ",," meaning a comma; returns where it stopped. */
static const char *take_word(const char *p, char stop, char *out)
{
    while (*p && *p != stop) {
        if (*p == ',') {
            if (p[1] != ',') {
                break;
            }
            p++;
        }
        *out++ = *p++;
    }
    *out = '\0';
    return p;
}

int json_from_keyvals(const char *text, const char *implied, json_t **ret_object, struct err *err)
{
    AUTO_JSON json_t *object = json_object();
    AUTO_FREE char *word = malloc(strlen(text) + sizeof("on"));
    const char *p = text;

    if (!object || !word) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    while (*p) {
        AUTO_FREE char *key = NULL;
        const char *end = take_word(p, '=', word);
        if (*end == '=') {
            key = strdup(word);
            end = take_word(end + 1, '\0', word);
        } else if (p == text && implied) {
            key = strdup(implied);
        } else { /* "flag" means flag=on */
            key = strdup(word);
            strcpy(word, "on");
            if (!key || !*key || end == p) {
                return err_set(err, -EINVAL, "'%s': expected key=value pairs separated by commas", text);
            }
        }
        if (!key) {
            return err_set(err, -ENOMEM, "no memory for options");
        }
        if (!*key) {
            return err_set(err, -EINVAL, "'%s': an option name is empty", text);
        }
        json_t *value = json_string(word);
        if (!value) {
            return err_set(err, -EINVAL, "option '%s': the value is not UTF-8", key);
        }
        if (json_object_set_new(object, key, value) < 0) {
            return err_set(err, -EINVAL, "option name '%s' is not UTF-8", key);
        }
        p = *end ? end + 1 : end;
    }
    *ret_object = TAKE_PTR(object);
    return 0;
}

/* The member of @parent for one step of a dotted name, made if absent. */
static json_t *child_object(json_t *parent, const char *name)
{
    json_t *child = json_object_get(parent, name);

    if (!child) {
        child = json_object();
        if (!child || json_object_set_new(parent, name, child) < 0) {
            return NULL;
        }
    }
    return json_is_object(child) ? child : NULL;
}

static int put_nested(json_t *out, const char *name, json_t *value, struct err *err);

static int merge_into(json_t *target, json_t *source, struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(source, key, value)
    {
        int r = put_nested(target, key, value, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int put_nested(json_t *out, const char *name, json_t *value, struct err *err)
{
    AUTO_FREE char *path = strdup(name);
    if (!path) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    char *step = path, *dot;
    int depth = 0;

    while ((dot = strchr(step, '.'))) {
        *dot = '\0';
        out = ++depth < JSON_DEPTH_MAX ? child_object(out, step) : NULL;
        if (!out) {
            return err_set(err, -EINVAL, "option '%s': '%s' is given both as a value and as a group", name,
                           step);
        }
        step = dot + 1;
    }
    if (json_is_object(value)) {
        out = child_object(out, step);
        return out ? merge_into(out, value, err)
                   : err_set(err, -EINVAL, "option '%s' is given both as a value and as a group", name);
    }
    if (json_object_get(out, step)) {
        return err_set(err, -EINVAL, "option '%s' is given twice", name);
    }
    return json_object_set(out, step, value) < 0 ? err_set(err, -ENOMEM, "no memory for options") : 0;
}

/* An object whose keys are 0..n-1 becomes an array; children first. NULL: no memory. */
static json_t *listify(json_t *object)
{
    const char *key;
    void *tmp;
    json_t *value;
    size_t n = json_object_size(object), i = 0;

    json_object_foreach_safe(object, tmp, key, value)
    {
        if (json_is_object(value)) {
            json_t *converted = listify(value);
            if (!converted || json_object_set_new(object, key, converted) < 0) {
                return NULL;
            }
        }
    }
    char name[24];
    for (i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%zu", i);
        if (!json_object_get(object, name)) {
            break;
        }
    }
    if (n == 0 || i < n) {
        return json_incref(object);
    }
    json_t *array = json_array();
    for (i = 0; array && i < n; i++) {
        snprintf(name, sizeof(name), "%zu", i);
        json_array_append(array, json_object_get(object, name));
    }
    return array;
}

int json_nest(json_t *object, json_t **ret_nested, struct err *err)
{
    AUTO_JSON json_t *out = json_object();

    if (!out) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    int r = merge_into(out, object, err);
    if (r < 0) {
        return r;
    }
    json_t *nested = listify(out);
    if (!nested) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    if (!json_is_object(nested)) {
        json_decref(nested);
        return err_set(err, -EINVAL, "options may not be a list");
    }
    *ret_nested = nested;
    return 0;
}

char *json_text(const json_t *j)
{
    return json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
}
