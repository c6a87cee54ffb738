/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcow2: QEMU's copy-on-write disk image. This file opens and closes images and is the table of
 * contents; qcow2.h says what the others do. Guest data is moved by access.c, never here.
 */
#include "drivers/qcow2/qcow2.h"

#include "base/json.h"

#define L2_CACHE_DEFAULT (32 * MiB) /* maps 256 GiB at the default cluster size */
#define SLICE_BYTES_MAX  (64 * KiB) /* larger L2 tables are cached in parts */

static const char *const switch_values[] = {"default", "off", "on", NULL};
static const char *const overlap_values[] = {"none", "constant", "cached", "all", NULL};

#define AT(m) offsetof(struct qcow2, m)

static const struct option qcow2_options[] = {
    {"lazy-refcounts", OPT_ENUM, AT(lazy_refcounts), .def = "default", .values = switch_values,
     .runtime = true, .help = "postpone refcount updates (default: as the image says)"},
    {"pass-discard-request", OPT_ENUM, AT(discard_request), .def = "default", .values = switch_values,
     .help = "give space of discarded clusters back to the host (default: if discards are passed on)"},
    {"pass-discard-snapshot", OPT_ENUM, AT(discard_snapshot), .def = "default", .values = switch_values,
     .help = "the same for clusters that only deleted snapshots used (default: on)"},
    {"pass-discard-other", OPT_ENUM, AT(discard_other), .def = "default", .values = switch_values,
     .help = "the same for other clusters that became free (default: off)"},
    {"overlap-check", OPT_ENUM, AT(overlap_check), .def = "cached", .values = overlap_values,
     .help = "what writes are checked against: none, constant (header and tables), cached and all (also L2 "
             "tables and refcount blocks)"},
    {"cache-size", OPT_SIZE, AT(cache_bytes), .help = "bytes of both metadata caches together; 0: default"},
    {"l2-cache-size", OPT_SIZE, AT(l2_cache_bytes),
     .help = "bytes of L2 tables kept in memory; 0: as many as the disk has, at most 32M"},
    {"l2-cache-entry-size", OPT_SIZE, AT(l2_entry_bytes),
     .help = "bytes of one cached part of an L2 table: a power of two from 512 to the cluster size; 0: 64K"},
    {"refcount-cache-size", OPT_SIZE, AT(refcount_cache_bytes),
     .help = "bytes of refcount blocks kept in memory; 0: four clusters"},
    {"cache-clean-interval", OPT_UINT, AT(clean_interval),
     .help = "accepted as QEMU's option; the caches are bounded instead"},
    {"snapshot", OPT_STRING, AT(open_snapshot),
     .help = "show what the internal snapshot of this id or name holds; read-only"},
    {0},
};

/* ---- opening ---- */

