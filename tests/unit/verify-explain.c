/* SPDX-License-Identifier: BSD-2-Clause */
/* Injected, legal or real: the verifier asks the nodes below before it reports. */
#include "verify_rig.h"

/* What the test side says it did: contents of one byte value in [from, to), or the result of every request.
 */
static struct {
    uint64_t from, to;
    int byte;   /* -1: any */
    int result; /* 0: none */
    struct explanation e;
    unsigned asked;
} story;

static bool tell(const struct node *n, const struct blame *b, struct explanation *ret)
{
    story.asked++;
    if (!b->data) {
        if (b->result != story.result) {
            return false;
        }
    } else if (b->offset < story.from || b->offset + b->bytes > story.to ||
               (story.byte >= 0 && *(const uint8_t *)b->data != story.byte)) {
        return false;
    }
    *ret = story.e;
    return true;
}

static void open_telling(struct rig *rig, const char *options)
{
    rig_open(rig, options);
    rig->on_test.drv.explain = tell;
    memset(&story, 0, sizeof(story));
    story.byte = -1;
    story.e = (struct explanation){.opno = 17, .node = "disk", .rule = "r1", .what = "lost write"};
}

static struct verify_counts counts(const struct rig *rig)
{
    struct verify_counts c;

    assert_int_equal(verify_counts(rig->v, &c), 0);
    return c;
}

TEST(an_explained_sector_is_injected_and_the_client_sees_it)
{
    open_telling(rig, "");
    fill(rig->raw, 3 * 512, 1024, 7); /* sectors 3 and 4 should be 7, and are 0 */
    story.from = 3 * 512;
    story.to = 5 * 512;
    assert_filled(rig->v, 0, 4096, 0);
    assert_int_equal(rig->g.mismatches, 0);
    assert_int_equal(rig->stops, 0);
    assert_int_equal(counts(rig).injected, 1); /* one run */
    assert_int_equal(counts(rig).injected_bytes, 1024);
    assert_string_equal(rig->said, "D blkverify: read sector_num=0 nb_sectors=8 injected in sectors 3 to 4: "
                                   "lost write (node disk, rule r1, operation 17)\n");
    assert_filled(rig->raw, 3 * 512, 1024, 7); /* nothing is learned from it */
    rig_close(rig);
}

TEST(nobody_is_asked_about_what_is_right)
{
    open_telling(rig, "");
    fill(rig->v, 0, 8192, 3);
    assert_filled(rig->v, 0, 8192, 3);
    assert_int_equal(story.asked, 0);
    rig_close(rig);
}

TEST(corruption_beside_the_injected_is_reported_alone)
{
    open_telling(rig, "\"on-mismatch\":\"report\"");
    fill(rig->raw, 0, 512, 7);
    fill(rig->raw, 6 * 512, 512, 8);
    story.to = 512;
    assert_int_equal(read_rc(rig->v, 0, 4096), 0);
    assert_int_equal(rig->g.mismatches, 1);
    assert_int_equal(counts(rig).injected, 1);
    assert_said(rig, "D blkverify: read sector_num=0 nb_sectors=8 injected in sector 0: lost write");
    assert_said(rig, "M blkverify: read sector_num=0 nb_sectors=8 contents mismatch in sector 6\n");
    assert_said(rig, "differing: 512 bytes in 1 run");
    rig_close(rig);
}

TEST(other_contents_than_those_explained_are_corruption)
{
    open_telling(rig, "\"on-mismatch\":\"report\"");
    fill(rig->raw, 0, 1024, 7);
    fill(rig->test, 512, 512, 9);
    story.to = 1024;
    story.byte = 0;
    assert_int_equal(read_rc(rig->v, 0, 1024), 0);
    assert_int_equal(rig->g.mismatches, 1);
    assert_said(rig, "contents mismatch in sector 1");
    rig_close(rig);
}

