/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Coroutines on pooled stacks, switched with sigsetjmp/siglongjmp (no system call, about 40 ns).
 * A new stack is entered once with makecontext + setcontext, then reused for one coroutine after
 * the other. Built without _FORTIFY_SOURCE, which forbids longjmp between stacks.
 */
#include "loop/co.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "loop/engine.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (4 * CO_STACK_SIZE)
#else
#define STACK_BYTES CO_STACK_SIZE
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(a, b) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#define GUARD_BYTES 4096
#define POOL_MAX    256 /* stacks kept for reuse per thread: 32 MiB of address space, touched pages only */

struct co {
    struct list link; /* run queue, or a wait queue */
    sigjmp_buf env;
    co_entry *entry;
    void *arg;
    struct co *caller; /* who entered us; NULL: the thread's own stack */
    char *stack;       /* lowest usable byte */
    unsigned valgrind_id;
    void *fake_stack; /* ASan's */
    bool queued, done;
};

/* One per thread. Coroutines never change threads, so caching its address is safe. */
static __thread struct {
    struct co *running;
    struct loop *loop;
    struct list pool; /* self-linked at first use */
    unsigned pooled, alive;
    sigjmp_buf thread_env;
    void *thread_fake_stack;
    const void *thread_stack;
    size_t thread_stack_size;
} self;

static void before_switch(void **save_fake, const struct co *to)
{
#ifdef WITH_ASAN
    const void *bottom = to ? to->stack : self.thread_stack;
    size_t size = to ? STACK_BYTES : self.thread_stack_size;
    __sanitizer_start_switch_fiber(save_fake, bottom, size);
#else
    (void)save_fake, (void)to;
#endif
}

static void after_switch(void *fake, const struct co *from)
{
#ifdef WITH_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake, &bottom, &size);
    if (!from) { /* we came from the thread's stack: learn where it is */
        self.thread_stack = bottom;
        self.thread_stack_size = size;
    }
#else
    (void)fake, (void)from;
#endif
}

static sigjmp_buf *env_of(struct co *co)
{
    return co ? &co->env : &self.thread_env;
}

static void **fake_of(struct co *co)
{
    return co ? &co->fake_stack : &self.thread_fake_stack;
}

/* Leave for whoever entered us. */
static void back_to_caller(struct co *co)
{
    struct co *caller = co->caller;

    self.running = caller;
    before_switch(&co->fake_stack, caller);
    if (sigsetjmp(co->env, 0) == 0) {
        siglongjmp(*env_of(caller), 1);
    }
    after_switch(co->fake_stack, co->caller);
}

/* The bottom of every stack: run one entry after the other. */
static void trampoline(unsigned lo, unsigned hi)
{
    struct co *co = (struct co *)(uintptr_t)(((uint64_t)hi << 32) | lo); /* makecontext passes ints */

    after_switch(NULL, co->caller);
    for (;;) {
        co->entry(co->arg);
        co->done = true;
        back_to_caller(co);
    }
}

static struct co *co_new(void)
{
    struct co *co = calloc(1, sizeof(*co));
    if (!co) {
        return NULL;
    }
    char *map = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        free(co);
        return NULL;
    }
    if (mprotect(map, GUARD_BYTES, PROT_NONE) < 0) { /* runs out of mappings before memory */
        munmap(map, GUARD_BYTES + STACK_BYTES);
        free(co);
        return NULL;
    }
    co->stack = map + GUARD_BYTES;
    co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, co->stack + STACK_BYTES);
    list_init(&co->link);
    return co;
}

static void co_free(struct co *co)
{
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(co->stack, STACK_BYTES);
#endif
    munmap(co->stack - GUARD_BYTES, GUARD_BYTES + STACK_BYTES);
    free(co);
}

/* First entry of a stack. This frame is left for good by the jump back to co_enter, on another stack:
 * AddressSanitizer would keep what it poisoned around it. */
__attribute__((no_sanitize_address)) static void enter_fresh(struct co *co)
{
    ucontext_t uc;
    uintptr_t p = (uintptr_t)co;

    getcontext(&uc);
    uc.uc_stack.ss_sp = co->stack;
    uc.uc_stack.ss_size = STACK_BYTES;
    uc.uc_link = NULL;
    makecontext(&uc, (void (*)(void))trampoline, 2, (unsigned)p, (unsigned)((uint64_t)p >> 32));
    setcontext(&uc);
}

static void co_enter(struct co *co, bool fresh)
{
    struct co *from = self.running;

    assert(!co->queued);
    co->caller = from;
    self.running = co;
    before_switch(fake_of(from), co);
    if (sigsetjmp(*env_of(from), 0) == 0) {
        if (fresh) {
            enter_fresh(co);
        }
        siglongjmp(co->env, 1);
    }
    after_switch(*fake_of(from), co);
    if (co->done) {
        co->done = false;
        self.alive--;
        if (self.pooled < POOL_MAX) {
            list_add_head(&self.pool, &co->link);
            self.pooled++;
        } else {
            co_free(co);
        }
    }
}

