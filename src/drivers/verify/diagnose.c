/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names the cause of wrong data, from the bytes, the history and a few bounded reads. Each suspicion
 * is one function that looks at the first wrong sector and says a sentence; the table at the end has
 * them in the order of what they prove. Nothing here changes anything.
 */
#include <stdio.h>

#include "drivers/verify/internal.h"

#define SEARCH_BYTES    (1 * MiB) /* of the reference, around the sector */
#define SEARCH_PIECE    (64 * KiB)
#define TORN_BYTES_MAX  (256 * KiB) /* of the last write, looked at on both sides */
#define NEIGHBOUR_BYTES (64 * KiB)  /* a discard that reaches this far beyond its end: a qcow2 cluster */
#define SHIFT_MAX       4096        /* bytes */
#define SHIFT_PROOF     128         /* bytes that must agree */

struct scene {
    struct node *n;
    struct verify *v;
    const struct wrong_read *w;
    const uint8_t *actual, *expected; /* the sector */
    size_t len;
    uint64_t offset, sector; /* on the device */
    uint64_t run_bytes;      /* wrong sectors that follow each other, from this one on */
    uint64_t hash;           /* of what came */
    bool has_last;
    uint64_t last; /* id of the operation that wrote the sector last */
    bool zero, uniform, right_again;
    const char *second_read;
};

const char *cause_name(enum cause c)
{
    static const char *const names[CAUSE_COUNT] = {
        [CAUSE_UNKNOWN] = "unknown",
        [CAUSE_LOST_WRITE] = "lost write",
        [CAUSE_STALE_READ] = "stale read",
        [CAUSE_TORN_WRITE] = "torn write",
        [CAUSE_MISDIRECTED] = "misdirected",
        [CAUSE_BIT_FLIP] = "one bit flipped",
        [CAUSE_ATE_NEIGHBOUR] = "discard or zero ate a neighbour",
        [CAUSE_ZERO] = "all zero",
        [CAUSE_SHIFTED] = "shifted",
        [CAUSE_STUCK] = "stuck byte",
    };
    return names[c];
}

typedef unsigned long long ull; /* for printf */

static bool covers(const struct past *p, uint64_t offset)
{
    return offset >= p->offset && offset < p->offset + p->bytes;
}

/* The newest operation before @id that covers @offset. */
static bool find_before(const struct history *h, uint64_t id, uint64_t offset, uint64_t *ret_id)
{
    for (; id > history_first(h); id--) {
        if (covers(history_entry(h, id - 1), offset)) {
            *ret_id = id - 1;
            return true;
        }
    }
    return false;
}

static const char *past_word(const struct past *p)
{
    static const char *const words[] = {"write", "zero", "discard", "settling read"};
    return words[p->kind];
}

static ull past_opno(const struct scene *s, uint64_t id)
{
    const struct past *p = history_entry(&s->v->history, id);
    return p ? p->opno : 0;
}

/* ---- the suspicions ---- */

/* The sector at @offset, before the operation @id: did it have contents of this hash? */
enum age { AGE_NO, AGE_YES, AGE_FORGOTTEN };
static enum age held_before(const struct scene *s, uint64_t id, uint64_t offset, uint64_t hash,
                            uint64_t *ret_since)
{
    const struct history *h = &s->v->history;
    uint64_t known;
    bool any = false;

    while (find_before(h, id, offset, &id)) {
        if (history_hash_of(h, history_entry(h, id), offset / SECTOR_SIZE, &known)) {
            any = true;
            if (known == hash) {
                *ret_since = id;
                return AGE_YES;
            }
        }
    }
    return any ? AGE_NO : AGE_FORGOTTEN;
}

