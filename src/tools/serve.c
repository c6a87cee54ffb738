/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `blkproof serve`: open images, export them over NBD, and end well: on a signal, after the command
 * of --run, when the last client has left (--once), or when a verifier says stop. Ending means that
 * what was read from clients is finished and answered, everything is flushed, and the exit status
 * tells whether anything came back wrong.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "base/json.h"
#include "base/size.h"
#include "drivers/verify/verify.h"
#include "export/nbd/server.h"
#include "tools/serve_run.h"
#include "tools/tools.h"

#define EXIT_USAGE    2
#define VERIFIERS_MAX 256 /* nodes that --report and --scrub act on: far more than one disk has */

#define SPIN_MAX_NS      NS_PER_MS /* longer, and nothing else on the loop would be noticed in time */
#define RELEASE_EVERY_NS (10 * NS_PER_MS)

struct image {
    const char *text; /* as given */
    const char *name; /* export name */
    size_t name_len;
    const char *format; /* or NULL */
    bool opts;          /* --image-opts */
    char *export_name;  /* owned */
    struct node *node;
};

struct serve {
    struct tool *tool;
    struct graph graph;
    struct nbd_server_config config;
    struct nbd_server *server;

    /* the command line */
    struct image *images;
    unsigned nimages;
    const char **addresses;
    unsigned naddresses;
    const char *description, *report, *pid_file, *run;
    unsigned open_flags;
    bool read_only, once, scrub, progress, json, quiet;

    /* the run */
    sigset_t old_mask;
    int signal_fd;
    bool watching;  /* the coroutine that waits for signals is alive */
    bool releasing; /* so is release_held */
    bool scrubbing; /* so is scrub_now */
    bool finished;  /* both shall end */
    char *private_dir;
    char *private_address;
    pid_t child;
    bool child_alive;
    int child_status;
    int signal;
    bool pid_written;
    bool end; /* wind down */
    struct co_queue changed;
    bool failed;
};

/* ---- the command line ---- */

enum {
    OPT_EXPORT = TOOL_OPT_FIRST_FREE,
    OPT_NBD,
    OPT_IMAGE_OPTS,
    OPT_MAX_CLIENTS,
    OPT_TLS,
    OPT_TLS_CERTIFICATES,
    OPT_TLS_PSK,
    OPT_TLS_VERIFY_PEER,
    OPT_HANDSHAKE_TIMEOUT,
    OPT_SPIN,
    OPT_RUN,
    OPT_DISCARD,
    OPT_REPORT,
    OPT_SCRUB,
    OPT_ONCE,
    OPT_PID_FILE,
    OPT_JSON,
    OPT_DESCRIPTION,
};

