/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VDI, VirtualBox's format, version 1.1: a header, a map of one word a block, and blocks of 1 MiB.
 * All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define VDI_SIGNATURE 0xbeda107fu
#define VDI_VERSION   0x00010001u

static const char *const types[] = {"0", "dynamic", "static", "undo", "difference", NULL};

static const struct field header_fields[] = {
    LE("text", FIELD_BYTES, 0, 64, .what = "\"<<< ... Disk Image >>>\\n\""),
    LE("signature", FIELD_MAGIC, 64, 4, .min = VDI_SIGNATURE),
    LE("version", FIELD_CODE, 68, 4, .min = VDI_VERSION, .max = VDI_VERSION, .what = "1.1"),
    LE("header_size", FIELD_LENGTH, 72, 4, .min = 0x180, .max = 0x1f8, .what = "of what follows"),
    LE("image_type", FIELD_ENUM, 76, 4, .min = 1, .max = 4, .values = types),
    LE("image_flags", FIELD_FLAGS, 80, 4),
    LE("description", FIELD_BYTES, 84, 256),
    LE("offset_bmap", FIELD_OFFSET, 340, 4, .align = 1, .what = "of the block map"),
    LE("offset_data", FIELD_OFFSET, 344, 4, .align = 1, .what = "of the first block"),
    LE("cylinders", FIELD_COUNT, 348, 4),
    LE("heads", FIELD_COUNT, 352, 4),
    LE("sectors", FIELD_COUNT, 356, 4, .what = "per track"),
    LE("sector_size", FIELD_LENGTH, 360, 4, .min = 512, .max = 512),
    LE("unused1", FIELD_RESERVED, 364, 4),
    LE("disk_size", FIELD_LENGTH, 368, 8, .what = "of the virtual disk in bytes"),
    LE("block_size", FIELD_LENGTH, 376, 4, .min = MiB, .max = MiB),
    LE("block_extra", FIELD_LENGTH, 380, 4, .what = "bytes before the data of each block"),
    LE("blocks_in_image", FIELD_COUNT, 384, 4, .what = "entries of the block map"),
    LE("blocks_allocated", FIELD_COUNT, 388, 4, .what = "blocks in the file"),
    LE("uuid_image", FIELD_BYTES, 392, 16),
    LE("uuid_last_snap", FIELD_BYTES, 408, 16),
    LE("uuid_link", FIELD_BYTES, 424, 16, .what = "of the parent"),
    LE("uuid_parent", FIELD_BYTES, 440, 16, .what = "last change of the parent"),
    LE("lchs_cylinders", FIELD_COUNT, 456, 4),
    LE("lchs_heads", FIELD_COUNT, 460, 4),
    LE("lchs_sectors", FIELD_COUNT, 464, 4),
    LE("lchs_sector_size", FIELD_LENGTH, 468, 4),
    LE("unused2", FIELD_BYTES, 472, 40),
    {0},
};
const struct layout vdi_header_layout = {"VDI header", header_fields, 512, 0};

static const struct field map_fields[] = {
    LE("block", FIELD_NUMBER, 0, 4, .what = "its place; 0xffffffff: none, 0xfffffffe: reads as zeroes"),
    {0},
};
const struct layout vdi_map_layout = {"VDI block map entry", map_fields, 4, 0};

#define BLOCKS_MAX  16
#define UNALLOCATED UINT32_MAX
#define ZERO        (UINT32_MAX - 1)

enum { DYNAMIC = 1, STATIC = 2, DIFFERENCE = 4 };

struct vdi {
    uint64_t size, map_offset, data_offset, blocks; /* of the disk */
    uint64_t unit[BLOCKS_MAX];                      /* those in the file, and where there */
    unsigned place[BLOCKS_MAX], units;
};

static void choose_geometry(struct fuzz_image *img, struct vdi *v, bool is_static)
{
    uint64_t fit = MIN((fuzz_limit(img) - MIN(fuzz_limit(img), MiB)) / MiB, (uint64_t)BLOCKS_MAX);

    v->size = choose_size(img, SECTOR_SIZE, is_static ? fit * MiB : UINT64_C(64) * GiB);
    v->blocks = div_up(v->size, MiB) + (is_static ? 0 : fuzz_below(img, 3));
    v->map_offset = SECTOR_SIZE * (1 + fuzz_below(img, 16));
    v->data_offset = round_up(v->map_offset + v->blocks * 4, SECTOR_SIZE) + SECTOR_SIZE * fuzz_below(img, 16);
    v->units = is_static ? (unsigned)v->blocks
                         : choose_numbers(img, v->unit, (unsigned)MIN(fit, fuzz_pick(img, "blocks", 0, 9)),
                                          div_up(v->size, MiB));
    for (unsigned i = 0; i < v->units; i++) {
        v->unit[i] = is_static ? i : v->unit[i];
        v->place[i] = i;
    }
    for (unsigned i = is_static ? 0 : v->units; i > 1; i--) {
        unsigned other = (unsigned)fuzz_below(img, i), mine = v->place[i - 1];
        v->place[i - 1] = v->place[other];
        v->place[other] = mine;
    }
}