static co_fn bool suspect_stale(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    uint64_t since;

    if (!s->has_last || held_before(s, s->last, s->offset, s->hash, &since) != AGE_YES) {
        return false;
    }
    *ret_cause = s->right_again ? CAUSE_STALE_READ : CAUSE_LOST_WRITE;
    snprintf(text, size,
             "sector %llu holds what it held before operation %llu (%s): the data of operation %llu",
             (ull)s->sector, past_opno(s, s->last), past_word(history_entry(&s->v->history, s->last)),
             past_opno(s, since));
    return true;
}

/* Nothing older is known of the sector: it may have been zero. */
static co_fn bool suspect_stale_zero(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    uint64_t since;

    if (!s->zero || !s->has_last || held_before(s, s->last, s->offset, s->hash, &since) != AGE_FORGOTTEN) {
        return false;
    }
    *ret_cause = s->right_again ? CAUSE_STALE_READ : CAUSE_LOST_WRITE;
    snprintf(text, size, "possible, if sector %llu was zero before operation %llu (%s), the first known one",
             (ull)s->sector, past_opno(s, s->last), past_word(history_entry(&s->v->history, s->last)));
    return true;
}

/* Sort the sectors of the last write into new and old. */
static void sort_sectors(const struct scene *s, uint64_t start, uint64_t bytes, const uint8_t *test,
                         const uint8_t *raw, unsigned *ret_new, unsigned *ret_old)
{
    const struct history *h = &s->v->history;

    *ret_new = *ret_old = 0;
    for (uint64_t at = 0; at < bytes; at += SECTOR_SIZE) {
        size_t n = MIN((uint64_t)SECTOR_SIZE, bytes - at);
        uint64_t id, since;
        if (!find_before(h, history_end(h), start + at, &id) || id != s->last) {
            continue;
        }
        if (memcmp(test + at, raw + at, n) == 0) {
            ++*ret_new;
            continue;
        }
        uint64_t hash = history_hash_sector(test + at, n);
        enum age age = held_before(s, s->last, start + at, hash, &since);
        *ret_old += age == AGE_YES || (age == AGE_FORGOTTEN && buffer_is_zero(test + at, n));
    }
}

static co_fn bool suspect_torn(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    const struct past *p = s->has_last ? history_entry(&s->v->history, s->last) : NULL;

    if (!p || p->bytes <= SECTOR_SIZE || (p->kind != PAST_WRITE && p->kind != PAST_ZERO)) {
        return false;
    }
    /* the part of it around this sector */
    const struct past last = *p; /* the entry may be gone after a read */
    uint64_t start = last.offset;
    if (s->offset - start > TORN_BYTES_MAX / 2) {
        start = s->offset - TORN_BYTES_MAX / 2;
    }
    uint64_t end = MIN(last.offset + last.bytes, s->n->size), bytes = MIN(end - start, TORN_BYTES_MAX);
    uint8_t *test = buf_get(bytes), *raw = buf_get(bytes);
    unsigned fresh = 0, old = 0;
    if (test && raw && node_read(s->v->test, start, test, bytes) == 0 &&
        node_read(s->v->raw, start, raw, bytes) == 0) {
        sort_sectors(s, start, bytes, test, raw, &fresh, &old);
    }
    buf_put(test, bytes);
    buf_put(raw, bytes);
    if (fresh == 0 || old == 0) {
        return false;
    }
    *ret_cause = CAUSE_TORN_WRITE;
    snprintf(text, size, "of operation %llu (offset=%llu bytes=%llu) %u sectors are there, %u are as before",
             (ull)last.opno, (ull)last.offset, (ull)last.bytes, fresh, old);
    return true;
}

