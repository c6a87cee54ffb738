/* SPDX-License-Identifier: BSD-2-Clause */
/* img resize: make an image longer or, if asked twice, shorter. */
#include "base/size.h"
#include "tools/img/img.h"

static int preallocation_flag(const char *mode, unsigned *ret_flag)
{
    static const struct {
        const char *word;
        unsigned flag;
    } modes[] = {
        {"off", 0},
        {"metadata", REQ_PREALLOC_METADATA},
        {"falloc", REQ_PREALLOC_FALLOC},
        {"full", REQ_PREALLOC_FULL},
    };

    for (size_t i = 0; mode != NULL && i < ARRAY_SIZE(modes); i++) {
        if (strcmp(mode, modes[i].word) == 0) {
            *ret_flag = modes[i].flag;
            return 0;
        }
    }
    return mode == NULL ? 0 : -EINVAL;
}

static int bad_size(const struct img *img)
{
    static const char first[] = "Parameter 'size' expects a non-negative number below 2^64";
    static const char second[] = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-";

    if (img->t->standin) {
        img_error(img, "%s", first);
        fprintf(stderr, "%s\nand exabytes, respectively.\n", second);
    } else {
        img_error(img, "%s; o%s and exabytes, respectively.", first, second + 1);
    }
    return 1;
}

static int prepare(struct img *img)
{
    const char *text = img->argv[1];
    unsigned flag = 0;

    if (preallocation_flag(img->a.preallocation, &flag) < 0) {
        img_error(img, "Invalid preallocation mode '%s'", img->a.preallocation);
        return 1;
    }
    int r = size_parse(text + (text[0] == '+' || text[0] == '-'), &img->a.size);
    if (r == -ERANGE) {
        img_error(img, "New image size must be positive"); /* as qemu-img says of what overflows */
        return 1;
    }
    return r < 0 ? bad_size(img) : -1;
}

/* The size asked for, counted from the one it has. */
static int new_size(const struct img *img, uint64_t old, uint64_t *ret_size)
{
    char sign = img->argv[1][0];
    uint64_t given = img->a.size;

    if (sign == '-' && given >= old) {
        return -EINVAL;
    }
    if (sign == '+' && given > INT64_MAX - old) {
        return -EINVAL;
    }
    uint64_t size = sign == '+' ? old + given : sign == '-' ? old - given : given;
    if (size == 0) {
        return -EINVAL;
    }
    *ret_size = size;
    return 0;
}

static int check_shrink(const struct img *img, uint64_t old, uint64_t size)
{
    const struct img_args *a = &img->a;

    if (size >= old) {
        return 0;
    }
    if (a->preallocation != NULL && strcmp(a->preallocation, "off") != 0) {
        img_error(img, "Preallocation can only be used for growing images");
        return -EINVAL;
    }
    if (!a->shrink) {
        img_error(img, "Use the --shrink option to perform a shrink operation.");
        img_error(img,
                  "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before "
                  "performing such an operation, make sure there is no important data there.");
        return -EINVAL;
    }
    return 0;
}

static co_fn int resize(struct img *img, struct node *n)
{
    uint64_t old = node_size(n), size;
    unsigned flags = 0;
    struct err err = {0};

    if (new_size(img, old, &size) < 0) {
        img_error(img, "New image size must be positive");
        return -EINVAL;
    }
    int r = check_shrink(img, old, size);
    if (r < 0) {
        return r;
    }
    preallocation_flag(img->a.preallocation, &flags);
    r = node_truncate(n, size, flags | REQ_EXACT, &err);
    if (r < 0) {
        img_error(img, "%s", err.text[0] ? err.text : err_name(r));
        return r;
    }
    if (!img->a.quiet) {
        printf("Image resized.\n");
    }
    return 0;
}

static co_fn int run(struct img *img)
{
    struct node *n = NULL;

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, OPEN_WRITE | OPEN_RESIZE, &n) < 0) {
        return 1;
    }
    int r = resize(img, n);
    node_unref(n);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    {0, "shrink", IMG_ARG_FLAG, IMG_FIELD(shrink), NULL,
     "allow the image to become shorter: what is cut off is lost"},
    {0, "preallocation", IMG_ARG_STRING, IMG_FIELD(preallocation), "MODE",
     "how to allocate what is new: off, metadata, falloc or full"},
    IMG_ARG_QUIET,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_resize = {
    .name = "resize",
    .synopsis = "IMAGE [+|-]SIZE",
    .summary = "Change the size of an image",
    .args = args,
    .last_is_size = true,
    .min_operands = 2,
    .max_operands = 2,
    .operands_wrong = "Expecting image file name and size",
    .prepare = prepare,
    .run = run,
};
