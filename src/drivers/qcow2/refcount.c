/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reference counts: read, changed, and the blocks and the table that hold them made when they are
 * missing. A new block is written before the table entry that names it, a new table before the
 * header that names it. Counts that go down come from alloc.c, at a time when that is safe.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

/* ---- entries of a block ---- */

uint64_t qcow2_read_ref(const uint8_t *block, uint64_t index, unsigned order)
{
    switch (order) {
    case 3:
        return block[index];
    case 4:
        return get_be16(block + 2 * index);
    case 5:
        return get_be32(block + 4 * index);
    case 6:
        return get_be64(block + 8 * index);
    default: { /* 1, 2 or 4 bits: the lowest ones of a byte come first */
        unsigned bits = 1u << order;
        unsigned shift = (unsigned)(index << order) & 7;
        return block[index << order >> 3] >> shift & ((1u << bits) - 1);
    }
    }
}

void qcow2_write_ref(uint8_t *block, uint64_t index, unsigned order, uint64_t v)
{
    switch (order) {
    case 3:
        block[index] = (uint8_t)v;
        break;
    case 4:
        put_be16(block + 2 * index, (uint16_t)v);
        break;
    case 5:
        put_be32(block + 4 * index, (uint32_t)v);
        break;
    case 6:
        put_be64(block + 8 * index, v);
        break;
    default: {
        unsigned bits = 1u << order;
        unsigned shift = (unsigned)(index << order) & 7;
        uint8_t mask = (uint8_t)(((1u << bits) - 1) << shift);
        uint8_t *p = &block[index << order >> 3];
        *p = (uint8_t)((*p & ~mask) | ((v << shift) & mask));
    }
    }
}

/* ---- the table ---- */

int qcow2_load_reftable(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t entries = ((uint64_t)q->h.reftable_clusters << q->cluster_bits) / 8;

    if (entries > 0) {
        qcow2_event(n, EVENT_reftable_load);
    }
    int r = qcow2_read_table(n, q->h.reftable_offset, entries, &q->reftable);
    if (r < 0 && (n->flags & OPEN_CHECK)) { /* the check tells what is wrong with it */
        q->reftable = calloc(1, 8);
        entries = 0;
        r = q->reftable ? 0 : -ENOMEM;
    }
    if (r < 0) {
        return err_set_errno(err, r, "Could not read reference count table");
    }
    q->reftable_entries = (uint32_t)entries;
    return 0;
}

static uint64_t block_of(const struct qcow2 *q, uint64_t cluster)
{
    return cluster >> q->refblock_bits;
}

static uint64_t in_block(const struct qcow2 *q, uint64_t cluster)
{
    return cluster & ((UINT64_C(1) << q->refblock_bits) - 1);
}

int qcow2_refblock(struct node *n, uint64_t index, uint64_t *ret)
{
    struct qcow2 *q = qcow2_of(n);

    *ret = index < q->reftable_entries ? q->reftable[index] & QCOW2_REF_MASK : 0;
    if (UNLIKELY(qcow2_in_cluster(q, *ret))) {
        qcow2_damaged(n, true, "Refblock offset %#" PRIx64 " unaligned (reftable index: %#" PRIx64 ")", *ret,
                      index);
        return -EIO;
    }
    if (UNLIKELY(*ret >= node_size(qcow2_file(n)))) {
        qcow2_damaged(n, true,
                      "Refblock offset %#" PRIx64 " is behind the end of the file (reftable index: %#" PRIx64
                      ")",
                      *ret, index);
        return -EIO;
    }
    return 0;
}

int qcow2_get_refcount(struct node *n, uint64_t cluster, uint64_t *ret)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *e;
    uint64_t offset;
    int r = qcow2_refblock(n, block_of(q, cluster), &offset);

    if (r == 0 && offset == 0) {
        *ret = 0;
        return 0;
    }
    if (r < 0 || (r = qcow2_cache_get(q->ref_cache, offset, true, &e)) < 0) {
        return r;
    }
    *ret = qcow2_read_ref(e->data, in_block(q, cluster), q->ref_bits_order);
    qcow2_cache_put(q->ref_cache, e);
    return 0;
}

static co_fn int write_table_entry(struct node *n, uint64_t index)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t bytes[8];

    put_be64(bytes, q->reftable[index]);
    int r = qcow2_write_meta(n, QCOW2_PART_REFTABLE, q->h.reftable_offset + index * 8, bytes, 8);
    return r < 0 ? r : node_flush(qcow2_file(n));
}

/* ---- a larger table ---- */

/* The new table and the blocks that describe it and themselves lie together, at the beginning of
 * the first range that no block describes yet. */