static co_fn bool suspect_neighbour(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    const struct history *h = &s->v->history;
    uint64_t oldest = s->has_last ? s->last + 1 : history_first(h);
    uint64_t run_end = s->offset + s->run_bytes;

    for (uint64_t id = history_end(h); s->zero && id > oldest; id--) {
        const struct past *p = history_entry(h, id - 1);
        uint64_t end = p->offset + p->bytes;
        bool before = end <= s->offset && s->offset - end <= NEIGHBOUR_BYTES;
        bool after = p->offset >= run_end && p->offset - run_end <= NEIGHBOUR_BYTES;
        if ((p->kind == PAST_DISCARD || p->kind == PAST_ZERO) && (before || after)) {
            *ret_cause = CAUSE_ATE_NEIGHBOUR;
            snprintf(text, size,
                     "operation %llu (%s offset=%llu bytes=%llu) went beyond its range: sector %llu "
                     "is zero and lies %llu bytes %s",
                     (ull)p->opno, past_word(p), (ull)p->offset, (ull)p->bytes, (ull)s->sector,
                     (ull)(before ? s->offset - end : p->offset - run_end),
                     before ? "behind it" : "before it");
            return true;
        }
    }
    return false;
}

static co_fn bool suspect_bit(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    size_t wrong = 0, where = 0;

    for (size_t i = 0; i < s->len; i++) {
        if (s->actual[i] != s->expected[i]) {
            wrong++;
            where = i;
        }
    }
    unsigned bits = wrong == 1 ? (unsigned)(s->actual[where] ^ s->expected[where]) : 0;
    if (!is_pow2(bits)) {
        return false;
    }
    *ret_cause = CAUSE_BIT_FLIP;
    snprintf(text, size, "bit %d of byte %zu of sector %llu, at offset %llu (0x%02x instead of 0x%02x)",
             __builtin_ctz(bits), where, (ull)s->sector, (ull)(s->offset + where), s->actual[where],
             s->expected[where]);
    return true;
}

static bool misdirected(struct scene *s, enum cause *ret_cause, char *text, size_t size, uint64_t from,
                        const char *how)
{
    *ret_cause = CAUSE_MISDIRECTED;
    snprintf(text, size, "sector %llu holds the contents of sector %llu (%s%llu bytes away), %s",
             (ull)s->sector, (ull)(from / SECTOR_SIZE), from < s->offset ? "-" : "",
             (ull)(from < s->offset ? s->offset - from : from - s->offset), how);
    return true;
}

/* Elsewhere in this request, and in what was written lately. */
static co_fn bool suspect_misdirected(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    const struct history *h = &s->v->history;
    char how[64];
    uint64_t hash;

    if (s->uniform) {
        return false; /* it could be from anywhere */
    }
    for (uint64_t at = 0; at + s->len <= s->w->bytes; at += SECTOR_SIZE) {
        if (memcmp(s->w->expected + at, s->actual, s->len) == 0) {
            return misdirected(s, ret_cause, text, size, s->w->offset + at, "of this request");
        }
    }
    for (uint64_t id = history_end(h); id > history_first(h); id--) {
        const struct past *p = history_entry(h, id - 1);
        uint64_t first = p->offset / SECTOR_SIZE, end = div_up(p->offset + p->bytes, SECTOR_SIZE);
        if (p->kind != PAST_WRITE || !history_hash_of(h, p, first, &hash)) {
            continue;
        }
        for (uint64_t t = first; t < end; t++) {
            history_hash_of(h, p, t, &hash);
            if (hash == s->hash && t != s->sector) {
                snprintf(how, sizeof(how), "written there by operation %llu", (ull)p->opno);
                return misdirected(s, ret_cause, text, size, t * SECTOR_SIZE, how);
            }
        }
    }
    return false;
}

/* Is the wrong data at @offset of the reference? */
static co_fn bool reference_has(const struct scene *s, uint64_t offset)
{
    uint8_t sector[SECTOR_SIZE];

    return offset != s->offset && offset < s->n->size && s->n->size - offset >= s->len &&
           node_read(s->v->raw, offset, sector, s->len) == 0 && memcmp(sector, s->actual, s->len) == 0;
}

