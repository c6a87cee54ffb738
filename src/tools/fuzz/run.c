/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run: a campaign against any program. The options become a configuration; a directory that holds a campaign
 * already is gone on with, and then only such options may be given that agree with it.
 */
#include <signal.h>
#include <sys/signalfd.h>

#include "base/json.h"
#include "base/size.h"
#include "tools/fuzz/fuzz.h"
#include "tools/fuzz/status.h"

#define OUT_DEFAULT "fuzz-campaign"
#define EXIT_FOUND  1

struct run {
    struct tool *tool;
    struct fuzz_args args;
    struct campaign_config config;
    struct campaign campaign;
    struct status status;
    const char *out;
    bool json, quiet, resume;
    bool told; /* what a test is was said on the command line */
    unsigned ncommand_files;
    const char *command_files[16];
};

enum {
    OPT_OUT = FUZZ_OPT_FIRST_FREE,
    OPT_DURATION,
    OPT_COUNT,
    OPT_JOBS,
    OPT_TIMEOUT,
    OPT_MEMORY,
    OPT_DISK,
    OPT_OUTPUT,
    OPT_FILE_SIZE,
    OPT_ADDRESS_SPACE,
    OPT_COMMANDS,
    OPT_ORACLES,
    OPT_GENERATOR,
    OPT_IMAGES,
    OPT_SHARD,
    OPT_AGAIN,
    OPT_FORK_SERVER,
    OPT_COVERAGE,
    OPT_NO_GDB,
    OPT_NO_SANDBOX,
    OPT_UNTIL_FINDING,
    OPT_RESUME,
    OPT_JSON_OUT,
    OPT_QUIET,
};

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    FUZZ_ARGS_LONG_OPTIONS,
    {"out", required_argument, NULL, OPT_OUT},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"count", required_argument, NULL, OPT_COUNT},
    {"jobs", required_argument, NULL, OPT_JOBS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"disk", required_argument, NULL, OPT_DISK},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"file-size", required_argument, NULL, OPT_FILE_SIZE},
    {"address-space", required_argument, NULL, OPT_ADDRESS_SPACE},
    {"commands", required_argument, NULL, OPT_COMMANDS},
    {"oracles", required_argument, NULL, OPT_ORACLES},
    {"generator", required_argument, NULL, OPT_GENERATOR},
    {"images", required_argument, NULL, OPT_IMAGES},
    {"shard", required_argument, NULL, OPT_SHARD},
    {"again", required_argument, NULL, OPT_AGAIN},
    {"fork-server", no_argument, NULL, OPT_FORK_SERVER},
    {"coverage", optional_argument, NULL, OPT_COVERAGE},
    {"no-gdb", no_argument, NULL, OPT_NO_GDB},
    {"no-sandbox", no_argument, NULL, OPT_NO_SANDBOX},
    {"until-finding", no_argument, NULL, OPT_UNTIL_FINDING},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"json", no_argument, NULL, OPT_JSON_OUT},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(void)
{
    printf(
        "Usage: blkproof fuzz run [OPTIONS] [-- COMMAND {img} ...]\n"
        "Run a program on hostile images again and again, and sort what it does wrong.\n"
        "\n"
        "In the words of a command: {img} the image, {fmt} its format, {off} {len} a place within its disk,\n"
        "{out} a file for results, {dir} the test's directory, {seed}; also $test_img $off $len.\n"
        "\n"
        "Images:\n" FUZZ_ARGS_HELP
        "      --seed=N           of the first test; each further one has the next (default 1)\n"
        "      --generator=CMD    a program makes the images: CMD writes {img} from {seed}\n"
        "      --images=PATH      mutate these images (a file or a directory) in place of making some\n"
        "\n"
        "Commands and oracles:\n"
        "      --commands=FILE    commands, one a line, with what may be concluded from each; @NAME: a set\n"
        "                         that is built in; may be repeated (--commands=help lists the sets)\n"
        "      --oracles=LIST     these only, or all but these: signal,timeout or -output\n"
        "                         (--oracles=help lists them)\n"
        "      --again=N          run a new finding so often again, to see how steady it is (default 3)\n"
        "      --no-gdb           no stacks by gdb\n"
        "\n"
        "The campaign:\n"
        "      --out=DIR          its directory (default: ./" OUT_DEFAULT
        "); one that is there is gone on with\n"
        "      --resume           only go on with one that is there\n"
        "      --duration=TIME    start no test after this time: 10m, 90s (default: until interrupted)\n"
        "      --count=N          the tests numbered below N\n"
        "      --jobs=N           tests at once (default: one for each CPU)\n"
        "      --shard=K/N        the K-th of N parts of the tests, for several machines\n"
        "      --until-finding    stop with the first finding\n"
        "      --fork-server      start each program once, and fork it for each test\n"
        "      --coverage         mutate images that reach new code of a target that counts its edges\n"
        "      --no-sandbox       no namespaces\n"
        "\n"
        "Limits of one process:\n"
        "      --timeout=TIME     default 10s\n"
        "      --memory=SIZE      resident (default 1G)\n"
        "      --disk=SIZE        what it may leave in its directory (default 256M)\n"
        "      --output=SIZE      what it may print (default 16M)\n"
        "      --file-size=SIZE   the largest file, holes included: a limit, no finding (default 16G)\n"
        "      --address-space=SIZE  RLIMIT_AS: a limit, no finding (default none)\n"
        "\n"
        "Output:\n"
        "      --json             progress and findings as JSON objects, one a line\n"
        "      --quiet            nothing but errors\n"
        "  -h, --help             this text\n"
        "\n"
        "Exit status: 0 without findings, 1 with findings or after an error, 2 for wrong usage.\n"
        "See blkproof-fuzz-run(1).\n");
}

