/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle's book: what every sector should hold, without a second copy of the data.
 *
 *   oracle.c         the driver: options, opening, requests
 *   oracle_file.c    where the book lies: a mapped file, or memory
 *   oracle_book.c    what it says: records, and the versions before them
 *   oracle_report.c  what went wrong, in words and JSON
 *
 * A record of 16 bytes for each unit (a sector of 512 or 4096 bytes): a hash of 55 bits, what kind of
 * contents that is, and the operation that wrote them. Records stand in pages of 4096, one page for each
 * chunk of the device; a chunk that is all alike (never touched, zeroed, discarded) needs no page, its record
 * stands in the directory. Whatever is overwritten goes to the ring of versions, to which the new record
 * links: after a power cut a unit may hold its last durable version or any later one.
 *
 * Operations are counted through all the runs of blkproof on one book: seq is the operation number of this
 * run, plus what the runs before it used. A flush with the number f covers what was done before it began and
 * has a smaller number; what was under way meanwhile gets the number of the flush (ORACLE_LATE).
 */
#ifndef DRIVERS_VERIFY_ORACLE_H
#define DRIVERS_VERIFY_ORACLE_H

#include "base/bytes.h"
#include "base/field.h"
#include "drivers/verify/internal.h"

#define ORACLE_CHUNK_UNITS   4096u
#define ORACLE_RECORD_BYTES  16u
#define ORACLE_VERSION_BYTES 24u
#define ORACLE_PAGE_BYTES    ((uint64_t)ORACLE_CHUNK_UNITS * ORACLE_RECORD_BYTES)
#define ORACLE_UNITS_MAX     (UINT64_C(1) << 37) /* 64 TiB of sectors: a book of 2 TiB of address space */
#define ORACLE_VERSIONS_MAX  (UINT64_C(1) << 23) /* links have 24 bits */
#define ORACLE_SEQ_MAX       ((UINT64_C(1) << 40) - 1)
#define ORACLE_UNIT_MAX      4096u

/* The low bits of a record's first word. */
#define ORACLE_FLAG_BITS 9
#define ORACLE_FLAGS     UINT64_C(0x1ff)
enum oracle_flags {
    ORACLE_KIND = 3,    /* one of: */
    ORACLE_UNKNOWN = 0, /* it was not touched yet */
    ORACLE_DATA = 1,    /* contents with this hash */
    ORACLE_ANY = 2,     /* discarded: anything, at every read */
    ORACLE_OTHER = 3,   /* directory: see the page; version: what an injected fault showed there */
    ORACLE_PENDING = 4, /* is being written */
    ORACLE_FAILED = 8,  /* may or may not have been written */
    ORACLE_LOST = 16,   /* was written, and may have been lost since */
    ORACLE_FUA = 32,    /* durable by itself */
    ORACLE_LATE = 64,   /* seq is that of a flush that began before this was done */
    ORACLE_SHOWN = 128, /* by a read, which settled it */
    ORACLE_OVER = 256,  /* what it overwrote, as far as that may come back, is anything, at every read */
    ORACLE_MAYBE = ORACLE_PENDING | ORACLE_FAILED | ORACLE_LOST,
};

struct oracle_record {
    uint64_t a; /* hash, flags */
    uint64_t b; /* seq, link */
};
static inline uint64_t oracle_seq(struct oracle_record r)
{
    return r.b >> 24;
}
static inline uint64_t oracle_hash(struct oracle_record r)
{
    return r.a >> ORACLE_FLAG_BITS;
}
static inline unsigned oracle_kind(struct oracle_record r)
{
    return r.a & ORACLE_KIND;
}

struct oracle_header {
    uint64_t magic, version, unit, size, versions, checksum;
    uint64_t last_seq, flushed_seq, versions_head, runs; /* these live: beyond the checksum */
};
extern const struct layout oracle_layout;

struct oracle {
    char *path; /* NULL: in memory */
    uint64_t versions_max;
    int unit_choice;

    int fd;
    uint8_t *map;
    size_t map_bytes;
    uint64_t *have; /* a bit for each ORACLE_PAGE_BYTES of the file that surely have space on the disk */
    uint64_t versions_at, pages_at, chunks;
    uint32_t unit;
    uint64_t zero_hash;

