/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A qcow2 image on a simulated disk, guests that write to it, and what may be found in it afterwards
 * (qcow2-model.h).
 */
#ifndef TESTS_SIM_QCOW2_PLAY_H
#define TESTS_SIM_QCOW2_PLAY_H

#include "qcow2-check.h"
#include "qcow2-model.h"

#include "base/option.h"
#include "drivers/qcow2/qcow2.h"

#define GUESTS       3
#define DISK_SECTORS 160u /* at first */
#define STEPS_MAX    25

static const char *const kinds[] = {
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=1k,refcount_bits=4",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=2k,backing_file=base,backing_fmt=raw",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=2k,compat=0.10",
    "cluster_size=512,compat=0.10,backing_file=base,backing_fmt=raw",
    "cluster_size=2k,data_file=guest",
    "cluster_size=16k,extended_l2=on,backing_file=base,backing_fmt=raw",
    "cluster_size=64k",
};

struct scene {
    const char *options;
    unsigned steps;
    uint64_t cut_ns;      /* after so long; 0: never */
    enum sim_op fault_op; /* SIM_ANY: none */
    uint64_t fault_nth;
    bool fault_sticky;
    bool fault_hit;
    uint64_t took_ns;
    unsigned changes; /* made, and when */
    uint64_t from_ns[STEPS_MAX], to_ns[STEPS_MAX];
};

struct play {
    struct scene *scene;
    struct world world;
    struct rng rng;
    struct state w[2]; /* without and with what is under way */
    bool two;          /* the second counts */
    struct snapshot *creating;
    const struct admin *failed; /* what came to an end that nobody knows */
    struct set base[SECTORS_MAX];
    uint64_t cluster_sectors;
    bool version2, data_file, has_base;
    bool over; /* the power is gone */
    bool done;
    uint64_t start_ns;
    struct sim_file *disk;
};

static struct node *node_of(const struct play *p)
{
    return p->world.node;
}

/* Worlds that count. */
#define FOR_EACH_WORLD(p, s) for (struct state *s = (p)->w; s < (p)->w + 1 + (p)->two; s++)

/* ---- guests ---- */

struct guest {
    struct play *play;
    unsigned number;
    struct co_task task;
    uint8_t data[SECTORS_MAX * SECTOR_SIZE];
};

/* Sectors of one cluster belong to different guests in the lower half of the disk; in the upper half whole
 * clusters belong to one. */
static bool choose_range(const struct guest *g, uint64_t *ret_first, uint64_t *ret_count)
{
    struct play *p = g->play;
    uint64_t sectors = MIN(p->w[0].live.sectors, p->w[p->two].live.sectors);
    uint64_t cluster = p->cluster_sectors, half = round_up(sectors / 2, cluster);
    uint64_t mine = (sectors - MIN(half, sectors)) / cluster / GUESTS;

    if (mine > 0 && rng_below(&p->rng, 2)) {
        *ret_first = half + (rng_below(&p->rng, mine) * GUESTS + g->number) * cluster;
        *ret_count = cluster;
        return true;
    }
    uint64_t stripe = MIN(half, sectors) / 4 / GUESTS;
    *ret_first = (rng_below(&p->rng, stripe) * GUESTS + g->number) * 4 + rng_below(&p->rng, 3);
    *ret_count = 1 + rng_below(&p->rng, 2);
    return false;
}

static bool has_room(const struct play *p, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        for (unsigned k = 0; k <= p->two; k++) {
            if (p->w[k].live.sector[i].n >= SET_MAX - 1 || p->w[k].durable.sector[i].n >= SET_MAX - 1) {
                return false;
            }
        }
        if (p->creating && p->creating->view.sector[i].n >= SET_MAX - 1) {
            return false;
        }
    }
    return true;
}

static uint64_t grains_of(uint64_t first, uint64_t count)
{
    uint64_t from = first * SECTOR_SIZE >> GRAIN_BITS, to = ((first + count) * SECTOR_SIZE - 1) >> GRAIN_BITS;

    return ((UINT64_C(2) << to) - 1) & ~((UINT64_C(1) << from) - 1);
}

