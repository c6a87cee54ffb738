/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server: its exports, its listening sockets, and its end. A listener is a coroutine that
 * accepts while there is a place for another client; those that come when all are taken stay in the
 * kernel's queue until one leaves.
 */
#include "export/nbd/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "export/nbd/conn.h"

#define SOCKET_BUFFER   (4 * (int)MiB)    /* adds 10 to 30 % to 1 MiB requests */
#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* out of descriptors: look again */
#define NOTICE_MAX      (ERR_TEXT_MAX + 64)

void nbd_notice(const struct nbd_server *s, const char *fmt, ...)
{
    char text[NOTICE_MAX];
    va_list ap;

    if (!s->config.notice) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    s->config.notice(s->config.opaque, text);
}

/* ---- creation ---- */

/* Is it the client that keeps us from ending? Requests may also take long because the device does. */
static bool is_stuck(struct nbd_conn *c)
{
    if (c->sender_alive) {
        conn_flush(c); /* what became ready just now is not its fault */
        return !c->dead && conn_send_pending(c);
    }
    return !c->dead; /* still haggling */
}

static void cut_off(struct timer *t)
{
    struct nbd_server *s = container_of(t, struct nbd_server, drain_timer);
    struct nbd_conn *c;
    unsigned stuck = 0;

    list_for_each (c, &s->conns, link) {
        if (is_stuck(c)) {
            stuck++;
            conn_fail(c);
        }
    }
    if (stuck > 0) {
        nbd_notice(s, "%u client(s) did not take their replies after the end: cut off", stuck);
    }
    timer_arm(t, loop_clock_ns() + NBD_DRAIN_NS); /* nbd_server_wait disarms it */
}

int nbd_server_create(const struct nbd_server_config *config, struct nbd_server **ret_server, struct err *err)
{
    if (config->tls != NBD_TLS_OFF && !config->tls_certificates && !config->tls_psk) {
        return err_set(err, -EINVAL, "TLS needs certificates or pre-shared keys");
    }
    if (config->tls != NBD_TLS_OFF && config->tls_certificates && config->tls_psk) {
        return err_set(err, -EINVAL, "TLS takes either certificates or pre-shared keys, not both");
    }
    struct nbd_server *s = calloc(1, sizeof(*s));
    if (!s) {
        return err_set(err, -ENOMEM, "no memory for the NBD server");
    }
    s->config = *config;
    if (s->config.max_clients == 0) {
        s->config.max_clients = NBD_CLIENTS_DEFAULT;
    }
    list_init(&s->conns);
    co_queue_init(&s->room);
    co_queue_init(&s->slot);
    co_queue_init(&s->changed);
    s->drain_timer.fire = cut_off;
    int rc = config->tls == NBD_TLS_OFF ? 0 : nbd_tls_creds_create(config, &s->creds, err);
    if (rc < 0) {
        nbd_server_destroy(s);
        return rc;
    }
    *ret_server = s;
    return 0;
}

static void export_free(struct nbd_export *e)
{
    if (e) {
        presence_unwatch(&e->watch);
        free(e->name);
        free(e->description);
        free(e);
    }
}

void nbd_server_destroy(struct nbd_server *s)
{
    if (!s) {
        return;
    }
    assert(list_empty(&s->conns));
    timer_disarm(&s->drain_timer);
    for (unsigned i = 0; i < s->nlisteners; i++) {
        struct nbd_listener *l = &s->listeners[i];
        assert(!l->accepting);
        listener_close(&l->at);
    }
    for (unsigned i = 0; i < s->nexports; i++) {
        export_free(s->exports[i]);
    }
    free(s->exports);
    nbd_tls_creds_destroy(s->creds);
    free(s);
}

/* A disk that goes takes its clients along; when it is back, those that had no answer get it. */
static void presence_changed(struct presence_watch *w)
{
    const struct nbd_export *e = container_of(w, struct nbd_export, watch);
    struct nbd_conn *c;

    list_for_each (c, &e->server->conns, link) {
        if (c->export == e && w->presence != PRESENCE_HERE) {
            conn_fail(c);
        }
        co_queue_wake_all(&c->room); /* of those that haggle, the muted wait there */
    }
}

