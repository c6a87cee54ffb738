/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of commands, and how a line becomes a call. Usage lines are qemu-io's, word for word. */
#include <unistd.h>

#include "tools/io/io.h"

static const char help_read[] = "\n"
                                " Example: 'read -v 512 1k' dumps the kilobyte at 512.\n"
                                "\n"
                                " -b, -- the VM state area instead of the disk\n"
                                " -C, -- statistics for programs: bytes,ops,time,bytes/sec,ops/sec\n"
                                " -l, -- with -P: how many bytes to check (default: to the end)\n"
                                " -p, -- accepted, does nothing\n"
                                " -P, -- check that every byte is this one\n"
                                " -q, -- no statistics\n"
                                " -r, -- accepted: buffers need no registration\n"
                                " -s, -- with -P: where to begin checking, from off\n"
                                " -v, -- dump what was read\n"
                                "\n";

static const char help_readv[] =
    "\n"
    " One buffer for each len. Example: 'readv -v 512 1k 1k' dumps the two kilobytes at 512.\n"
    "\n"
    " -C, -- statistics for programs\n"
    " -P, -- check that every byte is this one\n"
    " -q, -- no statistics\n"
    " -r, -- accepted: buffers need no registration\n"
    " -v, -- dump what was read\n"
    "\n";

static const char help_write[] = "\n"
                                 " Example: 'write 512 1k' writes a kilobyte of 0xcd at 512.\n"
                                 "\n"
                                 " -b, -- the VM state area instead of the disk\n"
                                 " -c, -- store compressed\n"
                                 " -C, -- statistics for programs: bytes,ops,time,bytes/sec,ops/sec\n"
                                 " -f, -- durable when it returns (FUA)\n"
                                 " -n, -- with -z: fail rather than write zeroes out\n"
                                 " -p, -- accepted, does nothing\n"
                                 " -P, -- the byte to write, 0 to 255\n"
                                 " -q, -- no statistics\n"
                                 " -r, -- accepted: buffers need no registration\n"
                                 " -s, -- write the bytes of this file, over and over\n"
                                 " -u, -- with -z: may deallocate\n"
                                 " -z, -- zeroes, without sending any data\n"
                                 "\n";

static const char help_writev[] =
    "\n"
    " One buffer for each len. Example: 'writev 512 1k 1k' writes two kilobytes of 0xcd at 512.\n"
    "\n"
    " -C, -- statistics for programs\n"
    " -f, -- durable when it returns (FUA)\n"
    " -P, -- the byte to write, 0 to 255\n"
    " -q, -- no statistics\n"
    " -r, -- accepted: buffers need no registration\n"
    "\n";

static const char help_aio_read[] =
    "\n"
    " As readv, in the background: the outcome is printed when it is known, which aio_flush waits for.\n"
    " The command is successful once the request is on its way, whatever becomes of it.\n"
    "\n"
    " -C, -- statistics for programs\n"
    " -i, -- say that an invalid request was made, and make none\n"
    " -P, -- check that every byte is this one\n"
    " -q, -- no statistics\n"
    " -r, -- accepted: buffers need no registration\n"
    " -v, -- dump what was read\n"
    "\n";

static const char help_aio_write[] =
    "\n"
    " As writev, in the background: the outcome is printed when it is known, which aio_flush waits for.\n"
    " The command is successful once the request is on its way, whatever becomes of it.\n"
    "\n"
    " -C, -- statistics for programs\n"
    " -f, -- durable when it returns (FUA)\n"
    " -i, -- say that an invalid request was made, and make none\n"
    " -P, -- the byte to write, 0 to 255\n"
    " -q, -- no statistics\n"
    " -r, -- accepted: buffers need no registration\n"
    " -u, -- with -z: may deallocate\n"
    " -z, -- zeroes, without sending any data; one len only\n"
    "\n";

static const char help_discard[] = "\n"
                                   " Says that the content is no longer needed. Example: 'discard 512 1k'.\n"
                                   "\n"
                                   " -C, -- statistics for programs\n"
                                   " -q, -- no statistics\n"
                                   "\n";

static const char help_truncate[] =
    "\n"
    " Makes the image end at off. Example: 'truncate -m falloc 1G'.\n"
    "\n"
    " -m, -- what is done about new space: off (default), metadata, falloc or full\n"
    "\n";

static const char help_open[] =
    "\n"
    " Example: 'open -n -o driver=raw disk.img' opens raw bytes past the host's page cache.\n"
    "\n"
    " -C, -- copy on read (matters to images with a backing file only)\n"
    " -d, -- what becomes of discards: unmap (default) or ignore\n"
    " -i, -- threads, native or io_uring\n"
    " -k, -- as -i native\n"
    " -n, -- as -t none\n"
    " -o, -- options of the driver, as name=value,...\n"
    " -r, -- read-only\n"
    " -s, -- write to a temporary overlay\n"
    " -t, -- writethrough (default), writeback, none, directsync or unsafe\n"
    " -U, -- take no locks\n"
    "\n";

