/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that are lost, and nobody can see it yet: the drive's cache shows them, until they are evicted or a
 * flush comes. Sectors, in the order of arrival, never more than FAULT_OVERLAY_MAX; what there is no room for
 * is lost at once. Reads are patched, good writes take sectors out again.
 */
#include "base/iov.h"
#include "drivers/fault/internal.h"

#define BUCKETS 4096u

struct fault_shown {
    struct list link; /* overlay->sectors */
    struct fault_shown *next;
    struct fault_rule *rule;
    uint64_t sector, opno, seq;
    bool until_flush;
    uint8_t data[SECTOR_SIZE];
};

static struct fault_shown **bucket(const struct fault_overlay *o, uint64_t sector)
{
    uint64_t x = sector;

    return &o->buckets[splitmix64(&x) % BUCKETS];
}

static struct fault_shown *find(const struct fault_overlay *o, uint64_t sector)
{
    struct fault_shown *s = o->count ? *bucket(o, sector) : NULL;

    while (s && s->sector != sector) {
        s = s->next;
    }
    return s;
}

static void take_out(struct fault_overlay *o, struct fault_shown *s)
{
    struct fault_shown **at = bucket(o, s->sector);

    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    list_del(&s->link);
    o->count--;
    fault_rule_unref(s->rule);
    free(s);
}

void fault_overlay_finish(struct fault_engine *e)
{
    struct fault_overlay *o = &e->overlay;
    struct fault_shown *s, *next;

    list_for_each_safe (s, next, &o->sectors, link) {
        take_out(o, s);
    }
    free(o->buckets);
    o->buckets = NULL;
}

/* The part of a sector that a request has, as a range in both. */
struct part {
    uint64_t in_sector, in_request, bytes;
};

static struct part part_of(const struct req *r, uint64_t sector)
{
    uint64_t start = sector * SECTOR_SIZE, from = MAX(start, r->offset);
    uint64_t to = MIN(start + SECTOR_SIZE, r->offset + r->bytes);

    return (struct part){from - start, from - r->offset, to - from};
}

static bool is_whole(const struct fault_engine *e, const struct part *p, uint64_t sector)
{
    uint64_t size = node_size(e->node), start = sector * SECTOR_SIZE;

    return p->in_sector == 0 && p->bytes == MIN(SECTOR_SIZE, size > start ? size - start : SECTOR_SIZE);
}

static void copy_in(struct fault_shown *s, const struct req *r, const struct part *p)
{
    if (r->op == REQ_WRITE) {
        iov_to_buf(r->iov, r->niov, p->in_request, s->data + p->in_sector, p->bytes);
    } else {
        memset(s->data + p->in_sector, 0, p->bytes);
    }
}

/* ---- in and out ---- */

/* From now on everybody sees that it is not there. First it is looked at, so that who sees it can be told. */
static co_fn void lose(struct fault_engine *e, struct fault_shown *s)
{
    uint64_t start = s->sector * SECTOR_SIZE, seq = s->seq, sector = s->sector;
    uint64_t size = node_size(e->node);
    AUTO_FAULT_RULE struct fault_rule *rule = fault_rule_ref(s->rule);
    uint8_t data[SECTOR_SIZE];
    struct iovec iov = {data, size > start ? MIN(SECTOR_SIZE, size - start) : 0};
    struct req good = {
        .op = REQ_WRITE, .opno = s->opno, .offset = start, .bytes = iov.iov_len, .iov = &iov, .niov = 1};

    memcpy(data, s->data, sizeof(data));
    if (good.bytes > 0 && fault_damage_look_behind(e, rule, &good, &good, "lost from the cache") < 0) {
        fault_damage_owe(e, rule, &good, "lost from the cache");
    }
    s = find(&e->overlay, sector); /* others ran meanwhile */
    if (s && s->seq == seq) {
        take_out(&e->overlay, s);
    }
}

