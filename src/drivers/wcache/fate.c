/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of a write cache outlives a power cut: a bit for each sector of each piece, drawn from the seed in the
 * order in which the writes came. Nothing is written here.
 *
 * A sector that is filled, or torn inside, also ruins what older writes have left there.
 */
#include "block/eligible.h"
#include "drivers/wcache/internal.h"

uint8_t wc_sectors(const struct wc_piece *p)
{
    unsigned first = p->start / SECTOR_SIZE, last = (p->end - 1u) / SECTOR_SIZE;

    return (uint8_t)((2u << last) - (1u << first));
}

struct wc_part wc_part_of(const struct wc_piece *p, unsigned sector)
{
    return (struct wc_part){MAX((uint32_t)p->start, sector * SECTOR_SIZE),
                            MIN((uint32_t)p->end, (sector + 1) * SECTOR_SIZE)};
}

static bool coin(struct rng *rng)
{
    return rng_below(rng, 2) == 0;
}

/* ---- one write after the other ---- */

struct span { /* the pieces of one write: from first on, n of them */
    uint32_t first;
    unsigned n;
};

static struct span span_of(const struct wcache *c, uint32_t first)
{
    struct span s = {first, 0};

    for (uint32_t i = first; i != WC_NIL && c->pieces[i].write == c->pieces[first].write;
         i = c->pieces[i].newer) {
        s.n++;
    }
    return s;
}

static uint32_t after(const struct wcache *c, const struct span *s)
{
    uint32_t i = s->first;

    for (unsigned k = 0; k < s->n; k++) {
        i = c->pieces[i].newer;
    }
    return i;
}

static void set_all(struct wcache *c, const struct span *s, bool keep)
{
    uint32_t i = s->first;

    for (unsigned k = 0; k < s->n; k++, i = c->pieces[i].newer) {
        c->pieces[i].keep = keep ? wc_sectors(&c->pieces[i]) : 0;
    }
}

/* A part of a write survives: what is missing holds what the policy fills it with. */
static void fill_torn(struct wcache *c, const struct span *s)
{
    bool some = false;
    uint32_t i = s->first;

    for (unsigned k = 0; k < s->n; k++, i = c->pieces[i].newer) {
        some |= c->pieces[i].keep != 0 || c->pieces[i].torn_at != 0;
    }
    i = s->first;
    for (unsigned k = 0; some && c->cut.fill != WCACHE_FILL_OLD && k < s->n; k++, i = c->pieces[i].newer) {
        struct wc_piece *p = &c->pieces[i];
        p->fill = wc_sectors(p) & (uint8_t)~p->keep;
        if (p->torn_at) {
            p->fill &= (uint8_t) ~(1u << (p->torn_at - 1u) / SECTOR_SIZE);
        }
    }
}

/* The sector survives up to some byte in it. */
static void tear_inside(struct wc_piece *p, unsigned sector, struct rng *rng)
{
    struct wc_part part = wc_part_of(p, sector);

    if (part.end - part.start > 1 && !p->torn_at) {
        p->torn_at = (uint16_t)(part.start + 1 + rng_below(rng, part.end - part.start - 1));
    }
}

/* The write at which the power went: its first units have survived. */
static void tear_prefix(struct wcache *c, const struct span *s, struct rng *rng)
{
    unsigned per_page = c->cut.torn == WCACHE_TORN_4096 ? 1 : WC_PAGE_SECTORS;
    uint64_t units = 0, at = 0;
    uint32_t i = s->first;

    for (unsigned k = 0; k < s->n; k++, i = c->pieces[i].newer) {
        units += per_page == 1 ? 1 : (unsigned)__builtin_popcount(wc_sectors(&c->pieces[i]));
    }
    uint64_t cut = rng_below(rng, units);
    i = s->first;
    for (unsigned k = 0; k < s->n; k++, i = c->pieces[i].newer) {
        struct wc_piece *p = &c->pieces[i];
        p->keep = 0;
        if (per_page == 1) {
            p->keep = at++ < cut ? wc_sectors(p) : 0;
            continue;
        }
        for (unsigned sector = 0; sector < WC_PAGE_SECTORS; sector++) {
            if (!(wc_sectors(p) & 1u << sector)) {
                continue;
            }
            p->keep |= (uint8_t)((at < cut) << sector);
            if (at == cut && c->cut.torn == WCACHE_TORN_BYTES) {
                tear_inside(p, sector, rng);
            }
            at++;
        }
    }
    fill_torn(c, s);
}

static void keep_prefix(struct wcache *c, struct rng *rng)
{
    uint64_t survive = rng_below(rng, c->sum.writes + 1), n = 0;

    for (uint32_t i = c->oldest; i != WC_NIL; n++) {
        struct span s = span_of(c, i);
        i = after(c, &s);
        set_all(c, &s, n < survive);
        if (n == survive && c->cut.torn != WCACHE_TORN_NONE) {
            tear_prefix(c, &s, rng);
        }
    }
}

