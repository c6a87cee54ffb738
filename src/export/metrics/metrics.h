/* SPDX-License-Identifier: BSD-2-Clause */
/* Every number of a graph, for a monitoring system: the text format of Prometheus (version 0.0.4), over HTTP.
 */
#ifndef EXPORT_METRICS_METRICS_H
#define EXPORT_METRICS_METRICS_H

#include "block/block.h"

#define METRICS_PORT 9810 /* unless another is given */

struct metrics_config {
    struct graph *graph; /* timed, if histograms are wanted */
    /* The clients connected now. */
    unsigned (*clients)(void *opaque);
    void *opaque;
};

/* Everything as text, malloc'ed; NULL: no memory. */
char *metrics_text(const struct metrics_config *config);

struct metrics_server;
/* Answer GET /metrics on "unix:PATH" or "tcp:[HOST][:PORT]", an address of this machine (-EACCES for others).
 */
co_fn int metrics_start(const struct metrics_config *config, const char *address,
                        struct metrics_server **ret_server, struct err *err);
/* What it ended up with: "tcp:127.0.0.1:9810". */
const char *metrics_address(const struct metrics_server *m);
co_fn void metrics_stop(struct metrics_server *m); /* NULL is fine */

#endif