static void submitted(struct play *p, uint64_t first, uint64_t count, const uint16_t *stamp)
{
    FOR_EACH_WORLD(p, w)
    {
        for (uint64_t i = 0; i < count; i++) {
            set_add(&w->live.sector[first + i], stamp[i]);
            set_add(&w->durable.sector[first + i], stamp[i]);
        }
        for (unsigned i = 0; i < BITMAPS_MAX; i++) {
            w->bitmap[i].may |= w->bitmap[i].disabled ? 0 : grains_of(first, count);
        }
    }
    for (uint64_t i = 0; p->creating && i < count; i++) {
        set_add(&p->creating->view.sector[first + i], stamp[i]);
    }
}

static void acked(struct play *p, uint64_t first, uint64_t count, const uint16_t *stamp)
{
    FOR_EACH_WORLD(p, w)
    {
        for (uint64_t i = 0; i < count; i++) {
            set_only(&w->live.sector[first + i], stamp[i]);
        }
        for (unsigned i = 0; i < BITMAPS_MAX; i++) {
            struct bitmap *b = &w->bitmap[i];
            b->must |= b->disabled || stamp[0] < b->from ? 0 : grains_of(first, count);
        }
    }
}

static co_fn void one_flush(struct play *p)
{
    struct view *before = malloc(2 * sizeof(*before));
    unsigned first_new = stamps;
    bool two = p->two;

    before[0] = p->w[0].live;
    before[1] = p->w[1].live;
    if (node_flush(node_of(p)) == 0 && two == p->two) { /* not while a change began or ended */
        for (unsigned k = 0; k <= p->two; k++) {
            for (uint64_t i = 0; i < before[k].sectors; i++) {
                struct set *s = &p->w[k].durable.sector[i], old = *s;
                *s = before[k].sector[i];
                for (unsigned j = 0; j < old.n; j++) { /* and what came meanwhile */
                    if (old.stamp[j] >= first_new) {
                        set_add(s, old.stamp[j]);
                    }
                }
            }
        }
    }
    free(before);
}

static co_fn void one_change(struct guest *g)
{
    struct play *p = g->play;
    struct node *n = node_of(p);
    uint16_t stamp[SECTORS_MAX];
    uint64_t first, count;
    bool whole = choose_range(g, &first, &count);
    uint64_t what = rng_below(&p->rng, 10);
    bool unmap = whole && what == 0 && !(p->version2 && p->has_base);
    bool zero = unmap || what == 1 || what == 2;
    bool packed = whole && what == 3 && !p->data_file;

    if (!has_room(p, first, count)) {
        one_flush(p);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        stamp[i] = stamp_new(zero);
        stamp_put(g->data + i * SECTOR_SIZE, first + i, stamp[i]);
    }
    submitted(p, first, count, stamp);
    uint64_t at = first * SECTOR_SIZE, bytes = count * SECTOR_SIZE;
    int r = unmap  ? node_discard(n, at, bytes)
            : zero ? node_zero(n, at, bytes, what == 1 ? REQ_UNMAP : 0)
                   : node_write(n, at, g->data, bytes, packed ? REQ_COMPRESSED : 0);
    if (r == 0) {
        acked(p, first, count, stamp);
    }
}

static int guest_main(void *arg)
{
    struct guest *g = arg;

    for (unsigned i = 0; i < 4 && !g->play->over; i++) {
        if (rng_below(&g->play->rng, 8) == 0) {
            one_flush(g->play);
        } else {
            one_change(g);
        }
    }
    return 0;
}

/* ---- the image ---- */

static co_fn void make_image(struct play *p)
{
    const struct driver *d = driver_find("qcow2");
    struct qcow2_create create = {0};
    struct err err = {0};
    struct graph g;
    AUTO_JSON json_t *given = NULL;

    graph_init(&g);
    CHECK_EQ(json_from_keyvals(p->scene->options, NULL, &given, &err), 0);
    CHECK_EQ(options_apply(d->create_options, &create, given, &err), 0);
    CHECK_EQ(d->create(&g, "disk", &create, (uint64_t)DISK_SECTORS * SECTOR_SIZE, &err), 0);
    options_free(d->create_options, &create);
    CHECK(list_empty(&g.nodes));
}