int nbd_server_export(struct nbd_server *s, const char *name, struct node *node, bool read_only,
                      const char *description, struct err *err)
{
    if (strlen(name) > NBD_STRING_MAX || (description && strlen(description) > NBD_STRING_MAX)) {
        return err_set(err, -EINVAL, "export name or description is longer than %u bytes", NBD_STRING_MAX);
    }
    if (s->nexports == NBD_EXPORTS_MAX) {
        return err_set(err, -EINVAL, "more than %u exports", NBD_EXPORTS_MAX);
    }
    for (unsigned i = 0; i < s->nexports; i++) {
        if (strcmp(s->exports[i]->name, name) == 0) {
            return err_set(err, -EEXIST, "two exports have the name '%s'", name);
        }
    }
    struct nbd_export **grown = realloc(s->exports, (s->nexports + 1) * sizeof(*grown));
    if (grown) {
        s->exports = grown;
    }
    struct nbd_export *e = grown ? malloc(sizeof(*e)) : NULL;
    if (e) {
        *e = (struct nbd_export){.name = strdup(name),
                                 .description = description ? strdup(description) : NULL,
                                 .node = node,
                                 .server = s,
                                 .watch = {.node = node, .changed = presence_changed},
                                 .read_only = read_only || node_is_read_only(node)};
    }
    if (!e || !e->name || (description && !e->description)) {
        export_free(e);
        return err_set(err, -ENOMEM, "no memory for export '%s'", name);
    }
    presence_watch(&e->watch);
    s->exports[s->nexports++] = e;
    return 0;
}

/* Is it still needed for a client, whatever becomes of it? */
static bool is_used(const struct nbd_server *s, const struct nbd_export *e, bool negotiating)
{
    const struct nbd_conn *c;

    list_for_each (c, &s->conns, link) {
        if (c->export == e || (negotiating && c->negotiating)) {
            return true;
        }
    }
    return false;
}

int nbd_server_unexport(struct nbd_server *s, const char *name, bool hard, struct nbd_export **ret_export,
                        struct err *err)
{
    unsigned i = 0;
    struct nbd_conn *c;

    while (i < s->nexports && strcmp(s->exports[i]->name, name) != 0) {
        i++;
    }
    if (i == s->nexports) {
        return err_set(err, -ENOENT, "there is no export '%s'", name);
    }
    struct nbd_export *e = s->exports[i];
    if (!hard && is_used(s, e, false)) {
        return err_set(err, -EBUSY, "export '%s' still in use", name);
    }
    memmove(&s->exports[i], &s->exports[i + 1], (--s->nexports - i) * sizeof(struct nbd_export *));
    e->removed = true;
    list_for_each (c, &s->conns, link) {
        if (c->export == e) {
            conn_fail(c);
        } else if (c->meta_export == e) {
            c->meta_export = NULL;
        }
        co_queue_wake_all(&c->room);
    }
    *ret_export = e;
    return 0;
}

void nbd_server_unexport_wait(struct nbd_server *s, struct nbd_export *e)
{
    while (is_used(s, e, true)) {
        co_queue_wait(&s->changed);
    }
    export_free(e);
}

/* ---- accepting ---- */

/* Only where the kernel grants all of it: a TCP socket with a smaller fixed buffer would be slower
 * than one that grows by itself. */
static void set_buffer(int fd, int force, int plain, bool tcp)
{
    int size = SOCKET_BUFFER;

    if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) < 0 && !tcp) {
        setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
    }
}

static void tune_socket(int fd, bool tcp)
{
    int on = 1;

    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, tcp);
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, tcp);
    if (tcp) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)); /* notice hosts that vanish */
    }
}

int nbd_server_adopt(struct nbd_server *s, int fd)
{
    if (s->stopping) {
        close(fd);
        return -ESHUTDOWN;
    }
    return conn_start(s, fd, "");
}

/* Wait for a place; false when the server ends. */
static bool wait_for_slot(struct nbd_server *s)
{
    while (!s->stopping && s->nconns >= s->config.max_clients) {
        if (!s->told_full) {
            s->told_full = true;
            nbd_notice(s, "%u clients are connected, the most allowed: others have to wait", s->nconns);
        }
        co_queue_wait(&s->slot);
    }
    return !s->stopping;
}

static void accept_one(struct nbd_listener *l)
{
    int fd = accept4(l->at.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        tune_socket(fd, !l->at.path);
        if (conn_start(l->server, fd, l->at.address) < 0) {
            nbd_notice(l->server, "no memory for another client");
        }
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (!l->server->told_starved) {
            l->server->told_starved = true;
            nbd_notice(l->server, "cannot accept a client: %s; trying again until it works", err_name(errno));
        }
        co_sleep_ns(ACCEPT_RETRY_NS);
    } /* anything else: the client has gone again */
}

