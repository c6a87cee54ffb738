/* SPDX-License-Identifier: BSD-2-Clause */
/* Scatter lists. All lengths are bytes. */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <sys/uio.h>

#include "base/util.h"

#define IOV_LIST_MAX 1024 /* IOV_MAX of Linux: no request carries more elements */

/* Total bytes. */
size_t iov_size(const struct iovec *iov, int niov);

/* Describe bytes [@offset, @offset + @bytes) of @src in @dst, which has room for @niov elements.
 * Returns the number of elements used. The range must lie within @src. */
int iov_slice(struct iovec *dst, const struct iovec *src, int niov, size_t offset, size_t bytes);

/* Copy between a list, from byte @offset on, and flat memory; the range must lie within the list. */
void iov_to_buf(const struct iovec *iov, int niov, size_t offset, void *buf, size_t bytes);
void iov_from_buf(const struct iovec *iov, int niov, size_t offset, const void *buf, size_t bytes);
void iov_memset(const struct iovec *iov, int niov, size_t offset, int byte, size_t bytes);

/* True if every base and length is a multiple of @align (a power of two). */
bool iov_is_aligned(const struct iovec *iov, int niov, size_t align);

/* True if all bytes are zero. */
bool iov_is_zero(const struct iovec *iov, int niov);

/* True if two elements of the list share memory. */
bool iov_aliases(const struct iovec *iov, int niov);

#endif