static const struct option long_options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"nbd", required_argument, NULL, OPT_NBD},
    {"export", required_argument, NULL, OPT_EXPORT},
    {"format", required_argument, NULL, 'f'},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {"read-only", no_argument, NULL, 'r'},
    {"cache", required_argument, NULL, 't'},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"description", required_argument, NULL, OPT_DESCRIPTION},
    {"max-clients", required_argument, NULL, OPT_MAX_CLIENTS},
    {"handshake-timeout", required_argument, NULL, OPT_HANDSHAKE_TIMEOUT},
    {"spin", required_argument, NULL, OPT_SPIN},
    {"tls", required_argument, NULL, OPT_TLS},
    {"tls-certificates", required_argument, NULL, OPT_TLS_CERTIFICATES},
    {"tls-psk", required_argument, NULL, OPT_TLS_PSK},
    {"tls-verify-peer", no_argument, NULL, OPT_TLS_VERIFY_PEER},
    {"run", required_argument, NULL, OPT_RUN},
    {"once", no_argument, NULL, OPT_ONCE},
    {"report", required_argument, NULL, OPT_REPORT},
    {"scrub", no_argument, NULL, OPT_SCRUB},
    {"progress", no_argument, NULL, 'p'},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof serve [OPTIONS] [NAME=]IMAGE...\n"
           "Export images over NBD until a signal (SIGTERM, SIGINT), the end of the command given\n"
           "with --run, or the first mismatch of a blkverify device with on-mismatch=stop.\n"
           "\n"
           "IMAGE is a file name, nbd://..., blkverify:RAW:TEST, json:{...} or, with --image-opts,\n"
           "driver=...,... NAME is the name of its export; a single image needs none.\n"
           "\n"
           "Images:\n"
           "  -f, --format=FMT     format of the images that follow (default: probed)\n"
           "      --image-opts     the images that follow are given as options\n"
           "      --export=NAME    export name of the next image (as NAME=IMAGE)\n"
           "  -r, --read-only      refuse to write\n"
           "  -t, --cache=MODE     writeback (default), writethrough, none, directsync or unsafe\n"
           "      --discard=MODE   unmap (default) or ignore\n"
           "\n"
           "Clients:\n"
           "      --nbd=ADDRESS    unix:PATH or tcp:[HOST][:PORT], any number of times (default:\n"
           "                       tcp:127.0.0.1:10809; with --run a private unix socket)\n"
           "      --max-clients=N  clients at once; more have to wait (default 100)\n"
           "      --handshake-timeout=TIME  until a client must have chosen an export (default\n"
           "                       10s; 0: no limit)\n"
           "      --spin=TIME      look for the only client's next request for so long before\n"
           "                       sleeping, say 20us (default 0)\n"
           "      --description=TEXT        told to clients that ask for one\n"
           "      --tls=MODE       off (default), on (offered) or require\n"
           "      --tls-certificates=DIR    server-cert.pem, server-key.pem, ca-cert.pem\n"
           "      --tls-psk=FILE   pre-shared keys, NAME:HEXKEY lines, as psktool writes\n"
           "      --tls-verify-peer         clients need a certificate signed by ca-cert.pem\n"
           "\n"
           "Running and verifying:\n"
           "      --run=CMD        run CMD with $uri, $unixsocket, $port and $export set; end with\n"
           "                       it and with its exit status, or 1 if anything was wrong\n"
           "      --once           end when the last client has left\n"
           "      --report=FILE    one JSON object per mismatch of a blkverify device\n"
           "      --scrub          compare the whole of every blkverify device before the end\n"
           "  -p, --progress       show how far the scrub is\n"
           "      --pid-file=FILE  written when clients can connect\n"
           "      --json           tell about readiness in JSON\n"
           "  -q, --quiet          do not tell about readiness\n" TOOL_COMMON_HELP
           "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "Exit status: 0; 1 for an error or a mismatch; 2 for wrong usage; with --run that of CMD.\n"
           "See blkproof-serve(1).\n");
}

static int usage(const struct serve *s, const char *fmt, const char *what)
{
    char text[ERR_TEXT_MAX];

    snprintf(text, sizeof(text), fmt, what);
    tool_error(s->tool, "%s (see 'blkproof serve --help')", text);
    return EXIT_USAGE;
}

/* NAME=IMAGE: the name is a plain word, so that neither ./a=b nor json:{"a=b"...} has one. */
static void split_name(struct image *im)
{
    size_t len = strspn(im->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    if (!im->name && len > 0 && im->text[len] == '=') {
        im->name = im->text;
        im->name_len = len;
        im->text += len + 1;
    }
}

/* What the options that stand before an image have set for it. */
struct context {
    const char *format, *export_name;
    bool opts;
    unsigned formats;
};

static int add_image(struct serve *s, struct context *ctx, const char *text)
{
    struct image *im = &s->images[s->nimages++];

    *im = (struct image){.text = text, .name = ctx->export_name, .format = ctx->format, .opts = ctx->opts};
    im->name_len = im->name ? strlen(im->name) : 0;
    ctx->export_name = NULL;
    if (!im->opts) {
        split_name(im);
    }
    im->export_name = strndup(im->name ? im->name : "", im->name_len);
    return im->export_name ? 0 : EXIT_FAILURE;
}

static int parse_tls(struct serve *s, const char *word)
{
    static const char *const words[] = {"off", "on", "require"};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            s->config.tls = (enum nbd_tls_mode)i;
            return 0;
        }
    }
    return usage(s, "--tls=%s: expected off, on or require", word);
}

static int parse_clients(struct serve *s, const char *text)
{
    uint64_t n;

    if (size_parse(text, &n) < 0 || n == 0 || n > 65536) {
        return usage(s, "--max-clients=%s: expected a number from 1 to 65536", text);
    }
    s->config.max_clients = (unsigned)n;
    return 0;
}

