/* SPDX-License-Identifier: BSD-2-Clause */
/* A rule from JSON, by the table of members. What is not understood is refused, never left out. */
#include "drivers/fault/internal.h"

#include <xxhash.h>

#include "base/json.h"

uint64_t fault_rule_key(const char *id)
{
    return XXH64(id, strlen(id), 0);
}

struct fault_rule *fault_rule_ref(struct fault_rule *rule)
{
    rule->refs++;
    return rule;
}

void fault_rule_unref(struct fault_rule *rule)
{
    if (!rule || --rule->refs > 0) {
        return;
    }
    json_decref(rule->spec);
    free(rule->id);
    free(rule->tag);
    free(rule->ranges);
    free(rule->data);
    free(rule->cut);
    free(rule->bins);
    free(rule->lane_free_ns);
    fault_file_free(rule->while_file);
    free(rule->run.repaired);
    fault_culprit_unref(rule->culprit);
    free(rule);
}

static int parse_member(struct fault_rule *rule, const struct fault_member *m, json_t *v, struct err *err)
{
    return m->parse ? m->parse(rule, m, v, err) : option_set(&m->opt, rule, v, err);
}

/* "error, delay" */
static bool names_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = list; *at; at += strspn(at, ", ")) {
        size_t n = strcspn(at, ", ");
        if (n == len && strncmp(at, word, n) == 0) {
            return true;
        }
        at += n;
    }
    return false;
}

/* A parameter of another action would silently do nothing. */
static int check_role(const struct fault_rule *rule, const struct fault_member *m, struct err *err)
{
    const char *action = fault_actions[rule->action].name;

    if (strcmp(m->role, "rule") == 0 || strcmp(m->role, "selector") == 0 || names_word(m->role, action)) {
        return 0;
    }
    return err_set(err, -EINVAL, "the action %s has no member %s (it belongs to %s)", action, m->opt.name,
                   m->role);
}

/* A selector that has a function is asked only by rules that use it. */
static void note_asks(struct fault_rule *rule, unsigned row)
{
    const struct fault_member *m = &fault_members[row];

    if (!m->holds && !m->turn) {
        return;
    }
    for (unsigned i = 0; i < rule->nasks; i++) {
        if (m->holds && fault_members[rule->asks[i]].holds == m->holds) {
            return; /* one function looks at several members */
        }
    }
    assert(rule->nasks < FAULT_ASKS_MAX);
    assert(m->turn || rule->nholds == rule->nasks);
    rule->asks[rule->nasks++] = (uint8_t)row;
    rule->nholds += m->holds != NULL;
}

static int parse_members(struct fault_rule *rule, json_t *spec, struct err *err)
{
    for (unsigned i = 0; fault_members[i].opt.name; i++) {
        const struct fault_member *m = &fault_members[i];
        json_t *v = json_object_get(spec, m->opt.name);
        if (!v) {
            if (m->opt.required) {
                return err_set(err, -EINVAL, "the member %s is missing", m->opt.name);
            }
            continue;
        }
        int r = parse_member(rule, m, v, err);
        if (r == 0) {
            r = check_role(rule, m, err);
        }
        if (r < 0) {
            return r;
        }
        rule->needs |= m->needs;
        note_asks(rule, i);
    }
    return 0;
}

static int refuse_unknown(const json_t *spec, struct err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)spec, key, v)
    {
        unsigned i = 0;
        while (fault_members[i].opt.name && strcmp(fault_members[i].opt.name, key) != 0) {
            i++;
        }
        if (!fault_members[i].opt.name) {
            return err_set(err, -EINVAL, "a rule has no member '%.60s'", key);
        }
    }
    return 0;
}

static int check_name(const char *what, const char *name, struct err *err)
{
    size_t len = strlen(name);

    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            return err_set(err, -EINVAL, "%s: control characters are not allowed", what);
        }
    }
    return len >= 1 && len <= FAULT_NAME_MAX
               ? 0
               : err_set(err, -EINVAL, "%s: expected 1 to %d characters", what, FAULT_NAME_MAX);
}

static int set_default(struct fault_rule *rule, char **place, const char *what, const char *value,
                       struct err *err)
{
    if (!*place && !(*place = strdup(value))) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    int r = check_name(what, *place, err);
    if (r == 0 && json_object_set_new(rule->spec, what, json_string(*place)) < 0) {
        r = err_set(err, -ENOMEM, "no memory for a rule");
    }
    return r;
}

static bool has(const struct fault_rule *rule, const char *member)
{
    return json_object_get(rule->spec, member) != NULL;
}

static bool looks_at_requests(const struct fault_rule *rule)
{
    for (unsigned i = 0; i < rule->nholds; i++) {
        const char *name = fault_members[rule->asks[i]].opt.name;
        if (strcmp(name, "event") != 0 && strcmp(name, "state") != 0) {
            return true;
        }
    }
    return has(rule, "op") || rule->ranges;
}

