/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Says what was wrong: lines for people, and one JSON object per mismatch. As a stand-in for QEMU's programs:
 * one line in their form.
 */
#include <stdio.h>

#include "base/json.h"
#include "drivers/verify/internal.h"

#define RUNS_TOLD  16u /* in lines; */
#define RUNS_MAX   64u /* in JSON; the rest is counted */
#define RUN_GAP    8u  /* equal bytes that do not end a run: random data agree by chance */
#define DUMP_BYTES 64u /* hex dump around the first difference */
#define DUMP_LINE  16u
#define PAST_TOLD  8u /* last operations on the sector */
#define EXPLAINED_TOLD                                                                                       \
    100u /* lines about what was injected or is legal: there may be many, and nothing is wrong */

typedef unsigned long long ull; /* for printf */

struct run {
    uint64_t at, bytes; /* in the request */
};

/* What is wrong with one read. */
struct findings {
    struct run runs[RUNS_MAX];
    uint64_t run_count, differing_bytes;
};

const char *verify_op_word(const struct req *r)
{
    static const char *const words[REQ_OP_COUNT] = {
        [REQ_READ] = "read",         [REQ_WRITE] = "write", [REQ_ZERO] = "zero",
        [REQ_DISCARD] = "discard",   [REQ_FLUSH] = "flush", [REQ_STATUS] = "status",
        [REQ_TRUNCATE] = "truncate", [REQ_CACHE] = "cache",
    };
    return words[r->op];
}

static const char *past_word(const struct past *p)
{
    static const char *const words[] = {"write", "zero", "discard", "pin"};
    return words[p->kind];
}

static const char *past_state(const struct past *p)
{
    return p->state == PAST_PENDING  ? "pending"
           : p->state == PAST_FAILED ? "failed"
           : p->maybe_lost           ? "maybe lost"
                                     : "done";
}

static const char *policy_word(const struct verify *v)
{
    static const char *const words[] = {"stop", "error", "report", "pause"};
    return words[v->on_mismatch];
}

/* What both kinds of mismatch have. */
json_t *verify_json_start(const struct node *n, const struct req *r, const char *kind, const char *class)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s}", "mismatch", kind, "class", class, "node",
                     node_name(n), "request", verify_op_word(r), "operation", (json_int_t)r->opno, "offset",
                     (json_int_t)r->asked_offset, "bytes", (json_int_t)r->asked_bytes, "on-mismatch",
                     policy_word(n->state));
}

/* ---- the last operations ---- */

/* Call @tell for the newest operations that touch [offset, offset + bytes). Returns how many. */
static unsigned each_past(const struct history *h, uint64_t offset, uint64_t bytes,
                          void (*tell)(void *opaque, const struct past *p), void *opaque)
{
    unsigned told = 0;

    for (uint64_t id = history_end(h); id > history_first(h) && told < PAST_TOLD; id--) {
        const struct past *p = history_entry(h, id - 1);
        if (ranges_overlap(p->offset, p->bytes, offset, bytes)) {
            tell(opaque, p);
            told++;
        }
    }
    return told;
}

static void tell_past(void *opaque, const struct past *p)
{
    verify_notice(opaque, NOTICE_DETAIL, "    operation %llu: %s offset=%llu bytes=%llu %s", (ull)p->opno,
                  past_word(p), (ull)p->offset, (ull)p->bytes, past_state(p));
}

static void json_past(void *opaque, const struct past *p)
{
    json_array_append_new(opaque, json_pack("{s:I, s:s, s:I, s:I, s:s}", "operation", (json_int_t)p->opno,
                                            "request", past_word(p), "offset", (json_int_t)p->offset, "bytes",
                                            (json_int_t)p->bytes, "state", past_state(p)));
}

static void tell_history(struct node *n, uint64_t offset, uint64_t bytes)
{
    const struct verify *v = n->state;
    ull remembered = history_end(&v->history) - history_first(&v->history);
    ull first = offset / SECTOR_SIZE, last = (offset + bytes - 1) / SECTOR_SIZE;
    char where[64];

    snprintf(where, sizeof(where), first == last ? "sector %llu" : "sectors %llu to %llu", first, last);
    if (remembered == 0) {
        verify_notice(n, NOTICE_DETAIL,
                      "  nothing has been written or discarded since the device was opened");
        return;
    }
    verify_notice(n, NOTICE_DETAIL, "  last of %llu remembered %s on %s, the newest first:", remembered,
                  remembered == 1 ? "operation" : "operations", where);
    if (each_past(&v->history, offset, bytes, tell_past, n) == 0) {
        verify_notice(n, NOTICE_DETAIL, "    none");
    }
}

