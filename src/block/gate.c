/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The gate: the only way into a node. It checks the range, waits for overlapping requests where that
 * is asked, aligns (read-modify-write), splits at the driver's limits, emulates what the driver does
 * not do itself, and counts. Drivers see only requests that fit them: within the node (or growing it),
 * aligned or ending at the node's very end, no larger than their limits. It also raises the blkdebug
 * events that belong to no format: a node hears of its own writes, and of the flushes of the one above.
 */
#include "block/driver.h"
#include "block/event.h"
#include "block/room.h"

#define BOUNCE_BYTES (1 * MiB) /* read-modify-write and bounced transfers go in pieces of this */

/* A request between entering and leaving, in the order of arrival. */
struct ticket {
    struct list link;
    uint64_t start, end;
    bool write, serialise, waiting;
    struct co_queue waiters;
};

/* ---- in flight ---- */

static bool conflicts(const struct ticket *a, const struct ticket *b)
{
    return a->start < b->end && b->start < a->end && (a->write || b->write) && (a->serialise || b->serialise);
}

/* Wait for every earlier request that conflicts. Only earlier ones: nobody waits in a circle. Where requests
 * stand at breakpoints, later ones overtake what waits for them, as in QEMU: wait for those that run. */
static co_fn void wait_for_conflicts(struct node *n, struct ticket *t)
{
    struct gate *g = &n->gate;
    bool overtake = n->drv->on_event != NULL;
    struct list *pos = g->in_flight.next;

    while (pos != (overtake ? &g->in_flight : &t->link)) {
        struct ticket *other = list_entry(pos, struct ticket, link);
        if (other != t && conflicts(t, other) && !(overtake && other->waiting)) {
            t->waiting = true;
            co_queue_wait(&other->waiters);
            t->waiting = false;
            pos = g->in_flight.next; /* anything may have left meanwhile */
        } else {
            pos = pos->next;
        }
    }
}

static co_fn void enter(struct node *n, struct ticket *t)
{
    struct gate *g = &n->gate;

    co_queue_init(&t->waiters);
    list_add_tail(&g->in_flight, &t->link);
    g->count++;
    if (UNLIKELY(t->serialise)) { /* not added blindly: as a pair with count it becomes one slow load */
        g->serialising++;
    }
    if (g->serialising > 0 && g->count > 1) {
        wait_for_conflicts(n, t);
    }
}

static void leave(struct node *n, struct ticket *t)
{
    struct gate *g = &n->gate;

    list_del(&t->link);
    if (UNLIKELY(t->serialise)) {
        g->serialising--;
    }
    co_queue_wake_all(&t->waiters);
    if (--g->count == 0) {
        co_queue_wake_all(&g->drained);
    }
}

/* ---- to the driver ---- */

static co_fn int to_driver(struct node *n, struct req *r)
{
    const struct driver *d = n->drv;

    if (d->io) {
        return d->io(n, r);
    }
    if (d->format) {
        return access_io(n, r);
    }
    return node_io(node_below(n), r);
}

static struct req part_of(const struct req *r, uint64_t offset, uint64_t bytes)
{
    struct req part = *r;

    part.offset = offset;
    part.bytes = bytes;
    part.flags &= ~(unsigned)REQ_SERIALISE;
    return part;
}

/* Where a request may end without being aligned: at the end of the node. */
static bool is_aligned(const struct node *n, const struct req *r)
{
    uint64_t mask = n->limits.align - 1;
    uint64_t end = r->offset + r->bytes;

    return ((r->offset & mask) == 0) && ((end & mask) == 0 || end == n->size);
}

static uint64_t aligned_end(const struct node *n, uint64_t end)
{
    uint64_t up = align_up(end, n->limits.align);

    return end <= n->size ? MIN(up, MAX(n->size, end)) : up;
}

/* ---- transfers that do not fit the driver as they are ---- */

static uint64_t transfer_max(const struct node *n)
{
    uint64_t max = n->limits.max_transfer ? n->limits.max_transfer : REQ_BYTES_MAX;

    return MAX(round_down(max, n->limits.align), n->limits.align);
}

