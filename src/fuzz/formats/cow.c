/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * COW of User-Mode Linux, versions 1 to 3, by the tables of the driver (src/drivers/cow): a header with the
 * path of a raw backing file, a bitmap with a bit for each sector, sectors at their own places.
 */
#include "drivers/cow/cow.h"
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"

#define RUNS_MAX 24u

static const struct field bit_fields[] = {
    {"present", FIELD_NUMBER, 0, 1, .max = 1, .what = "the sector is in this file"},
    {0},
};
const struct layout cow_bit_layout = {"COW bitmap bit", bit_fields, 1, 0};

static void put_header(struct fuzz_image *img, enum cow_layout layout, const struct cow_header *h,
                       const char *backing)
{
    const struct layout *l = &cow_layouts[layout];

    layout_write(l, h, UINT8_MAX, fuzz_at(img, 0, l->bytes), l->bytes);
    int part = fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = l, .weight = 30});
    put_text(img, part, 0, "backing_file", backing);
    fuzz_place_bytes(img, "backing_name", -1, layout_field(l, "backing_file")->offset, strlen(backing) + 1);
}

/* Sectors that the short bitmap of versions 1 and 2 has no bit for stay the backing file's. */
static void put_runs(struct fuzz_image *img, const struct cow_header *h, const struct cow_geometry *geo)
{
    uint64_t sectors = MIN(div_up(h->size, h->sector_bytes), geo->bitmap_bytes * 8), run[RUNS_MAX];
    unsigned runs = choose_numbers(img, run, (unsigned)fuzz_pick(img, "runs", 0, RUNS_MAX), sectors);

    fuzz_at(img, geo->bitmap_offset, geo->bitmap_bytes);
    int bits = fuzz_place(img, &(struct fuzz_part){.name = "bitmap",
                                                   .layout = &cow_bit_layout,
                                                   .offset = geo->bitmap_offset,
                                                   .element = "bit",
                                                   .count = (uint32_t)(geo->bitmap_bytes * 8),
                                                   .stride_bits = 1});
    for (unsigned i = 0; i < runs; i++) {
        uint64_t end = MIN(sectors, run[i] + 1 + fuzz_below(img, 40));
        end = i + 1 < runs ? MIN(end, run[i + 1]) : end;
        uint64_t at = geo->data_offset + run[i] * h->sector_bytes, bytes = (end - run[i]) * h->sector_bytes;
        for (uint64_t s = run[i]; s < end; s++) {
            fuzz_put(img, bits, (uint32_t)s, "present", 1);
        }
        fuzz_data(img, at, bytes);
        fuzz_place_bytes(img, "data", (int)i, at, bytes);
        fuzz_guest_at(img, run[i] * h->sector_bytes, bytes, at);
    }
    fuzz_set_size(img, geo->data_offset + round_up(h->size, h->sector_bytes));
}

static void build(struct fuzz_image *img)
{
    enum cow_layout layout = (enum cow_layout)fuzz_pick(img, "layout", 0, COW_LAYOUTS - 1);
    const char *backing = fuzz_beside(img, "backing", &fuzz_raw);
    uint64_t size = backing ? fuzz_guest_size_of(img, backing) : 0;
    struct cow_header h = {
        .magic = COW_MAGIC,
        .version = layout <= COW_V1_BE ? 1
                   : layout == COW_V2  ? 2
                                       : 3,
        .mtime = fuzz_seed(img) & INT32_MAX,
        .size = MIN(MAX(size, (uint64_t)SECTOR_SIZE), fuzz_limit(img) - MiB),
        .sector_bytes = SECTOR_SIZE << (fuzz_chance(img, "large_sectors", 15) ? fuzz_below(img, 4) : 0),
    };

    if (h.version == 3) {
        h.align = UINT64_C(1) << fuzz_pick(img, "align_bits", 9, 16);
    }
    struct cow_geometry geo = cow_geometry(layout, &h);
    fuzz_guest_size(img, h.size);
    fuzz_guest_from(img, 0, h.size, backing, 0);
    put_header(img, layout, &h, backing ? backing : fuzz_decoy(img));
    put_runs(img, &h, &geo);
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void sector_size_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "sectorsize", 0);
}

static void size_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "size", UINT64_MAX);
}

static void alignment_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "alignment", 0);
}

static void path_unterminated(struct fuzz_image *img)
{
    const struct fuzz_part *p = fuzz_part_of(img, header_of(img));
    const struct field *f = layout_field(p->layout, "backing_file");
    uint8_t a[FUZZ_BYTES_MAX];

    memset(a, 'a', sizeof(a));
    for (uint32_t at = 0; at < f->width; at += sizeof(a)) {
        fuzz_set_bytes(img, header_of(img), f->offset + at, a, MIN((uint32_t)sizeof(a), f->width - at));
    }
}

static void path_elsewhere(struct fuzz_image *img)
{
    const char *decoy = fuzz_decoy(img);

    fuzz_set_bytes(img, fuzz_find(img, "backing_name", -1), 0, decoy,
                   (uint32_t)MIN(strlen(decoy) + 1, (size_t)FUZZ_BYTES_MAX));
}

static const struct fuzz_recipe recipes[] = {
    {"cow-sector-size-0", "sectors of no bytes: a division by zero", NULL, sector_size_0},
    {"cow-size", "a disk of 2^64 - 1 bytes", NULL, size_huge},
    {"cow-alignment-0", "an alignment of no bytes: a division by zero", "layout=3", alignment_0},
    {"cow-path", "the path of the backing file does not end", NULL, path_unterminated},
    {"CVE-2008-2004-cow", "the backing file is another file of the host", NULL, path_elsewhere},
    {0},
};

const struct fuzz_format fuzz_cow = {
    .name = "cow",
    .ext = "cow",
    .summary = "User-Mode Linux: versions 1 to 3, over a raw file",
    .backing = NULL,
    .build = build,
    .recipes = recipes,
};
