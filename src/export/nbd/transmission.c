/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transmission phase: one request after the other is taken from the receive buffer, checked
 * against the export and the specification, and started as a coroutine, which is entered at once.
 * What is wrong with a request is answered; only a stream that makes no sense any more (a wrong
 * magic number) ends the connection.
 */
#include "export/nbd/conn.h"

/* One NBD request may ask for more than a node takes at once (REQ_BYTES_MAX). */
#define PIECE_MAX (1 * GiB)

/* Extents in one answer, 64 KiB of them, and look-ups for it: a client asks on from where it
 * ends. */
#define STATUS_EXTENTS_MAX 8192u
#define STATUS_LOOKUPS_MAX 16384u

/* ---- requests: the pool, and what they may hold ---- */

static struct nbd_op *op_get(struct nbd_conn *c)
{
    struct nbd_op *op = list_first(&c->free_ops, struct nbd_op, link);

    if (op) {
        list_del(&op->link);
    } else if (!(op = calloc(1, sizeof(*op)))) {
        return NULL;
    } else {
        list_init(&op->link);
        op->conn = c;
    }
    c->in_flight++;
    c->server->in_flight++;
    return op;
}

void op_put(struct nbd_op *op)
{
    struct nbd_conn *c = op->conn;
    struct nbd_server *s = c->server;

    buf_put(TAKE_PTR(op->buf), op->buf_bytes);
    if (op->rx) {
        op->rx->refs--;
        op->rx = NULL;
    }
    c->bytes -= op->charged;
    s->bytes -= op->charged;
    op->charged = 0;
    list_add_head(&c->free_ops, &op->link);
    c->in_flight--;
    s->in_flight--;
    co_queue_wake_one(&c->room);
    if (UNLIKELY(!co_queue_empty(&s->room))) {
        co_queue_wake_all(&s->room);
    }
    if (UNLIKELY(c->closing && c->in_flight == 0)) {
        co_queue_wake_all(&c->changed);
        co_queue_wake_one(&c->send_work);
    }
}

static bool conn_has_room(const struct nbd_conn *c, uint64_t bytes)
{
    return c->in_flight == 0 ||
           (c->in_flight < NBD_CONN_REQUESTS_MAX && c->bytes + bytes <= NBD_CONN_BYTES_MAX);
}

static bool server_has_room(const struct nbd_conn *c, uint64_t bytes)
{
    const struct nbd_server *s = c->server;

    return c->in_flight == 0 ||
           (s->in_flight < NBD_SERVER_REQUESTS_MAX && s->bytes + bytes <= NBD_SERVER_BYTES_MAX);
}

/* Wait until a request of @bytes may be started. */
static int budget(struct nbd_conn *c, uint64_t bytes)
{
    while (UNLIKELY(!conn_has_room(c, bytes) || !server_has_room(c, bytes))) {
        conn_flush(c);
        if (c->dead) {
            return -ESHUTDOWN;
        }
        if (conn_has_room(c, bytes) && server_has_room(c, bytes)) {
            break;
        }
        c->reader_active = false;
        co_queue_wait(conn_has_room(c, bytes) ? &c->server->room : &c->room);
        c->reader_active = true;
    }
    return 0;
}

static void charge(struct nbd_op *op, uint64_t bytes)
{
    op->charged = bytes;
    op->conn->bytes += bytes;
    op->conn->server->bytes += bytes;
}

static int op_buffer(struct nbd_op *op, size_t bytes)
{
    op->buf = buf_get(bytes);
    op->buf_bytes = bytes;
    return op->buf ? 0 : -ENOMEM;
}

/* ---- performing them ---- */

static int do_rw(struct nbd_op *op, enum req_op what)
{
    struct req r = {.op = what,
                    .flags = what == REQ_WRITE && (op->wire.flags & NBD_CMD_FLAG_FUA) ? REQ_FUA : 0,
                    .offset = op->wire.offset,
                    .bytes = op->wire.length,
                    .iov = &op->iov,
                    .niov = 1,
                    .client = op->conn->id};
    return node_io(op->conn->export->node, &r);
}

