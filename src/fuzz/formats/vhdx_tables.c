/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The structures of VHDX, as [MS-VHDX] has them; the section stands at each. All numbers are little-endian.
 * Checksums are CRC-32C over the whole structure with the field zero.
 */
#include "fuzz/formats/vhdx.h"

#define CODE(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static const char *const required[] = {"required", NULL};
static const char *const item_flags[] = {"user", "virtual disk", "required", NULL};
static const char *const parameter_flags[] = {"leave blocks allocated", "has parent", NULL};
static const char *const states[] = {"not present",   "undefined",         "zero", "unmapped", "4", "5",
                                     "fully present", "partially present", NULL};

/* 2.2.1 */
static const struct field identifier_fields[] = {
    LE("signature", FIELD_BYTES, 0, 8, .what = "\"vhdxfile\""),
    LE("creator", FIELD_BYTES, 8, 512, .what = "UTF-16"),
    {0},
};
const struct layout vhdx_identifier_layout = {"VHDX file type identifier", identifier_fields, 520, 0};

/* 2.2.2 */
static const struct field header_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('h', 'e', 'a', 'd'), .what = "\"head\""),
    LE("checksum", FIELD_CHECKSUM, 4, 4, .what = "of 4 KiB"),
    LE("sequence_number", FIELD_NUMBER, 8, 8, .what = "the header with the larger one is current"),
    LE("file_write_guid", FIELD_BYTES, 16, 16),
    LE("data_write_guid", FIELD_BYTES, 32, 16),
    LE("log_guid", FIELD_BYTES, 48, 16, .what = "of the entries that count; zero: the log is empty"),
    LE("log_version", FIELD_NUMBER, 64, 2, .what = "0"),
    LE("version", FIELD_NUMBER, 66, 2, .min = 1, .max = 1),
    LE("log_length", FIELD_LENGTH, 68, 4, .what = "a multiple of 1 MiB"),
    LE("log_offset", FIELD_OFFSET, 72, 8, .align = 1, .what = "a multiple of 1 MiB"),
    {0},
};
const struct layout vhdx_header_layout = {"VHDX header", header_fields, 80, 0};

/* 2.2.3.1 */
static const struct field region_table_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('r', 'e', 'g', 'i'), .what = "\"regi\""),
    LE("checksum", FIELD_CHECKSUM, 4, 4, .what = "of 64 KiB"),
    LE("entry_count", FIELD_COUNT, 8, 4, .max = 2047),
    LE("reserved", FIELD_RESERVED, 12, 4),
    {0},
};
const struct layout vhdx_region_table_layout = {"VHDX region table", region_table_fields, 16, 0};

/* 2.2.3.2 */
static const struct field region_fields[] = {
    LE("guid", FIELD_BYTES, 0, 16, .what = "which region this is"),
    LE("file_offset", FIELD_OFFSET, 16, 8, .align = 1, .what = "a multiple of 1 MiB, at least 1 MiB"),
    LE("length", FIELD_LENGTH, 24, 4, .what = "a multiple of 1 MiB"),
    LE("flags", FIELD_FLAGS, 28, 4, .values = required),
    {0},
};
const struct layout vhdx_region_layout = {"VHDX region table entry", region_fields, 32, 0};

/* 2.6.1.1 */
static const struct field metadata_table_fields[] = {
    LE("signature", FIELD_BYTES, 0, 8, .what = "\"metadata\""),
    LE("reserved", FIELD_RESERVED, 8, 2),
    LE("entry_count", FIELD_COUNT, 10, 2, .max = 2047),
    LE("reserved2", FIELD_BYTES, 12, 20),
    {0},
};
const struct layout vhdx_metadata_table_layout = {"VHDX metadata table", metadata_table_fields, 32, 0};

/* 2.6.1.2 */
static const struct field metadata_fields[] = {
    LE("item_id", FIELD_BYTES, 0, 16, .what = "which item this is"),
    LE("offset", FIELD_OFFSET, 16, 4, .min = 64 * KiB, .max = UINT32_MAX, .what = "in the region"),
    LE("length", FIELD_LENGTH, 20, 4, .max = MiB),
    LE("flags", FIELD_FLAGS, 24, 4, .values = item_flags),
    LE("reserved", FIELD_RESERVED, 28, 4),
    {0},
};
const struct layout vhdx_metadata_layout = {"VHDX metadata table entry", metadata_fields, 32, 0};

/* 2.6.2.1 */
static const struct field parameters_fields[] = {
    LE("block_size", FIELD_LENGTH, 0, 4, .min = MiB, .max = 256 * MiB, .what = "a power of two"),
    LE("flags", FIELD_FLAGS, 4, 4, .values = parameter_flags),
    {0},
};
const struct layout vhdx_parameters_layout = {"VHDX file parameters", parameters_fields, 8, 0};

/* 2.6.2.2 */
static const struct field disk_size_fields[] = {
    LE("size", FIELD_LENGTH, 0, 8, .max = 64 * 1024 * GiB, .what = "of the virtual disk in bytes"),
    {0},
};
const struct layout vhdx_disk_size_layout = {"VHDX virtual disk size", disk_size_fields, 8, 0};

