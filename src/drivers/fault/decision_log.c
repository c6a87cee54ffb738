/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log of decisions: lines of JSON. They are put into memory, which a coroutine writes to the file through
 * a worker thread, so that no request waits for it; where the file is too slow, decisions are dropped, and a
 * line tells how many.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "block/report_file.h"
#include "drivers/fault/decisions.h"

#define LOG_BYTES (1 * MiB) /* waiting to be written, and as much being written */
#define LINE_REST 512u      /* of a line: all but names, with the line about dropped ones */

struct decision_log {
    struct graph *graph;
    char *path;
    int fd;
    char *fill, *out; /* of LOG_BYTES */
    size_t used, out_bytes;
    uint64_t dropped;
    bool writing; /* the coroutine is alive */
    int error;    /* nothing is written any more */
    struct co_queue idle;
};

/* ---- writing ---- */

static int write_out(void *arg)
{
    const struct decision_log *l = arg;
    size_t done = 0;

    while (done < l->out_bytes) {
        ssize_t n = write(l->fd, l->out + done, l->out_bytes - done);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void write_all(void *arg)
{
    struct decision_log *l = arg;

    while (l->used > 0 && l->error == 0) {
        char *full = l->fill;
        l->fill = l->out;
        l->out = full;
        l->out_bytes = l->used;
        l->used = 0;
        l->error = loop_work(write_out, l);
    }
    if (l->error < 0) {
        decisions_notice(l->graph, NOTICE_ERROR, "the decision log '%s' ends here: %s", l->path,
                         err_name(l->error));
    }
    l->writing = false;
    co_queue_wake_all(&l->idle);
}

/* ---- lines ---- */

static size_t put_string(char *to, const char *text)
{
    char *at = to;

    *at++ = '"';
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\') {
            at += sprintf(at, "\\u%04x", (unsigned)(unsigned char)*text);
        } else {
            *at++ = *text;
        }
    }
    *at++ = '"';
    return (size_t)(at - to);
}

static char *put_member(char *at, const char *name, uint64_t value)
{
    return at + sprintf(at, ",\"%s\":%llu", name, (unsigned long long)value);
}

static char *put_request(char *at, const struct req *r, uint64_t nth)
{
    at = put_member(at, "operation", r->opno);
    at += sprintf(at, ",\"op\":\"%s\"", fault_op_name(r->op));
    at = put_member(at, "offset", r->offset);
    at = put_member(at, "bytes", r->bytes);
    return nth ? put_member(at, "nth", nth) : at;
}

/* What was drawn or set for this time. */
static char *put_effect(char *at, const struct fault_rule *rule)
{
    const struct fault_action *a = &fault_actions[rule->action];
    const char *name = a->error ? strerrorname_np(rule->error) : NULL;

    if (name) {
        at += sprintf(at, ",\"errno\":\"%s\"", name);
    } else if (a->error) {
        at = put_member(at, "errno", (uint64_t)rule->error);
    }
    return rule->drawn_ns ? put_member(at, "delay-ns", rule->drawn_ns) : at;
}

static char *put_dropped(struct decision_log *l, char *at)
{
    at += sprintf(at, "{\"dropped\":%llu}\n", (unsigned long long)l->dropped);
    l->dropped = 0;
    return at;
}

void decision_log_add(struct decision_log *l, const struct fault_engine *e, const struct fault_rule *rule,
                      const struct req *r, uint64_t nth)
{
    const char *node = node_name(e->node);

    if (l->error || LOG_BYTES - l->used < 6 * (strlen(node) + FAULT_NAME_MAX) + LINE_REST) {
        l->dropped++;
        return;
    }
    char *at = l->fill + l->used;
    at = l->dropped ? put_dropped(l, at) : at;
    at = stpcpy(at, "{\"node\":");
    at += put_string(at, node);
    at = stpcpy(at, ",\"rule\":");
    at += put_string(at, rule->id);
    at += sprintf(at, ",\"action\":\"%s\"", fault_actions[rule->action].name);
    at = put_member(at, "matched", rule->c.matched);
    at = r ? put_request(at, r, nth) : at;
    at = put_effect(at, rule);
    at = stpcpy(at, e->dry_run ? ",\"dry-run\":true}\n" : "}\n");
    l->used = (size_t)(at - l->fill);
    if (!l->writing) {
        l->writing = co_start_later(write_all, l) == 0;
    }
}

/* ---- the first line ---- */

static json_t *node_json(const struct node *n)
{
    const struct fault_engine *e = fault_engine_of(n);
    json_t *rules = json_array();

    for (unsigned i = 0; i < e->list.nrules; i++) {
        json_array_append(rules, e->list.rules[i]->spec);
    }
    return json_pack("{s:s,s:I,s:o}", "node", node_name(n), "seed", (json_int_t)e->seed, "rules", rules);
}

static json_t *head_json(struct graph *g)
{
    json_t *nodes = json_array();
    struct node *n;

    list_for_each (n, &g->nodes, link) {
        if (fault_is(n) && json_array_append_new(nodes, node_json(n)) < 0) {
            json_decref(nodes);
            return NULL;
        }
    }
    return json_pack("{s:i,s:s,s:o}", "blkproof-decisions", 1, "version", BLKPROOF_VERSION, "nodes", nodes);
}

/* ---- opening and closing ---- */

static int create(struct graph *g, const char *path, int *ret_fd, struct err *err)
{
    AUTO_JSON json_t *head = head_json(g);
    AUTO_CLOSE int fd = -1;
    struct stat st;
    int r = report_file_open(g, path, &fd, err);

    if (r < 0) {
        return r;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > 0) {
        return err_set(err, -EINVAL, "the decision log '%s' is there already: expected a new or empty file",
                       path);
    }
    r = report_file_append(fd, head);
    if (r < 0) {
        return err_set_errno(err, r, "cannot write the decision log '%s'", path);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void destroy(struct decision_log *l)
{
    if (l->fd >= 0) {
        close(l->fd);
    }
    free(l->fill);
    free(l->out);
    free(l->path);
    free(l);
}

int decision_log_open(struct graph *g, const char *path, struct decision_log **ret, struct err *err)
{
    struct decision_log *l = calloc(1, sizeof(*l));

    if (!l) {
        return err_set(err, -ENOMEM, "no memory for a decision log");
    }
    *l = (struct decision_log){
        .graph = g, .fd = -1, .fill = malloc(LOG_BYTES), .out = malloc(LOG_BYTES), .path = strdup(path)};
    co_queue_init(&l->idle);
    int r = l->fill && l->out && l->path ? create(g, path, &l->fd, err)
                                         : err_set(err, -ENOMEM, "no memory for a decision log");
    if (r < 0) {
        destroy(l);
        return r;
    }
    *ret = l;
    return 0;
}

void decision_log_close(struct decision_log *l)
{
    if (!l) {
        return;
    }
    while (l->writing) {
        co_queue_wait(&l->idle);
    }
    if (l->dropped && !l->error) {
        l->used = (size_t)(put_dropped(l, l->fill + l->used) - l->fill); /* LINE_REST is free: see add */
    }
    if (l->used > 0 && !l->error) {
        write_all(l);
    }
    destroy(l);
}
