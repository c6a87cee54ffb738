/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated network. The connections are socket pairs of this process, so that shutdown, close
 * and the end of a stream mean what they always mean; what sim adds is time, how many bytes a call
 * moves, and broken connections. Both ends belong to coroutines of this thread, hence what the
 * kernel answers depends on nothing but their order.
 *
 * Who finds nothing to read is parked; each turn of the loop asks poll(2), without waiting, whose
 * descriptor has become ready.
 */
#include "sim/internal.h"

#include <poll.h>

#include "base/iov.h"

#define PARKED_MAX 256 /* descriptors one poll(2) looks at; the rest has its turn later */

/* One end of a connection. */
struct link {
    struct list link; /* sim->links */
    int fd;
    unsigned object;
    struct sim_net net;
    bool broken;
    struct link *peer; /* NULL once its entry was replaced */
};

struct parked {
    struct sim_event event; /* linked in sim->parked; in the heap if there is a deadline */
    int fd;
    short events;
    int result; /* revents or -errno; 0: not yet */
};

static struct link *link_find(struct sim *sim, int fd)
{
    struct link *l;
    list_for_each (l, &sim->links, link) {
        if (l->fd == fd) {
            return l;
        }
    }
    return NULL;
}

static void link_destroy(struct link *l)
{
    if (l) {
        if (l->peer) {
            l->peer->peer = NULL;
        }
        list_del(&l->link);
        free(l);
    }
}

static struct link *link_create(struct sim *sim, int fd, const struct sim_net *net)
{
    struct link *l = calloc(1, sizeof(*l));
    if (!l) {
        return NULL;
    }
    link_destroy(link_find(sim, fd)); /* of a descriptor that was closed */
    l->fd = fd;
    l->object = ++sim->last_object;
    l->net = *net;
    if (net->latency.max_ns == 0 && net->latency.min_ns == 0 && net->latency.slow_ppm == 0) {
        l->net.latency = sim_latency_default;
    }
    list_add_tail(&sim->links, &l->link);
    return l;
}

int sim_pair(const struct sim_net *net, int ret_fd[2])
{
    struct sim *sim = sim_self();
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0) {
        return -errno;
    }
    struct link *a = link_create(sim, fd[0], net);
    struct link *b = a ? link_create(sim, fd[1], net) : NULL;
    if (!b) {
        link_destroy(a);
        close(fd[0]);
        close(fd[1]);
        return -ENOMEM;
    }
    a->peer = b;
    b->peer = a;
    ret_fd[0] = fd[0];
    ret_fd[1] = fd[1];
    return 0;
}

void sim_net_break(int fd)
{
    struct link *l = link_find(sim_self(), fd);
    assert(l);
    l->broken = true;
    if (l->peer) {
        l->peer->broken = true;
    }
    shutdown(fd, SHUT_RDWR); /* who is parked at either end finds out */
}

void sim_net_finish(struct sim *sim)
{
    struct link *l, *tmp;
    list_for_each_safe (l, tmp, &sim->links, link) {
        link_destroy(l);
    }
}

/* ---- waiting ---- */

static void unpark(struct sim *sim, struct parked *p, int result)
{
    p->result = result;
    list_del(&p->event.link);
    sim_event_disarm(sim, &p->event);
    co_wake(p->event.co);
}

void sim_net_poll(struct sim *sim, bool wait)
{
    struct pollfd fds[PARKED_MAX + 1];
    struct parked *of[PARKED_MAX];
    struct parked *p;
    nfds_t n = 0;

    list_for_each (p, &sim->parked, event.link) {
        if (n == PARKED_MAX) {
            break;
        }
        of[n] = p;
        fds[n++] = (struct pollfd){.fd = p->fd, .events = p->events};
    }
    fds[n] = (struct pollfd){.fd = sim->wake_fd, .events = POLLIN};
    if (poll(fds, n + 1, wait ? -1 : 0) <= 0) {
        return;
    }
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].revents != 0) {
            unpark(sim, of[i], fds[i].revents);
        }
    }
    uint64_t count;
    while (read(sim->wake_fd, &count, sizeof(count)) > 0) {
    }
}

/* Until @fd has one of the events; returns revents or -errno. */
static co_fn int park(struct sim *sim, int fd, short events, uint64_t deadline_ns)
{
    struct parked p = {.fd = fd, .events = events};
    sim_event_init(&p.event);
    if (deadline_ns != UINT64_MAX) {
        int ret = sim_event_arm(sim, &p.event, MAX(deadline_ns, sim->now_ns));
        if (ret < 0) {
            return ret;
        }
    }
    list_add_tail(&sim->parked, &p.event.link);
    co_suspend();
    assert(p.event.index == 0);
    return p.result != 0 ? p.result : -ETIMEDOUT;
}

/* ---- the engine's calls ---- */

