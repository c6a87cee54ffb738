/* SPDX-License-Identifier: BSD-2-Clause */
/* Power cuts: what was flushed is there, what was not is there or not sector by sector, and no
 * sector holds anything that was never written to it. First on the simulated disk itself, then
 * through the drivers. */
#include <fcntl.h>

#include "world.h"

#define DISK_BYTES (64 * KiB)
#define SECTORS    (DISK_BYTES / SECTOR_SIZE)

static void write_byte(struct lfile *f, uint64_t sector, uint64_t n, int byte, bool sync, int expect)
{
    static char data[DISK_BYTES];
    memset(data, byte, n * SECTOR_SIZE);
    struct iovec iov = {data, n * SECTOR_SIZE};
    CHECK_EQ(lfile_write(f, &iov, 1, sector * SECTOR_SIZE, sync), expect);
}

/* The byte that fills the sector; a torn one fails. */
static int sector_byte(struct sim_file *disk, uint64_t sector)
{
    uint8_t data[SECTOR_SIZE];
    sim_file_peek(disk, sector * SECTOR_SIZE, data, sizeof(data));
    for (unsigned i = 1; i < SECTOR_SIZE; i++) {
        CHECK_EQ(data[i], data[0]);
    }
    return data[0];
}

struct cut {
    enum sim_survivors survivors;
    unsigned survived;
};

/* Sectors 0-15 flushed as 'a', then 8-23 overwritten with 'b', of which sector 8 with sync. */
static int flush_and_cut(void *arg)
{
    struct cut *c = arg;
    struct lfile *f;
    struct sim_file *disk = sim_file_create("disk", &(struct sim_disk){.size = DISK_BYTES});
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, &f), 0);
    write_byte(f, 0, 16, 'a', false, 0);
    CHECK_EQ(lfile_sync(f), 0);
    write_byte(f, 8, 1, 'b', true, 0);
    write_byte(f, 9, 15, 'b', false, 0);
    sim_power_cut(NULL, c->survivors);

    c->survived = 0;
    for (uint64_t i = 0; i < SECTORS; i++) {
        int old = i < 16 ? 'a' : 0;
        int byte = sector_byte(disk, i);
        if (i >= 9 && i < 24 && byte == 'b') {
            c->survived++;
        } else {
            CHECK_EQ(byte, i == 8 ? 'b' : old);
        }
    }
    write_byte(f, 0, 1, 'x', false, -EIO); /* the handle is dead */
    CHECK_EQ(lfile_sync(f), -EIO);
    lfile_close(f);
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, &f), 0);
    write_byte(f, 0, 1, 'x', false, 0);
    lfile_close(f);
    CHECK_EQ(sector_byte(disk, 0), 'x');
    return 0;
}

static void what_was_flushed_is_there(void **state)
{
    struct cut none = {SIM_SURVIVE_NONE}, all = {SIM_SURVIVE_ALL};
    world_run(1, flush_and_cut, &none);
    assert_int_equal(none.survived, 0);
    world_run(1, flush_and_cut, &all);
    assert_int_equal(all.survived, 15);

    unsigned least = 15, most = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct cut c = {SIM_SURVIVE_RANDOM};
        world_run(seed, flush_and_cut, &c);
        least = MIN(least, c.survived);
        most = MAX(most, c.survived);
    }
    assert_true(least < 5);
    assert_true(most > 10);
}

/* ---- the size, and holes ---- */

static int size_and_cut(void *arg)
{
    struct lfile *f;
    struct sim_file *disk = sim_file_create("disk", &(struct sim_disk){.size = 4096});
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, &f), 0);
    write_byte(f, 0, 16, 'a', false, 0); /* grows it to 8 KiB */
    CHECK_EQ(lfile_sync(f), 0);
    CHECK_EQ(lfile_truncate(f, 512), 0);
    write_byte(f, 40, 1, 'b', false, 0); /* and again */
    CHECK_EQ(sector_byte(disk, 1), 0);
    sim_power_cut(disk, SIM_SURVIVE_NONE);
    CHECK_EQ(sim_file_size(disk), 8192);
    CHECK_EQ(sector_byte(disk, 1), 'a');
    CHECK_EQ(sector_byte(disk, 15), 'a');
    CHECK_EQ(sector_byte(disk, 40), 0);
    lfile_close(f);
    return 0;
}

static void the_size_is_volatile_too(void **state)
{
    world_run(1, size_and_cut, NULL);
}

/* ---- writes under way ---- */

struct late_write {
    struct lfile *file;
    int result;
};

static int late_write(void *arg)
{
    struct late_write *w = arg;
    static char data[16 * SECTOR_SIZE];
    memset(data, 'b', sizeof(data));
    struct iovec iov = {data, sizeof(data)};
    w->result = lfile_write(w->file, &iov, 1, 0, true);
    return 0;
}

