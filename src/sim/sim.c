/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sim engine: virtual time and the order of things. Whoever has to wait puts an event into a
 * heap; when no coroutine can run, the clock jumps to the first event. Nothing here reads a real
 * clock, a real random source or an address; all choices come from one generator with the loop's
 * seed, and all operations go into one running hash.
 *
 * With the test API (sim_run) a world in which nothing can happen any more aborts the process: a
 * test that hangs tells nobody why. A loop that a user made with --engine=sim waits instead.
 */
#include "sim/internal.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define SIM_EPOCH_NS UINT64_C(1000000000) /* the clock starts here, so that 0 stays "never" */
#define SIM_TURN_NS  100u /* what a turn of a busy loop costs: time passes even if nobody waits */

const struct sim_latency sim_latency_default = {.min_ns = 1000, .max_ns = 100000};

struct sim *sim_self(void)
{
    struct loop *loop = loop_self();
    assert(loop && loop->engine == &engine_sim);
    return loop->engine_state;
}

/* ---- events ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->tie < b->tie;
}

static void heap_set(struct sim *sim, unsigned i, struct sim_event *e)
{
    sim->heap[i] = e;
    e->index = i;
}

static void heap_up(struct sim *sim, unsigned i, struct sim_event *e)
{
    while (i > 1 && event_before(e, sim->heap[i / 2])) {
        heap_set(sim, i, sim->heap[i / 2]);
        i /= 2;
    }
    heap_set(sim, i, e);
}

static void heap_down(struct sim *sim, unsigned i, struct sim_event *e)
{
    while (2 * i <= sim->heap_len) {
        unsigned child = 2 * i;
        if (child < sim->heap_len && event_before(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (!event_before(sim->heap[child], e)) {
            break;
        }
        heap_set(sim, i, sim->heap[child]);
        i = child;
    }
    heap_set(sim, i, e);
}

void sim_event_init(struct sim_event *e)
{
    *e = (struct sim_event){.co = co_self()};
    list_init(&e->link);
}

int sim_event_arm(struct sim *sim, struct sim_event *e, uint64_t at_ns)
{
    if (sim->heap_len + 1 >= sim->heap_max) {
        unsigned max = MAX(64u, sim->heap_max * 2);
        struct sim_event **heap = realloc(sim->heap, max * sizeof(*heap));
        if (!heap) {
            return -ENOMEM;
        }
        sim->heap = heap;
        sim->heap_max = max;
    }
    e->at_ns = at_ns;
    e->tie = rng_u64(&sim->rng);
    heap_up(sim, ++sim->heap_len, e);
    return 0;
}

void sim_event_disarm(struct sim *sim, struct sim_event *e)
{
    unsigned i = e->index;
    if (i == 0) {
        return;
    }
    e->index = 0;
    struct sim_event *last = sim->heap[sim->heap_len--];
    if (last == e) {
        return;
    }
    if (i > 1 && event_before(last, sim->heap[i / 2])) {
        heap_up(sim, i, last);
    } else {
        heap_down(sim, i, last);
    }
}

static uint64_t draw_latency(struct sim *sim, const struct sim_latency *l)
{
    uint64_t ns = l->min_ns;
    if (l->max_ns > l->min_ns) {
        ns += rng_below(&sim->rng, l->max_ns - l->min_ns + 1);
    }
    if (l->slow_ppm > 0 && rng_chance_ppm(&sim->rng, l->slow_ppm)) {
        ns += l->slow_ns;
    }
    return ns;
}

co_fn int sim_wait(struct sim *sim, const struct sim_latency *latency, uint64_t extra_ns)
{
    struct sim_event e;
    sim_event_init(&e);
    int ret = sim_event_arm(sim, &e, sim->now_ns + draw_latency(sim, latency) + extra_ns);
    if (ret < 0) {
        return ret;
    }
    co_suspend();
    assert(e.index == 0);
    return 0;
}

/* ---- faults ---- */

