/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a connection and the bytes that come in. The receive buffer takes whatever the
 * socket has; small payloads stay where they arrived, pinned by their request, and the reader moves
 * to the next buffer when the current one is used up.
 */
#include "export/nbd/conn.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/iov.h"

#define SPINS_MAX       100000u /* also where the clock stands still meanwhile */
#define SPIN_MISSES_MAX 10u     /* in the end one look for some thousand requests */

/* ---- life ---- */

static void handshake_too_slow(struct timer *t)
{
    conn_fail(container_of(t, struct nbd_conn, handshake_timer));
}

static void free_ops(struct nbd_conn *c)
{
    struct nbd_op *op;

    while ((op = list_first(&c->free_ops, struct nbd_op, link))) {
        list_del(&op->link);
        free(op);
    }
}

/* It does not count any more. */
static void conn_leave(struct nbd_conn *c)
{
    if (!list_empty(&c->link)) {
        list_del(&c->link);
        c->server->nconns--;
    }
}

static void conn_free(struct nbd_conn *c)
{
    struct nbd_server *s = c->server;

    assert(c->in_flight == 0 && list_empty(&c->replies));
    timer_disarm(&c->handshake_timer);
    nbd_tls_destroy(c->tls);
    close(c->fd);
    free_ops(c);
    for (unsigned i = 0; i < RX_MAX; i++) {
        buf_put(c->rx[i].data, RX_BYTES);
    }
    conn_leave(c);
    free(c);
    co_queue_wake_all(&s->slot); /* whichever listener has somebody waiting */
    co_queue_wake_all(&s->changed);
}

/* The requests that still run finish and are answered, if anybody listens. */
static void conn_finish(struct nbd_conn *c)
{
    c->closing = true;
    co_queue_wake_one(&c->send_work);
    while (c->in_flight > 0 || c->sender_alive) {
        co_queue_wait(&c->changed);
    }
    conn_drop_replies(c);
}

static void tell_changed(struct nbd_conn *c, bool connected)
{
    struct nbd_server *s = c->server;
    const struct nbd_client_info info = {
        .id = c->id, .connected = connected, .export = c->export->name, .address = c->address};

    if (s->config.client_changed) {
        s->config.client_changed(s->config.opaque, &info);
    }
}

static void conn_main(void *conn)
{
    struct nbd_conn *c = conn;
    bool served = nbd_handshake(c) == 0 && !c->export->removed && c->export->watch.presence == PRESENCE_HERE;

    c->negotiating = false;
    if (served) {
        timer_disarm(&c->handshake_timer);
        tell_changed(c, true);
        if (co_start_later(conn_sender, c) == 0) {
            c->sender_alive = true;
            nbd_transmission(c);
        }
        conn_finish(c);
    }
    conn_leave(c);
    if (served) {
        tell_changed(c, false);
    }
    conn_free(c);
}

int conn_start(struct nbd_server *s, int fd, const char *address)
{
    struct nbd_conn *c = calloc(1, sizeof(*c));

    if (!c) {
        close(fd);
        return -ENOMEM;
    }
    c->server = s;
    c->fd = fd;
    c->id = ++s->next_conn;
    c->address = address;
    c->negotiating = true;
    c->recv_max = RX_BYTES;
    c->gather_bytes = GATHER_MIN;
    list_init(&c->free_ops);
    list_init(&c->replies);
    co_queue_init(&c->room);
    co_queue_init(&c->send_work);
    co_queue_init(&c->changed);
    c->handshake_timer.fire = handshake_too_slow;
    list_add_tail(&s->conns, &c->link);
    s->nconns++;

    uint64_t limit = s->config.handshake_timeout_ns;
    if ((limit != UINT64_MAX && timer_arm(&c->handshake_timer, loop_clock_ns() + limit) < 0) ||
        co_start_later(conn_main, c) < 0) {
        conn_free(c);
        return -ENOMEM;
    }
    return 0;
}

void conn_stop(struct nbd_conn *c)
{
    c->stopping = true;
    shutdown(c->fd, SHUT_RD);
    co_queue_wake_all(&c->room);
}

void conn_fail(struct nbd_conn *c)
{
    if (c->dead) {
        return;
    }
    c->dead = true;
    shutdown(c->fd, SHUT_RDWR); /* ends the recv or poll that the others wait in */
    conn_drop_replies(c);
    co_queue_wake_all(&c->send_work);
    co_queue_wake_all(&c->room);
}

/* ---- bytes ---- */

static ssize_t recv_now(struct nbd_conn *c, void *buf, size_t len)
{
    return c->tls ? nbd_tls_recv_now(c->tls, buf, len) : sock_recv_now(c->fd, buf, len);
}

/* The only place where the reader sleeps for its client. */
static ssize_t recv_wait(struct nbd_conn *c, void *buf, size_t len)
{
    if (!c->tls) {
        return sock_recv(c->fd, buf, len);
    }
    for (;;) {
        int rc = nbd_tls_wait(c->tls);
        if (rc < 0) {
            return rc;
        }
        ssize_t n = nbd_tls_recv_now(c->tls, buf, len);
        if (n != -EAGAIN) {
            return n;
        }
    }
}

/* Being woken costs more than looking for a moment, when there is nothing else to do and the next request is
 * likely to come: a look in vain is followed by ever more sleeps without one. */
