/* SPDX-License-Identifier: BSD-2-Clause */
/* The image that convert and dd write: new, or already there. */
#ifndef TOOLS_IMG_TARGET_H
#define TOOLS_IMG_TARGET_H

#include "tools/img/img.h"

/* What -o help says for @format at @filename (NULL: none was given). Returns the exit status. */
int img_print_options(struct img *img, const char *filename, const char *format);
struct option;
/* The rows of one table, by name. */
void img_print_option_rows(const struct option *table);

struct img_target {
    struct node *node;
    struct img_pending pending;
    bool zero;   /* reads as zeroes everywhere: nobody has to write them */
    bool backed; /* has a backing file */
};

/* Make and open a new image of @size bytes. What goes wrong is in @err. */
co_fn int img_target_create(struct img *img, const char *name, const char *format, const char *options,
                            uint64_t size, unsigned flags, struct img_target *ret, struct err *err);
/* All is written: close it, and give it its name. */
co_fn int img_target_commit(struct img_target *target, struct err *err);
/* Close, and remove what was not committed. Harmless on a zeroed struct. */
co_fn void img_target_end(struct img_target *target);

#endif
