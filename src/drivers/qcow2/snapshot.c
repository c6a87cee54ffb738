/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internal snapshots: the table that lists them, and what they hold on to. A snapshot is a copy of
 * the L1 table; everything it reaches is counted once more. Counts go up, and the marks that a
 * cluster is ours alone go away, before the table that names the snapshot is in force; counts go down
 * after the table without it is. So a crash leaves counts that are too high, never too low. Switching
 * from one list, or one L1 table, to another is one write to the header.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"

#define ENTRY_BYTES     40
#define EXTRA_BYTES     24   /* the extra data that we know */
#define EXTRA_BYTES_MAX 1024 /* QEMU's bounds: memory stays bounded */
#define TABLE_BYTES_MAX (64 * MiB)
#define ICOUNT_NONE     UINT64_MAX

/* ---- the table in memory ---- */

static void free_snapshot(struct qcow2_snapshot *s)
{
    free(s->id);
    free(s->name);
    free(s->unknown);
}

void qcow2_free_snapshots(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        free_snapshot(&q->snapshot[i]);
    }
    free(TAKE_PTR(q->snapshot));
    q->snapshots_read = 0;
}

static int find_by(const struct qcow2 *q, const char *id, const char *name)
{
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        const struct qcow2_snapshot *s = &q->snapshot[i];
        if ((!id || strcmp(s->id, id) == 0) && (!name || strcmp(s->name, name) == 0)) {
            return (int)i;
        }
    }
    return -ENOENT;
}

static int find_any(const struct qcow2 *q, const char *id_or_name)
{
    int i = find_by(q, id_or_name, NULL);

    return i < 0 ? find_by(q, NULL, id_or_name) : i;
}

/* One more than the largest number that is an id. */
static int new_id(const struct qcow2 *q, char **ret)
{
    unsigned long max = 0;

    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        unsigned long id = strtoul(q->snapshot[i].id, NULL, 10);
        max = MAX(max, id);
    }
    return asprintf(ret, "%lu", max + 1) < 0 ? -ENOMEM : 0;
}

/* ---- reading it ---- */

static int take_rest(struct qcow2_snapshot *s, const struct qcow2_snapshot_entry *e, const uint8_t *rest)
{
    uint32_t unknown = e->extra_bytes > EXTRA_BYTES ? e->extra_bytes - EXTRA_BYTES : 0;

    s->id = strndup((const char *)rest + e->extra_bytes, e->id_bytes);
    s->name = strndup((const char *)rest + e->extra_bytes + e->id_bytes, e->name_bytes);
    s->unknown = malloc(unknown + 1);
    if (!s->id || !s->name || !s->unknown) {
        return -ENOMEM;
    }
    memcpy(s->unknown, rest + e->extra_bytes - unknown, unknown);
    s->unknown_bytes = unknown;
    return 0;
}

static int parse_rest(const struct qcow2 *q, struct qcow2_snapshot *s, const struct qcow2_snapshot_entry *e,
                      const uint8_t *rest)
{
    struct qcow2_snapshot_extra x;

    layout_parse(&qcow2_snapshot_extra_layout, rest, MIN(e->extra_bytes, (uint32_t)EXTRA_BYTES), 3, &x);
    *s = (struct qcow2_snapshot){
        .l1_offset = e->l1_offset,
        .l1_entries = e->l1_entries,
        .date_s = e->date_s,
        .date_ns = e->date_ns,
        .vm_clock_ns = e->vm_clock_ns,
        .vm_state_bytes = e->extra_bytes >= 8 ? x.vm_state_bytes : e->vm_state_bytes,
        .disk_bytes = e->extra_bytes >= 16 ? x.disk_bytes : q->h.size,
        .icount = e->extra_bytes >= 24 ? x.icount : ICOUNT_NONE,
    };
    int r = take_rest(s, e, rest);
    if (r < 0) {
        free_snapshot(s);
    }
    return r;
}

