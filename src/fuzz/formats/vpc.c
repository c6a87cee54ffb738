/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VHD: fixed (data, then a footer), dynamic (a copy of the footer, a header, a table, blocks with a bitmap in
 * front of each, the footer) and differencing images over another VHD.
 */
#include "fuzz/formats/vpc.h"

#include <stdio.h>

#include "fuzz/formats.h"
#include "fuzz/formats/build.h"

#define BLOCKS_MAX   64u
#define LOCATORS_MAX 8u
#define NAME_MAX     512u /* bytes that a locator reserves */
#define NONE         UINT32_MAX

enum { FIXED = 2, DYNAMIC = 3, DIFFERENCING = 4 };

struct vpc {
    unsigned type;
    uint64_t size, blocks;
    unsigned cylinders, heads, sectors;
    bool geometric; /* the size is exactly the geometry's */
    uint64_t block, bitmap;
    const char *parent;
    unsigned locators;
    struct piece meta[2 + LOCATORS_MAX]; /* header, table, names of the parent */
    uint64_t unit[BLOCKS_MAX];
    struct piece piece[BLOCKS_MAX];
    unsigned units;
    uint64_t end;
};

/* ---- size and geometry ---- */

static const uint8_t geometries[][2] = {{16, 63}, {16, 31}, {4, 17}}; /* heads, sectors per track */

static void find_geometry(struct vpc *v)
{
    uint64_t sectors = v->size / SECTOR_SIZE;

    for (size_t i = 0; i < ARRAY_SIZE(geometries); i++) {
        unsigned track = geometries[i][0] * geometries[i][1];
        v->geometric = sectors % track == 0 && sectors / track <= UINT16_MAX;
        v->heads = geometries[i][0];
        v->sectors = geometries[i][1];
        v->cylinders = (unsigned)MIN(sectors / track, (uint64_t)UINT16_MAX);
        if (v->geometric) {
            return;
        }
    }
}

static void choose_disk(struct fuzz_image *img, struct vpc *v, uint64_t size_max)
{
    const uint8_t *g = geometries[fuzz_below(img, ARRAY_SIZE(geometries))];
    uint64_t cylinder = (uint64_t)g[0] * g[1] * SECTOR_SIZE;

    v->size = choose_size(img, cylinder, MIN(size_max, cylinder * UINT16_MAX));
    if (fuzz_chance(img, "odd_size", 25) && v->size + cylinder <= size_max) {
        v->size += SECTOR_SIZE * fuzz_below(img, cylinder / SECTOR_SIZE);
    }
    find_geometry(v);
}

/* ---- the footer ---- */

static void put_footer(struct fuzz_image *img, const struct vpc *v, const char *name, uint64_t at)
{
    static const char *const by_geometry[] = {"vpc ", "vs  ", "vbox", "qemu", "win ", "qem2"};
    const char *creator =
        by_geometry[v->geometric ? fuzz_pick(img, "creator", 0, 5) : 4 + fuzz_below(img, 2)];
    uint8_t id[16];

    fuzz_at(img, at, vpc_footer_layout.bytes);
    int f = fuzz_place(
        img, &(struct fuzz_part){.name = name, .layout = &vpc_footer_layout, .offset = at, .weight = 15});
    put_text(img, f, 0, "cookie", "conectix");
    fuzz_put(img, f, 0, "features", 2);
    fuzz_put(img, f, 0, "version", VPC_VERSION);
    fuzz_put(img, f, 0, "data_offset", v->type == FIXED ? UINT64_MAX : v->meta[0].offset);
    fuzz_put(img, f, 0, "timestamp", fuzz_seed(img));
    put_text(img, f, 0, "creator_app", creator);
    fuzz_put(img, f, 0, "creator_version", 0x00050003);
    put_text(img, f, 0, "creator_os", "Wi2k");
    fuzz_put(img, f, 0, "original_size", v->size);
    fuzz_put(img, f, 0, "current_size", v->size);
    fuzz_put(img, f, 0, "cylinders", v->cylinders);
    fuzz_put(img, f, 0, "heads", v->heads);
    fuzz_put(img, f, 0, "sectors", v->sectors);
    fuzz_put(img, f, 0, "type", v->type);
    make_id(img, fuzz_depth(img), 0, id);
    put_bytes(img, f, 0, "uuid", id, sizeof(id));
    fuzz_sum(img, at + layout_field(&vpc_footer_layout, "checksum")->offset, 4, at, vpc_footer_layout.bytes,
             sum_vhd);
}