static int parse_timeout(struct serve *s, const char *text)
{
    if (duration_parse(text, &s->config.handshake_timeout_ns) < 0) {
        return usage(s, "--handshake-timeout=%s: expected a time like 10s or 500ms", text);
    }
    if (s->config.handshake_timeout_ns == 0) {
        s->config.handshake_timeout_ns = UINT64_MAX;
    }
    return 0;
}

static int parse_spin(struct serve *s, const char *text)
{
    if (duration_parse(text, &s->config.spin_ns) < 0 || s->config.spin_ns > SPIN_MAX_NS) {
        return usage(s, "--spin=%s: expected a time up to 1ms, like 20us", text);
    }
    return 0;
}

static int parse_modes(struct serve *s, int opt, const char *word)
{
    unsigned flags = 0;

    if (opt == 't') {
        if (tool_cache_flags(word, &flags) < 0) {
            return usage(s, "--cache=%s: expected writeback, writethrough, none, directsync or unsafe", word);
        }
        s->open_flags &= ~(unsigned)(OPEN_DIRECT | OPEN_NO_FLUSH | OPEN_WRITETHROUGH);
    } else {
        if (tool_discard_flags(word, &flags) < 0) {
            return usage(s, "--discard=%s: expected unmap or ignore", word);
        }
        s->open_flags &= ~(unsigned)OPEN_UNMAP;
    }
    s->open_flags |= flags;
    return 0;
}

static int parse_flag(struct serve *s, int opt)
{
    switch (opt) {
    case 'r':
        s->read_only = true;
        break;
    case 'p':
        s->progress = true;
        break;
    case 'q':
        s->quiet = true;
        break;
    case OPT_ONCE:
        s->once = true;
        break;
    case OPT_SCRUB:
        s->scrub = true;
        break;
    case OPT_JSON:
        s->json = true;
        break;
    case OPT_TLS_VERIFY_PEER:
        s->config.tls_verify_peer = true;
        break;
    default:
        return EXIT_USAGE; /* getopt has said why */
    }
    return 0;
}

static int parse_option(struct serve *s, struct context *ctx, int opt, const char *arg)
{
    switch (opt) {
    case 1:
        return add_image(s, ctx, arg);
    case 'f':
        ctx->format = arg;
        ctx->formats++;
        return 0;
    case OPT_IMAGE_OPTS:
        ctx->opts = true;
        return 0;
    case OPT_EXPORT:
        ctx->export_name = arg;
        return 0;
    case 't':
    case OPT_DISCARD:
        return parse_modes(s, opt, arg);
    case OPT_NBD:
        s->addresses[s->naddresses++] = arg;
        return 0;
    case OPT_MAX_CLIENTS:
        return parse_clients(s, arg);
    case OPT_HANDSHAKE_TIMEOUT:
        return parse_timeout(s, arg);
    case OPT_SPIN:
        return parse_spin(s, arg);
    case OPT_DESCRIPTION:
        s->description = arg;
        return 0;
    case OPT_TLS:
        return parse_tls(s, arg);
    case OPT_TLS_CERTIFICATES:
        s->config.tls_certificates = arg;
        return 0;
    case OPT_TLS_PSK:
        s->config.tls_psk = arg;
        return 0;
    case OPT_RUN:
        s->run = arg;
        return 0;
    case OPT_REPORT:
        s->report = arg;
        return 0;
    case OPT_PID_FILE:
        s->pid_file = arg;
        return 0;
    case TOOL_OPT_ENGINE:
    case TOOL_OPT_SEED:
        return tool_common_option(s->tool, opt, arg) < 0 ? EXIT_USAGE : 0;
    default:
        return parse_flag(s, opt);
    }
}

