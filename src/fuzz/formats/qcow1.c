/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QCOW version 1, qcow2's forerunner: a header, two levels of tables, clusters, compressed ones with their
 * length in the entry. All numbers are big-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/deflate.h"
#include "fuzz/formats/fields.h"

#define QCOW1_MAGIC 0x514649fbu /* "QFI\xfb" */

static const char *const crypt_names[] = {"none", "aes", NULL};

static const struct field header_fields[] = {
    BE("magic", FIELD_MAGIC, 0, 4, .min = QCOW1_MAGIC, .what = "\"QFI\\xfb\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 1),
    BE("backing_file_offset", FIELD_OFFSET, 8, 8, .what = "of the name of the backing file; 0: none"),
    BE("backing_file_size", FIELD_LENGTH, 16, 4, .max = 1023, .what = "of the name of the backing file"),
    BE("mtime", FIELD_TIME, 20, 4, .what = "of the backing file; not used"),
    BE("size", FIELD_LENGTH, 24, 8, .min = 2, .max = INT64_MAX, .what = "of the virtual disk in bytes"),
    BE("cluster_bits", FIELD_SHIFT, 32, 1, .min = 9, .max = 16, .what = "size of a cluster"),
    BE("l2_bits", FIELD_SHIFT, 33, 1, .min = 6, .max = 13, .what = "entries of an L2 table"),
    BE("padding", FIELD_RESERVED, 34, 2),
    BE("crypt_method", FIELD_ENUM, 36, 4, .max = 1, .values = crypt_names),
    BE("l1_table_offset", FIELD_OFFSET, 40, 8, .what = "of the L1 table"),
    {0},
};
const struct layout qcow1_header_layout = {"QCOW1 header", header_fields, 48, 0};

static const struct field l1_fields[] = {
    BE("offset", FIELD_OFFSET, 0, 8, .what = "of the L2 table; 0: none"),
    {0},
};
const struct layout qcow1_l1_layout = {"QCOW1 L1 entry", l1_fields, 8, 0};

/* With compressed set, the length takes cluster_bits bits below bit 63. */
static const struct field l2_fields[] = {
    BE("offset", FIELD_OFFSET, 0, 8, .mask = INT64_MAX, .what = "of the cluster; 0: none"),
    BE("compressed", FIELD_NUMBER, 0, 8, .mask = UINT64_C(1) << 63, .shift = 63),
    {0},
};
const struct layout qcow1_l2_layout = {"QCOW1 L2 entry", l2_fields, 8, 0};

#define UNIT_MAX 48u /* bytes that repeat in a compressed cluster: it stays shorter than a cluster of 512 */

struct qcow1 {
    unsigned cluster_bits, l2_bits;
    uint64_t cluster, size, l1_entries;
    struct two_levels map;
    struct piece piece[1 + TABLES_MAX + UNITS_MAX]; /* L1, L2 tables, clusters */
    bool compressed[UNITS_MAX];
    uint64_t unit_seed[UNITS_MAX];
    uint8_t unit_bytes[UNITS_MAX];
    int l2[TABLES_MAX];
};

static uint64_t l2_entries(const struct qcow1 *q)
{
    return UINT64_C(1) << q->l2_bits;
}

static uint64_t cluster_room(const struct qcow1 *q, unsigned i)
{
    return q->compressed[i] ? deflate_room(q->unit_bytes[i], q->cluster) : q->cluster;
}

static void choose_geometry(struct fuzz_image *img, struct qcow1 *q)
{
    q->cluster_bits = (unsigned)fuzz_pick(img, "cluster_bits", 9, 16);
    q->l2_bits = (unsigned)fuzz_pick(img, "l2_bits", 6, 13);
    q->cluster = UINT64_C(1) << q->cluster_bits;
    uint64_t covered = q->cluster * l2_entries(q); /* by one L1 entry */
    uint64_t l1_entries_max = fuzz_limit(img) / 8 / 8;
    q->size = choose_size(img, SECTOR_SIZE, MIN(covered * l1_entries_max, UINT64_C(1) << 43));
    q->l1_entries = div_up(q->size, covered);
}

static void choose_map(struct fuzz_image *img, struct qcow1 *q)
{
    uint64_t room = fuzz_limit(img) - q->l1_entries * 8 - 64 * KiB;
    uint64_t tables = MIN(room / 2 / (l2_entries(q) * 8 + q->cluster), (uint64_t)TABLES_MAX);
    uint64_t units = MIN(room / 2 / q->cluster, fuzz_pick(img, "clusters", 0, 60));
    unsigned percent = (unsigned)fuzz_pick(img, "compressed", 0, 2) * 35;

    choose_two_levels(img, &q->map, div_up(q->size, q->cluster), l2_entries(q), (unsigned)units,
                      (unsigned)tables);
    for (unsigned i = 0; i < q->map.units; i++) {
        q->compressed[i] = fuzz_below(img, 100) < percent;
        q->unit_seed[i] = rng_u64(fuzz_rng(img));
        q->unit_bytes[i] = (uint8_t)(1 + fuzz_below(img, UNIT_MAX));
    }
}

static uint64_t lay_out(struct fuzz_image *img, struct qcow1 *q, uint64_t start)
{
    unsigned tables = q->map.tables;

    q->piece[0].bytes = q->l1_entries * 8;
    for (unsigned i = 0; i < tables; i++) {
        q->piece[1 + i].bytes = l2_entries(q) * 8;
    }
    for (unsigned i = 0; i < q->map.units; i++) {
        q->piece[1 + tables + i].bytes = cluster_room(q, i);
    }
    return place_pieces(img, q->piece, 1 + tables + q->map.units, start, q->cluster,
                        (unsigned)fuzz_pick(img, "gaps", 0, 10), false);
}

static void put_tables(struct fuzz_image *img, struct qcow1 *q)
{
    int l1 = fuzz_place(img, &(struct fuzz_part){.name = "l1",
                                                 .layout = &qcow1_l1_layout,
                                                 .offset = q->piece[0].offset,
                                                 .element = "entry",
                                                 .count = (uint32_t)q->l1_entries,
                                                 .align = q->cluster});

    for (unsigned i = 0; i < q->map.tables; i++) {
        q->l2[i] = fuzz_place(img, &(struct fuzz_part){.name = "l2",
                                                       .many = true,
                                                       .index = i,
                                                       .parent = l1,
                                                       .layout = &qcow1_l2_layout,
                                                       .offset = q->piece[1 + i].offset,
                                                       .element = "entry",
                                                       .count = (uint32_t)l2_entries(q),
                                                       .used = 64,
                                                       .align = q->cluster});
        fuzz_put(img, l1, (uint32_t)q->map.table[i], "offset", q->piece[1 + i].offset);
    }
}

/* Where compressed data lies may be any byte; its length stands in the bits above the offset. */
static void put_compressed(struct fuzz_image *img, const struct qcow1 *q, unsigned i, uint64_t at, int l2,
                           uint32_t entry)
{
    uint8_t unit[UNIT_MAX];

    fuzz_guest_unit(q->unit_seed[i], unit, q->unit_bytes[i]);
    uint64_t room = cluster_room(q, i);
    at += fuzz_below(img, round_up(room, q->cluster) - room + 1);
    uint64_t len = deflate_repeated(unit, q->unit_bytes[i], q->cluster, fuzz_at(img, at, room));
    assert(len < q->cluster);
    fuzz_place_bytes(img, "compressed", (int)i, at, len);
    fuzz_put(img, l2, entry, "offset", at | len << (63 - q->cluster_bits));
    fuzz_put(img, l2, entry, "compressed", 1);
    fuzz_guest_repeat(img, q->map.unit[i] * q->cluster, q->cluster, q->unit_seed[i], q->unit_bytes[i]);
}

static void put_cluster(struct fuzz_image *img, const struct qcow1 *q, unsigned i)
{
    uint64_t unit = q->map.unit[i], at = q->piece[1 + q->map.tables + i].offset;
    int l2 = q->l2[table_of(&q->map, unit, l2_entries(q))];
    uint32_t entry = (uint32_t)(unit % l2_entries(q));

    if (q->compressed[i]) {
        put_compressed(img, q, i, at, l2, entry);
        return;
    }
    fuzz_data(img, at, q->cluster);
    fuzz_place_bytes(img, "data", (int)i, at, q->cluster);
    fuzz_put(img, l2, entry, "offset", at);
    fuzz_guest_at(img, unit * q->cluster, q->cluster, at);
}

static void put_backing(struct fuzz_image *img, const struct qcow1 *q, int header)
{
    const struct fuzz_format *format;
    uint64_t at = qcow1_header_layout.bytes + fuzz_below(img, 200);
    const char *name = build_backing(img, at, 200, q->size, &format);

    if (name) {
        fuzz_put(img, header, 0, "backing_file_offset", at);
        fuzz_put(img, header, 0, "backing_file_size", strlen(name));
    }
}

static void build(struct fuzz_image *img)
{
    struct qcow1 q;

    choose_geometry(img, &q);
    choose_map(img, &q);
    uint64_t end = lay_out(img, &q, q.cluster);
    fuzz_at(img, 0, qcow1_header_layout.bytes);
    int header = fuzz_place(
        img, &(struct fuzz_part){
                 .name = "header", .layout = &qcow1_header_layout, .align = q.cluster, .weight = 20});
    fuzz_put(img, header, 0, "magic", QCOW1_MAGIC);
    fuzz_put(img, header, 0, "version", 1);
    fuzz_put(img, header, 0, "mtime", fuzz_below(img, UINT32_MAX));
    fuzz_put(img, header, 0, "size", q.size);
    fuzz_put(img, header, 0, "cluster_bits", q.cluster_bits);
    fuzz_put(img, header, 0, "l2_bits", q.l2_bits);
    fuzz_put(img, header, 0, "crypt_method", fuzz_chance(img, "aes", 3) && !fuzz_depth(img));
    fuzz_put(img, header, 0, "l1_table_offset", q.piece[0].offset);
    fuzz_at(img, end - 1, 1);
    fuzz_guest_size(img, q.size);
    put_backing(img, &q, header);
    put_tables(img, &q);
    for (unsigned i = 0; i < q.map.units; i++) {
        put_cluster(img, &q, i);
    }
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void l2_bits_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "l2_bits", 0x7f);
}

