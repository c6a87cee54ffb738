/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img bench: a simple run of reads or writes at a fixed step, several at a time. All requests share
 * one buffer, as qemu-img's do; they say so, and a verifier below compares copies of its own.
 */
#include "tools/img/img.h"

#define COUNT_DEFAULT  75000u
#define DEPTH_DEFAULT  64u
#define DEPTH_MAX      4096u /* coroutines with a stack of 128 KiB each */
#define BUFFER_DEFAULT 4096u
#define BUFFER_MAX     INT32_MAX

struct bench {
    struct img *img;
    struct node *node;
    uint64_t count, depth, buffer_bytes, step_bytes, flush_interval;
    char *buf;
    uint64_t issued, offset; /* of the next request */
    uint64_t in_flight;
    bool holding; /* nothing starts until a flush is done */
    struct co_queue held, drained;
    int result;
};

static int prepare(struct img *img)
{
    const struct img_args *a = &img->a;
    bool flushes = a->flush_interval != IMG_NOT_GIVEN && a->flush_interval > 0;
    uint64_t depth = a->depth != IMG_NOT_GIVEN ? a->depth : DEPTH_DEFAULT;
    unsigned flags;

    if (flushes && !a->write) {
        img_error(img, "--flush-interval is only available in write tests");
        return 1;
    }
    if (flushes && a->flush_interval < depth) {
        img_error(img, "Flush interval can't be smaller than depth");
        return 1;
    }
    if (a->cache && tool_cache_flags(a->cache, &flags) < 0) {
        img_error(img, "Invalid cache mode");
        return 1;
    }
    const char *engine = img->t->engine;
    if (a->aio && tool_aio_engine(a->aio, &engine) < 0) {
        img_error(img, "Invalid aio option: %s", a->aio);
        return 1;
    }
    img->t->engine = engine ? engine : img->t->engine;
    return -1;
}

/* ---- requests ---- */

static void fail(struct bench *b, int r)
{
    if (b->result == 0) {
        b->result = r;
    }
}

static co_fn int request(struct bench *b, uint64_t offset)
{
    struct iovec iov = {b->buf, b->buffer_bytes};
    struct req r = {
        .op = b->img->a.write ? REQ_WRITE : REQ_READ,
        .flags = REQ_UNSTABLE,
        .offset = offset,
        .bytes = b->buffer_bytes,
        .iov = &iov,
        .niov = 1,
    };
    return node_io(b->node, &r);
}

static uint64_t advance(struct bench *b)
{
    uint64_t offset = b->offset, size = node_size(b->node);

    b->issued++;
    b->offset = offset > UINT64_MAX - b->step_bytes ? 0 : offset + b->step_bytes;
    if (size > 0 && b->offset >= size) {
        b->offset %= size;
    }
    return offset;
}

/* Flush; unless --no-drain was given, alone. */
static co_fn void flush(struct bench *b)
{
    bool drain = !b->img->a.no_drain;

    b->holding = drain;
    while (drain && b->in_flight > 0) {
        co_queue_wait(&b->drained);
    }
    int r = node_flush(b->node);
    if (r < 0) {
        fail(b, r);
    }
    b->holding = false;
    co_queue_wake_all(&b->held);
}

static co_fn int worker(void *arg)
{
    struct bench *b = arg;

    for (;;) {
        while (b->holding) {
            co_queue_wait(&b->held);
        }
        if (b->issued >= b->count || b->result < 0) {
            return 0;
        }
        uint64_t offset = advance(b);
        bool flushes = b->flush_interval > 0 && b->issued % b->flush_interval == 0;
        b->holding = flushes && !b->img->a.no_drain;
        b->in_flight++;
        int r = request(b, offset);
        if (r < 0) {
            fail(b, r);
        }
        if (--b->in_flight == 0) {
            co_queue_wake_all(&b->drained);
        }
        if (flushes) {
            flush(b);
        }
    }
}

static co_fn int run_all(struct bench *b)
{
    uint64_t n = MAX(MIN(b->depth, b->count), UINT64_C(1));
    AUTO_FREE struct co_task *tasks = calloc(n, sizeof(*tasks));
    struct co_group group;

    if (tasks == NULL) {
        return -ENOMEM;
    }
    co_queue_init(&b->held);
    co_queue_init(&b->drained);
    co_group_init(&group);
    for (uint64_t i = 0; i < n; i++) {
        co_group_start(&group, &tasks[i], worker, b);
    }
    co_group_wait(&group);
    return b->result;
}

/* ---- the command ---- */

