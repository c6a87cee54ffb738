/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions behind the table of members: private to the files that define them, and member.c. */
#ifndef DRIVERS_FAULT_MEMBER_H
#define DRIVERS_FAULT_MEMBER_H

#include "drivers/fault/internal.h"

#define FAULT_PARSE(name)                                                                                    \
    int name(struct fault_rule *rule, const struct fault_member *m, const json_t *v, struct err *err)
#define FAULT_ASK(name) bool name(const struct fault_engine *e, struct fault_rule *rule, const struct req *r)

/* words.c */
FAULT_PARSE(fault_parse_ops);
FAULT_PARSE(fault_parse_flags);
FAULT_PARSE(fault_parse_without);
FAULT_PARSE(fault_parse_event);
FAULT_PARSE(fault_parse_errno);
FAULT_PARSE(fault_parse_action);
FAULT_PARSE(fault_parse_comment);

/* range.c */
FAULT_PARSE(fault_parse_ranges);
FAULT_PARSE(fault_parse_sectors);

/* select.c */
FAULT_ASK(fault_flags_hold);
FAULT_ASK(fault_without_holds);
FAULT_ASK(fault_event_holds);
FAULT_ASK(fault_state_holds);
FAULT_ASK(fault_skip_turn);
FAULT_ASK(fault_nth_turn);
FAULT_ASK(fault_every_turn);
FAULT_PARSE(fault_parse_probability);
FAULT_ASK(fault_probability_turn);

#endif
