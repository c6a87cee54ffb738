/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands that open, close and resize the image. */
#include <unistd.h>

#include "base/json.h"
#include "block/driver.h"
#include "block/name.h"
#include "drivers/verify/verify.h"
#include "tools/io/io.h"

/* ---- what to open, as options ---- */

static const struct driver *filter_of(const json_t *options)
{
    const char *name = json_string_value(json_object_get(options, "driver"));
    const struct driver *d = name ? driver_find(name) : NULL;

    return d && d->kind == DRIVER_FILTER ? d : NULL;
}

static bool has_prefix_of(const struct driver *d, const char *name)
{
    for (const char *const *p = d->prefixes; p && *p; p++) {
        if (strncmp(name, *p, strlen(*p)) == 0) {
            return true;
        }
    }
    return false;
}

/* Beside the options of a filter: one with the filter's prefix says more of them; any other names what the
 * filter is about. What the options say already stays. */
static int add_filter_name(const struct driver *d, json_t *owner, const char *name, struct err *err)
{
    const struct child_def *def = d->children;
    AUTO_JSON json_t *named = json_object();
    int r = 0;

    while (def->role != CHILD_FILTERED) {
        def++;
    }
    if (has_prefix_of(d, name)) {
        r = d->parse_name(name, named, err);
    } else if (json_object_set_new(named, def->name, json_pack("{s:s}", "filename", name)) < 0) {
        r = err_set(err, -EINVAL, "the file name is not UTF-8");
    }
    json_t *child = json_object_get(owner, def->name);
    if (r == 0 && json_is_object(child) && !json_object_get(child, "file")) {
        json_object_update_missing(child, json_object_get(named, def->name));
    }
    return r == 0 ? json_object_update_missing(owner, named) : r;
}

/* A file name beside options: it belongs to the file child if that one is described there. */
static int add_name(json_t *options, const char *name, struct err *err)
{
    json_t *file = json_object_get(options, "file");
    json_t *owner = json_is_object(file) && json_object_get(file, "filename") == NULL ? file : options;
    const struct driver *filter = filter_of(owner);

    if (filter) {
        return add_filter_name(filter, owner, name, err);
    }
    return json_object_set_new(owner, "filename", json_string(name)) < 0
               ? err_set(err, -EINVAL, "the file name is not UTF-8")
               : 0;
}

static int options_of_text(const char *text, json_t **ret_options, struct err *err)
{
    AUTO_JSON json_t *flat = NULL;
    int r = json_from_keyvals(text, NULL, &flat, err);

    return r < 0 ? r : json_nest(flat, ret_options, err);
}

static int build_options(const struct io_open *how, json_t **ret_options, struct err *err)
{
    AUTO_JSON json_t *options = NULL;
    const char *text = how->image_opts ? how->name : how->options;
    bool is_json = !how->image_opts && how->name != NULL && strncmp(how->name, "json:", 5) == 0;
    int r = 0;

    if (text != NULL) {
        r = options_of_text(text, &options, err);
    } else {
        options = json_object();
    }
    if (r < 0) {
        return r;
    }
    if (how->format != NULL && json_object_get(options, "driver") == NULL &&
        json_object_set_new(options, "driver", json_string(how->format)) < 0) {
        return err_set(err, -EINVAL, "Unknown driver '%s'", how->format); /* not UTF-8 */
    }
    if (is_json) {
        r = name_join_json(how->name, options, err);
    } else if (!how->image_opts && how->name != NULL) {
        r = add_name(options, how->name, err);
    }
    if (r == 0) {
        *ret_options = TAKE_PTR(options);
    }
    return r;
}

/* Wishes that cannot be met together, or not yet. */
static int check_open(const struct io_open *how, struct err *err)
{
    if ((how->flags & OPEN_FORCE_SHARE) && (how->flags & OPEN_WRITE)) {
        return err_set(err, -EINVAL, "force-share=on can only be used with read-only images");
    }
    if (how->copy_on_read && !(how->flags & OPEN_WRITE)) {
        return err_set(err, -EINVAL, "Can't use copy-on-read on read-only device");
    }
    if (how->native_aio && !(how->flags & OPEN_DIRECT)) {
        return err_set(err, -EINVAL,
                       "aio=native was specified, but it requires cache.direct=on, which was not specified.");
    }
    return 0;
}

