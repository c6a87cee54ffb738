/* SPDX-License-Identifier: BSD-2-Clause */
/* The map of edges, between targets and the runner. */
#ifndef FUZZ_RUN_COVMAP_H
#define FUZZ_RUN_COVMAP_H

#define COVERAGE_ENV   "__AFL_SHM_ID" /* the number of the shared memory, as AFL++ calls it */
#define COVERAGE_EDGES (1u << 20)     /* bytes of the map: QEMU's tools have some 200,000 edges */

#endif