/* Aligned, but too large or in too many pieces: split without copying. */
static co_fn int split_transfer(struct node *n, const struct req *r)
{
    AUTO_IOV_ROOM struct iov_room room;
    uint64_t max = transfer_max(n);

    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    for (uint64_t done = 0; done < r->bytes;) {
        uint64_t bytes = MIN(max, r->bytes - done);
        struct req part = part_of(r, r->offset + done, bytes);
        part.iov = room.iov;
        part.niov = iov_slice(room.iov, r->iov, r->niov, done, bytes);
        int ret = to_driver(n, &part);
        if (ret < 0) {
            return ret;
        }
        done += bytes;
    }
    return 0;
}

static co_fn int flat_transfer(struct node *n, const struct req *r, enum req_op op, uint64_t offset,
                               void *buf, uint64_t bytes)
{
    struct iovec iov = {buf, bytes};
    struct req part = part_of(r, offset, bytes);

    part.op = op;
    part.iov = &iov;
    part.niov = 1;
    if (op == REQ_READ) {
        part.flags = 0;
    }
    return to_driver(n, &part);
}

/* Of whole units; past the end of the node, which may lie within one, are zeroes. */
static co_fn int read_units(struct node *n, const struct req *r, uint64_t offset, char *buf, uint64_t bytes)
{
    uint64_t inside = offset < n->size ? MIN(bytes, n->size - offset) : 0;

    memset(buf + inside, 0, bytes - inside);
    return inside ? flat_transfer(n, r, REQ_READ, offset, buf, inside) : 0;
}

static co_fn void tell(struct node *n, bool so, enum block_event event)
{
    if (so) {
        node_event(n, event);
    }
}

/* Read what a write does not cover of the first and last unit of [start, end). */
static co_fn int fill_edges(struct node *n, const struct req *r, char *buf, uint64_t start, uint64_t end)
{
    uint64_t align = n->limits.align;
    uint64_t last = round_down(end - 1, align);
    bool head = start < r->offset;
    bool tail = end > r->offset + r->bytes;
    int ret = 0;

    bool at_once = tail && last == start; /* one unit holds the head and the tail */
    if (head || at_once) {
        tell(n, head, EVENT_pwritev_rmw_head);
        tell(n, at_once, EVENT_pwritev_rmw_tail);
        ret = read_units(n, r, start, buf, MIN(align, end - start));
        tell(n, ret == 0 && head, EVENT_pwritev_rmw_after_head);
        tell(n, ret == 0 && at_once, EVENT_pwritev_rmw_after_tail);
    }
    if (ret == 0 && tail && !at_once) {
        node_event(n, EVENT_pwritev_rmw_tail);
        ret = read_units(n, r, last, buf + (last - start), end - last);
        tell(n, ret == 0, EVENT_pwritev_rmw_after_tail);
    }
    return ret;
}

/* @announced: the event of the write has been raised, or is by this piece. */
static co_fn int bounce_piece(struct node *n, const struct req *r, char *buf, uint64_t start, uint64_t end,
                              bool *announced)
{
    uint64_t from = MAX(start, r->offset);
    uint64_t to = MIN(end, r->offset + r->bytes);

    if (r->op == REQ_READ) {
        int ret = flat_transfer(n, r, REQ_READ, start, buf, end - start);
        if (ret == 0) {
            iov_from_buf(r->iov, r->niov, from - r->offset, buf + (from - start), to - from);
        }
        return ret;
    }
    int ret = fill_edges(n, r, buf, start, end);
    if (ret < 0) {
        return ret;
    }
    iov_to_buf(r->iov, r->niov, from - r->offset, buf + (from - start), to - from);
    tell(n, !*announced, EVENT_pwritev);
    *announced = true;
    return flat_transfer(n, r, REQ_WRITE, start, buf, end - start);
}

/* Widen to whole units through a buffer of ours. */
static co_fn int bounce_transfer(struct node *n, const struct req *r)
{
    uint64_t start = round_down(r->offset, n->limits.align);
    uint64_t end = aligned_end(n, r->offset + r->bytes);
    uint64_t piece = MIN(MIN(transfer_max(n), MAX(BOUNCE_BYTES, (uint64_t)n->limits.align)), end - start);
    char *buf = buf_get(piece);
    int ret = buf ? 0 : -ENOMEM;
    bool announced = false;

    for (uint64_t at = start; ret == 0 && at < end; at += piece) {
        ret = bounce_piece(n, r, buf, at, MIN(at + piece, end), &announced);
    }
    tell(n, announced, EVENT_pwritev_done);
    buf_put(buf, piece);
    return ret;
}

