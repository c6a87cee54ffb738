/* SPDX-License-Identifier: BSD-2-Clause */
/* The verb fuzz: which command runs. */
#include "tools/fuzz/fuzz.h"

const struct fuzz_command fuzz_commands[] = {
    {"gen", "--format FMT", "make images of a format, most of them hostile", fuzz_cmd_gen},
    {"show", "IMAGE|RECORD|SEED", "tell what is where in an image, and what is hostile", fuzz_cmd_show},
    {"run", "[OPTIONS] -- COMMAND...", "run any program on hostile images, and sort what it does wrong",
     fuzz_cmd_run},
    {"min", "FINDING...", "reduce a finding to what it takes", fuzz_cmd_min},
    {"replay", "FINDING...", "see a finding again", fuzz_cmd_replay},
    {"merge", "--out=DIR PART...", "put the parts of a campaign together", fuzz_cmd_merge},
    {"report", "[FILE]", "what a campaign found: Markdown, JSON, JUnit, HTML", fuzz_cmd_report},
    {"corpus", "export DIR", "images of a campaign for other fuzzers", fuzz_cmd_corpus},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz COMMAND [OPTIONS] [ARGUMENTS]\n"
           "Hostile disk images for any program.\n"
           "\n"
           "Commands:\n");
    for (const struct fuzz_command *c = fuzz_commands; c->name; c++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s %s", c->name, c->args);
        printf("  %-26s %s\n", usage, c->summary);
    }
    printf("\n"
           "Options:\n"
           "      --help             this text; behind a command its options\n"
           "      --version          the version\n"
           "\n"
           "See blkproof-fuzz(1).\n");
}

int fuzz_usage(const struct tool *t, const char *command, const struct err *err)
{
    tool_error(t, "fuzz %s: %s (see 'blkproof fuzz %s --help')", command, err->text, command);
    return FUZZ_EXIT_USAGE;
}

int tool_fuzz(struct tool *t, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        tool_version(t);
        return 0;
    }
    for (const struct fuzz_command *c = fuzz_commands; c->name; c++) {
        if (strcmp(c->name, word) == 0) {
            optind = 0; /* GNU: begin anew */
            return c->run(t, argc - 1, argv + 1);
        }
    }
    if (*word) {
        tool_error(t, "fuzz: unknown command '%s' (see 'blkproof fuzz --help')", word);
    } else {
        tool_error(t, "fuzz: a command is missing (see 'blkproof fuzz --help')");
    }
    return FUZZ_EXIT_USAGE;
}
