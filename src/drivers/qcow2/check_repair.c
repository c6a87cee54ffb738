/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entries that cannot be right are mended: what a guest can read stays readable and the same, and what it
 * could not read reads as zeroes (or as it should, where the entry's damage can be undone). A table that is
 * something else, too, is copied, and only the copy is changed: guest data is never written. Afterwards
 * everything is counted again.
 */
#include "drivers/qcow2/check.h"

#define L2_RESERVED UINT64_C(0x3f000000000001fe) /* of entries that are not compressed */
#define PIECE       (64 * KiB)

/* ---- what is written in place, and may be nothing else ---- */

/* The first range that ends behind @cluster. */
static size_t first_range(const struct check *c, uint64_t cluster)
{
    size_t lo = 0, hi = c->in_places;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->in_place[mid].end <= cluster) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static bool in_place(const struct check *c, uint64_t host, uint64_t bytes)
{
    size_t i = first_range(c, host >> c->q->cluster_bits);

    return i < c->in_places && c->in_place[i].first <= (host + bytes - 1) >> c->q->cluster_bits;
}

/* A range in clusters, and whether several of its kind may lie there. */
struct edge {
    uint64_t at;
    int snapshots, others;
    int uncounted; /* ranges that are not all in the file: nothing was counted for them */
};

static int compare_edges(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;

    return (x->at > y->at) - (x->at < y->at);
}

static size_t add_range(const struct check *c, struct edge *e, uint64_t at, uint64_t bytes, bool snapshot)
{
    if (bytes == 0 || at >= c->file_bytes) {
        return 0;
    }
    int uncounted = check_beyond(c, at, bytes), several = snapshot && !uncounted,
        one = !snapshot && !uncounted;
    uint64_t last = (at + MIN(bytes, c->file_bytes - at) - 1) >> c->q->cluster_bits;
    e[0] = (struct edge){at >> c->q->cluster_bits, several, one, uncounted};
    e[1] = (struct edge){last + 1, -several, -one, -uncounted};
    return 2;
}

static size_t all_ranges(const struct check *c, struct edge *e)
{
    const struct qcow2 *q = c->q;
    size_t n = add_range(c, e, 0, 1, false);

    n += add_range(c, e + n, q->h.l1_offset, (uint64_t)q->h.l1_entries * 8, false);
    n += add_range(c, e + n, q->h.snapshots_offset, c->snapshots ? c->snapshots_bytes : 0, false);
    n += q->has_crypto ? add_range(c, e + n, q->crypto.offset, q->crypto.bytes, false) : 0;
    if (q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS)) {
        n += add_range(c, e + n, q->bitmaps.directory_offset, q->bitmaps.directory_bytes, false);
    }
    for (uint32_t i = 0; i < c->snapshots; i++) {
        const struct check_snapshot *s = &c->snapshot[i];
        n += s->unusable ? 0 : add_range(c, e + n, s->l1_offset, (uint64_t)s->l1_entries * 8, true);
    }
    return n;
}

static bool shared_clusters(const struct check *c, uint64_t first, uint64_t end, uint32_t allowed)
{
    for (uint64_t k = first; k < end; k++) {
        if (check_found(&c->refs, k) > allowed) {
            return true;
        }
    }
    return false;
}

static bool shared_range(const struct check *c, uint64_t at, uint64_t bytes)
{
    return bytes > 0 && !check_beyond(c, at, bytes) &&
           shared_clusters(c, at >> c->q->cluster_bits, ((at + bytes - 1) >> c->q->cluster_bits) + 1, 1);
}

bool check_range_shared(const struct check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> c->q->cluster_bits, last = (offset + bytes - 1) >> c->q->cluster_bits;

    for (size_t i = first_range(c, first); i < c->in_places && c->in_place[i].first <= last; i++) {
        if (c->in_place[i].shared) {
            return true;
        }
    }
    return false;
}

