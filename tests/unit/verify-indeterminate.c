/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the test device may legally show more than one thing, and where it may not any more. */
#include "verify_rig.h"

#define REPORT "\"on-mismatch\":\"report\""

static struct verify_counts counts(const struct rig *rig)
{
    struct verify_counts c;

    assert_int_equal(verify_counts(rig->v, &c), 0);
    return c;
}

/* A write that fails on both sides alike, having done what @arg says: bytes of it from the start. */
static co_fn bool fail_after(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_WRITE) {
        return false;
    }
    if (t->arg > 0) {
        struct req part = *r;
        struct iovec iov = {r->iov[0].iov_base, MIN(t->arg, r->bytes)};
        part.bytes = iov.iov_len;
        part.iov = &iov;
        part.niov = 1;
        t->below->io(n, &part);
    }
    *ret_rc = -EIO;
    return true;
}

/* The write of @byte fails alike; @test_done and @raw_done bytes of it happened. */
static co_fn void failed_write(struct rig *rig, uint64_t offset, uint64_t bytes, int byte, uint64_t test_done,
                               uint64_t raw_done)
{
    char *buf = malloc(bytes);

    memset(buf, byte, bytes);
    rig->on_test.play = rig->on_raw.play = fail_after;
    rig->on_test.arg = test_done;
    rig->on_raw.arg = raw_done;
    assert_int_equal(node_write(rig->v, offset, buf, bytes, 0), -EIO);
    rig->on_test.play = rig->on_raw.play = NULL;
    free(buf);
}

TEST(failed_write_may_show_old)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 1);
    failed_write(rig, 0, 4096, 2, 0, 4096);
    assert_filled(rig->v, 0, 4096, 1);
    assert_filled(rig->raw, 0, 4096, 1); /* pinned */
    assert_int_equal(counts(rig).unverified_bytes, 0);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(failed_write_may_show_new)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 1);
    failed_write(rig, 0, 4096, 2, 4096, 0);
    assert_filled(rig->v, 0, 4096, 2);
    assert_filled(rig->raw, 0, 4096, 2);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(partial_write_may_show_some_of_each)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 1);
    failed_write(rig, 0, 4096, 2, 1024, 3072);
    assert_filled(rig->v, 0, 1024, 2);
    assert_filled(rig->v, 1024, 3072, 1);
    assert_filled(rig->raw, 0, 1024, 2);
    assert_filled(rig->raw, 1024, 3072, 1);
    assert_int_equal(counts(rig).indeterminate_ranges, 0);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(failed_write_may_not_show_anything_else)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 4096, 1);
    failed_write(rig, 0, 4096, 2, 0, 4096);
    fill(rig->test, 2048, 512, 3);
    assert_int_equal(read_rc(rig->v, 0, 4096), 0);
    assert_said(rig, "contents mismatch in sector 4\n");
    assert_said(rig, "512 bytes in 1 run");
    assert_filled(rig->raw, 0, 2048, 1); /* the legal ones are pinned all the same */
    assert_filled(rig->raw, 2560, 1536, 1);
    rig_close(rig);
}

TEST(what_was_shown_is_pinned)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    failed_write(rig, 0, 512, 2, 0, 512);
    assert_filled(rig->v, 0, 512, 1);
    fill(rig->test, 0, 512, 2); /* legal before that read, not after it */
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(equal_data_is_pinned_too)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    failed_write(rig, 0, 512, 2, 512, 512);
    assert_filled(rig->v, 0, 512, 2);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(two_failed_writes_may_show_any_of_three)
{
    for (int shown = 1; shown <= 3; shown++) {
        rig_open(rig, "");
        fill(rig->v, 0, 512, 1);
        failed_write(rig, 0, 512, 2, 0, 0);
        failed_write(rig, 0, 512, 3, 0, 0);
        fill(rig->test, 0, 512, shown);
        assert_filled(rig->v, 0, 512, shown);
        assert_quiet(rig);
        rig_close(rig);
    }
}

