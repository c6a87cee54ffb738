/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * query-qmp-schema: the tables in the form of QEMU's SchemaInfo. Types go by their names. The options of
 * a node are one object with a variant for each driver, made from the drivers' own tables.
 */
#include <stdio.h>

#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "qmp/schema.h"

#define NAME_LEN 96

struct out {
    json_t *array;
    json_t *known; /* names that are in the array */
};

static void put_object(struct out *o, const char *name, const struct qmp_member *members);

/* True if the caller is to describe @name. */
static bool is_new(struct out *o, const char *name)
{
    if (json_object_get(o->known, name)) {
        return false;
    }
    json_object_set_new(o->known, name, json_true());
    return true;
}

static void put_builtins(struct out *o)
{
    static const char *const builtins[][2] = {{"str", "string"},   {"int", "int"},   {"number", "number"},
                                              {"bool", "boolean"}, {"any", "value"}, {"null", "null"}};

    for (size_t i = 0; i < ARRAY_SIZE(builtins); i++) {
        json_array_append_new(o->array, json_pack("{s:s, s:s, s:s}", "name", builtins[i][0], "meta-type",
                                                  "builtin", "json-type", builtins[i][1]));
    }
}

static void put_enum(struct out *o, const char *name, const char *const *values)
{
    json_t *members = json_array(), *words = json_array();

    for (size_t i = 0; values[i]; i++) {
        json_array_append_new(members, json_pack("{s:s}", "name", values[i]));
        json_array_append_new(words, json_string(values[i]));
    }
    json_array_append_new(o->array, json_pack("{s:s, s:s, s:o, s:o}", "name", name, "meta-type", "enum",
                                              "members", members, "values", words));
}

static void put_alternate(struct out *o, const char *name, const char *one, const char *other)
{
    json_array_append_new(o->array, json_pack("{s:s, s:s, s:[{s:s}, {s:s}]}", "name", name, "meta-type",
                                              "alternate", "members", "type", one, "type", other));
}

static json_t *member_info(const char *name, const char *type, bool optional)
{
    json_t *info = json_pack("{s:s, s:s}", "name", name, "type", type);

    if (optional) {
        json_object_set_new(info, "default", json_null());
    }
    return info;
}

/* ---- nodes ---- */

static const char *option_type(struct out *o, const struct driver *d, const struct option *opt,
                               char name[NAME_LEN])
{
    switch (opt->type) {
    case OPT_BOOL:
        return "bool";
    case OPT_UINT:
        return "int";
    case OPT_SIZE:
    case OPT_NS:
        if (is_new(o, "Quantity")) { /* bytes or seconds, or with a unit behind it */
            put_alternate(o, "Quantity", "int", "str");
        }
        return "Quantity";
    case OPT_ENUM:
        snprintf(name, NAME_LEN, "%s-%s", d->name, opt->name);
        if (is_new(o, name)) {
            put_enum(o, name, opt->values);
        }
        return name;
    case OPT_JSON:
        return "any";
    default:
        return "str";
    }
}

static void put_driver(struct out *o, const struct driver *d, json_t *variants)
{
    char name[NAME_LEN], buf[NAME_LEN];
    json_t *members = json_array();

    for (const struct child_def *c = d->children; c && c->name; c++) {
        json_array_append_new(members, member_info(c->name, "BlockdevRef", !c->required));
    }
    for (const struct option *opt = d->options; opt && opt->type != OPT_END; opt++) {
        json_array_append_new(members, member_info(opt->name, option_type(o, d, opt, buf), !opt->required));
    }
    snprintf(name, sizeof(name), "BlockdevOptions-%s", d->name);
    json_array_append_new(variants, json_pack("{s:s, s:s}", "case", d->name, "type", name));
    json_array_append_new(
        o->array, json_pack("{s:s, s:s, s:o}", "name", name, "meta-type", "object", "members", members));
}

static void put_options(struct out *o)
{
    const char *names[64]; /* the drivers; there are far fewer */
    json_t *variants = json_array();
    size_t n = 0;

    for (; drivers[n] && n + 1 < ARRAY_SIZE(names); n++) {
        names[n] = drivers[n]->name;
        put_driver(o, drivers[n], variants);
    }
    names[n] = NULL;
    put_enum(o, "BlockdevDriver", names);
    put_alternate(o, "BlockdevRef", "BlockdevOptions", "str");
    json_array_append_new(
        o->array, json_pack("{s:s, s:s, s:[o, o, o, o, o], s:s, s:o}", "name", "BlockdevOptions", "meta-type",
                            "object", "members", member_info("driver", "BlockdevDriver", false),
                            member_info("node-name", "str", true), member_info("read-only", "bool", true),
                            member_info("discard", "str", true), member_info("cache", "any", true), "tag",
                            "driver", "variants", variants));
}

