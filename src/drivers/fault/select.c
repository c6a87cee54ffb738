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

static bool has_range(const struct req *r)
{
    return r->op != REQ_FLUSH && r->op != REQ_TRUNCATE;
}

static bool within(const struct fault_interval *i, uint64_t n)
{
    return n >= i->min && n <= i->max;
}

FAULT_ASK(fault_size_holds)
{
    return has_range(r) && within(&rule->size, r->bytes);
}

FAULT_ASK(fault_aligned_holds)
{
    return has_range(r) && r->offset % rule->aligned == 0 && r->bytes % rule->aligned == 0;
}

FAULT_ASK(fault_unaligned_holds)
{
    return has_range(r) && (r->offset % rule->unaligned != 0 || r->bytes % rule->unaligned != 0);
}

/* The gate counts this request already. */
FAULT_ASK(fault_in_flight_holds)
{
    return within(&rule->in_flight, e->node->gate.count);
}

FAULT_ASK(fault_client_holds)
{
    return within(&rule->client, r->client);
}

FAULT_ASK(fault_epoch_write_holds)
{
    bool writes = r->op == REQ_WRITE || r->op == REQ_ZERO;

    return within(&rule->epoch_write, e->epoch_writes + writes);
}

FAULT_ASK(fault_flush_epoch_holds)
{
    return within(&rule->flush_epoch, e->flushes - rule->flushes_before);
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
uint64_t fault_hash(const struct fault_engine *e, const struct fault_rule *rule, uint64_t a, uint64_t b)
{
    uint64_t x = e->seed ^ rule->key;

    x = splitmix64(&x) ^ a;
    x = splitmix64(&x) ^ b;
    return splitmix64(&x);
}

FAULT_ASK(fault_probability_turn)
{
    uint64_t chance = rule->chance;

    if (UNLIKELY(rule->probability_ramp_ns > 0)) {
        double p = (double)chance * fault_ramp(rule, rule->probability_ramp_ns);
        chance = p < 1.8e19 ? (uint64_t)p : chance;
    }
    return fault_hash(e, rule, r ? r->opno : rule->c.matched, r ? r->offset << 3 | r->op : 0) <= chance;
}

/* Asked first, of every match. */
FAULT_ASK(fault_skip_bytes_turn)
{
    uint64_t before = rule->matched_bytes;

    rule->matched_bytes += r ? r->bytes : 0;
    return before >= rule->skip_bytes;
}
