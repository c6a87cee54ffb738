/* SPDX-License-Identifier: BSD-2-Clause */
/* The checksums of the formats; see build.h. Nothing here depends on the host. */
#include "fuzz/formats/build.h"

/* Bits are taken from the least significant one on, so the polynomial stands mirrored. */
static uint32_t crc32_mirrored(uint32_t polynomial, const uint8_t *data, uint64_t bytes)
{
    uint32_t table[256], crc = UINT32_MAX;

    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) {
            table[i] = (table[i] >> 1) ^ (table[i] & 1 ? polynomial : 0);
        }
    }
    for (uint64_t i = 0; i < bytes; i++) {
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
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
