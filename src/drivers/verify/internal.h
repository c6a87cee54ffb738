/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of the verify driver among themselves.
 *
 *   verify.c         the driver: options, open, close, names, policy
 *   io.c             every request, on both sides
 *   settle.c         a read that differs, or that touches what is indeterminate
 *   history.c        what was written: offset, length, operation number, a hash per sector
 *   indeterminate.c  where the test device may legally show more than one thing
 *   diagnose.c       names the cause of wrong data
 *   classify.c       injected, legal, or neither: what the nodes below say about it
 *   report.c         says it: lines for people, JSON for programs
 *   report_file.c    where that goes
 *   scrub.c          compares the whole device
 *   counts.c         what is counted
 *   sector.c         what is known of one sector
 *   oracle*.c        the other kind of verifier, which needs no reference: see oracle.h
 *
 * Sectors are 512 bytes throughout. Offsets and lengths are bytes and whole sectors, except that the
 * last sector of a device may be short.
 */
#ifndef DRIVERS_VERIFY_INTERNAL_H
#define DRIVERS_VERIFY_INTERNAL_H

#include "block/driver.h"
#include "drivers/verify/verify.h"

/* ---- history.c ---- */

enum past_kind {
    PAST_WRITE,
    PAST_ZERO,
    PAST_DISCARD,
    PAST_PIN, /* a read settled what an indeterminate range holds */
};
enum past_state { PAST_PENDING, PAST_DONE, PAST_FAILED };

/* One operation that changed the device. */
struct past {
    uint64_t opno, offset, bytes;
    uint64_t hash_at;  /* of its first sector, counted from the first hash ever; PAST_NO_HASH */
    uint64_t done_seq; /* its place in the order of completion; 0 while pending */
    uint8_t kind, state;
    bool maybe_lost; /* the device came back, or a flush failed, before it was flushed */
    bool durable;    /* was flushed by itself (FUA) */
};
#define PAST_NO_HASH UINT64_MAX

#define HISTORY_GRANULES 65536u /* 512 KiB of sequence numbers: see history_evict */

struct history {
    struct past *ops; /* ring of ops_max; entry id lies at id & (ops_max - 1) */
    uint64_t ops_max, ops_head;
    uint64_t *hashes; /* ring of hashes_max */
    uint64_t hashes_max, hashes_head;
    uint64_t done_seq;    /* of the operation that completed last */
    uint64_t flushed_seq; /* everything up to here is durable */
    uint64_t *granules;   /* per granule: the last done_seq evicted while unflushed */
    uint64_t granule_bytes;
    uint64_t zero_hash;
};

/* @ops_max and @hashes_max: powers of two. -ENOMEM. (history_init and history_get are libedit's.) */
int history_prepare(struct history *h, uint64_t ops_max, uint64_t hashes_max, uint64_t size);
void history_finish(struct history *h);

/* Note an operation that is about to be made; it gets an id. One at a time per sector: the order of
 * ids is the order of contents. */
uint64_t history_begin(struct history *h, enum past_kind kind, uint64_t opno, uint64_t offset,
                       uint64_t bytes);
/* Hash the data of a PAST_WRITE or PAST_PIN. */
void history_hash(struct history *h, uint64_t id, const struct iovec *iov, int niov);
void history_done(struct history *h, uint64_t id, bool ok, bool durable, bool maybe_lost, uint64_t offset,
                  uint64_t bytes);

/* The entry, or NULL if it is gone. */
const struct past *history_entry(const struct history *h, uint64_t id);
/* Ids from history_first to history_end - 1 exist. */
uint64_t history_first(const struct history *h);
static inline uint64_t history_end(const struct history *h)
{
    return h->ops_head;
}
/* The hash that sector @sector got from @p; false if unknown (evicted, or a discard). */
bool history_hash_of(const struct history *h, const struct past *p, uint64_t sector, uint64_t *ret_hash);
uint64_t history_hash_sector(const void *data, size_t bytes);
/* The same for units of another size; what is missing counts as zeroes. */
uint64_t sector_hash(const void *data, size_t bytes, uint32_t unit);
/* The sectors of a scatter list, one after the other. */
struct sectors {
    const struct iovec *iov;
    int niov;
    size_t skip;   /* of the first element */
    uint32_t unit; /* 512 to 4096 */
};
uint64_t sectors_next_hash(struct sectors *s);

/* For each of @n sectors from @first: may it legally show contents of hash @shown[i]? */
enum verdict {
    VERDICT_OPEN,
    VERDICT_YES,
    VERDICT_NO,
    VERDICT_UNKNOWN /* evicted: anything may be */,
    VERDICT_ANY /* discarded: anything, each time anew */
};
void history_judge(const struct history *h, uint64_t first, uint64_t n, const uint64_t *shown,
                   enum verdict *ret_verdict);

/* Everything unflushed may have been lost: mark it and call @add for its ranges; @coarse is true
 * where only a granule is known, so that anything must be accepted. */
void history_lose_unflushed(struct history *h, uint64_t size,
                            void (*add)(void *opaque, uint64_t offset, uint64_t bytes, bool coarse),
                            void *opaque);

