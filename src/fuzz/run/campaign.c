/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The campaign: gives out test numbers, writes down what comes back, decides what is kept. One process with
 * one file open; the workers know nothing of each other. To stop is to give out no more: tests that run are
 * waited for, so what is on disk is whole.
 */
#include "fuzz/run/campaign.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/json.h"

#define TICK_MS       500
#define COMMIT_NS     NS_PER_SEC
#define HISTORY_NS    (60 * NS_PER_SEC)
#define DEATHS_MAX    10 /* workers do not die; what kills them (out of memory) may strike a few times */
#define MESSAGE_BYTES (256 * KiB)
#define TMPFS_SLACK   (512 * MiB) /* images before and after, results that wait to be compared */

uint64_t campaign_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void notice(const struct campaign *c, const char *sentence)
{
    if (c->on_notice) {
        c->on_notice(c->opaque, sentence);
    }
}

/* ---- opening ---- */

static int make_dirs(struct campaign *c, struct err *err)
{
    static const char *const names[] = {"", "/findings", "/staging"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO_FREE char *path = NULL;
        if (asprintf(&path, "%s%s", c->out, names[i]) < 0) {
            return err_set(err, -ENOMEM, "no memory");
        }
        if (mkdir(path, 0777) < 0 && errno != EEXIST) {
            return err_set_errno(err, -errno, "make the directory '%s'", path);
        }
    }
    return 0;
}

/* One campaign at a time in a directory. The lock is the process's own: workers, which may outlive it by a
 * moment, do not inherit it. */
