/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding things in the tables, and holding what clients send against them; see schema.h. */
#include "qmp/schema.h"

#include <stdio.h>

#define PATH_MAX_LEN 256 /* of a member's full name in a sentence: longer is cut */

const struct qmp_type qmp_str = {"str", QMP_STR}, qmp_int = {"int", QMP_INT},
                      qmp_number = {"number", QMP_NUMBER}, qmp_bool = {"bool", QMP_BOOL},
                      qmp_switch = {"Switch", QMP_SWITCH}, qmp_any = {"any", QMP_ANY},
                      qmp_options = {"BlockdevOptions", QMP_OPTIONS}, qmp_empty = {"Empty", QMP_OBJECT};

const struct qmp_command *qmp_command_find(const char *name)
{
    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

const struct qmp_event *qmp_event_find(const char *name)
{
    for (const struct qmp_event *e = qmp_events; e->name; e++) {
        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

/* ---- checking ---- */

static int wrong_type(const char *name, const char *expected, struct err *err)
{
    return err_set(err, -EINVAL, "Invalid parameter type for '%s', expected: %s", name, expected);
}

static bool is_switch(const json_t *v)
{
    return json_is_boolean(v) ||
           (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1));
}

static int check_enum(const struct qmp_type *t, const json_t *v, const char *name, struct err *err)
{
    const char *word = json_string_value(v);

    if (!word) {
        return wrong_type(name, "string", err);
    }
    for (size_t i = 0; t->values[i]; i++) {
        if (strcmp(t->values[i], word) == 0) {
            return 0;
        }
    }
    return err_set(err, -EINVAL, "Parameter '%s' does not accept value '%.100s'", name, word);
}

static int check_value(const struct qmp_type *t, json_t *v, const char *name, struct err *err)
{
    char inner[PATH_MAX_LEN];

    switch (t->kind) {
    case QMP_STR:
        return json_is_string(v) ? 0 : wrong_type(name, "string", err);
    case QMP_INT:
        return json_is_integer(v) ? 0 : wrong_type(name, "integer", err);
    case QMP_NUMBER:
        return json_is_number(v) ? 0 : wrong_type(name, "number", err);
    case QMP_BOOL:
        return json_is_boolean(v) ? 0 : wrong_type(name, "boolean", err);
    case QMP_SWITCH:
        return is_switch(v) ? 0 : wrong_type(name, "boolean", err);
    case QMP_ANY:
        return 0;
    case QMP_ENUM:
        return check_enum(t, v, name, err);
    case QMP_RULES:
        return json_is_object(v) || json_is_array(v) ? 0 : wrong_type(name, "array", err);
    case QMP_OPTIONS:
    case QMP_RULE:
        return json_is_object(v) ? 0 : wrong_type(name, "object", err);
    case QMP_OBJECT:
        if (!json_is_object(v)) {
            return wrong_type(name, "object", err);
        }
        snprintf(inner, sizeof(inner), "%.200s.", name);
        return qmp_check(t->members, v, inner, err);
    }
    return 0;
}

static int check_member(const struct qmp_member *m, json_t *v, const char *name, struct err *err)
{
    json_t *element;
    size_t i;

    if (!m->array) {
        return check_value(m->type, v, name, err);
    }
    if (!json_is_array(v)) {
        return wrong_type(name, "array", err);
    }
    json_array_foreach(v, i, element)
    {
        char inner[PATH_MAX_LEN];
        snprintf(inner, sizeof(inner), "%.200s[%zu]", name, i);
        int r = check_value(m->type, element, inner, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool is_member(const struct qmp_member *members, const char *name)
{
    for (const struct qmp_member *m = members; m && m->name; m++) {
        if (strcmp(m->name, name) == 0) {
            return true;
        }
    }
    return false;
}

int qmp_check(const struct qmp_member *members, json_t *object, const char *path, struct err *err)
{
    const char *key;
    json_t *v;

    for (const struct qmp_member *m = members; m && m->name; m++) {
        char name[PATH_MAX_LEN];
        snprintf(name, sizeof(name), "%s%s", path, m->name);
        v = json_object_get(object, m->name);
        if (!v && !m->optional) {
            return err_set(err, -EINVAL, "Parameter '%s' is missing", name);
        }
        int r = v ? check_member(m, v, name, err) : 0;
        if (r < 0) {
            return r;
        }
    }
    json_object_foreach(object, key, v)
    {
        if (!is_member(members, key)) {
            return err_set(err, -EINVAL, "Parameter '%s%.100s' is unexpected", path, key);
        }
    }
    return 0;
}
