/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Never damage more than so many copies of the same bytes: several disks of one server are copies of each
 * other (a group), and f of them may be damaged at any place. A damaging action asks, for each range, right
 * before it does its damage:
 *
 *     if (eligible_damage(n, offset, bytes)) { ...corrupt, lose, misdirect... }
 *     else { ...do the request as it should be done... }
 *
 * @n is any node of the disk: its own one. Without a group the answer is yes and costs one load. The answer
 * yes is remembered as damage of that disk, until the range is written anew (eligible_heal, for who knows).
 */
#ifndef BLOCK_ELIGIBLE_H
#define BLOCK_ELIGIBLE_H

#include "block/block.h"

#define ELIGIBLE_MEMBERS_MAX 256u
#define ELIGIBLE_RANGES_MAX  65536u /* damaged ranges of a member: beyond them nothing is damaged any more */

/* Make @members (roots of disks) copies of each other, of which at most @faults are damaged at the same
 * place. They must not be in another group; a group of the same name is replaced and its damage forgotten.
 * -EINVAL and a sentence, -ENOMEM. No members: the group ends. */
int eligible_group_set(struct graph *g, const char *name, struct node *const *members, unsigned nmembers,
                       unsigned faults, struct err *err);
/* [{"name", "faults", "members": [{"node-name", "damaged-bytes"}], "refused"}]; NULL: no memory. */
json_t *eligible_groups(const struct graph *g);

/* May this disk be damaged there? Never waits. */
bool eligible_damage(struct node *n, uint64_t offset, uint64_t bytes);
/* What stands there has been made whole. */
void eligible_heal(struct node *n, uint64_t offset, uint64_t bytes);

/* A node is closed; all of them are. */
void eligible_forget(struct node *n);

#endif
