/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The order in which metadata goes down. Before any L2 slice: the refcount blocks, and a flush that
 * also covers the data that the slice names. After the slices are durable, what their changes freed
 * is counted down. With lazy refcounts the blocks stay in memory; the dirty bit tells.
 */
#include "drivers/qcow2/qcow2.h"

static co_fn int flush_nodes(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t covered = q->changes;
    int r = node_flush(qcow2_file(n));

    if (r == 0 && q->data && q->data != qcow2_file(n)) {
        r = node_flush(q->data);
    }
    if (r == 0) {
        q->flushed = MAX(q->flushed, covered);
    }
    return r;
}

int qcow2_flush_children(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = flush_nodes(n);

    if (r == 0 && !qcow2_cache_is_dirty(q->l2_cache)) {
        qcow2_dropped_are_durable(q);
    }
    return r;
}

static bool refs_may_wait(const struct qcow2 *q)
{
    return q->dirty; /* then repair rebuilds them from the tables */
}

static co_fn int write_l2(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = 0;

    if (!qcow2_cache_is_dirty(q->l2_cache)) {
        return 0;
    }
    if (!refs_may_wait(q)) {
        r = qcow2_cache_write(q->ref_cache);
    }
    if (r == 0 && q->changes != q->flushed) {
        r = qcow2_flush_children(n);
    }
    return r < 0 ? r : qcow2_cache_write(q->l2_cache);
}

int qcow2_write_back(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->corrupt) { /* what is not there yet will never be */
        return qcow2_cache_is_dirty(q->l2_cache) ? -EIO : 0;
    }
    int r = write_l2(n);
    if (r < 0) {
        return r;
    }
    if (q->dropped.n > 0) { /* the slices without them are written: make that durable */
        r = qcow2_flush_children(n);
    }
    r = r < 0 ? r : qcow2_reap(n);
    return r < 0 || refs_may_wait(q) ? r : qcow2_cache_write(q->ref_cache);
}

int qcow2_settle(struct node *n)
{
    int r = qcow2_write_back(n);

    return r < 0 ? r : qcow2_flush_children(n);
}

int qcow2_flush(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = qcow2_write_back(n);
    co_mutex_unlock(&q->lock);
    if (r < 0) {
        return r;
    }
    node_flush_to_disk(n);
    return flush_nodes(n);
}

/* ---- the dirty bit ---- */

static co_fn int set_dirty_bit(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    q->h.incompatible |= QCOW2_DIRTY;
    int r = qcow2_write_header_field(n, "incompatible_features");
    if (r < 0) {
        q->h.incompatible &= ~(uint64_t)QCOW2_DIRTY;
    }
    q->dirty_bit_ours = r == 0;
    return r;
}

int qcow2_mark_dirty(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->dirty || q->h.version < 3) {
        return 0;
    }
    int r = set_dirty_bit(n);
    q->dirty = r == 0;
    return r;
}

int qcow2_guard(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    return q->h.version < 3 || (q->h.incompatible & QCOW2_DIRTY) ? 0 : set_dirty_bit(n);
}

int qcow2_mark_clean(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    q->dirty = false; /* nothing is held back any more */
    int r = qcow2_settle(n);
    if (r == 0 && q->dirty_bit_ours && !q->marks_wrong) {
        q->h.incompatible &= ~(uint64_t)QCOW2_DIRTY;
        r = qcow2_write_header_field(n, "incompatible_features");
        if (r < 0) {
            q->h.incompatible |= QCOW2_DIRTY;
        }
        q->dirty_bit_ours = r < 0;
    }
    return r;
}
