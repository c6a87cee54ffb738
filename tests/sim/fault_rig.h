/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the fault engine share: a mem device under the filter, rules as JSON text in which single
 * quotes stand for double ones, and everything the engine tells collected as text. */
#ifndef TESTS_SIM_FAULT_RIG_H
#define TESTS_SIM_FAULT_RIG_H

#include "base/json.h"
#include "block/driver.h"
#include "block/event.h"
#include "drivers/fault/fault.h"
#include "world.h"

/* A test that runs in a coroutine, from seed 1. */
#define SCENARIO(name)                                                                                       \
    static co_fn int name##_main(void *arg);                                                                 \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        world_run(1, name##_main, NULL);                                                                     \
    }                                                                                                        \
    static co_fn int name##_main(void *arg)

static struct world rig;
static char rig_events[16 * KiB]; /* "INJECTED r1 write@0\n" for each event */

static void rig_listen(struct graph *g, const struct fault_event *e)
{
    size_t used = strlen(rig_events);
    char *at = rig_events + used;
    size_t room = sizeof(rig_events) - used;

    if (e->type == FAULT_STATE_CHANGED) {
        snprintf(at, room, "STATE %lld>%lld\n", (long long)e->old_state, (long long)e->new_state);
        return;
    }
    static const char *const names[] = {"INJECTED", "EXHAUSTED", "STATE", "BEGIN", "END"};
    snprintf(at, room, "%s %s%s%s%s\n", names[e->type], e->rule, e->type == FAULT_HANG_END ? " " : "",
             e->type == FAULT_HANG_END ? fault_outcome_names[e->outcome] : "", e->deadman ? " deadman" : "");
}

/* Single quotes to double ones; static. */
static inline UNUSED const char *quoted(const char *text)
{
    static char out[8][8192];
    static int turn;
    char *o = out[turn = (turn + 1) % 8];

    snprintf(o, sizeof(out[0]), "%s", text);
    for (char *p = o; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return o;
}

/* Open fault over mem of 1 MiB; @rules: a list; @more: options such as "'seed':7,". */
static inline UNUSED co_fn struct node *rig_open(const char *rules, const char *more)
{
    world_init(&rig);
    rig_events[0] = 0;
    WORLD_OPEN(&rig, "{\"driver\":\"fault\",%s\"rules\":%s,\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}",
               quoted(more), quoted(rules));
    rig.graph.fault = rig_listen;
    return rig.node;
}

static inline UNUSED json_t *parsed(const char *text)
{
    json_t *j = json_loads(quoted(text), JSON_DECODE_ANY, NULL);
    CHECK(j != NULL);
    return j;
}

/* One change; returns what fault_apply does. */
static inline UNUSED int change(struct node *n, enum fault_change_kind kind, const char *id,
                                const char *rules)
{
    AUTO_JSON json_t *j = rules ? parsed(rules) : NULL;
    struct fault_change c = {.node = n, .kind = kind, .id = id, .rules = j};
    struct err err = {0};
    int r = fault_apply(&c, 1, &err);

    CHECK(r == 0 || (err.code < 0 && err.text[0]));
    return r;
}

static inline UNUSED void expect_events(const char *events)
{
    if (strcmp(rig_events, events) != 0) {
        fprintf(stderr, "told:\n%sexpected:\n%s", rig_events, events);
        CHECK(false);
    }
    rig_events[0] = 0;
}

static inline UNUSED struct fault_counters counters(struct node *n, const char *id)
{
    struct fault_counters c = {0};
    CHECK_EQ(fault_counters(n, id, &c, NULL), 0);
    return c;
}

static inline UNUSED co_fn int rig_read(uint64_t offset, uint64_t bytes)
{
    static char buf[1 * MiB];
    return node_read(rig.node, offset, buf, bytes);
}

static inline UNUSED co_fn int rig_write(uint64_t offset, uint64_t bytes, char byte, unsigned flags)
{
    static char buf[1 * MiB];
    memset(buf, byte, bytes);
    return node_write(rig.node, offset, buf, bytes, flags);
}

/* The byte at @offset of the device below. */
static inline UNUSED co_fn char below(uint64_t offset)
{
    char c = '?';
    CHECK_EQ(node_read(node_below(rig.node), offset, &c, 1), 0);
    return c;
}

/* A request in the background. */
struct bg {
    struct req req;
    struct iovec iov;
    char data[512];
    int result;
    bool done;
    uint64_t done_ns;
};

static co_fn void bg_main(void *arg)
{
    struct bg *b = arg;
    b->result = node_io(rig.node, &b->req);
    b->done_ns = loop_clock_ns();
    b->done = true;
}

static inline UNUSED void bg_start(struct bg *b, enum req_op op, uint64_t offset, char byte)
{
    *b = (struct bg){.req = {.op = op, .offset = offset, .bytes = op == REQ_FLUSH ? 0 : 512}};
    memset(b->data, byte, sizeof(b->data));
    b->iov = (struct iovec){b->data, sizeof(b->data)};
    if (op == REQ_READ || op == REQ_WRITE) {
        b->req.iov = &b->iov;
        b->req.niov = 1;
    }
    CHECK_EQ(co_start(bg_main, b), 0);
}

/* Is this refused as a rule, with this sentence? */
static inline UNUSED co_fn void refused(const char *rule, const char *sentence)
{
    AUTO_JSON json_t *j = parsed(rule);
    struct fault_change c = {.node = rig.node, .kind = FAULT_ADD, .rules = j};
    struct err err = {0};

    CHECK_EQ(fault_apply(&c, 1, &err), -EINVAL);
    if (strcmp(err.text, sentence) != 0) {
        fprintf(stderr, "%s\nsaid:     %s\nexpected: %s\n", rule, err.text, sentence);
        CHECK(false);
    }
}

#endif
