/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands that move data and wait for it: read, readv, write, writev, discard, flush. */
#include <unistd.h>

#include "tools/io/io.h"

static int refuse(const char *sentence)
{
    puts(sentence);
    return -EINVAL;
}

static int failed(const char *what, int r)
{
    printf("%s failed: %s\n", what, err_name(r));
    return r;
}

/* The vm state, and clusters to be compressed, are moved in whole sectors. */
static int check_sectors(uint64_t offset, uint64_t count)
{
    if (offset % SECTOR_SIZE != 0) {
        printf("%llu is not a sector-aligned value for 'offset'\n", (unsigned long long)offset);
        return -EINVAL;
    }
    if (count % SECTOR_SIZE != 0) {
        printf("%llu is not a sector-aligned value for 'count'\n", (unsigned long long)count);
        return -EINVAL;
    }
    return 0;
}

/* A length that one request can carry. */
static int parse_length(const char *text, uint64_t *ret_bytes)
{
    uint64_t bytes;
    int r = io_number(text, &bytes);

    if (r < 0) {
        return r;
    }
    if (bytes > REQ_BYTES_MAX) {
        printf("length cannot exceed %llu, given %s\n", (unsigned long long)REQ_BYTES_MAX, text);
        return -EINVAL;
    }
    *ret_bytes = bytes;
    return 0;
}

/* ---- read, readv ---- */

struct read_args {
    bool machine, quiet, dump, vmstate, check, has_check_from, has_check_bytes;
    uint8_t pattern;
    uint64_t check_from, check_bytes; /* -s, -l */
    uint64_t offset;
    struct io_buffer buf;
};

/* Returns 0, -errno after printing why, or 1 for a usage error. */
static int read_option(struct read_args *a, int c)
{
    switch (c) {
    case 'b':
        a->vmstate = true;
        return 0;
    case 'C':
        a->machine = true;
        return 0;
    case 'l':
        a->has_check_bytes = true;
        return io_number(optarg, &a->check_bytes);
    case 'p': /* once chose between two system calls */
    case 'r': /* registers the buffer with the driver: ours need not be told */
        return 0;
    case 'P':
        a->check = true;
        return io_pattern(optarg, &a->pattern);
    case 'q':
        a->quiet = true;
        return 0;
    case 's':
        a->has_check_from = true;
        return io_number(optarg, &a->check_from);
    case 'v':
        a->dump = true;
        return 0;
    default:
        return 1;
    }
}

static co_fn int read_and_report(struct io *io, const struct read_args *a, const char *name)
{
    struct req r = {.op = REQ_READ,
                    .flags = a->vmstate ? REQ_VMSTATE : 0,
                    .offset = a->offset,
                    .bytes = a->buf.bytes,
                    .iov = a->buf.iov,
                    .niov = a->buf.niov};
    uint64_t began_ns = loop_clock_ns();
    int ret = node_io(io->node, &r);
    uint64_t ns = loop_clock_ns() - began_ns;

    if (ret < 0) {
        return failed(name, ret);
    }
    if (a->check && !io_buffer_matches(&a->buf, a->check_from, a->check_bytes, a->pattern)) {
        printf("Pattern verification failed at offset %llu, %llu bytes\n",
               (unsigned long long)(a->offset + a->check_from), (unsigned long long)a->check_bytes);
        ret = -EINVAL;
    }
    if (a->quiet) {
        return ret;
    }
    if (a->dump) {
        io_dump(a->buf.data, a->offset, a->buf.bytes);
    }
    io_print_report(&(struct io_report){"read", a->offset, a->buf.bytes, a->buf.bytes, 1, ns, a->machine});
    return ret;
}

