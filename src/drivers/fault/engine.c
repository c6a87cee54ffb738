/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests meet rules. What happens to a request is decided at the instant it arrives, without waiting;
 * then it is delayed, held, failed or passed on. Nothing is allocated here: what waits, waits in the
 * frame of its own coroutine.
 */
#include "block/eligible.h"
#include "drivers/fault/internal.h"

void fault_engine_init(struct fault_engine *e, struct node *n)
{
    e->node = n;
    e->state = 1;
    e->next_id = 1;
    list_init(&e->held);
    list_init(&e->sleeping);
    list_init(&e->waiting);
    list_init(&e->breaks);
    list_init(&e->stopped);
    list_init(&e->away);
    list_init(&e->overlay.sectors);
    list_init(&e->window.writes);
    co_queue_init(&e->window.made);
    list_init(&e->replays);
    list_init(&e->replaying);
    list_init(&e->passages);
    list_init(&e->damage.owed);
    co_mutex_init(&e->damage.paying);
    co_queue_init(&e->replayed);
    co_queue_init(&e->passing);
    co_mutex_init(&e->claiming);
}

void fault_engine_finish(struct fault_engine *e)
{
    fault_replays_end(e);
    fault_window_end(e);
    fault_timers_end(e);
    for (unsigned i = 0; i < e->list.nrules; i++) {
        fault_rule_unref(e->list.rules[i]);
    }
    free(e->list.rules);
    fault_index_free(e->list.index);
    fault_history_destroy(e->history);
    e->history = NULL;
    e->list = (struct fault_list){0};
    fault_breaks_end(e);
    fault_away_end(e);
    fault_overlay_finish(e);
    fault_generations_finish(e);
    fault_damage_finish(e);
}

/* With nothing to do the node need not even be entered. */
void fault_engine_look(struct fault_engine *e)
{
    const unsigned flags = OPEN_NO_FLUSH | OPEN_UNMAP | OPEN_WRITETHROUGH;
    struct node *n = e->node;
    const struct node *below = node_below(n);

    n->pass_by = !e->list.index && !e->break_events && !e->standing && !e->has_limits &&
                 n->read_only == below->read_only && (n->flags & flags) == (below->flags & flags) &&
                 !(n->flags & OPEN_WRITETHROUGH);
}

void fault_engine_count(struct fault_engine *e)
{
    e->nfailing = e->nastray = 0;
    for (unsigned i = 0; i < e->list.nrules; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        e->nfailing += rule->run.failing;
        e->nastray += fault_actions[rule->action].astray && rule->enabled;
    }
    fault_generations_look(e);
    fault_engine_stand(e);
}

/* Are requests followed on their way, because rules go astray, or did until just now? */
static bool follows(const struct fault_engine *e)
{
    return e->nastray > 0 || !list_empty(&e->replays) || !list_empty(&e->replaying) ||
           !list_empty(&e->passages);
}

void fault_engine_stand(struct fault_engine *e)
{
    bool standing = follows(e) || e->damage.nmedia > 0 || e->damage.nowed > 0 || e->overlay.count > 0 ||
                    e->nfailing > 0 || e->generations || !list_empty(&e->away) ||
                    !list_empty(&e->window.writes) || e->window.error;

    if (standing != e->standing) {
        e->standing = standing;
        fault_engine_look(e);
    }
}

/* ---- chance ---- */

uint64_t fault_draw(const struct fault_engine *e, const struct fault_rule *rule, uint64_t a, uint64_t b)
{
    return fault_hash(e, rule, ~a, b); /* not what the selector probability drew */
}

