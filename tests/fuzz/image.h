/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the targets that fuzz image formats share: an image in memory, a loop to run in, and a model of what
 * a guest must read. The model covers the beginning of the disk; what a failed request was to change
 * may be old or new, byte by byte, and nothing else may have changed.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/rng.h"
#include "block/driver.h"

#define FILE_BYTES_MAX (64 * MiB)  /* of an image of a few KiB after a few dozen operations */
#define MODEL_BYTES    (128 * KiB) /* of the disk */

struct input {
    const uint8_t *data;
    size_t size;
};

/* NULL: it cannot be opened. */
static inline co_fn struct node *open_text(struct graph *g, const char *text, unsigned flags)
{
    AUTO_JSON json_t *options = json_loads(text, 0, NULL);
    struct node *n = NULL;

    assert(options);
    return node_open(g, options, flags, &n, NULL) == 0 ? n : NULL;
}

/* An empty file; or one of @size, with something in it. */
static inline co_fn struct node *open_memory(struct graph *g, const char *name, const char *size)
{
    static uint8_t buf[64 * KiB];
    char text[80];

    snprintf(text, sizeof(text), "{\"driver\":\"mem\",\"node-name\":\"%s\",\"size\":\"%s\"}", name, size);
    struct node *n = open_text(g, text, OPEN_WRITE | OPEN_UNMAP);
    assert(n);
    memset(buf, 'b', sizeof(buf));
    node_write(n, 0, buf, MIN(sizeof(buf), node_size(n)), 0);
    return n;
}

static inline co_fn void close_files(struct graph *g, struct node *image)
{
    uint64_t held = 0;

    assert(node_size(image) <= UINT64_C(1) << 63);
    node_allocated_bytes(image, &held);
    assert(held < FILE_BYTES_MAX);
    node_unref(image);
    assert(list_empty(&g->nodes));
}

static inline void run_in_loop(int (*main)(void *arg), void *arg)
{
    struct loop *loop;

    if (loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL) == 0) {
        loop_run(loop, main, arg);
        loop_destroy(loop);
    }
}

/* ---- the model ---- */

struct model {
    bool known; /* else nothing is compared */
    uint64_t bytes;
    uint8_t data[MODEL_BYTES];
};

static inline co_fn int read_window(struct node *n, uint8_t *buf, uint64_t *ret_bytes)
{
    *ret_bytes = MIN(node_size(n), MODEL_BYTES);
    memset(buf, 0, MODEL_BYTES);
    return *ret_bytes ? node_read(n, 0, buf, *ret_bytes) : 0;
}

/* What there is now. */
static inline co_fn void model_load(struct model *m, struct node *n)
{
    m->known = read_window(n, m->data, &m->bytes) == 0;
}

static inline co_fn void model_compare(const struct model *m, struct node *n)
{
    static uint8_t now[MODEL_BYTES];
    uint64_t bytes;

    if (m->known) {
        int r = read_window(n, now, &bytes);
        assert(r == 0);
        assert(bytes == m->bytes);
        assert(memcmp(now, m->data, bytes) == 0);
    }
}

/* [offset, offset + bytes) was to become @fill; @r says whether it did. @maybe: it may also stay as it was.
 */
static inline co_fn void model_filled(struct model *m, struct node *n, uint64_t offset, uint64_t bytes,
                                      uint8_t fill, int r, bool maybe)
{
    static uint8_t now[MODEL_BYTES];
    uint64_t from = MIN(offset, m->bytes), to = MIN(offset + bytes, m->bytes), have;

    if (m->known && r == 0 && !maybe) {
        memset(m->data + from, fill, to - from);
    } else if (m->known) {
        r = read_window(n, now, &have);
        assert(r == 0 && have == m->bytes);
        bool same = memcmp(now + from, m->data + from, to - from) == 0;
        for (uint64_t i = from; !same && i < to; i++) {
            assert(now[i] == m->data[i] || now[i] == fill);
        }
        memcpy(m->data + from, now + from, to - from);
    }
}

static inline void model_resized(struct model *m, uint64_t size)
{
    uint64_t bytes = MIN(size, MODEL_BYTES);

    if (bytes < m->bytes) {
        memset(m->data + bytes, 0, m->bytes - bytes);
    }
    m->bytes = bytes;
}

/* ---- requests ---- */

/* An offset near what matters: the beginning, the end, anywhere. */
static inline uint64_t some_offset(struct rng *rng, uint64_t size)
{
    uint64_t near = rng_below(rng, 128 * KiB);

    switch (rng_below(rng, 3)) {
    case 0:
        return MIN(near, size);
    case 1:
        return size - MIN(near, size);
    default:
        return rng_below(rng, size + 1);
    }
}

enum guest_op {
    GUEST_WRITE,
    GUEST_SMALL,
    GUEST_ZERO,
    GUEST_UNMAP,
    GUEST_DISCARD,
    GUEST_COMPRESSED,
    GUEST_READ,
    GUEST_STATUS,
    GUEST_FLUSH,
    GUEST_OPS
};

/* One request of a guest, and what it means to the model. Returns its result. */
static inline co_fn int guest_request(struct node *n, enum guest_op op, struct rng *rng, struct model *m)
{
    static uint8_t buf[64 * KiB];
    uint64_t size = node_size(n), offset = some_offset(rng, size);
    uint64_t bytes = 1 + rng_below(rng, op == GUEST_SMALL ? 600 : sizeof(buf));
    uint8_t fill = (uint8_t)rng_below(rng, 256);
    struct extent x;
    int r = 0;

    if (op == GUEST_COMPRESSED) { /* whole clusters, whatever they are */
        static const unsigned units[] = {512, 4096, 16384, 65536};
        unsigned unit = units[rng_below(rng, ARRAY_SIZE(units))];
        offset = round_down(offset, unit);
        bytes = unit * (1 + rng_below(rng, MIN(sizeof(buf) / unit, 4u)));
    }
    bytes = MIN(bytes, size - offset);
    memset(buf, fill, sizeof(buf));
    switch (op) {
    case GUEST_ZERO:
    case GUEST_UNMAP:
        r = node_zero(n, offset, bytes, op == GUEST_UNMAP ? REQ_UNMAP : 0);
        model_filled(m, n, offset, bytes, 0, r, false);
        break;
    case GUEST_DISCARD:
        r = node_discard(n, offset, bytes);
        model_filled(m, n, offset, bytes, 0, r, true);
        break;
    case GUEST_READ:
        r = node_read(n, offset, buf, bytes);
        assert(!m->known || r == 0 || offset + bytes > m->bytes);
        break;
    case GUEST_STATUS:
        r = bytes ? node_status(n, offset, bytes, &x) : 0;
        assert(r < 0 || bytes == 0 || (x.bytes > 0 && x.bytes <= bytes));
        break;
    case GUEST_FLUSH:
        r = node_flush(n);
        break;
    default:
        r = node_write(n, offset, buf, bytes, op == GUEST_COMPRESSED ? REQ_COMPRESSED : 0);
        model_filled(m, n, offset, bytes, fill, r, false);
    }
    return r;
}

#endif
