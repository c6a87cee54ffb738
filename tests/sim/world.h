/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the simulated tests share: running a scenario from a seed, checks that may fail inside a
 * coroutine (cmocka's jump out of one would not survive), graphs from JSON text, and a graph that
 * collects its notices.
 *
 * BLKPROOF_SEED=n runs a test with another seed than its pinned ones.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "block/block.h"
#include "sim/sim.h"

static uint64_t world_seed;

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            check_failed(__FILE__, __LINE__, #cond, 0, 0);                                                   \
        }                                                                                                    \
    } while (0)
#define CHECK_EQ(a, b)                                                                                       \
    do {                                                                                                     \
        long long a_ = (long long)(a), b_ = (long long)(b);                                                  \
        if (a_ != b_) {                                                                                      \
            check_failed(__FILE__, __LINE__, #a " == " #b, a_, b_);                                          \
        }                                                                                                    \
    } while (0)

static inline void check_failed(const char *file, int line, const char *what, long long a, long long b)
{
    fprintf(stderr, "%s:%d: not so: %s (%lld, %lld)\nto repeat: BLKPROOF_SEED=%llu %s\n", file, line, what, a,
            b, (unsigned long long)world_seed, program_invocation_name);
    abort();
}

/* The pinned seed, or that of BLKPROOF_SEED. */
static inline UNUSED uint64_t seed_from_env(uint64_t seed)
{
    const char *text = getenv("BLKPROOF_SEED");
    return text ? strtoull(text, NULL, 0) : seed;
}

/* False for a single seed, which need not show everything that many do. */
static inline UNUSED bool many_seeds(void)
{
    return getenv("BLKPROOF_SEED") == NULL;
}

/* Seeds 1 to @last, or the one of BLKPROOF_SEED. */
#define FOR_EACH_SEED(seed, last)                                                                            \
    for (uint64_t seed = seed_from_env(1), end_ = seed_from_env(last); seed <= end_; seed++)

/* Run a scenario; it must return 0. Returns the trace. */
static inline UNUSED uint64_t world_run(uint64_t seed, int (*fn)(void *arg), void *arg)
{
    uint64_t trace = 0;
    world_seed = seed;
    int ret = sim_run(seed, fn, arg, &trace);
    if (ret != 0) {
        check_failed("scenario", 0, "result 0", ret, 0);
    }
    return trace;
}

/* ---- graphs ---- */

#define NOTICES_MAX (64 * KiB)

struct world {
    struct graph graph;
    struct node *node;
    unsigned stops;
    char text[NOTICES_MAX]; /* every notice, a line each */
    size_t text_len;
};

static inline void world_notice(struct graph *g, enum notice_kind kind, const char *text)
{
    struct world *w = g->opaque;
    int n = snprintf(w->text + w->text_len, NOTICES_MAX - w->text_len, "%s\n", text);
    w->text_len = MIN(w->text_len + (size_t)n, (size_t)NOTICES_MAX - 1);
}

static inline void world_stop(struct graph *g, struct node *n)
{
    ((struct world *)g->opaque)->stops++;
}

static inline void world_init(struct world *w)
{
    memset(w, 0, offsetof(struct world, text));
    w->text[0] = 0;
    w->text_len = 0;
    graph_init(&w->graph);
    w->graph.notice = world_notice;
    w->graph.stop = world_stop;
    w->graph.opaque = w;
}

/* Open what the JSON text (a printf format) describes. */
static inline PRINTF(4, 5) int world_open(struct world *w, unsigned flags, struct err *err, const char *fmt,
                                          ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    AUTO_JSON json_t *options = json_loads(text, 0, NULL);
    CHECK(options != NULL);
    return node_open(&w->graph, options, flags, &w->node, err);
}

#define WORLD_OPEN(w, ...)                                                                                   \
    do {                                                                                                     \
        struct err err_ = {0};                                                                               \
        if (world_open(w, OPEN_WRITE | OPEN_UNMAP | OPEN_RESIZE, &err_, __VA_ARGS__) < 0) {                  \
            check_failed(__FILE__, __LINE__, err_.text, err_.code, 0);                                       \
        }                                                                                                    \
    } while (0)

static inline co_fn void world_close(struct world *w)
{
    node_unref(w->node);
    w->node = NULL;
    CHECK(list_empty(&w->graph.nodes));
}

#endif
