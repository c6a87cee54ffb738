/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every structure of an image, told through the field tables with its place in the file: header,
 * extensions, tables and their entries that are not zero, refcounts, snapshots, bitmaps. Nothing is
 * judged, so a damaged image can be looked at, too; what lies outside of the file is left out.
 */
#include "drivers/qcow2/qcow2.h"

#include "base/json.h"

#define NONE         UINT64_MAX
#define ENTRIES_MAX  (8u << 20) /* of a table: what a bitmap directory says is not checked elsewhere */
#define VARIABLE_MAX 4096       /* what of an entry's variable part is looked at */
#define TOLD_MAX     100000000u /* structures: tables of a hostile image name each other over and over */

struct dump {
    struct node *n;
    struct qcow2 *q;
    dump_out *out;
    void *opaque;
    uint64_t *told;
};

static void tell(const struct dump *d, uint64_t offset, const char *what, uint64_t index, json_t *fields)
{
    ++*d->told;
    d->out(d->opaque, offset, what, index, fields);
}

static void tell_layout(const struct dump *d, const struct layout *l, uint64_t offset, const void *bytes,
                        uint64_t index)
{
    tell(d, offset, l->name, index, layout_dump(l, bytes, l->bytes, d->q->h.version));
}

static json_t *text_of(const uint8_t *bytes, uint64_t len)
{
    json_t *j = json_stringn((const char *)bytes, len);

    return j ? j : json_string("(not text)");
}

/* ---- header and extensions ---- */

static void dump_features(const struct dump *d, const uint8_t *data, uint64_t offset, uint32_t len)
{
    for (uint32_t at = 0; at + 48 <= len; at += 48) {
        tell_layout(d, &qcow2_feature_layout, offset + at, data + at, at / 48);
    }
}

static void dump_extension(const struct dump *d, uint32_t type, const uint8_t *data, uint64_t offset,
                           uint32_t len)
{
    switch (type) {
    case QCOW2_EXT_FEATURES:
        dump_features(d, data, offset, len);
        break;
    case QCOW2_EXT_BITMAPS:
        if (len >= qcow2_bitmaps_ext_layout.bytes) {
            tell_layout(d, &qcow2_bitmaps_ext_layout, offset, data, NONE);
        }
        break;
    case QCOW2_EXT_CRYPTO:
        if (len >= qcow2_crypto_ext_layout.bytes) {
            tell_layout(d, &qcow2_crypto_ext_layout, offset, data, NONE);
        }
        break;
    case QCOW2_EXT_BACKING_FORMAT:
        tell(d, offset, "backing format", NONE, json_pack("{s:o}", "text", text_of(data, len)));
        break;
    case QCOW2_EXT_DATA_FILE:
        tell(d, offset, "data file name", NONE, json_pack("{s:o}", "text", text_of(data, len)));
        break;
    default:
        break;
    }
}

static void dump_extensions(const struct dump *d, const uint8_t *cluster)
{
    const struct qcow2_header *h = &d->q->h;
    uint64_t end = h->backing_offset ? h->backing_offset : d->q->cluster_bytes;
    uint64_t number = 0;

    for (uint64_t at = h->header_bytes; at + 8 <= end; number++) {
        uint32_t type = get_be32(cluster + at), len = get_be32(cluster + at + 4);
        tell_layout(d, &qcow2_extension_layout, at, cluster + at, number);
        at += 8;
        if (type == QCOW2_EXT_END || len > end - at) {
            break;
        }
        dump_extension(d, type, cluster + at, at, len);
        at = round_up(at + len, 8);
    }
    if (h->backing_offset && h->backing_bytes <= d->q->cluster_bytes - h->backing_offset) {
        tell(d, h->backing_offset, "backing file name", NONE,
             json_pack("{s:o}", "text", text_of(cluster + h->backing_offset, h->backing_bytes)));
    }
}

