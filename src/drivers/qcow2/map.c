/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mapping: from a guest offset through the L1 table (in memory) and an L2 slice (cached) to what lies
 * there. Works in subclusters; without extended L2 entries a cluster has one.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

/* ---- entries ---- */

static enum qcow2_type plain_type(const struct qcow2 *q, struct qcow2_l2 e)
{
    bool host = qcow2_l2_has_host(q, e);

    if ((e.entry & QCOW2_ZERO) && q->h.version >= 3) {
        return host ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return host ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

enum qcow2_type qcow2_sub_type(const struct qcow2 *q, struct qcow2_l2 e, unsigned sub)
{
    if (e.entry & QCOW2_COMPRESSED) {
        return QCOW2_IS_COMPRESSED;
    }
    if (q->subclusters == 1) {
        return plain_type(q, e);
    }
    bool host = qcow2_l2_has_host(q, e);
    bool alloc = e.bitmap >> sub & 1;
    bool zero = e.bitmap >> (sub + 32) & 1;
    if (alloc && (zero || !host)) {
        return QCOW2_INVALID;
    }
    return alloc  ? QCOW2_NORMAL
           : zero ? (host ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN)
                  : (host ? QCOW2_UNALLOCATED_ALLOC : QCOW2_UNALLOCATED);
}

struct qcow2_l2 qcow2_l2_get(const struct qcow2 *q, const struct qcow2_entry *slice, unsigned index)
{
    const uint8_t *p = slice->data + (size_t)index * q->l2_entry_bytes_each;

    return (struct qcow2_l2){get_be64(p), q->subclusters > 1 ? get_be64(p + 8) : 0};
}

void qcow2_l2_set(struct node *n, struct qcow2_entry *slice, unsigned index, struct qcow2_l2 e)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t *p = slice->data + (size_t)index * q->l2_entry_bytes_each;

    put_be64(p, e.entry);
    if (q->subclusters > 1) {
        put_be64(p + 8, e.bitmap);
    }
    qcow2_cache_dirty(q->l2_cache, slice);
}

/* ---- tables ---- */

/* Host offset of the L2 table for @guest; 0: there is none. */
static co_fn int l2_table_of(struct node *n, uint64_t guest, uint64_t *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t index = guest >> qcow2_l1_shift(q);

    *ret = index < q->h.l1_entries ? q->l1[index] & QCOW2_OFFSET_MASK : 0;
    if (UNLIKELY(qcow2_in_cluster(q, *ret))) {
        qcow2_damaged(n, true, "L2 table offset %#" PRIx64 " unaligned (L1 index: %#" PRIx64 ")", *ret,
                      index);
        return -EIO;
    }
    return 0;
}

static uint64_t slice_offset(const struct qcow2 *q, uint64_t table, uint64_t guest)
{
    uint64_t in_table = (guest >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);

    return table + (in_table >> q->slice_bits) * qcow2_cache_entry_bytes(q->l2_cache);
}

int qcow2_get_slice(struct node *n, uint64_t guest, bool locked, struct qcow2_entry **ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t table;
    int r = l2_table_of(n, guest, &table);

    if (r == 0 && table == 0) {
        *ret = NULL;
        return 0;
    }
    return r < 0 ? r : qcow2_cache_get(q->l2_cache, slice_offset(q, table, guest), locked, ret);
}

/* Where an entry was found, for messages. */
static uint64_t table_for_message(struct node *n, uint64_t guest)
{
    struct qcow2 *q = qcow2_of(n);

    return q->l1[guest >> qcow2_l1_shift(q)] & QCOW2_OFFSET_MASK;
}

int qcow2_check_l2(struct node *n, uint64_t guest, const struct qcow2_entry *slice, struct qcow2_l2 e)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = e.entry & QCOW2_OFFSET_MASK;
    unsigned index = (unsigned)(guest >> q->cluster_bits) & ((1u << q->l2_bits) - 1);

    (void)slice;
    if (e.entry & QCOW2_COMPRESSED) {
        if (qcow2_has_data_file(q)) {
            qcow2_damaged(
                n, true,
                "Compressed cluster entry found in image with external data file (L2 offset: %#" PRIx64
                ", L2 index: %#x)",
                table_for_message(n, guest), index);
            return -EIO;
        }
        return 0;
    }
    if (UNLIKELY(qcow2_in_cluster(q, host))) {
        bool zero = q->subclusters == 1 && (e.entry & QCOW2_ZERO);
        qcow2_damaged(n, true,
                      zero ? "Preallocated zero cluster offset %#" PRIx64 " unaligned (L2 offset: %#" PRIx64
                             ", L2 index: %#x)"
                           : "Cluster allocation offset %#" PRIx64 " unaligned (L2 offset: %#" PRIx64
                             ", L2 index: %#x)",
                      host, table_for_message(n, guest), index);
        return -EIO;
    }
    if (UNLIKELY(qcow2_has_data_file(q) && qcow2_l2_has_host(q, e) &&
                 host != round_down(guest, q->cluster_bytes))) {
        qcow2_damaged(n, true,
                      "External data file host cluster offset %#" PRIx64
                      " does not match guest cluster offset: %#" PRIx64 ", L2 index: %#x)",
                      host, round_down(guest, q->cluster_bytes), index);
        return -EIO;
    }
    return 0;
}

/* ---- map ---- */

static enum map_kind kind_of(enum qcow2_type t)
{
    switch (t) {
    case QCOW2_NORMAL:
        return MAP_DATA;
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC:
        return MAP_ZERO;
    case QCOW2_IS_COMPRESSED:
        return MAP_SPECIAL;
    default:
        return MAP_BACKING;
    }
}