/* Zero is a size, too, so that "given" is what counts. */
static int check_cache_sizes(const struct node *n, struct err *err)
{
    const struct qcow2 *q = n->state;
    bool l2 = json_object_get(n->options, "l2-cache-size");
    bool refcount = json_object_get(n->options, "refcount-cache-size");

    if (!json_object_get(n->options, "cache-size")) {
        return 0;
    }
    if (l2 && refcount) {
        return err_set(err, -EINVAL,
                       "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
    }
    if (l2 && q->l2_cache_bytes > q->cache_bytes) {
        return err_set(err, -EINVAL, "l2-cache-size may not exceed cache-size");
    }
    return refcount && q->refcount_cache_bytes > q->cache_bytes
               ? err_set(err, -EINVAL, "refcount-cache-size may not exceed cache-size")
               : 0;
}

static int make_caches(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t entry = q->l2_entry_bytes ? q->l2_entry_bytes : MIN(q->cluster_bytes, SLICE_BYTES_MAX);

    if (!is_pow2(entry) || entry < 512 || entry > q->cluster_bytes) {
        return err_set(err, -EINVAL,
                       "L2 cache entry size must be a power of two between 512 and the cluster size (%llu)",
                       (unsigned long long)q->cluster_bytes);
    }
    q->slice_bits = (unsigned)__builtin_ctzll(entry / q->l2_entry_bytes_each);
    uint64_t refs = q->refcount_cache_bytes ? q->refcount_cache_bytes : 4 * q->cluster_bytes;
    uint64_t l2 = q->l2_cache_bytes ? q->l2_cache_bytes
                  : q->cache_bytes  ? q->cache_bytes - MIN(refs, q->cache_bytes)
                                    : L2_CACHE_DEFAULT;
    l2 = MIN(l2, UINT64_C(1) << 40);
    refs = MIN(refs, UINT64_C(1) << 40);
    q->l2_cache = qcow2_cache_create(n, QCOW2_CACHE_L2, entry, l2);
    q->ref_cache = qcow2_cache_create(n, QCOW2_CACHE_REF, q->cluster_bytes, refs);
    return q->l2_cache && q->ref_cache ? 0 : err_set(err, -ENOMEM, "no memory for the metadata caches");
}

static co_fn int load_tables(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int r = qcow2_load_reftable(n, err);

    if (r < 0) {
        return r;
    }
    r = qcow2_read_table(n, q->h.l1_offset, q->h.l1_entries, &q->l1);
    if (n->flags & OPEN_CHECK) { /* the check tells what is wrong with it, and with the snapshots */
        q->l1 = r < 0 ? calloc((size_t)q->h.l1_entries + 1, 8) : q->l1;
        return q->l1 ? 0 : err_set(err, -ENOMEM, "no memory for the L1 table");
    }
    if (r < 0) {
        return err_set_errno(err, r, "Could not read L1 table");
    }
    r = qcow2_load_snapshots(n, err);
    return r < 0 ? r : qcow2_load_bitmaps(n, err);
}

/* The image will be written: what we do not keep true is marked so. */
static co_fn int clear_unknown(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (n->read_only || !(q->h.autoclear & ~(uint64_t)QCOW2_AUTOCLEAR_KNOWN)) {
        return 0;
    }
    q->h.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
    int r = qcow2_write_header_field(n, "autoclear_features");
    return r < 0 ? err_set_errno(err, r, "Could not update qcow2 header") : 0;
}

/* A program that does not know bitmaps has written: nobody can tell any more what they missed. */
static co_fn int drop_stale_bitmaps(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->has_bitmaps || (q->h.autoclear & QCOW2_BITMAPS)) {
        return 0;
    }
    if (n->graph->notice) {
        n->graph->notice(n->graph, NOTICE_WARNING,
                         "a program lacking bitmap support modified this file, so all bitmaps are now "
                         "considered inconsistent\n"
                         "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.");
    }
    if (n->read_only || (n->flags & OPEN_CHECK)) {
        return 0;
    }
    q->has_bitmaps = false;
    int r = qcow2_write_header(n);
    return r < 0 ? err_set_errno(err, r, "Could not update qcow2 header") : 0;
}

static void tell_repair(void *opaque, const struct check_problem *p)
{
    struct node *n = opaque;

    if (n->graph->notice) {
        n->graph->notice(n->graph, NOTICE_DETAIL, p->sentence);
    }
}

/* Lazy refcounts, and then a crash: refcounts are behind the tables until they are repaired. */
static co_fn int repair_unclean(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct check_result result = {0};

    if (!(q->h.incompatible & QCOW2_DIRTY) || n->read_only || (n->flags & OPEN_CHECK)) {
        return 0;
    }
    int r = qcow2_check_ops.check(n, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, tell_repair, n, &result);
    if (r < 0) {
        return err_set_errno(err, r, "Could not repair dirty image");
    }
    if (q->h.incompatible & QCOW2_DIRTY) {
        return err_set(err, -EIO, "Could not repair dirty image");
    }
    return 0;
}

static void set_limits(struct node *n)
{
    const struct qcow2 *q = n->state;

    n->limits.discard_align = (uint32_t)q->cluster_bytes;
    n->limits.supported = REQ_UNMAP | REQ_NO_FALLBACK | REQ_COMPRESSED | REQ_VMSTATE;
    n->limits.preferred = (uint32_t)q->cluster_bytes;
}

/* The dirty bit, on which lazy refcounts rest, is one of version 3. */
static int check_lazy(const struct qcow2 *q, struct err *err)
{
    return qcow2_lazy(q) && q->h.version < 3
               ? err_set(err, -EINVAL,
                         "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level")
               : 0;
}

