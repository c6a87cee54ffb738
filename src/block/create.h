/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making new images: a format over a protocol, each with the options of its own create_options
 * table. A transparent format (raw) has nothing of its own to write: its file is the image.
 */
#ifndef BLOCK_CREATE_H
#define BLOCK_CREATE_H

#include "block/driver.h"

struct creation {
    const struct driver *format;   /* NULL when a protocol was named as the format */
    const struct driver *protocol; /* the file name's */
    void *format_state, *protocol_state;
    json_t *given; /* options as the user wrote them, "size" left out */
    uint64_t size; /* bytes */
    bool has_size; /* by -o size=, or set by the caller */
};

/* Find the drivers and apply @options ("name=value,...", or NULL). On failure nothing is held.
 * -ENOENT: "Unknown file format 'x'", -EINVAL: "Unknown protocol 'x'", "Invalid parameter 'x'". */
int creation_init(struct creation *c, const char *filename, const char *format, const char *options,
                  struct err *err);
/* The drivers alone, for help on the options. */
int creation_find(struct creation *c, const char *filename, const char *format, struct err *err);
void creation_finish(struct creation *c);

/* One option of the format, as the user would write it, as if it had been in @options. -EINVAL: "Invalid
 * parameter 'x'". */
int creation_set(struct creation *c, const char *name, const char *value, struct err *err);
/* A string option of the format; NULL if it has none of that name, or it is not set. */
const char *creation_get(const struct creation *c, const char *name);

/* "size=1048576 preallocation=falloc": what is made, as words for the user. malloc'ed. */
char *creation_text(const struct creation *c);

/* Make it. A protocol that makes nothing (nbd) is opened instead, and must be large enough. */
co_fn int creation_run(struct creation *c, struct graph *g, const char *filename, struct err *err);

#endif
