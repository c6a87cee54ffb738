/* SPDX-License-Identifier: BSD-2-Clause */
/* The snapshot table: entries of variable length, each with extra data, id and name, and its L1 table. */
#include <stdio.h>

#include "fuzz/qcow2/build.h"

static const struct layout *const extra_layout = &qcow2_snapshot_extra_layout;

struct row { /* of the table, before it has a place */
    uint32_t extra_bytes;
    char id[24], name[32];
    uint32_t bytes;
};

static void plan_row(struct q_build *q, unsigned i, struct row *r)
{
    static const uint8_t sizes[] = {16, 24, 24, 40};
    bool none = q->h.version == 2 && fuzz_below(q->img, 3) == 0 && q->snapshot[i].disk_bytes == q->h.size;

    r->extra_bytes = none ? 0 : sizes[fuzz_below(q->img, ARRAY_SIZE(sizes))];
    snprintf(r->id, sizeof(r->id), "%u", i + 1);
    snprintf(r->name, sizeof(r->name), "snap%u-%u", i, (unsigned)fuzz_below(q->img, 1000000));
    r->bytes =
        (uint32_t)round_up(qcow2_snapshot_layout.bytes + r->extra_bytes + strlen(r->id) + strlen(r->name), 8);
}

static void write_extra(struct q_build *q, const struct q_l1 *l1, int parent, uint64_t at,
                        const struct row *r)
{
    struct qcow2_snapshot_extra extra = {
        .vm_state_bytes = l1->vm_state_bytes, .disk_bytes = l1->disk_bytes, .icount = UINT64_MAX};
    uint32_t known = MIN(r->extra_bytes, extra_layout->bytes);

    if (r->extra_bytes == 0) {
        return;
    }
    layout_write(extra_layout, &extra, 3, fuzz_at(q->img, at, r->extra_bytes), known);
    fuzz_place(q->img, &(struct fuzz_part){.name = "extra",
                                           .parent = parent,
                                           .layout = extra_layout,
                                           .offset = at,
                                           .bytes = known,
                                           .weight = 5});
}

static void write_row(struct q_build *q, unsigned i, uint64_t at, const struct row *r)
{
    struct fuzz_image *img = q->img;
    const struct q_l1 *l1 = &q->snapshot[i];
    struct qcow2_snapshot_entry entry = {
        .l1_offset = l1->offset,
        .l1_entries = l1->entries,
        .id_bytes = (uint16_t)strlen(r->id),
        .name_bytes = (uint16_t)strlen(r->name),
        .vm_state_bytes = (uint32_t)l1->vm_state_bytes,
        .extra_bytes = r->extra_bytes,
    };
    entry.date_s = (uint32_t)fuzz_below(img, UINT32_MAX);
    entry.date_ns = (uint32_t)fuzz_below(img, NS_PER_SEC);
    entry.vm_clock_ns = fuzz_below(img, UINT32_MAX);
    uint64_t text = at + qcow2_snapshot_layout.bytes + r->extra_bytes;

    layout_write(&qcow2_snapshot_layout, &entry, 3, fuzz_at(img, at, r->bytes), qcow2_snapshot_layout.bytes);
    memcpy(fuzz_at(img, text, entry.id_bytes), r->id, entry.id_bytes);
    memcpy(fuzz_at(img, text + entry.id_bytes, entry.name_bytes), r->name, entry.name_bytes);
    int part = fuzz_place(img, &(struct fuzz_part){.name = "snapshot",
                                                   .many = true,
                                                   .index = i,
                                                   .layout = &qcow2_snapshot_layout,
                                                   .offset = at,
                                                   .align = q->cluster,
                                                   .weight = 12});
    write_extra(q, l1, part, at + qcow2_snapshot_layout.bytes, r);
    fuzz_place(img, &(struct fuzz_part){.name = "name",
                                        .parent = part,
                                        .offset = text + entry.id_bytes,
                                        .bytes = entry.name_bytes,
                                        .weight = 2});
    q_l1_write(q, l1, part, "l1", false);
}

void q_snapshot_write(struct q_build *q)
{
    uint64_t at = q->h.snapshots_offset;
    struct row row;

    q->h.snapshots = q->snapshots;
    if (at && q->snapshots == 0) { /* there was room for the table, and for nothing in it */
        q->refs[at / q->cluster] = 0;
        q->h.snapshots_offset = 0;
        return;
    }
    for (unsigned i = 0; i < q->snapshots; i++) {
        plan_row(q, i, &row);
        write_row(q, i, at, &row);
        at += row.bytes;
    }
    assert(at <= q->h.snapshots_offset + q->cluster);
}
