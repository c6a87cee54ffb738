/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests: libfuse's handlers, and what the disk does for each. A handler that needs the disk only
 * fills in an operation and starts it; everything that waits is in the operations, named serve_*.
 *
 * Nothing is cached: every open is answered with FOPEN_DIRECT_IO, attributes are valid for no time. The
 * kernel makes no fsync of an O_DSYNC write but tells of it in the request: that is FUA.
 */
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "export/fuse/internal.h"

#define PIECE_MAX     (1 * GiB) /* of a range that may be larger than a node takes at once */
#define STATUS_YIELDS 64u       /* extents looked at, in one request, before others have a turn */
#define PUNCH_UNIT                                                                                           \
    (1 * MiB) /* no device has larger units, and zeroes of this size may as well be written                  \
               */

/* Not in the headers of Linux before 6.2, whose kernels take no notice. */
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

/* ---- starting and answering ---- */

/* The disk has gone: nothing that it did reaches anybody. */
static bool is_gone(const struct fuse_export *e)
{
    return e->watch.presence != PRESENCE_HERE;
}

/* @rc: 0 or -errno; or REQ_DROPPED: who waits is let go by the end of the mount. */
static void answer(struct fuse_op *op, int rc)
{
    if (op->export->dead || rc == REQ_DROPPED) {
        fuse_reply_none(op->req);
    } else if (UNLIKELY(is_gone(op->export))) {
        fuse_reply_err(op->req, EIO);
    } else {
        fuse_reply_err(op->req, rc == -ENOTSUP ? EOPNOTSUPP : -rc);
    }
}

static co_fn void serve_getattr(struct fuse_op *op);

static void run_op(void *arg)
{
    struct fuse_op *op = arg;

    if (UNLIKELY(is_gone(op->export)) && op->serve != serve_getattr) {
        answer(op, -EIO);
    } else {
        op->serve(op);
    }
    fuse_op_put(op);
}

static void start(fuse_req_t req, struct fuse_op what)
{
    struct fuse_export *e = fuse_req_userdata(req);
    struct fuse_op *op = fuse_op_get(e);

    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    what.link = op->link;
    what.export = e;
    what.req = req;
    what.rx = what.data ? TAKE_PTR(e->rx) : NULL;
    *op = what;
    e->bytes += op->charged;
    if (co_start(run_op, op) < 0) {
        fuse_reply_err(req, ENOMEM);
        fuse_op_put(op);
    }
}

static void answer_data(struct fuse_op *op, const void *buf, size_t bytes)
{
    if (op->export->dead) {
        fuse_reply_none(op->req);
    } else if (UNLIKELY(is_gone(op->export))) {
        fuse_reply_err(op->req, EIO);
    } else {
        fuse_reply_buf(op->req, buf, bytes);
    }
}

static void answer_written(struct fuse_op *op, size_t bytes)
{
    if (op->export->dead) {
        fuse_reply_none(op->req);
    } else if (UNLIKELY(is_gone(op->export))) {
        fuse_reply_err(op->req, EIO);
    } else {
        fuse_reply_write(op->req, bytes);
    }
}

/* ---- attributes ---- */

static void serve_getattr(struct fuse_op *op)
{
    const struct fuse_export *e = op->export;
    uint64_t size = node_size(e->config.node), allocated;

    if (node_allocated_bytes(e->config.node, &allocated) < 0) {
        allocated = size;
    }
    struct stat st = {
        .st_ino = FUSE_ROOT_ID,
        .st_mode = S_IFREG | S_IRUSR | (e->config.read_only ? 0 : S_IWUSR),
        .st_nlink = 1,
        .st_uid = getuid(),
        .st_gid = getgid(),
        .st_size = (off_t)size,
        .st_blksize = FUSE_BLOCK_BYTES,
        .st_blocks = (blkcnt_t)div_up(allocated, SECTOR_SIZE),
        .st_atim = e->since,
        .st_mtim = e->since,
        .st_ctim = e->since,
    };
    if (e->dead) {
        fuse_reply_none(op->req);
    } else {
        fuse_reply_attr(op->req, &st, 0);
    }
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    start(req, (struct fuse_op){.serve = serve_getattr});
}

/* Make the disk at least @end bytes long. */
static int grow(struct fuse_export *e, uint64_t end, unsigned flags)
{
    int rc = 0;

    co_mutex_lock(&e->growing);
    if (end > node_size(e->config.node)) {
        rc = node_truncate(e->config.node, end, flags, NULL);
    }
    co_mutex_unlock(&e->growing);
    return rc;
}

static int resize(struct fuse_export *e, uint64_t size)
{
    if (size == node_size(e->config.node)) {
        return 0;
    }
    if (!e->config.growable) {
        return -EPERM; /* as POSIX has it for truncate(2) where a file cannot change its size */
    }
    co_mutex_lock(&e->growing);
    int rc = node_truncate(e->config.node, size, 0, NULL);
    co_mutex_unlock(&e->growing);
    return rc;
}

