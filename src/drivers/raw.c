/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw: guest bytes are the file's bytes, optionally only a window of them. When its format was only
 * guessed, a write may not turn the first block into the header of another format: the next opening
 * would see a different disk (the lesson of CVE-2008-2004).
 */
#include "base/iov.h"
#include "block/driver.h"

struct raw {
    uint64_t offset, size;             /* options; size 0: all that follows */
    uint64_t shown_offset, shown_size; /* the last ones that fitted */
};

static const struct option raw_options[] = {
    {"offset", OPT_SIZE, offsetof(struct raw, offset), .runtime = true,
     .help = "bytes of the file to leave out at its beginning"},
    {"size", OPT_SIZE, offsetof(struct raw, size), .runtime = true,
     .help = "bytes to show; without it all that follow the offset"},
    {0},
};

static int raw_open(struct node *n, struct err *err)
{
    struct raw *raw = n->state;
    struct node *file = node_below(n);

    if (raw->offset > file->size) {
        return err_set(err, -EINVAL, "offset %llu lies beyond the end of '%s' (%llu bytes)",
                       (unsigned long long)raw->offset, file->filename, (unsigned long long)file->size);
    }
    if (raw->size > file->size - raw->offset) {
        return err_set(err, -EINVAL, "offset %llu and size %llu do not fit '%s' (%llu bytes)",
                       (unsigned long long)raw->offset, (unsigned long long)raw->size, file->filename,
                       (unsigned long long)file->size);
    }
    raw->shown_offset = raw->offset;
    raw->shown_size = raw->size;
    n->size = raw->size ? raw->size : file->size - raw->offset;
    n->limits = file->limits;
    n->limits.serialise = false;
    bool listens = file->drv->on_event != NULL; /* blkdebug: it wants to see what we are asked */
    if (raw->offset % n->limits.align || n->size % n->limits.align || listens) {
        n->limits.align = n->limits.zero_align = n->limits.discard_align = 1; /* the file's gate widens */
    }
    return 0;
}

static int raw_set(struct node *n, const char *option, struct err *err)
{
    struct raw *raw = n->state;
    int r = raw_open(n, err);

    (void)option;
    if (r < 0) {
        raw->offset = raw->shown_offset;
        raw->size = raw->shown_size;
    }
    return r;
}

static int raw_map(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *ret)
{
    const struct raw *raw = n->state;

    *ret = (struct mapping){
        .kind = MAP_DATA, .bytes = bytes, .node = node_below(n), .offset = raw->offset + offset};
    return 0;
}

/* Formats a probed raw image must not become. */
static bool becomes_a_format(const struct node *n, const struct req *r)
{
    uint8_t block[SECTOR_SIZE] = {0};
    size_t len = MIN(r->bytes, (uint64_t)sizeof(block));

    iov_to_buf(r->iov, r->niov, 0, block, len);
    for (int i = 0; drivers[i]; i++) {
        if (drivers[i] != n->drv && drivers[i]->probe && drivers[i]->probe(block, len, n->filename) > 1) {
            return true;
        }
    }
    return false;
}

static int raw_io(struct node *n, struct req *r)
{
    if (UNLIKELY(n->probed && r->op == REQ_WRITE && r->offset == 0 && becomes_a_format(n, r))) {
        return -EPERM;
    }
    return access_io(n, r);
}

static int raw_truncate(struct node *n, uint64_t size, unsigned flags, struct err *err)
{
    const struct raw *raw = n->state;
    struct req r = {.op = REQ_TRUNCATE, .offset = raw->offset + size, .flags = flags};

    if (raw->size) {
        return err_set(err, -ENOTSUP, "Cannot resize fixed-size raw disks");
    }
    if (size > BLOCK_SIZE_MAX - raw->offset) {
        return err_set(err, -EFBIG, "Disk size too large for the chosen offset");
    }
    int ret = node_io(node_below(n), &r);
    if (ret == 0) {
        n->size = node_below(n)->size - raw->offset;
    }
    return ret;
}

static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    (void)buf, (void)len, (void)filename;
    return 1; /* anything can be raw; everything else wins over it */
}

static int raw_measure(void *create_state, struct node *source, uint64_t size, uint64_t *ret_required,
                       uint64_t *ret_full, struct err *err)
{
    (void)create_state, (void)source;
    if (size > BLOCK_SIZE_MAX) {
        return err_set(err, -EFBIG, "The image size is too large");
    }
    *ret_required = *ret_full =
        round_up(size, SECTOR_SIZE); /* holes may cost nothing, but are not promised */
    return 0;
}

static const struct format_ops raw_format = {
    .transparent = true,
    .map = raw_map,
    .truncate = raw_truncate,
};

const struct driver driver_raw = {
    .name = "raw",
    .kind = DRIVER_FORMAT,
    .summary = "Plain bytes, or a window of them.",
    .options = raw_options,
    .children = (const struct child_def[]){{"file", CHILD_FILE, .required = true}, {0}},
    .state_size = sizeof(struct raw),
    .open = raw_open,
    .set = raw_set,
    .io = raw_io,
    .format = &raw_format,
    .probe = raw_probe,
    .measure = raw_measure,
};
