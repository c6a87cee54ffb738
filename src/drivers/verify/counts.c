/* SPDX-License-Identifier: BSD-2-Clause */
/* What a verifier counts: for its tool, for a monitor, and as metrics. */
#include "drivers/verify/oracle.h"

int verify_counts(const struct node *n, struct verify_counts *ret_counts)
{
    if (!verify_is(n)) {
        return -EINVAL;
    }
    const struct verify *v = n->state;
    *ret_counts = v->counts;
    ret_counts->indeterminate_ranges = v->oracle ? v->oracle->indeterminate : v->indet.count;
    return 0;
}

#define C(member) offsetof(struct verify_counts, member)

/* In the order of struct verify_counts. Without a name of a metric: it is none. */
static const struct {
    size_t at;
    const char *name;
    struct metric metric;
} table[] = {
    {C(mismatches),
     "mismatches",
     {"verify_mismatches_total", "Wrong reads and results that nothing explains.", NULL, METRIC_COUNTER}},
    {C(injected),
     "injected",
     {"verify_injected_total", "Wrong reads and results that a fault rule explains.", NULL, METRIC_COUNTER}},
    {C(injected_bytes), "injected-bytes"},
    {C(legal), "legal", {"verify_legal_total", "Wrong reads that a power cut allows.", NULL, METRIC_COUNTER}},
    {C(legal_bytes), "legal-bytes"},
    {C(unverified_bytes),
     "unverified-bytes",
     {"verify_unverified_bytes_total", "Read, and believed: the history knew no more.", NULL,
      METRIC_COUNTER}},
    {C(learned_bytes), "learned-bytes"},
    {C(discarded_bytes), "discarded-bytes"},
    {C(pinned_bytes), "pinned-bytes"},
    {C(indeterminate_ranges),
     "indeterminate-ranges",
     {"verify_indeterminate_ranges", "Ranges that may show more than one thing.", NULL, METRIC_GAUGE}},
};

static uint64_t count_at(const struct verify_counts *c, size_t at)
{
    uint64_t value;

    memcpy(&value, (const char *)c + at, sizeof(value));
    return value;
}

json_t *verify_counts_json(const struct node *n)
{
    struct verify_counts counts = {0};
    json_t *o = json_object();

    verify_counts(n, &counts);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        json_object_set_new(o, table[i].name, json_integer((json_int_t)count_at(&counts, table[i].at)));
    }
    return o;
}

void verify_metrics(const struct node *n, metric_out *out, void *opaque)
{
    struct verify_counts counts = {0};

    verify_counts(n, &counts);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (table[i].metric.name) {
            out(opaque, &table[i].metric, NULL, (double)count_at(&counts, table[i].at));
        }
    }
}
