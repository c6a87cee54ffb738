/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bound: an NBD server that does as little as a verified read can cost. Both files are mapped,
 * compared where they lie, and sent from there, all replies of a batch in one call. Not a design (an
 * I/O error would kill it, a later write races with the send), but the distance to it says what is left.
 *     bound SOCKET REFERENCE TEST        one client after the other, until it is killed
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { REQUESTS_MAX = 1024, REQUEST_LEN = 28, REPLY_LEN = 16, SEND_BYTES = 1 << 18 };

static struct {
    uint8_t *reference, *test;
    uint64_t size;
    uint8_t in[REQUESTS_MAX * REQUEST_LEN], replies[REQUESTS_MAX][REPLY_LEN];
    struct iovec iov[2 * REQUESTS_MAX];
} b;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bound: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint8_t *map(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        die(path);
    }
    if (b.size && (uint64_t)st.st_size != b.size) {
        errno = EINVAL;
        die(path);
    }
    b.size = (uint64_t)st.st_size;
    uint8_t *p = mmap(NULL, b.size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED) {
        die(path);
    }
    close(fd);
    return p;
}

static int put(int fd, struct iovec *iov, int niov)
{
    while (niov > 0) {
        ssize_t n = writev(fd, iov, niov < 1024 ? niov : 1024);
        if (n <= 0) {
            return -1;
        }
        for (; niov > 0 && (size_t)n >= iov->iov_len; iov++, niov--) {
            n -= (ssize_t)iov->iov_len;
        }
        if (niov > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int get(int fd, void *to, size_t len)
{
    return recv(fd, to, len, MSG_WAITALL) == (ssize_t)len ? 0 : -1;
}

/* Just enough of the protocol for bench/nbdload.c: one NBD_OPT_GO. */
static int handshake(int fd)
{
    struct __attribute__((packed)) {
        uint64_t magic, opt_magic;
        uint16_t flags;
    } hello = {htobe64(0x4e42444d41474943), htobe64(0x49484156454F5054), htobe16(3)};
    struct __attribute__((packed)) {
        uint32_t client_flags;
        uint64_t magic;
        uint32_t option, len;
    } asked;
    struct __attribute__((packed)) {
        uint64_t magic;
        uint32_t option, type, len;
        uint16_t info;
        uint64_t size;
        uint16_t flags;
        uint64_t magic2;
        uint32_t option2, type2, len2;
    } answer = {htobe64(0x3e889045565a9),
                htobe32(7),
                htobe32(3),
                htobe32(12),
                0,
                htobe64(b.size),
                htobe16(3),
                htobe64(0x3e889045565a9),
                htobe32(7),
                htobe32(1),
                0};
    uint8_t rest[4096];

    if (put(fd, &(struct iovec){&hello, sizeof(hello)}, 1) || get(fd, &asked, sizeof(asked)) ||
        be32toh(asked.option) != 7 || be32toh(asked.len) > sizeof(rest) ||
        get(fd, rest, be32toh(asked.len))) {
        return -1;
    }
    return put(fd, &(struct iovec){&answer, sizeof(answer)}, 1);
}

/* Answer what lies in b.in; -1 ends the connection. */
static int answer(int fd, unsigned count)
{
    int niov = 0;
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++) {
        const uint8_t *r = b.in + (size_t)i * REQUEST_LEN;
        uint16_t type;
        uint64_t offset;
        uint32_t len;
        memcpy(&type, r + 6, 2);
        memcpy(&offset, r + 16, 8);
        memcpy(&len, r + 24, 4);
        offset = be64toh(offset);
        len = be32toh(len);
        if (be16toh(type) != 0 || offset > b.size || len > b.size - offset ||
            memcmp(b.reference + offset, b.test + offset, len) != 0) {
            return -1;
        }
        memcpy(b.replies[i], "\x67\x44\x66\x98\0\0\0\0", 8);
        memcpy(b.replies[i] + 8, r + 8, 8);
        b.iov[niov++] = (struct iovec){b.replies[i], REPLY_LEN};
        b.iov[niov++] = (struct iovec){b.test + offset, len};
        bytes += len;
        if (bytes >= SEND_BYTES || i + 1 == count) {
            if (put(fd, b.iov, niov) < 0) {
                return -1;
            }
            niov = 0;
            bytes = 0;
        }
    }
    return 0;
}

static void serve(int fd)
{
    int buffer_bytes = 4 << 20;
    size_t have = 0;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    if (handshake(fd) < 0) {
        return;
    }
    for (;;) {
        ssize_t n = recv(fd, b.in + have, sizeof(b.in) - have, 0);
        if (n <= 0) {
            return;
        }
        have += (size_t)n;
        unsigned count = (unsigned)(have / REQUEST_LEN);
        if (answer(fd, count) < 0) {
            return;
        }
        have -= (size_t)count * REQUEST_LEN;
        memmove(b.in, b.in + (size_t)count * REQUEST_LEN, have);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (argc != 4 || strlen(argv[1]) >= sizeof(sa.sun_path)) {
        fputs("usage: bound SOCKET REFERENCE TEST\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    b.reference = map(argv[2]);
    b.test = map(argv[3]);
    memcpy(sa.sun_path, argv[1], strlen(argv[1]));
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(s, 8) < 0) {
        die(argv[1]);
    }
    for (;;) {
        int fd = accept(s, NULL, NULL);
        if (fd < 0) {
            die("accept");
        }
        serve(fd);
        close(fd);
    }
}
