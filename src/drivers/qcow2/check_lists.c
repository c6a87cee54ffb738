/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshot table and bitmap directory, as the check sees them: lists of entries of different length, kept
 * as they are on disk, so that a repair writes back what it does not understand.
 */
#include "drivers/qcow2/check.h"

#include <stdio.h>

#define ENTRY_BYTES     40u        /* fixed part of a snapshot table entry */
#define EXTRA_MAX       1024u      /* QEMU keeps no more extra data */
#define EXTRA_NEEDED    16u        /* version 3: size of the VM state and of the disk */
#define TABLE_BYTES_MAX (64 * MiB) /* of snapshots, as QEMU's */
#define DIRECTORY_ENTRY 24u        /* fixed part */
#define DIRECTORY_MAX   (64 * MiB) /* of bitmaps, as QEMU's */
#define TABLE_MAX       (1 * GiB)  /* of one bitmap, as QEMU's */

/* ---- snapshots ---- */

void check_free_snapshots(struct check *c)
{
    for (uint32_t i = 0; i < c->snapshots; i++) {
        free(c->snapshot[i].id);
        free(c->snapshot[i].name);
        free(c->snapshot[i].entry);
    }
    free(TAKE_PTR(c->snapshot));
    c->snapshots = 0;
}

static uint64_t field_of(const struct layout *l, const char *name, const uint8_t *bytes)
{
    return field_get(layout_field(l, name), bytes);
}

/* Extra data, id and name behind the fixed part. */
static co_fn int read_rest(struct check *c, struct check_snapshot *s, const uint8_t *fixed)
{
    uint32_t id = (uint32_t)field_of(&qcow2_snapshot_layout, "id_size", fixed);
    uint32_t name = (uint32_t)field_of(&qcow2_snapshot_layout, "name_size", fixed);
    uint32_t kept = MIN(s->extra_bytes, EXTRA_MAX);
    uint64_t texts_at = s->at + ENTRY_BYTES + s->extra_bytes;

    s->entry_bytes = ENTRY_BYTES + kept + id + name;
    s->entry = malloc(s->entry_bytes);
    if (!s->entry) {
        return -ENOMEM;
    }
    if (texts_at + id + name > c->file_bytes) {
        return -ENODATA;
    }
    memcpy(s->entry, fixed, ENTRY_BYTES);
    put_be32(s->entry + 36, kept);
    int r = kept ? check_read(c, s->at + ENTRY_BYTES, s->entry + ENTRY_BYTES, kept) : 0;
    if (r == 0 && id + name > 0) {
        r = check_read(c, texts_at, s->entry + ENTRY_BYTES + kept, id + name);
    }
    s->id = r < 0 ? NULL : strndup((char *)s->entry + ENTRY_BYTES + kept, id);
    s->name = r < 0 ? NULL : strndup((char *)s->entry + ENTRY_BYTES + kept + id, name);
    return r < 0 ? r : s->id && s->name ? 0 : -ENOMEM;
}

static co_fn int read_entry(struct check *c, uint32_t index, uint64_t at, uint64_t *ret_next)
{
    struct check_snapshot *s = &c->snapshot[index];
    uint8_t fixed[ENTRY_BYTES];

    c->snapshots = index + 1;
    s->at = at;
    if (at + ENTRY_BYTES > c->file_bytes) {
        return -ENODATA;
    }
    int r = check_read(c, at, fixed, sizeof(fixed));
    if (r < 0) {
        return r;
    }
    s->l1_offset = field_of(&qcow2_snapshot_layout, "l1_table_offset", fixed);
    s->l1_entries = (uint32_t)field_of(&qcow2_snapshot_layout, "l1_size", fixed);
    s->extra_bytes = (uint32_t)field_of(&qcow2_snapshot_layout, "extra_data_size", fixed);
    r = read_rest(c, s, fixed);
    if (r < 0) {
        return r;
    }
    uint64_t texts = s->entry_bytes - ENTRY_BYTES - MIN(s->extra_bytes, EXTRA_MAX);
    *ret_next = at + round_up(ENTRY_BYTES + s->extra_bytes + texts, 8);
    return 0;
}

