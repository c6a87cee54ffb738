/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QED, as QEMU's docs/interop/qed_spec defines it: a header, two levels of tables of the same size, and
 * clusters. All numbers are little-endian.
 */
#include "fuzz/formats/fields.h"

#define QED_MAGIC 0x00444551u /* "QED\0" */

static const char *const features[] = {"backing file", "needs check", "backing file is raw", NULL};

static const struct field header_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 4, .min = QED_MAGIC, .what = "\"QED\\0\""),
    LE("cluster_size", FIELD_LENGTH, 4, 4, .min = 4 * KiB, .max = 64 * MiB, .what = "a power of two"),
    LE("table_size", FIELD_COUNT, 8, 4, .min = 1, .max = 16,
       .what = "clusters of each table; a power of two"),
    LE("header_size", FIELD_COUNT, 12, 4, .min = 1, .max = UINT32_MAX, .what = "clusters of the header"),
    LE("features", FIELD_FLAGS, 16, 8, .values = features, .max = 7,
       .what = "who does not know one of these must not open the image"),
    LE("compat_features", FIELD_FLAGS, 24, 8, .what = "may be ignored"),
    LE("autoclear_features", FIELD_FLAGS, 32, 8,
       .what = "who does not know one of these clears it before writing"),
    LE("l1_table_offset", FIELD_OFFSET, 40, 8, .align = 1, .what = "of the L1 table"),
    LE("image_size", FIELD_LENGTH, 48, 8, .what = "of the virtual disk in bytes"),
    LE("backing_filename_offset", FIELD_OFFSET, 56, 4, .what = "of the name of the backing file"),
    LE("backing_filename_size", FIELD_LENGTH, 60, 4, .max = 1023, .what = "of the name of the backing file"),
    {0},
};
const struct layout qed_header_layout = {"QED header", header_fields, 64, 0};

static const struct field l1_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 8, .align = 1, .what = "of the L2 table; 0: none"),
    {0},
};
const struct layout qed_l1_layout = {"QED L1 entry", l1_fields, 8, 0};

static const struct field l2_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 8, .align = 1, .what = "of the cluster; 0: none; 1: reads as zeroes"),
    {0},
};
const struct layout qed_l2_layout = {"QED L2 entry", l2_fields, 8, 0};
