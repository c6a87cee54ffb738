/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON as text; see text.h. */
#include "fuzz/text.h"

#include <jansson.h>
#include <stdio.h>

static const char digits[] = "0123456789abcdef";

/* Room for @len more bytes; NULL: none. */
static char *room(struct text *t, size_t len)
{
    if (t->max - t->used < len) {
        size_t max = MAX(t->max * 2, MAX(t->used + len, (size_t)4096));
        char *p = t->failed ? NULL : realloc(t->p, max);
        if (!p) {
            t->failed = true;
            return NULL;
        }
        t->p = p;
        t->max = max;
    }
    return t->p + t->used;
}

static void put(struct text *t, const char *s, size_t len)
{
    char *p = room(t, len);

    if (p) {
        memcpy(p, s, len);
        t->used += len;
    }
}

/* Before a value: what parts it from the one before. */
static void separate(struct text *t)
{
    if (t->comma) {
        put(t, ",", 1);
    }
    t->comma = true;
}

void text_open(struct text *t, char bracket)
{
    separate(t);
    put(t, &bracket, 1);
    t->comma = false;
}

void text_close(struct text *t, char bracket)
{
    put(t, &bracket, 1);
    t->comma = true;
}

void text_line(struct text *t)
{
    put(t, "\n", 1);
}

void text_plain(struct text *t, const char *word)
{
    separate(t);
    put(t, word, strlen(word));
}

/* @utf8: bytes above ASCII stand for themselves. */
static void put_char(struct text *t, unsigned char c, bool utf8)
{
    char escaped[8];

    if (c == '"' || c == '\\' || c < 0x20 || (c >= 0x7f && !utf8)) {
        put(t, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", c));
    } else {
        put(t, (const char *)&c, 1);
    }
}

static bool is_utf8(const char *s)
{
    size_t ascii = 0;

    while (s[ascii] && (unsigned char)s[ascii] < 0x80) {
        ascii++;
    }
    json_t *j = s[ascii] ? json_string(s + ascii) : NULL;
    bool good = j || !s[ascii];
    json_decref(j);
    return good;
}

void text_string(struct text *t, const char *s)
{
    bool utf8 = is_utf8(s);

    separate(t);
    put(t, "\"", 1);
    while (*s) {
        put_char(t, (unsigned char)*s++, utf8);
    }
    put(t, "\"", 1);
}

void text_key(struct text *t, const char *name)
{
    text_string(t, name);
    put(t, ":", 1);
    t->comma = false;
}

void text_number(struct text *t, uint64_t v)
{
    char s[24], *p = s + sizeof(s);

    separate(t);
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    put(t, p, (size_t)(s + sizeof(s) - p));
}

void text_hex(struct text *t, uint64_t v)
{
    char s[24], *p = s + sizeof(s);

    separate(t);
    *--p = '"';
    do {
        *--p = digits[v & 15];
        v >>= 4;
    } while (v);
    put(t, "\"0x", 3);
    put(t, p, (size_t)(s + sizeof(s) - p));
}

void text_bytes(struct text *t, const uint8_t *bytes, size_t len)
{
    separate(t);
    char *p = room(t, 2 * len + 2);
    if (!p) {
        return;
    }
    *p++ = '"';
    for (size_t i = 0; i < len; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    *p = '"';
    t->used += 2 * len + 2;
}
