/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's place: its directory, its executor, its source of images, put together. */
#include "fuzz/run/campaign.h"

#include <stdio.h>

static void set_default(const char *name, const char *value)
{
    if (setenv(name, value, 0) < 0) {
        return; /* the target then runs with what the user has */
    }
}

/* What targets find in their environment: reports that we can tell, and words that do not depend on the user.
 */
static void set_environment(const char *dir)
{
    setenv("LC_ALL", "C", 1);
    setenv("TMPDIR", dir, 1);
    unsetenv("LD_PRELOAD");
    set_default("ASAN_OPTIONS", "exitcode=99:allocator_may_return_null=1:detect_leaks=1");
    set_default("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=99");
    set_default("MSAN_OPTIONS", "exitcode=99");
    set_default("TSAN_OPTIONS", "exitcode=99");
}

int place_init(struct place *p, const struct campaign_config *config, const char *work, struct err *err)
{
    *p = (struct place){.config = config,
                        .exec = {.limits = config->limits,
                                 .preload = run_find_preload(),
                                 .fork_server = config->fork_server,
                                 .output_fd = -1,
                                 .disk_usage = testdir_usage},
                        .dir = {.fd = -1, .inotify_fd = -1}};
    p->exec.fork_server = config->fork_server && p->exec.preload;
    p->exec.opaque = &p->dir;
    int r = testdir_init(&p->dir, work, err);
    if (r < 0) {
        return r;
    }
    p->exec.dir = p->dir.path;
    set_environment(p->dir.path);
    r = executor_init(&p->exec, err);
    r = r < 0 ? r : source_init(&p->source, config, &p->exec, work, err);
    p->test = (struct test){.exec = &p->exec,
                            .dir = &p->dir,
                            .commands = &config->commands,
                            .oracles = config->oracles,
                            .gdb = config->gdb};
    return r;
}

void place_finish(struct place *p)
{
    test_finish(&p->test);
    source_finish(&p->source);
    executor_finish(&p->exec);
    testdir_finish(&p->dir);
    free((void *)TAKE_PTR(p->exec.preload));
}

int place_run_image(struct place *p, uint64_t n, uint64_t mask, struct err *err)
{
    p->test.fmt = p->source.fmt;
    p->test.ext = p->source.ext;
    return test_run(&p->test, p->source.img, campaign_test_seed(p->config->seed, n), p->source.guest_bytes,
                    mask, err);
}

int place_run(struct place *p, uint64_t n, uint64_t mask, struct err *err)
{
    int r = source_make(&p->source, n, err);
    return r < 0 ? r : place_run_image(p, n, mask, err);
}
