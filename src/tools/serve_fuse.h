/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof serve --fuse`: disks as files, beside or instead of NBD. */
#ifndef TOOLS_SERVE_FUSE_H
#define TOOLS_SERVE_FUSE_H

#include "tools/serve.h"

#include "export/fuse/fuse.h"

/* One argument of --fuse, [NAME=]FILE: to s->places. -ENOMEM. */
int serve_fuse_add(struct serve *s, const char *text);
void serve_fuse_free(struct serve *s);
/* When the command line is known: which image each is. -EINVAL with a sentence. */
int serve_fuse_resolve(struct serve *s, struct err *err);

/* When all images are open: mount them, and serve. */
co_fn int serve_fuse_begin(struct serve *s, struct err *err);
/* Tell the monitor about them, which is there and does not listen yet. */
int serve_fuse_announce(struct serve *s, struct err *err);
/* What the monitor asks for (struct qmp_config): one more place, and the end of any. */
co_fn int serve_fuse_make(void *serve, const struct fuse_export_config *want, struct fuse_export **ret_export,
                          struct err *err);
co_fn void serve_fuse_end(void *serve, struct fuse_export *e);
/* Nobody has one of the files open. */
bool serve_fuse_idle(const struct serve *s);
/* Where image @im is, the @n-th place; NULL past the end. */
const char *serve_fuse_place(const struct serve *s, const struct image *im, unsigned n);

/* Take no more requests. Returns at once. */
void serve_fuse_stop(struct serve *s);
/* After that, unmount. Returns how many requests hang in the devices, or 0. */
co_fn unsigned serve_fuse_wait(struct serve *s);
/* After that, when none do. */
co_fn void serve_fuse_finish(struct serve *s);
/* Before the process dies without having finished. */
void serve_fuse_abandon(struct serve *s);

#endif
