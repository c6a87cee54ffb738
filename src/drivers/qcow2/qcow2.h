/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2, inside: what the files of this folder share.
 *
 *   tables.c      field tables of every structure on disk
 *   header.c      the header: parse, refuse
 *   header_write.c  the header changes: all at once
 *   extensions.c  what follows the header; names kept in the image
 *   cache.c       L2 slices and refcount blocks in memory, bounded, with dirty tracking
 *   map.c         where guest bytes live
 *   refcount.c    reference counts and the blocks and table that hold them
 *   alloc.c       places for clusters and bytes; clusters freed once that is safe
 *   l1.c          L2 tables come, the L1 table grows and shrinks
 *   write.c       alloc, commit and abort of guest writes
 *   unmap.c       zeroes and discards
 *   compress.c    compressed clusters
 *   flush.c       the order in which metadata goes down
 *   overlap.c     no write may hit metadata of another kind; damage
 *   change.c      changes that tolerate nobody else
 *   snapshot*.c   internal snapshots (snapshot.h)
 *   bitmap*.c     persistent bitmaps (bitmap.h)
 *   amend.c       changes of what an image was created with
 *   measure.c     how large a new image would be
 *   resize.c      size changes and preallocation
 *   empty.c       all data is dropped
 *   backing.c     files named inside the image
 *   empty.c       an image that keeps nothing of its own
 *   check*.c      damage found and repaired (check.h)
 *   create.c, info.c, dump.c, qcow2.c
 *
 * Order on disk (crash safety): data before the mapping that names it; refcounts up before use, down
 * after; a table before the pointer to it. It is kept like this: refcount blocks in the cache only
 * ever hold counts that are safe to write at any time, because a count goes down (alloc.c) only
 * once the mapping that was dropped is durable and everybody who may still use the cluster is done;
 * and before any L2 slice is written, refcount blocks are, and a flush.
 *
 * Locking: everything that changes metadata holds q->lock, also while it waits. Looking a mapping up
 * does not. Offsets named host are in the file (or data file), those named guest are the disk's.
 */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include "base/bytes.h"
#include "base/field.h"
#include "block/driver.h"
#include "block/event.h"

/* ---- the format ---- */

#define QCOW2_MAGIC            UINT32_C(0x514649fb)
#define QCOW2_V2_HEADER_BYTES  72u
#define QCOW2_V3_HEADER_BYTES  104u /* the least */
#define QCOW2_HEADER_BYTES     112u /* what we know and write */
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21         /* QEMU opens no larger ones */
#define QCOW2_EXT_L2_BITS_MIN  14         /* 32 subclusters of at least 512 bytes */
#define QCOW2_L1_BYTES_MAX     (32 * MiB) /* these bounds are QEMU's: memory stays bounded */
#define QCOW2_REFTABLE_MAX     (8 * MiB)
#define QCOW2_SNAPSHOTS_MAX    65536
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_HOST_END         (UINT64_C(1) << 56) /* mappings reach host offsets below this */
#define QCOW2_SUBCLUSTERS      32

#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* of L1 and L2 entries */
#define QCOW2_REF_MASK    UINT64_C(0xfffffffffffffe00) /* of refcount table entries */
#define QCOW2_COPIED      (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED  (UINT64_C(1) << 62)
#define QCOW2_ZERO        UINT64_C(1)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_ALL_ZERO    (UINT64_C(0xffffffff) << 32) /* subcluster bitmap */

enum { /* incompatible features */
       QCOW2_DIRTY = 1 << 0,
       QCOW2_CORRUPT = 1 << 1,
       QCOW2_DATA_FILE = 1 << 2,
       QCOW2_COMPRESSION = 1 << 3,
       QCOW2_EXT_L2 = 1 << 4,
       QCOW2_INCOMPATIBLE_KNOWN = (1 << 5) - 1,
};
enum { QCOW2_LAZY = 1 << 0 }; /* compatible */
enum {                        /* autoclear */
       QCOW2_BITMAPS = 1 << 0,
       QCOW2_DATA_FILE_RAW = 1 << 1,
       QCOW2_AUTOCLEAR_KNOWN = 3,
};
enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum { QCOW2_DEFLATE, QCOW2_ZSTD };
enum {
    QCOW2_EXT_END = 0,
    QCOW2_EXT_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXT_FEATURES = 0x6803f857,
    QCOW2_EXT_BITMAPS = 0x23852875,
    QCOW2_EXT_CRYPTO = 0x0537be77,
    QCOW2_EXT_DATA_FILE = 0x44415441,
};

