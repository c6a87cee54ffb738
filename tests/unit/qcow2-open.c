/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening qcow2 images built by hand from the specification: what is read from them, and what is
 * refused in which words. Every field that a hostile image can lie in has its row.
 */
#include "qcow2-image.h"

/* ---- an image by hand: 64 KiB clusters, version 3, 1 MiB of disk ----
 * cluster 0: header, 1: refcount table, 2: refcount block, 3: L1, 4: L2, 5 and 6: data, 7: compressed */

#define C(n) ((n)*UINT64_C(0x10000))

static const uint8_t golden_header[] = {
    'Q', 'F', 'I', 0xfb, 0, 0,    0, 3,   /* magic, version */
    0,   0,   0,   0,    0, 0,    0, 0,   /* backing_file_offset */
    0,   0,   0,   0,    0, 0,    0, 16,  /* backing_file_size, cluster_bits */
    0,   0,   0,   0,    0, 0x10, 0, 0,   /* size */
    0,   0,   0,   0,    0, 0,    0, 1,   /* crypt_method, l1_size */
    0,   0,   0,   0,    0, 3,    0, 0,   /* l1_table_offset */
    0,   0,   0,   0,    0, 1,    0, 0,   /* refcount_table_offset */
    0,   0,   0,   1,    0, 0,    0, 0,   /* refcount_table_clusters, nb_snapshots */
    0,   0,   0,   0,    0, 0,    0, 0,   /* snapshots_offset */
    0,   0,   0,   0,    0, 0,    0, 0,   /* incompatible_features */
    0,   0,   0,   0,    0, 0,    0, 0,   /* compatible_features */
    0,   0,   0,   0,    0, 0,    0, 0,   /* autoclear_features */
    0,   0,   0,   4,    0, 0,    0, 104, /* refcount_order, header_length */
    0,   0,   0,   0,    0, 0,    0, 0,   /* end of extensions */
};

/* "deflate" of 65536 bytes 'z', made by python3 -c 'import zlib; c =
 * zlib.compressobj(9, 8, -12); print((c.compress(b"z" * 65536) + c.flush()).hex())' */
static uint8_t packed[256];
static size_t packed_bytes;

static void pack_golden(void)
{
    static const char hex[] =
        "edc101010000008090dfadef080a000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000006a";

    packed_bytes = (sizeof(hex) - 1) / 2;
    assert_true(packed_bytes <= sizeof(packed));
    for (size_t i = 0; i < packed_bytes; i++) {
        unsigned v;
        sscanf(hex + 2 * i, "%2x", &v);
        packed[i] = (uint8_t)v;
    }
}

static void build(const char *path)
{
    static uint8_t cluster[65536];

    unlink(path);
    poke(path, 0, golden_header, sizeof(golden_header));
    poke64(path, C(1), C(2));
    for (int i = 0; i < 8; i++) {
        poke(path, C(2) + 2 * (uint64_t)i, "\0\1", 2);
    }
    poke64(path, C(3), C(4) | UINT64_C(1) << 63);
    poke64(path, C(4), C(5) | UINT64_C(1) << 63);          /* guest cluster 0: data */
    poke64(path, C(4) + 8, 1);                             /* 1: zeroes */
    poke64(path, C(4) + 16, C(6) | UINT64_C(1) << 63 | 1); /* 2: zeroes, with a place */
    uint64_t sectors = (packed_bytes - 1) / 512;
    poke64(path, C(4) + 24, UINT64_C(1) << 62 | sectors << 54 | C(7)); /* 3: compressed */
    memset(cluster, 'a', sizeof(cluster));
    poke(path, C(5), cluster, sizeof(cluster));
    memset(cluster, 'b', sizeof(cluster));
    poke(path, C(6), cluster, sizeof(cluster));
    poke(path, C(7), packed, packed_bytes);
}

