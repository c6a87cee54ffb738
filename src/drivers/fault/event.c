/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the node above announces. An event arms the rules that name it, until another event arms
 * others; it changes the state; and it stops requests at breakpoints. All rules of an event see the state
 * as it was before.
 */
#include <limits.h>
#include <stdio.h>

#include "drivers/fault/internal.h"

/* ---- names ---- */

static const char *const event_names[] = {
#define NAME(name) #name,
    BLOCK_EVENTS(NAME)
#undef NAME
};

/* QEMU's names until 2.5 had a dot where there is now one of the underscores. */
static bool same_name(const char *given, const char *name)
{
    unsigned dots = 0;

    for (; *given && *name; given++, name++) {
        if (*given == '.' && *name == '_') {
            dots++;
        } else if (*given != *name) {
            return false;
        }
    }
    return !*given && !*name && dots <= 1;
}

/* Where the dot was. */
static const char *const dotted[] = {"l1_grow.", "l2_alloc.", "refblock_alloc.", "pwritev_rmw."};

static bool dot_is_right(const char *given)
{
    if (!strchr(given, '.')) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(dotted); i++) {
        if (strncmp(given, dotted[i], strlen(dotted[i])) == 0) {
            return true;
        }
    }
    return false;
}

int fault_event_by_name(const char *name)
{
    for (int i = 0; i < BLOCK_EVENT_COUNT; i++) {
        if (same_name(name, event_names[i]) && dot_is_right(name)) {
            return i;
        }
    }
    return FAULT_NO_EVENT;
}

/* ---- rules ---- */

void fault_set_state(struct fault_engine *e, uint64_t state, const struct fault_rule *why,
                     const struct req *r)
{
    uint64_t old = e->state;

    e->state = state;
    if (state != old) {
        fault_tell(e, FAULT_STATE_CHANGED, why, r,
                   &(struct fault_event){.old_state = (int64_t)old, .new_state = (int64_t)state});
        fault_timers_enter(e);
    }
}

static void disarm_all(struct fault_engine *e)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        e->list.rules[i]->armed = false;
    }
}

static bool sees_state(const struct fault_engine *e, const struct fault_rule *rule)
{
    return rule->state == 0 || rule->state == e->state;
}

static bool acts_on_event(const struct fault_rule *rule)
{
    return fault_actions[rule->action].on_event;
}

static void tell_rules(struct fault_engine *e, enum block_event event)
{
    const struct fault_index *x = e->list.index;
    const struct fault_rule *new_state = NULL;
    bool disarmed = false;

    for (uint32_t i = x->event_first[event]; i < x->event_first[event + 1]; i++) {
        struct fault_rule *rule = e->list.rules[x->by_event[i]];
        if (rule->exhausted || !sees_state(e, rule)) {
            continue;
        }
        if (acts_on_event(rule)) {
            if (fault_rule_matches(e, rule, NULL)) {
                fault_rule_fires(e, rule, NULL);
                new_state = new_state ? new_state : rule; /* the first wins */
            }
            continue;
        }
        if (!disarmed) {
            disarm_all(e);
            disarmed = true;
        }
        rule->armed = true;
    }
    if (new_state) {
        fault_set_state(e, new_state->new_state, new_state, NULL);
    }
}

/* For rules that have just been added the event none happens now, and for no others. */
void fault_arm_added(struct fault_engine *e)
{
    const struct fault_rule *new_state = NULL;

    for (unsigned i = 0; i < e->list.nrules; i++) {
        struct fault_rule *rule = e->list.rules[i];
        bool fresh = rule->fresh;
        rule->fresh = false;
        if (!fresh || rule->event != EVENT_none || !rule->enabled || rule->exhausted ||
            !sees_state(e, rule)) {
            continue;
        }
        if (!acts_on_event(rule)) {
            rule->armed = true;
        } else if (fault_rule_matches(e, rule, NULL)) {
            fault_rule_fires(e, rule, NULL);
            new_state = new_state ? new_state : rule;
        }
    }
    if (new_state) {
        fault_set_state(e, new_state->new_state, new_state, NULL);
    }
}

/* ---- breakpoints ---- */

#define BREAKS_MAX 4096 /* of a node: they are set one by one, by hand */

struct halt { /* a request that has stopped, in its own frame */
    struct co *co;
    unsigned left; /* breakpoints that have to be resumed */
};

struct fault_break {
    struct list link; /* in breaks, the latest first, then in stopped */
    enum block_event event;
    struct halt *halt; /* NULL: not hit */
    char tag[];
};

