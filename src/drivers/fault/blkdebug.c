/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkdebug: QEMU's driver of that name, as a dialect of the fault engine. Its rules come from a
 * configuration file and from options; it also forces limits upon what is above it, and asserts that
 * they are kept.
 */
#include <limits.h>
#include <stdio.h>

#include "base/json.h"
#include "drivers/fault/internal.h"

struct blkdebug {
    struct fault_engine engine; /* first: fault_engine_of */
    char *config;
    json_t *inject_error, *set_state, *take_perms, *unshare_perms;
    uint64_t align, max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard;
};

#define B(member) offsetof(struct blkdebug, member)

static const struct option blkdebug_options[] = {
    {"config", OPT_STRING, B(config), .help = "configuration file of rules"},
    {"inject-error", OPT_JSON, B(inject_error), .help = "rules that make requests fail, a list"},
    {"set-state", OPT_JSON, B(set_state), .help = "rules that change the state, a list"},
    {"align", OPT_SIZE, B(align), .help = "alignment of requests in bytes, a power of two below 2^31"},
    {"max-transfer", OPT_SIZE, B(max_transfer), .help = "longest read or write, a multiple of align"},
    {"opt-write-zero", OPT_SIZE, B(opt_write_zero), .help = "unit of write-zeroes, a multiple of align"},
    {"max-write-zero", OPT_SIZE, B(max_write_zero), .help = "longest write-zeroes, a multiple of its unit"},
    {"opt-discard", OPT_SIZE, B(opt_discard), .help = "unit of discard, a multiple of align"},
    {"max-discard", OPT_SIZE, B(max_discard), .help = "longest discard, a multiple of its unit"},
    {"take-child-perms", OPT_JSON, B(take_perms), .help = "permissions; checked, without effect"},
    {"unshare-child-perms", OPT_JSON, B(unshare_perms), .help = "permissions; checked, without effect"},
    {"seed", OPT_UINT, B(engine.seed), .def = "1", .help = "of what rules added later leave to chance"},
    {"deadman", OPT_NS, B(engine.deadman_ns), .def = "300s", .max = UINT64_C(86400) * NS_PER_SEC,
     .runtime = true, .help = "as of the driver fault, for rules added later"},
    {0},
};

/* ---- names ---- */

/* blkdebug:CONFIG:IMAGE, split at the first colon; CONFIG may be empty. */
static int blkdebug_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *config = strchr(name, ':') + 1;
    const char *colon = strchr(config, ':');

    if (!colon) {
        return err_set(err, -EINVAL, "blkdebug requires both config file and image path");
    }
    if ((colon > config &&
         json_object_set_new(options, "config", json_stringn(config, (size_t)(colon - config))) < 0) ||
        json_object_set_new(options, "image", json_pack("{s:s}", "filename", colon + 1)) < 0) {
        return err_set(err, -EINVAL, "'%s': not a valid file name (not UTF-8)", name);
    }
    return 0;
}

static bool only_named(const struct node *n)
{
    for (const struct option *o = blkdebug_options; o->name; o++) {
        if (strcmp(o->name, "config") != 0 && json_object_get(n->options, o->name)) {
            return false;
        }
    }
    return true;
}

static char *blkdebug_make_name(const struct node *n)
{
    const struct blkdebug *b = n->state;
    const char *image = node_filename(node_below(n));
    char *name;

    if (!only_named(n) || strncmp(image, "json:", 5) == 0 || (b->config && strchr(b->config, ':')) ||
        asprintf(&name, "blkdebug:%s:%s", b->config ? b->config : "", image) < 0) {
        return NULL;
    }
    return name;
}

/* ---- rules ---- */

/* A list of objects, or one object (inject-error.event=...). */
static int add_objects(const json_t *given, bool set_state, json_t *rules, struct err *err)
{
    size_t n = json_is_array(given) ? json_array_size(given) : given ? 1 : 0;

    for (size_t i = 0; i < n; i++) {
        json_t *rule = NULL;
        int r =
            fault_from_object(json_is_array(given) ? json_array_get(given, i) : given, set_state, &rule, err);
        if (r < 0) {
            return r;
        }
        if (json_array_append_new(rules, rule) < 0) {
            return err_set(err, -ENOMEM, "no memory for a rule");
        }
    }
    return 0;
}

