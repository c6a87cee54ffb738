/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one option parser of the subcommands: it reads their tables, and so does the help. Letters
 * and names go through getopt_long.
 */
#include <errno.h>
#include <getopt.h>

#include "base/size.h"
#include "tools/img/img.h"

#define ARGS_MAX   40    /* rows of the longest table, with room */
#define LONG_FIRST 0x100 /* getopt values of rows: this + index */

static const struct img_arg *find_arg(const struct img_arg *args, int c)
{
    if (c >= LONG_FIRST) {
        return &args[c - LONG_FIRST];
    }
    for (; args->type != IMG_ARG_END; args++) {
        if (args->letter == c) {
            return args;
        }
    }
    return NULL;
}

static int set_list(char **list, const char *value)
{
    char *joined = NULL;
    if (asprintf(&joined, "%s%s%s", *list ? *list : "", *list ? "," : "", value) < 0) {
        return -ENOMEM;
    }
    free(*list);
    *list = joined;
    return 0;
}

static int set_number(const struct img *img, const struct img_arg *arg, const char *value, uint64_t *ret)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 0);
    bool digits = value[0] >= '0' && value[0] <= '9';
    if (!digits || *end != '\0' || errno != 0 || v < arg->min || (arg->max != 0 && v > arg->max)) {
        img_error(img, "%s", arg->what);
        return -EINVAL;
    }
    *ret = v;
    return 0;
}

static int set_output(const struct img *img, const char *value, bool *ret_json)
{
    if (strcmp(value, "json") != 0 && strcmp(value, "human") != 0) {
        img_error(img, "--output must be used with human or json as argument.");
        return -EINVAL;
    }
    *ret_json = value[0] == 'j';
    return 0;
}

static bool has_value(const struct img_arg *arg)
{
    return arg->type == IMG_ARG_STEP ? arg->value != NULL : arg->type != IMG_ARG_FLAG;
}

static int add_step(struct img *img, const struct img_arg *arg, const char *value)
{
    struct img_args *a = &img->a;

    if (a->nsteps == IMG_STEPS_MAX) {
        img_error(img, "At most %d operations can be asked for at once", IMG_STEPS_MAX);
        return -EINVAL;
    }
    a->steps[a->nsteps++] = (struct img_step){arg->name, value};
    return 0;
}

static int set_arg(struct img *img, const struct img_arg *arg, const char *value)
{
    void *place = (char *)&img->a + arg->offset;

    switch (arg->type) {
    case IMG_ARG_FLAG:
        *(bool *)place = true;
        return 0;
    case IMG_ARG_STRING:
        *(const char **)place = value;
        return 0;
    case IMG_ARG_LIST:
        return set_list(place, value);
    case IMG_ARG_SIZE:
        return img_parse_size(img, value, arg->what, arg->min, arg->max, place);
    case IMG_ARG_NUMBER:
        return set_number(img, arg, value, place);
    case IMG_ARG_OUTPUT:
        return set_output(img, value, place);
    case IMG_ARG_STEP:
        return add_step(img, arg, value);
    case IMG_ARG_END:
        break;
    }
    return -EINVAL;
}

static void build_tables(const struct img_arg *args, char *letters, struct option *names)
{
    static const struct option common[] = {TOOL_COMMON_LONG_OPTIONS};

    *letters++ = ':';
    for (int i = 0; args[i].type != IMG_ARG_END; i++) {
        assert(i < ARGS_MAX);
        int valued = has_value(&args[i]);
        if (args[i].letter != 0) {
            *letters++ = args[i].letter;
            if (valued) {
                *letters++ = ':';
            }
        }
        if (args[i].name != NULL) {
            *names++ = (struct option){args[i].name, valued, NULL, LONG_FIRST + i};
        }
    }
    *letters = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
        *names++ = common[i];
    }
    *names = (struct option){0};
}

