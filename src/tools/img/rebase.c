/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img rebase: give an image another backing file. Safe: what the old and the new one hold differently
 * where the image has nothing of its own is written into it first. Unsafe (-u): only the name changes.
 */
#include "base/json.h"
#include "block/driver.h"
#include "block/name.h"
#include "tools/img/img.h"

#define PIECE_BYTES (2 * MiB) /* at least one cluster */

struct rebase {
    struct img *img;
    struct node *top, *old, *new; /* backing files; NULL: none */
    uint64_t compress_bytes;      /* compress whole units of this; 0: do not */
    struct img_progress progress;
};

static int prepare(struct img *img)
{
    const struct img_args *a = &img->a;

    if (a->backing == NULL && !a->unsafe) {
        return img_usage_error(img, "Must specify backing file (-b) or use unsafe mode (-u)");
    }
    if (a->format2 && driver_find(a->format2) == NULL) {
        img_error(img, "Invalid format name: '%s'", a->format2);
        return 1;
    }
    return -1;
}

/* As the image will name it. */
static co_fn int open_new(struct rebase *b, unsigned flags)
{
    struct img *img = b->img;
    AUTO_FREE char *path = NULL;
    struct graph trusting = {.trust_image_names = true}; /* the user gave the name, not an image */
    struct err err = {0};

    if (*img->a.backing == '\0') {
        return 0;
    }
    int r = name_inside_image(&trusting, node_filename(b->top), img->a.backing, "backing file", &path, &err);
    r = r < 0 ? r : node_open_name(&img->graph, path, img->a.format2, flags, &b->new, &err);
    if (r < 0) {
        img_error(img, "Could not open new backing file '%s': %s", img->a.backing, err.text);
    }
    return r;
}

/* ---- keeping the content ---- */

/* Past its end, and where there is none, are zeroes. */
static co_fn int read_from(struct node *n, uint64_t at, char *buf, uint64_t bytes)
{
    uint64_t have = n && at < node_size(n) ? MIN(bytes, node_size(n) - at) : 0;

    memset(buf + have, 0, bytes - have);
    return have ? node_read(n, at, buf, have) : 0;
}

/* Units of the same kind from @at on: *ret_differ. */
static uint64_t run_of(const char *x, const char *y, uint64_t at, uint64_t bytes, uint64_t unit,
                       bool *ret_differ)
{
    uint64_t end = at;

    for (; end < bytes; end += MIN(unit, bytes - end)) {
        bool differ = memcmp(x + end, y + end, MIN(unit, bytes - end)) != 0;
        if (end == at) {
            *ret_differ = differ;
        } else if (differ != *ret_differ) {
            break;
        }
    }
    return end - at;
}

/* Only whole clusters can be compressed; the last one ends with the disk. */
static bool may_compress(const struct rebase *b, uint64_t at, uint64_t bytes)
{
    uint64_t end = at + bytes;

    return b->compress_bytes && at % b->compress_bytes == 0 &&
           (end % b->compress_bytes == 0 || end == node_size(b->top));
}

static co_fn int keep_piece(struct rebase *b, uint64_t at, uint64_t bytes, char *was, char *will)
{
    bool compress = may_compress(b, at, bytes);
    uint64_t unit = compress ? b->compress_bytes : SECTOR_SIZE;
    int r = read_from(b->old, at, was, bytes);

    r = r < 0 ? r : read_from(b->new, at, will, bytes);
    for (uint64_t done = 0, part; r == 0 && done < bytes; done += part) {
        bool differ = false;
        part = run_of(was, will, done, bytes, unit, &differ);
        if (differ && buffer_is_zero(was + done, part)) {
            r = node_zero(b->top, at + done, part, 0);
        } else if (differ) {
            r = node_write(b->top, at + done, was + done, part, compress ? REQ_COMPRESSED : 0);
        }
    }
    return r;
}

/* From @at on, at most @bytes: what the image has itself, or what it has not, whatever is below. */
static co_fn int own_run(struct rebase *b, uint64_t at, uint64_t bytes, uint64_t *ret_bytes, bool *ret_own)
{
    uint64_t done = 0;

    while (done < bytes) {
        struct extent x;
        int r = node_status(b->top, at + done, bytes - done, &x);
        if (r < 0) {
            return r;
        }
        bool own = x.allocated && x.depth == 0;
        if (done > 0 && own != *ret_own) {
            break;
        }
        *ret_own = own;
        done += x.bytes;
    }
    *ret_bytes = done;
    return 0;
}

