/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rule objects of blkdebug (options, configuration file, the QMP patch of 2014) as rules of the
 * engine. Where QEMU takes what it cannot mean, this gives a sentence.
 */
#include "base/json.h"
#include "base/size.h"
#include "drivers/fault/internal.h"

enum kind { INJECT_ERROR, SET_STATE };

static const char *const kind_names[] = {"inject-error", "set-state"};

/* An object of blkdebug, by its own option table. */
struct object {
    char *type, *event;
    int iotype;
    uint64_t state, new_state, error, sector;
    bool once, immediately;
};

#define O(member) offsetof(struct object, member)

static const char *const iotypes[] = {"read",         "write", "write-zeroes", "discard", "flush",
                                      "block-status", NULL};

#define STATE_MAX  FAULT_STATE_MAX
#define SECTOR_MAX (BLOCK_SIZE_MAX / SECTOR_SIZE - 1)

static const struct option inject_options[] = {
    {"event", OPT_STRING, O(event)},
    {"state", OPT_UINT, O(state), .max = STATE_MAX},
    {"iotype", OPT_ENUM, O(iotype), .values = iotypes},
    {"errno", OPT_UINT, O(error), .def = "5", .max = FAULT_ERRNO_MAX},
    {"sector", OPT_UINT, O(sector), .max = SECTOR_MAX},
    {"once", OPT_BOOL, O(once)},
    {"immediately", OPT_BOOL, O(immediately)},
    {0},
};

static const struct option state_options[] = {
    {"event", OPT_STRING, O(event)},
    {"state", OPT_UINT, O(state), .max = STATE_MAX},
    {"new_state", OPT_UINT, O(new_state), .max = STATE_MAX},
    {0},
};

/* The patch's clients send 0 and 1 for booleans. */
static void accept_numbers(json_t *o)
{
    static const char *const bools[] = {"once", "immediately"};

    for (size_t i = 0; i < ARRAY_SIZE(bools); i++) {
        json_t *v = json_object_get(o, bools[i]);
        if (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1)) {
            json_object_set_new(o, bools[i], json_boolean(json_integer_value(v)));
        }
    }
    json_t *sector = json_object_get(o, "sector"); /* -1: any */
    const char *text = json_string_value(sector);
    if (json_integer_value(sector) == -1 || (text && strcmp(text, "-1") == 0)) {
        json_object_del(o, "sector");
    }
}

/* ---- to a rule ---- */

static json_t *inject_rule(const struct object *o, bool has_sector, bool has_iotype)
{
    json_t *rule = json_pack("{s:s, s:s}", "action", o->error ? "error" : "pass", "event", o->event);
    int bad = 0;

    if (!rule) {
        return NULL;
    }
    if (o->state) {
        bad |= json_object_set_new(rule, "state", json_integer((json_int_t)o->state));
    }
    if (has_iotype) {
        bad |= json_object_set_new(rule, "op", json_string(iotypes[o->iotype]));
    }
    if (has_sector) { /* the sector's first byte has to be in the request */
        bad |= json_object_set_new(rule, "ranges",
                                   json_pack("[{s:I, s:I}]", "offset", (json_int_t)(o->sector * SECTOR_SIZE),
                                             "bytes", (json_int_t)1));
    }
    if (o->once && o->error) { /* errno 0 is never used up */
        bad |= json_object_set_new(rule, "count", json_integer(1));
    }
    if (o->error) {
        bad |= json_object_set_new(rule, "errno", json_integer((json_int_t)o->error));
        bad |= json_object_set_new(rule, "immediately", json_boolean(o->immediately));
    }
    if (bad) {
        json_decref(rule);
        return NULL;
    }
    return rule;
}

static json_t *state_rule(const struct object *o)
{
    json_t *rule = json_pack("{s:s, s:s, s:I}", "action", "state", "event", o->event, "new-state",
                             (json_int_t)o->new_state);

    if (rule && o->state && json_object_set_new(rule, "state", json_integer((json_int_t)o->state)) < 0) {
        json_decref(rule);
        return NULL;
    }
    return rule;
}

