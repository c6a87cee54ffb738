/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The field tables of qcow2 (docs/interop/qcow2 of QEMU is the specification): each structure once.
 * Parser, writer, dumper, checker and fuzzer read them. All numbers are big-endian.
 */
#include "drivers/qcow2/qcow2.h"

static const char *const incompatible_names[] = {
    "dirty bit", "corrupt bit", "external data file", "compression type", "extended L2 entries", NULL};
static const char *const compatible_names[] = {"lazy refcounts", NULL};
static const char *const autoclear_names[] = {"bitmaps", "raw external data", NULL};
static const char *const crypt_names[] = {"none", "aes", "luks", NULL};
static const char *const compression_names[] = {"zlib", "zstd", NULL};
static const char *const feature_types[] = {"incompatible", "compatible", "autoclear", NULL};
static const char *const bitmap_flags[] = {"in-use", "auto", "extra-data-compatible", NULL};

#define HEADER(m) FIELD_AT(struct qcow2_header, m)

static const struct field header_fields[] = {
    {"magic", FIELD_MAGIC, 0, 4, .min = QCOW2_MAGIC, HEADER(magic), .what = "\"QFI\\xfb\""},
    {"version", FIELD_NUMBER, 4, 4, .min = 2, .max = 3, HEADER(version), .what = "of the format"},
    {"backing_file_offset", FIELD_OFFSET, 8, 8, HEADER(backing_offset),
     .what = "of the name of the backing file; 0: there is none"},
    {"backing_file_size", FIELD_LENGTH, 16, 4, HEADER(backing_bytes),
     .what = "length of the name of the backing file"},
    {"cluster_bits", FIELD_SHIFT, 20, 4, .min = QCOW2_CLUSTER_BITS_MIN, .max = QCOW2_CLUSTER_BITS_MAX,
     HEADER(cluster_bits), .what = "size of a cluster"},
    {"size", FIELD_LENGTH, 24, 8, .max = BLOCK_SIZE_MAX, HEADER(size),
     .what = "of the virtual disk in bytes"},
    {"crypt_method", FIELD_ENUM, 32, 4, .max = 2, .values = crypt_names, HEADER(crypt_method),
     .what = "how guest data is encrypted"},
    {"l1_size", FIELD_COUNT, 36, 4, .max = QCOW2_L1_BYTES_MAX / 8, HEADER(l1_entries),
     .what = "entries of the active L1 table"},
    {"l1_table_offset", FIELD_OFFSET, 40, 8, .align = 1, .max = QCOW2_HOST_END, HEADER(l1_offset),
     .what = "of the active L1 table"},
    {"refcount_table_offset", FIELD_OFFSET, 48, 8, .align = 1, .max = QCOW2_HOST_END, HEADER(reftable_offset),
     .what = "of the refcount table"},
    {"refcount_table_clusters", FIELD_COUNT, 56, 4, .max = QCOW2_REFTABLE_MAX >> QCOW2_CLUSTER_BITS_MIN,
     HEADER(reftable_clusters), .what = "clusters of the refcount table"},
    {"nb_snapshots", FIELD_COUNT, 60, 4, .max = QCOW2_SNAPSHOTS_MAX, HEADER(snapshots),
     .what = "internal snapshots"},
    {"snapshots_offset", FIELD_OFFSET, 64, 8, .align = 1, .max = QCOW2_HOST_END, HEADER(snapshots_offset),
     .what = "of the snapshot table"},
    {"incompatible_features", FIELD_FLAGS, 72, 8, .since = 3, .values = incompatible_names,
     HEADER(incompatible), .what = "who does not know one of these must not open the image"},
    {"compatible_features", FIELD_FLAGS, 80, 8, .since = 3, .values = compatible_names, HEADER(compatible),
     .what = "may be ignored"},
    {"autoclear_features", FIELD_FLAGS, 88, 8, .since = 3, .values = autoclear_names, HEADER(autoclear),
     .what = "who does not know one of these clears it before writing"},
    {"refcount_order", FIELD_SHIFT, 96, 4, .since = 3, .max = 6, HEADER(refcount_order),
     .what = "bits of a refcount"},
    {"header_length", FIELD_LENGTH, 100, 4, .since = 3, .min = QCOW2_V3_HEADER_BYTES,
     .max = UINT64_C(1) << QCOW2_CLUSTER_BITS_MAX, HEADER(header_bytes), .what = "of the header"},
    {"compression_type", FIELD_ENUM, 104, 1, .since = 3, .max = 1, .values = compression_names,
     HEADER(compression), .what = "of compressed clusters"},
    {"padding", FIELD_RESERVED, 105, 7, .since = 3},
    {0},
};