TEST(a_good_write_ends_it)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 1536, 1);
    failed_write(rig, 0, 1536, 2, 0, 1536);
    fill(rig->v, 512, 512, 3);
    assert_int_equal(counts(rig).indeterminate_ranges, 2);
    fill(rig->test, 512, 512, 2);
    assert_int_equal(read_rc(rig->v, 0, 1536), 0);
    assert_said(rig, "contents mismatch in sector 1\n");
    rig_close(rig);
}

/* Nothing is known of the old contents: anything goes, and is counted. */
TEST(forgotten_old_contents_are_believed_and_counted)
{
    rig_open(rig, "");
    failed_write(rig, 0, 1024, 2, 0, 0);
    fill(rig->test, 0, 512, 0x77);
    assert_filled(rig->v, 0, 512, 0x77);
    assert_int_equal(counts(rig).unverified_bytes, 512);
    assert_filled(rig->raw, 0, 512, 0x77);
    assert_quiet(rig);
    rig_close(rig);
    assert_said(rig, "W blkverify: 512 bytes were believed");
}

TEST(evicted_old_contents_are_believed_and_counted)
{
    rig_open(rig, "\"history\":16");
    fill(rig->v, 0, 512, 1);
    for (int i = 0; i < 20; i++) {
        fill(rig->v, 8192, 512, i);
    }
    failed_write(rig, 0, 512, 2, 0, 512);
    assert_filled(rig->v, 0, 512, 1);
    assert_int_equal(counts(rig).unverified_bytes, 512);
    assert_quiet(rig);
    rig_close(rig);
}

/* The test device alone fails: a mismatch, and then the sector may be either. */
TEST(one_sided_failure_leaves_the_sector_indeterminate)
{
    for (int policy = 0; policy < 2; policy++) {
        char c[512] = {2};
        rig_open(rig, policy ? REPORT : "\"on-mismatch\":\"error\"");
        fill(rig->v, 0, 512, 1);
        rig->on_test.fail[REQ_WRITE] = -ENOSPC;
        assert_int_equal(node_write(rig->v, 0, c, 512, 0), policy ? -ENOSPC : -EIO);
        rig->on_test.fail[REQ_WRITE] = 0;
        assert_int_equal(rig->g.mismatches, 1);
        assert_filled(rig->v, 0, 512, 1);
        assert_filled(rig->raw, 0, 512, 1);
        assert_int_equal(rig->g.mismatches, 1);
        rig_close(rig);
    }
}

/* Found by the soak, seed 2: the short last sector is indeterminate, and then the device grows. */
TEST(growing_decides_nothing_about_a_short_last_sector)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "", 1000, 1000, &err), 0);
    fill(rig->v, 512, 488, 1);
    failed_write(rig, 512, 488, 2, 0, 488);
    assert_int_equal(node_truncate(rig->v, 4096, 0, NULL), 0);
    assert_filled(rig->v, 512, 488, 1);
    assert_filled(rig->v, 1000, 3096, 0);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(a_sector_that_was_cut_is_no_longer_known)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 1);
    assert_int_equal(node_truncate(rig->v, 1000, 0, NULL), 0);
    failed_write(rig, 512, 488, 2, 0, 488);
    assert_filled(rig->v, 512, 488, 1);
    assert_int_equal(counts(rig).unverified_bytes, 488);
    assert_quiet(rig);
    rig_close(rig);
}

/* A zero without fallback that stops at what the device cannot do has been done in part. */
static co_fn bool zero_half(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_ZERO) {
        return false;
    }
    struct req half = *r;
    half.bytes /= 2;
    t->below->io(n, &half);
    *ret_rc = -ENOTSUP;
    return true;
}

TEST(an_unsupported_zero_may_be_done_in_part)
{
    rig_open(rig, "");
    fill(rig->v, 0, 8192, 5);
    rig->on_test.play = zero_half;
    assert_int_equal(node_zero(rig->v, 0, 8192, REQ_NO_FALLBACK), -ENOTSUP);
    rig->on_test.play = NULL;
    assert_filled(rig->v, 0, 4096, 0);
    assert_filled(rig->v, 4096, 4096, 5);
    assert_quiet(rig);
    rig_close(rig);
}