/* lazy-refcounts of an open image. Switched off: the refcounts go down, and stay true from now on. */
static co_fn int qcow2_set(struct node *n, const char *option, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int r = check_lazy(q, err);

    (void)option;
    if (r < 0) {
        q->lazy_refcounts = QCOW2_OFF;
        return r;
    }
    if (qcow2_lazy(q) || !q->dirty) {
        return 0;
    }
    co_mutex_lock(&q->lock);
    r = qcow2_mark_clean(n);
    co_mutex_unlock(&q->lock);
    return r < 0 ? err_set_errno(err, r, "Could not write the refcounts") : 0;
}

static co_fn int qcow2_open(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int r;

    list_init(&q->extensions);
    list_init(&q->writes);
    list_init(&q->free_writes);
    co_mutex_init(&q->lock);
    if ((r = qcow2_read_header(n, err)) < 0 || (r = check_lazy(q, err)) < 0 ||
        (r = check_cache_sizes(n, err)) < 0 || (r = make_caches(n, err)) < 0 ||
        (r = load_tables(n, err)) < 0 || (r = qcow2_open_data_file(n, err)) < 0 ||
        (r = qcow2_open_backing(n, err)) < 0 || (r = clear_unknown(n, err)) < 0) {
        return r;
    }
    n->size = q->h.size;
    set_limits(n);
    r = drop_stale_bitmaps(n, err);
    r = r < 0 ? r : repair_unclean(n, err);
    return r < 0 ? r : qcow2_open_snapshot(n, err);
}

/* ---- closing ---- */

static bool something_is_due(const struct node *n)
{
    const struct qcow2 *q = n->state;
    const struct node *file = qcow2_file(n);

    return qcow2_frees_pending(q) || q->changes != q->flushed || file->writes != file->flushed_writes ||
           qcow2_cache_is_dirty(q->l2_cache) || qcow2_cache_is_dirty(q->ref_cache);
}

/* In QEMU's words; nobody waits for an error any more. */
static void tell_unwritten(struct node *n, int error)
{
    static const char *const caches[] = {"L2 table", "refcount block"};

    for (size_t i = 0; i < ARRAY_SIZE(caches) && n->graph->notice; i++) {
        char text[128];
        snprintf(text, sizeof(text), "Failed to flush the %s cache: %s", caches[i], err_name(error));
        n->graph->notice(n->graph, NOTICE_ERROR, text);
    }
}

static co_fn void write_all(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);

    if (n->read_only || q->corrupt || !q->reftable || !q->l1) {
        return;
    }
    co_mutex_lock(&q->lock);
    qcow2_bitmaps_end(n); /* if that fails they stay in use */
    bool due = something_is_due(n);
    int r = q->written ? qcow2_settle(n) : 0;
    if (r < 0 && due) {
        tell_unwritten(n, r);
    }
    if (r == 0 && qcow2_frees_pending(q)) { /* what became free by the flush */
        qcow2_write_back(n);
    }
    if (r == 0 && q->dirty_bit_ours) {
        qcow2_mark_clean(n);
    }
    co_mutex_unlock(&q->lock);
}

static co_fn void qcow2_close(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_write *w, *tmp;

    if (q->l2_cache && q->ref_cache) {
        write_all(n);
    }
    if (q->free_writes.next) {
        list_for_each_safe (w, tmp, &q->free_writes, link) {
            free(w);
        }
    }
    qcow2_cache_destroy(q->l2_cache);
    qcow2_cache_destroy(q->ref_cache);
    qcow2_meta_reset(q);
    qcow2_free_runs(&q->dropped);
    qcow2_free_runs(&q->durable);
    qcow2_free_runs(&q->waiting);
    qcow2_free_extensions(q);
    qcow2_free_snapshots(q);
    qcow2_free_bitmaps(q);
    free(q->header_tail);
    free(q->backing_name);
    free(q->backing_format);
    free(q->data_name);
    free(q->l1);
    free(q->reftable);
}

/* ---- requests ---- */

