/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cow: the User-Mode Linux COW format. Every version is read, and written in place; new files are
 * version 3. See layout.c for the headers and bitmap.c for the order of writes.
 */
#include "drivers/cow/cow.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "block/event.h"
#include "block/name.h"

#define C(m) offsetof(struct cow, m)
static const struct option cow_options[] = {
    {"check-backing", OPT_BOOL, C(check_backing), .def = "on",
     .help = "refuse a backing file whose size or time of last change is not the recorded one (on|off)"},
    {0},
};

/* ---- opening ---- */

struct stat_call {
    const char *path;
    struct stat st;
};

static int call_stat(void *arg)
{
    struct stat_call *c = arg;

    return stat(c->path, &c->st) < 0 ? -errno : 0;
}

int cow_mtime(struct node *backing, uint64_t *ret_seconds)
{
    struct stat_call c = {.path = node_filename(backing)};

    if (strncmp(c.path, "json:", 5) == 0 || name_driver(c.path)) {
        return -ENOTSUP;
    }
    int r = loop_work(call_stat, &c);
    if (r == 0) {
        *ret_seconds = (uint64_t)c.st.st_mtim.tv_sec;
    }
    return r;
}

static co_fn int check_backing(const struct cow *c, struct err *err)
{
    uint64_t mtime = 0;

    if (node_size(c->backing) != c->header.size) {
        return err_set(
            err, -EINVAL,
            "the backing file '%s' has %llu bytes, the COW header says %llu (check-backing=off ignores it)",
            node_filename(c->backing), (unsigned long long)node_size(c->backing),
            (unsigned long long)c->header.size);
    }
    int r = cow_mtime(c->backing, &mtime);
    if (r == 0 && (uint32_t)mtime != (uint32_t)c->header.mtime) {
        return err_set(
            err, -EINVAL,
            "the backing file '%s' was changed at %llu, the COW header says %llu (seconds since 1970; "
            "check-backing=off ignores it)",
            node_filename(c->backing), (unsigned long long)mtime, (unsigned long long)c->header.mtime);
    }
    return 0; /* what has no time of change cannot be checked */
}

static co_fn int open_backing(struct node *n, struct err *err)
{
    struct cow *c = n->state;

    c->backing = node_child(n, "backing");
    if (!c->backing && !(n->flags & OPEN_NO_BACKING) && !node_backing_given(n)) {
        AUTO_FREE char *path = NULL;
        int r =
            name_inside_image(n->graph, node_filename(c->file), c->backing_path, "backing file", &path, err);
        AUTO_JSON json_t *options = r < 0 ? NULL : json_pack("{s:s, s:s}", "driver", "raw", "filename", path);
        if (r == 0) {
            r = options ? node_add_backing(n, options, err)
                        : err_set(err, -EINVAL, "the name of the backing file is not UTF-8");
        }
        if (r < 0) {
            return err_prefix(err, "Could not open backing file: ");
        }
        c->backing = node_child(n, "backing");
    }
    return c->backing && c->check_backing ? check_backing(c, err) : 0;
}

static co_fn int read_header(struct cow *c, struct err *err)
{
    uint8_t buf[COW_HEADER_BYTES_MAX] = {0};
    size_t len = MIN(node_size(c->file), (uint64_t)sizeof(buf));
    int r = node_read(c->file, 0, buf, len);

    if (r < 0) {
        return err_set_errno(err, r, "Could not read the COW header");
    }
    r = cow_recognise(buf, len, &c->layout, err);
    if (r == 0 && len < cow_layouts[c->layout].bytes) {
        r = err_set(err, -EINVAL, "the file ends within its COW header");
    }
    return r < 0 ? r : cow_parse(c->layout, buf, &c->header, &c->backing_path, err);
}

static int cow_open(struct node *n, struct err *err)
{
    struct cow *c = n->state;

    c->file = node_below(n);
    int r = read_header(c, err);
    if (r < 0) {
        return r;
    }
    c->geo = cow_geometry(c->layout, &c->header);
    if (c->header.size > BLOCK_SIZE_MAX - c->geo.data_offset) {
        return err_set(err, -EFBIG, "COW header: the size %llu is out of range",
                       (unsigned long long)c->header.size);
    }
    if (cow_bitmap_init(c) < 0) {
        return err_set(err, -ENOMEM, "no memory for the bitmap");
    }
    n->size = c->header.size;
    n->limits.align = (uint32_t)c->header.sector_bytes;
    return open_backing(n, err);
}

