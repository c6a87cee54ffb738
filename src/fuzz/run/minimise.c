/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Delta debugging: leave a part of the list away and see whether the same bucket is still hit; first halves,
 * then smaller pieces, until nothing more can go. Mutations first, then the bytes of whole structures, then
 * the end of the files.
 */
#include <stdio.h>

#include "fuzz/run/finding.h"

#define TRIES     3 /* to see a finding at all: some are not steady */
#define SIZE_STEP 512

struct minimiser {
    const struct finding *f;
    struct place *p;
    struct fuzz_image *img;
    unsigned runs, runs_max;
    bool *keep;      /* mutations, then parts */
    bool structures; /* the second phase: bytes are those of .copy, changed */
    uint8_t *copy[FUZZ_FILES_MAX];
    uint64_t copied[FUZZ_FILES_MAX], size[FUZZ_FILES_MAX];
    const char *write_to; /* keep what is hit here */
    struct err *err;
};

/* ---- does it still show? ---- */

static void make_structures(struct minimiser *m)
{
    struct fuzz_image *img = m->img;

    for (unsigned i = 0; i < img->files; i++) {
        memcpy(img->file[i].bytes, m->copy[i], m->copied[i]);
        img->file[i].size = m->size[i];
    }
    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        uint64_t have = m->copied[p->file];
        if (!m->keep[i] && p->offset < have) {
            memset(img->file[p->file].bytes + p->offset, 0, MIN(p->bytes, have - p->offset));
        }
    }
}

/* 1: it shows, 0: it does not, else an error of the machine. */
static int shows(struct minimiser *m)
{
    m->runs++;
    if (m->structures) {
        make_structures(m);
    } else if (fuzz_image_apply(m->img, m->keep) < 0) {
        return err_set(m->err, -ENOMEM, "no memory");
    }
    int r = place_run_image(m->p, m->f->n, m->f->needs, m->err);
    return r < 0 ? r : test_find(&m->p->test, m->f->id) != NULL;
}

/* ---- lists ---- */

static unsigned count(const bool *keep, unsigned n)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        kept += keep[i];
    }
    return kept;
}

/* Leave @size kept entries away from the one numbered *@at on, if it still shows; go behind them. 1: they are
 * gone. */
static int leave(struct minimiser *m, bool *keep, unsigned n, unsigned size, unsigned *at)
{
    AUTO_FREE bool *before = malloc(n * sizeof(*keep));
    unsigned left = size;

    if (!before) {
        return err_set(m->err, -ENOMEM, "no memory");
    }
    memcpy(before, keep, n * sizeof(*keep));
    for (; *at < n && left > 0; (*at)++) {
        left -= keep[*at];
        keep[*at] = false;
    }
    if (left == size) {
        return 0;
    }
    int r = shows(m);
    if (r != 1) {
        memcpy(keep, before, n * sizeof(*keep));
    }
    return r;
}

static int reduce(struct minimiser *m, bool *keep, unsigned n)
{
    for (unsigned size = count(keep, n); size > 0;) {
        bool any = false;
        for (unsigned at = 0; at < n && m->runs < m->runs_max;) {
            int r = leave(m, keep, n, size, &at);
            if (r < 0) {
                return r;
            }
            any = any || r > 0;
        }
        if (size == 1 && (!any || m->runs >= m->runs_max)) {
            break;
        }
        size = size == 1 ? 1 : MIN(size, count(keep, n)) / 2 + (size % 2 && size > 1);
        size = size ? size : 1;
    }
    return 0;
}

/* ---- files ---- */

static int copy_files(struct minimiser *m)
{
    for (unsigned i = 0; i < m->img->files; i++) {
        const struct fuzz_file *f = &m->img->file[i];
        m->size[i] = f->size;
        m->copied[i] =
            MIN(MIN(f->size, f->room), f->foreign_bytes ? f->foreign_bytes : f->used_end * FUZZ_PAGE);
        m->copy[i] = malloc(m->copied[i] + 1);
        if (!m->copy[i]) {
            return err_set(m->err, -ENOMEM, "no memory");
        }
        memcpy(m->copy[i], f->bytes, m->copied[i]);
    }
    return 0;
}

static int shorten(struct minimiser *m, unsigned file)
{
    uint64_t step = SIZE_STEP;

    while (step < m->size[file]) {
        step *= 2;
    }
    for (; step >= SIZE_STEP && m->runs < m->runs_max;) {
        uint64_t old = m->size[file];
        if (old == 0) {
            break;
        }
        m->size[file] = old > step ? old - step : 0;
        int r = shows(m);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            m->size[file] = old;
        }
        if (r == 0 || m->size[file] <= step) {
            step /= 2;
        }
    }
    return 0;
}

/* ---- words ---- */

