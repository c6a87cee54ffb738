/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QCOW version 1, qcow2's forerunner: a header, two levels of tables, clusters, compressed ones with their
 * length in the entry. All numbers are big-endian.
 */
#include "fuzz/formats/fields.h"

#define QCOW1_MAGIC 0x514649fbu /* "QFI\xfb" */

static const char *const crypt_names[] = {"none", "aes", NULL};

static const struct field header_fields[] = {
    BE("magic", FIELD_MAGIC, 0, 4, .min = QCOW1_MAGIC, .what = "\"QFI\\xfb\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 1),
    BE("backing_file_offset", FIELD_OFFSET, 8, 8, .what = "of the name of the backing file; 0: none"),
    BE("backing_file_size", FIELD_LENGTH, 16, 4, .max = 1023, .what = "of the name of the backing file"),
    BE("mtime", FIELD_TIME, 20, 4, .what = "of the backing file; not used"),
    BE("size", FIELD_LENGTH, 24, 8, .min = 2, .max = INT64_MAX, .what = "of the virtual disk in bytes"),
    BE("cluster_bits", FIELD_SHIFT, 32, 1, .min = 9, .max = 16, .what = "size of a cluster"),
    BE("l2_bits", FIELD_SHIFT, 33, 1, .min = 6, .max = 13, .what = "entries of an L2 table"),
    BE("padding", FIELD_RESERVED, 34, 2),
    BE("crypt_method", FIELD_ENUM, 36, 4, .max = 1, .values = crypt_names),
    BE("l1_table_offset", FIELD_OFFSET, 40, 8, .what = "of the L1 table"),
    {0},
};
const struct layout qcow1_header_layout = {"QCOW1 header", header_fields, 48, 0};

static const struct field l1_fields[] = {
    BE("offset", FIELD_OFFSET, 0, 8, .what = "of the L2 table; 0: none"),
    {0},
};
const struct layout qcow1_l1_layout = {"QCOW1 L1 entry", l1_fields, 8, 0};

/* With compressed set, the length takes cluster_bits bits below bit 63. */
static const struct field l2_fields[] = {
    BE("offset", FIELD_OFFSET, 0, 8, .mask = INT64_MAX, .what = "of the cluster; 0: none"),
    BE("compressed", FIELD_NUMBER, 0, 8, .mask = UINT64_C(1) << 63, .shift = 63),
    {0},
};
const struct layout qcow1_l2_layout = {"QCOW1 L2 entry", l2_fields, 8, 0};
