/* SPDX-License-Identifier: BSD-2-Clause */
/* Size changes: the L1 table, the header, what is cut off, and what is prepared in advance. */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

#define ZERO_PIECE     MiB
#define PREALLOC_FLAGS (REQ_PREALLOC_FALLOC | REQ_PREALLOC_FULL | REQ_PREALLOC_METADATA)

/* ---- preallocation ---- */

/* Data of zeroes; what lies before and behind in its clusters is kept. */
static co_fn int write_zeroes(struct node *n, uint64_t at, uint64_t end)
{
    if (at == end) {
        return 0;
    }
    char *zeroes = buf_get(ZERO_PIECE);
    int r = zeroes ? 0 : -ENOMEM;
    if (r == 0) {
        memset(zeroes, 0, ZERO_PIECE);
    }
    for (struct req w = {.op = REQ_WRITE}; r == 0 && at < end; at += w.bytes) {
        struct iovec iov = {zeroes, MIN(end - at, ZERO_PIECE)};
        w.offset = at;
        w.bytes = iov.iov_len;
        w.iov = &iov;
        w.niov = 1;
        r = access_io(n, &w);
    }
    buf_put(zeroes, ZERO_PIECE);
    return r;
}

/* Map one run of whole clusters; nothing is written to it. A place that was somebody's before (it lies
 * below @fresh_from, where the file ended) must not show what is there; where there are subclusters they
 * stay unallocated, which hides it. */
static co_fn int prealloc_run(struct node *n, uint64_t guest, uint64_t bytes, uint64_t fresh_from,
                              uint64_t *ret_bytes)
{
    struct qcow2 *q = qcow2_of(n);
    struct placement p = {0};
    int r = qcow2_alloc(n, guest, bytes, &p);

    if (r < 0) {
        return r;
    }
    *ret_bytes = p.bytes;
    if (!p.fresh) {
        return 0;
    }
    if (q->subclusters == 1 && !qcow2_has_data_file(q) && p.offset < fresh_from) {
        r = node_zero(p.node, p.offset, MIN(p.bytes, fresh_from - p.offset), 0);
        if (r < 0) {
            qcow2_abort(n, &p);
            return r;
        }
        q->changes++;
    }
    ((struct qcow2_write *)p.cookie)->prealloc = true;
    return qcow2_commit(n, &p);
}

/* What the preallocated disk needs in the file, at most: data, L2 tables, refcount blocks and table. */
static uint64_t file_bytes_needed(const struct qcow2 *q, uint64_t bytes)
{
    uint64_t data = div_up(bytes, q->cluster_bytes) + 1;
    uint64_t l2 = (data >> q->l2_bits) + 2;
    uint64_t blocks = ((data + l2) >> q->refblock_bits) + 3;
    uint64_t table = blocks * 8 * 2 / q->cluster_bytes + 2;

    return (data + l2 + blocks + table) << q->cluster_bits;
}

static co_fn int prepare_file(struct node *n, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t size = node_size(qcow2_file(n));
    uint64_t need = file_bytes_needed(q, bytes);

    if (qcow2_has_data_file(q) || !(flags & (REQ_PREALLOC_FALLOC | REQ_PREALLOC_FULL))) {
        return 0;
    }
    struct req r = {.op = REQ_TRUNCATE,
                    .offset = round_up(size, q->cluster_bytes) + need,
                    .flags = flags & (REQ_PREALLOC_FALLOC | REQ_PREALLOC_FULL)};
    return need > BLOCK_SIZE_MAX / 2 || size > BLOCK_SIZE_MAX / 2 ? -EFBIG : node_io(qcow2_file(n), &r);
}

/* The file ends where its last used cluster does. */
static co_fn int trim_file(struct node *n, uint64_t end)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t cluster = 0;

    for (uint64_t i = q->reftable_entries; i > 0 && cluster == 0; i--) {
        for (uint64_t c = UINT64_C(1) << q->refblock_bits; (q->reftable[i - 1] & QCOW2_REF_MASK) && c > 0;
             c--) {
            uint64_t at = ((i - 1) << q->refblock_bits) + c - 1, refs;
            int r = qcow2_get_refcount(n, at, &refs);
            if (r < 0) {
                return r;
            }
            if (refs) {
                cluster = at + 1;
                break;
            }
        }
    }
    end = MAX(end, cluster << q->cluster_bits);
    struct req r = {.op = REQ_TRUNCATE, .offset = end};
    return node_size(qcow2_file(n)) == end ? 0 : node_io(qcow2_file(n), &r);
}

