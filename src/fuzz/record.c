/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records: what an image is, as JSON. Format, seed and configuration make the image again; its mutations
 * stand there one by one, so that a shorter list is a record, too; a hash tells whether the same bytes came
 * back; and a whole record has the bytes themselves, for the day when the generator has changed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "fuzz/internal.h"
#include "fuzz/text.h"

#define RECORD_VERSION 1

static const char *const what_names[] = {
    [FUZZ_SET] = "set",   [FUZZ_BYTES] = "bytes", [FUZZ_ZERO] = "zero",
    [FUZZ_COPY] = "copy", [FUZZ_SWAP] = "swap",   [FUZZ_TRUNCATE] = "truncate",
};

/* Operators have static names; those of a record are looked up here. */
static const char *const op_names[] = {
    "recipe",   "boundary",       "off-by-one", "huge",     "scaled",   "bit-flip",   "random",
    "exponent", "enum",           "flag",       "overlap",  "past-end", "misaligned", "next-unit",
    "alias",    "stale-checksum", "text",       "truncate", "swap",     "duplicate",  "erase",
    "pair",     "random-bytes",   "given",      "missing",
};

/* The path of what the mutation is about. */
static void path_of(const struct fuzz_image *img, const struct fuzz_mutation *m, char path[FUZZ_PATH_MAX])
{
    if (m->what == FUZZ_TRUNCATE) {
        const char *label = img->file[m->file].label;
        snprintf(path, FUZZ_PATH_MAX, "%s%sfile", label, *label ? ":" : "");
    } else {
        fuzz_path(img, m->part, m->element, m->field, path);
    }
}

static void put_values(struct text *t, const struct fuzz_mutation *m)
{
    switch (m->what) {
    case FUZZ_SET:
    case FUZZ_TRUNCATE:
        text_key(t, "old");
        text_hex(t, m->before);
        text_key(t, "new");
        text_hex(t, m->after);
        break;
    case FUZZ_BYTES:
        text_key(t, "at");
        text_number(t, m->after);
        text_key(t, "new");
        text_bytes(t, m->bytes, m->len);
        break;
    case FUZZ_COPY:
    case FUZZ_SWAP:
        text_key(t, "with");
        text_number(t, m->after);
        break;
    case FUZZ_ZERO:
        break;
    }
}

static void put_mutation(struct text *t, const struct fuzz_image *img, const struct fuzz_mutation *m)
{
    char path[FUZZ_PATH_MAX];

    path_of(img, m, path);
    text_open(t, '{');
    text_key(t, "path");
    text_string(t, path);
    text_key(t, "what");
    text_string(t, what_names[m->what]);
    text_key(t, "op");
    text_string(t, m->op);
    put_values(t, m);
    text_close(t, '}');
}

static json_t *load(struct text *t)
{
    json_t *j = t->failed ? NULL : json_loadb(t->p, t->used, 0, NULL);

    free(t->p);
    return j;
}

json_t *fuzz_mutation_json(const struct fuzz_image *img, const struct fuzz_mutation *m)
{
    struct text t = {0};

    put_mutation(&t, img, m);
    return load(&t);
}

void fuzz_mutation_text(const struct fuzz_image *img, const struct fuzz_mutation *m, char *text, size_t size)
{
    char path[FUZZ_PATH_MAX];

    path_of(img, m, path);
    switch (m->what) {
    case FUZZ_SET:
        snprintf(text, size, "%s = 0x%" PRIx64 " (was 0x%" PRIx64 "; %s)", path, m->after, m->before, m->op);
        break;
    case FUZZ_TRUNCATE:
        snprintf(text, size, "%s is %" PRIu64 " bytes long (was %" PRIu64 ")", path, m->after, m->before);
        break;
    case FUZZ_BYTES:
        snprintf(text, size, "%s has %" PRIu32 " other bytes at %" PRIu64 " (%s)", path, m->len, m->after,
                 m->op);
        break;
    case FUZZ_COPY:
        snprintf(text, size, "%s is what element %" PRIu64 " is", path, m->after);
        break;
    case FUZZ_SWAP:
        snprintf(text, size, "%s and element %" PRIu64 " changed places", path, m->after);
        break;
    case FUZZ_ZERO:
        snprintf(text, size, "%s is zeroes", path);
        break;
    }
}

/* ---- writing: as text, because thousands of them are written in a second ---- */

