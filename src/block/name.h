/* SPDX-License-Identifier: BSD-2-Clause */
/* File names as users write them. */
#ifndef BLOCK_NAME_H
#define BLOCK_NAME_H

#include "block/driver.h"

/* The driver whose prefix begins @name ("blkverify:", "nbd+unix://"); NULL for a plain path. A colon
 * behind a slash does not make a prefix. */
const struct driver *name_driver(const char *name);

/* Turn a name into options: json:{...} is parsed; PREFIX:... is parsed by its driver; anything else
 * is {"driver":"file","filename":NAME}. -EINVAL for an unknown protocol ("Unknown protocol 'x'"). */
int name_to_options(const char *name, json_t **ret_options, struct err *err);

/* A json:{...} name beside @options (nested): they get what they do not say themselves. */
int name_join_json(const char *name, json_t *options, struct err *err);

/* The path that an image means by @name, which stands inside it and is therefore hostile: only plain
 * paths are followed (-EPERM and a sentence for a protocol or json: name, unless the graph trusts image
 * names); relative ones are relative to the folder of @image, the image's own file name. @what: "backing
 * file". @ret_path is malloc'ed. */
int name_inside_image(const struct graph *g, const char *image, const char *name, const char *what,
                      char **ret_path, struct err *err);

#endif
