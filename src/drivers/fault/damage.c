/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What rules did, kept so that it can be recognised: for each damaged sector a hash of what it shows now,
 * until it is overwritten by a good write; and for recent requests what they were given that does not lie on
 * the media, or the result that they got. A verifier that sees something wrong asks explain, which answers
 * only for exactly these contents. All of it is bounded; what there is no room for is counted and nobody
 * explains it.
 */
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/iov.h"
#include "drivers/fault/internal.h"

#define LOOK_BYTES  (256 * KiB) /* the damaged range is read in pieces of this */
#define MEDIA_FIRST 1024u       /* places of the first table */
#define RESULT      UINT64_MAX  /* the "sector" of a result */
#define PAST        UINT64_MAX  /* the "operation" of what a sector showed before */

struct fault_culprit {
    unsigned refs;
    char id[FAULT_NAME_MAX + 1];
};

static uint64_t hash_sector(const void *data, uint64_t bytes)
{
    if (UNLIKELY(bytes < SECTOR_SIZE)) { /* the short last one of a device, as if zeroes followed */
        uint8_t padded[SECTOR_SIZE] = {0};
        memcpy(padded, data, bytes);
        return XXH3_64bits(padded, sizeof(padded));
    }
    return XXH3_64bits(data, SECTOR_SIZE);
}

/* ---- who it was: outlives the rule ---- */

void fault_culprit_unref(struct fault_culprit *who)
{
    if (who && --who->refs == 0) {
        free(who);
    }
}

static struct fault_culprit *culprit_of(struct fault_rule *rule)
{
    if (!rule->culprit) {
        rule->culprit = calloc(1, sizeof(*rule->culprit));
        if (rule->culprit) {
            rule->culprit->refs = 1;
            memcpy(rule->culprit->id, rule->id, strlen(rule->id) + 1); /* at most FAULT_NAME_MAX: rule.c */
        }
    }
    return rule->culprit;
}

void fault_damage_untold(struct fault_engine *e, const char *why)
{
    struct graph *g = e->node->graph;
    char text[ERR_TEXT_MAX];

    if (e->damage.forgotten++ == 0 && g->notice) {
        snprintf(text, sizeof(text),
                 "node '%s': %s: a verifier will take for corruption what faults do from now on",
                 node_name(e->node), why);
        g->notice(g, NOTICE_WARNING, text);
    }
}

static void no_room(struct fault_engine *e)
{
    char why[96];

    snprintf(why, sizeof(why), "no room to remember more than %u damaged sectors (option damage)",
             e->damage.nmedia);
    fault_damage_untold(e, why);
}

/* ---- recent requests: the newest of each set stay ---- */

static struct fault_trace *wire_set(const struct fault_damage *d, uint64_t sector, uint64_t opno)
{
    uint64_t x = sector ^ opno << 32 ^ opno >> 32;

    return &d->wire[splitmix64(&x) % FAULT_WIRE_SETS * FAULT_WIRE_WAYS];
}

static void add_recent(struct fault_engine *e, uint64_t key, const struct fault_trace *t)
{
    struct fault_damage *d = &e->damage;

    if (!d->wire) { /* of this size it is mmap: pages cost nothing before they are used */
        d->wire = calloc((size_t)FAULT_WIRE_SETS * FAULT_WIRE_WAYS, sizeof(*d->wire));
    }
    if (!t->who || !d->wire) {
        no_room(e);
        return;
    }
    struct fault_trace *set = wire_set(d, t->sector, key);
    fault_culprit_unref(set[FAULT_WIRE_WAYS - 1].who);
    memmove(&set[1], &set[0], (FAULT_WIRE_WAYS - 1) * sizeof(*set));
    set[0] = *t;
    set[0].who->refs++;
}

static void remember_wire(struct fault_engine *e, struct fault_rule *rule, const struct fault_trace *t)
{
    struct fault_trace recent = *t;

    recent.who = culprit_of(rule);
    add_recent(e, t->opno, &recent);
}

/* A damaged sector is about to show something else; a read that is on its way may have seen what it showed.
 */
static void remember_past(struct fault_engine *e, const struct fault_trace *t)
{
    struct fault_trace past = *t;

    past.until = e->damage.last_opno;
    add_recent(e, PAST, &past);
}

