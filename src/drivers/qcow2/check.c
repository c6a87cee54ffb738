/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2 check: the problem table, and the order of the steps. Counts are found first, then compared; a
 * repair mends entries that cannot be right, then refcounts, then copied flags, each on the ground of the
 * one before. The sentences are those of qemu-img, which scripts know.
 */
#include "drivers/qcow2/check.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- the problem table ---- */

enum repair {
    R_NONE,
    R_LEAKS, /* -r leaks */
    R_ALL,   /* -r all */
    R_LATER, /* -r all, once everything is counted: then it is told as found, not as being repaired */
};

static const struct row {
    const char *code;
    enum check_severity severity;
    enum repair repair;
    const char *prefix; /* while it is not repaired */
    const char *sentence;
} rows[P_COUNT] = {
    [P_TABLE_READ_L1] = {"l1-read", CHECK_ERROR, R_NONE, "ERROR: ", "I/O error in check_refcounts_l1"},
    [P_TABLE_READ_L2] = {"l2-read", CHECK_ERROR, R_NONE, "ERROR: ", "I/O error in check_refcounts_l2"},
    [P_BEYOND_END] = {"beyond-end", CHECK_CORRUPTION, R_LATER, "ERROR: ",
                      "counting reference for region exceeding the end of the file by one cluster or more: "
                      "offset 0x%" PRIx64 " size 0x%" PRIx64},
    [P_OVERFLOW] = {"refcount-overflow", CHECK_CORRUPTION, R_LATER, "ERROR: ",
                    "overflow cluster offset=0x%" PRIx64 "\n"
                    "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a "
                    "clean copy if the image cannot be opened for writing"},
    [P_L1_RESERVED] = {"l1-reserved", CHECK_CORRUPTION, R_LATER, "ERROR ",
                       "found L1 entry with reserved bits set: %" PRIx64},
    [P_L1_UNALIGNED] = {"l1-unaligned", CHECK_CORRUPTION, R_LATER, "ERROR ",
                        "l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted"},
    [P_L2_RESERVED] = {"l2-reserved", CHECK_CORRUPTION, R_LATER, "ERROR ",
                       "found l2 entry with reserved bits set: %" PRIx64},
    [P_L2_COMPRESSED_COPIED] = {"compressed-copied", CHECK_CORRUPTION, R_LATER, "ERROR: ",
                                "coffset=0x%" PRIx64
                                ": copied flag must never be set for compressed clusters"},
    [P_L2_COMPRESSED_DATA_FILE] = {"compressed-data-file", CHECK_CORRUPTION, R_LATER, "ERROR ",
                                   "compressed cluster %d with data file, entry=0x%" PRIx64},
    [P_L2_COMPRESSED_BITMAP] = {"compressed-subclusters", CHECK_CORRUPTION, R_LATER, "ERROR ",
                                "compressed cluster %d with non-zero subcluster allocation bitmap, "
                                "entry=0x%" PRIx64},
    [P_L2_SUBCLUSTERS] = {"subclusters", CHECK_CORRUPTION, R_LATER, "ERROR ",
                          "offset=%" PRIx64 ": Allocated cluster has corrupted subcluster allocation bitmap"},
    [P_L2_ZERO_UNALIGNED] = {"zero-unaligned", CHECK_CORRUPTION, R_ALL, "ERROR ",
                             "offset=%" PRIx64
                             ": Preallocated cluster is not properly aligned; L2 entry corrupted."},
    [P_L2_UNALIGNED] = {"data-unaligned", CHECK_CORRUPTION, R_LATER, "ERROR ",
                        "offset=%" PRIx64 ": Data cluster is not properly aligned; L2 entry corrupted."},
    [P_L2_UNALLOCATED_BITMAP] = {"unallocated-subclusters", CHECK_CORRUPTION, R_LATER,
                                 "ERROR: ", "Unallocated cluster has non-zero subcluster allocation map"},
    [P_SNAPSHOT_COUNT] = {"snapshot-count", CHECK_CORRUPTION, R_ALL, "ERROR ",
                          "%u snapshots are more than an image may have"},
    [P_SNAPSHOT_TABLE] = {"snapshot-table", CHECK_ERROR, R_NONE, "ERROR ",
                          "failed to read the snapshot table: %s"},
    [P_SNAPSHOT_EXTRA] = {"snapshot-extra", CHECK_CORRUPTION, R_LATER, "",
                          "Discarding too much extra metadata in snapshot table entry %i (%u > %u)"},
    [P_SNAPSHOT_INCOMPLETE] = {"snapshot-incomplete", CHECK_CORRUPTION, R_ALL, "ERROR ",
                               "snapshot table entry %i is incomplete"},
    [P_SNAPSHOT_BEYOND] = {"snapshot-beyond-end", CHECK_CORRUPTION, R_LATER, "ERROR ",
                           "snapshot table entry %i lies behind the end of the file"},
    [P_SNAPSHOT_DATA_FILE] = {"snapshot-data-file", CHECK_CORRUPTION, R_LATER, "ERROR ",
                              "%d snapshots in image with data file"},
    [P_SNAPSHOT_L1_UNALIGNED] = {"snapshot-l1-unaligned", CHECK_CORRUPTION, R_LATER, "ERROR ",
                                 "snapshot %s (%s) l1_offset=%#" PRIx64
                                 ": L1 table is not cluster aligned; snapshot table entry corrupted"},
    [P_SNAPSHOT_L1_SIZE] = {"snapshot-l1-size", CHECK_CORRUPTION, R_LATER, "ERROR ",
                            "snapshot %s (%s) l1_size=%#" PRIx32
                            ": L1 table is too large; snapshot table entry corrupted"},
    [P_BITMAP_DIRECTORY] = {"bitmap-directory", CHECK_CORRUPTION, R_LATER, "ERROR ", "bitmap directory: %s"},
    [P_BITMAP_TABLE] = {"bitmap-table", CHECK_CORRUPTION, R_LATER, "ERROR ",
                        "table of bitmap %s cannot be read"},
    [P_BITMAP_ENTRY] = {"bitmap-entry", CHECK_CORRUPTION, R_LATER, "ERROR ",
                        "bitmap table entry %" PRIx64 " is invalid"},
    [P_REFTABLE_RESERVED] = {"reftable-reserved", CHECK_CORRUPTION, R_LATER, "ERROR ",
                             "refcount table entry %" PRId64 " has reserved bits set"},
    [P_REFBLOCK_UNALIGNED] = {"refblock-unaligned", CHECK_CORRUPTION, R_LATER, "ERROR ",
                              "refcount block %" PRId64
                              " is not cluster aligned; refcount table entry corrupted"},
    [P_REFBLOCK_OUTSIDE] = {"refblock-outside", CHECK_CORRUPTION, R_ALL, "ERROR ",
                            "refcount block %" PRId64 " is outside image"},
    [P_REFBLOCK_SHARED] = {"refblock-shared", CHECK_CORRUPTION, R_LATER, "ERROR ",
                           "refcount block %" PRId64 " refcount=%" PRIu64},
    [P_REFBLOCK_READ] = {"refblock-read", CHECK_ERROR, R_NONE, "ERROR ",
                         "refcount block %" PRId64 " cannot be read: %s"},
    [P_REFCOUNT_LOW] = {"refcount-low", CHECK_CORRUPTION, R_ALL, "ERROR ",
                        "cluster %" PRId64 " refcount=%" PRIu64 " reference=%" PRIu64},
    [P_REFCOUNT_HIGH] = {"refcount-high", CHECK_LEAK, R_LEAKS, "Leaked ",
                         "cluster %" PRId64 " refcount=%" PRIu64 " reference=%" PRIu64},
    [P_REBUILD] = {"rebuild", CHECK_NOTE, R_NONE, "", "Rebuilding refcount structure"},
    [P_NEED_REBUILD] = {"need-rebuild", CHECK_NOTE, R_NONE, "ERROR ", "need to rebuild refcount structures"},
    [P_REBUILD_FAILED] = {"rebuild-failed", CHECK_NOTE, R_NONE, "ERROR ",
                          "no refcount structure could be written: %s"},
    [P_COPIED_L2] = {"copied-l2", CHECK_CORRUPTION, R_ALL, "ERROR ",
                     "OFLAG_COPIED L2 cluster: l1_index=%d l1_entry=%" PRIx64 " refcount=%" PRIu64},
    [P_COPIED_DATA] = {"copied-data", CHECK_CORRUPTION, R_ALL, "ERROR ",
                       "OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64},
    [P_OVERLAP] = {"overlap", CHECK_CORRUPTION, R_ALL, "ERROR ",
                   "metadata that is also used as something else"},
    [P_WRITE] = {"write", CHECK_ERROR, R_NONE, "ERROR ", "metadata could not be written: %s"},
};

static bool repaired_now(const struct check *c, const struct row *row)
{
    return (row->repair == R_ALL && (c->fix & CHECK_FIX_ERRORS)) ||
           (row->repair == R_LEAKS && (c->fix & CHECK_FIX_LEAKS));
}

void check_tell(struct check *c, enum problem p, uint64_t times, uint64_t offset, ...)
{
    const struct row *row = &rows[p];
    char text[768], sentence[640];
    bool repaired = repaired_now(c, row);
    va_list ap;

    if (c->quiet && row->severity == CHECK_CORRUPTION && !c->count_quiet) {
        return;
    }
    uint64_t *count = row->severity == CHECK_LEAK         ? &c->result.leaks
                      : row->severity == CHECK_CORRUPTION ? &c->result.corruptions
                      : row->severity == CHECK_ERROR      ? &c->result.check_errors
                                                          : NULL;
    if (count) {
        *count += times;
    }
    if (!c->report || c->quiet) {
        return;
    }
    va_start(ap, offset);
    vsnprintf(sentence, sizeof(sentence), row->sentence, ap);
    va_end(ap);
    snprintf(text, sizeof(text), "%s%s", repaired ? "Repairing " : row->prefix, sentence);
    c->report(c->opaque, &(struct check_problem){row->code, row->severity, repaired, offset, text});
}

/* ---- the file ---- */

int check_read(struct check *c, uint64_t offset, void *buf, uint64_t bytes)
{
    uint64_t have = offset < c->file_bytes ? MIN(bytes, c->file_bytes - offset) : 0;

    memset((uint8_t *)buf + have, 0, bytes - have);
    return have ? qcow2_read_meta(c->n, offset, buf, have) : 0;
}

bool check_is_hole(struct check *c, uint64_t offset, uint64_t bytes)
{
    struct extent e = {0};

    if (bytes < 256 * KiB) { /* asking costs as much as reading */
        return false;
    }
    bytes = MIN(bytes, c->file_bytes - MIN(offset, c->file_bytes));
    return bytes == 0 ||
           (node_status(qcow2_file(c->n), offset, bytes, &e) == 0 && e.zero && e.bytes >= bytes);
}

int check_write(struct check *c, uint64_t offset, const void *buf, uint64_t bytes)
{
    int r = node_write(qcow2_file(c->n), offset, buf, bytes, REQ_GROW);

    if (r < 0) {
        check_tell(c, P_WRITE, 1, offset, err_name(r));
    }
    c->file_bytes = MAX(c->file_bytes, node_size(qcow2_file(c->n)));
    return r;
}

/* ---- steps ---- */

/* Mend entries, and count again what there is now. */
static co_fn int repair_entries(struct check *c)
{
    uint64_t found = c->result.corruptions;

    c->header = calloc(1, c->q->cluster_bytes);
    int r = c->header ? check_read(c, 0, c->header, c->q->cluster_bytes) : -ENOMEM;
    r = r < 0 ? r : check_repair_entries(c);

    if (r < 0) {
        return r;
    }
    c->quiet = c->count_quiet = true;
    c->result.corruptions = 0;
    r = check_count(c);
    c->quiet = c->count_quiet = false;
    uint64_t left = c->result.corruptions;
    c->result.corruptions_fixed += found - MIN(found, left);
    return r;
}

static co_fn int fix_refcounts(struct check *c)
{
    if (c->rebuild && (c->fix & CHECK_FIX_ERRORS)) {
        return check_rebuild(c);
    }
    if (c->rebuild && c->fix) {
        check_tell(c, P_NEED_REBUILD, 1, UINT64_MAX);
        return -EIO;
    }
    return 0;
}

/* Found counts against stored ones; first told, then repaired. */
static co_fn int compare(struct check *c)
{
    struct check_result before = c->result;
    bool rebuild = c->rebuild;

    check_refs_cap(&c->refs, c->q->ref_max);
    int r = check_compare(c, 0);

    if (r < 0 || !c->fix) {
        return r;
    }
    if (c->rebuild) {
        return fix_refcounts(c);
    }
    if (c->result.leaks || c->result.corruptions != before.corruptions) {
        uint64_t end = c->result.image_end;
        c->result = before;
        c->result.image_end = end;
        c->rebuild = rebuild;
        r = check_compare(c, c->fix);
    }
    return r;
}

/* Bitmaps that say nothing any more are not mentioned, either. */
static co_fn int drop_stale_bitmaps(struct check *c)
{
    struct qcow2 *q = c->q;

    q->has_bitmaps = false;
    qcow2_meta_reset(q);
    return qcow2_write_header(c->n);
}

static co_fn int finish_repair(struct check *c)
{
    struct qcow2 *q = c->q;
    uint64_t bits = QCOW2_DIRTY | QCOW2_CORRUPT;

    if (!c->fix || c->result.check_errors || c->result.corruptions) {
        return 0;
    }
    if (c->stale_bitmaps && drop_stale_bitmaps(c) < 0) {
        return -EIO;
    }
    if (!(q->h.incompatible & bits)) {
        return 0;
    }
    int r = node_flush(qcow2_file(c->n)); /* all that was repaired first */
    if (r == 0) {
        q->h.incompatible &= ~bits;
        uint8_t bytes[8];
        put_be64(bytes, q->h.incompatible);
        r = check_write(c, 72, bytes, sizeof(bytes));
    }
    return r < 0 ? r : node_flush(qcow2_file(c->n));
}

static bool needs_entries(const struct check *c)
{
    return c->structural || c->snapshots_wrong || c->bitmaps_wrong || c->overlaps;
}

static co_fn int steps(struct check *c)
{
    int r = check_load_snapshots(c);

    c->stale_bitmaps = c->q->has_bitmaps && !(c->q->h.autoclear & QCOW2_BITMAPS);
    c->clusters = div_up(c->file_bytes, c->q->cluster_bytes);
    r = r < 0 ? r : check_load_stored(c);
    r = r < 0 ? r : check_count(c);
    if (r == 0 && (c->overlaps || c->reftable_shared) && (c->fix & CHECK_FIX_ERRORS)) {
        check_tell(c, P_OVERLAP, 1, UINT64_MAX);
    }
    if (r == 0 && (c->fix & CHECK_FIX_ERRORS) && needs_entries(c)) {
        r = repair_entries(c);
    }
    c->rebuild = c->rebuild || (c->reftable_shared && (c->fix & CHECK_FIX_ERRORS));
    r = r < 0 ? r : compare(c);
    if (r == 0 && (c->fix || c->copied_wrong || c->result.corruptions || c->result.leaks)) {
        r = check_copied(c);
    }
    return r < 0 ? r : finish_repair(c);
}

/* What is kept in memory of the tables may be old now. */
static co_fn int reload(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t *l1 = NULL;

    qcow2_cache_empty(q->l2_cache);
    qcow2_cache_empty(q->ref_cache);
    qcow2_meta_reset(q);
    free(TAKE_PTR(q->reftable));
    q->reftable_entries = 0;
    int r = qcow2_load_reftable(n, NULL);
    r = r < 0 ? r : qcow2_read_table(n, q->h.l1_offset, q->h.l1_entries, &l1);
    if (r == 0) {
        free(q->l1);
        q->l1 = l1;
    }
    q->free_hint = q->byte_hint = 0;
    return r;
}

static void finish(struct check *c)
{
    check_refs_free(&c->refs);
    check_free_snapshots(c);
    free(c->header);
    free(c->named);
    free(c->over);
    free(c->in_place);
    free(c->l2);
    free(c->l2_hash);
    buf_put(c->buf, CHECK_BUF_BYTES(c->q));
}

static co_fn int qcow2_check(struct node *n, unsigned fix, check_report *report, void *opaque,
                             struct check_result *ret)
{
    struct qcow2 *q = qcow2_of(n);
    struct check c = {.n = n, .q = q, .fix = fix, .report = report, .opaque = opaque};

    if (fix && n->read_only) {
        return -EROFS;
    }
    c.buf = buf_get(CHECK_BUF_BYTES(q));
    if (!c.buf) {
        return -ENOMEM;
    }
    co_mutex_lock(&q->lock);
    int r = q->written ? qcow2_settle(n) : 0;
    c.file_bytes = node_size(qcow2_file(n));
    c.result.total_clusters = div_up(q->h.size, q->cluster_bytes);
    r = r < 0 ? r : steps(&c);
    if (fix) {
        int flushed = node_flush(qcow2_file(n));
        int loaded = reload(n);
        r = r < 0 ? r : flushed < 0 ? flushed : loaded;
    }
    co_mutex_unlock(&q->lock);
    *ret = c.result;
    finish(&c);
    return r;
}

const struct check_ops qcow2_check_ops = {.check = qcow2_check};
