/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * States that change by themselves: a rule with a timer sees no request. When the node has been in the rule's
 * state for the time (or, if it names none, in any), the rule has a match, and perhaps it acts. What is drawn
 * follows from the seed, the rule, and how often it has matched.
 */
#include "drivers/fault/internal.h"

#define TIMER_MIN_NS                                                                                         \
    (NS_PER_MS / 10) /* whatever the scale: two rules that chase each other must not wedge the loop */

static void start(struct fault_engine *e, struct fault_rule *rule);

static bool is_due(const struct fault_engine *e, const struct fault_rule *rule)
{
    return rule->timer_ns.max > 0 && rule->enabled && !rule->exhausted && !rule->removed &&
           (rule->state == 0 || rule->state == e->state);
}

static void fires(struct timer *t)
{
    struct fault_rule *rule = container_of(t, struct fault_rule, timer);
    struct fault_engine *e = rule->engine;

    rule->engine = NULL;
    if (!is_due(e, rule)) {
        return;
    }
    loop_clock_ns();
    uint64_t before = e->state;
    if (fault_rule_matches(e, rule, NULL)) {
        fault_rule_fires(e, rule, NULL);
        if (!e->dry_run) {
            fault_set_state(e, rule->new_state, rule, NULL);
        }
    }
    if (e->state == before) { /* else entering the state has started what belongs to it */
        start(e, rule);
    }
}

static void start(struct fault_engine *e, struct fault_rule *rule)
{
    if (!is_due(e, rule) || rule->engine || e->ending) {
        return;
    }
    uint64_t span = rule->timer_ns.max - rule->timer_ns.min + 1;
    uint64_t ns = rule->timer_ns.min + mul_high(fault_hash(e, rule, rule->c.matched, 1), span);
    rule->timer.fire = fires;
    if (timer_arm(&rule->timer, loop_clock_ns() + MAX(ns, TIMER_MIN_NS)) == 0) {
        rule->engine = e;
    }
}

void fault_timer_stop(struct fault_rule *rule)
{
    if (rule->engine) {
        timer_disarm(&rule->timer);
        rule->engine = NULL;
    }
}

void fault_timers_look(struct fault_engine *e)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        start(e, e->list.rules[i]);
    }
}

void fault_timers_enter(struct fault_engine *e)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        fault_timer_stop(e->list.rules[i]);
        start(e, e->list.rules[i]);
    }
}

void fault_timers_end(struct fault_engine *e)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        fault_timer_stop(e->list.rules[i]);
    }
}
