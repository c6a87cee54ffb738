/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One process of a test: started (or forked by a fork server), limited, watched, ended as a group. An
 * executor belongs to one worker process, which runs one test at a time; it blocks, and is used outside of
 * any loop.
 */
#ifndef FUZZ_RUN_EXEC_H
#define FUZZ_RUN_EXEC_H

#include "base/err.h"

struct run_limits {
    uint64_t time_ns;      /* by the clock on the wall */
    uint64_t memory_bytes; /* resident, of the process */
    uint64_t disk_bytes;   /* allocated in the test's directory */
    uint64_t output_bytes; /* stdout and stderr together */
    uint64_t file_bytes;   /* RLIMIT_FSIZE: further writes fail; UINT64_MAX: none */
    uint64_t as_bytes;     /* RLIMIT_AS: further allocations fail; UINT64_MAX: none (sanitizers need that) */
};

enum run_end {
    RUN_EXITED,
    RUN_SIGNALED,
    /* ended by us: */
    RUN_TIMEOUT,
    RUN_MEMORY,
    RUN_DISK,
    RUN_OUTPUT,
};

struct run_result {
    enum run_end end;
    int code; /* exit status, or the signal */
    uint64_t ns, maxrss_bytes, output_bytes, disk_bytes;
    bool ran; /* in place of a struct that nobody has filled */
};

#define RUN_ARGS_MAX    256
#define RUN_SERVERS_MAX 16 /* fork servers, one for each program of a campaign */

struct run_server {
    char *program;
    int fd; /* -1: this program is started anew each time */
    pid_t pid;
};

struct executor {
    struct run_limits limits;
    const char *dir;     /* of the test: cwd of its processes */
    const char *preload; /* the library; NULL: none */
    bool fork_server;
    int output_fd; /* stdout and stderr of the process, at most output_bytes and a moment's more */
    struct run_server servers[RUN_SERVERS_MAX];
    unsigned nservers;
    uint64_t (*disk_usage)(void *opaque); /* bytes allocated in @dir; NULL: not watched */
    void *opaque;
    void (*notice)(void *opaque, const char *sentence); /* what the user should know, once each */
    void *notice_opaque;
};

/* The other members are set by the caller, before. */
int executor_init(struct executor *x, struct err *err);
void executor_finish(struct executor *x);

/* Run @argv (argv[0] is a path with a slash) to its end. @out: a file in @dir that gets stdout, or NULL. The
 * result is as above; an error is that the process could not be started. No process of it is left. */
int executor_run(struct executor *x, char *const argv[], const char *out, struct run_result *ret,
                 struct err *err);
/* As above, with the preload library reporting stacks and without a fork server. */
int executor_run_stack(struct executor *x, char *const argv[], const char *out, struct run_result *ret,
                       struct err *err);

/* The output of the last run, the first and last @half bytes of it, malloc'ed, a string. */
char *executor_output(const struct executor *x, size_t half);

/* Whether the preload library can work in @program: dynamically linked, ELF, not setuid. */
bool run_is_preloadable(const char *program);
/* @name as the shell finds it in $PATH, absolute, malloc'ed. -ENOENT. */
int run_find_program(const char *name, char **ret_path, struct err *err);
/* Where the preload library is: the build tree, libexec; malloc'ed, NULL if it is nowhere. */
char *run_find_preload(void);

/* ---- fork servers (server.c) ---- */

/* The server of @program, started if need be; NULL: it cannot have one. */
struct run_server *executor_server(struct executor *x, const char *program);
/* Ask for a run. Returns its process, or -errno; the server must be dropped after an error. */
pid_t run_server_start(struct run_server *s, const struct executor *x, char *const argv[], const char *out);
void run_server_drop(struct run_server *s);

/* ---- what both ways share ---- */

/* In a new process: standard files, limits, group, cwd. 0 or -errno. */
int run_become(const struct executor *x, const char *out);

#endif
