/* SPDX-License-Identifier: BSD-2-Clause */
/* Each kind of wrong data is called by its name, the likeliest cause first. */
#include "base/rng.h"
#include "verify_rig.h"

#define REPORT "\"on-mismatch\":\"report\""

/* Sectors that are all different, and differ with @version. */
static void pattern(uint8_t *buf, uint64_t offset, uint64_t bytes, unsigned version)
{
    for (uint64_t at = 0; at < bytes; at += 512) {
        struct rng rng;
        rng_init(&rng, (offset + at) * 16 + version);
        rng_fill(&rng, buf + at, MIN(bytes - at, UINT64_C(512)));
    }
}

static co_fn void put(struct node *n, uint64_t offset, uint64_t bytes, unsigned version)
{
    uint8_t *buf = malloc(bytes);

    pattern(buf, offset, bytes, version);
    assert_int_equal(node_write(n, offset, buf, bytes, 0), 0);
    free(buf);
}

/* As put, but the pattern is another place's. */
static co_fn void put_from(struct node *n, uint64_t offset, uint64_t bytes, uint64_t from, unsigned version)
{
    uint8_t *buf = malloc(bytes);

    pattern(buf, from, bytes, version);
    assert_int_equal(node_write(n, offset, buf, bytes, 0), 0);
    free(buf);
}

static co_fn void expect(struct rig *rig, uint64_t offset, uint64_t bytes, const char *line)
{
    assert_int_equal(read_rc(rig->v, offset, bytes), 0);
    assert_int_equal(rig->g.mismatches, 1);
    assert_said(rig, line);
}

TEST(bit_flip)
{
    uint8_t byte;

    rig_open(rig, REPORT);
    put(rig->v, 0, 65536, 1);
    assert_int_equal(node_read(rig->raw, 5000, &byte, 1), 0);
    byte ^= 0x10;
    assert_int_equal(node_write(rig->test, 5000, &byte, 1, 0), 0);
    /* 5000 = 9 * 512 + 392 */
    expect(rig, 0, 65536, "diagnosis: one bit flipped: bit 4 of byte 392 of sector 9, at offset 5000 (");
    assert_said(rig, "a second read of the sector gave the same wrong data");
    rig_close(rig);
}

TEST(lost_write)
{
    rig_open(rig, REPORT);
    put(rig->v, 4096, 4096, 1); /* operation 1 */
    put(rig->v, 4096, 4096, 2);
    put(rig->test, 4096, 4096, 1);
    expect(rig, 0, 65536,
           "diagnosis: lost write: sector 8 holds what it held before operation 2 (write): the data of "
           "operation 1");
    assert_said(rig, "    operation 2: write offset=4096 bytes=4096 done\nD     operation 1: write");
    assert_null(strstr(rig->said, "misdirected"));
    assert_null(strstr(rig->said, "torn"));
    rig_close(rig);
}

TEST(lost_write_of_zeroes)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    assert_int_equal(node_zero(rig->v, 0, 4096, 0), 0);
    put(rig->test, 0, 4096, 1);
    expect(rig, 0, 4096, "diagnosis: lost write: sector 0 holds what it held before operation 2 (zero)");
    rig_close(rig);
}

TEST(lost_first_write_is_suspected)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    assert_int_equal(node_zero(rig->test, 0, 4096, 0), 0);
    expect(rig, 0, 4096, "diagnosis: all zero");
    assert_said(rig, "or: lost write: possible, if sector 0 was zero before operation 1 (write)");
    rig_close(rig);
}

/* The test device's first read gives version 1, whatever it holds. */
static co_fn bool stale_once(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_READ || t->arg++ > 0) {
        return false;
    }
    pattern(r->iov[0].iov_base, r->offset, r->bytes, 1);
    *ret_rc = 0;
    return true;
}

TEST(stale_read)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    put(rig->v, 0, 4096, 2);
    rig->on_test.play = stale_once;
    expect(rig, 0, 4096, "diagnosis: stale read: sector 0 holds what it held before operation 2");
    assert_said(rig, "a second read of the sector gave the expected data");
    rig_close(rig);
}