static const char help_reopen[] =
    "\n"
    " Example: 'reopen -r' refuses writes from now on.\n"
    "\n"
    " -c, -- another cache mode\n"
    " -o, -- other values of options: read-only, cache.direct, cache.no-flush, and those of the\n"
    "        driver that may change while it is open\n"
    " -r, -- read-only\n"
    " -w, -- writable\n"
    "\n";

static const char help_scrub[] =
    "\n"
    " For images with a verifier (blkverify): every byte is read from both sides.\n"
    "\n"
    " -p, -- show how far it is\n"
    " -q, -- do not say that all is well\n"
    "\n";

static const char help_sigraise[] = "\n"
                                    " Example: 'sigraise 15' raises SIGTERM.\n"
                                    "\n";

#define TAG_COMMAND(n, text)                                                                                 \
    {                                                                                                        \
        .name = #n, .run = io_cmd_##n, .args_min = 1, .args_max = 1, .args = "tag", .summary = text          \
    }
#define ZONE_COMMAND(n, a, min, max, usage, text)                                                            \
    {                                                                                                        \
        .name = n, .alias = a, .run = io_cmd_zone, .args_min = min, .args_max = max, .args = usage,          \
        .summary = text                                                                                      \
    }

const struct io_command io_commands[] = {
    {.name = "abort",
     .run = io_cmd_abort,
     .flags = IO_NO_FILE,
     .summary = "simulate a program crash using abort(3)"},
    {.name = "aio_flush", .run = io_cmd_aio_flush, .summary = "completes all outstanding aio requests"},
    {.name = "aio_read",
     .run = io_cmd_aio_read,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .args = "[-Ciqrv] [-P pattern] off len [len..]",
     .summary = "asynchronously reads a number of bytes",
     .help = help_aio_read},
    {.name = "aio_write",
     .run = io_cmd_aio_write,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .flags = IO_WRITES,
     .args = "[-Cfiqruz] [-P pattern] off len [len..]",
     .summary = "asynchronously writes a number of bytes",
     .help = help_aio_write},
    {.name = "alloc",
     .alias = "a",
     .run = io_cmd_alloc,
     .args_min = 1,
     .args_max = 2,
     .args = "offset [count]",
     .summary = "checks if offset is allocated in the file"},
    {.name = "break",
     .run = io_cmd_break,
     .args_min = 2,
     .args_max = 2,
     .args = "event tag",
     .summary = "sets a breakpoint on event and tags the stopped request as tag"},
    {.name = "close", .alias = "c", .run = io_cmd_close, .summary = "close the current open file"},
    {.name = "discard",
     .alias = "d",
     .run = io_cmd_discard,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .flags = IO_WRITES,
     .args = "[-Cq] off len",
     .summary = "discards a number of bytes at a specified offset",
     .help = help_discard},
    {.name = "flush", .alias = "f", .run = io_cmd_flush, .summary = "flush all in-core file state to disk"},
    {.name = "help",
     .alias = "?",
     .run = io_cmd_help,
     .args_max = 1,
     .flags = IO_NO_FILE,
     .args = "[command]",
     .summary = "help for one or all commands"},
    {.name = "info",
     .alias = "i",
     .run = io_cmd_info,
     .summary = "prints information about the current file"},
    {.name = "length", .alias = "l", .run = io_cmd_length, .summary = "gets the length of the current file"},
    {.name = "map", .run = io_cmd_map, .args = "", .summary = "prints the allocated areas of a file"},
    {.name = "open",
     .alias = "o",
     .run = io_cmd_open,
     .args_min = 1,
     .args_max = IO_ARGS_ANY,
     .flags = IO_NO_FILE,
     .args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
     .summary = "open the file specified by path",
     .help = help_open},
    {.name = "quit", .alias = "q", .run = io_cmd_quit, .flags = IO_NO_FILE, .summary = "exit the program"},
    {.name = "read",
     .alias = "r",
     .run = io_cmd_read,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .args = "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
     .summary = "reads a number of bytes at a specified offset",
     .help = help_read},
    {.name = "readv",
     .run = io_cmd_readv,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .args = "[-Cqrv] [-P pattern] off len [len..]",
     .summary = "reads a number of bytes at a specified offset",
     .help = help_readv},
    TAG_COMMAND(remove_break, "remove a breakpoint by tag"),
    {.name = "reopen",
     .run = io_cmd_reopen,
     .args_max = IO_ARGS_ANY,
     .args = "[(-r|-w)] [-c cache] [-o options]",
     .summary = "reopens an image with new options",
     .help = help_reopen},
    TAG_COMMAND(resume, "resumes the request tagged as tag"),
    {.name = "scrub",
     .run = io_cmd_scrub,
     .args_max = IO_ARGS_ANY,
     .flags = IO_OURS,
     .args = "[-pq]",
     .summary = "compares the whole device with its reference",
     .help = help_scrub},
    {.name = "sigraise",
     .run = io_cmd_sigraise,
     .args_min = 1,
     .args_max = 1,
     .flags = IO_NO_FILE,
     .args = "signal",
     .summary = "raises a signal",
     .help = help_sigraise},
    {.name = "sleep",
     .run = io_cmd_sleep,
     .args_min = 1,
     .args_max = 1,
     .flags = IO_NO_FILE,
     .summary = "waits for the given value in milliseconds"},
    {.name = "truncate",
     .alias = "t",
     .run = io_cmd_truncate,
     .args_min = 1,
     .args_max = 3,
     .flags = IO_WRITES,
     .args = "[-m prealloc_mode] off",
     .summary = "truncates the current file at the given offset",
     .help = help_truncate},
    TAG_COMMAND(wait_break, "waits for the suspension of a request"),
    {.name = "write",
     .alias = "w",
     .run = io_cmd_write,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .flags = IO_WRITES,
     .args = "[-bcCfnqruz] [-P pattern | -s source_file] off len",
     .summary = "writes a number of bytes at a specified offset",
     .help = help_write},
    {.name = "writev",
     .run = io_cmd_writev,
     .args_min = 2,
     .args_max = IO_ARGS_ANY,
     .flags = IO_WRITES,
     .args = "[-Cfqr] [-P pattern] off len [len..]",
     .summary = "writes a number of bytes at a specified offset",
     .help = help_writev},
    ZONE_COMMAND("zone_append", "zap", 3, 4, "offset len [len..]",
                 "append write a number of bytes at a specified offset"),
    ZONE_COMMAND("zone_close", "zc", 2, 2, "offset len", "close a range of zones in zone block device"),
    ZONE_COMMAND("zone_finish", "zf", 2, 2, "offset len", "finish a range of zones in zone block device"),
    ZONE_COMMAND("zone_open", "zo", 2, 2, "offset len",
                 "explicit open a range of zones in zone block device"),
    ZONE_COMMAND("zone_report", "zrp", 2, 2, "offset number", "report zone information"),
    ZONE_COMMAND("zone_reset", "zrs", 2, 2, "offset len", "reset a zone write pointer in zone block device"),
    {0},
};

