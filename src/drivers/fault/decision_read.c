/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a log of decisions, to repeat them. It is input: every line is checked before anything is used. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/json.h"
#include "block/own.h"
#include "drivers/fault/decisions.h"

#define LOG_MAX (256 * MiB) /* over a million decisions; all of it is in memory while it is read */

struct reader {
    struct fault_decisions *d;
    const char *path;
    struct err *err;
    char *text;
    size_t bytes;
    size_t line, decided_max, governed_max;
    uint64_t lost; /* decisions that were dropped, or whose request was not counted */
};

static int read_text(void *arg)
{
    struct reader *rd = arg;
    struct stat st;
    AUTO_CLOSE int fd = open(rd->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set_errno(rd->err, -errno, "cannot open the decision log '%s'", rd->path);
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > LOG_MAX) {
        return err_set(rd->err, -EINVAL, "the decision log '%s': expected a file of at most %llu MiB",
                       rd->path, (unsigned long long)(LOG_MAX / MiB));
    }
    rd->text = malloc((size_t)st.st_size + 1);
    if (!rd->text) {
        return err_set(rd->err, -ENOMEM, "no memory for the decision log '%s'", rd->path);
    }
    ssize_t n = 1;
    while (n > 0 && rd->bytes < (size_t)st.st_size) {
        n = read(fd, rd->text + rd->bytes, (size_t)st.st_size - rd->bytes);
        rd->bytes += n > 0 ? (size_t)n : 0;
    }
    return n < 0 ? err_set_errno(rd->err, -errno, "cannot read the decision log '%s'", rd->path) : 0;
}

static int wrong(struct reader *rd, const char *what)
{
    return err_set(rd->err, -EINVAL, "the decision log '%s', line %zu: %s", rd->path, rd->line, what);
}

/* Room for one more in an array. */
static int grow(struct reader *rd, void *array, size_t *max, size_t n, size_t each)
{
    void **at = array;

    if (n < *max) {
        return 0;
    }
    size_t more = MAX(*max * 2, (size_t)1024);
    void *grown = realloc(*at, more * each);
    if (!grown) {
        return err_set(rd->err, -ENOMEM, "no memory for the decision log '%s'", rd->path);
    }
    *at = grown;
    *max = more;
    return 0;
}

static int govern(struct reader *rd, const char *node, const char *rule)
{
    struct fault_decisions *d = rd->d;
    uint64_t key = decision_rule_key(node, fault_rule_key(rule));

    if (d->ngoverned > 0 && d->governed[d->ngoverned - 1] == key) {
        return 0; /* as often */
    }
    int r = grow(rd, &d->governed, &rd->governed_max, d->ngoverned, sizeof(*d->governed));
    if (r == 0) {
        d->governed[d->ngoverned++] = key;
    }
    return r;
}

/* ---- lines ---- */