static bool must_bounce(const struct node *n, const struct req *r)
{
    return !is_aligned(n, r) || !iov_is_aligned(r->iov, r->niov, n->limits.mem_align);
}

static co_fn int move(struct node *n, struct req *r)
{
    if (UNLIKELY(n->limits.max_transfer && r->bytes > n->limits.max_transfer)) {
        return split_transfer(n, r);
    }
    return to_driver(n, r);
}

static co_fn int announced_write(struct node *n, struct req *r)
{
    node_event(n, EVENT_pwritev);
    int ret = move(n, r);
    node_event(n, EVENT_pwritev_done);
    return ret;
}

static co_fn int transfer(struct node *n, struct req *r)
{
    if (UNLIKELY(must_bounce(n, r))) {
        return bounce_transfer(n, r);
    }
    if (UNLIKELY(n->drv->on_event && r->op == REQ_WRITE)) {
        return announced_write(n, r);
    }
    return move(n, r);
}

static co_fn int gate_flush(struct node *n, struct req *r)
{
    uint64_t covered = n->writes;

    node_event(n->nchildren ? node_below(n) : NULL, EVENT_flush_to_os);
    if (n->flags & OPEN_NO_FLUSH) {
        return 0;
    }
    if (!n->drv->format || !n->drv->format->flush) {
        node_flush_to_disk(n); /* else it says so itself, when its caches are written */
    }
    int ret = to_driver(n, r);
    if (ret == 0) {
        n->flushed_writes = MAX(n->flushed_writes, covered);
    }
    return ret;
}

static co_fn int plain_flush(struct node *n, const struct req *r)
{
    struct req flush = {.op = REQ_FLUSH, .opno = r->opno, .client = r->client};

    return gate_flush(n, &flush);
}

static co_fn int gate_write(struct node *n, struct req *r)
{
    bool emulate_fua = (r->flags & REQ_FUA) && !(n->limits.supported & REQ_FUA);

    if ((r->flags & REQ_COMPRESSED) && !(n->limits.supported & REQ_COMPRESSED)) {
        return -ENOTSUP;
    }
    if (!emulate_fua) {
        return transfer(n, r);
    }
    struct req plain = *r;
    plain.flags &= ~(unsigned)REQ_FUA;
    int ret = transfer(n, &plain);
    return ret < 0 ? ret : plain_flush(n, r);
}

/* ---- zeroes and discards ---- */

static co_fn int write_zeroes_by_hand(struct node *n, const struct req *r, uint64_t offset, uint64_t bytes)
{
    static const char zeroes[64 * KiB] __attribute__((aligned(4096)));
    struct iovec iov[64];

    for (uint64_t end = offset + bytes; offset < end;) {
        uint64_t n_bytes = MIN(end - offset, sizeof(zeroes) * ARRAY_SIZE(iov));
        int niov = 0;
        for (uint64_t left = n_bytes; left > 0; niov++) {
            iov[niov] = (struct iovec){(void *)zeroes, MIN(left, sizeof(zeroes))};
            left -= iov[niov].iov_len;
        }
        struct req part = part_of(r, offset, n_bytes);
        part.op = REQ_WRITE;
        part.flags &= REQ_GROW;
        part.iov = iov;
        part.niov = niov;
        int ret = must_bounce(n, &part) ? bounce_transfer(n, &part) : move(n, &part);
        if (ret < 0) {
            return ret;
        }
        offset += n_bytes;
    }
    return 0;
}

/* The units-aligned middle of a ZERO or DISCARD, in pieces the driver takes. */
static co_fn int units_to_driver(struct node *n, const struct req *r, uint64_t start, uint64_t end,
                                 uint64_t unit, uint64_t max)
{
    max = max ? MAX(round_down(max, unit), unit) : REQ_BYTES_MAX / unit * unit;
    if (max == 0) {
        max = unit;
    }
    while (start < end) {
        uint64_t bytes = MIN(end - start, max);
        struct req part = part_of(r, start, bytes);
        if (!(n->limits.supported & REQ_FUA)) {
            part.flags &= ~(unsigned)REQ_FUA;
        }
        int ret = to_driver(n, &part);
        if (ret < 0) {
            return ret;
        }
        start += bytes;
    }
    return 0;
}

