/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Field tables: every structure on a disk or a wire is described once, and the parser, the writer,
 * the dumper, the checker and the fuzzer read that description. No C struct is ever laid over bytes.
 *
 * A field is a whole number of 1, 2, 4 or 8 bytes, some bits of one, or a run of bytes (a string).
 * Whole numbers and bits have a place in a C struct of the caller's; runs of bytes have none.
 */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include <jansson.h>

#include "base/err.h"

enum field_kind {
    FIELD_NUMBER,
    FIELD_MAGIC,    /* must be .min */
    FIELD_CODE,     /* a number that names something: shown in hex */
    FIELD_OFFSET,   /* a place in the file, in bytes */
    FIELD_LENGTH,   /* a length in bytes */
    FIELD_COUNT,    /* a number of things */
    FIELD_SHIFT,    /* a power of two by its exponent */
    FIELD_ENUM,     /* .values names them, from 0 */
    FIELD_FLAGS,    /* .values names the bits, from bit 0 */
    FIELD_TIME,     /* seconds or nanoseconds */
    FIELD_CHECKSUM, /* over the rest of the structure */
    FIELD_RESERVED, /* zero */
    FIELD_BYTES,    /* a run of bytes, as a rule text */
};

enum field_order { FIELD_BE, FIELD_LE };

struct field {
    const char *name;
    enum field_kind kind;
    uint32_t offset;   /* in bytes, from the beginning of the structure */
    uint32_t width;    /* in bytes; FIELD_BYTES: its length, 0 when another field tells it */
    uint64_t mask;     /* the bits of the word that are the field's; 0: all */
    uint8_t shift;     /* the bits' value is (word & mask) >> shift */
    uint8_t since;     /* first version of the structure that has it */
    uint8_t order;     /* enum field_order */
    uint8_t align;     /* FIELD_OFFSET: 1 if it must be a multiple of the unit given to the checker */
    uint32_t unit;     /* FIELD_OFFSET, FIELD_LENGTH: bytes that 1 stands for; 0: 1 */
    uint64_t min, max; /* valid values; max 0: any */
    size_t member, member_bytes; /* its place in the C struct; member_bytes 0: none */
    const char *const *values;   /* FIELD_ENUM, FIELD_FLAGS: ends with NULL */
    const char *what;            /* for people: "size of the virtual disk in bytes" */
};

struct layout {
    const char *name;
    const struct field *fields; /* ends with {0} */
    uint32_t bytes;             /* of the fixed part */
    size_t struct_bytes;        /* of the C struct the members lie in */
};

/* Members of a table's row. */
#define FIELD_AT(type, m) .member = offsetof(type, m), .member_bytes = sizeof(((type *)0)->m)

/* One field of the structure that begins at @bytes. */
uint64_t field_get(const struct field *f, const void *bytes);
/* Bits outside the field's mask stay. */
void field_put(const struct field *f, void *bytes, uint64_t value);

/* The field's place in the C struct. */
uint64_t field_member(const struct field *f, const void *object);
void field_set_member(const struct field *f, void *object, uint64_t value);

/* Parse @len bytes into @object. Fields newer than @version, or that do not lie wholly within @len,
 * are set to 0. */
void layout_parse(const struct layout *l, const void *bytes, size_t len, unsigned version, void *object);
/* Write every field of @version that lies wholly within @len; other bytes stay as they are. */
void layout_write(const struct layout *l, const void *object, unsigned version, void *bytes, size_t len);
/* The first field of @version whose value is out of range: -EINVAL and a sentence. @unit: what
 * aligned offsets are multiples of (0: not checked). */
int layout_check(const struct layout *l, const void *object, unsigned version, uint64_t unit,
                 struct err *err);
/* Everything that lies within @len as a JSON object: numbers, names of flags, text. */
json_t *layout_dump(const struct layout *l, const void *bytes, size_t len, unsigned version);

const struct field *layout_field(const struct layout *l, const char *name);

#endif
