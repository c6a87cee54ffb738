/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parallels expandable images, as QEMU's docs/interop/parallels defines them: a header, a table of one word a
 * cluster (in sectors for "WithoutFreeSpace", in clusters for "WithouFreSpacExt"), clusters, and a format
 * extension with dirty bitmaps, which an MD5 sum covers. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define EXT_MAGIC    UINT64_C(0xab234cef23dcea87)
#define BITMAP_MAGIC UINT64_C(0x20385fae252cb34a)

static const char *const flags[] = {"empty", NULL};
static const char *const feature_flags[] = {"necessary", "transit", NULL};

static const struct field header_fields[] = {
    LE("magic", FIELD_BYTES, 0, 16, .what = "\"WithoutFreeSpace\" or \"WithouFreSpacExt\""),
    LE("version", FIELD_NUMBER, 16, 4, .min = 2, .max = 2),
    LE("heads", FIELD_COUNT, 20, 4),
    LE("cylinders", FIELD_COUNT, 24, 4),
    LE("tracks", FIELD_COUNT, 28, 4, .min = 1, .max = INT32_MAX / 513, .what = "sectors of a cluster"),
    LE("bat_entries", FIELD_COUNT, 32, 4, .max = INT32_MAX / 4, .what = "clusters of the disk"),
    LE("nb_sectors", FIELD_COUNT, 36, 8, .what = "sectors of the disk; without Ext only the lower half"),
    LE("inuse", FIELD_CODE, 44, 4, .what = "0x746f6e59: open, 0x312e3276: closed, 0: by old software"),
    LE("data_off", FIELD_OFFSET, 48, 4, .unit = 512,
       .what = "first cluster, in sectors; 0: right behind the table"),
    LE("flags", FIELD_FLAGS, 52, 4, .values = flags),
    LE("ext_off", FIELD_OFFSET, 56, 8, .unit = 512, .what = "of the format extension, in sectors; 0: none"),
    {0},
};
const struct layout parallels_header_layout = {"Parallels header", header_fields, 64, 0};

static const struct field bat_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 4, .what = "of the cluster, in sectors or clusters; 0: none"),
    {0},
};
const struct layout parallels_bat_layout = {"Parallels BAT entry", bat_fields, 4, 0};

static const struct field ext_fields[] = {
    LE("magic", FIELD_MAGIC, 0, 8, .min = EXT_MAGIC),
    LE("checksum", FIELD_BYTES, 8, 16, .what = "MD5 of the rest of the cluster"),
    {0},
};
const struct layout parallels_ext_layout = {"Parallels format extension", ext_fields, 24, 0};

static const struct field feature_fields[] = {
    LE("magic", FIELD_CODE, 0, 8, .what = "0x20385fae252cb34a: dirty bitmap; 0: end of the list"),
    LE("flags", FIELD_FLAGS, 8, 8, .values = feature_flags),
    LE("data_size", FIELD_LENGTH, 16, 4, .what = "of what follows, without its padding to 8 bytes"),
    LE("unused", FIELD_RESERVED, 20, 4),
    {0},
};
const struct layout parallels_feature_layout = {"Parallels feature", feature_fields, 24, 0};

static const struct field bitmap_fields[] = {
    LE("size", FIELD_COUNT, 0, 8, .what = "sectors of the disk"),
    LE("id", FIELD_BYTES, 8, 16),
    LE("granularity", FIELD_COUNT, 24, 4, .min = 1, .max = UINT32_C(1) << 31,
       .what = "sectors that one bit stands for, a power of two"),
    LE("l1_size", FIELD_COUNT, 28, 4, .what = "entries of the table that follows"),
    {0},
};
const struct layout parallels_bitmap_layout = {"Parallels dirty bitmap", bitmap_fields, 32, 0};

static const struct field bitmap_l1_fields[] = {
    LE("offset", FIELD_OFFSET, 0, 8, .what = "of a cluster of bits, in sectors; 0: all clear, 1: all set"),
    {0},
};
const struct layout parallels_bitmap_l1_layout = {"Parallels dirty bitmap L1 entry", bitmap_l1_fields, 8, 0};

#define INUSE_CLOSED 0x312e3276u
#define INUSE_OPEN   0x746f6e59u
#define EXT          0 /* pieces: the format extension, then dirty bitmaps, then data */
#define BITMAPS_MAX  3u
#define DATA_MAX     100u

