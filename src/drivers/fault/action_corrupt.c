/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Corruption: bits flipped, stuck, bytes set, zeroed, random, swapped. Of a write it is what reaches the
 * media; of a read it is what the client gets, and with where=media also what lies there from then on. Which
 * bytes it hits follows from the operation, or with retry=same from the place alone, so that reading again
 * shows it again.
 */
#include <math.h>

#include "base/iov.h"
#include "base/json.h"
#include "drivers/fault/actions.h"

#define PIECE_BYTES (1 * MiB) /* of a write: it is changed in a copy */

/* ---- what ---- */

struct span { /* bytes of the request in memory; the first is at @offset of the disk */
    uint8_t *data;
    uint64_t offset, bytes;
};

static void flip(const struct span *s, uint64_t bit)
{
    s->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* Each bit by itself, with the chance of one in so many: how far it is to the next is drawn. */
static void flip_by_rate(const struct span *s, uint64_t one_in, struct rng *rng)
{
    double q = log1p(-1.0 / (double)one_in);

    for (double at = 0;; at += 1) {
        double u = ((double)(rng_u64(rng) >> 11) + 1) * 0x1p-53; /* above 0, at most 1 */
        at += one_in > 1 ? floor(log(u) / q) : 0;
        if (!(at < (double)(s->bytes * 8))) {
            return;
        }
        flip(s, (uint64_t)at);
    }
}

/* So many different ones. */
static void flip_bits(const struct span *s, uint64_t bits, struct rng *rng)
{
    uint64_t chosen[FAULT_BITS_MAX], n = 0;

    bits = MIN(bits, s->bytes * 8);
    while (n < bits) {
        uint64_t bit = rng_below(rng, s->bytes * 8), i = 0;
        while (i < n && chosen[i] != bit) {
            i++;
        }
        if (i == n) {
            chosen[n++] = bit;
            flip(s, bit);
        }
    }
}

/* The same bit of every unit shows one value for ever. */
static void stick(const struct fault_rule *rule, const struct span *s)
{
    uint64_t unit = rule->how.unit ? rule->how.unit : SECTOR_SIZE, at = rule->how.bit / 8;
    uint8_t mask = (uint8_t)(1u << rule->how.bit % 8);

    for (uint64_t o = round_down(s->offset, unit) + at; o < s->offset + s->bytes; o += unit) {
        if (o >= s->offset) {
            uint8_t *p = &s->data[o - s->offset];
            *p = rule->how.value ? *p | mask : (uint8_t)(*p & ~mask);
        }
    }
}

/* A place for @length bytes, at a multiple of that, if there is one. */
static struct span draw_span(const struct span *s, uint64_t length, struct rng *rng)
{
    uint64_t first = round_up(s->offset, length), end = s->offset + s->bytes;

    if (length == 0 || first >= end || end - first < length) {
        return *s;
    }
    uint64_t at = first + rng_below(rng, (end - first) / length) * length - s->offset;
    return (struct span){s->data + at, s->offset + at, length};
}

static void swap_bytes(uint8_t *a, uint8_t *b, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        uint8_t t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Two pieces of the same length change places: sectors, or what fits twice. */
static void swap(const struct span *s, uint64_t length, struct rng *rng)
{
    uint64_t unit = length ? length : SECTOR_SIZE;

    unit = s->bytes < 2 * unit ? s->bytes / 2 : unit;
    if (unit == 0) {
        return;
    }
    uint64_t n = s->bytes / unit, a = rng_below(rng, n), b = (a + 1 + rng_below(rng, n - 1)) % n;
    swap_bytes(s->data + a * unit, s->data + b * unit, unit);
}

static void corrupt(const struct fault_rule *rule, const struct span *s, struct rng *rng)
{
    const struct fault_how *how = &rule->how;
    struct span part;

    switch (how->mode) {
    case CORRUPT_FLIP:
        if (how->one_in) {
            flip_by_rate(s, how->one_in, rng);
        } else {
            flip_bits(s, how->bits ? how->bits : 1, rng);
        }
        break;
    case CORRUPT_STUCK:
        stick(rule, s);
        break;
    case CORRUPT_SWAP:
        swap(s, how->length, rng);
        break;
    default:
        part = draw_span(s, how->length, rng);
        if (how->mode == CORRUPT_RANDOM) {
            rng_fill(rng, part.data, part.bytes);
        } else {
            memset(part.data, how->mode == CORRUPT_ZERO ? 0 : (int)how->byte, part.bytes);
        }
        break;
    }
}

/* ---- pieces of a request ---- */

static bool by_place(const struct fault_rule *rule)
{
    return rule->how.retry == RETRY_SAME;
}

static struct rng rng_of_block(const struct fault_engine *e, const struct fault_rule *rule, uint64_t offset)
{
    struct rng rng;

    rng_init(&rng, fault_draw(e, rule, UINT64_MAX, offset));
    return rng;
}

/* One block of the disk, of which the request may have a part only: that is all that changes. */
static void corrupt_block(const struct fault_engine *e, const struct fault_rule *rule, const struct span *s,
                          uint64_t block, uint8_t *scratch)
{
    uint64_t from = MAX(block, s->offset), to = MIN(block + FAULT_BLOCK_BYTES, s->offset + s->bytes);
    struct rng rng = rng_of_block(e, rule, block);
    const struct span whole = {scratch, block, FAULT_BLOCK_BYTES};

    if (rule->how.mode == CORRUPT_SWAP && to - from < FAULT_BLOCK_BYTES) {
        return; /* it would bring in what is not there */
    }
    memcpy(scratch + (from - block), s->data + (from - s->offset), to - from);
    corrupt(rule, &whole, &rng);
    memcpy(s->data + (from - s->offset), scratch + (from - block), to - from);
}

/* Of a large request one piece is hit, but for what concerns every bit, or every unit. */
static bool hits_piece(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r,
                       uint64_t piece)
{
    uint64_t pieces = div_up(r->bytes, PIECE_BYTES);
    struct rng rng = fault_rng(e, rule, r);

    return rule->how.mode == CORRUPT_STUCK || rule->how.one_in || rng_below(&rng, pieces) == piece;
}

static void corrupt_piece(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r,
                          const struct span *s, uint8_t *scratch)
{
    uint64_t end = s->offset + s->bytes;

    if (by_place(rule)) {
        for (uint64_t b = round_down(s->offset, FAULT_BLOCK_BYTES); b < end; b += FAULT_BLOCK_BYTES) {
            corrupt_block(e, rule, s, b, scratch);
        }
    } else if (hits_piece(e, rule, r, (s->offset - r->offset) / PIECE_BYTES)) {
        struct rng rng;
        rng_init(&rng, fault_draw(e, rule, fault_drawn_as(r), s->offset << 3 | r->op));
        corrupt(rule, s, &rng);
    }
}

/* ---- reads ---- */

/* From now on it lies there like that. */
static co_fn void decay(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                        const struct span *s)
{
    struct iovec iov = {s->data, s->bytes};
    struct req w = {
        .op = REQ_WRITE, .opno = r->opno, .offset = s->offset, .bytes = s->bytes, .iov = &iov, .niov = 1};

    if (fault_below(e, &w) < 0 || fault_damage_look(e, rule, &w, NULL, "decayed") < 0) {
        fault_damage_owe(e, rule, &w, "decayed");
    }
}

/* Hand out what has changed, and remember it. */
static co_fn void show_piece(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                             const struct span *s)
{
    uint8_t good[SECTOR_SIZE];

    for (uint64_t at = 0, bytes; at < s->bytes; at += bytes) {
        uint64_t in_request = s->offset + at - r->offset;
        bytes = MIN(SECTOR_SIZE - (s->offset + at) % SECTOR_SIZE, s->bytes - at);
        iov_to_buf(r->iov, r->niov, in_request, good, bytes);
        if (memcmp(good, s->data + at, bytes) == 0) {
            continue;
        }
        const struct span sector = {s->data + at, s->offset + at, bytes};
        iov_from_buf(r->iov, r->niov, in_request, sector.data, bytes);
        fault_damage_wire(e, rule, r, sector.offset, bytes, "corrupted read");
        if (rule->how.where == WHERE_MEDIA && !node_is_read_only(node_below(e->node))) {
            decay(e, rule, r, &sector);
        }
    }
}

static co_fn int corrupt_read(struct fault_engine *e, struct fault_rule *rule, struct req *r, uint8_t *buf)
{
    int ret = fault_pass(e, r);

    for (uint64_t at = 0, bytes; ret == 0 && at < r->bytes; at += bytes) {
        bytes = MIN(PIECE_BYTES, r->bytes - at);
        const struct span s = {buf, r->offset + at, bytes};
        iov_to_buf(r->iov, r->niov, at, buf, bytes);
        corrupt_piece(e, rule, r, &s, buf + PIECE_BYTES);
        show_piece(e, rule, r, &s);
    }
    return ret;
}

/* ---- writes ---- */

static co_fn int corrupt_write(struct fault_engine *e, struct fault_rule *rule, struct req *r, uint8_t *buf)
{
    struct iovec iov = {buf, 0};
    struct req part = *r;
    int ret = 0;

    part.iov = &iov;
    part.niov = 1;
    for (uint64_t at = 0; ret == 0 && at < r->bytes; at += part.bytes) {
        part.offset = r->offset + at;
        part.bytes = iov.iov_len = MIN(PIECE_BYTES, r->bytes - at);
        const struct span s = {buf, part.offset, part.bytes};
        iov_to_buf(r->iov, r->niov, at, buf, part.bytes);
        corrupt_piece(e, rule, r, &s, buf + PIECE_BYTES);
        ret = fault_below(e, &part);
    }
    int looked = fault_damage_look(e, rule, r, r, "corrupted write");
    if (looked < 0) {
        fault_damage_owe(e, rule, r, "corrupted write");
    }
    return ret < 0 ? ret : looked;
}

/* ---- the action ---- */

FAULT_CHECK(fault_corrupt_check)
{
    struct fault_how *how = &rule->how;
    bool fills = how->mode == CORRUPT_SET || how->mode == CORRUPT_ZERO || how->mode == CORRUPT_RANDOM;
    bool stuck = how->mode == CORRUPT_STUCK, flips = how->mode == CORRUPT_FLIP;

    if (how->bits && how->one_in) {
        return err_set(err, -EINVAL, "bits and one-in exclude each other");
    }
    if ((how->bits || how->one_in) && !flips) {
        return err_set(err, -EINVAL, "bits and one-in are for mode=flip");
    }
    if (how->length && !fills && how->mode != CORRUPT_SWAP) {
        return err_set(err, -EINVAL, "length is for mode=set, zero, random and swap");
    }
    if (json_object_get(rule->spec, "byte") && how->mode != CORRUPT_SET) {
        return err_set(err, -EINVAL, "byte is for mode=set");
    }
    if (!stuck && (how->unit || json_object_get(rule->spec, "bit") || json_object_get(rule->spec, "value"))) {
        return err_set(err, -EINVAL, "bit, value and unit are for mode=stuck");
    }
    if (how->unit && !is_pow2(how->unit)) {
        return err_set(err, -EINVAL, "unit: expected a power of two");
    }
    if (how->bit / 8 >= (how->unit ? how->unit : SECTOR_SIZE)) {
        return err_set(err, -EINVAL, "bit: the unit of %llu bytes has no bit %llu",
                       (unsigned long long)(how->unit ? how->unit : SECTOR_SIZE),
                       (unsigned long long)how->bit);
    }
    if (fills && how->length == 0) {
        how->length = how->mode == CORRUPT_SET ? 1 : SECTOR_SIZE;
    }
    return 0;
}

FAULT_PERFORM(fault_corrupt_perform)
{
    uint8_t *buf = buf_get(PIECE_BYTES + FAULT_BLOCK_BYTES);

    if (!buf) {
        return -ENOMEM;
    }
    bool decays = r->op == REQ_READ && rule->how.where == WHERE_MEDIA;
    if (decays) { /* other reads see it when it is remembered */
        fault_claim(e, r->offset, r->offset + r->bytes);
    }
    int ret = r->op == REQ_READ ? corrupt_read(e, rule, r, buf) : corrupt_write(e, rule, r, buf);
    if (decays) {
        fault_unclaim(e);
    }
    buf_put(buf, PIECE_BYTES + FAULT_BLOCK_BYTES);
    return ret;
}
