/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the qcow2 targets share. An input may be thin: only the first 512 bytes of each cluster are in it, so
 * that images with large clusters are small inputs. Half of the mutations are made by the field tables: a
 * field of the header, or of an entry that a chain of tables leads to, gets a value that means something
 * there.
 */
#ifndef TESTS_FUZZ_QCOW2_IMAGE_H
#define TESTS_FUZZ_QCOW2_IMAGE_H

#include "drivers/qcow2/qcow2.h"
#include "image.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

#define THIN_BYTES 512u /* of each cluster */

struct view {
    uint8_t *data;
    size_t size;
    bool thin;
    unsigned cluster_bits;
};

static inline struct view view_of(uint8_t *data, size_t size, bool thin)
{
    uint32_t bits = size >= 24 ? get_be32(data + 20) : 16;

    bits = bits >= QCOW2_CLUSTER_BITS_MIN && bits <= QCOW2_CLUSTER_BITS_MAX ? bits : 16;
    return (struct view){data, size, thin && bits <= 16, bits}; /* 2 MiB of zeroes take their time */
}

/* The image's bytes at @host, if they are in the input. */
static inline uint8_t *view_at(const struct view *v, uint64_t host, size_t bytes)
{
    uint64_t in_cluster = host & ((UINT64_C(1) << v->cluster_bits) - 1);

    if (v->thin) {
        if (in_cluster + bytes > THIN_BYTES || host >> v->cluster_bits > v->size) {
            return NULL;
        }
        host = (host >> v->cluster_bits) * THIN_BYTES + in_cluster;
    }
    return host < v->size && bytes <= v->size - host ? v->data + host : NULL;
}

/* Put the input into @image. */
static inline co_fn int write_image(struct node *image, const struct view *v)
{
    uint64_t clusters = div_up(v->size, THIN_BYTES);
    int r = v->thin ? 0 : node_write(image, 0, v->data, v->size, REQ_GROW);

    for (uint64_t i = 0; v->thin && r == 0 && i < clusters; i++) {
        r = node_write(image, i << v->cluster_bits, v->data + i * THIN_BYTES,
                       MIN(v->size - i * THIN_BYTES, (uint64_t)THIN_BYTES), REQ_GROW);
    }
    if (v->thin && r == 0) { /* the last cluster is whole */
        r = node_write(image, (clusters << v->cluster_bits) - 1, "", 1, REQ_GROW);
    }
    return r;
}

static inline co_fn struct node *open_qcow2(struct graph *g, bool backing, unsigned flags)
{
    struct node *file = graph_find(g, "image");
    uint8_t head[80] = {0};
    char text[160];

    node_read(file, 0, head, MIN(sizeof(head), node_size(file)));
    bool data_file = get_be32(head + 4) >= 3 && (head[79] & QCOW2_DATA_FILE);
    snprintf(text, sizeof(text), "{\"driver\":\"qcow2\",\"file\":\"image\"%s%s}",
             data_file ? ",\"data-file\":\"data\"" : "", backing ? ",\"backing\":\"back\"" : "");
    return open_text(g, text, flags | OPEN_NO_BACKING);
}

/* ---- mutations by the field tables ---- */

/* A place in the file: mostly the beginning of a cluster that is there, or just behind. */
static inline uint64_t some_host(const struct view *v, struct rng *rng)
{
    uint64_t clusters = v->thin ? v->size / THIN_BYTES : v->size >> v->cluster_bits;
    uint64_t host = rng_below(rng, clusters + 4) << v->cluster_bits;

    return rng_below(rng, 8) ? host : rng_below(rng, 4) ? host + rng_below(rng, 1024) : rng_u64(rng);
}

static inline uint64_t some_value(const struct view *v, const struct field *f, uint64_t old, struct rng *rng)
{
    switch (f->kind) {
    case FIELD_OFFSET:
        return some_host(v, rng) >> f->shift;
    case FIELD_FLAGS:
        return old ^ UINT64_C(1) << rng_below(rng, rng_below(rng, 4) ? 6 : 64);
    case FIELD_MAGIC:
        return f->min;
    default:
        break;
    }
    switch (rng_below(rng, 6)) {
    case 0:
        return old + 1;
    case 1:
        return old - 1;
    case 2:
        return f->max ? f->max - rng_below(rng, 2) : rng_u64(rng);
    case 3:
        return rng_below(rng, 4);
    case 4:
        return old ^ UINT64_C(1) << rng_below(rng, f->width * 8u);
    default:
        return UINT64_C(1) << rng_below(rng, 64);
    }
}

static inline void mutate_field(const struct view *v, const struct layout *l, uint64_t at, struct rng *rng)
{
    unsigned fields = 0;

    while (l->fields[fields].name) {
        fields++;
    }
    const struct field *f = &l->fields[rng_below(rng, fields)];
    bool number = f->kind != FIELD_BYTES && is_pow2(f->width); /* padding may have any width */
    uint8_t *p = number ? view_at(v, at + f->offset, f->width) : NULL;
    if (!p) {
        return;
    }
    p -= f->offset;
    uint64_t all = f->mask         ? f->mask >> f->shift
                   : f->width == 8 ? UINT64_MAX
                                   : (UINT64_C(1) << f->width * 8) - 1;
    field_put(f, p, some_value(v, f, field_get(f, p), rng) & all);
}

