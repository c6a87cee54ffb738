/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The uring engine: what the loop's coroutines wait for goes down in one io_uring_enter per turn,
 * which also does the sleeping. An operation lives on the stack of the coroutine that waits for it.
 */
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/iov.h"
#include "loop/posix.h"

#define ENTRIES    256  /* submissions per system call; more only means one call more */
#define CQ_ENTRIES 4096 /* completions that may lie unread; the kernel keeps an overflow beyond */

struct op {
    struct co *co;
    int res;
};

struct polling { /* an fd_poll under way */
    struct op op;
    struct list link;
    struct timer timer;
    int fd;
    bool timed_out;
};

struct uring {
    struct io_uring ring;
    struct list polls;
    int event_fd;
    bool event_armed;
    uint64_t event_value;
    struct op event_op;
};

static struct uring *self_uring(void)
{
    return loop_self()->engine_state;
}

static struct io_uring_sqe *get_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&u->ring))) {
        io_uring_submit(&u->ring); /* the queue is full: hand it over now */
    }
    return sqe;
}

static int wait_op(struct io_uring_sqe *sqe, struct op *op)
{
    op->co = co_self();
    io_uring_sqe_set_data(sqe, op);
    co_suspend();
    return op->res;
}

static void arm_event(struct uring *u)
{
    struct io_uring_sqe *sqe = get_sqe(u);

    io_uring_prep_read(sqe, u->event_fd, &u->event_value, sizeof(u->event_value), 0);
    io_uring_sqe_set_data(sqe, &u->event_op);
    u->event_armed = true;
}

