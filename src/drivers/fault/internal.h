/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault engine's own declarations.
 *
 *   member.c    the table of what a rule may say: one row, and one function, for each selector
 *   words.c     members that say something by name
 *   range.c     ranges of the disk
 *   select.c    the functions of selectors
 *   interval.c  numbers, sizes, times, and from-to of them
 *   time.c      windows, cycles, what grows
 *   delay.c     how long a request waits
 *   payload.c   what a write carries
 *   needs.c     what is done for every request because a rule asks for it
 *   history.c   what was written, and not read or flushed since
 *   file.c      while a file exists
 *   timer.c     states that change by themselves
 *   action.c    the table of actions: one row, and one function, each
 *   action_*.c  those that need more than a few lines (actions.h)
 *   claim.c     what rules do to other places meets nobody there
 *   replay.c    writes that are made again
 *   window.c    writes in another order
 *   generations.c  what was there before, for stale reads
 *   overlay.c   lost writes that a cache still shows
 *   damage.c    what was done to sectors and requests, to recognise it: explain
 *   decisions.c, decision_*.c  what was decided: a log, and repeating it
 *   rule.c      a rule from JSON, and back
 *   index.c     from an operation and a range to the rules that may concern it
 *   preset.c    from a preset to its rules
 *   presets.c   the table of presets
 *   change.c    changes: drafted, then made at one instant
 *   engine.c    requests: which rule acts; waiting, holding and letting go
 *   event.c     events of the node above: arming, states, breakpoints
 *   show.c      lists, counters, events as JSON; waiting for a rule
 *   dialect.c   the rule objects of blkdebug, as rules
 *   config.c    the configuration file of blkdebug
 *   rulefile.c  files of rules
 *   fault.c     the driver fault
 *   blkdebug.c  the driver blkdebug
 */
#ifndef DRIVERS_FAULT_INTERNAL_H
#define DRIVERS_FAULT_INTERNAL_H

#include "block/driver.h"
#include "drivers/fault/fault.h"

#define FAULT_ERRNO_MAX      4095u /* as the kernel's MAX_ERRNO */
#define FAULT_STATE_MAX      INT32_MAX
#define FAULT_NO_EVENT       (-1)
#define FAULT_TIME_MAX_NS    (UINT64_C(86400) * NS_PER_SEC) /* a day: what waits longer is held */
#define FAULT_SCALE_MAX      1000000
#define FAULT_DAMAGE_DEFAULT 262144u /* sectors: 20 MiB of memory at most */
#define FAULT_ASKS_MAX       36      /* selectors that have a function */

struct fault_engine;
struct fault_rule;
struct fault_verdict;
struct fault_bin;
struct fault_data;
struct fault_file;
struct fault_history;
struct wcache_cut;

/* Bytes [start, end). */
struct fault_range {
    uint64_t start, end;
};

/* [min, max]; max 0: not given. */
struct fault_interval {
    uint64_t min, max;
};

/* What costs something for every request, and is done only while a rule asks for it. */
enum fault_needs {
    FAULT_NEEDS_EPOCH = 1 << 0,   /* flushes, and writes since the last one, are counted */
    FAULT_NEEDS_HISTORY = 1 << 1, /* what was written, and read since, is remembered */
    FAULT_NEEDS_SPLIT = 1 << 2,   /* requests are cut where ranges begin and end */
};

/* ---- tables ---- */

typedef bool fault_ask(const struct fault_engine *e, struct fault_rule *rule, const struct req *r);

struct fault_member {
    struct option opt; /* name, help; with parse NULL also type, place and range */
    const char *role;  /* "selector", "rule", or the actions whose parameter it is: "error, delay" */
    int (*parse)(struct fault_rule *rule, const struct fault_member *m, const json_t *v, struct err *err);
    fault_ask *holds; /* a selector that looks at the request; NULL: the index has answered, or turn */
    fault_ask *turn;  /* a selector that looks at how often the rule has matched */
    unsigned needs;   /* what the engine must keep for it: enum fault_needs */
};
extern const struct fault_member
    fault_members[]; /* turn is asked in this order, and stands behind all holds; ends with {0} */

