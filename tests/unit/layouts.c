/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parsers and writers of qcow2 and COW structures against golden bytes, made by hand from the
 * specifications. Uses nothing but the C library, because it also runs built for a 32-bit and for a
 * big-endian machine (scripts/check arch): what is on a disk means the same everywhere.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "drivers/cow/cow.h"
#include "drivers/qcow2/qcow2.h"

static int number, failed;
static bool good;

#define CHECK(x)                                                                                             \
    do {                                                                                                     \
        if (!(x)) {                                                                                          \
            printf("# line %d: %s\n", __LINE__, #x);                                                         \
            good = false;                                                                                    \
        }                                                                                                    \
    } while (0)

static void run(const char *name, void (*fn)(void))
{
    good = true;
    fn();
    failed += !good;
    printf("%sok %d - %s\n", good ? "" : "not ", ++number, name);
}

/* ---- qcow2 ---- */

/* Every field has a value of its own, and every byte of it is different where the range allows. */
static const uint8_t header_bytes[112] = {
    'Q',  'F',  'I',  0xfb, 0x00, 0x00, 0x00, 0x03, /* magic, version 3 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x48, /* backing file name at 584 */
    0x00, 0x00, 0x00, 0x0b, 0x00, 0x00, 0x00, 0x10, /* 11 bytes of it; 64 KiB clusters */
    0x00, 0x00, 0x00, 0x04, 0x80, 0x00, 0x02, 0x00, /* size: 18 GiB + 512 */
    0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x25, /* LUKS; 37 L1 entries */
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x00, 0x00, /* L1 table */
    0x00, 0x11, 0x12, 0x13, 0x14, 0x15, 0x00, 0x00, /* refcount table */
    0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x01, 0x02, /* 3 clusters of it; 258 snapshots */
    0x00, 0x21, 0x22, 0x23, 0x24, 0x25, 0x00, 0x00, /* snapshot table */
    0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1d, /* incompatible: 63, 4, 3, 2, 0 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, /* lazy refcounts */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, /* autoclear */
    0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x70, /* 64-bit refcounts; 112 bytes of header */
    0x01, 0,    0,    0,    0,    0,    0,    0,    /* zstd */
};

static void qcow2_header_parses(void)
{
    struct qcow2_header h = {0};

    layout_parse(&qcow2_header_layout, header_bytes, sizeof(header_bytes), 3, &h);
    CHECK(h.magic == 0x514649fb);
    CHECK(h.version == 3);
    CHECK(h.backing_offset == 584);
    CHECK(h.backing_bytes == 11);
    CHECK(h.cluster_bits == 16);
    CHECK(h.size == UINT64_C(18) * 1024 * 1024 * 1024 + 512);
    CHECK(h.crypt_method == 2);
    CHECK(h.l1_entries == 37);
    CHECK(h.l1_offset == UINT64_C(0x0001020304050000));
    CHECK(h.reftable_offset == UINT64_C(0x0011121314150000));
    CHECK(h.reftable_clusters == 3);
    CHECK(h.snapshots == 258);
    CHECK(h.snapshots_offset == UINT64_C(0x0021222324250000));
    CHECK(h.incompatible == UINT64_C(0x800000000000001d));
    CHECK(h.compatible == 1);
    CHECK(h.autoclear == 3);
    CHECK(h.refcount_order == 6);
    CHECK(h.header_bytes == 112);
    CHECK(h.compression == 1);
}

static void qcow2_header_writes_what_it_parsed(void)
{
    struct qcow2_header h = {0};
    uint8_t back[sizeof(header_bytes)] = {0};

    layout_parse(&qcow2_header_layout, header_bytes, sizeof(header_bytes), 3, &h);
    layout_write(&qcow2_header_layout, &h, 3, back, sizeof(back));
    CHECK(memcmp(back, header_bytes, sizeof(back)) == 0);
}

static void qcow2_version_2_ends_at_byte_72(void)
{
    struct qcow2_header h = {0};
    uint8_t back[sizeof(header_bytes)];

    layout_parse(&qcow2_header_layout, header_bytes, sizeof(header_bytes), 2, &h);
    CHECK(h.snapshots_offset == UINT64_C(0x0021222324250000));
    CHECK(h.incompatible == 0 && h.refcount_order == 0 && h.header_bytes == 0);
    memset(back, 0xee, sizeof(back));
    layout_write(&qcow2_header_layout, &h, 2, back, sizeof(back));
    CHECK(memcmp(back, header_bytes, 72) == 0);
    for (unsigned i = 72; i < sizeof(back); i++) {
        CHECK(back[i] == 0xee);
    }
}

static void qcow2_ranges_are_checked(void)
{
    struct qcow2_header h = {0};
    uint8_t b[sizeof(header_bytes)];

    memcpy(b, header_bytes, sizeof(b));
    b[72] = 0; /* a bit that nobody knows is the caller's to refuse */
    layout_parse(&qcow2_header_layout, b, sizeof(b), 3, &h);
    CHECK(layout_check(&qcow2_header_layout, &h, 3, 65536, NULL) == 0);
    h.cluster_bits = 22;
    CHECK(layout_check(&qcow2_header_layout, &h, 3, 65536, NULL) == -EINVAL);
    h.cluster_bits = 16;
    h.l1_offset += 512;
    CHECK(layout_check(&qcow2_header_layout, &h, 3, 65536, NULL) == -EINVAL);
    h.l1_offset -= 512;
    h.refcount_order = 7;
    CHECK(layout_check(&qcow2_header_layout, &h, 3, 65536, NULL) == -EINVAL);
}

/* Entries below a byte are counted from the least significant bit; wider ones are big-endian. */
static void refcounts_of_every_width(void)
{
    uint8_t block[64];

    static const struct {
        unsigned order, index;
        uint64_t value;
        uint8_t at, bytes[8], len;
    } cases[] = {
        {0, 9, 1, 1, {0x02}, 1},
        {1, 5, 3, 1, {0x0c}, 1},
        {2, 3, 0xa, 1, {0xa0}, 1},
        {3, 6, 0xc7, 6, {0xc7}, 1},
        {4, 3, 0x1234, 6, {0x12, 0x34}, 2},
        {5, 2, 0x12345678, 8, {0x12, 0x34, 0x56, 0x78}, 4},
        {6, 1, UINT64_C(0x0123456789abcdef), 8, {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}, 8},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        memset(block, 0, sizeof(block));
        qcow2_write_ref(block, cases[i].index, cases[i].order, cases[i].value);
        CHECK(memcmp(block + cases[i].at, cases[i].bytes, cases[i].len) == 0);
        CHECK(qcow2_read_ref(block, cases[i].index, cases[i].order) == cases[i].value);
        CHECK(qcow2_read_ref(block, cases[i].index + 1, cases[i].order) == 0);
        CHECK(qcow2_read_ref(block, cases[i].index - 1, cases[i].order) == 0);
    }
}

/* ---- COW ---- */

static const struct {
    enum cow_layout layout;
    bool big;
    unsigned version, path_at, mtime_at, size_at, sector_at, align_at;
    uint64_t bitmap, bitmap_bytes, data; /* 1000 sectors: 125 bytes; v1 and v2: 512511 / 4096 = 125 */
} cows[] = {
    {COW_V1_LE, false, 1, 8, 264, 268, 276, 0, 280, 125, 512},
    {COW_V1_BE, true, 1, 8, 264, 268, 276, 0, 280, 125, 512},
    {COW_V2, true, 2, 8, 4104, 4108, 4116, 0, 4120, 125, 4608},
    {COW_V3, true, 3, 32, 8, 12, 20, 24, 8192, 125, 12288},
    {COW_V3_BROKEN, true, 3, 36, 8, 16, 24, 28, 8192, 125, 12288},
};

static void put(uint8_t *p, uint64_t v, unsigned width, bool big)
{
    for (unsigned i = 0; i < width; i++) {
        p[big ? width - 1 - i : i] = (uint8_t)(v >> (8 * i));
    }
}

static void make_cow(size_t i, uint8_t *b)
{
    memset(b, 0, COW_HEADER_BYTES_MAX);
    put(b, 0x4f4f4f4d, 4, cows[i].big);
    put(b + 4, cows[i].version, 4, cows[i].big);
    strcpy((char *)b + cows[i].path_at, "/base/image");
    put(b + cows[i].mtime_at, 0x5e0be100, 4, cows[i].big);
    put(b + cows[i].size_at, 512000, 8, cows[i].big);
    put(b + cows[i].sector_at, 512, 4, cows[i].big);
    if (cows[i].align_at) {
        put(b + cows[i].align_at, 4096, 4, cows[i].big);
    }
}

static void cow_headers_parse_and_write(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(cows); i++) {
        uint8_t b[COW_HEADER_BYTES_MAX], back[COW_HEADER_BYTES_MAX] = {0};
        const struct layout *l = &cow_layouts[cows[i].layout];
        struct cow_header h = {0};
        enum cow_layout layout = COW_LAYOUTS;
        char *path = NULL;

        make_cow(i, b);
        CHECK(cow_recognise(b, sizeof(b), &layout, NULL) == 0 && layout == cows[i].layout);
        CHECK(cow_parse(layout, b, &h, &path, NULL) == 0);
        CHECK(path && strcmp(path, "/base/image") == 0);
        free(path);
        CHECK(h.mtime == 0x5e0be100 && h.size == 512000 && h.sector_bytes == 512);
        CHECK(h.align == (cows[i].align_at ? 4096 : 0));
        struct cow_geometry geo = cow_geometry(layout, &h);
        CHECK(geo.bitmap_offset == cows[i].bitmap && geo.bitmap_bytes == cows[i].bitmap_bytes);
        CHECK(geo.data_offset == cows[i].data);
        layout_write(l, &h, cows[i].version, back, l->bytes);
        strcpy((char *)back + cows[i].path_at, "/base/image");
        CHECK(memcmp(b, back, sizeof(b)) == 0);
    }
}

static void cow_of_the_wrong_order_is_refused(void)
{
    uint8_t b[COW_HEADER_BYTES_MAX];
    enum cow_layout layout;

    make_cow(3, b);
    put(b, 0x4f4f4f4d, 4, false); /* only version 1 may be little-endian */
    put(b + 4, 3, 4, false);
    CHECK(cow_recognise(b, sizeof(b), &layout, NULL) == -EINVAL);
}

int main(void)
{
    run("a qcow2 header parses", qcow2_header_parses);
    run("a qcow2 header is written as it was parsed", qcow2_header_writes_what_it_parsed);
    run("a qcow2 version 2 header ends at byte 72", qcow2_version_2_ends_at_byte_72);
    run("ranges of qcow2 fields are checked", qcow2_ranges_are_checked);
    run("refcounts of every width", refcounts_of_every_width);
    run("COW headers of every version parse and write", cow_headers_parse_and_write);
    run("a COW header of the wrong byte order is refused", cow_of_the_wrong_order_is_refused);
    printf("1..%d\n", number);
    return failed > 0;
}
