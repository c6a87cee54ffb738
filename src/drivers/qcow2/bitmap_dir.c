/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directory of persistent bitmaps: read, and written at a new place, which the header puts in force; so
 * on disk there is always a whole one.
 */
#include "drivers/qcow2/bitmap.h"

#define ENTRY_BYTES 24

enum { IN_USE = 1, AUTO = 2, KNOWN_FLAGS = 7 };

/* ---- the list in memory ---- */

void qcow2_bitmap_free(struct qcow2_bitmap *b)
{
    free(b->name);
    free(b->bits);
}

void qcow2_free_bitmaps(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        qcow2_bitmap_free(&q->bitmap[i]);
    }
    free(TAKE_PTR(q->bitmap));
    q->bitmaps_read = 0;
}

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2 *q, const char *name)
{
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        if (strcmp(q->bitmap[i].name, name) == 0) {
            return &q->bitmap[i];
        }
    }
    return NULL;
}

/* The strings become the list's. */
int qcow2_bitmap_append(struct qcow2 *q, struct qcow2_bitmap b)
{
    struct qcow2_bitmap *more = realloc(q->bitmap, (q->bitmaps_read + 1) * sizeof(*more));

    if (!more) {
        qcow2_bitmap_free(&b);
        return -ENOMEM;
    }
    q->bitmap = more;
    q->bitmap[q->bitmaps_read++] = b;
    return 0;
}

/* ---- reading the directory ---- */

static int check_entry(const struct qcow2 *q, const struct qcow2_bitmap_entry *e)
{
    struct qcow2_bitmap b = {.granularity_bits = e->granularity_bits};
    bool bad = layout_check(&qcow2_bitmap_layout, e, 3, q->cluster_bytes, NULL) < 0 ||
               e->table_entries == 0 || e->table_entries > QCOW2_BITMAP_TABLE_MAX || e->table_offset == 0 ||
               (e->flags & ~(uint32_t)KNOWN_FLAGS) || e->extra_bytes ||
               (uint64_t)e->table_entries << q->cluster_bits > QCOW2_BITMAP_STORED_MAX;

    /* one that is in use may have another size */
    return bad || (!(e->flags & IN_USE) && e->table_entries != qcow2_bitmap_table_entries(q, &b)) ? -EINVAL
                                                                                                  : 0;
}

static int take_entry(struct qcow2 *q, const uint8_t *p, uint64_t room, uint64_t *ret_bytes)
{
    struct qcow2_bitmap_entry e;

    if (room < ENTRY_BYTES) {
        return -EINVAL;
    }
    layout_parse(&qcow2_bitmap_layout, p, ENTRY_BYTES, 3, &e);
    int r = check_entry(q, &e);
    if (r < 0 || round_up(ENTRY_BYTES + (uint64_t)e.name_bytes, 8) > room) {
        return -EINVAL;
    }
    struct qcow2_bitmap b = {.name = strndup((const char *)p + ENTRY_BYTES, e.name_bytes),
                             .table_offset = e.table_offset,
                             .table_entries = e.table_entries,
                             .granularity_bits = e.granularity_bits,
                             .enabled = e.flags & AUTO,
                             .inconsistent = e.flags & IN_USE};
    if (!b.name || qcow2_bitmap_find(q, b.name)) {
        r = b.name ? -EINVAL : -ENOMEM;
        qcow2_bitmap_free(&b);
        return r;
    }
    *ret_bytes = round_up(ENTRY_BYTES + (uint64_t)e.name_bytes, 8);
    return qcow2_bitmap_append(q, b);
}

static co_fn int read_directory(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = q->bitmaps.directory_bytes, at = 0, part = 0;
    uint8_t *directory = buf_get(bytes);
    int r = directory ? qcow2_read_meta(n, q->bitmaps.directory_offset, directory, bytes) : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < q->bitmaps.bitmaps; i++) {
        r = take_entry(q, directory + at, bytes - at, &part);
        at += part;
    }
    if (r == 0 && at != bytes) {
        r = -EINVAL;
    }
    buf_put(directory, bytes);
    return r;
}

int qcow2_load_bitmaps(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->has_bitmaps || !(q->h.autoclear & QCOW2_BITMAPS)) {
        return 0; /* somebody who does not know them has written */
    }
    int r = read_directory(n);
    if (r < 0) {
        qcow2_free_bitmaps(q);
        return n->read_only ? 0 : err_set_errno(err, r, "Could not read the bitmap directory");
    }
    return 0;
}

/* ---- writing it ---- */

static uint64_t directory_entry_bytes(const struct qcow2_bitmap *b)
{
    return round_up(ENTRY_BYTES + strlen(b->name), 8);
}

static void render_entry(const struct qcow2_bitmap *b, bool resting, uint8_t *p)
{
    bool in_use = b->inconsistent || (b->in_use && !resting);
    struct qcow2_bitmap_entry e = {
        .table_offset = b->new_offset ? b->new_offset : b->table_offset,
        .table_entries = b->new_offset ? b->new_entries : b->table_entries,
        .flags = (in_use ? (uint32_t)IN_USE : 0) | (b->enabled ? (uint32_t)AUTO : 0),
        .type = 1,
        .granularity_bits = b->granularity_bits,
        .name_bytes = (uint16_t)strlen(b->name),
    };

    layout_write(&qcow2_bitmap_layout, &e, 3, p, ENTRY_BYTES);
    memcpy(p + ENTRY_BYTES, b->name, e.name_bytes);
}

/* At a new place; everything that it names is settled with it. */
int qcow2_bitmaps_store_directory(struct node *n, bool resting, struct qcow2_bitmaps_ext *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = 0, at = 0, host = 0;

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        bytes += directory_entry_bytes(&q->bitmap[i]);
    }
    *ret = (struct qcow2_bitmaps_ext){q->bitmaps_read, bytes, 0};
    if (bytes == 0) {
        return qcow2_settle(n);
    }
    AUTO_FREE uint8_t *directory = calloc(1, bytes);
    for (uint32_t i = 0; directory && i < q->bitmaps_read; i++) {
        render_entry(&q->bitmap[i], resting, directory + at);
        at += directory_entry_bytes(&q->bitmap[i]);
    }
    int r = directory ? qcow2_alloc_clusters(n, div_up(bytes, q->cluster_bytes), &host) : -ENOMEM;
    if (r < 0) {
        return r;
    }
    r = qcow2_write_meta(n, 0, host, directory, bytes);
    r = r < 0 ? r : qcow2_settle(n);
    if (r < 0) {
        qcow2_release(n, host, bytes);
        return r;
    }
    ret->directory_offset = host;
    return 0;
}

/* The header names another directory, or none. */
int qcow2_bitmaps_switch_directory(struct node *n, const struct qcow2_bitmaps_ext *to)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmaps_ext before = q->bitmaps;
    bool had = q->has_bitmaps;
    uint64_t autoclear = q->h.autoclear;

    q->bitmaps = *to;
    q->has_bitmaps = to->bitmaps > 0;
    q->h.autoclear = to->bitmaps ? autoclear | QCOW2_BITMAPS : autoclear & ~(uint64_t)QCOW2_BITMAPS;
    int r = qcow2_write_header(n);
    if (r < 0) {
        q->bitmaps = before;
        q->has_bitmaps = had;
        q->h.autoclear = autoclear;
        return r;
    }
    if (had && before.directory_offset && (autoclear & QCOW2_BITMAPS)) {
        qcow2_free(n, before.directory_offset, before.directory_bytes, QCOW2_FREE_OTHER, true);
    }
    return 0;
}
