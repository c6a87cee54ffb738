/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/iov.h"

size_t iov_size(const struct iovec *iov, int niov)
{
    size_t sum = 0;
    for (int i = 0; i < niov; i++) {
        sum += iov[i].iov_len;
    }
    return sum;
}

int iov_slice(struct iovec *dst, const struct iovec *src, int niov, size_t offset, size_t bytes)
{
    int used = 0;
    for (int i = 0; i < niov && bytes > 0; i++) {
        if (offset >= src[i].iov_len) {
            offset -= src[i].iov_len;
            continue;
        }
        size_t n = MIN(bytes, src[i].iov_len - offset);
        dst[used++] = (struct iovec){(char *)src[i].iov_base + offset, n};
        bytes -= n;
        offset = 0;
    }
    assert(bytes == 0);
    return used;
}

/* Walk the pieces of [offset, offset+bytes): the body sees `mem` and `n`. */
#define FOR_EACH_PIECE(iov, niov, offset, bytes)                                                             \
    for (int i_ = 0; i_ < (niov) && (bytes) > 0; i_++)                                                       \
        if ((offset) >= (iov)[i_].iov_len) {                                                                 \
            (offset) -= (iov)[i_].iov_len;                                                                   \
        } else

void iov_to_buf(const struct iovec *iov, int niov, size_t offset, void *buf, size_t bytes)
{
    char *out = buf;
    FOR_EACH_PIECE (iov, niov, offset, bytes) {
        size_t n = MIN(bytes, iov[i_].iov_len - offset);
        memcpy(out, (char *)iov[i_].iov_base + offset, n);
        out += n;
        bytes -= n;
        offset = 0;
    }
    assert(bytes == 0);
}

void iov_from_buf(const struct iovec *iov, int niov, size_t offset, const void *buf, size_t bytes)
{
    const char *in = buf;
    FOR_EACH_PIECE (iov, niov, offset, bytes) {
        size_t n = MIN(bytes, iov[i_].iov_len - offset);
        memcpy((char *)iov[i_].iov_base + offset, in, n);
        in += n;
        bytes -= n;
        offset = 0;
    }
    assert(bytes == 0);
}

void iov_memset(const struct iovec *iov, int niov, size_t offset, int byte, size_t bytes)
{
    FOR_EACH_PIECE (iov, niov, offset, bytes) {
        size_t n = MIN(bytes, iov[i_].iov_len - offset);
        memset((char *)iov[i_].iov_base + offset, byte, n);
        bytes -= n;
        offset = 0;
    }
    assert(bytes == 0);
}

bool iov_is_aligned(const struct iovec *iov, int niov, size_t align)
{
    for (int i = 0; i < niov; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (align - 1)) {
            return false;
        }
    }
    return true;
}

bool iov_is_zero(const struct iovec *iov, int niov)
{
    for (int i = 0; i < niov; i++) {
        if (!buffer_is_zero(iov[i].iov_base, iov[i].iov_len)) {
            return false;
        }
    }
    return true;
}

static int by_base(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct iovec *)a)->iov_base;
    uintptr_t y = (uintptr_t)((const struct iovec *)b)->iov_base;
    return x < y ? -1 : x > y;
}

bool iov_aliases(const struct iovec *iov, int niov)
{
    struct iovec sorted[IOV_LIST_MAX];

    if (niov < 2) {
        return false;
    }
    assert(niov <= IOV_LIST_MAX);
    memcpy(sorted, iov, sizeof(*iov) * (size_t)niov);
    qsort(sorted, (size_t)niov, sizeof(*sorted), by_base);
    for (int i = 1; i < niov; i++) {
        if ((char *)sorted[i - 1].iov_base + sorted[i - 1].iov_len > (char *)sorted[i].iov_base) {
            return true;
        }
    }
    return false;
}
