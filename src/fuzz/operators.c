/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a field becomes hostile: operators by the kind of the field. Values are what breaks parsers: the edges
 * of what is allowed and of what fits, one beside what is right, places where something else lies. All
 * arithmetic is modulo 2^64, and what does not fit the field is cut.
 */
#include <stdio.h>

#include "fuzz/internal.h"

#define TRIES 6 /* until a value differs from what is there */

uint64_t fuzz_field_max(const struct fuzz_part *p, const struct field *f)
{
    if (p->stride_bits < 8) {
        return (UINT64_C(1) << p->stride_bits) - 1;
    }
    return f->mask ? f->mask >> f->shift : f->width >= 8 ? UINT64_MAX : (UINT64_C(1) << f->width * 8) - 1;
}

/* What an operator knows. */
struct site {
    struct fuzz_image *img;
    struct rng *rng;
    const struct fuzz_part *p;
    int part;
    uint32_t element;
    const struct field *f;
    uint64_t old, max; /* of the field; .max: what fits */
};

static uint64_t below(const struct site *s, uint64_t n)
{
    return rng_below(s->rng, n);
}

/* ---- numbers ---- */

static uint64_t boundary(const struct site *s)
{
    const struct field *f = s->f;
    const uint64_t values[] = {
        0,
        1,
        s->max,
        s->max - 1,
        s->max >> 1, /* sign edges */
        (s->max >> 1) + 1,
        f->min - 1,
        f->min,
        f->max,
        f->max + 1,
        UINT64_C(0x7fffffff),
        UINT64_C(0x80000000),
        UINT64_C(0xffffffff),
        UINT64_C(0x100000000),
    };
    return values[below(s, ARRAY_SIZE(values))];
}

static uint64_t near(const struct site *s)
{
    return s->old + (below(s, 2) ? 1 : UINT64_MAX);
}

/* Powers of two and what stands beside them. */
static uint64_t huge(const struct site *s)
{
    uint64_t power = UINT64_C(1) << (8 + below(s, 56));

    return power - 1 + below(s, 3);
}

static uint64_t scaled(const struct site *s)
{
    static const uint8_t factors[] = {2, 3, 8, 255};
    uint64_t factor = factors[below(s, ARRAY_SIZE(factors))];

    return below(s, 2) ? s->old * factor : s->old / factor;
}

static uint64_t flip(const struct site *s)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(s->max);

    return s->old ^ UINT64_C(1) << below(s, bits);
}

static uint64_t any(const struct site *s)
{
    uint64_t value = rng_u64(s->rng);

    return value >> below(s, 64);
}

static uint64_t small(const struct site *s)
{
    static const uint8_t edges[] = {0,  1,  7,  8,  9,  12, 16, 20,  21,  22,
                                    30, 31, 32, 33, 63, 64, 65, 127, 128, 255};

    return edges[below(s, ARRAY_SIZE(edges))];
}

/* Another of the values there are names for, or the first one there is none for. */
static uint64_t other(const struct site *s)
{
    uint64_t n = 0;

    while (s->f->values && s->f->values[n]) {
        n++;
    }
    return below(s, n + 2);
}

static uint64_t toggle(const struct site *s)
{
    uint64_t named = 0;

    while (s->f->values && s->f->values[named]) {
        named++;
    }
    return named && below(s, 8) ? s->old ^ UINT64_C(1) << below(s, named) : flip(s);
}

/* ---- offsets ---- */

static uint64_t unit_of(const struct site *s)
{
    return s->f->unit ? s->f->unit : s->p->unit;
}

/* Where something lies in the same file; mostly what is not raw data. */
static uint64_t some_place(const struct site *s)
{
    const struct fuzz_part *q = s->p;

    for (int tries = 0; tries < 8; tries++) {
        q = &s->img->part[1 + below(s, (uint64_t)s->img->parts - 1)];
        if (q->file == s->p->file && (q->layout || below(s, 4) == 0)) {
            break;
        }
    }
    return q->file == s->p->file ? q->offset : 0;
}

