/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Places in the file: found, taken and given back. A cluster whose mapping was dropped is not free at
 * once: first the drop must be durable (else a crash shows the old mapping with new content), and
 * every request that may have looked the old mapping up must have ended. Until then its refcount stays.
 * The lists of such clusters are bounded: beyond that, metadata is written to shorten them.
 */
#include "drivers/qcow2/qcow2.h"

#define RUNS_MAX 65536 /* 1.5 MiB; a full list is settled at once */

/* ---- finding ---- */

/* The first cluster from @cluster on that is free, without crossing into the next refcount block:
 * *ret is the one behind the block when all of it is used. */
static co_fn int next_free(struct node *n, uint64_t cluster, uint64_t *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t index = cluster >> q->refblock_bits;
    uint64_t end = (index + 1) << q->refblock_bits;
    uint64_t offset, first;
    struct qcow2_entry *e;
    int r = qcow2_refblock(n, index, &offset);

    if (r == 0 && offset == 0) {
        *ret = cluster;
        return 0;
    }
    r = r < 0 ? r : qcow2_get_refcount(n, cluster, &first); /* loads the block */
    if (r == 0 && first == 0) {
        *ret = cluster;
        return 0;
    }
    if (r < 0 || (r = qcow2_cache_get(q->ref_cache, offset, true, &e)) < 0) {
        return r;
    }
    while (cluster < end &&
           qcow2_read_ref(e->data, cluster & ((UINT64_C(1) << q->refblock_bits) - 1), q->ref_bits_order)) {
        cluster++;
    }
    qcow2_cache_put(q->ref_cache, e);
    *ret = cluster;
    return 0;
}

int qcow2_find_free(struct node *n, uint64_t count, uint64_t *ret_cluster)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = QCOW2_HOST_END >> q->cluster_bits;
    uint64_t first = q->free_hint, at = first;

    while (at - first < count) {
        uint64_t free_at;
        if (at >= end || count > end - at) {
            return -EFBIG;
        }
        int r = next_free(n, at, &free_at);
        if (r < 0) {
            return r;
        }
        if (free_at != at) {
            first = at = free_at;
            /* it may be the next block's first, which was not looked at */
            continue;
        }
        at++;
    }
    q->free_hint = at;
    *ret_cluster = first;
    return 0;
}

int qcow2_alloc_clusters(struct node *n, uint64_t count, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t cluster;
    int r;

    qcow2_event(n, EVENT_cluster_alloc);
    do {
        r = qcow2_find_free(n, count, &cluster);
        if (r < 0) {
            return r;
        }
        r = qcow2_add_refcounts(n, cluster, count, 1);
        if (r < 0) {
            q->free_hint = MIN(q->free_hint, cluster);
        }
    } while (r == -EAGAIN);
    if (r == 0) {
        *ret_host = cluster << q->cluster_bits;
    }
    return r;
}

int qcow2_alloc_at(struct node *n, uint64_t host, uint64_t count, uint64_t *ret_count)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t first = qcow2_cluster_of(q, host), found;
    int r;

    do {
        uint64_t refs = 0;
        found = 0;
        for (r = 0; r == 0 && found < count; found += refs == 0) {
            r = qcow2_get_refcount(n, first + found, &refs);
            if (refs) {
                break;
            }
        }
        r = r < 0 ? r : found ? qcow2_add_refcounts(n, first, found, 1) : 0;
    } while (r == -EAGAIN);
    if (r == 0) {
        *ret_count = found;
    }
    return r;
}

/* ---- bytes ---- */

/* May @bytes of compressed data follow at the hint? Within its cluster, or on into the next one. */
static co_fn int bytes_fit(struct node *n, uint64_t bytes, bool *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t at = q->byte_hint;
    uint64_t refs;

    *ret = false;
    if (at == 0 || qcow2_in_cluster(q, at) == 0) {
        return 0;
    }
    int r = qcow2_get_refcount(n, qcow2_cluster_of(q, at), &refs);
    if (r == 0) {
        *ret = refs > 0 && refs < q->ref_max;
    }
    return r;
}

/* The data begins behind what the last one left of its cluster; when that is not enough it goes on
 * into the next cluster if that is the first free one, else all of it goes there. */
static co_fn int place_bytes(struct node *n, uint64_t bytes, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t room = q->cluster_bytes - qcow2_in_cluster(q, q->byte_hint);
    uint64_t fresh;
    bool fits;
    int r = bytes_fit(n, bytes, &fits);

    if (r < 0) {
        return r;
    }
    if (fits && bytes <= room) {
        *ret_host = q->byte_hint;
        return 0;
    }
    r = qcow2_find_free(n, 1, &fresh);
    if (r == 0) {
        fresh <<= q->cluster_bits;
        *ret_host = fits && fresh == q->byte_hint + room ? q->byte_hint : fresh;
    }
    return r;
}

