/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QMP server on the simulated network: many clients at once whose bytes arrive in pieces that the seed
 * chooses, some of which die in the middle of a command; what its answers promise about the requests of the
 * disk; and its end, whatever its clients are doing. Time is virtual.
 */
#include "world.h"

#include <sys/socket.h>

#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "qmp/qmp.h"

#define DISK_BYTES   (1 * MiB)
#define CLIENTS_MAX  24u
#define COMMANDS_MAX 24u
#define LINE_MAX     (256 * KiB)

struct setup {
    struct world w;
    struct qmp_server *server;
    struct nbd_server *nbd;
    struct nbd_server_config nbd_config;
    struct rng rng;
};

static void nothing(void *opaque)
{
}

static void begin(struct setup *s)
{
    world_init(&s->w);
    rng_init(&s->rng, world_seed);
    CHECK(sim_file_create("disk", &(struct sim_disk){.size = DISK_BYTES}) != NULL);
    WORLD_OPEN(&s->w,
               "{\"driver\":\"fault\",\"node-name\":\"f\",\"deadman\":\"60s\",\"file\":{\"driver\":\"file\","
               "\"filename\":\"disk\"}}");
    const struct qmp_config config = {
        .graph = &s->w.graph, .nbd = &s->nbd, .nbd_config = &s->nbd_config, .quit = nothing};
    s->nbd = NULL;
    CHECK_EQ(qmp_server_create(&config, &s->server, NULL), 0);
    CHECK_EQ(qmp_server_add_disk(s->server, "d", s->w.node, NULL), 0);
}

static co_fn void end(struct setup *s)
{
    qmp_server_stop(s->server, "host-signal");
    node_unhold(s->w.node, true);
    qmp_server_wait(s->server);
    qmp_server_destroy(s->server);
    node_unref(s->w.node);
}

/* ---- a client ---- */

struct client {
    struct setup *s;
    int fd;
    char buf[LINE_MAX];
    size_t len;
    json_t *event; /* of the last that came before a reply, or NULL */
};

static co_fn struct client *connect_client(struct setup *s)
{
    const struct sim_net net = {.chunk_max = 200};
    struct client *c = calloc(1, sizeof(*c));
    int fd[2];

    CHECK(c != NULL);
    CHECK_EQ(sim_pair(&net, fd), 0);
    CHECK_EQ(qmp_server_adopt(s->server, fd[0]), 0);
    c->s = s;
    c->fd = fd[1];
    return c;
}

static void client_free(struct client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    json_decref(c->event);
    free(c);
}

/* In pieces that the seed chooses, with pauses. -errno when the connection is no more. */
static co_fn int send_pieces(struct client *c, const char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t n = MIN(1 + (size_t)rng_below(&c->s->rng, 40), len - done);
        struct iovec iov = {(void *)(uintptr_t)(text + done), n};
        int r = sock_send_all(c->fd, &iov, 1);
        if (r < 0) {
            return r;
        }
        done += n;
        if (rng_below(&c->s->rng, 4) == 0) {
            co_sleep_ns(rng_below(&c->s->rng, 50000));
        }
    }
    return 0;
}

/* NULL at the end of the stream. */
static co_fn json_t *next_message(struct client *c)
{
    char *nl;

    while (!(nl = memchr(c->buf, '\n', c->len))) {
        CHECK(c->len < sizeof(c->buf));
        ssize_t n = sock_recv(c->fd, c->buf + c->len, sizeof(c->buf) - c->len);
        if (n <= 0) {
            return NULL;
        }
        c->len += (size_t)n;
    }
    json_t *m = json_loadb(c->buf, (size_t)(nl - c->buf), 0, NULL);
    CHECK(m != NULL);
    c->len -= (size_t)(nl + 1 - c->buf);
    memmove(c->buf, nl + 1, c->len);
    return m;
}

/* The next that is no event. */
static co_fn json_t *next_reply(struct client *c)
{
    json_t *m;

    while ((m = next_message(c)) && json_object_get(m, "event")) {
        json_decref(c->event);
        c->event = m;
    }
    return m;
}

