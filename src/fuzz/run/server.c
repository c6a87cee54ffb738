/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runner's side of fork servers (src/fuzz/preload), and the programs they work in: found in $PATH,
 * dynamically linked, not setuid. A program that does not answer within two seconds is started anew each
 * time, and the user is told once.
 */
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fuzz/run/exec.h"
#include "fuzz/run/preload.h"

#define HELLO_MS 2000 /* a program's libraries are loaded in milliseconds; under load in many */

/* ---- programs ---- */

/* This very program, if it is blkproof and not a test. */
static char *own_program(void)
{
    char *path = realpath("/proc/self/exe", NULL);
    const char *slash = path ? strrchr(path, '/') : NULL;

    if (slash && strcmp(slash + 1, "blkproof") == 0) {
        return path;
    }
    free(path);
    return NULL;
}

int run_find_program(const char *name, char **ret_path, struct err *err)
{
    const char *path = getenv("PATH");
    char *found = NULL;

    if (strcmp(name, "blkproof") == 0 && (found = own_program())) {
        *ret_path = found;
        return 0;
    }
    if (strchr(name, '/')) {
        found = realpath(name, NULL);
        if (!found || access(found, X_OK) < 0) {
            int code = -errno;
            free(found);
            return err_set_errno(err, code, "'%s' cannot be run", name);
        }
        free(found);
        /* the name stays: programs look at it */
        return (found = *name == '/' ? strdup(name) : realpath(name, NULL))
                   ? (*ret_path = found, 0)
                   : err_set(err, -ENOMEM, "no memory");
    }
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        size_t len = strcspn(p, ":");
        if (asprintf(&found, "%.*s/%s", (int)len, p, name) < 0) {
            return err_set(err, -ENOMEM, "no memory");
        }
        struct stat st;
        if (len > 0 && stat(found, &st) == 0 && S_ISREG(st.st_mode) && access(found, X_OK) == 0) {
            *ret_path = found;
            return 0;
        }
        free(found);
        p += len + (p[len] == ':');
    }
    return err_set(err, -ENOENT, "no program '%s' in $PATH", name);
}

static bool has_interpreter(int fd)
{
    union {
        unsigned char ident[EI_NIDENT];
        Elf64_Ehdr wide;
        Elf32_Ehdr narrow;
    } h = {0};

    if (pread(fd, &h, sizeof(h), 0) < (ssize_t)sizeof(h.narrow) || memcmp(h.ident, ELFMAG, SELFMAG) != 0) {
        return false;
    }
    bool wide = h.ident[EI_CLASS] == ELFCLASS64;
    if (wide != (sizeof(void *) == 8)) {
        return false; /* the library is for our own word size */
    }
    uint64_t at = wide ? h.wide.e_phoff : h.narrow.e_phoff;
    unsigned n = wide ? h.wide.e_phnum : h.narrow.e_phnum,
             size = wide ? h.wide.e_phentsize : h.narrow.e_phentsize;
    for (unsigned i = 0; i < n; i++) {
        uint32_t type;
        if (pread(fd, &type, sizeof(type), (off_t)(at + (uint64_t)i * size)) != sizeof(type)) {
            return false;
        }
        if (type == PT_INTERP) {
            return true;
        }
    }
    return false;
}

bool run_is_preloadable(const char *program)
{
    AUTO_CLOSE int fd = open(program, O_RDONLY | O_CLOEXEC);
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && !(st.st_mode & (S_ISUID | S_ISGID)) && has_interpreter(fd);
}

char *run_find_preload(void)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    const char *slash = n > 0 ? memrchr(exe, '/', (size_t)n) : NULL;
    char *path = NULL;

    /* beside the program in a build tree, and below it in one that runs a test program */
    static const char *const places[] = {"", "../"};
    for (size_t i = 0; slash && i < ARRAY_SIZE(places); i++) {
        if (asprintf(&path, "%.*s/%s" FUZZ_PRELOAD_NAME, (int)(slash - exe), exe, places[i]) < 0) {
            return NULL;
        }
        if (access(path, R_OK) == 0) {
            return path;
        }
        free(TAKE_PTR(path));
    }
    return access(FUZZ_PRELOAD_PATH, R_OK) == 0 ? strdup(FUZZ_PRELOAD_PATH) : NULL;
}

