/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD client driver: a block device behind an NBD server, over libnbd. This file holds the options,
 * what a server's abilities mean for the node, and how a request becomes NBD commands; conn.c keeps
 * the connection. The gate has clamped, aligned and split every request by the server's own limits.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/iov.h"
#include "drivers/nbd/nbd.h"

#define EXPORT_NAME_MAX 4096 /* NBD protocol, "Values": strings */

/* libnbd takes flat buffers. A request with several elements goes element by element where they are
 * this long, and else is copied, in pieces, so that the copies of all requests together stay small. */
#define PIECE_MIN  (256 * KiB)
#define BOUNCE_MAX (2 * MiB) /* a multiple of any minimum block size: libnbd takes up to 64 KiB */

/* ---- options ---- */

static bool is_unix(const struct nbd_options *o)
{
    return o->server_type ? strcmp(o->server_type, "unix") == 0 : o->server_path || o->path;
}

static int check_address(const struct nbd_options *o, struct err *err)
{
    bool server = o->server_type || o->server_path || o->server_host || o->server_port;
    bool legacy = o->path || o->host || o->port;

    if (!server && !legacy) {
        return err_set(err, -EINVAL,
                       "nbd: no server given: expected server.type and server.path, or server.host and "
                       "server.port");
    }
    if (server && legacy) {
        return err_set(err, -EINVAL,
                       "nbd: 'server' and 'path', 'host' or 'port' may not be used at the same time");
    }
    if (o->server_type && strcmp(o->server_type, "unix") != 0 && strcmp(o->server_type, "inet") != 0) {
        return err_set(err, -EINVAL, "nbd: server.type '%s' is unknown: expected unix or inet",
                       o->server_type);
    }
    if (is_unix(o) && (o->server_host || o->server_port || o->host || o->port)) {
        return err_set(err, -EINVAL, "nbd: path and host may not be used at the same time");
    }
    if (is_unix(o) ? !(o->server_path || o->path) : !(o->server_host || o->host)) {
        return err_set(err, -EINVAL, "nbd: the %s of the server is missing", is_unix(o) ? "path" : "host");
    }
    if (!is_unix(o) && o->server_path) {
        return err_set(err, -EINVAL, "nbd: server.path needs server.type unix");
    }
    if (o->export && strlen(o->export) > EXPORT_NAME_MAX) {
        return err_set(err, -EINVAL, "nbd: the export name is longer than %d bytes", EXPORT_NAME_MAX);
    }
    return 0;
}

/* A number must be a port; anything else may be a service's name. */
static int check_port(const char *port, struct err *err)
{
    if (port[strspn(port, "0123456789")] != '\0') {
        return 0;
    }
    unsigned long number = strtoul(port, NULL, 10);
    if (strlen(port) > 5 || number == 0 || number > 65535) {
        return err_set(err, -EINVAL, "nbd: port '%s' is not a number from 1 to 65535", port);
    }
    return 0;
}

static int resolve_address(struct nbd *c, struct err *err)
{
    const struct nbd_options *o = &c->opt;
    int r = check_address(o, err);

    if (r < 0) {
        return r;
    }
    if (is_unix(o)) {
        c->path = o->server_path ? o->server_path : o->path;
        c->name = strdup(c->path);
    } else {
        c->host = o->server_host ? o->server_host : o->host;
        c->port = o->server_port ? o->server_port : o->port ? o->port : "10809"; /* IANA's for nbd */
        if ((r = check_port(c->port, err)) < 0) {
            return r;
        }
        if (asprintf(&c->name, "%s:%s", c->host, c->port) < 0) {
            c->name = NULL;
        }
    }
    return c->name ? 0 : err_set(err, -ENOMEM, "no memory for options");
}

static int check_tls(const struct nbd_options *o, struct err *err)
{
    if (o->tls == CLIENT_TLS_OFF && (o->tls_certificates || o->tls_psk_file || o->tls_username)) {
        return err_set(err, -EINVAL, "nbd: %s needs tls=require (or tls=allow)",
                       o->tls_certificates ? "tls-certificates"
                       : o->tls_psk_file   ? "tls-psk-file"
                                           : "tls-username");
    }
    if (o->tls_certificates && o->tls_psk_file) {
        return err_set(err, -EINVAL,
                       "nbd: tls-certificates and tls-psk-file may not be used at the same time");
    }
    if (o->tls_certificates && access(o->tls_certificates, R_OK | X_OK) < 0) {
        return err_set_errno(err, -errno, "nbd: tls-certificates '%s'", o->tls_certificates);
    }
    if (o->tls_psk_file && access(o->tls_psk_file, R_OK) < 0) {
        return err_set_errno(err, -errno, "nbd: tls-psk-file '%s'", o->tls_psk_file);
    }
    return 0;
}

