/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gen: images into a folder, NNNNN.EXT with NNNNN.json beside. Image number i has the seed --seed + i - 1, so
 * that any one of them can be made again alone. Several processes share the work; none needs to know of
 * another.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/json.h"
#include "tools/fuzz/fuzz.h"

#define COUNT_MAX UINT64_C(1000000000)
#define JOBS_MAX  256

struct gen {
    struct tool *tool;
    struct fuzz_args args;
    uint64_t count, jobs;
    const char *out;
    bool describe, whole, no_records, dry_run, guest;
    int dirfd;
};

enum {
    OPT_COUNT = FUZZ_OPT_FIRST_FREE,
    OPT_OUT,
    OPT_JOBS,
    OPT_DESCRIBE,
    OPT_WHOLE,
    OPT_NO_RECORDS,
    OPT_DRY_RUN,
    OPT_GUEST,
};

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    FUZZ_ARGS_LONG_OPTIONS,
    {"count", required_argument, NULL, OPT_COUNT},
    {"out", required_argument, NULL, OPT_OUT},
    {"jobs", required_argument, NULL, OPT_JOBS},
    {"describe", no_argument, NULL, OPT_DESCRIBE},
    {"whole", no_argument, NULL, OPT_WHOLE},
    {"no-records", no_argument, NULL, OPT_NO_RECORDS},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"guest", no_argument, NULL, OPT_GUEST},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz gen --format=FMT [OPTIONS]\n"
           "Make images, most of them hostile, and a record in JSON beside each.\n"
           "\n"
           "Options:\n" FUZZ_ARGS_HELP
           "      --seed=N           of the first image; each further one has the next (default 1)\n"
           "      --count=N          so many images (default 1)\n"
           "      --out=DIR          where they are written (default: here)\n"
           "      --jobs=N           processes that share the work (default: one for each CPU)\n"
           "      --describe         print what is where in each image, and what is hostile\n"
           "      --whole            records hold the bytes of the image, too\n"
           "      --no-records       write images only\n"
           "      --dry-run          make them in memory only\n"
           "      --guest            with --valid: what a guest reads from each image, as NNNNN.guest\n"
           "  -h, --help             this text\n"
           "\n"
           "See blkproof-fuzz(1).\n");
}

/* ---- one image ---- */

