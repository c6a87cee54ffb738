/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the subcommands of `blkproof img` share: one table-driven option parser, opening images,
 * progress, and sentences. Each subcommand is one const struct img_command at the bottom of its
 * own file, listed in img.c.
 */
#ifndef TOOLS_IMG_IMG_H
#define TOOLS_IMG_IMG_H

#include <inttypes.h>
#include <stdio.h>

#include "tools/tools.h"

#define IMG_NOT_GIVEN   UINT64_MAX /* a size or number the user did not give */
#define IMG_STEPS_MAX   64         /* of one command line: far beyond any real use */
#define IMG_UNSUPPORTED 63         /* exit status of check: the format has no checks */

/* Every option of every subcommand; which ones apply, and their letters, say the tables. */
struct img_args {
    bool help, quiet, progress, image_opts, target_image_opts, force_share, backing_chain;
    bool no_create, out_of_order, compress, salvage, target_is_zero, bitmaps, offload;
    bool strict, shrink, write, native_aio, no_drain, unsafe, delete_base, force;
    bool list, skip_broken;
    struct img_step {
        const char *name, *value; /* the option and its value */
    } steps[IMG_STEPS_MAX];       /* IMG_ARG_STEP, in the order given */
    unsigned nsteps;
    const char *format, *format2, *cache, *src_cache, *aio, *preallocation;
    const char *backing, *backing_format, *snapshot, *snapshot_create, *snapshot_apply, *snapshot_delete,
        *repair;
    bool json;     /* --output=json */
    char *options; /* all -o, joined by commas; malloc'ed */
    uint64_t workers, sparse_bytes, rate, start, max_length, count, depth, buffer_bytes, step_bytes;
    uint64_t flush_interval, pattern, size, granularity;
};

enum img_arg_type {
    IMG_ARG_END = 0,
    IMG_ARG_FLAG,   /* bool */
    IMG_ARG_STRING, /* const char * */
    IMG_ARG_LIST,   /* char *: each further one is appended behind a comma */
    IMG_ARG_SIZE,   /* uint64_t, bytes with suffixes */
    IMG_ARG_NUMBER, /* uint64_t, plain */
    IMG_ARG_OUTPUT, /* bool: "human" false, "json" true */
    IMG_ARG_STEP,   /* something to do, with its value if .value names one: steps */
};

struct img_arg {
    char letter;      /* 0: long form only */
    const char *name; /* long form; NULL: letter only */
    enum img_arg_type type;
    size_t offset;     /* in struct img_args */
    const char *value; /* what help calls the value */
    const char *help;
    /* SIZE: what is invalid ("buffer size"); NUMBER: the whole sentence for a bad one. */
    const char *what;
    uint64_t min, max;
};
#define IMG_FIELD(member) offsetof(struct img_args, member)

/* Rows that several subcommands have. */
#define IMG_ARG_COMMON                                                                                       \
    {                                                                                                        \
        'h', "help", IMG_ARG_FLAG, IMG_FIELD(help), NULL, "show this text"                                   \
    }
#define IMG_ARG_IMAGE_OPTS                                                                                   \
    {                                                                                                        \
        0, "image-opts", IMG_ARG_FLAG, IMG_FIELD(image_opts), NULL,                                          \
            "image names are options: driver=raw,file.filename=NAME"                                         \
    }
#define IMG_ARG_FORMAT                                                                                       \
    {                                                                                                        \
        'f', "format", IMG_ARG_STRING, IMG_FIELD(format), "FORMAT", "format of the image (default: probed)"  \
    }
#define IMG_ARG_QUIET                                                                                        \
    {                                                                                                        \
        'q', "quiet", IMG_ARG_FLAG, IMG_FIELD(quiet), NULL, "print nothing but errors"                       \
    }
#define IMG_ARG_PROGRESS                                                                                     \
    {                                                                                                        \
        'p', "progress", IMG_ARG_FLAG, IMG_FIELD(progress), NULL, "show progress"                            \
    }
#define IMG_ARG_SHARE                                                                                        \
    {                                                                                                        \
        'U', "force-share", IMG_ARG_FLAG, IMG_FIELD(force_share), NULL,                                      \
            "open an image that another process has open for writing"                                        \
    }
#define IMG_ARG_OUTPUT_FORMAT                                                                                \
    {                                                                                                        \
        0, "output", IMG_ARG_OUTPUT, IMG_FIELD(json), "human|json", "form of the output (default human)"     \
    }
#define IMG_ARG_OPTIONS                                                                                      \
    {                                                                                                        \
        'o', "options", IMG_ARG_LIST, IMG_FIELD(options), "NAME=VALUE,...",                                  \
            "options of the new image; -o help lists them"                                                   \
    }