static uint64_t overlap(const struct site *s)
{
    uint64_t at;

    switch (below(s, 8)) {
    case 0:
        at = 0;
        break;
    case 1:
        at = s->p->offset; /* a cycle: the table itself */
        break;
    case 2:
        at = s->p->parent ? s->img->part[s->p->parent].offset : s->p->offset;
        break;
    default:
        at = some_place(s);
    }
    return round_down(at, s->p->align) / unit_of(s);
}

static uint64_t past_end(const struct site *s)
{
    uint64_t end = s->img->file[s->p->file].size, align = s->p->align;
    const uint64_t places[] = {
        round_down(end, align),         round_up(end, align),        round_up(end, align) + align,
        round_down(end, align) - align, UINT64_C(1) << 32,           UINT64_C(1) << 40,
        (UINT64_C(1) << 56) - align,    (UINT64_C(1) << 62) - align, (UINT64_C(1) << 63) - align,
    };

    return places[below(s, ARRAY_SIZE(places))] / unit_of(s);
}

static uint64_t misaligned(const struct site *s)
{
    uint64_t half = MAX(s->p->align / 2 / unit_of(s), UINT64_C(1));
    const uint64_t steps[] = {1, 8, 256, 511, SECTOR_SIZE, half, half * 2 - 1};
    uint64_t step = steps[below(s, ARRAY_SIZE(steps))];

    return below(s, 4) ? s->old + step : s->old - step;
}

static uint64_t next_unit(const struct site *s)
{
    uint64_t step = MAX(s->p->align / unit_of(s), UINT64_C(1));

    return below(s, 2) ? s->old + step : s->old - step;
}

/* What another element says: two of them share what they point to. */
static uint64_t alias(const struct site *s)
{
    uint32_t element = s->p->element ? (uint32_t)below(s, s->p->used) : 0;

    return fuzz_value(s->img, s->part, element, s->f);
}

/* ---- checksums ---- */

/* The sum of the valid image, whatever else changed: it is wrong if something did. */
static uint64_t stale(const struct site *s)
{
    return s->old;
}

/* ---- the table: kinds, operators, and how often ---- */

static const struct operator
{
    const char *name;
    uint64_t (*fn)(const struct site *s);
    bool same; /* the value may be the old one */
}
boundary_op = {"boundary", boundary, false},
    near_op = {"off-by-one", near, false}, huge_op = {"huge", huge, false},
    scaled_op = {"scaled", scaled, false}, flip_op = {"bit-flip", flip, false},
    any_op = {"random", any, false}, small_op = {"exponent", small, false}, other_op = {"enum", other, false},
    toggle_op = {"flag", toggle, false}, overlap_op = {"overlap", overlap, false},
    past_op = {"past-end", past_end, false}, misaligned_op = {"misaligned", misaligned, false},
    unit_op = {"next-unit", next_unit, false}, alias_op = {"alias", alias, false},
    stale_op = {"stale-checksum", stale, true};

typedef const struct operator* const op_list[8];

static op_list number_ops = {&boundary_op, &near_op, &flip_op, &any_op, &scaled_op};
static op_list offset_ops = {&overlap_op,    &overlap_op, &overlap_op, &past_op,
                             &misaligned_op, &unit_op,    &alias_op,   &boundary_op};
static op_list count_ops = {&near_op, &near_op, &boundary_op, &huge_op, &scaled_op, &flip_op, &any_op};
static op_list shift_ops = {&near_op, &small_op, &small_op, &boundary_op, &any_op};
static op_list enum_ops = {&other_op, &other_op, &other_op, &boundary_op};
static op_list flag_ops = {&toggle_op, &toggle_op, &toggle_op, &any_op};
static op_list magic_ops = {&flip_op, &any_op, &near_op, &boundary_op};
static op_list reserved_ops = {&flip_op, &flip_op, &boundary_op, &any_op};
static op_list checksum_ops = {&stale_op, &stale_op, &flip_op, &boundary_op, &any_op};

