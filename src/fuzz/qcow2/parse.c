/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A foreign qcow2 image: place what its header leads to. Nothing it says is true: every offset is looked at
 * within the file, every number is bounded, and each table is followed one step only.
 */
#include "fuzz/qcow2/build.h"

#define L2_PLACED_MAX     512
#define BLOCKS_PLACED_MAX 512
#define ENTRIES_MAX       (1u << 20)
#define EXTENSIONS_MAX    32
#define LIST_PLACED_MAX   128 /* snapshots, bitmaps */

struct found {
    struct fuzz_image *img;
    struct qcow2_header h;
    uint64_t cluster;
    unsigned l2_entry;
    unsigned l2s, blocks;
};

bool q_probe(const uint8_t *bytes, uint64_t size)
{
    return size >= QCOW2_V2_HEADER_BYTES && get_be32(bytes) == QCOW2_MAGIC && get_be32(bytes + 4) >= 2;
}

/* Entries of @width bytes at @offset that the file has. */
static uint32_t have(const struct found *f, uint64_t offset, uint64_t entries, unsigned width)
{
    uint64_t size = fuzz_size(f->img);
    uint64_t fit = offset < size ? (size - offset) / width : 0;

    return (uint32_t)MIN(MIN(entries, fit), (uint64_t)ENTRIES_MAX);
}

static uint64_t word(const struct found *f, uint64_t offset)
{
    const uint8_t *p = fuzz_look(f->img, offset, 8);

    return p ? get_be64(p) : 0;
}

static int place_table(struct found *f, const char *name, int parent, int index, const struct layout *l,
                       uint64_t offset, uint64_t entries, unsigned width)
{
    uint32_t n = have(f, offset, entries, width);

    return n ? fuzz_place(f->img, &(struct fuzz_part){.name = name,
                                                      .parent = parent,
                                                      .many = index >= 0,
                                                      .index = (uint32_t)MAX(index, 0),
                                                      .layout = l,
                                                      .offset = offset,
                                                      .element = "entry",
                                                      .count = n,
                                                      .stride_bits = width * 8,
                                                      .align = f->cluster})
             : 0;
}

static void parse_l1(struct found *f, int parent, uint64_t offset, uint64_t entries)
{
    int part = place_table(f, "l1", parent, -1, &qcow2_l1_layout, offset, entries, 8);
    uint32_t n = part ? fuzz_part_of(f->img, part)->count : 0;

    for (uint32_t i = 0; i < n && f->l2s < L2_PLACED_MAX; i++) {
        uint64_t l2 = word(f, offset + i * UINT64_C(8)) & QCOW2_OFFSET_MASK;
        if (l2) {
            place_table(f, "l2", 0, (int)f->l2s, &qcow2_l2_layout, l2, f->cluster / f->l2_entry, f->l2_entry);
            if (f->l2_entry == 16) {
                place_table(f, "l2_subclusters", 0, (int)f->l2s, &qcow2_l2_bitmap_layout, l2, f->cluster / 16,
                            16);
            }
            f->l2s++;
        }
    }
}

static void parse_refcounts(struct found *f)
{
    uint64_t offset = f->h.reftable_offset, entries = (f->h.reftable_clusters * f->cluster) / 8;
    int part = place_table(f, "refcount_table", 0, -1, &qcow2_reftable_layout, offset, entries, 8);
    uint32_t n = part ? fuzz_part_of(f->img, part)->count : 0;
    unsigned order = MIN(f->h.refcount_order, 6u), bits = 1u << order;

    for (uint32_t i = 0; i < n && f->blocks < BLOCKS_PLACED_MAX; i++) {
        uint64_t block = word(f, offset + i * UINT64_C(8)) & QCOW2_REF_MASK;
        if (block && fuzz_look(f->img, block, f->cluster)) {
            fuzz_place(f->img, &(struct fuzz_part){.name = "refcount_block",
                                                   .many = true,
                                                   .index = f->blocks++,
                                                   .layout = &q_refcount_layouts[order],
                                                   .offset = block,
                                                   .element = "entry",
                                                   .count = (uint32_t)(f->cluster * 8 / bits),
                                                   .stride_bits = bits,
                                                   .align = f->cluster});
        }
    }
}

static void parse_snapshots(struct found *f)
{
    uint64_t at = f->h.snapshots_offset;

    for (uint32_t i = 0; i < MIN(f->h.snapshots, (uint32_t)LIST_PLACED_MAX); i++) {
        const uint8_t *p = fuzz_look(f->img, at, qcow2_snapshot_layout.bytes);
        struct qcow2_snapshot_entry e;
        if (!p) {
            return;
        }
        layout_parse(&qcow2_snapshot_layout, p, qcow2_snapshot_layout.bytes, 3, &e);
        int part = fuzz_place(f->img, &(struct fuzz_part){.name = "snapshot",
                                                          .many = true,
                                                          .index = i,
                                                          .layout = &qcow2_snapshot_layout,
                                                          .offset = at,
                                                          .align = f->cluster});
        uint64_t extra = at + qcow2_snapshot_layout.bytes;
        if (e.extra_bytes >= qcow2_snapshot_extra_layout.bytes && fuzz_look(f->img, extra, e.extra_bytes)) {
            fuzz_place(f->img, &(struct fuzz_part){.name = "extra",
                                                   .parent = part,
                                                   .layout = &qcow2_snapshot_extra_layout,
                                                   .offset = extra});
        }
        parse_l1(f, part, e.l1_offset, e.l1_entries);
        at = round_up(extra + e.extra_bytes + e.id_bytes + e.name_bytes, 8);
    }
}

