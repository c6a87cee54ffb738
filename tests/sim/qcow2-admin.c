/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is done to a qcow2 image as a whole, while guests write and while they do not: snapshots created,
 * applied and deleted, bitmaps added, removed, cleared, merged and stored, sizes, versions and refcount
 * widths changed, the image emptied, given another backing file. The power goes at any instant, or a request
 * to the file fails. Afterwards the image is consistent but for leaks, and what was under way is there as a
 * whole or not at all.
 */
#include "any_failing.h"
#include "qcow2-play.h"

struct admin {
    const char *name;
    bool among_guests;
    int (*run)(struct play *p); /* 0, -errno of what was done, or 1: there was nothing to do */
};

/* ---- changes ---- */

static void begin(struct play *p)
{
    p->w[1] = p->w[0];
    p->two = true;
}

/* A guest's flush says that what was there is durable in both worlds. */
static int end(struct play *p, int r)
{
    p->creating = NULL;
    if (r == 0 && !p->over) {
        p->w[0] = p->w[1];
        p->two = false;
    }
    return r;
}

/* It was refused before anything was done. */
static int nothing_done(struct play *p)
{
    p->creating = NULL;
    p->two = false;
    return 1;
}

static co_fn int snapshot_create(struct play *p)
{
    static const struct snapshot_time now = {1, 0};

    if (p->w[0].snapshots == SNAPSHOTS_MAX || p->data_file) {
        return 1;
    }
    begin(p);
    struct snapshot *s = &p->w[1].snapshot[p->w[1].snapshots++];
    snprintf(s->name, sizeof(s->name), "s%u", stamps % 10000);
    s->view = p->w[0].live;
    p->creating = s;
    int r = node_of(p)->drv->snapshot->create(node_of(p), s->name, &now);
    return r == -EINVAL ? nothing_done(p) : end(p, r); /* a refcount can hold no more */
}

static co_fn int snapshot_delete(struct play *p)
{
    if (p->w[0].snapshots == 0) {
        return 1;
    }
    begin(p);
    struct state *w = &p->w[1];
    unsigned i = (unsigned)rng_below(&p->rng, w->snapshots);
    struct snapshot gone = w->snapshot[i];
    memmove(&w->snapshot[i], &w->snapshot[i + 1], (w->snapshots - i - 1) * sizeof(gone));
    w->snapshots--;
    return end(p, node_of(p)->drv->snapshot->delete (node_of(p), NULL, gone.name, NULL));
}

static bool any_bitmap(const struct play *p)
{
    bool any = false;

    for (unsigned i = 0; i < BITMAPS_MAX; i++) {
        any = any || p->w[0].bitmap[i].there;
    }
    return any;
}

static co_fn int snapshot_apply(struct play *p)
{
    if (p->w[0].snapshots == 0 || any_bitmap(p)) {
        return 1;
    }
    begin(p);
    struct state *w = &p->w[1];
    const struct snapshot *s = &w->snapshot[rng_below(&p->rng, w->snapshots)];
    w->live = w->durable = s->view;
    int r = node_of(p)->drv->snapshot->apply(node_of(p), s->name, NULL);
    return r == -EINVAL ? nothing_done(p) : end(p, r);
}

/* What appears where the disk grows, and while it shrinks where it will end. */
static void add_tail(struct view *v, uint32_t from, uint32_t to, const struct set *with)
{
    for (uint32_t i = from; i < to; i++) {
        set_join(&v->sector[i], with ? &with[i] : &(struct set){1, {0}});
    }
}

static co_fn int resize(struct play *p)
{
    uint32_t before = p->w[0].live.sectors, size = 96 + (uint32_t)rng_below(&p->rng, SECTORS_MAX - 96);

    if ((p->version2 && p->w[0].snapshots) || size == before) {
        return 1;
    }
    begin(p);
    if (size < before) {
        add_tail(&p->w[0].live, size, before, NULL);
        add_tail(&p->w[0].durable, size, before, NULL);
        if (p->has_base) { /* what was there before it was written */
            add_tail(&p->w[0].live, size, before, p->base);
            add_tail(&p->w[0].durable, size, before, p->base);
        }
    }
    struct state *w = &p->w[1];
    w->live.sectors = w->durable.sectors = size;
    for (uint32_t i = before; i < size; i++) {
        set_only(&w->live.sector[i], 0);
        set_only(&w->durable.sector[i], 0);
    }
    uint64_t grains = size * SECTOR_SIZE >> GRAIN_BITS;
    for (unsigned i = 0; i < BITMAPS_MAX; i++) { /* the last one, in part beyond the end, may stay */
        w->bitmap[i].must &= (UINT64_C(1) << grains) - 1;
        w->bitmap[i].may &= (UINT64_C(2) << grains) - 1;
    }
    return end(p, node_truncate(node_of(p), (uint64_t)size * SECTOR_SIZE, 0, NULL));
}

