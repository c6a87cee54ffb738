/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The last line of defence: no write to the file may hit metadata of another kind. Tables that lie in
 * one piece are compared as ranges; L2 tables and refcount blocks are found through a set of their
 * clusters, so that a check costs the same on a large image. What fails marks the image corrupt.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const part_names[QCOW2_PART_COUNT] = {
    "qcow2_header",   "active L1 table",   "active L2 table",   "refcount block",   "refcount table",
    "snapshot table", "inactive L1 table", "inactive L2 table", "bitmap directory",
};

/* ---- the set of metadata clusters: open addressing, one bit of the value tells the part ---- */

struct qcow2_meta_set {
    uint64_t *slot;    /* cluster << 1 | (is a refcount block), plus 1; 0: empty; 1: was deleted */
    size_t mask, used; /* slots that are not empty */
};
#define DELETED 1

static uint64_t value_of(uint64_t cluster, bool refblock)
{
    return ((cluster << 1) | refblock) + 2;
}

static size_t hash_of(const struct qcow2_meta_set *s, uint64_t cluster)
{
    return (size_t)((cluster * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & s->mask;
}

static uint64_t *find(const struct qcow2_meta_set *s, uint64_t cluster)
{
    for (size_t i = hash_of(s, cluster);; i = (i + 1) & s->mask) {
        if (s->slot[i] == 0) {
            return NULL;
        }
        if (s->slot[i] != DELETED && (s->slot[i] - 2) >> 1 == cluster) {
            return &s->slot[i];
        }
    }
}

static void insert(struct qcow2_meta_set *s, uint64_t cluster, bool refblock)
{
    size_t i = hash_of(s, cluster);

    while (s->slot[i] != 0) {
        i = (i + 1) & s->mask;
    }
    s->slot[i] = value_of(cluster, refblock);
    s->used++;
}

static bool grow(struct qcow2_meta_set *s, size_t slots)
{
    struct qcow2_meta_set old = *s;

    s->slot = calloc(slots, sizeof(*s->slot));
    if (!s->slot) {
        *s = old;
        return false;
    }
    s->mask = slots - 1;
    s->used = 0;
    for (size_t i = 0; old.slot && i <= old.mask; i++) {
        if (old.slot[i] > DELETED) {
            insert(s, (old.slot[i] - 2) >> 1, (old.slot[i] - 2) & 1);
        }
    }
    free(old.slot);
    return true;
}

static bool add(struct qcow2_meta_set *s, uint64_t cluster, bool refblock)
{
    if ((s->used + 1) * 2 > s->mask && !grow(s, (s->mask + 1) * 2)) {
        return false;
    }
    if (!find(s, cluster)) {
        insert(s, cluster, refblock);
    }
    return true;
}

void qcow2_meta_reset(struct qcow2 *q)
{
    if (q->meta) {
        free(q->meta->slot);
        free(TAKE_PTR(q->meta));
    }
}

static bool fill(const struct qcow2 *q, struct qcow2_meta_set *s)
{
    bool ok = true;

    for (uint32_t i = 0; ok && i < q->h.l1_entries; i++) {
        uint64_t host = q->l1[i] & QCOW2_OFFSET_MASK;
        ok = host ? add(s, qcow2_cluster_of(q, host), false) : true;
    }
    for (uint32_t i = 0; ok && i < q->reftable_entries; i++) {
        uint64_t host = q->reftable[i] & QCOW2_REF_MASK;
        ok = host ? add(s, qcow2_cluster_of(q, host), true) : true;
    }
    return ok;
}

static struct qcow2_meta_set *get_set(struct qcow2 *q)
{
    if (!q->meta) {
        struct qcow2_meta_set *s = calloc(1, sizeof(*s));
        if (!s || !grow(s, 64) || !fill(q, s)) {
            free(s ? s->slot : NULL);
            free(s);
            return NULL;
        }
        q->meta = s;
    }
    return q->meta;
}

void qcow2_meta_add(struct qcow2 *q, uint64_t host, enum qcow2_part part)
{
    if (q->meta && !add(q->meta, qcow2_cluster_of(q, host), part == QCOW2_PART_REFBLOCK)) {
        qcow2_meta_reset(q);
    }
}

void qcow2_meta_remove(struct qcow2 *q, uint64_t host)
{
    uint64_t *slot = q->meta ? find(q->meta, qcow2_cluster_of(q, host)) : NULL;

    if (slot) {
        *slot = DELETED;
    }
}

/* ---- checking ---- */

struct hit { /* what was about to be written; no bytes: nothing was */
    uint64_t host, bytes;
};
static co_fn void damaged(struct node *n, bool fatal, struct hit hit, const char *fmt, va_list ap);

static co_fn PRINTF(3, 4) void prevented(struct node *n, struct hit hit, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    damaged(n, true, hit, fmt, ap);
    va_end(ap);
}

static bool hits(const struct qcow2 *q, uint64_t at, uint64_t bytes, uint64_t table, uint64_t table_bytes)
{
    (void)q;
    return table_bytes > 0 && ranges_overlap(at, bytes, table, table_bytes);
}

static bool hits_inactive_l1(const struct qcow2 *q, uint64_t at, uint64_t bytes)
{
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        const struct qcow2_snapshot *e = &q->snapshot[i];
        if (hits(q, at, bytes, e->l1_offset, (uint64_t)e->l1_entries * 8)) {
            return true;
        }
    }
    return false;
}

static unsigned hit_tables(const struct qcow2 *q, uint64_t at, uint64_t bytes)
{
    const struct qcow2_header *h = &q->h;
    unsigned parts = 0;

    parts |= at < q->cluster_bytes ? QCOW2_PART_HEADER : 0;
    parts |= hits(q, at, bytes, h->l1_offset, (uint64_t)h->l1_entries * 8) ? QCOW2_PART_L1 : 0;
    parts |= hits(q, at, bytes, h->reftable_offset, (uint64_t)h->reftable_clusters << q->cluster_bits)
                 ? QCOW2_PART_REFTABLE
                 : 0;
    parts |= h->snapshots && hits(q, at, bytes, h->snapshots_offset,
                                  MAX(q->snapshots_bytes, (uint64_t)h->snapshots * 40))
                 ? QCOW2_PART_SNAPSHOTS
                 : 0;
    parts |= q->snapshots_read && hits_inactive_l1(q, at, bytes) ? QCOW2_PART_INACTIVE_L1 : 0;
    parts |= q->has_bitmaps && (h->autoclear & QCOW2_BITMAPS) &&
                     hits(q, at, bytes, q->bitmaps.directory_offset, q->bitmaps.directory_bytes)
                 ? QCOW2_PART_BITMAPS
                 : 0;
    return parts;
}

static unsigned hit_clusters(struct qcow2 *q, uint64_t at, uint64_t bytes)
{
    struct qcow2_meta_set *s = get_set(q);
    unsigned parts = 0;

    for (uint64_t c = qcow2_cluster_of(q, at); s && c <= qcow2_cluster_of(q, at + bytes - 1); c++) {
        const uint64_t *slot = find(s, c);
        if (slot) {
            parts |= (*slot - 2) & 1 ? QCOW2_PART_REFBLOCK : QCOW2_PART_L2;
        }
    }
    return parts;
}

/* L2 tables of snapshots: their L1 tables are read each time, which is why only overlap-check=all asks. */
static co_fn int hit_inactive_l2(struct node *n, uint64_t at, uint64_t bytes, unsigned *parts)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        AUTO_FREE uint64_t *l1 = NULL;
        uint32_t entries = q->snapshot[i].l1_entries;
        int r = qcow2_read_table(n, q->snapshot[i].l1_offset, entries, &l1);
        if (r < 0) {
            return r;
        }
        for (uint32_t k = 0; k < entries; k++) {
            uint64_t table = l1[k] & QCOW2_OFFSET_MASK;
            *parts |= table && hits(q, at, bytes, table, q->cluster_bytes) ? QCOW2_PART_INACTIVE_L2 : 0;
        }
    }
    return 0;
}

