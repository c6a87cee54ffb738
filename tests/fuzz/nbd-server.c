/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile NBD client against our server, on the simulated network. The first byte says how far a
 * well-formed client goes before the bytes take over:
 *   bit 0  greeting answered and the export entered with NBD_OPT_GO
 *   bit 1  structured replies and base:allocation negotiated before that
 *   bit 2  the rest are pieces of requests behind a right magic, instead of raw bytes
 *   bit 3  the connection breaks at the end, instead of closing
 * Whatever comes, the server must end the connection without a crash, a leak or a hang.
 */
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "export/nbd/server.h"
#include "sim/sim.h"
#include "wire/nbd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
};

struct client {
    int fd;
    bool gone;
};

/* What the server says is read and dropped, so that it never waits for us. */
static int drain(void *arg)
{
    struct client *c = arg;
    char buf[4096];

    while (sock_recv(c->fd, buf, sizeof(buf)) > 0) {
    }
    c->gone = true;
    return 0;
}

static co_fn void put(struct client *c, const void *buf, size_t len)
{
    struct iovec iov = {(void *)buf, len};

    if (len > 0) {
        sock_send_all(c->fd, &iov, 1);
    }
}

static co_fn void put_option(struct client *c, uint32_t option, const void *payload, uint32_t len)
{
    uint8_t head[16];

    put_be64(head, NBD_OPT_MAGIC);
    put_be32(head + 8, option);
    put_be32(head + 12, len);
    put(c, head, sizeof(head));
    put(c, payload, len);
}

static co_fn void handshake(struct client *c, bool structured)
{
    static const char context[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation"; /* export "", one query */
    static const char go[6] = {0};                                            /* export "", no requests */
    uint8_t flags[4];

    put_be32(flags, 3); /* fixed newstyle, no zeroes */
    put(c, flags, sizeof(flags));
    if (structured) {
        put_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        put_option(c, NBD_OPT_SET_META_CONTEXT, context, sizeof(context) - 1);
    }
    put_option(c, NBD_OPT_GO, go, sizeof(go));
}

/* 14 bytes make a request: flags, type, offset (4, in bytes), length (4), cookie (2); writes get a
 * payload of their length's low bits. */
static co_fn void put_requests(struct client *c, const uint8_t *data, size_t size)
{
    static const uint8_t payload[1024];

    for (; size >= 14 && !c->gone; data += 14, size -= 14) {
        uint8_t r[28] = {0};
        uint32_t len = get_be32(data + 8);
        uint16_t type = data[3] % 10;
        if (type == 1) {
            len %= sizeof(payload);
        }
        put_be32(r, 0x25609513); /* NBD_REQUEST_MAGIC */
        put_be16(r + 4, get_be16(data));
        put_be16(r + 6, type);
        put_be64(r + 8, get_be16(data + 12));
        put_be64(r + 16, get_be32(data + 4));
        put_be32(r + 24, len);
        put(c, r, sizeof(r));
        if (type == 1) {
            put(c, payload, len);
        }
    }
}

static int session(void *arg)
{
    const struct input *in = arg;
    const struct sim_net net = {.chunk_max = 512};
    uint8_t how = in->data[0];
    struct graph g;
    struct node *n = NULL;
    struct nbd_server *s = NULL;
    struct client c = {0};
    int fd[2];

    graph_init(&g);
    if (node_open_name(&g, "mem://1M", NULL, OPEN_WRITE | OPEN_UNMAP, &n, NULL) < 0 ||
        nbd_server_create(&(struct nbd_server_config){.handshake_timeout_ns = NS_PER_SEC}, &s, NULL) < 0 ||
        nbd_server_export(s, "disk", n, false, NULL, NULL) < 0 || sim_pair(&net, fd) < 0 ||
        nbd_server_adopt(s, fd[0]) < 0) {
        abort();
    }
    struct co_group group;
    struct co_task task;
    c.fd = fd[1];
    co_group_init(&group);
    co_group_start(&group, &task, drain, &c);
    if (how & 1) {
        handshake(&c, how & 2);
    }
    if (how & 4) {
        put_requests(&c, in->data + 1, in->size - 1);
    } else {
        put(&c, in->data + 1, in->size - 1);
    }
    if (how & 8) {
        sim_net_break(c.fd);
    } else {
        shutdown(c.fd, SHUT_WR);
    }
    co_group_wait(&group);
    nbd_server_stop(s);
    nbd_server_wait(s);
    close(c.fd);
    nbd_server_destroy(s);
    node_unref(n);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > 0) {
        sim_run(1, session, &in, NULL);
    }
    return 0;
}
