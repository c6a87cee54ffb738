/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that are done in part or not at all, and errors: told at once, or only by the next flush. What lies
 * on the media afterwards is looked at and remembered (damage.c).
 */
#include "base/json.h"
#include "block/room.h"
#include "drivers/fault/actions.h"

#define CACHE_DEFAULT (1 * MiB)
#define PARTS_MAX     4096u /* of a request: more would take its time */

/* ---- parts ---- */

/* The units of a request, by their place on the disk: the first and the last may be cut. */
struct parts {
    uint64_t unit, first, count;
    uint64_t cut;  /* prefix, suffix: so many, or all but so many, are done */
    uint64_t lost; /* random: at least this one is not done */
};

static struct parts parts_of(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    const struct fault_how *how = &rule->how;
    struct rng rng = fault_rng(e, rule, r);
    struct parts p = {.unit = how->unit ? how->unit : SECTOR_SIZE};

    if (how->persist == PERSIST_RANDOM) {
        while (r->bytes / p.unit > PARTS_MAX) {
            p.unit *= 2;
        }
    }
    p.first = r->offset / p.unit;
    p.count = (r->offset + r->bytes - 1) / p.unit - p.first + 1;
    p.cut = p.count > 1 ? 1 + rng_below(&rng, p.count - 1) : 0;
    p.lost = p.first + rng_below(&rng, p.count);
    if (how->persist_bytes) {
        p.cut = MIN(how->persist_bytes / p.unit, p.count - 1);
    }
    return p;
}

static bool is_done(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r,
                    const struct parts *p, uint64_t unit)
{
    switch (rule->how.persist) {
    case PERSIST_ALL:
        return true;
    case PERSIST_PREFIX:
        return unit - p->first < p->cut;
    case PERSIST_SUFFIX:
        return unit - p->first >= p->count - p->cut;
    case PERSIST_RANDOM:
        return unit != p->lost && (fault_draw(e, rule, fault_drawn_as(r) ^ UINT64_MAX, unit) & 1);
    default:
        return false;
    }
}

static co_fn int do_range(struct fault_engine *e, const struct req *r, uint64_t start, uint64_t end)
{
    AUTO_IOV_ROOM struct iov_room room;
    struct req part = *r;

    start = MAX(start, r->offset);
    end = MIN(end, r->offset + r->bytes);
    part.offset = start;
    part.bytes = end - start;
    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    if (r->op == REQ_WRITE) {
        part.iov = room.iov;
        part.niov = iov_slice(room.iov, r->iov, r->niov, start - r->offset, end - start);
    }
    return fault_below(e, &part);
}

/* Do what the rule lets of a write or zero. */
static co_fn int do_parts(struct fault_engine *e, struct fault_rule *rule, struct req *r, const char *what)
{
    const struct parts p = parts_of(e, rule, r);
    uint64_t i = p.first, end = p.first + p.count;
    int ret = 0;

    while (ret == 0 && i < end) {
        uint64_t from = i;
        while (i < end && is_done(e, rule, r, &p, i)) {
            i++;
        }
        if (i > from) {
            ret = do_range(e, r, from * p.unit, i * p.unit);
        }
        i += i == from;
    }
    int looked = fault_damage_look(e, rule, r, r, what);
    return ret < 0 ? ret : looked;
}

static bool makes_contents(const struct req *r)
{
    return OPS_DATA & 1u << r->op;
}

/* ---- error ---- */

FAULT_CHECK(fault_error_check)
{
    struct fault_how *how = &rule->how;

    if (json_object_get(rule->spec, "persist") && json_object_get(rule->spec, "when")) {
        return err_set(err, -EINVAL, "persist says more than when: only one of them can be given");
    }
    if (how->persist < PERSIST_PREFIX && (how->persist_bytes || how->unit)) {
        return err_set(err, -EINVAL, "unit and persist-bytes are for persist=prefix, suffix or random");
    }
    return fault_torn_check(rule, err);
}

FAULT_PERFORM(fault_error_perform)
{
    int persist = rule->how.persist, ret = 0;

    if (rule->when == FAULT_AFTER || persist == PERSIST_ALL) {
        ret = fault_pass(e, r);
    } else if (persist > PERSIST_ALL && makes_contents(r)) {
        ret = do_parts(e, rule, r, "error, done in part");
    }
    if (ret < 0) {
        return ret; /* it had an error of its own */
    }
    if (!rule->immediately) {
        co_yield ();
    }
    fault_damage_result(e, rule, r, -rule->error);
    return -rule->error;
}

/* ---- torn ---- */

FAULT_CHECK(fault_torn_check)
{
    struct fault_how *how = &rule->how;

    if (how->unit && !is_pow2(how->unit)) {
        return err_set(err, -EINVAL, "unit: expected a power of two");
    }
    if (how->persist == PERSIST_RANDOM && how->persist_bytes) {
        return err_set(err, -EINVAL, "persist-bytes is for persist=prefix or suffix");
    }
    if (fault_actions[rule->action].perform != fault_torn_perform) {
        return 0;
    }
    if (!json_object_get(rule->spec, "persist")) {
        how->persist = PERSIST_PREFIX;
    }
    if (how->persist < PERSIST_PREFIX) {
        return err_set(err, -EINVAL, "a torn write persists in part: prefix, suffix or random");
    }
    return 0;
}

FAULT_PERFORM(fault_torn_perform)
{
    return do_parts(e, rule, r, "torn write");
}

/* ---- lost ---- */

FAULT_CHECK(fault_lost_check)
{
    struct fault_how *how = &rule->how;

    if (how->cache_bytes && how->visible != VISIBLE_EVICT) {
        return err_set(err, -EINVAL, "cache is for visible=evict");
    }
    if (how->cache_bytes == 0) {
        how->cache_bytes = how->visible == VISIBLE_EVICT ? CACHE_DEFAULT : UINT64_MAX;
    }
    return 0;
}

/* A write that says it is durable is in no cache. */
FAULT_PERFORM(fault_lost_perform)
{
    int visible = r->flags & REQ_FUA ? VISIBLE_NO : rule->how.visible;

    if (makes_contents(r) && visible != VISIBLE_NO) {
        return fault_overlay_put(e, rule, r, visible == VISIBLE_FLUSH, rule->how.cache_bytes);
    }
    return makes_contents(r) ? fault_damage_look(e, rule, r, r, "lost write") : 0;
}

/* ---- deferred-error ---- */

static int fail_for(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    if (rule->how.report == REPORT_ONCE) {
        rule->run.failing = false;
        fault_engine_count(e);
    }
    fault_damage_result(e, rule, r, -rule->error);
    return -rule->error;
}

int fault_failing_flush(struct fault_engine *e, const struct req *r)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        struct fault_rule *rule = e->list.rules[i];
        if (rule->run.failing && rule->enabled) {
            return fail_for(e, rule, r);
        }
    }
    return 0;
}

/* A write that is durable by itself cannot put its error off. */
FAULT_PERFORM(fault_deferred_perform)
{
    int ret = 0;

    if (rule->how.data == DATA_KEEP) {
        ret = fault_pass(e, r);
    } else if (makes_contents(r) && (r->flags & REQ_FUA)) {
        ret = fault_damage_look(e, rule, r, r, "dropped when it failed");
    } else if (makes_contents(r)) {
        ret = fault_overlay_put(e, rule, r, true, UINT64_MAX);
    }
    if (ret < 0) {
        return ret;
    }
    rule->run.failing = !rule->removed;
    fault_engine_count(e);
    return r->flags & REQ_FUA ? fail_for(e, rule, r) : 0;
}
