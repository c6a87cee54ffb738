/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blockdev-add, -del, -reopen, block_resize. Nodes that clients have made belong to the server: to be closed
 * by blockdev-del, or at the end.
 */
#include <ctype.h>

#include "base/json.h"
#include "qmp/commands.h"

#define QUIET_STEPS   5000 /* blockdev-reopen waits so many steps for the requests of a node to end */
#define QUIET_STEP_NS NS_PER_MS

struct qmp_node {
    struct list link; /* server->nodes */
    struct node *node;
};

static struct qmp_node *find_own(const struct qmp_server *s, const struct node *n)
{
    struct qmp_node *own;

    list_for_each (own, &s->nodes, link) {
        if (own->node == n) {
            return own;
        }
    }
    return NULL;
}

void qmp_nodes_finish(struct qmp_server *s)
{
    /* The newest first: it may refer to older ones. */
    while (!list_empty(&s->nodes)) {
        struct qmp_node *own = list_entry(s->nodes.prev, struct qmp_node, link);
        list_del(&own->link);
        node_unref(own->node);
        free(own);
    }
}

/* ---- adding ---- */

/* As QEMU: a letter, then letters, digits and "-._". */
static bool is_name(const char *name)
{
    bool good = isalpha((unsigned char)*name) && strlen(name) <= 31;

    for (const char *p = name; good && *p; p++) {
        good = isalnum((unsigned char)*p) || strchr("-._", *p);
    }
    return good;
}

static int check_driver(struct qmp_call *call, const char *path, json_t *options)
{
    const json_t *v = json_object_get(options, "driver");
    const char *name = json_string_value(v);

    if (!v) {
        qmp_fail(call, -EINVAL, "Parameter '%sdriver' is missing", path);
    } else if (!name) {
        qmp_fail(call, -EINVAL, "Invalid parameter type for '%sdriver', expected: string", path);
    } else if (!driver_find(name)) {
        qmp_fail(call, -EINVAL, "Parameter '%sdriver' does not accept value '%.100s'", path, name);
    } else {
        return 0;
    }
    return -EINVAL;
}

static int check_new(struct qmp_call *call)
{
    const json_t *v = qmp_arg(call, "node-name");
    const char *name = json_string_value(v);

    if (check_driver(call, "", call->args) < 0) {
        return -EINVAL;
    }
    if (!v) {
        qmp_fail(call, -EINVAL, "'node-name' must be specified for the root node");
    } else if (!name) {
        qmp_fail(call, -EINVAL, "Invalid parameter type for 'node-name', expected: string");
    } else if (!is_name(name)) {
        qmp_fail(call, -EINVAL, "Invalid node-name: '%.100s'", name);
    } else if (graph_find(call->server->config.graph, name)) {
        qmp_fail(call, -EEXIST, "Duplicate nodes with node-name='%s'", name);
    } else if (qmp_find_disk(call->server, name)) {
        qmp_fail(call, -EEXIST, "node-name=%s is conflicting with a device id", name);
    } else {
        return 0;
    }
    return -EINVAL;
}

QMP_RUN(qmp_blockdev_add)
{
    struct qmp_server *s = call->server;

    if (check_new(call) < 0) {
        return NULL;
    }
    struct qmp_node *own = malloc(sizeof(*own));
    if (!own) {
        return qmp_fail(call, -ENOMEM, "no memory for a node");
    }
    int r = node_open(s->config.graph, call->args, s->config.open_flags, &own->node, &call->err);
    if (r < 0) {
        free(own);
        return NULL;
    }
    list_add_tail(&s->nodes, &own->link);
    return json_object();
}

QMP_RUN(qmp_blockdev_del)
{
    struct qmp_server *s = call->server;
    const char *name = qmp_arg_str(call, "node-name");
    struct node *n = qmp_find_node(s, name);
    struct qmp_node *own = n ? find_own(s, n) : NULL;

    if (!n) {
        return qmp_fail(call, -ENOENT, "Failed to find node with node-name='%.100s'", name);
    }
    if (*qmp_server_disk(s, n)) {
        return qmp_fail(call, -EBUSY, "Block device %s is in use", name);
    }
    if (!own) {
        return qmp_fail(call, -EPERM, "Node %s is not owned by the monitor", name);
    }
    if (n->refs > 1) {
        return qmp_fail(call, -EBUSY, "Node %s is in use", name);
    }
    list_del(&own->link);
    free(own);
    node_unref(n);
    return json_object();
}