static void accept_clients(void *listener)
{
    struct nbd_listener *l = listener;
    struct nbd_server *s = l->server;

    while (wait_for_slot(s)) {
        int rc = fd_poll(l->at.fd, POLLIN, UINT64_MAX);
        if (s->stopping) {
            break;
        }
        if (rc < 0) {
            nbd_notice(s, "%s: cannot accept clients: %s", l->at.address, err_name(rc));
            break;
        }
        if (s->nconns < s->config.max_clients) {
            accept_one(l);
        }
    }
    close(l->at.fd);
    l->at.fd = -1;
    if (l->at.path) {
        unlink(l->at.path);
    }
    l->accepting = false;
    co_queue_wake_all(&s->changed);
}

int nbd_server_listen(struct nbd_server *s, const char *address, struct err *err)
{
    if (s->nlisteners == NBD_LISTENERS_MAX) {
        return err_set(err, -EINVAL, "more than %u addresses to listen on", NBD_LISTENERS_MAX);
    }
    struct nbd_listener *l = &s->listeners[s->nlisteners];
    *l = (struct nbd_listener){.server = s};
    int rc = listener_open(&l->at, address, NBD_PORT, 0, err);
    if (rc < 0) {
        return rc;
    }
    l->accepting = true;
    rc = co_start_later(accept_clients, l);
    if (rc < 0) {
        l->accepting = false;
        listener_close(&l->at);
        return err_set(err, rc, "no memory to listen on '%s'", address);
    }
    s->nlisteners++;
    return 0;
}

/* ---- what it listens on ---- */

const char *nbd_server_address(const struct nbd_server *s, unsigned n)
{
    return n < s->nlisteners ? s->listeners[n].at.address : NULL;
}

unsigned nbd_server_port(const struct nbd_server *s, unsigned n)
{
    return n < s->nlisteners ? s->listeners[n].at.port : 0;
}

/* Percent-encode what is not plainly allowed in a URI; '/' stays if @slash. */
static void put_escaped(FILE *out, const char *text, bool slash)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

    for (; *text; text++) {
        if (strchr(plain, *text) || (slash && *text == '/')) {
            fputc(*text, out);
        } else {
            fprintf(out, "%%%02X", (unsigned char)*text);
        }
    }
}

char *nbd_server_uri(const struct nbd_server *s, unsigned n, const char *export_name)
{
    char *text = NULL;
    size_t len;

    if (n >= s->nlisteners) {
        return NULL;
    }
    const struct listener *l = &s->listeners[n].at;
    FILE *out = open_memstream(&text, &len);
    if (!out) {
        return NULL;
    }
    fputs(s->config.tls == NBD_TLS_REQUIRE ? "nbds" : "nbd", out);
    if (l->path) {
        fputs("+unix:///", out);
        put_escaped(out, export_name, true);
        fputs("?socket=", out);
        put_escaped(out, l->path, true);
    } else {
        const char *host = *l->host ? l->host : "localhost";
        fprintf(out, strchr(host, ':') ? "://[%s]" : "://%s", host);
        if (l->port != NBD_PORT) {
            fprintf(out, ":%u", l->port);
        }
        fputc('/', out);
        put_escaped(out, export_name, true);
    }
    if (s->config.tls == NBD_TLS_REQUIRE && s->config.tls_certificates) {
        fputs(l->path ? "&tls-certificates=" : "?tls-certificates=", out);
        put_escaped(out, s->config.tls_certificates, true);
    } else if (s->config.tls == NBD_TLS_REQUIRE && s->config.tls_psk) {
        fputs(l->path ? "&tls-psk-file=" : "?tls-psk-file=", out);
        put_escaped(out, s->config.tls_psk, true);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

unsigned nbd_server_clients(const struct nbd_server *s)
{
    return s->nconns;
}

/* ---- the end ---- */

void nbd_server_stop(struct nbd_server *s)
{
    struct nbd_conn *c;

    if (s->stopping) {
        return;
    }
    s->stopping = true;
    for (unsigned i = 0; i < s->nlisteners; i++) {
        if (s->listeners[i].accepting) {
            fd_poll_cancel(s->listeners[i].at.fd);
        }
    }
    co_queue_wake_all(&s->slot);
    list_for_each (c, &s->conns, link) {
        conn_stop(c);
    }
    if (!list_empty(&s->conns)) {
        timer_arm(&s->drain_timer, loop_clock_ns() + NBD_DRAIN_NS);
    }
}

void nbd_server_wait(struct nbd_server *s)
{
    for (;;) {
        bool busy = s->nconns > 0;
        for (unsigned i = 0; i < s->nlisteners; i++) {
            busy |= s->listeners[i].accepting;
        }
        if (!busy) {
            break;
        }
        co_queue_wait(&s->changed);
    }
    timer_disarm(&s->drain_timer);
}
