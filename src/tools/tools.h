/* SPDX-License-Identifier: BSD-2-Clause */
/* The verbs of the program and what they share: arguments and printing only. */
#ifndef TOOLS_TOOLS_H
#define TOOLS_TOOLS_H

#include <stdio.h>

#include "block/block.h"

/* How the program was called. */
struct tool {
    const char *prefix; /* of messages: "blkproof", or "qemu-io"/"qemu-img" as a stand-in */
    bool standin;       /* called under QEMU's name: say nothing QEMU would not */
    const char *engine; /* --engine, or NULL */
    uint64_t seed;
    bool trust_image_names;
};

/* Verbs: argv[0] is the verb's name. Return the exit status. */
int tool_io(struct tool *t, int argc, char **argv);
int tool_img(struct tool *t, int argc, char **argv);
int tool_serve(struct tool *t, int argc, char **argv);
int tool_fault(struct tool *t, int argc, char **argv);
int tool_fuzz(struct tool *t, int argc, char **argv);

/* "PREFIX: sentence" on stderr. */
void tool_error(const struct tool *t, const char *fmt, ...) PRINTF(2, 3);

/* Make the loop named by the tool and run @fn(@arg) on it. Returns its result, or 1 after printing
 * why there is no loop. */
int tool_run(struct tool *t, int (*fn)(void *arg), void *arg);

/* A graph whose notices go to stderr. @t must outlive it. */
void tool_graph_init(struct tool *t, struct graph *g);

/* ---- options that several verbs share ---- */

/* getopt_long values of the options every verb takes; tool_common_option handles them. */
enum {
    TOOL_OPT_ENGINE = 0x1000, /* --engine NAME */
    TOOL_OPT_SEED,            /* --seed N */
    TOOL_OPT_TRUST,           /* --trust-image-names */
    TOOL_OPT_FIRST_FREE,      /* verbs number their own from here */
};
#define TOOL_COMMON_LONG_OPTIONS                                                                             \
    {"engine", required_argument, NULL, TOOL_OPT_ENGINE}, {"seed", required_argument, NULL, TOOL_OPT_SEED},  \
    {                                                                                                        \
        "trust-image-names", no_argument, NULL, TOOL_OPT_TRUST                                               \
    }
#define TOOL_COMMON_HELP                                                                                     \
    "  --engine=NAME        how I/O is done: uring, threads or sim\n"                                        \
    "                       (default: $BLKPROOF_ENGINE, else the best there is)\n"                           \
    "  --seed=N             seed of every random choice (default 1)\n"                                       \
    "  --trust-image-names  follow whatever file names stand inside images\n"

/* 0 when @opt is one of the above and @arg is valid; -EINVAL after printing why not. */
int tool_common_option(struct tool *t, int opt, const char *arg);

/* "writethrough", "writeback", "none", "directsync", "unsafe" (or "off", as "none") to open_flags.
 * -EINVAL: another word, nothing printed. */
int tool_cache_flags(const char *mode, unsigned *ret_flags);

/* "ignore"/"off", "unmap"/"on" to open_flags. -EINVAL: another word, nothing printed. */
int tool_discard_flags(const char *mode, unsigned *ret_flags);

/* "threads", "native", "io_uring" (-i of io and img) to the engine that does it; NULL for native,
 * which asks for the best there is. -EINVAL: another word, nothing printed. */
int tool_aio_engine(const char *mode, const char **ret_engine);

/* Exit status: a verifier stopped because of what a fault rule did (on-injected=stop); nothing was corrupt.
 */
#define EXIT_INJECTED 3

/* What --on-mismatch, --on-injected and --report ask of every verifier of a graph; NULL: the driver's
 * default. */
struct verify_settings {
    const char *on_mismatch, *on_injected, *report;
    const char *oracle; /* --oracle: for tool_add_oracle */
};
/* Put them into @options, a nested object as node_open takes it, wherever a blkverify stands in it
 * that does not say so itself. File names blkverify:RAW:TEST are written out as options for that.
 * They have to be there before the open: probing a format reads already. */
int tool_verify_settings(json_t *options, const struct verify_settings *v, struct err *err);

/* @options (nested; used up) become those of an oracle above them, with its book in --oracle's file; without
 * that option nothing is changed. */
int tool_add_oracle(json_t **options, const struct verify_settings *v, struct err *err);

/* "PREFIX version X", as --version prints. */
void tool_version(const struct tool *t);

#endif
