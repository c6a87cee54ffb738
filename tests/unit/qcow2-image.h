/* SPDX-License-Identifier: BSD-2-Clause */
/* What the qcow2 unit tests share: running in a coroutine, temporary files, making and opening
 * images, and checks that print what differs. */
#ifndef TESTS_UNIT_QCOW2_IMAGE_H
#define TESTS_UNIT_QCOW2_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "drivers/qcow2/qcow2.h"

static struct graph g;
static char notices[4096]; /* all sentences, a line each */

static void take_notice(struct graph *graph, enum notice_kind kind, const char *text)
{
    size_t used = strlen(notices);

    snprintf(notices + used, sizeof(notices) - used, "%s\n", text);
}

/* Run @fn in a coroutine of a fresh loop and graph. */
static UNUSED void run(int (*fn)(void *), void *arg)
{
    struct loop *loop;

    assert_int_equal(loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL), 0);
    graph_init(&g);
    g.notice = take_notice;
    notices[0] = 0;
    assert_int_equal(loop_run(loop, fn, arg), 0);
    assert_true(list_empty(&g.nodes));
    loop_destroy(loop);
}

/* A name for a file in a folder of this process; remove_files() removes the folder. */
static char folder[64];

static UNUSED const char *file_path(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *p = path[next++ % 8];

    if (!folder[0]) {
        strcpy(folder, "/tmp/blkproof-qcow2-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

static UNUSED void remove_files(void)
{
    char command[128];

    if (folder[0]) {
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        assert_int_equal(system(command), 0);
        folder[0] = 0;
    }
}

/* Make an image; @options as after img create -o. */
static UNUSED co_fn void make_image(const char *path, const char *options, uint64_t size)
{
    const struct driver *d = driver_find("qcow2");
    struct qcow2_create c = {0};
    struct err err = {0};
    AUTO_JSON json_t *given = NULL;

    if (json_from_keyvals(options, NULL, &given, &err) < 0 ||
        options_apply(d->create_options, &c, given, &err) < 0 || d->create(&g, path, &c, size, &err) < 0) {
        fail_msg("%s: %s", options, err.text);
    }
    options_free(d->create_options, &c);
}

static UNUSED co_fn struct node *open_image(const char *path, unsigned flags)
{
    struct node *n = NULL;
    struct err err = {0};

    if (node_open_name(&g, path, "qcow2", flags, &n, &err) < 0) {
        fail_msg("%s: %s", path, err.text);
    }
    return n;
}

/* ---- bytes of a file, past the driver ---- */

static UNUSED void poke(const char *path, uint64_t offset, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
    close(fd);
}

static UNUSED void peek(const char *path, uint64_t offset, void *bytes, size_t len)
{
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    memset(bytes, 0, len);
    assert_true(pread(fd, bytes, len, (off_t)offset) >= 0);
    close(fd);
}

static UNUSED void poke64(const char *path, uint64_t offset, uint64_t v)
{
    uint8_t bytes[8];

    put_be64(bytes, v);
    poke(path, offset, bytes, 8);
}

static UNUSED void poke32(const char *path, uint64_t offset, uint32_t v)
{
    uint8_t bytes[4];

    put_be32(bytes, v);
    poke(path, offset, bytes, 4);
}

static UNUSED uint64_t peek64(const char *path, uint64_t offset)
{
    uint8_t bytes[8];

    peek(path, offset, bytes, 8);
    return get_be64(bytes);
}

static UNUSED unsigned peek16(const char *path, uint64_t offset)
{
    uint8_t bytes[2];

    peek(path, offset, bytes, 2);
    return get_be16(bytes);
}

/* ---- guest data ---- */

static UNUSED co_fn void fill(struct node *n, uint64_t offset, uint64_t bytes, int byte)
{
    char *buf = malloc(bytes);

    memset(buf, byte, bytes);
    assert_int_equal(node_write(n, offset, buf, bytes, 0), 0);
    free(buf);
}

static UNUSED co_fn void expect(struct node *n, uint64_t offset, uint64_t bytes, int byte)
{
    unsigned char *buf = malloc(bytes);

    memset(buf, ~byte, bytes);
    assert_int_equal(node_read(n, offset, buf, bytes), 0);
    for (uint64_t i = 0; i < bytes; i++) {
        if (buf[i] != (unsigned char)byte) {
            fail_msg("byte %llu is 0x%02x, expected 0x%02x", (unsigned long long)(offset + i), buf[i],
                     (unsigned char)byte);
        }
    }
    free(buf);
}

#endif