/* The entry at *offset, which then is the next one's. */
static co_fn int read_entry(struct node *n, uint32_t index, uint64_t *offset, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_snapshot_entry e;
    uint8_t fixed[ENTRY_BYTES];
    int r = qcow2_read_meta(n, *offset, fixed, sizeof(fixed));

    if (r < 0) {
        return err_set_errno(err, r, "Could not read snapshots: Failed to read snapshot table");
    }
    layout_parse(&qcow2_snapshot_layout, fixed, sizeof(fixed), 3, &e);
    if (e.extra_bytes > EXTRA_BYTES_MAX) {
        return err_set(err, -EINVAL,
                       "Could not read snapshots: Too much extra metadata in snapshot table entry %" PRIu32,
                       index);
    }
    size_t rest_bytes = (size_t)e.extra_bytes + e.id_bytes + e.name_bytes;
    AUTO_FREE uint8_t *rest = calloc(1, rest_bytes + 1);
    r = rest ? qcow2_read_meta(n, *offset + ENTRY_BYTES, rest, rest_bytes) : -ENOMEM;
    r = r < 0 ? r : parse_rest(q, &q->snapshot[index], &e, rest);
    if (r < 0) {
        return err_set_errno(err, r, "Could not read snapshots: Failed to read snapshot table");
    }
    q->snapshots_read = index + 1;
    *offset = round_up(*offset + ENTRY_BYTES + rest_bytes, 8);
    if (*offset - q->h.snapshots_offset > TABLE_BYTES_MAX) {
        return err_set(err, -EFBIG, "Could not read snapshots: Snapshot table is too big");
    }
    q->snapshots_bytes = *offset - q->h.snapshots_offset;
    return 0;
}

int qcow2_load_snapshots(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t offset = q->h.snapshots_offset;
    int r = 0;

    if (q->h.snapshots == 0) {
        return 0;
    }
    q->snapshot = calloc(q->h.snapshots, sizeof(*q->snapshot));
    if (!q->snapshot) {
        return err_set(err, -ENOMEM, "no memory for the snapshots");
    }
    for (uint32_t i = 0; r == 0 && i < q->h.snapshots; i++) {
        r = read_entry(n, i, &offset, err);
    }
    return r;
}

/* ---- writing it ---- */

static uint64_t entry_bytes(const struct qcow2_snapshot *s)
{
    return round_up(ENTRY_BYTES + EXTRA_BYTES + s->unknown_bytes + strlen(s->id) + strlen(s->name), 8);
}

static void render_entry(const struct qcow2_snapshot *s, uint8_t *p)
{
    struct qcow2_snapshot_entry e = {
        .l1_offset = s->l1_offset,
        .l1_entries = s->l1_entries,
        .id_bytes = (uint16_t)strlen(s->id),
        .name_bytes = (uint16_t)strlen(s->name),
        .date_s = s->date_s,
        .date_ns = s->date_ns,
        .vm_clock_ns = s->vm_clock_ns,
        .vm_state_bytes = s->vm_state_bytes > UINT32_MAX ? 0 : (uint32_t)s->vm_state_bytes,
        .extra_bytes = EXTRA_BYTES + s->unknown_bytes,
    };
    struct qcow2_snapshot_extra x = {s->vm_state_bytes, s->disk_bytes, s->icount};

    layout_write(&qcow2_snapshot_layout, &e, 3, p, ENTRY_BYTES);
    layout_write(&qcow2_snapshot_extra_layout, &x, 3, p + ENTRY_BYTES, EXTRA_BYTES);
    p += ENTRY_BYTES + EXTRA_BYTES;
    memcpy(p, s->unknown, s->unknown_bytes);
    memcpy(p + s->unknown_bytes, s->id, e.id_bytes);
    memcpy(p + s->unknown_bytes + e.id_bytes, s->name, e.name_bytes);
}

