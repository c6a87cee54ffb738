/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening sockets; see listen.h. */
#include "export/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "loop/loop.h"

#define LISTEN_BACKLOG 128

/* Has the process that listens at the other end died? The kernel lets go of a killed process's io_uring,
 * and of the sockets it holds, a while after the process is gone: connecting still works then. */
static bool listener_is_dead(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0 &&
           kill(peer.pid, 0) < 0 && errno == ESRCH;
}

/* A socket file that nobody listens on is what a killed server left. */
static bool is_stale(const struct sockaddr_un *sa)
{
    struct stat st;

    if (lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    return connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? errno == ECONNREFUSED
                                                                     : listener_is_dead(fd);
}

static int listen_unix(struct listener *l, const char *path, unsigned flags, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (!*path || strlen(path) >= sizeof(sa.sun_path)) {
        return err_set(err, -EINVAL, "listen on 'unix:%s': the path of a socket has 1 to %zu bytes", path,
                       sizeof(sa.sun_path) - 1);
    }
    strcpy(sa.sun_path, path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_set_errno(err, -errno, "listen on 'unix:%s'", path);
    }
    if (flags & LISTEN_PRIVATE) {
        fchmod(fd, 0600); /* which the file that bind makes gets */
    }
    int rc = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
    if (rc < 0 && errno == EADDRINUSE && is_stale(&sa)) {
        unlink(path);
        rc = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
    }
    if (rc < 0) {
        return err_set_errno(err, -errno, "listen on 'unix:%s'", path);
    }
    l->path = realpath(path, NULL); /* so that its URI can be used from everywhere */
    if (!l->path || asprintf(&l->address, "unix:%s", l->path) < 0) {
        l->address = NULL;
        unlink(path);
        return err_set(err, -ENOMEM, "no memory to listen on 'unix:%s'", path);
    }
    if (listen(fd, LISTEN_BACKLOG) < 0) {
        int code = -errno;
        unlink(path);
        return err_set_errno(err, code, "listen on 'unix:%s'", path);
    }
    l->fd = TAKE_FD(fd);
    return 0;
}

/* "[HOST][:PORT]", with an IPv6 address in brackets. */
static int split_host(const char *text, unsigned default_port, char **ret_host, unsigned *ret_port,
                      struct err *err)
{
    const char *end = *text == '[' ? strchr(text, ']') : NULL;
    const char *colon = strrchr(end ? end : text, ':');
    const char *host = end ? text + 1 : text;
    size_t host_len = end ? (size_t)(end - host) : colon ? (size_t)(colon - text) : strlen(text);
    unsigned long port = default_port;

    if (*text == '[' && (!end || (end[1] && end[1] != ':'))) {
        return err_set(err, -EINVAL, "listen on 'tcp:%s': expected tcp:[ADDRESS]:PORT", text);
    }
    if (!end && colon && memchr(text, ':', host_len)) {
        return err_set(err, -EINVAL, "listen on 'tcp:%s': put an IPv6 address in brackets", text);
    }
    if (colon) {
        char *rest;
        errno = 0;
        port = strtoul(colon + 1, &rest, 10);
        if (!colon[1] || *rest || errno || port > 65535 || colon[1] == '-' || colon[1] == '+') {
            return err_set(err, -EINVAL, "listen on 'tcp:%s': the port is a number from 0 to 65535", text);
        }
    }
    char *copy = strndup(host, host_len);
    if (!copy) {
        return err_set(err, -ENOMEM, "no memory to listen on 'tcp:%s'", text);
    }
    *ret_host = copy;
    *ret_port = (unsigned)port;
    return 0;
}

struct lookup {
    const char *host;
    unsigned port;
    struct addrinfo *found;
};

/* Blocking, so it runs on a worker thread. */
static int look_up(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char port[16];

    snprintf(port, sizeof(port), "%u", l->port);
    return getaddrinfo(*l->host ? l->host : NULL, port, &hints, &l->found);
}

static bool all_local(const struct addrinfo *ai)
{
    for (; ai; ai = ai->ai_next) {
        const struct sockaddr_in *v4 = (const void *)ai->ai_addr;
        const struct sockaddr_in6 *v6 = (const void *)ai->ai_addr;
        if (ai->ai_family == AF_INET6 ? !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)
                                      : (ntohl(v4->sin_addr.s_addr) >> IN_CLASSA_NSHIFT) != IN_LOOPBACKNET) {
            return false;
        }
    }
    return true;
}

static int bind_tcp(const struct addrinfo *ai)
{
    int on = 1, off = 0;
    AUTO_CLOSE int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)); /* "any" means IPv4 as well */
    }
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
        return 0;
    }
    return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)&ss)->sin_port);
}

static co_fn int listen_tcp(struct listener *l, const char *text, unsigned default_port, unsigned flags,
                            struct err *err)
{
    struct lookup look = {0};
    int fd = -EADDRNOTAVAIL;

    int rc = split_host(text, default_port, &l->host, &look.port, err);
    if (rc < 0) {
        return rc;
    }
    look.host = l->host;
    rc = loop_work(look_up, &look);
    if (rc != 0) {
        return err_set(err, -EINVAL, "listen on 'tcp:%s': %s", text, gai_strerror(rc));
    }
    if ((flags & LISTEN_LOCAL) && !all_local(look.found)) {
        freeaddrinfo(look.found);
        return err_set(err, -EACCES,
                       "listen on 'tcp:%s': that is open to other machines: use localhost, or say so with "
                       "allow-remote=on",
                       text);
    }
    /* Any address: the IPv6 one first, which takes both kinds. */
    for (const struct addrinfo *ai = *l->host ? NULL : look.found; ai && fd < 0; ai = ai->ai_next) {
        fd = ai->ai_family == AF_INET6 ? bind_tcp(ai) : fd;
    }
    for (const struct addrinfo *ai = look.found; ai && fd < 0; ai = ai->ai_next) {
        fd = bind_tcp(ai);
    }
    freeaddrinfo(look.found);
    if (fd < 0) {
        return err_set_errno(err, fd, "listen on 'tcp:%s'", text);
    }
    l->port = bound_port(fd);
    const char *form = strchr(l->host, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u";
    if (asprintf(&l->address, form, l->host, l->port) < 0) {
        l->address = NULL;
        close(fd);
        return err_set(err, -ENOMEM, "no memory to listen on 'tcp:%s'", text);
    }
    l->fd = fd;
    return 0;
}

int listener_open(struct listener *l, const char *address, unsigned default_port, unsigned flags,
                  struct err *err)
{
    struct listener made = {.fd = -1};
    int rc;

    if (strncmp(address, "unix:", 5) == 0) {
        rc = listen_unix(&made, address + 5, flags, err);
    } else if (strncmp(address, "tcp:", 4) == 0) {
        rc = listen_tcp(&made, address + 4, default_port, flags, err);
    } else {
        rc = err_set(err, -EINVAL, "listen on '%s': expected unix:PATH or tcp:HOST:PORT", address);
    }
    if (rc < 0) {
        listener_close(&made);
        return rc;
    }
    *l = made;
    return 0;
}

void listener_close(struct listener *l)
{
    if (l->fd >= 0) {
        close(TAKE_FD(l->fd));
        if (l->path) {
            unlink(l->path);
        }
    }
    free(TAKE_PTR(l->path));
    free(TAKE_PTR(l->address));
    free(TAKE_PTR(l->host));
}
