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
