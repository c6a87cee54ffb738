/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VHDX: dynamic, fixed and differencing images: the file type identifier, two headers, two region tables, a
 * log (empty, or with entries to be replayed), metadata, the block allocation table and blocks, all in
 * units of 1 MiB.
 */
#include "fuzz/formats/vhdx.h"

#include <stdio.h>

#include "fuzz/formats.h"

#define LOCATOR_BYTES  4096u /* room for names */
#define HEADER_1       (64 * KiB)
#define REGIONS_1      (192 * KiB)
#define ITEMS_AT       (64 * KiB) /* in the metadata region */
#define SEQUENCE_FIRST 2

/* As they lie in the file (2.2.3.2, 2.6.2): the first three groups are little-endian. */
static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                     0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                          0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                            0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_disk_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                           0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_page83[16] = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
                                        0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46};
static const uint8_t guid_logical[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                         0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};
static const uint8_t guid_physical[16] = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
                                          0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56};
static const uint8_t guid_locator[16] = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                         0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};
static const uint8_t guid_locator_vhdx[16] = {0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a,
                                              0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13};

/* ---- what the image is ---- */

/* Blocks of the disk as the table counts them: behind each chunk there is an entry for a bitmap of sectors.
 */
uint64_t vhdx_bat_index(const struct vhdx *v, uint64_t block)
{
    return block + block / v->chunk;
}

static void choose_disk(struct fuzz_image *img, struct vhdx *v)
{
    /* two units for a differencing block: itself and its bitmap */
    uint64_t fit = (fuzz_limit(img) - 5 * MiB) / MiB;

    v->block = MiB << fuzz_pick(img, "block_bits", 0, v->fixed || v->parent ? 0 : 2);
    v->logical = v->parent || fuzz_depth(img) || !fuzz_chance(img, "sectors_4k", 5) ? SECTOR_SIZE : 4 * KiB;
    uint64_t units_max = fit / (v->block / MiB);
    if (v->parent) {
        v->size = fuzz_guest_size_of(img, v->parent);
    } else if (v->fixed) {
        v->size = choose_size(img, v->logical, units_max * v->block);
    } else {
        v->size = choose_size(img, v->logical, UINT64_C(60) * GiB);
    }
    v->chunk = (UINT64_C(1) << 23) * v->logical / v->block;
    v->blocks = div_up(v->size, v->block);
    uint64_t entries = v->parent ? round_up(v->blocks, v->chunk) / v->chunk * (v->chunk + 1)
                                 : vhdx_bat_index(v, v->blocks - 1) + 1;
    v->entries = entries;
    if (v->fixed) {
        v->units = (unsigned)v->blocks;
        for (unsigned i = 0; i < v->units; i++) {
            v->unit[i] = i;
        }
    } else {
        uint64_t wanted = fuzz_pick(img, "blocks", 0, VHDX_BLOCKS_MAX);
        v->units = choose_numbers(img, v->unit, (unsigned)MIN(v->parent ? units_max / 2 : units_max, wanted),
                                  v->blocks);
    }
    v->log_entries = fuzz_chance(img, "log", 15) && v->units && !v->parent && !fuzz_depth(img)
                         ? (unsigned)fuzz_pick(img, "log_entries", 1, VHDX_LOG_ENTRIES_MAX)
                         : 0;
}

static void lay_out(struct fuzz_image *img, struct vhdx *v)
{
    struct piece *meta = v->meta;

    meta[VHDX_LOG].bytes = meta[VHDX_METADATA].bytes = MiB;
    meta[VHDX_BAT].bytes = round_up(v->entries * 8, MiB);
    uint64_t end = place_pieces(img, meta, VHDX_METAS, MiB, MiB, 0, false);
    for (unsigned i = 0; i < v->units; i++) {
        v->piece[i].bytes = v->block;
        v->piece[v->units + i].bytes = MiB; /* the bitmap of the chunk it lies in */
    }
    v->end = place_pieces(img, v->piece, v->units, end, MiB, 0, false);
    if (v->parent) { /* all blocks that there is room for lie in the first chunks */
        uint64_t last = UINT64_MAX;
        for (unsigned i = 0; i < v->units; i++) {
            bool same = v->unit[i] / v->chunk == last;
            v->bitmap_of[i] = same ? v->bitmap_of[i - 1] : v->end;
            v->end += same ? 0 : MiB;
            last = v->unit[i] / v->chunk;
        }
    }
    if (v->fixed) { /* in order */
        for (unsigned i = 0; i < v->units; i++) {
            v->piece[i].offset = end + i * v->block;
        }
    }
    fuzz_set_size(img, v->end);
}

/* ---- headers and regions ---- */

