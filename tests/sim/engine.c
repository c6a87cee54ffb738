/* SPDX-License-Identifier: BSD-2-Clause */
/* The sim engine itself: virtual time, the order of things, faults, sparse files, and that a seed
 * says it all. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/wait.h>

#include "world.h"

/* ---- time ---- */

static int sleep_a_year(void *arg)
{
    uint64_t year_ns = 365 * 86400 * NS_PER_SEC;
    uint64_t before = loop_now_ns();
    co_sleep_ns(year_ns);
    CHECK(loop_now_ns() - before >= year_ns);
    CHECK(loop_now_ns() - before < year_ns + NS_PER_MS);
    return 0;
}

static void sleeping_takes_no_time(void **state)
{
    world_run(1, sleep_a_year, NULL);
}

static int wait_for_ever(void *arg)
{
    struct co_queue q;
    co_queue_init(&q);
    co_queue_wait(&q);
    return 0;
}

static void a_deadlock_aborts(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        fclose(stderr);
        sim_run(1, wait_for_ever, NULL, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* ---- order and traces ---- */

#define WRITERS 4

struct order {
    struct lfile *file;
    char done[WRITERS + 1];
    int ndone;
};
struct writer {
    struct order *order;
    int index;
};

static int write_one(void *arg)
{
    struct writer *w = arg;
    char byte = (char)('a' + w->index);
    struct iovec iov = {&byte, 1};
    CHECK_EQ(lfile_write(w->order->file, &iov, 1, (uint64_t)w->index, false), 0);
    w->order->done[w->order->ndone++] = byte;
    return 0;
}

static int four_writers(void *arg)
{
    struct order *o = arg;
    struct writer writers[WRITERS];
    struct co_task tasks[WRITERS];
    struct co_group g;

    *o = (struct order){0};
    CHECK(sim_file_create("disk", &(struct sim_disk){.size = 512}) != NULL);
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, &o->file), 0);
    co_group_init(&g);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){o, i};
        co_group_start(&g, &tasks[i], write_one, &writers[i]);
    }
    co_group_wait(&g);
    lfile_close(o->file);
    return 0;
}

static void a_seed_says_it_all(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct order first, second;
        uint64_t trace = world_run(seed, four_writers, &first);
        assert_true(trace == world_run(seed, four_writers, &second));
        assert_string_equal(first.done, second.done);
        assert_true(trace != world_run(seed + 1000, four_writers, &second));
    }
}

/* Four writers can end in 24 orders; 400 seeds must show every one of them. */
static void every_order_of_completion_comes(void **state)
{
    char seen[24][WRITERS + 1];
    int nseen = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct order o;
        int i;
        world_run(seed, four_writers, &o);
        for (i = 0; i < nseen && strcmp(seen[i], o.done) != 0; i++) {
        }
        if (i == nseen) {
            assert_true(nseen < 24);
            strcpy(seen[nseen++], o.done);
        }
    }
    assert_int_equal(nseen, 24);
}

/* ---- faults ---- */

static int write_at(struct lfile *f, uint64_t offset, size_t len)
{
    static char data[64 * KiB];
    memset(data, 'x', sizeof(data));
    struct iovec iov = {data, len};
    return lfile_write(f, &iov, 1, offset, false);
}

static int read_at(struct lfile *f, uint64_t offset)
{
    char byte;
    struct iovec iov = {&byte, 1};
    int ret = lfile_read(f, &iov, 1, offset, 0);
    return ret < 0 ? ret : (unsigned char)byte;
}

static struct sim_file *make_disk(struct lfile **ret_file)
{
    struct sim_file *disk = sim_file_create("disk", &(struct sim_disk){.size = 1 * MiB});
    CHECK(disk != NULL);
    CHECK_EQ(lfile_open("disk", O_RDWR, 0, ret_file), 0);
    return disk;
}

