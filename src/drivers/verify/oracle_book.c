/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the oracle's book says: records, and the versions before them. Changed in an order that a killed
 * blkproof leaves readable: the version that is overwritten is entered first, then the new record, pending,
 * links to it, then the device is written; only the record's second word, and then its first, is ever half
 * done.
 */
#include "drivers/verify/oracle.h"

#define CHAIN_MAX 65536u              /* versions of one unit looked at: a damaged book may link in circles */
#define ALIKE     (UINT64_C(1) << 63) /* a version's unit: of a chunk that was all alike */

/* ---- records ---- */

static uint8_t *directory(const struct oracle *o, uint64_t chunk)
{
    return o->map + 4096 + chunk * ORACLE_RECORD_BYTES;
}

static uint64_t page_at(const struct oracle *o, uint64_t chunk)
{
    return o->pages_at + chunk * ORACLE_PAGE_BYTES;
}

static struct oracle_record load(const uint8_t *p)
{
    return (struct oracle_record){get_le64(p), get_le64(p + 8)};
}

/* The second word first: see the top. */
static void store(uint8_t *p, struct oracle_record r)
{
    put_le64(p + 8, r.b);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    put_le64(p, r.a);
    __atomic_signal_fence(__ATOMIC_RELEASE);
}

static bool paged(const struct oracle *o, uint64_t chunk)
{
    return (get_le64(directory(o, chunk)) & ORACLE_KIND) == ORACLE_OTHER;
}

/* Where the record of a unit stands. */
static uint8_t *place(const struct oracle *o, uint64_t unit)
{
    uint64_t chunk = unit / ORACLE_CHUNK_UNITS;

    return paged(o, chunk) ? o->map + page_at(o, chunk) + unit % ORACLE_CHUNK_UNITS * ORACLE_RECORD_BYTES
                           : directory(o, chunk);
}

struct oracle_record oracle_get(const struct oracle *o, uint64_t unit)
{
    struct oracle_record r = load(place(o, unit));

    return oracle_kind(r) == ORACLE_OTHER ? (struct oracle_record){0} : r; /* a damaged book */
}

static bool is_maybe(struct oracle_record r)
{
    return oracle_kind(r) == ORACLE_DATA && (r.a & (ORACLE_FAILED | ORACLE_LOST));
}

/* A page is to go: what it counted for goes too. */
static void drop_page(struct oracle *o, uint64_t chunk)
{
    const uint8_t *page = o->map + page_at(o, chunk);

    for (uint64_t i = 0; o->indeterminate > 0 && i < ORACLE_CHUNK_UNITS; i++) {
        o->indeterminate -= is_maybe(load(page + i * ORACLE_RECORD_BYTES));
    }
    oracle_drop(o, page_at(o, chunk));
}

/* The chunk gets a page, filled with the record that stood for all of it. */
static bool make_page(struct oracle *o, uint64_t chunk)
{
    struct oracle_record alike = load(directory(o, chunk));

    if (paged(o, chunk)) {
        return oracle_room(o, page_at(o, chunk), ORACLE_PAGE_BYTES);
    }
    if (!oracle_room(o, (uint64_t)(directory(o, chunk) - o->map), ORACLE_RECORD_BYTES) ||
        !oracle_room(o, page_at(o, chunk), ORACLE_PAGE_BYTES)) {
        return false;
    }
    uint8_t *page = o->map + page_at(o, chunk);
    for (uint64_t i = 0; (alike.a != 0 || alike.b != 0) && i < ORACLE_CHUNK_UNITS; i++) {
        store(page + i * ORACLE_RECORD_BYTES, alike);
    }
    o->indeterminate += is_maybe(alike) ? ORACLE_CHUNK_UNITS - 1 : 0;
    store(directory(o, chunk), (struct oracle_record){ORACLE_OTHER, 0});
    return true;
}

/* ---- versions ---- */

static uint8_t *version(const struct oracle *o, uint64_t position)
{
    return o->map + o->versions_at + (position & (o->versions_max - 1)) * ORACLE_VERSION_BYTES;
}