static void put_knobs(struct text *t, const struct fuzz_image *img)
{
    text_open(t, '{');
    for (unsigned i = 0; i < img->knobs; i++) {
        const struct fuzz_knob *k = &img->knob[i];
        const char *label = img->file[k->file].label;
        char name[FUZZ_PATH_MAX];
        stpcpy(stpcpy(stpcpy(name, label), *label ? ":" : ""), k->name);
        text_key(t, name);
        if (k->value <= INT64_MAX) {
            text_number(t, k->value);
        } else {
            text_hex(t, k->value);
        }
    }
    text_close(t, '}');
}

/* Pages that are used, without the zeroes at their ends. */
static void put_bytes(struct text *t, const struct fuzz_file *f)
{
    text_open(t, '[');
    for (uint64_t page = 0; page * FUZZ_PAGE < f->size && page * FUZZ_PAGE < f->room; page++) {
        uint64_t at = page * FUZZ_PAGE, end = MIN(at + FUZZ_PAGE, f->size);
        while (fuzz_page_used(f, page) && end > at && f->bytes[end - 1] == 0) {
            end--;
        }
        while (at < end && f->bytes[at] == 0) {
            at++;
        }
        if (fuzz_page_used(f, page) && at < end) {
            text_number(t, at);
            text_bytes(t, f->bytes + at, end - at);
        }
    }
    text_close(t, ']');
}

static void put_files(struct text *t, const struct fuzz_image *img, bool whole)
{
    text_open(t, '[');
    for (unsigned i = 0; i < img->files; i++) {
        const struct fuzz_file *f = &img->file[i];
        text_open(t, '{');
        text_key(t, "label");
        text_string(t, f->label);
        text_key(t, "name");
        text_string(t, f->name);
        if (f->format) {
            text_key(t, "format");
            text_string(t, f->format->name);
        }
        text_key(t, "size");
        text_number(t, f->size);
        if (whole) {
            text_key(t, "bytes");
            put_bytes(t, f);
        }
        text_close(t, '}');
    }
    text_close(t, ']');
}

static void put_record(struct text *t, const struct fuzz_image *img, bool whole)
{
    char seed[24];

    text_open(t, '{');
    text_key(t, "blkproof-fuzz");
    text_number(t, RECORD_VERSION);
    text_key(t, "format");
    text_string(t, img->format ? img->format->name : "");
    text_key(t, "seed"); /* as text: it may have 64 bits */
    snprintf(seed, sizeof(seed), "%" PRIu64, img->seed);
    text_string(t, seed);
    text_key(t, "config");
    fuzz_config_text(img->config, t);
    if (img->recipe) {
        text_key(t, "recipe");
        text_string(t, img->recipe->id);
    }
    text_key(t, "layout");
    put_knobs(t, img);
    text_key(t, "mutations");
    text_open(t, '[');
    for (unsigned i = 0; i < img->mutations; i++) {
        text_line(t);
        put_mutation(t, img, &img->mutation[i]);
    }
    text_close(t, ']');
    text_line(t);
    text_key(t, "files");
    put_files(t, img, whole);
    text_key(t, "hash");
    text_hex(t, fuzz_image_hash(img));
    text_close(t, '}');
    text_line(t);
}

json_t *fuzz_image_record(struct fuzz_image *img, bool whole)
{
    struct text t = {0};

    put_record(&t, img, whole);
    return load(&t);
}

char *fuzz_image_record_text(struct fuzz_image *img, bool whole, size_t *ret_len)
{
    struct text t = {0};

    put_record(&t, img, whole);
    if (t.failed) {
        free(t.p);
        return NULL;
    }
    *ret_len = t.used;
    return t.p;
}

/* ---- reading ---- */

static const char *name_among(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; name && i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            return names[i];
        }
    }
    return NULL;
}

/* "0x.." as text, or a JSON integer. */
static bool number_of(const json_t *j, uint64_t *ret)
{
    const char *s = json_string_value(j);
    char *end;

    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        *ret = (uint64_t)json_integer_value(j);
        return true;
    }
    if (!s || *s == '-' || !*s) {
        return false;
    }
    errno = 0;
    *ret = strtoull(s, &end, 0);
    return errno == 0 && *end == '\0';
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -EINVAL: no hex digits, or too many. */
static int bytes_of(const char *hex, uint8_t *bytes, size_t max, size_t *ret_len)
{
    size_t len = hex ? strlen(hex) : 1;

    if (len % 2 || len / 2 > max) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len / 2; i++) {
        int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_len = len / 2;
    return 0;
}

static int bad(struct err *err, const char *path)
{
    return err_set(err, -EINVAL, "mutation of '%s': its values make no sense", path);
}

