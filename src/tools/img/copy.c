/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying: workers (coroutines) take pieces from the front, read, look for zeroes, and write. What
 * the block status calls zero is never read. Reads of several workers overlap each other and the
 * writes; in_order makes only the writes wait for their turn.
 */
#include "tools/img/copy.h"

#define ZERO_PIECE_BYTES (1 * GiB) /* one zero request: below REQ_BYTES_MAX, and shows progress */

struct piece {
    const struct copy_source *source;
    uint64_t offset, bytes; /* in the target */
    bool zero;
    bool below; /* nothing to do: the target's backing file has it */
};

/* The first error stays. */
static int fail(struct copy *c, int r, const char *doing, uint64_t offset)
{
    if (c->result == 0) {
        c->result = err_set_errno(&c->err, r, "error while %s at byte %" PRIu64, doing, offset);
    }
    co_queue_wake_all(&c->turn);
    return r;
}

static const struct copy_source *source_at(const struct copy *c, uint64_t offset)
{
    for (unsigned i = 0; i < c->nsources; i++) {
        if (offset - c->sources[i].at < c->sources[i].bytes) {
            return &c->sources[i];
        }
    }
    return NULL;
}

/* ---- taking a piece ---- */

/* Only whole clusters can be compressed: the extent ends with one. One that holds none is read, and so
 * much more that it makes one. */
static uint64_t whole_clusters(const struct copy *c, const struct copy_source *s, struct extent *e)
{
    uint64_t source_end = s->at + s->bytes;
    uint64_t end = c->next + e->bytes;

    if (c->compress_bytes == 0 || end == source_end) {
        return e->bytes;
    }
    end = round_down(end, c->compress_bytes);
    if (end <= c->next) {
        end = MIN(round_down(c->next, c->compress_bytes) + c->compress_bytes, source_end);
        e->zero = false;
        e->allocated = true;
    }
    return end - c->next;
}

/* What lies beside the clusters, where one source ends and the next begins, is not compressed. */
static unsigned write_flags(const struct copy *c, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;

    return REQ_BULK | (c->compress_bytes > 0 && offset % c->compress_bytes == 0 &&
                               (end % c->compress_bytes == 0 || end == c->total_bytes)
                           ? REQ_COMPRESSED
                           : 0);
}

static co_fn int learn_status(struct copy *c, const struct copy_source *s)
{
    uint64_t in_source = c->next - s->at;
    struct extent e = {0};
    int r = 0;

    if (c->sparse_bytes == 0) { /* everything is written: nothing to ask */
        e.bytes = s->bytes - in_source;
    } else {
        r = node_status_bulk(s->node, s->start + in_source, s->bytes - in_source, &e);
    }
    if (r < 0 && !c->salvage) {
        return fail(c, r, "reading block status", c->next);
    }
    if (r < 0) { /* reading will tell, sector by sector */
        e = (struct extent){.bytes = MIN(s->bytes - in_source, c->piece_bytes)};
    }
    assert(e.bytes > 0);
    e.bytes = whole_clusters(c, s, &e);
    c->known_end = c->next + e.bytes;
    c->known_below =
        c->same_backing && r == 0 && c->sparse_bytes > 0 && !e.allocated && node_child(s->node, "backing");
    c->known_zero = e.zero && !c->known_below;
    return 0;
}

/* What can be compressed is a piece of its own, beside what lies before and behind it in its clusters. */
static uint64_t end_with_cluster(const struct copy *c, uint64_t end)
{
    uint64_t cluster = c->compress_bytes;

    if (cluster == 0 || c->next % cluster) {
        return cluster ? MIN(end, round_up(c->next, cluster)) : end;
    }
    uint64_t down = round_down(end, cluster);
    return end == c->total_bytes || down == c->next ? end : down;
}

