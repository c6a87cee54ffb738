/* SPDX-License-Identifier: BSD-2-Clause */
/* What a campaign says while it runs: a screen, plain lines, or JSON. */
#ifndef TOOLS_FUZZ_STATUS_H
#define TOOLS_FUZZ_STATUS_H

#include "fuzz/run/campaign.h"
#include "tools/tools.h"

struct status {
    const struct tool *tool;
    bool json, quiet, screen;
    unsigned lines;    /* of the screen, as it is now */
    uint64_t said_ns;  /* when the last plain line was printed */
    char last[2][512]; /* findings on the screen, the newest first */
};

/* A screen if stdout is a terminal, and neither --json nor --quiet was given. */
void status_init(struct status *s, const struct tool *t, bool json, bool quiet);
void status_notice(void *status, const char *sentence);
void status_finding(void *status, const json_t *hit, bool fresh);
void status_tick(void *status, const struct campaign *c);
void status_end(struct status *s, const struct campaign *c);

#endif
