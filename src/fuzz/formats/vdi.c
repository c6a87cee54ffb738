/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VDI, VirtualBox's format, version 1.1: a header, a map of one word a block, and blocks of 1 MiB.
 * All numbers are little-endian.
 */
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
