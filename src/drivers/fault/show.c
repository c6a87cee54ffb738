/* SPDX-License-Identifier: BSD-2-Clause */
/* What others see of the engine: lists, counters, events, and waiting for a counter. */
#include "base/json.h"
#include "drivers/fault/internal.h"

/* ---- events ---- */

void fault_tell(struct fault_engine *e, enum fault_event_type type, const struct fault_rule *rule,
                const struct req *r, struct fault_event *more)
{
    struct graph *g = e->node->graph;

    if (LIKELY(!g->fault)) {
        return;
    }
    more->type = type;
    more->node = node_name(e->node);
    more->req = r;
    if (rule) {
        const struct fault_action *a = &fault_actions[rule->action];
        more->rule = rule->id;
        more->tag = rule->tag;
        more->action = a->name;
        more->matched = rule->c.matched;
        more->fired = rule->c.fired;
        if (type == FAULT_INJECTED) {
            more->error = a->error ? rule->error : 0;
            more->delay_ns = rule->drawn_ns;
        }
    }
    g->fault(g, more);
}

const char *fault_event_name(enum fault_event_type type)
{
    static const char *const names[] = {
        [FAULT_INJECTED] = "FAULT_INJECTED",     [FAULT_EXHAUSTED] = "FAULT_EXHAUSTED",
        [FAULT_STATE_CHANGED] = "STATE_CHANGED", [FAULT_HANG_BEGIN] = "HANG_BEGIN",
        [FAULT_HANG_END] = "HANG_END",
    };

    return names[type];
}

static void add(json_t *o, const char *name, json_t *value)
{
    json_object_set_new(o, name, value); /* fails for want of memory only: then the member is not told */
}

static json_t *integer(uint64_t v)
{
    return json_integer((json_int_t)MIN(v, (uint64_t)INT64_MAX));
}

static json_t *error_json(int error)
{
    const char *name = strerrorname_np(error);

    return name ? json_string(name) : json_integer(error);
}

static void add_request(json_t *o, const struct req *r)
{
    add(o, "operation", integer(r->opno));
    add(o, "op", json_string(fault_op_name(r->op)));
    if (r->op != REQ_FLUSH) {
        add(o, "offset", integer(r->offset));
        add(o, "bytes", integer(r->bytes));
    }
}

json_t *fault_event_data(const struct fault_event *e)
{
    json_t *o = json_pack("{s:s}", "node-name", e->node);

    if (!o) {
        return NULL;
    }
    if (e->rule) {
        add(o, "rule", json_string(e->rule));
        add(o, "tag", json_string(e->tag));
        add(o, "action", json_string(e->action));
        add(o, "matched", integer(e->matched));
        add(o, "fired", integer(e->fired));
    }
    if (e->req) {
        add_request(o, e->req);
    }
    if (e->error) {
        add(o, "errno", error_json(e->error));
    }
    if (e->type == FAULT_INJECTED && e->delay_ns) {
        add(o, "delay-ns", integer(e->delay_ns));
    }
    if (e->type == FAULT_INJECTED && e->dry_run) {
        add(o, "dry-run", json_true());
    }
    if (e->type == FAULT_STATE_CHANGED) {
        add(o, "old-state", json_integer(e->old_state));
        add(o, "new-state", json_integer(e->new_state));
    }
    if (e->type == FAULT_HANG_END) {
        add(o, "outcome", json_string(fault_outcome_names[e->outcome]));
        add(o, "held-ns", integer(e->delay_ns));
    }
    if (e->deadman) {
        add(o, "deadman", json_true());
    }
    return o;
}

/* ---- lists ---- */

static json_t *rule_json(const struct fault_engine *e, const struct fault_rule *rule)
{
    json_t *o = json_deep_copy(rule->spec);

    if (!o) {
        return NULL;
    }
    add(o, "matched", integer(rule->c.matched));
    add(o, "fired", integer(rule->c.fired));
    add(o, "last-matched", integer(rule->c.last_matched));
    add(o, "last-fired", integer(rule->c.last_fired));
    add(o, "exhausted", json_boolean(rule->exhausted));
    if (rule->lapsed) {
        add(o, "lapsed", json_true());
    }
    if (rule->event != FAULT_NO_EVENT) {
        add(o, "armed", json_boolean(rule->armed));
    }
    add(o, "held", integer(fault_held_by(e, rule)));
    return o;
}

json_t *fault_list(const struct node *n)
{
    const struct fault_engine *e = fault_engine_of(n);
    AUTO_JSON json_t *out = json_array();

    for (unsigned i = 0; i < e->list.nrules; i++) {
        if (!out || json_array_append_new(out, rule_json(e, e->list.rules[i])) < 0) {
            return NULL;
        }
    }
    return TAKE_PTR(out);
}

json_t *fault_status(const struct node *n)
{
    const struct fault_engine *e = fault_engine_of(n);

    return json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:o}", "node-name", node_name(n), "state",
                     (json_int_t)e->state, "dry-run", (int)e->dry_run, "rules", (json_int_t)e->list.nrules,
                     "held", (json_int_t)e->nheld, "waiting", (json_int_t)e->nsleeping, "breakpoints",
                     fault_breaks_json(e));
}

static const struct metric rule_matched = {
    "fault_rule_matched_total", "Requests and events that a rule concerned.", "rule", METRIC_COUNTER};
static const struct metric rule_fired = {"fault_rule_fired_total", "How often a rule acted.", "rule",
                                         METRIC_COUNTER};
