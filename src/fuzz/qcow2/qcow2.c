/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2 for the fuzzer. An image is planned first (what there is, and where), because reference counts and
 * the flags that follow from them are known only when everything is; then it is written. What finds no room
 * is left out: an image of 2 MiB clusters has few of them.
 */
#include "fuzz/guest.h"
#include "fuzz/qcow2/build.h"

#define DISK_SMALL (16 * MiB)
#define DISK_LARGE (4 * GiB) /* holes cost nothing; programs that read everything need some time */

static bool chance3(struct q_build *q, const char *name, unsigned percent) /* needs version 3 */
{
    bool yes = fuzz_chance(q->img, name, percent);

    return yes && q->h.version >= 3;
}

static void choose_features(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    struct qcow2_header *h = &q->h;

    h->magic = QCOW2_MAGIC;
    h->version = fuzz_chance(img, "v2", 20) ? 2 : 3;
    h->cluster_bits =
        (uint32_t)fuzz_pick(img, "cluster_bits", QCOW2_CLUSTER_BITS_MIN, QCOW2_CLUSTER_BITS_MAX);
    h->refcount_order = (uint32_t)fuzz_pick(img, "refcount_order", 0, 6);
    if (fuzz_chance(img, "refcount_16", 40) || h->version == 2) {
        h->refcount_order = 4;
    }
    q->ext_l2 = chance3(q, "extended_l2", 30) && h->cluster_bits >= QCOW2_EXT_L2_BITS_MIN;
    q->zstd = chance3(q, "zstd", 30);
    q->data_file = chance3(q, "data_file", 10);
    q->data_raw = chance3(q, "data_file_raw", 40) && q->data_file;
    h->incompatible = chance3(q, "dirty", 8) ? QCOW2_DIRTY : 0;
    h->incompatible |= chance3(q, "corrupt", 3) ? QCOW2_CORRUPT : 0u;
    h->incompatible |= (q->data_file ? QCOW2_DATA_FILE : 0u) | (q->zstd ? QCOW2_COMPRESSION : 0u) |
                       (q->ext_l2 ? QCOW2_EXT_L2 : 0u);
    h->compatible = chance3(q, "lazy_refcounts", 30) ? QCOW2_LAZY : 0;
    h->autoclear = q->data_raw ? QCOW2_DATA_FILE_RAW : 0;
    h->compression = q->zstd ? QCOW2_ZSTD : QCOW2_DEFLATE;
}

static void derive(struct q_build *q)
{
    unsigned bits = 1u << q->h.refcount_order;

    q->cluster = UINT64_C(1) << q->h.cluster_bits;
    q->l2_entry = q->ext_l2 ? 16 : 8;
    q->l2_entries = q->cluster / q->l2_entry;
    q->refblock_entries = q->cluster * 8 / bits;
    q->ref_max = bits >= 16 ? UINT16_MAX : (UINT64_C(1) << bits) - 1;
}

/* Of whole sectors; often not of whole clusters. */
static void choose_size(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    uint64_t most = fuzz_chance(img, "large_disk", 8) ? DISK_LARGE : DISK_SMALL;
    uint64_t table = q->l2_entries * q->cluster;

    most = MIN(most, MAX(table * 48, UINT64_C(1) * MiB)); /* the L1 table stays small */
    q->h.size = fuzz_pick(img, "sectors", 0, most / SECTOR_SIZE) * SECTOR_SIZE;
    if (fuzz_chance(img, "whole_clusters", 30)) {
        q->h.size = round_down(q->h.size, q->cluster);
    }
    if (fuzz_chance(img, "empty_disk", 2)) {
        q->h.size = 0;
    }
    uint64_t extra = fuzz_chance(img, "l1_spare", 25) ? 1 + fuzz_below(img, 3) : 0;
    q->l1.entries = (uint32_t)(div_up(q->h.size, table) + extra);
    q->l1.disk_bytes = q->h.size;
}

/* ---- files beside ---- */

