/* SPDX-License-Identifier: BSD-2-Clause */
/* What info tells about a qcow2 image, with QEMU's names. Nothing but the image is looked at. */
#include "drivers/qcow2/qcow2.h"

#include "base/json.h"

static const char *const compression_names[] = {"zlib", "zstd"};
static const char *const crypt_names[] = {"none", "aes", "luks"};

/* A name from the image, which need not be text. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : json_string("?");
}

/* Steals @value. */
static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

json_t *qcow2_info(struct node *n)
{
    const struct qcow2 *q = n->state;
    const struct qcow2_header *h = &q->h;
    json_t *o = json_object();

    put(o, "compat", json_string(h->version < 3 ? "0.10" : "1.1"));
    put(o, "compression-type", json_string(compression_names[h->compression]));
    if (h->version >= 3) {
        put(o, "lazy-refcounts", json_boolean(h->compatible & QCOW2_LAZY));
    }
    json_t *bitmaps = qcow2_bitmap_ops.list(n);
    if (json_array_size(bitmaps) > 0) {
        put(o, "bitmaps", bitmaps);
    } else {
        json_decref(bitmaps);
    }
    put(o, "refcount-bits", json_integer(1 << h->refcount_order));
    if (h->version >= 3) {
        if (q->data_name) {
            put(o, "data-file", text(q->data_name));
        }
        if (qcow2_has_data_file(q)) {
            put(o, "data-file-raw", json_boolean(h->autoclear & QCOW2_DATA_FILE_RAW));
        }
        put(o, "corrupt", json_boolean(h->incompatible & QCOW2_CORRUPT));
        put(o, "extended-l2", json_boolean(h->incompatible & QCOW2_EXT_L2));
    }
    if (h->crypt_method) {
        put(o, "encrypt", json_pack("{s:s}", "format", crypt_names[h->crypt_method]));
    }
    return o;
}

json_t *qcow2_image_info(struct node *n)
{
    const struct qcow2 *q = n->state;
    json_t *o = json_object();
    AUTO_FREE char *path = NULL;

    put(o, "cluster-size", json_integer((json_int_t)q->cluster_bytes));
    put(o, "vm-state-offset", json_integer((json_int_t)q->vmstate_offset));
    put(o, "dirty-flag", json_boolean(q->h.incompatible & QCOW2_DIRTY));
    if (q->h.crypt_method) {
        put(o, "encrypted", json_true());
    }
    if (q->backing_name) {
        put(o, "backing-filename", text(q->backing_name));
        if (qcow2_resolve_name(n, q->backing_name, "backing file", &path, NULL) == 0) {
            put(o, "full-backing-filename", text(path));
        }
        if (q->backing_format) {
            put(o, "backing-filename-format", text(q->backing_format));
        }
    }
    return o;
}
