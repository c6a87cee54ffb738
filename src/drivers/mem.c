/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem: a sparse disk in memory. Pages of 64 KiB are found through a radix tree of 512-way tables, so
 * that an empty disk of any size costs nothing; zeroing and discarding whole pages frees them.
 */
#include "base/iov.h"
#include "block/driver.h"

#define PAGE_BITS  16
#define PAGE_BYTES (UINT64_C(1) << PAGE_BITS)
#define FAN_BITS   9
#define FAN        (1u << FAN_BITS)
#define LEVELS     6 /* 16 + 6 * 9 = 70 bits: more than a node can have */

struct table {
    void *slot[FAN]; /* struct table *, or a page at the lowest level */
    unsigned used;
};

struct mem {
    uint64_t size;
    struct table *root;
    uint64_t allocated_bytes;
};

static const struct option mem_options[] = {
    {"size", OPT_SIZE, offsetof(struct mem, size), .def = "1G", .max = BLOCK_SIZE_MAX,
     .help = "virtual size in bytes"},
    {0},
};

static unsigned slot_index(uint64_t page, unsigned level)
{
    return (unsigned)(page >> (FAN_BITS * level)) & (FAN - 1);
}

/* The page with number @page; NULL if it is a hole (or, with @make, if there is no memory). */
static char *find_page(struct mem *m, uint64_t page, bool make)
{
    void **place = (void **)&m->root;
    struct table *parent = NULL;

    for (unsigned level = LEVELS; level > 0; level--) {
        if (!*place) {
            if (!make || !(*place = calloc(1, sizeof(struct table)))) {
                return NULL;
            }
            if (parent) {
                parent->used++;
            }
        }
        parent = *place;
        place = &parent->slot[slot_index(page, level - 1)];
    }
    if (!*place && make && (*place = calloc(1, PAGE_BYTES))) {
        parent->used++;
        m->allocated_bytes += PAGE_BYTES;
    }
    return *place;
}

/* Free pages [first, last] below a table; returns whether the table is empty afterwards. */
static bool free_pages(struct mem *m, struct table *t, unsigned level, uint64_t base, uint64_t first,
                       uint64_t last)
{
    uint64_t span = UINT64_C(1) << (FAN_BITS * (level - 1)); /* pages below one slot */

    for (unsigned i = 0; i < FAN && t->used > 0; i++) {
        uint64_t low = base + i * span;
        if (!t->slot[i] || low > last || low + span - 1 < first) {
            continue;
        }
        if (level == 1) {
            m->allocated_bytes -= PAGE_BYTES;
        } else if (!free_pages(m, t->slot[i], level - 1, low, first, last)) {
            continue;
        }
        free(TAKE_PTR(t->slot[i]));
        t->used--;
    }
    return t->used == 0;
}

static void drop_pages(struct mem *m, uint64_t first, uint64_t last)
{
    if (m->root && free_pages(m, m->root, LEVELS, 0, first, last)) {
        free(TAKE_PTR(m->root));
    }
}

static int mem_rw(struct mem *m, struct req *r)
{
    for (uint64_t done = 0; done < r->bytes;) {
        uint64_t at = r->offset + done;
        uint64_t in_page = at % PAGE_BYTES;
        uint64_t n = MIN(r->bytes - done, PAGE_BYTES - in_page);
        char *page = find_page(m, at >> PAGE_BITS, r->op == REQ_WRITE);
        if (r->op == REQ_WRITE) {
            if (!page) {
                return -ENOSPC;
            }
            iov_to_buf(r->iov, r->niov, done, page + in_page, n);
        } else if (page) {
            iov_from_buf(r->iov, r->niov, done, page + in_page, n);
        } else {
            iov_memset(r->iov, r->niov, done, 0, n);
        }
        done += n;
    }
    return 0;
}

/* Clear a range within one page. */
static void clear_part(struct mem *m, uint64_t offset, uint64_t bytes)
{
    char *page = find_page(m, offset >> PAGE_BITS, false);

    if (page) {
        memset(page + offset % PAGE_BYTES, 0, bytes);
    }
}

