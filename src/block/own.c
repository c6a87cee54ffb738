/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Does a file lie on a disk that we serve? The kernel tells what is below what: a file's device number
 * (or, where a file system makes one up, the source of its mount), /sys/dev/block for what a block
 * device is made of, and the path of a loop device's backing file. All of it runs on a worker thread,
 * because looking at a file of ours is a request to us, which the loop must be free to answer.
 */
#include "block/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 16   /* disks kept in files on disks: more is a circle */
#define OWN_MAX   256u /* file systems that are looked for: more than a kernel has loop devices for */

void graph_own_add(struct graph *g, struct own_fs *fs)
{
    list_add_tail(&g->own, &fs->link);
}

void graph_own_remove(struct own_fs *fs)
{
    list_del(&fs->link);
    list_init(&fs->link);
}

struct look {
    const char *path;
    dev_t own[OWN_MAX]; /* a copy: the worker may not walk the loop's list */
    unsigned count;
    dev_t found;
};

static bool path_is_own(struct look *l, const char *path, unsigned depth);
static bool device_is_own(struct look *l, dev_t dev, unsigned depth);

/* One line of a file under /sys, without its end. */
static bool read_line(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "re");
    bool good = f && fgets(buf, (int)size, f);

    if (f) {
        fclose(f);
    }
    if (good) {
        buf[strcspn(buf, "\n")] = '\0';
    }
    return good;
}

/* The device whose number stands in the file. */
static bool named_device_is_own(struct look *l, const char *path, unsigned depth)
{
    char text[64];
    unsigned major_no, minor_no;

    return read_line(path, text, sizeof(text)) && sscanf(text, "%u:%u", &major_no, &minor_no) == 2 &&
           device_is_own(l, makedev(major_no, minor_no), depth);
}

/* What device-mapper or md have put together. */
static bool slave_is_own(struct look *l, const char *sys, unsigned depth)
{
    char path[PATH_MAX];
    bool own = false;

    snprintf(path, sizeof(path), "%s/slaves", sys);
    DIR *d = opendir(path);
    for (const struct dirent *e; d && !own && (e = readdir(d));) {
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/slaves/%s/dev", sys, e->d_name);
            own = named_device_is_own(l, path, depth);
        }
    }
    if (d) {
        closedir(d);
    }
    return own;
}

static bool device_is_own(struct look *l, dev_t dev, unsigned depth)
{
    char sys[64], path[PATH_MAX], backing[PATH_MAX];

    if (depth == 0) {
        return false;
    }
    snprintf(sys, sizeof(sys), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    snprintf(path, sizeof(path), "%s/partition", sys);
    if (access(path, F_OK) == 0) {
        snprintf(path, sizeof(path), "%s/../dev", sys);
        return named_device_is_own(l, path, depth - 1);
    }
    snprintf(path, sizeof(path), "%s/loop/backing_file", sys);
    if (read_line(path, backing, sizeof(backing))) {
        return path_is_own(l, backing, depth - 1);
    }
    return slave_is_own(l, sys, depth - 1);
}

/* The file system says that it has no device, and is kept somewhere all the same (btrfs, bcachefs). */
static bool mount_source_is_own(struct look *l, const char *path, unsigned depth)
{
    struct statx stx;
    char line[PATH_MAX * 2], source[PATH_MAX];
    unsigned long long id;
    bool own = false;

    if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx) < 0 || !(stx.stx_mask & STATX_MNT_ID)) {
        return false;
    }
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && fgets(line, sizeof(line), f)) {
        const char *rest = strstr(line, " - "); /* then: type, source */
        struct stat st;
        if (sscanf(line, "%llu", &id) == 1 && id == stx.stx_mnt_id && rest &&
            sscanf(rest, " - %*s %4095s", source) == 1 && source[0] == '/' && stat(source, &st) == 0 &&
            S_ISBLK(st.st_mode)) {
            own = device_is_own(l, st.st_rdev, depth);
        }
    }
    if (f) {
        fclose(f);
    }
    return own;
}

static bool is_own_fs(struct look *l, dev_t dev)
{
    for (unsigned i = 0; i < l->count; i++) {
        if (l->own[i] == dev) {
            l->found = dev;
            return true;
        }
    }
    return false;
}

static bool path_is_own(struct look *l, const char *path, unsigned depth)
{
    char copy[PATH_MAX];
    struct stat st;

    if (depth == 0 || strlen(path) >= sizeof(copy)) {
        return false;
    }
    if (stat(path, &st) < 0) { /* yet to be made: in this directory */
        strcpy(copy, path);
        path = dirname(copy);
        if (stat(path, &st) < 0) {
            return false;
        }
    }
    if (S_ISBLK(st.st_mode)) {
        return device_is_own(l, st.st_rdev, depth - 1);
    }
    if (is_own_fs(l, st.st_dev)) {
        return true;
    }
    return major(st.st_dev) == 0 ? mount_source_is_own(l, path, depth - 1)
                                 : device_is_own(l, st.st_dev, depth - 1);
}

static int look(void *arg)
{
    struct look *l = arg;

    return path_is_own(l, l->path, DEPTH_MAX) ? -EDEADLK : 0;
}

static const char *place_of(const struct graph *g, dev_t dev)
{
    const struct own_fs *fs;

    list_for_each (fs, &g->own, link) {
        if (fs->dev == dev) {
            return fs->place;
        }
    }
    return "?"; /* has ended meanwhile */
}

int graph_refuse_own(struct graph *g, const char *path, struct err *err)
{
    if (list_empty(&g->own)) {
        return 0;
    }
    struct look l = {.path = path};
    const struct own_fs *fs;
    list_for_each (fs, &g->own, link) {
        if (l.count < OWN_MAX) {
            l.own[l.count++] = fs->dev;
        }
    }
    int rc = loop_work(look, &l);
    return rc < 0 ? err_set(err, rc,
                            "'%s' lies on the disk that this server itself exports at '%s': it would wait "
                            "for itself for ever",
                            path, place_of(g, l.found))
                  : 0;
}
