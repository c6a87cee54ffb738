/* SPDX-License-Identifier: BSD-2-Clause */
/* img create: make an empty image. */
#include "block/create.h"

#include <stdio.h>

#include "block/name.h"

#include "tools/img/target.h"

static const char *format_of(const struct img *img)
{
    return img->a.format ? img->a.format : "raw";
}

static int prepare(struct img *img)
{
    const char *name = img->argc > 0 ? img->argv[0] : NULL;

    if (img_options_want_help(img->a.options)) {
        return img_print_options(img, name, format_of(img));
    }
    if (name == NULL) {
        return img_usage_error(img, "Expecting image file name");
    }
    if (img->argc > 2) {
        return img_usage_error(img, "Unexpected argument: %s", img->argv[2]);
    }
    if (img->argc == 2 && img_parse_size(img, img->argv[1], "image size", 0, 0, &img->a.size) < 0) {
        return 1;
    }
    return -1;
}

/* -b and -F are options of formats that have a backing file. */
static int set_backing(const struct img *img, struct creation *c, struct err *err)
{
    if (img->a.backing && creation_set(c, "backing_file", img->a.backing, NULL) < 0) {
        return err_set(err, -ENOTSUP, "Backing file not supported for file format '%s'", format_of(img));
    }
    if (img->a.format2 && creation_set(c, "backing_fmt", img->a.format2, NULL) < 0) {
        return err_set(err, -ENOTSUP, "Backing file format not supported for file format '%s'",
                       format_of(img));
    }
    return 0;
}

/* Open the backing file as the new image will name it: it must be there, and its size is the default. */
static co_fn int look_at_backing(struct img *img, struct creation *c, struct err *err)
{
    const char *name = creation_get(c, "backing_file"), *format = creation_get(c, "backing_fmt");
    AUTO_FREE char *path = NULL;
    struct node *n = NULL;

    if (name && !*name) {
        return err_set(err, -EINVAL, "Expected backing file name, got empty string");
    }
    if (!name) {
        return format && json_object_get(c->given, "backing_fmt")
                   ? err_set(err, -EINVAL, "Backing format cannot be used without backing file")
                   : 0;
    }
    if (strcmp(name, img->argv[0]) == 0) {
        return err_set(err, -EINVAL,
                       "Error: Trying to create an image with the same filename as the backing file");
    }
    struct graph trusting = {.trust_image_names = true}; /* the user gave the name, not an image */
    int r = name_inside_image(&trusting, img->argv[0], name, "backing file", &path, err);
    if (r < 0 || img->a.unsafe) {
        return r < 0 || format ? r : err_set(err, -EINVAL, "Backing file specified without backing format");
    }
    r = node_open_name(&img->graph, path, format, OPEN_FORCE_SHARE, &n, err);
    if (r < 0) {
        size_t used = err ? strlen(err->text) : 0;
        if (err) {
            snprintf(err->text + used, sizeof(err->text) - used, "\nCould not open backing image.");
        }
        return r;
    }
    if (!format) {
        r = err_set(err, -EINVAL, "Backing file specified without backing format\nDetected format of %s.",
                    node_driver_name(n));
    } else if (!c->has_size) {
        c->size = node_size(n);
        c->has_size = true;
    }
    node_unref(n);
    return r;
}

static co_fn int settle_size(struct img *img, struct creation *c, struct err *err)
{
    if (img->a.size != IMG_NOT_GIVEN && c->has_size) {
        return err_set(err, -EINVAL, "The image size must be specified only once");
    }
    if (img->a.size != IMG_NOT_GIVEN) {
        c->size = img->a.size;
        c->has_size = true;
    }
    int r = look_at_backing(img, c, err);
    if (r == 0 && !c->has_size) {
        r = err_set(err, -EINVAL, "Image creation needs a size parameter");
    }
    return r;
}

/* Preallocating takes long and can fail: the name is given when all is there. */
static co_fn int make(struct img *img, struct creation *c, struct err *err)
{
    struct img_pending pending = {0};
    int r = img_pending_begin(img, img->argv[0], &pending, err);

    if (r == 0) {
        r = creation_run(c, &img->graph, pending.name, err);
        if (r < 0) {
            img_pending_error(&pending, err);
        } else {
            r = img_pending_commit(&pending, err);
        }
    }
    img_pending_end(&pending);
    return r;
}

static co_fn int create(struct img *img, struct creation *c, struct err *err)
{
    int r = set_backing(img, c, err);

    if (r < 0 || (r = settle_size(img, c, err)) < 0) {
        return r;
    }
    if (!img->a.quiet) {
        AUTO_FREE char *text = creation_text(c);
        printf("Formatting '%s', fmt=%s %s\n", img->argv[0], format_of(img), text ? text : "");
    }
    if (c->size > BLOCK_SIZE_MAX) {
        return err_set(err, -EFBIG, "The image size is too large for file format '%s'", format_of(img));
    }
    r = make(img, c, err);
    if (r == -EFBIG) {
        bool clusters = c->format && option_find(c->format->create_options, "cluster_size");
        err_set(err, r, "The image size is too large for file format '%s'%s", format_of(img),
                clusters ? " (try using a larger cluster size)" : "");
    }
    return r;
}

static co_fn int run(struct img *img)
{
    struct creation c;
    struct err err = {0};
    int r = creation_init(&c, img->argv[0], format_of(img), img->a.options, &err);

    if (r == 0) {
        r = create(img, &c, &err);
        creation_finish(&c);
    }
    if (r < 0) {
        img_error(img, "%s: %s", img->argv[0], err.text);
    }
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    {'f', "format", IMG_ARG_STRING, IMG_FIELD(format), "FORMAT", "format of the new image (default raw)"},
    IMG_ARG_OPTIONS,
    {'b', "backing", IMG_ARG_STRING, IMG_FIELD(backing), "FILE", "backing file"},
    {'F', "backing-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT", "format of the backing file"},
    {'u', "backing-unsafe", IMG_ARG_FLAG, IMG_FIELD(unsafe), NULL, "do not open the backing file"},
    IMG_ARG_QUIET,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_create = {
    .name = "create",
    .synopsis = "FILE [SIZE]",
    .summary = "Make an empty image",
    .args = args,
    .max_operands = -1,
    .prepare = prepare,
    .run = run,
};
