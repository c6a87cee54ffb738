/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault engine, as QMP, the driver options and the tools use it.
 *
 * A node with an engine (drivers fault and blkdebug) holds an ordered list of rules. A rule is a JSON object
 * of selectors, which must all hold, an action and its parameters, a budget, and counters; the
 * tables below name every member, and blkproof-fault(7) explains them. For every request the rules are
 * tried in order; the first whose selectors hold acts, and those behind it are not asked, but for the
 * actions delay and state, which let the search go on.
 *
 * Changes are made on the graph's loop and never wait: when the call returns, every request that
 * arrives later sees them. They happen wholly or not at all. Everything here returns 0 or -errno, and
 * fills @err (NULL is fine) with a sentence. All functions but fault_is and fault_find take a node
 * for which fault_is holds.
 */
#ifndef DRIVERS_FAULT_FAULT_H
#define DRIVERS_FAULT_FAULT_H

#include "block/block.h"

#define FAULT_RULES_MAX  4096  /* of a node: each is compared with all others when rules are added */
#define FAULT_RANGES_MAX 65536 /* of a rule */
#define FAULT_NAME_MAX   63    /* characters of an id or a tag */

/* Has the node an engine? NULL is fine: no. */
bool fault_is(const struct node *n);
/* @n itself or the first below it, going down main children, that has an engine; NULL: none. */
struct node *fault_find(struct node *n);

/* ---- changing rules ---- */

enum fault_change_kind {
    FAULT_ADD,     /* @rules behind those that are there, or before the rule called @id */
    FAULT_REPLACE, /* @rules instead of all that are there */
    FAULT_SET, /* the members in @rules (one object; null: the default) into the rule @id, whose counters stay
                */
    FAULT_REMOVE,     /* the rule @id; what it holds back completes */
    FAULT_REMOVE_TAG, /* the rules with the tag @id (-ENOENT if there is none), likewise */
    FAULT_CLEAR,      /* every rule; what they hold back completes */
    FAULT_STATE,      /* @state */
};

struct fault_change {
    struct node *node;
    enum fault_change_kind kind;
    const json_t *rules; /* ADD, REPLACE: an array of rules, or one rule; SET: an object */
    const char *id;      /* SET, REMOVE: which (-ENOENT if there is none); ADD: before which, or NULL */
    int64_t state;       /* STATE */
    bool new_engine;     /* REPLACE, ADD: the state is 1 again, as after opening */
    uint64_t from_opno;  /* set on success: the change holds for this operation number and all above */
};

/* Make all changes, in order, at one instant, or none. Several may concern the same node. What is
 * wrong is told with the number of the change when there are several, and of the rule. */
int fault_apply(struct fault_change *changes, unsigned nchanges, struct err *err);

/* The operation number that the next request through the outermost node above @n will have. */
uint64_t fault_next_opno(const struct node *n);

/* Read a rule file: {"rules":[...]} or [...]. @ret_rules: an array, the caller's. Only JSON is looked
 * at; fault_apply checks the rules. A file on a disk that @g (or NULL) exports itself is refused. */
co_fn int fault_read_file(struct graph *g, const char *path, json_t **ret_rules, struct err *err);

/* The rule objects of the 2014 QMP patch, and of blkdebug's options, to rules of ours: event, type
 * (inject-error or set-state), state, errno, sector, once, immediately, iotype, new_state; numbers or
 * booleans. Give the result to fault_apply as ADD with new_engine (what the patch did) or as REPLACE. */
int fault_from_blkdebug(const json_t *objects, json_t **ret_rules, struct err *err);

/* Where rules stand an object may name a preset in their place: {"preset": NAME, "params": {...}}; what else
 * it has goes into all rules of the preset, and "id" in front of their ids. @ret: the rules of the array
 * @rules, or the one rule, with those of presets in their place; the caller's. Of rules only the form is
 * looked at. */
int fault_presets_expand(const json_t *rules, json_t **ret, struct err *err);
/* An array of {"name", "help", "source", "verified", "params": [{"name", "default", "help"}], "rules"}. */
json_t *fault_presets_json(void);

/* A factor of times: a number, or a text, above 0. */
int fault_parse_scale(const json_t *v, double *ret, struct err *err);

/* ---- looking ---- */

/* An array of all rules in order, each an object of its members as given (id and tag always), and of
 * "matched", "fired", "last-matched", "last-fired" (operation numbers, 0: never), "exhausted", "armed"
 * (rules with an event), "held" (requests held back now). NULL: no memory. */
json_t *fault_list(const struct node *n);

/* {"state", "dry-run", "rules" (number), "held", "waiting" (delayed), "breakpoints": [...]} */
json_t *fault_status(const struct node *n);
int64_t fault_state(const struct node *n);

struct fault_counters {
    uint64_t matched, fired, last_matched, last_fired;
};
int fault_counters(const struct node *n, const char *id, struct fault_counters *ret, struct err *err);

