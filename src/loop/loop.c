/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loop's turn: run what is runnable, fire timers, let the engine wait. Engines are chosen
 * here. Never touches a descriptor itself.
 */
#include "loop/loop.h"

#include <stdio.h>

#include "base/iov.h"
#include "loop/engine.h"

static const struct engine *const engines[] = {&engine_uring, &engine_threads, &engine_sim};

static const struct engine *engine_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}

static int choose_engine(struct loop *loop, const struct loop_config *config, struct err *err)
{
    const char *name = config->engine;

    if (!name || !*name) {
        name = getenv("BLKPROOF_ENGINE");
    }
    if (name && *name) {
        loop->engine = engine_find(name);
        if (!loop->engine) {
            return err_set(err, -EINVAL, "there is no engine '%s': expected uring, threads or sim", name);
        }
        return loop->engine->create(loop, err);
    }

    struct err why = {0};
    loop->engine = &engine_uring;
    int r = loop->engine->create(loop, &why);
    if (r == 0) {
        return 0;
    }
    loop->engine = &engine_threads;
    r = loop->engine->create(loop, err);
    if (r == 0 && config->notice) {
        char text[ERR_TEXT_MAX + 64];
        snprintf(text, sizeof(text), "%s; using the threads engine", why.text);
        config->notice(config->opaque, text);
    }
    return r;
}

static unsigned spare_cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) - 1 : 0;
}

int loop_create(const struct loop_config *config, struct loop **ret_loop, struct err *err)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop) {
        return err_set(err, -ENOMEM, "no memory for the loop");
    }
    assert(!loop_self());
    list_init(&loop->runnable);
    loop->posted_tail = &loop->posted_head;
    pthread_mutex_init(&loop->posted_lock, NULL);
    loop->seed = config->seed;
    loop->spare_cores = spare_cores();
    rng_init(&loop->rng, config->seed);
    co_loop_attach(loop);

    int r = choose_engine(loop, config, err);
    if (r < 0) {
        loop->engine = NULL;
        loop_destroy(loop);
        return r;
    }
    loop->now_ns = loop->engine->clock_ns(loop);
    *ret_loop = loop;
    return 0;
}

static void run_posted(struct loop *loop);

void loop_destroy(struct loop *loop)
{
    if (!loop) {
        return;
    }
    workers_stop(loop);
    run_posted(loop);
    if (loop->engine) {
        loop->engine->destroy(loop);
    }
    bufs_drain(loop);
    co_pool_drain();
    co_loop_attach(NULL);
    pthread_mutex_destroy(&loop->posted_lock);
    free(loop->heap);
    free(loop);
}

const char *loop_engine_name(void)
{
    return loop_self()->engine->name;
}

struct rng *loop_rng(void)
{
    return &loop_self()->rng;
}

uint64_t loop_now_ns(void)
{
    return loop_self()->now_ns;
}

uint64_t loop_clock_ns(void)
{
    struct loop *loop = loop_self();

    return loop->now_ns = loop->engine->clock_ns(loop);
}

/* ---- timers: a binary heap, entry 0 unused so that heap_index 0 means not armed ---- */

static void heap_put(struct loop *loop, unsigned i, struct timer *t)
{
    loop->heap[i] = t;
    t->heap_index = i;
}

static void heap_up(struct loop *loop, unsigned i, struct timer *t)
{
    while (i > 1 && loop->heap[i / 2]->at_ns > t->at_ns) {
        heap_put(loop, i, loop->heap[i / 2]);
        i /= 2;
    }
    heap_put(loop, i, t);
}

static void heap_down(struct loop *loop, unsigned i, struct timer *t)
{
    for (;;) {
        unsigned child = 2 * i;
        if (child > loop->heap_len) {
            break;
        }
        if (child < loop->heap_len && loop->heap[child + 1]->at_ns < loop->heap[child]->at_ns) {
            child++;
        }
        if (loop->heap[child]->at_ns >= t->at_ns) {
            break;
        }
        heap_put(loop, i, loop->heap[child]);
        i = child;
    }
    heap_put(loop, i, t);
}

int timer_arm(struct timer *t, uint64_t at_ns)
{
    struct loop *loop = loop_self();

    timer_disarm(t);
    if (loop->heap_len + 1 >= loop->heap_max) {
        unsigned max = loop->heap_max ? 2 * loop->heap_max : 64;
        struct timer **heap = realloc(loop->heap, max * sizeof(struct timer *));
        if (!heap) {
            return -ENOMEM;
        }
        loop->heap = heap;
        loop->heap_max = max;
    }
    t->at_ns = at_ns;
    heap_up(loop, ++loop->heap_len, t);
    return 0;
}

void timer_disarm(struct timer *t)
{
    struct loop *loop = loop_self();
    unsigned i = t->heap_index;

    if (i == 0) {
        return;
    }
    t->heap_index = 0;
    struct timer *last = loop->heap[loop->heap_len--];
    if (last == t) {
        return;
    }
    if (i > 1 && loop->heap[i / 2]->at_ns > last->at_ns) {
        heap_up(loop, i, last);
    } else {
        heap_down(loop, i, last);
    }
}

