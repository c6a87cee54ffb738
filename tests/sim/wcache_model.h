/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients of a write cache that write down for themselves what a disk may do: for each sector the bytes that
 * it may hold after a power cut (the durable ones, and every later write), and which of these were promised
 * to be durable. They know nothing of the cache but the answers they get; from that alone they say what an
 * honest disk may have lost, and compare it with the cache's report.
 *
 * Every write fills whole sectors with one byte. Each client has sectors of its own, and does one thing after
 * the other; pages of the cache are shared by neighbours.
 */
#ifndef TESTS_SIM_WCACHE_MODEL_H
#define TESTS_SIM_WCACHE_MODEL_H

#include "block/driver.h"
#include "drivers/wcache/wcache.h"
#include "world.h"

#define MODEL_SECTORS 256u /* 128 KiB */
#define MODEL_BYTES   (MODEL_SECTORS * SECTOR_SIZE)
#define MODEL_CLIENTS 4u
#define MODEL_OWN     61u /* sectors of each: no multiple of a page */
#define MODEL_OPS_MAX 65536u

struct model_sector {
    uint8_t newest;
    bool has_unacked; /* a write that the cut has ended */
    uint8_t unacked;
    bool may[256]; /* be there after a cut of an honest disk */
    uint8_t
        written[256]; /* how often since the last cut (which left one), up to 2: no disk can invent others */
};

/* The operation log: when, counted in steps of all clients, a write was acknowledged. */
struct model_op {
    uint32_t acked_at; /* 0: it was not, or is no write */
    uint8_t byte;
    bool fua;
};

struct model {
    struct world w;
    struct rng rng;
    struct node *cache;
    struct model_sector sectors[MODEL_SECTORS];
    bool lying;                         /* flushes and FUA are promises, and nothing more */
    bool stop;                          /* the power went: clients go home */
    bool whole;                         /* the cut leaves no sector half written */
    uint64_t ops;                       /* each client does so many, in one round */
    struct model_op log[MODEL_OPS_MAX]; /* by operation number */
    uint32_t step;
    uint32_t flushed_at; /* the last flush that was acknowledged came then */
};

struct model_client {
    struct model *m;
    unsigned first; /* sector */
};

static void model_settle(struct model_sector *s, uint8_t byte)
{
    memset(s->may, 0, sizeof(s->may));
    memset(s->written, 0, sizeof(s->written));
    s->may[byte] = true;
    s->written[byte] = 1;
    s->newest = byte;
    s->has_unacked = false;
}

/* Everything this client has written is durable now, or was promised to be. */
static void model_flushed(struct model_client *c)
{
    for (unsigned i = c->first; i < c->first + MODEL_OWN; i++) {
        struct model_sector *s = &c->m->sectors[i];
        memset(s->may, 0, sizeof(s->may));
        s->may[s->newest] = true;
    }
}

static co_fn void model_write(struct model_client *c)
{
    struct model *m = c->m;
    static const unsigned kinds[] = {REQ_WRITE, REQ_WRITE, REQ_WRITE, REQ_WRITE, REQ_ZERO, REQ_DISCARD};
    enum req_op op = kinds[rng_below(&m->rng, ARRAY_SIZE(kinds))];
    unsigned at = c->first + (unsigned)rng_below(&m->rng, MODEL_OWN);
    unsigned n = 1 + (unsigned)rng_below(&m->rng, MIN(c->first + MODEL_OWN - at, 20u));
    uint8_t byte = op == REQ_WRITE ? (uint8_t)(1 + rng_below(&m->rng, 255)) : 0;
    uint8_t data[20 * SECTOR_SIZE];
    struct iovec iov = {data, n * SECTOR_SIZE};
    bool fua = rng_below(&m->rng, 12) == 0;
    struct req r = {.op = op,
                    .flags = fua ? REQ_FUA : 0,
                    .offset = at * SECTOR_SIZE,
                    .bytes = n * SECTOR_SIZE,
                    .iov = op == REQ_WRITE ? &iov : NULL,
                    .niov = op == REQ_WRITE};

    memset(data, byte, sizeof(data));
    for (unsigned i = at; i < at + n; i++) {
        uint8_t *written = &m->sectors[i].written[byte];
        *written = MIN(*written + 1, 2);
        m->sectors[i].may[byte] = true;
    }
    int ret = node_io(m->w.node, &r);
    CHECK(ret == 0 || (ret == -EIO && m->stop));
    CHECK(r.opno < MODEL_OPS_MAX);
    if (ret == 0) {
        m->log[r.opno] = (struct model_op){.acked_at = ++m->step, .byte = byte, .fua = fua};
    }
    for (unsigned i = at; i < at + n; i++) {
        struct model_sector *s = &m->sectors[i];
        if (ret < 0) {
            s->has_unacked = true;
            s->unacked = byte;
            continue;
        }
        s->newest = byte;
        if (fua) {
            memset(s->may, 0, sizeof(s->may));
            s->may[byte] = true;
        }
    }
}