json_t *verify_json_history(const struct verify *v, uint64_t offset, uint64_t bytes)
{
    json_t *array = json_array();

    each_past(&v->history, offset, bytes, json_past, array);
    return array;
}

/* ---- contents ---- */

static void add_run(struct findings *f, uint64_t at, uint64_t end)
{
    if (f->run_count < RUNS_MAX) {
        f->runs[f->run_count] = (struct run){at, end - at};
    }
    f->run_count++;
}

/* @end is behind the last differing byte of the run so far. */
static void find_runs(const uint8_t *test, const uint8_t *raw, uint64_t bytes, struct findings *f)
{
    uint64_t start = 0, end = 0;

    *f = (struct findings){0};
    for (uint64_t i = 0; i < bytes; i++) {
        if (i % SECTOR_SIZE == 0 && bytes - i >= SECTOR_SIZE && memcmp(test + i, raw + i, SECTOR_SIZE) == 0) {
            i += SECTOR_SIZE - 1;
            continue;
        }
        if (test[i] == raw[i]) {
            continue;
        }
        f->differing_bytes++;
        if (end != 0 && i - end >= RUN_GAP) {
            add_run(f, start, end);
            end = 0;
        }
        start = end == 0 ? i : start;
        end = i + 1;
    }
    if (end != 0) {
        add_run(f, start, end);
    }
}

/* "cd cd ...", or dashes beyond the end. */
static void hex_line(char *out, const uint8_t *p, uint64_t have)
{
    for (unsigned i = 0; i < DUMP_LINE; i++) {
        out += i < have ? sprintf(out, "%02x ", p[i]) : sprintf(out, "-- ");
    }
    out[-1] = '\0';
}

static uint64_t dump_start(uint64_t at)
{
    uint64_t line = round_down(at, DUMP_LINE);
    return line >= DUMP_LINE ? line - DUMP_LINE : 0; /* one line of context */
}

static void tell_dump(struct node *n, const struct req *r, const uint8_t *test, const uint8_t *raw,
                      uint64_t at)
{
    uint64_t start = dump_start(at);

    verify_notice(n, NOTICE_DETAIL, "  %-12s  %-47s  | %s", "offset", "expected", "actual");
    for (uint64_t i = start; i < MIN(start + DUMP_BYTES, r->bytes); i += DUMP_LINE) {
        char expected[3 * DUMP_LINE + 1], actual[3 * DUMP_LINE + 1];
        uint64_t have = MIN((uint64_t)DUMP_LINE, r->bytes - i);
        bool same = memcmp(test + i, raw + i, have) == 0;
        hex_line(expected, raw + i, have);
        hex_line(actual, test + i, have);
        verify_notice(n, NOTICE_DETAIL, "  0x%010llx  %s %c| %s", (ull)(r->offset + i), expected,
                      same ? ' ' : '*', actual);
    }
}

static void tell_runs(struct node *n, const struct req *r, const struct findings *f)
{
    verify_notice(n, NOTICE_DETAIL,
                  "  first difference at byte offset %llu, in operation %llu; differing: %llu %s "
                  "in %llu %s",
                  (ull)(r->offset + f->runs[0].at), (ull)r->opno, (ull)f->differing_bytes,
                  f->differing_bytes == 1 ? "byte" : "bytes", (ull)f->run_count,
                  f->run_count == 1 ? "run" : "runs");
    for (uint64_t i = 0; i < MIN(f->run_count, (uint64_t)RUNS_TOLD); i++) {
        verify_notice(n, NOTICE_DETAIL, "    offset %llu, %llu %s", (ull)(r->offset + f->runs[i].at),
                      (ull)f->runs[i].bytes, f->runs[i].bytes == 1 ? "byte" : "bytes");
    }
    if (f->run_count > RUNS_TOLD) {
        verify_notice(n, NOTICE_DETAIL, "    and %llu more", (ull)(f->run_count - RUNS_TOLD));
    }
}

static void tell_diagnosis(struct node *n, const struct diagnosis *d)
{
    for (unsigned i = 0; i < d->count; i++) {
        verify_notice(n, NOTICE_DETAIL, "  %s: %s: %s", i == 0 ? "diagnosis" : "or",
                      cause_name(d->causes[i].cause), d->causes[i].text);
    }
    verify_notice(n, NOTICE_DETAIL, "  a second read of the sector gave %s", d->second_read);
}

