/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client. The reader takes bytes and queues messages, or executes those that came out of band; the
 * executor runs one command after the other; the writer sends what is queued. Each waits only for what is
 * its own client's: what one does, no other feels.
 *
 * A client may close its half of the connection and still read (`nc -N`): what it has asked is done and
 * answered. When it has gone altogether, a command that waits for something is told to give up.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/json.h"
#include "qmp/internal.h"

#define RECV_BYTES  (16 * KiB)
#define SEND_CHUNKS 16 /* of text per sendmsg */

static void conn_free(struct qmp_conn *c)
{
    struct qmp_server *s = c->server;
    struct qmp_request *r;
    struct qmp_chunk *chunk;

    while ((r = list_first(&c->requests, struct qmp_request, link))) {
        list_del(&r->link);
        json_decref(r->message);
        free(r->wrong);
        free(r);
    }
    while ((chunk = list_first(&c->out, struct qmp_chunk, link))) {
        list_del(&chunk->link);
        free(chunk->text);
        free(chunk);
    }
    qmp_stream_finish(&c->stream);
    close(c->fd);
    list_del(&c->link);
    s->nconns--;
    free(c);
    co_queue_wake_all(&s->slot);
    co_queue_wake_all(&s->changed);
}

static void wake_everybody(struct qmp_conn *c)
{
    co_queue_wake_all(&c->work);
    co_queue_wake_all(&c->drained);
    co_queue_wake_all(&c->room);
    co_queue_wake_all(&c->send_work);
    if (c->gone && c->call) {
        qmp_fault_wake(c->call);
    }
}

void qmp_conn_fail(struct qmp_conn *c)
{
    if (!c->dead) {
        c->dead = c->gone = true;
        shutdown(c->fd, SHUT_RDWR); /* ends the recv or poll that somebody waits in */
        wake_everybody(c);
    }
}

void qmp_conn_stop(struct qmp_conn *c)
{
    c->ended = c->gone = true;
    shutdown(c->fd, SHUT_RD);
    wake_everybody(c);
}

/* ---- writing ---- */

/* @text, of malloc, is used up. */
static void put_text(struct qmp_conn *c, char *text, size_t len)
{
    struct qmp_chunk *chunk = text && !c->dead ? malloc(sizeof(*chunk)) : NULL;

    if (!chunk) {
        free(text);
        if (!c->dead) { /* a client that misses an answer waits for ever */
            qmp_conn_fail(c);
        }
        return;
    }
    *chunk = (struct qmp_chunk){.text = text, .len = len};
    list_add_tail(&c->out, &chunk->link);
    c->out_bytes += len;
    co_queue_wake_all(&c->send_work);
}

void qmp_conn_put(struct qmp_conn *c, json_t *message)
{
    AUTO_JSON json_t *own = message;
    AUTO_FREE char *text = own ? json_dumps(own, JSON_ENSURE_ASCII) : NULL;
    char *line = NULL;
    int len = text ? asprintf(&line, "%s\r\n", text) : -1;

    put_text(c, len < 0 ? NULL : line, len < 0 ? 0 : (size_t)len);
}

void qmp_conn_put_event(struct qmp_conn *c, const char *line, size_t len)
{
    if (c->dead || !c->negotiated) {
        return;
    }
    char *copy = c->out_bytes <= QMP_EVENTS_BYTES_MAX ? strndup(line, len) : NULL;
    if (copy) {
        put_text(c, copy, len);
    } else {
        c->events_lost++;
    }
}

/* The client reads again: tell it what it has missed. */
static void tell_lost(struct qmp_conn *c)
{
    if (c->events_lost > 0 && c->out_bytes == 0) {
        qmp_conn_put(c, json_pack("{s:o, s:s, s:{s:I}}", "timestamp", qmp_timestamp(), "event", "EVENTS_LOST",
                                  "data", "count", (json_int_t)c->events_lost));
        c->events_lost = 0;
    }
}

static void take_sent(struct qmp_conn *c, size_t n)
{
    c->out_bytes -= n;
    while (n > 0) {
        struct qmp_chunk *chunk = list_first(&c->out, struct qmp_chunk, link);
        size_t part = MIN(n, chunk->len - chunk->sent);
        chunk->sent += part;
        n -= part;
        if (chunk->sent == chunk->len) {
            list_del(&chunk->link);
            free(chunk->text);
            free(chunk);
        }
    }
    tell_lost(c);
    if (c->out_bytes <= QMP_OUT_BYTES_MAX) {
        co_queue_wake_all(&c->drained);
    }
}

static co_fn void send_some(struct qmp_conn *c)
{
    struct iovec iov[SEND_CHUNKS];
    struct qmp_chunk *chunk;
    int niov = 0;

    list_for_each (chunk, &c->out, link) {
        if (niov == SEND_CHUNKS) {
            break;
        }
        iov[niov++] = (struct iovec){chunk->text + chunk->sent, chunk->len - chunk->sent};
    }
    ssize_t n = sock_send_now(c->fd, iov, niov);
    if (n > 0) {
        take_sent(c, (size_t)n);
    } else if (n == -EAGAIN) {
        int r = fd_poll(c->fd, POLLOUT, UINT64_MAX);
        if (r < 0 && r != -ECANCELED) {
            qmp_conn_fail(c);
        }
    } else {
        qmp_conn_fail(c);
    }
}

static void writer_main(void *conn)
{
    struct qmp_conn *c = conn;

    while (!c->dead) {
        if (!list_empty(&c->out)) {
            send_some(c);
        } else if (c->closing) {
            break;
        } else {
            co_queue_wait(&c->send_work);
        }
    }
    c->writer_alive = false;
    co_queue_wake_all(&c->changed);
}