static int golden_main(void *arg)
{
    const char *path = file_path("golden");
    struct extent x;

    build(path);
    struct node *n = open_image(path, 0);
    assert_int_equal(node_size(n), MiB);
    expect(n, C(0), C(1), 'a');
    expect(n, C(1), C(2), 0);
    expect(n, C(3), C(1), 'z');
    expect(n, C(4), C(12), 0);
    assert_int_equal(node_status(n, 0, MiB, &x), 0);
    assert_true(x.data && x.has_offset && x.bytes == C(1) && x.offset == C(5));
    assert_int_equal(node_status(n, C(1), MiB - C(1), &x), 0);
    assert_true(x.zero && !x.has_offset && x.bytes == C(1));
    assert_int_equal(node_status(n, C(2), MiB - C(2), &x), 0);
    assert_true(x.zero && x.has_offset && x.offset == C(6));
    assert_int_equal(node_status(n, C(3) + 512, MiB - C(3) - 512, &x), 0);
    assert_true(x.data && x.compressed && x.bytes == C(1) - 512);
    assert_int_equal(node_status(n, C(4), MiB - C(4), &x), 0);
    assert_true(x.zero && !x.allocated && x.bytes == C(12));
    node_unref(n);
    return 0;
}

static void an_image_from_the_specification_is_read(void **state)
{
    run(golden_main, NULL);
}

/* A probe of the first bytes alone finds the format. */
static int probe_main(void *arg)
{
    const char *path = file_path("probe");
    struct node *n = NULL;

    build(path);
    assert_int_equal(node_open_name(&g, path, NULL, 0, &n, NULL), 0);
    assert_string_equal(node_driver_name(n), "qcow2");
    node_unref(n);
    return 0;
}

static void the_format_is_recognised(void **state)
{
    run(probe_main, NULL);
}

/* ---- lies ---- */

struct lie {
    uint64_t offset;
    uint8_t bytes[8];
    unsigned len;
    const char *says;
};

