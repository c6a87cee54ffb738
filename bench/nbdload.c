/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A load for NBD servers: one connection on a unix socket, a fixed number of requests in flight, so
 * cheap that the server is what is measured: no allocation, one receive and one send per batch,
 * payloads looked at by nobody. Relies on nothing of blkproof, so that every server is judged by the
 * same stranger. Speaks newstyle NBD_OPT_GO with simple replies
 * (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    DEPTH_MAX = 512,
    BLOCK_MAX = 32 << 20, /* what every server takes */
    REQUEST_LEN = 28,
    REPLY_LEN = 16,
    RECV_BYTES = 1 << 18,
};

enum op { OP_READ = 0, OP_WRITE = 1, OP_DISC = 2 }; /* NBD_CMD_* */

struct load {
    int fd;
    enum op op;
    bool random;
    uint32_t block, depth;
    uint64_t blocks; /* of the export */
    uint64_t next, rng;
    uint64_t sent, done;
    uint32_t queued;
    uint8_t requests[DEPTH_MAX][REQUEST_LEN];
    struct iovec iov[2 * DEPTH_MAX];
    uint8_t *payload, *sink;
    uint8_t buf[RECV_BYTES];
    size_t have, used;  /* of buf */
    uint64_t data_left; /* of the reply that is being received */
};

