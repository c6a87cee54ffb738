/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One attempt to reach an NBD server: name look-up, connect, TLS and the NBD handshake, all by libnbd,
 * which is told of events on its socket from our loop. libnbd looks host names up with a call that
 * blocks, so for TCP that first step runs on a worker. Nothing here outlives its deadline but a look-up
 * that the system's resolver has not ended: it cleans up after itself.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "drivers/nbd/nbd.h"

#define BACKLOG_RETRY_NS                                                                                     \
    (10 * NS_PER_MS) /* a unix server's backlog is full: nothing tells when it is not                        \
                      */
#define SECTOR_ALIGN 512u

/* ---- sentences ---- */

/* libnbd's last sentence without the name of its function and without "handshake: ". */
static const char *libnbd_sentence(void)
{
    const char *text = nbd_get_error(), *colon;

    if (!text) {
        return "the connection failed";
    }
    if (strncmp(text, "nbd_", 4) == 0 && (colon = strstr(text, ": "))) {
        text = colon + 2;
    }
    return strncmp(text, "handshake: ", 11) == 0 ? text + 11 : text;
}

/* Turn what libnbd last failed with into the caller's error. Returns -errno. */
static int connect_error(struct nbd *c, int code, const char *sentence, struct err *err)
{
    code = code > 0 ? -code : -EIO;
    if (strncmp(sentence, "getaddrinfo: ", 13) == 0) {
        const char *why = strrchr(sentence, ':');
        return err_set(err, code, "Failed to connect to '%s': %s", c->name, why + 2);
    }
    if (strncmp(sentence, "connect", 7) == 0) {
        return err_set(err, code, "Failed to connect to '%s': %s", c->name, err_name(code));
    }
    size_t len = strlen(sentence); /* libnbd adds the words of the errno to its own */
    const char *behind = strstr(sentence, ": No such file or directory");
    if (behind && code == -ENOENT) {
        len = (size_t)(behind - sentence);
    }
    return err_set(err, code, "NBD server '%s': %.*s", c->name, (int)len, sentence);
}

static int timeout_error(struct nbd *c, struct err *err)
{
    return err_set(err, -ETIMEDOUT, "NBD server '%s': no answer within connect-timeout", c->name);
}

/* ---- libnbd on our loop ---- */

bool nbd_is_over(struct nbd_handle *h)
{
    return nbd_aio_is_dead(h) > 0 || nbd_aio_is_closed(h) > 0;
}