static int lock(struct campaign *c, struct err *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    AUTO_FREE char *path = NULL;

    if (asprintf(&path, "%s/.lock", c->out) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    c->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (c->lock_fd < 0) {
        return err_set_errno(err, -errno, "open '%s'", path);
    }
    return fcntl(c->lock_fd, F_SETLK, &whole) < 0
               ? err_set(err, -EBUSY, "a campaign is running in '%s'", c->out)
               : 0;
}

static int keep_config(struct campaign *c, const struct campaign_config *config, json_t **ret_kept,
                       struct err *err)
{
    AUTO_FREE char *kept = state_get(&c->state, "config");
    AUTO_JSON json_t *j = NULL;

    if (kept) {
        *ret_kept = json_loads(kept, 0, NULL);
        return *ret_kept ? 0 : err_set(err, -EINVAL, "%s: its configuration cannot be read", c->state.path);
    }
    j = campaign_config_json(config);
    AUTO_FREE char *text = json_text(j);
    int r = text ? state_set(&c->state, "config", text, err) : err_set(err, -ENOMEM, "no memory");
    *ret_kept = NULL;
    return r < 0 ? r : state_commit(&c->state, err);
}

int campaign_open(struct campaign *c, const char *out, const struct campaign_config *config,
                  json_t **ret_kept, struct err *err)
{
    c->config = config;
    c->lock_fd = -1;
    if (mkdir(out, 0777) < 0 && errno != EEXIST) {
        return err_set_errno(err, -errno, "make the directory '%s'", out);
    }
    c->out = realpath(out, NULL);
    if (!c->out) {
        return err_set_errno(err, -errno, "'%s'", out);
    }
    int r = lock(c, err);
    r = r < 0 ? r : make_dirs(c, err);
    r = r < 0 ? r : state_open(&c->state, c->out, true, false, err);
    r = r < 0 ? r : keep_config(c, config, ret_kept, err);
    return r < 0 ? r : state_totals(&c->state, &c->totals, err);
}

int campaign_close(struct campaign *c, struct err *err)
{
    int r = state_close(&c->state, err);

    coverage_close(TAKE_PTR(c->seen));
    if (c->lock_fd >= 0) {
        close(TAKE_FD(c->lock_fd));
    }
    free(TAKE_PTR(c->out));
    return r;
}

/* ---- workers ---- */

static char *work_dir(const struct campaign *c, unsigned i)
{
    char *path = NULL;
    return asprintf(&path, "%s/.work-%u", c->out, i) < 0 ? NULL : path;
}

static int start_worker(struct campaign *c, unsigned i, struct err *err)
{
    struct campaign_worker *w = &c->workers[i];
    AUTO_FREE char *work = work_dir(c, i);
    int sv[2];

    if (!work) {
        return err_set(err, -ENOMEM, "no memory");
    }
    artefact_remove(work);
    if (mkdir(work, 0700) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
        return err_set_errno(err, -errno, "make a place for a worker in '%s'", work);
    }
    struct worker_args args = {
        .config = c->config, .out = c->out, .work = work, .index = i, .seen = c->seen, .fd = sv[1]};
    pid_t pid = sandbox_fork(c->sandbox, work, c->config->limits.disk_bytes + TMPFS_SLACK, worker_run, &args);
    close(sv[1]);
    *w = (struct campaign_worker){.pid = pid, .fd = sv[0]};
    return pid < 0 ? err_set_errno(err, pid, "start a worker") : 0;
}

static void end_worker(struct campaign *c, unsigned i)
{
    struct campaign_worker *w = &c->workers[i];
    AUTO_FREE char *work = work_dir(c, i);

    if (w->fd >= 0) {
        shutdown(w->fd, SHUT_RDWR); /* it leaves by itself; others have inherited our end */
        close(TAKE_FD(w->fd));
    }
    if (w->pid > 0) {
        waitpid(w->pid, NULL, 0);
        w->pid = 0;
    }
    if (work) {
        artefact_remove(work);
    }
}

/* Its end of the socket is closed: what it had goes to others. */
static int lose_worker(struct campaign *c, unsigned i, struct err *err)
{
    struct campaign_worker *w = &c->workers[i];

    for (unsigned k = 0; k < w->ngiven; k++) {
        c->retry[c->nretry++] = w->given[k];
    }
    kill(w->pid, SIGKILL);
    end_worker(c, i);
    if (++c->deaths > DEATHS_MAX) {
        return err_set(err, -EIO, "workers die again and again");
    }
    notice(c, "a worker died; its tests begin again");
    return start_worker(c, i, err);
}

/* ---- giving out ---- */

static bool may_start(struct campaign *c)
{
    if (!c->stopping && ((c->duration_ns && campaign_clock_ns() - c->started_ns >= c->duration_ns) ||
                         (c->until_finding && c->totals.findings > 0))) {
        c->stopping = true;
    }
    return !c->stopping;
}

static bool next_test(struct campaign *c, uint64_t *ret_n)
{
    const struct campaign_config *g = c->config;

    if (c->nretry > 0) {
        *ret_n = c->retry[--c->nretry];
        return true;
    }
    for (;; c->next++) {
        if (c->count && c->next >= c->count) {
            return false;
        }
        if (c->next % g->shards == g->shard &&
            (c->next >= c->done_end || !state_is_done(&c->state, c->next))) {
            *ret_n = c->next++;
            return true;
        }
    }
}

/* Two each, so that no worker waits for us. False: there is nothing more to do. */
static bool give_out(struct campaign *c)
{
    bool busy = false;

    for (unsigned i = 0; i < c->jobs; i++) {
        struct campaign_worker *w = &c->workers[i];
        uint64_t n;
        while (w->ngiven < ARRAY_SIZE(w->given) && may_start(c) && next_test(c, &n)) {
            w->given[w->ngiven++] = n;
            (void)!send(w->fd, &n, sizeof(n), MSG_NOSIGNAL); /* a dead one is seen when it is read from */
        }
        busy = busy || w->ngiven > 0;
    }
    return busy;
}

/* ---- taking in ---- */

/* OUT/findings/ORACLE-ID: test-N directories, of which `newest` and `smallest` name two. */
static void point(const char *dir, const char *name, const char *to)
{
    AUTO_FREE char *link = NULL, *fresh = NULL;

    if (asprintf(&link, "%s/%s", dir, name) < 0 || asprintf(&fresh, "%s/.%s", dir, name) < 0) {
        return;
    }
    unlink(fresh);
    if (symlink(to, fresh) == 0) {
        rename(fresh, link);
    }
}

static bool is_pointed_at(const char *dir, const char *name, const char *to)
{
    AUTO_FREE char *link = NULL;
    char found[64];

    ssize_t n = asprintf(&link, "%s/%s", dir, name) < 0 ? -1 : readlink(link, found, sizeof(found) - 1);
    found[n > 0 ? n : 0] = '\0';
    return strcmp(found, to) == 0;
}

/* All that neither names: also what a campaign that was killed meant to remove. */
static void drop_others(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;

    while (d && (e = readdir(d))) {
        AUTO_FREE char *path = NULL;
        if (strncmp(e->d_name, "test-", 5) == 0 && !is_pointed_at(dir, "newest", e->d_name) &&
            !is_pointed_at(dir, "smallest", e->d_name) && asprintf(&path, "%s/%s", dir, e->d_name) >= 0) {
            artefact_remove(path);
        }
    }
    if (d) {
        closedir(d);
    }
}

static void write_finding(const char *dir, const json_t *hit)
{
    AUTO_FREE char *path = NULL;

    if (asprintf(&path, "%s/finding.json", dir) >= 0) {
        json_dump_file(hit, path, JSON_INDENT(1));
    }
}

static void keep_artefact(const struct campaign *c, const json_t *hit, uint64_t n, bool smallest)
{
    const char *staged = json_string_value(json_object_get(hit, "dir"));
    AUTO_FREE char *dir = artefact_dir(c->out, json_string_value(json_object_get(hit, "oracle")),
                                       json_string_value(json_object_get(hit, "id")));
    AUTO_FREE char *to = NULL;
    char test[32];

    snprintf(test, sizeof(test), "test-%llu", (unsigned long long)n);
    if (!dir || !staged || (mkdir(dir, 0777) < 0 && errno != EEXIST) ||
        asprintf(&to, "%s/%s", dir, test) < 0) {
        return;
    }
    artefact_remove(to);
    if (rename(staged, to) < 0) {
        artefact_remove(staged);
        return;
    }
    point(dir, "newest", test);
    if (smallest) {
        point(dir, "smallest", test);
        write_finding(dir, hit);
    }
    drop_others(dir);
}

static uint64_t number(const json_t *j, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(j, key));
}