static uint64_t number_of(const json_t *rule, const char *member)
{
    return (uint64_t)json_integer_value(json_object_get(rule, member));
}

/* Mark as reached the states that the marked ones lead to; @reached: an object with states as keys. */
static bool spread(const json_t *states, json_t *reached)
{
    bool more = false;
    char key[24];
    size_t i;
    json_t *rule;

    json_array_foreach(states, i, rule)
    {
        uint64_t state = number_of(rule, "state");
        snprintf(key, sizeof(key), "%llu", (unsigned long long)state);
        bool can = state == 0 || json_object_get(reached, key);
        snprintf(key, sizeof(key), "%llu", (unsigned long long)number_of(rule, "new-state"));
        if (can && !json_object_get(reached, key)) {
            more |= json_object_set_new(reached, key, json_true()) == 0;
        }
    }
    return more;
}

static void warn_if_never(struct node *n, const json_t *rules, const json_t *reached)
{
    char text[ERR_TEXT_MAX], key[24];
    size_t i;
    json_t *rule;

    json_array_foreach(rules, i, rule)
    {
        uint64_t state = number_of(rule, "state");
        snprintf(key, sizeof(key), "%llu", (unsigned long long)state);
        if (state == 0 || json_object_get(reached, key)) {
            continue;
        }
        snprintf(
            text, sizeof(text),
            "blkdebug: the rule for event '%s' in state %llu can never act: the state begins as 1, and no "
            "set-state rule leads there",
            json_string_value(json_object_get(rule, "event")), (unsigned long long)state);
        n->graph->notice(n->graph, NOTICE_WARNING, text);
    }
}

/* A state that no rule leads to is most likely a mistake; but QMP may set it later. */
static void warn_of_states(struct node *n, const json_t *injects, const json_t *states)
{
    AUTO_JSON json_t *reached = json_pack("{s:b}", "1", 1);

    if (!reached || !n->graph->notice || n->graph->standin) {
        return;
    }
    while (spread(states, reached)) {
    }
    warn_if_never(n, injects, reached);
    warn_if_never(n, states, reached);
}

static co_fn int read_config(struct node *n, const struct blkdebug *b, json_t *injects, json_t *states,
                             struct err *err)
{
    AUTO_FREE char *text = NULL;

    if (!b->config || !*b->config) {
        return 0;
    }
    int r = fault_read_text(n->graph, b->config, &text, err);
    return r < 0 ? r : fault_parse_config(text, b->config, injects, states, err);
}

/* The order counts: errors of the file, errors of the options, then all that changes the state. */
static co_fn int load_rules(struct node *n, struct err *err)
{
    const struct blkdebug *b = n->state;
    AUTO_JSON json_t *injects = json_array(), *states = json_array();
    int r = injects && states ? 0 : err_set(err, -ENOMEM, "no memory for the rules");

    r = r < 0 ? r : read_config(n, b, injects, states, err);
    r = r < 0 ? r : add_objects(b->inject_error, false, injects, err);
    r = r < 0 ? r : add_objects(b->set_state, true, states, err);
    if (r < 0) {
        return r;
    }
    warn_of_states(n, injects, states);
    if (json_array_extend(injects, states) < 0) {
        return err_set(err, -ENOMEM, "no memory for the rules");
    }
    struct fault_change c = {.node = n, .kind = FAULT_REPLACE, .rules = injects};
    return fault_apply(&c, 1, err);
}

/* ---- limits ---- */

static int check_limit(const char *name, uint64_t value, uint64_t unit, struct err *err)
{
    return value < INT_MAX && value % unit == 0
               ? 0
               : err_set(err, -EINVAL, "Cannot meet constraints with %s %llu", name,
                         (unsigned long long)value);
}

