/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver oracle: verification without a second copy of the data. Every write notes a hash of each sector
 * in a book (oracle.h), every read is compared with it, and what differs is judged: injected, legal after a
 * power cut, or corruption. With a file the book outlives blkproof. Policy, losses, flushes, reports and
 * scrubs are those of blkverify.
 */
#include "base/iov.h"
#include "base/json.h"
#include "drivers/verify/oracle.h"

#define BOOK_BYTES_AT_ONCE (256 * MiB) /* of a zero or discard: its records are written in one go */

struct oracle_node {
    struct verify v; /* first: n->state of both drivers begins with it */
    struct oracle book;
};

#define O(member) offsetof(struct oracle_node, member)
static const char *const policies[] = {"stop", "error", "report", "pause", NULL};
static const char *const units[] = {"any", "512", "4096", NULL};

static const struct option oracle_options[] = {
    {"oracle", OPT_STRING, O(book.path), .help = "the book: a file that outlives blkproof; none: memory"},
    {"sector", OPT_ENUM, O(book.unit_choice), .def = "any", .values = units,
     .help = "bytes written whole or not at all: 512, 4096, or any: the book's, 512 in a new one"},
    {"versions", OPT_UINT, O(book.versions_max), .def = "1048576", .min = 1024, .max = ORACLE_VERSIONS_MAX,
     .help = "overwritten sectors remembered, 1024 to 8388608, rounded up to a power of two; 24 bytes each"},
    {"on-mismatch", OPT_ENUM, O(v.on_mismatch), .def = "stop", .values = policies, .runtime = true,
     .help = "after a mismatch: stop|error|report|pause"},
    {"on-injected", OPT_ENUM, O(v.on_injected), .def = "report", .values = policies, .runtime = true,
     .help = "after a mismatch that a fault rule explains: stop|error|report|pause"},
    {"report", OPT_STRING, O(v.report), .help = "append one JSON object per mismatch to this file"},
    {"scrub", OPT_BOOL, O(v.scrub), .def = "off", .runtime = true,
     .help = "read and check all that is known when the device is closed (on|off)"},
    {0},
};

/* ---- results ---- */

co_fn int oracle_result(struct node *n, const struct req *r, int rc)
{
    struct culprit c;

    if (LIKELY(rc == 0) || !verify_explained(n, r, r->offset, r->bytes, NULL, rc, &c)) {
        return rc; /* a device may fail */
    }
    verify_note_explained(n, r, &c, r->offset, 0, rc);
    return c.legal ? rc : verify_decide(n, r->opno, rc, true);
}

/* ---- what changes contents ---- */

co_fn int oracle_change(struct node *n, struct req *r, enum oracle_flags kind)
{
    struct verify *v = n->state;
    struct oracle_change c;
    struct req test = *r;
    uint64_t losses = v->losses;

    oracle_begin(v->oracle, &c, kind, r, r->op == REQ_WRITE ? r->iov : NULL, r->niov);
    int rc = node_io(v->test, &test);
    bool lost = verify_lost_since(n, losses);
    bool durable = (r->flags & REQ_FUA) && !v->never_flushed && !lost && list_empty(&v->flushes);
    oracle_done(v->oracle, &c, rc == 0, durable, lost);
    return oracle_result(n, r, rc);
}

/* ---- reads ---- */

/* A read in which something is wrong, or not settled. */
struct settling {
    struct node *n;
    const struct req *r;
    struct culprit who; /* of the run of units from start to at; what is empty: none */
    uint64_t start, at; /* bytes */
    bool injected;
    struct oracle_wrong wrong;
};

static void end_run(struct settling *s)
{
    if (*s->who.what) {
        verify_note_explained(s->n, s->r, &s->who, s->start, s->at - s->start, 0);
    }
    s->who = (struct culprit){0};
}

static void add_explained(struct settling *s, const struct culprit *c, uint64_t bytes)
{
    if (!*s->who.what || !verify_culprits_equal(c, &s->who)) {
        end_run(s);
        s->start = s->at;
        s->who = *c;
    }
    s->injected |= !c->legal;
    s->at += bytes;
}

static void add_wrong(struct oracle_wrong *w, uint64_t unit, const uint8_t *shown, size_t bytes)
{
    uint64_t last = MIN(w->run_count, (uint64_t)ORACLE_RUNS_MAX) - 1;

    if (w->run_count == 0) {
        memset(w->shown, 0, sizeof(w->shown));
        memcpy(w->shown, shown, bytes);
    }
    w->unit_count++;
    if (w->run_count > 0 && w->run_count <= ORACLE_RUNS_MAX &&
        w->runs[last].first + w->runs[last].count == unit) {
        w->runs[last].count++;
    } else if (w->run_count++ < ORACLE_RUNS_MAX) {
        w->runs[w->run_count - 1].first = unit;
        w->runs[w->run_count - 1].count = 1;
    }
}

