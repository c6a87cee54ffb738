/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a campaign knows, in one SQLite file: its configuration, the tests that are done, its findings and
 * every test that hit them, how often each field was mutated, and a line of its history each minute. What one
 * test brought is written in one transaction, so a process that is killed repeats tests but never a finding.
 */
#ifndef FUZZ_RUN_STATE_H
#define FUZZ_RUN_STATE_H

#include <jansson.h>
#include <sqlite3.h>

#include "base/err.h"

#define STATE_FILE    "campaign.sqlite"
#define STATE_VERSION 1

struct state {
    sqlite3 *db;
    bool in_transaction;
    char *path;
};

struct state_hit {
    uint64_t n; /* the test */
    const char *id, *key, *title, *oracle, *command, *shell;
    uint64_t needs, mutations, bytes;
    unsigned seen, again; /* reruns that showed it, of so many */
};

struct state_totals {
    uint64_t tests, executed, opened, findings, hits, ns;
    uint64_t new_this_hour;
};

/* @create: make the file if it is not there. @read_only: of a campaign that may be running. */
int state_open(struct state *s, const char *dir, bool create, bool read_only, struct err *err);
/* Ends the transaction. */
int state_close(struct state *s, struct err *err);
int state_commit(struct state *s, struct err *err);

/* NULL when it is not there; malloc'ed. */
char *state_get(struct state *s, const char *key);
int state_set(struct state *s, const char *key, const char *value, struct err *err);

bool state_is_done(struct state *s, uint64_t n);
/* One more than the largest number of a test that is done; 0: none is. */
uint64_t state_end(struct state *s);
int state_add_test(struct state *s, uint64_t n, bool opened, unsigned executed, uint64_t ns, struct err *err);
/* *@ret_new: nobody hit this bucket before. *@ret_smallest: it is the smallest so far. */
int state_add_hit(struct state *s, const struct state_hit *h, bool *ret_new, bool *ret_smallest,
                  struct err *err);
int state_add_field(struct state *s, const char *path, bool opened, unsigned hits, struct err *err);
int state_add_history(struct state *s, const struct state_totals *t, struct err *err);
int state_totals(struct state *s, struct state_totals *ret, struct err *err);

/* Rows of a query as JSON objects in an array, columns by name; the reports are made of them. */
int state_query(struct state *s, const char *sql, json_t **ret_rows, struct err *err);
/* Everything of the campaign at @from is added to @s, which must be of the same configuration. */
int state_merge(struct state *s, const char *from_path, struct err *err);

#endif