static void cow_close(struct node *n)
{
    struct cow *c = n->state;

    if (c->pages) {
        if (!n->read_only) {
            cow_bitmap_flush(c); /* a failure has nobody to tell: the sectors stay unflushed, as they were */
        }
        cow_bitmap_finish(c);
    }
    free(TAKE_PTR(c->backing_path));
}

/* ---- the format ---- */

static int cow_map(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *ret)
{
    struct cow *c = n->state;
    uint64_t unit = c->header.sector_bytes, run;
    bool present;
    int r = cow_bitmap_run(c, offset / unit, div_up(offset % unit + bytes, unit), &run, &present);

    if (r < 0) {
        return r;
    }
    *ret = (struct mapping){
        .kind = present ? MAP_DATA : MAP_BACKING,
        .bytes = MIN(bytes, run * unit - offset % unit),
        .node = present ? c->file : c->backing,
        .offset = present ? c->geo.data_offset + offset : offset,
    };
    return 0;
}

static int cow_alloc(struct node *n, uint64_t offset, uint64_t bytes, struct placement *ret)
{
    struct cow *c = n->state;
    uint64_t unit = c->header.sector_bytes;
    int r = cow_bitmap_covers(c, offset / unit, div_up(bytes, unit));

    if (r == 0) {
        *ret = (struct placement){.guest_offset = offset,
                                  .bytes = bytes,
                                  .node = c->file,
                                  .offset = c->geo.data_offset + offset,
                                  .fresh = true};
    }
    return r;
}

static int cow_commit(struct node *n, struct placement *p)
{
    struct cow *c = n->state;
    uint64_t unit = c->header.sector_bytes;

    return cow_bitmap_set(c, p->guest_offset / unit, div_up(p->bytes, unit));
}

static void cow_abort(struct node *n, struct placement *p)
{
    (void)n, (void)p; /* places are fixed: nothing was taken */
}

static int cow_unmap(struct node *n, uint64_t offset, uint64_t bytes, bool discard, unsigned flags)
{
    struct cow *c = n->state;
    uint64_t unit = c->header.sector_bytes;

    if (discard) {
        return -ENOTSUP; /* a bit cannot be taken back without showing the backing file's content */
    }
    int r = cow_bitmap_covers(c, offset / unit, div_up(bytes, unit));
    r = r < 0 ? r : node_zero(c->file, c->geo.data_offset + offset, bytes, (flags & REQ_UNMAP) | REQ_GROW);
    return r < 0 ? r : cow_bitmap_set(c, offset / unit, div_up(bytes, unit));
}

static int cow_flush(struct node *n)
{
    struct cow *c = n->state;
    int r = cow_bitmap_flush(c);

    if (r < 0) {
        return r;
    }
    node_flush_to_disk(n);
    return node_flush(c->file);
}

static int cow_probe(const uint8_t *buf, size_t len, const char *filename)
{
    enum cow_layout layout;

    (void)filename;
    return cow_recognise(buf, len, &layout, NULL) == -EINVAL ? 0 : 100;
}

static json_t *cow_info(struct node *n)
{
    const struct cow *c = n->state;

    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "layout", cow_layouts[c->layout].name, "sector-size",
                     (json_int_t)c->header.sector_bytes, "backing-mtime", (json_int_t)c->header.mtime,
                     "bitmap-offset", (json_int_t)c->geo.bitmap_offset, "data-offset",
                     (json_int_t)c->geo.data_offset);
}

static json_t *cow_image_info(struct node *n)
{
    const struct cow *c = n->state;

    return json_pack("{s:s, s:s}", "backing-filename", c->backing_path, "backing-filename-format", "raw");
}

static const struct format_ops cow_format = {
    .map = cow_map,
    .alloc = cow_alloc,
    .commit = cow_commit,
    .abort = cow_abort,
    .unmap = cow_unmap,
    .flush = cow_flush,
};

const struct driver driver_cow = {
    .name = "cow",
    .kind = DRIVER_FORMAT,
    .summary = "The copy-on-write format of User-Mode Linux.",
    .options = cow_options,
    .children =
        (const struct child_def[]){{"file", CHILD_FILE, .required = true}, {"backing", CHILD_BACKING}, {0}},
    .state_size = sizeof(struct cow),
    .open = cow_open,
    .close = cow_close,
    .format = &cow_format,
    .probe = cow_probe,
    .create_options = cow_create_options,
    .create_state_size = sizeof(struct cow_create),
    .create = cow_create,
    .info = cow_info,
    .image_info = cow_image_info,
};
