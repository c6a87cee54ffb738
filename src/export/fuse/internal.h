/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One FUSE export: private to this folder.
 *
 * Its one coroutine of its own takes requests from /dev/fuse, one per read(2), while there are any, and
 * then sleeps in fd_poll. libfuse parses each and calls the handler in request.c, which starts an
 * operation: a coroutine that ends with the reply. The data of a write is used where it was received: the
 * operation takes the buffer over.
 */
#ifndef EXPORT_FUSE_INTERNAL_H
#define EXPORT_FUSE_INTERNAL_H

#define FUSE_USE_VERSION 310
#include <fuse_lowlevel.h>

#include "block/own.h"
#include "block/presence.h"
#include "export/fuse/fuse.h"

#define FUSE_TYPE       "blkproof" /* the type of file system is then fuse.blkproof */
#define FUSE_WRITE_MAX  (1 * MiB)  /* the kernel's own limit: 256 pages */
#define FUSE_HEAD_BYTES 80u        /* struct fuse_in_header and fuse_write_in: what precedes written data */
#define FUSE_RX_BYTES   (4 * KiB + FUSE_WRITE_MAX)
#define FUSE_SPARES_MAX 32u  /* receive buffers kept: more writes in flight allocate */
#define FUSE_BACKGROUND 128u /* asynchronous requests at the kernel; its default is 12 */
#define FUSE_TURNS_MAX  32u  /* requests in a row after which others have a turn */
#define FUSE_LONE_MIN   16u  /* requests that came one at a time, before looking for the next */
#define FUSE_SPIN_MISSES_MAX                                                                                 \
    10u /* looks in vain in a row: then one in a thousand sleeps is preceded by one */
#define FUSE_BLOCK_BYTES 4096u

struct fuse_op {
    struct list link; /* export->free_ops */
    struct fuse_export *export;
    fuse_req_t req;
    co_fn void (*serve)(struct fuse_op *op);
    uint64_t offset, bytes;
    const void *data; /* of a write, in @rx */
    uint8_t *rx;      /* or NULL */
    int mode;         /* of fallocate; whence of lseek; what setattr is to set; open flags of a write */
    uint64_t charged; /* bytes counted against FUSE_BYTES_MAX */
};

struct fuse_export {
    struct fuse_export_config config;
    char *path; /* absolute */
    struct fuse_session *session;
    int fd; /* the session's */
    struct own_fs own;
    struct presence_watch watch; /* of the node: while it is not here, everything fails */
    struct timespec since;       /* the file's times */

    /* receiving */
    uint8_t *rx; /* FUSE_RX_BYTES, or NULL. What precedes a write's data ends where a page ends. */
    uint8_t *spare[FUSE_SPARES_MAX];
    unsigned nspare;
    unsigned turns; /* requests since others last had one */
    unsigned batch; /* requests since there were none */
    unsigned lone;  /* times in a row that there was a single one */
    unsigned spin_misses, spin_skip;
    struct co_queue room; /* the reader waits for an operation to finish */

    /* operations */
    struct list free_ops;
    unsigned in_flight;
    uint64_t bytes;
    unsigned opens;
    struct co_mutex growing;    /* two that grow the disk must not cut each other off */
    bool no_zero, zero_is_fast; /* what has been learned about the device; at most one of them */

    /* the end */
    bool stopping;
    bool running; /* the coroutine is alive */
    bool ending;  /* it takes no more requests */
    bool gave_up; /* the drain timer has fired */
    bool dead;    /* no reply reaches anybody any more */
    struct timer drain_timer;
    struct co_queue changed; /* the coroutine, or an operation, has ended */
};

/* ---- export.c ---- */

void fuse_notice(const struct fuse_export *e, const char *fmt, ...) PRINTF(2, 3);
/* An operation of which the caller sets all but link; NULL: no memory. */
struct fuse_op *fuse_op_get(struct fuse_export *e);
/* It has been answered. */
void fuse_op_put(struct fuse_op *op);

/* ---- request.c ---- */

extern const struct fuse_lowlevel_ops fuse_handlers;

/* ---- mount.c ---- */

/* Mount the session on config.mountpoint: sets path, fd and own.dev. */
co_fn int fuse_mount(struct fuse_export *e, struct err *err);
/* Unmount lazily, unless that has been done from outside, and close the descriptor. */
co_fn void fuse_unmount(struct fuse_export *e);

#endif