static co_fn int make_empty(struct play *p)
{
    begin(p);
    for (uint32_t i = 0; i < p->w[0].live.sectors; i++) {
        static const struct set zero = {1, {0}};
        const struct set *to = p->has_base ? &p->base[i] : &zero;
        set_join(&p->w[0].live.sector[i], to);
        set_join(&p->w[0].durable.sector[i], to);
        p->w[1].live.sector[i] = p->w[1].durable.sector[i] = *to;
    }
    return end(p, node_of(p)->drv->make_empty(node_of(p)));
}

static co_fn int change_backing(struct play *p)
{
    if (!p->has_base) {
        return 1;
    }
    begin(p);
    char *name = p->w[1].backing;
    snprintf(name, sizeof(p->w[1].backing), "%s", strcmp(name, "base") == 0 ? "other" : "base");
    return end(p, node_of(p)->drv->change_backing(node_of(p), name, "raw"));
}

static co_fn int amend(struct play *p, const char *option, const char *value)
{
    begin(p);
    AUTO_JSON json_t *options = json_pack("{s:s}", option, value);
    int r = node_of(p)->drv->amend(node_of(p), options, &(struct progress){0}, NULL);
    p->version2 = qcow2_of(node_of(p))->h.version == 2;
    return r == -ENOTSUP || r == -EINVAL ? nothing_done(p) : end(p, r);
}

static co_fn int amend_version(struct play *p)
{
    return amend(p, "compat", p->version2 ? "1.1" : "0.10");
}

static co_fn int amend_width(struct play *p)
{
    static const char *const widths[] = {"4", "8", "16", "32", "64"};

    return amend(p, "refcount_bits", widths[rng_below(&p->rng, ARRAY_SIZE(widths))]);
}

static co_fn int amend_lazy(struct play *p)
{
    return amend(p, "lazy_refcounts", rng_below(&p->rng, 2) ? "on" : "off");
}

static int choose_bitmap(const struct play *p, bool there, char name[4])
{
    unsigned i = (unsigned)rng_below((struct rng *)&p->rng, BITMAPS_MAX);

    snprintf(name, 4, "b%u", i);
    return p->version2 || p->w[0].bitmap[i].there != there ? -1 : (int)i;
}

static co_fn int store(struct play *p, int r)
{
    return end(p, r < 0 ? r : node_of(p)->drv->bitmap->store(node_of(p), NULL));
}

static co_fn int bitmap_add(struct play *p)
{
    char name[4];
    int i = choose_bitmap(p, false, name);

    if (i < 0) {
        return 1;
    }
    begin(p);
    p->w[1].bitmap[i] = (struct bitmap){.there = true, .from = UINT32_MAX};
    int r = node_of(p)->drv->bitmap->add(node_of(p), name, UINT64_C(1) << GRAIN_BITS, NULL);
    p->w[1].bitmap[i].from = stamps; /* writes that were under way are not recorded */
    return store(p, r);
}

static co_fn int bitmap_remove(struct play *p)
{
    char name[4];
    int i = choose_bitmap(p, true, name);

    if (i < 0) {
        return 1;
    }
    begin(p);
    p->w[1].bitmap[i].there = false;
    return end(p, node_of(p)->drv->bitmap->remove(node_of(p), name, NULL));
}

static co_fn int bitmap_clear(struct play *p)
{
    char name[4];
    int i = choose_bitmap(p, true, name);

    if (i < 0) {
        return 1;
    }
    begin(p);
    p->w[1].bitmap[i].must = p->w[1].bitmap[i].may = 0;
    return store(p, node_of(p)->drv->bitmap->clear(node_of(p), name, NULL));
}

static co_fn int bitmap_enable(struct play *p)
{
    char name[4];
    int i = choose_bitmap(p, true, name);

    if (i < 0) {
        return 1;
    }
    begin(p);
    struct bitmap *b = &p->w[1].bitmap[i];
    b->disabled = !b->disabled;
    return store(p, node_of(p)->drv->bitmap->enable(node_of(p), name, !b->disabled, NULL));
}

static co_fn int bitmap_merge(struct play *p)
{
    const struct bitmap_ops *ops = node_of(p)->drv->bitmap;
    char name[4], from[4];
    int i = choose_bitmap(p, true, name), k = choose_bitmap(p, true, from);
    struct bitmap_view view;

    if (i < 0 || k < 0 || ops->get(node_of(p), from, &view, NULL) < 0) {
        return 1;
    }
    begin(p);
    p->w[1].bitmap[i].must |= p->w[1].bitmap[k].must;
    p->w[1].bitmap[i].may |= p->w[1].bitmap[k].may;
    return store(p, ops->merge(node_of(p), name, &view, NULL));
}

