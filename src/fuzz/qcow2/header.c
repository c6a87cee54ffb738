/* SPDX-License-Identifier: BSD-2-Clause */
/* The first cluster: the header, its extensions in random order, and the name of the backing file. */
#include "fuzz/qcow2/build.h"

struct cursor {
    struct q_build *q;
    int header;
    uint64_t at, end;
    unsigned n;
};

/* An extension's data is written by the caller, at what is returned; 0: it does not fit. */
static uint64_t put_extension(struct cursor *c, uint32_t type, uint64_t bytes, const char *name)
{
    struct fuzz_image *img = c->q->img;
    uint64_t at = c->at, padded = round_up(bytes, 8);

    if (c->end - at < 16 + padded) { /* the end marker has to fit, too */
        return 0;
    }
    uint8_t *p = fuzz_at(img, at, 8 + padded);
    put_be32(p, type);
    put_be32(p + 4, (uint32_t)bytes);
    fuzz_place(img, &(struct fuzz_part){.name = "extension",
                                        .many = true,
                                        .index = c->n++,
                                        .layout = &qcow2_extension_layout,
                                        .offset = at,
                                        .weight = 2});
    (void)name;
    c->at += 8 + padded;
    return at + 8;
}

static void put_text(struct cursor *c, uint32_t type, const char *text, const char *name)
{
    uint64_t at = text ? put_extension(c, type, strlen(text), name) : 0;

    if (at) {
        memcpy(fuzz_at(c->q->img, at, strlen(text)), text, strlen(text));
        fuzz_place(c->q->img,
                   &(struct fuzz_part){.name = name, .offset = at, .bytes = strlen(text), .weight = 3});
    }
}

static bool put_object(struct cursor *c, uint32_t type, const struct layout *l, const void *object,
                       const char *name)
{
    uint64_t at = put_extension(c, type, l->bytes, name);

    if (at) {
        layout_write(l, object, 3, fuzz_at(c->q->img, at, l->bytes), l->bytes);
        fuzz_place(c->q->img,
                   &(struct fuzz_part){
                       .name = name, .layout = l, .offset = at, .align = c->q->cluster, .weight = 8});
    }
    return at != 0;
}

/* The first rows of the usual table, as many as fit; and one that nobody knows. */
static void put_features(struct cursor *c)
{
    uint8_t rows[QCOW2_FEATURE_NAMES_BYTES];
    uint64_t room = c->end - c->at > 16 ? (c->end - c->at - 16) / 48 : 0;
    uint64_t n =
        fuzz_chance(c->q->img, "feature_names", 60) ? 1 + fuzz_below(c->q->img, sizeof(rows) / 48) : 0;

    n = MIN(n, room);
    uint64_t at = n ? put_extension(c, QCOW2_EXT_FEATURES, n * 48, "feature_names") : 0;
    if (at) {
        qcow2_feature_names(rows);
        memcpy(fuzz_at(c->q->img, at, n * 48), rows, n * 48);
        fuzz_place(c->q->img, &(struct fuzz_part){.name = "feature_names",
                                                  .layout = &qcow2_feature_layout,
                                                  .offset = at,
                                                  .element = "row",
                                                  .count = (uint32_t)n,
                                                  .weight = 2});
    }
}

/* Of no meaning to anybody: it has to be kept. */
static void put_unknown(struct cursor *c)
{
    uint64_t bytes = fuzz_below(c->q->img, 33);

    if (fuzz_chance(c->q->img, "unknown_extension", 15)) {
        uint64_t at = put_extension(c, 0x626c6b70, bytes, "unknown_extension");
        if (at && bytes) {
            rng_fill(fuzz_rng(c->q->img), fuzz_at(c->q->img, at, bytes), bytes);
        }
    }
}

static void put_extensions(struct cursor *c)
{
    struct q_build *q = c->q;
    uint64_t first = fuzz_below(q->img, 6);

    for (uint64_t i = 0; i < 6; i++) {
        switch ((first + i) % 6) {
        case 0:
            put_text(c, QCOW2_EXT_BACKING_FORMAT, q->backing_format, "backing_format");
            break;
        case 1:
            put_text(c, QCOW2_EXT_DATA_FILE, q->data_name, "data_name");
            break;
        case 2:
            if (q->bitmaps.bitmaps) {
                put_object(c, QCOW2_EXT_BITMAPS, &qcow2_bitmaps_ext_layout, &q->bitmaps, "bitmaps");
            }
            break;
        case 3:
            if (q->crypto.bytes) {
                put_object(c, QCOW2_EXT_CRYPTO, &qcow2_crypto_ext_layout, &q->crypto, "crypto");
            }
            break;
        case 4:
            if (q->h.version >= 3) {
                put_features(c);
            }
            break;
        default:
            put_unknown(c);
        }
    }
    fuzz_at(q->img, c->at, 8); /* zeroes end the list */
    fuzz_place(q->img,
               &(struct fuzz_part){
                   .name = "extension_end", .layout = &qcow2_extension_layout, .offset = c->at, .weight = 1});
    c->at += 8;
}

