/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest reads from a valid image: build functions say which bytes of which file are where on the
 * virtual disk, so that tests can hold any reader against it (fuzz_guest_write). Where nothing is said,
 * a guest reads zeroes; what is said later counts.
 */
#ifndef FUZZ_GUEST_H
#define FUZZ_GUEST_H

#include "fuzz/format.h"

#define FUZZ_GUEST_UNIT_MAX 512u /* bytes that repeat */

/* ---- for build functions: of the current file ---- */

/* The size of the virtual disk. An image without one has no guest that this program knows. */
void fuzz_guest_size(struct fuzz_image *img, uint64_t bytes);
/* @bytes bytes from @guest on are those at @offset of the file. */
void fuzz_guest_at(struct fuzz_image *img, uint64_t guest, uint64_t bytes, uint64_t offset);
void fuzz_guest_zero(struct fuzz_image *img, uint64_t guest, uint64_t bytes);
/* They are @unit_bytes bytes (at most FUZZ_GUEST_UNIT_MAX) of a generator with this seed, again and again:
 * compressed data. */
void fuzz_guest_repeat(struct fuzz_image *img, uint64_t guest, uint64_t bytes, uint64_t seed,
                       uint32_t unit_bytes);
void fuzz_guest_unit(uint64_t seed, uint8_t *unit, uint32_t unit_bytes);
/* They are what the guest of another file reads from @other on; behind its end, zeroes. @name: what
 * fuzz_beside returned; NULL: nothing is said. */
void fuzz_guest_from(struct fuzz_image *img, uint64_t guest, uint64_t bytes, const char *name,
                     uint64_t other);
/* The size of the virtual disk in that file; 0: it is not known. */
uint64_t fuzz_guest_size_of(const struct fuzz_image *img, const char *name);

/* ---- for tests ---- */

/* Write what a guest reads into @fd, an empty file, which gets the size of the virtual disk. -ENODATA: the
 * image does not say what a guest reads. */
int fuzz_guest_write(const struct fuzz_image *img, int fd);

/* ---- for image.c ---- */

/* What the build functions said, in order; the memory is used again for the next image. */
struct fuzz_extent {
    unsigned file, from; /* the file whose guest reads; the file that it reads */
    enum { FUZZ_EXTENT_SIZE, FUZZ_EXTENT_AT, FUZZ_EXTENT_ZERO, FUZZ_EXTENT_REPEAT, FUZZ_EXTENT_FROM } kind;
    uint32_t unit_bytes;
    uint64_t guest, bytes, source; /* .source: offset or seed */
};
struct fuzz_guest {
    struct fuzz_extent *extent;
    size_t count, room;
    bool lost; /* there was no memory */
};
void fuzz_guest_finish(struct fuzz_guest *g);

#endif
