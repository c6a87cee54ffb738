/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device whose last sector is short, resized by a legal client around legal errors: no alarm. The
 * soak found each of these orders (seeds 17, 19 and 20 of 500,000 operations).
 */
#include "world.h"

#define SIZE  1000u /* the second sector has 488 bytes */
#define GROWN 2048u
#define FAILS 1000u /* operations numbered from here on fail */

static struct world w;
static uint64_t opno_ok, opno_fail;

static co_fn void write_last(bool fails, int byte)
{
    uint8_t data[512];
    memset(data, byte, sizeof(data));
    struct iovec iov = {data, MIN(node_size(w.node) - 512, (uint64_t)512)};
    struct req r = {.op = REQ_WRITE, .offset = 512, .bytes = iov.iov_len, .iov = &iov, .niov = 1};
    r.opno = fails ? opno_fail++ : opno_ok++;
    CHECK_EQ(node_io(w.node, &r), fails ? -EIO : 0);
}

static co_fn void resize(uint64_t size)
{
    struct req r = {.op = REQ_TRUNCATE, .offset = size, .opno = opno_ok++};
    CHECK_EQ(node_io(w.node, &r), 0);
}

static co_fn void read_all(void)
{
    uint8_t data[GROWN];
    struct iovec iov = {data, node_size(w.node)};
    struct req r = {.op = REQ_READ, .bytes = iov.iov_len, .iov = &iov, .niov = 1, .opno = opno_ok++};
    CHECK_EQ(node_io(w.node, &r), 0);
    if (w.graph.mismatches > 0) {
        fprintf(stderr, "%s", w.text);
    }
    CHECK_EQ(w.graph.mismatches, 0);
}

static co_fn void open_pair(void)
{
    world_init(&w);
    opno_ok = 1;
    opno_fail = FAILS;
    const char *device = "\"driver\":\"sim-device\",\"error-ppm\":1000000,\"error-from\":1000,"
                         "\"file\":{\"driver\":\"mem\",\"size\":1000}";
    WORLD_OPEN(&w, "{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"test\":{%s},\"raw\":{%s}}", device,
               device);
    write_last(false, 'a');
}

static int fail_then_grow(void *arg)
{
    open_pair();
    write_last(true, 'b');
    resize(GROWN);
    read_all();
    read_all();
    world_close(&w);
    return 0;
}

static int grow_then_fail(void *arg)
{
    open_pair();
    resize(GROWN);
    write_last(true, 'b');
    read_all();
    read_all();
    world_close(&w);
    return 0;
}

static int fail_then_shrink_and_grow(void *arg)
{
    open_pair();
    write_last(true, 'b');
    resize(600);
    resize(GROWN);
    read_all();
    write_last(true, 'c');
    read_all();
    world_close(&w);
    return 0;
}

static void many(int (*fn)(void *arg))
{
    FOR_EACH_SEED (seed, 30) {
        world_run(seed, fn, NULL);
    }
}

static void a_failed_write_then_growth(void **state)
{
    many(fail_then_grow);
}

static void growth_then_a_failed_write(void **state)
{
    many(grow_then_fail);
}

static void a_failed_write_then_shrinking_and_growth(void **state)
{
    many(fail_then_shrink_and_grow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_then_growth),
        cmocka_unit_test(growth_then_a_failed_write),
        cmocka_unit_test(a_failed_write_then_shrinking_and_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
