/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that are held: what reaches the device meanwhile, the three outcomes of a release, the dead-man
 * timer, and that every way to end a node ends. */
#include "fault_rig.h"

static struct bg b[8];

SCENARIO(a_held_request_reaches_the_device_when_it_completes)
{
    rig_open("[{'tag':'t','op':'write','action':'hang'}]", "");
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(1000 * NS_PER_MS);
    CHECK(!b[0].done);
    CHECK_EQ(below(0), 0);
    CHECK_EQ(rig_read(0, 512), 0); /* others are not held */
    CHECK_EQ(fault_release(rig.node, "t", FAULT_COMPLETE, 0, NULL), 1);
    co_yield ();
    CHECK(b[0].done);
    CHECK_EQ(b[0].result, 0);
    CHECK_EQ(below(0), 'a');
    expect_events("INJECTED r1\nBEGIN r1\nEND r1 complete\n");
    world_close(&rig);
    return 0;
}

SCENARIO(a_held_request_that_errs_or_is_dropped_never_reaches_the_device)
{
    static const struct {
        enum fault_outcome outcome;
        int error, result;
    } cases[] = {{FAULT_ERROR, 0, -EIO}, {FAULT_ERROR, ENOSPC, -ENOSPC}, {FAULT_DROP, 0, REQ_DROPPED}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        rig_open("[{'op':'write','action':'hang'}]", "");
        bg_start(&b[0], REQ_WRITE, 0, 'a');
        CHECK_EQ(fault_release(rig.node, NULL, cases[i].outcome, cases[i].error, NULL), 1);
        co_yield ();
        CHECK(b[0].done);
        CHECK_EQ(b[0].result, cases[i].result);
        CHECK_EQ(below(0), 0);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(a_held_reply_has_reached_the_device)
{
    static const enum fault_outcome outcomes[] = {FAULT_COMPLETE, FAULT_ERROR, FAULT_DROP};
    static const int results[] = {0, -EPERM, REQ_DROPPED};

    for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
        rig_open("[{'op':'write','action':'hang','hold':'reply'}]", "");
        bg_start(&b[0], REQ_WRITE, 0, 'a');
        CHECK(!b[0].done);
        CHECK_EQ(below(0), 'a');
        CHECK_EQ(fault_release(rig.node, "r1", outcomes[i], outcomes[i] == FAULT_ERROR ? EPERM : 0, NULL), 1);
        co_yield ();
        CHECK_EQ(b[0].result, results[i]);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(a_held_reply_that_failed_completes_as_the_failure_it_was)
{
    CHECK(sim_file_create("disk", &(struct sim_disk){.size = 1 * MiB}) != NULL);
    world_init(&rig);
    WORLD_OPEN(&rig, "%s",
               quoted("{'driver':'fault','rules':[{'op':'write','action':'hang','hold':'reply'}],"
                      "'file':{'driver':'file','filename':'disk'}}"));
    struct sim_fault f = {.op = SIM_WRITE, .nth = 1, .error = -ENOSPC};
    sim_set_faults(sim_file_find("disk"), &f, 1);
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(NS_PER_MS);
    CHECK_EQ(fault_release(rig.node, "r1", FAULT_COMPLETE, 0, NULL), 1);
    co_yield ();
    CHECK_EQ(b[0].result, -ENOSPC);
    world_close(&rig);
    return 0;
}

SCENARIO(tags_are_released_apart_in_the_order_of_arrival)
{
    rig_open("[{'id':'a','tag':'x','ranges':'0+4k','action':'hang'},{'id':'b','tag':'x','ranges':'4k+4k',"
             "'action':'hang'},{'id':'c','ranges':'8k+4k','action':'hang'}]",
             "");
    bg_start(&b[0], REQ_READ, 0, 0);
    bg_start(&b[1], REQ_READ, 8192, 0);
    bg_start(&b[2], REQ_READ, 4096, 0);
    AUTO_JSON json_t *held = fault_held(rig.node);
    CHECK_EQ(json_array_size(held), 3);
    CHECK_EQ(json_integer_value(json_object_get(json_array_get(held, 1), "offset")), 8192);
    CHECK(strcmp(json_string_value(json_object_get(json_array_get(held, 1), "tag")), "c") == 0);
    rig_events[0] = 0;
    CHECK_EQ(fault_release(rig.node, "x", FAULT_COMPLETE, 0, NULL), 2);
    expect_events("END a complete\nEND b complete\n");
    co_yield ();
    CHECK(b[0].done && b[2].done && !b[1].done);
    CHECK_EQ(fault_release(rig.node, "x", FAULT_COMPLETE, 0, NULL), 0); /* known, nothing held */
    struct err err = {0};
    CHECK_EQ(fault_release(rig.node, "nobody", FAULT_COMPLETE, 0, &err), -ENOENT);
    CHECK(err.text[0]);
    CHECK_EQ(fault_release(rig.node, "c", FAULT_ERROR, -1, &err), -EINVAL);
    CHECK_EQ(fault_release(rig.node, "c", FAULT_COMPLETE, EIO, &err), -EINVAL);
    CHECK_EQ(fault_release(rig.node, "c", FAULT_COMPLETE, 0, NULL), 1);
    co_yield ();
    world_close(&rig);
    return 0;
}

SCENARIO(a_flush_can_hang_and_its_rule_be_removed)
{
    rig_open("[{'id':'f','op':'flush','action':'hang'}]", "");
    bg_start(&b[0], REQ_FLUSH, 0, 0);
    bg_start(&b[1], REQ_FLUSH, 0, 0);
    co_yield ();
    CHECK(!b[0].done && !b[1].done);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "f", NULL), 0);
    co_yield ();
    CHECK(b[0].done && b[1].done);
    CHECK_EQ(b[0].result, 0);
    CHECK_EQ(node_flush(rig.node), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(the_rule_of_a_reply_under_way_may_go)
{
    CHECK(sim_file_create("disk", &(struct sim_disk){.size = 1 * MiB, .latency = {NS_PER_MS, NS_PER_MS}}) !=
          NULL);
    world_init(&rig);
    WORLD_OPEN(&rig, "%s",
               quoted("{'driver':'fault','rules':[{'id':'w','op':'write','action':'hang','hold':'reply'}],"
                      "'file':{'driver':'file','filename':'disk'}}"));
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(NS_PER_MS / 2); /* it is with the device */
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    co_sleep_ns(2 * NS_PER_MS);
    CHECK(b[0].done); /* nobody would ever have let it go */
    CHECK_EQ(b[0].result, 0);
    world_close(&rig);
    return 0;
}

/* ---- the dead-man timer ---- */

SCENARIO(after_the_dead_man_timer_the_disk_works_again)
{
    rig_open("[{'op':'write','action':'hang'}]", "'deadman':'30s',");
    uint64_t began = loop_clock_ns();
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_sleep_ns(10 * NS_PER_SEC);
    bg_start(&b[1], REQ_WRITE, 512, 'b');
    co_sleep_ns(20 * NS_PER_SEC - 1);
    CHECK(!b[0].done && !b[1].done);
    co_sleep_ns(2);
    CHECK(b[0].done && b[1].done); /* all that the rule holds */
    CHECK_EQ((b[0].done_ns - began) / 1000, 30 * NS_PER_SEC / 1000);
    CHECK_EQ(b[0].result, 0);
    CHECK_EQ(below(512), 'b');
    expect_events(
        "INJECTED r1\nBEGIN r1\nINJECTED r1\nBEGIN r1\nEXHAUSTED r1 deadman\nEND r1 complete deadman\n"
        "END r1 complete deadman\n");
    CHECK_EQ(rig_write(0, 512, 'c', 0), 0); /* and holds no more */
    AUTO_JSON json_t *rules = fault_list(rig.node);
    CHECK(json_is_true(json_object_get(json_array_get(rules, 0), "exhausted")));
    CHECK(json_is_true(json_object_get(json_array_get(rules, 0), "lapsed")));
    CHECK_EQ(change(rig.node, FAULT_SET, "r1", "{'deadman':0}"), 0); /* who sets it anew is there */
    bg_start(&b[0], REQ_WRITE, 0, 'd');
    co_sleep_ns(100000 * NS_PER_SEC);
    CHECK(!b[0].done);
    CHECK_EQ(fault_release(rig.node, "r1", FAULT_COMPLETE, 0, NULL), 1);
    co_yield ();
    world_close(&rig);
    return 0;
}

SCENARIO(hangs_have_a_dead_man_timer_of_five_minutes_unless_told_otherwise)
{
    rig_open("[{'op':'write','action':'hang'},{'op':'read','deadman':'1s','action':'hang'}]", "");
    uint64_t began = loop_clock_ns();
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    bg_start(&b[1], REQ_READ, 0, 0);
    co_sleep_ns(301 * NS_PER_SEC);
    CHECK(b[0].done && b[1].done);
    CHECK_EQ((b[0].done_ns - began) / 1000, 300 * NS_PER_SEC / 1000);
    CHECK_EQ((b[1].done_ns - began) / 1000, 1 * NS_PER_SEC / 1000);
    world_close(&rig);
    return 0;
}

/* ---- every end ends ---- */

SCENARIO(a_node_with_held_and_delayed_requests_closes)
{
    rig_open("[{'op':'write','action':'hang','deadman':0},{'op':'read','action':'delay','delay':'86400s'},"
             " {'op':'flush','action':'hang','hold':'reply','deadman':0}]",
             "");
    uint64_t began = loop_clock_ns();
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    bg_start(&b[1], REQ_READ, 0, 0);
    bg_start(&b[2], REQ_FLUSH, 0, 0);
    CHECK_EQ(fault_break(rig.node, "pwritev", "stop"), 0);
    bg_start(&b[3], REQ_WRITE, 512, 'b');
    CHECK(fault_is_stopped(rig.node, "stop"));
    world_close(&rig);
    for (int i = 0; i < 4; i++) {
        CHECK(b[i].done);
        CHECK_EQ(b[i].result, 0);
    }
    CHECK(loop_clock_ns() - began < NS_PER_MS);
    return 0;
}

SCENARIO(nothing_is_held_any_more_once_the_end_has_begun)
{
    rig_open("[{'op':'write','action':'hang','deadman':0},{'op':'read','action':'delay','delay':'60s'}]", "");
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    graph_unhold(&rig.graph);
    co_yield ();
    CHECK(b[0].done);
    uint64_t began = loop_clock_ns();
    CHECK_EQ(rig_write(0, 512, 'b', 0), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK(loop_clock_ns() - began < NS_PER_MS);
    world_close(&rig);
    return 0;
}

SCENARIO(a_node_above_a_held_one_closes)
{
    world_init(&rig);
    WORLD_OPEN(&rig, "%s",
               quoted("{'driver':'raw','file':{'driver':'delay','file':{'driver':'fault','rules':"
                      "[{'op':'write','action':'hang','deadman':0}],'file':{'driver':'mem','size':'1M'}}}}"));
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    co_yield ();
    CHECK(!b[0].done);
    world_close(&rig);
    CHECK(b[0].done);
    CHECK_EQ(b[0].result, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_held_request_reaches_the_device_when_it_completes),
        cmocka_unit_test(a_held_request_that_errs_or_is_dropped_never_reaches_the_device),
        cmocka_unit_test(a_held_reply_has_reached_the_device),
        cmocka_unit_test(a_held_reply_that_failed_completes_as_the_failure_it_was),
        cmocka_unit_test(tags_are_released_apart_in_the_order_of_arrival),
        cmocka_unit_test(a_flush_can_hang_and_its_rule_be_removed),
        cmocka_unit_test(the_rule_of_a_reply_under_way_may_go),
        cmocka_unit_test(after_the_dead_man_timer_the_disk_works_again),
        cmocka_unit_test(hangs_have_a_dead_man_timer_of_five_minutes_unless_told_otherwise),
        cmocka_unit_test(a_node_with_held_and_delayed_requests_closes),
        cmocka_unit_test(nothing_is_held_any_more_once_the_end_has_begun),
        cmocka_unit_test(a_node_above_a_held_one_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
