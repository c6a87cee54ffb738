/* SPDX-License-Identifier: BSD-2-Clause */
/* Presets: each is accepted as it stands and with a range, and does what its help says, by the clock and by
 * what comes back. */
#include <math.h>

#include "fault_rig.h"

/* A device that needs 1 ms for everything. */
static co_fn void open_slow(const char *rules)
{
    world_init(&rig);
    WORLD_OPEN(&rig,
               "{\"driver\":\"fault\",\"rules\":%s,\"file\":{\"driver\":\"delay\",\"read\":\"1ms\",\"write\":"
               "\"1ms\","
               "\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}}",
               quoted(rules));
}

static co_fn uint64_t takes_us(bool write, uint64_t offset)
{
    uint64_t before = loop_clock_ns();
    CHECK_EQ(write ? rig_write(offset, 512, 'w', 0) : rig_read(offset, 512), 0);
    return (loop_clock_ns() - before) / 1000;
}

/* Be at @s seconds after @began. */
static co_fn void at_s(uint64_t began, double s)
{
    uint64_t at = began + (uint64_t)(s * (double)NS_PER_SEC), now = loop_clock_ns();
    CHECK(at >= now);
    co_sleep_ns(at - now);
}

/* ---- all of them ---- */

SCENARIO(every_preset_is_accepted)
{
    AUTO_JSON json_t *presets = fault_presets_json();
    json_t *p, *rule;
    size_t i, k;

    CHECK(json_array_size(presets) >= 33);
    json_array_foreach(presets, i, p)
    {
        const char *name = json_string_value(json_object_get(p, "name"));
        char text[128];
        rig_open("[]", "");
        snprintf(text, sizeof(text),
                 "[{'preset':'%s'},{'preset':'%s','id':'two','tag':'t','time-scale':0.5}]", name, name);
        CHECK_EQ(change(rig.node, FAULT_ADD, NULL, text), 0);
        AUTO_JSON json_t *list = fault_list(rig.node);
        size_t n = json_array_size(json_object_get(p, "rules"));
        CHECK_EQ(json_array_size(list), 2 * n);
        json_array_foreach(list, k, rule)
        {
            const char *id = json_string_value(json_object_get(rule, "id"));
            const char *tag = json_string_value(json_object_get(rule, "tag"));
            CHECK(strncmp(id, k < n ? name : "two", strlen(k < n ? name : "two")) == 0);
            CHECK(strcmp(tag, k < n ? name : "t") == 0);
            CHECK((json_object_get(rule, "time-scale") != NULL) == (k >= n));
        }
        CHECK_EQ(change(rig.node, FAULT_REMOVE_TAG, name, NULL), 0);
        CHECK_EQ(change(rig.node, FAULT_REMOVE_TAG, name, NULL), -ENOENT);
        CHECK_EQ(change(rig.node, FAULT_REMOVE_TAG, "t", NULL), 0);
        world_close(&rig);
        /* what a paper did to a disk, every preset says */
        CHECK(strlen(json_string_value(json_object_get(p, "source"))) > 10);
    }
    return 0;
}

