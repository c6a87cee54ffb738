/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent bitmaps: the directory, a table for each, and clusters of bits. */
#include <stdio.h>

#include "fuzz/qcow2/build.h"

enum { IN_USE = 1, AUTO = 2 };

struct one {
    uint64_t table;
    uint32_t entries, flags;
    uint8_t granularity_bits;
    char name[24];
    uint32_t bytes; /* of its directory entry */
};

/* Bytes of bits that the disk has. */
static uint64_t bits_bytes(const struct q_build *q, const struct one *b)
{
    return div_up(div_up(q->h.size, UINT64_C(1) << b->granularity_bits), 8);
}

static uint64_t choose_entry(struct q_build *q, const struct one *b, uint32_t i)
{
    struct fuzz_image *img = q->img;
    uint64_t begin = i * q->cluster, end = MIN(bits_bytes(q, b), begin + q->cluster);
    bool last = i + 1 == b->entries;

    switch (fuzz_below(img, 3)) {
    case 0:
        return 0;
    case 1:
        return last ? 0 : 1; /* bits behind the end of the disk stay clear */
    default: {
        uint64_t at = q_take(q, 1);
        uint64_t len = MIN(end - begin, UINT64_C(64)) - last;
        if (at && len) {
            rng_fill(fuzz_rng(img), fuzz_at(img, at, len), len);
        }
        return at;
    }
    }
}

/* False: no room. */
static bool plan(struct q_build *q, unsigned i, struct one *b)
{
    struct fuzz_image *img = q->img;

    b->granularity_bits = (uint8_t)(9 + fuzz_below(img, fuzz_below(img, 3) ? 8 : 23));
    b->entries = (uint32_t)div_up(bits_bytes(q, b), q->cluster);
    b->flags = fuzz_below(img, 6) ? 0 : IN_USE;
    b->flags |= fuzz_below(img, 2) ? AUTO : 0u;
    b->bytes = (uint32_t)snprintf(b->name, sizeof(b->name), "bitmap%u", i);
    b->bytes = (uint32_t)round_up(qcow2_bitmap_layout.bytes + b->bytes, 8);
    b->table = q_take(q, div_up(b->entries * UINT64_C(8), q->cluster));
    return b->table != 0;
}

static void write_one(struct q_build *q, unsigned i, const struct one *b, uint64_t at)
{
    struct fuzz_image *img = q->img;
    struct qcow2_bitmap_entry entry = {.table_offset = b->table,
                                       .table_entries = b->entries,
                                       .flags = b->flags,
                                       .type = 1,
                                       .granularity_bits = b->granularity_bits,
                                       .name_bytes = (uint16_t)strlen(b->name)};

    layout_write(&qcow2_bitmap_layout, &entry, 3, fuzz_at(img, at, b->bytes), qcow2_bitmap_layout.bytes);
    memcpy(fuzz_at(img, at + qcow2_bitmap_layout.bytes, entry.name_bytes), b->name, entry.name_bytes);
    int part = fuzz_place(img, &(struct fuzz_part){.name = "bitmap",
                                                   .many = true,
                                                   .index = i,
                                                   .layout = &qcow2_bitmap_layout,
                                                   .offset = at,
                                                   .align = q->cluster,
                                                   .weight = 12});
    fuzz_place(img, &(struct fuzz_part){.name = "name",
                                        .parent = part,
                                        .offset = at + qcow2_bitmap_layout.bytes,
                                        .bytes = entry.name_bytes,
                                        .weight = 2});
    fuzz_place(img, &(struct fuzz_part){.name = "table",
                                        .parent = part,
                                        .layout = &qcow2_bitmap_table_layout,
                                        .offset = b->table,
                                        .element = "entry",
                                        .count = b->entries,
                                        .used = MIN(b->entries, (uint32_t)Q_USED),
                                        .align = q->cluster,
                                        .weight = 8});
    for (uint32_t k = 0; k < MIN(b->entries, (uint32_t)Q_USED); k++) {
        put_be64(fuzz_at(img, b->table + k * 8, 8), choose_entry(q, b, k));
    }
}

void q_bitmap_build(struct q_build *q)
{
    struct one one[Q_BITMAPS_MAX];
    uint64_t bytes = 0;
    unsigned n = 0;

    bool wanted =
        fuzz_chance(q->img, "with_bitmaps", 25) && q->h.version >= 3 && q->h.size && !q->h.crypt_method;
    uint64_t most = wanted ? fuzz_pick(q->img, "bitmaps", 1, Q_BITMAPS_MAX) : 0;
    uint64_t directory = most ? q_take(q, 1) : 0; /* three entries are less than 512 bytes */
    while (directory && n < most && plan(q, n, &one[n])) {
        bytes += one[n++].bytes;
    }
    if (n == 0) {
        if (directory) {
            q->refs[directory / q->cluster] = 0;
        }
        return;
    }
    uint64_t at = directory;
    for (unsigned i = 0; i < n; at += one[i++].bytes) {
        write_one(q, i, &one[i], at);
    }
    q->bitmaps = (struct qcow2_bitmaps_ext){n, bytes, directory};
    q->h.autoclear |= QCOW2_BITMAPS;
}
