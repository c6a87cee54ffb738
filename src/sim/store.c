/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a simulated file: pages in a radix tree, so that memory follows what was written and
 * not the size. A page that was changed since the last sync keeps its durable bytes beside the
 * current ones and a mark for each changed sector; that is the volatile cache of a disk. Several
 * unsynced writes of a sector leave two candidates for a power cut, the durable bytes and the newest.
 */
#include "sim/internal.h"

#include "base/iov.h"

#define RADIX_BITS       9
#define RADIX_SLOTS      (1u << RADIX_BITS)
#define SECTORS_PER_PAGE (STORE_PAGE / SECTOR_SIZE)

struct page {
    struct list link; /* store->dirty, if dirty is not 0 */
    uint64_t index;
    uint8_t *durable; /* the bytes before the first unsynced change; NULL: zeroes */
    uint8_t dirty;    /* a bit for each sector */
    bool hole, durable_hole;
    uint8_t data[STORE_PAGE];
};

_Static_assert(SECTORS_PER_PAGE == 8, "the dirty marks are one byte");

struct radix {
    void *slots[RADIX_SLOTS];
};

/* ---- the tree ---- */

static bool radix_covers(const struct store *s, uint64_t index)
{
    unsigned bits = s->height * RADIX_BITS;
    return s->height > 0 && (bits >= 64 || index >> bits == 0);
}

static void **slot_find(const struct store *s, uint64_t index)
{
    if (!radix_covers(s, index)) {
        return NULL;
    }
    struct radix *r = s->root;
    for (unsigned level = s->height - 1; level > 0; level--) {
        r = r->slots[(index >> (level * RADIX_BITS)) % RADIX_SLOTS];
        if (!r) {
            return NULL;
        }
    }
    return &r->slots[index % RADIX_SLOTS];
}

static void **slot_make(struct store *s, uint64_t index)
{
    while (!radix_covers(s, index)) {
        struct radix *top = calloc(1, sizeof(*top));
        if (!top) {
            return NULL;
        }
        top->slots[0] = s->root;
        s->root = top;
        s->height++;
    }
    struct radix *r = s->root;
    for (unsigned level = s->height - 1; level > 0; level--) {
        void **slot = &r->slots[(index >> (level * RADIX_BITS)) % RADIX_SLOTS];
        if (!*slot && !(*slot = calloc(1, sizeof(struct radix)))) {
            return NULL;
        }
        r = *slot;
    }
    return &r->slots[index % RADIX_SLOTS];
}

static const struct page *page_find(const struct store *s, uint64_t index)
{
    void **slot = slot_find(s, index);
    return slot ? *slot : NULL;
}

static struct page *page_make(struct store *s, uint64_t index)
{
    void **slot = slot_make(s, index);
    if (!slot) {
        return NULL;
    }
    if (!*slot) {
        struct page *p = calloc(1, sizeof(*p));
        if (!p) {
            return NULL;
        }
        list_init(&p->link);
        p->index = index;
        p->hole = p->durable_hole = true;
        *slot = p;
    }
    return *slot;
}

static void page_destroy(struct store *s, struct page *p)
{
    s->pages -= !p->hole;
    list_del(&p->link);
    free(p->durable);
    free(p);
}

static void subtree_destroy(struct store *s, void *node, unsigned height)
{
    if (!node) {
        return;
    }
    if (height == 0) {
        page_destroy(s, node);
        return;
    }
    struct radix *r = node;
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        subtree_destroy(s, r->slots[i], height - 1);
    }
    free(r);
}

/* The first page of the subtree, at or after @index, that is there; NULL if none. @height > 0. */
static struct page *subtree_next(struct radix *r, unsigned height, uint64_t index)
{
    unsigned shift = (height - 1) * RADIX_BITS;
    for (uint64_t i = (index >> shift) % RADIX_SLOTS; r && i < RADIX_SLOTS; i++) {
        void *below = r->slots[i];
        if (below && height > 1) {
            below = subtree_next(below, height - 1, index);
        }
        if (below) {
            return below;
        }
        /* What follows is entered from its beginning. */
        index = ((index >> shift) + 1) << shift;
    }
    return NULL;
}

static struct page *page_next(const struct store *s, uint64_t index)
{
    return radix_covers(s, index) ? subtree_next(s->root, s->height, index) : NULL;
}

void store_init(struct store *s, uint64_t size, bool write_through)
{
    *s = (struct store){.size = size, .durable_size = size, .write_through = write_through};
    list_init(&s->dirty);
}

void store_finish(struct store *s)
{
    subtree_destroy(s, s->root, s->height);
    s->root = NULL;
    s->height = 0;
}

