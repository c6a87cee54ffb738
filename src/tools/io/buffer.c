/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory that commands read into and write from. */
#include <stdio.h>

#include "base/iov.h"
#include "block/driver.h"
#include "block/own.h"
#include "tools/io/io.h"

#define MISALIGN_BYTES 16 /* -m: what no O_DIRECT file takes as it is */

int io_buffer_init(struct io *io, struct io_buffer *b, uint64_t bytes, uint8_t fill)
{
    *b = (struct io_buffer){.bytes = bytes, .niov = 1};
    b->allocated = bytes + MISALIGN_BYTES; /* never of no size */
    b->base = buf_get(b->allocated);
    b->iov = malloc(sizeof(*b->iov));
    if (b->base == NULL || b->iov == NULL) {
        io_buffer_free(b);
        tool_error(io->tool, "no memory for a buffer of %llu bytes", (unsigned long long)bytes);
        return -ENOMEM;
    }
    b->data = (uint8_t *)b->base + (io->misalign ? MISALIGN_BYTES : 0);
    b->iov[0] = (struct iovec){b->data, bytes};
    memset(b->data, fill, bytes);
    return 0;
}

/* The sum of @n lengths, each of them in @sizes. */
static int parse_lengths(char **lengths, int n, struct iovec *sizes, uint64_t *ret_total)
{
    uint64_t total = 0;

    for (int i = 0; i < n; i++) {
        uint64_t len;
        int r = io_number(lengths[i], &len);
        if (r < 0) {
            return r;
        }
        if (len > REQ_BYTES_MAX) {
            printf("Argument '%s' exceeds maximum size %llu\n", lengths[i],
                   (unsigned long long)REQ_BYTES_MAX);
            return -EINVAL;
        }
        if (total > REQ_BYTES_MAX - len) {
            printf("The total number of bytes exceed the maximum size %llu\n",
                   (unsigned long long)REQ_BYTES_MAX);
            return -EINVAL;
        }
        sizes[i].iov_len = len;
        total += len;
    }
    *ret_total = total;
    return 0;
}

int io_buffer_init_list(struct io *io, struct io_buffer *b, char **lengths, int n, uint8_t fill)
{
    AUTO_FREE struct iovec *iov = calloc((size_t)n, sizeof(*iov));
    uint64_t total;

    *b = (struct io_buffer){0};
    if (iov == NULL) {
        tool_error(io->tool, "no memory for a list of %d lengths", n);
        return -ENOMEM;
    }
    int r = parse_lengths(lengths, n, iov, &total);
    if (r < 0 || (r = io_buffer_init(io, b, total, fill)) < 0) {
        return r;
    }
    uint8_t *p = b->data;
    for (int i = 0; i < n; i++) {
        iov[i].iov_base = p;
        p += iov[i].iov_len;
    }
    free(b->iov);
    b->iov = TAKE_PTR(iov);
    b->niov = n;
    return 0;
}

/* A pattern file, which may be a pipe: read on a worker thread. */
struct source {
    const char *path;
    struct io_buffer *b;
    size_t bytes;
};

static int read_source(void *arg)
{
    struct source *s = arg;
    FILE *f = fopen(s->path, "re");

    if (!f) {
        return -errno;
    }
    errno = 0;
    s->bytes = fread(s->b->data, 1, s->b->bytes, f);
    int r = s->bytes < s->b->bytes && ferror(f) ? (errno ? -errno : -EIO) : 0;
    fclose(f);
    return r;
}

int io_buffer_fill_from(struct io *io, struct io_buffer *b, const char *path)
{
    struct source s = {.path = path, .b = b};
    struct err err = {0};
    int r = graph_refuse_own(io->node->graph, path, &err);

    if (r < 0) {
        fflush(stdout);
        fprintf(stderr, "%s\n", err.text);
        return r;
    }
    r = loop_work(read_source, &s);
    if (r < 0) {
        fflush(stdout);
        fprintf(stderr, "%s: %s\n", path, err_name(r));
        return r;
    }
    if (s.bytes == 0 && b->bytes > 0) {
        fflush(stdout);
        fprintf(stderr, "%s: file is empty\n", path);
        return -EINVAL;
    }
    for (uint64_t at = s.bytes; at < b->bytes; at++) {
        b->data[at] = b->data[at - s.bytes];
    }
    return 0;
}

bool io_buffer_matches(const struct io_buffer *b, uint64_t from, uint64_t bytes, uint8_t pattern)
{
    const uint8_t *p = b->data + from;

    return bytes == 0 || (p[0] == pattern && memcmp(p, p + 1, bytes - 1) == 0);
}

void io_buffer_free(struct io_buffer *b)
{
    buf_put(b->base, b->allocated);
    free(b->iov);
    *b = (struct io_buffer){0};
}
