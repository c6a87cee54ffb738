/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile qcow2 images against check and repair, in memory. What must hold, whatever the image says:
 * a check changes nothing; after a repair that could be completed, a second run finds nothing; and what a
 * guest could read before, of the disk and of the first snapshots, it reads after, the same. One in four
 * inputs is repaired of leaks only. Memory and time are bounded (scripts/fuzz-smoke).
 */
/* fuzz-smoke: 3000 runs */
#include "qcow2-image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GUEST_BYTES (64 * KiB) /* of each disk are compared */
#define PIECE       512u
#define DISKS       3 /* the active one, and the first snapshots */

struct disk {
    bool there;
    char id[32]; /* of the snapshot; "": the active disk */
    uint8_t data[GUEST_BYTES];
    bool readable[GUEST_BYTES / PIECE];
};

/* What the guest reads: each piece, or that it cannot be read. */
static co_fn void read_disk(struct node *n, struct disk *d)
{
    memset(d->readable, 0, sizeof(d->readable));
    memset(d->data, 0, sizeof(d->data)); /* the last piece need not be whole */
    d->there = n && (!d->id[0] || n->drv->snapshot->show(n, d->id, NULL, NULL) == 0);
    for (uint64_t at = 0; d->there && at < GUEST_BYTES && at < node_size(n); at += PIECE) {
        uint64_t bytes = MIN((uint64_t)PIECE, node_size(n) - at);
        d->readable[at / PIECE] = node_read(n, at, d->data + at, bytes) == 0;
    }
}

/* The first snapshots whose ids are theirs alone. */
static co_fn void find_snapshots(struct node *n, struct disk *disks)
{
    json_t *list = n->drv->snapshot->list(n);

    for (size_t i = 0; i < DISKS - 1 && i < json_array_size(list); i++) {
        const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
        bool alone = id[0] && strlen(id) < sizeof(disks->id);
        for (size_t j = 0; alone && j < json_array_size(list); j++) {
            const char *other = json_string_value(json_object_get(json_array_get(list, j), "id"));
            alone = i == j || strcmp(id, other) != 0;
        }
        if (alone) {
            strcpy(disks[i + 1].id, id);
        }
    }
    json_decref(list);
}

static co_fn void read_disks(struct graph *g, struct disk *disks, bool first)
{
    struct node *n = open_qcow2(g, false, 0);

    if (n && first && !node_child(n, "data-file")) { /* such images may have none: a repair removes them */
        find_snapshots(n, disks);
    }
    for (int i = 0; i < DISKS; i++) {
        if (i == 0 || disks[i].id[0]) {
            read_disk(n, &disks[i]);
        }
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

static void compare_disk(const struct disk *before, const struct disk *after)
{
    for (unsigned i = 0; i < GUEST_BYTES / PIECE; i++) {
        if (before->readable[i]) {
            assert(after->readable[i]);
            assert(memcmp(before->data + i * PIECE, after->data + i * PIECE, PIECE) == 0);
        }
    }
}

static co_fn void play(struct graph *g, struct node *image, const struct input *in)
{
    static struct disk before[DISKS], after[DISKS];
    struct check_result first = {0}, repair = {0}, second = {0};
    bool all = in->size % 4;

    memset(before, 0, sizeof(before));
    read_disks(g, before, true);
    int r = check_image(g, 0, &first);
    assert(same_file(image, in));
    r = r < 0 ? r : check_image(g, CHECK_FIX_LEAKS | (all ? CHECK_FIX_ERRORS : 0), &repair);
    if (r == 0 && !repair.check_errors) {
        r = check_image(g, 0, &second);
        if (!repair.corruptions && !repair.leaks) {
            assert(r == 0);
            assert(!second.corruptions);
            assert(!second.leaks);
            assert(!second.check_errors);
        }
    }
    for (int i = 0; i < DISKS; i++) {
        strcpy(after[i].id, before[i].id);
    }
    read_disks(g, after, false);
    for (int i = 0; i < DISKS; i++) {
        compare_disk(&before[i], &after[i]);
    }
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