static _Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("nbdload: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void get(int fd, void *to, size_t len)
{
    for (char *p = to; len > 0;) {
        ssize_t n = recv(fd, p, len, MSG_WAITALL);
        if (n <= 0)
            die("the server hung up: %s", n < 0 ? strerror(errno) : "end of stream");
        p += n;
        len -= (size_t)n;
    }
}

static void put(int fd, struct iovec *iov, int niov)
{
    while (niov > 0) {
        ssize_t n = writev(fd, iov, niov < 1024 ? niov : 1024);
        if (n < 0)
            die("the server hung up: %s", strerror(errno));
        for (; niov > 0 && (size_t)n >= iov->iov_len; iov++, niov--)
            n -= (ssize_t)iov->iov_len;
        if (niov > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        die("socket name too long: %s", path);
    memcpy(sa.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die("%s: %s", path, strerror(errno));
    int bytes = 4 << 20; /* as any client that cares; capped by net.core.wmem_max */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    return fd;
}

/* Greeting, then NBD_OPT_GO for the export without a name. Returns its size. */
static uint64_t handshake(int fd)
{
    struct __attribute__((packed)) {
        uint64_t magic, opt_magic;
        uint16_t flags;
    } hello;
    get(fd, &hello, sizeof(hello));
    if (be64toh(hello.magic) != 0x4e42444d41474943 || be64toh(hello.opt_magic) != 0x49484156454F5054)
        die("not a newstyle NBD server");
    struct __attribute__((packed)) {
        uint32_t client_flags;
        uint64_t magic;
        uint32_t option, len, name_len;
        uint16_t infos;
    } go = {htobe32(3), htobe64(0x49484156454F5054), htobe32(7), htobe32(6), 0, 0};
    if (!(be16toh(hello.flags) & 2))
        go.client_flags = htobe32(1);
    put(fd, &(struct iovec){&go, sizeof(go)}, 1);
    uint64_t size = 0;
    for (;;) {
        struct __attribute__((packed)) {
            uint64_t magic;
            uint32_t option, type, len;
        } rep;
        uint8_t data[4096];
        get(fd, &rep, sizeof(rep));
        uint32_t len = be32toh(rep.len), type = be32toh(rep.type);
        if (be64toh(rep.magic) != 0x3e889045565a9 || len > sizeof(data))
            die("bad option reply");
        get(fd, data, len);
        if (type == 1) /* NBD_REP_ACK */
            return size;
        if (type != 3) /* NBD_REP_INFO */
            die("the server refused the export (reply %#x)", type);
        if (len >= 12 && data[0] == 0 && data[1] == 0) /* NBD_INFO_EXPORT */
            for (int i = 2; i < 10; i++)
                size = size << 8 | data[i];
    }
}

static uint64_t next_block(struct load *l)
{
    if (!l->random)
        return l->next++ % l->blocks;
    l->rng ^= l->rng << 13;
    l->rng ^= l->rng >> 7;
    l->rng ^= l->rng << 17;
    return l->rng % l->blocks;
}

static void queue(struct load *l)
{
    uint8_t *r = l->requests[l->queued];
    const uint32_t magic = htobe32(0x25609513), len = htobe32(l->block);
    const uint16_t type = htobe16((uint16_t)l->op);
    const uint64_t handle = l->sent++, offset = htobe64(next_block(l) * l->block);
    memcpy(r, &magic, 4);
    memset(r + 4, 0, 2);
    memcpy(r + 6, &type, 2);
    memcpy(r + 8, &handle, 8);
    memcpy(r + 16, &offset, 8);
    memcpy(r + 24, &len, 4);
    l->queued++;
}

static void send_queued(struct load *l)
{
    int n = 0;
    for (uint32_t i = 0; i < l->queued; i++) {
        l->iov[n++] = (struct iovec){l->requests[i], REQUEST_LEN};
        if (l->op == OP_WRITE)
            l->iov[n++] = (struct iovec){l->payload, l->block};
    }
    put(l->fd, l->iov, n);
    l->queued = 0;
}

/* Receive once; returns how many replies became complete. */
static uint32_t receive(struct load *l)
{
    if (l->used == l->have && l->data_left > sizeof(l->buf)) { /* bulk goes past the buffer */
        ssize_t n = recv(l->fd, l->sink, l->data_left, 0);
        if (n <= 0)
            die("the server hung up");
        l->data_left -= (uint64_t)n;
        return l->data_left == 0;
    }
    memmove(l->buf, l->buf + l->used, l->have - l->used);
    l->have -= l->used;
    l->used = 0;
    ssize_t n = recv(l->fd, l->buf + l->have, sizeof(l->buf) - l->have, 0);
    if (n <= 0)
        die("the server hung up");
    l->have += (size_t)n;
    uint32_t complete = 0;
    for (;;) {
        if (l->data_left > 0) {
            size_t take = l->have - l->used;
            if (take > l->data_left)
                take = l->data_left;
            l->used += take;
            l->data_left -= take;
            if (l->data_left > 0)
                return complete;
            complete++;
        }
        if (l->have - l->used < REPLY_LEN)
            return complete;
        uint32_t magic, error;
        memcpy(&magic, l->buf + l->used, 4);
        memcpy(&error, l->buf + l->used + 4, 4);
        if (be32toh(magic) != 0x67446698)
            die("bad reply magic %#x", be32toh(magic));
        if (error)
            die("the server answered error %u", be32toh(error));
        l->used += REPLY_LEN;
        if (l->op == OP_READ)
            l->data_left = l->block;
        else
            complete++;
    }
}

static void run(struct load *l, double seconds)
{
    const double start = now_s(), end = start + seconds;
    double t = start;
    for (uint32_t i = 0; i < l->depth; i++)
        queue(l);
    send_queued(l);
    while (l->done < l->sent) {
        uint32_t complete = receive(l);
        l->done += complete;
        t = now_s();
        if (t >= end)
            continue;
        for (uint32_t i = 0; i < complete; i++)
            queue(l);
        if (l->queued > 0)
            send_queued(l);
    }
    printf("{\"ops\": %llu, \"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)l->done,
           (unsigned long long)l->done * l->block, t - start);
    memset(l->requests[0], 0, REQUEST_LEN);
    l->op = OP_DISC;
    l->block = 0;
    queue(l);
    send_queued(l);
}

static uint64_t number(const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || end == text || v == 0 || v > max)
        die("'%s' is not a number from 1 to %llu", text, (unsigned long long)max);
    return v;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"op", 1, NULL, 'o'},
                                            {"block", 1, NULL, 'b'},
                                            {"depth", 1, NULL, 'd'},
                                            {"seconds", 1, NULL, 's'},
                                            {0}};
    static struct load l = {
        .op = OP_READ, .random = true, .block = 4096, .depth = 32, .rng = 88172645463325252};
    double seconds = 1;
    for (int c; (c = getopt_long(argc, argv, "o:b:d:s:", options, NULL)) != -1;) {
        switch (c) {
        case 'o':
            l.random = strncmp(optarg, "rand", 4) == 0;
            const char *what = optarg + (l.random ? 4 : 0);
            if (strcmp(what, "read") != 0 && strcmp(what, "write") != 0)
                die("'%s' is none of read, write, randread, randwrite", optarg);
            l.op = strcmp(what, "write") == 0 ? OP_WRITE : OP_READ;
            break;
        case 'b':
            l.block = (uint32_t)number(optarg, BLOCK_MAX);
            break;
        case 'd':
            l.depth = (uint32_t)number(optarg, DEPTH_MAX);
            break;
        case 's':
            seconds = strtod(optarg, NULL);
            break;
        default:
            return 2;
        }
    }
    if (optind != argc - 1) {
        fputs("usage: nbdload [--op read|write|randread|randwrite] [--block BYTES] [--depth N]\n"
              "               [--seconds S] SOCKET\n",
              stderr);
        return 2;
    }
    l.fd = connect_to(argv[optind]);
    l.blocks = handshake(l.fd) / l.block;
    if (l.blocks == 0)
        die("the export is smaller than a block of %u bytes", l.block);
    l.payload = malloc(l.block);
    l.sink = malloc(l.block);
    if (!l.payload || !l.sink)
        die("out of memory");
    for (uint32_t i = 0; i < l.block; i++)
        l.payload[i] = (uint8_t)(i * 7 + 1);
    run(&l, seconds);
    return 0;
}
