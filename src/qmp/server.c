/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server: its sockets, its disks, its end. A listener is a coroutine that accepts while there is a
 * place for another client.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>

#include "qmp/internal.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* out of descriptors: look again */

void qmp_notice(const struct qmp_server *s, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    if (s->config.notice) {
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        s->config.notice(s->config.opaque, text);
    }
}

/* ---- creation ---- */

static void cut_off(struct timer *t)
{
    struct qmp_server *s = container_of(t, struct qmp_server, drain_timer);
    struct qmp_conn *c;

    list_for_each (c, &s->conns, link) {
        qmp_conn_fail(c);
    }
}

static void graph_raised(struct graph *g, const char *name, json_t *data)
{
    qmp_server_event(g->monitor, name, data);
}

int qmp_server_create(const struct qmp_config *config, struct qmp_server **ret_server, struct err *err)
{
    struct qmp_server *s = calloc(1, sizeof(*s));

    if (!s) {
        return err_set(err, -ENOMEM, "no memory for the QMP server");
    }
    s->config = *config;
    list_init(&s->conns);
    list_init(&s->nodes);
    list_init(&s->exports);
    for (unsigned i = 0; i < QMP_LIMIT_BUCKETS; i++) {
        list_init(&s->limits[i]);
    }
    co_queue_init(&s->slot);
    co_queue_init(&s->changed);
    s->drain_timer.fire = cut_off;
    config->graph->event = graph_raised;
    config->graph->fault = qmp_fault_raised;
    config->graph->monitor = s;
    *ret_server = s;
    return 0;
}

void qmp_server_destroy(struct qmp_server *s)
{
    if (!s) {
        return;
    }
    assert(list_empty(&s->conns) && list_empty(&s->nodes) && list_empty(&s->exports));
    s->config.graph->event = NULL;
    s->config.graph->fault = NULL;
    s->config.graph->monitor = NULL;
    timer_disarm(&s->drain_timer);
    qmp_event_drop_all(s);
    for (unsigned i = 0; i < s->nlisteners; i++) {
        assert(!s->listeners[i].accepting);
        listener_close(&s->listeners[i].at);
    }
    for (unsigned i = 0; i < s->ndisks; i++) {
        free(s->disks[i].id);
    }
    free(s->disks);
    free(s);
}

int qmp_server_add_disk(struct qmp_server *s, const char *id, struct node *n, struct err *err)
{
    if (s->ndisks == QMP_DISKS_MAX) {
        return err_set(err, -EINVAL, "more than %u disks", QMP_DISKS_MAX);
    }
    if (!*id || strlen(id) > 255) {
        return err_set(err, -EINVAL, "the id of a disk has 1 to 255 bytes");
    }
    if (qmp_find_disk(s, id) || graph_find(s->config.graph, id)) {
        return err_set(err, -EINVAL, "the id '%s' is in use: every disk and node has a name of its own", id);
    }
    struct qmp_disk *grown = realloc(s->disks, (s->ndisks + 1) * sizeof(*grown));
    if (grown) {
        s->disks = grown;
        grown[s->ndisks] = (struct qmp_disk){.id = strdup(id), .node = n};
    }
    if (!grown || !grown[s->ndisks].id) {
        return err_set(err, -ENOMEM, "no memory for disk '%s'", id);
    }
    s->ndisks++;
    return 0;
}

/* ---- accepting ---- */

int qmp_server_adopt(struct qmp_server *s, int fd)
{
    if (s->stopping) {
        close(fd);
        return -ESHUTDOWN;
    }
    return qmp_conn_start(s, fd);
}

static bool wait_for_slot(struct qmp_server *s)
{
    while (!s->stopping && s->nconns >= QMP_CLIENTS_MAX) {
        if (!s->told_full) {
            s->told_full = true;
            qmp_notice(s, "%u QMP clients are connected, the most allowed: others have to wait", s->nconns);
        }
        co_queue_wait(&s->slot);
    }
    return !s->stopping;
}

static co_fn void accept_one(struct qmp_listener *l)
{
    int fd = accept4(l->at.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int on = 1;

    if (fd >= 0) {
        if (!l->at.path) {
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)); /* notice hosts that vanish */
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        }
        if (qmp_conn_start(l->server, fd) < 0) {
            qmp_notice(l->server, "no memory for another QMP client");
        }
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (!l->server->told_starved) {
            l->server->told_starved = true;
            qmp_notice(l->server, "cannot accept a QMP client: %s; trying again until it works",
                       err_name(errno));
        }
        co_sleep_ns(ACCEPT_RETRY_NS);
    } /* anything else: the client has gone again */
}

static void accept_clients(void *listener)
{
    struct qmp_listener *l = listener;
    struct qmp_server *s = l->server;

    while (wait_for_slot(s)) {
        int rc = fd_poll(l->at.fd, POLLIN, UINT64_MAX);
        if (s->stopping) {
            break;
        }
        if (rc < 0) {
            qmp_notice(s, "%s: cannot accept QMP clients: %s", l->at.address, err_name(rc));
            break;
        }
        if (s->nconns < QMP_CLIENTS_MAX) {
            accept_one(l);
        }
    }
    listener_close(&l->at);
    l->accepting = false;
    co_queue_wake_all(&s->changed);
}