/* Around the sector, everywhere. */
static co_fn bool search_near(const struct scene *s, uint64_t *ret_offset)
{
    uint64_t start = s->offset > SEARCH_BYTES / 2 ? s->offset - SEARCH_BYTES / 2 : 0;
    uint64_t end = MIN(start + SEARCH_BYTES, s->n->size);
    uint8_t *buf = buf_get(SEARCH_PIECE);
    bool found = false;

    for (; buf && !found && start < end; start += SEARCH_PIECE) {
        uint64_t bytes = MIN(SEARCH_PIECE, end - start);
        if (node_read(s->v->raw, start, buf, bytes) != 0) {
            break;
        }
        for (uint64_t at = 0; !found && at + s->len <= bytes; at += SECTOR_SIZE) {
            if (start + at != s->offset && memcmp(buf + at, s->actual, s->len) == 0) {
                *ret_offset = start + at;
                found = true;
            }
        }
    }
    buf_put(buf, SEARCH_PIECE);
    return found;
}

/* In the reference: near by, and where one wrong address bit, or a mix-up of units, would lead. */
static co_fn bool suspect_reference(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    static const char how[] = "which the reference has there";
    uint64_t from;

    if (s->uniform) {
        return false;
    }
    if (search_near(s, &from)) {
        return misdirected(s, ret_cause, text, size, from, how);
    }
    for (unsigned bit = 9; bit < 63; bit++) {
        if (reference_has(s, s->offset ^ (UINT64_C(1) << bit))) {
            return misdirected(s, ret_cause, text, size, s->offset ^ (UINT64_C(1) << bit), how);
        }
    }
    const uint64_t mixed_up[] = {s->offset & UINT32_MAX, s->sector,
                                 s->offset < BLOCK_SIZE_MAX / SECTOR_SIZE ? s->offset * SECTOR_SIZE : 0};
    for (size_t i = 0; i < ARRAY_SIZE(mixed_up); i++) {
        if (reference_has(s, round_down(mixed_up[i], SECTOR_SIZE))) {
            return misdirected(s, ret_cause, text, size, round_down(mixed_up[i], SECTOR_SIZE), how);
        }
    }
    return false;
}

static bool is_uniform(const uint8_t *p, size_t len)
{
    return memcmp(p, p + 1, len - 1) == 0;
}

/* Do the sector's bytes equal those that are expected @shift bytes further on? */
static bool shifted_by(const struct scene *s, int shift)
{
    int64_t from = (int64_t)s->w->at + shift, to = from + (int64_t)s->len;
    int64_t low = MAX(from, (int64_t)0), high = MIN(to, (int64_t)s->w->bytes);

    return high - low >= SHIFT_PROOF &&
           memcmp(s->actual + (low - from), s->w->expected + low, (size_t)(high - low)) == 0 &&
           !is_uniform(s->w->expected + low, (size_t)(high - low));
}

static co_fn bool suspect_shift(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    for (int n = 1; n <= SHIFT_MAX; n++) {
        int shift = shifted_by(s, n) ? n : shifted_by(s, -n) ? -n : 0;
        if (shift != 0 && n % (int)SECTOR_SIZE != 0) {
            *ret_cause = CAUSE_SHIFTED;
            snprintf(text, size, "shifted by %d: byte 0 of sector %llu holds what belongs %d bytes %s", shift,
                     (ull)s->sector, n, shift > 0 ? "further on" : "before");
            return true;
        }
    }
    return false;
}

static co_fn bool suspect_zero(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    if (!s->zero) {
        return false;
    }
    *ret_cause = CAUSE_ZERO;
    snprintf(text, size, "zeroes instead of data, in %llu bytes from sector %llu on", (ull)s->run_bytes,
             (ull)s->sector);
    return true;
}

