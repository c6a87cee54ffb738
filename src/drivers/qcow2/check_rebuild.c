/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A new refcount structure from what was found: blocks and table are written behind everything that is in
 * use, the old structure included, and the header is switched over once they are durable. Until then the
 * image is what it was.
 */
#include "drivers/qcow2/check.h"

struct plan {
    uint64_t *block; /* numbers of the blocks needed, ascending */
    uint64_t blocks, max;
    uint64_t first; /* cluster: blocks first, then the table */
    uint64_t table_clusters;
};

static int add_block(struct plan *p, uint64_t index)
{
    if (p->blocks > 0 && p->block[p->blocks - 1] >= index) {
        return 0;
    }
    if (p->blocks == p->max) {
        uint64_t max = p->max ? p->max * 2 : 64;
        uint64_t *more = realloc(p->block, max * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        p->block = more;
        p->max = max;
    }
    p->block[p->blocks++] = index;
    return 0;
}

/* Blocks for what is in use, and the first cluster behind all of that. */
static int plan_used(struct check *c, struct plan *p)
{
    const struct qcow2 *q = c->q;
    AUTO_FREE uint64_t *chunks = NULL;
    int r = check_refs_sorted(&c->refs, &chunks);

    for (uint32_t i = 0; r == 0 && i < c->refs.used; i++) {
        const struct check_chunk *k = check_refs_find(&c->refs, chunks[i]);
        for (unsigned j = 0; r == 0 && j < CHUNK; j++) {
            uint64_t cluster = chunks[i] * CHUNK + j;
            if (k->refs[j]) {
                p->first = MAX(p->first, cluster + 1);
                r = add_block(p, cluster >> q->refblock_bits);
            }
        }
    }
    return r;
}

/* Blocks that describe the new structure itself: until that makes no more. */
static int plan_self(struct check *c, struct plan *p)
{
    const struct qcow2 *q = c->q;
    uint64_t before;
    int r = 0;

    do {
        before = p->blocks;
        uint64_t highest = p->block[p->blocks - 1];
        p->table_clusters = div_up((highest + 1) * 8, q->cluster_bytes);
        uint64_t end = p->first + p->blocks + p->table_clusters;
        for (uint64_t k = p->first >> q->refblock_bits; r == 0 && k <= (end - 1) >> q->refblock_bits; k++) {
            r = add_block(p, k);
        }
    } while (r == 0 && p->blocks != before);
    if (r == 0 && p->table_clusters << q->cluster_bits > QCOW2_REFTABLE_MAX) {
        r = -EFBIG;
    }
    return r == 0 && (p->first + p->blocks + p->table_clusters) << q->cluster_bits > QCOW2_HOST_END ? -EFBIG
                                                                                                    : r;
}

/* All of it, where no entry points to what is behind the end of the file. */
static int plan_place(struct check *c, struct plan *p)
{
    uint64_t first;
    int r;

    do {
        first = p->first;
        r = plan_self(c, p);
        r = r < 0 ? r : check_unnamed(c, p->first, p->blocks + p->table_clusters, &p->first);
    } while (r == 0 && p->first != first);
    return r;
}

/* The new structure's own clusters. */
static int count_self(struct check *c, const struct plan *p)
{
    struct check_chunk *k;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < p->blocks + p->table_clusters; i++) {
        r = check_refs_get(&c->refs, (p->first + i) / CHUNK, &k);
        if (r == 0) {
            k->refs[(p->first + i) % CHUNK] = 1;
        }
    }
    return r;
}

static void render_block(struct check *c, uint64_t index)
{
    const struct qcow2 *q = c->q;
    uint64_t entries = UINT64_C(1) << q->refblock_bits, first = index << q->refblock_bits;

    memset(c->buf, 0, q->cluster_bytes);
    for (uint64_t i = 0; i < entries;) {
        const struct check_chunk *k = check_refs_find(&c->refs, (first + i) / CHUNK);
        uint64_t end = MIN(entries, round_down(first + i, CHUNK) + CHUNK - first);
        for (; i < end; i++) {
            uint32_t refs = k ? k->refs[(first + i) % CHUNK] : 0;
            if (refs) {
                qcow2_write_ref(c->buf, i, q->ref_bits_order, refs);
            }
        }
    }
}

static co_fn int write_structure(struct check *c, const struct plan *p)
{
    const struct qcow2 *q = c->q;
    uint64_t table_bytes = p->table_clusters << q->cluster_bits;
    AUTO_FREE uint8_t *table = calloc(1, table_bytes);
    int r = table ? 0 : -ENOMEM;

    for (uint64_t i = 0; r == 0 && i < p->blocks; i++) {
        render_block(c, p->block[i]);
        put_be64(table + p->block[i] * 8, (p->first + i) << q->cluster_bits);
        r = check_write(c, (p->first + i) << q->cluster_bits, c->buf, q->cluster_bytes);
    }
    r = r < 0 ? r : check_write(c, (p->first + p->blocks) << q->cluster_bits, table, table_bytes);
    return r < 0 ? r : node_flush(qcow2_file(c->n));
}

