/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The FUSE export: a disk as a regular file, so that any program, and by way of a loop device the
 * host's own kernel, can use it.
 *
 * An export is mounted over an existing regular file. Each request is a coroutine on the disk's loop.
 * Nothing is cached by the kernel: what a program asks reaches the disk. The kernel is the only client, and
 * what it may have in flight is bounded all the same.
 */
#ifndef EXPORT_FUSE_FUSE_H
#define EXPORT_FUSE_FUSE_H

#include "block/block.h"

struct fuse_export;

/* Requests and payload bytes that one export may have in flight; more wait in the kernel. */
#define FUSE_REQUESTS_MAX 256u
#define FUSE_BYTES_MAX    (64 * MiB)

#define FUSE_DRAIN_NS                                                                                        \
    (10 * NS_PER_SEC) /* after a stop: requests that the disk does not finish are given up */

struct fuse_export_config {
    const char *mountpoint; /* an existing regular file */
    struct node *node;      /* outlives the export, which takes no reference */
    bool read_only;
    bool growable;    /* writes past the end and truncate(2) change the size */
    bool allow_other; /* other users, too, as the mode 0600 lets them: root, in effect */
    /* Look for the next request for so long before sleeping, while that pays and requests come one at a time;
     * 0: do not. Everything else on the loop waits meanwhile. */
    uint64_t spin_ns;
    /* Something a person should know. May be NULL. */
    void (*notice)(void *opaque, const char *sentence);
    /* The last of those who had it open has closed it. May be NULL. */
    void (*closed)(void *opaque);
    /* Somebody has unmounted it, or the kernel has ended it: nobody can reach it any more. Not called
     * after fuse_export_stop. May be NULL. */
    void (*gone)(void *opaque);
    void *opaque;
};

/* Mount it, and serve from now on. What a server that was killed has left at the mount point is replaced.
 * -ENOENT, -EISDIR, -EINVAL: no mount point; -EBUSY: another server's; -EDEADLK: it lies on a disk of ours.
 */
co_fn int fuse_export_create(const struct fuse_export_config *config, struct fuse_export **ret_export,
                             struct err *err);

/* Absolute path of the mount point. */
const char *fuse_export_path(const struct fuse_export *e);
/* Descriptors (open file descriptions) that are open on it. */
unsigned fuse_export_opens(const struct fuse_export *e);

/* Take no more requests. Those taken are finished and answered, then it is unmounted, even under those
 * who have it open: their further requests fail. Returns at once; again is fine. */
void fuse_export_stop(struct fuse_export *e);

/* After a stop, wait until it is unmounted, and return 0; or, when the disk has not finished them in
 * FUSE_DRAIN_NS, how many requests still hang in it. Those who wait for them have got an error by then. */
co_fn unsigned fuse_export_wait(struct fuse_export *e);

/* Stop, and wait for everything, also for what hangs. */
co_fn void fuse_export_finish(struct fuse_export *e);

/* The process is about to die: at least leave no mount behind, as far as that does without waiting and as
 * far as this user may. */
void fuse_export_abandon(struct fuse_export *e);

/* Finish, and free. Not to be called where the disk may hang for ever: see
 * fuse_export_wait. NULL is fine. */
co_fn void fuse_export_destroy(struct fuse_export *e);

#endif
