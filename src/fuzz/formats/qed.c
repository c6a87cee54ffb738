/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QED, as QEMU's docs/interop/qed_spec defines it: a header, two levels of tables of the same size, and
 * clusters. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define CLUSTER_BITS_MIN 12
#define CLUSTER_BITS_MAX 19
#define SIZE_MAX_BITS    43 /* what a file system holds as a sparse file */

#define QED_MAGIC 0x00444551u /* "QED\0" */

static const char *const features[] = {"backing file", "needs check", "backing file is raw", NULL};

static const struct field header_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 4, .min = QED_MAGIC, .what = "\"QED\\0\""),
    LE("cluster_size", FIELD_LENGTH, 4, 4, .min = 4 * KiB, .max = 64 * MiB, .what = "a power of two"),
    LE("table_size", FIELD_COUNT, 8, 4, .min = 1, .max = 16,
       .what = "clusters of each table; a power of two"),
    LE("header_size", FIELD_COUNT, 12, 4, .min = 1, .max = UINT32_MAX, .what = "clusters of the header"),
    LE("features", FIELD_FLAGS, 16, 8, .values = features, .max = 7,
       .what = "who does not know one of these must not open the image"),
    LE("compat_features", FIELD_FLAGS, 24, 8, .what = "may be ignored"),
    LE("autoclear_features", FIELD_FLAGS, 32, 8,
       .what = "who does not know one of these clears it before writing"),
    LE("l1_table_offset", FIELD_OFFSET, 40, 8, .align = 1, .what = "of the L1 table"),
    LE("image_size", FIELD_LENGTH, 48, 8, .what = "of the virtual disk in bytes"),
    LE("backing_filename_offset", FIELD_OFFSET, 56, 4, .what = "of the name of the backing file"),
    LE("backing_filename_size", FIELD_LENGTH, 60, 4, .max = 1023, .what = "of the name of the backing file"),
    {0},
};
const struct layout qed_header_layout = {"QED header", header_fields, 64, 0};

static const struct field l1_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 8, .align = 1, .what = "of the L2 table; 0: none"),
    {0},
};
const struct layout qed_l1_layout = {"QED L1 entry", l1_fields, 8, 0};

static const struct field l2_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 8, .align = 1, .what = "of the cluster; 0: none; 1: reads as zeroes"),
    {0},
};
const struct layout qed_l2_layout = {"QED L2 entry", l2_fields, 8, 0};

struct qed {
    uint64_t cluster, table_bytes, per_table, size;
    unsigned table_clusters;
    struct two_levels map;
    struct piece piece[1 + TABLES_MAX + UNITS_MAX]; /* L1, L2 tables, clusters */
    int l2[TABLES_MAX];
};

/* Tables of up to 16 clusters, but the limit holds some. One cluster would be right too, but QEMU refuses it.
 */
static void choose_geometry(struct fuzz_image *img, struct qed *q)
{
    q->cluster = UINT64_C(1) << fuzz_pick(img, "cluster_bits", CLUSTER_BITS_MIN, CLUSTER_BITS_MAX);
    q->table_clusters = 1u << fuzz_pick(img, "table_bits", 1, 4);
    while (q->table_clusters > 2 && q->table_clusters * 4 * q->cluster > fuzz_limit(img)) {
        q->table_clusters /= 2;
    }
    q->table_bytes = q->table_clusters * q->cluster;
    q->per_table = q->table_bytes / 8;
    uint64_t covered = q->per_table > (UINT64_C(1) << SIZE_MAX_BITS) / q->cluster / q->per_table
                           ? UINT64_C(1) << SIZE_MAX_BITS
                           : q->per_table * q->per_table * q->cluster;
    q->size = choose_size(img, SECTOR_SIZE, MIN(covered, UINT64_C(1) << SIZE_MAX_BITS));
}

