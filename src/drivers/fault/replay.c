/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that the drive makes again, later, over what has been written since. Their data waits here, at most
 * FAULT_REPLAY_BYTES of it: when there is no room the oldest is due at once, and the new one is not kept.
 * Each is made by a coroutine of its own, which meets nobody (claim.c).
 */
#include "base/iov.h"
#include "drivers/fault/actions.h"

#define FAULT_REPLAY_BYTES (64 * MiB)

struct replay {
    struct list link; /* engine->replays, or engine->replaying */
    struct fault_engine *engine;
    struct fault_rule *rule;
    struct req req; /* without memory if it is a zero */
    struct iovec iov;
    uint64_t left; /* changes until it is due */
};

static void drop(struct replay *p)
{
    struct fault_engine *e = p->engine;

    list_del(&p->link);
    e->replay_bytes -= p->iov.iov_len;
    fault_rule_unref(p->rule);
    free(p->iov.iov_base);
    free(p);
}

static co_fn void make_again(void *arg)
{
    struct replay *p = arg;
    struct fault_engine *e = p->engine;
    struct req *r = &p->req;

    fault_claim(e, r->offset, r->offset + r->bytes);
    const char *what = "an older write, made again";
    if (!e->ending && (fault_below(e, r) < 0 || fault_damage_look(e, p->rule, r, NULL, what) < 0)) {
        fault_damage_owe(e, p->rule, r, what);
    }
    fault_unclaim(e);
    drop(p);
    fault_engine_stand(e);
    if (list_empty(&e->replaying)) {
        co_queue_wake_all(&e->replayed);
    }
}

/* Off it goes; where there is no memory for that it is not made. */
static void is_due(struct replay *p)
{
    struct fault_engine *e = p->engine;

    list_del(&p->link);
    list_add_tail(&e->replaying, &p->link);
    if (co_start_later(make_again, p) < 0) {
        drop(p);
    }
}

void fault_replays_tick(struct fault_engine *e)
{
    struct replay *p, *next;

    list_for_each_safe (p, next, &e->replays, link) {
        if (p->left-- == 0) {
            is_due(p);
        }
    }
    fault_engine_stand(e);
}

/* The rule has been removed: what was not made yet is not made. NULL: of all. */
void fault_replays_drop(struct fault_engine *e, const struct fault_rule *rule)
{
    struct replay *p, *next;

    list_for_each_safe (p, next, &e->replays, link) {
        if (!rule || p->rule == rule) {
            drop(p);
        }
    }
    fault_engine_stand(e);
}

void fault_replays_end(struct fault_engine *e)
{
    fault_replays_drop(e, NULL);
    while (!list_empty(&e->replaying)) {
        co_queue_wait(&e->replayed);
    }
}

static void keep(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    struct replay *p = calloc(1, sizeof(*p));

    if (!p) {
        return; /* it is not made again */
    }
    *p = (struct replay){.engine = e, .rule = fault_rule_ref(rule), .req = *r, .left = rule->how.after};
    list_add_tail(&e->replays, &p->link);
    if (r->op == REQ_WRITE) {
        p->iov.iov_base = malloc(r->bytes);
        p->iov.iov_len = p->iov.iov_base ? r->bytes : 0;
        p->req.iov = &p->iov;
        p->req.niov = 1;
        e->replay_bytes += p->iov.iov_len;
        if (!p->iov.iov_base) {
            drop(p);
            return;
        }
        iov_to_buf(r->iov, r->niov, 0, p->iov.iov_base, r->bytes);
    }
}

FAULT_PERFORM(fault_replay_perform)
{
    int ret = fault_pass(e, r);

    if (ret < 0 || e->ending || rule->removed) {
        return ret;
    }
    if (e->replay_bytes + r->bytes > FAULT_REPLAY_BYTES && !list_empty(&e->replays)) {
        is_due(list_first(&e->replays, struct replay, link));
    }
    if (e->replay_bytes + r->bytes <= FAULT_REPLAY_BYTES) {
        keep(e, rule, r);
    }
    fault_engine_stand(e);
    return ret;
}
