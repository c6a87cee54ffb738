/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The error of a control-path function: a negative errno and one sentence for a person.
 * The caller owns the struct; a NULL struct err * is allowed everywhere and means that the
 * sentence is not wanted. The data path uses plain negative errnos.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#include "base/util.h"

#define ERR_TEXT_MAX 1024 /* room for two path names and a sentence; longer is cut */

struct err {
    int code; /* 0, or -errno */
    char text[ERR_TEXT_MAX];
};

/* Set the sentence, replacing any earlier one. @code is -errno; returned, so that one can write
 * `return err_set(err, -EINVAL, "...")`. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* As err_set, with ": " and the text of @code behind the sentence. */
int err_set_errno(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* Put context in front: "open 'disk.img': " + the sentence so far. Returns the code held. */
int err_prefix(struct err *err, const char *fmt, ...) PRINTF(2, 3);

/* The usual words for an errno; @code may be negative or positive. */
const char *err_name(int code);

#endif
