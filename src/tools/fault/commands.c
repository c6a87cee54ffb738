/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands of `blkproof fault`: each is one or two commands of QMP, and a line for people. */
#include "base/json.h"
#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "tools/fault/fault.h"

json_t *fault_target(const struct fault_tool *f, json_t *args)
{
    args = args ? args : json_object();
    if (f->disk) {
        json_object_set_new(args, "device", json_string(f->disk));
    }
    if (f->node) {
        json_object_set_new(args, "node-name", json_string(f->node));
    }
    return args;
}

/* Execute, and print the result if it is wanted as JSON. */
static co_fn int execute(struct fault_tool *f, const char *command, json_t *args, json_t **ret_result,
                         struct err *err)
{
    int r = client_execute(&f->client, command, fault_target(f, args), ret_result, err);

    if (r == 0 && f->json) {
        fault_show_json(*ret_result);
    }
    return r;
}

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* What holds from now on. */
static void say_operation(const struct fault_tool *f, const char *what, const json_t *result)
{
    if (!f->json) {
        printf("%s, from operation %lld on\n", what, number_of(result, "operation"));
    }
}

FAULT_COMMAND(fault_cmd_list)
{
    AUTO_JSON json_t *list = NULL;
    json_t *info;
    size_t i;
    int r = execute(f, "query-faults", NULL, &list, err);

    if (r < 0 || f->json) {
        return r;
    }
    json_array_foreach(list, i, info)
    {
        fault_show_node(info);
    }
    if (json_array_size(list) == 0) {
        puts("no disk has a fault node");
    }
    return 0;
}

/* ---- changing ---- */

static co_fn int set_dry_run(struct fault_tool *f, bool on, struct err *err)
{
    AUTO_JSON json_t *result = NULL;

    return client_execute(&f->client, "fault-dry-run", fault_target(f, json_pack("{s:b}", "enable", (int)on)),
                          &result, err);
}

/* The rule of the options, and those of the file. */
static co_fn int gather_rules(struct fault_tool *f, json_t **ret_rules, struct err *err)
{
    json_t *rules = NULL;

    if (!f->rules && !f->has_rule) {
        return err_set(err, -EINVAL, "add: which rule? (see 'blkproof fault --help')");
    }
    int r = f->nimports ? fault_import(f, err) : 0;
    r = r == 0 && f->rules ? fault_read_file(NULL, f->rules, &rules, err) : r;
    if (r < 0) {
        return r;
    }
    rules = rules ? rules : json_array();
    if (f->has_rule) {
        fault_rule_finish(f->rule);
        json_array_append(rules, f->rule);
    }
    *ret_rules = rules;
    return 0;
}

FAULT_COMMAND(fault_cmd_add)
{
    AUTO_JSON json_t *rules = NULL, *result = NULL;
    char what[64];

    int r = gather_rules(f, &rules, err);
    r = r == 0 && f->dry_run ? set_dry_run(f, true, err) : r;
    if (r < 0) {
        return r;
    }
    json_t *args = json_pack("{s:O}", "rules", rules);
    if (f->before) {
        json_object_set_new(args, "before", json_string(f->before));
    }
    if (f->replace) {
        json_object_set_new(args, "replace", json_true());
    }
    r = execute(f, "fault-add", args, &result, err);
    if (r == 0) {
        const char *preset = json_string_value(json_object_get(f->rule, "preset"));
        if (preset && !f->rules) {
            snprintf(what, sizeof(what), "preset %.40s%s", preset, f->dry_run ? " (dry run)" : "");
        } else {
            snprintf(what, sizeof(what), "%zu rule%s%s", json_array_size(rules),
                     json_array_size(rules) == 1 ? "" : "s", f->dry_run ? " (dry run)" : "");
        }
        say_operation(f, what, result);
    }
    return r;
}

FAULT_COMMAND(fault_cmd_remove)
{
    AUTO_JSON json_t *result = NULL, *actions = json_array();

    json_t *tag = json_object_get(f->rule, "tag");

    if (f->all + (f->nwords > 0) + (tag != NULL) != 1) {
        return err_set(err, -EINVAL, "remove: which rules? Name them, or say --all, or --tag=NAME");
    }
    if (f->all || tag) {
        json_t *args = tag ? json_pack("{s:O}", "tag", tag) : json_pack("{s:b}", "all", 1);
        int r = execute(f, "fault-remove", args, &result, err);
        if (r == 0) {
            say_operation(f, tag ? "removed" : "all rules removed", result);
        }
        return r;
    }
    for (int i = 0; i < f->nwords; i++) { /* all or none */
        json_array_append_new(actions,
                              fault_target(f, json_pack("{s:s, s:s}", "type", "remove", "id", f->words[i])));
    }
    int r =
        client_execute(&f->client, "fault-transaction", json_pack("{s:O}", "actions", actions), &result, err);
    if (r == 0 && f->json) {
        fault_show_json(result);
    } else if (r == 0) {
        say_operation(f, "removed", json_array_get(result, 0));
    }
    return r;
}

FAULT_COMMAND(fault_cmd_set)
{
    AUTO_JSON json_t *result = NULL;

    if (!f->has_rule) {
        return err_set(err, -EINVAL, "set: what shall change? (see 'blkproof fault --help')");
    }
    int r = execute(f, "fault-set", json_pack("{s:s, s:O}", "id", f->words[0], "set", f->rule), &result, err);
    if (r == 0) {
        say_operation(f, "changed", result);
    }
    return r;
}

