/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of an export: its reader takes requests from the kernel until it is stopped or unmounted,
 * then what has been taken is finished, and it is unmounted.
 */
#include "export/fuse/internal.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "block/driver.h"

void fuse_notice(const struct fuse_export *e, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    if (!e->config.notice) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    e->config.notice(e->config.opaque, text);
}

/* ---- operations and receive buffers ---- */

static void *rx_get(struct fuse_export *e)
{
    void *rx = NULL;

    if (e->nspare > 0) {
        return e->spare[--e->nspare];
    }
    return posix_memalign(&rx, 4096, FUSE_RX_BYTES) == 0 ? rx : NULL;
}

static void rx_put(struct fuse_export *e, void *rx)
{
    if (rx && e->nspare < ARRAY_SIZE(e->spare)) {
        e->spare[e->nspare++] = rx;
    } else {
        free(rx);
    }
}

struct fuse_op *fuse_op_get(struct fuse_export *e)
{
    struct fuse_op *op = list_first(&e->free_ops, struct fuse_op, link);

    if (op) {
        list_del(&op->link);
    } else if (!(op = calloc(1, sizeof(*op)))) {
        return NULL;
    }
    e->in_flight++;
    return op;
}

void fuse_op_put(struct fuse_op *op)
{
    struct fuse_export *e = op->export;

    rx_put(e, TAKE_PTR(op->rx));
    e->bytes -= op->charged;
    list_add_head(&e->free_ops, &op->link);
    e->in_flight--;
    co_queue_wake_one(&e->room);
    if (UNLIKELY(e->ending)) {
        co_queue_wake_all(&e->changed);
    }
}

/* ---- requests ---- */

/* Wait until there is room for one more, and a buffer to receive it. */
static co_fn int prepare(struct fuse_export *e)
{
    while (!e->stopping &&
           (e->in_flight == FUSE_REQUESTS_MAX || e->bytes + FUSE_WRITE_MAX > FUSE_BYTES_MAX)) {
        co_queue_wait(&e->room);
    }
    if (!e->rx) {
        e->rx = rx_get(e);
    }
    return e->stopping ? -ECANCELED : e->rx ? 0 : -ENOMEM;
}

static uint8_t *rx_begin(const struct fuse_export *e)
{
    return e->rx + (4 * KiB - FUSE_HEAD_BYTES);
}

/* One read(2) that does not wait: bytes, or -errno. */
static ssize_t receive_now(const struct fuse_export *e)
{
    ssize_t n = read(e->fd, rx_begin(e), FUSE_HEAD_BYTES + FUSE_WRITE_MAX);

    return n < 0 ? -errno : n;
}

/* As the NBD server does: look for a moment where one request at a time comes; a look in vain is followed by
 * ever more sleeps without one. */
static ssize_t spin(struct fuse_export *e)
{
    /* A single one may also mean that we are faster than who sends many. */
    e->lone = e->batch <= 1 && e->in_flight == 0 ? MIN(e->lone + 1, FUSE_LONE_MIN) : 0;
    e->batch = 0;
    if (e->config.spin_ns == 0 || e->lone < FUSE_LONE_MIN) {
        return -EAGAIN;
    }
    if (e->spin_skip > 0) {
        e->spin_skip--;
        return -EAGAIN;
    }
    uint64_t end = loop_clock_ns() + e->config.spin_ns;
    do {
        ssize_t n = receive_now(e);
        if (n != -EAGAIN) {
            e->spin_misses = 0;
            return n;
        }
    } while (loop_clock_ns() < end);
    e->spin_misses = MIN(e->spin_misses + 1, FUSE_SPIN_MISSES_MAX);
    e->spin_skip = (1u << e->spin_misses) - 1;
    return -EAGAIN;
}

/* Bytes; 0: nothing to do but to go on; -ENODEV when there is no mount any more. */
static co_fn ssize_t receive(struct fuse_export *e)
{
    ssize_t n = receive_now(e);

    if (n == -EAGAIN) {
        n = spin(e);
    }
    if (n == -EAGAIN) {
        e->turns = 0;
        n = fd_poll(e->fd, POLLIN, UINT64_MAX);
        return n < 0 && n != -ECANCELED ? n : 0;
    }
    e->batch++;
    return n == -EINTR || n == -ENOENT ? 0 : n; /* ENOENT: the one that came has been interrupted */
}

static co_fn int serve_next(struct fuse_export *e)
{
    int rc = prepare(e);
    ssize_t n = rc < 0 ? rc : receive(e);

    if (n > 0) {
        struct fuse_buf buf = {.size = (size_t)n, .mem = rx_begin(e)};
        fuse_session_process_buf(e->session, &buf);
        if (++e->turns == FUSE_TURNS_MAX) {
            e->turns = 0;
            co_yield ();
        }
    }
    return n < 0 ? (int)n : 0;
}

/* ---- the end ---- */