/* A member of a rule, for schemas, help and the manual. */
struct fault_member_doc {
    const char *name;
    const char *type; /* "boolean", "integer", "time", "string", "any" */
    const char *role; /* "rule", "selector", or the actions whose parameter it is: "error, delay" */
    const char *help;
};
/* By index, from 0; false behind the last. */
bool fault_member_doc(unsigned i, struct fault_member_doc *ret);
/* Name and help of an action, likewise. */
bool fault_action_doc(unsigned i, const char **ret_name, const char **ret_help);

/* ---- held requests ---- */

enum fault_outcome {
    FAULT_COMPLETE, /* as if it had never been held */
    FAULT_ERROR,    /* fails with @error */
    FAULT_DROP,     /* is never answered: node_io returns REQ_DROPPED, and exports send no reply */
};
extern const char *const fault_outcome_names[]; /* "complete", "error", "drop", NULL */

/* Let go of the requests held under @tag (NULL: of all). @error: a positive errno for FAULT_ERROR, 0:
 * EIO. The rule goes on holding what comes; remove it first, or in one fault_apply, to end that.
 * Returns how many, -ENOENT if no rule and no held request has the tag. */
int fault_release(struct node *n, const char *tag, enum fault_outcome outcome, int error, struct err *err);

/* An array of {"rule","tag","opno","op","offset","bytes","held-ns","hold"}. NULL: no memory. */
json_t *fault_held(const struct node *n);

/* ---- waiting for a rule ---- */

struct fault_wait {
    const char *id;      /* of the rule */
    bool matched;        /* wait for the counter "matched", else "fired" */
    uint64_t count;      /* ... to be at least this */
    uint64_t timeout_ns; /* 0: look, do not wait; UINT64_MAX: for ever */
    const void *owner;   /* for fault_wait_cancel; may be NULL */
};
/* 0 with the counters, -ETIMEDOUT (counters are set too), -ENOENT: no such rule, or it was removed
 * meanwhile, -ECANCELED: fault_wait_cancel or the node ends. The caller holds a reference to @n. */
co_fn int fault_wait(struct node *n, const struct fault_wait *w, struct fault_counters *ret, struct err *err);
/* End the waits of @owner (its client has left). */
void fault_wait_cancel(struct node *n, const void *owner);

/* ---- breakpoints (blkdebug): a request stops where an event is announced ---- */

/* -ENOENT: no such event, no such tag; -ENOSPC: too many. */
int fault_break(struct node *n, const char *event, const char *tag);
int fault_remove_break(struct node *n, const char *tag);     /* and resume what it stopped */
int fault_resume(struct node *n, const char *tag);           /* one request */
bool fault_has_break(const struct node *n, const char *tag); /* waiting for a request, or holding one */
bool fault_is_stopped(const struct node *n, const char *tag);

/* ---- decisions: a log of them, and repeating one ---- */

/* From now on a line of JSON goes into the new file @path for each time that a rule acts; before requests
 * come. -errno with a sentence. */
co_fn int fault_decisions_log_to(struct graph *g, const char *path, struct err *err);
/* Rules that the log @path knows act on the requests on which they acted there, known by node, operation,
 * place and how many like it came before, and on no others; what they draw is the same. Before requests come.
 */
co_fn int fault_decisions_replay(struct graph *g, const char *path, struct err *err);
/* When no requests come any more. Does nothing if there was neither. */
co_fn void fault_decisions_end(struct graph *g);

/* ---- what happens, told to graph->fault as it happens (never waits, never changes rules) ---- */

enum fault_event_type {
    FAULT_INJECTED,      /* a rule acted on a request */
    FAULT_EXHAUSTED,     /* a rule's budget is used up, or the dead-man timer switched it off */
    FAULT_STATE_CHANGED, /* by a rule, or by FAULT_STATE */
    FAULT_HANG_BEGIN,    /* a request is held */
    FAULT_HANG_END,      /* and is let go */
};

struct fault_event {
    enum fault_event_type type;
    const char *node;       /* its name. Who keeps an event keeps copies of this, rule, tag and *req. */
    const char *rule, *tag; /* NULL: a STATE_CHANGED by hand */
    const char *action;     /* its name, of the table of actions */
    const struct req *req;  /* opno, op, offset, bytes; NULL: there is no request */
    uint64_t matched, fired;
    int error;         /* INJECTED: of the action error; HANG_END: of the outcome; positive errno or 0 */
    uint64_t delay_ns; /* INJECTED: of the action delay; HANG_END: how long it was held */
    int64_t old_state, new_state;
    enum fault_outcome outcome; /* HANG_END */
    bool deadman;               /* HANG_END, EXHAUSTED: by the dead-man timer */
    bool dry_run;               /* INJECTED: would have been */
};
/* "FAULT_INJECTED", ... */
const char *fault_event_name(enum fault_event_type type);
/* The event as QMP's data member: an object of what applies. NULL: no memory. */
json_t *fault_event_data(const struct fault_event *e);
/* "read", "write", "zero", "discard", "flush", "status", "truncate", "cache" */
const char *fault_op_name(enum req_op op);

#endif
