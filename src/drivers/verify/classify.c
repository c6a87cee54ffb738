/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Injected, legal or real: what a verifier sees is first told to the nodes below it that misbehave on
 * purpose (explain.h). What one of them did is counted and reported as injected, or, where an honest device
 * may do it too, as legal; neither is a mismatch. Whatever nobody explains is.
 */
#include <stdio.h>

#include "drivers/verify/internal.h"

bool verify_explained(const struct node *n, const struct req *r, uint64_t offset, uint64_t bytes,
                      const void *data, int rc, struct culprit *ret)
{
    const struct verify *v = n->state;
    struct blame b = {
        .opno = r->opno, .op = r->op, .offset = offset, .bytes = bytes, .data = data, .result = rc};
    struct explanation e = {0};

    if (!node_explain(v->test, &b, &e)) {
        return false;
    }
    *ret = (struct culprit){.legal = e.legal, .opno = e.opno};
    snprintf(ret->node, sizeof(ret->node), "%s", e.node ? e.node : "");
    snprintf(ret->rule, sizeof(ret->rule), "%s", e.rule ? e.rule : "");
    snprintf(ret->what, sizeof(ret->what), "%s", e.what ? e.what : "");
    return true;
}

bool verify_is_explained_below(const struct node *n)
{
    const struct node *below = ((const struct verify *)n->state)->test;

    while (below && !below->drv->explain) {
        below = below->drv->kind == DRIVER_FILTER && below->nchildren > 0 ? node_below(below) : NULL;
    }
    return below != NULL;
}

bool verify_explained_now(struct node *n, uint64_t offset, size_t bytes, struct culprit *ret)
{
    const struct verify *v = n->state;
    const struct req nobodys = {
        .op = REQ_READ}; /* without a number: what happened to this very read is no excuse */
    uint8_t now[SECTOR_SIZE];

    for (size_t at = 0; at < bytes; at += sizeof(now)) {
        size_t len = MIN(bytes - at, sizeof(now));
        if (node_read(v->test, offset + at, now, len) == 0 &&
            verify_explained(n, &nobodys, offset + at, len, now, 0, ret)) {
            return true;
        }
    }
    return false;
}

void verify_wait_for_changes(struct node *n)
{
    struct verify *v = n->state;
    uint64_t last = v->change_ids;
    const struct change *oldest;

    while ((oldest = list_first(&v->changes, struct change, link)) && oldest->id <= last) {
        co_queue_wait(&v->changed);
    }
}

bool verify_culprits_equal(const struct culprit *a, const struct culprit *b)
{
    return a->legal == b->legal && a->opno == b->opno && strcmp(a->node, b->node) == 0 &&
           strcmp(a->rule, b->rule) == 0 && strcmp(a->what, b->what) == 0;
}

void verify_note_explained(struct node *n, const struct req *r, const struct culprit *c, uint64_t offset,
                           uint64_t bytes, int rc)
{
    struct verify *v = n->state;

    if (c->legal) {
        v->counts.legal++;
        v->counts.legal_bytes += bytes;
    } else {
        v->counts.injected++;
        v->counts.injected_bytes += bytes;
    }
    verify_report_explained(n, r, c, offset, bytes, rc);
}