static void judge_entry(struct check *c, uint32_t index)
{
    const struct check_snapshot *s = &c->snapshot[index];

    if (s->extra_bytes > EXTRA_MAX) {
        check_tell(c, P_SNAPSHOT_EXTRA, 1, s->at + 36, (int)index, s->extra_bytes, EXTRA_MAX);
        c->snapshots_wrong = true;
    }
    if (c->q->h.version >= 3 && s->extra_bytes < EXTRA_NEEDED) {
        check_tell(c, P_SNAPSHOT_INCOMPLETE, 1, s->at + 36, (int)index);
        c->snapshots_wrong = true;
    }
}

/* The file ends before entry @index does: neither it nor those behind it can be read. */
static void end_list(struct check *c, uint32_t index, uint64_t at)
{
    check_tell(c, P_SNAPSHOT_BEYOND, c->q->h.snapshots - index, at, (int)index);
    free(TAKE_PTR(c->snapshot[index].entry));
    c->snapshots = index;
    c->snapshots_wrong = true;
}

static co_fn int snapshot_table_bad(struct check *c, uint64_t at, int r, const char *why)
{
    check_tell(c, P_SNAPSHOT_TABLE, 1, at, why);
    return r;
}

int check_load_snapshots(struct check *c)
{
    const struct qcow2_header *h = &c->q->h;
    uint64_t at = h->snapshots_offset, next = at;

    if (h->snapshots == 0) {
        return 0;
    }
    c->snapshot = calloc(h->snapshots, sizeof(*c->snapshot));
    if (!c->snapshot) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < h->snapshots; i++, at = next) {
        int r = read_entry(c, i, at, &next);
        if (r == -ENODATA) {
            end_list(c, i, at);
            break;
        }
        if (r < 0) {
            return snapshot_table_bad(c, at, r, "Failed to read snapshot table");
        }
        if (next - h->snapshots_offset > TABLE_BYTES_MAX) {
            return snapshot_table_bad(c, at, -EFBIG, "Snapshot table is too big");
        }
        judge_entry(c, i);
    }
    c->snapshots_bytes = next - h->snapshots_offset;
    return 0;
}

/* The entry as it should be: bytes at @out (NULL: only the length). */
static uint64_t render_entry(const struct check *c, const struct check_snapshot *s, uint8_t *out)
{
    uint32_t kept = MIN(s->extra_bytes, EXTRA_MAX);
    uint32_t extra = c->q->h.version >= 3 ? MAX(kept, EXTRA_NEEDED) : kept;
    uint32_t texts = s->entry_bytes - ENTRY_BYTES - kept;
    uint64_t bytes = round_up(ENTRY_BYTES + extra + texts, 8);

    if (!out) {
        return bytes;
    }
    memcpy(out, s->entry, ENTRY_BYTES + kept);
    if (kept < 8 && extra >= EXTRA_NEEDED) { /* the fixed part has 32 bits for it */
        put_be64(out + ENTRY_BYTES, get_be32(s->entry + 32));
    }
    if (kept < EXTRA_NEEDED && extra >= EXTRA_NEEDED) { /* as old as that: the disk had the size it has */
        put_be64(out + ENTRY_BYTES + 8, c->q->h.size);
    }
    put_be32(out + 36, extra);
    memcpy(out + ENTRY_BYTES + extra, s->entry + ENTRY_BYTES + kept, texts);
    return bytes;
}

static co_fn int switch_snapshots(struct check *c, uint64_t host, uint32_t count)
{
    uint8_t bytes[12];

    put_be32(bytes, count);
    put_be64(bytes + 4, host);
    int r = node_flush(qcow2_file(c->n));
    r = r < 0 ? r : check_write(c, 60, bytes, sizeof(bytes));
    if (r == 0) {
        c->q->h.snapshots = count;
        c->q->h.snapshots_offset = host;
        r = node_flush(qcow2_file(c->n));
    }
    return r;
}

