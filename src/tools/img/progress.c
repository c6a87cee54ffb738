/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Progress on standard output: "    (50.00/100%)" over itself. Without -p, SIGUSR1 asks a long run
 * how far it is; the handler only sets a flag, which is why there is a variable of the process here.
 */
#include <signal.h>

#include "tools/img/img.h"

static volatile sig_atomic_t asked;

static void on_sigusr1(int signo)
{
    (void)signo;
    asked = 1;
}

static void show(struct img_progress *p, double percent)
{
    FILE *out = p->enabled ? stdout : stderr;
    fprintf(out, "    (%3.2f/100%%)%c", percent, p->enabled ? '\r' : '\n');
    fflush(out);
    p->shown = percent;
}

void img_progress_start(struct img_progress *p, bool enabled, uint64_t total, double step)
{
    *p = (struct img_progress){.enabled = enabled, .total = total, .step = step};
    if (enabled) {
        show(p, 0);
        return;
    }
    struct sigaction sa = {.sa_handler = on_sigusr1, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
}

void img_progress_add(struct img_progress *p, uint64_t done)
{
    p->done += done;
    double percent = p->total ? 100.0 * (double)p->done / (double)p->total : 100;
    percent = MIN(percent, 100.0);
    if (asked && !p->enabled) {
        asked = 0;
        show(p, percent);
    } else if (p->enabled && percent - p->shown >= p->step) {
        show(p, percent);
    }
}

void img_progress_end(struct img_progress *p, bool complete)
{
    if (!p->enabled) {
        return;
    }
    if (complete) {
        show(p, 100);
    }
    putchar('\n');
    p->enabled = false;
}
