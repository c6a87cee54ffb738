/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an L1 table holds on to: everything that it reaches is counted once more, or once less; and the marks
 * in the active tables that a cluster is ours alone are made to agree with the counts.
 */
#include "drivers/qcow2/snapshot.h"

#include <inttypes.h>

/* ---- what an L1 table reaches ---- */

struct walk {
    struct node *n;
    enum qcow2_snapshot_change change;
    uint64_t done, limit; /* L2 entries and tables */
    uint64_t host, bytes; /* clusters in a row, not yet changed */
    uint64_t pending;     /* how many of the visited they are */
};

static co_fn int raise_run(struct node *n, uint64_t host, uint64_t bytes)
{
    const struct qcow2 *q = qcow2_of(n);
    int r;

    do { /* a refcount block more does not change which clusters are meant */
        r = qcow2_add_refcounts(n, qcow2_cluster_of(q, host), bytes >> q->cluster_bits, 1);
    } while (r == -EAGAIN);
    return r;
}

static co_fn void undo_run(struct node *n, uint64_t host, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->corrupt || qcow2_add_refcounts(n, qcow2_cluster_of(q, host), bytes >> q->cluster_bits, -1) < 0) {
        q->marks_wrong = true;
    }
}

static co_fn int end_run(struct walk *w)
{
    int r = 0;

    if (w->bytes && w->change == QCOW2_RAISE) {
        r = raise_run(w->n, w->host, w->bytes);
    } else if (w->bytes && w->change == QCOW2_UNDO) {
        undo_run(w->n, w->host, w->bytes);
    } else if (w->bytes) {
        qcow2_free(w->n, w->host, w->bytes, QCOW2_FREE_SNAPSHOT, true);
    }
    w->done += r < 0 ? 0 : w->pending;
    w->bytes = 0;
    w->pending = 0;
    return r;
}

/* The clusters that [host, host + bytes) touches. */
static co_fn int add_to_run(struct walk *w, uint64_t host, uint64_t bytes)
{
    const struct qcow2 *q = qcow2_of(w->n);
    uint64_t end = round_up(host + bytes, q->cluster_bytes);
    int r = 0;

    host = round_down(host, q->cluster_bytes);
    if (w->bytes && w->host + w->bytes != host) {
        r = end_run(w);
    }
    if (w->done + w->pending >= w->limit) {
        return r;
    }
    if (w->bytes == 0) {
        w->host = host;
    }
    w->bytes += end - host;
    w->pending++;
    return r;
}

static co_fn int check_aligned(struct node *n, uint64_t host, const char *what)
{
    struct qcow2 *q = qcow2_of(n);

    if (qcow2_in_cluster(q, host)) {
        qcow2_damaged(n, true, "%s offset %#" PRIx64 " unaligned", what, host);
        return -EIO;
    }
    return 0;
}

static co_fn int walk_entry(struct walk *w, struct qcow2_l2 e)
{
    struct node *n = w->n;
    const struct qcow2 *q = qcow2_of(n);
    uint64_t host = e.entry & QCOW2_OFFSET_MASK, bytes = q->cluster_bytes;

    if (e.entry & QCOW2_COMPRESSED) {
        qcow2_compressed_range(q, e.entry, &host, &bytes);
    } else if (host == 0) {
        return 0;
    } else {
        int r = check_aligned(n, host, "Cluster");
        if (r < 0) {
            return r;
        }
    }
    return add_to_run(w, host, bytes);
}

/* A copy: what is changed for an entry may make the cache drop the slice. */
static co_fn int copy_slice(struct node *n, uint64_t at, uint8_t *copy)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *e;
    int r = qcow2_cache_get(q->l2_cache, at, true, &e);

    if (r == 0) {
        memcpy(copy, e->data, qcow2_cache_entry_bytes(q->l2_cache));
        qcow2_cache_put(q->l2_cache, e);
    }
    return r;
}

