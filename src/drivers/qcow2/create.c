/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New images: an empty one of size zero is written, opened, and grown to its size, as QEMU does it;
 * so both lay the same tables in the same places.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

#include "base/json.h"
#include "block/name.h"

#define CLUSTER_BYTES_DEFAULT "64K"

enum { COMPAT_V3, COMPAT_1_1, COMPAT_V2, COMPAT_0_10 };
enum { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

static const char *const compat_values[] = {"v3", "1.1", "v2", "0.10", NULL};
static const char *const preallocation_values[] = {"off", "metadata", "falloc", "full", NULL};
static const char *const compression_values[] = {"zlib", "zstd", NULL};

/* In the order of the "Formatting" line, which scripts compare as a whole. */
const struct option qcow2_create_options[] = {
    {"encryption", OPT_BOOL, offsetof(struct qcow2_create, encryption),
     .help = "Encrypt the image with format 'aes'. (not supported)"},
    {"encrypt.format", OPT_STRING, offsetof(struct qcow2_create, encryption_format),
     .help = "Encrypt the image, format choices: 'aes', 'luks' (not supported)"},
    {"cluster_size", OPT_SIZE, offsetof(struct qcow2_create, cluster_bytes), .def = CLUSTER_BYTES_DEFAULT,
     .help = "qcow2 cluster size"},
    {"extended_l2", OPT_BOOL, offsetof(struct qcow2_create, extended_l2), .def = "off",
     .help = "Extended L2 tables"},
    {"preallocation", OPT_ENUM, offsetof(struct qcow2_create, preallocation), .values = preallocation_values,
     .help = "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"compression_type", OPT_ENUM, offsetof(struct qcow2_create, compression), .def = "zlib",
     .values = compression_values, .help = "Compression method used for image cluster compression"},
    {"size", OPT_SIZE, offsetof(struct qcow2_create, size_bytes), .help = "Virtual disk size"},
    {"compat", OPT_ENUM, offsetof(struct qcow2_create, compat), .values = compat_values,
     .help = "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"backing_file", OPT_STRING, offsetof(struct qcow2_create, backing_file),
     .help = "File name of a base image"},
    {"backing_fmt", OPT_STRING, offsetof(struct qcow2_create, backing_format),
     .help = "Image format of the base image"},
    {"data_file", OPT_STRING, offsetof(struct qcow2_create, data_file),
     .help = "File name of an external data file"},
    {"data_file_raw", OPT_BOOL, offsetof(struct qcow2_create, data_file_raw),
     .help = "The external data file must stay valid as a raw image"},
    {"lazy_refcounts", OPT_BOOL, offsetof(struct qcow2_create, lazy_refcounts), .def = "off",
     .help = "Postpone refcount updates"},
    {"refcount_bits", OPT_UINT, offsetof(struct qcow2_create, refcount_bits), .def = "16",
     .help = "Width of a reference count entry in bits"},
    {0},
};

/* ---- what was asked ---- */

static bool is_v2(const struct qcow2_create *c)
{
    return c->compat == COMPAT_V2 || c->compat == COMPAT_0_10;
}

bool qcow2_prealloc_takes_space(const struct qcow2_create *c)
{
    return c->preallocation == PREALLOC_FALLOC || c->preallocation == PREALLOC_FULL;
}

static int check_v2(const struct qcow2_create *c, struct err *err)
{
    if (c->lazy_refcounts) {
        return err_set(
            err, -EINVAL,
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or "
            "greater)");
    }
    if (c->refcount_bits != 16) {
        return err_set(err, -EINVAL,
                       "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
                       "version=v3 or greater)");
    }
    if (c->extended_l2) {
        return err_set(err, -EINVAL,
                       "Extended L2 entries are only supported with compatibility level 1.1 and above (use "
                       "version=v3 or greater)");
    }
    if (c->data_file) {
        return err_set(err, -EINVAL,
                       "External data files are only supported with compatibility level 1.1 and above (use "
                       "version=v3 or greater)");
    }
    if (c->compression) {
        return err_set(
            err, -EINVAL,
            "Non-zlib compression type is only supported with compatibility level 1.1 and above (use "
            "version=v3 or greater)");
    }
    return 0;
}

static int check_data_file(const struct qcow2_create *c, struct err *err)
{
    if (c->data_file_raw && !c->data_file) {
        return err_set(err, -EINVAL, "data-file-raw requires data-file");
    }
    if (c->data_file_raw && c->backing_file) {
        return err_set(err, -EINVAL, "Backing file and data-file-raw cannot be used at the same time");
    }
    return 0;
}

int qcow2_check_create(const struct qcow2_create *c, uint64_t size, struct err *err)
{
    uint64_t l2_bytes = c->extended_l2 ? 16 : 8;

    if (c->encryption || c->encryption_format) {
        return err_set(err, -ENOTSUP, "encrypted images are not supported");
    }
    if (!is_pow2(c->cluster_bytes) || c->cluster_bytes < 512 || c->cluster_bytes > 2 * MiB) {
        return err_set(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    }
    if (c->extended_l2 && c->cluster_bytes < 16 * KiB) {
        return err_set(err, -EINVAL,
                       "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
    }
    if (!is_pow2(c->refcount_bits) || c->refcount_bits > 64) {
        return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (c->preallocation != PREALLOC_OFF && c->backing_file && !c->extended_l2) {
        return err_set(
            err, -EINVAL,
            "Backing file and preallocation can only be used at the same time if extended_l2 is enabled");
    }
    /* also the size that the file itself may not exceed */
    if (size > BLOCK_SIZE_MAX ||
        size / c->cluster_bytes / (c->cluster_bytes / l2_bytes) >= QCOW2_L1_BYTES_MAX / 8) {
        return err_set(
            err, -EFBIG,
            "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
    }
    int r = is_v2(c) ? check_v2(c, err) : 0;
    return r < 0 ? r : check_data_file(c, err);
}

/* ---- the empty image ---- */

static unsigned log2_of(uint64_t v)
{
    return (unsigned)__builtin_ctzll(v);
}

static void fill_header(struct qcow2 *q, const struct qcow2_create *c)
{
    struct qcow2_header *h = &q->h;

    *h = (struct qcow2_header){
        .magic = QCOW2_MAGIC,
        .version = is_v2(c) ? 2 : 3,
        .cluster_bits = log2_of(c->cluster_bytes),
        .reftable_offset = c->cluster_bytes,
        .reftable_clusters = 1,
        .incompatible = (c->data_file ? QCOW2_DATA_FILE : 0) | (c->compression ? QCOW2_COMPRESSION : 0) |
                        (c->extended_l2 ? QCOW2_EXT_L2 : 0),
        .compatible = c->lazy_refcounts ? QCOW2_LAZY : 0,
        .autoclear = c->data_file_raw ? QCOW2_DATA_FILE_RAW : 0,
        .refcount_order = log2_of(c->refcount_bits),
        .header_bytes = is_v2(c) ? QCOW2_V2_HEADER_BYTES : QCOW2_HEADER_BYTES,
        .compression = (uint8_t)c->compression,
    };
    qcow2_set_derived(q);
}

static int add_feature_names(struct qcow2 *q)
{
    uint8_t names[QCOW2_FEATURE_NAMES_BYTES];

    /* QEMU leaves them out of small first clusters, where names need the room */
    return q->h.version < 3 || q->cluster_bytes <= 4096
               ? 0
               : qcow2_add_extension(q, QCOW2_EXT_FEATURES, names, (uint32_t)qcow2_feature_names(names));
}

/* Header, a refcount table of one cluster, a refcount block of one cluster. */
static int render_image(struct qcow2 *q, uint8_t *image)
{
    memset(image, 0, 3 * q->cluster_bytes);
    put_be64(image + q->cluster_bytes, 2 * q->cluster_bytes);
    for (uint64_t c = 0; c < 3; c++) {
        qcow2_write_ref(image + 2 * q->cluster_bytes, c, q->ref_bits_order, 1);
    }
    return qcow2_render_header(q, image);
}

static co_fn int write_empty(struct node *file, const struct qcow2_create *c, struct err *err)
{
    struct qcow2 q = {
        .backing_name = c->backing_file, .backing_format = c->backing_format, .data_name = c->data_file};
    uint8_t *image = buf_get(3 * c->cluster_bytes);
    int r = image ? 0 : -ENOMEM;

    list_init(&q.extensions);
    fill_header(&q, c);
    r = r < 0 ? r : add_feature_names(&q);
    if (r == 0) {
        r = render_image(&q, image);
        if (r == -ENOSPC) {
            err_set(err, r, "the names of the backing and data file do not fit a header of %" PRIu64 " bytes",
                    c->cluster_bytes);
        } else if (r == 0) {
            r = node_write(file, 0, image, 3 * c->cluster_bytes, REQ_GROW);
            r = r < 0 ? err_set_errno(err, r, "Could not write qcow2 header") : 0;
        }
    } else {
        err_set(err, r, "no memory for an image");
    }
    qcow2_free_extensions(&q);
    buf_put(image, 3 * c->cluster_bytes);
    return r;
}

/* ---- files ---- */

/* An empty file called @filename; what cannot be made (a device, a server) must be there. */
static co_fn int make_file(struct graph *g, const char *filename, struct err *err)
{
    const struct driver *d = name_driver(filename);

    if (strncmp(filename, "json:", 5) == 0) {
        return 0;
    }
    d = d ? d : driver_find("file");
    if (!d->create) {
        return 0;
    }
    AUTO_JSON json_t *none = json_object();
    AUTO_FREE void *state = calloc(1, MAX(d->create_state_size, (size_t)1));
    int r = none && state ? options_apply(d->create_options, state, none, err)
                          : err_set(err, -ENOMEM, "no memory for an image");
    r = r < 0 ? r : d->create(g, filename, state, 0, err);
    options_free(d->create_options, state);
    return r;
}

static co_fn int open_file(struct graph *g, const char *filename, struct node **ret, struct err *err)
{
    return node_open_name(g, filename, NULL, OPEN_WRITE | OPEN_PROTOCOL | OPEN_RESIZE | OPEN_UNMAP, ret, err);
}

/* ---- the rest of it ---- */

static json_t *open_options(const struct node *file)
{
    return json_pack("{s:s, s:s}", "driver", "qcow2", "file", node_name(file));
}

static co_fn int grow_to_size(struct graph *g, struct node *file, const struct qcow2_create *c, uint64_t size,
                              struct err *err)
{
    static const unsigned flags[] = {
        [PREALLOC_METADATA] = REQ_PREALLOC_METADATA,
        [PREALLOC_FALLOC] = REQ_PREALLOC_FALLOC,
        [PREALLOC_FULL] = REQ_PREALLOC_FULL,
    };
    AUTO_JSON json_t *options = open_options(file);
    struct node *n = NULL;
    int r = options ? node_open(g, options, OPEN_WRITE | OPEN_NO_BACKING | OPEN_RESIZE | OPEN_UNMAP, &n, err)
                    : err_set(err, -ENOMEM, "no memory for an image");

    if (r < 0) {
        return r;
    }
    /* a raw data file has no say in what is mapped: all of it is, at once */
    int preallocation =
        c->data_file_raw && c->preallocation == PREALLOC_OFF ? PREALLOC_METADATA : c->preallocation;
    struct req grow = {.op = REQ_TRUNCATE, .offset = size, .flags = flags[preallocation]};
    r = node_io(n, &grow);
    r = r < 0 ? err_set_errno(err, r, "Could not resize image") : 0;
    if (r == 0) {
        r = node_flush(n);
        r = r < 0 ? err_set_errno(err, r, "Could not write the image") : 0;
    }
    node_unref(n);
    return r;
}

int qcow2_create(struct graph *g, const char *filename, void *create_state, uint64_t size, struct err *err)
{
    const struct qcow2_create *c = create_state;
    struct node *file = NULL;
    int r = qcow2_check_create(c, size, err);

    size = r < 0 ? size : round_up(size, SECTOR_SIZE); /* as QEMU does */

    if (r < 0) {
        return r;
    }
    r = open_file(g, filename, &file, err);
    if (r == -ENOENT) {
        r = make_file(g, filename, err);
        r = r < 0 ? r : open_file(g, filename, &file, err);
    }
    if (r < 0) {
        return r;
    }
    if (node_size(file) > 0) { /* a device keeps its size */
        node_truncate(file, 0, 0, NULL);
    }
    if (c->data_file) {
        r = make_file(g, c->data_file, err);
    }
    r = r < 0 ? r : write_empty(file, c, err);
    r = r < 0 ? r : grow_to_size(g, file, c, size, err);
    node_unref(file);
    return r;
}
