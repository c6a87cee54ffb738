/* SPDX-License-Identifier: BSD-2-Clause */
/* Holds the place of the verb "serve" until it lands; delete this file then. */
#include "tools/tools.h"

int tool_serve(struct tool *t, int argc, char **argv)
{
    tool_error(t, "the verb 'serve' is not built yet");
    return 1;
}