struct qcow2_header {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_bytes, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_entries;
    uint64_t l1_offset, reftable_offset;
    uint32_t reftable_clusters, snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_bytes;
    uint8_t compression;
};

struct qcow2_bitmaps_ext {
    uint32_t bitmaps;
    uint64_t directory_bytes, directory_offset;
};
struct qcow2_crypto_ext {
    uint64_t offset, bytes;
};

struct qcow2_snapshot_entry { /* of the snapshot table: the fixed part */
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint16_t id_bytes, name_bytes;
    uint32_t date_s, date_ns;
    uint64_t vm_clock_ns;
    uint32_t vm_state_bytes, extra_bytes;
};
struct qcow2_snapshot_extra {
    uint64_t vm_state_bytes, disk_bytes, icount;
};

struct qcow2_bitmap_entry { /* of the bitmap directory: the fixed part */
    uint64_t table_offset;
    uint32_t table_entries, flags;
    uint8_t type, granularity_bits;
    uint16_t name_bytes;
    uint32_t extra_bytes;
};

/* Field tables (tables.c). */
extern const struct layout qcow2_header_layout, qcow2_extension_layout, qcow2_bitmaps_ext_layout,
    qcow2_crypto_ext_layout, qcow2_feature_layout, qcow2_l1_layout, qcow2_l2_layout, qcow2_l2_bitmap_layout,
    qcow2_reftable_layout, qcow2_snapshot_layout, qcow2_snapshot_extra_layout, qcow2_bitmap_layout,
    qcow2_bitmap_table_layout;

/* ---- state ---- */

/* A header extension that is kept: those we do not interpret, and the feature names. In file order. */
struct qcow2_extension {
    struct list link;
    uint32_t type, bytes;
    uint8_t data[];
};

struct qcow2_cache;
struct qcow2_entry {          /* a cached slice of an L2 table, or a refcount block */
    struct list link;         /* among the clean ones by last use, or among the dirty ones */
    struct qcow2_entry *next; /* same hash */
    uint64_t offset;
    uint8_t *data; /* as on disk */
    unsigned refs;
    bool dirty, loading;
    struct co_queue loaded;
};

struct qcow2_run { /* clusters in a row */
    uint64_t cluster;
    uint32_t count;
    bool discard; /* give the space back to the host */
};
struct qcow2_runs {
    struct qcow2_run *run;
    size_t n, max;
};

/* A write between alloc and commit: its clusters belong to it. */
struct qcow2_write {
    struct list link;
    uint64_t guest, bytes; /* whole clusters */
    uint64_t host;         /* of its first cluster */
    uint64_t from, to;     /* what will be written, copied edges included: guest offsets */
    bool keep;             /* the clusters were there before: only bits change */
    bool prealloc;         /* nothing is written: subclusters stay unallocated */
    struct co_queue waiters;
};

struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint32_t date_s, date_ns;
    uint64_t vm_clock_ns, vm_state_bytes, disk_bytes;
    uint64_t icount; /* UINT64_MAX: none */
    char *id, *name;
    uint8_t *unknown; /* extra data behind what we know; kept */
    uint32_t unknown_bytes;
};

struct qcow2_bitmap {
    char *name;
    uint64_t table_offset, new_offset; /* 0: none yet */
    uint32_t table_entries, new_entries;
    uint8_t granularity_bits;
    bool enabled;      /* records writes */
    bool inconsistent; /* the image was not closed cleanly, or it could not be loaded */
    bool in_use;       /* the file says so, for our sake */
    bool entering;     /* it is about to */
    bool changed;      /* other than in the file */
    uint8_t *bits;     /* NULL: not loaded */
    uint64_t bits_max; /* how many there are in memory */
};

enum qcow2_option_switch { QCOW2_DEFAULT, QCOW2_OFF, QCOW2_ON };
enum { QCOW2_OVERLAP_NONE, QCOW2_OVERLAP_CONSTANT, QCOW2_OVERLAP_CACHED, QCOW2_OVERLAP_ALL };

struct qcow2 {
    /* options */
    int lazy_refcounts; /* enum qcow2_option_switch */
    int discard_request, discard_snapshot, discard_other;
    int overlap_check;
    uint64_t cache_bytes, l2_cache_bytes, l2_entry_bytes, refcount_cache_bytes;
    uint64_t clean_interval;
    char *open_snapshot;

