/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `blkproof serve`: open images, export them over NBD, and end well: on a signal, after the command
 * of --run, when the last client has left (--once), or when a verifier says stop. Ending means that
 * what was read from clients is finished and answered, everything is flushed, and the exit status
 * tells whether anything came back wrong.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "base/json.h"
#include "base/size.h"
#include "block/driver.h"
#include "block/name.h"
#include "block/own.h"
#include "drivers/fault/fault.h"
#include "tools/serve_fuse.h"
#include "tools/serve_run.h"

#define RELEASE_EVERY_NS (10 * NS_PER_MS)

/* ---- what happens meanwhile ---- */

void serve_wind_down(struct serve *s)
{
    s->end = true;
    co_queue_wake_all(&s->changed);
}

static void on_notice(void *opaque, const char *sentence)
{
    struct serve *s = opaque;
    tool_error(s->tool, "%s", sentence);
}

void serve_client_left(struct serve *s)
{
    if (s->once && (!s->server || nbd_server_clients(s->server) == 0) && serve_fuse_idle(s)) {
        serve_wind_down(s);
    }
}

static void on_client_changed(void *opaque, const struct nbd_client_info *info)
{
    struct serve *s = opaque;

    if (s->qmp) {
        qmp_server_nbd_client(s->qmp, info);
    }
    if (!info->connected) {
        serve_client_left(s);
    }
}

/* A verifier found a mismatch and is set to stop. */
static void on_stop(struct graph *g, struct node *n)
{
    serve_wind_down(container_of(g, struct serve, graph));
}

static void remove_traces(struct serve *s);

/* While images are opened nothing is there that would have to end well, and an open may hang for as
 * long as a server is allowed to: be killed like any program. */
static void die_of(int signal)
{
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, signal);
    sigaction(signal, &standard, NULL);
    raise(signal);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
}

/* SIGUSR1 and SIGUSR2 ask for something, the others for the end. */
static void take_signal(struct serve *s, int signal, bool from_terminal)
{
    if (!s->opened) {
        if (signal != SIGUSR1 && signal != SIGUSR2) {
            die_of(signal);
        }
    } else if (signal == SIGUSR1) {
        serve_release(s);
    } else if (signal == SIGUSR2) {
        serve_scrub_begin(s);
    } else if (s->draining && s->signal) {
        tool_error(s->tool, "asked twice to end: requests under way are not finished");
        remove_traces(s);
        die_of(signal);
    } else {
        s->signal = signal;
        if (s->child_alive && !from_terminal) { /* from there it got its own */
            kill(s->child, signal);
        }
        serve_wind_down(s);
    }
}

static void watch_signals(void *arg)
{
    struct serve *s = arg;
    struct signalfd_siginfo info;

    while (!s->finished && fd_poll(s->signal_fd, POLLIN, UINT64_MAX) > 0) {
        if (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            take_signal(s, (int)info.ssi_signo, info.ssi_code == SI_KERNEL);
        }
    }
    s->watching = false;
    co_queue_wake_all(&s->changed);
}

static void watch_child(void *arg)
{
    struct serve *s = arg;

    s->child_status = run_wait(s->child);
    s->child_alive = false;
    serve_wind_down(s);
}

/* ---- beginning ---- */

static int fail(struct serve *s, const struct err *err)
{
    tool_error(s->tool, "%s", err->text);
    s->failed = true;
    return -1;
}

static bool is_utf8(const char *text)
{
    AUTO_JSON json_t *string = json_string(text); /* refuses anything else */

    return string != NULL;
}

static int image_options(const struct image *im, json_t **ret_options, struct err *err)
{
    bool is_json = !im->opts && strncmp(im->text, "json:", 5) == 0;
    AUTO_JSON json_t *options = NULL, *nested = NULL;
    int rc = 0;

    if (im->opts) {
        rc = json_from_keyvals(im->text, NULL, &options, err);
    } else {
        options = is_json ? json_object() : json_pack("{s:s}", "filename", im->text);
        if (!options || (im->format && json_object_set_new(options, "driver", json_string(im->format)) < 0)) {
            return err_set(err, -EINVAL, "the file name '%s' is not UTF-8", im->text);
        }
        rc = is_json ? name_join_json(im->text, options, err) : 0;
    }
    rc = rc < 0 ? rc : json_nest(options, &nested, err);
    if (rc == 0) {
        *ret_options = TAKE_PTR(nested);
    }
    return rc;
}

