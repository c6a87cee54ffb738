/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated disk: the file operations of the sim engine. Each operation is counted, meets the
 * faults, waits its latency, and takes effect at the end of the wait (a torn write: in two parts);
 * so two operations under way at once take effect in the order of their completion, which the seed
 * decides. A flush makes durable what had taken effect when it completes.
 *
 * A handle that was open when the power was cut is dead: it answers -EIO until it is closed.
 */
#include "sim/internal.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include "base/iov.h"

#define SIM_FILE_MAX INT64_MAX

struct sim_file {
    struct list link; /* sim->files */
    char *path;
    unsigned object; /* its number in traces */
    struct sim_disk disk;
    struct store store;
    struct sim_fault faults[SIM_FAULTS_MAX];
    unsigned nfaults;
    unsigned power_cuts;
    unsigned handles;
    unsigned in_flight;
    struct list writes; /* under way: struct flight */
};

struct sim_handle {
    struct lfile lfile;
    struct sim *sim;
    struct sim_file *file;
    unsigned power_cuts; /* of the file when it was opened */
    bool readable, writable, direct;
};

/* A write that has not taken effect yet, or not wholly. */
struct flight {
    struct list link;
    const struct iovec *iov;
    int niov;
    uint64_t offset, bytes;
};

/* ---- files ---- */

struct sim_file *sim_file_create(const char *path, const struct sim_disk *disk)
{
    struct sim *sim = sim_self();
    struct sim_file *f = calloc(1, sizeof(*f));
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return NULL;
    }
    f->object = ++sim->last_object;
    f->disk = *disk;
    if (disk->latency.max_ns == 0 && disk->latency.min_ns == 0 && disk->latency.slow_ppm == 0) {
        f->disk.latency = sim_latency_default;
    }
    list_init(&f->writes);
    store_init(&f->store, disk->size, disk->write_through);
    list_add_tail(&sim->files, &f->link);
    return f;
}

