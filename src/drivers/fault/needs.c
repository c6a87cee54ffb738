/* SPDX-License-Identifier: BSD-2-Clause */
/* What is done for every request only because a rule asks for it: remembering, counting epochs, and cutting
 * requests where ranges begin and end. */
#include "base/iov.h"
#include "drivers/fault/internal.h"

static co_fn int remembered(struct fault_engine *e, struct req *r)
{
    struct fault_verdict v = {0};
    uint64_t epoch = e->history ? fault_history_epoch(e->history) : 0;

    if (e->list.index) { /* rules may have been removed since the last piece */
        fault_decide(e, r, &v);
    }
    if (r->op == REQ_FLUSH) {
        e->flushes++;
        e->epoch_writes = 0;
    }
    e->epoch_writes += r->op == REQ_WRITE || r->op == REQ_ZERO;
    if (e->history) {
        fault_history_arrives(e->history, r);
    }
    int ret = fault_carry_out(e, r, &v);
    if (e->history) {
        fault_history_done(e->history, r, epoch, ret);
    }
    return ret;
}

static uint64_t next_cut(const struct fault_engine *e, const struct req *r)
{
    uint64_t end = r->offset + r->bytes;

    for (unsigned i = 0; i < e->list.nrules; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        /* Logged decisions are about pieces, which must be the same whenever the rule is used up. */
        bool used_up = rule->exhausted && !e->node->graph->decisions;
        if ((rule->needs & FAULT_NEEDS_SPLIT) && rule->enabled && !used_up && (rule->ops & 1u << r->op)) {
            end = fault_next_border(rule, r->offset, end);
        }
    }
    return end;
}

/* Piece by piece, in their order, each a request of its own to the rules; until one fails. */
static co_fn int in_pieces(struct fault_engine *e, struct req *r)
{
    AUTO_FREE struct iovec *iov = r->iov ? malloc((size_t)r->niov * sizeof(*iov)) : NULL;
    struct req piece = *r;
    uint64_t end = r->offset + r->bytes;
    int ret = r->iov && !iov ? -ENOMEM : 0;

    while (ret == 0 && piece.offset < end) {
        piece.bytes = end - piece.offset;
        piece.bytes = next_cut(e, &piece) - piece.offset;
        if (iov) {
            piece.iov = iov;
            piece.niov = iov_slice(iov, r->iov, r->niov, piece.offset - r->offset, piece.bytes);
        }
        ret = remembered(e, &piece);
        if (r->op == REQ_STATUS) {
            break; /* it may tell of less than was asked */
        }
        piece.offset += piece.bytes;
    }
    return ret;
}

int fault_with_needs(struct fault_engine *e, struct req *r)
{
    bool whole = r->op == REQ_FLUSH || r->op == REQ_TRUNCATE || !(e->list.index->needs & FAULT_NEEDS_SPLIT) ||
                 next_cut(e, r) == r->offset + r->bytes;

    return whole ? remembered(e, r) : in_pieces(e, r);
}