/* Returns the link to it; 0: there is no space. */
static uint64_t push(struct oracle *o, uint64_t unit, struct oracle_record old)
{
    uint8_t *p = version(o, o->versions_head);

    if (UNLIKELY(!oracle_room(o, (uint64_t)(p - o->map), ORACLE_VERSION_BYTES))) {
        o->gaps = true;
        return 0;
    }
    put_le64(p, old.a);
    put_le64(p + 8, old.b);
    put_le64(p + 16, unit);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    return (o->versions_head++ & (o->versions_max - 1)) + 1;
}

/* Any one of those, of any kind. */
static bool version_before(const struct oracle *o, uint64_t unit, struct oracle_record r,
                           struct oracle_record *ret)
{
    uint64_t link = r.b & 0xffffff;

    if (link == 0 || link > o->versions_max) {
        return false;
    }
    const uint8_t *p = version(o, link - 1);
    uint64_t about = get_le64(p + 16);
    struct oracle_record old = load(p);
    if ((about != unit && about != (round_down(unit, ORACLE_CHUNK_UNITS) | ALIKE)) ||
        oracle_seq(old) > oracle_seq(r)) {
        return false; /* something newer stands there */
    }
    *ret = old;
    return true;
}

bool oracle_before(const struct oracle *o, uint64_t unit, struct oracle_record r, struct oracle_record *ret)
{
    for (unsigned i = 0; i < CHAIN_MAX && version_before(o, unit, r, &r); i++) {
        if (oracle_kind(r) != ORACLE_OTHER) {
            *ret = r;
            return true;
        }
    }
    return false;
}

bool oracle_durable(const struct oracle *o, struct oracle_record r)
{
    return !(r.a & ORACLE_MAYBE) && ((r.a & ORACLE_FUA) || oracle_seq(r) < o->flushed_seq);
}

/* ---- changes ---- */

/* The number of what is done now. */
static uint64_t seq_now(const struct oracle *o, uint64_t opno)
{
    return MIN(MAX(o->base + opno, o->flush_newest), ORACLE_SEQ_MAX);
}

static void saw_seq(struct oracle *o, uint64_t seq)
{
    if (seq > o->last_seq) {
        o->last_seq = seq;
    }
}

/* What nothing is known of is not worth a version for each unit: where it is overwritten one tells how many.
 */
static void push_fresh(struct oracle *o, uint64_t about, uint64_t *count)
{
    if (*count > 0) {
        push(o, about, (struct oracle_record){0, *count});
    }
    *count = 0;
}

static void set_record(struct oracle *o, uint8_t *p, uint64_t about, struct oracle_record old, uint64_t a,
                       uint64_t seq)
{
    bool keep = (a & ORACLE_KIND) != ORACLE_ANY && oracle_kind(old) != ORACLE_UNKNOWN;
    uint64_t link = keep ? push(o, about, old) : 0;

    if (oracle_kind(old) == ORACLE_ANY || ((old.a & ORACLE_MAYBE) && (old.a & ORACLE_OVER))) {
        a |= ORACLE_OVER;
    }
    o->indeterminate -= is_maybe(old);
    store(p, (struct oracle_record){a, seq << 24 | link});
}

/* The part of a change that lies in one chunk. False: it cannot be recorded. */
static bool change_chunk(struct oracle *o, const struct oracle_change *c, uint64_t first, uint64_t end,
                         enum oracle_flags kind, struct sectors *data)
{
    uint64_t chunk = first / ORACLE_CHUNK_UNITS,
             a = o->zero_hash << ORACLE_FLAG_BITS | (unsigned)kind | ORACLE_PENDING;
    bool whole = end - first == ORACLE_CHUNK_UNITS && !data;

