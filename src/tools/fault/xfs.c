/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of an XFS is its own: the headers of its allocation groups (superblock, free space, inodes, free list;
 * not: the trees below them, inodes and directories, which move); and its log, if it is inside.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/util.h"
#include "tools/fault/ranges.h"

#define SUPER_BYTES 512u
#define HEADERS     4 /* sectors at the beginning of each group */
#define GROUPS_MAX  (1u << 20)

struct xfs {
    uint64_t block_bytes, group_blocks, groups, sector_bytes, log_start, log_blocks;
    unsigned group_log;
};

static int take_super(const uint8_t *s, struct xfs *x, struct err *err)
{
    *x = (struct xfs){
        .block_bytes = get_be32(s + 4),
        .log_start = get_be64(s + 48),
        .group_blocks = get_be32(s + 84),
        .groups = get_be32(s + 88),
        .log_blocks = get_be32(s + 96),
        .sector_bytes = get_be16(s + 102),
        .group_log = s[124],
    };
    if (!is_pow2(x->block_bytes) || x->block_bytes < 512 || x->block_bytes > 65536 || x->groups == 0 ||
        x->groups > GROUPS_MAX || !is_pow2(x->sector_bytes) || x->sector_bytes < 512 ||
        x->sector_bytes > x->block_bytes * 8 || x->group_log > 31 || x->group_blocks == 0 ||
        x->group_blocks > UINT64_C(1) << x->group_log) {
        return err_set(err, -EINVAL, "the superblock is damaged");
    }
    return 0;
}

static int put_log(const struct xfs *x, struct ranges_out *out, struct err *err)
{
    uint64_t group = x->log_start >> x->group_log,
             in_group = x->log_start & ((UINT64_C(1) << x->group_log) - 1);

    if (x->log_start == 0) {
        return err_set(err, -ENOTSUP, "the log is on a device of its own");
    }
    if (group >= x->groups || x->log_blocks == 0 || x->log_blocks > x->group_blocks ||
        in_group > x->group_blocks - x->log_blocks) {
        return err_set(err, -EINVAL, "the superblock is damaged");
    }
    return ranges_put(out, (group * x->group_blocks + in_group) * x->block_bytes,
                      x->log_blocks * x->block_bytes, err);
}

int ranges_of_xfs(int fd, uint64_t start, enum ranges_kind kind, struct ranges_out *out, struct err *err)
{
    uint8_t super[SUPER_BYTES];
    struct xfs x;

    if (pread(fd, super, sizeof(super), (off_t)start) != sizeof(super)) {
        return err_set(err, -EIO, "the file system cannot be read at %" PRIu64, start);
    }
    if (memcmp(super, "XFSB", 4) != 0) {
        return -ENODATA;
    }
    int r = take_super(super, &x, err);
    if (r < 0 || kind == RANGES_JOURNAL) {
        return r < 0 ? r : put_log(&x, out, err);
    }
    for (uint64_t g = 0; r == 0 && g < x.groups; g++) {
        r = ranges_put(out, g * x.group_blocks * x.block_bytes, HEADERS * x.sector_bytes, err);
    }
    return r;
}
