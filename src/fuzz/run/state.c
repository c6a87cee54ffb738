/* SPDX-License-Identifier: BSD-2-Clause */
/* The SQLite file of a campaign. A transaction is open while the campaign runs and is committed each second,
 * or with a finding. */
#include "fuzz/run/state.h"

#include <stdio.h>
#include <time.h>

#define BUSY_MS      5000
#define HOUR_SECONDS 3600

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);"
    "CREATE TABLE IF NOT EXISTS test(n INTEGER PRIMARY KEY, opened INTEGER, executed INTEGER, ns INTEGER);"
    "CREATE TABLE IF NOT EXISTS finding(id TEXT PRIMARY KEY, key TEXT, title TEXT, oracle TEXT, command TEXT,"
    " first_n INTEGER, first_time INTEGER, newest_n INTEGER, smallest_n INTEGER, smallest_mutations INTEGER,"
    " smallest_bytes INTEGER, shell TEXT, needs INTEGER, seen INTEGER, again INTEGER);"
    "CREATE TABLE IF NOT EXISTS hit(id TEXT, n INTEGER, time INTEGER, mutations INTEGER, bytes INTEGER,"
    " shell TEXT, PRIMARY KEY(id, n)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS field(path TEXT PRIMARY KEY, mutated INTEGER, opened INTEGER, hits INTEGER)"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS history(time INTEGER PRIMARY KEY, tests INTEGER, opened INTEGER, findings "
    "INTEGER,"
    " hits INTEGER, executed INTEGER);";

static int fail(struct state *s, struct err *err)
{
    return err_set(err, -EIO, "%s: %s", s->path, sqlite3_errmsg(s->db));
}

static int execute(struct state *s, const char *sql, struct err *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(s, err);
}

/* ---- one statement ---- */

static void cleanup_statement(sqlite3_stmt **st)
{
    sqlite3_finalize(*st);
}
#define AUTO_STATEMENT CLEANUP(cleanup_statement)

/* Values by @types: i a uint64_t, s a text (NULL allowed). */
static sqlite3_stmt *prepare(struct state *s, const char *sql, const char *types, va_list ap)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK) {
        return NULL;
    }
    for (int i = 1; types[i - 1]; i++) {
        if (types[i - 1] == 'i') {
            sqlite3_bind_int64(st, i, (sqlite3_int64)va_arg(ap, uint64_t));
        } else {
            sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        }
    }
    return st;
}

static int begin(struct state *s, struct err *err)
{
    if (s->in_transaction) {
        return 0;
    }
    s->in_transaction = true;
    return execute(s, "BEGIN", err);
}

/* A change. */
static int change(struct state *s, struct err *err, const char *sql, const char *types, ...)
{
    va_list ap;
    int r = begin(s, err);

    va_start(ap, types);
    AUTO_STATEMENT sqlite3_stmt *st = r == 0 ? prepare(s, sql, types, ap) : NULL;
    va_end(ap);
    return r < 0 ? r : st && sqlite3_step(st) == SQLITE_DONE ? 0 : fail(s, err);
}

/* A question whose first row matters: the caller finalizes, NULL if there is none. */
static sqlite3_stmt *ask(struct state *s, const char *sql, const char *types, ...)
{
    va_list ap;

    va_start(ap, types);
    sqlite3_stmt *st = prepare(s, sql, types, ap);
    va_end(ap);
    if (st && sqlite3_step(st) != SQLITE_ROW) {
        sqlite3_finalize(TAKE_PTR(st));
    }
    return st;
}

/* ---- life ---- */

static int check_version(struct state *s, bool create, struct err *err)
{
    char version[16];
    AUTO_FREE char *found = state_get(s, "version");

    snprintf(version, sizeof(version), "%d", STATE_VERSION);
    if (found && strcmp(found, version) != 0) {
        return err_set(err, -EINVAL, "%s is of version %s; this program reads version %s", s->path, found,
                       version);
    }
    if (!found && !create) {
        return err_set(err, -EINVAL, "%s is not the file of a campaign", s->path);
    }
    return found ? 0 : state_set(s, "version", version, err);
}

