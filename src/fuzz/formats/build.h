/* SPDX-License-Identifier: BSD-2-Clause */
/* What the build functions of several formats share. */
#ifndef FUZZ_FORMATS_BUILD_H
#define FUZZ_FORMATS_BUILD_H

#include "fuzz/format.h"
#include "fuzz/guest.h"

/* ---- where things lie ---- */

#define PIECES_MAX 320

struct piece {
    uint64_t bytes, offset;
};

/* Give each piece a place from @start on, in random order; offsets are multiples of @unit behind @start.
 * @gaps: so many times in 100 units are left out. The last piece in the file is the first of the array if
 * @first_last is set. Returns the end. */
uint64_t place_pieces(struct fuzz_image *img, struct piece *pieces, unsigned n, uint64_t start, uint64_t unit,
                      unsigned gaps, bool first_last);

/* At most @n different numbers below @total, ascending: runs and jumps. Returns how many. */
unsigned choose_numbers(struct fuzz_image *img, uint64_t *numbers, unsigned n, uint64_t total);

/* Two levels of tables map the disk: units of guest data are looked up in tables of @per_table entries each.
 */
#define TABLES_MAX 16u
#define UNITS_MAX  128u
struct two_levels {
    uint64_t unit[UNITS_MAX]; /* those that are mapped, ascending */
    unsigned units;
    uint64_t table[TABLES_MAX]; /* the tables they need, ascending */
    unsigned tables;
};
/* Choose up to @units_max units below @total, within @tables_max tables. */
void choose_two_levels(struct fuzz_image *img, struct two_levels *t, uint64_t total, uint64_t per_table,
                       unsigned units_max, unsigned tables_max);
/* Which of .table holds the unit. */
unsigned table_of(const struct two_levels *t, uint64_t unit, uint64_t per_table);

/* The size of a virtual disk: a multiple of @unit, at most @max, of which small ones are as likely as large
 * ones. */
uint64_t choose_size(struct fuzz_image *img, uint64_t unit, uint64_t max);

/* An image below this one, perhaps: its name, written at @offset as raw bytes and placed as "backing_name".
 * What the guest reads begins with it. NULL: there is none. @room: bytes for the name. */
const char *build_backing(struct fuzz_image *img, uint64_t offset, size_t room, uint64_t guest_bytes,
                          const struct fuzz_format **ret_format);

/* ---- fields that are no numbers ---- */

/* At most the field's width of them. */
void put_bytes(struct fuzz_image *img, int part, uint32_t element, const char *field, const void *bytes,
               size_t len);
void put_text(struct fuzz_image *img, int part, uint32_t element, const char *field, const char *text);
/* Text as UTF-16. */
void put_utf16(uint8_t *p, size_t len_max, const char *text, enum field_order order);

/* 16 bytes that the file at @depth is known by; @what tells several apart. Files on top know them too. */
void make_id(const struct fuzz_image *img, unsigned depth, unsigned what, uint8_t ret_id[16]);
/* As text: 36 characters and a 0. */
void id_text(const uint8_t id[16], char ret_text[37]);

/* ---- checksums: fuzz_sum_fn ---- */

void sum_crc32c_le(const uint8_t *data, uint64_t bytes, uint8_t *sum); /* Castagnoli: VHDX */
void sum_crc32_le(const uint8_t *data, uint64_t bytes, uint8_t *sum);  /* IEEE 802.3: GPT */
void sum_vhd(const uint8_t *data, uint64_t bytes, uint8_t *sum); /* ones' complement of the sum of bytes */
void sum_md5(const uint8_t *data, uint64_t bytes, uint8_t *sum);
void sum_sha256(const uint8_t *data, uint64_t bytes, uint8_t *sum);

#endif
