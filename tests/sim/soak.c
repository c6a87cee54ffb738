/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * No legal client and no legal device ever causes an alarm: a random concurrent client over a
 * verifier of two simulated devices that have different limits, fail the same requests (and may have
 * done a part of them) and answer in any order; the one under test shows anything where something was
 * discarded, and restarts, losing what was not flushed. SOAK_OPS is the number of operations of the
 * run, spread over the seeds (the full proof: 10000000); with BLKPROOF_SEED all of them have that
 * seed. The same seed twice gives the same trace.
 */
#include "client.h"
#include "drivers/verify/verify.h"

#define SEEDS            20
#define OPS_DEFAULT      1000000 /* about ten seconds of one core */
#define OPS_SANITIZED    200000
#define DEVICE_BYTES_MAX (256 * KiB)

struct soak {
    struct world w;
    struct client c;
    uint64_t ops;
    uint64_t failed, done[REQ_OP_COUNT]; /* over all seeds */
};

static uint64_t pow2(struct client *c, unsigned from, unsigned to)
{
    return UINT64_C(1) << (from + client_below(c, to - from + 1));
}

/* Options of one of the two devices, of random limits. Only the unit of discard is common: a discard
 * that one side leaves out cannot fail there. */
static void device_options(struct client *c, char *text, size_t size, uint64_t discard_align, bool fickle,
                           uint64_t restart_ppm)
{
    uint64_t align = pow2(c, 0, 12);
    /* Whole sectors: a device may tear requests, not sectors. */
    uint64_t max = client_below(c, 2) ? 0 : MAX(align, UINT64_C(512)) * (1 + client_below(c, 16));

    snprintf(text, size,
             "\"driver\":\"sim-device\",\"align\":%llu,\"max-transfer\":%llu,\"zero-align\":%llu,"
             "\"discard-align\":%llu,\"fua\":\"%s\",\"no-fallback\":\"%s\",\"discard-reads\":\"%s\","
             "\"latency\":\"%lluus\",\"error-ppm\":%llu,\"error-seed\":%llu,\"error-from\":%llu,\"restart-"
             "ppm\":%llu",
             (unsigned long long)align, (unsigned long long)max,
             (unsigned long long)(align << client_below(c, 3)), (unsigned long long)discard_align,
             client_below(c, 2) ? "on" : "off", client_below(c, 2) ? "on" : "off", fickle ? "fickle" : "pass",
             (unsigned long long)(10 * client_below(c, 10)), (unsigned long long)(world_seed % 3 * 5000),
             (unsigned long long)(world_seed & 0xffff), (unsigned long long)CLIENT_OPNO,
             (unsigned long long)restart_ppm);
}

static co_fn void open_pair(struct soak *s)
{
    char test[1024], raw[1024];
    uint64_t size = round_up(1 + client_below(&s->c, DEVICE_BYTES_MAX), 512);
    uint64_t discard_align = pow2(&s->c, 12, 14);
    device_options(&s->c, test, sizeof(test), discard_align, client_below(&s->c, 2),
                   client_below(&s->c, 2) * 1000);
    device_options(&s->c, raw, sizeof(raw), discard_align, false, 0);
    WORLD_OPEN(
        &s->w,
        "{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"history\":%llu,\"history-sectors\":%llu,"
        "\"indeterminate\":%llu,"
        "\"test\":{%s,\"file\":{\"driver\":\"mem\",\"size\":%llu}},"
        "\"raw\":{%s,\"file\":{\"driver\":\"mem\",\"size\":%llu}}}",
        (unsigned long long)pow2(&s->c, 4, 14), (unsigned long long)pow2(&s->c, 10, 16),
        (unsigned long long)pow2(&s->c, 1, 12), test, (unsigned long long)size, raw,
        (unsigned long long)size);
}

static co_fn void check_no_alarm(const struct soak *s)
{
    if (s->w.graph.mismatches > 0) {
        fprintf(stderr, "%s", s->w.text);
    }
    CHECK_EQ(s->w.graph.mismatches, 0);
}

static int soak(void *arg)
{
    struct soak *s = arg;
    struct verify_scrub_result scrub;

    world_init(&s->w);
    s->c = (struct client){.w = &s->w,
                           .size_max = DEVICE_BYTES_MAX,
                           .requests = s->ops,
                           .resize = true,
                           .discard = true,
                           .flush = true,
                           .may_fail = true};
    rng_init(&s->c.rng, ~world_seed);
    open_pair(s);
    client_run(&s->c);
    check_no_alarm(s);
    CHECK_EQ(verify_scrub(s->w.node, NULL, NULL, &scrub), 0);
    check_no_alarm(s);
    world_close(&s->w);
    s->failed += s->c.failed;
    for (int op = 0; op < REQ_OP_COUNT; op++) {
        s->done[op] += s->c.done[op];
    }
    return 0;
}

static void legal_operations_raise_no_alarm(void **state)
{
    static struct soak s;
    const char *text = getenv("SOAK_OPS");
    uint64_t ops = getenv("BLKPROOF_SANITIZED") ? OPS_SANITIZED : OPS_DEFAULT;
    s.ops = (text ? strtoull(text, NULL, 0) : ops) / (seed_from_env(SEEDS) - seed_from_env(1) + 1);
    FOR_EACH_SEED (seed, SEEDS) {
        world_run(seed, soak, &s);
    }
    for (int op = 0; op < REQ_OP_COUNT; op++) { /* it was not idle */
        assert_true(s.done[op] > s.ops / 1000);
    }
    assert_true(!many_seeds() || s.failed > s.ops / 1000);
}

static void the_same_seed_gives_the_same_trace(void **state)
{
    static struct soak s;
    s.ops = 5000;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint64_t trace = world_run(seed, soak, &s);
        assert_true(trace == world_run(seed, soak, &s));
        assert_true(trace != world_run(seed + 100, soak, &s));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal_operations_raise_no_alarm),
        cmocka_unit_test(the_same_seed_gives_the_same_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
