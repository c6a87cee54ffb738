/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The headers there are, as tables, and how they are told apart. Version 1 is in the byte order of the
 * host that wrote it, versions 2 and 3 are big-endian; version 3 of 64-bit builds before December 2005
 * has an eight-byte mtime and all that follows four bytes later.
 */
#include "drivers/cow/cow.h"

#define H(m) .member = offsetof(struct cow_header, m), .member_bytes = sizeof(((struct cow_header *)0)->m)

#define MAGIC(o)                                                                                             \
    {                                                                                                        \
        .name = "magic", .kind = FIELD_MAGIC, .offset = 0, .width = 4, .order = (o), .min = COW_MAGIC,       \
        H(magic)                                                                                             \
    }
#define VERSION(o)                                                                                           \
    {                                                                                                        \
        .name = "version", .kind = FIELD_NUMBER, .offset = 4, .width = 4, .order = (o), H(version)           \
    }
#define MTIME(at, o)                                                                                         \
    {                                                                                                        \
        .name = "mtime", .kind = FIELD_TIME, .offset = (at), .width = 4, .order = (o), H(mtime),             \
        .what = "last change of the backing file, seconds since 1970"                                        \
    }
#define SIZE(at, o)                                                                                          \
    {                                                                                                        \
        .name = "size", .kind = FIELD_LENGTH, .offset = (at), .width = 8, .order = (o), H(size),             \
        .what = "size of the backing file and of the disk in bytes"                                          \
    }
#define SECTOR(at, o)                                                                                        \
    {                                                                                                        \
        .name = "sectorsize", .kind = FIELD_LENGTH, .offset = (at), .width = 4, .order = (o),                \
        H(sector_bytes), .what = "bytes that one bit stands for"                                             \
    }
#define PATH(at, n)                                                                                          \
    {                                                                                                        \
        .name = "backing_file", .kind = FIELD_BYTES, .offset = (at), .width = (n),                           \
        .what = "path of the backing file"                                                                   \
    }

static const struct field v1_le[] = {
    MAGIC(FIELD_LE),     VERSION(FIELD_LE),     PATH(8, 256), MTIME(264, FIELD_LE),
    SIZE(268, FIELD_LE), SECTOR(276, FIELD_LE), {0},
};
static const struct field v1_be[] = {
    MAGIC(FIELD_BE),     VERSION(FIELD_BE),     PATH(8, 256), MTIME(264, FIELD_BE),
    SIZE(268, FIELD_BE), SECTOR(276, FIELD_BE), {0},
};
static const struct field v2[] = {
    MAGIC(FIELD_BE),      VERSION(FIELD_BE),      PATH(8, 4096), MTIME(4104, FIELD_BE),
    SIZE(4108, FIELD_BE), SECTOR(4116, FIELD_BE), {0},
};

#define ALIGNMENT(at)                                                                                        \
    {                                                                                                        \
        .name = "alignment", .kind = FIELD_LENGTH, .offset = (at), .width = 4, H(align)                      \
    }
#define FORMAT(at)                                                                                           \
    {                                                                                                        \
        .name = "cow_format", .kind = FIELD_NUMBER, .offset = (at), .width = 4, H(format)                    \
    }

static const struct field v3[] = {
    MAGIC(FIELD_BE),    VERSION(FIELD_BE),    MTIME(8, FIELD_BE),
    SIZE(12, FIELD_BE), SECTOR(20, FIELD_BE), ALIGNMENT(24),
    FORMAT(28),         PATH(32, 4096),       {0},
};
static const struct field v3_broken[] = {
    MAGIC(FIELD_BE),    VERSION(FIELD_BE),    MTIME(8, FIELD_BE),
    SIZE(16, FIELD_BE), SECTOR(24, FIELD_BE), ALIGNMENT(28),
    FORMAT(32),         PATH(36, 4096),       {0},
};

#define LAYOUT(n, f, b)                                                                                      \
    {                                                                                                        \
        .name = (n), .fields = (f), .bytes = (b), .struct_bytes = sizeof(struct cow_header)                  \
    }

const struct layout cow_layouts[COW_LAYOUTS] = {
    [COW_V1_LE] = LAYOUT("COW v1, little-endian", v1_le, 280),
    [COW_V1_BE] = LAYOUT("COW v1, big-endian", v1_be, 280),
    [COW_V2] = LAYOUT("COW v2", v2, 4120),
    [COW_V3] = LAYOUT("COW v3", v3, 4128),
    [COW_V3_BROKEN] = LAYOUT("COW v3 of an old 64-bit build", v3_broken, 4136),
};

static unsigned version_of(enum cow_layout layout)
{
    return layout <= COW_V1_BE ? 1 : layout == COW_V2 ? 2 : 3;
}

static uint64_t number_at(enum cow_layout layout, const uint8_t *buf, const char *name)
{
    return field_get(layout_field(&cow_layouts[layout], name), buf);
}

/* ---- foreign relatives of version 2, for a clear refusal ---- */

static const struct {
    uint32_t size_at, sector_at;
    const char *who;
} unpacked[] = {
    {1036, 1044, "QEMU on a 32-bit host"},
    {1040, 1048, "QEMU on a 64-bit host"},
    {4112, 4120, "a 64-bit User-Mode Linux with an unpacked header"},
};

