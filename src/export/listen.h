/* SPDX-License-Identifier: BSD-2-Clause */
/* Sockets that a server listens on: what NBD and QMP share. */
#ifndef EXPORT_LISTEN_H
#define EXPORT_LISTEN_H

#include "base/err.h"
#include "loop/co.h"

struct listener {
    int fd;        /* non-blocking; -1: closed */
    char *path;    /* of a unix socket, absolute; or NULL */
    char *address; /* what it ended up with: "unix:/path" or "tcp:127.0.0.1:10809" */
    char *host;    /* as given, without brackets; NULL on a unix socket */
    unsigned port; /* 0 on a unix socket */
};

enum {
    LISTEN_LOCAL = 1,   /* tcp: only addresses of this machine: -EACCES for others */
    LISTEN_PRIVATE = 2, /* unix: nobody but this user may connect */
};

/* Listen on "unix:PATH" (made here, removed by listener_close; one left by a dead server is replaced)
 * or "tcp:[HOST][:PORT]" (no host: any address; port 0: any free one). */
co_fn int listener_open(struct listener *l, const char *address, unsigned default_port, unsigned flags,
                        struct err *err);
/* Harmless on a closed one. */
void listener_close(struct listener *l);

#endif
