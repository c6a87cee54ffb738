/* SPDX-License-Identifier: BSD-2-Clause */
/* The verify driver: what reaches which side, what is compared, what is said, what happens then. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "verify_rig.h"

TEST(identical_sides_read_clean)
{
    rig_open(rig, "");
    fill(rig->v, 0, 8192, 0xcd);
    assert_filled(rig->v, 0, 8192, 0xcd);
    assert_filled(rig->raw, 0, 8192, 0xcd);
    assert_filled(rig->test, 0, 8192, 0xcd);
    assert_quiet(rig);
    rig_close(rig);
}

/* The tutorial of blkverify: 0xcd in sector 0 of the raw copy, a zeroed test device. */
TEST(first_line_is_blkverifys)
{
    rig_open(rig, "");
    fill(rig->raw, 0, 512, 0xcd);
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_ptr_equal(
        strstr(rig->said, "M blkverify: read sector_num=0 nb_sectors=1 contents mismatch in sector 0\n"),
        rig->said);
    assert_said(rig, "first difference at byte offset 0,");
    assert_said(rig, "512 bytes in 1 run");
    assert_said(rig, "cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd cd *| 00 00 00 00");
    assert_said(rig, "diagnosis: all zero");
    assert_int_equal(rig->g.mismatches, 1);
    assert_int_equal(rig->stops, 1);
    rig_close(rig);
}

TEST(numbers_are_those_asked_at_the_gate)
{
    rig_open(rig, "");
    fill(rig->raw, 5 * 512 + 7, 1, 1);
    assert_int_equal(read_rc(rig->v, 3 * 512 + 100, 2000), -EIO); /* bytes 1636 to 3635: sectors 3 to 7 */
    assert_said(rig, "M blkverify: read sector_num=3 nb_sectors=5 contents mismatch in sector 5\n");
    assert_said(rig, "first difference at byte offset 2567,"); /* 5 * 512 + 7 */
    rig_close(rig);
}

TEST(standin_says_one_line_in_bytes)
{
    rig_open(rig, "");
    rig->g.standin = true;
    fill(rig->raw, 1000, 1, 1);
    assert_int_equal(read_rc(rig->v, 512, 1024), -EIO);
    assert_string_equal(rig->said,
                        "M blkverify: read offset=512 bytes=1024 contents mismatch at offset 1000\n");
    rig_close(rig);
}

TEST(runs_are_listed_with_their_lengths)
{
    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->test, 1024, 3, 1);
    fill(rig->test, 2000, 40, 2);
    assert_int_equal(read_rc(rig->v, 0, 4096), 0);
    assert_said(rig, "43 bytes in 2 runs");
    assert_said(rig, "offset 1024, 3 bytes");
    assert_said(rig, "offset 2000, 40 bytes");
    rig_close(rig);
}

TEST(less_than_8_equal_bytes_do_not_end_a_run)
{
    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->test, 100, 1, 1);
    fill(rig->test, 108, 1, 1); /* 7 equal bytes between */
    fill(rig->test, 117, 1, 1); /* 8 */
    assert_int_equal(read_rc(rig->v, 0, 512), 0);
    assert_said(rig, "3 bytes in 2 runs");
    assert_said(rig, "offset 100, 9 bytes");
    assert_said(rig, "offset 117, 1 byte");
    rig_close(rig);
}

