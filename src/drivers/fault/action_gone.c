/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk goes away: exports drop its clients, and what still reaches it fails, until the time is up, the
 * rule is removed or its tag released, or the dead-man timer brings it back.
 */
#include "block/presence.h"
#include "drivers/fault/actions.h"

/* One absence; a rule may cause several, and the disk is back when the last one is over. */
struct absence {
    struct list link; /* engine->away */
    struct fault_engine *engine;
    struct fault_rule *rule;
    struct timer timer; /* of down, or the dead man's */
};

static void look(struct fault_engine *e)
{
    const struct absence *a;
    enum presence p = PRESENCE_HERE;

    list_for_each (a, &e->away, link) {
        p = a->rule->how.away == GONE_MUTE || p == PRESENCE_MUTED ? PRESENCE_MUTED : PRESENCE_REFUSED;
    }
    node_set_presence(e->node, p);
    fault_engine_stand(e);
}

static void end(struct absence *a)
{
    list_del(&a->link);
    timer_disarm(&a->timer);
    fault_rule_unref(a->rule);
    free(a);
}

static void is_over(struct timer *t)
{
    struct absence *a = container_of(t, struct absence, timer);
    struct fault_engine *e = a->engine;

    if (a->rule->how.down_ns == 0) { /* who sent it away has not come back */
        a->rule->exhausted = a->rule->lapsed = true;
        fault_tell(e, FAULT_EXHAUSTED, a->rule, NULL, &(struct fault_event){.deadman = true});
    }
    end(a);
    look(e);
}

unsigned fault_away_return(struct fault_engine *e, const struct fault_rule *rule)
{
    struct absence *a, *next;
    unsigned n = 0;

    list_for_each_safe (a, next, &e->away, link) {
        if (a->rule == rule) {
            end(a);
            n++;
        }
    }
    if (n > 0) {
        look(e);
    }
    return n;
}

void fault_away_end(struct fault_engine *e)
{
    struct absence *a, *next;

    if (list_empty(&e->away)) {
        return;
    }
    list_for_each_safe (a, next, &e->away, link) {
        end(a);
    }
    look(e);
}

static void begin(struct fault_engine *e, struct fault_rule *rule)
{
    uint64_t deadman_ns = rule->deadman_given ? rule->deadman_ns : e->deadman_ns;
    uint64_t ns = rule->how.down_ns ? rule->how.down_ns : deadman_ns;
    struct absence *a = calloc(1, sizeof(*a));

    if (!a) {
        return;
    }
    *a = (struct absence){.engine = e, .rule = fault_rule_ref(rule), .timer.fire = is_over};
    list_add_tail(&e->away, &a->link);
    if (e->ending || rule->removed || (ns > 0 && timer_arm(&a->timer, loop_clock_ns() + ns) < 0)) {
        end(a); /* without the timer it might never be back */
        return;
    }
    look(e);
}

FAULT_PERFORM(fault_disconnect_perform)
{
    int ret = rule->when == FAULT_AFTER ? fault_pass(e, r) : 0;

    begin(e, rule);
    if (ret < 0) {
        return ret;
    }
    fault_damage_result(e, rule, r, -rule->error);
    return -rule->error;
}

int fault_away_io(struct fault_engine *e, struct req *r)
{
    struct absence *a = list_first(&e->away, struct absence, link);

    fault_damage_result(e, a->rule, r, -a->rule->error);
    return -a->rule->error;
}
