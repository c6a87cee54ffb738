/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that go to another place than was asked for, or to none; and the disk that goes away. */
#include "fault_look.h"

/* ---- misdirect ---- */

SCENARIO(a_misdirected_write_has_two_victims)
{
    uint64_t opno = 0;
    char new[512], old[512];

    memset(new, 'n', sizeof(new));
    memset(old, 'a', sizeof(old));
    rig_open("[{'id':'m','op':'write','nth':2,'action':'misdirect','by':2048}]", "");
    CHECK_EQ(rig_write(0, 16 * 512, 'a', 0), 0);
    CHECK_EQ(rig_write(512, 1024, 'n', 0), 0);
    expect_sectors(0, "aaaaannaaaaaaaaa");
    CHECK(same(who_made(5, new, 99, &opno), "m"));
    CHECK_EQ(opno, 2);
    CHECK(same(who_made(6, new, 99, NULL), "m"));
    CHECK(who_made(7, new, 99, NULL) == NULL);
    CHECK(same(who_made(1, old, 99, NULL), "m"));
    CHECK(same(who_made(2, old, 99, NULL), "m"));
    CHECK(who_made(3, old, 99, NULL) == NULL);
    CHECK(who_made(0, old, 99, NULL) == NULL);
    world_close(&rig);
    return 0;
}

SCENARIO(kept_at_its_place_it_has_one)
{
    rig_open("[{'op':['write','zero'],'action':'misdirect','by':'-1k','keep':true}]", "");
    CHECK_EQ(rig_write(0, 16 * 512, 'a', 0), 0); /* there is nothing before the device: left alone */
    CHECK_EQ(rig_write(4 * 512, 512, 'n', 0), 0);
    expect_sectors(0, "aananaaa");
    CHECK_EQ(node_zero(rig.node, 6 * 512, 512, 0), 0);
    expect_sectors(0, "aana.a.a");
    CHECK(who_shows(6, 50) == NULL);
    CHECK(who_shows(4, 51) != NULL);
    CHECK_EQ(rig_write(512, 512, 'x', 0), 0);
    expect_sectors(0, "axna.a.a");
    CHECK_EQ(counters(rig.node, "r1").matched, 2);
    CHECK_EQ(counters(rig.node, "r1").fired, 2);
    world_close(&rig);
    return 0;
}

SCENARIO(overlapping_places_show_what_lies_there)
{
    rig_open("[{'op':'write','skip':1,'action':'misdirect','by':512}]", "");
    CHECK_EQ(rig_write(0, 8 * 512, 'a', 0), 0);
    char two[1024];
    memset(two, 'x', 512);
    memset(two + 512, 'y', 512);
    CHECK_EQ(node_write(rig.node, 0, two, sizeof(two), 0), 0);
    expect_sectors(0, "axyaaaaa");
    CHECK(who_shows(0, 50) != NULL);
    CHECK(who_shows(1, 51) != NULL);
    CHECK(who_shows(2, 52) != NULL);
    CHECK(who_shows(3, 53) == NULL);
    world_close(&rig);
    return 0;
}

