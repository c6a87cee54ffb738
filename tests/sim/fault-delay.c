/* SPDX-License-Identifier: BSD-2-Clause */
/* How long requests wait: every distribution against its quantiles, which are worked out by hand; lanes, and
 * multiples of what the device takes, to the nanosecond. */
#include <math.h>

#include "fault_rig.h"

#define DRAWS 20000

static uint64_t taken[DRAWS];

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static co_fn void draw(const char *rule, const char *more)
{
    char rules[512];
    snprintf(rules, sizeof(rules), "[{'action':'delay',%s}]", rule);
    rig_open(rules, more);
    rig.graph.fault = NULL;
    for (int i = 0; i < DRAWS; i++) {
        uint64_t before = loop_clock_ns();
        CHECK_EQ(rig_read((uint64_t)i % 1000 * 512, 512), 0);
        taken[i] = loop_clock_ns() - before;
    }
    world_close(&rig);
}

/* The share of what was drawn that is at most @ms has to be @p, within five standard deviations. */
static void expect_share(const char *rule, double ms, double p)
{
    unsigned n = 0;
    for (int i = 0; i < DRAWS; i++) {
        n += (double)taken[i] <= ms * (double)NS_PER_MS;
    }
    double sigma = sqrt(DRAWS * p * (1 - p));
    if (fabs(n - DRAWS * p) > 5 * sigma + 0.5) {
        fprintf(stderr, "%s: %u of %d are at most %g ms, not %g\n", rule, n, DRAWS, ms, DRAWS * p);
        CHECK(false);
    }
}

SCENARIO(every_distribution_has_its_quantiles)
{
    static const struct {
        const char *rule;
        struct {
            double ms, p;
        } at[5];
    } cases[] = {
        {"'delay':'10ms'", {{9.999, 0}, {10, 1}}},
        {"'distribution':'uniform','delay-max':'10ms'", {{1, 0.1}, {5, 0.5}, {9, 0.9}, {10, 1}}},
        {"'distribution':'uniform','delay-min':'4ms','delay-max':'10ms'",
         {{3.999, 0}, {5.5, 0.25}, {7, 0.5}, {10, 1}}},
        /* the normal distribution: 15.87 % lie below one sigma, 97.72 % below two */
        {"'distribution':'normal','delay':'10ms','deviation':'2ms'",
         {{8, 0.15866}, {10, 0.5}, {12, 0.84134}, {14, 0.97725}}},
        {"'distribution':'normal','delay':'10ms','deviation':'2ms','delay-min':'8ms','delay-max':'12ms'",
         {{7.999, 0}, {8, 0.15866}, {10, 0.5}, {11.999, 0.84134}, {12, 1}}},
        {"'distribution':'normal','delay':'1ms','deviation':'1ms'", {{0, 0.15866}, {1, 0.5}}},
        /* lognormal: 10 ms times e^(z s), s = ln(10)/2.3263; one sigma is a factor of 2.6908 */
        {"'distribution':'lognormal','delay':'10ms','p99':'100ms'",
         {{10 / 2.6908, 0.15866}, {10, 0.5}, {26.908, 0.84134}, {100, 0.99}}},
        /* Pareto: 1 - (least/x)^shape */
        {"'distribution':'pareto','delay':'1ms'", {{0.999, 0}, {2, 0.75}, {10, 0.99}, {31.6228, 0.999}}},
        {"'distribution':'pareto','delay':'1ms','shape':1,'delay-max':'10ms'",
         {{2, 0.5}, {4, 0.75}, {9.999, 0.9}, {10, 1}}},
        /* exponential: the mean above the least is 8 ms */
        {"'distribution':'exponential','delay':'10ms','delay-min':'2ms'",
         {{1.999, 0}, {2 + 8 * M_LN2, 0.5}, {10, 1 - 0.36788}, {2 + 8 * M_LN10, 0.9}}},
        {"'distribution':'two-point','delay':'1ms','p99':'50ms'",
         {{0.999, 0}, {1, 0.99}, {49.999, 0.99}, {50, 1}}},
        {"'distribution':'histogram','histogram':'1ms:90,10ms:9,1000ms:1'",
         {{0.5, 0.45}, {1, 0.9}, {5.5, 0.945}, {10, 0.99}, {505, 0.995}}},
        /* up to 12 quanta of 250 us, each as often */
        {"'distribution':'uniform','delay-max':'3ms','quantum':'250us'",
         {{0.249, 0}, {0.25, 1.0 / 12}, {0.499, 1.0 / 12}, {1.5, 0.5}, {3, 1}}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        draw(cases[i].rule, "");
        for (int k = 0; k < 5 && cases[i].at[k].ms > 0; k++) {
            expect_share(cases[i].rule, cases[i].at[k].ms, cases[i].at[k].p);
        }
    }
    return 0;
}

SCENARIO(what_is_drawn_follows_from_seed_rule_and_operation)
{
    static uint64_t first[DRAWS];
    const char *rule = "'id':'a','distribution':'uniform','delay-max':'10ms'";
    draw(rule, "");
    memcpy(first, taken, sizeof(first));
    draw(rule, "");
    CHECK(memcmp(first, taken, sizeof(first)) == 0);
    static const struct {
        const char *rule, *more;
    } others[] = {{"'id':'a','distribution':'uniform','delay-max':'10ms'", "'seed':2,"},
                  {"'id':'b','distribution':'uniform','delay-max':'10ms'", ""}};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        draw(others[i].rule, others[i].more);
        /* independent: in a quarter of all cases both are below the half */
        unsigned both = 0;
        for (int k = 0; k < DRAWS; k++) {
            both += first[k] < 5 * NS_PER_MS && taken[k] < 5 * NS_PER_MS;
        }
        CHECK(fabs(both - DRAWS / 4.0) <= 5 * sqrt(DRAWS * 0.25 * 0.75));
    }
    draw(rule, "");
    qsort(taken, DRAWS, sizeof(*taken), by_value);
    for (int i = 1; i < DRAWS; i++) {
        CHECK(i < 100 || taken[i] > taken[i - 100]); /* no lumps */
    }
    return 0;
}

