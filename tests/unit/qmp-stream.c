/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QMP's input stream: where messages end, single quotes, numbers, what is told about garbage, and that none
 * of it depends on how the bytes are cut. Expected sentences are those of qemu-storage-daemon 7.2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/rng.h"
#include "qmp/stream.h"

#define OUT_MAX 65536

/* All messages and errors of @text, one line each: compact JSON, or "! sentence". @step: bytes at once. */
static void run(const char *text, size_t len, size_t step, char out[OUT_MAX])
{
    struct qmp_stream s;
    size_t end = 0;

    out[0] = '\0';
    qmp_stream_init(&s);
    for (size_t at = 0; at < len; at += step) {
        size_t used = 0, n = MIN(step, len - at);
        for (;;) {
            json_t *message = NULL;
            struct err err = {0};
            int r = qmp_stream_next(&s, text + at, n, &used, &message, &err);
            if (r == 0) {
                assert_int_equal(used, n);
                break;
            }
            char *line = r == 1 ? json_text(message) : NULL;
            int more =
                snprintf(out + end, OUT_MAX - end, "%s%s\n", r == 1 ? "" : "! ", r == 1 ? line : err.text);
            end += MIN((size_t)more, OUT_MAX - end - 1);
            free(line);
            json_decref(message);
        }
    }
    qmp_stream_finish(&s);
}

static void expect_n(const char *text, size_t len, const char *expected)
{
    char out[OUT_MAX];

    for (size_t step = len ? len : 1; step > 0; step = step / 3) {
        run(text, len, step, out);
        assert_string_equal(out, expected);
    }
    run(text, len, 1, out);
    assert_string_equal(out, expected);
}

static void expect(const char *text, const char *expected)
{
    expect_n(text, strlen(text), expected);
}

static void messages_end_where_they_end(void **state)
{
    expect("{\"a\":1}", "{\"a\":1}\n");
    expect("{\"a\":1}{}[] \r\n\t [1,[2]]", "{\"a\":1}\n{}\n[]\n[1,[2]]\n");
    expect("{\"a\":1", "");
    expect("\"x\"", "\"x\"\n");
    expect("true", "");
    expect("true ", "true\n");
    expect("1 2,", "1\n2\n! JSON parse error, unexpected token near ','\n");
    expect("{\"a\":\"}{\\\"]\"}", "{\"a\":\"}{\\\"]\"}\n");
}

static void strings_stand_in_either_quotes(void **state)
{
    expect("{'a':'it\\'s \"x\"'}", "{\"a\":\"it's \\\"x\\\"\"}\n");
    expect("\"it\\'s 'x'\"", "\"it's 'x'\"\n");
    expect("'\\\\' '\\\"' '\\u0041\\n'", "\"\\\\\"\n\"\\\"\"\n\"A\\n\"\n");
    expect("'}' ", "\"}\"\n");
}

static void numbers_may_be_of_any_size(void **state)
{
    expect("[9223372036854775807, -9223372036854775808]", "[9223372036854775807,-9223372036854775808]\n");
    expect("[18446744073709551616]", "[1.8446744073709552e19]\n");
    expect("[-0, 0.5, 1e3, -1.5E+2]", "[0,0.5,1000.0,-150.0]\n");
    expect("01 ", "! JSON parse error, stray '01'\n");
    expect("-x ", "! JSON parse error, stray '-x'\n");
    expect("1.x ", "! JSON parse error, stray '1.x'\n");
    expect("1E+ ", "! JSON parse error, stray '1E+ '\n");
    expect("1abc ", "1\n! JSON parse error, invalid keyword 'abc'\n");
}