    uint64_t base, last_seq, flushed_seq, versions_head, runs;
    uint64_t flush_newest;      /* seq of the newest flush that has begun */
    uint64_t versions_mark;     /* whatever is not flushed was entered in the ring from here on */
    const struct list *changes; /* under way, the oldest first: of struct change */
    uint64_t indeterminate;     /* units */
    bool gaps;                  /* something could not be entered in the ring */
    bool blind, blind_told;     /* something could not be recorded: no space */
    struct node *node;          /* for the sentence */
};

/* ---- oracle_file.c ---- */

/* -EINVAL, -EBUSY, -EFBIG... and a sentence. @ret_old: it has been used before. */
co_fn int oracle_map(struct oracle *o, struct graph *g, uint64_t size, bool *ret_old, struct err *err);
void oracle_unmap(struct oracle *o);
/* Make sure that there is space on the disk for @bytes (at most ORACLE_PAGE_BYTES) at @at. */
bool oracle_room(struct oracle *o, uint64_t at, uint64_t bytes);
/* The page of a chunk is not needed any more. */
void oracle_drop(struct oracle *o, uint64_t at);
/* The live part of the header. */
void oracle_put_live(struct oracle *o);

/* ---- oracle_book.c ---- */

struct oracle_change {
    uint64_t first, end; /* units */
    uint64_t seq;
};

/* Note a change that is about to be made. @iov: the data; NULL: zeroes (ORACLE_DATA), or anything. */
void oracle_begin(struct oracle *o, struct oracle_change *c, enum oracle_flags kind, const struct req *r,
                  const struct iovec *iov, int niov);
void oracle_done(struct oracle *o, const struct oracle_change *c, bool ok, bool durable, bool lost);
uint64_t oracle_flush_begin(struct oracle *o, uint64_t opno, uint64_t *ret_mark);
void oracle_flushed(struct oracle *o, uint64_t seq, uint64_t mark);
/* What was not flushed may have been lost. */
void oracle_lose(struct oracle *o);
/* The book is from an earlier run: what was not flushed, or under way, may have been lost. */
void oracle_reopen(struct oracle *o);

struct oracle_record oracle_get(const struct oracle *o, uint64_t unit);
/* The version before @r; false: none is known. */
bool oracle_before(const struct oracle *o, uint64_t unit, struct oracle_record r, struct oracle_record *ret);
bool oracle_durable(const struct oracle *o, struct oracle_record r);
/* May the unit show contents of this hash? */
enum verdict oracle_judge(const struct oracle *o, uint64_t unit, uint64_t hash);
/* From now on it must show this. */
void oracle_pin(struct oracle *o, uint64_t unit, uint64_t hash, uint64_t opno);
/* An injected fault showed this. */
void oracle_damage(struct oracle *o, uint64_t unit, uint64_t hash);
/* Did one in an earlier run? */
bool oracle_damaged_before(const struct oracle *o, uint64_t unit, uint64_t hash, uint64_t *ret_seq);
/* Units from @unit on that are not known, at most @max. */
uint64_t oracle_unknown_run(const struct oracle *o, uint64_t unit, uint64_t max);
/* A read is about to be made: its records come from memory meanwhile. */
void oracle_prefetch(const struct oracle *o, uint64_t offset);
/* Is all that was read what it must be, and settled? */
bool oracle_reads_right(const struct oracle *o, const struct req *r);

/* ---- oracle.c ---- */

extern const struct driver driver_oracle;
co_fn int oracle_read(struct node *n, struct req *r, uint64_t losses);
/* A write, zero or discard. */
co_fn int oracle_change(struct node *n, struct req *r, enum oracle_flags kind);
/* The device's result; an error is asked about, and counted if it was injected. */
co_fn int oracle_result(struct node *n, const struct req *r, int rc);

/* ---- oracle_report.c ---- */

#define ORACLE_RUNS_MAX 64u

/* What is wrong with one read. */
struct oracle_wrong {
    struct {
        uint64_t first, count;
    } runs[ORACLE_RUNS_MAX];        /* of units */
    uint64_t run_count, unit_count; /* beyond ORACLE_RUNS_MAX they are only counted */
    uint8_t shown[ORACLE_UNIT_MAX]; /* by the first */
};
co_fn void oracle_report(struct node *n, const struct req *r, const struct oracle_wrong *w);
/* What the book says of one unit: see verify_sector. */
json_t *oracle_describe(const struct oracle *o, uint64_t unit);

#endif
