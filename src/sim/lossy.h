/* SPDX-License-Identifier: BSD-2-Clause */
/* What a simulated device may forget: see lossy.c. */
#ifndef SIM_LOSSY_H
#define SIM_LOSSY_H

#include "block/block.h"

#define LOSSY_BYTES                                                                                          \
    (1 * MiB) /* the first part of a device has a volatile cache, the rest is durable at once */

struct lossy {
    uint8_t *old;  /* the durable contents of the sectors that are saved */
    bool *saved;   /* by sector */
    uint64_t lost; /* sectors, by all restarts */
};

/* -ENOMEM */
int lossy_init(struct lossy *l);
void lossy_finish(struct lossy *l);
/* A change of @node's bytes is about to be made: keep what is durable there. */
co_fn void lossy_before_change(struct lossy *l, struct node *node, uint64_t offset, uint64_t bytes);
/* What the range holds now is durable. */
void lossy_durable(struct lossy *l, uint64_t offset, uint64_t bytes);
/* Each sector changed since it was last durable falls back or not, as the loop's generator says. */
co_fn void lossy_restart(struct lossy *l, struct node *node);

#endif
