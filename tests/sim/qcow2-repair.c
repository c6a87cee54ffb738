/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A repair that does not come to its end: the power goes, or a request fails. The image has snapshots and
 * bitmaps; what says how often clusters are used is damaged, guest data is not. Whatever was done to it by
 * then, everything can still be read, and another repair makes it whole.
 */
#include "any_failing.h"
#include "qcow2-play.h"

/* ---- an image ---- */

static struct guest guests[GUESTS];

static co_fn void write_some(struct play *p)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        guests[i].play = p;
        guests[i].number = i;
        guest_main(&guests[i]);
    }
}

static co_fn void fill(struct play *p)
{
    static const struct snapshot_time now = {1, 0};
    struct node *n = node_of(p);
    struct state *w = &p->w[0];

    write_some(p);
    for (uint64_t i = rng_below(&p->rng, 3); i > 0 && !p->data_file; i--) {
        struct snapshot *s = &w->snapshot[w->snapshots];
        snprintf(s->name, sizeof(s->name), "s%llu", (unsigned long long)i);
        s->view = w->live;
        int r = n->drv->snapshot->create(n, s->name, &now);
        CHECK(r == 0 || r == -EINVAL); /* a refcount can hold no more */
        w->snapshots += r == 0;
        write_some(p);
    }
    if (!p->version2 && rng_below(&p->rng, 2)) {
        CHECK_EQ(n->drv->bitmap->add(n, "b0", UINT64_C(1) << GRAIN_BITS, NULL), 0);
        w->bitmap[0] = (struct bitmap){.there = true, .from = stamps};
        write_some(p);
    }
    world_close(&p->world);
    w->durable = w->live;
    CHECK_EQ(image_check(p->disk), 0);
}

/* ---- damage ---- */

static void poke64(struct image *m, uint64_t at, uint64_t value)
{
    uint8_t bytes[8];

    put_be64(bytes, value);
    CHECK_EQ(sim_file_poke(m->file, at, bytes, sizeof(bytes)), 0);
}

/* Host offset of the block that counts @cluster; 0: none. */
static uint64_t block_of(struct image *m, uint64_t cluster)
{
    uint64_t per_block = (m->cluster * 8) >> m->refcount_order;
    uint64_t entries = image_be32(m, 56) * m->cluster / 8;

    return cluster / per_block < entries ? image_be64(m, image_be64(m, 48) + cluster / per_block * 8) : 0;
}

static void set_refcount(struct image *m, uint64_t cluster, uint64_t value)
{
    uint64_t per_block = (m->cluster * 8) >> m->refcount_order, block = block_of(m, cluster);
    uint8_t *bytes = malloc(m->cluster);

    if (block) {
        sim_file_peek(m->file, block, bytes, m->cluster);
        qcow2_write_ref(bytes, cluster % per_block, m->refcount_order, value);
        CHECK_EQ(sim_file_poke(m->file, block, bytes, m->cluster), 0);
    }
    free(bytes);
}

static void damage_refcount(struct image *m, struct rng *rng)
{
    uint64_t in_file = sim_file_size(m->file) / m->cluster, cluster = rng_below(rng, in_file);
    uint64_t max = m->refcount_order == 6 ? INT64_MAX : (UINT64_C(1) << (1u << m->refcount_order)) - 1;
    uint64_t is = image_refcount(m, cluster);
    uint64_t values[] = {0, is ? is - 1 : 1, MIN(is + 1, max), max, 1};

    set_refcount(m, cluster, values[rng_below(rng, ARRAY_SIZE(values))]);
}

static void damage_block(struct image *m, struct rng *rng)
{
    uint64_t block = block_of(m, rng_below(rng, sim_file_size(m->file) / m->cluster));
    uint8_t *bytes = malloc(m->cluster);

    memset(bytes, rng_below(rng, 2) ? 0 : (int)rng_below(rng, 256), m->cluster);
    if (block) {
        CHECK_EQ(sim_file_poke(m->file, block, bytes, m->cluster), 0);
    }
    free(bytes);
}

