/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The User-Mode Linux COW format ("MOOO"), as Linux defines it in arch/um/drivers/cow_user.c: a header,
 * a bitmap with one bit per sector, and the sectors at their own places behind it. What has no bit is
 * read from the backing file, which is always raw.
 */
#ifndef DRIVERS_COW_COW_H
#define DRIVERS_COW_COW_H

#include "base/field.h"
#include "block/driver.h"

#define COW_MAGIC            0x4f4f4f4du
#define COW_HEADER_BYTES_MAX 4136u      /* the longest header: v3 of old 64-bit builds */
#define COW_SECTOR_MAX       (64 * KiB) /* Linux writes 512; larger powers of two are read */
#define COW_ALIGN_MAX        (UINT64_C(1) << 30)

enum cow_layout { COW_V1_LE, COW_V1_BE, COW_V2, COW_V3, COW_V3_BROKEN, COW_LAYOUTS };

struct cow_header {
    uint64_t magic, version, mtime, size, sector_bytes, align, format;
};

extern const struct layout cow_layouts[COW_LAYOUTS];

/* Tell which header @len bytes at @buf begin. -EINVAL and a sentence for none, or for one that only
 * QEMU or a foreign build wrote. */
int cow_recognise(const uint8_t *buf, size_t len, enum cow_layout *ret_layout, struct err *err);

/* Parse and check a header. @ret_path: of the backing file, malloc'ed. */
int cow_parse(enum cow_layout layout, const uint8_t *buf, struct cow_header *ret_header, char **ret_path,
              struct err *err);

/* Where things lie in a file with this header; sizes are checked, nothing overflows. */
struct cow_geometry {
    uint64_t bitmap_offset, bitmap_bytes, data_offset;
};
struct cow_geometry cow_geometry(enum cow_layout layout, const struct cow_header *h);

/* ---- the bitmap: pages of it, cached; dirty ones go down behind the data they speak of ---- */

#define COW_PAGE_BYTES 4096u /* bits of 32768 sectors: 16 MiB of disk */
#define COW_PAGES_MAX  1024u /* 4 MiB of memory: the bits of 16 GiB */

struct cow_page {
    uint64_t index;
    bool valid, dirty;
    uint8_t *bits;
};

struct cow {
    bool check_backing;
    char *backing_path;
    struct node *file, *backing;
    enum cow_layout layout;
    struct cow_header header;
    struct cow_geometry geo;
    struct cow_page *pages; /* direct mapped: page i lies in slot i % COW_PAGES_MAX */
    struct co_mutex lock;   /* held while a page is read or written, and while bits are set */
};

int cow_bitmap_init(struct cow *c);
void cow_bitmap_finish(struct cow *c);

/* How many sectors from @sector on (at most @sectors) are alike, and whether they are in the COW file.
 * Sectors that the short bitmap of v1 and v2 has no bit for are not. */
co_fn int cow_bitmap_run(struct cow *c, uint64_t sector, uint64_t sectors, uint64_t *ret_run,
                         bool *ret_present);

/* Set the bits of a range; written by cow_bitmap_flush. -ENOTSUP if a sector has no bit. */
co_fn int cow_bitmap_set(struct cow *c, uint64_t sector, uint64_t sectors);
/* -ENOTSUP if a sector of the range has no bit: then it cannot be written. */
int cow_bitmap_covers(const struct cow *c, uint64_t sector, uint64_t sectors);

/* Make the data durable, then write what is dirty. */
co_fn int cow_bitmap_flush(struct cow *c);

/* ---- making one ---- */

struct cow_create {
    char *backing_file, *backing_format;
};
extern const struct option cow_create_options[];
co_fn int cow_create(struct graph *g, const char *filename, void *create_state, uint64_t size,
                     struct err *err);

/* Seconds since 1970 of a host file's last change. -ENOTSUP for what is no plain file. */
co_fn int cow_mtime(struct node *backing, uint64_t *ret_seconds);

#endif