static struct sim_file *file_find(struct sim *sim, const char *path)
{
    struct sim_file *f;
    list_for_each (f, &sim->files, link) {
        if (strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}

struct sim_file *sim_file_find(const char *path)
{
    return file_find(sim_self(), path);
}

static void file_destroy(struct sim_file *f)
{
    list_del(&f->link);
    store_finish(&f->store);
    free(f->path);
    free(f);
}

void sim_files_finish(struct sim *sim)
{
    struct sim_file *f, *tmp;
    list_for_each_safe (f, tmp, &sim->files, link) {
        file_destroy(f);
    }
}

void sim_file_set_latency(struct sim_file *file, const struct sim_latency *latency)
{
    file->disk.latency = *latency;
}

void sim_file_peek(struct sim_file *file, uint64_t offset, void *buf, uint64_t bytes)
{
    struct iovec iov = {buf, bytes};
    store_read(&file->store, offset, &iov, 1, 0, bytes);
}

int sim_file_poke(struct sim_file *file, uint64_t offset, const void *buf, uint64_t bytes)
{
    struct iovec iov = {(void *)buf, bytes};
    int ret = store_write(&file->store, offset, &iov, 1, 0, bytes);
    if (ret == 0 && bytes > 0) {
        store_sync_range(&file->store, offset, bytes);
    }
    return ret;
}

uint64_t sim_file_size(const struct sim_file *file)
{
    return file->store.size;
}

unsigned sim_file_handles(const struct sim_file *file)
{
    return file->handles;
}

unsigned sim_file_in_flight(const struct sim_file *file)
{
    return file->in_flight;
}

void sim_set_faults(struct sim_file *file, const struct sim_fault *faults, unsigned nfaults)
{
    struct sim *sim = sim_self();
    assert(nfaults <= SIM_FAULTS_MAX);
    struct sim_fault *to = file ? file->faults : sim->faults;
    for (unsigned i = 0; i < nfaults; i++) {
        to[i] = faults[i];
        to[i].seen = 0;
    }
    *(file ? &file->nfaults : &sim->nfaults) = nfaults;
}

uint64_t sim_fault_seen(struct sim_file *file, unsigned index)
{
    const struct sim *sim = sim_self();
    assert(index < (file ? file->nfaults : sim->nfaults));
    return file ? file->faults[index].seen : sim->faults[index].seen;
}

/* ---- power ---- */

static void flight_cut(struct sim *sim, struct sim_file *f, const struct flight *w,
                       enum sim_survivors survivors)
{
    uint64_t done = 0;
    while (done < w->bytes) {
        uint64_t at = w->offset + done;
        uint64_t n = MIN(w->bytes - done, SECTOR_SIZE - at % SECTOR_SIZE);
        if (survivors == SIM_SURVIVE_ALL ||
            (survivors == SIM_SURVIVE_RANDOM && rng_below(&sim->rng, 2) == 0)) {
            (void)store_write(&f->store, at, w->iov, w->niov, done, n);
        }
        done += n;
    }
}

static void file_cut(struct sim *sim, struct sim_file *f, enum sim_survivors survivors)
{
    store_cut(&f->store, survivors, &sim->rng);
    struct flight *w;
    list_for_each (w, &f->writes, link) {
        flight_cut(sim, f, w, survivors);
    }
    store_sync(&f->store);
    f->power_cuts++;
}

void sim_power_cut(struct sim_file *file, enum sim_survivors survivors)
{
    struct sim *sim = sim_self();
    struct sim_file *f;

    if (file) {
        file_cut(sim, file, survivors);
        return;
    }
    list_for_each (f, &sim->files, link) {
        file_cut(sim, f, survivors);
    }
}

/* ---- operations ---- */

struct operation {
    struct sim_handle *handle;
    enum sim_op op;
    uint64_t offset, bytes;
    bool partial;
};

static bool is_dead(const struct sim_handle *h)
{
    return h->power_cuts != h->file->power_cuts;
}

/* Everything before the effect: counting, faults, the wait. Returns the error to end with, or 0. */
static co_fn int operation_begin(struct operation *o)
{
    struct sim_handle *h = o->handle;
    struct sim_file *f = h->file;
    struct sim_fate fate = sim_decide(h->sim, f->faults, f->nfaults, o->op, o->offset, o->bytes);

    f->in_flight++;
    int ret = sim_wait(h->sim, &f->disk.latency, fate.delay_ns);
    f->in_flight--;
    if (is_dead(h)) {
        return -EIO;
    }
    o->partial = fate.partial;
    return ret < 0 ? ret : fate.error;
}

static int operation_end(struct operation *o, int ret)
{
    sim_trace(o->handle->sim, o->op, o->handle->file->object, o->offset, o->bytes, ret);
    return ret;
}

static struct sim_handle *handle_of(struct lfile *lf)
{
    return container_of(lf, struct sim_handle, lfile);
}

static int open_existing(struct sim_file *f, int flags)
{
    if ((flags & O_CREAT) && (flags & O_EXCL)) {
        return -EEXIST;
    }
    return (flags & O_TRUNC) && !f->disk.block_device ? store_truncate(&f->store, 0) : 0;
}

static int open_file(struct sim *sim, const char *path, int flags, struct sim_file **ret_file)
{
    struct sim_file *f = file_find(sim, path);
    if (f) {
        *ret_file = f;
        return open_existing(f, flags);
    }
    if (!(flags & O_CREAT)) {
        return -ENOENT;
    }
    f = sim_file_create(path, &(struct sim_disk){0});
    if (!f) {
        return -ENOMEM;
    }
    *ret_file = f;
    return 0;
}

static int handle_create(struct sim *sim, struct sim_file *f, int flags, struct lfile **ret_file)
{
    struct sim_handle *h = calloc(1, sizeof(*h));
    if (!h) {
        return -ENOMEM;
    }
    int access = flags & O_ACCMODE;
    h->direct = flags & O_DIRECT;
    h->readable = access != O_WRONLY;
    h->writable = access != O_RDONLY;
    h->lfile = (struct lfile){.ops = &sim_file_ops, .fd = -1, .align = 1};
    h->lfile.caps = (h->direct ? LFILE_DIRECT : 0u) | (f->disk.block_device ? LFILE_BLOCK : 0u);
    if (h->direct && f->disk.align > 0) {
        h->lfile.align = f->disk.align;
    }
    h->sim = sim;
    h->file = f;
    h->power_cuts = f->power_cuts;
    f->handles++;
    *ret_file = &h->lfile;
    return 0;
}

static co_fn int disk_open(const char *path, int flags, mode_t mode, struct lfile **ret_file)
{
    struct sim *sim = sim_self();
    struct sim_file *f = file_find(sim, path);
    struct sim_fate fate = sim_decide(sim, f ? f->faults : NULL, f ? f->nfaults : 0, SIM_OPEN, 0, 0);

    int ret = sim_wait(sim, f ? &f->disk.latency : &sim_latency_default, fate.delay_ns);
    if (ret == 0) {
        ret = fate.error;
    }
    if (ret == 0) {
        ret = open_file(sim, path, flags, &f);
    }
    if (ret == 0) {
        ret = handle_create(sim, f, flags, ret_file);
    }
    sim_trace(sim, SIM_OPEN, f ? f->object : 0, 0, 0, ret);
    return ret;
}

static co_fn void disk_close(struct lfile *lf)
{
    struct sim_handle *h = handle_of(lf);
    h->file->handles--;
    free(h);
}

static int check_alignment(const struct sim_handle *h, const struct iovec *iov, int niov, uint64_t offset,
                           uint64_t bytes)
{
    uint32_t align = h->lfile.align;
    if (align == 1) {
        return 0;
    }
    return (offset | bytes) % align == 0 && iov_is_aligned(iov, niov, align) ? 0 : -EINVAL;
}

static co_fn int disk_read(struct operation *o, const struct iovec *iov, int niov)
{
    if (!o->handle->readable) {
        return -EBADF;
    }
    int ret = operation_begin(o);
    if (ret == 0) {
        store_read(&o->handle->file->store, o->offset, iov, niov, 0, o->bytes);
    }
    return operation_end(o, ret);
}

/* A part of a write takes effect. */
static int land(struct operation *o, const struct iovec *iov, int niov, uint64_t from, uint64_t to)
{
    return store_write(&o->handle->file->store, o->offset + from, iov, niov, from, to - from);
}

/* The whole write; with tearing, two parts of it with a wait between. */
static co_fn int land_all(struct operation *o, const struct iovec *iov, int niov)
{
    struct sim_handle *h = o->handle;
    uint64_t sectors = o->bytes / SECTOR_SIZE;

    if (!h->file->disk.tear || sectors < 2) {
        return land(o, iov, niov, 0, o->bytes);
    }
    uint64_t cut = (1 + rng_below(&h->sim->rng, sectors - 1)) * SECTOR_SIZE;
    bool head_first = rng_below(&h->sim->rng, 2) == 0;
    int ret = head_first ? land(o, iov, niov, 0, cut) : land(o, iov, niov, cut, o->bytes);
    if (ret < 0) {
        return ret;
    }
    ret = sim_wait(h->sim, &h->file->disk.latency, 0);
    if (ret < 0 || is_dead(h)) {
        return ret < 0 ? ret : -EIO;
    }
    return head_first ? land(o, iov, niov, cut, o->bytes) : land(o, iov, niov, 0, cut);
}

/* A failing write: some sectors at its beginning have landed. */
static void land_part(struct operation *o, const struct iovec *iov, int niov)
{
    uint64_t sectors = rng_below(&o->handle->sim->rng, o->bytes / SECTOR_SIZE + 1);
    (void)land(o, iov, niov, 0, sectors * SECTOR_SIZE);
}

static co_fn int disk_write(struct operation *o, const struct iovec *iov, int niov, bool sync)
{
    struct sim_file *f = o->handle->file;

    if (!o->handle->writable) {
        return -EBADF;
    }
    if (f->disk.block_device && o->offset + o->bytes > f->store.size) {
        return -ENOSPC;
    }
    struct flight w = {.iov = iov, .niov = niov, .offset = o->offset, .bytes = o->bytes};
    list_add_tail(&f->writes, &w.link);
    int ret = operation_begin(o);
    if (ret == 0) {
        ret = land_all(o, iov, niov);
    } else if (o->partial && !is_dead(o->handle)) {
        land_part(o, iov, niov);
    }
    list_del(&w.link);
    if (ret == 0 && sync && o->bytes > 0) {
        store_sync_range(&f->store, o->offset, o->bytes);
    }
    return operation_end(o, ret);
}

static co_fn int disk_rw(struct lfile *lf, bool write, const struct iovec *iov, int niov, uint64_t offset,
                         unsigned flags)
{
    struct operation o = {.handle = handle_of(lf),
                          .op = write ? SIM_WRITE : SIM_READ,
                          .offset = offset,
                          .bytes = iov_size(iov, niov)};
    if (offset > SIM_FILE_MAX || o.bytes > SIM_FILE_MAX - offset) {
        return write ? -EFBIG : -EINVAL;
    }
    int ret = check_alignment(o.handle, iov, niov, offset, o.bytes);
    if (ret < 0) {
        return ret;
    }
    return write ? disk_write(&o, iov, niov, flags & LFILE_SYNC) : disk_read(&o, iov, niov);
}

static co_fn int disk_sync(struct lfile *lf)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_SYNC};
    int ret = operation_begin(&o);
    if (ret == 0) {
        store_sync(&o.handle->file->store);
    }
    return operation_end(&o, ret);
}

