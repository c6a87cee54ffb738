/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verb fault: its command line. Every member that a rule can have is an option, as the engine's table
 * names it; some have a shorter form.
 */
#include <getopt.h>

#include "base/size.h"
#include "drivers/fault/fault.h"
#include "tools/fault/fault.h"

#define EXIT_USAGE  2
#define MEMBERS_MAX 256 /* options; there are some forty, and one for each member of a rule */

enum {
    OPT_QMP = TOOL_OPT_FIRST_FREE,
    OPT_DISK,
    OPT_NODE,
    OPT_JSON_OUT,
    OPT_RULES,
    OPT_FILE,
    OPT_METADATA,
    OPT_JOURNAL,
    OPT_BEFORE,
    OPT_REPLACE,
    OPT_DRY_RUN,
    OPT_ALL,
    OPT_UNSET,
    OPT_ERROR,
    OPT_HANG,
    OPT_PASS,
    OPT_PRESET,
    OPT_PARAM,
    OPT_RANGE,
    OPT_SECTOR,
    OPT_OP, /* one for each word of op_words */
    OPT_COMPLETE = OPT_OP + 16,
    OPT_DROP,
    OPT_MATCHED,
    OPT_TIMEOUT,
    OPT_INTERVAL,
    OPT_MEMBER, /* one for each member of a rule */
};

static const char *const op_words[] = {"read",  "write",  "zero",     "discard",
                                       "flush", "status", "truncate", NULL};

static const struct option fixed_options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"qmp", required_argument, NULL, OPT_QMP},
    {"disk", required_argument, NULL, OPT_DISK},
    {"node", required_argument, NULL, OPT_NODE},
    {"json", no_argument, NULL, OPT_JSON_OUT},
    {"rules", required_argument, NULL, OPT_RULES},
    {"file", required_argument, NULL, OPT_FILE},
    {"metadata", required_argument, NULL, OPT_METADATA},
    {"journal", required_argument, NULL, OPT_JOURNAL},
    {"before", required_argument, NULL, OPT_BEFORE},
    {"replace", no_argument, NULL, OPT_REPLACE},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"all", no_argument, NULL, OPT_ALL},
    {"unset", required_argument, NULL, OPT_UNSET},
    {"error", required_argument, NULL, OPT_ERROR},
    {"hang", no_argument, NULL, OPT_HANG},
    {"pass", no_argument, NULL, OPT_PASS},
    {"preset", required_argument, NULL, OPT_PRESET},
    {"param", required_argument, NULL, OPT_PARAM},
    {"range", required_argument, NULL, OPT_RANGE},
    {"sector", required_argument, NULL, OPT_SECTOR},
    {"complete", no_argument, NULL, OPT_COMPLETE},
    {"drop", no_argument, NULL, OPT_DROP},
    {"matched", no_argument, NULL, OPT_MATCHED},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"interval", required_argument, NULL, OPT_INTERVAL},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
};

static void print_help(void)
{
    struct fault_member_doc doc;

    printf("Usage: blkproof fault --qmp ADDRESS [OPTIONS] COMMAND [ARGUMENTS]\n"
           "Make a disk of a running 'blkproof serve --qmp ADDRESS' fail, by rules.\n"
           "\n"
           "Commands:\n");
    for (const struct fault_command *c = fault_commands; c->name; c++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s %s", c->name, c->args);
        printf("  %-18s %s\n", usage, c->summary);
    }
    printf("\n"
           "Where:\n"
           "      --qmp=ADDRESS    unix:PATH or tcp:HOST:PORT (default: $BLKPROOF_QMP)\n"
           "      --disk=NAME      the disk, as --id of serve named it\n"
           "      --node=NAME      the node; neither is needed if there is only one fault node\n"
           "\n"
           "Rules, in short (add):\n");
    for (size_t i = 0; op_words[i]; i++) {
        printf("      --%-14s requests of this kind; several may be given\n", op_words[i]);
    }
    printf("      --range=OFFSET+LENGTH  that touch this range; several may be given\n"
           "      --sector=FIRST-LAST    the same in sectors\n"
           "      --file=PATH      where this file of a mounted file system lies on the disk\n"
           "      --metadata=PATH  the metadata of the file system that is mounted there, or in there\n"
           "      --journal=PATH   its journal\n"
           "      --error=NAME     fail with this error: EIO, ENOSPC, ... (or a number)\n"
           "      --hang           are held until released\n"
           "      --pass           are passed on, whatever the rules behind say\n"
           "      --preset=NAME    the rules of a preset; other options go into each of them\n"
           "      --param=NAME=VALUE     a parameter of the preset; several may be given\n"
           "\n"
           "Rules, every member (add, set):\n");
    for (unsigned i = 0; fault_member_doc(i, &doc); i++) {
        printf("      --%-14s %s\n", doc.name, doc.help);
    }
    printf("\n"
           "Of commands:\n"
           "      --rules=FILE     add: the rules of a file\n"
           "      --before=ID      add: in front of this rule\n"
           "      --replace        add: in place of all rules that are there\n"
           "      --dry-run        add: and let rules only count what they would do\n"
           "      --unset=MEMBER   set: its default again\n"
           "      --all            remove: every rule\n"
           "      --complete       release: as if never held (default)\n"
           "      --drop           release: never answer\n"
           "      --matched        wait: for the counter of matches\n"
           "      --timeout=TIME   wait: so long (default 60s)\n"
           "      --interval=TIME  watch: look at the counters so often (default 1s)\n"
           "      --json           results and events as JSON, one line each\n" TOOL_COMMON_HELP
           "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "Exit status: 0; 1 for an error, or when wait's time is over; 2 for wrong usage.\n"
           "See blkproof-fault(1) and, for rules, blkproof-fault(7).\n");
}