SCENARIO(a_misdirected_read_is_known_by_its_operation)
{
    char data[1024], shown[512];

    rig_open("[{'id':'m','op':'read','nth':1,'action':'misdirect','lba-bit':3}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(rig_write(4096, 4096, 'b', 0), 0);
    CHECK_EQ(node_read(rig.node, 4096 + 512, data, 1024),
             0); /* sectors 9 and 10, from 1 and 2: operation 3 */
    CHECK_EQ(data[0], 'a');
    CHECK_EQ(data[1023], 'a');
    memset(shown, 'a', 512);
    CHECK(same(who_made(9, shown, 3, NULL), "m"));
    CHECK(same(who_made(10, shown, 3, NULL), "m"));
    CHECK(who_made(11, shown, 3, NULL) == NULL);
    CHECK(who_made(9, shown, 4, NULL) == NULL);
    CHECK_EQ(node_read(rig.node, 4096 + 512, data, 1024), 0);
    CHECK_EQ(data[0], 'b');
    CHECK(rig.node->pass_by == false); /* the rule is there still */
    world_close(&rig);
    return 0;
}

SCENARIO(a_drawn_place_is_within_the_device_and_spread_over_it)
{
    unsigned quarter[4] = {0};

    for (int round = 0; round < 2; round++) {
        rig_open("[{'op':'write','action':'misdirect'}]", "");
        for (unsigned i = 0; i < 400; i++) {
            char data[512];
            memset(data, 0, sizeof(data));
            memcpy(data, &i, sizeof(i));
            data[8] = 'm';
            CHECK_EQ(node_write(rig.node, 512 * i, data, 512, 0), 0);
        }
        unsigned found = 0;
        for (uint64_t s = 0; s < 2048; s++) {
            char data[512];
            CHECK_EQ(node_read(node_below(rig.node), s * 512, data, 512), 0);
            if (data[8] == 'm') {
                CHECK(who_made(s, data, 9999, NULL) != NULL);
                quarter[s / 512] += round == 0;
                found++;
            }
        }
        CHECK(found > 330 && found <= 400); /* 400 balls in 2048 urns: 363 are hit on average */
        world_close(&rig);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(quarter[i] > 60 && quarter[i] < 125); /* 91 */
    }
    return 0;
}

/* ---- devices that are smaller than they say ---- */

SCENARIO(a_full_device_takes_no_writes_from_there_on)
{
    rig_open("[{'id':'f','action':'full','size':'512k'}]", "");
    CHECK_EQ(rig_write(512 * KiB - 512, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(512 * KiB - 512, 1024, 'b', 0), -ENOSPC);
    CHECK_EQ(node_zero(rig.node, 1 * MiB - 512, 512, 0), -ENOSPC);
    CHECK_EQ(rig_read(1 * MiB - 512, 512), 0);
    CHECK_EQ(node_discard(rig.node, 1 * MiB - 512, 512), 0);
    CHECK_EQ(below(512 * KiB - 1), 'a');
    CHECK(same(who_returned(2, -ENOSPC), "f"));
    CHECK_EQ(change(rig.node, FAULT_REMOVE, "f", NULL), 0);
    CHECK_EQ(rig_write(512 * KiB, 512, 'b', 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(a_shrunken_device_has_nothing_there)
{
    struct extent x;

    rig_open("[{'action':'shrink','size':'512k','errno':'ENXIO'}]", "");
    CHECK_EQ(rig_read(512 * KiB - 512, 512), 0);
    CHECK_EQ(rig_read(512 * KiB - 512, 513), -ENXIO);
    CHECK_EQ(rig_write(512 * KiB, 1, 'a', 0), -ENXIO);
    CHECK_EQ(node_zero(rig.node, 512 * KiB, 512, 0), -ENXIO);
    CHECK_EQ(node_discard(rig.node, 512 * KiB, 512), -ENXIO);
    CHECK_EQ(node_status(rig.node, 512 * KiB, 512, &x), -ENXIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(node_status(rig.node, 0, 512 * KiB, &x), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(a_read_only_device_refuses_what_changes_it)
{
    rig_open("[{'action':'read-only','skip':1}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), -EROFS);
    CHECK_EQ(node_zero(rig.node, 0, 512, 0), -EROFS);
    CHECK_EQ(node_discard(rig.node, 0, 512), -EROFS);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(change(rig.node, FAULT_SET, "r1", "{'errno':'EPERM'}"), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), -EPERM);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK_EQ(rig_write(0, 512, 'b', 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(fake_flash_begins_again_at_its_end)
{
    char data[1536];

    rig_open("[{'id':'w','action':'wrap','size':2048}]", "");
    CHECK_EQ(rig_write(0, 2048, 'a', 0), 0);
    memset(data, 'x', 512);
    memset(data + 512, 'y', 512);
    memset(data + 1024, 'z', 512);
    CHECK_EQ(node_write(rig.node, 3 * 512, data, 1536, 0), 0); /* sectors 3, 4 and 5: at 3, 0 and 1 */
    expect_sectors(0, "yzax....");
    CHECK(who_shows(0, 50) != NULL);
    CHECK(who_shows(1, 51) != NULL);
    CHECK(who_shows(2, 52) == NULL);
    CHECK_EQ(node_read(rig.node, 8 * 512 + 512, data, 1536), 0); /* 9, 10, 11: of 1, 2, 3 */
    CHECK_EQ(data[0], 'z');
    CHECK_EQ(data[512], 'a');
    CHECK_EQ(data[1024], 'x');
    CHECK(same(who_made(10, data + 512, 3, NULL), "w"));
    CHECK_EQ(node_zero(rig.node, 6 * 512, 512, 0), 0);
    expect_sectors(0, "yz.x....");
    struct extent x;
    CHECK_EQ(node_status(rig.node, 6 * 512, 10 * 512, &x), 0);
    CHECK(x.bytes <= 1024);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK(same(who_shows(4, 60), "w")); /* what was written there is lost */
    CHECK_EQ(rig_write(0, 8 * 512, 'k', 0), 0);
    for (unsigned s = 0; s < 8; s++) {
        CHECK(who_shows(s, 70 + s) == NULL);
    }
    world_close(&rig);
    return 0;
}

/* ---- bad sectors ---- */

SCENARIO(bad_sectors_fail_reads_until_they_are_written)
{
    rig_open("[{'id':'b','sectors':'8-11','action':'bad-sectors'}]", "");
    CHECK_EQ(rig_read(7 * 512, 512), 0);
    CHECK_EQ(rig_read(7 * 512, 1024), -EIO);
    CHECK(same(who_returned(2, -EIO), "b"));
    CHECK_EQ(rig_read(11 * 512, 512), -EIO);
    CHECK_EQ(rig_write(8 * 512, 512, 'a', 0), 0);
    CHECK_EQ(rig_read(8 * 512, 512), 0);
    CHECK_EQ(rig_read(8 * 512, 1024), -EIO);
    CHECK_EQ(rig_write(9 * 512, 100, 'a', 0), 0); /* not the whole sector */
    CHECK_EQ(rig_read(9 * 512, 512), -EIO);
    CHECK_EQ(node_zero(rig.node, 8 * 512, 4096, 0), 0);
    CHECK_EQ(rig_read(0, 64 * KiB), 0);
    CHECK_EQ(counters(rig.node, "b").fired, 7);
    /* changed, the rule knows what was repaired; set again, it is another */
    CHECK_EQ(change(rig.node, FAULT_SET, "b", "{'errno':'ETIMEDOUT'}"), 0);
    CHECK_EQ(rig_read(0, 64 * KiB), 0);
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL,
                    "{'id':'b','sectors':'8-11','action':'bad-sectors','repair':'never'}"),
             0);
    CHECK_EQ(rig_write(8 * 512, 4096, 'c', 0), 0);
    CHECK_EQ(rig_read(8 * 512, 512), -EIO);
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
    CHECK_EQ(rig_read(8 * 512, 512), 0);
    expect_sectors(8, "cccccccc");
    world_close(&rig);
    return 0;
}

SCENARIO(one_sector_in_so_many_is_bad_and_stays_the_same_one)
{
    static uint8_t bad[2][2048];
    unsigned n = 0, second = 0;

    for (int round = 0; round < 2; round++) {
        rig_open("[{'ranges':['512k+512k','0+512k'],'action':'bad-sectors','one-in':16}]",
                 round ? "'seed':1," : "");
        rig.graph.fault = NULL;
        for (int again = 0; again < 2; again++) {
            for (unsigned s = 0; s < 2048; s++) {
                bool is = rig_read(s * 512, 512) < 0;
                CHECK(again == 0 || is == bad[round][s]);
                bad[round][s] = is;
                n += is && round == 0 && again == 0;
            }
        }
        for (unsigned s = 0; s + 1 < 2048; s++) {
            second += bad[round][s] && bad[round][s + 1];
        }
        world_close(&rig);
    }
    CHECK(memcmp(bad[0], bad[1], sizeof(bad[0])) == 0);
    CHECK(n > 128 - 55 && n < 128 + 55); /* five deviations of 11 */
    CHECK(second < 2 * 30);              /* no clusters: 8 in each round */
    return 0;
}

SCENARIO(a_drive_tries_again_before_it_gives_up)
{
    unsigned times[5] = {0};

    rig_open("[{'action':'bad-sectors','retries':4,'retry-time':'10ms'}]", "");
    rig.graph.fault = NULL;
    for (int i = 0; i < 400; i++) {
        uint64_t from = loop_clock_ns();
        CHECK_EQ(rig_read(0, 512), -EIO);
        uint64_t ms = (loop_clock_ns() - from) / NS_PER_MS;
        CHECK(ms % 10 == 0 && ms >= 10 && ms <= 40);
        times[ms / 10]++;
    }
    for (int i = 1; i <= 4; i++) {
        CHECK(times[i] > 100 - 44 && times[i] < 100 + 44); /* five deviations of 8.7 */
    }
    world_close(&rig);
    return 0;
}

/* ---- the disk goes away ---- */

SCENARIO(the_disk_goes_and_comes_back_by_itself)
{
    rig_open("[{'id':'v','op':'write','nth':2,'action':'disconnect','down':'50ms'}]", "");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_presence(rig.node), PRESENCE_HERE);
    CHECK_EQ(rig_write(0, 512, 'b', 0), -EIO);
    CHECK_EQ(node_presence(rig.node), PRESENCE_REFUSED);
    CHECK(same(who_returned(2, -EIO), "v"));
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK(same(who_returned(3, -EIO), "v"));
    CHECK_EQ(node_flush(rig.node), -EIO);
    co_sleep_ns(51 * NS_PER_MS);
    CHECK_EQ(node_presence(rig.node), PRESENCE_HERE);
    CHECK_EQ(rig_write(0, 512, 'c', 0), 0);
    expect_sectors(0, "c");
    expect_events("INJECTED v\n"); /* once: not for what found it gone */
    world_close(&rig);
    return 0;
}

SCENARIO(it_is_back_when_it_is_released_or_the_rule_removed)
{
    rig_open("[{'id':'v','tag':'t','op':'flush','action':'disconnect','clients':'mute','when':'after',"
             "'errno':'ENODEV'}]",
             "");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(node_flush(rig.node), -ENODEV);
        CHECK_EQ(node_presence(rig.node), PRESENCE_MUTED);
        CHECK_EQ(rig_write(0, 512, 'a', 0), -ENODEV);
        if (i == 0) {
            CHECK_EQ(fault_release(rig.node, "t", FAULT_COMPLETE, 0, NULL), 1);
            CHECK_EQ(fault_release(rig.node, "t", FAULT_COMPLETE, 0, NULL), 0);
        } else {
            CHECK_EQ(change(rig.node, FAULT_REMOVE, "v", NULL), 0);
        }
        CHECK_EQ(node_presence(rig.node), PRESENCE_HERE);
        CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(a_dead_man_brings_it_back_and_the_end_does_not_wait)
{
    rig_open("[{'id':'v','op':'flush','action':'disconnect','deadman':'5s'}]", "");
    CHECK_EQ(node_flush(rig.node), -EIO);
    co_sleep_ns(6 * NS_PER_SEC);
    CHECK_EQ(node_presence(rig.node), PRESENCE_HERE);
    CHECK_EQ(node_flush(rig.node), 0); /* switched off */
    expect_events("INJECTED v\nEXHAUSTED v deadman\n");
    CHECK_EQ(change(rig.node, FAULT_REPLACE, NULL, "{'op':'flush','action':'disconnect','deadman':0}"), 0);
    CHECK_EQ(node_flush(rig.node), -EIO);
    co_sleep_ns(3600 * NS_PER_SEC);
    CHECK_EQ(node_presence(rig.node), PRESENCE_REFUSED);
    world_close(&rig);
    return 0;
}

SCENARIO(a_rule_that_makes_no_sense_is_refused)
{
    static const char *const bad[] = {
        "{'action':'misdirect','by':0}",
        "{'action':'misdirect','by':'x'}",
        "{'action':'misdirect','by':512,'lba-bit':3}",
        "{'action':'misdirect','op':'flush'}",
        "{'action':'full'}",
        "{'action':'full','size':'1k','ranges':'0+1k'}",
        "{'action':'shrink','errno':'EIO'}",
        "{'action':'wrap'}",
        "{'action':'wrap','size':1000}",
        "{'action':'wrap','size':0}",
        "{'action':'read-only','op':'read'}",
        "{'action':'bad-sectors','retries':3}",
        "{'action':'bad-sectors','retry-time':'1s'}",
        "{'action':'disconnect','down':0}",
        "{'action':'disconnect','clients':'x'}",
    };
    expect_refused(bad, ARRAY_SIZE(bad));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_misdirected_write_has_two_victims),
        cmocka_unit_test(kept_at_its_place_it_has_one),
        cmocka_unit_test(overlapping_places_show_what_lies_there),
        cmocka_unit_test(a_misdirected_read_is_known_by_its_operation),
        cmocka_unit_test(a_drawn_place_is_within_the_device_and_spread_over_it),
        cmocka_unit_test(a_full_device_takes_no_writes_from_there_on),
        cmocka_unit_test(a_shrunken_device_has_nothing_there),
        cmocka_unit_test(a_read_only_device_refuses_what_changes_it),
        cmocka_unit_test(fake_flash_begins_again_at_its_end),
        cmocka_unit_test(bad_sectors_fail_reads_until_they_are_written),
        cmocka_unit_test(one_sector_in_so_many_is_bad_and_stays_the_same_one),
        cmocka_unit_test(a_drive_tries_again_before_it_gives_up),
        cmocka_unit_test(the_disk_goes_and_comes_back_by_itself),
        cmocka_unit_test(it_is_back_when_it_is_released_or_the_rule_removed),
        cmocka_unit_test(a_dead_man_brings_it_back_and_the_end_does_not_wait),
        cmocka_unit_test(a_rule_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
