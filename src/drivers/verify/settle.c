/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A read that differs from the reference, or that touches something indeterminate. Where the test
 * device may show what it showed, that is pinned: copied into the reference, so that from now on it
 * must show the same. Before that the nodes below are asked whether they did it on purpose: what was injected
 * proves nothing, and is not pinned. What is left over is a mismatch.
 *
 * One such read at a time, and it reads the reference afresh: two reads of one indeterminate place
 * may have got their reference data before the first of them pinned it.
 */
#include "drivers/verify/internal.h"

#define CHUNK_SECTORS 512u /* judged at once: each chunk costs one walk over the history */

/* The buffers of one read being settled. Excusing a difference means to copy it into @raw. */
struct read {
    struct node *n;
    const struct req *r;
    const uint8_t *test;
    uint8_t *raw;
    uint64_t losses; /* when the read began */
    bool injected;   /* some of what it shows was */
};

static const uint8_t *shown(const struct read *s, uint64_t offset)
{
    return s->test + (offset - s->r->offset);
}

static uint8_t *expected(const struct read *s, uint64_t offset)
{
    return s->raw + (offset - s->r->offset);
}

static bool same(const struct read *s, uint64_t start, uint64_t end)
{
    return memcmp(shown(s, start), expected(s, start), end - start) == 0;
}

static void excuse(const struct read *s, uint64_t start, uint64_t end)
{
    memcpy(expected(s, start), shown(s, start), end - start);
}

/* What [start, end) showed becomes what it must show. */
static co_fn void pin(const struct read *s, uint64_t start, uint64_t end)
{
    struct verify *v = s->n->state;
    struct iovec iov = {(void *)shown(s, start), end - start};

    if (!same(s, start, end)) {
        excuse(s, start, end);
        if (node_write(v->raw, start, iov.iov_base, iov.iov_len, 0) < 0) {
            return; /* it stays indeterminate */
        }
    }
    if (verify_lost_since(s->n, s->losses)) {
        return; /* while the reference was written: shown, but perhaps there no more */
    }
    uint64_t id = history_begin(&v->history, PAST_PIN, s->r->opno, start, end - start);
    history_hash(&v->history, id, &iov, 1);
    history_done(&v->history, id, true, false, false, start, end - start);
    indet_remove(&v->indet, start, round_up(end, SECTOR_SIZE));
    v->counts.pinned_bytes += end - start;
}

/* Pin the sectors of a chunk that may show what they show. */
static co_fn void settle_chunk(const struct read *s, uint64_t start, uint64_t end)
{
    struct verify *v = s->n->state;
    uint64_t hashes[CHUNK_SECTORS], count = div_up(end - start, SECTOR_SIZE), run = start;
    enum verdict verdicts[CHUNK_SECTORS];

    for (uint64_t i = 0, at = start; i < count; i++, at += SECTOR_SIZE) {
        hashes[i] = history_hash_sector(shown(s, at), MIN(end - at, (uint64_t)SECTOR_SIZE));
    }
    history_judge(&v->history, start / SECTOR_SIZE, count, hashes, verdicts);
    for (uint64_t i = 0, at = start; at < end; i++, at += SECTOR_SIZE) {
        uint64_t next = MIN(at + SECTOR_SIZE, end);
        bool equal = same(s, at, next);
        if (!equal && verdicts[i] == VERDICT_UNKNOWN) {
            v->counts.unverified_bytes += next - at;
        }
        if (!equal && verdicts[i] == VERDICT_NO) {
            if (run < at) {
                pin(s, run, at);
            }
            run = next;
        }
    }
    if (run < end) {
        pin(s, run, end);
    }
}

static co_fn void settle_versions(const struct read *s, uint64_t start, uint64_t end)
{
    if (same(s, start, end)) {
        pin(s, start, end);
        return;
    }
    for (uint64_t at = start; at < end; at += CHUNK_SECTORS * SECTOR_SIZE) {
        settle_chunk(s, at, MIN(at + CHUNK_SECTORS * SECTOR_SIZE, end));
    }
}

/* Excuse and pin what the books allow in [start, end), which is of one kind. */
static co_fn void settle_kind(const struct read *s, enum indet_kind kind, uint64_t start, uint64_t end)
{
    struct verify *v = s->n->state;

    if (kind == INDET_VERSIONS) {
        settle_versions(s, start, end);
    } else if (kind == INDET_DISCARDED && !v->discard_stable) {
        v->counts.discarded_bytes += end - start;
        excuse(s, start, end);
    } else if (kind != INDET_NONE) {
        *(kind == INDET_ANY ? &v->counts.unverified_bytes : &v->counts.discarded_bytes) += end - start;
        pin(s, start, end);
    }
}

/* A run of sectors with one explanation: told as one, and excused; what a power cut took is the contents now.
 */
static co_fn void settle_explained(struct read *s, const struct culprit *c, uint64_t start, uint64_t end)
{
    verify_note_explained(s->n, s->r, c, start, end - start, 0);
    if (c->legal) {
        pin(s, start, end);
    } else {
        s->injected = true;
        excuse(s, start, end);
    }
}

/* Is the sector at @at explained? What equals the reference, where nothing else may be, needs no explanation.
 */
static bool explained(const struct read *s, enum indet_kind kind, uint64_t at, uint64_t next,
                      struct culprit *ret)
{
    const struct verify *v = s->n->state;
    bool anything = kind == INDET_DISCARDED && !v->discard_stable;