static void build_raw(struct fuzz_image *img)
{
    uint64_t size = fuzz_pick(img, "sectors", 0, MIN(fuzz_limit(img), 2 * MiB) / SECTOR_SIZE) * SECTOR_SIZE;

    for (uint64_t i = 0; i < 4 && size; i++) {
        uint64_t at = fuzz_below(img, size / SECTOR_SIZE) * SECTOR_SIZE;
        uint64_t len = MIN(size - at, UINT64_C(4096));
        fuzz_data(img, at, len);
        fuzz_place_bytes(img, "data", (int)i, at, len);
    }
    fuzz_set_size(img, size);
    fuzz_guest_size(img, size);
    fuzz_guest_at(img, 0, size, 0);
}

static void build_beside(struct q_build *q)
{
    struct fuzz_image *img = q->img;

    if (q->data_file) {
        q->data_name = fuzz_beside(img, "data", &fuzz_raw);
        q->data_file = q->data_name != NULL;
    }
    if (!q->data_file) {
        q->h.incompatible &= ~(uint64_t)QCOW2_DATA_FILE;
        q->h.autoclear &= ~(uint64_t)QCOW2_DATA_FILE_RAW;
        q->data_raw = false;
    }
    /* a raw data file alone has all the data: it cannot have a backing file */
    if (fuzz_chance(img, "backing", fuzz_depth(img) ? 20 : 35) && !q->data_raw) {
        const struct fuzz_format *format = fuzz_backing_format(img);
        bool named = fuzz_chance(img, "backing_format_named", 97);
        q->backing_name = format ? fuzz_beside(img, "backing", format) : NULL;
        q->backing_format = q->backing_name && named ? format->backing : NULL;
    }
}

/* ---- encryption: the header area is there, but no key fits ---- */

static void build_luks(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    uint64_t bytes = 4096, clusters = div_up(bytes, q->cluster);
    bool wanted = chance3(q, "luks", 2), old = fuzz_chance(img, "aes", 1);

    if (fuzz_depth(img)) { /* what lies below can be read */
        return;
    }
    if (old && !wanted && !q->ext_l2) {
        q->h.crypt_method = QCOW2_CRYPT_AES;
    }
    uint64_t at = wanted ? q_take(q, clusters) : 0;
    if (at) {
        q->h.crypt_method = QCOW2_CRYPT_LUKS;
        q->crypto = (struct qcow2_crypto_ext){at, bytes};
        q_luks_write(img, at);
    }
}

static void build(struct fuzz_image *img)
{
    struct q_build q = {.img = img};

    choose_features(&q);
    derive(&q);
    choose_size(&q);
    build_beside(&q);
    q_refcount_plan(&q);
    bool room = q_l1_take(&q, &q.l1); /* the smallest limit leaves some for it */
    assert(room);
    q.h.l1_offset = q.l1.offset;
    q.h.l1_entries = q.l1.entries;
    build_luks(&q);
    q_map_plan(&q);
    q_bitmap_build(&q);
    q_map_write(&q);
    q_snapshot_write(&q);
    q_refcount_write(&q);
    q_header_write(&q);
    fuzz_set_size(img, q.space.next * q.cluster);
}

static const struct fuzz_alias aliases[] = {
    {"l1_table", "l1"},
    {"l2_tables", "l2"},
    {"refcount_blocks", "refcount_block"},
    {"backing_file_format", "backing_format"},
    {"backing_file_name", "backing_name"},
    {"feature_name_table", "feature_names"},
    {"end_of_extension_area", "extension_end"},
    {"l1_entry", "offset"},
    {"l2_entry", "offset"},
    {"refcount_table_entry", "offset"},
    {"refcount_block_entry", "refcount"},
    {0},
};

const struct fuzz_format fuzz_raw = {
    .name = "raw",
    .ext = "raw",
    .summary = "plain bytes, as backing and data files are",
    .backing = "raw",
    .build = build_raw,
};

const struct fuzz_format fuzz_qcow2 = {
    .name = "qcow2",
    .ext = "qcow2",
    .summary = "QEMU's image format, versions 2 and 3 with all their extensions",
    .backing = "qcow2",
    .build = build,
    .weights = q_weights,
    .recipes = q_recipes,
    .aliases = aliases,
    .probe = q_probe,
    .parse = q_parse,
};
