/* SPDX-License-Identifier: BSD-2-Clause */
/* Making new images; see create.h. Knows no driver: tables and callbacks say what can be done. */
#include "block/create.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/size.h"
#include "block/name.h"

static int find_protocol(const char *filename, const struct driver **ret, struct err *err)
{
    if (strncmp(filename, "json:", 5) == 0) {
        return err_set(err, -EINVAL, "Unknown protocol 'json'");
    }
    AUTO_JSON json_t *options = NULL;
    int r = name_to_options(filename, &options, err);
    if (r < 0) {
        return r;
    }
    const char *name = json_string_value(json_object_get(options, "driver"));
    const struct driver *d = name ? driver_find(name) : NULL;
    if (!d) {
        return err_set(err, -EINVAL, "Unknown protocol '%s'", name ? name : filename);
    }
    *ret = d;
    return 0;
}

int creation_find(struct creation *c, const char *filename, const char *format, struct err *err)
{
    *c = (struct creation){0};
    const struct driver *f = driver_find(format);
    if (!f) {
        return err_set(err, -ENOENT, "Unknown file format '%s'", format);
    }
    bool transparent = f->format && f->format->transparent;
    if (!f->create && !transparent) {
        return err_set(err, -ENOTSUP, "Format driver '%s' does not support image creation", format);
    }
    if (f->kind == DRIVER_PROTOCOL) {
        c->protocol = f;
        return 0;
    }
    c->format = f;
    return filename ? find_protocol(filename, &c->protocol, err) : 0;
}

static void *state_of(const struct driver *d)
{
    return d ? calloc(1, MAX(d->create_state_size, (size_t)1)) : NULL;
}

static int apply(struct creation *c, json_t *options, struct err *err)
{
    c->format_state = state_of(c->format);
    c->protocol_state = state_of(c->protocol);
    if ((c->format && !c->format_state) || !c->protocol_state) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    int r = c->format ? options_apply(c->format->create_options, c->format_state, options, err) : 0;
    if (r == 0) {
        r = options_apply(c->protocol->create_options, c->protocol_state, options, err);
    }
    const char *key = json_object_iter_key(json_object_iter(options));
    return r == 0 && key ? err_set(err, -EINVAL, "Invalid parameter '%s'", key) : r;
}

/* "size" belongs to every image; a driver's table may have it for its place in the text. */
static int take_size(struct creation *c, json_t *options, struct err *err)
{
    static const struct option table[] = {{"size", OPT_SIZE, 0, .help = "Virtual disk size"}, {0}};

    c->has_size = json_object_get(options, "size") != NULL;
    return options_apply(table, &c->size, options, err);
}

int creation_init(struct creation *c, const char *filename, const char *format, const char *options,
                  struct err *err)
{
    AUTO_JSON json_t *left = NULL;
    int r = creation_find(c, filename, format, err);

    if (r == 0) {
        r = json_from_keyvals(options ? options : "", NULL, &left, err);
    }
    if (r == 0) {
        r = take_size(c, left, err);
    }
    if (r == 0) {
        c->given = json_copy(left); /* before they are taken out */
        r = c->given ? apply(c, left, err) : err_set(err, -ENOMEM, "no memory for options");
    }
    if (r < 0) {
        creation_finish(c);
    }
    return r;
}

static void free_state(const struct driver *d, void *state)
{
    if (d && state) {
        options_free(d->create_options, state);
    }
    free(state);
}

void creation_finish(struct creation *c)
{
    free_state(c->format, TAKE_PTR(c->format_state));
    free_state(c->protocol, TAKE_PTR(c->protocol_state));
    json_decref(TAKE_PTR(c->given));
}

int creation_set(struct creation *c, const char *name, const char *value, struct err *err)
{
    const struct option *o = c->format ? option_find(c->format->create_options, name) : NULL;
    AUTO_JSON json_t *v = json_string(value);

    if (!o) {
        return err_set(err, -EINVAL, "Invalid parameter '%s'", name);
    }
    if (!v || json_object_set(c->given, name, v) < 0) {
        return err_set(err, -EINVAL, "Parameter '%s' is not UTF-8", name);
    }
    return option_set(o, c->format_state, v, err);
}

