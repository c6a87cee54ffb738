/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof serve` and the verifiers among its disks: their report, scrubs, and requests they hold. */
#include <stdio.h>

#include "drivers/verify/verify.h"
#include "tools/serve.h"

#define VERIFIERS_MAX 256 /* nodes that --report and --scrub act on: far more than one disk has */

struct verifiers {
    struct node *nodes[VERIFIERS_MAX];
    unsigned count;
};

static void find_verifiers(struct node *n, struct verifiers *v)
{
    for (unsigned i = 0; i < v->count; i++) {
        if (v->nodes[i] == n) {
            return;
        }
    }
    if (verify_is(n) && v->count < VERIFIERS_MAX) {
        v->nodes[v->count++] = n;
    }
    for (unsigned i = 0; i < node_children(n); i++) {
        struct node *child = node_child_at(n, i, NULL);
        if (child) {
            find_verifiers(child, v);
        }
    }
}

static struct verifiers all_verifiers(const struct serve *s)
{
    struct verifiers v = {0};

    for (unsigned i = 0; i < s->nimages; i++) {
        if (s->images[i].node) {
            find_verifiers(s->images[i].node, &v);
        }
    }
    return v;
}

int serve_set_report(struct serve *s, struct err *err)
{
    struct verifiers v = all_verifiers(s);

    if (v.count == 0 && (s->report || s->scrub)) {
        return err_set(err, -EINVAL, "%s needs a blkverify device: no image has one",
                       s->report ? "--report" : "--scrub");
    }
    if (v.count > 1 && s->report) {
        return err_set(err, -EINVAL,
                       "--report is for one blkverify device, and there are %u: use their option report",
                       v.count);
    }
    return s->report ? verify_report_to(v.nodes[0], s->report, err) : 0;
}

static bool show_progress(void *opaque, uint64_t done, uint64_t total)
{
    struct serve *s = opaque;

    if (s->progress) {
        printf("    (%.2f/100%%)\r", total ? 100.0 * (double)done / (double)total : 100.0);
        fflush(stdout);
    }
    return !s->signal && !(s->scrubbing && s->end); /* a signal that comes now ends the scrub */
}

/* Returns what verify_scrub does, having said what went wrong. */
static int scrub_one(struct serve *s, struct node *n, struct verify_scrub_result *ret_result)
{
    uint64_t before = s->graph.mismatches;
    int rc = verify_scrub(n, show_progress, s, ret_result);

    if (s->progress) {
        putchar('\n');
    }
    if (rc == -ECANCELED) {
        tool_error(s->tool, "the scrub of '%s' was interrupted", node_filename(n));
    } else if (rc < 0 && s->graph.mismatches == before) {
        tool_error(s->tool, "scrub '%s': %s", node_filename(n), err_name(rc));
    }
    return rc;
}

void serve_scrub_all(struct serve *s)
{
    struct verifiers v = all_verifiers(s);
    int rc = 0;

    s->signal = 0; /* the one that ended the server has done its work */
    for (unsigned i = 0; i < v.count && rc != -ECANCELED; i++) {
        struct verify_scrub_result result = {0};
        rc = scrub_one(s, v.nodes[i], &result);
        s->failed |= rc < 0;
    }
}

/* On demand, while clients go on. The images stay open until it has ended: see finish. */
static void scrub_now(void *arg)
{
    struct serve *s = arg;
    struct verifiers v = all_verifiers(s);
    int rc = 0;

    for (unsigned i = 0; i < v.count && rc != -ECANCELED; i++) {
        struct verify_scrub_result result = {0};
        rc = scrub_one(s, v.nodes[i], &result);
        if (rc != -ECANCELED && !s->quiet) {
            tool_error(s->tool,
                       "scrub of '%s': %llu bytes compared, %llu in holes of both sides, %llu mismatches",
                       node_filename(v.nodes[i]), (unsigned long long)result.compared_bytes,
                       (unsigned long long)result.skipped_bytes, (unsigned long long)result.mismatches);
        }
    }
    s->scrubbing = false;
    co_queue_wake_all(&s->changed);
}

void serve_scrub_begin(struct serve *s)
{
    if (!s->scrubbing && !s->end) {
        s->scrubbing = co_start_later(scrub_now, s) == 0;
    }
}

void serve_release(struct serve *s)
{
    struct verifiers v = all_verifiers(s);

    for (unsigned i = 0; i < v.count; i++) {
        verify_release(v.nodes[i]);
    }
}