static const char *who_unpacked(const uint8_t *buf)
{
    for (size_t i = 0; i < ARRAY_SIZE(unpacked); i++) {
        const struct field size = SIZE(unpacked[i].size_at, FIELD_BE);
        const struct field sector = SECTOR(unpacked[i].sector_at, FIELD_BE);
        uint64_t bytes = field_get(&size, buf);
        if (field_get(&sector, buf) == SECTOR_SIZE && bytes > 0 && bytes <= BLOCK_SIZE_MAX) {
            return unpacked[i].who;
        }
    }
    return NULL;
}

static int recognise_v2(const uint8_t *buf, size_t len, enum cow_layout *ret_layout, struct err *err)
{
    if (len >= COW_HEADER_BYTES_MAX && number_at(COW_V2, buf, "sectorsize") != SECTOR_SIZE) {
        const char *who = who_unpacked(buf);
        if (who) {
            return err_set(err, -ENOTSUP,
                           "COW version 2 as %s wrote it: no other host can read that layout, and "
                           "Linux never defined it",
                           who);
        }
    }
    *ret_layout = COW_V2;
    return 0;
}

/* A path never begins with four zero bytes: those are the high half of a cow_format four bytes on. */
static bool is_broken_v3(const uint8_t *buf, size_t len)
{
    static const uint8_t zeroes[4];

    return len >= 36 && memcmp(buf + 32, zeroes, sizeof(zeroes)) == 0;
}

int cow_recognise(const uint8_t *buf, size_t len, enum cow_layout *ret_layout, struct err *err)
{
    if (len < 280) {
        return err_set(err, -EINVAL, "not a COW file: too short for a header");
    }
    if (number_at(COW_V1_LE, buf, "magic") == COW_MAGIC) {
        uint64_t version = number_at(COW_V1_LE, buf, "version");
        if (version != 1) {
            return err_set(err, -EINVAL, "COW version %llu with a little-endian header: expected version 1",
                           (unsigned long long)version);
        }
        *ret_layout = COW_V1_LE;
        return 0;
    }
    if (number_at(COW_V1_BE, buf, "magic") != COW_MAGIC) {
        return err_set(err, -EINVAL, "not a COW file: the magic number is missing");
    }
    uint64_t version = number_at(COW_V1_BE, buf, "version");
    switch (version) {
    case 1:
        *ret_layout = COW_V1_BE;
        return 0;
    case 2:
        return recognise_v2(buf, len, ret_layout, err);
    case 3:
        *ret_layout = is_broken_v3(buf, len) ? COW_V3_BROKEN : COW_V3;
        return 0;
    default:
        return err_set(err, -ENOTSUP, "COW version %llu: expected 1, 2 or 3", (unsigned long long)version);
    }
}

/* ---- parsing ---- */

static int check(enum cow_layout layout, const struct cow_header *h, struct err *err)
{
    if (h->size == 0 || h->size > BLOCK_SIZE_MAX) {
        return err_set(err, -EINVAL, "COW header: the size %llu is out of range",
                       (unsigned long long)h->size);
    }
    if (h->sector_bytes < SECTOR_SIZE || h->sector_bytes > COW_SECTOR_MAX || !is_pow2(h->sector_bytes)) {
        return err_set(err, -EINVAL,
                       "COW header: the sector size %llu is not a power of two from 512 to 65536",
                       (unsigned long long)h->sector_bytes);
    }
    if (version_of(layout) < 3) {
        return 0;
    }
    if (h->align == 0 || h->align > COW_ALIGN_MAX) {
        return err_set(err, -EINVAL, "COW header: the alignment %llu is not from 1 to %llu",
                       (unsigned long long)h->align, (unsigned long long)COW_ALIGN_MAX);
    }
    if (h->format != 0) {
        return err_set(err, -ENOTSUP, "COW header: the format %llu is not known: expected 0 (bitmap)",
                       (unsigned long long)h->format);
    }
    return 0;
}

int cow_parse(enum cow_layout layout, const uint8_t *buf, struct cow_header *ret_header, char **ret_path,
              struct err *err)
{
    const struct layout *l = &cow_layouts[layout];
    const struct field *path = layout_field(l, "backing_file");
    struct cow_header h = {0};

    layout_parse(l, buf, l->bytes, version_of(layout), &h);
    int r = check(layout, &h, err);
    if (r < 0) {
        return r;
    }
    const char *name = (const char *)buf + path->offset;
    size_t len = strnlen(name, path->width);
    if (len == 0 || len == path->width) {
        return err_set(err, -EINVAL, "COW header: the path of the backing file is %s",
                       len == 0 ? "empty" : "not terminated");
    }
    char *copy = strdup(name);
    if (!copy) {
        return err_set(err, -ENOMEM, "no memory for a file name");
    }
    *ret_path = copy;
    *ret_header = h;
    return 0;
}

struct cow_geometry cow_geometry(enum cow_layout layout, const struct cow_header *h)
{
    uint64_t header_bytes = cow_layouts[layout].bytes;

    if (version_of(layout) < 3) {
        /* Rounded down where up was meant: the last one to seven sectors may have no bit. */
        uint64_t bytes = (h->size + h->sector_bytes - 1) / (8 * h->sector_bytes);
        return (struct cow_geometry){header_bytes, bytes, round_up(header_bytes + bytes, h->sector_bytes)};
    }
    uint64_t bitmap = round_up(header_bytes, h->align);
    uint64_t bytes = div_up(div_up(h->size, h->sector_bytes), 8);
    return (struct cow_geometry){bitmap, bytes, round_up(bitmap + bytes, h->align)};
}