static const struct operator* pick_operator(const struct site *s)
{
    op_list *const by_kind[] = {
        [FIELD_NUMBER] = &number_ops, [FIELD_MAGIC] = &magic_ops,       [FIELD_CODE] = &number_ops,
        [FIELD_OFFSET] = &offset_ops, [FIELD_LENGTH] = &count_ops,      [FIELD_COUNT] = &count_ops,
        [FIELD_SHIFT] = &shift_ops,   [FIELD_ENUM] = &enum_ops,         [FIELD_FLAGS] = &flag_ops,
        [FIELD_TIME] = &number_ops,   [FIELD_CHECKSUM] = &checksum_ops, [FIELD_RESERVED] = &reserved_ops,
        [FIELD_BYTES] = &number_ops,
    };
    op_list *ops = by_kind[s->f->kind];
    unsigned n = 0;

    while (n < ARRAY_SIZE(*ops) && (*ops)[n]) {
        n++;
    }
    return (*ops)[below(s, n)];
}

static void operate_number(struct site *s)
{
    const struct operator* op = NULL;
    uint64_t value = s->old;

    for (int i = 0; i < TRIES && value == s->old; i++) {
        op = pick_operator(s);
        value = op->fn(s) & s->max;
        if (op->same) {
            break;
        }
    }
    if (value == s->old && !op->same) {
        op = &flip_op;
        value = flip(s) & s->max;
    }
    fuzz_mutation_add(s->img, (struct fuzz_mutation){.what = FUZZ_SET,
                                                     .op = op->name,
                                                     .part = s->part,
                                                     .element = s->element,
                                                     .field = s->f,
                                                     .file = s->p->file,
                                                     .before = s->old,
                                                     .after = value});
}

/* ---- bytes ---- */

/* Names that mean something to somebody. */
static const char *const texts[] = {
    "%s%p%x%n%d",
    "/dev/zero",
    "/",
    "../../../../etc/hostname",
    "json:{\"driver\":\"null-co\"}",
    "nbd:unix:/x",
    "file:a\\\"b",
    "\xff\xfe\x80",
    "fat:rw:/tmp",
    "a\nb",
};

static void operate_bytes(struct fuzz_image *img, struct rng *rng, const struct fuzz_target *t)
{
    const struct fuzz_part *p = &img->part[t->part];
    uint64_t room = t->field ? t->field->width : p->element ? p->stride_bits / 8 : p->bytes;
    struct fuzz_mutation m = {.what = FUZZ_BYTES,
                              .op = "random-bytes",
                              .part = t->part,
                              .element = t->element,
                              .field = t->field,
                              .file = p->file};

    if (room == 0) {
        return;
    }
    if (room <= 4096 && rng_below(rng, 3) == 0) {
        uint64_t i = rng_below(rng, ARRAY_SIZE(texts) + 1);
        const char *text = i < ARRAY_SIZE(texts) ? texts[i] : fuzz_decoy(img);
        m.op = "text";
        m.len = (uint32_t)MIN(MIN(strlen(text) + 1, room), (uint64_t)FUZZ_BYTES_MAX);
        memcpy(m.bytes, text, m.len);
    } else {
        m.len = 1 + (uint32_t)rng_below(rng, MIN(room, UINT64_C(16)));
        m.after = rng_below(rng, rng_below(rng, 2) ? room - m.len + 1 : MIN(room - m.len + 1, UINT64_C(64)));
        rng_fill(rng, m.bytes, m.len);
    }
    fuzz_mutation_add(img, m);
}

void fuzz_operate_on(struct fuzz_image *img, struct rng *rng, const struct fuzz_target *t)
{
    if (!t->field || t->field->kind == FIELD_BYTES) {
        operate_bytes(img, rng, t);
        return;
    }
    const struct fuzz_part *p = &img->part[t->part];
    struct site s = {.img = img,
                     .rng = rng,
                     .p = p,
                     .part = t->part,
                     .element = t->element,
                     .f = t->field,
                     .old = fuzz_value(img, t->part, t->element, t->field),
                     .max = fuzz_field_max(p, t->field)};
    operate_number(&s);
}

/* ---- what is larger than a field ---- */