static uint64_t given_or(uint64_t v, uint64_t otherwise)
{
    return v != IMG_NOT_GIVEN ? v : otherwise;
}

static void print_plan(const struct bench *b)
{
    if (b->img->a.quiet) {
        return;
    }
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64
           " in parallel (starting at offset %" PRIu64 ", step size %" PRIu64 ")\n",
           b->count, b->img->a.write ? "write" : "read", b->buffer_bytes, b->depth, b->offset, b->step_bytes);
    if (b->flush_interval > 0) {
        printf("Sending flush every %" PRIu64 " requests\n", b->flush_interval);
    }
    fflush(stdout);
}

static co_fn int bench(struct bench *b)
{
    if (b->buf == NULL) {
        img_error(b->img, "no memory for a buffer of %" PRIu64 " bytes", b->buffer_bytes);
        return -ENOMEM;
    }
    memset(b->buf, (int)given_or(b->img->a.pattern, 0), b->buffer_bytes);
    print_plan(b);
    uint64_t started_ns = loop_clock_ns();
    int r = run_all(b);
    if (r < 0) {
        img_error(b->img, "Failed request: %s", err_name(r));
        return r;
    }
    if (!b->img->a.quiet) {
        printf("Run completed in %3.3f seconds.\n",
               (double)(loop_clock_ns() - started_ns) / (double)NS_PER_SEC);
    }
    return 0;
}

static co_fn int run(struct img *img)
{
    const struct img_args *a = &img->a;
    struct bench b = {
        .img = img,
        .count = given_or(a->count, COUNT_DEFAULT),
        .depth = given_or(a->depth, DEPTH_DEFAULT),
        .buffer_bytes = given_or(a->buffer_bytes, BUFFER_DEFAULT),
        .flush_interval = given_or(a->flush_interval, 0),
        .offset = given_or(a->start, 0),
    };
    unsigned flags = 0;

    b.step_bytes = a->step_bytes != IMG_NOT_GIVEN && a->step_bytes > 0 ? a->step_bytes : b.buffer_bytes;
    tool_cache_flags(a->cache ? a->cache : "writeback", &flags); /* prepare checked the word */
    flags |= a->write ? OPEN_WRITE : 0;
    if (img_open(img, img->argv[0], a->format, a->image_opts, flags, &b.node) < 0) {
        return 1;
    }
    b.buf = buf_get(b.buffer_bytes);
    int r = bench(&b);
    buf_put(b.buf, b.buffer_bytes);
    node_unref(b.node);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    {'c', "count", IMG_ARG_NUMBER, IMG_FIELD(count), "N", "requests to send (default 75000)",
     "Invalid request count specified", 0, INT32_MAX},
    {'d', "depth", IMG_ARG_NUMBER, IMG_FIELD(depth), "N", "requests in flight, 1 to 4096 (default 64)",
     "Invalid queue depth specified: a number from 1 to 4096 was expected", 1, DEPTH_MAX},
    {'s', "buffer-size", IMG_ARG_SIZE, IMG_FIELD(buffer_bytes), "SIZE", "bytes of a request (default 4096)",
     "buffer size", 1, BUFFER_MAX},
    {'S', "step-size", IMG_ARG_SIZE, IMG_FIELD(step_bytes), "SIZE",
     "from one request to the next (default: the buffer size)", "step_size", 0, BUFFER_MAX},
    {'o', "offset", IMG_ARG_SIZE, IMG_FIELD(start), "OFFSET", "of the first request (default 0)", "offset"},
    {'w', "write", IMG_ARG_FLAG, IMG_FIELD(write), NULL, "write instead of reading"},
    {0, "pattern", IMG_ARG_NUMBER, IMG_FIELD(pattern), "BYTE", "byte to write, 0 to 255 (default 0)",
     "Invalid pattern byte specified", 0, 255},
    {0, "flush-interval", IMG_ARG_NUMBER, IMG_FIELD(flush_interval), "N",
     "with -w: flush after every N requests", "Invalid flush interval specified", 0, INT32_MAX},
    {0, "no-drain", IMG_ARG_FLAG, IMG_FIELD(no_drain), NULL, "flush while other requests are in flight"},
    IMG_ARG_CACHE,
    {'i', "aio", IMG_ARG_STRING, IMG_FIELD(aio), "MODE", "threads, native or io_uring: chooses the engine"},
    {'n', "native", IMG_ARG_FLAG, IMG_FIELD(native_aio), NULL, "as -i native"},
    IMG_ARG_QUIET,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_bench = {
    .name = "bench",
    .synopsis = "IMAGE",
    .summary = "Time reads or writes of an image",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