static co_fn int keep_all(struct rebase *b)
{
    uint64_t size = node_size(b->top);
    char *was = buf_get(PIECE_BYTES), *will = buf_get(PIECE_BYTES);
    int r = was && will ? 0 : -ENOMEM;

    for (uint64_t at = 0, bytes = 0; r == 0 && at < size; at += bytes) {
        bool own = false;
        r = own_run(b, at, MIN(size - at, PIECE_BYTES), &bytes, &own);
        if (r == 0 && !own) {
            r = keep_piece(b, at, bytes, was, will);
        }
        img_progress_add(&b->progress, r == 0 ? bytes : 0);
    }
    buf_put(was, PIECE_BYTES);
    buf_put(will, PIECE_BYTES);
    return r < 0 ? r : node_flush(b->top); /* before the old one is forgotten */
}

static co_fn int compress_setup(struct rebase *b)
{
    const struct driver *d = b->top->drv;
    AUTO_JSON json_t *facts = d->image_info ? d->image_info(b->top) : NULL;
    json_int_t cluster = json_integer_value(json_object_get(facts, "cluster-size"));

    if (!d->format || !d->format->write_compressed || cluster <= 0 || cluster > (json_int_t)PIECE_BYTES) {
        img_error(b->img, "Compression not supported for this file format");
        return -ENOTSUP;
    }
    b->compress_bytes = (uint64_t)cluster;
    return 0;
}

static co_fn int make_safe(struct rebase *b, unsigned flags)
{
    struct img *img = b->img;
    int r = open_new(b, flags);

    if (r < 0) {
        return r;
    }
    b->old = node_child(b->top, "backing");
    img_progress_start(&b->progress, img->a.progress && !img->a.quiet, node_size(b->top), 1);
    r = keep_all(b);
    img_progress_end(&b->progress, r == 0);
    if (r < 0) {
        img_error(img, "error while keeping the content of '%s': %s", img->argv[0], err_name(r));
    }
    return r;
}

/* ---- the name ---- */

static co_fn int change_name(const struct rebase *b)
{
    const struct img *img = b->img;
    const char *name = img->a.backing ? img->a.backing : "";
    const struct driver *d = b->top->drv;

    if (*name && !img->a.format2) {
        img_error(img, "Could not change the backing file to '%s': backing format must be specified", name);
        return -EINVAL;
    }
    int r = d->change_backing ? d->change_backing(b->top, name, img->a.format2) : -ENOTSUP;
    if (r < 0) {
        img_error(img, "Could not change the backing file to '%s': %s", name,
                  r == -ENOSPC ? "No space left in the file header" : err_name(r));
    }
    return r;
}

static co_fn int run(struct img *img)
{
    struct rebase b = {.img = img};
    unsigned flags = 0, src_flags = 0;

    if ((img->a.cache && img_cache_flags(img, img->a.cache, "cache option", &flags) < 0) ||
        (img->a.src_cache && img_cache_flags(img, img->a.src_cache, "source cache option", &src_flags) < 0)) {
        return 1;
    }
    flags |= OPEN_WRITE | (img->a.unsafe ? OPEN_NO_BACKING : 0);
    int r = img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags, &b.top);
    if (r == 0 && img->a.compress) {
        r = compress_setup(&b);
    }
    if (r == 0 && !img->a.unsafe && b.top->drv->change_backing) {
        r = make_safe(&b, src_flags);
    }
    r = r < 0 ? r : change_name(&b);
    node_unref(b.new);
    node_unref(b.top);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    {'b', "backing", IMG_ARG_STRING, IMG_FIELD(backing), "FILE", "the new backing file; '' for none"},
    {'F', "backing-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT", "format of the new backing file"},
    {'c', "compress", IMG_ARG_FLAG, IMG_FIELD(compress), NULL, "compress what is written into the image"},
    {'u', "backing-unsafe", IMG_ARG_FLAG, IMG_FIELD(unsafe), NULL, "change the name only"},
    IMG_ARG_FORMAT,
    IMG_ARG_CACHE,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_rebase = {
    .name = "rebase",
    .synopsis = "IMAGE",
    .summary = "Change the backing file of an image",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
