/* SPDX-License-Identifier: BSD-2-Clause */
/* Every selector of the fault engine and its simple actions, each against what is expected by hand. */
#include "fault_rig.h"

#include <math.h>

/* ---- operation and flags ---- */

static co_fn int one(enum req_op op, unsigned flags, uint64_t offset, uint64_t bytes)
{
    static char buf[64 * KiB];
    struct iovec iov = {buf, bytes};
    struct extent e;
    struct req r = {.op = op, .flags = flags, .offset = offset, .bytes = bytes, .extent = &e};

    if (op == REQ_READ || op == REQ_WRITE) {
        r.iov = &iov;
        r.niov = 1;
    }
    if (op == REQ_FLUSH) {
        r.offset = r.bytes = 0;
    }
    if (op == REQ_TRUNCATE) {
        r.offset = 1 * MiB;
        r.bytes = 0;
    }
    return node_io(rig.node, &r);
}

SCENARIO(an_operation_matches_itself_alone)
{
    for (int named = 0; named < REQ_OP_COUNT; named++) {
        char rules[128];
        snprintf(rules, sizeof(rules), "[{'op':'%s','action':'error','errno':'ENOSPC'}]",
                 fault_op_name(named));
        rig_open(rules, "");
        for (int op = 0; op < REQ_OP_COUNT; op++) {
            /* an error of a prefetch reaches its caller as well */
            CHECK_EQ(one(op, 0, 4096, 512), op == named ? -ENOSPC : 0);
        }
        world_close(&rig);
    }
    return 0;
}

