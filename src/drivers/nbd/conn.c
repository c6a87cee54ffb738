/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The connection of an NBD node over its life: one coroutine reads what the server says and, when the
 * connection is lost, connects again; requests are sent from their own coroutines and wait here for
 * their answers. libnbd's callbacks all run on the loop's thread, inside its calls, with its lock held:
 * they only take notes and wake.
 *
 * A request ends in one of these ways: the server answers; request-timeout passes, and then the whole
 * connection is given up, because libnbd may still write into the request's memory until it is closed;
 * or the connection dies, and the request is sent again over the next one if there is one within
 * reconnect-delay.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "drivers/nbd/nbd.h"

#define BACKOFF_MIN_NS (100 * NS_PER_MS) /* pause before the second attempt; doubled each time */
#define BACKOFF_MAX_NS (3200 * NS_PER_MS)
#define GOODBYE_NS     NS_PER_SEC /* how long a server may take to close after NBD_CMD_DISC */

struct nbd_op { /* one command under way, in the frame of its coroutine */
    struct list link;
    struct nbd *c;
    struct co *co; /* asleep until it is done */
    const struct nbd_call *call;
    uint64_t deadline_ns;
    uint64_t seen; /* READ: bytes that arrived */
    int error;
    bool done, lost, expired;
};

static void notice(struct nbd *c, const char *sentence)
{
    struct graph *g = c->node->graph;

    if (g->notice && !g->standin) { /* qemu-io says nothing of it */
        g->notice(g, NOTICE_WARNING, sentence);
    }
}

/* ---- waking and sleeping of the connection coroutine ---- */

void nbd_kick(struct nbd *c)
{
    if (c->waiting_fd >= 0) {
        fd_poll_cancel(c->waiting_fd);
    }
    co_queue_wake_all(&c->resting);
}

static void rest_over(struct timer *t)
{
    co_queue_wake_all(&container_of(t, struct nbd, rest_timer)->resting);
}

void nbd_nap(struct nbd *c, uint64_t until_ns)
{
    if (until_ns != UINT64_MAX && timer_arm(&c->rest_timer, until_ns) < 0) {
        co_yield ();
        return;
    }
    co_queue_wait(&c->resting);
    timer_disarm(&c->rest_timer);
}

int nbd_rest(struct nbd *c, uint64_t until_ns)
{
    while (!c->quit && loop_now_ns() < until_ns) {
        nbd_nap(c, until_ns);
    }
    return c->quit ? -ECANCELED : 0;
}

/* ---- one command ---- */

static void op_finish(struct nbd_op *op)
{
    assert(!op->done);
    op->done = true;
    if (op->co) {
        co_wake(op->co);
    }
}

static int on_done(void *user_data, int *error)
{
    struct nbd_op *op = user_data;

    /* libnbd's word for a dead connection; no server can say it. Whoever drops the connection tells
     * all its requests. */
    if (*error == ENOTCONN) {
        return 1;
    }
    op->c->answered = true;
    op->error = *error;
    op_finish(op);
    return 1; /* libnbd forgets the command */
}

static int on_chunk(void *user_data, const void *buf, size_t count, uint64_t offset, unsigned status,
                    int *error)
{
    struct nbd_op *op = user_data;

    if (status != LIBNBD_READ_ERROR) {
        op->seen += count;
    }
    return 0;
}

/* The first extent is all we ask for. What a server says of its length is checked by clip_extent. */
static int on_extent(void *user_data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                     int *error)
{
    struct nbd_op *op = user_data;
    struct extent *e = op->call->extent;

    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 && n >= 2 && e->bytes == 0) {
        e->bytes = entries[0];
        e->data = !(entries[1] & LIBNBD_STATE_HOLE);
        e->zero = entries[1] & LIBNBD_STATE_ZERO;
    }
    return 0;
}