/* ---- the table of sectors: open addressing; what follows moves up when one goes ---- */

static uint32_t home(const struct fault_damage *d, uint64_t sector)
{
    uint64_t x = sector;

    return (uint32_t)splitmix64(&x) & (d->media_max - 1);
}

/* Its place, or the free one where it would be. */
static uint32_t place(const struct fault_damage *d, uint64_t sector)
{
    uint32_t at = home(d, sector);

    while (d->media[at].who && d->media[at].sector != sector) {
        at = (at + 1) & (d->media_max - 1);
    }
    return at;
}

static bool grow(struct fault_damage *d)
{
    uint32_t max = d->media_max ? 2 * d->media_max : MEDIA_FIRST;
    struct fault_trace *bigger = calloc(max, sizeof(*bigger)), *old = d->media;
    uint32_t old_max = d->media_max;

    if (!bigger) {
        return false;
    }
    d->media = bigger;
    d->media_max = max;
    for (uint32_t i = 0; i < old_max; i++) {
        if (old[i].who) {
            d->media[place(d, old[i].sector)] = old[i];
        }
    }
    free(old);
    return true;
}

static void take_out(struct fault_damage *d, uint32_t at)
{
    uint32_t mask = d->media_max - 1;

    fault_culprit_unref(d->media[at].who);
    for (uint32_t next = (at + 1) & mask; d->media[next].who; next = (next + 1) & mask) {
        uint32_t want = home(d, d->media[next].sector);
        if (((next - want) & mask) >= ((next - at) & mask)) { /* its home is at or before the gap */
            d->media[at] = d->media[next];
            at = next;
        }
    }
    d->media[at].who = NULL;
    d->nmedia--;
}

/* What has been remembered up to @seq. */
static void forget(struct fault_engine *e, uint64_t sector, uint64_t seq)
{
    struct fault_damage *d = &e->damage;
    uint32_t at = d->nmedia ? place(d, sector) : 0;

    if (d->nmedia && d->media[at].who && d->media[at].seq <= seq) {
        remember_past(e, &d->media[at]);
        take_out(d, at);
    }
}

static void remember(struct fault_engine *e, struct fault_rule *rule, const struct fault_trace *t)
{
    struct fault_damage *d = &e->damage;
    struct fault_culprit *who = culprit_of(rule);
    uint32_t at = d->nmedia ? place(d, t->sector) : 0;
    bool known = d->nmedia && d->media[at].who;

    if (known && d->media[at].seq > t->seq) {
        return; /* somebody has looked since */
    }
    if (!who || (!known && d->nmedia >= e->damage_limit) ||
        (!known && 2 * d->nmedia >= d->media_max && !grow(d))) {
        forget(e, t->sector, UINT64_MAX); /* what it says is not true any more */
        no_room(e);
        return;
    }
    at = place(d, t->sector);
    if (known) {
        if (d->media[at].hash != t->hash) {
            remember_past(e, &d->media[at]);
        }
        fault_culprit_unref(d->media[at].who);
    }
    d->nmedia += !known;
    d->media[at] = *t;
    d->media[at].who = who;
    who->refs++;
}

void fault_damage_result(struct fault_engine *e, struct fault_rule *rule, const struct req *r, int result)
{
    remember_wire(e, rule,
                  &(struct fault_trace){.sector = RESULT,
                                        .hash = (uint64_t)(int64_t)result,
                                        .opno = r->opno,
                                        .what = fault_actions[rule->action].name});
}

void fault_damage_wire(struct fault_engine *e, struct fault_rule *rule, const struct req *r, uint64_t offset,
                       uint64_t bytes, const char *what)
{
    uint64_t read_end = r->offset + r->bytes, end = MIN(round_up(offset + bytes, SECTOR_SIZE), read_end);
    uint64_t at = MAX(round_down(offset, SECTOR_SIZE), round_up(r->offset, SECTOR_SIZE));
    uint8_t data[SECTOR_SIZE];

    for (; at < end && (at + SECTOR_SIZE <= end || end == node_size(e->node)); at += SECTOR_SIZE) {
        uint64_t n = MIN(SECTOR_SIZE, end - at);
        iov_to_buf(r->iov, r->niov, at - r->offset, data, n);
        remember_wire(
            e, rule,
            &(struct fault_trace){
                .sector = at / SECTOR_SIZE, .hash = hash_sector(data, n), .opno = r->opno, .what = what});
    }
}

