/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tools may ask of a verify node (driver "blkverify") beyond reading and writing it. A node of
 * another driver is refused with -EINVAL or false: a tool can try every node of its graph.
 */
#ifndef DRIVERS_VERIFY_VERIFY_H
#define DRIVERS_VERIFY_VERIFY_H

#include "block/block.h"

bool verify_is(const struct node *n);

/* on-mismatch=pause: true while requests are held; @ret_opno (may be NULL): the operation that is. */
bool verify_is_paused(const struct node *n, uint64_t *ret_opno);
/* Let what is held go on; the next mismatch holds again. Harmless when nothing is held. Call it
 * before waiting for a paused node to drain. */
void verify_release(struct node *n);

/* Write one JSON object per mismatch to @path from now on, as the option report does; NULL: stop.
 * -EINVAL, -EDEADLK (a disk of ours holds the file), or the errno of open(2). */
co_fn int verify_report_to(struct node *n, const char *path, struct err *err);

struct verify_counts {
    uint64_t mismatches;     /* reported by this node: nothing explains them */
    uint64_t injected;       /* a rule explains them: runs of sectors, and results of requests */
    uint64_t injected_bytes; /* of the former */
    uint64_t legal;          /* an honest device may lose them in a power cut: runs of sectors */
    uint64_t legal_bytes;
    uint64_t unverified_bytes;     /* believed: the history no longer knew what was there before */
    uint64_t learned_bytes;        /* an oracle's: read for the first time, and never written */
    uint64_t discarded_bytes;      /* believed: they were discarded */
    uint64_t pinned_bytes;         /* indeterminate, then fixed by what the device showed */
    uint64_t indeterminate_ranges; /* now */
};
int verify_counts(const struct node *n, struct verify_counts *ret_counts);
/* The same as an object: mismatches, injected, ... NULL: no memory. */
json_t *verify_counts_json(const struct node *n);

/* What is known of the sector at @offset: "offset", "bytes", "state" (unknown, durable, volatile,
 * indeterminate, discarded, pending), "versions" (the newest first) and, where a node below did it,
 * "explained". @ret: the caller's. */
co_fn int verify_sector(struct node *n, uint64_t offset, json_t **ret, struct err *err);

/* Told after every piece of a scrub; return false to end it (-ECANCELED). */
typedef bool verify_progress(void *opaque, uint64_t done_bytes, uint64_t total_bytes);

struct verify_scrub_result {
    uint64_t compared_bytes, skipped_bytes; /* skipped: a hole on both sides, says their block status */
    uint64_t mismatches;
};

/* Compare the whole device, beside other requests. Each difference is reported and counted like that
 * of a client's read; with on-mismatch=stop the first ends the scrub. 0: no difference; -EIO: at
 * least one, or the device gave an error; -ECANCELED; -EINVAL: not a verify node.
 * @progress and @ret_result may be NULL; the result is set whatever is returned. */
co_fn int verify_scrub(struct node *n, verify_progress *progress, void *opaque,
                       struct verify_scrub_result *ret_result);

#endif