static int do_read(struct nbd_op *op)
{
    if (op->wire.length == 0) {
        return 0;
    }
    if (op_buffer(op, op->wire.length) < 0) {
        return -ENOMEM;
    }
    op->iov = (struct iovec){op->buf, op->wire.length};
    return do_rw(op, REQ_READ);
}

static int do_write(struct nbd_op *op)
{
    return op->wire.length == 0 ? 0 : do_rw(op, REQ_WRITE);
}

/* ZERO, DISCARD or CACHE of a range that may be larger than one request. */
static int do_range(struct nbd_op *op, enum req_op what, unsigned flags)
{
    uint64_t offset = op->wire.offset, left = op->wire.length;

    while (left > 0) {
        uint64_t bytes = MIN(left, PIECE_MAX);
        struct req r = {.op = what, .flags = flags, .offset = offset, .bytes = bytes, .client = op->conn->id};
        int rc = node_io(op->conn->export->node, &r);
        if (rc < 0) {
            return rc;
        }
        offset += bytes;
        left -= bytes;
    }
    return 0;
}

static int do_zero(struct nbd_op *op)
{
    unsigned flags = 0;

    flags |= op->wire.flags & NBD_CMD_FLAG_FUA ? REQ_FUA : 0;
    flags |= op->wire.flags & NBD_CMD_FLAG_NO_HOLE ? 0 : REQ_UNMAP;
    flags |= op->wire.flags & NBD_CMD_FLAG_FAST_ZERO ? REQ_NO_FALLBACK : 0;
    return do_range(op, REQ_ZERO, flags);
}

static int do_trim(struct nbd_op *op)
{
    return do_range(op, REQ_DISCARD, op->wire.flags & NBD_CMD_FLAG_FUA ? REQ_FUA : 0);
}

static int do_cache(struct nbd_op *op)
{
    int rc = do_range(op, REQ_CACHE, 0);
    return rc == -ENOTSUP ? 0 : rc; /* a hint */
}

static int do_flush(struct nbd_op *op)
{
    struct req r = {.op = REQ_FLUSH, .client = op->conn->id};
    return node_io(op->conn->export->node, &r);
}

static uint32_t status_flags(const struct extent *e)
{
    return (e->data ? 0 : NBD_STATE_HOLE) | (e->zero ? NBD_STATE_ZERO : 0);
}

/* Fill @out with up to @max extents of the asked range, neighbours alike made one. */
static int list_extents(struct nbd_op *op, uint8_t *out, unsigned max, unsigned *ret_count)
{
    uint64_t offset = op->wire.offset, left = op->wire.length;
    struct nbd_extent last = {0};
    unsigned count = 0;

    for (unsigned i = 0; left > 0 && i < STATUS_LOOKUPS_MAX; i++) {
        struct extent e = {0};
        int rc = node_status(op->conn->export->node, offset, MIN(left, PIECE_MAX), &e);
        if (rc == -ENOTSUP) {
            e = (struct extent){.bytes = MIN(left, PIECE_MAX), .data = true};
        } else if (rc < 0) {
            return rc;
        }
        uint32_t bytes = (uint32_t)MIN(e.bytes, left);
        if (bytes == 0) {
            return -EIO;
        }
        if (count > 0 && last.flags == status_flags(&e)) {
            last.length += bytes;
        } else if (count == max) {
            break;
        } else {
            last = (struct nbd_extent){.length = bytes, .flags = status_flags(&e)};
            count++;
        }
        nbd_extent_put(out + (size_t)(count - 1) * NBD_BYTES_extent, last);
        offset += bytes;
        left -= bytes;
    }
    *ret_count = count;
    return 0;
}

