/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a rule does to another place than its request's must meet nobody there: else a read could show it
 * before it is remembered, and a write could race with it. While there are rules that go astray, requests are
 * followed on their way through the node; who claims a range waits until those in it have left, and others
 * wait for him. One claim at a time, made before anything else is done for a request: so nobody waits in a
 * circle.
 */
#include "drivers/fault/internal.h"

static bool overlaps(const struct fault_range *a, const struct fault_range *b)
{
    return a->start < b->end && b->start < a->end;
}

void fault_passage_enter(struct fault_engine *e, struct fault_passage *p, const struct req *r)
{
    bool ranged = r->op != REQ_FLUSH && r->op != REQ_TRUNCATE;

    *p = (struct fault_passage){.co = co_self(),
                                .range = {ranged ? r->offset : 0, ranged ? r->offset + r->bytes : 0}};
    while (overlaps(&p->range, &e->claimed)) {
        co_queue_wait(&e->passing);
    }
    list_add_tail(&e->passages, &p->link);
}

void fault_passage_leave(struct fault_engine *e, struct fault_passage *p)
{
    list_del(&p->link);
    co_queue_wake_all(&e->passing);
}

static struct fault_passage *passage_of(const struct fault_engine *e, const struct co *co)
{
    struct fault_passage *p;

    list_for_each (p, &e->passages, link) {
        if (p->co == co) {
            return p;
        }
    }
    return NULL; /* the rule is newer than the request, or it is the engine's own */
}

static bool is_busy(const struct fault_engine *e, const struct fault_passage *self)
{
    const struct fault_passage *p;

    list_for_each (p, &e->passages, link) {
        if (p != self && !p->claims && overlaps(&p->range, &e->claimed)) {
            return true;
        }
    }
    return false;
}

void fault_claim(struct fault_engine *e, uint64_t start, uint64_t end)
{
    struct fault_passage *self = passage_of(e, co_self());

    if (self) {
        self->claims = true; /* it has done nothing yet: nobody needs to wait for it */
        co_queue_wake_all(&e->passing);
    }
    co_mutex_lock(&e->claiming);
    e->claimed = (struct fault_range){start, end};
    while (is_busy(e, self)) {
        co_queue_wait(&e->passing);
    }
    if (self) {
        self->claims = false;
    }
}

void fault_unclaim(struct fault_engine *e)
{
    e->claimed = (struct fault_range){0};
    co_queue_wake_all(&e->passing);
    co_mutex_unlock(&e->claiming);
}