TEST(large_read_reports_the_first_difference_of_all_pieces)
{
    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->test, 1500000, 1, 9);
    fill(rig->test, 2500000, 1, 9);
    assert_int_equal(read_rc(rig->v, 0, 3 * MiB), 0);
    assert_said(rig, "M blkverify: read sector_num=0 nb_sectors=6144 contents mismatch in sector 2929\n");
    assert_said(rig, "offset 2500000, 1 byte");
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(stop_ends_all_io)
{
    rig_open(rig, "");
    fill(rig->test, 0, 1, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    unsigned writes = rig->on_test.calls[REQ_WRITE];
    char c = 0;
    assert_int_equal(node_write(rig->v, 8192, &c, 1, 0), -EIO);
    assert_int_equal(rig->on_test.calls[REQ_WRITE], writes);
    assert_int_equal(node_flush(rig->v), 0); /* what was acknowledged before is to be on both sides */
    assert_int_equal(rig->on_test.calls[REQ_FLUSH], 1);
    assert_int_equal(rig->stops, 1);
    rig_close(rig);
}

TEST(error_policy_fails_the_read_and_goes_on)
{
    rig_open(rig, "\"on-mismatch\":\"error\"");
    fill(rig->test, 0, 1, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(read_rc(rig->v, 512, 512), 0);
    assert_int_equal(rig->stops, 0);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

TEST(report_policy_gives_the_test_devices_data)
{
    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->test, 0, 512, 0x77);
    assert_filled(rig->v, 0, 512, 0x77);
    assert_int_equal(rig->g.mismatches, 1);
    rig_close(rig);
}

static co_fn int late_read(void *arg)
{
    struct rig *rig = arg;
    return read_rc(rig->v, 65536, 512);
}

static co_fn int bad_read(void *arg)
{
    struct rig *rig = arg;
    return read_rc(rig->v, 0, 512);
}

TEST(pause_policy_holds_until_released)
{
    struct co_group group;
    struct co_task bad, late;
    uint64_t opno = 0;

    rig_open(rig, "\"on-mismatch\":\"pause\"");
    fill(rig->test, 0, 1, 1);
    co_group_init(&group);
    co_group_start(&group, &bad, bad_read, rig);
    while (!verify_is_paused(rig->v, &opno)) {
        co_yield ();
    }
    assert_int_equal(opno, 1);
    co_group_start(&group, &late, late_read, rig);
    for (int i = 0; i < 100; i++) {
        co_yield ();
    }
    assert_int_equal(node_in_flight(rig->v), 2); /* both are held */
    verify_release(rig->v);
    co_group_wait(&group);
    assert_int_equal(bad.result, 0);
    assert_int_equal(late.result, 0);
    assert_false(verify_is_paused(rig->v, NULL));
    rig_close(rig);
}

TEST(one_side_failing_is_a_mismatch)
{
    rig_open(rig, "\"on-mismatch\":\"error\"");
    rig->on_test.fail[REQ_READ] = -EIO;
    assert_int_equal(read_rc(rig->v, 1024, 1024), -EIO);
    assert_said(rig, "M blkverify: read sector_num=2 nb_sectors=2 return value mismatch -5 != 0\n");
    rig->on_test.fail[REQ_READ] = 0;
    rig->on_raw.fail[REQ_WRITE] = -ENOSPC;
    char c[512] = {0};
    assert_int_equal(node_write(rig->v, 0, c, 512, 0), -EIO);
    assert_said(rig, "M blkverify: write sector_num=0 nb_sectors=1 return value mismatch 0 != -28\n");
    rig_close(rig);
}

TEST(standin_return_mismatch_is_in_bytes)
{
    rig_open(rig, "\"on-mismatch\":\"error\"");
    rig->g.standin = true;
    rig->on_test.fail[REQ_WRITE] = -EIO;
    char c[512] = {0};
    assert_int_equal(node_write(rig->v, 512, c, 512, 0), -EIO);
    assert_string_equal(rig->said, "M blkverify: write offset=512 bytes=512 return value mismatch -5 != 0\n");
    rig_close(rig);
}

/* QEMU's blkverify compares two buffers that nobody filled. */
TEST(both_sides_failing_alike_is_the_devices_error)
{
    rig_open(rig, "");
    rig->on_test.fail[REQ_READ] = rig->on_raw.fail[REQ_READ] = -EIO;
    assert_int_equal(read_rc(rig->v, 0, 4096), -EIO);
    assert_int_equal(read_rc(rig->v, 0, 2 * MiB), -EIO);
    rig->on_test.fail[REQ_FLUSH] = rig->on_raw.fail[REQ_FLUSH] = -ENOSPC;
    assert_int_equal(node_flush(rig->v), -ENOSPC);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(flush_error_of_either_side_is_seen)
{
    rig_open(rig, "\"on-mismatch\":\"error\"");
    rig->on_raw.fail[REQ_FLUSH] = -EIO;
    assert_int_equal(node_flush(rig->v), -EIO);
    assert_said(rig, "M blkverify: flush sector_num=0 nb_sectors=0 return value mismatch 0 != -5\n");
    rig_close(rig);
}

TEST(everything_that_changes_reaches_both_sides)
{
    char c[4096] = {1};

    rig_open(rig, "");
    assert_int_equal(node_write(rig->v, 0, c, sizeof(c), REQ_FUA), 0);
    assert_int_equal(node_zero(rig->v, 4096, 4096, REQ_UNMAP), 0);
    assert_int_equal(node_zero(rig->v, 8192, 4096, REQ_NO_FALLBACK), 0);
    assert_int_equal(node_discard(rig->v, 0, 4096), 0);
    assert_int_equal(node_flush(rig->v), 0);
    assert_int_equal(node_truncate(rig->v, 5 * MiB, 0, NULL), 0);
    for (enum req_op op = 0; op < REQ_OP_COUNT; op++) {
        assert_int_equal(rig->on_test.calls[op], rig->on_raw.calls[op]);
    }
    assert_int_equal(rig->on_raw.calls[REQ_WRITE], 1);
    assert_int_equal(rig->on_raw.calls[REQ_ZERO], 2);
    assert_int_equal(rig->on_raw.calls[REQ_DISCARD], 1);
    assert_int_equal(rig->on_raw.calls[REQ_FLUSH], 1);
    assert_int_equal(node_size(rig->raw), 5 * MiB);
    assert_int_equal(node_size(rig->v), 5 * MiB);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(zero_that_the_test_device_cannot_do_is_not_done_to_the_reference)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 5);
    rig->on_test.fail[REQ_ZERO] = -ENOTSUP;
    assert_int_equal(node_zero(rig->v, 0, 4096, REQ_NO_FALLBACK), -ENOTSUP);
    assert_filled(rig->v, 0, 4096, 5);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(zero_that_the_reference_cannot_do_is_no_mismatch)
{
    rig_open(rig, "");
    fill(rig->v, 0, 4096, 5);
    rig->on_raw.fail[REQ_ZERO] = -ENOTSUP;
    assert_int_equal(node_zero(rig->v, 0, 4096, REQ_NO_FALLBACK), 0);
    assert_filled(rig->v, 0, 4096, 0);
    assert_quiet(rig);
    rig_close(rig);
}

/* Only the test device compresses; what it cannot compress is not written to the reference either. */
static co_fn bool compress_some(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (!(r->flags & REQ_COMPRESSED)) {
        return false;
    }
    assert_ptr_equal(n, rig_now->test);
    *ret_rc = -ENOTSUP;
    return r->offset == 0;
}

TEST(compressed_writes_are_plain_ones_for_the_reference)
{
    char c[4096];

    rig_open(rig, "");
    memset(c, 7, sizeof(c));
    rig->test->limits.supported |= REQ_COMPRESSED;
    rig->v->limits.supported |= REQ_COMPRESSED;
    rig->on_test.play = rig->on_raw.play = compress_some;
    assert_int_equal(node_write(rig->v, 0, c, sizeof(c), REQ_COMPRESSED), -ENOTSUP);
    assert_int_equal(node_write(rig->v, 4096, c, sizeof(c), REQ_COMPRESSED), 0);
    assert_filled(rig->v, 0, 4096, 0);
    assert_filled(rig->v, 4096, 4096, 7);
    assert_filled(rig->raw, 4096, 4096, 7);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(block_status_is_the_test_devices)
{
    struct extent e;

    rig_open(rig, "");
    fill(rig->test, 0, 65536, 1);
    assert_int_equal(node_status(rig->v, 0, 1 * MiB, &e), 0);
    assert_true(e.data);
    assert_int_equal(e.bytes, 65536);
    assert_int_equal(node_status(rig->v, 65536, 65536, &e), 0);
    assert_true(e.zero);
    assert_int_equal(rig->on_raw.calls[REQ_STATUS], 0);
    rig_close(rig);
}

TEST(lengths_are_compared_at_open)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "", 4096, 8192, &err), -EINVAL);
    assert_non_null(strstr(err.text, "has 4096 bytes"));
    assert_non_null(strstr(err.text, "has 8192"));
    assert_true(list_empty(&rig->g.nodes));
    assert_int_equal(rig_try(rig, "\"length\":\"prefix\"", 4096, 8192, &err), 0);
    assert_int_equal(node_size(rig->v), 4096);
    rig_close(rig);
}

TEST(a_length_that_is_no_whole_number_of_sectors_works)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "", 1000, 1000, &err), 0);
    fill(rig->v, 0, 1000, 3);
    assert_filled(rig->v, 600, 400, 3);
    assert_int_equal(node_zero(rig->v, 0, 1000, 0), 0);
    assert_filled(rig->v, 0, 1000, 0);
    assert_quiet(rig);
    fill(rig->raw, 999, 1, 7);
    assert_int_equal(read_rc(rig->v, 990, 10), -EIO);
    assert_said(rig, "contents mismatch in sector 1\n");
    rig_close(rig);
}

