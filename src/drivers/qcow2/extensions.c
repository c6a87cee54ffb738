/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Header extensions: what follows the header in the first cluster. Those we interpret are kept in
 * struct qcow2, all others as they are, so that rewriting the header loses nothing.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

static const struct {
    uint8_t type, bit;
    const char *name;
} feature_names[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

size_t qcow2_feature_names(uint8_t *ret_bytes)
{
    static_assert(ARRAY_SIZE(feature_names) * 48 == QCOW2_FEATURE_NAMES_BYTES, "one row is 48 bytes");
    if (ret_bytes) {
        memset(ret_bytes, 0, QCOW2_FEATURE_NAMES_BYTES);
        for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
            uint8_t *row = ret_bytes + 48 * i;
            row[0] = feature_names[i].type;
            row[1] = feature_names[i].bit;
            memcpy(row + 2, feature_names[i].name, strlen(feature_names[i].name));
        }
    }
    return QCOW2_FEATURE_NAMES_BYTES;
}

/* ---- reading ---- */

int qcow2_add_extension(struct qcow2 *q, uint32_t type, const void *data, uint32_t bytes)
{
    struct qcow2_extension *x = malloc(sizeof(*x) + bytes);

    if (!x) {
        return -ENOMEM;
    }
    x->type = type;
    x->bytes = bytes;
    memcpy(x->data, data, bytes);
    list_add_tail(&q->extensions, &x->link);
    return 0;
}

void qcow2_free_extensions(struct qcow2 *q)
{
    struct qcow2_extension *x, *tmp;

    if (q->extensions.next) {
        list_for_each_safe (x, tmp, &q->extensions, link) {
            list_del(&x->link);
            free(x);
        }
    }
}

static int take_name(char **place, const uint8_t *data, uint32_t len, uint32_t max, const char *what,
                     struct err *err)
{
    if (len > max) {
        return err_set(err, -EINVAL, "ERROR: %s: len=%" PRIu32 " too large (>=%" PRIu32 ")", what, len,
                       max + 1);
    }
    char *text = strndup((const char *)data, len);
    if (!text) {
        return err_set(err, -ENOMEM, "no memory for an image");
    }
    free(*place);
    *place = text;
    return 0;
}

static int take_bitmaps(struct qcow2 *q, const uint8_t *data, uint32_t len, bool strict, struct err *err)
{
    if (len != qcow2_bitmaps_ext_layout.bytes) {
        return err_set(err, -EINVAL, "bitmaps_ext: Invalid extension length");
    }
    layout_parse(&qcow2_bitmaps_ext_layout, data, len, 3, &q->bitmaps);
    /* without the autoclear bit nobody keeps it true: it is not looked at */
    int r = strict ? layout_check(&qcow2_bitmaps_ext_layout, &q->bitmaps, 3, q->cluster_bytes, err) : 0;
    q->has_bitmaps = r == 0;
    return r;
}

static int take_crypto(struct qcow2 *q, const uint8_t *data, uint32_t len, struct err *err)
{
    if (q->h.crypt_method != QCOW2_CRYPT_LUKS) {
        return err_set(err, -EINVAL, "CRYPTO header extension only expected with LUKS encryption method");
    }
    if (len != qcow2_crypto_ext_layout.bytes) {
        return err_set(err, -EINVAL, "CRYPTO header extension size %" PRIu32 ", but expected size %u", len,
                       qcow2_crypto_ext_layout.bytes);
    }
    layout_parse(&qcow2_crypto_ext_layout, data, len, 3, &q->crypto);
    int r = layout_check(&qcow2_crypto_ext_layout, &q->crypto, 3, q->cluster_bytes, err);
    q->has_crypto = r == 0;
    return r;
}

static int take_extension(struct qcow2 *q, uint32_t type, const uint8_t *data, uint32_t len, struct err *err)
{
    int r;

    switch (type) {
    case QCOW2_EXT_BACKING_FORMAT:
        return take_name(&q->backing_format, data, len, 15, "ext_backing_format", err);
    case QCOW2_EXT_DATA_FILE:
        return take_name(&q->data_name, data, len, QCOW2_BACKING_NAME_MAX, "ext_data_file", err);
    case QCOW2_EXT_BITMAPS:
        return take_bitmaps(q, data, len, q->h.autoclear & QCOW2_BITMAPS, err);
    case QCOW2_EXT_CRYPTO:
        return take_crypto(q, data, len, err);
    default:
        r = qcow2_add_extension(q, type, data, len);
        return r < 0 ? err_set(err, r, "no memory for an image") : 0;
    }
}

