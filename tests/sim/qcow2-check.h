/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A checker of qcow2 images written from the specification alone, past every line of the driver: it
 * counts who refers to each cluster of a simulated file (the tables, those of snapshots, bitmaps) and
 * compares with the image's refcounts. What is counted too high is a leak, too low is damage.
 */
#ifndef TESTS_SIM_QCOW2_CHECK_H
#define TESTS_SIM_QCOW2_CHECK_H

#include "base/bytes.h"
#include "world.h"

#define IMAGE_OFFSET UINT64_C(0x00fffffffffffe00) /* of L1, L2 and bitmap table entries */

struct image {
    struct sim_file *file;
    unsigned cluster_bits;
    uint64_t cluster, clusters;
    bool ext_l2, data_file;
    bool marks_behind; /* copied flags need not agree with refcounts that are too high */
    unsigned refcount_order;
    uint32_t *refs; /* references found, by cluster */
    uint64_t leaks;
};

static uint64_t image_be64(struct image *m, uint64_t offset)
{
    uint8_t b[8];

    sim_file_peek(m->file, offset, b, 8);
    return get_be64(b);
}

static uint32_t image_be32(struct image *m, uint64_t offset)
{
    uint8_t b[4];

    sim_file_peek(m->file, offset, b, 4);
    return get_be32(b);
}

static void image_refer(struct image *m, uint64_t offset, uint64_t bytes)
{
    CHECK(offset + bytes <= m->clusters * m->cluster);
    for (uint64_t c = offset / m->cluster; c <= (offset + bytes - 1) / m->cluster; c++) {
        m->refs[c]++;
    }
}

static uint64_t image_refcount(struct image *m, uint64_t cluster)
{
    uint64_t bits = UINT64_C(1) << m->refcount_order;
    uint64_t per_block = m->cluster * 8 / bits;
    uint64_t table = image_be64(m, 48), entries = image_be32(m, 56) * m->cluster / 8;
    uint64_t block = cluster / per_block < entries ? image_be64(m, table + cluster / per_block * 8) : 0;
    uint8_t b[8] = {0};

    if (!block) {
        return 0;
    }
    uint64_t bit = cluster % per_block * bits;
    if (bits < 8) {
        sim_file_peek(m->file, block + bit / 8, b, 1);
        return b[0] >> (bit % 8) & ((1u << bits) - 1);
    }
    sim_file_peek(m->file, block + bit / 8, b + 8 - bits / 8, bits / 8);
    return get_be64(b);
}

/* Copied flags are judged once everything is counted: they say that the refcount is one. */
enum image_pass { IMAGE_COUNT, IMAGE_FLAGS };

static void image_flag(struct image *m, uint64_t entry, uint64_t host)
{
    if (m->marks_behind) { /* what matters: nobody else may use what is changed in place */
        CHECK(!(entry >> 63) || m->refs[host / m->cluster] == 1);
    } else {
        CHECK_EQ(entry >> 63, image_refcount(m, host / m->cluster) == 1);
    }
}

static void image_l2(struct image *m, uint64_t table, uint64_t guest, enum image_pass pass)
{
    unsigned each = m->ext_l2 ? 16 : 8;
    bool count = pass == IMAGE_COUNT;

    for (uint64_t i = 0; i < m->cluster / each; i++) {
        uint64_t e = image_be64(m, table + i * each);
        uint64_t host = e & IMAGE_OFFSET;
        if (e >> 62 & 1) {
            unsigned x = 62 - (m->cluster_bits - 8);
            uint64_t at = e & ((UINT64_C(1) << x) - 1);
            uint64_t sectors = (e & ((UINT64_C(1) << 62) - 1)) >> x;
            CHECK(!(e >> 63));
            if (count) {
                image_refer(m, at, (sectors + 1) * 512 - at % 512);
            }
        } else if (host) {
            CHECK_EQ(host % m->cluster, 0);
            if (m->data_file) { /* not counted */
                CHECK_EQ(host, guest + i * m->cluster);
            } else if (count) {
                image_refer(m, host, m->cluster);
            } else {
                image_flag(m, e, host);
            }
        }
        if (m->ext_l2) {
            uint64_t bits = image_be64(m, table + i * each + 8);
            CHECK_EQ(bits & bits >> 32 & UINT32_MAX, 0);
            CHECK(host || e >> 62 || !(bits & UINT32_MAX));
        }
    }
}

