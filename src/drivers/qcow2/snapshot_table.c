/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of internal snapshots: in memory, read and written. Switching from one list to another is one
 * write to the header.
 */
#include "drivers/qcow2/snapshot.h"

#include <inttypes.h>

#define ENTRY_BYTES     40
#define EXTRA_BYTES     24   /* the extra data that we know */
#define EXTRA_BYTES_MAX 1024 /* QEMU's bounds: memory stays bounded */
#define TABLE_BYTES_MAX (64 * MiB)

/* ---- the table in memory ---- */

void qcow2_snapshot_free(struct qcow2_snapshot *s)
{
    free(s->id);
    free(s->name);
    free(s->unknown);
}

void qcow2_free_snapshots(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        qcow2_snapshot_free(&q->snapshot[i]);
    }
    free(TAKE_PTR(q->snapshot));
    q->snapshots_read = 0;
}

int qcow2_snapshot_find(const struct qcow2 *q, const char *id, const char *name)
{
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        const struct qcow2_snapshot *s = &q->snapshot[i];
        if ((!id || strcmp(s->id, id) == 0) && (!name || strcmp(s->name, name) == 0)) {
            return (int)i;
        }
    }
    return -ENOENT;
}

int qcow2_snapshot_find_any(const struct qcow2 *q, const char *id_or_name)
{
    int i = qcow2_snapshot_find(q, id_or_name, NULL);

    return i < 0 ? qcow2_snapshot_find(q, NULL, id_or_name) : i;
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
        .icount = e->extra_bytes >= 24 ? x.icount : QCOW2_ICOUNT_NONE,
    };
    int r = take_rest(s, e, rest);
    if (r < 0) {
        qcow2_snapshot_free(s);
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
