/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Option tables: name, type, place, default, range and help, once. The parser, --help, JSON and
 * dotted options, and the manual-page test all read them.
 */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <jansson.h>

#include "base/err.h"

enum option_type {
    OPT_END = 0,
    OPT_BOOL,   /* bool;     true/false or on/off/yes/no */
    OPT_UINT,   /* uint64_t; decimal, 0x hex */
    OPT_SIZE,   /* uint64_t; bytes, with suffixes k M G T P E (powers of 1024) */
    OPT_NS,     /* uint64_t; a time: number with ns, us, ms, s (default unit s) */
    OPT_STRING, /* char *;   malloc'ed, owned by the state */
    OPT_ENUM,   /* int;      index in values */
    OPT_JSON,   /* json_t *; any value, owned by the state */
};

struct option {
    const char *name; /* dots for nested members: "cache.direct" */
    enum option_type type;
    size_t offset;             /* in the state */
    const char *def;           /* as the user would write it; NULL: zero */
    uint64_t min, max;         /* OPT_UINT, OPT_SIZE, OPT_NS; max 0: no limit */
    const char *const *values; /* OPT_ENUM: ends with NULL */
    const char *help;          /* one line: unit, range, meaning */
    bool required;
    bool runtime; /* may be changed on an open node */
};

/* Set defaults, then take every member of @options that the table names and remove it from there.
 * What is left over is the caller's to refuse. */
int options_apply(const struct option *table, void *state, json_t *options, struct err *err);
/* Set one option from a JSON value (a string is parsed as the user writes it). */
int option_set(const struct option *o, void *state, json_t *value, struct err *err);
const struct option *option_find(const struct option *table, const char *name);
/* Free the strings and JSON values. */
void options_free(const struct option *table, void *state);

#endif