/* What the options say together. */
static int check_usage(struct serve *s, const struct context *ctx)
{
    if (s->nimages == 0) {
        return usage(s, "nothing to serve: %s is missing", "IMAGE");
    }
    if (ctx->export_name) {
        return usage(s, "--export=%s: no image follows", ctx->export_name);
    }
    for (unsigned i = 0; ctx->formats == 1 && i < s->nimages; i++) {
        s->images[i].format = ctx->format; /* a single -f is meant for all, wherever it stands */
    }
    for (unsigned i = 0; s->nimages > 1 && i < s->nimages; i++) {
        if (!s->images[i].name) {
            return usage(s, "several images need export names: NAME=%s", s->images[i].text);
        }
    }
    bool keys = s->config.tls_certificates || s->config.tls_psk;
    if (keys && s->config.tls == NBD_TLS_OFF) {
        return usage(s, "%s", "TLS keys are of no use without --tls=on or --tls=require");
    }
    if (!keys && s->config.tls != NBD_TLS_OFF) {
        return usage(s, "%s", "--tls needs --tls-certificates=DIR or --tls-psk=FILE");
    }
    if (s->config.tls_verify_peer && !s->config.tls_certificates) {
        return usage(s, "%s", "--tls-verify-peer needs --tls-certificates=DIR");
    }
    return 0;
}

