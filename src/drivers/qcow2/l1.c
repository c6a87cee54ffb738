/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The L1 table and the L2 tables it names. A table that comes or is copied (it was shared with a
 * snapshot) is on disk, and counted there, before the pointer to it; the old one is let go after.
 */
#include "drivers/qcow2/qcow2.h"

int qcow2_write_l1_entry(struct node *n, uint32_t index)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t bytes[8];

    put_be64(bytes, q->l1[index]);
    uint64_t host = q->h.l1_offset + (uint64_t)index * 8;
    int r = qcow2_check_write(n, QCOW2_PART_L1, host, sizeof(bytes));
    if (r == 0) {
        qcow2_event(n, EVENT_l1_update);
        r = node_write(qcow2_file(n), host, bytes, sizeof(bytes), REQ_GROW);
    }
    return r < 0 ? r : node_flush(qcow2_file(n));
}

/* ---- L2 tables ---- */

/* One slice of the new table at @host: a copy of the old one's, or zeroes. */
static co_fn int fill_slice(struct node *n, uint64_t host, uint64_t old)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *fresh, *from = NULL;
    int r = 0;

    if (old) {
        qcow2_event(n, EVENT_l2_alloc_cow_read);
        r = qcow2_cache_get(q->l2_cache, old, true, &from);
    }
    r = r < 0 ? r : qcow2_cache_new(q->l2_cache, host, &fresh);
    if (r == 0) {
        if (from) {
            memcpy(fresh->data, from->data, qcow2_cache_entry_bytes(q->l2_cache));
        }
        qcow2_event(n, EVENT_l2_alloc_write);
        qcow2_cache_dirty(q->l2_cache, fresh);
        qcow2_cache_put(q->l2_cache, fresh);
    }
    qcow2_cache_put(q->l2_cache, from);
    return r;
}

static co_fn int fill_table(struct node *n, uint64_t host, uint64_t old)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t slice = qcow2_cache_entry_bytes(q->l2_cache);
    int r = qcow2_check_write(n, 0, host, q->cluster_bytes);

    qcow2_meta_add(q, host, QCOW2_PART_L2);
    for (uint64_t at = 0; r == 0 && at < q->cluster_bytes; at += slice) {
        r = fill_slice(n, host + at, old ? old + at : 0);
    }
    r = r < 0 ? r : qcow2_cache_write(q->l2_cache);
    return r < 0 ? r : qcow2_flush_children(n);
}

/* Counted on disk before the table is. */
static co_fn int write_refcounts(struct node *n)
{
    int r = qcow2_cache_write(qcow2_of(n)->ref_cache);

    return r < 0 ? r : qcow2_flush_children(n);
}

static co_fn int make_l2(struct node *n, uint32_t index)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t before = q->l1[index], old = before & QCOW2_OFFSET_MASK, host;
    int r = qcow2_alloc_clusters(n, 1, &host);

    if (r == 0 && host == 0) {
        qcow2_damaged(n, true, "Preventing invalid allocation of L2 table at offset 0");
        return -EIO;
    }
    if (r < 0) {
        return r;
    }
    r = write_refcounts(n);
    r = r < 0 ? r : fill_table(n, host, old);
    if (r == 0) {
        q->l1[index] = host | QCOW2_COPIED;
        r = qcow2_write_l1_entry(n, index);
        if (r < 0) { /* it may be there: neither table is let go */
            q->l1[index] = before;
            qcow2_meta_remove(q, host);
            qcow2_cache_forget(q->l2_cache, host, q->cluster_bytes);
            return r;
        }
    } else {
        qcow2_meta_remove(q, host);
        qcow2_cache_forget(q->l2_cache, host, q->cluster_bytes);
        qcow2_release(n, host, q->cluster_bytes);
        return r;
    }
    if (old) {
        qcow2_meta_remove(q, old);
        qcow2_free(n, old, q->cluster_bytes, QCOW2_FREE_OTHER, true);
    }
    return 0;
}

