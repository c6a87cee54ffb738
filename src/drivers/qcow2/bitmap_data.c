/* SPDX-License-Identifier: BSD-2-Clause */
/* The bits of persistent bitmaps: loaded, set, stored at new places, and the old places let go. */
#include "drivers/qcow2/bitmap.h"

#define TABLE_RESERVED UINT64_C(0xff000000000001fe)

/* ---- the bits ---- */

void qcow2_bitmap_clear_tail(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    uint64_t bits = qcow2_bitmap_bits(b, disk_bytes);

    if (bits % 8) {
        b->bits[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
    }
}

static co_fn int read_piece(struct node *n, uint64_t entry, uint8_t *bits, uint64_t bytes)
{
    const struct qcow2 *q = qcow2_of(n);
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    if ((entry & TABLE_RESERVED) || (host && (entry & 1)) || qcow2_in_cluster(q, host)) {
        return -EINVAL;
    }
    if (host) {
        return qcow2_read_meta(n, host, bits, bytes);
    }
    memset(bits, entry & 1 ? 0xff : 0, bytes);
    return 0;
}

static co_fn int read_bits(struct node *n, const struct qcow2_bitmap *b, uint8_t *bits)
{
    const struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = qcow2_bitmap_bytes(b, q->h.size);
    AUTO_FREE uint64_t *table = NULL;
    int r = b->table_offset ? qcow2_read_table(n, b->table_offset, b->table_entries, &table) : 0;

    for (uint64_t i = 0; r == 0 && table && i < b->table_entries && i << q->cluster_bits < bytes; i++) {
        uint64_t at = i << q->cluster_bits;
        r = read_piece(n, table[i], bits + at, MIN(q->cluster_bytes, bytes - at));
    }
    return r;
}

/* Bring the bits into memory. */
int qcow2_bitmap_load(struct node *n, struct qcow2_bitmap *b)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = qcow2_bitmap_bytes(b, q->h.size);

    if (b->bits) {
        return 0;
    }
    if (b->inconsistent) {
        return -EINVAL;
    }
    if (bytes > QCOW2_BITMAPS_LOADED_MAX - q->bitmaps_loaded) {
        return -ENOMEM;
    }
    uint8_t *bits = calloc(1, bytes + 1);
    int r = bits ? read_bits(n, b, bits) : -ENOMEM;
    if (r < 0) {
        free(bits);
        return r;
    }
    b->bits = bits;
    b->bits_max = qcow2_bitmap_bits(b, q->h.size);
    q->bitmaps_loaded += bytes;
    qcow2_bitmap_clear_tail(b, q->h.size);
    return 0;
}

void qcow2_bitmap_set(struct qcow2_bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> b->granularity_bits;
    uint64_t last = MIN((offset + bytes - 1) >> b->granularity_bits, b->bits_max - 1);

    for (uint64_t i = first; i <= last;) {
        if (i % 8 == 0 && last - i >= 8) {
            b->bits[i / 8] = 0xff;
            i += 8;
        } else {
            b->bits[i / 8] |= (uint8_t)(1u << i % 8);
            i++;
        }
    }
}

void qcow2_mark_written(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    for (uint32_t i = 0; bytes && i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (b->in_use && b->enabled && b->bits_max) {
            qcow2_bitmap_set(b, offset, bytes);
        }
    }
}

/* ---- storing ---- */

static co_fn void free_table(struct node *n, uint64_t host, const uint64_t *table, uint32_t entries,
                             bool undo)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint32_t i = 0; i < entries; i++) {
        uint64_t at = table[i] & QCOW2_OFFSET_MASK;
        if (at && undo) {
            qcow2_release(n, at, q->cluster_bytes);
        } else if (at && !qcow2_in_cluster(q, at)) {
            qcow2_free(n, at, q->cluster_bytes, QCOW2_FREE_OTHER, true);
        }
    }
    if (host && undo) {
        qcow2_release(n, host, (uint64_t)entries * 8);
    } else if (host) {
        qcow2_free(n, host, (uint64_t)entries * 8, QCOW2_FREE_OTHER, true);
    }
}

static co_fn int write_piece(struct node *n, const uint8_t *bits, uint64_t bytes, uint8_t *cluster,
                             uint64_t *ret_entry)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = 0;

    *ret_entry = 0;
    if (buffer_is_zero(bits, bytes)) {
        return 0;
    }
    memset(cluster, 0, q->cluster_bytes);
    memcpy(cluster, bits, bytes);
    int r = qcow2_alloc_clusters(n, 1, &host);
    if (r < 0) {
        return r;
    }
    *ret_entry = host;
    return qcow2_write_meta(n, 0, host, cluster, q->cluster_bytes);
}

static co_fn int write_pieces(struct node *n, const struct qcow2_bitmap *b, uint64_t *table, uint32_t entries)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = qcow2_bitmap_bytes(b, q->h.size);
    uint8_t *cluster = buf_get(q->cluster_bytes);
    int r = cluster ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < entries; i++) {
        uint64_t at = (uint64_t)i << q->cluster_bits;
        r = write_piece(n, b->bits + at, MIN(q->cluster_bytes, bytes - at), cluster, &table[i]);
    }
    buf_put(cluster, q->cluster_bytes);
    return r;
}

/* Bits and table at new places; b->new_offset names the table. */
int qcow2_bitmap_store_bits(struct node *n, struct qcow2_bitmap *b)
{
    struct qcow2 *q = qcow2_of(n);
    uint32_t entries = qcow2_bitmap_table_entries(q, b);
    AUTO_FREE uint64_t *table = calloc(entries, 8);
    uint64_t host = 0;

    if ((uint64_t)entries << q->cluster_bits > QCOW2_BITMAP_STORED_MAX || entries > QCOW2_BITMAP_TABLE_MAX) {
        return -EFBIG;
    }
    int r = table ? write_pieces(n, b, table, entries) : -ENOMEM;
    r = r < 0 ? r : qcow2_alloc_clusters(n, div_up((uint64_t)entries * 8, q->cluster_bytes), &host);
    r = r < 0 ? r : qcow2_write_table(n, 0, host, table, entries);
    if (r < 0) {
        if (table) {
            free_table(n, host, table, entries, true);
        }
        return r;
    }
    b->new_offset = host;
    b->new_entries = entries;
    return 0;
}

void qcow2_bitmap_forget_table(struct node *n, uint64_t offset, uint32_t entries)
{
    AUTO_FREE uint64_t *table = NULL;

    if (offset && qcow2_read_table(n, offset, entries, &table) == 0) {
        free_table(n, offset, table, entries, false);
    }
}