static const struct admin admins[] = {
    {"create", true, snapshot_create},
    {"create", true, snapshot_create},
    {"delete", true, snapshot_delete},
    {"apply", false, snapshot_apply},
    {"resize", false, resize},
    {"make-empty", false, make_empty},
    {"change-backing", true, change_backing},
    {"amend-version", false, amend_version},
    {"amend-width", true, amend_width},
    {"amend-lazy", true, amend_lazy},
    {"bitmap-add", true, bitmap_add},
    {"bitmap-add", true, bitmap_add},
    {"bitmap-remove", true, bitmap_remove},
    {"bitmap-clear", false, bitmap_clear},
    {"bitmap-enable", false, bitmap_enable},
    {"bitmap-merge", false, bitmap_merge},
};

/* ---- a play ---- */

static struct guest guests[GUESTS];

/* @a, with guests around it or without. */
static co_fn void act(struct play *p, const struct admin *a, bool with_guests)
{
    struct co_group group;

    co_group_init(&group);
    for (unsigned i = 0; with_guests && i < GUESTS; i++) {
        guests[i].play = p;
        guests[i].number = i;
        co_group_start(&group, &guests[i].task, guest_main, &guests[i]);
    }
    struct scene *scene = p->scene;
    scene->from_ns[scene->changes] = loop_clock_ns() - p->start_ns;
    int r = a && !p->failed ? a->run(p) : 1;
    if (r == 0) {
        scene->to_ns[scene->changes++] = loop_clock_ns() - p->start_ns;
    }
    co_group_wait(&group);
    if (getenv("BLKPROOF_SIM_TELL") && a) {
        fprintf(stderr, "%s%s: %d\n", a->name, with_guests ? " among guests" : "", r);
    }
    if (r < 0) {
        CHECK(p->over || p->scene->fault_op != SIM_ANY);
        p->failed = a;
    }
}

static co_fn void run_steps(struct play *p)
{
    p->scene->changes = 0;
    for (unsigned i = 0; i < p->scene->steps && !p->over; i++) {
        const struct admin *a = &admins[rng_below(&p->rng, ARRAY_SIZE(admins))];
        act(p, a, a->among_guests && rng_below(&p->rng, 2));
        if (!p->over) {
            act(p, NULL, true);
        }
    }
    one_flush(p);
}

/* ---- scenes ---- */

static int play_main(void *arg)
{
    static struct play p; /* too large for a stack */

    play_begin(&p, arg);
    play_eventful(&p, run_steps);
    world_close(&p.world);
    play_no_faults(&p);
    bool calm = p.scene->fault_op == SIM_ANY && !p.over;
    if (!image_is_dirty(p.disk)) { /* else opening it repairs it */
        uint64_t leaks = calm ? image_check(p.disk) : image_check_version2(p.disk);
        CHECK(!calm || leaks == 0);
    }
    judge(&p, OPEN_RW);
    CHECK(!image_is_dirty(p.disk));
    image_check_version2(p.disk);
    repair(&p);
    CHECK_EQ(image_check(p.disk), 0);
    return 0;
}

static void nothing_leaks_and_nothing_is_lost(void **state)
{
    FOR_EACH_SEED (seed, 200) {
        struct scene scene = scene_of(seed, STEPS_MAX);
        world_run(seed, play_main, &scene);
    }
}

/* First without a cut, to see how long that takes; then with a few: most while something changes. */
static void any_instant(void **state)
{
    const char *runs = getenv("BLKPROOF_RUNS"); /* a long run: 100000 and more */

    FOR_EACH_SEED (seed, (runs ? strtoull(runs, NULL, 0) : 2000) / 8) {
        struct scene calm = scene_of(seed, 8);
        struct rng rng;
        world_run(seed, play_main, &calm);
        rng_init(&rng, seed);
        for (unsigned i = 0; i < 8; i++) {
            struct scene scene = scene_of(seed, 8);
            uint64_t k = rng_below(&rng, calm.changes + 1);
            uint64_t from = k < calm.changes ? calm.from_ns[k] : 0;
            scene.cut_ns =
                1 + from + rng_below(&rng, (k < calm.changes ? calm.to_ns[k] : calm.took_ns) - from);
            world_run(seed, play_main, &scene);
        }
    }
}

/* The Nth request of a kind fails, then the next, until a run passes untouched. A long run (BLKPROOF_RUNS)
 * leaves none out. */
static void fail_each(enum sim_op op, bool sticky)
{
    const char *runs = getenv("BLKPROOF_RUNS");

    FOR_EACH_SEED (seed, runs ? strtoull(runs, NULL, 0) / 200 : 55) {
        struct scene scene = scene_of(seed, 6);
        scene.fault_op = op;
        scene.fault_sticky = sticky;
        scene.fault_hit = true;
        for (uint64_t n = 1; scene.fault_hit; n += runs ? 1 : 1 + n / 6) {
            scene.fault_nth = n;
            world_run(seed, play_main, &scene);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_leaks_and_nothing_is_lost),
        cmocka_unit_test(any_instant),
        cmocka_unit_test(any_failing_write),
        cmocka_unit_test(any_failing_flush),
        cmocka_unit_test(any_failing_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
