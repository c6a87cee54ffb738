/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules and the clock: windows, cycles, ramps, states that change by themselves, and the scale of all times.
 */
#include <math.h>

#include "fault_rig.h"

static uint64_t began_ns;

static co_fn void open_at_once(const char *rules, const char *more)
{
    co_sleep_ns(12345 * NS_PER_MS); /* times count from when a rule is added */
    rig_open(rules, more);
    began_ns = loop_clock_ns();
}

/* A read every @step_ms, from 0 on: x where one fails. */
static co_fn void expect_reads(uint64_t step_ms, const char *expected)
{
    for (size_t i = 0; expected[i]; i++) {
        uint64_t at = began_ns + i * step_ms * NS_PER_MS, now = loop_clock_ns();
        if (at < now) {
            continue; /* looked at before */
        }
        co_sleep_ns(at - now);
        if ((rig_read(0, 512) < 0) != (expected[i] == 'x')) {
            fprintf(stderr, "read %zu of %s\n", i, expected);
            CHECK(false);
        }
    }
}

/* ---- windows and cycles ---- */

SCENARIO(from_until_and_at)
{
    open_at_once("[{'from':'30ms','until':'60ms','action':'error'}]", "");
    expect_reads(10, "...xxx....");
    world_close(&rig);
    open_at_once("[{'until':'25ms','action':'error'}]", "");
    expect_reads(10, "xxx...");
    world_close(&rig);
    open_at_once("[{'from':'25ms','action':'error'}]", "");
    expect_reads(10, "...xxx");
    world_close(&rig);
    open_at_once("[{'at':'25ms','action':'error'}]", "");
    expect_reads(10, "...x....");
    world_close(&rig);
    return 0;
}

SCENARIO(what_is_outside_of_the_window_is_no_match)
{
    open_at_once("[{'from':'30ms','nth':2,'action':'error'}]", "");
    expect_reads(10, "....x...");
    CHECK_EQ(counters(rig.node, "r1").matched, 5);
    world_close(&rig);
    return 0;
}

SCENARIO(a_changed_rule_keeps_its_time)
{
    open_at_once("[{'id':'a','from':'30ms','action':'error'}]", "");
    expect_reads(10, "...");
    CHECK_EQ(change(rig.node, FAULT_SET, "a", "{'errno':'ENOSPC'}"), 0);
    expect_reads(10, "...xx");
    CHECK_EQ(change(rig.node, FAULT_SET, "a", "{'from':'80ms'}"), 0);
    expect_reads(10, "........xx");
    world_close(&rig);
    return 0;
}

SCENARIO(cycles_of_a_given_length)
{
    open_at_once("[{'on-for':'20ms','off-for':'30ms','action':'error'}]", "");
    expect_reads(10, "xx...xx...xx...");
    /* a long time without a look: 1000 cycles and 10 ms later it is on, 20 ms later off */
    co_sleep_ns(began_ns + (50 * 1000 + 10) * NS_PER_MS - loop_clock_ns());
    CHECK_EQ(rig_read(0, 512), -EIO);
    co_sleep_ns(10 * NS_PER_MS);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    open_at_once("[{'from':'15ms','until':'75ms','on-for':'20ms','off-for':'30ms','action':'error'}]", "");
    expect_reads(10, "..xx...x..");
    world_close(&rig);
    return 0;
}

/* Lengths by chance: within their bounds, not all the same, and the same again for the same seed. */
static co_fn unsigned run_of_cycles(const char *more, uint64_t lengths[60])
{
    open_at_once("[{'on-for':'5ms-10ms','off-for':'20ms-40ms','action':'error'}]", more);
    uint64_t since = began_ns;
    bool on = true;
    unsigned n = 0;
    while (n < 60) {
        co_sleep_ns(NS_PER_MS / 10);
        bool now = rig_read(0, 512) < 0;
        if (now != on) {
            lengths[n++] = loop_clock_ns() - since;
            since = loop_clock_ns();
            on = now;
        }
    }
    world_close(&rig);
    return n;
}

SCENARIO(cycles_of_random_length)
{
    static uint64_t a[60], b[60], c[60];
    uint64_t least = UINT64_MAX, most = 0;
    run_of_cycles("", a);
    run_of_cycles("", b);
    run_of_cycles("'seed':2,", c);
    CHECK(memcmp(a, b, sizeof(a)) == 0);
    CHECK(memcmp(a, c, sizeof(a)) != 0);
    for (int i = 0; i < 60; i++) {
        uint64_t unit = NS_PER_MS / 10, low = (i % 2 ? 20 : 5) * NS_PER_MS;
        CHECK(a[i] + unit >= low && a[i] <= 2 * low + unit);
        least = i % 2 ? MIN(least, a[i]) : least;
        most = i % 2 ? MAX(most, a[i]) : most;
    }
    CHECK(most - least > 10 * NS_PER_MS);
    return 0;
}