static void fire_timers(struct loop *loop)
{
    /* Those due now: one that arms itself again for the same instant waits for the next turn. */
    uint64_t now = loop->now_ns;
    unsigned due_max = loop->heap_len;

    while (loop->heap_len > 0 && loop->heap[1]->at_ns <= now && due_max-- > 0) {
        struct timer *t = loop->heap[1];
        timer_disarm(t);
        t->fire(t);
    }
}

struct sleeper {
    struct timer timer;
    struct co *co;
};

static void wake_sleeper(struct timer *t)
{
    co_wake(container_of(t, struct sleeper, timer)->co);
}

void co_sleep_ns(uint64_t ns)
{
    struct sleeper s = {.timer.fire = wake_sleeper, .co = co_self()};
    uint64_t now = loop_clock_ns();

    if (timer_arm(&s.timer, ns > UINT64_MAX - now ? UINT64_MAX : now + ns) < 0) {
        co_yield (); /* no memory for a timer: late is impossible, early is allowed */
        return;
    }
    co_suspend();
}

/* ---- work from other threads ---- */

static void run_posted(struct loop *loop)
{
    if (!__atomic_load_n(&loop->posted_pending, __ATOMIC_ACQUIRE)) {
        return;
    }
    pthread_mutex_lock(&loop->posted_lock);
    struct posted *p = loop->posted_head;
    loop->posted_head = NULL;
    loop->posted_tail = &loop->posted_head;
    loop->posted_told = false;
    __atomic_store_n(&loop->posted_pending, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&loop->posted_lock);
    while (p) {
        struct posted *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

void loop_post_batch(struct loop *loop, void (*fn)(void *arg), void *arg, bool last)
{
    struct posted *p;

    while (!(p = malloc(sizeof(*p)))) {
        usleep(1000); /* another thread waits for memory rather than lose a completion */
    }
    *p = (struct posted){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->posted_lock);
    *loop->posted_tail = p;
    loop->posted_tail = &p->next;
    bool tell = last && !loop->posted_told;
    loop->posted_told |= last;
    __atomic_store_n(&loop->posted_pending, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&loop->posted_lock);
    if (tell) {
        loop->engine->notify(loop);
    }
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    loop_post_batch(loop, fn, arg, true);
}

struct work {
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct loop *loop;
    struct co *co;
};

static void work_done(void *arg)
{
    co_wake(((struct work *)arg)->co);
}

static void work_run(void *arg)
{
    struct work *w = arg;

    w->result = w->fn(w->arg);
    loop_post(w->loop, work_done, w);
}

int loop_work(int (*fn)(void *arg), void *arg)
{
    struct loop *loop = loop_self();
    struct work w = {.fn = fn, .arg = arg, .loop = loop, .co = co_self()};

    if (loop->engine->inline_work || workers_submit(loop, work_run, &w) < 0) {
        return fn(arg);
    }
    co_suspend();
    return w.result;
}

/* ---- the turn ---- */

static void turn(struct loop *loop)
{
    co_run_queue(loop);
    bool idle = co_alive() > 0 && list_empty(&loop->runnable) &&
                !__atomic_load_n(&loop->posted_pending, __ATOMIC_ACQUIRE);
    uint64_t deadline = loop->heap_len > 0 ? loop->heap[1]->at_ns : UINT64_MAX;
    loop->engine->poll(loop, idle, deadline);
    loop->now_ns = loop->engine->clock_ns(loop);
    run_posted(loop);
    fire_timers(loop);
}

struct main_co {
    int (*fn)(void *arg);
    void *arg;
    int result;
};

static void run_main(void *arg)
{
    struct main_co *m = arg;

    m->result = m->fn(m->arg);
}

int loop_run(struct loop *loop, int (*fn)(void *arg), void *arg)
{
    struct main_co m = {.fn = fn, .arg = arg};

    assert(loop == loop_self() && !co_self());
    int r = co_start(run_main, &m);
    if (r < 0) {
        return r;
    }
    while (co_alive() > 0) {
        turn(loop);
    }
    return m.result;
}

/* ---- sockets ---- */

ssize_t sock_recv_now(int fd, void *buf, size_t len)
{
    struct loop *loop = loop_self();

    if (loop->engine->recv_now) {
        return loop->engine->recv_now(fd, buf, len);
    }
    ssize_t n;
    do {
        n = recv(fd, buf, len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t sock_recv(int fd, void *buf, size_t len)
{
    return loop_self()->engine->recv(fd, buf, len);
}

ssize_t sock_send_now(int fd, const struct iovec *iov, int niov)
{
    struct loop *loop = loop_self();

    if (loop->engine->send_now) {
        return loop->engine->send_now(fd, iov, niov);
    }
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)niov};
    ssize_t n;
    do {
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int sock_send_all(int fd, struct iovec *iov, int niov)
{
    const struct engine *engine = loop_self()->engine;

    while (niov > 0) {
        ssize_t n = engine->send(fd, iov, MIN(niov, IOV_LIST_MAX));
        if (n < 0) {
            return (int)n;
        }
        while (niov > 0 && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            niov--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

int fd_poll(int fd, short events, uint64_t deadline_ns)
{
    return loop_self()->engine->poll_fd(fd, events, deadline_ns);
}

void fd_poll_cancel(int fd)
{
    loop_self()->engine->poll_cancel(fd);
}
