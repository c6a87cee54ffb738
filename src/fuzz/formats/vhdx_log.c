/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log of VHDX ([MS-VHDX] 2.3): entries with descriptors and data that a reader writes to their places
 * when it opens the file. Here they hold what belongs into the first sectors of some blocks: a guest reads
 * it, whether the log was replayed by its reader or before.
 */
#include "fuzz/formats/vhdx.h"

#include <stdio.h>

#define SECTOR 4096u

void vhdx_log_guid(const struct fuzz_image *img, uint8_t ret_guid[16])
{
    make_id(img, fuzz_depth(img), 5, ret_guid);
}

struct entry {
    uint64_t at, bytes, sequence;
    int part;
    unsigned data, zeroes; /* descriptors */
};

/* 4 KiB at @target come from a sector of the log: its first eight and last four bytes stand in the
 * descriptor. */
static void put_data(struct fuzz_image *img, const struct entry *e, unsigned number, unsigned i,
                     uint64_t sector, uint64_t target, uint64_t guest)
{
    uint64_t at = e->at + vhdx_log_layout.bytes + i * vhdx_log_data_layout.bytes;

    int d = fuzz_place(img, &(struct fuzz_part){.name = "log_data",
                                                .many = true,
                                                .index = number * 16 + i,
                                                .parent = e->part,
                                                .layout = &vhdx_log_data_layout,
                                                .offset = at,
                                                .align = SECTOR});
    fuzz_put(img, d, 0, "signature", layout_field(&vhdx_log_data_layout, "signature")->min);
    fuzz_put(img, d, 0, "trailing_bytes", fuzz_below(img, UINT32_MAX));
    fuzz_put(img, d, 0, "leading_bytes", rng_u64(fuzz_rng(img)));
    fuzz_put(img, d, 0, "file_offset", target);
    fuzz_put(img, d, 0, "sequence_number", e->sequence);
    int s = fuzz_place(img, &(struct fuzz_part){.name = "log_sector",
                                                .many = true,
                                                .index = number * 16 + i,
                                                .parent = e->part,
                                                .layout = &vhdx_log_sector_layout,
                                                .offset = sector});
    fuzz_put(img, s, 0, "signature", layout_field(&vhdx_log_sector_layout, "signature")->min);
    fuzz_put(img, s, 0, "sequence_high", e->sequence >> 32);
    fuzz_put(img, s, 0, "sequence_low", e->sequence & UINT32_MAX);
    rng_fill(fuzz_rng(img), fuzz_at(img, sector + 8, 128), 128);
    fuzz_guest_at(img, guest, 8, at + 8);
    fuzz_guest_at(img, guest + 8, SECTOR - 12, sector + 8);
    fuzz_guest_at(img, guest + SECTOR - 4, 4, at + 4);
}

static void put_zero(struct fuzz_image *img, const struct entry *e, unsigned number, unsigned i,
                     uint64_t target, uint64_t bytes, uint64_t guest)
{
    uint64_t at = e->at + vhdx_log_layout.bytes + i * vhdx_log_zero_layout.bytes;

    int z = fuzz_place(img, &(struct fuzz_part){.name = "log_zero",
                                                .many = true,
                                                .index = number * 16 + i,
                                                .parent = e->part,
                                                .layout = &vhdx_log_zero_layout,
                                                .offset = at,
                                                .align = SECTOR});
    fuzz_put(img, z, 0, "signature", layout_field(&vhdx_log_zero_layout, "signature")->min);
    fuzz_put(img, z, 0, "zero_length", bytes);
    fuzz_put(img, z, 0, "file_offset", target);
    fuzz_put(img, z, 0, "sequence_number", e->sequence);
    fuzz_guest_zero(img, guest, bytes);
}

static void put_entry_header(struct fuzz_image *img, const struct vhdx *v, const struct entry *e)
{
    uint8_t id[16];

    fuzz_put(img, e->part, 0, "signature", layout_field(&vhdx_log_layout, "signature")->min);
    fuzz_put(img, e->part, 0, "entry_length", e->bytes);
    fuzz_put(img, e->part, 0, "tail", 0);
    fuzz_put(img, e->part, 0, "sequence_number", e->sequence);
    fuzz_put(img, e->part, 0, "descriptor_count", e->data + e->zeroes);
    vhdx_log_guid(img, id);
    put_bytes(img, e->part, 0, "log_guid", id, sizeof(id));
    fuzz_put(img, e->part, 0, "flushed_file_offset", v->end);
    fuzz_put(img, e->part, 0, "last_file_offset", v->end);
}

/* Each entry speaks of one block, and there of other sectors than the entries before it. */
static uint64_t put_entry(struct fuzz_image *img, const struct vhdx *v, unsigned number, uint64_t at)
{
    struct entry e = {
        .at = at, .sequence = (fuzz_seed(img) << 20) + 1 + number, .data = 1 + (unsigned)fuzz_below(img, 3)};
    e.zeroes = (unsigned)fuzz_below(img, 2);
    unsigned block = (unsigned)fuzz_below(img, v->units);
    uint64_t target = v->piece[block].offset, guest = v->unit[block] * v->block;
    uint64_t skip = number * 16 * (uint64_t)SECTOR;

    e.bytes = (1 + e.data) * (uint64_t)SECTOR;
    fuzz_at(img, at, e.bytes);
    e.part = fuzz_place(img, &(struct fuzz_part){.name = "log",
                                                 .many = true,
                                                 .index = number,
                                                 .layout = &vhdx_log_layout,
                                                 .offset = at,
                                                 .align = SECTOR,
                                                 .weight = 20});
    put_entry_header(img, v, &e);
    for (unsigned i = 0; i < e.data; i++) {
        put_data(img, &e, number, i, at + (1 + i) * SECTOR, target + skip + i * SECTOR,
                 guest + skip + i * SECTOR);
    }
    if (e.zeroes) {
        put_zero(img, &e, number, e.data, target + skip + 8 * SECTOR, 4 * SECTOR, guest + skip + 8 * SECTOR);
    }
    fuzz_sum(img, at + 4, 4, at, e.bytes, sum_crc32c_le);
    return at + e.bytes;
}

