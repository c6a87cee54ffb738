/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed clusters, deflate and zstd. Packing and unpacking happen on worker threads, several
 * clusters of a request at a time. A compressed cluster is never changed in place: writing to it
 * gives it a new place.
 */
#include "drivers/qcow2/qcow2.h"

#include <zlib.h>
#include <zstd.h>

#include "base/iov.h"

#define WINDOW_BITS 12 /* of deflate, told by the format */
#define PARALLEL    8  /* clusters of one request in work at a time: bounds the memory */

/* ---- where ---- */

/* An entry holds the host offset in its low bits, and above them the sectors beyond the first. */
static unsigned length_shift(const struct qcow2 *q)
{
    return 62 - (q->cluster_bits - 8);
}

static uint64_t offset_mask(const struct qcow2 *q)
{
    return ((UINT64_C(1) << length_shift(q)) - 1) & (QCOW2_HOST_END - 1);
}

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_bytes)
{
    uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> length_shift(q);
    uint64_t host = entry & ((UINT64_C(1) << length_shift(q)) - 1);

    *ret_host = host;
    *ret_bytes = (sectors + 1) * SECTOR_SIZE - host % SECTOR_SIZE;
}

static bool make_entry(const struct qcow2 *q, uint64_t host, uint64_t bytes, uint64_t *ret_entry)
{
    uint64_t sectors = (host + bytes - 1) / SECTOR_SIZE - host / SECTOR_SIZE;

    if (host + bytes > offset_mask(q)) {
        return false; /* that far into the file the entry has no room for the offset */
    }
    *ret_entry = QCOW2_COMPRESSED | sectors << length_shift(q) | host;
    return true;
}

/* ---- packing, on a worker's thread ---- */

struct job {
    unsigned type; /* QCOW2_DEFLATE or QCOW2_ZSTD */
    const void *in;
    size_t in_bytes;
    void *out;
    size_t out_bytes; /* room */
    size_t done;      /* packing: bytes made; 0: does not get smaller */
};

static int unpack_deflate(struct job *j)
{
    z_stream z = {.next_in = (Bytef *)j->in,
                  .avail_in = (uInt)j->in_bytes,
                  .next_out = j->out,
                  .avail_out = (uInt)j->out_bytes};

    /* the largest window: reads what others wrote with more than the format's 12 bits, too */
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return -ENOMEM;
    }
    int r = inflate(&z, Z_FINISH);
    size_t left = z.avail_out;
    inflateEnd(&z);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && left == 0 ? 0 : -EIO;
}

static int unpack_zstd(struct job *j)
{
    ZSTD_inBuffer in = {j->in, j->in_bytes, 0};
    ZSTD_outBuffer out = {j->out, j->out_bytes, 0};
    ZSTD_DStream *d = ZSTD_createDStream();
    size_t r = 1;

    if (!d) {
        return -ENOMEM;
    }
    while (out.pos < out.size) { /* the rest of the last sector is not ours: stop when all is there */
        size_t in_before = in.pos, out_before = out.pos;
        r = ZSTD_decompressStream(d, &out, &in);
        if (ZSTD_isError(r) || (in.pos == in_before && out.pos == out_before) ||
            (r == 0 && out.pos < out.size)) {
            break;
        }
    }
    ZSTD_freeDStream(d);
    return out.pos == out.size && !ZSTD_isError(r) ? 0 : -EIO;
}

static int unpack(void *arg)
{
    struct job *j = arg;

    return j->type == QCOW2_ZSTD ? unpack_zstd(j) : unpack_deflate(j);
}

static int pack_deflate(struct job *j)
{
    z_stream z = {.next_in = (Bytef *)j->in,
                  .avail_in = (uInt)j->in_bytes,
                  .next_out = j->out,
                  .avail_out = (uInt)j->out_bytes};

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    int r = deflate(&z, Z_FINISH);
    j->done = r == Z_STREAM_END ? j->out_bytes - z.avail_out : 0;
    deflateEnd(&z);
    return 0;
}

