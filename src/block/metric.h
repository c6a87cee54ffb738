/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers for a monitoring system, by the conventions of Prometheus: names end in _total for counters, and
 * units are seconds and bytes.
 */
#ifndef BLOCK_METRIC_H
#define BLOCK_METRIC_H

#include "block/block.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
    const char *name; /* without the prefix blkproof_ */
    const char *help;
    const char *label; /* beside the node's name; NULL: none */
    enum metric_type type;
};

/* One number of one node; @label is the value of m->label. */
typedef void metric_out(void *opaque, const struct metric *m, const char *label, double value);

/* How long requests took. A bucket counts those of at most its bound; the last counts the rest. */
#define TIME_BUCKETS 26
extern const uint64_t time_bounds_ns[TIME_BUCKETS - 1]; /* 1 us, 2 us, 5 us ... 100 s */
struct histogram {
    uint64_t buckets[TIME_BUCKETS];
    uint64_t sum_ns;
};

/* Of a node in a graph that is timed. */
struct node_times {
    struct histogram total[REQ_OP_COUNT];
    struct histogram
        below[REQ_OP_COUNT]; /* of it, in the node below; where requests are handed on as they are */
    struct histogram injected[REQ_OP_COUNT]; /* the rest */
    uint64_t unflushed_bytes;                /* written since the last flush; twice what was written twice */
    uint64_t unflushed_since_ns;
};

void times_add(struct histogram *h, uint64_t ns);

#endif
