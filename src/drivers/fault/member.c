/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a rule may say. A new selector is one row here, and one function (select.c): holds, if it looks at the
 * request, or turn, if it looks at how often the rule has matched. Plain values need no parser: their
 * type, place and range stand in the row.
 */
#include "drivers/fault/member.h"

#define R(member) offsetof(struct fault_rule, member)

static const char *const when_values[] = {"before", "after", NULL};
static const char *const hold_values[] = {"request", "reply", NULL};

#define COUNT_MAX (UINT64_C(1) << 62)

const struct fault_member fault_members[] = {
    {{"id", OPT_STRING, R(id), .help = "name of the rule, unique in the node (default r1, r2, ...)"}, "rule"},
    {{"tag", OPT_STRING, R(tag),
      .help = "name that hang-release knows; several rules may share one (default: id)"},
     "rule"},
    {{"comment", OPT_STRING, .help = "any text"}, "rule", fault_parse_comment},
    {{"enabled", OPT_BOOL, R(enabled), .help = "false: the rule is there but does nothing (default true)"},
     "rule"},
    {{"action", OPT_STRING, .help = "what happens to the request", .required = true},
     "rule",
     fault_parse_action},

    {{"op", OPT_JSON, .help = "operation, or a list of them (default: read, write, zero, discard, flush)"},
     "selector",
     fault_parse_ops},
    {{"flags", OPT_JSON, .help = "flags that the request must have: fua, unmap, no-fallback, compressed"},
     "selector",
     fault_parse_flags,
     fault_flags_hold},
    {{"without", OPT_JSON, .help = "flags that it must not have"},
     "selector",
     fault_parse_without,
     fault_without_holds},
    {{"ranges", OPT_JSON, .help = "OFFSET+LENGTH in bytes, or a list: the request shares a byte with one"},
     "selector",
     fault_parse_ranges},
    {{"sectors", OPT_JSON, .help = "the same in sectors of 512 bytes: 8, \"0-63\", \"2048+16\""},
     "selector",
     fault_parse_sectors},
    {{"event", OPT_STRING, .help = "what the node above announced (the blkdebug events)"},
     "selector",
     fault_parse_event,
     fault_event_holds},
    {{"state", OPT_UINT, R(state), .max = FAULT_STATE_MAX, .help = "the node is in this state (0: any)"},
     "selector",
     NULL,
     fault_state_holds},
    {{"skip", OPT_UINT, R(skip), .max = COUNT_MAX, .help = "not the first so many that match"},
     "selector",
     NULL,
     NULL,
     fault_skip_turn},
    {{"nth", OPT_UINT, R(nth), .min = 1, .max = COUNT_MAX, .help = "only this match, from 1 (behind skip)"},
     "selector",
     NULL,
     NULL,
     fault_nth_turn},
    {{"every", OPT_UINT, R(every), .min = 1, .max = COUNT_MAX, .help = "each match whose number it divides"},
     "selector",
     NULL,
     NULL,
     fault_every_turn},
    {{"probability", OPT_JSON, .help = "chance of a match, above 0 and at most 1, or with a % sign"},
     "selector",
     fault_parse_probability,
     NULL,
     fault_probability_turn},
    {{"count", OPT_UINT, R(count), .min = 1, .max = COUNT_MAX,
      .help = "budget: acts so often, then never again"},
     "selector"},

    {{"errno", OPT_JSON, .help = "name or number of the error (default EIO)"}, "error", fault_parse_errno},
    {{"when", OPT_ENUM, R(when), .values = when_values,
      .help = "before (default): the device does not see the request; after: it has performed it"},
     "error, delay"},
    {{"immediately", OPT_BOOL, R(immediately),
      .help = "false: the reply waits a turn of the loop (default true)"},
     "error"},
    {{"delay", OPT_NS, R(delay_ns), .min = 1, .max = UINT64_C(86400) * NS_PER_SEC,
      .help = "time the request waits, up to a day"},
     "delay"},
    {{"hold", OPT_ENUM, R(hold), .values = hold_values,
      .help = "request (default): nothing reaches the device; reply: the device has performed it"},
     "hang"},
    {{"deadman", OPT_NS, R(deadman_ns), .max = UINT64_C(86400) * NS_PER_SEC,
      .help = "longest time a request is held, 0: no limit (default: the node's option)"},
     "hang"},
    {{"new-state", OPT_UINT, R(new_state), .max = FAULT_STATE_MAX, .help = "the state the node goes to"},
     "state"},
    {{0}},
};

/* ---- for schemas and manuals ---- */

bool fault_member_doc(unsigned i, struct fault_member_doc *ret)
{
    static const char *const types[] = {
        [OPT_BOOL] = "boolean",  [OPT_UINT] = "integer", [OPT_SIZE] = "size", [OPT_NS] = "time",
        [OPT_STRING] = "string", [OPT_ENUM] = "string",  [OPT_JSON] = "any",
    };

    if (i + 1 >= ARRAY_SIZE(fault_members)) {
        return false;
    }
    const struct fault_member *m = &fault_members[i];
    *ret = (struct fault_member_doc){m->opt.name, types[m->opt.type], m->role, m->opt.help};
    return true;
}
