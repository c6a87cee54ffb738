/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changing what an image was created with: its version, the width of its refcounts, lazy refcounts, its
 * size, the name of its data file. Each change is in force by one write to the header, made when all
 * that it needs is durable.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

struct amend {
    char *compat, *backing_file, *backing_format, *data_file;
    uint64_t refcount_bits, size;
    bool lazy_refcounts, data_file_raw;
};
#define AT(m) offsetof(struct amend, m)

const struct option qcow2_amend_options[] = {
    {"backing_file", OPT_STRING, AT(backing_file), .help = "File name of a base image"},
    {"backing_fmt", OPT_STRING, AT(backing_format), .help = "Image format of the base image"},
    {"compat", OPT_STRING, AT(compat), .help = "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"data_file", OPT_STRING, AT(data_file), .help = "File name of an external data file"},
    {"data_file_raw", OPT_BOOL, AT(data_file_raw),
     .help = "The external data file must stay valid as a raw image"},
    {"lazy_refcounts", OPT_BOOL, AT(lazy_refcounts), .help = "Postpone refcount updates"},
    {"refcount_bits", OPT_UINT, AT(refcount_bits), .help = "Width of a reference count entry in bits"},
    {"size", OPT_SIZE, AT(size), .help = "Virtual disk size"},
    {0},
};

struct wanted {
    struct amend a;
    bool size, refcount_bits, lazy, data_file, data_file_raw, backing;
    int compat;
    const struct progress *progress;
    unsigned long_steps, long_steps_done; /* that tell how far they are */
};

/* Of the long step that is on. */
static void tell(const struct wanted *w, uint64_t done, uint64_t total)
{
    if (w->progress->step) {
        w->progress->step(w->progress->opaque, w->long_steps_done * total + done, w->long_steps * total);
    }
}

/* ---- the width of refcounts ---- */

/* One behind the last cluster that is counted or in the file. */
static co_fn int used_end(struct node *n, uint64_t *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = div_up(node_size(qcow2_file(n)), q->cluster_bytes), refs = 0;

    for (uint64_t i = q->reftable_entries; i > 0 && i << q->refblock_bits > end; i--) {
        uint64_t first = (i - 1) << q->refblock_bits;
        if (!(q->reftable[i - 1] & QCOW2_REF_MASK)) {
            continue;
        }
        for (uint64_t c = i << q->refblock_bits; c > MAX(first, end); c--) {
            int r = qcow2_get_refcount(n, c - 1, &refs);
            if (r < 0) {
                return r;
            }
            if (refs) {
                *ret = c;
                return 0;
            }
        }
    }
    *ret = end;
    return 0;
}

struct rebuild {
    struct node *n;
    const struct wanted *w;
    unsigned order;
    uint64_t per_block;
    uint64_t first, blocks, table_clusters; /* blocks first, then the table */
};

static void plan(struct rebuild *b, uint64_t end)
{
    const struct qcow2 *q = qcow2_of(b->n);

    b->first = end;
    b->per_block = (q->cluster_bytes * 8) >> b->order;
    for (uint64_t last = UINT64_MAX; last != b->blocks + b->table_clusters;) {
        last = b->blocks + b->table_clusters;
        b->blocks = div_up(end + last, b->per_block);
        b->table_clusters = div_up(b->blocks * 8, q->cluster_bytes);
    }
}

/* The count that the new structures have for a cluster. */
static co_fn int new_count(const struct rebuild *b, uint64_t cluster, uint64_t *ret, struct err *err)
{
    const struct qcow2 *q = qcow2_of(b->n);
    uint64_t max = b->order == 6 ? INT64_MAX : (UINT64_C(1) << (1u << b->order)) - 1;

    if (cluster >= b->first) {
        *ret = cluster < b->first + b->blocks + b->table_clusters;
        return 0;
    }
    int r = qcow2_get_refcount(b->n, cluster, ret);
    if (r < 0) {
        return err_set_errno(err, r, "Could not read a reference count");
    }
    if (*ret > max) {
        return err_set(err, -EINVAL,
                       "Cannot decrease refcount entry width to %u bits: Cluster at offset %#" PRIx64
                       " has a refcount of %" PRIu64,
                       1u << b->order, cluster << q->cluster_bits, *ret);
    }
    return 0;
}

/* @cluster, or the first one behind it that has a count: a sparse file may be large. */
static uint64_t next_counted(const struct rebuild *b, uint64_t cluster)
{
    const struct qcow2 *q = qcow2_of(b->n);
    uint64_t i = cluster >> q->refblock_bits;

    while (cluster < b->first && (i >= q->reftable_entries || !(q->reftable[i] & QCOW2_REF_MASK))) {
        cluster = MIN(b->first, ++i << q->refblock_bits);
    }
    return cluster;
}

/* @write: false: only look whether all counts fit. */
static co_fn int make_blocks(const struct rebuild *b, bool write, struct err *err)
{
    const struct qcow2 *q = qcow2_of(b->n);
    uint8_t *block = buf_get(q->cluster_bytes);
    int r = block ? 0 : err_set(err, -ENOMEM, "no memory for refcounts");

    for (uint64_t i = 0; r == 0 && i < b->blocks; i++) {
        memset(block, 0, q->cluster_bytes);
        uint64_t base = i * b->per_block, end = base + b->per_block;
        for (uint64_t k = next_counted(b, base); r == 0 && k < end; k = next_counted(b, k + 1)) {
            uint64_t refs = 0;
            r = new_count(b, k, &refs, err);
            if (refs) {
                qcow2_write_ref(block, k - base, b->order, refs);
            }
        }
        if (r == 0 && write && !buffer_is_zero(block, q->cluster_bytes)) { /* else: a hole, behind the end */
            r = qcow2_write_meta(b->n, 0, (b->first + i) << q->cluster_bits, block, q->cluster_bytes);
            r = r < 0 ? err_set_errno(err, r, "Could not write a refcount block") : 0;
        }
        tell(b->w, (write ? b->blocks : 0) + i + 1, 2 * b->blocks);
    }
    buf_put(block, q->cluster_bytes);
    return r;
}

/* Place and size of the table and the width: one write, within one sector. */
static co_fn int switch_refcounts(struct node *n, const struct rebuild *b)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_header h = q->h;
    uint8_t bytes[QCOW2_HEADER_BYTES] = {0};

    h.reftable_offset = (b->first + b->blocks) << q->cluster_bits;
    h.reftable_clusters = (uint32_t)b->table_clusters;
    h.refcount_order = b->order;
    layout_write(&qcow2_header_layout, &h, h.version, bytes, sizeof(bytes));
    int r = qcow2_switch_header(n, 48, bytes + 48, 100 - 48);
    if (r == 0) {
        q->h = h;
    }
    return r;
}