/* ---- changing pages ---- */

static void page_set_hole(struct store *s, struct page *p, bool hole)
{
    s->pages += p->hole;
    s->pages -= hole;
    p->hole = hole;
}

/* A page whose current state is its durable one. Empty ones go away. */
static void page_clean(struct store *s, struct page *p)
{
    list_del(&p->link);
    free(p->durable);
    p->durable = NULL;
    p->dirty = 0;
    p->durable_hole = p->hole;
    if (p->hole) {
        void **slot = slot_find(s, p->index);
        *slot = NULL;
        page_destroy(s, p);
    }
}

static unsigned sector_mask(uint64_t in_page, uint64_t n)
{
    unsigned first = (unsigned)(in_page / SECTOR_SIZE);
    unsigned last = (unsigned)((in_page + n - 1) / SECTOR_SIZE);
    return ((2u << last) - 1) & ~((1u << first) - 1);
}

/* About to change the marked sectors: keep what is durable. */
static int page_touch(struct store *s, struct page *p, unsigned mask)
{
    if (s->write_through) {
        return 0;
    }
    if (p->dirty == 0) {
        if (!p->hole) {
            p->durable = malloc(STORE_PAGE);
            if (!p->durable) {
                return -ENOMEM;
            }
            memcpy(p->durable, p->data, STORE_PAGE);
        }
        p->durable_hole = p->hole;
        list_add_tail(&s->dirty, &p->link);
    }
    p->dirty |= (uint8_t)mask;
    return 0;
}

static int page_write(struct store *s, uint64_t offset, const struct iovec *iov, int niov,
                      uint64_t iov_offset, uint64_t n)
{
    struct page *p = page_make(s, offset / STORE_PAGE);
    uint64_t in_page = offset % STORE_PAGE;
    if (!p || page_touch(s, p, sector_mask(in_page, n)) < 0) {
        return -ENOMEM;
    }
    page_set_hole(s, p, false);
    iov_to_buf(iov, niov, iov_offset, p->data + in_page, n);
    return 0;
}

static int page_zero(struct store *s, uint64_t offset, uint64_t n, bool hole)
{
    uint64_t in_page = offset % STORE_PAGE;
    if (hole && !page_find(s, offset / STORE_PAGE)) {
        return 0;
    }
    struct page *p = page_make(s, offset / STORE_PAGE);
    if (!p || page_touch(s, p, sector_mask(in_page, n)) < 0) {
        return -ENOMEM;
    }
    memset(p->data + in_page, 0, n);
    if (!hole) {
        page_set_hole(s, p, false);
    } else if (n == STORE_PAGE) {
        page_set_hole(s, p, true);
        if (s->write_through) {
            page_clean(s, p);
        }
    }
    return 0;
}

static uint64_t page_part(uint64_t offset, uint64_t n)
{
    return MIN(n, STORE_PAGE - offset % STORE_PAGE);
}

/* ---- the store ---- */

void store_read(const struct store *s, uint64_t offset, const struct iovec *iov, int niov,
                uint64_t iov_offset, uint64_t n)
{
    while (n > 0) {
        uint64_t part = page_part(offset, n);
        const struct page *p = page_find(s, offset / STORE_PAGE);
        if (p) {
            iov_from_buf(iov, niov, iov_offset, p->data + offset % STORE_PAGE, part);
        } else {
            iov_memset(iov, niov, iov_offset, 0, part);
        }
        offset += part;
        iov_offset += part;
        n -= part;
    }
}

int store_write(struct store *s, uint64_t offset, const struct iovec *iov, int niov, uint64_t iov_offset,
                uint64_t n)
{
    while (n > 0) {
        uint64_t part = page_part(offset, n);
        int ret = page_write(s, offset, iov, niov, iov_offset, part);
        if (ret < 0) {
            return ret;
        }
        offset += part;
        iov_offset += part;
        n -= part;
        s->size = MAX(s->size, offset);
    }
    if (s->write_through) {
        s->durable_size = s->size;
    }
    return 0;
}

int store_zero(struct store *s, uint64_t offset, uint64_t n, bool hole)
{
    while (n > 0) {
        uint64_t part = page_part(offset, n);
        if (hole) { /* what is not there needs no work, however far it reaches */
            const struct page *next = page_next(s, offset / STORE_PAGE);
            uint64_t start = next ? next->index * STORE_PAGE : UINT64_MAX;
            if (start >= offset + n) {
                break;
            }
            if (start > offset) {
                n -= start - offset;
                offset = start;
                part = page_part(offset, n);
            }
        }
        int ret = page_zero(s, offset, part, hole);
        if (ret < 0) {
            return ret;
        }
        offset += part;
        n -= part;
    }
    return 0;
}

