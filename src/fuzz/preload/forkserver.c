/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The preload library of `blkproof fuzz run`: stops a program after its libraries are loaded and before its
 * own constructors and main run, and forks it for each test, so that loading is paid once. It also writes the
 * stack of a process that a signal ends (stripped programs have unwind tables), which is what findings are
 * sorted by.
 *
 * It lives inside other people's programs: it allocates nothing once it serves, keeps its hands off
 * everything but its socket, and takes its own traces out of the environment, so that the program's children
 * are left alone.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "fuzz/run/preload.h"

typedef int (*main_fn)(int argc, char **argv, char **envp);
typedef int (*start_fn)(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                        void (*rtld_fini)(void), void *stack_end);

int __libc_start_main(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);

extern char **environ;

/* ---- stacks ---- */

#define MODULES_MAX 256
#define FRAMES_MAX  48
#define STACK_BYTES (64 * 1024)

static struct module {
    uintptr_t from, to, base;
    char name[64];
} modules[MODULES_MAX];
static int nmodules;
static char signal_stack[STACK_BYTES];

static int note_module(struct dl_phdr_info *info, size_t size, void *opaque)
{
    const char *path = info->dlpi_name, *slash = strrchr(path, '/');

    for (int i = 0; i < info->dlpi_phnum && nmodules < MODULES_MAX; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X)) {
            struct module *m = &modules[nmodules++];
            m->base = info->dlpi_addr;
            m->from = info->dlpi_addr + p->p_vaddr;
            m->to = m->from + p->p_memsz;
            snprintf(m->name, sizeof(m->name), "%s",
                     *path ? (slash ? slash + 1 : path) : program_invocation_short_name);
        }
    }
    return 0;
}

/* Digits without stdio: this runs in a signal handler. */
static size_t put_number(char *to, uintptr_t value, unsigned base)
{
    char digits[2 * sizeof(value) + 8];
    size_t n = 0, len;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    for (len = 0; len < n; len++) {
        to[len] = digits[n - 1 - len];
    }
    return len;
}

static void write_frame(uintptr_t pc)
{
    char line[128];
    size_t n = 0;
    const char *name = "?";
    uintptr_t base = 0;

    for (int i = 0; i < nmodules; i++) {
        if (pc >= modules[i].from && pc < modules[i].to) {
            name = modules[i].name;
            base = modules[i].base;
        }
    }
    n = strlen(name);
    memcpy(line, name, n);
    memcpy(line + n, "+0x", 3);
    n += 3;
    n += put_number(line + n, pc - base, 16);
    line[n++] = '\n';
    (void)!write(STDERR_FILENO, line, n);
}

static uintptr_t fault_pc(const void *context)
{
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#elif defined(__i386__)
    return (uintptr_t)uc->uc_mcontext.gregs[REG_EIP];
#elif defined(__aarch64__)
    return (uintptr_t)uc->uc_mcontext.pc;
#else
    (void)uc;
    return 0;
#endif
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    void *frames[FRAMES_MAX];
    char line[sizeof(PRELOAD_STACK_LINE) + 24] = PRELOAD_STACK_LINE;
    size_t len = strlen(line);
    int first = 0;

    len += put_number(line + len, (uintptr_t)sig, 10);
    line[len++] = '\n';
    (void)!write(STDERR_FILENO, line, len);
    int n = backtrace(frames, FRAMES_MAX);
    uintptr_t pc = fault_pc(context);
    for (int i = 0; i < n; i++) {
        if ((uintptr_t)frames[i] == pc) {
            first = i;
            break;
        }
    }
    for (int i = first; i < n; i++) {
        write_frame((uintptr_t)frames[i]);
    }
    signal(sig, SIG_DFL);
    raise(sig); /* blocked until we return; a fault comes again by itself */
}

static void report_stacks(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    const stack_t ss = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};

    sigaltstack(&ss, NULL);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaction(signals[i], &sa, NULL);
    }
}

/* ---- the server ---- */

static char request[PRELOAD_REQUEST_MAX];

static void limit(int resource, uint64_t value)
{
    if (value != UINT64_MAX) {
        const struct rlimit rl = {.rlim_cur = value, .rlim_max = value};
        setrlimit(resource, &rl);
    }
}

