/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Zeroes and discards: only mappings change. A version 3 image says "zeroes" in the L2 entry; a
 * version 2 image can only drop a cluster, where no backing file shows through. What is less than a
 * (sub)cluster is extended to it when the rest of it reads as zeroes anyway, else written.
 */
#include "drivers/qcow2/qcow2.h"

enum how {
    HOW_ZERO,       /* reads as zeroes afterwards; keeps its place */
    HOW_ZERO_UNMAP, /* and gives the place up */
    HOW_DISCARD,
    HOW_DROP, /* nothing is left of it (truncate) */
};

/* ---- one cluster ---- */

static struct qcow2_l2 emptied(const struct qcow2 *q, bool zero)
{
    bool marks = zero && q->h.version >= 3;

    return (struct qcow2_l2){marks && q->subclusters == 1 ? QCOW2_ZERO : 0,
                             marks && q->subclusters > 1 ? QCOW2_ALL_ZERO : 0};
}

static struct qcow2_l2 zeroed_in_place(const struct qcow2 *q, struct qcow2_l2 e)
{
    if (q->subclusters > 1) {
        return (struct qcow2_l2){e.entry, QCOW2_ALL_ZERO};
    }
    return (struct qcow2_l2){e.entry | QCOW2_ZERO, 0};
}

/* What the entry of a whole cluster becomes. */
static struct qcow2_l2 whole_cluster(const struct qcow2 *q, struct qcow2_l2 e, enum how how)
{
    bool compressed = e.entry & QCOW2_COMPRESSED;
    bool mapped = compressed || qcow2_l2_has_host(q, e);
    bool marked = compressed ? false : q->subclusters > 1 ? e.bitmap == QCOW2_ALL_ZERO : e.entry & QCOW2_ZERO;

    switch (how) {
    case HOW_DROP:
        return emptied(q, false);
    case HOW_DISCARD:
        return mapped || marked || q->backing || e.bitmap ? emptied(q, true) : e;
    case HOW_ZERO:
        return q->h.version < 3 ? emptied(q, true)
               : marked         ? e
               : compressed     ? emptied(q, true)
                                : zeroed_in_place(q, e);
    default:
        return emptied(q, true);
    }
}

static co_fn void change(struct node *n, struct qcow2_entry *slice, unsigned index, struct qcow2_l2 old,
                         struct qcow2_l2 e)
{
    struct qcow2 *q = qcow2_of(n);

    if (e.entry == old.entry && e.bitmap == old.bitmap) {
        return;
    }
    qcow2_l2_set(n, slice, index, e);
    if ((old.entry & QCOW2_COMPRESSED) || (qcow2_l2_has_host(q, old) && !qcow2_l2_has_host(q, e))) {
        qcow2_free_l2(n, old, QCOW2_FREE_REQUEST);
    }
}

/* Clusters of one slice. *ret_done: bytes. */
static co_fn int change_in_slice(struct node *n, uint64_t guest, uint64_t bytes, enum how how,
                                 uint64_t *ret_done)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *slice = NULL;
    unsigned index = qcow2_slice_index(q, guest);
    uint64_t entries = MIN(div_up(bytes, q->cluster_bytes), (uint64_t)(1u << q->slice_bits) - index);
    int r = qcow2_get_slice(n, guest, true, &slice);

    *ret_done = entries << q->cluster_bits;
    if (r < 0) {
        return r;
    }
    /* an area without L2 table reads as zeroes unless a backing file shows: nothing to drop or discard */
    bool nothing_there = !slice && (how == HOW_DROP || (how == HOW_DISCARD && !q->backing));
    qcow2_cache_put(q->l2_cache, slice);
    if (nothing_there) {
        return 0;
    }
    r = qcow2_need_l2(n, guest);
    r = r < 0 ? r : qcow2_get_slice(n, guest, true, &slice);
    if (r < 0) {
        return r;
    }
    for (uint64_t i = 0; r == 0 && i < entries; i++) {
        struct qcow2_l2 e = qcow2_l2_get(q, slice, index + (unsigned)i);
        /* else the entry goes, whatever it says */
        if (how == HOW_ZERO || (e.entry & QCOW2_COMPRESSED) || qcow2_has_data_file(q)) {
            r = qcow2_check_l2(n, guest + (i << q->cluster_bits), slice, e);
        }
        if (r == 0) {
            change(n, slice, index + (unsigned)i, e, whole_cluster(q, e, how));
        }
    }
    qcow2_cache_put(q->l2_cache, slice);
    return r;
}

