/* SPDX-License-Identifier: BSD-2-Clause */
/* The tests of a program that makes the Nth request of a kind fail, for every N, once and for good. */
#ifndef SIM_ANY_FAILING_H
#define SIM_ANY_FAILING_H

#include "world.h"

/* The program's: until a run passes untouched. */
static void fail_each(enum sim_op op, bool sticky);

static void any_failing_write(void **state)
{
    fail_each(SIM_WRITE, false);
    fail_each(SIM_WRITE, true);
}

static void any_failing_flush(void **state)
{
    fail_each(SIM_SYNC, false);
    fail_each(SIM_SYNC, true);
}

static void any_failing_read(void **state)
{
    fail_each(SIM_READ, false);
    fail_each(SIM_READ, true);
}

#endif
