/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client's connection: private to this folder.
 *
 * A connection is two coroutines and its requests. The reader takes many requests with one recv and
 * starts a coroutine for each; a request whose node answers at once is done before the next is
 * looked at. Its reply is queued. The reader sends the queue whenever about half a batch's worth has
 * gathered, and before it sleeps; what completes while the reader sleeps is sent by the sender, after
 * everything that became runnable together with it has run. Nobody but the sender waits for the
 * socket to take data, so a client that does not read its replies cannot keep us from reading its
 * requests, up to the limits.
 */
#ifndef EXPORT_NBD_CONN_H
#define EXPORT_NBD_CONN_H

#include "block/presence.h"
#include "export/listen.h"
#include "export/nbd/server.h"

#define RX_BYTES      (256 * KiB) /* one receive buffer: some 60 written 4 KiB blocks */
#define RX_MAX        8           /* of them per connection, pinned by payloads that are used in place */
#define INPLACE_MAX   (32 * KiB)  /* larger payloads are received into a buffer of their own */
#define OP_HEAD_BYTES 48          /* chunk header (20), what precedes its payload (12 at most), 1 extent */
#define SEND_IOV_MAX  256         /* elements per sendmsg */

/* Replies gathered before they are sent: half of the last batch, within these bounds. Measured:
 * with 8 requests in flight a client and server in lock-step lose half of what 16 KiB gets, and
 * with 32 in flight 64 KiB is best. */
#define GATHER_MIN (16 * KiB)
#define GATHER_MAX (64 * KiB)

/* Receives after which a client with an endless supply of requests lets others have a turn. */
#define TURNS_MAX 4u

struct nbd_tls;
struct nbd_tls_creds;

struct nbd_export {
    char *name;
    char *description; /* or NULL */
    struct node *node;
    struct nbd_server *server;
    struct presence_watch watch; /* of the node */
    bool read_only;
    bool removed; /* not for new clients */
};

struct rx {
    uint8_t *data; /* RX_BYTES, from buf_get at first use */
    unsigned refs; /* the reader while it is the current one, and every payload in it */
};

/* One request from its arrival to its reply's departure; pooled per connection. */
struct nbd_op {
    struct list link; /* conn->free_ops, or conn->replies */
    struct nbd_conn *conn;
    struct nbd_request wire;
    struct iovec iov;
    uint8_t *buf; /* of buf_get: read data, a large payload, extents; or NULL */
    size_t buf_bytes;
    struct rx *rx;    /* payload in place, or NULL */
    uint64_t charged; /* bytes counted against the limits */
    /* The reply: head, then tail. */
    uint8_t head[OP_HEAD_BYTES];
    unsigned head_bytes;
    const void *tail;
    size_t tail_bytes;
};

struct nbd_conn {
    struct nbd_server *server;
    struct list link; /* server->conns */
    int fd;
    unsigned id;
    const char *address; /* of the listener; "" */
    struct nbd_tls *tls;
    struct timer handshake_timer;

    /* negotiated */
    const struct nbd_export *export;
    const struct nbd_export *meta_export; /* base:allocation was selected for it, or NULL */
    bool no_zeroes, structured;
    bool negotiating; /* it may hold on to an export that it has not chosen yet */

    /* receiving */
    struct rx rx[RX_MAX];
    struct rx *cur;
    size_t head, tail;               /* not yet parsed bytes of cur */
    size_t recv_max;                 /* how much the next recv asks for */
    bool reader_active;              /* running: it will send the queue itself */
    unsigned turns;                  /* receives in a row that did not have to wait */
    unsigned batch;                  /* requests taken since the last receive */
    bool lone;                       /* they come one at a time */
    unsigned spin_misses, spin_skip; /* looks in vain in a row; sleeps until the next look */

    /* requests */
    struct list free_ops;
    unsigned in_flight;
    uint64_t bytes;
    struct co_queue room; /* the reader waits for a request, buffer or budget to come free */

    /* sending */
    struct list replies;
    size_t queued_bytes; /* in replies */
    size_t batch_bytes;  /* queued since the reader last ran dry */
    size_t gather_bytes;
    size_t sent_bytes; /* of the first reply */
    struct co_queue send_work;
    bool sender_alive;

    struct co_queue changed; /* the reader, closing, waits for in_flight and sender_alive */
    bool stopping;           /* the server ends: read no more */
    bool closing;            /* the reader has ended: no more requests come */
    bool dead;               /* the socket is of no use: replies are dropped */
};

