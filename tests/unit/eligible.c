/* SPDX-License-Identifier: BSD-2-Clause */
/* Copies of the same bytes: damage is allowed for so many of them at any place, and heals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "block/driver.h"
#include "block/eligible.h"

#define DISKS  4u
#define SECTOR 512u
#define BLOCKS 64u

struct rig {
    struct graph g;
    struct node *disks[DISKS];
};

static int open_rig(void *arg)
{
    struct rig *r = arg;

    graph_init(&r->g);
    for (unsigned i = 0; i < DISKS; i++) {
        struct err err = {0};
        json_t *options = json_pack("{s:s, s:{s:s}}", "driver", "delay", "file", "driver", "mem");
        assert_int_equal(node_open(&r->g, options, OPEN_WRITE, &r->disks[i], &err), 0);
        json_decref(options);
    }
    return 0;
}

static int close_rig(void *arg)
{
    struct rig *r = arg;

    for (unsigned i = 0; i < DISKS; i++) {
        node_unref(r->disks[i]);
    }
    assert_true(list_empty(&r->g.groups));
    return 0;
}

static struct loop *loop;

static struct rig *rig_open(void)
{
    static struct rig r;

    assert_int_equal(loop_create(&(struct loop_config){.engine = "threads"}, &loop, NULL), 0);
    loop_run(loop, open_rig, &r);
    return &r;
}

static void rig_close(struct rig *r)
{
    loop_run(loop, close_rig, r);
    loop_destroy(loop);
}

static void without_a_group_all_may_be_damaged(void **state)
{
    struct rig *r = rig_open();

    for (unsigned i = 0; i < DISKS; i++) {
        assert_true(eligible_damage(r->disks[i], 0, 4096));
    }
    rig_close(r);
}

static void never_more_than_so_many_at_the_same_place(void **state)
{
    struct rig *r = rig_open();

    assert_int_equal(eligible_group_set(&r->g, "g", r->disks, 3, 1, NULL), 0);
    assert_true(eligible_damage(r->disks[0], 4096, 4096));
    assert_true(eligible_damage(r->disks[0], 6000, 10)); /* again, its own */
    assert_false(eligible_damage(r->disks[1], 8191, 1));
    assert_true(eligible_damage(r->disks[1], 8192, 1));
    assert_true(eligible_damage(node_below(r->disks[2]), 0, 4096)); /* a node below stands for its disk */
    assert_false(eligible_damage(r->disks[0], 0, 1));
    assert_true(eligible_damage(r->disks[3], 4096, 4096)); /* it is in no group */
    eligible_heal(r->disks[0], 5000, 1000);
    assert_true(eligible_damage(r->disks[1], 5000, 1000));
    assert_false(eligible_damage(r->disks[1], 4999, 1));
    assert_false(eligible_damage(r->disks[1], 6000, 1));
    rig_close(r);
}

static void a_group_ends(void **state)
{
    struct rig *r = rig_open();
    struct err err = {0};

    assert_int_equal(eligible_group_set(&r->g, "g", r->disks, 2, 0, NULL), 0);
    assert_false(eligible_damage(r->disks[0], 0, 1));
    assert_int_equal(eligible_group_set(&r->g, "h", r->disks + 1, 2, 0, &err), -EINVAL);
    assert_int_equal(eligible_group_set(&r->g, "h", r->disks + 2, 2, 2, &err), -EINVAL);
    assert_int_equal(eligible_group_set(&r->g, "h", NULL, 0, 0, &err), -ENOENT);
    assert_int_equal(eligible_group_set(&r->g, "g", NULL, 0, 0, NULL), 0);
    assert_true(eligible_damage(r->disks[0], 0, 1));
    rig_close(r);
}

/* Against a table of blocks. */
static void at_random(void **state)
{
    struct rig *r = rig_open();
    bool damaged[DISKS][BLOCKS] = {0};
    struct rng rng;

    rng_init(&rng, 1);
    assert_int_equal(eligible_group_set(&r->g, "g", r->disks, DISKS, 2, NULL), 0);
    for (unsigned step = 0; step < 20000; step++) {
        unsigned disk = (unsigned)rng_below(&rng, DISKS), at = (unsigned)rng_below(&rng, BLOCKS);
        unsigned n = 1 + (unsigned)rng_below(&rng, MIN(BLOCKS - at, 8u));
        bool heal = rng_below(&rng, 3) == 0;
        unsigned others = 0;
        for (unsigned i = 0; i < DISKS; i++) {
            bool any = false;
            for (unsigned b = at; b < at + n; b++) {
                any |= damaged[i][b];
            }
            others += any && i != disk;
        }
        bool yes = !heal && others < 2;
        if (heal) {
            eligible_heal(r->disks[disk], at * SECTOR, n * SECTOR);
        } else {
            assert_int_equal(eligible_damage(r->disks[disk], at * SECTOR, n * SECTOR), yes);
        }
        for (unsigned b = at; (heal || yes) && b < at + n; b++) {
            damaged[disk][b] = yes;
        }
    }
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_group_all_may_be_damaged),
        cmocka_unit_test(never_more_than_so_many_at_the_same_place),
        cmocka_unit_test(a_group_ends),
        cmocka_unit_test(at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