static const struct lie lies[] = {
    {0, {'R'}, 1, "Image is not in qcow2 format"},
    {4, {0, 0, 0, 1}, 4, "Unsupported qcow2 version 1"},
    {4, {0, 0, 0, 4}, 4, "Unsupported qcow2 version 4"},
    {4, {0xff, 0xff, 0xff, 0xff}, 4, "Unsupported qcow2 version 4294967295"},
    {20, {0, 0, 0, 8}, 4, "Unsupported cluster size: 2^8"},
    {20, {0, 0, 0, 22}, 4, "Unsupported cluster size: 2^22"},
    {20, {0xff, 0xff, 0xff, 0xff}, 4, "Unsupported cluster size: 2^4294967295"},
    {100, {0, 0, 0, 96}, 4, "qcow2 header too short"},
    {100, {0, 1, 0, 8}, 4, "qcow2 header exceeds cluster size"},
    {100, {0xff, 0xff, 0xff, 0xf8}, 4, "qcow2 header exceeds cluster size"},
    {8, {0, 0, 0, 0, 0, 1, 0, 1}, 8, "Invalid backing file offset"},
    {8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8, "Invalid backing file offset"},
    {8, {0, 0, 0, 0, 0, 0, 0, 8}, 8, "Invalid backing file offset"}, /* within the header */
    {8,
     {
         0,
         0,
         0,
         0,
         0,
         0,
         1,
         0,
     },
     8,
     NULL}, /* an empty name is none */
    {32, {0, 0, 0, 3}, 4, "Unsupported encryption method 3"},
    {36, {0, 0, 0, 0}, 4, "L1 table is too small"},
    {36, {0x7f, 0xff, 0xff, 0xff}, 4, "Active L1 table too large"},
    {36, {0xff, 0xff, 0xff, 0xff}, 4, "Active L1 table too large"},
    {36, {0, 0x40, 0, 1}, 4, "Active L1 table too large"},
    {40, {0, 0, 0, 0, 0, 3, 2, 0}, 8, "Active L1 table offset invalid"},
    {40, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, 8, "Could not read L1 table: Input/output error"},
    {40, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, 8, "Active L1 table offset invalid"},
    {40, {0, 0, 0, 1, 0, 0, 0, 0}, 8, "Could not read L1 table: Input/output error"}, /* behind the end */
    {24, {0x7f, 0, 0, 0, 0, 0, 0, 0}, 8, "Image is too big"},
    {24, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8, "Image is too big"},
    {24, {0, 0, 0x10, 0, 0, 0, 0, 0}, 8, "L1 table is too small"},
    {48, {0, 0, 0, 0, 0, 1, 0, 1}, 8, "Reference count table offset invalid"},
    {48, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, 8, "Reference count table offset invalid"},
    {48, {0, 0, 0, 1, 0, 0, 0, 0}, 8, "Could not read reference count table: Input/output error"},
    {56, {0, 0, 0, 0}, 4, "Image does not contain a reference count table"},
    {56, {0, 0, 0, 129}, 4, "Reference count table too large"},
    {56, {0xff, 0xff, 0xff, 0xff}, 4, "Reference count table too large"},
    {60, {0, 1, 0, 1}, 4, "Snapshot table too large"},
    {60, {0xff, 0xff, 0xff, 0xff}, 4, "Snapshot table too large"},
    {72,
     {0x80, 0, 0, 0, 0, 0, 0, 0},
     8,
     "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000"},
    {72, {0, 0, 0, 0, 0, 0, 0, 2}, 8, "qcow2: Image is corrupt; cannot be opened read/write"},
    {72, {0, 0, 0, 0, 0, 0, 0, 1}, 8, NULL}, /* dirty: is repaired */
    {72, {0, 0, 0, 0, 0, 0, 0, 4}, 8, "'data-file' is required for this image"},
    {88, {0, 0, 0, 0, 0, 0, 0, 2}, 8, "data-file-raw requires a data file"},
    {72, {0, 0, 0, 0, 0, 0, 0, 8}, 8, "qcow2: Compression type incompatible feature bit must not be set"},
    {96, {0, 0, 0, 7}, 4, "Reference count entry width too large; may not exceed 64 bits"},
    {96, {0xff, 0xff, 0xff, 0xff}, 4, "Reference count entry width too large; may not exceed 64 bits"},
    {108, {0xff, 0xff, 0xff, 0xff}, 4, NULL}, /* length of the end marker: nobody looks */
    {104, {0x12, 0x34, 0x56, 0x78, 0xff, 0xff, 0xff, 0xff}, 8, "Header extension too large"},
    {104, {0x12, 0x34, 0x56, 0x78, 0, 0, 0xff, 0x91}, 8, "Header extension too large"},
    {104, {0x12, 0x34, 0x56, 0x78, 0, 0, 0xff, 0x90}, 8, NULL}, /* fills the cluster */
    {104, {0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 16}, 8, "ERROR: ext_backing_format: len=16 too large (>=16)"},
    {104,
     {0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16},
     8,
     "CRYPTO header extension only expected with LUKS encryption method"},
};

static int lies_main(void *arg)
{
    const char *path = file_path("lie");

    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        const struct lie *l = &lies[i];
        struct node *n = NULL;
        struct err err = {0};
        build(path);
        poke(path, l->offset, l->bytes, l->len);
        int r = node_open_name(&g, path, "qcow2", OPEN_WRITE, &n, &err);
        if (l->says ? r == 0 : r < 0) {
            fail_msg("row %zu: %d %s", i, r, err.text);
        }
        if (l->says && strcmp(err.text, l->says) != 0) {
            fail_msg("row %zu says '%s', expected '%s'", i, err.text, l->says);
        }
        node_unref(n);
        assert_true(list_empty(&g.nodes));
    }
    return 0;
}

static void lies_in_the_header_are_refused(void **state)
{
    run(lies_main, NULL);
}

/* A file that ends anywhere in the header is refused or read, never more. */
static int short_main(void *arg)
{
    for (int len = 0; len <= 112; len++) {
        const char *path = file_path("short");
        struct node *n = NULL;
        unlink(path);
        poke(path, 0, golden_header, (size_t)MIN(len, (int)sizeof(golden_header)));
        assert_true(node_open_name(&g, path, "qcow2", 0, &n, NULL) < 0);
    }
    return 0;
}

static void short_files_are_refused(void **state)
{
    run(short_main, NULL);
}

