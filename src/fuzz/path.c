/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paths: "backing1:snapshot[1].l1.entry[3].offset" is the field offset of element 3 of the part l1 that
 * belongs to snapshot 1, in the file backing1. Every field of every format is addressed like this.
 */
#include <inttypes.h>
#include <stdio.h>

#include "fuzz/internal.h"

/* A text that grows and is cut at its end. */
struct text {
    char *p;
    size_t used, size;
};

static void put_text(struct text *t, const char *s)
{
    while (*s && t->used + 1 < t->size) {
        t->p[t->used++] = *s++;
    }
    t->p[t->used] = '\0';
}

static void put_index(struct text *t, uint32_t index)
{
    char s[16];

    snprintf(s, sizeof(s), "[%" PRIu32 "]", index);
    put_text(t, s);
}

static void put_part(const struct fuzz_image *img, int part, bool indices, struct text *t)
{
    const struct fuzz_part *p = &img->part[part];

    if (p->parent) {
        put_part(img, p->parent, indices, t);
        put_text(t, ".");
    } else if (img->file[p->file].label[0]) {
        put_text(t, img->file[p->file].label);
        put_text(t, ":");
    }
    put_text(t, p->name);
    if (p->many && indices) {
        put_index(t, p->index);
    }
}

static void make_path(const struct fuzz_image *img, int part, uint32_t element, const struct field *field,
                      bool indices, char ret_path[FUZZ_PATH_MAX])
{
    const struct fuzz_part *p = &img->part[part];
    struct text t = {ret_path, 0, FUZZ_PATH_MAX};

    put_part(img, part, indices, &t);
    if (p->element && element != UINT32_MAX) {
        put_text(&t, ".");
        put_text(&t, p->element);
        if (indices) {
            put_index(&t, element);
        }
    }
    if (field) {
        put_text(&t, ".");
        put_text(&t, field->name);
    }
}

void fuzz_path(const struct fuzz_image *img, int part, uint32_t element, const struct field *field,
               char ret_path[FUZZ_PATH_MAX])
{
    make_path(img, part, element, field, true, ret_path);
}

void fuzz_path_plain(const struct fuzz_image *img, int part, uint32_t element, const struct field *field,
                     char ret_path[FUZZ_PATH_MAX])
{
    make_path(img, part, element, field, false, ret_path);
}

/* ---- what a path means ---- */

/* "[12]" at *@s, and go behind it. */
static bool take_index(const char **s, uint32_t *ret_index)
{
    char *end;

    if (**s != '[' || (*s)[1] < '0' || (*s)[1] > '9') {
        return false;
    }
    errno = 0;
    unsigned long long v = strtoull(*s + 1, &end, 10);
    if (errno || *end != ']' || v > UINT32_MAX) {
        return false;
    }
    *ret_index = (uint32_t)v;
    *s = end + 1;
    return true;
}

/* What stands behind the path of a part: an element and a field, or one of them, or nothing. */
static bool take_rest(const struct fuzz_part *p, const char *s, uint32_t *ret_element,
                      const struct field **ret_field)
{
    size_t len = p->element ? strlen(p->element) : 0;
    uint32_t element = p->element ? UINT32_MAX : 0;
    const struct field *field = NULL;

    if (len && *s == '.' && strncmp(s + 1, p->element, len) == 0 && s[1 + len] == '[') {
        s += 1 + len;
        if (!take_index(&s, &element) || element >= p->count) {
            return false;
        }
    }
    if (*s == '.' && element != UINT32_MAX && p->layout) {
        field = layout_field(p->layout, s + 1);
        s = field ? "" : s;
    }
    *ret_element = element;
    *ret_field = field;
    return *s == '\0';
}

int fuzz_path_find(const struct fuzz_image *img, const char *path, int *ret_part, uint32_t *ret_element,
                   const struct field **ret_field)
{
    char prefix[FUZZ_PATH_MAX];

    for (int i = 1; i < img->parts; i++) {
        fuzz_path(img, i, UINT32_MAX, NULL, prefix);
        size_t len = strlen(prefix);
        if (strncmp(path, prefix, len) == 0 && take_rest(&img->part[i], path + len, ret_element, ret_field)) {
            *ret_part = i;
            return 0;
        }
    }
    return -ENOENT;
}

/* ---- globs ---- */

bool fuzz_glob_match(const char *glob, const char *path)
{
    const char *star = NULL, *retry = NULL;

    while (*path) {
        if (*glob == '*') {
            star = ++glob;
            retry = path;
        } else if (*glob == '?' || *glob == *path) {
            glob++;
            path++;
        } else if (star) {
            glob = star;
            path = ++retry;
        } else {
            return false;
        }
    }
    while (*glob == '*') {
        glob++;
    }
    return *glob == '\0';
}