/* The copy is the footer, byte by byte. */
static void copy_footer(struct fuzz_image *img, uint64_t from, uint64_t to)
{
    uint32_t len = vpc_footer_layout.bytes;

    memcpy(fuzz_at(img, to, len), fuzz_look(img, from, len), len);
    fuzz_place(
        img, &(struct fuzz_part){.name = "footer", .layout = &vpc_footer_layout, .offset = to, .weight = 15});
    fuzz_sum(img, to + layout_field(&vpc_footer_layout, "checksum")->offset, 4, to, len, sum_vhd);
}

/* ---- fixed ---- */

static void build_fixed(struct fuzz_image *img, struct vpc *v)
{
    choose_disk(img, v, fuzz_limit(img) - SECTOR_SIZE);
    fuzz_set_size(img, v->size);
    fuzz_data(img, 0, v->size);
    fuzz_place_bytes(img, "data", 0, 0, v->size);
    fuzz_guest_size(img, v->size);
    fuzz_guest_at(img, 0, v->size, 0);
    put_footer(img, v, "footer", v->size);
}

/* ---- dynamic and differencing ---- */

static void choose_blocks(struct fuzz_image *img, struct vpc *v)
{
    unsigned bits_min = 12; /* QEMU takes smaller blocks for ones without a bitmap */

    while (v->size >> bits_min > fuzz_limit(img) / 16) { /* the table takes a quarter of the file at most */
        bits_min++;
    }
    unsigned bits_max = v->type == DIFFERENCING ? MAX(bits_min, 16u) : MAX(bits_min, 21u);
    v->block = UINT64_C(1) << (fuzz_chance(img, "usual_blocks", 30)
                                   ? bits_max
                                   : fuzz_pick(img, "block_bits", bits_min, bits_max));
    v->bitmap = round_up(div_up(v->block / SECTOR_SIZE, 8), SECTOR_SIZE);
    v->blocks = div_up(v->size, v->block);
    uint64_t room = (fuzz_limit(img) - fuzz_limit(img) / 4 - 64 * KiB) / (v->block + v->bitmap);
    uint64_t wanted = fuzz_pick(img, "blocks", 0, 40);
    v->units =
        choose_numbers(img, v->unit, (unsigned)MIN(MIN(room, wanted), (uint64_t)BLOCKS_MAX), v->blocks);
}

/* What a writer appends begins behind the last block: header, table and names lie in front of all blocks. */
static void lay_out(struct fuzz_image *img, struct vpc *v)
{
    v->meta[0].bytes = vpc_header_layout.bytes;
    v->meta[1].bytes = v->blocks * 4;
    for (unsigned i = 0; i < v->locators; i++) {
        v->meta[2 + i].bytes = NAME_MAX;
    }
    uint64_t at = place_pieces(img, v->meta, 2 + v->locators, SECTOR_SIZE, SECTOR_SIZE, 10, false);
    at = round_up(at, SECTOR_SIZE);
    for (unsigned i = 0; i < v->units; i++) {
        v->piece[i].bytes = v->bitmap + v->block;
    }
    v->end = place_pieces(img, v->piece, v->units, at, SECTOR_SIZE, 5, false);
}

static void put_header(struct fuzz_image *img, const struct vpc *v)
{
    uint64_t at = v->meta[0].offset;
    uint8_t id[16];

    fuzz_at(img, at, vpc_header_layout.bytes);
    int h = fuzz_place(
        img, &(struct fuzz_part){.name = "header", .layout = &vpc_header_layout, .offset = at, .weight = 20});
    put_text(img, h, 0, "cookie", "cxsparse");
    fuzz_put(img, h, 0, "data_offset", UINT64_MAX);
    fuzz_put(img, h, 0, "table_offset", v->meta[1].offset);
    fuzz_put(img, h, 0, "version", VPC_VERSION);
    fuzz_put(img, h, 0, "max_table_entries", v->blocks);
    fuzz_put(img, h, 0, "block_size", v->block);
    if (v->parent) {
        make_id(img, fuzz_depth(img) + 1, 0, id);
        put_bytes(img, h, 0, "parent_uuid", id, sizeof(id));
        fuzz_put(img, h, 0, "parent_timestamp", fuzz_seed(img));
        put_utf16(fuzz_at(img, at + layout_field(&vpc_header_layout, "parent_name")->offset, 512), 510,
                  v->parent, FIELD_BE);
    }
}