static void choose_map(struct fuzz_image *img, struct qed *q, uint64_t header_clusters)
{
    uint64_t room = fuzz_limit(img) / q->cluster - header_clusters; /* clusters */
    unsigned tables = (unsigned)MIN((room - q->table_clusters) / q->table_clusters / 2, (uint64_t)TABLES_MAX);
    uint64_t left = room - q->table_clusters * (UINT64_C(1) + tables);

    choose_two_levels(img, &q->map, div_up(q->size, q->cluster), q->per_table,
                      (unsigned)MIN(left, fuzz_pick(img, "clusters", 0, 60)), tables);
}

/* Without gaps: a cluster that nothing refers to is a leak. */
static uint64_t lay_out(struct fuzz_image *img, struct qed *q, uint64_t start)
{
    unsigned n = 1 + q->map.tables + q->map.units;

    for (unsigned i = 0; i < n; i++) {
        q->piece[i].bytes = i <= q->map.tables ? q->table_bytes : q->cluster;
    }
    return place_pieces(img, q->piece, n, start, q->cluster, 0, false);
}

static int place_table(struct fuzz_image *img, const struct qed *q, const struct fuzz_part *p)
{
    struct fuzz_part part = *p;

    part.element = "entry";
    part.count = (uint32_t)q->per_table;
    part.align = q->cluster;
    fuzz_at(img, p->offset, 8);
    return fuzz_place(img, &part);
}

static void put_tables(struct fuzz_image *img, struct qed *q)
{
    const struct two_levels *m = &q->map;
    uint64_t used = div_up(div_up(q->size, q->cluster), q->per_table);
    int l1 = place_table(img, q,
                         &(struct fuzz_part){.name = "l1",
                                             .layout = &qed_l1_layout,
                                             .offset = q->piece[0].offset,
                                             .used = (uint32_t)MIN(used, UINT64_C(64))});

    for (unsigned i = 0; i < m->tables; i++) {
        q->l2[i] = place_table(img, q,
                               &(struct fuzz_part){.name = "l2",
                                                   .many = true,
                                                   .index = i,
                                                   .parent = l1,
                                                   .layout = &qed_l2_layout,
                                                   .offset = q->piece[1 + i].offset,
                                                   .used = 64});
        fuzz_put(img, l1, (uint32_t)m->table[i], "offset", q->piece[1 + i].offset);
    }
}

static void put_cluster(struct fuzz_image *img, const struct qed *q, unsigned i)
{
    uint64_t unit = q->map.unit[i], offset = q->piece[1 + q->map.tables + i].offset;

    fuzz_data(img, offset, q->cluster);
    fuzz_place_bytes(img, "data", (int)i, offset, q->cluster);
    fuzz_put(img, q->l2[table_of(&q->map, unit, q->per_table)], (uint32_t)(unit % q->per_table), "offset",
             offset);
    fuzz_guest_at(img, unit * q->cluster, q->cluster, offset);
}

/* Entries that say zero, beside what is mapped. */
static void put_zeroes(struct fuzz_image *img, const struct qed *q)
{
    uint64_t total = div_up(q->size, q->cluster);

    for (unsigned i = 0; i < q->map.units; i++) {
        uint64_t unit = q->map.unit[i] + 1;
        if (unit >= total || unit / q->per_table != q->map.unit[i] / q->per_table || fuzz_below(img, 4)) {
            continue;
        }
        int l2 = q->l2[table_of(&q->map, unit, q->per_table)];
        if (fuzz_get(img, l2, (uint32_t)(unit % q->per_table), "offset") == 0) {
            fuzz_put(img, l2, (uint32_t)(unit % q->per_table), "offset", 1);
            fuzz_guest_zero(img, unit * q->cluster, q->cluster);
        }
    }
}

static void put_backing(struct fuzz_image *img, const struct qed *q, int header, uint64_t header_bytes)
{
    const struct fuzz_format *format;
    uint64_t at = qed_header_layout.bytes + fuzz_below(img, 1024);
    const char *name = build_backing(img, at, MIN(header_bytes - at, UINT64_C(1023)), q->size, &format);

    if (name) {
        fuzz_put(img, header, 0, "backing_filename_offset", at);
        fuzz_put(img, header, 0, "backing_filename_size", strlen(name));
        fuzz_put(img, header, 0, "features",
                 fuzz_get(img, header, 0, "features") | 1 | (strcmp(format->name, "raw") == 0 ? 4 : 0));
    }
}