static void put_identifier(struct fuzz_image *img)
{
    uint8_t *p = fuzz_at(img, 0, vhdx_identifier_layout.bytes);
    int i = fuzz_place(
        img, &(struct fuzz_part){.name = "identifier", .layout = &vhdx_identifier_layout, .weight = 2});

    put_text(img, i, 0, "signature", "vhdxfile");
    put_utf16(p + 8, 512, "blkproof", FIELD_LE);
}

static void put_header(struct fuzz_image *img, const struct vhdx *v, uint32_t index, bool current)
{
    uint64_t at = HEADER_1 * (index + 1);
    uint8_t id[16];

    fuzz_at(img, at, VHDX_HEADER_BYTES);
    int h = fuzz_place(img, &(struct fuzz_part){.name = "header",
                                                .many = true,
                                                .index = index,
                                                .layout = &vhdx_header_layout,
                                                .offset = at,
                                                .align = MiB,
                                                .weight = current ? 20 : 3});
    fuzz_put(img, h, 0, "signature", layout_field(&vhdx_header_layout, "signature")->min);
    fuzz_put(img, h, 0, "sequence_number", SEQUENCE_FIRST + current);
    make_id(img, fuzz_depth(img), 2, id);
    put_bytes(img, h, 0, "file_write_guid", id, sizeof(id));
    make_id(img, fuzz_depth(img), 3, id);
    put_bytes(img, h, 0, "data_write_guid", id, sizeof(id));
    if (v->log_entries && current) {
        vhdx_log_guid(img, id);
        put_bytes(img, h, 0, "log_guid", id, sizeof(id));
    }
    fuzz_put(img, h, 0, "version", 1);
    fuzz_put(img, h, 0, "log_length", MiB);
    fuzz_put(img, h, 0, "log_offset", v->meta[VHDX_LOG].offset);
    fuzz_sum(img, at + 4, 4, at, VHDX_HEADER_BYTES, sum_crc32c_le);
}

static void put_regions(struct fuzz_image *img, const struct vhdx *v, uint32_t index, bool bat_first)
{
    uint64_t at = REGIONS_1 + index * VHDX_REGION_BYTES;

    fuzz_at(img, at, vhdx_region_table_layout.bytes + 2 * vhdx_region_layout.bytes);
    int t = fuzz_place(img, &(struct fuzz_part){.name = "regions",
                                                .many = true,
                                                .index = index,
                                                .layout = &vhdx_region_table_layout,
                                                .offset = at,
                                                .weight = index ? 3 : 10});
    fuzz_put(img, t, 0, "signature", layout_field(&vhdx_region_table_layout, "signature")->min);
    fuzz_put(img, t, 0, "entry_count", 2);
    int r = fuzz_place(img, &(struct fuzz_part){.name = "region",
                                                .many = true,
                                                .index = index,
                                                .parent = t,
                                                .layout = &vhdx_region_layout,
                                                .offset = at + vhdx_region_table_layout.bytes,
                                                .element = "entry",
                                                .count = 2,
                                                .align = MiB,
                                                .weight = index ? 3 : 15});
    for (uint32_t i = 0; i < 2; i++) {
        bool bat = (i == 0) == bat_first;
        const struct piece *p = &v->meta[bat ? VHDX_BAT : VHDX_METADATA];
        put_bytes(img, r, i, "guid", bat ? guid_bat : guid_metadata, 16);
        fuzz_put(img, r, i, "file_offset", p->offset);
        fuzz_put(img, r, i, "length", p->bytes);
        fuzz_put(img, r, i, "flags", 1);
    }
    fuzz_sum(img, at + 4, 4, at, VHDX_REGION_BYTES, sum_crc32c_le);
}

/* ---- metadata ---- */

enum { USER = 1, DISK = 2, REQUIRED = 4 };

struct items {
    int table;
    uint32_t count;
    uint64_t at; /* where the next one goes, in the region */
};

/* Returns the item's part. */
static int put_item(struct fuzz_image *img, const struct vhdx *v, struct items *items, const char *name,
                    const uint8_t *guid, unsigned flags, const struct layout *layout, uint64_t bytes)
{
    uint64_t at = v->meta[VHDX_METADATA].offset + items->at;

    put_bytes(img, items->table, items->count, "item_id", guid, 16);
    fuzz_put(img, items->table, items->count, "offset", items->at);
    fuzz_put(img, items->table, items->count, "length", bytes);
    fuzz_put(img, items->table, items->count, "flags", flags);
    items->count++;
    items->at += round_up(bytes, 8) + 8 * fuzz_below(img, 3);
    fuzz_at(img, at, bytes);
    return fuzz_place(img, &(struct fuzz_part){.name = name, .layout = layout, .offset = at, .weight = 15});
}

