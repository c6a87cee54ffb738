/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about fault rules: adding, changing, removing them, what they hold, and waiting for them. */
#include "base/json.h"
#include "base/size.h"
#include "qmp/cmd_fault.h"

#define ACTIONS_MAX     1024 /* of a transaction */
#define WAIT_DEFAULT_NS (60 * NS_PER_SEC)

/* ---- which node ---- */

struct node *qmp_fault_below(struct qmp_call *call, struct node *n)
{
    struct node *found = n ? fault_find(n) : NULL;

    if (n && !found) {
        qmp_fail(call, -EINVAL, "there is no fault or blkdebug node at or below '%s'", node_name(n));
    }
    return found;
}

/* What the arguments mean, or the only one there is; else the call's error is set. */
static struct node *fault_target(struct qmp_call *call)
{
    struct node *n, *found = NULL;

    if (qmp_arg(call, "device") || qmp_arg(call, "node-name")) {
        return qmp_fault_below(call, qmp_arg_node(call));
    }
    list_for_each (n, &call->server->config.graph->nodes, link) {
        if (n->filename && fault_is(n)) {
            if (found) {
                qmp_fail(call, -EINVAL, "there are several fault nodes: say which, by device or node-name");
                return NULL;
            }
            found = n;
        }
    }
    if (!found) {
        qmp_fail(call, -ENOENT, "there is no fault or blkdebug node");
    }
    return found;
}

/* The nodes that a query is about: the one that is meant, or all. Returns NULL with the error set. */
static json_t *for_each_target(struct qmp_call *call,
                               json_t *(*show)(const struct qmp_server *, const struct node *))
{
    json_t *list = json_array();
    struct node *n;

    if (qmp_arg(call, "device") || qmp_arg(call, "node-name")) {
        n = fault_target(call);
        if (!n) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, show(call->server, n));
        return list;
    }
    list_for_each (n, &call->server->config.graph->nodes, link) {
        if (n->filename && fault_is(n)) {
            json_array_append_new(list, show(call->server, n));
        }
    }
    return list;
}

/* ---- changing ---- */

json_t *qmp_fault_change(struct qmp_call *call, struct fault_change *change)
{
    if (!change->node || fault_apply(change, 1, &call->err) < 0) {
        return NULL;
    }
    return json_pack("{s:I}", "operation", (json_int_t)change->from_opno);
}

static json_t *add_rules(struct qmp_call *call, const json_t *rules)
{
    bool replace = qmp_arg_bool(call, "replace", false);
    const char *before = qmp_arg_str(call, "before");
    struct fault_change change = {.node = fault_target(call),
                                  .kind = replace ? FAULT_REPLACE : FAULT_ADD,
                                  .rules = rules,
                                  .id = before};

    if (replace && before) {
        return qmp_fail(call, -EINVAL, "Parameters 'before' and 'replace' exclude each other");
    }
    return qmp_fault_change(call, &change);
}

QMP_RUN(qmp_fault_add)
{
    return add_rules(call, qmp_arg(call, "rules"));
}

QMP_RUN(qmp_preset_apply)
{
    static const char *const own[] = {"preset", "params", "time-scale"};
    const json_t *rule = qmp_arg(call, "rule");
    AUTO_JSON json_t *spec = rule ? json_deep_copy(rule) : json_object();

    for (size_t i = 0; spec && i < ARRAY_SIZE(own); i++) {
        if (json_object_get(spec, own[i])) {
            return qmp_fail(call, -EINVAL,
                            "Parameter 'rule' has no member '%s': it is a parameter of its own", own[i]);
        }
        if (qmp_arg(call, own[i])) {
            json_object_set(spec, own[i], (json_t *)(uintptr_t)qmp_arg(call, own[i]));
        }
    }
    return add_rules(call, spec);
}

QMP_RUN(qmp_query_presets)
{
    return fault_presets_json();
}

QMP_RUN(qmp_fault_remove)
{
    const char *id = qmp_arg_str(call, "id"), *tag = qmp_arg_str(call, "tag");
    bool all = qmp_arg_bool(call, "all", false);
    struct fault_change change = {.node = fault_target(call),
                                  .kind = all   ? FAULT_CLEAR
                                          : tag ? FAULT_REMOVE_TAG
                                                : FAULT_REMOVE,
                                  .id = tag ? tag : id};

    if ((id != NULL) + (tag != NULL) + all != 1) {
        return qmp_fail(call, -EINVAL, "Parameter 'id' is missing: which rule? (or 'tag', or 'all': true)");
    }
    return qmp_fault_change(call, &change);
}

QMP_RUN(qmp_fault_set)
{
    struct fault_change change = {.node = fault_target(call),
                                  .kind = FAULT_SET,
                                  .id = qmp_arg_str(call, "id"),
                                  .rules = qmp_arg(call, "set")};

    return qmp_fault_change(call, &change);
}

