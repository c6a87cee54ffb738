/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reference counts in memory: a hash of chunks of 64 clusters, each with the counts that were found
 * and those that are stored in the image. Sparse, so that a huge file with little in it costs little;
 * bounded, so that a lying image cannot take all memory.
 */
#include "drivers/qcow2/check.h"

static size_t slot_of(const struct check_refs *r, uint64_t key)
{
    size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 24) & r->mask;

    while (r->key[i] != 0 && r->key[i] != key) {
        i = (i + 1) & r->mask;
    }
    return i;
}

static struct check_chunk *chunk_at(const struct check_refs *r, uint32_t place)
{
    return &r->slab[place / CHECK_SLAB][place % CHECK_SLAB];
}

struct check_chunk *check_refs_find(const struct check_refs *r, uint64_t chunk)
{
    if (!r->key) {
        return NULL;
    }
    size_t i = slot_of(r, chunk + 1);
    return r->key[i] ? chunk_at(r, r->place[i]) : NULL;
}

static int grow(struct check_refs *r)
{
    size_t slots = r->key ? (r->mask + 1) * 2 : 256;
    struct check_refs old = *r;
    uint64_t *key = calloc(slots, sizeof(*key));
    uint32_t *place = calloc(slots, sizeof(*place));

    if (!key || !place) {
        free(key);
        free(place);
        return -ENOMEM;
    }
    r->key = key;
    r->place = place;
    r->mask = slots - 1;
    for (size_t i = 0; old.key && i <= old.mask; i++) {
        if (old.key[i]) {
            size_t to = slot_of(r, old.key[i]);
            r->key[to] = old.key[i];
            r->place[to] = old.place[i];
        }
    }
    free(old.key);
    free(old.place);
    return 0;
}

static int add_slab(struct check_refs *r)
{
    if ((uint64_t)(r->slabs + 1) * CHECK_SLAB * sizeof(struct check_chunk) > QCOW2_CHECK_MEMORY) {
        return -ENOMEM;
    }
    struct check_chunk **slab = realloc(r->slab, (r->slabs + 1) * sizeof(struct check_chunk *));
    if (!slab) {
        return -ENOMEM;
    }
    r->slab = slab;
    slab[r->slabs] = calloc(CHECK_SLAB, sizeof(struct check_chunk));
    if (!slab[r->slabs]) {
        return -ENOMEM;
    }
    r->slabs++;
    return 0;
}

int check_refs_get(struct check_refs *r, uint64_t chunk, struct check_chunk **ret)
{
    int e = !r->key || r->used * 2 > r->mask ? grow(r) : 0;

    if (e < 0) {
        return e;
    }
    size_t i = slot_of(r, chunk + 1);
    if (!r->key[i]) {
        if (r->used == r->slabs * CHECK_SLAB && (e = add_slab(r)) < 0) {
            return e;
        }
        r->key[i] = chunk + 1;
        r->place[i] = r->used++;
    }
    r->last_key = chunk + 1;
    r->last = *ret = chunk_at(r, r->place[i]);
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int check_refs_sorted(const struct check_refs *r, uint64_t **ret_chunks)
{
    uint64_t *chunks = malloc((r->used + 1) * sizeof(*chunks));
    size_t n = 0;

    if (!chunks) {
        return -ENOMEM;
    }
    for (size_t i = 0; r->key && i <= r->mask; i++) {
        if (r->key[i]) {
            chunks[n++] = r->key[i] - 1;
        }
    }
    qsort(chunks, n, sizeof(*chunks), compare_keys);
    *ret_chunks = chunks;
    return 0;
}

void check_refs_clear_found(struct check_refs *r)
{
    for (uint32_t i = 0; i < r->used; i++) {
        memset(chunk_at(r, i)->refs, 0, sizeof(((struct check_chunk *)0)->refs));
    }
}

void check_refs_cap(struct check_refs *r, uint64_t max)
{
    for (uint32_t i = 0; max < UINT32_MAX && i < r->used; i++) {
        struct check_chunk *k = chunk_at(r, i);
        for (unsigned j = 0; j < CHUNK; j++) {
            k->refs[j] = MIN(k->refs[j], (uint32_t)max);
        }
    }
}

void check_refs_free(struct check_refs *r)
{
    for (uint32_t i = 0; i < r->slabs; i++) {
        free(r->slab[i]);
    }
    free(r->slab);
    free(r->key);
    free(r->place);
    *r = (struct check_refs){0};
}

uint32_t check_stored(const struct check_refs *r, uint64_t cluster)
{
    const struct check_chunk *k = check_refs_find(r, cluster / CHUNK);

    return k ? k->stored[cluster % CHUNK] : 0;
}

uint32_t check_found(const struct check_refs *r, uint64_t cluster)
{
    const struct check_chunk *k = check_refs_find(r, cluster / CHUNK);

    return k ? k->refs[cluster % CHUNK] : 0;
}