struct fault_action {
    const char *name, *help;
    bool harms;    /* the bytes are not right afterwards: see eligible.h */
    bool goes_on;  /* the rules behind are asked too */
    bool waits;    /* it makes requests wait for a time */
    bool holds;    /* how long it takes has nothing to do with the device */
    bool astray;   /* what it does to other places than the request's must meet nobody: claim.c */
    bool on_event; /* with the selector event it acts on the event itself, not on the requests after it */
    int error;     /* it makes requests fail, with this unless the rule says otherwise; 0: it does not */
    /* Operations it can do something to (0: all), and those that a rule without op concerns (0: the usual
     * ones, of these). */
    unsigned ops, ops_default;
    /* Are its parameters there? May set what follows from them. */
    int (*check)(struct fault_rule *rule, struct err *err);
    /* Has it anything to do to this request, which all selectors fit? NULL: yes. */
    bool (*concerns)(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r);
    /* At the instant the request arrives. NULL: nothing. */
    void (*decide)(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                   struct fault_verdict *v);
    /* Perform the request in its way; NULL: as always. */
    co_fn int (*perform)(struct fault_engine *e, struct fault_rule *rule, struct req *r);
};
extern const struct fault_action fault_actions[]; /* ends with {0} */

/* ---- rules ---- */

/* Parameters of actions.h: the rows of member.c say what they mean. */
struct fault_how {
    int persist, mode, where, retry, data, report, away, repair, visible, flush;
    uint64_t persist_bytes, unit, size, bits, bit, byte, value, length, one_in, retries, retry_ns, down_ns;
    uint64_t lba_bit, cache_bytes, age, after, window;
    int64_t by;
    bool keep;
};

/* What an action remembers of its rule; stays when the rule is changed. */
struct fault_run {
    uint64_t *repaired; /* sectors that were written since: a set (bad-sectors) */
    uint32_t nrepaired, repaired_max;
    bool failing; /* the next flush fails (deferred-error) */
};

/* What a rule concerns that names no operation: not looking, as in blkdebug, and not resizing. */
#define OPS_USUAL (1u << REQ_READ | 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD | 1u << REQ_FLUSH)

struct fault_rule {
    /* What every match looks at comes first, in two lines of the processor's cache: see rule.c. */
    struct fault_counters c;
    uint64_t skip, nth, every, count;
    uint64_t state;
    int action;     /* index in fault_actions */
    int event;      /* enum block_event, or FAULT_NO_EVENT */
    bool armed;     /* its event has happened, and none since that armed others */
    bool exhausted; /* the budget is used up, or the dead-man timer has switched it off */
    uint8_t nholds, nasks;
    uint8_t asks[FAULT_ASKS_MAX]; /* rows of fault_members to ask: nholds for holds, the rest for turn */

    unsigned refs;
    json_t *spec; /* its members as given; id and tag always */
    char *id, *tag;
    uint64_t key; /* of the generator: follows from the id */
    bool enabled;

    /* the other selectors */
    unsigned ops;                    /* bit per enum req_op */
    unsigned flags_set, flags_clear; /* enum req_flags */
    struct fault_range *ranges;      /* NULL: everywhere */
    unsigned nranges;
    uint64_t chance; /* of 2^64 */
    int overlap;
    unsigned needs; /* enum fault_needs */
    struct fault_interval size, in_flight, client, epoch_write, flush_epoch;
    uint64_t aligned, unaligned;
    uint64_t skip_bytes, count_bytes, matched_bytes, fired_bytes;
    struct fault_data *data;
    int data_is;
    uint64_t data_at, data_every;
    unsigned history; /* bits */
    uint64_t written_within_ns;
    uint64_t flushes_before; /* when it was added */
    struct fault_file *while_file;

    /* when: time.c */
    bool begun;        /* added_ns is set */
    uint64_t added_ns; /* on the loop's clock */
    uint64_t from_ns, until_ns, at_ns, probability_ramp_ns;
    struct fault_interval on_for, off_for;
    uint64_t phase, phase_end_ns; /* even phases are on; 0: none yet */
    double time_scale;