/* The refcount structure is not among the ranges: it is written anew where it is in the way. */
int check_find_overlaps(struct check *c)
{
    const struct qcow2 *q = c->q;
    AUTO_FREE struct edge *e = calloc(2 * ((size_t)c->snapshots + 5), sizeof(*e));
    struct check_range *ranges = calloc(2 * ((size_t)c->snapshots + 5), sizeof(*ranges));
    int snapshots = 0, others = 0, uncounted = 0;

    free(c->in_place);
    c->in_place = ranges;
    c->in_places = 0;
    if (!e || !ranges) {
        return -ENOMEM;
    }
    size_t n = all_ranges(c, e);
    qsort(e, n, sizeof(*e), compare_edges);
    for (size_t i = 0; i + 1 < n; i++) {
        snapshots += e[i].snapshots;
        others += e[i].others;
        uncounted += e[i].uncounted;
        if (snapshots + others + uncounted > 0 && e[i].at < e[i + 1].at) {
            uint32_t allowed = others > 0 ? 1 : (uint32_t)snapshots;
            bool shared = shared_clusters(c, e[i].at, e[i + 1].at, allowed);
            ranges[c->in_places++] = (struct check_range){e[i].at, e[i + 1].at, shared};
            c->overlaps = c->overlaps || shared;
        }
    }
    for (size_t i = 0; i < c->l2_count; i++) {
        struct check_l2 *t = &c->l2[i];
        t->shared = check_found(&c->refs, t->host >> q->cluster_bits) > t->active + t->inactive;
        c->overlaps = c->overlaps || t->shared;
    }
    c->reftable_shared =
        shared_range(c, q->h.reftable_offset, (uint64_t)q->h.reftable_clusters << q->cluster_bits);
    return 0;
}

/* ---- clusters with more references than a refcount can hold ---- */

static struct check_over *over(const struct check *c, uint64_t cluster)
{
    for (size_t i = 0; i < c->overs; i++) {
        if (c->over[i].cluster == cluster && c->over[i].excess > 0) {
            return &c->over[i];
        }
    }
    return NULL;
}

/* One user of a cluster that has too many gets a copy. */
static bool leaves(struct check *c, uint64_t cluster, uint64_t weight)
{
    struct check_over *o = over(c, cluster);

    if (o) {
        o->excess -= MIN(o->excess, weight);
    }
    return o != NULL;
}

/* ---- L2 entries ---- */

struct l2_fix {
    struct check *c;
    uint64_t weight;
};

/* An entry that reads as zeroes. */
static co_fn int zero_entry(struct check *c, struct qcow2_l2 *e)
{
    const struct qcow2 *q = c->q;

    if (q->subclusters > 1) {
        *e = (struct qcow2_l2){0, QCOW2_ALL_ZERO};
    } else if (q->h.version >= 3) {
        *e = (struct qcow2_l2){QCOW2_ZERO, 0};
    } else if (!q->backing_name) {
        *e = (struct qcow2_l2){0, 0};
    } else { /* version 2 has no other way to hide the backing file */
        uint8_t *buf = buf_get(q->cluster_bytes);
        uint64_t host = 0;
        int r = buf ? check_new_cluster(c, 1, &host) : -ENOMEM;
        if (r == 0) {
            memset(buf, 0, q->cluster_bytes);
            r = check_write(c, host, buf, q->cluster_bytes);
        }
        buf_put(buf, q->cluster_bytes);
        if (r < 0) {
            return r;
        }
        *e = (struct qcow2_l2){host | QCOW2_COPIED, 0};
    }
    return 0;
}

static co_fn int fix_compressed(struct l2_fix *f, struct qcow2_l2 *e)
{
    struct check *c = f->c;
    uint64_t host, bytes, to;

    qcow2_compressed_range(c->q, e->entry, &host, &bytes);
    e->entry &= ~QCOW2_COPIED;
    e->bitmap = 0;
    if (qcow2_has_data_file(c->q) || check_beyond(c, host, bytes)) {
        return zero_entry(c, e);
    }
    bool leave = in_place(c, host, bytes);
    for (uint64_t k = host >> c->q->cluster_bits; k <= (host + bytes - 1) >> c->q->cluster_bits; k++) {
        leave = leaves(c, k, f->weight) || leave;
    }
    if (!leave) {
        return 0;
    }
    uint64_t in_sector = host % SECTOR_SIZE;
    int r = check_copy_away(c, host - in_sector, bytes + in_sector, &to);
    if (r == 0) {
        e->entry = e->entry - host + to + in_sector;
    }
    return r;
}