static int faults(void *arg)
{
    struct lfile *f;
    struct sim_file *disk = make_disk(&f);

    struct sim_fault second_write = {.op = SIM_WRITE, .nth = 2, .error = -ENOSPC};
    sim_set_faults(disk, &second_write, 1);
    CHECK_EQ(write_at(f, 0, 512), 0);
    CHECK_EQ(read_at(f, 0), 'x');
    CHECK_EQ(write_at(f, 512, 512), -ENOSPC);
    CHECK_EQ(write_at(f, 1024, 512), 0);
    CHECK_EQ(read_at(f, 512), 0);

    struct sim_fault dead_from_third = {.op = SIM_ANY, .nth = 3, .sticky = true, .error = -EIO};
    sim_set_faults(disk, &dead_from_third, 1);
    CHECK_EQ(write_at(f, 0, 512), 0);
    CHECK_EQ(lfile_sync(f), 0);
    CHECK_EQ(read_at(f, 0), -EIO);
    CHECK_EQ(write_at(f, 0, 512), -EIO);

    struct sim_fault bad_sector = {
        .op = SIM_READ, .nth = 1, .sticky = true, .error = -EIO, .offset = 4096, .bytes = 512};
    sim_set_faults(disk, &bad_sector, 1);
    CHECK_EQ(read_at(f, 4095), 0);
    CHECK_EQ(read_at(f, 4096), -EIO);
    CHECK_EQ(read_at(f, 4607), -EIO);
    CHECK_EQ(read_at(f, 4608), 0);

    struct sim_fault everything = {.op = SIM_ANY, .nth = 1, .error = -ENODEV};
    sim_set_faults(disk, NULL, 0);
    sim_set_faults(NULL, &everything, 1);
    uint64_t size;
    CHECK_EQ(lfile_size(f, &size), -ENODEV);
    CHECK_EQ(lfile_size(f, &size), 0);
    lfile_close(f);
    return 0;
}

static void faults_strike_where_they_should(void **state)
{
    world_run(1, faults, NULL);
}

/* A failing write of 16 sectors lands 0 to 16 of them, from the front. */
static int partial(void *arg)
{
    bool *landed = arg;
    struct lfile *f;
    struct sim_file *disk = make_disk(&f);
    struct sim_fault fault = {.op = SIM_WRITE, .nth = 1, .error = -EIO, .partial = true};
    sim_set_faults(disk, &fault, 1);
    CHECK_EQ(write_at(f, 0, 16 * SECTOR_SIZE), -EIO);

    char data[16 * SECTOR_SIZE];
    sim_file_peek(disk, 0, data, sizeof(data));
    unsigned n = 0;
    while (n < 16 && data[n * SECTOR_SIZE] == 'x') {
        n++;
    }
    CHECK(buffer_is_zero(data + n * SECTOR_SIZE, (16 - n) * SECTOR_SIZE));
    landed[n] = true;
    lfile_close(f);
    return 0;
}

static void a_failed_write_lands_in_part(void **state)
{
    bool landed[17] = {false};
    for (uint64_t seed = 0; seed < 300; seed++) {
        world_run(seed, partial, landed);
    }
    for (int i = 0; i <= 16; i++) {
        assert_true(landed[i]);
    }
}

static int late(void *arg)
{
    struct lfile *f;
    struct sim_file *disk = make_disk(&f);
    struct sim_fault slow = {.op = SIM_READ, .nth = 1, .delay_ns = 3600 * NS_PER_SEC};
    sim_set_faults(disk, &slow, 1);
    uint64_t before = loop_now_ns();
    CHECK_EQ(read_at(f, 0), 0);
    CHECK(loop_now_ns() - before >= 3600 * NS_PER_SEC);
    lfile_close(f);
    return 0;
}

static void a_fault_may_be_only_late(void **state)
{
    world_run(1, late, NULL);
}

/* ---- files ---- */

static int open_flags(void *arg)
{
    struct lfile *f;
    uint64_t size;
    CHECK_EQ(lfile_open("new", O_RDWR, 0, &f), -ENOENT);
    CHECK_EQ(lfile_open("new", O_RDWR | O_CREAT | O_EXCL, 0600, &f), 0);
    CHECK_EQ(write_at(f, 100, 7), 0);
    lfile_close(f);
    CHECK_EQ(lfile_open("new", O_RDWR | O_CREAT | O_EXCL, 0600, &f), -EEXIST);
    CHECK_EQ(lfile_open("new", O_RDONLY, 0, &f), 0);
    CHECK_EQ(lfile_size(f, &size), 0);
    CHECK_EQ(size, 107);
    CHECK_EQ(read_at(f, 100), 'x');
    CHECK_EQ(read_at(f, 99), 0);
    CHECK_EQ(read_at(f, 5000), 0);
    CHECK(write_at(f, 0, 1) < 0);
    lfile_close(f);
    CHECK_EQ(lfile_open("new", O_RDWR | O_TRUNC, 0, &f), 0);
    CHECK_EQ(lfile_size(f, &size), 0);
    CHECK_EQ(size, 0);
    lfile_close(f);
    CHECK_EQ(sim_file_handles(sim_file_find("new")), 0);
    return 0;
}