static void give_up(struct timer *t)
{
    struct fuse_export *e = container_of(t, struct fuse_export, drain_timer);

    e->gave_up = true;
    co_queue_wake_all(&e->changed);
}

/* Finish what was taken; not for ever. */
static co_fn void drain(struct fuse_export *e)
{
    if (e->in_flight > 0 && timer_arm(&e->drain_timer, loop_clock_ns() + FUSE_DRAIN_NS) < 0) {
        e->gave_up = true;
    }
    while (e->in_flight > 0 && !e->gave_up) {
        co_queue_wait(&e->changed);
    }
    timer_disarm(&e->drain_timer);
    if (e->in_flight > 0) {
        fuse_notice(e, "%s: requests that hang in the device are given up: %u", e->path, e->in_flight);
    }
}

static co_fn void cut_off(struct fuse_export *e)
{
    e->dead = true; /* what is answered from now on must not reach the descriptor's next owner */
    fuse_session_exit(e->session);
    fuse_unmount(e);
    graph_own_remove(&e->own);
}

static void run(void *export)
{
    struct fuse_export *e = export;
    int rc;

    do {
        rc = serve_next(e);
    } while (rc == 0);
    e->ending = true;
    if (e->stopping) {
        drain(e);
        cut_off(e);
    } else {
        if (rc != -ENODEV) {
            fuse_notice(e, "%s: cannot read requests: %s", e->path, err_name(rc));
        }
        cut_off(e);
        if (e->config.gone && !e->stopping) {
            e->config.gone(e->config.opaque);
        }
        drain(e);
    }
    e->running = false;
    co_queue_wake_all(&e->changed);
}

void fuse_export_stop(struct fuse_export *e)
{
    if (e->stopping) {
        return;
    }
    e->stopping = true;
    co_queue_wake_all(&e->room);
    if (!e->ending) {
        fd_poll_cancel(e->fd);
    }
}

unsigned fuse_export_wait(struct fuse_export *e)
{
    while (e->running) {
        co_queue_wait(&e->changed);
    }
    return e->in_flight;
}

static void release(struct fuse_export *e)
{
    struct fuse_op *op, *next;

    presence_unwatch(&e->watch);
    if (e->session) {
        fuse_session_destroy(e->session);
    }
    list_for_each_safe (op, next, &e->free_ops, link) {
        free(op);
    }
    while (e->nspare > 0) {
        free(e->spare[--e->nspare]);
    }
    free(e->rx);
    free(e->path);
    free(e);
}

void fuse_export_finish(struct fuse_export *e)
{
    fuse_export_stop(e);
    while (fuse_export_wait(e) > 0) {
        co_queue_wait(&e->changed);
    }
}

void fuse_export_destroy(struct fuse_export *e)
{
    if (e) {
        fuse_export_finish(e);
        release(e);
    }
}

/* ---- the beginning ---- */

static int make_session(struct fuse_export *e, struct err *err)
{
    char options[128];

    snprintf(options, sizeof(options), "fsname=%s,subtype=%s,default_permissions%s%s", FUSE_TYPE, FUSE_TYPE,
             e->config.read_only ? ",ro" : "", e->config.allow_other ? ",allow_other" : "");
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    if (fuse_opt_add_arg(&args, "blkproof") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, options) == 0) {
        e->session = fuse_session_new(&args, &fuse_handlers, sizeof(fuse_handlers), e);
    }
    fuse_opt_free_args(&args);
    return e->session ? 0 : err_set(err, -ENOMEM, "no memory to export at '%s'", e->config.mountpoint);
}

int fuse_export_create(const struct fuse_export_config *config, struct fuse_export **ret_export,
                       struct err *err)
{
    struct fuse_export *e = calloc(1, sizeof(*e));

    if (!e) {
        return err_set(err, -ENOMEM, "no memory to export at '%s'", config->mountpoint);
    }
    e->config = *config;
    e->fd = -1;
    list_init(&e->free_ops);
    list_init(&e->own.link);
    co_queue_init(&e->room);
    co_queue_init(&e->changed);
    co_mutex_init(&e->growing);
    e->drain_timer.fire = give_up;
    clock_gettime(CLOCK_REALTIME, &e->since);
    int rc = make_session(e, err);
    if (rc == 0) {
        rc = fuse_mount(e, err);
    }
    if (rc < 0) {
        release(e);
        return rc;
    }
    e->watch = (struct presence_watch){.node = config->node};
    presence_watch(&e->watch);
    e->own.place = e->path;
    graph_own_add(config->node->graph, &e->own);
    e->running = true;
    if ((rc = co_start_later(run, e)) < 0) {
        e->running = false;
        graph_own_remove(&e->own);
        fuse_unmount(e);
        release(e);
        return err_set(err, rc, "no memory to export at '%s'", config->mountpoint);
    }
    *ret_export = e;
    return 0;
}

const char *fuse_export_path(const struct fuse_export *e)
{
    return e->path;
}

unsigned fuse_export_opens(const struct fuse_export *e)
{
    return e->opens;
}
