/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verify driver, under QEMU's name blkverify: every request goes to the device under test and to
 * a trusted copy of raw bytes, and what comes back must be the same. This file has the options, the
 * life of a node, and what happens after a mismatch; io.c has the requests.
 */
#include <stdio.h>

#include "drivers/verify/oracle.h"

/* Larger requests are split by the gate: 64 MiB of buffers at most per request. */
#define TRANSFER_MAX (32 * MiB)

static const char *const on_mismatch_values[] = {"stop", "error", "report", "pause", NULL};
static const char *const length_values[] = {"equal", "prefix", NULL};

#define V(member) offsetof(struct verify, member)
static const struct option verify_options[] = {
    {.name = "on-mismatch",
     .type = OPT_ENUM,
     .offset = V(on_mismatch),
     .def = "stop",
     .values = on_mismatch_values,
     .runtime = true,
     .help = "after a mismatch: stop|error|report|pause"},
    {.name = "on-injected",
     .type = OPT_ENUM,
     .offset = V(on_injected),
     .def = "report",
     .values = on_mismatch_values,
     .runtime = true,
     .help = "after a mismatch that a fault rule explains: stop|error|report|pause"},
    {.name = "report",
     .type = OPT_STRING,
     .offset = V(report),
     .help = "append one JSON object per mismatch to this file"},
    {.name = "length",
     .type = OPT_ENUM,
     .offset = V(length),
     .def = "equal",
     .values = length_values,
     .help = "equal: both sides must be as long as each other; prefix: verify what both have"},
    {.name = "discard-stable",
     .type = OPT_BOOL,
     .offset = V(discard_stable),
     .def = "off",
     .runtime = true,
     .help = "what the first read after a discard shows must not change any more (on|off)"},
    {.name = "scrub",
     .type = OPT_BOOL,
     .offset = V(scrub),
     .def = "off",
     .runtime = true,
     .help = "compare the whole device when it is closed (on|off)"},
    {.name = "history",
     .type = OPT_UINT,
     .offset = V(history_ops),
     .def = "65536",
     .min = 16,
     .max = UINT64_C(1) << 24,
     .help = "operations remembered, 16 to 16777216, rounded up to a power of two; 48 bytes each"},
    {.name = "history-sectors",
     .type = OPT_UINT,
     .offset = V(history_hashes),
     .def = "1048576",
     .min = 1024,
     .max = UINT64_C(1) << 30,
     .help = "sector hashes remembered, 1024 to 1073741824, rounded up to a power of two; 8 bytes each"},
    {.name = "indeterminate",
     .type = OPT_UINT,
     .offset = V(indeterminate_max),
     .def = "65536",
     .min = 2,
     .max = UINT64_C(1) << 24,
     .help = "indeterminate ranges kept apart, 2 to 16777216; 32 bytes each"},
    {.name = "piece",
     .type = OPT_SIZE,
     .offset = V(piece),
     .def = "1M",
     .min = 4096,
     .max = 32 * MiB,
     .help = "a longer read is read and compared in pieces of this size, 4k to 32M"},
    {0},
};

static const struct child_def verify_children[] = {
    {.name = "test", .role = CHILD_FILTERED, .required = true, .probe = true},
    {.name = "raw", .role = CHILD_REFERENCE, .required = true},
    {0},
};

/* ---- names ---- */

/* blkverify:RAW:TEST, split at the first colon: TEST may have any, RAW none. */
static int verify_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *raw = strchr(name, ':') + 1;
    const char *colon = strchr(raw, ':');

    if (!colon) {
        return err_set(err, -EINVAL, "blkverify requires raw copy and original image path");
    }
    if (colon == raw) { /* said here: the test device is opened first, and its error would come first */
        return err_set(err, -EINVAL, "The 'file' block driver requires a file name");
    }
    if (json_object_set_new(options, "driver", json_string("blkverify")) < 0 ||
        json_object_set_new(options, "raw", json_pack("{s:s%}", "filename", raw, (size_t)(colon - raw))) <
            0 ||
        json_object_set_new(options, "test", json_pack("{s:s}", "filename", colon + 1)) < 0) {
        return err_set(err, -EINVAL, "'%s': not a valid file name (not UTF-8)", name);
    }
    return 0;
}

static char *verify_make_name(const struct node *n)
{
    const struct verify *v = n->state;
    char *name;

    if (!v->raw || !v->test || strncmp(node_filename(v->raw), "json:", 5) == 0 ||
        strncmp(node_filename(v->test), "json:", 5) == 0 || strchr(node_filename(v->raw), ':') ||
        asprintf(&name, "blkverify:%s:%s", node_filename(v->raw), node_filename(v->test)) < 0) {
        return NULL;
    }
    return name;
}

/* ---- reconnects ---- */

static uint64_t reconnects_below(const struct node *n)
{
    uint64_t sum = n->reconnects;

    for (unsigned i = 0; i < n->nchildren; i++) {
        sum += n->children[i].node ? reconnects_below(n->children[i].node) : 0;
    }
    return sum;
}