struct parallels {
    bool extended; /* "WithouFreSpacExt": the table counts clusters */
    bool extension;
    uint64_t tracks, cluster, sectors, entries, data_off;
    unsigned bitmaps, units, others; /* .others: pieces that are no data */
    uint64_t unit[DATA_MAX];
    struct piece piece[1 + BITMAPS_MAX + DATA_MAX];
    unsigned granularity_bits[BITMAPS_MAX]; /* of sectors */
};

static void choose_geometry(struct fuzz_image *img, struct parallels *p)
{
    static const uint16_t odd[] = {63, 504, 512};

    p->extended = fuzz_chance(img, "extended", 60);
    p->extension = fuzz_chance(img, "extension", 40);
    p->tracks = fuzz_chance(img, "odd_clusters", 25) && !p->extension
                    ? odd[fuzz_below(img, ARRAY_SIZE(odd))]
                    : UINT64_C(1) << fuzz_pick(img, "tracks_bits", 3, 11);
    p->cluster = p->tracks * SECTOR_SIZE;
    uint64_t entries_max = fuzz_limit(img) / 4 / 8;
    uint64_t size = choose_size(img, SECTOR_SIZE, MIN(entries_max * p->cluster, UINT64_C(1) << 40));
    p->sectors = size / SECTOR_SIZE;
    p->entries = div_up(p->sectors, p->tracks);
    uint64_t table_end = parallels_header_layout.bytes + p->entries * 4;
    /* 0 is right too, but then the first cluster has no place of its own to be told */
    p->data_off = round_up(table_end, p->extended || fuzz_below(img, 2) ? p->cluster : SECTOR_SIZE);
}

/* A bitmap that fits into one cluster. */
static unsigned choose_granularity(struct fuzz_image *img, const struct parallels *p)
{
    unsigned bits = (unsigned)fuzz_below(img, 12);

    while (div_up(p->sectors, UINT64_C(1) << bits) > p->cluster * 8) {
        bits++;
    }
    return bits;
}

static void lay_out(struct fuzz_image *img, struct parallels *p)
{
    uint64_t room = (fuzz_limit(img) - p->data_off) / p->cluster;
    uint64_t wanted = fuzz_pick(img, "clusters", p->extension, 60);

    p->bitmaps =
        p->extension && p->cluster >= 4 * KiB ? (unsigned)fuzz_pick(img, "bitmaps", 0, BITMAPS_MAX) : 0;
    p->others = p->extension + p->bitmaps;
    p->units = choose_numbers(img, p->unit, (unsigned)MIN(MIN(room - p->others, wanted), (uint64_t)DATA_MAX),
                              p->entries);
    if (p->units == 0) { /* what lies behind the last data is a leak: then there is nothing else */
        p->extension = false;
        p->others = p->bitmaps = 0;
    }
    unsigned n = p->others + p->units;
    for (unsigned i = 0; i < n; i++) {
        p->piece[i].bytes = p->cluster;
    }
    /* Turned round, so that data is last in the file. */
    place_pieces(img, p->piece, n, p->data_off, p->cluster, 0, true);
    if (p->others) {
        struct piece last = p->piece[0];
        p->piece[0] = p->piece[p->others];
        p->piece[p->others] = last;
    }
}

static void put_header(struct fuzz_image *img, const struct parallels *p)
{
    fuzz_at(img, 0, parallels_header_layout.bytes);
    int h = fuzz_place(
        img, &(struct fuzz_part){
                 .name = "header", .layout = &parallels_header_layout, .align = p->cluster, .weight = 20});
    put_text(img, h, 0, "magic", p->extended ? "WithouFreSpacExt" : "WithoutFreeSpace");
    fuzz_put(img, h, 0, "version", 2);
    fuzz_put(img, h, 0, "heads", 16);
    fuzz_put(img, h, 0, "cylinders", p->sectors / 16 / 32 + 1);
    fuzz_put(img, h, 0, "tracks", p->tracks);
    fuzz_put(img, h, 0, "bat_entries", p->entries);
    fuzz_put(img, h, 0, "nb_sectors", p->sectors);
    fuzz_put(img, h, 0, "inuse",
             fuzz_chance(img, "open", 3) ? INUSE_OPEN
             : fuzz_below(img, 4)        ? INUSE_CLOSED
                                         : 0);
    fuzz_put(img, h, 0, "data_off", p->data_off / SECTOR_SIZE);
    fuzz_put(img, h, 0, "flags", p->units == 0 && fuzz_below(img, 2));
    fuzz_put(img, h, 0, "ext_off", p->extension ? p->piece[EXT].offset / SECTOR_SIZE : 0);
}

