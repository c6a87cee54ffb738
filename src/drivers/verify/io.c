/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every request, on both sides. The gate of the node holds back what overlaps (limits.serialise), so
 * both sides see one order of contents; it lets reads share. The common case, a read that equals the
 * reference while nothing is indeterminate, ends here; everything else goes to settle.c.
 *
 * What is compared and what is written twice is never memory that the client can touch meanwhile:
 * a request marked REQ_UNSTABLE, and a scatter list that names some memory twice, go through a
 * buffer of our own.
 */
#include "base/iov.h"
#include "drivers/verify/oracle.h"

#define READ_AGAIN_MAX 16          /* reads made again because the device lost something meanwhile */
#define COMPARE_MIN    (512 * KiB) /* a worker's time well spent */
#define LANES          2 /* of a large read: one compares while the other one's pieces are being read */

struct side {
    struct node *n;
    struct req *r;
};

static co_fn int side_io(void *arg)
{
    const struct side *s = arg;

    return node_io(s->n, s->r);
}

co_fn void verify_both(struct verify *v, struct req *test, struct req *raw, int *ret_test, int *ret_raw)
{
    struct side side = {v->test, test};
    struct co_group group;
    struct co_task task;

    co_group_init(&group);
    co_group_start(&group, &task, side_io, &side);
    *ret_raw = node_io(v->raw, raw);
    co_group_wait(&group);
    *ret_test = task.result;
}

static co_fn int return_mismatch(struct node *n, const struct req *r, int rc_test, int rc_raw)
{
    struct culprit c;

    if (rc_test != 0 && verify_explained(n, r, r->offset, r->bytes, NULL, rc_test, &c)) {
        verify_note_explained(n, r, &c, r->offset, 0, rc_test);
        return c.legal ? rc_test : verify_decide(n, r->opno, rc_test, true);
    }
    verify_report_return(n, r, rc_test, rc_raw);
    return verify_decide(n, r->opno, rc_test, false);
}

/* ---- reads ---- */

static bool equals(const struct iovec *iov, int niov, const uint8_t *raw)
{
    for (int i = 0; i < niov; i++) {
        if (memcmp(iov[i].iov_base, raw, iov[i].iov_len) != 0) {
            return false;
        }
        raw += iov[i].iov_len;
    }
    return true;
}

/* The test device's data as one buffer: the client's own if it is one. */
static co_fn int settle(struct node *n, const struct req *r, uint64_t losses)
{
    if (req_flat(r)) {
        return verify_settle(n, r, req_flat(r), losses);
    }
    uint8_t *flat = buf_get(r->bytes);
    if (!flat) {
        return -ENOMEM;
    }
    iov_to_buf(r->iov, r->niov, 0, flat, r->bytes);
    int rc = verify_settle(n, r, flat, losses);
    buf_put(flat, r->bytes);
    return rc;
}

/* All of it was discarded: there is nothing to compare, and nothing to pin. */
static bool read_discarded(struct verify *v, const struct req *r)
{
    uint64_t end = r->offset + r->bytes, until;

    if (v->discard_stable || indet_at(&v->indet, r->offset, end, &until) != INDET_DISCARDED || until != end) {
        return false;
    }
    v->counts.discarded_bytes += r->bytes;
    return true;
}

static co_fn int finish_read(struct node *n, const struct req *r, uint64_t losses, int rc_test, int rc_raw,
                             bool equal)
{
    struct verify *v = n->state;

    if (UNLIKELY(rc_test != rc_raw)) {
        return return_mismatch(n, r, rc_test, rc_raw);
    }
    if (UNLIKELY(rc_test != 0)) {
        return rc_test;
    }
    if (LIKELY(equal && indet_clear(&v->indet, r->offset, r->offset + r->bytes))) {
        return 0;
    }
    return read_discarded(v, r) ? 0 : settle(n, r, losses);
}

static co_fn int read_small(struct node *n, struct req *r, uint64_t losses)
{
    struct verify *v = n->state;
    void *buf = buf_get(r->bytes);
    struct iovec iov = {buf, r->bytes};
    struct req test = *r, raw = *r;
    int rc_test, rc_raw;

    if (!buf) {
        return -ENOMEM;
    }
    raw.iov = &iov;
    raw.niov = 1;
    verify_both(v, &test, &raw, &rc_test, &rc_raw);
    bool equal = rc_test == 0 && rc_raw == 0 && equals(r->iov, r->niov, buf);
    buf_put(buf, r->bytes);
    return finish_read(n, r, losses, rc_test, rc_raw, equal);
}

