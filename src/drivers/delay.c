/* SPDX-License-Identifier: BSD-2-Clause */
/* delay: every request waits before it goes on. The shortest useful filter: start yours from it. */
#include "block/driver.h"

struct delay {
    uint64_t read_ns, write_ns, flush_ns;
};

static const struct option delay_options[] = {
    {"read", OPT_NS, offsetof(struct delay, read_ns), .help = "time every read waits", .runtime = true},
    {"write", OPT_NS, offsetof(struct delay, write_ns), .help = "time every write, zero and discard waits",
     .runtime = true},
    {"flush", OPT_NS, offsetof(struct delay, flush_ns), .help = "time every flush waits", .runtime = true},
    {0},
};

static int delay_io(struct node *n, struct req *r)
{
    const struct delay *d = n->state;
    const uint64_t ns[REQ_OP_COUNT] = {
        [REQ_READ] = d->read_ns,     [REQ_WRITE] = d->write_ns, [REQ_ZERO] = d->write_ns,
        [REQ_DISCARD] = d->write_ns, [REQ_FLUSH] = d->flush_ns,
    };

    if (ns[r->op] > 0) {
        co_sleep_ns(ns[r->op]);
    }
    return node_io(node_below(n), r);
}

const struct driver driver_delay = {
    .name = "delay",
    .kind = DRIVER_FILTER,
    .summary = "Makes requests wait before they go on.",
    .options = delay_options,
    .children = (const struct child_def[]){{"file", CHILD_FILTERED, .required = true, .probe = true}, {0}},
    .state_size = sizeof(struct delay),
    .io = delay_io,
    .injects_delay = true,
};
