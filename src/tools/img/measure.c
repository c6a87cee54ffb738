/* SPDX-License-Identifier: BSD-2-Clause */
/* img measure: how large the file of an image would be, before it is made. */
#include "base/json.h"
#include "block/create.h"

#include "tools/img/img.h"

static int prepare(struct img *img)
{
    bool has_size = img->a.size != IMG_NOT_GIVEN;

    if (has_size && img->argc > 0) {
        img_error(img, "--size N cannot be used together with a filename.");
        return 1;
    }
    if (!has_size && img->argc != 1) {
        img_error(img, "Either --size N or one filename must be specified.");
        return 1;
    }
    return -1;
}

/* @bitmaps: NULL: there can be none. */
static void print_sizes(const struct img *img, uint64_t required, uint64_t full, const uint64_t *bitmaps)
{
    if (img->a.json) {
        json_t *j = json_object();
        if (bitmaps) {
            json_object_set_new(j, "bitmaps", json_integer((json_int_t)*bitmaps));
        }
        json_object_set_new(j, "required", json_integer((json_int_t)required));
        json_object_set_new(j, "fully-allocated", json_integer((json_int_t)full));
        img_print_json(j);
        json_decref(j);
        return;
    }
    printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", required, full);
    if (bitmaps) {
        printf("bitmaps size: %" PRIu64 "\n", *bitmaps);
    }
}

static co_fn int measure(struct img *img, struct creation *c, struct node *source)
{
    uint64_t size = source ? node_size(source) : img->a.size, required, full;
    const struct driver *d = c->format;
    struct err err = {0};

    if (d == NULL || d->measure == NULL) {
        img_error(img, "Block driver '%s' does not support size measurement",
                  d ? d->name : c->protocol->name);
        return -ENOTSUP;
    }
    int r = d->measure(c->format_state, source, size, &required, &full, &err);
    if (r < 0) {
        img_error(img, "%s", err.text);
        return r;
    }
    if (d->measure_bitmaps && source && source->drv->bitmap && source->drv->bitmap->supported(source)) {
        AUTO_JSON json_t *list = source->drv->bitmap->list(source);
        uint64_t bitmaps = d->measure_bitmaps(c->format_state, list, size);
        print_sizes(img, required, full, &bitmaps);
    } else {
        print_sizes(img, required, full, NULL);
    }
    return 0;
}

static co_fn int run(struct img *img)
{
    const char *format = img->a.format2 ? img->a.format2 : "raw";
    struct node *source = NULL;
    struct creation c;
    struct err err = {0};

    /* Any plain name stands for the file that would hold it. */
    if (creation_init(&c, "image", format, img->a.options, &err) < 0) {
        img_error(img, "%s", err.text);
        return 1;
    }
    int r = 0;
    if (img->argc > 0) {
        r = img_open(img, img->argv[0], img->a.format, img->a.image_opts, 0, &source);
    }
    if (r == 0) {
        r = measure(img, &c, source);
    }
    node_unref(source);
    creation_finish(&c);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    {'O', "target-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT",
     "format to measure for (default raw)"},
    IMG_ARG_OPTIONS,
    {0, "size", IMG_ARG_SIZE, IMG_FIELD(size), "SIZE", "of an empty image", "image size"},
    IMG_ARG_FORMAT,
    IMG_ARG_OUTPUT_FORMAT,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_measure = {
    .name = "measure",
    .synopsis = "[IMAGE]",
    .summary = "Tell how large a new image's file would be",
    .args = args,
    .max_operands = -1,
    .prepare = prepare,
    .run = run,
};
