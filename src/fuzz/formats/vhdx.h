/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of VHDX; see vhdx_tables.c. */
#ifndef FUZZ_FORMATS_VHDX_H
#define FUZZ_FORMATS_VHDX_H

#include "fuzz/formats/fields.h"

#define VHDX_HEADER_BYTES (4 * KiB)
#define VHDX_REGION_BYTES (64 * KiB)

enum vhdx_bat_state {
    VHDX_NOT_PRESENT,
    VHDX_UNDEFINED,
    VHDX_ZERO,
    VHDX_UNMAPPED,
    VHDX_FULLY_PRESENT = 6,
    VHDX_PARTIALLY_PRESENT = 7,
};

extern const struct layout vhdx_identifier_layout, vhdx_header_layout, vhdx_region_table_layout,
    vhdx_region_layout, vhdx_metadata_table_layout, vhdx_metadata_layout, vhdx_parameters_layout,
    vhdx_disk_size_layout, vhdx_sector_size_layout, vhdx_page83_layout, vhdx_locator_layout,
    vhdx_locator_entry_layout, vhdx_bat_layout, vhdx_log_layout, vhdx_log_zero_layout, vhdx_log_data_layout,
    vhdx_log_sector_layout;

#endif