/* 0, or -1 with *@ret_status set: print nothing more, exit. */
static int parse(struct serve *s, int argc, char **argv, int *ret_status)
{
    struct context ctx = {0};
    int opt;

    *ret_status = 0;
    while ((opt = getopt_long(argc, argv, "-f:rt:pqhV", long_options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return -1;
        }
        if (opt == 'V') {
            tool_version(s->tool);
            return -1;
        }
        *ret_status = parse_option(s, &ctx, opt, optarg);
        if (*ret_status != 0) {
            return -1;
        }
    }
    while (optind < argc) { /* after "--" */
        *ret_status = add_image(s, &ctx, argv[optind++]);
        if (*ret_status != 0) {
            return -1;
        }
    }
    *ret_status = check_usage(s, &ctx);
    return *ret_status == 0 ? 0 : -1;
}

/* ---- what happens meanwhile ---- */

static void wind_down(struct serve *s)
{
    s->end = true;
    co_queue_wake_all(&s->changed);
}

static void on_notice(void *opaque, const char *sentence)
{
    struct serve *s = opaque;
    tool_error(s->tool, "%s", sentence);
}

static void on_client_left(void *opaque)
{
    struct serve *s = opaque;

    if (s->once && nbd_server_clients(s->server) == 0) {
        wind_down(s);
    }
}

/* A verifier found a mismatch and is set to stop. */
static void on_stop(struct graph *g, struct node *n)
{
    wind_down(container_of(g, struct serve, graph));
}

static void release_all(struct serve *s);
static void scrub_now(void *arg);

/* SIGUSR1 and SIGUSR2 ask for something, the others for the end. */
static void take_signal(struct serve *s, int signal, bool from_terminal)
{
    if (signal == SIGUSR1) {
        release_all(s);
    } else if (signal == SIGUSR2) {
        if (!s->scrubbing && !s->end) {
            s->scrubbing = co_start_later(scrub_now, s) == 0;
        }
    } else {
        s->signal = signal;
        if (s->child_alive && !from_terminal) { /* from there it got its own */
            kill(s->child, signal);
        }
        wind_down(s);
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
    wind_down(s);
}

/* ---- beginning ---- */

static int fail(struct serve *s, const struct err *err)
{
    tool_error(s->tool, "%s", err->text);
    s->failed = true;
    return -1;
}

static int open_images(struct serve *s)
{
    unsigned flags = s->open_flags | (s->read_only ? 0 : OPEN_WRITE);

    for (unsigned i = 0; i < s->nimages; i++) {
        struct image *im = &s->images[i];
        struct err err = {0};
        int rc = im->opts ? node_open_opts(&s->graph, im->text, flags, &im->node, &err)
                          : node_open_name(&s->graph, im->text, im->format, flags, &im->node, &err);
        if (rc == 0) {
            rc = nbd_server_export(s->server, im->export_name, im->node, s->read_only, s->description, &err);
        }
        if (rc < 0) {
            return fail(s, &err);
        }
    }
    return 0;
}

struct verifiers {
    struct node *nodes[VERIFIERS_MAX];
    unsigned count;
};

static void find_verifiers(struct node *n, struct verifiers *v)
{
    for (unsigned i = 0; i < v->count; i++) {
        if (v->nodes[i] == n) {
            return;
        }
    }
    if (verify_is(n) && v->count < VERIFIERS_MAX) {
        v->nodes[v->count++] = n;
    }
    for (unsigned i = 0; i < node_children(n); i++) {
        struct node *child = node_child_at(n, i, NULL);
        if (child) {
            find_verifiers(child, v);
        }
    }
}

static struct verifiers all_verifiers(const struct serve *s)
{
    struct verifiers v = {0};

    for (unsigned i = 0; i < s->nimages; i++) {
        if (s->images[i].node) {
            find_verifiers(s->images[i].node, &v);
        }
    }
    return v;
}

static int set_report(struct serve *s)
{
    struct verifiers v = all_verifiers(s);
    struct err err = {0};

    if (v.count == 0 && (s->report || s->scrub)) {
        err_set(&err, -EINVAL, "%s needs a blkverify device: no image has one",
                s->report ? "--report" : "--scrub");
        return fail(s, &err);
    }
    if (v.count > 1 && s->report) {
        err_set(&err, -EINVAL,
                "--report is for one blkverify device, and there are %u: use their option report", v.count);
        return fail(s, &err);
    }
    return s->report && verify_report_to(v.nodes[0], s->report, &err) < 0 ? fail(s, &err) : 0;
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

    if (s->naddresses == 0 && s->run) {
        rc = make_private_address(s, &err);
        s->addresses[s->naddresses++] = s->private_address;
    } else if (s->naddresses == 0) {
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
    FILE *f = s->pid_file ? fopen(s->pid_file, "we") : NULL;

    if (!s->pid_file) {
        return 0;
    }
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
        json_array_append_new(json_object_get(ready, "exports"),
                              json_pack("{s:s, s:I, s:o}", "name", im->export_name, "size",
                                        (json_int_t)node_size(im->node), "uri", uris));
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
            for (unsigned l = 0; nbd_server_address(s->server, l); l++) {
                char size[SIZE_TEXT_MAX];
                AUTO_FREE char *uri = nbd_server_uri(s->server, l, s->images[i].export_name);
                printf("serving %s (%s)\n", uri ? uri : "?", size_text(node_size(s->images[i].node), size));
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

    if (!unix_socket) {
        snprintf(port, sizeof(port), "%u", nbd_server_port(s->server, 0));
    }
    struct run_variables vars = {
        .uri = uri ? uri : "",
        .unixsocket = unix_socket ? address + 5 : "",
        .port = port,
        .export_name = s->images[0].export_name,
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

static int begin(struct serve *s)
{
    struct err err = {0};

    if (nbd_server_create(&s->config, &s->server, &err) < 0) {
        return fail(s, &err);
    }
    if (open_images(s) < 0 || set_report(s) < 0 || listen_all(s) < 0 || write_pid_file(s) < 0) {
        return -1;
    }
    s->watching = co_start_later(watch_signals, s) == 0;
    tell_ready(s);
    return s->run ? start_command(s) : 0;
}

/* ---- ending ---- */

static void flush_all(struct serve *s)
{
    for (unsigned i = 0; i < s->nimages; i++) {
        struct image *im = &s->images[i];
        int rc = im->node && !node_is_read_only(im->node) ? node_flush(im->node) : 0;
        if (rc < 0) {
            tool_error(s->tool, "flush '%s': %s", im->text, err_name(rc));
            s->failed = true;
        }
    }
}

static bool show_progress(void *opaque, uint64_t done, uint64_t total)
{
    struct serve *s = opaque;

    if (s->progress) {
        printf("    (%.2f/100%%)\r", total ? 100.0 * (double)done / (double)total : 100.0);
        fflush(stdout);
    }
    return !s->signal && !(s->scrubbing && s->end); /* a signal that comes now ends the scrub */
}

/* Returns what verify_scrub does, having said what went wrong. */
static int scrub_one(struct serve *s, struct node *n, struct verify_scrub_result *ret_result)
{
    uint64_t before = s->graph.mismatches;
    int rc = verify_scrub(n, show_progress, s, ret_result);

    if (s->progress) {
        putchar('\n');
    }
    if (rc == -ECANCELED) {
        tool_error(s->tool, "the scrub of '%s' was interrupted", node_filename(n));
    } else if (rc < 0 && s->graph.mismatches == before) {
        tool_error(s->tool, "scrub '%s': %s", node_filename(n), err_name(rc));
    }
    return rc;
}

static void scrub_all(struct serve *s)
{
    struct verifiers v = all_verifiers(s);
    int rc = 0;

    s->signal = 0; /* the one that ended the server has done its work */
    for (unsigned i = 0; i < v.count && rc != -ECANCELED; i++) {
        struct verify_scrub_result result = {0};
        rc = scrub_one(s, v.nodes[i], &result);
        s->failed |= rc < 0;
    }
}

/* On demand, while clients go on. The images stay open until it has ended: see finish. */
static void scrub_now(void *arg)
{
    struct serve *s = arg;
    struct verifiers v = all_verifiers(s);
    int rc = 0;

    for (unsigned i = 0; i < v.count && rc != -ECANCELED; i++) {
        struct verify_scrub_result result = {0};
        rc = scrub_one(s, v.nodes[i], &result);
        if (rc != -ECANCELED && !s->quiet) {
            tool_error(s->tool,
                       "scrub of '%s': %llu bytes compared, %llu in holes of both sides, %llu mismatches",
                       node_filename(v.nodes[i]), (unsigned long long)result.compared_bytes,
                       (unsigned long long)result.skipped_bytes, (unsigned long long)result.mismatches);
        }
    }
    s->scrubbing = false;
    co_queue_wake_all(&s->changed);
}

static void release_all(struct serve *s)
{
    struct verifiers v = all_verifiers(s);

    for (unsigned i = 0; i < v.count; i++) {
        verify_release(v.nodes[i]);
    }
}

/* Requests that a verifier holds (on-mismatch=pause) would never finish, and nobody is left to
 * release them: do it until the end. */
static void release_held(void *arg)
{
    struct serve *s = arg;

    while (all_verifiers(s).count > 0 && !s->finished) {
        release_all(s);
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
    if (s->private_dir) {
        rmdir(s->private_dir);
    }
    if (s->pid_written) {
        unlink(s->pid_file);
    }
}

static void finish(struct serve *s)
{
    s->releasing = co_start_later(release_held, s) == 0;
    if (s->server) {
        nbd_server_stop(s->server);
        nbd_server_wait(s->server);
    }
    wait_for_child(s);
    while (s->scrubbing) {
        co_queue_wait(&s->changed);
    }
    flush_all(s);
    if (s->scrub && !s->failed) {
        scrub_all(s);
    }
    s->finished = true;
    if (s->watching) {
        fd_poll_cancel(s->signal_fd);
    }
    while (s->watching || s->releasing) {
        co_queue_wait(&s->changed);
    }
    nbd_server_destroy(s->server);
    for (unsigned i = 0; i < s->nimages; i++) {
        node_unref(TAKE_PTR(s->images[i].node));
    }
    remove_traces(s);
}

static int serve(void *arg)
{
    struct serve *s = arg;

    co_queue_init(&s->changed);
    tool_graph_init(s->tool, &s->graph);
    s->graph.stop = on_stop;
    if (begin(s) == 0) {
        while (!s->end) {
            co_queue_wait(&s->changed);
        }
    }
    finish(s);
    if (s->failed || s->graph.mismatches > 0) {
        return EXIT_FAILURE;
    }
    return s->run ? s->child_status : 0;
}

/* ---- the verb ---- */

static int run(struct serve *s)
{
    sigset_t mask;

    /* Blocked before the loop starts threads, so that they inherit it and the signals come to us. */
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
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

int tool_serve(struct tool *t, int argc, char **argv)
{
    struct serve s = {.tool = t, .open_flags = OPEN_UNMAP};
    int status;

    s.config = (struct nbd_server_config){.handshake_timeout_ns = NBD_HANDSHAKE_DEFAULT_NS,
                                          .notice = on_notice,
                                          .client_left = on_client_left,
                                          .opaque = &s};
    /* No more of them than there are arguments. */
    s.images = calloc((size_t)argc + 1, sizeof(*s.images));
    s.addresses = calloc((size_t)argc + 1, sizeof(*s.addresses));
    if (!s.images || !s.addresses) {
        tool_error(t, "no memory for the command line");
        status = EXIT_FAILURE;
    } else if (parse(&s, argc, argv, &status) == 0) {
        status = run(&s);
    }
    for (unsigned i = 0; i < s.nimages; i++) {
        free(s.images[i].export_name);
    }
    free(s.images);
    free(s.addresses);
    free(s.private_dir);
    free(s.private_address);
    return status;
}