static int apply_fallocate(struct sim_file *f, int mode, uint64_t offset, uint64_t n)
{
    struct store *s = &f->store;
    uint64_t end = offset + n;
    bool keep_size = mode & FALLOC_FL_KEEP_SIZE;

    if (f->disk.block_device && end > s->size) {
        return -EINVAL;
    }
    uint64_t in_file = offset < s->size ? MIN(end, s->size) - offset : 0;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case FALLOC_FL_PUNCH_HOLE:
        return keep_size ? store_zero(s, offset, in_file, true) : -EOPNOTSUPP;
    case FALLOC_FL_ZERO_RANGE:
        if (!keep_size && end > s->size) {
            int ret = store_truncate(s, end);
            in_file = n;
            return ret < 0 ? ret : store_zero(s, offset, in_file, false);
        }
        return store_zero(s, offset, in_file, false);
    case 0: /* allocation itself is not modelled: no page is made for it */
        return keep_size || end <= s->size ? 0 : store_truncate(s, end);
    default:
        return -EOPNOTSUPP;
    }
}

static co_fn int disk_fallocate(struct lfile *lf, int mode, uint64_t offset, uint64_t n)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_FALLOCATE, .offset = offset, .bytes = n};
    if (!o.handle->writable) {
        return -EBADF;
    }
    if (n == 0 || offset > SIM_FILE_MAX || n > SIM_FILE_MAX - offset) {
        return n == 0 ? -EINVAL : -EFBIG;
    }
    int ret = operation_begin(&o);
    if (ret == 0) {
        ret = apply_fallocate(o.handle->file, mode, offset, n);
    }
    return operation_end(&o, ret);
}

