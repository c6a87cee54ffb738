/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verb fault: private declarations of its files.
 *
 *   tool.c      the program's options, and which command runs
 *   rule.c      options to a rule, or to changes of one
 *   client.c    a QMP client
 *   commands.c  list, add, remove, set, release, state, wait, dry-run
 *   power.c     power-cut, power-on, report, copies
 *   watch.c     watch
 *   show.c      rules and events for people
 *   presets.c   presets
 *   import.c    ranges of files and file systems, and whether they lie on the disk (see ranges.h)
 */
#ifndef TOOLS_FAULT_FAULT_H
#define TOOLS_FAULT_FAULT_H

#include <jansson.h>

#include "qmp/stream.h"
#include "tools/fault/ranges.h"
#include "tools/tools.h"

#define WATCH_INTERVAL_NS NS_PER_SEC
#define FAULT_IMPORTS_MAX 64 /* on a command line */

/* ---- client.c ---- */

struct client {
    int fd; /* -1: not connected */
    struct qmp_stream stream;
    char *buf; /* what was received and not parsed yet: */
    size_t from, to;
    /* Events that come while a reply is waited for. May be NULL. Borrowed. */
    void (*event)(void *opaque, json_t *event);
    void *opaque;
};

/* Connect to "unix:PATH" or "tcp:HOST:PORT" (or a bare path, or HOST:PORT), and negotiate. */
co_fn int client_connect(struct client *c, const char *address, struct err *err);
/* @args, used up, may be NULL. The reply's return value; or its error, as -EREMOTEIO and its text. */
co_fn int client_execute(struct client *c, const char *command, json_t *args, json_t **ret_result,
                         struct err *err);
/* Wait for events until @deadline_ns, telling each: -ETIMEDOUT then, -ECONNRESET when the server has gone. */
co_fn int client_events(struct client *c, uint64_t deadline_ns, struct err *err);
/* End what waits, from another coroutine. */
void client_interrupt(struct client *c);
void client_close(struct client *c);

/* ---- the command line ---- */

struct fault_tool {
    struct tool *tool;
    const char *address, *disk, *node;
    struct fault_import {
        enum ranges_kind kind;
        const char *path;
    } imports[FAULT_IMPORTS_MAX]; /* --file, --metadata, --journal */
    unsigned nimports;
    const char *rules, *before, *timeout, *errno_name;
    bool json, all, replace, dry_run, drop, complete, matched, has_rule;
    json_t *rule; /* the members that options gave */
    char **words; /* of the command, behind its name */
    int nwords;
    uint64_t interval_ns;
    struct client client;
    bool interrupted;
};

struct fault_command {
    const char *name, *args, *summary;
    int words_min, words_max;
    bool local;                                              /* needs no server */
    co_fn int (*run)(struct fault_tool *f, struct err *err); /* 0, or -errno with a sentence */
};
extern const struct fault_command fault_commands[]; /* ends with {0} */

#define FAULT_COMMAND(name) co_fn int name(struct fault_tool *f, struct err *err)
FAULT_COMMAND(fault_cmd_list);
FAULT_COMMAND(fault_cmd_add);
FAULT_COMMAND(fault_cmd_presets);
FAULT_COMMAND(fault_cmd_ranges);
FAULT_COMMAND(fault_cmd_remove);
FAULT_COMMAND(fault_cmd_set);
FAULT_COMMAND(fault_cmd_release);
FAULT_COMMAND(fault_cmd_state);
FAULT_COMMAND(fault_cmd_dry_run);
FAULT_COMMAND(fault_cmd_power_cut);
FAULT_COMMAND(fault_cmd_power_on);
FAULT_COMMAND(fault_cmd_report);
FAULT_COMMAND(fault_cmd_copies);
FAULT_COMMAND(fault_cmd_wait);
FAULT_COMMAND(fault_cmd_watch);

/* Before the loop starts threads, which inherit it: signals come to watch, and to nobody else. */
void fault_watch_prepare(void);

/* Arguments that say which disk or node; with @args (used up) or nothing else in them. */
json_t *fault_target(const struct fault_tool *f, json_t *args);

/* ---- import.c ---- */

/* Into the rule go the ranges that --file, --metadata and --journal mean, if they lie on the disk that is
 * meant. */
co_fn int fault_import(struct fault_tool *f, struct err *err);

/* ---- rule.c ---- */

/* Put a member, as its option gave it, into the rule. */
int fault_rule_put(json_t *rule, const char *name, const char *value, struct err *err);
/* "--preset=NAME", and "--param=NAME=VALUE" of it. */
int fault_rule_put_preset(json_t *rule, const char *name, struct err *err);
int fault_rule_put_param(json_t *rule, const char *text, struct err *err);
/* "--read": the rule is about this operation, too. */
void fault_rule_put_op(json_t *rule, const char *op);
/* Add the action, where the options imply it. */
void fault_rule_finish(json_t *rule);

/* ---- show.c ---- */

/* "op=write ranges=1G+64M every=3 errno=EIO", malloc'ed. */
char *fault_rule_text(const json_t *rule);
void fault_show_node(const json_t *info);
void fault_show_event(const json_t *event);
void fault_show_json(const json_t *value);

#endif