SCENARIO(time_for_each_byte)
{
    rig_open("[{'action':'delay','delay':'1ms','bandwidth':'1M'}]", "");
    uint64_t began = loop_clock_ns();
    CHECK_EQ(rig_read(0, 512 * KiB), 0);
    CHECK_EQ(loop_clock_ns() - began, 501 * NS_PER_MS);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(loop_clock_ns() - began, 502 * NS_PER_MS);
    world_close(&rig);
    return 0;
}

SCENARIO(times_as_long_as_the_device_takes)
{
    world_init(&rig);
    WORLD_OPEN(
        &rig, "%s",
        quoted("{'driver':'fault','rules':[{'op':'read','action':'delay','times':10},"
               "{'op':'write','action':'delay','times':10,'delay':'1ms'},"
               "{'op':'write','action':'delay','times':2.5}],"
               "'file':{'driver':'delay','read':'3ms','write':'2ms','file':{'driver':'mem','size':'1M'}}}"));
    uint64_t began = loop_clock_ns();
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(loop_clock_ns() - began, 30 * NS_PER_MS);
    began = loop_clock_ns();
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(loop_clock_ns() - began, 51 * NS_PER_MS); /* 1 ms, and 2 ms 25 times */
    world_close(&rig);
    return 0;
}

/* ---- lanes ---- */

static void expect_done(const struct bg *b, uint64_t began, const unsigned *ms, int n)
{
    for (int i = 0; i < n; i++) {
        CHECK(b[i].done);
        CHECK_EQ(b[i].done_ns - began, ms[i] * NS_PER_MS);
    }
}

