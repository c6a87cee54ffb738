/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest writes: a place for the data (alloc), and the mapping once it is there (commit). Where the
 * cluster is ours alone and holds data already it is overwritten, which needs no lock. Otherwise the
 * write owns its clusters until commit: others that touch them wait, writes elsewhere do not.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

/* ---- writes in flight ---- */

static struct qcow2_write *find_overlap(const struct qcow2 *q, uint64_t guest, uint64_t bytes)
{
    struct qcow2_write *w;

    list_for_each (w, &q->writes, link) {
        if (ranges_overlap(w->guest, w->bytes, guest, bytes)) {
            return w;
        }
    }
    return NULL;
}

/* The whole clusters that a range touches. */
static void widen(const struct qcow2 *q, uint64_t *guest, uint64_t *bytes)
{
    uint64_t end = *guest + *bytes;

    *guest = round_down(*guest, q->cluster_bytes);
    *bytes = round_up(end, q->cluster_bytes) - *guest;
}

void qcow2_wait_for_writes(struct node *n, uint64_t guest, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_write *w;

    widen(q, &guest, &bytes);
    while ((w = find_overlap(q, guest, bytes))) {
        co_mutex_unlock(&q->lock);
        co_queue_wait(&w->waiters);
        co_mutex_lock(&q->lock);
    }
}

static struct qcow2_write *begin_write(struct qcow2 *q)
{
    struct qcow2_write *w = list_first(&q->free_writes, struct qcow2_write, link);

    if (w) {
        list_del(&w->link);
    } else if (!(w = calloc(1, sizeof(*w)))) {
        return NULL;
    }
    co_queue_init(&w->waiters);
    list_add_tail(&q->writes, &w->link);
    return w;
}

static void end_write(struct qcow2 *q, struct qcow2_write *w)
{
    list_del(&w->link);
    co_queue_wake_all(&w->waiters);
    list_add_head(&q->free_writes, &w->link);
}

/* ---- what is there ---- */

/* Is the cluster ours alone, so that its bytes may be changed where they are? */
static bool is_ours(const struct qcow2 *q, struct qcow2_l2 e)
{
    return qcow2_l2_has_host(q, e) && ((e.entry & QCOW2_COPIED) || qcow2_has_data_file(q));
}

static bool all_normal(const struct qcow2 *q, struct qcow2_l2 e, unsigned from, unsigned to)
{
    for (unsigned s = from; s <= to; s++) {
        if (qcow2_sub_type(q, e, s) != QCOW2_NORMAL) {
            return false;
        }
    }
    return true;
}

static unsigned sub_of(const struct qcow2 *q, uint64_t guest)
{
    return (unsigned)(qcow2_in_cluster(q, guest) >> q->sub_bits);
}

/* Bytes from @guest on, at most @bytes, that lie in a row on the host in clusters of ours. @normal:
 * and hold data already. */
static uint64_t count_ours(const struct qcow2 *q, const struct qcow2_entry *slice, uint64_t guest,
                           uint64_t bytes, bool normal, uint64_t *ret_host)
{
    unsigned index = qcow2_slice_index(q, guest);
    uint64_t done = 0;

    for (unsigned i = index; i < 1u << q->slice_bits && done < bytes; i++) {
        struct qcow2_l2 e = qcow2_l2_get(q, slice, i);
        uint64_t at = guest + done;
        uint64_t part = MIN(q->cluster_bytes - qcow2_in_cluster(q, at), bytes - done);
        uint64_t host = (e.entry & QCOW2_OFFSET_MASK) + qcow2_in_cluster(q, at);
        if (!is_ours(q, e) || (done && host != *ret_host + done) ||
            qcow2_in_cluster(q, e.entry & QCOW2_OFFSET_MASK) ||
            (normal && !all_normal(q, e, sub_of(q, at), sub_of(q, at + part - 1)))) {
            break;
        }
        if (done == 0) {
            *ret_host = host;
        }
        done += part;
    }
    return done;
}

