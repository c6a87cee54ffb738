/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The structures of VMDK, as VMware's Virtual Disk Format 5.0 has them (COWD: as libvmdk's documentation
 * has it). All numbers are little-endian; places and lengths are in sectors of 512 bytes.
 */
#include "fuzz/formats/vmdk.h"

static const char *const flags[] = {"newline test",
                                    "redundant grain table",
                                    "zeroed grain entries",
                                    "bit 3",
                                    "bit 4",
                                    "bit 5",
                                    "bit 6",
                                    "bit 7",
                                    "bit 8",
                                    "bit 9",
                                    "bit 10",
                                    "bit 11",
                                    "bit 12",
                                    "bit 13",
                                    "bit 14",
                                    "bit 15",
                                    "compressed",
                                    "markers",
                                    NULL};
static const char *const algorithms[] = {"none", "deflate", NULL};
static const char *const markers[] = {"end of stream", "grain table", "grain directory", "footer", NULL};

static const struct field header_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 4, .min = VMDK_MAGIC, .what = "\"KDMV\""),
    LE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 3),
    LE("flags", FIELD_FLAGS, 8, 4, .values = flags),
    LE("capacity", FIELD_COUNT, 12, 8, .what = "sectors of the extent, a multiple of grain_size"),
    LE("grain_size", FIELD_COUNT, 20, 8, .min = 1, .max = 0x200000, .what = "a power of two; at least 8"),
    LE("descriptor_offset", FIELD_OFFSET, 28, 8, .unit = 512, .what = "of the embedded descriptor; 0: none"),
    LE("descriptor_size", FIELD_LENGTH, 36, 8, .unit = 512, .what = "room for the descriptor"),
    LE("num_gtes_per_gt", FIELD_COUNT, 44, 4, .min = 512, .max = 512, .what = "entries of a grain table"),
    LE("rgd_offset", FIELD_OFFSET, 48, 8, .unit = 512, .what = "of the redundant grain directory"),
    LE("gd_offset", FIELD_OFFSET, 56, 8, .unit = 512,
       .what = "of the grain directory; all ones: the footer tells it"),
    LE("overhead", FIELD_LENGTH, 64, 8, .unit = 512,
       .what = "what metadata takes, in front of the first grain"),
    LE("unclean_shutdown", FIELD_NUMBER, 72, 1, .max = 1),
    LE("newlines", FIELD_CODE, 73, 4, .min = VMDK_NEWLINES, .max = VMDK_NEWLINES,
       .what = "\"\\n \\r\\n\": shows what a text transfer changed"),
    LE("compress_algorithm", FIELD_ENUM, 77, 2, .max = 1, .values = algorithms),
    LE("pad", FIELD_BYTES, 79, 433),
    {0},
};
const struct layout vmdk_header_layout = {"VMDK sparse header", header_fields, 512, 0};

static const struct field cowd_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 4, .min = VMDK_COWD, .what = "\"COWD\""),
    LE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 1),
    LE("flags", FIELD_FLAGS, 8, 4),
    LE("disk_sectors", FIELD_COUNT, 12, 4),
    LE("granularity", FIELD_COUNT, 16, 4, .min = 1, .max = 0x200000, .what = "sectors of a grain"),
    LE("gd_offset", FIELD_OFFSET, 20, 4, .unit = 512, .what = "of the grain directory"),
    LE("gd_entries", FIELD_COUNT, 24, 4, .what = "of the grain directory"),
    LE("file_sectors", FIELD_COUNT, 28, 4, .what = "next free sector"),
    LE("cylinders", FIELD_COUNT, 32, 4),
    LE("heads", FIELD_COUNT, 36, 4),
    LE("sectors", FIELD_COUNT, 40, 4, .what = "per track"),
    LE("parent_name", FIELD_BYTES, 44, 1016),
    LE("parent_generation", FIELD_NUMBER, 1060, 4),
    LE("generation", FIELD_NUMBER, 1064, 4),
    LE("name", FIELD_BYTES, 1068, 60),
    LE("description", FIELD_BYTES, 1128, 512),
    LE("saved_generation", FIELD_NUMBER, 1640, 4),
    LE("reserved", FIELD_BYTES, 1644, 8),
    LE("unclean_shutdown", FIELD_NUMBER, 1652, 4, .max = 1),
    LE("padding", FIELD_BYTES, 1656, 392),
    {0},
};
const struct layout vmdk_cowd_layout = {"VMDK COWD header", cowd_fields, 2048, 0};

static const struct field gd_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 4, .unit = 512, .what = "of the grain table; 0: none"),
    {0},
};
const struct layout vmdk_gd_layout = {"VMDK grain directory entry", gd_fields, 4, 0};

static const struct field gt_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 4, .unit = 512,
       .what = "of the grain; 0: none; 1: reads as zeroes, where flags say so"),
    {0},
};
const struct layout vmdk_gt_layout = {"VMDK grain table entry", gt_fields, 4, 0};

static const struct field marker_fields[] = {
    LE("value", FIELD_COUNT, 0, 8, .what = "sectors of what follows"),
    LE("size", FIELD_LENGTH, 8, 4, .what = "0: a marker of metadata"),
    LE("type", FIELD_ENUM, 12, 4, .max = 3, .values = markers),
    {0},
};
const struct layout vmdk_marker_layout = {"VMDK marker", marker_fields, 512, 0};

static const struct field grain_fields[] = {
    LE("lba", FIELD_NUMBER, 0, 8, .what = "sector of the disk where the grain begins"),
    LE("size", FIELD_LENGTH, 8, 4, .what = "bytes of compressed data that follow"),
    {0},
};
const struct layout vmdk_grain_layout = {"VMDK compressed grain", grain_fields, 12, 0};
