/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files get a modification time of long ago, so that one stat tells whether anybody wrote. Opens are seen by
 * inotify, on the directory as a whole and on that of the decoy, which costs nothing for each test.
 */
#include "fuzz/run/testdir.h"

#include "fuzz/run/campaign.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LONG_AGO   1000000000 /* seconds since 1970: 2001-09-09, before any clock of today */
#define COPY_BYTES (256 * KiB)
#define OUT_PREFIX "out-"

/* ---- life ---- */

static int make_dir(const char *path, struct err *err)
{
    return mkdir(path, 0700) < 0 && errno != EEXIST
               ? err_set_errno(err, -errno, "make the directory '%s'", path)
               : 0;
}

static int make_decoy(struct testdir *d, const char *work, struct err *err)
{
    AUTO_FREE char *dir = NULL, *file = NULL;
    static const char text[512] = "blkproof fuzz: nobody should read this\n";

    if (asprintf(&dir, "%s/decoy", work) < 0 || asprintf(&file, "%s/secret.raw", dir) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    int r = make_dir(dir, err);
    if (r < 0) {
        return r;
    }
    AUTO_CLOSE int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, sizeof(text)) != sizeof(text) || ftruncate(fd, (off_t)(64 * KiB)) < 0) {
        return err_set_errno(err, -errno, "write '%s'", file);
    }
    d->decoy_watch = inotify_add_watch(d->inotify_fd, dir, IN_OPEN);
    return 0;
}

int testdir_init(struct testdir *d, const char *work, struct err *err)
{
    *d = (struct testdir){.fd = -1};
    d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int r = make_dir(work, err);
    if (r < 0 || (r = make_decoy(d, work, err)) < 0) {
        return r;
    }
    if (asprintf(&d->path, "%s/test", work) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    r = make_dir(d->path, err);
    if (r < 0) {
        return r;
    }
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0) {
        return err_set_errno(err, -errno, "open '%s'", d->path);
    }
    d->dir_watch = inotify_add_watch(d->inotify_fd, d->path, IN_OPEN);
    return 0;
}

void testdir_finish(struct testdir *d)
{
    if (d->fd >= 0) {
        close(TAKE_FD(d->fd));
    }
    if (d->inotify_fd >= 0) {
        close(TAKE_FD(d->inotify_fd));
    }
    free(TAKE_PTR(d->path));
}

/* ---- what is there ---- */

static const char *file_name(const struct testdir *d, unsigned file)
{
    return file == 0 ? d->image : d->img->file[file].name;
}

static bool is_of_image(const struct testdir *d, const char *name)
{
    for (unsigned i = 0; d->img && i < d->img->files; i++) {
        if (strcmp(name, file_name(d, i)) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_out(const char *name)
{
    return strncmp(name, OUT_PREFIX, strlen(OUT_PREFIX)) == 0;
}

/* Remove what @unwanted says; whatever it is: programs make sockets and directories too. */
static void sweep(struct testdir *d, bool (*unwanted)(const struct testdir *d, const char *name))
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unwanted(d, e->d_name) &&
            unlinkat(d->fd, e->d_name, 0) < 0) {
            AUTO_FREE char *path = NULL;
            if (asprintf(&path, "%s/%s", d->path, e->d_name) >= 0) {
                umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW); /* a target that mounts, and was killed */
                artefact_remove(path);
            }
        }
    }
    if (dir) {
        closedir(dir);
    } else if (fd >= 0) {
        close(fd);
    }
}

static bool is_anything(const struct testdir *d, const char *name)
{
    return true;
}

static bool is_left_over(const struct testdir *d, const char *name)
{
    return !is_of_image(d, name) && !is_out(name);
}

static bool is_any_out(const struct testdir *d, const char *name)
{
    return is_out(name);
}

void testdir_remove_outs(struct testdir *d)
{
    sweep(d, is_any_out);
}

/* Directories are not looked at: what a target has mounted there may never answer. */
uint64_t testdir_usage(void *testdir)
{
    const struct testdir *d = testdir;
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t bytes = 0;

    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        if (e->d_type != DT_DIR && fstatat(d->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode)) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return bytes;
}

/* ---- the image ---- */

static int write_image(struct testdir *d, struct err *err)
{
    const struct timespec times[2] = {{.tv_sec = LONG_AGO}, {.tv_sec = LONG_AGO}};
    int r = fuzz_image_write_at(d->img, d->fd, d->image, err);

    for (unsigned i = 0; r == 0 && i < d->img->files; i++) {
        if (utimensat(d->fd, file_name(d, i), times, 0) < 0) {
            r = err_set_errno(err, -errno, "set the time of '%s'", file_name(d, i));
        }
    }
    return r;
}

int testdir_begin(struct testdir *d, struct fuzz_image *img, const char *ext, struct err *err)
{
    sweep(d, is_anything);
    d->img = img;
    snprintf(d->image, sizeof(d->image), "test.%s", ext);
    return write_image(d, err);
}

