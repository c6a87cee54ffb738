/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a file lies on the device of its file system: FIEMAP. */
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/util.h"
#include "tools/fault/ranges.h"

#define EXTENTS_ASKED 256
#define XFS_MAGIC     0x58465342

/* Those whose answer is a place on their device. (That of btrfs is one in a space of its own.) */
static int check_file_system(int fd, const char *path, struct err *err)
{
    struct statfs fs;
    struct stat st;

    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) {
        return err_set_errno(err, -errno, "'%s'", path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return err_set(err, -EINVAL, "'%s' is no file and no directory", path);
    }
    if (fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != XFS_MAGIC) {
        return err_set(err, -ENOTSUP,
                       "'%s' is on a file system of another kind than ext2, ext3, ext4 and xfs: it "
                       "does not say where on its disk a file lies",
                       path);
    }
    return 0;
}

static int put_extent(const struct fiemap_extent *e, const char *path, struct ranges_out *out,
                      struct err *err)
{
    if (e->fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC)) {
        return err_set(err, -EAGAIN, "'%s': a part of it is not on the disk yet", path);
    }
    if (e->fe_flags & FIEMAP_EXTENT_ENCODED) {
        return err_set(err, -ENOTSUP, "'%s' is compressed or otherwise encoded", path);
    }
    return ranges_put(out, e->fe_physical, e->fe_length, err);
}

int ranges_of_file(const char *path, struct ranges_out *out, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO_FREE struct fiemap *map = calloc(1, sizeof(*map) + EXTENTS_ASKED * sizeof(struct fiemap_extent));
    bool last = false;

    if (fd < 0 || !map) {
        return err_set_errno(err, fd < 0 ? -errno : -ENOMEM, "Could not open '%s'", path);
    }
    int r = check_file_system(fd, path, err);
    for (uint64_t at = 0; r == 0 && !last;) {
        map->fm_start = at;
        map->fm_length = FIEMAP_MAX_OFFSET - at;
        map->fm_flags = FIEMAP_FLAG_SYNC;
        map->fm_extent_count = EXTENTS_ASKED;
        if (ioctl(fd, FS_IOC_FIEMAP, map) < 0) {
            return err_set_errno(err, -errno, "'%s': its file system does not say where it lies", path);
        }
        last = map->fm_mapped_extents == 0;
        for (unsigned i = 0; r == 0 && i < map->fm_mapped_extents; i++) {
            const struct fiemap_extent *e = &map->fm_extents[i];
            r = put_extent(e, path, out, err);
            at = e->fe_logical + e->fe_length;
            last |= (e->fe_flags & FIEMAP_EXTENT_LAST) != 0;
        }
    }
    return r;
}