#define IMG_ARG_CACHE                                                                                        \
    {                                                                                                        \
        't', "cache", IMG_ARG_STRING, IMG_FIELD(cache), "MODE",                                              \
            "cache mode of the image written: none, writeback, writethrough, directsync, unsafe"             \
    }
#define IMG_ARG_SRC_CACHE                                                                                    \
    {                                                                                                        \
        'T', "source-cache", IMG_ARG_STRING, IMG_FIELD(src_cache), "MODE",                                   \
            "cache mode of the images read (default writeback)"                                              \
    }

struct img;

struct img_command {
    const char *name;
    const char *synopsis;       /* behind the options */
    const char *summary;        /* one line */
    const struct img_arg *args; /* ends with {0} */
    int error_status;           /* exit status for bad values and failed opens; 0: 1 */
    bool last_is_size;          /* the last argument may look like an option: "-512" */
    /* Number of positional arguments, and what to say otherwise. */
    int min_operands, max_operands; /* max < 0: any number */
    const char *operands_wrong;
    /* Check what can be checked without a loop. Returns -1 to go on, or an exit status. */
    int (*prepare)(struct img *img);
    /* Do it; runs in a coroutine on the loop. Returns the exit status. */
    co_fn int (*run)(struct img *img);
};

/* One run of a subcommand. */
struct img {
    struct tool *t;
    const struct img_command *cmd;
    struct img_args a;
    struct graph graph;
    int argc; /* positional arguments */
    char **argv;
};

/* ---- args.c ---- */

/* Fill img->a, argc and argv. Returns -1 to go on, or an exit status after printing. */
int img_parse_args(struct img *img, int argc, char **argv);
void img_print_help(const struct img *img);

/* ---- common.c ---- */

/* PRINTF on stderr with the program's prefix. */
#define img_error(img, ...) tool_error((img)->t, __VA_ARGS__)

/* Exit status for a wrong value or an image that cannot be opened. */
int img_fail_status(const struct img *img);

/* The command line is not understood: the sentence, where help is, the exit status. */
int img_usage_error(const struct img *img, const char *fmt, ...) PRINTF(2, 3);

/* "Invalid WHAT specified. You may use k, M, ...", and its status. */
int img_bad_size(const struct img *img, const char *what);
/* Parse @text as bytes in [@min, @max]; @max 0: up to INT64_MAX. 0, or -EINVAL after printing. */
int img_parse_size(const struct img *img, const char *text, const char *what, uint64_t min, uint64_t max,
                   uint64_t *ret_bytes);

/* Turn a cache word into open flags. 0, or -EINVAL after printing "Invalid KIND: WORD". */
int img_cache_flags(const struct img *img, const char *mode, const char *kind, unsigned *ret_flags);

/* Open; @opts: the name is --image-opts text. Prints why not. */
co_fn int img_open(struct img *img, const char *name, const char *format, bool opts, unsigned flags,
                   struct node **ret_node);

/* True if an -o list asks for help. */
bool img_options_want_help(const char *options);

/* A JSON string; bytes that are not UTF-8 become U+FFFD. */
json_t *img_json_string(const char *text);
/* Print as qemu-img lays it out. */
void img_print_json(const json_t *j);

/* ---- snapshot.c ---- */

/* The list of snapshots as a table, if there are any. */
void img_print_snapshots(const json_t *list, unsigned columns);

/* ---- progress.c ---- */

struct img_progress {
    bool enabled;
    uint64_t done, total;
    double step, shown; /* per cent */
};
/* @step: smallest change worth a line, per cent. SIGUSR1 asks for one line when it is not enabled. */
void img_progress_start(struct img_progress *p, bool enabled, uint64_t total, double step);
void img_progress_add(struct img_progress *p, uint64_t done);
/* @complete: the work is done, say 100 %. Ends the line. */
void img_progress_end(struct img_progress *p, bool complete);

/* ---- pending.c: a new image under a temporary name ---- */

struct img_pending {
    char *name;         /* write here */
    char *final;        /* rename to this; NULL: there is no temporary name, @name is the real one */
    struct node *guard; /* holds the lock of the file that is to be replaced */
};
/* Choose where to write the new image @name. A plain path that does not exist or is a regular file
 * gets a temporary file beside it, removed if the process dies by a signal or ends early; anything
 * else is written in place. */
co_fn int img_pending_begin(struct img *img, const char *name, struct img_pending *ret, struct err *err);
/* A sentence about the temporary file becomes one about the name the user gave. */
void img_pending_error(const struct img_pending *p, struct err *err);
/* Give the finished image its name. */
co_fn int img_pending_commit(struct img_pending *p, struct err *err);
/* Free; removes what was not committed. Harmless on a zeroed struct. */
co_fn void img_pending_end(struct img_pending *p);

#endif
