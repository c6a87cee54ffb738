/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything in the image that refers to clusters, counted: header, L1 and L2 tables (the snapshots', too),
 * what they map, snapshot table, refcount structure, encryption header, bitmaps. Nothing is changed here.
 * What several tables share is read once and counted by its weight: time is linear in what the file holds,
 * whatever the tables claim.
 */
#include "drivers/qcow2/check.h"

#define L2_RESERVED UINT64_C(0x3f000000000001fe) /* of entries that are not compressed */
#define PIECE       (64 * KiB)                   /* of an L1 table read at once */

/* ---- clusters ---- */

static void note_over(struct check *c, uint64_t cluster, uint64_t excess)
{
    if (c->overs > 0 && c->over[c->overs - 1].cluster == cluster) {
        c->over[c->overs - 1].excess += excess;
        return;
    }
    if (!c->over) {
        c->over = calloc(CHECK_OVERS_MAX, sizeof(*c->over));
    }
    if (c->over && c->overs < CHECK_OVERS_MAX) {
        c->over[c->overs++] = (struct check_over){cluster, excess};
    }
}

static int count_cluster(struct check *c, uint64_t cluster, uint64_t weight, uint64_t entry_at)
{
    uint64_t max = MIN(c->q->ref_max, CHECK_REFS_MAX);
    struct check_chunk *k;
    int r = check_refs_fast(&c->refs, cluster, &k);

    if (r < 0) {
        return r;
    }
    uint32_t *refs = &k->refs[cluster % CHUNK];
    uint64_t sum = *refs + weight; /* each is below 2^32 times a few */
    if (UNLIKELY(sum > max)) {
        uint64_t excess = sum - MAX(max, (uint64_t)*refs);
        check_tell(c, P_OVERFLOW, excess, entry_at, cluster << c->q->cluster_bits);
        c->structural++;
        note_over(c, cluster, excess);
    }
    *refs =
        (uint32_t)MIN(sum, CHECK_REFS_MAX); /* what a refcount can hold is seen to before they are compared */
    if (UNLIKELY(cluster >= c->clusters)) {
        c->clusters = cluster + 1;
    }
    return 0;
}

int check_count_range(struct check *c, uint64_t offset, uint64_t bytes, uint64_t weight, uint64_t entry_at)
{
    const struct qcow2 *q = c->q;
    int r = 0;

    if (bytes == 0) {
        return 0;
    }
    if (UNLIKELY(check_beyond(c, offset, bytes))) {
        check_tell(c, P_BEYOND_END, weight, entry_at, offset, bytes);
        c->structural++;
        return check_note_beyond(c, offset, bytes);
    }
    uint64_t last = qcow2_cluster_of(q, offset + bytes - 1);
    for (uint64_t k = qcow2_cluster_of(q, offset); r == 0 && k <= last; k++) {
        r = count_cluster(c, k, weight, entry_at);
    }
    return r;
}

/* ---- L2 tables ---- */

static int grow_l2_hash(struct check *c)
{
    size_t slots = c->l2_hash ? (c->l2_mask + 1) * 2 : 256;
    uint32_t *hash = calloc(slots, sizeof(*hash));

    if (!hash) {
        return -ENOMEM;
    }
    free(c->l2_hash);
    c->l2_hash = hash;
    c->l2_mask = slots - 1;
    for (size_t i = 0; i < c->l2_count; i++) {
        size_t at = (size_t)((c->l2[i].host * UINT64_C(0x9e3779b97f4a7c15)) >> 24) & c->l2_mask;
        while (hash[at]) {
            at = (at + 1) & c->l2_mask;
        }
        hash[at] = (uint32_t)i + 1;
    }
    return 0;
}

static int add_l2(struct check *c, uint64_t host, size_t at)
{
    if (c->l2_count == c->l2_max) {
        size_t max = c->l2_max ? c->l2_max * 2 : 64;
        /* the list counts as the rest does: it cannot take all memory */
        struct check_l2 *more =
            max * sizeof(*more) > QCOW2_CHECK_MEMORY ? NULL : realloc(c->l2, max * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        c->l2 = more;
        c->l2_max = max;
    }
    c->l2[c->l2_count++] = (struct check_l2){.host = host};
    c->l2_hash[at] = (uint32_t)c->l2_count;
    return 0;
}

static size_t l2_slot(const struct check *c, uint64_t host)
{
    size_t at = (size_t)((host * UINT64_C(0x9e3779b97f4a7c15)) >> 24) & c->l2_mask;

    while (c->l2_hash[at] && c->l2[c->l2_hash[at] - 1].host != host) {
        at = (at + 1) & c->l2_mask;
    }
    return at;
}

struct check_l2 *check_find_l2(const struct check *c, uint64_t host)
{
    size_t at = c->l2_hash ? l2_slot(c, host) : 0;

    return c->l2_hash && c->l2_hash[at] ? &c->l2[c->l2_hash[at] - 1] : NULL;
}

/* The L2 table at @host is named once more. */
static int note_l2(struct check *c, uint64_t host, bool active, uint64_t weight)
{
    int r = !c->l2_hash || (c->l2_count + 1) * 2 > c->l2_mask ? grow_l2_hash(c) : 0;

    if (r < 0) {
        return r;
    }
    size_t at = l2_slot(c, host);
    if (!c->l2_hash[at] && (r = add_l2(c, host, at)) < 0) {
        return r;
    }
    struct check_l2 *t = &c->l2[c->l2_hash[at] - 1];
    *(active ? &t->active : &t->inactive) += weight;
    return 0;
}

/* ---- L2 entries ---- */

struct l2_walk {
    struct check *c;
    const struct check_l2 *t;
    uint64_t weight;
    uint64_t next; /* host offset behind the last data cluster; 0: none */
};

static void count_fragment(struct l2_walk *w, uint64_t host)
{
    struct check_result *res = &w->c->result;

    res->allocated_clusters += w->t->active;
    if (w->next && host != w->next) {
        res->fragmented_clusters += w->t->active;
    }
    w->next = host + w->c->q->cluster_bytes;
}

static void structural(struct l2_walk *w, enum problem p, uint64_t at, uint64_t value)
{
    check_tell(w->c, p, w->weight, at, value);
    w->c->structural++;
}

static int count_compressed(struct l2_walk *w, struct qcow2_l2 e, uint64_t at, unsigned index)
{
    struct check *c = w->c;
    uint64_t host, bytes;

    qcow2_compressed_range(c->q, e.entry, &host, &bytes);
    if (e.entry & QCOW2_COPIED) {
        structural(w, P_L2_COMPRESSED_COPIED, at, host);
    }
    if (qcow2_has_data_file(c->q) || (e.bitmap && c->q->subclusters > 1)) {
        check_tell(c, qcow2_has_data_file(c->q) ? P_L2_COMPRESSED_DATA_FILE : P_L2_COMPRESSED_BITMAP,
                   w->weight, at, (int)index, e.entry & ~QCOW2_COPIED);
        c->structural++;
        return 0;
    }
    c->result.allocated_clusters += w->t->active;
    c->result.compressed_clusters += w->t->active;
    c->result.fragmented_clusters += w->t->active; /* by nature */
    return check_count_range(c, host, bytes, w->weight, at);
}

/* An entry with a host cluster. */
static int count_standard(struct l2_walk *w, struct qcow2_l2 e, uint64_t at)
{
    struct check *c = w->c;
    const struct qcow2 *q = c->q;
    uint64_t host = e.entry & QCOW2_OFFSET_MASK;
    bool zero = q->subclusters > 1 ? !(uint32_t)e.bitmap : e.entry & QCOW2_ZERO;

    if (q->subclusters > 1 && (e.bitmap >> 32 & e.bitmap)) {
        structural(w, P_L2_SUBCLUSTERS, at, host);
    }
    if (qcow2_in_cluster(q, host)) {
        structural(w, zero ? P_L2_ZERO_UNALIGNED : P_L2_UNALIGNED, at, host);
        if (zero && (c->fix & CHECK_FIX_ERRORS)) { /* the repair lets go of it: it is in nobody's way */
            return 0;
        }
    }
    count_fragment(w, host);
    uint32_t stored = qcow2_has_data_file(q) ? 1 : check_stored(&c->refs, qcow2_cluster_of(q, host));
    if (w->t->active && (stored == 1) != ((e.entry & QCOW2_COPIED) != 0)) {
        c->copied_wrong = true;
    }
    return qcow2_has_data_file(q) ? 0 : check_count_range(c, host, q->cluster_bytes, w->weight, at);
}

/* All but the plain case. */
static int count_entry(struct l2_walk *w, struct qcow2_l2 e, unsigned index)
{
    const struct qcow2 *q = w->c->q;
    uint64_t at = w->t->host + (uint64_t)index * q->l2_entry_bytes_each;

    if (e.entry & QCOW2_COMPRESSED) {
        return count_compressed(w, e, at, index);
    }
    if (e.entry & L2_RESERVED) {
        structural(w, P_L2_RESERVED, at, e.entry);
    }
    if (qcow2_l2_has_host(q, e)) {
        return count_standard(w, e, at);
    }
    if (q->subclusters > 1 && (uint32_t)e.bitmap) {
        structural(w, P_L2_UNALLOCATED_BITMAP, at, 0);
    }
    return 0;
}

/* The case that nearly all entries are: aligned, within the file, nothing strange. */
static inline bool count_plain(struct l2_walk *w, uint64_t entry)
{
    struct check *c = w->c;
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    uint64_t cluster = host >> c->q->cluster_bits;
    struct check_chunk *k;

    if (UNLIKELY((entry & (QCOW2_COMPRESSED | L2_RESERVED)) || host == 0 ||
                 (host & (c->q->cluster_bytes - 1)) || cluster >= c->clusters ||
                 check_refs_fast(&c->refs, cluster, &k) < 0)) {
        return false;
    }
    uint64_t refs = k->refs[cluster % CHUNK] + w->weight;
    if (UNLIKELY(refs > c->q->ref_max || refs >= UINT32_MAX)) {
        return false;
    }
    k->refs[cluster % CHUNK] = (uint32_t)refs;
    if (w->t->active) {
        count_fragment(w, host);
        if (UNLIKELY((k->stored[cluster % CHUNK] == 1) != (entry >> 63))) {
            c->copied_wrong = true;
        }
    }
    return true;
}

static int count_l2(struct check *c, const struct check_l2 *t, const uint8_t *table)
{
    const struct qcow2 *q = c->q;
    struct l2_walk w = {c, t, t->active + t->inactive, 0};
    bool plain = q->subclusters == 1 && !qcow2_has_data_file(q);
    unsigned entries = 1u << q->l2_bits;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < entries; i++) {
        const uint8_t *p = table + (size_t)i * q->l2_entry_bytes_each;
        struct qcow2_l2 e = {get_be64(p), q->subclusters > 1 ? get_be64(p + 8) : 0};
        if ((e.entry | e.bitmap) == 0 || (plain && count_plain(&w, e.entry))) {
            continue;
        }
        r = count_entry(&w, e, i);
    }
    return r;
}

static co_fn int count_l2_tables(struct check *c)
{
    uint64_t bytes = c->q->cluster_bytes;
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->l2_count; i++) {
        struct check_l2 t = c->l2[i];
        if (t.host >= c->file_bytes || check_is_hole(c, t.host, bytes)) {
            continue;
        }
        r = check_read(c, t.host, c->buf, bytes);
        if (r < 0) {
            check_tell(c, P_TABLE_READ_L2, 1, t.host);
            return r;
        }
        r = count_l2(c, &t, c->buf);
    }
    return r;
}

