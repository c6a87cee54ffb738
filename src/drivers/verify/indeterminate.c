/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ranges where the test device may legally show more than one thing: a treap of disjoint ranges
 * in a pool of fixed size. When the pool is used up the set becomes wider, never narrower: a device
 * is then believed where it need not be, which the node says once, and no false alarm is raised.
 */
#include "base/rng.h"
#include "drivers/verify/internal.h"

int indet_init(struct indet *s, uint32_t max)
{
    assert(max >= 2);
    s->pool = calloc((size_t)max + 1, sizeof(*s->pool));
    s->max = max;
    return s->pool ? 0 : -ENOMEM;
}

void indet_finish(struct indet *s)
{
    free(s->pool);
    *s = (struct indet){0};
}

static uint32_t pool_get(struct indet *s)
{
    uint32_t i = s->free_list;

    if (i != 0) {
        s->free_list = s->pool[i].left;
    } else if (s->used < s->max) {
        i = ++s->used;
    } else {
        return 0;
    }
    uint64_t x = i + ((uint64_t)s->count << 32); /* any well-mixed number keeps the tree flat */
    s->pool[i] = (struct indet_range){.priority = (uint32_t)splitmix64(&x)};
    s->count++;
    return i;
}

static void pool_put(struct indet *s, uint32_t i)
{
    s->pool[i].left = s->free_list;
    s->free_list = i;
    s->count--;
}

/* Ranges that start before @key to @ret_low, the others to @ret_high. */
static void split(struct indet *s, uint32_t t, uint64_t key, uint32_t *ret_low, uint32_t *ret_high)
{
    if (t == 0) {
        *ret_low = *ret_high = 0;
    } else if (s->pool[t].start < key) {
        split(s, s->pool[t].right, key, &s->pool[t].right, ret_high);
        *ret_low = t;
    } else {
        split(s, s->pool[t].left, key, ret_low, &s->pool[t].left);
        *ret_high = t;
    }
}

/* All of @a lies before all of @b. */
static uint32_t join(struct indet *s, uint32_t a, uint32_t b)
{
    if (a == 0 || b == 0) {
        return a ? a : b;
    }
    if (s->pool[a].priority > s->pool[b].priority) {
        s->pool[a].right = join(s, s->pool[a].right, b);
        return a;
    }
    s->pool[b].left = join(s, a, s->pool[b].left);
    return b;
}

static void tree_insert(struct indet *s, uint32_t i)
{
    uint32_t low, high;

    split(s, s->root, s->pool[i].start, &low, &high);
    s->root = join(s, join(s, low, i), high);
}

static void tree_delete(struct indet *s, uint32_t i)
{
    uint32_t low, mid, high;

    split(s, s->root, s->pool[i].start, &low, &high);
    split(s, high, s->pool[i].start + 1, &mid, &high);
    assert(mid == i);
    s->root = join(s, low, high);
    pool_put(s, i);
}

/* The first range that ends after @offset; 0 if there is none. */
static uint32_t first_after(const struct indet *s, uint64_t offset)
{
    uint32_t best = 0;

    for (uint32_t t = s->root; t != 0;) {
        if (s->pool[t].end > offset) {
            best = t;
            t = s->pool[t].left;
        } else {
            t = s->pool[t].right;
        }
    }
    return best;
}

/* The last range that starts before @offset; 0 if there is none. */
static uint32_t last_before(const struct indet *s, uint64_t offset)
{
    uint32_t best = 0;

    for (uint32_t t = s->root; t != 0;) {
        if (s->pool[t].start < offset) {
            best = t;
            t = s->pool[t].right;
        } else {
            t = s->pool[t].left;
        }
    }
    return best;
}

enum indet_kind indet_at(const struct indet *s, uint64_t offset, uint64_t end, uint64_t *ret_until)
{
    const struct indet_range *r = &s->pool[first_after(s, offset)];

    assert(offset < end);
    if (r == s->pool || r->start >= end) {
        *ret_until = end;
        return INDET_NONE;
    }
    if (r->start > offset) {
        *ret_until = r->start;
        return INDET_NONE;
    }
    *ret_until = MIN(r->end, end);
    return r->kind;
}

/* No memory for one more range: the nearer neighbour grows over the gap. */
static void widen_neighbour(struct indet *s, uint64_t start, uint64_t end, enum indet_kind kind)
{
    uint32_t before = last_before(s, start), after = first_after(s, end);
    struct indet_range *b = &s->pool[before], *a = &s->pool[after];

    assert(before != 0 || after != 0);
    s->reached = true;
    if (after == 0 || (before != 0 && start - b->end <= a->start - end)) {
        b->end = end;
        b->kind = MAX(b->kind, (uint8_t)kind);
    } else {
        a->start = start;
        a->kind = MAX(a->kind, (uint8_t)kind);
    }
}

/* Into free space; ranges of one kind that touch become one. */
static void insert_free(struct indet *s, uint64_t start, uint64_t end, enum indet_kind kind)
{
    uint32_t before = last_before(s, start), after = first_after(s, end);
    bool grow_before = before != 0 && s->pool[before].end == start && s->pool[before].kind == kind;
    bool grow_after = after != 0 && s->pool[after].start == end && s->pool[after].kind == kind;

    if (grow_before && grow_after) {
        uint64_t to = s->pool[after].end;
        tree_delete(s, after);
        s->pool[before].end = to;
    } else if (grow_before) {
        s->pool[before].end = end;
    } else if (grow_after) {
        s->pool[after].start = start;
    } else {
        uint32_t i = pool_get(s);
        if (i == 0) {
            widen_neighbour(s, start, end, kind);
            return;
        }
        s->pool[i].start = start;
        s->pool[i].end = end;
        s->pool[i].kind = kind;
        tree_insert(s, i);
    }
}

/* Cut [start, end), which lies within range @i, out of it. False if there was no memory. */
static bool cut(struct indet *s, uint32_t i, uint64_t start, uint64_t end)
{
    struct indet_range *r = &s->pool[i];

    if (r->start == start && r->end == end) {
        tree_delete(s, i);
    } else if (r->start == start) {
        r->start = end;
    } else if (r->end == end) {
        r->end = start;
    } else {
        uint32_t rest = pool_get(s);
        if (rest == 0) {
            s->reached = true;
            return false;
        }
        s->pool[rest].start = end;
        s->pool[rest].end = r->end;
        s->pool[rest].kind = r->kind;
        r->end = start;
        tree_insert(s, rest);
    }
    return true;
}

void indet_add(struct indet *s, uint64_t start, uint64_t end, enum indet_kind kind)
{
    uint64_t until;

    assert(kind != INDET_NONE);
    for (; start < end; start = until) {
        enum indet_kind now = indet_at(s, start, end, &until);
        if (now >= kind) {
            continue;
        }
        if (now != INDET_NONE) {
            uint32_t i = first_after(s, start);
            if (!cut(s, i, start, until)) {
                s->pool[i].kind = kind; /* all of it then: wider, not narrower */
                continue;
            }
        }
        insert_free(s, start, until, kind);
    }
}

void indet_remove(struct indet *s, uint64_t start, uint64_t end)
{
    uint64_t until;

    for (; s->count > 0 && start < end; start = until) {
        if (indet_at(s, start, end, &until) != INDET_NONE) {
            cut(s, first_after(s, start), start, until);
        }
    }
}
