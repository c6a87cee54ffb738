/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command reopen. What can be changed on the open node is; only what its descriptor was opened
 * with (read-only or not, O_DIRECT) needs a new one, and then the old state is opened again if the new
 * one cannot be.
 */
#include <unistd.h>

#include "base/json.h"
#include "block/driver.h"
#include "tools/io/io.h"

#define CACHE_FLAGS (OPEN_DIRECT | OPEN_NO_FLUSH | OPEN_WRITETHROUGH)

struct changes {
    bool has_access, has_cache;
    unsigned flags; /* wanted; of what is not given: as now */
    const char *options_text;
};

static int parse_bool(const json_t *value, bool *ret)
{
    const char *s = json_string_value(value) ?: "";

    if (strcmp(s, "on") == 0 || strcmp(s, "yes") == 0 || strcmp(s, "true") == 0) {
        *ret = true;
        return 0;
    }
    if (strcmp(s, "off") == 0 || strcmp(s, "no") == 0 || strcmp(s, "false") == 0) {
        *ret = false;
        return 0;
    }
    return -EINVAL;
}

/* One of the options every node has. 1: it is none of them. */
static int generic_option(struct changes *ch, const char *key, const json_t *value, struct err *err)
{
    static const struct {
        const char *key;
        unsigned flag;
        bool inverted;
    } generic[] = {
        {"read-only", OPEN_WRITE, true},
        {"cache.direct", OPEN_DIRECT, false},
        {"cache.no-flush", OPEN_NO_FLUSH, false},
        {"cache.writeback", OPEN_WRITETHROUGH, true},
        {"auto-read-only", 0, false}, /* nothing here falls back by itself */
    };
    bool on;

    for (size_t i = 0; i < ARRAY_SIZE(generic); i++) {
        if (strcmp(generic[i].key, key) != 0) {
            continue;
        }
        if (i == 0 && ch->has_access) {
            return err_set(err, -EINVAL, "Cannot set both -r/-w and 'read-only'");
        }
        if (strncmp(key, "cache.", 6) == 0 && ch->has_cache) {
            return err_set(err, -EINVAL, "Cannot set both -c and the cache options");
        }
        if (parse_bool(value, &on) < 0) {
            return err_set(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", key);
        }
        ch->flags = on != generic[i].inverted ? ch->flags | generic[i].flag : ch->flags & ~generic[i].flag;
        return 0;
    }
    return 1;
}

/* The node that "file.offset" belongs to; @key becomes "offset". */
static struct node *owner_of(struct node *n, const char **key)
{
    const char *dot;

    while ((dot = strchr(*key, '.')) != NULL) {
        AUTO_FREE char *name = strndup(*key, (size_t)(dot - *key));
        struct node *child = name != NULL ? node_child(n, name) : NULL;
        if (child == NULL) {
            break;
        }
        n = child;
        *key = dot + 1;
    }
    return n;
}

static bool is_unchanged(const struct node *n, const char *key, json_t *value)
{
    if (strcmp(key, "driver") == 0 || strcmp(key, "node-name") == 0) {
        const char *now = *key == 'd' ? node_driver_name(n) : node_name(n);
        return strcmp(json_string_value(value) ?: "", now) == 0;
    }
    return false;
}

/* An option of the driver, where that can be changed. @apply: change it, else only look. */
static co_fn int driver_option(struct node *n, const char *key, json_t *value, bool apply, struct err *err)
{
    n = owner_of(n, &key);
    const struct option *o = n->drv->options != NULL ? option_find(n->drv->options, key) : NULL;

    if (is_unchanged(n, key, value)) {
        return 0;
    }
    if (o == NULL || !o->runtime) {
        return err_set(err, -EINVAL, "Cannot change the option '%s'", key);
    }
    int r = apply ? option_set(o, n->state, value, err) : 0;
    return r == 0 && apply && n->drv->set != NULL ? n->drv->set(n, key, err) : r;
}

/* Everything is looked at before anything is changed. */
static co_fn int check_options(struct io *io, struct changes *ch, json_t *options, bool apply,
                               struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(options, key, value)
    {
        int r = generic_option(ch, key, value, err);
        if (r == 1) {
            r = driver_option(io->node, key, value, apply, err);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void set_flag_below(struct node *n, unsigned flag, bool on)
{
    n->flags = on ? n->flags | flag : n->flags & ~flag;
    for (unsigned i = 0; i < node_children(n); i++) {
        set_flag_below(node_child_at(n, i, NULL), flag, on);
    }
}

/* Without a new descriptor: refuse writes from now on, or allow them where they once were. */
static void change_in_place(struct io *io, unsigned flags)
{
    struct node *n = io->node;

    n->read_only = !(flags & OPEN_WRITE);
    n->flags = (n->flags & ~(unsigned)OPEN_WRITETHROUGH) | (flags & OPEN_WRITETHROUGH);
    set_flag_below(n, OPEN_NO_FLUSH, flags & OPEN_NO_FLUSH);
}

static co_fn int open_anew(struct io *io, unsigned flags, struct err *err)
{
    AUTO_JSON json_t *options = json_incref(io->node_options);
    unsigned old_flags = io->node_flags;
    struct err again = {0};

    node_unref(TAKE_PTR(io->node));
    int r = io_open_node(io, options, flags, err);
    if (r < 0 && io_open_node(io, options, old_flags, &again) < 0) {
        err_prefix(err,
                   "the image is closed now, as it cannot be opened as before either (%s): ", again.text);
    }
    return r;
}

static co_fn int apply_changes(struct io *io, const struct changes *ch, struct err *err)
{
    io_aio_drain(io);
    if (!node_is_read_only(io->node)) {
        int r = node_flush(io->node);
        if (r < 0) {
            return err_set_errno(err, r, "Error flushing drive");
        }
    }
    bool gains_write = (ch->flags & OPEN_WRITE) && !(io->node_flags & OPEN_WRITE);
    if (gains_write || ((ch->flags ^ io->node_flags) & OPEN_DIRECT)) {
        return open_anew(io, ch->flags, err);
    }
    change_in_place(io, ch->flags);
    return 0;
}

static int refuse(struct io *io, const struct err *err)
{
    tool_error(io->tool, "%s", err->text);
    return err->code;
}

/* 0, -errno after printing why, or 1 for a usage error. */
static int reopen_option(struct io *io, struct changes *ch, int c)
{
    unsigned cache;

    switch (c) {
    case 'c':
        if (tool_cache_flags(optarg, &cache) < 0) {
            tool_error(io->tool, "Invalid cache option: %s", optarg);
            return -EINVAL;
        }
        ch->flags = (ch->flags & ~(unsigned)CACHE_FLAGS) | cache;
        ch->has_cache = true;
        return 0;
    case 'o':
        ch->options_text = optarg;
        return 0;
    case 'r':
    case 'w':
        if (ch->has_access) {
            tool_error(io->tool, "Only one -r/-w option may be given");
            return -EINVAL;
        }
        ch->flags = c == 'w' ? ch->flags | OPEN_WRITE : ch->flags & ~(unsigned)OPEN_WRITE;
        ch->has_access = true;
        return 0;
    default:
        return 1;
    }
}

/* What the image is open with now. */
static unsigned flags_now(const struct io *io)
{
    unsigned flags = io->node_flags & ~(unsigned)(OPEN_WRITE | OPEN_NO_FLUSH | OPEN_WRITETHROUGH);

    return flags | (io->node->flags & (OPEN_NO_FLUSH | OPEN_WRITETHROUGH)) |
           (node_is_read_only(io->node) ? 0 : OPEN_WRITE);
}

IO_COMMAND(io_cmd_reopen)
{
    AUTO_JSON json_t *options = NULL;
    struct changes ch = {.flags = flags_now(io)};
    struct err err = {0};
    int c, r;

    while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
        r = reopen_option(io, &ch, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind != argc) {
        return io_usage(cmd);
    }
    if (ch.options_text != NULL && ((r = json_from_keyvals(ch.options_text, NULL, &options, &err)) < 0 ||
                                    (r = check_options(io, &ch, options, false, &err)) < 0)) {
        return refuse(io, &err);
    }
    if ((r = apply_changes(io, &ch, &err)) < 0 || (r = check_options(io, &ch, options, true, &err)) < 0) {
        return refuse(io, &err);
    }
    return 0;
}
