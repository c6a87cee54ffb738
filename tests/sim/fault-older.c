/* SPDX-License-Identifier: BSD-2-Clause */
/* What was there before, once more: writes that are made again, reads that show older contents. */
#include "fault_look.h"

/* Whatever was started runs until it waits for nobody. */
static co_fn void settle(void)
{
    for (int i = 0; i < 4; i++) {
        co_yield ();
    }
}

/* ---- replay ---- */

SCENARIO(an_older_write_is_made_again_over_a_newer_one)
{
    uint64_t opno = 0;
    char old[512];

    memset(old, 'a', sizeof(old));
    rig_open("[{'id':'p','op':'write','nth':1,'action':'replay','after':2}]", "");
    CHECK_EQ(rig_write(0, 1024, 'a', 0), 0);
    CHECK_EQ(rig_write(512, 1024, 'b', 0), 0);
    settle();
    expect_sectors(0, "abb");
    CHECK_EQ(node_flush(rig.node), 0); /* counts as nothing */
    settle();
    expect_sectors(0, "abb");
    CHECK_EQ(rig_write(8192, 512, 'c', 0), 0);
    settle();
    expect_sectors(0, "aab");
    CHECK(same(who_made(1, old, 50, &opno), "p"));
    CHECK_EQ(opno, 1);
    CHECK(who_shows(2, 51) == NULL);
    CHECK_EQ(rig_write(0, 2048, 'd', 0), 0);
    settle();
    expect_sectors(0, "dddd");
    CHECK(who_made(1, old, 52, NULL) == NULL);
    world_close(&rig);
    return 0;
}