    if (whole && kind == ORACLE_ANY && paged(o, chunk)) {
        store(directory(o, chunk), (struct oracle_record){a, c->seq << 24});
        drop_page(o, chunk);
        return true;
    }
    if (whole && !paged(o, chunk)) {
        uint8_t *p = directory(o, chunk);
        if (!oracle_room(o, (uint64_t)(p - o->map), ORACLE_RECORD_BYTES)) {
            return false;
        }
        uint64_t fresh = oracle_kind(load(p)) == ORACLE_UNKNOWN;
        push_fresh(o, first | ALIKE, &fresh);
        set_record(o, p, first | ALIKE, load(p), a, c->seq);
        return true;
    }
    if (!make_page(o, chunk)) {
        return false;
    }
    uint8_t *p = o->map + page_at(o, chunk) + first % ORACLE_CHUNK_UNITS * ORACLE_RECORD_BYTES;
    uint64_t fresh = 0;
    for (uint64_t u = first; u < end; u++, p += ORACLE_RECORD_BYTES) {
        if (data) {
            a = (sectors_next_hash(data) & ~ORACLE_FLAGS) | (unsigned)kind | ORACLE_PENDING;
        }
        struct oracle_record old = load(p);
        if (oracle_kind(old) == ORACLE_UNKNOWN) {
            fresh++;
        } else {
            push_fresh(o, u - fresh, &fresh);
        }
        set_record(o, p, u, old, a, c->seq);
    }
    push_fresh(o, end - fresh, &fresh);
    return true;
}

/* What stands there is wrong from now on, and there is no space for what is right. */
static void forget_chunk(struct oracle *o, uint64_t first, uint64_t end, struct sectors *data)
{
    uint64_t chunk = first / ORACLE_CHUNK_UNITS;

    bool had_page = paged(o, chunk);

    if (get_le64(directory(o, chunk)) != 0) {
        o->indeterminate -= is_maybe(load(directory(o, chunk)));
        store(directory(o, chunk), (struct oracle_record){0});
    }
    if (had_page) {
        drop_page(o, chunk);
    }
    for (uint64_t u = first; data && u < end; u++) {
        sectors_next_hash(data);
    }
}

void oracle_begin(struct oracle *o, struct oracle_change *c, enum oracle_flags kind, const struct req *r,
                  const struct iovec *iov, int niov)
{
    struct sectors data = {iov, niov, 0, o->unit};

    c->first = r->offset / o->unit;
    c->end = div_up(r->offset + r->bytes, o->unit);
    c->seq = seq_now(o, r->opno);
    saw_seq(o, c->seq);
    for (uint64_t u = c->first, next; u < c->end; u = next) {
        next = MIN(c->end, round_down(u, ORACLE_CHUNK_UNITS) + ORACLE_CHUNK_UNITS);
        if (UNLIKELY(!change_chunk(o, c, u, next, kind, iov ? &data : NULL))) {
            forget_chunk(o, u, next, iov ? &data : NULL);
        }
    }
    oracle_put_live(o);
}

void oracle_done(struct oracle *o, const struct oracle_change *c, bool ok, bool durable, bool lost)
{
    uint64_t seq = MAX(c->seq, o->flush_newest);
    uint64_t add = (ok ? 0u : (unsigned)ORACLE_FAILED) | (lost ? (unsigned)ORACLE_LOST : 0u) |
                   (ok && durable ? (unsigned)ORACLE_FUA : 0u) | (seq > c->seq ? (unsigned)ORACLE_LATE : 0u);

    for (uint64_t u = c->first, next; u < c->end; u = next) {
        uint8_t *p = place(o, u);
        next =
            paged(o, u / ORACLE_CHUNK_UNITS) ? u + 1 : round_down(u, ORACLE_CHUNK_UNITS) + ORACLE_CHUNK_UNITS;
        struct oracle_record r = load(p);
        if (UNLIKELY(!(r.a & ORACLE_PENDING))) {
            continue; /* it could not be recorded */
        }
        r.a = (r.a & ~(uint64_t)ORACLE_PENDING) | add;
        r.b = seq << 24 | (r.b & 0xffffff);
        o->indeterminate += is_maybe(r);
        store(p, r);
    }
}

uint64_t oracle_flush_begin(struct oracle *o, uint64_t opno, uint64_t *ret_mark)
{
    const struct change *oldest = list_first(o->changes, struct change, link);

    *ret_mark = oldest ? oldest->mark : o->versions_head;
    o->flush_newest = seq_now(o, opno);
    saw_seq(o, o->flush_newest);
    oracle_put_live(o);
    return o->flush_newest;
}