static void build(struct fuzz_image *img)
{
    struct qed q;
    uint64_t header_clusters = 1 + fuzz_below(img, 2);

    choose_geometry(img, &q);
    choose_map(img, &q, header_clusters);
    uint64_t end = lay_out(img, &q, header_clusters * q.cluster);
    fuzz_at(img, 0, qed_header_layout.bytes);
    int header = fuzz_place(
        img, &(struct fuzz_part){
                 .name = "header", .layout = &qed_header_layout, .align = q.cluster, .weight = 20});
    fuzz_put(img, header, 0, "magic", QED_MAGIC);
    fuzz_put(img, header, 0, "cluster_size", q.cluster);
    fuzz_put(img, header, 0, "table_size", q.table_clusters);
    fuzz_put(img, header, 0, "header_size", header_clusters);
    fuzz_put(img, header, 0, "features", fuzz_chance(img, "need_check", 10) ? 2 : 0);
    fuzz_put(img, header, 0, "compat_features", fuzz_below(img, 4) ? 0 : rng_u64(fuzz_rng(img)));
    fuzz_put(img, header, 0, "autoclear_features", fuzz_below(img, 8) ? 0 : 1);
    fuzz_put(img, header, 0, "l1_table_offset", q.piece[0].offset);
    fuzz_put(img, header, 0, "image_size", q.size);
    fuzz_guest_size(img, q.size);
    put_backing(img, &q, header, header_clusters * q.cluster);
    put_tables(img, &q);
    for (unsigned i = 0; i < q.map.units; i++) {
        put_cluster(img, &q, i);
    }
    put_zeroes(img, &q);
    fuzz_set_size(img, end);
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void header_size_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "header_size", 0);
}

static void header_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "header_size", UINT32_MAX);
}

static void cluster_size_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "cluster_size", 0);
}

static void cluster_size_odd(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "cluster_size", 0x10001);
}

static void table_size_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "table_size", 0);
}

static void table_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "table_size", UINT32_C(1) << 31);
}

static void l1_beyond_end(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "l1_table_offset", UINT64_MAX & ~UINT64_C(0xfffff));
}

static void truncated_header(struct fuzz_image *img)
{
    fuzz_truncate(img, 24);
}

static void backing_name_at_end(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "backing_filename_offset", UINT32_MAX - 8);
    fuzz_set(img, header_of(img), 0, "backing_filename_size", 1023);
}

static const struct fuzz_recipe recipes[] = {
    {"iotest-116-header-size-0", "the header takes no cluster", NULL, header_size_0},
    {"iotest-116-header-size-huge", "clusters times header size is more than 32 bits hold", NULL,
     header_size_huge},
    {"iotest-116-cluster-size-0", "clusters of no bytes", NULL, cluster_size_0},
    {"iotest-116-cluster-size", "the cluster size is no power of two", NULL, cluster_size_odd},
    {"iotest-116-table-size-0", "tables of no cluster", NULL, table_size_0},
    {"iotest-116-table-size-huge", "tables of 2^31 clusters", NULL, table_size_huge},
    {"iotest-116-l1-offset", "the L1 table lies behind the end of all files", NULL, l1_beyond_end},
    {"iotest-116-truncated", "the file ends within the header", NULL, truncated_header},
    {"qed-backing-name-wraps", "offset and length of the backing file's name wrap in 32 bits", "backing=1",
     backing_name_at_end},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&qed_header_layout, "features", 3},
    {&qed_header_layout, "cluster_size", 5},
    {0},
};

const struct fuzz_format fuzz_qed = {
    .name = "qed",
    .ext = "qed",
    .summary = "QEMU enhanced disk: two levels of tables, a backing file",
    .backing = "qed",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
