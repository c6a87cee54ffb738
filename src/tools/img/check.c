/* SPDX-License-Identifier: BSD-2-Clause */
/* img check: look for damage. No format of this version keeps metadata that could be checked. */
#include "tools/img/img.h"

static int prepare(struct img *img)
{
    const char *repair = img->a.repair;

    if (repair != NULL && strcmp(repair, "leaks") != 0 && strcmp(repair, "all") != 0) {
        return img_usage_error(img, "-r option expects 'leaks' or 'all'");
    }
    return -1;
}

static co_fn int run(struct img *img)
{
    unsigned flags = 0;
    struct node *n = NULL;

    if (img->a.src_cache && img_cache_flags(img, img->a.src_cache, "source cache option", &flags) < 0) {
        return 1;
    }
    flags |= OPEN_CHECK | (img->a.repair ? OPEN_WRITE | OPEN_RESIZE : 0);
    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags, &n) < 0) {
        return 1;
    }
    img_error(img, "This image format does not support checks");
    node_unref(n);
    return IMG_UNSUPPORTED;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    {'r', "repair", IMG_ARG_STRING, IMG_FIELD(repair), "leaks|all", "repair what is found"},
    IMG_ARG_OUTPUT_FORMAT,
    IMG_ARG_QUIET,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_check = {
    .name = "check",
    .synopsis = "IMAGE",
    .summary = "Look for damage in an image's metadata",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