/* The file ends within something, or just before or behind it. */
static void operate_size(struct fuzz_image *img, struct rng *rng)
{
    uint64_t size = img->file[0].size;
    const struct fuzz_part *p = &img->part[1 + rng_below(rng, (uint64_t)img->parts - 1)];
    const uint64_t sizes[] = {
        p->offset,
        p->offset + p->bytes / 2,
        p->offset + p->bytes - 1,
        size - 1,
        size - MIN(size, (uint64_t)SECTOR_SIZE),
        size - size / 4,
        rng_below(rng, size + 1),
        size + 1,
        size + SECTOR_SIZE,
        size + 64 * KiB,
    };
    uint64_t after = sizes[rng_below(rng, ARRAY_SIZE(sizes))];

    if (p->file == 0 && after <= size + 64 * KiB && after != size) {
        fuzz_mutation_add(img, (struct fuzz_mutation){
                                   .what = FUZZ_TRUNCATE, .op = "truncate", .before = size, .after = after});
    }
}

/* Elements of one table change places, or one is there twice, or gone. */
static void operate_elements(struct fuzz_image *img, struct rng *rng)
{
    static const struct {
        enum fuzz_what what;
        const char *op;
    } kinds[] = {
        {FUZZ_SWAP, "swap"}, {FUZZ_COPY, "duplicate"}, {FUZZ_COPY, "duplicate"}, {FUZZ_ZERO, "erase"}};
    uint64_t kind = rng_below(rng, ARRAY_SIZE(kinds));
    struct fuzz_target t;

    for (int tries = 0; tries < 8; tries++) {
        if (!fuzz_target_choose(img, rng, &t)) {
            return;
        }
        const struct fuzz_part *p = &img->part[t.part];
        uint32_t second = p->element ? (uint32_t)rng_below(rng, p->used) : 0;
        if (p->element && p->stride_bits >= 8 && second != t.element) {
            fuzz_mutation_add(img, (struct fuzz_mutation){.what = kinds[kind].what,
                                                          .op = kinds[kind].op,
                                                          .part = t.part,
                                                          .element = t.element,
                                                          .file = p->file,
                                                          .after = second});
            return;
        }
    }
}

/* Two numbers of one structure that have to agree (a count and a length) move apart. */
static void operate_pair(struct fuzz_image *img, struct rng *rng)
{
    struct fuzz_target t;
    unsigned found = 0;

    if (!fuzz_target_choose(img, rng, &t) || !img->part[t.part].layout) {
        return;
    }
    const struct fuzz_part *p = &img->part[t.part];
    for (const struct field *f = p->layout->fields; f->name && found < 2; f++) {
        if ((f->kind != FIELD_COUNT && f->kind != FIELD_LENGTH) || !fuzz_field_there(p, f) ||
            rng_below(rng, 2)) {
            continue;
        }
        uint64_t old = fuzz_value(img, t.part, t.element, f);
        uint64_t value = (found == 0 ? old + 1 + old / 2 : old / 2) & fuzz_field_max(p, f);
        fuzz_mutation_add(img, (struct fuzz_mutation){.what = FUZZ_SET,
                                                      .op = "pair",
                                                      .part = t.part,
                                                      .element = t.element,
                                                      .field = f,
                                                      .file = p->file,
                                                      .before = old,
                                                      .after = value});
        found++;
    }
}

/* A structure that others lead to is not there: an L1 table of zeroes, no refcounts. */
static void operate_part(struct fuzz_image *img, struct rng *rng)
{
    struct fuzz_target t;

    for (int tries = 0; tries < 4; tries++) {
        if (fuzz_target_choose(img, rng, &t) && img->part[t.part].element) {
            fuzz_mutation_add(img, (struct fuzz_mutation){.what = FUZZ_ZERO,
                                                          .op = "missing",
                                                          .part = t.part,
                                                          .element = UINT32_MAX,
                                                          .file = img->part[t.part].file});
            return;
        }
    }
}

void fuzz_operate(struct fuzz_image *img, struct rng *rng)
{
    uint64_t dice = rng_below(rng, 100);
    unsigned before = img->mutations;
    struct fuzz_target t;

    if (img->parts <= 1) {
        return;
    }
    if (img->config->nglobs == 0) {
        if (dice < 4) {
            operate_size(img, rng);
        } else if (dice < 10) {
            operate_elements(img, rng);
        } else if (dice < 13) {
            operate_pair(img, rng);
        } else if (dice < 15) {
            operate_part(img, rng);
        }
    }
    if (img->mutations == before && fuzz_target_choose(img, rng, &t)) {
        fuzz_operate_on(img, rng, &t);
    }
}
