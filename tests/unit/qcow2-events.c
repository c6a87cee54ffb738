/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blkdebug events of qcow2 and of the gate below it, in their order, as observed with QEMU 7.2. A space
 * between two names; default images unless an option says otherwise.
 */
#include "qcow2-image.h"

static const char *const event_names[] = {
#define NAME(name) #name,
    BLOCK_EVENTS(NAME)
#undef NAME
};

static char seen[16384];
static struct driver spy;

static void record(struct node *n, enum block_event event)
{
    size_t used = strlen(seen);

    snprintf(seen + used, sizeof(seen) - used, "%s%s", used ? " " : "", event_names[event]);
}

static co_fn struct node *open_spied(const char *path)
{
    struct node *n = open_image(path, OPEN_WRITE | OPEN_UNMAP);
    struct node *file = node_child(n, "file");

    spy = *file->drv;
    spy.on_event = record;
    file->drv = &spy;
    seen[0] = 0;
    return n;
}

static void expect_events(const char *what, const char *events)
{
    if (strcmp(seen, events) != 0) {
        fail_msg("%s:\n  raised   %s\n  expected %s", what, seen, events);
    }
    seen[0] = 0;
}

/* A write of the file, and zeroes. */
#define W " pwritev pwritev_done"
#define Z " pwritev_zero pwritev_done"
#define NEW_L2                                                                                               \
    "cluster_alloc refblock_alloc refblock_load refblock_update_part" W " l2_alloc_write l2_update" W        \
    " l1_update" W " "
#define NEW_DATA "cluster_alloc refblock_alloc refblock_load "

static int first_write_main(void *arg)
{
    const char *path = file_path("first");

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    fill(n, 0, 65536, 1);
    expect_events("first cluster of an empty image", NEW_L2 NEW_DATA "write_aio" W);
    assert_int_equal(node_flush(n), 0);
    expect_events("flush", "flush_to_os refblock_update_part" W " l2_update" W " flush_to_disk");
    assert_int_equal(node_flush(n), 0);
    expect_events("flush of what is clean", "flush_to_os");
    fill(n, 65536, 65536, 1);
    expect_events("second cluster", NEW_DATA "write_aio" W);
    node_unref(n);

    n = open_spied(path);
    fill(n, 0, 65536, 2);
    expect_events("overwrite, fresh open", "l2_load write_aio" W);
    node_unref(n);
    n = open_spied(path);
    expect(n, 0, 65536, 2);
    expect_events("read, fresh open", "l2_load read_aio");
    node_unref(n);
    n = open_spied(path);
    expect(n, 1 * MiB, 65536, 0);
    expect_events("read of what is not allocated", "l2_load");
    fill(n, 2 * MiB, 131072, 3);
    expect_events("two clusters at once", NEW_DATA "write_aio" W);
    node_unref(n);
    return 0;
}

static void writes_and_reads(void **state)
{
    run(first_write_main, NULL);
}

static int partial_main(void *arg)
{
    const char *path = file_path("partial"), *base = file_path("base");
    char options[256];

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    fill(n, 8192, 4096, 1);
    expect_events("4k into a new cluster", NEW_L2 NEW_DATA "cluster_alloc_space" Z " write_aio" W);
    node_unref(n);

    poke(base, 64 * MiB - 1, "x", 1);
    for (int i = 0; i < 128; i++) {
        poke(base, i * UINT64_C(512), "abcdefgh", 8);
    }
    snprintf(options, sizeof(options), "backing_file=%s,backing_fmt=raw", base);
    path = file_path("over");
    make_image(path, options, 64 * MiB);
    n = open_spied(path);
    char buf[8];
    assert_int_equal(node_read(n, 512, buf, 8), 0);
    assert_memory_equal(buf, "abcdefgh", 8);
    expect_events("read from the backing file", "read_backing_aio");
    fill(n, 8192, 4096, 1);
    expect_events("4k over a backing file",
                  NEW_L2 NEW_DATA "cow_read read_backing_aio write_aio cow_write" W);
    node_unref(n);

    path = file_path("ext");
    make_image(path, "extended_l2=on", 64 * MiB);
    n = open_spied(path);
    fill(n, 8192, 4096, 1);
    expect_events("4k with subclusters", NEW_L2 NEW_DATA "write_aio" W);
    node_unref(n);
    return 0;
}

static void writes_of_less_than_a_cluster(void **state)
{
    run(partial_main, NULL);
}

