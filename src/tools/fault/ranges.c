/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of a disk by what lies there: a file, the metadata of a file system, its journal. */
#include "tools/fault/ranges.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/util.h"
#include "drivers/fault/fault.h"

/* What follows the last range is one with it. */
int ranges_put(struct ranges_out *out, uint64_t offset, uint64_t bytes, struct err *err)
{
    size_t n = json_array_size(out->list);
    json_t *last = n ? json_array_get(out->list, n - 1) : NULL;
    uint64_t begin = 0, length = 0;
    char text[64];

    offset += out->start;
    if (last && sscanf(json_string_value(last), "%" SCNu64 "+%" SCNu64, &begin, &length) == 2 &&
        begin + length == offset) {
        offset = begin;
        bytes += length;
        json_array_remove(out->list, n - 1);
        n--;
    }
    if (n == FAULT_RANGES_MAX) {
        return err_set(err, -E2BIG, "more than %d ranges", FAULT_RANGES_MAX);
    }
    snprintf(text, sizeof(text), "%" PRIu64 "+%" PRIu64, offset, bytes);
    return json_array_append_new(out->list, json_string(text)) < 0
               ? err_set(err, -ENOMEM, "no memory for ranges")
               : 0;
}

/* Its device, or what is behind it: who may not open the one may perhaps open the other. */
static int open_disk(const struct disk_place *p, struct err *err)
{
    int fd = open(p->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 && p->backing) {
        fd = open(p->backing, O_RDONLY | O_CLOEXEC);
    }
    return fd < 0 ? err_set_errno(err, -errno, "Could not open '%s'", p->path) : fd;
}

static int of_file_system(enum ranges_kind kind, const struct disk_place *p, struct ranges_out *out,
                          struct err *err)
{
    AUTO_CLOSE int fd = open_disk(p, err);

    if (fd < 0) {
        return fd;
    }
    /* What is behind a loop device begins where its offset says. */
    struct stat st;
    bool through_loop = p->backing && fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
    uint64_t start = through_loop ? p->start - p->loop_offset : p->start;
    int r = ranges_of_ext4(fd, start, kind, out, err);
    r = r == -ENODATA ? ranges_of_xfs(fd, start, kind, out, err) : r;
    return r == -ENODATA ? err_set(err, -ENOTSUP, "there is no ext2, ext3, ext4 or xfs") : r;
}

static bool is_disk(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISREG(st.st_mode));
}

int ranges_find(enum ranges_kind kind, const char *path, json_t *list, struct disk_place *ret,
                struct err *err)
{
    struct disk_place p = {0};
    bool disk = kind != RANGES_FILE && is_disk(path);
    int r = disk ? disk_place_of_disk(path, &p, err) : disk_place_of_mount(path, &p, err);

    if (r == 0) {
        struct ranges_out out = {list, p.start};
        r = kind == RANGES_FILE ? ranges_of_file(path, &out, err) : of_file_system(kind, &p, &out, err);
        if (r < 0 && kind != RANGES_FILE) {
            err_prefix(err, "'%s': ", path);
        }
    }
    if (r < 0) {
        disk_place_finish(&p);
        return r;
    }
    *ret = p;
    return 0;
}
