/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image that keeps nothing of its own, as after a commit. Where nothing but the disk is in it, it is
 * laid out anew: header, refcount table, one refcount block, the L1 table, and the file ends there. The
 * dirty bit is set meanwhile: whoever opens the image after a crash repairs it, and finds it with all of
 * its data (before the L1 table is cleared) or empty. Else every mapping is dropped, one by one.
 */
#include "drivers/qcow2/qcow2.h"

#define FIXED_CLUSTERS 3 /* header, refcount table, refcount block; the L1 table follows */

static uint64_t l1_clusters(const struct qcow2 *q)
{
    return div_up((uint64_t)q->h.l1_entries * 8, q->cluster_bytes);
}

static bool only_a_disk(const struct qcow2 *q)
{
    return q->h.version >= 3 && q->h.crypt_method == 0 && q->h.snapshots == 0 && q->bitmaps_read == 0 &&
           !q->has_bitmaps && !qcow2_has_data_file(q) &&
           FIXED_CLUSTERS + l1_clusters(q) <= UINT64_C(1) << q->refblock_bits;
}

static co_fn int clear(struct node *n, uint64_t at, uint64_t bytes)
{
    int r = node_zero(qcow2_file(n), at, bytes, REQ_GROW);

    return r < 0 ? r : node_flush(qcow2_file(n));
}

/* Both tables, at their new places. */
static co_fn int switch_header(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t bytes[20]; /* l1_table_offset, refcount_table_offset, refcount_table_clusters */

    put_be64(bytes, FIXED_CLUSTERS << q->cluster_bits);
    put_be64(bytes + 8, q->cluster_bytes);
    put_be32(bytes + 16, 1);
    int r = node_write(qcow2_file(n), 40, bytes, sizeof(bytes), 0);
    return r < 0 ? r : node_flush(qcow2_file(n));
}

static void take_new_tables(struct qcow2 *q, uint64_t *reftable)
{
    memset(q->l1, 0, (size_t)q->h.l1_entries * 8);
    q->h.l1_offset = FIXED_CLUSTERS << q->cluster_bits;
    q->h.reftable_offset = q->cluster_bytes;
    q->h.reftable_clusters = 1;
    free(q->reftable);
    q->reftable = reftable;
    q->reftable_entries = (uint32_t)(q->cluster_bytes / 8);
    q->free_hint = 0;
    q->byte_hint = 0;
    qcow2_meta_reset(q);
}

static co_fn int count_the_rest(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t clusters = FIXED_CLUSTERS + l1_clusters(q), host = 2 * q->cluster_bytes;
    uint8_t *block = buf_get(q->cluster_bytes), entry[8];
    int r = block ? 0 : -ENOMEM;

    if (r == 0) {
        memset(block, 0, q->cluster_bytes);
        for (uint64_t i = 0; i < clusters; i++) {
            qcow2_write_ref(block, i, q->ref_bits_order, 1);
        }
        r = node_write(qcow2_file(n), host, block, q->cluster_bytes, 0);
    }
    buf_put(block, q->cluster_bytes);
    put_be64(entry, host);
    r = r < 0 ? r : node_write(qcow2_file(n), q->cluster_bytes, entry, sizeof(entry), 0);
    r = r < 0 ? r : node_flush(qcow2_file(n));
    if (r == 0) {
        q->reftable[0] = host;
        struct req cut = {.op = REQ_TRUNCATE, .offset = clusters << q->cluster_bits};
        r = node_io(qcow2_file(n), &cut);
    }
    return r;
}

/* Nothing is in flight, nothing waits to be written, and the caches' entries are clean. */
static co_fn int lay_out_anew(struct node *n, uint64_t *reftable)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t l1_bytes = l1_clusters(q) << q->cluster_bits;

    qcow2_cache_empty(q->l2_cache);
    qcow2_cache_empty(q->ref_cache);
    qcow2_event(n, EVENT_l1_update);
    int r = clear(n, q->h.l1_offset, l1_bytes);
    if (r == 0) {
        qcow2_event(n, EVENT_empty_image_prepare);
        r = clear(n, q->cluster_bytes, 2 * q->cluster_bytes + l1_bytes);
    }
    if (r == 0) {
        qcow2_event(n, EVENT_reftable_update);
        r = switch_header(n);
    }
    if (r < 0) {
        free(reftable);
        return r;
    }
    take_new_tables(q, reftable);
    qcow2_event(n, EVENT_refblock_alloc);
    return count_the_rest(n);
}

static co_fn int empty_at_once(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t *reftable = calloc(1, q->cluster_bytes);
    int r = reftable ? qcow2_guard(n) : -ENOMEM;

    if (r < 0) {
        free(reftable);
        return r;
    }
    r = lay_out_anew(n, reftable);
    if (r < 0) {
        qcow2_give_up(n); /* what is in the file is for a repair to see */
    }
    return r;
}

int qcow2_make_empty(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = qcow2_begin_change(n);

    if (r == 0) {
        r = only_a_disk(q) ? empty_at_once(n) : qcow2_drop_range(n, 0, round_up(n->size, q->cluster_bytes));
    }
    return qcow2_end_change(n, r);
}