static void put_data(struct fuzz_image *img, const struct parallels *p)
{
    uint64_t unit = p->extended ? p->cluster : SECTOR_SIZE;

    fuzz_at(img, parallels_header_layout.bytes, p->entries * 4);
    int bat = fuzz_place(img, &(struct fuzz_part){.name = "bat",
                                                  .layout = &parallels_bat_layout,
                                                  .offset = parallels_header_layout.bytes,
                                                  .element = "entry",
                                                  .count = (uint32_t)p->entries,
                                                  .used = 64,
                                                  .unit = unit});
    fuzz_set_size(img, p->data_off);
    for (unsigned i = 0; i < p->units; i++) {
        uint64_t at = p->piece[p->others + i].offset;
        fuzz_data(img, at, p->cluster);
        fuzz_place_bytes(img, "data", (int)i, at, p->cluster);
        fuzz_put(img, bat, (uint32_t)p->unit[i], "offset", at / unit);
        fuzz_guest_at(img, p->unit[i] * p->cluster, p->cluster, at);
    }
}

/* Returns where the next feature begins. */
static uint64_t put_bitmap(struct fuzz_image *img, const struct parallels *p, unsigned i, uint64_t at)
{
    uint64_t bits = div_up(p->sectors, UINT64_C(1) << p->granularity_bits[i]), kind = fuzz_below(img, 4);
    uint8_t id[16];

    fuzz_at(img, at, parallels_feature_layout.bytes + parallels_bitmap_layout.bytes + 8);
    int f = fuzz_place(
        img,
        &(struct fuzz_part){
            .name = "feature", .many = true, .index = i, .layout = &parallels_feature_layout, .offset = at});
    fuzz_put(img, f, 0, "magic", BITMAP_MAGIC);
    fuzz_put(img, f, 0, "flags",
             fuzz_chance(img, "feature_flags", 5) && !fuzz_depth(img) ? 1 + fuzz_below(img, 3) : 0);
    fuzz_put(img, f, 0, "data_size", parallels_bitmap_layout.bytes + 8);
    at += parallels_feature_layout.bytes;
    int b = fuzz_place(img, &(struct fuzz_part){.name = "bitmap",
                                                .many = true,
                                                .index = i,
                                                .parent = f,
                                                .layout = &parallels_bitmap_layout,
                                                .offset = at});
    fuzz_put(img, b, 0, "size", p->sectors);
    make_id(img, fuzz_depth(img), 16 + i, id);
    put_bytes(img, b, 0, "id", id, sizeof(id));
    fuzz_put(img, b, 0, "granularity", UINT64_C(1) << p->granularity_bits[i]);
    fuzz_put(img, b, 0, "l1_size", 1);
    at += parallels_bitmap_layout.bytes;
    int l1 = fuzz_place(img, &(struct fuzz_part){.name = "bitmap_l1",
                                                 .many = true,
                                                 .index = i,
                                                 .parent = b,
                                                 .layout = &parallels_bitmap_l1_layout,
                                                 .offset = at,
                                                 .element = "entry",
                                                 .count = 1,
                                                 .unit = SECTOR_SIZE});
    uint64_t data = p->piece[1 + i].offset;
    fuzz_put(img, l1, 0, "offset", kind < 2 ? kind : data / SECTOR_SIZE);
    for (uint64_t k = 0; kind >= 2 && k < MIN(bits / 8, UINT64_C(64)); k++) {
        *fuzz_at(img, data + k, 1) = (uint8_t)fuzz_below(img, 256);
    }
    fuzz_place_bytes(img, "bitmap_data", (int)i, data, div_up(bits, 8));
    return at + 8;
}

