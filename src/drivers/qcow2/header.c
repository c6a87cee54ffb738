/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The header of the image: read and judged. Every number that comes from it is checked here
 * once, so that nobody else computes with one that could overflow or ask for unbounded memory.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- what is derived ---- */

int qcow2_set_derived(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->h;
    bool ext_l2 = h->incompatible & QCOW2_EXT_L2;

    q->cluster_bits = h->cluster_bits;
    q->cluster_bytes = UINT64_C(1) << h->cluster_bits;
    q->l2_entry_bytes_each = ext_l2 ? 16 : 8;
    q->l2_bits = h->cluster_bits - (ext_l2 ? 4 : 3);
    q->subclusters = ext_l2 ? QCOW2_SUBCLUSTERS : 1;
    q->sub_bits = h->cluster_bits - (ext_l2 ? 5 : 0);
    q->ref_bits_order = MIN(h->refcount_order, 6u); /* more is refused, but only later */
    q->refblock_bits = h->cluster_bits + 3 - q->ref_bits_order;
    q->ref_max = q->ref_bits_order == 6 ? INT64_MAX : (UINT64_C(1) << (1u << q->ref_bits_order)) - 1;
    q->vmstate_offset = qcow2_l1_needed(q, h->size) << qcow2_l1_shift(q);
    return 0;
}

/* ---- judging ---- */

/* A table of @entries of 8 bytes at @offset. */
static int check_table(const struct qcow2 *q, const char *what, uint64_t offset, uint64_t bytes, uint64_t max,
                       struct err *err)
{
    if (bytes > max) {
        return err_set(err, -EFBIG, "%s too large", what);
    }
    if (qcow2_in_cluster(q, offset) || offset > BLOCK_SIZE_MAX - bytes) {
        return err_set(err, -EINVAL, "%s offset invalid", what);
    }
    return 0;
}

static int check_features(const struct qcow2 *q, struct err *err)
{
    uint64_t unknown = q->h.incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN;
    char text[512] = "";
    size_t used = 0;
    const struct qcow2_extension *x;

    if (!unknown) {
        return 0;
    }
    list_for_each (x, &q->extensions, link) {
        for (uint32_t at = 0; x->type == QCOW2_EXT_FEATURES && at < x->bytes; at += 48) {
            uint8_t row[48] = {0}; /* the last one may be cut short */
            memcpy(row, x->data + at, MIN(sizeof(row), (size_t)(x->bytes - at)));
            if (row[0] == 0 && row[1] < 64 && (unknown >> row[1] & 1) && used < sizeof(text) - 64) {
                unknown &= ~(UINT64_C(1) << row[1]);
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.46s", used ? ", " : "",
                                         (const char *)row + 2);
            }
        }
    }
    if (unknown && used < sizeof(text) - 64) {
        snprintf(text + used, sizeof(text) - used, "%sUnknown incompatible feature: %" PRIx64,
                 used ? ", " : "", unknown);
    }
    return err_set(err, -ENOTSUP, "Unsupported qcow2 feature(s): %s", text);
}

static int check_compression(const struct qcow2_header *h, struct err *err)
{
    bool bit = h->incompatible & QCOW2_COMPRESSION;

    if (h->compression > QCOW2_ZSTD) {
        return err_set(err, -ENOTSUP, "qcow2: unknown compression type: %u", h->compression);
    }
    if (bit != (h->compression != QCOW2_DEFLATE)) {
        return err_set(err, -EINVAL, "qcow2: Compression type incompatible feature bit must %sbe set",
                       bit ? "not " : "");
    }
    return 0;
}

static int check_tables(const struct qcow2 *q, bool lenient, struct err *err)
{
    const struct qcow2_header *h = &q->h;
    uint64_t reftable_bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;
    int r;

    if (h->reftable_clusters == 0 && !lenient) {
        return err_set(err, -EINVAL, "Image does not contain a reference count table");
    }
    r = check_table(q, "Reference count table", h->reftable_offset, reftable_bytes, QCOW2_REFTABLE_MAX, err);
    if (r == 0 && h->snapshots) {
        /* the fixed part of an entry has 40 bytes */
        r = check_table(q, "Snapshot table", h->snapshots_offset, (uint64_t)h->snapshots * 40,
                        QCOW2_SNAPSHOTS_MAX * 40, err);
    }
    if (r == 0) {
        r = check_table(q, "Active L1 table", h->l1_offset, (uint64_t)h->l1_entries * 8, QCOW2_L1_BYTES_MAX,
                        err);
    }
    if (r == 0 && qcow2_l1_needed(q, h->size) > QCOW2_L1_BYTES_MAX / 8) {
        r = err_set(err, -EFBIG, "Image is too big");
    }
    if (r == 0 && h->l1_entries < qcow2_l1_needed(q, h->size)) {
        r = err_set(err, -EINVAL, "L1 table is too small");
    }
    return r;
}

