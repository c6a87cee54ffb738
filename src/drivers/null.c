/* SPDX-License-Identifier: BSD-2-Clause */
/* null: a device of any size that stores nothing. For measuring what lies above it. */
#include "base/iov.h"
#include "block/driver.h"

struct null {
    uint64_t size, latency_ns, latency;
    bool read_zeroes;
};

static const struct option null_options[] = {
    {"size", OPT_SIZE, offsetof(struct null, size), .def = "1G", .max = BLOCK_SIZE_MAX,
     .help = "virtual size in bytes"},
    {"latency-ns", OPT_UINT, offsetof(struct null, latency_ns), .help = "nanoseconds every request takes"},
    {"latency", OPT_NS, offsetof(struct null, latency), .help = "the same as a time such as 10ms"},
    {"read-zeroes", OPT_BOOL, offsetof(struct null, read_zeroes), .def = "off",
     .help = "reads give zeroes; off: they leave the buffer as it is"},
    {0},
};

static int null_open(struct node *n, struct err *err)
{
    struct null *s = n->state;

    if (__builtin_add_overflow(s->latency_ns, s->latency, &s->latency_ns)) {
        return err_set(err, -EINVAL, "latency-ns is too large");
    }
    n->size = s->size;
    n->limits.supported = REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK;
    return 0;
}

static int null_io(struct node *n, struct req *r)
{
    const struct null *s = n->state;

    if (s->latency_ns > 0 && r->op != REQ_STATUS) {
        co_sleep_ns(s->latency_ns);
    }
    if (r->op == REQ_READ && s->read_zeroes) {
        iov_memset(r->iov, r->niov, 0, 0, r->bytes);
    } else if (r->op == REQ_STATUS) {
        *r->extent = (struct extent){.bytes = r->bytes,
                                     .data = true,
                                     .allocated = true,
                                     .zero = s->read_zeroes,
                                     .has_offset = true,
                                     .offset = r->offset,
                                     .file = n};
    } else if (r->op == REQ_TRUNCATE) {
        return -ENOTSUP;
    }
    return 0;
}

static int null_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *rest = strstr(name, "://") + 3;

    (void)options;
    return *rest ? err_set(err, -EINVAL, "'%s': expected nothing behind '://'", name) : 0;
}

static int null_allocated(struct node *n, uint64_t *ret_bytes)
{
    (void)n;
    *ret_bytes = 0;
    return 0;
}

const struct driver driver_null = {
    .name = "null",
    .kind = DRIVER_PROTOCOL,
    .summary = "Stores nothing, of any size.",
    .options = null_options,
    .prefixes = (const char *const[]){"null-co://", "null-aio://", "null://", NULL},
    .parse_name = null_parse_name,
    .state_size = sizeof(struct null),
    .open = null_open,
    .io = null_io,
    .allocated_bytes = null_allocated,
};