struct nbd_listener {
    struct nbd_server *server;
    struct listener at;
    bool accepting; /* its coroutine is alive */
};

struct nbd_server {
    struct nbd_server_config config;
    struct nbd_tls_creds *creds;
    struct nbd_export **exports;
    unsigned nexports;
    struct nbd_listener listeners[NBD_LISTENERS_MAX];
    unsigned nlisteners;
    struct list conns;
    unsigned nconns, next_conn;
    unsigned in_flight;
    uint64_t bytes;
    struct co_queue room;    /* readers that wait for the common budget */
    struct co_queue slot;    /* acceptors that wait for a client to leave */
    struct co_queue changed; /* nbd_server_wait */
    struct timer drain_timer;
    bool stopping;
    bool told_full, told_starved; /* each is reported once */
};

void nbd_notice(const struct nbd_server *s, const char *fmt, ...) PRINTF(2, 3);

/* ---- conn.c: its life, its bytes ---- */

/* Make a connection and its coroutines. Owns @fd. */
int conn_start(struct nbd_server *s, int fd, const char *address);
/* Read no more requests; the running ones finish. */
void conn_stop(struct nbd_conn *c);
/* The socket is of no use any more. */
void conn_fail(struct nbd_conn *c);

/* Have at least @n unparsed bytes in one piece (n <= INPLACE_MAX + a header). 0; -ESHUTDOWN at the
 * end of the stream or of the server; or -errno. Queued replies go out before it waits. */
co_fn int conn_need(struct nbd_conn *c, size_t n);
/* Read and forget. */
co_fn int conn_skip(struct nbd_conn *c, uint64_t n);
/* Fill @buf, from what is there and then straight from the socket. */
co_fn int conn_read(struct nbd_conn *c, void *buf, size_t n);
/* Send all of it before returning: the handshake's way. */
co_fn int conn_write(struct nbd_conn *c, const struct iovec *iov, int niov);

static inline const uint8_t *conn_at(const struct nbd_conn *c)
{
    return c->cur->data + c->head;
}
static inline size_t conn_avail(const struct nbd_conn *c)
{
    return c->tail - c->head;
}

/* ---- handshake.c ---- */

/* From the greeting to the transmission phase: 0 with conn->export set, -ECONNRESET if the client
 * left or was told to, or -errno. */
co_fn int nbd_handshake(struct nbd_conn *c);

/* ---- transmission.c ---- */

/* Serve requests until the client leaves. */
co_fn void nbd_transmission(struct nbd_conn *c);

/* ---- reply.c ---- */

/* Queue the reply of @op: @rc is what its node returned. @text, which must stay, explains an error. */
void op_reply(struct nbd_op *op, int rc, const char *text);
/* Send as much of the queue as the socket takes now; the sender does the rest. */
void conn_flush(struct nbd_conn *c);
void conn_drop_replies(struct nbd_conn *c);
/* The sender's coroutine. */
co_fn void conn_sender(void *conn);
/* One sendmsg or TLS record batch: bytes taken, -EAGAIN or -errno. */
ssize_t conn_send_now(struct nbd_conn *c, struct iovec *iov, int niov);
bool conn_send_pending(const struct nbd_conn *c);

/* ---- op pool: transmission.c ---- */
void op_put(struct nbd_op *op);

/* ---- tls.c ---- */

int nbd_tls_creds_create(const struct nbd_server_config *config, struct nbd_tls_creds **ret_creds,
                         struct err *err);
void nbd_tls_creds_destroy(struct nbd_tls_creds *creds);
/* Do the server's side of the TLS handshake; sets conn->tls. */
co_fn int nbd_tls_start(struct nbd_conn *c, struct err *err);
/* Bytes of plain text, 0 at the end, -EAGAIN or -errno. */
ssize_t nbd_tls_recv_now(struct nbd_tls *t, void *buf, size_t len);
/* Wait until the socket has something: 0 or -errno. */
co_fn int nbd_tls_wait(struct nbd_tls *t);
/* Bytes taken (which may still lie in our buffers: nbd_tls_pending), -EAGAIN or -errno. */
ssize_t nbd_tls_send_now(struct nbd_tls *t, const struct iovec *iov, int niov);
bool nbd_tls_pending(const struct nbd_tls *t);
/* Say goodbye if that needs no waiting, and free. NULL is fine. */
void nbd_tls_destroy(struct nbd_tls *t);

#endif
