/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile qcow2 images against check and repair, in memory. What must hold, whatever the image says:
 * a check changes nothing; after a repair that could be completed, a second run finds nothing; and what a
 * guest could read before, it reads after, the same. Memory and time are bounded (scripts/fuzz-smoke).
 */
#include "qcow2-image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GUEST_BYTES (64 * KiB) /* of the disk are compared */
#define PIECE       512u

/* What the guest reads: each piece, or that it cannot be read. */
static co_fn void read_guest(struct graph *g, uint8_t *buf, bool *readable)
{
    struct node *n = open_qcow2(g, false, 0);

    memset(readable, 0, GUEST_BYTES / PIECE);
    memset(buf, 0, GUEST_BYTES); /* the last piece need not be whole */
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
    struct node *n = open_qcow2(g, false, OPEN_CHECK | (fix ? OPEN_WRITE : 0));

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
    struct node *image = open_memory(&g, "image", "0");
    struct node *data = open_memory(&g, "data", "1M");
    if (node_write(image, 0, in->data, in->size, REQ_GROW) == 0) {
        play(&g, image, in);
    }
    node_unref(data);
    close_files(&g, image);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return mutate_qcow2(data, size, max, seed, 0, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > 0) {
        run_in_loop(run_input, &in);
    }
    return 0;
}
