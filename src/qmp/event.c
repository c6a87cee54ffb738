/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events: to every client that has negotiated. Those that could come by the thousand are limited as in
 * QEMU: the first goes out at once, then one a second at most, the newest; it says in "suppressed" how many
 * it stands for besides itself. What a fault rule does by the thousand is kept as it came, and becomes JSON
 * when it is sent.
 */
#include <stdio.h>
#include <time.h>

#include "base/json.h"
#include "drivers/fault/fault.h"
#include "qmp/internal.h"

#define KEY_MAX    128
#define LIMITS_MAX 4096 /* kinds of events held back at once; more are not limited */

struct held_fault {
    struct fault_event e;
    struct req req;
    char *node, *rule, *tag;
};

/* One kind of event, from its first until a second without any. */
struct limit {
    struct list link;
    struct qmp_server *server;
    const struct qmp_event *event;
    char key[KEY_MAX];
    struct timer timer;
    json_t *held;            /* the newest that waits, or NULL */
    struct held_fault fault; /* and this of faults */
    bool holds_fault;
    uint64_t suppressed;
};

json_t *qmp_timestamp(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now); /* for people to read, never for a decision */
    return json_pack("{s:I, s:I}", "seconds", (json_int_t)now.tv_sec, "microseconds",
                     (json_int_t)now.tv_nsec / 1000);
}

static void send_event(struct qmp_server *s, const char *name, json_t *data)
{
    AUTO_JSON json_t *event = json_pack("{s:o, s:s}", "timestamp", qmp_timestamp(), "event", name);
    struct qmp_conn *c, *tmp;

    if (event && data) {
        json_object_set(event, "data", data);
    }
    AUTO_FREE char *text = event ? json_dumps(event, JSON_ENSURE_ASCII) : NULL;
    AUTO_FREE char *line = NULL;
    int len = text ? asprintf(&line, "%s\r\n", text) : -1;
    if (len < 0) {
        line = NULL;
    }
    list_for_each_safe (c, tmp, &s->conns, link) {
        if (len < 0) {
            c->events_lost++;
        } else {
            qmp_conn_put_event(c, line, (size_t)len);
        }
    }
}

/* What happens to a node is known by its disk's name, too. */
static void put_device(const struct qmp_server *s, const struct qmp_event *e, json_t *data)
{
    const char *name = json_string_value(json_object_get(data, "node-name"));
    const struct node *n = name ? qmp_find_node(s, name) : NULL;

    for (const struct qmp_member *m = e->members; n && m && m->name; m++) {
        if (strcmp(m->name, "device") == 0) {
            json_object_set_new(data, "device", json_string(qmp_disk_of(s, n)));
        }
    }
}

/* ---- limits ---- */

static void limit_free(struct limit *l)
{
    timer_disarm(&l->timer);
    list_del(&l->link);
    l->server->nlimits--;
    json_decref(l->held);
    free(l->fault.node);
    free(l->fault.rule);
    free(l->fault.tag);
    free(l);
}

void qmp_event_drop_all(struct qmp_server *s)
{
    struct limit *l, *tmp;

    for (unsigned i = 0; i < QMP_LIMIT_BUCKETS; i++) {
        list_for_each_safe (l, tmp, &s->limits[i], link) {
            limit_free(l);
        }
    }
}

static void send_held(struct limit *l)
{
    if (l->holds_fault) {
        l->held = fault_event_data(&l->fault.e);
        put_device(l->server, l->event, l->held);
        l->holds_fault = false;
    }
    if (l->suppressed > 0 && l->held) {
        json_object_set_new(l->held, "suppressed", json_integer((json_int_t)l->suppressed));
    }
    send_event(l->server, l->event->name, l->held);
    json_decref(TAKE_PTR(l->held));
    l->suppressed = 0;
}

void qmp_event_send_held(struct qmp_server *s)
{
    struct limit *l;

    for (unsigned i = 0; i < QMP_LIMIT_BUCKETS; i++) {
        list_for_each (l, &s->limits[i], link) {
            if (l->held || l->holds_fault) {
                send_held(l);
            }
        }
    }
}

static void second_is_over(struct timer *t)
{
    struct limit *l = container_of(t, struct limit, timer);

    if (l->held || l->holds_fault) {
        send_held(l);
        if (timer_arm(t, loop_now_ns() + QMP_EVENT_GAP_NS) == 0) {
            return;
        }
    }
    limit_free(l);
}

