/* SPDX-License-Identifier: BSD-2-Clause */
/* The simulated network: bytes arrive in order and whole, in pieces that the seed chooses; ends and
 * breaks of a connection are seen by who waits. */
#include <poll.h>

#include "world.h"

#define STREAM_BYTES (300 * KiB) /* more than the kernel buffers: the sender has to wait too */

struct stream {
    int fd[2];
    uint64_t seed;
    unsigned receives, largest;
};

static int sender(void *arg)
{
    struct stream *s = arg;
    static uint8_t data[STREAM_BYTES];
    struct rng rng;
    rng_init(&rng, s->seed);
    rng_fill(&rng, data, sizeof(data));
    struct iovec iov[3] = {{data, 10}, {data + 10, 0}, {data + 10, STREAM_BYTES - 10}};
    CHECK_EQ(sock_send_all(s->fd[0], iov, 3), 0);
    close(s->fd[0]);
    return 0;
}

static int stream(void *arg)
{
    struct stream *s = arg;
    static uint8_t expect[STREAM_BYTES], got[STREAM_BYTES];
    struct co_task task;
    struct co_group g;
    struct rng rng;

    CHECK_EQ(sim_pair(&(struct sim_net){.chunk_max = 5000}, s->fd), 0);
    s->seed = world_seed;
    s->receives = s->largest = 0;
    rng_init(&rng, s->seed);
    rng_fill(&rng, expect, sizeof(expect));
    co_group_init(&g);
    co_group_start(&g, &task, sender, s);
    size_t done = 0;
    ssize_t n;
    while ((n = sock_recv(s->fd[1], got + done, STREAM_BYTES - done)) > 0) {
        done += (size_t)n;
        s->receives++;
        s->largest = MAX(s->largest, (unsigned)n);
        if (done == STREAM_BYTES) {
            break;
        }
    }
    CHECK_EQ(done, STREAM_BYTES);
    CHECK(memcmp(got, expect, STREAM_BYTES) == 0);
    co_group_wait(&g);
    CHECK_EQ(sock_recv(s->fd[1], got, 1), 0);
    close(s->fd[1]);
    return 0;
}

static void a_stream_arrives_whole_and_in_pieces(void **state)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct stream s;
        uint64_t trace = world_run(seed, stream, &s);
        assert_true(s.largest <= 5000);
        assert_true(s.receives > STREAM_BYTES / 5000);
        assert_true(trace == world_run(seed, stream, &s));
    }
}

struct waiter {
    int fd;
    int result;
};

static int wait_recv(void *arg)
{
    struct waiter *w = arg;
    char byte;
    w->result = (int)sock_recv(w->fd, &byte, 1);
    return 0;
}

static int wait_poll(void *arg)
{
    struct waiter *w = arg;
    w->result = fd_poll(w->fd, POLLIN, UINT64_MAX);
    return 0;
}

static int breaking(void *arg)
{
    int fd[2];
    struct co_task tasks[2];
    struct co_group g;
    CHECK_EQ(sim_pair(&(struct sim_net){0}, fd), 0);
    struct waiter near = {.fd = fd[0]}, far = {.fd = fd[1]};
    co_group_init(&g);
    co_group_start(&g, &tasks[0], wait_recv, &near);
    co_group_start(&g, &tasks[1], wait_recv, &far);
    co_sleep_ns(NS_PER_SEC);
    sim_net_break(fd[0]);
    co_group_wait(&g);
    CHECK_EQ(near.result, -ECONNRESET);
    CHECK_EQ(far.result, -ECONNRESET);
    struct iovec iov = {(char *)"x", 1};
    CHECK_EQ(sock_send_all(fd[1], &iov, 1), -EPIPE);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void a_broken_connection_is_seen_at_both_ends(void **state)
{
    world_run(1, breaking, NULL);
}

static int polling(void *arg)
{
    int fd[2];
    struct co_task task;
    struct co_group g;
    CHECK_EQ(sim_pair(&(struct sim_net){0}, fd), 0);
    uint64_t start = loop_clock_ns();
    CHECK_EQ(fd_poll(fd[0], POLLIN, start + NS_PER_SEC), -ETIMEDOUT);
    CHECK(loop_clock_ns() - start >= NS_PER_SEC);
    CHECK_EQ(fd_poll(fd[0], POLLOUT, UINT64_MAX), POLLOUT);

    struct waiter w = {.fd = fd[0]};
    co_group_init(&g);
    co_group_start(&g, &task, wait_poll, &w);
    fd_poll_cancel(fd[0]);
    co_group_wait(&g);
    CHECK_EQ(w.result, -ECANCELED);

    struct iovec iov = {(char *)"x", 1};
    CHECK_EQ(sock_send_all(fd[1], &iov, 1), 0);
    CHECK_EQ(fd_poll(fd[0], POLLIN, start), POLLIN);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void polls_time_out_and_are_cancelled(void **state)
{
    world_run(1, polling, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_arrives_whole_and_in_pieces),
        cmocka_unit_test(a_broken_connection_is_seen_at_both_ends),
        cmocka_unit_test(polls_time_out_and_are_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