static int usage(const struct fault_tool *f, const struct err *err)
{
    tool_error(f->tool, "%s (see 'blkproof fault --help')", err->text);
    return EXIT_USAGE;
}

/* ---- options ---- */

static int put(struct fault_tool *f, const char *name, const char *value, struct err *err)
{
    f->has_rule = true;
    return fault_rule_put(f->rule, name, value, err);
}

static int add_import(struct fault_tool *f, enum ranges_kind kind, const char *path, struct err *err)
{
    if (f->nimports == FAULT_IMPORTS_MAX) {
        return err_set(err, -E2BIG, "more than %d of --file, --metadata and --journal", FAULT_IMPORTS_MAX);
    }
    f->imports[f->nimports++] = (struct fault_import){kind, path};
    f->has_rule = true;
    return 0;
}

static int rule_option(struct fault_tool *f, int opt, const char *arg, struct err *err)
{
    struct fault_member_doc doc;
    int r;

    switch (opt) {
    case OPT_ERROR:
        r = put(f, "errno", arg, err);
        return r < 0 ? r : put(f, "action", "error", err);
    case OPT_HANG:
        return put(f, "action", "hang", err);
    case OPT_PASS:
        return put(f, "action", "pass", err);
    case OPT_FILE:
        return add_import(f, RANGES_FILE, arg, err);
    case OPT_METADATA:
        return add_import(f, RANGES_METADATA, arg, err);
    case OPT_JOURNAL:
        return add_import(f, RANGES_JOURNAL, arg, err);
    case OPT_PRESET:
        f->has_rule = true;
        return fault_rule_put_preset(f->rule, arg, err);
    case OPT_PARAM:
        return fault_rule_put_param(f->rule, arg, err);
    case OPT_RANGE:
        return put(f, "ranges", arg, err);
    case OPT_SECTOR:
        return put(f, "sectors", arg, err);
    case OPT_UNSET:
        f->has_rule = true;
        return json_object_set_new(f->rule, arg, json_null());
    default:
        if (opt < OPT_COMPLETE) {
            f->has_rule = true;
            fault_rule_put_op(f->rule, op_words[opt - OPT_OP]);
            return 0;
        }
        fault_member_doc((unsigned)(opt - OPT_MEMBER), &doc);
        return put(f, doc.name, arg, err);
    }
}

static int interval_option(struct fault_tool *f, const char *arg, struct err *err)
{
    return duration_parse(arg, &f->interval_ns) < 0 || f->interval_ns == 0
               ? err_set(err, -EINVAL, "--interval=%s: expected a time like 500ms", arg)
               : 0;
}