/* The first change of guest data: the bitmaps that record it are marked as in use. */
static co_fn int begin_writing(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = 0;

    co_mutex_lock(&q->lock);
    q->written = true;
    if (!q->began) {
        r = qcow2_bitmaps_begin(n);
        q->began = r == 0;
    }
    co_mutex_unlock(&q->lock);
    return r;
}

static bool moves_data(enum req_op op)
{
    return op == REQ_READ || op == REQ_WRITE || op == REQ_ZERO || op == REQ_DISCARD;
}

/* Requests that look mappings up and use them later are counted by phase: see alloc.c. */
static co_fn int counted(struct node *n, struct req *r)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned phase = q->phase;

    q->active[phase]++;
    int ret = access_io(n, r);
    q->active[phase]--;
    return ret;
}

static co_fn int vmstate(struct node *n, const struct req *r)
{
    struct qcow2 *q = qcow2_of(n);
    struct req part = *r;

    if (r->offset > BLOCK_SIZE_MAX - q->vmstate_offset - r->bytes) {
        return -EFBIG;
    }
    qcow2_event(n, r->op == REQ_WRITE ? EVENT_vmstate_save : EVENT_vmstate_load);
    part.offset += q->vmstate_offset;
    part.flags &= ~(unsigned)REQ_VMSTATE;
    return counted(n, &part);
}

static co_fn int qcow2_io(struct node *n, struct req *r)
{
    struct qcow2 *q = qcow2_of(n);
    bool writes = r->op != REQ_READ && r->op != REQ_FLUSH && r->op != REQ_STATUS && r->op != REQ_CACHE;

    if (UNLIKELY(!q->data && r->op != REQ_FLUSH)) {
        return -EIO; /* opened to look at metadata only */
    }
    if (UNLIKELY(q->h.crypt_method && moves_data(r->op))) {
        return -ENOKEY; /* we do not encrypt; see the manual */
    }
    if (UNLIKELY(writes && !q->began)) {
        int ret = begin_writing(n);
        if (ret < 0) {
            return ret;
        }
    }
    if (UNLIKELY(r->flags & REQ_VMSTATE)) {
        return vmstate(n, r);
    }
    if (UNLIKELY(writes && q->bitmaps_read && r->op != REQ_TRUNCATE)) {
        qcow2_mark_written(q, r->offset, r->bytes);
    }
    return moves_data(r->op) ? counted(n, r) : access_io(n, r);
}

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    (void)filename;
    return len >= 8 && get_be32(buf) == QCOW2_MAGIC && get_be32(buf + 4) >= 2 ? 100 : 0;
}

static const struct format_ops qcow2_format = {
    .map = qcow2_map,
    .alloc = qcow2_alloc,
    .commit = qcow2_commit,
    .abort = qcow2_abort,
    .unmap = qcow2_unmap,
    .read_special = qcow2_read_compressed,
    .write_compressed = qcow2_write_compressed,
    .flush = qcow2_flush,
    .truncate = qcow2_truncate,
};

const struct driver driver_qcow2 = {
    .name = "qcow2",
    .kind = DRIVER_FORMAT,
    .summary = "QEMU's copy-on-write disk image.",
    .options = qcow2_options,
    .children = (const struct child_def[]){{"file", CHILD_FILE, .required = true},
                                           {"data-file", CHILD_DATA},
                                           {"backing", CHILD_BACKING, .probe = true},
                                           {0}},
    .state_size = sizeof(struct qcow2),
    .open = qcow2_open,
    .close = qcow2_close,
    .set = qcow2_set,
    .io = qcow2_io,
    .format = &qcow2_format,
    .probe = qcow2_probe,
    .create_options = qcow2_create_options,
    .create_state_size = sizeof(struct qcow2_create),
    .create = qcow2_create,
    .dump = qcow2_dump,
    .info = qcow2_info,
    .image_info = qcow2_image_info,
    .snapshot = &qcow2_snapshot_ops,
    .check = &qcow2_check_ops,
    .bitmap = &qcow2_bitmap_ops,
    .measure = qcow2_measure,
    .measure_bitmaps = qcow2_measure_bitmaps,
    .amend_options = qcow2_amend_options,
    .amend = qcow2_amend,
    .change_backing = qcow2_change_backing,
    .make_empty = qcow2_make_empty,
};
