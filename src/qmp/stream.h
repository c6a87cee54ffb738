/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From bytes to QMP messages: JSON values one behind the other, with or without anything between them,
 * strings in double or single quotes, as QEMU's parser takes them. What is wrong is told, and reading goes
 * on where a sane client may begin anew: at a bracket, colon or comma, a control character (a new line), or
 * 0xFE and 0xFF, which no text contains.
 */
#ifndef QMP_STREAM_H
#define QMP_STREAM_H

#include <jansson.h>

#include "base/err.h"

/* One message. QEMU takes 64 MiB, 2 Mi tokens and 1024 levels; a thousand fault rules are 200 KiB, and the
 * tree of a message is up to fifty times as large as its text. */
#define QMP_MESSAGE_MAX (4 * MiB)
#define QMP_TOKENS_MAX  (256u * 1024)
#define QMP_NESTING_MAX 128 /* jansson is recursive, and a coroutine's stack is 128 KiB */

struct qmp_stream {
    int state;
    char *text; /* the message so far, as strict JSON */
    size_t len, max;
    size_t token; /* where the current token begins in text */
    unsigned tokens;
    int braces, brackets; /* open */
    char quote;           /* that began the string we are in */
    char wrong[64];       /* the first wrong keyword of this message, or "" */
};

void qmp_stream_init(struct qmp_stream *s);
void qmp_stream_finish(struct qmp_stream *s);

/* Take bytes of @p from *@used on, up to the end of one message.
 * 1: *@ret_message is one, the caller's; 0: all is used, and more is needed; -EINVAL: *@err says what was
 * wrong; -ENOMEM. In each case but 0 there may be more in what is left. */
int qmp_stream_next(struct qmp_stream *s, const char *p, size_t n, size_t *used, json_t **ret_message,
                    struct err *err);

/* @text with everything that is not UTF-8 replaced, at most @len bytes of it; malloc'ed. */
char *qmp_clean(const char *text, size_t len);

#endif
