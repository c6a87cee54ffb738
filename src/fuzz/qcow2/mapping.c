/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest data: L2 tables with entries of every kind, and the L1 tables that name them. Snapshots may share L2
 * tables with the active disk, and entries may share clusters; reference counts are made on the way and never
 * become more than their width can say.
 */
#include "fuzz/compress.h"
#include "fuzz/qcow2/build.h"

#define PAYLOAD_MAX 512 /* bytes of a compressed cluster that are not zero */

/* ---- tables ---- */

int q_l2_new(struct q_build *q, uint64_t guest, uint64_t disk_bytes)
{
    uint64_t at = q->l2s < Q_L2_MAX ? q_take(q, 1) : 0;
    uint64_t slots = guest < disk_bytes ? div_up(disk_bytes - guest, q->cluster) : 0;

    if (!at) {
        return -1;
    }
    q->l2[q->l2s] = (struct q_l2){.offset = at,
                                  .refs = 1,
                                  .vmstate = guest >= disk_bytes,
                                  .slots = (uint32_t)MIN(slots, q->l2_entries)};
    return (int)q->l2s++;
}

bool q_l1_take(struct q_build *q, struct q_l1 *l1)
{
    l1->offset = l1->entries ? q_take(q, div_up(l1->entries * UINT64_C(8), q->cluster)) : 0;
    return l1->entries == 0 || l1->offset;
}

static bool l1_has(const struct q_l1 *l1, uint32_t index)
{
    for (unsigned i = 0; i < l1->uses; i++) {
        if (l1->use[i].index == index) {
            return true;
        }
    }
    return false;
}

static void l1_add(struct q_l1 *l1, uint32_t index, int l2)
{
    if (l2 >= 0) {
        l1->use[l1->uses].index = index;
        l1->use[l1->uses++].l2 = (uint8_t)l2;
    }
}

/* Some of the L1 table's entries get tables of their own. */
static void plan_l1(struct q_build *q, struct q_l1 *l1, uint64_t most)
{
    uint64_t table = q->l2_entries * q->cluster;
    uint64_t covered = div_up(l1->disk_bytes, table);
    uint64_t n = covered ? 1 + fuzz_below(q->img, MIN(most, covered)) : 0;

    for (uint64_t i = 0; i < n && l1->uses < Q_L1_USES_MAX; i++) {
        uint32_t index = (uint32_t)(i == 0 && fuzz_below(q->img, 2) ? 0 : fuzz_below(q->img, covered));
        if (!l1_has(l1, index)) {
            l1_add(l1, index, q_l2_new(q, index * table, l1->disk_bytes));
        }
    }
}

/* The snapshot has some of the active tables, as long as their counts allow it. */
static void share_tables(struct q_build *q, struct q_l1 *l1)
{
    for (unsigned i = 0; i < q->l1.uses && l1->uses < Q_L1_USES_MAX; i++) {
        struct q_l2 *l2 = &q->l2[q->l1.use[i].l2];
        if (q->l1.use[i].index < l1->entries && l2->refs < q->ref_max && fuzz_below(q->img, 2)) {
            l2->refs++;
            q->refs[l2->offset / q->cluster]++;
            l1_add(l1, q->l1.use[i].index, q->l1.use[i].l2);
        }
    }
}

/* ---- entries ---- */

/* A free slot, near the beginning of the table mostly. */
static bool find_slot(struct q_build *q, uint8_t l2, uint32_t *ret_slot)
{
    uint32_t slots = q->l2[l2].slots;

    for (int tries = 0; tries < 4 && slots; tries++) {
        uint32_t most = fuzz_below(q->img, 8) ? MIN(slots, (uint32_t)Q_USED) : slots;
        uint32_t slot = (uint32_t)fuzz_below(q->img, most);
        bool taken = false;
        for (unsigned i = 0; i < q->maps && !taken; i++) {
            taken = q->map[i].l2 == l2 && q->map[i].slot == slot;
        }
        if (!taken) {
            *ret_slot = slot;
            return true;
        }
    }
    return false;
}

/* The guest's offset of an entry: in an external data file, data lies just there. */
static uint64_t guest_of(const struct q_build *q, const struct q_map *m)
{
    uint64_t index = 0;

    for (unsigned i = 0; i < q->l1.uses; i++) {
        index = q->l1.use[i].l2 == m->l2 ? q->l1.use[i].index : index;
    }
    return (index * q->l2_entries + m->slot) * q->cluster;
}