int qcow2_check_write(struct node *n, unsigned allowed, uint64_t host, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);

    if (UNLIKELY(q->corrupt)) {
        return qcow2_refused(n);
    }
    if (bytes == 0 || q->overlap_check == QCOW2_OVERLAP_NONE) {
        return 0;
    }
    unsigned parts = hit_tables(q, host, bytes);
    if (q->overlap_check != QCOW2_OVERLAP_CONSTANT) {
        parts |= hit_clusters(q, host, bytes);
    }
    if (UNLIKELY(q->overlap_check == QCOW2_OVERLAP_ALL) && !(allowed & QCOW2_PART_L2)) {
        int r = hit_inactive_l2(n, host, bytes, &parts);
        if (r < 0) {
            return r;
        }
    }
    parts &= ~allowed;
    if (LIKELY(parts == 0)) {
        return 0;
    }
    prevented(n, (struct hit){host, bytes}, "Preventing invalid write on metadata (overlaps with %s)",
              part_names[__builtin_ctz(parts)]);
    return -EIO;
}

/* ---- damage ---- */

/* Past every check: the image is in no state to trust one. */
static co_fn void set_corrupt_bit(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t bytes[8];

    q->h.incompatible |= QCOW2_CORRUPT;
    put_be64(bytes, q->h.incompatible);
    if (node_write(qcow2_file(n), 72, bytes, sizeof(bytes), 0) == 0) {
        node_flush(qcow2_file(n));
    }
}