struct rng fault_rng(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
{
    struct rng rng;

    rng_init(&rng, fault_draw(e, rule, fault_drawn_as(r), r->offset << 3 | r->op));
    return rng;
}

/* ---- which rule ---- */

bool fault_rule_matches(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    if (rule->exhausted) {
        return false;
    }
    for (unsigned i = 0; r && i < rule->nholds; i++) {
        if (!fault_members[rule->asks[i]].holds(e, rule, r)) {
            return false;
        }
    }
    const struct fault_action *a = &fault_actions[rule->action];
    if (r && a->concerns && !a->concerns(e, rule, r)) {
        return false;
    }
    rule->c.matched++;
    rule->c.last_matched = r ? r->opno : rule->c.last_matched;
    bool turn = true;
    for (unsigned i = rule->nholds; turn && i < rule->nasks; i++) {
        turn = fault_members[rule->asks[i]].turn(e, rule, r);
    }
    if (UNLIKELY(!turn && !list_empty(&e->waiting))) {
        fault_waits_check(e);
    }
    return turn;
}

bool fault_rule_is_spent(const struct fault_rule *rule)
{
    return (rule->count > 0 && rule->c.fired >= rule->count) ||
           (rule->count_bytes > 0 && rule->fired_bytes >= rule->count_bytes);
}

void fault_rule_fires(struct fault_engine *e, struct fault_rule *rule, const struct req *r)
{
    rule->c.fired++;
    rule->c.last_fired = r ? r->opno : rule->c.last_fired;
    rule->fired_bytes += r ? r->bytes : 0;
    rule->exhausted = fault_rule_is_spent(rule);
    fault_tell(e, FAULT_INJECTED, rule, r, &(struct fault_event){.dry_run = e->dry_run});
    if (UNLIKELY(e->node->graph->decisions)) {
        fault_decisions_fired(e, rule, r);
    }
    if (rule->exhausted) {
        fault_tell(e, FAULT_EXHAUSTED, rule, r, &(struct fault_event){0});
    }
    if (UNLIKELY(!list_empty(&e->waiting))) {
        fault_waits_check(e);
    }
}

/* Returns whether the search ends here. */
static bool try_rule(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                     struct fault_verdict *v)
{
    const struct fault_action *a = &fault_actions[rule->action];

    bool governed = UNLIKELY(e->node->graph->decisions) && fault_decisions_governs(e, rule);
    if (!(governed ? fault_decisions_fires(e, rule, r) : fault_rule_matches(e, rule, r))) {
        return false;
    }
    if (a->harms && !eligible_damage(e->node, r->offset, r->bytes)) {
        return false; /* other copies of these bytes are damaged already */
    }
    if (a->decide) {
        a->decide(e, rule, r, v);
    }
    fault_rule_fires(e, rule, r);
    if (a->goes_on) {
        return false;
    }
    v->rule = a->perform ? rule : NULL;
    return true;
}

void fault_decide(struct fault_engine *e, struct req *r, struct fault_verdict *v)
{
    struct fault_index *x = e->list.index;
    struct fault_hits hits;
    bool decided = false;

    if (UNLIKELY(e->node->graph->decisions)) {
        fault_decisions_arrives(e, r);
    }
    fault_index_find(x, r, &hits);
    for (unsigned word = hits.first; word < hits.end; word++) {
        uint64_t bits = x->found[word];
        x->found[word] = 0;
        for (; bits && !decided; bits &= bits - 1) {
            decided = try_rule(e, e->list.rules[word * 64 + (unsigned)__builtin_ctzll(bits)], r, v);
        }
    }
    if (v->new_state) { /* all rules have seen the old one */
        fault_set_state(e, v->new_state->new_state, v->new_state, r);
    }
}

/* ---- waiting ---- */

struct fault_sleeper {
    struct list link;
    struct timer timer;
    struct co *co;
};

static void wake_sleeper(struct timer *t)
{
    struct fault_sleeper *s = container_of(t, struct fault_sleeper, timer);

    list_del(&s->link);
    co_wake(s->co);
}

void fault_wake_sleepers(struct fault_engine *e)
{
    struct fault_sleeper *s, *next;

    e->wakes++;
    list_for_each_safe (s, next, &e->sleeping, link) {
        timer_disarm(&s->timer);
        wake_sleeper(&s->timer);
    }
}

void fault_delay(struct fault_engine *e, uint64_t ns)
{
    struct fault_sleeper s = {.timer.fire = wake_sleeper, .co = co_self()};
    uint64_t now = loop_clock_ns();

    if (e->ending || timer_arm(&s.timer, ns > UINT64_MAX - now ? UINT64_MAX : now + ns) < 0) {
        return; /* without memory for a timer nobody would wake it */
    }
    list_add_tail(&e->sleeping, &s.link);
    e->nsleeping++;
    co_suspend();
    e->nsleeping--;
}

/* ---- holding ---- */

static void let_go(struct fault_held *h, enum fault_outcome outcome, int error, bool deadman)
{
    struct fault_engine *e = h->engine;

    assert(h->held);
    h->held = false;
    h->outcome = outcome;
    h->error = outcome == FAULT_ERROR ? (error ? error : EIO) : 0;
    list_del(&h->link);
    e->nheld--;
    timer_disarm(&h->deadman);
    fault_tell(e, FAULT_HANG_END, h->rule, h->req,
               &(struct fault_event){.error = h->error,
                                     .outcome = outcome,
                                     .deadman = deadman,
                                     .delay_ns = loop_now_ns() - h->since_ns});
    co_wake(h->co);
}

unsigned fault_release_rule(struct fault_engine *e, const struct fault_rule *rule, bool deadman)
{
    struct fault_held *h, *tmp;
    unsigned n = 0;

    list_for_each_safe (h, tmp, &e->held, link) {
        if (h->rule == rule) {
            let_go(h, FAULT_COMPLETE, 0, deadman);
            n++;
        }
    }
    return n + fault_away_return(e, rule);
}

unsigned fault_held_by(const struct fault_engine *e, const struct fault_rule *rule)
{
    const struct fault_held *h;
    unsigned n = 0;

    list_for_each (h, &e->held, link) {
        n += h->rule == rule;
    }
    return n;
}

/* Who set the rule has not come back: the disk works again. */
static void deadman_fires(struct timer *t)
{
    struct fault_held *h = container_of(t, struct fault_held, deadman);
    struct fault_engine *e = h->engine;
    struct fault_rule *rule = fault_rule_ref(h->rule);

    rule->exhausted = rule->lapsed = true;
    fault_tell(e, FAULT_EXHAUSTED, rule, NULL, &(struct fault_event){.deadman = true});
    fault_release_rule(e, rule, true);
    fault_rule_unref(rule);
}

/* Suspended until it is let go, with the outcome in @h; false: it cannot be, now. */
static co_fn bool hold(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                       struct fault_held *h)
{
    uint64_t deadman_ns = rule->deadman_given ? rule->deadman_ns : e->deadman_ns;

    *h = (struct fault_held){.engine = e,
                             .rule = rule,
                             .req = r,
                             .since_ns = loop_clock_ns(),
                             .deadman.fire = deadman_fires,
                             .co = co_self(),
                             .held = true};
    if (e->ending || rule->removed || rule->lapsed ||
        (deadman_ns > 0 && timer_arm(&h->deadman, h->since_ns + deadman_ns) < 0)) {
        return false; /* without the timer the disk might stay wedged */
    }
    list_add_tail(&e->held, &h->link);
    e->nheld++;
    fault_tell(e, FAULT_HANG_BEGIN, rule, r, &(struct fault_event){0});
    co_suspend();
    assert(!h->held);
    return true;
}

int fault_hang(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    struct fault_held h;
    bool performed = rule->hold == FAULT_HOLD_REPLY;
    int ret = performed ? fault_pass(e, r) : 0;

    if (hold(e, rule, r, &h) && h.outcome != FAULT_COMPLETE) {
        ret = h.outcome == FAULT_ERROR ? -h.error : REQ_DROPPED;
        fault_damage_result(e, rule, r, ret);
        return ret;
    }
    return performed ? ret : fault_pass(e, r);
}

const char *const fault_outcome_names[] = {"complete", "error", "drop", NULL};

static bool tag_is_known(const struct fault_engine *e, const char *tag)
{
    for (unsigned i = 0; i < e->list.nrules; i++) {
        if (strcmp(e->list.rules[i]->tag, tag) == 0) {
            return true;
        }
    }
    return false;
}

int fault_release(struct node *n, const char *tag, enum fault_outcome outcome, int error, struct err *err)
{
    struct fault_engine *e = fault_engine_of(n);
    struct fault_held *h, *tmp;
    int count = 0;

    if (error < 0 || error > (int)FAULT_ERRNO_MAX || (error && outcome != FAULT_ERROR)) {
        return err_set(err, -EINVAL, "hang-release: errno is a number from 1 to %u, for the outcome error",
                       FAULT_ERRNO_MAX);
    }
    loop_clock_ns();
    list_for_each_safe (h, tmp, &e->held, link) {
        if (!tag || strcmp(h->rule->tag, tag) == 0) {
            let_go(h, outcome, error, false);
            count++;
        }
    }
    for (unsigned i = 0; i < e->list.nrules; i++) {
        struct fault_rule *rule = e->list.rules[i];
        count += !tag || strcmp(rule->tag, tag) == 0 ? (int)fault_away_return(e, rule) : 0;
    }
    if (count == 0 && tag && !tag_is_known(e, tag)) {
        return err_set(err, -ENOENT, "node '%s' has no rule and no held request tagged '%s'", node_name(n),
                       tag);
    }
    return count;
}

void fault_engine_unhold(struct node *n, bool ending)
{
    struct fault_engine *e = fault_engine_of(n);
    struct fault_held *h, *tmp;

    if (!e->node) {
        return; /* it was never opened */
    }
    e->ending |= ending;
    if (ending) {
        fault_away_end(e);
        fault_replays_drop(e, NULL);
    }
    list_for_each_safe (h, tmp, &e->held, link) {
        let_go(h, FAULT_COMPLETE, 0, false);
    }
    fault_wake_sleepers(e);
    fault_breaks_end(e);
    if (ending) {
        fault_timers_end(e);
        fault_waits_end(e);
    }
}

/* ---- requests ---- */

static bool makes_contents(enum req_op op)
{
    return op == REQ_WRITE || op == REQ_ZERO;
}

static co_fn void settle_window(struct fault_engine *e, const struct req *r)
{
    if (UNLIKELY(!list_empty(&e->window.writes)) && r->op != REQ_FLUSH) {
        bool all = r->op == REQ_TRUNCATE;
        fault_window_settle(e, all ? 0 : r->offset, all ? UINT64_MAX : r->offset + r->bytes);
    }
}

int fault_below(struct fault_engine *e, struct req *r)
{
    uint64_t seq = e->overlay.seq;

    settle_window(e, r);
    int ret = node_io(node_below(e->node), r);
    if (LIKELY(e->overlay.count == 0) || ret < 0) {
        return ret;
    }
    if (r->op == REQ_READ) {
        fault_overlay_patch(e, r);
    } else if (makes_contents(r->op) || r->op == REQ_DISCARD) {
        fault_overlay_covered(e, r, seq);
    }
    return ret;
}

static co_fn int flush(struct fault_engine *e, struct req *r)
{
    uint64_t seq = e->overlay.seq;
    int ret = e->nfailing ? fault_failing_flush(e, r) : 0;

    ret = ret < 0 ? ret : fault_window_flush(e, r);
    ret = ret < 0 ? ret : node_io(node_below(e->node), r);
    if (e->overlay.count > 0) {
        fault_overlay_flushed(e, seq);
    }
    return ret;
}

int fault_pass(struct fault_engine *e, struct req *r)
{
    uint64_t seq = e->damage.seq;
    int ret = r->op == REQ_FLUSH                        ? flush(e, r)
              : e->generations && makes_contents(r->op) ? fault_generations_write(e, r)
                                                        : fault_below(e, r);

    if (UNLIKELY(e->damage.nmedia) && ret == 0 && makes_contents(r->op)) {
        fault_damage_overwritten(e, r, seq);
    }
    return ret;
}

/* The media, or what a rule puts in its place; rules may make it take a multiple of its time. A disk that has
 * gone acknowledges nothing, and nothing can be done to it: there no rule takes the place of its error. */
static co_fn int perform(struct fault_engine *e, struct req *r, const struct fault_verdict *v)
{
    uint64_t began = v->times > 0 ? loop_clock_ns() : 0;
    const struct fault_action *a = v->rule && fault_disk_is_there(e) ? &fault_actions[v->rule->action] : NULL;
    if (a) {
        settle_window(e, r);
    }
    int ret = a ? a->perform(e, v->rule, r) : fault_pass(e, r);

    if (v->times > 0 && !(a && a->holds) && v->wakes == e->wakes) {
        double more = (double)(loop_clock_ns() - began) * (v->times - 1);
        fault_delay(e, more < (double)FAULT_TIME_MAX_NS ? (uint64_t)more : FAULT_TIME_MAX_NS);
    }
    return ret;
}

int fault_carry_out(struct fault_engine *e, struct req *r, struct fault_verdict *v)
{
    if (e->dry_run) {
        *v = (struct fault_verdict){0};
    }
    /* it may be removed meanwhile */
    AUTO_FAULT_RULE UNUSED struct fault_rule *rule = v->rule ? fault_rule_ref(v->rule) : NULL;
    v->wakes = e->wakes;
    if (v->delay_before_ns) {
        fault_delay(e, v->delay_before_ns);
    }
    int ret = perform(e, r, v);
    if (v->delay_after_ns && v->wakes == e->wakes) {
        fault_delay(e, v->delay_after_ns);
    }
    return ret;
}

static co_fn int by_rules(struct fault_engine *e, struct req *r)
{
    const struct fault_index *x = e->list.index;
    struct fault_verdict v = {0};

    if (UNLIKELY(x && x->needs)) {
        return fault_with_needs(e, r);
    }
    if (LIKELY(!x) || x->classes[r->op].nalways + x->classes[r->op].nspans == 0) {
        return LIKELY(!e->standing) ? node_io(node_below(e->node), r) : fault_pass(e, r);
    }
    fault_decide(e, r, &v);
    if (!v.rule && (v.delay_before_ns | v.delay_after_ns) == 0 && v.times == 0) {
        return fault_pass(e, r); /* the rules have looked, and none acts */
    }
    return fault_carry_out(e, r, &v);
}

/* What rules have done, or may do to other places, concerns this one, too. */
static co_fn int with_standing(struct fault_engine *e, struct req *r)
{
    struct fault_passage p;

    e->damage.last_opno = MAX(e->damage.last_opno, r->opno);
    if (!list_empty(&e->away)) {
        return fault_away_io(e, r);
    }
    if (UNLIKELY(e->damage.nowed > 0)) {
        fault_damage_pay(e);
    }
    if (!follows(e)) {
        return by_rules(e, r);
    }
    fault_passage_enter(e, &p, r);
    int ret = by_rules(e, r);
    fault_passage_leave(e, &p);
    fault_engine_stand(e);
    if (ret == 0 && makes_contents(r->op)) {
        fault_replays_tick(e);
    }
    return ret;
}

int fault_engine_io(struct node *n, struct req *r)
{
    struct fault_engine *e = fault_engine_of(n);

    if (UNLIKELY(n->eligible) && (r->op == REQ_WRITE || r->op == REQ_ZERO)) {
        eligible_heal(n, r->offset, r->bytes); /* unless a rule damages it again */
    }
    return UNLIKELY(e->standing) ? with_standing(e, r) : by_rules(e, r);
}
