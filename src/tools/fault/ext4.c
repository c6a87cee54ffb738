/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of an ext2, ext3 or ext4 is its own: superblocks with their group descriptors, bitmaps and tables of
 * inodes (not: directories, and the blocks that say where a large file lies); and the journal. Numbers are as
 * the kernel's Documentation/filesystems/ext4 has them.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/util.h"
#include "tools/fault/ranges.h"

#define SUPER_AT         1024u
#define SUPER_BYTES      1024u
#define INCOMPAT_META_BG 0x10u
#define INCOMPAT_64BIT   0x80u
#define RO_SPARSE        0x1u
#define COMPAT_SPARSE2   0x200u
#define COMPAT_JOURNAL   0x4u
#define EXTENT_MAGIC     0xf30au
#define DEPTH_MAX        5
#define GROUPS_MAX       (1u << 24) /* 2 PiB at 4 KiB: more is no file system of ours */

struct ext4 {
    int fd;
    uint64_t start; /* in what fd reads */
    uint8_t super[SUPER_BYTES];
    uint64_t block_bytes, blocks, first, per_group, groups;
    uint64_t desc_bytes, table_blocks, gdt_blocks, reserved;
};

static uint32_t sb32(const struct ext4 *x, size_t at)
{
    return get_le32(x->super + at);
}

static int read_at(const struct ext4 *x, uint64_t at, void *buf, size_t bytes, struct err *err)
{
    ssize_t n = pread(x->fd, buf, bytes, (off_t)(x->start + at));

    return n == (ssize_t)bytes ? 0
                               : err_set_errno(err, n < 0 ? -errno : -EIO,
                                               "the file system cannot be read at %" PRIu64, x->start + at);
}

static int damaged(struct err *err)
{
    return err_set(err, -EINVAL, "the superblock is damaged");
}

static int take_super(struct ext4 *x, struct err *err)
{
    bool wide = sb32(x, 0x60) & INCOMPAT_64BIT;
    unsigned log = sb32(x, 0x18);
    uint64_t inode_bytes = sb32(x, 0x4c) ? get_le16(x->super + 0x58) : 128;

    x->per_group = sb32(x, 0x20);
    x->first = sb32(x, 0x14);
    x->blocks = sb32(x, 0x4) | (wide ? (uint64_t)sb32(x, 0x150) << 32 : 0);
    if (log > 6 || x->per_group == 0 || x->per_group > 8 * (1024u << log) || x->blocks <= x->first ||
        inode_bytes < 128 || inode_bytes > 65536) {
        return damaged(err);
    }
    x->block_bytes = UINT64_C(1024) << log;
    x->groups = div_up(x->blocks - x->first, x->per_group);
    x->desc_bytes = wide ? get_le16(x->super + 0xfe) : 32;
    x->table_blocks = div_up(sb32(x, 0x28) * inode_bytes, x->block_bytes);
    x->reserved = get_le16(x->super + 0xce);
    if (x->groups > GROUPS_MAX || x->desc_bytes < (wide ? 64 : 32) || x->desc_bytes > x->block_bytes) {
        return damaged(err);
    }
    x->gdt_blocks = div_up(x->groups * x->desc_bytes, x->block_bytes);
    return 0;
}

/* ---- the groups ---- */

static bool is_power_of(uint64_t n, uint64_t base)
{
    while (n % base == 0) {
        n /= base;
    }
    return n == 1;
}

static bool has_super(const struct ext4 *x, uint64_t group)
{
    if (group == 0) {
        return true;
    }
    if (sb32(x, 0x5c) & COMPAT_SPARSE2) {
        return group == sb32(x, 0x24c) || group == sb32(x, 0x250);
    }
    return !(sb32(x, 0x64) & RO_SPARSE) || group == 1 || is_power_of(group, 3) || is_power_of(group, 5) ||
           is_power_of(group, 7);
}

static int put_blocks(const struct ext4 *x, uint64_t block, uint64_t n, struct ranges_out *out,
                      struct err *err)
{
    if (block >= x->blocks || n > x->blocks - block) {
        return err_set(err, -EINVAL, "the group descriptors, or the journal's extents, are damaged");
    }
    return ranges_put(out, block * x->block_bytes, n * x->block_bytes, err);
}

static uint64_t desc_block(const struct ext4 *x, const uint8_t *desc, size_t low)
{
    return get_le32(desc + low) | (x->desc_bytes >= 64 ? (uint64_t)get_le32(desc + low + 0x20) << 32 : 0);
}