static void mem_clear(struct mem *m, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;
    uint64_t first = round_up(offset, PAGE_BYTES);
    uint64_t last = round_down(end, PAGE_BYTES);

    if (first > last) { /* within one page */
        clear_part(m, offset, bytes);
        return;
    }
    clear_part(m, offset, first - offset);
    if (first < last) {
        drop_pages(m, first >> PAGE_BITS, (last >> PAGE_BITS) - 1);
    }
    clear_part(m, last, end - last);
}

/* The first page from @first on that is there, below a table whose own first page is @base; UINT64_MAX
 * if none is. What has no table is passed over whole, so that a hole of exbibytes costs nothing. */
static uint64_t next_page(const struct table *t, unsigned level, uint64_t base, uint64_t first)
{
    uint64_t span = UINT64_C(1) << (FAN_BITS * (level - 1)); /* pages below one slot */

    for (uint64_t i = first > base ? (first - base) / span : 0; i < FAN; i++) {
        uint64_t found = UINT64_MAX;
        if (t->slot[i]) {
            found = level == 1 ? base + i : next_page(t->slot[i], level - 1, base + i * span, first);
        }
        if (found != UINT64_MAX) {
            return found;
        }
    }
    return UINT64_MAX;
}

/* Where the data that begins with page @first ends, or @last if that comes before. */
static uint64_t data_end(struct mem *m, uint64_t first, uint64_t last)
{
    while (first < last && find_page(m, first, false)) {
        first++;
    }
    return first;
}

static void mem_status(struct mem *m, const struct node *n, struct req *r)
{
    uint64_t first = r->offset >> PAGE_BITS;
    uint64_t last = (r->offset + r->bytes - 1) >> PAGE_BITS;
    bool hole = !find_page(m, first, false);
    uint64_t next = !hole      ? data_end(m, first, last + 1)
                    : !m->root ? UINT64_MAX
                               : next_page(m->root, LEVELS, 0, first);

    *r->extent = (struct extent){
        .bytes = next > last ? r->bytes : (next << PAGE_BITS) - r->offset,
        .data = !hole,
        .zero = hole,
        .allocated = true,
        .has_offset = true,
        .offset = r->offset,
        .file = (struct node *)n,
    };
}

static int mem_truncate(struct node *n, const struct req *r)
{
    struct mem *m = n->state;

    if (r->offset < n->size) { /* what comes back later must be zeroes */
        mem_clear(m, r->offset, round_up(n->size, PAGE_BYTES) - r->offset);
    }
    n->size = r->offset;
    return 0;
}

static int mem_io(struct node *n, struct req *r)
{
    struct mem *m = n->state;

    switch (r->op) {
    case REQ_READ:
    case REQ_WRITE:
        return mem_rw(m, r);
    case REQ_ZERO:
    case REQ_DISCARD:
        mem_clear(m, r->offset, r->bytes);
        return 0;
    case REQ_STATUS:
        mem_status(m, n, r);
        return 0;
    case REQ_TRUNCATE:
        return mem_truncate(n, r);
    case REQ_FLUSH:
    case REQ_CACHE:
        return 0;
    case REQ_OP_COUNT:
        break;
    }
    return -ENOTSUP;
}

static int mem_open(struct node *n, struct err *err)
{
    struct mem *m = n->state;

    (void)err;
    n->size = m->size;
    n->limits.supported = REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK;
    return 0;
}

static void mem_close(struct node *n)
{
    drop_pages(n->state, 0, UINT64_MAX >> PAGE_BITS);
}

static int mem_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *size = name + strlen("mem://");

    if (*size && json_object_set_new(options, "size", json_string(size)) < 0) {
        return err_set(err, -EINVAL, "'%s': expected mem://SIZE", name);
    }
    return 0;
}

static int mem_allocated(struct node *n, uint64_t *ret_bytes)
{
    *ret_bytes = ((struct mem *)n->state)->allocated_bytes;
    return 0;
}

const struct driver driver_mem = {
    .name = "mem",
    .kind = DRIVER_PROTOCOL,
    .summary = "A sparse disk in memory.",
    .options = mem_options,
    .prefixes = (const char *const[]){"mem://", NULL},
    .parse_name = mem_parse_name,
    .state_size = sizeof(struct mem),
    .open = mem_open,
    .close = mem_close,
    .io = mem_io,
    .allocated_bytes = mem_allocated,
};