static int do_status(struct nbd_op *op)
{
    unsigned max = op->wire.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : STATUS_EXTENTS_MAX;
    unsigned count = 0;

    if (op_buffer(op, (size_t)max * NBD_BYTES_extent) < 0) {
        return -ENOMEM;
    }
    int rc = list_extents(op, op->buf, max, &count);
    op->iov.iov_len = (size_t)count * NBD_BYTES_extent;
    return rc;
}

struct command {
    int (*perform)(struct nbd_op *op);
    uint16_t flags;   /* that may be set, beside FUA, which every command takes */
    bool modifies;    /* refused on a read-only export */
    int beyond;       /* the error past the end, "Error values" */
    const char *text; /* the sentence when the node fails it */
};

static const struct command commands[] = {
    [NBD_CMD_READ] = {do_read, NBD_CMD_FLAG_DF, false, -EINVAL, "the read failed"},
    [NBD_CMD_WRITE] = {do_write, 0, true, -ENOSPC, "the write failed"},
    [NBD_CMD_FLUSH] = {do_flush, 0, false, 0, "the flush failed"},
    [NBD_CMD_TRIM] = {do_trim, 0, true, -EINVAL, "the trim failed"},
    [NBD_CMD_CACHE] = {do_cache, 0, false, -EINVAL, "the prefetch failed"},
    [NBD_CMD_WRITE_ZEROES] = {do_zero, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, -ENOSPC,
                              "writing zeroes failed"},
    [NBD_CMD_BLOCK_STATUS] = {do_status, NBD_CMD_FLAG_REQ_ONE, false, -EINVAL,
                              "the block status could not be read"},
};

static void op_main(void *arg)
{
    struct nbd_op *op = arg;
    const struct command *cmd = &commands[op->wire.type];

    node_admit(op->conn->export->node);
    op_reply(op, cmd->perform(op), cmd->text);
}

/* ---- checking them ---- */

/* 0, or the error to answer and the sentence that goes with it. */
static int check(const struct nbd_conn *c, const struct nbd_request *q, const char **ret_text)
{
    if (q->type >= ARRAY_SIZE(commands) || !commands[q->type].perform) {
        *ret_text = "there is no such command";
        return -EINVAL;
    }
    const struct command *cmd = &commands[q->type];
    uint64_t size = node_size(c->export->node);

    if (q->flags & ~(cmd->flags | NBD_CMD_FLAG_FUA)) {
        *ret_text = "this command does not have such a flag";
        return -EINVAL;
    }
    if ((q->flags & NBD_CMD_FLAG_DF) && !c->structured) {
        *ret_text = "NBD_CMD_FLAG_DF needs structured replies";
        return -EINVAL;
    }
    if (cmd->modifies && c->export->read_only) {
        *ret_text = "the export is read-only";
        return -EPERM;
    }
    if (q->type == NBD_CMD_FLUSH) {
        return 0; /* offset and length are reserved */
    }
    if (q->offset > size || q->length > size - q->offset) {
        *ret_text = "the request goes past the end of the export";
        return cmd->beyond;
    }
    if ((q->type == NBD_CMD_READ || q->type == NBD_CMD_WRITE) && q->length > NBD_PAYLOAD_MAX) {
        *ret_text = "the request is larger than the maximum payload of 32 MiB";
        return q->type == NBD_CMD_READ && c->structured ? -EOVERFLOW : -EINVAL;
    }
    if (q->type == NBD_CMD_BLOCK_STATUS && c->meta_export != c->export) {
        *ret_text = "no metadata context was selected for this export";
        return -EINVAL;
    }
    if (q->type == NBD_CMD_BLOCK_STATUS && q->length == 0) {
        *ret_text = "the block status of no bytes has no answer";
        return -EINVAL;
    }
    return 0;
}

/* ---- receiving them ---- */

/* A payload that fits the receive buffer is used where it lies; a larger one is received into
 * memory of its own, page-aligned, with no copy but that of its beginning. */
