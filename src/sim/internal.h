/* SPDX-License-Identifier: BSD-2-Clause */
/* The sim engine's own: what sim.c, store.c, disk.c and net.c share. */
#ifndef SIM_INTERNAL_H
#define SIM_INTERNAL_H

#include "loop/engine.h"
#include "sim/sim.h"

/* ---- store.c: sparse bytes with a volatile half ---- */

#define STORE_PAGE 4096u

struct store {
    void *root;      /* radix tree of pages, 512 slots a level */
    unsigned height; /* levels; 0: empty */
    uint64_t size;
    uint64_t durable_size;
    uint64_t pages; /* that hold data */
    bool write_through;
    struct list dirty; /* pages that differ from their durable state */
};

void store_init(struct store *s, uint64_t size, bool write_through);
void store_finish(struct store *s);
/* @n bytes of the list from @iov_offset on; the range may lie beyond the end (zeroes). */
void store_read(const struct store *s, uint64_t offset, const struct iovec *iov, int niov,
                uint64_t iov_offset, uint64_t n);
/* Grows the store. -ENOMEM: a part may be written. */
int store_write(struct store *s, uint64_t offset, const struct iovec *iov, int niov, uint64_t iov_offset,
                uint64_t n);
/* Zero; whole pages become holes if @hole, else they are allocated. Does not grow the store. */
int store_zero(struct store *s, uint64_t offset, uint64_t n, bool hole);
int store_truncate(struct store *s, uint64_t size);
/* Make durable: all of it, or the sectors that a range touches. */
void store_sync(struct store *s);
void store_sync_range(struct store *s, uint64_t offset, uint64_t n);
/* Fall back to what is durable plus those of the other sectors that survive. */
void store_cut(struct store *s, enum sim_survivors survivors, struct rng *rng);
void store_extent(const struct store *s, uint64_t offset, struct lfile_extent *ret);

/* ---- sim.c ---- */

/* Something that happens at a point of virtual time; in the frame of who waits for it. */
struct sim_event {
    uint64_t at_ns;
    uint64_t tie;     /* orders events of the same time; drawn */
    unsigned index;   /* in the heap, from 1; 0: not in it */
    struct list link; /* sim->parked, for net.c; else unlinked */
    struct co *co;
};

struct sim {
    struct loop *loop;
    uint64_t now_ns;
    struct rng rng;
    struct sim_event **heap; /* heap[1..heap_len] */
    unsigned heap_len, heap_max;
    bool strict; /* a deadlock aborts */
    uint64_t trace;
    uint64_t ops;
    sim_tracer *tracer;
    void *tracer_opaque;
    struct sim_fault faults[SIM_FAULTS_MAX];
    unsigned nfaults;
    struct list files;
    unsigned last_object;
    struct list parked; /* of struct parked (net.c): who waits for a descriptor */
    struct list links;
    int wake_fd; /* eventfd: ends a real wait */
};

struct sim *sim_self(void);

extern const struct sim_latency sim_latency_default;

/* What an operation meets. */
struct sim_fate {
    int error;
    bool partial;
    uint64_t delay_ns;
};
/* Count an operation and ask the faults, first those of the object. */
struct sim_fate sim_decide(struct sim *sim, struct sim_fault *faults, unsigned nfaults, enum sim_op op,
                           uint64_t offset, uint64_t bytes);

void sim_trace(struct sim *sim, enum sim_op op, unsigned object, uint64_t offset, uint64_t bytes, int result);

void sim_event_init(struct sim_event *e); /* for the running coroutine */
int sim_event_arm(struct sim *sim, struct sim_event *e, uint64_t at_ns);
void sim_event_disarm(struct sim *sim, struct sim_event *e);

/* Let a time drawn from @latency pass, plus @extra_ns. -ENOMEM. */
co_fn int sim_wait(struct sim *sim, const struct sim_latency *latency, uint64_t extra_ns);

/* ---- disk.c ---- */
extern const struct file_ops sim_file_ops;
void sim_files_finish(struct sim *sim);

/* ---- net.c ---- */
co_fn ssize_t sim_recv(int fd, void *buf, size_t len);
ssize_t sim_recv_now(int fd, void *buf, size_t len);
ssize_t sim_send_now(int fd, const struct iovec *iov, int niov);
co_fn ssize_t sim_send(int fd, const struct iovec *iov, int niov);
co_fn int sim_poll_fd(int fd, short events, uint64_t deadline_ns);
void sim_poll_cancel(int fd);
/* Wake those whose descriptor is ready. @wait: sleep in real time until one is, or wake_fd. */
void sim_net_poll(struct sim *sim, bool wait);
void sim_net_finish(struct sim *sim);

#endif
