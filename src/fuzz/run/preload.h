/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the runner and its preload library (src/fuzz/preload) say to each other, over a SOCK_SEQPACKET socket
 * whose number stands in the environment. Nothing but this header is shared: the library lives in other
 * people's programs.
 *
 *     library: struct preload_hello             once, before main
 *     runner:  struct preload_request + text    for each run; the text is cwd, stdout ("": as the server's),
 * arguments, each with its zero byte library: struct preload_started           at once library: struct
 * preload_ended             when the process has ended
 *
 * Without a socket the library only reports stacks.
 */
#ifndef FUZZ_RUN_PRELOAD_H
#define FUZZ_RUN_PRELOAD_H

#include <stdint.h>

#define PRELOAD_ENV         "BLKPROOF_FUZZ_SOCKET"
#define PRELOAD_MAGIC       UINT32_C(0x62666b31)
#define PRELOAD_REQUEST_MAX (64 * 1024)
#define PRELOAD_ARGS_MAX    1024

/* On stderr when a signal ends the process: this line, then one "MODULE+0xOFFSET" for each frame. */
#define PRELOAD_STACK_LINE "==blkproof-fuzz stack of signal "

struct preload_hello {
    uint32_t magic;
};

struct preload_request {
    uint32_t args;
    uint32_t cpu_seconds;          /* RLIMIT_CPU */
    uint64_t file_bytes, as_bytes; /* RLIMIT_FSIZE, RLIMIT_AS; UINT64_MAX: no limit */
};

struct preload_started {
    int32_t pid; /* or -errno */
};

struct preload_ended {
    int32_t status;  /* of wait() */
    uint32_t strays; /* descendants are left that this server could not end */
    uint64_t maxrss_bytes;
};

#endif
