/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an oracle says about a wrong read: which write should be there, what is there instead as far as
 * hashes can tell, and the versions it knows. Nobody has the expected bytes, so none are shown.
 */
#include <stdio.h>

#include "base/json.h"
#include "drivers/verify/oracle.h"

#define VERSIONS_TOLD 8u
#define SEARCH_CHUNKS 512u /* looked through for the contents, around the unit: 1 GiB of the device */

typedef unsigned long long ull;

static const char *state_word(const struct oracle *o, struct oracle_record r)
{
    return oracle_kind(r) == ORACLE_UNKNOWN      ? "unknown"
           : oracle_kind(r) == ORACLE_ANY        ? "discarded"
           : r.a & ORACLE_PENDING                ? "pending"
           : r.a & (ORACLE_FAILED | ORACLE_LOST) ? "indeterminate"
           : oracle_durable(o, r)                ? "durable"
                                                 : "volatile";
}

/* "operation 17", and whose. */
static void writer(const struct oracle *o, struct oracle_record r, char *text, size_t size)
{
    const char *what = r.a & ORACLE_SHOWN  ? "a read, operation"
                       : r.a & ORACLE_LATE ? "before flush"
                                           : "operation";

    if (oracle_seq(r) > o->base) {
        snprintf(text, size, "%s %llu", what, (ull)(oracle_seq(r) - o->base));
    } else {
        snprintf(text, size, "%s %llu of all runs, in an earlier one", what, (ull)oracle_seq(r));
    }
}

static json_t *json_version(const struct oracle *o, struct oracle_record r)
{
    json_t *j = json_pack("{s:s, s:I}", "state", state_word(o, r), "generation", (json_int_t)oracle_seq(r));
    char hash[16];

    if (oracle_kind(r) == ORACLE_DATA) {
        snprintf(hash, sizeof(hash), "%014llx", (ull)oracle_hash(r));
        json_object_set_new(j, "hash", json_string(hash));
    }
    if (oracle_seq(r) > o->base) {
        json_object_set_new(j, "operation", json_integer((json_int_t)(oracle_seq(r) - o->base)));
    }
    if (r.a & ORACLE_SHOWN) {
        json_object_set_new(j, "by-read", json_true());
    }
    return j;
}

json_t *oracle_describe(const struct oracle *o, uint64_t unit)
{
    struct oracle_record r = oracle_get(o, unit);
    json_t *versions = json_array();
    unsigned n = 0;

    if (oracle_kind(r) != ORACLE_UNKNOWN) {
        do {
            json_array_append_new(versions, json_version(o, r));
        } while (++n < VERSIONS_TOLD && oracle_before(o, unit, r, &r) && oracle_kind(r) != ORACLE_UNKNOWN);
    }
    return json_pack("{s:s, s:o}", "state", state_word(o, oracle_get(o, unit)), "versions", versions);
}

/* ---- diagnosis ---- */

struct scene {
    struct node *n;
    const struct oracle *o;
    uint64_t unit, hash;
    size_t bytes; /* of the unit */
    uint8_t *shown;
    bool right_again;
};

static bool older_version(const struct scene *s, char *text, size_t size)
{
    struct oracle_record r = oracle_get(s->o, s->unit), old = r;
    char now[96], then[96];

    while (oracle_before(s->o, s->unit, old, &old)) {
        if (oracle_kind(old) == ORACLE_DATA && oracle_hash(old) == s->hash) {
            writer(s->o, r, now, sizeof(now));
            writer(s->o, old, then, sizeof(then));
            snprintf(text, size, "sector %llu holds what it held before %s: the data of %s", (ull)s->unit,
                     now, then);
            return true;
        }
    }
    return false;
}

