/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Injected, legal or real? A node that makes a device misbehave on purpose (fault, write-cache) remembers
 * what it did, exactly enough to recognise it: a verifier above that sees something wrong asks the nodes
 * below whether one of them did that. Whatever nobody explains is corruption.
 */
#ifndef BLOCK_EXPLAIN_H
#define BLOCK_EXPLAIN_H

#include "block/block.h"

/* What was seen: contents of (at most) one 512-byte sector, or, with @data NULL, the result of a request. */
struct blame {
    uint64_t opno; /* of the request that shows it; 0: it is there now, and what was before is no excuse */
    enum req_op op;
    uint64_t offset;
    uint64_t bytes;
    const void *data;
    int result;
};

struct explanation {
    bool legal;       /* an honest device may do that too: lose unflushed writes in a power cut */
    uint64_t opno;    /* of the request to which it was done, or at which the power was cut; 0: none */
    const char *node; /* that did it; this and the others are valid until the loop runs on */
    const char *rule; /* id of the fault rule; NULL: none */
    const char *what; /* "lost write", "power cut, flush ignored" */
};

/* Ask @n, then the filters below it, which serve the same offsets, until one knows: the contents
 * must be exactly what it made of that sector (not merely a sector it once touched). Does not wait. */
bool node_explain(const struct node *n, const struct blame *b, struct explanation *ret);

#endif
