/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent bitmaps as users handle them. Changes are made in memory, and are in the file after store. */
#include "drivers/qcow2/bitmap.h"

#include <inttypes.h>

#include "base/json.h"

#define NAME_MAX_BYTES 1023 /* QEMU's bound */

/* ---- what users do with them ---- */

static int find_or_tell(const struct node *n, const char *name, struct qcow2_bitmap **ret, struct err *err)
{
    *ret = qcow2_bitmap_find(n->state, name);
    return *ret ? 0 : err_set(err, -ENOENT, "Dirty bitmap '%s' not found", name);
}

static co_fn int find_usable(struct node *n, const char *name, struct qcow2_bitmap **ret, struct err *err)
{
    int r = find_or_tell(n, name, ret, err);

    if (r == 0 && (*ret)->inconsistent) {
        r = err_set(err, -EINVAL, "Bitmap '%s' is inconsistent and cannot be used", name);
    }
    if (r == 0) {
        r = qcow2_bitmap_load(n, *ret);
        r = r < 0 ? err_set_errno(err, r, "Could not read bitmap '%s'", name) : 0;
    }
    return r;
}

static bool bitmap_supported(const struct node *n)
{
    const struct qcow2 *q = n->state;

    return q->h.version >= 3;
}

static uint64_t default_granularity(const struct qcow2 *q)
{
    return MIN(MAX(q->cluster_bytes, 4 * KiB), 64 * KiB); /* as QEMU's */
}

static int check_new(const struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    const struct qcow2 *q = n->state;

    if (name[0] == '\0') {
        return err_set(err, -EINVAL, "Bitmap name cannot be empty");
    }
    if (!is_pow2(granularity) || granularity < 512 || granularity > UINT64_C(1) << 31) {
        return err_set(err, -EINVAL, "Granularity must be power of 2 and at least 512");
    }
    if (strlen(name) > NAME_MAX_BYTES) {
        return err_set(err, -EINVAL, "Bitmap name too long");
    }
    if (qcow2_bitmap_find(q, name)) {
        return err_set(err, -EEXIST, "Bitmap already exists: %s", name);
    }
    struct qcow2_bitmap b = {.granularity_bits = (uint8_t)__builtin_ctzll(granularity)};
    const char *why = !bitmap_supported(n)       ? "Cannot store dirty bitmaps in qcow2 v2 files"
                      : q->bitmaps_read >= 65535 ? "Maximum number of persistent bitmaps is already reached"
                      : qcow2_bitmap_bytes(&b, q->h.size) > QCOW2_BITMAPS_LOADED_MAX - q->bitmaps_loaded
                          ? "Too much space will be occupied by the bitmap"
                          : NULL;
    return why ? err_set(err, -EINVAL, "Can't make bitmap '%s' persistent in '%s': %s", name, node_name(n),
                         why)
               : 0;
}

static co_fn int add_locked(struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    granularity = granularity ? granularity : default_granularity(q);
    int r = check_new(n, name, granularity, err);
    if (r < 0) {
        return r;
    }
    struct qcow2_bitmap b = {.name = strdup(name),
                             .granularity_bits = (uint8_t)__builtin_ctzll(granularity),
                             .enabled = true,
                             .changed = true};
    uint64_t bytes = qcow2_bitmap_bytes(&b, q->h.size);
    b.bits = calloc(1, bytes + 1);
    b.bits_max = qcow2_bitmap_bits(&b, q->h.size);
    if (!b.name || !b.bits) {
        qcow2_bitmap_free(&b);
        return err_set(err, -ENOMEM, "no memory for a bitmap");
    }
    r = qcow2_bitmap_append(q, b);
    if (r == 0) {
        q->bitmaps_loaded += bytes;
        q->bitmaps_changed = true;
        q->began = false; /* the next write begins anew, with this one */
    }
    return r < 0 ? err_set(err, r, "no memory for a bitmap") : 0;
}

