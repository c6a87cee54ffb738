/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is the disk there? A node can take itself away for a while (a fault, a power cut) and come back. Whoever
 * lets clients reach a node watches it: an NBD server drops the clients of a disk that has gone, and lets no
 * new ones in; a FUSE export, which cannot vanish, answers EIO. The node itself fails what still reaches it.
 */
#ifndef BLOCK_PRESENCE_H
#define BLOCK_PRESENCE_H

#include "block/block.h"

enum presence {
    PRESENCE_HERE,
    PRESENCE_REFUSED, /* gone: a client that asks for it is told that there is no such disk */
    PRESENCE_MUTED,   /* gone: a client that asks for it gets no answer until it is back */
};

struct presence_watch {
    struct list link;
    const struct node *node;
    enum presence presence; /* of the node and everything below it, as last told */
    /* It has changed. Must not wait, and changes no presence itself. May be NULL. */
    void (*changed)(struct presence_watch *w);
};

/* @w->node is set, and @w->changed where it is wanted; sets presence. The node outlives the watch. */
void presence_watch(struct presence_watch *w);
/* Also for one that was never watching, if it is all zeroes. */
void presence_unwatch(struct presence_watch *w);

/* Take @n away, or bring it back, and tell all who watch it or a node above it. */
void node_set_presence(struct node *n, enum presence presence);
/* Of @n and everything below it: the first that is not here. */
enum presence node_presence(const struct node *n);

#endif
