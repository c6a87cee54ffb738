/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The metadata cache: slices of L2 tables, or refcount blocks, by host offset. Bounded; what was not
 * used for longest goes first. Clean entries may go at any time, dirty ones only after they were
 * written, which is flush.c's affair for L2 slices because of the order they must go down in.
 */
#include "drivers/qcow2/qcow2.h"

#define ENTRIES_MIN 4 /* a copied L2 table and what it refers to are in use at the same time */

struct qcow2_cache {
    struct node *n;
    enum qcow2_cache_kind kind;
    uint64_t entry_bytes;
    unsigned shift; /* of entry_bytes */
    unsigned max, count;
    unsigned buckets; /* power of two */
    struct qcow2_entry **hash;
    struct list clean; /* least recently used first */
    struct list dirty; /* in the order they became dirty */
};

struct qcow2_cache *qcow2_cache_create(struct node *n, enum qcow2_cache_kind kind, uint64_t entry_bytes,
                                       uint64_t bytes)
{
    struct qcow2_cache *c = calloc(1, sizeof(*c));

    if (!c) {
        return NULL;
    }
    c->n = n;
    c->kind = kind;
    c->entry_bytes = entry_bytes;
    c->shift = (unsigned)__builtin_ctzll(entry_bytes);
    c->max = (unsigned)MAX(bytes >> c->shift, (uint64_t)ENTRIES_MIN);
    c->buckets = 16;
    while (c->buckets < c->max && c->buckets < 65536) {
        c->buckets *= 2;
    }
    c->hash = calloc(c->buckets, sizeof(*c->hash));
    list_init(&c->clean);
    list_init(&c->dirty);
    if (!c->hash) {
        free(c);
        return NULL;
    }
    return c;
}

/* ---- finding ---- */

static struct qcow2_entry **bucket_of(struct qcow2_cache *c, uint64_t offset)
{
    uint64_t h = (offset >> c->shift) * UINT64_C(0x9e3779b97f4a7c15);

    return &c->hash[(h >> 40) & (c->buckets - 1)];
}

static struct qcow2_entry *find(struct qcow2_cache *c, uint64_t offset)
{
    struct qcow2_entry *e = *bucket_of(c, offset);

    while (e && e->offset != offset) {
        e = e->next;
    }
    return e;
}

static void unhash(struct qcow2_cache *c, struct qcow2_entry *e)
{
    struct qcow2_entry **p = bucket_of(c, e->offset);

    while (*p != e) {
        p = &(*p)->next;
    }
    *p = e->next;
}

static void rehash(struct qcow2_cache *c, struct qcow2_entry *e, uint64_t offset)
{
    struct qcow2_entry **p = bucket_of(c, offset);

    e->offset = offset;
    e->next = *p;
    *p = e;
}

static void touch(struct qcow2_cache *c, struct qcow2_entry *e)
{
    if (!e->dirty) {
        list_del(&e->link);
        list_add_tail(&c->clean, &e->link);
    }
}

struct qcow2_entry *qcow2_cache_peek(struct qcow2_cache *c, uint64_t offset)
{
    struct qcow2_entry *e = find(c, offset);

    if (!e || e->loading) {
        return NULL;
    }
    touch(c, e);
    return e;
}

/* ---- making room ---- */

static void destroy_entry(struct qcow2_cache *c, struct qcow2_entry *e)
{
    unhash(c, e);
    list_del(&e->link);
    buf_put(e->data, c->entry_bytes);
    free(e);
    c->count--;
}

void qcow2_cache_destroy(struct qcow2_cache *c)
{
    if (!c) {
        return;
    }
    while (!list_empty(&c->clean)) {
        destroy_entry(c, list_first(&c->clean, struct qcow2_entry, link));
    }
    while (!list_empty(&c->dirty)) { /* what could not be written */
        destroy_entry(c, list_first(&c->dirty, struct qcow2_entry, link));
    }
    free(c->hash);
    free(c);
}

static struct qcow2_entry *new_entry(struct qcow2_cache *c)
{
    struct qcow2_entry *e = calloc(1, sizeof(*e));

    if (!e || !(e->data = buf_get(c->entry_bytes))) {
        free(e);
        return NULL;
    }
    list_init(&e->link);
    co_queue_init(&e->loaded);
    c->count++;
    return e;
}

/* A clean entry that nobody holds, taken out of the cache; or a new one. NULL: there is none. */
static struct qcow2_entry *take_room(struct qcow2_cache *c)
{
    struct qcow2_entry *e;

    if (c->count < c->max && (e = new_entry(c))) {
        return e;
    }
    list_for_each (e, &c->clean, link) {
        if (e->refs == 0 && !e->loading) {
            unhash(c, e);
            list_del(&e->link);
            return e;
        }
    }
    return NULL;
}

static co_fn int make_clean(struct qcow2_cache *c, bool locked)
{
    struct qcow2 *q = qcow2_of(c->n);
    int r;

    if (!locked) {
        co_mutex_lock(&q->lock);
    }
    r = c->kind == QCOW2_CACHE_REF ? qcow2_cache_write(c) : qcow2_write_back(c->n);
    if (!locked) {
        co_mutex_unlock(&q->lock);
    }
    return r;
}