static void keep_random_units(struct wcache *c, const struct span *s, struct rng *rng)
{
    uint32_t i = s->first;

    for (unsigned k = 0; k < s->n; k++, i = c->pieces[i].newer) {
        struct wc_piece *p = &c->pieces[i];
        uint8_t bits =
            c->cut.torn == WCACHE_TORN_4096 ? (coin(rng) ? 0xff : 0) : (uint8_t)rng_below(rng, 256);
        p->keep = wc_sectors(p) & bits;
        uint8_t gone = wc_sectors(p) & (uint8_t)~p->keep;
        if (c->cut.torn == WCACHE_TORN_BYTES && gone && coin(rng)) {
            tear_inside(p, (unsigned)__builtin_ctz(gone), rng);
        }
    }
    fill_torn(c, s);
}

static void keep_random(struct wcache *c, struct rng *rng)
{
    for (uint32_t i = c->oldest; i != WC_NIL;) {
        struct span s = span_of(c, i);
        i = after(c, &s);
        if (c->cut.torn == WCACHE_TORN_NONE) {
            set_all(c, &s, coin(rng));
        } else {
            keep_random_units(c, &s, rng);
        }
    }
}

/* ---- one place after the other ---- */

/* Of the pieces that have the sectors in @mask, those from a random older one down survive. */
static void keep_older_at(struct wcache *c, uint32_t top, uint8_t mask, struct rng *rng)
{
    unsigned depth = 0, at = 0;

    for (uint32_t i = top; i != WC_NIL; i = c->pieces[i].below) {
        depth += (wc_sectors(&c->pieces[i]) & mask) != 0;
    }
    if (depth == 0) {
        return;
    }
    uint64_t newest = 1 + rng_below(rng, depth); /* depth: what the device has */
    for (uint32_t i = top; i != WC_NIL; i = c->pieces[i].below) {
        uint8_t bits = wc_sectors(&c->pieces[i]) & mask;
        if (bits && at++ >= newest) {
            c->pieces[i].keep |= bits;
        }
    }
}

static void keep_older(struct wcache *c, struct rng *rng)
{
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        if (c->pieces[i].above != WC_NIL) {
            continue; /* the top stands for the page */
        }
        if (c->cut.torn == WCACHE_TORN_NONE || c->cut.torn == WCACHE_TORN_4096) {
            keep_older_at(c, i, 0xff, rng);
            continue;
        }
        for (unsigned sector = 0; sector < WC_PAGE_SECTORS; sector++) {
            keep_older_at(c, i, (uint8_t)(1u << sector), rng);
        }
    }
}

static void keep_erase_blocks(struct wcache *c)
{
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        struct wc_piece *p = &c->pieces[i];
        uint64_t draw =
            c->cut.seed ^ (p->page * WC_PAGE / c->cut.erase_block + 1) * UINT64_C(0x9e3779b97f4a7c15);
        p->keep = splitmix64(&draw) & 1 ? wc_sectors(p) : 0;
    }
}

/* ---- all of it ---- */

static void keep_everything(struct wcache *c, bool keep)
{
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        c->pieces[i].keep = keep ? wc_sectors(&c->pieces[i]) : 0;
    }
}

/* Where too many copies of the same bytes are damaged already, nothing is lost: from the newest piece down,
 * so that what is kept is what a reader saw. */
static void spare(struct wcache *c)
{
    for (uint32_t i = c->newest; c->node->eligible && i != WC_NIL; i = c->pieces[i].older) {
        struct wc_piece *p = &c->pieces[i];
        bool whole = p->keep == wc_sectors(p);
        if (!whole && !eligible_damage(c->node, wc_offset(p), wc_bytes(p))) {
            c->sum.spared_bytes += wc_bytes(p);
            p->keep = wc_sectors(p);
            p->fill = 0;
            p->torn_at = 0;
        }
    }
}

/* What is filled or torn is no older write's any more. */
static void ruin_below(struct wcache *c)
{
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        if (c->pieces[i].above != WC_NIL) {
            continue;
        }
        uint8_t ruined = 0;
        for (uint32_t at = i; at != WC_NIL; at = c->pieces[at].below) {
            struct wc_piece *p = &c->pieces[at];
            p->keep &= (uint8_t)~ruined;
            p->fill &= (uint8_t)~ruined;
            if (p->torn_at && ruined & 1u << (p->torn_at - 1u) / SECTOR_SIZE) {
                p->torn_at = 0;
            }
            ruined |= p->fill;
        }
    }
}

void wc_decide_fates(struct wcache *c)
{
    struct rng rng;
    uint64_t last = 0;

    rng_init(&rng, c->cut.seed);
    c->sum = (struct wc_sum){0};
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        struct wc_piece *p = &c->pieces[i];
        p->keep = p->fill = 0;
        p->torn_at = 0;
        c->sum.writes += p->write != last;
        c->sum.bytes += wc_bytes(p);
        last = p->write;
    }
    switch (c->cut.survivors) {
    case WCACHE_PREFIX:
        keep_prefix(c, &rng);
        break;
    case WCACHE_RANDOM:
        keep_random(c, &rng);
        break;
    case WCACHE_OLDER:
        keep_older(c, &rng);
        break;
    case WCACHE_ERASE_BLOCK:
        keep_erase_blocks(c);
        break;
    default:
        keep_everything(c, c->cut.survivors == WCACHE_ALL);
        break;
    }
    spare(c);
    ruin_below(c);
}
