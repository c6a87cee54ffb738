/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nodes: opened from options, counted, closed. Opening goes: generic options, the driver's own
 * options, the children, the driver's open. Whatever fails, node_close takes the half-open node down.
 */
#include <stdio.h>

#include "base/json.h"
#include "block/driver.h"
#include "block/eligible.h"
#include "block/name.h"

void graph_init(struct graph *g)
{
    *g = (struct graph){0};
    list_init(&g->nodes);
    list_init(&g->own);
    list_init(&g->presence_watches);
    list_init(&g->groups);
    co_queue_init(&g->resumed);
}

void graph_event(struct graph *g, const char *name, json_t *data)
{
    if (g->event) {
        g->event(g, name, data);
    } else {
        json_decref(data);
    }
}

static void notice_probed_raw(struct node *n)
{
    char text[ERR_TEXT_MAX];

    if (n->graph->notice && n->graph->standin && !n->read_only) {
        snprintf(
            text, sizeof(text),
            "WARNING: Image format was not specified for '%.700s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write operations on "
            "block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.",
            n->filename);
        n->graph->notice(n->graph, NOTICE_WARNING, text);
    }
}

/* ---- generic options ---- */

enum discard_mode { DISCARD_IGNORE, DISCARD_UNMAP, DISCARD_OFF, DISCARD_ON, DISCARD_INHERIT };

struct generic {
    char *node_name;
    bool read_only, auto_read_only, direct, no_flush, force_share;
    int discard;
    char *detect_zeroes;
};

static const char *const discard_values[] = {"ignore", "unmap", "off", "on", "inherit", NULL};

static const struct option generic_options[] = {
    {"node-name", OPT_STRING, offsetof(struct generic, node_name), .help = "name of the node in the graph"},
    {"read-only", OPT_BOOL, offsetof(struct generic, read_only), .help = "refuse writes"},
    {"auto-read-only", OPT_BOOL, offsetof(struct generic, auto_read_only),
     .help = "become read-only rather than fail when the image cannot be written"},
    {"cache.direct", OPT_BOOL, offsetof(struct generic, direct),
     .help = "bypass the host page cache (O_DIRECT)"},
    {"cache.no-flush", OPT_BOOL, offsetof(struct generic, no_flush), .help = "ignore flush requests"},
    {"force-share", OPT_BOOL, offsetof(struct generic, force_share),
     .help = "open without locks; needs read-only"},
    {"discard", OPT_ENUM, offsetof(struct generic, discard), .def = "inherit", .values = discard_values,
     .help = "pass discards on: unmap (on), or ignore (off) them; default as the node above"},
    {0},
};

static unsigned apply_generic(const struct generic *gen, unsigned flags)
{
    flags = gen->read_only ? flags & ~(unsigned)OPEN_WRITE : flags;
    flags |= gen->direct ? OPEN_DIRECT : 0;
    flags |= gen->no_flush ? OPEN_NO_FLUSH : 0;
    flags |= gen->force_share ? OPEN_FORCE_SHARE : 0;
    if (gen->discard == DISCARD_UNMAP || gen->discard == DISCARD_ON) {
        flags |= OPEN_UNMAP;
    } else if (gen->discard != DISCARD_INHERIT) {
        flags &= ~(unsigned)OPEN_UNMAP;
    }
    return flags;
}

/* ---- closing ---- */

void node_unhold(struct node *n, bool ending)
{
    if (n->drv->unhold && n->state) {
        n->drv->unhold(n, ending);
    }
    for (unsigned i = 0; i < n->nchildren; i++) {
        if (n->children[i].node) {
            /* What others use too goes on holding what is theirs. */
            node_unhold(n->children[i].node, ending && n->children[i].node->refs == 1);
        }
    }
}

void graph_unhold(struct graph *g)
{
    struct node *n;

    list_for_each (n, &g->nodes, link) {
        if (n->drv->unhold && n->state) {
            n->drv->unhold(n, true);
        }
    }
}