static uint64_t take_data(struct q_build *q, const struct q_map *m)
{
    struct fuzz_image *img = q->img;
    uint64_t at = q->data_file ? guest_of(q, m) : fuzz_space_take(img, &q->space, 1);

    if (at && !q->data_file) {
        q->refs[at / q->cluster] = (uint16_t)q->l2[m->l2].refs;
        fuzz_data(img, at, q->cluster);
        if (fuzz_below(img, 4) == 0) {
            fuzz_place_bytes(img, "data", (int)q->maps, at, MIN(q->cluster, UINT64_C(4096)));
        }
    }
    return at;
}

/* The cluster of an entry that is there already. */
static uint64_t share_data(struct q_build *q, const struct q_map *m)
{
    for (unsigned i = 0; i < q->maps && !q->data_file; i++) {
        const struct q_map *other = &q->map[i];
        uint16_t *refs = other->host ? &q->refs[other->host / q->cluster] : NULL;
        if (refs && other->kind != Q_COMPRESSED && *refs + q->l2[m->l2].refs <= q->ref_max) {
            *refs = (uint16_t)(*refs + q->l2[m->l2].refs);
            return other->host;
        }
    }
    return 0;
}

/* Bits of subclusters: allocated ones only with a cluster, and none both allocated and zero. */
static uint64_t random_bitmap(struct q_build *q, bool allocated)
{
    uint64_t bits = rng_u64(fuzz_rng(q->img)), zero = bits >> 32;

    if (fuzz_below(q->img, 4) == 0) {
        zero = 0;
    }
    uint64_t data = allocated ? bits & ~zero & UINT32_MAX : 0;
    return zero << 32 | data;
}

/* ---- compressed clusters ---- */

static bool refs_fit(const struct q_build *q, uint64_t from, uint64_t to, unsigned more)
{
    for (uint64_t c = from; c <= to; c++) {
        if (q->refs[c] + more > q->ref_max) {
            return false;
        }
    }
    return true;
}

/* @bytes bytes, behind the last ones where there is room, and where the counts allow it. */
static uint64_t take_packed(struct q_build *q, uint64_t bytes, unsigned refs)
{
    uint64_t clusters = div_up(bytes, q->cluster), at = q->packed_at;

    if (at && at + bytes <= q->packed_end &&
        refs_fit(q, at / q->cluster, (at + bytes - 1) / q->cluster, refs)) {
        q->packed_at = at + bytes;
    } else {
        at = fuzz_space_take(q->img, &q->space, clusters);
        q->packed_at = at ? at + bytes : 0;
        q->packed_end = at + clusters * q->cluster;
    }
    for (uint64_t c = at / q->cluster; at && c <= (at + bytes - 1) / q->cluster; c++) {
        q->refs[c] = (uint16_t)(q->refs[c] + refs);
    }
    return at;
}

static bool plan_compressed(struct q_build *q, struct q_map *m)
{
    static_assert(QCOW2_CLUSTER_BITS_MAX == 21, "the buffer below holds the longest");
    struct fuzz_image *img = q->img;
    uint8_t payload[PAYLOAD_MAX], out[PAYLOAD_MAX + (1 << 21) / 128 + 320];
    size_t len = 1 + fuzz_below(img, MIN(q->cluster, (uint64_t)PAYLOAD_MAX));
    unsigned bits = q->h.cluster_bits;

    rng_fill(fuzz_rng(img), payload, len);
    size_t bytes =
        q->zstd ? fuzz_zstd(payload, len, q->cluster, out) : fuzz_deflate(payload, len, q->cluster, out);
    uint64_t at = q->data_file ? 0 : take_packed(q, bytes, q->l2[m->l2].refs);
    if (!at) {
        return false;
    }
    memcpy(fuzz_at(img, at, bytes), out, bytes);
    uint64_t more = (at + bytes - 1) / SECTOR_SIZE - at / SECTOR_SIZE;
    m->entry = QCOW2_COMPRESSED | more << (62 - (bits - 8)) | at;
    int part =
        fuzz_place(img, &(struct fuzz_part){.name = "compressed",
                                            .many = true,
                                            .index = q->maps,
                                            .layout = q->zstd ? &fuzz_zstd_layout : &fuzz_deflate_layout,
                                            .offset = at,
                                            .weight = 3});
    if (part) {
        uint64_t head = q->zstd ? fuzz_zstd_layout.bytes : fuzz_deflate_layout.bytes;
        fuzz_place(
            img,
            &(struct fuzz_part){
                .name = "stream", .parent = part, .offset = at + head, .bytes = bytes - head, .weight = 2});
    }
    return true;
}