/* ---- looking at the media ---- */

struct look {
    struct fault_rule *rule; /* NULL: only what was damaged before is looked at */
    uint64_t opno, seq, offset, end;
    const struct req *good; /* a write or zero: what should be there; NULL: nothing is as it should be */
    const char *what;
};

static bool as_it_should_be(const struct look *l, uint64_t at, const uint8_t *shown, uint64_t bytes)
{
    uint64_t from = MAX(at, l->offset), to = MIN(at + bytes, l->end);
    uint8_t good[SECTOR_SIZE] = {0};

    if (l->good->op == REQ_WRITE) {
        iov_to_buf(l->good->iov, l->good->niov, from - l->good->offset, good, to - from);
    }
    return memcmp(good, shown + (from - at), to - from) == 0;
}

static void judge_sector(struct fault_engine *e, const struct look *l, uint64_t at, const uint8_t *shown,
                         uint64_t bytes)
{
    struct fault_damage *d = &e->damage;
    uint64_t sector = at / SECTOR_SIZE, hash = hash_sector(shown, bytes);
    bool whole = at >= l->offset && at + bytes <= l->end;
    bool good = l->good && as_it_should_be(l, at, shown, bytes);

    if (good && whole) {
        forget(e, sector, l->seq);
    } else if (good) { /* the rest of the sector is as it was, perhaps damaged */
        uint32_t i = d->nmedia ? place(d, sector) : 0;
        if (d->nmedia && d->media[i].who && d->media[i].seq <= l->seq) {
            remember_past(e, &d->media[i]);
            d->media[i].hash = hash;
        }
    } else if (l->rule) {
        remember(e, l->rule,
                 &(struct fault_trace){
                     .sector = sector, .hash = hash, .opno = l->opno, .what = l->what, .seq = l->seq});
    }
}

static co_fn int look_at(struct fault_engine *e, struct look *l)
{
    struct node *below = node_below(e->node);
    uint64_t at = round_down(l->offset, SECTOR_SIZE), end;
    uint8_t *buf = buf_get(LOOK_BYTES);
    int ret = buf ? 0 : -ENOMEM;

    l->seq = ++e->damage.seq;
    end = MIN(round_up(l->end, SECTOR_SIZE), MAX(node_size(below), at));
    while (ret == 0 && at < end) {
        uint64_t bytes = MIN(LOOK_BYTES, end - at);
        struct iovec iov = {buf, bytes};
        struct req r = {
            .op = REQ_READ, .opno = l->opno, .offset = at, .bytes = bytes, .iov = &iov, .niov = 1};
        ret = node_io(below, &r);
        ret = ret == REQ_DROPPED ? -EIO : ret;
        for (uint64_t i = 0; ret == 0 && i < bytes; i += SECTOR_SIZE) {
            judge_sector(e, l, at + i, buf + i, MIN(SECTOR_SIZE, bytes - i));
        }
        at += bytes;
    }
    buf_put(buf, LOOK_BYTES);
    fault_engine_stand(e);
    return ret;
}

int fault_damage_look_behind(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                             const struct req *good, const char *what)
{
    return look_at(e, &(struct look){.rule = rule,
                                     .opno = r->opno,
                                     .offset = r->offset,
                                     .end = r->offset + r->bytes,
                                     .good = good,
                                     .what = what});
}

int fault_damage_look(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                      const struct req *good, const char *what)
{
    fault_window_settle(e, r->offset, r->offset + r->bytes);
    uint64_t seq = e->overlay.seq;
    int ret = fault_damage_look_behind(e, rule, r, good, what);
    if (ret == 0) { /* else the request fails, and the cache shows what it did */
        fault_overlay_forget(e, r, seq);
    }
    return ret;
}

/* ---- good writes ---- */

static bool is_damaged(const struct fault_damage *d, uint64_t sector)
{
    return d->nmedia && d->media[place(d, sector)].who;
}