/* ---- indeterminate.c ---- */

/* In order of leniency: where two meet, the more lenient stays. */
enum indet_kind {
    INDET_NONE,
    INDET_VERSIONS,  /* one of the contents that the history tells; the first read pins it */
    INDET_ANY,       /* anything; the first read pins it */
    INDET_DISCARDED, /* anything, at every read, until it is written again */
};

struct indet_range {
    uint64_t start, end;
    uint32_t left, right, priority;
    uint8_t kind;
};

/* A set of disjoint ranges of bounded size. */
struct indet {
    struct indet_range *pool;
    uint32_t max, used, free_list, root; /* indices from 1; 0 is none */
    uint32_t count;
    bool reached; /* the bound was: some ranges are wider than they need to be */
};

int indet_init(struct indet *s, uint32_t max);
void indet_finish(struct indet *s);
/* Make [start, end) at least as lenient as @kind. */
void indet_add(struct indet *s, uint64_t start, uint64_t end, enum indet_kind kind);
/* Make it determinate; where there is no memory to split a range it stays as it is. */
void indet_remove(struct indet *s, uint64_t start, uint64_t end);
/* Kind at @offset, and where (at most @end) the next kind begins. */
enum indet_kind indet_at(const struct indet *s, uint64_t offset, uint64_t end, uint64_t *ret_until);
/* True if nothing of [start, end) is in the set. */
static inline bool indet_clear(const struct indet *s, uint64_t start, uint64_t end)
{
    uint64_t until;
    return s->count == 0 || (indet_at(s, start, end, &until) == INDET_NONE && until == end);
}

/* ---- the node's state ---- */

/* A write, zero or discard under way. */
struct change {
    struct list link;
    uint64_t id, mark; /* the latter: the oracle's versions when it began */
};

struct flush {
    struct list link;
    uint64_t id, seq; /* what it covers, if it succeeds */
    uint64_t mark;    /* the oracle's */
};

enum on_mismatch { ON_STOP, ON_ERROR, ON_REPORT, ON_PAUSE };
enum length_rule { LENGTH_EQUAL, LENGTH_PREFIX };

struct verify {
    /* options */
    int on_mismatch, on_injected, length;
    bool discard_stable, scrub;
    char *report;
    uint64_t history_ops, history_hashes, indeterminate_max, piece;

    struct node *test, *raw; /* no raw copy: the oracle knows */
    struct oracle *oracle;
    struct history history;
    struct indet indet;
    struct co_mutex settling;  /* one read at a time may pin */
    struct co_mutex reporting; /* reports do not mingle */
    struct co_queue held;
    uint64_t held_opno;
    bool opened, paused, stopped;
    bool never_flushed; /* a node below ignores flushes: nothing is ever durable */
    bool reached_told;
    unsigned explained_told;   /* lines about what was explained */
    uint64_t graph_reconnects; /* as last seen */
    uint64_t reconnects;       /* of the nodes below, as last seen */
    uint64_t losses;           /* how often unflushed data may have been lost */
    struct list flushes;       /* under way, the oldest first: each may turn out to have lost something */
    uint64_t flush_ids, flush_covers; /* the latter: seq up to which flushes succeeded */
    uint64_t flush_mark;
    struct co_queue flushed; /* who waits for one of them */
    struct list changes;     /* likewise */
    uint64_t change_ids;
    struct co_queue changed;
    int report_fd;
    struct verify_counts counts;
};

struct oracle;

/* ---- verify.c ---- */

extern const struct driver driver_verify;

/* A mismatch was reported: what the request is to return, @rc being the test device's result. May
 * hold the request. @injected: it was injected, and another policy holds. */
co_fn int verify_decide(struct node *n, uint64_t opno, int rc, bool injected);
/* Take notice of reconnects below. Call after the test device answered, before believing it. */
void verify_look_for_reconnects(struct node *n);
/* Everything unflushed becomes indeterminate. */
void verify_lose_unflushed(struct node *n);
/* What both drivers have in common. @limits: of the test device; those of the raw copy are taken in if there
 * is one. */
void verify_prepare(struct node *n);
void verify_set_limits(struct node *n, uint32_t align);
co_fn void verify_close(struct node *n);
co_fn json_t *verify_info(struct node *n);
uint64_t next_pow2(uint64_t x);
/* Say it once if the set of indeterminate ranges has reached its bound. */
void verify_tell_bound(struct node *n);

/* ---- io.c ---- */

co_fn int verify_io(struct node *n, struct req *r);
/* Two requests at once, the first in a coroutine of its own. */
co_fn void verify_both(struct verify *v, struct req *test, struct req *raw, int *ret_test, int *ret_raw);

/* ---- settle.c ---- */

/* A read (whole sectors, into one flat buffer @test) that differs from the reference or touches
 * something indeterminate. 0 if the device may show that; else reports it and returns what the
 * policy says. READ_AGAIN if something was lost since v->losses was @losses. */
co_fn int verify_settle(struct node *n, const struct req *r, const uint8_t *test, uint64_t losses);

/* Result of a read whose data the device may have lost since it showed it: it proves nothing, and must
 * not be pinned. Made again, it does. */