static void open_takes_the_flags_of_open(void **state)
{
    world_run(1, open_flags, NULL);
}

static void check_extent(struct lfile *f, uint64_t offset, uint64_t bytes, bool hole)
{
    struct lfile_extent e;
    CHECK_EQ(lfile_extent(f, offset, 0, &e), 0);
    CHECK_EQ(e.bytes, bytes);
    CHECK_EQ(e.hole, hole);
}

#define PiB (UINT64_C(1) << 50)

static int sparse(void *arg)
{
    struct lfile *f;
    uint64_t allocated;
    CHECK(sim_file_create("big", &(struct sim_disk){.size = 2 * PiB}) != NULL);
    CHECK_EQ(lfile_open("big", O_RDWR, 0, &f), 0);
    check_extent(f, 0, 2 * PiB, true);
    CHECK_EQ(write_at(f, PiB, 64 * KiB), 0);
    CHECK_EQ(write_at(f, 8192, 4096), 0);
    check_extent(f, 0, 8192, true);
    check_extent(f, 8192, 4096, false);
    check_extent(f, 12288, PiB - 12288, true);
    check_extent(f, PiB, 64 * KiB, false);
    check_extent(f, PiB + 64 * KiB, PiB - 64 * KiB, true);
    CHECK_EQ(lfile_allocated(f, &allocated), 0);
    CHECK_EQ(allocated, 17 * 4096);

    CHECK_EQ(lfile_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, PiB), 0);
    check_extent(f, 0, PiB + 8192, true);
    CHECK_EQ(read_at(f, PiB), 0);
    CHECK_EQ(read_at(f, PiB + 8192), 'x');
    CHECK_EQ(lfile_sync(f), 0);
    check_extent(f, 0, PiB + 8192, true);
    CHECK_EQ(lfile_fallocate(f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 100, 8000), 0);
    check_extent(f, 0, 8192, false);
    CHECK_EQ(lfile_truncate(f, PiB), 0);
    check_extent(f, 8192, PiB - 8192, true);
    CHECK_EQ(lfile_truncate(f, 2 * PiB), 0);
    CHECK_EQ(read_at(f, PiB + 8192), 0);
    lfile_close(f);
    return 0;
}

static void files_are_sparse(void **state)
{
    world_run(1, sparse, NULL);
}

static int direct(void *arg)
{
    struct lfile *f;
    char data[8192] __attribute__((aligned(4096)));
    struct iovec good = {data, 4096}, odd = {data + 1, 4096}, brief = {data, 512};
    struct sim_disk disk = {.size = 1 * MiB, .align = 4096, .block_device = true};
    CHECK(sim_file_create("disk", &disk) != NULL);
    CHECK_EQ(lfile_open("disk", O_RDWR | O_DIRECT, 0, &f), 0);
    CHECK_EQ(lfile_align(f), 4096);
    CHECK_EQ(lfile_caps(f), LFILE_DIRECT | LFILE_BLOCK);
    CHECK_EQ(lfile_read(f, &good, 1, 4096, 0), 0);
    CHECK_EQ(lfile_read(f, &good, 1, 512, 0), -EINVAL);
    CHECK_EQ(lfile_read(f, &odd, 1, 0, 0), -EINVAL);
    CHECK_EQ(lfile_read(f, &brief, 1, 0, 0), -EINVAL);
    CHECK_EQ(lfile_write(f, &good, 1, 1 * MiB, false), -ENOSPC);
    CHECK(lfile_truncate(f, 0) < 0);
    lfile_close(f);
    return 0;
}

static void a_direct_handle_wants_alignment(void **state)
{
    world_run(1, direct, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleeping_takes_no_time),
        cmocka_unit_test(a_deadlock_aborts),
        cmocka_unit_test(a_seed_says_it_all),
        cmocka_unit_test(every_order_of_completion_comes),
        cmocka_unit_test(faults_strike_where_they_should),
        cmocka_unit_test(a_failed_write_lands_in_part),
        cmocka_unit_test(a_fault_may_be_only_late),
        cmocka_unit_test(open_takes_the_flags_of_open),
        cmocka_unit_test(files_are_sparse),
        cmocka_unit_test(a_direct_handle_wants_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