static int put_group(const struct ext4 *x, uint64_t group, const uint8_t *desc, struct ranges_out *out,
                     struct err *err)
{
    int r = 0;

    if (has_super(x, group)) {
        uint64_t at = x->first + group * x->per_group, n = 1 + x->gdt_blocks + x->reserved;
        r = put_blocks(x, at, MIN(n, x->blocks - at), out, err);
    }
    r = r < 0 ? r : put_blocks(x, desc_block(x, desc, 0x0), 1, out, err);
    r = r < 0 ? r : put_blocks(x, desc_block(x, desc, 0x4), 1, out, err);
    return r < 0 ? r : put_blocks(x, desc_block(x, desc, 0x8), x->table_blocks, out, err);
}

static int put_metadata(const struct ext4 *x, struct ranges_out *out, struct err *err)
{
    size_t bytes = x->groups * x->desc_bytes;
    AUTO_FREE uint8_t *table = malloc(bytes);

    if (!table) {
        return err_set(err, -ENOMEM, "no memory for the group descriptors");
    }
    if (sb32(x, 0x60) & INCOMPAT_META_BG) {
        return err_set(err, -ENOTSUP, "group descriptors in meta block groups are not supported");
    }
    int r =
        x->first == 1 ? ranges_put(out, 0, 1024, err) : 0; /* the boot block, in front of the superblock */
    r = r < 0 ? r : read_at(x, (x->first + 1) * x->block_bytes, table, bytes, err);
    for (uint64_t g = 0; r == 0 && g < x->groups; g++) {
        r = put_group(x, g, table + g * x->desc_bytes, out, err);
    }
    return r;
}

/* ---- the journal ---- */

/* A node of the tree of extents, and what lies below. */
static int put_extents(const struct ext4 *x, const uint8_t *node, size_t bytes, int depth_left,
                       struct ranges_out *out, struct err *err)
{
    unsigned entries = get_le16(node + 2), depth = get_le16(node + 6);
    int r = 0;

    if (get_le16(node) != EXTENT_MAGIC || (int)depth > depth_left || 12 + entries * 12 > bytes) {
        return err_set(err, -EINVAL, "the extents of the journal are damaged, or it has none (as ext3's)");
    }
    AUTO_FREE uint8_t *below = depth ? malloc(x->block_bytes) : NULL;
    if (depth && !below) {
        return err_set(err, -ENOMEM, "no memory for a block");
    }
    for (unsigned i = 1; r == 0 && i <= entries; i++) {
        const uint8_t *e = node + (size_t)i * 12;
        if (depth > 0) {
            uint64_t block = get_le32(e + 4) | (uint64_t)get_le16(e + 8) << 32;
            r = put_blocks(x, block, 1, out, err);
            r = r < 0 ? r : read_at(x, block * x->block_bytes, below, x->block_bytes, err);
            r = r < 0 ? r : put_extents(x, below, x->block_bytes, (int)depth - 1, out, err);
        } else {
            unsigned n = get_le16(e + 4);
            r = put_blocks(x, get_le32(e + 8) | (uint64_t)get_le16(e + 6) << 32, n > 32768 ? n - 32768 : n,
                           out, err);
        }
    }
    return r;
}

/* The superblock has a copy of where its inode says that it lies. */
static int put_journal(const struct ext4 *x, struct ranges_out *out, struct err *err)
{
    if (!(sb32(x, 0x5c) & COMPAT_JOURNAL)) {
        return err_set(err, -EINVAL, "the file system has no journal");
    }
    if (sb32(x, 0xe0) == 0) {
        return err_set(err, -ENOTSUP, "the journal is on a device of its own");
    }
    if (x->super[0xfd] != 1) {
        return err_set(err, -ENOTSUP, "the superblock does not say where the journal lies");
    }
    return put_extents(x, x->super + 0x10c, 60, DEPTH_MAX, out, err);
}

int ranges_of_ext4(int fd, uint64_t start, enum ranges_kind kind, struct ranges_out *out, struct err *err)
{
    struct ext4 x = {.fd = fd, .start = start};
    int r = read_at(&x, SUPER_AT, x.super, SUPER_BYTES, err);

    if (r < 0) {
        return r;
    }
    if (get_le16(x.super + 0x38) != 0xef53) {
        return -ENODATA;
    }
    r = take_super(&x, err);
    if (r < 0) {
        return r;
    }
    return kind == RANGES_JOURNAL ? put_journal(&x, out, err) : put_metadata(&x, out, err);
}
