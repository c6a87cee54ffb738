/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks against double writers, as QEMU's file driver takes them, so that each respects the other:
 * a shared lock on byte 100 + p says "I use permission p", one on byte 200 + p "nobody else may use p".
 * After taking them, a look at the opposite bytes tells whether anybody disagrees.
 */
#include <fcntl.h>
#include <stdio.h>

#include "drivers/file/file.h"

enum { PERM_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, PERM_COUNT };
#define USED_BASE   100
#define DENIED_BASE 200

static const char *const perm_names[] = {"consistent read", "write", "write unchanged", "resize"};

static int lock_byte(int fd, int byte)
{
    struct flock fl = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* -EAGAIN if another holder has locked @byte. */
static int test_byte(int fd, int byte)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
        return -errno;
    }
    return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int conflict(int r, const char *name, int perm, const char *shared, struct err *err)
{
    if (r != -EAGAIN) {
        return err_set_errno(err, r, "Failed to lock '%s'", name);
    }
    return err_set(err, r, "Failed to get %s\"%s\" lock: Is another process using the image [%s]?", shared,
                   perm_names[perm], name);
}

void file_unlock(int fd)
{
    struct flock fl = {.l_type = F_UNLCK,
                       .l_whence = SEEK_SET,
                       .l_start = USED_BASE,
                       .l_len = DENIED_BASE + PERM_COUNT - USED_BASE};

    fcntl(fd, F_OFD_SETLK, &fl); /* fails where there are no such locks */
}

int file_lock(int fd, const char *name, bool write, bool exclusive, struct err *err)
{
    const bool used[PERM_COUNT] = {[PERM_READ] = true, [PERM_WRITE] = write, [PERM_RESIZE] = write};
    const bool denied[PERM_COUNT] = {[PERM_WRITE] = exclusive, [PERM_RESIZE] = exclusive};

    for (int p = 0; p < PERM_COUNT; p++) {
        int r = used[p] ? lock_byte(fd, USED_BASE + p) : 0;
        r = r == 0 && denied[p] ? lock_byte(fd, DENIED_BASE + p) : r;
        if (r == -EINVAL || r == -ENOLCK || r == -EOPNOTSUPP) {
            return 0; /* a file system without such locks */
        }
        if (r < 0) {
            return conflict(r, name, p, "", err);
        }
    }
    for (int p = 0; p < PERM_COUNT; p++) {
        int r = used[p] ? test_byte(fd, DENIED_BASE + p) : 0;
        if (r < 0) {
            return conflict(r, name, p, "", err);
        }
        r = denied[p] ? test_byte(fd, USED_BASE + p) : 0;
        if (r < 0) {
            return conflict(r, name, p, "shared ", err);
        }
    }
    return 0;
}
