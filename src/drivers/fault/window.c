/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reordered writes: acknowledged, kept in a window, and made in an order that chance draws. Nobody above can
 * see it, as whatever touches the same bytes waits until they are made; what lies below sees another order,
 * and a flush covers all of it, or, if the rule says so, none. What fails here has been acknowledged: the
 * next flush tells it.
 */
#include "base/iov.h"
#include "drivers/fault/actions.h"

#define WINDOW_BYTES (16 * MiB) /* of all rules: more are made at once */

struct windowed {
    struct list link; /* engine->window.writes, in the order of arrival; no two overlap */
    struct fault_rule *rule;
    struct req req;
    struct iovec iov;
    bool flying;
};

static void drop(struct fault_engine *e, struct windowed *w)
{
    list_del(&w->link);
    e->window.bytes -= w->iov.iov_len;
    fault_rule_unref(w->rule);
    free(w->iov.iov_base);
    free(w);
    co_queue_wake_all(&e->window.made);
    fault_engine_stand(e);
}

static co_fn void make(struct fault_engine *e, struct windowed *w)
{
    uint64_t seq = e->overlay.seq, damage_seq = e->damage.seq;
    w->flying = true;
    int ret = node_io(node_below(e->node), &w->req);

    if (ret < 0) { /* it had been acknowledged */
        e->window.error = ret;
        fault_rule_unref(e->window.culprit);
        e->window.culprit = fault_rule_ref(w->rule);
        const char *what = "acknowledged before it failed";
        if (fault_damage_look_behind(e, w->rule, &w->req, &w->req, what) < 0) {
            fault_damage_owe(e, w->rule, &w->req, what);
        }
    } else {
        fault_overlay_covered(e, &w->req, seq);
        fault_damage_overwritten(e, &w->req, damage_seq);
    }
    drop(e, w);
}

/* One that waits and touches [start, end); else one that is on its way, or NULL. */
static struct windowed *find(const struct fault_engine *e, uint64_t start, uint64_t end)
{
    struct windowed *w, *flying = NULL;

    list_for_each (w, &e->window.writes, link) {
        if (w->req.offset < end && start < w->req.offset + w->req.bytes) {
            if (!w->flying) {
                return w;
            }
            flying = w;
        }
    }
    return flying;
}

void fault_window_settle(struct fault_engine *e, uint64_t start, uint64_t end)
{
    struct windowed *w;

    while ((w = find(e, start, end))) {
        if (w->flying) {
            co_queue_wait(&e->window.made);
        } else {
            make(e, w);
        }
    }
}

/* ---- the order ---- */

static bool may_go(const struct windowed *w, const struct fault_rule *rule, uint64_t before)
{
    return !w->flying && w->req.opno < before && (!rule || w->rule == rule);
}

/* One of those that wait, drawn; NULL: none does. */
static struct windowed *draw(const struct fault_engine *e, const struct fault_rule *rule, uint64_t before)
{
    struct windowed *w;
    uint64_t n = 0, chosen;

    list_for_each (w, &e->window.writes, link) {
        n += may_go(w, rule, before);
    }
    if (n == 0) {
        return NULL;
    }
    w = list_first(&e->window.writes, struct windowed, link);
    chosen = fault_draw(e, w->rule, fault_drawn_as(&w->req), n) % n;
    list_for_each (w, &e->window.writes, link) {
        if (may_go(w, rule, before) && chosen-- == 0) {
            return w;
        }
    }
    return NULL;
}

static unsigned count_of(const struct fault_engine *e, const struct fault_rule *rule)
{
    const struct windowed *w;
    unsigned n = 0;

    list_for_each (w, &e->window.writes, link) {
        n += w->rule == rule && !w->flying;
    }
    return n;
}

/* ---- flushes ---- */

int fault_window_flush(struct fault_engine *e, const struct req *r)
{
    struct windowed *w;
    bool waiting = true;

    while (waiting) {
        waiting = false;
        list_for_each (w, &e->window.writes, link) {
            bool covered = w->rule->how.flush == FLUSH_RESPECT && w->req.opno < r->opno;
            if (covered && w->flying) {
                co_queue_wait(&e->window.made);
                waiting = true;
                break;
            }
            if (covered) {
                make(e, draw(e, w->rule, r->opno));
                waiting = true;
                break;
            }
        }
    }
    int ret = e->window.error;
    if (ret < 0) {
        fault_damage_result(e, e->window.culprit, r, ret);
        e->window.error = 0;
    }
    return ret;
}

/* ---- the end of a rule, or of the node ---- */

static co_fn void settle_all(void *arg)
{
    struct fault_engine *e = arg;

    fault_window_settle(e, 0, UINT64_MAX);
    e->window.settling = false;
    co_queue_wake_all(&e->window.made);
}

void fault_window_rule_removed(struct fault_engine *e)
{
    if (list_empty(&e->window.writes) || e->window.settling) {
        return;
    }
    e->window.settling = co_start_later(settle_all, e) == 0; /* else the next flush, or the end, does it */
}

void fault_window_end(struct fault_engine *e)
{
    fault_window_settle(e, 0, UINT64_MAX);
    while (e->window.settling) {
        co_queue_wait(&e->window.made);
    }
    fault_rule_unref(e->window.culprit);
    e->window.culprit = NULL;
}

/* ---- the action ---- */

FAULT_CHECK(fault_reorder_check)
{
    rule->how.window = rule->how.window ? rule->how.window : 8;
    return 0;
}

static bool keep(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    struct windowed *w = calloc(1, sizeof(*w));
    void *data = w && r->op == REQ_WRITE ? malloc(r->bytes) : NULL;

    if (!w || (r->op == REQ_WRITE && !data)) {
        free(w);
        return false;
    }
    *w = (struct windowed){.rule = fault_rule_ref(rule), .req = *r};
    if (data) {
        iov_to_buf(r->iov, r->niov, 0, data, r->bytes);
        w->iov = (struct iovec){data, r->bytes};
        w->req.iov = &w->iov;
        w->req.niov = 1;
    }
    w->req.flags &= ~(unsigned)(REQ_UNSTABLE | REQ_SERIALISE);
    list_add_tail(&e->window.writes, &w->link);
    e->window.bytes += w->iov.iov_len;
    fault_engine_stand(e);
    return true;
}

FAULT_PERFORM(fault_reorder_perform)
{
    struct windowed *w;

    fault_window_settle(e, r->offset, r->offset + r->bytes);
    if ((r->flags & REQ_FUA) || e->ending || rule->removed || r->bytes > WINDOW_BYTES || !keep(e, rule, r)) {
        return fault_pass(e, r);
    }
    while ((count_of(e, rule) > rule->how.window || e->window.bytes > WINDOW_BYTES) &&
           (w = draw(e, count_of(e, rule) > rule->how.window ? rule : NULL, UINT64_MAX))) {
        make(e, w);
    }
    return 0;
}