static co_fn int use_new(const struct rebuild *b, uint64_t *table, struct err *err)
{
    struct node *n = b->n;
    struct qcow2 *q = qcow2_of(n);
    uint64_t old_host = q->h.reftable_offset, old_bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;
    AUTO_FREE uint64_t *old = q->reftable;
    uint64_t old_entries = q->reftable_entries;
    int r = switch_refcounts(n, b);

    if (r < 0) {
        free(table);
        old = NULL; /* still in use */
        return err_set_errno(err, r, "Could not update qcow2 header");
    }
    q->reftable = table;
    q->reftable_entries = (uint32_t)(b->table_clusters * q->cluster_bytes / 8);
    q->free_hint = 0;
    q->byte_hint = 0;
    qcow2_cache_empty(q->ref_cache);
    qcow2_set_derived(q);
    qcow2_meta_reset(q);
    for (uint64_t i = 0; i < old_entries; i++) {
        uint64_t host = old[i] & QCOW2_REF_MASK;
        if (host && !qcow2_in_cluster(q, host)) {
            qcow2_free(n, host, q->cluster_bytes, QCOW2_FREE_OTHER, true);
        }
    }
    qcow2_free(n, old_host, old_bytes, QCOW2_FREE_OTHER, true);
    return 0;
}

static co_fn int set_width_locked(struct node *n, const struct wanted *w, unsigned order, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct rebuild b = {.n = n, .w = w, .order = order};
    uint64_t end;
    int r = used_end(n, &end);

    if (r < 0) {
        return err_set_errno(err, r, "Could not read the reference counts");
    }
    plan(&b, end);
    if (b.table_clusters << q->cluster_bits > QCOW2_REFTABLE_MAX) {
        return err_set(err, -EFBIG, "The refcount table would be too large");
    }
    r = make_blocks(&b, false, err);
    r = r < 0 ? r : make_blocks(&b, true, err);
    uint64_t *table = r < 0 ? NULL : calloc(b.table_clusters, q->cluster_bytes);
    if (r == 0 && !table) {
        r = err_set(err, -ENOMEM, "no memory for a refcount table");
    }
    for (uint64_t i = 0; r == 0 && i < b.blocks; i++) {
        table[i] = (b.first + i) << q->cluster_bits;
    }
    if (r == 0) {
        r = qcow2_write_table(n, 0, (b.first + b.blocks) << q->cluster_bits, table,
                              b.table_clusters * q->cluster_bytes / 8);
        r = r < 0 ? r : qcow2_settle(n);
        r = r < 0 ? err_set_errno(err, r, "Could not write the refcount table") : 0;
    }
    if (r < 0) {
        free(table);
        return r;
    }
    return use_new(&b, table, err);
}

