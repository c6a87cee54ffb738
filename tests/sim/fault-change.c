/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes to rules: all or nothing, over several nodes at one instant; from which operation they hold;
 * counters, budgets, waiting for a rule, and what the engine tells. */
#include "fault_rig.h"

static char *ids(struct node *n)
{
    static char text[1024];
    AUTO_JSON json_t *rules = fault_list(n);
    size_t i;
    json_t *rule;

    text[0] = 0;
    json_array_foreach(rules, i, rule)
    {
        strcat(text, json_string_value(json_object_get(rule, "id")));
        strcat(text, " ");
    }
    return text;
}

#define CHECK_IDS(n, expected) CHECK(strcmp(ids(n), expected) == 0)

SCENARIO(rules_are_added_put_in_between_and_removed)
{
    struct node *n = rig_open("[{'action':'pass'},{'id':'b','action':'pass'},{'action':'pass'}]", "");
    CHECK_IDS(n, "r1 b r2 ");
    CHECK_EQ(change(n, FAULT_ADD, NULL, "{'id':'r3','action':'pass'}"), 0);
    CHECK_EQ(change(n, FAULT_ADD, "b", "[{'action':'pass'},{'action':'pass'}]"), 0);
    CHECK_IDS(n, "r1 r4 r5 b r2 r3 "); /* a name that is taken is skipped */
    CHECK_EQ(change(n, FAULT_REMOVE, "r4", NULL), 0);
    CHECK_EQ(change(n, FAULT_REMOVE, "r4", NULL), -ENOENT);
    CHECK_EQ(change(n, FAULT_ADD, "r4", "{'action':'pass'}"), -ENOENT);
    CHECK_EQ(change(n, FAULT_ADD, NULL, "{'id':'b','action':'pass'}"), -EEXIST);
    CHECK_IDS(n, "r1 r5 b r2 r3 ");
    CHECK_EQ(change(n, FAULT_REPLACE, NULL, "[{'id':'b','action':'pass'}]"), 0);
    CHECK_IDS(n, "b ");
    CHECK_EQ(change(n, FAULT_CLEAR, NULL, NULL), 0);
    CHECK_IDS(n, "");
    world_close(&rig);
    return 0;
}