TEST(torn_write)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 8192, 1);
    put(rig->v, 0, 8192, 2);
    put(rig->test, 3072, 8192 - 3072, 1); /* 6 sectors new, 10 old */
    expect(
        rig, 0, 8192,
        "diagnosis: torn write: of operation 2 (offset=0 bytes=8192) 6 sectors are there, 10 are as before");
    rig_close(rig);
}

/* The half that is right is a later operation's. */
TEST(lost_write_of_which_a_half_was_written_again_is_not_torn)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 8192, 1);
    put(rig->v, 0, 8192, 2);
    put(rig->v, 4096, 4096, 3);
    put(rig->test, 0, 4096, 1);
    expect(rig, 0, 8192, "diagnosis: lost write: sector 0 holds what it held before operation 2");
    assert_null(strstr(rig->said, "torn"));
    rig_close(rig);
}

TEST(torn_write_seen_through_a_small_read)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 8192, 1);
    put(rig->v, 0, 8192, 2);
    put(rig->test, 4096, 4096, 1);
    expect(rig, 7680, 512, "diagnosis: torn write: of operation 2");
    rig_close(rig);
}

TEST(misdirected_write_by_history)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    put(rig->v, 3 * MiB, 4096, 1); /* operation 2: lands at 0 as well */
    put_from(rig->test, 0, 4096, 3 * MiB, 1);
    expect(rig, 0, 4096,
           "diagnosis: misdirected: sector 0 holds the contents of sector 6144 (3145728 bytes away), written "
           "there "
           "by operation 2");
    rig_close(rig);
}

TEST(misdirected_within_the_request)
{
    rig_open(rig, REPORT);
    put(rig->raw, 0, 65536, 1); /* nothing in the history */
    put(rig->test, 0, 65536, 1);
    put_from(rig->test, 1024, 512, 10240, 1);
    expect(rig, 0, 65536,
           "diagnosis: misdirected: sector 2 holds the contents of sector 20 (9216 bytes away), of this "
           "request");
    rig_close(rig);
}

TEST(misdirected_near_by_in_the_reference)
{
    rig_open(rig, REPORT);
    put(rig->raw, 0, 1 * MiB, 1);
    put(rig->test, 0, 1 * MiB, 1);
    put_from(rig->test, 524288, 512, 300032, 1);
    expect(rig, 524288, 512,
           "diagnosis: misdirected: sector 1024 holds the contents of sector 586 (-224256 bytes away)");
    rig_close(rig);
}

/* One address bit off, too far for the search around. */
TEST(misdirected_by_an_address_bit)
{
    rig_open(rig, REPORT);
    put(rig->raw, 0, 4 * MiB, 1);
    put(rig->test, 0, 4 * MiB, 1);
    put_from(rig->test, 4096, 512, 4096 + 2 * MiB, 1);
    expect(rig, 4096, 512, "diagnosis: misdirected: sector 8 holds the contents of sector 4104");
    rig_close(rig);
}

TEST(discard_eats_the_neighbour_behind)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 65536, 1);
    assert_int_equal(node_discard(rig->v, 4096, 4096), 0); /* operation 2 */
    assert_int_equal(node_zero(rig->test, 8192, 1024, 0), 0);
    expect(rig, 0, 65536,
           "diagnosis: discard or zero ate a neighbour: operation 2 (discard offset=4096 bytes=4096) "
           "went beyond its range: sector 16 is zero and lies 0 bytes behind it");
    rig_close(rig);
}

TEST(zero_eats_the_neighbour_before)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 65536, 1);
    assert_int_equal(node_zero(rig->v, 4096, 4096, 0), 0);
    assert_int_equal(node_zero(rig->test, 3584, 512, 0), 0);
    expect(rig, 0, 65536,
           "diagnosis: discard or zero ate a neighbour: operation 2 (zero offset=4096 bytes=4096)");
    assert_said(rig, "sector 7 is zero and lies 0 bytes before it");
    rig_close(rig);
}