    struct qcow2_header h;                           /* as on disk, kept up to date */
    char *backing_name, *backing_format, *data_name; /* as stored in the image; NULL: none */
    struct list extensions;                          /* struct qcow2_extension */
    uint8_t *header_tail;                            /* header bytes behind those we know */
    bool has_bitmaps, has_crypto;
    struct qcow2_bitmaps_ext bitmaps;
    struct qcow2_crypto_ext crypto;

    /* derived from the header */
    uint64_t cluster_bytes;
    unsigned cluster_bits, l2_bits, slice_bits; /* an L2 table has 2^l2_bits entries, a slice 2^slice_bits */
    unsigned l2_entry_bytes_each;               /* 8 or 16 */
    unsigned subclusters, sub_bits;             /* per cluster; bytes of one are 2^sub_bits */
    unsigned ref_bits_order, refblock_bits;     /* a refcount block has 2^refblock_bits entries */
    uint64_t ref_max;
    uint64_t vmstate_offset; /* guest offset where the VM state area begins */

    struct node *data;    /* guest clusters live there: the file, or the data file */
    struct node *backing; /* NULL: none */
    uint64_t *l1;         /* h.l1_entries of them, in host order */
    uint64_t *reftable;
    uint32_t reftable_entries;
    struct qcow2_cache *l2_cache, *ref_cache;

    struct qcow2_snapshot *snapshot; /* snapshots_read of them; while the list changes: not h.snapshots */
    uint32_t snapshots_read;
    uint64_t snapshots_bytes; /* of the table in the file */

    struct qcow2_bitmap *bitmap; /* bitmaps_read of them */
    uint32_t bitmaps_read;
    uint64_t bitmaps_loaded; /* bytes of bits in memory */
    bool bitmaps_changed;    /* the list, or bits, other than by writes of the guest */

    struct co_mutex lock;
    bool frozen;             /* mappings are about to be shared: nothing is overwritten without the lock */
    struct list writes;      /* struct qcow2_write in flight */
    struct list free_writes; /* spare ones */

    uint64_t free_hint;        /* no free cluster lies below this index */
    uint64_t byte_hint;        /* where the next compressed data may go; 0: nowhere */
    uint64_t changes, flushed; /* writes that an L2 entry needs durable first; those a flush covered */
    struct qcow2_runs dropped; /* the mapping that dropped them is not durable */
    struct qcow2_runs durable; /* it is; requests may still use them */
    struct qcow2_runs waiting; /* for the requests of phase !phase to end */
    unsigned phase, active[2]; /* requests in flight that may use a mapping they looked up */

    struct qcow2_meta_set *meta; /* clusters that hold L2 tables and refcount blocks; NULL: not built */
    bool corrupt;                /* found damaged: no more writes */
    bool told_corrupt;
    bool dirty;          /* the dirty bit is set by us: refcounts on disk may be behind */
    bool dirty_bit_ours; /* for that reason, or another (qcow2_guard) */
    bool marks_wrong;    /* "ours alone" does not agree with the refcounts: the dirty bit has to stay */
    bool written;        /* something was written since it was opened */
    bool began;          /* bitmaps know of it */
    bool broken_refs;    /* opened for check: refcounts could not be loaded */
};

static inline struct qcow2 *qcow2_of(const struct node *n)
{
    return n->state;
}

static inline struct node *qcow2_file(const struct node *n)
{
    return node_below(n);
}

static inline void qcow2_event(struct node *n, enum block_event event)
{
    node_event(qcow2_file(n), event);
}

static inline bool qcow2_lazy(const struct qcow2 *q)
{
    return q->lazy_refcounts == QCOW2_ON ||
           (q->lazy_refcounts == QCOW2_DEFAULT && (q->h.compatible & QCOW2_LAZY));
}

/* What a change of a corrupt image gets: under the names of QEMU's tools, after damage, as from them. */
static inline int qcow2_refused(const struct node *n)
{
    return n->graph->standin && qcow2_of(n)->told_corrupt ? -ENOMEDIUM : -EIO;
}

static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
    return q->h.incompatible & QCOW2_DATA_FILE;
}

static inline uint64_t qcow2_cluster_of(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->cluster_bits;
}

