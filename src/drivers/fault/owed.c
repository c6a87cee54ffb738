/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Something was done wrong to the media, and then what lies there could not be looked at, as the disk below
 * lost its power in between. That is owed: it is looked at when the disk is there again, before the next
 * request; whatever lies there then counts as the rule's.
 */
#include "block/presence.h"
#include "drivers/fault/internal.h"

#define OWED_MAX                                                                                             \
    4096u /* ranges: a disk that is without power long has all that was under way, and no more               \
           */

struct owed {
    struct list link;
    struct fault_rule *rule;
    struct req req; /* where, and the operation: nothing else */
    const char *what;
};

static void drop(struct fault_engine *e, struct owed *o)
{
    list_del(&o->link);
    e->damage.nowed--;
    fault_rule_unref(o->rule);
    free(o);
}

void fault_damage_owe(struct fault_engine *e, struct fault_rule *rule, const struct req *r, const char *what)
{
    struct owed *o = e->damage.nowed < OWED_MAX ? malloc(sizeof(*o)) : NULL;

    if (!o) {
        fault_damage_untold(e, "too many damaged sectors cannot be read");
        return;
    }
    *o = (struct owed){.rule = fault_rule_ref(rule),
                       .req = {.op = r->op, .opno = r->opno, .offset = r->offset, .bytes = r->bytes},
                       .what = what};
    list_add_tail(&e->damage.owed, &o->link);
    e->damage.nowed++;
    fault_engine_stand(e);
}

bool fault_disk_is_there(const struct fault_engine *e)
{
    return node_presence(node_below(e->node)) == PRESENCE_HERE;
}

void fault_damage_pay(struct fault_engine *e)
{
    struct owed *o;

    co_mutex_lock(&e->damage.paying);
    while (fault_disk_is_there(e) && (o = list_first(&e->damage.owed, struct owed, link))) {
        int ret = fault_damage_look_behind(e, o->rule, &o->req, NULL, o->what);
        if (ret < 0 && !fault_disk_is_there(e)) {
            break; /* gone again */
        }
        if (ret < 0) { /* and it will not be read another time */
            fault_damage_untold(e, "a damaged sector cannot be read");
        }
        drop(e, o);
    }
    co_mutex_unlock(&e->damage.paying);
    fault_engine_stand(e);
}

void fault_owed_finish(struct fault_engine *e)
{
    struct owed *o, *next;

    list_for_each_safe (o, next, &e->damage.owed, link) {
        drop(e, o);
    }
}