static int write_record(const struct gen *g, struct fuzz_image *img, const char *name, struct err *err)
{
    size_t len;
    AUTO_FREE char *text = fuzz_image_record_text(img, g->whole, &len);
    AUTO_CLOSE int fd = openat(g->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (!text) {
        return err_set(err, -ENOMEM, "no memory for a record");
    }
    if (fd < 0) {
        return err_set_errno(err, -errno, "create '%s'", name);
    }
    ssize_t n = write(fd, text, len);
    return n == (ssize_t)len ? 0 : err_set_errno(err, n < 0 ? -errno : -EIO, "write '%s'", name);
}

/* What the format cannot say has no file. */
static int write_guest(const struct gen *g, struct fuzz_image *img, uint64_t number, struct err *err)
{
    char name[32];

    snprintf(name, sizeof(name), "%05" PRIu64 ".guest", number);
    AUTO_CLOSE int fd = openat(g->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set_errno(err, -errno, "create '%s'", name);
    }
    int r = fuzz_guest_write(img, fd);
    if (r == -ENODATA) {
        unlinkat(g->dirfd, name, 0);
        return 0;
    }
    return r < 0 ? err_set_errno(err, r, "write '%s'", name) : 0;
}

static void describe(struct fuzz_image *img, const char *name)
{
    printf("%s: %s, seed %" PRIu64 "%s%s\n", name, img->format->name, img->seed,
           img->recipe ? ", recipe " : "", img->recipe ? img->recipe->id : "");
    for (int i = 1; i < img->parts; i++) {
        char path[FUZZ_PATH_MAX];
        fuzz_path(img, i, UINT32_MAX, NULL, path);
        printf("  0x%08" PRIx64 " %8" PRIu64 "  %s\n", img->part[i].offset, img->part[i].bytes, path);
    }
    for (unsigned i = 0; i < img->mutations; i++) {
        char text[512];
        fuzz_mutation_text(img, &img->mutation[i], text, sizeof(text));
        printf("  hostile: %s\n", text);
    }
}

static int make_one(const struct gen *g, struct fuzz_image *img, uint64_t number, struct err *err)
{
    char name[32], record[32];

    int r = fuzz_image_make(img, g->args.format, g->tool->seed + number - 1, &g->args.config, err);
    if (r < 0) {
        return r;
    }
    snprintf(name, sizeof(name), "%05" PRIu64 ".%s", number, g->args.format->ext);
    snprintf(record, sizeof(record), "%05" PRIu64 ".json", number);
    if ((r = fuzz_image_apply(img, NULL)) < 0) {
        return err_set(err, r, "no memory for an image");
    }
    if (g->describe) {
        describe(img, name);
    }
    if (g->dry_run) {
        return 0;
    }
    r = fuzz_image_write_at(img, g->dirfd, name, err);
    if (r == 0 && g->guest) {
        r = write_guest(g, img, number, err);
    }
    return r < 0 || g->no_records ? r : write_record(g, img, record, err);
}

/* ---- all of them ---- */

static int work(const struct gen *g, uint64_t first, uint64_t step)
{
    struct fuzz_image *img = fuzz_image_new(g->args.config.limit);
    struct err err = {0};
    int r = img ? 0 : err_set(&err, -ENOMEM, "no memory for images");

    for (uint64_t i = first; r == 0 && i <= g->count; i += step) {
        r = make_one(g, img, i, &err);
    }
    fuzz_image_free(img);
    if (r < 0) {
        tool_error(g->tool, "fuzz gen: %s", err.text);
    }
    return r < 0 ? EXIT_FAILURE : 0;
}

static int work_in_children(const struct gen *g)
{
    pid_t child[JOBS_MAX];
    unsigned n = 0;
    int status = 0;

    fflush(stdout);
    for (; n < g->jobs; n++) {
        child[n] = fork();
        if (child[n] == 0) {
            status = work(g, n + 1, g->jobs);
            fflush(stdout);
            _exit(status);
        }
        if (child[n] < 0) {
            tool_error(g->tool, "fuzz gen: start a process: %s", err_name(errno));
            status = EXIT_FAILURE;
            break;
        }
    }
    while (n > 0) {
        int ended;
        if (waitpid(child[--n], &ended, 0) < 0 || !WIFEXITED(ended) || WEXITSTATUS(ended) != 0) {
            status = EXIT_FAILURE;
        }
    }
    return status;
}

static int run(struct gen *g)
{
    struct err err = {0};

    if (!g->dry_run && g->out && mkdir(g->out, 0777) < 0 && errno != EEXIST) {
        err_set_errno(&err, -errno, "make the folder '%s'", g->out);
    } else if (!g->dry_run) {
        g->dirfd = open(g->out ? g->out : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (g->dirfd < 0) {
            err_set_errno(&err, -errno, "open the folder '%s'", g->out ? g->out : ".");
        }
    }
    if (err.code) {
        tool_error(g->tool, "fuzz gen: %s", err.text);
        return EXIT_FAILURE;
    }
    g->jobs = MIN(g->jobs, g->count);
    return g->jobs <= 1 || g->describe ? work(g, 1, 1) : work_in_children(g);
}

/* ---- the command line ---- */

static int take_number(const char *option, const char *arg, uint64_t max, uint64_t *value, struct err *err)
{
    return fuzz_number(arg, value) < 0 || *value == 0 || *value > max
               ? err_set(err, -EINVAL, "--%s=%s: expected a number from 1 to %" PRIu64, option, arg, max)
               : 0;
}

static int take(struct gen *g, int opt, const char *arg, struct err *err)
{
    switch (opt) {
    case OPT_COUNT:
        return take_number("count", arg, COUNT_MAX, &g->count, err);
    case OPT_JOBS:
        return take_number("jobs", arg, JOBS_MAX, &g->jobs, err);
    case OPT_OUT:
        g->out = arg;
        return 0;
    case OPT_DESCRIBE:
        g->describe = true;
        return 0;
    case OPT_WHOLE:
        g->whole = true;
        return 0;
    case OPT_NO_RECORDS:
        g->no_records = true;
        return 0;
    case OPT_DRY_RUN:
        g->dry_run = true;
        return 0;
    case OPT_GUEST:
        g->guest = true;
        return 0;
    default:
        return fuzz_args_take(&g->args, opt, arg, err);
    }
}

/* -1: go on; else the exit status. */
static int parse(struct gen *g, int argc, char **argv, struct err *err)
{
    int opt, r;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == '?' || (opt < TOOL_OPT_FIRST_FREE && tool_common_option(g->tool, opt, optarg) < 0)) {
            return FUZZ_EXIT_USAGE;
        }
        if (opt >= TOOL_OPT_FIRST_FREE && (r = take(g, opt, optarg, err)) < 0) {
            return r == -ECANCELED ? 0 : fuzz_usage(g->tool, "gen", err);
        }
    }
    if (optind < argc) {
        err_set(err, -EINVAL, "unexpected argument '%s'", argv[optind]);
        return fuzz_usage(g->tool, "gen", err);
    }
    if (!g->args.format) {
        err_set(err, -EINVAL, "--format is missing (--format=help lists those there are)");
        return fuzz_usage(g->tool, "gen", err);
    }
    if (g->guest && !g->args.config.valid) {
        err_set(err, -EINVAL,
                "--guest goes with --valid: what a guest reads from a hostile image is anyone's guess");
        return fuzz_usage(g->tool, "gen", err);
    }
    return fuzz_args_finish(&g->args, err) < 0 ? fuzz_usage(g->tool, "gen", err) : -1;
}

int fuzz_cmd_gen(struct tool *t, int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct gen g = {.tool = t, .count = 1, .jobs = cpus > 0 ? (uint64_t)MIN(cpus, 64L) : 1, .dirfd = -1};
    struct err err = {0};

    fuzz_args_init(&g.args);
    int status = parse(&g, argc, argv, &err);
    if (status < 0) {
        status = run(&g);
    }
    if (g.dirfd >= 0) {
        close(g.dirfd);
    }
    fuzz_args_free(&g.args);
    return status;
}
