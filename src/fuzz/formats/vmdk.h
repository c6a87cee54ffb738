/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of VMDK; see vmdk_tables.c. */
#ifndef FUZZ_FORMATS_VMDK_H
#define FUZZ_FORMATS_VMDK_H

#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define VMDK_MAGIC     0x564d444bu /* "KDMV" */
#define VMDK_COWD      0x44574f43u /* "COWD" */
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_NEWLINES  0x0a0d200au /* "\n \r\n" */

enum vmdk_flags {
    VMDK_FLAG_NEWLINE = 1,
    VMDK_FLAG_REDUNDANT = 2,
    VMDK_FLAG_ZEROED = 4,
    VMDK_FLAG_COMPRESSED = 1 << 16,
    VMDK_FLAG_MARKERS = 1 << 17,
};
enum vmdk_marker { VMDK_MARKER_EOS, VMDK_MARKER_GT, VMDK_MARKER_GD, VMDK_MARKER_FOOTER };

extern const struct layout vmdk_header_layout, vmdk_cowd_layout, vmdk_gd_layout, vmdk_gt_layout,
    vmdk_marker_layout, vmdk_grain_layout;

/* ---- sparse extents (vmdk_sparse.c, vmdk_stream.c) ---- */

#define VMDK_DESCRIPTOR_SECTORS 20u
#define VMDK_GTES               512u

struct vmdk {
    uint64_t capacity, grain; /* sectors */
    uint32_t per_table;       /* grains */
    uint64_t tables;          /* entries of the grain directory */
    const char *parent;
    struct two_levels map;
    uint64_t gd_offset, gt_offset[TABLES_MAX]; /* bytes */
    uint64_t grain_offset[UNITS_MAX];
};

/* Size, grains, and which of them there are. */
void vmdk_choose(struct fuzz_image *img, struct vmdk *v, uint32_t per_table);
/* A directory or table of grains at @offset: "gd", "gt" and so on. */
int vmdk_place_table(struct fuzz_image *img, const char *name, int index, int parent,
                     const struct layout *layout, uint64_t offset, uint64_t entries);
/* @embedded: with a descriptor. */
void vmdk_build_sparse(struct fuzz_image *img, bool embedded);
void vmdk_build_stream(struct fuzz_image *img);
void vmdk_build_cowd(struct fuzz_image *img);

/* ---- descriptors (vmdk.c) ---- */

/* Write a descriptor for @extents (lines) at @offset and place it. Returns its length. */
uint64_t vmdk_put_descriptor(struct fuzz_image *img, uint64_t offset, uint64_t room, const char *type,
                             const char *parent, uint64_t sectors, const char *extents);

#endif