/* Bytes from @guest on, at most @bytes, whose clusters all need a new place. */
static uint64_t count_new(const struct qcow2 *q, const struct qcow2_entry *slice, uint64_t guest,
                          uint64_t bytes)
{
    unsigned index = qcow2_slice_index(q, guest);
    uint64_t done = 0;

    for (unsigned i = index; i < 1u << q->slice_bits && done < bytes; i++) {
        if (is_ours(q, qcow2_l2_get(q, slice, i))) {
            break;
        }
        done += MIN(q->cluster_bytes - qcow2_in_cluster(q, guest + done), bytes - done);
    }
    return done;
}

/* ---- overwriting ---- */

/* p->bytes is 0 where a mapping has to change, be it only behind a run that holds data: places of ours that
 * lie in a row are one write. */
static void overwrite(struct node *n, const struct qcow2_entry *slice, uint64_t guest, uint64_t bytes,
                      struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = 0;
    uint64_t part = count_ours(q, slice, guest, bytes, true, &host);

    if (part < bytes && count_ours(q, slice, guest, bytes, false, &host) > part) {
        part = 0;
    }
    *p = (struct placement){.guest_offset = guest, .bytes = part, .node = q->data, .offset = host};
}

/* Without the lock, if all is at hand; p->bytes is 0 if not. */
static void try_overwrite(struct node *n, uint64_t guest, uint64_t bytes, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t index = guest >> qcow2_l1_shift(q);

    if (q->frozen || index >= q->h.l1_entries || !(q->l1[index] & QCOW2_COPIED) ||
        !(q->l1[index] & QCOW2_OFFSET_MASK) || qcow2_in_cluster(q, q->l1[index] & QCOW2_OFFSET_MASK) ||
        (!list_empty(&q->writes) && find_overlap(q, guest, bytes))) {
        return;
    }
    uint64_t in_table = (guest >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);
    uint64_t at = (q->l1[index] & QCOW2_OFFSET_MASK) +
                  (in_table >> q->slice_bits) * qcow2_cache_entry_bytes(q->l2_cache);
    struct qcow2_entry *slice = qcow2_cache_peek(q->l2_cache, at);
    if (slice) {
        overwrite(n, slice, guest, bytes, p);
    }
}

/* ---- new places ---- */

/* Where copying must begin: the subcluster's beginning, or the cluster's when its old content moves
 * as a whole. */
static uint64_t copy_from(const struct qcow2 *q, struct qcow2_l2 e, bool keep, uint64_t guest)
{
    bool whole = !keep && ((e.entry & QCOW2_COMPRESSED) || (e.bitmap & UINT32_MAX));

    if (keep && qcow2_sub_type(q, e, sub_of(q, guest)) == QCOW2_NORMAL) {
        return guest;
    }
    return round_down(guest, whole ? q->cluster_bytes : UINT64_C(1) << q->sub_bits);
}

static uint64_t copy_to(const struct qcow2 *q, struct qcow2_l2 e, bool keep, uint64_t end)
{
    bool whole = !keep && ((e.entry & QCOW2_COMPRESSED) || (e.bitmap & UINT32_MAX));

    if (keep && qcow2_sub_type(q, e, sub_of(q, end - 1)) == QCOW2_NORMAL) {
        return end;
    }
    return round_up(end, whole ? q->cluster_bytes : UINT64_C(1) << q->sub_bits);
}

/* May zeroing the unit replace copying? Only where nothing of an old cluster is kept around it. */
static bool may_zero_first(const struct qcow2 *q, struct qcow2_l2 first, struct qcow2_l2 last, bool keep)
{
    (void)q;
    return !keep && !((first.entry | last.entry) & QCOW2_COMPRESSED);
}

