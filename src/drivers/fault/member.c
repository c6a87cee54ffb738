/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a rule may say. A new selector is one row here, and one function: holds, if it looks at the
 * request, or turn, if it looks at how often the rule has matched. Plain values need no parser: their
 * type, place and range stand in the row.
 */
#include <stdio.h>

#include "base/size.h"
#include "drivers/fault/internal.h"

#define R(member) offsetof(struct fault_rule, member)

/* ---- lists of names ---- */

struct name {
    const char *name;
    unsigned bits;
};

static int name_bits(const struct name *names, const char *text, size_t len, const struct fault_member *m,
                     unsigned *bits, struct err *err)
{
    char list[256] = "";
    size_t used = 0;

    for (const struct name *n = names; n->name; n++) {
        if (strlen(n->name) == len && strncmp(n->name, text, len) == 0) {
            *bits |= n->bits;
            return 0;
        }
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", n->name);
        used = MIN(used, sizeof(list) - 1);
    }
    return err_set(err, -EINVAL, "%s '%.*s' is not known: expected %s", m->opt.name, (int)MIN(len, 60u), text,
                   list);
}

/* "a,b" */
static int names_in_text(const struct name *names, const char *text, const struct fault_member *m,
                         unsigned *bits, struct err *err)
{
    int r = 0;

    do {
        size_t len = strcspn(text, ",");
        r = name_bits(names, text, len, m, bits, err);
        text += len;
    } while (r == 0 && *text++ == ',');
    return r;
}

/* "a", "a,b", or ["a", "b"] */
static int parse_names(const struct name *names, const json_t *v, const struct fault_member *m,
                       unsigned *ret_bits, struct err *err)
{
    unsigned bits = 0;
    int r = 0;

    if (json_is_string(v)) {
        r = names_in_text(names, json_string_value(v), m, &bits, err);
    } else if (!json_is_array(v) || json_array_size(v) == 0) {
        return err_set(err, -EINVAL, "%s: expected a name or a list of names", m->opt.name);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(v); i++) {
        const char *text = json_string_value(json_array_get(v, i));
        r = text ? names_in_text(names, text, m, &bits, err)
                 : err_set(err, -EINVAL, "%s: every element must be a string", m->opt.name);
    }
    if (r == 0) {
        *ret_bits = bits;
    }
    return r;
}

static const struct name op_names[] = {
    {"read", 1u << REQ_READ},           {"write", 1u << REQ_WRITE},
    {"zero", 1u << REQ_ZERO},           {"discard", 1u << REQ_DISCARD},
    {"flush", 1u << REQ_FLUSH},         {"status", 1u << REQ_STATUS},
    {"truncate", 1u << REQ_TRUNCATE},   {"cache", 1u << REQ_CACHE},
    {"any", (1u << REQ_OP_COUNT) - 1},  {"write-zeroes", 1u << REQ_ZERO}, /* QEMU's names */
    {"block-status", 1u << REQ_STATUS}, {0},
};

const char *fault_op_name(enum req_op op)
{
    return op_names[op].name; /* in the order of the enum */
}

static int parse_ops(struct fault_rule *rule, const struct fault_member *m, const json_t *v, struct err *err)
{
    return parse_names(op_names, v, m, &rule->ops, err);
}

static const struct name flag_names[] = {
    {"fua", REQ_FUA},
    {"unmap", REQ_UNMAP},
    {"no-fallback", REQ_NO_FALLBACK},
    {"compressed", REQ_COMPRESSED},
    {0},
};

static int parse_flags(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                       struct err *err)
{
    return parse_names(flag_names, v, m, &rule->flags_set, err);
}

static int parse_without(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                         struct err *err)
{
    return parse_names(flag_names, v, m, &rule->flags_clear, err);
}

static bool flags_hold(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return (r->flags & rule->flags_set) == rule->flags_set;
}

static bool without_holds(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return (r->flags & rule->flags_clear) == 0;
}

/* ---- ranges ---- */

static int add_range(struct fault_rule *rule, uint64_t start, uint64_t bytes, uint64_t unit,
                     const struct fault_member *m, struct err *err)
{
    uint64_t end;

    if (__builtin_mul_overflow(start, unit, &start) || __builtin_mul_overflow(bytes, unit, &bytes) ||
        __builtin_add_overflow(start, bytes, &end) || end > BLOCK_SIZE_MAX) {
        return err_set(err, -EINVAL, "%s: the range ends beyond the largest disk there can be", m->opt.name);
    }
    if (bytes == 0) {
        return err_set(err, -EINVAL, "%s: the range is empty", m->opt.name);
    }
    if (rule->nranges == FAULT_RANGES_MAX) {
        return err_set(err, -EINVAL, "%s: more than %d ranges in a rule", m->opt.name, FAULT_RANGES_MAX);
    }
    if ((rule->nranges & (rule->nranges - 1)) == 0) { /* doubles at each power of two */
        size_t max = rule->nranges ? 2 * (size_t)rule->nranges : 1;
        struct fault_range *grown = realloc(rule->ranges, max * sizeof(*grown));
        if (!grown) {
            return err_set(err, -ENOMEM, "no memory for the ranges of a rule");
        }
        rule->ranges = grown;
    }
    rule->ranges[rule->nranges++] = (struct fault_range){start, end};
    return 0;
}