TEST(what_a_power_cut_took_is_legal_once_and_then_the_contents)
{
    open_telling(rig, "");
    fill(rig->raw, 512, 512, 7);
    story.to = 4096;
    story.e = (struct explanation){.legal = true, .opno = 40, .node = "wc", .what = "power cut"};
    assert_filled(rig->v, 0, 1024, 0);
    assert_int_equal(counts(rig).legal, 1);
    assert_int_equal(counts(rig).legal_bytes, 512);
    assert_int_equal(counts(rig).injected, 0);
    assert_string_equal(rig->said, "D blkverify: read sector_num=0 nb_sectors=2 legal in sector 1: "
                                   "power cut (node wc, operation 40)\n");
    assert_filled(rig->raw, 512, 512, 0); /* pinned */
    forget_said(rig);
    assert_filled(rig->v, 0, 1024, 0);
    assert_quiet(rig);
    fill(rig->test, 512, 512, 7); /* what came back is illegal */
    story.to = 0;
    assert_int_equal(read_rc(rig->v, 512, 512), -EIO);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(an_injected_result_is_no_return_value_mismatch)
{
    open_telling(rig, "");
    story.result = -EIO;
    story.e.what = "error";
    rig->on_test.fail[REQ_READ] = -EIO;
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    rig->on_test.fail[REQ_READ] = -ENOSPC;
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO); /* that was not told: corruption, on-mismatch=stop */
    assert_int_equal(rig->g.mismatches, 1);
    assert_int_equal(counts(rig).injected, 1);
    assert_said(rig, "D blkverify: read sector_num=0 nb_sectors=1 injected result Input/output error: error "
                     "(node disk, rule "
                     "r1, operation 17)\n");
    assert_said(rig, "return value mismatch -28 != 0");
    rig_close(rig);
}

/* Two sectors of 1; an injected error fails their overwriting with 2. */
static co_fn void fail_overwriting(struct rig *rig)
{
    char new[1024];

    memset(new, 2, sizeof(new));
    fill(rig->v, 0, 1024, 1);
    story.result = -EIO;
    rig->on_test.fail[REQ_WRITE] = -EIO;
    assert_int_equal(node_write(rig->v, 0, new, sizeof(new), 0), -EIO);
    rig->on_test.fail[REQ_WRITE] = 0;
}

TEST(a_write_that_an_injected_error_failed_leaves_old_or_new)
{
    open_telling(rig, "");
    fail_overwriting(rig);
    fill(rig->test, 512, 512, 2); /* it was torn: its second sector is there */
    assert_filled(rig->v, 0, 512, 1);
    assert_filled(rig->v, 512, 512, 2);
    assert_int_equal(rig->g.mismatches, 0);
    fill(rig->test, 0, 512, 2); /* shown once, it may not change any more */
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

/* The device holds the older of two versions it may hold; the stale read shows a third. */
TEST(what_is_injected_is_not_pinned)
{
    open_telling(rig, "");
    fail_overwriting(rig);
    story.to = 512;
    story.byte = 1;
    assert_filled(rig->v, 0, 512, 1); /* says who knows: I showed that */
    story.to = 0;
    fill(rig->test, 0, 512, 2);
    assert_filled(rig->v, 0, 512, 2); /* it had been done */
    assert_int_equal(rig->g.mismatches, 0);
    rig_close(rig);
}

TEST(a_policy_of_its_own)
{
    open_telling(rig, "\"on-mismatch\":\"report\",\"on-injected\":\"stop\"");
    fill(rig->raw, 0, 512, 7);
    story.to = 512;
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(rig->stops, 1);
    assert_true(rig->g.injected_stop);
    assert_int_equal(rig->g.mismatches, 0);
    rig_close(rig);
}

TEST(lines_are_bounded_and_counters_are_not)
{
    open_telling(rig, "");
    fill(rig->raw, 0, 512, 7);
    story.to = 512;
    for (int i = 0; i < 150; i++) {
        assert_filled(rig->v, 0, 512, 0);
    }
    unsigned lines = 0;
    for (const char *p = rig->said; (p = strchr(p, '\n')); p++) {
        lines++;
    }
    assert_int_equal(lines, 101);
    assert_said(rig, "goes to the report and the counters only");
    assert_int_equal(counts(rig).injected, 150);
    forget_said(rig);
    rig_close(rig);
    assert_said(rig, "150 injected, 0 legal after a power cut, 0 corruptions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_explained_sector_is_injected_and_the_client_sees_it),
        cmocka_unit_test(nobody_is_asked_about_what_is_right),
        cmocka_unit_test(corruption_beside_the_injected_is_reported_alone),
        cmocka_unit_test(other_contents_than_those_explained_are_corruption),
        cmocka_unit_test(what_a_power_cut_took_is_legal_once_and_then_the_contents),
        cmocka_unit_test(an_injected_result_is_no_return_value_mismatch),
        cmocka_unit_test(a_write_that_an_injected_error_failed_leaves_old_or_new),
        cmocka_unit_test(what_is_injected_is_not_pinned),
        cmocka_unit_test(a_policy_of_its_own),
        cmocka_unit_test(lines_are_bounded_and_counters_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
