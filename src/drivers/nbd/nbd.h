/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the NBD client share: the node's state, one connection that is lost and found
 * again, and the operations under way on it.
 */
#ifndef DRIVERS_NBD_NBD_H
#define DRIVERS_NBD_NBD_H

#include <libnbd.h>

#include "block/driver.h"

/* In flight at once; more wait their turn. libnbd looks replies up in a list of them, and its manual
 * advises 64. */
#define NBD_IN_FLIGHT_MAX 64
/* A request is sent this often at most, so that a server that comes back only to die of it again
 * ends in an error. */
#define NBD_SENDS_MAX 5
/* Largest READ or WRITE without a limit from the server: what every server takes (NBD protocol,
 * "Block size constraints"). */
#define NBD_TRANSFER_MAX (32 * MiB)
/* ZERO, DISCARD, STATUS, CACHE carry no data, but a slow server may need long for many bytes. */
#define NBD_RANGE_MAX (1 * GiB)

enum client_tls { CLIENT_TLS_OFF, CLIENT_TLS_ALLOW, CLIENT_TLS_REQUIRE };

/* As given by the user; see the option table. */
struct nbd_options {
    char *server_type, *server_path, *server_host, *server_port; /* QEMU's server=... */
    char *path, *host, *port;                                    /* the same, older spelling */
    char *export;
    int tls; /* enum client_tls */
    char *tls_certificates, *tls_psk_file, *tls_username;
    bool tls_verify_peer;
    uint64_t connect_timeout_ns, open_timeout_ns, request_timeout_ns; /* 0: none */
    uint64_t reconnect_delay_ns;
};

/* What a server said in the handshake. */
struct nbd_export {
    uint64_t size;
    uint32_t align, preferred;
    uint64_t max_transfer;
    bool read_only, flush, fua, trim, zero, fast_zero, cache, status;
};

/* A live connection: libnbd's handle, and a duplicate of its socket. libnbd closes its own as soon as
 * the connection dies, whoever noticed; ours stays valid while somebody polls it. */
struct nbd_link {
    struct nbd_handle *handle;
    int fd;
    struct nbd_export export;
};

enum nbd_state {
    NBD_UP,      /* connected */
    NBD_WAITING, /* lost; requests wait for up to reconnect-delay */
    NBD_DOWN,    /* lost; requests fail, and meanwhile we try to connect */
    NBD_REFUSED, /* what came back is not the device we had: for good */
};

struct nbd {
    struct nbd_options opt; /* first: the option table's offsets */
    struct node *node;
    char *name;       /* the server, for sentences: a path or host:port */
    const char *path; /* unix socket; NULL: host and port. All three point into opt */
    const char *host, *port;

    enum nbd_state state;
    struct nbd_link link;
    int lost_error;      /* why requests fail while it is not up: -EIO or -ETIMEDOUT */
    bool answered;       /* this connection has answered a request */
    bool told;           /* the user knows that connections are lost */
    uint64_t backoff_ns; /* before the next attempt to connect */

    struct list in_flight; /* of struct nbd_op, in the order of their deadlines */
    unsigned in_flight_count;
    struct co_queue turn; /* requests that wait for a slot or for a connection */

    /* The connection coroutine: reads replies, and connects again. */
    bool running, quit;
    bool expired;   /* a request was not answered in time: give the connection up */
    int waiting_fd; /* in fd_poll for it; -1: not */
    short waiting_events;
    struct co_queue resting; /* it sleeps between two attempts */
    struct co_queue ended;   /* close waits for its end */
    struct timer answer_timer, delay_timer, rest_timer;
};

/* One command, as libnbd takes it. */
struct nbd_call {
    enum req_op op;
    unsigned flags; /* enum req_flags */
    uint64_t offset, bytes;
    void *buf;
    struct extent *extent;
};

/* name.c */
extern const char *const nbd_prefixes[];
int nbd_parse_name(const char *name, json_t *options, struct err *err);
char *nbd_make_name(const struct node *n);

/* connect.c: one attempt to connect, up to the end of the handshake, that gives up at @deadline_ns or
 * when c->quit is set and the coroutine is kicked (-ECANCELED). */
co_fn int nbd_connect(struct nbd *c, uint64_t deadline_ns, struct nbd_link *ret_link, struct err *err);
void nbd_link_close(struct nbd_link *link);
/* Poll libnbd's socket once and move its state machine along. 0; -ECANCELED when kicked; -ETIMEDOUT. Whether
 * the connection lives is libnbd's to say afterwards. */
co_fn int nbd_turn(struct nbd *c, struct nbd_handle *h, int fd, uint64_t deadline_ns);
/* True once libnbd has given up, or said goodbye. */
bool nbd_is_over(struct nbd_handle *h);

/* conn.c */
void nbd_conn_init(struct nbd *c, struct node *n);
/* Connect for the first time, and start the coroutine that keeps the connection. */
co_fn int nbd_conn_open(struct nbd *c, struct err *err);
co_fn void nbd_conn_close(struct nbd *c);
/* Send one command and wait for its answer, over a new connection if it must be. */
co_fn int nbd_perform(struct nbd *c, const struct nbd_call *call);
/* Make the connection coroutine look at what has changed. */
void nbd_kick(struct nbd *c);
/* Sleep once, until @until_ns or a kick. */
co_fn void nbd_nap(struct nbd *c, uint64_t until_ns);
/* Sleep until @until_ns. -ECANCELED if c->quit is set meanwhile. */
co_fn int nbd_rest(struct nbd *c, uint64_t until_ns);
static inline uint64_t nbd_deadline(uint64_t timeout_ns)
{
    uint64_t now = loop_clock_ns();
    return timeout_ns == 0 || timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

#endif
