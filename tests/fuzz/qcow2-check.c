/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile qcow2 images against check and repair, in memory. What must hold, whatever the image says:
 * a check changes nothing; after a repair that could be completed, a second run finds nothing; and what a
 * guest could read before, it reads after, the same. Memory and time are bounded (scripts/fuzz-smoke).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/json.h"
#include "block/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX (64 * MiB)
#define GUEST_BYTES    (256 * KiB) /* of the disk are compared */
#define PIECE          4096u

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

static co_fn struct node *open_image(struct graph *g, unsigned flags)
{
    struct node *file = graph_find(g, "image");
    uint8_t head[80] = {0};

    node_read(file, 0, head, MIN(sizeof(head), node_size(file)));
    bool data_file = get_be32(head + 4) >= 3 && (head[79] & 4);
    return open_text(g,
                     data_file ? "{\"driver\":\"qcow2\",\"file\":\"image\",\"data-file\":\"data\"}"
                               : "{\"driver\":\"qcow2\",\"file\":\"image\"}",
                     flags | OPEN_NO_BACKING);
}

/* What the guest reads: each piece, or that it cannot be read. */
static co_fn void read_guest(struct graph *g, uint8_t *buf, bool *readable)
{
    struct node *n = open_image(g, 0);

    memset(readable, 0, GUEST_BYTES / PIECE);
    if (!n) {
        return;
    }
    for (uint64_t at = 0; at < GUEST_BYTES && at < node_size(n); at += PIECE) {
        uint64_t bytes = MIN((uint64_t)PIECE, node_size(n) - at);
        readable[at / PIECE] = node_read(n, at, buf + at, bytes) == 0;
    }
    node_unref(n);
}

static void count_report(void *opaque, const struct check_problem *p)
{
    assert(p->sentence && p->code);
    ++*(uint64_t *)opaque;
}

static co_fn int check_image(struct graph *g, unsigned fix, struct check_result *ret)
{
    uint64_t told = 0;
    struct node *n = open_image(g, OPEN_CHECK | (fix ? OPEN_WRITE : 0));

    if (!n) {
        return -EINVAL;
    }
    int r = n->drv->check->check(n, fix, count_report, &told, ret);
    node_unref(n);
    return r;
}

static co_fn bool same_file(struct node *image, const struct input *in)
{
    uint8_t *now = malloc(in->size + 1);
    bool same = node_size(image) == in->size && node_read(image, 0, now, in->size) == 0 &&
                memcmp(now, in->data, in->size) == 0;

    free(now);
    return same;
}

static co_fn void compare_guest(struct graph *g, const uint8_t *before, const bool *could_read)
{
    static uint8_t after[GUEST_BYTES];
    static bool can_read[GUEST_BYTES / PIECE];

    read_guest(g, after, can_read);
    for (unsigned i = 0; i < GUEST_BYTES / PIECE; i++) {
        if (could_read[i]) {
            assert(can_read[i]);
            assert(memcmp(before + i * PIECE, after + i * PIECE, PIECE) == 0);
        }
    }
}

static co_fn void play(struct graph *g, struct node *image, const struct input *in)
{
    static uint8_t before[GUEST_BYTES];
    static bool could_read[GUEST_BYTES / PIECE];
    struct check_result first = {0}, repair = {0}, second = {0};
    const unsigned all = CHECK_FIX_LEAKS | CHECK_FIX_ERRORS;

    memset(before, 0, sizeof(before));
    read_guest(g, before, could_read);
    int r = check_image(g, 0, &first);
    assert(same_file(image, in));
    if (r < 0 || check_image(g, all, &repair) < 0 || repair.check_errors) {
        return;
    }
    r = check_image(g, 0, &second);
    if (!repair.corruptions && !repair.leaks) {
        assert(r == 0);
        assert(!second.corruptions);
        assert(!second.leaks);
        assert(!second.check_errors);
    }
    compare_guest(g, before, could_read);
}

static int run_input(void *arg)
{
    struct input *in = arg;
    struct graph g;

    graph_init(&g);
    struct node *image =
        open_text(&g, "{\"driver\":\"mem\",\"node-name\":\"image\",\"size\":\"0\"}", OPEN_WRITE);
    struct node *data =
        open_text(&g, "{\"driver\":\"mem\",\"node-name\":\"data\",\"size\":\"1M\"}", OPEN_WRITE);
    assert(image && data);
    if (node_write(image, 0, in->data, in->size, REQ_GROW) == 0) {
        play(&g, image, in);
    }
    uint64_t held = 0;
    node_allocated_bytes(image, &held);
    assert(held < FILE_BYTES_MAX);
    node_unref(image);
    node_unref(data);
    assert(list_empty(&g.nodes));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct loop *loop;

    if (size == 0 || loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL) < 0) {
        return 0;
    }
    loop_run(loop, run_input, &in);
    loop_destroy(loop);
    return 0;
}
