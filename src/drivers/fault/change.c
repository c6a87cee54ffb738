/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes. All are drafted first: new lists, parsed rules, new indexes. When the last one is known to be
 * good, the lists are exchanged, and nothing can fail any more. Nothing here waits, so that no
 * request sees a half of it.
 */
#include <stdio.h>

#include "base/json.h"
#include "drivers/fault/internal.h"

/* What a node will have. */
struct draft {
    struct node *node;
    struct fault_list list;        /* references of its own */
    struct fault_history *history; /* made for rules that ask for it; NULL: there is one, or no need */
    bool rules_changed, state_given, new_engine;
    uint64_t state;
    unsigned next_id;
};

static void draft_finish(struct draft *d)
{
    for (unsigned i = 0; i < d->list.nrules; i++) {
        fault_rule_unref(d->list.rules[i]);
    }
    free(d->list.rules);
    fault_index_free(d->list.index);
    fault_history_destroy(d->history);
}

static int draft_grow(struct draft *d, size_t extra, struct err *err)
{
    size_t want = d->list.nrules + extra;

    if (want > FAULT_RULES_MAX) {
        return err_set(err, -EINVAL, "more than %d rules in a node", FAULT_RULES_MAX);
    }
    struct fault_rule **rules = realloc(d->list.rules, MAX(want, (size_t)1) * sizeof(struct fault_rule *));
    if (!rules) {
        return err_set(err, -ENOMEM, "no memory for the rules");
    }
    d->list.rules = rules;
    return 0;
}

static int draft_init(struct draft *d, struct node *n, struct err *err)
{
    const struct fault_engine *e = fault_engine_of(n);

    *d = (struct draft){.node = n, .next_id = e->next_id};
    int r = draft_grow(d, e->list.nrules, err);
    for (unsigned i = 0; r == 0 && i < e->list.nrules; i++) {
        d->list.rules[d->list.nrules++] = fault_rule_ref(e->list.rules[i]);
    }
    return r;
}

/* Its place, or behind the last. */
static unsigned draft_find(const struct draft *d, const char *id)
{
    uint64_t key = fault_rule_key(id);
    unsigned i = 0;

    while (i < d->list.nrules && (d->list.rules[i]->key != key || strcmp(d->list.rules[i]->id, id) != 0)) {
        i++;
    }
    return i;
}

static int no_such_rule(const struct draft *d, const char *id, struct err *err)
{
    return err_set(err, -ENOENT, "node '%s' has no rule '%.100s'", node_name(d->node), id);
}

static void draft_clear(struct draft *d)
{
    while (d->list.nrules > 0) {
        fault_rule_unref(d->list.rules[--d->list.nrules]);
    }
}

static void next_free_id(struct draft *d, char id[16])
{
    do {
        snprintf(id, 16, "r%u", d->next_id++);
    } while (draft_find(d, id) < d->list.nrules);
}

/* ---- one change ---- */

static double time_scale(const struct node *n)
{
    double own = fault_engine_of(n)->time_scale, all = n->graph->time_scale;

    return own > 0 ? own : all > 0 ? all : 1;
}

static int insert_rule(struct draft *d, const json_t *spec, unsigned at, struct err *err)
{
    AUTO_FAULT_RULE struct fault_rule *rule = NULL;
    char id[16] = "-";

    if (json_is_object(spec) && !json_object_get(spec, "id")) {
        next_free_id(d, id);
    }
    int r = fault_rule_parse(spec, id, time_scale(d->node), &rule, err);
    if (r < 0) {
        return r;
    }
    if (draft_find(d, rule->id) < d->list.nrules) {
        return err_set(err, -EEXIST, "there is a rule '%s' already", rule->id);
    }
    memmove(&d->list.rules[at + 1], &d->list.rules[at], (d->list.nrules - at) * sizeof(struct fault_rule *));
    d->list.rules[at] = TAKE_PTR(rule);
    d->list.nrules++;
    return 0;
}

