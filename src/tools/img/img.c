/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkproof img: the list of subcommands, and what runs one. As a stand-in for qemu-img the words
 * and exit codes are that program's.
 */
#include "tools/img/img.h"

#include "block/driver.h"

extern const struct img_command img_amend, img_bench, img_bitmap, img_check, img_commit, img_compare,
    img_convert, img_create, img_dd, img_dump, img_info, img_map, img_measure, img_rebase, img_resize,
    img_snapshot;

static const struct img_command *const commands[] = {
    &img_amend, &img_bench, &img_bitmap, &img_check, &img_commit,  &img_compare, &img_convert, &img_create,
    &img_dd,    &img_dump,  &img_info,   &img_map,   &img_measure, &img_rebase,  &img_resize,  &img_snapshot,
};

static const struct img_command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static void print_formats(void)
{
    printf("\nSupported formats:");
    for (int i = 0; drivers[i] != NULL; i++) {
        printf(" %s", drivers[i]->name);
    }
    printf("\n");
}

static void print_help(const struct tool *t)
{
    const char *verb = t->standin ? "" : " img";

    printf("Usage: %s%s SUBCOMMAND [OPTIONS] ARGUMENTS\n"
           "Creates, compares, converts and inspects disk images.\n"
           "\n"
           "Subcommands:\n",
           t->prefix, verb);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    printf("\n"
           "Options:\n"
           "  -h, --help           this text; behind a subcommand: that one's\n"
           "  -V, --version        the version\n"
           "\n"
           "Sizes are bytes, with an optional suffix k, M, G, T, P or E (powers of 1024).\n");
    print_formats();
}

/* The coroutine of a run. */
static co_fn int run_command(void *arg)
{
    struct img *img = arg;
    tool_graph_init(img->t, &img->graph);
    int status = img->cmd->run(img);
    return status == 0 && img->graph.mismatches > 0 ? 1 : status;
}

static int start_command(struct tool *t, const struct img_command *cmd, int argc, char **argv)
{
    struct img img = {.t = t, .cmd = cmd};
    int status = img_parse_args(&img, argc, argv);

    if (status < 0 && cmd->prepare != NULL) {
        status = cmd->prepare(&img);
    }
    if (status < 0) {
        status = tool_run(t, run_command, &img);
    }
    free(img.a.options);
    return status;
}

int tool_img(struct tool *t, int argc, char **argv)
{
    const struct img none = {.t = t};

    if (argc < 2) {
        return img_usage_error(&none, "Not enough arguments");
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(t);
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        tool_version(t);
        return 0;
    }
    if (name[0] == '-') {
        return img_usage_error(&none, "unrecognized option '%s'", name);
    }
    const struct img_command *cmd = find_command(name);
    if (cmd == NULL) {
        return img_usage_error(&none, "Command not found: %s", name);
    }
    return start_command(t, cmd, argc - 1, argv + 1);
}
