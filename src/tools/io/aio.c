/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads and writes in the background: each is a coroutine of its own that prints its outcome when it
 * ends. A command counts as successful once its request is on the way.
 */
#include <unistd.h>

#include "tools/io/io.h"

struct aio {
    struct io *io;
    bool write, zero, machine, quiet, dump, check;
    unsigned flags; /* enum req_flags */
    uint8_t pattern;
    uint64_t offset, bytes;
    struct io_buffer buf;
};

static void aio_free(struct aio *a)
{
    if (a != NULL) {
        io_buffer_free(&a->buf);
        free(a);
    }
}

static void cleanup_aio(struct aio **a)
{
    aio_free(*a);
}

static void aio_print(const struct aio *a, int ret, uint64_t ns)
{
    if (ret < 0) {
        printf("%s failed: %s\n", a->write ? "aio_write" : "readv", err_name(ret));
        return;
    }
    if (a->check && !io_buffer_matches(&a->buf, 0, a->bytes, a->pattern)) {
        printf("Pattern verification failed at offset %llu, %llu bytes\n", (unsigned long long)a->offset,
               (unsigned long long)a->bytes);
    }
    if (a->quiet) {
        return;
    }
    if (a->dump) {
        io_dump(a->buf.data, a->offset, a->bytes);
    }
    io_print_report(
        &(struct io_report){a->write ? "wrote" : "read", a->offset, a->bytes, a->bytes, 1, ns, a->machine});
}

static co_fn void aio_run(void *arg)
{
    struct aio *a = arg;
    struct io *io = a->io;
    struct req r = {.op = a->zero    ? REQ_ZERO
                          : a->write ? REQ_WRITE
                                     : REQ_READ,
                    .flags = a->flags,
                    .offset = a->offset,
                    .bytes = a->bytes,
                    .iov = a->buf.iov,
                    .niov = a->buf.niov};
    uint64_t began_ns = loop_clock_ns();
    int ret = node_io(io->node, &r);

    uint64_t ns = loop_clock_ns() - began_ns;
    co_yield (); /* even what fails or ends at once is told behind the commands that came meanwhile */
    aio_print(a, ret, ns);
    aio_free(a);
    if (--io->aio_pending == 0) {
        co_queue_wake_all(&io->aio_done);
    }
}

/* @a is taken over. */
static int aio_submit(struct io *io, struct aio *a)
{
    io->aio_pending++;
    int r = co_start(aio_run, a); /* requests begin in the order of the commands */
    if (r < 0) {
        io->aio_pending--;
        aio_free(a);
        tool_error(io->tool, "no memory for one more request in the background");
    }
    return r;
}

static struct aio *aio_new(struct io *io, bool write)
{
    struct aio *a = calloc(1, sizeof(*a));

    if (a == NULL) {
        tool_error(io->tool, "no memory for one more request in the background");
        return NULL;
    }
    a->io = io;
    a->write = write;
    a->pattern = IO_PATTERN_WRITE;
    return a;
}

/* 0, -errno after printing why, 1 for a usage error, 2 for a request that is to be invalid. */
static int aio_option(struct aio *a, int c)
{
    switch (c) {
    case 'C':
        a->machine = true;
        return 0;
    case 'f':
        a->flags |= REQ_FUA;
        return 0;
    case 'i':
        printf("injecting invalid %s request\n", a->write ? "write" : "read");
        return 2;
    case 'P':
        a->check = !a->write;
        return io_pattern(optarg, &a->pattern);
    case 'q':
        a->quiet = true;
        return 0;
    case 'r':
        return 0;
    case 'u':
        a->flags |= REQ_UNMAP;
        return 0;
    case 'v':
        a->dump = true;
        return 0;
    case 'z':
        a->zero = true;
        return 0;
    default:
        return 1;
    }
}

IO_COMMAND(io_cmd_aio_read)
{
    CLEANUP(cleanup_aio) struct aio *a = aio_new(io, false);
    int c, r;

    if (a == NULL) {
        return -ENOMEM;
    }
    while ((c = getopt(argc, argv, "CiP:qrv")) != -1) {
        r = aio_option(a, c);
        if (r != 0) {
            return r < 0 ? r : r == 1 ? io_usage(cmd) : 0;
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &a->offset)) < 0 ||
        (r = io_buffer_init_list(io, &a->buf, argv + optind + 1, argc - optind - 1, IO_PATTERN_READ)) < 0) {
        return r;
    }
    a->bytes = a->buf.bytes;
    return aio_submit(io, TAKE_PTR(a));
}

/* The range of a write without data, or the data itself. */
static int aio_write_range(struct io *io, struct aio *a, char **argv, int n)
{
    int r = io_number(argv[0], &a->offset);

    if (r < 0) {
        return r;
    }
    if (a->zero) {
        return io_number(argv[1], &a->bytes);
    }
    r = io_buffer_init_list(io, &a->buf, argv + 1, n - 1, a->pattern);
    a->bytes = a->buf.bytes;
    return r;
}

IO_COMMAND(io_cmd_aio_write)
{
    CLEANUP(cleanup_aio) struct aio *a = aio_new(io, true);
    bool registered = false;
    int c, r;

    if (a == NULL) {
        return -ENOMEM;
    }
    while ((c = getopt(argc, argv, "CfiP:qruz")) != -1) {
        registered |= c == 'r';
        r = aio_option(a, c);
        if (r != 0) {
            return r < 0 ? r : r == 1 ? io_usage(cmd) : 0;
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    const char *wrong = a->zero && optind != argc - 2        ? "-z supports only a single length parameter"
                        : (a->flags & REQ_UNMAP) && !a->zero ? "-u requires -z to be specified"
                        : a->zero && registered ? "cannot combine zero write with registered I/O buffer"
                                                : NULL;
    if (wrong != NULL) {
        puts(wrong);
        return -EINVAL;
    }
    r = aio_write_range(io, a, argv + optind, argc - optind);
    return r < 0 ? r : aio_submit(io, TAKE_PTR(a));
}

void io_aio_drain(struct io *io)
{
    while (io->aio_pending > 0) {
        co_queue_wait(&io->aio_done);
    }
}

IO_COMMAND(io_cmd_aio_flush)
{
    io_aio_drain(io);
    return 0;
}