/* The header's two fields lie side by side and go down in one write. */
static co_fn int switch_list(struct node *n, uint32_t count, uint64_t offset)
{
    uint8_t bytes[12];

    put_be32(bytes, count);
    put_be64(bytes + 4, offset);
    return qcow2_switch_header(n, 60, bytes, sizeof(bytes));
}

static co_fn int place_list(struct node *n, const uint8_t *table, uint64_t bytes, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = 0;
    int r = qcow2_alloc_clusters(n, div_up(bytes, q->cluster_bytes), &host);

    if (r < 0) {
        return r;
    }
    r = qcow2_write_meta(n, 0, host, table, bytes);
    r = r < 0 ? r : qcow2_settle(n);
    if (r < 0) {
        qcow2_release(n, host, bytes);
        return r;
    }
    *ret_host = host;
    return 0;
}

/* Put the list in memory in force. Everything that it needs is settled with it. */
int qcow2_write_snapshots(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = 0, at = 0, host = 0;
    int r = 0;

    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        bytes += entry_bytes(&q->snapshot[i]);
    }
    if (bytes > TABLE_BYTES_MAX) {
        return -EFBIG;
    }
    if (bytes) {
        AUTO_FREE uint8_t *table = calloc(1, bytes);
        for (uint32_t i = 0; table && i < q->snapshots_read; i++) {
            render_entry(&q->snapshot[i], table + at);
            at += entry_bytes(&q->snapshot[i]);
        }
        r = table ? place_list(n, table, bytes, &host) : -ENOMEM;
    } else {
        r = qcow2_settle(n);
    }
    r = r < 0 ? r : switch_list(n, q->snapshots_read, host);
    if (r < 0) {
        return r; /* if only the switch failed it may be in force: the new table leaks */
    }
    uint64_t old = q->h.snapshots_offset, old_bytes = q->h.snapshots ? q->snapshots_bytes : 0;
    q->h.snapshots = q->snapshots_read;
    q->h.snapshots_offset = host;
    q->snapshots_bytes = bytes;
    if (old_bytes) {
        qcow2_free(n, old, old_bytes, QCOW2_FREE_SNAPSHOT, true);
    }
    return 0;
}

/* ---- what an L1 table reaches ---- */

enum change {
    RAISE,
    UNDO, /* of a raise that came to nothing */
    DROP, /* a list or table without it is in force */
};

struct walk {
    struct node *n;
    enum change change;
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

