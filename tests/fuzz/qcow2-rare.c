/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What few guests do, to hostile qcow2 images: snapshots, bitmaps, amend, resize, with writes between. A byte
 * of flags, four of random numbers, then one byte a step, then the image (see qcow2-image.h). Whatever the
 * image says, each step ends with a result. If it was in order before, then a guest reads what it wrote, each
 * snapshot holds what it held, and the image is in order afterwards: nothing damaged, and nothing leaked
 * unless a step failed.
 */
/* fuzz-smoke: 1500 runs */
#include "qcow2-image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS     27
#define SCRIPT    32 /* flags, seed, steps */
#define SNAPSHOTS 3

enum { THIN = 1, BACKING = 2 };

struct play {
    struct graph *g;
    struct node *n;
    struct rng rng;
    bool backing;
    bool failed; /* a step: what it had begun may leak */
    struct model now, held[SNAPSHOTS];
    bool there[SNAPSHOTS];
};

/* ---- in order? ---- */

static co_fn bool check_image(struct graph *g, struct check_result *ret)
{
    struct node *n = open_qcow2(g, false, OPEN_CHECK);
    int r = n ? n->drv->check->check(n, 0, NULL, NULL, ret) : -EINVAL;

    node_unref(n);
    return r == 0 && ret->check_errors == 0;
}

/* A data file holds each cluster at its own place: a guest finds out when it is not so, a check does not. */
static void misplaced(void *opaque, uint64_t offset, const char *what, uint64_t index, json_t *fields)
{
    bool *found = opaque;
    json_int_t host = json_integer_value(json_object_get(fields, "offset"));

    if (strcmp(what, "L2 entry") == 0 && host &&
        host != json_integer_value(json_object_get(fields, "guest_offset"))) {
        *found = true;
    }
    json_decref(fields);
}

static co_fn bool data_file_agrees(struct graph *g)
{
    struct node *n = open_qcow2(g, false, OPEN_CHECK);
    bool wrong = false;

    if (n && node_child(n, "data-file")) {
        n->drv->dump(n, misplaced, &wrong, NULL);
    }
    node_unref(n);
    return !wrong;
}

static co_fn bool is_clean(struct graph *g)
{
    struct check_result c = {0};

    return check_image(g, &c) && c.corruptions == 0 && c.leaks == 0;
}

/* Also what is counted behind the end of the file, which a check does not look at. */
static co_fn bool in_order(struct graph *g, struct node *image)
{
    uint64_t size = node_size(image);

    if (!is_clean(g) || !data_file_agrees(g) || node_write(image, size + GiB, "", 1, REQ_GROW) < 0) {
        return false;
    }
    bool clean = is_clean(g);
    int r = node_truncate(image, size, 0, NULL);
    assert(r == 0);
    return clean;
}

/* ---- snapshots ---- */

static const char *const snapshot_names[SNAPSHOTS] = {"fuzz-a", "fuzz-b", "fuzz-c"};

/* The image itself may have one of these names or ids, in whatever order. */
static co_fn bool names_are_free(struct node *n)
{
    json_t *list = n->drv->snapshot->list(n), *s;
    bool free = true;
    size_t i;

    json_array_foreach(list, i, s)
    {
        for (int j = 0; j < SNAPSHOTS; j++) {
            free = free && strcmp(json_string_value(json_object_get(s, "id")), snapshot_names[j]) != 0 &&
                   strcmp(json_string_value(json_object_get(s, "name")), snapshot_names[j]) != 0;
        }
    }
    json_decref(list);
    return free;
}

/* One that the image came with. */
static co_fn int foreign_snapshot(struct play *p, bool apply)
{
    json_t *list = p->n->drv->snapshot->list(p->n);
    const json_t *s = json_array_get(list, rng_below(&p->rng, MAX(json_array_size(list), (size_t)1)));
    const char *id = json_string_value(json_object_get(s, "id"));
    bool ours = strncmp(json_string_value(json_object_get(s, "name")) ?: "fuzz", "fuzz", 4) == 0;
    int r = -ENOENT;

    if (id && !ours) {
        r = apply ? p->n->drv->snapshot->apply(p->n, id, NULL)
                  : p->n->drv->snapshot->delete (p->n, id, NULL, NULL);
        if (apply && p->now.known) {
            model_load(&p->now, p->n); /* what it held is not known */
        }
    }
    json_decref(list);
    return id && !ours ? r : 0;
}