static void set_defaults(struct img_args *a)
{
    *a = (struct img_args){
        .workers = IMG_NOT_GIVEN,
        .sparse_bytes = IMG_NOT_GIVEN,
        .rate = IMG_NOT_GIVEN,
        .start = IMG_NOT_GIVEN,
        .max_length = IMG_NOT_GIVEN,
        .count = IMG_NOT_GIVEN,
        .depth = IMG_NOT_GIVEN,
        .buffer_bytes = IMG_NOT_GIVEN,
        .step_bytes = IMG_NOT_GIVEN,
        .flush_interval = IMG_NOT_GIVEN,
        .pattern = IMG_NOT_GIVEN,
        .size = IMG_NOT_GIVEN,
        .granularity = IMG_NOT_GIVEN,
    };
}

static int parse_options(struct img *img, int argc, char **argv)
{
    struct option names[ARGS_MAX + 5];
    char letters[2 * ARGS_MAX + 2];
    int c;

    build_tables(img->cmd->args, letters, names);
    optind = 0; /* GNU: begin anew */
    opterr = 0;
    while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        if (c == ':') {
            return img_usage_error(img, "missing argument for option '%s'", argv[optind - 1]);
        }
        if (c == '?') {
            return img_usage_error(img, "unrecognized option '%s'", argv[optind - 1]);
        }
        if (c >= TOOL_OPT_ENGINE) {
            if (tool_common_option(img->t, c, optarg) < 0) {
                return img_fail_status(img);
            }
            continue;
        }
        int r = set_arg(img, find_arg(img->cmd->args, c), optarg);
        if (r == -ENOMEM) {
            img_error(img, "no memory for options");
        }
        if (r < 0) {
            return img_fail_status(img);
        }
        if (img->a.help) {
            img_print_help(img);
            return 0;
        }
    }
    return -1;
}

/* Take the size off the end before getopt sees it, so that "-512" is no option. */
static int take_size(struct img *img, int *argc, char **argv, char **ret_size)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return -1;
        }
    }
    if (*argc < 3) {
        return img_usage_error(img, "Not enough arguments");
    }
    *ret_size = argv[--*argc];
    return -1;
}

int img_parse_args(struct img *img, int argc, char **argv)
{
    char *size = NULL;
    set_defaults(&img->a);

    if (img->cmd->last_is_size) {
        int status = take_size(img, &argc, argv, &size);
        if (status >= 0) {
            return status;
        }
    }
    int status = parse_options(img, argc, argv);
    if (status >= 0) {
        return status;
    }
    img->argc = argc - optind;
    img->argv = argv + optind;
    if (size != NULL) {
        argv[argc] = size; /* back in its place, behind the other operands */
        img->argc++;
    }
    int max = img->cmd->max_operands;
    if (img->argc < img->cmd->min_operands || (max >= 0 && img->argc > max)) {
        return img_usage_error(img, "%s", img->cmd->operands_wrong);
    }
    return -1;
}

static void print_arg_help(const struct img_arg *arg)
{
    char left[80];
    int n = 0;
    const char *value = arg->value ? arg->value : "VALUE";

    if (arg->letter != 0) {
        n = snprintf(left, sizeof(left), "-%c%s", arg->letter, arg->name ? ", " : "");
    }
    if (arg->name != NULL) {
        n += snprintf(left + n, sizeof(left) - (size_t)n, "--%s", arg->name);
    }
    if (has_value(arg)) {
        snprintf(left + n, sizeof(left) - (size_t)n, "%s%s", arg->name ? "=" : " ", value);
    }
    if (strlen(left) > 26) {
        printf("  %s\n  %26s  %s\n", left, "", arg->help);
    } else {
        printf("  %-26s  %s\n", left, arg->help);
    }
}

void img_print_help(const struct img *img)
{
    const struct img_command *cmd = img->cmd;

    printf("Usage: %s%s %s [OPTIONS] %s\n", img->t->prefix, img->t->standin ? "" : " img", cmd->name,
           cmd->synopsis);
    printf("%s.\n\nOptions:\n", cmd->summary);
    for (const struct img_arg *arg = cmd->args; arg->type != IMG_ARG_END; arg++) {
        print_arg_help(arg);
    }
    printf("%s", TOOL_COMMON_HELP);
}
