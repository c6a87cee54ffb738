/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img commit and img rebase move data between the images of a chain: the power goes at any instant of it, or
 * a request to a file fails, once or from then on. What the topmost image shows is the same before,
 * afterwards and when the command is given again; every image of the chain is consistent but for leaks.
 */
#include "qcow2-check.h"

#include "block/create.h"
#include "block/driver.h"
#include "tools/img/img.h"

#define DISK_BYTES (256 * KiB)
#define UNIT       1024u /* guests write multiples of it */

struct job {
    const struct img_command *cmd;
    const char *argv[8];
    const char *same; /* an image that shows the same as the topmost, once it is done; or NULL */
};

extern const struct img_command img_commit, img_rebase;

static const struct job jobs[] = {
    {&img_commit, {"commit", "-q", "top"}, "mid"},
    {&img_commit, {"commit", "-q", "-d", "top"}, "mid"},
    {&img_commit, {"commit", "-q", "-b", "base", "top"}, "base"},
    {&img_rebase, {"rebase", "-b", "other", "-F", "qcow2", "top"}, NULL},
    {&img_rebase, {"rebase", "-b", "base", "-F", "qcow2", "top"}, NULL},
    {&img_rebase, {"rebase", "-c", "-b", "", "top"}, NULL},
};
static const char *const images[] = {"base", "mid", "top", "other"};

enum { RUN_WHOLE, RUN_CUT, RUN_ERROR, RUN_STICKY, RUN_COUNT };

struct run {
    const struct job *job;
    unsigned how;
    uint64_t took_ns, ops; /* of RUN_WHOLE: from which the others choose */
    struct rng rng;
    struct tool tool;
    unsigned cut_short; /* runs that did not get to the end */
};

/* ---- images ---- */

static co_fn void make_image(const char *name, const char *backing)
{
    char options[128];
    struct creation c;
    struct graph g;
    struct err err = {0};

    graph_init(&g);
    snprintf(options, sizeof(options),
             backing ? "cluster_size=4k,backing_file=%s,backing_fmt=qcow2" : "cluster_size=4k", backing);
    CHECK_EQ(creation_init(&c, name, "qcow2", options, &err), 0);
    c.size = DISK_BYTES;
    c.has_size = true;
    CHECK_EQ(creation_run(&c, &g, name, &err), 0);
    creation_finish(&c);
}

static co_fn struct node *open_image(struct graph *g, const char *name, unsigned flags)
{
    struct node *n = NULL;
    struct err err = {0};

    graph_init(g);
    if (node_open_name(g, name, "qcow2", flags, &n, &err) < 0) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        CHECK(false);
    }
    return n;
}

static co_fn void fill_image(struct run *x, const char *name)
{
    struct graph g;
    struct node *n = open_image(&g, name, OPEN_WRITE);
    static char buf[16 * KiB];

    for (unsigned i = 0; i < 24; i++) {
        uint64_t bytes = (1 + rng_below(&x->rng, sizeof(buf) / UNIT)) * UNIT;
        uint64_t at = rng_below(&x->rng, (DISK_BYTES - bytes) / UNIT + 1) * UNIT;
        unsigned what = (unsigned)rng_below(&x->rng, 6);
        rng_fill(&x->rng, buf, bytes);
        CHECK_EQ(what == 0   ? node_zero(n, at, bytes, 0)
                 : what == 1 ? node_discard(n, at, bytes)
                             : node_write(n, at, buf, bytes, 0),
                 0);
    }
    CHECK_EQ(node_flush(n), 0);
    node_unref(n);
}

static co_fn void view(const char *name, uint8_t *buf)
{
    struct graph g;
    struct node *n = open_image(&g, name, 0);

    CHECK_EQ(node_size(n), DISK_BYTES);
    CHECK_EQ(node_read(n, 0, buf, DISK_BYTES), 0);
    node_unref(n);
}

/* ---- a run ---- */