/* ---- open and close ---- */

static int apply_export(struct nbd *c, struct err *err)
{
    const struct nbd_export *e = &c->link.export;
    struct node *n = c->node;

    if (e->read_only && (n->flags & OPEN_WRITE)) {
        return err_set(err, -EACCES, "NBD server '%s': the export '%s' is read-only", c->name,
                       c->opt.export ? c->opt.export : "");
    }
    n->read_only = n->read_only || e->read_only;
    n->size = e->size;
    n->limits = (struct limits){
        .align = e->align,
        .mem_align = 1,
        .max_transfer = e->max_transfer,
        .max_zero = NBD_RANGE_MAX,
        .max_discard = NBD_RANGE_MAX,
        .zero_align = e->align,
        .discard_align = e->align,
        .preferred = e->preferred,
        .supported = (e->fua ? REQ_FUA : 0) | REQ_UNMAP | (e->fast_zero ? REQ_NO_FALLBACK : 0),
    };
    return 0;
}

static co_fn int nbd_open(struct node *n, struct err *err)
{
    struct nbd *c = n->state;
    int r;

    nbd_conn_init(c, n);
    if (strcmp(loop_engine_name(), "sim") == 0) {
        return err_set(err, -ENOTSUP, "nbd: real servers cannot be reached from the simulation");
    }
    if ((r = resolve_address(c, err)) < 0 || (r = check_tls(&c->opt, err)) < 0) {
        return r;
    }
    if ((r = nbd_conn_open(c, err)) < 0) {
        return r;
    }
    return apply_export(c, err);
}

static co_fn void nbd_driver_close(struct node *n)
{
    struct nbd *c = n->state;

    if (c->node) { /* open has been called */
        nbd_conn_close(c);
    }
    free(TAKE_PTR(c->name));
}

/* ---- requests ---- */

/* How much of the request, from byte @done on, goes as one command. *ret_base is the caller's memory if
 * that is flat there, up to the end or for long enough; NULL: it has to be copied. */
static uint64_t next_piece(const struct req *r, uint64_t done, uint32_t align, void **ret_base)
{
    const struct iovec *e = r->iov;
    uint64_t left = r->bytes - done, skip = done;

    while (skip >= e->iov_len) {
        skip -= e++->iov_len;
    }
    uint64_t flat = MIN(e->iov_len - skip, left);
    if (flat < left) {
        flat = round_down(flat, align);
    }
    if (flat == left || flat >= PIECE_MIN) {
        *ret_base = (char *)e->iov_base + skip;
        return flat;
    }
    *ret_base = NULL;
    return MIN(left, BOUNCE_MAX);
}

static co_fn int transfer_bounced(struct nbd *c, const struct req *r, uint64_t done, struct nbd_call *call)
{
    call->buf = buf_get(call->bytes);
    if (!call->buf) {
        return -ENOMEM;
    }
    if (r->op == REQ_WRITE) {
        iov_to_buf(r->iov, r->niov, done, call->buf, call->bytes);
    }
    int ret = nbd_perform(c, call);
    if (ret == 0 && r->op == REQ_READ) {
        iov_from_buf(r->iov, r->niov, done, call->buf, call->bytes);
    }
    buf_put(call->buf, call->bytes);
    return ret;
}

static co_fn int transfer(struct nbd *c, const struct req *r)
{
    int ret = 0;

    for (uint64_t done = 0; done < r->bytes && ret == 0;) {
        struct nbd_call call = {.op = r->op, .flags = r->flags, .offset = r->offset + done};
        call.bytes = next_piece(r, done, c->link.export.align, &call.buf);
        ret = call.buf ? nbd_perform(c, &call) : transfer_bounced(c, r, done, &call);
        done += call.bytes;
    }
    return ret;
}

/* Make a server's answer usable: within what was asked, whole blocks, never nothing. */
static int clip_extent(struct nbd *c, struct extent *e, uint64_t bytes)
{
    uint32_t align = c->link.export.align;

    if (e->bytes == 0) {
        return -EIO; /* no answer, or one of no length: against the protocol */
    }
    e->bytes = MIN(e->bytes, bytes);
    if (e->bytes % align != 0) {
        if (e->bytes < align) { /* the block's rest is unknown: it is data */
            *e = (struct extent){.bytes = align, .data = true};
        }
        e->bytes = round_down(e->bytes, align);
    }
    return 0;
}

static co_fn int status(struct node *n, const struct req *r)
{
    struct nbd *c = n->state;
    struct extent e = {.bytes = r->bytes, .data = true};

    if (c->link.export.status) {
        uint64_t bytes = MIN(r->bytes, NBD_RANGE_MAX);
        struct nbd_call call = {.op = REQ_STATUS, .offset = r->offset, .bytes = bytes, .extent = &e};
        int ret = nbd_perform(c, &call);
        if (ret == 0) {
            ret = clip_extent(c, &e, bytes);
        }
        if (ret < 0) {
            return ret;
        }
    }
    e.allocated = e.data || e.zero;
    e.has_offset = true;
    e.offset = r->offset;
    e.file = n;
    e.eof = r->offset + e.bytes == n->size;
    *r->extent = e;
    return 0;
}

