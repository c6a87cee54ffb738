/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkdebug-set-rules as a patch for QEMU proposed it in August 2014 (never merged), with its words for what
 * is wrong. Beyond it: a node name instead of a device, any number of rules, 0 and 1 for booleans,
 * iotype, mode replace, an unknown event is an error; and clearing and looking.
 */
#include "base/json.h"
#include "qmp/cmd_fault.h"

/* The patch looked at the node below the device, and nowhere else; ours may lie deeper. */
static struct node *blkdebug_target(struct qmp_call *call)
{
    const char *device = qmp_arg_str(call, "device"), *name = qmp_arg_str(call, "node-name");
    struct node *n = device ? qmp_find_disk(call->server, device) : NULL;

    if (!device && !name) {
        qmp_fail(call, -EINVAL, "Parameter 'device' is missing");
        return NULL;
    }
    if (device && name) {
        qmp_fail(call, -EINVAL, "Parameters 'device' and 'node-name' exclude each other");
        return NULL;
    }
    n = n ? n : qmp_find_node(call->server, device ? device : name);
    if (!n) {
        qmp_fail_class(call, "DeviceNotFound", "Device '%.100s' not found", device ? device : name);
        return NULL;
    }
    struct node *found = fault_find(n);
    if (!found) {
        struct node *below = n->nchildren > 0 ? node_below(n) : n;
        qmp_fail(call, -EINVAL, "BlockDriver (%s) isn't blkdebug", node_driver_name(below));
    }
    return found;
}

/* ---- the patch's checks ---- */

static bool is_number(const json_t *v)
{
    return json_is_integer(v);
}

static bool is_switch(const json_t *v)
{
    return json_is_boolean(v) ||
           (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1));
}

static bool is_text(const json_t *v)
{
    return json_is_string(v);
}

static const struct {
    const char *name;
    bool (*good)(const json_t *v);
} fields[] = {{"event", is_text},       {"type", is_text},          {"state", is_number},
              {"new_state", is_number}, {"errno", is_number},       {"sector", is_number},
              {"once", is_switch},      {"immediately", is_switch}, {"iotype", is_text}};

static int check_rule(struct qmp_call *call, const json_t *rule)
{
    if (!json_is_object(rule)) {
        qmp_fail(call, -EINVAL, "Invalid parameter type for 'member of rules', expected: dict");
        return -EINVAL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        const json_t *v = json_object_get(rule, fields[i].name);
        if (v && !fields[i].good(v)) {
            qmp_fail(call, -EINVAL, "faild to set %s", fields[i].name); /* the patch's spelling */
            return -EINVAL;
        }
    }
    const char *type = json_string_value(json_object_get(rule, "type"));
    if (!type || !json_object_get(rule, "event")) {
        qmp_fail(call, -EINVAL, "Parameter '%s' is missing", type ? "event" : "type");
        return -EINVAL;
    }
    if (strcmp(type, "set-state") != 0 && strcmp(type, "inject-error") != 0) {
        qmp_fail(call, -EINVAL, "unknown type of rule: %.100s", type);
        return -EINVAL;
    }
    return 0;
}

static int check_rules(struct qmp_call *call, const json_t *rules)
{
    const json_t *rule;
    size_t i;

    if (!rules) {
        qmp_fail(call, -EINVAL, "Parameter 'rules' is missing");
        return -EINVAL;
    }
    if (!json_is_array(rules)) {
        qmp_fail(call, -EINVAL, "Invalid parameter type for 'rules', expected: list");
        return -EINVAL;
    }
    json_array_foreach(rules, i, rule)
    {
        if (check_rule(call, rule) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- the commands ---- */

/* Could the patch have been asked this? A device, at most one rule of each type, its members. */
static bool is_patch_call(const struct qmp_call *call, const json_t *rules)
{
    const json_t *rule;
    size_t i, injects = 0, states = 0;

    json_array_foreach(rules, i, rule)
    {
        bool inject = strcmp(json_string_value(json_object_get(rule, "type")), "inject-error") == 0;
        injects += inject;
        states += !inject;
        if (json_object_get(rule, "iotype")) {
            return false;
        }
    }
    return qmp_arg(call, "device") && !qmp_arg(call, "mode") && injects <= 1 && states <= 1;
}

QMP_RUN(qmp_blkdebug_set)
{
    const char *mode = qmp_arg_str(call, "mode");
    json_t *given = qmp_arg(call, "rules");
    AUTO_JSON json_t *rules = NULL;
    struct node *n = blkdebug_target(call);

    if (!n || check_rules(call, given) < 0 || fault_from_blkdebug(given, &rules, &call->err) < 0) {
        return NULL;
    }
    struct fault_change change = {.node = n,
                                  .kind = mode && strcmp(mode, "replace") == 0 ? FAULT_REPLACE : FAULT_ADD,
                                  .rules = rules,
                                  .new_engine = true};
    json_t *result = qmp_fault_change(call, &change);
    if (result && is_patch_call(call, given)) {
        json_object_clear(result); /* what the patch answers */
    }
    return result;
}

QMP_RUN(qmp_blkdebug_clear)
{
    struct fault_change change = {.node = blkdebug_target(call), .kind = FAULT_CLEAR};

    return qmp_fault_change(call, &change);
}

QMP_RUN(qmp_blkdebug_query)
{
    struct node *n = blkdebug_target(call);

    return n ? qmp_fault_info(call->server, n) : NULL;
}
