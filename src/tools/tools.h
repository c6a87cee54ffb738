/* SPDX-License-Identifier: BSD-2-Clause */
/* The verbs of the program and what they share: arguments and printing only. */
#ifndef TOOLS_TOOLS_H
#define TOOLS_TOOLS_H

#include "block/block.h"

/* How the program was called. */
struct tool {
    const char *prefix; /* of messages: "blkproof", or "qemu-io"/"qemu-img" as a stand-in */
    bool standin;       /* called under QEMU's name: say nothing QEMU would not */
    const char *engine; /* --engine, or NULL */
    uint64_t seed;
};

/* Verbs: argv[0] is the verb's name. Return the exit status. */
int tool_io(struct tool *t, int argc, char **argv);
int tool_img(struct tool *t, int argc, char **argv);
int tool_serve(struct tool *t, int argc, char **argv);

/* "PREFIX: sentence" on stderr. */
void tool_error(const struct tool *t, const char *fmt, ...) PRINTF(2, 3);

/* Make the loop named by the tool and run @fn(@arg) on it. Returns its result, or 1 after printing
 * why there is no loop. */
int tool_run(struct tool *t, int (*fn)(void *arg), void *arg);

/* A graph whose notices go to stderr. @t must outlive it. */
void tool_graph_init(struct tool *t, struct graph *g);

#endif