static co_fn int move_l1(struct check *c, struct check_snapshot *s)
{
    uint64_t host;
    int r = check_copy_away(c, s->l1_offset, (uint64_t)s->l1_entries * 8, &host);

    if (r == 0) {
        s->l1_offset = host;
        put_be64(s->entry, host);
    }
    return r == -ENOSPC ? 0 : r; /* it stays where it is, and is told again */
}

/* Write the table anew without entries that cannot be used. */
int check_repair_snapshots(struct check *c)
{
    uint64_t bytes = 0, host = 0, at = 0;
    uint32_t count = 0;
    bool none = qcow2_has_data_file(c->q); /* the format does not allow them there */
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < c->snapshots; i++) {
        c->snapshot[i].unusable = c->snapshot[i].unusable || none;
        r = check_snapshot_moves(c, &c->snapshot[i]) ? move_l1(c, &c->snapshot[i]) : 0;
        bytes += c->snapshot[i].unusable ? 0 : render_entry(c, &c->snapshot[i], NULL);
        count += !c->snapshot[i].unusable;
    }
    AUTO_FREE uint8_t *table = calloc(1, bytes + 1);
    if (r < 0 || !table) {
        return r < 0 ? r : -ENOMEM;
    }
    for (uint32_t i = 0; i < c->snapshots; i++) {
        at += c->snapshot[i].unusable ? 0 : render_entry(c, &c->snapshot[i], table + at);
    }
    if (bytes > 0) {
        r = check_new_cluster(c, div_up(bytes, c->q->cluster_bytes), &host);
        r = r < 0 ? r : check_write(c, host, table, bytes);
    }
    r = r < 0 ? r : switch_snapshots(c, host, count);
    if (r < 0) {
        return r;
    }
    c->snapshots_wrong = false;
    check_free_snapshots(c);
    return check_load_snapshots(c);
}

/* ---- bitmaps ---- */

struct bitmap {
    uint64_t table_offset, entries;
    uint32_t name_bytes, extra_bytes;
    const uint8_t *name;
};

static const char *judge_bitmap(const struct check *c, const uint8_t *entry, const struct bitmap *b)
{
    uint64_t type = field_of(&qcow2_bitmap_layout, "type", entry);
    uint64_t shift = field_of(&qcow2_bitmap_layout, "granularity_bits", entry);

    if (b->extra_bytes) {
        return "Bitmap extra data is not supported";
    }
    if (type != 1 || shift < 9 || shift > 31 || b->name_bytes == 0 || b->name_bytes > 1023 ||
        (b->table_offset == 0) || b->entries == 0 || qcow2_in_cluster(c->q, b->table_offset) ||
        b->entries * 8 > TABLE_MAX || (get_be32(entry + 12) & ~UINT32_C(7))) {
        return "a bitmap does not satisfy the constraints";
    }
    return NULL;
}

static co_fn int count_bitmap_clusters(struct check *c, const struct bitmap *b)
{
    uint64_t end = MIN(b->table_offset + b->entries * 8, round_up(c->file_bytes, 8));
    int r = 0;

    for (uint64_t at = b->table_offset; r == 0 && at < end; at += 64 * KiB) {
        uint64_t some = MIN(64 * KiB, end - at);
        r = check_is_hole(c, at, some) ? 0 : check_read(c, at, c->buf, some);
        for (uint64_t i = 0; r == 0 && i < some; i += 8) {
            uint64_t entry = get_be64(c->buf + i), host = entry & QCOW2_OFFSET_MASK;
            bool bad = (entry & UINT64_C(0xff000000000001fe)) || (host && (entry & 1)) ||
                       qcow2_in_cluster(c->q, host);
            if (bad) {
                check_tell(c, P_BITMAP_ENTRY, 1, at + i, entry);
                c->bitmaps_wrong = true;
            } else if (host) {
                uint64_t before = c->structural;
                r = check_count_range(c, host, c->q->cluster_bytes, 1, at + i);
                c->bitmaps_wrong = c->bitmaps_wrong || c->structural != before;
                c->structural = before;
            }
        }
    }
    return r;
}

