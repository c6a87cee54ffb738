/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file: regular files and host block devices, through the loop's engine. Discard and zero go by
 * fallocate(2); what the file system cannot do falls back to written zeroes at the gate. Two
 * processes that would both write are kept apart by QEMU's locks (lock.c).
 */
#include "drivers/file/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/iov.h"
#include "base/json.h"
#include "block/own.h"

enum { LOCKING_AUTO, LOCKING_ON, LOCKING_OFF };

struct file {
    char *filename;
    int locking, aio;
    bool drop_cache;
    struct lfile *f;
    uint64_t real_size;     /* what the host says; the node's is rounded up for O_DIRECT */
    bool no_punch, no_zero; /* the file system said EOPNOTSUPP */
    /* The last run of data that the host told of: it looks through the whole run each time it is
     * asked, and the clusters of a format ask one by one. Data that meanwhile became a hole behind our back
     * is read as the zeroes that it is; what we do to it ourselves forgets the run. */
    uint64_t data_start, data_end;
    unsigned data_epoch;
};

static const char *const locking_values[] = {"auto", "on", "off", NULL};
static const char *const aio_values[] = {"threads", "native", "io_uring", NULL};

static const struct option file_options[] = {
    {"filename", OPT_STRING, offsetof(struct file, filename), .required = true,
     .help = "path of a regular file or host block device"},
    {"locking", OPT_ENUM, offsetof(struct file, locking), .def = "auto", .values = locking_values,
     .help = "take QEMU's byte-range locks: auto and on do, off does not"},
    {"aio", OPT_ENUM, offsetof(struct file, aio), .def = "threads", .values = aio_values,
     .help = "accepted as QEMU's option; the engine decides (--engine)"},
    {"drop-cache", OPT_BOOL, offsetof(struct file, drop_cache), .def = "on",
     .help = "accepted as QEMU's option; has no effect"},
    {0},
};

/* ---- opening ---- */

static int open_error(const struct node *n, const struct file *s, int r, struct err *err)
{
    if (r == -EISDIR || r == -ENOTBLK) {
        return err_set(err, r, "'%s' is %s: expected a regular file or a block device", s->filename,
                       r == -EISDIR ? "a directory" : "neither file nor disk");
    }
    if (r == -EINVAL && (n->flags & OPEN_DIRECT)) {
        return err_set(err, r, "file system of '%s' may not support O_DIRECT", s->filename);
    }
    return err_set_errno(err, r, "Could not open '%s'", s->filename);
}

static co_fn int open_file(struct node *n, struct err *err)
{
    struct file *s = n->state;
    int flags = (n->read_only ? O_RDONLY : O_RDWR) | (n->flags & OPEN_DIRECT ? O_DIRECT : 0);
    const char *path = strncmp(s->filename, "file:", 5) == 0 ? s->filename + 5 : s->filename;
    int r = graph_refuse_own(n->graph, path, err);

    if (r < 0) {
        return r;
    }
    r = lfile_open(path, flags, 0, &s->f);
    return r < 0 ? open_error(n, s, r, err) : 0;
}

static int lock_file(struct node *n, struct err *err)
{
    struct file *s = n->state;
    int fd = lfile_fd(s->f);

    if (fd < 0 || s->locking == LOCKING_OFF || (n->flags & OPEN_FORCE_SHARE)) {
        return 0;
    }
    /* A format with metadata of its own (OPEN_RESIZE) is not readable while another writes it. */
    return file_lock(fd, s->filename, !n->read_only, !n->read_only || (n->flags & OPEN_RESIZE), err);
}

/* O_DIRECT reaches whole units only: the last one counts whole. */
static co_fn int refresh_size(struct node *n)
{
    struct file *s = n->state;
    int r = lfile_size(s->f, &s->real_size);

    if (r == 0) {
        n->size = s->real_size > BLOCK_SIZE_MAX ? BLOCK_SIZE_MAX : round_up(s->real_size, n->limits.align);
    }
    return r;
}