/* Room for @offset, or the entry itself if somebody else brought it meanwhile (*ret_found). */
static co_fn int room_for(struct qcow2_cache *c, uint64_t offset, bool locked, struct qcow2_entry **ret,
                          bool *ret_found)
{
    for (;;) {
        struct qcow2_entry *e = find(c, offset);
        *ret_found = e != NULL;
        if (e || (e = take_room(c))) {
            *ret = e;
            return 0;
        }
        if (list_empty(&c->dirty)) { /* all are held: a few more than the limit for a moment */
            *ret = new_entry(c);
            return *ret ? 0 : -ENOMEM;
        }
        int r = make_clean(c, locked);
        if (r < 0) {
            return r;
        }
    }
}

/* ---- getting ---- */

static co_fn int load(struct qcow2_cache *c, struct qcow2_entry *e)
{
    if (c->kind == QCOW2_CACHE_L2) {
        qcow2_event(c->n, EVENT_l2_load);
    }
    return qcow2_read_meta(c->n, e->offset, e->data, c->entry_bytes);
}

/* @e is in nobody's hands: fill it. */
static co_fn int bring(struct qcow2_cache *c, struct qcow2_entry *e, uint64_t offset)
{
    rehash(c, e, offset);
    list_add_tail(&c->clean, &e->link);
    e->loading = true;
    e->refs = 1;
    int r = load(c, e);
    e->loading = false;
    co_queue_wake_all(&e->loaded);
    if (r < 0) {
        e->refs--;
        destroy_entry(c, e);
    }
    return r;
}

int qcow2_cache_get(struct qcow2_cache *c, uint64_t offset, bool locked, struct qcow2_entry **ret)
{
    for (;;) {
        struct qcow2_entry *e;
        bool found;
        int r = room_for(c, offset, locked, &e, &found);
        if (r < 0) {
            return r;
        }
        if (!found) {
            r = bring(c, e, offset);
        } else if (e->loading) { /* look again: it may have failed, and is gone then */
            co_queue_wait(&e->loaded);
            continue;
        } else {
            touch(c, e);
            e->refs++;
        }
        if (r == 0) {
            *ret = e;
        }
        return r;
    }
}

int qcow2_cache_new(struct qcow2_cache *c, uint64_t offset, struct qcow2_entry **ret)
{
    struct qcow2_entry *e;
    bool found;

    qcow2_cache_forget(c, offset, c->entry_bytes); /* of an earlier use of the cluster */
    int r = room_for(c, offset, true, &e, &found);
    if (r < 0) {
        return r;
    }
    assert(!found);
    rehash(c, e, offset);
    list_add_tail(&c->clean, &e->link);
    memset(e->data, 0, c->entry_bytes);
    e->refs = 1;
    *ret = e;
    return 0;
}

void qcow2_cache_put(struct qcow2_cache *c, struct qcow2_entry *e)
{
    (void)c;
    if (e) {
        assert(e->refs > 0);
        e->refs--;
    }
}

/* ---- dirty ones ---- */

void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_entry *e)
{
    if (!e->dirty) {
        e->dirty = true;
        list_del(&e->link);
        list_add_tail(&c->dirty, &e->link);
    }
}

bool qcow2_cache_is_dirty(const struct qcow2_cache *c)
{
    return c && !list_empty(&c->dirty);
}

uint64_t qcow2_cache_entry_bytes(const struct qcow2_cache *c)
{
    return c->entry_bytes;
}

int qcow2_cache_write(struct qcow2_cache *c)
{
    struct qcow2 *q = qcow2_of(c->n);
    bool l2 = c->kind == QCOW2_CACHE_L2;

    while (!list_empty(&c->dirty)) {
        struct qcow2_entry *e = list_first(&c->dirty, struct qcow2_entry, link);
        e->refs++; /* lock held: its content stays, too */
        qcow2_event(c->n, l2 ? EVENT_l2_update : EVENT_refblock_update_part);
        int r = qcow2_write_meta(c->n, l2 ? QCOW2_PART_L2 : QCOW2_PART_REFBLOCK, e->offset, e->data,
                                 c->entry_bytes);
        e->refs--;
        if (r < 0) {
            return r;
        }
        q->changes += !l2;
        e->dirty = false;
        list_del(&e->link);
        list_add_tail(&c->clean, &e->link);
    }
    return 0;
}

static void forget_in(struct qcow2_cache *c, struct list *head, uint64_t offset, uint64_t bytes)
{
    struct qcow2_entry *e, *tmp;

    list_for_each_safe (e, tmp, head, link) {
        if (e->offset >= offset && e->offset - offset < bytes && !e->loading) {
            assert(e->refs == 0);
            destroy_entry(c, e);
        }
    }
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset, uint64_t bytes)
{
    if (bytes <= 64 * c->entry_bytes) { /* by name: cheaper than looking at all */
        for (uint64_t at = offset; at < offset + bytes; at += c->entry_bytes) {
            struct qcow2_entry *e = find(c, at);
            if (e && !e->loading) {
                assert(e->refs == 0);
                destroy_entry(c, e);
            }
        }
        return;
    }
    forget_in(c, &c->clean, offset, bytes);
    forget_in(c, &c->dirty, offset, bytes);
}

void qcow2_cache_empty(struct qcow2_cache *c)
{
    assert(list_empty(&c->dirty));
    forget_in(c, &c->clean, 0, UINT64_MAX);
}
