/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes, times, option tables, dotted names, scatter lists: expected values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/json.h"
#include "base/option.h"
#include "base/rng.h"
#include "base/size.h"

static void sizes_parse_as_qemu_io_says(void **state)
{
    static const struct {
        const char *text;
        int result;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"512", 0, 512},
        {"0x200", 0, 512},
        {"1k", 0, 1024},
        {"1.5k", 0, 1536},
        {"2G", 0, UINT64_C(2147483648)},
        {"3b", 0, 3},
        {"7E", 0, UINT64_C(8070450532247928832)},
        {"8E", -ERANGE, 0},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"k", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1kk", -EINVAL, 0},
        {"0x10k", -EINVAL, 0},
        {"1 k", -EINVAL, 0},
        {"0x", -EINVAL, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t v = 4711;
        assert_int_equal(size_parse(cases[i].text, &v), cases[i].result);
        assert_true(v == (cases[i].result == 0 ? cases[i].bytes : 4711));
    }
}

static void sizes_print_as_qemu_does(void **state)
{
    char buf[SIZE_TEXT_MAX];

    assert_string_equal(size_text(0, buf), "0 bytes");
    assert_string_equal(size_text(1023, buf), "1023 bytes");
    assert_string_equal(size_text(65536, buf), "64 KiB");
    assert_string_equal(size_text(3 * MiB / 2, buf), "1.500 MiB");
    assert_string_equal(size_text(UINT64_C(1) << 60, buf), "1 EiB");
    assert_string_equal(size_text_short(200704, buf), "196 KiB");
    assert_string_equal(size_text_short(GiB, buf), "1 GiB");
    assert_string_equal(size_text_short(3 * MiB / 2, buf), "1.5 MiB");
}

static void times_parse_with_units(void **state)
{
    uint64_t ns = 0;

    assert_int_equal(duration_parse("1.5", &ns), 0);
    assert_true(ns == 1500000000);
    assert_int_equal(duration_parse("20ms", &ns), 0);
    assert_true(ns == 20000000);
    assert_int_equal(duration_parse("7ns", &ns), 0);
    assert_true(ns == 7);
    assert_int_equal(duration_parse("10m", &ns), 0);
    assert_int_equal(ns, 600 * UINT64_C(1000000000));
    assert_int_equal(duration_parse("1.5h", &ns), 0);
    assert_int_equal(ns, 5400 * UINT64_C(1000000000));
    assert_int_equal(duration_parse("1d", &ns), -EINVAL);
    assert_int_equal(duration_parse("-1s", &ns), -EINVAL);
    assert_int_equal(duration_parse("1e30s", &ns), -ERANGE);
}

struct opts {
    bool flag;
    uint64_t count, size, time;
    char *text;
    int colour;
};

static const char *const colours[] = {"red", "green", NULL};

static const struct option table[] = {
    {"flag", OPT_BOOL, offsetof(struct opts, flag), .def = "on"},
    {"group.count", OPT_UINT, offsetof(struct opts, count), .min = 1, .max = 10, .def = "3"},
    {"size", OPT_SIZE, offsetof(struct opts, size)},
    {"time", OPT_NS, offsetof(struct opts, time)},
    {"text", OPT_STRING, offsetof(struct opts, text)},
    {"colour", OPT_ENUM, offsetof(struct opts, colour), .values = colours},
    {0},
};

static int apply(const char *keyvals, struct opts *o, json_t **ret_left, struct err *err)
{
    AUTO_JSON json_t *flat = NULL;
    AUTO_JSON json_t *nested = NULL;

    *o = (struct opts){0};
    int r = json_from_keyvals(keyvals, NULL, &flat, err);
    r = r < 0 ? r : json_nest(flat, &nested, err);
    r = r < 0 ? r : options_apply(table, o, nested, err);
    if (ret_left && r == 0) {
        *ret_left = TAKE_PTR(nested);
    }
    return r;
}

static void option_tables_take_what_they_know(void **state)
{
    struct opts o;
    AUTO_JSON json_t *left = NULL;

    assert_int_equal(
        apply("flag=off,group.count=0x7,size=1.5M,time=2ms,text=a,,b,colour=green,other=1", &o, &left, NULL),
        0);
    assert_false(o.flag);
    assert_int_equal(o.count, 7);
    assert_int_equal(o.size, 1572864);
    assert_int_equal(o.time, 2000000);
    assert_string_equal(o.text, "a,b");
    assert_int_equal(o.colour, 1);
    assert_int_equal(json_object_size(left), 1);
    assert_string_equal(json_string_value(json_object_get(left, "other")), "1");
    options_free(table, &o);

    assert_int_equal(apply("", &o, NULL, NULL), 0);
    assert_true(o.flag);
    assert_int_equal(o.count, 3);
    options_free(table, &o);
}

static void wrong_options_say_what_was_expected(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"flag=1", "Parameter 'flag' expects 'on' or 'off'"},
        {"group.count=11", "option 'group.count': 11 is out of range 1 to 10"},
        {"group.count=x", "Parameter 'group.count' expects a number, not \"x\""},
        {"size=9E", "Parameter 'size' expects a size that is not so large, not \"9E\""},
        {"time=soon", "Parameter 'time' expects a time such as 500ms or 2s, not \"soon\""},
        {"colour=blue", "Parameter 'colour' does not accept value 'blue': expected red, green"},
        {"a=1,a.b=2", "option 'a.b': 'a' is given both as a value and as a group"},
        {"=1", "'=1': an option name is empty"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct opts o;
        struct err err = {0};
        assert_true(apply(cases[i].text, &o, NULL, &err) < 0);
        if (cases[i].text[0] != '=') { /* the sentence of that one quotes the whole text */
            assert_string_equal(err.text, cases[i].says);
        }
        options_free(table, &o);
    }
}

