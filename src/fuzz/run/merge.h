/* SPDX-License-Identifier: BSD-2-Clause */
/* Putting the parts of a campaign together that many machines ran. */
#ifndef FUZZ_RUN_MERGE_H
#define FUZZ_RUN_MERGE_H

#include "fuzz/run/campaign.h"

/* The configuration of the campaign in @part, as that of a whole campaign. */
int merge_config(const char *part, json_t **ret_config, struct err *err);
/* Add tests and findings of @part to the open campaign. -EINVAL: another configuration; -EEXIST: tests are in
 * both. */
int merge_part(struct campaign *c, const char *part, struct err *err);

#endif