static void l2_bits_small(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "l2_bits", 3);
}

static void cluster_bits_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "cluster_bits", 64);
}

static void size_wraps(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "size", INT64_MAX);
}

static void size_needs_l1(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "size", UINT64_C(0xee00000000000000));
}

static void backing_name_long(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "backing_file_offset", 8);
    fuzz_set(img, header_of(img), 0, "backing_file_size", 1025);
}

static void backing_name_negative(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "backing_file_offset", 8);
    fuzz_set(img, header_of(img), 0, "backing_file_size", UINT32_MAX);
}

static const struct fuzz_recipe recipes[] = {
    {"CVE-2014-0222-l2-bits", "an L2 table of 2^127 entries: an unbounded allocation", NULL, l2_bits_huge},
    {"iotest-092-l2-bits-small", "an L2 table shorter than a sector", NULL, l2_bits_small},
    {"iotest-092-cluster-bits", "clusters of 2^64 bytes", NULL, cluster_bits_huge},
    {"CVE-2014-0223-size", "the size needs more L1 entries than 32 bits count", NULL, size_wraps},
    {"CVE-2014-0223-size-negative", "the size is negative as a signed number", NULL, size_needs_l1},
    {"iotest-092-backing-name", "the name of the backing file is longer than 1023 bytes", NULL,
     backing_name_long},
    {"iotest-092-backing-name-negative", "the length of the name is negative as a signed number", NULL,
     backing_name_negative},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&qcow1_header_layout, "version", 1},
    {&qcow1_header_layout, "crypt_method", 3},
    {0},
};

const struct fuzz_format fuzz_qcow1 = {
    .name = "qcow",
    .ext = "qcow",
    .summary = "QCOW version 1: compressed clusters, a backing file",
    .backing = "qcow",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