/* ---- L1 tables ---- */

static int count_l1_entry(struct check *c, uint64_t entry, uint64_t at, bool active, uint64_t weight)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    if (entry & QCOW2_L1_RESERVED) {
        check_tell(c, P_L1_RESERVED, weight, at, entry);
        c->structural++;
    }
    int r = check_count_range(c, host, c->q->cluster_bytes, weight, at);
    if (r == 0 && qcow2_in_cluster(c->q, host)) {
        check_tell(c, P_L1_UNALIGNED, weight, at, host);
        c->structural++;
    }
    if (active && host &&
        (check_stored(&c->refs, qcow2_cluster_of(c->q, host)) == 1) != ((entry & QCOW2_COPIED) != 0)) {
        c->copied_wrong = true;
    }
    return r < 0 ? r : note_l2(c, host, active, weight);
}

/* Entries in [from, to) of the file. */
static co_fn int count_l1_entries(struct check *c, uint64_t from, uint64_t to, bool active, uint64_t weight)
{
    int r = 0;

    to = MIN(to, round_up(c->file_bytes, 8));
    for (uint64_t at = from; r == 0 && at < to; at += PIECE) {
        uint64_t bytes = MIN(PIECE, to - at);
        if (check_is_hole(c, at, bytes)) {
            continue;
        }
        r = check_read(c, at, c->buf, bytes);
        if (r < 0) {
            check_tell(c, P_TABLE_READ_L1, 1, at);
            return r;
        }
        for (uint64_t i = 0; r == 0 && i < bytes; i += 8) {
            uint64_t entry = get_be64(c->buf + i);
            r = entry ? count_l1_entry(c, entry, at + i, active, weight) : 0;
        }
    }
    return r;
}