static int cut_in_flight(void *arg)
{
    unsigned *survived = arg;
    struct late_write w = {0};
    struct co_task task;
    struct co_group g;
    struct sim_file *disk = sim_file_create("disk", &(struct sim_disk){.size = DISK_BYTES, .tear = true});
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, &w.file), 0);
    co_group_init(&g);
    co_group_start(&g, &task, late_write, &w);
    CHECK_EQ(sim_file_in_flight(disk), 1);
    sim_power_cut(NULL, SIM_SURVIVE_RANDOM);
    co_group_wait(&g);
    CHECK_EQ(w.result, -EIO);
    *survived = 0;
    for (uint64_t i = 0; i < SECTORS; i++) {
        int byte = sector_byte(disk, i);
        CHECK(byte == 0 || (byte == 'b' && i < 16));
        *survived += byte == 'b';
    }
    lfile_close(w.file);
    return 0;
}

static void a_write_under_way_may_land_in_part(void **state)
{
    unsigned least = 16, most = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        unsigned survived;
        world_run(seed, cut_in_flight, &survived);
        least = MIN(least, survived);
        most = MAX(most, survived);
    }
    assert_true(least < 5);
    assert_true(most > 11);
}

/* ---- through the drivers ---- */

/* Random writes and flushes until the power goes. The model knows for each sector the version of the
 * last flush and the newest; after the cut every version from the one to the other is legal. */
#define VERSIONS_MAX 255

struct model {
    const char *json;
    const char *disks[2];
    uint8_t durable[SECTORS], newest[SECTORS];
};

static co_fn void write_version(struct world *w, struct model *m, struct rng *rng)
{
    uint64_t first = rng_below(rng, SECTORS);
    uint64_t n = 1 + rng_below(rng, MIN(SECTORS - first, (uint64_t)16));
    unsigned flags = rng_below(rng, 4) == 0 ? REQ_FUA : 0;
    static uint8_t data[DISK_BYTES];
    for (uint64_t i = 0; i < n; i++) {
        m->newest[first + i]++;
        CHECK(m->newest[first + i] < VERSIONS_MAX);
        memset(data + i * SECTOR_SIZE, m->newest[first + i], SECTOR_SIZE);
    }
    CHECK_EQ(node_write(w->node, first * SECTOR_SIZE, data, n * SECTOR_SIZE, flags), 0);
    if (flags & REQ_FUA) {
        memcpy(m->durable + first, m->newest + first, n);
    }
}

static void check_survivors(struct sim_file *disk, const struct model *m)
{
    for (uint64_t i = 0; i < SECTORS; i++) {
        int byte = sector_byte(disk, i);
        CHECK(byte >= m->durable[i]);
        CHECK(byte <= m->newest[i]);
    }
}

static int node_until_power_cut(void *arg)
{
    struct model *m = arg;
    static struct world w;
    struct sim_file *disks[2] = {0};
    struct rng rng = {0};

    rng_init(&rng, world_seed);
    memset(m->durable, 0, sizeof(m->durable));
    memset(m->newest, 0, sizeof(m->newest));
    for (int i = 0; i < 2 && m->disks[i]; i++) {
        disks[i] = sim_file_create(m->disks[i], &(struct sim_disk){.size = DISK_BYTES, .tear = true});
    }
    world_init(&w);
    WORLD_OPEN(&w, "%s", m->json);
    uint64_t steps = 1 + rng_below(&rng, 100);
    for (uint64_t i = 0; i < steps; i++) {
        write_version(&w, m, &rng);
        if (rng_below(&rng, 8) == 0) {
            CHECK_EQ(node_flush(w.node), 0);
            memcpy(m->durable, m->newest, sizeof(m->durable));
        }
    }
    sim_power_cut(NULL, (enum sim_survivors)rng_below(&rng, 3));
    CHECK(node_flush(w.node) < 0);
    world_close(&w);
    for (int i = 0; i < 2 && disks[i]; i++) {
        CHECK_EQ(sim_file_handles(disks[i]), 0);
        check_survivors(disks[i], m);
    }
    return 0;
}

static void many_cuts(struct model *m)
{
    FOR_EACH_SEED (seed, 100) {
        world_run(seed, node_until_power_cut, m);
    }
}

static void a_file_keeps_what_was_flushed(void **state)
{
    many_cuts(&(struct model){.json = "{\"driver\":\"file\",\"filename\":\"disk\"}", .disks = {"disk"}});
}

static void raw_keeps_what_was_flushed(void **state)
{
    many_cuts(
        &(struct model){.json = "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}}",
                        .disks = {"disk"}});
}

static void verify_keeps_what_was_flushed_on_both_sides(void **state)
{
    many_cuts(&(struct model){.json = "{\"driver\":\"blkverify\","
                                      "\"raw\":{\"driver\":\"file\",\"filename\":\"reference\"},"
                                      "\"test\":{\"driver\":\"raw\",\"file\":"
                                      "{\"driver\":\"file\",\"filename\":\"disk\"}}}",
                              .disks = {"disk", "reference"}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_flushed_is_there),
        cmocka_unit_test(the_size_is_volatile_too),
        cmocka_unit_test(a_write_under_way_may_land_in_part),
        cmocka_unit_test(a_file_keeps_what_was_flushed),
        cmocka_unit_test(raw_keeps_what_was_flushed),
        cmocka_unit_test(verify_keeps_what_was_flushed_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