static int insert_rules(struct draft *d, const json_t *given, unsigned at, struct err *err)
{
    AUTO_JSON json_t *rules = NULL;
    int r = fault_presets_expand(given, &rules, err);

    r = r < 0 ? r : draft_grow(d, json_array_size(rules), err);
    for (size_t i = 0; r == 0 && i < json_array_size(rules); i++) {
        r = insert_rule(d, json_array_get(rules, i), at + (unsigned)i, err);
        if (r < 0 && json_array_size(rules) > 1) {
            err_prefix(err, "rule %zu: ", i + 1);
        }
    }
    return r;
}

/* The rule's members with those of @set; null takes one away. */
static json_t *merged(const struct fault_rule *rule, const json_t *set)
{
    json_t *spec = json_deep_copy(rule->spec);
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)set, key, v)
    {
        if (spec && json_is_null(v)) {
            json_object_del(spec, key);
        } else if (spec && json_object_set(spec, key, v) < 0) {
            json_decref(spec);
            spec = NULL;
        }
    }
    return spec;
}

/* What has happened to a rule stays when its members change. */
static void goes_on(struct fault_rule *rule, const struct fault_rule *old)
{
    rule->c = old->c;
    rule->matched_bytes = old->matched_bytes;
    rule->fired_bytes = old->fired_bytes;
    rule->begun = old->begun;
    rule->added_ns = old->added_ns;
    rule->flushes_before = old->flushes_before;
    rule->armed = old->armed && rule->event == old->event;
    rule->exhausted = fault_rule_is_spent(rule);
}

static int set_rule(struct draft *d, const char *id, const json_t *set, struct err *err)
{
    unsigned at = draft_find(d, id);

    if (at == d->list.nrules) {
        return no_such_rule(d, id, err);
    }
    struct fault_rule *old = d->list.rules[at], *rule = NULL;
    if (!json_is_object(set)) {
        return err_set(err, -EINVAL, "fault-set: the members to set are an object: expected {...}");
    }
    AUTO_JSON json_t *spec = merged(old, set);
    if (!spec) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    int r = fault_rule_parse(spec, old->id, time_scale(d->node), &rule, err);
    if (r < 0) {
        return r;
    }
    if (strcmp(rule->id, old->id) != 0) {
        fault_rule_unref(rule);
        return err_set(err, -EINVAL, "rule '%s': the id cannot be changed", old->id);
    }
    goes_on(rule, old);
    rule->replaces = old->fresh ? old->replaces : old; /* in the node's list, which keeps it alive */
    d->list.rules[at] = rule;
    fault_rule_unref(old);
    return 0;
}

static int remove_rule(struct draft *d, const char *id, struct err *err)
{
    unsigned at = draft_find(d, id);

    if (at == d->list.nrules) {
        return no_such_rule(d, id, err);
    }
    fault_rule_unref(d->list.rules[at]);
    d->list.nrules--;
    memmove(&d->list.rules[at], &d->list.rules[at + 1], (d->list.nrules - at) * sizeof(struct fault_rule *));
    return 0;
}

static int remove_tagged(struct draft *d, const char *tag, struct err *err)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->list.nrules; i++) {
        struct fault_rule *rule = d->list.rules[i];
        if (strcmp(rule->tag, tag) == 0) {
            fault_rule_unref(rule);
        } else {
            d->list.rules[n++] = rule;
        }
    }
    bool some = n < d->list.nrules;
    d->list.nrules = n;
    return some ? 0 : err_set(err, -ENOENT, "node '%s' has no rule tagged '%.100s'", node_name(d->node), tag);
}

static int check_state(const struct fault_change *c, struct err *err)
{
    return c->state >= 0 && c->state <= FAULT_STATE_MAX
               ? 0
               : err_set(err, -EINVAL, "a state is a number from 0 to %d", FAULT_STATE_MAX);
}