static int pack_zstd(struct job *j)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();

    if (!c) {
        return -ENOMEM;
    }
    size_t r = ZSTD_compress2(c, j->out, j->out_bytes, j->in, j->in_bytes);
    j->done = ZSTD_isError(r) ? 0 : r; /* the one error there can be: no room */
    ZSTD_freeCCtx(c);
    return 0;
}

static int pack(void *arg)
{
    struct job *j = arg;

    return j->type == QCOW2_ZSTD ? pack_zstd(j) : pack_deflate(j);
}

/* ---- reading ---- */

/* One whole cluster into @out. */
static co_fn int read_cluster(struct node *n, uint64_t entry, void *out)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host, bytes;

    qcow2_compressed_range(q, entry, &host, &bytes);
    void *packed = buf_get(bytes);
    if (!packed) {
        return -ENOMEM;
    }
    struct iovec iov = {packed, bytes};
    /* the last sector need not be all there */
    struct req read = {
        .op = REQ_READ, .flags = REQ_GROW, .offset = host, .bytes = bytes, .iov = &iov, .niov = 1};
    int r = node_io(qcow2_file(n), &read);
    if (r == 0) {
        struct job j = {q->h.compression, packed, bytes, out, q->cluster_bytes, 0};
        r = loop_work(unpack, &j);
    }
    buf_put(packed, bytes);
    return r;
}

int qcow2_read_compressed(struct node *n, const struct mapping *m, uint64_t offset, const struct iovec *iov,
                          int niov, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);
    void *whole = niov == 1 && bytes == q->cluster_bytes ? iov[0].iov_base : NULL;

    qcow2_event(n, EVENT_read_compressed);
    if (whole) { /* no second copy */
        return read_cluster(n, m->cookie, whole);
    }
    char *cluster = buf_get(q->cluster_bytes);
    int r = cluster ? read_cluster(n, m->cookie, cluster) : -ENOMEM;
    if (r == 0) {
        iov_from_buf(iov, niov, 0, cluster + qcow2_in_cluster(q, offset), bytes);
    }
    buf_put(cluster, q->cluster_bytes);
    return r;
}

/* ---- writing ---- */

struct cluster_write {
    struct node *n;
    const struct req *r;
    uint64_t done, bytes; /* of the request */
    struct co_task task;
};

/* It does not get smaller: an ordinary write. */
static co_fn int write_plain(struct node *n, uint64_t guest, void *data, uint64_t bytes)
{
    struct iovec iov = {data, bytes};
    struct req w = {.op = REQ_WRITE, .offset = guest, .bytes = bytes, .iov = &iov, .niov = 1};

    return access_io(n, &w);
}

/* A place for the packed bytes, and the cluster claimed against other writes. Lock held. */
static co_fn int claim(struct node *n, uint64_t guest, uint64_t bytes, struct qcow2_write *w,
                       uint64_t *ret_entry)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host;

    qcow2_wait_for_writes(n, guest, q->cluster_bytes);
    int r = q->corrupt ? qcow2_refused(n) : qcow2_need_l2(n, guest);
    r = r < 0 ? r : qcow2_alloc_bytes(n, bytes, &host);
    if (r < 0) {
        return r;
    }
    if (host == 0) {
        qcow2_damaged(n, true, "Preventing invalid allocation of compressed cluster at offset 0");
        r = -EIO;
    } else {
        r = qcow2_check_write(n, 0, host, bytes);
    }
    if (r == 0 && !make_entry(q, host, bytes, ret_entry)) {
        r = -EFBIG;
    }
    if (r < 0) {
        qcow2_release(n, host, qcow2_in_cluster(q, host) + bytes);
        return r;
    }
    *w = (struct qcow2_write){.guest = guest, .bytes = q->cluster_bytes, .host = host};
    co_queue_init(&w->waiters);
    list_add_tail(&q->writes, &w->link);
    return 0;
}