static int take_size(struct fuzz_image *img, struct fuzz_mutation *m, const char *path, struct err *err)
{
    const char *colon = strchr(path, ':');
    size_t len = colon ? (size_t)(colon - path) : 0;

    for (m->file = 0; m->file < img->files; m->file++) {
        const char *label = img->file[m->file].label;
        if (strlen(label) == len && strncmp(label, path, len) == 0) {
            m->before = img->file[m->file].valid_size;
            return m->after > FUZZ_LIMIT_MAX ? bad(err, path) : 0;
        }
    }
    return err_set(err, -ENOENT, "there is no '%s' in this image", path);
}

static int take_values(const struct fuzz_image *img, const json_t *j, struct fuzz_mutation *m,
                       const char *path, struct err *err)
{
    const struct fuzz_part *p = &img->part[m->part];
    bool whole = !p->element || m->element == UINT32_MAX;
    uint64_t room = m->field ? m->field->width : whole ? p->bytes : p->stride_bits / 8;
    size_t len = 0;

    switch (m->what) {
    case FUZZ_SET:
        if (!m->field || !fuzz_field_there(p, m->field)) {
            return bad(err, path);
        }
        m->before = fuzz_value(img, m->part, m->element, m->field);
        m->after &= fuzz_field_max(p, m->field);
        return 0;
    case FUZZ_BYTES:
        if (!number_of(json_object_get(j, "at"), &m->after) ||
            bytes_of(json_string_value(json_object_get(j, "new")), m->bytes, sizeof(m->bytes), &len) < 0 ||
            len > room || m->after > room - len) {
            return bad(err, path);
        }
        m->len = (uint32_t)len;
        return 0;
    case FUZZ_COPY:
    case FUZZ_SWAP:
        return number_of(json_object_get(j, "with"), &m->after) && m->after < p->count && p->element &&
                       p->stride_bits >= 8 && m->element < p->count
                   ? 0
                   : bad(err, path);
    default:
        return 0;
    }
}

int fuzz_image_add(struct fuzz_image *img, const json_t *j, struct err *err)
{
    const char *path = json_string_value(json_object_get(j, "path"));
    const char *op = json_string_value(json_object_get(j, "op"));
    const char *what = json_string_value(json_object_get(j, "what"));
    struct fuzz_mutation m = {.what = FUZZ_SET};

    if (!path) {
        return err_set(err, -EINVAL, "a mutation without a path");
    }
    while (what && m.what < ARRAY_SIZE(what_names) && strcmp(what_names[m.what], what) != 0) {
        m.what++;
    }
    bool valued = m.what == FUZZ_SET || m.what == FUZZ_TRUNCATE;
    if (m.what >= ARRAY_SIZE(what_names) || (valued && !number_of(json_object_get(j, "new"), &m.after))) {
        return bad(err, path);
    }
    m.op = name_among(op_names, ARRAY_SIZE(op_names), op);
    m.op = m.op ? m.op : "given";
    if (m.what == FUZZ_TRUNCATE) {
        int r = take_size(img, &m, path, err);
        if (r < 0) {
            return r;
        }
    } else {
        if (fuzz_path_find(img, path, &m.part, &m.element, &m.field) < 0) {
            return err_set(err, -ENOENT, "there is no '%s' in this image", path);
        }
        m.file = img->part[m.part].file;
        int r = take_values(img, j, &m, path, err);
        if (r < 0) {
            return r;
        }
    }
    return fuzz_mutation_add(img, m) ? 0 : err_set(err, -E2BIG, "too many mutations");
}

static int load_bytes(struct fuzz_file *f, const json_t *list, struct err *err)
{
    for (size_t i = 0; i + 1 < json_array_size(list); i += 2) {
        uint64_t at;
        size_t len = 0;
        uint8_t page[FUZZ_PAGE];
        const char *hex = json_string_value(json_array_get(list, i + 1));
        if (!number_of(json_array_get(list, i), &at) || bytes_of(hex, page, sizeof(page), &len) < 0) {
            return err_set(err, -EINVAL, "record: damaged bytes");
        }
        uint8_t *p = fuzz_file_bytes(f, at, len);
        if (!p) {
            return err_set(err, -EFBIG, "record: a file of more than %" PRIu64 " bytes", f->room);
        }
        memcpy(p, page, len);
    }
    return 0;
}