/* ---- what grows ---- */

SCENARIO(a_probability_that_grows)
{
    open_at_once("[{'from':'1s','probability':0.5,'probability-ramp':'10s','action':'error'}]", "");
    rig.graph.fault = NULL;
    /* a fifth of the ramp each: on average 5, 15, 25, 35, 45 % and then 50 % */
    unsigned failed[6] = {0};
    co_sleep_ns(NS_PER_SEC);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 4000; k++) {
            co_sleep_ns(2 * NS_PER_SEC / 4000);
            failed[i] += rig_read(0, 512) < 0;
        }
        double p = i < 5 ? 0.05 + 0.1 * i : 0.5, sigma = sqrt(4000 * p * (1 - p));
        CHECK(fabs(failed[i] - 4000 * p) <= 5 * sigma);
    }
    world_close(&rig);
    return 0;
}

static co_fn uint64_t read_takes(void)
{
    uint64_t before = loop_clock_ns();
    CHECK_EQ(rig_read(0, 512), 0);
    return loop_clock_ns() - before;
}

SCENARIO(a_delay_that_grows)
{
    open_at_once("[{'action':'delay','delay':'10ms','delay-ramp':'1s'}]", "");
    CHECK_EQ(read_takes(), 0);
    co_sleep_ns(began_ns + 500 * NS_PER_MS - loop_clock_ns());
    CHECK_EQ(read_takes(), 5 * NS_PER_MS);
    co_sleep_ns(began_ns + 1000 * NS_PER_MS - loop_clock_ns());
    CHECK_EQ(read_takes(), 10 * NS_PER_MS);
    CHECK_EQ(read_takes(), 10 * NS_PER_MS);
    world_close(&rig);
    return 0;
}

/* ---- stall ---- */

SCENARIO(what_stalls_completes_together)
{
    static struct bg b[3];
    open_at_once("[{'from':'10ms','on-for':'20ms','off-for':'70ms','op':'write','action':'stall'}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(loop_clock_ns(), began_ns);
    for (int i = 0; i < 3; i++) {
        co_sleep_ns(began_ns + (uint64_t)(12 + 5 * i) * NS_PER_MS - loop_clock_ns());
        bg_start(&b[i], REQ_WRITE, 4096, 'b');
    }
    co_sleep_ns(began_ns + 29 * NS_PER_MS - loop_clock_ns());
    CHECK(!b[0].done && !b[2].done);
    co_sleep_ns(2 * NS_PER_MS);
    for (int i = 0; i < 3; i++) {
        CHECK(b[i].done);
        CHECK_EQ(b[i].done_ns - began_ns, 30 * NS_PER_MS);
    }
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(loop_clock_ns() - began_ns, 31 * NS_PER_MS);
    world_close(&rig);
    return 0;
}

/* ---- states ---- */

SCENARIO(a_state_that_changes_by_itself)
{
    /* good for 30 ms, bad for 20 ms */
    open_at_once("[{'action':'state','state':1,'timer':'30ms','new-state':2},"
                 " {'action':'state','state':2,'timer':'20ms','new-state':1},"
                 " {'state':2,'action':'error'}]",
                 "");
    began_ns += NS_PER_MS; /* between the changes */
    expect_reads(10, "...xx...xx...xx");
    CHECK_EQ(counters(rig.node, "r1").fired, 3);
    CHECK_EQ(counters(rig.node, "r2").matched, 2); /* its time runs in its state alone */
    /* by hand: the time in the state begins anew */
    struct fault_change c = {.node = rig.node, .kind = FAULT_STATE, .state = 1};
    CHECK_EQ(fault_apply(&c, 1, NULL), 0);
    began_ns = loop_clock_ns();
    began_ns += NS_PER_MS;
    expect_reads(10, "...xx...x");
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "r2", NULL), 0);
    expect_reads(10, "...xx...xxxxxxxx");
    world_close(&rig);
    return 0;
}

SCENARIO(a_timer_without_a_state_and_its_budget)
{
    open_at_once("[{'action':'state','timer':'10ms','skip':1,'count':2,'new-state':7}]", "");
    co_sleep_ns(15 * NS_PER_MS);
    CHECK_EQ(fault_state(rig.node), 1);
    co_sleep_ns(10 * NS_PER_MS);
    CHECK_EQ(fault_state(rig.node), 7);
    co_sleep_ns(100 * NS_PER_MS);
    CHECK_EQ(counters(rig.node, "r1").matched, 3);
    CHECK_EQ(counters(rig.node, "r1").fired, 2);
    world_close(&rig);
    return 0;
}