    /* how long: delay.c */
    int distribution;
    uint64_t delay_min_ns, delay_max_ns, deviation_ns, p99_ns, quantum_ns, delay_ramp_ns;
    double shape, times, bytes_per_second;
    struct fault_bin *bins;
    unsigned nbins;
    uint64_t lanes, *lane_free_ns;
    uint64_t drawn_ns; /* last: for events */

    /* states that change by themselves: timer.c */
    struct fault_interval timer_ns;
    struct timer timer;
    struct fault_engine *engine; /* of the timer */

    struct wcache_cut *cut; /* action power-cut; NULL: as it is by default */
    int cut_all;            /* fault_cut_disks */
    unsigned lie;           /* bits: FAULT_LIE_... */
    uint64_t lie_age_ns;

    /* parameters of actions */
    int error; /* errno, positive */
    int when, hold;
    bool immediately;
    uint64_t delay_ns, deadman_ns, new_state;
    bool deadman_given;
    struct fault_how how;

    struct fault_run run;
    struct fault_culprit *culprit; /* who it is in the damage map; NULL: it has damaged nothing yet */
    bool lapsed;                   /* it is exhausted by the timer */
    bool removed;                  /* no longer in the list */
    bool fresh;                    /* added by the change that is being made */
    struct fault_rule *replaces;   /* in a draft: the rule in the list that gets these members */
};

enum { FAULT_BEFORE, FAULT_AFTER };            /* when */
enum { FAULT_HOLD_REQUEST, FAULT_HOLD_REPLY }; /* hold */

/* @spec is not changed. */
/* Times are multiplied by @scale. */
int fault_rule_parse(const json_t *spec, const char *default_id, double scale, struct fault_rule **ret,
                     struct err *err);
uint64_t fault_rule_key(const char *id);
struct fault_rule *fault_rule_ref(struct fault_rule *rule);
void fault_rule_unref(struct fault_rule *rule); /* NULL is fine */
static inline void cleanup_fault_rule(struct fault_rule **rule)
{
    fault_rule_unref(*rule);
}
#define AUTO_FAULT_RULE CLEANUP(cleanup_fault_rule)

/* ---- the index: rules are known by their place in the list ---- */

struct fault_span {
    uint64_t start, end;
    uint64_t max_end; /* of the subtree of which this is the middle */
    uint32_t rule;
};

struct fault_class {  /* the rules of one operation */
    uint32_t *always; /* those without ranges */
    struct fault_span *spans;
    uint64_t *starts; /* of the spans, close together, when no two overlap; else NULL */
    unsigned nalways, nspans;
};

struct fault_index {
    unsigned nwords;
    unsigned needs;     /* of all rules: enum fault_needs */
    uint64_t *found;    /* a bit per rule; all clear between look-ups */
    uint64_t events;    /* a bit per event that some rule names */
    uint32_t *by_event; /* rules that have one, by event, then by place */
    uint32_t event_first[BLOCK_EVENT_COUNT + 1];
    struct fault_class classes[REQ_OP_COUNT];
};

int fault_index_make(struct fault_rule *const *rules, unsigned nrules, struct fault_index **ret);
void fault_index_free(struct fault_index *x); /* NULL is fine */

struct fault_hits { /* words of found that have something */
    unsigned first, end;
};
/* Mark the rules that may concern the request in x->found. The caller clears what it takes, and
 * must not wait before all is clear. */
void fault_index_find(struct fault_index *x, const struct req *r, struct fault_hits *ret);

/* ---- the engine ---- */

struct fault_list { /* what a change replaces as one */
    struct fault_rule **rules;
    unsigned nrules;
    struct fault_index *index; /* NULL: no rules */
};

/* What is known about one sector, or one result (damage.c). */
struct fault_trace {
    uint64_t sector, hash, opno;
    uint64_t until;            /* what a sector showed before: to requests up to this one */
    uint64_t seq;              /* of the look that saw it: a later one knows better */
    struct fault_culprit *who; /* NULL: the place is free */
    const char *what;
};

