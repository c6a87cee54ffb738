/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cloop version 2, the compressed disk of Knoppix: a shell script of 128 bytes, two numbers, the places of
 * the compressed blocks and of their end, and the blocks (zlib streams). All numbers are big-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/deflate.h"
#include "fuzz/formats/fields.h"

static const struct field header_fields[] = {
    BE("script", FIELD_BYTES, 0, 128),
    BE("block_size", FIELD_LENGTH, 128, 4, .min = 512, .max = 64 * MiB, .what = "a multiple of 512"),
    BE("n_blocks", FIELD_COUNT, 132, 4, .min = 1, .max = 0x1fffffff, .what = "of the disk"),
    {0},
};
const struct layout cloop_header_layout = {"cloop header", header_fields, 136, 0};

static const struct field offset_fields[] = {
    BE("offset", FIELD_OFFSET, 0, 8, .what = "of a compressed block; the last: of their end"),
    {0},
};
const struct layout cloop_offset_layout = {"cloop block offset", offset_fields, 8, 0};

#define BLOCKS_MAX 200u
#define UNIT_MAX   256u

static const char script[] =
    "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";

/* Returns where the next block goes. */
static uint64_t put_block(struct fuzz_image *img, uint64_t at, uint32_t i, uint64_t block)
{
    uint8_t unit[UNIT_MAX];
    uint64_t seed = rng_u64(fuzz_rng(img));
    uint32_t unit_bytes = 1 + (uint32_t)fuzz_below(img, UNIT_MAX);

    fuzz_guest_unit(seed, unit, unit_bytes);
    size_t len =
        zlib_repeated(unit, unit_bytes, block, fuzz_at(img, at, deflate_room(unit_bytes, block) + 6));
    fuzz_place_bytes(img, "block", (int)i, at, len);
    fuzz_guest_repeat(img, i * block, block, seed, unit_bytes);
    return at + len;
}

static void build(struct fuzz_image *img)
{
    uint64_t block = UINT64_C(1) << fuzz_pick(img, "block_bits", 9, 16);
    uint32_t blocks = (uint32_t)fuzz_pick(img, "blocks", 1, BLOCKS_MAX);
    uint64_t at = cloop_header_layout.bytes + (blocks + UINT64_C(1)) * 8;

    fuzz_at(img, 0, at);
    int h =
        fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &cloop_header_layout, .weight = 30});
    put_text(img, h, 0, "script", script);
    fuzz_put(img, h, 0, "block_size", block);
    fuzz_put(img, h, 0, "n_blocks", blocks);
    int o = fuzz_place(img, &(struct fuzz_part){.name = "offsets",
                                                .layout = &cloop_offset_layout,
                                                .offset = cloop_header_layout.bytes,
                                                .element = "entry",
                                                .count = blocks + 1,
                                                .weight = 20});
    fuzz_guest_size(img, blocks * block);
    for (uint32_t i = 0; i < blocks; i++) {
        fuzz_put(img, o, i, "offset", at);
        at = put_block(img, at, i, block);
    }
    fuzz_put(img, o, blocks, "offset", at);
    fuzz_set_size(img, at);
}

/* ---- known-bad images ---- */

static void set_header(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "header", -1), 0, field, value);
}

static void block_size_odd(struct fuzz_image *img)
{
    set_header(img, "block_size", 513);
}

static void block_size_0(struct fuzz_image *img)
{
    set_header(img, "block_size", 0);
}

static void block_size_huge(struct fuzz_image *img)
{
    set_header(img, "block_size", UINT32_C(0xfffffe00));
}

static void blocks_huge(struct fuzz_image *img)
{
    set_header(img, "n_blocks", UINT32_MAX);
}

static void blocks_wrap(struct fuzz_image *img)
{
    set_header(img, "n_blocks", 0x20000001);
}

static void offsets_backwards(struct fuzz_image *img)
{
    int o = fuzz_find(img, "offsets", -1);

    fuzz_set(img, o, 1, "offset", 0);
}

static void block_long(struct fuzz_image *img)
{
    int o = fuzz_find(img, "offsets", -1);

    fuzz_set(img, o, 1, "offset", UINT64_C(1) << 62);
}

static const struct fuzz_recipe recipes[] = {
    {"iotest-075-block-size", "blocks that are no multiple of 512 bytes", NULL, block_size_odd},
    {"CVE-2014-0144-cloop-block-size-0", "blocks of no bytes", NULL, block_size_0},
    {"CVE-2014-0144-cloop-block-size", "blocks of 4 GiB", NULL, block_size_huge},
    {"CVE-2014-0144-cloop-blocks", "2^32 - 1 blocks", NULL, blocks_huge},
    {"CVE-2014-0143-cloop-blocks-wrap", "the table's length wraps in 32 bits", NULL, blocks_wrap},
    {"iotest-075-offsets", "a block ends before it begins", NULL, offsets_backwards},
    {"iotest-075-block-long", "a compressed block of 2^62 bytes", NULL, block_long},
    {0},
};

const struct fuzz_format fuzz_cloop = {
    .name = "cloop",
    .ext = "cloop",
    .summary = "cloop: compressed blocks behind a shell script",
    .build = build,
    .recipes = recipes,
};
