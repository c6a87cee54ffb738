/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Members that are numbers "N", or lie between two: "N-M", or are at least one: "N+". What they are made
 * of (counts, sizes, times) is a function; the place in the rule is the row's. And factors, which have a
 * fraction.
 */
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/size.h"
#include "drivers/fault/member.h"

typedef int parse_one(const char *text, uint64_t *ret);

static int count_parse(const char *text, uint64_t *ret)
{
    char *end;

    if (*text < '0' || *text > '9') {
        return -EINVAL;
    }
    errno = 0;
    unsigned long long n = strtoull(text, &end, 0);
    if (*end || errno) {
        return -EINVAL;
    }
    *ret = n;
    return 0;
}

/* At most a day: nothing that waits longer could be told from a hang. */
static int time_parse(const char *text, uint64_t *ret)
{
    uint64_t ns = 0;
    int r = duration_parse(text, &ns);

    if (r == 0 && ns > FAULT_TIME_MAX_NS) {
        return -ERANGE;
    }
    *ret = ns;
    return r;
}

static int parse_text(const char *text, parse_one *one, struct fault_interval *ret)
{
    char low[64];
    size_t len = strcspn(text, "-+");
    const char *rest = text + len;
    struct fault_interval i;

    if (len >= sizeof(low)) {
        return -EINVAL;
    }
    memcpy(low, text, len);
    low[len] = '\0';
    int r = one(low, &i.min);
    i.max = *rest == '+' ? UINT64_MAX : i.min;
    if (r == 0 && *rest == '-') {
        r = one(rest + 1, &i.max);
    } else if (r == 0 && *rest && rest[1]) {
        r = -EINVAL;
    }
    if (r < 0) {
        return r;
    }
    if (i.max < i.min) {
        return -EINVAL;
    }
    *ret = i;
    return 0;
}

static int parse_interval(struct fault_rule *rule, const struct fault_member *m, const json_t *v,
                          parse_one *one, const char *expected, struct err *err)
{
    char number[24];
    const char *text = json_string_value(v);

    if (json_is_integer(v)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
        text = number;
    }
    int r = text ? parse_text(text, one, (void *)((char *)rule + m->opt.offset)) : -EINVAL;
    if (r < 0) {
        AUTO_FREE char *given = json_text(v);
        return err_set(err, r, "%s: expected %s, not %.100s", m->opt.name, expected, given ? given : "?");
    }
    return 0;
}

FAULT_PARSE(fault_parse_counts)
{
    return parse_interval(rule, m, v, count_parse, "a number N, FROM-TO, or N+ (and above)", err);
}

FAULT_PARSE(fault_parse_sizes)
{
    return parse_interval(rule, m, v, size_parse, "a size such as 4k, 4k-64k, or 64k+ (and above)", err);
}

FAULT_PARSE(fault_parse_times)
{
    const struct fault_interval *i = (const void *)((char *)rule + m->opt.offset);
    int r = parse_interval(rule, m, v, time_parse,
                           "a time such as 2s, or a range such as 3s-5s, of at most a day", err);

    if (r == 0 && (i->min == 0 || i->max == UINT64_MAX)) {
        return err_set(err, -EINVAL, "%s: a time must be above 0, and have an end", m->opt.name);
    }
    return r;
}

/* Above 0, and @least. */
static int factor_parse(const char *name, const json_t *v, uint64_t least, uint64_t most, double *ret,
                        struct err *err)
{
    const char *text = json_string_value(v);
    double f = json_number_value(v);
    bool good = json_is_number(v);

    if (text) {
        char *end;
        f = strtod(text, &end);
        good = end != text && *end == '\0';
    }
    if (!good || !isfinite(f) || !(f > 0) || f < (double)least || f > (double)most) {
        return err_set(err, -EINVAL, "%s: expected a number %s %llu and at most %llu", name,
                       least ? "of at least" : "above", (unsigned long long)least, (unsigned long long)most);
    }
    *ret = f;
    return 0;
}

FAULT_PARSE(fault_parse_factor)
{
    double f = 0;
    int r = factor_parse(m->opt.name, v, m->opt.min, m->opt.max, &f, err);

    *(double *)(void *)((char *)rule + m->opt.offset) = f;
    return r;
}

int fault_parse_scale(const json_t *v, double *ret, struct err *err)
{
    return factor_parse("time-scale", v, 0, FAULT_SCALE_MAX, ret, err);
}