static co_fn void node_close(struct node *n)
{
    if (n->gate.count > 0) {
        node_unhold(n, true);
        node_drain(n);
    }
    if (n->drv->close && n->state) {
        n->drv->close(n);
    }
    for (unsigned i = n->nchildren; i > 0; i--) {
        node_unref(TAKE_PTR(n->children[i - 1].node));
    }
    if (n->state) {
        options_free(n->drv->options, n->state);
    }
    eligible_forget(n);
    list_del(&n->link);
    free(n->state);
    free(n->times);
    free(n->name);
    free(n->filename);
    json_decref(n->options);
    free(n);
}

struct node *node_ref(struct node *n)
{
    n->refs++;
    return n;
}

void node_unref(struct node *n)
{
    if (n && --n->refs == 0) {
        node_close(n);
    }
}

/* ---- opening ---- */

static co_fn int open_any(struct graph *g, json_t *options, unsigned flags, unsigned depth,
                          struct node **ret_node, struct err *err);

static unsigned child_flags(unsigned flags, const struct driver *d, const struct child_def *def)
{
    flags &= ~(unsigned)(OPEN_WRITETHROUGH | OPEN_PROTOCOL | OPEN_CHECK);
    if (!def->probe) {
        flags |= OPEN_PROTOCOL;
    }
    if (def->role == CHILD_BACKING) {
        flags &= ~(unsigned)(OPEN_WRITE | OPEN_RESIZE);
    }
    if (d->kind == DRIVER_FORMAT && def->role == CHILD_FILE && d->format && !d->format->transparent) {
        flags |= OPEN_RESIZE;
    }
    return flags;
}

/* Refer to the node called @name; not to one that is still being opened, which would then lie below itself.
 */
static int ref_by_name(struct graph *g, const char *name, struct node **ret_node, struct err *err)
{
    struct node *n = graph_find(g, name);

    if (!n) {
        return err_set(err, -ENOENT, "Cannot find device='%s' nor node-name='%s'", name, name);
    }
    if (!n->filename) { /* the last thing that opening sets */
        return err_set(err, -ELOOP, "node '%s' would lie below itself", name);
    }
    *ret_node = node_ref(n);
    return 0;
}

static void attach(struct node *n, const struct child_def *def, struct node *child)
{
    n->children[n->nchildren++] = (struct child){.def = def, .node = child};
    n->height = MAX(n->height, child->height + 1);
}

static int too_deep(struct err *err)
{
    return err_set(err, -ELOOP, "more than %d nodes lie below each other: does one refer to itself?",
                   GRAPH_DEPTH_MAX);
}

/* A chain of references is as deep as a nested one. */
static int attach_by_name(struct node *n, const struct child_def *def, const char *name, struct err *err)
{
    struct node *other = NULL;
    int r = ref_by_name(n->graph, name, &other, err);

    if (r == 0 && n->depth + 1 + other->height >= GRAPH_DEPTH_MAX) {
        node_unref(other);
        r = too_deep(err);
    }
    if (r == 0) {
        attach(n, def, other);
    }
    return r;
}

static co_fn int open_child(struct node *n, const struct child_def *def, json_t *value, struct err *err)
{
    if (json_is_string(value)) {
        return attach_by_name(n, def, json_string_value(value), err);
    }
    if (!json_is_object(value)) {
        return err_set(err, -EINVAL, "'%s': expected an object of options or a node name", def->name);
    }
    struct node *child = NULL;
    int r = open_any(n->graph, value, child_flags(n->flags, n->drv, def), n->depth + 1, &child, err);
    if (r == 0) {
        attach(n, def, child);
    }
    return r;
}

/* Options for a backing file that the image itself names: which file it is, the driver adds. */
static bool only_adds(const struct child_def *def, const json_t *value)
{
    const char *driver = json_string_value(json_object_get(value, "driver"));
    const struct driver *d = driver ? driver_find(driver) : NULL;

    return def->role == CHILD_BACKING && json_is_object(value) && !json_object_get(value, "filename") &&
           !json_object_get(value, "file") && (!driver || (d && d->kind == DRIVER_FORMAT));
}