/* ---- version 2 knows no zero clusters ---- */

static co_fn void drop_cluster(struct node *n, uint64_t host, uint64_t times)
{
    const struct qcow2 *q = qcow2_of(n);

    for (uint64_t i = 0; host && i < times; i++) {
        qcow2_free(n, host, q->cluster_bytes, QCOW2_FREE_OTHER, false);
    }
}

/* A cluster of zeroes that @refs tables name (one, shared by as many L1 tables). */
static co_fn int zero_cluster(struct node *n, uint64_t refs, uint64_t *ret_host)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host;
    int r = qcow2_alloc_clusters(n, 1, &host);

    for (uint64_t i = 1; r == 0 && i < refs; i++) {
        do {
            r = qcow2_add_refcounts(n, qcow2_cluster_of(q, host), 1, 1);
        } while (r == -EAGAIN);
    }
    r = r < 0 ? r : qcow2_check_write(n, 0, host, q->cluster_bytes);
    r = r < 0 ? r : node_zero(qcow2_file(n), host, q->cluster_bytes, REQ_GROW);
    q->changes++;
    *ret_host = host;
    return r;
}

/* @table_index: of the entry in its table, at @table in the file. */
static co_fn int expand_entry(struct node *n, struct qcow2_entry *slice, unsigned index, uint64_t table,
                              unsigned table_index, uint64_t refs)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_l2 e = qcow2_l2_get(q, slice, index);
    uint64_t host = 0;

    if ((e.entry & QCOW2_COMPRESSED) || !(e.entry & QCOW2_ZERO)) {
        return 0;
    }
    if (qcow2_in_cluster(q, e.entry & QCOW2_OFFSET_MASK)) {
        qcow2_damaged(n, true,
                      "Cluster allocation offset %#" PRIx64 " unaligned (L2 offset: %#" PRIx64
                      ", L2 index: %#x)",
                      e.entry & QCOW2_OFFSET_MASK, table, table_index);
        return -EIO;
    }
    int r = q->backing_name ? zero_cluster(n, refs, &host) : 0;
    if (r < 0) {
        return r;
    }
    qcow2_l2_set(n, slice, index, (struct qcow2_l2){host ? host | (refs == 1 ? QCOW2_COPIED : 0) : 0, 0});
    drop_cluster(n, e.entry & QCOW2_OFFSET_MASK, refs);
    return 0;
}