SCENARIO(a_duplicated_write_is_made_twice_and_a_zero_too)
{
    rig_open("[{'action':'replay','count':2}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    settle();
    CHECK_EQ(node_below(rig.node)->stats.ops[REQ_WRITE], 2);
    CHECK_EQ(node_zero(rig.node, 0, 512, 0), 0);
    settle();
    CHECK_EQ(node_below(rig.node)->stats.ops[REQ_ZERO], 2);
    expect_sectors(0, ".");
    world_close(&rig);
    return 0;
}

SCENARIO(a_removed_rule_makes_nothing_again)
{
    rig_open("[{'id':'p','op':'write','nth':1,'action':'replay','after':1}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "p", NULL), 0);
    CHECK(rig.node->pass_by);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(rig_write(0, 512, 'b', 0), 0);
        settle();
    }
    expect_sectors(0, "b");
    /* and the end waits for one that is under way */
    CHECK_EQ(change(rig.node, FAULT_ADD, NULL, "{'op':'write','action':'replay'}"), 0);
    CHECK_EQ(rig_write(0, 512, 'c', 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(what_waits_to_be_made_again_is_bounded)
{
    rig_open("[{'op':'write','action':'replay','after':100000}]", "");
    rig.graph.fault = NULL;
    for (int i = 0; i < 70; i++) { /* of 64 MiB that are kept */
        CHECK_EQ(rig_write(0, 1 * MiB, (char)('a' + i % 26), 0), 0);
    }
    settle();
    uint64_t made = node_below(rig.node)->stats.ops[REQ_WRITE];
    CHECK(made > 70 && made <= 76); /* the oldest were due at once */
    world_close(&rig);
    return 0;
}

/* ---- reorder ---- */

static unsigned order[256], made;

/* Writes that reach the lower node, in their order. */
static void note_order(struct graph *g, const struct fault_event *e)
{
    if (strcmp(e->rule, "below") == 0 && made < ARRAY_SIZE(order)) {
        order[made++] = (unsigned)(e->req->offset / 512);
    }
}

static co_fn void open_reordering(const char *members)
{
    char text[512];

    world_init(&rig);
    snprintf(
        text, sizeof(text),
        "{'driver':'fault','rules':[{'id':'o','op':'write','action':'reorder'%s}],'file':{'driver':'fault',"
        "'rules':[{'id':'below','op':'write','action':'pass'}],'file':{'driver':'mem','size':'1M'}}}",
        members);
    WORLD_OPEN(&rig, "%s", quoted(text));
    rig.graph.fault = note_order;
    made = 0;
}

SCENARIO(writes_wait_and_are_made_in_another_order)
{
    unsigned first[256], moved = 0, seen[200] = {0};

    for (int round = 0; round < 2; round++) {
        open_reordering(",'window':16");
        for (unsigned i = 0; i < 200; i++) {
            CHECK_EQ(rig_write(i * 512, 512, 'w', 0), 0);
            CHECK_EQ(made, i < 16 ? 0 : i - 15);
        }
        CHECK_EQ(node_flush(rig.node), 0);
        CHECK_EQ(made, 200);
        for (unsigned i = 0; i < 200; i++) {
            seen[order[i]]++;
            moved += order[i] != i;
            CHECK(order[i] <= i + 16);
        }
        CHECK(round == 0 || memcmp(first, order, sizeof(order)) == 0);
        memcpy(first, order, sizeof(order));
        world_close(&rig);
    }
    for (unsigned i = 0; i < 200; i++) {
        CHECK_EQ(seen[i], 2);
    }
    CHECK(moved > 2 * 150);
    return 0;
}

SCENARIO(who_touches_the_same_bytes_sees_them)
{
    open_reordering("");
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(rig_write(i * 512, 512, (char)('a' + i), 0), 0);
    }
    CHECK_EQ(made, 0);
    CHECK_EQ(shown(3 * 512), 'd');
    CHECK(made == 1 && order[0] == 3);
    CHECK_EQ(rig_write(5 * 512 + 100, 10, 'x', 0), 0); /* waits itself, behind what it lies over */
    CHECK(made == 2 && order[1] == 5);
    CHECK_EQ(node_zero(rig.node, 0, 1024, 0), 0);
    CHECK_EQ(made, 4);
    CHECK_EQ(rig_write(16 * 512, 512, 'f', REQ_FUA), 0);
    CHECK(made == 5 && order[4] == 16);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(shown(0), 0);
    CHECK_EQ(shown(2 * 512), 'c');
    CHECK_EQ(shown(5 * 512 + 99), 'f');
    CHECK_EQ(shown(5 * 512 + 100), 'x');
    CHECK_EQ(shown(5 * 512 + 110), 'f');
    world_close(&rig);
    return 0;
}

SCENARIO(a_flush_may_be_ignored_but_the_end_of_the_rule_is_not)
{
    open_reordering(",'flush':'ignore'");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(made, 0);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "o", NULL), 0);
    settle();
    CHECK_EQ(made, 1);
    CHECK(rig.node->pass_by);
    CHECK_EQ(change(rig.node, FAULT_ADD, NULL, "{'op':'write','action':'reorder'}"), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    world_close(&rig); /* so is the end of the node */
    CHECK_EQ(made, 2);
    return 0;
}

SCENARIO(an_error_of_what_was_acknowledged_is_told_by_the_flush)
{
    open_reordering("");
    CHECK_EQ(change(node_below(rig.node), FAULT_REPLACE, NULL, "{'op':'write','count':1,'action':'error'}"),
             0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(512, 512, 'b', 0), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    world_close(&rig);
    return 0;
}

/* ---- stale ---- */

SCENARIO(a_stale_read_shows_what_was_there_before)
{
    char data[1024], old[512];

    rig_open("[{'id':'s','op':'read','ranges':'0+4k','count':2,'action':'stale'}]", "");
    CHECK_EQ(shown(0), 0); /* there is no older one yet */
    CHECK_EQ(counters(rig.node, "s").matched, 0);
    CHECK_EQ(rig_write(0, 1024, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), 0); /* the same again is no other generation */
    CHECK_EQ(node_read(rig.node, 0, data, 1024), 0);
    CHECK(data[0] == 'a' && data[511] == 'a' && data[512] == 0);
    memset(old, 'a', 512);
    CHECK(same(who_made(0, old, 5, NULL), "s"));
    CHECK(who_made(0, old, 6, NULL) == NULL);
    memset(old, 0, 512);
    CHECK(same(who_made(1, old, 5, NULL), "s"));
    expect_sectors(0, "ba");
    CHECK_EQ(rig_write(8192, 512, 'x', 0), 0); /* elsewhere nothing is kept */
    CHECK_EQ(rig_write(8192, 512, 'y', 0), 0);
    CHECK_EQ(shown(8192), 'y');
    CHECK_EQ(shown(100), 'a');
    CHECK_EQ(shown(100), 'b'); /* twice, said the rule */
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK(rig.node->pass_by);
    world_close(&rig);
    return 0;
}

SCENARIO(an_age_counts_writes)
{
    for (int age = 1; age <= 3; age++) {
        char rules[64];
        snprintf(rules, sizeof(rules), "[{'action':'stale','age':%d}]", age);
        rig_open(rules, "");
        for (int i = 0; i < 6; i++) {
            CHECK_EQ(rig_write(512, 512, (char)('a' + i), 0), 0);
            if (i >= age) {
                CHECK_EQ(shown(512), 'a' + i - age);
            }
        }
        CHECK_EQ(node_zero(rig.node, 512, 512, 0), 0);
        CHECK_EQ(shown(512), 'f' - age + 1);
        CHECK_EQ(rig_write(600, 10, 'z', 0), 0); /* a part: the whole sector has one more */
        CHECK_EQ(shown(512), age == 1 ? 0 : 'f' - age + 2);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(only_the_newest_are_kept)
{
    rig_open("[{'op':'read','action':'stale'}]", "");
    rig.graph.fault = NULL;
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), 0);
    for (int i = 0; i < 18; i++) { /* 2047 sectors each time: 32768 are kept */
        CHECK_EQ(shown(0), i <= 16 ? 'a' : 'b');
        CHECK_EQ(rig_write(512, 1 * MiB - 512, (char)('c' + i), 0), 0);
    }
    CHECK_EQ(shown(512), 'c' + 16);
    world_close(&rig);
    return 0;
}

/* ---- what happens elsewhere meets nobody ---- */

static struct {
    unsigned running;
    uint64_t next;
    struct rng rng;
} storm;

/* Each reader finds a sector as one write left it, and if it is not the one that was meant to be there, it
 * is explained at that instant. */
static co_fn int stormy(void *arg)
{
    for (int i = 0; i < 300; i++) {
        uint64_t sector = rng_below(&storm.rng, 32), opno = ++storm.next;
        char data[512];
        struct iovec iov = {data, 512};
        struct req r = {.op = rng_below(&storm.rng, 3) ? REQ_READ : REQ_WRITE,
                        .flags = REQ_SERIALISE,
                        .opno = opno,
                        .offset = sector * 512,
                        .bytes = 512,
                        .iov = &iov,
                        .niov = 1};
        memset(data, 0, 512);
        memcpy(data, &sector, 8);
        memcpy(data + 8, &opno, 8);
        CHECK_EQ(node_io(rig.node, &r), 0);
        if (r.op == REQ_READ) {
            uint64_t home;
            memcpy(&home, data, 8);
            CHECK(home == sector || home == 0 || who_made(sector, data, opno, NULL));
        }
    }
    return 0;
}

SCENARIO(nobody_sees_a_misdirected_write_before_it_is_remembered)
{
    struct co_group group;
    struct co_task tasks[8];

    world_init(&rig);
    WORLD_OPEN(
        &rig, "%s",
        quoted(
            "{'driver':'fault','rules':[{'op':'write','probability':0.3,'action':'misdirect','lba-bit':2}],"
            "'file':{'driver':'sim-device','latency':'1ms','file':{'driver':'mem','size':'16k'}}}"));
    rng_init(&storm.rng, world_seed);
    storm.next = 0;
    co_group_init(&group);
    for (int i = 0; i < 8; i++) {
        co_group_start(&group, &tasks[i], stormy, NULL);
    }
    co_group_wait(&group);
    CHECK(counters(rig.node, "r1").fired > 150);
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_write_is_made_again_over_a_newer_one),
        cmocka_unit_test(a_duplicated_write_is_made_twice_and_a_zero_too),
        cmocka_unit_test(a_removed_rule_makes_nothing_again),
        cmocka_unit_test(what_waits_to_be_made_again_is_bounded),
        cmocka_unit_test(writes_wait_and_are_made_in_another_order),
        cmocka_unit_test(who_touches_the_same_bytes_sees_them),
        cmocka_unit_test(a_flush_may_be_ignored_but_the_end_of_the_rule_is_not),
        cmocka_unit_test(an_error_of_what_was_acknowledged_is_told_by_the_flush),
        cmocka_unit_test(a_stale_read_shows_what_was_there_before),
        cmocka_unit_test(an_age_counts_writes),
        cmocka_unit_test(only_the_newest_are_kept),
        cmocka_unit_test(nobody_sees_a_misdirected_write_before_it_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
