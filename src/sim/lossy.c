/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The volatile cache of a simulated device, kept the other way round: changes go to the node below at
 * once, and what they replace is remembered until a flush. A restart puts it back, sector by
 * sector or not. Relies on a node below that does not wait (mem), so that remembering and changing
 * are one step for everybody else.
 */
#include "sim/lossy.h"

#define SECTORS (LOSSY_BYTES / SECTOR_SIZE)

int lossy_init(struct lossy *l)
{
    l->old = malloc(LOSSY_BYTES);
    l->saved = calloc(SECTORS, sizeof(*l->saved));
    return l->old && l->saved ? 0 : -ENOMEM;
}

void lossy_finish(struct lossy *l)
{
    free(TAKE_PTR(l->old));
    free(TAKE_PTR(l->saved));
}

/* The sectors that a range touches, as far as they have a cache. */
static void sectors_of(uint64_t offset, uint64_t bytes, uint64_t *ret_first, uint64_t *ret_end)
{
    *ret_first = MIN(offset / SECTOR_SIZE, SECTORS);
    *ret_end = offset >= LOSSY_BYTES || bytes >= LOSSY_BYTES
                   ? SECTORS
                   : MIN(div_up(offset + bytes, SECTOR_SIZE), SECTORS);
}

/* The last sector of a node may be short. */
static uint64_t sector_bytes(const struct node *node, uint64_t sector)
{
    uint64_t offset = sector * SECTOR_SIZE;
    return offset < node_size(node) ? MIN(node_size(node) - offset, (uint64_t)SECTOR_SIZE) : 0;
}

co_fn void lossy_before_change(struct lossy *l, struct node *node, uint64_t offset, uint64_t bytes)
{
    uint64_t s, end;
    for (sectors_of(offset, bytes, &s, &end); l->old && s < end; s++) {
        uint64_t n = sector_bytes(node, s);
        if (!l->saved[s] && n > 0) {
            l->saved[s] = node_read(node, s * SECTOR_SIZE, l->old + s * SECTOR_SIZE, n) == 0;
        }
    }
}

void lossy_durable(struct lossy *l, uint64_t offset, uint64_t bytes)
{
    uint64_t s, end;
    for (sectors_of(offset, bytes, &s, &end); l->old && s < end; s++) {
        l->saved[s] = false;
    }
}

co_fn void lossy_restart(struct lossy *l, struct node *node)
{
    for (uint64_t s = 0; l->old && s < SECTORS; s++) {
        uint64_t n = sector_bytes(node, s);
        if (l->saved[s] && n > 0 && rng_below(loop_rng(), 2) == 0) {
            (void)node_write(node, s * SECTOR_SIZE, l->old + s * SECTOR_SIZE, n, 0);
            l->lost++;
        }
        l->saved[s] = false;
    }
}
