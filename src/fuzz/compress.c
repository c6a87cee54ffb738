/* SPDX-License-Identifier: BSD-2-Clause */
/* Compressed data (compress.h): RFC 1951 and 8878, the parts of them that need no search. */
#include "fuzz/compress.h"

#include "base/bytes.h"
#include "base/util.h"

static const struct field deflate_fields[] = {
    {"block", FIELD_CODE, 0, 1, .what = "last block; stored, fixed or dynamic codes"},
    {"len", FIELD_LENGTH, 1, 2, .order = FIELD_LE, .what = "of the stored bytes"},
    {"nlen", FIELD_CHECKSUM, 3, 2, .order = FIELD_LE, .what = "its complement"},
    {0},
};
const struct layout fuzz_deflate_layout = {"deflate stored block", deflate_fields, 5, 0};

static const struct field zstd_fields[] = {
    {"magic", FIELD_MAGIC, 0, 4, .order = FIELD_LE, .min = 0xfd2fb528},
    {"descriptor", FIELD_CODE, 4, 1, .what = "which fields the frame's header has"},
    {"content_size", FIELD_LENGTH, 5, 4, .order = FIELD_LE, .what = "of the frame, decompressed"},
    {"block", FIELD_CODE, 9, 1, .what = "last block, its type, low bits of its size"},
    {"block_size", FIELD_LENGTH, 10, 2, .order = FIELD_LE, .what = "high bits of the block's size"},
    {0},
};
const struct layout fuzz_zstd_layout = {"zstd frame", zstd_fields, 12, 0};

/* ---- deflate: bits from the lowest on ---- */

struct bits {
    uint8_t *out;
    size_t at;
    uint32_t word;
    unsigned n;
};

static void put_bits(struct bits *b, uint32_t value, unsigned n)
{
    b->word |= value << b->n;
    for (b->n += n; b->n >= 8; b->n -= 8) {
        b->out[b->at++] = (uint8_t)b->word;
        b->word >>= 8;
    }
}

static void put_stored(struct bits *b, const uint8_t *data, size_t len, bool last)
{
    put_bits(b, last, 1);
    put_bits(b, 0, 2);
    put_bits(b, 0, (8 - b->n) % 8);
    put_le16(b->out + b->at, (uint16_t)len);
    put_le16(b->out + b->at + 2, (uint16_t)~len);
    memcpy(b->out + b->at + 4, data, len);
    b->at += 4 + len;
}

/* Zeroes: one literal, then "258 bytes as one byte before", then single ones. Fixed codes (RFC 1951, 3.2.6),
 * their first bit lowest: literal 0 is 00110000, length 258 is 11000101, distance 1 is 00000, the end is
 * 0000000. */
static void put_zeroes(struct bits *b, uint64_t n)
{
    put_bits(b, 1, 1);
    put_bits(b, 1, 2);
    if (n > 0) {
        put_bits(b, 0x0c, 8);
        n--;
    }
    for (; n >= 258; n -= 258) {
        put_bits(b, 0xa3, 8 + 5);
    }
    for (; n > 0; n--) {
        put_bits(b, 0x0c, 8);
    }
    put_bits(b, 0, 7);
    put_bits(b, 0, (8 - b->n) % 8);
}

size_t fuzz_deflate(const uint8_t *data, size_t len, uint64_t total, uint8_t *out)
{
    struct bits b = {.out = out};

    assert(len <= UINT16_MAX);
    assert(len <= total);
    put_stored(&b, data, len, len == total);
    if (len < total) {
        put_zeroes(&b, total - len);
    }
    return b.at;
}

/* ---- zstd ---- */

static size_t put_block_header(uint8_t *out, bool last, unsigned type, uint32_t size)
{
    uint32_t header = (uint32_t)last | type << 1 | size << 3;

    out[0] = (uint8_t)header;
    out[1] = (uint8_t)(header >> 8);
    out[2] = (uint8_t)(header >> 16);
    return 3;
}

size_t fuzz_zstd(const uint8_t *data, size_t len, uint64_t total, uint8_t *out)
{
    enum { RAW, RLE };
    uint64_t zeroes = total - len, block_max = MIN(total, 128 * KiB);
    size_t n = 0;

    assert(len <= block_max);
    assert(total <= UINT32_MAX);
    put_le32(out, 0xfd2fb528);
    out[4] = 0xa0; /* one segment, its size in four bytes */
    put_le32(out + 5, (uint32_t)total);
    n = 9;
    n += put_block_header(out + n, zeroes == 0, RAW, (uint32_t)len);
    memcpy(out + n, data, len);
    n += len;
    while (zeroes > 0) {
        uint64_t run = MIN(zeroes, block_max);
        zeroes -= run;
        n += put_block_header(out + n, zeroes == 0, RLE, (uint32_t)run);
        out[n++] = 0;
    }
    return n;
}