static co_fn int walk_table(struct walk *w, uint64_t table, uint8_t *copy)
{
    struct qcow2 *q = qcow2_of(w->n);
    uint64_t slice = qcow2_cache_entry_bytes(q->l2_cache);
    int r = check_aligned(w->n, table, "L2 table");

    for (uint64_t at = 0; r == 0 && at < q->cluster_bytes; at += slice) {
        r = copy_slice(w->n, table + at, copy);
        const struct qcow2_entry e = {.data = copy};
        for (unsigned i = 0; r == 0 && i < 1u << q->slice_bits; i++) {
            r = walk_entry(w, qcow2_l2_get(q, &e, i));
        }
    }
    r = r < 0 ? r : end_run(w);
    r = r < 0 ? r : add_to_run(w, table, q->cluster_bytes); /* the table after what it names */
    return r < 0 ? r : end_run(w);
}

static co_fn int walk_l1(struct walk *w, const uint64_t *l1, uint32_t entries)
{
    struct qcow2 *q = qcow2_of(w->n);
    uint64_t slice = qcow2_cache_entry_bytes(q->l2_cache);
    uint8_t *copy = buf_get(slice);
    int r = copy ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < entries && w->done < w->limit; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;
        r = table ? walk_table(w, table, copy) : 0;
    }
    buf_put(copy, slice);
    return r;
}

/* Count everything once more; all or nothing. */
int qcow2_snapshot_raise(struct node *n, const uint64_t *l1, uint32_t entries)
{
    struct walk w = {.n = n, .change = QCOW2_RAISE, .limit = UINT64_MAX};
    int r = walk_l1(&w, l1, entries);

    if (r < 0 && w.done) {
        struct walk back = {.n = n, .change = QCOW2_UNDO, .limit = w.done};
        walk_l1(&back, l1, entries);
    }
    return r;
}

/* What cannot be followed leaks. */
void qcow2_snapshot_drop(struct node *n, const uint64_t *l1, uint32_t entries,
                         enum qcow2_snapshot_change change)
{
    struct walk w = {.n = n, .change = change, .limit = UINT64_MAX};

    walk_l1(&w, l1, entries);
}

/* ---- "ours alone" ---- */

static co_fn int mark_entry(struct node *n, struct qcow2_entry *slice, unsigned index)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_l2 e = qcow2_l2_get(q, slice, index), was = e;
    uint64_t host = e.entry & QCOW2_OFFSET_MASK, refs;

    if ((e.entry & QCOW2_COMPRESSED) || host == 0) {
        return 0;
    }
    int r = qcow2_get_refcount(n, qcow2_cluster_of(q, host), &refs);
    if (r < 0) {
        return r;
    }
    e.entry = refs == 1 ? e.entry | QCOW2_COPIED : e.entry & ~QCOW2_COPIED;
    if (e.entry != was.entry) {
        qcow2_l2_set(n, slice, index, e);
    }
    return 0;
}

static co_fn int mark_table(struct node *n, uint64_t table)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = qcow2_cache_entry_bytes(q->l2_cache);
    int r = check_aligned(n, table, "L2 table");

    for (uint64_t at = 0; r == 0 && at < q->cluster_bytes; at += bytes) {
        struct qcow2_entry *slice;
        r = qcow2_cache_get(q->l2_cache, table + at, true, &slice);
        if (r < 0) {
            break;
        }
        for (unsigned i = 0; r == 0 && i < 1u << q->slice_bits; i++) {
            r = mark_entry(n, slice, i);
        }
        qcow2_cache_put(q->l2_cache, slice);
    }
    return r;
}

/* Make the marks of the active tables agree with the counts. The L1 table is written where it is. */
int qcow2_mark_ours(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    bool changed = false;
    int r = 0;

    q->marks_wrong = true;

    for (uint32_t i = 0; r == 0 && i < q->h.l1_entries; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK, refs;
        if (table == 0) {
            continue;
        }
        r = mark_table(n, table);
        r = r < 0 ? r : qcow2_get_refcount(n, qcow2_cluster_of(q, table), &refs);
        if (r == 0) {
            uint64_t entry = table | (refs == 1 ? QCOW2_COPIED : 0);
            changed |= entry != q->l1[i];
            q->l1[i] = entry;
        }
    }
    r = r < 0 ? r : qcow2_settle(n);
    if (r == 0 && changed) {
        r = qcow2_write_table(n, QCOW2_PART_L1, q->h.l1_offset, q->l1, q->h.l1_entries);
        r = r < 0 ? r : node_flush(qcow2_file(n));
    }
    q->marks_wrong = r < 0;
    return r;
}
