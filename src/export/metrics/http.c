/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GET /metrics. libmicrohttpd speaks HTTP and limits what clients may use; it has no thread here: a coroutine
 * of the loop runs it when its descriptor says that there is something to do.
 */
#include <microhttpd.h>
#include <poll.h>

#include "export/listen.h"
#include "export/metrics/metrics.h"
#include "loop/loop.h"

#define CLIENTS_MAX   16u
#define CLIENT_MEMORY (32 * KiB) /* of a request's head; the answer has its own */
#define IDLE_S        15u

struct metrics_server {
    struct metrics_config config;
    struct listener at;
    struct MHD_Daemon *http;
    int fd; /* readable when there is something to do; the library's */
    bool stopping, running;
    struct co_queue stopped;
};

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, const char *text,
                              enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, mode);

    if (!r) {
        return MHD_NO;
    }
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    enum MHD_Result ret = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ret;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    static const char plain[] = "text/plain; charset=utf-8";
    static char seen;
    struct metrics_server *m = arg;

    if (!*state) { /* its head only: take the body first, so that the connection can be used again */
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return answer(c, MHD_HTTP_METHOD_NOT_ALLOWED, plain, "only GET and HEAD\n", MHD_RESPMEM_PERSISTENT);
    }
    if (strcmp(url, "/metrics") != 0) {
        return answer(c, MHD_HTTP_NOT_FOUND, plain, "the metrics are at /metrics\n", MHD_RESPMEM_PERSISTENT);
    }
    char *text = metrics_text(&m->config);
    if (!text) {
        return answer(c, MHD_HTTP_INTERNAL_SERVER_ERROR, plain, "no memory\n", MHD_RESPMEM_PERSISTENT);
    }
    return answer(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, MHD_RESPMEM_MUST_FREE);
}

/* When the library wants to be called though nothing has come. */
static uint64_t next_deadline_ns(const struct metrics_server *m)
{
    MHD_UNSIGNED_LONG_LONG ms;

    return MHD_get_timeout(m->http, &ms) == MHD_YES ? loop_clock_ns() + ms * NS_PER_MS : UINT64_MAX;
}

static void run(void *arg)
{
    struct metrics_server *m = arg;

    while (!m->stopping) {
        int r = fd_poll(m->fd, POLLIN, next_deadline_ns(m));
        if (r < 0 && r != -ETIMEDOUT) {
            break;
        }
        MHD_run(m->http);
    }
    m->running = false;
    co_queue_wake_all(&m->stopped);
}

static int start_http(struct metrics_server *m, struct err *err)
{
    m->http = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ITC, 0, NULL, NULL, on_request, m,
                               MHD_OPTION_LISTEN_SOCKET, m->at.fd, MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MAX,
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY,
                               MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        m->http ? MHD_get_daemon_info(m->http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        return err_set(err, -EIO, "%s: cannot start the HTTP server", m->at.address);
    }
    m->fd = info->epoll_fd;
    return 0;
}

int metrics_start(const struct metrics_config *config, const char *address,
                  struct metrics_server **ret_server, struct err *err)
{
    struct metrics_server *m = calloc(1, sizeof(*m));

    if (!m) {
        return err_set(err, -ENOMEM, "no memory for a server of metrics");
    }
    m->config = *config;
    m->at.fd = -1;
    co_queue_init(&m->stopped);
    int r = listener_open(&m->at, address, METRICS_PORT, LISTEN_LOCAL, err);
    if (r == 0) {
        r = start_http(m, err);
    }
    if (r == 0) {
        m->running = co_start_later(run, m) == 0;
        r = m->running ? 0 : err_set(err, -ENOMEM, "no memory for a server of metrics");
    }
    if (r < 0) {
        metrics_stop(m);
        return r;
    }
    *ret_server = m;
    return 0;
}

const char *metrics_address(const struct metrics_server *m)
{
    return m->at.address;
}

void metrics_stop(struct metrics_server *m)
{
    if (!m) {
        return;
    }
    m->stopping = true;
    if (m->running) {
        fd_poll_cancel(m->fd);
    }
    while (m->running) {
        co_queue_wait(&m->stopped);
    }
    if (m->http) {
        MHD_quiesce_daemon(m->http); /* or it would close the listener's socket */
        MHD_stop_daemon(m->http);
    }
    listener_close(&m->at);
    free(m);
}