static co_fn int count_bitmap(struct check *c, const struct bitmap *b)
{
    uint64_t before = c->structural;
    int r = check_count_range(c, b->table_offset, b->entries * 8, 1, UINT64_MAX);

    if (r == 0 && c->structural != before) {
        c->bitmaps_wrong = true;
        c->structural = before;
        return 0;
    }
    return r < 0 ? r : count_bitmap_clusters(c, b);
}

static int directory_bad(struct check *c, uint64_t at, const char *why)
{
    check_tell(c, P_BITMAP_DIRECTORY, 1, at, why);
    c->bitmaps_wrong = true;
    return 0;
}

/* What all tables together may be: beyond the file they share clusters, which no image does. */
static co_fn int count_directory(struct check *c, const uint8_t *dir)
{
    const struct qcow2_bitmaps_ext *x = &c->q->bitmaps;
    uint64_t at = 0, total = 0;
    uint32_t found = 0;
    int r = 0;

    while (r == 0 && at + DIRECTORY_ENTRY <= x->directory_bytes) {
        const uint8_t *e = dir + at;
        struct bitmap b = {
            .table_offset = field_of(&qcow2_bitmap_layout, "bitmap_table_offset", e),
            .entries = field_of(&qcow2_bitmap_layout, "bitmap_table_size", e),
            .name_bytes = (uint32_t)field_of(&qcow2_bitmap_layout, "name_size", e),
            .extra_bytes = (uint32_t)field_of(&qcow2_bitmap_layout, "extra_data_size", e),
            .name = e + DIRECTORY_ENTRY,
        };
        const char *why = judge_bitmap(c, e, &b);
        at += round_up(DIRECTORY_ENTRY + (uint64_t)b.extra_bytes + b.name_bytes, 8);
        total += b.entries * 8;
        if (!why && at > x->directory_bytes) {
            why = "Broken bitmap directory";
        }
        if (!why && total > c->file_bytes + TABLE_MAX) {
            why = "the bitmaps' tables are larger than the file";
        }
        if (why) {
            return directory_bad(c, x->directory_offset, why);
        }
        found++;
        r = count_bitmap(c, &b);
    }
    if (r == 0 && (at != x->directory_bytes || found != x->bitmaps)) {
        return directory_bad(c, x->directory_offset, "Broken bitmap directory");
    }
    return r;
}

int check_count_bitmaps(struct check *c)
{
    const struct qcow2 *q = c->q;
    const struct qcow2_bitmaps_ext *x = &q->bitmaps;

    if (!q->has_bitmaps || !(q->h.autoclear & QCOW2_BITMAPS)) {
        return 0;
    }
    uint64_t before = c->structural;
    int r = check_count_range(c, x->directory_offset, x->directory_bytes, 1, UINT64_MAX);
    if (r < 0) {
        return r;
    }
    if (c->structural != before || x->directory_bytes > DIRECTORY_MAX) {
        c->structural = before;
        return directory_bad(c, x->directory_offset, "Failed to read bitmap directory");
    }
    AUTO_FREE uint8_t *dir = malloc(x->directory_bytes + 1);
    if (!dir) {
        return -ENOMEM;
    }
    r = check_read(c, x->directory_offset, dir, x->directory_bytes);
    return r < 0 ? r : count_directory(c, dir);
}

/* A bitmap that is not all there says nothing: the image goes on without. Guest data is not concerned. */
int check_repair_bitmaps(struct check *c)
{
    struct qcow2 *q = c->q;
    uint8_t bytes[8];

    put_be64(bytes, q->h.autoclear & ~(uint64_t)QCOW2_BITMAPS);
    int r = check_write(c, 88, bytes, sizeof(bytes));
    if (r == 0) {
        q->h.autoclear &= ~(uint64_t)QCOW2_BITMAPS;
        q->has_bitmaps = false;
        c->bitmaps_wrong = false;
        c->stale_bitmaps = true;
        r = node_flush(qcow2_file(c->n));
    }
    return r;
}
