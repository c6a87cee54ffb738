/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sparse extents of VMDK: header, embedded descriptor, grain directory and tables, both perhaps twice, and
 * grains; and COWD, their forerunner, which only descriptors refer to.
 */
#include "fuzz/formats/vmdk.h"

#include <stdio.h>

#include "fuzz/formats.h"

#define SIZE_MAX_BYTES (UINT64_C(300) * GiB) /* the directory takes a tenth of the file */
#define SIZE_MAX_BELOW (UINT64_C(8) * GiB)   /* of extents and parents */
#define COWD_GTES      4096u

void vmdk_choose(struct fuzz_image *img, struct vmdk *v, uint32_t per_table)
{
    uint64_t size_max = fuzz_depth(img) ? SIZE_MAX_BELOW : SIZE_MAX_BYTES;

    v->grain = UINT64_C(1) << fuzz_pick(img, "grain_bits", 4, 9);
    v->per_table = per_table;
    if (v->parent) {
        v->capacity = round_up(fuzz_guest_size_of(img, v->parent) / SECTOR_SIZE, v->grain);
    } else {
        v->capacity = choose_size(img, v->grain * SECTOR_SIZE, size_max) / SECTOR_SIZE;
    }
    v->tables = div_up(v->capacity, v->grain * per_table);
    uint64_t room = (fuzz_limit(img) - 2 * MiB) / (v->grain * SECTOR_SIZE + SECTOR_SIZE);
    choose_two_levels(img, &v->map, v->capacity / v->grain, per_table,
                      (unsigned)MIN(room, fuzz_pick(img, "grains", 0, 60)), TABLES_MAX);
}

int vmdk_place_table(struct fuzz_image *img, const char *name, int index, int parent,
                     const struct layout *layout, uint64_t offset, uint64_t entries)
{
    fuzz_at(img, offset, entries * layout->bytes);
    return fuzz_place(img, &(struct fuzz_part){.name = name,
                                               .many = index >= 0,
                                               .index = index >= 0 ? (uint32_t)index : 0,
                                               .parent = parent,
                                               .layout = layout,
                                               .offset = offset,
                                               .element = "entry",
                                               .count = (uint32_t)entries,
                                               .used = 64,
                                               .unit = SECTOR_SIZE});
}

/* ---- KDMV ---- */

struct sparse {
    struct vmdk v;
    bool redundant, zeroed;
    struct piece meta[2 + 2 * TABLES_MAX]; /* directory, tables; the same again */
    struct piece grain[UNITS_MAX];
    uint64_t overhead; /* bytes */
};

static void lay_out(struct fuzz_image *img, struct sparse *s, uint64_t start)
{
    unsigned n = 1 + s->v.map.tables, copies = s->redundant ? 2 : 1;

    for (unsigned i = 0; i < copies * n; i++) {
        s->meta[i].bytes = i % n == 0 ? s->v.tables * 4 : VMDK_GTES * UINT64_C(4);
    }
    uint64_t end = place_pieces(img, s->meta, copies * n, start, SECTOR_SIZE, 5, false);
    s->overhead = round_up(end, s->v.grain * SECTOR_SIZE);
    for (unsigned i = 0; i < s->v.map.units; i++) {
        s->grain[i].bytes = s->v.grain * SECTOR_SIZE;
    }
    end = place_pieces(img, s->grain, s->v.map.units, s->overhead, s->v.grain * SECTOR_SIZE, 5, false);
    fuzz_set_size(img, end);
}

