/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of a disk with a write cache, and writing its contents down.
 *
 * A write waits only for room. What would write to a place of the device while something else is on its way
 * there waits for it, in the order of arrival (struct wc_move); so the device never gets older bytes over
 * newer ones. After every wait the power may have gone: the epoch is then another one, and the request fails.
 */
#include "block/eligible.h"
#include "drivers/wcache/internal.h"

#define ZERO_PAGES_MAX 256u      /* larger zeroes and discards cost nothing below, and pages here */
#define STATUS_BYTES   (4 * MiB) /* looked at by one status request while anything is cached */

/* ---- the order of writing to the device ---- */

static co_fn void move_begin(struct wcache *c, struct wc_move *m, uint64_t start, uint64_t end)
{
    struct list *pos;

    *m = (struct wc_move){.start = start, .end = end};
    co_queue_init(&m->over);
    list_add_tail(&c->moves, &m->link);
    for (pos = c->moves.next; pos != &m->link;) {
        struct wc_move *other = list_entry(pos, struct wc_move, link);
        if (other->start < end && start < other->end) {
            co_queue_wait(&other->over);
            pos = c->moves.next; /* anything may have left meanwhile */
        } else {
            pos = pos->next;
        }
    }
}

static void move_end(struct wcache *c, struct wc_move *m)
{
    list_del(&m->link);
    co_queue_wake_all(&m->over);
    co_queue_wake_all(&c->freed);
}

/* ---- writing down ---- */

struct batch {
    uint32_t at[WC_BATCH]; /* older ones before newer ones of the same page */
    unsigned n;
    uint32_t lowest; /* from there up to at[0], all of the page are superseded by these; WC_NIL: none is */
    uint64_t start, end;
};

static void take(struct wcache *c, struct batch *b, uint32_t i)
{
    const struct wc_piece *p = &c->pieces[i];

    c->pieces[i].busy = true;
    b->start = b->n == 0 ? wc_offset(p) : MIN(b->start, wc_offset(p));
    b->end = b->n == 0 ? wc_offset(p) + wc_bytes(p) : MAX(b->end, wc_offset(p) + wc_bytes(p));
    b->at[b->n++] = i;
}

/* In the order of writing: @i, and what follows it both there and on the device. */
static void take_in_order(struct wcache *c, struct batch *b, uint32_t i)
{
    b->n = 0; /* the rest of the list is not worth clearing */
    b->lowest = WC_NIL;
    take(c, b, i);
    for (uint32_t next = c->pieces[i].newer; next != WC_NIL && b->n < WC_BATCH;
         next = c->pieces[next].newer) {
        const struct wc_piece *p = &c->pieces[next];
        if (p->busy || p->zero != c->pieces[i].zero || wc_offset(p) != b->end) {
            break;
        }
        take(c, b, next);
    }
}

/* All of the page of @i that is not on its way yet; at least the oldest. */
static void take_page(struct wcache *c, struct batch *b, uint32_t i)
{
    uint32_t need[WC_BATCH], bottom, at;
    unsigned n = 0;

    b->n = 0;
    b->lowest = WC_NIL;
    for (bottom = i; c->pieces[bottom].below != WC_NIL && !c->pieces[c->pieces[bottom].below].busy;) {
        bottom = c->pieces[bottom].below;
    }
    at = wc_find(c, c->pieces[i].page);
    for (;; at = c->pieces[at].below) { /* down to one that has the whole page */
        const struct wc_piece *p = &c->pieces[at];
        need[n++] = at;
        if (at == bottom || n == WC_BATCH || (p->start == 0 && p->end == WC_PAGE)) {
            break;
        }
    }
    if (at != bottom && c->pieces[at].start == 0 && c->pieces[at].end == WC_PAGE) {
        b->lowest = bottom;
        for (uint32_t under = bottom; under != at; under = c->pieces[under].above) {
            c->pieces[under].busy = true;
        }
    } else if (at != bottom) { /* too many: the oldest of them */
        for (n = 0, at = bottom; n < WC_BATCH; at = c->pieces[at].above) {
            take(c, b, at);
            n++;
        }
        return;
    }
    while (n > 0) {
        take(c, b, need[--n]);
    }
}