void oracle_flushed(struct oracle *o, uint64_t seq, uint64_t mark)
{
    o->flushed_seq = MAX(o->flushed_seq, seq);
    o->versions_mark = MAX(o->versions_mark, mark);
    oracle_put_live(o);
}

/* ---- losses ---- */

/* @p: a record, or a version. */
static void lose(struct oracle *o, uint8_t *p, bool is_record, bool reopen)
{
    struct oracle_record r = load(p), was = r;

    if (oracle_kind(r) != ORACLE_DATA) {
        if (reopen && oracle_kind(r) == ORACLE_ANY && (r.a & ORACLE_PENDING)) {
            put_le64(p, r.a & ~(uint64_t)ORACLE_PENDING);
        }
        return;
    }
    if (r.a & ORACLE_PENDING) {
        if (!reopen) {
            return; /* who makes it will hear of the loss */
        }
        r.a = (r.a & ~(uint64_t)ORACLE_PENDING) | ORACLE_FAILED;
    } else if (!oracle_durable(o, r)) {
        r.a |= ORACLE_LOST;
    }
    if (r.a != was.a) {
        put_le64(p, r.a);
    }
    o->indeterminate += is_record && is_maybe(r) && (reopen || !is_maybe(was));
}

static void lose_chunk(struct oracle *o, uint64_t chunk, bool reopen)
{
    uint8_t *page = o->map + page_at(o, chunk);

    if (!paged(o, chunk)) {
        lose(o, directory(o, chunk), true, reopen);
        return;
    }
    for (uint64_t i = 0; i < ORACLE_CHUNK_UNITS; i++) {
        lose(o, page + i * ORACLE_RECORD_BYTES, true, reopen);
    }
}

static void lose_everywhere(struct oracle *o, bool reopen)
{
    for (uint64_t chunk = 0; chunk < o->chunks; chunk++) {
        lose_chunk(o, chunk, reopen);
    }
    for (uint64_t i = 0; i < MIN(o->versions_head, o->versions_max); i++) {
        lose(o, version(o, i), false, reopen);
    }
}

void oracle_lose(struct oracle *o)
{
    if (o->gaps || o->versions_head - o->versions_mark > o->versions_max) {
        lose_everywhere(o, false);
        return;
    }
    for (uint64_t i = o->versions_mark; i < o->versions_head; i++) {
        uint8_t *p = version(o, i);
        uint64_t unit = get_le64(p + 16) & ~ALIKE;
        bool alike = get_le64(p + 16) & ALIKE;
        uint64_t count = oracle_kind(load(p)) == ORACLE_UNKNOWN ? get_le64(p + 8) : 1;
        lose(o, p, false, false);
        if (unit / ORACLE_CHUNK_UNITS >= o->chunks) {
            continue; /* somebody has written to the file */
        }
        if (alike) {
            lose_chunk(o, unit / ORACLE_CHUNK_UNITS, false);
        }
        for (uint64_t u = unit;
             !alike && u < unit + count && u / ORACLE_CHUNK_UNITS == unit / ORACLE_CHUNK_UNITS; u++) {
            lose(o, place(o, u), true, false);
        }
    }
}

void oracle_reopen(struct oracle *o)
{
    lose_everywhere(o, true);
    o->versions_mark = o->versions_head;
}

/* ---- judging ---- */

enum verdict oracle_judge(const struct oracle *o, uint64_t unit, uint64_t hash)
{
    struct oracle_record r = oracle_get(o, unit);

    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        if (oracle_kind(r) == ORACLE_UNKNOWN) {
            return VERDICT_UNKNOWN;
        }
        if (oracle_kind(r) == ORACLE_ANY) {
            return VERDICT_ANY;
        }
        if (oracle_hash(r) == hash) {
            return VERDICT_YES;
        }
        if (!(r.a & ORACLE_MAYBE)) {
            return VERDICT_NO;
        }
        if (!oracle_before(o, unit, r, &r)) {
            break;
        }
    }
    return r.a & ORACLE_OVER ? VERDICT_ANY : VERDICT_UNKNOWN;
}

