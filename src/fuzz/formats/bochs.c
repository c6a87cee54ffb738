/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bochs "growing" images: a header, a catalog of one word an extent, and extents, each with a bitmap of its
 * sectors in front. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

static const struct field header_fields[] = {
    LE("magic", FIELD_BYTES, 0, 32, .what = "\"Bochs Virtual HD Image\""),
    LE("type", FIELD_BYTES, 32, 16, .what = "\"Redolog\""),
    LE("subtype", FIELD_BYTES, 48, 16, .what = "\"Growing\""),
    LE("version", FIELD_CODE, 64, 4, .min = 0x10000, .max = 0x20000, .what = "1.0 or 2.0"),
    LE("header", FIELD_LENGTH, 68, 4, .min = 512, .max = 512,
       .what = "of the header: where the catalog begins"),
    LE("catalog", FIELD_COUNT, 72, 4, .max = 0x100000, .what = "extents of the disk"),
    LE("bitmap", FIELD_LENGTH, 76, 4, .min = 1, .max = UINT32_MAX, .what = "of the bitmap of an extent"),
    LE("extent", FIELD_LENGTH, 80, 4, .min = 512, .max = 0x800000, .what = "of an extent; a power of two"),
    LE("reserved", FIELD_RESERVED, 84, 4),
    LE("disk", FIELD_LENGTH, 88, 8, .what = "of the virtual disk in bytes"),
    {0},
};
const struct layout bochs_header_layout = {"Bochs header", header_fields, 512, 0};

static const struct field catalog_fields[] = {
    LE("extent", FIELD_NUMBER, 0, 4, .what = "its place, counted in extents; 0xffffffff: none"),
    {0},
};
const struct layout bochs_catalog_layout = {"Bochs catalog entry", catalog_fields, 4, 0};
