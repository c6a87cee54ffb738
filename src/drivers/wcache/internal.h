/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The write cache's own declarations.
 *
 *   cache.c   the contents: pieces, where they are found, in which order they came
 *   io.c      requests; writing down
 *   cut.c     the power goes and comes back
 *   fate.c    what of the contents survives
 *   report.c  what was lost, and whether that was legal
 *   memory.c  the sectors that a cut has changed, to recognise them later (explain)
 *   wcache.c  the driver
 */
#ifndef DRIVERS_WCACHE_INTERNAL_H
#define DRIVERS_WCACHE_INTERNAL_H

#include "block/driver.h"
#include "drivers/wcache/wcache.h"

#define WC_PAGE         4096u /* contents are kept in pieces of at most this */
#define WC_PAGE_SECTORS (WC_PAGE / SECTOR_SIZE)
#define WC_NIL          UINT32_MAX
#define WC_BATCH        64u /* pieces that are written down by one request */

_Static_assert(WC_PAGE_SECTORS == 8, "what survives of a piece is one byte of bits");

/* The part of one write that lies in one page. Newer pieces of a page lie above older ones. */
struct wc_piece {
    uint64_t page;  /* number */
    uint64_t write; /* ordinal of the write in this cache: the order */
    uint64_t opno;
    uint64_t acked_ns;
    uint64_t covered;      /* operation number of the first flush that promised it to be durable; 0: none */
    uint32_t above, below; /* of the same page */
    uint32_t next_page;    /* of the top: the next in its bucket */
    uint32_t older, newer; /* in the order of all pieces; newer also links free ones */
    uint16_t start, end;   /* bytes of the page */
    bool used;             /* it is in the cache */
    bool zero;             /* nothing but zeroes, and data is not used */
    bool fua;              /* the write itself asked to be durable, and was promised so */
    bool busy;             /* on its way down */
    /* At a cut, a bit per sector of the page: it is written down, it is filled. */
    uint8_t keep, fill;
    uint8_t hidden;   /* ... a newer write survives there */
    bool partial;     /* ... another part of its write survives */
    uint16_t torn_at; /* ... it survives up to here, within a sector that is not in keep; 0: no such sector */
};

/* A range of the device that is being written: whatever else would write there waits. */
struct wc_move {
    struct list link; /* moves */
    uint64_t start, end;
    struct co_queue over;
};

/* A read that will lay cached pieces over what the device gives. */
struct wc_reader {
    struct list link; /* readers */
    uint64_t start, end;
    bool stale; /* a piece has left for the device meanwhile */
};

enum wc_evict { WC_FIFO, WC_LRU, WC_SHUFFLE };

/* One run of bytes that did not survive. */
struct wc_loss {
    uint64_t offset, bytes, opno, write, acked_ns, covered;
    bool fua;
    uint8_t fate; /* enum wc_fate */
};
enum wc_fate { WC_LOST, WC_TORN, WC_ROLLED_BACK, WC_SPLIT, WC_ZEROED, WC_GARBAGE, WC_FATE_COUNT };

struct wc_sum {
    uint64_t writes, bytes;          /* in the cache at the cut */
    uint64_t lost[2], lost_bytes[2]; /* illegal, legal */
    uint64_t spared_bytes;           /* kept because too many copies are damaged already */
};

/* A sector as a cut has left it. */
struct wc_mark {
    uint64_t sector; /* number + 1; 0: a free slot */
    uint64_t hash;   /* of its contents */
    uint64_t opno;   /* of the write that was lost */
    uint32_t cut;    /* its number in the graph */
    bool legal;
    uint8_t fate;
};

/* Sectors: what a small cache has lost in many cuts, and nobody has read since. */
#define WC_MARKS_MIN 65536u

struct wc_past { /* what a sector held before it was written again */
    struct wc_mark mark;
    uint64_t until; /* reads up to this operation may have seen it */
};

struct wc_memory { /* open addressing; a power of two, at most half full */
    struct wc_mark *marks;
    uint64_t slots, used, most; /* most: not more than this */
    uint64_t last_opno;         /* of the requests that have come while there was something to forget */
    struct wc_past *past;       /* a ring of WC_PAST_MAX; NULL until the first one */
    uint64_t npast;             /* ever */
};

struct wcache {
    struct node *node;
    /* options */
    uint64_t size, seed, age_ns, erase_block;
    int evict, flush, fua;
    bool overridden; /* by a fault rule; then these three are what the options said: */
    int own_flush, own_fua;
    uint64_t own_age_ns;
    char *report;