/* Two backing files that hold the same. */
static void make_base(struct play *p)
{
    static const char *const names[] = {"base", "other"};
    uint8_t data[SECTOR_SIZE];

    for (uint64_t i = 0; i < SECTORS_MAX; i++) {
        uint16_t stamp = i < DISK_SECTORS ? stamp_new(false) : 0;
        set_only(&p->base[i], stamp);
        stamp_put(data, i, stamp);
        for (unsigned k = 0; k < 2 && stamp; k++) {
            struct sim_file *f = sim_file_find(names[k]);
            f = f ? f : sim_file_create(names[k], &(struct sim_disk){0});
            CHECK_EQ(sim_file_poke(f, i * SECTOR_SIZE, data, SECTOR_SIZE), 0);
        }
    }
}

static void first_state(struct play *p)
{
    struct state *w = &p->w[0];

    w->live.sectors = DISK_SECTORS;
    for (uint64_t i = 0; i < SECTORS_MAX; i++) {
        set_only(&w->live.sector[i], 0);
        if (p->has_base) {
            w->live.sector[i] = p->base[i];
        }
    }
    w->durable = w->live;
    snprintf(w->backing, sizeof(w->backing), "%s", p->has_base ? "base" : "");
}

#define OPEN_IT "\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}"
#define OPEN_RW (OPEN_WRITE | OPEN_UNMAP | OPEN_RESIZE)

static co_fn void open_it(struct play *p, unsigned flags)
{
    struct err err = {0};

    if (world_open(&p->world, flags, &err, "{" OPEN_IT "}") < 0) {
        check_failed(__FILE__, __LINE__, err.text, err.code, 0);
    }
}

static struct scene scene_of(uint64_t seed, unsigned steps)
{
    return (struct scene){.options = kinds[seed % ARRAY_SIZE(kinds)], .steps = steps, .fault_op = SIM_ANY};
}

/* A new image, open. */
static co_fn void play_begin(struct play *p, struct scene *scene)
{
    struct sim_disk kind = {
        .tear = true, .latency = {.min_ns = 1000, .max_ns = 100000, .slow_ppm = 30000, .slow_ns = 5000000}};

    memset(p, 0, sizeof(*p));
    p->scene = scene;
    if (getenv("BLKPROOF_SIM_TELL")) {
        fprintf(stderr, "%s, cut at %llu ns, operation %d fails the %lluth time%s\n", scene->options,
                (unsigned long long)scene->cut_ns, scene->fault_op, (unsigned long long)scene->fault_nth,
                scene->fault_sticky ? " and ever after" : "");
    }
    stamps = 0;
    stamp_new(true);
    rng_init(&p->rng, world_seed);
    p->disk = sim_file_create("disk", &kind);
    p->has_base = strstr(scene->options, "backing");
    if (p->has_base) {
        make_base(p);
    }
    make_image(p);
    first_state(p);
    world_init(&p->world);
    open_it(p, OPEN_RW);
    const struct qcow2 *q = qcow2_of(node_of(p));
    p->cluster_sectors = q->cluster_bytes / SECTOR_SIZE;
    p->data_file = qcow2_has_data_file(q);
    p->version2 = q->h.version == 2;
}

static int cutter(void *arg)
{
    struct play *p = arg;

    co_sleep_ns(p->scene->cut_ns);
    if (!p->done) {
        p->over = true;
        sim_power_cut(NULL, (enum sim_survivors)rng_below(&p->rng, 3));
    }
    return 0;
}

/* @fn, and meanwhile what the scene says happens. */
static co_fn void play_eventful(struct play *p, void (*fn)(struct play *p))
{
    struct scene *scene = p->scene;
    struct sim_fault fault = {
        .op = scene->fault_op, .nth = scene->fault_nth, .sticky = scene->fault_sticky, .error = -EIO};
    struct co_group group;
    struct co_task task;

    if (scene->fault_op != SIM_ANY) {
        sim_set_faults(p->disk, &fault, 1);
    }
    p->start_ns = loop_clock_ns();
    co_group_init(&group);
    if (scene->cut_ns) {
        co_group_start(&group, &task, cutter, p);
    }
    fn(p);
    p->done = true;
    scene->took_ns = loop_clock_ns() - p->start_ns;
    co_group_wait(&group);
}

