/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running one process of a test. Time, memory, disk and output are looked at every 50 ms; what takes less
 * pays nothing for it. A process that ended may have left others: its group is killed, and who left the group
 * comes to us as an orphan (PR_SET_CHILD_SUBREAPER, or init of a PID namespace) and is killed then.
 */
#include "fuzz/run/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "fuzz/run/preload.h"

#define TICK_MS 50

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

int executor_init(struct executor *x, struct err *err)
{
    x->output_fd = memfd_create("output", MFD_CLOEXEC);
    if (x->output_fd < 0 || fcntl(x->output_fd, F_SETFL, O_APPEND) < 0) {
        return err_set_errno(err, -errno, "make a file for output");
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        return err_set_errno(err, -errno, "become a subreaper");
    }
    return 0;
}

void executor_finish(struct executor *x)
{
    for (unsigned i = 0; i < x->nservers; i++) {
        run_server_drop(&x->servers[i]);
        free(x->servers[i].program);
    }
    x->nservers = 0;
    if (x->output_fd >= 0) {
        close(TAKE_FD(x->output_fd));
    }
}

/* ---- starting ---- */

static void limit(int resource, uint64_t value)
{
    if (value != UINT64_MAX) {
        const struct rlimit rl = {.rlim_cur = value, .rlim_max = value};
        setrlimit(resource, &rl);
    }
}

int run_become(const struct executor *x, const char *out)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int file = -1;
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* a write past the limit is an error like a full disk, not an end */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(RLIMIT_CORE, 0);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(x->output_fd, STDERR_FILENO) < 0 ||
        chdir(x->dir) < 0) {
        return -errno;
    }
    if (out) {
        file = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    return (out && file < 0) || dup2(out ? file : x->output_fd, STDOUT_FILENO) < 0 ? -errno : 0;
}

struct spawning {
    const struct executor *x;
    char *const *argv;
    char *const *env;
    const char *out;
    volatile int code; /* -errno of the child, which shares our memory until it execs */
};

/* The child borrows this process until exec: nothing here may allocate or touch what is not its own. */
static pid_t spawn(struct spawning *s)
{
    pid_t pid = vfork();

    if (pid == 0) {
        s->code = run_become(s->x, s->out);
        if (s->code == 0) {
            limit(RLIMIT_CPU, div_up(s->x->limits.time_ns, NS_PER_SEC) + 1);
            limit(RLIMIT_FSIZE, s->x->limits.file_bytes);
            limit(RLIMIT_AS, s->x->limits.as_bytes);
            execve(s->argv[0], s->argv, s->env);
            s->code = -errno;
        }
        _exit(127);
    }
    return pid;
}

/* ---- watching ---- */

static uint64_t resident_bytes(pid_t pid)
{
    char path[64], text[128];
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    const char *second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static uint64_t output_bytes(const struct executor *x)
{
    struct stat st;
    return fstat(x->output_fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* RUN_EXITED: go on. */
static enum run_end judge(struct executor *x, pid_t pid, struct run_result *r, uint64_t started_ns)
{
    const struct run_limits *l = &x->limits;

    r->ns = now_ns() - started_ns;
    r->maxrss_bytes = MAX(r->maxrss_bytes, resident_bytes(pid));
    r->output_bytes = output_bytes(x);
    r->disk_bytes = x->disk_usage ? x->disk_usage(x->opaque) : 0;
    return r->ns >= l->time_ns                 ? RUN_TIMEOUT
           : r->maxrss_bytes > l->memory_bytes ? RUN_MEMORY
           : r->output_bytes > l->output_bytes ? RUN_OUTPUT
           : r->disk_bytes > l->disk_bytes     ? RUN_DISK
                                               : RUN_EXITED;
}

/* Wait until @fd is readable, which it is when the process has ended. */
static enum run_end watch(struct executor *x, pid_t pid, int fd, struct run_result *r, uint64_t started_ns)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        uint64_t passed = now_ns() - started_ns;
        uint64_t left_ms = passed < x->limits.time_ns ? div_up(x->limits.time_ns - passed, NS_PER_MS) : 0;
        int n = poll(&p, 1, (int)MIN(left_ms, (uint64_t)TICK_MS));
        if (n > 0) {
            return RUN_EXITED;
        }
        enum run_end end = judge(x, pid, r, started_ns);
        if (end != RUN_EXITED) {
            return end;
        }
    }
}

/* ---- ending ---- */

static bool is_server(const struct executor *x, pid_t pid)
{
    for (unsigned i = 0; i < x->nservers; i++) {
        if (x->servers[i].pid == pid) {
            return true;
        }
    }
    return false;
}

/* Our children but the servers; -1: this kernel does not say. */
static int kill_children(const struct executor *x)
{
    AUTO_CLOSE int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    int killed = 0;

    if (n < 0) {
        return -1;
    }
    text[n] = '\0';
    for (char *p = text, *end; (end = NULL, *p); p = end) {
        pid_t pid = (pid_t)strtol(p, &end, 10);
        if (end == p) {
            break;
        }
        if (pid > 0 && !is_server(x, pid)) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
            killed++;
        }
    }
    return killed;
}

/* Orphans that come to us, and theirs, until none is left. */
static void end_strays(const struct executor *x)
{
    unsigned servers = 0;

    for (unsigned i = 0; i < x->nservers; i++) {
        servers += x->servers[i].pid > 0;
    }
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG | __WALL);
        if (pid < 0) {
            return; /* nobody is left */
        }
        if (pid > 0) {
            continue;
        }
        int killed = kill_children(x);
        if (killed == 0 || (killed < 0 && servers > 0)) {
            return;
        }
        if (killed < 0) {
            kill(-1,
                 SIGKILL); /* of a PID namespace all; elsewhere this is not reached on a kernel of today */
        }
        waitpid(-1, NULL, __WALL);
    }
}

