/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files of the real engines. Small requests are tried on the loop's own thread first, where the page
 * cache answers at once (RWF_NOWAIT tells; a memory file system needs no telling); what would block,
 * and what is large enough to be worth another core, goes to the engine.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "base/iov.h"
#include "loop/posix.h"

#define DATA_STEP_BYTES (32 * MiB) /* of data at most is read before a hole behind it is found */

struct posix_file {
    struct lfile f;
    bool nowait_read, nowait_write; /* until the file system says EOPNOTSUPP */
    struct posix_writer *writer;    /* made at first use */
    off_t data_at;                  /* where the last hole asked for ended; it may have changed since */
};

uint64_t posix_clock_ns(struct loop *loop)
{
    struct timespec ts;

    (void)loop;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

ssize_t posix_prw_now(int fd, bool write, const struct iovec *iov, int niov, uint64_t offset, int rwf_flags)
{
    ssize_t n;

    do {
        if (niov == 1 && rwf_flags == 0) { /* cheaper by the import of the list */
            n = write ? pwrite(fd, iov->iov_base, iov->iov_len, (off_t)offset)
                      : pread(fd, iov->iov_base, iov->iov_len, (off_t)offset);
        } else {
            n = write ? pwritev2(fd, iov, niov, (off_t)offset, rwf_flags)
                      : preadv2(fd, iov, niov, (off_t)offset, rwf_flags);
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t posix_send(int fd, const struct iovec *iov, int niov)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)niov};

    for (;;) {
        ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            int r = fd_poll(fd, POLLOUT, UINT64_MAX);
            if (r < 0) {
                return r;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

/* ---- opening ---- */

/* O_DIRECT wants aligned offsets, lengths and memory: find the least the file takes. */
static uint32_t probe_direct_align(int fd)
{
    uint32_t align = 512;
    int sector;

    if (ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 && is_pow2((uint64_t)sector)) {
        return (uint32_t)sector;
    }
    void *buf;
    if (posix_memalign(&buf, 4096, 4096) != 0) {
        return 4096;
    }
    while (align < 4096 && pread(fd, buf, align, 0) < 0 && errno == EINVAL) {
        align *= 2;
    }
    free(buf);
    return align;
}

static int adopt(int fd, struct lfile **ret_file)
{
    struct stat st;
    struct statfs fs;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return -ENOTBLK;
    }
    struct posix_file *pf = calloc(1, sizeof(*pf));
    if (!pf) {
        return -ENOMEM;
    }
    pf->f = (struct lfile){.ops = &posix_file_ops, .align = 1, .fd = fd};
    if (S_ISBLK(st.st_mode)) {
        pf->f.caps |= LFILE_BLOCK;
    } else if (fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)) {
        pf->f.caps |= LFILE_MEMORY;
    }
    if (flags & O_DIRECT) {
        pf->f.caps |= LFILE_DIRECT;
        pf->f.align = probe_direct_align(fd);
    } else {
        pf->nowait_read = pf->nowait_write = true;
    }
    *ret_file = &pf->f;
    return 0;
}

struct open_call {
    const char *path;
    int flags;
    mode_t mode;
};

static int call_open(void *arg)
{
    struct open_call *c = arg;
    int fd = open(c->path, c->flags, c->mode);

    return fd < 0 ? -errno : fd;
}

static int posix_open(const char *path, int flags, mode_t mode, struct lfile **ret_file)
{
    /* O_NONBLOCK: a FIFO must not hang us; it is refused by adopt. */
    struct open_call c = {path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode};
    AUTO_CLOSE int fd = loop_work(call_open, &c);

    if (fd < 0) {
        int r = fd;
        fd = -1;
        return r;
    }
    int set = fcntl(fd, F_GETFL);
    if (set < 0 || fcntl(fd, F_SETFL, set & ~O_NONBLOCK) < 0) {
        return -errno;
    }
    int r = adopt(fd, ret_file);
    if (r == 0) {
        (void)TAKE_FD(fd);
    }
    return r;
}

static void posix_close(struct lfile *f)
{
    struct posix_file *pf = container_of(f, struct posix_file, f);

    posix_writer_free(pf->writer);
    close(f->fd);
    free(pf);
}

/* ---- data ---- */

/* Have the other cores something to do, and something to do next? */
static bool others_are_busy(void)
{
    const struct loop *loop = loop_self();

    return loop->others_io >= 4 * loop->spare_cores;
}

/* Is it worth another thread? Of a bulk job: all writes, and reads as long as the others are idle. */
static bool is_large(bool write, size_t bytes, unsigned flags)
{
    if (flags & LFILE_BULK) {
        return write ? loop_self()->spare_cores > 0 : bytes >= LARGE_IO_BYTES && !others_are_busy();
    }
    return bytes >= LARGE_IO_BYTES;
}

static bool try_inline(const struct posix_file *pf, bool write, size_t bytes, unsigned flags)
{
    if (is_large(write, bytes, flags)) {
        return false;
    }
    return (pf->f.caps & LFILE_MEMORY) ||
           (!(flags & LFILE_SYNC) && (write ? pf->nowait_write : pf->nowait_read));
}

static bool has_queue(struct posix_file *pf, unsigned flags)
{
    if ((flags & LFILE_SYNC) || (pf->f.caps & (LFILE_DIRECT | LFILE_BLOCK))) {
        return false;
    }
    if (!pf->writer) {
        pf->writer = posix_writer_new(pf->f.fd);
    }
    return pf->writer;
}

/* One transfer by another thread, or by the kernel. */
static co_fn ssize_t prw(struct posix_file *pf, bool write, const struct iovec *iov, int niov,
                         uint64_t offset, size_t bytes, unsigned flags)
{
    struct loop *loop = loop_self();
    bool large = is_large(write, bytes, flags);
    unsigned weight = !large ? 0 : write ? 2 : 1; /* new pages take longer than a copy */
    ssize_t n;

    loop->others_io += weight;
    if (large && write && has_queue(pf, flags)) {
        n = posix_writer_write(pf->writer, iov, niov, offset, flags & LFILE_BULK);
    } else {
        n = loop->engine->prw(pf->f.fd, write, iov, niov, offset, flags & LFILE_SYNC ? RWF_DSYNC : 0);
    }
    loop->others_io -= weight;
    return n;
}

/* The rest of a transfer after @done bytes went. */
static int rw_rest(struct posix_file *pf, bool write, const struct iovec *iov, int niov, uint64_t offset,
                   size_t done, size_t bytes, unsigned flags)
{
    struct iovec rest[IOV_LIST_MAX];

    while (done < bytes) {
        const struct iovec *v = iov;
        int n = niov;
        if (done > 0) {
            n = iov_slice(rest, iov, niov, done, bytes - done);
            v = rest;
        }
        ssize_t got = prw(pf, write, v, n, offset + done, bytes - done, flags);
        if (got < 0) {
            return (int)got;
        }
        if (got == 0) {
            if (write) {
                return -EIO;
            }
            iov_memset(iov, niov, done, 0, bytes - done); /* past the end of the file */
            return 0;
        }
        done += (size_t)got;
    }
    return 0;
}

static int posix_rw(struct lfile *f, bool write, const struct iovec *iov, int niov, uint64_t offset,
                    unsigned flags)
{
    struct posix_file *pf = container_of(f, struct posix_file, f);
    size_t bytes = iov_size(iov, niov);

    if (!try_inline(pf, write, bytes, flags)) {
        return rw_rest(pf, write, iov, niov, offset, 0, bytes, flags);
    }
    bool memory = f->caps & LFILE_MEMORY;
    int rwf = !memory ? RWF_NOWAIT : flags & LFILE_SYNC ? RWF_DSYNC : 0;
    ssize_t got = posix_prw_now(f->fd, write, iov, niov, offset, rwf);
    if (LIKELY(got == (ssize_t)bytes)) {
        return 0;
    }
    if (got == -EOPNOTSUPP && !memory) {
        *(write ? &pf->nowait_write : &pf->nowait_read) = false;
    } else if (got < 0 && (memory || got != -EAGAIN)) {
        return (int)got;
    }
    return rw_rest(pf, write, iov, niov, offset, got < 0 ? 0 : (size_t)got, bytes, flags);
}

#define COMPARE_BYTES (128 * KiB) /* read and compared at a time */

struct compare_call {
    int fd;
    const struct iovec *iov;
    int niov;
    uint64_t offset;
    uint8_t *buf; /* COMPARE_BYTES */
};

static int compare_piece(const struct compare_call *c, const uint8_t *expected, size_t bytes, uint64_t offset)
{
    size_t have = 0;

    while (have < bytes) {
        struct iovec iov = {c->buf + have, bytes - have};
        ssize_t n = posix_prw_now(c->fd, false, &iov, 1, offset + have, 0);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) { /* past the end of the file */
            memset(c->buf + have, 0, bytes - have);
            break;
        }
        have += (size_t)n;
    }
    return memcmp(c->buf, expected, bytes) == 0 ? 0 : -EILSEQ;
}

static int call_compare(void *arg)
{
    const struct compare_call *c = arg;
    uint64_t offset = c->offset;

    for (int i = 0; i < c->niov; i++) {
        const struct iovec *v = &c->iov[i];
        for (size_t at = 0; at < v->iov_len; at += COMPARE_BYTES) {
            size_t bytes = MIN((size_t)COMPARE_BYTES, v->iov_len - at);
            int r = compare_piece(c, (const uint8_t *)v->iov_base + at, bytes, offset + at);
            if (r < 0) {
                return r;
            }
        }
        offset += v->iov_len;
    }
    return 0;
}

int lfile_compare(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset)
{
    struct compare_call c = {f->fd, iov, niov, offset, buf_get(COMPARE_BYTES)};

    assert((f->caps & (LFILE_MEMORY | LFILE_DIRECT)) == LFILE_MEMORY);
    if (!c.buf) {
        return -ENOMEM;
    }
    int r = loop_work(call_compare, &c);
    buf_put(c.buf, COMPARE_BYTES);
    return r;
}

static int posix_sync(struct lfile *f)
{
    if (f->caps & LFILE_MEMORY) {
        return fdatasync(f->fd) < 0 ? -errno : 0;
    }
    return loop_self()->engine->fdatasync(f->fd);
}

static int posix_fallocate_op(struct lfile *f, int mode, uint64_t offset, uint64_t n)
{
    if ((f->caps & LFILE_MEMORY) && n < MiB) {
        int r;
        do {
            r = fallocate(f->fd, mode, (off_t)offset, (off_t)n);
        } while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
    }
    return loop_self()->engine->fallocate(f->fd, mode, offset, n);
}

struct truncate_call {
    int fd;
    uint64_t size;
};

static int call_truncate(void *arg)
{
    struct truncate_call *c = arg;

    return ftruncate(c->fd, (off_t)c->size) < 0 ? -errno : 0;
}

static int posix_truncate(struct lfile *f, uint64_t size)
{
    struct truncate_call c = {f->fd, size};

    return loop_work(call_truncate, &c);
}

static int posix_size(struct lfile *f, uint64_t *ret_size)
{
    struct stat st;
    uint64_t bytes;

    if (f->caps & LFILE_BLOCK) {
        if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0) {
            return -errno;
        }
        *ret_size = bytes;
        return 0;
    }
    if (fstat(f->fd, &st) < 0) {
        return -errno;
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int posix_allocated(struct lfile *f, uint64_t *ret_bytes)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0) {
        return -errno;
    }
    *ret_bytes = (uint64_t)st.st_blocks * 512;
    return 0;
}

