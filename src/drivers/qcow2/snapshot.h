/* SPDX-License-Identifier: BSD-2-Clause */
/* Internal snapshots, inside: what snapshot.c, snapshot_table.c and snapshot_refs.c share. */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include "drivers/qcow2/qcow2.h"

#define QCOW2_ICOUNT_NONE UINT64_MAX

/* ---- snapshot_table.c ---- */

void qcow2_snapshot_free(struct qcow2_snapshot *s);
/* Its place in the list, or -ENOENT. NULL: any id, any name. */
int qcow2_snapshot_find(const struct qcow2 *q, const char *id, const char *name);
int qcow2_snapshot_find_any(const struct qcow2 *q, const char *id_or_name);

/* ---- snapshot_refs.c ---- */

enum qcow2_snapshot_change {
    QCOW2_RAISE,
    QCOW2_UNDO, /* of a raise that came to nothing */
    QCOW2_DROP, /* a list or table without it is in force */
};
/* Count everything that the table reaches once more; all or nothing. */
co_fn int qcow2_snapshot_raise(struct node *n, const uint64_t *l1, uint32_t entries);
/* Once less (@change: QCOW2_UNDO or QCOW2_DROP). What cannot be followed leaks. */
co_fn void qcow2_snapshot_drop(struct node *n, const uint64_t *l1, uint32_t entries,
                               enum qcow2_snapshot_change change);
/* Make the marks of the active tables agree with the counts. */
co_fn int qcow2_mark_ours(struct node *n);

#endif