const struct layout qcow2_header_layout = {"qcow2 header", header_fields, QCOW2_HEADER_BYTES,
                                           sizeof(struct qcow2_header)};

static const struct field extension_fields[] = {
    {"type", FIELD_CODE, 0, 4, .what = "of the extension; 0 ends the list"},
    {"length", FIELD_LENGTH, 4, 4, .what = "of its data, which is padded to 8 bytes"},
    {0},
};
const struct layout qcow2_extension_layout = {"header extension", extension_fields, 8, 0};

static const struct field bitmaps_ext_fields[] = {
    {"nb_bitmaps", FIELD_COUNT, 0, 4, .min = 1, .max = 65535, FIELD_AT(struct qcow2_bitmaps_ext, bitmaps)},
    {"reserved", FIELD_RESERVED, 4, 4},
    {"bitmap_directory_size", FIELD_LENGTH, 8, 8, .min = 1, .max = 64 * MiB,
     FIELD_AT(struct qcow2_bitmaps_ext, directory_bytes)},
    {"bitmap_directory_offset", FIELD_OFFSET, 16, 8, .align = 1, .max = QCOW2_HOST_END,
     FIELD_AT(struct qcow2_bitmaps_ext, directory_offset)},
    {0},
};
const struct layout qcow2_bitmaps_ext_layout = {"bitmaps extension", bitmaps_ext_fields, 24,
                                                sizeof(struct qcow2_bitmaps_ext)};

static const struct field crypto_ext_fields[] = {
    {"offset", FIELD_OFFSET, 0, 8, .align = 1, .max = QCOW2_HOST_END,
     FIELD_AT(struct qcow2_crypto_ext, offset)},
    {"length", FIELD_LENGTH, 8, 8, .max = 64 * MiB, FIELD_AT(struct qcow2_crypto_ext, bytes)},
    {0},
};
const struct layout qcow2_crypto_ext_layout = {"encryption header", crypto_ext_fields, 16,
                                               sizeof(struct qcow2_crypto_ext)};

static const struct field feature_fields[] = {
    {"type", FIELD_ENUM, 0, 1, .max = 2, .values = feature_types},
    {"bit", FIELD_NUMBER, 1, 1, .max = 63},
    {"name", FIELD_BYTES, 2, 46},
    {0},
};
const struct layout qcow2_feature_layout = {"feature name", feature_fields, 48, 0};

static const struct field l1_fields[] = {
    {"offset", FIELD_OFFSET, 0, 8, .mask = QCOW2_OFFSET_MASK, .align = 1, .what = "of the L2 table; 0: none"},
    {"copied", FIELD_NUMBER, 0, 8, .mask = QCOW2_COPIED, .shift = 63, .what = "its refcount is one"},
    {"reserved", FIELD_RESERVED, 0, 8, .mask = QCOW2_L1_RESERVED},
    {0},
};
const struct layout qcow2_l1_layout = {"L1 entry", l1_fields, 8, 0};

static const struct field l2_fields[] = {
    {"offset", FIELD_OFFSET, 0, 8, .mask = QCOW2_OFFSET_MASK, .align = 1, .what = "of the cluster; 0: none"},
    {"zero", FIELD_NUMBER, 0, 8, .mask = QCOW2_ZERO, .what = "the cluster reads as zeroes"},
    {"compressed", FIELD_NUMBER, 0, 8, .mask = QCOW2_COMPRESSED, .shift = 62,
     .what = "the rest is where and how long the compressed data is"},
    {"copied", FIELD_NUMBER, 0, 8, .mask = QCOW2_COPIED, .shift = 63, .what = "its refcount is one"},
    {0},
};
const struct layout qcow2_l2_layout = {"L2 entry", l2_fields, 8, 0};

static const struct field l2_bitmap_fields[] = {
    {"allocated", FIELD_NUMBER, 8, 8, .mask = UINT64_C(0xffffffff), .what = "subclusters that hold data"},
    {"zero", FIELD_NUMBER, 8, 8, .mask = QCOW2_ALL_ZERO, .shift = 32,
     .what = "subclusters that read as zeroes"},
    {0},
};
const struct layout qcow2_l2_bitmap_layout = {"subclusters of an L2 entry", l2_bitmap_fields, 16, 0};