static void notice(struct fault_engine *e, const char *what, const char *tag)
{
    struct graph *g = e->node->graph;
    char text[ERR_TEXT_MAX];

    if (g->notice) {
        snprintf(text, sizeof(text), "blkdebug: %s request '%s'", what, tag);
        g->notice(g, NOTICE_BREAKPOINT, text);
    }
}

static void remove_break(struct fault_break *b)
{
    list_del(&b->link);
    if (b->halt && --b->halt->left == 0) {
        co_wake(b->halt->co);
    }
    free(b);
}

/* Each breakpoint is for one request, which goes on when all that it hit are resumed. */
static co_fn void stop_at(struct fault_engine *e, enum block_event event)
{
    struct halt halt = {.co = co_self()};
    struct fault_break *b, *tmp;

    list_for_each_safe (b, tmp, &e->breaks, link) {
        if (b->event == event) {
            list_del(&b->link);
            b->halt = &halt;
            halt.left++;
            list_add_tail(&e->stopped, &b->link);
            notice(e, "Suspended", b->tag);
        }
    }
    if (halt.left > 0) {
        co_suspend();
        assert(halt.left == 0);
    }
}

int fault_break(struct node *n, const char *event, const char *tag)
{
    struct fault_engine *e = fault_engine_of(n);
    int number = fault_event_by_name(event);

    if (number == FAULT_NO_EVENT) {
        return -ENOENT;
    }
    if (e->nbreaks >= BREAKS_MAX) {
        return -ENOSPC;
    }
    struct fault_break *b = malloc(sizeof(*b) + strlen(tag) + 1);
    if (!b) {
        return -ENOMEM;
    }
    *b = (struct fault_break){.event = (enum block_event)number};
    strcpy(b->tag, tag);
    list_add_head(&e->breaks, &b->link);
    e->break_events |= UINT64_C(1) << number;
    e->nbreaks++;
    fault_engine_look(e);
    return 0;
}

static unsigned remove_tagged(struct fault_engine *e, struct list *from, const char *tag, unsigned max)
{
    struct fault_break *b, *tmp;
    unsigned n = 0;

    list_for_each_safe (b, tmp, from, link) {
        if (n < max && (!tag || strcmp(b->tag, tag) == 0)) {
            remove_break(b);
            e->nbreaks--;
            n++;
        }
    }
    return n;
}

int fault_remove_break(struct node *n, const char *tag)
{
    struct fault_engine *e = fault_engine_of(n);
    unsigned removed = remove_tagged(e, &e->breaks, tag, UINT_MAX);

    for (; fault_resume(n, tag) == 0; removed++) {
    }
    return removed > 0 ? 0 : -ENOENT;
}

int fault_resume(struct node *n, const char *tag)
{
    struct fault_engine *e = fault_engine_of(n);

    if (!fault_is_stopped(n, tag)) {
        return -ENOENT;
    }
    notice(e, "Resuming", tag);
    remove_tagged(e, &e->stopped, tag, 1);
    return 0;
}

static bool is_in(const struct list *breaks, const char *tag)
{
    const struct fault_break *b;

    list_for_each (b, breaks, link) {
        if (strcmp(b->tag, tag) == 0) {
            return true;
        }
    }
    return false;
}

bool fault_is_stopped(const struct node *n, const char *tag)
{
    return is_in(&fault_engine_of(n)->stopped, tag);
}

bool fault_has_break(const struct node *n, const char *tag)
{
    return is_in(&fault_engine_of(n)->breaks, tag) || fault_is_stopped(n, tag);
}

void fault_breaks_end(struct fault_engine *e)
{
    remove_tagged(e, &e->breaks, NULL, UINT_MAX);
    remove_tagged(e, &e->stopped, NULL, UINT_MAX);
    e->break_events = 0;
}

json_t *fault_breaks_json(const struct fault_engine *e)
{
    json_t *out = json_array();
    const struct list *const lists[] = {&e->breaks, &e->stopped};

    for (size_t i = 0; out && i < ARRAY_SIZE(lists); i++) {
        const struct fault_break *b;
        list_for_each (b, lists[i], link) {
            json_array_append_new(out, json_pack("{s:s, s:s, s:b}", "event", event_names[b->event], "tag",
                                                 b->tag, "stopped", b->halt != NULL));
        }
    }
    return out;
}

/* ---- events ---- */

void fault_engine_event(struct node *n, enum block_event event)
{
    struct fault_engine *e = fault_engine_of(n);
    uint64_t bit = UINT64_C(1) << event;

    if (UNLIKELY(e->list.index && (e->list.index->events & bit))) {
        tell_rules(e, event);
    }
    if (UNLIKELY(e->break_events & bit) && !e->ending) {
        stop_at(e, event);
    }
}
