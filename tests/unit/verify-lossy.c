/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that loses what was not flushed, fails writes and flushes, and forgets discards, all as it
 * legally may, under a random client with random sizes of the verifier's books: never an alarm. The
 * same device doing the same without the right to must be caught.
 */
#include "base/iov.h"
#include "base/rng.h"
#include "verify_rig.h"

#define SECTORS  64
#define BYTES    (SECTORS * 512)
#define KEPT_MAX 8 /* versions of a sector since the last flush; then the device flushes by itself */
#define STEPS    20000

/* What the device may go back to. */
struct lossy {
    struct rng rng;
    uint8_t kept[SECTORS][KEPT_MAX][512];
    unsigned count[SECTORS]; /* kept[0] is durable, the last one is current */
    bool discarded[SECTORS];
};

static struct lossy *lossy;

static void keep(unsigned sector, const uint8_t *data, bool durable)
{
    if (durable || lossy->count[sector] == KEPT_MAX) { /* writing back early is its right */
        lossy->count[sector] = 0;
    }
    memcpy(lossy->kept[sector][lossy->count[sector]++], data, 512);
}

static void settle_all(void)
{
    for (unsigned i = 0; i < SECTORS; i++) {
        memcpy(lossy->kept[i][0], lossy->kept[i][lossy->count[i] - 1], 512);
        lossy->count[i] = 1;
    }
}

/* The power goes: each sector keeps one of its versions. */
static void lose(void)
{
    for (unsigned i = 0; i < SECTORS; i++) {
        unsigned which = (unsigned)rng_below(&lossy->rng, lossy->count[i]);
        memcpy(lossy->kept[i][0], lossy->kept[i][which], 512);
        lossy->count[i] = 1;
    }
}

static void change(const struct req *r, bool fails)
{
    uint8_t data[BYTES] = {0};

    if (r->op == REQ_WRITE) {
        iov_to_buf(r->iov, r->niov, 0, data, r->bytes);
    } else if (r->op == REQ_DISCARD) {
        rng_fill(&lossy->rng, data, r->bytes);
    }
    for (unsigned i = 0; i < r->bytes / 512; i++) {
        unsigned sector = (unsigned)(r->offset / 512) + i;
        if (fails && rng_below(&lossy->rng, 2)) {
            continue; /* this one was not written */
        }
        lossy->discarded[sector] = r->op == REQ_DISCARD;
        keep(sector, data + i * 512, !fails && (r->flags & REQ_FUA));
    }
}

static void show(const struct req *r)
{
    for (unsigned i = 0; i < r->bytes / 512; i++) {
        unsigned sector = (unsigned)(r->offset / 512) + i;
        uint8_t *now = lossy->kept[sector][lossy->count[sector] - 1];
        if (lossy->discarded[sector]) {
            rng_fill(&lossy->rng, now, 512); /* something else every time */
        }
        iov_from_buf(r->iov, r->niov, i * 512, now, 512);
    }
}

/* @arg: the next changing request or flush fails. */
static co_fn bool lossy_io(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    bool fails = t->arg && r->op != REQ_READ;

    *ret_rc = fails ? -EIO : 0;
    if (r->op == REQ_READ) {
        show(r);
    } else if (r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD) {
        change(r, fails);
    } else if (r->op == REQ_FLUSH) {
        fails ? lose() : settle_all();
    } else {
        return false;
    }
    return true;
}

/* The reference fails alike, having written all or nothing. */
static co_fn bool failing_reference(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (!t->arg || (r->op != REQ_WRITE && r->op != REQ_ZERO && r->op != REQ_FLUSH)) {
        return false;
    }
    if (t->arg2) {
        t->below->io(n, r);
    }
    *ret_rc = -EIO;
    return true;
}

static co_fn void step(struct rig *rig, struct rng *rng)
{
    uint8_t buf[BYTES];
    uint64_t first = rng_below(rng, SECTORS), count = 1 + rng_below(rng, MIN(SECTORS - first, UINT64_C(12)));
    uint64_t what = rng_below(rng, 100);
    unsigned flags = rng_below(rng, 8) == 0 ? REQ_FUA : 0u;
    bool fails = rng_below(rng, 20) == 0;

    rig->on_test.arg = rig->on_raw.arg = fails && what < 75;
    rig->on_raw.arg2 = rng_below(rng, 2);
    if (what < 40) {
        memset(buf, 0, count * 512);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t mark = rng_u64(rng);
            memcpy(buf + i * 512, &mark, sizeof(mark));
        }
        node_write(rig->v, first * 512, buf, count * 512, flags);
    } else if (what < 50) {
        node_zero(rig->v, first * 512, count * 512, flags);
    } else if (what < 55) {
        rig->on_test.arg = rig->on_raw.arg = 0;
        node_discard(rig->v, first * 512, count * 512);
    } else if (what < 60) {
        node_flush(rig->v);
    } else if (what < 61) {
        lose();
        node_reconnected(rig->test);
    } else {
        node_read(rig->v, first * 512, buf, count * 512);
    }
    rig->on_test.arg = rig->on_raw.arg = 0;
}

static co_fn void start(struct rig *rig, uint64_t seed, struct rng *rng)
{
    char options[128];
    struct err err = {0};

    rng_init(rng, seed);
    lossy = calloc(1, sizeof(*lossy));
    rng_init(&lossy->rng, seed + 1);
    for (unsigned i = 0; i < SECTORS; i++) {
        lossy->count[i] = 1;
    }
    snprintf(options, sizeof(options), "\"history\":%u,\"history-sectors\":%u,\"indeterminate\":%u",
             16u << rng_below(rng, 8), 1024u << rng_below(rng, 4), 2u << rng_below(rng, 8));
    assert_int_equal(rig_try(rig, options, BYTES, BYTES, &err), 0);
    rig->on_test.play = lossy_io;
    rig->on_raw.play = failing_reference;
}

static co_fn void finish(struct rig *rig)
{
    rig_close(rig);
    free(lossy);
}

TEST(a_legal_device_raises_no_alarm)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rng rng;
        start(rig, seed, &rng);
        for (int i = 0; i < STEPS; i++) {
            step(rig, &rng);
            if (rig->g.mismatches > 0) {
                fail_msg("seed %llu, step %d:\n%s", (unsigned long long)seed, i, rig->said);
            }
        }
        finish(rig);
    }
}

/* Losing without saying so (no reconnect) is not legal: sooner or later it is caught. */
TEST(a_device_that_loses_silently_is_caught)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rng rng;
        start(rig, seed, &rng);
        for (int i = 0; i < STEPS && rig->g.mismatches == 0; i++) {
            step(rig, &rng);
            if (i % 50 == 0) {
                lose();
            }
        }
        assert_int_not_equal(rig->g.mismatches, 0);
        finish(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_legal_device_raises_no_alarm),
        cmocka_unit_test(a_device_that_loses_silently_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
