/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD server: fixed newstyle, structured replies, base:allocation, TLS.
 *
 * One server lives on one loop and serves any number of nodes under their export names, on any
 * number of listening sockets. Every request is a coroutine on that loop. A client can reach
 * nothing but its own connection: what it sends is checked, what it may hold is bounded (limits
 * below), and what it has started finishes even if it goes away.
 */
#ifndef EXPORT_NBD_SERVER_H
#define EXPORT_NBD_SERVER_H

#include "block/block.h"
#include "wire/nbd.h"

struct nbd_server;
struct nbd_export;

/* Requests and payload bytes that one connection, and all of them together, may have in flight. A
 * connection that has nothing in flight may always start one request, so that a greedy client
 * cannot starve another: the whole is bounded by NBD_SERVER_BYTES_MAX + NBD_PAYLOAD_MAX for each
 * client. Twice the largest payload, so that one is received while another is written. */
#define NBD_CONN_REQUESTS_MAX   256u
#define NBD_CONN_BYTES_MAX      (2 * NBD_PAYLOAD_MAX)
#define NBD_SERVER_REQUESTS_MAX 4096u
#define NBD_SERVER_BYTES_MAX    (512 * MiB)

#define NBD_CLIENTS_DEFAULT      100u
#define NBD_HANDSHAKE_DEFAULT_NS (10 * NS_PER_SEC) /* QEMU's, too */
#define NBD_SPIN_DEFAULT_NS      (NS_PER_MS / 50)
#define NBD_DRAIN_NS             (10 * NS_PER_SEC) /* after a stop: clients whose replies wait are cut off */
#define NBD_LISTENERS_MAX        16u
#define NBD_EXPORTS_MAX          1024u

enum nbd_tls_mode {
    NBD_TLS_OFF,
    NBD_TLS_ON,      /* offered */
    NBD_TLS_REQUIRE, /* nothing but STARTTLS is answered without it */
};

struct nbd_client_info {
    unsigned id;         /* of this client of this server, from 1 */
    bool connected;      /* else: has left */
    const char *export;  /* name */
    const char *address; /* that it came to, as nbd_server_address; "" if it was adopted */
};

struct nbd_server_config {
    unsigned max_clients;          /* at once; 0: NBD_CLIENTS_DEFAULT. More of them wait to be accepted. */
    uint64_t handshake_timeout_ns; /* UINT64_MAX: none */
    /* Look for the only client's next request for so long before sleeping, while that pays; 0: do not. */
    uint64_t spin_ns;
    enum nbd_tls_mode tls;
    const char *tls_certificates; /* directory: server-cert.pem, server-key.pem, ca-cert.pem */
    const char *tls_psk;          /* file of NAME:HEXKEY lines, as psktool writes */
    bool tls_verify_peer;         /* clients must show a certificate signed by ca-cert.pem */
    /* Something a person should know. May be NULL. */
    void (*notice)(void *opaque, const char *sentence);
    /* A client has chosen its export, or has left after that. May be NULL. */
    void (*client_changed)(void *opaque, const struct nbd_client_info *info);
    void *opaque;
};

int nbd_server_create(const struct nbd_server_config *config, struct nbd_server **ret_server,
                      struct err *err);
/* All connections must have ended (nbd_server_wait). NULL is fine. */
void nbd_server_destroy(struct nbd_server *s);

/* Serve @node as @name; the first one is also the default export (the empty name). The server
 * takes no reference: the node outlives it. @description may be NULL. -EEXIST, -EINVAL. */
int nbd_server_export(struct nbd_server *s, const char *name, struct node *node, bool read_only,
                      const char *description, struct err *err);

/* No more clients for the export called @name. Those that have it: -EBUSY if there are any, or with @hard
 * they are disconnected. On success *@ret_export is for nbd_server_unexport_wait, which must be called.
 * -ENOENT. */
int nbd_server_unexport(struct nbd_server *s, const char *name, bool hard, struct nbd_export **ret_export,
                        struct err *err);
/* Wait until the last request of the last client of the export is done; its node is not used any more then,
 * and @e is gone. */
co_fn void nbd_server_unexport_wait(struct nbd_server *s, struct nbd_export *e);

/* Listen on "unix:PATH" (made by this call and removed by nbd_server_stop; one left by a dead
 * server is replaced) or "tcp:[HOST][:PORT]" (port 0: any free one; default 10809), and accept
 * clients from now on. */
co_fn int nbd_server_listen(struct nbd_server *s, const char *address, struct err *err);

/* What the n-th listener ended up with: "unix:/path" or "tcp:127.0.0.1:10809"; NULL past the end. */
const char *nbd_server_address(const struct nbd_server *s, unsigned n);
/* Its URI for an export, malloc'ed. */
char *nbd_server_uri(const struct nbd_server *s, unsigned n, const char *export_name);
/* Its TCP port; 0 on a unix socket. */
unsigned nbd_server_port(const struct nbd_server *s, unsigned n);

/* Serve one connected, non-blocking stream socket, which the server owns from now on (also on
 * failure). -ENOMEM. */
int nbd_server_adopt(struct nbd_server *s, int fd);

unsigned nbd_server_clients(const struct nbd_server *s);

/* Accept and read no more; what was read is finished and answered. Returns at once; again is fine. */
void nbd_server_stop(struct nbd_server *s);
/* Wait until the last connection and listener have gone. */
co_fn void nbd_server_wait(struct nbd_server *s);

#endif
