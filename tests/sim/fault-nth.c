/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every Nth allocation of a change to fault rules fails, N = 1, 2, ... until a run passes untouched: whatever
 * failed, one sentence says so, the rules are as they were, requests go on meeting them, and nothing is
 * leaked. And every Nth allocation of a request that is delayed, held, or waited for.
 */
#include "nth_heap.h"

#include "fault_rig.h"

#define STEPS_MAX 5000

struct attempt {
    co_fn int (*step)(void); /* 0, or -errno with nothing changed */
    unsigned nth;
    bool sticky;
    bool touched;
    int result;
};

static struct node *second;

static co_fn int apply_everything(void)
{
    static const char rules[] =
        "[{'id':'n1','op':'read','ranges':['4k+4k','16k+4k'],'every':2,'action':'error'},"
        "{'event':'l2_load','action':'pass'},{'op':'flush','action':'hang'}]";
    static json_t *add, *set;
    if (!add) { /* what the caller brings is no step of the change */
        bool armed = heap.armed;
        heap.armed = false;
        add = parsed(rules);
        set = parsed("{'errno':'ENOSPC','ranges':null}");
        heap.armed = armed;
    }
    struct fault_change c[] = {
        {.node = rig.node, .kind = FAULT_ADD, .rules = add, .id = "b"},
        {.node = rig.node, .kind = FAULT_SET, .id = "a", .rules = set},
        {.node = rig.node, .kind = FAULT_SET, .id = "n1", .rules = set},
        {.node = rig.node, .kind = FAULT_REMOVE, .id = "b"},
        {.node = second, .kind = FAULT_REPLACE, .rules = add},
        {.node = second, .kind = FAULT_STATE, .state = 4},
    };
    struct err err = {0};
    int r = fault_apply(c, ARRAY_SIZE(c), &err);
    CHECK(r == 0 || (r == -ENOMEM && err.text[0]));
    return r;
}

static co_fn int convert_blkdebug(void)
{
    static json_t *given;
    json_t *rules = NULL;
    struct err err = {0};
    if (!given) {
        bool armed = heap.armed;
        heap.armed = false;
        given = parsed("[{'event':'l2_load','type':'inject-error','sector':5,'once':1,'state':1},"
                       "{'event':'l2_load','type':'set-state','new_state':2}]");
        heap.armed = armed;
    }
    int r = fault_from_blkdebug(given, &rules, &err);
    CHECK(r == 0 || (r == -ENOMEM && err.text[0]));
    json_decref(rules);
    return r;
}

static co_fn int show_everything(void)
{
    /* NULL for want of memory: that is all that may happen */
    json_t *shown[] = {fault_list(rig.node), fault_status(rig.node), fault_held(rig.node)};
    bool all = shown[0] && shown[1] && shown[2];
    for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
        json_decref(shown[i]);
    }
    return all ? 0 : -ENOMEM;
}

static co_fn int attempt_main(void *arg)
{
    struct attempt *a = arg;
    static const char other[] = "{'driver':'fault','rules':[{'id':'z','op':'write','action':'error'}],"
                                "'file':{'driver':'mem','size':'1M'}}";
    rig_open(
        "[{'id':'a','op':'read','ranges':'0+4k','action':'error'},{'id':'b','op':'write','action':'error'}]",
        "");
    json_t *options = parsed(other);
    CHECK_EQ(node_open(&rig.graph, options, OPEN_WRITE, &second, NULL), 0);
    json_decref(options);
    CHECK_EQ(rig_read(0, 512), -EIO);

    json_t *before[2] = {fault_list(rig.node), fault_list(second)};
    heap_arm(a->nth, a->sticky);
    a->result = a->step();
    heap.armed = false;
    a->touched = heap.count >= heap.fail_at;
    CHECK(a->touched || a->result == 0);
    if (a->result < 0) {
        json_t *after[2] = {fault_list(rig.node), fault_list(second)};
        CHECK(json_equal(before[0], after[0]) && json_equal(before[1], after[1]));
        CHECK_EQ(fault_state(second), 1);
        CHECK_EQ(rig_read(0, 512), -EIO);
        CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
        json_decref(after[0]);
        json_decref(after[1]);
    }
    json_decref(before[0]);
    json_decref(before[1]);
    node_unref(second);
    world_close(&rig);
    return 0;
}

/* Requests that wait: whether or not there is memory for their timers, they come to their end. */
static co_fn int waiting_main(void *arg)
{
    static struct bg b[2];
    struct attempt *a = arg;
    rig_open("[{'action':'delay','delay':'1ns'}]", "");
    bg_start(&b[0], REQ_WRITE, 0, 'z'); /* stacks and the device's memory are there before */
    bg_start(&b[1], REQ_WRITE, 0, 'z');
    co_sleep_ns(NS_PER_MS);
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL,
                    "[{'id':'d','op':'read','action':'delay','delay':'1s'},{'op':'write','action':'hang','"
                    "deadman':'5s'}]"),
             0);
    heap_arm(a->nth, a->sticky);
    bg_start(&b[0], REQ_READ, 0, 0);
    bg_start(&b[1], REQ_WRITE, 0, 'a');
    struct fault_counters c;
    struct fault_wait w = {.id = "d", .count = 2, .timeout_ns = NS_PER_MS};
    a->result = fault_wait(rig.node, &w, &c, NULL);
    heap.armed = false;
    a->touched = heap.count >= heap.fail_at;
    CHECK(a->result == -ETIMEDOUT || (a->touched && a->result == -ENOMEM));
    a->result = a->result == -ENOMEM ? a->result : 0;
    co_sleep_ns(6 * NS_PER_SEC);
    CHECK(b[0].done && b[1].done);
    CHECK_EQ(b[0].result, 0);
    CHECK_EQ(b[1].result, 0);
    CHECK_EQ(below(0), 'a');
    world_close(&rig);
    return 0;
}

static void run_attempt(co_fn int (*fn)(void *arg), struct attempt *a)
{
    int live = heap.live;
    world_run(1, fn, a);
    assert_int_equal(co_alive(), 0);
    assert_true(heap.live <= live || a->nth == STEPS_MAX);
}

static unsigned every_step(co_fn int (*fn)(void *arg), co_fn int (*step)(void), bool must_fail)
{
    unsigned steps = 0;
    for (int sticky = 0; sticky < 2; sticky++) {
        unsigned failed = 0;
        struct attempt a = {.step = step, .sticky = sticky, .nth = STEPS_MAX};
        run_attempt(fn, &a); /* untouched: what the test itself keeps is there now */
        for (a.nth = 1, run_attempt(fn, &a); a.touched; run_attempt(fn, &a)) {
            failed += a.result < 0;
            a.nth++;
            assert_true(a.nth < STEPS_MAX);
        }
        assert_int_equal(a.result, 0);
        assert_true(!must_fail || failed > 0);
        steps = a.nth;
    }
    return steps;
}

static void changes(void **state)
{
    assert_true(every_step(attempt_main, apply_everything, true) > 100);
}

static void blkdebug_rules(void **state)
{
    assert_true(every_step(attempt_main, convert_blkdebug, true) > 20);
}

static void lists(void **state)
{
    every_step(attempt_main, show_everything, false);
}

static void waiting(void **state)
{
    every_step(waiting_main, NULL, false);
}

static int set_up(void **state)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes),
        cmocka_unit_test(blkdebug_rules),
        cmocka_unit_test(lists),
        cmocka_unit_test(waiting),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
