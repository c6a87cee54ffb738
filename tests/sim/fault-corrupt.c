/* SPDX-License-Identifier: BSD-2-Clause */
/* Corruption of every kind, on reads and writes, once and again. */
#include "fault_look.h"

#include <math.h>

static char page[64 * KiB];

/* Bits of @n bytes at @got that are not those of the byte @good. */
static unsigned wrong_bits(const char *got, size_t n, char good)
{
    unsigned bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits += (unsigned)__builtin_popcount((uint8_t)(got[i] ^ good));
    }
    return bits;
}

SCENARIO(a_read_shows_one_wrong_bit_and_the_media_are_good)
{
    unsigned known = 0;

    rig_open("[{'id':'c','op':'read','action':'corrupt'}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    for (uint64_t i = 0; i < 8; i++) {
        CHECK_EQ(node_read(rig.node, 0, page, 4096), 0);
        CHECK_EQ(wrong_bits(page, 4096, 'a'), 1);
        for (unsigned s = 0; s < 8; s++) {
            bool wrong = wrong_bits(page + s * 512, 512, 'a') > 0;
            known += wrong;
            CHECK(same(who_made(s, page + s * 512, 2 + i, NULL), wrong ? "c" : NULL));
            CHECK(who_made(s, page + s * 512, 1 + i, NULL) == NULL); /* an other operation's */
        }
    }
    CHECK_EQ(known, 8);
    expect_sectors(0, "aaaaaaaa");
    world_close(&rig);
    return 0;
}

SCENARIO(another_corruption_each_time_or_the_same_again)
{
    static char first[8192];
    static const struct {
        const char *retry;
        bool again;
    } cases[] = {{"new", false}, {"same", true}};

    for (int i = 0; i < 2; i++) {
        char rules[128];
        snprintf(rules, sizeof(rules), "[{'op':'read','action':'corrupt','retry':'%s'}]", cases[i].retry);
        rig_open(rules, "");
        CHECK_EQ(rig_write(0, 16384, 'a', 0), 0);
        CHECK_EQ(node_read(rig.node, 4096, first, 8192), 0);
        CHECK_EQ(wrong_bits(first, 8192, 'a'), i ? 2 : 1); /* one for each 4096 bytes of the disk */
        CHECK_EQ(node_read(rig.node, 4096, page, 8192), 0);
        CHECK_EQ(memcmp(first, page, 8192) == 0, cases[i].again);
        if (cases[i].again) { /* also in pieces, and within a larger request */
            CHECK_EQ(node_read(rig.node, 4096 + 100, page, 5000), 0);
            CHECK(memcmp(first + 100, page, 5000) == 0);
            CHECK_EQ(node_read(rig.node, 0, page, 16384), 0);
            CHECK(memcmp(first, page + 4096, 8192) == 0);
        }
        world_close(&rig);
    }
    return 0;
}

SCENARIO(the_rate_of_bits_is_what_was_asked_for)
{
    static const double rates[] = {100, 5000, 1};
    for (int i = 0; i < 3; i++) {
        char rules[128];
        unsigned wrong = 0;
        snprintf(rules, sizeof(rules), "[{'op':'read','action':'corrupt','one-in':%.0f}]", rates[i]);
        rig_open(rules, "");
        rig.graph.fault = NULL;
        for (unsigned k = 0; k < 16; k++) {
            CHECK_EQ(node_read(rig.node, k * 65536, page, 65536), 0);
            wrong += wrong_bits(page, 65536, 0);
        }
        double expected = 16 * 65536 * 8 / rates[i];
        CHECK(fabs(wrong - expected) <= 5 * sqrt(expected * (1 - 1 / rates[i])));
        world_close(&rig);
    }
    return 0;
}

SCENARIO(so_many_different_bits)
{
    rig_open("[{'op':'read','action':'corrupt','bits':16}]", "");
    for (int i = 0; i < 50; i++) {
        memset(page, 0, 4);
        CHECK_EQ(node_read(rig.node, 0, page, 4), 0); /* 16 of 32 */
        CHECK_EQ(wrong_bits(page, 4, 0), 16);
    }
    CHECK_EQ(node_read(rig.node, 0, page, 1), 0); /* there are only 8 */
    CHECK_EQ(wrong_bits(page, 1, 0), 8);
    world_close(&rig);
    return 0;
}