IO_COMMAND(io_cmd_read)
{
    AUTO_IO_BUFFER struct io_buffer buf = {0};
    struct read_args a = {0};
    uint64_t count;
    int c, r = 0;

    while ((c = getopt(argc, argv, "bCl:pP:qrs:v")) != -1) {
        r = read_option(&a, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind != argc - 2) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &a.offset)) < 0 || (r = parse_length(argv[optind + 1], &count)) < 0) {
        return r;
    }
    if (!a.check && (a.has_check_from || a.has_check_bytes)) {
        return io_usage(cmd);
    }
    if (a.check_from > count || a.check_bytes > count - a.check_from) {
        return refuse("pattern verification range exceeds end of read data");
    }
    if (!a.has_check_bytes) {
        a.check_bytes = count - a.check_from;
    }
    if (a.vmstate && (r = check_sectors(a.offset, count)) < 0) {
        return r;
    }
    if ((r = io_buffer_init(io, &buf, count, IO_PATTERN_READ)) < 0) {
        return r;
    }
    a.buf = buf;
    return read_and_report(io, &a, "read");
}

IO_COMMAND(io_cmd_readv)
{
    AUTO_IO_BUFFER struct io_buffer buf = {0};
    struct read_args a = {0};
    int c, r;

    while ((c = getopt(argc, argv, "CP:qrv")) != -1) {
        r = read_option(&a, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &a.offset)) < 0 ||
        (r = io_buffer_init_list(io, &buf, argv + optind + 1, argc - optind - 1, IO_PATTERN_READ)) < 0) {
        return r;
    }
    a.check_bytes = buf.bytes;
    a.buf = buf;
    return read_and_report(io, &a, "readv");
}

/* ---- write, writev ---- */

struct write_args {
    bool machine, quiet, zero, vmstate, has_pattern, registered;
    unsigned flags; /* enum req_flags */
    uint8_t pattern;
    const char *source;
    uint64_t offset, count;
};

static int write_option(struct write_args *a, int c)
{
    switch (c) {
    case 'b':
        a->vmstate = true;
        return 0;
    case 'c':
        a->flags |= REQ_COMPRESSED;
        return 0;
    case 'C':
        a->machine = true;
        return 0;
    case 'f':
        a->flags |= REQ_FUA;
        return 0;
    case 'n':
        a->flags |= REQ_NO_FALLBACK;
        return 0;
    case 'p':
        return 0;
    case 'P':
        a->has_pattern = true;
        return io_pattern(optarg, &a->pattern);
    case 'q':
        a->quiet = true;
        return 0;
    case 'r':
        a->registered = true;
        return 0;
    case 's':
        a->source = optarg;
        return 0;
    case 'u':
        a->flags |= REQ_UNMAP;
        return 0;
    case 'z':
        a->zero = true;
        return 0;
    default:
        return 1;
    }
}

/* Which options go with which. */
static int check_write_options(const struct write_args *a)
{
    bool compressed = a->flags & REQ_COMPRESSED;

    if (a->vmstate && a->zero) {
        return refuse("-b and -z cannot be specified at the same time");
    }
    if ((a->flags & REQ_FUA) && (a->vmstate || compressed)) {
        return refuse("-f and -b or -c cannot be specified at the same time");
    }
    if ((a->flags & REQ_NO_FALLBACK) && !a->zero) {
        return refuse("-n requires -z to be specified");
    }
    if ((a->flags & REQ_UNMAP) && !a->zero) {
        return refuse("-u requires -z to be specified");
    }
    if (a->zero + a->has_pattern + (a->source != NULL) > 1) {
        return refuse("Only one of -z, -P, and -s can be specified at the same time");
    }
    if (a->zero && a->registered) {
        return refuse("cannot combine zero write with registered I/O buffer");
    }
    return 0;
}

/* Zeroes without fallback carry no data, so that their length is not limited. */
static int parse_write_range(struct write_args *a, char **argv)
{
    int r = io_number(argv[0], &a->offset);

    if (r < 0 || (r = io_number(argv[1], &a->count)) < 0) {
        return r;
    }
    if (a->count > REQ_BYTES_MAX && !(a->flags & REQ_NO_FALLBACK)) {
        printf("length cannot exceed %llu without -n, given %s\n", (unsigned long long)REQ_BYTES_MAX,
               argv[1]);
        return -EINVAL;
    }
    return a->vmstate || (a->flags & REQ_COMPRESSED) ? check_sectors(a->offset, a->count) : 0;
}

