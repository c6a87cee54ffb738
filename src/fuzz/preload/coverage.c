/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linked into a target that clang builds with -fsanitize-coverage=trace-pc-guard: counts edges in the map of
 * `blkproof fuzz run --coverage`, as AFL++'s own runtime does. Without a map it counts for nobody. Libraries
 * of the target call it before main, and each other's constructors: nothing here needs one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/shm.h>

#include "fuzz/run/covmap.h"

static uint8_t nobody[COVERAGE_EDGES];
static uint8_t *map;
static uint32_t guards;

/* What clang's code calls. */
void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);
void __sanitizer_cov_trace_pc_guard(uint32_t *guard);

static void attach(void)
{
    const char *number = getenv(COVERAGE_ENV);
    void *found = number ? shmat(atoi(number), NULL, 0) : (void *)-1;

    map = found == (void *)-1 ? nobody : found;
    map[0] = 1; /* says that somebody counts */
}

void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop)
{
    if (!map) {
        attach();
    }
    for (uint32_t *g = start; g < stop && *g == 0; g++) {
        *g = 1 + guards++ % (COVERAGE_EDGES - 1);
    }
}

void __sanitizer_cov_trace_pc_guard(uint32_t *guard)
{
    uint8_t *count = &map[*guard];
    *count += *count < UINT8_MAX;
}