QMP_RUN(qmp_state_set)
{
    struct fault_change change = {
        .node = fault_target(call), .kind = FAULT_STATE, .state = qmp_arg_int(call, "state", 0)};

    return qmp_fault_change(call, &change);
}

QMP_RUN(qmp_fault_dry_run)
{
    struct node *n = fault_target(call);
    const struct option *o = n ? option_find(n->drv->options, "dry-run") : NULL;
    AUTO_JSON json_t *on = json_boolean(qmp_arg_bool(call, "enable", false));

    if (!n) {
        return NULL;
    }
    if (!o) {
        return qmp_fail(call, -ENOTSUP, "driver '%s' of node '%s' has no dry run", n->drv->name,
                        node_name(n));
    }
    return option_set(o, n->state, on, &call->err) < 0
               ? NULL
               : json_pack("{s:I}", "operation", (json_int_t)fault_next_opno(n));
}

/* ---- transactions ---- */

/* An action of the transaction to a change; which members belong to which type. */
static int take_action(struct qmp_call *call, json_t *action, size_t i, struct fault_change *ret)
{
    static const struct {
        const char *type;
        enum fault_change_kind kind;
        const char *member; /* it needs this one */
    } kinds[] = {{"add", FAULT_ADD, "rules"},  {"replace", FAULT_REPLACE, "rules"},
                 {"set", FAULT_SET, "set"},    {"remove", FAULT_REMOVE, "id"},
                 {"clear", FAULT_CLEAR, NULL}, {"state", FAULT_STATE, "state"}};
    const char *type = json_string_value(json_object_get(action, "type"));
    struct qmp_call inner = {.server = call->server, .conn = call->conn, .args = action};
    size_t k = 0;

    while (strcmp(kinds[k].type, type) != 0) {
        k++;
    }
    if (kinds[k].member && !json_object_get(action, kinds[k].member)) {
        qmp_fail(call, -EINVAL, "Parameter 'actions[%zu].%s' is missing", i, kinds[k].member);
        return -EINVAL;
    }
    *ret = (struct fault_change){
        .node = fault_target(&inner),
        .kind = kinds[k].kind,
        .rules =
            kinds[k].kind == FAULT_SET ? json_object_get(action, "set") : json_object_get(action, "rules"),
        .id = json_string_value(json_object_get(action, kinds[k].kind == FAULT_ADD ? "before" : "id")),
        .state = json_integer_value(json_object_get(action, "state"))};
    if (ret->kind == FAULT_SET && !ret->id) {
        qmp_fail(call, -EINVAL, "Parameter 'actions[%zu].id' is missing", i);
        return -EINVAL;
    }
    if (!ret->node) {
        qmp_fail(call, -EINVAL, "actions[%zu]: %s", i, inner.err.text);
        return -EINVAL;
    }
    return 0;
}

QMP_RUN(qmp_fault_transaction)
{
    json_t *actions = qmp_arg(call, "actions"), *action;
    size_t n = json_array_size(actions), i;
    AUTO_FREE struct fault_change *changes = calloc(MAX(n, (size_t)1), sizeof(*changes));

    if (n == 0 || n > ACTIONS_MAX) {
        return qmp_fail(call, -EINVAL, "Parameter 'actions' expects 1 to %d elements", ACTIONS_MAX);
    }
    if (!changes) {
        return qmp_fail(call, -ENOMEM, "no memory for a transaction");
    }
    json_array_foreach(actions, i, action)
    {
        if (take_action(call, action, i, &changes[i]) < 0) {
            return NULL;
        }
    }
    if (fault_apply(changes, (unsigned)n, &call->err) < 0) {
        return NULL;
    }
    json_t *list = json_array();
    for (i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s, s:I}", "node-name", node_name(changes[i].node),
                                              "operation", (json_int_t)changes[i].from_opno));
    }
    return list;
}

/* ---- looking ---- */

/* Nothing above moves bytes elsewhere. */
static bool same_offsets(const struct node *n)
{
    const struct node *up;

    list_for_each (up, &n->graph->nodes, link) {
        for (unsigned i = 0; i < up->nchildren; i++) {
            bool moves = up->drv->kind == DRIVER_FORMAT && !up->drv->format->transparent;
            if (up->children[i].node == n && (moves || !same_offsets(up))) {
                return false;
            }
        }
    }
    return true;
}

json_t *qmp_fault_info(const struct qmp_server *s, const struct node *n)
{
    json_t *o = fault_status(n);

    if (o) {
        json_object_set_new(o, "device", json_string(qmp_disk_of(s, n)));
        json_object_set_new(o, "rules", fault_list(n));
        json_object_set_new(o, "held", fault_held(n));
        json_object_set_new(o, "next-operation", json_integer((json_int_t)fault_next_opno(n)));
        json_object_set_new(o, "size", json_integer((json_int_t)node_size(n)));
        json_object_set_new(o, "same-offsets", json_boolean(same_offsets(n)));
    }
    return o;
}

