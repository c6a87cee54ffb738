/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkdebug's configuration file: what it may be, what it means, and the sentence and line for what it may
 * not. Which texts are accepted is what QEMU 7.2 accepts (tests/interop/blkdebug.bats asks both), but for
 * what QEMU misreads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "drivers/fault/internal.h"

static int parse(const char *text, json_t **injects, json_t **states, struct err *err)
{
    *injects = json_array();
    *states = json_array();
    return fault_parse_config(text, "c", *injects, *states, err);
}

static void expect_rules(const char *text, const char *injects, const char *states)
{
    json_t *i, *s;
    struct err err = {0};
    if (parse(text, &i, &s, &err) < 0) {
        fail_msg("%s: %s", text, err.text);
    }
    json_t *want_i = json_loads(injects, 0, NULL), *want_s = json_loads(states, 0, NULL);
    assert_non_null(want_i);
    assert_non_null(want_s);
    if (!json_equal(i, want_i) || !json_equal(s, want_s)) {
        fail_msg("%s: %s %s", text, json_text(i), json_text(s));
    }
    json_decref(i);
    json_decref(s);
    json_decref(want_i);
    json_decref(want_s);
}

static void what_it_means(void **state)
{
    expect_rules("", "[]", "[]");
    expect_rules("\n# comment\n\n", "[]", "[]");
    expect_rules("[inject-error]\nevent = \"write_aio\"\n",
                 "[{\"action\":\"error\",\"event\":\"write_aio\",\"errno\":5,\"immediately\":false}]", "[]");
    expect_rules("[inject-error \"id\"]\n  event\t=\t\"l2_load\" behind\nerrno = \"0x1c\"\nonce "
                 "=\"on\"\nsector = \"8\"\n"
                 "state = \"010\"\niotype = \"write-zeroes\"\nimmediately = \"y\"",
                 "[{\"action\":\"error\",\"event\":\"l2_load\",\"errno\":28,\"count\":1,\"state\":8,\"op\":"
                 "\"write-zeroes\","
                 "\"ranges\":[{\"offset\":4096,\"bytes\":1}],\"immediately\":true}]",
                 "[]");
    expect_rules("[inject-error]\nevent = \"none\"\nerrno = \"0\"\nonce = \"on\"\nsector = \"-1\"\n",
                 "[{\"action\":\"pass\",\"event\":\"none\"}]", "[]");
    expect_rules("[set-state]\nevent = \"l2_load\"\nstate = \"1\"\nnew_state = \"2\"\n[set-state]\nevent = "
                 "\"read_aio\"\n",
                 "[]",
                 "[{\"action\":\"state\",\"event\":\"l2_load\",\"state\":1,\"new-state\":2},"
                 "{\"action\":\"state\",\"event\":\"read_aio\",\"new-state\":0}]");
    expect_rules("[inject-error]\nevent = \"l2_load\"\nevent = \"read_aio\"\n", /* the last one counts */
                 "[{\"action\":\"error\",\"event\":\"read_aio\",\"errno\":5,\"immediately\":false}]", "[]");
    expect_rules("# c\r\n[inject-error]\r\nevent = \"read_aio\"\r\n",
                 "[{\"action\":\"error\",\"event\":\"read_aio\",\"errno\":5,\"immediately\":false}]", "[]");
    expect_rules(
        "[inject-error \"a\"]\nevent = \"none\"\n[set-state \"a\"]\nevent = \"none\"\n", /* a name for each
                                                                                            kind */
        "[{\"action\":\"error\",\"event\":\"none\",\"errno\":5,\"immediately\":false}]",
        "[{\"action\":\"state\",\"event\":\"none\",\"new-state\":0}]");
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"[inject-error]\nevent=\"x\"\n",
         "c:2: Invalid parameter 'event=\"x\"': there must be a blank before the '='"},
        {"[inject-error]\nevent = write_aio\n", "c:2: the value of 'event' must stand in double quotes"},
        {"[inject-error]\nevent = 'write_aio'\n", "c:2: the value of 'event' must stand in double quotes"},
        {"[inject-error]\nevent = \"write_aio\n", "c:2: the value of 'event' has no closing quote"},
        {"[inject-error]\nevent\n", "c:2: parse error: expected event = \"value\""},
        {"[inject-error]\nevent : \"x\"\n", "c:2: parse error: expected event = \"value\""},
        {"[inject-error]\nevent = \"none\"\n \n", "c:3: parse error: a line of blanks is no empty line"},
        {"event = \"x\"\n", "c:1: no group defined: options follow [inject-error] or [set-state]"},
        {" [inject-error]\n", "c:1: no group defined: options follow [inject-error] or [set-state]"},
        {"\n[foo]\n", "c:2: There is no option group 'foo'"},
        {"[inject-error\n", "c:1: a section is [group] or [group \"id\"]"},
        {"[inject-error \"a]\n", "c:1: a section is [group] or [group \"id\"]"},
        {"[inject-error \"1a\"]\n",
         "c:1: Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting "
         "with a letter, at most 63"},
        {"[inject-error \".a\"]\n",
         "c:1: Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting "
         "with a letter, at most 63"},
        {"[inject-error \"a\"]\nevent = \"none\"\n[inject-error \"a\"]\n",
         "c:3: Duplicate ID 'a' for inject-error"},
        {"\n\n[inject-error]\n\n[set-state]\n", "c:3: Missing event name for rule"},
        {"[inject-error]\nevent = \"\"\n", "c:1: invalid parameter value: "},
        {"[inject-error]\nevent = \"foo\"\n", "c:1: invalid parameter value: foo"},
        {"[inject-error]\nevent = \"none\"\nnew_state = \"1\"\n",
         "c:1: [inject-error] section doesn't support the option 'new_state'"},
        {"[set-state]\nevent = \"none\"\nerrno = \"1\"\n",
         "c:1: [set-state] section doesn't support the option 'errno'"},
        {"[inject-error]\nevent = \"none\"\nerrno = \"EIO\"\n",
         "c:1: Parameter 'errno' expects a number, not \"EIO\""},
        {"[inject-error]\nevent = \"none\"\nerrno = \"-5\"\n",
         "c:1: Parameter 'errno' expects a number, not \"-5\""},
        {"[inject-error]\nevent = \"none\"\nonce = \"1\"\n", "c:1: Parameter 'once' expects 'on' or 'off'"},
        {"[inject-error]\nevent = \"none\"\nsector = \"18014398509481983\"\n",
         "c:1: option 'sector': 18014398509481983 is out of range 0 to 18014398509481982"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        json_t *injects, *states;
        struct err err = {0};
        assert_int_equal(parse(cases[i].text, &injects, &states, &err), -EINVAL);
        assert_string_equal(err.text, cases[i].sentence);
        json_decref(injects);
        json_decref(states);
    }
}

static void lines_have_a_limit(void **state)
{
    char text[1200] = "#";
    json_t *injects, *states;
    struct err err = {0};

    memset(text + 1, 'x', 1021);
    assert_int_equal(parse(text, &injects, &states, &err), 0);
    json_decref(injects);
    json_decref(states);
    text[1022] = 'x';
    assert_int_equal(parse(text, &injects, &states, &err), -EINVAL);
    assert_string_equal(err.text, "c:1: the line is longer than 1022 characters");
    json_decref(injects);
    json_decref(states);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_means),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(lines_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
