/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a write cache holds. Each write is kept as it came, cut into pieces at the borders of pages, and
 * leaves older writes of the same bytes alone: until they are written down they are what a power cut may
 * bring back. All memory is taken when the node is opened. Nothing here waits.
 */
#include <sys/mman.h>

#include "base/iov.h"
#include "drivers/wcache/internal.h"

/* ---- memory ---- */

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static uint32_t *bucket_of(const struct wcache *c, uint64_t page)
{
    uint64_t hash = page * UINT64_C(0x9e3779b97f4a7c15);

    return &c->buckets[(hash >> 32) & c->bucket_mask];
}

int wc_cache_init(struct wcache *c)
{
    c->npieces = (uint32_t)(c->size / WC_PAGE);
    size_t nbuckets = 1;
    while (nbuckets <
           c->npieces * UINT64_C(4)) { /* most pages are found at once: a piece looked at is a miss */
        nbuckets *= 2;
    }
    c->bucket_mask = (uint32_t)(nbuckets - 1);
    c->oldest = c->newest = c->uncovered = c->unused = WC_NIL;
    if (c->npieces == 0) {
        return 0;
    }
    c->pieces = map(c->npieces * sizeof(*c->pieces));
    c->data = map((size_t)c->npieces * WC_PAGE);
    c->buckets = malloc(nbuckets * sizeof(*c->buckets));
    if (!c->pieces || !c->data || !c->buckets) {
        return -ENOMEM;
    }
    memset(c->buckets, 0xff, nbuckets * sizeof(*c->buckets));
    for (uint32_t i = c->npieces; i-- > 0;) {
        c->pieces[i].newer = c->unused;
        c->unused = i;
    }
    return 0;
}

void wc_cache_finish(struct wcache *c)
{
    if (c->pieces) {
        munmap(c->pieces, c->npieces * sizeof(*c->pieces));
    }
    if (c->data) {
        munmap(c->data, (size_t)c->npieces * WC_PAGE);
    }
    free(c->buckets);
}

/* ---- finding ---- */

uint32_t wc_find(const struct wcache *c, uint64_t page)
{
    uint32_t i = c->nused ? *bucket_of(c, page) : WC_NIL;

    while (i != WC_NIL && c->pieces[i].page != page) {
        i = c->pieces[i].next_page;
    }
    return i;
}

static bool is_in(const struct wc_piece *p, uint64_t start, uint64_t end, uint64_t last)
{
    return p->write <= last && wc_offset(p) < end && wc_offset(p) + wc_bytes(p) > start;
}

uint32_t wc_any(const struct wcache *c, uint64_t start, uint64_t end, uint64_t last)
{
    if (c->nused == 0) {
        return WC_NIL;
    }
    if (wc_pages_of(start, end - start) > c->nused) { /* fewer pieces than pages: ask those */
        uint32_t i = c->oldest;
        while (i != WC_NIL && !is_in(&c->pieces[i], start, end, last)) {
            i = c->pieces[i].newer;
        }
        return i;
    }
    for (uint64_t page = start / WC_PAGE; page * WC_PAGE < end; page++) {
        for (uint32_t i = wc_find(c, page); i != WC_NIL; i = c->pieces[i].below) {
            if (is_in(&c->pieces[i], start, end, last)) {
                return i;
            }
        }
    }
    return WC_NIL;
}

/* ---- changing ---- */

static void put_on_top(struct wcache *c, uint32_t i)
{
    struct wc_piece *p = &c->pieces[i];
    uint32_t *link = bucket_of(c, p->page);

    while (*link != WC_NIL && c->pieces[*link].page != p->page) {
        link = &c->pieces[*link].next_page;
    }
    p->above = WC_NIL;
    p->below = *link;
    p->next_page = WC_NIL;
    if (p->below != WC_NIL) {
        p->next_page = c->pieces[p->below].next_page;
        c->pieces[p->below].above = i;
    }
    *link = i;
}

static void take_out_of_page(struct wcache *c, uint32_t i)
{
    const struct wc_piece *p = &c->pieces[i];

    if (p->above != WC_NIL) {
        c->pieces[p->above].below = p->below;
    } else {
        uint32_t *link = bucket_of(c, p->page);
        while (*link != i) {
            link = &c->pieces[*link].next_page;
        }
        *link = p->below != WC_NIL ? p->below : p->next_page;
        if (p->below != WC_NIL) {
            c->pieces[p->below].next_page = p->next_page;
        }
    }
    if (p->below != WC_NIL) {
        c->pieces[p->below].above = p->above;
    }
}

static uint32_t take_unused(struct wcache *c)
{
    uint32_t i = c->unused;

    assert(i != WC_NIL);
    c->unused = c->pieces[i].newer;
    c->nused++;
    return i;
}

