/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A qcow2 image under construction: what the files of this folder share.
 *
 *   qcow2.c      the format; the order of building; choices
 *   mapping.c    L1 and L2 tables, guest data, compressed clusters
 *   snapshot.c   the snapshot table
 *   bitmap.c     persistent bitmaps
 *   refcount.c   refcount table and blocks, in the end
 *   header.c     header, extensions, names
 *   luks.c       the header of an encrypted one
 *   recipes.c    what broke parsers once
 *   parse.c      foreign images
 */
#ifndef FUZZ_QCOW2_BUILD_H
#define FUZZ_QCOW2_BUILD_H

#include "drivers/qcow2/qcow2.h"
#include "fuzz/formats.h"

#define Q_CLUSTERS_MAX  8192 /* counted at most; positions lie below */
#define Q_L2_MAX        16
#define Q_MAPS_MAX      192
#define Q_L1_USES_MAX   6 /* L2 tables of one L1 table */
#define Q_SNAPSHOTS_MAX 4
#define Q_BITMAPS_MAX   3
#define Q_USED          32 /* entries at the beginning of tables that are mostly used */

enum q_kind { Q_NORMAL, Q_ZERO, Q_ZERO_ALLOC, Q_COMPRESSED, Q_SHARED, Q_SUBCLUSTERS };

struct q_map { /* one L2 entry */
    uint8_t l2, kind;
    bool placed; /* it has a cluster, maybe at 0 of a data file */
    uint32_t slot;
    uint64_t host;   /* of the cluster; 0: none */
    uint64_t entry;  /* Q_COMPRESSED: all of it */
    uint64_t bitmap; /* of subclusters */
};

struct q_l2 {
    uint64_t offset;
    unsigned refs;  /* L1 entries that name it */
    bool vmstate;   /* holds no guest data */
    uint32_t slots; /* entries that may be used: the disk ends behind */
};

struct q_l1 {
    uint64_t offset;
    uint32_t entries;
    unsigned uses;
    struct {
        uint32_t index;
        uint8_t l2;
    } use[Q_L1_USES_MAX];
    uint64_t disk_bytes, vm_state_bytes; /* of a snapshot */
};

struct q_build {
    struct fuzz_image *img;
    struct fuzz_space space;
    struct qcow2_header h;
    uint64_t cluster;    /* bytes */
    unsigned l2_entry;   /* 8 or 16 bytes */
    uint64_t l2_entries; /* of one table */
    uint64_t refblock_entries;
    uint64_t ref_max;
    bool ext_l2, zstd, data_file, data_raw;
    const char *data_name, *backing_name, *backing_format;
    struct q_l1 l1, snapshot[Q_SNAPSHOTS_MAX];
    unsigned snapshots;
    struct q_l2 l2[Q_L2_MAX];
    unsigned l2s;
    struct q_map map[Q_MAPS_MAX];
    unsigned maps;
    uint64_t packed_at, packed_end; /* where compressed data may go on */
    struct qcow2_bitmaps_ext bitmaps;
    struct qcow2_crypto_ext crypto;
    uint64_t reftable_entries;
    uint64_t clusters_max; /* that the table can count */
    uint16_t refs[Q_CLUSTERS_MAX];
};

/* @n clusters that belong to one thing; 0: there is no room. */
static inline uint64_t q_take(struct q_build *q, uint64_t n)
{
    uint64_t at = fuzz_space_take(q->img, &q->space, n);

    for (uint64_t i = 0; at && i < n; i++) {
        q->refs[at / q->cluster + i] = 1;
    }
    return at;
}

/* Choose L2 tables and what is in them; later, when all counts are known, write them. */
void q_map_plan(struct q_build *q);
void q_map_write(struct q_build *q);
/* A place for the L1 table; false: there is none. */
bool q_l1_take(struct q_build *q, struct q_l1 *l1);
/* A new L2 table; its index, or -1. */
int q_l2_new(struct q_build *q, uint64_t guest, uint64_t disk_bytes);
void q_l1_write(struct q_build *q, const struct q_l1 *l1, int parent, const char *name, bool active);
void q_snapshot_write(struct q_build *q);
void q_bitmap_build(struct q_build *q);
/* Where refcount table and blocks are; the space is limited to what the table can hold. */
void q_refcount_plan(struct q_build *q);
void q_refcount_write(struct q_build *q);
void q_header_write(struct q_build *q);
/* A LUKS header of one cluster or 4096 bytes, whatever is more, at @at. */
void q_luks_write(struct fuzz_image *img, uint64_t at);

extern const struct layout q_refcount_layouts[7]; /* by refcount_order */
extern const struct fuzz_weight q_weights[];

extern const struct fuzz_recipe q_recipes[];
bool q_probe(const uint8_t *bytes, uint64_t size);
void q_parse(struct fuzz_image *img);

#endif