SCENARIO(lanes_serve_one_after_the_other)
{
    static struct bg b[5];
    rig_open("[{'action':'delay','delay':'10ms','lanes':2}]", "");
    uint64_t began = loop_clock_ns();
    for (int i = 0; i < 5; i++) {
        bg_start(&b[i], REQ_WRITE, (uint64_t)i * 512, 'a');
    }
    co_sleep_ns(100 * NS_PER_MS);
    expect_done(b, began, (const unsigned[]){10, 10, 20, 20, 30}, 5);
    /* idle lanes have saved nothing up */
    began = loop_clock_ns();
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(5 * NS_PER_MS);
    bg_start(&b[1], REQ_WRITE, 512, 'a');
    bg_start(&b[2], REQ_WRITE, 1024, 'a');
    co_sleep_ns(100 * NS_PER_MS);
    expect_done(b, began, (const unsigned[]){10, 15, 20}, 3);
    world_close(&rig);
    return 0;
}

SCENARIO(one_lane_is_a_disk_of_that_speed)
{
    static struct bg b[4];
    rig_open("[{'action':'delay','bandwidth':'512k','lanes':1}]", ""); /* 512 bytes: 1/1024 s */
    uint64_t began = loop_clock_ns();
    for (int i = 0; i < 4; i++) {
        bg_start(&b[i], REQ_WRITE, (uint64_t)i * 512, 'a');
    }
    co_sleep_ns(100 * NS_PER_MS);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(b[i].done);
        CHECK_EQ(b[i].done_ns - began, (i + 1) * (NS_PER_SEC / 1024));
    }
    world_close(&rig);
    return 0;
}

SCENARIO(what_means_nothing_is_refused)
{
    rig_open("[]", "");
    refused("{'action':'delay'}", "the action delay needs the member delay, a time; or times, or bandwidth");
    refused("{'action':'delay','times':2,'lanes':2}",
            "lanes, quantum and delay-ramp need a delay or a bandwidth");
    refused("{'action':'delay','delay':'1s','times':2,'lanes':2}",
            "times does not go with lanes: how long the media takes is not known before");
    refused("{'action':'delay','distribution':'normal','delay':'1s'}",
            "the distribution normal needs the member deviation");
    refused("{'action':'delay','distribution':'uniform','delay-max':'1s','p99':'2s'}",
            "the distribution uniform has no member p99");
    refused("{'action':'delay','delay':'1s','delay-max':'2s'}",
            "the distribution constant has no member delay-max");
    refused("{'action':'delay','distribution':'uniform','delay-min':'1s','delay-max':'1s'}",
            "delay-max must be above delay-min");
    refused("{'action':'delay','distribution':'two-point','delay':'1s','p99':'1s'}",
            "p99 must be above delay");
    refused("{'action':'delay','distribution':'exponential','delay':'1s','delay-min':'1s'}",
            "delay, the mean, must be above delay-min");
    refused("{'action':'delay','distribution':'cauchy','delay':'1s'}",
            "Parameter 'distribution' does not accept value 'cauchy': expected constant, uniform, normal, "
            "lognormal, pareto, exponential, two-point, histogram");
    static const char *const bad[] = {"",       "1ms",         "1ms:",   "1ms:0",
                                      "1ms:-1", "2ms:1,1ms:1", "1ms:1,", "1ms:1;2ms:1"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char rule[128];
        snprintf(rule, sizeof(rule), "{'action':'delay','distribution':'histogram','histogram':'%s'}",
                 bad[i]);
        refused(
            rule,
            "histogram: expected TIME:WEIGHT,..., up to 1024, times growing: \"1ms:90,10ms:9,1s:1\" is 90 "
            "below 1 ms, 9 from there to 10 ms, 1 from there to 1 s");
    }
    refused("{'action':'delay','times':0.5}", "times: expected a number of at least 1 and at most 1000000");
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_distribution_has_its_quantiles),
        cmocka_unit_test(what_is_drawn_follows_from_seed_rule_and_operation),
        cmocka_unit_test(time_for_each_byte),
        cmocka_unit_test(times_as_long_as_the_device_takes),
        cmocka_unit_test(lanes_serve_one_after_the_other),
        cmocka_unit_test(one_lane_is_a_disk_of_that_speed),
        cmocka_unit_test(what_means_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