/* ---- executing ---- */

static co_fn void execute(struct qmp_conn *c, struct qmp_request *r)
{
    json_t *reply = r->message ? qmp_dispatch(c, r->message)
                               : qmp_error_reply(NULL, r->wrong ? r->wrong : "no memory for a message");

    qmp_conn_put(c, reply);
    json_decref(r->message);
    free(r->wrong);
    free(r);
    if (c->quit) {
        c->quit = false;
        c->server->config.quit(c->server->config.opaque);
    }
}

static void executor_main(void *conn)
{
    struct qmp_conn *c = conn;

    while (!c->dead && !c->server->stopping) {
        struct qmp_request *r = list_first(&c->requests, struct qmp_request, link);
        if (!r && c->ended) {
            break;
        }
        if (!r) {
            co_queue_wait(&c->work);
        } else if (c->out_bytes > QMP_OUT_BYTES_MAX) {
            co_queue_wait(&c->drained);
        } else {
            list_del(&r->link);
            c->nrequests--;
            co_queue_wake_all(&c->room);
            execute(c, r);
        }
    }
    c->closing = true;
    c->executor_alive = false;
    co_queue_wake_all(&c->send_work);
    co_queue_wake_all(&c->changed);
    fd_poll_cancel(c->fd); /* the reader may wait for the client to hang up */
}

/* ---- reading ---- */

static co_fn int queue(struct qmp_conn *c, json_t *message, const char *wrong)
{
    while (c->nrequests >= QMP_QUEUE_MAX && !c->gone) {
        co_queue_wait(&c->room);
    }
    struct qmp_request *r = c->gone ? NULL : malloc(sizeof(*r));
    if (!r) {
        json_decref(message);
        return c->gone ? -ESHUTDOWN : -ENOMEM;
    }
    *r = (struct qmp_request){.message = message, .wrong = wrong ? strdup(wrong) : NULL};
    list_add_tail(&c->requests, &r->link);
    c->nrequests++;
    co_queue_wake_all(&c->work);
    return 0;
}

static co_fn int take_bytes(struct qmp_conn *c, const char *buf, size_t n)
{
    size_t used = 0;

    while (used < n && !c->gone) {
        json_t *message = NULL;
        struct err err = {0};
        int r = qmp_stream_next(&c->stream, buf, n, &used, &message, &err);
        if (r == 1 && qmp_is_oob(c, message)) {
            qmp_conn_put(c, qmp_dispatch(c, message));
            json_decref(message);
            r = 0;
        } else if (r != 0) {
            r = queue(c, message, r < 0 ? err.text : NULL);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* A web page that a user of this machine looks at can have its browser send anything behind an HTTP
 * header. */
static bool is_browser(const char *buf, size_t n)
{
    static const char *const methods[] = {"POST ", "PUT ", "GET ", "OPTIONS ", "HEAD ", "DELETE ", "PATCH "};

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        size_t len = strlen(methods[i]);
        if (n >= len && memcmp(buf, methods[i], len) == 0) {
            return true;
        }
    }
    return false;
}

static co_fn void read_all(struct qmp_conn *c, char *buf)
{
    bool first = true;

    while (!c->gone) {
        ssize_t n = sock_recv(c->fd, buf, RECV_BYTES);
        if (n < 0) {
            qmp_conn_fail(c);
        }
        if (n <= 0) {
            break;
        }
        if (first && is_browser(buf, (size_t)n)) {
            qmp_notice(c->server, "QMP client %u speaks HTTP: disconnected", c->id);
            qmp_conn_fail(c);
            break;
        }
        first = false;
        if (take_bytes(c, buf, (size_t)n) == -ENOMEM) {
            qmp_conn_fail(c);
        }
    }
}

/* It sends no more; until it hangs up, it may still read. */
static co_fn void wait_for_the_end(struct qmp_conn *c)
{
    c->ended = true;
    co_queue_wake_all(&c->work);
    while (c->executor_alive && !c->gone) {
        int r = fd_poll(c->fd, 0, UINT64_MAX);
        if (r != -ECANCELED && c->executor_alive) {
            qmp_conn_fail(c);
        }
    }
    while (c->executor_alive || c->writer_alive) {
        co_queue_wait(&c->changed);
    }
}

static json_t *greeting(void)
{
    return json_pack("{s:{s:o, s:[s]}}", "QMP", "version", qmp_version(), "capabilities", "oob");
}

static void conn_main(void *conn)
{
    struct qmp_conn *c = conn;
    AUTO_FREE char *buf = malloc(RECV_BYTES);

    qmp_conn_put(c, greeting());
    c->executor_alive = co_start_later(executor_main, c) == 0;
    c->writer_alive = co_start_later(writer_main, c) == 0;
    if (buf && c->executor_alive && c->writer_alive) {
        read_all(c, buf);
    } else {
        qmp_conn_fail(c);
    }
    wait_for_the_end(c);
    conn_free(c);
}

int qmp_conn_start(struct qmp_server *s, int fd)
{
    struct qmp_conn *c = calloc(1, sizeof(*c));

    if (!c) {
        close(fd);
        return -ENOMEM;
    }
    c->server = s;
    c->fd = fd;
    c->id = ++s->next_conn;
    qmp_stream_init(&c->stream);
    list_init(&c->requests);
    list_init(&c->out);
    co_queue_init(&c->work);
    co_queue_init(&c->drained);
    co_queue_init(&c->room);
    co_queue_init(&c->send_work);
    co_queue_init(&c->changed);
    list_add_tail(&s->conns, &c->link);
    s->nconns++;
    if (co_start_later(conn_main, c) < 0) {
        conn_free(c);
        return -ENOMEM;
    }
    return 0;
}
