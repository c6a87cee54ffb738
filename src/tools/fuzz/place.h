/* SPDX-License-Identifier: BSD-2-Clause */
/* A place to run tests in, for commands that look at one finding. */
#ifndef TOOLS_FUZZ_PLACE_H
#define TOOLS_FUZZ_PLACE_H

#include "fuzz/run/finding.h"
#include "tools/tools.h"

/* Open the finding, make a sandbox, put its image there, and run @fn, whose result is the exit status. */
int fuzz_with_finding(struct tool *t, const char *command, const char *name, const char *out,
                      int (*fn)(void *opaque, struct finding *f, struct place *p), void *opaque);

#endif