static co_fn int zero(struct node *n, struct req *r)
{
    uint64_t unit = MAX(n->limits.zero_align, n->limits.align);
    uint64_t end = r->offset + r->bytes;
    uint64_t start = round_up(r->offset, unit);
    uint64_t stop = end == n->size ? end : round_down(end, unit);
    bool flush = (r->flags & REQ_FUA) && !(n->limits.supported & REQ_FUA);
    int ret;

    if (start >= stop) { /* less than a unit */
        start = stop = r->offset;
    }
    if ((r->flags & REQ_NO_FALLBACK) && (start != r->offset || stop != end)) {
        return -ENOTSUP;
    }
    ret = start < stop ? units_to_driver(n, r, start, stop, unit, n->limits.max_zero) : 0;
    if (ret == -ENOTSUP) {
        if (r->flags & REQ_NO_FALLBACK) {
            return ret;
        }
        ret = write_zeroes_by_hand(n, r, r->offset, r->bytes);
        flush = r->flags & REQ_FUA;
    } else if (ret == 0 && (start != r->offset || stop != end)) {
        flush = r->flags & REQ_FUA;
        ret = write_zeroes_by_hand(n, r, r->offset, start - r->offset);
        ret = ret < 0 ? ret : write_zeroes_by_hand(n, r, stop, end - stop);
    }
    return ret == 0 && flush ? plain_flush(n, r) : ret;
}

static co_fn int gate_zero(struct node *n, struct req *r)
{
    node_event(n, EVENT_pwritev_zero);
    int ret = zero(n, r);
    node_event(n, EVENT_pwritev_done);
    return ret;
}

static co_fn int gate_discard(struct node *n, struct req *r)
{
    uint64_t unit = MAX(n->limits.discard_align, n->limits.align);
    uint64_t end = r->offset + r->bytes;
    uint64_t start = round_up(r->offset, unit);
    uint64_t stop = end == n->size ? end : round_down(end, unit);

    if (!(n->flags & OPEN_UNMAP) || start >= stop) {
        return 0; /* advice, not taken */
    }
    int ret = units_to_driver(n, r, start, stop, unit, n->limits.max_discard);
    if (ret < 0) {
        return ret == -ENOTSUP ? 0 : ret;
    }
    return (r->flags & REQ_FUA) && !(n->limits.supported & REQ_FUA) ? plain_flush(n, r) : 0;
}

/* ---- the rest ---- */

static co_fn int gate_status(struct node *n, struct req *r)
{
    struct extent *e = r->extent;

    *e = (struct extent){.bytes = r->bytes, .data = true, .allocated = true};
    int ret = to_driver(n, r);
    if (ret == -ENOTSUP) { /* cannot tell: data, here */
        *e = (struct extent){.bytes = r->bytes, .data = true, .allocated = true};
        ret = 0;
    }
    if (ret == 0) {
        assert(e->bytes > 0);
        e->bytes = MIN(e->bytes, r->bytes);
        e->eof = r->offset + e->bytes == n->size;
    }
    return ret;
}

static co_fn int gate_truncate(struct node *n, struct req *r)
{
    if (r->offset > BLOCK_SIZE_MAX) {
        return -EFBIG;
    }
    uint64_t before = n->size;
    int ret = to_driver(n, r);
    if (ret == 0 && n->drv->kind == DRIVER_FILTER && n->size == before) {
        n->size = node_below(n)->size; /* other drivers set it themselves */
    }
    return ret;
}

static bool op_writes(enum req_op op)
{
    return op == REQ_WRITE || op == REQ_ZERO || op == REQ_DISCARD || op == REQ_TRUNCATE;
}

/* Is the range within the node, or may it grow? */
static int check_range(const struct node *n, const struct req *r)
{
    if (r->op == REQ_FLUSH || r->op == REQ_TRUNCATE || (r->flags & REQ_VMSTATE)) {
        return 0;
    }
    if (r->offset > n->size || r->bytes > n->size - r->offset) {
        bool may = (r->flags & REQ_GROW) && r->op != REQ_STATUS && r->offset <= BLOCK_SIZE_MAX - r->bytes;
        return may ? 0 : -EIO;
    }
    return 0;
}

/* A growing read: what lies past the end is zeroes. */
static co_fn int read_past_end(struct node *n, struct req *r)
{
    AUTO_IOV_ROOM struct iov_room room;
    uint64_t inside = r->offset < n->size ? n->size - r->offset : 0;

    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    iov_memset(r->iov, r->niov, inside, 0, r->bytes - inside);
    if (inside == 0) {
        return 0;
    }
    struct req part = part_of(r, r->offset, inside);
    part.iov = room.iov;
    part.niov = iov_slice(room.iov, r->iov, r->niov, 0, inside);
    return transfer(n, &part);
}