static void put_in_order(struct wcache *c, uint32_t i)
{
    struct wc_piece *p = &c->pieces[i];

    p->older = c->newest;
    p->newer = WC_NIL;
    if (c->newest != WC_NIL) {
        c->pieces[c->newest].newer = i;
    } else {
        c->oldest = i;
    }
    c->newest = i;
    if (c->uncovered == WC_NIL) {
        c->uncovered = i;
    }
}

void wc_insert(struct wcache *c, const struct req *r, bool zero)
{
    uint64_t end = r->offset + r->bytes, write = ++c->last_write, now_ns = loop_now_ns();

    for (uint64_t at = r->offset, next; at < end; at = next) {
        next = MIN(round_down(at, WC_PAGE) + WC_PAGE, end);
        uint32_t i = take_unused(c);
        struct wc_piece *p = &c->pieces[i];
        *p = (struct wc_piece){.page = at / WC_PAGE,
                               .write = write,
                               .opno = r->opno,
                               .acked_ns = now_ns,
                               .start = (uint16_t)(at % WC_PAGE),
                               .end = (uint16_t)((next - 1) % WC_PAGE + 1),
                               .used = true,
                               .zero = zero,
                               .fua = (r->flags & REQ_FUA) != 0};
        if (!zero) {
            iov_to_buf(r->iov, r->niov, at - r->offset, wc_data(c, i) + p->start, next - at);
        }
        put_on_top(c, i);
        put_in_order(c, i);
        c->dirty_bytes += next - at;
    }
}

void wc_drop(struct wcache *c, uint32_t i)
{
    struct wc_piece *p = &c->pieces[i];
    struct wc_reader *reader;
    uint64_t start = wc_offset(p);

    list_for_each (reader, &c->readers, link) {
        reader->stale |= start < reader->end && reader->start < start + wc_bytes(p);
    }
    take_out_of_page(c, i);
    if (c->uncovered == i) {
        c->uncovered = p->newer;
    }
    *(p->older != WC_NIL ? &c->pieces[p->older].newer : &c->oldest) = p->newer;
    *(p->newer != WC_NIL ? &c->pieces[p->newer].older : &c->newest) = p->older;
    c->dirty_bytes -= wc_bytes(p);
    p->used = false;
    p->newer = c->unused;
    c->unused = i;
    c->nused--;
}

/* ---- reading ---- */

/* Copy what the piece has of bytes [@start, @end) of its page. */
static void copy_out(const struct wcache *c, uint32_t i, uint32_t start, uint32_t end, const struct req *r)
{
    const struct wc_piece *p = &c->pieces[i];
    uint32_t from = MAX(start, (uint32_t)p->start), to = MIN(end, (uint32_t)p->end);

    if (from >= to) {
        return;
    }
    size_t at = p->page * WC_PAGE + from - r->offset;
    if (p->zero) {
        iov_memset(r->iov, r->niov, at, 0, to - from);
    } else {
        iov_from_buf(r->iov, r->niov, at, wc_data(c, i) + from, to - from);
    }
}

/* All pieces of the page, from the newest that alone has everything (or the oldest) up. Returns whether there
 * is such a one. */
static bool overlay_page(const struct wcache *c, uint32_t top, uint32_t start, uint32_t end,
                         const struct req *r)
{
    uint32_t i = top;

    while (!(c->pieces[i].start <= start && c->pieces[i].end >= end) && c->pieces[i].below != WC_NIL) {
        i = c->pieces[i].below;
    }
    bool whole = c->pieces[i].start <= start && c->pieces[i].end >= end;
    for (; i != WC_NIL; i = c->pieces[i].above) {
        copy_out(c, i, start, end, r);
    }
    return whole;
}

bool wc_read_whole(const struct wcache *c, const struct req *r)
{
    uint64_t end = r->offset + r->bytes;

    if (wc_pages_of(r->offset, r->bytes) > c->nused) {
        return false;
    }
    for (uint64_t page = r->offset / WC_PAGE; page * WC_PAGE < end; page++) {
        uint64_t base = page * WC_PAGE;
        uint32_t top = wc_find(c, page);
        if (top == WC_NIL || !overlay_page(c, top, (uint32_t)(MAX(r->offset, base) - base),
                                           (uint32_t)(MIN(end, base + WC_PAGE) - base), r)) {
            return false;
        }
    }
    return true;
}

void wc_overlay(const struct wcache *c, const struct req *r)
{
    uint64_t end = r->offset + r->bytes;

    for (uint64_t page = r->offset / WC_PAGE; c->nused > 0 && page * WC_PAGE < end; page++) {
        uint64_t base = page * WC_PAGE;
        uint32_t top = wc_find(c, page);
        if (top != WC_NIL) {
            overlay_page(c, top, (uint32_t)(MAX(r->offset, base) - base),
                         (uint32_t)(MIN(end, base + WC_PAGE) - base), r);
        }
    }
}