static co_fn int open_image(struct serve *s, struct image *im, unsigned flags, struct err *err)
{
    const struct verify_settings *v = &s->verify;
    AUTO_JSON json_t *options = NULL;

    if (!im->write_cache && !v->oracle && !v->on_mismatch && !v->on_injected) {
        return im->opts ? node_open_opts(&s->graph, im->text, flags, &im->node, err)
                        : node_open_name(&s->graph, im->text, im->format, flags, &im->node, err);
    }
    int rc = image_options(im, &options, err);
    rc = rc < 0 ? rc : serve_add_cache(&options, im, err);
    rc = rc < 0 ? rc : tool_add_oracle(&options, v, err);
    rc = rc < 0 ? rc : tool_verify_settings(options, v, err);
    return rc < 0 ? rc : node_open(&s->graph, options, flags, &im->node, err);
}

static int open_images(struct serve *s)
{
    unsigned flags = s->open_flags | (s->read_only ? 0 : OPEN_WRITE);

    if (s->verify.oracle && s->nimages > 1) {
        struct err err = {0};
        err_set(&err, -EINVAL, "--oracle is for one image, and there are %u: use the driver oracle",
                s->nimages);
        return fail(s, &err);
    }
    for (unsigned i = 0; i < s->nimages; i++) {
        struct image *im = &s->images[i];
        struct err err = {0};
        if (!is_utf8(im->export_name) || !is_utf8(s->description ? s->description : "")) {
            err_set(&err, -EINVAL, "export '%s': its name or description is not UTF-8, as NBD wants it",
                    im->export_name);
            return fail(s, &err);
        }
        int rc = open_image(s, im, flags, &err);
        if (rc == 0) {
            rc = nbd_server_export(s->server, im->export_name, im->node, s->read_only, s->description, &err);
        }
        if (rc < 0) {
            return fail(s, &err);
        }
    }
    return 0;
}

