/* SPDX-License-Identifier: BSD-2-Clause */
/* Parts of the file driver. */
#ifndef DRIVERS_FILE_FILE_H
#define DRIVERS_FILE_FILE_H

#include "block/driver.h"

/* Take QEMU's byte-range locks on @fd for a user that reads, or (@write) writes, and does not
 * allow others to write when @exclusive. -EAGAIN if somebody is in the way. Open-file-description
 * locks: they go with the descriptor. */
int file_lock(int fd, const char *name, bool write, bool exclusive, struct err *err);

#endif