static co_fn int disk_truncate(struct lfile *lf, uint64_t size)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_TRUNCATE, .offset = size};
    if (!o.handle->writable || o.handle->file->disk.block_device) {
        return -EINVAL;
    }
    if (size > SIM_FILE_MAX) {
        return -EFBIG;
    }
    int ret = operation_begin(&o);
    if (ret == 0) {
        ret = store_truncate(&o.handle->file->store, size);
    }
    return operation_end(&o, ret);
}

static co_fn int disk_size(struct lfile *lf, uint64_t *ret_size)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_SIZE};
    int ret = operation_begin(&o);
    if (ret == 0) {
        *ret_size = o.handle->file->store.size;
    }
    return operation_end(&o, ret);
}

static co_fn int disk_allocated(struct lfile *lf, uint64_t *ret_bytes)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_SIZE};
    int ret = operation_begin(&o);
    if (ret == 0) {
        *ret_bytes = o.handle->file->store.pages * STORE_PAGE;
    }
    return operation_end(&o, ret);
}

static co_fn int disk_extent(struct lfile *lf, uint64_t offset, unsigned flags,
                             struct lfile_extent *ret_extent)
{
    struct operation o = {.handle = handle_of(lf), .op = SIM_SIZE, .offset = offset};
    int ret = operation_begin(&o);
    if (ret == 0 && offset >= o.handle->file->store.size) {
        ret = -ENXIO;
    }
    if (ret == 0) {
        store_extent(&o.handle->file->store, offset, ret_extent);
    }
    return operation_end(&o, ret);
}

const struct file_ops sim_file_ops = {
    .open = disk_open,
    .close = disk_close,
    .rw = disk_rw,
    .sync = disk_sync,
    .fallocate = disk_fallocate,
    .truncate = disk_truncate,
    .size = disk_size,
    .allocated = disk_allocated,
    .extent = disk_extent,
};