/* Whole clusters; the last may reach past the end of the disk. */
static co_fn int change_clusters(struct node *n, uint64_t guest, uint64_t bytes, enum how how)
{
    int r = 0;

    for (uint64_t done = 0; r == 0 && done < bytes;) {
        uint64_t part;
        r = change_in_slice(n, guest + done, bytes - done, how, &part);
        done += part;
    }
    return r;
}

static co_fn int change_clusters_locked(struct node *n, uint64_t guest, uint64_t bytes, enum how how)
{
    struct qcow2 *q = qcow2_of(n);

    if (bytes == 0) {
        return q->corrupt ? qcow2_refused(n) : 0;
    }
    co_mutex_lock(&q->lock);
    qcow2_wait_for_writes(n, guest, bytes);
    int r = q->corrupt ? qcow2_refused(n) : change_clusters(n, guest, bytes, how);
    r = r == 0 && q->corrupt ? qcow2_refused(n) : r; /* what was freed was found damaged: nothing is kept */
    co_mutex_unlock(&q->lock);
    return r;
}

int qcow2_drop_range(struct node *n, uint64_t offset, uint64_t bytes)
{
    return change_clusters(n, offset, bytes, HOW_DROP);
}

/* ---- less than a cluster ---- */

/* Do the bytes that are not to be zeroed read as zeroes from below? */
static co_fn bool below_is_zero(struct node *n, uint64_t guest, uint64_t end)
{
    struct qcow2 *q = qcow2_of(n);

    end = MIN(end, n->size);
    while (q->backing && guest < MIN(end, node_size(q->backing))) {
        struct extent x;
        uint64_t bytes = MIN(end, node_size(q->backing)) - guest;
        if (node_status(q->backing, guest, bytes, &x) < 0 || !x.zero) {
            return false;
        }
        guest += x.bytes;
    }
    return true;
}

static bool is_blank(enum qcow2_type t)
{
    return t == QCOW2_UNALLOCATED || t == QCOW2_UNALLOCATED_ALLOC;
}

/* Mark the subclusters [first, last] of one cluster; 1: done, 0: cannot be done so. */
static co_fn int mark_subclusters(struct node *n, struct qcow2_entry *slice, uint64_t cluster, unsigned first,
                                  unsigned last)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned index = qcow2_slice_index(q, cluster);
    struct qcow2_l2 e = qcow2_l2_get(q, slice, index);
    struct qcow2_l2 old = e;

    if (q->subclusters == 1) {
        change(n, slice, index, old, whole_cluster(q, e, HOW_ZERO));
        return 1;
    }
    uint64_t bits = ((UINT64_C(2) << last) - 1) & ~((UINT64_C(1) << first) - 1);
    e.bitmap = (e.bitmap & ~bits) | bits << 32;
    change(n, slice, index, old, e);
    return 1;
}

/* [guest, end) lies in one cluster. Returns 1 when it was done by marking. */
static co_fn int try_mark(struct node *n, uint64_t guest, uint64_t end)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t cluster = round_down(guest, q->cluster_bytes);
    uint64_t sub = UINT64_C(1) << q->sub_bits;
    uint64_t from = round_down(guest, sub), to = round_up(end, sub);
    struct qcow2_entry *slice = NULL;
    int r;

    if (q->h.version < 3) {
        return 0;
    }
    r = qcow2_need_l2(n, guest);
    r = r < 0 ? r : qcow2_get_slice(n, guest, true, &slice);
    if (r < 0) {
        return r;
    }
    struct qcow2_l2 e = qcow2_l2_get(q, slice, qcow2_slice_index(q, guest));
    r = qcow2_check_l2(n, guest, slice, e);
    unsigned first = (unsigned)((from - cluster) >> q->sub_bits);
    unsigned last = (unsigned)((to - 1 - cluster) >> q->sub_bits);
    bool can = r == 0 && !(e.entry & QCOW2_COMPRESSED);
    for (unsigned s = first; can && s <= last; s++) {
        enum qcow2_type t = qcow2_sub_type(q, e, s);
        uint64_t sub_from = cluster + s * sub, sub_to = sub_from + sub;
        bool inside = sub_from >= guest && (sub_to <= end || end == n->size);
        can = inside || t == QCOW2_ZERO_PLAIN || t == QCOW2_ZERO_ALLOC ||
              (is_blank(t) && below_is_zero(n, sub_from, MAX(sub_from, guest)) &&
               below_is_zero(n, MIN(sub_to, end), sub_to));
    }
    if (can) {
        r = mark_subclusters(n, slice, cluster, first, last);
    }
    qcow2_cache_put(q->l2_cache, slice);
    return r;
}