static void put_header(struct fuzz_image *img, const struct vdi *v, unsigned type)
{
    uint8_t id[16];

    fuzz_at(img, 0, vdi_header_layout.bytes);
    int h =
        fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &vdi_header_layout, .weight = 30});
    put_text(img, h, 0, "text", "<<< Oracle VM VirtualBox Disk Image >>>\n");
    fuzz_put(img, h, 0, "signature", VDI_SIGNATURE);
    fuzz_put(img, h, 0, "version", VDI_VERSION);
    fuzz_put(img, h, 0, "header_size", 0x190);
    fuzz_put(img, h, 0, "image_type", type);
    fuzz_put(img, h, 0, "image_flags", type == DIFFERENCE ? 0x80 : 0);
    put_text(img, h, 0, "description", "of blkproof");
    fuzz_put(img, h, 0, "offset_bmap", v->map_offset);
    fuzz_put(img, h, 0, "offset_data", v->data_offset);
    fuzz_put(img, h, 0, "cylinders", MIN(v->size / SECTOR_SIZE / 63 / 16 + 1, UINT64_C(1024)));
    fuzz_put(img, h, 0, "heads", 16);
    fuzz_put(img, h, 0, "sectors", 63);
    fuzz_put(img, h, 0, "sector_size", SECTOR_SIZE);
    fuzz_put(img, h, 0, "disk_size", v->size);
    fuzz_put(img, h, 0, "block_size", MiB);
    fuzz_put(img, h, 0, "blocks_in_image", v->blocks);
    fuzz_put(img, h, 0, "blocks_allocated", v->units);
    make_id(img, fuzz_depth(img), 0, id);
    put_bytes(img, h, 0, "uuid_image", id, sizeof(id));
    make_id(img, fuzz_depth(img), 1, id);
    put_bytes(img, h, 0, "uuid_last_snap", id, sizeof(id));
    if (type == DIFFERENCE) {
        make_id(img, fuzz_depth(img) + 1, 0, id);
        put_bytes(img, h, 0, "uuid_link", id, sizeof(id));
        make_id(img, fuzz_depth(img) + 1, 1, id);
        put_bytes(img, h, 0, "uuid_parent", id, sizeof(id));
    }
}

static void put_blocks(struct fuzz_image *img, const struct vdi *v)
{
    fuzz_at(img, v->map_offset, v->blocks * 4);
    int map = fuzz_place(img, &(struct fuzz_part){.name = "map",
                                                  .layout = &vdi_map_layout,
                                                  .offset = v->map_offset,
                                                  .element = "entry",
                                                  .count = (uint32_t)v->blocks,
                                                  .used = 64});

    for (uint64_t i = 0; i < v->blocks; i++) {
        fuzz_put(img, map, (uint32_t)i, "block", i < 64 && fuzz_below(img, 8) == 0 ? ZERO : UNALLOCATED);
    }
    fuzz_set_size(img, MAX(fuzz_size(img), v->data_offset + v->units * MiB));
    for (unsigned i = 0; i < v->units; i++) {
        uint64_t at = v->data_offset + v->place[i] * MiB;
        fuzz_data(img, at, MiB);
        fuzz_place_bytes(img, "data", (int)i, at, MiB);
        fuzz_put(img, map, (uint32_t)v->unit[i], "block", v->place[i]);
        fuzz_guest_at(img, v->unit[i] * MiB, MiB, at);
    }
}

static void build(struct fuzz_image *img)
{
    struct vdi v;
    bool is_static = fuzz_chance(img, "static", 20);
    bool difference = fuzz_chance(img, "difference", 5) && !is_static && fuzz_depth(img) == 0;

    choose_geometry(img, &v, is_static);
    put_header(img, &v, is_static ? STATIC : difference ? DIFFERENCE : DYNAMIC);
    put_blocks(img, &v);
    if (!difference) { /* the parent is known by its UUID only */
        fuzz_guest_size(img, v.size);
    }
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void size_beyond_blocks(struct fuzz_image *img)
{
    int h = header_of(img);

    fuzz_set(img, h, 0, "disk_size", fuzz_get(img, h, 0, "blocks_in_image") * MiB + 1);
}

static void size_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "disk_size", UINT64_C(0x3fffffff80000));
    fuzz_set(img, header_of(img), 0, "blocks_in_image", 0x3fffffff);
}

static void size_too_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "disk_size", UINT64_C(0x20000100001));
}

static void blocks_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "blocks_in_image", UINT32_MAX);
}

static void blocks_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "blocks_in_image", 0);
}

static void block_size_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "block_size", 0);
}

static void block_twice(struct fuzz_image *img)
{
    int map = fuzz_find(img, "map", -1);

    fuzz_set(img, map, 0, "block", 0);
    fuzz_set(img, map, 1, "block", 0);
}

static const struct fuzz_recipe recipes[] = {
    {"iotest-084-disk-size", "the disk is one byte larger than its blocks", NULL, size_beyond_blocks},
    {"CVE-2014-0144-vdi-blocks", "as many blocks as a map of 4 GiB holds", NULL, size_huge},
    {"iotest-084-disk-size-huge", "the disk is larger than 32 bits count blocks for", NULL, size_too_huge},
    {"iotest-084-blocks-huge", "2^32 - 1 blocks", NULL, blocks_huge},
    {"iotest-084-blocks-0", "a disk of no blocks", NULL, blocks_0},
    {"vdi-block-size-0", "blocks of no bytes", NULL, block_size_0},
    {"vdi-block-twice", "two blocks of the disk in one place", "blocks=2", block_twice},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&vdi_header_layout, "version", 1},
    {&vdi_header_layout, "block_size", 3},
    {0},
};

const struct fuzz_format fuzz_vdi = {
    .name = "vdi",
    .ext = "vdi",
    .summary = "VirtualBox: dynamic, static and differencing images",
    .backing = "vdi",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
