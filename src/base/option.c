/* SPDX-License-Identifier: BSD-2-Clause */
/* Option tables; see option.h. */
#include "base/option.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "base/size.h"

static int parse_bool(const char *s, bool *ret)
{
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no", "false", "n"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
            *ret = strcmp(s, yes[i]) == 0;
            return 0;
        }
    }
    return -EINVAL;
}

static int set_bool(const struct option *o, void *place, json_t *v, struct err *err)
{
    bool b;

    if (json_is_boolean(v)) {
        b = json_is_true(v);
    } else if (!json_is_string(v) || parse_bool(json_string_value(v), &b) < 0) {
        return err_set(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", o->name);
    }
    *(bool *)place = b;
    return 0;
}

static int check_range(const struct option *o, uint64_t v, struct err *err)
{
    if (v < o->min || (o->max && v > o->max)) {
        if (!o->max) {
            return err_set(err, -EINVAL, "option '%s': %" PRIu64 " is too small: at least %" PRIu64, o->name,
                           v, o->min);
        }
        return err_set(err, -EINVAL, "option '%s': %" PRIu64 " is out of range %" PRIu64 " to %" PRIu64,
                       o->name, v, o->min, o->max);
    }
    return 0;
}

static int parse_uint(const char *s, uint64_t *ret)
{
    char *end;

    if (*s < '0' || *s > '9') {
        return -EINVAL;
    }
    errno = 0;
    *ret = strtoull(s, &end, 0);
    return *end ? -EINVAL : errno == ERANGE ? -ERANGE : 0;
}

static int set_number(const struct option *o, void *place, json_t *j, struct err *err)
{
    static const char *const expected[] = {
        [OPT_UINT] = "a number", [OPT_SIZE] = "a size", [OPT_NS] = "a time such as 500ms or 2s"};
    uint64_t v = 0;
    int r = -EINVAL;

    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        v = (uint64_t)json_integer_value(j);
        r = o->type == OPT_NS && __builtin_mul_overflow(v, NS_PER_SEC, &v) ? -ERANGE : 0;
    } else if (json_is_string(j)) {
        const char *s = json_string_value(j);
        r = o->type == OPT_UINT   ? parse_uint(s, &v)
            : o->type == OPT_SIZE ? size_parse(s, &v)
                                  : duration_parse(s, &v);
    }
    if (r < 0) {
        AUTO_FREE char *text = json_text(j);
        return err_set(err, r, "Parameter '%s' expects %s%s, not %.100s", o->name, expected[o->type],
                       r == -ERANGE ? " that is not so large" : "", text ? text : "?");
    }
    r = check_range(o, v, err);
    if (r == 0) {
        *(uint64_t *)place = v;
    }
    return r;
}

static int set_string(const struct option *o, void *place, json_t *v, struct err *err)
{
    char text[24];
    const char *s = json_string_value(v);

    if (json_is_integer(v)) { /* "port": 10809 */
        snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
        s = text;
    }
    if (!s) {
        return err_set(err, -EINVAL, "Invalid parameter type for '%s', expected: string", o->name);
    }
    char *copy = strdup(s);
    if (!copy) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    free(*(char **)place);
    *(char **)place = copy;
    return 0;
}

static int set_enum(const struct option *o, void *place, json_t *v, struct err *err)
{
    const char *s = json_is_boolean(v) ? (json_is_true(v) ? "on" : "off") : json_string_value(v);
    char list[256] = "";
    size_t used = 0;

    for (int i = 0; o->values[i]; i++) {
        if (s && strcmp(s, o->values[i]) == 0) {
            *(int *)place = i;
            return 0;
        }
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", o->values[i]);
        used = MIN(used, sizeof(list) - 1);
    }
    return err_set(err, -EINVAL, "Parameter '%s' does not accept value '%s': expected %s", o->name,
                   s ? s : "?", list);
}

int option_set(const struct option *o, void *state, json_t *value, struct err *err)
{
    void *place = (char *)state + o->offset;

    switch (o->type) {
    case OPT_BOOL:
        return set_bool(o, place, value, err);
    case OPT_UINT:
    case OPT_SIZE:
    case OPT_NS:
        return set_number(o, place, value, err);
    case OPT_STRING:
        return set_string(o, place, value, err);
    case OPT_ENUM:
        return set_enum(o, place, value, err);
    case OPT_JSON:
        json_decref(*(json_t **)place);
        *(json_t **)place = json_incref(value);
        return 0;
    case OPT_END:
        break;
    }
    return err_set(err, -EINVAL, "option '%s' has no type", o->name);
}

/* Find "a.b" either as a member "a.b" or in the object "a"; removes it and hands it over. */
static json_t *take_member(json_t *object, const char *name)
{
    json_t *v = json_object_get(object, name);

    if (v) {
        json_incref(v);
        json_object_del(object, name);
        return v;
    }
    const char *dot = strchr(name, '.');
    if (!dot) {
        return NULL;
    }
    char head[64];
    snprintf(head, sizeof(head), "%.*s", (int)(dot - name), name);
    json_t *inner = json_object_get(object, head);
    if (!json_is_object(inner)) {
        return NULL;
    }
    v = take_member(inner, dot + 1);
    if (json_object_size(inner) == 0) {
        json_object_del(object, head);
    }
    return v;
}

int options_apply(const struct option *table, void *state, json_t *options, struct err *err)
{
    for (const struct option *o = table; o && o->type != OPT_END; o++) {
        AUTO_JSON json_t *v = take_member(options, o->name);
        if (!v && o->required) {
            return err_set(err, -EINVAL, "Parameter '%s' is missing", o->name);
        }
        if (!v && o->def && !(v = json_string(o->def))) {
            return err_set(err, -ENOMEM, "no memory for options");
        }
        int r = v ? option_set(o, state, v, err) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

const struct option *option_find(const struct option *table, const char *name)
{
    for (const struct option *o = table; o && o->type != OPT_END; o++) {
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

void options_free(const struct option *table, void *state)
{
    for (const struct option *o = table; o && o->type != OPT_END; o++) {
        void **place = (void **)((char *)state + o->offset);
        if (o->type == OPT_STRING) {
            free(TAKE_PTR(*place));
        } else if (o->type == OPT_JSON) {
            json_decref(TAKE_PTR(*(json_t **)place));
        }
    }
}