static bool ignores_flushes(const struct node *n)
{
    bool ignores = n->flags & OPEN_NO_FLUSH;

    for (unsigned i = 0; i < n->nchildren && !ignores; i++) {
        ignores = n->children[i].node && ignores_flushes(n->children[i].node);
    }
    return ignores;
}

static void add_lost(void *opaque, uint64_t offset, uint64_t bytes, bool coarse)
{
    const struct node *n = opaque;
    struct verify *v = n->state;
    uint64_t end = MIN(offset + round_up(bytes, SECTOR_SIZE), round_up(n->size, SECTOR_SIZE));

    indet_add(&v->indet, offset, end, coarse ? INDET_ANY : INDET_VERSIONS);
}

void verify_tell_bound(struct node *n)
{
    struct verify *v = n->state;
    char text[256];

    if (v->reached_told || !v->indet.reached) {
        return;
    }
    v->reached_told = true;
    snprintf(text, sizeof(text),
             "blkverify: more than %llu separate ranges are indeterminate (option indeterminate): what "
             "lies between some of them is not verified until it is written again",
             (unsigned long long)v->indeterminate_max);
    if (n->graph->notice) {
        n->graph->notice(n->graph, NOTICE_WARNING, text);
    }
}

void verify_lose_unflushed(struct node *n)
{
    struct verify *v = n->state;

    v->losses++;
    if (v->oracle) {
        oracle_lose(v->oracle);
        return;
    }
    history_lose_unflushed(&v->history, n->size, add_lost, n);
    verify_tell_bound(n);
}

void verify_look_for_reconnects(struct node *n)
{
    struct verify *v = n->state;

    if (LIKELY(v->graph_reconnects == n->graph->reconnects)) {
        return;
    }
    v->graph_reconnects = n->graph->reconnects;
    uint64_t now = reconnects_below(n);
    if (now != v->reconnects) {
        v->reconnects = now;
        verify_lose_unflushed(n);
    }
}

bool verify_lost_since(struct node *n, uint64_t losses)
{
    verify_look_for_reconnects(n);
    return ((const struct verify *)n->state)->losses != losses;
}

/* ---- after a mismatch ---- */

co_fn int verify_decide(struct node *n, uint64_t opno, int rc, bool injected)
{
    struct verify *v = n->state;

    switch ((enum on_mismatch)(injected ? v->on_injected : v->on_mismatch)) {
    case ON_STOP:
        n->graph->injected_stop |= injected;
        v->stopped = true; /* nothing more reaches the two sides: they stay as they are */
        co_queue_wake_all(&v->held);
        if (n->graph->stop) {
            n->graph->stop(n->graph, n);
        }
        return -EIO;
    case ON_ERROR:
        return -EIO;
    case ON_PAUSE:
        v->paused = true;
        v->held_opno = opno;
        while (v->paused) {
            co_queue_wait(&v->held);
        }
        return rc;
    case ON_REPORT:
        break;
    }
    return rc;
}

bool verify_is(const struct node *n)
{
    return n && (n->drv == &driver_verify || n->drv == &driver_oracle);
}

bool verify_is_paused(const struct node *n, uint64_t *ret_opno)
{
    if (!verify_is(n)) {
        return false;
    }
    const struct verify *v = n->state;
    if (v->paused && ret_opno) {
        *ret_opno = v->held_opno;
    }
    return v->paused;
}

void verify_release(struct node *n)
{
    if (verify_is(n)) {
        struct verify *v = n->state;
        v->paused = false;
        co_queue_wake_all(&v->held);
    }
}

int verify_report_to(struct node *n, const char *path, struct err *err)
{
    if (!verify_is(n)) {
        return err_set(err, -EINVAL, "'%s' is not a blkverify node", node_name(n));
    }
    verify_report_close(n->state);
    return path ? verify_report_open(n, path, err) : 0;
}

/* ---- the life of a node ---- */

static int check_sides(const struct node *n, struct err *err)
{
    const struct verify *v = n->state;
    uint64_t test = node_size(v->test), raw = node_size(v->raw);

    if (test != raw && v->length == LENGTH_EQUAL) {
        return err_set(err, -EINVAL,
                       "blkverify: the test device '%s' has %llu bytes, the raw copy '%s' has %llu: they "
                       "must be equal (length=prefix verifies the part that both have)",
                       node_filename(v->test), (unsigned long long)test, node_filename(v->raw),
                       (unsigned long long)raw);
    }
    if (!n->read_only && (node_is_read_only(v->test) || node_is_read_only(v->raw))) {
        const struct node *which = node_is_read_only(v->test) ? v->test : v->raw;
        return err_set(err, -EACCES, "blkverify: '%s' is read-only: open the blkverify node read-only too",
                       node_filename(which));
    }
    return 0;
}