/* ---- discards ---- */

TEST(discarded_data_may_be_anything_at_every_read)
{
    rig_open(rig, "");
    fill(rig->v, 0, 8192, 1);
    assert_int_equal(node_discard(rig->v, 0, 4096), 0);
    for (int i = 0; i < 3; i++) {
        fill(rig->test, 0, 4096, i + 10);
        assert_filled(rig->v, 0, 4096, i + 10);
    }
    assert_int_equal(counts(rig).discarded_bytes, 3 * 4096);
    assert_int_equal(counts(rig).unverified_bytes, 0);
    rig_close(rig);
    assert_quiet(rig);
}

TEST(discard_reaches_no_further_than_its_range)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 8192, 1);
    assert_int_equal(node_discard(rig->v, 0, 4096), 0);
    fill(rig->test, 4096, 512, 0);
    assert_int_equal(read_rc(rig->v, 0, 8192), 0);
    assert_said(rig, "contents mismatch in sector 8\n");
    assert_said(rig, "diagnosis: discard or zero ate a neighbour");
    rig_close(rig);
}

TEST(a_write_after_a_discard_counts)
{
    rig_open(rig, REPORT);
    assert_int_equal(node_discard(rig->v, 0, 1 * MiB), 0);
    fill(rig->v, 4096, 4096, 7);
    fill(rig->test, 5000, 1, 8);
    assert_int_equal(read_rc(rig->v, 0, 65536), 0);
    assert_said(rig, "contents mismatch in sector 9\n");
    assert_said(rig, "first difference at byte offset 5000,");
    rig_close(rig);
}

TEST(discard_stable_pins_at_the_first_read)
{
    rig_open(rig, REPORT ",\"discard-stable\":true");
    fill(rig->v, 0, 8192, 1);
    assert_int_equal(node_discard(rig->v, 0, 4096), 0);
    fill(rig->test, 0, 4096, 10);
    assert_filled(rig->v, 0, 4096, 10);
    assert_filled(rig->raw, 0, 4096, 10);
    assert_quiet(rig);
    fill(rig->test, 0, 4096, 11);
    assert_int_equal(read_rc(rig->v, 0, 4096), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

/* ---- what was not flushed ---- */

TEST(reconnect_may_lose_what_was_not_flushed)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    assert_int_equal(node_flush(rig->v), 0);
    fill(rig->v, 0, 512, 2);
    fill(rig->v, 0, 512, 3);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 2);
    assert_filled(rig->v, 0, 512, 2);
    assert_filled(rig->raw, 0, 512, 2);
    assert_quiet(rig);
    fill(rig->test, 0, 512, 1); /* pinned meanwhile */
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(reconnect_may_go_back_to_what_was_flushed_and_no_further)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    fill(rig->v, 512, 512, 1);
    fill(rig->v, 0, 512, 2);
    assert_int_equal(node_flush(rig->v), 0);
    fill(rig->v, 0, 512, 3);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 2);
    assert_filled(rig->v, 0, 512, 2);
    assert_quiet(rig);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(reconnect_may_not_lose_what_was_flushed)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    fill(rig->v, 0, 512, 2);
    assert_int_equal(node_flush(rig->v), 0);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    assert_said(rig, "diagnosis: lost write");
    rig_close(rig);
}

/* With cache.no-flush below, a flush makes nothing durable. */
TEST(ignored_flushes_save_nothing)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "\"cache.no-flush\":true", 4096, 4096, &err), 0);
    fill(rig->v, 0, 512, 1);
    fill(rig->v, 0, 512, 2);
    assert_int_equal(node_flush(rig->v), 0);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 1);
    assert_filled(rig->v, 0, 512, 1);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(reconnect_may_not_lose_a_fua_write)
{
    char c[512];

    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    memset(c, 2, sizeof(c));
    assert_int_equal(node_write(rig->v, 0, c, 512, REQ_FUA), 0);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

/* A flush that began after the loss makes nothing durable that is gone. */
TEST(a_flush_after_the_loss_does_not_bring_it_back)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    assert_int_equal(node_flush(rig->v), 0);
    fill(rig->v, 0, 512, 2);
    fill(rig->test, 0, 512, 1);
    node_reconnected(rig->test);
    assert_int_equal(node_flush(rig->v), 0);
    assert_filled(rig->v, 0, 512, 1);
    assert_quiet(rig);
    rig_close(rig);
}

