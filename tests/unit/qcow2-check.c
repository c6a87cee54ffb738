/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Check against an image made by hand, in clusters of 512 bytes: header 0, refcount table 1, refcount block
 * 2, L1 table 3, L2 table 4, data 5. Each row damages eight bytes; which defect is told, where in the file,
 * how often, and what the bytes are after the repair follows from the format's specification.
 */
#include "qcow2-image.h"

#include "block/driver.h"

enum { REFTABLE = 512, REFBLOCK = 1024, L1 = 1536, L2 = 2048, DATA = 2560, END = 3072 };

#define COPIED (UINT64_C(1) << 63)

static void make_by_hand(const char *path)
{
    static const uint8_t zeroes[END];
    uint8_t data[512];

    memset(data, 0xa5, sizeof(data));
    poke(path, 0, zeroes, sizeof(zeroes));
    poke32(path, 0, 0x514649fb);
    poke32(path, 4, 3);
    poke32(path, 20, 9);
    poke64(path, 24, 4096);
    poke32(path, 36, 1);
    poke64(path, 40, L1);
    poke64(path, 48, REFTABLE);
    poke32(path, 56, 1);
    poke32(path, 96, 4);
    poke32(path, 100, 104);
    poke64(path, REFTABLE, REFBLOCK);
    for (unsigned i = 0; i < 6; i++) {
        poke(path, REFBLOCK + 2 * i, "\0\1", 2);
    }
    poke64(path, L1, L2 | COPIED);
    poke64(path, L2, DATA | COPIED);
    poke(path, DATA, data, sizeof(data));
}

struct row {
    const char *what;
    uint64_t offset, value;
    const char *code; /* the first that is told */
    uint64_t at;      /* where */
    uint64_t corruptions, leaks;
    uint64_t mended;
    bool readable; /* the guest's first sector, after the repair: data; else zeroes */
};

static const struct row rows[] = {
    {"reserved bits in L1", L1, L2 | COPIED | 1 << 3, "l1-reserved", L1, 1, 0, L2 | COPIED, true},
    {"L1 without copied flag", L1, L2, "copied-l2", L1, 1, 0, L2 | COPIED, true},
    /* the L2 table and the data are lost with it: clusters 4 and 5 leak; the flag disagrees, too */
    {"L1 past the end", L1, UINT64_C(0x10000000) | COPIED, "beyond-end", L1, 2, 2, 0, false},
    {"reserved bits in L2", L2, DATA | COPIED | 1 << 4, "l2-reserved", L2, 1, 0, DATA | COPIED, true},
    {"L2 without copied flag", L2, DATA, "copied-data", L2, 1, 0, DATA | COPIED, true},
    {"data past the end", L2, UINT64_C(0x10000000) | COPIED, "beyond-end", L2, 2, 1, 1, false},
    {"refcounts of clusters 4 to 7", REFBLOCK + 8, UINT64_C(0x0002000100000000), "refcount-high", L2, 1, 1,
     UINT64_C(0x0001000100000000), true},
    {"refcount of a free cluster", REFBLOCK + 8, UINT64_C(0x0001000100000001), NULL, 0, 0, 0,
     UINT64_C(0x0001000100000001), true}, /* cluster 7 is behind the end of the file */
    {"dirty bit", 72, 1, NULL, 0, 0, 0, 0, true},
    {"corrupt bit", 72, 2, NULL, 0, 0, 0, 0, true},
};

struct told {
    unsigned count;
    char code[32];
    uint64_t offset;
};

static void hear(void *opaque, const struct check_problem *p)
{
    struct told *t = opaque;

    if (t->count++ == 0) {
        snprintf(t->code, sizeof(t->code), "%s", p->code);
        t->offset = p->offset;
    }
}

static co_fn struct check_result check_image(const char *path, unsigned fix, struct told *told)
{
    struct check_result r = {0};
    struct node *n = open_image(path, OPEN_CHECK | (fix ? OPEN_WRITE : 0));

    *told = (struct told){0};
    assert_int_equal(n->drv->check->check(n, fix, hear, told, &r), 0);
    assert_int_equal(r.check_errors, 0);
    node_unref(n);
    return r;
}

static co_fn void check_row(const struct row *row, const char *path)
{
    struct told told;
    uint8_t sector[512];

    make_by_hand(path);
    poke64(path, row->offset, row->value);
    struct check_result r = check_image(path, 0, &told);
    assert_int_equal(peek64(path, row->offset), row->value); /* a check changes nothing */
    if (row->code) {
        assert_string_equal(told.code, row->code);
        assert_int_equal(told.offset, row->at);
    } else {
        assert_int_equal(told.count, 0);
    }
    assert_int_equal(r.corruptions, row->corruptions);
    assert_int_equal(r.leaks, row->leaks);

    r = check_image(path, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, &told);
    assert_int_equal(r.corruptions + r.leaks, 0);
    assert_int_equal(peek64(path, row->offset), row->mended);
    r = check_image(path, 0, &told);
    assert_int_equal(told.count, 0);
    assert_int_equal(r.corruptions + r.leaks, 0);

    struct node *n = open_image(path, 0);
    assert_int_equal(node_read(n, 0, sector, sizeof(sector)), 0);
    assert_int_equal(sector[0], row->readable ? 0xa5 : 0);
    node_unref(n);
}

static co_fn int all_rows(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char name[32];
        print_message("# %s\n", rows[i].what);
        snprintf(name, sizeof(name), "row%zu", i);
        check_row(&rows[i], file_path(name));
    }
    return 0;
}

static void test_rows(void **state)
{
    (void)state;
    run(all_rows, NULL);
}

/* One data cluster of eight, all in one piece: 12.5 % allocated, nothing else. */
static co_fn int good_image(void *arg)
{
    const char *path = file_path("good");
    struct told told;

    (void)arg;
    make_by_hand(path);
    struct check_result r = check_image(path, 0, &told);
    assert_int_equal(told.count, 0);
    assert_int_equal(r.corruptions + r.leaks, 0);
    assert_int_equal(r.total_clusters, 8);
    assert_int_equal(r.allocated_clusters, 1);
    assert_int_equal(r.fragmented_clusters, 0);
    assert_int_equal(r.compressed_clusters, 0);
    assert_int_equal(r.image_end, END);
    return 0;
}

static void test_good(void **state)
{
    (void)state;
    run(good_image, NULL);
}

/* Counts of any width, at every place of a block: what is written is read, and nothing beside it. */
static void test_widths(void **state)
{
    (void)state;
    for (unsigned order = 0; order <= 6; order++) {
        uint8_t block[64];
        uint64_t max = order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1;
        unsigned entries = 512u >> order;
        for (unsigned i = 0; i < entries; i++) {
            memset(block, 0, sizeof(block));
            qcow2_write_ref(block, i, order, max);
            for (unsigned j = 0; j < entries; j++) {
                assert_int_equal(qcow2_read_ref(block, j, order), i == j ? max : 0);
            }
        }
    }
}

static int finish(void **state)
{
    (void)state;
    remove_files();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_widths),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