static co_fn int publish(struct node *n, const struct qcow2_write *w, uint64_t entry)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_entry *slice;
    int r = q->corrupt ? qcow2_refused(n) : qcow2_lazy(q) ? qcow2_mark_dirty(n) : 0;

    r = r < 0 ? r : qcow2_get_slice(n, w->guest, true, &slice);
    if (r < 0) {
        return r;
    }
    unsigned index = qcow2_slice_index(q, w->guest);
    struct qcow2_l2 old = qcow2_l2_get(q, slice, index);
    q->changes++;
    qcow2_l2_set(n, slice, index, (struct qcow2_l2){entry, 0});
    if (old.entry & (QCOW2_OFFSET_MASK | QCOW2_COMPRESSED)) {
        qcow2_free_l2(n, old, QCOW2_FREE_OTHER);
    }
    qcow2_cache_put(q->l2_cache, slice);
    return 0;
}

static co_fn int write_packed(struct node *n, uint64_t guest, const void *data, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_write w;
    uint64_t entry = 0;

    co_mutex_lock(&q->lock);
    int r = claim(n, guest, bytes, &w, &entry);
    if (r == 0) {
        qcow2_event(n, EVENT_l2_update_compressed);
    }
    co_mutex_unlock(&q->lock);
    if (r < 0) {
        return r;
    }
    qcow2_event(n, EVENT_write_compressed);
    r = node_write(qcow2_file(n), w.host, data, bytes, REQ_GROW);
    co_mutex_lock(&q->lock);
    r = r < 0 ? r : publish(n, &w, entry);
    if (r < 0) {
        qcow2_release(n, w.host, qcow2_in_cluster(q, w.host) + bytes);
    }
    list_del(&w.link);
    co_queue_wake_all(&w.waiters);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int write_one(void *arg)
{
    struct cluster_write *c = arg;
    struct qcow2 *q = qcow2_of(c->n);
    uint64_t guest = c->r->offset + c->done;
    char *data = buf_get(q->cluster_bytes), *packed = buf_get(q->cluster_bytes);
    int r = data && packed ? 0 : -ENOMEM;

    if (r == 0) {
        struct job j = {q->h.compression, data, q->cluster_bytes, packed, q->cluster_bytes - 1, 0};
        iov_to_buf(c->r->iov, c->r->niov, c->done, data, c->bytes);
        memset(data + c->bytes, 0, q->cluster_bytes - c->bytes); /* behind the end of the disk */
        r = loop_work(pack, &j);
        if (r == 0) {
            r = j.done ? write_packed(c->n, guest, packed, j.done) : -EFBIG;
        }
        if (r == -EFBIG) {
            r = write_plain(c->n, guest, data, c->bytes);
        }
    }
    buf_put(data, q->cluster_bytes);
    buf_put(packed, q->cluster_bytes);
    return r;
}

/* A few clusters at a time. */
static co_fn int write_batch(struct node *n, const struct req *r, uint64_t *done)
{
    struct qcow2 *q = qcow2_of(n);
    struct cluster_write c[PARALLEL];
    struct co_group group;
    unsigned count = 0;
    int result = 0;

    co_group_init(&group);
    for (; count < PARALLEL && *done < r->bytes; count++) {
        c[count] = (struct cluster_write){
            .n = n, .r = r, .done = *done, .bytes = MIN(q->cluster_bytes, r->bytes - *done)};
        *done += c[count].bytes;
        co_group_start(&group, &c[count].task, write_one, &c[count]);
    }
    co_group_wait(&group);
    for (unsigned i = 0; i < count; i++) {
        result = result < 0 ? result : c[i].task.result;
    }
    return result;
}

int qcow2_write_compressed(struct node *n, struct req *r)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t end = r->offset + r->bytes;
    int ret = 0;

    if (qcow2_has_data_file(q)) {
        return -ENOTSUP;
    }
    if (qcow2_in_cluster(q, r->offset) || (qcow2_in_cluster(q, end) && end != n->size)) {
        return -EINVAL; /* whole clusters only */
    }
    for (uint64_t done = 0; ret == 0 && done < r->bytes;) {
        ret = write_batch(n, r, &done);
    }
    return ret;
}
