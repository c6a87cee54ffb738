/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof serve --run`: a shell command beside the server. */
#ifndef TOOLS_SERVE_RUN_H
#define TOOLS_SERVE_RUN_H

#include <signal.h>

#include "base/err.h"
#include "loop/loop.h"

/* What the command finds in its environment, as nbdkit's --run provides. */
struct run_variables {
    const char *uri;        /* of the first export */
    const char *unixsocket; /* path, or "" */
    const char *port;       /* decimal, or "" */
    const char *export_name;
    const char *fuse;                       /* where the first export is mounted, or "" */
    const char *tls;                        /* "", "on", "require" */
    const char *tls_certificates, *tls_psk; /* or "" */
};

/* Start `/bin/sh -c @command` with the signal mask @mask. */
int run_start(const char *command, const struct run_variables *vars, const sigset_t *mask, pid_t *ret_pid,
              struct err *err);

/* Wait for it: its exit status, or 128 + the number of the signal that ended it, as shells say. */
co_fn int run_wait(pid_t pid);

#endif