/* Where a write ends within a damaged sector, what that shows now is another thing. */
static co_fn void look_at_edge(struct fault_engine *e, const struct req *r, uint64_t edge)
{
    uint64_t end = r->offset + r->bytes;

    if (edge % SECTOR_SIZE == 0 || edge == node_size(e->node) ||
        !is_damaged(&e->damage, edge / SECTOR_SIZE)) {
        return;
    }
    uint64_t start = round_down(edge, SECTOR_SIZE);
    struct look l = {
        .opno = r->opno, .offset = MAX(r->offset, start), .end = MIN(end, start + SECTOR_SIZE), .good = r};
    if (look_at(e, &l) < 0) {
        fault_damage_untold(e, "a damaged sector cannot be read");
    }
}

void fault_damage_overwritten(struct fault_engine *e, const struct req *r, uint64_t seq)
{
    struct fault_damage *d = &e->damage;
    uint64_t end = r->offset + r->bytes;
    uint64_t first = div_up(r->offset, SECTOR_SIZE);
    uint64_t last = end == node_size(e->node) ? div_up(end, SECTOR_SIZE) : end / SECTOR_SIZE;

    if (d->nmedia == 0) {
        return;
    }
    for (uint64_t s = first; s < last && last - first <= d->media_max && d->nmedia; s++) {
        forget(e, s, seq);
    }
    for (uint32_t i = 0; last > first && last - first > d->media_max && i < d->media_max;) {
        bool in = d->media[i].who && d->media[i].sector >= first && d->media[i].sector < last &&
                  d->media[i].seq <= seq;
        if (in) {
            remember_past(e, &d->media[i]);
            take_out(d, i); /* what moves up into its place is looked at, too */
        } else {
            i++;
        }
    }
    look_at_edge(e, r, r->offset);
    look_at_edge(e, r, end);
    fault_engine_stand(e);
}

void fault_damage_finish(struct fault_engine *e)
{
    struct fault_damage *d = &e->damage;

    fault_owed_finish(e);
    for (uint32_t i = 0; i < d->media_max; i++) {
        fault_culprit_unref(d->media[i].who);
    }
    for (size_t i = 0; d->wire && i < (size_t)FAULT_WIRE_SETS * FAULT_WIRE_WAYS; i++) {
        fault_culprit_unref(d->wire[i].who);
    }
    free(d->media);
    free(d->wire);
    *d = (struct fault_damage){0};
}

/* ---- the question ---- */

static const struct fault_trace *find_wire(const struct fault_damage *d, uint64_t sector, uint64_t opno,
                                           uint64_t hash)
{
    const struct fault_trace *set = d->wire ? wire_set(d, sector, opno) : NULL;

    for (unsigned i = 0; set && i < FAULT_WIRE_WAYS && set[i].who; i++) {
        if (set[i].sector == sector && set[i].opno == opno && set[i].hash == hash && !set[i].until) {
            return &set[i];
        }
    }
    return NULL;
}

static const struct fault_trace *find_past(const struct fault_damage *d, uint64_t sector, uint64_t opno,
                                           uint64_t hash)
{
    const struct fault_trace *set = d->wire ? wire_set(d, sector, PAST) : NULL;

    for (unsigned i = 0; set && i < FAULT_WIRE_WAYS && set[i].who; i++) {
        if (set[i].sector == sector && set[i].hash == hash && opno && opno <= set[i].until) {
            return &set[i];
        }
    }
    return NULL;
}

static const struct fault_trace *find_contents(const struct fault_damage *d, const struct blame *b)
{
    uint64_t sector = b->offset / SECTOR_SIZE;

    if (b->offset % SECTOR_SIZE != 0 || b->bytes == 0 || b->bytes > SECTOR_SIZE) {
        return NULL;
    }
    uint64_t hash = hash_sector(b->data, b->bytes);
    const struct fault_trace *t = d->nmedia ? &d->media[place(d, sector)] : NULL;
    if (t && t->who && t->hash == hash) {
        return t;
    }
    t = find_wire(d, sector, b->opno, hash);
    return t ? t : find_past(d, sector, b->opno, hash);
}

bool fault_engine_explain(const struct node *n, const struct blame *b, struct explanation *ret)
{
    const struct fault_damage *d = &fault_engine_of(n)->damage;
    const struct fault_trace *t =
        b->data ? find_contents(d, b) : find_wire(d, RESULT, b->opno, (uint64_t)(int64_t)b->result);

    if (!t) {
        return false;
    }
    *ret = (struct explanation){.opno = t->opno, .node = node_name(n), .rule = t->who->id, .what = t->what};
    return true;
}