/* Clusters for a write of @bytes at @guest: @keep: those that are there (at @host). */
static co_fn int place(struct node *n, const struct qcow2_entry *slice, uint64_t guest, uint64_t bytes,
                       bool keep, uint64_t host, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t start = guest, whole = bytes;
    struct qcow2_l2 first = qcow2_l2_get(q, slice, qcow2_slice_index(q, guest));
    struct qcow2_l2 last = qcow2_l2_get(q, slice, qcow2_slice_index(q, guest + bytes - 1));
    int r = 0;

    widen(q, &start, &whole);
    if (keep) {
        host -= qcow2_in_cluster(q, guest);
    } else if (qcow2_has_data_file(q)) {
        host = start;
    } else {
        r = qcow2_alloc_clusters(n, whole >> q->cluster_bits, &host);
    }
    if (r < 0) {
        return r;
    }
    if (!qcow2_has_data_file(q)) {
        r = qcow2_check_write(n, 0, host, whole);
        if (r == 0 && host == 0) { /* overlap-check=none */
            qcow2_damaged(n, true, "Preventing invalid allocation of data cluster at offset 0");
            return -EIO;
        }
    }
    struct qcow2_write *w = r == 0 ? begin_write(q) : NULL;
    if (!w) {
        if (!keep && !qcow2_has_data_file(q)) {
            qcow2_release(n, host, whole);
        }
        return r < 0 ? r : -ENOMEM;
    }
    w->guest = start;
    w->bytes = whole;
    w->host = host;
    w->keep = keep;
    w->prealloc = false;
    w->from = copy_from(q, first, keep, guest);
    w->to = copy_to(q, last, keep, guest + bytes);
    *p = (struct placement){.guest_offset = guest,
                            .bytes = bytes,
                            .node = q->data,
                            .offset = host + (guest - start),
                            .cow_head = guest - w->from,
                            .cow_tail = w->to - (guest + bytes),
                            .fresh = true,
                            .zero_first = may_zero_first(q, first, last, keep),
                            .cookie = w};
    return 0;
}

static co_fn int check_first(struct node *n, uint64_t guest, const struct qcow2_entry *slice)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_l2 e = qcow2_l2_get(q, slice, qcow2_slice_index(q, guest));
    uint64_t host = e.entry & QCOW2_OFFSET_MASK;

    if (UNLIKELY(qcow2_in_cluster(q, host)) && !(e.entry & QCOW2_COMPRESSED)) {
        bool zero = qcow2_sub_type(q, e, sub_of(q, guest)) == QCOW2_ZERO_ALLOC;
        qcow2_damaged(n, true, "%s cluster offset %#" PRIx64 " unaligned (guest offset: %#" PRIx64 ")",
                      zero ? "Preallocated zero" : "Data", host, guest);
        return -EIO;
    }
    return qcow2_check_l2(n, guest, slice, e);
}

static co_fn int choose(struct node *n, const struct qcow2_entry *slice, uint64_t guest, uint64_t bytes,
                        struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = 0, part;
    int r = check_first(n, guest, slice);

    if (r < 0) {
        return r;
    }
    overwrite(n, slice, guest, bytes, p);
    if (p->bytes) {
        return 0;
    }
    part = count_ours(q, slice, guest, bytes, false, &host);
    if (part) {
        return place(n, slice, guest, part, true, host, p);
    }
    return place(n, slice, guest, count_new(q, slice, guest, bytes), false, 0, p);
}

/* Up to the next write in flight; waits while the first cluster belongs to one. */
static co_fn uint64_t clear_of_others(struct node *n, uint64_t guest, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_write *w;
    uint64_t end = guest + bytes;

    qcow2_wait_for_writes(n, guest, 1);
    list_for_each (w, &q->writes, link) {
        if (w->guest >= guest && w->guest < end) {
            end = w->guest;
        }
    }
    return end - guest;
}

