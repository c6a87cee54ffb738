/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that go to another place than was asked for, or to none: a device that is read-only, full, smaller
 * than it says, or wraps around; and reads and writes that are misdirected.
 */
#include "base/json.h"
#include "base/size.h"
#include "block/room.h"
#include "drivers/fault/actions.h"
#include "drivers/fault/member.h"

/* ---- read-only, full, shrink: an error where something else follows from the parameters ---- */

FAULT_CHECK(fault_size_check)
{
    if (!json_object_get(rule->spec, "size")) {
        return err_set(err, -EINVAL, "the action %s needs the member size", fault_actions[rule->action].name);
    }
    if (rule->ranges) {
        return err_set(err, -EINVAL,
                       "the action %s concerns what lies behind size: ranges mean nothing there",
                       fault_actions[rule->action].name);
    }
    if (!(rule->ranges = malloc(sizeof(*rule->ranges)))) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    rule->ranges[0] = (struct fault_range){rule->how.size, BLOCK_SIZE_MAX};
    rule->nranges = 1;
    return rule->how.size < BLOCK_SIZE_MAX ? 0 : err_set(err, -EINVAL, "size: larger than any disk");
}

FAULT_PERFORM(fault_refuse_perform)
{
    fault_damage_result(e, rule, r, -rule->error);
    return -rule->error;
}

/* ---- to another place ---- */

/* The part of @r from @at on, of @bytes, performed at @target below. */
static co_fn int perform_at(struct fault_engine *e, const struct req *r, uint64_t at, uint64_t bytes,
                            uint64_t target, struct req *ret_part, struct iov_room *room)
{
    struct req part = *r;

    part.offset = target;
    part.bytes = bytes;
    if (r->niov > 0) {
        part.iov = room->iov;
        part.niov = iov_slice(room->iov, r->iov, r->niov, at, bytes);
    }
    *ret_part = part;
    return fault_below(e, &part);
}

/* One that changes something has another victim than was meant; one that reads shows another sector. */
static co_fn int go_astray(struct fault_engine *e, struct fault_rule *rule, struct req *r, uint64_t at,
                           uint64_t bytes, uint64_t target, const char *what)
{
    AUTO_IOV_ROOM struct iov_room room;
    struct req part;

    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    int ret = perform_at(e, r, at, bytes, target, &part, &room);
    if (ret == 0 && r->op == REQ_READ) {
        fault_damage_wire(e, rule, r, r->offset + at, bytes, what);
    } else if (OPS_CHANGE & 1u << r->op) { /* one that failed may have changed something */
        ret = ret < 0 ? ret : fault_damage_look(e, rule, &part, NULL, what);
        if (ret < 0) {
            fault_damage_owe(e, rule, &part, what);
        }
    }
    return ret;
}

/* What should have been done is not: the place that was meant shows what it did. */
static co_fn int look_where_meant(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                                  const char *what)
{
    return OPS_DATA & 1u << r->op ? fault_damage_look(e, rule, r, r, what) : 0;
}

/* ---- misdirect ---- */

FAULT_PARSE(fault_parse_by)
{
    const char *text = json_string_value(v);
    json_int_t number = json_integer_value(v);
    bool minus = text ? *text == '-' : number < 0;
    uint64_t bytes = (uint64_t)(minus ? -number : number);
    int r = json_is_integer(v) ? 0 : text ? size_parse(text + (minus || *text == '+'), &bytes) : -EINVAL;

    if (r < 0 || bytes == 0 || bytes > BLOCK_SIZE_MAX) {
        return err_set(err, -EINVAL, "by: expected how far, such as 8k or \"-512\"");
    }
    rule->how.by = minus ? -(int64_t)bytes : (int64_t)bytes;
    return 0;
}

FAULT_CHECK(fault_misdirect_check)
{
    bool bit = json_object_get(rule->spec, "lba-bit") != NULL;

    return bit && rule->how.by ? err_set(err, -EINVAL, "by and lba-bit exclude each other") : 0;
}

/* Where it goes; UINT64_MAX: nowhere, as that would be outside of the device. */
static uint64_t target_of(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    uint64_t size = node_size(e->node), target = r->offset;

    if (r->bytes >= size) {
        return UINT64_MAX;
    }
    if (rule->how.by) {
        target += (uint64_t)rule->how.by; /* below zero it is beyond every size */
    } else if (json_object_get(rule->spec, "lba-bit")) {
        target ^= SECTOR_SIZE << rule->how.lba_bit;
    } else { /* a sector drawn, the place within it kept */
        uint64_t in_sector = r->offset % SECTOR_SIZE;
        uint64_t places = (size - r->bytes - MIN(in_sector, size - r->bytes)) / SECTOR_SIZE + 1;
        struct rng rng = fault_rng(e, rule, r);
        target = rng_below(&rng, places) * SECTOR_SIZE + in_sector;
    }
    return target != r->offset && target <= size - r->bytes ? target : UINT64_MAX;
}

FAULT_CONCERNS(fault_misdirect_concerns)
{
    return target_of(e, rule, r) != UINT64_MAX;
}

FAULT_PERFORM(fault_misdirect_perform)
{
    uint64_t target = target_of(e, rule, r);

    if (target == UINT64_MAX) { /* the device was larger when it was asked */
        return fault_pass(e, r);
    }
    if (r->op == REQ_READ) {
        return go_astray(e, rule, r, 0, r->bytes, target, "misdirected read");
    }
    fault_claim(e, target, target + r->bytes);
    int ret = rule->how.keep ? fault_pass(e, r) : 0;
    ret = ret < 0 ? ret : go_astray(e, rule, r, 0, r->bytes, target, "misdirected write");
    int looked = look_where_meant(e, rule, r, "misdirected write, lost here");
    fault_unclaim(e);
    return ret < 0 ? ret : looked;
}

/* ---- wrap ---- */

FAULT_CHECK(fault_wrap_check)
{
    if (rule->how.size == 0 || rule->how.size % SECTOR_SIZE != 0) {
        return err_set(err, -EINVAL, "the action wrap needs the member size, whole sectors of 512 bytes");
    }
    return 0;
}

FAULT_CONCERNS(fault_wrap_concerns)
{
    return r->offset + r->bytes > rule->how.size;
}

/* Where it lies cannot be told across the seam. */
static co_fn int wrap_status(struct fault_engine *e, const struct fault_rule *rule, struct req *r)
{
    struct req part = *r;

    part.offset = r->offset % rule->how.size;
    part.bytes = MIN(r->bytes, rule->how.size - part.offset);
    return fault_below(e, &part);
}

FAULT_PERFORM(fault_wrap_perform)
{
    uint64_t size = rule->how.size;
    int ret = 0;

    if (r->op == REQ_STATUS) {
        return wrap_status(e, rule, r);
    }
    if (r->op != REQ_READ) {
        uint64_t first = r->offset % size;
        bool once = r->bytes <= size - first;
        fault_claim(e, once ? first : 0, once ? first + r->bytes : size);
    }
    for (uint64_t at = 0, bytes; ret == 0 && at < r->bytes; at += bytes) {
        uint64_t target = (r->offset + at) % size;
        bytes = MIN(r->bytes - at, size - target);
        ret = go_astray(e, rule, r, at, bytes, target, "wrapped around");
    }
    int looked = look_where_meant(e, rule, r, "wrapped around, lost here");
    if (r->op != REQ_READ) {
        fault_unclaim(e);
    }
    return ret < 0 ? ret : looked;
}