static int take_payload(struct nbd_op *op)
{
    struct nbd_conn *c = op->conn;
    size_t n = op->wire.length;

    if (n <= INPLACE_MAX) {
        int rc = conn_need(c, n);
        if (rc < 0) {
            return rc;
        }
        op->rx = c->cur;
        op->rx->refs++;
        op->iov = (struct iovec){(void *)(uintptr_t)conn_at(c), n};
        c->head += n;
        return 0;
    }
    if (op_buffer(op, n) < 0) {
        return -ENOMEM;
    }
    op->iov = (struct iovec){op->buf, n};
    return conn_read(c, op->buf, n);
}

static uint64_t payload_bytes(const struct nbd_request *q)
{
    switch (q->type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return q->length;
    case NBD_CMD_BLOCK_STATUS:
        return STATUS_EXTENTS_MAX * NBD_BYTES_extent;
    default:
        return 0;
    }
}

/* Answer an error without troubling a node. */
static int refuse(struct nbd_conn *c, const struct nbd_request *q, int code, const char *text)
{
    if (q->type == NBD_CMD_WRITE) {
        int rc = conn_skip(c, q->length);
        if (rc < 0) {
            return rc;
        }
    }
    int rc = budget(c, 0);
    if (rc < 0) {
        return rc;
    }
    struct nbd_op *op = op_get(c);
    if (!op) {
        return -ENOMEM;
    }
    op->wire = *q;
    op_reply(op, code, text);
    return 0;
}

static int start(struct nbd_conn *c, const struct nbd_request *q)
{
    uint64_t bytes = payload_bytes(q);
    int rc = budget(c, bytes);
    if (rc < 0) {
        return rc;
    }
    struct nbd_op *op = op_get(c);
    if (!op) {
        return refuse(c, q, -ENOMEM, NULL);
    }
    op->wire = *q;
    charge(op, bytes);
    if (q->type == NBD_CMD_WRITE) {
        rc = take_payload(op);
        if (rc < 0) {
            bool unread = rc == -ENOMEM && !op->buf && !op->rx;
            op_put(op);
            return unread ? refuse(c, q, -ENOMEM, NULL) : rc;
        }
    }
    if (co_start(op_main, op) < 0) {
        op_reply(op, -ENOMEM, NULL);
    }
    return 0;
}

/* Take one request. -ESHUTDOWN: the client says goodbye; -EPROTO: it makes no sense. */
static int take_request(struct nbd_conn *c)
{
    struct nbd_request q = nbd_request_get(conn_at(c));
    const char *text = NULL;

    if (q.magic != NBD_REQUEST_MAGIC) {
        return -EPROTO;
    }
    c->head += NBD_BYTES_request;
    c->batch++;
    if (q.type == NBD_CMD_DISC) {
        return -ESHUTDOWN;
    }
    bool large = q.type == NBD_CMD_WRITE && q.length > INPLACE_MAX;
    int rc = check(c, &q, &text);
    rc = rc < 0 ? refuse(c, &q, rc, text) : start(c, &q);
    /* After a large payload probably comes another: its beginning would only have to be copied. */
    c->recv_max = large ? NBD_BYTES_request : RX_BYTES;
    if (c->queued_bytes >= c->gather_bytes) {
        conn_flush(c);
    }
    return rc;
}

/* All requests of a batch are parsed: adapt to its size. */
static void end_batch(struct nbd_conn *c)
{
    size_t half = MAX(GATHER_MIN, c->batch_bytes / 2);
    c->gather_bytes = MIN(GATHER_MAX, half);
    c->batch_bytes = 0;
}

void nbd_transmission(struct nbd_conn *c)
{
    int rc = 0;

    c->reader_active = true;
    while (rc == 0) {
        if (conn_avail(c) < NBD_BYTES_request) {
            end_batch(c);
            rc = conn_need(c, NBD_BYTES_request);
        }
        if (rc == 0) {
            rc = take_request(c);
        }
    }
    if (rc == -EPROTO) {
        nbd_notice(c->server, "export '%s': a client sent something that is not a request; disconnected",
                   c->export->name);
    }
    conn_flush(c);
    c->reader_active = false;
}
