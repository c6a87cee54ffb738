/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed data by an encoder of our own, so that images do not depend on any version of zlib or zstd: data
 * as it is (stored or raw blocks), and the zeroes behind it as runs. Every decoder reads it.
 */
#ifndef FUZZ_COMPRESS_H
#define FUZZ_COMPRESS_H

#include "base/field.h"

/* @len bytes of @data followed by zeroes up to @total, compressed to @out: how long that is. */
size_t fuzz_deflate(const uint8_t *data, size_t len, uint64_t total, uint8_t *out);
size_t fuzz_zstd(const uint8_t *data, size_t len, uint64_t total, uint8_t *out);

/* Room that any of them may need; @len below 64 KiB. */
static inline size_t fuzz_compressed_max(size_t len, uint64_t total)
{
    return len + total / 128 + 320;
}

/* The first bytes of what fuzz_deflate and fuzz_zstd write. */
extern const struct layout fuzz_deflate_layout, fuzz_zstd_layout;

#endif