int qcow2_preallocate(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t fresh_from = node_size(qcow2_file(n));
    int r = prepare_file(n, bytes, flags);

    for (uint64_t done = 0, part; r == 0 && done < bytes; done += part) {
        r = prealloc_run(n, offset + done, bytes - done, fresh_from, &part);
    }
    if (r < 0) {
        return r;
    }
    if (qcow2_has_data_file(q)) {
        struct req grow = {.op = REQ_TRUNCATE,
                           .offset = offset + bytes,
                           .flags = flags & (REQ_PREALLOC_FALLOC | REQ_PREALLOC_FULL)};
        return node_size(q->data) < grow.offset ? node_io(q->data, &grow) : 0;
    }
    co_mutex_lock(&q->lock);
    r = qcow2_settle(n);
    r = r < 0 ? r : trim_file(n, 0);
    co_mutex_unlock(&q->lock);
    return r;
}

/* ---- growing ---- */

static co_fn int set_size(struct node *n, uint64_t size)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t before = q->h.size;

    q->h.size = size;
    int r = qcow2_write_header_field(n, "size");
    if (r < 0) {
        q->h.size = before;
        return r;
    }
    n->size = size;
    qcow2_set_derived(q);
    return 0;
}

/* What comes into sight must read as zeroes: not the rest of the last cluster, nor the backing file. */
static co_fn int blank_new_part(struct node *n, uint64_t before, uint64_t size)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = MIN(round_up(before, q->cluster_bytes), size);

    if (q->backing) {
        end = MAX(end, MIN(node_size(q->backing), size));
    }
    if (end <= before) {
        return 0;
    }
    struct mapping m;
    uint64_t at = before;
    while (at < end) { /* often all of it is blank already */
        int r = qcow2_map(n, at, end - at, &m);
        if (r < 0) {
            return r;
        }
        if (m.kind != MAP_ZERO && !(m.kind == MAP_BACKING && !m.node)) {
            break;
        }
        at += m.bytes;
    }
    if (at >= end) {
        return 0;
    }
    int r = qcow2_unmap(n, at, end - at, false, 0);
    return r == -ENOTSUP ? write_zeroes(n, at, end) : r; /* version 2 over a backing file */
}

/* The last cluster, if it is not full, is prepared by a write: its beginning may be the backing file's.
 * Everything is mapped before it is in sight: a crash leaves a smaller disk. */
static co_fn int grow_prepared(struct node *n, uint64_t before, uint64_t size, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t from = MIN(round_up(before, q->cluster_bytes), size);
    int r = write_zeroes(n, before, from);

    if (r == 0) {
        r = qcow2_preallocate(n, from, size - from, flags);
    }
    return r < 0 || q->subclusters == 1 ? r : blank_new_part(n, from, size);
}

static co_fn int grow(struct node *n, uint64_t size, unsigned flags, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t before = n->size;

    co_mutex_lock(&q->lock);
    int r = qcow2_grow_l1(n, qcow2_l1_needed(q, size), true);
    co_mutex_unlock(&q->lock);
    if (r < 0) {
        return err_set_errno(err, r, "Failed to grow the L1 table");
    }
    if (qcow2_has_data_file(q) && node_size(q->data) < size && !(flags & PREALLOC_FLAGS)) {
        struct req more = {.op = REQ_TRUNCATE, .offset = size, .flags = flags & REQ_EXACT};
        r = node_io(q->data, &more);
        if (r < 0) {
            return err_set_errno(err, r, "Failed to resize the data file");
        }
    }
    n->size = size; /* so that what follows may reach it */
    r = flags & PREALLOC_FLAGS ? grow_prepared(n, before, size, flags) : blank_new_part(n, before, size);
    if (r == 0) {
        co_mutex_lock(&q->lock);
        r = qcow2_settle(n);
        r = r < 0 ? r : set_size(n, size);
        co_mutex_unlock(&q->lock);
    }
    if (r < 0) {
        n->size = before;
        return err_set_errno(err, r, "Failed to update the image size");
    }
    return 0;
}