FAULT_COMMAND(fault_cmd_dry_run)
{
    AUTO_JSON json_t *result = NULL;
    bool on = strcmp(f->words[0], "on") == 0;

    if (!on && strcmp(f->words[0], "off") != 0) {
        return err_set(err, -EINVAL, "dry-run: expected on or off, not '%s'", f->words[0]);
    }
    int r = execute(f, "fault-dry-run", json_pack("{s:b}", "enable", (int)on), &result, err);
    if (r == 0) {
        say_operation(f, on ? "rules only count" : "rules act", result);
    }
    return r;
}

/* ---- held requests, states ---- */

FAULT_COMMAND(fault_cmd_release)
{
    AUTO_JSON json_t *result = NULL;
    const char *error = json_string_value(json_object_get(f->rule, "errno"));
    json_t *number = json_object_get(f->rule, "errno");
    const char *outcome = number ? "error" : f->drop ? "drop" : "complete";

    if (f->drop && (number || f->complete)) {
        return err_set(err, -EINVAL, "release: --complete, --error and --drop exclude each other");
    }
    json_t *args = json_pack("{s:s}", "outcome", outcome);
    if (f->nwords > 0) {
        json_object_set_new(args, "tag", json_string(f->words[0]));
    }
    if (number) {
        json_object_set(args, "errno", number);
    }
    int r = execute(f, "hang-release", args, &result, err);
    if (r == 0 && !f->json) {
        long long n = number_of(result, "released");
        printf("%lld request%s released%s%s\n", n, n == 1 ? "" : "s", error ? " with " : "",
               error ? error : "");
    }
    return r;
}

static co_fn int list_states(struct fault_tool *f, struct err *err)
{
    AUTO_JSON json_t *list = NULL;
    json_t *state;
    size_t i;
    int r = execute(f, "query-states", NULL, &list, err);

    if (r < 0 || f->json) {
        return r;
    }
    json_array_foreach(list, i, state)
    {
        const char *device = json_string_value(json_object_get(state, "device"));
        printf("%s%snode %s: state %lld\n", device, *device ? ", " : "",
               json_string_value(json_object_get(state, "node-name")), number_of(state, "state"));
    }
    return 0;
}

FAULT_COMMAND(fault_cmd_state)
{
    AUTO_JSON json_t *result = NULL;
    char *end;

    if (f->nwords == 0) {
        return list_states(f, err);
    }
    errno = 0;
    long long state = strtoll(f->words[0], &end, 0);
    if (*end || end == f->words[0] || errno) {
        return err_set(err, -EINVAL, "state: '%s' is not a number", f->words[0]);
    }
    int r = execute(f, "state-set", json_pack("{s:I}", "state", (json_int_t)state), &result, err);
    if (r == 0) {
        say_operation(f, "state set", result);
    }
    return r;
}

/* ---- waiting ---- */

FAULT_COMMAND(fault_cmd_wait)
{
    AUTO_JSON json_t *result = NULL;
    json_t *count = json_object_get(f->rule, "count");
    json_t *args = json_pack("{s:s, s:s}", "id", f->words[0], "counter", f->matched ? "matched" : "fired");

    if (count) {
        json_object_set(args, "count", count);
    }
    if (f->timeout) {
        json_object_set_new(args, "timeout", json_string(f->timeout));
    }
    int r = execute(f, "wait-for", args, &result, err);
    if (r < 0) {
        return r;
    }
    if (!json_is_true(json_object_get(result, "reached"))) {
        return err_set(err, -ETIMEDOUT, "rule '%s' has fired %lld of %lld times by now", f->words[0],
                       number_of(result, "fired"), number_of(result, "matched"));
    }
    if (!f->json) {
        printf("%s has fired %lld of %lld times, last at operation %lld\n", f->words[0],
               number_of(result, "fired"), number_of(result, "matched"), number_of(result, "last-fired"));
    }
    return 0;
}

/* ---- the table ---- */

const struct fault_command fault_commands[] = {
    {"list", "", "the rules of a disk, or of all, and their counters", 0, 0, false, fault_cmd_list},
    {"add", "", "add the rule that options describe, and those of --rules", 0, 0, false, fault_cmd_add},
    {"ranges", "", "where --file, --metadata and --journal lie, for range-sets of rule files", 0, 0, true,
     fault_cmd_ranges},
    {"presets", "[NAME]", "disks that failed, as rules: all, or one with its parameters", 0, 1, true,
     fault_cmd_presets},
    {"remove", "ID...", "remove these rules, all or none; or --all, or --tag=NAME", 0, INT32_MAX, false,
     fault_cmd_remove},
    {"set", "ID", "change what options say in a rule; its counters stay", 1, 1, false, fault_cmd_set},
    {"release", "[TAG]", "let go of held requests: --complete, --error=NAME or --drop", 0, 1, false,
     fault_cmd_release},
    {"state", "[N]", "show the states, or set one", 0, 1, false, fault_cmd_state},
    {"watch", "", "show events and counters as they come, until Ctrl-C", 0, 0, false, fault_cmd_watch},
    {"wait", "ID", "wait until the rule has fired --count times (1)", 1, 1, false, fault_cmd_wait},
    {"power-cut", "[DISK...] [survivors=...]", "cut the power of write caches, all at one instant", 0,
     INT32_MAX, false, fault_cmd_power_cut},
    {"power-on", "[DISK...]", "give disks their power back", 0, INT32_MAX, false, fault_cmd_power_on},
    {"report", "[DISK...]", "what the last power cut has lost, and whether that was legal", 0, INT32_MAX,
     false, fault_cmd_report},
    {"copies", "NAME F DISK...", "disks are copies: never damage more than F at the same place", 2, INT32_MAX,
     false, fault_cmd_copies},
    {"dry-run", "on|off", "rules count what they would do, and do nothing", 1, 1, false, fault_cmd_dry_run},
    {0},
};
