/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long a request waits: distributions, multiples, and lanes. Nothing here waits. What is drawn follows
 * from the node's seed, the rule, and the number and place of the operation, so that it is the same however
 * requests interleave.
 */
#include <math.h>

#include "base/size.h"
#include "drivers/fault/member.h"

#define P99_SIGMAS 2.3263478740408408 /* of the normal distribution: 99 % lie below */
#define BINS_MAX   1024

enum { CONSTANT, UNIFORM, NORMAL, LOGNORMAL, PARETO, EXPONENTIAL, TWO_POINT, HISTOGRAM };
const char *const fault_distributions[] = {"constant",    "uniform",   "normal",    "lognormal", "pareto",
                                           "exponential", "two-point", "histogram", NULL};

struct fault_bin {
    double below_ns;
    double weight; /* of this bin and all before it */
};

/* ---- drawing ---- */

/* In (0, 1); the @nth of this operation. */
static double uniform(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r,
                      unsigned nth)
{
    uint64_t x = fault_hash(e, rule, fault_drawn_as(r), (r->offset << 3 | r->op) ^ (uint64_t)(nth + 1) << 60);

    return ((double)(x >> 11) + 0.5) / 9007199254740992.0; /* 2^53 */
}

static double standard_normal(const struct fault_engine *e, const struct fault_rule *rule,
                              const struct req *r)
{
    double a = uniform(e, rule, r, 0), b = uniform(e, rule, r, 1); /* Box and Muller */

    return sqrt(-2 * log(a)) * cos(2 * M_PI * b);
}

static double from_histogram(const struct fault_rule *rule, double u)
{
    unsigned i = 0;
    double at = u * rule->bins[rule->nbins - 1].weight, before = 0, from = 0;

    while (at >= rule->bins[i].weight && i + 1 < rule->nbins) {
        before = rule->bins[i].weight;
        from = rule->bins[i++].below_ns;
    }
    double part = (at - before) / (rule->bins[i].weight - before);
    return from + part * (rule->bins[i].below_ns - from);
}

static double draw_ns(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    double delay = (double)rule->delay_ns, least = (double)rule->delay_min_ns;

    switch (rule->distribution) {
    case UNIFORM:
        return least + uniform(e, rule, r, 0) * ((double)rule->delay_max_ns - least);
    case NORMAL:
        return delay + standard_normal(e, rule, r) * (double)rule->deviation_ns;
    case LOGNORMAL:
        return delay * exp(standard_normal(e, rule, r) * log((double)rule->p99_ns / delay) / P99_SIGMAS);
    case PARETO:
        return delay * pow(uniform(e, rule, r, 0), -1 / rule->shape);
    case EXPONENTIAL:
        return least - log(uniform(e, rule, r, 0)) * (delay - least);
    case TWO_POINT:
        return uniform(e, rule, r, 0) < 0.99 ? delay : (double)rule->p99_ns;
    case HISTOGRAM:
        return from_histogram(rule, uniform(e, rule, r, 0));
    default:
        return delay;
    }
}

static uint64_t clipped(const struct fault_rule *rule, double ns)
{
    double max = (double)(rule->delay_max_ns ? rule->delay_max_ns : FAULT_TIME_MAX_NS);

    return (uint64_t)fmax(fmin(ns, max), (double)rule->delay_min_ns);
}

/* How long this operation takes, were it alone. */
static uint64_t service_ns(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    uint64_t ns = clipped(rule, draw_ns(e, rule, r));

    if (rule->bytes_per_second > 0) {
        ns += (uint64_t)((double)r->bytes / rule->bytes_per_second * (double)NS_PER_SEC);
    }
    if (rule->delay_ramp_ns > 0) {
        ns = (uint64_t)((double)ns * fault_ramp(rule, rule->delay_ramp_ns));
    }
    if (rule->quantum_ns > 0) {
        ns = round_up(ns, rule->quantum_ns);
    }
    return MIN(ns, FAULT_TIME_MAX_NS);
}

/* First come, first served, by whichever lane is free first: all this is known when the request arrives. */
static uint64_t queue(struct fault_rule *rule, uint64_t service_ns)
{
    uint64_t now = loop_clock_ns(), *lane = rule->lane_free_ns;

    for (unsigned i = 1; i < rule->lanes; i++) {
        lane = rule->lane_free_ns[i] < *lane ? &rule->lane_free_ns[i] : lane;
    }
    *lane = MAX(*lane, now) + service_ns;
    return *lane - now;
}

uint64_t fault_delay_ns(const struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    uint64_t ns = service_ns(e, rule, r);

    return rule->lanes > 0 ? queue(rule, ns) : ns;
}

void fault_scale_delay(struct fault_rule *rule, double scale)
{
    rule->bytes_per_second /= scale;
    for (unsigned i = 0; i < rule->nbins; i++) {
        rule->bins[i].below_ns *= scale;
    }
}

/* ---- members ---- */

static int add_bin(struct fault_rule *rule, const char *text, size_t len)
{
    char time[64], *end;
    const char *colon = memchr(text, ':', len);
    const struct fault_bin *last = rule->nbins ? &rule->bins[rule->nbins - 1] : NULL;
    uint64_t ns = 0;

    if (!colon || (size_t)(colon - text) >= sizeof(time)) {
        return -EINVAL;
    }
    memcpy(time, text, (size_t)(colon - text));
    time[colon - text] = '\0';
    double weight = strtod(colon + 1, &end);
    if (duration_parse(time, &ns) < 0 || ns > FAULT_TIME_MAX_NS || end != text + len || end == colon + 1 ||
        !(weight > 0) || !isfinite(weight) || (double)ns <= (last ? last->below_ns : 0)) {
        return -EINVAL;
    }
    rule->bins[rule->nbins++] = (struct fault_bin){(double)ns, weight + (last ? last->weight : 0)};
    return 0;
}