static int put_header(struct fuzz_image *img, const struct sparse *s, uint64_t descriptor)
{
    unsigned n = 1 + s->v.map.tables;

    fuzz_at(img, 0, vmdk_header_layout.bytes);
    int h =
        fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &vmdk_header_layout, .weight = 20});
    fuzz_put(img, h, 0, "magic", VMDK_MAGIC);
    fuzz_put(img, h, 0, "version", s->zeroed ? 2 : 1);
    fuzz_put(img, h, 0, "flags",
             (uint64_t)VMDK_FLAG_NEWLINE | (s->redundant ? VMDK_FLAG_REDUNDANT : 0) |
                 (s->zeroed ? VMDK_FLAG_ZEROED : 0));
    fuzz_put(img, h, 0, "capacity", s->v.capacity);
    fuzz_put(img, h, 0, "grain_size", s->v.grain);
    fuzz_put(img, h, 0, "descriptor_offset", descriptor);
    fuzz_put(img, h, 0, "descriptor_size", descriptor ? VMDK_DESCRIPTOR_SECTORS : 0);
    fuzz_put(img, h, 0, "num_gtes_per_gt", VMDK_GTES);
    fuzz_put(img, h, 0, "rgd_offset", s->redundant ? s->meta[n].offset / SECTOR_SIZE : 0);
    fuzz_put(img, h, 0, "gd_offset", s->meta[0].offset / SECTOR_SIZE);
    fuzz_put(img, h, 0, "overhead", s->overhead / SECTOR_SIZE);
    fuzz_put(img, h, 0, "unclean_shutdown", fuzz_chance(img, "unclean", 5));
    fuzz_put(img, h, 0, "newlines", VMDK_NEWLINES);
    return h;
}

/* One directory and its tables. */
static void put_tables(struct fuzz_image *img, const struct sparse *s, bool copy)
{
    const struct two_levels *m = &s->v.map;
    const struct piece *p = s->meta + (copy ? 1 + m->tables : 0);
    int gt[TABLES_MAX],
        gd = vmdk_place_table(img, copy ? "rgd" : "gd", -1, 0, &vmdk_gd_layout, p[0].offset, s->v.tables);

    for (unsigned i = 0; i < m->tables; i++) {
        gt[i] = vmdk_place_table(img, copy ? "rgt" : "gt", (int)i, gd, &vmdk_gt_layout, p[1 + i].offset,
                                 VMDK_GTES);
        fuzz_put(img, gd, (uint32_t)m->table[i], "offset", p[1 + i].offset / SECTOR_SIZE);
    }
    for (unsigned i = 0; i < m->units; i++) {
        fuzz_put(img, gt[table_of(m, m->unit[i], VMDK_GTES)], (uint32_t)(m->unit[i] % VMDK_GTES), "offset",
                 s->grain[i].offset / SECTOR_SIZE);
    }
    /* Behind a grain, where none is: one that reads as zeroes. */
    for (unsigned i = 0; i + 1 < m->units && s->zeroed; i++) {
        uint64_t next = m->unit[i] + 1;
        if (next < m->unit[i + 1] && next / VMDK_GTES == m->unit[i] / VMDK_GTES && next % 3) {
            fuzz_put(img, gt[table_of(m, next, VMDK_GTES)], (uint32_t)(next % VMDK_GTES), "offset", 1);
            fuzz_guest_zero(img, next * s->v.grain * SECTOR_SIZE, s->v.grain * SECTOR_SIZE);
        }
    }
}

static void put_grains(struct fuzz_image *img, const struct two_levels *m, const struct piece *p,
                       uint64_t bytes)
{
    for (unsigned i = 0; i < m->units; i++) {
        fuzz_data(img, p[i].offset, bytes);
        fuzz_place_bytes(img, "data", (int)i, p[i].offset, bytes);
        fuzz_guest_at(img, m->unit[i] * bytes, bytes, p[i].offset);
    }
}