static void parse_bitmaps(struct found *f, const struct qcow2_bitmaps_ext *ext)
{
    uint64_t at = ext->directory_offset;

    for (uint32_t i = 0; i < MIN(ext->bitmaps, (uint32_t)LIST_PLACED_MAX); i++) {
        const uint8_t *p = fuzz_look(f->img, at, qcow2_bitmap_layout.bytes);
        struct qcow2_bitmap_entry e;
        if (!p) {
            return;
        }
        layout_parse(&qcow2_bitmap_layout, p, qcow2_bitmap_layout.bytes, 3, &e);
        int part = fuzz_place(f->img, &(struct fuzz_part){.name = "bitmap",
                                                          .many = true,
                                                          .index = i,
                                                          .layout = &qcow2_bitmap_layout,
                                                          .offset = at,
                                                          .align = f->cluster});
        place_table(f, "table", part, -1, &qcow2_bitmap_table_layout, e.table_offset, e.table_entries, 8);
        at = round_up(at + qcow2_bitmap_layout.bytes + e.extra_bytes + e.name_bytes, 8);
    }
}

static void parse_extension(struct found *f, uint32_t type, uint64_t at, uint32_t bytes)
{
    struct qcow2_bitmaps_ext bitmaps;
    const uint8_t *p = fuzz_look(f->img, at, bytes);

    if (!p || bytes == 0) {
        return;
    }
    switch (type) {
    case QCOW2_EXT_BACKING_FORMAT:
        fuzz_place_bytes(f->img, "backing_format", -1, at, bytes);
        break;
    case QCOW2_EXT_DATA_FILE:
        fuzz_place_bytes(f->img, "data_name", -1, at, bytes);
        break;
    case QCOW2_EXT_FEATURES:
        fuzz_place(f->img, &(struct fuzz_part){.name = "feature_names",
                                               .layout = &qcow2_feature_layout,
                                               .offset = at,
                                               .element = "row",
                                               .count = bytes / qcow2_feature_layout.bytes});
        break;
    case QCOW2_EXT_BITMAPS:
        if (bytes >= qcow2_bitmaps_ext_layout.bytes) {
            layout_parse(&qcow2_bitmaps_ext_layout, p, bytes, 3, &bitmaps);
            fuzz_place(f->img, &(struct fuzz_part){
                                   .name = "bitmaps", .layout = &qcow2_bitmaps_ext_layout, .offset = at});
            parse_bitmaps(f, &bitmaps);
        }
        break;
    case QCOW2_EXT_CRYPTO:
        if (bytes >= qcow2_crypto_ext_layout.bytes) {
            fuzz_place(f->img, &(struct fuzz_part){
                                   .name = "crypto", .layout = &qcow2_crypto_ext_layout, .offset = at});
        }
        break;
    default:
        fuzz_place_bytes(f->img, "unknown_extension", -1, at, bytes);
    }
}

static void parse_extensions(struct found *f)
{
    uint64_t at = f->h.header_bytes;

    for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
        const uint8_t *p = fuzz_look(f->img, at, 8);
        if (!p || at >= f->cluster) {
            return;
        }
        fuzz_place(f->img, &(struct fuzz_part){.name = "extension",
                                               .many = true,
                                               .index = i,
                                               .layout = &qcow2_extension_layout,
                                               .offset = at});
        if (get_be32(p) == QCOW2_EXT_END) {
            return;
        }
        parse_extension(f, get_be32(p), at + 8, get_be32(p + 4));
        at = round_up(at + 8 + get_be32(p + 4), 8);
    }
}

void q_parse(struct fuzz_image *img)
{
    struct found f = {.img = img};
    uint64_t size = MIN(fuzz_size(img), (uint64_t)QCOW2_HEADER_BYTES);
    const uint8_t *p = fuzz_look(img, 0, size);

    if (!p || size < QCOW2_V2_HEADER_BYTES) {
        return;
    }
    layout_parse(&qcow2_header_layout, p, size, get_be32(p + 4), &f.h);
    if (f.h.version < 3) {
        f.h.header_bytes = QCOW2_V2_HEADER_BYTES;
        f.h.refcount_order = 4;
    }
    unsigned bits =
        MAX(MIN(f.h.cluster_bits, (uint32_t)QCOW2_CLUSTER_BITS_MAX), (uint32_t)QCOW2_CLUSTER_BITS_MIN);
    f.cluster = UINT64_C(1) << bits;
    f.l2_entry = f.h.incompatible & QCOW2_EXT_L2 ? 16 : 8;
    fuzz_place(img,
               &(struct fuzz_part){.name = "header",
                                   .layout = &qcow2_header_layout,
                                   .version = f.h.version,
                                   .bytes = MIN(size, (uint64_t)MAX(f.h.header_bytes, QCOW2_V2_HEADER_BYTES)),
                                   .align = f.cluster,
                                   .weight = 60});
    parse_extensions(&f);
    if (f.h.backing_offset && fuzz_look(img, f.h.backing_offset, f.h.backing_bytes) && f.h.backing_bytes) {
        fuzz_place_bytes(img, "backing_name", -1, f.h.backing_offset, f.h.backing_bytes);
    }
    parse_l1(&f, 0, f.h.l1_offset, f.h.l1_entries);
    parse_refcounts(&f);
    parse_snapshots(&f);
}