/* ---- one entry ---- */

static enum q_kind choose_kind(struct q_build *q)
{
    static const uint8_t kinds[] = {Q_NORMAL,     Q_NORMAL,     Q_NORMAL, Q_ZERO,       Q_ZERO_ALLOC,
                                    Q_COMPRESSED, Q_COMPRESSED, Q_SHARED, Q_SUBCLUSTERS};
    enum q_kind kind = kinds[fuzz_below(q->img, ARRAY_SIZE(kinds))];

    if (kind == Q_SUBCLUSTERS && !q->ext_l2) {
        return Q_NORMAL;
    }
    if ((kind == Q_ZERO || kind == Q_ZERO_ALLOC) && q->h.version < 3) {
        return Q_NORMAL;
    }
    /* a raw data file has every byte in its place; encrypted data is not compressed */
    if (kind == Q_COMPRESSED && (q->data_file || q->h.crypt_method)) {
        return Q_NORMAL;
    }
    return kind == Q_SHARED && q->data_file ? Q_NORMAL : kind;
}

static bool plan_entry(struct q_build *q, struct q_map *m)
{
    bool with_cluster = true;

    switch (m->kind) {
    case Q_COMPRESSED:
        return plan_compressed(q, m);
    case Q_ZERO:
        with_cluster = false;
        m->bitmap = q->ext_l2 ? QCOW2_ALL_ZERO : 0;
        break;
    case Q_ZERO_ALLOC:
        m->bitmap = q->ext_l2 ? QCOW2_ALL_ZERO : 0;
        break;
    case Q_SUBCLUSTERS:
        with_cluster = fuzz_below(q->img, 4) != 0;
        m->bitmap = random_bitmap(q, with_cluster);
        break;
    default:
        m->bitmap = q->ext_l2 ? UINT32_MAX : 0;
    }
    m->host = !with_cluster ? 0 : m->kind == Q_SHARED ? share_data(q, m) : take_data(q, m);
    m->placed = with_cluster;
    return !with_cluster || m->host || q->data_file;
}

static void plan_entries(struct q_build *q)
{
    uint64_t n = fuzz_pick(q->img, "mapped", 0, 28);

    for (uint64_t i = 0; i < n && q->l2s && q->maps < Q_MAPS_MAX; i++) {
        struct q_map m = {.l2 = (uint8_t)fuzz_below(q->img, q->l2s)};
        m.kind = (uint8_t)choose_kind(q);
        if (q->l2[m.l2].vmstate || (q->data_raw && m.kind != Q_NORMAL)) {
            continue;
        }
        if (find_slot(q, m.l2, &m.slot) && plan_entry(q, &m)) {
            q->map[q->maps++] = m;
        }
    }
}

/* The state of a machine lies behind the end of the disk, in whole clusters. */
static void plan_vm_state(struct q_build *q, struct q_l1 *l1)
{
    uint64_t table = q->l2_entries * q->cluster, first = div_up(l1->disk_bytes, table);
    uint64_t n = 1 + fuzz_below(q->img, 2);
    int l2 = q_l2_new(q, first * table, first * table);

    if (l2 < 0) {
        return;
    }
    l1_add(l1, (uint32_t)first, l2);
    for (uint32_t slot = 0; slot < n && q->maps < Q_MAPS_MAX; slot++) {
        struct q_map m = {.l2 = (uint8_t)l2,
                          .kind = Q_NORMAL,
                          .slot = slot,
                          .placed = true,
                          .bitmap = q->ext_l2 ? UINT32_MAX : 0};
        m.host = take_data(q, &m);
        if (m.host) {
            q->map[q->maps++] = m;
            l1->vm_state_bytes = (slot + 1) * q->cluster - fuzz_below(q->img, 512);
        }
    }
}

