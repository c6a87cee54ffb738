/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program: finds the verb and hands over. Under the name qemu-io or qemu-img (a symbolic link)
 * it is a stand-in for that program, and its whole command line is the verb's.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/tools.h"

#define EXIT_USAGE 2

struct verb {
    const char *name;
    int (*run)(struct tool *t, int argc, char **argv);
    const char *summary;
};

static const struct verb verbs[] = {
    {"io", tool_io, "read, write and check a device, command by command"},
    {"img", tool_img, "create, compare, convert and inspect images"},
    {"serve", tool_serve, "export devices over NBD"},
    {"fault", tool_fault, "make a disk that is being served fail, by rules"},
    {"fuzz", tool_fuzz, "hostile disk images for any program"},
};

static const struct {
    const char *program;
    const char *verb;
} standins[] = {
    {"qemu-io", "io"},
    {"qemu-img", "img"},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static void print_help(void)
{
    printf("Usage: blkproof [OPTIONS] VERB [ARGUMENTS]\n"
           "Proves block devices: verified I/O between a client and a device.\n"
           "\n"
           "Verbs:\n");
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        printf("  %-20s %s\n", verbs[i].name, verbs[i].summary);
    }
    printf("  %-20s %s\n", "help [VERB]", "this text, or that of a verb");
    printf("\n"
           "Options:\n" TOOL_COMMON_HELP "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "See blkproof(1), and blkproof VERB --help.\n");
}

static int run_verb(struct tool *t, const struct verb *v, int argc, char **argv)
{
    optind = 0; /* GNU: begin anew, and read the first character of the options again */
    int status = v->run(t, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        tool_error(t, "write to standard output: %s", err_name(errno));
        return status != 0 ? status : 1;
    }
    return status;
}

static int unknown_verb(const struct tool *t, const char *name)
{
    tool_error(t, "unknown verb '%s' (see 'blkproof --help')", name);
    return EXIT_USAGE;
}

/* help [VERB] */
static int run_help(struct tool *t, int argc, char **argv)
{
    if (argc < 2) {
        print_help();
        return 0;
    }
    const struct verb *v = find_verb(argv[1]);
    if (v == NULL) {
        return unknown_verb(t, argv[1]);
    }
    char help[] = "--help";
    char *verb_argv[] = {argv[1], help, NULL};
    return run_verb(t, v, 2, verb_argv);
}

/* The options before the verb. Returns the index of the verb, or -1 with *@ret_status set. */
static int parse_options(struct tool *t, int argc, char **argv, int *ret_status)
{
    static const struct option long_options[] = {
        TOOL_COMMON_LONG_OPTIONS,
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "+hV", long_options, NULL)) != -1) {
        switch (c) {
        case 'h':
            print_help();
            *ret_status = 0;
            return -1;
        case 'V':
            tool_version(t);
            *ret_status = 0;
            return -1;
        default:
            if (c == '?' || tool_common_option(t, c, optarg) < 0) {
                *ret_status = EXIT_USAGE;
                return -1;
            }
        }
    }
    if (optind >= argc) {
        tool_error(t, "a verb is missing (see 'blkproof --help')");
        *ret_status = EXIT_USAGE;
        return -1;
    }
    return optind;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Whoever started us may have closed the standard files. The first images opened would get their numbers, and
 * messages would be written into them. */
static bool hold_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* for reading only: printing fails, and is found out at the end */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct tool t = {.prefix = "blkproof", .seed = 1};
    int status = EXIT_USAGE;

    if (!hold_standard_files()) {
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN); /* a client or reader that goes away is an errno, not our end */
    signal(SIGXFSZ, SIG_IGN); /* so is a file that grows past ulimit -f */
    const char *program = argc > 0 ? base_name(argv[0]) : "blkproof";
    for (size_t i = 0; i < ARRAY_SIZE(standins); i++) {
        if (strcmp(standins[i].program, program) == 0) {
            t.prefix = standins[i].program;
            t.standin = true;
            return run_verb(&t, find_verb(standins[i].verb), argc, argv);
        }
    }

    int first = parse_options(&t, argc, argv, &status);
    if (first < 0) {
        return status;
    }
    argc -= first;
    argv += first;
    if (strcmp(argv[0], "help") == 0) {
        return run_help(&t, argc, argv);
    }
    const struct verb *v = find_verb(argv[0]);
    return v != NULL ? run_verb(&t, v, argc, argv) : unknown_verb(&t, argv[0]);
}
