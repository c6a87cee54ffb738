/* SPDX-License-Identifier: BSD-2-Clause */
/* Images to files, with holes where nothing was written; and foreign images from files. */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/internal.h"

/* ---- writing ---- */

static int write_run(int fd, const uint8_t *p, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        n = n < 0 ? 0 : n;
        p += n;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* Runs of used pages, each in one call. */
static int write_file(int fd, const struct fuzz_file *f)
{
    uint64_t pages = fuzz_pages(f), written = 0;

    for (uint64_t page = fuzz_page_next(f, 0, pages); page < pages; page = fuzz_page_next(f, page, pages)) {
        uint64_t at = page * FUZZ_PAGE;
        while (page < pages && fuzz_page_used(f, page)) {
            page++;
        }
        written = MIN(page * FUZZ_PAGE, f->size);
        int r = write_run(fd, f->bytes + at, at, written - at);
        if (r < 0) {
            return r;
        }
    }
    return written == f->size || ftruncate(fd, (off_t)f->size) == 0 ? 0 : -errno;
}

static int write_one(int dirfd, const char *name, const struct fuzz_file *f, struct err *err)
{
    AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0) {
        return err_set_errno(err, -errno, "create '%s'", name);
    }
    int r = write_file(fd, f);
    return r < 0 ? err_set_errno(err, r, "write '%s'", name) : 0;
}

int fuzz_image_write_at(struct fuzz_image *img, int dirfd, const char *name, struct err *err)
{
    for (unsigned i = 0; i < img->files; i++) {
        int r = write_one(dirfd, img->file[i].name[0] ? img->file[i].name : name, &img->file[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int fuzz_image_write(struct fuzz_image *img, const char *path, struct err *err)
{
    char copy[PATH_MAX];

    if (strlen(path) >= sizeof(copy)) {
        return err_set(err, -ENAMETOOLONG, "create '%s': the name is too long", path);
    }
    strcpy(copy, path);
    AUTO_CLOSE int dirfd = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) {
        return err_set_errno(err, -errno, "open the folder of '%s'", path);
    }
    const char *slash = strrchr(path, '/');
    return fuzz_image_write_at(img, dirfd, slash ? slash + 1 : path, err);
}

/* ---- foreign images ---- */

static const struct fuzz_format *probe(const uint8_t *bytes, uint64_t size)
{
    for (int i = 0; fuzz_formats[i]; i++) {
        if (fuzz_formats[i]->probe && fuzz_formats[i]->probe(bytes, size)) {
            return fuzz_formats[i];
        }
    }
    return NULL;
}

/* Changes stay in memory. */
static int map_file(struct fuzz_file *f, const char *path, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set_errno(err, -errno, "open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "open '%s': not a plain file", path);
    }
    if (st.st_size == 0 || (uint64_t)st.st_size > SIZE_MAX / 2) {
        return st.st_size == 0 ? 0 : err_set(err, -EFBIG, "open '%s': too large", path);
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        return err_set_errno(err, -errno, "map '%s'", path);
    }
    f->bytes = p;
    f->foreign_bytes = f->size = f->valid_size = (uint64_t)st.st_size;
    return 0;
}

int fuzz_image_open(struct fuzz_image *img, const char *path, const struct fuzz_format *format,
                    const struct fuzz_config *config, struct err *err)
{
    struct fuzz_file *f = &img->file[0];

    fuzz_image_clear(img);
    img->config = config;
    img->files = 1;
    int r = map_file(f, path, err);
    if (r < 0) {
        return r;
    }
    img->format = f->format = format ? format : probe(f->bytes, f->size);
    if (img->format && img->format->parse) {
        img->format->parse(img);
    } else {
        fuzz_place_bytes(img, "bytes", -1, 0, f->size);
    }
    return 0;
}

/* ---- images in memory ---- */

int fuzz_image_load(struct fuzz_image *img, const uint8_t *bytes, size_t size,
                    const struct fuzz_format *format, const struct fuzz_config *config)
{
    if (!format->parse || !format->probe || !format->probe(bytes, size)) {
        return -EINVAL;
    }
    fuzz_image_clear(img);
    img->config = config;
    img->files = 1;
    uint8_t *p = fuzz_file_bytes(&img->file[0], 0, size);
    if (!p) {
        return -EFBIG;
    }
    memcpy(p, bytes, size);
    img->file[0].valid_size = size;
    img->format = img->file[0].format = format;
    format->parse(img);
    return 0;
}

size_t fuzz_image_bytes(const struct fuzz_image *img, uint8_t *out, size_t max)
{
    const struct fuzz_file *f = &img->file[0];
    size_t len = (size_t)MIN(f->size, (uint64_t)max);
    uint64_t have = MIN((uint64_t)len, f->foreign_bytes ? f->foreign_bytes : f->room);

    memcpy(out, f->bytes, have);
    memset(out + have, 0, len - have);
    return len;
}
