/* SPDX-License-Identifier: BSD-2-Clause */
/* Sentences for people; see err.h. */
#include "base/err.h"

#include <stdio.h>

static void set_text(struct err *err, int code, const char *fmt, va_list ap)
{
    err->code = code;
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    assert(code < 0);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_set_errno(struct err *err, int code, const char *fmt, ...)
{
    assert(code < 0);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err, code, fmt, ap);
        va_end(ap);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof(err->text) - used, ": %s", err_name(code));
    }
    return code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    if (!err) {
        return -EINVAL;
    }
    struct err inner = *err;
    va_list ap;
    va_start(ap, fmt);
    set_text(err, inner.code, fmt, ap);
    va_end(ap);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, "%.*s", (int)(sizeof(err->text) - used - 1),
             inner.text);
    return inner.code;
}

const char *err_name(int code)
{
    int number = code < 0 ? -code : code;

    return number == 4096 ? "The request was dropped" : strerror(number); /* REQ_DROPPED */
}