/* What the extensions' place depends on. */
static int check_frame(const struct qcow2_header *h, struct err *err)
{
    if (h->magic != QCOW2_MAGIC) {
        return err_set(err, -EINVAL, "Image is not in qcow2 format");
    }
    if (h->version < 2 || h->version > 3) {
        return err_set(err, -ENOTSUP, "Unsupported qcow2 version %" PRIu32, h->version);
    }
    if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX) {
        return err_set(err, -EINVAL, "Unsupported cluster size: 2^%" PRIu32, h->cluster_bits);
    }
    uint64_t cluster_bytes = UINT64_C(1) << h->cluster_bits;
    if (h->version >= 3 && h->header_bytes < QCOW2_V3_HEADER_BYTES) {
        return err_set(err, -EINVAL, "qcow2 header too short");
    }
    if (h->header_bytes > cluster_bytes) {
        return err_set(err, -EINVAL, "qcow2 header exceeds cluster size");
    }
    if (h->backing_offset > cluster_bytes || (h->backing_offset && h->backing_offset < h->header_bytes)) {
        return err_set(err, -EINVAL, "Invalid backing file offset");
    }
    if (h->backing_offset &&
        h->backing_bytes > MIN((uint64_t)QCOW2_BACKING_NAME_MAX, cluster_bytes - h->backing_offset)) {
        return err_set(err, -EINVAL, "Backing file name too long");
    }
    return 0;
}

/* Everything else, once the feature names are known. */
static int check_rest(const struct node *n, const struct qcow2 *q, struct err *err)
{
    const struct qcow2_header *h = &q->h;
    bool lenient = n->flags & OPEN_CHECK;
    int r = check_features(q, err);

    if (r < 0 || (r = check_compression(h, err)) < 0) {
        return r;
    }
    if ((h->incompatible & QCOW2_CORRUPT) && !n->read_only && !lenient) {
        return err_set(err, -EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
    }
    if (h->refcount_order > 6) {
        return err_set(err, -EINVAL, "Reference count entry width too large; may not exceed 64 bits");
    }
    if ((h->incompatible & QCOW2_EXT_L2) && h->cluster_bits < QCOW2_EXT_L2_BITS_MIN) {
        return err_set(err, -EINVAL, "Extended L2 entries need clusters of at least 16 KiB, not 2^%" PRIu32,
                       h->cluster_bits);
    }
    if (h->crypt_method > QCOW2_CRYPT_LUKS) {
        return err_set(err, -EINVAL, "Unsupported encryption method %" PRIu32, h->crypt_method);
    }
    if (h->size > BLOCK_SIZE_MAX) {
        return err_set(err, -EFBIG, "Image is too big");
    }
    return 0;
}

/* ---- reading ---- */

static void fill_version_2(struct qcow2_header *h)
{
    if (h->version == 2) {
        h->refcount_order = 4;
        h->header_bytes = QCOW2_V2_HEADER_BYTES;
    }
}

static int take_text(const uint8_t *bytes, uint64_t len, char **ret, struct err *err)
{
    char *text = strndup((const char *)bytes, len);

    if (!text) {
        return err_set(err, -ENOMEM, "no memory for an image");
    }
    free(*ret);
    *ret = text;
    return 0;
}

/* The first cluster is here: names, extensions, and header bytes that only a newer version knows. */
static int parse_first_cluster(struct node *n, const uint8_t *cluster, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    const struct qcow2_header *h = &q->h;
    uint64_t end = h->backing_offset ? h->backing_offset : q->cluster_bytes;
    int r = 0;

    if (h->header_bytes > QCOW2_HEADER_BYTES) {
        q->header_tail = malloc(h->header_bytes - QCOW2_HEADER_BYTES);
        if (!q->header_tail) {
            return err_set(err, -ENOMEM, "no memory for an image");
        }
        memcpy(q->header_tail, cluster + QCOW2_HEADER_BYTES, h->header_bytes - QCOW2_HEADER_BYTES);
    }
    if (h->backing_offset && h->backing_bytes) {
        r = take_text(cluster + h->backing_offset, h->backing_bytes, &q->backing_name, err);
    }
    return r < 0 ? r
                 : qcow2_parse_extensions(n, cluster + h->header_bytes, end - h->header_bytes,
                                          h->header_bytes, err);
}

/* What of the first cluster the file has; the rest is zeroes. */
static co_fn int read_first_cluster(struct node *n, uint8_t *cluster, uint64_t bytes)
{
    uint64_t have = MIN(bytes, node_size(qcow2_file(n)));

    memset(cluster + have, 0, bytes - have);
    return qcow2_read_meta(n, 0, cluster, have);
}

int qcow2_read_header(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint8_t fixed[QCOW2_HEADER_BYTES];
    int r = read_first_cluster(n, fixed, sizeof(fixed));

    if (r < 0) {
        return err_set_errno(err, r, "Could not read qcow2 header");
    }
    layout_parse(&qcow2_header_layout, fixed, sizeof(fixed), get_be32(fixed + 4), &q->h);
    fill_version_2(&q->h);
    r = check_frame(&q->h, err);
    if (r < 0) {
        return r;
    }
    /* fields behind the header's own length are not there */
    layout_parse(&qcow2_header_layout, fixed, MIN(sizeof(fixed), q->h.header_bytes), q->h.version, &q->h);
    fill_version_2(&q->h);
    qcow2_set_derived(q);
    uint8_t *cluster = buf_get(q->cluster_bytes);
    r = cluster ? read_first_cluster(n, cluster, q->cluster_bytes) : -ENOMEM;
    r = r < 0 ? err_set_errno(err, r, "Could not read qcow2 header") : parse_first_cluster(n, cluster, err);
    buf_put(cluster, q->cluster_bytes);
    if (r < 0 || (r = check_rest(n, q, err)) < 0) {
        return r;
    }
    qcow2_set_derived(q);
    return check_tables(q, n->flags & OPEN_CHECK, err);
}