static int file_open(struct node *n, struct err *err)
{
    struct file *s = n->state;
    int r = open_file(n, err);

    if (r < 0 || (r = lock_file(n, err)) < 0) {
        return r;
    }
    n->limits.align = lfile_align(s->f);
    n->limits.mem_align = lfile_align(s->f);
    n->limits.supported = REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK;
    if ((lfile_caps(s->f) & LFILE_MEMORY) && n->limits.align == 1) {
        n->limits.supported |= REQ_COMPARE;
    }
    n->limits.zero_align = n->limits.discard_align = lfile_caps(s->f) & LFILE_BLOCK ? SECTOR_SIZE : 1;
    r = refresh_size(n);
    return r < 0 ? err_set_errno(err, r, "Could not tell the size of '%s'", s->filename) : 0;
}

static void file_close(struct node *n)
{
    struct file *s = n->state;

    if (s->f && lfile_fd(s->f) >= 0) { /* none on a simulated disk */
        file_unlock(lfile_fd(s->f));
    }
    lfile_close(TAKE_PTR(s->f));
}

/* ---- requests ---- */

static co_fn int try_fallocate(struct file *s, int mode, uint64_t offset, uint64_t bytes, bool *unsupported)
{
    if (*unsupported) {
        return -ENOTSUP;
    }
    int r = lfile_fallocate(s->f, mode, offset, bytes);
    if (r == -EOPNOTSUPP || r == -ENOSYS || r == -ENODEV) {
        *unsupported = true;
        return -ENOTSUP;
    }
    /* Block devices refuse what is not a multiple of their sectors; so does nobody else. */
    return r == -EINVAL ? -ENOTSUP : r;
}

/* fallocate keeps the size: a zeroed range that reaches past the end needs the file longer. Its last
 * unit is written for that; truncating would cut off what another write, not yet complete, has put
 * behind it. */
static co_fn int grow_to(struct file *s, uint64_t end)
{
    static const char zeroes[4096] __attribute__((aligned(4096)));
    uint32_t align = lfile_align(s->f);

    if (end <= s->real_size || (lfile_caps(s->f) & LFILE_BLOCK) || align > sizeof(zeroes)) {
        return 0;
    }
    struct iovec iov = {(void *)zeroes, align};
    int r = lfile_write(s->f, &iov, 1, end - align, 0);
    if (r == 0) {
        s->real_size = MAX(s->real_size, end);
    }
    return r;
}

static co_fn int file_zero(struct file *s, const struct req *r)
{
    int ret = -ENOTSUP;

    if (r->flags & REQ_UNMAP) {
        ret = try_fallocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r->offset, r->bytes, &s->no_punch);
    }
    if (ret == -ENOTSUP) {
        ret = try_fallocate(s, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, r->offset, r->bytes, &s->no_zero);
    }
    if (ret == -ENOTSUP && !(r->flags & REQ_NO_FALLBACK) && !s->no_punch) {
        /* tmpfs punches holes but zeroes no ranges: punch, then allocate again */
        ret = try_fallocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r->offset, r->bytes, &s->no_punch);
        if (ret == 0 && !(r->flags & REQ_UNMAP)) {
            ret = lfile_fallocate(s->f, FALLOC_FL_KEEP_SIZE, r->offset, r->bytes);
            ret = ret == -EOPNOTSUPP ? 0 : ret; /* it reads as zeroes, that is what matters */
        }
    }
    return ret == 0 ? grow_to(s, r->offset + r->bytes) : ret;
}

static co_fn int file_discard(struct file *s, const struct req *r)
{
    uint64_t end = MIN(r->offset + r->bytes, s->real_size);

    if (r->offset >= end) {
        return 0;
    }
    return try_fallocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r->offset, end - r->offset,
                         &s->no_punch);
}

static unsigned lfile_flags(const struct req *r)
{
    return (r->flags & REQ_FUA ? LFILE_SYNC : 0) | (r->flags & REQ_BULK ? LFILE_BULK : 0);
}

static void forget_data(struct file *s)
{
    s->data_start = s->data_end = 0;
    s->data_epoch++; /* an answer on its way is out of date, too */
}

static co_fn int data_or_hole(struct file *s, uint64_t offset, unsigned flags,
                              struct lfile_extent *ret_extent)
{
    unsigned epoch = s->data_epoch;

