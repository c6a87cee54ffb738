/* SPDX-License-Identifier: BSD-2-Clause */
/* The layouts against bytes written down from the specification by hand, and the parsers of the
 * variable parts against everything that can be wrong with a length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/nbd.h"

/* ---- layouts ---- */

static void request_bytes(void **state)
{
    static const uint8_t wire[NBD_BYTES_request] = {
        0x25, 0x60, 0x95, 0x13,                         /* magic */
        0x00, 0x11,                                     /* FUA, FAST_ZERO */
        0x00, 0x06,                                     /* WRITE_ZEROES */
        0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, /* cookie */
        0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, /* offset */
        0x00, 0x00, 0x10, 0x00,                         /* length */
    };
    struct nbd_request q = nbd_request_get(wire);

    assert_int_equal(q.magic, NBD_REQUEST_MAGIC);
    assert_int_equal(q.flags, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_FAST_ZERO);
    assert_int_equal(q.type, NBD_CMD_WRITE_ZEROES);
    assert_true(q.cookie == UINT64_C(0xa1a2a3a4a5a6a7a8));
    assert_true(q.offset == UINT64_C(0x0102030405));
    assert_int_equal(q.length, 4096);

    uint8_t again[NBD_BYTES_request];
    nbd_request_put(again, q);
    assert_memory_equal(again, wire, sizeof(wire));
}

static void greeting_bytes(void **state)
{
    uint8_t wire[NBD_BYTES_greeting];

    nbd_greeting_put(wire, (struct nbd_greeting){NBD_MAGIC, NBD_OPT_MAGIC, 3});
    assert_memory_equal(wire, "NBDMAGICIHAVEOPT\0\3", 18);
}

static void chunk_bytes(void **state)
{
    static const uint8_t wire[NBD_BYTES_chunk] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0,
                                                  0,    0,    0,    0,    0, 7, 0,    0, 0, 6};
    uint8_t made[NBD_BYTES_chunk];

    nbd_chunk_put(made, (struct nbd_chunk){.magic = NBD_STRUCTURED_REPLY_MAGIC,
                                           .flags = NBD_REPLY_FLAG_DONE,
                                           .type = NBD_REPLY_TYPE_ERROR,
                                           .cookie = 7,
                                           .length = NBD_BYTES_chunk_error});
    assert_memory_equal(made, wire, sizeof(wire));
}

/* Fields follow one another without gaps, and fill the message. */
static void tables_are_dense(void **state)
{
    unsigned messages = 0;

    for (const struct nbd_layout *l = nbd_layouts; l->name; l++, messages++) {
        unsigned at = 0;
        for (unsigned i = 0; i < l->nfields; i++) {
            assert_int_equal(l->fields[i].offset, at);
            assert_true(l->fields[i].bits == 16 || l->fields[i].bits == 32 || l->fields[i].bits == 64);
            at += l->fields[i].bits / 8;
        }
        assert_int_equal(at, l->bytes);
    }
    assert_int_equal(messages, 15);
    assert_null(nbd_layout_find("nonsense"));
}

/* A table entry reads and writes what the accessor does. */
static void table_agrees_with_accessors(void **state)
{
    const struct nbd_layout *l = nbd_layout_find("request");
    uint8_t wire[NBD_BYTES_request] = {0};

    assert_non_null(l);
    assert_true(l->from_client);
    for (unsigned i = 0; i < l->nfields; i++) {
        const struct nbd_field *f = &l->fields[i];
        nbd_field_put(f, wire, f->kind == NBD_FIELD_MAGIC ? f->magic : i + 0x1100);
    }
    struct nbd_request q = nbd_request_get(wire);
    assert_int_equal(q.magic, NBD_REQUEST_MAGIC);
    assert_int_equal(q.flags, 0x1101);
    assert_int_equal(q.type, 0x1102);
    assert_int_equal(q.cookie, 0x1103);
    assert_int_equal(q.offset, 0x1104);
    assert_int_equal(q.length, 0x1105);
    assert_int_equal(nbd_field_get(&l->fields[4], wire), 0x1104);
}

/* ---- options ---- */

static void info_query(void **state)
{
    static const uint8_t data[] = {0, 0, 0, 2, 'h', 'd', 0, 2, 0, 3, 0, 1};
    struct nbd_info_query q;

    assert_int_equal(nbd_info_query_parse(data, sizeof(data), &q), 0);
    assert_true(nbd_string_is(q.name, "hd"));
    assert_false(nbd_string_is(q.name, "hdd"));
    assert_true(nbd_info_query_has(&q, NBD_INFO_BLOCK_SIZE));
    assert_true(nbd_info_query_has(&q, NBD_INFO_NAME));
    assert_false(nbd_info_query_has(&q, NBD_INFO_EXPORT));
    for (uint32_t len = 0; len < sizeof(data); len++) {
        assert_int_equal(nbd_info_query_parse(data, len, &q), -EINVAL);
    }
}