static co_fn int expand_table(struct node *n, uint64_t table, uint32_t index)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = qcow2_cache_entry_bytes(q->l2_cache), refs = 0;

    if (qcow2_in_cluster(q, table)) {
        qcow2_damaged(n, true, "L2 table offset %#" PRIx64 " unaligned (L1 index: %#x)", table, index);
        return -EIO;
    }
    int r = qcow2_get_refcount(n, qcow2_cluster_of(q, table), &refs);

    if (r == 0 && refs > q->snapshots_read + UINT64_C(1)) {
        return -EIO; /* more than there are L1 tables: not true, and each would cost time */
    }
    for (uint64_t at = 0; r == 0 && at < q->cluster_bytes; at += bytes) {
        struct qcow2_entry *slice;
        r = qcow2_cache_get(q->l2_cache, table + at, true, &slice);
        if (r < 0) {
            break;
        }
        for (unsigned i = 0; r == 0 && i < 1u << q->slice_bits; i++) {
            r = expand_entry(n, slice, i, table, (unsigned)(at / q->l2_entry_bytes_each) + i, refs);
        }
        qcow2_cache_put(q->l2_cache, slice);
    }
    return r;
}

/* How many entries of all L1 tables are done. */
struct expansion {
    const struct wanted *w;
    uint64_t done, total;
};

static co_fn int expand_l1(struct node *n, const uint64_t *l1, uint32_t entries, struct expansion *x)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < entries; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;
        r = table ? expand_table(n, table, i) : 0;
        tell(x->w, ++x->done, x->total);
    }
    return r;
}

static co_fn int expand_all(struct node *n, const struct wanted *w)
{
    struct qcow2 *q = qcow2_of(n);
    struct expansion x = {.w = w, .total = q->h.l1_entries};

    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        x.total += q->snapshot[i].l1_entries;
    }
    int r = expand_l1(n, q->l1, q->h.l1_entries, &x);

    for (uint32_t i = 0; r == 0 && i < q->snapshots_read; i++) {
        AUTO_FREE uint64_t *l1 = NULL;
        r = qcow2_read_table(n, q->snapshot[i].l1_offset, q->snapshot[i].l1_entries, &l1);
        r = r < 0 ? r : expand_l1(n, l1, q->snapshot[i].l1_entries, &x);
    }
    return r < 0 ? r : qcow2_settle(n);
}

/* ---- the version ---- */

static int may_downgrade(const struct node *n, struct err *err)
{
    const struct qcow2 *q = n->state;
    uint64_t features = q->h.incompatible & ~(uint64_t)QCOW2_DIRTY;

    if (qcow2_has_data_file(q)) {
        return err_set(err, -ENOTSUP, "Cannot downgrade an image with a data file");
    }
    if (features) {
        return err_set(err, -ENOTSUP, "Cannot downgrade an image with incompatible features %#" PRIx64 " set",
                       features);
    }
    if (q->bitmaps_read) {
        return err_set(err, -ENOTSUP, "Cannot downgrade an image with persistent bitmaps");
    }
    for (uint32_t i = 0; i < q->snapshots_read; i++) {
        const struct qcow2_snapshot *s = &q->snapshot[i];
        if (s->vm_state_bytes > UINT32_MAX || s->disk_bytes != q->h.size) {
            return err_set(err, -ENOTSUP, "Internal snapshots prevent downgrade of image");
        }
    }
    if (q->h.refcount_order != 4) {
        return err_set(err, -ENOTSUP, "compat=0.10 requires refcount_bits=16");
    }
    return 0;
}

static void remove_feature_names(struct qcow2 *q)
{
    struct qcow2_extension *x, *tmp;

    list_for_each_safe (x, tmp, &q->extensions, link) {
        if (x->type == QCOW2_EXT_FEATURES) {
            list_del(&x->link);
            free(x);
        }
    }
}

/* Write the header that @h and the extensions make. */
static co_fn int write_as(struct node *n, struct qcow2_header h, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_header before = q->h;

    q->h = h;
    int r = qcow2_write_header(n);
    if (r < 0) {
        q->h = before;
        return err_set_errno(err, r, "Could not update qcow2 header");
    }
    return 0;
}