static co_fn int nbd_io(struct node *n, struct req *r)
{
    struct nbd *c = n->state;
    const struct nbd_export *e = &c->link.export;
    struct nbd_call call = {.op = r->op, .flags = r->flags, .offset = r->offset, .bytes = r->bytes};

    switch (r->op) {
    case REQ_READ:
    case REQ_WRITE:
        return transfer(c, r);
    case REQ_ZERO:
        if (!e->zero || ((r->flags & REQ_NO_FALLBACK) && !e->fast_zero)) {
            return -ENOTSUP;
        }
        return nbd_perform(c, &call);
    case REQ_DISCARD:
        return e->trim ? nbd_perform(c, &call) : -ENOTSUP;
    case REQ_FLUSH: /* a server without the command keeps nothing back that it could write down */
        return e->flush ? nbd_perform(c, &call) : 0;
    case REQ_CACHE:
        call.bytes = MIN(call.bytes, NBD_RANGE_MAX);
        return e->cache ? nbd_perform(c, &call) : 0; /* a hint */
    case REQ_STATUS:
        return status(n, r);
    case REQ_TRUNCATE: /* the protocol has no command for it */
        return r->offset == n->size ? 0 : -ENOTSUP;
    default:
        return -ENOTSUP;
    }
}

/* ---- the driver ---- */

static const char *const tls_values[] = {"off", "allow", "require", NULL};

#define OPT(member) offsetof(struct nbd, opt.member)
#define TIMEOUT_MAX (86400 * NS_PER_SEC) /* a day */

static const struct option nbd_options[] = {
    {"server.type", OPT_STRING, OPT(server_type),
     .help = "unix or inet (default: what the other options say)"},
    {"server.path", OPT_STRING, OPT(server_path), .help = "path of the server's unix socket"},
    {"server.host", OPT_STRING, OPT(server_host), .help = "host name or address of the server"},
    {"server.port", OPT_STRING, OPT(server_port), .help = "port number or service name (default 10809)"},
    {"path", OPT_STRING, OPT(path), .help = "the same as server.path"},
    {"host", OPT_STRING, OPT(host), .help = "the same as server.host"},
    {"port", OPT_STRING, OPT(port), .help = "the same as server.port"},
    {"export", OPT_STRING, OPT(export), .help = "name of the export (default: the empty name)"},
    {"tls", OPT_ENUM, OPT(tls), .def = "off", .values = tls_values,
     .help = "off: never, allow: if the server offers it, require: or fail"},
    {"tls-certificates", OPT_STRING, OPT(tls_certificates),
     .help = "directory with ca-cert.pem, client-cert.pem and client-key.pem"},
    {"tls-psk-file", OPT_STRING, OPT(tls_psk_file), .help = "file of pre-shared keys, lines USERNAME:KEY"},
    {"tls-username", OPT_STRING, OPT(tls_username),
     .help = "user name in the file of keys (default: the login name)"},
    {"tls-verify-peer", OPT_BOOL, OPT(tls_verify_peer), .def = "on",
     .help = "check the server's certificate"},
    {"connect-timeout", OPT_NS, OPT(connect_timeout_ns), .def = "10s", .max = TIMEOUT_MAX,
     .help = "time for one attempt to connect, handshake included (0: no limit)"},
    {"open-timeout", OPT_NS, OPT(open_timeout_ns), .def = "0", .max = TIMEOUT_MAX,
     .help = "repeat attempts to open for that long (0: one attempt)"},
    {"request-timeout", OPT_NS, OPT(request_timeout_ns), .def = "60s", .max = TIMEOUT_MAX,
     .help = "time for the answer to a request; then the connection is given up (0: no limit)"},
    {"reconnect-delay", OPT_NS, OPT(reconnect_delay_ns), .def = "0", .max = TIMEOUT_MAX,
     .help = "requests wait that long for a lost connection to come back, and are sent again (0: they fail)"},
    {0},
};

const struct driver driver_nbd = {
    .name = "nbd",
    .kind = DRIVER_PROTOCOL,
    .summary = "A block device behind an NBD server, on a unix socket or TCP.",
    .options = nbd_options,
    .prefixes = nbd_prefixes,
    .parse_name = nbd_parse_name,
    .make_name = nbd_make_name,
    .state_size = sizeof(struct nbd),
    .open = nbd_open,
    .close = nbd_driver_close,
    .io = nbd_io,
};
