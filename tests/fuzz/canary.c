/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The canary: a fuzz target that is wrong on purpose. The fuzzer, the sanitizers and the runner must
 * find it, or a clean run of the other targets proves nothing (scripts/fuzz-smoke).
 * fuzz-smoke: 50000 runs
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || data[0] != 'b')
        return 0;
    volatile uint8_t *copy = malloc(size); /* volatile: an unused store may not be left out */
    if (!copy)
        return 0;
    copy[data[1] == 'p' ? size : 0] = 1; /* one past the end */
    free((void *)copy);
    return 0;
}
