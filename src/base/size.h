/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers with units, as users write and read them. */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include "base/util.h"

/* Decimal or 0x hex; with decimal a fraction and one suffix b k K m M g G t T p P e E (powers of
 * 1024, a fraction only with a suffix). Whole string. 0 <= value < 2^63, the language of qemu-io.
 * -EINVAL: not a number or a wrong suffix; -ERANGE: too large. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* As qemu-io prints: "512 bytes", "64 KiB", "1.500 MiB". */
#define SIZE_TEXT_MAX 48
const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]);

/* As qemu-img info prints: three significant digits, "1 GiB", "196 KiB". */
const char *size_text_short(uint64_t bytes, char buf[SIZE_TEXT_MAX]);

/* "2h", "10m", "1.5s", "20ms", "100us", "7ns"; a plain number is seconds. -EINVAL, -ERANGE. */
int duration_parse(const char *text, uint64_t *ret_ns);

#endif