static void damage_table(struct image *m, struct rng *rng)
{
    uint64_t values[] = {0,
                         m->cluster / 2,
                         sim_file_size(m->file) + 16 * m->cluster,
                         image_be64(m, 40),
                         image_be64(m, 48),
                         UINT64_C(1) << 60,
                         3};
    uint64_t index = rng_below(rng, 3);

    if (index < image_be32(m, 56) * m->cluster / 8) {
        poke64(m, image_be64(m, 48) + index * 8, values[rng_below(rng, ARRAY_SIZE(values))]);
    }
}

/* "Ours alone" of an active table or of a cluster it names. A flag too many would let guests change what a
 * snapshot holds: but here nobody writes before the repair. */
static void damage_flag(struct image *m, struct rng *rng)
{
    uint64_t l1 = image_be64(m, 40), entries = image_be32(m, 36);
    uint64_t at = l1 + rng_below(rng, entries) * 8;
    uint64_t e = image_be64(m, at), l2 = e & IMAGE_OFFSET;

    if (l2 && rng_below(rng, 2)) {
        unsigned each = m->ext_l2 ? 16 : 8;
        at = l2 + rng_below(rng, m->cluster / each) * each;
        e = image_be64(m, at);
    }
    if ((e & IMAGE_OFFSET) && !(e >> 62 & 1)) {
        poke64(m, at, e ^ UINT64_C(1) << 63);
    }
}

static void damage_bits(struct image *m, struct rng *rng)
{
    if (image_be32(m, 4) >= 3) {
        poke64(m, 72, image_be64(m, 72) | (1 + rng_below(rng, 3))); /* dirty, corrupt */
    }
}

/* The table last: until then it says where the blocks are. */
static void damage(struct play *p)
{
    static void (*const kinds_of[])(struct image * m, struct rng * rng) = {
        damage_refcount, damage_block, damage_flag, damage_bits, damage_table};
    struct image m = image_look(p->disk);

    for (size_t k = 0; k < ARRAY_SIZE(kinds_of); k++) {
        for (uint64_t i = rng_below(&p->rng, 3); i > 0; i--) {
            kinds_of[k](&m, &p->rng);
        }
    }
}

/* ---- scenes ---- */

static co_fn void repair_in_part(struct play *p)
{
    struct err err = {0};
    struct check_result result;

    if (world_open(&p->world, OPEN_WRITE | OPEN_RESIZE | OPEN_CHECK, &err, "{" OPEN_IT "}") == 0) {
        node_of(p)->drv->check->check(node_of(p), CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, NULL, NULL, &result);
        world_close(&p->world);
    }
    CHECK(!err.code || p->over || p->scene->fault_op != SIM_ANY);
}

static int play_main(void *arg)
{
    static struct play p;

    play_begin(&p, arg);
    fill(&p);
    damage(&p);
    play_eventful(&p, repair_in_part);
    play_no_faults(&p);
    judge(&p, 0);
    repair(&p);
    CHECK_EQ(image_check(p.disk), 0);
    judge(&p, OPEN_RW);
    image_check(p.disk);
    return 0;
}

static void any_instant(void **state)
{
    const char *runs = getenv("BLKPROOF_RUNS"); /* a long run: 100000 and more */

    FOR_EACH_SEED (seed, (runs ? strtoull(runs, NULL, 0) : 2000) / 8) {
        struct scene calm = scene_of(seed, 0);
        struct rng rng;
        world_run(seed, play_main, &calm);
        rng_init(&rng, seed);
        for (unsigned i = 0; i < 8; i++) {
            struct scene scene = scene_of(seed, 0);
            scene.cut_ns = 1 + rng_below(&rng, calm.took_ns);
            world_run(seed, play_main, &scene);
        }
    }
}

/* The Nth request of a kind fails, then the next, until a run passes untouched. */
static void fail_each(enum sim_op op, bool sticky)
{
    const char *runs = getenv("BLKPROOF_RUNS");

    FOR_EACH_SEED (seed, runs ? strtoull(runs, NULL, 0) / 200 : 55) {
        struct scene scene = scene_of(seed, 0);
        scene.fault_op = op;
        scene.fault_sticky = sticky;
        scene.fault_hit = true;
        for (uint64_t n = 1; scene.fault_hit; n++) {
            scene.fault_nth = n;
            world_run(seed, play_main, &scene);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_instant),
        cmocka_unit_test(any_failing_write),
        cmocka_unit_test(any_failing_flush),
        cmocka_unit_test(any_failing_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