/* The name of an unknown feature comes from the image's own table. */
static int feature_main(void *arg)
{
    const char *path = file_path("feature");
    struct node *n = NULL;
    struct err err = {0};

    build(path);
    poke64(path, 72, UINT64_C(1) << 42 | UINT64_C(1) << 43);
    poke(path, 104,
         "\x68\x03\xf8\x57\0\0\0\x30\0\x2a"
         "frobnication",
         22);
    assert_true(node_open_name(&g, path, "qcow2", 0, &n, &err) < 0);
    assert_string_equal(err.text, "Unsupported qcow2 feature(s): frobnication, Unknown incompatible feature: "
                                  "80000000000");
    return 0;
}

static void unknown_features_are_named(void **state)
{
    run(feature_main, NULL);
}

/* ---- names inside ---- */

static const struct {
    const char *name, *format, *says;
} names[] = {
    {"json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "raw",
     "Could not open backing file: the image names 'json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}' "
     "as "
     "its backing file: only plain paths are followed (--trust-image-names allows it)"},
    {"nbd://example.org/x", "raw",
     "Could not open backing file: the image names 'nbd://example.org/x' as its backing file: only plain "
     "paths "
     "are followed (--trust-image-names allows it)"},
    {"base.raw", NULL,
     "Could not open backing file: the image does not tell the format of its backing file 'base.raw', and "
     "guessing is dangerous: name it, or use --trust-image-names"},
    {"base.raw", "nosuch", "Could not open backing file: Unknown driver 'nosuch'"},
    {"base.raw", "raw", NULL},
};

static void set_backing(const char *path, const char *name, const char *format)
{
    uint8_t ext[24] = {0xe2, 0x79, 0x2a, 0xca};

    poke64(path, 8, 1024);
    poke32(path, 16, (uint32_t)strlen(name));
    poke(path, 1024, name, strlen(name));
    if (format) {
        ext[7] = (uint8_t)strlen(format);
        memcpy(ext + 8, format, strlen(format));
        poke(path, 104, ext, sizeof(ext));
    }
}

static int names_main(void *arg)
{
    poke(file_path("base.raw"), C(4), "from below", 10);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *path = file_path("named");
        struct node *n = NULL;
        struct err err = {0};
        build(path);
        set_backing(path, names[i].name, names[i].format);
        int r = node_open_name(&g, path, "qcow2", 0, &n, &err);
        assert_string_equal(err.text, names[i].says ? names[i].says : "");
        assert_int_equal(r < 0, names[i].says != NULL);
        if (n) { /* relative to the image's folder */
            char buf[10];
            assert_int_equal(node_read(n, C(4), buf, 10), 0);
            assert_memory_equal(buf, "from below", 10);
            expect(n, C(5), C(2), 0); /* behind the backing file's end */
            node_unref(n);
        }
        n = NULL;
        assert_int_equal(node_open_name(&g, path, "qcow2", OPEN_NO_BACKING, &n, NULL), 0);
        node_unref(n);
    }
    return 0;
}

static void names_inside_images_are_not_trusted(void **state)
{
    run(names_main, NULL);
}

static int loop_main(void *arg)
{
    const char *path = file_path("ouroboros");
    struct node *n = NULL;
    struct err err = {0};

    build(path);
    set_backing(path, "ouroboros", "qcow2");
    assert_int_equal(node_open_name(&g, path, "qcow2", 0, &n, &err), -ELOOP);
    return 0;
}

static void an_image_behind_itself_ends(void **state)
{
    run(loop_main, NULL);
}

/* As deep as it may be, and read to the bottom. */
static int chain_main(void *arg)
{
    char name[32], below[32];
    struct node *n = NULL;

    make_image(file_path("chain-0"), "", MiB);
    n = open_image(file_path("chain-0"), OPEN_WRITE);
    fill(n, 0, MiB, 0x42);
    node_unref(n);
    for (int i = 1; i < 62; i++) {
        char options[192];
        snprintf(name, sizeof(name), "chain-%d", i);
        snprintf(below, sizeof(below), "chain-%d", i - 1);
        snprintf(options, sizeof(options), "backing_file=%s,backing_fmt=qcow2,cluster_size=4k", below);
        make_image(file_path(name), options, MiB);
        n = open_image(file_path(name), OPEN_WRITE | OPEN_NO_BACKING);
        fill(n, 8192 * (uint64_t)i, 4096, i);
        node_unref(n);
    }
    n = open_image(file_path("chain-61"), OPEN_WRITE);
    expect(n, 4096, 4096, 0x42);
    expect(n, 8192, 4096, 1);
    fill(n, 513, 1000, 0x77);
    expect(n, 513, 1000, 0x77);
    expect(n, 1513, 3000, 0x42);
    unsigned char *all = malloc(MiB); /* in pieces on every level */
    assert_int_equal(node_read(n, 0, all, MiB), 0);
    for (int i = 1; i < 62; i++) {
        assert_int_equal(all[8192 * i + 4095], i);
        assert_int_equal(all[8192 * i + 4096], 0x42);
    }
    free(all);
    node_unref(n);
    return 0;
}