int nbd_turn(struct nbd *c, struct nbd_handle *h, int fd, uint64_t deadline_ns)
{
    unsigned dir = nbd_aio_get_direction(h);

    c->waiting_events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                                (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    c->waiting_fd = fd;
    int events = fd_poll(fd, c->waiting_events, deadline_ns);
    c->waiting_fd = -1;
    if (events < 0) {
        return events;
    }
    if (events & POLLNVAL) {
        return -EBADF;
    }
    dir = nbd_aio_get_direction(h); /* a request may have changed it meanwhile */
    if ((dir & LIBNBD_AIO_DIRECTION_READ) && (events & (POLLIN | POLLHUP | POLLERR))) {
        return nbd_aio_notify_read(h) < 0 ? -EIO : 0;
    }
    if ((dir & LIBNBD_AIO_DIRECTION_WRITE) && (events & (POLLOUT | POLLHUP | POLLERR))) {
        return nbd_aio_notify_write(h) < 0 ? -EIO : 0;
    }
    return 0;
}

static int set_tls(struct nbd *c, struct nbd_handle *h, struct err *err)
{
    static const int libnbd_tls[] = {[CLIENT_TLS_OFF] = LIBNBD_TLS_DISABLE,
                                     [CLIENT_TLS_ALLOW] = LIBNBD_TLS_ALLOW,
                                     [CLIENT_TLS_REQUIRE] = LIBNBD_TLS_REQUIRE};
    const struct nbd_options *o = &c->opt;

    if (o->tls == CLIENT_TLS_OFF) {
        return 0;
    }
    if (nbd_set_tls(h, libnbd_tls[o->tls]) < 0 || nbd_set_tls_verify_peer(h, o->tls_verify_peer) < 0 ||
        (o->tls_certificates && nbd_set_tls_certificates(h, o->tls_certificates) < 0) ||
        (o->tls_psk_file && nbd_set_tls_psk_file(h, o->tls_psk_file) < 0) ||
        (o->tls_username && nbd_set_tls_username(h, o->tls_username) < 0)) {
        return connect_error(c, nbd_get_errno(), libnbd_sentence(), err);
    }
    return 0;
}

static int make_handle(struct nbd *c, struct nbd_handle **ret_handle, struct err *err)
{
    struct nbd_handle *h = nbd_create();
    int r;

    if (!h) {
        return err_set(err, -ENOMEM, "NBD server '%s': no memory for a connection", c->name);
    }
    /* Not preset: on_chunk counts what arrives, and a read that lacks a part fails. */
    if (nbd_set_export_name(h, c->opt.export ? c->opt.export : "") < 0 ||
        nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        nbd_set_pread_initialize(h, false) < 0) {
        r = connect_error(c, nbd_get_errno(), libnbd_sentence(), err);
    } else {
        r = set_tls(c, h, err);
    }
    if (r < 0) {
        nbd_close(h);
        return r;
    }
    *ret_handle = h;
    return 0;
}

/* ---- the first step of TCP, on a worker ---- */

struct lookup {
    struct nbd *c; /* NULL: its owner has given up, the handle is ours to close */
    struct nbd_handle *handle;
    char *host, *port;
    bool done;
    int result, code;
    char sentence[256]; /* libnbd keeps it per thread */
};

static void lookup_free(struct lookup *l)
{
    if (!l) {
        return;
    }
    if (l->handle) {
        nbd_close(l->handle);
    }
    free(l->host);
    free(l->port);
    free(l);
}

static int lookup_work(void *arg)
{
    struct lookup *l = arg;

    l->result = nbd_aio_connect_tcp(l->handle, l->host, l->port);
    if (l->result < 0) {
        l->code = nbd_get_errno();
        snprintf(l->sentence, sizeof(l->sentence), "%s", libnbd_sentence());
    }
    return 0;
}

static void lookup_main(void *arg)
{
    struct lookup *l = arg;
    int r = loop_work(lookup_work, l);

    if (r < 0) {
        l->result = -1;
        l->code = -r;
        snprintf(l->sentence, sizeof(l->sentence), "connect");
    }
    l->done = true;
    if (l->c) {
        nbd_kick(l->c);
    } else {
        lookup_free(l);
    }
}

static struct lookup *lookup_new(struct nbd *c, struct nbd_handle *h)
{
    struct lookup *l = calloc(1, sizeof(*l));

    if (l) {
        l->c = c;
        l->host = strdup(c->host);
        l->port = strdup(c->port);
    }
    if (!l || !l->host || !l->port) {
        lookup_free(l);
        return NULL;
    }
    l->handle = h;
    return l;
}

/* Owns @h while it runs; *@h is NULL afterwards if it has to be left to the worker. */
static int start_tcp(struct nbd *c, struct nbd_handle **h, uint64_t deadline_ns, struct err *err)
{
    struct lookup *l = lookup_new(c, *h);
    int r;

    if (!l || co_start_later(lookup_main, l) < 0) {
        if (l) {
            l->handle = NULL;
        }
        lookup_free(l);
        return err_set(err, -ENOMEM, "NBD server '%s': no memory for a connection", c->name);
    }
    while (!l->done && !c->quit && loop_now_ns() < deadline_ns) {
        nbd_nap(c, deadline_ns);
    }
    if (!l->done) {
        l->c = NULL;
        *h = NULL;
        return c->quit ? -ECANCELED : timeout_error(c, err);
    }
    r = l->result < 0 ? connect_error(c, l->code, l->sentence, err) : 0;
    l->handle = NULL;
    lookup_free(l);
    return r;
}

/* ---- the handshake ---- */

static int start_connecting(struct nbd *c, struct nbd_handle **h, uint64_t deadline_ns, struct err *err)
{
    if (!c->path) {
        return start_tcp(c, h, deadline_ns, err);
    }
    if (nbd_aio_connect_unix(*h, c->path) < 0) {
        return connect_error(c, nbd_get_errno(), libnbd_sentence(), err);
    }
    return 0;
}

static int finish_handshake(struct nbd *c, struct nbd_handle *h, uint64_t deadline_ns, struct err *err)
{
    while (nbd_aio_is_ready(h) <= 0) {
        if (nbd_is_over(h) || nbd_aio_get_fd(h) < 0) {
            return connect_error(c, nbd_get_errno(), libnbd_sentence(), err);
        }
        int r = nbd_turn(c, h, nbd_aio_get_fd(h), deadline_ns);
        if (c->quit) {
            return -ECANCELED;
        }
        if (r == -ETIMEDOUT) {
            return timeout_error(c, err);
        }
        if (r < 0 && r != -ECANCELED && r != -EIO) {
            return err_set_errno(err, r, "NBD server '%s'", c->name);
        }
        if (r == -EIO) { /* libnbd's own failure */
            return connect_error(c, nbd_get_errno(), libnbd_sentence(), err);
        }
    }
    return 0;
}

/* libnbd drops block sizes that make no sense; what is left is checked against the size. */
static int read_block_sizes(struct nbd *c, struct nbd_handle *h, struct nbd_export *e, struct err *err)
{
    int64_t min = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM);
    int64_t preferred = nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED);
    int64_t max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (min > 0) {
        e->align = (uint32_t)min;
    } else {
        /* Not told: whole sectors are safest with an old server, but one whose size has an odd tail, or
         * that tells of single bytes in its block status, can do bytes. */
        e->align = !e->status && e->size % SECTOR_ALIGN == 0 ? SECTOR_ALIGN : 1;
    }
    if (e->size % e->align != 0) {
        return err_set(err, -EINVAL,
                       "NBD server '%s': the size of the export, %" PRIu64
                       " bytes, is not a multiple of its minimum block size %" PRIu32,
                       c->name, e->size, e->align);
    }
    e->preferred = preferred > 0 && preferred <= (int64_t)NBD_TRANSFER_MAX ? (uint32_t)preferred : 0;
    e->max_transfer = max > 0 ? MIN((uint64_t)max, NBD_TRANSFER_MAX) : NBD_TRANSFER_MAX;
    e->max_transfer = MAX(round_down(e->max_transfer, e->align), (uint64_t)e->align);
    return 0;
}

