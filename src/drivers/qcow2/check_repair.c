/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entries that cannot be right are mended: what a guest can read stays readable and the same, and what it
 * could not read reads as zeroes (or as it should, where the entry's damage can be undone). A cluster that is
 * metadata and mapped as data, too, is copied for the data; new clusters are taken behind the end of the
 * file, where nothing can be overwritten. Afterwards everything is counted again.
 */
#include "drivers/qcow2/check.h"

#define L2_RESERVED UINT64_C(0x3f000000000001fe) /* of entries that are not compressed */
#define PIECE       (64 * KiB)

/* ---- space ---- */

int check_new_cluster(struct check *c, uint64_t count, uint64_t *ret_host)
{
    uint64_t bytes = c->q->cluster_bytes;

    if (c->new_at == 0) {
        c->new_at = c->new_first = round_up(c->file_bytes, bytes);
        /* a repair may double the file, not more: entries that share a cluster may be many */
        c->new_left = c->new_at / bytes + 1024;
    }
    if (count > c->new_left || c->new_at + count * bytes > QCOW2_HOST_END) {
        return -ENOSPC;
    }
    *ret_host = c->new_at;
    c->new_at += count * bytes;
    c->new_left -= count;
    return 0;
}

/* [host, host + bytes) copied to new clusters. */
static co_fn int copy_away(struct check *c, uint64_t host, uint64_t bytes, uint64_t *ret_host)
{
    uint64_t cluster = c->q->cluster_bytes, to;
    uint8_t *buf = buf_get(cluster);
    int r = buf ? check_new_cluster(c, div_up(bytes, cluster), &to) : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < bytes; at += cluster) {
        uint64_t some = MIN(cluster, bytes - at);
        memset(buf, 0, cluster);
        r = check_read(c, host + at, buf, some);
        r = r < 0 ? r : check_write(c, to + at, buf, cluster);
    }
    buf_put(buf, cluster);
    if (r == 0) {
        *ret_host = to;
    }
    return r;
}

/* ---- what is written in place, and may be nothing else ---- */

static bool in_range(const struct check *c, uint64_t host, uint64_t bytes, uint64_t at, uint64_t len)
{
    uint64_t unit = c->q->cluster_bytes;

    return len > 0 && !check_beyond(c, at, len) &&
           ranges_overlap(round_down(host, unit), round_up(host % unit + bytes, unit), round_down(at, unit),
                          round_up(at % unit + len, unit));
}

/* The refcount structure is not among them: it is written anew where it is in the way. */
static bool in_place(const struct check *c, uint64_t host, uint64_t bytes)
{
    const struct qcow2 *q = c->q;

    return host < q->cluster_bytes ||
           in_range(c, host, bytes, q->h.l1_offset, (uint64_t)q->h.l1_entries * 8) ||
           in_range(c, host, bytes, q->h.snapshots_offset, c->snapshots ? c->snapshots_bytes : 0) ||
           (q->has_crypto && in_range(c, host, bytes, q->crypto.offset, q->crypto.bytes)) ||
           (q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS) &&
            in_range(c, host, bytes, q->bitmaps.directory_offset, q->bitmaps.directory_bytes));
}

static bool shared_range(const struct check *c, uint64_t at, uint64_t bytes)
{
    if (bytes == 0 || check_beyond(c, at, bytes)) {
        return false;
    }
    uint64_t last = (at + bytes - 1) >> c->q->cluster_bits;
    for (uint64_t k = at >> c->q->cluster_bits; k <= last; k++) {
        if (check_found(&c->refs, k) > 1) {
            return true;
        }
    }
    return false;
}

void check_find_overlaps(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t l1_bytes = (uint64_t)q->h.l1_entries * 8;
    uint64_t reftable_bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;
    bool dir = q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS);

    c->overlaps = shared_range(c, 0, 1) || shared_range(c, q->h.l1_offset, l1_bytes) ||
                  (c->snapshots && shared_range(c, q->h.snapshots_offset, c->snapshots_bytes)) ||
                  (q->has_crypto && shared_range(c, q->crypto.offset, q->crypto.bytes)) ||
                  (dir && shared_range(c, q->bitmaps.directory_offset, q->bitmaps.directory_bytes));
    if (shared_range(c, q->h.reftable_offset, reftable_bytes)) {
        c->reftable_shared = true;
    }
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
    int r = copy_away(c, host - in_sector, bytes + in_sector, &to);
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
           check_found(&c->refs, cluster) <= weight && !check_beyond(c, host, 1) && !in_place(c, host, 1);
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
    int r = copy_away(c, host, q->cluster_bytes, &to);
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
            check_is_hole(c, t.host, bytes)) {
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
    bool metadata = in_place(c, host, bytes);
    if (!metadata && !leaves(c, host >> q->cluster_bits, 1)) {
        return 0;
    }
    if (metadata && !is_l2_table(c, host)) {
        *entry = 0;
        return 0;
    }
    int r = copy_away(c, host, bytes, &to);
    if (r == 0) {
        *entry = to | (*entry & QCOW2_COPIED);
    }
    return r;
}

/* Entries in [from, to) of the file. */
static co_fn int fix_l1_entries(struct check *c, uint64_t from, uint64_t to)
{
    uint8_t *buf = buf_get(PIECE);
    int r = buf ? 0 : -ENOMEM;

    to = MIN(to, round_down(c->file_bytes, 8));
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
    int r = copy_away(c, q->h.l1_offset, bytes, &host);

    r = r < 0 ? r : node_flush(qcow2_file(c->n));
    put_be64(field, r < 0 ? 0 : host);
    r = r < 0 ? r : check_write(c, 40, field, sizeof(field));
    if (r == 0) {
        q->h.l1_offset = host;
        r = node_flush(qcow2_file(c->n));
    }
    return r;
}

static co_fn int fix_active_l1(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t bytes = (uint64_t)q->h.l1_entries * 8;
    int r = 0;

    if (bytes &&
        (check_beyond(c, q->h.l1_offset, bytes) || q->h.l1_offset < q->cluster_bytes ||
         (c->snapshots && in_range(c, q->h.l1_offset, bytes, q->h.snapshots_offset, c->snapshots_bytes)))) {
        r = move_l1(c);
    }
    return r < 0 ? r : fix_l1_entries(c, q->h.l1_offset, q->h.l1_offset + bytes);
}

static co_fn int fix_snapshot_l1(struct check *c)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < c->snapshots; i++) {
        const struct check_snapshot *s = &c->snapshot[i];
        bool seen = s->unusable;
        for (uint32_t j = 0; j < i && !seen; j++) { /* tables are rarely shared, and few when they are */
            seen = !c->snapshot[j].unusable && c->snapshot[j].l1_offset == s->l1_offset &&
                   c->snapshot[j].l1_entries >= s->l1_entries;
        }
        if (!seen) {
            r = fix_l1_entries(c, s->l1_offset, s->l1_offset + (uint64_t)s->l1_entries * 8);
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

int check_repair_entries(struct check *c)
{
    int r = 0;

    if (c->snapshots_wrong) {
        r = check_repair_snapshots(c);
    }
    if (r == 0 && c->bitmaps_wrong) {
        r = check_repair_bitmaps(c);
    }
    r = r < 0 ? r : fix_active_l1(c);
    r = r < 0 ? r : fix_snapshot_l1(c);
    r = r < 0 ? r : count_quietly(c); /* which L2 tables there are now */
    r = r < 0 ? r : fix_l2_tables(c);
    r = r < 0 ? r : node_flush(qcow2_file(c->n));
    return r;
}
