/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2 when the power goes, or when requests to the file fail. Several clients write, zero, discard,
 * compress and flush at once; sectors of one cluster belong to different clients. Afterwards the
 * image is opened again: it is consistent but for leaks, a flushed sector is there, an unflushed one
 * is old or new, and no sector shows anything else.
 */
#include "any_failing.h"
#include "qcow2-check.h"

#include "base/option.h"
#include "block/driver.h"
#include "drivers/qcow2/qcow2.h"

#define CLIENTS      4
#define SECTORS      1024 /* 512 KiB of disk */
#define DISK_BYTES   (SECTORS * SECTOR_SIZE)
#define VERSIONS_MAX 4096

static const char *const kinds[] = {
    "cluster_size=4k",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=1k,refcount_bits=1",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=64k",
    "cluster_size=2k,compat=0.10",
    "cluster_size=4k,preallocation=metadata",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=2k,data_file=guest",
    "cluster_size=16k,extended_l2=on,data_file=guest,data_file_raw=on",
};

/* What is known of a sector. Versions count up; each is data or zeroes. */
struct sector {
    unsigned submitted, acked, durable;
    uint8_t zero[VERSIONS_MAX / 8]; /* by version: it is zeroes */
};

struct scene {
    const char *options;
    enum sim_op fault_op; /* SIM_ANY: none, the power goes */
    uint64_t fault_nth;
    bool fault_sticky;
    uint64_t steps; /* of each client */
    bool fault_hit;
};

struct play {
    struct scene *scene;
    struct world world;
    struct rng rng;
    struct sector sector[SECTORS];
    bool unmap_zeroes; /* a discarded cluster reads as zeroes afterwards */
    uint64_t cluster_sectors;
    bool data_file;
    bool over;          /* the power is gone */
    uint64_t cut_after; /* operations until then */
};

struct client {
    struct play *play;
    unsigned number;
    struct co_task task;
    uint8_t *data;
};

static bool is_zero_version(const struct sector *s, unsigned v)
{
    return v == 0 || (s->zero[v / 8] >> (v % 8) & 1);
}

static unsigned next_version(struct sector *s, bool zero)
{
    unsigned v = ++s->submitted;

    CHECK(v < VERSIONS_MAX);
    if (zero) {
        s->zero[v / 8] |= (uint8_t)(1 << (v % 8));
    }
    return v;
}

static void stamp(uint8_t *data, uint64_t sector, unsigned version)
{
    for (unsigned i = 0; i < SECTOR_SIZE; i += 8) {
        put_be32(data + i, (uint32_t)sector + 1);
        put_be32(data + i + 4, version);
    }
}

/* Legal content of a sector now that everything has settled. */
static void check_sector(const struct play *p, uint64_t n, const uint8_t *data)
{
    const struct sector *s = &p->sector[n];
    bool found = false;

    for (unsigned i = 8; i < SECTOR_SIZE; i += 8) {
        CHECK(memcmp(data, data + i, 8) == 0); /* torn or mixed */
    }
    uint32_t owner = get_be32(data), version = get_be32(data + 4);
    if (owner == 0) {
        for (unsigned v = s->durable; v <= s->submitted && !found; v++) {
            found = is_zero_version(s, v);
        }
    } else {
        CHECK_EQ(owner, n + 1); /* another sector's content */
        found = version >= s->durable && version <= s->submitted && !is_zero_version(s, version);
    }
    if (!found) {
        fprintf(stderr, "sector %llu: owner %u version %u; durable %u, submitted %u\n", (unsigned long long)n,
                owner, version, s->durable, s->submitted);
    }
    CHECK(found);
}

/* ---- clients ---- */

/* Stripes of three sectors go round the clients in the first half of the disk, stripes of two clusters
 * in the second: so clusters are shared in the one and can be unmapped whole in the other. */
static void choose_range(struct client *c, uint64_t *ret_first, uint64_t *ret_count, bool *ret_whole)
{
    struct play *p = c->play;
    bool whole = rng_below(&p->rng, 2);
    uint64_t stripe = whole ? 2 * p->cluster_sectors : 3;
    uint64_t base = whole ? SECTORS / 2 : 0;
    uint64_t stripes = SECTORS / 2 / stripe / CLIENTS;

    if (stripes == 0) {
        stripe = SECTORS / 2 / CLIENTS; /* clusters as large as that: not whole */
        stripes = 1;
        whole = false;
    }
    uint64_t first = base + (rng_below(&p->rng, stripes) * CLIENTS + c->number) * stripe;
    *ret_whole = whole;
    if (whole && rng_below(&p->rng, 2)) {
        *ret_first = first + rng_below(&p->rng, 2) * p->cluster_sectors;
        *ret_count = p->cluster_sectors;
        return;
    }
    uint64_t skip = rng_below(&p->rng, stripe);
    *ret_first = first + skip;
    *ret_count = 1 + rng_below(&p->rng, stripe - skip);
    *ret_whole = false;
}

