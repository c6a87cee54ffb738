/* SPDX-License-Identifier: BSD-2-Clause */
/* Random clients of a write cache and power cuts at random instants: every state that survives is one that
 * the clients' own model of a disk allows, and the report says of every loss what the model says. */
#include "wcache_model.h"

struct config {
    const char *device; /* JSON of what is below the cache */
    const char *options;
    bool lying;
    uint64_t seeds;
};

struct run {
    const struct config *config;
    struct model *m;
};

static co_fn void cutter(void *arg)
{
    struct model *m = arg;
    static const int survivors[] = {WCACHE_NONE,   WCACHE_ALL,   WCACHE_PREFIX,
                                    WCACHE_RANDOM, WCACHE_OLDER, WCACHE_ERASE_BLOCK};
    struct wcache_cut cut = {.survivors = survivors[rng_below(&m->rng, ARRAY_SIZE(survivors))],
                             .torn = (int)rng_below(&m->rng, 4),
                             .fill =
                                 rng_below(&m->rng, 3) == 0 ? (int)rng_below(&m->rng, 3) : WCACHE_FILL_OLD,
                             .seed = rng_u64(&m->rng),
                             .erase_block = 16 * KiB,
                             .stay_off = rng_below(&m->rng, 2) == 0};
    uint64_t number;

    for (uint64_t n = rng_below(&m->rng, 200); n > 0; n--) {
        co_sleep_ns(rng_below(&m->rng, 100) * 1000);
        co_yield ();
    }
    m->stop = true;
    m->whole = cut.torn != WCACHE_TORN_BYTES && cut.fill == WCACHE_FILL_OLD;
    CHECK_EQ(wcache_power_cut(&m->cache, 1, &cut, &number, NULL), 0);
    CHECK_EQ(wcache_power_cut(&m->cache, 1, &cut, &number, NULL), -EBUSY);
    CHECK_EQ(wcache_settle(m->cache, NULL), 0);
    if (cut.stay_off) {
        CHECK_EQ(node_flush(m->w.node), -EIO);
        CHECK_EQ(wcache_power_on(m->cache, NULL), 0);
    }
    CHECK_EQ(wcache_power_on(m->cache, NULL), -EINVAL);
}

static int cutter_task(void *arg)
{
    cutter(arg);
    return 0;
}

static co_fn void round_of(struct model *m)
{
    struct model_client clients[MODEL_CLIENTS];
    struct co_task tasks[MODEL_CLIENTS + 1];
    struct co_group g;
    uint64_t reconnects = m->w.graph.reconnects;

    m->stop = false;
    m->ops = 1 + rng_below(&m->rng, 150);
    co_group_init(&g);
    for (unsigned i = 0; i < MODEL_CLIENTS; i++) {
        clients[i] = (struct model_client){.m = m, .first = i * MODEL_OWN};
        co_group_start(&g, &tasks[i], model_client, &clients[i]);
    }
    co_group_start(&g, &tasks[MODEL_CLIENTS], cutter_task, m);
    co_group_wait(&g);
    CHECK_EQ(m->w.graph.reconnects, reconnects + 1);
    model_check(m, m->whole);
    model_adopt(m);
}

static int scenario(void *arg)
{
    const struct run *run = arg;
    struct model *m = run->m;

    *m = (struct model){.lying = run->config->lying};
    rng_init(&m->rng, world_seed);
    sim_file_create("disk", &(struct sim_disk){.size = MODEL_BYTES});
    world_init(&m->w);
    WORLD_OPEN(&m->w, "{\"driver\":\"write-cache\",\"seed\":%llu,%s\"file\":%s}",
               (unsigned long long)world_seed, run->config->options, run->config->device);
    m->cache = m->w.node;
    for (unsigned i = 0; i < MODEL_SECTORS; i++) {
        model_settle(&m->sectors[i], 0);
    }
    for (int i = 0; i < 3; i++) { /* the second and third come while a client recovers */
        round_of(m);
    }
    world_close(&m->w);
    return 0;
}

static void many(const struct config *config)
{
    struct run run = {.config = config, .m = calloc(1, sizeof(*run.m))};
    const char *times = getenv("BLKPROOF_TIMES");

    assert_non_null(run.m);
    FOR_EACH_SEED (seed, config->seeds * (times ? strtoull(times, NULL, 0) : 1)) {
        uint64_t trace = world_run(seed, scenario, &run);
        if (seed % 50 == 1) { /* the same again, to the last byte and nanosecond */
            assert_true(trace == world_run(seed, scenario, &run));
        }
    }
    free(run.m);
}

#define MEM  "{\"driver\":\"mem\",\"size\":\"128K\"}"
#define DISK "{\"driver\":\"file\",\"filename\":\"disk\"}"

static void an_honest_disk_loses_what_it_may(void **state)
{
    many(&(struct config){MEM, "\"size\":\"64K\",", false, 150});
}

static void an_honest_disk_on_a_slow_device(void **state)
{
    many(&(struct config){DISK, "\"size\":\"64K\",", false, 150});
}

/* The answers to reads take their time, in which what was missing from them comes down. */
static void a_device_whose_answers_are_late(void **state)
{
    many(&(struct config){
        "{\"driver\":\"fault\",\"rules\":[{\"op\":\"read\",\"action\":\"delay\",\"delay\":\"1ms\","
        "\"when\":\"after\"}],\"file\":" DISK "}",
        "\"size\":\"64K\",", false, 80});
}

static void evicting_at_random(void **state)
{
    many(&(struct config){DISK, "\"size\":\"64K\",\"evict\":\"random\",", false, 80});
}

static void evicting_the_least_recently_written(void **state)
{
    many(&(struct config){DISK, "\"size\":\"64K\",\"evict\":\"lru\",", false, 80});
}

static void writing_down_by_age(void **state)
{
    many(&(struct config){DISK, "\"size\":\"1M\",\"age\":\"1ms\",", false, 80});
}

static void a_disk_that_lies_is_told_from_one_that_does_not(void **state)
{
    many(&(struct config){DISK, "\"size\":\"64K\",\"flush\":\"lie\",\"fua\":\"lie\",", true, 150});
}

static void a_disk_that_lies_about_flushes_only(void **state)
{
    many(&(struct config){MEM, "\"size\":\"1M\",\"flush\":\"lie\",", true, 80});
}

static void without_a_cache_nothing_is_lost(void **state)
{
    many(&(struct config){DISK, "\"size\":0,", false, 20});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_disk_loses_what_it_may),
        cmocka_unit_test(an_honest_disk_on_a_slow_device),
        cmocka_unit_test(a_device_whose_answers_are_late),
        cmocka_unit_test(evicting_at_random),
        cmocka_unit_test(evicting_the_least_recently_written),
        cmocka_unit_test(writing_down_by_age),
        cmocka_unit_test(a_disk_that_lies_is_told_from_one_that_does_not),
        cmocka_unit_test(a_disk_that_lies_about_flushes_only),
        cmocka_unit_test(without_a_cache_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