int state_open(struct state *s, const char *dir, bool create, bool read_only, struct err *err)
{
    *s = (struct state){0};
    if (asprintf(&s->path, "%s/%s", dir, STATE_FILE) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK) {
        err_set(err, -EIO, "%s: %s", s->path, sqlite3_errmsg(s->db));
        sqlite3_close(TAKE_PTR(s->db));
        free(TAKE_PTR(s->path));
        return -EIO;
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    int r = read_only ? 0 : execute(s, schema, err);
    r = r < 0 ? r : check_version(s, create, err);
    return r < 0 || read_only ? r : state_commit(s, err);
}

int state_commit(struct state *s, struct err *err)
{
    if (!s->in_transaction) {
        return 0;
    }
    s->in_transaction = false;
    return execute(s, "COMMIT", err);
}

int state_close(struct state *s, struct err *err)
{
    int r = s->db ? state_commit(s, err) : 0;

    sqlite3_close(TAKE_PTR(s->db));
    free(TAKE_PTR(s->path));
    return r;
}

char *state_get(struct state *s, const char *key)
{
    AUTO_STATEMENT sqlite3_stmt *st = ask(s, "SELECT value FROM meta WHERE key = ?", "s", key);
    return st ? strdup((const char *)sqlite3_column_text(st, 0)) : NULL;
}

int state_set(struct state *s, const char *key, const char *value, struct err *err)
{
    return change(s, err, "INSERT OR REPLACE INTO meta VALUES(?, ?)", "ss", key, value);
}

/* ---- tests ---- */

bool state_is_done(struct state *s, uint64_t n)
{
    AUTO_STATEMENT sqlite3_stmt *st = ask(s, "SELECT 1 FROM test WHERE n = ?", "i", n);
    return st != NULL;
}

uint64_t state_end(struct state *s)
{
    AUTO_STATEMENT sqlite3_stmt *st = ask(s, "SELECT coalesce(max(n) + 1, 0) FROM test", "");
    return st ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
}

int state_add_test(struct state *s, uint64_t n, bool opened, unsigned executed, uint64_t ns, struct err *err)
{
    return change(s, err, "INSERT OR REPLACE INTO test VALUES(?, ?, ?, ?)", "iiii", n, (uint64_t)opened,
                  (uint64_t)executed, ns);
}

int state_add_hit(struct state *s, const struct state_hit *h, bool *ret_new, bool *ret_smallest,
                  struct err *err)
{
    AUTO_STATEMENT sqlite3_stmt *known =
        ask(s, "SELECT smallest_mutations, smallest_bytes, newest_n FROM finding WHERE id = ?", "s", h->id);
    bool smaller = true;
    uint64_t now = (uint64_t)time(NULL);

    if (known) {
        uint64_t mutations = (uint64_t)sqlite3_column_int64(known, 0),
                 bytes = (uint64_t)sqlite3_column_int64(known, 1);
        smaller = h->mutations < mutations || (h->mutations == mutations && h->bytes < bytes);
    }
    *ret_new = !known;
    *ret_smallest = smaller;
    int r = change(s, err, "INSERT OR REPLACE INTO hit VALUES(?, ?, ?, ?, ?, ?)", "siiiis", h->id, h->n, now,
                   h->mutations, h->bytes, h->shell);
    if (r == 0 && !known) {
        r = change(s, err, "INSERT INTO finding VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   "sssssiiiiiisiii", h->id, h->key, h->title, h->oracle, h->command, h->n, now, h->n, h->n,
                   h->mutations, h->bytes, h->shell, h->needs, (uint64_t)h->seen, (uint64_t)h->again);
    } else if (r == 0 && smaller) {
        r = change(
            s, err,
            "UPDATE finding SET newest_n = ?, smallest_n = ?, smallest_mutations = ?, smallest_bytes = ?,"
            " shell = ?, needs = ? WHERE id = ?",
            "iiiisis", h->n, h->n, h->mutations, h->bytes, h->shell, h->needs, h->id);
    } else if (r == 0) {
        r = change(s, err, "UPDATE finding SET newest_n = ? WHERE id = ?", "is", h->n, h->id);
    }
    return r;
}

int state_add_field(struct state *s, const char *path, bool opened, unsigned hits, struct err *err)
{
    return change(
        s, err,
        "INSERT INTO field VALUES(?, 1, ?, ?) ON CONFLICT(path) DO UPDATE SET mutated = mutated + 1,"
        " opened = opened + excluded.opened, hits = hits + excluded.hits",
        "sii", path, (uint64_t)opened, (uint64_t)hits);
}

int state_add_history(struct state *s, const struct state_totals *t, struct err *err)
{
    return change(s, err, "INSERT OR REPLACE INTO history VALUES(?, ?, ?, ?, ?, ?)", "iiiiii",
                  (uint64_t)time(NULL), t->tests, t->opened, t->findings, t->hits, t->executed);
}

int state_totals(struct state *s, struct state_totals *ret, struct err *err)
{
    AUTO_STATEMENT sqlite3_stmt *st =
        ask(s,
            "SELECT count(*), coalesce(sum(executed), 0), coalesce(sum(opened), 0), coalesce(sum(ns), 0),"
            " (SELECT count(*) FROM finding), (SELECT count(*) FROM hit),"
            " (SELECT count(*) FROM finding WHERE first_time > ?) FROM test",
            "i", (uint64_t)time(NULL) - HOUR_SECONDS);
    uint64_t *const to[] = {&ret->tests,    &ret->executed, &ret->opened,       &ret->ns,
                            &ret->findings, &ret->hits,     &ret->new_this_hour};

    if (!st) {
        return fail(s, err);
    }
    for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
        *to[i] = (uint64_t)sqlite3_column_int64(st, (int)i);
    }
    return 0;
}

