/* SPDX-License-Identifier: BSD-2-Clause */
/* Coroutines, timers, groups, locks, worker calls and files, on both real engines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "loop/loop.h"

static const char *engine;

static int run(int (*fn)(void *), void *arg)
{
    struct loop *loop;
    struct err err = {0};

    if (loop_create(&(struct loop_config){.engine = engine, .seed = 1}, &loop, &err) < 0) {
        fail_msg("%s", err.text);
    }
    int r = loop_run(loop, fn, arg);
    assert_int_equal(co_alive(), 0);
    loop_destroy(loop);
    return r;
}

static char trace[64];

static void say(char c)
{
    size_t n = strlen(trace);
    trace[n] = c;
    trace[n + 1] = '\0';
}

static int child(void *arg)
{
    say('b');
    co_sleep_ns(*(uint64_t *)arg);
    say('d');
    return 7;
}

static int group_main(void *arg)
{
    struct co_group g;
    struct co_task t;
    uint64_t ns = 1000000;

    (void)arg;
    co_group_init(&g);
    say('a');
    co_group_start(&g, &t, child, &ns);
    say('c');
    co_group_wait(&g);
    say('e');
    return t.result;
}

static void group_runs_beside_its_waiter(void **state)
{
    trace[0] = '\0';
    assert_int_equal(run(group_main, NULL), 7);
    assert_string_equal(trace, "abcde");
}

static int sleeper(void *arg)
{
    co_sleep_ns((uint64_t)(uintptr_t)arg * 2000000);
    say((char)('0' + (int)(uintptr_t)arg));
    return 0;
}

static int timers_main(void *arg)
{
    struct co_group g;
    struct co_task t[9];
    static const int order[] = {5, 1, 9, 3, 7, 2, 8, 4, 6};

    co_group_init(&g);
    for (int i = 0; i < 9; i++) {
        co_group_start(&g, &t[i], sleeper, (void *)(uintptr_t)order[i]);
    }
    co_group_wait(&g);
    return 0;
}

static void timers_fire_in_order(void **state)
{
    trace[0] = '\0';
    run(timers_main, NULL);
    assert_string_equal(trace, "123456789");
}

static struct co_mutex mutex;

static int locker(void *arg)
{
    co_mutex_lock(&mutex);
    say(*(char *)arg);
    co_yield ();
    say(*(char *)arg);
    co_mutex_unlock(&mutex);
    return 0;
}

static int mutex_main(void *arg)
{
    static char names[] = "xyz";
    struct co_group g;
    struct co_task t[3];

    co_mutex_init(&mutex);
    co_group_init(&g);
    for (int i = 0; i < 3; i++) {
        co_group_start(&g, &t[i], locker, &names[i]);
    }
    co_group_wait(&g);
    return 0;
}

static void mutex_is_fair_and_exclusive(void **state)
{
    trace[0] = '\0';
    run(mutex_main, NULL);
    assert_string_equal(trace, "xxyyzz");
}

static int blocking(void *arg)
{
    usleep(1000);
    return *(int *)arg + 1;
}

static int work_main(void *arg)
{
    int n = 41;
    return loop_work(blocking, &n);
}

static void work_returns_its_result(void **state)
{
    assert_int_equal(run(work_main, NULL), 42);
}

static int file_main(void *arg)
{
    struct lfile *f;
    char in[300], out[300];
    struct iovec iov[2] = {{in, 100}, {in + 100, 200}};
    struct iovec back[1] = {{out, 300}};
    uint64_t size;

    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (char)(i * 7);
    }
    assert_int_equal(lfile_open(arg, O_RDWR | O_CREAT | O_TRUNC, 0600, &f), 0);
    assert_int_equal(lfile_write(f, iov, 2, 1000, true), 0);
    assert_int_equal(lfile_size(f, &size), 0);
    assert_int_equal(size, 1300);
    assert_int_equal(lfile_read(f, back, 1, 1000, 0), 0);
    assert_memory_equal(in, out, 300);
    assert_int_equal(lfile_read(f, back, 1, 1200, 0), 0); /* 100 bytes, then the end */
    assert_memory_equal(in + 200, out, 100);
    for (int i = 100; i < 300; i++) {
        assert_int_equal(out[i], 0);
    }
    assert_int_equal(lfile_sync(f), 0);
    assert_int_equal(lfile_truncate(f, 5000), 0);
    assert_int_equal(lfile_size(f, &size), 0);
    assert_int_equal(size, 5000);
    char *large = buf_get(MiB), *copy = buf_get(MiB);
    memset(large, 0x5a, MiB);
    assert_int_equal(lfile_write(f, &(struct iovec){large, MiB}, 1, 4096, false), 0);
    assert_int_equal(lfile_read(f, &(struct iovec){copy, MiB}, 1, 4096, 0), 0);
    assert_memory_equal(large, copy, MiB);
    buf_put(large, MiB);
    buf_put(copy, MiB);
    lfile_close(f);
    return 0;
}

static void files_read_what_was_written(void **state)
{
    char path[] = "/tmp/blkproof-loop-XXXXXX", shm[] = "/dev/shm/blkproof-loop-XXXXXX";
    int fd = mkstemp(path), fd2 = mkstemp(shm);

    close(fd);
    run(file_main, path);
    unlink(path);
    if (fd2 >= 0) {
        close(fd2);
        run(file_main, shm);
        unlink(shm);
    }
}

#define BULK_WRITERS 24
#define BULK_ROUNDS  40

struct bulk {
    struct lfile *f;
    unsigned index;
};

/* Pieces of many sizes, interleaved with those of the others, each with its own pattern. */
static uint64_t bulk_bytes(unsigned piece)
{
    static const uint64_t sizes[] = {512, 4096, 60 * KiB, 64 * KiB, 200 * KiB};
    return sizes[piece % 5];
}