/* ---- the snapshots' L1 tables: they may share, and overlap ---- */

struct edge {
    uint64_t at;
    int64_t step; /* how many more tables cover what follows */
};

static int compare_edges(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;

    return (x->at > y->at) - (x->at < y->at);
}

/* Sort the edges of ranges into disjoint segments, and do @one for each. */
static co_fn int each_segment(struct check *c, struct edge *edges, size_t n,
                              co_fn int (*one)(struct check *c, uint64_t from, uint64_t to, uint64_t weight))
{
    int64_t weight = 0;
    int r = 0;

    qsort(edges, n, sizeof(*edges), compare_edges);
    for (size_t i = 0; r == 0 && i + 1 < n; i++) {
        weight += edges[i].step;
        if (weight > 0 && edges[i].at < edges[i + 1].at) {
            r = one(c, edges[i].at, edges[i + 1].at, (uint64_t)weight);
        }
    }
    return r;
}

static co_fn int segment_clusters(struct check *c, uint64_t from, uint64_t to, uint64_t weight)
{
    return check_count_range(c, from, to - from, weight, UINT64_MAX);
}

static co_fn int segment_entries(struct check *c, uint64_t from, uint64_t to, uint64_t weight)
{
    return count_l1_entries(c, from, to, false, weight);
}

