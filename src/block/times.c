/* SPDX-License-Identifier: BSD-2-Clause */
/* Histograms of times. */
#include "block/metric.h"

#define DECADE(ns) (ns), 2 * (ns), 5 * (ns)

const uint64_t time_bounds_ns[TIME_BUCKETS - 1] = {
    DECADE(UINT64_C(1000)),       DECADE(UINT64_C(10000)),       DECADE(UINT64_C(100000)),
    DECADE(UINT64_C(1000000)),    DECADE(UINT64_C(10000000)),    DECADE(UINT64_C(100000000)),
    DECADE(UINT64_C(1000000000)), DECADE(UINT64_C(10000000000)), UINT64_C(100000000000),
};

void times_add(struct histogram *h, uint64_t ns)
{
    unsigned first = 0, end = TIME_BUCKETS - 1; /* the answer lies in [first, end] */

    while (first < end) {
        unsigned middle = (first + end) / 2;
        if (ns <= time_bounds_ns[middle]) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    h->buckets[first]++;
    h->sum_ns += ns;
}
