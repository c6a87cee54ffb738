/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON written as it goes, into memory that grows: no tree in between. */
#ifndef FUZZ_TEXT_H
#define FUZZ_TEXT_H

#include "base/util.h"

struct text { /* begin with zeroes; free .p */
    char *p;
    size_t used, max;
    bool failed; /* no memory: what is there is not all */
    bool comma;  /* a value was written before, here */
};

void text_open(struct text *t, char bracket);
void text_close(struct text *t, char bracket);
void text_key(struct text *t, const char *name);
/* What is no UTF-8 is written as if it were Latin-1. */
void text_string(struct text *t, const char *s);
void text_number(struct text *t, uint64_t v);
void text_hex(struct text *t, uint64_t v);                         /* "0x1f" */
void text_bytes(struct text *t, const uint8_t *bytes, size_t len); /* "001fff" */
void text_plain(struct text *t, const char *word);                 /* true */
void text_line(struct text *t);                                    /* white space for people */

#endif