static int64_t op_send(struct nbd_op *op)
{
    const struct nbd_call *call = op->call;
    struct nbd_handle *h = op->c->link.handle;
    nbd_completion_callback done = {.callback = on_done, .user_data = op};
    uint32_t fua = call->flags & REQ_FUA ? LIBNBD_CMD_FLAG_FUA : 0;

    switch (call->op) {
    case REQ_READ:
        return nbd_aio_pread_structured(h, call->buf, call->bytes, call->offset,
                                        (nbd_chunk_callback){.callback = on_chunk, .user_data = op}, done, 0);
    case REQ_WRITE:
        return nbd_aio_pwrite(h, call->buf, call->bytes, call->offset, done, fua);
    case REQ_ZERO:
        return nbd_aio_zero(h, call->bytes, call->offset, done,
                            fua | (call->flags & REQ_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
                                (call->flags & REQ_NO_FALLBACK ? LIBNBD_CMD_FLAG_FAST_ZERO : 0));
    case REQ_DISCARD:
        return nbd_aio_trim(h, call->bytes, call->offset, done, fua);
    case REQ_FLUSH:
        return nbd_aio_flush(h, done, 0);
    case REQ_CACHE:
        return nbd_aio_cache(h, call->bytes, call->offset, done, 0);
    case REQ_STATUS:
        return nbd_aio_block_status(h, call->bytes, call->offset,
                                    (nbd_extent_callback){.callback = on_extent, .user_data = op}, done,
                                    LIBNBD_CMD_FLAG_REQ_ONE);
    default:
        return -1;
    }
}

/* After a call into libnbd from a request: the connection may have died in it, or the socket may be
 * full, which its coroutine must know to wait for the right events. */
static void look_at_link(struct nbd *c)
{
    struct nbd_handle *h = c->link.handle;
    bool must_write = nbd_aio_get_direction(h) & LIBNBD_AIO_DIRECTION_WRITE;

    if (nbd_is_over(h) || (must_write && !(c->waiting_events & POLLOUT))) {
        nbd_kick(c);
    }
}

static int op_result(const struct nbd_op *op)
{
    if (op->expired) {
        return -ETIMEDOUT;
    }
    if (op->lost) {
        return -ENOTCONN;
    }
    if (op->error == 0 && op->call->op == REQ_READ && op->seen != op->call->bytes) {
        return -EIO; /* the reply left a part out */
    }
    return -op->error;
}

/* Send it and wait. -ENOTCONN: the connection was lost before the answer. */
static co_fn int op_run(struct nbd_op *op)
{
    struct nbd *c = op->c;
    int r = 0;

    assert(c->state == NBD_UP && c->link.handle);
    op->deadline_ns = nbd_deadline(c->opt.request_timeout_ns);
    if (op->deadline_ns != UINT64_MAX && c->answer_timer.heap_index == 0) {
        if ((r = timer_arm(&c->answer_timer, op->deadline_ns)) < 0) {
            return r;
        }
    }
    list_add_tail(&c->in_flight, &op->link);
    c->in_flight_count++;
    if (op_send(op) < 0 && !nbd_is_over(c->link.handle)) {
        r = -(nbd_get_errno() > 0 ? nbd_get_errno() : EIO);
    } else {
        look_at_link(c);
        while (!op->done) {
            op->co = co_self();
            co_suspend();
        }
        r = op_result(op);
    }
    list_del(&op->link);
    c->in_flight_count--;
    co_queue_wake_one(&c->turn);
    return r;
}

/* Wait for a connection and for room on it. */
static co_fn int wait_turn(struct nbd *c)
{
    while (c->state == NBD_WAITING || (c->state == NBD_UP && c->in_flight_count >= NBD_IN_FLIGHT_MAX)) {
        co_queue_wait(&c->turn);
    }
    return c->state == NBD_UP ? 0 : c->lost_error;
}

int nbd_perform(struct nbd *c, const struct nbd_call *call)
{
    for (unsigned sends = 1;; sends++) {
        int r = wait_turn(c);
        if (r < 0) {
            return r;
        }
        if (call->extent) {
            *call->extent = (struct extent){0};
        }
        struct nbd_op op = {.c = c, .call = call};
        r = op_run(&op);
        if (r != -ENOTCONN) {
            return r;
        }
        if (c->opt.reconnect_delay_ns == 0 || sends == NBD_SENDS_MAX) {
            return c->lost_error;
        }
    }
}

/* ---- losing the connection ---- */

/* The timer stands at, or before, the deadline of the first request in flight. */
static void answer_due(struct timer *t)
{
    struct nbd *c = container_of(t, struct nbd, answer_timer);
    uint64_t now_ns = loop_now_ns();
    struct nbd_op *op;

    list_for_each (op, &c->in_flight, link) {
        if (op->done) {
            continue;
        }
        if (op->deadline_ns > now_ns && timer_arm(t, op->deadline_ns) == 0) {
            break;
        }
        op->expired = c->expired = true;
    }
    if (c->expired) {
        nbd_kick(c);
    }
}

static void delay_over(struct timer *t)
{
    struct nbd *c = container_of(t, struct nbd, delay_timer);

    assert(c->state == NBD_WAITING);
    c->state = NBD_DOWN;
    co_queue_wake_all(&c->turn);
}

/* Once, until a request is answered again: a server may come and go without end. */
static void notice_loss(struct nbd *c)
{
    char text[ERR_TEXT_MAX];

    if (c->told && !c->answered) {
        return;
    }
    c->told = true;
    snprintf(text, sizeof(text), "NBD server '%s': the connection is lost: %s", c->name,
             c->expired ? "a request was not answered within request-timeout"
                        : "the server has closed or broken it");
    notice(c, text);
}

static void drop_link(struct nbd *c)
{
    struct nbd_op *op;

    notice_loss(c);
    c->lost_error = c->expired ? -ETIMEDOUT : -EIO;
    c->expired = false;
    timer_disarm(&c->answer_timer);
    nbd_link_close(&c->link); /* from here on nobody writes into the requests' memory */
    c->state = NBD_DOWN;
    if (c->opt.reconnect_delay_ns > 0 &&
        timer_arm(&c->delay_timer, nbd_deadline(c->opt.reconnect_delay_ns)) == 0) {
        c->state = NBD_WAITING;
    }
    list_for_each (op, &c->in_flight, link) {
        if (!op->done) {
            op->lost = true;
            op_finish(op);
        }
    }
    co_queue_wake_all(&c->turn);
}

/* ---- finding it again ---- */

/* What came back must offer all that was promised to those above. */
static int check_fits(struct nbd *c, const struct nbd_export *e, struct err *err)
{
    const struct nbd_export *old = &c->link.export;

    if (e->size != old->size) {
        return err_set(err, -EIO,
                       "NBD server '%s' came back with another size: %" PRIu64 " bytes, and it had %" PRIu64,
                       c->name, e->size, old->size);
    }
    if (e->read_only && !c->node->read_only) {
        return err_set(err, -EIO, "NBD server '%s' came back read-only", c->name);
    }
    if (e->align > old->align || e->max_transfer < old->max_transfer) {
        return err_set(err, -EIO, "NBD server '%s' came back with tighter block sizes", c->name);
    }
    if ((old->fua && !e->fua) || (old->flush && !e->flush)) {
        return err_set(err, -EIO, "NBD server '%s' came back without %s", c->name,
                       old->flush && !e->flush ? "flush" : "FUA");
    }
    return 0;
}

static void refuse(struct nbd *c, const char *sentence)
{
    char text[ERR_TEXT_MAX + 64];

    snprintf(text, sizeof(text), "%s: it is not used any more", sentence);
    notice(c, text);
    timer_disarm(&c->delay_timer);
    c->state = NBD_REFUSED;
    c->lost_error = -EIO;
    co_queue_wake_all(&c->turn);
}

static void adopt_link(struct nbd *c, struct nbd_link link)
{
    timer_disarm(&c->delay_timer);
    link.export.align = c->link.export.align; /* as promised at open */
    link.export.max_transfer = c->link.export.max_transfer;
    c->link = link;
    c->answered = false;
    node_reconnected(c->node); /* before anything comes over it */
    c->state = NBD_UP;
    co_queue_wake_all(&c->turn);
}

/* Try until there is a connection. False: quit, or what came back does not fit. */
static co_fn bool find_again(struct nbd *c)
{
    struct nbd_link link;
    struct err err;

    if (c->answered) {
        c->backoff_ns = 0;
    }
    while (nbd_rest(c, loop_clock_ns() + c->backoff_ns) == 0) {
        c->backoff_ns = c->backoff_ns == 0 ? BACKOFF_MIN_NS : MIN(2 * c->backoff_ns, BACKOFF_MAX_NS);
        if (nbd_connect(c, nbd_deadline(c->opt.connect_timeout_ns), &link, NULL) < 0) {
            continue;
        }
        if (check_fits(c, &link.export, &err) < 0) {
            nbd_link_close(&link);
            refuse(c, err.text);
            return false;
        }
        adopt_link(c, link);
        return true;
    }
    return false;
}

/* ---- the connection coroutine ---- */

static co_fn void read_replies(struct nbd *c)
{
    int r = 0;

    while (!c->quit && !c->expired && (r == 0 || r == -ECANCELED) && !nbd_is_over(c->link.handle)) {
        r = nbd_turn(c, c->link.handle, c->link.fd, UINT64_MAX);
    }
}

/* NBD_CMD_DISC, and wait until the server has closed: then it holds the device no more. */
static co_fn void say_goodbye(struct nbd *c)
{
    struct nbd_handle *h = c->link.handle;
    uint64_t deadline_ns = nbd_deadline(GOODBYE_NS);

    if (nbd_is_over(h) || nbd_aio_disconnect(h, 0) < 0) {
        return;
    }
    while (!nbd_is_over(h) && nbd_turn(c, h, c->link.fd, deadline_ns) == 0) {
    }
}

static void conn_main(void *arg)
{
    struct nbd *c = arg;

    do {
        read_replies(c);
        if (c->quit) {
            say_goodbye(c);
            break;
        }
        drop_link(c);
    } while (find_again(c));
    c->running = false;
    co_queue_wake_all(&c->ended);
}

void nbd_conn_init(struct nbd *c, struct node *n)
{
    c->node = n;
    c->link.fd = c->waiting_fd = -1;
    c->state = NBD_DOWN;
    c->lost_error = -EIO;
    list_init(&c->in_flight);
    co_queue_init(&c->turn);
    co_queue_init(&c->resting);
    co_queue_init(&c->ended);
    c->answer_timer.fire = answer_due;
    c->delay_timer.fire = delay_over;
    c->rest_timer.fire = rest_over;
}

int nbd_conn_open(struct nbd *c, struct err *err)
{
    uint64_t give_up_ns = nbd_deadline(c->opt.open_timeout_ns);
    uint64_t pause_ns = BACKOFF_MIN_NS;
    int r;

    while ((r = nbd_connect(c, MIN(nbd_deadline(c->opt.connect_timeout_ns), give_up_ns), &c->link, err)) <
           0) {
        if (c->opt.open_timeout_ns == 0 || loop_clock_ns() >= give_up_ns) {
            return r;
        }
        nbd_rest(c, MIN(loop_clock_ns() + pause_ns, give_up_ns));
        pause_ns = MIN(2 * pause_ns, BACKOFF_MAX_NS);
    }
    c->state = NBD_UP;
    c->running = true;
    r = co_start(conn_main, c);
    if (r < 0) {
        c->running = false;
        nbd_link_close(&c->link);
        return err_set(err, r, "NBD server '%s': no memory for a connection", c->name);
    }
    return 0;
}

void nbd_conn_close(struct nbd *c)
{
    assert(c->in_flight_count == 0);
    c->quit = true;
    nbd_kick(c);
    while (c->running) {
        co_queue_wait(&c->ended);
    }
    timer_disarm(&c->answer_timer);
    timer_disarm(&c->delay_timer);
    timer_disarm(&c->rest_timer);
    nbd_link_close(&c->link);
}