static co_fn int open_children(struct node *n, json_t *options, struct err *err)
{
    for (const struct child_def *def = n->drv->children; def && def->name; def++) {
        AUTO_JSON json_t *value = json_incref(json_object_get(options, def->name));
        json_object_del(options, def->name);
        if (!value || json_is_null(value)) {
            if (def->required) {
                return err_set(err, -EINVAL, "A block device must be specified for \"%s\"", def->name);
            }
            continue;
        }
        if (only_adds(def, value)) {
            continue;
        }
        int r = open_child(n, def, value, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* A child that is opened late: on a stack of its own, because images may lie behind each other up to
 * the depth limit of the graph. */
struct late_child {
    struct node *n;
    const struct child_def *def;
    json_t *options;
    struct err *err;
};

static co_fn int open_late(void *arg)
{
    struct late_child *l = arg;

    return open_child(l->n, l->def, l->options, l->err);
}

int node_add_child(struct node *n, const char *name, json_t *options, struct err *err)
{
    const struct child_def *def = n->drv->children;
    struct co_group group;
    struct co_task task;

    while (def->name && strcmp(def->name, name) != 0) {
        def++;
    }
    assert(def->name);
    assert(n->nchildren < NODE_CHILDREN_MAX);
    struct late_child late = {n, def, options, err};
    co_group_init(&group);
    co_group_start(&group, &task, open_late, &late);
    co_group_wait(&group);
    return task.result;
}

int node_add_backing(struct node *n, json_t *options, struct err *err)
{
    json_t *given = json_object_get(n->options, "backing");

    if (given && json_object_update(options, given) < 0) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    return node_add_child(n, "backing", options, err);
}

int node_can_replace(const struct node *n, const char *name, const struct node *next, struct err *err)
{
    bool main_child = n->nchildren > 0 && strcmp(n->children[0].def->name, name) == 0;

    if (!main_child || (n->drv->kind == DRIVER_FILTER && n->nchildren > 1)) {
        return err_set(err, -EINVAL, "Cannot change the option '%s'",
                       name); /* drivers know their other children */
    }
    if (next->size < node_below(n)->size) {
        return err_set(err, -EINVAL, "node '%s' is smaller than the '%s' of '%s' now", next->name, name,
                       n->name);
    }
    if (next->read_only && !n->read_only) {
        return err_set(err, -EINVAL, "node '%s' is read-only, and '%s' is not", next->name, n->name);
    }
    return n->depth + 1 + next->height >= GRAPH_DEPTH_MAX ? too_deep(err) : 0;
}

int node_replace_child(struct node *n, const char *name, struct node *next, struct err *err)
{
    int r = node_can_replace(n, name, next, err);

    if (r < 0) {
        return r;
    }
    assert(n->gate.count == 0);
    struct node *before = n->children[0].node;
    n->children[0].node = node_ref(next);
    n->height = MAX(n->height, next->height + 1);
    node_unref(before);
    return 0;
}

static int refuse_leftovers(const struct node *n, json_t *options, struct err *err)
{
    const char *key = json_object_iter_key(json_object_iter(options));

    return key ? err_set(err, -EINVAL, "Block %s '%s' %s support the option '%s'",
                         n->drv->kind == DRIVER_FORMAT ? "format" : "protocol", n->drv->name,
                         n->drv->kind == DRIVER_FORMAT ? "does not" : "doesn't", key) /* QEMU says both */
               : 0;
}

static int set_names(struct node *n, const char *node_name, struct err *err)
{
    char generated[32];

    if (!node_name) {
        snprintf(generated, sizeof(generated), "#block%u", n->graph->next_name++);
        node_name = generated;
    } else if (!*node_name || strlen(node_name) > 31 || graph_find(n->graph, node_name)) {
        return err_set(err, -EINVAL,
                       "node-name '%s' is %s: expected 1 to 31 characters that no other node is called by",
                       node_name, graph_find(n->graph, node_name) ? "in use" : "not valid");
    }
    n->name = strdup(node_name);
    return n->name ? 0 : err_set(err, -ENOMEM, "no memory for a node");
}

/* What the driver did not set itself comes from its main child. */
static void inherit(struct node *n)
{
    struct node *below = n->nchildren ? node_below(n) : NULL;

    n->limits = (struct limits){.align = 1, .mem_align = 1};
    if (below && n->drv->kind == DRIVER_FILTER) {
        n->size = below->size;
        n->limits = below->limits;
        n->limits.serialise = false;
    }
}

static void check_limits(struct node *n)
{
    struct limits *l = &n->limits;

    l->mem_align = MAX(l->mem_align, 1u);
    /* A split at a multiple of align must leave memory aligned. */
    l->align = MAX(l->align, l->mem_align);
    l->zero_align = MAX(l->zero_align, l->align);
    l->discard_align = MAX(l->discard_align, l->align);
    if (n->drv->kind != DRIVER_PROTOCOL || l->align > 1) {
        l->supported &= ~(unsigned)REQ_COMPARE; /* one that has the child's limits need not know it */
    }
    assert(is_pow2(l->align) && is_pow2(l->mem_align));
    assert(l->zero_align % l->align == 0 && l->discard_align % l->align == 0);
}

/* The name users know the node by. */
static char *filename_of(const struct node *n)
{
    if (n->drv->make_name) {
        char *name = n->drv->make_name(n);
        if (name) {
            return name;
        }
    } else if (n->drv->kind == DRIVER_FORMAT && n->nchildren) {
        return strdup(node_below(n)->filename);
    }
    AUTO_FREE char *text = json_text(n->options);
    char *name = text ? malloc(strlen(text) + 6) : NULL;
    if (name) {
        sprintf(name, "json:%s", text);
    }
    return name;
}

static co_fn int open_node(struct node *n, json_t *options, struct err *err)
{
    struct generic gen = {0};
    int r = options_apply(generic_options, &gen, options, err);

    if (r == 0) {
        n->flags = apply_generic(&gen, n->flags);
        n->read_only = !(n->flags & OPEN_WRITE);
        r = gen.force_share && !n->read_only
                ? err_set(err, -EINVAL, "force-share=on can only be used with read-only images")
                : set_names(n, gen.node_name, err);
    }
    options_free(generic_options, &gen);
    if (r < 0 || (r = options_apply(n->drv->options, n->state, options, err)) < 0 ||
        (r = open_children(n, options, err)) < 0 || (r = refuse_leftovers(n, options, err)) < 0) {
        return r;
    }
    inherit(n);
    r = n->drv->open ? n->drv->open(n, err) : 0;
    if (r < 0) {
        return r;
    }
    check_limits(n);
    n->filename = filename_of(n);
    return n->filename ? 0 : err_set(err, -ENOMEM, "no memory for a node");
}

/* The driver is known: @options carries the rest, and is used up. */
static co_fn int open_driver(struct graph *g, const struct driver *d, json_t *given, json_t *options,
                             unsigned flags, unsigned depth, struct node **ret_node, struct err *err)
{
    if (depth >= GRAPH_DEPTH_MAX) {
        return too_deep(err);
    }
    struct node *n = calloc(1, sizeof(*n));
    if (!n) {
        return err_set(err, -ENOMEM, "no memory for a node");
    }
    n->drv = d;
    n->graph = g;
    n->flags = flags;
    n->refs = 1;
    n->depth = depth;
    n->options = json_incref(given);
    list_init(&n->gate.in_flight);
    co_queue_init(&n->gate.drained);
    list_add_tail(&g->nodes, &n->link);
    n->state = calloc(1, MAX(d->state_size, (size_t)1));
    n->times = g->timed ? calloc(1, sizeof(*n->times)) : NULL;
    bool memory = n->state && (n->times || !g->timed);
    int r = memory ? open_node(n, options, err) : err_set(err, -ENOMEM, "no memory for a node");
    if (r < 0) {
        node_unref(n);
        return r;
    }
    *ret_node = n;
    return 0;
}

/* ---- probing ---- */

static const struct driver *probe(const uint8_t *buf, size_t len, const char *filename)
{
    const struct driver *best = NULL;
    int best_score = 0;

    for (int i = 0; drivers[i]; i++) {
        int score = drivers[i]->probe ? drivers[i]->probe(buf, len, filename) : 0;
        if (score > best_score) {
            best_score = score;
            best = drivers[i];
        }
    }
    return best;
}

/* Open a format over @file (whose reference is taken over), guessing which. */
static co_fn int open_probed(struct graph *g, struct node *file, json_t *options, unsigned flags,
                             unsigned depth, struct node **ret_node, struct err *err)
{
    uint8_t *buf = buf_get(PROBE_BYTES);
    size_t len = MIN(node_size(file), (uint64_t)PROBE_BYTES);
    int r = buf ? node_read(file, 0, buf, len) : -ENOMEM;
    const struct driver *d = r == 0 ? probe(buf, len, file->filename) : NULL;

    buf_put(buf, PROBE_BYTES);
    if (r < 0) {
        return err_set_errno(err, r, "Could not read image for determining its format");
    }
    json_object_set_new(options, "file", json_string(file->name));
    AUTO_JSON json_t *given = json_copy(options);
    struct node *n = NULL;
    if (given) {
        json_object_set_new(given, "driver", json_string(d->name));
        json_object_set(given, "file", file->options);
    }
    r = given ? open_driver(g, d, given, options, flags, depth, &n, err)
              : err_set(err, -ENOMEM, "no memory for a node");
    if (r < 0) {
        return r;
    }
    n->probed = true;
    if (strcmp(d->name, "raw") == 0) {
        n->limits.align = MAX(n->limits.align, SECTOR_SIZE); /* so that writes of block 0 are seen whole */
        check_limits(n);
        notice_probed_raw(n);
    }
    *ret_node = n;
    return 0;
}

/* Members of a named thing that belong to the protocol when a format is put on top. */
static const char *const name_members[] = {"filename", NULL};

/* "driver" is a format but a file name is given beside it: it names the file child. */
static int move_filename_down(json_t *options, struct err *err)
{
    for (int i = 0; name_members[i]; i++) {
        json_t *v = json_object_get(options, name_members[i]);
        json_t *file = json_object_get(options, "file");
        if (!v) {
            continue;
        }
        if (json_is_string(file)) {
            return err_set(err, -EINVAL, "both a file name and a node name are given for 'file'");
        }
        if (!file) {
            json_object_set_new(options, "file", file = json_object());
        }
        json_object_set(file, name_members[i], v);
        json_object_del(options, name_members[i]);
    }
    return 0;
}

/* No driver is named: parse the file name, then probe unless told not to. */
static co_fn int open_by_name(struct graph *g, json_t *options, unsigned flags, unsigned depth,
                              struct node **ret_node, struct err *err)
{
    const char *filename = json_string_value(json_object_get(options, "filename"));
    AUTO_JSON json_t *named = NULL;

    if (!filename) {
        json_t *file = json_object_get(options, "file");
        if (!file || (flags & OPEN_PROTOCOL)) {
            return err_set(err, -EINVAL, "Must specify either driver or file");
        }
        struct node *below = NULL; /* a "file" but no "driver": probe what it holds */
        int r = json_is_string(file) ? ref_by_name(g, json_string_value(file), &below, err)
                                     : open_any(g, file, flags | OPEN_PROTOCOL, depth + 1, &below, err);
        if (r < 0) {
            return r;
        }
        r = open_probed(g, below, options, flags, depth, ret_node, err);
        node_unref(below);
        return r;
    }
    int r = name_to_options(filename, &named, err);
    if (r < 0) {
        return r;
    }
    json_object_del(options, "filename");
    const char *driver = json_string_value(json_object_get(named, "driver"));
    const struct driver *d = driver ? driver_find(driver) : NULL;
    if (!d || (d->kind != DRIVER_PROTOCOL && !d->probe_above) || (flags & OPEN_PROTOCOL)) {
        json_object_update(named, options); /* generic options of the same object */
        return open_any(g, named, flags, depth, ret_node, err);
    }
    struct node *file = NULL;
    r = open_any(g, named, flags & ~(unsigned)OPEN_WRITETHROUGH, depth + 1, &file, err);
    if (r < 0) {
        return r;
    }
    r = open_probed(g, file, options, flags, depth, ret_node, err);
    node_unref(file); /* the format holds its own */
    return r;
}

static co_fn int open_any(struct graph *g, json_t *given, unsigned flags, unsigned depth,
                          struct node **ret_node, struct err *err)
{
    AUTO_JSON json_t *options = json_deep_copy(given);
    json_t *driver = json_object_get(given, "driver");

    if (!options) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    if (!driver) {
        return open_by_name(g, options, flags, depth, ret_node, err);
    }
    const struct driver *d = json_is_string(driver) ? driver_find(json_string_value(driver)) : NULL;
    if (!d) {
        return err_set(err, -ENOENT, "Unknown driver '%s'",
                       json_is_string(driver) ? json_string_value(driver) : "?");
    }
    json_object_del(options, "driver");
    if (d->kind == DRIVER_FORMAT) {
        int r = move_filename_down(options, err);
        if (r < 0) {
            return r;
        }
    }
    return open_driver(g, d, given, options, flags, depth, ret_node, err);
}

int node_open(struct graph *g, json_t *options, unsigned flags, struct node **ret_node, struct err *err)
{
    AUTO_JSON json_t *nested = NULL;
    int r = json_nest(options, &nested, err);

    return r < 0 ? r : open_any(g, nested, flags, 0, ret_node, err);
}

int node_open_name(struct graph *g, const char *name, const char *format, unsigned flags,
                   struct node **ret_node, struct err *err)
{
    AUTO_JSON json_t *options = NULL;

    bool is_json = strncmp(name, "json:", 5) == 0;
    options = is_json ? json_object() : json_pack("{s:s}", "filename", name);
    if (!options) {
        return err_set(err, -EINVAL, "the file name '%s' is not UTF-8", name);
    }
    if (format) { /* wins over what a json: name says */
        json_object_set_new(options, "driver", json_string(format));
    }
    int r = is_json ? name_join_json(name, options, err) : 0;
    if (r < 0) {
        return r;
    }
    return open_any(g, options, flags, 0, ret_node, err);
}

int node_open_opts(struct graph *g, const char *text, unsigned flags, struct node **ret_node, struct err *err)
{
    AUTO_JSON json_t *flat = NULL;
    int r = json_from_keyvals(text, NULL, &flat, err);

    return r < 0 ? r : node_open(g, flat, flags, ret_node, err);
}

/* ---- asking ---- */

struct node *graph_find(struct graph *g, const char *name)
{
    struct node *n;

    list_for_each (n, &g->nodes, link) {
        if (n->name && strcmp(n->name, name) == 0) {
            return n;
        }
    }
    return NULL;
}

uint64_t node_size(const struct node *n)
{
    return n->size;
}

const char *node_name(const struct node *n)
{
    return n->name;
}

const char *node_filename(const struct node *n)
{
    return n->filename;
}

const char *node_driver_name(const struct node *n)
{
    return n->drv->name;
}

bool node_is_read_only(const struct node *n)
{
    return n->read_only;
}

unsigned node_children(const struct node *n)
{
    return n->nchildren;
}

struct node *node_child_at(const struct node *n, unsigned i, const char **ret_name)
{
    assert(i < n->nchildren);
    if (ret_name) {
        *ret_name = n->children[i].def->name;
    }
    return n->children[i].node;
}

struct node *node_child(const struct node *n, const char *name)
{
    for (unsigned i = 0; i < n->nchildren; i++) {
        if (strcmp(n->children[i].def->name, name) == 0) {
            return n->children[i].node;
        }
    }
    return NULL;
}

unsigned node_in_flight(const struct node *n)
{
    return n->gate.count;
}

int node_allocated_bytes(struct node *n, uint64_t *ret_bytes)
{
    if (n->drv->allocated_bytes) {
        return n->drv->allocated_bytes(n, ret_bytes);
    }
    return n->drv->kind != DRIVER_PROTOCOL && n->nchildren ? node_allocated_bytes(node_below(n), ret_bytes)
                                                           : -ENOTSUP;
}