static co_fn int downgrade(struct node *n, const struct wanted *w, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    int r = expand_all(n, w);

    if (r < 0) {
        return err_set_errno(err, r, "Failed to turn zero into data clusters");
    }
    remove_feature_names(q);
    struct qcow2_header h = q->h;
    h.version = 2;
    h.header_bytes = QCOW2_V2_HEADER_BYTES;
    h.incompatible = h.compatible = h.autoclear = 0;
    h.compression = 0;
    return write_as(n, h, err);
}

static co_fn int upgrade(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t names[QCOW2_FEATURE_NAMES_BYTES];
    int r = q->h.snapshots ? qcow2_write_snapshots(n) : 0; /* with the extra data that version 3 wants */

    if (r < 0) {
        return err_set_errno(err, r, "Could not update the snapshot table");
    }
    remove_feature_names(q);
    r = qcow2_add_extension(q, QCOW2_EXT_FEATURES, names, (uint32_t)qcow2_feature_names(names));
    if (r < 0) {
        return err_set(err, r, "no memory for the feature names");
    }
    struct qcow2_header h = q->h;
    h.version = 3;
    h.header_bytes = QCOW2_HEADER_BYTES;
    return write_as(n, h, err);
}

/* ---- what is asked ---- */

enum { KEEP, TO_V2, TO_V3 };

static int parse_compat(const struct amend *a, int *ret, struct err *err)
{
    *ret = !a->compat || !*a->compat                                ? KEEP
           : !strcmp(a->compat, "0.10") || !strcmp(a->compat, "v2") ? TO_V2
           : !strcmp(a->compat, "1.1") || !strcmp(a->compat, "v3")  ? TO_V3
                                                                    : -1;
    return *ret < 0 ? err_set(err, -EINVAL, "Unknown compatibility level %s", a->compat) : 0;
}

static void note_given(struct wanted *w, const json_t *options)
{
    w->size = json_object_get(options, "size");
    w->refcount_bits = json_object_get(options, "refcount_bits");
    w->lazy = json_object_get(options, "lazy_refcounts");
    w->data_file = json_object_get(options, "data_file");
    w->data_file_raw = json_object_get(options, "data_file_raw");
    w->backing = json_object_get(options, "backing_file") || json_object_get(options, "backing_fmt");
}

static int check_backing(const struct qcow2 *q, const struct wanted *w, struct err *err)
{
    const char *name = q->backing_name ? q->backing_name : "";
    const char *format = q->backing_format ? q->backing_format : "";
    bool other = (w->a.backing_file && strcmp(w->a.backing_file, name) != 0) ||
                 (w->a.backing_format && strcmp(w->a.backing_format, format) != 0);

    return w->backing && other
               ? err_set(err, -EINVAL,
                         "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.")
               : 0;
}