struct area {
    uint64_t first;       /* cluster: blocks first, then the table */
    uint64_t first_block; /* number of the first new block */
    uint64_t blocks, table_clusters;
};

/* Blocks and table describe each other: find the sizes that do. */
static int plan_area(const struct qcow2 *q, uint64_t cluster, struct area *a)
{
    uint64_t per_block = UINT64_C(1) << q->refblock_bits;
    uint64_t per_table = q->cluster_bytes / 8;
    uint64_t total_blocks = 0, table = 0;

    a->first_block = div_up(cluster + 1, per_block);
    a->first = a->first_block << q->refblock_bits;
    for (uint64_t last = 0;;) { /* all blocks are counted: some room to grow costs little */
        total_blocks = div_up(a->first + total_blocks + table + div_up(table, 2), per_block);
        table = div_up(total_blocks + div_up(total_blocks, 2), per_table);
        if (total_blocks == last) {
            break;
        }
        last = total_blocks;
    }
    a->blocks = total_blocks - a->first_block;
    a->table_clusters = table;
    return table << q->cluster_bits > QCOW2_REFTABLE_MAX ? -EFBIG : 0;
}

static co_fn int write_area_blocks(struct node *n, const struct area *a)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t used_end = a->first + a->blocks + a->table_clusters;
    uint8_t *block = buf_get(q->cluster_bytes);
    int r = block ? 0 : -ENOMEM;

    for (uint64_t i = 0; r == 0 && i < a->blocks; i++) {
        uint64_t base = (a->first_block + i) << q->refblock_bits;
        memset(block, 0, q->cluster_bytes);
        for (uint64_t c = MAX(base, a->first); c < used_end && block_of(q, c) == a->first_block + i; c++) {
            qcow2_write_ref(block, in_block(q, c), q->ref_bits_order, 1);
        }
        qcow2_event(n, EVENT_refblock_update_part);
        r = qcow2_write_meta(n, 0, (a->first + i) << q->cluster_bits, block, q->cluster_bytes);
    }
    buf_put(block, q->cluster_bytes);
    return r < 0 ? r : node_flush(qcow2_file(n));
}

/* The header's two fields lie side by side and go down in one write. */
static co_fn int switch_table(struct node *n, uint64_t offset, uint64_t clusters)
{
    uint8_t bytes[12];

    put_be64(bytes, offset);
    put_be32(bytes + 8, (uint32_t)clusters);
    return qcow2_switch_header(n, 48, bytes, sizeof(bytes));
}

/* @block, a new one for @index, does not fit the table: write a larger one that names it, too. */
static co_fn int grow_table(struct node *n, uint64_t cluster, uint64_t index, uint64_t block)
{
    struct qcow2 *q = qcow2_of(n);
    struct area a;

    qcow2_event(n, EVENT_reftable_grow);
    int r = plan_area(q, MAX(cluster, qcow2_cluster_of(q, block)), &a);
    if (r < 0) {
        return r;
    }
    uint64_t entries = (a.table_clusters << q->cluster_bits) / 8;
    uint64_t table_host = (a.first + a.blocks) << q->cluster_bits;
    AUTO_FREE uint64_t *table = calloc(entries, 8);
    if (!table) {
        return -ENOMEM;
    }
    memcpy(table, q->reftable, (size_t)MIN((uint64_t)q->reftable_entries, entries) * 8);
    table[index] = block;
    for (uint64_t i = 0; i < a.blocks; i++) {
        table[a.first_block + i] = (a.first + i) << q->cluster_bits;
    }
    qcow2_event(n, EVENT_refblock_alloc_write_blocks);
    r = write_area_blocks(n, &a);
    if (r == 0) {
        qcow2_event(n, EVENT_refblock_alloc_write_table);
        r = qcow2_write_table(n, 0, table_host, table, entries);
        r = r < 0 ? r : node_flush(qcow2_file(n));
    }
    if (r == 0) {
        qcow2_event(n, EVENT_refblock_alloc_switch_table);
        r = switch_table(n, table_host, a.table_clusters);
    }
    if (r < 0) {
        return r;
    }
    uint64_t old_host = q->h.reftable_offset;
    uint64_t old_bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;
    free(q->reftable);
    q->reftable = TAKE_PTR(table);
    q->reftable_entries = (uint32_t)entries;
    q->h.reftable_offset = table_host;
    q->h.reftable_clusters = (uint32_t)a.table_clusters;
    q->free_hint = 0; /* the hole before the area is free */
    qcow2_meta_reset(q);
    qcow2_free(n, old_host, old_bytes, QCOW2_FREE_OTHER, true);
    qcow2_event(n, EVENT_refblock_load); /* of the block all this is for; it is in the cache */
    return 0;
}

/* ---- a new block ---- */