static const struct metric held = {"fault_held_requests", "Requests that rules hold now.", NULL,
                                   METRIC_GAUGE};
static const struct metric waiting = {"fault_delayed_requests", "Requests that rules delay now.", NULL,
                                      METRIC_GAUGE};

void fault_metrics(const struct node *n, metric_out *out, void *opaque)
{
    const struct fault_engine *e = fault_engine_of(n);

    for (unsigned i = 0; i < e->list.nrules; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        out(opaque, &rule_matched, rule->id, (double)rule->c.matched);
        out(opaque, &rule_fired, rule->id, (double)rule->c.fired);
    }
    out(opaque, &held, NULL, e->nheld);
    out(opaque, &waiting, NULL, e->nsleeping);
}

int64_t fault_state(const struct node *n)
{
    return (int64_t)fault_engine_of(n)->state;
}

json_t *fault_held(const struct node *n)
{
    const struct fault_engine *e = fault_engine_of(n);
    const struct fault_held *h;
    AUTO_JSON json_t *out = json_array();
    uint64_t now = loop_now_ns();

    list_for_each (h, &e->held, link) {
        json_t *o = json_pack("{s:s, s:s, s:s}", "rule", h->rule->id, "tag", h->rule->tag, "hold",
                              h->rule->hold == FAULT_HOLD_REPLY ? "reply" : "request");
        if (!out || json_array_append_new(out, o) < 0) {
            return NULL;
        }
        add_request(o, h->req);
        add(o, "held-ns", integer(now > h->since_ns ? now - h->since_ns : 0));
    }
    return TAKE_PTR(out);
}

static struct fault_rule *find(const struct fault_engine *e, const char *id)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        if (strcmp(e->list.rules[i]->id, id) == 0) {
            return e->list.rules[i];
        }
    }
    return NULL;
}

static int no_such_rule(const struct node *n, const char *id, struct err *err)
{
    return err_set(err, -ENOENT, "node '%s' has no rule '%.100s'", node_name(n), id);
}

int fault_counters(const struct node *n, const char *id, struct fault_counters *ret, struct err *err)
{
    const struct fault_rule *rule = find(fault_engine_of(n), id);

    if (!rule) {
        return no_such_rule(n, id, err);
    }
    *ret = rule->c;
    return 0;
}

/* ---- waiting ---- */

struct waiter {
    struct list link;
    const struct fault_wait *wait;
    struct fault_rule *rule;
    struct timer timer;
    struct co *co;
    int result;
};

static void wake(struct waiter *w, int result)
{
    list_del(&w->link);
    timer_disarm(&w->timer);
    w->result = result;
    co_wake(w->co);
}

static void timed_out(struct timer *t)
{
    wake(container_of(t, struct waiter, timer), -ETIMEDOUT);
}

static bool reached(const struct fault_wait *w, const struct fault_rule *rule)
{
    return (w->matched ? rule->c.matched : rule->c.fired) >= w->count;
}

void fault_waits_check(struct fault_engine *e)
{
    struct waiter *w, *tmp;

    list_for_each_safe (w, tmp, &e->waiting, link) {
        if (reached(w->wait, w->rule)) {
            wake(w, 0);
        } else if (w->rule->removed) {
            wake(w, -ENOENT);
        }
    }
}

void fault_waits_end(struct fault_engine *e)
{
    struct waiter *w, *tmp;

    list_for_each_safe (w, tmp, &e->waiting, link) {
        wake(w, -ECANCELED);
    }
}

void fault_wait_cancel(struct node *n, const void *owner)
{
    struct waiter *w, *tmp;

    list_for_each_safe (w, tmp, &fault_engine_of(n)->waiting, link) {
        if (w->wait->owner == owner) {
            wake(w, -ECANCELED);
        }
    }
}

static co_fn int wait_until(struct fault_engine *e, struct waiter *w)
{
    uint64_t now = loop_clock_ns(), timeout = w->wait->timeout_ns;

    if (reached(w->wait, w->rule)) {
        return 0;
    }
    if (timeout == 0) {
        return -ETIMEDOUT;
    }
    if (e->ending) {
        return -ECANCELED;
    }
    if (timeout < UINT64_MAX - now && timer_arm(&w->timer, now + timeout) < 0) {
        return -ENOMEM;
    }
    list_add_tail(&e->waiting, &w->link);
    co_suspend();
    return w->result;
}

int fault_wait(struct node *n, const struct fault_wait *wait, struct fault_counters *ret, struct err *err)
{
    struct fault_engine *e = fault_engine_of(n);
    struct waiter w = {.wait = wait, .rule = find(e, wait->id), .timer.fire = timed_out, .co = co_self()};

    if (!w.rule) {
        return no_such_rule(n, wait->id, err);
    }
    fault_rule_ref(w.rule);
    int r = wait_until(e, &w);
    *ret = w.rule->c;
    switch (r) {
    case -ETIMEDOUT:
        err_set(err, r, "rule '%s' has %s %llu times until now, not %llu", w.rule->id,
                wait->matched ? "matched" : "fired",
                (unsigned long long)(wait->matched ? ret->matched : ret->fired),
                (unsigned long long)wait->count);
        break;
    case -ENOENT:
        err_set(err, r, "rule '%s' was removed", w.rule->id);
        break;
    case 0:
        break;
    default:
        err_set_errno(err, r, "waiting for rule '%s'", w.rule->id);
    }
    fault_rule_unref(w.rule);
    return r;
}