struct fault_damage {
    struct fault_trace *media; /* hash table by sector, of media_max places (a power of two) */
    uint32_t nmedia, media_max;
    struct fault_trace
        *wire;          /* what recent requests were given: sets of FAULT_WIRE_WAYS, by sector and opno */
    uint64_t last_opno; /* of the requests that have come */
    uint64_t seq;       /* of the look that began last */
    uint64_t forgotten; /* damage for which there was no room: nobody will explain it */
    struct list owed;   /* what could not be looked at yet (owed.c) */
    uint32_t nowed;
    struct co_mutex paying;
};

/* Lost writes that are still shown (overlay.c). */
struct fault_overlay {
    struct fault_shown **buckets; /* by sector; NULL until the first one */
    struct list sectors;          /* in the order of arrival */
    uint64_t seq;
    uint32_t count;
};

/* Writes that are made in another order (window.c). */
struct fault_window {
    struct list writes;
    uint64_t bytes;
    struct co_queue made;
    int error; /* of one that had been acknowledged: for the next flush */
    struct fault_rule *culprit;
    bool settling; /* the coroutine that makes them all is alive */
};

struct fault_engine { /* the state of a node begins with it */
    struct node *node;
    struct fault_list list;
    uint64_t state;
    uint64_t seed, deadman_ns;      /* options */
    bool dry_run;                   /* option */
    bool ending;                    /* nothing is held or delayed any more */
    bool has_limits;                /* the driver forces limits upon the gate */
    double time_scale;              /* 0: as the graph's */
    uint64_t flushes, epoch_writes; /* that have arrived; writes since the last flush */
    unsigned wakes;                 /* how often all that was delayed went on */
    bool lying;                     /* rules have made write caches lie */
    struct fault_history *history;  /* NULL: no rule asks */
    unsigned next_id;
    struct list held;      /* struct fault_held */
    struct list sleeping;  /* struct fault_sleeper */
    struct list waiting;   /* waits for a counter: show.c */
    struct list breaks;    /* breakpoints not hit yet: event.c */
    struct list stopped;   /* and hit */
    uint64_t break_events; /* a bit per event that may have a breakpoint */
    unsigned nheld, nsleeping, nbreaks;
    struct fault_damage damage;
    uint64_t damage_limit; /* option: sectors */
    struct fault_overlay overlay;
    struct fault_window window;
    struct fault_generations *generations; /* NULL: no rule wants them */
    struct list replays, replaying;        /* waiting; under way: replay.c */
    uint64_t replay_bytes;
    struct co_queue replayed;
    struct list passages; /* requests on their way, while there are rules that go astray: claim.c */
    struct fault_range claimed;
    struct co_mutex claiming;
    struct co_queue passing;
    unsigned nastray;  /* such rules */
    struct list away;  /* while it has entries, the disk has gone: action_gone.c */
    unsigned nfailing; /* rules that wait for a flush to fail */
    bool standing;     /* requests that no rule concerns need a look, too: fault_pass */
};

/* Before anything else; never fails. */
void fault_engine_init(struct fault_engine *e, struct node *n);
co_fn void fault_engine_finish(struct fault_engine *e);
/* When opened, and after each change of rules or breakpoints. */
void fault_engine_look(struct fault_engine *e);
static inline struct fault_engine *fault_engine_of(const struct node *n)
{
    return n->state;
}

/* The io, on_event and unhold of drivers with an engine. */
co_fn int fault_engine_io(struct node *n, struct req *r);
co_fn void fault_engine_event(struct node *n, enum block_event event);
void fault_engine_unhold(struct node *n, bool ending);

struct fault_verdict {
    uint64_t delay_before_ns, delay_after_ns;
    unsigned wakes;                     /* of the engine; another later: nothing delays any more */
    double times;                       /* as long as the media takes; 0: once */
    const struct fault_rule *new_state; /* that changes the state; the first wins; NULL: none */
    struct fault_rule *rule;            /* that performs the request; NULL: as always */
};