/* Anywhere behind the extensions. */
static void put_backing_name(struct cursor *c, uint64_t bytes)
{
    struct q_build *q = c->q;
    uint64_t room = q->cluster - c->at - bytes;
    uint64_t at = c->at + (fuzz_below(q->img, 2) ? fuzz_below(q->img, room + 1) : 0);

    memcpy(fuzz_at(q->img, at, bytes), q->backing_name, bytes);
    q->h.backing_offset = at;
    q->h.backing_bytes = (uint32_t)bytes;
    fuzz_place(q->img,
               &(struct fuzz_part){.name = "backing_name", .offset = at, .bytes = bytes, .weight = 3});
}

static uint32_t choose_header_bytes(struct q_build *q)
{
    static const uint8_t sizes[] = {104, 104, 112, 112, 112, 120, 160};
    uint32_t bytes = sizes[fuzz_below(q->img, ARRAY_SIZE(sizes))];

    if (q->h.version < 3) {
        return QCOW2_V2_HEADER_BYTES;
    }
    return q->zstd ? MAX(bytes, QCOW2_HEADER_BYTES) : bytes;
}

void q_header_write(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    uint64_t name_bytes = q->backing_name ? strlen(q->backing_name) : 0;

    q->h.header_bytes = choose_header_bytes(q);
    struct cursor c = {.q = q, .at = q->h.header_bytes, .end = q->cluster - name_bytes};
    c.header = fuzz_place(img, &(struct fuzz_part){.name = "header",
                                                   .layout = &qcow2_header_layout,
                                                   .version = q->h.version,
                                                   .bytes = q->h.header_bytes,
                                                   .align = q->cluster,
                                                   .weight = 40});
    put_extensions(&c);
    if (name_bytes) {
        put_backing_name(&c, name_bytes);
    }
    layout_write(&qcow2_header_layout, &q->h, q->h.version, fuzz_at(img, 0, q->h.header_bytes),
                 MIN(q->h.header_bytes, QCOW2_HEADER_BYTES));
    fuzz_fact(img, "version", q->h.version);
    fuzz_fact(img, "size", q->h.size);
    fuzz_fact(img, "l2_tables", q->l2s);
    fuzz_fact(img, "mapped_entries", q->maps);
    fuzz_fact(img, "snapshots", q->snapshots);
    fuzz_fact(img, "bitmaps", q->bitmaps.bitmaps);
}

/* What readers check at once is rarely hostile: most images are to be opened. */
const struct fuzz_weight q_weights[] = {
    {&qcow2_header_layout, "magic", FUZZ_NEVER},
    {&qcow2_header_layout, "version", 1},
    {&qcow2_header_layout, "backing_file_offset", 3},
    {&qcow2_header_layout, "backing_file_size", 3},
    {&qcow2_header_layout, "cluster_bits", 2},
    {&qcow2_header_layout, "size", 8},
    {&qcow2_header_layout, "crypt_method", 1},
    {&qcow2_header_layout, "l1_size", 10},
    {&qcow2_header_layout, "l1_table_offset", 8},
    {&qcow2_header_layout, "refcount_table_offset", 8},
    {&qcow2_header_layout, "refcount_table_clusters", 4},
    {&qcow2_header_layout, "nb_snapshots", 4},
    {&qcow2_header_layout, "snapshots_offset", 4},
    {&qcow2_header_layout, "incompatible_features", 3},
    {&qcow2_header_layout, "compatible_features", 8},
    {&qcow2_header_layout, "autoclear_features", 8},
    {&qcow2_header_layout, "refcount_order", 3},
    {&qcow2_header_layout, "header_length", 3},
    {&qcow2_header_layout, "compression_type", 1},
    {&qcow2_l1_layout, "offset", 30},
    {&qcow2_l1_layout, "copied", 8},
    {&qcow2_l2_layout, "offset", 30},
    {&qcow2_l2_layout, "compressed", 15},
    {&qcow2_reftable_layout, "offset", 20},
    {0},
};