static bool fault_matches(const struct sim_fault *f, enum sim_op op, uint64_t offset, uint64_t bytes)
{
    return (f->op == SIM_ANY || f->op == op) &&
           (f->bytes == 0 || ranges_overlap(f->offset, f->bytes, offset, bytes));
}

static bool fault_fires(struct sim *sim, struct sim_fault *f)
{
    f->seen++;
    if (f->nth == 0) {
        return rng_chance_ppm(&sim->rng, f->ppm);
    }
    return f->sticky ? f->seen >= f->nth : f->seen == f->nth;
}

static void ask_faults(struct sim *sim, struct sim_fault *faults, unsigned nfaults, enum sim_op op,
                       uint64_t offset, uint64_t bytes, struct sim_fate *fate)
{
    for (unsigned i = 0; i < nfaults; i++) {
        struct sim_fault *f = &faults[i];
        if (fault_matches(f, op, offset, bytes) && fault_fires(sim, f)) {
            fate->delay_ns += f->delay_ns;
            if (fate->error == 0) {
                fate->error = f->error;
                fate->partial = f->partial;
            }
        }
    }
}

struct sim_fate sim_decide(struct sim *sim, struct sim_fault *faults, unsigned nfaults, enum sim_op op,
                           uint64_t offset, uint64_t bytes)
{
    struct sim_fate fate = {0};
    sim->ops++;
    ask_faults(sim, faults, nfaults, op, offset, bytes, &fate);
    ask_faults(sim, sim->faults, sim->nfaults, op, offset, bytes, &fate);
    return fate;
}

uint64_t sim_op_count(void)
{
    return sim_self()->ops;
}

/* ---- traces ---- */

static const char *const op_names[] = {
    [SIM_OPEN] = "open",           [SIM_READ] = "read",         [SIM_WRITE] = "write", [SIM_SYNC] = "sync",
    [SIM_FALLOCATE] = "fallocate", [SIM_TRUNCATE] = "truncate", [SIM_SIZE] = "size",   [SIM_RECV] = "recv",
    [SIM_SEND] = "send",           [SIM_POLL] = "poll",         [SIM_ANY] = "note",
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

void sim_trace(struct sim *sim, enum sim_op op, unsigned object, uint64_t offset, uint64_t bytes, int result)
{
    uint64_t h = mix(sim->trace, sim->now_ns);
    h = mix(h, (uint64_t)op << 56 ^ (uint64_t)object << 32 ^ (uint32_t)result);
    h = mix(h, offset);
    sim->trace = mix(h, bytes);
    if (UNLIKELY(sim->tracer != NULL)) {
        sim->tracer(sim->tracer_opaque, sim->now_ns, op_names[op], object, offset, bytes, result);
    }
}

uint64_t sim_trace_hash(void)
{
    return sim_self()->trace;
}

void sim_trace_add(uint64_t value)
{
    sim_trace(sim_self(), SIM_ANY, 0, value, 0, 0);
}

void sim_set_tracer(sim_tracer *tracer, void *opaque)
{
    struct sim *sim = sim_self();
    sim->tracer = tracer;
    sim->tracer_opaque = opaque;
}

/* ---- the engine ---- */

static int engine_create(struct loop *loop, struct err *err)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim) {
        return err_set(err, -ENOMEM, "no memory for the sim engine");
    }
    sim->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sim->wake_fd < 0) {
        int ret = -errno;
        free(sim);
        return err_set_errno(err, ret, "sim engine: eventfd");
    }
    sim->loop = loop;
    sim->now_ns = SIM_EPOCH_NS;
    rng_init(&sim->rng, loop->seed);
    sim->trace = mix(0, loop->seed);
    list_init(&sim->files);
    list_init(&sim->parked);
    list_init(&sim->links);
    loop->engine_state = sim;
    return 0;
}

