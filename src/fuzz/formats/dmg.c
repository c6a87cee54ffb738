/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDIF disk images of macOS: chunks of data, a resource fork or a property list with tables of chunks
 * ("mish"), and a trailer of 512 bytes ("koly"). All numbers are big-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/deflate.h"
#include "fuzz/formats/fields.h"

static const struct field trailer_fields[] = {
    BE("signature", FIELD_MAGIC, 0, 4, .min = 0x6b6f6c79, .what = "\"koly\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 4, .max = 4),
    BE("header_size", FIELD_LENGTH, 8, 4, .min = 512, .max = 512),
    BE("flags", FIELD_FLAGS, 12, 4),
    BE("running_data_fork_offset", FIELD_OFFSET, 16, 8),
    BE("data_fork_offset", FIELD_OFFSET, 24, 8),
    BE("data_fork_length", FIELD_LENGTH, 32, 8),
    BE("rsrc_fork_offset", FIELD_OFFSET, 40, 8),
    BE("rsrc_fork_length", FIELD_LENGTH, 48, 8),
    BE("segment_number", FIELD_NUMBER, 56, 4),
    BE("segment_count", FIELD_COUNT, 60, 4),
    BE("segment_id", FIELD_BYTES, 64, 16),
    BE("data_checksum_type", FIELD_ENUM, 80, 4, .what = "2: CRC-32; 0: none"),
    BE("data_checksum_size", FIELD_LENGTH, 84, 4, .what = "in bits"),
    BE("data_checksum", FIELD_BYTES, 88, 128),
    BE("xml_offset", FIELD_OFFSET, 216, 8, .what = "of the property list"),
    BE("xml_length", FIELD_LENGTH, 224, 8, .what = "of the property list"),
    BE("reserved", FIELD_BYTES, 232, 120),
    BE("checksum_type", FIELD_ENUM, 352, 4),
    BE("checksum_size", FIELD_LENGTH, 356, 4, .what = "in bits"),
    BE("checksum", FIELD_BYTES, 360, 128),
    BE("image_variant", FIELD_NUMBER, 488, 4),
    BE("sector_count", FIELD_COUNT, 492, 8, .what = "sectors of the disk"),
    BE("reserved2", FIELD_BYTES, 500, 12),
    {0},
};
const struct layout dmg_trailer_layout = {"DMG trailer", trailer_fields, 512, 0};

static const struct field fork_fields[] = {
    BE("data_offset", FIELD_OFFSET, 0, 4, .what = "of the resources, in the fork"),
    BE("map_offset", FIELD_OFFSET, 4, 4, .what = "of the map, in the fork"),
    BE("data_length", FIELD_LENGTH, 8, 4, .what = "of the resources"),
    BE("map_length", FIELD_LENGTH, 12, 4, .what = "of the map"),
    {0},
};
const struct layout dmg_fork_layout = {"DMG resource fork", fork_fields, 16, 0};

static const struct field resource_fields[] = {
    BE("length", FIELD_LENGTH, 0, 4, .what = "of the resource that follows"),
    {0},
};
const struct layout dmg_resource_layout = {"DMG resource", resource_fields, 4, 0};

static const struct field mish_fields[] = {
    BE("signature", FIELD_MAGIC, 0, 4, .min = 0x6d697368, .what = "\"mish\""),
    BE("version", FIELD_NUMBER, 4, 4, .min = 1, .max = 1),
    BE("first_sector", FIELD_NUMBER, 8, 8, .what = "of the disk"),
    BE("sector_count", FIELD_COUNT, 16, 8),
    BE("data_offset", FIELD_OFFSET, 24, 8),
    BE("buffers_needed", FIELD_COUNT, 32, 4, .what = "sectors of the largest chunk"),
    BE("descriptors", FIELD_COUNT, 36, 4),
    BE("reserved", FIELD_BYTES, 40, 24),
    BE("checksum_type", FIELD_ENUM, 64, 4),
    BE("checksum_size", FIELD_LENGTH, 68, 4, .what = "in bits"),
    BE("checksum", FIELD_BYTES, 72, 128),
    BE("chunk_count", FIELD_COUNT, 200, 4),
    {0},
};
const struct layout dmg_mish_layout = {"DMG chunk table", mish_fields, 204, 0};

static const struct field chunk_fields[] = {
    BE("type", FIELD_CODE, 0, 4,
       .what = "0: zeroes, 1: raw, 2: ignore, 0x80000005: zlib, 0x80000006: bzip2, 0x80000007: lzfse, "
               "0x7ffffffe: comment, 0xffffffff: the last"),
    BE("comment", FIELD_BYTES, 4, 4),
    BE("sector", FIELD_NUMBER, 8, 8, .what = "first sector, from first_sector of the table"),
    BE("sector_count", FIELD_COUNT, 16, 8),
    BE("offset", FIELD_OFFSET, 24, 8, .what = "of the chunk, from the data fork"),
    BE("length", FIELD_LENGTH, 32, 8, .what = "of the chunk"),
    {0},
};
const struct layout dmg_chunk_layout = {"DMG chunk", chunk_fields, 40, 0};

#define CHUNKS_MAX       24u
#define CHUNK_TABLES_MAX 3u
#define UNIT_MAX         256u

enum { ZEROES = 0, RAW = 1, IGNORE = 2 };
#define ZLIB UINT32_C(0x80000005)
#define LAST UINT32_MAX

struct chunk {
    uint32_t type;
    uint64_t sectors, seed;
    uint32_t unit_bytes;
    struct piece *piece;
};

/* Bytes of a chunk in the file. */
static uint64_t stored_bytes(const struct chunk *c)
{
    return c->type == RAW    ? c->sectors * SECTOR_SIZE
           : c->type == ZLIB ? deflate_room(c->unit_bytes, c->sectors * SECTOR_SIZE) + 6
                             : 0;
}

/* Returns the bytes that were written. */
static uint64_t put_chunk_data(struct fuzz_image *img, const struct chunk *c, unsigned i, uint64_t guest)
{
    uint8_t unit[UNIT_MAX];
    uint64_t at = c->piece->offset, bytes = c->sectors * SECTOR_SIZE;

    if (c->type == RAW) {
        fuzz_data(img, at, bytes);
        fuzz_place_bytes(img, "data", (int)i, at, bytes);
        fuzz_guest_at(img, guest, bytes, at);
        return bytes;
    }
    if (c->type != ZLIB) {
        return 0;
    }
    fuzz_guest_unit(c->seed, unit, c->unit_bytes);
    size_t len = zlib_repeated(unit, c->unit_bytes, bytes, fuzz_at(img, at, stored_bytes(c)));
    fuzz_place_bytes(img, "compressed", (int)i, at, len);
    fuzz_guest_repeat(img, guest, bytes, c->seed, c->unit_bytes);
    return len;
}

static void put_chunk(struct fuzz_image *img, int part, uint32_t i, uint32_t type, uint64_t sector,
                      uint64_t sectors, uint64_t offset, uint64_t length)
{
    fuzz_put(img, part, i, "type", type);
    fuzz_put(img, part, i, "sector", sector);
    fuzz_put(img, part, i, "sector_count", sectors);
    fuzz_put(img, part, i, "offset", offset);
    fuzz_put(img, part, i, "length", length);
}

/* A table of @n chunks, and the chunk that ends it, as a resource. Returns where the next one goes. */
static uint64_t put_table(struct fuzz_image *img, uint32_t index, const struct chunk *c, unsigned n,
                          uint64_t at, uint64_t first, unsigned before)
{
    uint32_t chunks = n + 1;
    uint64_t sector = 0, length = dmg_mish_layout.bytes + (uint64_t)chunks * dmg_chunk_layout.bytes;

    fuzz_at(img, at, 4 + length);
    int r = fuzz_place(
        img,
        &(struct fuzz_part){
            .name = "resource", .many = true, .index = index, .layout = &dmg_resource_layout, .offset = at});
    fuzz_put(img, r, 0, "length", length);
    int m = fuzz_place(img, &(struct fuzz_part){.name = "table",
                                                .many = true,
                                                .index = index,
                                                .layout = &dmg_mish_layout,
                                                .offset = at + 4,
                                                .weight = 15});
    int e = fuzz_place(img, &(struct fuzz_part){.name = "chunk",
                                                .many = true,
                                                .index = index,
                                                .parent = m,
                                                .layout = &dmg_chunk_layout,
                                                .offset = at + 4 + dmg_mish_layout.bytes,
                                                .element = "entry",
                                                .count = chunks,
                                                .weight = 30});
    for (uint32_t i = 0; i < n; i++) {
        uint64_t stored = put_chunk_data(img, &c[i], before + i, (first + sector) * SECTOR_SIZE);
        put_chunk(img, e, i, c[i].type, sector, c[i].sectors, c[i].piece->offset, stored);
        sector += c[i].sectors;
    }
    put_chunk(img, e, n, LAST, sector, 0, 0, 0);
    fuzz_put(img, m, 0, "signature", 0x6d697368);
    fuzz_put(img, m, 0, "version", 1);
    fuzz_put(img, m, 0, "first_sector", first);
    fuzz_put(img, m, 0, "sector_count", sector);
    fuzz_put(img, m, 0, "buffers_needed", 2056);
    fuzz_put(img, m, 0, "descriptors", index);
    fuzz_put(img, m, 0, "chunk_count", chunks);
    return at + 4 + length;
}

static void put_trailer(struct fuzz_image *img, uint64_t at, uint64_t data, uint64_t fork,
                        uint64_t fork_bytes, uint64_t sectors)
{
    fuzz_at(img, at, dmg_trailer_layout.bytes);
    int t = fuzz_place(
        img,
        &(struct fuzz_part){.name = "trailer", .layout = &dmg_trailer_layout, .offset = at, .weight = 20});
    fuzz_put(img, t, 0, "signature", 0x6b6f6c79);
    fuzz_put(img, t, 0, "version", 4);
    fuzz_put(img, t, 0, "header_size", 512);
    fuzz_put(img, t, 0, "flags", 1);
    fuzz_put(img, t, 0, "data_fork_length", data);
    fuzz_put(img, t, 0, "rsrc_fork_offset", fork);
    fuzz_put(img, t, 0, "rsrc_fork_length", fork_bytes);
    fuzz_put(img, t, 0, "segment_number", 1);
    fuzz_put(img, t, 0, "segment_count", 1);
    fuzz_put(img, t, 0, "image_variant", 1);
    fuzz_put(img, t, 0, "sector_count", sectors);
}

static void choose_chunks(struct fuzz_image *img, struct chunk *c, struct piece *pieces, unsigned n)
{
    static const uint32_t types[] = {ZEROES, RAW, RAW, IGNORE, ZLIB, ZLIB, ZLIB};

    for (unsigned i = 0; i < n; i++) {
        c[i] = (struct chunk){
            .type = types[fuzz_below(img, ARRAY_SIZE(types))],
            .sectors = 1 + fuzz_below(img, 200),
            .seed = rng_u64(fuzz_rng(img)),
            .unit_bytes = 1 + (uint32_t)fuzz_below(img, UNIT_MAX),
            .piece = &pieces[i],
        };
        pieces[i].bytes = stored_bytes(&c[i]);
    }
}

static void build(struct fuzz_image *img)
{
    struct chunk c[CHUNKS_MAX];
    struct piece pieces[CHUNKS_MAX];
    unsigned n = (unsigned)fuzz_pick(img, "chunks", 1, CHUNKS_MAX), done = 0;
    uint32_t tables = (uint32_t)fuzz_pick(img, "tables", 1, CHUNK_TABLES_MAX);
    uint64_t sectors = 0;

    choose_chunks(img, c, pieces, n);
    uint64_t fork = place_pieces(img, pieces, n, 0, SECTOR_SIZE, 10, false);
    uint64_t begin = fork + dmg_fork_layout.bytes, at = begin;
    for (uint32_t t = 0; t < tables; t++) {
        unsigned some = t + 1 < tables ? (unsigned)fuzz_below(img, n - done + 1) : n - done;
        at = put_table(img, t, c + done, some, at, sectors, done);
        for (unsigned i = 0; i < some; i++) {
            sectors += c[done++].sectors;
        }
    }
    fuzz_at(img, fork, dmg_fork_layout.bytes);
    int f = fuzz_place(
        img, &(struct fuzz_part){.name = "fork", .layout = &dmg_fork_layout, .offset = fork, .weight = 15});
    fuzz_put(img, f, 0, "data_offset", begin - fork);
    fuzz_put(img, f, 0, "map_offset", at - fork);
    fuzz_put(img, f, 0, "data_length", at - begin);
    fuzz_guest_size(img, sectors * SECTOR_SIZE);
    put_trailer(img, at, fork, fork, at - fork, sectors);
    fuzz_set_size(img, at + dmg_trailer_layout.bytes);
}

/* ---- known-bad images ---- */

static int chunks_of(struct fuzz_image *img)
{
    return fuzz_find(img, "chunk", 0);
}

/* The chunk's data is shorter than what a guest reads of it. */
static void chunk_short(struct fuzz_image *img)
{
    int c = chunks_of(img);

    fuzz_set(img, c, 0, "type", RAW);
    fuzz_set(img, c, 0, "sector_count", fuzz_get(img, c, 0, "sector_count") + 64);
    fuzz_set(img, c, 0, "length", SECTOR_SIZE);
}

static void chunk_length_huge(struct fuzz_image *img)
{
    fuzz_set(img, chunks_of(img), 0, "type", ZLIB);
    fuzz_set(img, chunks_of(img), 0, "length", UINT64_C(1) << 62);
}

static void chunk_sectors_huge(struct fuzz_image *img)
{
    fuzz_set(img, chunks_of(img), 0, "type", RAW);
    fuzz_set(img, chunks_of(img), 0, "sector_count", UINT64_C(1) << 55);
}

static void fork_beyond_end(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "trailer", -1), 0, "rsrc_fork_offset", INT64_MAX);
}

static void resource_0(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "resource", 0), 0, "length", 0);
}

static void sectors_huge(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "trailer", -1), 0, "sector_count", UINT64_MAX);
}

static const struct fuzz_recipe recipes[] = {
    {"qemu-3846-chunk-length", "a chunk's data is shorter than its sectors", NULL, chunk_short},
    {"CVE-2014-0145-dmg-length", "a compressed chunk of 2^62 bytes", NULL, chunk_length_huge},
    {"CVE-2014-0145-dmg-sectors", "a chunk of 2^55 sectors", NULL, chunk_sectors_huge},
    {"CVE-2014-0145-dmg-fork", "the resource fork lies behind the end of all files", NULL, fork_beyond_end},
    {"dmg-resource-0", "a resource of no bytes", NULL, resource_0},
    {"dmg-sector-count", "a disk of 2^64 - 1 sectors", NULL, sectors_huge},
    {0},
};

const struct fuzz_format fuzz_dmg = {
    .name = "dmg",
    .ext = "dmg",
    .summary = "UDIF of macOS: raw, zlib and zero chunks in a resource fork",
    .build = build,
    .recipes = recipes,
};
