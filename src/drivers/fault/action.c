/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a rule can do to a request. A new action is one row here, and one function: decide, for what is
 * settled at the instant the request arrives, or perform, for what is done instead of passing it on.
 */
#include "drivers/fault/internal.h"

/* ---- error ---- */

static co_fn int error_perform(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    if (rule->when == FAULT_AFTER) {
        int ret = node_io(node_below(e->node), r);
        if (ret < 0) {
            return ret; /* it had an error of its own */
        }
    }
    if (!rule->immediately) {
        co_yield ();
    }
    return -rule->error;
}

/* ---- delay ---- */

static int delay_check(const struct fault_rule *rule, struct err *err)
{
    return rule->delay_ns > 0 ? 0 : err_set(err, -EINVAL, "the action delay needs the member delay, a time");
}

static void delay_decide(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                         struct fault_verdict *v)
{
    uint64_t *sum = rule->when == FAULT_AFTER ? &v->delay_after_ns : &v->delay_before_ns;

    if (__builtin_add_overflow(*sum, rule->delay_ns, sum)) {
        *sum = UINT64_MAX;
    }
}

/* ---- hang ---- */

static co_fn int hang_perform(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    return fault_hang(e, rule, r);
}

/* ---- state ---- */

static int state_check(const struct fault_rule *rule, struct err *err)
{
    return json_object_get(rule->spec, "new-state")
               ? 0
               : err_set(err, -EINVAL, "the action state needs the member new-state");
}

static void state_decide(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                         struct fault_verdict *v)
{
    if (!v->new_state) {
        v->new_state = rule;
    }
}

/* ---- the table ---- */

const struct fault_action fault_actions[] = {
    {"error", "the request fails with errno", .perform = error_perform},
    {"delay", "the request waits, then goes on to the rules behind", .goes_on = true, .check = delay_check,
     .decide = delay_decide},
    {"hang", "the request is held until it is released", .perform = hang_perform},
    {"pass", "the request goes to the device, whatever the rules behind say"},
    {"state", "the node changes its state, and the request goes on to the rules behind", .goes_on = true,
     .on_event = true, .check = state_check, .decide = state_decide},
    {0},
};

bool fault_action_doc(unsigned i, const char **ret_name, const char **ret_help)
{
    if (i + 1 >= ARRAY_SIZE(fault_actions)) {
        return false;
    }
    *ret_name = fault_actions[i].name;
    *ret_help = fault_actions[i].help;
    return true;
}
