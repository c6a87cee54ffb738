/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * File systems that this very process serves. A file that lies on one of them, or on anything that is
 * kept in one, must not be used by the process: each access would wait for an answer that only the
 * process itself can give.
 */
#ifndef BLOCK_OWN_H
#define BLOCK_OWN_H

#include "block/block.h"

struct own_fs { /* in the exporter's frame or struct */
    struct list link;
    dev_t dev;         /* st_dev of what it contains */
    const char *place; /* where it is mounted, for the sentence */
};

/* Between these two, the graph refuses files that lie on @fs. */
void graph_own_add(struct graph *g, struct own_fs *fs);
void graph_own_remove(struct own_fs *fs);

/* Call before @path (perhaps not there yet) is opened. Follows it through mounted disks, partitions, loop
 * devices, device-mapper and md down to what they are kept in. 0, or -EDEADLK with a sentence. What cannot be
 * looked at is let through: opening it will tell. */
co_fn int graph_refuse_own(struct graph *g, const char *path, struct err *err);

#endif
