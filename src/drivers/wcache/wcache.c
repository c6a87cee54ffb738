/* SPDX-License-Identifier: BSD-2-Clause */
/* write-cache: a disk with a volatile write cache, whose power can be cut. */
#include <stdio.h>

#include "drivers/wcache/internal.h"

#define SIZE_MAX_BYTES (16 * GiB) /* a piece's number has 32 bits; no disk has as much */

static const char *const evict_values[] = {"fifo", "lru", "random", NULL};
static const char *const honest_values[] = {"honest", "lie", NULL};

#define F(member) offsetof(struct wcache, member)

static const struct option wcache_options[] = {
    {"size", OPT_SIZE, F(size), .def = "4M", .max = SIZE_MAX_BYTES,
     .help = "bytes the cache holds; 0: every write goes to the device"},
    {"evict", OPT_ENUM, F(evict), .def = "fifo", .values = evict_values, .runtime = true,
     .help = "what is written down when it is full: fifo|lru|random"},
    {"age", OPT_NS, F(age_ns), .def = "0", .runtime = true,
     .help = "a write is written down when it is so old; 0: when the cache is full, or flushed"},
    {"flush", OPT_ENUM, F(flush), .def = "honest", .values = honest_values, .runtime = true,
     .help = "honest, or lie: a flush is acknowledged and nothing is done"},
    {"fua", OPT_ENUM, F(fua), .def = "honest", .values = honest_values, .runtime = true,
     .help = "honest, or lie: a write that asks to be durable is not"},
    {"seed", OPT_UINT, F(seed), .def = "1", .help = "of what is left to chance"},
    {"report", OPT_STRING, F(report), .help = "file to which each power cut appends a line of JSON"},
    {0},
};

static co_fn int wcache_open(struct node *n, struct err *err)
{
    struct wcache *c = n->state;

    c->node = n;
    c->report_fd = -1;
    c->age_timer.fire = wc_age_fires;
    c->on_timer.fire = wc_on_timer_fires;
    list_init(&c->moves);
    list_init(&c->readers);
    co_queue_init(&c->freed);
    co_queue_init(&c->settled);
    rng_init(&c->rng, c->seed);
    c->size = round_down(c->size, WC_PAGE);
    c->first_failed = UINT64_MAX;
    if (wc_cache_init(c) < 0) {
        return err_set(err, -ENOMEM, "no memory for a cache of %llu bytes", (unsigned long long)c->size);
    }
    c->memory.most = MAX((uint64_t)c->npieces * WC_PAGE_SECTORS, (uint64_t)WC_MARKS_MIN);
    /* Requests come as they are; what the device cannot do with them, the gate below does. */
    n->limits.align = n->limits.mem_align = 1;
    n->limits.zero_align = n->limits.discard_align = 1;
    n->limits.max_transfer = n->limits.max_zero = n->limits.max_discard = 0;
    n->limits.supported = REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK;
    return c->report ? wc_report_open(c, c->report, err) : 0;
}

static void tell_unwritten(const struct wcache *c, int error)
{
    char text[256];

    if (c->node->graph->notice) {
        snprintf(text, sizeof(text), "node '%s': %llu bytes of its write cache could not be written: %s",
                 node_name(c->node), (unsigned long long)c->dirty_bytes, err_name(error));
        c->node->graph->notice(c->node->graph, NOTICE_ERROR, text);
    }
}

/* A disk that is switched off properly writes its cache down. */
static co_fn void wcache_close(struct node *n)
{
    struct wcache *c = n->state;

    if (!c->node) {
        return;
    }
    c->closing = true;
    timer_disarm(&c->age_timer);
    timer_disarm(&c->on_timer);
    co_queue_wake_all(&c->freed);
    while (c->aging) {
        co_queue_wait(&c->freed);
    }
    int r = c->nused > 0 ? wc_write_down(c) : 0;
    if (r < 0) {
        tell_unwritten(c, r);
    }
    wc_report_close(c);
    wc_memory_finish(&c->memory);
    wc_cache_finish(c);
    free(c->losses);
}

