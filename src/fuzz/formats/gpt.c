/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Partition tables on a raw disk: MBR with a chain of logical partitions, and GPT as UEFI (chapter 5) has it,
 * with a protective MBR and the backup at the end. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define GPT_SIGNATURE UINT64_C(0x5452415020494645) /* "EFI PART" */

static const struct field mbr_fields[] = {
    LE("boot_code", FIELD_BYTES, 0, 440),
    LE("disk_signature", FIELD_CODE, 440, 4),
    LE("unknown", FIELD_RESERVED, 444, 2),
    LE("signature", FIELD_MAGIC, 510, 2, .min = 0xaa55),
    {0},
};
const struct layout mbr_layout = {"MBR", mbr_fields, 512, 0};

static const struct field partition_fields[] = {
    LE("status", FIELD_CODE, 0, 1, .what = "0x80: active"),
    LE("first_head", FIELD_NUMBER, 1, 1),
    LE("first_sector", FIELD_NUMBER, 2, 1),
    LE("first_cylinder", FIELD_NUMBER, 3, 1),
    LE("type", FIELD_CODE, 4, 1, .what = "0xee: GPT; 5, 0xf: logical partitions"),
    LE("last_head", FIELD_NUMBER, 5, 1),
    LE("last_sector", FIELD_NUMBER, 6, 1),
    LE("last_cylinder", FIELD_NUMBER, 7, 1),
    LE("lba", FIELD_OFFSET, 8, 4,
       .what = "first sector; in a chain: from the beginning of this table or of the chain"),
    LE("sectors", FIELD_COUNT, 12, 4),
    {0},
};
const struct layout mbr_partition_layout = {"MBR partition", partition_fields, 16, 0};

static const struct field header_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 8, .min = GPT_SIGNATURE, .what = "\"EFI PART\""),
    LE("revision", FIELD_CODE, 8, 4, .min = 0x10000, .max = 0x10000, .what = "1.0"),
    LE("header_size", FIELD_LENGTH, 12, 4, .min = 92, .max = 4096),
    LE("header_crc32", FIELD_CHECKSUM, 16, 4, .what = "of header_size bytes with this field zero"),
    LE("reserved", FIELD_RESERVED, 20, 4),
    LE("my_lba", FIELD_OFFSET, 24, 8, .what = "of this header"),
    LE("alternate_lba", FIELD_OFFSET, 32, 8, .what = "of the other header"),
    LE("first_usable_lba", FIELD_OFFSET, 40, 8),
    LE("last_usable_lba", FIELD_OFFSET, 48, 8),
    LE("disk_guid", FIELD_BYTES, 56, 16),
    LE("partition_entry_lba", FIELD_OFFSET, 72, 8, .what = "of the partition entries"),
    LE("number_of_entries", FIELD_COUNT, 80, 4, .what = "of partition entries"),
    LE("size_of_entry", FIELD_LENGTH, 84, 4, .min = 128, .max = 4096, .what = "128 times a power of two"),
    LE("entries_crc32", FIELD_CHECKSUM, 88, 4, .what = "of all partition entries"),
    {0},
};
const struct layout gpt_header_layout = {"GPT header", header_fields, 92, 0};

static const struct field entry_fields[] = {
    LE("type_guid", FIELD_BYTES, 0, 16, .what = "zero: not in use"),
    LE("unique_guid", FIELD_BYTES, 16, 16),
    LE("first_lba", FIELD_OFFSET, 32, 8),
    LE("last_lba", FIELD_OFFSET, 40, 8, .what = "included"),
    LE("attributes", FIELD_FLAGS, 48, 8),
    LE("name", FIELD_BYTES, 56, 72, .what = "UTF-16"),
    {0},
};
const struct layout gpt_entry_layout = {"GPT partition entry", entry_fields, 128, 0};