/* The edges of snapshot tables: of their @whole clusters that are in the file, or of their entries. */
static size_t snapshot_edges(struct check *c, struct edge *edges, bool whole)
{
    size_t n = 0;

    for (uint32_t i = 0; i < c->snapshots; i++) {
        const struct check_snapshot *s = &c->snapshot[i];
        uint64_t bytes = (uint64_t)s->l1_entries * 8;
        if (s->unusable || bytes == 0 || (whole && check_beyond(c, s->l1_offset, bytes))) {
            continue;
        }
        bytes = whole ? round_up(bytes, c->q->cluster_bytes) : bytes;
        edges[n++] = (struct edge){s->l1_offset, 1};
        edges[n++] = (struct edge){s->l1_offset + bytes, -1};
    }
    return n;
}

static int judge_snapshot(struct check *c, struct check_snapshot *s)
{
    uint64_t bytes = (uint64_t)s->l1_entries * 8;
    int r = 0;

    if (qcow2_in_cluster(c->q, s->l1_offset)) {
        check_tell(c, P_SNAPSHOT_L1_UNALIGNED, 1, s->at, s->id, s->name, s->l1_offset);
    } else if (bytes > QCOW2_L1_BYTES_MAX) {
        check_tell(c, P_SNAPSHOT_L1_SIZE, 1, s->at, s->id, s->name, s->l1_entries);
    } else {
        if (bytes && check_beyond(c, s->l1_offset, bytes)) {
            check_tell(c, P_BEYOND_END, 1, s->at, s->l1_offset, bytes);
            c->snapshots_wrong = true;
            s->unusable = s->l1_offset >= c->file_bytes;
            r = check_note_beyond(c, s->l1_offset, bytes);
        }
        return r;
    }
    c->snapshots_wrong = true;
    s->unusable = true;
    return 0;
}

static co_fn int count_snapshots(struct check *c)
{
    int r = 0;

    if (c->snapshots == 0) {
        return 0;
    }
    if (qcow2_has_data_file(c->q)) {
        check_tell(c, P_SNAPSHOT_DATA_FILE, 1, 60, (int)c->snapshots);
        c->snapshots_wrong = true;
    }
    for (uint32_t i = 0; r == 0 && i < c->snapshots; i++) {
        r = judge_snapshot(c, &c->snapshot[i]);
    }
    AUTO_FREE struct edge *edges = calloc((size_t)c->snapshots * 2, sizeof(*edges));
    if (r < 0 || !edges) {
        return r < 0 ? r : -ENOMEM;
    }
    r = each_segment(c, edges, snapshot_edges(c, edges, true), segment_clusters);
    r = r < 0 ? r : each_segment(c, edges, snapshot_edges(c, edges, false), segment_entries);
    return r < 0 ? r : check_count_range(c, c->q->h.snapshots_offset, c->snapshots_bytes, 1, 64);
}

