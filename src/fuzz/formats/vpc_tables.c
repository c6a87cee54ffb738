/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The structures of VHD ("VPC"), as Microsoft's Virtual Hard Disk Image Format Specification has them. All
 * numbers are big-endian.
 */
#include "fuzz/formats/vpc.h"

static const char *const features[] = {"temporary", "reserved", NULL};
static const char *const types[] = {"0", "1", "fixed", "dynamic", "differencing", NULL};

static const struct field footer_fields[] = {
    BE("cookie", FIELD_BYTES, 0, 8, .what = "\"conectix\""),
    BE("features", FIELD_FLAGS, 8, 4, .values = features, .what = "\"reserved\" is always set"),
    BE("version", FIELD_CODE, 12, 4, .min = VPC_VERSION, .max = VPC_VERSION, .what = "1.0"),
    BE("data_offset", FIELD_OFFSET, 16, 8, .what = "of the dynamic disk header; all ones: none"),
    BE("timestamp", FIELD_TIME, 24, 4, .what = "seconds since the year 2000"),
    BE("creator_app", FIELD_BYTES, 28, 4,
       .what = "\"vpc \", \"vs  \", \"win \", \"vbox\", \"qemu\", \"qem2\""),
    BE("creator_version", FIELD_CODE, 32, 4),
    BE("creator_os", FIELD_BYTES, 36, 4, .what = "\"Wi2k\" or \"Mac \""),
    BE("original_size", FIELD_LENGTH, 40, 8, .what = "of the virtual disk when it was made"),
    BE("current_size", FIELD_LENGTH, 48, 8, .what = "of the virtual disk in bytes"),
    BE("cylinders", FIELD_COUNT, 56, 2),
    BE("heads", FIELD_COUNT, 58, 1),
    BE("sectors", FIELD_COUNT, 59, 1, .what = "per track"),
    BE("type", FIELD_ENUM, 60, 4, .min = 2, .max = 4, .values = types),
    BE("checksum", FIELD_CHECKSUM, 64, 4, .what = "ones' complement of the sum of all other bytes"),
    BE("uuid", FIELD_BYTES, 68, 16),
    BE("saved_state", FIELD_NUMBER, 84, 1, .max = 1),
    BE("reserved", FIELD_BYTES, 85, 427),
    {0},
};
const struct layout vpc_footer_layout = {"VHD footer", footer_fields, 512, 0};

static const struct field header_fields[] = {
    BE("cookie", FIELD_BYTES, 0, 8, .what = "\"cxsparse\""),
    BE("data_offset", FIELD_OFFSET, 8, 8, .min = UINT64_MAX, .max = UINT64_MAX, .what = "not used"),
    BE("table_offset", FIELD_OFFSET, 16, 8, .align = 1, .what = "of the block allocation table"),
    BE("version", FIELD_CODE, 24, 4, .min = VPC_VERSION, .max = VPC_VERSION, .what = "1.0"),
    BE("max_table_entries", FIELD_COUNT, 28, 4, .what = "blocks of the disk"),
    BE("block_size", FIELD_LENGTH, 32, 4, .min = 512, .max = UINT32_C(1) << 31, .what = "a power of two"),
    BE("checksum", FIELD_CHECKSUM, 36, 4, .what = "ones' complement of the sum of all other bytes"),
    BE("parent_uuid", FIELD_BYTES, 40, 16),
    BE("parent_timestamp", FIELD_TIME, 56, 4, .what = "seconds since the year 2000"),
    BE("reserved", FIELD_RESERVED, 60, 4),
    BE("parent_name", FIELD_BYTES, 64, 512, .what = "UTF-16"),
    BE("reserved2", FIELD_BYTES, 768, 256),
    {0},
};
const struct layout vpc_header_layout = {"VHD dynamic disk header", header_fields, 1024, 0};

static const struct field locator_fields[] = {
    BE("platform_code", FIELD_CODE, 0, 4, .what = "\"W2ru\", \"W2ku\", \"MacX\"; 0: none"),
    BE("data_space", FIELD_LENGTH, 4, 4, .what = "room for the name: in bytes, or in sectors"),
    BE("data_length", FIELD_LENGTH, 8, 4, .what = "of the name in bytes"),
    BE("reserved", FIELD_RESERVED, 12, 4),
    BE("data_offset", FIELD_OFFSET, 16, 8, .align = 1, .what = "of the name"),
    {0},
};
const struct layout vpc_locator_layout = {"VHD parent locator", locator_fields, 24, 0};

static const struct field bat_fields[] = {
    BE("sector", FIELD_OFFSET, 0, 4, .unit = 512, .what = "of the block's bitmap; 0xffffffff: none"),
    {0},
};
const struct layout vpc_bat_layout = {"VHD BAT entry", bat_fields, 4, 0};
