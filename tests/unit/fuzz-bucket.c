/* SPDX-License-Identifier: BSD-2-Clause */
/* The fuzzer's buckets, from what programs say; its command lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>

#include "fuzz/run/bucket.h"
#include "fuzz/run/command.h"
#include "fuzz/run/preload.h"

static void expect_key(enum oracle oracle, int signal, const char *output, const char *key)
{
    struct bucket b, other;

    bucket_make(&b, oracle, "prog check", signal, output, NULL);
    assert_string_equal(b.key, key);
    bucket_make(&other, oracle, "prog read", signal, output, NULL);
    assert_int_equal(strcmp(b.id, other.id) == 0,
                     strstr(key, "prog check") == NULL); /* the same place, the same bug */
}

static void assertions(void **state)
{
    expect_key(ORACLE_SIGNAL, SIGABRT,
               "qemu-img: ../../block/io.c:2539: bdrv_co_block_status: Assertion `a && b' failed.\nAborted\n",
               "signal SIGABRT assertion a && b in bdrv_co_block_status (io.c)");
    expect_key(ORACLE_SIGNAL, SIGABRT,
               "**\nERROR:../block/x.c:12:func: assertion failed: (n < 7)\nBail out!\n",
               "signal SIGABRT func: assertion failed: (n < #) (x.c)");
}

static void stacks(void **state)
{
    expect_key(ORACLE_SIGNAL, SIGSEGV,
               "some text\n" PRELOAD_STACK_LINE
               "11\nlibc.so.6+0x8aeec\nqemu-io+0x988b4\nqemu-io+0x9b721\nlibc.so.6+0x1\n"
               "qemu-io+0x9bac0\nqemu-io+0x1\n",
               "signal SIGSEGV at qemu-io+0x988b4 < qemu-io+0x9b721 < qemu-io+0x9bac0");
    expect_key(ORACLE_SIGNAL, SIGABRT,
               "free(): invalid pointer\n" PRELOAD_STACK_LINE "6\nlibc.so.6+0x1\nprog+0x2\n",
               "signal SIGABRT free(): invalid pointer at prog+0x2");
    expect_key(ORACLE_SIGNAL, SIGSEGV, "nothing that helps\n", "signal SIGSEGV prog check ");
    assert_false(bucket_has_place("nothing that helps\n"));
    assert_false(bucket_has_place(PRELOAD_STACK_LINE "11\n"));
}

static void sanitizers(void **state)
{
    static const char asan[] =
        "=================================================================\n"
        "==77==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x6020000000f4 at pc 0x5 bp 0x7\n"
        "READ of size 4 at 0x6020000000f4 thread T0\n"
        "    #0 0x7f11 in __interceptor_memcpy ../../src/x.inc:827\n"
        "    #1 0x5581 in parse_table ../parse.c:31\n"
        "    #2 0x5582 in open_image ../open.c:7\n"
        "    #3 0x5583 in main ../main.c:9\n"
        "\n"
        "0x6020000000f4 is located 0 bytes to the right of 4-byte region\n"
        "allocated by thread T0 here:\n"
        "    #0 0x7f12 in other ../other.c:1\n";
    expect_key(ORACLE_SANITIZER, 0, asan,
               "sanitizer  AddressSanitizer: heap-buffer-overflow in parse_table < open_image < main");
    assert_true(bucket_is_sanitizer(asan, 99));
    assert_false(bucket_is_sanitizer(asan, 0));
    expect_key(ORACLE_SANITIZER, 0,
               "../src/a.c:12:3: runtime error: shift exponent 70 is too large for 64-bit type\n",
               "sanitizer  UBSan: shift exponent # is too large for #-bit type in a.c");
    expect_key(ORACLE_SANITIZER, 0, "==5==ERROR: LeakSanitizer: detected memory leaks\n",
               "sanitizer  LeakSanitizer: detected memory leaks");
    assert_false(bucket_is_sanitizer("qemu-img: Could not open 'x'\n", 1));
}