static co_fn void model_read(struct model_client *c)
{
    struct model *m = c->m;
    uint8_t data[32 * SECTOR_SIZE];
    uint64_t offset = c->first * SECTOR_SIZE + rng_below(&m->rng, MODEL_OWN * SECTOR_SIZE);
    uint64_t bytes = 1 + rng_below(&m->rng, MIN((c->first + MODEL_OWN) * SECTOR_SIZE - offset, sizeof(data)));
    int ret = node_read(m->w.node, offset, data, bytes);

    if (ret < 0) {
        CHECK(m->stop);
        return;
    }
    for (uint64_t i = 0; i < bytes; i++) {
        CHECK_EQ(data[i], m->sectors[(offset + i) / SECTOR_SIZE].newest);
    }
}

static int model_client(void *arg)
{
    struct model_client *c = arg;
    struct model *m = c->m;

    for (uint64_t i = 0; i < m->ops && !m->stop; i++) {
        uint64_t x = rng_below(&m->rng, 100);
        uint32_t now = ++m->step;
        if (x < 65) {
            model_write(c);
        } else if (x < 90) {
            model_read(c);
        } else if (node_flush(m->w.node) == 0) {
            model_flushed(c);
            m->flushed_at = MAX(m->flushed_at, now);
        } else {
            CHECK(m->stop);
        }
    }
    return 0;
}

/* ---- after the cut ---- */

static bool in_loss(const json_t *report, uint64_t sector, bool legal)
{
    const json_t *loss;
    size_t i;

    json_array_foreach(json_object_get(report, "losses"), i, loss)
    {
        uint64_t start = (uint64_t)json_integer_value(json_object_get(loss, "offset"));
        uint64_t bytes = (uint64_t)json_integer_value(json_object_get(loss, "bytes"));
        if (json_is_true(json_object_get(loss, "legal")) == legal &&
            ranges_overlap(start, bytes, sector * SECTOR_SIZE, SECTOR_SIZE)) {
            return true;
        }
    }
    return false;
}

/* From the operation log alone: had the client been told that this write is durable? */
static bool was_promised(const struct model *m, uint64_t opno)
{
    const struct model_op *op = &m->log[opno];

    return op->acked_at > 0 && (op->fua || op->acked_at < m->flushed_at);
}

/* What is there is the newest write, and no other of the same byte: nothing older is a loss. */
static void check_superseded(const struct model *m, const json_t *report, unsigned i, uint8_t byte)
{
    const struct model_sector *s = &m->sectors[i];
    const json_t *loss;
    size_t k;

    if (!m->whole || byte != s->newest || s->written[byte] != 1) {
        return;
    }
    json_array_foreach(json_object_get(report, "losses"), k, loss)
    {
        uint64_t start = (uint64_t)json_integer_value(json_object_get(loss, "offset"));
        uint64_t bytes = (uint64_t)json_integer_value(json_object_get(loss, "bytes"));
        CHECK(!ranges_overlap(start, bytes, i * SECTOR_SIZE, SECTOR_SIZE));
    }
}

