/* SPDX-License-Identifier: BSD-2-Clause */
/* Parts of the file driver. */
#ifndef DRIVERS_FILE_FILE_H
#define DRIVERS_FILE_FILE_H

#include "block/driver.h"

/* Take QEMU's byte-range locks on @fd for a user that reads, or (@write) writes, and does not
 * allow others to write when @exclusive. -EAGAIN if somebody is in the way. Open-file-description
 * locks: they go with the descriptor. */
int file_lock(int fd, const char *name, bool write, bool exclusive, struct err *err);
/* Give all of them back. Closing does so, too, but only with the last reference: io_uring may hold one a
 * little longer, and whoever opens the file next would find it in use. */
void file_unlock(int fd);

#endif