int qcow2_alloc_bytes(struct node *n, uint64_t bytes, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t hint, host = 0;
    int r;

    qcow2_event(n, EVENT_cluster_alloc_bytes);
    assert(bytes > 0 && bytes <= q->cluster_bytes);
    do {
        hint = q->free_hint;
        r = place_bytes(n, bytes, &host);
        if (r == 0) {
            uint64_t first = qcow2_cluster_of(q, host);
            r = qcow2_add_refcounts(n, first, qcow2_cluster_of(q, host + bytes - 1) - first + 1, 1);
        }
        if (r < 0) {
            q->free_hint = MIN(q->free_hint, hint);
        }
    } while (r == -EAGAIN);
    if (r == 0) {
        q->byte_hint = host + bytes;
        *ret_host = host;
    }
    return r;
}

/* ---- giving back ---- */

static int add_run(struct qcow2_runs *runs, uint64_t cluster, uint64_t count, bool discard)
{
    struct qcow2_run *last = runs->n ? &runs->run[runs->n - 1] : NULL;

    if (last && last->cluster + last->count == cluster && last->discard == discard &&
        last->count + count <= UINT32_MAX) {
        last->count += (uint32_t)count;
        return 0;
    }
    if (runs->n == runs->max) {
        size_t max = runs->max ? runs->max * 2 : 64;
        struct qcow2_run *more = realloc(runs->run, max * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        runs->run = more;
        runs->max = max;
    }
    runs->run[runs->n++] = (struct qcow2_run){cluster, (uint32_t)count, discard};
    return 0;
}

void qcow2_free_runs(struct qcow2_runs *r)
{
    free(r->run);
    *r = (struct qcow2_runs){0};
}

/* Append @from to @to. What memory is lacking for leaks on disk, which is safe. */
static void move_runs(struct qcow2_runs *to, struct qcow2_runs *from)
{
    if (to->n == 0) {
        struct qcow2_runs empty = *to;
        *to = *from;
        *from = empty;
        return;
    }
    for (size_t i = 0; i < from->n; i++) {
        add_run(to, from->run[i].cluster, from->run[i].count, from->run[i].discard);
    }
    from->n = 0;
}

void qcow2_release(struct node *n, uint64_t host, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->corrupt) {
        qcow2_add_refcounts(n, qcow2_cluster_of(q, host), div_up(bytes, q->cluster_bytes), -1);
    }
}

/* The events of a free, and what they go with: the block is loaded now, and counts that an L2 entry
 * may depend on are not held back by the one that will go down. */
static co_fn int begin_free(struct node *n, uint64_t first, uint64_t count)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *e;
    int r = 0;

    qcow2_event(n, EVENT_cluster_free);
    if (qcow2_cache_is_dirty(q->l2_cache) && qcow2_cache_is_dirty(q->ref_cache) && !q->dirty) {
        r = qcow2_cache_write(q->ref_cache);
        r = r < 0 ? r : qcow2_flush_children(n);
    }
    for (uint64_t at = first; r == 0 && at < first + count;) {
        uint64_t index = at >> q->refblock_bits;
        uint64_t offset;
        qcow2_event(n, EVENT_refblock_alloc);
        r = qcow2_refblock(n, index, &offset);
        if (r == 0 && offset == 0) {
            return -EINVAL;
        }
        if (r == 0) {
            qcow2_event(n, EVENT_refblock_load);
            r = qcow2_cache_get(q->ref_cache, offset, true, &e);
        }
        if (r == 0) {
            qcow2_cache_put(q->ref_cache, e);
        }
        at = (index + 1) << q->refblock_bits;
    }
    return r;
}

static bool wants_discard(const struct node *n, enum qcow2_free_kind kind)
{
    const struct qcow2 *q = n->state;
    int mode = kind == QCOW2_FREE_REQUEST    ? q->discard_request
               : kind == QCOW2_FREE_SNAPSHOT ? q->discard_snapshot
                                             : q->discard_other;
    bool by_default = kind == QCOW2_FREE_REQUEST ? n->flags & OPEN_UNMAP : kind == QCOW2_FREE_SNAPSHOT;

    return mode == QCOW2_DEFAULT ? by_default : mode == QCOW2_ON;
}