/* What a call on @fd meets. */
struct passage {
    struct sim *sim;
    struct link *link;
    unsigned object;
    struct sim_fate fate;
};

static co_fn int passage_begin(struct passage *pass, int fd, enum sim_op op, uint64_t bytes)
{
    pass->sim = sim_self();
    struct link *l = link_find(pass->sim, fd);
    pass->object = l ? l->object : 0;
    pass->fate = sim_decide(pass->sim, NULL, 0, op, 0, bytes);
    int ret = sim_wait(pass->sim, l ? &l->net.latency : &sim_latency_default, pass->fate.delay_ns);
    pass->link = link_find(pass->sim, fd);
    return ret < 0 ? ret : pass->fate.error;
}

static bool is_broken(struct sim *sim, int fd)
{
    struct link *l = link_find(sim, fd);
    return l && l->broken;
}

/* How many of @len bytes pass at once. */
static size_t chunk(struct passage *pass, size_t len)
{
    if (!pass->link || pass->link->net.chunk_max == 0 || len == 0) {
        return len;
    }
    return MIN(len, (size_t)(1 + rng_below(&pass->sim->rng, pass->link->net.chunk_max)));
}

static ssize_t passage_end(struct passage *pass, enum sim_op op, size_t len, ssize_t ret)
{
    sim_trace(pass->sim, op, pass->object, 0, len, (int)ret);
    return ret;
}

co_fn ssize_t sim_recv(int fd, void *buf, size_t len)
{
    struct passage pass;
    ssize_t ret = passage_begin(&pass, fd, SIM_RECV, len);
    if (ret < 0) {
        return passage_end(&pass, SIM_RECV, len, ret);
    }
    size_t some = chunk(&pass, len);
    for (;;) {
        if (is_broken(pass.sim, fd)) {
            ret = -ECONNRESET;
            break;
        }
        ret = recv(fd, buf, some, MSG_DONTWAIT);
        ret = ret < 0 ? -errno : ret;
        if (ret != -EAGAIN && ret != -EINTR) {
            break;
        }
        int revents = park(pass.sim, fd, POLLIN, UINT64_MAX);
        if (revents < 0) {
            ret = revents;
            break;
        }
    }
    return passage_end(&pass, SIM_RECV, len, ret);
}

ssize_t sim_recv_now(int fd, void *buf, size_t len)
{
    struct sim *sim = sim_self();
    if (is_broken(sim, fd)) {
        return -ECONNRESET;
    }
    ssize_t ret = recv(fd, buf, len, MSG_DONTWAIT);
    return ret < 0 ? -errno : ret;
}

static ssize_t send_now(int fd, const struct iovec *iov, int niov, size_t some)
{
    struct iovec part[IOV_LIST_MAX];
    struct msghdr msg = {.msg_iov = part};
    msg.msg_iovlen = (size_t)iov_slice(part, iov, MIN(niov, (int)IOV_LIST_MAX), 0, some);
    ssize_t ret = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return ret < 0 ? -errno : ret;
}

ssize_t sim_send_now(int fd, const struct iovec *iov, int niov)
{
    if (is_broken(sim_self(), fd)) {
        return -ECONNRESET;
    }
    return send_now(fd, iov, niov, iov_size(iov, MIN(niov, (int)IOV_LIST_MAX)));
}

co_fn ssize_t sim_send(int fd, const struct iovec *iov, int niov)
{
    struct passage pass;
    size_t len = iov_size(iov, MIN(niov, (int)IOV_LIST_MAX));
    ssize_t ret = passage_begin(&pass, fd, SIM_SEND, len);
    if (ret < 0) {
        return passage_end(&pass, SIM_SEND, len, ret);
    }
    size_t some = chunk(&pass, len);
    for (;;) {
        ret = is_broken(pass.sim, fd) ? -EPIPE : send_now(fd, iov, niov, some);
        if (ret != -EAGAIN && ret != -EINTR) {
            break;
        }
        int revents = park(pass.sim, fd, POLLOUT, UINT64_MAX);
        if (revents < 0) {
            ret = revents;
            break;
        }
    }
    return passage_end(&pass, SIM_SEND, len, ret);
}

co_fn int sim_poll_fd(int fd, short events, uint64_t deadline_ns)
{
    struct sim *sim = sim_self();
    struct sim_fate fate = sim_decide(sim, NULL, 0, SIM_POLL, 0, 0);
    int ret = fate.error != 0 ? fate.error : park(sim, fd, events, deadline_ns);
    sim_trace(sim, SIM_POLL, 0, 0, 0, ret);
    return ret;
}

void sim_poll_cancel(int fd)
{
    struct sim *sim = sim_self();
    struct parked *p, *tmp;
    list_for_each_safe (p, tmp, &sim->parked, event.link) {
        if (p->fd == fd) {
            unpark(sim, p, -ECANCELED);
        }
    }
}