/* An L1 table refers to all that its L2 tables name, also when others name the same L2 tables. */
static void image_l1(struct image *m, uint64_t l1, uint64_t entries, enum image_pass pass)
{
    uint64_t guest_bytes = m->cluster * (m->cluster / (m->ext_l2 ? 16 : 8)); /* of one L2 table */

    CHECK_EQ(l1 % m->cluster, 0);
    if (entries && pass == IMAGE_COUNT) {
        image_refer(m, l1, entries * 8);
    }
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t e = image_be64(m, l1 + i * 8);
        uint64_t l2 = e & IMAGE_OFFSET;
        if (!l2) {
            continue;
        }
        CHECK_EQ(l2 % m->cluster, 0);
        if (pass == IMAGE_COUNT) {
            image_refer(m, l2, m->cluster);
        } else {
            image_flag(m, e, l2);
        }
        image_l2(m, l2, i * guest_bytes, pass);
    }
}

/* ---- snapshots and bitmaps ---- */

static void image_snapshots(struct image *m)
{
    uint32_t count = image_be32(m, 60);
    uint64_t table = image_be64(m, 64), at = table;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t extra = image_be32(m, at + 36), names = image_be32(m, at + 12);
        CHECK(extra >= 16 || image_be32(m, 4) < 3);
        CHECK(extra < 1024);
        image_l1(m, image_be64(m, at), image_be32(m, at + 8), IMAGE_COUNT);
        at += (40 + extra + (names >> 16) + (names & 0xffff) + 7) & ~UINT64_C(7);
    }
    if (count) {
        CHECK_EQ(table % m->cluster, 0);
        image_refer(m, table, at - table);
    }
}

/* File offset of the data of a header extension; 0: there is none. */
static uint64_t image_extension(struct image *m, uint32_t type, uint32_t *ret_bytes)
{
    uint64_t name = image_be64(m, 8);
    uint64_t end = name ? name : m->cluster;

    for (uint64_t at = image_be32(m, 4) >= 3 ? image_be32(m, 100) : 72; at + 8 <= end;) {
        uint32_t found = image_be32(m, at), bytes = image_be32(m, at + 4);
        if (found == 0) {
            break;
        }
        CHECK(at + 8 + bytes <= end);
        if (found == type) {
            *ret_bytes = bytes;
            return at + 8;
        }
        at += 8 + ((bytes + 7) & ~UINT64_C(7));
    }
    return 0;
}

static void image_bitmap_table(struct image *m, uint64_t table, uint32_t entries)
{
    CHECK_EQ(table % m->cluster, 0);
    image_refer(m, table, (uint64_t)entries * 8);
    for (uint32_t i = 0; i < entries; i++) {
        uint64_t e = image_be64(m, table + i * 8);
        uint64_t host = e & IMAGE_OFFSET;
        CHECK_EQ(host % m->cluster, 0);
        CHECK_EQ(e & ~IMAGE_OFFSET & (host ? UINT64_MAX : ~UINT64_C(1)), 0);
        if (host) {
            image_refer(m, host, m->cluster);
        }
    }
}