static int read_export(struct nbd *c, struct nbd_handle *h, struct nbd_export *ret_export, struct err *err)
{
    struct nbd_export e = {
        .size = (uint64_t)nbd_get_size(h),
        .read_only = nbd_is_read_only(h) > 0,
        .flush = nbd_can_flush(h) > 0,
        .fua = nbd_can_fua(h) > 0,
        .trim = nbd_can_trim(h) > 0,
        .zero = nbd_can_zero(h) > 0,
        .fast_zero = nbd_can_fast_zero(h) > 0,
        .cache = nbd_can_cache(h) > 0,
        .status = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0,
    };

    if (e.size > BLOCK_SIZE_MAX) {
        return err_set(err, -EFBIG,
                       "NBD server '%s': the export is said to have %" PRIu64
                       " bytes: the most possible is %" PRIu64,
                       c->name, e.size, BLOCK_SIZE_MAX);
    }
    int r = read_block_sizes(c, h, &e, err);
    if (r == 0) {
        *ret_export = e;
    }
    return r;
}

/* ---- all of it ---- */

static int attempt(struct nbd *c, uint64_t deadline_ns, struct nbd_link *ret_link, struct err *err)
{
    struct nbd_handle *h = NULL;
    struct nbd_export export;
    int fd = -1;

    int r = make_handle(c, &h, err);
    if (r == 0) {
        r = start_connecting(c, &h, deadline_ns, err);
    }
    if (r == 0) {
        r = finish_handshake(c, h, deadline_ns, err);
    }
    if (r == 0) {
        r = read_export(c, h, &export, err);
    }
    if (r == 0 && (fd = fcntl(nbd_aio_get_fd(h), F_DUPFD_CLOEXEC, 0)) < 0) {
        r = err_set_errno(err, -errno, "NBD server '%s': no descriptor for the connection", c->name);
    }
    if (r < 0) {
        if (h) {
            nbd_close(h);
        }
        return r;
    }
    *ret_link = (struct nbd_link){.handle = h, .fd = fd, .export = export};
    return 0;
}

int nbd_connect(struct nbd *c, uint64_t deadline_ns, struct nbd_link *ret_link, struct err *err)
{
    int r;

    while ((r = attempt(c, deadline_ns, ret_link, err)) == -EAGAIN) {
        uint64_t again_ns = loop_clock_ns() + BACKLOG_RETRY_NS;
        if (again_ns >= deadline_ns) {
            return timeout_error(c, err);
        }
        if ((r = nbd_rest(c, again_ns)) < 0) {
            return r;
        }
    }
    return r;
}

void nbd_link_close(struct nbd_link *link)
{
    if (link->handle) {
        nbd_close(link->handle);
        link->handle = NULL;
        close(link->fd);
        link->fd = -1;
    }
}