static int check_wanted(const struct node *n, const struct wanted *w, struct err *err)
{
    const struct qcow2 *q = n->state;
    uint32_t version = w->compat == TO_V2 ? 2 : w->compat == TO_V3 ? 3 : q->h.version;
    const struct amend *a = &w->a;

    if (w->refcount_bits && (!is_pow2(a->refcount_bits) || a->refcount_bits > 64)) {
        return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (version < 3 && w->refcount_bits && a->refcount_bits != 16) {
        return err_set(err, -EINVAL,
                       "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
                       "compat=1.1 or greater)");
    }
    if (version < 3 && w->lazy && a->lazy_refcounts) {
        return err_set(err, -EINVAL,
                       "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 "
                       "or greater)");
    }
    if (w->data_file && !qcow2_has_data_file(q)) {
        return err_set(err, -EINVAL, "data-file can only be set for images that use an external data file");
    }
    if (w->data_file_raw && a->data_file_raw && !(q->h.autoclear & QCOW2_DATA_FILE_RAW)) {
        return err_set(err, -EINVAL, "data-file-raw cannot be set on existing images");
    }
    return check_backing(q, w, err);
}

static co_fn int set_lazy(struct node *n, bool lazy, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t before = q->h.compatible;

    q->h.compatible = lazy ? before | QCOW2_LAZY : before & ~(uint64_t)QCOW2_LAZY;
    int r = q->h.compatible == before ? 0 : qcow2_write_header_field(n, "compatible_features");
    if (r < 0) {
        q->h.compatible = before;
        return err_set_errno(err, r, "Could not update qcow2 header");
    }
    return 0;
}

static co_fn int set_data_file(struct node *n, const struct wanted *w, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_header h = q->h;

    if (w->data_file) {
        char *name = w->a.data_file && *w->a.data_file ? strdup(w->a.data_file) : NULL;
        free(q->data_name);
        q->data_name = name;
    }
    if (w->data_file_raw && !w->a.data_file_raw) {
        h.autoclear &= ~(uint64_t)QCOW2_DATA_FILE_RAW;
    }
    return write_as(n, h, err);
}

static unsigned wanted_order(const struct qcow2 *q, const struct wanted *w)
{
    return w->refcount_bits ? (unsigned)__builtin_ctzll(w->a.refcount_bits) : q->h.refcount_order;
}

static co_fn int amend_locked(struct node *n, const struct wanted *w, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned order = wanted_order(q, w);
    int r = 0;

    if (w->compat == TO_V3 && q->h.version < 3) {
        r = upgrade(n, err);
    }
    if (r == 0 && order != q->h.refcount_order) {
        r = set_width_locked(n, w, order, err);
    }
    if (r == 0 && (w->data_file || w->data_file_raw)) {
        r = set_data_file(n, w, err);
    }
    if (r == 0 && w->lazy && q->h.version >= 3) {
        r = set_lazy(n, w->a.lazy_refcounts, err);
    }
    return r;
}

static co_fn int downgrade_locked(struct node *n, const struct wanted *w, struct err *err)
{
    int r = may_downgrade(n, err);

    return r < 0 ? r : downgrade(n, w, err);
}

/* One step, with nobody else changing the image meanwhile. */
static co_fn int change(struct node *n, const struct wanted *w,
                        int (*step)(struct node *n, const struct wanted *w, struct err *err), struct err *err)
{
    int r = qcow2_begin_change(n);

    if (r < 0) {
        err_set_errno(err, r, "Could not write the image's metadata");
    } else {
        r = step(n, w, err);
    }
    int end = qcow2_end_change(n, r);
    return r < 0 ? r : end < 0 ? err_set_errno(err, end, "Could not write the image's metadata") : 0;
}

static co_fn int amend(struct node *n, struct wanted *w, struct err *err)
{
    const struct qcow2 *q = qcow2_of(n);
    bool resize_counts = wanted_order(q, w) != q->h.refcount_order;
    bool to_v2 = w->compat == TO_V2 && q->h.version >= 3;
    w->long_steps = (unsigned)resize_counts + to_v2;
    int r = change(n, w, amend_locked, err);

    w->long_steps_done = resize_counts;
    /* A version 3 image with snapshots can change its size, version 2 cannot; and version 2 wants that
     * the snapshots have the disk's size. */
    if (r == 0 && w->size) {
        r = qcow2_truncate(n, w->a.size, 0, err);
    }
    if (r == 0 && to_v2) {
        r = change(n, w, downgrade_locked, err);
    }
    return r;
}

int qcow2_amend(struct node *n, json_t *options, const struct progress *progress, struct err *err)
{
    struct wanted w = {.compat = KEEP, .progress = progress};

    note_given(&w, options);
    int r = options_apply(qcow2_amend_options, &w.a, options, err);
    const char *left = json_object_iter_key(json_object_iter(options));
    if (r == 0 && left) {
        r = err_set(err, -EINVAL, "Invalid parameter '%s'%s", left,
                    option_find(qcow2_create_options, left)
                        ? "\nThis option is only supported for image creation"
                        : "");
    }
    r = r < 0 ? r : parse_compat(&w.a, &w.compat, err);
    r = r < 0 ? r : check_wanted(n, &w, err);
    r = r < 0 ? r : amend(n, &w, err);
    options_free(qcow2_amend_options, &w.a);
    return r;
}