/* -U beside options that say otherwise. */
static bool share_conflicts(const struct io_open *how, const json_t *options)
{
    const json_t *share = json_object_get(options, "force-share");

    return (how->flags & OPEN_FORCE_SHARE) && share != NULL && !json_is_true(share) &&
           strcmp(json_string_value(share) ?: "", "on") != 0;
}

/* Held requests would wait for ever: no command could let them go. */
static int refuse_pause(const struct io *io, struct err *err)
{
    const struct node *n;

    list_for_each (n, &io->graph.nodes, link) {
        const struct option *o = n->drv->options != NULL ? option_find(n->drv->options, "on-mismatch") : NULL;
        if (o != NULL && verify_is(n) &&
            strcmp(o->values[*(int *)((char *)n->state + o->offset)], "pause") == 0) {
            return err_set(err, -EINVAL,
                           "on-mismatch=pause: here nobody could let the request go; blkproof serve can");
        }
    }
    return 0;
}

/* -C: the filter instead of what is open. */
static co_fn int put_filter(struct io *io, struct node **n, struct err *err)
{
    AUTO_JSON json_t *options = json_pack("{s:s, s:s}", "driver", "copy-on-read", "file", node_name(*n));
    struct node *filter;
    int r = options == NULL ? -ENOMEM : node_open(&io->graph, options, (*n)->flags, &filter, err);

    if (r == 0) {
        node_unref(*n);
        *n = filter;
    }
    return r;
}

int io_open_node(struct io *io, json_t *options, unsigned flags, struct err *err)
{
    AUTO_JSON json_t *given = json_deep_copy(options);
    struct node *n;

    if (given == NULL) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    int r = tool_verify_settings(given, &io->verify, err);
    if (r < 0 || (r = node_open(&io->graph, given, flags, &n, err)) < 0) {
        return r;
    }
    r = refuse_pause(io, err);
    if (r == 0 && io->copy_on_read && (flags & OPEN_WRITE)) {
        r = put_filter(io, &n, err);
    }
    if (r < 0) {
        node_unref(n);
        return r;
    }
    io->node = n;
    json_incref(options);
    json_decref(io->node_options);
    io->node_options = options;
    io->node_flags = flags;
    return 0;
}

static void drop_overlay(struct io *io)
{
    if (io->overlay_fd > 0) {
        close(io->overlay_fd);
        io->overlay_fd = 0;
    }
}

int io_open_file(struct io *io, const struct io_open *how)
{
    AUTO_JSON json_t *options = NULL;
    unsigned flags = how->flags;
    struct err err = {0};

    if (io->node != NULL) {
        tool_error(io->tool, "file open already, try 'help close'");
        return -EBUSY;
    }
    int r = build_options(how, &options, &err);
    if (r == 0 && share_conflicts(how, options)) {
        tool_error(io->tool, "-U conflicts with image options");
        return -EINVAL;
    }
    if (r == 0) {
        r = check_open(how, &err);
    }
    if (r == 0 && how->snapshot) {
        r = io_overlay(io, &options, &flags, &err);
    }
    if (r == 0) {
        io->copy_on_read = how->copy_on_read;
        r = tool_add_oracle(&options, &io->verify, &err);
    }
    if (r == 0) {
        r = io_open_node(io, options, flags, &err);
    }
    if (r < 0) {
        drop_overlay(io);
        bool named = how->name != NULL && !how->image_opts;
        tool_error(io->tool, "can't open%s%s: %s", named ? " device " : "", named ? how->name : "", err.text);
    }
    return r;
}