static co_fn int alloc_locked(struct node *n, uint64_t guest, uint64_t bytes, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *slice;

    bytes = clear_of_others(n, guest, bytes);
    int r = qcow2_need_l2(n, guest);
    r = r < 0 ? r : qcow2_get_slice(n, guest, true, &slice);
    if (r == 0) {
        r = choose(n, slice, guest, bytes, p);
        qcow2_cache_put(q->l2_cache, slice);
    }
    return r;
}

int qcow2_alloc(struct node *n, uint64_t offset, uint64_t bytes, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    int r = 0;

    p->bytes = 0;
    try_overwrite(n, offset, bytes, p);
    if (UNLIKELY(p->bytes == 0)) {
        co_mutex_lock(&q->lock);
        r = q->corrupt ? qcow2_refused(n) : alloc_locked(n, offset, bytes, p);
        co_mutex_unlock(&q->lock);
    }
    if (r == 0 && !p->fresh && !qcow2_has_data_file(q)) {
        r = qcow2_check_write(n, 0, p->offset, p->bytes);
    }
    return r;
}

/* ---- publishing ---- */

static struct qcow2_l2 new_entry(const struct qcow2 *q, const struct qcow2_write *w, uint64_t guest,
                                 struct qcow2_l2 old)
{
    struct qcow2_l2 e = {(w->host + (guest - w->guest)) | QCOW2_COPIED, 0};

    if (q->subclusters > 1 && w->prealloc) {
        e.bitmap = old.bitmap;
    } else if (q->subclusters > 1) {
        uint64_t from = MAX(w->from, guest) - guest, to = MIN(w->to, guest + q->cluster_bytes) - guest;
        unsigned a = (unsigned)(from >> q->sub_bits), b = (unsigned)((to - 1) >> q->sub_bits);
        uint64_t bits = ((UINT64_C(2) << b) - 1) & ~((UINT64_C(1) << a) - 1);
        uint64_t kept = old.entry & QCOW2_COMPRESSED ? 0 : old.bitmap & ~(bits | bits << 32);
        e.bitmap = (w->keep ? kept : kept & QCOW2_ALL_ZERO) | bits;
    }
    return e;
}

static co_fn int publish(struct node *n, const struct qcow2_write *w)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *slice;
    int r = qcow2_lazy(q) ? qcow2_mark_dirty(n) : 0;

    r = r < 0 ? r : qcow2_get_slice(n, w->guest, true, &slice);
    if (r < 0) {
        return r;
    }
    assert(slice);
    q->changes++; /* the data: to be durable before the slice is written */
    for (uint64_t at = w->guest; at < w->guest + w->bytes; at += q->cluster_bytes) {
        unsigned index = qcow2_slice_index(q, at);
        struct qcow2_l2 old = qcow2_l2_get(q, slice, index);
        qcow2_l2_set(n, slice, index, new_entry(q, w, at, old));
        if (!w->keep && (old.entry & (QCOW2_OFFSET_MASK | QCOW2_COMPRESSED)) && !qcow2_has_data_file(q)) {
            qcow2_free_l2(n, old, QCOW2_FREE_OTHER);
        }
    }
    qcow2_cache_put(q->l2_cache, slice);
    return 0;
}

static co_fn void give_back(struct node *n, const struct qcow2_write *w)
{
    struct qcow2 *q = qcow2_of(n);

    if (!w->keep && !qcow2_has_data_file(q)) {
        qcow2_release(n, w->host, w->bytes);
    }
}

int qcow2_commit(struct node *n, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_write *w = p->cookie;

    co_mutex_lock(&q->lock);
    int r = q->corrupt ? qcow2_refused(n) : publish(n, w);
    if (r < 0) {
        give_back(n, w);
    }
    end_write(q, w);
    co_mutex_unlock(&q->lock);
    return r;
}

void qcow2_abort(struct node *n, struct placement *p)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    give_back(n, p->cookie);
    end_write(q, p->cookie);
    co_mutex_unlock(&q->lock);
}