static ssize_t spin(struct nbd_conn *c, void *buf, size_t len)
{
    const struct nbd_server *s = c->server;

    if (s->config.spin_ns == 0 || s->nconns != 1 || c->in_flight > 0) {
        return -EAGAIN;
    }
    if (c->spin_skip > 0) {
        c->spin_skip--;
        return -EAGAIN;
    }
    uint64_t end = loop_clock_ns() + s->config.spin_ns;
    for (unsigned i = 0; i < SPINS_MAX && loop_clock_ns() < end; i++) {
        ssize_t n = recv_now(c, buf, len);
        if (n != -EAGAIN) {
            c->spin_misses = 0;
            return n;
        }
    }
    c->spin_misses = MIN(c->spin_misses + 1, SPIN_MISSES_MAX);
    c->spin_skip = (1u << c->spin_misses) - 1;
    return -EAGAIN;
}

/* At least one byte into @buf. Ends when the client, the connection or the server does. */
static ssize_t receive(struct nbd_conn *c, void *buf, size_t len)
{
    conn_flush(c);
    if (c->turns >= TURNS_MAX) {
        c->turns = 0;
        c->reader_active = false;
        co_yield ();
        c->reader_active = true;
    }
    if (c->stopping || c->dead) {
        return -ESHUTDOWN;
    }
    /* A client that waits for each reply has not sent the next request yet. */
    c->lone = c->lone && c->batch == 1;
    c->batch = 0;
    ssize_t n = c->lone ? spin(c, buf, len) : recv_now(c, buf, len);
    c->turns++;
    if (n == -EAGAIN) {
        c->turns = 0;
        c->lone = true;
        c->reader_active = false;
        n = recv_wait(c, buf, len);
        c->reader_active = true;
    }
    if (c->dead || n == 0) {
        return -ESHUTDOWN;
    }
    return n;
}

/* Make @r the current buffer, taking along what was not parsed yet. */
static void rx_switch(struct nbd_conn *c, struct rx *r)
{
    size_t avail = 0;

    if (c->cur) {
        avail = conn_avail(c);
        memmove(r->data, conn_at(c), avail);
        c->cur->refs--;
    }
    r->refs++;
    c->cur = r;
    c->head = 0;
    c->tail = avail;
}

/* A receive buffer that no payload lies in. Waits for one if there are too many already. */
static int rx_get(struct nbd_conn *c, struct rx **ret_rx)
{
    for (;;) {
        for (unsigned i = 0; i < RX_MAX; i++) {
            struct rx *r = &c->rx[i];
            if (r->refs == 0) {
                if (!r->data && !(r->data = buf_get(RX_BYTES))) {
                    return -ENOMEM;
                }
                *ret_rx = r;
                return 0;
            }
        }
        conn_flush(c);
        c->reader_active = false;
        co_queue_wait(&c->room);
        c->reader_active = true;
        if (c->dead) {
            return -ESHUTDOWN;
        }
    }
}

/* Make room for @n bytes in one piece from head on, and for a good recv. */
static int rx_room(struct nbd_conn *c, size_t n)
{
    if (c->cur && c->cur->refs == 1 && c->head == c->tail) {
        c->head = c->tail = 0; /* nobody else looks at it: use the same, warm memory again */
    }
    if (c->cur && c->tail < RX_BYTES - RX_BYTES / 4 && RX_BYTES - c->head >= n) {
        return 0;
    }
    if (c->cur && c->cur->refs == 1) {
        rx_switch(c, c->cur);
        return 0;
    }
    struct rx *r;
    int rc = rx_get(c, &r);
    if (rc == 0) {
        rx_switch(c, r);
    }
    return rc;
}

int conn_need(struct nbd_conn *c, size_t n)
{
    while (conn_avail(c) < n) {
        int rc = rx_room(c, n);
        if (rc < 0) {
            return rc;
        }
        size_t least = n - conn_avail(c);
        size_t len = MIN(RX_BYTES - c->tail, least > c->recv_max ? least : c->recv_max);
        ssize_t got = receive(c, c->cur->data + c->tail, len);
        if (got < 0) {
            return (int)got;
        }
        c->tail += (size_t)got;
    }
    return 0;
}

int conn_skip(struct nbd_conn *c, uint64_t n)
{
    while (n > 0) {
        if (conn_avail(c) == 0) {
            int rc = conn_need(c, 1);
            if (rc < 0) {
                return rc;
            }
        }
        size_t step = (size_t)MIN(n, (uint64_t)conn_avail(c));
        c->head += step;
        n -= step;
    }
    return 0;
}

int conn_read(struct nbd_conn *c, void *buf, size_t n)
{
    size_t have = MIN(n, conn_avail(c));
    uint8_t *p = buf;

    if (have > 0) {
        memcpy(p, conn_at(c), have);
        c->head += have;
    }
    while (have < n) {
        ssize_t got = receive(c, p + have, n - have);
        if (got < 0) {
            return (int)got;
        }
        have += (size_t)got;
    }
    return 0;
}

int conn_write(struct nbd_conn *c, const struct iovec *iov, int niov)
{
    struct iovec left[8];
    size_t done = 0, total = iov_size(iov, niov);

    assert(niov <= (int)ARRAY_SIZE(left));
    while (done < total || conn_send_pending(c)) {
        if (c->dead) {
            return -ECONNRESET;
        }
        ssize_t n = conn_send_now(c, left, iov_slice(left, iov, niov, done, total - done));
        if (n == -EAGAIN) {
            int rc = fd_poll(c->fd, POLLOUT, UINT64_MAX);
            if (rc < 0) {
                return rc;
            }
        } else if (n < 0) {
            return (int)n;
        } else {
            done += (size_t)n;
        }
    }
    return 0;
}