/* Does a node below explain the unit, or what this book remembers of a run before? */
static bool explain_unit(const struct settling *s, uint64_t unit, const uint8_t *shown, size_t bytes,
                         uint64_t hash, enum verdict verdict, struct culprit *ret)
{
    struct verify *v = s->n->state;
    uint64_t seq;

    for (size_t at = 0; at < bytes; at += SECTOR_SIZE) {
        if (verify_explained(s->n, s->r, s->at + at, MIN(bytes - at, (size_t)SECTOR_SIZE), shown + at, 0,
                             ret)) {
            return true;
        }
    }
    if (verdict == VERDICT_NO && oracle_damaged_before(v->oracle, unit, hash, &seq)) {
        *ret = (struct culprit){.what = "as injected in an earlier run"};
        return true;
    }
    return false;
}

static void settle_unit(struct settling *s, const uint8_t *shown, size_t bytes)
{
    struct verify *v = s->n->state;
    struct oracle *o = v->oracle;
    uint64_t unit = s->at / o->unit, hash = sector_hash(shown, bytes, o->unit) >> ORACLE_FLAG_BITS;
    struct oracle_record r = oracle_get(o, unit);
    bool settled = !(r.a & ORACLE_MAYBE) && oracle_kind(r) == ORACLE_DATA;
    enum verdict verdict = oracle_judge(o, unit, hash);
    struct culprit c = {0};

    if (verdict == VERDICT_ANY) {
        v->counts.discarded_bytes += bytes;
    } else if (settled && verdict == VERDICT_YES) {
        ;
    } else if (explain_unit(s, unit, shown, bytes, hash, verdict, &c)) {
        add_explained(s, &c, bytes);
        c.legal ? oracle_pin(o, unit, hash, s->r->opno) : oracle_damage(o, unit, hash);
        return;
    } else if (verdict == VERDICT_NO) {
        add_wrong(&s->wrong, unit, shown, bytes);
    } else {
        bool learned = oracle_kind(r) == ORACLE_UNKNOWN && !o->blind;
        *(learned                      ? &v->counts.learned_bytes
          : verdict == VERDICT_UNKNOWN ? &v->counts.unverified_bytes
                                       : &v->counts.pinned_bytes) += bytes;
        oracle_pin(o, unit, hash, s->r->opno);
    }
    end_run(s);
    s->at += bytes;
}

/* The unit at @done of the read: @gathered unless it lies in one piece. */
static const uint8_t *shown_at(const struct settling *s, uint64_t done, uint8_t *gathered, size_t *ret_bytes)
{
    const struct verify *v = s->n->state;

    *ret_bytes = MIN(s->r->bytes - done, (uint64_t)v->oracle->unit);
    if (req_flat(s->r)) {
        return (const uint8_t *)req_flat(s->r) + done;
    }
    iov_to_buf(s->r->iov, s->r->niov, done, gathered, *ret_bytes);
    return gathered;
}

/* False: something may be explained later. */
static bool all_explained(struct settling *s)
{
    const struct verify *v = s->n->state;
    const struct oracle *o = v->oracle;
    uint8_t gathered[ORACLE_UNIT_MAX];
    struct culprit c;
    bool all = true;
    size_t bytes;

    for (uint64_t done = 0; all && done < s->r->bytes; done += o->unit, s->at += o->unit) {
        const uint8_t *shown = shown_at(s, done, gathered, &bytes);
        uint64_t hash = sector_hash(shown, bytes, o->unit) >> ORACLE_FLAG_BITS, unit = s->at / o->unit;
        struct oracle_record r = oracle_get(o, unit);
        all = oracle_kind(r) == ORACLE_ANY || (oracle_kind(r) == ORACLE_DATA && oracle_hash(r) == hash) ||
              explain_unit(s, unit, shown, bytes, hash, VERDICT_NO, &c);
    }
    s->at = s->r->offset;
    return all;
}

/* What is being changed by a fault just now, run by run. True if nothing else is wrong. */
static co_fn bool excuse_moving(struct settling *s)
{
    const struct verify *v = s->n->state;
    uint32_t unit = v->oracle->unit;
    struct oracle_wrong *w = &s->wrong;
    struct culprit c;
    bool all = w->run_count <= ORACLE_RUNS_MAX;

    for (uint64_t i = 0; all && i < w->run_count; i++) {
        for (uint64_t u = w->runs[i].first; all && u < w->runs[i].first + w->runs[i].count; u++) {
            all = verify_explained_now(s->n, u * unit, MIN(s->n->size - u * unit, (uint64_t)unit), &c);
        }
        if (all) {
            verify_note_explained(s->n, s->r, &c, w->runs[i].first * unit, w->runs[i].count * unit, 0);
        }
    }
    return all;
}