/* A large read is made in pieces, compared while they are still in the cache. */
struct large {
    struct node *n;
    const struct req *r;
    uint64_t next;      /* offset in the request of the next piece to take */
    uint64_t failed_at; /* of the first piece with an error; UINT64_MAX: none */
    int rc_test, rc_raw;
    bool differs;
};

static co_fn int read_piece(struct large *l, uint64_t at, uint64_t bytes, struct iovec *slice, void *buf)
{
    struct verify *v = l->n->state;
    struct iovec iov = {buf, bytes};
    struct req test = *l->r, raw;
    int rc_test, rc_raw;

    test.offset += at;
    test.bytes = bytes;
    test.niov = iov_slice(slice, l->r->iov, l->r->niov, at, bytes);
    test.iov = slice;
    raw = test;
    raw.iov = &iov;
    raw.niov = 1;
    verify_both(v, &test, &raw, &rc_test, &rc_raw);
    if (rc_test == 0 && rc_raw == 0) {
        l->differs |= !equals(test.iov, test.niov, buf);
        return 0;
    }
    /* of several errors a disagreement goes first, then the one at the lowest offset */
    bool worse = (rc_test != rc_raw) > (l->rc_test != l->rc_raw);
    bool alike = (rc_test != rc_raw) == (l->rc_test != l->rc_raw);
    if (worse || (alike && at < l->failed_at)) {
        l->failed_at = at;
        l->rc_test = rc_test;
        l->rc_raw = rc_raw;
    }
    return -EIO;
}

static co_fn int lane(void *arg)
{
    struct large *l = arg;
    const struct verify *v = l->n->state;
    size_t piece = v->piece, slice_size = (size_t)l->r->niov * sizeof(struct iovec);
    void *buf = buf_get(piece);
    struct iovec one, *slice = l->r->niov == 1 ? &one : buf_get(slice_size);
    int rc = buf && slice ? 0 : -ENOMEM;

    while (rc == 0 && l->next < l->r->bytes && l->failed_at == UINT64_MAX) {
        uint64_t at = l->next, bytes = MIN(piece, l->r->bytes - at);
        l->next += bytes;
        rc = read_piece(l, at, bytes, slice, buf);
    }
    buf_put(buf, piece);
    if (slice != &one) {
        buf_put(slice, slice_size);
    }
    return rc;
}

static co_fn int read_large(struct node *n, struct req *r, uint64_t losses)
{
    struct large l = {.n = n, .r = r, .failed_at = UINT64_MAX};
    struct co_task tasks[LANES];
    struct co_group group;

    co_group_init(&group);
    for (int i = 0; i < LANES; i++) {
        co_group_start(&group, &tasks[i], lane, &l);
    }
    co_group_wait(&group);
    for (int i = 0; i < LANES && l.failed_at == UINT64_MAX; i++) {
        if (tasks[i].result != 0) {
            return tasks[i].result; /* no memory */
        }
    }
    return finish_read(n, r, losses, l.rc_test, l.rc_raw, !l.differs);
}

/* Where the reference can compare by itself (and does not wait for a device): the test device's data, read
 * first, is still in the cache, and the reference's never leaves it. */
static co_fn int read_comparing(struct node *n, struct req *r, uint64_t losses)
{
    struct verify *v = n->state;
    struct req test = *r, raw = *r;

    int rc_test = node_io(v->test, &test);
    raw.flags = REQ_COMPARE;
    int rc_raw = node_io(v->raw, &raw);
    if (rc_raw == -ENOMEM) {
        return rc_raw;
    }
    bool equal = rc_raw == 0;
    return finish_read(n, r, losses, rc_test, rc_raw == -EILSEQ ? 0 : rc_raw, equal);
}

static co_fn int read_sides(struct node *n, struct req *r, uint64_t losses)
{
    struct verify *v = n->state;

    if (v->oracle) {
        return oracle_read(n, r, losses);
    }
    if (r->bytes >= COMPARE_MIN && (v->raw->limits.supported & REQ_COMPARE)) {
        return read_comparing(n, r, losses);
    }
    return r->bytes <= v->piece ? read_small(n, r, losses) : read_large(n, r, losses);
}