TEST(zero_written_after_is_no_neighbour)
{
    rig_open(rig, REPORT);
    assert_int_equal(node_zero(rig->v, 4096, 4096, 0), 0);
    put(rig->v, 0, 4096, 1); /* newer than the zero: that cannot have eaten it */
    assert_int_equal(node_zero(rig->test, 3584, 512, 0), 0);
    expect(rig, 3584, 512, "diagnosis: ");
    assert_null(strstr(rig->said, "ate a neighbour"));
    rig_close(rig);
}

TEST(zero_instead_of_data)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 8192, 1);
    put(rig->v, 0, 8192, 2);
    assert_int_equal(node_zero(rig->test, 2048, 1024, 0), 0);
    expect(rig, 0, 8192, "diagnosis: all zero: zeroes instead of data, in 1024 bytes from sector 4 on");
    rig_close(rig);
}

TEST(shifted)
{
    uint8_t buf[8192];

    rig_open(rig, REPORT);
    put(rig->v, 0, sizeof(buf), 1);
    assert_int_equal(node_read(rig->raw, 0, buf, sizeof(buf)), 0);
    memmove(buf + 2048, buf + 2048 + 3, 4096); /* byte i of the test holds what belongs at i + 3 */
    assert_int_equal(node_write(rig->test, 2048, buf + 2048, 4096, 0), 0);
    expect(rig, 0, 8192,
           "diagnosis: shifted: shifted by 3: byte 0 of sector 4 holds what belongs 3 bytes further on");
    rig_close(rig);
}

TEST(stuck_byte)
{
    uint8_t ff[100];

    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    fill(rig->v, 512, 512, 0x11);
    memset(ff, 0xff, sizeof(ff));
    assert_int_equal(node_write(rig->test, 600, ff, sizeof(ff), 0), 0);
    expect(rig, 0, 4096,
           "diagnosis: stuck byte: all 100 wrong bytes of sector 1, the first at offset 600, are 0xff");
    rig_close(rig);
}

TEST(stuck_bit)
{
    uint8_t buf[512];

    rig_open(rig, REPORT);
    put(rig->v, 0, 512, 1);
    assert_int_equal(node_read(rig->raw, 0, buf, sizeof(buf)), 0);
    for (size_t i = 0; i < sizeof(buf); i++) {
        buf[i] |= 0x04;
    }
    assert_int_equal(node_write(rig->test, 0, buf, sizeof(buf), 0), 0);
    expect(rig, 0, 512, "diagnosis: stuck byte: bit 2 is 1 in all ");
    rig_close(rig);
}

TEST(unknown)
{
    rig_open(rig, REPORT);
    put(rig->v, 0, 4096, 1);
    put(rig->test, 512, 512, 7);
    expect(rig, 0, 4096, "diagnosis: unknown: no known pattern");
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bit_flip),
        cmocka_unit_test(lost_write),
        cmocka_unit_test(lost_write_of_zeroes),
        cmocka_unit_test(lost_first_write_is_suspected),
        cmocka_unit_test(stale_read),
        cmocka_unit_test(torn_write),
        cmocka_unit_test(lost_write_of_which_a_half_was_written_again_is_not_torn),
        cmocka_unit_test(torn_write_seen_through_a_small_read),
        cmocka_unit_test(misdirected_write_by_history),
        cmocka_unit_test(misdirected_within_the_request),
        cmocka_unit_test(misdirected_near_by_in_the_reference),
        cmocka_unit_test(misdirected_by_an_address_bit),
        cmocka_unit_test(discard_eats_the_neighbour_behind),
        cmocka_unit_test(zero_eats_the_neighbour_before),
        cmocka_unit_test(zero_written_after_is_no_neighbour),
        cmocka_unit_test(zero_instead_of_data),
        cmocka_unit_test(shifted),
        cmocka_unit_test(stuck_byte),
        cmocka_unit_test(stuck_bit),
        cmocka_unit_test(unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