int store_truncate(struct store *s, uint64_t size)
{
    if (size < s->size) {
        int ret = store_zero(s, size, s->size - size, true);
        if (ret < 0) {
            return ret;
        }
    }
    s->size = size;
    if (s->write_through) {
        s->durable_size = size;
    }
    return 0;
}

void store_sync(struct store *s)
{
    struct page *p, *tmp;
    list_for_each_safe (p, tmp, &s->dirty, link) {
        page_clean(s, p);
    }
    s->durable_size = s->size;
}

/* The marked sectors of a dirty page are durable from now on. */
static void page_sync(struct store *s, struct page *p, unsigned mask)
{
    p->dirty &= (uint8_t)~mask;
    if (p->dirty == 0) {
        page_clean(s, p);
        return;
    }
    if (!p->durable) { /* zeroes so far; without memory the whole page becomes durable */
        p->durable = calloc(1, STORE_PAGE);
        if (!p->durable) {
            page_clean(s, p);
            return;
        }
    }
    p->durable_hole = false;
    for (unsigned i = 0; i < SECTORS_PER_PAGE; i++) {
        if (mask & (1u << i)) {
            memcpy(p->durable + i * SECTOR_SIZE, p->data + i * SECTOR_SIZE, SECTOR_SIZE);
        }
    }
}

void store_sync_range(struct store *s, uint64_t offset, uint64_t n)
{
    uint64_t end = offset + n;
    while (offset < end && !list_empty(&s->dirty)) {
        uint64_t part = page_part(offset, end - offset);
        void **slot = slot_find(s, offset / STORE_PAGE);
        struct page *p = slot ? *slot : NULL;
        if (p && p->dirty) {
            page_sync(s, p, sector_mask(offset % STORE_PAGE, part));
        }
        offset += part;
    }
    end = MIN(end, s->size);
    s->durable_size = MAX(s->durable_size, end);
}

static bool survives(enum sim_survivors survivors, struct rng *rng)
{
    return survivors == SIM_SURVIVE_ALL || (survivors == SIM_SURVIVE_RANDOM && rng_below(rng, 2) == 0);
}

static void page_cut(struct store *s, struct page *p, enum sim_survivors survivors, struct rng *rng)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < SECTORS_PER_PAGE; i++) {
        if ((p->dirty & (1u << i)) && !survives(survivors, rng)) {
            lost |= 1u << i;
            if (p->durable) {
                memcpy(p->data + i * SECTOR_SIZE, p->durable + i * SECTOR_SIZE, SECTOR_SIZE);
            } else {
                memset(p->data + i * SECTOR_SIZE, 0, SECTOR_SIZE);
            }
        }
    }
    if (lost == p->dirty) {
        page_set_hole(s, p, p->durable_hole);
    } else if (lost != 0) {
        page_set_hole(s, p, false);
    }
    page_clean(s, p);
}

void store_cut(struct store *s, enum sim_survivors survivors, struct rng *rng)
{
    struct page *p, *tmp;
    list_for_each_safe (p, tmp, &s->dirty, link) {
        page_cut(s, p, survivors, rng);
    }
    if (s->size != s->durable_size && !survives(survivors, rng)) {
        bool shrinks = s->durable_size < s->size;
        uint64_t beyond = shrinks ? s->size - s->durable_size : 0;
        s->size = s->durable_size;
        /* Nothing is volatile any more: what lies beyond the end goes without a copy. */
        bool write_through = s->write_through;
        s->write_through = true;
        (void)store_zero(s, s->size, beyond, true);
        s->write_through = write_through;
    }
    s->durable_size = s->size;
}

/* A run is told in pieces of at most this many pages, which bounds the walk. */
#define EXTENT_PAGES_MAX 65536u

void store_extent(const struct store *s, uint64_t offset, struct lfile_extent *ret)
{
    uint64_t index = offset / STORE_PAGE;
    uint64_t next = index;
    const struct page *p = page_next(s, index);
    bool hole = !p || p->index != index || p->hole;
    if (hole) {
        for (unsigned i = 0; p && p->hole && i < EXTENT_PAGES_MAX; i++) {
            p = page_next(s, p->index + 1);
        }
        next = p ? p->index : UINT64_MAX / STORE_PAGE;
    } else {
        while (p && !p->hole && p->index == next && next - index < EXTENT_PAGES_MAX) {
            p = page_next(s, ++next);
        }
    }
    uint64_t end = MIN(next * STORE_PAGE, s->size);
    *ret = (struct lfile_extent){.bytes = end - offset, .hole = hole};
}