static co_fn int dump_first_cluster(const struct dump *d)
{
    uint64_t have = MIN(d->q->cluster_bytes, node_size(qcow2_file(d->n)));
    uint8_t *cluster = buf_get(d->q->cluster_bytes);
    int r = cluster ? 0 : -ENOMEM;

    if (r == 0) {
        memset(cluster + have, 0, d->q->cluster_bytes - have);
        r = qcow2_read_meta(d->n, 0, cluster, have);
    }
    if (r == 0) {
        tell(d, 0, qcow2_header_layout.name, NONE,
             layout_dump(&qcow2_header_layout, cluster, MIN(d->q->h.header_bytes, QCOW2_HEADER_BYTES),
                         d->q->h.version));
        dump_extensions(d, cluster);
    }
    buf_put(cluster, d->q->cluster_bytes);
    return r;
}

/* ---- tables ---- */

/* Call @each for every entry of @width bytes that is not zero. A table outside of the file is none. */
static co_fn int walk(const struct dump *d, uint64_t host, uint64_t entries, unsigned width,
                      co_fn int (*each)(const struct dump *d, uint64_t offset, const uint8_t *bytes,
                                        uint64_t index, uint64_t arg),
                      uint64_t arg)
{
    uint64_t piece = 64 * KiB;
    uint8_t *buf = buf_get(piece);
    int r = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < entries * width; at += piece) {
        uint64_t bytes = MIN(piece, entries * width - at);
        if (qcow2_read_meta(d->n, host + at, buf, bytes) < 0) {
            break;
        }
        for (uint64_t i = 0; r == 0 && i < bytes; i += width) {
            if (*d->told > TOLD_MAX) {
                r = -EFBIG;
            } else if (!buffer_is_zero(buf + i, width)) {
                r = each(d, host + at + i, buf + i, (at + i) / width, arg);
            }
        }
    }
    buf_put(buf, piece);
    return r;
}

static co_fn int dump_l2_entry(const struct dump *d, uint64_t offset, const uint8_t *bytes, uint64_t index,
                               uint64_t guest)
{
    struct qcow2 *q = d->q;
    uint64_t entry = get_be64(bytes), host, len;
    json_t *fields = layout_dump(&qcow2_l2_layout, bytes, q->l2_entry_bytes_each, q->h.version);

    json_object_set_new(fields, "guest_offset",
                        json_integer((json_int_t)(guest + (index << q->cluster_bits))));
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed_range(q, entry, &host, &len);
        json_object_set_new(fields, "offset", json_integer((json_int_t)host));
        json_object_set_new(fields, "length", json_integer((json_int_t)len));
    }
    if (q->subclusters > 1) {
        AUTO_JSON json_t *bits = layout_dump(&qcow2_l2_bitmap_layout, bytes, 16, 3);
        json_object_set(fields, "subclusters", bits);
    }
    tell(d, offset, qcow2_l2_layout.name, index, fields);
    return 0;
}

static co_fn int dump_l1_entry(const struct dump *d, uint64_t offset, const uint8_t *bytes, uint64_t index,
                               uint64_t arg)
{
    uint64_t table = get_be64(bytes) & QCOW2_OFFSET_MASK;

    (void)arg;
    tell_layout(d, &qcow2_l1_layout, offset, bytes, index);
    if (table == 0 || index >= UINT64_C(1) << (63 - qcow2_l1_shift(d->q))) {
        return 0;
    }
    return walk(d, table, UINT64_C(1) << d->q->l2_bits, d->q->l2_entry_bytes_each, dump_l2_entry,
                index << qcow2_l1_shift(d->q));
}

/* ---- refcounts ---- */

static co_fn int dump_reftable_entry(const struct dump *d, uint64_t offset, const uint8_t *bytes,
                                     uint64_t index, uint64_t arg)
{
    struct qcow2 *q = d->q;
    uint64_t host = get_be64(bytes) & QCOW2_REF_MASK;
    uint8_t *block = buf_get(q->cluster_bytes);

    (void)arg;
    tell_layout(d, &qcow2_reftable_layout, offset, bytes, index);
    if (!block) {
        return -ENOMEM;
    }
    if (host && qcow2_read_meta(d->n, host, block, q->cluster_bytes) == 0) {
        for (uint64_t i = 0; i < UINT64_C(1) << q->refblock_bits; i++) {
            uint64_t refs = qcow2_read_ref(block, i, q->ref_bits_order);
            uint64_t cluster = (index << q->refblock_bits) + i;
            if (refs) {
                tell(d, host + (i << q->ref_bits_order >> 3), "refcount", cluster,
                     json_pack("{s:I, s:I}", "count", (json_int_t)refs, "cluster_offset",
                               (json_int_t)(cluster << q->cluster_bits)));
            }
        }
    }
    buf_put(block, q->cluster_bytes);
    return 0;
}

