/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile qcow2 images: the first four bytes choose what is done, the rest is the image, in memory. It is
 * opened, looked at, read, written, zeroed, discarded, resized and closed. Whatever it says, each step
 * ends with a result, and the file does not grow without bound. Names inside are not followed: a
 * data file is given, a backing file is not opened.
 * fuzz-smoke: 2500 runs
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/rng.h"
#include "block/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX (64 * MiB) /* of an image of 4 KiB after a few dozen writes of up to 64 KiB */
#define OPERATIONS     24

struct input {
    const uint8_t *data;
    size_t size;
};

static co_fn struct node *open_text(struct graph *g, const char *text, unsigned flags)
{
    AUTO_JSON json_t *options = json_loads(text, 0, NULL);
    struct node *n = NULL;

    assert(options);
    return node_open(g, options, flags, &n, NULL) == 0 ? n : NULL;
}

/* An offset near what matters: the beginning, the end, anywhere. */
static uint64_t some_offset(struct rng *rng, uint64_t size)
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

static co_fn void one_operation(struct node *n, struct rng *rng)
{
    static char buf[64 * KiB];
    uint64_t size = node_size(n);
    uint64_t offset = some_offset(rng, size);
    uint64_t bytes = MIN(1 + rng_below(rng, sizeof(buf)), size - offset);
    struct extent x;

    memset(buf, (int)rng_below(rng, 256), sizeof(buf));
    switch (rng_below(rng, 10)) {
    case 0:
        node_zero(n, offset, bytes, rng_below(rng, 2) ? REQ_UNMAP : 0);
        break;
    case 1:
        node_discard(n, offset, bytes);
        break;
    case 2:
        node_write(n, offset & ~UINT64_C(511), buf, MIN(UINT64_C(512), size - (offset & ~UINT64_C(511))),
                   REQ_COMPRESSED);
        break;
    case 3:
        node_flush(n);
        break;
    case 4:
        node_truncate(n, MIN(size / 2 + rng_below(rng, 256 * KiB), GiB), 0, NULL);
        break;
    case 5:
    case 6:
        if (bytes) {
            node_status(n, offset, bytes, &x);
        }
        node_read(n, offset, buf, bytes);
        break;
    default:
        node_write(n, offset, buf, bytes, 0);
    }
}

static co_fn void play(struct graph *g, const struct input *in, unsigned flags)
{
    struct rng rng;
    char text[256];
    bool data_file = in->size >= 80 && get_be32(in->data + 4) >= 3 && (in->data[79] & 4);

    snprintf(text, sizeof(text), "{\"driver\":\"qcow2\",\"file\":\"image\"%s}",
             data_file ? ",\"data-file\":{\"driver\":\"mem\",\"size\":\"1M\"}" : "");
    struct node *n = open_text(g, text, flags | OPEN_NO_BACKING | OPEN_UNMAP);
    if (!n) {
        return;
    }
    rng_init(&rng, get_be32(in->data - 4));
    json_decref(n->drv->info(n));
    json_decref(n->drv->image_info(n));
    for (int i = 0; i < OPERATIONS; i++) {
        one_operation(n, &rng);
    }
    node_unref(n);
}

static void drop(void *opaque, uint64_t offset, const char *what, uint64_t index, json_t *fields)
{
    json_decref(fields);
}

/* Told, checked, repaired, and checked again: what was repaired is in order. */
static co_fn void look(struct graph *g)
{
    struct check_result c = {0};
    struct node *n = open_text(g, "{\"driver\":\"qcow2\",\"file\":\"image\"}",
                               OPEN_CHECK | OPEN_NO_BACKING | OPEN_NO_IO | OPEN_WRITE);
    if (!n) {
        return;
    }
    n->drv->dump(n, drop, NULL, NULL);
    n->drv->check->check(n, 0, NULL, NULL, &c);
    if (n->drv->check->check(n, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, NULL, NULL, &c) == 0 && !c.check_errors &&
        !c.corruptions && !c.leaks && n->drv->check->check(n, 0, NULL, NULL, &c) == 0) {
        assert(c.corruptions == 0);
    }
    node_unref(n);
}

static int run_input(void *arg)
{
    struct input *in = arg;
    struct graph g;

    graph_init(&g);
    struct node *image =
        open_text(&g, "{\"driver\":\"mem\",\"node-name\":\"image\",\"size\":\"0\"}", OPEN_WRITE | OPEN_UNMAP);
    assert(image);
    if (node_write(image, 0, in->data, in->size, REQ_GROW) == 0) {
        play(&g, in, 0);
        if (in->size % 2) { /* half of them: repaired first */
            look(&g);
        }
        play(&g, in, OPEN_WRITE);
        play(&g, in, OPEN_WRITE);
    }
    assert(node_size(image) <= UINT64_C(1) << 56); /* no entry reaches further */
    uint64_t held = 0;
    node_allocated_bytes(image, &held);
    assert(held < FILE_BYTES_MAX);
    node_unref(image);
    assert(list_empty(&g.nodes));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data + 4, size - 4};
    struct loop *loop;

    if (size < 4 || loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL) < 0) {
        return 0;
    }
    loop_run(loop, run_input, &in);
    loop_destroy(loop);
    return 0;
}