static int zero_main(void *arg)
{
    const char *path = file_path("zero");

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    assert_int_equal(node_zero(n, 0, 65536, 0), 0);
    expect_events("zero of what is not allocated",
                  "cluster_alloc refblock_alloc refblock_load refblock_update_part" W " "
                  "l2_alloc_write l2_update" W " l1_update" W);
    fill(n, 65536, 131072, 1);
    node_unref(n);
    n = open_spied(path);
    assert_int_equal(node_zero(n, 65536, 65536, 0), 0);
    expect_events("zero of an allocated cluster", "l2_load");
    node_unref(n);
    n = open_spied(path);
    assert_int_equal(node_zero(n, 131072, 65536, REQ_UNMAP), 0);
    expect_events("zero and unmap", "l2_load cluster_free refblock_alloc refblock_load");
    assert_int_equal(node_flush(n), 0);
    expect_events("its flush", "flush_to_os l2_update" W " refblock_update_part" W " flush_to_disk");
    node_unref(n);
    return 0;
}

static void zeroes(void **state)
{
    run(zero_main, NULL);
}

static int compressed_main(void *arg)
{
    const char *path = file_path("compressed");

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    char *buf = calloc(1, 65536);
    assert_int_equal(node_write(n, 0, buf, 65536, REQ_COMPRESSED), 0);
    free(buf);
    expect_events("compressed write", NEW_L2 "cluster_alloc_bytes refblock_alloc refblock_load "
                                             "l2_update_compressed write_compressed" W);
    node_unref(n);
    n = open_spied(path);
    expect(n, 0, 65536, 0);
    expect_events("compressed read", "l2_load read_compressed");
    node_unref(n);
    n = open_spied(path);
    fill(n, 4096, 4096, 1);
    expect_events("4k write on a compressed cluster",
                  "l2_load cluster_alloc refblock_alloc refblock_load cow_read read_compressed write_aio "
                  "cow_write" W " cluster_free refblock_update_part" W " refblock_alloc refblock_load");
    expect(n, 4096, 4096, 1);
    expect(n, 8192, 57344, 0);
    node_unref(n);
    return 0;
}

static void compressed_clusters(void **state)
{
    run(compressed_main, NULL);
}

/* As an internal snapshot leaves it: L2 table and data cluster counted twice, no copied flags. */
static int shared_main(void *arg)
{
    const char *path = file_path("shared");

    make_image(path, "", 64 * MiB);
    struct node *n = open_image(path, OPEN_WRITE);
    fill(n, 0, 65536, 7);
    node_unref(n);
    uint64_t l2 = peek64(path, 0x30000) & QCOW2_OFFSET_MASK;
    uint64_t data = peek64(path, l2) & QCOW2_OFFSET_MASK;
    assert_int_equal(l2, 0x40000);
    assert_int_equal(data, 0x50000);
    poke64(path, 0x30000, l2);
    poke64(path, l2, data);
    poke(path, 0x20000 + 2 * 4, "\0\2\0\2", 4);

    n = open_spied(path);
    fill(n, 8192, 4096, 8);
    expect_events("4k write on shared tables and data",
                  "cluster_alloc refblock_alloc refblock_load refblock_update_part" W
                  " l2_alloc_cow_read l2_load "
                  "l2_alloc_write l2_update" W " l1_update" W
                  " cluster_free refblock_alloc refblock_load cluster_alloc "
                  "refblock_alloc refblock_load cow_read read_aio write_aio cow_write" W " cluster_free "
                  "refblock_update_part" W " refblock_alloc refblock_load");
    expect(n, 0, 8192, 7);
    expect(n, 8192, 4096, 8);
    expect(n, 12288, 65536 - 12288, 7);
    node_unref(n);
    assert_int_equal(peek16(path, 0x20000 + 2 * 4), 1); /* the old ones have one owner less */
    assert_int_equal(peek16(path, 0x20000 + 2 * 5), 1);
    assert_int_equal(peek64(path, l2), data); /* and are as they were */
    return 0;
}

static void clusters_shared_with_a_snapshot(void **state)
{
    run(shared_main, NULL);
}