static int take_option(struct fault_tool *f, int opt, char *arg, struct err *err)
{
    const struct {
        int opt;
        const char **text;
        bool *flag;
    } plain[] = {
        {OPT_QMP, &f->address, NULL},       {OPT_DISK, &f->disk, NULL},
        {OPT_NODE, &f->node, NULL},         {OPT_RULES, &f->rules, NULL},
        {OPT_BEFORE, &f->before, NULL},     {OPT_TIMEOUT, &f->timeout, NULL},
        {OPT_JSON_OUT, NULL, &f->json},     {OPT_REPLACE, NULL, &f->replace},
        {OPT_DRY_RUN, NULL, &f->dry_run},   {OPT_ALL, NULL, &f->all},
        {OPT_DROP, NULL, &f->drop},         {OPT_MATCHED, NULL, &f->matched},
        {OPT_COMPLETE, NULL, &f->complete},
    };

    for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
        if (plain[i].opt == opt) {
            if (plain[i].text) {
                *plain[i].text = arg;
            } else {
                *plain[i].flag = true;
            }
            return 0;
        }
    }
    return opt == OPT_INTERVAL ? interval_option(f, arg, err) : rule_option(f, opt, arg, err);
}

/* The fixed options, the operations, the members of rules. */
static void make_options(struct option *table)
{
    struct fault_member_doc doc;
    size_t n = ARRAY_SIZE(fixed_options);

    memcpy(table, fixed_options, sizeof(fixed_options));
    for (int i = 0; op_words[i]; i++) {
        table[n++] = (struct option){op_words[i], no_argument, NULL, OPT_OP + i};
    }
    for (unsigned i = 0; fault_member_doc(i, &doc) && n + 1 < MEMBERS_MAX; i++) {
        table[n++] = (struct option){doc.name, required_argument, NULL, OPT_MEMBER + (int)i};
    }
    table[n] = (struct option){0};
}

/* -1: go on; else the exit status. */
static int parse(struct fault_tool *f, int argc, char **argv)
{
    struct option options[MEMBERS_MAX];
    struct err err = {0};
    int opt;

    make_options(options);
    while ((opt = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == 'V') {
            tool_version(f->tool);
            return 0;
        }
        if (opt == '?' || ((opt == TOOL_OPT_ENGINE || opt == TOOL_OPT_SEED) &&
                           tool_common_option(f->tool, opt, optarg) < 0)) {
            return EXIT_USAGE;
        }
        if (opt != TOOL_OPT_ENGINE && opt != TOOL_OPT_SEED && take_option(f, opt, optarg, &err) < 0) {
            return usage(f, &err);
        }
    }
    f->words = argv + optind;
    f->nwords = argc - optind;
    return -1;
}

/* ---- running ---- */

static const struct fault_command *find_command(struct fault_tool *f, struct err *err)
{
    const char *name = f->nwords > 0 ? f->words[0] : NULL;
    const struct fault_command *c = fault_commands;

    while (name && c->name && strcmp(c->name, name) != 0) {
        c++;
    }
    if (!name || !c->name) {
        if (name) {
            err_set(err, -EINVAL, "unknown command '%s'", name);
        } else {
            err_set(err, -EINVAL, "a command is missing");
        }
        return NULL;
    }
    f->words++;
    f->nwords--;
    if (f->nwords < c->words_min || f->nwords > c->words_max) {
        err_set(err, -EINVAL, "%s: expected '%s%s%s'", name, name, *c->args ? " " : "", c->args);
        return NULL;
    }
    if (!f->address && !c->local) {
        err_set(err, -EINVAL, "--qmp=ADDRESS is missing, and BLKPROOF_QMP is not set");
        return NULL;
    }
    return c;
}

struct run {
    struct fault_tool *f;
    const struct fault_command *command;
};

static co_fn int run(void *arg)
{
    const struct run *r = arg;
    struct fault_tool *f = r->f;
    struct err err = {0};

    int rc = r->command->local ? 0 : client_connect(&f->client, f->address, &err);
    rc = rc < 0 ? rc : r->command->run(f, &err);
    client_close(&f->client);
    if (rc < 0) {
        tool_error(f->tool, "%s", err.text);
    }
    return rc < 0 ? EXIT_FAILURE : 0;
}

int tool_fault(struct tool *t, int argc, char **argv)
{
    struct fault_tool f = {.tool = t,
                           .address = getenv("BLKPROOF_QMP"),
                           .rule = json_object(),
                           .interval_ns = WATCH_INTERVAL_NS,
                           .client.fd = -1};
    struct run r = {.f = &f};
    struct err err = {0};

    qmp_stream_init(&f.client.stream);
    int status = parse(&f, argc, argv);
    if (status < 0) {
        r.command = find_command(&f, &err);
        if (r.command && r.command->run == fault_cmd_watch) {
            fault_watch_prepare();
        }
        status = r.command ? tool_run(t, run, &r) : usage(&f, &err);
    }
    json_decref(f.rule);
    return status;
}