static void acked(struct play *p, uint64_t first, const unsigned *versions, uint64_t count, int r)
{
    for (uint64_t i = 0; i < count && r == 0; i++) {
        p->sector[first + i].acked = versions[i];
    }
}

static co_fn void one_change(struct client *c)
{
    struct play *p = c->play;
    unsigned versions[SECTORS];
    uint64_t first, count;
    bool whole;

    choose_range(c, &first, &count, &whole);
    uint64_t what = rng_below(&p->rng, 10);
    bool unmap = whole && what == 0 && p->unmap_zeroes;
    bool zero = unmap || what == 1 || what == 2;
    bool packed = whole && what == 3 && !p->data_file && count % p->cluster_sectors == 0 &&
                  first % p->cluster_sectors == 0;
    for (uint64_t i = 0; i < count; i++) {
        versions[i] = next_version(&p->sector[first + i], zero);
        stamp(c->data + i * SECTOR_SIZE, first + i, versions[i]);
    }
    int r =
        unmap  ? node_discard(p->world.node, first * SECTOR_SIZE, count * SECTOR_SIZE)
        : zero ? node_zero(p->world.node, first * SECTOR_SIZE, count * SECTOR_SIZE, what == 1 ? REQ_UNMAP : 0)
               : node_write(p->world.node, first * SECTOR_SIZE, c->data, count * SECTOR_SIZE,
                            packed ? REQ_COMPRESSED : 0);
    acked(p, first, versions, count, r);
}

static co_fn void one_flush(const struct client *c)
{
    static unsigned snapshots[CLIENTS][SECTORS]; /* one flush of each client at a time */
    struct play *p = c->play;
    unsigned *before = snapshots[c->number];

    for (uint64_t i = 0; i < SECTORS; i++) {
        before[i] = p->sector[i].acked;
    }
    if (node_flush(p->world.node) == 0) {
        for (uint64_t i = 0; i < SECTORS; i++) {
            p->sector[i].durable = MAX(p->sector[i].durable, before[i]);
        }
    }
}

/* Anything, while others change it: each sector has what was there when the read began, or later. */
static co_fn void one_read(struct client *c)
{
    struct play *p = c->play;
    uint64_t first = rng_below(&p->rng, SECTORS);
    uint64_t count = 1 + rng_below(&p->rng, MIN((uint64_t)64, SECTORS - first));
    unsigned before[64];

    for (uint64_t i = 0; i < count; i++) {
        before[i] = p->sector[first + i].acked;
    }
    if (node_read(p->world.node, first * SECTOR_SIZE, c->data, count * SECTOR_SIZE) < 0 || p->over) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct sector *s = &p->sector[first + i];
        unsigned durable = s->durable;
        s->durable = before[i];
        check_sector(p, first + i, c->data + i * SECTOR_SIZE);
        s->durable = durable;
    }
}

static int client_main(void *arg)
{
    struct client *c = arg;
    struct play *p = c->play;

    for (uint64_t i = 0; i < p->scene->steps && !p->over; i++) {
        uint64_t what = rng_below(&p->rng, 12);
        if (what == 0) {
            one_flush(c);
        } else if (what < 4) {
            one_read(c);
        } else {
            one_change(c);
        }
        if (p->scene->fault_op == SIM_ANY && p->cut_after-- == 0) {
            p->over = true;
            sim_power_cut(NULL, (enum sim_survivors)rng_below(&p->rng, 3));
        }
    }
    return 0;
}

/* ---- scenes ---- */

static co_fn void make_image(const char *options)
{
    const struct driver *d = driver_find("qcow2");
    struct qcow2_create create = {0};
    struct err err = {0};
    struct graph g;
    AUTO_JSON json_t *given = NULL;

    graph_init(&g);
    CHECK_EQ(json_from_keyvals(options, NULL, &given, &err), 0);
    CHECK_EQ(options_apply(d->create_options, &create, given, &err), 0);
    CHECK_EQ(d->create(&g, "disk", &create, DISK_BYTES, &err), 0);
    options_free(d->create_options, &create);
    CHECK(list_empty(&g.nodes));
}