static co_fn int read_stable(struct node *n, struct req *r)
{
    struct verify *v = n->state;
    int rc = READ_AGAIN;

    for (int i = 0; UNLIKELY(rc == READ_AGAIN) && i < READ_AGAIN_MAX; i++) {
        uint64_t losses = v->losses;
        rc = read_sides(n, r, losses);
    }
    if (UNLIKELY(rc == READ_AGAIN)) { /* a device that restarts at every read proves nothing */
        v->counts.discarded_bytes += r->bytes;
        rc = 0;
    }
    return rc;
}

/* As one buffer would: the elements get their bytes in order, so memory named twice keeps the last. */
static co_fn int read_bounced(struct node *n, struct req *r)
{
    void *buf = buf_get(r->bytes);
    struct iovec iov = {buf, r->bytes};
    struct req own = *r;

    if (!buf) {
        return -ENOMEM;
    }
    own.iov = &iov;
    own.niov = 1;
    own.flags &= ~(unsigned)REQ_UNSTABLE;
    int rc = read_stable(n, &own);
    if (rc == 0) {
        iov_from_buf(r->iov, r->niov, 0, buf, r->bytes);
    }
    buf_put(buf, r->bytes);
    return rc;
}

static co_fn int do_read(struct node *n, struct req *r)
{
    if (UNLIKELY((r->flags & REQ_UNSTABLE) || (r->niov > 1 && iov_aliases(r->iov, r->niov)))) {
        return read_bounced(n, r);
    }
    return read_stable(n, r);
}

/* ---- what changes contents ---- */

/* Both sides have answered: keep the books. */
static co_fn int finish_change(struct node *n, const struct req *r, uint64_t id, enum past_kind kind,
                               uint64_t losses, int rc_test, int rc_raw)
{
    struct verify *v = n->state;
    bool ok = rc_test == 0 && rc_raw == 0;
    bool lost = verify_lost_since(n, losses);
    uint64_t end = r->offset + round_up(r->bytes, SECTOR_SIZE);

    bool durable = (r->flags & REQ_FUA) && !v->never_flushed && !lost && list_empty(&v->flushes);
    history_done(&v->history, id, ok, durable, lost, r->offset, r->bytes);
    if (kind == PAST_DISCARD) {
        indet_add(&v->indet, r->offset, end, INDET_DISCARDED);
    } else if (!ok || lost) {
        indet_add(&v->indet, r->offset, end, INDET_VERSIONS);
    } else if (v->indet.count > 0) {
        indet_remove(&v->indet, r->offset, end);
    }
    if (UNLIKELY(v->indet.reached)) {
        verify_tell_bound(n);
    }
    return rc_test == rc_raw ? rc_test : return_mismatch(n, r, rc_test, rc_raw);
}

/* The test device first, and the reference only if that can do it at all: what a device cannot do
 * (-ENOTSUP) is not done to the reference either; a part of it may have been done to the device, before
 * a part that it could not do. What only the reference cannot do is not the test device's fault. */
static co_fn int change_in_turn(struct node *n, struct req *r, enum past_kind kind)
{
    struct verify *v = n->state;
    struct req test = *r, raw = *r;
    uint64_t losses = v->losses;
    int rc_test = node_io(v->test, &test), rc_raw = rc_test;

    uint64_t id = history_begin(&v->history, kind, r->opno, r->offset, r->bytes);
    if (kind == PAST_WRITE) {
        history_hash(&v->history, id, r->iov, r->niov);
    }
    if (rc_test != -ENOTSUP) {
        raw.flags &= ~(unsigned)(REQ_NO_FALLBACK | REQ_COMPRESSED);
        rc_raw = node_io(v->raw, &raw);
    }
    if (kind == PAST_DISCARD && rc_raw == -ENOTSUP) {
        rc_raw = rc_test;
    }
    return finish_change(n, r, id, kind, losses, rc_test, rc_raw);
}