/* ---- shrinking ---- */

/* Every refcount block is in the file and counted: else what the file's end is cut to means nothing. */
static co_fn int check_refblocks(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < q->reftable_entries; i++) {
        uint64_t host = q->reftable[i] & QCOW2_REF_MASK, refs = 0;
        if (host) {
            r = qcow2_get_refcount(n, qcow2_cluster_of(q, host), &refs);
        }
        if (r == 0 && host && refs == 0) {
            qcow2_damaged(n, true, "Refblock at %#" PRIx64 " is not covered by the refcount structures",
                          host);
            r = -EIO;
        }
    }
    return r;
}

static co_fn int shrink_locked(struct node *n, uint64_t size, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t from = round_up(size, q->cluster_bytes);
    uint64_t to = round_up(n->size, q->cluster_bytes);
    int r = check_refblocks(n);

    if (r < 0) {
        return err_set_errno(err, r, "Failed to discard unused refblocks");
    }
    r = from < to ? qcow2_drop_range(n, from, to - from) : 0;
    if (r < 0) {
        return err_set_errno(err, r, "Failed to discard cropped clusters");
    }
    r = set_size(n, size);
    if (r < 0) {
        return err_set_errno(err, r, "Failed to update the image size");
    }
    r = qcow2_settle(n);
    r = r < 0 ? r : qcow2_shrink_l1(n, qcow2_l1_needed(q, size));
    r = r < 0 ? r : qcow2_settle(n);
    if (r < 0) {
        return err_set_errno(err, r, "Failed to reduce the number of L2 tables");
    }
    r = qcow2_write_back(n); /* what was freed may be gone from the file's end */
    r = r < 0 || qcow2_has_data_file(q) ? r : trim_file(n, 0);
    if (r == 0 && qcow2_has_data_file(q) && (q->h.autoclear & QCOW2_DATA_FILE_RAW)) {
        struct req cut = {.op = REQ_TRUNCATE, .offset = size};
        r = node_io(q->data, &cut);
    }
    return r < 0 ? err_set_errno(err, r, "Failed to truncate the end of the image") : 0;
}

/* VM state in the active table (of a snapshot that was applied) lies behind the disk: where a larger disk
 * would show it, and where a smaller one forgets it. It was loaded long ago, if ever; snapshots keep theirs.
 */
static co_fn int drop_vm_state(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = (uint64_t)q->h.l1_entries << qcow2_l1_shift(q);
    int r = q->vmstate_offset < end ? qcow2_drop_range(n, q->vmstate_offset, end - q->vmstate_offset) : 0;

    return r < 0 ? err_set_errno(err, r, "Failed to discard the VM state") : 0;
}

int qcow2_truncate(struct node *n, uint64_t size, unsigned flags, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->corrupt) {
        return err_set(err, -EIO, "the image is corrupt");
    }
    if (q->h.snapshots && q->h.version < 3) {
        return err_set(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
    }
    if (qcow2_l1_needed(q, size) > QCOW2_L1_BYTES_MAX / 8) {
        return err_set(err, -EFBIG, "The image size is too large for this cluster size");
    }
    if (size == n->size) {
        return 0;
    }
    if (size < n->size && (flags & PREALLOC_FLAGS)) {
        return err_set(err, -ENOTSUP, "Preallocation can't be used for shrinking an image");
    }
    uint64_t before = n->size;
    co_mutex_lock(&q->lock);
    int r = qcow2_bitmaps_may_resize(n, err);
    r = r < 0 ? r : drop_vm_state(n, err);
    if (r == 0 && size < n->size) {
        r = shrink_locked(n, size, err);
    }
    co_mutex_unlock(&q->lock);
    r = r == 0 && size > n->size ? grow(n, size, flags, err) : r;
    if (r == 0) {
        qcow2_bitmaps_resize(n, before);
    }
    return r;
}