uint64_t next_pow2(uint64_t x)
{
    uint64_t p = 1;

    while (p < x) {
        p *= 2;
    }
    return p;
}

void verify_set_limits(struct node *n, uint32_t align)
{
    const struct verify *v = n->state;
    const struct limits *t = &v->test->limits, *r = v->raw ? &v->raw->limits : t;

    n->limits = (struct limits){
        .align = align,                               /* whole sectors: the unit of the books */
        .mem_align = MAX(t->mem_align, r->mem_align), /* one bounce here instead of two below */
        .max_transfer = TRANSFER_MAX,
        .zero_align = align,
        .discard_align = align,
        .preferred = t->preferred,
        .supported = REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK | (t->supported & REQ_COMPRESSED),
        .serialise = true,
    };
}

void verify_prepare(struct node *n)
{
    struct verify *v = n->state;

    v->report_fd = -1;
    co_mutex_init(&v->settling);
    co_mutex_init(&v->reporting);
    co_queue_init(&v->held);
    co_queue_init(&v->flushed);
    list_init(&v->flushes);
    list_init(&v->changes);
    co_queue_init(&v->changed);
    v->never_flushed = ignores_flushes(n);
    v->graph_reconnects = n->graph->reconnects;
    v->reconnects = reconnects_below(n);
}

static co_fn int verify_open(struct node *n, struct err *err)
{
    struct verify *v = n->state;

    verify_prepare(n);
    v->test = node_child(n, "test");
    v->raw = node_child(n, "raw");
    int rc = check_sides(n, err);
    if (rc < 0) {
        return rc;
    }
    n->size = MIN(node_size(v->test), node_size(v->raw));
    verify_set_limits(n, SECTOR_SIZE);
    v->history_ops = next_pow2(v->history_ops);
    v->history_hashes = next_pow2(v->history_hashes);
    if (history_prepare(&v->history, v->history_ops, v->history_hashes, n->size) < 0 ||
        indet_init(&v->indet, (uint32_t)v->indeterminate_max) < 0) {
        return err_set(err, -ENOMEM, "blkverify: no memory for the history");
    }
    if (v->report) {
        rc = verify_report_open(n, v->report, err);
    }
    v->opened = rc == 0;
    return rc;
}

/* What was believed is not to go unnoticed. */
static void tell_unverified(struct node *n)
{
    const struct verify *v = n->state;
    char text[256];

    if (v->counts.unverified_bytes == 0 || n->graph->standin || !n->graph->notice) {
        return;
    }
    snprintf(
        text, sizeof(text),
        v->oracle
            ? "oracle: %llu bytes were believed: the book did not know, or not any more, what they had held"
            : "blkverify: %llu bytes were believed after errors or a reconnect: what they had held was not "
              "in the history (options history, history-sectors)",
        (unsigned long long)v->counts.unverified_bytes);
    n->graph->notice(n->graph, NOTICE_WARNING, text);
}

/* The sum: what was not the disk's fault. */
static void tell_explained(struct node *n)
{
    const struct verify_counts *c = &((const struct verify *)n->state)->counts;

    if (c->injected + c->legal > 0) {
        verify_notice(n, NOTICE_DETAIL,
                      "blkverify: %llu injected, %llu legal after a power cut, %llu corruption%s",
                      (unsigned long long)c->injected, (unsigned long long)c->legal,
                      (unsigned long long)c->mismatches, c->mismatches == 1 ? "" : "s");
    }
}

void verify_close(struct node *n)
{
    struct verify *v = n->state;

    if (v->opened) {
        v->paused = false;
        if (v->on_mismatch == ON_PAUSE) {
            v->on_mismatch = ON_REPORT; /* nobody is left to release it */
        }
        if (v->on_injected == ON_PAUSE) {
            v->on_injected = ON_REPORT;
        }
        if (v->scrub && !v->stopped) {
            verify_scrub_with(n, verify_io, NULL, NULL, NULL);
        }
        tell_unverified(n);
        tell_explained(n);
        verify_report_close(v);
    }
    history_finish(&v->history);
    indet_finish(&v->indet);
}

co_fn json_t *verify_info(struct node *n)
{
    const struct verify *v = n->state;
    json_t *o = verify_counts_json(n);

    json_object_set_new(o, "paused", json_boolean(v->paused));
    return o;
}

static const char *const verify_prefixes[] = {"blkverify:", NULL};

const struct driver driver_verify = {
    .name = "blkverify",
    .kind = DRIVER_FILTER,
    .summary = "compares every read of a device under test with a trusted raw copy",
    .options = verify_options,
    .children = verify_children,
    .prefixes = verify_prefixes,
    .parse_name = verify_parse_name,
    .make_name = verify_make_name,
    .state_size = sizeof(struct verify),
    .open = verify_open,
    .close = verify_close,
    .io = verify_io,
    .info = verify_info,
    .metrics = verify_metrics,
};