/* The report says of every loss whether it is legal: so does the log. */
static void check_legality(const struct model *m, const json_t *report)
{
    const json_t *loss;
    size_t i;

    json_array_foreach(json_object_get(report, "losses"), i, loss)
    {
        const char *fate = json_string_value(json_object_get(loss, "fate"));
        uint64_t opno = (uint64_t)json_integer_value(json_object_get(loss, "operation"));
        bool damaged =
            strcmp(fate, "split") == 0 || strcmp(fate, "zeroed") == 0 || strcmp(fate, "garbage") == 0;
        CHECK(opno > 0 && opno < MODEL_OPS_MAX);
        CHECK(m->log[opno].acked_at > 0);
        CHECK_EQ(json_is_true(json_object_get(loss, "legal")), !damaged && !was_promised(m, opno));
    }
}

static void check_sector(struct model *m, const json_t *report, unsigned i, const uint8_t *data, bool whole)
{
    struct model_sector *s = &m->sectors[i];
    bool uniform = true, illegal = in_loss(report, i, false);

    for (unsigned k = 1; k < SECTOR_SIZE; k++) {
        uniform &= data[k] == data[0];
    }
    if (!uniform || !s->written[data[0]]) { /* torn inside, or garbage: the report says so */
        CHECK(!whole);
        CHECK(illegal);
    } else if (!s->may[data[0]]) { /* what was promised is gone */
        CHECK(m->lying || !whole);
        CHECK(illegal);
    } else if (data[0] != s->newest && !(s->has_unacked && data[0] == s->unacked)) { /* an honest disk may */
        CHECK(illegal || in_loss(report, i, true));
    }
    if (uniform) {
        check_superseded(m, report, i, data[0]);
    }
    struct explanation why = {0};
    struct blame b = {.op = REQ_READ, .offset = i * SECTOR_SIZE, .bytes = SECTOR_SIZE, .data = data};
    bool lost = illegal || in_loss(report, i, true);
    if (lost) { /* else an earlier cut may explain it */
        CHECK(node_explain(m->cache, &b, &why));
        CHECK_EQ(why.legal, !illegal);
    }
    if (lost) { /* a byte that the cut has not made is nobody's doing */
        uint8_t other[SECTOR_SIZE];
        memcpy(other, data, sizeof(other));
        other[17] ^= 1;
        b.data = other;
        CHECK(!node_explain(m->cache, &b, &why));
    }
}

/* @whole: the policy leaves no sector half written. */
static co_fn void model_check(struct model *m, bool whole)
{
    static uint8_t data[MODEL_BYTES];
    AUTO_JSON json_t *report = wcache_report(m->cache, SIZE_MAX);

    CHECK(json_is_object(report));
    CHECK(json_is_true(json_object_get(report, "complete")));
    check_legality(m, report);
    if (!m->lying && whole) {
        CHECK_EQ(json_integer_value(json_object_get(report, "illegal-losses")), 0);
    }
    CHECK_EQ(node_read(m->w.node, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < MODEL_CLIENTS * MODEL_OWN; i++) {
        check_sector(m, report, i, data + i * SECTOR_SIZE, whole);
    }
}

/* What is there now is what recovery begins with; sectors that are no single byte are made whole
 * behind the cache, which is empty: a disk that lies shall not bring them back. */
static co_fn void model_adopt(struct model *m)
{
    static uint8_t data[MODEL_BYTES];

    CHECK_EQ(node_read(m->w.node, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < MODEL_CLIENTS * MODEL_OWN; i++) {
        const uint8_t *at = data + i * SECTOR_SIZE;
        bool uniform = memcmp(at, at + 1, SECTOR_SIZE - 1) == 0;
        if (!uniform) {
            static const uint8_t zeroes[SECTOR_SIZE];
            CHECK_EQ(node_write(node_below(m->cache), i * SECTOR_SIZE, zeroes, SECTOR_SIZE, 0), 0);
        }
        model_settle(&m->sectors[i], uniform ? at[0] : 0);
    }
    CHECK_EQ(node_flush(m->w.node), 0);
    memset(m->log, 0, sizeof(m->log));
    m->step = 0;
    m->flushed_at = 0;
}

#endif
