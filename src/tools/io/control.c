/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that move no data: help, quit, sleep, abort, sigraise, breakpoints, zones. */
#include <signal.h>
#include <unistd.h>

#include "drivers/fault/fault.h"
#include "tools/io/io.h"

IO_COMMAND(io_cmd_help)
{
    if (argc == 1) {
        for (const struct io_command *c = io_commands; c->name != NULL; c++) {
            if (io_command_exists(io, c)) {
                io_print_oneline(c);
            }
        }
        printf("\nUse 'help commandname' for extended help.\n");
        return 0;
    }
    const struct io_command *about = io_command_find(io, argv[1]);
    if (about == NULL) {
        printf("command %s not found\n", argv[1]);
        return -EINVAL;
    }
    io_print_oneline(about);
    if (about->help != NULL) {
        fputs(about->help, stdout);
    }
    return 0;
}

IO_COMMAND(io_cmd_quit)
{
    io->quit = true;
    return 0;
}

IO_COMMAND(io_cmd_sleep)
{
    char *end;
    errno = 0;
    long ms = strtol(argv[1], &end, 0);

    if (end == argv[1] || *end != '\0' || errno != 0) {
        printf("%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    fflush(stdout);
    if (ms > 0) {
        co_sleep_ns(MIN((uint64_t)ms, UINT64_MAX / 4 / NS_PER_MS) * NS_PER_MS);
    }
    return 0;
}

/* The crash of a program: nothing is flushed, nothing is closed. */
IO_COMMAND(io_cmd_abort)
{
    abort();
}

IO_COMMAND(io_cmd_sigraise)
{
    uint64_t sig;
    int r = io_number(argv[1], &sig);

    if (r < 0) {
        return r;
    }
    if (sig > NSIG) {
        printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -EINVAL;
    }
    fflush(stdout); /* a signal that ends the program must not take the results with it */
    raise((int)sig);
    return 0;
}

/* ---- breakpoints ---- */

#define LOOK_AGAIN_NS NS_PER_MS

/* qemu-io would wait for ever for what cannot come any more. */
static co_fn int wait_break(struct io *io, struct node *n, const char *tag)
{
    if (!fault_has_break(n, tag)) {
        return -ENOENT;
    }
    fflush(stdout);
    while (!fault_is_stopped(n, tag)) {
        if (io->aio_pending == 0) {
            return -EDEADLK;
        }
        co_sleep_ns(LOOK_AGAIN_NS); /* it may stop, or every request may end */
    }
    return 0;
}

IO_COMMAND(io_cmd_break)
{
    struct node *n = fault_find(io->node);
    int r = n ? fault_break(n, argv[1], argv[2]) : -ENOTSUP;

    if (r < 0) {
        printf("Could not set breakpoint: %s\n", err_name(r));
    }
    return r;
}

IO_COMMAND(io_cmd_remove_break)
{
    struct node *n = fault_find(io->node);
    int r = n ? fault_remove_break(n, argv[1]) : -ENOTSUP;

    if (r < 0) {
        printf("Could not remove breakpoint %s: %s\n", argv[1], err_name(r));
    }
    return r;
}

IO_COMMAND(io_cmd_resume)
{
    struct node *n = fault_find(io->node);
    int r = n ? fault_resume(n, argv[1]) : -ENOTSUP;

    if (r < 0) {
        printf("Could not resume request: %s\n", err_name(r));
    }
    return r;
}

IO_COMMAND(io_cmd_wait_break)
{
    struct node *n = fault_find(io->node);
    int r = n ? wait_break(io, n, argv[1]) : -ENOTSUP;

    if (r == -EDEADLK) {
        printf("Could not wait for breakpoint %s: no request is under way that could reach it\n", argv[1]);
    } else if (r < 0) {
        printf("Could not wait for breakpoint %s: %s\n", argv[1], err_name(r));
    }
    return r;
}

/* zone_*: the arguments are checked, then answered as for a device without zones. */
IO_COMMAND(io_cmd_zone)
{
    bool append = strcmp(cmd->name, "zone_append") == 0;
    int c;

    while ((c = getopt(argc, argv, append ? "p" : "")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
    }
    if (optind > argc - 2) {
        return io_usage(cmd);
    }
    for (int i = optind; i < argc; i++) {
        uint64_t number;
        int r = io_number(argv[i], &number);
        if (r < 0) {
            return r;
        }
    }
    printf("zone %s failed: %s\n", cmd->name + strlen("zone_"), err_name(ENOTSUP));
    return -ENOTSUP;
}