static int init_ring(struct io_uring *ring)
{
    static const unsigned attempts[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int r = -EINVAL;

    for (size_t i = 0; i < ARRAY_SIZE(attempts) && r == -EINVAL; i++) {
        struct io_uring_params p = {
            .flags = attempts[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = CQ_ENTRIES,
        };
        r = io_uring_queue_init_params(ENTRIES, ring, &p);
    }
    return r;
}

static int uring_create(struct loop *loop, struct err *err)
{
    struct uring *u = calloc(1, sizeof(*u));
    if (!u) {
        return err_set(err, -ENOMEM, "no memory for io_uring");
    }
    int r = init_ring(&u->ring);
    if (r < 0) {
        free(u);
        return err_set_errno(err, r, "io_uring is not available");
    }
    if (!(u->ring.features & IORING_FEAT_EXT_ARG) || !(u->ring.features & IORING_FEAT_NODROP)) {
        r = err_set(err, -ENOSYS, "io_uring is not available: this kernel's is too old");
    } else if ((u->event_fd = eventfd(0, EFD_CLOEXEC)) < 0) {
        r = err_set_errno(err, -errno, "eventfd");
    }
    if (r < 0) {
        io_uring_queue_exit(&u->ring);
        free(u);
        return r;
    }
    io_uring_ring_dontfork(&u->ring);
    list_init(&u->polls);
    loop->engine_state = u;
    arm_event(u);
    return 0;
}

static void uring_destroy(struct loop *loop)
{
    struct uring *u = loop->engine_state;

    assert(list_empty(&u->polls));
    io_uring_queue_exit(&u->ring); /* waits for the read of event_fd to be dropped */
    close(u->event_fd);
    free(u);
}

static void reap(struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;

    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        struct op *op = io_uring_cqe_get_data(cqe);
        seen++;
        if (!op) {
            continue; /* a cancellation: what it cancelled reports for itself */
        }
        if (op == &u->event_op) {
            u->event_armed = false;
            continue;
        }
        op->res = cqe->res;
        co_wake(op->co);
    }
    io_uring_cq_advance(&u->ring, seen);
}

static void uring_poll(struct loop *loop, bool wait, uint64_t deadline_ns)
{
    struct uring *u = loop->engine_state;

    if (!u->event_armed) {
        arm_event(u);
    }
    if (!wait) {
        if (io_uring_sq_ready(&u->ring) > 0) {
            io_uring_submit_and_get_events(&u->ring);
        } else if (*u->ring.sq.kflags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
            io_uring_get_events(&u->ring);
        }
    } else if (deadline_ns == UINT64_MAX) {
        io_uring_submit_and_wait(&u->ring, 1);
    } else {
        uint64_t now = posix_clock_ns(loop);
        uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
        struct __kernel_timespec ts = {.tv_sec = (int64_t)(ns / NS_PER_SEC),
                                       .tv_nsec = (long long)(ns % NS_PER_SEC)};
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
    }
    reap(u);
}

static void uring_notify(struct loop *loop)
{
    struct uring *u = loop->engine_state;
    uint64_t one = 1;
    ssize_t n = write(u->event_fd, &one, sizeof(one));

    (void)n; /* a full counter means that it is readable already */
}

static ssize_t uring_recv(int fd, void *buf, size_t len)
{
    struct op op;
    struct io_uring_sqe *sqe;
    int r;

    do {
        sqe = get_sqe(self_uring());
        io_uring_prep_recv(sqe, fd, buf, len, 0);
        r = wait_op(sqe, &op);
    } while (r == -EINTR);
    return r;
}

static void cancel_polling(struct uring *u, struct polling *p)
{
    struct io_uring_sqe *sqe = get_sqe(u);

    io_uring_prep_cancel(sqe, &p->op, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

static void polling_timed_out(struct timer *t)
{
    struct polling *p = container_of(t, struct polling, timer);

    p->timed_out = true;
    cancel_polling(self_uring(), p);
}

static int uring_poll_fd(int fd, short events, uint64_t deadline_ns)
{
    struct uring *u = self_uring();
    struct polling p = {.fd = fd, .timer.fire = polling_timed_out};
    struct io_uring_sqe *sqe;
    int r;

    if (deadline_ns != UINT64_MAX && (r = timer_arm(&p.timer, deadline_ns)) < 0) {
        return r;
    }
    list_add_tail(&u->polls, &p.link);
    sqe = get_sqe(u);
    io_uring_prep_poll_add(sqe, fd, (unsigned)events);
    r = wait_op(sqe, &p.op);
    list_del(&p.link);
    timer_disarm(&p.timer);
    return r == -ECANCELED && p.timed_out ? -ETIMEDOUT : r;
}

static void uring_poll_cancel(int fd)
{
    struct uring *u = self_uring();
    struct polling *p;

    list_for_each (p, &u->polls, link) {
        if (p->fd == fd) {
            p->timed_out = false;
            cancel_polling(u, p);
        }
    }
}

static ssize_t uring_prw(int fd, bool write, const struct iovec *iov, int niov, uint64_t offset, int rwf)
{
    struct op op;
    int r;

    do {
        struct io_uring_sqe *sqe = get_sqe(self_uring());
        if (write) {
            io_uring_prep_writev2(sqe, fd, iov, (unsigned)niov, offset, rwf);
        } else {
            io_uring_prep_readv2(sqe, fd, iov, (unsigned)niov, offset, rwf);
        }
        op.co = co_self();
        io_uring_sqe_set_data(sqe, &op);
        if (iov_size(iov, niov) >= LARGE_IO_BYTES) {
            sqe->flags |= IOSQE_ASYNC; /* a worker copies, beside the loop: from now on */
            io_uring_submit(&self_uring()->ring);
        }
        co_suspend();
        r = op.res;
    } while (r == -EINTR || r == -EAGAIN);
    return r;
}

static int uring_fdatasync(int fd)
{
    struct op op;
    int r;

    do {
        struct io_uring_sqe *sqe = get_sqe(self_uring());
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        r = wait_op(sqe, &op);
    } while (r == -EINTR);
    return r;
}

static int uring_fallocate(int fd, int mode, uint64_t offset, uint64_t n)
{
    struct op op;
    int r;

    do {
        struct io_uring_sqe *sqe = get_sqe(self_uring());
        io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)n);
        r = wait_op(sqe, &op);
    } while (r == -EINTR);
    return r;
}

const struct engine engine_uring = {
    .name = "uring",
    .create = uring_create,
    .destroy = uring_destroy,
    .poll = uring_poll,
    .clock_ns = posix_clock_ns,
    .notify = uring_notify,
    .file = &posix_file_ops,
    .recv = uring_recv,
    .send = posix_send,
    .poll_fd = uring_poll_fd,
    .poll_cancel = uring_poll_cancel,
    .prw = uring_prw,
    .fdatasync = uring_fdatasync,
    .fallocate = uring_fallocate,
};
