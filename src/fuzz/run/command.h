/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a campaign runs on each image: command lines with placeholders, and what the oracles may conclude from
 * each. One line of text for one command:
 *
 *     ro,check: qemu-img check -f {fmt} {img}
 *     qemu-io -f {fmt} -c 'write {off} {len}' {img}
 */
#ifndef FUZZ_RUN_COMMAND_H
#define FUZZ_RUN_COMMAND_H

#include <jansson.h>

#include "base/err.h"

#define RUN_COMMANDS_MAX 64 /* a bit each in a mask; the original has 16 */

enum run_role {
    ROLE_RO = 1 << 0,       /* must leave the image as it is */
    ROLE_OPEN = 1 << 1,     /* exit status 0: the image was opened */
    ROLE_CHECK = 1 << 2,    /* exit status 0: nothing is wrong with the image */
    ROLE_READ = 1 << 3,     /* reads all guest data; exit status 0: it could */
    ROLE_BYTES = 1 << 4,    /* writes all guest data to {out} */
    ROLE_REPAIR = 1 << 5,   /* exit status 0: nothing is wrong any more */
    ROLE_CLOSED = 1 << 6,   /* opens no file but the image */
    ROLE_STDOUT = 1 << 7,   /* its standard output is {out} */
    ROLE_REWRITES = 1 << 8, /* changes also an image in which nothing is wrong: a second repair may, too */
};

struct run_command {
    char *text;   /* without the roles */
    char *name;   /* for people and buckets: "qemu-img check" */
    char *group;  /* "qemu": what check and read of the same group say has to agree */
    char **words; /* end with NULL; words[0] is a path */
    unsigned roles;
};

struct run_commands {
    struct run_command list[RUN_COMMANDS_MAX];
    size_t n;
};

/* What placeholders stand for. */
struct run_values {
    const char *img, *fmt, *dir, *out;
    uint64_t off, len, seed;
};

/* Add the command of one line; comments and empty lines add nothing. */
int run_commands_add(struct run_commands *c, const char *line, struct err *err);
/* One command of separate words, as a command line gives it. */
int run_commands_add_words(struct run_commands *c, char *const words[], size_t n, struct err *err);
/* A file of such lines, or "@NAME": a built-in set. */
int run_commands_load(struct run_commands *c, const char *name, struct err *err);
void run_commands_finish(struct run_commands *c);
/* The names of the built-in sets and their lines, for the manual and --list; NULL behind the last. */
const char *run_set_name(size_t i);
const char *run_set_text(size_t i);

/* Lines as they were given, to a JSON array and back. */
json_t *run_commands_json(const struct run_commands *c);
int run_commands_from_json(struct run_commands *c, const json_t *lines, struct err *err);

/* The arguments with placeholders replaced: malloc'ed, in one block. */
int run_command_expand(const struct run_command *c, const struct run_values *v, char ***ret_argv,
                       struct err *err);
/* As a line for the shell. */
char *run_command_shell(char *const argv[]);

#endif
