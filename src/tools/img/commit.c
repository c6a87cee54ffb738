/* SPDX-License-Identifier: BSD-2-Clause */
/* img commit: write an image's data into its backing file. This version only tells why not. */
#include "tools/img/img.h"

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
    img_error(img, node_child(n, "backing") ? "This version cannot write into a backing file"
                                            : "Image does not have a backing file");
    node_unref(n);
    return 1;
}

static const struct img_arg args[] = {
    {'b', "base", IMG_ARG_STRING, IMG_FIELD(backing), "FILE", "commit down to this backing file"},
    {'d', "keep", IMG_ARG_FLAG, IMG_FIELD(delete_base), NULL, "do not empty the image afterwards"},
    {'r', "rate-limit", IMG_ARG_SIZE, IMG_FIELD(rate), "RATE", "at most so many bytes per second",
     "rate limit", 1, 0},
    IMG_ARG_FORMAT,
    IMG_ARG_CACHE,
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_commit = {
    .name = "commit",
    .synopsis = "IMAGE",
    .summary = "Write the data of an image into its backing file",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .run = run,
};