TEST(truncate_keeps_both_sides_in_step)
{
    rig_open(rig, "");
    fill(rig->v, 1 * MiB, 4096, 9);
    assert_int_equal(node_truncate(rig->v, 1 * MiB, 0, NULL), 0);
    assert_int_equal(node_truncate(rig->v, 2 * MiB, 0, NULL), 0);
    assert_filled(rig->v, 0, 2 * MiB, 0);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(a_truncate_that_fails_on_one_side_leaves_equal_lengths)
{
    rig_open(rig, "\"on-mismatch\":\"error\"");
    rig->on_test.fail[REQ_TRUNCATE] = -EIO;
    assert_int_equal(node_truncate(rig->v, 8 * MiB, 0, NULL), -EIO);
    assert_said(rig, "truncate");
    assert_int_equal(node_size(rig->v), 4 * MiB);
    assert_int_equal(node_size(rig->raw), 4 * MiB);
    rig->on_test.fail[REQ_TRUNCATE] = 0;
    forget_said(rig);
    assert_int_equal(read_rc(rig->v, 0, 4 * MiB), 0);
    rig_close(rig);
}

TEST(a_truncate_that_the_test_device_cannot_do_is_not_done_to_the_reference)
{
    rig_open(rig, "");
    rig->on_test.fail[REQ_TRUNCATE] = -ENOTSUP;
    assert_int_equal(node_truncate(rig->v, 8 * MiB, 0, NULL), -ENOTSUP);
    assert_int_equal(node_size(rig->raw), 4 * MiB);
    assert_quiet(rig);
    rig_close(rig);
}

/* The longer raw copy holds something where the device grows: nobody can say what should be there. */
TEST(growing_into_a_longer_reference_raises_no_alarm)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "\"length\":\"prefix\"", 4096, 16384, &err), 0);
    fill(rig->raw, 4096, 8192, 9);
    assert_int_equal(node_truncate(rig->v, 8192, 0, NULL), 0);
    assert_filled(rig->v, 0, 8192, 0);
    assert_int_equal(node_size(rig->raw), 8192);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(sizes_of_the_books_need_be_no_powers_of_two)
{
    rig_open(rig, "\"history\":17,\"history-sectors\":1025,\"indeterminate\":3");
    for (int i = 0; i < 100; i++) {
        fill(rig->v, (uint64_t)i * 4096, 8192, i);
    }
    assert_int_equal(read_rc(rig->v, 0, 1 * MiB), 0);
    assert_quiet(rig);
    rig_close(rig);
}

