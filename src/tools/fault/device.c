/* SPDX-License-Identifier: BSD-2-Clause */
/* How a mounted file system, or a name, leads to a disk: partitions and loop devices, as /sys tells of them.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "tools/fault/ranges.h"

void disk_place_finish(struct disk_place *p)
{
    free(p->path);
    free(p->backing);
    *p = (struct disk_place){0};
}

/* The first line of a file of /sys; -ENOENT: it does not exist. */
static int read_line(const char *dir, const char *name, char *buf, size_t size)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    if (n < 0) {
        return -errno;
    }
    buf[n] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    return 0;
}

static bool read_number(const char *dir, const char *name, uint64_t unit, uint64_t *ret)
{
    char text[64], *end;

    if (read_line(dir, name, text, sizeof(text)) < 0) {
        return false;
    }
    *ret = strtoull(text, &end, 10) * unit;
    return end != text;
}

/* The backing file of a loop device, if it is one. */
static int take_loop(const char *dir, struct disk_place *p, struct err *err)
{
    char file[PATH_MAX];
    struct stat st;
    uint64_t offset = 0;

    int r = read_line(dir, "loop/backing_file", file, sizeof(file));
    if (r < 0) {
        return r == -ENOENT ? 0 : err_set_errno(err, r, "'%s/loop/backing_file'", dir);
    }
    if (read_number(dir, "loop/offset", 1, &offset)) {
        p->start += offset;
        p->loop_offset = offset;
    }
    p->size = stat(file, &st) == 0 ? (uint64_t)st.st_size : 0;
    p->backing = strdup(file);
    return p->backing ? 0 : err_set(err, -ENOMEM, "no memory for a path");
}

/* @dir: a device's in /sys, as a link. */
static int take_device(const char *link, struct disk_place *p, struct err *err)
{
    char dir[PATH_MAX], holders[64];

    if (!realpath(link, dir)) {
        return err_set_errno(err, -errno, "'%s'", link);
    }
    if (read_line(dir, "partition", holders, sizeof(holders)) == 0) {
        if (!read_number(dir, "start", SECTOR_SIZE, &p->start)) {
            return err_set(err, -EIO, "'%s' does not say where the partition begins", dir);
        }
        *strrchr(dir, '/') = '\0'; /* the disk */
    }
    if (!read_number(dir, "size", SECTOR_SIZE, &p->size)) {
        return err_set(err, -EIO, "'%s' does not say how large the disk is", dir);
    }
    const char *name = strrchr(dir, '/') + 1;
    if (strncmp(name, "dm-", 3) == 0 || strncmp(name, "md", 2) == 0) {
        return err_set(err, -ENOTSUP, "%s is made of other devices: where it lies on them is not known",
                       name);
    }
    if (asprintf(&p->path, "/dev/%s", name) < 0) {
        p->path = NULL;
        return err_set(err, -ENOMEM, "no memory for a path");
    }
    return take_loop(dir, p, err);
}

static int take_number(dev_t dev, struct disk_place *p, struct err *err)
{
    char link[64];

    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    return take_device(link, p, err);
}

int disk_place_of_mount(const char *path, struct disk_place *ret, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return err_set_errno(err, -errno, "'%s'", path);
    }
    if (major(st.st_dev) == 0) {
        return err_set(err, -ENOTSUP,
                       "'%s' is on a file system without a disk of its own, or over several (btrfs)", path);
    }
    struct disk_place p = {0};
    int r = take_number(st.st_dev, &p, err);
    if (r < 0) {
        disk_place_finish(&p);
        return err_prefix(err, "the disk of '%s': ", path);
    }
    *ret = p;
    return 0;
}

int disk_place_of_disk(const char *path, struct disk_place *ret, struct err *err)
{
    struct stat st;
    struct disk_place p = {0};

    if (stat(path, &st) < 0) {
        return err_set_errno(err, -errno, "'%s'", path);
    }
    if (S_ISBLK(st.st_mode)) {
        int r = take_number(st.st_rdev, &p, err);
        if (r < 0) {
            disk_place_finish(&p);
            return r;
        }
    } else {
        p.path = strdup(path);
        p.size = (uint64_t)st.st_size;
        if (!p.path || !(p.backing = realpath(path, NULL))) {
            disk_place_finish(&p);
            return err_set_errno(err, -ENOMEM, "'%s'", path);
        }
    }
    *ret = p;
    return 0;
}