/* 2.6.2.3 */
static const struct field page83_fields[] = {
    LE("id", FIELD_BYTES, 0, 16, .what = "SCSI identification of the disk"),
    {0},
};
const struct layout vhdx_page83_layout = {"VHDX virtual disk ID", page83_fields, 16, 0};

/* 2.6.2.4, 2.6.2.5 */
static const struct field sector_size_fields[] = {
    LE("size", FIELD_LENGTH, 0, 4, .min = 512, .max = 4096, .what = "512 or 4096"),
    {0},
};
const struct layout vhdx_sector_size_layout = {"VHDX sector size", sector_size_fields, 4, 0};

/* 2.6.2.6.1 */
static const struct field locator_fields[] = {
    LE("type", FIELD_BYTES, 0, 16, .what = "a GUID: the parent is a VHDX"),
    LE("reserved", FIELD_RESERVED, 16, 2),
    LE("key_value_count", FIELD_COUNT, 18, 2),
    {0},
};
const struct layout vhdx_locator_layout = {"VHDX parent locator", locator_fields, 20, 0};

/* 2.6.2.6.2 */
static const struct field locator_entry_fields[] = {
    LE("key_offset", FIELD_OFFSET, 0, 4, .what = "in the item"),
    LE("value_offset", FIELD_OFFSET, 4, 4, .what = "in the item"),
    LE("key_length", FIELD_LENGTH, 8, 2, .what = "in bytes; UTF-16"),
    LE("value_length", FIELD_LENGTH, 10, 2, .what = "in bytes; UTF-16"),
    {0},
};
const struct layout vhdx_locator_entry_layout = {"VHDX parent locator entry", locator_entry_fields, 12, 0};

/* 2.5.1 */
static const struct field bat_fields[] = {
    LE("state", FIELD_ENUM, 0, 8, .mask = 7, .values = states, .max = 7),
    LE("reserved", FIELD_RESERVED, 0, 8, .mask = 0xffff8, .shift = 3),
    LE("file_offset_mb", FIELD_OFFSET, 0, 8, .unit = MiB, .mask = ~UINT64_C(0xfffff), .shift = 20,
       .what = "in MiB"),
    {0},
};
const struct layout vhdx_bat_layout = {"VHDX BAT entry", bat_fields, 8, 0};

/* 2.3.1.1 */
static const struct field log_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('l', 'o', 'g', 'e'), .what = "\"loge\""),
    LE("checksum", FIELD_CHECKSUM, 4, 4, .what = "of the entry"),
    LE("entry_length", FIELD_LENGTH, 8, 4, .what = "a multiple of 4 KiB"),
    LE("tail", FIELD_OFFSET, 12, 4, .what = "of the first entry of the sequence, in the log"),
    LE("sequence_number", FIELD_NUMBER, 16, 8, .min = 1, .max = UINT64_MAX),
    LE("descriptor_count", FIELD_COUNT, 24, 4),
    LE("reserved", FIELD_RESERVED, 28, 4),
    LE("log_guid", FIELD_BYTES, 32, 16, .what = "must be the header's"),
    LE("flushed_file_offset", FIELD_LENGTH, 48, 8, .what = "the file must be at least so long"),
    LE("last_file_offset", FIELD_LENGTH, 56, 8, .what = "a size that holds all allocated structures"),
    {0},
};
const struct layout vhdx_log_layout = {"VHDX log entry", log_fields, 64, 0};

/* 2.3.1.2 */
static const struct field log_zero_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('z', 'e', 'r', 'o'), .what = "\"zero\""),
    LE("reserved", FIELD_RESERVED, 4, 4),
    LE("zero_length", FIELD_LENGTH, 8, 8, .align = 1, .what = "a multiple of 4 KiB"),
    LE("file_offset", FIELD_OFFSET, 16, 8, .align = 1, .what = "a multiple of 4 KiB"),
    LE("sequence_number", FIELD_NUMBER, 24, 8, .what = "of the entry"),
    {0},
};
const struct layout vhdx_log_zero_layout = {"VHDX log zero descriptor", log_zero_fields, 32, 0};

/* 2.3.1.3 */
static const struct field log_data_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('d', 'e', 's', 'c'), .what = "\"desc\""),
    LE("trailing_bytes", FIELD_CODE, 4, 4, .what = "the last four bytes of the sector"),
    LE("leading_bytes", FIELD_CODE, 8, 8, .what = "the first eight bytes of the sector"),
    LE("file_offset", FIELD_OFFSET, 16, 8, .align = 1, .what = "a multiple of 4 KiB"),
    LE("sequence_number", FIELD_NUMBER, 24, 8, .what = "of the entry"),
    {0},
};
const struct layout vhdx_log_data_layout = {"VHDX log data descriptor", log_data_fields, 32, 0};

/* 2.3.1.4 */
static const struct field log_sector_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 4, .min = CODE('d', 'a', 't', 'a'), .what = "\"data\""),
    LE("sequence_high", FIELD_NUMBER, 4, 4, .what = "upper half of the entry's sequence number"),
    LE("sequence_low", FIELD_NUMBER, 4092, 4, .what = "lower half of the entry's sequence number"),
    {0},
};
const struct layout vhdx_log_sector_layout = {"VHDX log data sector", log_sector_fields, 4096, 0};