#define READ_AGAIN (-ERESTART)
/* Before a mismatch is believed: wait for the flushes under way. True if something was lost meanwhile. */
co_fn bool verify_wait_for_flushes(struct node *n, uint64_t losses);
/* Has anything been lost since v->losses was @losses? */
bool verify_lost_since(struct node *n, uint64_t losses);

/* ---- diagnose.c ---- */

enum cause {
    CAUSE_UNKNOWN,
    CAUSE_LOST_WRITE,    /* what the sector held before; again at a second read */
    CAUSE_STALE_READ,    /* the same, but a second read gives the right data */
    CAUSE_TORN_WRITE,    /* part of the last write is there, the rest is as before */
    CAUSE_MISDIRECTED,   /* the contents of another sector */
    CAUSE_BIT_FLIP,      /* one bit */
    CAUSE_ATE_NEIGHBOUR, /* a discard or zero that went beyond its range */
    CAUSE_ZERO,          /* zeroes instead of data */
    CAUSE_SHIFTED,       /* the right data at another place, not a whole number of sectors away */
    CAUSE_STUCK,         /* one byte value, or one bit, everywhere */
    CAUSE_COUNT
};
const char *cause_name(enum cause c);

#define DIAGNOSIS_CAUSES_MAX 4
#define DIAGNOSIS_TEXT_MAX   256

struct diagnosis {
    unsigned count; /* the likeliest first; at least one */
    struct {
        enum cause cause;
        char text[DIAGNOSIS_TEXT_MAX];
    } causes[DIAGNOSIS_CAUSES_MAX];
    const char *second_read; /* what a second read of the sector gave */
};

/* The wrong read: [offset, offset + bytes), what was expected and what came. @at is the first wrong
 * sector's first byte, from offset. */
struct wrong_read {
    uint64_t opno, offset, bytes, at;
    const uint8_t *expected, *actual;
};

co_fn void verify_diagnose(struct node *n, const struct wrong_read *w, struct diagnosis *ret_diagnosis);

/* ---- counts.c ---- */

void verify_metrics(const struct node *n, metric_out *out, void *opaque);

/* ---- classify.c ---- */

/* What a node below did on purpose. Its own copy of what was said: that of explain.h does not last. */
struct culprit {
    bool legal;
    uint64_t opno;                      /* 0: none */
    char node[64], rule[64], what[128]; /* rule: "" if there is none */
};
/* Was what @r shows done on purpose? @data: (at most) a sector's contents at @offset; NULL: the result
 * @rc of the request. */
bool verify_explained(const struct node *n, const struct req *r, uint64_t offset, uint64_t bytes,
                      const void *data, int rc, struct culprit *ret);
/* Is there anybody to ask? */
bool verify_is_explained_below(const struct node *n);
/* What is under way may damage other places than its own, which is only remembered when it has ended: wait
 * for that before something unexplained is believed. */
co_fn void verify_wait_for_changes(struct node *n);
/* A place that faults are changing while it is read may show what nobody remembers any more: is what it holds
 * now injected? */
co_fn bool verify_explained_now(struct node *n, uint64_t offset, size_t bytes, struct culprit *ret);
bool verify_culprits_equal(const struct culprit *a, const struct culprit *b);
/* Count and report it; @bytes 0: it concerns the result @rc. */
void verify_note_explained(struct node *n, const struct req *r, const struct culprit *c, uint64_t offset,
                           uint64_t bytes, int rc);

/* ---- report_file.c ---- */

co_fn int verify_report_open(struct node *n, const char *path, struct err *err);
void verify_report_close(struct verify *v);
/* A line for people; as a stand-in for QEMU's programs no details. */
void verify_notice(struct node *n, enum notice_kind kind, const char *fmt, ...) PRINTF(3, 4);
/* To the report file and to monitors; @object is used up. */
void verify_publish(struct node *n, json_t *object);

/* ---- report.c ---- */

/* What both kinds of verifier say. */
const char *verify_op_word(const struct req *r);
json_t *verify_json_start(const struct node *n, const struct req *r, const char *kind, const char *class);
/* The last operations there, the newest first. */
json_t *verify_json_history(const struct verify *v, uint64_t offset, uint64_t bytes);
/* Count a mismatch of contents, and say blkverify's line about it. */
void verify_tell_contents(struct node *n, const struct req *r, uint64_t first);
co_fn void verify_report_contents(struct node *n, const struct req *r, const uint8_t *test,
                                  const uint8_t *raw);
/* Something explained: contents of [offset, offset + bytes), or, with @bytes 0, the result @rc. */
void verify_report_explained(struct node *n, const struct req *r, const struct culprit *c, uint64_t offset,
                             uint64_t bytes, int rc);
co_fn void verify_report_return(struct node *n, const struct req *r, int rc_test, int rc_raw);

/* ---- scrub.c ---- */

/* As verify_scrub, through @io instead of the node's gate: for close, when the gate is shut. */
co_fn int verify_scrub_with(struct node *n, co_fn int (*io)(struct node *n, struct req *r),
                            verify_progress *progress, void *opaque, struct verify_scrub_result *ret_result);

#endif