static int check_limits(const struct node *n, struct err *err)
{
    const struct blkdebug *b = n->state;

    if (b->align && (b->align >= INT_MAX || !is_pow2(b->align))) {
        return err_set(err, -EINVAL, "Cannot meet constraints with align %llu", (unsigned long long)b->align);
    }
    uint64_t align = MAX(b->align, (uint64_t)node_below(n)->limits.align);
    const struct {
        const char *name;
        uint64_t value, unit;
    } limits[] = {
        {"max-transfer", b->max_transfer, align},
        {"opt-write-zero", b->opt_write_zero, align},
        {"max-write-zero", b->max_write_zero, MAX(b->opt_write_zero, align)},
        {"opt-discard", b->opt_discard, align},
        {"max-discard", b->max_discard, MAX(b->opt_discard, align)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        int r = check_limit(limits[i].name, limits[i].value, limits[i].unit, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void set_limits(struct node *n)
{
    const struct blkdebug *b = n->state;
    struct limits *l = &n->limits;

    l->align = b->align ? (uint32_t)b->align : 1;
    l->mem_align = 1;
    l->max_transfer = b->max_transfer;
    l->zero_align = (uint32_t)b->opt_write_zero;
    l->max_zero = b->max_write_zero;
    l->discard_align = (uint32_t)b->opt_discard;
    l->max_discard = b->max_discard;
    l->supported &= ~(unsigned)REQ_FUA; /* a flush follows, so that rules for flushes see it */
}

/* What the options force upon the gate is what reaches us. */
static void assert_kept(const struct node *n, const struct req *r)
{
    const struct limits *l = &n->limits;
    uint64_t end = r->offset + r->bytes, unit = l->align, max = 0;

    switch (r->op) {
    case REQ_READ:
    case REQ_WRITE:
        max = l->max_transfer;
        break;
    case REQ_ZERO:
        unit = l->zero_align;
        max = l->max_zero;
        break;
    case REQ_DISCARD:
        unit = l->discard_align;
        max = l->max_discard;
        break;
    default:
        return;
    }
    assert(r->offset % unit == 0);
    assert(end % unit == 0 || end >= n->size);
    assert(max == 0 || r->bytes <= max);
}

static co_fn int blkdebug_io(struct node *n, struct req *r)
{
    assert_kept(n, r);
    return fault_engine_io(n, r);
}

/* ---- permissions: there are none here, but their names are checked ---- */

static int check_perms(const json_t *given, const char *option, struct err *err)
{
    static const char *const names[] = {"consistent-read", "write", "write-unchanged", "resize"};
    size_t n = json_is_array(given) ? json_array_size(given) : given ? 1 : 0;

    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(given) ? json_array_get(given, i) : given);
        size_t k = 0;
        while (name && k < ARRAY_SIZE(names) && strcmp(names[k], name) != 0) {
            k++;
        }
        if (!name || k == ARRAY_SIZE(names)) {
            return err_set(err, -EINVAL,
                           "%s: expected a list of consistent-read, write, write-unchanged, resize", option);
        }
    }
    return 0;
}

/* ---- the node ---- */

static co_fn int blkdebug_open(struct node *n, struct err *err)
{
    struct blkdebug *b = n->state;

    fault_engine_init(&b->engine, n);
    b->engine.damage_limit = FAULT_DAMAGE_DEFAULT;
    b->engine.has_limits = true; /* and a FUA becomes a flush here */
    int r = load_rules(n, err);
    r = r < 0 ? r : check_limits(n, err);
    r = r < 0 ? r : check_perms(b->take_perms, "take-child-perms", err);
    r = r < 0 ? r : check_perms(b->unshare_perms, "unshare-child-perms", err);
    if (r == 0) {
        set_limits(n);
    }
    return r;
}

static co_fn void blkdebug_close(struct node *n)
{
    struct blkdebug *b = n->state;

    if (b->engine.node) {
        fault_engine_finish(&b->engine);
    }
}

static co_fn int blkdebug_allocated(struct node *n, uint64_t *ret_bytes)
{
    return -ENOTSUP; /* as in QEMU: "disk size: unavailable" */
}

const struct driver driver_blkdebug = {
    .name = "blkdebug",
    .kind = DRIVER_FILTER,
    .summary = "QEMU's blkdebug: errors, states and breakpoints on the events of a format driver.",
    .options = blkdebug_options,
    .children = (const struct child_def[]){{"image", CHILD_FILTERED, .required = true}, {0}},
    .prefixes = (const char *const[]){"blkdebug:", NULL},
    .probe_above = true,
    .parse_name = blkdebug_parse_name,
    .make_name = blkdebug_make_name,
    .state_size = sizeof(struct blkdebug),
    .open = blkdebug_open,
    .close = blkdebug_close,
    .io = blkdebug_io,
    .on_event = fault_engine_event,
    .unhold = fault_engine_unhold,
    .explain = fault_engine_explain,
    .metrics = fault_metrics,
    .injects_delay = true,
    .allocated_bytes = blkdebug_allocated,
};