static const struct field reftable_fields[] = {
    {"offset", FIELD_OFFSET, 0, 8, .mask = QCOW2_REF_MASK, .align = 1,
     .what = "of the refcount block; 0: none"},
    {"reserved", FIELD_RESERVED, 0, 8, .mask = 511},
    {0},
};
const struct layout qcow2_reftable_layout = {"refcount table entry", reftable_fields, 8, 0};

#define SNAPSHOT(m) FIELD_AT(struct qcow2_snapshot_entry, m)

static const struct field snapshot_fields[] = {
    {"l1_table_offset", FIELD_OFFSET, 0, 8, .align = 1, .max = QCOW2_HOST_END, SNAPSHOT(l1_offset)},
    {"l1_size", FIELD_COUNT, 8, 4, .max = QCOW2_L1_BYTES_MAX / 8, SNAPSHOT(l1_entries)},
    {"id_size", FIELD_LENGTH, 12, 2, SNAPSHOT(id_bytes)},
    {"name_size", FIELD_LENGTH, 14, 2, SNAPSHOT(name_bytes)},
    {"date_sec", FIELD_TIME, 16, 4, SNAPSHOT(date_s)},
    {"date_nsec", FIELD_TIME, 20, 4, SNAPSHOT(date_ns)},
    {"vm_clock_nsec", FIELD_TIME, 24, 8, SNAPSHOT(vm_clock_ns)},
    {"vm_state_size", FIELD_LENGTH, 32, 4, SNAPSHOT(vm_state_bytes)},
    {"extra_data_size", FIELD_LENGTH, 36, 4, .max = 1024, SNAPSHOT(extra_bytes)},
    {0},
};
const struct layout qcow2_snapshot_layout = {"snapshot table entry", snapshot_fields, 40,
                                             sizeof(struct qcow2_snapshot_entry)};

static const struct field snapshot_extra_fields[] = {
    {"vm_state_size_large", FIELD_LENGTH, 0, 8, FIELD_AT(struct qcow2_snapshot_extra, vm_state_bytes)},
    {"disk_size", FIELD_LENGTH, 8, 8, FIELD_AT(struct qcow2_snapshot_extra, disk_bytes)},
    {"icount", FIELD_NUMBER, 16, 8, FIELD_AT(struct qcow2_snapshot_extra, icount)},
    {0},
};
const struct layout qcow2_snapshot_extra_layout = {"snapshot extra data", snapshot_extra_fields, 24,
                                                   sizeof(struct qcow2_snapshot_extra)};

#define BITMAP(m) FIELD_AT(struct qcow2_bitmap_entry, m)

static const struct field bitmap_fields[] = {
    {"bitmap_table_offset", FIELD_OFFSET, 0, 8, .align = 1, .max = QCOW2_HOST_END, BITMAP(table_offset)},
    {"bitmap_table_size", FIELD_COUNT, 8, 4, BITMAP(table_entries)},
    {"flags", FIELD_FLAGS, 12, 4, .values = bitmap_flags, BITMAP(flags)},
    {"type", FIELD_NUMBER, 16, 1, .min = 1, .max = 1, BITMAP(type)},
    {"granularity_bits", FIELD_SHIFT, 17, 1, .min = 9, .max = 31, BITMAP(granularity_bits)},
    {"name_size", FIELD_LENGTH, 18, 2, .min = 1, .max = 1023, BITMAP(name_bytes)},
    {"extra_data_size", FIELD_LENGTH, 20, 4, BITMAP(extra_bytes)},
    {0},
};
const struct layout qcow2_bitmap_layout = {"bitmap directory entry", bitmap_fields, 24,
                                           sizeof(struct qcow2_bitmap_entry)};

static const struct field bitmap_table_fields[] = {
    {"offset", FIELD_OFFSET, 0, 8, .mask = QCOW2_OFFSET_MASK, .align = 1},
    {"all_ones", FIELD_NUMBER, 0, 8, .mask = 1, .what = "without an offset: all bits are set"},
    {"reserved", FIELD_RESERVED, 0, 8, .mask = UINT64_C(0xff000000000001fe)},
    {0},
};
const struct layout qcow2_bitmap_table_layout = {"bitmap table entry", bitmap_table_fields, 8, 0};