static void image_bitmaps(struct image *m)
{
    uint32_t bytes = 0;
    uint64_t ext = image_extension(m, 0x23852875, &bytes);

    if (image_be32(m, 4) < 3 || !(image_be64(m, 88) & 1)) {
        return; /* what is there means nothing */
    }
    CHECK(ext != 0);
    CHECK_EQ(bytes, 24);
    uint32_t count = image_be32(m, ext);
    uint64_t directory_bytes = image_be64(m, ext + 8), directory = image_be64(m, ext + 16);
    CHECK(count > 0);
    CHECK_EQ(directory % m->cluster, 0);
    image_refer(m, directory, directory_bytes);
    uint64_t at = directory;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tail = image_be32(m, at + 16), extra = image_be32(m, at + 20);
        CHECK(at + 24 <= directory + directory_bytes);
        CHECK_EQ(image_be32(m, at + 12) & ~7u, 0);
        image_bitmap_table(m, image_be64(m, at), image_be32(m, at + 8));
        at += (24 + (tail & 0xffff) + extra + 7) & ~UINT64_C(7);
    }
    CHECK_EQ(at, directory + directory_bytes);
}

/* ---- all ---- */

static UNUSED bool image_is_dirty(struct sim_file *file)
{
    struct image m = {.file = file};

    return image_be32(&m, 4) >= 3 && (image_be64(&m, 72) & 1);
}

static void image_reftable(struct image *m)
{
    uint64_t table = image_be64(m, 48), bytes = image_be32(m, 56) * m->cluster;

    image_refer(m, table, bytes);
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t block = image_be64(m, table + i * 8);
        CHECK_EQ(block % m->cluster, 0);
        if (block) {
            image_refer(m, block, m->cluster);
        }
    }
}

static struct image image_look(struct sim_file *file)
{
    struct image m = {.file = file};

    CHECK_EQ(image_be32(&m, 0), 0x514649fb);
    m.cluster_bits = image_be32(&m, 20);
    m.cluster = UINT64_C(1) << m.cluster_bits;
    m.refcount_order = image_be32(&m, 4) >= 3 ? image_be32(&m, 96) : 4;
    m.ext_l2 = image_be32(&m, 4) >= 3 && (image_be64(&m, 72) >> 4 & 1);
    m.data_file = image_be32(&m, 4) >= 3 && (image_be64(&m, 72) >> 2 & 1);
    m.clusters = sim_file_size(file) / m.cluster + 3;
    return m;
}

static uint64_t image_count(struct sim_file *file, bool marks_behind)
{
    struct image m = image_look(file);

    m.marks_behind = marks_behind;
    m.refs = calloc(m.clusters, sizeof(*m.refs));
    CHECK(m.refs != NULL);

    image_refer(&m, 0, m.cluster);
    image_reftable(&m);
    image_snapshots(&m);
    image_bitmaps(&m);
    for (enum image_pass pass = IMAGE_COUNT; pass <= IMAGE_FLAGS; pass++) {
        image_l1(&m, image_be64(&m, 40), image_be32(&m, 36), pass);
    }
    uint64_t in_file = div_up(sim_file_size(file), m.cluster);
    for (uint64_t c = 0; c < m.clusters; c++) {
        uint64_t counted = image_refcount(&m, c);
        CHECK(counted >= m.refs[c]);
        if (counted > m.refs[c] && getenv("BLKPROOF_SIM_TELL")) {
            fprintf(stderr, "leaked: cluster %llu: refcount %llu, references %u\n", (unsigned long long)c,
                    (unsigned long long)counted, m.refs[c]);
        }
        m.leaks += counted > m.refs[c] && c < in_file; /* further ones appear when the file grows */
    }
    free(m.refs);
    return m.leaks;
}

/* Damage fails the test; returns the leaked clusters. */
static UNUSED uint64_t image_check(struct sim_file *file)
{
    return image_count(file, false);
}

/* A version 2 image where the power went while snapshots changed: it has no dirty bit that tells to repair
 * it. */
static UNUSED uint64_t image_check_version2(struct sim_file *file)
{
    struct image m = {.file = file};

    return image_count(file, image_be32(&m, 4) < 3);
}

#endif