static void plan_snapshot(struct q_build *q, struct q_l1 *l1)
{
    uint64_t size = q->h.size, table = q->l2_entries * q->cluster;
    bool vm_state = fuzz_chance(q->img, "vm_state", 35);

    /* it may have been taken when the disk had another size */
    l1->disk_bytes = fuzz_below(q->img, 3) || q->h.version < 3 ? size : round_down(size / 2, SECTOR_SIZE);
    l1->entries = (uint32_t)(div_up(l1->disk_bytes, table) + vm_state);
    if (!q_l1_take(q, l1)) {
        return;
    }
    q->snapshots++;
    if (vm_state) {
        plan_vm_state(q, l1);
    }
    if (l1->disk_bytes == size) {
        share_tables(q, l1);
    }
    if (l1->uses < Q_L1_USES_MAX && fuzz_below(q->img, 3) == 0) {
        plan_l1(q, l1, 1);
    }
}

void q_map_plan(struct q_build *q)
{
    struct fuzz_image *img = q->img;
    uint64_t wanted = fuzz_chance(img, "with_snapshots", 30) ? fuzz_pick(img, "snapshots", 1, 3) : 0;
    bool possible = wanted && !q->data_file && q->h.crypt_method == QCOW2_CRYPT_NONE;

    plan_l1(q, &q->l1, 4);
    q->h.snapshots_offset = possible ? q_take(q, 1) : 0; /* three entries are less than 512 bytes */
    for (uint64_t i = 0; i < wanted && q->h.snapshots_offset; i++) {
        plan_snapshot(q, &q->snapshot[q->snapshots]);
    }
    plan_entries(q);
}

/* ---- writing ---- */

static uint64_t copied(const struct q_build *q, uint64_t host)
{
    return q->data_file || q->refs[host / q->cluster] == 1 ? QCOW2_COPIED : 0;
}

static uint64_t entry_of(const struct q_build *q, const struct q_map *m)
{
    bool zero_bit = !q->ext_l2 && (m->kind == Q_ZERO || m->kind == Q_ZERO_ALLOC);
    if (m->kind == Q_COMPRESSED) {
        return m->entry;
    }
    return m->host | (m->placed ? copied(q, m->host) : 0) | (zero_bit ? QCOW2_ZERO : 0);
}

static void write_l2(struct q_build *q, unsigned i)
{
    struct fuzz_image *img = q->img;
    const struct q_l2 *l2 = &q->l2[i];
    struct fuzz_part part = {.name = "l2",
                             .many = true,
                             .index = i,
                             .layout = &qcow2_l2_layout,
                             .offset = l2->offset,
                             .element = "entry",
                             .count = (uint32_t)q->l2_entries,
                             .used = Q_USED,
                             .stride_bits = q->l2_entry * 8,
                             .align = q->cluster,
                             .weight = 14};

    fuzz_place(img, &part);
    if (q->ext_l2) {
        part.name = "l2_subclusters";
        part.layout = &qcow2_l2_bitmap_layout;
        part.weight = 8;
        fuzz_place(img, &part);
    }
    for (unsigned k = 0; k < q->maps; k++) {
        const struct q_map *m = &q->map[k];
        if (m->l2 == i) {
            uint8_t *p = fuzz_at(img, l2->offset + m->slot * q->l2_entry, q->l2_entry);
            put_be64(p, entry_of(q, m));
            if (q->ext_l2) {
                put_be64(p + 8, m->kind == Q_COMPRESSED ? 0 : m->bitmap);
            }
        }
    }
}

void q_l1_write(struct q_build *q, const struct q_l1 *l1, int parent, const char *name, bool active)
{
    if (l1->entries == 0) {
        return;
    }
    fuzz_place(q->img, &(struct fuzz_part){.name = name,
                                           .parent = parent,
                                           .layout = &qcow2_l1_layout,
                                           .offset = l1->offset,
                                           .element = "entry",
                                           .count = l1->entries,
                                           .used = MIN(l1->entries, (uint32_t)Q_USED),
                                           .align = q->cluster,
                                           .weight = 14});
    for (unsigned i = 0; i < l1->uses; i++) {
        const struct q_l2 *l2 = &q->l2[l1->use[i].l2];
        uint64_t own = active && l2->refs == 1 ? QCOW2_COPIED : 0;
        put_be64(fuzz_at(q->img, l1->offset + l1->use[i].index * 8, 8), l2->offset | own);
    }
}

void q_map_write(struct q_build *q)
{
    q_l1_write(q, &q->l1, 0, "l1", true);
    for (unsigned i = 0; i < q->l2s; i++) {
        write_l2(q, i);
    }
}
