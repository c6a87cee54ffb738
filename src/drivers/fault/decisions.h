/* SPDX-License-Identifier: BSD-2-Clause */
/* What decisions.c (requests, and repeating) and decision_log.c (the file) share. */
#ifndef DRIVERS_FAULT_DECISIONS_H
#define DRIVERS_FAULT_DECISIONS_H

#include "drivers/fault/internal.h"

struct decision_log;

struct seen { /* a request of this kind has come so often */
    uint64_t key, count;
};

struct decided { /* one decision that shall be repeated; sorted by request, then by rule */
    uint64_t request, rule, opno;
    bool met;
};

struct fault_decisions {
    struct graph *graph;
    struct decision_log *log; /* NULL: none is kept */

    struct seen *seen; /* hash table; key 0: free */
    size_t nseen;
    bool full_told;
    uint64_t nth; /* of the request that is being decided; 0: not known */

    bool replays;
    struct decided *decided;
    size_t ndecided;
    uint64_t *governed; /* rules that the log alone decides, sorted: see decision_rule_key */
    size_t ngoverned;
    struct decided *now; /* those of the request that is being decided */
    size_t nnow;
};

/* Of the @nth request to @node of this operation and place. */
uint64_t decision_request_key(const char *node, int op, uint64_t offset, uint64_t bytes, uint64_t nth);
uint64_t decision_rule_key(const char *node, uint64_t rule);

void decisions_notice(struct graph *g, enum notice_kind kind, const char *fmt, ...) PRINTF(3, 4);

/* decision_log.c */
co_fn int decision_log_open(struct graph *g, const char *path, struct decision_log **ret, struct err *err);
/* @r may be NULL: a rule that acted on an event, or by a timer. */
void decision_log_add(struct decision_log *l, const struct fault_engine *e, const struct fault_rule *rule,
                      const struct req *r, uint64_t nth);
co_fn void decision_log_close(struct decision_log *l); /* NULL is fine */

/* decision_read.c: fill in decided and governed. */
co_fn int decisions_read(struct fault_decisions *d, const char *path, struct err *err);

#endif