static int read_node(struct reader *rd, json_t *o)
{
    const char *name;
    json_int_t seed;
    json_t *rules, *rule;
    size_t i;

    if (json_unpack_ex(o, NULL, JSON_STRICT, "{s:s,s:I,s:o}", "node", &name, "seed", &seed, "rules", &rules) <
            0 ||
        !json_is_array(rules)) {
        return wrong(rd, "expected of each node its name, its seed and its rules");
    }
    struct node *n = graph_find(rd->d->graph, name);
    if (!fault_is(n)) {
        return err_set(rd->err, -EINVAL,
                       "the decision log '%s' is about a node '%s': none has this name and "
                       "fault rules",
                       rd->path, name);
    }
    if (fault_engine_of(n)->seed != (uint64_t)seed) {
        return err_set(rd->err, -EINVAL,
                       "the decision log '%s' was made with the seed %lld of node '%s', and it is %llu",
                       rd->path, (long long)seed, name, (unsigned long long)fault_engine_of(n)->seed);
    }
    json_array_foreach(rules, i, rule)
    {
        const char *id = json_string_value(json_object_get(rule, "id"));
        int r = id ? govern(rd, name, id) : wrong(rd, "expected rules with an id");
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_head(struct reader *rd, json_t *o)
{
    json_t *nodes, *node;
    const char *version;
    size_t i;
    int kind;

    if (json_unpack_ex(o, NULL, JSON_STRICT, "{s:i,s:s,s:o}", "blkproof-decisions", &kind, "version",
                       &version, "nodes", &nodes) < 0 ||
        kind != 1 || !json_is_array(nodes)) {
        return wrong(rd, "not the first line of a log of decisions");
    }
    json_array_foreach(nodes, i, node)
    {
        int r = read_node(rd, node);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int op_by_name(const char *name)
{
    for (int op = 0; op < REQ_OP_COUNT; op++) {
        if (strcmp(fault_op_name((enum req_op)op), name) == 0) {
            return op;
        }
    }
    return -1;
}

static int add(struct reader *rd, const struct decided *given)
{
    struct fault_decisions *d = rd->d;
    int r = grow(rd, &d->decided, &rd->decided_max, d->ndecided, sizeof(*d->decided));

    if (r == 0) {
        d->decided[d->ndecided++] = *given;
    }
    return r;
}

static int read_decision(struct reader *rd, json_t *o)
{
    const char *node, *rule, *action, *op = NULL;
    json_int_t matched, opno = 0, offset = 0, bytes = 0, nth = 0, delay_ns = 0;
    json_t *error = NULL;
    int dry_run = 0;
    json_error_t why;

    if (json_unpack_ex(o, &why, JSON_STRICT, "{s:s,s:s,s:s,s:I,s?I,s?s,s?I,s?I,s?I,s?o,s?I,s?b}", "node",
                       &node, "rule", &rule, "action", &action, "matched", &matched, "operation", &opno, "op",
                       &op, "offset", &offset, "bytes", &bytes, "nth", &nth, "errno", &error, "delay-ns",
                       &delay_ns, "dry-run", &dry_run) < 0) {
        return wrong(rd, why.text);
    }
    if (!op && opno == 0 && nth == 0) { /* not about a request: it will come by itself */
        return 0;
    }
    int number = op ? op_by_name(op) : -1;
    if (number < 0 || opno <= 0 || offset < 0 || bytes < 0 || nth < 0) {
        return wrong(rd, "expected an operation, its op, offset and bytes, and an nth above 0");
    }
    int r = govern(rd, node, rule);
    if (r < 0 || nth == 0) {
        rd->lost += nth == 0;
        return r;
    }
    return add(rd, &(struct decided){
                       .request = decision_request_key(node, number, (uint64_t)offset, (uint64_t)bytes,
                                                       (uint64_t)nth),
                       .rule = fault_rule_key(rule),
                       .opno = (uint64_t)opno,
                   });
}

static int read_line(struct reader *rd, const char *line, size_t len)
{
    json_error_t why;
    json_int_t dropped;
    AUTO_JSON json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);

    if (!json_is_object(o)) {
        return wrong(rd, o ? "not a JSON object" : why.text);
    }
    if (rd->line == 1) {
        return read_head(rd, o);
    }
    if (json_unpack_ex(o, NULL, JSON_STRICT, "{s:I}", "dropped", &dropped) == 0 && dropped > 0) {
        rd->lost += (uint64_t)dropped;
        return 0;
    }
    return read_decision(rd, o);
}

static int read_lines(void *arg)
{
    struct reader *rd = arg;
    int r = 0;

    for (size_t at = 0; r == 0 && (at < rd->bytes || rd->line == 0);) {
        const char *line = rd->text + at, *end = memchr(line, '\n', rd->bytes - at);
        rd->line++;
        if (!end) {
            return wrong(rd, rd->bytes ? "it has no end: the log was cut off there" : "the file is empty");
        }
        r = read_line(rd, line, (size_t)(end - line));
        at += (size_t)(end - line) + 1;
    }
    return r;
}

/* ---- all of it ---- */

static int by_request(const void *a, const void *b)
{
    const struct decided *x = a, *y = b;

    return x->request != y->request ? (x->request < y->request ? -1 : 1)
                                    : (x->rule < y->rule ? -1 : x->rule > y->rule);
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

int decisions_read(struct fault_decisions *d, const char *path, struct err *err)
{
    struct reader rd = {.d = d, .path = path, .err = err};
    int r = graph_refuse_own(d->graph, path, err);

    r = r < 0 ? r : loop_work(read_text, &rd);
    r = r < 0 ? r
              : loop_work(read_lines, &rd); /* a large one takes seconds; nobody changes nodes meanwhile */
    free(rd.text);
    if (r < 0) {
        return r;
    }
    if (d->ndecided > 0) {
        qsort(d->decided, d->ndecided, sizeof(*d->decided), by_request);
    }
    if (d->ngoverned > 0) {
        qsort(d->governed, d->ngoverned, sizeof(*d->governed), by_number);
    }
    if (rd.lost > 0) {
        decisions_notice(
            d->graph, NOTICE_WARNING,
            "the decision log '%s' lacks %llu decisions, which are not repeated: they were dropped, or "
            "their requests not counted",
            path, (unsigned long long)rd.lost);
    }
    return 0;
}