#define BULK_STRIDE (256 * KiB)

static int bulk_writer(void *arg)
{
    struct bulk *b = arg;
    char *buf = buf_get(BULK_STRIDE);
    int r = 0;

    for (unsigned i = b->index; r == 0 && i < BULK_ROUNDS * BULK_WRITERS; i += BULK_WRITERS) {
        memset(buf, (int)(i % 251 + 1), bulk_bytes(i));
        struct iovec iov = {buf, bulk_bytes(i)};
        unsigned flags = i % 7 ? LFILE_BULK : i % 3 ? 0 : LFILE_SYNC;
        r = lfile_write(b->f, &iov, 1, i * BULK_STRIDE, flags);
    }
    buf_put(buf, BULK_STRIDE);
    return r;
}

static int bulk_reader(void *arg)
{
    struct bulk *b = arg;
    char *buf = buf_get(BULK_STRIDE);
    int r = 0;

    for (unsigned i = b->index; r == 0 && i < BULK_ROUNDS * BULK_WRITERS; i += BULK_WRITERS) {
        uint64_t bytes = bulk_bytes(i);
        r = lfile_read(b->f, &(struct iovec){buf, BULK_STRIDE}, 1, i * BULK_STRIDE, LFILE_BULK);
        for (uint64_t k = 0; r == 0 && k < BULK_STRIDE; k++) {
            assert_int_equal((unsigned char)buf[k], k < bytes ? i % 251 + 1 : 0);
        }
    }
    buf_put(buf, BULK_STRIDE);
    return r;
}

static void bulk_all(struct lfile *f, int (*fn)(void *), int expect)
{
    struct co_group g;
    struct co_task tasks[BULK_WRITERS];
    struct bulk b[BULK_WRITERS];

    co_group_init(&g);
    for (unsigned i = 0; i < BULK_WRITERS; i++) {
        b[i] = (struct bulk){f, i};
        co_group_start(&g, &tasks[i], fn, &b[i]);
    }
    co_group_wait(&g);
    for (unsigned i = 0; i < BULK_WRITERS; i++) {
        assert_int_equal(tasks[i].result, expect);
    }
}

static int bulk_main(void *arg)
{
    struct lfile *f;

    assert_int_equal(lfile_open(arg, O_RDWR | O_TRUNC, 0, &f), 0);
    bulk_all(f, bulk_writer, 0);
    bulk_all(f, bulk_reader, 0);
    lfile_close(f);
    assert_int_equal(lfile_open(arg, O_RDONLY, 0, &f), 0);
    bulk_all(f, bulk_writer, -EBADF);
    lfile_close(f);
    return 0;
}

static void bulk_transfers_reach_their_places(void **state)
{
    static const char *const where[] = {"/tmp/blkproof-loop-XXXXXX", "/dev/shm/blkproof-loop-XXXXXX"};

    for (int i = 0; i < 2; i++) {
        char path[64];
        strcpy(path, where[i]);
        int fd = mkstemp(path);
        if (fd >= 0) {
            close(fd);
            run(bulk_main, path);
            unlink(path);
        }
    }
}

static int receiver(void *arg)
{
    char buf[8];
    ssize_t n = sock_recv(*(int *)arg, buf, sizeof(buf));

    return n == 5 && memcmp(buf, "hello", 5) == 0 ? (int)sock_recv(*(int *)arg, buf, 8) : -1;
}

static int socket_main(void *arg)
{
    int fd[2];
    struct co_group g;
    struct co_task t;
    struct iovec iov[2] = {{(void *)"hel", 3}, {(void *)"lo", 2}};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    co_group_init(&g);
    co_group_start(&g, &t, receiver, &fd[0]);
    assert_int_equal(fd_poll(fd[1], POLLIN, loop_now_ns() + 1000000), -ETIMEDOUT);
    assert_int_equal(sock_send_all(fd[1], iov, 2), 0);
    co_yield ();
    shutdown(fd[0], SHUT_RDWR);
    co_group_wait(&g);
    assert_int_equal(t.result, 0); /* the end of the stream */
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void sockets_time_out_and_end(void **state)
{
    run(socket_main, NULL);
}

static int waiter(void *arg)
{
    return fd_poll(*(int *)arg, POLLIN, UINT64_MAX);
}

static int cancel_main(void *arg)
{
    int fd[2];
    struct co_group g;
    struct co_task t;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    co_group_init(&g);
    co_group_start(&g, &t, waiter, &fd[0]);
    fd_poll_cancel(fd[0]);
    co_group_wait(&g);
    assert_int_equal(t.result, -ECANCELED);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void polls_can_be_cancelled(void **state)
{
    run(cancel_main, NULL);
}

static void unknown_engine_is_refused(void **state)
{
    struct loop *loop;
    struct err err = {0};

    assert_int_equal(loop_create(&(struct loop_config){.engine = "steam"}, &loop, &err), -EINVAL);
    assert_string_equal(err.text, "there is no engine 'steam': expected uring, threads or sim");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_runs_beside_its_waiter),      cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(mutex_is_fair_and_exclusive),       cmocka_unit_test(work_returns_its_result),
        cmocka_unit_test(files_read_what_was_written),       cmocka_unit_test(sockets_time_out_and_end),
        cmocka_unit_test(bulk_transfers_reach_their_places), cmocka_unit_test(polls_can_be_cancelled),
        cmocka_unit_test(unknown_engine_is_refused),
    };

    engine = "uring";
    int failed = cmocka_run_group_tests_name("uring", tests, NULL, NULL);
    engine = "threads";
    return failed + cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
