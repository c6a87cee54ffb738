/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bochs "growing" images: a header, a catalog of one word an extent, and extents, each with a bitmap of its
 * sectors in front. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

static const struct field header_fields[] = {
    LE("magic", FIELD_BYTES, 0, 32, .what = "\"Bochs Virtual HD Image\""),
    LE("type", FIELD_BYTES, 32, 16, .what = "\"Redolog\""),
    LE("subtype", FIELD_BYTES, 48, 16, .what = "\"Growing\""),
    LE("version", FIELD_CODE, 64, 4, .min = 0x10000, .max = 0x20000, .what = "1.0 or 2.0"),
    LE("header", FIELD_LENGTH, 68, 4, .min = 512, .max = 512,
       .what = "of the header: where the catalog begins"),
    LE("catalog", FIELD_COUNT, 72, 4, .max = 0x100000, .what = "extents of the disk"),
    LE("bitmap", FIELD_LENGTH, 76, 4, .min = 1, .max = UINT32_MAX, .what = "of the bitmap of an extent"),
    LE("extent", FIELD_LENGTH, 80, 4, .min = 512, .max = 0x800000, .what = "of an extent; a power of two"),
    LE("reserved", FIELD_RESERVED, 84, 4),
    LE("disk", FIELD_LENGTH, 88, 8, .what = "of the virtual disk in bytes"),
    {0},
};
const struct layout bochs_header_layout = {"Bochs header", header_fields, 512, 0};

static const struct field catalog_fields[] = {
    LE("extent", FIELD_NUMBER, 0, 4, .what = "its place, counted in extents; 0xffffffff: none"),
    {0},
};
const struct layout bochs_catalog_layout = {"Bochs catalog entry", catalog_fields, 4, 0};

#define EXTENTS_MAX 60u

struct bochs {
    uint64_t size, extent, bitmap, extents, data_offset;
    uint64_t unit[EXTENTS_MAX];
    struct piece piece[EXTENTS_MAX];
    unsigned units;
};

static void choose_disk(struct fuzz_image *img, struct bochs *b)
{
    b->extent = UINT64_C(1) << fuzz_pick(img, "extent_bits", 12, 20);
    b->bitmap = b->extent / SECTOR_SIZE / 8;
    b->size = choose_size(img, SECTOR_SIZE, b->extent * 0x8000);
    b->extents = div_up(b->size, b->extent) + fuzz_below(img, 3);
    b->data_offset = bochs_header_layout.bytes + b->extents * 4;
    uint64_t each = b->extent + round_up(b->bitmap, SECTOR_SIZE);
    uint64_t room = (fuzz_limit(img) - b->data_offset) / each,
             wanted = fuzz_pick(img, "extents", 0, EXTENTS_MAX);
    b->units = choose_numbers(img, b->unit, (unsigned)MIN(room, wanted), div_up(b->size, b->extent));
    for (unsigned i = 0; i < b->units; i++) {
        b->piece[i].bytes = each;
    }
    fuzz_set_size(img, place_pieces(img, b->piece, b->units, b->data_offset, each, 0, false));
}

static void put_header(struct fuzz_image *img, const struct bochs *b)
{
    fuzz_at(img, 0, bochs_header_layout.bytes);
    int h =
        fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &bochs_header_layout, .weight = 30});
    put_text(img, h, 0, "magic", "Bochs Virtual HD Image");
    put_text(img, h, 0, "type", "Redolog");
    put_text(img, h, 0, "subtype", "Growing");
    fuzz_put(img, h, 0, "version", 0x20000);
    fuzz_put(img, h, 0, "header", bochs_header_layout.bytes);
    fuzz_put(img, h, 0, "catalog", b->extents);
    fuzz_put(img, h, 0, "bitmap", b->bitmap);
    fuzz_put(img, h, 0, "extent", b->extent);
    fuzz_put(img, h, 0, "disk", b->size);
}

