/* SPDX-License-Identifier: BSD-2-Clause */
/* Holds the place of the verb "img" until it lands; delete this file then. */
#include "tools/tools.h"

int tool_img(struct tool *t, int argc, char **argv)
{
    tool_error(t, "the verb 'img' is not built yet");
    return 1;
}
