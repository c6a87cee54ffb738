/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verb fuzz: private declarations of its files. Each command has a file of its own, and parses its own
 * options.
 *
 *   tool.c   which command runs
 *   args.c   options about images, which several commands share
 *   gen.c    gen: images into a folder
 *   show.c   show: what is where in an image, and what is hostile
 *   run.c    run: a campaign
 *   status.c   what it says while it runs
 *   replay.c   replay, min: one finding again, and smaller; place.c: where that happens
 *   merge.c    merge: parts of a campaign
 *   report.c   report, in four forms; report_html.c: one of them
 *   corpus.c   corpus export: seeds for other fuzzers
 */
#ifndef TOOLS_FUZZ_FUZZ_H
#define TOOLS_FUZZ_FUZZ_H

#include <getopt.h>

#include "fuzz/fuzz.h"
#include "tools/tools.h"

#define FUZZ_EXIT_USAGE 2

struct fuzz_command {
    const char *name, *args, *summary;
    int (*run)(struct tool *t, int argc, char **argv); /* argv[0] is the command; returns the exit status */
};
extern const struct fuzz_command fuzz_commands[]; /* ends with {0} */

int fuzz_cmd_gen(struct tool *t, int argc, char **argv);
int fuzz_cmd_show(struct tool *t, int argc, char **argv);
int fuzz_cmd_run(struct tool *t, int argc, char **argv);
int fuzz_cmd_min(struct tool *t, int argc, char **argv);
int fuzz_cmd_replay(struct tool *t, int argc, char **argv);
int fuzz_cmd_merge(struct tool *t, int argc, char **argv);
int fuzz_cmd_report(struct tool *t, int argc, char **argv);
int fuzz_cmd_corpus(struct tool *t, int argc, char **argv);

/* "blkproof: sentence (see 'blkproof fuzz COMMAND --help')"; returns FUZZ_EXIT_USAGE. */
int fuzz_usage(const struct tool *t, const char *command, const struct err *err);

/* ---- args.c: which images ---- */

#define FUZZ_CONFIG_TEXTS_MAX 64

struct fuzz_args {
    const struct fuzz_format *format; /* NULL: --format was not given */
    struct fuzz_config config;
    const char *text[FUZZ_CONFIG_TEXTS_MAX]; /* of --config, until the format is known */
    unsigned texts;
};

enum { /* behind TOOL_OPT_FIRST_FREE; commands number their own from FUZZ_OPT_FIRST_FREE */
       FUZZ_OPT_FORMAT = TOOL_OPT_FIRST_FREE,
       FUZZ_OPT_VALID,
       FUZZ_OPT_BIAS,
       FUZZ_OPT_CONFIG,
       FUZZ_OPT_RECIPE,
       FUZZ_OPT_RECIPES,
       FUZZ_OPT_LIMIT,
       FUZZ_OPT_DECOY,
       FUZZ_OPT_FIRST_FREE,
};
/* clang-format off */
#define FUZZ_ARGS_LONG_OPTIONS                                                                               \
    {"format", required_argument, NULL, FUZZ_OPT_FORMAT},                                                    \
    {"valid", no_argument, NULL, FUZZ_OPT_VALID},                                                            \
    {"bias", required_argument, NULL, FUZZ_OPT_BIAS},                                                        \
    {"config", required_argument, NULL, FUZZ_OPT_CONFIG},                                                    \
    {"recipe", required_argument, NULL, FUZZ_OPT_RECIPE},                                                    \
    {"recipes", required_argument, NULL, FUZZ_OPT_RECIPES},                                                  \
    {"limit", required_argument, NULL, FUZZ_OPT_LIMIT},                                                      \
    {"decoy", required_argument, NULL, FUZZ_OPT_DECOY}
/* clang-format on */
#define FUZZ_ARGS_HELP                                                                                       \
    "      --format=FMT       format of the images; --format=help lists them\n"                              \
    "      --valid            nothing is hostile\n"                                                          \
    "      --bias=N           1 to N hostile fields (default 3); or a share of all fields: 30%%\n"           \
    "      --config=TEXT      a path that may become hostile (header.*, l2.*.offset; may be repeated),\n"    \
    "                         a choice of the layout (cluster_bits=16), or the JSON array of QEMU's "        \
    "fuzzer\n"                                                                                               \
    "      --recipe=ID        this known-bad recipe in every image; --recipe=help lists them\n"              \
    "      --recipes=PERCENT  so many images by a known-bad recipe (default 10)\n"                           \
    "      --limit=SIZE       no file becomes larger (default 10M)\n"                                        \
    "      --decoy=PATH       the file that hostile names inside images point to\n"

void fuzz_args_init(struct fuzz_args *a);
void fuzz_args_free(struct fuzz_args *a);
/* 1: it was one of the above; 0: it was not; else -EINVAL and a sentence. -ECANCELED: help was printed. */
int fuzz_args_take(struct fuzz_args *a, int opt, const char *arg, struct err *err);
/* Behind the last option: what --config said, now that the format is known. */
int fuzz_args_finish(struct fuzz_args *a, struct err *err);

/* Decimal or 0x: --seed beside TOOL_OPT_SEED, and words. */
int fuzz_number(const char *text, uint64_t *ret);

#endif
