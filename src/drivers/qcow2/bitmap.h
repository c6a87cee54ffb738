/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent bitmaps, inside: what bitmap.c, bitmap_dir.c, bitmap_data.c and bitmap_ops.c share. */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include "drivers/qcow2/qcow2.h"

#define QCOW2_BITMAP_TABLE_MAX   (UINT32_C(1) << 27) /* entries; QEMU's bound, as the next */
#define QCOW2_BITMAP_STORED_MAX  (512 * MiB)         /* of one bitmap */
#define QCOW2_BITMAPS_LOADED_MAX (512 * MiB) /* of all together in memory: beyond that they are given up */

/* ---- sizes ---- */

static inline uint64_t qcow2_bitmap_bits(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    return div_up(disk_bytes, UINT64_C(1) << b->granularity_bits);
}

static inline uint64_t qcow2_bitmap_bytes(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    return div_up(qcow2_bitmap_bits(b, disk_bytes), 8);
}

static inline uint32_t qcow2_bitmap_table_entries(const struct qcow2 *q, const struct qcow2_bitmap *b)
{
    return (uint32_t)MAX(div_up(qcow2_bitmap_bytes(b, q->h.size), q->cluster_bytes), UINT64_C(1));
}

/* ---- bitmap_dir.c: lock held ---- */

void qcow2_bitmap_free(struct qcow2_bitmap *b);
struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2 *q, const char *name);
/* The strings become the list's. */
int qcow2_bitmap_append(struct qcow2 *q, struct qcow2_bitmap b);
/* At a new place; everything that it names is settled with it. @resting: as no bitmap is in use. */
co_fn int qcow2_bitmaps_store_directory(struct node *n, bool resting, struct qcow2_bitmaps_ext *ret);
/* The header names another directory, or none. */
co_fn int qcow2_bitmaps_switch_directory(struct node *n, const struct qcow2_bitmaps_ext *to);

/* ---- bitmap_data.c: lock held ---- */

/* Bring the bits into memory. */
co_fn int qcow2_bitmap_load(struct node *n, struct qcow2_bitmap *b);
void qcow2_bitmap_set(struct qcow2_bitmap *b, uint64_t offset, uint64_t bytes);
/* Bits of the last byte that stand for nothing. */
void qcow2_bitmap_clear_tail(const struct qcow2_bitmap *b, uint64_t disk_bytes);
/* Bits and table at new places; b->new_offset names the table. */
co_fn int qcow2_bitmap_store_bits(struct node *n, struct qcow2_bitmap *b);
/* The clusters of a table that nothing names any more. */
co_fn void qcow2_bitmap_forget_table(struct node *n, uint64_t offset, uint32_t entries);

/* ---- bitmap.c: lock held ---- */

/* What is in memory becomes what is in the file. @resting: nothing changes any more, or not before the
 * next change is announced: none is in use. */
co_fn int qcow2_bitmaps_store(struct node *n, bool resting);

#endif
