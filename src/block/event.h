/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a node is about to do, told to the node below it: the blkdebug events. A driver listens by
 * setting on_event; nobody listening costs one test.
 */
#ifndef BLOCK_EVENT_H
#define BLOCK_EVENT_H

#include "block/driver.h"

/* Tell @child (NULL is fine) that the node above is about to do @event. May wait: a breakpoint. */
static inline co_fn void node_event(struct node *child, enum block_event event)
{
    if (UNLIKELY(child && child->drv->on_event)) {
        child->drv->on_event(child, event);
    }
}

/* A flush of @n has written its caches down, and now reaches for the disk: told if it has something to do. A
 * format with a flush of its own calls this; for others the gate does. */
static inline co_fn void node_flush_to_disk(struct node *n)
{
    if (n->writes != n->flushed_writes && n->nchildren) {
        node_event(node_below(n), EVENT_flush_to_disk);
    }
}

#endif