/* The size of a file that has next to no holes; 0 for others. */
static uint64_t full_size(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_size > 0 && st.st_blocks >= st.st_size / 512 / 8 * 7
               ? (uint64_t)st.st_size
               : 0;
}

static int posix_extent(struct lfile *f, uint64_t offset, unsigned flags, struct lfile_extent *ret_extent)
{
    struct posix_file *pf = container_of(f, struct posix_file, f);
    uint64_t full = flags & LFILE_BULK ? full_size(f->fd) : 0;
    off_t hole;

    if (full == 0 && pf->data_at == (off_t)offset && offset > 0 &&
        (hole = lseek(f->fd, (off_t)offset, SEEK_HOLE)) > (off_t)offset) {
        *ret_extent = (struct lfile_extent){.bytes = (uint64_t)hole - offset, .hole = false};
        return 0;
    }
    off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA);

    if (data < 0 && errno != ENXIO) {
        return errno == EINVAL ? -EOPNOTSUPP : -errno;
    }
    if (data < 0) { /* nothing but a hole up to the end */
        uint64_t size;
        int r = posix_size(f, &size);
        if (r < 0) {
            return r;
        }
        if (size <= offset) {
            return -ENXIO;
        }
        *ret_extent = (struct lfile_extent){.bytes = size - offset, .hole = true};
        return 0;
    }
    if ((uint64_t)data > offset) {
        pf->data_at = data;
        *ret_extent = (struct lfile_extent){.bytes = (uint64_t)data - offset, .hole = true};
        return 0;
    }
    if (full > offset) { /* the kernel would look at every page up to the end */
        *ret_extent =
            (struct lfile_extent){.bytes = MIN(full - offset, DATA_STEP_BYTES), .hole = false, .more = true};
        return 0;
    }
    hole = lseek(f->fd, (off_t)offset, SEEK_HOLE);
    if (hole < 0) {
        return -errno;
    }
    if ((uint64_t)hole <= offset) { /* the file changed between the two calls */
        return -EOPNOTSUPP;
    }
    *ret_extent = (struct lfile_extent){.bytes = (uint64_t)hole - offset, .hole = false};
    return 0;
}

