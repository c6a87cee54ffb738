/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ranges of a disk that belong to a file, or to a file system itself: ranges.c finds where they are,
 * extents.c asks the kernel about a file, device.c how the disk is reached, ext4.c and xfs.c read the file
 * system. Everything here blocks.
 */
#ifndef TOOLS_FAULT_RANGES_H
#define TOOLS_FAULT_RANGES_H

#include <jansson.h>

#include "base/err.h"

enum ranges_kind { RANGES_FILE, RANGES_METADATA, RANGES_JOURNAL };

/* The disk a file system lies on, as far as this machine can see. */
struct disk_place {
    char *path;           /* what to read it from: a device, or a file; malloc'ed */
    char *backing;        /* the file behind a loop device, malloc'ed; NULL: there is none */
    uint64_t start;       /* of the file system on the disk, in bytes */
    uint64_t loop_offset; /* of that: where in the backing file the loop device begins */
    uint64_t size;        /* of the disk; 0: not known */
};
void disk_place_finish(struct disk_place *p);

/* device.c: from a path to the disk under its file system, or the disk that it is itself. */
int disk_place_of_mount(const char *path, struct disk_place *ret, struct err *err);
int disk_place_of_disk(const char *path, struct disk_place *ret, struct err *err);

/* Called for each range, in bytes of the file system. */
struct ranges_out {
    json_t *list;   /* "OFFSET+LENGTH" */
    uint64_t start; /* of the file system */
};
int ranges_put(struct ranges_out *out, uint64_t offset, uint64_t bytes, struct err *err);

/* extents.c */
int ranges_of_file(const char *path, struct ranges_out *out, struct err *err);
/* ext4.c, xfs.c: -ENODATA without a sentence: it is another file system. */
int ranges_of_ext4(int fd, uint64_t start, enum ranges_kind kind, struct ranges_out *out, struct err *err);
int ranges_of_xfs(int fd, uint64_t start, enum ranges_kind kind, struct ranges_out *out, struct err *err);

/* ranges.c: add them to @list; @ret: on which disk, to be finished. */
int ranges_find(enum ranges_kind kind, const char *path, json_t *list, struct disk_place *ret,
                struct err *err);

#endif
