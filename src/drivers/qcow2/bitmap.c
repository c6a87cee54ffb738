/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Persistent bitmaps: which parts of the disk were written since some moment. They live in memory
 * while they change: the file says "in use" then, so that a crash leaves bitmaps that nobody trusts
 * rather than wrong ones. What is stored goes to new places and is put in force by the header, with
 * the old directory and tables let go after; so on disk there is always a whole set of bitmaps.
 */
#include "drivers/qcow2/bitmap.h"

/* ---- storing ---- */

/* What is in memory becomes what is in the file. @resting: nothing changes any more, or not before the
 * next change is announced: none is in use. Lock held. */
int qcow2_bitmaps_store(struct node *n, bool resting)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmaps_ext to = {0};
    int r = 0;

    q->written = true; /* metadata is to be settled */
    for (uint32_t i = 0; r == 0 && i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        bool newer = b->changed || (b->in_use && resting);
        if (b->table_offset == 0 || (newer && !b->inconsistent && b->bits)) {
            r = qcow2_bitmap_store_bits(n, b);
        }
    }
    r = r < 0 ? r : qcow2_bitmaps_store_directory(n, resting, &to);
    r = r < 0 ? r : qcow2_bitmaps_switch_directory(n, &to);
    for (uint32_t i = 0; i < q->bitmaps_read; i++) { /* on failure the new tables leak */
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (r == 0 && b->new_offset) {
            qcow2_bitmap_forget_table(n, b->table_offset, b->table_entries);
            b->table_offset = b->new_offset;
            b->table_entries = b->new_entries;
            b->changed = false;
        }
        b->new_offset = 0;
        b->in_use = b->in_use && !(r == 0 && resting);
    }
    if (r == 0) {
        q->bitmaps_changed = false;
    }
    return r;
}

/* The file says that the bitmaps with @entering are in use from now on; or nothing has changed. */
static co_fn int store_entering(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = qcow2_bitmaps_store(n, false);

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        b->in_use = b->in_use && (r == 0 || !b->entering);
        b->entering = false;
    }
    return r;
}

static void enter(struct qcow2_bitmap *b)
{
    b->entering = !b->in_use;
    b->in_use = true;
}

/* ---- guest data changes ---- */

int qcow2_bitmaps_begin(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    bool any = q->bitmaps_changed;

    if ((q->h.autoclear & QCOW2_BITMAPS) && q->bitmaps_read == 0) {
        q->h.autoclear &= ~(uint64_t)QCOW2_BITMAPS; /* we cannot keep them true */
        return qcow2_write_header_field(n, "autoclear_features");
    }
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (b->enabled && !b->inconsistent && !b->in_use) {
            int r = qcow2_bitmap_load(n, b);
            if (r < 0) { /* nobody is to trust it from now on */
                b->inconsistent = true;
            }
            enter(b);
            any = true;
        }
    }
    return any ? store_entering(n) : 0;
}

int qcow2_bitmaps_end(struct node *n)
{
    const struct qcow2 *q = qcow2_of(n);
    bool any = q->bitmaps_changed;

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        any = any || (q->bitmap[i].in_use && !q->bitmap[i].inconsistent);
    }
    return any ? qcow2_bitmaps_store(n, true) : 0;
}

/* ---- the size changes ---- */

int qcow2_bitmaps_may_resize(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS) && q->bitmaps_read == 0) {
        return err_set(err, -ENOTSUP, "Can't resize an image which has persistent bitmaps");
    }
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        int r = b->inconsistent ? -EINVAL : qcow2_bitmap_load(n, b);
        if (r < 0) {
            return err_set(err, r, "Bitmap '%s' is inconsistent and cannot be used", b->name);
        }
        enter(b); /* its size in the file is about to be wrong */
    }
    return q->bitmaps_read ? store_entering(n) : 0;
}

int qcow2_bitmaps_resize(struct node *n, uint64_t before)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        uint64_t old = qcow2_bitmap_bytes(b, before), bytes = qcow2_bitmap_bytes(b, q->h.size);
        uint8_t *more = realloc(b->bits, bytes + 1);
        if (!more) { /* it stays in use in the file */
            b->inconsistent = true;
            continue;
        }
        memset(more + MIN(old, bytes), 0, bytes + 1 - MIN(old, bytes));
        b->bits = more;
        b->bits_max = qcow2_bitmap_bits(b, q->h.size);
        q->bitmaps_loaded += bytes - old;
        qcow2_bitmap_clear_tail(b, q->h.size);
        b->changed = true;
    }
    return 0;
}