/* Send one command and return its result. */
static co_fn PRINTF(2, 3) json_t *ask(struct client *c, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    CHECK_EQ(send_pieces(c, text, (size_t)len), 0);
    AUTO_JSON json_t *reply = next_reply(c);
    json_t *result = json_object_get(reply, "return");
    CHECK(result != NULL);
    return json_incref(result);
}

static co_fn void negotiate(struct client *c)
{
    AUTO_JSON json_t *greeting = next_message(c);
    CHECK(json_object_get(greeting, "QMP") != NULL);
    AUTO_JSON json_t *done = ask(c, "{'execute': 'qmp_capabilities'}");
    CHECK(json_is_object(done));
}

static co_fn json_int_t ask_operation(struct client *c, const char *command)
{
    AUTO_JSON json_t *result = ask(c, "%s", command);
    const json_t *n = json_object_get(result, "operation");

    CHECK(json_is_integer(n));
    return json_integer_value(n);
}

/* ---- many at once ---- */

struct command {
    bool fails;
    int adds, removes; /* number of the rule in @rules, or -1 */
};

/* What a client means to do, made by the seed before it connects: the text and what should come of it. */
struct plan {
    struct setup *s;
    unsigned number;
    bool dies;
    size_t dies_at; /* byte of the text */
    char text[COMMANDS_MAX * 320];
    size_t len, ends[COMMANDS_MAX]; /* where each command ends */
    struct command command[COMMANDS_MAX];
    unsigned n;
    bool there[COMMANDS_MAX]; /* rules, after all commands */
};

static PRINTF(2, 3) void add_text(struct plan *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(p->text + p->len, sizeof(p->text) - p->len, fmt, ap);
    va_end(ap);
    CHECK(n > 0 && (size_t)n < sizeof(p->text) - p->len);
    p->len += (size_t)n;
}

static void add_command(struct plan *p, unsigned i)
{
    struct command *c = &p->command[i];
    unsigned what = (unsigned)rng_below(&p->s->rng, 7), old = i ? (unsigned)rng_below(&p->s->rng, i) : 0;

    *c = (struct command){.adds = -1, .removes = -1};
    switch (what) {
    case 0:
    case 1:
        add_text(p,
                 "{\"execute\":\"fault-add\",\"id\":%u,\"arguments\":{\"rules\":{\"id\":\"c%u-%u\","
                 "\"op\":\"discard\",\"action\":\"error\"}}}",
                 i, p->number, i);
        c->adds = (int)i;
        p->there[i] = true;
        break;
    case 2:
        add_text(p, "{'execute':'fault-remove','arguments':{'id':'c%u-%u'},'id':%u}\r\n", p->number, old, i);
        c->fails = !p->there[old];
        c->removes = (int)old;
        p->there[old] = false;
        break;
    case 3:
        add_text(p, "{\"id\":%u, \"execute\":\"query-faults\"}\n", i);
        break;
    case 4:
        add_text(p, "{\"execute\":\"no-such-thing\",\"id\":%u}", i);
        c->fails = true;
        break;
    case 5: /* the second action is wrong: the first does not happen either */
        add_text(p,
                 "{\"execute\":\"fault-transaction\",\"id\":%u,\"arguments\":{\"actions\":["
                 "{\"type\":\"add\",\"rules\":{\"id\":\"c%u-%u\",\"op\":\"discard\",\"action\":\"error\"}},"
                 "{\"type\":\"remove\",\"id\":\"never\"}]}}",
                 i, p->number, i);
        c->fails = true;
        break;
    default:
        add_text(p, "\n\n{\"execute\": \"query-status\", \"id\": %u}", i);
    }
    p->ends[i] = p->len;
}

static void make_plan(struct plan *p)
{
    p->n = 1 + (unsigned)rng_below(&p->s->rng, COMMANDS_MAX);
    for (unsigned i = 0; i < p->n; i++) {
        add_command(p, i);
    }
    p->dies = rng_below(&p->s->rng, 3) == 0;
    p->dies_at = rng_below(&p->s->rng, p->len + 1);
}

struct sending {
    struct client *c;
    const struct plan *p;
};