static void make_key(const struct qmp_event *e, const json_t *data, char key[KEY_MAX])
{
    size_t used = 0;

    key[0] = '\0';
    for (size_t i = 0; e->limit_by[i] && used < KEY_MAX; i++) {
        const json_t *v = json_object_get(data, e->limit_by[i]);
        used += json_is_integer(v)
                    ? (size_t)snprintf(key + used, KEY_MAX - used, "%lld/", (long long)json_integer_value(v))
                    : (size_t)snprintf(key + used, KEY_MAX - used, "%s/",
                                       json_is_string(v) ? json_string_value(v) : "");
    }
}

static struct list *bucket(struct qmp_server *s, const char *key)
{
    unsigned hash = 5381;

    while (*key) {
        hash = hash * 33 + (unsigned char)*key++;
    }
    return &s->limits[hash % QMP_LIMIT_BUCKETS];
}

/* NULL: no event of the kind within the last second. */
static struct limit *limit_find(struct qmp_server *s, const struct qmp_event *e, const char *key)
{
    struct list *head = bucket(s, key);
    struct limit *l;

    list_for_each (l, head, link) {
        if (l->event == e && strcmp(l->key, key) == 0) {
            return l;
        }
    }
    return NULL;
}

static void limit_begin(struct qmp_server *s, const struct qmp_event *e, const char *key)
{
    struct limit *l = calloc(1, sizeof(*l));

    if (!l) {
        return;
    }
    l->server = s;
    l->event = e;
    l->timer.fire = second_is_over;
    snprintf(l->key, sizeof(l->key), "%s", key);
    list_add_tail(bucket(s, key), &l->link);
    s->nlimits++;
    if (timer_arm(&l->timer, loop_now_ns() + QMP_EVENT_GAP_NS) < 0) {
        limit_free(l);
    }
}

/* True if the event is held back. */
static bool limited(struct qmp_server *s, const struct qmp_event *e, json_t *data)
{
    char key[KEY_MAX];

    make_key(e, data, key);
    struct limit *l = limit_find(s, e, key);
    if (!l) {
        if (s->nlimits < LIMITS_MAX) {
            limit_begin(s, e, key);
        }
        return false;
    }
    l->suppressed += l->held != NULL;
    json_decref(l->held);
    l->held = json_incref(data);
    return true;
}

/* ---- faults ---- */

static void make_fault_key(const struct qmp_event *ev, const struct fault_event *e, char key[KEY_MAX])
{
    size_t used = 0;

    key[0] = '\0';
    for (size_t i = 0; ev->limit_by[i] && used < KEY_MAX; i++) {
        const char *word = strcmp(ev->limit_by[i], "rule") == 0 ? e->rule : e->node;
        used += (size_t)snprintf(key + used, KEY_MAX - used, "%s/", word ? word : "");
    }
}

/* The copy stays while the text does, which it mostly does. */
static bool keep_text(char **copy, const char *text, const char **ret_kept)
{
    if (!text) {
        *ret_kept = NULL;
        return true;
    }
    if (!*copy || strcmp(*copy, text) != 0) {
        free(*copy);
        *copy = strdup(text);
    }
    *ret_kept = *copy;
    return *copy != NULL;
}

static void hold_fault(struct limit *l, const struct fault_event *e)
{
    struct held_fault *h = &l->fault;

    l->suppressed += l->holds_fault;
    h->e = *e;
    l->holds_fault = keep_text(&h->node, e->node, &h->e.node) && keep_text(&h->rule, e->rule, &h->e.rule) &&
                     keep_text(&h->tag, e->tag, &h->e.tag);
    if (e->req) {
        h->req = *e->req;
        h->e.req = &h->req;
    }
}

void qmp_fault_raised(struct graph *g, const struct fault_event *e)
{
    struct qmp_server *s = g->monitor;
    const struct qmp_event *ev = qmp_event_find(fault_event_name(e->type));
    char key[KEY_MAX];

    if (list_empty(&s->conns)) {
        return;
    }
    make_fault_key(ev, e, key);
    struct limit *l = limit_find(s, ev, key);
    if (l) {
        hold_fault(l, e);
        return;
    }
    if (s->nlimits < LIMITS_MAX) {
        limit_begin(s, ev, key);
    }
    AUTO_JSON json_t *data = fault_event_data(e);
    put_device(s, ev, data);
    send_event(s, ev->name, data);
}

/* ---- all others ---- */

void qmp_server_event(struct qmp_server *s, const char *name, json_t *data)
{
    AUTO_JSON json_t *own = data;
    const struct qmp_event *e = qmp_event_find(name);

    if (list_empty(&s->conns)) {
        return; /* and nobody who comes later hears of what is held back */
    }
    assert(e);
    put_device(s, e, own);
    if (!e->limit_by || !limited(s, e, own)) {
        send_event(s, name, own);
    }
}
