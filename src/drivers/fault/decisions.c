/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decisions of fault rules: keeping a log of them, and repeating those of another run. A client whose timing
 * differs gives requests other operation numbers, and rules other matches; so a request is known by its node,
 * its operation, its place, and how many like it came before. Memory is bounded, and nothing here waits but
 * what opens and ends it.
 */
#include "drivers/fault/decisions.h"

#include <stdarg.h>
#include <stdio.h>

#define SEEN_BITS                                                                                            \
    20 /* requests of different operation or place that can be counted: a million, in 16 MiB                 \
        */
#define SEEN_SIZE ((size_t)1 << SEEN_BITS)
#define SEEN_MAX  (SEEN_SIZE / 8 * 7) /* fuller, and looking for a free place takes long */

void decisions_notice(struct graph *g, enum notice_kind kind, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (g->notice) {
        g->notice(g, kind, text);
    }
}

/* ---- which request ---- */

static uint64_t mix(uint64_t key, uint64_t value)
{
    uint64_t x = key ^ value;

    return splitmix64(&x);
}

uint64_t decision_request_key(const char *node, int op, uint64_t offset, uint64_t bytes, uint64_t nth)
{
    return mix(mix(mix(mix(fault_rule_key(node), (uint64_t)op), offset), bytes), nth);
}

uint64_t decision_rule_key(const char *node, uint64_t rule)
{
    return mix(mix(0, fault_rule_key(node)), rule);
}

/* How many requests like this there are now; 0: there is no room to count them. */
static uint64_t count(struct fault_decisions *d, const char *node, const struct req *r)
{
    uint64_t key = decision_request_key(node, r->op, r->offset, r->bytes, 0) | 1;
    size_t at = key >> (64 - SEEN_BITS);

    while (d->seen[at].key != 0 && d->seen[at].key != key) {
        at = (at + 1) % SEEN_SIZE;
    }
    if (d->seen[at].key == 0 && d->nseen == SEEN_MAX) {
        if (!d->full_told) {
            d->full_told = true;
            decisions_notice(d->graph, NOTICE_WARNING,
                             "decisions: more than %zu requests differ in operation or place: those that are "
                             "new are not counted, and what is decided about them cannot be repeated",
                             SEEN_MAX);
        }
        return 0;
    }
    d->nseen += d->seen[at].key == 0;
    d->seen[at].key = key;
    return ++d->seen[at].count;
}

/* ---- deciding ---- */

/* The first decision of this request, or where it would stand. */
static size_t first_of(const struct fault_decisions *d, uint64_t request)
{
    size_t lo = 0, hi = d->ndecided;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (d->decided[mid].request < request) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void fault_decisions_arrives(struct fault_engine *e, struct req *r)
{
    struct fault_decisions *d = e->node->graph->decisions;
    const char *node = node_name(e->node);

    d->nth = count(d, node, r);
    d->nnow = 0;
    if (d->nth == 0 || d->ndecided == 0) {
        return;
    }
    uint64_t request = decision_request_key(node, r->op, r->offset, r->bytes, d->nth);
    size_t i = first_of(d, request);
    d->now = &d->decided[i];
    while (i + d->nnow < d->ndecided && d->now[d->nnow].request == request) {
        d->nnow++;
    }
    if (d->nnow > 0) {
        r->drawn_as = d->now->opno; /* of the same request there, for all rules */
    }
}

bool fault_decisions_governs(const struct fault_engine *e, const struct fault_rule *rule)
{
    const struct fault_decisions *d = e->node->graph->decisions;
    size_t lo = 0, hi = d->ngoverned;

    if (!d->replays) {
        return false;
    }
    uint64_t key = decision_rule_key(node_name(e->node), rule->key);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (d->governed[mid] == key) {
            return true;
        }
        if (d->governed[mid] < key) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

bool fault_decisions_fires(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    struct fault_decisions *d = e->node->graph->decisions;

    rule->c.matched++;
    rule->c.last_matched = r->opno;
    if (UNLIKELY(!list_empty(&e->waiting))) {
        fault_waits_check(e);
    }
    for (size_t i = 0; i < d->nnow; i++) {
        if (d->now[i].rule == rule->key) {
            const struct fault_action *a = &fault_actions[rule->action];
            bool able = !a->concerns || a->concerns(e, rule, r); /* it must have something to act upon */
            d->now[i].met |= able;
            return able;
        }
    }
    return false;
}

void fault_decisions_fired(struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    const struct fault_decisions *d = e->node->graph->decisions;

    if (d->log) {
        decision_log_add(d->log, e, rule, r, r ? d->nth : 0);
    }
}

/* ---- beginning and ending ---- */

static int begin(struct graph *g, struct err *err)
{
    if (g->decisions) {
        return 0;
    }
    struct fault_decisions *d = calloc(1, sizeof(*d));
    struct seen *seen = calloc(SEEN_SIZE, sizeof(*seen));
    if (!d || !seen) {
        free(d);
        free(seen);
        return err_set(err, -ENOMEM, "no memory to count requests");
    }
    d->graph = g;
    d->seen = seen;
    g->decisions = d;
    return 0;
}

int fault_decisions_log_to(struct graph *g, const char *path, struct err *err)
{
    struct decision_log *log;
    int r = decision_log_open(g, path, &log, err);

    if (r < 0) {
        return r;
    }
    r = begin(g, err);
    if (r < 0) {
        decision_log_close(log);
        return r;
    }
    g->decisions->log = log;
    return 0;
}

int fault_decisions_replay(struct graph *g, const char *path, struct err *err)
{
    int r = begin(g, err);

    if (r < 0) {
        return r;
    }
    g->decisions->replays = true;
    r = decisions_read(g->decisions, path, err);
    if (r < 0) {
        g->decisions->ndecided = 0; /* what is missing of them is no news */
    }
    return r;
}

void fault_decisions_end(struct graph *g)
{
    struct fault_decisions *d = g->decisions;
    size_t unmet = 0;

    if (!d) {
        return;
    }
    g->decisions = NULL;
    decision_log_close(d->log);
    for (size_t i = 0; i < d->ndecided; i++) {
        unmet += !d->decided[i].met;
    }
    if (unmet > 0) {
        decisions_notice(g, NOTICE_WARNING,
                         "%zu of %zu decisions were not repeated: their requests did not come", unmet,
                         d->ndecided);
    }
    free(d->decided);
    free(d->governed);
    free(d->seen);
    free(d);
}