    /* contents */
    uint32_t npieces, nused;
    struct wc_piece *pieces;
    uint8_t *data; /* npieces pages */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t unused;         /* list through newer */
    uint32_t oldest, newest; /* of all pieces in use */
    uint32_t uncovered;      /* the oldest that no flush has covered; for disks that lie */
    uint64_t last_write;
    uint64_t dirty_bytes;
    struct rng rng;

    /* what is under way */
    struct list moves, readers;
    struct co_queue freed; /* pieces have become free, or none will */
    struct timer age_timer;
    bool aging;         /* the coroutine that writes down what is old is alive */
    int deferred_error; /* of writing down, for the next flush */

    /* power */
    uint64_t epoch; /* counts cuts: a request that sees another one than at its beginning has ended */
    bool off, settling, ending, closing;
    struct wcache_cut cut;
    uint64_t cut_number, cut_opno, cut_ns;
    uint64_t first_failed, last_failed; /* requests that the last cut has ended, or that came without power */
    bool lied;                          /* at the cut the disk was set to lie */
    int cut_error;
    struct timer on_timer;
    struct co_queue settled;
    struct wc_loss *losses;
    size_t nlosses;
    struct wc_sum sum;
    struct wc_memory memory;
    int report_fd;
};

enum { WC_HONEST, WC_LIE }; /* flush, fua */

extern const struct driver driver_write_cache;

/* ---- cache.c: none of it waits ---- */

int wc_cache_init(struct wcache *c); /* -ENOMEM */
void wc_cache_finish(struct wcache *c);
/* Newest piece of the page; WC_NIL: none. */
uint32_t wc_find(const struct wcache *c, uint64_t page);
/* Pieces that the range needs. */
static inline uint64_t wc_pages_of(uint64_t offset, uint64_t bytes)
{
    return (offset + bytes - 1) / WC_PAGE - offset / WC_PAGE + 1;
}
/* Put a write (or, with @zero, as many zeroes) in front of everything; there are enough free pieces. */
void wc_insert(struct wcache *c, const struct req *r, bool zero);
/* Forget a piece. */
void wc_drop(struct wcache *c, uint32_t i);
/* A piece of writes up to @last that has bytes of [@start, @end); WC_NIL: none. */
uint32_t wc_any(const struct wcache *c, uint64_t start, uint64_t end, uint64_t last);
/* Is all of the range in the cache? Then it is in @iov, too. */
bool wc_read_whole(const struct wcache *c, const struct req *r);
/* Lay what is cached over what the device gave. */
void wc_overlay(const struct wcache *c, const struct req *r);
static inline uint8_t *wc_data(const struct wcache *c, uint32_t i)
{
    return c->data + (size_t)i * WC_PAGE;
}
static inline uint64_t wc_offset(const struct wc_piece *p)
{
    return p->page * WC_PAGE + p->start;
}
static inline uint32_t wc_bytes(const struct wc_piece *p)
{
    return (uint32_t)(p->end - p->start);
}

/* ---- io.c ---- */

co_fn int wc_io(struct node *n, struct req *r);
/* Write down everything that is in the cache when it is called. */
co_fn int wc_write_down(struct wcache *c);
void wc_age_look(struct wcache *c);
void wc_age_fires(struct timer *t);

/* ---- cut.c ---- */

void wc_unhold(struct node *n, bool ending);
void wc_on_timer_fires(struct timer *t);

/* ---- fate.c ---- */

/* Set keep, fill and torn_at of every piece by the policy. */
void wc_decide_fates(struct wcache *c);
/* The bits of the sectors in which the piece has bytes. */
uint8_t wc_sectors(const struct wc_piece *p);
/* Where in the page a sector's part of the piece begins and ends. */
struct wc_part {
    uint32_t start, end;
};
struct wc_part wc_part_of(const struct wc_piece *p, unsigned sector);

/* ---- report.c ---- */

extern const char *const wc_fate_names[];
static inline bool wc_is_legal(const struct wc_loss *l)
{
    return l->covered == 0 && !l->fua && l->fate < WC_SPLIT;
}
/* List the losses that the fates mean. -ENOMEM. */
int wc_list_losses(struct wcache *c);
void wc_write_report(struct wcache *c);
int wc_report_open(struct wcache *c, const char *path, struct err *err);
void wc_report_close(struct wcache *c);

/* ---- memory.c ---- */

/* Remember the sectors of all losses as the device now shows them. -ENOMEM: some are not remembered. */
co_fn int wc_memory_take(struct wcache *c);
/* The range is written anew; a read that is on its way may have seen what is forgotten. */
void wc_memory_forget(struct wc_memory *m, uint64_t offset, uint64_t bytes);
void wc_memory_finish(struct wc_memory *m);
bool wc_explain(const struct node *n, const struct blame *b, struct explanation *ret);

#endif
