/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the oracle's book lies: a sparse file, mapped, so that whatever is noted is in the file once it is
 * noted, though blkproof be killed; or, without a file, memory that costs nothing until it is used. Space on
 * the disk is asked for before it is written to: on a full disk the answer is an error here, not a signal.
 *
 *   header, 4 KiB | directory: a record per chunk | ring of versions | pages: 64 KiB per chunk
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "block/own.h"
#include "drivers/verify/oracle.h"

#define MAGIC        UINT64_C(0x424c4b4f5241434c) /* "BLKORACL" */
#define VERSION      1u
#define HEADER_BYTES 4096u

#define H(m) FIELD_AT(struct oracle_header, m)
static const struct field fields[] = {
    {"magic", FIELD_MAGIC, 0, 8, .order = FIELD_BE, .min = MAGIC, H(magic)},
    {"version", FIELD_NUMBER, 8, 4, .order = FIELD_LE, .min = VERSION, .max = VERSION, H(version)},
    {"unit", FIELD_LENGTH, 12, 4, .order = FIELD_LE, .min = 512, .max = ORACLE_UNIT_MAX, H(unit),
     .what = "bytes of a sector, 512 or 4096"},
    {"size", FIELD_LENGTH, 16, 8, .order = FIELD_LE, H(size), .what = "bytes of the device"},
    {"versions", FIELD_COUNT, 24, 8, .order = FIELD_LE, .min = 1024, .max = ORACLE_VERSIONS_MAX, H(versions),
     .what = "room of the ring of versions, a power of two"},
    {"checksum", FIELD_CHECKSUM, 32, 8, .order = FIELD_LE, H(checksum),
     .what = "XXH3 of the 32 bytes before it, as the beginning of a sector of zeroes"},
    {"last-seq", FIELD_NUMBER, 64, 8, .order = FIELD_LE, .min = 0, .max = ORACLE_SEQ_MAX, H(last_seq),
     .what = "number of the last operation, through all runs"},
    {"flushed-seq", FIELD_NUMBER, 72, 8, .order = FIELD_LE, .min = 0, .max = ORACLE_SEQ_MAX, H(flushed_seq),
     .what = "what was done and has a smaller number is durable"},
    {"versions-head", FIELD_COUNT, 80, 8, .order = FIELD_LE, H(versions_head),
     .what = "versions ever entered in the ring"},
    {"runs", FIELD_COUNT, 88, 8, .order = FIELD_LE, H(runs), .what = "how often it was opened"},
    {0},
};
#define CHECKED_BYTES 32u
#define LIVE_BYTES    96u
const struct layout oracle_layout = {"oracle", fields, LIVE_BYTES, sizeof(struct oracle_header)};

static uint64_t checksum(const uint8_t *bytes)
{
    return history_hash_sector(bytes, CHECKED_BYTES);
}

void oracle_put_live(struct oracle *o)
{
    put_le64(o->map + 64, o->last_seq);
    put_le64(o->map + 72, o->flushed_seq);
    put_le64(o->map + 80, o->versions_head);
}

/* Places and sizes that follow from the size of the device. */
static int lay_out(struct oracle *o, uint64_t size, struct err *err)
{
    uint64_t units = div_up(size, o->unit);

    if (units > ORACLE_UNITS_MAX) {
        return err_set(err, -EFBIG, "oracle: the device has %llu bytes, more than %llu units of %u",
                       (unsigned long long)size, (unsigned long long)ORACLE_UNITS_MAX, o->unit);
    }
    o->chunks = div_up(units, ORACLE_CHUNK_UNITS);
    o->versions_at = round_up(HEADER_BYTES + o->chunks * ORACLE_RECORD_BYTES, ORACLE_PAGE_BYTES);
    o->pages_at = round_up(o->versions_at + o->versions_max * ORACLE_VERSION_BYTES, ORACLE_PAGE_BYTES);
    uint64_t bytes = o->pages_at + o->chunks * ORACLE_PAGE_BYTES;
    if (bytes > SIZE_MAX / 2) {
        return err_set(err, -EFBIG, "oracle: this machine has no room for a book of %llu bytes",
                       (unsigned long long)bytes);
    }
    o->map_bytes = (size_t)bytes;
    return 0;
}

