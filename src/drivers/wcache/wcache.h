/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The volatile write cache of a disk, and cutting its power, as QMP, fault rules and tools use them.
 *
 * Writes are acknowledged when they lie in the cache. A flush writes the cache down and makes it durable,
 * unless the disk lies. When the power is cut, everything under way ends, the clients are dropped, and the
 * cache loses what the policy says; the report tells of every loss whether an honest disk may have it.
 */
#ifndef DRIVERS_WCACHE_WCACHE_H
#define DRIVERS_WCACHE_WCACHE_H

#include "base/option.h"
#include "block/block.h"

#define WCACHE_CUT_NODES_MAX 256u /* disks that lose power at one instant */

/* NULL is fine: no. */
bool wcache_is(const struct node *n);
/* @n itself, or the first on the way down main children; NULL: none. */
struct node *wcache_find(struct node *n);

enum wcache_survivors { /* what of the cache outlives the cut */
                        WCACHE_NONE,
                        WCACHE_ALL,
                        WCACHE_PREFIX,      /* the oldest writes, up to a random one */
                        WCACHE_RANDOM,      /* each write, or each unit that torn names, or not */
                        WCACHE_OLDER,       /* of what was written several times an older write, else none */
                        WCACHE_ERASE_BLOCK, /* all or nothing of each erase block */
};
enum wcache_torn { WCACHE_TORN_NONE, WCACHE_TORN_512, WCACHE_TORN_4096, WCACHE_TORN_BYTES };
enum wcache_fill { WCACHE_FILL_OLD, WCACHE_FILL_ZERO, WCACHE_FILL_GARBAGE };

/* How the power goes. Filled from wcache_cut_options by options_apply; all members are integers, so that
 * a copy needs no care. */
struct wcache_cut {
    int survivors, torn, fill;
    uint64_t seed;        /* of what is left to chance */
    uint64_t erase_block; /* bytes */
    uint64_t off_ns;      /* without power for so long */
    bool stay_off;        /* until wcache_power_on */
    bool mute;            /* clients that connect meanwhile get no answer, rather than a refusal */
};
extern const struct option wcache_cut_options[];
/* From an object, or from "survivors=prefix,torn=512"; NULL: the defaults. -EINVAL and a sentence. */
int wcache_cut_parse(const json_t *v, struct wcache_cut *ret, struct err *err);

/* Cut the power of all @nodes at one instant, between two operations: when this returns, no request is served
 * any more, and no client is connected. Does not wait. All or none: -EBUSY if one of them has no power
 * already (or has it back in a moment), -EINVAL if one is no write cache. *@ret_cut: the number of the cut.
 */
int wcache_power_cut(struct node *const *nodes, unsigned nnodes, const struct wcache_cut *cut,
                     uint64_t *ret_cut, struct err *err);
/* Wait until the last cut of the node has taken its effect and is reported. -EIO: the device refused what
 * survived. The caller holds a reference. */
co_fn int wcache_settle(struct node *n, struct err *err);
/* Give it its power again; -EINVAL: it has it. Waits as wcache_settle does. */
co_fn int wcache_power_on(struct node *n, struct err *err);
bool wcache_is_off(const struct node *n);

/* For a fault rule: the disk lies about flushes or FUA, and writes down what is so old, whatever its options
 * say; until it is NULL. */
struct wcache_lie {
    bool flush, fua;
    uint64_t age_ns;
};
void wcache_lie(struct node *n, const struct wcache_lie *how);

/* Of the last cut, as blkproof-write-cache(7) shows it, with at most @losses_max losses; NULL: no memory.
 * JSON's null: there was none. */
json_t *wcache_report(const struct node *n, size_t losses_max);
/* Append a line of JSON for each cut; NULL: no more. Returns -errno with a sentence. */
int wcache_report_to(struct node *n, const char *path, struct err *err);

#endif
