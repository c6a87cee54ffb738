/* SPDX-License-Identifier: BSD-2-Clause */
/* A verify node over two mem nodes whose driver can be made to misbehave, and what it said. */
#ifndef TESTS_UNIT_VERIFY_RIG_H
#define TESTS_UNIT_VERIFY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "block/driver.h"
#include "drivers/verify/verify.h"

/* One side's tricks: a copy of mem's driver with this in front. */
struct trick {
    struct driver drv;
    const struct driver *below;
    /* Return true if it answered the request itself. */
    co_fn bool (*play)(struct trick *t, struct node *n, struct req *r, int *ret_rc);
    int fail[REQ_OP_COUNT]; /* result of every request of this kind, which then does nothing */
    unsigned calls[REQ_OP_COUNT];
    uint64_t arg, arg2;
};

struct rig {
    struct graph g;
    struct node *v, *test, *raw;
    struct trick on_test, on_raw;
    char said[32768]; /* every notice, with its kind's letter: "M text\n" */
    unsigned stops;
};

static struct rig *rig_now; /* mem's io has no other way to find it */

static co_fn int trick_io(struct node *n, struct req *r)
{
    struct trick *t = n == rig_now->test ? &rig_now->on_test : &rig_now->on_raw;
    int rc;

    t->calls[r->op]++;
    if (t->fail[r->op]) {
        return t->fail[r->op];
    }
    return t->play && t->play(t, n, r, &rc) ? rc : t->below->io(n, r);
}

static inline void rig_notice(struct graph *g, enum notice_kind kind, const char *text)
{
    struct rig *rig = g->opaque;
    size_t used = strlen(rig->said);

    snprintf(rig->said + used, sizeof(rig->said) - used, "%c %s\n", "WEMDCB"[kind], text);
}

static inline void rig_stop(struct graph *g, struct node *n)
{
    ((struct rig *)g->opaque)->stops++;
}

static inline void play_tricks(struct trick *t, struct node *n)
{
    t->below = n->drv;
    t->drv = *n->drv;
    t->drv.io = trick_io;
    n->drv = &t->drv;
}

/* @options: members of the verify node as JSON text, without braces; sizes in bytes. */
static inline int rig_try(struct rig *rig, const char *options, uint64_t test_bytes, uint64_t raw_bytes,
                          struct err *err)
{
    char text[1024];

    *rig = (struct rig){0};
    rig_now = rig;
    graph_init(&rig->g);
    rig->g.notice = rig_notice;
    rig->g.stop = rig_stop;
    rig->g.opaque = rig;
    snprintf(text, sizeof(text),
             "json:{\"driver\":\"blkverify\",\"node-name\":\"v\",\"test\":{\"driver\":\"mem\",\"size\":%llu},"
             "\"raw\":{\"driver\":\"mem\",\"size\":%llu}%s%s}",
             (unsigned long long)test_bytes, (unsigned long long)raw_bytes, *options ? "," : "", options);
    int rc = node_open_name(&rig->g, text, NULL, OPEN_WRITE | OPEN_UNMAP, &rig->v, err);
    if (rc == 0) {
        rig->test = node_child(rig->v, "test");
        rig->raw = node_child(rig->v, "raw");
        play_tricks(&rig->on_test, rig->test);
        play_tricks(&rig->on_raw, rig->raw);
    }
    return rc;
}

static inline void rig_open(struct rig *rig, const char *options)
{
    struct err err = {0};

    if (rig_try(rig, options, 4 * MiB, 4 * MiB, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static inline co_fn void rig_close(struct rig *rig)
{
    node_unref(rig->v);
    assert_true(list_empty(&rig->g.nodes));
}

static inline co_fn void fill(struct node *n, uint64_t offset, uint64_t bytes, int byte)
{
    char *buf = malloc(bytes);

    memset(buf, byte, bytes);
    assert_int_equal(node_write(n, offset, buf, bytes, 0), 0);
    free(buf);
}

static inline co_fn int read_rc(struct node *n, uint64_t offset, uint64_t bytes)
{
    char *buf = malloc(bytes);
    int rc = node_read(n, offset, buf, bytes);

    free(buf);
    return rc;
}

/* Every one of @bytes is @byte. */
static inline co_fn void assert_filled(struct node *n, uint64_t offset, uint64_t bytes, int byte)
{
    uint8_t *buf = malloc(bytes);

    assert_int_equal(node_read(n, offset, buf, bytes), 0);
    for (uint64_t i = 0; i < bytes; i++) {
        if (buf[i] != byte) {
            fail_msg("byte %llu is 0x%02x, expected 0x%02x", (unsigned long long)(offset + i), buf[i], byte);
        }
    }
    free(buf);
}

static inline void assert_said(const struct rig *rig, const char *text)
{
    if (!strstr(rig->said, text)) {
        fail_msg("expected \"%s\" in:\n%s", text, rig->said);
    }
}

static inline void assert_quiet(const struct rig *rig)
{
    if (*rig->said) {
        fail_msg("expected silence, but:\n%s", rig->said);
    }
    assert_int_equal(rig->g.mismatches, 0);
}

static inline void forget_said(struct rig *rig)
{
    rig->said[0] = '\0';
}

/* Run a test body as a coroutine on a loop. */
static inline void on_loop(co_fn int (*body)(void *))
{
    struct loop *loop;
    struct err err = {0};

    if (loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(loop_run(loop, body, NULL), 0);
    assert_int_equal(co_alive(), 0);
    loop_destroy(loop);
}

/* TEST(name) { body in a coroutine } */
#define TEST(name)                                                                                           \
    static co_fn void name##_body(struct rig *rig);                                                          \
    static co_fn int name##_co(void *arg)                                                                    \
    {                                                                                                        \
        struct rig *rig = calloc(1, sizeof(*rig));                                                           \
        name##_body(rig);                                                                                    \
        free(rig);                                                                                           \
        return 0;                                                                                            \
    }                                                                                                        \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        on_loop(name##_co);                                                                                  \
    }                                                                                                        \
    static co_fn void name##_body(struct rig *rig)

#endif