    if (w->bytes && w->change == RAISE) {
        r = raise_run(w->n, w->host, w->bytes);
    } else if (w->bytes && w->change == UNDO) {
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
static co_fn int raise_all(struct node *n, const uint64_t *l1, uint32_t entries)
{
    struct walk w = {.n = n, .change = RAISE, .limit = UINT64_MAX};
    int r = walk_l1(&w, l1, entries);

    if (r < 0 && w.done) {
        struct walk back = {.n = n, .change = UNDO, .limit = w.done};
        walk_l1(&back, l1, entries);
    }
    return r;
}

/* What cannot be followed leaks. */
static co_fn void drop_all(struct node *n, const uint64_t *l1, uint32_t entries, enum change change)
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
static co_fn int mark_all(struct node *n)
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

/* ---- beginning and end of a change ---- */

int qcow2_begin_change(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    do {
        node_drain(n);
        co_mutex_lock(&q->lock);
        if (node_in_flight(n) == 0) {
            break;
        }
        co_mutex_unlock(&q->lock);
    } while (true);
    q->frozen = true;
    int r = q->corrupt ? -EIO : qcow2_mark_clean(n);
    return r < 0 ? r : qcow2_write_back(n); /* what became free by that */
}

int qcow2_end_change(struct node *n, int r)
{
    struct qcow2 *q = qcow2_of(n);

    int end = q->corrupt ? -EIO : r == 0 || q->dirty_bit_ours ? qcow2_mark_clean(n) : 0;
    q->written = true;
    q->frozen = false;
    co_mutex_unlock(&q->lock);
    return r < 0 ? r : end;
}

static int refuse(const struct node *n)
{
    const struct qcow2 *q = n->state;

    return n->read_only ? -EROFS : qcow2_has_data_file(q) ? -ENOTSUP : 0;
}

static int check_l1(const struct qcow2 *q, const struct qcow2_snapshot *s)
{
    if ((uint64_t)s->l1_entries * 8 > QCOW2_L1_BYTES_MAX) {
        return -EFBIG;
    }
    bool outside = s->l1_offset > QCOW2_HOST_END || qcow2_in_cluster(q, s->l1_offset);
    return outside || s->disk_bytes > BLOCK_SIZE_MAX ? -EINVAL : 0;
}

/* A table of @entries at a place of its own; counted, written and durable. */
static co_fn int write_l1_copy(struct node *n, const uint64_t *table, uint32_t entries, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = MAX((uint64_t)entries * 8, (uint64_t)8), host = 0;
    int r = qcow2_alloc_clusters(n, div_up(bytes, q->cluster_bytes), &host);

    if (r < 0) {
        return r;
    }
    r = qcow2_write_table(n, 0, host, table, entries);
    r = r < 0 ? r : qcow2_settle(n);
    if (r < 0) {
        qcow2_release(n, host, bytes);
        return r;
    }
    *ret_host = host;
    return 0;
}

/* ---- create ---- */

/* At the end of the list in memory; the strings become its. */
static int append(struct qcow2 *q, struct qcow2_snapshot s)
{
    struct qcow2_snapshot *more = realloc(q->snapshot, (q->snapshots_read + 1) * sizeof(*more));

    if (!more) {
        free_snapshot(&s);
        return -ENOMEM;
    }
    q->snapshot = more;
    q->snapshot[q->snapshots_read++] = s;
    return 0;
}

static co_fn int create_locked(struct node *n, const char *name, const struct snapshot_time *t)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_snapshot s = {.l1_entries = q->h.l1_entries,
                               .date_s = (uint32_t)t->date_s,
                               .date_ns = t->date_ns,
                               .disk_bytes = q->h.size,
                               .name = strdup(name),
                               .unknown = calloc(1, 1)};
    int r = s.name && s.unknown ? new_id(q, &s.id) : -ENOMEM;

    r = r < 0 ? r : write_l1_copy(n, q->l1, q->h.l1_entries, &s.l1_offset);
    if (r < 0) {
        free_snapshot(&s);
        return r;
    }
    r = append(q, s);
    r = r < 0 ? r : raise_all(n, q->l1, q->h.l1_entries);
    if (r < 0) {
        qcow2_release(n, s.l1_offset, (uint64_t)s.l1_entries * 8);
        if (q->snapshots_read > q->h.snapshots) {
            free_snapshot(&q->snapshot[--q->snapshots_read]);
        }
        return r;
    }
    r = mark_all(n);
    r = r < 0 ? r : qcow2_write_snapshots(n);
    if (r < 0) { /* it may be in force: what it holds on to leaks */
        free_snapshot(&q->snapshot[--q->snapshots_read]);
    }
    return r;
}

static co_fn int snapshot_create(struct node *n, const char *name, const struct snapshot_time *t)
{
    struct qcow2 *q = qcow2_of(n);
    int r = refuse(n);

    if (r < 0) {
        return r;
    }
    if (q->h.snapshots >= QCOW2_SNAPSHOTS_MAX || strlen(name) > UINT16_MAX) {
        return -EFBIG;
    }
    r = qcow2_begin_change(n);
    r = r < 0 ? r : qcow2_guard(n);
    return qcow2_end_change(n, r < 0 ? r : create_locked(n, name, t));
}

/* ---- delete ---- */

static co_fn int delete_locked(struct node *n, uint32_t index)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_snapshot s = q->snapshot[index];
    AUTO_FREE uint64_t *l1 = NULL;
    int r = qcow2_read_table(n, s.l1_offset, s.l1_entries, &l1);