SCENARIO(other_members_go_into_every_rule)
{
    rig_open("[{'preset':'fsyncgate-once','ranges':'64k+64k','params':{'nth':2,'errno':'ENOSPC'}}]", "");
    CHECK_EQ(rig_write(65536, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(65536, 512, 'a', 0), -ENOSPC);
    CHECK_EQ(rig_write(65536, 512, 'a', 0), 0);
    world_close(&rig);
    rig_open("[]", "");
    refused("{'preset':'limp'}", "there is no preset 'limp' ('blkproof fault presets' lists them)");
    refused("{'preset':'limp-10x','params':{'speed':3}}", "the preset limp-10x has no parameter 'speed'");
    refused("{'preset':'limp-10x','params':[]}", "params: expected an object: {...}");
    refused("{'preset':7}", "preset: expected a name");
    refused("{'preset':'limp-10x','id':7}", "id: expected a string");
    refused("{'preset':'limp-10x','speed':3}", "a rule has no member 'speed'");
    refused("{'preset':'limp-10x','params':{'factor':'fast'}}",
            "times: expected a number of at least 1 and at most 1000000");
    refused("[{'action':'error'},{'preset':'limp'}]",
            "rule 2: there is no preset 'limp' ('blkproof fault presets' lists them)");
    world_close(&rig);
    return 0;
}

/* ---- slow ones ---- */

SCENARIO(limping)
{
    static const struct {
        const char *name;
        unsigned k;
    } cases[] = {{"limp-10x", 10}, {"limp-100x", 100}, {"limp-1000x", 1000}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char rules[64];
        snprintf(rules, sizeof(rules), "[{'preset':'%s'}]", cases[i].name);
        open_slow(rules);
        CHECK_EQ(takes_us(false, 0), 1000 * cases[i].k);
        CHECK_EQ(takes_us(true, 512), 1000 * cases[i].k);
        world_close(&rig);
    }
    return 0;
}

/* How many of @n reads are delayed; each delay is a multiple of @unit_us and at most @most_us. */
static co_fn unsigned delayed_reads(const char *rules, unsigned n, uint64_t unit_us, uint64_t least_us,
                                    uint64_t most_us)
{
    unsigned delayed = 0;
    rig_open(rules, "");
    rig.graph.fault = NULL;
    for (unsigned i = 0; i < n; i++) {
        uint64_t us = takes_us(false, i % 2000 * 512);
        delayed += us > 0;
        CHECK(us == 0 || (us >= least_us && us <= most_us && us % unit_us == 0));
    }
    world_close(&rig);
    return delayed;
}

static void expect_rate(unsigned found, double n, double p)
{
    CHECK(fabs(found - n * p) <= 5 * sqrt(n * p * (1 - p)));
}

SCENARIO(quanta_of_firmware_and_retries)
{
    expect_rate(delayed_reads("[{'preset':'ssd-fw-250us'}]", 50000, 250, 250, 3000), 50000, 0.01);
    expect_rate(delayed_reads("[{'preset':'read-retry'}]", 50000, 100, 100, 400), 50000, 0.05);
    expect_rate(delayed_reads("[{'preset':'hdd-tens-of-seconds'}]", 50000, 1, 10000000, 60000000), 50000,
                0.001);
    CHECK_EQ(delayed_reads("[{'preset':'ssd-fw-250us','params':{'share':1}}]", 1000, 250, 250, 3000), 1000);
    return 0;
}

SCENARIO(an_ssd_that_stops_for_seconds)
{
    rig_open("[{'preset':'ssd-stop-seconds'}]", "");
    unsigned stops = 0;
    uint64_t began = loop_clock_ns(), end_of_stop = 0;
    while (loop_clock_ns() - began < 3600 * NS_PER_SEC) {
        uint64_t us = takes_us(false, 0);
        if (us > 0) {
            CHECK(us <= 10000000);
            CHECK(stops == 0 || loop_clock_ns() - us * 1000 - end_of_stop >= 29 * NS_PER_SEC);
            end_of_stop = loop_clock_ns();
            stops++;
        }
        co_sleep_ns(100 * NS_PER_MS);
    }
    CHECK(stops >= 3600 / 100 && stops <= 3600 / 31); /* 31 s to 100 s from one to the next */
    world_close(&rig);
    return 0;
}

SCENARIO(a_disk_with_jitter)
{
    rig_open("[{'preset':'hdd-jitter'}]", "");
    unsigned slow = 0, n = 0;
    uint64_t began = loop_clock_ns();
    while (loop_clock_ns() - began < 600 * NS_PER_SEC) {
        uint64_t us = takes_us(false, 0);
        CHECK(us == 0 || (us >= 50000 && us <= 500000));
        slow += us > 0;
        n++;
        co_sleep_ns(10 * NS_PER_MS);
    }
    CHECK(slow > 100 && slow < n / 4); /* 500 ms of every 4.5 s, in which only some fit */
    world_close(&rig);
    return 0;
}

SCENARIO(good_and_bad_by_turns)
{
    open_slow("[{'preset':'flap-good-bad'}]");
    uint64_t since = loop_clock_ns();
    bool bad = false;
    for (int turns = 0; turns < 20;) {
        bool now_bad = takes_us(true, 0) > 1000;
        if (now_bad != bad) {
            double s = (double)(loop_clock_ns() - since) / (double)NS_PER_SEC;
            CHECK(bad ? s > 9.5 && s < 30.5 : s > 29.5 && s < 60.5);
            since = loop_clock_ns();
            bad = now_bad;
            turns++;
        }
        co_sleep_ns(100 * NS_PER_MS);
    }
    world_close(&rig);
    return 0;
}

/* At a time: how many ms does a write take, how many of 1000 reads and of 1000 writes are slow? */
struct step {
    double at_s;
    unsigned ms;
    double reads, writes;
};

static co_fn void expect_steps(const char *rules, const struct step *steps, int n)
{
    for (int i = 0; i < n; i++) {
        rig_open("[]", "");
        CHECK_EQ(change(rig.node, FAULT_ADD, NULL, rules), 0);
        rig.graph.fault = NULL;
        at_s(loop_clock_ns(), steps[i].at_s);
        static struct bg b[2000];
        unsigned slow[2] = {0};
        uint64_t began = loop_clock_ns();
        for (int k = 0; k < 2000; k++) {
            bg_start(&b[k], k % 2 ? REQ_WRITE : REQ_READ, (uint64_t)(k / 2) * 512, 'a');
        }
        co_sleep_ns(100 * NS_PER_SEC);
        for (int k = 0; k < 2000; k++) {
            uint64_t ns = b[k].done_ns - began;
            CHECK(b[k].done && (ns == 0 || ns == steps[i].ms * NS_PER_MS));
            slow[k % 2] += ns > 0;
        }
        expect_rate(slow[0], 1000, steps[i].reads);
        expect_rate(slow[1], 1000, steps[i].writes);
        world_close(&rig);
    }
}

/* The documentation of AWS, line by line. */
SCENARIO(the_curves_of_fis)
{
    static const struct step sustained[] = {{1, 500, .5, 1}, {899, 500, .5, 1}, {901, 0, 0, 0}};
    static const struct step increasing[] = {
        {1, 50, .1, .25},     {179, 50, .1, .25},    {181, 200, .1, .25},   {361, 700, .1, .25},
        {541, 1000, .1, .25}, {721, 15000, .1, .25}, {899, 15000, .1, .25}, {901, 0, 0, 0}};
    static const struct step intermittent[] = {
        {1, 30000, .001, .001},   {59, 30000, .001, .001},  {61, 0, 0, 0},  {359, 0, 0, 0},
        {361, 10000, .001, .001}, {479, 10000, .001, .001}, {481, 0, 0, 0}, {779, 0, 0, 0},
        {781, 20000, .001, .001}, {899, 20000, .001, .001}, {901, 0, 0, 0}};
    static const struct step decreasing[] = {{1, 20000, .1, .1}, {181, 5000, .1, .1}, {361, 900, .1, .1},
                                             {541, 300, .1, .1}, {721, 40, .1, .1},   {901, 0, 0, 0}};
    expect_steps("{'preset':'fis-sustained'}", sustained, ARRAY_SIZE(sustained));
    expect_steps("{'preset':'fis-increasing'}", increasing, ARRAY_SIZE(increasing));
    expect_steps("{'preset':'fis-intermittent'}", intermittent, ARRAY_SIZE(intermittent));
    expect_steps("{'preset':'fis-decreasing'}", decreasing, ARRAY_SIZE(decreasing));
    return 0;
}

SCENARIO(the_sweep_recovers_between_its_steps)
{
    static const struct step sweep[] = {{29, 0, 0, 0},     {31, 1, 1, 1},  {59, 1, 1, 1},
                                        {61, 0, 0, 0},     {91, 10, 1, 1}, {121, 0, 0, 0},
                                        {151, 100, 1, 1},  {181, 0, 0, 0}, {211, 1000, 1, 1},
                                        {239, 1000, 1, 1}, {241, 0, 0, 0}};
    static const struct step writes[] = {{31, 1, 0, 1}, {211, 1000, 0, 1}};
    expect_steps("{'preset':'sweep'}", sweep, ARRAY_SIZE(sweep));
    expect_steps("{'preset':'sweep','params':{'op':'write'}}", writes, ARRAY_SIZE(writes));
    return 0;
}

SCENARIO(a_preset_in_short)
{
    static const struct step scaled[] = {{0.29, 0, 0, 0}, {1.55, 1, 1, 1}, {2.15, 10, 1, 1}};
    expect_steps("{'preset':'sweep','time-scale':0.01}", scaled, ARRAY_SIZE(scaled));
    return 0;
}

/* ---- errors and silence ---- */

SCENARIO(one_write_or_flush_fails_and_the_disk_is_good_again)
{
    rig_open("[{'preset':'fsyncgate-once'},{'preset':'flush-fail-once','params':{'nth':2}}]", "");
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(one_fault_in_one_block)
{
    rig_open("[{'preset':'cords-one','params':{'block':'8k+4k','op':'write','errno':'EDQUOT'}}]", "");
    CHECK_EQ(rig_write(0, 8192, 'a', 0), 0);
    CHECK_EQ(rig_read(8192, 4096), 0);
    CHECK_EQ(rig_write(12287, 1, 'a', 0), -EDQUOT);
    CHECK_EQ(rig_write(12287, 1, 'a', 0), 0);
    world_close(&rig);
    return 0;
}

/* ---- what is lost, or lies elsewhere ---- */

SCENARIO(a_disk_vanishes_and_reappears)
{
    rig_open("[{'preset':'vanish-reappear'}]", "");
    uint64_t began = loop_clock_ns();
    at_s(began, 29);
    CHECK_EQ(rig_read(0, 512), 0);
    at_s(began, 31);
    CHECK_EQ(rig_read(0, 512), -EIO);
    at_s(began, 40);
    CHECK_EQ(rig_read(0, 512), -EIO);
    at_s(began, 42);
    CHECK_EQ(rig_read(0, 512), 0);
    at_s(began, 1000);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(latent_sector_errors)
{
    rig_open("[{'preset':'lse','params':{'where':'256k+512k','one-in':32}}]", "");
    rig.graph.fault = NULL;
    unsigned bad[2048], nbad = 0;
    for (unsigned s = 0; s < 2048; s++) {
        uint64_t before = loop_clock_ns();
        int r = rig_read(s * 512, 512);
        uint64_t ms = (loop_clock_ns() - before) / NS_PER_MS;
        CHECK(r == 0 ? ms == 0 : r == -EIO && ms >= 8 && ms <= 80);
        CHECK(r == 0 || (s >= 512 && s < 1536));
        bad[nbad] = s;
        nbad += r < 0;
    }
    expect_rate(nbad, 1024, 1 / 32.0);
    CHECK_EQ(rig_read(bad[0] * 512, 512), -EIO);
    CHECK_EQ(rig_write(bad[0] * 512, 512, 'a', 0), 0);
    CHECK_EQ(rig_read(bad[0] * 512, 512), 0);
    CHECK_EQ(rig_read(bad[1] * 512, 512), -EIO);
    world_close(&rig);
    return 0;
}

/* How many of the bytes of the block at @offset are not @byte? */
static co_fn unsigned other_bytes(uint64_t offset, char byte)
{
    static char buf[4096];
    unsigned n = 0;
    CHECK_EQ(node_read(rig.node, offset, buf, sizeof(buf)), 0);
    for (size_t i = 0; i < sizeof(buf); i++) {
        n += buf[i] != byte;
    }
    return n;
}

SCENARIO(one_block_is_another)
{
    static const struct {
        const char *preset;
        unsigned least, most;
    } cases[] = {{"'bitrot-4k'", 4000, 4096},
                 {"'cords-junk'", 4000, 4096},
                 {"'cords-zero'", 4096, 4096},
                 {"'bitrot-4k','params':{'mode':'zero','block':'8k+4k'}", 4096, 4096}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char rules[128];
        snprintf(rules, sizeof(rules), "[{'preset':%s%s}]", cases[i].preset,
                 i < 3 ? ",'params':{'block':'8k+4k'}" : "");
        rig_open(rules, "");
        CHECK_EQ(rig_write(0, 64 * KiB, 'a', 0), 0);
        CHECK_EQ(rig_read(0, 64 * KiB), 0);
        unsigned n = other_bytes(8192, 'a');
        CHECK(n >= cases[i].least && n <= cases[i].most);
        CHECK_EQ(other_bytes(4096, 'a'), 0);
        CHECK_EQ(other_bytes(12288, 'a'), 0);
        CHECK_EQ(other_bytes(8192, 'a'), n); /* it stays */
        CHECK_EQ(rig_write(8192, 4096, 'b', 0), 0);
        CHECK_EQ(other_bytes(8192, 'b'), 0);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(a_write_is_lost_astray_or_torn)
{
    rig_open("[{'preset':'lost-write','params':{'nth':2}}]", "");
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(rig_write((uint64_t)i * 4096, 4096, 'a', 0), 0);
    }
    CHECK(below(0) == 'a' && below(4096) == 0 && below(8192) == 'a');
    world_close(&rig);

    rig_open("[{'preset':'misdirected-write'}]", "");
    CHECK_EQ(rig_write(4096, 4096, 'a', 0), 0);
    CHECK(below(4096) == 0 && below(12288) == 'a' && below(16383) == 'a' && below(16384) == 0);
    CHECK_EQ(rig_write(4096, 4096, 'b', 0), 0);
    CHECK(below(4096) == 'b' && below(12288) == 'a');
    world_close(&rig);

    static const struct {
        const char *preset;
        uint64_t unit;
    } torn[] = {{"torn-512", 512}, {"torn-4k", 4096}};
    for (size_t i = 0; i < ARRAY_SIZE(torn); i++) {
        char rules[64];
        snprintf(rules, sizeof(rules), "[{'preset':'%s'}]", torn[i].preset);
        rig_open(rules, "");
        CHECK_EQ(rig_write(128 * KiB, torn[i].unit, 'a', 0), 0); /* nothing to tear */
        CHECK_EQ(rig_write(0, 64 * KiB, 'a', 0), 0);
        uint64_t done = 0;
        while (done < 64 * KiB && below(done) == 'a') {
            done++;
        }
        CHECK(done > 0 && done < 64 * KiB && done % torn[i].unit == 0);
        CHECK_EQ(below(65535), 0);
        CHECK_EQ(rig_write(0, 64 * KiB, 'a', 0), 0);
        CHECK_EQ(below(65535), 'a');
        world_close(&rig);
    }
    return 0;
}

SCENARIO(a_write_is_accepted_and_the_flush_fails)
{
    rig_open("[{'preset':'deferred-write-error','params':{'nth':2}}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 4096, 'b', 0), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(below(0), 'a');
    world_close(&rig);
    rig_open("[{'preset':'deferred-write-error','params':{'report':'always'}}]", "");
    CHECK_EQ(rig_write(0, 4096, 'b', 0), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(a_disk_becomes_silent)
{
    static struct bg b[3];
    rig_open("[{'preset':'silent-after-N','params':{'n':2},'deadman':0}]", "");
    bg_start(&b[0], REQ_WRITE, 0, 'a');
    bg_start(&b[1], REQ_FLUSH, 0, 0);
    bg_start(&b[2], REQ_READ, 0, 0);
    co_sleep_ns(1000 * NS_PER_SEC);
    CHECK(b[0].done && b[1].done && !b[2].done);
    CHECK_EQ(fault_release(rig.node, "silent-after-N", FAULT_COMPLETE, 0, NULL), 1);
    co_yield ();
    CHECK(b[2].done && b[2].data[0] == 'a');
    world_close(&rig);
    rig_open("[{'preset':'silent'}]", "");
    bg_start(&b[0], REQ_READ, 0, 'a');
    co_sleep_ns(100 * NS_PER_SEC);
    CHECK(!b[0].done);
    CHECK_EQ(change(rig.node, FAULT_REMOVE_TAG, "silent", NULL), 0);
    co_yield ();
    CHECK(b[0].done && b[0].result == 0);
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_is_accepted),
        cmocka_unit_test(other_members_go_into_every_rule),
        cmocka_unit_test(limping),
        cmocka_unit_test(quanta_of_firmware_and_retries),
        cmocka_unit_test(an_ssd_that_stops_for_seconds),
        cmocka_unit_test(a_disk_with_jitter),
        cmocka_unit_test(good_and_bad_by_turns),
        cmocka_unit_test(the_curves_of_fis),
        cmocka_unit_test(the_sweep_recovers_between_its_steps),
        cmocka_unit_test(a_preset_in_short),
        cmocka_unit_test(one_write_or_flush_fails_and_the_disk_is_good_again),
        cmocka_unit_test(one_fault_in_one_block),
        cmocka_unit_test(a_disk_vanishes_and_reappears),
        cmocka_unit_test(latent_sector_errors),
        cmocka_unit_test(one_block_is_another),
        cmocka_unit_test(a_write_is_lost_astray_or_torn),
        cmocka_unit_test(a_write_is_accepted_and_the_flush_fails),
        cmocka_unit_test(a_disk_becomes_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
