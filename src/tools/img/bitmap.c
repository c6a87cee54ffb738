/* SPDX-License-Identifier: BSD-2-Clause */
/* img bitmap: persistent dirty bitmaps inside an image. What is asked for is done in the order given. */
#include "block/driver.h"
#include "tools/img/img.h"

static int prepare(struct img *img)
{
    const struct img_args *a = &img->a;
    bool adds = false, merges = false;

    for (unsigned i = 0; i < a->nsteps; i++) {
        adds = adds || strcmp(a->steps[i].name, "add") == 0;
        merges = merges || a->steps[i].value;
    }
    if (a->nsteps == 0) {
        img_error(img, "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        return 1;
    }
    if (img->argc != 2) {
        return img_usage_error(img, "Expecting filename and bitmap name");
    }
    if (a->granularity != IMG_NOT_GIVEN && !adds) {
        img_error(img, "granularity only supported with --add");
        return 1;
    }
    if (a->format2 && !a->backing) {
        img_error(img, "-F only supported with -b");
        return 1;
    }
    if (a->backing && !merges) {
        img_error(img, "Merge bitmap source file only supported with --merge");
        return 1;
    }
    return -1;
}

static co_fn int merge(struct node *n, const char *name, struct node *from, const char *source,
                       struct err *err)
{
    struct bitmap_view view;

    if (!from->drv->bitmap) {
        return err_set(err, -ENOENT, "Dirty bitmap '%s' not found", source);
    }
    int r = from->drv->bitmap->get(from, source, &view, err);
    return r < 0 ? r : n->drv->bitmap->merge(n, name, &view, err);
}

static co_fn int do_step(const struct img *img, const struct img_step *step, struct node *n,
                         struct node *from, struct err *err)
{
    const struct bitmap_ops *ops = n->drv->bitmap;
    const char *name = img->argv[1];
    bool adds = strcmp(step->name, "add") == 0;

    if (!ops) {
        return adds ? err_set(err, -ENOTSUP, "Can't store persistent bitmaps to %s: %s", node_name(n),
                              err_name(-ENOTSUP))
                    : err_set(err, -ENOENT, "Dirty bitmap '%s' not found", name);
    }
    if (adds) {
        return ops->add(n, name, img->a.granularity == IMG_NOT_GIVEN ? 0 : img->a.granularity, err);
    }
    if (step->value) {
        return merge(n, name, from ? from : n, step->value, err);
    }
    return strcmp(step->name, "remove") == 0  ? ops->remove(n, name, err)
           : strcmp(step->name, "clear") == 0 ? ops->clear(n, name, err)
                                              : ops->enable(n, name, step->name[0] == 'e', err);
}

static co_fn int do_steps(struct img *img, struct node *n, struct node *from)
{
    struct err err = {0};
    int r = 0;

    for (unsigned i = 0; r == 0 && i < img->a.nsteps; i++) {
        r = do_step(img, &img->a.steps[i], n, from, &err);
        if (r < 0) {
            img_error(img, "Operation %s on bitmap %s failed: %s", img->a.steps[i].name, img->argv[1],
                      err.text);
        }
    }
    struct err store_err = {0};
    if (n->drv->bitmap &&
        n->drv->bitmap->store(n, &store_err) < 0) { /* what was done before a failure, too */
        img_error(img, "%s", store_err.text);
        r = store_err.code;
    }
    return r;
}

static co_fn int run(struct img *img)
{
    struct node *n = NULL, *from = NULL;
    int r = img_open(img, img->argv[0], img->a.format, img->a.image_opts, OPEN_WRITE, &n);

    if (r == 0 && img->a.backing) {
        r = img_open(img, img->a.backing, img->a.format2, false, OPEN_NO_BACKING, &from);
    }
    if (r == 0) {
        r = do_steps(img, n, from);
    }
    node_unref(from);
    node_unref(n);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    {0, "add", IMG_ARG_STEP, 0, NULL, "make the bitmap"},
    {0, "remove", IMG_ARG_STEP, 0, NULL, "remove it"},
    {0, "clear", IMG_ARG_STEP, 0, NULL, "forget what it holds"},
    {0, "enable", IMG_ARG_STEP, 0, NULL, "record writes from now on"},
    {0, "disable", IMG_ARG_STEP, 0, NULL, "record no more"},
    {0, "merge", IMG_ARG_STEP, 0, "SOURCE", "add what another bitmap holds"},
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