static inline uint64_t word_at(const struct view *v, uint64_t host)
{
    const uint8_t *p = view_at(v, host, 8);

    return p ? get_be64(p) : 0;
}

/* Entry number @i of the table at @table, or a low one. */
static inline uint64_t some_entry(struct rng *rng, uint64_t table, unsigned bytes, uint64_t most)
{
    return table + bytes * rng_below(rng, MAX(MIN(most, UINT64_C(64)), UINT64_C(1)));
}

/* Where the bitmaps extension's data is; 0: there is none. */
static inline uint64_t find_bitmaps_ext(const struct view *v)
{
    uint64_t at = v->size >= 104 ? get_be32(v->data + 100) : 0;

    for (int i = 0; i < 8; i++) {
        uint64_t word = word_at(v, at);
        if (word >> 32 == 0x23852875) {
            return at + 8;
        }
        at += 8 + round_up(word & UINT32_MAX, 8);
    }
    return 0;
}

static inline void mutate_bitmaps(const struct view *v, struct rng *rng)
{
    uint64_t ext = find_bitmaps_ext(v), directory = ext ? word_at(v, ext + 16) : 0;

    if (!ext || rng_below(rng, 4) == 0) {
        mutate_field(v, &qcow2_bitmaps_ext_layout, ext, rng);
    } else if (rng_below(rng, 2)) {
        mutate_field(v, &qcow2_bitmap_layout, directory + (rng_below(rng, 2) ? 32 : 0), rng);
    } else {
        mutate_field(v, &qcow2_bitmap_table_layout, some_entry(rng, word_at(v, directory), 8, 4), rng);
    }
}

static inline void mutate_snapshots(const struct view *v, struct rng *rng)
{
    uint64_t at = word_at(v, 64);

    for (uint64_t i = rng_below(rng, 3); i > 0; i--) { /* past some entries */
        const uint8_t *p = view_at(v, at, 40);
        at += p ? round_up(UINT64_C(40) + get_be32(p + 36) + get_be16(p + 12) + get_be16(p + 14), 8) : 0;
    }
    if (rng_below(rng, 3)) {
        mutate_field(v, &qcow2_snapshot_layout, at, rng);
    } else if (rng_below(rng, 2)) {
        mutate_field(v, &qcow2_snapshot_extra_layout, at + 40, rng);
    } else {
        mutate_field(v, &qcow2_l1_layout, some_entry(rng, word_at(v, at), 8, 2), rng);
    }
}

static inline void mutate_l2(const struct view *v, struct rng *rng)
{
    uint64_t l1 = some_entry(rng, word_at(v, 40), 8, (word_at(v, 32) & UINT32_MAX) % 8);
    uint64_t l2 = word_at(v, l1) & QCOW2_OFFSET_MASK;
    bool extended = word_at(v, 72) & QCOW2_EXT_L2;
    uint64_t at = some_entry(rng, l2, extended ? 16 : 8, 64);

    mutate_field(v, extended && rng_below(rng, 2) ? &qcow2_l2_bitmap_layout : &qcow2_l2_layout, at, rng);
}

static inline void mutate_structure(const struct view *v, struct rng *rng)
{
    uint64_t l1 = word_at(v, 40), reftable = word_at(v, 48), block = word_at(v, reftable) & QCOW2_REF_MASK;

    switch (rng_below(rng, 9)) {
    case 0:
    case 1:
        mutate_field(v, &qcow2_header_layout, 0, rng);
        break;
    case 2:
        mutate_field(v, &qcow2_l1_layout, some_entry(rng, l1, 8, 8), rng);
        break;
    case 3:
        mutate_field(v, &qcow2_reftable_layout, some_entry(rng, reftable, 8, 4), rng);
        break;
    case 4: {
        uint8_t *p = view_at(v, block + rng_below(rng, 64), 1);
        if (p) {
            *p = (uint8_t)rng_below(rng, rng_below(rng, 2) ? 4 : 256);
        }
        break;
    }
    case 5:
        mutate_snapshots(v, rng);
        break;
    case 6:
        mutate_bitmaps(v, rng);
        break;
    default:
        mutate_l2(v, rng);
    }
}

/* @script bytes before the image are for the target to read. */
static inline size_t mutate_qcow2(uint8_t *data, size_t size, size_t max, unsigned seed, size_t script,
                                  bool thin)
{
    struct rng rng;

    rng_init(&rng, seed);
    if (size <= script + 72 || rng_below(&rng, 2)) {
        return LLVMFuzzerMutate(data, size, max);
    }
    struct view v = view_of(data + script, size - script, thin);
    for (uint64_t i = 1 + rng_below(&rng, 3); i > 0; i--) {
        mutate_structure(&v, &rng);
    }
    if (script && rng_below(&rng, 3) == 0) {
        LLVMFuzzerMutate(data, script, script);
    }
    return size;
}

#endif