    if (r < 0) {
        return r;
    }
    size_t behind = (q->snapshots_read - index - 1) * sizeof(s);
    memmove(&q->snapshot[index], &q->snapshot[index + 1], behind);
    q->snapshots_read--;
    r = qcow2_write_snapshots(n);
    if (r < 0) {
        memmove(&q->snapshot[index + 1], &q->snapshot[index], behind);
        q->snapshot[index] = s;
        q->snapshots_read++;
        return r;
    }
    drop_all(n, l1, s.l1_entries, DROP);
    if (s.l1_entries) {
        qcow2_free(n, s.l1_offset, (uint64_t)s.l1_entries * 8, QCOW2_FREE_SNAPSHOT, true);
    }
    free_snapshot(&s);
    return mark_all(n);
}

static co_fn int snapshot_delete(struct node *n, const char *id, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int i = find_by(q, id, name), r = refuse(n);

    if (i < 0) {
        return err_set(err, -ENOENT, "Can't find the snapshot");
    }
    r = r < 0 ? r : check_l1(q, &q->snapshot[i]);
    if (r < 0) {
        return err_set_errno(err, r, r == -EINVAL ? "Snapshot L1 table offset invalid" : "Cannot be deleted");
    }
    r = qcow2_begin_change(n);
    r = r < 0 ? r : qcow2_guard(n);
    r = qcow2_end_change(n, r < 0 ? r : delete_locked(n, (uint32_t)i));
    return r < 0 ? err_set_errno(err, r, "Failed to remove snapshot from snapshot list") : 0;
}

/* ---- apply ---- */

/* Size, number of L1 entries and their place lie within one sector: the disk changes at once. */
static co_fn int switch_disk(struct node *n, uint64_t size, uint32_t entries, uint64_t host)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t bytes[24];

    put_be64(bytes, size);
    put_be32(bytes + 8, q->h.crypt_method);
    put_be32(bytes + 12, entries);
    put_be64(bytes + 16, host);
    return qcow2_switch_header(n, 24, bytes, sizeof(bytes));
}

/* @table becomes the active one; what the old one reaches is let go. Takes @table. */
static co_fn int activate(struct node *n, const struct qcow2_snapshot *s, uint64_t *table, uint32_t entries,
                          uint64_t host)
{
    struct qcow2 *q = qcow2_of(n);
    int r = switch_disk(n, s->disk_bytes, entries, host);

    if (r < 0) {
        free(table);
        return r; /* it may be in force: it leaks */
    }
    AUTO_FREE uint64_t *old = q->l1;
    uint64_t old_host = q->h.l1_offset;
    uint32_t old_entries = q->h.l1_entries;
    q->l1 = table;
    q->h.l1_offset = host;
    q->h.l1_entries = entries;
    q->h.size = n->size = s->disk_bytes;
    qcow2_set_derived(q);
    qcow2_meta_reset(q);
    drop_all(n, old, old_entries, DROP);
    if (old_entries) {
        qcow2_free(n, old_host, (uint64_t)old_entries * 8, QCOW2_FREE_SNAPSHOT, true);
    }
    return mark_all(n);
}

static co_fn int apply_locked(struct node *n, const struct qcow2_snapshot *s)
{
    struct qcow2 *q = qcow2_of(n);
    uint32_t entries = (uint32_t)MAX((uint64_t)s->l1_entries, qcow2_l1_needed(q, s->disk_bytes));
    uint64_t host = 0;
    AUTO_FREE uint64_t *l1 = NULL;
    int r = (uint64_t)entries * 8 > QCOW2_L1_BYTES_MAX ? -EFBIG : 0;

    r = r < 0 ? r : qcow2_read_table(n, s->l1_offset, s->l1_entries, &l1);
    if (r < 0) {
        return r;
    }
    uint64_t *table = calloc(entries + 1, 8);
    if (!table) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->l1_entries; i++) { /* shared with the snapshot: nothing is ours alone */
        table[i] = l1[i] & QCOW2_OFFSET_MASK;
    }
    r = raise_all(n, table, entries);
    if (r == 0) {
        r = write_l1_copy(n, table, entries, &host);
        if (r < 0) {
            drop_all(n, table, entries, UNDO);
        }
    }
    if (r < 0) {
        free(table);
        return r;
    }
    return activate(n, s, table, entries, host);
}

