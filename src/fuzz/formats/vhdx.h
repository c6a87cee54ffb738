/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of VHDX; see vhdx_tables.c. */
#ifndef FUZZ_FORMATS_VHDX_H
#define FUZZ_FORMATS_VHDX_H

#include "fuzz/formats/build.h"
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

#define VHDX_BLOCKS_MAX      8u
#define VHDX_LOG_ENTRIES_MAX 4u

enum { VHDX_LOG, VHDX_METADATA, VHDX_BAT, VHDX_METAS };

struct vhdx {
    bool fixed;
    const char *parent;
    uint64_t size, block, blocks, logical;
    uint64_t chunk;   /* blocks that one bitmap of sectors is for */
    uint64_t entries; /* of the block table */
    unsigned units, log_entries;
    uint64_t unit[VHDX_BLOCKS_MAX], bitmap_of[VHDX_BLOCKS_MAX];
    struct piece meta[VHDX_METAS], piece[2 * VHDX_BLOCKS_MAX];
    uint64_t end;
};

uint64_t vhdx_bat_index(const struct vhdx *v, uint64_t block);
void vhdx_log_guid(const struct fuzz_image *img, uint8_t ret_guid[16]);
void vhdx_put_log(struct fuzz_image *img, const struct vhdx *v);
extern const struct fuzz_recipe vhdx_recipes[];

#endif