static void long_chains_are_read_to_the_bottom(void **state)
{
    run(chain_main, NULL);
}

/* ---- damage met later ---- */

static const struct {
    uint64_t offset, value;
    const char *says;
} damage[] = {
    {C(3), UINT64_C(0x8000000000042200),
     "qcow2: Marking image as corrupt: L2 table offset 0x42200 unaligned (L1 index: 0); further corruption "
     "events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000052a00),
     "qcow2: Marking image as corrupt: Data cluster offset 0x52a00 unaligned (guest offset: 0); "
     "further corruption events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000052a01),
     "qcow2: Marking image as corrupt: Preallocated zero cluster offset 0x52a00 unaligned (guest offset: 0); "
     "further corruption events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000000000) | C(3), /* the L1 table as guest data */
     "qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with active L1 table); "
     "further corruption events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000000000) | C(4),
     "qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with active L2 table); "
     "further corruption events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000000000) | C(2),
     "qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with refcount block); "
     "further corruption events will be suppressed\n"},
    {C(4), UINT64_C(0x8000000000000000) | C(1),
     "qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with refcount table); "
     "further corruption events will be suppressed\n"},
};

static int damage_main(void *arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
        const char *path = file_path("damaged");
        build(path);
        poke64(path, damage[i].offset, damage[i].value);
        struct node *n = open_image(path, OPEN_WRITE);
        notices[0] = 0;
        assert_int_equal(node_write(n, 0, "x", 1, 0), -EIO);
        assert_string_equal(notices, damage[i].says);
        assert_true(node_is_read_only(n));
        assert_int_equal(node_write(n, C(4), "x", 1, 0), -EPERM);
        node_unref(n);
        assert_int_equal(peek64(path, 72), 2); /* corrupt */
        n = NULL;
        struct err err = {0};
        assert_int_equal(node_open_name(&g, path, "qcow2", OPEN_WRITE, &n, &err), -EACCES);
        n = open_image(path, 0);
        node_unref(n);
    }
    return 0;
}

static void damage_turns_the_image_read_only(void **state)
{
    run(damage_main, NULL);
}

/* Guest data in the L1 table of a snapshot. */
static int inactive_main(void *arg)
{
    const char *path = file_path("inactive");
    struct snapshot_time time = {0};

    build(path);
    struct node *n = open_image(path, OPEN_WRITE);
    assert_int_equal(qcow2_snapshot_ops.create(n, "one", &time), 0);
    uint64_t l1 = qcow2_of(n)->snapshot[0].l1_offset;
    fill(n, C(8), 512, 1); /* an L2 table of the active L1 table alone */
    node_unref(n);
    uint64_t l2 = peek64(path, C(3)) & QCOW2_OFFSET_MASK;
    assert_true(l1 != 0 && l2 != 0 && l2 != C(4));
    poke64(path, l2 + 8 * 8, QCOW2_COPIED | l1);
    n = open_image(path, OPEN_WRITE);
    notices[0] = 0;
    assert_int_equal(node_write(n, C(8), "x", 1, 0), -EIO);
    assert_string_equal(notices, "qcow2: Marking image as corrupt: Preventing invalid write on metadata "
                                 "(overlaps with inactive L1 table); further corruption events will be "
                                 "suppressed\n");
    node_unref(n);
    return 0;
}

static void tables_of_snapshots_are_not_overwritten(void **state)
{
    run(inactive_main, NULL);
}

