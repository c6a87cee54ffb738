/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of `blkproof serve`. Options and images are taken in the order in which they
 * stand, because some options are about the images behind them.
 */
#include <getopt.h>
#include <stdio.h>

#include "base/json.h"
#include "base/size.h"
#include "drivers/fault/fault.h"
#include "tools/serve_fuse.h"

#define EXIT_USAGE  2
#define SPIN_MAX_NS NS_PER_MS /* longer, and nothing else on the loop would be noticed in time */

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
    OPT_TIME_SCALE,
    OPT_RUN,
    OPT_DISCARD,
    OPT_REPORT,
    OPT_ORACLE,
    OPT_ON_MISMATCH,
    OPT_ON_INJECTED,
    OPT_SCRUB,
    OPT_ONCE,
    OPT_PID_FILE,
    OPT_JSON,
    OPT_DESCRIPTION,
    OPT_QMP,
    OPT_ID,
    OPT_WRITE_CACHE,
    OPT_POWER_REPORT,
    OPT_DECISION_LOG,
    OPT_REPLAY_DECISIONS,
    OPT_FUSE,
    OPT_FUSE_GROWABLE,
    OPT_FUSE_ALLOW_OTHER,
    OPT_METRICS,
};

static const struct option long_options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"nbd", required_argument, NULL, OPT_NBD},
    {"fuse", required_argument, NULL, OPT_FUSE},
    {"fuse-growable", no_argument, NULL, OPT_FUSE_GROWABLE},
    {"fuse-allow-other", no_argument, NULL, OPT_FUSE_ALLOW_OTHER},
    {"export", required_argument, NULL, OPT_EXPORT},
    {"id", required_argument, NULL, OPT_ID},
    {"write-cache", optional_argument, NULL, OPT_WRITE_CACHE},
    {"power-report", required_argument, NULL, OPT_POWER_REPORT},
    {"qmp", required_argument, NULL, OPT_QMP},
    {"metrics", required_argument, NULL, OPT_METRICS},
    {"format", required_argument, NULL, 'f'},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {"read-only", no_argument, NULL, 'r'},
    {"cache", required_argument, NULL, 't'},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"description", required_argument, NULL, OPT_DESCRIPTION},
    {"max-clients", required_argument, NULL, OPT_MAX_CLIENTS},
    {"handshake-timeout", required_argument, NULL, OPT_HANDSHAKE_TIMEOUT},
    {"spin", required_argument, NULL, OPT_SPIN},
    {"time-scale", required_argument, NULL, OPT_TIME_SCALE},
    {"tls", required_argument, NULL, OPT_TLS},
    {"tls-certificates", required_argument, NULL, OPT_TLS_CERTIFICATES},
    {"tls-psk", required_argument, NULL, OPT_TLS_PSK},
    {"tls-verify-peer", no_argument, NULL, OPT_TLS_VERIFY_PEER},
    {"run", required_argument, NULL, OPT_RUN},
    {"once", no_argument, NULL, OPT_ONCE},
    {"report", required_argument, NULL, OPT_REPORT},
    {"decision-log", required_argument, NULL, OPT_DECISION_LOG},
    {"replay-decisions", required_argument, NULL, OPT_REPLAY_DECISIONS},
    {"oracle", required_argument, NULL, OPT_ORACLE},
    {"on-mismatch", required_argument, NULL, OPT_ON_MISMATCH},
    {"on-injected", required_argument, NULL, OPT_ON_INJECTED},
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
           "Export images over NBD, or as files, until a signal (SIGTERM, SIGINT), the end of the command "
           "given\n"
           "with --run, or the first mismatch of a blkverify device with on-mismatch=stop.\n"
           "\n"
           "IMAGE is a file name, nbd://..., blkverify:RAW:TEST, json:{...} or, with --image-opts,\n"
           "driver=...,... NAME is the name of its export; a single image needs none.\n"
           "\n"
           "Images:\n"
           "  -f, --format=FMT     format of the images that follow (default: probed)\n"
           "      --image-opts     the images that follow are given as options\n"
           "      --export=NAME    export name of the next image (as NAME=IMAGE)\n"
           "      --id=NAME        device name of the next image, for QMP (default: its export\n"
           "                       name, or disk0, disk1, ...)\n"
           "      --write-cache[=OPTIONS]  the images that follow have a volatile write cache, whose power "
           "can be\n"
           "                       cut: size=4M,flush=lie,... (see blkproof-write-cache(7))\n"
           "  -r, --read-only      refuse to write\n"
           "  -t, --cache=MODE     writeback (default), writethrough, none, directsync or unsafe\n"
           "      --discard=MODE   unmap (default) or ignore\n"
           "\n"
           "Clients:\n"
           "      --nbd=ADDRESS    unix:PATH or tcp:[HOST][:PORT], any number of times (default:\n"
           "                       tcp:127.0.0.1:10809; with --run a private unix socket; none\n"
           "                       beside --fuse)\n"
           "      --fuse=[NAME=]FILE        mount the disk on FILE, as a file (see\n"
           "                       blkproof-fuse(7)), any number of times\n"
           "      --fuse-growable  that file may change its size\n"
           "      --fuse-allow-other        and be used by more than this user\n"
           "      --max-clients=N  clients at once; more have to wait (default 100)\n"
           "      --handshake-timeout=TIME  until a client must have chosen an export (default\n"
           "                       10s; 0: no limit)\n"
           "      --time-scale=F   times of fault rules are multiplied by this: 0.01 makes 10 ms of 1 s\n"
           "      --spin=TIME      look for the only client's next request for so long before\n"
           "                       sleeping, while that pays (default 20us; 0: never)\n"
           "      --description=TEXT        told to clients that ask for one\n"
           "      --tls=MODE       off (default), on (offered) or require\n"
           "      --tls-certificates=DIR    server-cert.pem, server-key.pem, ca-cert.pem\n"
           "      --tls-psk=FILE   pre-shared keys, NAME:HEXKEY lines, as psktool writes\n"
           "      --tls-verify-peer         clients need a certificate signed by ca-cert.pem\n"
           "\n"
           "Control:\n"
           "      --qmp=ADDRESS    a QMP server on tcp:HOST:PORT or unix:PATH, any number of times;\n"
           "                       ,server,nowait may follow, and ,allow-remote=on\n"
           "      --metrics=ADDRESS         numbers for Prometheus at http://HOST:PORT/metrics, on\n"
           "                       tcp:[HOST][:PORT] of this machine (port 9810) or unix:PATH\n"
           "\n"
           "Running and verifying:\n"
           "      --run=CMD        run CMD with $uri, $unixsocket, $port and $export set; end with\n"
           "                       it and with its exit status, or 1 if anything was wrong\n"
           "      --once           end when the last client has left\n"
           "      --oracle=FILE    verify the image by hashes, which are kept in FILE\n"
           "      --on-mismatch=MODE        of every verifier: stop (default), error, report or pause\n"
           "      --on-injected=MODE        where a fault rule explains it: report (default), ...\n"
           "      --report=FILE    one JSON object per mismatch of a blkverify device\n"
           "      --power-report=FILE  one JSON object per power cut and disk\n"
           "      --decision-log=FILE  one JSON object each time that a fault rule acts\n"
           "      --replay-decisions=FILE  fault rules act where they did in the run that made this log\n"
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