/* ---- reopening ---- */

/* One member of the new options of a node, and what it means. */
struct change {
    struct node *n;
    const char *key;
    json_t *value; /* NULL: was given before, and is not now */
};

/* What it was before: to be undone when a later one fails. */
struct undo {
    struct list link;
    struct node *n;
    const char *key;
    struct node *child; /* a reference, or NULL */
    bool read_only;
    unsigned flags;
    bool set; /* an option of the driver, which has another value now */
};

static const struct child_def *find_child_def(const struct node *n, const char *name)
{
    for (const struct child_def *c = n->drv->children; c && c->name; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static int cannot_change(const char *key, struct err *err)
{
    return err_set(err, -EINVAL, "Cannot change the option '%s'", key);
}

/* On the command line everything is a string. */
static const char *as_text(const json_t *v, char buf[32])
{
    if (json_is_boolean(v)) {
        return json_is_true(v) ? "on" : "off";
    }
    snprintf(buf, 32, "%lld", (long long)json_integer_value(v));
    return json_is_string(v) ? json_string_value(v) : json_is_integer(v) ? buf : NULL;
}

static bool as_before(const struct node *n, const char *key, json_t *value)
{
    json_t *before = json_object_get(n->options, key);
    char buf[2][32];

    if (!before || !value || json_equal(before, value)) {
        return before && value;
    }
    const char *one = as_text(before, buf[0]), *other = as_text(value, buf[1]);
    return one && other && strcmp(one, other) == 0;
}

/* Is it one of the options every node has? */
static bool is_generic(const char *key)
{
    static const char *const generic[] = {"driver", "node-name", "read-only",     "auto-read-only",
                                          "cache",  "discard",   "detect-zeroes", "force-share"};

    for (size_t i = 0; i < ARRAY_SIZE(generic); i++) {
        if (strcmp(generic[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static int change_generic(const struct change *ch, bool apply, struct err *err)
{
    struct node *n = ch->n;
    bool on = json_is_true(ch->value);

    if (strcmp(ch->key, "read-only") == 0) {
        if (!on && !(n->flags & OPEN_WRITE)) {
            return n->read_only ? cannot_change(ch->key, err) : 0;
        }
        n->read_only = apply ? on : n->read_only;
        return 0;
    }
    if (strcmp(ch->key, "discard") == 0 && json_is_string(ch->value)) {
        const char *word = json_string_value(ch->value);
        bool unmap = strcmp(word, "unmap") == 0 || strcmp(word, "on") == 0;
        if (apply) {
            n->flags = unmap ? n->flags | OPEN_UNMAP : n->flags & ~(unsigned)OPEN_UNMAP;
        }
        return 0;
    }
    return !ch->value || as_before(n, ch->key, ch->value) || strcmp(ch->key, "auto-read-only") == 0 ||
                   strcmp(ch->key, "driver") == 0 || strcmp(ch->key, "node-name") == 0
               ? 0
               : cannot_change(ch->key, err);
}

static bool is_below(const struct node *root, const struct node *n)
{
    bool found = root == n;

    for (unsigned i = 0; !found && i < node_children(root); i++) {
        found = is_below(node_child_at(root, i, NULL), n);
    }
    return found;
}

static int change_child(struct qmp_server *s, const struct change *ch, bool apply, struct err *err)
{
    struct node *now = node_child(ch->n, ch->key);
    const char *name = json_string_value(ch->value);

    if (!name) {
        return !ch->value || as_before(ch->n, ch->key, ch->value) ? 0 : cannot_change(ch->key, err);
    }
    struct node *next = qmp_find_node(s, name);
    if (!next) {
        return err_set(err, -ENOENT, "Cannot find device='%s' nor node-name='%s'", name, name);
    }
    if (next == now) {
        return 0;
    }
    if (!now || is_below(next, ch->n)) {
        return err_set(err, -EINVAL, "Making '%s' a child of '%s' would create a cycle", name, ch->n->name);
    }
    return apply ? node_replace_child(ch->n, ch->key, next, err)
                 : node_can_replace(ch->n, ch->key, next, err);
}

static const struct option *runtime_option(const struct node *n, const char *key)
{
    const struct option *o = n->drv->options ? option_find(n->drv->options, key) : NULL;

    return o && o->runtime ? o : NULL;
}

static int set_option(struct node *n, const struct option *o, json_t *given, struct err *err)
{
    AUTO_JSON json_t *value = given ? json_incref(given) : json_string(o->def ? o->def : "0");

    return option_set(o, n->state, value, err);
}

/* The driver hears of it when all options of the node are set: one may be good only together with another. */
static int change_option(const struct change *ch, bool apply, struct err *err)
{
    struct node *n = ch->n;
    const struct option *o = runtime_option(n, ch->key);

    if (ch->value && as_before(n, ch->key, ch->value)) {
        return 0;
    }
    if (!o && !(n->drv->options && option_find(n->drv->options, ch->key))) {
        return ch->value ? err_set(err, -EINVAL, "Parameter '%s' is unexpected", ch->key) : 0;
    }
    if (!o) {
        return ch->value ? cannot_change(ch->key, err)
                         : err_set(err, -EINVAL, "Option '%s' cannot be reset to its default value", ch->key);
    }
    return apply ? set_option(n, o, ch->value, err) : 0;
}

/* ---- all of it, or nothing ---- */

static int remember(const struct change *ch, struct list *undo, struct err *err)
{
    struct undo *u = malloc(sizeof(*u));

    if (!u) {
        return err_set(err, -ENOMEM, "no memory to change '%s'", ch->key);
    }
    struct node *child = node_child(ch->n, ch->key);
    *u = (struct undo){.n = ch->n,
                       .key = ch->key,
                       .child = child ? node_ref(child) : NULL,
                       .read_only = ch->n->read_only,
                       .flags = ch->n->flags,
                       .set = runtime_option(ch->n, ch->key) &&
                              !(ch->value && as_before(ch->n, ch->key, ch->value))};
    list_add_head(undo, &u->link);
    return 0;
}

/* The drivers whose options were set. */
static co_fn int tell_drivers(const struct list *undo, struct err *err)
{
    const struct undo *u;
    int r = 0;

    list_for_each (u, undo, link) {
        if (u->set && u->n->drv->set && (r = u->n->drv->set(u->n, u->key, err)) < 0) {
            break;
        }
    }
    return r;
}

/* The newest first; n->options still say what was. What cannot be put back, because a driver refuses its own
 * setting of a moment ago, is told. */
static co_fn void put_back(struct qmp_server *s, const struct list *undo)
{
    const struct undo *u;
    struct err err = {0};
    int r = 0;

    list_for_each (u, undo, link) {
        int one = 0;
        if (is_generic(u->key)) {
            u->n->read_only = u->read_only;
            u->n->flags = u->flags;
        } else if (u->child && node_child(u->n, u->key) != u->child) {
            one = node_replace_child(u->n, u->key, u->child, &err);
        } else if (u->set) {
            one =
                set_option(u->n, runtime_option(u->n, u->key), json_object_get(u->n->options, u->key), &err);
        }
        r = r < 0 ? r : one;
    }
    r = r < 0 ? r : tell_drivers(undo, &err);
    if (r < 0) {
        qmp_notice(s, "blockdev-reopen failed, and what it had changed cannot be put back: %s", err.text);
    }
}

static co_fn void forget(struct list *undo)
{
    struct undo *u;

    while ((u = list_first(undo, struct undo, link))) {
        list_del(&u->link);
        node_unref(u->child);
        free(u);
    }
}

/* @undo: NULL: only look whether it could be done. */
static co_fn int make_change(struct qmp_server *s, const struct change *ch, struct list *undo,
                             struct err *err)
{
    bool apply = undo != NULL;
    int r = apply ? remember(ch, undo, err) : 0;

    return r < 0                            ? r
           : is_generic(ch->key)            ? change_generic(ch, apply, err)
           : find_child_def(ch->n, ch->key) ? change_child(s, ch, apply, err)
                                            : change_option(ch, apply, err);
}

/* Every member that is given now, or was before. */
static co_fn int reopen_node(struct qmp_server *s, struct node *n, json_t *options, struct list *undo,
                             struct err *err)
{
    AUTO_JSON json_t *before = json_incref(n->options);
    const char *key;
    json_t *value;
    int r = 0;

    json_object_foreach(options, key, value)
    {
        r = r < 0 ? r : make_change(s, &(struct change){n, key, value}, undo, err);
    }
    json_object_foreach(before, key, value)
    {
        if (r == 0 && !json_object_get(options, key)) {
            r = make_change(s, &(struct change){n, key, NULL}, undo, err);
        }
    }
    return r;
}

static struct node *reopen_target(struct qmp_call *call, json_t *options, size_t i)
{
    const char *name = json_string_value(json_object_get(options, "node-name"));
    struct node *n = name ? qmp_find_node(call->server, name) : NULL;
    char path[32];

    snprintf(path, sizeof(path), "options[%zu].", i);
    if (check_driver(call, path, options) < 0) {
        return NULL;
    }
    if (!name) {
        qmp_fail(call, -EINVAL, "node-name not specified");
    } else if (!n) {
        qmp_fail(call, -ENOENT, "Failed to find node with node-name='%.100s'", name);
    } else if (driver_find(json_string_value(json_object_get(options, "driver"))) != n->drv) {
        qmp_fail(call, -EINVAL, "Cannot change the option 'driver'");
        return NULL;
    }
    return n;
}

/* Nobody's requests in the nodes, and none of clients come; but a disk that hangs must not hang us. */
static co_fn int quieten(struct qmp_call *call, json_t *list)
{
    json_t *options;
    size_t i;

    for (int step = 0; step < QUIET_STEPS && !qmp_is_gone(call); step++) {
        bool busy = false;
        json_array_foreach(list, i, options)
        {
            struct node *n = reopen_target(call, options, i);
            if (!n) {
                return -ENOENT;
            }
            busy |= node_in_flight(n) > 0;
        }
        if (!busy) {
            return 0;
        }
        co_sleep_ns(QUIET_STEP_NS);
    }
    qmp_fail(call, -EBUSY, "requests of the node are held back or too slow: nothing was changed");
    return -EBUSY;
}

static co_fn int reopen_all(struct qmp_call *call, json_t *list, struct list *undo)
{
    json_t *options;
    size_t i;

    json_array_foreach(list, i, options)
    {
        struct node *n = reopen_target(call, options, i);
        int r = n ? reopen_node(call->server, n, options, undo, &call->err) : -ENOENT;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* All of it, or nothing. */
static co_fn int apply_all(struct qmp_call *call, json_t *list)
{
    struct list undo;
    json_t *options;
    size_t i;

    list_init(&undo);
    int r = reopen_all(call, list, &undo);
    r = r < 0 ? r : tell_drivers(&undo, &call->err);
    if (r < 0) {
        put_back(call->server, &undo);
    }
    forget(&undo);
    json_array_foreach(list, i, options)
    {
        struct node *n = r == 0 ? reopen_target(call, options, i) : NULL;
        if (n) {
            json_decref(n->options);
            n->options = json_deep_copy(options) ?: json_object();
        }
    }
    return r;
}

QMP_RUN(qmp_blockdev_reopen)
{
    struct graph *g = call->server->config.graph;
    json_t *list = qmp_arg(call, "options");
    bool was_paused = g->paused;

    if (reopen_all(call, list, NULL) < 0) {
        return NULL;
    }
    g->paused = true;
    int r = quieten(call, list);
    r = r < 0 ? r : apply_all(call, list);
    g->paused = was_paused;
    if (!was_paused) {
        co_queue_wake_all(&g->resumed);
    }
    return r < 0 ? NULL : json_object();
}

/* ---- sizes ---- */

QMP_RUN(qmp_block_resize)
{
    json_int_t size = qmp_arg_int(call, "size", 0);
    struct node *n = qmp_arg_node(call);

    if (!n) {
        return NULL;
    }
    if (size < 0) {
        return qmp_fail(call, -EINVAL, "Parameter 'size' expects a >0 size");
    }
    node_ref(n);
    int r = node_truncate(n, (uint64_t)size, REQ_EXACT, &call->err);
    node_unref(n);
    return r < 0 ? NULL : json_object();
}
