/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands one by one, and the oracles that need no more than one: signal, sanitizer, limits, modified,
 * escape. */
#include "fuzz/run/test.h"

#include <stdio.h>

#include "fuzz/run/gdb.h"

#define OUTPUT_HALF   (32 * KiB) /* of the output is kept at either end */
#define SECTOR        UINT64_C(512)
#define GUEST_MAX     (UINT64_C(1) << 40) /* where commands read and write, however large an image says it is */
#define LEN_MAX       (4 * MiB)           /* more only takes longer */
#define SEED_OF_PLACE UINT64_C(0x6f66666c656e)

void test_out_name(size_t i, char name[32])
{
    snprintf(name, 32, "out-%zu", i);
}

void test_finish(struct test *t)
{
    for (size_t i = 0; i < t->nhits; i++) {
        free(t->hits[i].output);
        free(t->hits[i].shell);
    }
    t->nhits = 0;
}

const struct test_hit *test_find(const struct test *t, const char *id)
{
    for (size_t i = 0; i < t->nhits; i++) {
        if (strcmp(t->hits[i].bucket.id, id) == 0) {
            return &t->hits[i];
        }
    }
    return NULL;
}

static int expand(struct test *t, size_t i, char ***ret_argv, struct err *err)
{
    char out[32];

    test_out_name(i, out);
    const struct run_values v = {.img = t->dir->image,
                                 .fmt = t->fmt,
                                 .dir = t->dir->path,
                                 .out = out,
                                 .off = t->off,
                                 .len = t->len,
                                 .seed = t->seed};
    return run_command_expand(&t->commands->list[i], &v, ret_argv, err);
}

/* ---- hits ---- */

static struct test_hit *add_hit(struct test *t, enum oracle oracle, size_t command, uint64_t needs,
                                char *output, int signal, const char *detail)
{
    struct bucket b;

    bucket_make(&b, oracle, t->commands->list[command].name, signal, output, detail);
    if (t->nhits == TEST_HITS_MAX || !(t->oracles & (1u << oracle)) || test_find(t, b.id)) {
        free(output);
        return NULL; /* the same bug by another command: once a test is enough */
    }
    struct test_hit *h = &t->hits[t->nhits++];
    AUTO_FREE char **argv = NULL;
    *h = (struct test_hit){.oracle = oracle,
                           .command = command,
                           .needs = needs | UINT64_C(1) << command,
                           .bucket = b,
                           .result = t->results[command],
                           .output = output,
                           .shell = expand(t, command, &argv, NULL) == 0 ? run_command_shell(argv) : NULL};
    if (t->on_hit) {
        t->on_hit(t, h);
    }
    return h;
}

void test_hit(struct test *t, enum oracle oracle, size_t command, uint64_t needs, const char *detail)
{
    add_hit(t, oracle, command, needs, executor_output(t->exec, OUTPUT_HALF), 0, detail);
}

/* The stack of a crash that has said nothing: run it again with the preload library, or gdb. Takes @output.
 */
static char *find_stack(struct test *t, char *const argv[], const char *out, int signal, char *output)
{
    struct run_result r;

    if (bucket_has_place(output) || testdir_restore(t->dir, NULL) < 0) {
        return output;
    }
    if (t->exec->preload && run_is_preloadable(argv[0]) &&
        executor_run_stack(t->exec, argv, out, &r, NULL) == 0 && r.end == RUN_SIGNALED && r.code == signal) {
        char *text = executor_output(t->exec, OUTPUT_HALF);
        if (text && bucket_has_place(text)) {
            free(output);
            return text;
        }
        free(text);
    }
    if (!t->gdb || testdir_restore(t->dir, NULL) < 0) {
        return output;
    }
    AUTO_FREE char *text = gdb_backtrace(t->exec, argv);
    char *both = NULL;
    if (!text || asprintf(&both, "%s\n%s", output ? output : "", text) < 0) {
        return output;
    }
    free(output);
    return both;
}

static const struct {
    enum run_end end;
    enum oracle oracle;
} limit_oracles[] = {
    {RUN_TIMEOUT, ORACLE_TIMEOUT},
    {RUN_MEMORY, ORACLE_MEMORY},
    {RUN_DISK, ORACLE_DISK},
    {RUN_OUTPUT, ORACLE_OUTPUT},
};