static co_fn int write_stable(struct node *n, struct req *r)
{
    struct verify *v = n->state;

    if (v->oracle) {
        return oracle_change(n, r, ORACLE_DATA);
    }
    struct req test = *r, raw = *r;
    struct side side = {v->test, &test};
    uint64_t losses = v->losses;
    struct co_group group;
    struct co_task task;

    if (r->flags & REQ_COMPRESSED) {
        return change_in_turn(n, r, PAST_WRITE); /* not every cluster can be compressed */
    }
    uint64_t id = history_begin(&v->history, PAST_WRITE, r->opno, r->offset, r->bytes);
    co_group_init(&group);
    co_group_start(&group, &task, side_io, &side);
    history_hash(&v->history, id, r->iov, r->niov); /* beside the test device's write */
    int rc_raw = node_io(v->raw, &raw);
    co_group_wait(&group);
    return finish_change(n, r, id, PAST_WRITE, losses, task.result, rc_raw);
}

static co_fn int do_write(struct node *n, struct req *r)
{
    if (LIKELY(!(r->flags & REQ_UNSTABLE))) {
        return write_stable(n, r);
    }
    void *buf = buf_get(r->bytes);
    struct iovec iov = {buf, r->bytes};
    struct req own = *r;

    if (!buf) {
        return -ENOMEM;
    }
    iov_to_buf(r->iov, r->niov, 0, buf, r->bytes);
    own.iov = &iov;
    own.niov = 1;
    own.flags &= ~(unsigned)REQ_UNSTABLE;
    int rc = write_stable(n, &own);
    buf_put(buf, r->bytes);
    return rc;
}

static co_fn int do_zero(struct node *n, struct req *r)
{
    struct verify *v = n->state;

    if (r->flags & REQ_NO_FALLBACK) {
        return change_in_turn(n, r, PAST_ZERO);
    }
    struct req test = *r, raw = *r;
    uint64_t losses = v->losses;
    uint64_t id = history_begin(&v->history, PAST_ZERO, r->opno, r->offset, r->bytes);
    int rc_test, rc_raw;
    verify_both(v, &test, &raw, &rc_test, &rc_raw);
    return finish_change(n, r, id, PAST_ZERO, losses, rc_test, rc_raw);
}

static co_fn int do_change(struct node *n, struct req *r)
{
    struct verify *v = n->state;
    struct change c = {.id = ++v->change_ids, .mark = v->oracle ? v->oracle->versions_head : 0};

    list_add_tail(&v->changes, &c.link);
    int rc = r->op == REQ_WRITE  ? do_write(n, r)
             : v->oracle         ? oracle_change(n, r, r->op == REQ_ZERO ? ORACLE_DATA : ORACLE_ANY)
             : r->op == REQ_ZERO ? do_zero(n, r)
                                 : change_in_turn(n, r, PAST_DISCARD);
    list_del(&c.link);
    co_queue_wake_all(&v->changed);
    return rc;
}

/* ---- flush, truncate ---- */

/* A flush has ended. What it covers counts as durable once no flush is under way: while one is that may
 * yet fail, the device may have dropped the data at its failure, and another flush then found nothing to
 * do (as Linux's page cache does). */
static void finish_flush(struct node *n, struct flush *flush, int rc_test, int rc_raw)
{
    struct verify *v = n->state;

    verify_look_for_reconnects(n); /* what was lost before the flush is not covered */
    list_del(&flush->link);
    if (rc_test == 0 && rc_raw == 0) {
        v->flush_covers = MAX(v->flush_covers, flush->seq);
        v->flush_mark = MAX(v->flush_mark, flush->mark);
    } else if (rc_test != -ENOTSUP) {
        v->flush_covers = v->flush_mark = 0;
        verify_lose_unflushed(n);
    }
    if (v->oracle && list_empty(&v->flushes) && !v->never_flushed) {
        oracle_flushed(v->oracle, v->flush_covers, v->flush_mark);
    } else if (list_empty(&v->flushes) && !v->never_flushed) {
        v->history.flushed_seq = MAX(v->history.flushed_seq, v->flush_covers);
    }
    co_queue_wake_all(&v->flushed);
}

static co_fn int do_flush(struct node *n, struct req *r)
{
    struct verify *v = n->state;
    struct req test = *r, raw = *r;
    struct flush flush = {.id = ++v->flush_ids};
    int rc_test, rc_raw = 0;

    /* what completed before the flush began is covered by it */
    flush.seq = v->oracle ? oracle_flush_begin(v->oracle, r->opno, &flush.mark) : v->history.done_seq;
    list_add_tail(&v->flushes, &flush.link);
    if (v->oracle) {
        rc_test = node_io(v->test, &test);
    } else {
        verify_both(v, &test, &raw, &rc_test, &rc_raw);
    }
    finish_flush(n, &flush, rc_test, rc_raw);
    if (v->oracle) {
        return oracle_result(n, r, rc_test);
    }
    return rc_test == rc_raw ? rc_test : return_mismatch(n, r, rc_test, rc_raw);
}