static void play_no_faults(struct play *p)
{
    if (p->scene->fault_op != SIM_ANY) {
        p->scene->fault_hit = sim_fault_seen(p->disk, 0) >= p->scene->fault_nth;
        sim_set_faults(p->disk, NULL, 0);
    }
}

/* ---- afterwards ---- */

static co_fn uint8_t *read_all(struct play *p, uint32_t *ret_sectors)
{
    struct node *n = node_of(p);
    uint8_t *data = malloc(node_size(n));

    CHECK_EQ(node_read(n, 0, data, node_size(n)), 0);
    *ret_sectors = (uint32_t)(node_size(n) / SECTOR_SIZE);
    for (uint64_t at = 0; at < node_size(n); at += SECTOR_SIZE) {
        for (unsigned i = 8; i < SECTOR_SIZE; i += 8) {
            CHECK(memcmp(data + at, data + at + i, 8) == 0); /* torn or mixed */
        }
    }
    return data;
}

static co_fn void find_bitmaps(struct play *p, struct found *f)
{
    AUTO_JSON json_t *list = node_of(p)->drv->bitmap->list(node_of(p));
    struct bitmap_view v;
    size_t k;
    json_t *o;

    json_array_foreach(list, k, o)
    {
        const char *name = json_string_value(json_object_get(o, "name"));
        unsigned i = (unsigned)(name[1] - '0');
        f->bitmap[i] = true;
        f->trusted[i] = node_of(p)->drv->bitmap->get(node_of(p), name, &v, NULL) == 0;
        for (uint64_t b = 0; f->trusted[i] && b < v.bits; b++) {
            f->bits[i] |= (uint64_t)(v.data[b / 8] >> b % 8 & 1) << b;
        }
    }
}

static co_fn void find_snapshots(struct play *p, struct found *f)
{
    AUTO_JSON json_t *list = node_of(p)->drv->snapshot->list(node_of(p));
    size_t i;
    json_t *o;

    world_close(&p->world);
    json_array_foreach(list, i, o)
    {
        struct err err = {0};
        CHECK(i <= SNAPSHOTS_MAX);
        snprintf(f->name[i], sizeof(f->name[i]), "%s", json_string_value(json_object_get(o, "name")));
        CHECK_EQ(world_open(&p->world, 0, &err, "{" OPEN_IT ",\"snapshot\":\"%s\"}", f->name[i]), 0);
        f->snapshot_data[i] = read_all(p, &f->snapshot_sectors[i]);
        f->snapshots++;
        world_close(&p->world);
    }
}

static co_fn void find(struct play *p, unsigned flags, struct found *f)
{
    open_it(p, flags);
    const char *backing = qcow2_of(node_of(p))->backing_name;
    snprintf(f->backing, sizeof(f->backing), "%s", backing ? backing : "");
    f->data = read_all(p, &f->sectors);
    find_bitmaps(p, f);
    find_snapshots(p, f);
}

static co_fn void judge(struct play *p, unsigned flags)
{
    bool calm = p->scene->fault_op == SIM_ANY && !p->over; /* else only what was flushed has to be there */
    struct found f = {0};
    char why[2][sizeof(model_why)] = {"", ""};
    bool fits = false;

    find(p, flags, &f);
    for (unsigned k = 0; k <= p->two && !fits; k++) {
        const struct state *w = &p->w[k];
        fits = state_matches(w, calm ? &w->live : &w->durable, &f, calm);
        snprintf(why[k], sizeof(why[k]), "%s", model_why);
    }
    if (!fits) {
        fprintf(stderr, "%s\n%s\n%s\n", p->scene->options, why[0], why[1]);
    }
    CHECK(fits);
    found_free(&f);
}

/* Whatever it finds; afterwards nothing is wrong. */
static co_fn void repair(struct play *p)
{
    struct check_result result;

    open_it(p, OPEN_WRITE | OPEN_RESIZE | OPEN_CHECK);
    const struct check_ops *ops = node_of(p)->drv->check;
    CHECK_EQ(ops->check(node_of(p), CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, NULL, NULL, &result), 0);
    CHECK_EQ(result.corruptions + result.leaks + result.check_errors, 0);
    world_close(&p->world);
}

#endif
