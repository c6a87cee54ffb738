/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A COW file on a disk that forgets what was not flushed: after a power cut at any moment every flushed
 * sector is there, and every other one is what it was or what was last written, never anything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/json.h"
#include "block/block.h"
#include "sim/sim.h"

#define SECTORS 512u
#define BYTES   (SECTORS * 512u)
#define WRITERS 4
#define RUNS    200

struct world {
    uint64_t seed;
    uint32_t version[SECTORS], durable[SECTORS]; /* 0: the backing file's */
    bool busy[SECTORS];
    bool cut;
    uint64_t writes;
};

static void fill(uint8_t *buf, unsigned sector, uint32_t version)
{
    for (unsigned i = 0; i < 512; i += 8) {
        put_be32(buf + i, sector);
        put_be32(buf + i + 4, version);
    }
}

static void make_files(void)
{
    uint8_t header[4128] = {0}, buf[512];
    struct sim_file *backing = sim_file_create("base", &(struct sim_disk){.size = BYTES});
    struct sim_file *cow =
        sim_file_create("disk.cow", &(struct sim_disk){.size = 12288 + BYTES, .tear = true});

    for (unsigned s = 0; s < SECTORS; s++) {
        fill(buf, s, 0);
        sim_file_poke(backing, s * 512, buf, 512);
    }
    put_be32(header, 0x4f4f4f4d);
    put_be32(header + 4, 3);
    put_be64(header + 12, BYTES);
    put_be32(header + 20, 512);
    put_be32(header + 24, 4096);
    strcpy((char *)header + 32, "base");
    sim_file_poke(cow, 0, header, sizeof(header));
}

static co_fn struct node *open_disk(struct graph *g, unsigned flags)
{
    struct node *n = NULL;
    struct err err = {0};

    graph_init(g);
    if (node_open_name(g,
                       "json:{\"driver\":\"cow\",\"check-backing\":false,"
                       "\"file\":{\"driver\":\"file\",\"filename\":\"disk.cow\"},"
                       "\"backing\":{\"driver\":\"file\",\"filename\":\"base\"}}",
                       NULL, flags, &n, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return n;
}

struct writer {
    struct world *w;
    struct node *n;
};

static int write_some(void *arg)
{
    struct writer *me = arg;
    struct world *w = me->w;
    struct rng *rng = loop_rng();
    uint8_t buf[8 * 512];

    while (!w->cut) {
        unsigned s = (unsigned)rng_below(rng, SECTORS - 8), count = 1 + (unsigned)rng_below(rng, 8);
        bool free = true;
        for (unsigned i = 0; i < count; i++) {
            free &= !w->busy[s + i];
        }
        if (!free) {
            co_yield ();
            continue;
        }
        for (unsigned i = 0; i < count; i++) {
            w->busy[s + i] = true;
            fill(buf + i * 512, s + i, ++w->version[s + i]);
        }
        if (node_write(me->n, s * 512, buf, count * 512, 0) < 0) {
            return 0; /* the power is gone: busy for ever, any version may be there */
        }
        for (unsigned i = 0; i < count; i++) {
            w->busy[s + i] = false;
        }
        w->writes++;
        if (rng_below(rng, 10) == 0) {
            uint32_t before[SECTORS];
            for (unsigned i = 0; i < SECTORS; i++) {
                before[i] = w->busy[i] ? w->durable[i] : w->version[i];
            }
            if (node_flush(me->n) == 0) {
                for (unsigned i = 0; i < SECTORS; i++) {
                    w->durable[i] = MAX(w->durable[i], before[i]);
                }
            }
        }
    }
    return 0;
}

static co_fn void check_disk(const struct world *w)
{
    struct graph g;
    struct node *n = open_disk(&g, 0);
    uint8_t have[512], want[512];

    for (unsigned s = 0; s < SECTORS; s++) {
        assert_int_equal(node_read(n, s * 512, have, 512), 0);
        uint32_t version = get_be32(have + 4);
        fill(want, s, version);
        assert_memory_equal(have, want, 512); /* some version of this very sector, whole */
        if (version < w->durable[s] || version > w->version[s]) {
            fail_msg("seed %llu: sector %u shows version %u, flushed was %u, written %u",
                     (unsigned long long)w->seed, s, version, w->durable[s], w->version[s]);
        }
    }
    node_unref(n);
}

static int scenario(void *arg)
{
    struct world *w = arg;
    struct graph g;
    struct co_group group;
    struct co_task tasks[WRITERS];
    struct writer writers[WRITERS];

    make_files();
    struct node *n = open_disk(&g, OPEN_WRITE);
    co_group_init(&group);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){w, n};
        co_group_start(&group, &tasks[i], write_some, &writers[i]);
    }
    co_sleep_ns(rng_below(loop_rng(), 20 * NS_PER_MS));
    sim_power_cut(NULL, SIM_SURVIVE_RANDOM);
    w->cut = true;
    co_group_wait(&group);
    node_unref(n);
    check_disk(w);
    return 0;
}

static void a_power_cut_shows_nothing_that_was_never_there(void **state)
{
    uint64_t writes = 0;

    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        struct world *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->seed = seed;
        assert_int_equal(sim_run(seed, scenario, w, NULL), 0);
        writes += w->writes;
        free(w);
    }
    assert_true(writes > 1000); /* the runs did something */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_shows_nothing_that_was_never_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