int qcow2_parse_extensions(struct node *n, const uint8_t *bytes, uint64_t len, uint64_t offset,
                           struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint64_t at = 0; at < len;) {
        if (len - at < 8) {
            return err_set(err, -EINVAL, "Header extension too large");
        }
        uint32_t type = get_be32(bytes + at);
        uint32_t data_bytes = get_be32(bytes + at + 4);
        at += 8;
        if (type == QCOW2_EXT_END) {
            return 0;
        }
        if (data_bytes > len - at) {
            return err_set(err, -EINVAL, "Header extension too large");
        }
        int r = take_extension(q, type, bytes + at, data_bytes, err);
        if (r < 0) {
            return r;
        }
        at = round_up(at + data_bytes, 8);
    }
    (void)offset;
    return 0;
}

/* ---- writing ---- */

struct cursor {
    uint8_t *bytes;
    uint64_t at, end;
};

static int put_extension(struct cursor *c, uint32_t type, const void *data, uint64_t bytes)
{
    uint64_t padded = round_up(bytes, 8);

    if (c->end - c->at < 8 || c->end - c->at - 8 < padded) {
        return -ENOSPC;
    }
    put_be32(c->bytes + c->at, type);
    put_be32(c->bytes + c->at + 4, (uint32_t)bytes);
    memcpy(c->bytes + c->at + 8, data, bytes);
    c->at += 8 + padded;
    return 0;
}

static int put_text(struct cursor *c, uint32_t type, const char *text)
{
    return text ? put_extension(c, type, text, strlen(text)) : 0;
}

static int put_layout(struct cursor *c, uint32_t type, const struct layout *l, const void *object)
{
    uint8_t data[32] = {0};

    assert(l->bytes <= sizeof(data));
    layout_write(l, object, 3, data, l->bytes);
    return put_extension(c, type, data, l->bytes);
}

static int put_kept(struct cursor *c, const struct qcow2 *q, bool names)
{
    const struct qcow2_extension *x;
    int r = 0;

    list_for_each (x, &q->extensions, link) {
        if (r == 0 && (names || x->type != QCOW2_EXT_FEATURES)) {
            r = put_extension(c, x->type, x->data, x->bytes);
        }
    }
    return r;
}

static int put_backing_name(struct cursor *c, const struct qcow2 *q, struct qcow2_header *h)
{
    uint64_t bytes = q->backing_name ? strlen(q->backing_name) : 0;

    h->backing_offset = 0;
    h->backing_bytes = 0;
    if (bytes == 0) {
        return 0;
    }
    if (c->at > c->end || bytes > c->end - c->at || bytes > QCOW2_BACKING_NAME_MAX) {
        return -ENOSPC;
    }
    memcpy(c->bytes + c->at, q->backing_name, bytes);
    h->backing_offset = c->at;
    h->backing_bytes = (uint32_t)bytes;
    return 0;
}

/* @name_at: where the backing file's name lies; 0: behind the extensions, which end before @end. */
static int render(const struct qcow2 *q, bool names, uint64_t end, uint64_t name_at, uint8_t *cluster)
{
    struct qcow2_header h = q->h;
    struct cursor c = {cluster, h.version == 2 ? QCOW2_V2_HEADER_BYTES : h.header_bytes, end};
    int r;

    memset(cluster, 0, q->cluster_bytes);
    if (h.header_bytes > QCOW2_HEADER_BYTES && q->header_tail) {
        memcpy(cluster + QCOW2_HEADER_BYTES, q->header_tail, h.header_bytes - QCOW2_HEADER_BYTES);
    }
    if ((r = put_text(&c, QCOW2_EXT_BACKING_FORMAT, q->backing_format)) < 0 ||
        (r = put_text(&c, QCOW2_EXT_DATA_FILE, q->data_name)) < 0 ||
        (q->has_crypto && (r = put_layout(&c, QCOW2_EXT_CRYPTO, &qcow2_crypto_ext_layout, &q->crypto)) < 0) ||
        (r = put_kept(&c, q, names)) < 0 ||
        (q->has_bitmaps &&
         (r = put_layout(&c, QCOW2_EXT_BITMAPS, &qcow2_bitmaps_ext_layout, &q->bitmaps)) < 0) ||
        (r = put_extension(&c, QCOW2_EXT_END, "", 0)) < 0) {
        return r;
    }
    c.at = name_at ? name_at : c.at;
    c.end = q->cluster_bytes;
    if ((r = put_backing_name(&c, q, &h)) < 0) {
        return r;
    }
    layout_write(&qcow2_header_layout, &h, h.version, cluster, h.header_bytes);
    return 0;
}

/* The feature names help, but an image works without: where they do not fit they are left out. */
int qcow2_render_header(const struct qcow2 *q, uint8_t *cluster)
{
    int r = render(q, true, q->cluster_bytes, 0, cluster);

    return r == -ENOSPC ? render(q, false, q->cluster_bytes, 0, cluster) : r;
}

int qcow2_render_bridge(const struct qcow2 *q, uint64_t name_at, uint8_t *cluster)
{
    return q->h.header_bytes > SECTOR_SIZE ? -ENOSPC : render(q, false, SECTOR_SIZE, name_at, cluster);
}
