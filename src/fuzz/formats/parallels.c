/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parallels expandable images, as QEMU's docs/interop/parallels defines them: a header, a table of one word a
 * cluster (in sectors for "WithoutFreeSpace", in clusters for "WithouFreSpacExt"), clusters, and a format
 * extension with dirty bitmaps, which an MD5 sum covers. All numbers are little-endian.
 */
#include "fuzz/formats/fields.h"

#define EXT_MAGIC    UINT64_C(0xab234cef23dcea87)
#define BITMAP_MAGIC UINT64_C(0x20385fae252cb34a)

static const char *const flags[] = {"empty", NULL};
static const char *const feature_flags[] = {"necessary", "transit", NULL};

static const struct field header_fields[] = {
    LE("magic", FIELD_BYTES, 0, 16, .what = "\"WithoutFreeSpace\" or \"WithouFreSpacExt\""),
    LE("version", FIELD_NUMBER, 16, 4, .min = 2, .max = 2),
    LE("heads", FIELD_COUNT, 20, 4),
    LE("cylinders", FIELD_COUNT, 24, 4),
    LE("tracks", FIELD_COUNT, 28, 4, .min = 1, .max = INT32_MAX / 513, .what = "sectors of a cluster"),
    LE("bat_entries", FIELD_COUNT, 32, 4, .max = INT32_MAX / 4, .what = "clusters of the disk"),
    LE("nb_sectors", FIELD_COUNT, 36, 8, .what = "sectors of the disk; without Ext only the lower half"),
    LE("inuse", FIELD_CODE, 44, 4, .what = "0x746f6e59: open, 0x312e3276: closed, 0: by old software"),
    LE("data_off", FIELD_OFFSET, 48, 4, .what = "first cluster, in sectors; 0: right behind the table"),
    LE("flags", FIELD_FLAGS, 52, 4, .values = flags),
    LE("ext_off", FIELD_OFFSET, 56, 8, .what = "of the format extension, in sectors; 0: none"),
    {0},
};
const struct layout parallels_header_layout = {"Parallels header", header_fields, 64, 0};

static const struct field bat_fields[] = {
    LE("offset", FIELD_NUMBER, 0, 4, .what = "of the cluster, in sectors or clusters; 0: none"),
    {0},
};
const struct layout parallels_bat_layout = {"Parallels BAT entry", bat_fields, 4, 0};

static const struct field ext_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 8, .min = EXT_MAGIC),
    LE("checksum", FIELD_BYTES, 8, 16, .what = "MD5 of the rest of the cluster"),
    {0},
};
const struct layout parallels_ext_layout = {"Parallels format extension", ext_fields, 24, 0};

static const struct field feature_fields[] = {
    LE("magic", FIELD_CODE, 0, 8, .what = "0x20385fae252cb34a: dirty bitmap; 0: end of the list"),
    LE("flags", FIELD_FLAGS, 8, 8, .values = feature_flags),
    LE("data_size", FIELD_LENGTH, 16, 4, .what = "of what follows, without its padding to 8 bytes"),
    LE("unused", FIELD_RESERVED, 20, 4),
    {0},
};
const struct layout parallels_feature_layout = {"Parallels feature", feature_fields, 24, 0};

static const struct field bitmap_fields[] = {
    LE("size", FIELD_COUNT, 0, 8, .what = "sectors of the disk"),
    LE("id", FIELD_BYTES, 8, 16),
    LE("granularity", FIELD_COUNT, 24, 4, .min = 1, .max = UINT32_C(1) << 31,
       .what = "sectors that one bit stands for, a power of two"),
    LE("l1_size", FIELD_COUNT, 28, 4, .what = "entries of the table that follows"),
    {0},
};
const struct layout parallels_bitmap_layout = {"Parallels dirty bitmap", bitmap_fields, 32, 0};

static const struct field bitmap_l1_fields[] = {
    LE("offset", FIELD_NUMBER, 0, 8, .what = "of a cluster of bits, in sectors; 0: all clear, 1: all set"),
    {0},
};
const struct layout parallels_bitmap_l1_layout = {"Parallels dirty bitmap L1 entry", bitmap_l1_fields, 8, 0};
