/* SPDX-License-Identifier: BSD-2-Clause */
/* The checksums of the formats; see build.h. Nothing here depends on the host. */
#include "fuzz/formats/build.h"

#define SLICES 8 /* bytes taken at a time */

/* Bits are taken from the least significant one on, so the polynomial stands mirrored. table[k] is about a
 * byte that k others follow. */
static void make_tables(uint32_t polynomial, uint32_t table[SLICES][256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++) {
            v = (v >> 1) ^ (v & 1 ? polynomial : 0);
        }
        table[0][i] = v;
    }
    for (int k = 1; k < SLICES; k++) {
        for (uint32_t i = 0; i < 256; i++) {
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
        }
    }
}

static uint32_t crc32_mirrored(uint32_t polynomial, const uint8_t *data, uint64_t bytes)
{
    uint32_t table[SLICES][256], crc = UINT32_MAX;

    make_tables(polynomial, table);
    for (; bytes >= SLICES; bytes -= SLICES, data += SLICES) {
        uint64_t v = get_le64(data) ^ crc;
        crc = 0;
        for (int k = 0; k < SLICES; k++) {
            crc ^= table[SLICES - 1 - k][v >> 8 * k & 0xff];
        }
    }
    for (; bytes > 0; bytes--, data++) {
        crc = crc >> 8 ^ table[0][(crc ^ *data) & 0xff];
    }
    return ~crc;
}

void sum_crc32c_le(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    put_le32(sum, crc32_mirrored(0x82f63b78, data, bytes));
}

void sum_crc32_le(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    put_le32(sum, crc32_mirrored(0xedb88320, data, bytes));
}

void sum_vhd(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    uint32_t total = 0;

    for (uint64_t i = 0; i < bytes; i++) {
        total += data[i];
    }
    put_be32(sum, ~total);
}
