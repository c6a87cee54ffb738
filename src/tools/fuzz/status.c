/* SPDX-License-Identifier: BSD-2-Clause */
/* Progress of a campaign: on a terminal a screen of a few lines, drawn again each second; otherwise a line
 * every ten seconds and one for each new finding, or JSON objects. */
#include "tools/fuzz/status.h"

#include <inttypes.h>

#include "base/json.h"

#define LINE_NS (10 * NS_PER_SEC)

void status_init(struct status *s, const struct tool *t, bool json, bool quiet)
{
    *s = (struct status){
        .tool = t, .json = json, .quiet = quiet, .screen = !json && !quiet && isatty(STDOUT_FILENO)};
}

static void print_json(json_t *j)
{
    AUTO_FREE char *text = json_text(j);
    printf("%s\n", text ? text : "{}");
    fflush(stdout);
    json_decref(j);
}

static void wipe(struct status *s)
{
    if (s->lines > 0) {
        printf("\x1b[%uA\x1b[J", s->lines);
        s->lines = 0;
    }
}

void status_notice(void *status, const char *sentence)
{
    struct status *s = status;

    wipe(s);
    if (s->json) {
        print_json(json_pack("{s:s s:s}", "event", "notice", "text", sentence));
    } else {
        fflush(stdout);
        fprintf(stderr, "%s: fuzz run: %s\n", s->tool->prefix, sentence);
    }
}

void status_finding(void *status, const json_t *hit, bool fresh)
{
    struct status *s = status;
    const char *title = json_string_value(json_object_get(hit, "title"));
    const char *oracle = json_string_value(json_object_get(hit, "oracle"));
    const char *id = json_string_value(json_object_get(hit, "id"));
    json_int_t n = json_integer_value(json_object_get(hit, "n"));

    if (!fresh || s->quiet) {
        return;
    }
    if (s->json) {
        json_t *j = json_copy((json_t *)hit);
        json_object_set_new(j, "event", json_string("finding"));
        json_object_del(j, "dir");
        print_json(j);
    } else if (s->screen) {
        memcpy(s->last[1], s->last[0], sizeof(s->last[0]));
        snprintf(s->last[0], sizeof(s->last[0]), "%s-%s  %s", oracle, id, title);
    } else {
        printf("finding %s-%s (test %lld): %s\n", oracle, id, (long long)n, title);
        fflush(stdout);
    }
}

struct figures {
    double seconds, tests_per_s, runs_per_s, opened_percent;
};

static struct figures figure(const struct campaign *c)
{
    uint64_t end_ns = c->stopped_ns ? c->stopped_ns : campaign_clock_ns();
    struct figures f = {.seconds = (double)(end_ns - c->started_ns) / NS_PER_SEC};
    double s = f.seconds > 0 ? f.seconds : 1;

    f.tests_per_s = (double)(c->totals.tests - c->at_start.tests) / s;
    f.runs_per_s = (double)(c->totals.executed - c->at_start.executed) / s;
    f.opened_percent = c->totals.tests ? 100.0 * (double)c->totals.opened / (double)c->totals.tests : 0;
    return f;
}

static unsigned edges(const struct campaign *c)
{
    return atomic_load(&c->seen->edges);
}

static unsigned kept(const struct campaign *c)
{
    return atomic_load(&c->seen->kept);
}

static void draw(struct status *s, const struct campaign *c, const struct figures *f)
{
    const struct state_totals *t = &c->totals;
    unsigned seconds = (unsigned)f->seconds;

    wipe(s);
    printf("blkproof fuzz  %02u:%02u:%02u  %u job%s%s\n", seconds / 3600, seconds / 60 % 60, seconds % 60,
           c->jobs, c->jobs == 1 ? "" : "s", c->stopping ? "  stopping: tests that run are finished" : "");
    printf("  tests     %-12" PRIu64 " %.1f/s\n", t->tests, f->tests_per_s);
    printf("  processes %-12" PRIu64 " %.0f/s\n", t->executed, f->runs_per_s);
    printf("  opened    %.1f %%\n", f->opened_percent);
    printf("  findings  %-12" PRIu64 " %" PRIu64 " new this hour, seen %" PRIu64 " times\n", t->findings,
           t->new_this_hour, t->hits);
    s->lines = 5;
    if (c->seen) {
        printf("  coverage  %-12u edges, %u images kept\n", edges(c), kept(c));
        s->lines++;
    }
    for (size_t i = 0; i < ARRAY_SIZE(s->last); i++) {
        if (*s->last[i]) {
            printf("  %.100s\n", s->last[i]);
            s->lines++;
        }
    }
    fflush(stdout);
}

static json_t *progress_json(const struct campaign *c, const struct figures *f, const char *event)
{
    const struct state_totals *t = &c->totals;
    json_t *j = json_pack("{s:s s:f s:I s:f s:I s:f s:I s:f s:I s:I s:I}", "event", event, "seconds",
                          f->seconds, "tests", (json_int_t)t->tests, "tests-per-second", f->tests_per_s,
                          "processes", (json_int_t)t->executed, "processes-per-second", f->runs_per_s,
                          "opened", (json_int_t)t->opened, "opened-percent", f->opened_percent, "findings",
                          (json_int_t)t->findings, "hits", (json_int_t)t->hits, "new-this-hour",
                          (json_int_t)t->new_this_hour);
    if (c->seen) {
        json_object_set_new(j, "edges", json_integer(edges(c)));
        json_object_set_new(j, "kept", json_integer(kept(c)));
    }
    return j;
}

static void print_line(const struct campaign *c, const struct figures *f, const char *what)
{
    printf("%s%" PRIu64 " tests in %.1f s (%.1f/s, %.0f processes/s), %.1f %% opened, %" PRIu64
           " findings seen %" PRIu64 " times",
           what, c->totals.tests, f->seconds, f->tests_per_s, f->runs_per_s, f->opened_percent,
           c->totals.findings, c->totals.hits);
    if (c->seen) {
        printf(", %u edges, %u images kept", edges(c), kept(c));
    }
    printf("\n");
    fflush(stdout);
}

void status_tick(void *status, const struct campaign *c)
{
    struct status *s = status;
    const struct figures f = figure(c);
    uint64_t now_ns = campaign_clock_ns();

    if (s->screen) {
        draw(s, c, &f);
    } else if (!s->quiet && now_ns - s->said_ns >= LINE_NS && s->said_ns) {
        s->said_ns = now_ns;
        if (s->json) {
            print_json(progress_json(c, &f, "progress"));
        } else {
            print_line(c, &f, "");
        }
    } else if (!s->said_ns) {
        s->said_ns = now_ns;
    }
}

void status_end(struct status *s, const struct campaign *c)
{
    const struct figures f = figure(c);

    wipe(s);
    if (s->json) {
        print_json(progress_json(c, &f, "end"));
    } else if (!s->quiet) {
        print_line(c, &f, "done: ");
    }
}
