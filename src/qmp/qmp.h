/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QMP server: QEMU's monitor protocol, in front of a graph of nodes.
 *
 * One server lives on the graph's loop and listens on any number of sockets, for any number of clients up
 * to a limit. Clients are believed nothing: what they send is checked, what they may hold is bounded, and
 * one that stalls, floods or vanishes delays nobody but itself. They are trusted, though: whoever can connect
 * can open, change and destroy whatever the process can.
 */
#ifndef QMP_QMP_H
#define QMP_QMP_H

#include "export/fuse/fuse.h"
#include "export/nbd/server.h"

struct qmp_server;

#define QMP_PORT_DEFAULT  4444u
#define QMP_LISTENERS_MAX 16u
#define QMP_CLIENTS_MAX   256u /* at once; more wait to be accepted */
#define QMP_DISKS_MAX     1024u

struct qmp_config {
    struct graph *graph; /* its event member is taken over */
    /* The NBD server that nbd-server-stop ends, and a new one is put by nbd-server-start, made with
     * @nbd_config. */
    struct nbd_server **nbd;
    const struct nbd_server_config *nbd_config;
    unsigned open_flags; /* of blockdev-add: enum open_flags */
    /* Something a person should know. May be NULL. */
    void (*notice)(void *opaque, const char *sentence);
    /* A client said quit, and was answered. */
    void (*quit)(void *opaque);
    /* Run a line of `blkproof io` on the node; what it printed, malloc'ed. NULL: there is no such thing. */
    co_fn char *(*io_command)(void *opaque, struct node *n, const char *line);
    /* Mount @want->node at @want->mountpoint: mountpoint, node, read_only, growable, allow_other are set.
     * NULL: there is no FUSE. */
    co_fn int (*fuse_make)(void *opaque, const struct fuse_export_config *want,
                           struct fuse_export **ret_export, struct err *err);
    /* Wait until an export, which has been stopped or is gone, has finished all; then free it. */
    co_fn void (*fuse_end)(void *opaque, struct fuse_export *e);
    void *opaque;
};

int qmp_server_create(const struct qmp_config *config, struct qmp_server **ret_server, struct err *err);

/* Listen on "tcp:[HOST]:PORT[,server=on][,wait=off][,allow-remote=on]" or "unix:PATH[,...]", as QEMU's -qmp
 * takes it. Without allow-remote=on, HOST must be this machine. */
co_fn int qmp_server_listen(struct qmp_server *s, const char *address, struct err *err);
/* What the n-th listener ended up with: "unix:/path" or "tcp:127.0.0.1:4444"; NULL past the end. */
const char *qmp_server_address(const struct qmp_server *s, unsigned n);

/* A disk that the program serves: its device name and its root node, which outlives the server.
 * -EINVAL: the name is in use. */
int qmp_server_add_disk(struct qmp_server *s, const char *id, struct node *n, struct err *err);

/* A node that the NBD server exports as @name: for query-block-exports, and block-export-del to take away. */
int qmp_server_add_export(struct qmp_server *s, const char *id, const char *name, struct node *n,
                          struct err *err);

/* The same for a FUSE export. */
int qmp_server_add_fuse(struct qmp_server *s, const char *id, struct fuse_export *e, struct node *n,
                        struct err *err);
/* One that was added, or made by fuse_make, has been unmounted by somebody. */
void qmp_server_fuse_gone(struct qmp_server *s, const struct fuse_export *e);
/* The name of the disk whose root is @n, or "". */
const char *qmp_server_disk(const struct qmp_server *s, const struct node *n);

/* Serve one connected, non-blocking stream socket, which the server owns from now on (also on
 * failure). -ENOMEM. */
int qmp_server_adopt(struct qmp_server *s, int fd);

/* Raise an event; @data is used up, and may be NULL. */
void qmp_server_event(struct qmp_server *s, const char *name, json_t *data);

/* What nbd_server_config's client_event should call. */
void qmp_server_nbd_client(struct qmp_server *s, const struct nbd_client_info *info);

/* Say SHUTDOWN with @reason ("host-signal", "host-qmp-quit", ...), accept no more, end what commands wait
 * for, answer them. Returns at once; again is fine. */
void qmp_server_stop(struct qmp_server *s, const char *reason);
/* Wait until the last client has gone; close the nodes and exports that clients have made. The NBD server
 * must have no clients any more. */
co_fn void qmp_server_wait(struct qmp_server *s);
void qmp_server_destroy(struct qmp_server *s);

#endif