static const char *verb(const char *oracle)
{
    static const char *const verbs[ORACLES] = {
        [ORACLE_SIGNAL] = "crashes",
        [ORACLE_SANITIZER] = "makes a sanitizer report an error in",
        [ORACLE_TIMEOUT] = "hangs",
        [ORACLE_MEMORY] = "takes all memory in",
        [ORACLE_DISK] = "fills the disk in",
        [ORACLE_OUTPUT] = "floods the output of",
        [ORACLE_REPAIR] = "is not repaired by",
        [ORACLE_CHECK_READ] = "is not found by the check, and fails",
        [ORACLE_DIFFERENTIAL] = "reads differently in",
        [ORACLE_MODIFIED] = "is changed by",
        [ORACLE_ESCAPE] = "makes a file be opened by",
    };
    enum oracle o = oracle_find(oracle);
    return o < ORACLES ? verbs[o] : "fails";
}

static void say(const struct minimiser *m, const struct test_hit *hit, char *to, size_t size)
{
    size_t n = 0;

    for (unsigned i = 0; i < m->img->mutations && n + 1 < size; i++) {
        n += (size_t)snprintf(to + n, size - n, "%s", i ? " and " : "");
        if (n + 1 < size) {
            fuzz_mutation_text(m->img, &m->img->mutation[i], to + n, size - n);
            n += strlen(to + n);
        }
    }
    n = MIN(n, size - 1);
    const char *shell = hit->shell ? hit->shell : m->f->command;
    const char *word_end = shell + strcspn(shell, " "),
               *slash = memrchr(shell, '/', (size_t)(word_end - shell));
    snprintf(to + n, size - n, "%s %s `%s`", m->img->mutations ? "" : "an image without hostile fields",
             verb(m->f->oracle), slash ? slash + 1 : shell);
}

/* ---- all of it ---- */

static void write_hit(struct test *t, struct test_hit *hit)
{
    struct minimiser *m = t->opaque;

    if (m->write_to && strcmp(hit->bucket.id, m->f->id) == 0) {
        artefact_remove(m->write_to);
        int r = artefact_write(t, hit, m->write_to, m->err);
        m->write_to = r < 0 ? m->write_to : NULL;
    }
}

static int write_result(struct minimiser *m, struct minimum *ret)
{
    AUTO_FREE char *dir = NULL;
    int r = 0;

    if (asprintf(&dir, "%s/minimal", m->f->dir) < 0) {
        return err_set(m->err, -ENOMEM, "no memory");
    }
    m->write_to = dir;
    for (int i = 0; i < TRIES && m->write_to && r >= 0; i++) {
        r = shows(m);
    }
    const struct test_hit *hit = test_find(&m->p->test, m->f->id);
    if (r < 0 || !hit) {
        return r < 0 ? r : err_set(m->err, -ENOENT, "the smallest form is not steady");
    }
    say(m, hit, ret->sentence, sizeof(ret->sentence));
    return 0;
}

static uint64_t all_bytes(const struct fuzz_image *img)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < img->files; i++) {
        n += img->file[i].size;
    }
    return n;
}

static int see_it(struct minimiser *m)
{
    int r = 0;
    for (int i = 0; i < TRIES && r == 0; i++) {
        r = shows(m);
    }
    return r == 0 ? err_set(m->err, -ENOENT, "it does not show itself any more") : r;
}

static int minimise(struct minimiser *m, struct minimum *ret)
{
    struct fuzz_image *img = m->img;
    unsigned n = img->mutations;
    int r = see_it(m);

    if (r < 0) {
        return r;
    }
    *ret = (struct minimum){.mutations_before = n, .bytes_before = all_bytes(img)};
    if ((r = reduce(m, m->keep, n)) < 0 || fuzz_image_apply(img, m->keep) < 0) {
        return r < 0 ? r : err_set(m->err, -ENOMEM, "no memory");
    }
    if ((r = copy_files(m)) < 0) {
        return r;
    }
    for (unsigned i = n; i-- > 0;) {
        if (!m->keep[i]) {
            fuzz_image_drop(img, i);
        }
    }
    ret->mutations = img->mutations;
    m->structures = true;
    memset(m->keep, true, (size_t)MAX(img->parts, 1) * sizeof(*m->keep));
    ret->parts = (unsigned)MAX(img->parts - 1, 0);
    r = reduce(m, m->keep + 1, ret->parts);
    for (unsigned i = 0; i < img->files && r >= 0; i++) {
        r = shorten(m, i);
    }
    ret->zeroed = ret->parts - count(m->keep + 1, ret->parts);
    r = r < 0 ? r : write_result(m, ret);
    ret->bytes = all_bytes(img);
    ret->runs = m->runs;
    return r;
}

int finding_minimise(const struct finding *f, struct place *p, unsigned runs_max, struct minimum *ret,
                     struct err *err)
{
    struct fuzz_image *img = p->source.img;
    struct minimiser m = {.f = f, .p = p, .img = img, .runs_max = runs_max, .err = err};

    m.keep = malloc((MAX((size_t)img->mutations, (size_t)img->parts) + 1) * sizeof(*m.keep));
    if (!m.keep) {
        return err_set(err, -ENOMEM, "no memory");
    }
    memset(m.keep, true, (MAX((size_t)img->mutations, (size_t)img->parts) + 1) * sizeof(*m.keep));
    p->test.on_hit = write_hit;
    p->test.opaque = &m;
    int r = minimise(&m, ret);
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        free(m.copy[i]);
    }
    free(m.keep);
    return r;
}