static void serve_setattr(struct fuse_op *op)
{
    int rc = 0;

    if (op->mode & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
        rc = -EPERM;
    } else if (op->mode & FUSE_SET_ATTR_SIZE) {
        node_admit(op->export->config.node);
        rc = resize(op->export, op->bytes);
    } /* times: a disk has none */
    if (rc < 0) {
        answer(op, rc);
    } else {
        serve_getattr(op);
    }
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    start(req, (struct fuse_op){.serve = serve_setattr, .mode = to_set, .bytes = (uint64_t)st->st_size});
}

/* ---- opening and closing ---- */

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fuse_export *e = fuse_req_userdata(req);
    /* Not by fuse_reply_open: libfuse 3.14 does not know all flags. */
    struct fuse_open_out out = {
        .fh = (fi->flags & O_ACCMODE) != O_RDONLY,
        .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
    };

    if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) == 0) {
        e->opens++; /* else nobody waits for the answer any more, and there will be no release */
    }
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fuse_export *e = fuse_req_userdata(req);

    fuse_reply_err(req, 0);
    if (--e->opens == 0 && e->config.closed) {
        e->config.closed(e->config.opaque);
    }
}

/* ---- reading and writing ---- */

static void serve_read(struct fuse_op *op)
{
    struct fuse_export *e = op->export;
    uint64_t size = node_size(e->config.node);
    uint64_t bytes = op->offset < size ? MIN(op->bytes, size - op->offset) : 0;
    char *buf = bytes > 0 ? buf_get(bytes) : NULL;

    if (bytes > 0 && !buf) {
        answer(op, -ENOMEM);
        return;
    }
    node_admit(e->config.node);
    int rc = bytes > 0 ? node_read(e->config.node, op->offset, buf, bytes) : 0;
    if (rc < 0) {
        answer(op, rc);
    } else {
        answer_data(op, buf, bytes);
    }
    buf_put(buf, bytes);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    start(req,
          (struct fuse_op){.serve = serve_read, .offset = (uint64_t)offset, .bytes = size, .charged = size});
}

/* How much of a write can be done: less where the disk ends, as on a block device. */
static int fit_write(struct fuse_export *e, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes)
{
    uint64_t size = node_size(e->config.node);

    if (offset <= size && bytes <= size - offset) {
        *ret_bytes = bytes;
        return 0;
    }
    if (e->config.growable) {
        *ret_bytes = bytes;
        return offset <= BLOCK_SIZE_MAX - bytes ? grow(e, offset + bytes, 0) : -EFBIG;
    }
    if (offset >= size) {
        return -ENOSPC;
    }
    *ret_bytes = size - offset;
    return 0;
}

static void serve_write(struct fuse_op *op)
{
    struct fuse_export *e = op->export;
    uint64_t bytes = 0;

    node_admit(e->config.node);
    int rc = fit_write(e, op->offset, op->bytes, &bytes);
    if (rc == 0) {
        rc = node_write(e->config.node, op->offset, op->data, bytes, op->mode & O_DSYNC ? REQ_FUA : 0);
    }
    if (rc < 0) {
        answer(op, rc);
    } else {
        answer_written(op, bytes);
    }
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    start(req, (struct fuse_op){.serve = serve_write,
                                .offset = (uint64_t)offset,
                                .bytes = size,
                                .data = buf,
                                .mode = fi->flags, /* of the open file, and RWF_DSYNC as O_DSYNC */
                                .charged = size});
}

/* ---- flushing ---- */

static void serve_flush(struct fuse_op *op)
{
    struct node *n = op->export->config.node;

    node_admit(n);
    answer(op, node_is_read_only(n) ? 0 : node_flush(n));
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    start(req, (struct fuse_op){.serve = serve_flush});
}

/* At each close(2): where one could write, the last chance to hear of an error. */
static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (fi->fh) {
        start(req, (struct fuse_op){.serve = serve_flush});
    } else {
        fuse_reply_err(req, 0);
    }
}

/* ---- holes and zeroes ---- */

/* A hole reads as zeroes, which a discarded range need not. The device is told both, as a loop
 * device sends the same request for a discard and for zeroes that may be unmapped. */
static int punch_piece(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    int rc = node_discard(n, offset, bytes);

    return rc < 0 ? rc : node_zero(n, offset, bytes, REQ_UNMAP | flags);
}

/* The first unit tells whether the device zeroes fast. Where it does not, writing a gigabyte of zeroes is
 * not what somebody who discards wants. */
static int punch_unit(struct fuse_export *e, uint64_t offset)
{
    int rc = punch_piece(e->config.node, offset, PUNCH_UNIT, REQ_NO_FALLBACK);

    if (rc == -ENOTSUP) {
        e->no_zero = true;
        rc = node_zero(e->config.node, offset, PUNCH_UNIT, REQ_UNMAP);
    } else if (rc == 0) {
        e->zero_is_fast = true;
    }
    return rc;
}

