/* SPDX-License-Identifier: BSD-2-Clause */
/* Files to which a node appends a line of JSON for each thing that it has to report. */
#ifndef BLOCK_REPORT_FILE_H
#define BLOCK_REPORT_FILE_H

#include "block/block.h"

/* Open for appending, and make it if there is none. It must be a new file, one of reports, or a pipe that is
 * read; writes to it may block. -errno with a sentence. */
int report_file_open(struct graph *g, const char *path, int *ret_fd, struct err *err);

/* One line, by a single write. NULL is no memory. Returns 0 or -errno. */
int report_file_append(int fd, const json_t *object);

#endif