static bool take_locked(struct copy *c, struct piece *ret)
{
    if (c->result < 0 || c->next >= c->total_bytes) {
        return false;
    }
    const struct copy_source *s = source_at(c, c->next);
    if (c->next >= c->known_end && learn_status(c, s) < 0) {
        return false;
    }
    uint64_t unit = c->known_zero || c->known_below ? ZERO_PIECE_BYTES : c->piece_bytes;
    /* Pieces end on multiples of their size, so that zero runs keep their alignment. */
    uint64_t end = end_with_cluster(c, MIN(c->known_end, round_down(c->next, unit) + unit));
    *ret = (struct piece){.source = s,
                          .offset = c->next,
                          .bytes = end - c->next,
                          .zero = c->known_zero,
                          .below = c->known_below};
    c->next = end;
    return true;
}

static bool is_moved(const struct piece *p)
{
    return !p->zero && !p->below;
}

/* Wait until the buffers of all workers together leave room for the piece. In order: nobody takes
 * another piece meanwhile. */
static co_fn bool take_piece(struct copy *c, struct piece *ret)
{
    co_mutex_lock(&c->pick);
    bool taken = take_locked(c, ret);
    while (taken && is_moved(ret) && c->moving_bytes > 0 &&
           c->moving_bytes + ret->bytes > COPY_BUFFER_BYTES) {
        co_queue_wait(&c->room);
    }
    if (taken && is_moved(ret)) {
        c->moving_bytes += ret->bytes;
    }
    co_mutex_unlock(&c->pick);
    return taken;
}

/* ---- reading ---- */

static uint64_t source_offset(const struct piece *p)
{
    return p->source->start + (p->offset - p->source->at);
}

/* Read what can be read: halve until single sectors fail, which become zeroes. */
static co_fn void salvage(struct copy *c, const struct piece *p, char *buf, uint64_t offset, uint64_t bytes)
{
    int r = node_read(p->source->node, source_offset(p) + offset, buf + offset, bytes);

    if (r == 0) {
        return;
    }
    if (bytes <= SECTOR_SIZE) {
        memset(buf + offset, 0, bytes);
        img_error(c->img, "warning: error while reading offset %" PRIu64 ": %s", p->offset + offset,
                  err_name(r));
        return;
    }
    uint64_t half = bytes > 2 * SECTOR_SIZE ? round_down(bytes / 2, SECTOR_SIZE) : SECTOR_SIZE;
    salvage(c, p, buf, offset, half);
    salvage(c, p, buf, offset + half, bytes - half);
}

static co_fn int read_piece(struct copy *c, const struct piece *p, char *buf)
{
    struct iovec iov = {buf, p->bytes};
    struct req read = {.op = REQ_READ,
                       .flags = REQ_BULK,
                       .offset = source_offset(p),
                       .bytes = p->bytes,
                       .iov = &iov,
                       .niov = 1};
    int r = node_io(p->source->node, &read);

    if (r < 0 && c->salvage) {
        salvage(c, p, buf, 0, p->bytes);
        return 0;
    }
    return r < 0 ? fail(c, r, "reading", p->offset) : 0;
}

/* ---- writing ---- */

static co_fn int write_zeroes(struct copy *c, uint64_t offset, uint64_t bytes)
{
    if (c->target_zero) {
        return 0;
    }
    int r = node_zero(c->target, offset, bytes, REQ_UNMAP);
    return r < 0 ? fail(c, r, "writing", offset) : 0;
}

/* Length of the run at the front of @buf (at @offset of the target) that is all zero units, or all
 * others. Units are aligned in the target; the first and the last may be short. */
static uint64_t run_length(const struct copy *c, const char *buf, uint64_t offset, uint64_t bytes,
                           bool *ret_zero)
{
    uint64_t unit = c->sparse_bytes;
    uint64_t at = 0;

    while (at < bytes) {
        uint64_t len = MIN(bytes - at, round_down(offset + at, unit) + unit - (offset + at));
        bool zero = buffer_is_zero(buf + at, len);
        if (at == 0) {
            *ret_zero = zero;
        } else if (zero != *ret_zero) {
            break;
        }
        at += len;
    }
    return at;
}