bool io_command_exists(const struct io *io, const struct io_command *cmd)
{
    return !(io->tool->standin && (cmd->flags & IO_OURS));
}

const struct io_command *io_command_find(const struct io *io, const char *name)
{
    for (const struct io_command *c = io_commands; c->name != NULL; c++) {
        if (io_command_exists(io, c) &&
            (strcmp(c->name, name) == 0 || (c->alias != NULL && strcmp(c->alias, name) == 0))) {
            return c;
        }
    }
    return NULL;
}

void io_print_oneline(const struct io_command *cmd)
{
    printf("%s ", cmd->name);
    if (cmd->args != NULL) {
        printf("%s ", cmd->args);
    }
    printf("-- %s\n", cmd->summary);
}

int io_usage(const struct io_command *cmd)
{
    io_print_oneline(cmd);
    return -EINVAL;
}

/* A sentence on stderr without the program's name. */
#define complain(...) (fflush(stdout), fprintf(stderr, __VA_ARGS__))

static bool count_is_right(const struct io_command *cmd, const char *called, int args)
{
    if (args >= cmd->args_min && (cmd->args_max == IO_ARGS_ANY || args <= cmd->args_max)) {
        return true;
    }
    if (cmd->args_max == IO_ARGS_ANY) {
        complain("bad argument count %d to %s, expected at least %d arguments\n", args, called,
                 cmd->args_min);
    } else if (cmd->args_min == cmd->args_max) {
        complain("bad argument count %d to %s, expected %d arguments\n", args, called, cmd->args_min);
    } else {
        complain("bad argument count %d to %s, expected between %d and %d arguments\n", args, called,
                 cmd->args_min, cmd->args_max);
    }
    return false;
}

static co_fn int run_command(struct io *io, int argc, char **argv)
{
    const struct io_command *cmd = io_command_find(io, argv[0]);

    if (cmd == NULL) {
        complain("command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (io->node == NULL && !(cmd->flags & IO_NO_FILE)) {
        complain("no file open, try 'help open'\n");
        return -EINVAL;
    }
    if (!count_is_right(cmd, argv[0], argc - 1)) {
        return -EINVAL;
    }
    if ((cmd->flags & IO_WRITES) && node_is_read_only(io->node)) {
        tool_error(io->tool, "Block node is read-only");
        return -EACCES;
    }
    optind = 0; /* GNU: begin anew */
    return cmd->run(io, cmd, argc, argv);
}

int io_run_line(struct io *io, char *line)
{
    AUTO_FREE char **argv = calloc(strlen(line) / 2 + 2, sizeof(*argv));
    int argc = 0;

    if (argv == NULL) {
        tool_error(io->tool, "no memory for a command");
        return -ENOMEM;
    }
    for (char *word; (word = strsep(&line, " ")) != NULL;) {
        if (*word != '\0') {
            argv[argc++] = word;
        }
    }
    int r = argc > 0 ? run_command(io, argc, argv) : 0;
    io->failed |= r < 0;
    return r;
}
