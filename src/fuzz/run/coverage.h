/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Feedback from targets that count what they run through: AFL++'s map of edges, a byte each, in System V
 * shared memory that __AFL_SHM_ID names. Images that reach what none reached before are kept, as records, and
 * later tests mutate their lists of mutations. What was seen is one file of the campaign, mapped by all of
 * its workers, so nothing is lost when they are killed.
 */
#ifndef FUZZ_RUN_COVERAGE_H
#define FUZZ_RUN_COVERAGE_H

#include <stdatomic.h>

#include "fuzz/fuzz.h"
#include "fuzz/run/covmap.h"

#define COVERAGE_KEPT_MAX 16384u /* a day's campaign keeps some thousand */
#define COVERAGE_FILE     "coverage.map"
#define COVERAGE_CORPUS   "corpus"

/* The file, in the byte order of the host. */
struct coverage_seen {
    char magic[8];
    _Atomic uint32_t edges, kept;
    _Atomic uint64_t test[COVERAGE_KEPT_MAX]; /* number + 1 of the test that is kept; 0: it comes at once */
    _Atomic uint8_t counts[COVERAGE_EDGES];   /* a bit for each range of counts */
};

/* That of the campaign in @out, made if it is not there. coverage_close takes NULL. */
int coverage_open(const char *out, struct coverage_seen **ret, struct err *err);
void coverage_close(struct coverage_seen *seen);

/* One worker's. */
struct coverage {
    struct coverage_seen *seen;
    const char *out;
    uint8_t *map; /* what the targets write */
};

/* From here on the environment names the map. */
int coverage_attach(struct coverage *c, struct coverage_seen *seen, const char *out, struct err *err);
void coverage_detach(struct coverage *c);
void coverage_begin(struct coverage *c);
/* Did the targets since coverage_begin reach something new? -ENOTSUP: they do not count. */
int coverage_end(struct coverage *c, bool *ret_new, struct err *err);
/* Keep the record of @img, the image of test @n. */
int coverage_keep(struct coverage *c, struct fuzz_image *img, uint64_t n, struct err *err);
/* One of the records that are kept, of @rng's choice; NULL: none is there. */
json_t *coverage_pick(const struct coverage *c, struct rng *rng);
/* The record of test @n; NULL: it was not kept. */
json_t *coverage_record(const char *out, uint64_t n);

#endif