static int parse_part(const char *text, size_t len, uint64_t *ret)
{
    char part[64];

    if (len >= sizeof(part)) {
        return -EINVAL;
    }
    memcpy(part, text, len);
    part[len] = '\0';
    return size_parse(part, ret);
}

/* "A+N": N units from A; "A+": to the end; sectors also "A" (one) and "A-B" (B included). */
static int range_in_text(struct fault_rule *rule, const char *text, size_t len, uint64_t unit,
                         const struct fault_member *m, struct err *err)
{
    bool sectors = unit > 1;
    const char *sign = memchr(text, '+', len);
    uint64_t start = 0, n = 1;
    int r;

    if (!sign && sectors) {
        sign = memchr(text, '-', len);
    }
    size_t head = sign ? (size_t)(sign - text) : len;
    r = sign || sectors ? parse_part(text, head, &start) : -EINVAL;
    if (r == 0 && sign && *sign == '+' && head + 1 == len) {
        n = start < BLOCK_SIZE_MAX / unit ? BLOCK_SIZE_MAX / unit - start : 0;
    } else if (r == 0 && sign) {
        r = parse_part(sign + 1, len - head - 1, &n);
    }
    if (r == 0 && sign && *sign == '-') {
        r = n < start ? -EINVAL : 0;
        n = n - start + 1;
    }
    if (r < 0) {
        return err_set(err, r, "%s '%.*s': expected %s", m->opt.name, (int)MIN(len, 60u), text,
                       sectors ? "SECTOR, FIRST-LAST, FIRST+COUNT or FIRST+ (to the end)"
                               : "OFFSET+LENGTH, such as 1G+64M, or OFFSET+ (to the end)");
    }
    return add_range(rule, start, n, unit, m, err);
}

static int range_in_object(struct fault_rule *rule, json_t *v, uint64_t unit, const struct fault_member *m,
                           struct err *err)
{
    const char *from = unit > 1 ? "sector" : "offset", *length = unit > 1 ? "count" : "bytes";
    json_int_t start, n;

    if (json_unpack(v, "{s:I, s:I !}", from, &start, length, &n) < 0 || start < 0 || n < 0) {
        return err_set(err, -EINVAL, "%s: expected {\"%s\": number, \"%s\": number}", m->opt.name, from,
                       length);
    }
    return add_range(rule, (uint64_t)start, (uint64_t)n, unit, m, err);
}

static int range_element(struct fault_rule *rule, json_t *v, uint64_t unit, const struct fault_member *m,
                         struct err *err)
{
    if (json_is_object(v)) {
        return range_in_object(rule, v, unit, m, err);
    }
    if (json_is_integer(v) && json_integer_value(v) >= 0 && unit > 1) {
        return add_range(rule, (uint64_t)json_integer_value(v), 1, unit, m, err);
    }
    if (!json_is_string(v)) {
        return err_set(err, -EINVAL, "%s: expected a text such as %s", m->opt.name,
                       unit > 1 ? "\"8\" or \"0-63\"" : "\"1G+64M\"");
    }
    int r = 0;
    const char *text = json_string_value(v);
    do {
        size_t len = strcspn(text, ",");
        r = range_in_text(rule, text, len, unit, m, err);
        text += len;
    } while (r == 0 && *text++ == ',');
    return r;
}

static int parse_in_units(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                          uint64_t unit, struct err *err)
{
    if (!json_is_array(v)) {
        return range_element(rule, (json_t *)(uintptr_t)v, unit, m, err);
    }
    if (json_array_size(v) == 0) {
        return err_set(err, -EINVAL, "%s: the list is empty", m->opt.name);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(v); i++) {
        r = range_element(rule, json_array_get(v, i), unit, m, err);
    }
    return r;
}

static int parse_ranges(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                        struct err *err)
{
    return parse_in_units(rule, m, v, 1, err);
}

static int parse_sectors(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                         struct err *err)
{
    return parse_in_units(rule, m, v, SECTOR_SIZE, err);
}

/* ---- event and state ---- */

static int parse_event(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                       struct err *err)
{
    const char *name = json_string_value(v);

    rule->event = name ? fault_event_by_name(name) : FAULT_NO_EVENT;
    return rule->event == FAULT_NO_EVENT
               ? err_set(err, -EINVAL, "there is no event '%.60s'", name ? name : "?")
               : 0;
}

static bool event_holds(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return rule->armed;
}

/* With an event, the state counts when the event happens (event.c). */
static bool state_holds(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return rule->state == 0 || rule->event != FAULT_NO_EVENT || rule->state == e->state;
}

/* ---- how often: c.matched counts this match already ---- */

static bool skip_turn(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return rule->c.matched > rule->skip;
}