static void put_extension(struct fuzz_image *img, struct parallels *p)
{
    uint64_t start = p->piece[EXT].offset, at = start + parallels_ext_layout.bytes;

    fuzz_at(img, start, parallels_ext_layout.bytes);
    int e = fuzz_place(
        img, &(struct fuzz_part){.name = "extension", .layout = &parallels_ext_layout, .offset = start});
    fuzz_put(img, e, 0, "magic", EXT_MAGIC);
    for (unsigned i = 0; i < p->bitmaps; i++) {
        p->granularity_bits[i] = choose_granularity(img, p);
        at = put_bitmap(img, p, i, at);
    }
    fuzz_at(img, at, parallels_feature_layout.bytes); /* all zero: the end */
    fuzz_place(img, &(struct fuzz_part){.name = "feature",
                                        .many = true,
                                        .index = p->bitmaps,
                                        .layout = &parallels_feature_layout,
                                        .offset = at});
    fuzz_sum(img, start + 8, 16, start + parallels_ext_layout.bytes, p->cluster - parallels_ext_layout.bytes,
             sum_md5);
}

static void build(struct fuzz_image *img)
{
    struct parallels p = {0};

    choose_geometry(img, &p);
    lay_out(img, &p);
    fuzz_guest_size(img, p.sectors * SECTOR_SIZE);
    put_header(img, &p);
    put_data(img, &p);
    if (p.extension) {
        put_extension(img, &p);
    }
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void tracks_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "tracks", 0);
}

static void tracks_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "tracks", UINT32_C(1) << 31);
}

static void entries_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "bat_entries", UINT32_C(1) << 30);
}

static void entries_all(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "bat_entries", UINT32_MAX);
}

static void sectors_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "nb_sectors", UINT64_MAX);
}

static void feature_long(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "feature", 0), 0, "data_size", UINT32_MAX);
}

static void feature_over_end(struct fuzz_image *img)
{
    int f = fuzz_find(img, "feature", 0);
    const struct fuzz_part *e = fuzz_part_of(img, fuzz_find(img, "extension", -1));

    /* more than is left of the cluster, less than would be refused at first sight */
    fuzz_set(img, f, 0, "data_size", (fuzz_part_of(img, header_of(img))->align - e->bytes) & ~UINT64_C(7));
}

static void bitmap_l1_size(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "bitmap", 0), 0, "l1_size", UINT32_MAX);
}

static void bitmap_granularity_0(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "bitmap", 0), 0, "granularity", 0);
}

static void clusters_twice(struct fuzz_image *img)
{
    int bat = fuzz_find(img, "bat", -1);

    fuzz_set(img, bat, 1, "offset", fuzz_get(img, bat, 0, "offset"));
}

static const struct fuzz_recipe recipes[] = {
    {"CVE-2014-0142-parallels-tracks", "clusters of no sectors: a division by zero", NULL, tracks_0},
    {"iotest-076-tracks-huge", "clusters of 2^31 sectors", NULL, tracks_huge},
    {"CVE-2014-0143-parallels-entries", "a table of 2^30 entries, 4 GiB", NULL, entries_huge},
    {"iotest-076-entries-all", "a table of 2^32 - 1 entries", NULL, entries_all},
    {"parallels-sectors", "2^64 - 1 sectors", NULL, sectors_huge},
    {"qemu-4156-feature-size", "a feature of the format extension ends behind its cluster",
     "extension=1,clusters=9,bitmaps=1,tracks_bits=5", feature_over_end},
    {"qemu-4156-feature-size-huge", "a feature of 2^32 - 1 bytes",
     "extension=1,clusters=9,bitmaps=1,tracks_bits=5", feature_long},
    {"parallels-bitmap-l1", "a dirty bitmap's table is longer than the feature",
     "extension=1,clusters=9,bitmaps=1,tracks_bits=5", bitmap_l1_size},
    {"parallels-bitmap-granularity", "a bit of a dirty bitmap stands for no sector",
     "extension=1,clusters=9,bitmaps=1,tracks_bits=5", bitmap_granularity_0},
    {"parallels-cluster-twice", "two clusters of the disk in one place", NULL, clusters_twice},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&parallels_header_layout, "version", 1},
    {0},
};

const struct fuzz_format fuzz_parallels = {
    .name = "parallels",
    .ext = "hds",
    .summary = "Parallels expandable images, with dirty bitmaps in a format extension",
    .backing = "parallels",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