static void dotted_names_nest_and_number(void **state)
{
    AUTO_JSON json_t *flat = NULL;
    AUTO_JSON json_t *nested = NULL;

    assert_int_equal(json_from_keyvals("a.b=1,a.c.0=x,a.c.1=y,flag", NULL, &flat, NULL), 0);
    assert_int_equal(json_nest(flat, &nested, NULL), 0);
    AUTO_FREE char *text = json_text(nested);
    assert_string_equal(text, "{\"a\":{\"b\":\"1\",\"c\":[\"x\",\"y\"]},\"flag\":\"on\"}");
}

static void deep_json_is_refused(void **state)
{
    char text[1000] = "";
    struct err err = {0};
    AUTO_JSON json_t *j = NULL;

    memset(text, '[', 500);
    assert_int_equal(json_parse_object(text, &j, &err), -EINVAL);
    assert_string_equal(err.text, "JSON text is nested more than 128 deep");
    assert_int_equal(json_parse_object("[1]", &j, &err), -EINVAL);
    assert_int_equal(json_parse_object("{\"a\":\"[[[[\"}", &j, &err), 0);
}

static void json_strings_may_stand_in_single_quotes(void **state)
{
    struct err err = {0};
    AUTO_JSON json_t *j = NULL;

    assert_int_equal(
        json_parse_object("{'a': 'say \"x\"', \"b\": \"it\\'s\", 'c\\'': [1, '\\\\']}", &j, &err), 0);
    assert_string_equal(json_string_value(json_object_get(j, "a")), "say \"x\"");
    assert_string_equal(json_string_value(json_object_get(j, "b")), "it's");
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "c'"), 1)), "\\");
    json_decref(TAKE_PTR(j));
    assert_int_equal(json_parse_object("{'a': 'b\"}", &j, &err), -EINVAL);
    assert_int_equal(json_parse_object("{'a': 'b\\", &j, &err), -EINVAL);
}

static void scatter_lists_slice_and_copy(void **state)
{
    char a[3], b[4], c[5], flat[12];
    struct iovec iov[] = {{a, 3}, {b, 4}, {c, 5}}, part[3];

    assert_int_equal(iov_size(iov, 3), 12);
    iov_from_buf(iov, 3, 0, "abcdefghijkl", 12);
    assert_memory_equal(b, "defg", 4);
    assert_int_equal(iov_slice(part, iov, 3, 2, 6), 3);
    iov_to_buf(part, 3, 0, flat, 6);
    assert_memory_equal(flat, "cdefgh", 6);
    assert_int_equal(iov_slice(part, iov, 3, 3, 4), 1);
    iov_memset(iov, 3, 1, 0, 11);
    assert_false(iov_is_zero(iov, 3));
    a[0] = 0;
    assert_true(iov_is_zero(iov, 3));
    assert_false(iov_aliases(iov, 3));
    iov[2] = (struct iovec){a + 2, 1};
    assert_true(iov_aliases(iov, 3));
}

static void zeroes_are_seen_at_every_length(void **state)
{
    char buf[100] = {0};

    for (size_t len = 0; len <= sizeof(buf); len++) {
        assert_true(buffer_is_zero(buf, len));
        for (size_t i = 0; i < len; i++) {
            buf[i] = 1;
            assert_false(buffer_is_zero(buf, len));
            buf[i] = 0;
        }
    }
}

static void byte_order_is_explicit(void **state)
{
    uint8_t b[8];

    put_be32(b, 0x514649fb);
    assert_memory_equal(b, "QFI\xfb", 4);
    put_le16(b, 0x1234);
    assert_int_equal(b[0], 0x34);
    put_be64(b, UINT64_C(0x0102030405060708));
    assert_int_equal(b[0], 1);
    assert_int_equal(get_be16(b + 6), 0x0708);
    assert_true(get_le64(b) == UINT64_C(0x0807060504030201));
}

static void the_generator_follows_its_seed(void **state)
{
    struct rng a, b;

    rng_init(&a, 42);
    rng_init(&b, 42);
    for (int i = 0; i < 100; i++) {
        assert_true(rng_u64(&a) == rng_u64(&b));
        assert_true(rng_below(&a, 7) < 7);
        rng_below(&b, 7);
    }
    assert_true(mul_high(UINT64_MAX, UINT64_MAX) == UINT64_MAX - 1);
    assert_true(mul_high(UINT64_C(1) << 63, 6) == 3);
    assert_true(mul_high(UINT64_C(0x123456789abcdef0), UINT64_C(0xfedcba9876543210)) ==
                UINT64_C(0x121fa00ad77d7422)); /* bc(1) */
    /* splitmix64 of 0: the first output published with the algorithm */
    uint64_t x = 0;
    assert_true(splitmix64(&x) == UINT64_C(0xe220a8397b1dcdaf));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_parse_as_qemu_io_says),
        cmocka_unit_test(sizes_print_as_qemu_does),
        cmocka_unit_test(times_parse_with_units),
        cmocka_unit_test(option_tables_take_what_they_know),
        cmocka_unit_test(wrong_options_say_what_was_expected),
        cmocka_unit_test(dotted_names_nest_and_number),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(json_strings_may_stand_in_single_quotes),
        cmocka_unit_test(scatter_lists_slice_and_copy),
        cmocka_unit_test(zeroes_are_seen_at_every_length),
        cmocka_unit_test(byte_order_is_explicit),
        cmocka_unit_test(the_generator_follows_its_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