static int send_plan(void *arg)
{
    const struct sending *x = arg;
    const struct plan *p = x->p;

    if (send_pieces(x->c, p->text, p->dies ? p->dies_at : p->len) == 0 && p->dies) {
        if (rng_below(&p->s->rng, 2)) {
            sim_net_break(x->c->fd);
        } else {
            shutdown(x->c->fd, SHUT_RDWR);
        }
    }
    return 0;
}

static int run_client(void *arg)
{
    struct plan *p = arg;
    struct client *c = connect_client(p->s);
    struct sending sending = {c, p};
    struct co_group g;
    struct co_task task;
    json_t *reply = NULL;

    negotiate(c);
    co_group_init(&g);
    co_group_start(&g, &task, send_plan, &sending);
    for (unsigned i = 0; i < p->n && (reply = next_reply(c)); i++) { /* in order */
        CHECK_EQ(json_integer_value(json_object_get(reply, "id")), i);
        CHECK(!json_object_get(reply, "return") == p->command[i].fails);
        json_decref(reply);
    }
    CHECK(p->dies || reply);
    co_group_wait(&g);
    client_free(c);
    return 0;
}

/* The disk's own client, whom nobody disturbs: no rule is about what it does. */
static int run_guest(void *arg)
{
    struct setup *s = arg;
    char buf[4096], got[4096];

    for (unsigned i = 0; i < 100; i++) {
        uint64_t at = rng_below(&s->rng, DISK_BYTES / 4096) * 4096;
        memset(buf, (int)i, sizeof(buf));
        CHECK_EQ(node_write(s->w.node, at, buf, sizeof(buf), 0), 0);
        CHECK_EQ(node_read(s->w.node, at, got, sizeof(got)), 0);
        CHECK(memcmp(buf, got, sizeof(buf)) == 0);
    }
    return 0;
}

static bool is_rule(const json_t *rules, unsigned client, unsigned number)
{
    char id[32];
    const json_t *rule;
    size_t i;

    snprintf(id, sizeof(id), "c%u-%u", client, number);
    json_array_foreach(rules, i, rule)
    {
        if (strcmp(json_string_value(json_object_get(rule, "id")), id) == 0) {
            return true;
        }
    }
    return false;
}

/* Are the rules what the first @done commands made? */
static bool as_after(const struct plan *p, const json_t *rules, unsigned done)
{
    bool there[COMMANDS_MAX] = {false};

    for (unsigned i = 0; i < done; i++) {
        if (p->command[i].adds >= 0) {
            there[p->command[i].adds] = true;
        }
        if (p->command[i].removes >= 0) {
            there[p->command[i].removes] = false;
        }
    }
    for (unsigned i = 0; i < p->n; i++) {
        if (is_rule(rules, p->number, i) != there[i]) {
            return false;
        }
    }
    return true;
}

/* Who died has done some of its commands, from the first on, and none that it had not sent. */
static void check_rules(const struct plan *p, const json_t *rules)
{
    bool good = false;

    for (unsigned done = p->dies ? 0 : p->n; done <= p->n && !good; done++) {
        good = (done == 0 || !p->dies || p->ends[done - 1] <= p->dies_at) && as_after(p, rules, done);
    }
    CHECK(good);
}

