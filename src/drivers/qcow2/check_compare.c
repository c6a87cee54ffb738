/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stored refcounts against those found, and the copied flags against both. What differs is told, and
 * repaired in place where that is enough: a count in its block, a flag in its table.
 */
#include "drivers/qcow2/check.h"

#include <inttypes.h>

#define PIECE        (64 * KiB)
#define SHARED_LOADS 64 /* refcount blocks that the table names more than once: read so many times */

/* ---- loading ---- */

static int store_block(struct check *c, uint64_t first, const uint8_t *block)
{
    const struct qcow2 *q = c->q;
    uint64_t entries = UINT64_C(1) << q->refblock_bits;
    uint64_t step = MIN(entries, (uint64_t)CHUNK);
    uint64_t step_bytes = MAX(step << q->ref_bits_order >> 3, UINT64_C(1));

    for (uint64_t i = 0; i < entries && first + i < c->clusters; i += step) {
        const uint8_t *p = block + (i << q->ref_bits_order >> 3);
        struct check_chunk *k;
        if (buffer_is_zero(p, step_bytes)) {
            continue;
        }
        int r = check_refs_get(&c->refs, (first + i) / CHUNK, &k);
        if (r < 0) {
            return r;
        }
        for (uint64_t j = 0; j < step && first + i + j < c->clusters; j++) {
            uint64_t v = qcow2_read_ref(block, i + j, q->ref_bits_order);
            k->stored[(first + i + j) % CHUNK] = (uint32_t)MIN(v, (uint64_t)UINT32_MAX);
        }
    }
    return 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The reftable entry points to a block that can be read; ret: where. */
static bool block_in_file(const struct check *c, uint64_t entry, uint64_t *ret)
{
    *ret = entry & QCOW2_REF_MASK;
    return *ret && !qcow2_in_cluster(c->q, *ret) && *ret < c->file_bytes;
}

/* Blocks named more than once are few in any image that can be mended. */
static bool is_shared(const uint64_t *sorted, uint64_t n, uint64_t host)
{
    uint64_t lo = 0, hi = n;

    while (lo < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (sorted[mid] < host) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo + 1 < n && sorted[lo + 1] == host;
}

static co_fn int read_reftable(struct check *c, uint64_t entries, uint64_t *table)
{
    uint64_t bytes = entries * 8;
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < bytes; at += PIECE) {
        uint64_t some = MIN(PIECE, bytes - at);
        r = check_read(c, c->q->h.reftable_offset + at, c->buf, some);
        for (uint64_t i = 0; r == 0 && i < some; i += 8) {
            uint64_t host;
            uint64_t entry = get_be64(c->buf + i);
            table[(at + i) / 8] = block_in_file(c, entry, &host) ? host : 0;
        }
    }
    return r;
}

int check_load_stored(struct check *c)
{
    const struct qcow2 *q = c->q;
    uint64_t entries = ((uint64_t)q->h.reftable_clusters << q->cluster_bits) / 8;
    uint64_t useful = (c->clusters >> q->refblock_bits) + 1; /* the rest is behind the end of the file */
    unsigned shared = 0;

    entries = MIN(entries, useful);
    AUTO_FREE uint64_t *table = calloc(2 * entries + 1, sizeof(*table));
    if (!table) {
        return -ENOMEM;
    }
    int r = read_reftable(c, entries, table);
    uint64_t *sorted = table + entries;
    memcpy(sorted, table, entries * sizeof(*table));
    qsort(sorted, entries, sizeof(*sorted), compare_u64);
    for (uint64_t i = 0; r == 0 && i < entries; i++) {
        if (table[i] == 0 || (is_shared(sorted, entries, table[i]) && ++shared > SHARED_LOADS) ||
            check_is_hole(c, table[i], q->cluster_bytes)) {
            continue;
        }
        r = check_read(c, table[i], c->buf, q->cluster_bytes);
        if (r < 0) {
            check_tell(c, P_REFBLOCK_READ, 1, table[i], i, err_name(r));
            return r;
        }
        r = store_block(c, i << q->refblock_bits, c->buf);
    }
    return r;
}

/* ---- repairing counts in place ---- */

struct block_writer {
    struct check *c;
    uint64_t index, host; /* of the block in c->buf; host 0: none */
    bool dirty;
};

static co_fn int write_block(struct block_writer *w)
{
    int r = w->host && w->dirty ? check_write(w->c, w->host, w->c->buf, w->c->q->cluster_bytes) : 0;

    w->dirty = false;
    return r;
}

static co_fn int load_block(struct block_writer *w, uint64_t index)
{
    struct check *c = w->c;
    uint8_t entry[8];
    uint64_t host = 0;

    if (w->host && w->index == index) {
        return 0;
    }
    int r = write_block(w);
    w->host = 0;
    if (index >= ((uint64_t)c->q->h.reftable_clusters << c->q->cluster_bits) / 8) {
        return -EINVAL;
    }
    r = r < 0 ? r : check_read(c, c->q->h.reftable_offset + index * 8, entry, 8);
    if (r == 0 && !block_in_file(c, get_be64(entry), &host)) {
        r = -EINVAL;
    }
    r = r < 0 ? r : check_read(c, host, c->buf, c->q->cluster_bytes);
    if (r == 0) {
        w->index = index;
        w->host = host;
    }
    return r;
}

static co_fn int repair_count(struct block_writer *w, uint64_t cluster, uint64_t refs)
{
    const struct qcow2 *q = w->c->q;
    int r = load_block(w, cluster >> q->refblock_bits);

    if (r == 0) {
        uint64_t mask = (UINT64_C(1) << q->refblock_bits) - 1;
        qcow2_write_ref(w->c->buf, cluster & mask, q->ref_bits_order, refs);
        w->dirty = true;
    }
    return r;
}

/* A stored count that did not fit into memory, exactly. */
static co_fn uint64_t exact_count(struct check *c, uint64_t cluster, uint32_t stored)
{
    const struct qcow2 *q = c->q;
    uint64_t index = cluster >> q->refblock_bits, host;
    uint64_t at = (cluster & ((UINT64_C(1) << q->refblock_bits) - 1)) << q->ref_bits_order >> 3;
    uint8_t bytes[8];

    if (stored != UINT32_MAX || q->ref_bits_order < 5 ||
        check_read(c, q->h.reftable_offset + index * 8, bytes, 8) < 0 ||
        !block_in_file(c, get_be64(bytes), &host) || check_read(c, host + at, bytes, 8) < 0) {
        return stored;
    }
    return qcow2_read_ref(bytes, 0, q->ref_bits_order);
}

/* ---- comparing ---- */

static co_fn int compare_one(struct block_writer *w, struct check_chunk *k, uint64_t cluster, unsigned fix)
{
    struct check *c = w->c;
    uint32_t *stored = &k->stored[cluster % CHUNK], refs = k->refs[cluster % CHUNK];
    bool leak = *stored > refs;
    uint64_t value = exact_count(c, cluster, *stored);
    uint64_t host = cluster << c->q->cluster_bits;
    unsigned allowed = fix & (leak ? CHECK_FIX_LEAKS : CHECK_FIX_ERRORS);

    if (*stored == 0) {
        c->rebuild = true; /* its block may be missing, and the cluster may be taken any time */
        allowed = 0;
    }
    if (*stored == 0 && c->new_first && host >= c->new_first && host < c->new_at) {
        return 0; /* ours: counted by the new refcount structure */
    }
    bool repaired = allowed && repair_count(w, cluster, refs) == 0;
    unsigned told = c->fix;
    c->fix = repaired ? told : 0; /* "Repairing" only if so */
    check_tell(c, leak ? P_REFCOUNT_HIGH : P_REFCOUNT_LOW, 1, host, cluster, value, (uint64_t)refs);
    c->fix = told;
    if (repaired) {
        uint64_t *count = leak ? &c->result.leaks : &c->result.corruptions;
        uint64_t *fixed = leak ? &c->result.leaks_fixed : &c->result.corruptions_fixed;
        --*count;
        ++*fixed;
        *stored = refs;
    }
    return 0;
}

int check_compare(struct check *c, unsigned fix)
{
    AUTO_FREE uint64_t *chunks = NULL;
    struct block_writer w = {.c = c};
    uint64_t highest = 0;
    int r = check_refs_sorted(&c->refs, &chunks);

    for (uint32_t i = 0; r == 0 && i < c->refs.used; i++) {
        struct check_chunk *k = check_refs_find(&c->refs, chunks[i]);
        uint64_t first = chunks[i] * CHUNK;
        bool same = memcmp(k->refs, k->stored, sizeof(k->refs)) == 0;
        for (unsigned j = 0; r == 0 && j < CHUNK && first + j < c->clusters; j++) {
            if (!same && k->refs[j] != k->stored[j]) {
                r = compare_one(&w, k, first + j, fix);
            }
            highest = k->refs[j] || k->stored[j] ? first + j : highest;
        }
    }
    int last = write_block(&w);
    c->result.image_end = (highest + 1) << c->q->cluster_bits;
    return r < 0 ? r : last;
}

/* ---- copied flags ---- */

static bool may_repair_flags(const struct check *c)
{
    const struct check_result *res = &c->result;

    /* a flag is set by the counts: they must be right first */
    return (c->fix & CHECK_FIX_ERRORS) || (c->fix && !res->check_errors && !res->corruptions && !res->leaks);
}

static void told_flag(struct check *c, bool repaired, enum problem p, uint64_t at, int index, uint64_t entry,
                      uint64_t refs)
{
    unsigned fix = c->fix;

    c->fix = repaired ? fix : 0;
    if (p == P_COPIED_L2) {
        check_tell(c, p, 1, at, index, entry, refs);
    } else {
        check_tell(c, p, 1, at, entry, refs);
    }
    c->fix = fix;
}

/* In one table in memory; the number of flags that are wrong. */
static unsigned flags_of_table(struct check *c, uint64_t host, uint8_t *table, bool repair)
{
    const struct qcow2 *q = c->q;
    unsigned wrong = 0;

    for (unsigned i = 0; i < 1u << q->l2_bits; i++) {
        uint8_t *p = table + (size_t)i * q->l2_entry_bytes_each;
        struct qcow2_l2 e = {get_be64(p), 0};
        if (!qcow2_l2_has_host(q, e)) {
            continue;
        }
        uint64_t cluster = qcow2_cluster_of(q, e.entry & QCOW2_OFFSET_MASK);
        uint32_t refs = qcow2_has_data_file(q) ? 1 : check_stored(&c->refs, cluster);
        if ((refs == 1) != ((e.entry & QCOW2_COPIED) != 0)) {
            told_flag(c, repair, P_COPIED_DATA, host + (uint64_t)i * q->l2_entry_bytes_each, 0, e.entry,
                      refs);
            put_be64(p, refs == 1 ? e.entry | QCOW2_COPIED : e.entry & ~QCOW2_COPIED);
            wrong++;
        }
    }
    return wrong;
}

static void flags_repaired(struct check *c, unsigned count)
{
    c->result.corruptions -= count;
    c->result.corruptions_fixed += count;
}

static co_fn int flags_of_l2(struct check *c, const struct check_l2 *t, bool repair)
{
    const struct qcow2 *q = c->q;
    uint64_t host = t->host;

    if (host == 0 || host >= c->file_bytes || check_is_hole(c, host, q->cluster_bytes)) {
        return 0;
    }
    int r = check_read(c, host, c->buf, q->cluster_bytes);
    if (r < 0) {
        check_tell(c, P_TABLE_READ_L2, 1, host);
        return r;
    }
    repair = repair && !qcow2_in_cluster(q, host) && !t->shared;
    unsigned wrong = flags_of_table(c, host, c->buf, repair);
    if (wrong && repair) {
        r = check_write(c, host, c->buf, q->cluster_bytes);
        if (r == 0) {
            flags_repaired(c, wrong);
        }
    }
    return r;
}

/* One entry of the active L1 table. */
static co_fn int flags_of_l1_entry(struct check *c, uint32_t index, uint64_t entry, bool repair)
{
    const struct qcow2 *q = c->q;
    uint64_t host = entry & QCOW2_OFFSET_MASK, at = q->h.l1_offset + (uint64_t)index * 8;
    uint32_t refs = check_stored(&c->refs, qcow2_cluster_of(q, host));
    uint8_t bytes[8];

    if (host == 0 || (refs == 1) == ((entry & QCOW2_COPIED) != 0)) {
        return 0;
    }
    told_flag(c, repair, P_COPIED_L2, at, (int)index, entry, refs);
    if (!repair) {
        return 0;
    }
    put_be64(bytes, refs == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED);
    int r = check_write(c, at, bytes, 8);
    if (r == 0) {
        flags_repaired(c, 1);
    }
    return r;
}

int check_copied(struct check *c)
{
    const struct qcow2 *q = c->q;
    bool repair = may_repair_flags(c);
    bool repair_l1 = repair && !check_range_shared(c, q->h.l1_offset, MAX(q->h.l1_entries, 1u) * UINT64_C(8));
    uint64_t in_file = q->h.l1_offset < c->file_bytes ? div_up(c->file_bytes - q->h.l1_offset, 8) : 0;
    uint64_t entries = MIN((uint64_t)q->h.l1_entries, in_file);
    AUTO_FREE uint8_t *l1 = malloc(entries * 8 + 1);
    int r = l1 ? check_read(c, q->h.l1_offset, l1, entries * 8) : -ENOMEM;

    for (uint64_t i = 0; r == 0 && i < entries; i++) {
        uint64_t entry = get_be64(l1 + i * 8);
        r = entry ? flags_of_l1_entry(c, (uint32_t)i, entry, repair_l1) : 0;
    }
    for (size_t i = 0; r == 0 && i < c->l2_count; i++) {
        r = c->l2[i].active ? flags_of_l2(c, &c->l2[i], repair) : 0;
    }
    return r;
}