static const char *text(const json_t *j, const char *key)
{
    const char *t = json_string_value(json_object_get(j, key));
    return t ? t : "";
}

static int take_hit(struct campaign *c, uint64_t n, json_t *hit, struct err *err)
{
    const struct state_hit h = {.n = n,
                                .id = text(hit, "id"),
                                .key = text(hit, "key"),
                                .title = text(hit, "title"),
                                .oracle = text(hit, "oracle"),
                                .command = text(hit, "command"),
                                .shell = text(hit, "shell"),
                                .needs = number(hit, "needs"),
                                .mutations = number(hit, "mutations"),
                                .bytes = number(hit, "bytes"),
                                .seen = (unsigned)number(hit, "seen"),
                                .again = (unsigned)number(hit, "again")};
    bool fresh, smallest;

    if (*text(hit, "error")) {
        return err_set(err, -EIO, "keep a finding: %s", text(hit, "error"));
    }
    int r = state_add_hit(&c->state, &h, &fresh, &smallest, err);
    if (r < 0) {
        return r;
    }
    json_object_set_new(hit, "n", json_integer((json_int_t)n));
    json_object_set_new(hit, "seed", json_integer((json_int_t)campaign_test_seed(c->config->seed, n)));
    keep_artefact(c, hit, n, smallest);
    c->totals.hits++;
    c->totals.findings += fresh;
    c->totals.new_this_hour += fresh;
    if (c->on_finding) {
        c->on_finding(c->opaque, hit, fresh);
    }
    return 0;
}

static int take_result(struct campaign *c, const json_t *j, struct err *err)
{
    json_t *hits = json_object_get(j, "hits"), *hit;
    uint64_t n = number(j, "n"), executed = number(j, "executed"), ns = number(j, "ns");
    bool opened = json_is_true(json_object_get(j, "opened"));
    const char *path;
    json_t *value;
    size_t i;

    int r = state_add_test(&c->state, n, opened, (unsigned)executed, ns, err);
    json_array_foreach(hits, i, hit)
    {
        r = r < 0 ? r : take_hit(c, n, hit, err);
    }
    json_object_foreach(json_object_get(j, "fields"), path, value)
    {
        r = r < 0 ? r : state_add_field(&c->state, path, opened, (unsigned)json_array_size(hits), err);
    }
    c->totals.tests++;
    c->totals.executed += executed;
    c->totals.opened += opened;
    c->totals.ns += ns;
    return r < 0 || json_array_size(hits) == 0 ? r : state_commit(&c->state, err);
}

