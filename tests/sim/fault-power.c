/* SPDX-License-Identifier: BSD-2-Clause */
/* Presets that cut the power of a write cache: what is there afterwards, and what the report of the cut says.
 */
#include "drivers/wcache/wcache.h"
#include "fault_rig.h"

static struct node *cache;

static co_fn void open_cached(unsigned seed, const char *rules)
{
    world_init(&rig);
    WORLD_OPEN(
        &rig,
        "{\"driver\":\"fault\",\"rules\":%s,\"file\":{\"driver\":\"write-cache\",\"seed\":%u,\"file\":{"
        "\"driver\":\"mem\",\"size\":\"1M\"}}}",
        quoted(rules), seed);
    rig.graph.fault = NULL;
    cache = wcache_find(rig.node);
}

/* The write at which the power goes; then it is back. */
static co_fn void write_and_die(uint64_t offset, uint64_t bytes, char byte)
{
    CHECK_EQ(rig_write(offset, bytes, byte, 0), -EIO);
    CHECK_EQ(wcache_settle(cache, NULL), 0);
}

static co_fn char at(uint64_t offset)
{
    char c = '?';
    CHECK_EQ(node_read(rig.node, offset, &c, 1), 0);
    return c;
}

static long long reported(const char *member)
{
    AUTO_JSON json_t *report = wcache_report(cache, 100);
    const json_t *v = json_object_get(report, member);
    CHECK(v != NULL);
    return json_is_boolean(v) ? json_is_true(v) : json_integer_value(v);
}

SCENARIO(an_honest_cut_loses_what_was_not_flushed)
{
    unsigned lost = 0, kept = 0;
    for (unsigned seed = 1; seed <= 20; seed++) {
        open_cached(seed, "[{'preset':'power-honest','params':{'nth':5}}]");
        CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
        CHECK_EQ(rig_write(4096, 4096, 'b', REQ_FUA), 0);
        CHECK_EQ(node_flush(rig.node), 0);
        CHECK_EQ(rig_write(0, 4096, 'c', 0), 0);
        CHECK_EQ(rig_write(8192, 4096, 'd', REQ_FUA), 0);
        write_and_die(12288, 4096, 'e');
        CHECK(at(0) == 'a' || at(0) == 'c');
        CHECK(at(4096) == 'b' && at(8192) == 'd');
        lost += at(0) == 'a';
        kept += at(0) == 'c';
        CHECK_EQ(reported("illegal-losses"), 0);
        CHECK_EQ(reported("lying"), 0);
        CHECK_EQ(rig_write(0, 4096, 'f', 0), 0); /* one cut */
        world_close(&rig);
    }
    CHECK(lost > 0 && kept > 0);
    return 0;
}

SCENARIO(a_lying_cut_loses_what_was_promised_and_the_report_says_so)
{
    open_cached(1, "[{'preset':'power-lying-flush','params':{'nth':4}}]");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    co_sleep_ns(750 * NS_PER_MS); /* it is old: on the media */
    CHECK_EQ(rig_write(4096, 4096, 'b', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(8192, 4096, 'c', REQ_FUA), 0);
    write_and_die(12288, 4096, 'd');
    CHECK(at(0) == 'a' && at(4096) == 0 && at(8192) == 0 && at(12288) == 0);
    CHECK_EQ(reported("lying"), 1);
    CHECK_EQ(reported("illegal-losses"), 2);
    /* without the rule it is honest again */
    CHECK_EQ(change(rig.node, FAULT_REMOVE_TAG, "power-lying-flush", NULL), 0);
    CHECK_EQ(rig_write(4096, 4096, 'e', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(8192, 4096, 'f', REQ_FUA), 0);
    struct wcache_cut none = {0};
    uint64_t number;
    CHECK_EQ(wcache_power_cut(&cache, 1, &none, &number, NULL), 0);
    CHECK_EQ(wcache_settle(cache, NULL), 0);
    CHECK(at(4096) == 'e' && at(8192) == 'f');
    CHECK_EQ(reported("illegal-losses"), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(older_writes_come_back)
{
    unsigned seen[128] = {0}, kinds = 0;
    for (unsigned seed = 1; seed <= 30; seed++) {
        open_cached(seed, "[{'preset':'power-unserializable','params':{'nth':4}}]");
        for (char c = 'a'; c <= 'c'; c++) {
            CHECK_EQ(rig_write(0, 4096, c, 0), 0);
        }
        write_and_die(8192, 4096, 'z');
        unsigned char c = (unsigned char)at(0);
        CHECK(c == 0 || (c >= 'a' && c <= 'c'));
        kinds += seen[c]++ == 0;
        CHECK_EQ(reported("illegal-losses"), 0);
        world_close(&rig);
    }
    CHECK(kinds >= 2);
    return 0;
}

SCENARIO(shorn_writes)
{
    unsigned mixed = 0;
    for (unsigned seed = 1; seed <= 10; seed++) {
        open_cached(seed, "[{'preset':'power-shorn','params':{'nth':2}}]");
        CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
        write_and_die(8192, 4096, 'z');
        unsigned sectors = 0;
        for (unsigned s = 0; s < 8; s++) {
            CHECK(at(s * 512) == 'a' || at(s * 512) == 0);
            CHECK_EQ(at(s * 512), at(s * 512 + 511));
            sectors += at(s * 512) == 'a';
        }
        mixed += sectors > 0 && sectors < 8;
        world_close(&rig);
    }
    CHECK(mixed > 0);
    return 0;
}

SCENARIO(a_later_write_survives_an_earlier_one)
{
    unsigned swapped = 0;
    for (unsigned seed = 1; seed <= 20; seed++) {
        open_cached(seed, "[{'preset':'reorder-epoch','params':{'flushes':'2+','write':3}}]");
        for (uint64_t epoch = 0; epoch < 2; epoch++) {
            for (uint64_t i = 0; i < 4; i++) {
                CHECK_EQ(rig_write((epoch * 4 + i) * 4096, 4096, 'o', 0), 0);
            }
            CHECK_EQ(node_flush(rig.node), 0);
        }
        CHECK_EQ(rig_write(64 * KiB, 4096, 'a', 0), 0);
        CHECK_EQ(rig_write(68 * KiB, 4096, 'b', 0), 0);
        write_and_die(72 * KiB, 4096, 'c');
        for (uint64_t i = 0; i < 8; i++) {
            CHECK_EQ(at(i * 4096), 'o');
        }
        swapped += at(64 * KiB) == 0 && at(68 * KiB) == 'b';
        CHECK_EQ(reported("illegal-losses"), 0);
        world_close(&rig);
    }
    CHECK(swapped > 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_cut_loses_what_was_not_flushed),
        cmocka_unit_test(a_lying_cut_loses_what_was_promised_and_the_report_says_so),
        cmocka_unit_test(older_writes_come_back),
        cmocka_unit_test(shorn_writes),
        cmocka_unit_test(a_later_write_survives_an_earlier_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