static co_fn int write_and_report(struct io *io, const struct write_args *a, const struct io_buffer *buf,
                                  const char *name)
{
    struct req r = {.op = a->zero ? REQ_ZERO : REQ_WRITE,
                    .flags = a->flags | (a->vmstate ? REQ_VMSTATE : 0),
                    .offset = a->offset,
                    .bytes = a->count,
                    .iov = buf->iov,
                    .niov = buf->niov};
    uint64_t began_ns = loop_clock_ns();
    int ret = node_io(io->node, &r);
    uint64_t ns = loop_clock_ns() - began_ns;

    if (ret < 0) {
        return failed(name, ret);
    }
    if (!a->quiet) {
        io_print_report(&(struct io_report){"wrote", a->offset, a->count, a->count, 1, ns, a->machine});
    }
    return 0;
}

IO_COMMAND(io_cmd_write)
{
    AUTO_IO_BUFFER struct io_buffer buf = {0};
    struct write_args a = {.pattern = IO_PATTERN_WRITE};
    int c, r;

    while ((c = getopt(argc, argv, "bcCfnpP:qrs:uz")) != -1) {
        r = write_option(&a, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind != argc - 2) {
        return io_usage(cmd);
    }
    if ((r = check_write_options(&a)) < 0 || (r = parse_write_range(&a, argv + optind)) < 0) {
        return r;
    }
    if (!a.zero && (r = io_buffer_init(io, &buf, a.count, a.pattern)) < 0) {
        return r;
    }
    if (a.source != NULL && (r = io_buffer_fill_from(io, &buf, a.source)) < 0) {
        return r;
    }
    return write_and_report(io, &a, &buf, "write");
}

IO_COMMAND(io_cmd_writev)
{
    AUTO_IO_BUFFER struct io_buffer buf = {0};
    struct write_args a = {.pattern = IO_PATTERN_WRITE};
    int c, r;

    while ((c = getopt(argc, argv, "CfP:qr")) != -1) {
        r = write_option(&a, c);
        if (r != 0) {
            return r < 0 ? r : io_usage(cmd);
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &a.offset)) < 0 ||
        (r = io_buffer_init_list(io, &buf, argv + optind + 1, argc - optind - 1, a.pattern)) < 0) {
        return r;
    }
    a.count = buf.bytes;
    return write_and_report(io, &a, &buf, "writev");
}

/* ---- discard, flush ---- */

IO_COMMAND(io_cmd_discard)
{
    bool machine = false, quiet = false;
    uint64_t offset, bytes;
    int c, r;

    while ((c = getopt(argc, argv, "Cq")) != -1) {
        switch (c) {
        case 'C':
            machine = true;
            break;
        case 'q':
            quiet = true;
            break;
        default:
            return io_usage(cmd);
        }
    }
    if (optind != argc - 2) {
        return io_usage(cmd);
    }
    if ((r = io_number(argv[optind], &offset)) < 0 || (r = parse_length(argv[optind + 1], &bytes)) < 0) {
        return r;
    }
    uint64_t began_ns = loop_clock_ns();
    r = node_discard(io->node, offset, bytes);
    uint64_t ns = loop_clock_ns() - began_ns;
    if (r < 0) {
        return failed("discard", r);
    }
    if (!quiet) {
        io_print_report(&(struct io_report){"discard", offset, bytes, bytes, 1, ns, machine});
    }
    return 0;
}

/* Prints nothing even if it fails: only the exit status tells, as qemu-io's. */
IO_COMMAND(io_cmd_flush)
{
    return node_flush(io->node);
}