static int do_map(struct oracle *o, struct err *err)
{
    int flags = o->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void *map = mmap(NULL, o->map_bytes, PROT_READ | PROT_WRITE, flags, o->fd, 0);

    if (map == MAP_FAILED) {
        return err_set_errno(err, -errno, "oracle: cannot map a book of %zu bytes", o->map_bytes);
    }
    o->map = map;
    o->have = calloc(o->map_bytes / ORACLE_PAGE_BYTES / 64 + 1, sizeof(*o->have));
    return o->have ? 0 : err_set(err, -ENOMEM, "oracle: no memory");
}

/* ---- space ---- */

/* A file system without fallocate: write what is there. */
static int rewrite(int fd, uint64_t at, uint64_t bytes)
{
    void *buf = calloc(1, bytes);
    ssize_t n = buf ? pread(fd, buf, bytes, (off_t)at) : -1;

    n = n < 0 ? n : pwrite(fd, buf, bytes, (off_t)at);
    int rc = n == (ssize_t)bytes ? 0 : n < 0 ? -errno : -ENOSPC;
    free(buf);
    return rc;
}

static void tell_blind(struct oracle *o, int rc)
{
    o->blind = true;
    if (!o->blind_told) {
        o->blind_told = true;
        verify_notice(o->node, NOTICE_WARNING,
                      "oracle: cannot extend '%s': %s; what is written and cannot be recorded there is not "
                      "verified, and is counted as such",
                      o->path, err_name(rc));
    }
}

bool oracle_room(struct oracle *o, uint64_t at, uint64_t bytes)
{
    for (uint64_t i = at / ORACLE_PAGE_BYTES; i <= (at + bytes - 1) / ORACLE_PAGE_BYTES; i++) {
        if (LIKELY(o->fd < 0 || (o->have[i / 64] >> i % 64 & 1))) {
            continue;
        }
        uint64_t start = i * ORACLE_PAGE_BYTES;
        int rc = fallocate(o->fd, 0, (off_t)start, (off_t)ORACLE_PAGE_BYTES) < 0 ? -errno : 0;
        if (rc == -EOPNOTSUPP || rc == -ENOSYS) {
            rc = rewrite(o->fd, start, ORACLE_PAGE_BYTES);
        }
        if (rc < 0) {
            tell_blind(o, rc);
            return false;
        }
        o->have[i / 64] |= UINT64_C(1) << i % 64;
    }
    return true;
}

void oracle_drop(struct oracle *o, uint64_t at)
{
    uint64_t i = at / ORACLE_PAGE_BYTES;

    if (o->fd < 0) {
        madvise(o->map + at, ORACLE_PAGE_BYTES, MADV_DONTNEED);
    } else if (fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                         (off_t)ORACLE_PAGE_BYTES) == 0) {
        o->have[i / 64] &= ~(UINT64_C(1) << i % 64);
    } else {
        memset(o->map + at, 0, ORACLE_PAGE_BYTES);
    }
}

/* ---- opening ---- */