/* The name is a plain word, so that neither ./a=b nor json:{"a=b"...} has one. */
size_t serve_name_len(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return text[len] == '=' ? len : 0;
}

/* NAME=IMAGE */
static void split_name(struct image *im)
{
    size_t len = serve_name_len(im->text);

    if (!im->name && len > 0) {
        im->name = im->text;
        im->name_len = len;
        im->text += len + 1;
    }
}

/* What the options that stand before an image have set for it. */
struct context {
    const char *format, *export_name, *id, *write_cache;
    bool opts;
    unsigned formats;
};

static int add_image(struct serve *s, struct context *ctx, const char *text)
{
    struct image *im = &s->images[s->nimages++];

    *im = (struct image){.text = text,
                         .name = ctx->export_name,
                         .format = ctx->format,
                         .opts = ctx->opts,
                         .id = ctx->id,
                         .write_cache = ctx->write_cache};
    im->name_len = im->name ? strlen(im->name) : 0;
    ctx->export_name = ctx->id = NULL;
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

static int parse_time_scale(struct serve *s, const char *text)
{
    AUTO_JSON json_t *v = json_string(text);
    struct err err = {0};

    return v && fault_parse_scale(v, &s->time_scale, &err) == 0 ? 0 : usage(s, "--%.200s", err.text);
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
    case OPT_FUSE_GROWABLE:
        s->fuse_growable = true;
        break;
    case OPT_FUSE_ALLOW_OTHER:
        s->fuse_allow_other = true;
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
    case OPT_ID:
        ctx->id = arg;
        return 0;
    case OPT_QMP:
        s->qmp_addresses[s->nqmp++] = arg;
        return 0;
    case OPT_METRICS:
        s->metrics_address = arg;
        return 0;
    case 't':
    case OPT_DISCARD:
        return parse_modes(s, opt, arg);
    case OPT_NBD:
        s->addresses[s->naddresses++] = arg;
        return 0;
    case OPT_FUSE:
        return serve_fuse_add(s, arg) < 0 ? usage(s, "no memory for --fuse=%s", arg) : 0;
    case OPT_MAX_CLIENTS:
        return parse_clients(s, arg);
    case OPT_HANDSHAKE_TIMEOUT:
        return parse_timeout(s, arg);
    case OPT_SPIN:
        return parse_spin(s, arg);
    case OPT_TIME_SCALE:
        return parse_time_scale(s, arg);
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
    case OPT_WRITE_CACHE:
        ctx->write_cache = arg ? arg : "";
        return 0;
    case OPT_POWER_REPORT:
        s->power_report = arg;
        return 0;
    case OPT_DECISION_LOG:
        s->decision_log = arg;
        return 0;
    case OPT_REPLAY_DECISIONS:
        s->replay_decisions = arg;
        return 0;
    case OPT_REPORT:
        s->report = arg;
        return 0;
    case OPT_ORACLE:
        s->verify.oracle = arg;
        return 0;
    case OPT_ON_MISMATCH:
        s->verify.on_mismatch = arg;
        return 0;
    case OPT_ON_INJECTED:
        s->verify.on_injected = arg;
        return 0;
    case OPT_PID_FILE:
        s->pid_file = arg;
        return 0;
    case TOOL_OPT_ENGINE:
    case TOOL_OPT_SEED:
    case TOOL_OPT_TRUST:
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
    if (ctx->id && s->nimages > 1) {
        return usage(s, "--id=%s: no image follows", ctx->id);
    }
    if (ctx->id && s->images[0].id) {
        return usage(s, "--id=%s: the image has an id already", ctx->id);
    }
    if (ctx->id) {
        s->images[0].id = ctx->id; /* meant for the only one, wherever it stands */
    }
    for (unsigned i = 0; ctx->formats == 1 && i < s->nimages; i++) {
        s->images[i].format = ctx->format; /* a single -f is meant for all, wherever it stands */
    }
    for (unsigned i = 0; s->nimages > 1 && i < s->nimages; i++) {
        if (!s->images[i].name) {
            return usage(s, "several images need export names: NAME=%s", s->images[i].text);
        }
    }
    struct err err = {0};
    if (serve_fuse_resolve(s, &err) < 0) {
        return usage(s, "%s", err.text);
    }
    if (s->once && s->run) {
        return usage(s, "%s", "--once and --run: one of them says when the server ends");
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

int serve_parse(struct serve *s, int argc, char **argv, int *ret_status)
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