/* What comes behind may begin: its writes follow those that are under way. */
static void pass_turn(struct copy *c, uint64_t end)
{
    if (c->in_order) {
        c->started = end;
        co_queue_wake_all(&c->turn);
    }
}

static co_fn int write_data(struct copy *c, uint64_t offset, const char *buf, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        bool zero = false;
        uint64_t len = c->sparse_bytes == 0 ? bytes : run_length(c, buf + at, offset + at, bytes - at, &zero);
        int r;
        if (at + len == bytes) {
            pass_turn(c, offset + bytes);
        }
        if (zero) {
            r = write_zeroes(c, offset + at, len);
        } else {
            r = node_write(c->target, offset + at, buf + at, len, write_flags(c, offset + at, len));
            r = r < 0 ? fail(c, r, "writing", offset + at) : 0;
        }
        if (r < 0) {
            return r;
        }
        at += len;
    }
    return 0;
}

/* Wait until the writes of all before @offset have begun. */
static co_fn int wait_turn(struct copy *c, uint64_t offset)
{
    while (c->in_order && c->result == 0 && c->started < offset) {
        co_queue_wait(&c->turn);
    }
    return c->result;
}

static co_fn void keep_rate(struct copy *c, uint64_t offset)
{
    if (c->bytes_per_s == 0) {
        return;
    }
    uint64_t due_ns =
        c->started_ns + (uint64_t)((double)offset / (double)c->bytes_per_s * (double)NS_PER_SEC);
    uint64_t now_ns = loop_clock_ns();
    if (due_ns > now_ns) {
        co_sleep_ns(due_ns - now_ns);
    }
}

static co_fn int move_piece(struct copy *c, const struct piece *p)
{
    char *buf = buf_get(p->bytes);
    int r = buf ? read_piece(c, p, buf) : fail(c, -ENOMEM, "allocating a buffer", p->offset);

    if (r == 0) {
        r = wait_turn(c, p->offset);
    }
    if (r == 0) {
        r = write_data(c, p->offset, buf, p->bytes);
    }
    buf_put(buf, p->bytes);
    c->moving_bytes -= p->bytes;
    co_queue_wake_one(&c->room);
    return r;
}

static co_fn int skip_piece(struct copy *c, const struct piece *p)
{
    int r = wait_turn(c, p->offset);

    if (r == 0) {
        pass_turn(c, p->offset + p->bytes);
    }
    return r == 0 && p->zero ? write_zeroes(c, p->offset, p->bytes) : r;
}

static co_fn int copy_piece(struct copy *c, const struct piece *p)
{
    keep_rate(c, p->offset);
    int r = is_moved(p) ? move_piece(c, p) : skip_piece(c, p);
    if (r < 0) {
        return r;
    }
    img_progress_add(c->progress, p->bytes);
    return 0;
}

static co_fn int worker(void *arg)
{
    struct copy *c = arg;
    struct piece p;

    while (take_piece(c, &p) && copy_piece(c, &p) == 0) {
    }
    return 0;
}

/* A whole number of sparse units, so that a run of zeroes is seen whole. */
static uint64_t piece_size(const struct copy *c)
{
    return round_up(COPY_PIECE_BYTES, MAX(MAX(c->sparse_bytes, c->compress_bytes), (uint64_t)1));
}

int copy_run(struct copy *c)
{
    struct co_task tasks[COPY_WORKERS_MAX];
    struct co_group group;

    assert(c->workers > 0 && c->workers <= COPY_WORKERS_MAX);
    c->piece_bytes = piece_size(c);
    co_mutex_init(&c->pick);
    co_queue_init(&c->turn);
    co_queue_init(&c->room);
    co_group_init(&group);
    c->started_ns = loop_clock_ns();
    for (unsigned i = 0; i < c->workers; i++) {
        co_group_start(&group, &tasks[i], worker, c);
    }
    co_group_wait(&group);
    return c->result;
}
