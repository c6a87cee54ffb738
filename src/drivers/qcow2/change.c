/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes of what others rely on without the lock: alone, from a settled state to a settled state. */
#include "drivers/qcow2/qcow2.h"

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
