/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From {"preset": NAME, "params": {...}} to rules. Whatever else such an object has is put into all its rules
 * (but those that see no requests): ranges, say, or a time-scale; "id" is what their ids begin with.
 */
#include "drivers/fault/preset.h"

#include <stdio.h>

#include "base/json.h"
#include "block/driver.h"

static const struct fault_preset *find(const char *name)
{
    for (const struct fault_preset *p = fault_presets; p->name; p++) {
        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

/* Their values, those that are given in place of the defaults; the caller's. */
static json_t *take_params(const struct fault_preset *p, const json_t *given, struct err *err)
{
    json_t *values = json_object(), *v;
    const char *key;

    for (int i = 0; i < PRESET_PARAMS_MAX && p->params[i].name; i++) {
        json_object_set_new(values, p->params[i].name, json_loads(p->params[i].def, JSON_DECODE_ANY, NULL));
    }
    json_object_foreach((json_t *)(uintptr_t)given, key, v)
    {
        if (!json_object_get(values, key)) {
            err_set(err, -EINVAL, "the preset %s has no parameter '%.60s'", p->name, key);
            json_decref(values);
            return NULL;
        }
        json_object_set(values, key, v);
    }
    return values;
}

static void fill_in(json_t *rule, const json_t *values)
{
    const char *key, *text;
    json_t *v;
    void *tmp;

    json_object_foreach_safe(rule, tmp, key, v)
    {
        text = json_string_value(v);
        if (json_is_object(v)) {
            fill_in(v, values);
        } else if (text && *text == '$') {
            assert(json_object_get(values, text + 1));
            json_object_set(rule, key, json_object_get(values, text + 1));
        }
    }
}

static void name_rule(json_t *rule, const char *id, const json_t *tag)
{
    const char *own = json_string_value(json_object_get(rule, "id"));
    json_t *name = own ? json_sprintf("%s-%s", id, own) : json_string(id);

    json_object_set_new(rule, "id", name);
    if (tag) {
        json_object_set(rule, "tag", (json_t *)(uintptr_t)tag);
    } else {
        json_object_set_new(rule, "tag", json_string(id));
    }
}

static void merge(json_t *rule, const json_t *given)
{
    static const char *const own[] = {"preset", "params", "id", "tag"};
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)given, key, v)
    {
        bool skip = json_object_get(rule, "timer") && strcmp(key, "time-scale") != 0;
        for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
            skip |= strcmp(key, own[i]) == 0;
        }
        if (!skip) {
            json_object_set(rule, key, v);
        }
    }
}

static int check_form(const json_t *given, struct err *err)
{
    const json_t *params = json_object_get(given, "params"), *id = json_object_get(given, "id");

    if (!json_is_string(json_object_get(given, "preset"))) {
        return err_set(err, -EINVAL, "preset: expected a name");
    }
    if (params && !json_is_object(params)) {
        return err_set(err, -EINVAL, "params: expected an object: {...}");
    }
    return id && !json_is_string(id) ? err_set(err, -EINVAL, "id: expected a string") : 0;
}

static int preset_rules(const json_t *given, json_t **ret_rules, struct err *err)
{
    int r = check_form(given, err);
    if (r < 0) {
        return r;
    }
    const char *name = json_string_value(json_object_get(given, "preset"));
    const struct fault_preset *p = find(name);
    if (!p) {
        return err_set(err, -EINVAL, "there is no preset '%.60s' ('blkproof fault presets' lists them)",
                       name);
    }
    AUTO_JSON json_t *values = take_params(p, json_object_get(given, "params"), err);
    AUTO_JSON json_t *rules = values ? json_loads(p->rules, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!rules) {
        return values ? err_set(err, -ENOMEM, "no memory for a preset") : -EINVAL;
    }
    const char *id = json_string_value(json_object_get(given, "id"));
    json_t *rule;
    size_t i;
    json_array_foreach(rules, i, rule)
    {
        fill_in(rule, values);
        merge(rule, given);
        name_rule(rule, id ? id : p->name, json_object_get(given, "tag"));
    }
    *ret_rules = TAKE_PTR(rules);
    return 0;
}

int fault_presets_expand(const json_t *rules, json_t **ret, struct err *err)
{
    AUTO_JSON json_t *out = json_array();
    size_t n = json_is_array(rules) ? json_array_size(rules) : 1;

    for (size_t i = 0; i < n; i++) {
        json_t *one = json_is_array(rules) ? json_array_get(rules, i) : (json_t *)(uintptr_t)rules;
        AUTO_JSON json_t *many = NULL;
        bool preset = json_object_get(one, "preset") != NULL;
        int r = preset ? preset_rules(one, &many, err) : 0;
        if (r < 0 && n > 1) {
            err_prefix(err, "rule %zu: ", i + 1);
        }
        if (r < 0) {
            return r;
        }
        if ((preset ? json_array_extend(out, many) : json_array_append(out, one)) < 0) {
            return err_set(err, -ENOMEM, "no memory for the rules");
        }
    }
    *ret = TAKE_PTR(out);
    return 0;
}

json_t *fault_presets_json(void)
{
    json_t *out = json_array();

    for (const struct fault_preset *p = fault_presets; p->name; p++) {
        json_t *params = json_array();
        for (int i = 0; i < PRESET_PARAMS_MAX && p->params[i].name; i++) {
            json_array_append_new(params, json_pack("{s:s, s:o, s:s}", "name", p->params[i].name, "default",
                                                    json_loads(p->params[i].def, JSON_DECODE_ANY, NULL),
                                                    "help", p->params[i].help));
        }
        json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:b, s:o, s:o}", "name", p->name, "help",
                                             p->help, "source", p->source, "verified", (int)p->verified,
                                             "params", params, "rules", json_loads(p->rules, 0, NULL)));
    }
    return out;
}
