/* SPDX-License-Identifier: BSD-2-Clause */
/* Field tables; see field.h. All access to bytes goes through the accessors of bytes.h. */
#include "base/field.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"

static bool is_bytes(const struct field *f)
{
    return f->kind == FIELD_BYTES;
}

static uint64_t get_word(const struct field *f, const uint8_t *p)
{
    switch (f->width) {
    case 1:
        return *p;
    case 2:
        return f->order == FIELD_BE ? get_be16(p) : get_le16(p);
    case 4:
        return f->order == FIELD_BE ? get_be32(p) : get_le32(p);
    default:
        assert(f->width == 8);
        return f->order == FIELD_BE ? get_be64(p) : get_le64(p);
    }
}

static void put_word(const struct field *f, uint8_t *p, uint64_t v)
{
    switch (f->width) {
    case 1:
        *p = (uint8_t)v;
        break;
    case 2:
        f->order == FIELD_BE ? put_be16(p, (uint16_t)v) : put_le16(p, (uint16_t)v);
        break;
    case 4:
        f->order == FIELD_BE ? put_be32(p, (uint32_t)v) : put_le32(p, (uint32_t)v);
        break;
    default:
        assert(f->width == 8);
        f->order == FIELD_BE ? put_be64(p, v) : put_le64(p, v);
    }
}

uint64_t field_get(const struct field *f, const void *bytes)
{
    uint64_t word = get_word(f, (const uint8_t *)bytes + f->offset);

    return f->mask ? (word & f->mask) >> f->shift : word;
}

void field_put(const struct field *f, void *bytes, uint64_t value)
{
    uint8_t *p = (uint8_t *)bytes + f->offset;

    if (f->mask) {
        value = (get_word(f, p) & ~f->mask) | ((value << f->shift) & f->mask);
    }
    put_word(f, p, value);
}

uint64_t field_member(const struct field *f, const void *object)
{
    const char *p = (const char *)object + f->member;

    switch (f->member_bytes) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        return *(const uint16_t *)p;
    case 4:
        return *(const uint32_t *)p;
    default:
        assert(f->member_bytes == 8);
        return *(const uint64_t *)p;
    }
}

void field_set_member(const struct field *f, void *object, uint64_t value)
{
    char *p = (char *)object + f->member;

    switch (f->member_bytes) {
    case 1:
        *(uint8_t *)p = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)p = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)p = (uint32_t)value;
        break;
    default:
        assert(f->member_bytes == 8);
        *(uint64_t *)p = value;
    }
}

static bool is_present(const struct field *f, size_t len, unsigned version)
{
    return version >= f->since && f->width <= len && f->offset <= len - f->width;
}

void layout_parse(const struct layout *l, const void *bytes, size_t len, unsigned version, void *object)
{
    for (const struct field *f = l->fields; f->name; f++) {
        if (f->member_bytes) {
            field_set_member(f, object, is_present(f, len, version) ? field_get(f, bytes) : 0);
        }
    }
}

void layout_write(const struct layout *l, const void *object, unsigned version, void *bytes, size_t len)
{
    for (const struct field *f = l->fields; f->name; f++) {
        if (f->member_bytes && is_present(f, len, version)) {
            field_put(f, bytes, field_member(f, object));
        }
    }
}

static int check_field(const struct layout *l, const struct field *f, uint64_t v, uint64_t unit,
                       struct err *err)
{
    if (f->kind == FIELD_MAGIC && v != f->min) {
        return err_set(err, -EINVAL, "%s: %s is 0x%" PRIx64 ", not 0x%" PRIx64, l->name, f->name, v, f->min);
    }
    if (f->kind != FIELD_MAGIC && f->max && (v < f->min || v > f->max)) {
        return err_set(err, -EINVAL, "%s: %s is %" PRIu64 ": expected %" PRIu64 " to %" PRIu64, l->name,
                       f->name, v, f->min, f->max);
    }
    if (f->kind == FIELD_OFFSET && f->align && unit && v % unit) {
        return err_set(err, -EINVAL, "%s: %s is 0x%" PRIx64 ": expected a multiple of %" PRIu64, l->name,
                       f->name, v, unit);
    }
    return 0;
}

int layout_check(const struct layout *l, const void *object, unsigned version, uint64_t unit, struct err *err)
{
    for (const struct field *f = l->fields; f->name; f++) {
        if (f->member_bytes && version >= f->since) {
            int r = check_field(l, f, field_member(f, object), unit, err);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static json_t *dump_flags(const struct field *f, uint64_t v)
{
    json_t *list = json_array();
    unsigned named = 0;

    for (unsigned bit = 0; bit < 64; bit++) {
        char unknown[24];
        const char *name = NULL;
        if (f->values && named == bit && f->values[bit]) {
            name = f->values[named++];
        }
        if (!(v >> bit & 1)) {
            continue;
        }
        snprintf(unknown, sizeof(unknown), "bit %u", bit);
        json_array_append_new(list, json_string(name ? name : unknown));
    }
    return list;
}

static json_t *dump_enum(const struct field *f, uint64_t v)
{
    for (uint64_t i = 0; f->values && f->values[i]; i++) {
        if (i == v) {
            return json_string(f->values[i]);
        }
    }
    return json_integer((json_int_t)v);
}

/* Text as far as it is UTF-8; else hex. */
static json_t *dump_bytes(const uint8_t *p, size_t len)
{
    size_t text = strnlen((const char *)p, len);
    json_t *j = json_stringn((const char *)p, text);

    if (j) {
        return j;
    }
    AUTO_FREE char *hex = malloc(2 * len + 1);
    for (size_t i = 0; hex && i < len; i++) {
        sprintf(hex + 2 * i, "%02x", p[i]);
    }
    return hex ? json_string(hex) : NULL;
}

static json_t *dump_field(const struct field *f, const void *bytes)
{
    char text[24];

    if (is_bytes(f)) {
        return dump_bytes((const uint8_t *)bytes + f->offset, f->width);
    }
    uint64_t v = field_get(f, bytes);
    switch (f->kind) {
    case FIELD_FLAGS:
        return dump_flags(f, v);
    case FIELD_ENUM:
        return dump_enum(f, v);
    case FIELD_MAGIC:
    case FIELD_CODE:
    case FIELD_CHECKSUM:
        snprintf(text, sizeof(text), "0x%" PRIx64, v);
        return json_string(text);
    default:
        if (v > INT64_MAX) { /* more than JSON's integers here hold */
            snprintf(text, sizeof(text), "0x%" PRIx64, v);
            return json_string(text);
        }
        return json_integer((json_int_t)v);
    }
}

json_t *layout_dump(const struct layout *l, const void *bytes, size_t len, unsigned version)
{
    json_t *o = json_object();

    for (const struct field *f = l->fields; o && f->name; f++) {
        bool empty = f->kind == FIELD_RESERVED || (is_bytes(f) && f->width == 0);
        if (!empty && is_present(f, len, version)) {
            json_object_set_new(o, f->name, dump_field(f, bytes));
        }
    }
    return o;
}

const struct field *layout_field(const struct layout *l, const char *name)
{
    for (const struct field *f = l->fields; f->name; f++) {
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}
