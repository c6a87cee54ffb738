/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes that are done in part, or not at all, and errors that only the flush tells. */
#include "fault_look.h"

#include <math.h>

/* ---- error: what is done all the same ---- */

SCENARIO(an_error_persists_nothing_all_a_prefix_or_a_suffix)
{
    static const struct {
        const char *members, *after;
    } cases[] = {
        {"'persist':'none'", "aaaaaaaa"},
        {"'persist':'all'", "bbbbbbbb"},
        {"'when':'after'", "bbbbbbbb"},
        {"'persist':'prefix','persist-bytes':1536", "bbbaaaaa"},
        {"'persist':'prefix','persist-bytes':'64k'", "bbbbbbba"}, /* never all */
        {"'persist':'suffix','persist-bytes':1024", "aaaaaabb"},
        {"'persist':'prefix','persist-bytes':'2k','unit':'2k'", "bbbbaaaa"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char rules[256];
        snprintf(rules, sizeof(rules), "[{'op':'write','skip':1,'errno':'ENOSPC','action':'error',%s}]",
                 cases[i].members);
        rig_open(rules, "");
        CHECK_EQ(rig_write(8192, 4096, 'a', 0), 0);
        CHECK_EQ(rig_write(8192, 4096, 'b', 0), -ENOSPC);
        expect_sectors(16, cases[i].after);
        CHECK(same(who_returned(2, -ENOSPC), "r1"));
        CHECK(who_returned(2, -EIO) == NULL);
        CHECK(who_returned(1, -ENOSPC) == NULL);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(zeroes_are_done_in_part_too_and_reads_and_flushes_fail_wholly)
{
    rig_open("[{'skip':1,'action':'error','persist':'prefix','persist-bytes':512}]", "");
    CHECK_EQ(rig_write(0, 2048, 'a', 0), 0);
    CHECK_EQ(node_zero(rig.node, 0, 2048, 0), -EIO);
    expect_sectors(0, ".aaa");
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(node_discard(rig.node, 0, 2048), -EIO);
    expect_sectors(0, ".aaa");
    world_close(&rig);
    return 0;
}

/* ---- torn ---- */

SCENARIO(a_torn_write_is_acknowledged_and_explained)
{
    uint64_t opno = 0;
    char old[512];

    memset(old, 'a', sizeof(old));
    rig_open("[{'id':'tear','op':'write','nth':2,'action':'torn','persist-bytes':1024}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 4096, 'b', 0), 0);
    expect_sectors(0, "bbaaaaaa");
    for (unsigned s = 0; s < 8; s++) {
        CHECK(same(who_made(s, old, 77, &opno), s < 2 ? NULL : "tear"));
        CHECK_EQ(opno, s < 2 ? 0 : 2);
    }
    old[511] = 'c'; /* one byte beside: nobody's */
    CHECK(who_made(5, old, 77, NULL) == NULL);
    old[511] = 'a';
    CHECK_EQ(rig_write(5 * 512, 512, 'b', 0), 0); /* overwritten: whole again */
    CHECK(who_made(5, old, 77, NULL) == NULL);
    CHECK(who_made(6, old, 77, NULL) != NULL);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0); /* what lies on the media stays */
    CHECK(same(who_made(6, old, 77, NULL), "tear"));
    CHECK_EQ(node_zero(rig.node, 0, 4096, 0), 0);
    CHECK(who_made(6, old, 77, NULL) == NULL);
    CHECK(rig.node->pass_by); /* and nothing is left to be looked after */
    world_close(&rig);
    return 0;
}

SCENARIO(a_torn_sector_is_known_by_its_mixture)
{
    char mixed[512];

    rig_open("[{'op':'write','nth':2,'action':'torn','unit':1,'persist-bytes':700}]", "");
    CHECK_EQ(rig_write(0, 1024, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 1024, 'b', 0), 0);
    expect_sectors(0, "b?");
    CHECK_EQ(below(699), 'b');
    CHECK_EQ(below(700), 'a');
    memset(mixed, 'a', 512);
    memset(mixed, 'b', 188);
    CHECK(who_made(1, mixed, 9, NULL) != NULL);
    /* a small write into it: another mixture, of the same fault */
    CHECK_EQ(rig_write(600, 50, 'x', 0), 0);
    CHECK(who_made(1, mixed, 9, NULL) == NULL);
    memset(mixed + 88, 'x', 50);
    CHECK(who_made(1, mixed, 9, NULL) != NULL);
    world_close(&rig);
    return 0;
}

SCENARIO(a_drawn_tear_leaves_something_undone_and_follows_from_the_seed)
{
    char first[128 * 9], again[128 * 9];
    unsigned done[9] = {0};

    for (int round = 0; round < 3; round++) { /* the last one with another seed */
        char *out = round == 1 ? again : first;
        rig_open("[{'op':'write','action':'torn'}]", round == 2 ? "'seed':2," : "");
        if (round < 2) {
            out[0] = 0;
        }
        bool differs = false;
        for (int i = 0; i < 128; i++) {
            CHECK_EQ(node_zero(rig.node, (uint64_t)i * 4096, 4096, 0), 0);
            CHECK_EQ(rig_write((uint64_t)i * 4096, 4096, 'n', 0), 0);
            const char *shown = sectors((uint64_t)i * 8, 8);
            size_t n = strspn(shown, "n");
            CHECK(n >= 1 && n <= 7 && strspn(shown + n, ".") == 8 - n);
            done[n] += round == 0;
            if (round < 2) {
                strcat(out, shown);
            } else {
                differs |= strncmp(first + i * 8, shown, 8) != 0;
            }
        }
        CHECK(round < 2 || differs);
        world_close(&rig);
    }
    CHECK(strcmp(first, again) == 0);
    for (int n = 1; n <= 7; n++) { /* 128/7 = 18.3 each; five deviations */
        CHECK(fabs(done[n] - 128.0 / 7) < 5 * sqrt(128.0 / 7));
    }
    return 0;
}

SCENARIO(random_parts_are_half_of_them_and_never_all)
{
    unsigned persisted = 0, of_first = 0;

    rig_open("[{'op':'write','action':'torn','persist':'random'}]", "");
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(rig_write((uint64_t)i * 8192, 8192, 'n', 0), 0);
        const char *shown = sectors((uint64_t)i * 16, 16);
        unsigned n = 0;
        for (int k = 0; k < 16; k++) {
            n += shown[k] == 'n';
        }
        CHECK(n < 16);
        persisted += n;
        of_first += shown[0] == 'n';
    }
    /* one of the 16 is always lost, each other one with a chance of a half: 64 * 7.5 */
    CHECK(fabs(persisted - 480.0) < 5 * sqrt(64 * 15 * 0.25));
    CHECK(of_first > 10 && of_first < 54);
    world_close(&rig);
    return 0;
}

/* ---- lost ---- */

SCENARIO(a_lost_write_shows_what_was_there_before)
{
    rig_open("[{'id':'l','ranges':'4k+4k','action':'lost','count':3}]", "");
    CHECK_EQ(rig_write(0, 16384, 'a', 0), 0); /* shares a byte: all of it is lost */
    expect_sectors(0, "........");
    CHECK_EQ(change(rig.node, FAULT_SET, "l", "{'skip':2,'count':null}"), 0);
    CHECK_EQ(rig_write(4096, 4096, 'b', 0), 0); /* the second match is skipped */
    expect_sectors(8, "bbbbbbbb");
    CHECK_EQ(node_zero(rig.node, 4096, 512, 0), 0);
    CHECK_EQ(node_discard(rig.node, 4096, 512), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    expect_sectors(8, "bbbbbbbb");
    CHECK(same(who_shows(8, 70), "l"));
    CHECK(who_shows(9, 71) == NULL);
    CHECK_EQ(counters(rig.node, "l").fired, 3);
    world_close(&rig);
    return 0;
}

SCENARIO(a_lost_write_is_shown_until_the_flush)
{
    char seen[1024];

    rig_open("[{'id':'l','op':'write','skip':1,'count':2,'action':'lost','visible':'flush'}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(rig_write(512, 1024, 'b', 0), 0);
    CHECK_EQ(rig_write(2048 + 100, 512, 'c', 0), 0); /* parts of two sectors */
    expect_sectors(0, "aaaaaaaa");
    CHECK_EQ(shown(511), 'a');
    CHECK_EQ(shown(512), 'b');
    CHECK_EQ(shown(1535), 'b');
    CHECK_EQ(shown(1536), 'a');
    CHECK_EQ(node_read(rig.node, 2048, seen, 1024), 0);
    CHECK(seen[99] == 'a' && seen[100] == 'c' && seen[611] == 'c' && seen[612] == 'a');
    CHECK(who_shows(1, 50) == NULL);
    CHECK_EQ(rig_write(512, 512, 'd', 0), 0);  /* a good one replaces it */
    CHECK_EQ(rig_write(1024, 100, 'e', 0), 0); /* or a part of it, in the same cache */
    CHECK_EQ(shown(1024), 'e');
    CHECK_EQ(shown(1124), 'b');
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(shown(512), 'd');
    CHECK_EQ(shown(1024), 'e');
    CHECK_EQ(shown(1124), 'a');
    CHECK_EQ(shown(2048 + 100), 'a');
    CHECK(who_shows(1, 60) == NULL);
    CHECK(same(who_shows(2, 61), "l"));
    CHECK(same(who_shows(4, 62), "l"));
    CHECK(same(who_shows(5, 63), "l"));
    CHECK_EQ(node_zero(rig.node, 0, 4096, 0), 0);
    CHECK(who_shows(4, 64) == NULL);
    world_close(&rig);
    return 0;
}

SCENARIO(a_lost_write_is_shown_until_it_is_evicted)
{
    rig_open("[{'id':'l','op':'write','action':'lost','visible':'evict','cache':'4k'}]", "");
    for (unsigned i = 0; i < 12; i++) {
        CHECK_EQ(rig_write(i * 512, 512, (char)('a' + i), 0), 0);
    }
    CHECK_EQ(node_flush(rig.node), 0); /* does not matter */
    for (unsigned i = 0; i < 12; i++) {
        CHECK_EQ(shown(i * 512), i < 4 ? 0 : 'a' + i);
        CHECK(same(who_shows(i, 50 + i), i < 4 ? "l" : NULL));
    }
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0); /* the cache is there still */
    CHECK_EQ(shown(11 * 512), 'l');
    CHECK_EQ(rig_write(0, 12 * 512, 'z', 0), 0);
    expect_sectors(0, "zzzzzzzzzzzz");
    CHECK(rig.node->pass_by);
    CHECK_EQ(change(rig.node, FAULT_ADD, NULL, "{'op':'write','action':'lost','visible':'flush'}"), 0);
    CHECK_EQ(rig_write(0, 512, 'q', REQ_FUA), 0); /* said to be durable: in no cache */
    CHECK_EQ(shown(0), 'z');
    world_close(&rig);
    return 0;
}

SCENARIO(what_the_device_has_anyway_is_not_damaged)
{
    rig_open("[{'op':'write','skip':1,'action':'lost'}]", "");
    CHECK_EQ(rig_write(0, 1024, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0); /* lost, and nobody can tell */
    CHECK(who_shows(0, 50) == NULL);
    world_close(&rig);
    return 0;
}

static int device_flushes;

SCENARIO(a_flush_is_lost_only_if_it_is_named)
{
    static const char *const ops[] = {"", "'op':'flush',"};
    for (int i = 0; i < 2; i++) {
        char rules[128];
        snprintf(rules, sizeof(rules), "[{%s'action':'lost'}]", ops[i]);
        rig_open(rules, "");
        device_flushes = (int)node_below(rig.node)->stats.ops[REQ_FLUSH];
        CHECK_EQ(node_flush(rig.node), 0);
        CHECK_EQ(node_below(rig.node)->stats.ops[REQ_FLUSH] - (uint64_t)device_flushes, i == 0);
        world_close(&rig);
    }
    return 0;
}

/* ---- deferred errors ---- */

SCENARIO(an_error_is_told_by_the_next_flush_once)
{
    rig_open(
        "[{'id':'d','op':'write','ranges':'4k+4k','count':1,'action':'deferred-error','errno':'ENOSPC'}]",
        "");
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(4096, 512, 'b', 0), 0);
    expect_sectors(8, "b");
    CHECK_EQ(node_flush(rig.node), -ENOSPC);
    CHECK(same(who_returned(5, -ENOSPC), "d"));
    CHECK_EQ(node_flush(rig.node), 0);
    expect_sectors(8, "b");
    world_close(&rig);
    return 0;
}

SCENARIO(an_error_is_told_by_each_flush_until_the_rule_is_removed)
{
    rig_open("[{'id':'d','op':'write','action':'deferred-error','data':'drop','report':'always'}]", "");
    CHECK_EQ(rig_write(4096, 512, 'b', 0), 0);
    expect_sectors(8, ".");
    CHECK_EQ(shown(4096), 'b'); /* it is in the cache, until the flush fails */
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(shown(4096), 0);
    CHECK(same(who_shows(8, 98), "d"));
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(change(rig.node, FAULT_SET, "d", "{'enabled':false}"), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(change(rig.node, FAULT_SET, "d", "{'enabled':true}"), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "d", NULL), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK(same(who_shows(8, 99), "d")); /* dropped is dropped */
    world_close(&rig);
    return 0;
}

SCENARIO(a_write_that_is_durable_by_itself_fails_by_itself)
{
    rig_open("[{'op':'write','count':2,'action':'deferred-error','data':'drop'}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', REQ_FUA), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(rig_write(0, 512, 'b', REQ_FUA), 0);
    expect_sectors(0, "b");
    world_close(&rig);
    return 0;
}

/* ---- bounds ---- */

SCENARIO(what_there_is_no_room_for_is_told_and_not_explained)
{
    rig_open("[{'op':'write','action':'lost'}]", "'damage':4,");
    CHECK_EQ(rig_write(0, 5 * 512, 'a', 0), 0);
    CHECK(strstr(rig.text, "more than 4 damaged sectors") != NULL);
    unsigned known = 0;
    for (unsigned s = 0; s < 5; s++) {
        known += who_shows(s, 100 + s) != NULL;
    }
    CHECK_EQ(known, 4);
    world_close(&rig);
    return 0;
}

SCENARIO(a_rule_that_makes_no_sense_is_refused)
{
    static const char *const bad[] = {
        "{'action':'error','persist':'all','when':'after'}",
        "{'action':'error','unit':512}",
        "{'action':'torn','persist':'none'}",
        "{'action':'torn','unit':3}",
        "{'action':'torn','persist':'random','persist-bytes':512}",
        "{'action':'torn','op':'read'}",
        "{'action':'lost','op':'read'}",
        "{'action':'lost','errno':'EIO'}",
        "{'action':'lost','visible':'flush','cache':'1M'}",
        "{'action':'lost','visible':'evict','cache':'1G'}",
        "{'action':'deferred-error','op':'flush'}",
        "{'action':'error','report':'once'}", /* not a word of deferred-error */
    };
    expect_refused(bad, ARRAY_SIZE(bad));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_persists_nothing_all_a_prefix_or_a_suffix),
        cmocka_unit_test(zeroes_are_done_in_part_too_and_reads_and_flushes_fail_wholly),
        cmocka_unit_test(a_torn_write_is_acknowledged_and_explained),
        cmocka_unit_test(a_torn_sector_is_known_by_its_mixture),
        cmocka_unit_test(a_drawn_tear_leaves_something_undone_and_follows_from_the_seed),
        cmocka_unit_test(random_parts_are_half_of_them_and_never_all),
        cmocka_unit_test(a_lost_write_shows_what_was_there_before),
        cmocka_unit_test(a_lost_write_is_shown_until_the_flush),
        cmocka_unit_test(a_lost_write_is_shown_until_it_is_evicted),
        cmocka_unit_test(what_the_device_has_anyway_is_not_damaged),
        cmocka_unit_test(a_flush_is_lost_only_if_it_is_named),
        cmocka_unit_test(an_error_is_told_by_the_next_flush_once),
        cmocka_unit_test(an_error_is_told_by_each_flush_until_the_rule_is_removed),
        cmocka_unit_test(a_write_that_is_durable_by_itself_fails_by_itself),
        cmocka_unit_test(what_there_is_no_room_for_is_told_and_not_explained),
        cmocka_unit_test(a_rule_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
