/* SPDX-License-Identifier: BSD-2-Clause */
/* img amend: change the options an image was created with. No format of this version can. */
#include "block/driver.h"
#include "tools/img/img.h"

static int refuse(const struct img *img, const char *format)
{
    img_error(img, "Format driver '%s' does not support option amendment", format);
    return 1;
}

static int prepare(struct img *img)
{
    if (img->a.options == NULL) {
        return img_usage_error(img, "Must specify options (-o)");
    }
    if (img_options_want_help(img->a.options) && img->a.format != NULL) {
        return refuse(img, img->a.format);
    }
    if (img->argc != 1) {
        return img_usage_error(img, "Expecting one image file name");
    }
    return -1;
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
    int status = refuse(img, node_driver_name(n));
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