static inline uint64_t qcow2_in_cluster(const struct qcow2 *q, uint64_t offset)
{
    return offset & (q->cluster_bytes - 1);
}

/* Bytes of guest one L2 table maps, as a shift. */
static inline unsigned qcow2_l1_shift(const struct qcow2 *q)
{
    return q->cluster_bits + q->l2_bits;
}

/* ---- io.c: metadata in the file ---- */

enum qcow2_part {
    QCOW2_PART_HEADER = 1 << 0,
    QCOW2_PART_L1 = 1 << 1,
    QCOW2_PART_L2 = 1 << 2,
    QCOW2_PART_REFBLOCK = 1 << 3,
    QCOW2_PART_REFTABLE = 1 << 4,
    QCOW2_PART_SNAPSHOTS = 1 << 5,
    QCOW2_PART_INACTIVE_L1 = 1 << 6,
    QCOW2_PART_INACTIVE_L2 = 1 << 7,
    QCOW2_PART_BITMAPS = 1 << 8,
    QCOW2_PART_COUNT = 9,
};

/* -EIO when it does not lie within the file. */
co_fn int qcow2_read_meta(struct node *n, uint64_t host, void *buf, uint64_t bytes);
/* Refused if it would hit metadata other than the @allowed parts. */
co_fn int qcow2_write_meta(struct node *n, unsigned allowed, uint64_t host, const void *buf, uint64_t bytes);
/* A table of big-endian numbers into host order; malloc'ed (never NULL on success). */
co_fn int qcow2_read_table(struct node *n, uint64_t host, uint64_t entries, uint64_t **ret_table);
co_fn int qcow2_write_table(struct node *n, unsigned allowed, uint64_t host, const uint64_t *table,
                            uint64_t entries);

/* ---- header.c, header_write.c, extensions.c ---- */

/* Read and check the header of @n's file; fills q->h and what is derived. */
co_fn int qcow2_read_header(struct node *n, struct err *err);
/* Parse the extensions in @bytes (from the header's end to the cluster's end or the backing name). */
int qcow2_parse_extensions(struct node *n, const uint8_t *bytes, uint64_t len, uint64_t offset,
                           struct err *err);
/* Render header, extensions and backing name as the first cluster. -ENOSPC if it does not fit. */
int qcow2_render_header(const struct qcow2 *q, uint8_t *cluster);
/* One that says the same with the first sector (without feature names), and the backing file's name at
 * @name_at. */
int qcow2_render_bridge(const struct qcow2 *q, uint64_t name_at, uint8_t *cluster);
/* Write the first cluster afresh (header and extensions). These three: durable when it returns; if it failed
 * the header is as it was, or nothing will be written any more. */
co_fn int qcow2_write_header(struct node *n);
/* Some of its bytes, within one sector. */
co_fn int qcow2_switch_header(struct node *n, uint64_t offset, const void *bytes, uint64_t len);
/* Only one field, by its name in the field table. */
co_fn int qcow2_write_header_field(struct node *n, const char *name);
int qcow2_set_derived(struct qcow2 *q);
int qcow2_add_extension(struct qcow2 *q, uint32_t type, const void *data, uint32_t bytes);
void qcow2_free_extensions(struct qcow2 *q);
/* QEMU's feature name table. */
size_t qcow2_feature_names(uint8_t *ret_bytes); /* NULL: only the length */
#define QCOW2_FEATURE_NAMES_BYTES (8 * 48)

/* ---- cache.c ---- */

enum qcow2_cache_kind { QCOW2_CACHE_L2, QCOW2_CACHE_REF };

struct qcow2_cache *qcow2_cache_create(struct node *n, enum qcow2_cache_kind kind, uint64_t entry_bytes,
                                       uint64_t bytes);
void qcow2_cache_destroy(struct qcow2_cache *c);
/* The entry if it is here and loaded; no reference is taken: use it before waiting. */
struct qcow2_entry *qcow2_cache_peek(struct qcow2_cache *c, uint64_t offset);
/* Load it if need be and take a reference. @locked: q->lock is held by the caller. */
co_fn int qcow2_cache_get(struct qcow2_cache *c, uint64_t offset, bool locked, struct qcow2_entry **ret);
/* An entry whose content is all zeroes and will be written: nothing is read. Lock held. */
co_fn int qcow2_cache_new(struct qcow2_cache *c, uint64_t offset, struct qcow2_entry **ret);
void qcow2_cache_put(struct qcow2_cache *c, struct qcow2_entry *e);
void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_entry *e);
bool qcow2_cache_is_dirty(const struct qcow2_cache *c);
uint64_t qcow2_cache_entry_bytes(const struct qcow2_cache *c);
/* Write all dirty entries in the order they became dirty. No ordering with anything else: see
 * flush.c. Lock held. */
