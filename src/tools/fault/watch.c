/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof fault watch`: events as they come, and once a second the counters that have moved. */
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "base/json.h"
#include "tools/fault/fault.h"

static void on_event(void *opaque, json_t *event)
{
    const struct fault_tool *f = opaque;

    if (f->json) {
        fault_show_json(event);
    } else {
        fault_show_event(event);
    }
}

/* ---- counters ---- */

/* One entry per rule: "node rule" to its counters as they were last told. */
static bool has_moved(json_t *told, const json_t *node, const json_t *rule)
{
    char key[160];
    json_t *now = json_pack("[O, O, O]", json_object_get(rule, "fired"), json_object_get(rule, "matched"),
                            json_object_get(rule, "held"));

    snprintf(key, sizeof(key), "%s %s", json_string_value(json_object_get(node, "node-name")),
             json_string_value(json_object_get(rule, "id")));
    bool moved = !json_equal(json_object_get(told, key), now);
    json_object_set_new(told, key, now);
    return moved;
}

static void tell_rule(const struct fault_tool *f, const json_t *node, const json_t *rule)
{
    const char *name = json_string_value(json_object_get(node, "node-name"));
    const char *id = json_string_value(json_object_get(rule, "id"));
    long long fired = json_integer_value(json_object_get(rule, "fired"));
    long long matched = json_integer_value(json_object_get(rule, "matched"));
    long long held = json_integer_value(json_object_get(rule, "held"));

    if (f->json) {
        AUTO_JSON json_t *line =
            json_pack("{s:s, s:s, s:I, s:I, s:I}", "node-name", name, "rule", id, "fired", (json_int_t)fired,
                      "matched", (json_int_t)matched, "held", (json_int_t)held);
        fault_show_json(line);
    } else {
        printf("node %s, rule %s: fired %lld of %lld, holds %lld\n", name, id, fired, matched, held);
        fflush(stdout);
    }
}

static co_fn int tell_counters(struct fault_tool *f, json_t *told, bool first, struct err *err)
{
    AUTO_JSON json_t *list = NULL;
    json_t *node, *rule;
    size_t i, k;
    int r = client_execute(&f->client, "query-faults", fault_target(f, NULL), &list, err);

    if (r < 0) {
        return r;
    }
    if (first && !f->json) {
        json_array_foreach(list, i, node)
        {
            fault_show_node(node);
        }
        fflush(stdout);
    }
    json_array_foreach(list, i, node)
    {
        json_array_foreach(json_object_get(node, "rules"), k, rule)
        {
            if (has_moved(told, node, rule) && (!first || f->json)) {
                tell_rule(f, node, rule);
            }
        }
    }
    return 0;
}

/* ---- Ctrl-C ---- */

struct watcher {
    struct fault_tool *f;
    int signal_fd;
    bool alive;
    struct co_queue ended;
};

static void wait_for_signal(void *arg)
{
    struct watcher *w = arg;

    if (fd_poll(w->signal_fd, POLLIN, UINT64_MAX) > 0) {
        w->f->interrupted = true;
        client_interrupt(&w->f->client);
    }
    w->alive = false;
    co_queue_wake_all(&w->ended);
}

static co_fn int watch(struct fault_tool *f, struct err *err)
{
    AUTO_JSON json_t *told = json_object();
    int r = tell_counters(f, told, true, err);

    while (r == 0) {
        r = client_events(&f->client, loop_clock_ns() + f->interval_ns, err);
        if (r == -ETIMEDOUT) {
            r = tell_counters(f, told, false, err);
        }
    }
    return f->interrupted ? 0 : r;
}

static sigset_t ending_signals(void)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    return mask;
}

void fault_watch_prepare(void)
{
    sigset_t mask = ending_signals();

    sigprocmask(SIG_BLOCK, &mask, NULL);
}

FAULT_COMMAND(fault_cmd_watch)
{
    struct watcher w = {.f = f};
    sigset_t mask = ending_signals();

    AUTO_CLOSE int fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    w.signal_fd = fd;
    co_queue_init(&w.ended);
    w.alive = fd >= 0 && co_start_later(wait_for_signal, &w) == 0;
    if (!w.alive) {
        return err_set(err, -ENOMEM, "watch: cannot wait for signals");
    }
    f->client.event = on_event;
    f->client.opaque = f;
    int r = watch(f, err);
    fd_poll_cancel(fd);
    while (w.alive) {
        co_queue_wait(&w.ended);
    }
    return r;
}