/* The low bits of an unaligned offset are damaged: is the cluster it must have meant there, and nobody
 * else's? */
static bool can_align(const struct check *c, uint64_t host, uint64_t weight)
{
    uint64_t cluster = host >> c->q->cluster_bits;

    return !qcow2_has_data_file(c->q) && cluster > 0 && check_stored(&c->refs, cluster) > 0 &&
           check_found(&c->refs, cluster) <= weight && !check_beyond(c, host, 1) && !in_place(c, host, 1) &&
           !check_find_l2(c, round_down(host, c->q->cluster_bytes));
}

static co_fn int fix_host(struct l2_fix *f, struct qcow2_l2 *e)
{
    struct check *c = f->c;
    const struct qcow2 *q = c->q;
    uint64_t host = e->entry & QCOW2_OFFSET_MASK, to;
    bool data = q->subclusters > 1 ? (uint32_t)e->bitmap : !(e->entry & QCOW2_ZERO);

    if (qcow2_in_cluster(q, host)) {
        e->entry &= ~(QCOW2_OFFSET_MASK | QCOW2_COPIED);
        if (!data) {
            return 0;
        }
        if (!can_align(c, host, f->weight)) {
            return zero_entry(c, e);
        }
        e->entry |= round_down(host, q->cluster_bytes);
        return 0;
    }
    if (qcow2_has_data_file(q)) {
        return 0;
    }
    if (check_beyond(c, host, q->cluster_bytes)) {
        e->entry &= ~(QCOW2_OFFSET_MASK | QCOW2_COPIED);
        return data ? zero_entry(c, e) : 0;
    }
    if (!in_place(c, host, q->cluster_bytes) && !leaves(c, host >> q->cluster_bits, f->weight)) {
        return 0;
    }
    if (!data) {
        e->entry &= ~(QCOW2_OFFSET_MASK | QCOW2_COPIED);
        return 0;
    }
    int r = check_copy_away(c, host, q->cluster_bytes, &to);
    if (r == 0) {
        e->entry = (e->entry & ~QCOW2_OFFSET_MASK) | to;
    }
    return r;
}

static co_fn int fix_entry(struct l2_fix *f, struct qcow2_l2 *e)
{
    const struct qcow2 *q = f->c->q;

    if (e->entry & QCOW2_COMPRESSED) {
        return fix_compressed(f, e);
    }
    e->entry &= ~L2_RESERVED;
    if (q->subclusters > 1) {
        e->bitmap &= ~(e->bitmap << 32); /* what says data and zeroes is data: nothing is thrown away */
        if (!qcow2_l2_has_host(q, *e)) {
            e->bitmap &= QCOW2_ALL_ZERO;
        }
    }
    return qcow2_l2_has_host(q, *e) ? fix_host(f, e) : 0;
}

static co_fn int fix_l2(struct check *c, const struct check_l2 *t, uint8_t *table)
{
    const struct qcow2 *q = c->q;
    struct l2_fix f = {c, t->active + t->inactive};
    bool changed = false;
    int r = check_read(c, t->host, table, q->cluster_bytes);

    for (unsigned i = 0; r == 0 && i < 1u << q->l2_bits; i++) {
        uint8_t *p = table + (size_t)i * q->l2_entry_bytes_each;
        struct qcow2_l2 e = {get_be64(p), q->subclusters > 1 ? get_be64(p + 8) : 0}, old = e;
        if ((e.entry | e.bitmap) == 0) {
            continue;
        }
        r = fix_entry(&f, &e);
        if (r == -ENOSPC) { /* the entry stays as it is, and is told again */
            r = 0;
            continue;
        }
        if (e.entry != old.entry || e.bitmap != old.bitmap) {
            put_be64(p, e.entry);
            if (q->subclusters > 1) {
                put_be64(p + 8, e.bitmap);
            }
            changed = true;
        }
    }
    if (r == 0 && changed) {
        r = node_flush(qcow2_file(c->n)); /* copies before what names them */
        r = r < 0 ? r : check_write(c, t->host, table, q->cluster_bytes);
    }
    return r;
}