/* Fill the new block's own count in: in itself, or in the block that already describes it. */
static co_fn int count_new_block(struct node *n, uint64_t index, uint64_t host, struct qcow2_entry *e)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t cluster = qcow2_cluster_of(q, host);

    if (block_of(q, cluster) == index) {
        qcow2_write_ref(e->data, in_block(q, cluster), q->ref_bits_order, 1);
        return 0;
    }
    return qcow2_add_refcounts(n, cluster, 1, 1);
}

static co_fn int hook_up(struct node *n, uint64_t cluster, uint64_t index, uint64_t host)
{
    struct qcow2 *q = qcow2_of(n);

    if (index >= q->reftable_entries) {
        return grow_table(n, cluster, index, host);
    }
    qcow2_event(n, EVENT_refblock_alloc_hookup);
    q->reftable[index] = host;
    int r = write_table_entry(n, index);
    if (r < 0) {
        q->reftable[index] = 0;
        return r;
    }
    qcow2_meta_add(q, host, QCOW2_PART_REFBLOCK);
    return 0;
}

/* Make the block that describes @cluster. -EAGAIN when it is there. */
static co_fn int make_block(struct node *n, uint64_t cluster)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t index = block_of(q, cluster);
    uint64_t own;
    struct qcow2_entry *e = NULL;
    int r = qcow2_find_free(n, 1, &own);

    if (r < 0) {
        return r;
    }
    uint64_t host = own << q->cluster_bits;
    if (host == 0) {
        qcow2_damaged(n, true, "Preventing invalid allocation of refcount block at offset 0");
        return -EIO;
    }
    r = qcow2_check_write(n, 0, host, q->cluster_bytes);
    r = r < 0 ? r : qcow2_cache_new(q->ref_cache, host, &e);
    if (r < 0) {
        return r;
    }
    r = count_new_block(n, index, host, e);
    if (r == 0) {
        qcow2_event(n, EVENT_refblock_alloc_write);
        qcow2_meta_add(q, host, QCOW2_PART_REFBLOCK);
        qcow2_cache_dirty(q->ref_cache, e);
    }
    qcow2_cache_put(q->ref_cache, e);
    if (r == 0) {
        r = qcow2_cache_write(q->ref_cache);
        r = r < 0 ? r : qcow2_flush_children(n);
        r = r < 0 ? r : hook_up(n, cluster, index, host);
    }
    if (r < 0) {
        qcow2_cache_forget(q->ref_cache, host, q->cluster_bytes);
        qcow2_meta_remove(q, host);
        return r;
    }
    return -EAGAIN;
}

/* ---- changing counts ---- */

/* Clusters of one block. */
static co_fn int add_in_block(struct node *n, uint64_t cluster, uint64_t count, int by, uint64_t *ret_done)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *e;
    uint64_t offset;
    int r = qcow2_refblock(n, block_of(q, cluster), &offset);

    qcow2_event(n, EVENT_refblock_alloc);
    if (r < 0) {
        return r;
    }
    if (offset == 0) {
        return by < 0 ? -EINVAL : make_block(n, cluster);
    }
    qcow2_event(n, EVENT_refblock_load);
    r = qcow2_cache_get(q->ref_cache, offset, true, &e);
    if (r < 0) {
        return r;
    }
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        uint64_t at = in_block(q, cluster + i);
        uint64_t v = qcow2_read_ref(e->data, at, q->ref_bits_order);
        if (by < 0 ? v == 0 : v >= q->ref_max) {
            r = -EINVAL;
            break;
        }
        v = by < 0 ? v - 1 : v + 1;
        qcow2_write_ref(e->data, at, q->ref_bits_order, v);
        qcow2_cache_dirty(q->ref_cache, e);
        if (v == 0) {
            q->free_hint = MIN(q->free_hint, cluster + i);
            if (qcow2_cluster_of(q, q->byte_hint) == cluster + i) {
                q->byte_hint = 0;
            }
            qcow2_cache_forget(q->l2_cache, (cluster + i) << q->cluster_bits, q->cluster_bytes);
        }
        ++*ret_done;
    }
    qcow2_cache_put(q->ref_cache, e);
    return r;
}

int qcow2_add_refcounts(struct node *n, uint64_t cluster, uint64_t count, int by)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t done = 0;
    int r = 0;

    while (r == 0 && done < count) {
        uint64_t room = (UINT64_C(1) << q->refblock_bits) - in_block(q, cluster + done);
        r = add_in_block(n, cluster + done, MIN(room, count - done), by, &done);
    }
    if (r < 0 && done > 0) { /* what was done is undone; its blocks are there */
        qcow2_add_refcounts(n, cluster, done, -by);
    }
    return r;
}