int qcow2_need_l2(struct node *n, uint64_t guest)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t index = guest >> qcow2_l1_shift(q);
    int r = 0;

    if (index >= q->h.l1_entries) {
        r = qcow2_grow_l1(n, index + 1, false);
    }
    if (r == 0 && !((q->l1[index] & QCOW2_COPIED) && (q->l1[index] & QCOW2_OFFSET_MASK))) {
        if (qcow2_in_cluster(q, q->l1[index] & QCOW2_OFFSET_MASK)) {
            struct qcow2_entry *none;
            return qcow2_get_slice(n, guest, true, &none); /* tells the damage */
        }
        r = make_l2(n, (uint32_t)index);
    }
    return r;
}

/* ---- the size of the L1 table ---- */

static co_fn int switch_l1(struct node *n, uint64_t host, uint64_t entries)
{
    uint8_t bytes[12]; /* l1_size, then l1_table_offset */

    put_be32(bytes, (uint32_t)entries);
    put_be64(bytes + 4, host);
    return qcow2_switch_header(n, 36, bytes, sizeof(bytes));
}

static co_fn int write_new_l1(struct node *n, const uint64_t *table, uint64_t entries, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t clusters = div_up(entries * 8, q->cluster_bytes), host;

    qcow2_event(n, EVENT_l1_grow_alloc_table);
    int r = qcow2_alloc_clusters(n, clusters, &host);
    if (r < 0) {
        return r;
    }
    r = write_refcounts(n);
    if (r == 0) {
        qcow2_event(n, EVENT_l1_grow_write_table);
        r = qcow2_write_table(n, 0, host, table, entries);
        r = r < 0 ? r : node_flush(qcow2_file(n));
    }
    if (r == 0) {
        qcow2_event(n, EVENT_l1_grow_activate_table);
        r = switch_l1(n, host, entries);
    }
    if (r < 0) { /* the header says what it said, or nothing is written any more */
        qcow2_release(n, host, clusters << q->cluster_bits);
        return r;
    }
    *ret_host = host;
    return 0;
}

int qcow2_grow_l1(struct node *n, uint64_t entries, bool exact)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t size = MAX(q->h.l1_entries, 1u), host = 0;

    if (entries <= q->h.l1_entries) {
        return 0;
    }
    while (!exact && size < entries) { /* as QEMU grows: by half, so that it is rarely done */
        size = div_up(size * 3, 2);
    }
    size = exact ? entries : size;
    if (size > QCOW2_L1_BYTES_MAX / 8) {
        return -EFBIG;
    }
    AUTO_FREE uint64_t *table = calloc(size, 8);
    if (!table) {
        return -ENOMEM;
    }
    memcpy(table, q->l1, (size_t)q->h.l1_entries * 8);
    int r = write_new_l1(n, table, size, &host);
    if (r < 0) {
        return r;
    }
    uint64_t old_host = q->h.l1_offset, old_bytes = (uint64_t)q->h.l1_entries * 8;
    free(q->l1);
    q->l1 = TAKE_PTR(table);
    q->h.l1_entries = (uint32_t)size;
    q->h.l1_offset = host;
    if (old_bytes) {
        qcow2_free(n, old_host, old_bytes, QCOW2_FREE_OTHER, true);
    }
    return 0;
}

/* The table keeps its size; what lies behind @entries is emptied, as QEMU does. */
int qcow2_shrink_l1(struct node *n, uint64_t entries)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t tail = q->h.l1_entries - MIN(entries, (uint64_t)q->h.l1_entries);

    if (tail == 0) {
        return 0;
    }
    AUTO_FREE uint64_t *zeroes = calloc(tail, 8);
    if (!zeroes) {
        return -ENOMEM;
    }
    qcow2_event(n, EVENT_l1_shrink_write_table);
    int r = qcow2_write_table(n, QCOW2_PART_L1, q->h.l1_offset + entries * 8, zeroes, tail);
    r = r < 0 ? r : node_flush(qcow2_file(n));
    if (r < 0) {
        return r;
    }
    qcow2_event(n, EVENT_l1_shrink_free_l2_clusters);
    for (uint32_t i = (uint32_t)entries; i < q->h.l1_entries; i++) {
        uint64_t host = q->l1[i] & QCOW2_OFFSET_MASK;
        q->l1[i] = 0;
        if (host && !qcow2_in_cluster(q, host)) {
            qcow2_meta_remove(q, host);
            qcow2_free(n, host, q->cluster_bytes, QCOW2_FREE_OTHER, true);
        }
    }
    return 0;
}
