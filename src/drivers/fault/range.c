/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of the disk, in bytes and in sectors. */
#include "base/size.h"
#include "drivers/fault/member.h"

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

FAULT_PARSE(fault_parse_ranges)
{
    return parse_in_units(rule, m, v, 1, err);
}

FAULT_PARSE(fault_parse_sectors)
{
    return parse_in_units(rule, m, v, SECTOR_SIZE, err);
}

/* ---- overlap ---- */

enum { ANY, INSIDE, FIRST, SPLIT };
const char *const fault_overlaps[] = {"any", "inside", "first", "split", NULL};

static int by_start(const void *a, const void *b)
{
    const struct fault_range *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

void fault_sort_ranges(struct fault_rule *rule)
{
    unsigned n = 0;

    if (rule->nranges == 0) {
        return;
    }
    qsort(rule->ranges, rule->nranges, sizeof(*rule->ranges), by_start);
    for (unsigned i = 1; i < rule->nranges; i++) {
        if (rule->ranges[i].start <= rule->ranges[n].end) {
            rule->ranges[n].end = MAX(rule->ranges[n].end, rule->ranges[i].end);
        } else {
            rule->ranges[++n] = rule->ranges[i];
        }
    }
    rule->nranges = n + 1;
}

/* Who asks more than whether a byte is shared searches. */
int fault_prepare_ranges(struct fault_rule *rule, struct err *err)
{
    if (rule->overlap == ANY) {
        return 0;
    }
    if (!rule->ranges) {
        return err_set(err, -EINVAL, "overlap needs the member ranges or sectors");
    }
    fault_sort_ranges(rule);
    rule->needs |= rule->overlap == SPLIT ? FAULT_NEEDS_SPLIT : 0;
    return 0;
}

unsigned fault_range_at(const struct fault_rule *rule, uint64_t offset)
{
    unsigned low = 0, high = rule->nranges;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (rule->ranges[mid].end <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

FAULT_ASK(fault_overlap_holds)
{
    if (rule->overlap == ANY || rule->overlap == SPLIT) {
        return true; /* the index has found a shared byte; pieces share all or none */
    }
    unsigned i = fault_range_at(rule, r->offset);
    return i < rule->nranges && rule->ranges[i].start <= r->offset &&
           (rule->overlap == FIRST || r->offset + r->bytes <= rule->ranges[i].end);
}

uint64_t fault_next_border(const struct fault_rule *rule, uint64_t offset, uint64_t end)
{
    unsigned i = fault_range_at(rule, offset);

    if (rule->overlap != SPLIT || i == rule->nranges) {
        return end;
    }
    const struct fault_range *range = &rule->ranges[i];
    return MIN(end, range->start > offset ? range->start : range->end);
}