co_fn int qcow2_cache_write(struct qcow2_cache *c);
/* Forget what is cached of [offset, offset + bytes), dirty or not. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset, uint64_t bytes);
/* Forget everything; nothing may be dirty. */
void qcow2_cache_empty(struct qcow2_cache *c);

/* ---- map.c ---- */

enum qcow2_type { /* of a subcluster, or of a cluster without them */
                  QCOW2_UNALLOCATED,
                  QCOW2_UNALLOCATED_ALLOC, /* its cluster is there, it is not (extended L2) */
                  QCOW2_ZERO_PLAIN,
                  QCOW2_ZERO_ALLOC, /* reads as zeroes, has a place */
                  QCOW2_NORMAL,
                  QCOW2_IS_COMPRESSED,
                  QCOW2_INVALID,
};

struct qcow2_l2 { /* one L2 entry */
    uint64_t entry, bitmap;
};

static inline bool qcow2_l2_has_host(const struct qcow2 *q, struct qcow2_l2 e)
{
    return !(e.entry & QCOW2_COMPRESSED) &&
           ((e.entry & QCOW2_OFFSET_MASK) || (qcow2_has_data_file(q) && (e.entry & QCOW2_COPIED)));
}

enum qcow2_type qcow2_sub_type(const struct qcow2 *q, struct qcow2_l2 e, unsigned sub);
struct qcow2_l2 qcow2_l2_get(const struct qcow2 *q, const struct qcow2_entry *slice, unsigned index);
void qcow2_l2_set(struct node *n, struct qcow2_entry *slice, unsigned index, struct qcow2_l2 e);
/* The slice that maps @guest; *ret NULL when there is no L2 table. Takes a reference. */
co_fn int qcow2_get_slice(struct node *n, uint64_t guest, bool locked, struct qcow2_entry **ret);
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t guest)
{
    return (unsigned)(guest >> q->cluster_bits) & ((1u << q->slice_bits) - 1);
}
/* Is what the entry says possible? If not: damage is told, -EIO. */
co_fn int qcow2_check_l2(struct node *n, uint64_t guest, const struct qcow2_entry *slice, struct qcow2_l2 e);
co_fn int qcow2_map(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *ret);

/* ---- refcount.c ---- */

co_fn int qcow2_load_reftable(struct node *n, struct err *err);
/* Host offset of refcount block number @index; 0: there is none. -EIO, and the image is marked corrupt, where
 * no block can be. */
co_fn int qcow2_refblock(struct node *n, uint64_t index, uint64_t *ret);
co_fn int qcow2_get_refcount(struct node *n, uint64_t cluster, uint64_t *ret);
/* Add @by to the refcounts of @count clusters; undone if it fails. -EAGAIN: a new refcount block
 * was made, which may have taken the clusters meant: choose again. Lock held. */
co_fn int qcow2_add_refcounts(struct node *n, uint64_t cluster, uint64_t count, int by);
uint64_t qcow2_read_ref(const uint8_t *block, uint64_t index, unsigned order);
void qcow2_write_ref(uint8_t *block, uint64_t index, unsigned order, uint64_t value);

/* ---- alloc.c: lock held ---- */

/* @count free clusters in a row, their refcounts now 1: the host offset of the first. Raises
 * cluster_alloc. */
co_fn int qcow2_alloc_clusters(struct node *n, uint64_t count, uint64_t *ret_host);
/* The same without event and without refcount change. */
co_fn int qcow2_find_free(struct node *n, uint64_t count, uint64_t *ret_cluster);
/* As many of @count clusters from @host on as are free: *ret_count may be 0. */
co_fn int qcow2_alloc_at(struct node *n, uint64_t host, uint64_t count, uint64_t *ret_count);
/* Room for @bytes of compressed data. */
co_fn int qcow2_alloc_bytes(struct node *n, uint64_t bytes, uint64_t *ret_host);
/* Clusters that nothing refers to (an undone alloc): free at once. */
co_fn void qcow2_release(struct node *n, uint64_t host, uint64_t bytes);
/* Drop one reference of each cluster that [host, host + bytes) touches. @durable: the mapping that
 * was dropped is known to be durable. Otherwise they are free once it is. */
