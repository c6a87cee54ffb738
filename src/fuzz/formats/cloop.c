/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cloop version 2, the compressed disk of Knoppix: a shell script of 128 bytes, two numbers, the places of
 * the compressed blocks and of their end, and the blocks (zlib streams). All numbers are big-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
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
