/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A deflate encoder (RFC 1951) for content that we choose: the same bytes with every version of zlib,
 * which is not asked. A unit that repeats is sent once, then copied; so the result is short, where a stored
 * block never is.
 */
#ifndef FUZZ_FORMATS_DEFLATE_H
#define FUZZ_FORMATS_DEFLATE_H

#include "base/util.h"

#define DEFLATE_UNIT_MAX 512u /* small enough for the smallest window there is */

/* Room for @unit_bytes of literals and @total bytes made of copies. */
static inline size_t deflate_room(size_t unit_bytes, size_t total)
{
    return 16 + unit_bytes * 9 / 8 + total / 64;
}

/* Encode @total bytes: @unit, again and again, cut off at the end. One block with the fixed codes. Returns
 * the length; @out has deflate_room(). */
size_t deflate_repeated(const uint8_t *unit, size_t unit_bytes, size_t total, uint8_t *out);

/* The same between the header and the checksum of zlib (RFC 1950): 6 bytes more. */
size_t zlib_repeated(const uint8_t *unit, size_t unit_bytes, size_t total, uint8_t *out);

#endif