/* The pieces from @first on that lie side by side: one request. Sets where they end. */
static co_fn int write_run(struct wcache *c, const struct batch *b, unsigned first, unsigned *ret_next)
{
    const struct wc_piece *head = &c->pieces[b->at[first]], *p = head;
    struct iovec iov[WC_BATCH];
    struct req r = {.op = head->zero ? REQ_ZERO : REQ_WRITE,
                    .flags = head->zero ? REQ_UNMAP : 0,
                    .offset = wc_offset(head),
                    .iov = iov,
                    .opno = head->opno};
    unsigned i = first;

    do {
        iov[i - first] = (struct iovec){wc_data(c, b->at[i]) + p->start, wc_bytes(p)};
        r.bytes += wc_bytes(p);
        p = ++i < b->n ? &c->pieces[b->at[i]] : NULL;
    } while (p && p->zero == head->zero && wc_offset(p) == r.offset + r.bytes);
    r.niov = head->zero ? 0 : (int)(i - first);
    *ret_next = i;
    int ret = node_io(node_below(c->node), &r);
    return ret == REQ_DROPPED ? -EIO : ret;
}

static void end_piece(struct wcache *c, uint32_t i, bool written)
{
    if (written) {
        wc_drop(c, i);
    } else {
        c->pieces[i].busy = false;
    }
}

static void end_batch(struct wcache *c, const struct batch *b, bool written)
{
    uint32_t at = b->lowest, next;

    for (; at != WC_NIL && at != b->at[0]; at = next) {
        next = c->pieces[at].above;
        end_piece(c, at, written);
    }
    for (unsigned i = 0; i < b->n; i++) {
        end_piece(c, b->at[i], written);
    }
}

static co_fn int write_batch(struct wcache *c, const struct batch *b)
{
    uint64_t epoch = c->epoch;
    struct wc_move move;
    int ret = 0;

    move_begin(c, &move, b->start, b->end);
    if (c->epoch != epoch) {
        ret = -EIO; /* it has not begun: the cut decides */
    }
    for (unsigned i = 0; ret == 0 && i < b->n;) {
        ret = write_run(c, b, i, &i);
    }
    end_batch(c, b, ret == 0);
    move_end(c, &move);
    return ret;
}

/* The oldest piece that is not on its way, up to a write; WC_NIL: none. */
static uint32_t oldest_idle(const struct wcache *c, uint64_t last_write)
{
    uint32_t i = c->oldest;

    while (i != WC_NIL && c->pieces[i].busy) {
        i = c->pieces[i].newer;
    }
    return i != WC_NIL && c->pieces[i].write <= last_write ? i : WC_NIL;
}

static co_fn int write_some(struct wcache *c, uint32_t i)
{
    struct batch b;

    if (c->evict == WC_FIFO) {
        take_in_order(c, &b, i);
    } else {
        take_page(c, &b, i);
    }
    return write_batch(c, &b);
}

int wc_write_down(struct wcache *c)
{
    uint64_t last = c->last_write, epoch = c->epoch;
    int ret = 0;

    while (ret == 0 && c->oldest != WC_NIL && c->pieces[c->oldest].write <= last) {
        uint32_t i = oldest_idle(c, last);
        if (i == WC_NIL) {
            co_queue_wait(&c->freed);
        } else {
            ret = write_some(c, i);
        }
        if (c->epoch != epoch) {
            return -EIO;
        }
    }
    return ret;
}

/* ---- eviction ---- */