SCENARIO(bad_rules_leave_everything_as_it_was)
{
    static const char *const bad[] = {
        "{'action':'explode'}",
        "{}",
        "", /* no JSON: replaced below */
        "{'action':'error','errno':'EFOO'}",
        "{'action':'error','errno':0}",
        "{'action':'error','errno':4096}",
        "{'action':'error','op':'wriet'}",
        "{'action':'error','op':[]}",
        "{'action':'error','op':[1]}",
        "{'action':'error','op':'read,'}",
        "{'action':'error','flags':'fau'}",
        "{'action':'error','flags':'fua','without':'fua'}",
        "{'action':'error','ranges':'4k'}",
        "{'action':'error','ranges':'4k+0'}",
        "{'action':'error','ranges':'4k-8k'}",
        "{'action':'error','ranges':'8E+8E'}",
        "{'action':'error','ranges':[]}",
        "{'action':'error','ranges':4096}",
        "{'action':'error','ranges':{'offset':-1,'bytes':5}}",
        "{'action':'error','ranges':{'offset':1}}",
        "{'action':'error','sectors':'9-3'}",
        "{'action':'error','sectors':-1}",
        "{'action':'error','sectors':18014398509481984}",
        "{'action':'error','op':'flush','ranges':'0+1'}",
        "{'action':'error','event':'write'}",
        "{'action':'error','event':5}",
        "{'action':'error','state':-1}",
        "{'action':'error','state':4294967296}",
        "{'action':'error','nth':0}",
        "{'action':'error','every':0}",
        "{'action':'error','count':0}",
        "{'action':'error','count':'many'}",
        "{'action':'error','probability':0}",
        "{'action':'error','probability':1.01}",
        "{'action':'error','probability':'101%'}",
        "{'action':'error','probability':'nan'}",
        "{'action':'error','probability':-0.5}",
        "{'action':'error','when':'never'}",
        "{'action':'error','delay':'1s'}",
        "{'action':'delay'}",
        "{'action':'delay','delay':'0s'}",
        "{'action':'delay','delay':'86401s'}",
        "{'action':'delay','delay':'1s','errno':'EIO'}",
        "{'action':'hang','hold':'breath'}",
        "{'action':'hang','deadman':'90000s'}",
        "{'action':'pass','hold':'reply'}",
        "{'action':'state'}",
        "{'action':'state','new-state':-1}",
        "{'action':'state','new-state':2,'event':'l2_load','op':'read'}",
        "{'action':'error','enabled':1}",
        "{'action':'error','comment':7}",
        "{'action':'error','id':''}",
        "{'action':'error','id':'a\\nb'}",
        "{'action':'error','id':'0123456789012345678901234567890123456789012345678901234567890123'}",
        "{'action':'error','wen':'after'}",
        "'error'",
        "[{'action':'pass'},{'action':'pass','id':'keep'}]",
        "[{'id':'x','action':'pass'},{'id':'x','action':'pass'}]",
    };
    struct node *n = rig_open("[{'id':'keep','op':'read','every':2,'action':'error'}]", "");
    CHECK_EQ(rig_read(0, 512), 0);
    AUTO_JSON json_t *before = fault_list(n);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const char *text = *bad[i] ? bad[i] : "[5]";
        if (change(n, FAULT_ADD, NULL, text) >= 0) {
            fprintf(stderr, "accepted: %s\n", text);
            CHECK(false);
        }
        AUTO_JSON json_t *after = fault_list(n);
        CHECK(json_equal(before, after));
    }
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(counters_stay_when_a_rule_is_set)
{
    struct node *n = rig_open("[{'id':'a','op':'read','every':3,'action':'error'}]", "");
    rig_read(0, 512);
    rig_read(0, 512);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'errno':'ENOSPC','ranges':'0+4k'}"), 0);
    CHECK_EQ(rig_read(4096, 512), 0);
    CHECK_EQ(rig_read(0, 512), -ENOSPC); /* the third that matches */
    CHECK_EQ(change(n, FAULT_SET, "a", "{'ranges':null,'every':null,'count':2}"), 0);
    CHECK_EQ(rig_read(8192, 512), -ENOSPC);
    CHECK_EQ(rig_read(8192, 512), 0); /* the budget counts what was before */
    CHECK_EQ(change(n, FAULT_SET, "a", "{'count':3}"), 0);
    CHECK_EQ(rig_read(8192, 512), -ENOSPC);
    CHECK_EQ(rig_read(8192, 512), 0);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'enabled':false,'count':null}"), 0);
    CHECK_EQ(rig_read(8192, 512), 0);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'enabled':true}"), 0);
    CHECK_EQ(rig_read(8192, 512), -ENOSPC);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'id':'b'}"), -EINVAL);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'action':'delay'}"), -EINVAL); /* has an errno, and no delay */
    CHECK_EQ(change(n, FAULT_SET, "a", "[1]"), -EINVAL);
    CHECK_EQ(change(n, FAULT_SET, "b", "{}"), -ENOENT);
    CHECK_EQ(counters(n, "a").fired, 4);
    world_close(&rig);
    return 0;
}

/* ---- transactions ---- */

static co_fn void open_two(struct node **a, struct node **other)
{
    static const char text[] = "{'driver':'fault','file':{'driver':'mem','size':'1M'}}";
    AUTO_JSON json_t *options = parsed(text);

    *a = rig_open("[]", "");
    CHECK_EQ(node_open(&rig.graph, options, OPEN_WRITE, other, NULL), 0);
}