static bool flipped_bit(const struct scene *s, char *text, size_t size)
{
    uint64_t expected = oracle_hash(oracle_get(s->o, s->unit));

    for (size_t bit = 0; bit < s->bytes * 8; bit++) {
        s->shown[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool it = sector_hash(s->shown, s->bytes, s->o->unit) >> ORACLE_FLAG_BITS == expected;
        s->shown[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (it) {
            snprintf(text, size, "bit %zu of byte %zu of sector %llu, at offset %llu", bit % 8, bit / 8,
                     (ull)s->unit, (ull)(s->unit * s->o->unit + bit / 8));
            return true;
        }
    }
    return false;
}

static bool of_another(const struct scene *s, char *text, size_t size)
{
    uint64_t chunk = s->unit / ORACLE_CHUNK_UNITS;
    uint64_t first = chunk > SEARCH_CHUNKS / 2 ? chunk - SEARCH_CHUNKS / 2 : 0;
    uint64_t end = MIN(first + SEARCH_CHUNKS, s->o->chunks) * ORACLE_CHUNK_UNITS;
    char by[96];

    for (uint64_t u = first * ORACLE_CHUNK_UNITS; u < end; u++) {
        struct oracle_record r = oracle_get(s->o, u);
        if (u != s->unit && oracle_kind(r) == ORACLE_DATA && oracle_hash(r) == s->hash) {
            writer(s->o, r, by, sizeof(by));
            snprintf(text, size, "sector %llu holds the contents of sector %llu, written there by %s",
                     (ull)s->unit, (ull)u, by);
            return true;
        }
    }
    return false;
}

static enum cause diagnose(const struct scene *s, char *text, size_t size)
{
    if (older_version(s, text, size)) {
        return s->right_again ? CAUSE_STALE_READ : CAUSE_LOST_WRITE;
    }
    if (flipped_bit(s, text, size)) {
        return CAUSE_BIT_FLIP;
    }
    if (s->hash == s->o->zero_hash) {
        snprintf(text, size, "zeroes instead of data in sector %llu", (ull)s->unit);
        return CAUSE_ZERO;
    }
    if (of_another(s, text, size)) {
        return CAUSE_MISDIRECTED;
    }
    snprintf(text, size, "contents that were never written there, nor near");
    return CAUSE_UNKNOWN;
}

static co_fn const char *read_again(struct scene *s)
{
    const struct verify *v = s->n->state;
    uint8_t again[ORACLE_UNIT_MAX];

    if (node_read(v->test, s->unit * s->o->unit, again, s->bytes) != 0) {
        return "an error";
    }
    uint64_t hash = sector_hash(again, s->bytes, s->o->unit) >> ORACLE_FLAG_BITS;
    s->right_again = oracle_judge(s->o, s->unit, hash) == VERDICT_YES;
    return s->right_again    ? "the expected data"
           : hash == s->hash ? "the same wrong data"
                             : "something else again";
}

/* ---- the report ---- */

static void publish(const struct scene *s, const struct req *r, const struct oracle_wrong *w,
                    enum cause cause, const char *text, const char *second)
{
    const struct verify *v = s->n->state;

    if (v->report_fd < 0 && !s->n->graph->event) {
        return;
    }
    json_t *o = verify_json_start(s->n, r, "contents", "corruption"), *runs = json_array();
    for (uint64_t i = 0; i < MIN(w->run_count, (uint64_t)ORACLE_RUNS_MAX); i++) {
        json_array_append_new(runs,
                              json_pack("{s:I, s:I}", "offset", (json_int_t)(w->runs[i].first * s->o->unit),
                                        "bytes", (json_int_t)(w->runs[i].count * s->o->unit)));
    }
    json_object_set_new(o, "sector", json_integer((json_int_t)(s->unit * s->o->unit / SECTOR_SIZE)));
    json_object_set_new(o, "sectors", json_integer((json_int_t)(w->unit_count * s->o->unit / SECTOR_SIZE)));
    json_object_set_new(o, "run-count", json_integer((json_int_t)w->run_count));
    json_object_set_new(o, "runs", runs);
    json_object_set_new(o, "diagnosis", json_string(cause_name(cause)));
    json_object_set_new(o, "causes", json_pack("[{s:s, s:s}]", "cause", cause_name(cause), "text", text));
    json_object_set_new(o, "second-read", json_string(second));
    json_object_set_new(o, "oracle", oracle_describe(s->o, s->unit));
    verify_publish(s->n, o);
}

co_fn void oracle_report(struct node *n, const struct req *r, const struct oracle_wrong *w)
{
    struct verify *v = n->state;
    uint8_t shown[ORACLE_UNIT_MAX];
    struct scene s = {.n = n, .o = v->oracle, .unit = w->runs[0].first, .shown = shown};
    uint64_t offset = s.unit * s.o->unit;
    char text[DIAGNOSIS_TEXT_MAX], by[96];

    co_mutex_lock(&v->reporting);
    memcpy(shown, w->shown, sizeof(shown));
    s.bytes = MIN(n->size - offset, (uint64_t)s.o->unit);
    s.hash = sector_hash(shown, s.bytes, s.o->unit) >> ORACLE_FLAG_BITS;
    struct oracle_record rec = oracle_get(s.o, s.unit);
    verify_tell_contents(n, r, offset);
    writer(s.o, rec, by, sizeof(by));
    verify_notice(n, NOTICE_DETAIL, "  in operation %llu; wrong: %llu %s of %u bytes in %llu %s",
                  (ull)r->opno, (ull)w->unit_count, w->unit_count == 1 ? "sector" : "sectors", s.o->unit,
                  (ull)w->run_count, w->run_count == 1 ? "run" : "runs");
    verify_notice(n, NOTICE_DETAIL, "  there should be the data of %s, which is %s", by,
                  state_word(s.o, rec));
    const char *second = read_again(&s);
    enum cause cause = diagnose(&s, text, sizeof(text));
    verify_notice(n, NOTICE_DETAIL, "  diagnosis: %s: %s", cause_name(cause), text);
    verify_notice(n, NOTICE_DETAIL, "  a second read of the sector gave %s", second);
    publish(&s, r, w, cause, text, second);
    co_mutex_unlock(&v->reporting);
}