static void numbers_and_names_are_masked(void **state)
{
    char line[96];

    bucket_first_line("\nqemu-img: Could not open 'a b.qcow2': L1 at 0xfe00 of qcow2, 17 times\nmore", line,
                      sizeof(line));
    assert_string_equal(line, "qemu-img: Could not open *: L1 at # of qcow2, # times");
    bucket_first_line("\x1b[31mred\xff", line, sizeof(line));
    assert_string_equal(line, "?[#mred?");
    bucket_first_line("", line, sizeof(line));
    assert_string_equal(line, "");
    bucket_first_line("123456789 abcdef", line, 4);
    assert_string_equal(line, "# ");
}

static void lists_of_oracles(void **state)
{
    struct err err = {0};
    unsigned mask = 0;

    assert_int_equal(oracles_parse("signal,timeout", &mask, &err), 0);
    assert_int_equal(mask, 1 << ORACLE_SIGNAL | 1 << ORACLE_TIMEOUT);
    assert_int_equal(oracles_parse("-output", &mask, &err), 0);
    assert_int_equal(mask, ORACLES_ALL & ~(1u << ORACLE_OUTPUT));
    assert_int_equal(oracles_parse("-all", &mask, &err), -EINVAL);
    assert_int_equal(oracles_parse("signals", &mask, &err), -EINVAL);
    assert_string_equal(err.text, "'signals' is not an oracle");
}

static void command_lines(void **state)
{
    struct run_commands c = {0};
    struct err err = {0};
    const struct run_values v = {
        .img = "i.x", .fmt = "x", .dir = "/d", .out = "o", .off = 512, .len = 1024, .seed = 9};
    char **argv;

    assert_int_equal(run_commands_add(&c, "# a comment", &err), 0);
    assert_int_equal(run_commands_add(&c, "  ", &err), 0);
    assert_int_equal(c.n, 0);
    assert_int_equal(
        run_commands_add(&c, "ro,check,@grp: /bin/sh -c 'read {off} $len' \"{img}\"x a\\ b {no}", &err), 0);
    assert_int_equal(c.list[0].roles, ROLE_RO | ROLE_CHECK);
    assert_string_equal(c.list[0].group, "grp");
    assert_string_equal(c.list[0].name, "sh read");
    assert_int_equal(run_command_expand(&c.list[0], &v, &argv, &err), 0);
    static const char *const words[] = {"/bin/sh", "-c", "read 512 1024", "i.xx", "a b", "{no}", NULL};
    for (size_t i = 0; words[i]; i++) {
        assert_string_equal(argv[i], words[i]);
    }
    assert_null(argv[6]);
    char *shell = run_command_shell(argv);
    assert_string_equal(shell, "/bin/sh -c 'read 512 1024' i.xx 'a b' {no}");
    free(shell);
    free(argv);
    assert_int_equal(run_commands_add(&c, "/bin/sh check -f {fmt} $test_img", &err), 0);
    assert_string_equal(c.list[1].name, "sh check");
    assert_string_equal(c.list[1].group, "sh");
    assert_int_equal(c.list[1].roles, 0);
    assert_int_equal(run_commands_add(&c, "ro: /bin/sh 'open", &err), -EINVAL);
    assert_int_equal(run_commands_add(&c, "ro:", &err), -EINVAL);
    assert_int_equal(run_commands_add(&c, "/bin/sh \xff", &err), -EINVAL);
    assert_int_equal(run_commands_add(&c, "no-such-program-anywhere {img}", &err), -ENOENT);

    json_t *lines = run_commands_json(&c);
    struct run_commands again = {0};
    assert_int_equal(run_commands_from_json(&again, lines, &err), 0);
    json_t *lines_again = run_commands_json(&again);
    assert_int_equal(again.n, 2);
    assert_true(json_equal(lines, lines_again));
    json_decref(lines);
    json_decref(lines_again);
    run_commands_finish(&again);
    run_commands_finish(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assertions),       cmocka_unit_test(stacks),
        cmocka_unit_test(sanitizers),       cmocka_unit_test(numbers_and_names_are_masked),
        cmocka_unit_test(lists_of_oracles), cmocka_unit_test(command_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