void vmdk_build_sparse(struct fuzz_image *img, bool embedded)
{
    struct sparse s = {0};
    uint64_t descriptor = embedded ? 1 : 0; /* sector; QEMU finds it nowhere else */

    if (embedded && fuzz_chance(img, "parent", 25)) {
        s.v.parent = fuzz_beside(img, "parent", &fuzz_vmdk);
    }
    vmdk_choose(img, &s.v, VMDK_GTES);
    s.redundant = fuzz_chance(img, "redundant", 80);
    s.zeroed = fuzz_chance(img, "zeroed_grains", 25);
    lay_out(img, &s, SECTOR_SIZE * (1 + descriptor + (embedded ? VMDK_DESCRIPTOR_SECTORS : 0)));
    fuzz_guest_size(img, s.v.capacity * SECTOR_SIZE);
    fuzz_guest_from(img, 0, s.v.capacity * SECTOR_SIZE, s.v.parent, 0);
    put_header(img, &s, descriptor);
    if (embedded) {
        char line[80];
        snprintf(line, sizeof(line), "RW %llu SPARSE \"image.vmdk\"\n", (unsigned long long)s.v.capacity);
        vmdk_put_descriptor(img, descriptor * SECTOR_SIZE, VMDK_DESCRIPTOR_SECTORS * SECTOR_SIZE,
                            "monolithicSparse", s.v.parent, s.v.capacity, line);
    }
    put_tables(img, &s, false);
    if (s.redundant) {
        put_tables(img, &s, true);
    }
    put_grains(img, &s.v.map, s.grain, s.v.grain * SECTOR_SIZE);
}

/* ---- COWD ---- */

static void put_cowd_header(struct fuzz_image *img, const struct vmdk *v, uint64_t end)
{
    fuzz_at(img, 0, vmdk_cowd_layout.bytes);
    int h = fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &vmdk_cowd_layout, .weight = 20});
    fuzz_put(img, h, 0, "magic", VMDK_COWD);
    fuzz_put(img, h, 0, "version", 1);
    fuzz_put(img, h, 0, "flags", 3);
    fuzz_put(img, h, 0, "disk_sectors", v->capacity);
    fuzz_put(img, h, 0, "granularity", v->grain);
    fuzz_put(img, h, 0, "gd_offset", 4);
    fuzz_put(img, h, 0, "gd_entries", v->tables);
    fuzz_put(img, h, 0, "file_sectors", end / SECTOR_SIZE);
    fuzz_put(img, h, 0, "cylinders", v->capacity / 16 / 63);
    fuzz_put(img, h, 0, "heads", 16);
    fuzz_put(img, h, 0, "sectors", 63);
}

void vmdk_build_cowd(struct fuzz_image *img)
{
    struct vmdk v = {0};
    struct piece p[TABLES_MAX + UNITS_MAX];
    int gt[TABLES_MAX];

    vmdk_choose(img, &v, COWD_GTES);
    const struct two_levels *m = &v.map;
    for (unsigned i = 0; i < m->tables + m->units; i++) {
        p[i].bytes = i < m->tables ? COWD_GTES * UINT64_C(4) : v.grain * SECTOR_SIZE;
    }
    uint64_t start = round_up(vmdk_cowd_layout.bytes + v.tables * 4, SECTOR_SIZE);
    uint64_t end = place_pieces(img, p, m->tables + m->units, start, SECTOR_SIZE, 5, false);
    fuzz_set_size(img, end);
    fuzz_guest_size(img, v.capacity * SECTOR_SIZE);
    put_cowd_header(img, &v, end);
    int gd = vmdk_place_table(img, "gd", -1, 0, &vmdk_gd_layout, vmdk_cowd_layout.bytes, v.tables);
    for (unsigned i = 0; i < m->tables; i++) {
        gt[i] = vmdk_place_table(img, "gt", (int)i, gd, &vmdk_gt_layout, p[i].offset, COWD_GTES);
        fuzz_put(img, gd, (uint32_t)m->table[i], "offset", p[i].offset / SECTOR_SIZE);
    }
    for (unsigned i = 0; i < m->units; i++) {
        fuzz_put(img, gt[table_of(m, m->unit[i], COWD_GTES)], (uint32_t)(m->unit[i] % COWD_GTES), "offset",
                 p[m->tables + i].offset / SECTOR_SIZE);
    }
    put_grains(img, m, p + m->tables, v.grain * SECTOR_SIZE);
}