enum qcow2_free_kind { QCOW2_FREE_REQUEST, QCOW2_FREE_SNAPSHOT, QCOW2_FREE_OTHER };
co_fn void qcow2_free(struct node *n, uint64_t host, uint64_t bytes, enum qcow2_free_kind kind, bool durable);
/* What an L2 entry refers to. */
co_fn void qcow2_free_l2(struct node *n, struct qcow2_l2 e, enum qcow2_free_kind kind);
/* The mappings that dropped clusters are durable now; count down what can be. */
void qcow2_dropped_are_durable(struct qcow2 *q);
co_fn int qcow2_reap(struct node *n);
bool qcow2_frees_pending(const struct qcow2 *q);
void qcow2_free_runs(struct qcow2_runs *r);

/* ---- l1.c: lock held ---- */

/* Make sure that an L2 table of ours alone maps @guest. */
co_fn int qcow2_need_l2(struct node *n, uint64_t guest);
/* At least @entries; @exact: no more than that. */
co_fn int qcow2_grow_l1(struct node *n, uint64_t entries, bool exact);
co_fn int qcow2_shrink_l1(struct node *n, uint64_t entries);
co_fn int qcow2_write_l1_entry(struct node *n, uint32_t index);
static inline uint64_t qcow2_l1_needed(const struct qcow2 *q, uint64_t size)
{
    unsigned shift = qcow2_l1_shift(q);

    return (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
}

/* ---- write.c, unmap.c, compress.c ---- */

co_fn int qcow2_alloc(struct node *n, uint64_t offset, uint64_t bytes, struct placement *p);
co_fn int qcow2_commit(struct node *n, struct placement *p);
co_fn void qcow2_abort(struct node *n, struct placement *p);
/* Wait (giving the lock up meanwhile) until no write in flight overlaps. */
co_fn void qcow2_wait_for_writes(struct node *n, uint64_t guest, uint64_t bytes);
co_fn int qcow2_unmap(struct node *n, uint64_t offset, uint64_t bytes, bool discard, unsigned flags);
/* Drop mappings of whole clusters so that nothing of them is left (truncate). Lock held. */
co_fn int qcow2_drop_range(struct node *n, uint64_t offset, uint64_t bytes);
co_fn int qcow2_read_compressed(struct node *n, const struct mapping *m, uint64_t offset,
                                const struct iovec *iov, int niov, uint64_t bytes);
co_fn int qcow2_write_compressed(struct node *n, struct req *r);
/* Host bytes that a compressed entry names. */
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_bytes);

/* ---- flush.c: lock held ---- */

/* Everything dirty goes down in the right order. Ends without a flush unless one is needed. */
co_fn int qcow2_write_back(struct node *n);
/* The same, and all of it is durable. */
co_fn int qcow2_settle(struct node *n);
co_fn int qcow2_flush_children(struct node *n);
/* The same for the format: takes the lock, and gives it up for the flush. */
co_fn int qcow2_flush(struct node *n);
/* Refcounts on disk will be behind from now on: say so first. */
co_fn int qcow2_mark_dirty(struct node *n);
/* What cannot be changed at once is about to disagree on disk (counts, and the marks that depend on them):
 * a crash in between is repaired when the image is next opened. Version 2 has no way to say so. */
co_fn int qcow2_guard(struct node *n);
/* Settles, and takes back what was said. */
co_fn int qcow2_mark_clean(struct node *n);

/* ---- overlap.c ---- */

/* About to write @bytes at @host of the file, which is to hit nothing but the parts @allowed: 0, or
 * -EIO after the image was marked corrupt. */
co_fn int qcow2_check_write(struct node *n, unsigned allowed, uint64_t host, uint64_t bytes);
/* Tell that the image is damaged. @fatal: mark it so and turn read-only. */
co_fn void qcow2_damaged(struct node *n, bool fatal, const char *fmt, ...) PRINTF(3, 4);
/* It cannot be known what the tables on disk say: no more writes, until it is opened again. */
void qcow2_give_up(struct node *n);
/* Keep the set of metadata clusters true: entries of the L1 and the refcount table changed. */
void qcow2_meta_add(struct qcow2 *q, uint64_t host, enum qcow2_part part);
void qcow2_meta_remove(struct qcow2 *q, uint64_t host);
void qcow2_meta_reset(struct qcow2 *q); /* rebuilt when next needed */