static int many_main(void *arg)
{
    struct setup s;
    static struct plan plans[CLIENTS_MAX];
    struct co_task tasks[CLIENTS_MAX + 1];
    struct co_group g;

    begin(&s);
    unsigned n = 2 + (unsigned)rng_below(&s.rng, CLIENTS_MAX - 1);
    memset(plans, 0, sizeof(plans));
    co_group_init(&g);
    co_group_start(&g, &tasks[n], run_guest, &s);
    for (unsigned i = 0; i < n; i++) {
        plans[i].s = &s;
        plans[i].number = i;
        make_plan(&plans[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        co_group_start(&g, &tasks[i], run_client, &plans[i]);
    }
    co_group_wait(&g);
    qmp_server_stop(s.server, "host-signal");
    qmp_server_wait(s.server);
    AUTO_JSON json_t *rules = fault_list(s.w.node);
    for (unsigned i = 0; i < n; i++) {
        check_rules(&plans[i], rules);
    }
    end(&s);
    return 0;
}

static void every_client_gets_its_own_answers_in_order_and_the_dead_leave_whole_commands(void **state)
{
    FOR_EACH_SEED (seed, 60) {
        world_run(seed, many_main, NULL);
    }
}

/* ---- what an acknowledgement means ---- */

#define ROUNDS    20
#define READS_MAX 4000

struct log {
    struct setup *s;
    struct {
        uint64_t opno;
        int result;
    } reads[READS_MAX];
    unsigned n;
    bool stop;
};

static int read_on(void *arg)
{
    struct log *l = arg;
    char buf[512];

    while (!l->stop && l->n < READS_MAX) {
        struct iovec iov = {buf, sizeof(buf)};
        struct req r = {.op = REQ_READ, .bytes = sizeof(buf), .iov = &iov, .niov = 1};
        int result = node_io(l->s->w.node, &r);
        l->reads[l->n].opno = r.opno;
        l->reads[l->n++].result = result;
        co_sleep_ns(1 + rng_below(&l->s->rng, 30000));
    }
    return 0;
}

static int acknowledged_main(void *arg)
{
    static struct log l;
    struct setup s;
    struct co_task tasks[3];
    struct co_group g;
    json_int_t from[ROUNDS], to[ROUNDS];
    char buf[512];

    begin(&s);
    memset(&l, 0, sizeof(l));
    l.s = &s;
    struct client *c = connect_client(&s);
    negotiate(c);
    co_group_init(&g);
    for (unsigned i = 0; i < ARRAY_SIZE(tasks); i++) {
        co_group_start(&g, &tasks[i], read_on, &l);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        from[i] = ask_operation(
            c, "{'execute':'fault-add','arguments':{'rules':{'id':'r','op':'read','action':'error'}}}");
        CHECK_EQ(node_read(s.w.node, 0, buf, sizeof(buf)), -EIO);
        co_sleep_ns(rng_below(&s.rng, 200000));
        to[i] = ask_operation(c, "{'execute':'fault-remove','arguments':{'id':'r'}}");
        CHECK_EQ(node_read(s.w.node, 0, buf, sizeof(buf)), 0);
    }
    l.stop = true;
    co_group_wait(&g);
    CHECK(l.n > ROUNDS);
    for (unsigned i = 0; i < l.n; i++) {
        bool hit = false;
        for (unsigned k = 0; k < ROUNDS; k++) {
            hit = hit || (l.reads[i].opno >= (uint64_t)from[k] && l.reads[i].opno < (uint64_t)to[k]);
        }
        CHECK_EQ(l.reads[i].result, hit ? -EIO : 0);
    }
    client_free(c);
    end(&s);
    return 0;
}

static void an_answer_names_the_very_operation_from_which_it_holds(void **state)
{
    FOR_EACH_SEED (seed, 20) {
        world_run(seed, acknowledged_main, NULL);
    }
}

/* ---- what a dead controller leaves ---- */

static int abandoned_main(void *arg)
{
    struct setup s;
    char buf[512] = {1};

    begin(&s);
    struct client *c = connect_client(&s);
    negotiate(c);
    ask_operation(c, "{'execute':'fault-add','arguments':{'rules':{'id':'h','op':'write','action':'hang'}}}");
    sim_net_break(c->fd);
    uint64_t before = loop_clock_ns();
    CHECK_EQ(node_write(s.w.node, 0, buf, sizeof(buf), 0), 0); /* by the dead-man timer */
    uint64_t took = loop_clock_ns() - before;
    CHECK(took >= 60 * NS_PER_SEC && took < 61 * NS_PER_SEC);
    before = loop_clock_ns();
    CHECK_EQ(node_write(s.w.node, 0, buf, sizeof(buf), 0), 0); /* the rule is switched off */
    CHECK(loop_clock_ns() - before < NS_PER_SEC);
    client_free(c);
    end(&s);
    return 0;
}

static void a_hang_whose_controller_has_died_ends_by_the_dead_man_timer(void **state)
{
    FOR_EACH_SEED (seed, 5) {
        world_run(seed, abandoned_main, NULL);
    }
}

/* ---- events ---- */

static int flood_main(void *arg)
{
    struct setup s;
    char buf[512];
    json_int_t told = 0;
    unsigned events = 0;
    json_t *m;

    begin(&s);
    struct client *c = connect_client(&s);
    negotiate(c);
    ask_operation(c, "{'execute':'fault-add','arguments':{'rules':{'id':'r','op':'read','action':'error'}}}");
    uint64_t begun = loop_clock_ns();
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ(node_read(s.w.node, 0, buf, sizeof(buf)), -EIO);
        co_sleep_ns(3500 * NS_PER_SEC / 1000 / 1000);
    }
    uint64_t seconds = (loop_clock_ns() - begun) / NS_PER_SEC;
    qmp_server_stop(s.server, "host-signal");
    while ((m = next_message(c))) {
        const char *name = json_string_value(json_object_get(m, "event"));
        const json_t *data = json_object_get(m, "data");
        CHECK(name != NULL);
        if (strcmp(name, "FAULT_INJECTED") == 0) {
            events++;
            told += 1 + json_integer_value(json_object_get(data, "suppressed"));
            CHECK_EQ(json_integer_value(json_object_get(data, "fired")), told);
            CHECK_EQ(strcmp(json_string_value(json_object_get(data, "device")), "d"), 0);
        }
        json_decref(m);
    }
    CHECK_EQ(told, 1000);
    CHECK_EQ(seconds, 3);
    CHECK_EQ(events, 5); /* the first, one at the end of each second, and what was held at the end */
    client_free(c);
    end(&s);
    return 0;
}

static void events_by_the_thousand_become_one_a_second_and_none_is_forgotten(void **state)
{
    world_run(1, flood_main, NULL);
}

/* ---- the end ---- */

/* One that waits, one that asks without reading, one in the middle of a command, one that says nothing. */
static int nuisance(void *arg)
{
    struct setup *s = *(struct setup **)arg;
    struct client *c = connect_client(s);
    unsigned kind = (unsigned)rng_below(&s->rng, 4);

    if (kind < 3) {
        negotiate(c);
    }
    if (kind == 0) {
        static const char wait[] = "{'execute':'wait-for','arguments':{'id':'k','count':9,'timeout':1e6}}";
        send_pieces(c, wait, sizeof(wait) - 1);
        json_decref(next_reply(c)); /* an error, or the end */
    } else if (kind == 1) {
        static const char big[] = "{'execute':'query-qmp-schema'}";
        while (send_pieces(c, big, sizeof(big) - 1) == 0) {
        }
    } else if (kind == 2) {
        static const char part[] = "{'execute':'query-fau";
        send_pieces(c, part, sizeof(part) - 1);
        json_decref(next_reply(c));
    } else {
        json_t *m;
        while ((m = next_message(c))) {
            json_decref(m);
        }
    }
    client_free(c);
    return 0;
}

static int end_main(void *arg)
{
    struct setup s, *sp = &s;
    struct co_task tasks[12];
    struct co_group g;

    begin(&s);
    AUTO_JSON json_t *rule = json_pack("{s:s, s:s, s:s}", "id", "k", "action", "error", "op", "discard");
    CHECK_EQ(fault_apply(&(struct fault_change){.node = s.w.node, .kind = FAULT_ADD, .rules = rule}, 1, NULL),
             0);
    co_group_init(&g);
    for (unsigned i = 0; i < ARRAY_SIZE(tasks); i++) {
        co_group_start(&g, &tasks[i], nuisance, &sp);
    }
    co_sleep_ns(rng_below(&s.rng, 20 * NS_PER_MS));
    uint64_t before = loop_clock_ns();
    qmp_server_stop(s.server, "host-signal");
    qmp_server_wait(s.server);
    CHECK(loop_clock_ns() - before < 5 * NS_PER_SEC);
    co_group_wait(&g);
    end(&s);
    return 0;
}

static void the_server_ends_whatever_its_clients_do(void **state)
{
    FOR_EACH_SEED (seed, 40) {
        world_run(seed, end_main, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_client_gets_its_own_answers_in_order_and_the_dead_leave_whole_commands),
        cmocka_unit_test(an_answer_names_the_very_operation_from_which_it_holds),
        cmocka_unit_test(a_hang_whose_controller_has_died_ends_by_the_dead_man_timer),
        cmocka_unit_test(events_by_the_thousand_become_one_a_second_and_none_is_forgotten),
        cmocka_unit_test(the_server_ends_whatever_its_clients_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
