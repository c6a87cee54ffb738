/* SPDX-License-Identifier: BSD-2-Clause */
/* img rebase: give an image another backing file. No format of this version has one. */
#include "tools/img/img.h"

static int prepare(struct img *img)
{
    if (img->a.backing == NULL && !img->a.unsafe) {
        return img_usage_error(img, "Must specify backing file (-b) or use unsafe mode (-u)");
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
    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags | OPEN_WRITE, &n) < 0) {
        return 1;
    }
    img_error(img, "Could not change the backing file to '%s': %s", img->a.backing ? img->a.backing : "",
              err_name(-EOPNOTSUPP));
    node_unref(n);
    return 1;
}

static const struct img_arg args[] = {
    {'b', "backing", IMG_ARG_STRING, IMG_FIELD(backing), "FILE", "the new backing file; '' for none"},
    {'F', "backing-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT", "format of the new backing file"},
    {'u', "backing-unsafe", IMG_ARG_FLAG, IMG_FIELD(unsafe), NULL, "change the name only"},
    IMG_ARG_FORMAT,
    IMG_ARG_CACHE,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_rebase = {
    .name = "rebase",
    .synopsis = "IMAGE",
    .summary = "Change the backing file of an image",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
