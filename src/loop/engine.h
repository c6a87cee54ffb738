/* SPDX-License-Identifier: BSD-2-Clause */
/* What an engine is: private to loop/ and sim/. Everybody else uses loop.h. */
#ifndef LOOP_ENGINE_H
#define LOOP_ENGINE_H

#include <pthread.h>

#include "loop/loop.h"

struct file_ops {
    co_fn int (*open)(const char *path, int flags, mode_t mode, struct lfile **ret_file);
    co_fn void (*close)(struct lfile *f);
    co_fn int (*rw)(struct lfile *f, bool write, const struct iovec *iov, int niov, uint64_t offset,
                    unsigned flags); /* enum lfile_flags */
    co_fn int (*sync)(struct lfile *f);
    co_fn int (*fallocate)(struct lfile *f, int mode, uint64_t offset, uint64_t n);
    co_fn int (*truncate)(struct lfile *f, uint64_t size);
    co_fn int (*size)(struct lfile *f, uint64_t *ret_size);
    co_fn int (*allocated)(struct lfile *f, uint64_t *ret_bytes);
    co_fn int (*extent)(struct lfile *f, uint64_t offset, unsigned flags, struct lfile_extent *ret_extent);
};

struct lfile { /* engines embed it */
    const struct file_ops *ops;
    unsigned caps;
    uint32_t align;
    int fd;
};

struct engine {
    const char *name;
    /* Sets loop->engine_state. -errno if the kernel does not offer what is needed. */
    int (*create)(struct loop *loop, struct err *err);
    void (*destroy)(struct loop *loop);
    /* Wake what has completed. @wait: sleep until something completes, loop_post is called, or
     * @deadline_ns (UINT64_MAX: none). */
    void (*poll)(struct loop *loop, bool wait, uint64_t deadline_ns);
    uint64_t (*clock_ns)(struct loop *loop);
    /* End a poll early; called from any thread. */
    void (*notify)(struct loop *loop);
    const struct file_ops *file;
    co_fn ssize_t (*recv)(int fd, void *buf, size_t len);
    ssize_t (*recv_now)(int fd, void *buf, size_t len);               /* NULL: recv(2) with MSG_DONTWAIT */
    co_fn ssize_t (*send)(int fd, const struct iovec *iov, int niov); /* may be short */
    ssize_t (*send_now)(int fd, const struct iovec *iov, int niov);   /* NULL: sendmsg, MSG_DONTWAIT */
    co_fn int (*poll_fd)(int fd, short events, uint64_t deadline_ns);
    void (*poll_cancel)(int fd);
    /* Slow paths of the shared POSIX files: wait for one preadv/pwritev (may be short), fsync,
     * fallocate. Unused on sim. */
    co_fn ssize_t (*prw)(int fd, bool write, const struct iovec *iov, int niov, uint64_t offset,
                         int rwf_flags);
    co_fn int (*fdatasync)(int fd);
    co_fn int (*fallocate)(int fd, int mode, uint64_t offset, uint64_t n);
    bool inline_work; /* loop_work runs on the loop's own thread */
};

extern const struct engine engine_uring, engine_threads, engine_sim;
extern const struct file_ops posix_file_ops;

struct posted {
    struct posted *next;
    void (*fn)(void *arg);
    void *arg;
};

struct workers;
struct buf_pool;

struct loop {
    const struct engine *engine;
    void *engine_state;
    struct rng rng;
    uint64_t seed;
    uint64_t now_ns;
    struct list runnable; /* of struct co */
    struct timer **heap;  /* heap[1..heap_len] */
    unsigned heap_len, heap_max;
    pthread_mutex_t posted_lock;
    struct posted *posted_head, **posted_tail;
    unsigned posted_pending; /* read without the lock as a hint */
    bool posted_told;        /* the engine was notified of them */
    struct workers *workers; /* made at first use */
    unsigned others_io;      /* what other threads are transferring, or have queued: 1 a read, 2 a write */
    unsigned spare_cores;    /* beside the loop's own */
    struct buf_pool *bufs;
};

/* co.c, for the loop only */
void co_run_queue(struct loop *loop);
void co_loop_attach(struct loop *loop); /* NULL: detach */

/* loop_post; a sleeping loop is woken by the @last one of a batch only. */
void loop_post_batch(struct loop *loop, void (*fn)(void *arg), void *arg, bool last);

/* workers.c */
int workers_submit(struct loop *loop, void (*fn)(void *arg), void *arg);
void workers_stop(struct loop *loop);

/* bufs.c */
void bufs_drain(struct loop *loop);

#endif