const struct file_ops posix_file_ops = {
    .open = posix_open,
    .close = posix_close,
    .rw = posix_rw,
    .sync = posix_sync,
    .fallocate = posix_fallocate_op,
    .truncate = posix_truncate,
    .size = posix_size,
    .allocated = posix_allocated,
    .extent = posix_extent,
};

/* ---- loop.h's names ---- */

int lfile_open(const char *path, int flags, mode_t mode, struct lfile **ret_file)
{
    return loop_self()->engine->file->open(path, flags, mode, ret_file);
}

int lfile_adopt(int fd, struct lfile **ret_file)
{
    return adopt(fd, ret_file);
}

void lfile_close(struct lfile *f)
{
    if (f) {
        f->ops->close(f);
    }
}

int lfile_read(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset, unsigned flags)
{
    return f->ops->rw(f, false, iov, niov, offset, flags);
}

int lfile_write(struct lfile *f, const struct iovec *iov, int niov, uint64_t offset, unsigned flags)
{
    return f->ops->rw(f, true, iov, niov, offset, flags);
}

int lfile_sync(struct lfile *f)
{
    return f->ops->sync(f);
}

int lfile_fallocate(struct lfile *f, int mode, uint64_t offset, uint64_t n)
{
    return f->ops->fallocate(f, mode, offset, n);
}

int lfile_truncate(struct lfile *f, uint64_t size)
{
    return f->ops->truncate(f, size);
}

int lfile_size(struct lfile *f, uint64_t *ret_size)
{
    return f->ops->size(f, ret_size);
}

int lfile_allocated(struct lfile *f, uint64_t *ret_bytes)
{
    return f->ops->allocated(f, ret_bytes);
}

int lfile_extent(struct lfile *f, uint64_t offset, unsigned flags, struct lfile_extent *ret_extent)
{
    return f->ops->extent(f, offset, flags, ret_extent);
}

unsigned lfile_caps(const struct lfile *f)
{
    return f->caps;
}

uint32_t lfile_align(const struct lfile *f)
{
    return f->align;
}

int lfile_fd(const struct lfile *f)
{
    return f->fd;
}