/* In the child: become what was asked for. Returns false if that cannot be. */
static bool become(const struct preload_request *rq, const char *cwd, const char *out)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(RLIMIT_CPU, rq->cpu_seconds);
    limit(RLIMIT_FSIZE, rq->file_bytes);
    limit(RLIMIT_AS, rq->as_bytes);
    if (chdir(cwd) < 0) {
        return false;
    }
    if (*out) {
        int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0) {
            return false;
        }
        close(fd);
    }
    return true;
}

/* libc finds the environment behind the arguments, so one array holds both. */
static char **vector(const char *text, const char *end, uint32_t args, bool *ret_ok)
{
    static char *argv[PRELOAD_ARGS_MAX + 1 + 4096];
    size_t n = 0, env = 0;

    for (; n < args && text < end; n++, text += strlen(text) + 1) {
        argv[n] = (char *)text;
    }
    *ret_ok = n == args;
    argv[n++] = NULL;
    for (; environ[env] && n + 1 < sizeof(argv) / sizeof(argv[0]); env++) {
        argv[n++] = environ[env];
    }
    argv[n] = NULL;
    return argv;
}

static bool strays_left(void)
{
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
    }
    return pid == 0;
}

/* Runs until the runner goes away (never returns then), and returns the arguments in each child. */
static char **serve(int sock, int *ret_argc)
{
    const struct preload_hello hello = {PRELOAD_MAGIC};
    struct preload_request rq;

    if (send(sock, &hello, sizeof(hello), MSG_NOSIGNAL) < 0) {
        _exit(1);
    }
    for (;;) {
        ssize_t len = recv(sock, request, sizeof(request), 0);
        if (len < (ssize_t)sizeof(rq) + 2 || request[len - 1] != '\0') {
            _exit(0);
        }
        memcpy(&rq, request, sizeof(rq));
        const char *cwd = request + sizeof(rq), *end = request + len;
        const char *out = cwd + strlen(cwd) + 1;
        if (rq.args > PRELOAD_ARGS_MAX || out >= end) {
            _exit(1);
        }
        pid_t pid = fork();
        if (pid == 0) {
            bool ok;
            close(sock);
            char **argv = vector(out + strlen(out) + 1, end, rq.args, &ok);
            if (!ok || !become(&rq, cwd, out)) {
                _exit(127);
            }
            *ret_argc = (int)rq.args;
            return argv;
        }
        const struct preload_started started = {pid < 0 ? -errno : pid};
        struct preload_ended ended = {0};
        struct rusage usage = {0};
        if (send(sock, &started, sizeof(started), MSG_NOSIGNAL) < 0) {
            _exit(1);
        }
        if (pid < 0) {
            continue;
        }
        setpgid(pid, pid); /* whoever comes first */
        while (wait4(pid, &ended.status, 0, &usage) < 0 && errno == EINTR) {
        }
        ended.maxrss_bytes = (uint64_t)usage.ru_maxrss * 1024;
        kill(-pid, SIGKILL);
        ended.strays = strays_left();
        if (send(sock, &ended, sizeof(ended), MSG_NOSIGNAL) < 0) {
            _exit(1);
        }
    }
}

/* Threads do not survive fork(): a program whose libraries start some cannot be served. */
static bool is_single_threaded(void)
{
    char stat[4096];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, stat, sizeof(stat) - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    if (n <= 0) {
        return false;
    }
    stat[n] = '\0';
    const char *p = strrchr(stat, ')');
    for (int field = 2; p && field < 20; field++) { /* num_threads is field 20 of proc(5) */
        p = strchr(p + 1, ' ');
    }
    return p && atoi(p + 1) == 1;
}

int __libc_start_main(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    start_fn start = (start_fn)dlsym(RTLD_NEXT, "__libc_start_main");
    const char *number = getenv(PRELOAD_ENV);
    int sock = number ? atoi(number) : -1;
    void *warm[1];

    unsetenv("LD_PRELOAD");
    unsetenv(PRELOAD_ENV);
    dl_iterate_phdr(note_module, NULL);
    backtrace(warm, 1); /* loads the unwinder now, not in a handler */
    if (sock >= 0 && is_single_threaded()) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        argv = serve(sock, &argc);
    } else if (sock >= 0) {
        _exit(1);
    }
    report_stacks();
    return start(main, argc, argv, init, fini, rtld_fini, stack_end);
}
