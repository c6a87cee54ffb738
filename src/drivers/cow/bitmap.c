/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bitmap, a page at a time. A bit is set in memory when its sector's data has been written, and
 * goes to the file after the data was made durable: no power cut can show a sector that was never
 * written, and what was not flushed is old or new.
 */
#include "drivers/cow/cow.h"

#define PAGE_BITS (COW_PAGE_BYTES * 8u)

int cow_bitmap_init(struct cow *c)
{
    co_mutex_init(&c->lock);
    c->pages = calloc(COW_PAGES_MAX, sizeof(*c->pages));
    return c->pages ? 0 : -ENOMEM;
}

void cow_bitmap_finish(struct cow *c)
{
    for (unsigned i = 0; c->pages && i < COW_PAGES_MAX; i++) {
        free(c->pages[i].bits);
    }
    free(TAKE_PTR(c->pages));
}

static uint64_t bits_total(const struct cow *c)
{
    return c->geo.bitmap_bytes * 8;
}

/* Bytes of page @index that belong to the bitmap. */
static uint64_t page_bytes(const struct cow *c, uint64_t index)
{
    return MIN((uint64_t)COW_PAGE_BYTES, c->geo.bitmap_bytes - index * COW_PAGE_BYTES);
}

static co_fn int write_page(struct cow *c, struct cow_page *p)
{
    int r = node_write(c->file, c->geo.bitmap_offset + p->index * COW_PAGE_BYTES, p->bits,
                       page_bytes(c, p->index), REQ_GROW);
    if (r == 0) {
        p->dirty = false;
    }
    return r;
}

static co_fn int flush_pages(struct cow *c)
{
    bool data_is_durable = false;

    for (unsigned i = 0; i < COW_PAGES_MAX; i++) {
        struct cow_page *p = &c->pages[i];
        if (!p->dirty) {
            continue;
        }
        int r = data_is_durable ? 0 : node_flush(c->file);
        data_is_durable = true;
        r = r < 0 ? r : write_page(c, p);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static co_fn int load_page(struct cow *c, struct cow_page *p, uint64_t index)
{
    int r = p->dirty ? flush_pages(c) : 0; /* whoever lies in the slot goes first */

    if (r < 0) {
        return r;
    }
    if (!p->bits && !(p->bits = malloc(COW_PAGE_BYTES))) {
        return -ENOMEM;
    }
    p->valid = false;
    struct iovec iov = {p->bits, page_bytes(c, index)};
    struct req read = {.op = REQ_READ,
                       .flags = REQ_GROW,
                       .offset = c->geo.bitmap_offset + index * COW_PAGE_BYTES,
                       .bytes = iov.iov_len,
                       .iov = &iov,
                       .niov = 1};
    r = node_io(c->file, &read);
    if (r == 0) {
        p->index = index;
        p->valid = true;
    }
    return r;
}

/* The page with number @index, loaded; the lock is held. */
static co_fn int get_page(struct cow *c, uint64_t index, struct cow_page **ret_page)
{
    struct cow_page *p = &c->pages[index % COW_PAGES_MAX];
    int r = p->valid && p->index == index ? 0 : load_page(c, p, index);

    if (r == 0) {
        *ret_page = p;
    }
    return r;
}

static bool get_bit(const struct cow_page *p, uint64_t sector)
{
    unsigned bit = sector % PAGE_BITS;

    return p->bits[bit / 8] >> (bit % 8) & 1;
}

/* Sectors from @sector to @end that are like @present within one page. */
static uint64_t run_in_page(const struct cow_page *p, uint64_t sector, uint64_t end, bool present)
{
    uint64_t at = sector;
    uint8_t whole = present ? 0xff : 0;

    while (at < end) {
        if (at % 8 == 0 && end - at >= 8 && p->bits[at % PAGE_BITS / 8] == whole) {
            at += 8;
        } else if (get_bit(p, at) == present) {
            at++;
        } else {
            break;
        }
    }
    return at - sector;
}

static co_fn int run_locked(struct cow *c, uint64_t sector, uint64_t sectors, uint64_t *ret_run,
                            bool *ret_present)
{
    uint64_t end = MIN(sector + sectors, bits_total(c));
    struct cow_page *p;
    int r;

    if (sector >= end) { /* no bit: never in the COW file */
        *ret_run = sectors;
        *ret_present = false;
        return 0;
    }
    r = get_page(c, sector / PAGE_BITS, &p);
    if (r < 0) {
        return r;
    }
    bool present = get_bit(p, sector);
    uint64_t page_end = MIN(end, round_down(sector, PAGE_BITS) + PAGE_BITS);
    *ret_run = run_in_page(p, sector, page_end, present);
    *ret_present = present;
    return 0;
}

int cow_bitmap_run(struct cow *c, uint64_t sector, uint64_t sectors, uint64_t *ret_run, bool *ret_present)
{
    co_mutex_lock(&c->lock);
    int r = run_locked(c, sector, sectors, ret_run, ret_present);
    co_mutex_unlock(&c->lock);
    return r;
}

int cow_bitmap_covers(const struct cow *c, uint64_t sector, uint64_t sectors)
{
    return sector + sectors <= bits_total(c) ? 0 : -ENOTSUP;
}

int cow_bitmap_set(struct cow *c, uint64_t sector, uint64_t sectors)
{
    int r = cow_bitmap_covers(c, sector, sectors);

    co_mutex_lock(&c->lock);
    for (uint64_t at = sector, end = sector + sectors; r == 0 && at < end;) {
        struct cow_page *p;
        uint64_t stop = MIN(end, round_down(at, PAGE_BITS) + PAGE_BITS);
        r = get_page(c, at / PAGE_BITS, &p);
        for (; r == 0 && at < stop; at++) {
            if (!get_bit(p, at)) {
                p->bits[at % PAGE_BITS / 8] |= (uint8_t)(1u << (at % 8));
                p->dirty = true;
            }
        }
    }
    co_mutex_unlock(&c->lock);
    return r;
}

int cow_bitmap_flush(struct cow *c)
{
    co_mutex_lock(&c->lock);
    int r = flush_pages(c);
    co_mutex_unlock(&c->lock);
    return r;
}