/* Sectors without their bit read as zeroes. */
static void put_extent(struct fuzz_image *img, const struct bochs *b, unsigned i)
{
    uint64_t at = b->piece[i].offset, data = at + round_up(b->bitmap, SECTOR_SIZE);
    uint8_t *bits = fuzz_at(img, at, b->bitmap);

    fuzz_data(img, data, b->extent);
    fuzz_place_bytes(img, "bitmap", (int)i, at, b->bitmap);
    fuzz_place_bytes(img, "data", (int)i, data, b->extent);
    fuzz_set_size(img, MAX(fuzz_size(img), data + b->extent));
    for (uint64_t k = 0; k < b->bitmap; k++) { /* eight sectors at a time */
        if (fuzz_below(img, 3)) {
            bits[k] = 0xff;
            fuzz_guest_at(img, b->unit[i] * b->extent + k * 8 * SECTOR_SIZE, UINT64_C(8) * SECTOR_SIZE,
                          data + k * 8 * SECTOR_SIZE);
        }
    }
}

static void build(struct fuzz_image *img)
{
    struct bochs b;

    choose_disk(img, &b);
    fuzz_guest_size(img, b.size);
    put_header(img, &b);
    memset(fuzz_at(img, bochs_header_layout.bytes, b.extents * 4), 0xff, b.extents * 4);
    int c = fuzz_place(img, &(struct fuzz_part){.name = "catalog",
                                                .layout = &bochs_catalog_layout,
                                                .offset = bochs_header_layout.bytes,
                                                .element = "entry",
                                                .count = (uint32_t)b.extents,
                                                .used = 64});
    for (unsigned i = 0; i < b.units; i++) {
        fuzz_put(img, c, (uint32_t)b.unit[i], "extent",
                 (b.piece[i].offset - b.data_offset) / b.piece[i].bytes);
        put_extent(img, &b, i);
    }
}

/* ---- known-bad images ---- */

static void set_header(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "header", -1), 0, field, value);
}

static void catalog_negative(struct fuzz_image *img)
{
    set_header(img, "catalog", UINT32_MAX);
}

static void catalog_huge(struct fuzz_image *img)
{
    set_header(img, "catalog", UINT32_C(1) << 30);
}

static void catalog_small(struct fuzz_image *img)
{
    set_header(img, "catalog", 0);
}

static void extent_0(struct fuzz_image *img)
{
    set_header(img, "extent", 0);
}

static void extent_huge(struct fuzz_image *img)
{
    set_header(img, "extent", UINT32_C(1) << 31);
}

static void bitmap_huge(struct fuzz_image *img)
{
    set_header(img, "bitmap", UINT32_MAX);
}

static void disk_huge(struct fuzz_image *img)
{
    set_header(img, "disk", UINT64_MAX);
}

static void catalog_entry_far(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "catalog", -1), 0, "extent", UINT32_MAX - 1);
}

static const struct fuzz_recipe recipes[] = {
    {"CVE-2014-0143-bochs-catalog", "a catalog of 2^30 entries, 4 GiB", NULL, catalog_huge},
    {"CVE-2014-0147-bochs-catalog-negative", "a catalog of -1 entries", NULL, catalog_negative},
    {"iotest-078-catalog-small", "a catalog too small for the disk", NULL, catalog_small},
    {"CVE-2014-0142-bochs-extent", "extents of no bytes: a division by zero", NULL, extent_0},
    {"iotest-078-extent-huge", "extents of 2 GiB", NULL, extent_huge},
    {"bochs-bitmap-huge", "bitmaps of 4 GiB", NULL, bitmap_huge},
    {"iotest-078-disk", "a disk of 2^64 - 1 bytes", NULL, disk_huge},
    {"bochs-extent-far", "an extent behind the end of all files", NULL, catalog_entry_far},
    {0},
};

const struct fuzz_format fuzz_bochs = {
    .name = "bochs",
    .ext = "bochs",
    .summary = "Bochs: growing images",
    .build = build,
    .recipes = recipes,
};
