/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Namespaces. As root they are made at once, otherwise inside of a user namespace where the user stays
 * himself. A process that makes a PID namespace is not in it, so a keeper stands between the campaign and
 * each worker; death of a parent goes down the line (PR_SET_PDEATHSIG), and the kernel ends a namespace with
 * its first process.
 */
#include "fuzz/run/sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define EXIT_NO_SANDBOX 77

static bool write_text(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* The user is who he was. */
static bool map_user(uid_t uid, gid_t gid)
{
    char text[64];

    snprintf(text, sizeof(text), "%u %u 1", uid, uid);
    if (!write_text("/proc/self/uid_map", text) || !write_text("/proc/self/setgroups", "deny")) {
        return false;
    }
    snprintf(text, sizeof(text), "%u %u 1", gid, gid);
    return write_text("/proc/self/gid_map", text);
}

static bool enter(enum sandbox_level level)
{
    int flags = level == SANDBOX_FULL  ? CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC
                : level == SANDBOX_NET ? CLONE_NEWNET
                                       : 0;
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (flags == 0 || unshare(flags) == 0) {
        return true;
    }
    return unshare(flags | CLONE_NEWUSER) == 0 && map_user(uid, gid);
}

/* In the first process of a PID namespace: a /proc that shows it. */
static bool mount_all(const char *work, uint64_t tmpfs_bytes)
{
    char options[64], self[16] = "";

    snprintf(options, sizeof(options), "mode=0700,size=%llu", (unsigned long long)tmpfs_bytes);
    /* slave: what the host unmounts goes here too, and is not kept in use */
    return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 &&
           mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0 &&
           readlink("/proc/self", self, sizeof(self) - 1) > 0 && strcmp(self, "1") == 0 &&
           (!work || mount("blkproof-fuzz", work, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The keeper. */
static int keep(enum sandbox_level level, const char *work, uint64_t tmpfs_bytes, int (*fn)(void *arg),
                void *arg)
{
    signal(SIGINT, SIG_IGN); /* of the terminal: the campaign says when to stop */
    if (!enter(level)) {
        return EXIT_NO_SANDBOX;
    }
    if (level < SANDBOX_FULL) {
        return fn(arg);
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(mount_all(work, tmpfs_bytes) ? fn(arg) : EXIT_NO_SANDBOX);
    }
    return pid < 0 ? EXIT_NO_SANDBOX : wait_for(pid);
}

pid_t sandbox_fork(enum sandbox_level level, const char *work, uint64_t tmpfs_bytes, int (*fn)(void *arg),
                   void *arg)
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(EXIT_FAILURE); /* it ended before we could ask */
        }
        _exit(keep(level, work, tmpfs_bytes, fn, arg));
    }
    return pid < 0 ? -errno : pid;
}

static int nothing(void *arg)
{
    return 0;
}

enum sandbox_level sandbox_probe(void)
{
    for (enum sandbox_level level = SANDBOX_FULL; level > SANDBOX_NONE; level--) {
        pid_t pid = sandbox_fork(level, NULL, MiB, nothing, NULL);
        if (pid > 0 && wait_for(pid) == 0) {
            return level;
        }
    }
    return SANDBOX_NONE;
}
