/* SPDX-License-Identifier: BSD-2-Clause */
/* Stacks from gdb, for findings that say nothing themselves, and for people to read. */
#ifndef FUZZ_RUN_GDB_H
#define FUZZ_RUN_GDB_H

#include "fuzz/run/exec.h"

/* Run @argv under gdb in batch mode. Returns its output, malloc'ed, with the stack also in the form of the
 * preload library in front ("==blkproof-fuzz stack ..."); NULL: there is no gdb, or it saw no crash. */
char *gdb_backtrace(struct executor *x, char *const argv[]);

#endif