static co_fn int snapshot_step(struct play *p, unsigned what, unsigned i)
{
    const struct snapshot_ops *ops = p->n->drv->snapshot;
    int r;

    switch (what) {
    case 0:
        if (p->there[i]) {
            return 0; /* a second one of the name is allowed, and would be confused with it */
        }
        r = ops->create(p->n, snapshot_names[i], &(struct snapshot_time){1, 2});
        p->there[i] = r == 0;
        if (r == 0) {
            p->held[i] = p->now;
        }
        return r;
    case 1:
        r = p->there[i] ? ops->apply(p->n, snapshot_names[i], NULL) : 0;
        if (r == 0 && p->there[i]) {
            p->now = p->held[i];
        }
        return r;
    case 2:
        r = p->there[i] ? ops->delete (p->n, NULL, snapshot_names[i], NULL) : 0;
        p->there[i] = p->there[i] && r < 0;
        return r;
    default:
        return foreign_snapshot(p, what & 1);
    }
}

/* ---- bitmaps ---- */

static co_fn int merge(struct node *n, const char *to, const char *from)
{
    const struct bitmap_ops *ops = n->drv->bitmap;
    struct bitmap_view view;
    int r = ops->get(n, from, &view, NULL);

    return r < 0 ? r : ops->merge(n, to, &view, NULL);
}

static co_fn int bitmap_step(struct play *p, unsigned what, unsigned i)
{
    const struct bitmap_ops *ops = p->n->drv->bitmap;
    json_t *list = ops->list(p->n);
    size_t count = json_array_size(list);
    const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
    const char *other =
        json_string_value(json_object_get(json_array_get(list, rng_below(&p->rng, count + 1)), "name"));
    int r;

    name = name ? name : "new";
    switch (what) {
    case 0:
        r = ops->supported(p->n) ? ops->add(p->n, i ? name : "new", 512u << rng_below(&p->rng, 10), NULL) : 0;
        break;
    case 1:
        r = ops->remove(p->n, name, NULL);
        break;
    case 2:
        r = ops->clear(p->n, name, NULL);
        break;
    case 3:
        r = ops->enable(p->n, name, rng_below(&p->rng, 2), NULL);
        break;
    case 4:
        r = other ? merge(p->n, name, other) : 0;
        break;
    default:
        r = ops->store(p->n, NULL);
    }
    json_decref(list);
    return r;
}

/* ---- amend and resize ---- */

static const char *const amendments[] = {
    "{\"compat\":\"v2\"}",
    "{\"compat\":\"v3\"}",
    "{\"lazy_refcounts\":\"on\"}",
    "{\"lazy_refcounts\":\"off\"}",
    "{\"refcount_bits\":\"1\"}",
    "{\"refcount_bits\":\"2\"}",
    "{\"refcount_bits\":\"8\"}",
    "{\"refcount_bits\":\"16\"}",
    "{\"refcount_bits\":\"32\"}",
    "{\"refcount_bits\":\"64\"}",
    "{\"data_file_raw\":\"off\"}",
    "{\"data_file\":\"elsewhere\"}",
    "{\"backing_file\":\"other\"}",
    "{\"data_file_raw\":\"on\"}",
    "{\"compat\":\"v2\",\"refcount_bits\":\"16\"}",
    "{\"cluster_size\":\"64k\"}",
};

static co_fn int amend(struct play *p, unsigned which)
{
    AUTO_JSON json_t *options = json_loads(amendments[which], 0, NULL);

    assert(options);
    return p->n->drv->amend(p->n, options, &(struct progress){0}, NULL);
}