/* ---- options ---- */

static int take_formats(struct run *r, const char *arg, struct err *err)
{
    if (strcmp(arg, "help") == 0) {
        return fuzz_args_take(&r->args, FUZZ_OPT_FORMAT, arg, err);
    }
    for (const char *p = arg; *p;) {
        size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
        if (len == 0 || len > 32 || (p[len] && p[len] != ',')) { /* files are called after it */
            return err_set(err, -EINVAL, "--format=%s: expected words of letters and digits", arg);
        }
        if (r->config.nformats == CAMPAIGN_FORMATS_MAX) {
            return err_set(err, -E2BIG, "--format: more than %d", CAMPAIGN_FORMATS_MAX);
        }
        r->config.formats[r->config.nformats++] = strndup(p, len);
        p += len + (p[len] == ',');
    }
    return 0;
}

static int take_size(const char *arg, uint64_t *to, struct err *err)
{
    return size_parse(arg, to) < 0 || *to == 0 ? err_set(err, -EINVAL, "'%s' is not a size", arg) : 0;
}

static int take_time(const char *arg, uint64_t *to, struct err *err)
{
    return duration_parse(arg, to) < 0 || *to == 0 ? err_set(err, -EINVAL, "'%s' is not a time like 10s", arg)
                                                   : 0;
}

static int take_number(const char *arg, uint64_t min, uint64_t max, uint64_t *to, struct err *err)
{
    return fuzz_number(arg, to) < 0 || *to < min || *to > max
               ? err_set(err, -EINVAL, "'%s' is not a number from %llu to %llu", arg, (unsigned long long)min,
                         (unsigned long long)max)
               : 0;
}

static int take_shard(struct run *r, const char *arg, struct err *err)
{
    unsigned long long k, n;
    char rest;

    if (sscanf(arg, "%llu/%llu%c", &k, &n, &rest) != 2 || k < 1 || k > n || n > 1000000) {
        return err_set(err, -EINVAL, "--shard=%s: expected K/N, with K from 1 to N", arg);
    }
    r->config.shard = k - 1;
    r->config.shards = n;
    return 0;
}

static int list_sets(void)
{
    for (size_t i = 0; run_set_name(i); i++) {
        printf("# @%s\n%s\n", run_set_name(i), run_set_text(i));
    }
    return -ECANCELED;
}

static int list_oracles(void)
{
    for (size_t i = 0; i < ORACLES; i++) {
        printf("%-14s %s\n", oracle_words[i].name, oracle_words[i].what);
    }
    return -ECANCELED;
}

static int take_commands(struct run *r, const char *arg, struct err *err)
{
    if (strcmp(arg, "help") == 0) {
        return list_sets();
    }
    if (r->ncommand_files == ARRAY_SIZE(r->command_files)) {
        return err_set(err, -E2BIG, "--commands is given too often");
    }
    r->command_files[r->ncommand_files++] = arg;
    return 0;
}

static int take_text(const char *arg, char **to, struct err *err)
{
    free(*to);
    *to = strdup(arg);
    return *to ? 0 : err_set(err, -ENOMEM, "no memory");
}

static int take_coverage(struct run *r, const char *arg, struct err *err)
{
    if (arg && strcmp(arg, "map") != 0) {
        return err_set(err, -EINVAL,
                       "--coverage=%s: only the map of an instrumented program is known (--coverage); "
                       "programs without instrumentation cannot be watched",
                       arg);
    }
    r->config.coverage = true;
    return 0;
}