static int read_header(struct oracle *o, uint64_t size, const struct stat *st, struct err *err)
{
    uint8_t bytes[LIVE_BYTES];
    struct oracle_header h;

    if (pread(o->fd, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes) ||
        field_get(&fields[0], bytes) != MAGIC) {
        return err_set(err, -EINVAL, "the file holds something else: expected a new file, or an oracle's");
    }
    layout_parse(&oracle_layout, bytes, sizeof(bytes), VERSION, &h);
    if (h.checksum != checksum(bytes)) {
        return err_set(err, -EINVAL, "its header is damaged: the checksum is wrong");
    }
    int rc = layout_check(&oracle_layout, &h, VERSION, 0, err);
    if (rc < 0) {
        return rc;
    }
    if (!is_pow2(h.versions) || (h.unit != 512 && h.unit != 4096) || h.flushed_seq > h.last_seq + 1) {
        return err_set(err, -EINVAL, "its header is damaged: the numbers in it do not fit each other");
    }
    if (h.size != size) {
        return err_set(err, -EINVAL, "it is about a device of %llu bytes, and this one has %llu",
                       (unsigned long long)h.size, (unsigned long long)size);
    }
    if (o->unit_choice != 0 && h.unit != o->unit) {
        return err_set(err, -EINVAL, "it has sectors of %llu bytes, not of %u", (unsigned long long)h.unit,
                       o->unit);
    }
    o->unit = (uint32_t)h.unit;
    o->versions_max = h.versions;
    o->base = o->last_seq = h.last_seq;
    o->flushed_seq = h.flushed_seq;
    o->versions_head = h.versions_head;
    o->runs = h.runs;
    rc = lay_out(o, size, err);
    if (rc == 0 && (uint64_t)st->st_size != o->map_bytes) {
        rc = err_set(err, -EINVAL, "it has %llu bytes instead of %llu: it was cut, or extended",
                     (unsigned long long)st->st_size, (unsigned long long)o->map_bytes);
    }
    return rc;
}

static int write_header(struct oracle *o, uint64_t size, struct err *err)
{
    struct oracle_header h = {
        .magic = MAGIC, .version = VERSION, .unit = o->unit, .size = size, .versions = o->versions_max};
    uint8_t bytes[LIVE_BYTES] = {0};
    int rc = lay_out(o, size, err);

    if (rc < 0) {
        return rc;
    }
    layout_write(&oracle_layout, &h, VERSION, bytes, sizeof(bytes));
    h.checksum = checksum(bytes);
    layout_write(&oracle_layout, &h, VERSION, bytes, sizeof(bytes));
    if (ftruncate(o->fd, (off_t)o->map_bytes) < 0) {
        return err_set_errno(err, -errno, "cannot make it %zu bytes long", o->map_bytes);
    }
    ssize_t n = pwrite(o->fd, bytes, sizeof(bytes), 0);
    return n == (ssize_t)sizeof(bytes) ? 0
                                       : err_set_errno(err, n < 0 ? -errno : -ENOSPC, "cannot write to it");
}

static int open_file(struct oracle *o, uint64_t size, bool *ret_old, struct err *err)
{
    struct stat st;

    o->fd = open(o->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (o->fd < 0 || fstat(o->fd, &st) < 0) {
        return err_set_errno(err, -errno, "cannot open it");
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "it is not a regular file");
    }
    if (flock(o->fd, LOCK_EX | LOCK_NB) < 0) {
        return err_set(err, -EBUSY, "it is in use");
    }
    *ret_old = st.st_size > 0;
    return *ret_old ? read_header(o, size, &st, err) : write_header(o, size, err);
}

int oracle_map(struct oracle *o, struct graph *g, uint64_t size, bool *ret_old, struct err *err)
{
    static const uint8_t zeroes[ORACLE_UNIT_MAX];
    bool old = false;
    int rc = 0;

    o->unit = o->unit_choice == 2 ? 4096 : 512;
    if (o->path) {
        rc = graph_refuse_own(g, o->path, err);
        rc = rc < 0 ? rc : open_file(o, size, &old, err);
        if (rc < 0) {
            err_prefix(err, "oracle '%s': ", o->path);
        }
    } else {
        rc = lay_out(o, size, err);
    }
    rc = rc < 0 ? rc : do_map(o, err);
    if (rc == 0 && !oracle_room(o, 0, HEADER_BYTES)) {
        rc = err_set(err, -ENOSPC, "oracle '%s': No space left on device", o->path);
    }
    if (rc < 0) {
        return rc;
    }
    o->zero_hash = sector_hash(zeroes, o->unit, o->unit) >> ORACLE_FLAG_BITS;
    put_le64(o->map + 88, ++o->runs);
    *ret_old = old;
    return 0;
}

void oracle_unmap(struct oracle *o)
{
    if (o->map) {
        munmap(o->map, o->map_bytes);
        o->map = NULL;
    }
    if (o->fd >= 0) {
        close(o->fd);
        o->fd = -1;
    }
    free(TAKE_PTR(o->have));
}