static co_fn int dispatch(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        if (UNLIKELY((r->flags & REQ_GROW) && r->offset + r->bytes > n->size)) {
            return read_past_end(n, r);
        }
        return transfer(n, r);
    case REQ_WRITE:
        return gate_write(n, r);
    case REQ_ZERO:
        return gate_zero(n, r);
    case REQ_DISCARD:
        return gate_discard(n, r);
    case REQ_FLUSH:
        return gate_flush(n, r);
    case REQ_STATUS:
        return gate_status(n, r);
    case REQ_TRUNCATE:
        return gate_truncate(n, r);
    case REQ_CACHE: {
        int ret = to_driver(n, r);
        return ret == -ENOTSUP ? 0 : ret; /* advice */
    }
    case REQ_OP_COUNT:
        break;
    }
    return -EINVAL;
}

static void count(struct node *n, const struct req *r, int ret)
{
    n->stats.ops[r->op]++;
    n->stats.bytes[r->op] += r->bytes;
    n->writes += op_writes(r->op);
    if (UNLIKELY(ret < 0)) {
        n->stats.errors[r->op]++;
    } else if ((r->flags & REQ_GROW) && op_writes(r->op) && r->op != REQ_TRUNCATE) {
        n->size = MAX(n->size, r->offset + r->bytes);
    }
}

/* Past a filter that has nothing to do: the gate of its child checks, and makes wait, just as well. */
static co_fn int pass_by(struct node *n, struct req *r)
{
    if (r->opno == 0) {
        r->opno = ++n->last_opno;
    }
    n->gate.count++;
    int ret = node_io(node_below(n), r);
    count(n, r, ret);
    if (--n->gate.count == 0) {
        co_queue_wake_all(&n->gate.drained);
    }
    return ret;
}

static co_fn int pass(struct node *n, struct req *r)
{
    if (n->pass_by && r->op != REQ_TRUNCATE) {
        return pass_by(n, r);
    }
    if (r->op == REQ_TRUNCATE) {
        r->bytes = 0;
    }
    r->asked_offset = r->offset;
    r->asked_bytes = r->bytes;
    if (r->opno == 0) {
        r->opno = ++n->last_opno;
    }
    if (UNLIKELY(r->niov > IOV_LIST_MAX || r->offset > BLOCK_SIZE_MAX ||
                 r->bytes > BLOCK_SIZE_MAX - r->offset)) {
        return r->op == REQ_TRUNCATE ? -EFBIG : r->niov > IOV_LIST_MAX ? -EINVAL : -EIO;
    }
    if (UNLIKELY(op_writes(r->op) && n->read_only)) {
        return -EPERM;
    }
    if (UNLIKELY(r->flags & (REQ_VMSTATE | REQ_COMPARE) & ~n->limits.supported)) {
        return -ENOTSUP;
    }
    if ((n->flags & OPEN_WRITETHROUGH) && (r->op == REQ_WRITE || r->op == REQ_ZERO)) {
        r->flags |= REQ_FUA;
    }
    if (UNLIKELY(r->bytes == 0 && r->op != REQ_FLUSH && r->op != REQ_TRUNCATE)) {
        return r->op == REQ_STATUS ? -EINVAL : check_range(n, r);
    }

    struct ticket t = {
        .start = r->op == REQ_FLUSH || r->op == REQ_TRUNCATE ? 0 : align_down(r->offset, n->limits.align),
        .write = op_writes(r->op),
    };
    if (r->op == REQ_TRUNCATE) {
        t.end = UINT64_MAX; /* alone in the node: sizes change */
        t.serialise = true;
    } else if (r->op != REQ_FLUSH) {
        t.end = aligned_end(n, r->offset + r->bytes);
        t.serialise = n->limits.serialise || (r->flags & REQ_SERIALISE) ||
                      (t.write && r->op != REQ_DISCARD && !is_aligned(n, r));
    }
    enter(n, &t);
    int ret = check_range(n, r);
    if (ret == 0) {
        ret = dispatch(n, r);
    }
    count(n, r, ret);
    leave(n, &t);
    return ret;
}

