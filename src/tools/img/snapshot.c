/* SPDX-License-Identifier: BSD-2-Clause */
/* img snapshot: snapshots inside an image. No format of this version has any. */
#include "tools/img/img.h"

static int prepare(struct img *img)
{
    const struct img_args *a = &img->a;
    int actions =
        a->list + (a->snapshot_create != NULL) + (a->snapshot_apply != NULL) + (a->snapshot_delete != NULL);

    if (actions > 1) {
        return img_usage_error(img, "Cannot mix '-l', '-a', '-c', '-d'");
    }
    return -1;
}

/* Returns the exit status. */
static int act(const struct img *img)
{
    const struct img_args *a = &img->a;

    if (a->snapshot_create != NULL) {
        img_error(img, "Could not create snapshot '%s': %d (%s)", a->snapshot_create, -ENOTSUP,
                  err_name(-ENOTSUP));
    } else if (a->snapshot_apply != NULL) {
        img_error(img, "Could not apply snapshot '%s': Block driver does not support snapshots",
                  a->snapshot_apply);
    } else if (a->snapshot_delete != NULL) {
        img_error(img, "Could not delete snapshot '%s': snapshot not found", a->snapshot_delete);
    } else {
        return 0; /* the list is empty */
    }
    return 1;
}

static co_fn int run(struct img *img)
{
    const struct img_args *a = &img->a;
    bool writes = a->snapshot_create || a->snapshot_apply || a->snapshot_delete;
    struct node *n = NULL;

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, writes ? OPEN_WRITE : 0, &n) < 0) {
        return 1;
    }
    int status = act(img);
    node_unref(n);
    return status;
}

static const struct img_arg args[] = {
    {'l', "list", IMG_ARG_FLAG, IMG_FIELD(list), NULL, "list the snapshots (default)"},
    {'c', "create", IMG_ARG_STRING, IMG_FIELD(snapshot_create), "NAME", "create one"},
    {'a', "apply", IMG_ARG_STRING, IMG_FIELD(snapshot_apply), "NAME", "bring the image back to one"},
    {'d', "delete", IMG_ARG_STRING, IMG_FIELD(snapshot_delete), "NAME", "delete one"},
    IMG_ARG_FORMAT,
    IMG_ARG_QUIET,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_snapshot = {
    .name = "snapshot",
    .synopsis = "IMAGE",
    .summary = "List, create, apply or delete snapshots inside an image",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