static co_fn void act(struct play *p)
{
    struct client clients[CLIENTS];
    struct co_group group;

    co_group_init(&group);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.play = p, .number = i, .data = malloc(DISK_BYTES)};
        co_group_start(&group, &clients[i].task, client_main, &clients[i]);
    }
    co_group_wait(&group);
    for (unsigned i = 0; i < CLIENTS; i++) {
        free(clients[i].data);
    }
}

static co_fn void look_again(struct play *p)
{
    uint8_t *data = malloc(DISK_BYTES);

    WORLD_OPEN(&p->world, "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}}");
    CHECK_EQ(node_read(p->world.node, 0, data, DISK_BYTES), 0);
    for (uint64_t i = 0; i < SECTORS; i++) {
        check_sector(p, i, data + i * SECTOR_SIZE);
    }
    world_close(&p->world);
    free(data);
}

static int play_main(void *arg)
{
    static struct play p; /* too large for a stack */
    struct scene *scene = arg;

    memset(&p, 0, offsetof(struct play, over));
    p.over = false;
    p.scene = scene;
    rng_init(&p.rng, world_seed);
    /* now and then one request takes as long as dozens of others */
    struct sim_disk kind = {
        .tear = true, .latency = {.min_ns = 1000, .max_ns = 100000, .slow_ppm = 30000, .slow_ns = 5000000}};
    struct sim_file *disk = sim_file_create("disk", &kind);
    make_image(scene->options);
    p.cut_after = rng_below(&p.rng, scene->steps * CLIENTS);
    world_init(&p.world);
    WORLD_OPEN(&p.world, "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}}");
    p.cluster_sectors = qcow2_of(p.world.node)->cluster_bytes / SECTOR_SIZE;
    p.unmap_zeroes = true;
    p.data_file = qcow2_has_data_file(qcow2_of(p.world.node));
    struct sim_fault fault = {
        .op = scene->fault_op, .nth = scene->fault_nth, .sticky = scene->fault_sticky, .error = -EIO};
    if (scene->fault_op != SIM_ANY) {
        sim_set_faults(disk, &fault, 1);
    }
    act(&p);
    if (scene->fault_op != SIM_ANY) {
        scene->fault_hit = sim_fault_seen(disk, 0) >= scene->fault_nth;
        sim_set_faults(disk, NULL, 0);
    } else if (!p.over) {
        sim_power_cut(NULL, SIM_SURVIVE_RANDOM);
    }
    world_close(&p.world);
    if (!image_is_dirty(disk)) { /* lazy refcounts: opening repairs it */
        image_check(disk);
    }
    look_again(&p);
    CHECK(!image_is_dirty(disk));
    image_check(disk);
    return 0;
}

static void any_instant(void **state)
{
    const char *runs = getenv("BLKPROOF_RUNS"); /* a long run: 100000 and more */

    FOR_EACH_SEED (seed, runs ? strtoull(runs, NULL, 0) : 1000) {
        struct scene scene = {kinds[seed % ARRAY_SIZE(kinds)], SIM_ANY, .steps = 40};
        world_run(seed, play_main, &scene);
    }
}

/* The Nth write, then the next, until a run passes untouched. */
static void fail_each(enum sim_op op, bool sticky)
{
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct scene scene = {kinds[k], op, 0, sticky, 6, true};
        for (uint64_t n = 1; scene.fault_hit && n < 400; n += 1 + n / 12) {
            scene.fault_nth = n;
            world_run(100 + k, play_main, &scene);
        }
    }
}

/* Nothing fails: what was written is there, nothing leaks. */
static int calm_main(void *arg)
{
    struct scene *scene = arg;
    int r = play_main(arg);

    (void)scene;
    CHECK_EQ(image_check(sim_file_find("disk")), 0);
    return r;
}

static void a_calm_run_leaks_nothing(void **state)
{
    FOR_EACH_SEED (seed, 100) {
        struct scene scene = {kinds[seed % ARRAY_SIZE(kinds)], SIM_POLL, 1, .steps = 100};
        world_run(seed, calm_main, &scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calm_run_leaks_nothing), cmocka_unit_test(any_instant),
        cmocka_unit_test(any_failing_write),        cmocka_unit_test(any_failing_flush),
        cmocka_unit_test(any_failing_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