void qcow2_free(struct node *n, uint64_t host, uint64_t bytes, enum qcow2_free_kind kind, bool durable)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t first = qcow2_cluster_of(q, host);
    uint64_t count = bytes ? qcow2_cluster_of(q, host + bytes - 1) - first + 1 : 0;

    if (count == 0 || q->corrupt || begin_free(n, first, count) < 0) {
        return; /* they leak */
    }
    add_run(durable ? &q->durable : &q->dropped, first, count, wants_discard(n, kind));
    if (durable) {
        qcow2_reap(n);
    } else if (q->dropped.n >= RUNS_MAX) {
        qcow2_settle(n);
    }
}

void qcow2_free_l2(struct node *n, struct qcow2_l2 e, enum qcow2_free_kind kind)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host, bytes;

    if (e.entry & QCOW2_COMPRESSED) {
        qcow2_compressed_range(q, e.entry, &host, &bytes);
        qcow2_free(n, host, bytes, kind, false);
    } else if (qcow2_l2_has_host(q, e)) {
        host = e.entry & QCOW2_OFFSET_MASK;
        if (qcow2_in_cluster(q, host)) { /* whose it was is not known: at worst it leaks */
            qcow2_damaged(n, false, "Cannot free unaligned cluster %#llx", (unsigned long long)host);
        } else if (qcow2_has_data_file(q)) { /* not counted; only the space may go */
            if (wants_discard(n, kind)) {
                node_discard(q->data, host, q->cluster_bytes);
            }
        } else {
            qcow2_free(n, host, q->cluster_bytes, kind, false);
        }
    }
}

/* ---- when it is safe ---- */

void qcow2_dropped_are_durable(struct qcow2 *q)
{
    if (q->dropped.n > 0) {
        move_runs(&q->durable, &q->dropped);
    }
}

bool qcow2_frees_pending(const struct qcow2 *q)
{
    return q->dropped.n || q->durable.n || q->waiting.n;
}

/* The requests that were there when the drop became durable belong to the old phase; new ones to the
 * other. When none of the old are left, nobody can know the clusters any more. */
static bool grace_is_over(struct qcow2 *q)
{
    if (q->waiting.n == 0 && q->durable.n > 0 && q->active[!q->phase] == 0) {
        move_runs(&q->waiting, &q->durable);
        q->phase = !q->phase;
    }
    return q->waiting.n > 0 && q->active[!q->phase] == 0;
}

static co_fn void discard_free(struct node *n, const struct qcow2_run *run)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint64_t i = 0; i < run->count;) {
        uint64_t same = 0, refs = 0;
        while (i + same < run->count && qcow2_get_refcount(n, run->cluster + i + same, &refs) == 0 &&
               refs == 0) {
            same++;
        }
        if (same) {
            node_discard(qcow2_file(n), (run->cluster + i) << q->cluster_bits, same << q->cluster_bits);
        }
        i += same + 1;
    }
}

/* Count one cluster run down without events: those were raised when it was freed. */
static co_fn int count_down(struct node *n, const struct qcow2_run *run)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t mask = (UINT64_C(1) << q->refblock_bits) - 1;

    for (uint64_t c = run->cluster; c < run->cluster + run->count; c++) {
        uint64_t index = c >> q->refblock_bits;
        struct qcow2_entry *e;
        uint64_t offset = 0;
        int r = qcow2_refblock(n, index, &offset);
        r = r < 0 ? r : offset ? qcow2_cache_get(q->ref_cache, offset, true, &e) : -EINVAL;
        if (r < 0) {
            return r;
        }
        uint64_t refs = qcow2_read_ref(e->data, c & mask, q->ref_bits_order);
        if (refs > 0) {
            qcow2_write_ref(e->data, c & mask, q->ref_bits_order, refs - 1);
            qcow2_cache_dirty(q->ref_cache, e);
        }
        qcow2_cache_put(q->ref_cache, e);
        if (refs == 1) {
            q->free_hint = MIN(q->free_hint, c);
            if (q->byte_hint && qcow2_cluster_of(q, q->byte_hint) == c) {
                q->byte_hint = 0;
            }
            qcow2_cache_forget(q->l2_cache, c << q->cluster_bits, q->cluster_bytes);
        }
    }
    return 0;
}

int qcow2_reap(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = 0;

    while (r == 0 && grace_is_over(q)) {
        struct qcow2_runs runs = q->waiting;
        q->waiting = (struct qcow2_runs){0};
        for (size_t i = 0; i < runs.n; i++) { /* one failure leaks one run */
            int one = count_down(n, &runs.run[i]);
            if (one == 0 && runs.run[i].discard) {
                discard_free(n, &runs.run[i]);
            }
            r = r < 0 ? r : one;
        }
        qcow2_free_runs(&runs);
    }
    return r;
}