static int punch(struct fuse_export *e, uint64_t offset, uint64_t end)
{
    while (offset < end) {
        uint64_t edge = MIN(round_up(offset + 1, PUNCH_UNIT), end), stop = edge;
        int rc;
        if (offset % PUNCH_UNIT != 0 || end - offset < PUNCH_UNIT) {
            rc = punch_piece(e->config.node, offset, edge - offset, 0);
        } else if (e->no_zero) {
            return -ENOTSUP;
        } else if (!e->zero_is_fast) {
            rc = punch_unit(e, offset);
        } else {
            stop = offset + MIN(round_down(end - offset, PUNCH_UNIT), PIECE_MAX);
            rc = punch_piece(e->config.node, offset, stop - offset, REQ_NO_FALLBACK);
        }
        if (rc < 0) {
            return rc;
        }
        offset = stop;
    }
    return 0;
}

static int zero(struct fuse_export *e, uint64_t offset, uint64_t end)
{
    int rc = 0;

    for (uint64_t bytes; rc == 0 && offset < end; offset += bytes) {
        bytes = MIN(end - offset, PIECE_MAX);
        rc = node_zero(e->config.node, offset, bytes, 0);
    }
    return rc;
}

/* The end of the range after growing the disk, if that is asked for. */
static int fit_range(struct fuse_op *op, uint64_t *ret_end)
{
    struct fuse_export *e = op->export;
    uint64_t end = op->offset + op->bytes, size = node_size(e->config.node);
    bool keep_size = op->mode & FALLOC_FL_KEEP_SIZE;
    int rc = 0;

    if (end > BLOCK_SIZE_MAX) {
        return -EFBIG;
    }
    if (op->mode == 0 && end <= size) {
        return -ENOTSUP; /* what is there already cannot be made sure to be allocated */
    }
    if (end > size && !keep_size) {
        rc = e->config.growable ? grow(e, end, op->mode == 0 ? REQ_PREALLOC_FALLOC : 0) : -ENOSPC;
    }
    *ret_end = keep_size ? MIN(end, size) : end;
    return rc;
}

static void serve_fallocate(struct fuse_op *op)
{
    uint64_t end = 0;

    node_admit(op->export->config.node);
    int rc = fit_range(op, &end);
    if (rc == 0) {
        switch (op->mode & ~FALLOC_FL_KEEP_SIZE) {
        case FALLOC_FL_PUNCH_HOLE:
            rc = punch(op->export, op->offset, end);
            break;
        case FALLOC_FL_ZERO_RANGE:
            rc = zero(op->export, op->offset, end);
            break;
        case 0:
            rc = op->mode == 0 ? 0 : -ENOTSUP;
            break;
        default:
            rc = -ENOTSUP;
            break;
        }
    }
    answer(op, rc);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi)
{
    start(req,
          (struct fuse_op){
              .serve = serve_fallocate, .mode = mode, .offset = (uint64_t)offset, .bytes = (uint64_t)length});
}

/* ---- where data lies ---- */

/* A hole is what reads as zeroes. */
static int find(struct node *n, uint64_t offset, bool hole, uint64_t *ret_offset)
{
    uint64_t size = node_size(n);
    struct extent x;

    for (unsigned i = 1; offset < size; i++) {
        int rc = node_status(n, offset, MIN(size - offset, PIECE_MAX), &x);
        if (rc < 0) {
            return rc;
        }
        if (x.zero == hole) {
            break;
        }
        offset += x.bytes;
        if (i % STATUS_YIELDS == 0) {
            co_yield ();
        }
    }
    *ret_offset = MIN(offset, size);
    return offset < size || hole ? 0 : -ENXIO;
}

static void serve_lseek(struct fuse_op *op)
{
    struct fuse_export *e = op->export;
    uint64_t found;

    node_admit(e->config.node);
    int rc = op->offset < node_size(e->config.node)
                 ? find(e->config.node, op->offset, op->mode == SEEK_HOLE, &found)
                 : -ENXIO;
    if (rc < 0 || e->dead) {
        answer(op, rc);
    } else {
        fuse_reply_lseek(op->req, (off_t)found);
    }
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        start(req, (struct fuse_op){.serve = serve_lseek, .offset = (uint64_t)offset, .mode = whence});
    } else {
        fuse_reply_err(req, EINVAL); /* the kernel does the others itself */
    }
}

/* ---- the rest ---- */

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct fuse_export *e = fuse_req_userdata(req);
    struct statvfs s = {
        .f_bsize = FUSE_BLOCK_BYTES, /* a loop device discards in units of this */
        .f_frsize = FUSE_BLOCK_BYTES,
        .f_blocks = node_size(e->config.node) / FUSE_BLOCK_BYTES,
        .f_files = 1,
        .f_namemax = 255,
    };

    fuse_reply_statfs(req, &s);
}

/* Of what libfuse would switch on by itself: no splicing (requests lie in memory of ours), no O_TRUNC
 * with open (a disk keeps its size; see resize). */
static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want = conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
    conn->max_write = FUSE_WRITE_MAX;
    conn->max_background = FUSE_BACKGROUND;
    conn->congestion_threshold = FUSE_BACKGROUND * 3 / 4;
}

const struct fuse_lowlevel_ops fuse_handlers = {
    .init = on_init,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .open = on_open,
    .release = on_release,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
    .fsync = on_fsync,
    .fallocate = on_fallocate,
    .lseek = on_lseek,
    .statfs = on_statfs,
};