/* ---- change.c ---- */

/* For changes of what others rely on without the lock: takes it when nothing is in flight, everything
 * settled, and lets nothing through to the data until the end. end_change is called in any case; it
 * settles if @r is 0, and returns @r or what went wrong with that. */
co_fn int qcow2_begin_change(struct node *n);
co_fn int qcow2_end_change(struct node *n, int r);

/* ---- snapshot*.c ---- */

extern const struct snapshot_ops qcow2_snapshot_ops;
co_fn int qcow2_load_snapshots(struct node *n, struct err *err);
void qcow2_free_snapshots(struct qcow2 *q);
/* Put the list in memory in force, with everything that it needs. Lock held. */
co_fn int qcow2_write_snapshots(struct node *n);
/* The option "snapshot": the node shows what that one holds. */
co_fn int qcow2_open_snapshot(struct node *n, struct err *err);
/* By its place in the list; negative: there is none. */
co_fn int qcow2_show_snapshot(struct node *n, int index, struct err *err);

/* ---- bitmap*.c ---- */

extern const struct bitmap_ops qcow2_bitmap_ops;
co_fn int qcow2_load_bitmaps(struct node *n, struct err *err);
void qcow2_free_bitmaps(struct qcow2 *q);
/* Before the first change of guest data, and after the last. Lock held. */
co_fn int qcow2_bitmaps_begin(struct node *n);
co_fn int qcow2_bitmaps_end(struct node *n);
/* The range is about to change. */
void qcow2_mark_written(struct qcow2 *q, uint64_t offset, uint64_t bytes);
/* Before and after the size changes. Lock held. */
co_fn int qcow2_bitmaps_may_resize(struct node *n, struct err *err);
co_fn int qcow2_bitmaps_resize(struct node *n, uint64_t before);

/* ---- resize.c, empty.c, backing.c, info.c, create.c ---- */

co_fn int qcow2_truncate(struct node *n, uint64_t size, unsigned flags, struct err *err);
/* Map (and allocate) everything in [offset, offset + bytes). */
co_fn int qcow2_preallocate(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags);
co_fn int qcow2_open_backing(struct node *n, struct err *err);
/* The name and format in the header; NULL or "": none. -ENOSPC if they do not fit. */
co_fn int qcow2_change_backing(struct node *n, const char *name, const char *format);
/* Everything reads as the backing file does. */
co_fn int qcow2_make_empty(struct node *n);
co_fn int qcow2_open_data_file(struct node *n, struct err *err);
/* The plain path a name inside an image stands for, relative to the image's folder. */
int qcow2_resolve_name(const struct node *n, const char *name, const char *what, char **ret_path,
                       struct err *err);
co_fn int qcow2_dump(struct node *n, dump_out *out, void *opaque, struct err *err);
co_fn json_t *qcow2_info(struct node *n);
co_fn json_t *qcow2_image_info(struct node *n);
/* What a new image is to be like; filled from the options. */
struct qcow2_create {
    uint64_t size_bytes; /* only its place in the text: create() is given the size */
    int compat, preallocation, compression;
    uint64_t cluster_bytes, refcount_bits;
    bool lazy_refcounts, extended_l2, data_file_raw;
    char *backing_file, *backing_format, *data_file, *encryption_format;
    bool encryption;
};
extern const struct option qcow2_create_options[], qcow2_amend_options[];
int qcow2_check_create(const struct qcow2_create *c, uint64_t size, struct err *err);
/* Is room for all guest data made at once? */
bool qcow2_prealloc_takes_space(const struct qcow2_create *c);
co_fn int qcow2_measure(void *create_state, struct node *source, uint64_t size, uint64_t *ret_required,
                        uint64_t *ret_full, struct err *err);
/* What the bitmaps in a list of an image of @size bytes would take in the new one. */
uint64_t qcow2_measure_bitmaps(const void *create_state, const json_t *bitmaps, uint64_t size);
co_fn int qcow2_amend(struct node *n, json_t *options, const struct progress *progress, struct err *err);
co_fn int qcow2_create(struct graph *g, const char *filename, void *create_state, uint64_t size,
                       struct err *err);

/* ---- check.c ---- */

extern const struct check_ops qcow2_check_ops;

#endif