/* Two elements name the same 512 bytes: one buffer would keep what came last. */
TEST(aliasing_scatter_list_behaves_as_one_buffer)
{
    char buf[1024];
    struct iovec iov[] = {{buf, 512}, {buf + 512, 512}, {buf, 512}};
    struct req r = {.op = REQ_READ, .offset = 0, .bytes = 1536, .iov = iov, .niov = 3};

    rig_open(rig, "");
    fill(rig->v, 0, 512, 1);
    fill(rig->v, 512, 512, 2);
    fill(rig->v, 1024, 512, 3);
    assert_int_equal(node_io(rig->v, &r), 0);
    assert_int_equal(buf[0], 3);
    assert_int_equal(buf[511], 3);
    assert_int_equal(buf[512], 2);
    assert_quiet(rig);
    fill(rig->test, 0, 1, 99); /* in the element that the last one overwrites */
    r.opno = 0;
    assert_int_equal(node_io(rig->v, &r), -EIO);
    assert_said(rig, "contents mismatch in sector 0\n");
    rig_close(rig);
}

/* Half way through the write the client changes its memory. */
static char shared[512];
static co_fn bool scribble(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    *ret_rc = t->below->io(n, r);
    memset(shared, 0x55, sizeof(shared));
    return true;
}

TEST(unstable_memory_is_copied_before_it_is_written_twice)
{
    rig_open(rig, "");
    rig->on_test.play = scribble;
    memset(shared, 0xaa, sizeof(shared));
    assert_int_equal(node_write(rig->v, 0, shared, 512, REQ_UNSTABLE), 0);
    assert_filled(rig->v, 0, 512, 0xaa);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(unstable_memory_is_not_compared_in)
{
    struct iovec iov = {shared, 512};
    struct req r = {.op = REQ_READ, .bytes = 512, .iov = &iov, .niov = 1, .flags = REQ_UNSTABLE};

    rig_open(rig, "");
    fill(rig->v, 0, 512, 0xaa);
    rig->on_test.play = scribble;
    assert_int_equal(node_io(rig->v, &r), 0);
    assert_int_equal((uint8_t)shared[0], 0xaa);
    assert_quiet(rig);
    rig_close(rig);
}

/* One write of each side is slow: the order of the sides differs, the contents must not. */
static co_fn bool slow_first(struct trick *t, struct node *n, struct req *r, int *ret_rc)
{
    if (r->op == REQ_WRITE && t->arg++ == 0) {
        for (int i = 0; i < 50; i++) {
            co_yield ();
        }
    }
    return false;
}

struct write_job {
    struct rig *rig;
    int byte;
};
static co_fn int write_job(void *arg)
{
    struct write_job *job = arg;
    fill(job->rig->v, 0, 8192, job->byte);
    return 0;
}

TEST(overlapping_writes_land_in_one_order)
{
    struct co_group group;
    struct co_task a, b;

    rig_open(rig, "");
    rig->on_raw.play = slow_first;
    co_group_init(&group);
    co_group_start(&group, &a, write_job, &(struct write_job){rig, 1});
    co_group_start(&group, &b, write_job, &(struct write_job){rig, 2});
    co_group_wait(&group);
    assert_filled(rig->v, 0, 8192, 2);
    assert_quiet(rig);
    rig_close(rig);
}

TEST(disjoint_writes_run_at_once)
{
    struct co_group group;
    struct co_task a;

    rig_open(rig, "");
    rig->on_raw.play = slow_first;
    co_group_init(&group);
    co_group_start(&group, &a, write_job, &(struct write_job){rig, 1});
    fill(rig->v, 1 * MiB, 512, 2);
    assert_int_equal(group.running, 1); /* the second was not held up by the slow first */
    co_group_wait(&group);
    rig_close(rig);
}

TEST(report_file_has_one_object_per_mismatch)
{
    char path[] = "/tmp/verify-report-XXXXXX", options[128];
    int fd = mkstemp(path);

    snprintf(options, sizeof(options), "\"on-mismatch\":\"error\",\"report\":\"%s\"", path);
    rig_open(rig, options);
    fill(rig->v, 0, 512, 0xcd);
    fill(rig->test, 3, 1, 0xcc); /* bit 0 of byte 3 */
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    rig->on_test.fail[REQ_READ] = -EIO;
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    rig_close(rig);

    FILE *f = fdopen(fd, "r");
    char line[4096];
    struct err err;
    AUTO_JSON json_t *one = NULL, *two = NULL;
    assert_non_null(fgets(line, sizeof(line), f));
    assert_int_equal(json_parse_object(line, &one, &err), 0);
    assert_string_equal(json_string_value(json_object_get(one, "mismatch")), "contents");
    assert_int_equal(json_integer_value(json_object_get(one, "first-difference")), 3);
    assert_string_equal(json_string_value(json_object_get(one, "diagnosis")), "one bit flipped");
    assert_int_equal(json_array_size(json_object_get(one, "history")), 1);
    assert_memory_equal(json_string_value(json_object_get(one, "actual")), "cdcdcdcccd", 10);
    assert_memory_equal(json_string_value(json_object_get(one, "expected")), "cdcdcdcdcd", 10);
    assert_non_null(fgets(line, sizeof(line), f));
    assert_int_equal(json_parse_object(line, &two, &err), 0);
    assert_string_equal(json_string_value(json_object_get(two, "mismatch")), "return-value");
    assert_int_equal(json_integer_value(json_object_get(two, "test")), -5);
    assert_null(fgets(line, sizeof(line), f));
    fclose(f);
    unlink(path);
}

/* The file may take only a part of the second line. */
TEST(a_line_that_does_not_fit_is_taken_back)
{
    char path[] = "/tmp/verify-report-XXXXXX", options[128];
    int fd = mkstemp(path);
    struct rlimit old, limit;
    struct stat one, two;

    signal(SIGXFSZ, SIG_IGN);
    snprintf(options, sizeof(options), "\"on-mismatch\":\"error\",\"report\":\"%s\"", path);
    rig_open(rig, options);
    fill(rig->test, 0, 1, 1);
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(fstat(fd, &one), 0);
    assert_true(one.st_size > 100);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = (rlim_t)one.st_size + 50;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(fstat(fd, &two), 0);
    assert_int_equal(two.st_size, one.st_size);
    assert_said(rig, "W blkverify: cannot write to the report file");
    assert_int_equal(read_rc(rig->v, 0, 512), -EIO);
    assert_int_equal(fstat(fd, &two), 0);
    assert_true(two.st_size > one.st_size + 100);
    rig_close(rig);
    close(fd);
    unlink(path);
}

TEST(report_file_that_cannot_be_opened_fails_the_open)
{
    struct err err = {0};

    assert_int_equal(rig_try(rig, "\"report\":\"/nowhere/at/all\"", 4096, 4096, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    assert_true(list_empty(&rig->g.nodes));
}

static bool count_steps(void *opaque, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    ++*(unsigned *)opaque;
    return true;
}

static bool cancel(void *opaque, uint64_t done, uint64_t total)
{
    return false;
}

TEST(scrub_compares_everything)
{
    struct verify_scrub_result result;
    unsigned steps = 0;

    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->v, 0, 4 * MiB, 1);
    assert_int_equal(verify_scrub(rig->v, count_steps, &steps, &result), 0);
    assert_int_equal(result.compared_bytes, 4 * MiB);
    assert_true(steps >= 4);
    fill(rig->test, 1 * MiB, 1, 2);
    fill(rig->test, 4 * MiB - 1, 1, 2);
    assert_int_equal(verify_scrub(rig->v, NULL, NULL, &result), -EIO);
    assert_int_equal(result.mismatches, 2);
    assert_int_equal(verify_scrub(rig->v, cancel, NULL, &result), -ECANCELED);
    rig_close(rig);
}

TEST(scrub_skips_holes_of_both_sides_only)
{
    struct verify_scrub_result result;

    rig_open(rig, "\"on-mismatch\":\"report\"");
    fill(rig->test, 2 * MiB, 1, 1); /* a hole in the reference, data in the test device */
    assert_int_equal(verify_scrub(rig->v, NULL, NULL, &result), -EIO);
    assert_int_equal(result.mismatches, 1);
    assert_true(result.skipped_bytes >= 3 * MiB);
    assert_int_equal(result.compared_bytes + result.skipped_bytes, 4 * MiB);
    rig_close(rig);
}

TEST(scrub_at_close_reports)
{
    rig_open(rig, "\"scrub\":true");
    fill(rig->test, 3 * MiB, 1, 1);
    rig_close(rig);
    assert_said(rig, "contents mismatch in sector 6144\n");
    assert_int_equal(rig->stops, 1);
}

TEST(names_split_at_the_first_colon)
{
    struct err err = {0};

    graph_init(&rig->g);
    assert_true(node_open_name(&rig->g, "blkverify:only-one", NULL, 0, &rig->v, &err) < 0);
    assert_non_null(strstr(err.text, "blkverify requires raw copy and original image path"));
    assert_true(node_open_name(&rig->g, "blkverify::x", NULL, 0, &rig->v, &err) < 0);
    assert_non_null(strstr(err.text, "The 'file' block driver requires a file name"));
    assert_true(node_open_name(&rig->g, "blkverify:/none/such:mem://1M", NULL, 0, &rig->v, &err) < 0);
    assert_non_null(strstr(err.text, "/none/such"));
    assert_true(list_empty(&rig->g.nodes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identical_sides_read_clean),
        cmocka_unit_test(first_line_is_blkverifys),
        cmocka_unit_test(numbers_are_those_asked_at_the_gate),
        cmocka_unit_test(standin_says_one_line_in_bytes),
        cmocka_unit_test(runs_are_listed_with_their_lengths),
        cmocka_unit_test(less_than_8_equal_bytes_do_not_end_a_run),
        cmocka_unit_test(large_read_reports_the_first_difference_of_all_pieces),
        cmocka_unit_test(stop_ends_all_io),
        cmocka_unit_test(error_policy_fails_the_read_and_goes_on),
        cmocka_unit_test(report_policy_gives_the_test_devices_data),
        cmocka_unit_test(pause_policy_holds_until_released),
        cmocka_unit_test(one_side_failing_is_a_mismatch),
        cmocka_unit_test(standin_return_mismatch_is_in_bytes),
        cmocka_unit_test(both_sides_failing_alike_is_the_devices_error),
        cmocka_unit_test(flush_error_of_either_side_is_seen),
        cmocka_unit_test(everything_that_changes_reaches_both_sides),
        cmocka_unit_test(zero_that_the_test_device_cannot_do_is_not_done_to_the_reference),
        cmocka_unit_test(zero_that_the_reference_cannot_do_is_no_mismatch),
        cmocka_unit_test(compressed_writes_are_plain_ones_for_the_reference),
        cmocka_unit_test(block_status_is_the_test_devices),
        cmocka_unit_test(lengths_are_compared_at_open),
        cmocka_unit_test(a_length_that_is_no_whole_number_of_sectors_works),
        cmocka_unit_test(truncate_keeps_both_sides_in_step),
        cmocka_unit_test(a_truncate_that_fails_on_one_side_leaves_equal_lengths),
        cmocka_unit_test(a_truncate_that_the_test_device_cannot_do_is_not_done_to_the_reference),
        cmocka_unit_test(growing_into_a_longer_reference_raises_no_alarm),
        cmocka_unit_test(sizes_of_the_books_need_be_no_powers_of_two),
        cmocka_unit_test(aliasing_scatter_list_behaves_as_one_buffer),
        cmocka_unit_test(unstable_memory_is_copied_before_it_is_written_twice),
        cmocka_unit_test(unstable_memory_is_not_compared_in),
        cmocka_unit_test(overlapping_writes_land_in_one_order),
        cmocka_unit_test(disjoint_writes_run_at_once),
        cmocka_unit_test(report_file_has_one_object_per_mismatch),
        cmocka_unit_test(a_line_that_does_not_fit_is_taken_back),
        cmocka_unit_test(report_file_that_cannot_be_opened_fails_the_open),
        cmocka_unit_test(scrub_compares_everything),
        cmocka_unit_test(scrub_skips_holes_of_both_sides_only),
        cmocka_unit_test(scrub_at_close_reports),
        cmocka_unit_test(names_split_at_the_first_colon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