void oracle_pin(struct oracle *o, uint64_t unit, uint64_t hash, uint64_t opno)
{
    uint64_t seq = seq_now(o, opno);

    if (!make_page(o, unit / ORACLE_CHUNK_UNITS)) {
        return;
    }
    uint8_t *p = place(o, unit);
    struct oracle_record old = oracle_get(o, unit);
    bool first =
        oracle_kind(old) == ORACLE_UNKNOWN && !o->blind; /* nobody has written it: no loss can take it */
    saw_seq(o, seq);
    if (first) {
        store(p, (struct oracle_record){hash << ORACLE_FLAG_BITS | ORACLE_DATA | ORACLE_SHOWN | ORACLE_FUA,
                                        seq << 24});
    } else {
        set_record(o, p, unit, old, hash << ORACLE_FLAG_BITS | ORACLE_DATA | ORACLE_SHOWN, seq);
    }
    oracle_put_live(o);
}

void oracle_damage(struct oracle *o, uint64_t unit, uint64_t hash)
{
    struct oracle_record r = oracle_get(o, unit), top;
    uint64_t seq = oracle_seq(r); /* that of the record: the chain goes on */

    if ((version_before(o, unit, r, &top) && oracle_kind(top) == ORACLE_OTHER && oracle_hash(top) == hash) ||
        oracle_kind(r) == ORACLE_UNKNOWN || !make_page(o, unit / ORACLE_CHUNK_UNITS)) {
        return;
    }
    uint64_t link =
        push(o, unit,
             (struct oracle_record){hash << ORACLE_FLAG_BITS | ORACLE_OTHER, seq << 24 | (r.b & 0xffffff)});
    if (link) {
        store(place(o, unit), (struct oracle_record){r.a, seq << 24 | link});
    }
    oracle_put_live(o);
}

bool oracle_damaged_before(const struct oracle *o, uint64_t unit, uint64_t hash, uint64_t *ret_seq)
{
    struct oracle_record r = oracle_get(o, unit);

    for (unsigned i = 0; i < CHAIN_MAX && version_before(o, unit, r, &r); i++) {
        if (oracle_kind(r) != ORACLE_OTHER) {
            return false;
        }
        if (oracle_hash(r) == hash && oracle_seq(r) <= o->base) {
            *ret_seq = oracle_seq(r);
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

uint64_t oracle_unknown_run(const struct oracle *o, uint64_t unit, uint64_t max)
{
    uint64_t n = 0;

    while (n < max && oracle_kind(oracle_get(o, unit + n)) == ORACLE_UNKNOWN) {
        uint64_t left = ORACLE_CHUNK_UNITS - (unit + n) % ORACLE_CHUNK_UNITS;
        n += paged(o, (unit + n) / ORACLE_CHUNK_UNITS) ? 1 : MIN(left, max - n);
    }
    return n;
}

void oracle_prefetch(const struct oracle *o, uint64_t offset)
{
    const uint8_t *p = place(o, offset / o->unit);

    __builtin_prefetch(p);
    __builtin_prefetch(p + 64); /* four records a line: a request of 4 KiB has eight */
}

bool oracle_reads_right(const struct oracle *o, const struct req *r)
{
    struct sectors data = {r->iov, r->niov, 0, o->unit};
    uint64_t end = div_up(r->offset + r->bytes, o->unit);

    for (uint64_t u = r->offset / o->unit, stop; u < end; u = stop) {
        const uint8_t *p = place(o, u);
        size_t step = paged(o, u / ORACLE_CHUNK_UNITS) ? ORACLE_RECORD_BYTES : 0;
        stop = MIN(end, round_down(u, ORACLE_CHUNK_UNITS) + ORACLE_CHUNK_UNITS);
        for (uint64_t i = u; i < stop; i++, p += step) {
            uint64_t a = get_le64(p);
            if ((a & (ORACLE_KIND | ORACLE_MAYBE)) != ORACLE_DATA ||
                (sectors_next_hash(&data) ^ a) >> ORACLE_FLAG_BITS != 0) {
                return false;
            }
        }
    }
    return true;
}