/* Refcounts all zero: whoever allocates would get metadata. */
static int refs_main(void *arg)
{
    const char *path = file_path("norefs");
    static const uint8_t zeroes[16];

    build(path);
    poke(path, C(2), zeroes, 16);
    struct node *n = open_image(path, OPEN_WRITE);
    assert_int_equal(node_write(n, C(4), "x", 1, 0), -EIO);
    assert_non_null(strstr(notices, "Preventing invalid"));
    node_unref(n);
    build(path);
    poke64(path, C(1), C(2) | 512); /* the refcount block's offset */
    n = open_image(path, OPEN_WRITE);
    notices[0] = 0;
    assert_int_equal(node_write(n, C(4), "x", 1, 0), -EIO);
    assert_string_equal(notices,
                        "qcow2: Marking image as corrupt: Refblock offset 0x20200 unaligned (reftable "
                        "index: 0); further corruption events will be suppressed\n");
    node_unref(n);
    return 0;
}

static void missing_refcounts_hand_out_no_metadata(void **state)
{
    run(refs_main, NULL);
}

/* Compressed data that is none. */
static int garbage_main(void *arg)
{
    const char *path = file_path("garbage");
    char buf[512];

    build(path);
    poke(path, C(7), "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    struct node *n = open_image(path, 0);
    assert_int_equal(node_read(n, C(3), buf, 512), -EIO);
    expect(n, C(0), 4096, 'a');
    node_unref(n);
    build(path);
    poke64(path, C(4) + 24, UINT64_MAX >> 1); /* far behind the end, as long as can be */
    n = open_image(path, 0);
    assert_int_equal(node_read(n, C(3), buf, 512), -EIO);
    node_unref(n);
    return 0;
}

static void compressed_garbage_is_an_error(void **state)
{
    run(garbage_main, NULL);
}

/* ---- what we do not know is kept ---- */

static int keep_main(void *arg)
{
    const char *path = file_path("keep");
    uint8_t back[16];

    build(path);
    poke64(path, 88, UINT64_C(1) << 50 | 1); /* autoclear: an unknown one, and bitmaps */
    poke64(path, 80, UINT64_C(1) << 33);     /* compatible: unknown */
    poke(path, 104, "\x12\x34\x56\x78\0\0\0\x05hello\0\0\0", 16);
    struct node *n = open_image(path, 0);
    expect(n, 0, 512, 'a');
    node_unref(n);
    assert_int_equal(peek64(path, 88), UINT64_C(1) << 50 | 1); /* reading changes nothing */
    n = open_image(path, OPEN_WRITE);
    fill(n, 0, 512, 'c');
    assert_int_equal(qcow2_write_header(n), 0);
    node_unref(n);
    assert_int_equal(peek64(path, 88), 0);
    assert_int_equal(peek64(path, 80), UINT64_C(1) << 33);
    peek(path, 104, back, 16);
    assert_memory_equal(back, "\x12\x34\x56\x78\0\0\0\x05hello\0\0\0", 16);
    return 0;
}

static void what_is_unknown_is_kept_and_autoclear_cleared(void **state)
{
    run(keep_main, NULL);
}

static int start(void **state)
{
    pack_golden();
    return 0;
}

static int finish(void **state)
{
    remove_files();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_from_the_specification_is_read),
        cmocka_unit_test(the_format_is_recognised),
        cmocka_unit_test(lies_in_the_header_are_refused),
        cmocka_unit_test(short_files_are_refused),
        cmocka_unit_test(unknown_features_are_named),
        cmocka_unit_test(names_inside_images_are_not_trusted),
        cmocka_unit_test(an_image_behind_itself_ends),
        cmocka_unit_test(long_chains_are_read_to_the_bottom),
        cmocka_unit_test(damage_turns_the_image_read_only),
        cmocka_unit_test(tables_of_snapshots_are_not_overwritten),
        cmocka_unit_test(missing_refcounts_hand_out_no_metadata),
        cmocka_unit_test(compressed_garbage_is_an_error),
        cmocka_unit_test(what_is_unknown_is_kept_and_autoclear_cleared),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