/* The name of the parent: as Windows has it, in two ways, or as a URL. */
static void put_locators(struct fuzz_image *img, const struct vpc *v)
{
    static const uint32_t codes[] = {0x57327275, 0x57326b75, 0x4d616358}; /* "W2ru", "W2ku", "MacX" */
    int l = fuzz_place(img, &(struct fuzz_part){.name = "locators",
                                                .layout = &vpc_locator_layout,
                                                .offset = v->meta[0].offset + 576,
                                                .element = "locator",
                                                .count = LOCATORS_MAX,
                                                .used = MAX(v->locators, 1u)});

    for (uint32_t i = 0; i < v->locators; i++) {
        char name[NAME_MAX / 2];
        uint64_t at = v->meta[2 + i].offset;
        bool url = i % 3 == 2;
        size_t len =
            (size_t)snprintf(name, sizeof(name), "%s%s", url ? "file://localhost/" : ".\\", v->parent);
        uint8_t *p = fuzz_at(img, at, NAME_MAX);
        if (url) {
            memcpy(p, name, len);
        } else {
            put_utf16(p, NAME_MAX, name, FIELD_LE);
        }
        fuzz_place_bytes(img, "parent_name", (int)i, at, NAME_MAX);
        fuzz_put(img, l, i, "platform_code", codes[i % 3]);
        fuzz_put(img, l, i, "data_space", NAME_MAX);
        fuzz_put(img, l, i, "data_length", url ? len : 2 * len);
        fuzz_put(img, l, i, "data_offset", at);
    }
}

/* Sectors without their bit are the parent's. Where there is no parent they are zeroes, and not everyone
 * looks at the bits: there all are set. */
static void put_bitmap(struct fuzz_image *img, const struct vpc *v, unsigned i)
{
    uint64_t at = v->piece[i].offset, sectors = v->block / SECTOR_SIZE;
    uint8_t *bits = fuzz_at(img, at, v->bitmap);

    memset(bits, 0xff, div_up(sectors, 8));
    fuzz_place_bytes(img, "bitmap", (int)i, at, v->bitmap);
    for (uint64_t b = 0; v->parent && b < div_up(sectors, 8); b++) {
        uint64_t kind = fuzz_below(img, 3);
        bits[b] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)fuzz_below(img, 256);
    }
    for (uint64_t s = 0; v->parent && s < sectors; s++) {
        if (bits[s / 8] >> (7 - s % 8) & 1) {
            fuzz_guest_at(img, v->unit[i] * v->block + s * SECTOR_SIZE, SECTOR_SIZE,
                          at + v->bitmap + s * SECTOR_SIZE);
        }
    }
}

static void put_blocks(struct fuzz_image *img, const struct vpc *v)
{
    fuzz_at(img, v->meta[1].offset, round_up(v->blocks * 4, SECTOR_SIZE));
    int table = fuzz_place(img, &(struct fuzz_part){.name = "bat",
                                                    .layout = &vpc_bat_layout,
                                                    .offset = v->meta[1].offset,
                                                    .element = "entry",
                                                    .count = (uint32_t)v->blocks,
                                                    .used = 64});

    memset(fuzz_at(img, v->meta[1].offset, round_up(v->blocks * 4, SECTOR_SIZE)), 0xff,
           round_up(v->blocks * 4, SECTOR_SIZE));
    for (unsigned i = 0; i < v->units; i++) {
        uint64_t at = v->piece[i].offset;
        fuzz_put(img, table, (uint32_t)v->unit[i], "sector", at / SECTOR_SIZE);
        fuzz_data(img, at + v->bitmap, v->block);
        fuzz_place_bytes(img, "data", (int)i, at + v->bitmap, v->block);
        put_bitmap(img, v, i);
        if (!v->parent) {
            fuzz_guest_at(img, v->unit[i] * v->block, v->block, at + v->bitmap);
        }
    }
}

