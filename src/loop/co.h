/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stackful coroutines. A function marked co_fn may wait, and must run in a coroutine; everything
 * else must not call it. Coroutines belong to the thread that created them. A coroutine is never
 * dropped while suspended: what cancels it makes the call it waits in return -ECANCELED.
 */
#ifndef LOOP_CO_H
#define LOOP_CO_H

#include "base/list.h"

#define co_fn /* may suspend the calling coroutine */

#define CO_STACK_SIZE (128 * KiB) /* four times this under a sanitizer; one guard page below */

struct co;

typedef void co_entry(void *arg);

/* Make a coroutine and run it until it first waits. -ENOMEM if there is no stack for it, and then
 * nothing has run. */
int co_start(co_entry *entry, void *arg);

/* Make a coroutine that the loop enters after all that is runnable now. */
int co_start_later(co_entry *entry, void *arg);

/* The running coroutine; NULL outside of one. */
struct co *co_self(void);

/* Give the processor back until co_wake. Only the callers in loop/ need this: use locks, groups,
 * timers and I/O. */
co_fn void co_suspend(void);

/* Make a suspended coroutine runnable; the loop enters it in order. Exactly once per co_suspend,
 * on the coroutine's own thread. */
void co_wake(struct co *co);

/* Let everything else that is runnable go first. */
co_fn void co_yield (void);

/* Coroutines alive on this thread, for tests and leak checks. */
unsigned co_alive(void);

/* Free the pooled stacks of this thread. */
void co_pool_drain(void);

/* A FIFO of waiting coroutines. Zero-initialise with co_queue_init. */
struct co_queue {
    struct list waiters;
};
void co_queue_init(struct co_queue *q);
co_fn void co_queue_wait(struct co_queue *q);
bool co_queue_wake_one(struct co_queue *q);
void co_queue_wake_all(struct co_queue *q);
bool co_queue_empty(const struct co_queue *q);

struct co_mutex {
    bool locked;
    struct co_queue queue;
};
void co_mutex_init(struct co_mutex *m);
co_fn void co_mutex_lock(struct co_mutex *m);
void co_mutex_unlock(struct co_mutex *m);

/* A group of coroutines that somebody waits for. The group lives in the waiter's frame. */
struct co_group {
    unsigned running;
    struct co *waiter;
};
struct co_task { /* one member, in the frame of the waiter too; no allocation */
    struct co_group *group;
    int (*fn)(void *arg);
    void *arg;
    int result; /* valid after co_group_wait */
};
void co_group_init(struct co_group *g);
/* Start @fn(@arg) as a coroutine of the group, entered at once. If no stack can be had, it runs
 * in the caller's coroutine instead, before this returns. */
co_fn void co_group_start(struct co_group *g, struct co_task *t, int (*fn)(void *arg), void *arg);
co_fn void co_group_wait(struct co_group *g);

#endif