SCENARIO(a_timer_that_is_changed_or_removed)
{
    open_at_once("[{'id':'t','action':'state','timer':'10ms','new-state':7}]", "");
    CHECK_EQ(change(rig.node, FAULT_SET, "t", "{'timer':'50ms'}"), 0);
    co_sleep_ns(40 * NS_PER_MS);
    CHECK_EQ(fault_state(rig.node), 1);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "t", NULL), 0);
    co_sleep_ns(100 * NS_PER_MS);
    CHECK_EQ(fault_state(rig.node), 1);
    CHECK_EQ(
        change(rig.node, FAULT_ADD, NULL, "{'action':'state','timer':'10ms','new-state':7,'enabled':false}"),
        0);
    co_sleep_ns(100 * NS_PER_MS);
    CHECK_EQ(fault_state(rig.node), 1);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK_EQ(change(rig.node, FAULT_ADD, NULL, "{'action':'state','timer':'10ms','new-state':7}"), 0);
    world_close(&rig); /* while it runs */
    co_sleep_ns(100 * NS_PER_MS);
    return 0;
}

/* ---- the end of a delay ---- */

SCENARIO(what_is_delayed_goes_on_when_nothing_delays_any_more)
{
    static struct bg b[2];
    open_at_once("[{'id':'day','op':'write','action':'delay','delay':'86400s'},"
                 " {'id':'hour','op':'write','action':'delay','delay':'3600s','when':'after'}]",
                 "");
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(NS_PER_SEC);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "day", NULL), 0); /* it has been promised a day and an hour */
    co_sleep_ns(3600 * NS_PER_SEC);
    CHECK(!b[0].done);
    bg_start(&b[1], REQ_WRITE, 512, 'b');
    CHECK_EQ(change(rig.node, FAULT_SET, "hour", "{'enabled':false}"), 0);
    co_sleep_ns(NS_PER_MS);
    CHECK(b[1].done && b[0].done);
    CHECK_EQ(b[0].result, 0);
    world_close(&rig);
    return 0;
}

/* ---- the scale ---- */

SCENARIO(all_times_are_scaled)
{
    open_at_once("[{'from':'300ms','until':'600ms','action':'error'}]", "'time-scale':0.1,");
    expect_reads(10, "...xxx....");
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL,
                    "{'action':'delay','delay':'1s','time-scale':0.5,'bandwidth':512}"),
             0);
    CHECK_EQ(read_takes(), 100 * NS_PER_MS); /* 1 s, and a second for 512 bytes, by 0.5 and 0.1 */
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL, "[{'on-for':'200ms','off-for':'300ms','action':'error'}]"),
             0);
    began_ns = loop_clock_ns();
    expect_reads(10, "xx...xx...");
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL,
                    "[{'action':'delay','distribution':'histogram','histogram':'1s:1'}]"),
             0);
    for (int i = 0; i < 20; i++) {
        CHECK(read_takes() <= 100 * NS_PER_MS);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(what_means_nothing_is_refused)
{
    rig_open("[]", "");
    refused("{'action':'error','from':'2s','until':'1s'}",
            "until is not after from: such a rule would never act");
    refused("{'action':'error','at':'2s','from':'1s'}",
            "at means from this time on, once: from and count do not go with it");
    refused("{'action':'error','on-for':'2s'}", "on-for and off-for go together");
    refused("{'action':'error','on-for':'0s','off-for':'1s'}",
            "on-for: a time must be above 0, and have an end");
    refused("{'action':'error','on-for':'1s+','off-for':'1s'}",
            "on-for: a time must be above 0, and have an end");
    refused("{'action':'error','probability-ramp':'1s'}",
            "probability-ramp needs the member probability, to which it leads");
    refused("{'action':'stall'}",
            "the action stall needs the member until, or on-for and off-for: it lasts so long");
    refused("{'action':'error','timer':'1s'}", "the action error has no member timer (it belongs to state)");
    refused("{'action':'state','new-state':1,'timer':'1s','op':'read'}",
            "the action state on a timer sees no request: selectors that look at one mean nothing there");
    refused("{'action':'state','new-state':1,'timer':'1s','event':'none'}",
            "timer and event exclude each other");
    refused("{'action':'error','time-scale':0}", "time-scale: expected a number above 0 and at most 1000000");
    refused("{'action':'error','time-scale':'-1'}",
            "time-scale: expected a number above 0 and at most 1000000");
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_until_and_at),
        cmocka_unit_test(what_is_outside_of_the_window_is_no_match),
        cmocka_unit_test(a_changed_rule_keeps_its_time),
        cmocka_unit_test(cycles_of_a_given_length),
        cmocka_unit_test(cycles_of_random_length),
        cmocka_unit_test(a_probability_that_grows),
        cmocka_unit_test(a_delay_that_grows),
        cmocka_unit_test(what_stalls_completes_together),
        cmocka_unit_test(a_state_that_changes_by_itself),
        cmocka_unit_test(a_timer_without_a_state_and_its_budget),
        cmocka_unit_test(a_timer_that_is_changed_or_removed),
        cmocka_unit_test(what_is_delayed_goes_on_when_nothing_delays_any_more),
        cmocka_unit_test(all_times_are_scaled),
        cmocka_unit_test(what_means_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
