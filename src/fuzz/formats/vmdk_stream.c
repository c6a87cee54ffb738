/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMDK streamOptimized: compressed grains, each behind a marker with its place on the disk; grain tables, the
 * grain directory and a copy of the header (the footer), behind markers too; the end of the stream.
 */
#include "fuzz/formats/vmdk.h"

#include <stdio.h>

#include "fuzz/formats/deflate.h"

#define UNIT_MAX 400u /* bytes that repeat in a grain; less than the smallest */

struct stream {
    struct vmdk v;
    bool footer;
    unsigned version, markers;
    uint64_t at; /* where the next thing goes */
};

static int put_header(struct fuzz_image *img, const struct stream *s, const char *name, uint64_t at,
                      uint64_t gd_sector)
{
    fuzz_at(img, at, vmdk_header_layout.bytes);
    int h = fuzz_place(
        img, &(struct fuzz_part){.name = name, .layout = &vmdk_header_layout, .offset = at, .weight = 20});
    fuzz_put(img, h, 0, "magic", VMDK_MAGIC);
    fuzz_put(img, h, 0, "version", s->version);
    fuzz_put(img, h, 0, "flags", VMDK_FLAG_NEWLINE | VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS);
    fuzz_put(img, h, 0, "capacity", s->v.capacity);
    fuzz_put(img, h, 0, "grain_size", s->v.grain);
    fuzz_put(img, h, 0, "descriptor_offset", 1);
    fuzz_put(img, h, 0, "descriptor_size", VMDK_DESCRIPTOR_SECTORS);
    fuzz_put(img, h, 0, "num_gtes_per_gt", VMDK_GTES);
    fuzz_put(img, h, 0, "gd_offset", gd_sector);
    fuzz_put(img, h, 0, "overhead", s->at / SECTOR_SIZE);
    fuzz_put(img, h, 0, "newlines", VMDK_NEWLINES);
    fuzz_put(img, h, 0, "compress_algorithm", 1);
    return h;
}

static void put_marker(struct fuzz_image *img, struct stream *s, enum vmdk_marker type, uint64_t sectors)
{
    fuzz_at(img, s->at, SECTOR_SIZE);
    int m = fuzz_place(img, &(struct fuzz_part){.name = "marker",
                                                .many = true,
                                                .index = s->markers++,
                                                .layout = &vmdk_marker_layout,
                                                .offset = s->at});
    fuzz_put(img, m, 0, "value", sectors);
    fuzz_put(img, m, 0, "type", type);
    s->at += SECTOR_SIZE;
}

static void put_grain(struct fuzz_image *img, struct stream *s, unsigned i)
{
    uint8_t unit[UNIT_MAX];
    uint64_t seed = rng_u64(fuzz_rng(img)), bytes = s->v.grain * SECTOR_SIZE;
    uint32_t unit_bytes = 1 + (uint32_t)fuzz_below(img, UNIT_MAX);
    uint64_t at = s->at + vmdk_grain_layout.bytes;

    fuzz_guest_unit(seed, unit, unit_bytes);
    size_t len =
        zlib_repeated(unit, unit_bytes, bytes, fuzz_at(img, at, deflate_room(unit_bytes, bytes) + 6));
    int g = fuzz_place(
        img, &(struct fuzz_part){
                 .name = "grain", .many = true, .index = i, .layout = &vmdk_grain_layout, .offset = s->at});
    fuzz_put(img, g, 0, "lba", s->v.map.unit[i] * s->v.grain);
    fuzz_put(img, g, 0, "size", len);
    fuzz_place_bytes(img, "compressed", (int)i, at, len);
    fuzz_guest_repeat(img, s->v.map.unit[i] * bytes, bytes, seed, unit_bytes);
    s->v.grain_offset[i] = s->at;
    s->at = round_up(at + len, SECTOR_SIZE);
}

/* Grains in random order: the tables say where each is. */
static void put_grains(struct fuzz_image *img, struct stream *s)
{
    unsigned order[UNITS_MAX], n = s->v.map.units;

    for (unsigned i = 0; i < n; i++) {
        order[i] = i;
    }
    for (unsigned i = fuzz_chance(img, "grains_in_order", 50) ? 0 : n; i > 1; i--) {
        unsigned other = (unsigned)fuzz_below(img, i), mine = order[i - 1];
        order[i - 1] = order[other];
        order[other] = mine;
    }
    for (unsigned i = 0; i < n; i++) {
        put_grain(img, s, order[i]);
    }
}

static void put_tables(struct fuzz_image *img, struct stream *s)
{
    const struct two_levels *m = &s->v.map;
    uint64_t offset[TABLES_MAX];

    for (unsigned t = 0; t < m->tables; t++) {
        put_marker(img, s, VMDK_MARKER_GT, VMDK_GTES * 4 / SECTOR_SIZE);
        offset[t] = s->at;
        int gt = vmdk_place_table(img, "gt", (int)t, 0, &vmdk_gt_layout, s->at, VMDK_GTES);
        for (unsigned i = 0; i < m->units; i++) {
            if (table_of(m, m->unit[i], VMDK_GTES) == t) {
                fuzz_put(img, gt, (uint32_t)(m->unit[i] % VMDK_GTES), "offset",
                         s->v.grain_offset[i] / SECTOR_SIZE);
            }
        }
        s->at += VMDK_GTES * 4;
    }
    uint64_t bytes = round_up(s->v.tables * 4, SECTOR_SIZE);
    put_marker(img, s, VMDK_MARKER_GD, bytes / SECTOR_SIZE);
    s->v.gd_offset = s->at;
    int gd = vmdk_place_table(img, "gd", -1, 0, &vmdk_gd_layout, s->at, s->v.tables);
    for (unsigned t = 0; t < m->tables; t++) {
        fuzz_put(img, gd, (uint32_t)m->table[t], "offset", offset[t] / SECTOR_SIZE);
    }
    s->at += bytes;
}

void vmdk_build_stream(struct fuzz_image *img)
{
    struct stream s = {.at = 128 * SECTOR_SIZE}; /* the first grain, where VMware has it */
    char line[80];

    vmdk_choose(img, &s.v, VMDK_GTES);
    s.version = fuzz_chance(img, "version_1", 30) ? 1 : 3;
    s.footer = fuzz_chance(img, "footer", 80);
    int h = put_header(img, &s, "header", 0, VMDK_GD_AT_END);
    snprintf(line, sizeof(line), "RW %llu SPARSE \"image.vmdk\"\n", (unsigned long long)s.v.capacity);
    vmdk_put_descriptor(img, SECTOR_SIZE, VMDK_DESCRIPTOR_SECTORS * SECTOR_SIZE, "streamOptimized", NULL,
                        s.v.capacity, line);
    fuzz_guest_size(img, s.v.capacity * SECTOR_SIZE);
    put_grains(img, &s);
    put_tables(img, &s);
    if (s.footer) {
        put_marker(img, &s, VMDK_MARKER_FOOTER, 1);
        uint64_t at = s.at;
        s.at = 128 * SECTOR_SIZE; /* the overhead again */
        put_header(img, &s, "footer", at, s.v.gd_offset / SECTOR_SIZE);
        s.at = at + SECTOR_SIZE;
    } else {
        fuzz_put(img, h, 0, "gd_offset", s.v.gd_offset / SECTOR_SIZE);
    }
    put_marker(img, &s, VMDK_MARKER_EOS, 0);
    fuzz_set_size(img, s.at);
}
