/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions behind the rows of action.c: private to the files that define them, and action.c. */
#ifndef DRIVERS_FAULT_ACTIONS_H
#define DRIVERS_FAULT_ACTIONS_H

#include "drivers/fault/internal.h"

/* Bits of operations, for ops and ops_default. */
#define OPS_DATA   (1u << REQ_WRITE | 1u << REQ_ZERO) /* what makes contents */
#define OPS_CHANGE (OPS_DATA | 1u << REQ_DISCARD)
#define OPS_RW     (1u << REQ_READ | 1u << REQ_WRITE)
#define OPS_RANGED                                                                                           \
    (OPS_CHANGE | 1u << REQ_READ | 1u << REQ_STATUS | 1u << REQ_CACHE) /* what is about a range */

enum { PERSIST_NONE, PERSIST_ALL, PERSIST_PREFIX, PERSIST_SUFFIX, PERSIST_RANDOM };
enum { CORRUPT_FLIP, CORRUPT_STUCK, CORRUPT_SET, CORRUPT_ZERO, CORRUPT_RANDOM, CORRUPT_SWAP };
enum { WHERE_WIRE, WHERE_MEDIA };
enum { RETRY_NEW, RETRY_SAME };
enum { DATA_KEEP, DATA_DROP };
enum { REPORT_ONCE, REPORT_ALWAYS };
enum { REPAIR_WRITE, REPAIR_NEVER };
enum { VISIBLE_NO, VISIBLE_FLUSH, VISIBLE_EVICT };
enum { FLUSH_RESPECT, FLUSH_IGNORE };
enum { GONE_REFUSE, GONE_MUTE };

#define FAULT_BITS_MAX 64u /* that are flipped in a request by count */
#define FAULT_BLOCK_BYTES                                                                                    \
    (4 * KiB) /* with retry=same: the pieces of the disk that have a corruption each                         \
               */

#define FAULT_CHECK(name) int name(struct fault_rule *rule, struct err *err)
#define FAULT_CONCERNS(name)                                                                                 \
    bool name(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r)
#define FAULT_PERFORM(name) co_fn int name(struct fault_engine *e, struct fault_rule *rule, struct req *r)

/* action_write.c: writes that are done in part, or not at all */
FAULT_CHECK(fault_error_check);
FAULT_PERFORM(fault_error_perform);
FAULT_CHECK(fault_torn_check);
FAULT_PERFORM(fault_torn_perform);
FAULT_CHECK(fault_lost_check);
FAULT_PERFORM(fault_lost_perform);
FAULT_PERFORM(fault_deferred_perform);

/* action_place.c: another place than was asked for, or none */
FAULT_CHECK(fault_size_check);
FAULT_PERFORM(fault_refuse_perform);
FAULT_CHECK(fault_misdirect_check);
FAULT_CONCERNS(fault_misdirect_concerns);
FAULT_PERFORM(fault_misdirect_perform);
FAULT_CHECK(fault_wrap_check);
FAULT_CONCERNS(fault_wrap_concerns);
FAULT_PERFORM(fault_wrap_perform);

/* action_sector.c: latent bad sectors */
FAULT_CHECK(fault_bad_check);
FAULT_CONCERNS(fault_bad_concerns);
FAULT_PERFORM(fault_bad_perform);

/* action_corrupt.c */
FAULT_CHECK(fault_corrupt_check);
FAULT_PERFORM(fault_corrupt_perform);

/* replay.c */
FAULT_PERFORM(fault_replay_perform);

/* window.c */
FAULT_CHECK(fault_reorder_check);
FAULT_PERFORM(fault_reorder_perform);

/* generations.c */
FAULT_CHECK(fault_stale_check);
FAULT_CONCERNS(fault_stale_concerns);
FAULT_PERFORM(fault_stale_perform);

/* action_gone.c: the disk goes away */
FAULT_PERFORM(fault_disconnect_perform);

#endif