/* With --run and no address: a socket that nobody else can reach. */
static int make_private_address(struct serve *s, struct err *err)
{
    const char *tmp = getenv("TMPDIR");

    if (asprintf(&s->private_dir, "%s/blkproof-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0) {
        s->private_dir = NULL;
        return err_set(err, -ENOMEM, "no memory for a directory name");
    }
    if (!mkdtemp(s->private_dir)) {
        int code = -errno;
        err_set_errno(err, code, "cannot make the directory '%s'", s->private_dir);
        free(TAKE_PTR(s->private_dir));
        return code;
    }
    if (asprintf(&s->private_address, "unix:%s/socket", s->private_dir) < 0) {
        s->private_address = NULL;
        return err_set(err, -ENOMEM, "no memory for a socket name");
    }
    return 0;
}

static int listen_all(struct serve *s)
{
    struct err err = {0};
    int rc = 0;

    if (serve_fuse_begin(s, &err) < 0) {
        return fail(s, &err);
    }
    if (s->naddresses == 0 && s->run) {
        rc = make_private_address(s, &err);
        s->addresses[s->naddresses++] = s->private_address;
    } else if (s->naddresses == 0 && list_empty(&s->places)) {
        s->addresses[s->naddresses++] = "tcp:127.0.0.1";
    }
    for (unsigned i = 0; rc == 0 && i < s->naddresses; i++) {
        rc = nbd_server_listen(s->server, s->addresses[i], &err);
    }
    return rc < 0 ? fail(s, &err) : 0;
}

static int write_pid_file(struct serve *s)
{
    struct err err = {0};

    if (!s->pid_file) {
        return 0;
    }
    if (graph_refuse_own(&s->graph, s->pid_file, &err) < 0) {
        return fail(s, &err);
    }
    FILE *f = fopen(s->pid_file, "we");
    bool good = f && fprintf(f, "%ld\n", (long)getpid()) > 0;
    if (f && fclose(f) != 0) {
        good = false;
    }
    if (!good) {
        err_set_errno(&err, -errno, "write the pid file '%s'", s->pid_file);
        return fail(s, &err);
    }
    s->pid_written = true;
    return 0;
}

static void tell_ready_json(struct serve *s)
{
    AUTO_JSON json_t *ready =
        json_pack("{s:s, s:I, s:[]}", "event", "ready", "pid", (json_int_t)getpid(), "exports");

    for (unsigned i = 0; i < s->nimages; i++) {
        const struct image *im = &s->images[i];
        json_t *uris = json_array();
        for (unsigned l = 0; nbd_server_address(s->server, l); l++) {
            AUTO_FREE char *uri = nbd_server_uri(s->server, l, im->export_name);
            json_array_append_new(uris, json_string(uri ? uri : ""));
        }
        json_t *places = json_array();
        const char *place;
        for (unsigned p = 0; (place = serve_fuse_place(s, im, p)); p++) {
            json_array_append_new(places, json_string(place));
        }
        json_array_append_new(json_object_get(ready, "exports"),
                              json_pack("{s:s, s:I, s:o, s:o}", "name", im->export_name, "size",
                                        (json_int_t)node_size(im->node), "uri", uris, "fuse", places));
    }
    if (s->qmp) {
        json_t *addresses = json_array();
        for (unsigned l = 0; qmp_server_address(s->qmp, l); l++) {
            json_array_append_new(addresses, json_string(qmp_server_address(s->qmp, l)));
        }
        json_object_set_new(ready, "qmp", addresses);
    }
    if (s->metrics) {
        json_object_set_new(ready, "metrics", json_string(metrics_address(s->metrics)));
    }
    AUTO_FREE char *text = json_text(ready);
    printf("%s\n", text ? text : "{}");
}

static void tell_ready(struct serve *s)
{
    if (s->json) {
        tell_ready_json(s);
    } else if (!s->quiet && !s->run) {
        for (unsigned i = 0; i < s->nimages; i++) {
            char size[SIZE_TEXT_MAX];
            const char *place;
            size_text(node_size(s->images[i].node), size);
            for (unsigned l = 0; nbd_server_address(s->server, l); l++) {
                AUTO_FREE char *uri = nbd_server_uri(s->server, l, s->images[i].export_name);
                printf("serving %s (%s)\n", uri ? uri : "?", size);
            }
            for (unsigned p = 0; (place = serve_fuse_place(s, &s->images[i], p)); p++) {
                printf("serving %s (%s)\n", place, size);
            }
        }
    }
    fflush(stdout);
}

static int start_command(struct serve *s)
{
    struct err err = {0};
    static const char *const tls_words[] = {"", "on", "require"};
    char port[16] = "";
    const char *address = nbd_server_address(s->server, 0);
    bool unix_socket = strncmp(address, "unix:", 5) == 0;
    AUTO_FREE char *uri = nbd_server_uri(s->server, 0, s->images[0].export_name);
    const char *place = serve_fuse_place(s, &s->images[0], 0);

    if (!unix_socket) {
        snprintf(port, sizeof(port), "%u", nbd_server_port(s->server, 0));
    }
    struct run_variables vars = {
        .uri = uri ? uri : "",
        .unixsocket = unix_socket ? address + 5 : "",
        .port = port,
        .export_name = s->images[0].export_name,
        .fuse = place ? place : "",
        .tls = tls_words[s->config.tls],
        .tls_certificates = s->config.tls_certificates ? s->config.tls_certificates : "",
        .tls_psk = s->config.tls_psk ? s->config.tls_psk : "",
    };
    if (run_start(s->run, &vars, &s->old_mask, &s->child, &err) < 0) {
        return fail(s, &err);
    }
    s->child_alive = true;
    if (co_start_later(watch_child, s) < 0) {
        kill(s->child, SIGTERM);
        err_set(&err, -ENOMEM, "no memory to wait for the command");
        return fail(s, &err);
    }
    return 0;
}

static unsigned count_clients(void *opaque)
{
    const struct serve *s = opaque;

    return nbd_server_clients(s->server);
}

static int start_metrics(struct serve *s, struct err *err)
{
    const struct metrics_config config = {.graph = &s->graph, .clients = count_clients, .opaque = s};

    return s->metrics_address ? metrics_start(&config, s->metrics_address, &s->metrics, err) : 0;
}

static int set_decisions(struct serve *s, struct err *err)
{
    int r = s->replay_decisions ? fault_decisions_replay(&s->graph, s->replay_decisions, err) : 0;

    return r == 0 && s->decision_log ? fault_decisions_log_to(&s->graph, s->decision_log, err) : r;
}

static int begin(struct serve *s)
{
    struct err err = {0};

    if (nbd_server_create(&s->config, &s->server, &err) < 0) {
        return fail(s, &err);
    }
    s->watching = co_start_later(watch_signals, s) == 0;
    if (open_images(s) < 0) {
        return -1;
    }
    if (serve_set_report(s, &err) < 0 || serve_set_power_report(s, &err) < 0 || set_decisions(s, &err) < 0) {
        return fail(s, &err);
    }
    s->opened = true;
    if (serve_qmp_begin(s, &err) < 0) {
        return fail(s, &err);
    }
    if (listen_all(s) < 0) {
        return -1;
    }
    if (serve_qmp_listen(s, &err) < 0 || start_metrics(s, &err) < 0) {
        return fail(s, &err);
    }
    if (write_pid_file(s) < 0) {
        return -1;
    }
    tell_ready(s);
    return s->run ? start_command(s) : 0;
}

/* ---- ending ---- */

static void flush_all(struct serve *s)
{
    for (unsigned i = 0; i < s->nimages; i++) {
        struct image *im = &s->images[i];
        bool flush = im->node && !node_is_read_only(im->node) && !(s->hung && node_in_flight(im->node) > 0);
        int rc = flush ? node_flush(im->node) : 0;
        if (rc < 0) {
            tool_error(s->tool, "flush '%s': %s", im->text, err_name(rc));
            s->failed = true;
        }
    }
}

/* What fault rules hold back, and whatever else a driver does. */
static void unhold_all(struct serve *s)
{
    struct node *n;

    list_for_each (n, &s->graph.nodes, link) {
        if (n->filename && n->drv->unhold) {
            n->drv->unhold(n, true);
        }
    }
}

/* Requests that a verifier holds (on-mismatch=pause) would never finish, and nobody is left to
 * release them: do it until the end. */
static void release_held(void *arg)
{
    struct serve *s = arg;

    while (!s->finished) {
        serve_release(s);
        unhold_all(s);
        co_sleep_ns(RELEASE_EVERY_NS);
    }
    s->releasing = false;
    co_queue_wake_all(&s->changed);
}

static void wait_for_child(struct serve *s)
{
    if (s->child_alive && !s->signal) {
        kill(s->child, SIGTERM); /* its disk is gone: it cannot go on */
    }
    while (s->child_alive) {
        co_queue_wait(&s->changed);
    }
}

static void remove_traces(struct serve *s)
{
    serve_fuse_abandon(s);
    if (s->private_dir) {
        rmdir(s->private_dir);
    }
    if (s->pid_written) {
        unlink(s->pid_file);
    }
}

/* Nobody waits any more for the requests that hang in a device, and they cannot be taken back. */
static void leave_hung(struct serve *s)
{
    s->hung = true;
    if (s->child_alive) {
        kill(s->child, SIGTERM);
    }
    flush_all(s);
    fault_decisions_end(&s->graph);
    remove_traces(s);
    _exit(EXIT_FAILURE);
}

static void finish(struct serve *s)
{
    graph_unhold(&s->graph);
    s->releasing = co_start_later(release_held, s) == 0;
    s->draining = true;
    serve_qmp_stop(s);
    serve_fuse_stop(s);
    if (s->server) {
        nbd_server_stop(s->server);
        nbd_server_wait(s->server);
    }
    if (serve_fuse_wait(s) > 0) {
        leave_hung(s);
    }
    serve_fuse_finish(s);
    wait_for_child(s);
    while (s->scrubbing) {
        co_queue_wait(&s->changed);
    }
    serve_qmp_finish(s);
    metrics_stop(TAKE_PTR(s->metrics));
    flush_all(s);
    s->draining = false;
    if (s->scrub && !s->failed) {
        serve_scrub_all(s);
    }
    s->finished = true;
    if (s->watching) {
        fd_poll_cancel(s->signal_fd);
    }
    while (s->watching || s->releasing) {
        co_queue_wait(&s->changed);
    }
    qmp_server_destroy(s->qmp);
    nbd_server_destroy(s->server);
    for (unsigned i = 0; i < s->nimages; i++) {
        node_unref(TAKE_PTR(s->images[i].node));
    }
    fault_decisions_end(&s->graph);
    remove_traces(s);
}

static int serve(void *arg)
{
    struct serve *s = arg;

    co_queue_init(&s->changed);
    list_init(&s->shells);
    tool_graph_init(s->tool, &s->graph);
    s->graph.time_scale = s->time_scale;
    s->graph.stop = on_stop;
    s->graph.timed = s->metrics_address != NULL;
    if (begin(s) == 0) {
        while (!s->end) {
            co_queue_wait(&s->changed);
        }
    }
    finish(s);
    if (s->failed || s->graph.mismatches > 0) {
        return EXIT_FAILURE;
    }
    if (s->graph.injected_stop) {
        return EXIT_INJECTED;
    }
    return s->run ? s->child_status : 0;
}

/* ---- the verb ---- */

/* Blocked, a signal would reach us even though nohup has it ignored. */
static bool is_ignored(int signal)
{
    struct sigaction now;

    return sigaction(signal, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static int run(struct serve *s)
{
    sigset_t mask;

    /* Blocked before the loop starts threads, so that they inherit it and the signals come to us. */
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    if (!is_ignored(SIGHUP)) {
        sigaddset(&mask, SIGHUP);
    }
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mask, &s->old_mask);
    AUTO_CLOSE int fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        tool_error(s->tool, "cannot watch for signals: %s", err_name(errno));
        return EXIT_FAILURE;
    }
    s->signal_fd = fd;
    return tool_run(s->tool, serve, s);
}

/* What the spin saves is the waking of a processor that sleeps: with one only, the client runs on it. */
static uint64_t spin_default_ns(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) < 2 ? 0 : NBD_SPIN_DEFAULT_NS;
}

