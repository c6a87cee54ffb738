/* SPDX-License-Identifier: BSD-2-Clause */
/* The built-in sets of commands. */
#ifndef FUZZ_RUN_SETS_H
#define FUZZ_RUN_SETS_H

#include <stddef.h>

struct run_set {
    const char *name, *lines;
};
extern const struct run_set run_sets[];
extern const size_t run_nsets;

#endif
