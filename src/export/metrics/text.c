/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The numbers as text. The format wants all samples of one name together, and they come node by node, so each
 * name collects its lines in a stream of its own.
 */
#include <stdio.h>

#include "block/driver.h"
#include "export/metrics/metrics.h"

#define FAMILIES_MAX 64 /* names that drivers have; more are left out */

struct family {
    const struct metric *metric;
    FILE *lines;
    char *text;
    size_t len;
};

struct collection {
    struct family families[FAMILIES_MAX];
    unsigned nfamilies;
    const struct node *node;
};

static const char *const op_names[REQ_OP_COUNT] = {
    [REQ_READ] = "read",   [REQ_WRITE] = "write",   [REQ_ZERO] = "zero",         [REQ_DISCARD] = "discard",
    [REQ_FLUSH] = "flush", [REQ_STATUS] = "status", [REQ_TRUNCATE] = "truncate", [REQ_CACHE] = "cache",
};

static void put_escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') {
            fputs("\\n", f);
            continue;
        }
        if (*text == '"' || *text == '\\') {
            fputc('\\', f);
        }
        fputc(*text, f);
    }
}

static void put_node(FILE *f, const struct node *n)
{
    fputs("node=\"", f);
    put_escaped(f, node_name(n));
    fprintf(f, "\",driver=\"%s\"", n->drv->name);
}

static struct family *family_of(struct collection *c, const struct metric *m)
{
    struct family *f = c->families;

    for (; f < c->families + c->nfamilies; f++) {
        if (f->metric == m) {
            return f;
        }
    }
    if (c->nfamilies == FAMILIES_MAX) {
        return NULL;
    }
    *f = (struct family){.metric = m};
    f->lines = open_memstream(&f->text, &f->len);
    if (!f->lines) {
        return NULL;
    }
    c->nfamilies++;
    return f;
}

static void collect(void *opaque, const struct metric *m, const char *label, double value)
{
    struct collection *c = opaque;
    struct family *f = family_of(c, m);

    if (!f) {
        return;
    }
    fprintf(f->lines, "blkproof_%s{", m->name);
    put_node(f->lines, c->node);
    if (label) {
        fprintf(f->lines, ",%s=\"", m->label);
        put_escaped(f->lines, label);
        fputc('"', f->lines);
    }
    fprintf(f->lines, "} %.17g\n", value);
}

static void put_head(FILE *out, const char *name, const char *help, const char *type)
{
    fprintf(out, "# HELP blkproof_%s %s\n# TYPE blkproof_%s %s\n", name, help, name, type);
}

/* ---- what every node has ---- */

static const struct metric operations = {"operations_total", "Requests that have ended.", "op",
                                         METRIC_COUNTER};
static const struct metric bytes = {"bytes_total", "Bytes that they were about.", "op", METRIC_COUNTER};
static const struct metric errors = {"errors_total", "Of them, those that failed.", "op", METRIC_COUNTER};
static const struct metric in_flight = {"in_flight_requests", "Requests under way.", NULL, METRIC_GAUGE};
static const struct metric unflushed = {
    "unflushed_bytes", "Written since the last flush: at risk in a power cut. Twice what was written twice.",
    NULL, METRIC_GAUGE};
static const struct metric unflushed_age = {"unflushed_age_seconds", "Age of the oldest of them.", NULL,
                                            METRIC_GAUGE};

static void collect_node(struct collection *c, const struct node *n)
{
    c->node = n;
    for (unsigned op = 0; op < REQ_OP_COUNT; op++) {
        if (op_names[op]) {
            collect(c, &operations, op_names[op], (double)n->stats.ops[op]);
            collect(c, &bytes, op_names[op], (double)n->stats.bytes[op]);
            collect(c, &errors, op_names[op], (double)n->stats.errors[op]);
        }
    }
    collect(c, &in_flight, NULL, n->gate.count);
    if (n->times && !n->read_only) {
        uint64_t age_ns = n->times->unflushed_bytes ? loop_now_ns() - n->times->unflushed_since_ns : 0;
        collect(c, &unflushed, NULL, (double)n->times->unflushed_bytes);
        collect(c, &unflushed_age, NULL, (double)age_ns / NS_PER_SEC);
    }
    if (n->drv->metrics) {
        n->drv->metrics(n, collect, c);
    }
}

/* ---- times ---- */

static void put_histogram(FILE *out, const struct node *n, const char *part, const char *op,
                          const struct histogram *h)
{
    static const char *const suffixes[] = {"sum", "count"};
    uint64_t count = 0;

    for (unsigned i = 0; i < TIME_BUCKETS; i++) {
        count += h->buckets[i];
        fputs("blkproof_request_seconds_bucket{", out);
        put_node(out, n);
        fprintf(out, ",op=\"%s\",part=\"%s\",le=\"", op, part);
        if (i < TIME_BUCKETS - 1) {
            fprintf(out, "%g\"} %llu\n", (double)time_bounds_ns[i] / NS_PER_SEC, (unsigned long long)count);
        } else {
            fprintf(out, "+Inf\"} %llu\n", (unsigned long long)count);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        fprintf(out, "blkproof_request_seconds_%s{", suffixes[i]);
        put_node(out, n);
        fprintf(out, ",op=\"%s\",part=\"%s\"} %.17g\n", op, part,
                i == 0 ? (double)h->sum_ns / NS_PER_SEC : (double)count);
    }
}

static void put_times(FILE *out, const struct node *n)
{
    for (unsigned op = 0; n->times && op < REQ_OP_COUNT; op++) {
        if (!op_names[op] || n->stats.ops[op] == 0) {
            continue;
        }
        put_histogram(out, n, "total", op_names[op], &n->times->total[op]);
        if (n->drv->injects_delay) {
            put_histogram(out, n, "media", op_names[op], &n->times->below[op]);
            put_histogram(out, n, "injected", op_names[op], &n->times->injected[op]);
        }
    }
}

char *metrics_text(const struct metrics_config *config)
{
    static const char *const types[] = {[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge"};
    struct collection c = {0};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const struct node *n;

    if (!out) {
        return NULL;
    }
    list_for_each (n, &config->graph->nodes, link) {
        if (n->filename) { /* it is open */
            collect_node(&c, n);
        }
    }
    for (unsigned i = 0; i < c.nfamilies; i++) {
        struct family *f = &c.families[i];
        put_head(out, f->metric->name, f->metric->help, types[f->metric->type]);
        fclose(f->lines);
        fputs(f->text ? f->text : "", out);
        free(f->text);
    }
    put_head(out, "request_seconds",
             "Time of requests; of nodes that inject faults also the part that the media took.", "histogram");
    list_for_each (n, &config->graph->nodes, link) {
        put_times(out, n);
    }
    put_head(out, "clients", "NBD clients that are connected.", "gauge");
    fprintf(out, "blkproof_clients %u\n", config->clients ? config->clients(config->opaque) : 0);
    bool good = !ferror(out);
    if (fclose(out) != 0 || !good) {
        free(text);
        return NULL;
    }
    return text;
}
