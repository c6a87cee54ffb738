/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions behind the table of members: private to the files that define them, and member.c. */
#ifndef DRIVERS_FAULT_MEMBER_H
#define DRIVERS_FAULT_MEMBER_H

#include "drivers/fault/internal.h"

#define FAULT_PARSE(name)                                                                                    \
    int name(struct fault_rule *rule, const struct fault_member *m, const json_t *v, struct err *err)
#define FAULT_ASK(name) bool name(const struct fault_engine *e, struct fault_rule *rule, const struct req *r)

/* A name that stands for bits; a list of them ends with {0}. */
struct fault_word {
    const char *name;
    unsigned bits;
};

/* words.c */
/* "a", "a,b", or ["a", "b"] */
int fault_parse_words(const struct fault_word *words, const json_t *v, const struct fault_member *m,
                      unsigned *ret_bits, struct err *err);
FAULT_PARSE(fault_parse_ops);
FAULT_PARSE(fault_parse_flags);
FAULT_PARSE(fault_parse_without);
FAULT_PARSE(fault_parse_event);
FAULT_PARSE(fault_parse_errno);
FAULT_PARSE(fault_parse_action);
FAULT_PARSE(fault_parse_comment);

/* action_place.c */
FAULT_PARSE(fault_parse_by);

/* range.c */
FAULT_PARSE(fault_parse_ranges);
FAULT_PARSE(fault_parse_sectors);

extern const char *const fault_overlaps[];
FAULT_ASK(fault_overlap_holds);

/* select.c */
FAULT_ASK(fault_size_holds);
FAULT_ASK(fault_aligned_holds);
FAULT_ASK(fault_unaligned_holds);
FAULT_ASK(fault_in_flight_holds);
FAULT_ASK(fault_client_holds);
FAULT_ASK(fault_epoch_write_holds);
FAULT_ASK(fault_flush_epoch_holds);
FAULT_ASK(fault_skip_bytes_turn);
FAULT_ASK(fault_flags_hold);
FAULT_ASK(fault_without_holds);
FAULT_ASK(fault_event_holds);
FAULT_ASK(fault_state_holds);
FAULT_ASK(fault_skip_turn);
FAULT_ASK(fault_nth_turn);
FAULT_ASK(fault_every_turn);
FAULT_PARSE(fault_parse_probability);
FAULT_ASK(fault_probability_turn);

/* interval.c: at the place of the row */
FAULT_PARSE(fault_parse_counts); /* struct fault_interval */
FAULT_PARSE(fault_parse_sizes);
FAULT_PARSE(fault_parse_times);
FAULT_PARSE(fault_parse_factor); /* double */

/* time.c */
FAULT_ASK(fault_window_holds);
uint64_t fault_scaled(uint64_t ns, double scale);

/* delay.c */
FAULT_PARSE(fault_parse_bandwidth);
FAULT_PARSE(fault_parse_histogram);
void fault_scale_delay(struct fault_rule *rule, double scale);

/* payload.c */
extern const char *const fault_data_is[];
FAULT_PARSE(fault_parse_data);
FAULT_ASK(fault_data_holds);

/* history.c */
FAULT_PARSE(fault_parse_history);
FAULT_ASK(fault_history_holds);

/* power.c */
extern const char *const fault_cut_disks[];
FAULT_PARSE(fault_parse_lie);
FAULT_PARSE(fault_parse_cut);

/* file.c */
FAULT_PARSE(fault_parse_while_file);
FAULT_ASK(fault_file_holds);

#endif