SCENARIO(a_decayed_sector_stays_so_until_it_is_written)
{
    char shown[4096];

    rig_open("[{'id':'d','op':'read','count':1,'action':'corrupt','where':'media','mode':'random'}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(node_read(rig.node, 0, page, 4096), 0);
    CHECK_EQ(node_read(rig.node, 0, shown, 4096), 0);
    CHECK(memcmp(page, shown, 4096) == 0);
    unsigned damaged = 0;
    for (unsigned s = 0; s < 8; s++) {
        bool wrong = wrong_bits(shown + s * 512, 512, 'a') > 0;
        damaged += wrong;
        CHECK(same(who_made(s, shown + s * 512, 99, NULL), wrong ? "d" : NULL));
    }
    CHECK_EQ(damaged, 1);
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    expect_sectors(0, "aaaaaaaa");
    world_close(&rig);
    return 0;
}

SCENARIO(a_corrupted_write_lies_on_the_media)
{
    rig_open("[{'id':'c','op':'write','nth':2,'action':'corrupt','mode':'zero','length':1024}]", "");
    CHECK_EQ(rig_write(0, 65536, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 65536, 'b', 0), 0);
    unsigned zeroes = 0;
    const char *shown = sectors(0, 128);
    for (unsigned s = 0; s < 128; s++) {
        CHECK(shown[s] == 'b' || shown[s] == '.');
        CHECK(same(who_shows(s, 100 + s), shown[s] == '.' ? "c" : NULL));
        zeroes += shown[s] == '.';
        CHECK(shown[s] != '.' || shown[s ^ 1] == '.'); /* at a multiple of its length */
    }
    CHECK_EQ(zeroes, 2);
    world_close(&rig);
    return 0;
}

SCENARIO(bytes_are_set_bits_are_stuck_sectors_are_swapped)
{
    rig_open("[{'op':'read','action':'corrupt','mode':'set','byte':255,'length':3}]", "");
    CHECK_EQ(node_read(rig.node, 0, page, 4096), 0);
    CHECK_EQ(wrong_bits(page, 4096, 0), 24);
    const char *at = memchr(page, 255, 4096);
    CHECK(at && (at - page) % 3 == 0 && wrong_bits(at, 3, 0) == 24);
    world_close(&rig);

    /* bit 13 is bit 5 of byte 1 */
    rig_open("[{'op':'read','action':'corrupt','mode':'stuck','bit':13,'value':1,'unit':64}]", "");
    CHECK_EQ(node_read(rig.node, 100, page, 200), 0);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ((uint8_t)page[i], (100 + i) % 64 == 1 ? 0x20 : 0);
    }
    world_close(&rig);

    rig_open("[{'op':'write','action':'corrupt','mode':'swap'}]", "");
    for (int i = 0; i < 8; i++) {
        memset(page + i * 512, 'a' + i, 512);
    }
    CHECK_EQ(node_write(rig.node, 0, page, 4096, 0), 0);
    const char *shown = sectors(0, 8);
    unsigned moved = 0;
    for (int i = 0; i < 8; i++) {
        moved += shown[i] != 'a' + i;
        CHECK(strchr(shown, 'a' + i) != NULL);
    }
    CHECK_EQ(moved, 2);
    CHECK_EQ(node_write(rig.node, 8192, page, 512, 0), 0); /* halves, where there are no two sectors */
    memset(page, 'a', 256);
    memset(page + 256, 'b', 256);
    CHECK_EQ(node_write(rig.node, 8192, page, 512, 0), 0);
    CHECK_EQ(below(8192), 'b');
    CHECK_EQ(below(8192 + 256), 'a');
    world_close(&rig);
    return 0;
}

/* A request of many pieces of memory, larger than what is worked on at once. */
SCENARIO(a_large_request_is_hit_once)
{
    static char big[1 * MiB];
    struct iovec iov[3] = {{big, 1000}, {big + 1000, 500000}, {big + 501000, 1 * MiB - 501000}};
    struct req r = {.op = REQ_READ, .bytes = 1 * MiB, .iov = iov, .niov = 3};

    rig_open("[{'op':'read','action':'corrupt','bits':2}]", "");
    CHECK_EQ(node_io(rig.node, &r), 0);
    CHECK_EQ(wrong_bits(big, sizeof(big), 0), 2);
    world_close(&rig);
    return 0;
}

SCENARIO(a_rule_that_makes_no_sense_is_refused)
{
    static const char *const bad[] = {
        "{'action':'corrupt','bits':1,'one-in':10}",
        "{'action':'corrupt','bits':65}",
        "{'action':'corrupt','mode':'zero','bits':1}",
        "{'action':'corrupt','length':512}",
        "{'action':'corrupt','byte':1}",
        "{'action':'corrupt','bit':1}",
        "{'action':'corrupt','mode':'stuck','bit':4096}",
        "{'action':'corrupt','mode':'stuck','unit':3}",
        "{'action':'corrupt','mode':'stuck','value':2}",
        "{'action':'corrupt','mode':'shuffle'}",
        "{'action':'corrupt','op':'zero'}",
    };
    expect_refused(bad, ARRAY_SIZE(bad));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_shows_one_wrong_bit_and_the_media_are_good),
        cmocka_unit_test(another_corruption_each_time_or_the_same_again),
        cmocka_unit_test(the_rate_of_bits_is_what_was_asked_for),
        cmocka_unit_test(so_many_different_bits),
        cmocka_unit_test(a_decayed_sector_stays_so_until_it_is_written),
        cmocka_unit_test(a_corrupted_write_lies_on_the_media),
        cmocka_unit_test(bytes_are_set_bits_are_stuck_sectors_are_swapped),
        cmocka_unit_test(a_large_request_is_hit_once),
        cmocka_unit_test(a_rule_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
