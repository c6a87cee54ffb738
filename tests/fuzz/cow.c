/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile COW images, in memory: four bytes of random numbers, then the image. It is opened, told about,
 * read, written, zeroed, discarded and opened again, with and without a backing file. What lies where is
 * fixed by the header and a bit says whether it is there, so whatever the image says, a guest reads what it
 * wrote.
 */
#include "image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPERATIONS 24

static co_fn struct node *open_image(struct graph *g, bool backing, unsigned flags)
{
    return open_text(
        g,
        backing ? "{\"driver\":\"cow\",\"file\":\"image\",\"backing\":\"back\",\"check-backing\":\"off\"}"
                : "{\"driver\":\"cow\",\"file\":\"image\"}",
        flags | OPEN_NO_BACKING | OPEN_UNMAP);
}

static co_fn void tell(struct node *n)
{
    json_decref(n->drv->info(n));
    json_decref(n->drv->image_info(n));
}

static co_fn void play(struct graph *g, struct rng *rng, struct model *m, bool backing)
{
    struct node *n = open_image(g, backing, 0);

    if (!n) {
        return;
    }
    tell(n);
    model_load(m, n);
    assert(m->known); /* nothing in such an image makes a read fail */
    node_unref(n);
    for (int again = 0; again < 2; again++) {
        n = open_image(g, backing, OPEN_WRITE);
        assert(n);
        for (int i = 0; i < OPERATIONS; i++) {
            guest_request(n, (enum guest_op)rng_below(rng, GUEST_OPS), rng, m);
        }
        model_compare(m, n);
        node_unref(n);
    }
    n = open_image(g, backing, 0);
    assert(n);
    model_compare(m, n);
    node_unref(n);
}

static int run_input(void *arg)
{
    static struct model m;
    const struct input *in = arg;
    struct graph g;
    struct rng rng;

    graph_init(&g);
    struct node *image = open_memory(&g, "image", "0");
    struct node *back = open_memory(&g, "back", "64k");
    if (node_write(image, 0, in->data + 4, in->size - 4, REQ_GROW) == 0) {
        rng_init(&rng, get_be32(in->data));
        play(&g, &rng, &m, in->data[3] & 1);
    }
    node_unref(back);
    close_files(&g, image);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > 4) {
        run_in_loop(run_input, &in);
    }
    return 0;
}