    if (offset >= s->data_start && offset < s->data_end) {
        *ret_extent = (struct lfile_extent){.bytes = s->data_end - offset, .hole = false};
        return 0;
    }
    int ret = lfile_extent(s->f, offset, flags, ret_extent);
    if (ret == 0 && !ret_extent->hole && !ret_extent->more && epoch == s->data_epoch) {
        s->data_start = offset;
        s->data_end = offset + ret_extent->bytes;
    }
    return ret;
}

static co_fn int file_status(struct node *n, const struct req *r)
{
    struct file *s = n->state;
    struct lfile_extent x;

    *r->extent = (struct extent){.bytes = r->bytes,
                                 .data = true,
                                 .allocated = true,
                                 .has_offset = true,
                                 .offset = r->offset,
                                 .file = n};
    if (lfile_caps(s->f) & LFILE_BLOCK) {
        return 0;
    }
    int ret = r->offset < s->real_size ? data_or_hole(s, r->offset, lfile_flags(r), &x) : -ENXIO;
    if (ret == 0) {
        r->extent->bytes = MIN(x.bytes, r->bytes);
        r->extent->data = !x.hole;
        r->extent->zero = x.hole;
    } else if (ret == -ENXIO) { /* past what the host stores */
        r->extent->data = false;
        r->extent->zero = true;
    }
    return 0; /* a file system that cannot tell: all data */
}

static co_fn int preallocate(struct node *n, uint64_t from, uint64_t to, unsigned flags)
{
    struct file *s = n->state;

    if (flags & REQ_PREALLOC_FALLOC) {
        int r = lfile_fallocate(s->f, 0, from, to - from);
        return r == -EOPNOTSUPP ? -ENOTSUP : r;
    }
    static const char zeroes[64 * KiB] __attribute__((aligned(4096)));
    struct iovec iov[16]; /* the same zeroes, over and over */
    for (uint64_t at = from; at < to;) {
        uint64_t end = at;
        int niov = 0;
        for (; niov < (int)ARRAY_SIZE(iov) && end < to; end += iov[niov++].iov_len) {
            iov[niov] = (struct iovec){(void *)zeroes, MIN(to - end, sizeof(zeroes))};
        }
        int r = lfile_write(s->f, iov, niov, at, 0);
        if (r < 0) {
            return r;
        }
        at = end;
    }
    return lfile_sync(s->f);
}

static co_fn int file_truncate(struct node *n, const struct req *r)
{
    struct file *s = n->state;
    uint64_t before = s->real_size;

    if (r->flags & REQ_PREALLOC_METADATA) {
        return -ENOTSUP; /* plain bytes have none */
    }
    if (lfile_caps(s->f) & LFILE_BLOCK) {
        int ret = refresh_size(n);
        bool fits = r->flags & REQ_EXACT ? r->offset == n->size : r->offset <= n->size;
        return ret < 0 ? ret : fits ? 0 : -ENOTSUP;
    }
    if (r->offset > before && (r->flags & REQ_PREALLOC_METADATA)) {
        return -ENOTSUP; /* there is none */
    }
    int ret = 0;
    if (r->offset > before && (r->flags & (REQ_PREALLOC_FALLOC | REQ_PREALLOC_FULL))) {
        ret = preallocate(n, before, r->offset, r->flags);
    } else {
        ret = lfile_truncate(s->f, r->offset);
    }
    if (ret < 0 && r->offset > before) {
        lfile_truncate(s->f, before); /* a half-grown file helps nobody */
    }
    int refreshed = refresh_size(n);
    return ret < 0 ? ret : refreshed;
}

static co_fn int file_write(struct file *s, struct req *r)
{
    int ret = lfile_write(s->f, r->iov, r->niov, r->offset, lfile_flags(r));

    if (ret == 0 && UNLIKELY(r->offset + r->bytes > s->real_size)) {
        s->real_size = r->offset + r->bytes;
    }
    return ret;
}