static void take_status(struct run_result *r, int status)
{
    if (r->end != RUN_EXITED) {
        r->code = SIGKILL;
    } else if (WIFSIGNALED(status)) {
        r->end = RUN_SIGNALED;
        r->code = WTERMSIG(status);
    } else {
        r->code = WEXITSTATUS(status);
    }
}

/* Limits that were passed between two looks. */
static void judge_late(struct executor *x, struct run_result *r)
{
    r->output_bytes = output_bytes(x);
    if (r->end == RUN_EXITED) {
        r->end = r->maxrss_bytes > x->limits.memory_bytes   ? RUN_MEMORY
                 : r->output_bytes > x->limits.output_bytes ? RUN_OUTPUT
                                                            : RUN_EXITED;
    }
}

static int run_spawned(struct executor *x, struct spawning *s, struct run_result *r, struct err *err)
{
    struct rusage usage = {0};
    int status = 0;
    uint64_t started_ns = now_ns();
    pid_t pid = spawn(s);

    if (pid < 0) {
        return err_set_errno(err, -errno, "start '%s'", s->argv[0]);
    }
    if (s->code < 0) {
        waitpid(pid, NULL, 0);
        return err_set_errno(err, s->code, "start '%s'", s->argv[0]);
    }
    AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        int code = -errno;
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_set_errno(err, code, "watch '%s'", s->argv[0]);
    }
    r->end = watch(x, pid, fd, r, started_ns);
    if (r->end != RUN_EXITED) {
        kill(-pid, SIGKILL);
    }
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    kill(-pid, SIGKILL);
    r->ns = now_ns() - started_ns;
    r->maxrss_bytes = MAX(r->maxrss_bytes, (uint64_t)usage.ru_maxrss * KiB);
    take_status(r, status);
    return 0;
}

/* -EAGAIN: the server is of no use any more. */
static int run_served(struct executor *x, struct run_server *s, char *const argv[], const char *out,
                      struct run_result *r)
{
    struct preload_ended ended;
    uint64_t started_ns = now_ns();
    pid_t pid = run_server_start(s, x, argv, out);

    if (pid <= 0) {
        run_server_drop(s);
        return -EAGAIN;
    }
    r->end = watch(x, pid, s->fd, r, started_ns);
    if (r->end != RUN_EXITED) {
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
    }
    ssize_t n = recv(s->fd, &ended, sizeof(ended), 0);
    r->ns = now_ns() - started_ns;
    if (n != sizeof(ended)) {
        run_server_drop(s);
        return -EAGAIN;
    }
    r->maxrss_bytes = MAX(r->maxrss_bytes, ended.maxrss_bytes);
    take_status(r, ended.status);
    if (ended.strays) {
        run_server_drop(s); /* its orphans become ours */
    }
    return 0;
}

int executor_run(struct executor *x, char *const argv[], const char *out, struct run_result *ret,
                 struct err *err)
{
    struct run_server *server = x->fork_server ? executor_server(x, argv[0]) : NULL;
    struct run_result r = {.ran = true};
    int code = -EAGAIN;

    if (ftruncate(x->output_fd, 0) < 0) {
        return err_set_errno(err, -errno, "empty the output");
    }
    if (server) {
        code = run_served(x, server, argv, out, &r);
    }
    if (code == -EAGAIN) {
        struct spawning s = {.x = x, .argv = argv, .env = environ, .out = out};
        r = (struct run_result){.ran = true};
        code = run_spawned(x, &s, &r, err);
    }
    end_strays(x);
    if (code == 0) {
        judge_late(x, &r);
        *ret = r;
    }
    return code;
}

int executor_run_stack(struct executor *x, char *const argv[], const char *out, struct run_result *ret,
                       struct err *err)
{
    struct run_result r = {.ran = true};
    AUTO_FREE char *setting = NULL;
    size_t n = 0;

    while (environ[n]) {
        n++;
    }
    AUTO_FREE char **env = calloc(n + 2, sizeof(*env));
    if (!env || !x->preload || asprintf(&setting, "LD_PRELOAD=%s", x->preload) < 0 ||
        ftruncate(x->output_fd, 0) < 0) {
        return err_set(err, -ENOTSUP, "no preload library");
    }
    memcpy(env, environ, n * sizeof(*env));
    env[n] = setting;
    struct spawning s = {.x = x, .argv = argv, .env = env, .out = out};
    int code = run_spawned(x, &s, &r, err);
    end_strays(x);
    if (code == 0) {
        judge_late(x, &r);
        *ret = r;
    }
    return code;
}

char *executor_output(const struct executor *x, size_t half)
{
    static const char gap[] = "\n[...]\n";
    uint64_t len = output_bytes(x);
    bool whole = len <= 2 * half;
    size_t first = whole ? len : half, last = whole ? 0 : half;
    char *text = malloc(first + last + sizeof(gap));

    if (!text) {
        return NULL;
    }
    ssize_t n = pread(x->output_fd, text, first, 0);
    size_t have = n > 0 ? (size_t)n : 0;
    if (last > 0) {
        memcpy(text + have, gap, sizeof(gap) - 1);
        have += sizeof(gap) - 1;
        n = pread(x->output_fd, text + have, last, (off_t)(len - last));
        have += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < have; i++) {
        text[i] = text[i] ? text[i] : '?'; /* it becomes a string */
    }
    text[have] = '\0';
    return text;
}