static json_t *json_hex(const uint8_t *p, uint64_t bytes)
{
    char hex[2 * DUMP_BYTES + 1] = "";

    for (uint64_t i = 0; i < bytes; i++) {
        sprintf(hex + 2 * i, "%02x", p[i]);
    }
    return json_string(hex);
}

static json_t *json_contents(const struct node *n, const struct req *r, const uint8_t *test,
                             const uint8_t *raw, const struct findings *f, const struct diagnosis *d)
{
    json_t *o = verify_json_start(n, r, "contents", "corruption"), *runs = json_array(),
           *causes = json_array();
    uint64_t first = r->offset + f->runs[0].at, start = dump_start(f->runs[0].at);
    uint64_t bytes = MIN((uint64_t)DUMP_BYTES, r->bytes - start);

    for (uint64_t i = 0; i < MIN(f->run_count, (uint64_t)RUNS_MAX); i++) {
        json_array_append_new(runs, json_pack("{s:I, s:I}", "offset", (json_int_t)(r->offset + f->runs[i].at),
                                              "bytes", (json_int_t)f->runs[i].bytes));
    }
    for (unsigned i = 0; i < d->count; i++) {
        json_array_append_new(causes, json_pack("{s:s, s:s}", "cause", cause_name(d->causes[i].cause), "text",
                                                d->causes[i].text));
    }
    json_object_set_new(o, "first-difference", json_integer((json_int_t)first));
    json_object_set_new(o, "sector", json_integer((json_int_t)(first / SECTOR_SIZE)));
    json_object_set_new(o, "differing-bytes", json_integer((json_int_t)f->differing_bytes));
    json_object_set_new(o, "run-count", json_integer((json_int_t)f->run_count));
    json_object_set_new(o, "runs", runs);
    json_object_set_new(o, "dump-offset", json_integer((json_int_t)(r->offset + start)));
    json_object_set_new(o, "expected", json_hex(raw + start, bytes));
    json_object_set_new(o, "actual", json_hex(test + start, bytes));
    json_object_set_new(o, "diagnosis", json_string(cause_name(d->causes[0].cause)));
    json_object_set_new(o, "causes", causes);
    json_object_set_new(o, "second-read", json_string(d->second_read));
    json_object_set_new(o, "history",
                        verify_json_history(n->state, round_down(first, SECTOR_SIZE), SECTOR_SIZE));
    return o;
}

/* The sectors that the client asked for. */
static ull asked_sectors(const struct req *r)
{
    return div_up(r->asked_offset % SECTOR_SIZE + r->asked_bytes, SECTOR_SIZE);
}

static void count_mismatch(struct node *n)
{
    struct verify *v = n->state;

    n->graph->mismatches++;
    v->counts.mismatches++;
}

void verify_tell_contents(struct node *n, const struct req *r, uint64_t first)
{
    count_mismatch(n);
    if (n->graph->standin) {
        verify_notice(n, NOTICE_MISMATCH,
                      "blkverify: read offset=%llu bytes=%llu contents mismatch at offset %llu",
                      (ull)r->asked_offset, (ull)r->asked_bytes, (ull)first);
    } else {
        verify_notice(n, NOTICE_MISMATCH,
                      "blkverify: read sector_num=%llu nb_sectors=%llu contents mismatch in sector "
                      "%llu",
                      (ull)(r->asked_offset / SECTOR_SIZE), asked_sectors(r), (ull)(first / SECTOR_SIZE));
    }
}

co_fn void verify_report_contents(struct node *n, const struct req *r, const uint8_t *test,
                                  const uint8_t *raw)
{
    struct verify *v = n->state;
    struct findings f;
    struct diagnosis d;

    find_runs(test, raw, r->bytes, &f);
    assert(f.run_count > 0);
    co_mutex_lock(&v->reporting);
    verify_tell_contents(n, r, r->offset + f.runs[0].at);
    if (!n->graph->standin || v->report_fd >= 0 || n->graph->event) {
        struct wrong_read w = {.opno = r->opno,
                               .offset = r->offset,
                               .bytes = r->bytes,
                               .at = round_down(f.runs[0].at, SECTOR_SIZE),
                               .expected = raw,
                               .actual = test};
        tell_runs(n, r, &f);
        tell_dump(n, r, test, raw, f.runs[0].at);
        verify_diagnose(n, &w, &d);
        tell_diagnosis(n, &d);
        tell_history(n, w.offset + w.at, SECTOR_SIZE);
        if (v->report_fd >= 0 || n->graph->event) {
            verify_publish(n, json_contents(n, r, test, raw, &f, &d));
        }
    }
    co_mutex_unlock(&v->reporting);
}

