/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a request to the rules that may concern it: for each operation the rules without ranges, and the
 * ranges of the others, sorted. Where no two overlap, a binary search finds the first; else the array is an
 * interval tree (the middle is the root). Made anew when rules change; a look-up allocates nothing and gives
 * the rules in their order.
 */
#include "drivers/fault/internal.h"

/* ---- making it ---- */

static bool in_class(const struct fault_rule *rule, enum req_op op)
{
    /* An action on the event itself is no matter of requests. */
    bool on_event =
        (rule->event != FAULT_NO_EVENT && fault_actions[rule->action].on_event) || rule->timer_ns.max > 0;

    return rule->enabled && !rule->exhausted && !on_event && (rule->ops & 1u << op);
}

static bool has_range(enum req_op op)
{
    return op != REQ_FLUSH && op != REQ_TRUNCATE;
}

static int by_start(const void *a, const void *b)
{
    const struct fault_span *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static uint64_t set_max_end(struct fault_span *s, unsigned lo, unsigned hi)
{
    if (lo == hi) {
        return 0;
    }
    unsigned mid = lo + (hi - lo) / 2;
    uint64_t left = set_max_end(s, lo, mid), right = set_max_end(s, mid + 1, hi);

    return s[mid].max_end = MAX(s[mid].end, MAX(left, right));
}

/* An array of the starts alone, to be searched quickly, if that is enough. */
static int make_starts(struct fault_class *c)
{
    for (unsigned i = 1; i < c->nspans; i++) {
        if (c->spans[i].start < c->spans[i - 1].end) {
            return 0;
        }
    }
    c->starts = malloc(c->nspans * sizeof(*c->starts));
    if (!c->starts) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < c->nspans; i++) {
        c->starts[i] = c->spans[i].start;
    }
    return 0;
}

static int make_class(struct fault_class *c, struct fault_rule *const *rules, unsigned nrules, enum req_op op)
{
    size_t always = 0, spans = 0;

    for (unsigned i = 0; i < nrules; i++) {
        if (in_class(rules[i], op)) {
            always += !rules[i]->ranges;
            spans += has_range(op) ? rules[i]->nranges : 0;
        }
    }
    c->always = always ? malloc(always * sizeof(*c->always)) : NULL;
    c->spans = spans ? malloc(spans * sizeof(*c->spans)) : NULL;
    if ((always && !c->always) || (spans && !c->spans)) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < nrules; i++) {
        if (!in_class(rules[i], op)) {
            continue;
        }
        if (!rules[i]->ranges) {
            c->always[c->nalways++] = i;
        }
        for (unsigned k = 0; has_range(op) && k < rules[i]->nranges; k++) {
            c->spans[c->nspans++] =
                (struct fault_span){rules[i]->ranges[k].start, rules[i]->ranges[k].end, 0, i};
        }
    }
    if (c->nspans) {
        qsort(c->spans, c->nspans, sizeof(*c->spans), by_start);
        set_max_end(c->spans, 0, c->nspans);
        return make_starts(c);
    }
    return 0;
}

static int make_events(struct fault_index *x, struct fault_rule *const *rules, unsigned nrules)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nrules; i++) {
        n += rules[i]->event != FAULT_NO_EVENT;
    }
    x->by_event = n ? malloc(n * sizeof(*x->by_event)) : NULL;
    if (n && !x->by_event) {
        return -ENOMEM;
    }
    n = 0;
    for (int event = 0; event < BLOCK_EVENT_COUNT; event++) {
        x->event_first[event] = n;
        for (unsigned i = 0; i < nrules; i++) {
            if (rules[i]->event == event && rules[i]->enabled && !rules[i]->exhausted) {
                x->by_event[n++] = i;
                x->events |= UINT64_C(1) << event;
            }
        }
    }
    x->event_first[BLOCK_EVENT_COUNT] = n;
    return 0;
}

void fault_index_free(struct fault_index *x)
{
    if (!x) {
        return;
    }
    for (int op = 0; op < REQ_OP_COUNT; op++) {
        free(x->classes[op].always);
        free(x->classes[op].spans);
        free(x->classes[op].starts);
    }
    free(x->by_event);
    free(x->found);
    free(x);
}

int fault_index_make(struct fault_rule *const *rules, unsigned nrules, struct fault_index **ret)
{
    _Static_assert(BLOCK_EVENT_COUNT <= 64, "events are bits of a word");

    if (nrules == 0) {
        *ret = NULL;
        return 0;
    }
    struct fault_index *x = calloc(1, sizeof(*x));
    if (!x) {
        return -ENOMEM;
    }
    x->nwords = (unsigned)div_up(nrules, 64);
    for (unsigned i = 0; i < nrules; i++) {
        x->needs |= rules[i]->enabled && !rules[i]->exhausted ? rules[i]->needs : 0;
    }
    x->found = calloc(x->nwords, sizeof(*x->found));
    int r = x->found ? make_events(x, rules, nrules) : -ENOMEM;
    for (int op = 0; r == 0 && op < REQ_OP_COUNT; op++) {
        r = make_class(&x->classes[op], rules, nrules, op);
    }
    if (r < 0) {
        fault_index_free(x);
        return r;
    }
    *ret = x;
    return 0;
}

/* ---- asking it ---- */

static inline void mark(struct fault_index *x, uint32_t rule, struct fault_hits *hits)
{
    unsigned word = rule / 64;

    x->found[word] |= UINT64_C(1) << rule % 64;
    hits->first = MIN(hits->first, word);
    hits->end = MAX(hits->end, word + 1);
}

static void find_spans(struct fault_index *x, const struct fault_span *s, unsigned lo, unsigned hi,
                       const struct fault_range *asked, struct fault_hits *hits)
{
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (s[mid].max_end <= asked->start) {
            return;
        }
        find_spans(x, s, lo, mid, asked, hits);
        if (s[mid].start >= asked->end) {
            return;
        }
        if (s[mid].end > asked->start) {
            mark(x, s[mid].rule, hits);
        }
        lo = mid + 1;
    }
}

/* No two overlap: the last that begins at or before the request may reach into it, and then those that
 * follow do, until one begins behind it. */
static void find_apart(struct fault_index *x, const struct fault_class *c, const struct fault_range *asked,
                       struct fault_hits *hits)
{
    const uint64_t *at = c->starts;

    for (unsigned n = c->nspans; n > 1;) { /* no branch that could be guessed wrong */
        unsigned half = n / 2;
        at = at[half] <= asked->start ? at + half : at;
        n -= half;
    }
    for (size_t i = (size_t)(at - c->starts); i < c->nspans && c->starts[i] < asked->end; i++) {
        if (c->spans[i].end > asked->start) {
            mark(x, c->spans[i].rule, hits);
        }
    }
}

void fault_index_find(struct fault_index *x, const struct req *r, struct fault_hits *ret)
{
    const struct fault_class *c = &x->classes[r->op];
    const struct fault_range asked = {r->offset, r->offset + r->bytes};

    *ret = (struct fault_hits){x->nwords, 0};
    for (unsigned i = 0; i < c->nalways; i++) {
        mark(x, c->always[i], ret);
    }
    if (c->starts) {
        find_apart(x, c, &asked, ret);
    } else if (c->nspans) {
        find_spans(x, c->spans, 0, c->nspans, &asked, ret);
    }
}
