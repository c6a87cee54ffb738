/* SPDX-License-Identifier: BSD-2-Clause */
/* The two books of the verify driver against naive models: the set of indeterminate ranges, and the
 * history's judgement of what a sector may show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "drivers/verify/internal.h"

#define CELLS 200

static const uint64_t seed = 20261120;

/* ---- the set ---- */

static void model_add(uint8_t *model, uint64_t start, uint64_t end, uint8_t kind)
{
    for (uint64_t i = start; i < end; i++) {
        model[i] = MAX(model[i], kind);
    }
}

/* Every cell of the set is at least as lenient as the model's; exactly so unless the bound is reached. */
static void compare(const struct indet *s, const uint8_t *model, uint64_t step)
{
    for (uint64_t at = 0, until; at < CELLS; at = until) {
        enum indet_kind kind = indet_at(s, at, CELLS, &until);
        assert_true(until > at);
        for (uint64_t i = at; i < until; i++) {
            bool good = s->reached ? kind >= model[i] : kind == model[i];
            if (!good) {
                fail_msg("seed %llu, step %llu: cell %llu is %d, the model says %d", (unsigned long long)seed,
                         (unsigned long long)step, (unsigned long long)i, kind, model[i]);
            }
        }
    }
}

static void run_set(uint32_t max, unsigned steps, bool *ret_reached)
{
    struct indet s = {0};
    uint8_t model[CELLS] = {0};
    struct rng rng;

    rng_init(&rng, seed + max);
    assert_int_equal(indet_init(&s, max), 0);
    for (unsigned step = 0; step < steps; step++) {
        uint64_t start = rng_below(&rng, CELLS);
        uint64_t end = start + 1 + rng_below(&rng, MIN(CELLS - start, UINT64_C(20)));
        if (rng_below(&rng, 3) == 0) {
            indet_remove(&s, start, end);
            memset(model + start, 0, end - start);
        } else {
            uint8_t kind = (uint8_t)(1 + rng_below(&rng, 3));
            indet_add(&s, start, end, kind);
            model_add(model, start, end, kind);
        }
        assert_true(s.count <= max);
        compare(&s, model, step);
    }
    *ret_reached = s.reached;
    indet_finish(&s);
}

static void set_is_exact_with_room(void **state)
{
    bool reached;

    run_set(CELLS, 20000, &reached);
    assert_false(reached);
}

static void set_is_only_wider_without_room(void **state)
{
    for (uint32_t max = 2; max < 12; max++) {
        bool reached;
        run_set(max, 2000, &reached);
        assert_true(reached);
    }
}

static void touching_ranges_of_one_kind_are_one(void **state)
{
    struct indet s = {0};

    assert_int_equal(indet_init(&s, 8), 0);
    indet_add(&s, 0, 10, INDET_ANY);
    indet_add(&s, 20, 30, INDET_ANY);
    indet_add(&s, 10, 20, INDET_ANY);
    assert_int_equal(s.count, 1);
    indet_add(&s, 30, 40, INDET_DISCARDED);
    assert_int_equal(s.count, 2);
    indet_remove(&s, 0, 40);
    assert_int_equal(s.count, 0);
    indet_finish(&s);
}

/* ---- the history ---- */

#define SECTORS  8
#define VERSIONS 5 /* contents a sector can have: 0 is what it held before all */

/* Contents @version as bytes. Version 1 is zeroes, so that PAST_ZERO is one of them. */
static void contents(uint8_t *sector, unsigned version)
{
    memset(sector, version == 1 ? 0 : (int)(0x40 + version), SECTOR_SIZE);
}

/* What the model knows of a sector: which versions it may show. */
struct model {
    bool may[VERSIONS]; /* [0]: anything */
};

struct step {
    unsigned version;
    uint64_t first, count;
    bool ok;
};

static void record(struct history *h, uint64_t opno, const struct step *s)
{
    uint8_t data[SECTORS * SECTOR_SIZE];
    struct iovec iov = {data, s->count * SECTOR_SIZE};
    uint64_t offset = s->first * SECTOR_SIZE, bytes = s->count * SECTOR_SIZE;
    enum past_kind kind = s->version == 0 ? PAST_DISCARD : s->version == 1 ? PAST_ZERO : PAST_WRITE;

    for (uint64_t i = 0; i < s->count; i++) {
        contents(data + i * SECTOR_SIZE, s->version);
    }
    uint64_t id = history_begin(h, kind, opno, offset, bytes);
    if (kind == PAST_WRITE) {
        history_hash(h, id, &iov, 1);
    }
    history_done(h, id, s->ok, false, false, offset, bytes);
}

static void apply(struct model *m, const struct step *s)
{
    for (uint64_t i = s->first; i < s->first + s->count; i++) {
        if (s->ok) {
            memset(&m[i], 0, sizeof(m[i]));
        }
        m[i].may[s->version] = true;
    }
}