/* What is delayed goes on now. */
void fault_wake_sleepers(struct fault_engine *e);
/* Which rules act; at once, when there is an index. */
void fault_decide(struct fault_engine *e, struct req *r, struct fault_verdict *v);
co_fn int fault_carry_out(struct fault_engine *e, struct req *r, struct fault_verdict *v);
/* needs.c: both, for rules that need more than the request. */
co_fn int fault_with_needs(struct fault_engine *e, struct req *r);
/* The rule has matched: its counters, and whether it is its turn. */
bool fault_rule_matches(struct fault_engine *e, struct fault_rule *rule, const struct req *r);
/* ... and acts: counters, budget, events, waits. */
/* Its budget is used up. */
bool fault_rule_is_spent(const struct fault_rule *rule);
void fault_rule_fires(struct fault_engine *e, struct fault_rule *rule, const struct req *r);
/* Perform it below, where a rule has not changed what that does: what a cache shows stays right. */
co_fn int fault_below(struct fault_engine *e, struct req *r);
/* Perform the request below, as if there were no rule, and keep the books of what rules have done before. */
co_fn int fault_pass(struct fault_engine *e, struct req *r);
/* Rules have changed, or what they remember. */
void fault_engine_count(struct fault_engine *e);
/* Something stands, or does not any more: see standing. */
void fault_engine_stand(struct fault_engine *e);
/* Wait; less if the node is about to close. */
co_fn void fault_delay(struct fault_engine *e, uint64_t ns);
/* Chance: a function of the seed, the rule, and two numbers. */
uint64_t fault_draw(const struct fault_engine *e, const struct fault_rule *rule, uint64_t a, uint64_t b);
/* A generator for what is done to one request: follows from its number, operation and place. */
struct rng fault_rng(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r);
enum { FAULT_LIE_FLUSH = 1 << 0, FAULT_LIE_FUA = 1 << 1 };
/* Rules have changed: write caches of the disk lie as one of them says, or are as they were. */
void fault_lies_look(struct fault_engine *e);
co_fn int fault_cut_perform(struct fault_engine *e, struct fault_rule *rule, struct req *r);
co_fn int fault_hang(struct fault_engine *e, struct fault_rule *rule, struct req *r);
/* Let go of what a rule holds; @deadman: it was the timer. */
unsigned fault_release_rule(struct fault_engine *e, const struct fault_rule *rule, bool deadman);
unsigned fault_held_by(const struct fault_engine *e, const struct fault_rule *rule);

/* A number that follows from the seed, the rule, @a and @b. */
uint64_t fault_hash(const struct fault_engine *e, const struct fault_rule *rule, uint64_t a, uint64_t b);

/* The operation number from which chance follows. */
static inline uint64_t fault_drawn_as(const struct req *r)
{
    return UNLIKELY(r->drawn_as) ? r->drawn_as : r->opno;
}

/* decisions.c: while graph->decisions is set */
/* The rules will be asked about the request, at once. */
void fault_decisions_arrives(struct fault_engine *e, struct req *r);
/* Not the selectors of the rule decide, but a log ... */
bool fault_decisions_governs(const struct fault_engine *e, const struct fault_rule *rule);
/* ... and this is what it says. */
bool fault_decisions_fires(struct fault_engine *e, struct fault_rule *rule, const struct req *r);
/* The rule acts; on @r, or (NULL) on an event. */
void fault_decisions_fired(struct fault_engine *e, const struct fault_rule *rule, const struct req *r);

/* time.c */
uint64_t fault_window_end_ns(const struct fault_rule *rule); /* of a window that holds now */
double fault_ramp(const struct fault_rule *rule, uint64_t ramp_ns);
int fault_check_times(struct fault_rule *rule, struct err *err);
void fault_scale_times(struct fault_rule *rule, double scale);

/* delay.c */
extern const char *const fault_distributions[];
uint64_t fault_delay_ns(const struct fault_engine *e, struct fault_rule *rule, const struct req *r);
int fault_check_delay(struct fault_rule *rule, struct err *err);
int fault_prepare_lanes(struct fault_rule *rule, struct err *err);

