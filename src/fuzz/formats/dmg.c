/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDIF disk images of macOS: chunks of data, a resource fork or a property list with tables of chunks
 * ("mish"), and a trailer of 512 bytes ("koly"). All numbers are big-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

static const struct field trailer_fields[] = {
    BE("signature", FIELD_MAGIC, 0, 4, .min = 0x6b6f6c79, .what = "\"koly\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 4, .max = 4),
    BE("header_size", FIELD_LENGTH, 8, 4, .min = 512, .max = 512),
    BE("flags", FIELD_FLAGS, 12, 4),
    BE("running_data_fork_offset", FIELD_OFFSET, 16, 8),
    BE("data_fork_offset", FIELD_OFFSET, 24, 8),
    BE("data_fork_length", FIELD_LENGTH, 32, 8),
    BE("rsrc_fork_offset", FIELD_OFFSET, 40, 8),
    BE("rsrc_fork_length", FIELD_LENGTH, 48, 8),
    BE("segment_number", FIELD_NUMBER, 56, 4),
    BE("segment_count", FIELD_COUNT, 60, 4),
    BE("segment_id", FIELD_BYTES, 64, 16),
    BE("data_checksum_type", FIELD_ENUM, 80, 4, .what = "2: CRC-32; 0: none"),
    BE("data_checksum_size", FIELD_LENGTH, 84, 4, .what = "in bits"),
    BE("data_checksum", FIELD_BYTES, 88, 128),
    BE("xml_offset", FIELD_OFFSET, 216, 8, .what = "of the property list"),
    BE("xml_length", FIELD_LENGTH, 224, 8, .what = "of the property list"),
    BE("reserved", FIELD_BYTES, 232, 120),
    BE("checksum_type", FIELD_ENUM, 352, 4),
    BE("checksum_size", FIELD_LENGTH, 356, 4, .what = "in bits"),
    BE("checksum", FIELD_BYTES, 360, 128),
    BE("image_variant", FIELD_NUMBER, 488, 4),
    BE("sector_count", FIELD_COUNT, 492, 8, .what = "sectors of the disk"),
    BE("reserved2", FIELD_BYTES, 500, 12),
    {0},
};
const struct layout dmg_trailer_layout = {"DMG trailer", trailer_fields, 512, 0};

static const struct field fork_fields[] = {
    BE("data_offset", FIELD_OFFSET, 0, 4, .what = "of the resources, in the fork"),
    BE("map_offset", FIELD_OFFSET, 4, 4, .what = "of the map, in the fork"),
    BE("data_length", FIELD_LENGTH, 8, 4, .what = "of the resources"),
    BE("map_length", FIELD_LENGTH, 12, 4, .what = "of the map"),
    {0},
};
const struct layout dmg_fork_layout = {"DMG resource fork", fork_fields, 16, 0};

static const struct field resource_fields[] = {
    BE("length", FIELD_LENGTH, 0, 4, .what = "of the resource that follows"),
    {0},
};
const struct layout dmg_resource_layout = {"DMG resource", resource_fields, 4, 0};

static const struct field mish_fields[] = {
    BE("signature", FIELD_MAGIC, 0, 4, .min = 0x6d697368, .what = "\"mish\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 1),
    BE("first_sector", FIELD_NUMBER, 8, 8, .what = "of the disk"),
    BE("sector_count", FIELD_COUNT, 16, 8),
    BE("data_offset", FIELD_OFFSET, 24, 8),
    BE("buffers_needed", FIELD_COUNT, 32, 4, .what = "sectors of the largest chunk"),
    BE("descriptors", FIELD_COUNT, 36, 4),
    BE("reserved", FIELD_BYTES, 40, 24),
    BE("checksum_type", FIELD_ENUM, 64, 4),
    BE("checksum_size", FIELD_LENGTH, 68, 4, .what = "in bits"),
    BE("checksum", FIELD_BYTES, 72, 128),
    BE("chunk_count", FIELD_COUNT, 200, 4),
    {0},
};
const struct layout dmg_mish_layout = {"DMG chunk table", mish_fields, 204, 0};

static const struct field chunk_fields[] = {
    BE("type", FIELD_CODE, 0, 4,
       .what = "0: zeroes, 1: raw, 2: ignore, 0x80000005: zlib, 0x80000006: bzip2, 0x80000007: lzfse, "
               "0x7ffffffe: comment, 0xffffffff: the last"),
    BE("comment", FIELD_BYTES, 4, 4),
    BE("sector", FIELD_NUMBER, 8, 8, .what = "first sector, from first_sector of the table"),
    BE("sector_count", FIELD_COUNT, 16, 8),
    BE("offset", FIELD_OFFSET, 24, 8, .what = "of the chunk, from the data fork"),
    BE("length", FIELD_LENGTH, 32, 8, .what = "of the chunk"),
    {0},
};
const struct layout dmg_chunk_layout = {"DMG chunk", chunk_fields, 40, 0};
