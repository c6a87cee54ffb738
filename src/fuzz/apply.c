/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mutations become bytes, and go again: what is overwritten is kept, so that any part of the list can be
 * applied to the same valid image, as a minimiser does. Behind the last mutation the checksums are made
 * right, but for those that are themselves a mutation's target: so they stay wrong, or are that of the valid
 * image.
 */
#include "fuzz/internal.h"

/* Keep what stands at @offset. */
static int keep_old(struct fuzz_image *img, unsigned file, uint64_t offset, uint64_t len)
{
    const struct fuzz_file *f = &img->file[file];

    if (img->undos == img->undos_max) {
        size_t max = MAX(img->undos_max * 2, (size_t)256);
        struct fuzz_undo *undo = reallocarray(img->undo, max, sizeof(*undo));
        if (!undo) {
            return -ENOMEM;
        }
        img->undo = undo;
        img->undos_max = max;
    }
    if (img->old_max - img->old_bytes < len) {
        size_t max = MAX(img->old_max * 2, img->old_bytes + len);
        uint8_t *old = realloc(img->old, max);
        if (!old) {
            return -ENOMEM;
        }
        img->old = old;
        img->old_max = max;
    }
    memcpy(img->old + img->old_bytes, f->bytes + offset, len);
    img->undo[img->undos++] = (struct fuzz_undo){file, offset, (uint32_t)len, (uint32_t)img->old_bytes};
    img->old_bytes += len;
    return 0;
}

/* Bytes to change; NULL: they are not there (a part of a foreign image may reach behind its end), or no
 * memory. */
static uint8_t *change(struct fuzz_image *img, unsigned file, uint64_t offset, uint64_t len)
{
    struct fuzz_file *f = &img->file[file];
    uint64_t size = f->size;
    uint8_t *p = fuzz_file_bytes(f, offset, len);

    f->size = size; /* a mutation never makes the file longer but by its size */
    if (!p || len > UINT32_MAX) {
        return NULL;
    }
    int r = keep_old(img, file, offset, len);
    img->failed = r < 0 ? r : img->failed;
    return r < 0 ? NULL : p;
}

static void set_field(struct fuzz_image *img, const struct fuzz_mutation *m)
{
    const struct fuzz_part *p = &img->part[m->part];
    uint8_t *bytes = change(img, p->file, fuzz_element_at(p, m->element), m->field->offset + m->field->width);

    if (bytes) {
        fuzz_value_put(p, m->element, m->field, bytes, m->after);
    }
}

/* The bytes of an element; those of less than a byte have one field. */
static uint64_t element_bytes(const struct fuzz_part *p)
{
    return p->element ? p->stride_bits / 8 : p->bytes;
}

static void zero(struct fuzz_image *img, const struct fuzz_mutation *m)
{
    const struct fuzz_part *p = &img->part[m->part];
    bool whole = m->element == UINT32_MAX || !p->element;
    uint64_t len = whole ? p->bytes : element_bytes(p);
    uint8_t *bytes = change(img, p->file, whole ? p->offset : fuzz_element_at(p, m->element), len);

    if (bytes) {
        memset(bytes, 0, len);
    }
}

static void copy_element(struct fuzz_image *img, const struct fuzz_mutation *m, bool swap)
{
    const struct fuzz_part *p = &img->part[m->part];
    uint64_t len = element_bytes(p);
    uint8_t *to = change(img, p->file, fuzz_element_at(p, m->element), len);
    uint8_t *from = change(img, p->file, fuzz_element_at(p, (uint32_t)m->after), len);

    if (!to || !from || to == from) {
        return;
    }
    for (uint64_t i = 0; i < len; i++) {
        uint8_t was = to[i];
        to[i] = from[i];
        from[i] = swap ? was : from[i];
    }
}

static void set_bytes(struct fuzz_image *img, const struct fuzz_mutation *m)
{
    const struct fuzz_part *p = &img->part[m->part];
    bool whole = !p->element || m->element == UINT32_MAX;
    uint64_t at = fuzz_element_at(p, whole ? 0 : m->element) + (m->field ? m->field->offset : 0);
    uint8_t *bytes = change(img, p->file, at + m->after, m->len);

    if (bytes) {
        memcpy(bytes, m->bytes, m->len);
    }
}

static void apply_one(struct fuzz_image *img, const struct fuzz_mutation *m)
{
    switch (m->what) {
    case FUZZ_SET:
        set_field(img, m);
        break;
    case FUZZ_BYTES:
        set_bytes(img, m);
        break;
    case FUZZ_ZERO:
        zero(img, m);
        break;
    case FUZZ_COPY:
    case FUZZ_SWAP:
        copy_element(img, m, m->what == FUZZ_SWAP);
        break;
    case FUZZ_TRUNCATE:
        img->file[m->file].size = m->after;
        break;
    }
}

/* Does the mutation name bytes of this checksum? */
static bool is_of(const struct fuzz_image *img, const struct fuzz_mutation *m, const struct fuzz_checksum *s)
{
    const struct fuzz_part *p = &img->part[m->part];

    if ((m->what != FUZZ_SET && !(m->what == FUZZ_BYTES && m->field)) || p->file != s->file) {
        return false;
    }
    return ranges_overlap(fuzz_element_at(p, m->element) + m->field->offset, m->field->width, s->at,
                          s->width);
}

static bool is_target(const struct fuzz_image *img, const bool *keep, const struct fuzz_checksum *s)
{
    for (unsigned i = 0; i < img->mutations; i++) {
        if ((!keep || keep[i]) && is_of(img, &img->mutation[i], s)) {
            return true;
        }
    }
    return false;
}

static void make_sums(struct fuzz_image *img, const bool *keep)
{
    for (unsigned i = 0; i < img->sums; i++) {
        const struct fuzz_checksum *s = &img->sum[i];
        if (!is_target(img, keep, s) && change(img, s->file, s->at, s->width)) {
            fuzz_sum_make(img, s);
        }
    }
}

void fuzz_image_revert(struct fuzz_image *img)
{
    while (img->undos > 0) {
        const struct fuzz_undo *u = &img->undo[--img->undos];
        memcpy(img->file[u->file].bytes + u->offset, img->old + u->at, u->len);
    }
    img->old_bytes = 0;
    for (unsigned i = 0; i < img->files; i++) {
        img->file[i].size = img->file[i].valid_size;
    }
}

int fuzz_image_apply(struct fuzz_image *img, const bool *keep)
{
    fuzz_image_revert(img);
    img->failed = 0;
    for (unsigned i = 0; i < img->mutations; i++) {
        if (!keep || keep[i]) {
            apply_one(img, &img->mutation[i]);
        }
    }
    if (img->undos > 0) {
        make_sums(img, keep);
    }
    return img->failed;
}