/* range.c */
void fault_sort_ranges(struct fault_rule *rule); /* in order, and what touches is one */
/* Of sorted ones the first that ends behind @offset; or nranges. */
unsigned fault_range_at(const struct fault_rule *rule, uint64_t offset);
int fault_prepare_ranges(struct fault_rule *rule, struct err *err);
/* The first border of a range of the rule in (@offset, @end); else @end. */
uint64_t fault_next_border(const struct fault_rule *rule, uint64_t offset, uint64_t end);

/* history.c: what was written to the node, in blocks of 4 KiB */
int fault_history_create(struct fault_history **ret);
void fault_history_destroy(struct fault_history *h); /* NULL is fine */
/* The request has been looked at by the rules; what it gave back. */
void fault_history_arrives(struct fault_history *h, const struct req *r);
void fault_history_done(struct fault_history *h, const struct req *r, uint64_t epoch, int ret);
uint64_t fault_history_epoch(const struct fault_history *h);

/* timer.c: rules of the action state that act when the node has been in their state for a time. */
void fault_timers_look(struct fault_engine *e);  /* rules have changed */
void fault_timers_enter(struct fault_engine *e); /* the state has */
void fault_timers_end(struct fault_engine *e);
void fault_timer_stop(struct fault_rule *rule);

/* file.c */
void fault_file_free(struct fault_file *f); /* NULL is fine */

/* claim.c */

struct fault_passage { /* in the frame of the request */
    struct list link;
    struct co *co;
    struct fault_range range;
    bool claims; /* it waits for a claim */
};
co_fn void fault_passage_enter(struct fault_engine *e, struct fault_passage *p, const struct req *r);
void fault_passage_leave(struct fault_engine *e, struct fault_passage *p);
/* Have [@start, @end) for oneself; before anything is done for the request. */
co_fn void fault_claim(struct fault_engine *e, uint64_t start, uint64_t end);
void fault_unclaim(struct fault_engine *e);

/* replay.c */

/* A change of contents has been made: those whose time has come go off. */
void fault_replays_tick(struct fault_engine *e);
/* The rule has been removed (NULL: each has): what waits is not made any more. */
void fault_replays_drop(struct fault_engine *e, const struct fault_rule *rule);
co_fn void fault_replays_end(struct fault_engine *e);

/* window.c */

/* What touches this range and was acknowledged is made now. */
co_fn void fault_window_settle(struct fault_engine *e, uint64_t start, uint64_t end);
/* What a flush covers is made; what failed, and was acknowledged. */
co_fn int fault_window_flush(struct fault_engine *e, const struct req *r);
void fault_window_rule_removed(struct fault_engine *e);
co_fn void fault_window_end(struct fault_engine *e);

/* generations.c */

void fault_generations_look(struct fault_engine *e); /* rules have changed */
void fault_generations_finish(struct fault_engine *e);
/* A write or zero, keeping what it replaces. */
co_fn int fault_generations_write(struct fault_engine *e, struct req *r);

/* overlay.c */

#define FAULT_OVERLAY_MAX 32768u /* sectors: 16 MiB of data */

void fault_overlay_finish(struct fault_engine *e);
/* @r, a write or zero, is lost; the cache shows it until it is evicted, there being more than @max_bytes in
 * it, or a flush comes. */
co_fn int fault_overlay_put(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                            bool until_flush, uint64_t max_bytes);
/* A flush has covered what came up to @seq. */
co_fn void fault_overlay_flushed(struct fault_engine *e, uint64_t seq);
/* What a read got from below becomes what the cache shows. */
void fault_overlay_patch(const struct fault_engine *e, const struct req *r);
/* It does not show writes of these sectors any more that came up to @seq. */
void fault_overlay_forget(struct fault_engine *e, const struct req *r, uint64_t seq);
/* A good write, zero or discard has replaced what came up to @seq. */
void fault_overlay_covered(struct fault_engine *e, const struct req *r, uint64_t seq);

/* damage.c */

#define FAULT_WIRE_WAYS 4u
#define FAULT_WIRE_SETS                                                                                      \
    65536u /* with the ways: sectors and results of requests that are remembered, 10 MiB */

