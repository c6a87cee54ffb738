/* SPDX-License-Identifier: BSD-2-Clause */
/* The verb io: its options, and what runs from the first command to the exit status. */
#include <getopt.h>

#include "tools/io/io.h"

#define EXIT_USAGE 2

struct io_args {
    struct tool *tool;
    struct io_open open;
    struct verify_settings verify;
    bool misalign;
    char **commands; /* -c, in order; room for one each argument */
    int n_commands;
};

/* ---- options ---- */

enum {
    OPT_IMAGE_OPTS = TOOL_OPT_FIRST_FREE,
    OPT_OBJECT,
    OPT_ON_MISMATCH,
    OPT_ON_INJECTED,
    OPT_REPORT,
    OPT_ORACLE,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"cmd", required_argument, NULL, 'c'},
    {"format", required_argument, NULL, 'f'},
    {"read-only", no_argument, NULL, 'r'},
    {"snapshot", no_argument, NULL, 's'},
    {"nocache", no_argument, NULL, 'n'},
    {"copy-on-read", no_argument, NULL, 'C'},
    {"misalign", no_argument, NULL, 'm'},
    {"native-aio", no_argument, NULL, 'k'},
    {"aio", required_argument, NULL, 'i'},
    {"cache", required_argument, NULL, 't'},
    {"discard", required_argument, NULL, 'd'},
    {"trace", required_argument, NULL, 'T'},
    {"force-share", no_argument, NULL, 'U'},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {"object", required_argument, NULL, OPT_OBJECT},
    {"on-mismatch", required_argument, NULL, OPT_ON_MISMATCH},
    {"on-injected", required_argument, NULL, OPT_ON_INJECTED},
    {"report", required_argument, NULL, OPT_REPORT},
    {"oracle", required_argument, NULL, OPT_ORACLE},
    TOOL_COMMON_LONG_OPTIONS,
    {0},
};

static void print_help(const struct tool *t)
{
    printf("Usage: %s [OPTIONS]... [-c COMMAND]... [FILE]\n"
           "Reads, writes and checks a block device, command by command.\n"
           "\n"
           "  -c, --cmd=COMMAND    run this command (again for more); without, commands\n"
           "                       come from standard input\n"
           "  -f, --format=FMT     the format of FILE; without, it is probed\n"
           "  --image-opts         FILE is options: driver=raw,file.filename=x\n"
           "  -r, --read-only      open read-only\n"
           "  -s, --snapshot       write to a temporary overlay\n"
           "  -n, --nocache        as -t none\n"
           "  -C, --copy-on-read   copy what is read from a backing file\n"
           "  -m, --misalign       use misaligned buffers\n"
           "  -k, --native-aio     as -i native\n"
           "  -i, --aio=MODE       threads, native or io_uring\n"
           "  -t, --cache=MODE     writethrough (default), writeback, none, directsync\n"
           "                       or unsafe\n"
           "  -d, --discard=MODE   unmap (default) or ignore\n"
           "  -U, --force-share    take no locks\n"
           "  -T, --trace=SPEC     accepted; there are no trace events\n"
           "  --object=OBJECT      refused: no driver here needs one\n"
           "  --on-mismatch=MODE   what a verifier does: stop (default), error or report\n"
           "  --on-injected=MODE   the same where a fault rule explains it: stop, error, report (default)\n"
           "  --oracle=FILE        verify by hashes, which are kept in FILE\n"
           "  --report=FILE        write one JSON object for each mismatch\n" TOOL_COMMON_HELP
           "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "See '%s -c help' for the commands, and blkproof-io(1).\n",
           t->standin ? t->prefix : "blkproof io", t->standin ? t->prefix : "blkproof io");
}

/* 1 as qemu-io, 2 as a program of ours. */
static int usage_status(const struct tool *t)
{
    return t->standin ? 1 : EXIT_USAGE;
}

static int cache_option(struct io_args *a, const char *mode)
{
    unsigned cache;

    if (tool_cache_flags(mode, &cache) < 0) {
        tool_error(a->tool, "Invalid cache option: %s", mode);
        return usage_status(a->tool);
    }
    a->open.flags = (a->open.flags & ~(unsigned)(OPEN_DIRECT | OPEN_NO_FLUSH | OPEN_WRITETHROUGH)) | cache;
    return 0;
}

static int discard_option(struct io_args *a, const char *mode)
{
    unsigned discard;

    if (tool_discard_flags(mode, &discard) < 0) {
        tool_error(a->tool, "Invalid discard option: %s", mode);
        return usage_status(a->tool);
    }
    a->open.flags = (a->open.flags & ~(unsigned)OPEN_UNMAP) | discard;
    return 0;
}

/* The engine follows unless the user named one. */
static int aio_option(struct io_args *a, const char *mode)
{
    const char *engine;

    if (tool_aio_engine(mode, &engine) < 0) {
        tool_error(a->tool, "Invalid aio option: %s", mode);
        return usage_status(a->tool);
    }
    a->open.native_aio = strcmp(mode, "native") == 0;
    if (a->tool->engine == NULL && getenv("BLKPROOF_ENGINE") == NULL) {
        a->tool->engine = engine;
    }
    return 0;
}

/* [[enable=]PATTERN][,events=FILE][,file=FILE]: no event matches any pattern. */
static void trace_option(struct io_args *a, const char *spec)
{
    if (strncmp(spec, "enable=", 7) == 0) {
        spec += 7;
    }
    int n = (int)strcspn(spec, ",");
    if (n > 0 && memchr(spec, '=', (size_t)n) == NULL) {
        tool_error(a->tool, "warning: trace event '%.*s' does not exist", n, spec);
    }
}