static int file_io(struct node *n, struct req *r)
{
    struct file *s = n->state;
    int ret;

    switch (r->op) {
    case REQ_READ:
        if (r->flags & REQ_COMPARE) {
            return lfile_compare(s->f, r->iov, r->niov, r->offset);
        }
        return lfile_read(s->f, r->iov, r->niov, r->offset, lfile_flags(r));
    case REQ_WRITE:
        return file_write(s, r);
    case REQ_ZERO:
        forget_data(s);
        ret = file_zero(s, r);
        forget_data(s);
        break;
    case REQ_DISCARD:
        forget_data(s);
        ret = file_discard(s, r);
        forget_data(s);
        break;
    case REQ_FLUSH:
        return lfile_sync(s->f);
    case REQ_STATUS:
        return file_status(n, r);
    case REQ_TRUNCATE:
        forget_data(s);
        ret = file_truncate(n, r);
        forget_data(s);
        return ret;
    case REQ_CACHE:
    case REQ_OP_COUNT:
    default:
        return -ENOTSUP;
    }
    return ret == 0 && (r->flags & REQ_FUA) ? lfile_sync(s->f) : ret;
}

/* ---- creating ---- */

struct file_create {
    int preallocation;
    bool nocow;
    uint64_t extent_size_hint;
};

enum { PREALLOC_OFF, PREALLOC_FALLOC, PREALLOC_FULL };
static const char *const preallocation_values[] = {"off", "falloc", "full", NULL};

static const struct option file_create_options[] = {
    {"nocow", OPT_BOOL, offsetof(struct file_create, nocow), .def = "off",
     .help = "Turn off copy-on-write (valid only on btrfs)"},
    {"preallocation", OPT_ENUM, offsetof(struct file_create, preallocation), .def = "off",
     .values = preallocation_values, .help = "Preallocation mode (allowed values: off, falloc, full)"},
    {"extent_size_hint", OPT_SIZE, offsetof(struct file_create, extent_size_hint),
     .help = "Extent size hint for the image file, 0 to disable"},
    {0},
};

static int file_make(struct graph *g, const char *filename, void *create_state, uint64_t size,
                     struct err *err)
{
    static const unsigned flags[] = {
        [PREALLOC_FALLOC] = REQ_PREALLOC_FALLOC, [PREALLOC_FULL] = REQ_PREALLOC_FULL};
    const struct file_create *c = create_state;
    struct lfile *f = NULL;
    struct node *n = NULL;

    if (size > BLOCK_SIZE_MAX) {
        return err_set(err, -EFBIG, "'%s': the size is too large", filename);
    }
    int r = graph_refuse_own(g, filename, err);
    if (r < 0) {
        return r;
    }
    r = lfile_open(filename, O_RDWR | O_CREAT, 0644, &f);
    if (r < 0) {
        return err_set_errno(err, r, "Could not create '%s'", filename);
    }
    lfile_close(f);
    AUTO_JSON json_t *options = json_pack("{s:s, s:s}", "driver", "file", "filename", filename);
    r = options ? node_open(g, options, OPEN_WRITE | OPEN_RESIZE, &n, err)
                : err_set(err, -EINVAL, "'%s': the file name is not UTF-8", filename);
    if (r < 0) {
        return r;
    }
    r = node_truncate(n, 0, 0, NULL); /* after the lock: nobody loses an image that is in use */
    if (r == 0 || node_size(n) > 0) { /* a block device keeps its size */
        r = node_truncate(n, size, flags[c->preallocation], NULL);
    }
    node_unref(n);
    return r < 0 ? err_set_errno(err, r, "Could not resize file") : 0;
}

static char *file_name(const struct node *n)
{
    return strdup(((struct file *)n->state)->filename);
}

static int file_allocated(struct node *n, uint64_t *ret_bytes)
{
    return lfile_allocated(((struct file *)n->state)->f, ret_bytes);
}

static int file_parse_name(const char *name, json_t *options, struct err *err)
{
    return json_object_set_new(options, "filename", json_string(name + strlen("file:"))) < 0
               ? err_set(err, -EINVAL, "the file name is not UTF-8")
               : 0;
}

const struct driver driver_file = {
    .name = "file",
    .kind = DRIVER_PROTOCOL,
    .summary = "A regular file or a host block device.",
    .options = file_options,
    .prefixes = (const char *const[]){"file:", NULL},
    .parse_name = file_parse_name,
    .make_name = file_name,
    .state_size = sizeof(struct file),
    .open = file_open,
    .close = file_close,
    .io = file_io,
    .create_options = file_create_options,
    .create_state_size = sizeof(struct file_create),
    .create = file_make,
    .allocated_bytes = file_allocated,
};
