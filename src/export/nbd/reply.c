/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replies: built in the request's own memory, queued, gathered into as few sendmsg calls as
 * possible. Payloads are sent from where they lie. Never waits, but for the sender's coroutine.
 */
#include <poll.h>
#include <stdio.h>

#include "export/nbd/conn.h"

static void put_chunk(struct nbd_op *op, uint16_t type, uint32_t length)
{
    nbd_chunk_put(op->head, (struct nbd_chunk){.magic = NBD_STRUCTURED_REPLY_MAGIC,
                                               .flags = NBD_REPLY_FLAG_DONE,
                                               .type = type,
                                               .cookie = op->wire.cookie,
                                               .length = length});
    op->head_bytes = NBD_BYTES_chunk;
}

static void put_simple(struct nbd_op *op, uint32_t error)
{
    nbd_simple_reply_put(op->head, (struct nbd_simple_reply){.magic = NBD_SIMPLE_REPLY_MAGIC,
                                                             .error = error,
                                                             .cookie = op->wire.cookie});
    op->head_bytes = NBD_BYTES_simple_reply;
}

static void build_error(struct nbd_op *op, int rc, const char *text)
{
    uint32_t error = nbd_error_from_errno(rc);

    /* "SHOULD NOT return NBD_ENOTSUP except as documented" for fast zeroes. */
    if (error == NBD_ENOTSUP &&
        !(op->wire.type == NBD_CMD_WRITE_ZEROES && (op->wire.flags & NBD_CMD_FLAG_FAST_ZERO))) {
        error = NBD_EINVAL;
    }
    if (!op->conn->structured) {
        put_simple(op, error);
        return;
    }
    size_t len = text ? MIN(strlen(text), NBD_STRING_MAX) : 0;
    put_chunk(op, NBD_REPLY_TYPE_ERROR, (uint32_t)(NBD_BYTES_chunk_error + len));
    nbd_chunk_error_put(op->head + op->head_bytes,
                        (struct nbd_chunk_error){.error = error, .message_length = (uint16_t)len});
    op->head_bytes += NBD_BYTES_chunk_error;
    op->tail = text;
    op->tail_bytes = len;
}

/* What was read lies in op->buf. One chunk, in any case: no error can come any more, and DF is
 * honoured without asking. */
static void build_read(struct nbd_op *op)
{
    uint32_t length = op->wire.length;

    op->tail = op->buf;
    op->tail_bytes = length;
    if (!op->conn->structured) {
        put_simple(op, NBD_SUCCESS);
    } else if (length == 0) {
        put_chunk(op, NBD_REPLY_TYPE_NONE, 0);
    } else {
        put_chunk(op, NBD_REPLY_TYPE_OFFSET_DATA, NBD_BYTES_chunk_data + length);
        nbd_chunk_data_put(op->head + op->head_bytes, (struct nbd_chunk_data){.offset = op->wire.offset});
        op->head_bytes += NBD_BYTES_chunk_data;
    }
}

/* The extents lie in op->buf, iov.iov_len bytes of them. */
static void build_status(struct nbd_op *op)
{
    put_chunk(op, NBD_REPLY_TYPE_BLOCK_STATUS, (uint32_t)(NBD_BYTES_chunk_status + op->iov.iov_len));
    nbd_chunk_status_put(op->head + op->head_bytes, (struct nbd_chunk_status){.context = 1});
    op->head_bytes += NBD_BYTES_chunk_status;
    op->tail = op->buf;
    op->tail_bytes = op->iov.iov_len;
}

void op_reply(struct nbd_op *op, int rc, const char *text)
{
    struct nbd_conn *c = op->conn;

    if (c->dead || rc == REQ_DROPPED) { /* a fault rule's: the client is never answered */
        op_put(op);
        return;
    }
    op->tail_bytes = 0;
    if (rc < 0) {
        build_error(op, rc, text);
    } else if (op->wire.type == NBD_CMD_READ) {
        build_read(op);
    } else if (op->wire.type == NBD_CMD_BLOCK_STATUS) {
        build_status(op);
    } else {
        put_simple(op, NBD_SUCCESS);
    }
    list_add_tail(&c->replies, &op->link);
    c->queued_bytes += op->head_bytes + op->tail_bytes;
    c->batch_bytes += op->head_bytes + op->tail_bytes;
    if (!c->reader_active) {
        co_queue_wake_one(&c->send_work);
    }
}

ssize_t conn_send_now(struct nbd_conn *c, struct iovec *iov, int niov)
{
    return c->tls ? nbd_tls_send_now(c->tls, iov, niov) : sock_send_now(c->fd, iov, niov);
}

bool conn_send_pending(const struct nbd_conn *c)
{
    return !list_empty(&c->replies) || (c->tls && nbd_tls_pending(c->tls));
}

/* Describe the queue, from the first byte not yet sent on. */
static int gather(struct nbd_conn *c, struct iovec *iov)
{
    size_t skip = c->sent_bytes;
    int n = 0;
    struct nbd_op *op;

    list_for_each (op, &c->replies, link) {
        if (n + 2 > SEND_IOV_MAX) {
            break;
        }
        if (skip < op->head_bytes) {
            iov[n++] = (struct iovec){op->head + skip, op->head_bytes - skip};
            skip = 0;
        } else {
            skip -= op->head_bytes;
        }
        if (op->tail_bytes > skip) {
            iov[n++] = (struct iovec){(char *)(uintptr_t)op->tail + skip, op->tail_bytes - skip};
        }
        skip = 0;
    }
    return n;
}

/* @n more bytes are on their way: let go of the replies that are wholly sent. */
static void retire(struct nbd_conn *c, size_t n)
{
    struct nbd_op *op;

    c->sent_bytes += n;
    while ((op = list_first(&c->replies, struct nbd_op, link))) {
        size_t whole = op->head_bytes + op->tail_bytes;
        if (c->sent_bytes < whole) {
            break;
        }
        c->sent_bytes -= whole;
        c->queued_bytes -= whole;
        list_del(&op->link);
        op_put(op);
    }
}

void conn_drop_replies(struct nbd_conn *c)
{
    struct nbd_op *op;

    while ((op = list_first(&c->replies, struct nbd_op, link))) {
        list_del(&op->link);
        op_put(op);
    }
    c->sent_bytes = c->queued_bytes = 0;
}

/* Send until the queue is empty (0), or the socket takes no more (-EAGAIN); after any other error
 * the connection is dead. */
static int send_queue(struct nbd_conn *c)
{
    struct iovec iov[SEND_IOV_MAX];

    while (!c->dead && conn_send_pending(c)) {
        ssize_t n = conn_send_now(c, iov, gather(c, iov));
        if (n == -EAGAIN) {
            return -EAGAIN;
        }
        if (n < 0) {
            conn_fail(c);
            return (int)n;
        }
        retire(c, (size_t)n);
    }
    return 0;
}

void conn_flush(struct nbd_conn *c)
{
    if (send_queue(c) == -EAGAIN) {
        co_queue_wake_one(&c->send_work);
    }
}

void conn_sender(void *conn)
{
    struct nbd_conn *c = conn;

    while (!c->dead) {
        int rc = send_queue(c);
        if (rc == -EAGAIN) {
            rc = fd_poll(c->fd, POLLOUT, UINT64_MAX);
            if (rc < 0) {
                conn_fail(c);
            }
        } else if (c->closing && c->in_flight == 0) {
            break;
        } else if (!conn_send_pending(c)) {
            co_queue_wait(&c->send_work);
        }
    }
    c->sender_alive = false;
    co_queue_wake_all(&c->changed);
}