/* As unexplained() in settle.c: a flush under way may still fail, and then the device was free. */
static co_fn int wrong(struct settling *s, uint64_t losses)
{
    if (verify_wait_for_flushes(s->n, losses)) {
        return READ_AGAIN;
    }
    if (verify_is_explained_below(s->n) && excuse_moving(s)) {
        return verify_decide(s->n, s->r->opno, 0, true);
    }
    oracle_report(s->n, s->r, &s->wrong);
    return verify_decide(s->n, s->r->opno, 0, false);
}

static co_fn int settle(struct node *n, const struct req *r, uint64_t losses)
{
    const struct verify *v = n->state;
    uint32_t unit = v->oracle->unit;
    uint8_t gathered[ORACLE_UNIT_MAX];
    struct settling s = {.n = n, .r = r, .at = r->offset};
    size_t bytes;

    if (verify_lost_since(n, losses)) {
        return READ_AGAIN;
    }
    if (verify_is_explained_below(n) && !all_explained(&s)) {
        verify_wait_for_changes(n);
        if (verify_lost_since(n, losses)) {
            return READ_AGAIN;
        }
    }
    for (uint64_t done = 0; done < r->bytes; done += unit) {
        const uint8_t *shown = shown_at(&s, done, gathered, &bytes);
        settle_unit(&s, shown, bytes);
    }
    end_run(&s);
    if (s.wrong.run_count > 0) {
        return wrong(&s, losses);
    }
    return s.injected ? verify_decide(n, r->opno, 0, true) : 0;
}

co_fn int oracle_read(struct node *n, struct req *r, uint64_t losses)
{
    const struct verify *v = n->state;
    struct req test = *r;

    oracle_prefetch(v->oracle, r->offset);
    int rc = node_io(v->test, &test);
    if (UNLIKELY(rc != 0)) {
        return oracle_result(n, r, rc);
    }
    return LIKELY(oracle_reads_right(v->oracle, r)) ? 0 : settle(n, r, losses);
}

/* ---- the life of a node ---- */

static co_fn int oracle_open(struct node *n, struct err *err)
{
    struct oracle_node *self = n->state;
    struct oracle *o = &self->book;
    bool old;

    o->fd = -1;
    o->node = n;
    verify_prepare(n);
    o->changes = &self->v.changes;
    self->v.oracle = o;
    self->v.test = node_below(n);
    n->size = node_size(self->v.test);
    o->versions_max = next_pow2(o->versions_max);
    int rc = oracle_map(o, n->graph, n->size, &old, err);
    if (rc < 0) {
        return rc;
    }
    verify_set_limits(n, o->unit);
    n->limits.max_zero = n->limits.max_discard = BOOK_BYTES_AT_ONCE;
    if (old) {
        oracle_reopen(o);
    }
    if (self->v.report) {
        rc = verify_report_open(n, self->v.report, err);
    }
    self->v.opened = rc == 0;
    return rc;
}

static co_fn void oracle_close(struct node *n)
{
    struct oracle_node *self = n->state;

    if (self->book.node) {
        verify_close(n);
        oracle_unmap(&self->book);
    }
}

/* oracle:BOOK:DEVICE; BOOK may be empty. */
static int oracle_parse_name(const char *name, json_t *options, struct err *err)
{
    const char *book = strchr(name, ':') + 1;
    const char *colon = strchr(book, ':');

    if (!colon) {
        return err_set(err, -EINVAL, "oracle: expected oracle:FILE:DEVICE, where FILE may be empty");
    }
    if ((colon > book &&
         json_object_set_new(options, "oracle", json_stringn(book, (size_t)(colon - book))) < 0) ||
        json_object_set_new(options, "file", json_pack("{s:s}", "filename", colon + 1)) < 0) {
        return err_set(err, -EINVAL, "'%s': not a valid file name (not UTF-8)", name);
    }
    return 0;
}

const struct driver driver_oracle = {
    .name = "oracle",
    .kind = DRIVER_FILTER,
    .summary = "Knows a hash of every sector written, and so what may be read.",
    .options = oracle_options,
    .children = (const struct child_def[]){{"file", CHILD_FILTERED, .required = true, .probe = true}, {0}},
    .prefixes = (const char *const[]){"oracle:", NULL},
    .parse_name = oracle_parse_name,
    .state_size = sizeof(struct oracle_node),
    .open = oracle_open,
    .close = oracle_close,
    .io = verify_io,
    .info = verify_info,
    .metrics = verify_metrics,
};