static co_fn int switch_structure(struct check *c, const struct plan *p)
{
    struct qcow2 *q = c->q;
    uint64_t host = (p->first + p->blocks) << q->cluster_bits;
    uint8_t bytes[12];

    put_be64(bytes, host);
    put_be32(bytes + 8, (uint32_t)p->table_clusters);
    int r = check_write(c, 48, bytes, sizeof(bytes));
    if (r == 0) {
        q->h.reftable_offset = host;
        q->h.reftable_clusters = (uint32_t)p->table_clusters;
        r = node_flush(qcow2_file(c->n));
    }
    return r;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Clusters of the old structure: they are free once the header names the new one. Ends with UINT64_MAX. */
static co_fn int old_clusters(struct check *c, uint64_t **ret)
{
    const struct qcow2 *q = c->q;
    uint64_t clusters = q->h.reftable_clusters, n = 0, host;
    uint64_t table_bytes = clusters << q->cluster_bits;
    uint64_t from = q->h.reftable_offset;
    AUTO_FREE uint64_t *old = malloc((clusters + table_bytes / 8 + 1) * sizeof(*old));
    int r = old ? 0 : -ENOMEM;

    for (uint64_t i = 0; r == 0 && i < clusters && !check_beyond(c, from, table_bytes); i++) {
        old[n++] = (from >> q->cluster_bits) + i;
    }
    for (uint64_t at = 0; r == 0 && at < table_bytes && from + at < c->file_bytes; at += 64 * KiB) {
        uint64_t some = MIN(64 * KiB, table_bytes - at);
        r = check_read(c, from + at, c->buf, some);
        for (uint64_t i = 0; r == 0 && i < some; i += 8) {
            host = get_be64(c->buf + i);
            if (host && host < c->file_bytes && !qcow2_in_cluster(q, host)) {
                old[n++] = host >> q->cluster_bits;
            }
        }
    }
    if (r < 0) {
        return r;
    }
    qsort(old, n, sizeof(*old), compare_u64);
    old[n] = UINT64_MAX;
    *ret = TAKE_PTR(old);
    return 0;
}

static void tell_old(struct check *c, const uint64_t *old)
{
    struct check_result result = c->result; /* not problems: clusters that are free now */

    for (size_t i = 0; old[i] != UINT64_MAX;) {
        size_t same = 1;
        while (old[i + same] == old[i]) {
            same++;
        }
        uint64_t refs = check_found(&c->refs, old[i]);
        if (c->fix & CHECK_FIX_LEAKS) {
            check_tell(c, P_REFCOUNT_HIGH, 0, old[i] << c->q->cluster_bits, old[i], refs + same, refs);
        }
        i += same;
    }
    c->result = result;
}

static co_fn int rebuild(struct check *c, struct plan *p)
{
    AUTO_FREE uint64_t *old = NULL;
    int r = old_clusters(c, &old);

    for (size_t i = 0; r == 0 && old[i] != UINT64_MAX; i++) {
        p->first = MAX(p->first, old[i] + 1);
    }
    check_forget_beyond(c); /* what was mended names nothing there now */
    c->quiet = c->no_refs = true;
    r = r < 0 ? r : check_count(c);
    c->quiet = c->no_refs = false;
    check_refs_cap(&c->refs, c->q->ref_max);
    r = r < 0 ? r : plan_used(c, p);
    r = r < 0 ? r : plan_place(c, p);
    r = r < 0 ? r : count_self(c, p);
    r = r < 0 ? r : write_structure(c, p);
    r = r < 0 ? r : switch_structure(c, p);
    if (r == 0) {
        tell_old(c, old);
    }
    return r;
}

/* All stored counts are as found now. */
static void all_stored(struct check *c)
{
    for (uint32_t i = 0; i < c->refs.used; i++) {
        struct check_chunk *k = &c->refs.slab[i / CHECK_SLAB][i % CHECK_SLAB];
        memcpy(k->stored, k->refs, sizeof(k->stored));
    }
}

int check_rebuild(struct check *c)
{
    struct check_result *res = &c->result;
    struct plan p = {0};

    check_tell(c, P_REBUILD, 1, UINT64_MAX);
    int r = rebuild(c, &p);
    if (r < 0) {
        check_tell(c, P_REBUILD_FAILED, 1, UINT64_MAX, err_name(r));
    } else {
        all_stored(c);
        c->rebuild = false;
        c->clusters = MAX(c->clusters, p.first + p.blocks + p.table_clusters);
        res->image_end = (p.first + p.blocks + p.table_clusters) << c->q->cluster_bits;
        res->corruptions_fixed += res->corruptions - MIN(res->corruptions, c->structural);
        res->leaks_fixed += res->leaks;
        res->corruptions = MIN(res->corruptions, c->structural);
        res->leaks = 0;
    }
    free(p.block);
    return r;
}