static void garbage_is_told_and_passed(void **state)
{
    expect("@\t@ x\n{}", "! JSON parse error, stray '@'\n{}\n");
    expect("\xff{}", "! JSON parse error, stray '\xef\xbf\xbd'\n{}\n");
    expect("{\"a\":\xff{}", "! JSON parse error, stray '\xef\xbf\xbd'\n{}\n");
    expect("\"x\n{}", "! JSON parse error, stray '\"x\n'\n{}\n");
    expect("@\xff", "! JSON parse error, stray '@'\n! JSON parse error, stray '\xef\xbf\xbd'\n");
    expect_n("\0{}", 3, "! JSON parse error, stray ''\n{}\n");
    expect("{\"a\": foo, \"b\": bar}", "! JSON parse error, invalid keyword 'foo'\n");
    expect("trueX {}", "true\n! JSON parse error, stray 'X'\n{}\n");
    expect("]{}", "! JSON parse error, unexpected token near ']'\n{}\n");
    expect("{\"a\"]{}", "! JSON parse error, ':' expected near ']'\n{}\n");
    expect("%d ", "! JSON parse error, stray '%'\n");
}

static char *repeat(const char *what, size_t times, const char *end)
{
    size_t len = strlen(what);
    char *text = malloc(len * times + strlen(end) + 1);

    assert_non_null(text);
    for (size_t i = 0; i < times; i++) {
        memcpy(text + i * len, what, len);
    }
    strcpy(text + len * times, end);
    return text;
}

static void expect_repeat(const char *what, size_t times, const char *end, const char *expected)
{
    char *text = repeat(what, times, end), out[OUT_MAX];

    run(text, strlen(text), 16384, out);
    assert_string_equal(out, expected);
    run(text, strlen(text), 1, out);
    assert_string_equal(out, expected);
    free(text);
}

static void limits_are_kept(void **state)
{
    expect_repeat("[", QMP_NESTING_MAX + 1, "\n{}", "! JSON nesting depth limit exceeded\n{}\n");
    expect_repeat("{\"a\":", 100000, "{}}\n{}", "! JSON nesting depth limit exceeded\n{}\n");
    expect_repeat("x", 100, " ",
                  "! JSON parse error, invalid keyword "
                  "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'\n");
    char *text = repeat("z", QMP_MESSAGE_MAX, "\"\n{}"), out[OUT_MAX];
    text[0] = '"';
    run(text, strlen(text), 16384, out);
    assert_string_equal(out, "! JSON token size limit exceeded\n{}\n");
    free(text);
    text = repeat("1,", QMP_TOKENS_MAX / 2 + 2, "1]\n{}");
    text[0] = '[';
    text[1] = ' ';
    run(text, strlen(text), 16384, out);
    assert_string_equal(out, "! JSON token count limit exceeded\n{}\n");
    free(text);
}

/* Whatever comes: a reset and a new line, and the next message is read. */
static void any_garbage_is_survived(void **state)
{
    struct rng rng;
    char text[600], whole[OUT_MAX], cut[OUT_MAX];

    rng_init(&rng, 7);
    for (int i = 0; i < 3000; i++) {
        static const char likely[] = "{}[]:,\"'\\ \n\ttruefalsenull0123456789.eE+-u\xff\xfe\x80@";
        size_t len = rng_below(&rng, 300);
        for (size_t k = 0; k < len; k++) {
            text[k] =
                rng_below(&rng, 8) ? likely[rng_below(&rng, sizeof(likely))] : (char)rng_below(&rng, 256);
        }
        strcpy(text + len, "\xff\n[\"ok\"]");
        run(text, len + 8, len + 8, whole);
        run(text, len + 8, 1 + rng_below(&rng, 20), cut);
        assert_string_equal(whole, cut);
        assert_true(strlen(whole) >= 7 && strcmp(whole + strlen(whole) - 7, "[\"ok\"]\n") == 0);
    }
}

static void text_is_cleaned(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {{"", ""},
                 {"a\xc3\xa9z", "a\xc3\xa9z"},
                 {"a\xc3", "a\xef\xbf\xbd"},
                 {"\xc3(\xff", "\xef\xbf\xbd(\xef\xbf\xbd"},
                 {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *clean = qmp_clean(cases[i].from, strlen(cases[i].from));
        assert_string_equal(clean, cases[i].to);
        free(clean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_end_where_they_end),
        cmocka_unit_test(strings_stand_in_either_quotes),
        cmocka_unit_test(numbers_may_be_of_any_size),
        cmocka_unit_test(garbage_is_told_and_passed),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(any_garbage_is_survived),
        cmocka_unit_test(text_is_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
