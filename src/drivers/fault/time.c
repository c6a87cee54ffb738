/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules and time: windows since the rule was added, cycles of being on and off, and what grows. Time is the
 * loop's, and what is drawn follows from the seed, the rule and the number of the cycle. A rule keeps where
 * it is in its cycles, so that a look costs no more than the cycles since the last one.
 */
#include <math.h>

#include "drivers/fault/member.h"

#define CYCLES_WALKED_MAX 4096 /* cycles of random length passed one by one; beyond, the mean does */

uint64_t fault_scaled(uint64_t ns, double scale)
{
    if (ns == 0 || ns == UINT64_MAX) {
        return ns;
    }
    double scaled = (double)ns * scale;
    return scaled < 1 ? 1 : scaled > (double)FAULT_TIME_MAX_NS ? FAULT_TIME_MAX_NS : (uint64_t)scaled;
}

/* Every member that is a time, whatever it is for: the table knows. */
void fault_scale_times(struct fault_rule *rule, double scale)
{
    for (unsigned i = 0; fault_members[i].opt.name; i++) {
        const struct fault_member *m = &fault_members[i];
        void *place = (char *)rule + m->opt.offset;
        if (m->opt.type == OPT_NS) {
            *(uint64_t *)place = fault_scaled(*(uint64_t *)place, scale);
        } else if (m->parse == fault_parse_times) {
            struct fault_interval *t = place;
            *t = (struct fault_interval){fault_scaled(t->min, scale), fault_scaled(t->max, scale)};
        }
    }
    fault_scale_delay(rule, scale);
}

/* ---- when ---- */

static uint64_t length_of(const struct fault_engine *e, const struct fault_rule *rule, uint64_t number)
{
    const struct fault_interval *t = number % 2 ? &rule->off_for : &rule->on_for;

    return t->min + mul_high(fault_hash(e, rule, number, 0), t->max - t->min + 1);
}

static uint64_t mean_cycle_ns(const struct fault_rule *rule)
{
    return (rule->on_for.min + rule->on_for.max + rule->off_for.min + rule->off_for.max) / 2;
}

/* Go on to the phase of @now: even ones are on. */
static void walk(const struct fault_engine *e, struct fault_rule *rule, uint64_t now)
{
    if (rule->phase_end_ns == 0) {
        rule->phase = 0;
        rule->phase_end_ns = rule->added_ns + rule->from_ns + length_of(e, rule, 0);
    }
    if (now < rule->phase_end_ns) {
        return;
    }
    uint64_t cycles = (now - rule->phase_end_ns) / mean_cycle_ns(rule);
    bool regular = rule->on_for.min == rule->on_for.max && rule->off_for.min == rule->off_for.max;
    if (cycles > CYCLES_WALKED_MAX || regular) {
        rule->phase += 2 * cycles;
        rule->phase_end_ns += cycles * mean_cycle_ns(rule);
    }
    while (now >= rule->phase_end_ns) {
        rule->phase++;
        rule->phase_end_ns += length_of(e, rule, rule->phase);
    }
}

FAULT_ASK(fault_window_holds)
{
    uint64_t now = loop_now_ns(), since = now > rule->added_ns ? now - rule->added_ns : 0;

    if (since < rule->from_ns || (rule->until_ns > 0 && since >= rule->until_ns)) {
        return false;
    }
    if (rule->on_for.max == 0) {
        return true;
    }
    walk(e, rule, now);
    return rule->phase % 2 == 0;
}

/* When the phase or window that holds now is over. */
uint64_t fault_window_end_ns(const struct fault_rule *rule)
{
    uint64_t end = rule->until_ns > 0 ? rule->added_ns + rule->until_ns : UINT64_MAX;

    return rule->on_for.max > 0 ? MIN(end, rule->phase_end_ns) : end;
}

/* ---- what grows ---- */

/* From 0, when the rule begins, to 1, @ramp_ns later. */
double fault_ramp(const struct fault_rule *rule, uint64_t ramp_ns)
{
    uint64_t begin = rule->added_ns + rule->from_ns, now = loop_now_ns();

    if (ramp_ns == 0 || now >= begin + ramp_ns) {
        return 1;
    }
    return now <= begin ? 0 : (double)(now - begin) / (double)ramp_ns;
}

/* ---- sense ---- */

static bool has(const struct fault_rule *rule, const char *member)
{
    return json_object_get(rule->spec, member) != NULL;
}

int fault_check_times(struct fault_rule *rule, struct err *err)
{
    if (has(rule, "at")) {
        if (has(rule, "from") || has(rule, "count")) {
            return err_set(err, -EINVAL,
                           "at means from this time on, once: from and count do not go with it");
        }
        rule->from_ns = rule->at_ns;
        rule->count = 1;
    }
    if (has(rule, "until") && rule->until_ns <= rule->from_ns) {
        return err_set(err, -EINVAL, "until is not after %s: such a rule would never act",
                       has(rule, "at") ? "at" : "from");
    }
    if (has(rule, "on-for") != has(rule, "off-for")) {
        return err_set(err, -EINVAL, "on-for and off-for go together");
    }
    if (has(rule, "probability-ramp") && !has(rule, "probability")) {
        return err_set(err, -EINVAL, "probability-ramp needs the member probability, to which it leads");
    }
    return 0;
}