SCENARIO(several_disks_change_at_one_instant_or_not_at_all)
{
    struct node *a, *other;
    open_two(&a, &other);
    for (int i = 0; i < 7; i++) {
        rig_read(0, 512);
    }
    AUTO_JSON json_t *good = parsed("[{'id':'x','op':'read','action':'error'}]");
    AUTO_JSON json_t *set = parsed("{'errno':'ENOSPC'}");
    AUTO_JSON json_t *bad = parsed("{'op':'what','action':'error'}");
    struct fault_change c[] = {
        {.node = a, .kind = FAULT_ADD, .rules = good},
        {.node = other, .kind = FAULT_STATE, .state = 5},
        {.node = other, .kind = FAULT_ADD, .rules = good},
        {.node = a, .kind = FAULT_SET, .id = "x", .rules = set}, /* what the first has just added */
        {.node = other, .kind = FAULT_ADD, .rules = bad},
    };
    struct err err = {0};
    CHECK_EQ(fault_apply(c, 5, &err), -EINVAL);
    CHECK(strstr(err.text, "change 5: ") == err.text);
    CHECK_IDS(a, "");
    CHECK_IDS(other, "");
    CHECK_EQ(fault_state(other), 1);
    CHECK_EQ(fault_apply(c, 4, &err), 0);
    CHECK_EQ(c[0].from_opno, 8);
    CHECK_EQ(c[2].from_opno, 1);
    CHECK_EQ(fault_state(other), 5);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    CHECK_EQ(counters(a, "x").last_fired, 8);
    char buf[512];
    CHECK_EQ(node_read(other, 0, buf, 512), -EIO);

    struct fault_change off[] = {
        {.node = a, .kind = FAULT_SET, .id = "x", .rules = set},
        {.node = a, .kind = FAULT_SET, .id = "x", .rules = set},
        {.node = a, .kind = FAULT_REMOVE, .id = "x"},
        {.node = other, .kind = FAULT_REMOVE, .id = "x"},
        {.node = other, .kind = FAULT_REMOVE, .id = "x"},
    };
    CHECK_EQ(fault_apply(off, 5, &err), -ENOENT);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    CHECK_EQ(fault_apply(off, 4, &err), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(node_read(other, 0, buf, 512), 0);
    node_unref(other);
    world_close(&rig);
    return 0;
}

SCENARIO(a_node_without_rules_is_refused)
{
    rig_open("[]", "");
    struct fault_change c = {.node = node_child(rig.node, "file"), .kind = FAULT_CLEAR};
    struct err err = {0};
    CHECK_EQ(fault_apply(&c, 1, &err), -EINVAL);
    CHECK(strstr(err.text, "mem"));
    CHECK(!fault_is(c.node));
    CHECK(!fault_is(NULL));
    CHECK(fault_find(rig.node) == rig.node);
    CHECK(fault_find(c.node) == NULL);
    world_close(&rig);
    return 0;
}

/* Below a format, operations keep the number that the outermost node gave them. */
SCENARIO(the_operation_number_is_the_clients)
{
    world_init(&rig);
    WORLD_OPEN(&rig, "%s",
               quoted("{'driver':'raw','file':{'driver':'fault','node-name':'f','file':"
                      "{'driver':'mem','size':'1M'}}}"));
    for (int i = 0; i < 4; i++) {
        rig_read(0, 512);
    }
    struct node *f = graph_find(&rig.graph, "f");
    CHECK(fault_find(rig.node) == f);
    for (int i = 0; i < 20; i++) { /* as formats do of their own accord: these are numbered apart */
        char buf[512];
        CHECK_EQ(node_read(f, 0, buf, sizeof(buf)), 0);
    }
    CHECK_EQ(fault_next_opno(f), 5);
    CHECK_EQ(change(f, FAULT_ADD, NULL, "{'op':'read','action':'error'}"), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(counters(f, "r1").last_fired, 5);
    world_close(&rig);
    return 0;
}

/* ---- waiting ---- */

struct waiting {
    struct fault_wait wait;
    struct fault_counters c;
    int result;
    bool done;
};

static co_fn void wait_main(void *arg)
{
    struct waiting *w = arg;
    w->result = fault_wait(rig.node, &w->wait, &w->c, NULL);
    w->done = true;
}

static struct waiting *wait_for(struct waiting *w, struct fault_wait wait)
{
    *w = (struct waiting){.wait = wait};
    CHECK_EQ(co_start(wait_main, w), 0);
    return w;
}

SCENARIO(waiting_for_a_rule)
{
    static struct waiting w[6];
    static int owner;
    struct node *n = rig_open("[{'id':'a','op':'read','every':2,'action':'error'}]", "");

    wait_for(&w[0], (struct fault_wait){.id = "a", .count = 2, .timeout_ns = UINT64_MAX});
    wait_for(&w[1], (struct fault_wait){.id = "a", .matched = true, .count = 3, .timeout_ns = UINT64_MAX});
    wait_for(&w[2], (struct fault_wait){.id = "a", .count = 100, .timeout_ns = NS_PER_SEC});
    wait_for(&w[3], (struct fault_wait){.id = "a", .count = 100, .timeout_ns = UINT64_MAX, .owner = &owner});
    wait_for(&w[4], (struct fault_wait){.id = "a", .count = 100, .timeout_ns = UINT64_MAX});
    for (int i = 0; i < 3; i++) {
        CHECK(!w[1].done);
        rig_read(0, 512);
        co_yield ();
    }
    CHECK(w[1].done && w[1].result == 0 && w[1].c.matched == 3 && w[1].c.last_matched == 3);
    CHECK(!w[0].done);
    rig_read(0, 512);
    co_yield ();
    CHECK(w[0].done && w[0].result == 0 && w[0].c.fired == 2);
    CHECK(!w[2].done);
    co_sleep_ns(NS_PER_SEC);
    co_yield ();
    CHECK(w[2].done && w[2].result == -ETIMEDOUT && w[2].c.fired == 2);
    fault_wait_cancel(n, &owner);
    co_yield ();
    CHECK(w[3].done && w[3].result == -ECANCELED);
    CHECK(!w[4].done);
    CHECK_EQ(change(n, FAULT_SET, "a", "{'every':null}"), 0);
    co_yield ();
    CHECK(!w[4].done); /* it is still the same rule */
    CHECK_EQ(change(n, FAULT_REMOVE, "a", NULL), 0);
    co_yield ();
    CHECK(w[4].done && w[4].result == -ENOENT);

    wait_for(&w[5], (struct fault_wait){.id = "a", .count = 1});
    CHECK(w[5].done && w[5].result == -ENOENT);
    CHECK_EQ(change(n, FAULT_ADD, NULL, "{'id':'b','action':'error'}"), 0);
    wait_for(&w[5], (struct fault_wait){.id = "b", .count = 0});
    CHECK(w[5].done && w[5].result == 0);
    wait_for(&w[5], (struct fault_wait){.id = "b", .count = 1}); /* only looks */
    CHECK(w[5].done && w[5].result == -ETIMEDOUT);
    wait_for(&w[5], (struct fault_wait){.id = "b", .count = 1, .timeout_ns = UINT64_MAX});
    graph_unhold(&rig.graph);
    co_yield ();
    CHECK(w[5].done && w[5].result == -ECANCELED);
    world_close(&rig);
    return 0;
}

/* ---- what is told ---- */

SCENARIO(events_come_in_order_and_as_json)
{
    rig_open("[{'id':'s','op':'write','action':'state','new-state':7,'count':1},"
             "{'id':'e','op':'write','state':7,'action':'error','errno':'ENOSPC'}]",
             "");
    rig_write(0, 512, 'a', 0);
    expect_events("INJECTED s\nEXHAUSTED s\nSTATE 1>7\n");
    rig_write(4096, 512, 'a', 0);
    expect_events("INJECTED e\n");
    struct fault_change c = {.node = rig.node, .kind = FAULT_STATE, .state = 1};
    CHECK_EQ(fault_apply(&c, 1, NULL), 0);
    expect_events("STATE 7>1\n");

    struct req r = {.op = REQ_WRITE, .offset = 4096, .bytes = 512, .opno = 9};
    struct fault_event e = {.type = FAULT_INJECTED,
                            .node = node_name(rig.node),
                            .rule = "e",
                            .tag = "t",
                            .action = "error",
                            .req = &r,
                            .matched = 3,
                            .fired = 2,
                            .error = ENOSPC};
    AUTO_JSON json_t *data = fault_event_data(&e);
    json_object_del(data, "node-name");
    AUTO_JSON json_t *expected =
        parsed("{'rule':'e','tag':'t','action':'error','operation':9,'op':'write','offset':4096,'bytes':512,"
               "'errno':'ENOSPC','matched':3,'fired':2}");
    CHECK(json_equal(data, expected));
    CHECK(strcmp(fault_event_name(FAULT_STATE_CHANGED), "STATE_CHANGED") == 0);
    world_close(&rig);
    return 0;
}

SCENARIO(an_empty_engine_is_passed_by_and_still_counts)
{
    struct node *n = rig_open("[]", "");
    CHECK(n->pass_by);
    rig_read(0, 512);
    CHECK_EQ(n->stats.ops[REQ_READ], 1);
    CHECK_EQ(rig_read(2 * MiB, 512), -EIO);
    CHECK_EQ(n->stats.errors[REQ_READ], 1);
    CHECK_EQ(fault_next_opno(n), 3);
    CHECK_EQ(node_truncate(n, 2 * MiB, 0, NULL), 0);
    CHECK_EQ(node_size(n), 2 * MiB);
    CHECK_EQ(change(n, FAULT_ADD, NULL, "{'action':'error'}"), 0);
    CHECK(!n->pass_by);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(change(n, FAULT_CLEAR, NULL, NULL), 0);
    CHECK(n->pass_by);
    CHECK_EQ(fault_break(n, "pwritev", "t"), 0);
    CHECK(!n->pass_by);
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_added_put_in_between_and_removed),
        cmocka_unit_test(bad_rules_leave_everything_as_it_was),
        cmocka_unit_test(counters_stay_when_a_rule_is_set),
        cmocka_unit_test(several_disks_change_at_one_instant_or_not_at_all),
        cmocka_unit_test(a_node_without_rules_is_refused),
        cmocka_unit_test(the_operation_number_is_the_clients),
        cmocka_unit_test(waiting_for_a_rule),
        cmocka_unit_test(events_come_in_order_and_as_json),
        cmocka_unit_test(an_empty_engine_is_passed_by_and_still_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
