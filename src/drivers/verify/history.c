/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The history of writes: a ring of operations and a ring of sector hashes, both allocated at open
 * and never grown. It answers two questions: what may this sector legally show (history_judge), and
 * where have these bytes been seen before (diagnose.c). It never answers from what it has forgotten:
 * then the answer is "unknown", and the caller is lenient.
 */
#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* XXH3_64bits for the processor that it runs on */
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#include "base/iov.h"
#include "drivers/verify/internal.h"

/* The short last sector of a device counts as if zeroes followed it. */
uint64_t sector_hash(const void *data, size_t bytes, uint32_t unit)
{
    if (UNLIKELY(bytes < unit)) {
        uint8_t padded[4096] = {0};
        memcpy(padded, data, bytes);
        return XXH3_64bits(padded, unit);
    }
    return XXH3_64bits(data, unit);
}

uint64_t history_hash_sector(const void *data, size_t bytes)
{
    return sector_hash(data, bytes, SECTOR_SIZE);
}

/* A sector in several elements, or the short last one. */
static uint64_t gather_hash(struct sectors *s)
{
    uint8_t sector[4096];
    size_t left = iov_size(s->iov, s->niov) - s->skip, n = MIN(left, (size_t)s->unit);

    iov_to_buf(s->iov, s->niov, s->skip, sector, n);
    s->skip += n;
    return sector_hash(sector, n, s->unit);
}

uint64_t sectors_next_hash(struct sectors *s)
{
    while (s->niov > 1 && s->skip >= s->iov->iov_len) {
        s->skip -= s->iov->iov_len;
        s->iov++;
        s->niov--;
    }
    if (UNLIKELY(s->iov->iov_len - s->skip < s->unit)) {
        return gather_hash(s);
    }
    const uint8_t *at = (const uint8_t *)s->iov->iov_base + s->skip;
    s->skip += s->unit;
    return XXH3_64bits(at, s->unit);
}

int history_prepare(struct history *h, uint64_t ops_max, uint64_t hashes_max, uint64_t size)
{
    static const uint8_t zeroes[SECTOR_SIZE];

    assert(is_pow2(ops_max));
    assert(is_pow2(hashes_max));
    /* calloc of this size is mmap: pages cost nothing before they are used */
    h->ops = calloc(ops_max, sizeof(*h->ops));
    h->hashes = calloc(hashes_max, sizeof(*h->hashes));
    h->granules = calloc(HISTORY_GRANULES, sizeof(*h->granules));
    h->ops_max = ops_max;
    h->hashes_max = hashes_max;
    /* at least 1 MiB; a device that grows makes the last granule cover the rest */
    h->granule_bytes = MAX(round_up(size / HISTORY_GRANULES + 1, SECTOR_SIZE), MiB);
    h->zero_hash = history_hash_sector(zeroes, sizeof(zeroes));
    return h->ops && h->hashes && h->granules ? 0 : -ENOMEM;
}

void history_finish(struct history *h)
{
    free(h->ops);
    free(h->hashes);
    free(h->granules);
    *h = (struct history){0};
}

uint64_t history_first(const struct history *h)
{
    return h->ops_head > h->ops_max ? h->ops_head - h->ops_max : 0;
}

static struct past *entry(const struct history *h, uint64_t id)
{
    return id < h->ops_head && id >= history_first(h) ? &h->ops[id & (h->ops_max - 1)] : NULL;
}

const struct past *history_entry(const struct history *h, uint64_t id)
{
    return entry(h, id);
}

/* Remember, coarsely, that something in this range completed at @seq and was not flushed then. */
static void mark_granules(struct history *h, uint64_t offset, uint64_t bytes, uint64_t seq)
{
    uint64_t last = MIN((offset + bytes - 1) / h->granule_bytes, (uint64_t)HISTORY_GRANULES - 1);

    for (uint64_t g = MIN(offset / h->granule_bytes, last); g <= last; g++) {
        h->granules[g] = MAX(h->granules[g], seq);
    }
}

/* The oldest operation makes room. If the device could still lose it, its place must not be
 * forgotten: a bounded map of granules keeps that. A pending one is marked when it completes. */
static void history_evict(struct history *h)
{
    const struct past *p = &h->ops[h->ops_head & (h->ops_max - 1)];

    if (h->ops_head >= h->ops_max && p->state != PAST_PENDING && !p->durable &&
        p->done_seq > h->flushed_seq) {
        mark_granules(h, p->offset, p->bytes, p->done_seq);
    }
}

static bool has_hashes(enum past_kind kind)
{
    return kind == PAST_WRITE || kind == PAST_PIN;
}