static json_t *damage_event(const struct node *n, const char *message, bool fatal, struct hit hit)
{
    json_t *data =
        json_pack("{s:s, s:s, s:b}", "node-name", node_name(n), "msg", message, "fatal", (int)fatal);

    if (data && hit.bytes) {
        json_object_set_new(data, "offset", json_integer((json_int_t)hit.host));
        json_object_set_new(data, "size", json_integer((json_int_t)hit.bytes));
    }
    return data;
}

static co_fn void damaged(struct node *n, bool fatal, struct hit hit, const char *fmt, va_list ap)
{
    struct qcow2 *q = qcow2_of(n);
    char message[256], text[ERR_TEXT_MAX];

    fatal = fatal && !n->read_only;
    if (fatal ? q->corrupt : q->told_corrupt || q->corrupt) {
        return;
    }
    q->told_corrupt = true;
    vsnprintf(message, sizeof(message), fmt, ap);
    snprintf(text, sizeof(text),
             fatal ? "qcow2: Marking image as corrupt: %s; further corruption events will be suppressed"
                   : "qcow2: Image is corrupt: %s; further non-fatal corruption events will be suppressed",
             message);
    if (fatal) {
        q->corrupt = true;
        n->read_only = true;
    }
    if (n->graph->notice) {
        n->graph->notice(n->graph, NOTICE_CORRUPT, text);
    }
    graph_event(n->graph, "BLOCK_IMAGE_CORRUPTED", damage_event(n, message, fatal, hit));
    if (fatal && q->h.version >= 3) {
        set_corrupt_bit(n);
    }
}

void qcow2_damaged(struct node *n, bool fatal, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    damaged(n, fatal, (struct hit){0}, fmt, ap);
    va_end(ap);
}

void qcow2_give_up(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->corrupt && n->graph->notice && !n->graph->standin) { /* QEMU says nothing of it */
        n->graph->notice(
            n->graph, NOTICE_WARNING,
            "qcow2: a change of the image's tables failed, and what they say now is not known: nothing "
            "more is written to it until it is opened again");
    }
    q->corrupt = true;
}
