/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile qcow2 images: four bytes of random numbers (one bit of them: the image is thin, see qcow2-image.h),
 * then the image, in memory. It is opened, looked at, dumped, read, written, zeroed, discarded, resized,
 * repaired and closed. Whatever it says, each step ends with a result, and the file does not grow without
 * bound. Names inside are not followed: a data file is given, a backing file is not opened.
 */
/* fuzz-smoke: 1000 runs */
#include "qcow2-image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SCRIPT     4
#define OPERATIONS 24

static bool is_thin(const uint8_t *data)
{
    return data[0] & 0x80;
}

static co_fn void one_operation(struct node *n, struct rng *rng)
{
    static struct model unknown;

    if (rng_below(rng, 10) == 0) {
        node_truncate(n, MIN(node_size(n) / 2 + rng_below(rng, 256 * KiB), GiB), 0, NULL);
    } else {
        guest_request(n, (enum guest_op)rng_below(rng, GUEST_OPS), rng, &unknown);
    }
}

static co_fn void play(struct graph *g, const struct input *in, unsigned flags)
{
    struct rng rng;
    struct node *n = open_qcow2(g, false, flags | OPEN_UNMAP);

    if (!n) {
        return;
    }
    rng_init(&rng, get_be32(in->data));
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
    const struct input *in = arg;
    struct view v = view_of((uint8_t *)(uintptr_t)in->data + SCRIPT, in->size - SCRIPT, is_thin(in->data));
    struct graph g;

    graph_init(&g);
    struct node *image = open_memory(&g, "image", "0");
    struct node *data = open_memory(&g, "data", "1M");
    if (write_image(image, &v) == 0) {
        play(&g, in, 0);
        if (in->size % 2) { /* half of them: repaired first */
            look(&g);
        }
        play(&g, in, OPEN_WRITE);
        play(&g, in, OPEN_WRITE);
    }
    assert(node_size(image) <= UINT64_C(1) << 56); /* no entry reaches further */
    node_unref(data);
    close_files(&g, image);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return mutate_qcow2(data, size, max, seed, SCRIPT, size > 0 && is_thin(data));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > SCRIPT) {
        run_in_loop(run_input, &in);
    }
    return 0;
}