/* Which page shall go? Any piece of it that is idle; WC_NIL: all is on its way. */
static uint32_t victim(struct wcache *c)
{
    uint32_t i = oldest_idle(c, UINT64_MAX), first = i;

    if (c->evict == WC_SHUFFLE) {
        for (unsigned tries = 0; i != WC_NIL && tries < 8; tries++) {
            uint32_t any = (uint32_t)rng_below(&c->rng, c->npieces);
            const struct wc_piece *p = &c->pieces[any];
            if (p->used && !p->busy) {
                return any;
            }
        }
    } else if (c->evict == WC_LRU) { /* of which the newest write is the oldest */
        for (unsigned steps = 0; i != WC_NIL && steps < WC_BATCH; steps++, i = c->pieces[i].newer) {
            if (!c->pieces[i].busy && c->pieces[i].above == WC_NIL) {
                return i;
            }
        }
    }
    return first;
}

static co_fn int make_room(struct wcache *c, uint64_t npieces, uint64_t epoch)
{
    int ret = 0;

    while (ret == 0 && UNLIKELY(c->npieces - c->nused < npieces)) {
        uint32_t i = victim(c);
        if (i == WC_NIL) {
            co_queue_wait(&c->freed);
        } else {
            ret = write_some(c, i);
        }
        if (c->epoch != epoch) {
            return -EIO;
        }
    }
    return ret;
}

/* ---- what has lain there long enough ---- */

static bool is_due(const struct wcache *c)
{
    return c->oldest != WC_NIL && c->pieces[c->oldest].acked_ns + c->age_ns <= loop_clock_ns();
}

static void age_main(void *arg)
{
    struct wcache *c = arg;
    int ret = 0;

    while (ret == 0 && !c->closing && !c->off && is_due(c)) {
        uint32_t i = oldest_idle(c, UINT64_MAX);
        if (i == WC_NIL) {
            co_queue_wait(&c->freed);
        } else {
            ret = write_some(c, i);
        }
    }
    c->aging = false;
    co_queue_wake_all(&c->freed);
    if (ret == 0) {
        wc_age_look(c); /* else the next flush tries again, and tells */
    }
}

void wc_age_fires(struct timer *t)
{
    struct wcache *c = container_of(t, struct wcache, age_timer);

    if (!c->closing && !c->aging) {
        c->aging = co_start_later(age_main, c) == 0;
    }
}

void wc_age_look(struct wcache *c)
{
    if (c->age_ns > 0 && c->oldest != WC_NIL && c->age_timer.heap_index == 0 && !c->aging && !c->closing) {
        (void)timer_arm(&c->age_timer, c->pieces[c->oldest].acked_ns + c->age_ns); /* without it, it waits */
    }
}

/* ---- writes ---- */

/* Write down what the range has of writes up to @last. */
static co_fn int clear_range(struct wcache *c, uint64_t start, uint64_t end, uint64_t last, uint64_t epoch)
{
    uint32_t i;
    int ret = 0;

    while (ret == 0 && (i = wc_any(c, start, end, last)) != WC_NIL) {
        if (c->pieces[i].busy) {
            co_queue_wait(&c->freed);
        } else {
            struct batch b;
            take_page(c, &b, i);
            ret = write_batch(c, &b);
        }
        if (c->epoch != epoch) {
            return -EIO;
        }
    }
    return ret;
}

/* What a power cut has done there is over. */
static void written_anew(struct wcache *c, const struct req *r)
{
    wc_memory_forget(&c->memory, r->offset, r->bytes);
    eligible_heal(c->node, r->offset, r->bytes);
}

/* Past the cache: what must be durable, what grows the disk, what would not fit. */
static co_fn int write_through(struct wcache *c, struct req *r, uint64_t epoch)
{
    uint64_t last = c->last_write;
    struct wc_move move;
    int ret = clear_range(c, r->offset, r->offset + r->bytes, last, epoch);

    if (ret < 0) {
        return ret;
    }
    move_begin(c, &move, r->offset, r->offset + r->bytes);
    ret = c->epoch == epoch ? node_io(node_below(c->node), r) : -EIO;
    written_anew(c, r);
    move_end(c, &move);
    return ret;
}

