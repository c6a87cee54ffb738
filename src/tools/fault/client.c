/* SPDX-License-Identifier: BSD-2-Clause */
/* A small QMP client: one command at a time, events in between. */
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/json.h"
#include "tools/fault/fault.h"

#define BUF_BYTES (64 * KiB)

/* ---- connecting ---- */

struct connecting {
    const char *address;
    struct err *err;
    int fd;
};

static int connect_unix(struct connecting *c, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (!*path || strlen(path) >= sizeof(sa.sun_path)) {
        return err_set(c->err, -EINVAL, "connect to '%s': the path of a socket has 1 to %zu bytes",
                       c->address, sizeof(sa.sun_path) - 1);
    }
    strcpy(sa.sun_path, path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        return err_set_errno(c->err, -errno, "connect to '%s'", c->address);
    }
    return 0;
}

static int connect_tcp(struct connecting *c, const char *text)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(text, ':');
    bool bracketed = *text == '[' && colon && colon > text && colon[-1] == ']';
    struct addrinfo *found;
    int code = -ECONNREFUSED;

    if (!colon || !colon[1]) {
        return err_set(c->err, -EINVAL, "connect to '%s': expected unix:PATH or tcp:HOST:PORT", c->address);
    }
    AUTO_FREE char *host = strndup(text + bracketed, (size_t)(colon - text) - 2 * bracketed);
    if (!host) {
        return err_set(c->err, -ENOMEM, "no memory for a host name");
    }
    int rc = getaddrinfo(*host ? host : "localhost", colon + 1, &hints, &found);
    if (rc != 0) {
        return err_set(c->err, -EINVAL, "connect to '%s': %s", c->address, gai_strerror(rc));
    }
    for (const struct addrinfo *ai = found; ai && code < 0; ai = ai->ai_next) {
        int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        code = fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 ? -errno : 0;
        if (code == 0) {
            c->fd = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    freeaddrinfo(found);
    return code < 0 ? err_set_errno(c->err, code, "connect to '%s'", c->address) : 0;
}

/* Blocking, so it runs on a worker thread. Options of the server's side are passed over. */
static int connect_now(void *arg)
{
    struct connecting *c = arg;
    AUTO_FREE char *text = strndup(c->address, strcspn(c->address, ","));
    int r;

    if (!text) {
        return err_set(c->err, -ENOMEM, "no memory for an address");
    }
    if (strncmp(text, "unix:", 5) == 0) {
        r = connect_unix(c, text + 5);
    } else if (strncmp(text, "tcp:", 4) == 0) {
        r = connect_tcp(c, text + 4);
    } else {
        r = strchr(text, '/') ? connect_unix(c, text) : connect_tcp(c, text);
    }
    if (r == 0 && fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0) {
        r = err_set_errno(c->err, -errno, "connect to '%s'", c->address);
    }
    return r;
}

/* ---- messages ---- */

static int lost(struct err *err)
{
    return err_set(err, -ECONNRESET, "the server has closed the connection");
}

/* The next message, the caller's. */
static co_fn int receive(struct client *c, uint64_t deadline_ns, json_t **ret_message, struct err *err)
{
    for (;;) {
        int r = qmp_stream_next(&c->stream, c->buf, c->to, &c->from, ret_message, err);
        if (r != 0) {
            return r < 0 ? err_prefix(err, "the server's answer: ") : 0;
        }
        r = fd_poll(c->fd, POLLIN, deadline_ns);
        if (r < 0) {
            return r == -ETIMEDOUT ? r : err_set(err, r, "interrupted");
        }
        ssize_t n = sock_recv(c->fd, c->buf, BUF_BYTES);
        if (n <= 0) {
            return lost(err);
        }
        c->from = 0;
        c->to = (size_t)n;
    }
}

static bool take_event(struct client *c, json_t *message)
{
    if (!json_object_get(message, "event")) {
        return false;
    }
    if (c->event) {
        c->event(c->opaque, message);
    }
    return true;
}

int client_execute(struct client *c, const char *command, json_t *args, json_t **ret_result, struct err *err)
{
    AUTO_JSON json_t *request = json_pack("{s:s}", "execute", command);

    if (args) {
        json_object_set_new(request, "arguments", args);
    }
    AUTO_FREE char *text = json_text(request);
    struct iovec iov[] = {{text, text ? strlen(text) : 0}, {(void *)"\r\n", 2}};
    if (!text || sock_send_all(c->fd, iov, 2) < 0) {
        return lost(err);
    }
    for (;;) {
        AUTO_JSON json_t *message = NULL;
        int r = receive(c, UINT64_MAX, &message, err);
        if (r < 0) {
            return r;
        }
        if (take_event(c, message)) {
            continue;
        }
        json_t *result = json_object_get(message, "return");
        if (!result) {
            const char *why = json_string_value(json_object_get(json_object_get(message, "error"), "desc"));
            return err_set(err, -EREMOTEIO, "%s", why ? why : "the server's answer is none");
        }
        *ret_result = json_incref(result);
        return 0;
    }
}

int client_events(struct client *c, uint64_t deadline_ns, struct err *err)
{
    for (;;) {
        AUTO_JSON json_t *message = NULL;
        int r = receive(c, deadline_ns, &message, err);
        if (r < 0) {
            return r;
        }
        take_event(c, message);
    }
}

/* ---- life ---- */

int client_connect(struct client *c, const char *address, struct err *err)
{
    struct connecting now = {.address = address, .err = err, .fd = -1};
    AUTO_JSON json_t *message = NULL, *result = NULL;

    c->buf = malloc(BUF_BYTES);
    int r = c->buf ? loop_work(connect_now, &now) : err_set(err, -ENOMEM, "no memory for a client");
    c->fd = now.fd;
    if (r == 0 && (r = receive(c, UINT64_MAX, &message, err)) == 0 && !json_object_get(message, "QMP")) {
        r = err_set(err, -EPROTO, "'%s' does not speak QMP", address);
    }
    return r < 0 ? r : client_execute(c, "qmp_capabilities", NULL, &result, err);
}

void client_interrupt(struct client *c)
{
    if (c->fd >= 0) {
        shutdown(c->fd, SHUT_RDWR);
    }
}

void client_close(struct client *c)
{
    if (c->fd >= 0) {
        close(TAKE_FD(c->fd));
    }
    qmp_stream_finish(&c->stream);
    free(TAKE_PTR(c->buf));
}