static int refblock_main(void *arg)
{
    const char *path = file_path("refblock");

    /* 64 counts a block: the first block ends at 32 KiB; 57 clusters are in use, 58 with the L2 table */
    make_image(path, "cluster_size=512,refcount_bits=64", 4 * MiB);
    struct node *n = open_image(path, OPEN_WRITE);
    struct qcow2 *q = qcow2_of(n);
    uint64_t host;
    assert_int_equal(q->h.l1_offset, 3 * 512);
    assert_int_equal(q->h.l1_entries, 128); /* 2 clusters: 5 used so far */
    co_mutex_lock(&q->lock);
    assert_int_equal(qcow2_alloc_clusters(n, 52, &host), 0); /* leak them */
    assert_int_equal(host, 5 * 512);
    co_mutex_unlock(&q->lock);
    q->written = true;
    node_unref(n);

    n = open_spied(path);
    fill(n, 0, 4096, 1);
    expect_events("a refcount block for the last two of eight clusters", NEW_L2
                  "cluster_alloc refblock_alloc refblock_load refblock_alloc refblock_alloc_write "
                  "refblock_update_part" W " refblock_update_part" W " refblock_alloc_hookup" W
                  " refblock_alloc "
                  "refblock_load refblock_alloc refblock_load refblock_alloc refblock_load write_aio" W);
    expect(n, 0, 4096, 1);
    node_unref(n);
    return 0;
}

static void a_new_refcount_block(void **state)
{
    run(refblock_main, NULL);
}

/* 64 blocks of 64 counts fill the table of one cluster: 2 MiB */
static int reftable_main(void *arg)
{
    const char *path = file_path("reftable");
    char options[256];
    uint64_t host;

    make_image(path, "cluster_size=512,refcount_bits=64", 64 * MiB);
    struct node *n = open_image(path, OPEN_WRITE);
    struct qcow2 *q = qcow2_of(n);
    assert_int_equal(q->h.l1_entries * 8, 32 * 512);
    co_mutex_lock(&q->lock);
    for (host = 0; host < 4091 * 512;) { /* all clusters up to 4091 */
        assert_int_equal(qcow2_alloc_clusters(n, 1, &host), 0);
    }
    co_mutex_unlock(&q->lock);
    q->written = true;
    node_unref(n);

    snprintf(options, sizeof(options), "driver=qcow2,refcount-cache-size=1M,file.filename=%s", path);
    struct err err = {0};
    assert_int_equal(node_open_opts(&g, options, OPEN_WRITE, &n, &err), 0);
    struct node *file = node_child(n, "file");
    spy = *file->drv;
    spy.on_event = record;
    file->drv = &spy;
    seen[0] = 0;
    fill(n, 0, 16384, 1);
    expect_events("a larger refcount table",
                  NEW_L2 "cluster_alloc refblock_alloc refblock_load refblock_alloc refblock_alloc_write "
                         "refblock_update_part" W " refblock_update_part" W " reftable_grow "
                         "refblock_alloc_write_blocks refblock_update_part" W " refblock_update_part" W " "
                         "refblock_alloc_write_table" W " refblock_alloc_switch_table" W " "
                         "cluster_free refblock_alloc refblock_load refblock_load "
                         "refblock_alloc refblock_load refblock_alloc refblock_load "
                         "refblock_alloc refblock_load write_aio" W);
    expect(n, 0, 16384, 1);
    node_unref(n);
    assert_int_equal(peek64(path, 48), 2130944); /* where QEMU puts it, as large as there */
    uint8_t clusters[4];
    peek(path, 56, clusters, 4);
    assert_int_equal(get_be32(clusters), 2);
    return 0;
}

static void a_larger_refcount_table(void **state)
{
    run(reftable_main, NULL);
}

/* What a write of less than a unit needs: the order of QEMU's generic layer. */
static int unaligned_main(void *arg)
{
    const char *path = file_path("unaligned");
    static const char data[3 * 4096];

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    struct node *file = node_child(n, "file");
    uint64_t end = round_up(node_size(file), 4096);
    assert_int_equal(node_write(file, end, data, sizeof(data), REQ_GROW), 0);
    seen[0] = 0;
    file->limits.align = 4096;
    assert_int_equal(node_write(file, end + 100, data, 4096 - 100, 0), 0);
    expect_events("the end of a unit", "pwritev_rmw_head pwritev_rmw_after_head" W);
    assert_int_equal(node_write(file, end, data, 100, 0), 0);
    expect_events("its beginning", "pwritev_rmw_tail pwritev_rmw_after_tail" W);
    assert_int_equal(node_write(file, end + 100, data, 100, 0), 0);
    expect_events("its middle",
                  "pwritev_rmw_head pwritev_rmw_tail pwritev_rmw_after_head pwritev_rmw_after_tail" W);
    assert_int_equal(node_write(file, end + 100, data, 8192, 0), 0);
    expect_events("both ends",
                  "pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail" W);
    assert_int_equal(node_zero(file, end, 4096, 0), 0);
    expect_events("zeroes", "pwritev_zero pwritev_done");
    node_unref(n);
    return 0;
}