static co_fn int fix_l2_tables(struct check *c)
{
    uint64_t bytes = c->q->cluster_bytes;
    uint8_t *table = buf_get(bytes);
    int r = table ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < c->l2_count; i++) {
        struct check_l2 t = c->l2[i];
        if (qcow2_in_cluster(c->q, t.host) || check_beyond(c, t.host, bytes) || in_place(c, t.host, bytes) ||
            t.shared || check_is_hole(c, t.host, bytes)) {
            continue;
        }
        r = fix_l2(c, &t, table);
    }
    buf_put(table, bytes);
    return r;
}

/* ---- L1 entries ---- */

/* Does it look like an L2 table? Everything in it must be possible, and something must be in it. */
static co_fn bool is_l2_table(struct check *c, uint64_t host)
{
    const struct qcow2 *q = c->q;
    uint8_t *table = buf_get(q->cluster_bytes);
    bool good = table && check_read(c, host, table, q->cluster_bytes) == 0;
    unsigned used = 0;

    for (unsigned i = 0; good && i < 1u << q->l2_bits; i++) {
        uint64_t e = get_be64(table + (size_t)i * q->l2_entry_bytes_each);
        uint64_t at = e & QCOW2_OFFSET_MASK, bytes = q->cluster_bytes;
        if (e & QCOW2_COMPRESSED) {
            qcow2_compressed_range(q, e, &at, &bytes);
            good = !(e & QCOW2_COPIED);
        } else {
            good = !(e & L2_RESERVED) && !qcow2_in_cluster(q, at);
        }
        good = good && (qcow2_has_data_file(q) || !check_beyond(c, at, bytes));
        used += e != 0;
    }
    buf_put(table, q->cluster_bytes);
    return good && used > 0;
}

static co_fn int fix_l1_entry(struct check *c, uint64_t *entry)
{
    const struct qcow2 *q = c->q;
    uint64_t bytes = q->cluster_bytes, to;

    *entry &= ~QCOW2_L1_RESERVED;
    uint64_t host = *entry & QCOW2_OFFSET_MASK;
    if (qcow2_in_cluster(q, host)) {
        host = round_down(host, bytes);
        bool there = !check_beyond(c, host, bytes) && check_stored(&c->refs, host >> q->cluster_bits) > 0 &&
                     !in_place(c, host, bytes) && is_l2_table(c, host);
        *entry = there ? host | (*entry & QCOW2_COPIED) : 0;
        return 0;
    }
    if (host == 0 || check_beyond(c, host, bytes)) {
        *entry = 0;
        return 0;
    }
    struct check_l2 *t = check_find_l2(c, host);
    bool own = leaves(c, host >> q->cluster_bits, 1);
    if (!own && !in_place(c, host, bytes) && !(t && t->shared)) {
        return 0;
    }
    int r = 0;
    to = t && !own ? t->moved : 0;
    if (to == 0) { /* else it has been copied for another entry */
        r = check_copy_away(c, host, bytes, &to);
    }
    if (r == 0) {
        *entry = to | (*entry & QCOW2_COPIED);
        if (t && !own) {
            t->moved = to;
        }
    }
    return r;
}

/* Entries in [from, to) of the file. */
static co_fn int fix_l1_entries(struct check *c, uint64_t from, uint64_t to)
{
    uint8_t *buf = buf_get(PIECE);
    int r = buf ? 0 : -ENOMEM;

    to = MIN(to, round_up(c->file_bytes, 8));
    for (uint64_t at = from; r == 0 && at < to; at += PIECE) {
        uint64_t bytes = MIN(PIECE, to - at);
        bool changed = false;
        if (check_is_hole(c, at, bytes)) {
            continue;
        }
        r = check_read(c, at, buf, bytes);
        for (uint64_t i = 0; r == 0 && i < bytes; i += 8) {
            uint64_t entry = get_be64(buf + i), old = entry;
            r = entry ? fix_l1_entry(c, &entry) : 0;
            r = r == -ENOSPC ? 0 : r;
            if (r == 0 && entry != old) {
                put_be64(buf + i, entry);
                changed = true;
            }
        }
        if (r == 0 && changed) {
            r = node_flush(qcow2_file(c->n));
            r = r < 0 ? r : check_write(c, at, buf, bytes);
        }
    }
    buf_put(buf, PIECE);
    return r;
}