/* ---- fault rules ---- */

static void put_rule(struct out *o)
{
    json_t *members = json_array();
    struct fault_member_doc doc;

    for (unsigned i = 0; fault_member_doc(i, &doc); i++) {
        const char *type = strcmp(doc.type, "boolean") == 0   ? "bool"
                           : strcmp(doc.type, "integer") == 0 ? "int"
                           : strcmp(doc.type, "string") == 0  ? "str"
                                                              : "any";
        json_array_append_new(members, member_info(doc.name, type, true));
    }
    json_array_append_new(o->array, json_pack("{s:s, s:s, s:o}", "name", "FaultRule", "meta-type", "object",
                                              "members", members));
}

static void put_rules(struct out *o)
{
    if (is_new(o, "FaultRule")) {
        put_rule(o);
    }
    if (is_new(o, "[FaultRule]")) {
        json_array_append_new(o->array, json_pack("{s:s, s:s, s:s}", "name", "[FaultRule]", "meta-type",
                                                  "array", "element-type", "FaultRule"));
    }
    put_alternate(o, "FaultRules", "FaultRule", "[FaultRule]");
}

/* ---- everything else ---- */

static void put_type(struct out *o, const struct qmp_type *t)
{
    if (t->kind == QMP_OBJECT) {
        put_object(o, t->name, t->members);
    } else if (t->kind == QMP_ENUM && is_new(o, t->name)) {
        put_enum(o, t->name, t->values);
    } else if (t->kind == QMP_SWITCH && is_new(o, t->name)) {
        put_alternate(o, t->name, "bool", "int");
    } else if (t->kind == QMP_OPTIONS && is_new(o, t->name)) {
        put_options(o);
    } else if (t->kind == QMP_RULE && is_new(o, t->name)) {
        put_rule(o);
    } else if (t->kind == QMP_RULES && is_new(o, t->name)) {
        put_rules(o);
    }
}

/* The name of the type, described if it was not yet. */
static const char *type_name(struct out *o, const struct qmp_type *t, bool array, char name[NAME_LEN])
{
    put_type(o, t);
    if (!array) {
        return t->name;
    }
    snprintf(name, NAME_LEN, "[%s]", t->name);
    if (is_new(o, name)) {
        json_array_append_new(o->array, json_pack("{s:s, s:s, s:s}", "name", name, "meta-type", "array",
                                                  "element-type", t->name));
    }
    return name;
}

static void put_object(struct out *o, const char *name, const struct qmp_member *members)
{
    char buf[NAME_LEN];

    if (!is_new(o, name)) {
        return;
    }
    json_t *list = json_array();
    for (const struct qmp_member *m = members; m && m->name; m++) {
        json_array_append_new(list, member_info(m->name, type_name(o, m->type, m->array, buf), m->optional));
    }
    json_array_append_new(o->array,
                          json_pack("{s:s, s:s, s:o}", "name", name, "meta-type", "object", "members", list));
}

/* A command or an event: its arguments are an object of their own. */
static json_t *entry(struct out *o, const char *name, const char *meta, const struct qmp_member *args,
                     bool options)
{
    char buf[NAME_LEN];
    const char *type = args ? buf : qmp_empty.name;

    if (options) {
        type = qmp_options.name;
        put_type(o, &qmp_options);
    } else {
        snprintf(buf, sizeof(buf), "%s-arg", name);
        put_object(o, type, args);
    }
    return json_pack("{s:s, s:s, s:s}", "name", name, "meta-type", meta, "arg-type", type);
}

json_t *qmp_schema(void)
{
    struct out o = {json_array(), json_object()};
    char buf[NAME_LEN];

    put_builtins(&o);
    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        json_t *info = entry(&o, c->name, "command", c->args, c->flags & QMP_TAKES_OPTIONS);
        json_object_set_new(info, "ret-type", json_string(type_name(&o, c->returns, c->returns_array, buf)));
        if (c->flags & QMP_OOB) {
            json_object_set_new(info, "allow-oob", json_true());
        }
        json_array_append_new(o.array, info);
    }
    for (const struct qmp_event *e = qmp_events; e->name; e++) {
        json_array_append_new(o.array, entry(&o, e->name, "event", e->members, false));
    }
    json_decref(o.known);
    return o.array;
}
