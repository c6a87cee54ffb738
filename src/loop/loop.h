/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loop: one thread, its coroutines, timers, and one engine that does the waiting.
 * Time, randomness and I/O come from here and from nowhere else, so that the sim engine can
 * replay a run from its seed.
 *
 * All functions return 0 (or a count) or -errno, and act on the loop of the calling thread unless
 * they take one. Nothing here is thread-safe but loop_post.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/rng.h"
#include "loop/co.h"

struct loop;
struct engine;
struct lfile;

struct loop_config {
    const char *engine; /* "uring", "threads", "sim"; NULL: $BLKPROOF_ENGINE, else the best there is */
    uint64_t seed;      /* of loop_rng; the sim engine draws every choice from it */
    /* Told once if the engine is not the best there is ("io_uring is not available (...)"). */
    void (*notice)(void *opaque, const char *sentence);
    void *opaque;
};

/* -EINVAL for an unknown engine; with engine NULL or "" falls back from uring to threads. */
int loop_create(const struct loop_config *config, struct loop **ret_loop, struct err *err);
void loop_destroy(struct loop *loop);

/* Run @fn(@arg) as a coroutine, and the loop until it has returned and every other coroutine has
 * too. Returns its result. */
int loop_run(struct loop *loop, int (*fn)(void *arg), void *arg);

/* The loop of this thread; NULL if there is none. */
struct loop *loop_self(void);
const char *loop_engine_name(void);
struct rng *loop_rng(void);

/* Monotonic time in ns; virtual on the sim engine. Cached: it moves when the loop turns. */
uint64_t loop_now_ns(void);
/* The same, read afresh. */
uint64_t loop_clock_ns(void);

/* Run @fn(@arg) on the loop's thread soon, from any thread or from a signal-safe wrapper thread. */
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Run a blocking function on a worker thread and wait for its result. On sim it runs inline. */
co_fn int loop_work(int (*fn)(void *arg), void *arg);

/* ---- timers ---- */

struct timer {
    uint64_t at_ns; /* on loop_now_ns's clock */
    void (*fire)(struct timer *t);
    unsigned heap_index; /* 0: not armed */
};
/* Arm (or move) a timer; it is disarmed before fire is called. -ENOMEM. */
int timer_arm(struct timer *t, uint64_t at_ns);
void timer_disarm(struct timer *t);

co_fn void co_sleep_ns(uint64_t ns);

/* ---- sockets and other descriptors (non-blocking ones) ---- */

/* One recv: bytes, 0 at the end of the stream, or -errno. To interrupt it, shutdown(2). */
co_fn ssize_t sock_recv(int fd, void *buf, size_t len);
/* One attempt that never waits: -EAGAIN if nothing is there. */
ssize_t sock_recv_now(int fd, void *buf, size_t len);
/* Send all of it; @iov is used up (changed). MSG_NOSIGNAL is implied. */
co_fn int sock_send_all(int fd, struct iovec *iov, int niov);
/* One attempt that never waits: bytes taken, -EAGAIN if the socket is full. */
ssize_t sock_send_now(int fd, const struct iovec *iov, int niov);
/* Wait until @fd has one of the poll(2) @events. Returns revents, -ETIMEDOUT at @deadline_ns (on
 * loop_now_ns's clock; UINT64_MAX: never), or -ECANCELED after fd_poll_cancel. */
co_fn int fd_poll(int fd, short events, uint64_t deadline_ns);
/* Make every fd_poll on @fd return -ECANCELED. Call before closing a descriptor that is waited on. */
void fd_poll_cancel(int fd);

/* ---- files: engine-neutral handles ---- */

enum {
    LFILE_MEMORY = 1, /* a memory file system: reads and writes never wait for a device */
    LFILE_DIRECT = 2, /* opened with O_DIRECT */
    LFILE_BLOCK = 4,  /* a host block device */
};

/* One extent of a file as SEEK_DATA/SEEK_HOLE tells. */
struct lfile_extent {
    uint64_t bytes;
    bool hole;
    bool more; /* data that may go on behind it; told with LFILE_BULK only */
};

/* @flags and @mode as open(2). -errno as open(2). */
co_fn int lfile_open(const char *path, int flags, mode_t mode, struct lfile **ret_file);
/* As lfile_open for a descriptor that is already open; on success the file owns it. */
co_fn int lfile_adopt(int fd, struct lfile **ret_file);
co_fn void lfile_close(struct lfile *f);

enum lfile_flags {
    LFILE_SYNC = 1, /* writes: RWF_DSYNC */
    LFILE_BULK = 2, /* one of many, and what counts is when all are done: writes are another thread's, and the
                       loop hears of several at once; what the page cache holds is read by the loop's
                       thread while the other cores are busy; the end of a run of data is not looked for in a
                       file that has next to no holes */
};

/* Move all the bytes or fail. Reads past the end of the file give zeroes. -EIO if the file ends a write
 * early without an errno. */
co_fn int lfile_read(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset, unsigned flags);
co_fn int lfile_write(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset, unsigned flags);
/* What lfile_read would give is what @iov holds: 0, or -EILSEQ if not. On a worker thread, in pieces that
 * stay in its cache: for a file that is LFILE_MEMORY and not LFILE_DIRECT. */
co_fn int lfile_compare(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset);
co_fn int lfile_sync(struct lfile *f);                                             /* fdatasync */
co_fn int lfile_fallocate(struct lfile *f, int mode, uint64_t offset, uint64_t n); /* fallocate(2) */
co_fn int lfile_truncate(struct lfile *f, uint64_t size);
co_fn int lfile_size(struct lfile *f, uint64_t *ret_size);
/* Bytes allocated on the host. */
co_fn int lfile_allocated(struct lfile *f, uint64_t *ret_bytes);
/* What lies at @offset (which is within the file). -EOPNOTSUPP if the file system cannot tell. */
co_fn int lfile_extent(struct lfile *f, uint64_t offset, unsigned flags, struct lfile_extent *ret_extent);

unsigned lfile_caps(const struct lfile *f);
/* Alignment in bytes of offsets, lengths and memory that the file needs (1 without O_DIRECT). */
uint32_t lfile_align(const struct lfile *f);
/* The descriptor, for locks and ioctls on real engines; -1 on sim. */
int lfile_fd(const struct lfile *f);

/* ---- page-aligned buffers, pooled per loop ---- */

/* At least @size bytes, page-aligned, not cleared; NULL if there is no memory. */
void *buf_get(size_t size);
/* @size as given to buf_get. NULL is fine. */
void buf_put(void *buf, size_t size);

#endif
