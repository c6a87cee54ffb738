/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command of --run. Its variables are passed in the environment and never through the text of
 * the command, so that no export name or path can be taken for shell syntax.
 */
#include "tools/serve_run.h"

#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

/* ---- its environment ---- */

#define VARIABLES_MAX 10

static void free_strings(char ***strings)
{
    for (char **s = *strings; s && *s; s++) {
        free(*s);
    }
    free(*strings);
}

/* "nbd", the form that predates URIs; kept by nbdkit for old QEMU command lines. */
static char *old_style(const struct run_variables *v)
{
    char *text = NULL;
    const char *sep = *v->export_name ? ":exportname=" : "";
    int rc = *v->unixsocket ? asprintf(&text, "nbd=nbd:unix:%s%s%s", v->unixsocket, sep, v->export_name)
                            : asprintf(&text, "nbd=nbd:localhost:%s%s%s", v->port, sep, v->export_name);
    return rc < 0 ? NULL : text;
}

static char *variable(const char *name, const char *value)
{
    char *text = NULL;
    return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

/* The variables, NULL at the end; NULL if there is no memory. */
static char **own_variables(const struct run_variables *v)
{
    const char *const pairs[][2] = {
        {"uri", v->uri},
        {"unixsocket", v->unixsocket},
        {"port", v->port},
        {"export", v->export_name},
        {"exportname", v->export_name},
        {"fuse", v->fuse},
        {"tls", v->tls},
        {"tls_certificates", v->tls_certificates},
        {"tls_psk", v->tls_psk},
    };
    CLEANUP(free_strings) char **own = calloc(VARIABLES_MAX + 1, sizeof(char *));
    size_t n = 0;

    if (!own || !(own[n++] = old_style(v))) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        if (!(own[n++] = variable(pairs[i][0], pairs[i][1]))) {
            return NULL;
        }
    }
    return TAKE_PTR(own);
}

static bool replaced(const char *entry, char *const *own)
{
    size_t len = strcspn(entry, "=");

    for (; *own; own++) {
        if (strncmp(entry, *own, len + 1) == 0) {
            return true;
        }
    }
    return false;
}

/* Ours, then what we were given. The array is the caller's, the strings are not. */
static char **merged(char *const *own)
{
    size_t n = 0, count = VARIABLES_MAX + 1;

    for (char **e = environ; *e; e++) {
        count++;
    }
    char **all = calloc(count, sizeof(char *));
    if (!all) {
        return NULL;
    }
    for (char *const *e = own; *e; e++) {
        all[n++] = *e;
    }
    for (char **e = environ; *e; e++) {
        if (!replaced(*e, own)) {
            all[n++] = *e;
        }
    }
    return all;
}

/* ---- its life ---- */

int run_start(const char *command, const struct run_variables *vars, const sigset_t *mask, pid_t *ret_pid,
              struct err *err)
{
    CLEANUP(free_strings) char **own = own_variables(vars);
    AUTO_FREE char **env = own ? merged(own) : NULL;
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)command, NULL};
    posix_spawnattr_t attr;
    sigset_t defaults;

    if (!env || posix_spawnattr_init(&attr) != 0) {
        return err_set(err, -ENOMEM, "no memory to start '%s'", command);
    }
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); /* we ignore these; the command should not */
    sigaddset(&defaults, SIGXFSZ);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setsigmask(&attr, mask);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawn(ret_pid, "/bin/sh", NULL, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    return rc != 0 ? err_set_errno(err, -rc, "cannot start '/bin/sh -c %s'", command) : 0;
}

struct blocking_wait {
    pid_t pid;
    int status;
};

static int wait_here(void *arg)
{
    struct blocking_wait *w = arg;

    while (waitpid(w->pid, &w->status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int run_wait(pid_t pid)
{
    struct blocking_wait w = {.pid = pid};
    AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int rc;

    if (fd >= 0 && fd_poll(fd, POLLIN, UINT64_MAX) > 0) {
        rc = wait_here(&w);
    } else {
        rc = loop_work(wait_here, &w); /* a kernel before 5.3, or no memory to poll */
    }
    if (rc < 0) {
        return 1;
    }
    return WIFSIGNALED(w.status) ? 128 + WTERMSIG(w.status) : WEXITSTATUS(w.status);
}