/* ---- snapshots, bitmaps ---- */

static co_fn int dump_snapshots(const struct dump *d)
{
    struct qcow2 *q = d->q;
    uint64_t at = q->h.snapshots_offset;
    uint8_t *buf = buf_get(VARIABLE_MAX);
    int r = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < q->h.snapshots; i++) {
        uint8_t fixed[40];
        if (qcow2_read_meta(d->n, at, fixed, sizeof(fixed)) < 0) {
            break;
        }
        uint64_t extra = get_be32(fixed + 36), id = get_be16(fixed + 12), name = get_be16(fixed + 14);
        uint64_t rest = extra + id + name;
        json_t *fields = layout_dump(&qcow2_snapshot_layout, fixed, sizeof(fixed), q->h.version);
        if (rest <= VARIABLE_MAX && qcow2_read_meta(d->n, at + 40, buf, rest) == 0) {
            json_object_set_new(fields, "extra",
                                layout_dump(&qcow2_snapshot_extra_layout, buf, extra, q->h.version));
            json_object_set_new(fields, "id", text_of(buf + extra, id));
            json_object_set_new(fields, "name", text_of(buf + extra + id, name));
        }
        tell(d, at, qcow2_snapshot_layout.name, i, fields);
        r = walk(d, get_be64(fixed), MIN(get_be32(fixed + 8), ENTRIES_MAX), 8, dump_l1_entry, 0);
        at = round_up(at + 40 + rest, 8);
    }
    buf_put(buf, VARIABLE_MAX);
    return r;
}

static co_fn int dump_bitmap_entry(const struct dump *d, uint64_t offset, const uint8_t *bytes,
                                   uint64_t index, uint64_t arg)
{
    (void)arg;
    tell_layout(d, &qcow2_bitmap_table_layout, offset, bytes, index);
    return 0;
}

static co_fn int dump_bitmaps(const struct dump *d)
{
    struct qcow2 *q = d->q;
    uint64_t at = q->bitmaps.directory_offset;
    uint8_t *buf = buf_get(VARIABLE_MAX);
    int r = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && q->has_bitmaps && i < q->bitmaps.bitmaps; i++) {
        uint8_t fixed[24];
        if (at > QCOW2_HOST_END || qcow2_read_meta(d->n, at, fixed, sizeof(fixed)) < 0) {
            break;
        }
        uint64_t name = get_be16(fixed + 18), extra = get_be32(fixed + 20);
        json_t *fields = layout_dump(&qcow2_bitmap_layout, fixed, sizeof(fixed), q->h.version);
        if (name <= VARIABLE_MAX && qcow2_read_meta(d->n, at + 24 + extra, buf, name) == 0) {
            json_object_set_new(fields, "name", text_of(buf, name));
        }
        tell(d, at, qcow2_bitmap_layout.name, i, fields);
        r = walk(d, get_be64(fixed), MIN(get_be32(fixed + 8), ENTRIES_MAX), 8, dump_bitmap_entry, 0);
        at = round_up(at + 24 + extra + name, 8);
    }
    buf_put(buf, VARIABLE_MAX);
    return r;
}

int qcow2_dump(struct node *n, dump_out *out, void *opaque, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t told = 0;
    struct dump d = {n, q, out, opaque, &told};
    int r = dump_first_cluster(&d);

    r = r < 0 ? r
              : walk(&d, q->h.reftable_offset, ((uint64_t)q->h.reftable_clusters << q->cluster_bits) / 8, 8,
                     dump_reftable_entry, 0);
    r = r < 0 ? r : walk(&d, q->h.l1_offset, q->h.l1_entries, 8, dump_l1_entry, 0);
    r = r < 0 ? r : dump_snapshots(&d);
    r = r < 0 ? r : dump_bitmaps(&d);
    if (r == -EFBIG) {
        return err_set(err, r, "more than %u structures: the rest is left out", TOLD_MAX);
    }
    return r < 0 ? err_set_errno(err, r, "Could not read the image") : 0;
}