static int draft_change(struct draft *d, const struct fault_change *c, struct err *err)
{
    unsigned at = d->list.nrules;

    d->rules_changed |= c->kind != FAULT_STATE;
    d->new_engine |= c->new_engine;
    switch (c->kind) {
    case FAULT_ADD:
        at = c->id ? draft_find(d, c->id) : at;
        return c->id && at == d->list.nrules ? no_such_rule(d, c->id, err)
                                             : insert_rules(d, c->rules, at, err);
    case FAULT_REPLACE:
        draft_clear(d);
        return insert_rules(d, c->rules, 0, err);
    case FAULT_SET:
        return set_rule(d, c->id, c->rules, err);
    case FAULT_REMOVE:
        return remove_rule(d, c->id, err);
    case FAULT_REMOVE_TAG:
        return remove_tagged(d, c->id, err);
    case FAULT_CLEAR:
        draft_clear(d);
        return 0;
    case FAULT_STATE:
        d->state_given = true;
        d->state = (uint64_t)c->state;
        return check_state(c, err);
    }
    return err_set(err, -EINVAL, "there is no such change");
}

/* ---- the commit: from here on nothing fails ---- */

/* A changed rule stays the same object: requests and waits that know it see the new members. */
static struct fault_rule *settle(struct fault_rule *rule)
{
    struct fault_rule *old = rule->replaces, swap;

    if (!old) {
        return rule;
    }
    fault_timer_stop(old);
    swap = *old;
    *old = *rule;
    *rule = swap;
    old->replaces = NULL;
    old->run = rule->run; /* what it did before stays */
    rule->run = (struct fault_run){0};
    old->refs = rule->refs;
    rule->refs = 1;
    fault_rule_ref(old); /* the draft's, in exchange for that to the new object */
    fault_rule_unref(rule);
    return old;
}

static void release_removed(struct fault_engine *e, struct fault_list *before)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        e->list.rules[i]->removed = false;
    }
    for (unsigned i = 0; i < before->nrules; i++) {
        if (before->rules[i]->removed) {
            fault_timer_stop(before->rules[i]);
            before->rules[i]->run.failing = false;
            fault_replays_drop(e, before->rules[i]);
            fault_window_rule_removed(e);
            fault_release_rule(e, before->rules[i], false);
        }
    }
    fault_engine_count(e);
}

/* When nothing delays any more, what is delayed goes on: a disk is whole again when its rules are gone. */
static void wake_delayed(struct fault_engine *e)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        if (fault_actions[e->list.rules[i]->action].waits && e->list.rules[i]->enabled) {
            return;
        }
    }
    fault_wake_sleepers(e);
}

static void commit(struct draft *d)
{
    struct fault_engine *e = fault_engine_of(d->node);
    struct fault_list before = e->list;

    if (d->rules_changed) {
        for (unsigned i = 0; i < before.nrules; i++) {
            before.rules[i]->removed = true;
        }
        for (unsigned i = 0; i < d->list.nrules; i++) {
            d->list.rules[i] = settle(d->list.rules[i]);
        }
        e->list = d->list;
        d->list = before;
        e->next_id = d->next_id;
        e->history = d->history ? TAKE_PTR(d->history) : e->history;
        release_removed(e, &before);
    }
    if (d->state_given || d->new_engine) {
        fault_set_state(e, d->state_given ? d->state : 1, NULL, NULL);
    }
}

/* Times, flushes and writes count from here. */
static void begin_added(struct fault_engine *e)
{
    uint64_t now = loop_clock_ns();

    for (unsigned i = 0; i < e->list.nrules; i++) {
        struct fault_rule *rule = e->list.rules[i];
        if (!rule->begun) {
            rule->begun = true;
            rule->added_ns = now;
            rule->flushes_before = e->flushes;
        }
    }
}

static void forget_history(struct fault_engine *e)
{
    if (!e->list.index || !(e->list.index->needs & FAULT_NEEDS_HISTORY)) {
        fault_history_destroy(e->history);
        e->history = NULL;
    }
}

