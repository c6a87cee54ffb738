/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile NBD server against our client driver. libnbd owns its sockets, so this runs on a real
 * engine: a unix socket of this process, whose other end answers with the fuzzer's bytes. The first
 * byte says how far a well-formed server goes before the bytes take over:
 *   bit 0  greeting and NBD_OPT_GO answered (an export of 1 MiB), options before it refused
 *   bit 1  structured replies granted on the way
 *   bit 2  the rest are pieces of replies behind right magics and cookies, instead of raw bytes
 * Whatever comes, opening and requests end with a result, and nothing is left behind.
 */
#include <poll.h>
#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "base/json.h"
#include "block/block.h"
#include "wire/nbd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int listener = -1;
static char path[64];

struct server {
    const uint8_t *data;
    size_t size;
    int fd;
};

static void make_listener(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(path, sizeof(path), "/tmp/blkproof-fuzz-%d.sock", (int)getpid());
    memcpy(addr.sun_path, path, sizeof(path));
    unlink(path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(listener, 8) < 0) {
        abort();
    }
}

/* The driver may have a second connection waiting in the backlog: it goes with the socket. */
static void remove_listener(void)
{
    close(listener);
    unlink(path);
}

static co_fn int put(struct server *s, const void *buf, size_t len)
{
    struct iovec iov = {(void *)buf, len};

    return len > 0 ? sock_send_all(s->fd, &iov, 1) : 0;
}

static co_fn bool get(struct server *s, void *buf, size_t len)
{
    for (size_t have = 0; have < len;) {
        ssize_t n = sock_recv(s->fd, (char *)buf + have, len - have);
        if (n <= 0) {
            return false;
        }
        have += (size_t)n;
    }
    return true;
}

static co_fn int put_option_reply(struct server *s, uint32_t option, uint32_t type, const void *data,
                                  uint32_t len)
{
    uint8_t head[20];

    put_be64(head, NBD_OPT_REPLY_MAGIC);
    put_be32(head + 8, option);
    put_be32(head + 12, type);
    put_be32(head + 16, len);
    int r = put(s, head, sizeof(head));
    return r < 0 ? r : put(s, data, len);
}

/* Answer options until the client has entered the export. */
static co_fn bool handshake(struct server *s, bool structured)
{
    uint8_t greeting[18], option[16], payload[4096], info[12];

    memcpy(greeting, "NBDMAGICIHAVEOPT", 16);
    put_be16(greeting + 16, 3);
    if (put(s, greeting, sizeof(greeting)) < 0 || !get(s, payload, 4)) {
        return false;
    }
    while (get(s, option, sizeof(option))) {
        uint32_t type = get_be32(option + 8), len = get_be32(option + 12);
        if (len > sizeof(payload) || !get(s, payload, len)) {
            return false;
        }
        if (type == NBD_OPT_GO) {
            put_be16(info, 0); /* NBD_INFO_EXPORT */
            put_be64(info + 2, UINT64_C(1) << 20);
            put_be16(info + 10, 0x0fff & ~2); /* every ability, not read-only */
            return put_option_reply(s, type, NBD_REP_INFO, info, sizeof(info)) == 0 &&
                   put_option_reply(s, type, NBD_REP_ACK, NULL, 0) == 0;
        }
        bool grant = structured && type == NBD_OPT_STRUCTURED_REPLY;
        if (put_option_reply(s, type, grant ? NBD_REP_ACK : NBD_REP_ERR_UNSUP, NULL, 0) < 0) {
            return false;
        }
    }
    return false;
}

/* For each request one reply made of 12 bytes: kind, error (1), flags, type (2), length (2), offset (4). */
static co_fn void answer(struct server *s)
{
    static const uint8_t zeroes[65536];
    uint8_t request[28], reply[32];

    while (s->size >= 12 && get(s, request, sizeof(request))) {
        const uint8_t *d = s->data;
        uint32_t len = get_be16(d + 5);
        s->data += 12;
        s->size -= 12;
        if (get_be16(request + 6) == 1) { /* a write: take its payload */
            static uint8_t sink[65536];
            uint32_t left = get_be32(request + 24);
            while (left > 0 && get(s, sink, MIN(left, (uint32_t)sizeof(sink)))) {
                left -= MIN(left, (uint32_t)sizeof(sink));
            }
        }
        bool simple = d[0] & 1;
        put_be32(reply, simple ? 0x67446698 : 0x668e33ef);
        if (simple) {
            put_be32(reply + 4, d[1]);
        } else {
            put_be16(reply + 4, d[2]);
            put_be16(reply + 6, get_be16(d + 3));
            put_be32(reply + 16, len);
        }
        memcpy(reply + 8, request + 8, 8);
        if (d[0] & 2) {
            reply[15] ^= d[0]; /* somebody else's cookie */
        }
        if (put(s, reply, simple ? 16 : 20) < 0) {
            return;
        }
        if (!simple && len >= 8) { /* most chunks begin with an offset */
            put_be64(reply, get_be32(d + 7));
            put(s, reply, 8);
            len -= 8;
        }
        put(s, zeroes, simple ? (d[0] & 4 ? get_be32(request + 24) % sizeof(zeroes) : 0) : len);
    }
}

static int serve(void *arg)
{
    struct server *s = arg;

    if (fd_poll(listener, POLLIN, UINT64_MAX) < 0) {
        return 0;
    }
    s->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s->fd < 0) {
        return 0;
    }
    uint8_t how = s->data[0];
    s->data++;
    s->size--;
    if (!(how & 1) || handshake(s, how & 2)) {
        if (how & 4) {
            answer(s);
        } else {
            put(s, s->data, s->size);
        }
    }
    shutdown(s->fd, SHUT_RDWR);
    close(s->fd);
    return 0;
}

static co_fn void use(struct node *n)
{
    char *buf = buf_get(64 * KiB);
    struct extent e;

    if (buf) {
        node_read(n, 0, buf, 512);
        node_write(n, 4096, buf, 100, 0);
        node_status(n, 0, 65536, &e);
        node_read(n, 65536, buf, 64 * KiB);
        node_zero(n, 0, 4096, 0);
        node_discard(n, 0, 4096);
        node_flush(n);
    }
    buf_put(buf, 64 * KiB);
}

static int session(void *arg)
{
    struct co_group group;
    struct co_task task;
    struct graph g;
    struct node *n = NULL;
    struct err err = {0};
    AUTO_JSON json_t *options = json_pack("{s:s, s:s, s:s, s:s}", "driver", "nbd", "path", path,
                                          "request-timeout", "20ms", "connect-timeout", "20ms");

    graph_init(&g);
    co_group_init(&group);
    co_group_start(&group, &task, serve, arg);
    if (node_open(&g, options, OPEN_WRITE | OPEN_UNMAP, &n, &err) == 0) {
        use(n);
        node_unref(n);
    } else if (!*err.text) {
        abort(); /* every failure has its sentence */
    }
    fd_poll_cancel(listener); /* if the client never came */
    co_group_wait(&group);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct server s = {data, size, -1};
    struct loop *loop;

    if (size == 0 || loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL) < 0) {
        return 0;
    }
    make_listener();
    loop_run(loop, session, &s);
    remove_listener();
    loop_destroy(loop);
    return 0;
}