/* ---- the refcount structure ---- */

static int count_block(struct check *c, uint64_t index, uint64_t entry)
{
    const struct qcow2 *q = c->q;
    uint64_t host = entry & QCOW2_REF_MASK;
    uint64_t at = q->h.reftable_offset + index * 8;

    if (entry & ~QCOW2_REF_MASK) {
        check_tell(c, P_REFTABLE_RESERVED, 1, at, index);
    } else if (qcow2_in_cluster(q, host)) {
        check_tell(c, P_REFBLOCK_UNALIGNED, 1, at, index);
    } else if (qcow2_cluster_of(q, host) >= c->clusters) {
        check_tell(c, P_REFBLOCK_OUTSIDE, 1, at, index);
        c->rebuild = c->rebuild || (c->fix & CHECK_FIX_ERRORS);
        return 0; /* leaks elsewhere can be repaired without */
    } else if (host) {
        int r = check_count_range(c, host, q->cluster_bytes, 1, at);
        if (r < 0 || check_found(&c->refs, qcow2_cluster_of(q, host)) == 1) {
            return r;
        }
        check_tell(c, P_REFBLOCK_SHARED, 1, at, index,
                   (uint64_t)check_found(&c->refs, qcow2_cluster_of(q, host)));
    } else {
        return 0;
    }
    c->rebuild = true;
    return 0;
}

static co_fn int count_blocks(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;
    uint64_t end = MIN(q->h.reftable_offset + bytes, round_up(c->file_bytes, 8));
    int r = 0;

    for (uint64_t at = q->h.reftable_offset; r == 0 && at < end; at += PIECE) {
        uint64_t some = MIN(PIECE, end - at);
        if (check_is_hole(c, at, some)) {
            continue;
        }
        r = check_read(c, at, c->buf, some);
        for (uint64_t i = 0; r == 0 && i < some; i += 8) {
            uint64_t entry = get_be64(c->buf + i);
            r = entry ? count_block(c, (at + i - q->h.reftable_offset) / 8, entry) : 0;
        }
    }
    return r;
}

/* ---- all ---- */

static co_fn int count_active(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t bytes = (uint64_t)q->h.l1_entries * 8;
    int r = check_count_range(c, q->h.l1_offset, bytes, 1, 40);

    return r < 0 ? r : count_l1_entries(c, q->h.l1_offset, q->h.l1_offset + bytes, true, 1);
}

int check_count(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t reftable_bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;

    c->clusters = div_up(c->file_bytes, q->cluster_bytes);
    c->structural = 0;
    c->copied_wrong = c->rebuild = false;
    c->l2_count = c->overs = 0;
    c->overlaps = c->reftable_shared = false;
    if (c->l2_hash) {
        memset(c->l2_hash, 0, (c->l2_mask + 1) * sizeof(*c->l2_hash));
    }
    c->result.allocated_clusters = c->result.fragmented_clusters = c->result.compressed_clusters = 0;
    check_refs_clear_found(&c->refs);
    int r = check_count_range(c, 0, q->cluster_bytes, 1, 0);
    r = r < 0 ? r : count_active(c);
    r = r < 0 ? r : count_snapshots(c);
    r = r < 0 ? r : count_l2_tables(c);
    if (r == 0 && !c->no_refs) {
        uint64_t before = c->structural;
        r = check_count_range(c, q->h.reftable_offset, reftable_bytes, 1, 48);
        c->rebuild = c->rebuild || c->structural != before; /* outside of the file */
        c->structural = before;
    }
    if (r == 0 && q->has_crypto) {
        r = check_count_range(c, q->crypto.offset, q->crypto.bytes, 1, UINT64_MAX);
    }
    r = r < 0 ? r : check_count_bitmaps(c);
    r = r < 0 ? r : check_find_overlaps(c);
    return r < 0 || c->no_refs ? r : count_blocks(c);
}