static void check(const struct history *h, const struct model *m, uint64_t step)
{
    for (unsigned version = 1; version < VERSIONS; version++) {
        uint8_t sector[SECTOR_SIZE];
        uint64_t shown[SECTORS];
        enum verdict verdict[SECTORS];
        contents(sector, version);
        for (unsigned i = 0; i < SECTORS; i++) {
            shown[i] = history_hash_sector(sector, SECTOR_SIZE);
        }
        history_judge(h, 0, SECTORS, shown, verdict);
        for (unsigned i = 0; i < SECTORS; i++) {
            enum verdict expected = m[i].may[version] ? VERDICT_YES
                                    : m[i].may[0]     ? VERDICT_UNKNOWN
                                                      : VERDICT_NO;
            /* "anything" may be found before the version is, and says the same */
            bool good = verdict[i] == expected ||
                        (expected == VERDICT_YES && m[i].may[0] && verdict[i] == VERDICT_UNKNOWN);
            if (!good) {
                fail_msg("seed %llu, step %llu: sector %u, version %u: verdict %d, expected %d",
                         (unsigned long long)seed, (unsigned long long)step, i, version, verdict[i],
                         expected);
            }
        }
    }
}

static void judgement_follows_the_model(void **state)
{
    struct history h = {0};
    struct model m[SECTORS] = {0};
    struct rng rng;

    rng_init(&rng, seed);
    assert_int_equal(history_prepare(&h, 1024, 8192, SECTORS * SECTOR_SIZE), 0);
    for (unsigned i = 0; i < SECTORS; i++) {
        m[i].may[0] = true; /* nothing is known of what was there before */
    }
    for (uint64_t step = 1; step < 1000; step++) {
        uint64_t first = rng_below(&rng, SECTORS);
        struct step s = {(unsigned)rng_below(&rng, VERSIONS), first, 1 + rng_below(&rng, SECTORS - first),
                         rng_below(&rng, 2)};
        s.ok |= s.version == 0; /* a discard, failed or not, leaves anything */
        record(&h, step, &s);
        apply(m, &s);
        check(&h, m, step);
    }
    history_finish(&h);
}

/* With a short memory it never says NO to what the device may show. */
static void a_short_memory_raises_no_false_alarm(void **state)
{
    struct history h = {0};
    struct model m[SECTORS] = {0};
    struct rng rng;

    rng_init(&rng, seed);
    assert_int_equal(history_prepare(&h, 16, 32, SECTORS * SECTOR_SIZE), 0);
    for (unsigned i = 0; i < SECTORS; i++) {
        m[i].may[0] = true;
    }
    for (uint64_t step = 1; step < 5000; step++) {
        uint64_t first = rng_below(&rng, SECTORS);
        struct step s = {(unsigned)rng_below(&rng, VERSIONS), first, 1 + rng_below(&rng, SECTORS - first),
                         rng_below(&rng, 4) == 0};
        s.ok |= s.version == 0;
        record(&h, step, &s);
        apply(m, &s);
        for (unsigned version = 1; version < VERSIONS; version++) {
            uint8_t sector[SECTOR_SIZE];
            contents(sector, version);
            for (unsigned i = 0; i < SECTORS; i++) {
                uint64_t shown = history_hash_sector(sector, SECTOR_SIZE);
                enum verdict verdict;
                history_judge(&h, i, 1, &shown, &verdict);
                if (verdict == VERDICT_NO) {
                    assert_false(m[i].may[version] || m[i].may[0]);
                }
            }
        }
    }
    history_finish(&h);
}

/* ---- what the history forgot before it was flushed ---- */

struct lost {
    uint64_t start, end; /* of everything reported as a granule */
    unsigned coarse, fine;
};

static void note_lost(void *opaque, uint64_t offset, uint64_t bytes, bool coarse)
{
    struct lost *l = opaque;

    if (!coarse) {
        l->fine++;
        return;
    }
    l->start = l->coarse == 0 ? offset : MIN(l->start, offset);
    l->end = MAX(l->end, offset + bytes);
    l->coarse++;
}

static void zero_op(struct history *h, uint64_t offset, uint64_t bytes)
{
    uint64_t id = history_begin(h, PAST_ZERO, 1, offset, bytes);
    history_done(h, id, true, false, false, offset, bytes);
}

static void evicted_operations_are_remembered_by_granule(void **state)
{
    struct history h = {0};
    struct lost lost = {0};

    assert_int_equal(history_prepare(&h, 16, 1024, 64 * MiB), 0); /* granules of 1 MiB */
    zero_op(&h, 3 * MiB + 512, 2 * MiB);                          /* touches granules 3, 4 and 5 */
    for (int i = 0; i < 16; i++) {
        zero_op(&h, 0, 512);
    }
    history_lose_unflushed(&h, 64 * MiB, note_lost, &lost);
    assert_int_equal(lost.coarse, 3);
    assert_int_equal(lost.start, 3 * MiB);
    assert_int_equal(lost.end, 6 * MiB);
    assert_int_equal(lost.fine, 16);

    h.flushed_seq = h.done_seq;
    lost = (struct lost){0};
    history_lose_unflushed(&h, 64 * MiB, note_lost, &lost);
    assert_int_equal(lost.coarse, 0);
    assert_int_equal(lost.fine, 0);
    history_finish(&h);
}