/* What a test is. 1: it was none of these. */
static int take_test(struct run *r, int opt, const char *arg, struct err *err)
{
    struct campaign_config *c = &r->config;

    switch (opt) {
    case FUZZ_OPT_FORMAT:
        return take_formats(r, arg, err);
    case OPT_TIMEOUT:
        return take_time(arg, &c->limits.time_ns, err);
    case OPT_MEMORY:
        return take_size(arg, &c->limits.memory_bytes, err);
    case OPT_DISK:
        return take_size(arg, &c->limits.disk_bytes, err);
    case OPT_OUTPUT:
        return take_size(arg, &c->limits.output_bytes, err);
    case OPT_FILE_SIZE:
        return take_size(arg, &c->limits.file_bytes, err);
    case OPT_ADDRESS_SPACE:
        return take_size(arg, &c->limits.as_bytes, err);
    case OPT_COMMANDS:
        return take_commands(r, arg, err);
    case OPT_ORACLES:
        return strcmp(arg, "help") == 0 ? list_oracles() : oracles_parse(arg, &c->oracles, err);
    case OPT_GENERATOR:
        return take_text(arg, &c->generator, err);
    case OPT_IMAGES:
        return take_text(arg, &c->images, err);
    case OPT_SHARD:
        return take_shard(r, arg, err);
    case OPT_COVERAGE:
        return take_coverage(r, arg, err);
    default: {
        int code = fuzz_args_take(&r->args, opt, arg, err);
        return code == 1 ? 0 : code == 0 ? 1 : code;
    }
    }
}

/* How it is run. */
static int take_running(struct run *r, int opt, const char *arg, struct err *err)
{
    uint64_t n;
    int code;
    const struct {
        int opt;
        bool *flag;
    } flags[] = {
        {OPT_FORK_SERVER, &r->config.fork_server},
        {OPT_NO_SANDBOX, &r->config.no_sandbox},
        {OPT_UNTIL_FINDING, &r->campaign.until_finding},
        {OPT_RESUME, &r->resume},
        {OPT_JSON_OUT, &r->json},
        {OPT_QUIET, &r->quiet},
    };

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (flags[i].opt == opt) {
            *flags[i].flag = true;
            return 0;
        }
    }
    switch (opt) {
    case OPT_OUT:
        r->out = arg;
        return 0;
    case OPT_DURATION:
        return take_time(arg, &r->campaign.duration_ns, err);
    case OPT_COUNT:
        return take_number(arg, 1, INT64_MAX, &r->campaign.count, err);
    case OPT_JOBS:
        code = take_number(arg, 1, CAMPAIGN_JOBS_MAX, &n, err);
        r->campaign.jobs = (unsigned)n;
        return code;
    case OPT_AGAIN:
        code = take_number(arg, 0, 1000, &n, err);
        r->config.again = (unsigned)n;
        return code;
    default: /* OPT_NO_GDB */
        r->config.gdb = false;
        return 0;
    }
}

static int take_option(struct run *r, int opt, const char *arg, struct err *err)
{
    if (opt == TOOL_OPT_SEED) {
        r->told = true;
        return take_number(arg, 0, INT64_MAX, &r->config.seed, err);
    }
    if (opt < TOOL_OPT_FIRST_FREE) {
        return tool_common_option(r->tool, opt, arg) < 0 ? err_set(err, -EINVAL, "wrong option") : 0;
    }
    int code = take_test(r, opt, arg, err);
    if (code == 1) {
        return take_running(r, opt, arg, err);
    }
    r->told = true;
    return code;
}

/* ---- from options to a configuration ---- */

static int add_commands(struct run *r, int argc, char **argv, struct err *err)
{
    struct run_commands *c = &r->config.commands;
    int code = 0;

    for (unsigned i = 0; i < r->ncommand_files && code == 0; i++) {
        code = run_commands_load(c, r->command_files[i], err);
    }
    if (code == 0 && argc > 0) {
        code = run_commands_add_words(c, argv, (size_t)argc, err);
    }
    if (code == 0 && c->n == 0) {
        code = run_commands_load(c, "@qemu", err);
    }
    return code;
}

static int check_formats(struct run *r, struct err *err)
{
    struct campaign_config *c = &r->config;
    bool ours = !c->generator && !c->images;

    if (c->coverage && !ours) {
        return err_set(err, -EINVAL,
                       "--coverage mutates images that are made here, not those of --generator or --images");
    }
    if (c->nformats == 0 && ours) {
        c->formats[c->nformats++] = strdup("qcow2");
    }
    for (size_t i = 0; i < c->nformats; i++) {
        const struct fuzz_format *f = fuzz_format_find(c->formats[i]);
        if (!f && ours) {
            return err_set(err, -EINVAL, "unknown format '%s' (--format=help lists those there are)",
                           c->formats[i]);
        }
        r->args.format = i == 0 ? f : r->args.format;
    }
    return 0;
}