static co_fn int remove_locked(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_or_tell(n, name, &b, err);

    if (r < 0) {
        return r;
    }
    struct qcow2_bitmap gone = *b;
    size_t behind = (q->bitmaps_read - (size_t)(b - q->bitmap) - 1) * sizeof(*b);
    memmove(b, b + 1, behind);
    q->bitmaps_read--;
    r = qcow2_bitmaps_store(n, !q->began);
    if (r < 0) { /* it may be there still */
        memmove(b + 1, b, behind);
        *b = gone;
        q->bitmaps_read++;
        return err_set_errno(err, r, "Failed to remove the bitmap");
    }
    q->bitmaps_loaded -= gone.bits ? qcow2_bitmap_bytes(&gone, q->h.size) : 0;
    qcow2_bitmap_forget_table(n, gone.table_offset, gone.table_entries);
    qcow2_bitmap_free(&gone);
    return 0;
}

static co_fn int clear_locked(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        memset(b->bits, 0, qcow2_bitmap_bytes(b, q->h.size));
        b->changed = q->bitmaps_changed = true;
    }
    return r;
}

static co_fn int enable_locked(struct node *n, const char *name, bool enable, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        b->enabled = enable;
        q->bitmaps_changed = true;
        q->began = false;
    }
    return r;
}

static co_fn int get_locked(struct node *n, const char *name, struct bitmap_view *ret, struct err *err)
{
    const struct qcow2 *q = n->state;
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        *ret = (struct bitmap_view){b->bits, qcow2_bitmap_bits(b, q->h.size),
                                    UINT64_C(1) << b->granularity_bits, q->h.size};
    }
    return r;
}

static co_fn int merge_locked(struct node *n, const char *name, const struct bitmap_view *src,
                              struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r < 0) {
        return r;
    }
    if (src->disk_bytes != q->h.size) {
        return err_set(err, -EINVAL,
                       "Bitmaps are of different sizes (destination size is %" PRIu64
                       ", source size is %" PRIu64 ") and can't be merged",
                       q->h.size, src->disk_bytes);
    }
    for (uint64_t i = 0; i < src->bits; i++) {
        if (src->data[i / 8] == 0) {
            i |= 7;
        } else if (src->data[i / 8] >> i % 8 & 1) {
            uint64_t at = i * src->granularity;
            qcow2_bitmap_set(b, at, MIN(src->granularity, q->h.size - at));
        }
    }
    b->changed = q->bitmaps_changed = true;
    return 0;
}

/* ---- the same for everybody: one after the other, and not while writes begin ---- */

static co_fn int bitmap_add(struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = add_locked(n, name, granularity, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_remove(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = remove_locked(n, name, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_clear(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = clear_locked(n, name, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_enable(struct node *n, const char *name, bool enable, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = enable_locked(n, name, enable, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_get(struct node *n, const char *name, struct bitmap_view *ret, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = get_locked(n, name, ret, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_merge(struct node *n, const char *name, const struct bitmap_view *src,
                              struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = merge_locked(n, name, src, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_store(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = q->bitmaps_changed ? qcow2_bitmaps_store(n, !q->began) : 0;
    r = r < 0 ? r : qcow2_settle(n);
    co_mutex_unlock(&q->lock);
    return r < 0 ? err_set_errno(err, r, "Could not store the bitmaps") : 0;
}

/* ---- list ---- */

static co_fn json_t *bitmap_list(struct node *n)
{
    const struct qcow2 *q = n->state;
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < q->bitmaps_read; i++) {
        const struct qcow2_bitmap *b = &q->bitmap[i];
        json_t *flags = json_array(), *name = json_string(b->name);
        if (b->inconsistent || b->in_use) {
            json_array_append_new(flags, json_string("in-use"));
        }
        if (b->enabled) {
            json_array_append_new(flags, json_string("auto"));
        }
        json_array_append_new(list, json_pack("{s:o, s:o, s:I}", "flags", flags, "name",
                                              name ? name : json_string("?"), "granularity",
                                              (json_int_t)1 << b->granularity_bits));
    }
    return list;
}

const struct bitmap_ops qcow2_bitmap_ops = {
    .supported = bitmap_supported,
    .list = bitmap_list,
    .add = bitmap_add,
    .remove = bitmap_remove,
    .clear = bitmap_clear,
    .enable = bitmap_enable,
    .get = bitmap_get,
    .merge = bitmap_merge,
    .store = bitmap_store,
};