const char *creation_get(const struct creation *c, const char *name)
{
    const struct option *o = c->format ? option_find(c->format->create_options, name) : NULL;

    return o && o->type == OPT_STRING ? *(char *const *)((char *)c->format_state + o->offset) : NULL;
}

/* ---- text ---- */

static void put_value(FILE *f, const struct option *o, const void *state)
{
    const char *place = (const char *)state + o->offset;

    switch (o->type) {
    case OPT_BOOL:
        fputs(*(const bool *)place ? "on" : "off", f);
        return;
    case OPT_ENUM:
        fputs(o->values[*(const int *)place], f);
        return;
    case OPT_STRING:
        for (const char *c = *(char *const *)place; c && *c; c++) { /* as -o takes it */
            fprintf(f, *c == ',' ? ",," : "%c", *c);
        }
        return;
    default:
        fprintf(f, "%" PRIu64, *(const uint64_t *)place);
    }
}

/* @all: defaults too, where there are any. The size stands where the table has it. */
static void put_options(FILE *f, const struct creation *c, const struct driver *d, const void *state,
                        bool all)
{
    for (const struct option *o = d->create_options; o && o->type != OPT_END; o++) {
        bool given = json_object_get(c->given, o->name) != NULL;
        if (!all && c->format && option_find(c->format->create_options, o->name)) {
            continue; /* the format's option of that name took the value */
        }
        if (strcmp(o->name, "size") == 0) {
            fprintf(f, " size=%" PRIu64, c->size);
        } else if (given || (all && o->def)) {
            fprintf(f, " %s=", o->name);
            put_value(f, o, state);
        }
    }
}

char *creation_text(const struct creation *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (!f) {
        return NULL;
    }
    if (!c->format || !option_find(c->format->create_options, "size")) {
        fprintf(f, " size=%" PRIu64, c->size);
    }
    if (c->format) {
        put_options(f, c, c->format, c->format_state, true);
    }
    put_options(f, c, c->protocol, c->protocol_state, false);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    memmove(text, text + 1, len); /* the blank in front */
    return text;
}

/* ---- making ---- */

/* The thing is there already, or is nowhere: open it, and see that it is large enough. */
static co_fn int use_existing(struct creation *c, struct graph *g, const char *filename, uint64_t size,
                              struct err *err)
{
    struct node *n = NULL;
    int r = node_open_name(g, filename, NULL, OPEN_WRITE | OPEN_PROTOCOL | OPEN_RESIZE, &n, err);

    if (r < 0) {
        return err_prefix(
            err, "Protocol driver '%s' does not support image creation, and opening the image failed: ",
            c->protocol->name);
    }
    if (node_size(n) < size) {
        r = node_truncate(n, size, 0, NULL);
        if (r < 0) {
            r = err_set(err, r,
                        "'%s' holds %" PRIu64 " bytes and cannot be made larger: %" PRIu64 " are needed",
                        filename, node_size(n), size);
        }
    }
    /* What used to be there must not be probed as a format later on. */
    if (r == 0 && node_size(n) > 0) {
        r = node_zero(n, 0, MIN(node_size(n), (uint64_t)SECTOR_SIZE), 0);
        r = r < 0 ? err_set_errno(err, r, "Could not clear the first sector of '%s'", filename) : 0;
    }
    node_unref(n);
    return r;
}

int creation_run(struct creation *c, struct graph *g, const char *filename, struct err *err)
{
    bool own = c->format && c->format->create; /* the format grows its file itself */
    uint64_t protocol_size = own ? 0 : c->size;
    int r = c->protocol->create ? c->protocol->create(g, filename, c->protocol_state, protocol_size, err)
                                : use_existing(c, g, filename, protocol_size, err);

    return r == 0 && own ? c->format->create(g, filename, c->format_state, c->size, err) : r;
}
