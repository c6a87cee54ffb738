/* SPDX-License-Identifier: BSD-2-Clause */
/* The fuzzer's executor: how processes end, limits, what they leave behind, with and without a fork server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fuzz/run/exec.h"
#include "fuzz/run/preload.h"

static struct executor executor(bool fork_server)
{
    struct executor x = {.limits = {.time_ns = 20 * NS_PER_SEC,
                                    .memory_bytes = UINT64_MAX,
                                    .disk_bytes = UINT64_MAX,
                                    .output_bytes = UINT64_MAX,
                                    .file_bytes = UINT64_MAX,
                                    .as_bytes = UINT64_MAX},
                         .dir = "/tmp",
                         .preload = run_find_preload(),
                         .fork_server = fork_server};
    assert_int_equal(executor_init(&x, NULL), 0);
    return x;
}

static void finish(struct executor *x)
{
    executor_finish(x);
    free((void *)x->preload);
}

/* Run a shell with @script. */
static struct run_result run(struct executor *x, const char *script)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    struct run_result r = {0};
    struct err err = {0};

    int code = executor_run(x, argv, NULL, &r, &err);
    if (code < 0) {
        fail_msg("%s", err.text);
    }
    assert_true(r.ran);
    return r;
}

static void ends_are_told(void **state)
{
    for (int fork_server = 0; fork_server < 2; fork_server++) {
        struct executor x = executor(fork_server);
        struct run_result r = run(&x, "exit 7");
        assert_int_equal(r.end, RUN_EXITED);
        assert_int_equal(r.code, 7);
        r = run(&x, "kill -ABRT $$");
        assert_int_equal(r.end, RUN_SIGNALED);
        assert_int_equal(r.code, SIGABRT);
        r = run(&x, "echo out; echo err >&2");
        char *text = executor_output(&x, 4096);
        assert_string_equal(text, "out\nerr\n");
        free(text);
        assert_int_equal(r.output_bytes, 8);
        r = run(&x, "pwd");
        text = executor_output(&x, 4096);
        assert_string_equal(text, "/tmp\n");
        free(text);
        assert_int_equal(x.nservers, fork_server);
        assert_true(!fork_server || x.servers[0].fd >= 0);
        finish(&x);
    }
}

static void limits_end_a_process(void **state)
{
    for (int fork_server = 0; fork_server < 2; fork_server++) {
        struct executor x = executor(fork_server);
        x.limits.time_ns = NS_PER_SEC / 5;
        assert_int_equal(run(&x, "sleep 1000").end, RUN_TIMEOUT);
        x.limits.time_ns = 60 * NS_PER_SEC;
        x.limits.output_bytes = 64 * KiB;
        assert_int_equal(run(&x, "while :; do echo 0123456789012345678901234567890123456789; done").end,
                         RUN_OUTPUT);
        assert_int_equal(run(&x, "head -c 70000 /dev/zero").end, RUN_OUTPUT); /* over before anyone looked */
        x.limits.output_bytes = UINT64_MAX;
        x.limits.memory_bytes = 64 * MiB;
        assert_int_equal(run(&x, "x=0123456789abcdef; while :; do x=$x$x; done").end, RUN_MEMORY);
        finish(&x);
    }
}

static uint64_t full(void *opaque)
{
    return MiB;
}

static void a_full_directory_ends_a_process(void **state)
{
    struct executor x = executor(false);

    x.limits.disk_bytes = MiB - 1;
    x.disk_usage = full;
    assert_int_equal(run(&x, "sleep 1000").end, RUN_DISK);
    x.limits.disk_bytes = MiB;
    x.limits.time_ns = NS_PER_SEC / 5;
    assert_int_equal(run(&x, "sleep 1000").end, RUN_TIMEOUT);
    finish(&x);
}