    return !anything && (kind != INDET_NONE || !same(s, at, next)) &&
           verify_explained(s->n, s->r, at, next - at, shown(s, at), 0, ret);
}

/* [start, end) is of one kind: part it into runs that one thing explains and runs that nothing does. */
static co_fn void settle_range(struct read *s, enum indet_kind kind, uint64_t start, uint64_t end)
{
    struct culprit now = {0}, c = {0};
    bool run = false; /* [start, at) is explained, by now */

    for (uint64_t at = start, next; at < end; at = next) {
        next = MIN(at + SECTOR_SIZE, end);
        bool mine = explained(s, kind, at, next, &c);
        if (at > start && (mine != run || (mine && !verify_culprits_equal(&c, &now)))) {
            run ? settle_explained(s, &now, start, at) : settle_kind(s, kind, start, at);
            start = at;
        }
        run = mine;
        now = c;
    }
    run ? settle_explained(s, &now, start, end) : settle_kind(s, kind, start, end);
}

static co_fn void settle_ranges(struct read *s)
{
    struct verify *v = s->n->state;
    uint64_t end = s->r->offset + s->r->bytes, until;

    for (uint64_t at = s->r->offset; at < end; at = until) {
        enum indet_kind kind = indet_at(&v->indet, at, end, &until);
        if (kind != INDET_NONE || !same(s, at, until)) {
            settle_range(s, kind, at, until);
        }
    }
    if (UNLIKELY(v->indet.reached)) {
        verify_tell_bound(s->n);
    }
}

/* 0, or the result of reading the reference. @ret_equal: nothing unexcused is left. */
static co_fn int settle_locked(struct read *s, bool *ret_equal)
{
    const struct verify *v = s->n->state;
    int rc = node_read(v->raw, s->r->offset, s->raw, s->r->bytes);

    if (rc == 0 && verify_lost_since(s->n, s->losses)) {
        return READ_AGAIN;
    }
    if (rc == 0) {
        settle_ranges(s);
        *ret_equal = memcmp(s->test, s->raw, s->r->bytes) == 0;
    }
    return rc;
}

/* A difference that the books do not explain. A flush under way may still turn out to have failed, and
 * then the device was free to go back to what it had. */
bool verify_wait_for_flushes(struct node *n, uint64_t losses)
{
    struct verify *v = n->state;
    uint64_t last = v->flush_ids;
    const struct flush *oldest;

    while ((oldest = list_first(&v->flushes, struct flush, link)) && oldest->id <= last &&
           !verify_lost_since(n, losses)) {
        co_queue_wait(&v->flushed);
    }
    return verify_lost_since(n, losses);
}

/* What cannot be explained yet. */
static co_fn void wait_for_explanations(const struct read *s)
{
    const struct verify *v = s->n->state;
    uint64_t end = s->r->offset + s->r->bytes, until, next;
    struct culprit c;
    bool all = node_read(v->raw, s->r->offset, s->raw, s->r->bytes) == 0;

    for (uint64_t at = s->r->offset; all && at < end; at = next) {
        next = MIN(at + SECTOR_SIZE, end);
        all = same(s, at, next) || indet_at(&v->indet, at, end, &until) == INDET_DISCARDED ||
              explained(s, INDET_ANY, at, next, &c);
    }
    if (!all) {
        verify_wait_for_changes(s->n);
    }
}

/* What is being changed by a fault just now. True if nothing else is wrong. */
static co_fn bool excuse_moving(const struct read *s)
{
    uint64_t end = s->r->offset + s->r->bytes;
    struct culprit c;

    for (uint64_t at = s->r->offset, next; at < end; at = next) {
        next = MIN(at + SECTOR_SIZE, end);
        if (!same(s, at, next) && verify_explained_now(s->n, at, next - at, &c)) {
            verify_note_explained(s->n, s->r, &c, at, next - at, 0);
            excuse(s, at, next);
        }
    }
    return same(s, s->r->offset, end);
}

static co_fn int unexplained(const struct read *s)
{
    if (verify_wait_for_flushes(s->n, s->losses)) {
        return READ_AGAIN;
    }
    if (verify_is_explained_below(s->n) && excuse_moving(s)) {
        return verify_decide(s->n, s->r->opno, 0, true);
    }
    verify_report_contents(s->n, s->r, s->test, s->raw);
    return verify_decide(s->n, s->r->opno, 0, false);
}

co_fn int verify_settle(struct node *n, const struct req *r, const uint8_t *test, uint64_t losses)
{
    struct verify *v = n->state;
    struct read s = {n, r, test, buf_get(r->bytes), losses, false};
    bool equal = false;

    if (!s.raw) {
        return -ENOMEM;
    }
    if (verify_is_explained_below(n)) {
        wait_for_explanations(&s);
    }
    co_mutex_lock(&v->settling);
    int rc = settle_locked(&s, &equal);
    co_mutex_unlock(&v->settling);
    if (rc != 0 && rc != READ_AGAIN) {
        verify_report_return(n, r, 0, rc);
        rc = verify_decide(n, r->opno, 0, false);
    } else if (rc == 0 && !equal) {
        rc = unexplained(&s);
    } else if (rc == 0 && s.injected) {
        rc = verify_decide(n, r->opno, 0, true);
    }
    buf_put(s.raw, r->bytes);
    return rc;
}
