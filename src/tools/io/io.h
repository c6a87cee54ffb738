/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verb io: private declarations of its files.
 *
 *   tool.c      the program's options; what runs from the first command to the exit status
 *   shell.c     where commands come from: -c, a pipe, or a terminal with history and completion
 *   commands.c  the table of commands; finding, checking and running one
 *   text.c      numbers, patterns, hex dumps, statistics: what commands read and print
 *   buffer.c    the memory that commands read into and write from
 *   rw.c        read, readv, write, writev, discard, flush
 *   aio.c       aio_read, aio_write, aio_flush
 *   query.c     length, info, alloc, map
 *   scrub.c     scrub
 *   file.c      open, close, truncate
 *   overlay.c   the temporary overlay of -s
 *   reopen.c    reopen
 *   control.c   help, quit, sleep, abort, sigraise, breakpoints, zones
 *
 * Texts and exit codes are those of qemu-io, whose test-suites compare them byte for byte.
 */
#ifndef TOOLS_IO_IO_H
#define TOOLS_IO_IO_H

#include <stdio.h>

#include "tools/tools.h"

#define IO_PATTERN_WRITE 0xcd /* what is written when no pattern is given */
#define IO_PATTERN_READ  0xab /* what a buffer holds before it is read into */

/* How an image is opened, by the program's options or by the command open. */
struct io_open {
    const char *name;    /* file name or, with image_opts, options; NULL: only options */
    const char *format;  /* -f; NULL: probe */
    const char *options; /* open -o */
    bool image_opts;
    bool snapshot, copy_on_read, native_aio;
    unsigned flags; /* enum open_flags */
};

struct io {
    struct tool *tool;
    struct graph graph;
    struct node *node;    /* NULL: none is open */
    json_t *node_options; /* as it was opened, for reopen */
    unsigned node_flags;  /* likewise */
    int overlay_fd;       /* the temporary file of -s; 0: none */
    struct verify_settings verify;
    bool image_opts;   /* --image-opts was given */
    bool misalign;     /* -m */
    bool copy_on_read; /* -C */
    bool quit;
    bool failed; /* some command was */
    unsigned aio_pending;
    struct co_queue aio_done;
};

/* ---- commands.c ---- */

enum {
    IO_NO_FILE = 1, /* works without an open file */
    IO_WRITES = 2,  /* needs a writable one */
    IO_OURS = 4,    /* qemu-io has no such command, so its stand-in has none either */
};
#define IO_ARGS_ANY (-1)

struct io_command {
    const char *name, *alias; /* alias may be NULL */
    co_fn int (*run)(struct io *io, const struct io_command *cmd, int argc, char **argv); /* 0 or -errno */
    int args_min, args_max; /* besides the command; IO_ARGS_ANY: no maximum */
    unsigned flags;
    const char *args; /* as usage shows them; NULL: none */
    const char *summary;
    const char *help; /* what "help COMMAND" adds; NULL: nothing */
};

extern const struct io_command io_commands[]; /* ordered by name; ends with name NULL */

const struct io_command *io_command_find(const struct io *io, const char *name);
bool io_command_exists(const struct io *io, const struct io_command *cmd);

/* Run one line, which is taken apart in place. 0 or -errno; the text for the user is printed. */
co_fn int io_run_line(struct io *io, char *line);

/* "NAME ARGS -- SUMMARY" on stdout. */
void io_print_oneline(const struct io_command *cmd);

/* The same, because the arguments were wrong. Returns -EINVAL. */
int io_usage(const struct io_command *cmd);

/* ---- shell.c ---- */

/* Run commands from stdin until it ends or quit. */
co_fn void io_shell(struct io *io);

/* ---- text.c ---- */

/* The number @text; prints why not. 0 or -errno. */
int io_number(const char *text, uint64_t *ret_value);
/* A pattern byte; prints why not. */
int io_pattern(const char *text, uint8_t *ret_byte);
void io_dump(const void *buf, uint64_t offset, uint64_t bytes);

struct io_report {
    const char *verb; /* "read", "wrote", "discard" */
    uint64_t offset, asked, done;
    unsigned ops;
    uint64_t ns;
    bool machine; /* -C */
};
void io_print_report(const struct io_report *r);

/* ---- buffer.c ---- */

/* A scatter list over one allocation. */
struct io_buffer {
    void *base; /* of the allocation */
    size_t allocated;
    uint8_t *data; /* base, or a little behind it with -m */
    uint64_t bytes;
    struct iovec *iov;
    int niov;
};
/* @bytes filled with @fill, as a list of one. 0 or -ENOMEM, printed. */
int io_buffer_init(struct io *io, struct io_buffer *b, uint64_t bytes, uint8_t fill);
/* One element for each of the @n lengths in @lengths, which are text. 0 or -errno, printed. */
int io_buffer_init_list(struct io *io, struct io_buffer *b, char **lengths, int n, uint8_t fill);
/* Fill with the bytes of the file, over and over. 0 or -errno, printed. */
co_fn int io_buffer_fill_from(struct io *io, struct io_buffer *b, const char *path);
bool io_buffer_matches(const struct io_buffer *b, uint64_t from, uint64_t bytes, uint8_t pattern);
void io_buffer_free(struct io_buffer *b);
#define AUTO_IO_BUFFER CLEANUP(io_buffer_free)

/* ---- file.c ---- */

/* 0 or -errno, printed; io->node is set. */
co_fn int io_open_file(struct io *io, const struct io_open *how);
/* Completes what is in the background first. */
co_fn void io_close_file(struct io *io);
/* For reopen: make a node of @options with @flags the open one. */
co_fn int io_open_node(struct io *io, json_t *options, unsigned flags, struct err *err);

/* ---- overlay.c ---- */

/* Put a temporary overlay over what @options mean: they, and @flags, become the overlay's. */
co_fn int io_overlay(struct io *io, json_t **options, unsigned *flags, struct err *err);

/* ---- aio.c ---- */

/* Wait for everything in the background. */
co_fn void io_aio_drain(struct io *io);

/* ---- the commands ---- */

#define IO_COMMAND(f) co_fn int f(struct io *io, const struct io_command *cmd, int argc, char **argv)
IO_COMMAND(io_cmd_read);
IO_COMMAND(io_cmd_readv);
IO_COMMAND(io_cmd_write);
IO_COMMAND(io_cmd_writev);
IO_COMMAND(io_cmd_discard);
IO_COMMAND(io_cmd_flush);
IO_COMMAND(io_cmd_aio_read);
IO_COMMAND(io_cmd_aio_write);
IO_COMMAND(io_cmd_aio_flush);
IO_COMMAND(io_cmd_length);
IO_COMMAND(io_cmd_info);
IO_COMMAND(io_cmd_alloc);
IO_COMMAND(io_cmd_map);
IO_COMMAND(io_cmd_scrub);
IO_COMMAND(io_cmd_open);
IO_COMMAND(io_cmd_close);
IO_COMMAND(io_cmd_truncate);
IO_COMMAND(io_cmd_reopen);
IO_COMMAND(io_cmd_help);
IO_COMMAND(io_cmd_quit);
IO_COMMAND(io_cmd_sleep);
IO_COMMAND(io_cmd_abort);
IO_COMMAND(io_cmd_sigraise);
IO_COMMAND(io_cmd_break);
IO_COMMAND(io_cmd_remove_break);
IO_COMMAND(io_cmd_resume);
IO_COMMAND(io_cmd_wait_break);
IO_COMMAND(io_cmd_zone);

#endif