/* The VM state area, behind the disk, has nothing behind it. */
static struct node *backing_at(const struct node *n, uint64_t guest)
{
    const struct qcow2 *q = n->state;

    return guest >= MAX(n->size, q->vmstate_offset) ? NULL : q->backing;
}

/* No L2 table: how far does that go on? */
static uint64_t unmapped_bytes(const struct qcow2 *q, uint64_t guest, uint64_t bytes)
{
    unsigned shift = qcow2_l1_shift(q);
    uint64_t end = guest + bytes;
    uint64_t at = guest;

    while (at < end) {
        uint64_t index = at >> shift;
        if (index >= q->h.l1_entries) {
            return bytes;
        }
        if (q->l1[index] & QCOW2_OFFSET_MASK) {
            break;
        }
        at = (index + 1) << shift;
    }
    return MIN(at, end) - guest;
}

/* Subclusters of the same kind that lie in a row, on the host too if they have a place there. */
struct run {
    enum qcow2_type type;
    uint64_t host;  /* of its first cluster */
    uint64_t bytes; /* from that cluster's beginning */
};

/* @at: of the cluster, from the run's first one. What is wrong with an entry behind the first is told
 * when that one is asked for. */
static bool joins(const struct run *run, enum qcow2_type t, uint64_t host, uint64_t at)
{
    bool has_place = run->type == QCOW2_NORMAL || run->type == QCOW2_ZERO_ALLOC;

    if (kind_of(t) != kind_of(run->type) || t == QCOW2_INVALID || (t == QCOW2_IS_COMPRESSED && at > 0) ||
        (t == QCOW2_ZERO_ALLOC) != (run->type == QCOW2_ZERO_ALLOC)) {
        return false;
    }
    return !has_place || host == run->host + at;
}

/* Subclusters of @e from @sub on join the run until it has @want bytes; false if one does not. */
static bool extend(const struct qcow2 *q, struct run *run, struct qcow2_l2 e, uint64_t at, unsigned sub,
                   uint64_t want)
{
    for (; sub < q->subclusters && run->bytes < want; sub++) {
        if (!joins(run, qcow2_sub_type(q, e, sub), e.entry & QCOW2_OFFSET_MASK, at)) {
            return false;
        }
        run->bytes += UINT64_C(1) << q->sub_bits;
    }
    return true;
}

static co_fn int begin_run(struct node *n, const struct qcow2_entry *slice, uint64_t guest, struct qcow2_l2 e,
                           struct run *run)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned sub = (unsigned)(qcow2_in_cluster(q, guest) >> q->sub_bits);
    int r = qcow2_check_l2(n, guest, slice, e);

    if (r < 0) {
        return r;
    }
    *run = (struct run){qcow2_sub_type(q, e, sub), e.entry & QCOW2_OFFSET_MASK, (uint64_t)sub << q->sub_bits};
    if (run->type == QCOW2_INVALID) {
        qcow2_damaged(n, true, "Invalid cluster entry found  (L2 offset: %#" PRIx64 ", L2 index: %#x)",
                      table_for_message(n, guest),
                      (unsigned)(guest >> q->cluster_bits) & ((1u << q->l2_bits) - 1));
        return -EIO;
    }
    return 0;
}

static co_fn int map_in_slice(struct node *n, const struct qcow2_entry *slice, uint64_t guest, uint64_t bytes,
                              struct mapping *ret)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned index = qcow2_slice_index(q, guest);
    uint64_t in_cluster = qcow2_in_cluster(q, guest);
    uint64_t want = in_cluster + bytes; /* from the cluster's beginning */
    struct qcow2_l2 e = qcow2_l2_get(q, slice, index);
    struct run run;
    int r = begin_run(n, slice, guest, e, &run);

    if (r < 0) {
        return r;
    }
    ret->cookie = e.entry;
    bool on = extend(q, &run, e, 0, (unsigned)(in_cluster >> q->sub_bits), want);
    for (unsigned i = index + 1; on && i < 1u << q->slice_bits && run.bytes < want; i++) {
        on = extend(q, &run, qcow2_l2_get(q, slice, i), (uint64_t)(i - index) << q->cluster_bits, 0, want);
    }
    ret->kind = kind_of(run.type);
    ret->bytes = MIN(run.bytes, want) - in_cluster;
    ret->offset = run.host + in_cluster;
    ret->allocated = run.type == QCOW2_ZERO_ALLOC;
    ret->compressed = run.type == QCOW2_IS_COMPRESSED;
    if (ret->kind == MAP_DATA || ret->allocated) {
        ret->node = q->data;
    } else if (ret->kind == MAP_BACKING) {
        ret->node = backing_at(n, guest);
    }
    return 0;
}

int qcow2_map(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *ret)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *slice;
    uint64_t table;
    int r = l2_table_of(n, offset, &table);

    *ret = (struct mapping){0};
    if (r < 0) {
        return r;
    }
    if (table == 0) {
        *ret = (struct mapping){
            .kind = MAP_BACKING, .bytes = unmapped_bytes(q, offset, bytes), .node = backing_at(n, offset)};
        return 0;
    }
    uint64_t at = slice_offset(q, table, offset);
    slice = qcow2_cache_peek(q->l2_cache, at);
    if (LIKELY(slice)) {
        /* nothing waits below, unless damage is found, and then nothing of the slice is used after */
        return map_in_slice(n, slice, offset, bytes, ret);
    }
    r = qcow2_cache_get(q->l2_cache, at, false, &slice);
    if (r == 0) {
        r = map_in_slice(n, slice, offset, bytes, ret);
        qcow2_cache_put(q->l2_cache, slice);
    }
    return r;
}