/* One entry; returns where the next text goes, in the item. */
static uint64_t put_key(struct fuzz_image *img, int entries, uint32_t i, uint64_t item, uint64_t text,
                        const char *key, const char *value)
{
    size_t key_bytes = 2 * strlen(key), value_bytes = 2 * strlen(value);

    put_utf16(fuzz_at(img, item + text, key_bytes), key_bytes, key, FIELD_LE);
    put_utf16(fuzz_at(img, item + text + key_bytes, value_bytes), value_bytes, value, FIELD_LE);
    fuzz_put(img, entries, i, "key_offset", text);
    fuzz_put(img, entries, i, "key_length", key_bytes);
    fuzz_put(img, entries, i, "value_offset", text + key_bytes);
    fuzz_put(img, entries, i, "value_length", value_bytes);
    return text + key_bytes + value_bytes;
}

static void put_locator(struct fuzz_image *img, const struct vhdx *v, struct items *items)
{
    char linkage[40], path[160];
    uint8_t id[16], swapped[16];

    /* The parent's data_write_guid: as text, the first three groups are the other way round. */
    make_id(img, fuzz_depth(img) + 1, 3, id);
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < 16; i++) {
        swapped[i] = id[order[i]];
    }
    linkage[0] = '{';
    id_text(swapped, linkage + 1);
    strcat(linkage, "}");
    snprintf(path, sizeof(path), ".\\%s", v->parent);
    int l = put_item(img, v, items, "locator", guid_locator, REQUIRED, &vhdx_locator_layout, LOCATOR_BYTES);
    uint64_t item = fuzz_offset_of(img, l);
    put_bytes(img, l, 0, "type", guid_locator_vhdx, 16);
    fuzz_put(img, l, 0, "key_value_count", 2);
    int e = fuzz_place(img, &(struct fuzz_part){.name = "locator_key",
                                                .parent = l,
                                                .layout = &vhdx_locator_entry_layout,
                                                .offset = item + vhdx_locator_layout.bytes,
                                                .element = "entry",
                                                .count = 2});
    uint64_t text = vhdx_locator_layout.bytes + 2 * vhdx_locator_entry_layout.bytes;
    text = put_key(img, e, 0, item, text, "parent_linkage", linkage);
    put_key(img, e, 1, item, text, "relative_path", path);
    fuzz_place_bytes(img, "locator_text", -1, item + vhdx_locator_layout.bytes + 24, 256);
}

static void put_metadata(struct fuzz_image *img, const struct vhdx *v)
{
    uint64_t start = v->meta[VHDX_METADATA].offset;
    uint32_t count = 5 + (v->parent ? 1 : 0);
    struct items items = {.at = ITEMS_AT};
    uint8_t id[16];

    fuzz_at(img, start, vhdx_metadata_table_layout.bytes + count * vhdx_metadata_layout.bytes);
    int t = fuzz_place(
        img, &(struct fuzz_part){.name = "metadata", .layout = &vhdx_metadata_table_layout, .offset = start});
    put_text(img, t, 0, "signature", "metadata");
    fuzz_put(img, t, 0, "entry_count", count);
    items.table = fuzz_place(img, &(struct fuzz_part){.name = "item",
                                                      .layout = &vhdx_metadata_layout,
                                                      .offset = start + vhdx_metadata_table_layout.bytes,
                                                      .element = "entry",
                                                      .count = count,
                                                      .weight = 20});
    int p = put_item(img, v, &items, "parameters", guid_parameters, REQUIRED, &vhdx_parameters_layout, 8);
    fuzz_put(img, p, 0, "block_size", v->block);
    fuzz_put(img, p, 0, "flags", (v->fixed ? 1u : 0) | (v->parent ? 2u : 0));
    int s = put_item(img, v, &items, "disk_size", guid_disk_size, REQUIRED | DISK, &vhdx_disk_size_layout, 8);
    fuzz_put(img, s, 0, "size", v->size);
    int n = put_item(img, v, &items, "page83", guid_page83, REQUIRED | DISK, &vhdx_page83_layout, 16);
    make_id(img, fuzz_depth(img), 4, id);
    put_bytes(img, n, 0, "id", id, sizeof(id));
    int l = put_item(img, v, &items, "logical_sector", guid_logical, REQUIRED | DISK,
                     &vhdx_sector_size_layout, 4);
    fuzz_put(img, l, 0, "size", v->logical);
    int f = put_item(img, v, &items, "physical_sector", guid_physical, REQUIRED | DISK,
                     &vhdx_sector_size_layout, 4);
    fuzz_put(img, f, 0, "size", fuzz_below(img, 2) ? 4096 : 512);
    if (v->parent) {
        put_locator(img, v, &items);
    }
}

/* ---- blocks ---- */

