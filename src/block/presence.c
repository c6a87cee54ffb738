/* SPDX-License-Identifier: BSD-2-Clause */
/* Nodes that go away and come back, and who is told. */
#include "block/presence.h"

#include "block/driver.h"

enum presence node_presence(const struct node *n)
{
    enum presence p = n->presence;

    for (unsigned i = 0; p == PRESENCE_HERE && i < n->nchildren; i++) {
        if (n->children[i].node) {
            p = node_presence(n->children[i].node);
        }
    }
    return p;
}

void node_set_presence(struct node *n, enum presence presence)
{
    struct presence_watch *w;

    if (n->presence == presence) {
        return;
    }
    n->presence = presence;
    list_for_each (w, &n->graph->presence_watches, link) {
        enum presence now = node_presence(w->node);
        if (w->presence != now) {
            w->presence = now;
            if (w->changed) {
                w->changed(w);
            }
        }
    }
}

void presence_watch(struct presence_watch *w)
{
    w->presence = node_presence(w->node);
    list_add_tail(&w->node->graph->presence_watches, &w->link);
}

void presence_unwatch(struct presence_watch *w)
{
    if (w->link.next) {
        list_del(&w->link);
    }
}
