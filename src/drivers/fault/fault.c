/* SPDX-License-Identifier: BSD-2-Clause */
/* fault: the disk misbehaves by rules, which can be changed while it is in use. */
#include "base/json.h"
#include "drivers/fault/internal.h"

struct fault {
    struct fault_engine engine; /* first: fault_engine_of */
    json_t *rules, *scale;
};

#define F(member) offsetof(struct fault, member)

static const struct option fault_options[] = {
    {"rules", OPT_JSON, F(rules), .help = "file of rules (JSON), or the rules themselves as a list"},
    {"seed", OPT_UINT, F(engine.seed), .def = "1", .help = "of what rules leave to chance"},
    {"deadman", OPT_NS, F(engine.deadman_ns), .def = "300s", .max = UINT64_C(86400) * NS_PER_SEC,
     .runtime = true, .help = "longest time a request is held, then its rule is switched off; 0: no limit"},
    {"dry-run", OPT_BOOL, F(engine.dry_run), .def = "off", .runtime = true,
     .help = "count what the rules would do, and do nothing"},
    {"time-scale", OPT_JSON, F(scale),
     .help = "factor of all times of rules (default: serve's --time-scale, or 1)"},
    {"damage", OPT_UINT, F(engine.damage_limit), .def = "262144", .max = UINT64_C(1) << 30,
     .help = "damaged sectors to remember, so that a verifier can tell them from corruption"},
    {0},
};

/* ---- the node ---- */

static co_fn int load(struct node *n, const json_t *given, struct err *err)
{
    AUTO_JSON json_t *rules = NULL;
    const char *path = json_string_value(given);
    int r = path ? fault_read_file(n->graph, path, &rules, err) : 0;

    if (r == 0 && !path) {
        rules = json_incref((json_t *)(uintptr_t)given);
    }
    if (r < 0) {
        return err_prefix(err, "rules: ");
    }
    struct fault_change c = {.node = n, .kind = FAULT_REPLACE, .rules = rules};
    r = fault_apply(&c, 1, err);
    if (r < 0) {
        err_prefix(err, path ? "rules '%s': " : "rules: ", path);
    }
    return r;
}

static co_fn int fault_open(struct node *n, struct err *err)
{
    struct fault *f = n->state;

    fault_engine_init(&f->engine, n);
    /* Rules see requests as they come: what the device cannot do as it is, the gate below does. */
    n->limits.align = n->limits.mem_align = 1;
    n->limits.zero_align = n->limits.discard_align = 1;
    n->limits.max_transfer = n->limits.max_zero = n->limits.max_discard = 0;
    n->limits.supported |= REQ_FUA;
    int r = f->scale ? fault_parse_scale(f->scale, &f->engine.time_scale, err) : 0;
    if (r < 0) {
        return r;
    }
    fault_engine_look(&f->engine);
    return f->rules ? load(n, f->rules, err) : 0;
}

static co_fn void fault_close(struct node *n)
{
    struct fault *f = n->state;

    if (f->engine.node) {
        fault_engine_finish(&f->engine);
    }
}

/* fault:RULES:DEVICE; RULES may be empty. */
static int fault_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *rules = strchr(name, ':') + 1;
    const char *colon = strchr(rules, ':');

    if (!colon) {
        return err_set(err, -EINVAL, "fault: expected fault:RULES:DEVICE, where RULES may be empty");
    }
    if ((colon > rules &&
         json_object_set_new(options, "rules", json_stringn(rules, (size_t)(colon - rules))) < 0) ||
        json_object_set_new(options, "file", json_pack("{s:s}", "filename", colon + 1)) < 0) {
        return err_set(err, -EINVAL, "'%s': not a valid file name (not UTF-8)", name);
    }
    return 0;
}

static co_fn json_t *fault_info(struct node *n)
{
    return fault_status(n);
}

bool fault_is(const struct node *n)
{
    return n && n->drv->on_event == fault_engine_event;
}

struct node *fault_find(struct node *n)
{
    while (n && !fault_is(n)) {
        n = n->nchildren ? node_below(n) : NULL;
    }
    return n;
}

const struct driver driver_fault = {
    .name = "fault",
    .kind = DRIVER_FILTER,
    .summary = "The disk misbehaves by rules, which can be changed while it is in use.",
    .options = fault_options,
    .children = (const struct child_def[]){{"file", CHILD_FILTERED, .required = true, .probe = true}, {0}},
    .prefixes = (const char *const[]){"fault:", NULL},
    .parse_name = fault_parse_name,
    .state_size = sizeof(struct fault),
    .open = fault_open,
    .close = fault_close,
    .io = fault_engine_io,
    .on_event = fault_engine_event,
    .unhold = fault_engine_unhold,
    .explain = fault_engine_explain,
    .metrics = fault_metrics,
    .injects_delay = true,
    .info = fault_info,
};