/* ---- servers ---- */

void run_server_drop(struct run_server *s)
{
    if (s->fd >= 0) {
        close(TAKE_FD(s->fd));
    }
    if (s->pid > 0) {
        kill(-s->pid, SIGKILL);
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

static pid_t launch(const struct executor *x, const char *program, int sock)
{
    pid_t pid = fork();

    if (pid == 0) {
        char number[16];
        char *argv[] = {(char *)program, NULL};
        snprintf(number, sizeof(number), "%d", sock);
        if (setenv(PRELOAD_ENV, number, 1) < 0 || setenv("LD_PRELOAD", x->preload, 1) < 0 ||
            run_become(x, NULL) < 0 || fcntl(sock, F_SETFD, 0) < 0) {
            _exit(127);
        }
        execv(program, argv);
        _exit(127);
    }
    return pid;
}

/* True when a server answers at @s->fd. */
static bool start(struct run_server *s, const struct executor *x)
{
    struct preload_hello hello = {0};
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
        return false;
    }
    s->fd = sv[0];
    s->pid = launch(x, s->program, sv[1]);
    close(sv[1]);
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    bool ok = s->pid > 0 && poll(&p, 1, HELLO_MS) == 1 &&
              recv(s->fd, &hello, sizeof(hello), 0) == sizeof(hello) && hello.magic == PRELOAD_MAGIC;
    if (!ok) {
        run_server_drop(s);
    }
    return ok;
}

static struct run_server *find(struct executor *x, const char *program)
{
    for (unsigned i = 0; i < x->nservers; i++) {
        if (strcmp(x->servers[i].program, program) == 0) {
            return &x->servers[i];
        }
    }
    return NULL;
}

struct run_server *executor_server(struct executor *x, const char *program)
{
    struct run_server *s = find(x, program);
    bool fresh = !s;

    if (fresh && x->nservers < RUN_SERVERS_MAX && (program = strdup(program))) {
        s = &x->servers[x->nservers++];
        *s = (struct run_server){.program = (char *)program, .fd = -1};
        s->pid = run_is_preloadable(program) ? 0 : -1; /* -1: never again */
    }
    if (!s || s->fd >= 0) {
        return s;
    }
    if (s->pid == 0 && !start(s, x)) {
        s->pid = -1;
    }
    if (s->pid == -1 && fresh && x->notice) {
        char text[512];
        snprintf(text, sizeof(text),
                 "no fork server in '%s' (static, a script, setuid or instrumented): it is started anew for "
                 "each run",
                 program);
        x->notice(x->notice_opaque, text);
    }
    return s->fd >= 0 ? s : NULL;
}

pid_t run_server_start(struct run_server *s, const struct executor *x, char *const argv[], const char *out)
{
    static char text[PRELOAD_REQUEST_MAX];
    struct preload_request rq = {.cpu_seconds = (uint32_t)(div_up(x->limits.time_ns, NS_PER_SEC) + 1),
                                 .file_bytes = x->limits.file_bytes,
                                 .as_bytes = x->limits.as_bytes};
    struct preload_started started;
    size_t n = sizeof(rq);

    while (argv[rq.args]) {
        rq.args++;
    }
    memcpy(text, &rq, sizeof(rq));
    for (int i = -2; i < (int)rq.args; i++) {
        const char *word = i == -2 ? x->dir : i == -1 ? (out ? out : "") : argv[i];
        size_t len = strlen(word) + 1;
        if (len > sizeof(text) - n) {
            return -E2BIG;
        }
        memcpy(text + n, word, len);
        n += len;
    }
    if (send(s->fd, text, n, MSG_NOSIGNAL) < 0 ||
        recv(s->fd, &started, sizeof(started), 0) != sizeof(started)) {
        return -EPIPE;
    }
    return started.pid;
}
