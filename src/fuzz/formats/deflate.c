/* SPDX-License-Identifier: BSD-2-Clause */
/* See deflate.h. */
#include "fuzz/formats/deflate.h"

#include "base/bytes.h"

struct bits {
    uint8_t *out;
    size_t len;
    uint32_t held; /* not yet written, from the least significant bit */
    unsigned count;
};

static void put_bits(struct bits *b, uint32_t value, unsigned count)
{
    b->held |= value << b->count;
    b->count += count;
    while (b->count >= 8) {
        b->out[b->len++] = (uint8_t)b->held;
        b->held >>= 8;
        b->count -= 8;
    }
}

/* Codes, unlike all else, begin with their most significant bit (RFC 1951, 3.1.1). */
static void put_code(struct bits *b, uint32_t code, unsigned count)
{
    while (count-- > 0) {
        put_bits(b, code >> count & 1, 1);
    }
}

/* The fixed code of literals and lengths (RFC 1951, 3.2.6). */
static void put_symbol(struct bits *b, unsigned symbol)
{
    if (symbol < 144) {
        put_code(b, 0x30 + symbol, 8);
    } else if (symbol < 256) {
        put_code(b, 0x190 + symbol - 144, 9);
    } else if (symbol < 280) {
        put_code(b, symbol - 256, 7);
    } else {
        put_code(b, 0xc0 + symbol - 280, 8);
    }
}

/* Where the codes of a group begin (RFC 1951, 3.2.5): values from @first on, @extra bits each. */
struct group {
    unsigned code, extra, value;
};

/* Lengths: codes 257 on, four of each number of extra bits, from the eighth on. */
static struct group length_group(unsigned length)
{
    struct group g = {257, 0, 3};

    if (length == 258) {
        return (struct group){285, 0, 258};
    }
    while (length >= g.value + (1u << g.extra)) {
        g.value += 1u << g.extra;
        g.code++;
        g.extra = g.code < 265 ? 0 : (g.code - 261) / 4;
    }
    return g;
}

static struct group distance_group(unsigned distance)
{
    struct group g = {0, 0, 1};

    while (distance >= g.value + (1u << g.extra)) {
        g.value += 1u << g.extra;
        g.code++;
        g.extra = g.code < 4 ? 0 : (g.code - 2) / 2;
    }
    return g;
}

static void put_copy(struct bits *b, unsigned length, unsigned distance)
{
    struct group l = length_group(length), d = distance_group(distance);

    put_symbol(b, l.code);
    put_bits(b, length - l.value, l.extra);
    put_code(b, d.code, 5);
    put_bits(b, distance - d.value, d.extra);
}

/* Copies are 3 to 258 bytes; never leave a rest of 1 or 2. */
static unsigned next_copy(size_t rest)
{
    return rest <= 258 ? (unsigned)rest : rest < 261 ? 255 : 258;
}

size_t deflate_repeated(const uint8_t *unit, size_t unit_bytes, size_t total, uint8_t *out)
{
    struct bits b = {.out = out};
    size_t literals = MIN(unit_bytes, total);

    assert(unit_bytes > 0 && unit_bytes <= DEFLATE_UNIT_MAX);
    if (total - literals < 3) { /* too short to copy */
        literals = total;
    }
    put_bits(&b, 1, 1); /* the last block */
    put_bits(&b, 1, 2); /* fixed codes */
    for (size_t i = 0; i < literals; i++) {
        put_symbol(&b, unit[i % unit_bytes]);
    }
    for (size_t rest = total - literals; rest > 0;) {
        unsigned length = next_copy(rest);
        put_copy(&b, length, (unsigned)unit_bytes);
        rest -= length;
    }
    put_symbol(&b, 256);
    put_bits(&b, 0, 7); /* what is left of the last byte */
    return b.len;
}

static uint32_t adler32_repeated(const uint8_t *unit, size_t unit_bytes, size_t total)
{
    uint64_t a = 1, b = 0, sum = 0, weighted = 0;

    for (size_t i = 0; i < unit_bytes; i++) {
        sum += unit[i];
        weighted += unit[i] * (unit_bytes - i);
    }
    for (size_t left = total / unit_bytes; left > 0; left--) { /* a whole unit at once */
        b = (b + unit_bytes * a + weighted) % 65521;
        a = (a + sum) % 65521;
    }
    for (size_t i = 0; i < total % unit_bytes; i++) {
        a = (a + unit[i]) % 65521;
        b = (b + a) % 65521;
    }
    return (uint32_t)(b << 16 | a);
}

size_t zlib_repeated(const uint8_t *unit, size_t unit_bytes, size_t total, uint8_t *out)
{
    out[0] = 0x78; /* deflate, a window of 32 KiB; the two bytes are a multiple of 31 */
    out[1] = 0x01;
    size_t len = deflate_repeated(unit, unit_bytes, total, out + 2);
    put_be32(out + 2 + len, adler32_repeated(unit, unit_bytes, total));
    return len + 6;
}