/* The device loses the write, the connection comes back, and only then does the answer arrive. */
static co_fn bool reconnect_in_write(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_WRITE) {
        return false;
    }
    node_reconnected(n);
    *ret_rc = 0;
    return true;
}

TEST(a_write_in_flight_during_a_reconnect_may_be_lost)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    assert_int_equal(node_flush(rig->v), 0);
    rig->on_test.play = reconnect_in_write;
    fill(rig->v, 0, 512, 2);
    rig->on_test.play = NULL;
    assert_filled(rig->v, 0, 512, 1);
    assert_quiet(rig);
    rig_close(rig);
}

/* As before, but somebody else notices the reconnect while the write is still in flight. */
static co_fn bool reconnect_seen_in_write(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_WRITE) {
        return false;
    }
    node_reconnected(n);
    assert_int_equal(node_flush(rig_now->v), 0);
    *ret_rc = 0;
    return true;
}

TEST(a_write_answered_after_the_reconnect_was_seen_may_be_lost)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    assert_int_equal(node_flush(rig->v), 0);
    rig->on_test.play = reconnect_seen_in_write;
    fill(rig->v, 0, 512, 2);
    rig->on_test.play = NULL;
    assert_filled(rig->v, 0, 512, 1);
    assert_quiet(rig);
    rig_close(rig);
}

