/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What may be found in an image: for each sector of the disk and of each snapshot the stamps that it can
 * have, for each bitmap the bits that it must and may have. A change that is under way makes two worlds, one
 * without and one with it; what is found afterwards must be one of them, as a whole.
 */
#ifndef TESTS_SIM_QCOW2_MODEL_H
#define TESTS_SIM_QCOW2_MODEL_H

#include "block/driver.h"
#include "world.h"

#define SECTORS_MAX   256
#define SET_MAX       24
#define SNAPSHOTS_MAX 3
#define BITMAPS_MAX   3
#define STAMPS_MAX    16384
#define GRAIN_BITS    12 /* of bitmaps: all of one fits in 64 bits */

/* Stamps count up over all sectors; a sector that reads as zeroes may have any that is of zeroes. */
struct set {
    uint8_t n;
    uint16_t stamp[SET_MAX];
};

struct view {
    uint32_t sectors;
    struct set sector[SECTORS_MAX];
};

struct snapshot {
    char name[8];
    struct view view;
};

struct bitmap {
    bool there, disabled;
    unsigned from; /* the first stamp that it records */
    uint64_t must, may;
};

struct state {
    struct view live, durable; /* what a read may show; the same after a power cut */
    struct snapshot snapshot[SNAPSHOTS_MAX];
    unsigned snapshots;
    struct bitmap bitmap[BITMAPS_MAX]; /* called b0, b1, ... */
    char backing[8];
};

static uint8_t stamp_zero[STAMPS_MAX / 8];
static unsigned stamps;

static inline bool stamp_is_zero(unsigned stamp)
{
    return stamp_zero[stamp / 8] >> (stamp % 8) & 1;
}

static inline uint16_t stamp_new(bool zero)
{
    unsigned stamp = stamps++;

    CHECK(stamp < STAMPS_MAX);
    stamp_zero[stamp / 8] =
        (uint8_t)((stamp_zero[stamp / 8] & ~(1u << stamp % 8)) | (zero ? 1u << stamp % 8 : 0));
    return (uint16_t)stamp;
}

static inline void stamp_put(uint8_t *data, uint64_t sector, unsigned stamp)
{
    for (unsigned i = 0; i < SECTOR_SIZE; i += 8) {
        put_be32(data + i, (uint32_t)sector + 1);
        put_be32(data + i + 4, stamp);
    }
}

/* ---- sets ---- */

static inline void set_add(struct set *s, uint16_t stamp)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->stamp[i] == stamp) {
            return;
        }
    }
    CHECK(s->n < SET_MAX);
    s->stamp[s->n++] = stamp;
}

static inline void set_only(struct set *s, uint16_t stamp)
{
    s->n = 1;
    s->stamp[0] = stamp;
}

static inline void set_join(struct set *s, const struct set *with)
{
    for (unsigned i = 0; i < with->n; i++) {
        set_add(s, with->stamp[i]);
    }
}

/* May @data be the content of sector @n? */
static inline bool set_allows(const struct set *s, uint64_t n, const uint8_t *data)
{
    uint32_t owner = get_be32(data), stamp = get_be32(data + 4);
    bool allowed = false;

    for (unsigned i = 0; i < s->n; i++) {
        bool zero = stamp_is_zero(s->stamp[i]);
        allowed = allowed || (owner == 0 ? zero : !zero && owner == n + 1 && stamp == s->stamp[i]);
    }
    return allowed;
}

/* ---- what was found ---- */

struct found {
    uint32_t sectors;
    uint8_t *data;
    unsigned snapshots;
    char name[SNAPSHOTS_MAX + 1][8];
    uint32_t snapshot_sectors[SNAPSHOTS_MAX + 1];
    uint8_t *snapshot_data[SNAPSHOTS_MAX + 1];
    bool bitmap[BITMAPS_MAX], trusted[BITMAPS_MAX];
    uint64_t bits[BITMAPS_MAX];
    char backing[8];
};

static inline void found_free(struct found *f)
{
    free(f->data);
    for (unsigned i = 0; i < f->snapshots; i++) {
        free(f->snapshot_data[i]);
    }
}

static char model_why[256]; /* of the last mismatch */

static inline bool view_matches(const struct view *v, uint32_t sectors, const uint8_t *data, const char *what)
{
    if (v->sectors != sectors) {
        snprintf(model_why, sizeof(model_why), "%s: %u sectors, not %u", what, sectors, v->sectors);
        return false;
    }
    for (uint64_t i = 0; i < sectors; i++) {
        const uint8_t *p = data + i * SECTOR_SIZE;
        if (!set_allows(&v->sector[i], i, p)) {
            const struct set *s = &v->sector[i];
            int n = snprintf(model_why, sizeof(model_why), "%s: sector %llu: owner %u stamp %u, allowed",
                             what, (unsigned long long)i, get_be32(p), get_be32(p + 4));
            for (unsigned k = 0; k < s->n && (size_t)n < sizeof(model_why) - 8; k++) {
                n += snprintf(model_why + n, sizeof(model_why) - (size_t)n, " %u%s", s->stamp[k],
                              stamp_is_zero(s->stamp[k]) ? "z" : "");
            }
            return false;
        }
    }
    return true;
}

static inline bool snapshots_match(const struct state *w, const struct found *f)
{
    if (w->snapshots != f->snapshots) {
        snprintf(model_why, sizeof(model_why), "%u snapshots, not %u", f->snapshots, w->snapshots);
        return false;
    }
    for (unsigned i = 0; i < f->snapshots; i++) {
        const struct snapshot *s = &w->snapshot[i];
        if (strcmp(s->name, f->name[i]) != 0) {
            snprintf(model_why, sizeof(model_why), "snapshot %s, not %s", f->name[i], s->name);
            return false;
        }
        if (!view_matches(&s->view, f->snapshot_sectors[i], f->snapshot_data[i], s->name)) {
            return false;
        }
    }
    return true;
}

/* A bitmap that is not trusted says nothing. @exact: nothing went wrong: all of them are. */
static inline bool bitmaps_match(const struct state *w, const struct found *f, bool exact)
{
    for (unsigned i = 0; i < BITMAPS_MAX; i++) {
        const struct bitmap *b = &w->bitmap[i];
        bool right = b->there == f->bitmap[i] && (!exact || !b->there || f->trusted[i]) &&
                     (!b->there || !f->trusted[i] || (!(b->must & ~f->bits[i]) && !(f->bits[i] & ~b->may)));
        if (!right) {
            snprintf(model_why, sizeof(model_why),
                     "bitmap b%u: there %d, trusted %d, bits %llx; there %d, %llx to %llx", i, f->bitmap[i],
                     f->trusted[i], (unsigned long long)f->bits[i], b->there, (unsigned long long)b->must,
                     (unsigned long long)b->may);
            return false;
        }
    }
    return true;
}

static inline bool state_matches(const struct state *w, const struct view *v, const struct found *f,
                                 bool exact)
{
    if (strcmp(w->backing, f->backing) != 0) {
        snprintf(model_why, sizeof(model_why), "backing file '%s', not '%s'", f->backing, w->backing);
        return false;
    }
    return view_matches(v, f->sectors, f->data, "disk") && snapshots_match(w, f) &&
           bitmaps_match(w, f, exact);
}

#endif
