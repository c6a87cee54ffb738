/* SPDX-License-Identifier: BSD-2-Clause */
/* The sandbox for one finding, in a process of its own as in a campaign. */
#include "tools/fuzz/place.h"

#include <sys/wait.h>

#include "tools/fuzz/fuzz.h"

#define TMPFS_BYTES GiB

struct inside {
    struct tool *tool;
    const char *command;
    struct finding *finding;
    const char *work;
    int (*fn)(void *opaque, struct finding *f, struct place *p);
    void *opaque;
};

static int run_inside(void *arg)
{
    const struct inside *i = arg;
    struct place place;
    struct err err = {0};
    bool changed;

    int r = place_init(&place, &i->finding->config, i->work, &err);
    r = r < 0 ? r : finding_image(i->finding, &place, &changed, &err);
    if (r == 0 && changed) {
        tool_error(i->tool,
                   "fuzz %s: the generator makes another image of this seed today; the kept one is used",
                   i->command);
    }
    int status = EXIT_FAILURE;
    if (r < 0) {
        tool_error(i->tool, "fuzz %s: %s", i->command, err.text);
    } else {
        status = i->fn(i->opaque, i->finding, &place);
    }
    fflush(stdout);
    place_finish(&place);
    return status;
}

int fuzz_with_finding(struct tool *t, const char *command, const char *name, const char *out,
                      int (*fn)(void *opaque, struct finding *f, struct place *p), void *opaque)
{
    struct finding finding;
    struct err err = {0};
    char work[] = "/tmp/blkproof-fuzz-XXXXXX";
    int status = EXIT_FAILURE, ended = 0;

    int r = finding_open(&finding, name, out, &err);
    if (r == 0 && !mkdtemp(work)) {
        r = err_set_errno(&err, -errno, "make a directory in /tmp");
    }
    if (r == 0) {
        struct inside i = {
            .tool = t, .command = command, .finding = &finding, .work = work, .fn = fn, .opaque = opaque};
        fflush(stdout);
        pid_t pid = sandbox_fork(sandbox_probe(), work, TMPFS_BYTES, run_inside, &i);
        r = pid < 0 ? err_set_errno(&err, pid, "start a process") : 0;
        if (pid > 0 && waitpid(pid, &ended, 0) == pid) {
            status = WIFEXITED(ended) ? WEXITSTATUS(ended) : EXIT_FAILURE;
        }
        artefact_remove(work);
    }
    if (r < 0) {
        tool_error(t, "fuzz %s: %s", command, err.text);
    }
    finding_close(&finding);
    return status;
}