static void info_query_lies(void **state)
{
    static const struct {
        uint8_t data[12];
        uint32_t len;
    } bad[] = {
        {{0, 0, 0, 3, 'h', 'd', 0, 0}, 8},             /* the name eats half of the count */
        {{0xff, 0xff, 0xff, 0xff, 'h', 'd', 0, 0}, 8}, /* 4 GiB of name: 4 + len would wrap */
        {{0xff, 0xff, 0xff, 0xfc, 'h', 'd', 0, 0}, 8}, /* 4 + len == 0 */
        {{0, 0, 0, 0, 0xff, 0xff}, 6},                 /* 65535 types, none there */
        {{0, 0, 0, 0, 0x80, 0x00}, 6},                 /* count * 2 == 65536 */
        {{0, 0, 0, 0, 0, 1, 0, 3, 9}, 9},              /* a byte too many */
    };
    struct nbd_info_query q;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(nbd_info_query_parse(bad[i].data, bad[i].len, &q), -EINVAL);
    }
}

static void long_names_are_refused(void **state)
{
    static uint8_t data[4 + NBD_STRING_MAX + 1 + 2];
    struct nbd_info_query q;

    put_be32(data, NBD_STRING_MAX);
    assert_int_equal(nbd_info_query_parse(data, 4 + NBD_STRING_MAX + 2, &q), 0);
    put_be32(data, NBD_STRING_MAX + 1);
    assert_int_equal(nbd_info_query_parse(data, sizeof(data), &q), -EINVAL);
}

static void meta_query(void **state)
{
    static const uint8_t data[] = {0, 0, 0, 1, 'x', 0, 0, 0, 2, 0, 0, 0, 2, 'a', ':', 0, 0, 0, 0};
    struct nbd_meta_query q;
    struct nbd_string s;

    assert_int_equal(nbd_meta_query_parse(data, sizeof(data), &q), 0);
    assert_true(nbd_string_is(q.name, "x"));
    assert_int_equal(q.count, 2);
    assert_true(nbd_meta_query_next(&q, &s));
    assert_true(nbd_string_is(s, "a:"));
    assert_true(nbd_meta_query_next(&q, &s));
    assert_int_equal(s.len, 0);
    assert_false(nbd_meta_query_next(&q, &s));
    for (uint32_t len = 0; len < sizeof(data); len++) {
        assert_int_equal(nbd_meta_query_parse(data, len, &q), -EINVAL);
    }
}

static void meta_query_counts_that_lie(void **state)
{
    static const uint8_t many[] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t few[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct nbd_meta_query q;

    assert_int_equal(nbd_meta_query_parse(many, sizeof(many), &q), -EINVAL);
    assert_int_equal(nbd_meta_query_parse(few, sizeof(few), &q), -EINVAL);
    assert_int_equal(nbd_meta_query_parse(few, 8, &q), 0);
}

/* ---- errors: "Error values" ---- */

static void errors_have_protocol_numbers(void **state)
{
    assert_int_equal(nbd_error_from_errno(0), 0);
    assert_int_equal(nbd_error_from_errno(-EPERM), 1);
    assert_int_equal(nbd_error_from_errno(-EROFS), 1);
    assert_int_equal(nbd_error_from_errno(-EIO), 5);
    assert_int_equal(nbd_error_from_errno(-ENOMEM), 12);
    assert_int_equal(nbd_error_from_errno(-EINVAL), 22);
    assert_int_equal(nbd_error_from_errno(-ENOSPC), 28);
    assert_int_equal(nbd_error_from_errno(-EDQUOT), 28);
    assert_int_equal(nbd_error_from_errno(-EFBIG), 28);
    assert_int_equal(nbd_error_from_errno(-EOVERFLOW), 75);
    assert_int_equal(nbd_error_from_errno(-ENOTSUP), 95);
    assert_int_equal(nbd_error_from_errno(-ESHUTDOWN), 108);
    assert_int_equal(nbd_error_from_errno(-ETIMEDOUT), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_bytes),
        cmocka_unit_test(greeting_bytes),
        cmocka_unit_test(chunk_bytes),
        cmocka_unit_test(tables_are_dense),
        cmocka_unit_test(table_agrees_with_accessors),
        cmocka_unit_test(info_query),
        cmocka_unit_test(info_query_lies),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(meta_query),
        cmocka_unit_test(meta_query_counts_that_lie),
        cmocka_unit_test(errors_have_protocol_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