static void engine_destroy(struct loop *loop)
{
    struct sim *sim = loop->engine_state;
    if (!sim) {
        return;
    }
    sim_files_finish(sim);
    sim_net_finish(sim);
    close(sim->wake_fd);
    free(sim->heap);
    free(sim);
    loop->engine_state = NULL;
}

/* Wake whoever's time has come; true if somebody was. */
static bool fire_due(struct sim *sim)
{
    bool fired = false;
    while (sim->heap_len > 0 && sim->heap[1]->at_ns <= sim->now_ns) {
        struct sim_event *e = sim->heap[1];
        sim_event_disarm(sim, e);
        list_del(&e->link);
        co_wake(e->co);
        fired = true;
    }
    return fired;
}

/* Nothing on this thread can go on: only a socket from outside or another thread's loop_post helps,
 * and in a test there is neither. */
static void nothing_can_happen(struct sim *sim)
{
    if (co_alive() == 0) { /* the last one has just ended */
        return;
    }
    if (sim->strict) {
        fprintf(stderr, "sim: %u coroutines wait for what cannot happen (seed %llu, virtual time %llu ns)\n",
                co_alive(), (unsigned long long)sim->loop->seed, (unsigned long long)sim->now_ns);
        abort();
    }
    sim_net_poll(sim, true);
}

static void engine_poll(struct loop *loop, bool wait, uint64_t deadline_ns)
{
    struct sim *sim = loop->engine_state;

    sim->now_ns += SIM_TURN_NS;
    if (!list_empty(&sim->parked)) {
        sim_net_poll(sim, false);
    }
    if (fire_due(sim) || !wait || !list_empty(&loop->runnable)) {
        return;
    }
    uint64_t next = sim->heap_len > 0 ? sim->heap[1]->at_ns : UINT64_MAX;
    next = MIN(next, deadline_ns);
    if (next == UINT64_MAX) {
        if (__atomic_load_n(&loop->posted_pending, __ATOMIC_ACQUIRE) == 0) {
            nothing_can_happen(sim);
        }
        return;
    }
    sim->now_ns = MAX(sim->now_ns, next);
    fire_due(sim);
}

static uint64_t engine_clock_ns(struct loop *loop)
{
    return ((struct sim *)loop->engine_state)->now_ns;
}

static void engine_notify(struct loop *loop)
{
    struct sim *sim = loop->engine_state;
    uint64_t one = 1;
    ssize_t n = write(sim->wake_fd, &one, sizeof(one)); /* full: it is awake anyway */
    (void)n;
}

const struct engine engine_sim = {
    .name = "sim",
    .create = engine_create,
    .destroy = engine_destroy,
    .poll = engine_poll,
    .clock_ns = engine_clock_ns,
    .notify = engine_notify,
    .file = &sim_file_ops,
    .recv = sim_recv,
    .recv_now = sim_recv_now,
    .send = sim_send,
    .send_now = sim_send_now,
    .poll_fd = sim_poll_fd,
    .poll_cancel = sim_poll_cancel,
    .inline_work = true,
};

/* ---- running ---- */

struct sim_main {
    int (*fn)(void *arg);
    void *arg;
    uint64_t trace;
};

static int sim_main(void *arg)
{
    struct sim_main *m = arg;
    sim_self()->strict = true;
    int ret = m->fn(m->arg);
    m->trace = sim_trace_hash();
    return ret;
}

int sim_run(uint64_t seed, int (*fn)(void *arg), void *arg, uint64_t *ret_trace)
{
    struct loop_config config = {.engine = "sim", .seed = seed};
    struct sim_main m = {.fn = fn, .arg = arg};
    struct loop *loop;

    int ret = loop_create(&config, &loop, NULL);
    if (ret < 0) {
        return ret;
    }
    ret = loop_run(loop, sim_main, &m);
    loop_destroy(loop);
    if (ret_trace) {
        *ret_trace = m.trace;
    }
    return ret;
}
