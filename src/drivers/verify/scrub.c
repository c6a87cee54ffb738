/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compares the whole device by reading it through the verify node itself, so that a scrub runs
 * beside clients, pins what is indeterminate, and reports as any read does. Where the block status
 * of both sides says that there is a hole that reads as zeroes, nothing is read: a sparse device costs
 * what it holds, not what it could hold.
 */
#include "drivers/verify/oracle.h"

#define SCRUB_BYTES (1 * MiB) /* per read */

/* Bytes from @offset on that are a hole reading as zeroes on side @n; 0: data, or it cannot tell. */
static co_fn uint64_t hole_at(struct node *n, uint64_t offset, uint64_t bytes)
{
    struct extent e = {0};

    return node_status(n, offset, bytes, &e) == 0 && e.zero && !e.data ? MIN(e.bytes, bytes) : 0;
}

static co_fn int scrub_piece(struct node *n, co_fn int (*io)(struct node *n, struct req *r), uint64_t offset,
                             uint64_t bytes, void *buf)
{
    struct iovec iov = {buf, bytes};
    struct req r = {.op = REQ_READ,
                    .offset = offset,
                    .bytes = bytes,
                    .iov = &iov,
                    .niov = 1,
                    .asked_offset = offset,
                    .asked_bytes = bytes};

    return io(n, &r);
}

struct scrub {
    struct node *n;
    co_fn int (*io)(struct node *n, struct req *r);
    struct verify_scrub_result *result;
    bool failed; /* a read gave an error */
};

/* Returns the bytes done. */
static co_fn uint64_t scrub_step(struct scrub *s, uint64_t at, void *buf)
{
    const struct verify *v = s->n->state;
    uint64_t left = s->n->size - at, hole;

    if (v->oracle) { /* nothing is known of it: nothing can be wrong */
        uint32_t unit = v->oracle->unit;
        hole = MIN(left, unit * oracle_unknown_run(v->oracle, at / unit, div_up(left, unit)));
    } else {
        hole = hole_at(v->raw, at, left);
        hole = hole > 0 ? hole_at(v->test, at, hole) : 0;
        hole = hole < left ? round_down(hole, SECTOR_SIZE) : hole;
    }
    if (hole > 0) {
        s->result->skipped_bytes += hole;
        return hole;
    }
    uint64_t bytes = MIN(left, SCRUB_BYTES);
    s->failed |= scrub_piece(s->n, s->io, at, bytes, buf) != 0;
    s->result->compared_bytes += bytes;
    return bytes;
}

co_fn int verify_scrub_with(struct node *n, co_fn int (*io)(struct node *n, struct req *r),
                            verify_progress *progress, void *opaque, struct verify_scrub_result *ret_result)
{
    const struct verify *v = n->state;
    struct verify_scrub_result result = {0};
    struct scrub s = {n, io, &result, false};
    uint64_t before = v->counts.mismatches, at = 0;
    void *buf = buf_get(SCRUB_BYTES);
    int rc = buf ? 0 : -ENOMEM;

    while (rc == 0 && at < n->size && !v->stopped) {
        at += scrub_step(&s, at, buf);
        result.mismatches = v->counts.mismatches - before;
        if (progress && !progress(opaque, MIN(at, n->size), n->size)) {
            rc = -ECANCELED;
        }
    }
    buf_put(buf, SCRUB_BYTES);
    result.mismatches = v->counts.mismatches - before;
    if (ret_result) {
        *ret_result = result;
    }
    return rc == 0 && (s.failed || v->stopped || result.mismatches > 0) ? -EIO : rc;
}

co_fn int verify_scrub(struct node *n, verify_progress *progress, void *opaque,
                       struct verify_scrub_result *ret_result)
{
    if (!verify_is(n)) {
        return -EINVAL;
    }
    node_ref(n);
    int rc = verify_scrub_with(n, node_io, progress, opaque, ret_result);
    node_unref(n);
    return rc;
}