/* What a write adds to the bytes at risk, and a flush takes from them. */
static void count_unflushed(struct node_times *t, const struct req *r, int ret, uint64_t start_ns,
                            uint64_t unflushed_before)
{
    if (ret < 0 || (r->flags & REQ_FUA)) {
        return;
    }
    if (r->op == REQ_WRITE || r->op == REQ_ZERO) {
        t->unflushed_since_ns = t->unflushed_bytes ? t->unflushed_since_ns : start_ns;
        t->unflushed_bytes += r->bytes;
    } else if (r->op == REQ_FLUSH) { /* what was written meanwhile may not be in it */
        t->unflushed_bytes -= MIN(unflushed_before, t->unflushed_bytes);
        t->unflushed_since_ns = start_ns;
    }
}

static co_fn int timed(struct node *n, struct req *r)
{
    struct node_times *t = n->times;
    uint64_t start_ns = loop_clock_ns(), unflushed = t->unflushed_bytes;

    r->below_ns = 0;
    int ret = pass(n, r);
    uint64_t ns = loop_clock_ns() - start_ns;
    times_add(&t->total[r->op], ns);
    if (n->drv->injects_delay) {
        times_add(&t->below[r->op], r->below_ns);
        times_add(&t->injected[r->op], ns - MIN(r->below_ns, ns));
    }
    count_unflushed(t, r, ret, start_ns, unflushed);
    r->below_ns = ns;
    return ret;
}

int node_io(struct node *n, struct req *r)
{
    return UNLIKELY(n->times) ? timed(n, r) : pass(n, r);
}

void node_admit(struct node *n)
{
    while (UNLIKELY(n->graph->paused)) {
        co_queue_wait(&n->graph->resumed);
    }
}

void node_drain(struct node *n)
{
    while (n->gate.count > 0) {
        co_queue_wait(&n->gate.drained);
    }
}

/* ---- short forms ---- */

int node_read(struct node *n, uint64_t offset, void *buf, uint64_t bytes)
{
    struct iovec iov = {buf, bytes};
    struct req r = {.op = REQ_READ, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1};

    return node_io(n, &r);
}

int node_write(struct node *n, uint64_t offset, const void *buf, uint64_t bytes, unsigned flags)
{
    struct iovec iov = {(void *)buf, bytes};
    struct req r = {
        .op = REQ_WRITE, .flags = flags, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1};

    return node_io(n, &r);
}

int node_zero(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct req r = {.op = REQ_ZERO, .flags = flags, .offset = offset, .bytes = bytes};

    return node_io(n, &r);
}

int node_discard(struct node *n, uint64_t offset, uint64_t bytes)
{
    struct req r = {.op = REQ_DISCARD, .offset = offset, .bytes = bytes};

    return node_io(n, &r);
}

int node_flush(struct node *n)
{
    struct req r = {.op = REQ_FLUSH};

    return node_io(n, &r);
}

static co_fn int status(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags,
                        struct extent *ret_extent)
{
    struct extent e;
    struct req r = {.op = REQ_STATUS, .flags = flags, .offset = offset, .bytes = bytes, .extent = &e};
    int ret = node_io(n, &r);

    if (ret == 0) {
        *ret_extent = e;
    }
    return ret;
}

int node_status(struct node *n, uint64_t offset, uint64_t bytes, struct extent *ret_extent)
{
    return status(n, offset, bytes, 0, ret_extent);
}

int node_status_bulk(struct node *n, uint64_t offset, uint64_t bytes, struct extent *ret_extent)
{
    return status(n, offset, bytes, REQ_BULK, ret_extent);
}

int node_truncate(struct node *n, uint64_t size, unsigned flags, struct err *err)
{
    struct err why = {0};
    struct req r = {.op = REQ_TRUNCATE, .offset = size, .flags = flags, .why = &why};
    int ret = node_io(n, &r);

    if (ret < 0 && why.code == ret && why.text[0]) {
        if (err) {
            *err = why;
        }
        return ret;
    }

    if (ret == -ENOTSUP && (flags & REQ_PREALLOC_METADATA)) {
        return err_set(err, ret, "Unsupported preallocation mode: metadata");
    }
    return ret < 0 ? err_set_errno(err, ret, "Failed to resize '%s' to %llu bytes", node_filename(n),
                                   (unsigned long long)size)
                   : 0;
}