uint64_t history_begin(struct history *h, enum past_kind kind, uint64_t opno, uint64_t offset, uint64_t bytes)
{
    uint64_t sectors = div_up(bytes, SECTOR_SIZE);
    uint64_t hash_at = PAST_NO_HASH;

    assert(bytes > 0);
    history_evict(h);
    if (has_hashes(kind) && sectors <= h->hashes_max) {
        hash_at = h->hashes_head;
        h->hashes_head += sectors;
    }
    h->ops[h->ops_head & (h->ops_max - 1)] =
        (struct past){.opno = opno, .offset = offset, .bytes = bytes, .hash_at = hash_at, .kind = kind};
    return h->ops_head++;
}

static bool hashes_alive(const struct history *h, const struct past *p)
{
    return p->hash_at != PAST_NO_HASH && h->hashes_head - p->hash_at <= h->hashes_max;
}

void history_hash(struct history *h, uint64_t id, const struct iovec *iov, int niov)
{
    const struct past *p = entry(h, id);
    struct sectors data = {iov, niov, 0, SECTOR_SIZE};

    if (!p || !hashes_alive(h, p)) {
        return;
    }
    for (uint64_t at = p->hash_at, end = at + div_up(p->bytes, SECTOR_SIZE); at < end; at++) {
        h->hashes[at & (h->hashes_max - 1)] = sectors_next_hash(&data);
    }
}

void history_done(struct history *h, uint64_t id, bool ok, bool durable, bool maybe_lost, uint64_t offset,
                  uint64_t bytes)
{
    struct past *p = entry(h, id);
    uint64_t seq = ++h->done_seq;

    if (!p) {
        if (!ok || !durable) {
            mark_granules(h, offset, bytes, seq);
        }
        return;
    }
    assert(p->state == PAST_PENDING);
    p->state = ok ? PAST_DONE : PAST_FAILED;
    p->done_seq = seq;
    p->durable = ok && durable;
    p->maybe_lost = maybe_lost;
}

bool history_hash_of(const struct history *h, const struct past *p, uint64_t sector, uint64_t *ret_hash)
{
    assert(sector >= p->offset / SECTOR_SIZE);
    if (p->kind == PAST_ZERO) {
        *ret_hash = h->zero_hash;
        return true;
    }
    if (!has_hashes(p->kind) || !hashes_alive(h, p)) {
        return false;
    }
    *ret_hash = h->hashes[(p->hash_at + sector - p->offset / SECTOR_SIZE) & (h->hashes_max - 1)];
    return true;
}

/* What one operation, the newest not yet looked at, says about one sector. */
static enum verdict judge(const struct history *h, const struct past *p, uint64_t sector, uint64_t shown)
{
    uint64_t hash;

    if (!history_hash_of(h, p, sector, &hash)) {
        return VERDICT_UNKNOWN;
    }
    if (hash == shown) {
        return VERDICT_YES;
    }
    /* it may not have happened: an older one decides */
    return p->state != PAST_DONE || p->maybe_lost ? VERDICT_OPEN : VERDICT_NO;
}

void history_judge(const struct history *h, uint64_t first, uint64_t n, const uint64_t *shown,
                   enum verdict *ret_verdict)
{
    uint64_t open = n;

    for (uint64_t i = 0; i < n; i++) {
        ret_verdict[i] = VERDICT_OPEN;
    }
    for (uint64_t id = h->ops_head; id > history_first(h) && open > 0; id--) {
        const struct past *p = entry(h, id - 1);
        uint64_t from = p->offset / SECTOR_SIZE, to = div_up(p->offset + p->bytes, SECTOR_SIZE);
        for (uint64_t s = MAX(from, first); s < MIN(to, first + n); s++) {
            if (ret_verdict[s - first] == VERDICT_OPEN) {
                ret_verdict[s - first] = judge(h, p, s, shown[s - first]);
                open -= ret_verdict[s - first] != VERDICT_OPEN;
            }
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        if (ret_verdict[i] == VERDICT_OPEN) {
            ret_verdict[i] = VERDICT_UNKNOWN;
        }
    }
}

static void lose_granules(const struct history *h, uint64_t size,
                          void (*add)(void *opaque, uint64_t offset, uint64_t bytes, bool coarse),
                          void *opaque)
{
    for (uint64_t g = 0; g < HISTORY_GRANULES && g * h->granule_bytes < size; g++) {
        if (h->granules[g] > h->flushed_seq) {
            uint64_t start = g * h->granule_bytes;
            bool last = g == HISTORY_GRANULES - 1;
            add(opaque, start, last ? size - start : MIN(h->granule_bytes, size - start), true);
        }
    }
}

void history_lose_unflushed(struct history *h, uint64_t size,
                            void (*add)(void *opaque, uint64_t offset, uint64_t bytes, bool coarse),
                            void *opaque)
{
    lose_granules(h, size, add, opaque);
    for (uint64_t id = history_first(h); id < h->ops_head; id++) {
        struct past *p = entry(h, id);
        if (p->state != PAST_PENDING && !p->durable && p->done_seq > h->flushed_seq) {
            p->maybe_lost = true;
            add(opaque, p->offset, p->bytes, false);
        }
    }
}
