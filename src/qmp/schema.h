/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tables that describe QMP as we speak it: types, commands, events. Dispatch, the checks of arguments,
 * query-commands, query-qmp-schema and the test of the manual page all read them, and nothing else
 * knows what a command takes.
 */
#ifndef QMP_SCHEMA_H
#define QMP_SCHEMA_H

#include <jansson.h>

#include "base/err.h"
#include "loop/co.h"

struct qmp_call;

enum qmp_kind {
    QMP_STR,
    QMP_INT,    /* 64 bits, signed */
    QMP_NUMBER, /* integer or real */
    QMP_BOOL,
    QMP_SWITCH, /* true and false, or 1 and 0 */
    QMP_ANY,
    QMP_ENUM,    /* one of values */
    QMP_OBJECT,  /* of members */
    QMP_OPTIONS, /* a node's options: which, its driver knows */
    QMP_RULE,    /* a fault rule: the engine knows */
    QMP_RULES,   /* one, or an array of them */
};

struct qmp_member;

struct qmp_type {
    const char *name; /* in query-qmp-schema */
    enum qmp_kind kind;
    const char *const *values;        /* ends with NULL */
    const struct qmp_member *members; /* ends with {0}; NULL: none */
};

struct qmp_member {
    const char *name;
    const struct qmp_type *type;
    bool optional, array;
    const char *help;
};

enum {
    QMP_OOB = 1,           /* may be executed out of band: never waits */
    QMP_TAKES_OPTIONS = 2, /* the arguments are the options of a node */
};

struct qmp_command {
    const char *name;
    const struct qmp_member *args; /* ends with {0}; NULL: none */
    const struct qmp_type *returns;
    bool returns_array;
    unsigned flags;
    /* The arguments have been checked. The result, or NULL with the call's error set. */
    co_fn json_t *(*run)(struct qmp_call *call);
    const char *help; /* one sentence */
};

struct qmp_event {
    const char *name;
    const struct qmp_member *members; /* NULL: none */
    /* At most one a second of those that agree in these members (NULL-terminated); NULL: no limit. */
    const char *const *limit_by;
    const char *help;
};

extern const struct qmp_type qmp_str, qmp_int, qmp_number, qmp_bool, qmp_switch, qmp_any, qmp_options,
    qmp_empty;
extern const struct qmp_command qmp_commands[]; /* both end with {0} */
extern const struct qmp_event qmp_events[];

const struct qmp_command *qmp_command_find(const char *name);
const struct qmp_event *qmp_event_find(const char *name);

/* Are these the members @object should have? @path: what to put in front of a member's name in the sentence
 * ("" or "options[0]."). NULL members: there should be none. */
int qmp_check(const struct qmp_member *members, json_t *object, const char *path, struct err *err);

/* The answer to query-qmp-schema: an array of SchemaInfo. */
json_t *qmp_schema(void);

#endif