/* A size: bytes in a second. */
FAULT_PARSE(fault_parse_bandwidth)
{
    const struct option size = {m->opt.name, OPT_SIZE, 0, .min = 1};
    uint64_t bytes = 0;
    int r = option_set(&size, &bytes, (json_t *)(uintptr_t)v, err);

    rule->bytes_per_second = (double)bytes;
    return r;
}

FAULT_PARSE(fault_parse_histogram)
{
    const char *text = json_string_value(v), *at = text;
    size_t n = 1;

    for (const char *p = text; p && *p; p++) {
        n += *p == ',';
    }
    if (text && n <= BINS_MAX && !(rule->bins = calloc(n, sizeof(*rule->bins)))) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    int r = text && n <= BINS_MAX ? 0 : -EINVAL;
    while (r == 0) {
        size_t len = strcspn(at, ",");
        r = add_bin(rule, at, len);
        at += len;
        if (!*at++) {
            break;
        }
    }
    return r == 0 ? 0
                  : err_set(err, -EINVAL,
                            "histogram: expected TIME:WEIGHT,..., up to %d, times growing: "
                            "\"1ms:90,10ms:9,1s:1\" is 90 "
                            "below 1 ms, 9 from there to 10 ms, 1 from there to 1 s",
                            BINS_MAX);
}

static bool has(const struct fault_rule *rule, const char *member)
{
    return json_object_get(rule->spec, member) != NULL;
}

/* What each distribution needs, and may have; what else is given would do nothing. */
static const struct {
    const char *needs[2], *may[4];
} shapes[] = {
    [CONSTANT] = {{0}, {"delay"}},
    [UNIFORM] = {{"delay-max"}, {"delay-min"}},
    [NORMAL] = {{"delay", "deviation"}, {"delay-min", "delay-max"}},
    [LOGNORMAL] = {{"delay", "p99"}, {"delay-min", "delay-max"}},
    [PARETO] = {{"delay"}, {"shape", "delay-max"}},
    [EXPONENTIAL] = {{"delay"}, {"delay-min", "delay-max"}},
    [TWO_POINT] = {{"delay", "p99"}, {0}},
    [HISTOGRAM] = {{"histogram"}, {0}},
};

static bool is_allowed(int distribution, const char *member)
{
    for (size_t i = 0; i < 4; i++) {
        const char *needs = i < 2 ? shapes[distribution].needs[i] : NULL;
        const char *may = shapes[distribution].may[i];
        if ((needs && strcmp(needs, member) == 0) || (may && strcmp(may, member) == 0)) {
            return true;
        }
    }
    return false;
}

static int check_shape(const struct fault_rule *rule, struct err *err)
{
    static const char *const all[] = {"delay", "delay-min", "delay-max", "deviation",
                                      "p99",   "shape",     "histogram"};
    const char *name = fault_distributions[rule->distribution];

    for (size_t i = 0; i < 2; i++) {
        const char *needed = shapes[rule->distribution].needs[i];
        if (needed && !has(rule, needed)) {
            return err_set(err, -EINVAL, "the distribution %s needs the member %s", name, needed);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (has(rule, all[i]) && !is_allowed(rule->distribution, all[i])) {
            return err_set(err, -EINVAL, "the distribution %s has no member %s", name, all[i]);
        }
    }
    return 0;
}

static int check_values(const struct fault_rule *rule, struct err *err)
{
    int d = rule->distribution;

    if (rule->delay_max_ns > 0 && rule->delay_max_ns <= rule->delay_min_ns) {
        return err_set(err, -EINVAL, "delay-max must be above delay-min");
    }
    if ((d == LOGNORMAL || d == TWO_POINT) && rule->p99_ns <= rule->delay_ns) {
        return err_set(err, -EINVAL, "p99 must be above delay");
    }
    if (d == EXPONENTIAL && rule->delay_ns <= rule->delay_min_ns) {
        return err_set(err, -EINVAL, "delay, the mean, must be above delay-min");
    }
    if (rule->lanes > 0 && rule->times > 0) {
        return err_set(err, -EINVAL,
                       "times does not go with lanes: how long the media takes is not known before");
    }
    return 0;
}

int fault_check_delay(struct fault_rule *rule, struct err *err)
{
    bool bare = rule->distribution == CONSTANT && !has(rule, "delay");

    if (bare && !has(rule, "times") && !has(rule, "bandwidth")) {
        return err_set(err, -EINVAL,
                       "the action delay needs the member delay, a time; or times, or bandwidth");
    }
    if (bare && !has(rule, "bandwidth") &&
        (has(rule, "lanes") || has(rule, "quantum") || has(rule, "delay-ramp"))) {
        return err_set(err, -EINVAL, "lanes, quantum and delay-ramp need a delay or a bandwidth");
    }
    int r = check_shape(rule, err);
    return r < 0 ? r : check_values(rule, err);
}

int fault_prepare_lanes(struct fault_rule *rule, struct err *err)
{
    if (rule->lanes > 0 && !(rule->lane_free_ns = calloc(rule->lanes, sizeof(*rule->lane_free_ns)))) {
        return err_set(err, -ENOMEM, "no memory for the lanes of a rule");
    }
    return 0;
}