/* ---- listening ---- */

/* What stands behind the address, separated by commas. */
struct listen_options {
    bool remote;
};

static int take_switch(const char *word, const char *name, bool *ret_known, bool *ret_on)
{
    size_t len = strlen(name);

    *ret_known = strncmp(word, name, len) == 0 && (word[len] == '\0' || word[len] == '=');
    if (!*ret_known) {
        return 0;
    }
    const char *value = word[len] ? word + len + 1 : "on";
    *ret_on = strcmp(value, "on") == 0;
    return *ret_on || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

/* server, nowait and their kin: we are a server, and wait for nobody. */
static int take_listen_option(struct listen_options *o, const char *address, const char *word,
                              struct err *err)
{
    bool known, on;

    if (take_switch(word, "allow-remote", &known, &on) < 0) {
        return err_set(err, -EINVAL, "QMP on '%s': '%s': expected on or off", address, word);
    }
    if (known) {
        o->remote = on;
        return 0;
    }
    if (take_switch(word, "server", &known, &on) < 0 || (known && !on)) {
        return err_set(err, -EINVAL, "QMP on '%s': '%s': a server is all that this can be", address, word);
    }
    if (!known && (take_switch(word, "wait", &known, &on) < 0 || (known && on))) {
        return err_set(err, -EINVAL, "QMP on '%s': '%s': it never waits for a client: say wait=off", address,
                       word);
    }
    return known || strcmp(word, "nowait") == 0
               ? 0
               : err_set(err, -EINVAL, "QMP on '%s': '%s' is none of server=on, wait=off, allow-remote=on",
                         address, word);
}

static int split_options(const char *address, char *text, struct listen_options *o, struct err *err)
{
    char *rest = strchr(text, ',');

    while (rest) {
        *rest++ = '\0';
        char *word = rest;
        rest = strchr(word, ',');
        if (rest) {
            *rest = '\0';
        }
        int r = take_listen_option(o, address, word, err);
        if (r < 0) {
            return r;
        }
        if (rest) {
            *rest = ',';
        }
    }
    return 0;
}

int qmp_server_listen(struct qmp_server *s, const char *address, struct err *err)
{
    AUTO_FREE char *text = strdup(address);
    struct listen_options o = {0};

    if (!text) {
        return err_set(err, -ENOMEM, "no memory to listen on '%s'", address);
    }
    if (s->nlisteners == QMP_LISTENERS_MAX) {
        return err_set(err, -EINVAL, "more than %u addresses for QMP", QMP_LISTENERS_MAX);
    }
    int r = split_options(address, text, &o, err);
    if (r < 0) {
        return r;
    }
    struct qmp_listener *l = &s->listeners[s->nlisteners];
    *l = (struct qmp_listener){.server = s};
    r = listener_open(&l->at, text, QMP_PORT_DEFAULT, LISTEN_PRIVATE | (o.remote ? 0 : LISTEN_LOCAL), err);
    if (r < 0) {
        return r == -EACCES && !o.remote ? err_prefix(err, "QMP: ") : r;
    }
    l->accepting = true;
    if (co_start_later(accept_clients, l) < 0) {
        l->accepting = false;
        listener_close(&l->at);
        return err_set(err, -ENOMEM, "no memory to listen on '%s'", address);
    }
    s->nlisteners++;
    return 0;
}

const char *qmp_server_address(const struct qmp_server *s, unsigned n)
{
    return n < s->nlisteners ? s->listeners[n].at.address : NULL;
}

/* ---- the end ---- */

void qmp_server_stop(struct qmp_server *s, const char *reason)
{
    struct qmp_conn *c;

    if (s->stopping) {
        return;
    }
    if (!s->told_shutdown) {
        qmp_event_send_held(s);
        qmp_server_event(s, "SHUTDOWN", json_pack("{s:b, s:s}", "guest", 0, "reason", reason));
    }
    s->stopping = true;
    s->config.graph->paused = false; /* what stop holds up would never end */
    co_queue_wake_all(&s->config.graph->resumed);
    for (unsigned i = 0; i < s->nlisteners; i++) {
        if (s->listeners[i].accepting) {
            fd_poll_cancel(s->listeners[i].at.fd);
        }
    }
    co_queue_wake_all(&s->slot);
    list_for_each (c, &s->conns, link) {
        qmp_conn_stop(c);
    }
    timer_arm(&s->drain_timer, loop_clock_ns() + QMP_DRAIN_NS);
}

static bool is_busy(const struct qmp_server *s)
{
    for (unsigned i = 0; i < s->nlisteners; i++) {
        if (s->listeners[i].accepting) {
            return true;
        }
    }
    return s->nconns > 0 || s->busy > 0;
}

void qmp_server_wait(struct qmp_server *s)
{
    while (is_busy(s)) {
        co_queue_wait(&s->changed);
    }
    timer_disarm(&s->drain_timer);
    qmp_exports_finish(s);
    qmp_nodes_finish(s);
}