/* ---- return values ---- */

static void tell_return_line(struct node *n, const struct req *r, int rc_test, int rc_raw)
{
    if (n->graph->standin) {
        verify_notice(n, NOTICE_MISMATCH,
                      "blkverify: %s offset=%llu bytes=%llu return value mismatch %d != %d",
                      verify_op_word(r), (ull)r->asked_offset, (ull)r->asked_bytes, rc_test, rc_raw);
    } else {
        verify_notice(n, NOTICE_MISMATCH,
                      "blkverify: %s sector_num=%llu nb_sectors=%llu return value mismatch %d != %d",
                      verify_op_word(r), (ull)(r->asked_offset / SECTOR_SIZE), asked_sectors(r), rc_test,
                      rc_raw);
    }
}

static const char *result_text(int rc)
{
    return rc == 0 ? "success" : err_name(rc);
}

co_fn void verify_report_return(struct node *n, const struct req *r, int rc_test, int rc_raw)
{
    struct verify *v = n->state;

    count_mismatch(n);
    co_mutex_lock(&v->reporting);
    tell_return_line(n, r, rc_test, rc_raw);
    verify_notice(n, NOTICE_DETAIL, "  operation %llu: the test device gave %s, the raw copy %s",
                  (ull)r->opno, result_text(rc_test), result_text(rc_raw));
    if (r->bytes > 0) {
        tell_history(n, r->offset, r->bytes);
    }
    if (v->report_fd >= 0 || n->graph->event) {
        json_t *o = verify_json_start(n, r, "return-value", "corruption");
        json_object_set_new(o, "test", json_integer(rc_test));
        json_object_set_new(o, "raw", json_integer(rc_raw));
        json_object_set_new(o, "history", verify_json_history(v, r->offset, r->bytes));
        verify_publish(n, o);
    }
    co_mutex_unlock(&v->reporting);
}

/* ---- injected, or legal ---- */

static void tell_explained(struct node *n, const struct req *r, const char *where, const char *who)
{
    struct verify *v = n->state;

    if (v->explained_told < EXPLAINED_TOLD) {
        verify_notice(n, NOTICE_DETAIL, "blkverify: %s sector_num=%llu nb_sectors=%llu %s: %s",
                      verify_op_word(r), (ull)(r->asked_offset / SECTOR_SIZE), asked_sectors(r), where, who);
    } else if (v->explained_told == EXPLAINED_TOLD) {
        verify_notice(n, NOTICE_DETAIL,
                      "blkverify: more that is injected or legal goes to the report and the counters only");
    }
    v->explained_told += v->explained_told <= EXPLAINED_TOLD;
}

void verify_report_explained(struct node *n, const struct req *r, const struct culprit *c, uint64_t offset,
                             uint64_t bytes, int rc)
{
    const struct verify *v = n->state;
    const char *class = c->legal ? "legal" : "injected";
    ull first = offset / SECTOR_SIZE, last = bytes ? (offset + bytes - 1) / SECTOR_SIZE : first;
    char where[128], who[384], by[64] = "";

    if (bytes == 0) {
        snprintf(where, sizeof(where), "%s result %s", class,
                 rc == REQ_DROPPED ? "(no reply)" : err_name(rc));
    } else {
        snprintf(where, sizeof(where), first == last ? "%s in sector %llu" : "%s in sectors %llu to %llu",
                 class, first, last);
    }
    if (c->opno) {
        snprintf(by, sizeof(by), ", operation %llu", (ull)c->opno);
    }
    snprintf(who, sizeof(who), "%s (node %s%s%s%s)", c->what, c->node, *c->rule ? ", rule " : "", c->rule,
             by);
    tell_explained(n, r, where, who);
    if (v->report_fd < 0 && !n->graph->event) {
        return;
    }
    json_t *o = verify_json_start(n, r, bytes ? "contents" : "return-value", class);
    json_object_set_new(o, "what", json_string(c->what));
    json_object_set_new(o, "by-node", json_string(c->node));
    if (*c->rule) {
        json_object_set_new(o, "rule", json_string(c->rule));
    }
    if (c->opno) {
        json_object_set_new(o, "by-operation", json_integer((json_int_t)c->opno));
    }
    if (bytes) {
        json_object_set_new(o, "sector", json_integer((json_int_t)first));
        json_object_set_new(o, "sectors", json_integer((json_int_t)(last - first + 1)));
    } else {
        json_object_set_new(o, "test", json_integer(rc));
    }
    verify_publish(n, o);
}