/* write-cache:DEVICE */
static int wcache_parse_name(const char *name, json_t *options, struct err *err)
{
    if (json_object_set_new(options, "file", json_pack("{s:s}", "filename", strchr(name, ':') + 1)) < 0) {
        return err_set(err, -EINVAL, "'%s': not a valid file name (not UTF-8)", name);
    }
    return 0;
}

static co_fn int wcache_set(struct node *n, const char *option, struct err *err)
{
    if (strcmp(option, "age") == 0) {
        struct wcache *c = n->state;
        timer_disarm(&c->age_timer);
        wc_age_look(c);
    }
    return 0;
}

void wcache_lie(struct node *n, const struct wcache_lie *how)
{
    struct wcache *c = n->state;

    if (!c->overridden && !how) {
        return;
    }
    if (!c->overridden) {
        c->own_flush = c->flush;
        c->own_fua = c->fua;
        c->own_age_ns = c->age_ns;
    }
    c->overridden = how != NULL;
    c->flush = how && how->flush ? WC_LIE : c->own_flush;
    c->fua = how && how->fua ? WC_LIE : c->own_fua;
    c->age_ns = how && how->age_ns ? how->age_ns : c->own_age_ns;
    timer_disarm(&c->age_timer);
    wc_age_look(c);
}

static co_fn json_t *wcache_info(struct node *n)
{
    const struct wcache *c = n->state;
    uint64_t promised = 0, since = c->oldest != WC_NIL ? loop_now_ns() - c->pieces[c->oldest].acked_ns : 0;

    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        promised += c->pieces[i].covered || c->pieces[i].fua ? wc_bytes(&c->pieces[i]) : 0;
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:I}", "size", (json_int_t)c->size, "dirty-bytes",
                     (json_int_t)c->dirty_bytes, "promised-bytes", (json_int_t)promised, "used-bytes",
                     (json_int_t)c->nused * WC_PAGE, "oldest-ns", (json_int_t)since, "power", (int)!c->off,
                     "cuts", (json_int_t)c->epoch);
}

static const struct metric dirty = {"write_cache_dirty_bytes", "In the volatile cache, not on the device.",
                                    NULL, METRIC_GAUGE};
static const struct metric cuts = {"write_cache_power_cuts_total", "How often the power was cut.", NULL,
                                   METRIC_COUNTER};

static void wcache_metrics(const struct node *n, metric_out *out, void *opaque)
{
    const struct wcache *c = n->state;

    out(opaque, &dirty, NULL, (double)c->dirty_bytes);
    out(opaque, &cuts, NULL, (double)c->epoch);
}

bool wcache_is(const struct node *n)
{
    return n && n->drv == &driver_write_cache;
}

struct node *wcache_find(struct node *n)
{
    while (n && !wcache_is(n)) {
        n = n->nchildren ? node_below(n) : NULL;
    }
    return n;
}

int wcache_report_to(struct node *n, const char *path, struct err *err)
{
    struct wcache *c = n->state;

    wc_report_close(c);
    return path ? wc_report_open(c, path, err) : 0;
}

const struct driver driver_write_cache = {
    .name = "write-cache",
    .kind = DRIVER_FILTER,
    .summary = "A volatile write cache, which a power cut empties.",
    .options = wcache_options,
    .children = (const struct child_def[]){{"file", CHILD_FILTERED, .required = true, .probe = true}, {0}},
    .prefixes = (const char *const[]){"write-cache:", NULL},
    .parse_name = wcache_parse_name,
    .state_size = sizeof(struct wcache),
    .open = wcache_open,
    .close = wcache_close,
    .io = wc_io,
    .unhold = wc_unhold,
    .explain = wc_explain,
    .set = wcache_set,
    .metrics = wcache_metrics,
    .info = wcache_info,
};
