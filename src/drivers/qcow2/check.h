/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2 check, inside:
 *
 *   check.c          the problem table, the order of the steps, the result
 *   check_refs.c     reference counts in memory: found and stored ones, side by side
 *   check_count.c    everything that refers to clusters is counted
 *   check_lists.c    snapshot table and bitmap directory
 *   check_compare.c  found against stored counts; copied flags
 *   check_rebuild.c  a new refcount structure
 *   check_repair.c   entries that cannot be right
 *   check_space.c    new clusters for a repair
 *
 * Bounds. Every byte of metadata is read a fixed number of times, however often it is referred to: an L2
 * table (or a part of a snapshot's L1 table) that several tables name is read once and counted by its
 * weight. Counts take 8 bytes a cluster of the file, only where there is something to count, and at
 * most QCOW2_CHECK_MEMORY. Sparse files cost nothing for their holes.
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "drivers/qcow2/qcow2.h"

#define QCOW2_CHECK_MEMORY (2 * GiB) /* of counts: an image of 16 TiB in clusters of 64 KiB */

enum problem {
    /* tables */
    P_TABLE_READ_L1,
    P_TABLE_READ_L2,
    P_BEYOND_END,
    P_OVERFLOW,
    P_L1_RESERVED,
    P_L1_UNALIGNED,
    P_L2_RESERVED,
    P_L2_COMPRESSED_COPIED,
    P_L2_COMPRESSED_DATA_FILE,
    P_L2_COMPRESSED_BITMAP,
    P_L2_SUBCLUSTERS,
    P_L2_ZERO_UNALIGNED,
    P_L2_UNALIGNED,
    P_L2_UNALLOCATED_BITMAP,
    P_OVERLAP,
    /* lists */
    P_SNAPSHOT_COUNT,
    P_SNAPSHOT_TABLE,
    P_SNAPSHOT_EXTRA,
    P_SNAPSHOT_INCOMPLETE,
    P_SNAPSHOT_BEYOND,
    P_SNAPSHOT_DATA_FILE,
    P_SNAPSHOT_L1_UNALIGNED,
    P_SNAPSHOT_L1_SIZE,
    P_BITMAP_DIRECTORY,
    P_BITMAP_TABLE,
    P_BITMAP_ENTRY,
    /* refcounts */
    P_REFTABLE_RESERVED,
    P_REFBLOCK_UNALIGNED,
    P_REFBLOCK_OUTSIDE,
    P_REFBLOCK_SHARED,
    P_REFBLOCK_READ,
    P_REFCOUNT_LOW,
    P_REFCOUNT_HIGH,
    P_REBUILD,
    P_NEED_REBUILD,
    P_REBUILD_FAILED,
    P_COPIED_L2,
    P_COPIED_DATA,
    P_WRITE,
    P_COUNT
};

/* ---- counts ---- */

#define CHUNK 64u /* clusters counted together */
struct check_chunk {
    uint32_t refs[CHUNK];   /* found; UINT32_MAX: that many or more */
    uint32_t stored[CHUNK]; /* in the refcount blocks */
};

struct check_refs {
    uint64_t *key; /* chunk number + 1; 0: empty. Open addressing */
    uint32_t *place;
    size_t mask;
    uint32_t used;
    struct check_chunk **slab; /* CHECK_SLAB chunks each */
    uint32_t slabs;
    uint64_t last_key; /* chunk number + 1 of the one used last */
    struct check_chunk *last;
};
#define CHECK_SLAB     1024u
#define CHECK_REFS_MAX ((uint64_t)UINT32_MAX - 1)

struct check_chunk *check_refs_find(const struct check_refs *r, uint64_t chunk);
/* -ENOMEM also beyond QCOW2_CHECK_MEMORY. */
int check_refs_get(struct check_refs *r, uint64_t chunk, struct check_chunk **ret);
/* Chunk numbers in ascending order, malloc'ed. */
int check_refs_sorted(const struct check_refs *r, uint64_t **ret_chunks);
/* Forget what was found, not what is stored. */
void check_refs_clear_found(struct check_refs *r);
/* No count found is larger than @max from now on. */
void check_refs_cap(struct check_refs *r, uint64_t max);
void check_refs_free(struct check_refs *r);

static inline int check_refs_fast(struct check_refs *r, uint64_t cluster, struct check_chunk **ret)
{
    if (LIKELY(r->last_key == cluster / CHUNK + 1)) {
        *ret = r->last;
        return 0;
    }
    return check_refs_get(r, cluster / CHUNK, ret);
}
uint32_t check_stored(const struct check_refs *r, uint64_t cluster);
uint32_t check_found(const struct check_refs *r, uint64_t cluster);

/* ---- the check ---- */

struct check_l2 { /* an L2 table and how many L1 entries name it */
    uint64_t host;
    uint64_t active, inactive;
    bool shared;    /* its cluster is something else, too: it must not be changed in place */
    uint64_t moved; /* host offset of its copy (repair); 0: none */
};

struct check_range { /* clusters */
    uint64_t first, end;
    bool shared; /* with something else */
};

struct check_over { /* a cluster with more references than a refcount can hold */
    uint64_t cluster, excess;
};
#define CHECK_OVERS_MAX 4096 /* more are left for another run */

struct check_snapshot {
    uint64_t l1_offset, at; /* @at: of its entry in the file */
    uint32_t l1_entries;
    uint32_t entry_bytes; /* without padding */
    uint32_t extra_bytes; /* as stored; at most 1024 are kept */
    char *id, *name;
    uint8_t *entry; /* as stored: fixed part, extra data that is kept, id and name */
    bool unusable;  /* its L1 table cannot be read: a repair removes it */
};

struct check {
    struct node *n;
    struct qcow2 *q;
    unsigned fix;
    check_report *report;
    void *opaque;
    struct check_result result;
    uint64_t file_bytes;
    uint64_t clusters;   /* of the file, and those behind it that are referred to */
    bool quiet;          /* count again: everything was told */
    bool count_quiet;    /* but the numbers are wanted */
    bool rebuild;        /* the refcount structure cannot be repaired in place */
    bool no_refs;        /* do not count the refcount structure: it will be replaced */
    bool copied_wrong;   /* a copied flag does not agree with the stored refcount */
    uint64_t structural; /* entries that check_repair.c has to look at */
    bool snapshots_wrong, bitmaps_wrong;
    bool stale_bitmaps;           /* the header mentions some, and nobody vouches for them */
    bool overlaps;                /* metadata that is written in place is something else, too */
    bool reftable_shared;         /* the same of the refcount table */
    struct check_range *in_place; /* what is written in place: sorted, disjoint */
    size_t in_places;
    struct check_over *over; /* CHECK_OVERS_MAX at most */
    size_t overs;
    struct check_refs refs;
    struct check_l2 *l2; /* in the order in which they were met */
    size_t l2_count, l2_max;
    uint32_t *l2_hash; /* index into l2, plus 1 */
    size_t l2_mask;
    struct check_snapshot *snapshot;
    uint32_t snapshots;
    uint64_t snapshots_bytes; /* of the table */
    uint64_t new_first, new_at,
        new_left;   /* repair: host offset of the next new cluster; how many there may be */
    uint8_t *named; /* repair: a bit for each cluster in [named_first, named_end), behind the end of the file,
                       that some entry names; NULL: none */
    uint64_t named_first, named_end;
    uint8_t *header; /* repair: the first cluster as it was found */
    uint8_t *buf;    /* one cluster, or more */
};
#define CHECK_BUF_BYTES(q) MAX((q)->cluster_bytes, 64 * KiB)

/* Tell a problem (@offset: of the bad entry in the file) and count it @times. */
void check_tell(struct check *c, enum problem p, uint64_t times, uint64_t offset, ...);

/* Read; what lies past the end of the file is zeroes. */
co_fn int check_read(struct check *c, uint64_t offset, void *buf, uint64_t bytes);
/* [offset, offset + bytes) is known to be zeroes without reading it. */
co_fn bool check_is_hole(struct check *c, uint64_t offset, uint64_t bytes);
/* Write metadata; everything is checked by the caller. */
co_fn int check_write(struct check *c, uint64_t offset, const void *buf, uint64_t bytes);

/* ---- check_count.c ---- */

/* @weight references to each cluster of the range. */
int check_count_range(struct check *c, uint64_t offset, uint64_t bytes, uint64_t weight, uint64_t entry_at);
/* NULL: no L1 table names an L2 table there. */
struct check_l2 *check_find_l2(const struct check *c, uint64_t host);
/* Count everything. */
co_fn int check_count(struct check *c);
static inline bool check_beyond(const struct check *c, uint64_t offset, uint64_t bytes)
{
    /* the last cluster need not be whole */
    return offset > c->file_bytes || bytes > c->file_bytes - offset + c->q->cluster_bytes - 1;
}

/* ---- check_lists.c ---- */

co_fn int check_load_snapshots(struct check *c);
void check_free_snapshots(struct check *c);
co_fn int check_count_bitmaps(struct check *c);
co_fn int check_repair_snapshots(struct check *c);
co_fn int check_repair_bitmaps(struct check *c);

/* ---- check_compare.c ---- */

co_fn int check_load_stored(struct check *c);
/* Count refcounts that are wrong; repairs those that @fix allows. */
co_fn int check_compare(struct check *c, unsigned fix);
co_fn int check_copied(struct check *c);

/* ---- check_rebuild.c, check_repair.c ---- */

co_fn int check_rebuild(struct check *c);
co_fn int check_repair_entries(struct check *c);
int check_find_overlaps(struct check *c);
/* Something else lies where this range of metadata does. */
bool check_range_shared(const struct check *c, uint64_t offset, uint64_t bytes);
bool check_snapshot_moves(const struct check *c, const struct check_snapshot *s);

/* ---- check_space.c ---- */

/* Something refers to this range, which is not all in the file. */
int check_note_beyond(struct check *c, uint64_t offset, uint64_t bytes);
void check_forget_beyond(struct check *c);
/* The first @count clusters from @first on that nothing behind the end of the file refers to; -ENOSPC. */
int check_unnamed(const struct check *c, uint64_t first, uint64_t count, uint64_t *ret_first);
/* Clusters that nobody uses or names, for metadata; -ENOSPC. */
int check_new_cluster(struct check *c, uint64_t count, uint64_t *ret_host);
/* [host, host + bytes) copied to new clusters. */
co_fn int check_copy_away(struct check *c, uint64_t host, uint64_t bytes, uint64_t *ret_host);

#endif