/* Both sides have the size @to now, @from before: what the books say about the part between. A sector
 * that was cut keeps its hash when it grows, as the history counts it as filled up with zeroes; when it
 * is cut, nothing is known of its hash. @ok: what grew is zeroes; else it may be anything. */
static void note_resize(struct node *n, const struct req *r, uint64_t from, uint64_t to, bool ok)
{
    struct verify *v = n->state;
    bool zeroes = ok && to > from;
    uint64_t whole = round_up(MIN(from, to), SECTOR_SIZE);
    uint64_t start = zeroes ? whole : round_down(MIN(from, to), SECTOR_SIZE);
    uint64_t end = round_up(MAX(from, to), SECTOR_SIZE);

    if (start < end) {
        uint64_t id =
            history_begin(&v->history, zeroes ? PAST_ZERO : PAST_DISCARD, r->opno, start, end - start);
        history_done(&v->history, id, true, false, false, start, end - start);
    }
    if (ok) {
        indet_remove(&v->indet, whole, end);
    } else if (start < end) {
        indet_add(&v->indet, start, end, INDET_ANY);
    }
}

static co_fn int do_truncate(struct node *n, struct req *r)
{
    struct verify *v = n->state;
    struct req test = *r, raw = *r;
    uint64_t from = n->size;
    if (v->oracle) {
        return err_set(r->why, -ENOTSUP, "an oracle's device cannot change its size");
    }
    bool alike = node_size(v->test) == node_size(v->raw);
    int rc_test = node_io(v->test, &test);

    if (rc_test == -ENOTSUP) {
        return rc_test;
    }
    int rc_raw = node_io(v->raw, &raw);
    if (rc_test == 0 && rc_raw == 0) {
        n->size = MIN(node_size(v->test), node_size(v->raw));
        note_resize(n, r, from, n->size, alike);
        return 0;
    }
    /* one or both failed: keep the two as long as each other, by the test device's length */
    if (node_size(v->raw) != node_size(v->test) && v->length == LENGTH_EQUAL) {
        node_truncate(v->raw, node_size(v->test), 0, NULL);
    }
    n->size = MIN(node_size(v->test), node_size(v->raw));
    note_resize(n, r, MIN(from, r->offset), MAX(from, r->offset), false);
    int rc = rc_test == rc_raw ? rc_test : return_mismatch(n, r, rc_test, rc_raw);
    return rc == 0 ? -EIO : rc; /* not as long as asked: the reference could not follow */
}

/* ---- the entry ---- */

/* Held by on-mismatch=pause, or ended by on-mismatch=stop. */
static co_fn int wait_while_held(struct verify *v, const struct req *r)
{
    while (v->paused && !v->stopped) {
        co_queue_wait(&v->held);
    }
    /* a flush changes nothing, and what was acknowledged before is to be on both sides */
    return v->stopped && r->op != REQ_FLUSH ? -EIO : 0;
}

static co_fn int test_only(struct node *n, struct req *r)
{
    const struct verify *v = n->state;

    return node_io(v->test, r);
}

co_fn int verify_io(struct node *n, struct req *r)
{
    struct verify *v = n->state;

    if (UNLIKELY(v->paused || v->stopped)) {
        int rc = wait_while_held(v, r);
        if (rc < 0) {
            return rc;
        }
    }
    verify_look_for_reconnects(n); /* soon: what is changed after a reconnect cannot be lost by it */
    if (UNLIKELY(r->flags & REQ_VMSTATE)) {
        return test_only(n, r); /* the reference is raw bytes: it has no such place */
    }
    switch (r->op) {
    case REQ_READ:
        return do_read(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return do_change(n, r);
    case REQ_FLUSH:
        return do_flush(n, r);
    case REQ_TRUNCATE:
        return do_truncate(n, r);
    default: /* REQ_STATUS, REQ_CACHE */
        return test_only(n, r);
    }
}