static co_fn int snapshot_apply(struct node *n, const char *id_or_name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int i = find_any(q, id_or_name), r = refuse(n);

    r = r < 0 ? r : i < 0 ? i : check_l1(q, &q->snapshot[i]);
    if (r == 0 && q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS)) {
        return err_set(err, -EBUSY, "Device has active dirty bitmaps");
    }
    if (r == 0) {
        r = qcow2_begin_change(n);
        r = r < 0 ? r : qcow2_guard(n);
        r = qcow2_end_change(n, r < 0 ? r : apply_locked(n, &q->snapshot[i]));
    }
    return r < 0 ? err_set_errno(err, r, "Failed to load snapshot") : 0;
}

/* ---- reading from one ---- */

int qcow2_show_snapshot(struct node *n, int index, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (index < 0) {
        return err_set(err, -ENOENT, "Can't find snapshot");
    }
    const struct qcow2_snapshot *s = &q->snapshot[index];
    uint64_t *l1 = NULL;
    int r = check_l1(q, s);
    if (r == 0 && s->l1_entries < qcow2_l1_needed(q, s->disk_bytes)) {
        r = -EINVAL;
    }
    r = r < 0 ? r : qcow2_read_table(n, s->l1_offset, s->l1_entries, &l1);
    if (r < 0) {
        return err_set_errno(err, r, "Failed to load snapshot L1 table");
    }
    free(q->l1);
    q->l1 = l1;
    q->h.l1_offset = s->l1_offset;
    q->h.l1_entries = s->l1_entries;
    q->h.size = n->size = s->disk_bytes;
    qcow2_set_derived(q);
    qcow2_meta_reset(q);
    return 0;
}

static co_fn int snapshot_show(struct node *n, const char *id, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (!n->read_only) {
        return err_set(err, -EINVAL, "Device is not readonly");
    }
    return qcow2_show_snapshot(n, find_by(q, id, name), err);
}

int qcow2_open_snapshot(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->open_snapshot) {
        return 0;
    }
    if (!n->read_only) {
        return err_set(err, -EINVAL, "qcow2: a snapshot can only be opened read-only");
    }
    int r = qcow2_show_snapshot(n, find_any(q, q->open_snapshot), err);
    return r < 0 ? err_prefix(err, "snapshot '%s': ", q->open_snapshot) : 0;
}

/* ---- list ---- */

/* A name from the image, which need not be text. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : json_string("?");
}

static co_fn json_t *snapshot_list(struct node *n)
{
    const struct qcow2 *q = n->state;
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < q->snapshots_read; i++) {
        const struct qcow2_snapshot *s = &q->snapshot[i];
        json_t *o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "id", text(s->id), "name", text(s->name),
                              "vm-state-size", (json_int_t)s->vm_state_bytes, "date-sec",
                              (json_int_t)s->date_s, "date-nsec", (json_int_t)s->date_ns, "vm-clock-sec",
                              (json_int_t)(s->vm_clock_ns / NS_PER_SEC), "vm-clock-nsec",
                              (json_int_t)(s->vm_clock_ns % NS_PER_SEC));
        if (o && s->icount != ICOUNT_NONE) {
            json_object_set_new(o, "icount", json_integer((json_int_t)s->icount));
        }
        json_array_append_new(list, o);
    }
    return list;
}

const struct snapshot_ops qcow2_snapshot_ops = {
    .create = snapshot_create,
    .apply = snapshot_apply,
    .delete = snapshot_delete,
    .show = snapshot_show,
    .list = snapshot_list,
};