static json_t *state_info(const struct qmp_server *s, const struct node *n)
{
    return json_pack("{s:s, s:s, s:I}", "device", qmp_disk_of(s, n), "node-name", node_name(n), "state",
                     (json_int_t)fault_state(n));
}

QMP_RUN(qmp_query_faults)
{
    return for_each_target(call, qmp_fault_info);
}

QMP_RUN(qmp_query_states)
{
    return for_each_target(call, state_info);
}

/* ---- held requests ---- */

/* A positive errno, 0: not given, or -EINVAL with the call's error set. */
static int errno_arg(struct qmp_call *call)
{
    const json_t *v = qmp_arg(call, "errno");
    const char *name = json_string_value(v);
    json_int_t number = json_integer_value(v);

    if (!v) {
        return 0;
    }
    for (int i = 1; name && i < 256; i++) {
        const char *known = strerrorname_np(i);
        number = known && strcmp(known, name) == 0 ? i : number;
    }
    if (number < 1 || number > 4095) {
        qmp_fail(call, -EINVAL, "Parameter 'errno' expects a name such as EIO, or a number from 1 to 4095");
        return -EINVAL;
    }
    return (int)number;
}

static enum fault_outcome outcome_arg(const struct qmp_call *call)
{
    const char *word = qmp_arg_str(call, "outcome");
    int i = 0;

    while (word && fault_outcome_names[i + 1] && strcmp(fault_outcome_names[i], word) != 0) {
        i++;
    }
    return (enum fault_outcome)i;
}

/* Of all nodes: no node needs to know the tag, but one. */
static int release_everywhere(struct qmp_call *call, const char *tag, int error)
{
    struct node *n;
    int released = 0;
    bool known = tag == NULL;

    list_for_each (n, &call->server->config.graph->nodes, link) {
        int r = n->filename && fault_is(n) ? fault_release(n, tag, outcome_arg(call), error, NULL) : -ENOENT;
        known |= r >= 0;
        released += MAX(r, 0);
    }
    if (!known) {
        qmp_fail(call, -ENOENT, "no fault node has the tag '%.100s'", tag);
        return -ENOENT;
    }
    return released;
}

QMP_RUN(qmp_hang_release)
{
    const char *tag = qmp_arg_str(call, "tag");
    int error = errno_arg(call), r;

    if (error < 0) {
        return NULL;
    }
    if (qmp_arg(call, "device") || qmp_arg(call, "node-name")) {
        struct node *n = fault_target(call);
        r = n ? fault_release(n, tag, outcome_arg(call), error, &call->err) : -ENOENT;
    } else {
        r = release_everywhere(call, tag, error);
    }
    return r < 0 ? NULL : json_pack("{s:i}", "released", r);
}

/* ---- waiting ---- */

static int timeout_arg(struct qmp_call *call, uint64_t *ret_ns)
{
    const json_t *v = qmp_arg(call, "timeout");
    double seconds = json_number_value(v);

    *ret_ns = WAIT_DEFAULT_NS;
    if (!v) {
        return 0;
    }
    if (json_is_string(v) ? duration_parse(json_string_value(v), ret_ns) < 0
                          : !json_is_number(v) || !(seconds >= 0 && seconds < 1e9)) {
        qmp_fail(call, -EINVAL, "Parameter 'timeout' expects seconds, or a time such as 500ms");
        return -EINVAL;
    }
    if (json_is_number(v)) {
        *ret_ns = (uint64_t)(seconds * (double)NS_PER_SEC);
    }
    return 0;
}

QMP_RUN(qmp_wait_for)
{
    struct node *n = fault_target(call);
    const char *counter = qmp_arg_str(call, "counter");
    json_int_t count = qmp_arg_int(call, "count", 1);
    struct fault_counters c = {0};
    struct fault_wait w = {.id = qmp_arg_str(call, "id"),
                           .matched = counter && strcmp(counter, "matched") == 0,
                           .count = (uint64_t)count,
                           .owner = call};

    if (!n || timeout_arg(call, &w.timeout_ns) < 0) {
        return NULL;
    }
    if (count < 0) {
        return qmp_fail(call, -EINVAL, "Parameter 'count' expects a number from 0");
    }
    node_ref(n);
    call->waits_in = n;
    int r = qmp_is_gone(call) ? -ECANCELED : fault_wait(n, &w, &c, &call->err);
    call->waits_in = NULL;
    node_unref(n);
    if (r < 0 && r != -ETIMEDOUT) {
        return NULL;
    }
    return json_pack("{s:b, s:I, s:I, s:I, s:I}", "reached", r == 0, "matched", (json_int_t)c.matched,
                     "fired", (json_int_t)c.fired, "last-matched", (json_int_t)c.last_matched, "last-fired",
                     (json_int_t)c.last_fired);
}

void qmp_fault_wake(struct qmp_call *call)
{
    if (call->waits_in) {
        fault_wait_cancel(call->waits_in, call);
    }
}