/* A reconnect is over for what is written after it. */
TEST(a_write_after_the_reconnect_counts)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    node_reconnected(rig->test);
    fill(rig->v, 0, 512, 2);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(a_reconnect_elsewhere_changes_nothing)
{
    struct node *other = NULL;

    rig_open(rig, REPORT);
    assert_int_equal(node_open_name(&rig->g, "json:{\"driver\":\"mem\"}", NULL, OPEN_WRITE, &other, NULL), 0);
    fill(rig->v, 0, 512, 1);
    fill(rig->v, 0, 512, 2);
    node_reconnected(other);
    fill(rig->test, 0, 512, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    node_unref(other);
    rig_close(rig);
}

TEST(failed_flush_may_lose_what_it_should_have_saved)
{
    rig_open(rig, REPORT);
    fill(rig->v, 0, 512, 1);
    assert_int_equal(node_flush(rig->v), 0);
    fill(rig->v, 0, 512, 2);
    rig->on_test.fail[REQ_FLUSH] = rig->on_raw.fail[REQ_FLUSH] = -EIO;
    assert_int_equal(node_flush(rig->v), -EIO);
    fill(rig->test, 0, 512, 1);
    assert_filled(rig->v, 0, 512, 1);
    assert_quiet(rig);
    rig_close(rig);
}

/* The history is too short to know what was not flushed: a coarse map still does. */
TEST(unflushed_writes_that_the_history_forgot_may_be_lost)
{
    rig_open(rig, "\"history\":16");
    for (int i = 0; i < 40; i++) {
        fill(rig->v, i * 4096, 4096, 1);
    }
    node_reconnected(rig->test);
    fill(rig->test, 0, 40 * 4096, 0);
    assert_filled(rig->v, 0, 40 * 4096, 0);
    assert_true(counts(rig).unverified_bytes >= 24 * 4096);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(flushed_writes_that_the_history_forgot_may_not)
{
    rig_open(rig, REPORT ",\"history\":16");
    for (int i = 0; i < 40; i++) {
        fill(rig->v, i * 4096, 4096, 1);
    }
    assert_int_equal(node_flush(rig->v), 0);
    node_reconnected(rig->test);
    fill(rig->test, 0, 512, 0);
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

/* ---- bounds, concurrency ---- */

TEST(the_bound_is_said_once_and_raises_no_false_alarm)
{
    rig_open(rig, "\"indeterminate\":2");
    fill(rig->v, 0, 1 * MiB, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(node_discard(rig->v, (uint64_t)i * 65536, 4096), 0);
        fill(rig->test, (uint64_t)i * 65536, 4096, 0x33);
    }
    assert_int_equal(read_rc(rig->v, 0, 1 * MiB), 0);
    assert_int_equal(rig->g.mismatches, 0);
    const char *said = strstr(rig->said, "W blkverify: more than 2 separate ranges are indeterminate");
    assert_non_null(said);
    assert_null(strstr(said + 1, "W "));
    rig_close(rig);
}

/* The reference answers the first read late: the second one has pinned the place by then. */
static co_fn bool slow_first_read(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op != REQ_READ || t->arg++ > 0) {
        return false;
    }
    *ret_rc = t->below->io(n, r);
    for (int i = 0; i < 50; i++) {
        co_yield ();
    }
    return true;
}

static co_fn int read_job(void *arg)
{
    struct rig *rig = arg;
    assert_filled(rig->v, 0, 4096, 1);
    return 0;
}

TEST(two_reads_of_one_indeterminate_place)
{
    struct co_group group;
    struct co_task a;

    rig_open(rig, "");
    fill(rig->v, 0, 4096, 1);
    failed_write(rig, 0, 4096, 2, 0, 4096);
    rig->on_raw.play = slow_first_read;
    rig->on_raw.arg = 0;
    co_group_init(&group);
    co_group_start(&group, &a, read_job, rig);
    assert_filled(rig->v, 0, 4096, 1);
    co_group_wait(&group);
    assert_quiet(rig);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_write_may_show_old),
        cmocka_unit_test(failed_write_may_show_new),
        cmocka_unit_test(partial_write_may_show_some_of_each),
        cmocka_unit_test(failed_write_may_not_show_anything_else),
        cmocka_unit_test(what_was_shown_is_pinned),
        cmocka_unit_test(equal_data_is_pinned_too),
        cmocka_unit_test(two_failed_writes_may_show_any_of_three),
        cmocka_unit_test(a_good_write_ends_it),
        cmocka_unit_test(forgotten_old_contents_are_believed_and_counted),
        cmocka_unit_test(evicted_old_contents_are_believed_and_counted),
        cmocka_unit_test(one_sided_failure_leaves_the_sector_indeterminate),
        cmocka_unit_test(growing_decides_nothing_about_a_short_last_sector),
        cmocka_unit_test(a_sector_that_was_cut_is_no_longer_known),
        cmocka_unit_test(an_unsupported_zero_may_be_done_in_part),
        cmocka_unit_test(discarded_data_may_be_anything_at_every_read),
        cmocka_unit_test(discard_reaches_no_further_than_its_range),
        cmocka_unit_test(a_write_after_a_discard_counts),
        cmocka_unit_test(discard_stable_pins_at_the_first_read),
        cmocka_unit_test(reconnect_may_lose_what_was_not_flushed),
        cmocka_unit_test(reconnect_may_go_back_to_what_was_flushed_and_no_further),
        cmocka_unit_test(reconnect_may_not_lose_what_was_flushed),
        cmocka_unit_test(ignored_flushes_save_nothing),
        cmocka_unit_test(reconnect_may_not_lose_a_fua_write),
        cmocka_unit_test(a_flush_after_the_loss_does_not_bring_it_back),
        cmocka_unit_test(a_write_in_flight_during_a_reconnect_may_be_lost),
        cmocka_unit_test(a_write_answered_after_the_reconnect_was_seen_may_be_lost),
        cmocka_unit_test(a_write_after_the_reconnect_counts),
        cmocka_unit_test(a_reconnect_elsewhere_changes_nothing),
        cmocka_unit_test(failed_flush_may_lose_what_it_should_have_saved),
        cmocka_unit_test(unflushed_writes_that_the_history_forgot_may_be_lost),
        cmocka_unit_test(flushed_writes_that_the_history_forgot_may_not),
        cmocka_unit_test(the_bound_is_said_once_and_raises_no_false_alarm),
        cmocka_unit_test(two_reads_of_one_indeterminate_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