static void a_large_file_is_an_error_not_an_end(void **state)
{
    for (int fork_server = 0; fork_server < 2; fork_server++) {
        struct executor x = executor(fork_server);
        x.limits.file_bytes = 8192;
        struct run_result r = run(&x, "head -c 100000 /dev/zero >&2 || exit 3");
        assert_int_equal(r.end, RUN_EXITED);
        assert_int_equal(r.code, 3);
        assert_int_equal(r.output_bytes, 8192);
        finish(&x);
    }
}

/* The process that was left writes its number first. */
static pid_t number_in_output(struct executor *x)
{
    char *text = executor_output(x, 4096);
    pid_t pid = atoi(text);
    free(text);
    return pid;
}

static void nothing_is_left_running(void **state)
{
    static const char *const scripts[] = {
        "sleep 1000 & echo $!",
        "setsid sh -c 'echo $$; exec sleep 1000' & while ! [ -s /proc/self/fd/1 ]; do :; done",
    };
    for (int i = 0; i < 4; i++) {
        struct executor x = executor(i & 1);
        struct run_result r = run(&x, scripts[i / 2]);
        assert_int_equal(r.end, RUN_EXITED);
        pid_t pid = number_in_output(&x);
        assert_true(pid > 1);
        assert_int_equal(kill(pid, 0), -1);
        assert_int_equal(errno, ESRCH);
        assert_int_equal(run(&x, "exit 5").code, 5); /* and the next run works */
        finish(&x);
    }
}

static void stacks_are_reported(void **state)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"kill -SEGV $$", NULL};
    struct run_result r = {0};
    struct executor x = executor(false);

    assert_int_equal(executor_run_stack(&x, argv, NULL, &r, NULL), 0);
    assert_int_equal(r.end, RUN_SIGNALED);
    assert_int_equal(r.code, SIGSEGV);
    char *text = executor_output(&x, 16384);
    assert_true(strncmp(text, PRELOAD_STACK_LINE "11\n", strlen(PRELOAD_STACK_LINE "11\n")) == 0);
    assert_non_null(strstr(text, "libc.so.6+0x"));
    free(text);
    finish(&x);
}

static void a_program_that_cannot_be_served_is_started(void **state)
{
    char script[] = "/tmp/fuzz-exec-XXXXXX";
    int fd = mkstemp(script);
    assert_true(fd >= 0);
    assert_true(write(fd, "#!/bin/sh\necho \"$0 $1\"\n", 23) == 23);
    fchmod(fd, 0700);
    close(fd);
    assert_false(run_is_preloadable(script));
    assert_true(run_is_preloadable("/bin/sh"));
    assert_false(run_is_preloadable("/etc/passwd"));
    assert_false(run_is_preloadable("/nowhere"));

    struct executor x = executor(true);
    char *argv[] = {script, (char *)"a", NULL}, *text, expected[64];
    struct run_result r = {0};
    assert_int_equal(executor_run(&x, argv, NULL, &r, NULL), 0);
    snprintf(expected, sizeof(expected), "%s a\n", script);
    text = executor_output(&x, 4096);
    assert_string_equal(text, expected);
    free(text);
    argv[0] = (char *)"/nowhere";
    assert_int_equal(executor_run(&x, argv, NULL, &r, NULL), -ENOENT);
    finish(&x);
    unlink(script);
}

static void long_output_is_cut_in_the_middle(void **state)
{
    struct executor x = executor(false);

    run(&x, "printf 0123456789");
    char *text = executor_output(&x, 3);
    assert_string_equal(text, "012\n[...]\n789");
    free(text);
    text = executor_output(&x, 5);
    assert_string_equal(text, "0123456789");
    free(text);
    finish(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_are_told),
        cmocka_unit_test(limits_end_a_process),
        cmocka_unit_test(a_full_directory_ends_a_process),
        cmocka_unit_test(a_large_file_is_an_error_not_an_end),
        cmocka_unit_test(nothing_is_left_running),
        cmocka_unit_test(stacks_are_reported),
        cmocka_unit_test(a_program_that_cannot_be_served_is_started),
        cmocka_unit_test(long_output_is_cut_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
