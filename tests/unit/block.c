/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening nodes from names and options, what is refused and in which words, and the gate's rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/json.h"
#include "block/driver.h"

static struct graph g;

static int run(int (*fn)(void *), void *arg)
{
    struct loop *loop;

    assert_int_equal(loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL), 0);
    graph_init(&g);
    int r = loop_run(loop, fn, arg);
    assert_true(list_empty(&g.nodes));
    loop_destroy(loop);
    return r;
}

static co_fn struct node *open_json(const char *text, unsigned flags)
{
    AUTO_JSON json_t *options = NULL;
    struct node *n = NULL;
    struct err err = {0};

    if (json_parse_object(text, &options, &err) < 0 || node_open(&g, options, flags, &n, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return n;
}

/* ---- opening ---- */

static const struct {
    const char *name, *format, *says;
} refused[] = {
    {"", NULL, "The 'file' block driver requires a file name"},
    {"/nonexistent/x", NULL, "Could not open '/nonexistent/x': No such file or directory"},
    {"/tmp", NULL, "'/tmp' is a directory: expected a regular file or a block device"},
    {"/dev/null", NULL, "'/dev/null' is neither file nor disk: expected a regular file or a block device"},
    {"gopher:x", NULL, "Unknown protocol 'gopher'"},
    {"mem://1M", "qcow9", "Unknown driver 'qcow9'"},
    {"mem://lots", NULL, "Parameter 'size' expects a size, not \"lots\""},
    {"json:{", NULL,
     "Could not parse the JSON options: JSON parse error at column 1: string or '}' expected near end of "
     "file"},
    {"json:{}", NULL, "Must specify either driver or file"},
    {"json:{\"driver\":\"raw\"}", NULL, "A block device must be specified for \"file\""},
    {"json:{\"driver\":\"mem\",\"sise\":1}", NULL, "Block protocol 'mem' doesn't support the option 'sise'"},
    {"json:{\"driver\":\"raw\",\"file\":\"nobody\"}", NULL,
     "Cannot find device='nobody' nor node-name='nobody'"},
    {"json:{\"driver\":\"raw\",\"node-name\":\"x\",\"file\":\"x\"}", NULL, "node 'x' would lie below itself"},
    {"json:{\"driver\":\"raw\",\"node-name\":\"x\",\"file\":{\"driver\":\"raw\",\"file\":\"x\"}}", NULL,
     "node 'x' would lie below itself"},
    {"json:{\"driver\":\"blkverify\",\"node-name\":\"x\",\"test\":{\"file\":\"x\"},\"raw\":{\"driver\":"
     "\"mem\"}}",
     NULL, "node 'x' would lie below itself"},
    {"json:{\"driver\":\"raw\",\"offset\":2097152,\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}", NULL,
     "offset 2097152 lies beyond the end of 'json:{\"driver\":\"mem\",\"size\":\"1M\"}' (1048576 bytes)"},
};

static int refuse_main(void *arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct node *n = NULL;
        struct err err = {0};
        assert_true(node_open_name(&g, refused[i].name, refused[i].format, OPEN_WRITE, &n, &err) < 0);
        assert_null(n);
        assert_string_equal(err.text, refused[i].says);
        assert_true(list_empty(&g.nodes));
    }
    return 0;
}

static void bad_names_get_one_clear_sentence(void **state)
{
    run(refuse_main, NULL);
}

static int opts_main(void *arg)
{
    struct node *n = NULL;
    struct err err = {0};

    if (node_open_opts(&g, "driver=raw,offset=4k,size=8k,file.driver=mem,file.size=1M,node-name=top",
                       OPEN_WRITE, &n, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(node_size(n), 8192);
    assert_ptr_equal(graph_find(&g, "top"), n);
    assert_int_equal(node_write(n, 0, "window", 6, 0), 0);
    char buf[6];
    assert_int_equal(node_read(node_child(n, "file"), 4096, buf, 6), 0);
    assert_memory_equal(buf, "window", 6);
    assert_int_equal(node_read(n, 8190, buf, 6), -EIO); /* past the window's end */
    node_unref(n);
    return 0;
}

static void dotted_options_build_a_window(void **state)
{
    run(opts_main, NULL);
}

static int nest_main(void *arg)
{
    struct node *n = open_json(
        "{\"driver\":\"delay\",\"file\":{\"driver\":\"raw\",\"file\":{\"driver\":\"delay\",\"file\":"
        "{\"driver\":\"raw\",\"offset\":512,\"file\":{\"driver\":\"mem\",\"size\":65536}}}}}",
        OPEN_WRITE);
    char in[] = "nested", out[sizeof(in)];

    assert_int_equal(node_size(n), 65536 - 512);
    assert_int_equal(node_write(n, 77, in, sizeof(in), REQ_FUA), 0);
    assert_int_equal(node_read(n, 77, out, sizeof(out)), 0);
    assert_string_equal(in, out);
    node_unref(n);
    return 0;
}

static void any_driver_nests_over_any_other(void **state)
{
    run(nest_main, NULL);
}

static int deep_main(void *arg)
{
    char text[8192] = "";
    struct node *n = NULL;
    struct err err = {0};

    strcat(text, "json:");
    for (int i = 0; i < 70; i++) {
        strcat(text, "{\"driver\":\"raw\",\"file\":");
    }
    strcat(text, "{\"driver\":\"mem\"}");
    for (int i = 0; i < 70; i++) {
        strcat(text, "}");
    }
    assert_int_equal(node_open_name(&g, text, NULL, 0, &n, &err), -ELOOP);
    return 0;
}

static void endless_chains_end(void **state)
{
    run(deep_main, NULL);
}

/* The same chain, each link opened by itself upon the one before: 64 nodes, and no more. */
static int reference_main(void *arg)
{
    struct node *chain[GRAPH_DEPTH_MAX + 1] = {
        open_json("{\"driver\":\"mem\",\"size\":4096,\"node-name\":\"n0\"}", 0)};
    char text[128], byte;

    for (int i = 1; i <= GRAPH_DEPTH_MAX; i++) {
        struct err err = {0};
        snprintf(text, sizeof(text), "json:{\"driver\":\"raw\",\"node-name\":\"n%d\",\"file\":\"n%d\"}", i,
                 i - 1);
        int r = node_open_name(&g, text, NULL, 0, &chain[i], &err);
        assert_int_equal(r, i < GRAPH_DEPTH_MAX ? 0 : -ELOOP);
    }
    assert_int_equal(node_read(chain[GRAPH_DEPTH_MAX - 1], 4095, &byte, 1), 0);
    for (int i = 0; i < GRAPH_DEPTH_MAX; i++) {
        node_unref(chain[i]);
    }
    return 0;
}

static void chains_of_references_end(void **state)
{
    run(reference_main, NULL);
}

static int read_only_main(void *arg)
{
    struct node *n = open_json("{\"driver\":\"mem\",\"size\":4096}", 0);

    assert_int_equal(node_write(n, 0, "x", 1, 0), -EPERM);
    assert_int_equal(node_zero(n, 0, 1, 0), -EPERM);
    assert_int_equal(node_discard(n, 0, 1), -EPERM);
    assert_int_equal(node_truncate(n, 0, 0, NULL), -EPERM);
    assert_int_equal(node_flush(n), 0);
    node_unref(n);
    return 0;
}

static void read_only_nodes_refuse_what_writes(void **state)
{
    run(read_only_main, NULL);
}

/* A probed raw image must not be turned into another format behind the user's back; only raw is
 * always there, so what is asked is that ordinary bytes pass. */
static int probed_main(void *arg)
{
    struct node *n = NULL;
    char path[] = "/tmp/blkproof-probe-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0 && ftruncate(fd, 65536) == 0);
    close(fd);
    assert_int_equal(node_open_name(&g, path, NULL, OPEN_WRITE, &n, NULL), 0);
    assert_string_equal(node_driver_name(n), "raw");
    assert_string_equal(node_filename(n), path);
    assert_int_equal(n->limits.align, 512);
    assert_int_equal(node_write(n, 3, "abc", 3, 0), 0);
    char buf[8];
    assert_int_equal(node_read(n, 0, buf, 8), 0);
    assert_memory_equal(buf, "\0\0\0abc\0\0", 8);
    node_unref(n);
    unlink(path);
    return 0;
}

static void a_plain_file_is_probed_as_raw(void **state)
{
    run(probed_main, NULL);
}

/* ---- locks ---- */

static int lock_main(void *arg)
{
    struct node *a = NULL, *b = NULL;
    struct err err = {0};
    char path[] = "/tmp/blkproof-lock-XXXXXX", says[256];

    close(mkstemp(path));
    assert_int_equal(node_open_name(&g, path, "raw", OPEN_WRITE, &a, NULL), 0);
    assert_int_equal(node_open_name(&g, path, "raw", OPEN_WRITE, &b, &err), -EAGAIN);
    snprintf(says, sizeof(says), "Failed to get \"write\" lock: Is another process using the image [%s]?",
             path);
    assert_string_equal(err.text, says);
    assert_int_equal(node_open_name(&g, path, "raw", 0, &b, NULL), 0); /* readers may */
    node_unref(b);
    assert_int_equal(node_open_name(&g, path, "raw", OPEN_FORCE_SHARE, &b, NULL), 0);
    node_unref(b);
    node_unref(a);
    assert_int_equal(node_open_name(&g, path, "raw", OPEN_WRITE, &b, NULL), 0); /* the lock went with it */
    node_unref(b);
    unlink(path);
    return 0;
}

static void two_writers_are_kept_apart(void **state)
{
    run(lock_main, NULL);
}

/* ---- resizing ---- */

static int resize_main(void *arg)
{
    struct node *n = open_json("{\"driver\":\"mem\",\"size\":131072}", OPEN_WRITE);
    char ones[4096], back[4096];

    memset(ones, 1, sizeof(ones));
    assert_int_equal(node_write(n, 65536, ones, sizeof(ones), 0), 0);
    assert_int_equal(node_truncate(n, 65536 + 10, 0, NULL), 0);
    assert_int_equal(node_truncate(n, 131072, 0, NULL), 0);
    assert_int_equal(node_read(n, 65536, back, sizeof(back)), 0);
    for (int i = 0; i < 4096; i++) {
        assert_int_equal(back[i], i < 10 ? 1 : 0); /* what was cut off never comes back */
    }
    node_unref(n);
    return 0;
}

static void shrinking_and_growing_gives_zeroes(void **state)
{
    run(resize_main, NULL);
}

/* ---- huge and nearly empty ---- */

static int status_main(void *arg)
{
    const uint64_t exbi = UINT64_C(1) << 60;
    const uint64_t want[] = {6 * exbi, 65536, 65536, 65536,
                             exbi - 3 * 65536}; /* hole, data, hole, data, hole */
    struct node *n = open_json("{\"driver\":\"mem\",\"size\":\"7E\"}", OPEN_WRITE);
    uint64_t at = 0;

    assert_int_equal(node_write(n, 6 * exbi, "a", 1, 0), 0);
    assert_int_equal(node_write(n, 6 * exbi + 3 * 65536 - 1, "b", 1, 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        struct extent e;
        assert_int_equal(node_status(n, at, 7 * exbi - at, &e), 0);
        assert_int_equal(e.bytes, want[i]);
        assert_int_equal(e.data, i % 2);
        at += e.bytes;
    }
    assert_int_equal(at, 7 * exbi);
    node_unref(n);
    return 0;
}

static void a_hole_of_exbibytes_is_one_extent(void **state)
{
    run(status_main, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_names_get_one_clear_sentence),
        cmocka_unit_test(dotted_options_build_a_window),
        cmocka_unit_test(any_driver_nests_over_any_other),
        cmocka_unit_test(endless_chains_end),
        cmocka_unit_test(chains_of_references_end),
        cmocka_unit_test(read_only_nodes_refuse_what_writes),
        cmocka_unit_test(a_plain_file_is_probed_as_raw),
        cmocka_unit_test(a_hole_of_exbibytes_is_one_extent),
        cmocka_unit_test(two_writers_are_kept_apart),
        cmocka_unit_test(shrinking_and_growing_gives_zeroes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
