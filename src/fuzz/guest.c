/* SPDX-License-Identifier: BSD-2-Clause */
/* See guest.h. A list of extents; the guest's disk is written by going through it, file below file. */
#include "fuzz/internal.h"

#define EXTENTS_MAX (1u << 20) /* a bitmap of sectors of 512 MiB */
#define SECTION_MAX (64 * KiB) /* written at a time */
#define FILES_DEEP  16         /* no image is made of more files */

void fuzz_guest_finish(struct fuzz_guest *g)
{
    free(g->extent);
    *g = (struct fuzz_guest){0};
}

static void add(struct fuzz_image *img, const struct fuzz_extent *e)
{
    struct fuzz_guest *g = &img->guest;

    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 256;
        struct fuzz_extent *more = room <= EXTENTS_MAX ? realloc(g->extent, room * sizeof(*more)) : NULL;
        if (!more) {
            g->lost = true;
            return;
        }
        g->extent = more;
        g->room = room;
    }
    g->extent[g->count] = *e;
    g->extent[g->count++].file = img->cur;
}

void fuzz_guest_size(struct fuzz_image *img, uint64_t bytes)
{
    add(img, &(struct fuzz_extent){.kind = FUZZ_EXTENT_SIZE, .bytes = bytes});
}

void fuzz_guest_at(struct fuzz_image *img, uint64_t guest, uint64_t bytes, uint64_t offset)
{
    add(img, &(struct fuzz_extent){.kind = FUZZ_EXTENT_AT, .guest = guest, .bytes = bytes, .source = offset});
}

void fuzz_guest_zero(struct fuzz_image *img, uint64_t guest, uint64_t bytes)
{
    add(img, &(struct fuzz_extent){.kind = FUZZ_EXTENT_ZERO, .guest = guest, .bytes = bytes});
}

void fuzz_guest_unit(uint64_t seed, uint8_t *unit, uint32_t unit_bytes)
{
    struct rng r;

    rng_init(&r, seed);
    rng_fill(&r, unit, unit_bytes);
}

void fuzz_guest_repeat(struct fuzz_image *img, uint64_t guest, uint64_t bytes, uint64_t seed,
                       uint32_t unit_bytes)
{
    assert(unit_bytes > 0 && unit_bytes <= FUZZ_GUEST_UNIT_MAX);
    add(img, &(struct fuzz_extent){.kind = FUZZ_EXTENT_REPEAT,
                                   .guest = guest,
                                   .bytes = bytes,
                                   .source = seed,
                                   .unit_bytes = unit_bytes});
}

/* Names are the files' own: what fuzz_beside returned. */
static unsigned file_of(const struct fuzz_image *img, const char *name)
{
    unsigned i = 0;

    while (i < img->files && img->file[i].name != name) {
        i++;
    }
    assert(i < img->files);
    return i;
}

void fuzz_guest_from(struct fuzz_image *img, uint64_t guest, uint64_t bytes, const char *name, uint64_t other)
{
    if (name) {
        add(img, &(struct fuzz_extent){.kind = FUZZ_EXTENT_FROM,
                                       .from = file_of(img, name),
                                       .guest = guest,
                                       .bytes = bytes,
                                       .source = other});
    }
}

static bool size_of(const struct fuzz_image *img, unsigned file, uint64_t *ret_size)
{
    for (size_t i = img->guest.count; i-- > 0;) {
        const struct fuzz_extent *e = &img->guest.extent[i];
        if (e->file == file && e->kind == FUZZ_EXTENT_SIZE) {
            *ret_size = e->bytes;
            return true;
        }
    }
    return false;
}

uint64_t fuzz_guest_size_of(const struct fuzz_image *img, const char *name)
{
    uint64_t size = 0;

    return name && size_of(img, file_of(img, name), &size) ? size : 0;
}

/* ---- writing ---- */

/* A part of the disk of file .file, from .begin to .end, goes to @fd with .shift added to its offsets. */
struct window {
    int fd;
    unsigned file, deep;
    uint64_t begin, end, shift;
};

static int write_all(int fd, const void *bytes, size_t len, uint64_t offset)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0) {
            return -errno;
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Bytes of the extent from @skip on. */
static void fill(const struct fuzz_image *img, const struct fuzz_extent *e, uint64_t skip, uint8_t *bytes,
                 size_t len)
{
    uint8_t unit[FUZZ_GUEST_UNIT_MAX];

    memset(bytes, 0, len);
    if (e->kind == FUZZ_EXTENT_AT) {
        const struct fuzz_file *f = &img->file[e->file];
        uint64_t at = e->source + skip;
        if (at < f->room) {
            memcpy(bytes, f->bytes + at, MIN(len, f->room - at));
        }
    } else if (e->kind == FUZZ_EXTENT_REPEAT) {
        fuzz_guest_unit(e->source, unit, e->unit_bytes);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = unit[(skip + i) % e->unit_bytes];
        }
    }
}

/* Zeroes over a hole stay a hole: only what another file wrote there has to go. */
static bool is_hole(const struct window *w, uint64_t at, size_t len)
{
    uint8_t now[SECTION_MAX];
    ssize_t n = pread(w->fd, now, len, (off_t)(at + w->shift));

    return n >= 0 && buffer_is_zero(now, (size_t)n);
}

static int write_extent(const struct fuzz_image *img, const struct window *w, const struct fuzz_extent *e)
{
    uint8_t bytes[SECTION_MAX];
    uint64_t end = MIN(w->end, e->guest + e->bytes);
    int r = 0;

    for (uint64_t at = MAX(w->begin, e->guest); at < end && r == 0;) {
        size_t len = MIN(end - at, sizeof(bytes));
        fill(img, e, at - e->guest, bytes, len);
        if (!buffer_is_zero(bytes, len) || !is_hole(w, at, len)) {
            r = write_all(w->fd, bytes, len, at + w->shift);
        }
        at += len;
    }
    return r;
}

static int write_window(const struct fuzz_image *img, struct window *w)
{
    uint64_t size;
    int r = 0;

    if (w->deep > FILES_DEEP || !size_of(img, w->file, &size)) {
        return -ENODATA;
    }
    w->end = MIN(w->end, size);
    for (size_t i = 0; i < img->guest.count && r == 0; i++) {
        const struct fuzz_extent *e = &img->guest.extent[i];
        uint64_t begin = MAX(w->begin, e->guest), end = MIN(w->end, e->guest + e->bytes);
        if (e->file != w->file || e->kind == FUZZ_EXTENT_SIZE || begin >= end) {
            continue;
        }
        if (e->kind != FUZZ_EXTENT_FROM) {
            r = write_extent(img, w, e);
            continue;
        }
        struct window below = {w->fd, e->from, w->deep + 1, begin - e->guest + e->source,
                               end - e->guest + e->source};
        below.shift = w->shift + e->guest - e->source; /* modulo 2^64 */
        r = write_window(img, &below);
    }
    return r;
}

int fuzz_guest_write(const struct fuzz_image *img, int fd)
{
    uint64_t size;

    if (img->guest.lost || !size_of(img, 0, &size)) {
        return -ENODATA;
    }
    if (ftruncate(fd, (off_t)size) < 0) {
        return -errno;
    }
    return write_window(img, &(struct window){.fd = fd, .end = size});
}
