/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A checker of qcow2 images written from the specification alone, past every line of the driver: it
 * counts who refers to each cluster of a simulated file and compares with the image's refcounts.
 * What is counted too high is a leak, too low is damage.
 */
#ifndef TESTS_SIM_QCOW2_CHECK_H
#define TESTS_SIM_QCOW2_CHECK_H

#include "base/bytes.h"
#include "world.h"

struct image {
    struct sim_file *file;
    unsigned cluster_bits;
    uint64_t cluster, clusters;
    bool ext_l2, data_file;
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

/* Called twice for each table: to count references, then to judge the copied flags. */
static void image_l2(struct image *m, uint64_t table, uint64_t guest, bool count)
{
    unsigned each = m->ext_l2 ? 16 : 8;

    for (uint64_t i = 0; i < m->cluster / each; i++) {
        uint64_t e = image_be64(m, table + i * each);
        uint64_t host = e & UINT64_C(0x00fffffffffffe00);
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
                CHECK_EQ(e >> 63, image_refcount(m, host / m->cluster) == 1);
            }
        }
        if (m->ext_l2) {
            uint64_t bits = image_be64(m, table + i * each + 8);
            CHECK_EQ(bits & bits >> 32 & UINT32_MAX, 0);
            CHECK(host || e >> 62 || !(bits & UINT32_MAX));
        }
    }
}

static UNUSED bool image_is_dirty(struct sim_file *file)
{
    struct image m = {.file = file};

    return image_be32(&m, 4) >= 3 && (image_be64(&m, 72) & 1);
}

/* Damage fails the test; returns the leaked clusters. */
static UNUSED uint64_t image_check(struct sim_file *file)
{
    struct image m = {.file = file};

    CHECK_EQ(image_be32(&m, 0), 0x514649fb);
    m.cluster_bits = image_be32(&m, 20);
    m.cluster = UINT64_C(1) << m.cluster_bits;
    m.refcount_order = image_be32(&m, 4) >= 3 ? image_be32(&m, 96) : 4;
    m.ext_l2 = image_be32(&m, 4) >= 3 && (image_be64(&m, 72) >> 4 & 1);
    m.data_file = image_be32(&m, 4) >= 3 && (image_be64(&m, 72) >> 2 & 1);
    m.clusters = sim_file_size(file) / m.cluster + 3;
    m.refs = calloc(m.clusters, sizeof(*m.refs));
    CHECK(m.refs != NULL);

    uint64_t l1 = image_be64(&m, 40), l1_entries = image_be32(&m, 36);
    uint64_t table = image_be64(&m, 48), table_bytes = image_be32(&m, 56) * m.cluster;
    image_refer(&m, 0, m.cluster);
    image_refer(&m, table, table_bytes);
    if (l1_entries) {
        image_refer(&m, l1, l1_entries * 8);
    }
    for (uint64_t i = 0; i < table_bytes / 8; i++) {
        uint64_t block = image_be64(&m, table + i * 8);
        CHECK_EQ(block % m.cluster, 0);
        if (block) {
            image_refer(&m, block, m.cluster);
        }
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; i < l1_entries; i++) {
            uint64_t e = image_be64(&m, l1 + i * 8);
            uint64_t l2 = e & UINT64_C(0x00fffffffffffe00);
            if (!l2) {
                continue;
            }
            CHECK_EQ(l2 % m.cluster, 0);
            if (pass == 0) {
                image_refer(&m, l2, m.cluster);
            } else {
                CHECK_EQ(e >> 63, image_refcount(&m, l2 / m.cluster) == 1);
            }
            image_l2(&m, l2, i * m.cluster * (m.cluster / (m.ext_l2 ? 16 : 8)), pass == 0);
        }
    }
    for (uint64_t c = 0; c < m.clusters; c++) {
        uint64_t counted = image_refcount(&m, c);
        CHECK(counted >= m.refs[c]);
        m.leaks += counted > m.refs[c];
    }
    free(m.refs);
    return m.leaks;
}

#endif