static int object_option(struct io_args *a, const char *spec)
{
    int n = (int)strcspn(spec, ",");
    int skip = strncmp(spec, "qom-type=", 9) == 0 ? 9 : 0;

    tool_error(a->tool, "Parameter 'qom-type' does not accept value '%.*s'", n - skip, spec + skip);
    return usage_status(a->tool);
}

/* Of --@option, into @ret. */
static int on_mismatch_option(struct io_args *a, const char *option, const char *mode, const char **ret)
{
    static const char *const modes[] = {"stop", "error", "report"};

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i], mode) == 0) {
            *ret = mode;
            return 0;
        }
    }
    tool_error(a->tool, "--%s: '%s' is not stop, error or report (pause is for blkproof serve)", option,
               mode);
    return usage_status(a->tool);
}

/* Switches without an argument: true if @c was one. */
static bool plain_option(struct io_args *a, int c)
{
    switch (c) {
    case 'C':
        a->open.copy_on_read = true;
        return true;
    case 'k':
        a->open.native_aio = true;
        return true;
    case 'm':
        a->misalign = true;
        return true;
    case 'r':
        a->open.flags &= ~(unsigned)OPEN_WRITE;
        return true;
    case 's':
        a->open.snapshot = true;
        return true;
    case 'U':
        a->open.flags |= OPEN_FORCE_SHARE;
        return true;
    case OPT_IMAGE_OPTS:
        a->open.image_opts = true;
        return true;
    default:
        return false;
    }
}

/* 0, or the exit status after printing why. */
static int valued_option(struct io_args *a, int c)
{
    switch (c) {
    case 'c':
        a->commands[a->n_commands++] = optarg;
        return 0;
    case 'd':
        return discard_option(a, optarg);
    case 'f':
        a->open.format = optarg;
        return 0;
    case 'i':
        return aio_option(a, optarg);
    case 'n':
        return cache_option(a, "none");
    case 't':
        return cache_option(a, optarg);
    case 'T':
        trace_option(a, optarg);
        return 0;
    case OPT_OBJECT:
        return object_option(a, optarg);
    case OPT_ON_MISMATCH:
        return on_mismatch_option(a, "on-mismatch", optarg, &a->verify.on_mismatch);
    case OPT_ON_INJECTED:
        return on_mismatch_option(a, "on-injected", optarg, &a->verify.on_injected);
    case OPT_REPORT:
        a->verify.report = optarg;
        return 0;
    case OPT_ORACLE:
        a->verify.oracle = optarg;
        return 0;
    default:
        return tool_common_option(a->tool, c, optarg) < 0 ? usage_status(a->tool) : 0;
    }
}

/* What QEMU shows for wrong arguments is the whole help; we say where it is. */
static int usage(const struct tool *t)
{
    if (t->standin) {
        print_help(t);
    } else {
        fprintf(stderr, "See 'blkproof io --help'.\n");
    }
    return usage_status(t);
}

/* -1: go on; else the exit status. */
static int parse_arguments(struct io_args *a, int argc, char **argv)
{
    const struct tool *t = a->tool;
    char prefix[32];
    int c;

    snprintf(prefix, sizeof(prefix), "%s", t->prefix);
    argv[0] = prefix; /* getopt begins its messages with it */
    while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", long_options, NULL)) != -1) {
        int status = 0;
        if (c == 'h') {
            print_help(t);
            return 0;
        }
        if (c == 'V') {
            tool_version(t);
            return 0;
        }
        if (c == '?') {
            return usage(t);
        }
        if (!plain_option(a, c) && (status = valued_option(a, c)) != 0) {
            return status;
        }
    }
    if (argc - optind > 1) {
        if (!t->standin) {
            tool_error(t, "one file at most, but '%s' comes behind '%s'", argv[optind + 1], argv[optind]);
        }
        return usage(t);
    }
    if (a->open.format != NULL && a->open.image_opts) {
        tool_error(t, "--image-opts and -f are mutually exclusive");
        return usage_status(t);
    }
    a->open.name = argv[optind]; /* NULL at the end */
    return -1;
}

/* ---- the run ---- */

/* A verifier with on-mismatch=stop: the report is out, nothing more may happen. */
static void stop_at_once(struct graph *g, struct node *n)
{
    fflush(stdout);
    fflush(stderr);
    _exit(g->mismatches > 0 ? 1 : EXIT_INJECTED);
}

static void run_commands(struct io *io, const struct io_args *a)
{
    for (int i = 0; i < a->n_commands && !io->quit; i++) {
        io_run_line(io, a->commands[i]);
    }
    if (a->n_commands == 0) {
        io_shell(io);
    }
}

static co_fn int io_main(void *arg)
{
    const struct io_args *a = arg;
    struct io io = {
        .tool = a->tool, .verify = a->verify, .image_opts = a->open.image_opts, .misalign = a->misalign};

    tool_graph_init(a->tool, &io.graph);
    io.graph.stop = stop_at_once;
    co_queue_init(&io.aio_done);
    if (a->open.name != NULL && io_open_file(&io, &a->open) < 0) {
        return 1;
    }
    run_commands(&io, a);
    io_close_file(&io);
    return io.failed || io.graph.mismatches > 0 ? 1 : io.graph.injected_stop ? EXIT_INJECTED : 0;
}

int tool_io(struct tool *t, int argc, char **argv)
{
    AUTO_FREE char **commands = calloc((size_t)argc + 1, sizeof(*commands));
    struct io_args a = {
        .tool = t, .commands = commands, .open.flags = OPEN_WRITE | OPEN_WRITETHROUGH | OPEN_UNMAP};

    if (commands == NULL) {
        tool_error(t, "no memory for the arguments");
        return 1;
    }
    int status = parse_arguments(&a, argc, argv);
    return status >= 0 ? status : tool_run(t, io_main, &a);
}