static int take_message(struct campaign *c, struct campaign_worker *w, const char *message, size_t len,
                        struct err *err)
{
    AUTO_JSON json_t *j = json_loadb(message, len, 0, NULL);

    if (json_object_get(j, "notice")) {
        notice(c, text(j, "notice"));
        return 0;
    }
    if (!json_object_get(j, "n")) {
        return err_set(err, -EIO, "%s", j ? text(j, "error") : "a worker sent what is no message");
    }
    w->given[0] = w->given[1];
    w->ngiven--;
    return take_result(c, j, err);
}

static int take_in(struct campaign *c, struct err *err)
{
    static char message[MESSAGE_BYTES];
    struct pollfd p[CAMPAIGN_JOBS_MAX + 1];
    int r = 0;

    for (unsigned i = 0; i < c->jobs; i++) {
        p[i] = (struct pollfd){.fd = c->workers[i].fd, .events = POLLIN};
    }
    p[c->jobs] = (struct pollfd){.fd = c->stopping ? -1 : c->stop_fd, .events = POLLIN};
    if (poll(p, c->jobs + 1, TICK_MS) < 0 && errno != EINTR) {
        return err_set_errno(err, -errno, "wait for workers");
    }
    if (p[c->jobs].revents) {
        c->stopping = true;
    }
    for (unsigned i = 0; i < c->jobs && r == 0; i++) {
        if (!p[i].revents) {
            continue;
        }
        ssize_t n = recv(c->workers[i].fd, message, sizeof(message), 0);
        r = n > 0 ? take_message(c, &c->workers[i], message, (size_t)n, err) : lose_worker(c, i, err);
    }
    return r;
}

/* ---- running ---- */

static int tick(struct campaign *c, uint64_t *committed_ns, uint64_t *history_ns, struct err *err)
{
    uint64_t now_ns = campaign_clock_ns();
    int r = 0;

    if (now_ns - *committed_ns >= COMMIT_NS) {
        *committed_ns = now_ns;
        if (c->on_tick) {
            c->on_tick(c->opaque, c);
        }
        r = state_commit(&c->state, err);
    }
    if (r == 0 && now_ns - *history_ns >= HISTORY_NS) {
        *history_ns = now_ns;
        r = state_add_history(&c->state, &c->totals, err);
    }
    return r;
}

static void say_sandbox(const struct campaign *c)
{
    if (c->sandbox < SANDBOX_FULL) {
        notice(c,
               c->sandbox == SANDBOX_NET
                   ? "no PID and mount namespaces here: targets are ended by process group, and use the disk"
                   : "no namespaces here: targets have the network, are ended by process group, and use the "
                     "disk");
    }
}

int campaign_run(struct campaign *c, struct err *err)
{
    uint64_t committed_ns, history_ns;
    int r = c->config->coverage ? coverage_open(c->out, &c->seen, err) : 0;

    c->sandbox = c->config->no_sandbox ? SANDBOX_NONE : sandbox_probe();
    say_sandbox(c);
    c->at_start = c->totals;
    c->done_end = state_end(&c->state);
    c->started_ns = committed_ns = history_ns = campaign_clock_ns();
    for (unsigned i = 0; i < c->jobs; i++) {
        c->workers[i].fd = -1;
    }
    for (unsigned i = 0; i < c->jobs && r == 0; i++) {
        r = start_worker(c, i, err);
    }
    while (r == 0 && give_out(c)) {
        r = take_in(c, err);
        r = r < 0 ? r : tick(c, &committed_ns, &history_ns, err);
    }
    c->stopped_ns = campaign_clock_ns();
    for (unsigned i = 0; i < c->jobs; i++) {
        end_worker(c, i);
    }
    int r2 = state_add_history(&c->state, &c->totals, r < 0 ? NULL : err);
    r2 = r2 < 0 ? r2 : state_commit(&c->state, r < 0 ? NULL : err);
    return r < 0 ? r : r2;
}
