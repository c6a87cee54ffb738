/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of VMDK; see vmdk_tables.c. */
#ifndef FUZZ_FORMATS_VMDK_H
#define FUZZ_FORMATS_VMDK_H

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

#endif