static bool file_touched(const struct testdir *d, unsigned file)
{
    struct stat st;
    return fstatat(d->fd, file_name(d, file), &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
           st.st_mtim.tv_sec != LONG_AGO || st.st_mtim.tv_nsec != 0;
}

bool testdir_touched(const struct testdir *d)
{
    for (unsigned i = 0; i < d->img->files; i++) {
        if (file_touched(d, i)) {
            return true;
        }
    }
    return false;
}

static bool file_differs(const struct testdir *d, unsigned file)
{
    const struct fuzz_file *f = &d->img->file[file];
    AUTO_CLOSE int fd = openat(d->fd, file_name(d, file), O_RDONLY | O_CLOEXEC);
    AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
    struct stat st;

    if (fd < 0 || !buf || fstat(fd, &st) < 0 || (uint64_t)st.st_size != f->size) {
        return true;
    }
    for (uint64_t at = 0; at < f->size;) {
        ssize_t n = pread(fd, buf, COPY_BYTES, (off_t)at);
        if (n <= 0) {
            return true;
        }
        size_t known = at < f->room ? MIN((uint64_t)n, f->room - at) : 0;
        if (memcmp(buf, f->bytes + (known ? at : 0), known) != 0 ||
            !buffer_is_zero(buf + known, (size_t)n - known)) {
            return true;
        }
        at += (uint64_t)n;
        if (at >=
            f->room) { /* a mutation made the file larger: the rest is one hole, if nobody wrote there */
            off_t data = lseek(fd, (off_t)at, SEEK_DATA);
            at = data < 0 ? f->size : (uint64_t)data;
        }
    }
    return false;
}

bool testdir_modified(const struct testdir *d)
{
    for (unsigned i = 0; i < d->img->files; i++) {
        if (file_touched(d, i) && file_differs(d, i)) {
            return true;
        }
    }
    return false;
}

int testdir_restore(struct testdir *d, struct err *err)
{
    sweep(d, is_left_over);
    return testdir_touched(d) ? write_image(d, err) : 0;
}

/* ---- opens ---- */

void testdir_forget_opens(struct testdir *d)
{
    testdir_opened(d);
}

const char *testdir_opened(struct testdir *d)
{
    char buf[16 * KiB] __attribute__((aligned(__alignof__(struct inotify_event))));
    const char *found = NULL;

    for (ssize_t n; (n = read(d->inotify_fd, buf, sizeof(buf))) > 0;) {
        const struct inotify_event *e;
        for (const char *p = buf; p < buf + n; p += sizeof(*e) + e->len) {
            e = (const struct inotify_event *)p;
            bool beside = e->len > 0 && e->wd == d->dir_watch && strcmp(e->name, d->image) != 0 &&
                          is_of_image(d, e->name);
            bool decoy = e->len > 0 && e->wd == d->decoy_watch && !(e->mask & IN_ISDIR);
            if (beside || decoy) {
                snprintf(d->opened, sizeof(d->opened), "%s", decoy ? TESTDIR_DECOY : e->name);
                found = d->opened;
            }
        }
    }
    return found;
}

/* ---- results ---- */

/* The next byte at or behind @at that is no hole; the end of the file if there is none. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    return data < 0 ? size : (uint64_t)data;
}

/* Zeroes where the file does not reach. */
static bool read_at(int fd, uint8_t *buf, size_t len, uint64_t at)
{
    size_t have = 0;

    for (ssize_t n; have < len && (n = pread(fd, buf + have, len - have, (off_t)(at + have))) != 0;) {
        if (n < 0) {
            return false;
        }
        have += (size_t)n;
    }
    memset(buf + have, 0, len - have);
    return true;
}

bool testdir_same_bytes(const struct testdir *d, const char *a, const char *b, uint64_t *ret_at)
{
    AUTO_CLOSE int fa = openat(d->fd, a, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int fb = openat(d->fd, b, O_RDONLY | O_CLOEXEC);
    AUTO_FREE uint8_t *buf = malloc(2 * COPY_BYTES);
    struct stat sa, sb;

    if (fa < 0 || fb < 0 || !buf || fstat(fa, &sa) < 0 || fstat(fb, &sb) < 0) {
        *ret_at = 0;
        return false;
    }
    uint64_t end = (uint64_t)MAX(sa.st_size, sb.st_size);
    for (uint64_t at = 0; (at = MIN(next_data(fa, at, end), next_data(fb, at, end))) < end;) {
        size_t len = MIN(COPY_BYTES, end - at);
        if (!read_at(fa, buf, len, at) || !read_at(fb, buf + COPY_BYTES, len, at)) {
            *ret_at = at;
            return false;
        }
        for (size_t i = 0; i < len && memcmp(buf, buf + COPY_BYTES, len) != 0; i++) {
            if (buf[i] != buf[COPY_BYTES + i]) {
                *ret_at = at + i;
                return false;
            }
        }
        at += len;
    }
    return true;
}

int testdir_copy(const struct testdir *d, const char *name, const char *to, struct err *err)
{
    AUTO_CLOSE int from_fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int to_fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
    struct stat st;

    if (from_fd < 0 || to_fd < 0 || !buf || fstat(from_fd, &st) < 0 || ftruncate(to_fd, st.st_size) < 0) {
        return err_set_errno(err, -errno, "copy '%s' to '%s'", name, to);
    }
    uint64_t end = (uint64_t)st.st_size;
    for (uint64_t at = 0; (at = next_data(from_fd, at, end)) < end;) {
        size_t len = MIN(COPY_BYTES, end - at);
        if (!read_at(from_fd, buf, len, at) ||
            (!buffer_is_zero(buf, len) && pwrite(to_fd, buf, len, (off_t)at) != (ssize_t)len)) {
            return err_set_errno(err, -errno, "copy '%s' to '%s'", name, to);
        }
        at += len;
    }
    return 0;
}
