/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of fault actions share beyond fault_rig.h: looking at sectors, and asking who did it. */
#ifndef TESTS_SIM_FAULT_LOOK_H
#define TESTS_SIM_FAULT_LOOK_H

#include "block/explain.h"
#include "block/presence.h"
#include "fault_rig.h"

/* A character per sector, from the device below: its byte if all are the same, '.' for zeroes, '?' for a
 * mixture; in static memory. */
static inline UNUSED co_fn const char *sectors(uint64_t first, unsigned n)
{
    static char text[4][129];
    static unsigned turn;
    char data[512], *t = text[turn++ % 4];

    CHECK(n < sizeof(text[0]));
    for (unsigned i = 0; i < n; i++) {
        CHECK_EQ(node_read(node_below(rig.node), (first + i) * 512, data, 512), 0);
        t[i] = data[0] ? data[0] : '.';
        for (int k = 1; k < 512; k++) {
            t[i] = data[k] == data[0] ? t[i] : '?';
        }
    }
    t[n] = 0;
    return t;
}

static inline UNUSED void expect_sectors(uint64_t first, const char *expected)
{
    const char *shown = sectors(first, (unsigned)strlen(expected));
    if (strcmp(shown, expected) != 0) {
        fprintf(stderr, "sectors from %llu: %s, expected %s\n", (unsigned long long)first, shown, expected);
        CHECK(false);
    }
}

/* The byte at @offset that a client sees. */
static inline UNUSED co_fn int shown(uint64_t offset)
{
    char c = '?';
    CHECK_EQ(node_read(rig.node, offset, &c, 1), 0);
    return c;
}

/* Who made this sector so? The rule's id, or NULL. */
static inline UNUSED const char *who_made(uint64_t sector, const void *data, uint64_t opno,
                                          uint64_t *ret_opno)
{
    struct explanation x = {0};
    struct blame b = {.opno = opno, .op = REQ_READ, .offset = sector * 512, .bytes = 512, .data = data};

    if (!node_explain(rig.node, &b, &x)) {
        return NULL;
    }
    CHECK(!x.legal && x.rule && x.what && strcmp(x.node, node_name(rig.node)) == 0);
    if (ret_opno) {
        *ret_opno = x.opno;
    }
    return x.rule;
}

/* Read the sector through the rules, as operation @opno, and ask. */
static inline UNUSED co_fn const char *who_shows(uint64_t sector, uint64_t opno)
{
    char data[512];
    struct iovec iov = {data, 512};
    struct req r = {
        .op = REQ_READ, .opno = opno, .offset = sector * 512, .bytes = 512, .iov = &iov, .niov = 1};

    CHECK_EQ(node_io(rig.node, &r), 0);
    return who_made(sector, data, opno, NULL);
}

static inline UNUSED const char *who_returned(uint64_t opno, int result)
{
    struct explanation x = {0};
    struct blame b = {.opno = opno, .op = REQ_WRITE, .result = result};

    return node_explain(rig.node, &b, &x) ? x.rule : NULL;
}

/* A rule that can never act, or means nothing, is an error. */
static inline UNUSED co_fn void expect_refused(const char *const *bad, size_t n)
{
    rig_open("[]", "");
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(change(rig.node, FAULT_ADD, NULL, bad[i]), -EINVAL);
    }
    world_close(&rig);
}

static inline UNUSED bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

#endif
