/* SPDX-License-Identifier: BSD-2-Clause */
/* img amend: change the options an image was created with. */
#include "base/json.h"
#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/target.h"

static int refuse(const struct img *img, const char *format)
{
    img_error(img, "Format driver '%s' does not support option amendment", format);
    return 1;
}

static int print_help(const struct img *img)
{
    const struct driver *d = driver_find(img->a.format);

    if (d == NULL) {
        img_error(img, "Unknown file format '%s'", img->a.format);
        return 1;
    }
    if (d->amend_options == NULL) {
        return refuse(img, d->name);
    }
    printf("Amend options for '%s':\n", d->name);
    img_print_option_rows(d->amend_options);
    return 0;
}

static int prepare(struct img *img)
{
    if (img->a.options == NULL) {
        return img_usage_error(img, "Must specify options (-o)");
    }
    if (img_options_want_help(img->a.options) && img->a.format != NULL) {
        return print_help(img);
    }
    if (img->argc != 1) {
        return img_usage_error(img, "Expecting one image file name");
    }
    return -1;
}

/* A sentence of two lines: the second is advice. */
static void print_error(const struct img *img, struct err *err)
{
    char *advice = strchr(err->text, '\n');

    if (advice) {
        *advice++ = '\0';
    }
    img_error(img, "%s", err->text);
    if (advice) {
        fprintf(stderr, "%s\n", advice);
    }
}

static void step(void *opaque, uint64_t done, uint64_t total)
{
    struct img_progress *p = opaque;

    p->total = total;
    img_progress_add(p, done - p->done);
}

static co_fn int amend(struct img *img, struct node *n)
{
    struct img_progress progress = {0};
    AUTO_JSON json_t *options = NULL;
    struct err err = {0};
    int r = json_from_keyvals(img->a.options, NULL, &options, &err);

    if (r == 0) {
        img_progress_start(&progress, img->a.progress && !img->a.quiet, 1, 1);
        r = n->drv->amend(n, options, &(struct progress){step, &progress}, &err);
        img_progress_end(&progress, r == 0);
    }
    if (r < 0) {
        print_error(img, &err);
    }
    return r;
}

static co_fn int run(struct img *img)
{
    unsigned flags = 0;
    struct node *n = NULL;

    if (img->a.cache && img_cache_flags(img, img->a.cache, "cache option", &flags) < 0) {
        return 1;
    }
    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags | OPEN_WRITE | OPEN_RESIZE, &n) <
        0) {
        return 1;
    }
    int status = n->drv->amend ? (amend(img, n) < 0 ? 1 : 0) : refuse(img, node_driver_name(n));
    node_unref(n);
    return status;
}

static const struct img_arg args[] = {
    IMG_ARG_OPTIONS,
    {0, "force", IMG_ARG_FLAG, IMG_FIELD(force), NULL, "allow unsafe changes"},
    IMG_ARG_FORMAT,
    IMG_ARG_CACHE,
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_amend = {
    .name = "amend",
    .synopsis = "-o OPTIONS IMAGE",
    .summary = "Change the creation options of an image",
    .args = args,
    .max_operands = -1,
    .prepare = prepare,
    .run = run,
};
