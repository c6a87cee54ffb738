/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stale reads: older generations of sectors. While a rule wants them, what a write replaces is read first and
 * kept, the newest FAULT_OLD_MAX sectors of it; a read is shown the one that the rule names.
 */
#include "base/iov.h"
#include "drivers/fault/actions.h"

#define FAULT_OLD_MAX 32768u /* sectors: 16 MiB of data */
#define BUCKETS       8192u
#define STEPS_MAX     1024u /* a sector that is written all the time must not make others slow to find */

struct fault_old { /* a ring; numbers count from 1 */
    uint64_t sector, number;
    uint64_t before; /* number of the one before in the same bucket */
    uint8_t data[SECTOR_SIZE];
};

struct fault_generations {
    struct fault_old *ring;
    uint64_t last; /* number */
    uint64_t newest[BUCKETS];
};

static uint64_t *bucket(struct fault_generations *g, uint64_t sector)
{
    uint64_t x = sector;

    return &g->newest[splitmix64(&x) % BUCKETS];
}

static struct fault_old *old(const struct fault_generations *g, uint64_t number)
{
    struct fault_old *o = number ? &g->ring[number % FAULT_OLD_MAX] : NULL;

    return o && o->number == number ? o : NULL; /* else it has been overwritten, and so have those before */
}

/* What the sector was @age writes ago. */
static const struct fault_old *find(const struct fault_engine *e, uint64_t sector, uint64_t age)
{
    struct fault_generations *g = e->generations;
    const struct fault_old *o = g ? old(g, *bucket(g, sector)) : NULL;

    for (unsigned i = 0; o && i < STEPS_MAX; i++, o = old(g, o->before)) {
        if (o->sector == sector && --age == 0) {
            return o;
        }
    }
    return NULL;
}

static void keep(struct fault_generations *g, uint64_t sector, const uint8_t *data, uint64_t bytes)
{
    uint64_t *newest = bucket(g, sector), number = ++g->last;
    struct fault_old *o = &g->ring[number % FAULT_OLD_MAX];

    *o = (struct fault_old){.sector = sector, .number = number, .before = *newest};
    memcpy(o->data, data, bytes);
    *newest = number;
}

/* ---- rules that want them ---- */

static bool is_stale_rule(const struct fault_rule *rule)
{
    return fault_actions[rule->action].perform == fault_stale_perform;
}

void fault_generations_look(struct fault_engine *e)
{
    bool wanted = false;

    for (unsigned i = 0; i < e->list.nrules; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        wanted |= is_stale_rule(rule) && rule->enabled && !rule->exhausted;
    }
    if (!wanted) {
        fault_generations_finish(e);
    } else if (!e->generations) { /* without memory for it nothing is stale */
        struct fault_generations *g = calloc(1, sizeof(*g));
        struct fault_old *ring = calloc(FAULT_OLD_MAX, sizeof(*ring));
        if (!g || !ring) {
            free(g);
            free(ring);
            return;
        }
        g->ring = ring;
        e->generations = g;
    }
}

void fault_generations_finish(struct fault_engine *e)
{
    if (e->generations) {
        free(e->generations->ring);
        free(e->generations);
        e->generations = NULL;
    }
}

static bool wants(const struct fault_engine *e, const struct req *r)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        if (!is_stale_rule(rule) || !rule->enabled) {
            continue;
        }
        unsigned at = fault_range_at(rule, r->offset);
        if (rule->nranges == 0 || (at < rule->nranges && rule->ranges[at].start < r->offset + r->bytes)) {
            return true;
        }
    }
    return false;
}

/* ---- writes ---- */

static bool is_as_before(const struct req *r, uint64_t at, const uint8_t *before, uint64_t bytes)
{
    uint8_t now[SECTOR_SIZE] = {0};

    if (at < r->offset || at + bytes > r->offset + r->bytes || r->op != REQ_WRITE) {
        return false;
    }
    iov_to_buf(r->iov, r->niov, at - r->offset, now, bytes);
    return memcmp(now, before, bytes) == 0;
}

int fault_generations_write(struct fault_engine *e, struct req *r)
{
    uint64_t start = round_down(r->offset, SECTOR_SIZE);
    uint64_t end = MIN(round_up(r->offset + r->bytes, SECTOR_SIZE), node_size(e->node));
    uint64_t bytes = MIN(end - start, FAULT_OLD_MAX * SECTOR_SIZE);
    uint8_t *before = end > start && wants(e, r) ? buf_get(bytes) : NULL;
    struct iovec iov = {before, bytes};
    struct req rd = {
        .op = REQ_READ, .opno = r->opno, .offset = start, .bytes = bytes, .iov = &iov, .niov = 1};
    bool known = before && fault_below(e, &rd) == 0;
    int ret = fault_below(e, r);

    for (uint64_t at = 0; known && ret == 0 && e->generations && at < bytes; at += SECTOR_SIZE) {
        uint64_t n = MIN(SECTOR_SIZE, bytes - at);
        if (!is_as_before(r, start + at, before + at, n)) {
            keep(e->generations, (start + at) / SECTOR_SIZE, before + at, n);
        }
    }
    buf_put(before, bytes);
    return ret;
}

/* ---- reads ---- */

FAULT_CHECK(fault_stale_check)
{
    rule->how.age = rule->how.age ? rule->how.age : 1;
    fault_sort_ranges(rule); /* for wants */
    return 0;
}

FAULT_CONCERNS(fault_stale_concerns)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);

    for (uint64_t s = r->offset / SECTOR_SIZE; s < end; s++) {
        if (find(e, s, rule->how.age)) {
            return true;
        }
    }
    return false;
}

FAULT_PERFORM(fault_stale_perform)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);
    int ret = fault_pass(e, r);

    for (uint64_t s = r->offset / SECTOR_SIZE; ret == 0 && s < end; s++) {
        const struct fault_old *o = find(e, s, rule->how.age);
        uint64_t from = MAX(s * SECTOR_SIZE, r->offset);
        uint64_t to = MIN((s + 1) * SECTOR_SIZE, r->offset + r->bytes);
        if (o) {
            iov_from_buf(r->iov, r->niov, from - r->offset, o->data + (from - s * SECTOR_SIZE), to - from);
            fault_damage_wire(e, rule, r, from, to - from, "stale read");
        }
    }
    return ret;
}