/* A stack to run @entry on: pooled, or new. */
static struct co *co_take(co_entry *entry, void *arg, bool *ret_fresh)
{
    if (!self.pool.next) {
        list_init(&self.pool);
    }
    struct co *co = list_first(&self.pool, struct co, link);
    *ret_fresh = !co;
    if (co) {
        list_del(&co->link);
        self.pooled--;
    } else if (!(co = co_new())) {
        return NULL;
    }
    co->entry = entry;
    co->arg = arg;
    self.alive++;
    return co;
}

int co_start(co_entry *entry, void *arg)
{
    bool fresh;
    struct co *co = co_take(entry, arg, &fresh);
    if (!co) {
        return -ENOMEM;
    }
    co_enter(co, fresh);
    return 0;
}

/* A coroutine that begins suspended: it parks itself before its entry. */
struct later {
    co_entry *entry;
    void *arg;
};

static void run_later(void *opaque)
{
    struct later l = *(struct later *)opaque; /* gone once we first suspend */

    co_yield ();
    l.entry(l.arg);
}

int co_start_later(co_entry *entry, void *arg)
{
    struct later l = {entry, arg};

    return co_start(run_later, &l);
}

struct co *co_self(void)
{
    return self.running;
}

void co_suspend(void)
{
    struct co *co = self.running;

    assert(co);
    back_to_caller(co);
}

void co_wake(struct co *co)
{
    assert(!co->queued && !co->done);
    co->queued = true;
    list_add_tail(&self.loop->runnable, &co->link);
}

void co_yield (void)
{
    co_wake(co_self());
    co_suspend();
}

void co_run_queue(struct loop *loop)
{
    /* Only what is there now: what it makes runnable waits for the next turn, after a poll. */
    struct list batch;

    list_init(&batch);
    if (!list_empty(&loop->runnable)) {
        batch = loop->runnable;
        batch.next->prev = batch.prev->next = &batch;
        list_init(&loop->runnable);
    }
    struct co *co;
    while ((co = list_first(&batch, struct co, link))) {
        list_del(&co->link);
        co->queued = false;
        co_enter(co, false);
    }
}

void co_loop_attach(struct loop *loop)
{
    self.loop = loop;
}

struct loop *loop_self(void)
{
    return self.loop;
}

unsigned co_alive(void)
{
    return self.alive;
}

void co_pool_drain(void)
{
    struct co *co;

    if (!self.pool.next) {
        return;
    }
    while ((co = list_first(&self.pool, struct co, link))) {
        list_del(&co->link);
        co_free(co);
    }
    self.pooled = 0;
}

/* ---- waiting for each other ---- */

void co_queue_init(struct co_queue *q)
{
    list_init(&q->waiters);
}

void co_queue_wait(struct co_queue *q)
{
    list_add_tail(&q->waiters, &co_self()->link);
    co_suspend();
}

bool co_queue_wake_one(struct co_queue *q)
{
    struct co *co = list_first(&q->waiters, struct co, link);
    if (!co) {
        return false;
    }
    list_del(&co->link);
    co_wake(co);
    return true;
}

void co_queue_wake_all(struct co_queue *q)
{
    while (co_queue_wake_one(q)) {
    }
}

bool co_queue_empty(const struct co_queue *q)
{
    return list_empty(&q->waiters);
}

void co_mutex_init(struct co_mutex *m)
{
    m->locked = false;
    co_queue_init(&m->queue);
}

void co_mutex_lock(struct co_mutex *m)
{
    if (!m->locked) {
        m->locked = true;
        return;
    }
    co_queue_wait(&m->queue); /* the unlocker hands the lock over: nobody can jump the queue */
    assert(m->locked);
}

void co_mutex_unlock(struct co_mutex *m)
{
    assert(m->locked);
    if (!co_queue_wake_one(&m->queue)) {
        m->locked = false;
    }
}

void co_group_init(struct co_group *g)
{
    *g = (struct co_group){0};
}

static void run_task(void *arg)
{
    struct co_task *t = arg;
    struct co_group *g = t->group;

    t->result = t->fn(t->arg);
    if (--g->running == 0 && g->waiter) {
        co_wake(TAKE_PTR(g->waiter));
    }
}

void co_group_start(struct co_group *g, struct co_task *t, int (*fn)(void *arg), void *arg)
{
    *t = (struct co_task){.group = g, .fn = fn, .arg = arg};
    g->running++;
    if (co_start(run_task, t) < 0) {
        run_task(t);
    }
}

void co_group_wait(struct co_group *g)
{
    assert(!g->waiter);
    if (g->running > 0) {
        g->waiter = co_self();
        co_suspend();
    }
    assert(g->running == 0);
}
