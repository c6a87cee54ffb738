/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The threads engine, for where io_uring is forbidden: calls that block go to the worker pool, and
 * descriptors are waited for with poll(2). It is the fallback: simple before fast.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "loop/posix.h"

struct watcher { /* an fd_poll under way, in the frame of its coroutine */
    struct list link;
    struct co *co;
    struct timer timer;
    int fd;
    short events;
    int result;
};

struct threads {
    struct list watchers;
    unsigned watching;
    struct pollfd *pollfds;
    unsigned pollfds_max;
    int event_fd;
};

static int threads_create(struct loop *loop, struct err *err)
{
    struct threads *t = calloc(1, sizeof(*t));
    if (!t) {
        return err_set(err, -ENOMEM, "no memory for the threads engine");
    }
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->pollfds_max = 64;
    t->pollfds = calloc(t->pollfds_max, sizeof(*t->pollfds));
    if (t->event_fd < 0 || !t->pollfds) {
        int r = err_set_errno(err, t->event_fd < 0 ? -errno : -ENOMEM, "threads engine");
        if (t->event_fd >= 0) {
            close(t->event_fd);
        }
        free(t->pollfds);
        free(t);
        return r;
    }
    list_init(&t->watchers);
    loop->engine_state = t;
    return 0;
}

static void threads_destroy(struct loop *loop)
{
    struct threads *t = loop->engine_state;

    assert(list_empty(&t->watchers));
    close(t->event_fd);
    free(t->pollfds);
    free(t);
}

static void finish_watch(struct watcher *w, int result)
{
    w->result = result;
    list_del(&w->link);
    timer_disarm(&w->timer); /* it must not fire before the coroutine runs */
    co_wake(w->co);
}

static unsigned fill_pollfds(struct threads *t)
{
    struct watcher *w;
    unsigned n = 0;

    t->pollfds[n++] = (struct pollfd){.fd = t->event_fd, .events = POLLIN};
    list_for_each (w, &t->watchers, link) {
        t->pollfds[n++] = (struct pollfd){.fd = w->fd, .events = w->events};
    }
    return n;
}

static void threads_poll(struct loop *loop, bool wait, uint64_t deadline_ns)
{
    struct threads *t = loop->engine_state;
    unsigned n = fill_pollfds(t);
    struct timespec ts = {0}, *timeout = &ts;

    if (wait && deadline_ns == UINT64_MAX) {
        timeout = NULL;
    } else if (wait) {
        uint64_t now = posix_clock_ns(loop);
        uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
        ts = (struct timespec){(time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC)};
    }
    if (ppoll(t->pollfds, n, timeout, NULL) <= 0) {
        return;
    }
    if (t->pollfds[0].revents) {
        uint64_t value;
        ssize_t r = read(t->event_fd, &value, sizeof(value));
        (void)r;
    }
    struct watcher *w, *next;
    unsigned i = 1;
    list_for_each_safe (w, next, &t->watchers, link) {
        short revents = t->pollfds[i++].revents;
        if (revents) {
            finish_watch(w, revents);
        }
    }
}

static void threads_notify(struct loop *loop)
{
    struct threads *t = loop->engine_state;
    uint64_t one = 1;
    ssize_t n = write(t->event_fd, &one, sizeof(one));

    (void)n; /* a full counter means that it is readable already */
}

static void watch_timed_out(struct timer *timer)
{
    finish_watch(container_of(timer, struct watcher, timer), -ETIMEDOUT);
}

static int threads_poll_fd(int fd, short events, uint64_t deadline_ns)
{
    struct threads *t = loop_self()->engine_state;
    struct watcher w = {.co = co_self(), .timer.fire = watch_timed_out, .fd = fd, .events = events};

    if (t->watching + 2 > t->pollfds_max) {
        struct pollfd *more = realloc(t->pollfds, sizeof(*more) * 2 * t->pollfds_max);
        if (!more) {
            return -ENOMEM;
        }
        t->pollfds = more;
        t->pollfds_max *= 2;
    }
    int r = deadline_ns == UINT64_MAX ? 0 : timer_arm(&w.timer, deadline_ns);
    if (r < 0) {
        return r;
    }
    list_add_tail(&t->watchers, &w.link);
    t->watching++;
    co_suspend();
    t->watching--;
    return w.result;
}

static void threads_poll_cancel(int fd)
{
    struct threads *t = loop_self()->engine_state;
    struct watcher *w, *next;

    list_for_each_safe (w, next, &t->watchers, link) {
        if (w->fd == fd) {
            finish_watch(w, -ECANCELED);
        }
    }
}

static ssize_t threads_recv(int fd, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = sock_recv_now(fd, buf, len);
        if (n != -EAGAIN) {
            return n;
        }
        int r = fd_poll(fd, POLLIN, UINT64_MAX);
        if (r < 0) {
            return r;
        }
    }
}

/* ---- file calls, on a worker ---- */

struct call {
    int fd, mode, rwf, niov;
    bool write;
    const struct iovec *iov;
    uint64_t offset, bytes;
};

static int call_prw(void *arg)
{
    struct call *c = arg;

    /* A transfer is below 2 GiB (REQ_BYTES_MAX), so its count fits an int. */
    return (int)posix_prw_now(c->fd, c->write, c->iov, c->niov, c->offset, c->rwf);
}

static ssize_t threads_prw(int fd, bool write, const struct iovec *iov, int niov, uint64_t offset, int rwf)
{
    struct call c = {.fd = fd, .write = write, .iov = iov, .niov = niov, .offset = offset, .rwf = rwf};

    return loop_work(call_prw, &c);
}

static int call_fdatasync(void *arg)
{
    return fdatasync(((struct call *)arg)->fd) < 0 ? -errno : 0;
}

static int threads_fdatasync(int fd)
{
    struct call c = {.fd = fd};

    return loop_work(call_fdatasync, &c);
}

static int call_fallocate(void *arg)
{
    struct call *c = arg;
    int r;

    do {
        r = fallocate(c->fd, c->mode, (off_t)c->offset, (off_t)c->bytes);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int threads_fallocate(int fd, int mode, uint64_t offset, uint64_t n)
{
    struct call c = {.fd = fd, .mode = mode, .offset = offset, .bytes = n};

    return loop_work(call_fallocate, &c);
}

const struct engine engine_threads = {
    .name = "threads",
    .create = threads_create,
    .destroy = threads_destroy,
    .poll = threads_poll,
    .clock_ns = posix_clock_ns,
    .notify = threads_notify,
    .file = &posix_file_ops,
    .recv = threads_recv,
    .send = posix_send,
    .poll_fd = threads_poll_fd,
    .poll_cancel = threads_poll_cancel,
    .prw = threads_prw,
    .fdatasync = threads_fdatasync,
    .fallocate = threads_fallocate,
};
