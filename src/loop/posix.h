/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two real engines share. */
#ifndef LOOP_POSIX_H
#define LOOP_POSIX_H

#include "loop/engine.h"

uint64_t posix_clock_ns(struct loop *loop);

/* sendmsg(2) until it takes something, waiting in the engine's poll_fd. */
co_fn ssize_t posix_send(int fd, const struct iovec *iov, int niov);

/* One preadv/pwritev, fdatasync, fallocate on the calling thread: count or -errno. */
ssize_t posix_prw_now(int fd, bool write, const struct iovec *iov, int niov, uint64_t offset, int rwf_flags);

/* The queue of large buffered writes to a file (posix_writer.c). */
struct posix_writer *posix_writer_new(int fd);  /* NULL: no memory */
void posix_writer_free(struct posix_writer *w); /* nothing may be under way; NULL is fine */
/* One pwritev: count (may be short) or -errno. */
co_fn ssize_t posix_writer_write(struct posix_writer *w, const struct iovec *iov, int niov, uint64_t offset,
                                 bool bulk);

/* From here on a request is worth another thread: its copy overlaps with what the loop does. */
#define LARGE_IO_BYTES (64 * KiB)

#endif