static co_fn int write_zeroes(struct node *n, uint64_t guest, uint64_t bytes)
{
    void *zeroes = buf_get(bytes);
    struct iovec iov = {zeroes, bytes};
    struct req w = {.op = REQ_WRITE, .offset = guest, .bytes = bytes, .iov = &iov, .niov = 1};

    if (!zeroes) {
        return -ENOMEM;
    }
    memset(zeroes, 0, bytes);
    int r = access_io(n, &w);
    buf_put(zeroes, bytes);
    return r;
}

static co_fn int try_mark_locked(struct node *n, uint64_t guest, uint64_t end)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    qcow2_wait_for_writes(n, guest, end - guest);
    int r = q->corrupt ? qcow2_refused(n) : try_mark(n, guest, end);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int mark_or_write(struct node *n, uint64_t guest, uint64_t end, unsigned flags)
{
    int r = guest < end ? try_mark_locked(n, guest, end) : 1;

    if (r != 0) {
        return r < 0 ? r : 0;
    }
    return flags & REQ_NO_FALLBACK ? -ENOTSUP : write_zeroes(n, guest, end - guest);
}

/* Where the edges have to be written, the whole subclusters between them need not be. */
static co_fn int zero_partial(struct node *n, uint64_t guest, uint64_t end, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t sub = UINT64_C(1) << q->sub_bits;
    uint64_t from = round_up(guest, sub), to = end == n->size ? end : round_down(end, sub);

    if (q->subclusters == 1 || from >= to || (flags & REQ_NO_FALLBACK)) {
        return mark_or_write(n, guest, end, flags);
    }
    int r = try_mark_locked(n, guest, end);
    if (r == 0 && (r = try_mark_locked(n, from, to)) == 0) { /* compressed */
        return write_zeroes(n, guest, end - guest);
    }
    r = r < 0 ? r : mark_or_write(n, guest, from, flags);
    return r < 0 ? r : mark_or_write(n, to, end, flags);
}

/* ---- the verb ---- */

static co_fn int zero_range(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = offset + bytes;
    uint64_t first = round_up(offset, q->cluster_bytes);
    uint64_t last = end == n->size ? round_up(end, q->cluster_bytes) : round_down(end, q->cluster_bytes);
    enum how how = flags & REQ_UNMAP ? HOW_ZERO_UNMAP : HOW_ZERO;
    int r;

    if (q->h.version < 3 && q->backing) {
        return -ENOTSUP;
    }
    if (q->h.autoclear & QCOW2_DATA_FILE_RAW) { /* the data file alone tells what the disk holds */
        r = node_zero(q->data, offset, bytes, (flags & (REQ_UNMAP | REQ_NO_FALLBACK)) | REQ_GROW);
        if (r < 0) {
            return r;
        }
    }
    if (first > last) { /* within one cluster */
        return zero_partial(n, offset, end, flags);
    }
    r = zero_partial(n, offset, MIN(first, end), flags);
    r = r < 0 ? r : change_clusters_locked(n, first, last - first, how);
    return r < 0 || last >= end ? r : zero_partial(n, last, end, flags);
}

static co_fn int discard_range(struct node *n, uint64_t offset, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->h.version < 3 && q->backing) {
        return -ENOTSUP; /* stale data of the backing file would show */
    }
    return change_clusters_locked(n, offset, bytes, HOW_DISCARD);
}

int qcow2_unmap(struct node *n, uint64_t offset, uint64_t bytes, bool discard, unsigned flags)
{
    return discard ? discard_range(n, offset, bytes) : zero_range(n, offset, bytes, flags);
}