/* What can be refused because it could never act, or means nothing. */
static int check_sense(const struct fault_rule *rule, struct err *err)
{
    const struct fault_action *a = &fault_actions[rule->action];
    const unsigned without_range = 1u << REQ_FLUSH | 1u << REQ_TRUNCATE;

    if (rule->ranges && has(rule, "op") && (rule->ops & ~without_range) == 0) {
        return err_set(err, -EINVAL, "flush and truncate have no range: such a rule would never act");
    }
    if (rule->flags_set & rule->flags_clear) {
        return err_set(err, -EINVAL, "flags and without exclude each other: such a rule would never act");
    }
    if (rule->timer_ns.max > 0 && rule->event != FAULT_NO_EVENT) {
        return err_set(err, -EINVAL, "timer and event exclude each other");
    }
    if (a->on_event && (rule->event != FAULT_NO_EVENT || rule->timer_ns.max > 0) && looks_at_requests(rule)) {
        return err_set(err, -EINVAL,
                       "the action %s on %s sees no request: selectors that look at one mean nothing there",
                       a->name, rule->timer_ns.max > 0 ? "a timer" : "an event");
    }
    const char *dangling = !has(rule, "payload") ? has(rule, "payload-at")      ? "payload-at"
                                                   : has(rule, "payload-every") ? "payload-every"
                                                   : has(rule, "payload-is")    ? "payload-is"
                                                                                : NULL
                                                 : NULL;
    if (dangling) {
        return err_set(err, -EINVAL, "%s needs the member payload", dangling);
    }
    if (rule->data && has(rule, "op") && !(rule->ops & 1u << REQ_WRITE)) {
        return err_set(err, -EINVAL, "only writes carry data: such a rule would never act");
    }
    return 0;
}

/* What follows from the action. */
static int settle_action(struct fault_rule *rule, struct err *err)
{
    const struct fault_action *a = &fault_actions[rule->action];

    if (a->error && !has(rule, "errno")) {
        rule->error = a->error;
    }
    if (a->ops) {
        rule->ops =
            has(rule, "op") ? rule->ops & a->ops : a->ops & (a->ops_default ? a->ops_default : OPS_USUAL);
    }
    if (rule->ops == 0) {
        return err_set(err, -EINVAL, "the action %s does nothing to such operations", a->name);
    }
    return a->check ? a->check(rule, err) : 0;
}

/* What remains when all members are known to go together. */
static int prepare(struct fault_rule *rule, double scale, struct err *err)
{
    fault_scale_times(rule, scale * rule->time_scale);
    int r = fault_prepare_ranges(rule, err);
    return r < 0 ? r : fault_prepare_lanes(rule, err);
}

/* With a thousand rules their caches' lines are what a match costs. */
static struct fault_rule *rule_new(void)
{
    _Static_assert(offsetof(struct fault_rule, asks) + FAULT_ASKS_MAX <= 128, "two lines of 64 bytes");
    void *p;

    if (posix_memalign(&p, 64, sizeof(struct fault_rule)) != 0) {
        return NULL;
    }
    memset(p, 0, sizeof(struct fault_rule));
    struct fault_rule *rule = p;
    rule->refs = 1;
    return rule;
}

int fault_rule_parse(const json_t *spec, const char *default_id, double scale, struct fault_rule **ret,
                     struct err *err)
{
    if (!json_is_object(spec)) {
        return err_set(err, -EINVAL, "a rule is an object: expected {...}");
    }
    AUTO_FAULT_RULE struct fault_rule *rule = rule_new();
    if (!rule || !(rule->spec = json_deep_copy(spec))) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    rule->fresh = true;
    rule->enabled = true;
    rule->ops = OPS_USUAL;
    rule->event = FAULT_NO_EVENT;
    rule->error = EIO;
    rule->immediately = true;
    rule->shape = 2;
    rule->time_scale = 1;
    int r = refuse_unknown(rule->spec, err);
    r = r < 0 ? r : parse_members(rule, rule->spec, err);
    r = r < 0 ? r : set_default(rule, &rule->id, "id", default_id, err);
    r = r < 0 ? r : set_default(rule, &rule->tag, "tag", rule->id, err);
    r = r < 0 ? r : check_sense(rule, err);
    r = r < 0 ? r : fault_check_times(rule, err);
    r = r < 0 ? r : settle_action(rule, err);
    r = r < 0 ? r : prepare(rule, scale, err);
    if (r < 0) {
        return r;
    }
    rule->deadman_given = has(rule, "deadman");
    rule->key = fault_rule_key(rule->id);
    *ret = TAKE_PTR(rule);
    return 0;
}
