/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Selectors: functions that look at a request, or at how often the rule has matched. None of them waits.
 */
#include "drivers/fault/member.h"

/* ---- the request ---- */

FAULT_ASK(fault_flags_hold)
{
    return (r->flags & rule->flags_set) == rule->flags_set;
}

FAULT_ASK(fault_without_holds)
{
    return (r->flags & rule->flags_clear) == 0;
}

/* ---- event and state ---- */

FAULT_ASK(fault_event_holds)
{
    return rule->armed;
}

/* With an event, the state counts when the event happens (event.c). */
FAULT_ASK(fault_state_holds)
{
    return rule->state == 0 || rule->event != FAULT_NO_EVENT || rule->state == e->state;
}

/* ---- how often: c.matched counts this match already ---- */

FAULT_ASK(fault_skip_turn)
{
    return rule->c.matched > rule->skip;
}

FAULT_ASK(fault_nth_turn)
{
    return rule->c.matched - rule->skip == rule->nth;
}

FAULT_ASK(fault_every_turn)
{
    return (rule->c.matched - rule->skip) % rule->every == 0;
}

FAULT_PARSE(fault_parse_probability)
{
    double p = json_number_value(v);
    bool good = json_is_number(v);

    if (json_is_string(v)) {
        char *end;
        p = strtod(json_string_value(v), &end);
        good = end != json_string_value(v);
        if (good && *end == '%') {
            p /= 100;
            end++;
        }
        good &= *end == '\0';
    }
    if (!good || !(p > 0) || !(p <= 1)) {
        return err_set(err, -EINVAL,
                       "probability: expected a number above 0 and at most 1, or above 0%% and "
                       "at most 100%%");
    }
    rule->chance = p >= 1 ? UINT64_MAX : (uint64_t)(p * 18446744073709551616.0);
    return 0;
}

/* Counter-based: a function of the seed, the rule, and the operation's number and place, so that it
 * is the same whenever and after whatever the operation is seen. */
FAULT_ASK(fault_probability_turn)
{
    uint64_t x = e->seed ^ rule->key;

    x = splitmix64(&x) ^ (r ? r->opno : rule->c.matched);
    x = splitmix64(&x) ^ (r ? r->offset << 3 | r->op : 0);
    return splitmix64(&x) <= rule->chance;
}
