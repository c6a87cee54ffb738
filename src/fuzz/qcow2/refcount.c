/* SPDX-License-Identifier: BSD-2-Clause */
/* The refcount table is given its place first, and with it the number of clusters there can be; the blocks
 * come last. */
#include "fuzz/qcow2/build.h"

#define BLOCKS_SPREAD 12 /* refcount blocks that random positions may need */
#define BLOCKS_KEPT   48

static const struct field refcount_fields[7][2] = {
    {{"refcount", FIELD_NUMBER, 0, 1}, {0}}, {{"refcount", FIELD_NUMBER, 0, 1}, {0}},
    {{"refcount", FIELD_NUMBER, 0, 1}, {0}}, {{"refcount", FIELD_NUMBER, 0, 1}, {0}},
    {{"refcount", FIELD_NUMBER, 0, 2}, {0}}, {{"refcount", FIELD_NUMBER, 0, 4}, {0}},
    {{"refcount", FIELD_NUMBER, 0, 8}, {0}},
};
const struct layout q_refcount_layouts[7] = {
    {"refcounts of 1 bit", refcount_fields[0], 1, 0},   {"refcounts of 2 bits", refcount_fields[1], 1, 0},
    {"refcounts of 4 bits", refcount_fields[2], 1, 0},  {"refcounts of 8 bits", refcount_fields[3], 1, 0},
    {"refcounts of 16 bits", refcount_fields[4], 2, 0}, {"refcounts of 32 bits", refcount_fields[5], 4, 0},
    {"refcounts of 64 bits", refcount_fields[6], 8, 0},
};

void q_refcount_plan(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    uint64_t most =
        MIN(MIN(fuzz_limit(img) / q->cluster, (uint64_t)Q_CLUSTERS_MAX), BLOCKS_KEPT * q->refblock_entries);
    uint64_t spread = MIN(most, BLOCKS_SPREAD * q->refblock_entries);

    /* positions are chosen from few clusters or from many */
    spread = fuzz_chance(img, "scattered", 50) ? 1 + fuzz_below(img, spread) : MIN(spread, UINT64_C(64));
    fuzz_space_init(img, &q->space, q->cluster, q->cluster, spread);
    q->refs[0] = 1;
    q->reftable_entries = div_up(most, q->refblock_entries);
    uint64_t clusters = div_up(q->reftable_entries * 8, q->cluster);
    q->space.units = most;
    q->clusters_max = most;
    q->space.units = most - q->reftable_entries; /* the last clusters are kept for the blocks */
    q->h.reftable_clusters = (uint32_t)clusters;
    q->h.reftable_offset = q_take(q, clusters);
}

/* Is some cluster of this block in use? */
static bool block_needed(const struct q_build *q, uint64_t block)
{
    uint64_t end = MIN((block + 1) * q->refblock_entries, q->space.next);

    for (uint64_t c = block * q->refblock_entries; c < end; c++) {
        if (q->refs[c]) {
            return true;
        }
    }
    return false;
}

/* Blocks take clusters, which need blocks: until nothing changes. */
static void take_blocks(struct q_build *q, uint64_t *block)
{
    bool again = true;

    q->space.units = q->clusters_max;
    while (again) {
        again = false;
        for (uint64_t i = 0; i < q->reftable_entries; i++) {
            if (!block[i] && block_needed(q, i)) {
                block[i] = q_take(q, 1);
                assert(block[i]);
                again = true;
            }
        }
    }
}

static void put_refcount(struct q_build *q, uint64_t block, uint64_t index, uint64_t value)
{
    unsigned bits = 1u << q->h.refcount_order;
    uint8_t *p = fuzz_at(q->img, block + index * bits / 8, MAX(bits / 8, 1u));

    switch (q->h.refcount_order) {
    case 4:
        put_be16(p, (uint16_t)value);
        break;
    case 5:
        put_be32(p, (uint32_t)value);
        break;
    case 6:
        put_be64(p, value);
        break;
    default:
        *p = (uint8_t)(*p | value << index * bits % 8);
    }
}

static void write_block(struct q_build *q, unsigned i, uint64_t at)
{
    unsigned bits = 1u << q->h.refcount_order;
    uint64_t first = i * q->refblock_entries, end = MIN(first + q->refblock_entries, q->space.next);

    for (uint64_t c = first; c < end; c++) {
        if (q->refs[c]) {
            put_refcount(q, at, c - first, q->refs[c]);
        }
    }
    fuzz_at(q->img, at, 1);
    fuzz_place(q->img, &(struct fuzz_part){.name = "refcount_block",
                                           .many = true,
                                           .index = i,
                                           .layout = &q_refcount_layouts[q->h.refcount_order],
                                           .offset = at,
                                           .element = "entry",
                                           .count = (uint32_t)q->refblock_entries,
                                           .used = (uint32_t)MIN(q->refblock_entries, end - first),
                                           .stride_bits = bits,
                                           .align = q->cluster,
                                           .weight = 6});
}

void q_refcount_write(struct q_build *q)
{
    uint64_t block[Q_CLUSTERS_MAX / 64] = {0};

    assert(q->reftable_entries <= ARRAY_SIZE(block));
    take_blocks(q, block);
    fuzz_place(q->img, &(struct fuzz_part){.name = "refcount_table",
                                           .layout = &qcow2_reftable_layout,
                                           .offset = q->h.reftable_offset,
                                           .element = "entry",
                                           .count = (uint32_t)(q->h.reftable_clusters * q->cluster / 8),
                                           .used = (uint32_t)MIN(q->reftable_entries, (uint64_t)Q_USED),
                                           .align = q->cluster,
                                           .weight = 12});
    for (unsigned i = 0; i < q->reftable_entries; i++) {
        if (block[i]) {
            put_be64(fuzz_at(q->img, q->h.reftable_offset + i * 8, 8), block[i]);
            write_block(q, i, block[i]);
        }
    }
}