int tool_serve(struct tool *t, int argc, char **argv)
{
    struct serve s = {.tool = t, .open_flags = OPEN_UNMAP};
    int status;

    s.config = (struct nbd_server_config){.handshake_timeout_ns = NBD_HANDSHAKE_DEFAULT_NS,
                                          .spin_ns = spin_default_ns(),
                                          .notice = on_notice,
                                          .client_changed = on_client_changed,
                                          .opaque = &s};
    /* No more of them than there are arguments. */
    s.images = calloc((size_t)argc + 1, sizeof(*s.images));
    s.addresses = calloc((size_t)argc + 1, sizeof(*s.addresses));
    s.qmp_addresses = calloc((size_t)argc + 1, sizeof(*s.qmp_addresses));
    list_init(&s.places);
    if (!s.images || !s.addresses || !s.qmp_addresses) {
        tool_error(t, "no memory for the command line");
        status = EXIT_FAILURE;
    } else if (serve_parse(&s, argc, argv, &status) == 0) {
        status = run(&s);
    }
    for (unsigned i = 0; i < s.nimages; i++) {
        free(s.images[i].export_name);
    }
    free(s.images);
    free(s.addresses);
    free(s.qmp_addresses);
    serve_fuse_free(&s);
    free(s.private_dir);
    free(s.private_address);
    return status;
}
