/* SPDX-License-Identifier: BSD-2-Clause */
/* Reports about a campaign: collected once as JSON, written in several forms. */
#ifndef TOOLS_FUZZ_REPORT_H
#define TOOLS_FUZZ_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"

/* {"config":…, "totals":…, "findings":[…], "fields":[…], "history":[…]} */
int report_collect(const char *dir, json_t **ret_report, struct err *err);

void report_markdown(FILE *f, const json_t *report);
void report_junit(FILE *f, const json_t *report);
void report_html(FILE *f, const json_t *report);

/* What renderers share. */
const char *report_text(const json_t *j, const char *key); /* "" if it is not there */
long long report_number(const json_t *j, const char *key);
/* With &, <, > and " written as entities; what cannot be printed is '?'. */
void report_escaped(FILE *f, const char *text);
/* "2026-11-20 20:15:03" in UTC. */
void report_time(FILE *f, long long seconds);

#endif