static co_fn bool suspect_stuck(struct scene *s, enum cause *ret_cause, char *text, size_t size)
{
    size_t wrong = 0, where = 0;
    uint8_t all_and = 0xff, all_or = 0, flips = 0;

    for (size_t i = 0; i < s->len; i++) {
        if (s->actual[i] != s->expected[i]) {
            where = wrong++ == 0 ? i : where;
            all_and &= s->actual[i];
            all_or |= s->actual[i];
            flips |= s->actual[i] ^ s->expected[i];
        }
    }
    *ret_cause = CAUSE_STUCK;
    if (s->zero || (wrong == 1 && is_pow2(flips))) {
        return false; /* said already: all zero, or one bit flipped */
    }
    if (wrong == 1) {
        snprintf(text, size, "the only wrong byte of sector %llu, at offset %llu, is 0x%02x", (ull)s->sector,
                 (ull)(s->offset + where), all_and);
        return true;
    }
    if (wrong > 0 && all_and == all_or) {
        snprintf(text, size, "all %zu wrong bytes of sector %llu, the first at offset %llu, are 0x%02x",
                 wrong, (ull)s->sector, (ull)(s->offset + where), all_and);
        return true;
    }
    bool same_bit = is_pow2(flips) && ((all_and & flips) || !(all_or & flips));
    if (wrong > 0 && same_bit) {
        snprintf(text, size, "bit %d is %d in all %zu wrong bytes of sector %llu, the first at offset %llu",
                 __builtin_ctz(flips), (all_and & flips) != 0, wrong, (ull)s->sector,
                 (ull)(s->offset + where));
        return true;
    }
    return false;
}

/* What proves most goes first. */
static co_fn bool (*const suspicions[])(struct scene *s, enum cause *ret_cause, char *text, size_t size) = {
    suspect_neighbour, suspect_torn,  suspect_stale, suspect_bit,        suspect_misdirected,
    suspect_reference, suspect_shift, suspect_zero,  suspect_stale_zero, suspect_stuck,
};

/* ---- the scene ---- */

static co_fn const char *read_again(const struct scene *s, bool *ret_right)
{
    uint8_t again[SECTOR_SIZE];

    if (node_read(s->v->test, s->offset, again, s->len) != 0) {
        return "an error";
    }
    *ret_right = memcmp(again, s->expected, s->len) == 0;
    return *ret_right                              ? "the expected data"
           : memcmp(again, s->actual, s->len) == 0 ? "the same wrong data"
                                                   : "something else again";
}

static uint64_t wrong_run(const struct wrong_read *w)
{
    uint64_t at = w->at;

    while (at < w->bytes) {
        size_t n = MIN((uint64_t)SECTOR_SIZE, w->bytes - at);
        if (memcmp(w->actual + at, w->expected + at, n) == 0) {
            break;
        }
        at += n;
    }
    return at - w->at;
}

co_fn void verify_diagnose(struct node *n, const struct wrong_read *w, struct diagnosis *ret_diagnosis)
{
    struct verify *v = n->state;
    struct scene s = {.n = n, .v = v, .w = w, .actual = w->actual + w->at, .expected = w->expected + w->at};
    struct diagnosis d = {0};

    s.len = MIN((uint64_t)SECTOR_SIZE, w->bytes - w->at);
    s.offset = w->offset + w->at;
    s.sector = s.offset / SECTOR_SIZE;
    s.run_bytes = wrong_run(w);
    s.hash = history_hash_sector(s.actual, s.len);
    s.zero = buffer_is_zero(s.actual, s.len);
    s.uniform = is_uniform(s.actual, s.len);
    s.second_read = read_again(&s, &s.right_again);
    s.has_last = find_before(&v->history, history_end(&v->history), s.offset, &s.last);
    for (size_t i = 0; i < ARRAY_SIZE(suspicions) && d.count < DIAGNOSIS_CAUSES_MAX; i++) {
        d.count += suspicions[i](&s, &d.causes[d.count].cause, d.causes[d.count].text, DIAGNOSIS_TEXT_MAX);
    }
    if (d.count == 0) {
        d.count = 1;
        d.causes[0].cause = CAUSE_UNKNOWN;
        snprintf(d.causes[0].text, DIAGNOSIS_TEXT_MAX, "no known pattern, and not in the history of writes");
    }
    d.second_read = s.second_read;
    *ret_diagnosis = d;
}
