/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What was written to the node: for each block of 4 KiB when, whether it was read since, and whether a flush
 * has covered it. Kept while a rule asks for it, in chunks of 1 MiB of the disk; a write of a part counts for
 * the whole block. When there are too many chunks, the oldest is forgotten, as if it had been written before
 * the rule was added.
 */
#include "drivers/fault/member.h"

#define BLOCK       (4 * KiB)
#define CHUNK_MARKS 256u       /* 1 MiB of disk in 4 KiB of memory */
#define CHUNKS_MAX  (1u << 14) /* 16 GiB of disk in 64 MiB */
#define SLOTS       (1u << 15) /* of the hash table: never more than half full */

enum { FIRST_READ = 1 << 0, UNFLUSHED = 1 << 1 };

struct mark {
    uint64_t written_ns;
    uint32_t epoch; /* of the write; 0: never written, or flushed at once */
    bool written, read;
};

struct chunk {
    uint64_t number; /* offset / 1 MiB */
    struct mark marks[CHUNK_MARKS];
};

struct fault_history {
    struct chunk *slots[SLOTS];
    struct chunk *in_order[CHUNKS_MAX]; /* a ring: the oldest is at next, once it is full */
    unsigned next;
    uint32_t epoch, flushed; /* flushes that have arrived, plus 1; the last that has succeeded */
};

int fault_history_create(struct fault_history **ret)
{
    struct fault_history *h = calloc(1, sizeof(*h));

    if (!h) {
        return -ENOMEM;
    }
    h->epoch = 1;
    *ret = h;
    return 0;
}

void fault_history_destroy(struct fault_history *h)
{
    for (unsigned i = 0; h && i < CHUNKS_MAX; i++) {
        free(h->in_order[i]);
    }
    free(h);
}

uint64_t fault_history_epoch(const struct fault_history *h)
{
    return h->epoch;
}

/* ---- chunks ---- */

static unsigned slot_of(uint64_t number)
{
    uint64_t x = number;

    return (unsigned)(splitmix64(&x) % SLOTS);
}

static unsigned find_slot(const struct fault_history *h, uint64_t number)
{
    unsigned i = slot_of(number);

    while (h->slots[i] && h->slots[i]->number != number) {
        i = (i + 1) % SLOTS;
    }
    return i;
}

/* Linear probing without tombstones: what stood behind it moves up. */
static void take_out(struct fault_history *h, uint64_t number)
{
    unsigned hole = find_slot(h, number), i = hole;

    h->slots[hole] = NULL;
    while (h->slots[i = (i + 1) % SLOTS]) {
        unsigned home = slot_of(h->slots[i]->number);
        bool stays = hole < i ? home > hole && home <= i : home > hole || home <= i;
        if (!stays) {
            h->slots[hole] = h->slots[i];
            h->slots[hole = i] = NULL;
        }
    }
}

/* NULL: not there, and (to @make it) no memory: then the write is not remembered. */
static struct chunk *chunk_of(struct fault_history *h, uint64_t number, bool make)
{
    unsigned slot = find_slot(h, number);

    if (h->slots[slot] || !make) {
        return h->slots[slot];
    }
    struct chunk *c = h->in_order[h->next];
    if (c) {
        take_out(h, c->number);
        memset(c, 0, sizeof(*c));
    } else if (!(c = calloc(1, sizeof(*c)))) {
        return NULL;
    }
    c->number = number;
    h->in_order[h->next] = c;
    h->next = (h->next + 1) % CHUNKS_MAX;
    h->slots[find_slot(h, number)] = c;
    return c;
}

/* ---- requests ---- */

/* Call @each for the marks of a request until it returns true. */
static bool walk(struct fault_history *h, const struct req *r, bool make,
                 bool (*each)(struct mark *m, const void *arg), const void *arg)
{
    uint64_t first = r->offset / BLOCK, end = div_up(r->offset + r->bytes, BLOCK);

    for (uint64_t b = first; b < end;) {
        struct chunk *c = chunk_of(h, b / CHUNK_MARKS, make);
        uint64_t stop = MIN(end, (b / CHUNK_MARKS + 1) * CHUNK_MARKS);
        for (; c && b < stop; b++) {
            if (each(&c->marks[b % CHUNK_MARKS], arg)) {
                return true;
            }
        }
        b = stop;
    }
    return false;
}

static bool was_read(struct mark *m, const void *arg)
{
    m->read = true;
    return false;
}

static bool write_mark(struct mark *m, const void *arg)
{
    *m = *(const struct mark *)arg;
    return false;
}

void fault_history_arrives(struct fault_history *h, const struct req *r)
{
    if (r->op == REQ_READ) {
        walk(h, r, false, was_read, NULL);
    }
    h->epoch += r->op == REQ_FLUSH;
}

/* A write counts from its acknowledgement, and so a flush that came before that does not cover it. */
void fault_history_done(struct fault_history *h, const struct req *r, uint64_t epoch, int ret)
{
    if (ret != 0) {
        return;
    }
    if (r->op == REQ_FLUSH) {
        h->flushed = MAX(h->flushed, (uint32_t)epoch);
    } else if (r->op == REQ_WRITE || r->op == REQ_ZERO) {
        const struct mark m = {
            .written_ns = loop_now_ns(), .epoch = r->flags & REQ_FUA ? 0 : h->epoch, .written = true};
        walk(h, r, true, write_mark, &m);
    }
}

/* ---- selectors ---- */

struct question {
    const struct fault_history *h;
    unsigned what;
    uint64_t since_ns;
};

static bool answers(struct mark *m, const void *arg)
{
    const struct question *q = arg;

    return m->written && (!(q->what & FIRST_READ) || !m->read) &&
           (!(q->what & UNFLUSHED) || m->epoch > q->h->flushed) && m->written_ns >= q->since_ns;
}

/* One block must answer everything. */
FAULT_ASK(fault_history_holds)
{
    uint64_t now = loop_now_ns(), within = rule->written_within_ns;
    const struct question q = {e->history, rule->history, within == 0 || within > now ? 0 : now - within};

    if (r->op == REQ_FLUSH || r->op == REQ_TRUNCATE || ((q.what & FIRST_READ) && r->op != REQ_READ)) {
        return false;
    }
    return e->history && walk(e->history, r, false, answers, &q);
}

static const struct fault_word words[] = {
    {"first-read", FIRST_READ}, {"unflushed", UNFLUSHED}, {"written", 0}, {0}};

FAULT_PARSE(fault_parse_history)
{
    return fault_parse_words(words, v, m, &rule->history, err);
}