static void writes_of_less_than_a_unit(void **state)
{
    run(unaligned_main, NULL);
}

static int empty_main(void *arg)
{
    const char *path = file_path("empty");

    make_image(path, "", 64 * MiB);
    struct node *n = open_spied(path);
    fill(n, 0, 65536, 1);
    assert_int_equal(node_flush(n), 0);
    seen[0] = 0;
    assert_int_equal(n->drv->make_empty(n), 0);
    /* the header's writes are the dirty bit, set and taken back */
    const char *order[] = {"l1_update" Z, "empty_image_prepare" Z, "reftable_update" W, "refblock_alloc"};
    const char *at = seen;
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        at = strstr(at, order[i]);
        assert_non_null(at);
        at += strlen(order[i]);
    }
    node_unref(n);
    return 0;
}

static void an_image_is_emptied(void **state)
{
    run(empty_main, NULL);
}

static int lazy_main(void *arg)
{
    const char *path = file_path("lazy");

    make_image(path, "lazy_refcounts=on", 64 * MiB);
    struct node *n = open_spied(path);
    fill(n, 0, 65536, 1);
    expect_events("lazy refcounts", NEW_L2 NEW_DATA "write_aio" W W); /* the dirty bit */
    assert_int_equal(peek64(path, 72), 1);                            /* dirty */
    assert_int_equal(node_flush(n), 0);
    expect_events("their flush", "flush_to_os l2_update" W " flush_to_disk");
    assert_int_equal(peek16(path, 0x20000 + 2 * 5), 0); /* still behind */
    node_unref(n);
    assert_int_equal(peek64(path, 72), 0);
    assert_int_equal(peek16(path, 0x20000 + 2 * 5), 1);
    return 0;
}

static void lazy_refcounts(void **state)
{
    run(lazy_main, NULL);
}

/* The machine dies: the file as it is then, under another name. */
static int dirty_main(void *arg)
{
    const char *path = file_path("lazy2"), *copy = file_path("died");
    char command[512];

    make_image(path, "lazy_refcounts=on", 64 * MiB);
    struct node *n = open_image(path, OPEN_WRITE);
    fill(n, 0, 65536, 1);
    assert_int_equal(node_flush(n), 0);
    snprintf(command, sizeof(command), "cp %s %s", path, copy);
    assert_int_equal(system(command), 0);
    node_unref(n);

    assert_int_equal(peek64(copy, 72), 1);
    n = open_image(copy, 0); /* to read it nothing is needed */
    expect(n, 0, 65536, 1);
    node_unref(n);
    assert_int_equal(peek64(copy, 72), 1);
    notices[0] = 0;
    n = open_image(copy, OPEN_WRITE);
    /* as QEMU's test-suite (039) expects it */
    assert_string_equal(notices, "ERROR cluster 5 refcount=0 reference=1\n"
                                 "Rebuilding refcount structure\n"
                                 "Repairing cluster 1 refcount=1 reference=0\n"
                                 "Repairing cluster 2 refcount=1 reference=0\n");
    expect(n, 0, 65536, 1);
    assert_int_equal(peek64(copy, 72), 0);
    fill(n, 65536, 65536, 2);
    node_unref(n);
    uint64_t block = peek64(copy, peek64(copy, 48));
    assert_int_equal(peek16(copy, block + 2 * 5), 1);
    return 0;
}

static void a_dirty_image_is_repaired_when_it_is_opened(void **state)
{
    run(dirty_main, NULL);
}

static int finish(void **state)
{
    remove_files();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(writes_of_less_than_a_cluster),
        cmocka_unit_test(zeroes),
        cmocka_unit_test(compressed_clusters),
        cmocka_unit_test(clusters_shared_with_a_snapshot),
        cmocka_unit_test(a_new_refcount_block),
        cmocka_unit_test(a_larger_refcount_table),
        cmocka_unit_test(writes_of_less_than_a_unit),
        cmocka_unit_test(an_image_is_emptied),
        cmocka_unit_test(lazy_refcounts),
        cmocka_unit_test(a_dirty_image_is_repaired_when_it_is_opened),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