static void build_blocks(struct fuzz_image *img, struct vpc *v)
{
    if (v->type == DIFFERENCING) {
        v->parent = fuzz_beside(img, "parent", &fuzz_vpc);
    }
    if (v->parent) {
        v->size = fuzz_guest_size_of(img, v->parent);
        v->locators = (unsigned)fuzz_pick(img, "locators", 1, 3);
        find_geometry(v);
    } else {
        v->type = DYNAMIC;
        choose_disk(img, v, UINT64_C(60) * GiB);
    }
    choose_blocks(img, v);
    lay_out(img, v);
    fuzz_guest_size(img, v->size);
    fuzz_guest_from(img, 0, v->size, v->parent, 0);
    put_footer(img, v, "copy", 0);
    put_header(img, v);
    put_locators(img, v);
    fuzz_sum(img, v->meta[0].offset + layout_field(&vpc_header_layout, "checksum")->offset, 4,
             v->meta[0].offset, vpc_header_layout.bytes, sum_vhd);
    put_blocks(img, v);
    copy_footer(img, 0, v->end);
}

static void build(struct fuzz_image *img)
{
    struct vpc v = {0};
    uint64_t kind = fuzz_pick(img, "type", 0, 9);

    /* Below others it is none over a parent: few programs read those. */
    v.type = kind < 6 || (kind > 7 && fuzz_depth(img) > 0) ? DYNAMIC : kind < 8 ? FIXED : DIFFERENCING;
    if (v.type == FIXED) {
        build_fixed(img, &v);
    } else {
        build_blocks(img, &v);
    }
}

/* ---- known-bad images ---- */

static void set_footers(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "copy", -1), 0, field, value);
    fuzz_set(img, fuzz_find(img, "footer", -1), 0, field, value);
}

static void set_header(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "header", -1), 0, field, value);
}

static void block_size_0(struct fuzz_image *img)
{
    set_header(img, "block_size", 0);
}

static void block_size_128(struct fuzz_image *img)
{
    set_header(img, "block_size", 128);
}

static void block_size_huge(struct fuzz_image *img)
{
    set_header(img, "block_size", UINT32_C(1) << 31);
}

static void entries_few(struct fuzz_image *img)
{
    set_header(img, "max_table_entries", 1);
    set_header(img, "block_size", 512);
}

static void entries_huge(struct fuzz_image *img)
{
    set_header(img, "max_table_entries", UINT32_MAX);
}

static void table_beyond_end(struct fuzz_image *img)
{
    set_header(img, "table_offset", INT64_MAX);
}

static void header_beyond_end(struct fuzz_image *img)
{
    set_footers(img, "data_offset", INT64_MAX & ~UINT64_C(511));
}

static void geometry_0(struct fuzz_image *img)
{
    set_footers(img, "cylinders", 0);
    set_footers(img, "heads", 0);
}

static void locator_huge(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "locators", -1), 0, "data_length", UINT32_MAX);
}

static void truncated_footer(struct fuzz_image *img)
{
    fuzz_truncate(img, 256);
}

static const struct fuzz_recipe recipes[] = {
    {"iotest-088-block-size-0", "blocks of no bytes: a division by zero", "type=0", block_size_0},
    {"iotest-088-block-size-128", "blocks shorter than a sector", "type=0", block_size_128},
    {"CVE-2014-0144-vpc-block-size", "blocks of 2 GiB", "type=0", block_size_huge},
    {"CVE-2014-0144-vpc-entries", "a table too short for the disk", "type=0,size_bits=15", entries_few},
    {"CVE-2014-0142-vpc-entries-huge", "a table of 2^32 - 1 entries", "type=0", entries_huge},
    {"CVE-2014-0143-vpc-table", "the table lies behind the end of all files", "type=0", table_beyond_end},
    {"vpc-header-offset", "the header lies behind the end of all files", "type=0", header_beyond_end},
    {"vpc-geometry-0", "a geometry of no cylinders and no heads", NULL, geometry_0},
    {"vpc-locator-length", "the name of the parent is 2^32 - 1 bytes long", "type=9", locator_huge},
    {"vpc-truncated", "the file ends within the footer", NULL, truncated_footer},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&vpc_footer_layout, "version", 1},
    {&vpc_footer_layout, "timestamp", 1},
    {&vpc_footer_layout, "creator_version", 1},
    {&vpc_header_layout, "version", 1},
    {0},
};

const struct fuzz_format fuzz_vpc = {
    .name = "vpc",
    .ext = "vhd",
    .summary = "VHD of Virtual PC: fixed, dynamic and differencing images",
    .backing = "vpc",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