/* The generator makes something else today: the bytes as they were then, without mutations. */
static int load_whole(struct fuzz_image *img, const json_t *files, struct err *err)
{
    const struct fuzz_format *format = img->format;
    uint64_t seed = img->seed;
    size_t i;
    json_t *o;

    fuzz_image_clear(img);
    img->format = format;
    img->seed = seed;
    json_array_foreach(files, i, o)
    {
        uint64_t size = 0;
        const char *label = json_string_value(json_object_get(o, "label"));
        const char *name = json_string_value(json_object_get(o, "name"));
        const char *kind = json_string_value(json_object_get(o, "format"));
        if (i >= FUZZ_FILES_MAX || !label || !name || strchr(name, '/') ||
            !number_of(json_object_get(o, "size"), &size) || size > FUZZ_LIMIT_MAX) {
            return err_set(err, -EINVAL, "record: damaged list of files");
        }
        struct fuzz_file *f = &img->file[img->files++];
        snprintf(f->label, sizeof(f->label), "%s", label);
        snprintf(f->name, sizeof(f->name), "%s", name);
        f->format = kind ? fuzz_format_find(kind) : NULL;
        int r = load_bytes(f, json_object_get(o, "bytes"), err);
        if (r < 0) {
            return r;
        }
        f->size = f->valid_size = size;
    }
    if (format && format->parse) {
        format->parse(img);
    }
    return 0;
}

static int make_again(struct fuzz_image *img, const json_t *record, struct fuzz_config *config,
                      struct err *err)
{
    const char *name = json_string_value(json_object_get(record, "format"));
    const struct fuzz_format *format = name ? fuzz_format_find(name) : NULL;
    const char *recipe = json_string_value(json_object_get(record, "recipe"));
    const char *seed_text = json_string_value(json_object_get(record, "seed"));
    uint64_t seed;

    if (!format || !seed_text || !number_of(json_object_get(record, "seed"), &seed)) {
        return err_set(err, -EINVAL, "not the record of an image of a format known here");
    }
    int r = fuzz_config_from_json(config, json_object_get(record, "config"), err);
    if (r < 0) {
        return r;
    }
    if (recipe && !config->recipe &&
        !(config->recipe = strdup(recipe))) { /* its choices belong to the layout */
        return err_set(err, -ENOMEM, "no memory for a record");
    }
    if ((r = fuzz_image_make(img, format, seed, config, err)) < 0) {
        return r;
    }
    img->mutations = 0; /* those of the record instead */
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(record, "mutations"), i, m)
    {
        if ((r = fuzz_image_add(img, m, err)) < 0) {
            return r;
        }
    }
    return fuzz_image_apply(img, NULL);
}

int fuzz_image_from_record(struct fuzz_image *img, const json_t *record, struct fuzz_config *config,
                           struct err *err)
{
    const json_t *files = json_object_get(record, "files");
    uint64_t hash;

    img->format = NULL;
    int r = make_again(img, record, config, err);
    bool known = number_of(json_object_get(record, "hash"), &hash);
    if (r == 0 && (!known || fuzz_image_hash(img) == hash)) {
        return 0;
    }
    if (!img->format || !json_object_get(json_array_get(files, 0), "bytes")) {
        return r < 0 && r != -ENOENT
                   ? r
                   : err_set(
                         err, -ESTALE,
                         "this program makes another image of that record, which has no bytes of its own");
    }
    if ((r = load_whole(img, files, err)) < 0) {
        return r;
    }
    return !known || fuzz_image_hash(img) == hash
               ? 0
               : err_set(err, -EINVAL, "record: its hash is not that of its bytes");
}

/* ---- what is where ---- */

static json_t *fields_json(const struct fuzz_image *img, const struct fuzz_part *p)
{
    uint64_t have = img->file[p->file].size;

    return p->offset < have ? layout_dump(p->layout, img->file[p->file].bytes + p->offset,
                                          MIN(p->bytes, have - p->offset), p->version)
                            : json_object();
}

json_t *fuzz_image_layout(const struct fuzz_image *img, bool fields)
{
    json_t *list = json_array();

    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        char path[FUZZ_PATH_MAX];
        json_t *o = json_object();
        fuzz_path(img, i, UINT32_MAX, NULL, path);
        json_object_set_new(o, "path", json_string(path));
        json_object_set_new(o, "offset", json_integer((json_int_t)p->offset));
        json_object_set_new(o, "bytes", json_integer((json_int_t)p->bytes));
        if (p->layout) {
            json_object_set_new(o, "layout", json_string(p->layout->name));
        }
        if (p->element) {
            json_object_set_new(o, "elements", json_integer(p->count));
        } else if (p->layout && fields) {
            json_object_set_new(o, "fields", fields_json(img, p));
        }
        json_array_append_new(list, o);
    }
    return list;
}
