/* SPDX-License-Identifier: BSD-2-Clause */
/* What a verifier knows of one sector: which write should be there, and whether what is there was done on
 * purpose. */
#include "base/json.h"
#include "drivers/verify/oracle.h"

/* With a reference: what the history says. */
static const char *state_by_history(const struct verify *v, uint64_t offset, uint64_t end)
{
    const struct history *h = &v->history;
    uint64_t until;
    enum indet_kind kind = indet_at(&v->indet, offset, end, &until);

    if (kind != INDET_NONE) {
        return kind == INDET_DISCARDED ? "discarded" : "indeterminate";
    }
    for (uint64_t id = history_end(h); id > history_first(h); id--) {
        const struct past *p = history_entry(h, id - 1);
        if (ranges_overlap(p->offset, p->bytes, offset, end - offset)) {
            return p->state == PAST_PENDING                      ? "pending"
                   : p->durable || p->done_seq <= h->flushed_seq ? "durable"
                                                                 : "volatile";
        }
    }
    return "unknown";
}

/* What the device shows: its culprit, if there is one. */
static co_fn void add_culprit(struct node *n, uint64_t offset, size_t bytes, json_t *o)
{
    struct culprit c;

    if (!verify_is_explained_below(n) || !verify_explained_now(n, offset, bytes, &c)) {
        return;
    }
    json_t *who = json_pack("{s:s, s:s, s:s}", "class", c.legal ? "legal" : "injected", "what", c.what,
                            "by-node", c.node);
    if (*c.rule) {
        json_object_set_new(who, "rule", json_string(c.rule));
    }
    if (c.opno) {
        json_object_set_new(who, "by-operation", json_integer((json_int_t)c.opno));
    }
    json_object_set_new(o, "explained", who);
}

co_fn int verify_sector(struct node *n, uint64_t offset, json_t **ret, struct err *err)
{
    if (!verify_is(n)) {
        return err_set(err, -EINVAL, "'%s' is not a verifier", node_name(n));
    }
    const struct verify *v = n->state;
    uint32_t unit = v->oracle ? v->oracle->unit : SECTOR_SIZE;
    if (offset >= n->size) {
        return err_set(err, -EINVAL, "offset %llu: the disk has %llu bytes", (unsigned long long)offset,
                       (unsigned long long)n->size);
    }
    offset = round_down(offset, unit);
    size_t bytes = MIN(n->size - offset, (uint64_t)unit);
    json_t *o = v->oracle ? oracle_describe(v->oracle, offset / unit)
                          : json_pack("{s:s, s:o}", "state", state_by_history(v, offset, offset + bytes),
                                      "versions", verify_json_history(v, offset, bytes));
    if (!o) {
        return err_set(err, -ENOMEM, "no memory");
    }
    json_object_set_new(o, "offset", json_integer((json_int_t)offset));
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    node_ref(n);
    add_culprit(n, offset, bytes, o);
    node_unref(n);
    *ret = o;
    return 0;
}