static int run_job(void *arg)
{
    struct run *x = arg;
    struct img img = {.t = &x->tool, .cmd = x->job->cmd};
    char *argv[8];
    int argc = 0;

    for (; x->job->argv[argc]; argc++) {
        argv[argc] = (char *)(uintptr_t)x->job->argv[argc]; /* as getopt wants it */
    }
    CHECK_EQ(img_parse_args(&img, argc, argv), -1);
    graph_init(&img.graph);
    FILE *before = stderr, *quiet = fopen("/dev/null", "we");
    CHECK(quiet != NULL);
    stderr = quiet; /* it tells what failed */
    int status = img.cmd->run(&img);
    stderr = before;
    fclose(quiet);
    free(img.a.options);
    return status;
}

static void spoil(struct run *x)
{
    struct sim_fault fault = {.op = rng_below(&x->rng, 2) ? SIM_ANY : SIM_WRITE,
                              .nth = 1 + rng_below(&x->rng, x->ops),
                              .sticky = x->how == RUN_STICKY,
                              .partial = true,
                              .error = -EIO};

    sim_set_faults(NULL, &fault, 1);
}

static co_fn void check_all(const uint8_t *expect)
{
    static uint8_t now[DISK_BYTES];
    struct graph g;

    view("top", now); /* as it lies there */
    CHECK(memcmp(now, expect, DISK_BYTES) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
        node_unref(
            open_image(&g, images[i], OPEN_WRITE | OPEN_NO_BACKING)); /* repairs what is marked dirty */
        image_check(sim_file_find(images[i]));
    }
    view("top", now);
    CHECK(memcmp(now, expect, DISK_BYTES) == 0);
}

static co_fn void check_done(const struct run *x, const uint8_t *expect)
{
    static uint8_t now[DISK_BYTES];

    if (x->job->same) {
        view(x->job->same, now);
        CHECK(memcmp(now, expect, DISK_BYTES) == 0);
    }
}

static int chain_main(void *arg)
{
    struct run *x = arg;
    static uint8_t expect[DISK_BYTES];
    struct co_group group;
    struct co_task task;

    rng_init(&x->rng, world_seed);
    for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
        make_image(images[i], i == 1 ? "base" : i == 2 ? "mid" : NULL);
        fill_image(x, images[i]);
    }
    view("top", expect);
    uint64_t begun = loop_clock_ns(), ops = sim_op_count();
    if (x->how == RUN_ERROR || x->how == RUN_STICKY) {
        spoil(x);
    }
    co_group_init(&group);
    co_group_start(&group, &task, run_job, x);
    if (x->how == RUN_CUT) {
        co_sleep_ns(rng_below(&x->rng, x->took_ns));
        sim_power_cut(NULL, SIM_SURVIVE_RANDOM);
    }
    co_group_wait(&group);
    sim_set_faults(NULL, NULL, 0);
    if (x->how == RUN_WHOLE) {
        CHECK_EQ(task.result, 0);
        x->took_ns = loop_clock_ns() - begun;
        x->ops = sim_op_count() - ops;
    } else if (x->how != RUN_CUT) {
        sim_power_cut(NULL, SIM_SURVIVE_RANDOM); /* what was told as an error may be there or not */
    }
    x->cut_short += task.result != 0;
    check_all(expect);
    if (task.result == 0) {
        check_done(x, expect);
    } else { /* the command again */
        CHECK_EQ(run_job(x), 0);
        check_all(expect);
        check_done(x, expect);
    }
    return 0;
}

static void run_all(const struct job *job, uint64_t seeds)
{
    struct run x = {.job = job, .tool = {.prefix = "img-chain"}};

    FOR_EACH_SEED (seed, seeds) {
        for (x.how = 0; x.how < RUN_COUNT; x.how++) {
            world_run(seed, chain_main, &x);
        }
    }
    if (many_seeds()) {
        assert_true(x.cut_short > seeds);
    }
}

static void the_disk_is_the_same_through_a_commit_that_ends_early(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        run_all(&jobs[i], 25);
    }
}

static void the_disk_is_the_same_through_a_rebase_that_ends_early(void **state)
{
    for (unsigned i = 3; i < ARRAY_SIZE(jobs); i++) {
        run_all(&jobs[i], 25);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_disk_is_the_same_through_a_commit_that_ends_early),
        cmocka_unit_test(the_disk_is_the_same_through_a_rebase_that_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