static bool nth_turn(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return rule->c.matched - rule->skip == rule->nth;
}

static bool every_turn(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    return (rule->c.matched - rule->skip) % rule->every == 0;
}

static int parse_probability(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                             struct err *err)
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
static bool probability_turn(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    uint64_t x = e->seed ^ rule->key;

    x = splitmix64(&x) ^ (r ? r->opno : rule->c.matched);
    x = splitmix64(&x) ^ (r ? r->offset << 3 | r->op : 0);
    return splitmix64(&x) <= rule->chance;
}

/* ---- parameters ---- */

static int parse_errno(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                       struct err *err)
{
    const char *name = json_string_value(v);
    long long number = json_is_integer(v) ? json_integer_value(v) : -1;

    if (name && *name >= '0' && *name <= '9') {
        char *end;
        number = strtoll(name, &end, 0);
        number = *end ? -1 : number;
    }
    for (int i = 1; name && number < 0 && i < 256; i++) {
        const char *known = strerrorname_np(i);
        number = known && strcmp(known, name) == 0 ? i : number;
    }
    if (number < 1 || number > FAULT_ERRNO_MAX) {
        return err_set(err, -EINVAL, "errno: expected a name such as EIO, or a number from 1 to %u",
                       FAULT_ERRNO_MAX);
    }
    rule->error = (int)number;
    return 0;
}

static int parse_action(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                        struct err *err)
{
    const char *name = json_string_value(v);
    char list[256] = "";
    size_t used = 0;

    for (int i = 0; fault_actions[i].name; i++) {
        if (name && strcmp(fault_actions[i].name, name) == 0) {
            rule->action = i;
            return 0;
        }
        used +=
            (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", fault_actions[i].name);
        used = MIN(used, sizeof(list) - 1);
    }
    return err_set(err, -EINVAL, "there is no action '%.60s': expected %s", name ? name : "?", list);
}

static int parse_comment(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                         struct err *err)
{
    return json_is_string(v) ? 0 : err_set(err, -EINVAL, "comment: expected a string");
}

/* ---- the table ---- */

static const char *const when_values[] = {"before", "after", NULL};
static const char *const hold_values[] = {"request", "reply", NULL};

#define COUNT_MAX (UINT64_C(1) << 62)

const struct fault_member fault_members[] = {
    {{"id", OPT_STRING, R(id), .help = "name of the rule, unique in the node (default r1, r2, ...)"}, "rule"},
    {{"tag", OPT_STRING, R(tag),
      .help = "name that hang-release knows; several rules may share one (default: id)"},
     "rule"},
    {{"comment", OPT_STRING, .help = "any text"}, "rule", parse_comment},
    {{"enabled", OPT_BOOL, R(enabled), .help = "false: the rule is there but does nothing (default true)"},
     "rule"},
    {{"action", OPT_STRING, .help = "what happens to the request", .required = true}, "rule", parse_action},

    {{"op", OPT_JSON, .help = "operation, or a list of them (default: read, write, zero, discard, flush)"},
     "selector",
     parse_ops},
    {{"flags", OPT_JSON, .help = "flags that the request must have: fua, unmap, no-fallback, compressed"},
     "selector",
     parse_flags,
     flags_hold},
    {{"without", OPT_JSON, .help = "flags that it must not have"}, "selector", parse_without, without_holds},
    {{"ranges", OPT_JSON, .help = "OFFSET+LENGTH in bytes, or a list: the request shares a byte with one"},
     "selector",
     parse_ranges},
    {{"sectors", OPT_JSON, .help = "the same in sectors of 512 bytes: 8, \"0-63\", \"2048+16\""},
     "selector",
     parse_sectors},
    {{"event", OPT_STRING, .help = "what the node above announced (the blkdebug events)"},
     "selector",
     parse_event,
     event_holds},
    {{"state", OPT_UINT, R(state), .max = FAULT_STATE_MAX, .help = "the node is in this state (0: any)"},
     "selector",
     NULL,
     state_holds},
    {{"skip", OPT_UINT, R(skip), .max = COUNT_MAX, .help = "not the first so many that match"},
     "selector",
     NULL,
     NULL,
     skip_turn},
    {{"nth", OPT_UINT, R(nth), .min = 1, .max = COUNT_MAX, .help = "only this match, from 1 (behind skip)"},
     "selector",
     NULL,
     NULL,
     nth_turn},
    {{"every", OPT_UINT, R(every), .min = 1, .max = COUNT_MAX, .help = "each match whose number it divides"},
     "selector",
     NULL,
     NULL,
     every_turn},
    {{"probability", OPT_JSON, .help = "chance of a match, above 0 and at most 1, or with a % sign"},
     "selector",
     parse_probability,
     NULL,
     probability_turn},
    {{"count", OPT_UINT, R(count), .min = 1, .max = COUNT_MAX,
      .help = "budget: acts so often, then never again"},
     "selector"},

    {{"errno", OPT_JSON, .help = "name or number of the error (default EIO)"}, "error", parse_errno},
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