/* ---- reading and joining ---- */

static json_t *column(sqlite3_stmt *st, int i)
{
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(st, i));
    case SQLITE_FLOAT:
        return json_real(sqlite3_column_double(st, i));
    case SQLITE_NULL:
        return json_null();
    default: {
        const char *text = (const char *)sqlite3_column_text(st, i);
        json_t *j = json_string(text);
        return j ? j : json_string("(no text)");
    }
    }
}

int state_query(struct state *s, const char *sql, json_t **ret_rows, struct err *err)
{
    sqlite3_stmt *open = NULL;
    json_t *rows = json_array();
    int step = SQLITE_ERROR;

    if (sqlite3_prepare_v2(s->db, sql, -1, &open, NULL) == SQLITE_OK) {
        while ((step = sqlite3_step(open)) == SQLITE_ROW) {
            json_t *row = json_object();
            for (int i = 0; i < sqlite3_column_count(open); i++) {
                json_object_set_new(row, sqlite3_column_name(open, i), column(open, i));
            }
            json_array_append_new(rows, row);
        }
    }
    sqlite3_finalize(open);
    if (step != SQLITE_DONE) {
        json_decref(rows);
        return fail(s, err);
    }
    *ret_rows = rows;
    return 0;
}

int state_merge(struct state *s, const char *from_path, struct err *err)
{
    /* tests first: a field counts for tests that are new here, which only the other side's numbers of whole
     * campaigns tell, so shards must not overlap */
    static const char *const steps[] = {
        "INSERT INTO field SELECT * FROM other.field WHERE true ON CONFLICT(path) DO UPDATE SET"
        " mutated = mutated + excluded.mutated, opened = opened + excluded.opened, hits = hits + "
        "excluded.hits",
        "INSERT OR IGNORE INTO test SELECT * FROM other.test",
        "INSERT OR IGNORE INTO hit SELECT * FROM other.hit",
        "INSERT OR IGNORE INTO history SELECT * FROM other.history",
        "INSERT INTO finding SELECT * FROM other.finding WHERE true ON CONFLICT(id) DO UPDATE SET"
        " first_n = min(first_n, excluded.first_n), first_time = min(first_time, excluded.first_time),"
        " newest_n = max(newest_n, excluded.newest_n)",
        "UPDATE finding SET (smallest_n, smallest_mutations, smallest_bytes, shell) = (SELECT n, mutations, "
        "bytes, shell"
        " FROM hit WHERE hit.id = finding.id ORDER BY mutations, bytes, n LIMIT 1)",
    };
    int r = state_commit(s, err);

    r = r < 0 ? r : change(s, err, "INSERT OR REPLACE INTO meta VALUES('merged', ?)", "s", from_path);
    r = r < 0 ? r : state_commit(s, err);
    AUTO_STATEMENT sqlite3_stmt *attach = NULL;
    if (r == 0 && (sqlite3_prepare_v2(s->db, "ATTACH ? AS other", -1, &attach, NULL) != SQLITE_OK ||
                   sqlite3_bind_text(attach, 1, from_path, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
                   sqlite3_step(attach) != SQLITE_DONE)) {
        return fail(s, err);
    }
    sqlite3_finalize(TAKE_PTR(attach));
    r = r < 0 ? r : begin(s, err);
    AUTO_STATEMENT sqlite3_stmt *both =
        r == 0 ? ask(s, "SELECT n FROM test WHERE n IN (SELECT n FROM other.test) LIMIT 1", "") : NULL;
    if (both) {
        r = err_set(err, -EEXIST, "test %lld is in both: these are not shards of one campaign",
                    (long long)sqlite3_column_int64(both, 0));
        sqlite3_finalize(TAKE_PTR(both));
    }
    for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++) {
        r = execute(s, steps[i], err);
    }
    if (r < 0) {
        execute(s, "ROLLBACK", NULL);
        s->in_transaction = false;
    } else {
        r = state_commit(s, err);
    }
    execute(s, "DETACH other", NULL);
    return r;
}