/* One more sector, as it is below; NULL: no memory. */
static co_fn struct fault_shown *add(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                                     uint64_t sector, bool whole)
{
    struct fault_overlay *o = &e->overlay;
    struct fault_shown *s = calloc(1, sizeof(*s));
    uint64_t start = sector * SECTOR_SIZE;

    if (!o->buckets) {
        o->buckets = calloc(BUCKETS, sizeof(struct fault_shown *));
    }
    if (s && !whole) {
        uint64_t size = node_size(node_below(e->node));
        struct iovec iov = {s->data, size > start ? MIN(SECTOR_SIZE, size - start) : 0};
        struct req rd = {
            .op = REQ_READ, .opno = r->opno, .offset = start, .bytes = iov.iov_len, .iov = &iov, .niov = 1};
        if (node_io(node_below(e->node), &rd) < 0) {
            free(s);
            return NULL;
        }
    }
    if (!s || !o->buckets || find(o, sector)) { /* or somebody else has been quicker */
        free(s);
        return find(o, sector);
    }
    s->rule = fault_rule_ref(rule);
    s->sector = sector;
    s->next = *bucket(o, sector);
    *bucket(o, sector) = s;
    list_add_tail(&o->sectors, &s->link);
    o->count++;
    return s;
}

static co_fn bool put(struct fault_engine *e, struct fault_rule *rule, const struct req *r, uint64_t sector,
                      bool until_flush)
{
    const struct part p = part_of(r, sector);
    struct fault_shown *s = find(&e->overlay, sector);

    if (!s && !(s = add(e, rule, r, sector, is_whole(e, &p, sector)))) {
        return false;
    }
    if (s->rule != rule) {
        fault_rule_unref(s->rule);
        s->rule = fault_rule_ref(rule);
    }
    copy_in(s, r, &p);
    s->opno = r->opno;
    s->seq = ++e->overlay.seq;
    s->until_flush = until_flush;
    list_del(&s->link);
    list_add_tail(&e->overlay.sectors, &s->link);
    return true;
}

static co_fn void evict(struct fault_engine *e, uint64_t max)
{
    struct fault_shown *s;

    while (e->overlay.count > max && (s = list_first(&e->overlay.sectors, struct fault_shown, link))) {
        lose(e, s);
    }
}

int fault_overlay_put(struct fault_engine *e, struct fault_rule *rule, const struct req *r, bool until_flush,
                      uint64_t max_bytes)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);
    uint64_t max = MIN(max_bytes / SECTOR_SIZE, (uint64_t)FAULT_OVERLAY_MAX);
    int ret = 0;

    for (uint64_t s = r->offset / SECTOR_SIZE; ret == 0 && s < end; s++) {
        if (!put(e, rule, r, s, until_flush)) {
            const struct part p = part_of(r, s);
            struct req part = *r;
            part.offset = s * SECTOR_SIZE + p.in_sector;
            part.bytes = p.bytes;
            ret = fault_damage_look(e, rule, &part, NULL, "lost write");
        }
        evict(e, max);
    }
    fault_engine_stand(e);
    return ret;
}

void fault_overlay_flushed(struct fault_engine *e, uint64_t seq)
{
    struct fault_shown *s;
    bool found = true;

    while (found) { /* others run while one is looked at: begin again */
        found = false;
        list_for_each (s, &e->overlay.sectors, link) {
            if (s->until_flush && s->seq <= seq) {
                lose(e, s);
                found = true;
                break;
            }
        }
    }
    fault_engine_stand(e);
}

/* ---- requests ---- */

void fault_overlay_patch(const struct fault_engine *e, const struct req *r)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);

    for (uint64_t sector = r->offset / SECTOR_SIZE; sector < end; sector++) {
        const struct fault_shown *s = find(&e->overlay, sector);
        if (s) {
            const struct part p = part_of(r, sector);
            iov_from_buf(r->iov, r->niov, p.in_request, s->data + p.in_sector, p.bytes);
        }
    }
}

void fault_overlay_forget(struct fault_engine *e, const struct req *r, uint64_t seq)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);

    for (uint64_t sector = r->offset / SECTOR_SIZE; e->overlay.count > 0 && sector < end; sector++) {
        struct fault_shown *s = find(&e->overlay, sector);
        if (s && s->seq <= seq) {
            take_out(&e->overlay, s);
        }
    }
}

void fault_overlay_covered(struct fault_engine *e, const struct req *r, uint64_t seq)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);

    for (uint64_t sector = r->offset / SECTOR_SIZE; sector < end; sector++) {
        struct fault_shown *s = find(&e->overlay, sector);
        const struct part p = part_of(r, sector);
        if (!s || s->seq > seq) { /* that came after it */
            continue;
        }
        if (is_whole(e, &p, sector)) {
            take_out(&e->overlay, s);
        } else if (r->op != REQ_DISCARD) {
            copy_in(s, r, &p);
        }
    }
    fault_engine_stand(e);
}
