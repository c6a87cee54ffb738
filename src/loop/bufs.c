/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-aligned I/O buffers, kept by size class per loop so that the data path does not allocate in
 * steady state. Freed buffers hold the link of the free list in their first bytes.
 */
#include "loop/engine.h"

#define CLASS_MIN_BITS   12 /* 4 KiB */
#define CLASS_MAX_BITS   25 /* 32 MiB, the largest NBD payload; larger ones are not pooled */
#define CLASSES          (CLASS_MAX_BITS - CLASS_MIN_BITS + 1)
#define POOLED_BYTES_MAX (64 * MiB) /* kept per loop: 64 requests of 1 MiB */

struct buf_pool {
    void *free[CLASSES];
    uint64_t pooled_bytes;
};

static unsigned class_of(size_t size)
{
    unsigned bits = CLASS_MIN_BITS;

    while (bits <= CLASS_MAX_BITS && (UINT64_C(1) << bits) < size) {
        bits++;
    }
    return bits - CLASS_MIN_BITS;
}

static size_t class_bytes(unsigned class)
{
    return (size_t)1 << (class + CLASS_MIN_BITS);
}

void *buf_get(size_t size)
{
    struct loop *loop = loop_self();
    unsigned class = class_of(size);
    void *p = NULL;

    if (class >= CLASSES) {
        return posix_memalign(&p, 4096, round_up(size, 4096)) == 0 ? p : NULL;
    }
    if (loop->bufs && (p = loop->bufs->free[class])) {
        memcpy(&loop->bufs->free[class], p, sizeof(void *));
        loop->bufs->pooled_bytes -= class_bytes(class);
        return p;
    }
    return posix_memalign(&p, 4096, class_bytes(class)) == 0 ? p : NULL;
}

void buf_put(void *buf, size_t size)
{
    struct loop *loop = loop_self();
    unsigned class = class_of(size);

    if (!buf) {
        return;
    }
    if (!loop->bufs) {
        loop->bufs = calloc(1, sizeof(*loop->bufs));
    }
    if (class >= CLASSES || !loop->bufs || loop->bufs->pooled_bytes + class_bytes(class) > POOLED_BYTES_MAX) {
        free(buf);
        return;
    }
    memcpy(buf, &loop->bufs->free[class], sizeof(void *));
    loop->bufs->free[class] = buf;
    loop->bufs->pooled_bytes += class_bytes(class);
}

void bufs_drain(struct loop *loop)
{
    struct buf_pool *pool = TAKE_PTR(loop->bufs);

    for (unsigned c = 0; pool && c < CLASSES; c++) {
        void *p;
        while ((p = pool->free[c])) {
            memcpy(&pool->free[c], p, sizeof(void *));
            free(p);
        }
    }
    free(pool);
}