static void an_operation_evicted_while_pending_is_remembered_when_it_ends(void **state)
{
    struct history h = {0};
    struct lost lost = {0};

    assert_int_equal(history_prepare(&h, 16, 1024, 64 * MiB), 0);
    uint64_t id = history_begin(&h, PAST_ZERO, 1, 7 * MiB, 4096);
    for (int i = 0; i < 20; i++) {
        zero_op(&h, 0, 512);
    }
    h.flushed_seq = h.done_seq; /* a flush that this one is not covered by */
    history_done(&h, id, true, false, false, 7 * MiB, 4096);
    assert_null(history_entry(&h, id));
    history_lose_unflushed(&h, 64 * MiB, note_lost, &lost);
    assert_int_equal(lost.coarse, 1);
    assert_int_equal(lost.start, 7 * MiB);
    assert_int_equal(lost.end, 8 * MiB);
    history_finish(&h);
}

/* The newest of several evictions counts, whatever the order they come in. */
static void a_granule_keeps_the_latest(void **state)
{
    struct history h = {0};
    struct lost lost = {0};

    assert_int_equal(history_prepare(&h, 16, 1024, 64 * MiB), 0);
    uint64_t slow = history_begin(&h, PAST_ZERO, 1, 1 * MiB, 512);
    uint64_t id = history_begin(&h, PAST_ZERO, 2, 1 * MiB + 4096, 512);
    history_done(&h, id, true, false, false, 1 * MiB + 4096, 512); /* seq 1 */
    uint64_t flush = h.done_seq;                                   /* one begins here, and succeeds late */
    history_done(&h, slow, true, false, false, 1 * MiB, 512);      /* seq 2, evicted first */
    for (int i = 0; i < 16; i++) {
        zero_op(&h, 0, 512);
    }
    h.flushed_seq = flush;
    history_lose_unflushed(&h, 64 * MiB, note_lost, &lost);
    assert_int_equal(lost.coarse, 1);
    assert_int_equal(lost.start, 1 * MiB);
    history_finish(&h);
}

static void what_grew_is_in_the_last_granule(void **state)
{
    struct history h = {0};
    struct lost lost = {0};
    uint64_t size = HISTORY_GRANULES * MiB - MiB; /* granules of 1 MiB */

    assert_int_equal(history_prepare(&h, 16, 1024, size), 0);
    assert_int_equal(h.granule_bytes, 1 * MiB);
    zero_op(&h, 3 * size, 4096); /* the device is four times as large by now */
    for (int i = 0; i < 16; i++) {
        zero_op(&h, 0, 512);
    }
    history_lose_unflushed(&h, 4 * size, note_lost, &lost);
    assert_int_equal(lost.coarse, 1);
    assert_true(lost.start <= 3 * size);
    assert_true(lost.end >= 3 * size + 4096);
    history_finish(&h);
}

/* Sectors in a scatter list cut anywhere have the hashes of flat ones. */
static void hashing_does_not_depend_on_the_scatter_list(void **state)
{
    uint8_t data[5 * SECTOR_SIZE - 100]; /* the last sector is short */
    struct history h = {0};
    struct rng rng;

    rng_init(&rng, seed);
    rng_fill(&rng, data, sizeof(data));
    assert_int_equal(history_prepare(&h, 16, 1024, MiB), 0);
    for (unsigned round = 0; round < 200; round++) {
        struct iovec iov[64];
        int niov = 0;
        for (size_t at = 0; at < sizeof(data); niov++) {
            size_t n = MIN(1 + rng_below(&rng, 900), (uint64_t)(sizeof(data) - at));
            iov[niov] = (struct iovec){data + at, n};
            at += n;
        }
        uint64_t id = history_begin(&h, PAST_WRITE, round, 3 * SECTOR_SIZE, sizeof(data));
        history_hash(&h, id, iov, niov);
        for (unsigned s = 0; s < 5; s++) {
            uint64_t hash;
            assert_true(history_hash_of(&h, history_entry(&h, id), 3 + s, &hash));
            size_t n = MIN((size_t)SECTOR_SIZE, sizeof(data) - s * SECTOR_SIZE);
            assert_true(hash == history_hash_sector(data + (size_t)s * SECTOR_SIZE, n));
        }
    }
    history_finish(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_is_exact_with_room),
        cmocka_unit_test(set_is_only_wider_without_room),
        cmocka_unit_test(touching_ranges_of_one_kind_are_one),
        cmocka_unit_test(judgement_follows_the_model),
        cmocka_unit_test(a_short_memory_raises_no_false_alarm),
        cmocka_unit_test(evicted_operations_are_remembered_by_granule),
        cmocka_unit_test(an_operation_evicted_while_pending_is_remembered_when_it_ends),
        cmocka_unit_test(a_granule_keeps_the_latest),
        cmocka_unit_test(what_grew_is_in_the_last_granule),
        cmocka_unit_test(hashing_does_not_depend_on_the_scatter_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
