/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options to a rule. What members there are, and of what kind, the engine's table says; the server looks at
 * the values, so that all it says about a rule it says once.
 */
#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "tools/fault/fault.h"

static bool find_doc(const char *name, struct fault_member_doc *ret)
{
    for (unsigned i = 0; fault_member_doc(i, ret); i++) {
        if (strcmp(ret->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static json_t *number_or_text(const char *value)
{
    char *end;

    errno = 0;
    long long number = strtoll(value, &end, 0);
    return *value && !*end && errno == 0 ? json_integer(number) : json_string(value);
}

/* The second --range makes a list. */
static int put_more(json_t *rule, const char *name, json_t *value)
{
    json_t *now = json_object_get(rule, name);

    if (json_is_array(now)) {
        return json_array_append_new(now, value);
    }
    return json_object_set_new(rule, name, now ? json_pack("[O, o]", now, value) : value);
}

int fault_rule_put(json_t *rule, const char *name, const char *value, struct err *err)
{
    struct fault_member_doc doc;
    json_t *v;

    if (!find_doc(name, &doc)) {
        return err_set(err, -EINVAL, "a rule has no '%s'", name);
    }
    if (strcmp(doc.type, "boolean") == 0) {
        bool on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0;
        if (!on && strcmp(value, "off") != 0 && strcmp(value, "false") != 0) {
            return err_set(err, -EINVAL, "--%s=%s: expected on or off", name, value);
        }
        v = json_boolean(on);
    } else {
        v = strcmp(doc.type, "integer") == 0 || strcmp(name, "errno") == 0 ? number_or_text(value)
                                                                           : json_string(value);
    }
    if (!v) {
        return err_set(err, -EINVAL, "--%s: the value is not UTF-8", name);
    }
    bool list = strcmp(name, "ranges") == 0 || strcmp(name, "sectors") == 0 || strcmp(name, "op") == 0;
    int r = list ? put_more(rule, name, v) : json_object_set_new(rule, name, v);
    return r < 0 ? err_set(err, -ENOMEM, "no memory for a rule") : 0;
}

int fault_rule_put_preset(json_t *rule, const char *name, struct err *err)
{
    return json_object_set_new(rule, "preset", json_string(name)) < 0
               ? err_set(err, -EINVAL, "--preset: the name is not UTF-8")
               : 0;
}

int fault_rule_put_param(json_t *rule, const char *text, struct err *err)
{
    const char *equals = strchr(text, '=');
    json_t *params = json_object_get(rule, "params");

    if (!equals || equals == text) {
        return err_set(err, -EINVAL, "--param=%s: expected NAME=VALUE", text);
    }
    AUTO_FREE char *name = strndup(text, (size_t)(equals - text));
    if (!params) {
        json_object_set_new(rule, "params", params = json_object());
    }
    return !name || json_object_set_new(params, name, number_or_text(equals + 1)) < 0
               ? err_set(err, -EINVAL, "--param=%s: not UTF-8", text)
               : 0;
}

void fault_rule_put_op(json_t *rule, const char *op)
{
    put_more(rule, "op", json_string(op));
}

/* The one to which a member belongs that belongs to one only. */
void fault_rule_finish(json_t *rule)
{
    struct fault_member_doc doc;
    const char *action = "error";

    for (unsigned i = 0; fault_member_doc(i, &doc); i++) {
        bool one =
            strcmp(doc.role, "rule") != 0 && strcmp(doc.role, "selector") != 0 && !strchr(doc.role, ',');
        action = one && json_object_get(rule, doc.name) ? doc.role : action;
    }
    if (!json_object_get(rule, "action") && !json_object_get(rule, "preset")) {
        json_object_set_new(rule, "action", json_string(action));
    }
}