void fault_damage_finish(struct fault_engine *e);
void fault_culprit_unref(struct fault_culprit *who); /* NULL is fine */
/* The rule made the request fail, or end, with @result. */
void fault_damage_result(struct fault_engine *e, struct fault_rule *rule, const struct req *r, int result);
/* What the client of @r, a read, gets for the sectors that touch this range of it is not what lies there.
 * Sectors of which it reads a part only are left out. */
void fault_damage_wire(struct fault_engine *e, struct fault_rule *rule, const struct req *r, uint64_t offset,
                       uint64_t bytes, const char *what);
/* Look at what lies below, in the range of @r, after something was done wrong. It should be as @good, a write
 * or zero of that range, would have made it; NULL: all of it is damaged. 0, or -errno of the look: then the
 * request must not be acknowledged, or the look is owed. */
co_fn int fault_damage_look(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                            const struct req *good, const char *what);
/* The same, while a cache still shows something else there. */
co_fn int fault_damage_look_behind(struct fault_engine *e, struct fault_rule *rule, const struct req *r,
                                   const struct req *good, const char *what);
/* Damage that nobody will explain: told once. */
void fault_damage_untold(struct fault_engine *e, const char *why);

/* owed.c */

/* Nothing below has gone. */
bool fault_disk_is_there(const struct fault_engine *e);
/* The range of @r is to be looked at once the disk is there again. */
void fault_damage_owe(struct fault_engine *e, struct fault_rule *rule, const struct req *r, const char *what);
co_fn void fault_damage_pay(struct fault_engine *e);
void fault_owed_finish(struct fault_engine *e);
/* A good write of this range has succeeded, which began when damage.seq was @seq: what has been remembered
 * since may lie over it. */
co_fn void fault_damage_overwritten(struct fault_engine *e, const struct req *r, uint64_t seq);
/* The explain of drivers with an engine. */
bool fault_engine_explain(const struct node *n, const struct blame *b, struct explanation *ret);

/* action_gone.c */

/* A request while the disk has gone. */
co_fn int fault_away_io(struct fault_engine *e, struct req *r);
/* The disk is back, as far as it is @rule's; returns how often. */
unsigned fault_away_return(struct fault_engine *e, const struct fault_rule *rule);
void fault_away_end(struct fault_engine *e);

/* action_write.c: a flush that has to fail for what was accepted before: -errno, or 0. */
int fault_failing_flush(struct fault_engine *e, const struct req *r);

/* event.c */
void fault_arm_added(struct fault_engine *e);
void fault_set_state(struct fault_engine *e, uint64_t state, const struct fault_rule *why,
                     const struct req *r);
int fault_event_by_name(const char *name); /* or FAULT_NO_EVENT */
void fault_breaks_end(struct fault_engine *e);
json_t *fault_breaks_json(const struct fault_engine *e);

/* show.c */
void fault_metrics(const struct node *n, metric_out *out, void *opaque); /* the driver's metrics */
void fault_tell(struct fault_engine *e, enum fault_event_type type, const struct fault_rule *rule,
                const struct req *r, struct fault_event *more);
void fault_waits_check(struct fault_engine *e);
void fault_waits_end(struct fault_engine *e);

/* rulefile.c: a small text file, malloc'ed. @g: as in fault_read_file. */
co_fn int fault_read_text(struct graph *g, const char *path, char **ret_text, struct err *err);

/* dialect.c: one object of blkdebug's inject-error (or set-state) list, as a rule. */
int fault_from_object(const json_t *given, bool set_state, json_t **ret_rule, struct err *err);

/* config.c: the rules of blkdebug's configuration file @name, put behind those of the two arrays. */
int fault_parse_config(const char *text, const char *name, json_t *injects, json_t *states, struct err *err);

struct fault_held {
    struct list link;
    struct fault_engine *engine;
    struct fault_rule *rule;
    const struct req *req;
    uint64_t since_ns;
    struct timer deadman;
    struct co *co;
    bool held;
    enum fault_outcome outcome;
    int error;
};

#endif
