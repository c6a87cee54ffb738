/* SPDX-License-Identifier: BSD-2-Clause */
/* See build.h. */
#include "fuzz/formats/build.h"

#include <stdio.h>

static void swap_pieces(struct piece **a, struct piece **b)
{
    struct piece *c = *a;

    *a = *b;
    *b = c;
}

uint64_t place_pieces(struct fuzz_image *img, struct piece *pieces, unsigned n, uint64_t start, uint64_t unit,
                      unsigned gaps, bool first_last)
{
    struct piece *order[PIECES_MAX];
    uint64_t at = start;

    assert(n <= PIECES_MAX);
    for (unsigned i = 0; i < n; i++) {
        order[i] = &pieces[i];
    }
    for (unsigned i = n; i > 1; i--) {
        swap_pieces(&order[i - 1], &order[fuzz_below(img, i)]);
    }
    for (unsigned i = 0; first_last && i < n; i++) {
        if (order[i] == &pieces[0]) {
            swap_pieces(&order[i], &order[n - 1]);
            break;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (gaps && fuzz_below(img, 100) < gaps) {
            at += unit;
        }
        order[i]->offset = at;
        at += round_up(order[i]->bytes, unit);
    }
    return at;
}

unsigned choose_numbers(struct fuzz_image *img, uint64_t *numbers, unsigned n, uint64_t total)
{
    unsigned count = 0;

    for (uint64_t next = 0; count < n; next++) {
        if (fuzz_below(img, 2) && next < total) { /* a jump, near or far */
            unsigned bits = 64 - (unsigned)__builtin_clzll(total - next);
            next += fuzz_below(img, UINT64_C(1) << fuzz_below(img, bits));
        }
        if (next >= total) {
            break;
        }
        numbers[count++] = next;
    }
    return count;
}

void choose_two_levels(struct fuzz_image *img, struct two_levels *t, uint64_t total, uint64_t per_table,
                       unsigned units_max, unsigned tables_max)
{
    unsigned chosen = choose_numbers(img, t->unit, MIN(units_max, UNITS_MAX), total);

    t->units = t->tables = 0;
    for (unsigned i = 0; i < chosen; i++) {
        uint64_t table = t->unit[i] / per_table;
        if (t->tables == 0 || t->table[t->tables - 1] != table) {
            if (t->tables == MIN(tables_max, TABLES_MAX)) {
                break;
            }
            t->table[t->tables++] = table;
        }
        t->units++;
    }
}

unsigned table_of(const struct two_levels *t, uint64_t unit, uint64_t per_table)
{
    unsigned i = 0;

    while (i < t->tables && t->table[i] != unit / per_table) {
        i++;
    }
    assert(i < t->tables);
    return i;
}

uint64_t choose_size(struct fuzz_image *img, uint64_t unit, uint64_t max)
{
    uint64_t units = MAX(max / unit, UINT64_C(1));
    unsigned bits = 64 - (unsigned)__builtin_clzll(units);
    uint64_t top = UINT64_C(1) << fuzz_pick(img, "size_bits", 1, bits);

    return unit * MIN(units, 1 + fuzz_below(img, top));
}

const char *build_backing(struct fuzz_image *img, uint64_t offset, size_t room, uint64_t guest_bytes,
                          const struct fuzz_format **ret_format)
{
    *ret_format = NULL;
    if (!fuzz_chance(img, "backing", 30)) {
        return NULL;
    }
    const struct fuzz_format *format = fuzz_backing_format(img);
    const char *name = format ? fuzz_beside(img, "backing", format) : NULL;
    size_t len = name ? strlen(name) : 0;
    if (!name || len > room) {
        return NULL;
    }
    memcpy(fuzz_at(img, offset, len), name, len);
    fuzz_place_bytes(img, "backing_name", -1, offset, len);
    fuzz_guest_from(img, 0, guest_bytes, name, 0);
    *ret_format = format;
    return name;
}

void put_bytes(struct fuzz_image *img, int part, uint32_t element, const char *field, const void *bytes,
               size_t len)
{
    const struct fuzz_part *p = fuzz_part_of(img, part);

    if (!p) {
        return;
    }
    const struct field *f = layout_field(p->layout, field);
    assert(f && f->kind == FIELD_BYTES);
    uint64_t at = p->offset + (uint64_t)element * p->layout->bytes + f->offset;
    memcpy(fuzz_at(img, at, f->width), bytes, MIN(len, f->width));
}

void put_text(struct fuzz_image *img, int part, uint32_t element, const char *field, const char *text)
{
    put_bytes(img, part, element, field, text, strlen(text));
}

void put_utf16(uint8_t *p, size_t len_max, const char *text, enum field_order order)
{
    for (size_t i = 0; text[i] && 2 * i + 2 <= len_max; i++) {
        p[2 * i + (order == FIELD_BE)] = (uint8_t)text[i];
    }
}

void make_id(const struct fuzz_image *img, unsigned depth, unsigned what, uint8_t ret_id[16])
{
    struct rng r;

    rng_init(&r,
             fuzz_seed(img) ^ UINT64_C(0x6964000000000000) ^ (uint64_t)depth << 40 ^ (uint64_t)what << 32);
    put_le64(ret_id, rng_u64(&r));
    put_le64(ret_id + 8, rng_u64(&r));
    ret_id[7] = (uint8_t)((ret_id[7] & 0x0f) | 0x40); /* RFC 4122: a random one, as a GUID */
    ret_id[6] = (uint8_t)((ret_id[6] & 0x0f) | 0x40); /* and as a UUID */
    ret_id[8] = (uint8_t)((ret_id[8] & 0x3f) | 0x80);
}

void id_text(const uint8_t id[16], char ret_text[37])
{
    char *p = ret_text;

    for (unsigned i = 0; i < 16; i++) {
        p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
    }
}