/* What a writable image still holds in caches goes down first, as QEMU does on closing. */
void io_close_file(struct io *io)
{
    if (io->node != NULL && io->aio_pending > 0) {
        node_unhold(io->node, true); /* what faults and breakpoints hold back would never come to its end */
    }
    io_aio_drain(io); /* what is in the background still needs the node */
    struct node *n = TAKE_PTR(io->node);
    if (n != NULL && !node_is_read_only(n)) {
        (void)node_flush(n);
    }
    node_unref(n);
    drop_overlay(io);
    json_decref(TAKE_PTR(io->node_options));
}

/* ---- open ---- */

static int cache_option(struct io *io, const char *mode, unsigned *flags)
{
    unsigned cache;

    if (tool_cache_flags(mode, &cache) < 0) {
        tool_error(io->tool, "Invalid cache option: %s", mode);
        return -EINVAL;
    }
    *flags = (*flags & ~(unsigned)(OPEN_DIRECT | OPEN_NO_FLUSH | OPEN_WRITETHROUGH)) | cache;
    return 0;
}

static int discard_option(struct io *io, const char *mode, unsigned *flags)
{
    unsigned discard;

    if (tool_discard_flags(mode, &discard) < 0) {
        tool_error(io->tool, "Invalid discard option: %s", mode);
        return -EINVAL;
    }
    *flags = (*flags & ~(unsigned)OPEN_UNMAP) | discard;
    return 0;
}

/* 0, -errno after printing why, or 1 for a usage error. */
static int open_option(struct io *io, struct io_open *how, int c)
{
    const char *engine;

    switch (c) {
    case 'C':
        how->copy_on_read = true;
        return 0;
    case 'd':
        return discard_option(io, optarg, &how->flags);
    case 'i':
        if (tool_aio_engine(optarg, &engine) < 0) {
            tool_error(io->tool, "Invalid aio option: %s", optarg);
            return -EINVAL;
        }
        how->native_aio = strcmp(optarg, "native") == 0;
        return 0;
    case 'k':
        how->native_aio = true;
        return 0;
    case 'n':
        return cache_option(io, "none", &how->flags);
    case 'o':
        if (io->image_opts) {
            puts("--image-opts and 'open -o' are mutually exclusive");
            return -EINVAL;
        }
        how->options = optarg;
        return 0;
    case 'r':
        how->flags &= ~(unsigned)OPEN_WRITE;
        return 0;
    case 's':
        how->snapshot = true;
        return 0;
    case 't':
        return cache_option(io, optarg, &how->flags);
    case 'U':
        how->flags |= OPEN_FORCE_SHARE;
        return 0;
    default:
        return 1;
    }
}

IO_COMMAND(io_cmd_open)
{
    struct io_open how = {.image_opts = io->image_opts, .flags = OPEN_WRITE | OPEN_WRITETHROUGH | OPEN_UNMAP};
    int c;

    while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
        int r = open_option(io, &how, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind < argc - 1) {
        return io_usage(cmd);
    }
    how.name = argv[optind]; /* NULL at the end */
    return io_open_file(io, &how);
}

IO_COMMAND(io_cmd_close)
{
    io_close_file(io);
    return 0;
}

/* ---- truncate ---- */

static int preallocation_flags(const char *mode, unsigned *ret_flags)
{
    static const struct {
        const char *mode;
        unsigned flags;
    } modes[] = {
        {"off", 0},
        {"metadata", REQ_PREALLOC_METADATA},
        {"falloc", REQ_PREALLOC_FALLOC},
        {"full", REQ_PREALLOC_FULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i].mode, mode) == 0) {
            *ret_flags = modes[i].flags;
            return 0;
        }
    }
    return -EINVAL;
}

IO_COMMAND(io_cmd_truncate)
{
    struct err err = {0};
    unsigned flags = 0;
    uint64_t size;
    int c, r;

    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c != 'm') {
            return io_usage(cmd);
        }
        if (preallocation_flags(optarg, &flags) < 0) {
            tool_error(io->tool, "Invalid preallocation mode '%s'", optarg);
            return -EINVAL;
        }
    }
    if (optind != argc - 1) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &size)) < 0) {
        return r;
    }
    r = node_truncate(io->node, size, flags, &err);
    if (r < 0) {
        tool_error(io->tool, "%s", err.text);
    }
    return r;
}