/* The active L1 table is not (all) in the file, or lies on something else: a copy of what there is. */
static co_fn int move_l1(struct check *c)
{
    struct qcow2 *q = c->q;
    uint64_t bytes = (uint64_t)q->h.l1_entries * 8, host;
    uint8_t field[8];
    int r = check_copy_away(c, q->h.l1_offset, bytes, &host);

    r = r < 0 ? r : node_flush(qcow2_file(c->n));
    put_be64(field, r < 0 ? 0 : host);
    r = r < 0 ? r : check_write(c, 40, field, sizeof(field));
    if (r == 0) {
        q->h.l1_offset = host;
        r = node_flush(qcow2_file(c->n));
    }
    return r;
}

static bool l1_is_misplaced(const struct check *c)
{
    uint64_t bytes = (uint64_t)c->q->h.l1_entries * 8;

    return bytes && (check_beyond(c, c->q->h.l1_offset, bytes) || shared_range(c, c->q->h.l1_offset, bytes));
}

static co_fn int fix_snapshot_l1(struct check *c)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < c->snapshots; i++) {
        const struct check_snapshot *s = &c->snapshot[i];
        uint64_t bytes = (uint64_t)s->l1_entries * 8;
        /* one that is something else, too, and could not be moved, stays as it is */
        bool seen = s->unusable || bytes == 0 || check_range_shared(c, s->l1_offset, bytes);
        for (uint32_t j = 0; j < i && !seen; j++) { /* tables are rarely shared, and few when they are */
            seen = !c->snapshot[j].unusable && c->snapshot[j].l1_offset == s->l1_offset &&
                   c->snapshot[j].l1_entries >= s->l1_entries;
        }
        if (!seen) {
            r = fix_l1_entries(c, s->l1_offset, s->l1_offset + bytes);
        }
    }
    return r;
}

/* ---- all ---- */

static co_fn int count_quietly(struct check *c)
{
    c->quiet = true;
    int r = check_count(c);
    c->quiet = false;
    return r;
}

static co_fn int fix_l1_tables(struct check *c)
{
    const struct qcow2 *q = c->q;
    int r = fix_l1_entries(c, q->h.l1_offset, q->h.l1_offset + (uint64_t)q->h.l1_entries * 8);

    return r < 0 ? r : fix_snapshot_l1(c);
}

/* Its L1 table is not all in the file, or is something else, too. */
bool check_snapshot_moves(const struct check *c, const struct check_snapshot *s)
{
    uint64_t bytes = (uint64_t)s->l1_entries * 8;

    return !s->unusable && bytes > 0 &&
           (check_beyond(c, s->l1_offset, bytes) || check_range_shared(c, s->l1_offset, bytes));
}

int check_repair_entries(struct check *c)
{
    bool table_shared = c->snapshots && shared_range(c, c->q->h.snapshots_offset, c->snapshots_bytes);
    bool snapshots_shared = false;
    int r = l1_is_misplaced(c) ? move_l1(c) : 0;

    for (uint32_t i = 0; i < c->snapshots; i++) {
        const struct check_snapshot *s = &c->snapshot[i];
        snapshots_shared = snapshots_shared || check_snapshot_moves(c, s);
    }
    if (r == 0 && (c->snapshots_wrong || table_shared || snapshots_shared)) {
        r = check_repair_snapshots(c);
    }
    if (r == 0 && c->bitmaps_wrong) {
        r = check_repair_bitmaps(c);
    }
    r = r < 0 ? r : count_quietly(c); /* what lies where now */
    r = r < 0 ? r : fix_l1_tables(c);
    r = r < 0 ? r : count_quietly(c); /* which L2 tables there are now */
    r = r < 0 ? r : fix_l2_tables(c);
    return r < 0 ? r : node_flush(qcow2_file(c->n));
}
