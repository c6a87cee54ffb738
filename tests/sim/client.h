/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A random client of a node: coroutines that read, write, zero, discard, flush, resize and ask,
 * anywhere, at the same time, aligned or not, each request legal. It looks at no data: what watches
 * it is the verifier below.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "world.h"

#define CLIENT_COROUTINES 16
#define CLIENT_LENGTH_MAX (32 * KiB)
/* The client's operation numbers begin here, those of the verifier's own requests never get so far:
 * the option error-from of sim-device tells them apart. */
#define CLIENT_OPNO (UINT64_C(1) << 32)

struct client {
    struct world *w;
    struct rng rng;
    uint64_t size_max; /* of the node */
    uint64_t requests; /* still to be made, by all coroutines together */
    uint64_t opno;
    bool resize, discard, flush;
    bool may_fail; /* -EIO is an answer */
    bool may_drop; /* so is none */
    uint64_t done[REQ_OP_COUNT], failed;
};

static inline uint64_t client_below(struct client *c, uint64_t n)
{
    return rng_below(&c->rng, n);
}

/* Half of all requests in whole sectors; most are small; a fifth aims at one busy place. */
static inline void client_range(struct client *c, struct req *r)
{
    uint64_t size = node_size(c->w->node);
    uint64_t len_max = client_below(c, 8) == 0 ? CLIENT_LENGTH_MAX : 4096;
    bool sectors = client_below(c, 2) == 0;
    uint64_t span = client_below(c, 5) == 0 ? MIN(size, UINT64_C(8192)) : size;

    r->offset = client_below(c, span);
    r->bytes = 1 + client_below(c, len_max);
    if (sectors) {
        r->offset = round_down(r->offset, SECTOR_SIZE);
        r->bytes = round_up(r->bytes, SECTOR_SIZE);
    }
    r->bytes = MIN(r->bytes, size - r->offset);
}

static inline enum req_op client_op(struct client *c)
{
    uint64_t x = client_below(c, 1000);
    if (x < 400) {
        return REQ_READ;
    }
    if (x < 800) {
        return REQ_WRITE;
    }
    if (x < 870) {
        return REQ_ZERO;
    }
    if (x < 940 && c->discard) {
        return REQ_DISCARD;
    }
    if (x < 945 && c->resize) {
        return REQ_TRUNCATE;
    }
    if (x < 970 && c->flush) {
        return REQ_FLUSH;
    }
    return x < 990 ? REQ_STATUS : REQ_CACHE;
}

static inline void client_flags(struct client *c, struct req *r)
{
    if (r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD) {
        r->flags |= client_below(c, 16) == 0 ? REQ_FUA : 0u;
    }
    if (r->op == REQ_ZERO) {
        r->flags |= client_below(c, 2) == 0 ? REQ_UNMAP : 0u;
        r->flags |= client_below(c, 8) == 0 ? REQ_NO_FALLBACK : 0u;
    }
    if (r->op == REQ_READ || r->op == REQ_WRITE) {
        r->flags |= client_below(c, 16) == 0 ? REQ_UNSTABLE : 0u;
    }
}

/* One or two elements; sometimes the same memory twice. */
static inline void client_iov(struct client *c, struct req *r, struct iovec iov[2], char *buf)
{
    uint64_t cut = client_below(c, 4) == 0 && r->bytes > 1 ? 1 + client_below(c, r->bytes - 1) : 0;
    bool alias = client_below(c, 4) == 0;
    iov[0] = (struct iovec){buf, cut ? cut : r->bytes};
    iov[1] = (struct iovec){buf + (alias ? 0 : cut), r->bytes - cut};
    r->iov = iov;
    r->niov = cut ? 2 : 1;
    if (r->op == REQ_WRITE) { /* few bytes of randomness are enough: contents must differ, not be random */
        rng_fill(&c->rng, buf, MIN(r->bytes, UINT64_C(32)));
        for (uint64_t at = 0; at < r->bytes; at += SECTOR_SIZE) {
            uint64_t mark = rng_u64(&c->rng);
            memcpy(buf + at, &mark, MIN(sizeof(mark), r->bytes - at));
        }
    }
}

static inline co_fn void client_request(struct client *c, char *buf)
{
    struct iovec iov[2];
    struct extent extent;
    struct req r = {.op = client_op(c), .opno = c->opno++, .extent = &extent};

    if (r.op == REQ_TRUNCATE) {
        r.offset = 1 + client_below(c, c->size_max);
        r.offset = client_below(c, 2) ? round_up(r.offset, SECTOR_SIZE) : r.offset;
    } else if (r.op != REQ_FLUSH) {
        client_range(c, &r);
    }
    client_flags(c, &r);
    if (r.op == REQ_READ || r.op == REQ_WRITE) {
        client_iov(c, &r, iov, buf);
    }
    enum req_op op = r.op;
    bool may_refuse = (r.flags & REQ_NO_FALLBACK) != 0;
    int ret = node_io(c->w->node, &r);
    /* A resize that came first may have put the range past the end. */
    CHECK(ret == 0 || (ret == -EIO && (c->may_fail || c->resize)) || (ret == -ENOTSUP && may_refuse) ||
          (ret == REQ_DROPPED && c->may_drop));
    if (ret < 0 && c->may_drop) { /* the disk may be away: as one that tries again, not at once */
        co_sleep_ns(200000);
    }
    c->done[op]++;
    c->failed += ret == -EIO;
    sim_trace_add((uint64_t)ret);
}

static inline int client_coroutine(void *arg)
{
    struct client *c = arg;
    char *buf = calloc(1, CLIENT_LENGTH_MAX);
    CHECK(buf != NULL);
    while (c->requests > 0) {
        c->requests--;
        client_request(c, buf);
    }
    free(buf);
    return 0;
}

/* Make all the requests and wait for them. */
static inline co_fn void client_run(struct client *c)
{
    struct co_task tasks[CLIENT_COROUTINES];
    struct co_group g;

    rng_init(&c->rng, world_seed);
    c->opno = CLIENT_OPNO;
    co_group_init(&g);
    for (unsigned i = 0; i < CLIENT_COROUTINES; i++) {
        co_group_start(&g, &tasks[i], client_coroutine, c);
    }
    co_group_wait(&g);
}

#endif