/* What one run says by itself. The image is as the command left it, unless a stack had to be found. */
static void judge(struct test *t, size_t i, char *const argv[], const char *out, bool pristine)
{
    const struct run_command *c = &t->commands->list[i];
    const struct run_result *r = &t->results[i];
    AUTO_FREE char *text = NULL;

    for (size_t k = 0; k < ARRAY_SIZE(limit_oracles); k++) {
        if (r->end == limit_oracles[k].end) {
            test_hit(t, limit_oracles[k].oracle, i, 0, NULL);
        }
    }
    if ((c->roles & ROLE_CLOSED) && (t->oracles & (1u << ORACLE_ESCAPE))) {
        const char *opened = testdir_opened(t->dir);
        if (opened) {
            test_hit(t, ORACLE_ESCAPE, i, 0,
                     strcmp(opened, TESTDIR_DECOY) == 0 ? "outside the directory" : "beside it");
        }
    }
    if (pristine && (c->roles & ROLE_RO) && (t->oracles & (1u << ORACLE_MODIFIED)) &&
        testdir_touched(t->dir) && testdir_modified(t->dir)) {
        test_hit(t, ORACLE_MODIFIED, i, 0, NULL);
    }
    if (r->end != RUN_SIGNALED && (r->end != RUN_EXITED || r->code == 0)) {
        return;
    }
    text = executor_output(t->exec, OUTPUT_HALF);
    if (bucket_is_sanitizer(text, 1)) {
        add_hit(t, ORACLE_SANITIZER, i, 0, TAKE_PTR(text), 0, NULL);
    } else if (r->end == RUN_SIGNALED && (t->oracles & (1u << ORACLE_SIGNAL))) {
        int signal = r->code;
        text = find_stack(t, argv, out, signal, text);
        add_hit(t, ORACLE_SIGNAL, i, 0, TAKE_PTR(text), signal, NULL);
    }
}

/* ---- commands ---- */

int test_command_again(struct test *t, size_t i, struct err *err)
{
    const struct run_command *c = &t->commands->list[i];
    AUTO_FREE char **argv = NULL;
    char out[32];

    int r = expand(t, i, &argv, err);
    if (r < 0) {
        return r;
    }
    test_out_name(i, out);
    testdir_forget_opens(t->dir);
    bool pristine = !testdir_touched(t->dir); /* not what a repair has left */
    const char *stdout_name = c->roles & ROLE_STDOUT ? out : NULL;
    r = executor_run(t->exec, argv, stdout_name, &t->results[i], err);
    if (r < 0) {
        return r;
    }
    t->executed++;
    t->opened =
        t->opened || ((c->roles & ROLE_OPEN) && t->results[i].end == RUN_EXITED && t->results[i].code == 0);
    judge(t, i, argv, stdout_name, pristine);
    return 0;
}

int test_command(struct test *t, size_t i, struct err *err)
{
    int r = testdir_restore(t->dir, err);
    return r < 0 ? r : test_command_again(t, i, err);
}

/* Where commands read and write: multiples of 512 within the disk. */
static void choose_place(struct test *t, uint64_t size)
{
    struct rng rng;
    uint64_t sectors = MIN(size, GUEST_MAX) / SECTOR;

    rng_init(&rng, t->seed ^ SEED_OF_PLACE);
    uint64_t from = rng_below(&rng, sectors + 1);
    t->off = from * SECTOR;
    t->len = rng_below(&rng, MIN(sectors - from, LEN_MAX / SECTOR) + 1) * SECTOR;
}

/* Results are kept until all are there that will be compared. */
static bool is_kept(const struct test *t, size_t i)
{
    return t->commands->list[i].roles & ROLE_BYTES;
}

int test_run(struct test *t, struct fuzz_image *img, uint64_t seed, uint64_t size, uint64_t mask,
             struct err *err)
{
    int r = testdir_begin(t->dir, img, t->ext, err);

    test_finish(t);
    memset(t->results, 0, sizeof(t->results));
    t->img = img;
    t->seed = seed;
    t->opened = false;
    choose_place(t, size);
    for (size_t i = 0; i < t->commands->n && r == 0; i++) {
        if (!(mask & UINT64_C(1) << i) || (t->commands->list[i].roles & ROLE_REPAIR)) {
            continue;
        }
        char out[32];
        r = test_command(t, i, err);
        test_out_name(i, out);
        if (!is_kept(t, i)) {
            unlinkat(t->dir->fd, out, 0);
        }
    }
    r = r < 0 ? r : test_sequences(t, mask, err);
    testdir_remove_outs(t->dir);
    return r;
}
