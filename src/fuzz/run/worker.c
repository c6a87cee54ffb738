/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker process: tests by number, one after the other, and what came of each as a JSON object. What it
 * finds it writes into OUT/staging; the campaign decides what is kept. A bucket that this worker has not seen
 * is run again a few times, which tells how steady it is.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/json.h"
#include "fuzz/internal.h"
#include "fuzz/run/campaign.h"

#define FIELDS_MAX 64   /* of one test's that are counted */
#define SHELL_MAX  4096 /* of a command in a message: all hits of a test have to fit */
#define SEEN_MAX   4096 /* buckets that a worker knows */

struct worker {
    const struct worker_args *args;
    struct place place;
    struct coverage coverage;
    uint64_t n; /* the current test */
    bool quiet; /* a rerun: nothing is written */
    json_t *hits;
    char (*seen)[20];
    size_t nseen;
};

/* ---- hits ---- */

static bool is_known(struct worker *w, const char *id)
{
    for (size_t i = 0; i < w->nseen; i++) {
        if (strcmp(w->seen[i], id) == 0) {
            return true;
        }
    }
    if (w->nseen < SEEN_MAX) {
        snprintf(w->seen[w->nseen++], sizeof(w->seen[0]), "%s", id);
    }
    return false;
}

static uint64_t image_bytes(const struct fuzz_image *img)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < img->files; i++) {
        bytes += img->file[i].size;
    }
    return bytes;
}

static void on_hit(struct test *t, struct test_hit *h)
{
    struct worker *w = t->opaque;
    char *dir = NULL;
    struct err err = {0};

    if (w->quiet) {
        return;
    }
    if (asprintf(&dir, "%s/staging/%llu-%s", w->args->out, (unsigned long long)w->n, h->bucket.id) < 0) {
        return;
    }
    bool fits = h->shell && strlen(h->shell) < SHELL_MAX;
    const char *shell = fits ? h->shell : "(see command.sh)";
    artefact_remove(dir); /* of a campaign that was killed */
    int r = artefact_write(t, h, dir, &err);
    json_t *j = json_pack("{s:s s:s s:s s:s s:s s:s s:I s:I s:I s:s}", "id", h->bucket.id, "key",
                          h->bucket.key, "title", h->bucket.title, "oracle", oracle_words[h->oracle].name,
                          "command", t->commands->list[h->command].name, "shell", shell, "needs",
                          (json_int_t)h->needs, "mutations", (json_int_t)t->img->mutations, "bytes",
                          (json_int_t)image_bytes(t->img), "dir", dir);
    if (j && r < 0) {
        json_object_set_new(j, "error", json_string(err.text));
    }
    json_array_append_new(w->hits, j);
    free(dir);
}

/* How steady is it? Only the commands that it takes. */
static int run_again(struct worker *w, json_t *hit, struct err *err)
{
    const char *id = json_string_value(json_object_get(hit, "id"));
    uint64_t needs = (uint64_t)json_integer_value(json_object_get(hit, "needs"));
    unsigned again = w->args->config->again, seen = 0;
    int r = 0;

    w->quiet = true;
    for (unsigned i = 0; i < again && r == 0; i++) {
        r = place_run_image(&w->place, w->n, needs, err);
        seen += r == 0 && test_find(&w->place.test, id);
    }
    w->quiet = false;
    json_object_set_new(hit, "again", json_integer(again));
    json_object_set_new(hit, "seen", json_integer(seen));
    return r;
}

/* ---- one test ---- */

/* "header.version", "l2.entry.offset": without indices, each once. */
static json_t *mutated_fields(const struct fuzz_image *img)
{
    json_t *fields = json_object();

    for (unsigned i = 0; i < img->mutations && json_object_size(fields) < FIELDS_MAX; i++) {
        const struct fuzz_mutation *m = &img->mutation[i];
        char path[FUZZ_PATH_MAX];
        if (m->what == FUZZ_TRUNCATE) {
            snprintf(path, sizeof(path), "(size of the file)");
        } else {
            fuzz_path_plain(img, m->part, m->element, m->field, path);
        }
        json_object_set_new(fields, path, json_true());
    }
    return fields;
}

/* With feedback: an image that reached something new is kept, unless it is a finding, which would be found
 * for ever. */
static int run_test(struct worker *w, struct err *err)
{
    struct coverage *c = w->place.source.coverage;
    bool fresh;

    if (!c) {
        return place_run(&w->place, w->n, UINT64_MAX, err);
    }
    coverage_begin(c);
    int r = place_run(&w->place, w->n, UINT64_MAX, err);
    r = r < 0 ? r : coverage_end(c, &fresh, err);
    return r < 0 || !fresh || json_array_size(w->hits) > 0 ? r
                                                           : coverage_keep(c, w->place.source.img, w->n, err);
}

static int run_one(struct worker *w, uint64_t n, json_t **ret, struct err *err)
{
    struct place *p = &w->place;
    uint64_t started_ns = campaign_clock_ns();
    size_t i;
    json_t *hit;

    w->n = n;
    w->hits = json_array();
    p->test.executed = 0;
    int r = run_test(w, err);
    bool opened = p->test.opened;
    json_array_foreach(w->hits, i, hit)
    {
        if (r == 0 && !is_known(w, json_string_value(json_object_get(hit, "id")))) {
            r = run_again(w, hit, err);
        }
    }
    if (r < 0) {
        json_decref(w->hits);
        return r;
    }
    *ret = json_pack("{s:I s:b s:I s:I s:o s:o}", "n", (json_int_t)n, "opened", opened, "executed",
                     (json_int_t)p->test.executed, "ns", (json_int_t)(campaign_clock_ns() - started_ns),
                     "fields", mutated_fields(p->source.img), "hits", w->hits);
    return *ret ? 0 : err_set(err, -ENOMEM, "no memory");
}

/* ---- the process ---- */

static int tell(struct worker *w, json_t *j)
{
    AUTO_FREE char *text = j ? json_text(j) : NULL;
    json_decref(j);
    return text && send(w->args->fd, text, strlen(text), MSG_NOSIGNAL) >= 0 ? 0 : -EPIPE;
}

static void on_notice(void *opaque, const char *sentence)
{
    tell(opaque, json_pack("{s:s}", "notice", sentence));
}

int worker_run(void *args)
{
    struct worker w = {.args = args};
    struct err err = {0};
    uint64_t n;

    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    w.seen = calloc(SEEN_MAX, sizeof(*w.seen));
    int r = !w.seen ? err_set(&err, -ENOMEM, "no memory")
                    : place_init(&w.place, w.args->config, w.args->work, &err);
    if (r == 0 && w.args->seen) {
        w.place.source.coverage = &w.coverage;
        r = coverage_attach(&w.coverage, w.args->seen, w.args->out, &err);
    }
    w.place.test.on_hit = on_hit;
    w.place.test.opaque = &w;
    w.place.exec.notice = on_notice;
    w.place.exec.notice_opaque = &w;
    while (r == 0 && recv(w.args->fd, &n, sizeof(n), 0) == sizeof(n)) {
        json_t *result;
        r = run_one(&w, n, &result, &err);
        r = r < 0 ? r : tell(&w, result);
    }
    if (r < 0 && r != -EPIPE) {
        tell(&w, json_pack("{s:s}", "error", err.text));
    }
    place_finish(&w.place);
    coverage_detach(&w.coverage);
    free(w.seen);
    return r < 0 ? EXIT_FAILURE : 0;
}