static co_fn int write_cached(struct wcache *c, struct req *r, uint64_t epoch)
{
    bool zero = r->op != REQ_WRITE;
    uint64_t pages = wc_pages_of(r->offset, r->bytes);

    if (((r->flags & REQ_FUA) && c->fua == WC_HONEST) || pages > c->npieces / 2 ||
        (zero && pages > ZERO_PAGES_MAX) || r->offset + r->bytes > node_size(node_below(c->node))) {
        return write_through(c, r, epoch);
    }
    int ret = make_room(c, pages, epoch);
    if (ret < 0) {
        return ret;
    }
    written_anew(c, r);
    wc_insert(c, r, zero);
    if (c->age_ns > 0) {
        wc_age_look(c);
    }
    return 0;
}

/* ---- the others ---- */

static co_fn int read_cached(struct wcache *c, struct req *r, uint64_t epoch)
{
    if (wc_any(c, r->offset, r->offset + r->bytes, UINT64_MAX) == WC_NIL) {
        return node_io(node_below(c->node), r);
    }
    if (wc_read_whole(c, r)) {
        return 0;
    }
    struct wc_reader reader = {.start = r->offset, .end = r->offset + r->bytes};
    int ret;
    list_add_tail(&c->readers, &reader.link);
    do { /* until nothing has gone down between the device's answer and ours */
        reader.stale = false;
        ret = node_io(node_below(c->node), r);
    } while (ret == 0 && reader.stale && c->epoch == epoch);
    list_del(&reader.link);
    if (ret == 0) {
        wc_overlay(c, r);
    }
    return ret;
}

static co_fn int flush(struct wcache *c, struct req *r)
{
    if (c->flush == WC_LIE) {
        for (; c->uncovered != WC_NIL; c->uncovered = c->pieces[c->uncovered].newer) {
            c->pieces[c->uncovered].covered = r->opno;
        }
        return 0;
    }
    int ret = wc_write_down(c);
    return ret < 0 ? ret : node_io(node_below(c->node), r);
}

/* What is cached is data; what is not, up to the next page that is, the device knows. */
static co_fn int status(struct wcache *c, struct req *r)
{
    uint64_t first = r->offset / WC_PAGE, page = first;

    if (c->nused == 0) {
        return node_io(node_below(c->node), r);
    }
    uint64_t end = r->offset + MIN(r->bytes, STATUS_BYTES);
    bool cached = wc_find(c, first) != WC_NIL;
    while (page * WC_PAGE < end && (wc_find(c, page) != WC_NIL) == cached) {
        page++;
    }
    end = MIN(end, page * WC_PAGE);
    if (cached) {
        *r->extent = (struct extent){.bytes = end - r->offset, .data = true, .allocated = true};
        return 0;
    }
    struct req part = *r;
    part.bytes = end - r->offset;
    return node_io(node_below(c->node), &part);
}

static co_fn int truncate_disk(struct wcache *c, struct req *r)
{
    int ret = wc_write_down(c);

    return ret < 0 ? ret : node_io(node_below(c->node), r);
}

static co_fn int perform(struct wcache *c, struct req *r, uint64_t epoch)
{
    switch (r->op) {
    case REQ_READ:
        return read_cached(c, r, epoch);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return write_cached(c, r, epoch);
    case REQ_FLUSH:
        return flush(c, r);
    case REQ_STATUS:
        return status(c, r);
    case REQ_TRUNCATE:
        return truncate_disk(c, r);
    default:
        return node_io(node_below(c->node), r);
    }
}

static int without_power(struct wcache *c, const struct req *r)
{
    c->first_failed = MIN(c->first_failed, r->opno);
    c->last_failed = MAX(c->last_failed, r->opno);
    return -EIO;
}

int wc_io(struct node *n, struct req *r)
{
    struct wcache *c = n->state;
    uint64_t epoch = c->epoch;

    if (UNLIKELY(c->off)) {
        return without_power(c, r);
    }
    if (UNLIKELY(c->memory.used > 0)) {
        c->memory.last_opno = MAX(c->memory.last_opno, r->opno);
    }
    int ret = perform(c, r, epoch);
    return UNLIKELY(c->epoch != epoch) ? without_power(c, r) : ret;
}
