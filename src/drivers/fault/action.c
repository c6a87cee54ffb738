/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a rule can do to a request. A new action is one row here, and one function: decide, for what is
 * settled at the instant the request arrives, or perform, for what is done instead of passing it on.
 */
#include "drivers/fault/actions.h"

/* ---- delay ---- */

static void wait_more(const struct fault_rule *rule, struct fault_verdict *v, uint64_t ns)
{
    uint64_t *sum = rule->when == FAULT_AFTER ? &v->delay_after_ns : &v->delay_before_ns;

    if (__builtin_add_overflow(*sum, ns, sum)) {
        *sum = UINT64_MAX;
    }
}

static void delay_decide(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                         struct fault_verdict *v)
{
    rule->drawn_ns = fault_delay_ns(e, rule, r);
    wait_more(rule, v, rule->drawn_ns);
    if (rule->times > 0) {
        v->times = (v->times > 0 ? v->times : 1) * rule->times;
    }
}

/* ---- stall ---- */

static int stall_check(struct fault_rule *rule, struct err *err)
{
    return json_object_get(rule->spec, "until") || json_object_get(rule->spec, "on-for")
               ? 0
               : err_set(err, -EINVAL,
                         "the action stall needs the member until, or on-for and off-for: it lasts so long");
}

static void stall_decide(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                         struct fault_verdict *v)
{
    uint64_t end = fault_window_end_ns(rule), now = loop_now_ns();

    rule->drawn_ns = end > now ? end - now : 0;
    wait_more(rule, v, rule->drawn_ns);
}

/* ---- hang ---- */

static co_fn int hang_perform(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    return fault_hang(e, rule, r);
}

/* ---- state ---- */

static int state_check(struct fault_rule *rule, struct err *err)
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
    {"error", "the request fails with errno", .error = EIO, .check = fault_error_check,
     .perform = fault_error_perform},
    {"delay", "the request waits, then goes on to the rules behind", .goes_on = true, .waits = true,
     .check = fault_check_delay, .decide = delay_decide},
    {"stall", "the request waits until the time of the rule is over, then goes on to the rules behind",
     .goes_on = true, .waits = true, .check = stall_check, .decide = stall_decide},
    {"hang", "the request is held until it is released", .holds = true, .perform = hang_perform},
    {"power-cut", "the power of write caches is cut, and the request has no answer",
     .perform = fault_cut_perform},
    {"pass", "the request goes to the device, whatever the rules behind say"},
    {"state", "the node changes its state, and the request goes on to the rules behind", .goes_on = true,
     .on_event = true, .check = state_check, .decide = state_decide},

    {"deferred-error", "a write is accepted, and a flush fails", .harms = true, .error = EIO,
     .ops = OPS_CHANGE, .perform = fault_deferred_perform},
    {"lost", "the request is acknowledged, and not done", .harms = true, .ops = OPS_CHANGE | 1u << REQ_FLUSH,
     .ops_default = OPS_CHANGE, .check = fault_lost_check, .perform = fault_lost_perform},
    {"torn", "a part of a write is done, and all of it acknowledged", .harms = true, .ops = OPS_DATA,
     .check = fault_torn_check, .perform = fault_torn_perform},
    {"misdirect", "the request goes to another place", .harms = true, .astray = true,
     .ops = OPS_DATA | 1u << REQ_READ, .check = fault_misdirect_check, .concerns = fault_misdirect_concerns,
     .perform = fault_misdirect_perform},
    {"corrupt", "bits or bytes are not what was written, or not what lies there", .harms = true,
     .astray = true, .ops = OPS_RW, .check = fault_corrupt_check, .perform = fault_corrupt_perform},
    {"reorder", "writes are acknowledged, and made in another order", .harms = true, .ops = OPS_DATA,
     .check = fault_reorder_check, .perform = fault_reorder_perform},
    {"replay", "a write is made, and again later", .harms = true, .astray = true, .ops = OPS_DATA,
     .perform = fault_replay_perform},
    {"stale", "a read shows what was there before", .harms = true, .ops = 1u << REQ_READ,
     .check = fault_stale_check, .concerns = fault_stale_concerns, .perform = fault_stale_perform},
    {"bad-sectors", "reads of latent bad sectors fail, until they are written", .harms = true, .error = EIO,
     .ops = OPS_DATA | 1u << REQ_READ, .check = fault_bad_check, .concerns = fault_bad_concerns,
     .perform = fault_bad_perform},
    {"read-only", "what changes the device fails", .error = EROFS, .ops = OPS_CHANGE | 1u << REQ_TRUNCATE,
     .perform = fault_refuse_perform},
    {"full", "there is no space from size on", .error = ENOSPC, .ops = OPS_DATA, .check = fault_size_check,
     .perform = fault_refuse_perform},
    {"shrink", "the device ends at size", .error = EIO, .ops = OPS_RANGED, .ops_default = OPS_RANGED,
     .check = fault_size_check, .perform = fault_refuse_perform},
    {"wrap", "the device begins again at size", .harms = true, .astray = true, .ops = OPS_RANGED,
     .ops_default = OPS_RANGED, .check = fault_wrap_check, .concerns = fault_wrap_concerns,
     .perform = fault_wrap_perform},
    {"disconnect", "the disk goes away, with its clients, for a time or until it is released", .error = EIO,
     .perform = fault_disconnect_perform},
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
