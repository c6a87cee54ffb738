/* SPDX-License-Identifier: BSD-2-Clause */
/* Where workers and targets live: without a network, in a PID namespace that ends as one, on a tmpfs of their
 * own. */
#ifndef FUZZ_RUN_SANDBOX_H
#define FUZZ_RUN_SANDBOX_H

#include "base/err.h"

enum sandbox_level {
    SANDBOX_NONE, /* process groups and limits only */
    SANDBOX_NET,  /* and no network */
    SANDBOX_FULL, /* and own processes, mounts, System V IPC */
};

/* The best that is permitted here. */
enum sandbox_level sandbox_probe(void);
/* Fork a process of this level that ends when the caller does, and run @fn(@arg) in it. With SANDBOX_FULL a
 * tmpfs of at most @tmpfs_bytes is at @work, which is there. Returns the process to wait for, or -errno. */
pid_t sandbox_fork(enum sandbox_level level, const char *work, uint64_t tmpfs_bytes, int (*fn)(void *arg),
                   void *arg);

#endif