static void begin(struct draft *d)
{
    struct fault_engine *e = fault_engine_of(d->node);

    if (d->rules_changed) {
        begin_added(e);
        fault_arm_added(e);
        fault_timers_look(e);
        fault_lies_look(e);
        forget_history(e);
        wake_delayed(e);
    }
    fault_waits_check(e);
    fault_engine_look(e);
}

static struct draft *draft_of(struct draft *drafts, unsigned *ndrafts, struct node *n, struct err *err)
{
    for (unsigned i = 0; i < *ndrafts; i++) {
        if (drafts[i].node == n) {
            return &drafts[i];
        }
    }
    struct draft *d = &drafts[(*ndrafts)++];
    return draft_init(d, n, err) < 0 ? NULL : d;
}

/* All that needs memory. */
static int draft_end(struct draft *d)
{
    int r = fault_index_make(d->list.rules, d->list.nrules, &d->list.index);
    bool history = r == 0 && d->list.index && (d->list.index->needs & FAULT_NEEDS_HISTORY);

    return history && !fault_engine_of(d->node)->history ? fault_history_create(&d->history) : r;
}

static int draft_all(struct draft *drafts, unsigned *ndrafts, struct fault_change *changes, unsigned n,
                     struct err *err)
{
    for (unsigned i = 0; i < n; i++) {
        if (!fault_is(changes[i].node)) {
            return err_set(err, -EINVAL, "node '%s' has no fault rules: it is a '%s'",
                           node_name(changes[i].node), node_driver_name(changes[i].node));
        }
        struct draft *d = draft_of(drafts, ndrafts, changes[i].node, err);
        int r = d ? draft_change(d, &changes[i], err) : -ENOMEM;
        if (r < 0) {
            if (n > 1) {
                err_prefix(err, "change %u: ", i + 1);
            }
            return r;
        }
    }
    for (unsigned i = 0; i < *ndrafts; i++) {
        int r = drafts[i].rules_changed ? draft_end(&drafts[i]) : 0;
        if (r < 0) {
            return err_set(err, r, "no memory for the rules");
        }
    }
    return 0;
}

int fault_apply(struct fault_change *changes, unsigned nchanges, struct err *err)
{
    AUTO_FREE struct draft *drafts = calloc(MAX(nchanges, 1u), sizeof(*drafts));
    unsigned ndrafts = 0;

    if (!drafts) {
        return err_set(err, -ENOMEM, "no memory for the changes");
    }
    int r = draft_all(drafts, &ndrafts, changes, nchanges, err);
    for (unsigned i = 0; r == 0 && i < ndrafts; i++) {
        commit(&drafts[i]);
    }
    for (unsigned i = 0; r == 0 && i < ndrafts; i++) {
        begin(&drafts[i]);
    }
    for (unsigned i = 0; i < ndrafts; i++) {
        draft_finish(&drafts[i]);
    }
    for (unsigned i = 0; r == 0 && i < nchanges; i++) {
        changes[i].from_opno = fault_next_opno(changes[i].node);
    }
    return r;
}

/* ---- operation numbers ---- */

static bool is_above(const struct node *n, const struct node *below)
{
    if (n == below) {
        return true;
    }
    for (unsigned i = 0; i < n->nchildren; i++) {
        if (n->children[i].node && is_above(n->children[i].node, below)) {
            return true;
        }
    }
    return false;
}

static bool has_parent(const struct node *n)
{
    const struct node *other;

    list_for_each (other, &n->graph->nodes, link) {
        for (unsigned i = 0; i < other->nchildren; i++) {
            if (other->children[i].node == n) {
                return true;
            }
        }
    }
    return false;
}

/* Nodes in between number what formats do of their own accord: only the outermost counts. */
uint64_t fault_next_opno(const struct node *n)
{
    uint64_t last = 0;
    const struct node *other;

    list_for_each (other, &n->graph->nodes, link) {
        if (other->last_opno > last && !has_parent(other) && is_above(other, n)) {
            last = other->last_opno;
        }
    }
    return last + 1;
}