static int check_event(const struct object *o, struct err *err)
{
    if (!o->event) {
        return err_set(err, -EINVAL, "Missing event name for rule");
    }
    if (fault_event_by_name(o->event) == FAULT_NO_EVENT) {
        return err_set(err, -EINVAL, "invalid parameter value: %.100s", o->event);
    }
    return 0;
}

/* What a table does not name. */
static int refuse_rest(const json_t *rest, enum kind kind, struct err *err)
{
    const char *key = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)rest));

    return key ? err_set(err, -EINVAL, "[%s] section doesn't support the option '%.60s'", kind_names[kind],
                         key)
               : 0;
}

int fault_from_object(const json_t *given, bool set_state, json_t **ret_rule, struct err *err)
{
    enum kind kind = set_state ? SET_STATE : INJECT_ERROR;
    const struct option *table = set_state ? state_options : inject_options;
    struct object o = {0};

    if (!json_is_object(given)) {
        return err_set(err, -EINVAL, "Invalid parameter type for '%s', expected: object", kind_names[kind]);
    }
    AUTO_JSON json_t *rest = json_deep_copy(given);
    if (!rest) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    accept_numbers(rest);
    bool has_sector = json_object_get(rest, "sector") != NULL;
    bool has_iotype = json_object_get(rest, "iotype") != NULL;
    int r = options_apply(table, &o, rest, err);
    r = r < 0 ? r : refuse_rest(rest, kind, err);
    r = r < 0 ? r : check_event(&o, err);
    if (r == 0) {
        json_t *rule = set_state ? state_rule(&o) : inject_rule(&o, has_sector, has_iotype);
        if (rule) {
            *ret_rule = rule;
        } else {
            r = err_set(err, -ENOMEM, "no memory for a rule");
        }
    }
    options_free(table, &o);
    return r;
}

/* ---- the patch ---- */

/* Takes the member type out of @o. */
static int take_type(json_t *o, bool *ret_set_state, struct err *err)
{
    json_t *type = json_object_get(o, "type");
    const char *name = json_string_value(type);

    if (!type) {
        return err_set(err, -EINVAL, "Parameter 'type' is missing");
    }
    if (!name) {
        return err_set(err, -EINVAL, "Invalid parameter type for 'type', expected: string");
    }
    if (strcmp(name, kind_names[SET_STATE]) != 0 && strcmp(name, kind_names[INJECT_ERROR]) != 0) {
        return err_set(err, -EINVAL, "unknown type of rule: %.100s", name);
    }
    *ret_set_state = strcmp(name, kind_names[SET_STATE]) == 0;
    json_object_del(o, "type");
    return 0;
}

static int add_object(json_t *object, json_t *injects, json_t *states, struct err *err)
{
    AUTO_JSON json_t *o = json_deep_copy(object);
    json_t *rule = NULL;
    bool set_state = false;

    if (!json_is_object(object)) {
        return err_set(err, -EINVAL, "Invalid parameter type for 'member of rules', expected: dict");
    }
    int r = o ? take_type(o, &set_state, err) : err_set(err, -ENOMEM, "no memory for a rule");
    r = r < 0 ? r : fault_from_object(o, set_state, &rule, err);
    if (r == 0 && json_array_append_new(set_state ? states : injects, rule) < 0) {
        r = err_set(err, -ENOMEM, "no memory for a rule");
    }
    return r;
}

int fault_from_blkdebug(const json_t *objects, json_t **ret_rules, struct err *err)
{
    AUTO_JSON json_t *injects = json_array(), *states = json_array();

    if (!json_is_array(objects)) {
        return err_set(err, -EINVAL, "Invalid parameter type for 'rules', expected: list");
    }
    int r = injects && states ? 0 : err_set(err, -ENOMEM, "no memory for a rule");
    for (size_t i = 0; r == 0 && i < json_array_size(objects); i++) {
        r = add_object(json_array_get(objects, i), injects, states, err);
    }
    if (r == 0 && json_array_extend(injects, states) < 0) {
        r = err_set(err, -ENOMEM, "no memory for a rule");
    }
    if (r == 0) {
        *ret_rules = TAKE_PTR(injects);
    }
    return r;
}