static co_fn int resize(struct play *p, bool grow)
{
    uint64_t size = node_size(p->n), near = rng_below(&p->rng, 256 * KiB);
    unsigned flags = rng_below(&p->rng, 4) ? 0 : REQ_PREALLOC_METADATA;
    int r = node_truncate(p->n, grow ? MIN(size, GiB) + near : size / 2 + near / 4, grow ? flags : 0, NULL);

    model_resized(&p->now, node_size(p->n));
    return r;
}

static co_fn int whole_step(struct play *p, unsigned what)
{
    int r;

    switch (what) {
    case 0:
    case 1:
        return resize(p, what);
    case 2:
        return p->n->drv->change_backing(p->n, "base", "raw");
    case 3:
        return p->n->drv->change_backing(p->n, NULL, NULL);
    case 4:
        r = p->n->drv->make_empty(p->n);
        if (p->now.known) {
            model_load(&p->now, p->n);
        }
        return r;
    default: /* closed and opened again */
        node_unref(p->n);
        p->n = open_qcow2(p->g, p->backing, OPEN_WRITE | OPEN_UNMAP | OPEN_RESIZE);
        assert(p->n || !p->now.known);
        return 0;
    }
}

/* ---- a play ---- */

static co_fn void step(struct play *p, uint8_t what)
{
    int r = 0;

    switch (what >> 5) {
    case 0:
    case 1:
    case 2:
        r = guest_request(p->n, (enum guest_op)(what % GUEST_OPS), &p->rng, &p->now);
        break;
    case 3:
    case 4:
        r = snapshot_step(p, what >> 2 & 7, what % SNAPSHOTS);
        break;
    case 5:
        r = bitmap_step(p, what & 7, what >> 3 & 3);
        break;
    case 6:
        r = amend(p, what % ARRAY_SIZE(amendments));
        break;
    default:
        r = whole_step(p, what & 7);
    }
    p->failed = p->failed || r < 0;
}

static co_fn void look(struct play *p)
{
    struct node *n = open_qcow2(p->g, p->backing, 0);

    if (!n) {
        return;
    }
    json_decref(n->drv->info(n));
    json_decref(n->drv->image_info(n));
    json_decref(n->drv->bitmap->list(n));
    model_compare(&p->now, n);
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (p->there[i] && n->drv->snapshot->show(n, NULL, snapshot_names[i], NULL) == 0 && p->now.known) {
            model_compare(&p->held[i], n);
        }
    }
    node_unref(n);
}

static co_fn void play(struct play *p, const uint8_t *steps)
{
    bool good = in_order(p->g, graph_find(p->g, "image"));

    p->n = open_qcow2(p->g, p->backing, OPEN_WRITE | OPEN_UNMAP | OPEN_RESIZE);
    if (!p->n) {
        return;
    }
    good = good && names_are_free(p->n);
    if (good) {
        model_load(&p->now, p->n);
    }
    good = p->now.known;
    for (int i = 0; i < STEPS && steps[i] && p->n; i++) {
        step(p, steps[i]);
    }
    if (p->n) {
        model_compare(&p->now, p->n);
    }
    node_unref(p->n);
    look(p);
    if (good) {
        struct check_result c = {0};
        bool complete = check_image(p->g, &c);
        assert(complete);
        assert(c.corruptions == 0);
        assert(c.leaks == 0 || p->failed);
    }
}

static int run_input(void *arg)
{
    static struct play p;
    struct input *in = arg;
    struct graph g;
    struct view v = view_of((uint8_t *)(uintptr_t)in->data + SCRIPT, in->size - SCRIPT, in->data[0] & THIN);

    graph_init(&g);
    struct node *image = open_memory(&g, "image", "0");
    struct node *data = open_memory(&g, "data", "1M");
    struct node *back = open_memory(&g, "back", "64k");
    if (write_image(image, &v) == 0) {
        memset(&p, 0, sizeof(p));
        p.g = &g;
        p.backing = in->data[0] & BACKING;
        rng_init(&p.rng, get_be32(in->data + 1));
        play(&p, in->data + 5);
    }
    node_unref(data);
    node_unref(back);
    close_files(&g, image);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return mutate_qcow2(data, size, max, seed, SCRIPT, size && (data[0] & THIN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > SCRIPT) {
        run_in_loop(run_input, &in);
    }
    return 0;
}
