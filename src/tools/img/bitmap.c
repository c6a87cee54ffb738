/* SPDX-License-Identifier: BSD-2-Clause */
/* img bitmap: persistent dirty bitmaps inside an image. No format of this version has any. */
#include "tools/img/img.h"

static const char *first_action(const struct img_args *a)
{
    return a->bitmap_add       ? "add"
           : a->bitmap_remove  ? "remove"
           : a->bitmap_clear   ? "clear"
           : a->bitmap_enable  ? "enable"
           : a->bitmap_disable ? "disable"
           : a->merge          ? "merge"
                               : NULL;
}

static int prepare(struct img *img)
{
    if (first_action(&img->a) == NULL) {
        img_error(img, "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        return 1;
    }
    if (img->argc != 2) {
        return img_usage_error(img, "Expecting filename and bitmap name");
    }
    if (img->a.granularity != IMG_NOT_GIVEN && !img->a.bitmap_add) {
        img_error(img, "granularity only supported with --add");
        return 1;
    }
    return -1;
}

static co_fn int run(struct img *img)
{
    struct node *n = NULL;

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, OPEN_WRITE, &n) < 0) {
        return 1;
    }
    img_error(img, "Operation %s on bitmap %s failed: Can't store persistent bitmaps to %s: %s",
              first_action(&img->a), img->argv[1], node_name(n), err_name(-EOPNOTSUPP));
    node_unref(n);
    return 1;
}

static const struct img_arg args[] = {
    {0, "add", IMG_ARG_FLAG, IMG_FIELD(bitmap_add), NULL, "make the bitmap"},
    {0, "remove", IMG_ARG_FLAG, IMG_FIELD(bitmap_remove), NULL, "remove it"},
    {0, "clear", IMG_ARG_FLAG, IMG_FIELD(bitmap_clear), NULL, "forget what it holds"},
    {0, "enable", IMG_ARG_FLAG, IMG_FIELD(bitmap_enable), NULL, "record writes from now on"},
    {0, "disable", IMG_ARG_FLAG, IMG_FIELD(bitmap_disable), NULL, "record no more"},
    {0, "merge", IMG_ARG_STRING, IMG_FIELD(merge), "SOURCE", "add what another bitmap holds"},
    {'g', "granularity", IMG_ARG_SIZE, IMG_FIELD(granularity), "SIZE", "bytes per bit, with --add",
     "granularity", 1, 0},
    {'b', "source-file", IMG_ARG_STRING, IMG_FIELD(backing), "FILE", "image that holds the bitmap to merge"},
    {'F', "source-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT", "format of that image"},
    IMG_ARG_FORMAT,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_bitmap = {
    .name = "bitmap",
    .synopsis = "IMAGE BITMAP",
    .summary = "Manage persistent bitmaps inside an image",
    .args = args,
    .max_operands = -1,
    .prepare = prepare,
    .run = run,
};
