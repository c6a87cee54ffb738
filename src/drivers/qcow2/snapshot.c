/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internal snapshots: created, applied, deleted, shown, listed. A snapshot is a copy of the L1 table;
 * everything it reaches is counted once more. Counts go up, and the marks that a cluster is ours alone go
 * away, before the table that names the snapshot is in force; counts go down after the table without it is.
 * So a crash leaves counts that are too high, never too low. Switching from one L1 table to another is one
 * write to the header.
 */
#include "drivers/qcow2/snapshot.h"

#include <stdio.h>

#include "base/json.h"

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

/* At the end of the list in memory; the strings become its. */
static int append(struct qcow2 *q, struct qcow2_snapshot s)
{
    struct qcow2_snapshot *more = realloc(q->snapshot, (q->snapshots_read + 1) * sizeof(*more));

    if (!more) {
        qcow2_snapshot_free(&s);
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
        qcow2_snapshot_free(&s);
        return r;
    }
    r = append(q, s);
    r = r < 0 ? r : qcow2_snapshot_raise(n, q->l1, q->h.l1_entries);
    if (r < 0) {
        qcow2_release(n, s.l1_offset, (uint64_t)s.l1_entries * 8);
        if (q->snapshots_read > q->h.snapshots) {
            qcow2_snapshot_free(&q->snapshot[--q->snapshots_read]);
        }
        return r;
    }
    r = qcow2_mark_ours(n);
    r = r < 0 ? r : qcow2_write_snapshots(n);
    if (r < 0) { /* it may be in force: what it holds on to leaks */
        qcow2_snapshot_free(&q->snapshot[--q->snapshots_read]);
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
    qcow2_snapshot_drop(n, l1, s.l1_entries, QCOW2_DROP);
    if (s.l1_entries) {
        qcow2_free(n, s.l1_offset, (uint64_t)s.l1_entries * 8, QCOW2_FREE_SNAPSHOT, true);
    }
    qcow2_snapshot_free(&s);
    return qcow2_mark_ours(n);
}

static co_fn int snapshot_delete(struct node *n, const char *id, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int i = qcow2_snapshot_find(q, id, name), r = refuse(n);

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
    qcow2_snapshot_drop(n, old, old_entries, QCOW2_DROP);
    if (old_entries) {
        qcow2_free(n, old_host, (uint64_t)old_entries * 8, QCOW2_FREE_SNAPSHOT, true);
    }
    return qcow2_mark_ours(n);
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
    r = qcow2_snapshot_raise(n, table, entries);
    if (r == 0) {
        r = write_l1_copy(n, table, entries, &host);
        if (r < 0) {
            qcow2_snapshot_drop(n, table, entries, QCOW2_UNDO);
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
    int i = qcow2_snapshot_find_any(q, id_or_name), r = refuse(n);

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
    return qcow2_show_snapshot(n, qcow2_snapshot_find(q, id, name), err);
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
    int r = qcow2_show_snapshot(n, qcow2_snapshot_find_any(q, q->open_snapshot), err);
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
        if (o && s->icount != QCOW2_ICOUNT_NONE) {
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
