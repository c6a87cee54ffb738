/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of NBD servers: QEMU's forms and the examples of the NBD URI specification, as options; and
 * what is not a name is refused with a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "drivers/nbd/nbd.h"

static const struct {
    const char *name, *options;
} good[] = {
    /* qemu(1), "NBD": the older forms */
    {"nbd:unix:/tmp/nbd.sock", "{\"server\":{\"type\":\"unix\",\"path\":\"/tmp/nbd.sock\"}}"},
    {"nbd:unix:/tmp/a b:c.sock:exportname=x",
     "{\"export\":\"x\",\"server\":{\"type\":\"unix\",\"path\":\"/tmp/a b:c.sock\"}}"},
    {"nbd:localhost:10809", "{\"server\":{\"type\":\"inet\",\"host\":\"localhost\",\"port\":\"10809\"}}"},
    {"nbd:[::1]:1234:exportname=a:b",
     "{\"export\":\"a:b\",\"server\":{\"type\":\"inet\",\"host\":\"::1\",\"port\":\"1234\"}}"},
    /* NBD URI specification, "Examples" */
    {"nbd://example.com/", "{\"server\":{\"type\":\"inet\",\"host\":\"example.com\",\"port\":\"10809\"}}"},
    {"nbd://example.com", "{\"server\":{\"type\":\"inet\",\"host\":\"example.com\",\"port\":\"10809\"}}"},
    {"nbd://example.com:10810/export",
     "{\"export\":\"export\",\"server\":{\"type\":\"inet\",\"host\":\"example.com\",\"port\":\"10810\"}}"},
    {"nbd://[2001:db8::1]:7/e",
     "{\"export\":\"e\",\"server\":{\"type\":\"inet\",\"host\":\"2001:db8::1\",\"port\":\"7\"}}"},
    {"nbd+unix:///?socket=nbd.sock", "{\"server\":{\"type\":\"unix\",\"path\":\"nbd.sock\"}}"},
    {"nbd+unix:///export?socket=/tmp/a%20b",
     "{\"export\":\"export\",\"server\":{\"type\":\"unix\",\"path\":\"/tmp/a b\"}}"},
    {"nbd+unix://?socket=s", "{\"server\":{\"type\":\"unix\",\"path\":\"s\"}}"},
    /* only the slash that divides is not part of the name */
    {"nbd://h//dir/e%2Ff",
     "{\"export\":\"/dir/e/f\",\"server\":{\"type\":\"inet\",\"host\":\"h\",\"port\":\"10809\"}}"},
    {"nbds://alice@example.com/", "{\"tls\":\"require\",\"tls-username\":\"alice\",\"server\":{\"type\":"
                                  "\"inet\",\"host\":\"example.com\",\"port\":"
                                  "\"10809\"}}"},
    {"nbds+unix:///?socket=s&tls-certificates=/etc/pki",
     "{\"tls-certificates\":\"/etc/pki\",\"tls\":\"require\",\"server\":{\"type\":\"unix\",\"path\":\"s\"}}"},
};

static void test_good_names(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_JSON json_t *options = json_object();
        struct err err = {0};
        if (nbd_parse_name(good[i].name, options, &err) != 0) {
            fail_msg("%s: %s", good[i].name, err.text);
        }
        AUTO_JSON json_t *expected = json_loads(good[i].options, 0, NULL);
        assert_non_null(expected);
        if (!json_equal(options, expected)) {
            AUTO_FREE char *text = json_text(options);
            fail_msg("%s: %s, expected %s", good[i].name, text, good[i].options);
        }
    }
}

static const char *const bad[] = {
    "nbd:",
    "nbd:host",
    "nbd::10809",
    "nbd:host:",
    "nbd:[::1:10809",
    "nbd:[::1]10809",
    "nbd:1:2:3",
    "nbd:unix:",
    "nbd:unix:/s:exportname=",
    "nbd:unix:/\xff",
    "nbd://",
    "nbd:///export",
    "nbd://host:/",
    "nbd://host/%zz",
    "nbd://host/%00",
    "nbd://host/%4",
    "nbd://host/?socket=s",
    "nbd://host/?nonsense=1",
    "nbd://host/?socket",
    "nbd+unix:///",
    "nbd+unix:///?socket=",
    "nbd+unix://host/?socket=s",
    "nbds:host:10809",
    "nbd+unix:/path",
};

static void test_bad_names(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_JSON json_t *options = json_object();
        struct err err = {0};
        if (nbd_parse_name(bad[i], options, &err) != -EINVAL) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_int_equal(err.code, -EINVAL);
        assert_memory_equal(err.text, "NBD ", 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_names),
        cmocka_unit_test(test_bad_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