/* Some sectors of a block are here, the others in the parent: which, one bit of the chunk's bitmap says. */
static void put_partial(struct fuzz_image *img, const struct vhdx *v, unsigned i)
{
    uint64_t sectors = v->block / SECTOR_SIZE, first = v->unit[i] % v->chunk * sectors;

    for (uint64_t s = 0; s < sectors; s += 64) { /* runs, so that they are few */
        if (fuzz_below(img, 3) == 0) {
            memset(fuzz_at(img, v->bitmap_of[i] + (first + s) / 8, 8), 0xff, 8);
            fuzz_guest_at(img, v->unit[i] * v->block + s * SECTOR_SIZE, 64 * SECTOR_SIZE,
                          v->piece[i].offset + s * SECTOR_SIZE);
        }
    }
}

static void put_block(struct fuzz_image *img, const struct vhdx *v, int bat, unsigned i)
{
    uint32_t entry = (uint32_t)vhdx_bat_index(v, v->unit[i]);
    bool partial = v->parent && fuzz_below(img, 3) > 0;

    fuzz_data(img, v->piece[i].offset, v->block);
    fuzz_place_bytes(img, "data", (int)i, v->piece[i].offset, v->block);
    fuzz_put(img, bat, entry, "state", partial ? VHDX_PARTIALLY_PRESENT : VHDX_FULLY_PRESENT);
    fuzz_put(img, bat, entry, "file_offset_mb", v->piece[i].offset / MiB);
    if (v->parent) {
        uint32_t bitmap = (uint32_t)((v->unit[i] / v->chunk + 1) * (v->chunk + 1) - 1);
        fuzz_put(img, bat, bitmap, "state", VHDX_FULLY_PRESENT);
        fuzz_put(img, bat, bitmap, "file_offset_mb", v->bitmap_of[i] / MiB);
    }
    if (partial) {
        put_partial(img, v, i);
    } else {
        fuzz_guest_at(img, v->unit[i] * v->block, v->block, v->piece[i].offset);
    }
}

static void put_blocks(struct fuzz_image *img, const struct vhdx *v)
{
    static const uint8_t nothing[] = {VHDX_NOT_PRESENT, VHDX_UNDEFINED, VHDX_ZERO, VHDX_UNMAPPED};
    uint64_t at = v->meta[VHDX_BAT].offset;

    fuzz_at(img, at, v->entries * 8);
    int bat = fuzz_place(img, &(struct fuzz_part){.name = "bat",
                                                  .layout = &vhdx_bat_layout,
                                                  .offset = at,
                                                  .element = "entry",
                                                  .count = (uint32_t)v->entries,
                                                  .used = 64,
                                                  .align = MiB,
                                                  .weight = 20});
    for (uint64_t b = 0; b < MIN(v->blocks, UINT64_C(64)) && !v->parent; b++) {
        fuzz_put(img, bat, (uint32_t)vhdx_bat_index(v, b), "state",
                 fuzz_below(img, 4) ? 0 : nothing[fuzz_below(img, ARRAY_SIZE(nothing))]);
    }
    for (unsigned i = 0; i < v->units; i++) {
        put_block(img, v, bat, i);
    }
}

static void build(struct fuzz_image *img)
{
    struct vhdx v = {0};
    uint64_t kind = fuzz_pick(img, "type", 0, 9);

    v.fixed = kind == 6 || kind == 7;
    if (kind > 7 && !fuzz_depth(img)) { /* QEMU opens no differencing one */
        v.parent = fuzz_beside(img, "parent", &fuzz_vhdx);
    }
    choose_disk(img, &v);
    lay_out(img, &v);
    fuzz_guest_size(img, v.size);
    fuzz_guest_from(img, 0, v.size, v.parent, 0);
    put_identifier(img);
    uint32_t current = (uint32_t)fuzz_below(img, 2);
    put_header(img, &v, 0, current == 0);
    put_header(img, &v, 1, current == 1);
    bool bat_first = fuzz_below(img, 2);
    put_regions(img, &v, 0, bat_first);
    put_regions(img, &v, 1, bat_first);
    put_metadata(img, &v);
    put_blocks(img, &v);
    vhdx_put_log(img, &v);
}

static const struct fuzz_weight weights[] = {
    {&vhdx_region_layout, "flags", 3},     {&vhdx_metadata_layout, "flags", 3},
    {&vhdx_header_layout, "version", 1},   {&vhdx_header_layout, "log_version", 3},
    {&vhdx_sector_size_layout, "size", 5}, {0},
};

const struct fuzz_format fuzz_vhdx = {
    .name = "vhdx",
    .ext = "vhdx",
    .summary = "VHDX of Hyper-V: dynamic, fixed and differencing images, with a log",
    .backing = "vhdx",
    .build = build,
    .weights = weights,
    .recipes = vhdx_recipes,
};