void vhdx_put_log(struct fuzz_image *img, const struct vhdx *v)
{
    uint64_t at = v->meta[VHDX_LOG].offset;

    for (unsigned i = 0; i < v->log_entries; i++) {
        at = put_entry(img, v, i, at);
    }
}

/* ---- known-bad images ---- */

static int part(struct fuzz_image *img, const char *name)
{
    return fuzz_find(img, name, -1);
}

static void block_size_0(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "parameters"), 0, "block_size", 0);
}

static void block_size_small(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "parameters"), 0, "block_size", 1);
}

static void block_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "parameters"), 0, "block_size", UINT32_C(1) << 31);
}

static void sector_size_0(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "logical_sector"), 0, "size", 0);
}

static void sector_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "logical_sector"), 0, "size", UINT32_C(1) << 31);
}

/* More blocks than 32 bits count, so that the number of entries that is checked is a small one. */
static void disk_size_wraps(struct fuzz_image *img)
{
    uint64_t block = fuzz_get(img, part(img, "parameters"), 0, "block_size");

    fuzz_set(img, part(img, "disk_size"), 0, "size", (UINT64_C(1) << 32) * block + block);
}

static void disk_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "disk_size"), 0, "size", INT64_MAX & ~UINT64_C(511));
}

static void disk_size_all(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "disk_size"), 0, "size", UINT64_MAX);
}

static void disk_size_doubled(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "disk_size"), 0, "size",
             fuzz_get(img, part(img, "disk_size"), 0, "size") + 64 * 1024 * GiB);
}

static void descriptors_huge(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "log", 0), 0, "descriptor_count", UINT32_MAX / 32 + 1);
}

static void descriptors_beyond(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "log", 0), 0, "descriptor_count", 0x10000);
}

static void log_length_huge(struct fuzz_image *img)
{
    for (int i = 0; i < 2; i++) {
        fuzz_set(img, fuzz_find(img, "header", i), 0, "log_length", 0xfff00000);
    }
}

static void log_over_bat(struct fuzz_image *img)
{
    uint64_t bat = fuzz_offset_of(img, part(img, "bat"));

    for (int i = 0; i < 2; i++) {
        fuzz_set(img, fuzz_find(img, "header", i), 0, "log_offset", bat);
    }
}

static void regions_many(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "regions", 0), 0, "entry_count", 2048);
    fuzz_set(img, fuzz_find(img, "regions", 1), 0, "entry_count", 2048);
}

static void items_many(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "metadata"), 0, "entry_count", 2048);
}

static void sequence_wraps(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "header", 0), 0, "sequence_number", UINT64_MAX);
}

static void block_beyond_end(struct fuzz_image *img)
{
    fuzz_set(img, part(img, "bat"), 0, "state", VHDX_FULLY_PRESENT);
    fuzz_set(img, part(img, "bat"), 0, "file_offset_mb", UINT64_C(0xfffffffffff));
}

const struct fuzz_recipe vhdx_recipes[] = {
    {"CVE-2014-0148-block-size", "blocks of no bytes: an endless loop", NULL, block_size_0},
    {"CVE-2014-0148-block-size-1", "blocks of one byte", NULL, block_size_small},
    {"vhdx-block-size-huge", "blocks of 2 GiB", NULL, block_size_huge},
    {"CVE-2014-0148-sector-size", "sectors of no bytes: an endless loop", NULL, sector_size_0},
    {"CVE-2014-0148-sector-size-huge", "sectors of 2 GiB", NULL, sector_size_huge},
    {"qemu-4033-disk-size", "more blocks than 32 bits count: the table is taken for long enough", "type=0",
     disk_size_wraps},
    {"qemu-4390-disk-size-huge", "a disk of 2^63 bytes", "type=0", disk_size_huge},
    {"qemu-4470-disk-size-all", "a disk of 2^64 - 1 bytes", "type=0", disk_size_all},
    {"qemu-4487-disk-size-limit", "a disk 64 TiB larger than its table", "type=0", disk_size_doubled},
    {"qemu-3860-descriptors", "more descriptors in a log entry than 32 bits hold bytes of", "log=1,blocks=3",
     descriptors_huge},
    {"vhdx-descriptors", "descriptors behind the end of their log entry", "log=1,blocks=3",
     descriptors_beyond},
    {"vhdx-log-length", "a log of 4 GiB", NULL, log_length_huge},
    {"vhdx-log-over-bat", "the log lies where the block table is", NULL, log_over_bat},
    {"vhdx-regions", "one region more than a table can hold", NULL, regions_many},
    {"vhdx-items", "one item more than the metadata table can hold", NULL, items_many},
    {"cloud-hypervisor-8799-sequence", "the sequence number of the header is the last one", NULL,
     sequence_wraps},
    {"vhdx-block-beyond-end", "a block behind the end of all files", "type=0", block_beyond_end},
    {0},
};