static int complete(struct run *r, int argc, char **argv, struct err *err)
{
    int code = check_formats(r, err);

    code = code < 0 ? code : add_commands(r, argc, argv, err);
    code = code < 0 ? code : fuzz_args_finish(&r->args, err);
    if (code < 0) {
        return code;
    }
    char *decoy = TAKE_PTR(r->config.fuzz.decoy);
    fuzz_config_finish(&r->config.fuzz);
    r->config.fuzz = r->args.config; /* which must not be freed twice */
    fuzz_config_init(&r->args.config);
    if (r->config.fuzz.decoy) {
        free(decoy);
    } else {
        r->config.fuzz.decoy = decoy;
    }
    return 0;
}

/* ---- running ---- */

/* A campaign is there. Without options about tests, it says what they are; with some, both have to agree. */
static int adopt(struct run *r, const json_t *kept, struct err *err)
{
    AUTO_JSON json_t *given = campaign_config_json(&r->config);

    if (r->told) {
        const char *key;
        json_t *value;
        json_object_foreach(given, key, value)
        {
            if (!json_equal(value, json_object_get(kept, key))) {
                AUTO_FREE char *has = json_dumps(json_object_get(kept, key), JSON_COMPACT | JSON_ENCODE_ANY);
                return err_set(err, -EEXIST, "'%s' holds a campaign with another '%s': %.300s", r->out, key,
                               has ? has : "none");
            }
        }
        return 0;
    }
    const struct campaign_config running = r->config;
    r->config.commands = (struct run_commands){0};
    campaign_config_finish(&r->config);
    campaign_config_init(&r->config);
    free(TAKE_PTR(r->config.fuzz.decoy));
    r->config.fork_server = running.fork_server;
    r->config.no_sandbox = running.no_sandbox;
    r->config.again = running.again;
    struct run_commands commands = running.commands;
    run_commands_finish(&commands);
    return campaign_config_from_json(&r->config, kept, err);
}

static int start(struct run *r, struct err *err)
{
    struct campaign *c = &r->campaign;
    AUTO_JSON json_t *kept = NULL;
    sigset_t set;

    if (r->resume && access(r->out, F_OK) < 0) {
        return err_set_errno(err, -errno, "go on with '%s'", r->out);
    }
    int code = campaign_open(c, r->out, &r->config, &kept, err);
    code = code < 0 || !kept ? code : adopt(r, kept, err);
    if (code < 0) {
        return code;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    c->stop_fd = signalfd(-1, &set, SFD_CLOEXEC);
    status_init(&r->status, r->tool, r->json, r->quiet);
    c->on_notice = status_notice;
    c->on_finding = status_finding;
    c->on_tick = status_tick;
    c->opaque = &r->status;
    code = campaign_run(c, err);
    close(c->stop_fd);
    status_end(&r->status, c);
    return code;
}

static bool has_campaign(const char *dir)
{
    char path[4096];
    return snprintf(path, sizeof(path), "%s/" STATE_FILE, dir) < (int)sizeof(path) && access(path, F_OK) == 0;
}

/* -1: go on; else the exit status. */
static int parse(struct run *r, int argc, char **argv)
{
    struct err err = {0};
    int opt;

    while ((opt = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        int code = opt == '?' ? -EINVAL : take_option(r, opt, optarg, &err);
        if (code < 0) {
            return code == -ECANCELED ? 0 : opt == '?' ? FUZZ_EXIT_USAGE : fuzz_usage(r->tool, "run", &err);
        }
    }
    r->told = r->told || optind < argc;
    if (!r->told && has_campaign(r->out)) {
        return -1;
    }
    return complete(r, argc - optind, argv + optind, &err) < 0 ? fuzz_usage(r->tool, "run", &err) : -1;
}

int fuzz_cmd_run(struct tool *t, int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct run r = {.tool = t, .out = OUT_DEFAULT};
    struct err err = {0};

    r.campaign.jobs = cpus > 0 ? (unsigned)MIN(cpus, (long)CAMPAIGN_JOBS_MAX) : 1;
    r.campaign.stop_fd = r.campaign.lock_fd = -1;
    campaign_config_init(&r.config);
    fuzz_args_init(&r.args);
    int status = parse(&r, argc, argv);
    if (status < 0) {
        int code = start(&r, &err);
        uint64_t findings = r.campaign.totals.findings;
        code = campaign_close(&r.campaign, code < 0 ? NULL : &err) < 0 ? -EIO : code;
        if (code < 0) {
            tool_error(t, "fuzz run: %s", err.text);
        }
        status = code == -EEXIST ? FUZZ_EXIT_USAGE : code < 0 || findings > 0 ? EXIT_FOUND : 0;
    }
    fuzz_args_free(&r.args);
    campaign_config_finish(&r.config);
    return status;
}
