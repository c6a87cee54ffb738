/* SPDX-License-Identifier: BSD-2-Clause */
/* replay: run a finding's test again, and say whether it shows itself. min: make it small. */
#include "base/json.h"
#include "tools/fuzz/fuzz.h"
#include "tools/fuzz/place.h"

#define OUT_DEFAULT  "fuzz-campaign"
#define RUNS_DEFAULT 2000
#define EXIT_GONE    1

struct again {
    struct tool *tool;
    const char *out;
    uint64_t times, runs;
    bool verbose;
};

enum { OPT_OUT = TOOL_OPT_FIRST_FREE, OPT_TIMES, OPT_RUNS, OPT_OUTPUT };

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"out", required_argument, NULL, OPT_OUT},
    {"times", required_argument, NULL, OPT_TIMES},
    {"runs", required_argument, NULL, OPT_RUNS},
    {"output", no_argument, NULL, OPT_OUTPUT},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(const char *command)
{
    bool min = strcmp(command, "min") == 0;

    printf("Usage: blkproof fuzz %s [OPTIONS] FINDING...\n"
           "%s\n"
           "\n"
           "FINDING is its directory, or ORACLE-ID of the campaign in --out.\n"
           "\n"
           "Options:\n"
           "      --out=DIR          the campaign (default: ./" OUT_DEFAULT ")\n",
           command,
           min ? "Reduce what is hostile in a finding's image, then its structures, then its size."
               : "Make a finding's image again and run the commands that showed it.");
    if (min) {
        printf("      --runs=N           at most so many tests for each (default %d)\n", RUNS_DEFAULT);
    } else {
        printf("      --times=N          so often (default 1)\n"
               "      --output           and print what the program says\n");
    }
    printf("  -h, --help             this text\n"
           "\n"
           "Exit status: 0 if every finding showed itself, 1 if not or after an error, 2 for wrong usage.\n");
}

static int replay(void *opaque, struct finding *f, struct place *p)
{
    const struct again *a = opaque;
    struct err err = {0};
    uint64_t seen = 0;

    for (uint64_t i = 0; i < a->times; i++) {
        if (place_run_image(p, f->n, f->needs, &err) < 0) {
            tool_error(a->tool, "fuzz replay: %s", err.text);
            return EXIT_FAILURE;
        }
        const struct test_hit *hit = test_find(&p->test, f->id);
        seen += hit != NULL;
        if (hit && a->verbose && i == 0) {
            printf("%s\n%s\n", hit->shell ? hit->shell : "", hit->output ? hit->output : "");
        }
    }
    printf("%s-%s: seen %llu of %llu times: %s\n", f->oracle, f->id, (unsigned long long)seen,
           (unsigned long long)a->times, f->title);
    return seen > 0 ? 0 : EXIT_GONE;
}

/* The campaign learns it, too, unless somebody writes there right now: the words are in the finding's
 * directory. */
static void keep_sentence(const struct finding *f, const char *sentence)
{
    AUTO_FREE char *path = NULL;

    if (asprintf(&path, "%s/minimal/minimal.txt", f->dir) >= 0) {
        FILE *file = fopen(path, "we");
        if (file) {
            fprintf(file, "%s\n", sentence);
            fclose(file);
        }
    }
}

static int minimise(void *opaque, struct finding *f, struct place *p)
{
    const struct again *a = opaque;
    struct minimum m;
    struct err err = {0};

    if (finding_minimise(f, p, (unsigned)a->runs, &m, &err) < 0) {
        tool_error(a->tool, "fuzz min: %s-%s: %s", f->oracle, f->id, err.text);
        return EXIT_GONE;
    }
    keep_sentence(f, m.sentence);
    printf("%s-%s: %s\n", f->oracle, f->id, m.sentence);
    printf("  hostile fields: %u of %u; structures that do not matter: %u of %u; bytes: %llu of %llu; tests: "
           "%u\n",
           m.mutations, m.mutations_before, m.zeroed, m.parts, (unsigned long long)m.bytes,
           (unsigned long long)m.bytes_before, m.runs);
    printf("  %s/minimal\n", f->dir);
    return 0;
}

static int usage(const struct again *a, const char *command, const char *what)
{
    struct err err = {0};
    err_set(&err, -EINVAL, "%s", what);
    return fuzz_usage(a->tool, command, &err);
}

static int run(struct tool *t, int argc, char **argv,
               int (*fn)(void *opaque, struct finding *f, struct place *p))
{
    struct again a = {.tool = t, .out = OUT_DEFAULT, .times = 1, .runs = RUNS_DEFAULT};
    const char *command = argv[0];
    bool min = fn == minimise;
    int opt, status = 0;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        bool bad = (min && (opt == OPT_TIMES || opt == OPT_OUTPUT)) || (!min && opt == OPT_RUNS);
        if (opt == 'h') {
            print_help(command);
            return 0;
        }
        if (opt == '?') {
            return FUZZ_EXIT_USAGE;
        }
        if (bad) {
            return usage(&a, command, "this option belongs to the other one of min and replay");
        }
        if (opt == OPT_OUT) {
            a.out = optarg;
        } else if (opt == OPT_OUTPUT) {
            a.verbose = true;
        } else if ((opt == OPT_TIMES || opt == OPT_RUNS) &&
                   (fuzz_number(optarg, opt == OPT_TIMES ? &a.times : &a.runs) < 0 || a.times == 0 ||
                    a.times > 1000000 || a.runs == 0 || a.runs > 10000000)) {
            return usage(&a, command, "expected a number from 1 on");
        }
    }
    if (optind == argc) {
        return usage(&a, command, "a finding is missing");
    }
    for (int i = optind; i < argc; i++) {
        int code = fuzz_with_finding(t, command, argv[i], a.out, fn, &a);
        status = status ? status : code;
    }
    return status;
}

int fuzz_cmd_replay(struct tool *t, int argc, char **argv)
{
    return run(t, argc, argv, replay);
}

int fuzz_cmd_min(struct tool *t, int argc, char **argv)
{
    return run(t, argc, argv, minimise);
}