SCENARIO(without_an_operation_looking_and_resizing_are_spared)
{
    rig_open("[{'action':'error'}]", "");
    for (int op = 0; op < REQ_OP_COUNT; op++) {
        bool spared = op == REQ_STATUS || op == REQ_TRUNCATE || op == REQ_CACHE;
        CHECK_EQ(one(op, 0, 4096, 512), spared ? 0 : -EIO);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(several_operations_and_qemus_names)
{
    rig_open("[{'op':['read','write-zeroes'],'action':'error'},{'op':'block-status,discard','action':'error',"
             "'errno':5}]",
             "");
    CHECK_EQ(one(REQ_READ, 0, 0, 512), -EIO);
    CHECK_EQ(one(REQ_WRITE, 0, 0, 512), 0);
    CHECK_EQ(one(REQ_ZERO, 0, 0, 512), -EIO);
    CHECK_EQ(one(REQ_STATUS, 0, 0, 512), -EIO);
    CHECK_EQ(one(REQ_DISCARD, 0, 0, 512), -EIO);
    CHECK_EQ(one(REQ_FLUSH, 0, 0, 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(fua_is_seen_apart_from_plain_writes)
{
    rig_open("[{'op':'write','flags':'fua','action':'error','errno':'ENOSPC'}]", "");
    CHECK_EQ(one(REQ_WRITE, 0, 0, 512), 0);
    CHECK_EQ(one(REQ_WRITE, REQ_FUA, 0, 512), -ENOSPC);
    CHECK_EQ(one(REQ_FLUSH, 0, 0, 0), 0);
    world_close(&rig);
    rig_open("[{'without':['fua','unmap'],'op':['write','zero'],'action':'error'}]", "");
    CHECK_EQ(one(REQ_WRITE, REQ_FUA, 0, 512), 0);
    CHECK_EQ(one(REQ_WRITE, 0, 0, 512), -EIO);
    CHECK_EQ(one(REQ_ZERO, REQ_UNMAP, 0, 512), 0);
    CHECK_EQ(one(REQ_ZERO, 0, 0, 512), -EIO);
    world_close(&rig);
    return 0;
}

/* ---- ranges ---- */

SCENARIO(fua_is_seen_whatever_the_device_does_about_it)
{
    world_init(&rig);
    WORLD_OPEN(
        &rig, "%s",
        quoted(
            "{'driver':'fault','rules':[{'op':'write','flags':'fua','action':'error'}],"
            "'file':{'driver':'sim-device','fua':false,'align':4096,'file':{'driver':'mem','size':'1M'}}}"));
    CHECK_EQ(one(REQ_WRITE, 0, 100, 512), 0);
    CHECK_EQ(one(REQ_WRITE, REQ_FUA, 100, 512), -EIO);
    CHECK_EQ(one(REQ_FLUSH, 0, 0, 0), 0);
    /* requests come as they were made, not as the device wants them */
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL, "{'op':'read','action':'error'}"), 0);
    CHECK_EQ(one(REQ_WRITE, 0, 100, 512), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(a_range_matches_by_one_shared_byte)
{
    rig_open("[{'ranges':['8k+4k','64k+1',{'offset':131072,'bytes':512}],'action':'error'}]", "");
    CHECK_EQ(rig_read(8191, 1), 0);
    CHECK_EQ(rig_read(8191, 2), -EIO);
    CHECK_EQ(rig_read(8192, 1), -EIO);
    CHECK_EQ(rig_read(0, 8192), 0);
    CHECK_EQ(rig_read(0, 16384), -EIO);
    CHECK_EQ(rig_read(12287, 1), -EIO);
    CHECK_EQ(rig_read(12288, 1), 0);
    CHECK_EQ(rig_read(65536, 1), -EIO);
    CHECK_EQ(rig_read(65537, 1), 0);
    CHECK_EQ(rig_read(131583, 1), -EIO);
    CHECK_EQ(rig_read(131584, 1), 0);
    CHECK_EQ(node_flush(rig.node), 0); /* has no range */
    world_close(&rig);
    return 0;
}

SCENARIO(sectors_in_every_form)
{
    rig_open("[{'sectors':[1,'4-5','10+2','0x20',{'sector':50,'count':2}],'action':'error'},"
             " {'sectors':'2000+','action':'error'}]",
             "");
    static const int hit[] = {1, 4, 5, 10, 11, 32, 50, 51, 2000, 2001, 2047};
    for (int s = 0; s < 2048; s++) {
        bool is = false;
        for (size_t i = 0; i < ARRAY_SIZE(hit); i++) {
            is |= hit[i] == s || s >= 2000;
        }
        CHECK_EQ(rig_read((uint64_t)s * 512, 512), is ? -EIO : 0);
    }
    world_close(&rig);
    return 0;
}

/* The index against looking at every range: the rule that answers has to be the first that fits. */
#define MODEL_RULES 300

SCENARIO(the_index_finds_what_a_search_through_all_finds)
{
    struct {
        uint64_t start, end;
    } model[MODEL_RULES];
    struct rng *rng = loop_rng();

    for (int round = 0; round < 4; round++) {
        AUTO_JSON json_t *rules = json_array();
        uint64_t longest = round % 2 ? 200 : 8000; /* many or few overlap; round 3: hardly any */
        for (int i = 0; i < MODEL_RULES; i++) {
            model[i].start = round == 3 ? (uint64_t)i * 3000 : rng_below(rng, 1000000);
            model[i].end = model[i].start + 1 + rng_below(rng, round == 3 ? 3000 : longest);
            /* which rule it was is told by the error */
            json_array_append_new(rules, json_pack("{s:s, s:[{s:I, s:I}], s:s, s:i}", "op", "read", "ranges",
                                                   "offset", (json_int_t)model[i].start, "bytes",
                                                   (json_int_t)(model[i].end - model[i].start), "action",
                                                   "error", "errno", i + 1));
        }
        rig_open("[]", "");
        struct fault_change c = {.node = rig.node, .kind = FAULT_REPLACE, .rules = rules};
        CHECK_EQ(fault_apply(&c, 1, NULL), 0);
        for (int k = 0; k < 3000; k++) {
            uint64_t at = rng_below(rng, 1000000), bytes = 1 + rng_below(rng, 3000);
            int expected = 0;
            for (int i = MODEL_RULES - 1; i >= 0; i--) {
                expected = model[i].start < at + bytes && at < model[i].end ? -(i + 1) : expected;
            }
            CHECK_EQ(rig_read(at, bytes), expected);
        }
        world_close(&rig);
    }
    return 0;
}

/* ---- how often ---- */

/* Twelve reads as a text: x where one failed. */
static co_fn const char *pattern(void)
{
    static char text[13];
    for (int i = 0; i < 12; i++) {
        text[i] = rig_read(0, 512) < 0 ? 'x' : '.';
    }
    return text;
}

SCENARIO(skip_nth_every_and_count)
{
    static const struct {
        const char *members, *expected;
    } cases[] = {
        {"'skip':3", "...xxxxxxxxx"},
        {"'nth':3", "..x........."},
        {"'every':3", "..x..x..x..x"},
        {"'count':3", "xxx........."},
        {"'skip':2,'nth':3", "....x......."},
        {"'skip':1,'every':4", "....x...x..."},
        {"'every':2,'count':3", ".x.x.x......"},
        {"'skip':2,'every':2,'count':2", "...x.x......"},
        {"'every':1", "xxxxxxxxxxxx"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char rules[128];
        snprintf(rules, sizeof(rules), "[{%s,'action':'error'}]", cases[i].members);
        rig_open(rules, "");
        if (strcmp(pattern(), cases[i].expected) != 0) {
            fprintf(stderr, "%s: expected %s\n", cases[i].members, cases[i].expected);
            CHECK(false);
        }
        world_close(&rig);
    }
    return 0;
}

SCENARIO(what_does_not_match_is_not_counted)
{
    rig_open("[{'op':'read','ranges':'4k+4k','nth':2,'action':'error'}]", "");
    CHECK_EQ(rig_read(4096, 512), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(rig_read(0, 512), 0);
        CHECK_EQ(rig_write(4096, 512, 'a', 0), 0);
    }
    CHECK_EQ(rig_read(4096, 512), -EIO);
    struct fault_counters c = counters(rig.node, "r1");
    CHECK_EQ(c.matched, 2);
    CHECK_EQ(c.fired, 1);
    CHECK_EQ(c.last_matched, 12); /* the operation's number at the outermost node */
    CHECK_EQ(c.last_fired, 12);
    CHECK_EQ(rig_read(4096, 512), 0);
    CHECK_EQ(counters(rig.node, "r1").last_matched, 13);
    CHECK_EQ(counters(rig.node, "r1").last_fired, 12);
    world_close(&rig);
    return 0;
}

/* ---- chance ---- */

static co_fn unsigned failures(const char *rules, const char *more, unsigned n, uint8_t *which)
{
    unsigned failed = 0;
    rig_open(rules, more);
    rig.graph.fault = NULL;
    for (unsigned i = 0; i < n; i++) {
        bool x = rig_read(i % 1000 * 512, 512) < 0;
        failed += x;
        if (which) {
            which[i] = x;
        }
    }
    world_close(&rig);
    return failed;
}

SCENARIO(probability_is_what_was_asked_for)
{
    static const struct {
        const char *rules;
        double p;
    } cases[] = {
        {"[{'probability':0.1,'action':'error'}]", 0.1}, {"[{'probability':'2.5%','action':'error'}]", 0.025},
        {"[{'probability':0.5,'action':'error'}]", 0.5}, {"[{'probability':0.001,'action':'error'}]", 0.001},
        {"[{'probability':1,'action':'error'}]", 1},
    };
    const unsigned n = 100000;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        double p = cases[i].p, sigma = sqrt(n * p * (1 - p));
        unsigned failed = failures(cases[i].rules, "", n, NULL);
        CHECK(fabs(failed - n * p) <= 5 * sigma);
    }
    return 0;
}

SCENARIO(faults_by_chance_are_independent)
{
    /* Of neighbours, of two rules, and of two seeds, both fail as often as chance has it. */
    const unsigned n = 100000;
    static uint8_t a[100000], b[100000], c[100000];
    unsigned neighbours = 0, rules = 0, seeds = 0;
    failures("[{'id':'a','probability':0.25,'action':'error'}]", "", n, a);
    failures("[{'id':'b','probability':0.25,'action':'error'}]", "", n, b);
    failures("[{'id':'a','probability':0.25,'action':'error'}]", "'seed':2,", n, c);
    for (unsigned i = 0; i + 1 < n; i++) {
        neighbours += a[i] & a[i + 1];
        rules += a[i] & b[i];
        seeds += a[i] & c[i];
    }
    double mean = n * 0.0625, sigma = sqrt(n * 0.0625 * 0.9375);
    CHECK(fabs(neighbours - mean) <= 6 * sigma);
    CHECK(fabs(rules - mean) <= 6 * sigma);
    CHECK(fabs(seeds - mean) <= 6 * sigma);
    return 0;
}

/* Clients that take turns as the disk lets them: who comes when follows from the loop's seed. */
#define CLIENTS 8
#define OPS     2000

struct clients {
    uint64_t next;
    bool failed[OPS + 1]; /* by operation number */
};

static co_fn int client_main(void *arg)
{
    struct clients *c = arg;
    while (c->next < OPS) {
        char buf[512];
        struct iovec iov = {buf, sizeof(buf)};
        struct req r = {
            .op = REQ_READ, .offset = c->next++ * 512 % MiB, .bytes = 512, .iov = &iov, .niov = 1};
        int result = node_io(rig.node, &r);
        CHECK(r.opno >= 1 && r.opno <= OPS);
        c->failed[r.opno] = result < 0;
    }
    return 0;
}

static co_fn int timing_main(void *arg)
{
    struct co_group group;
    struct co_task tasks[CLIENTS];

    /* the device above the rules brings what it gets out of order */
    world_init(&rig);
    WORLD_OPEN(
        &rig, "%s",
        quoted("{'driver':'sim-device','latency':'2ms','file':{'driver':'fault','seed':5,'rules':["
               "{'probability':0.05,'action':'error'},{'probability':0.3,'action':'delay','delay':'700us'}],"
               "'file':{'driver':'mem','size':'1M'}}}"));
    co_group_init(&group);
    for (int i = 0; i < CLIENTS; i++) {
        co_group_start(&group, &tasks[i], client_main, arg);
    }
    co_group_wait(&group);
    world_close(&rig);
    return 0;
}

static void the_same_seed_gives_the_same_faults_whatever_the_timing(void **state)
{
    static struct clients first, other;
    uint64_t first_trace = world_run(1, timing_main, &first);
    unsigned failed = 0;

    for (uint64_t seed = 2; seed < 12; seed++) {
        memset(&other, 0, sizeof(other));
        uint64_t trace = world_run(seed, timing_main, &other);
        assert_int_not_equal(trace, first_trace); /* the timing was another */
        assert_memory_equal(first.failed, other.failed, sizeof(first.failed));
    }
    for (int i = 0; i <= OPS; i++) {
        failed += first.failed[i];
    }
    assert_in_range(failed, 50, 150);
}

/* ---- state, and the order of rules ---- */

SCENARIO(a_state_selects_and_changes)
{
    rig_open("[{'state':2,'op':'read','action':'error'},"
             " {'op':'write','ranges':'0+512','action':'state','new-state':2},"
             " {'op':'flush','action':'state','new-state':1}]",
             "");
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(below(0), 'a');
    CHECK_EQ(fault_state(rig.node), 2);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(change(rig.node, FAULT_STATE, NULL, NULL), 0); /* to 0 */
    struct fault_change c = {.node = rig.node, .kind = FAULT_STATE, .state = 2};
    CHECK_EQ(fault_apply(&c, 1, NULL), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(rules_behind_see_the_old_state_and_the_first_change_wins)
{
    rig_open("[{'op':'write','action':'state','new-state':2},{'op':'write','action':'state','new-state':3},"
             " {'op':'write','state':2,'action':'error'}]",
             "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(fault_state(rig.node), 2);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(the_first_rule_decides)
{
    rig_open(
        "[{'op':'read','ranges':'4k+4k','action':'pass'},{'op':'read','action':'error','errno':'ENOSPC'},"
        " {'op':'read','action':'error','errno':'EPERM'},{'enabled':false,'action':'error'}]",
        "");
    CHECK_EQ(rig_read(4096, 512), 0);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(counters(rig.node, "r1").fired, 1);
    CHECK_EQ(counters(rig.node, "r2").fired, 1);
    CHECK_EQ(counters(rig.node, "r3").matched, 0);
    CHECK_EQ(counters(rig.node, "r4").matched, 0);
    world_close(&rig);
    return 0;
}

/* ---- actions ---- */

SCENARIO(an_error_before_and_after_the_media_changed)
{
    rig_open("[{'op':'write','ranges':'0+512','action':'error','errno':'EIO'},"
             " {'op':'write','ranges':'512+512','action':'error','errno':'ENOSPC','when':'after'}]",
             "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    CHECK_EQ(below(0), 0);
    CHECK_EQ(rig_write(512, 512, 'b', 0), -ENOSPC);
    CHECK_EQ(below(512), 'b');
    world_close(&rig);
    return 0;
}

SCENARIO(a_delay_takes_exactly_its_time)
{
    rig_open("[{'op':'write','action':'delay','delay':'20ms'},"
             " {'op':'write','ranges':'512+512','action':'delay','delay':'5ms','when':'after'},"
             " {'op':'write','ranges':'1024+512','action':'error'}]",
             "");
    uint64_t began = loop_clock_ns();
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(loop_clock_ns() - began, 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(loop_clock_ns() - began, 20 * NS_PER_MS);

    static struct bg b;
    began = loop_clock_ns();
    bg_start(&b, REQ_WRITE, 512, 'b');
    co_sleep_ns(19 * NS_PER_MS);
    CHECK_EQ(below(512), 0); /* the first comes before the device */
    co_sleep_ns(3 * NS_PER_MS);
    CHECK_EQ(below(512), 'b'); /* the second behind it */
    CHECK(!b.done);
    co_sleep_ns(10 * NS_PER_MS);
    CHECK(b.done);
    CHECK_EQ(b.done_ns - began, 25 * NS_PER_MS);

    began = loop_clock_ns();
    CHECK_EQ(rig_write(1024, 512, 'c', 0), -EIO); /* the search went on to the error */
    CHECK_EQ(loop_clock_ns() - began, 20 * NS_PER_MS);
    world_close(&rig);
    return 0;
}

SCENARIO(a_dry_run_counts_and_does_nothing)
{
    rig_open("[{'op':'write','action':'hang'},{'op':'read','every':2,'action':'error'},"
             " {'op':'flush','action':'delay','delay':'3600s'}]",
             "'dry-run':true,");
    uint64_t began = loop_clock_ns();
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
        CHECK_EQ(rig_read(0, 512), 0);
        CHECK_EQ(node_flush(rig.node), 0);
    }
    CHECK_EQ(loop_clock_ns() - began, 0);
    CHECK_EQ(below(0), 'a');
    CHECK_EQ(counters(rig.node, "r1").fired, 4);
    CHECK_EQ(counters(rig.node, "r2").matched, 4);
    CHECK_EQ(counters(rig.node, "r2").fired, 2);
    CHECK_EQ(counters(rig.node, "r3").fired, 4);
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_matches_itself_alone),
        cmocka_unit_test(without_an_operation_looking_and_resizing_are_spared),
        cmocka_unit_test(several_operations_and_qemus_names),
        cmocka_unit_test(fua_is_seen_apart_from_plain_writes),
        cmocka_unit_test(fua_is_seen_whatever_the_device_does_about_it),
        cmocka_unit_test(a_range_matches_by_one_shared_byte),
        cmocka_unit_test(sectors_in_every_form),
        cmocka_unit_test(the_index_finds_what_a_search_through_all_finds),
        cmocka_unit_test(skip_nth_every_and_count),
        cmocka_unit_test(what_does_not_match_is_not_counted),
        cmocka_unit_test(probability_is_what_was_asked_for),
        cmocka_unit_test(faults_by_chance_are_independent),
        cmocka_unit_test(the_same_seed_gives_the_same_faults_whatever_the_timing),
        cmocka_unit_test(a_state_selects_and_changes),
        cmocka_unit_test(rules_behind_see_the_old_state_and_the_first_change_wins),
        cmocka_unit_test(the_first_rule_decides),
        cmocka_unit_test(an_error_before_and_after_the_media_changed),
        cmocka_unit_test(a_delay_takes_exactly_its_time),
        cmocka_unit_test(a_dry_run_counts_and_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
