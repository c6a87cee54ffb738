/* SPDX-License-Identifier: BSD-2-Clause */
/* img dd: copy blocks of an image into a new one, asked for in the words of dd(1). */
#include "base/size.h"
#include "block/driver.h"
#include "tools/img/copy.h"
#include "tools/img/target.h"

struct dd {
    struct img *img;
    const char *input, *output;
    uint64_t block_bytes, count, skip;
    struct copy_source source;
    struct img_target target;
};

static int set_operand(struct dd *d, const char *name, size_t name_len, const char *value)
{
    struct img *img = d->img;
    const struct {
        const char *name;
        uint64_t *number; /* or: */
        const char **text;
        uint64_t min, max;
    } operands[] = {
        {"bs", &d->block_bytes, NULL, 1, INT32_MAX},
        {"count", &d->count, NULL, 0, 0},
        {"skip", &d->skip, NULL, 0, 0},
        {"if", NULL, &d->input, 0, 0},
        {"of", NULL, &d->output, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(operands); i++) {
        if (strlen(operands[i].name) != name_len || memcmp(operands[i].name, name, name_len) != 0) {
            continue;
        }
        if (operands[i].text != NULL) {
            *operands[i].text = value;
            return 0;
        }
        return img_parse_size(img, value, operands[i].name, operands[i].min, operands[i].max,
                              operands[i].number);
    }
    img_error(img, "unrecognized operand %.*s", (int)name_len, name);
    return -EINVAL;
}

static int parse_operands(struct dd *d)
{
    struct img *img = d->img;

    for (int i = 0; i < img->argc; i++) {
        const char *eq = strchr(img->argv[i], '=');
        if (eq == NULL) {
            img_error(img, "unrecognized operand %s", img->argv[i]);
            return -EINVAL;
        }
        int r = set_operand(d, img->argv[i], (size_t)(eq - img->argv[i]), eq + 1);
        if (r < 0) {
            return r;
        }
    }
    if (d->input == NULL || d->output == NULL) {
        img_error(img, "Must specify both input and output files");
        return -EINVAL;
    }
    return 0;
}

/* The window of the input: skip blocks, then at most count of them, as dd(1) does. */
static void choose_window(struct dd *d)
{
    struct copy_source *s = &d->source;
    uint64_t size = node_size(s->node), start, bytes;

    if (__builtin_mul_overflow(d->skip, d->block_bytes, &start) || start > size) {
        img_error(d->img, "%s: cannot skip to specified offset", d->input);
        start = size;
    }
    if (d->count == IMG_NOT_GIVEN || __builtin_mul_overflow(d->count, d->block_bytes, &bytes)) {
        bytes = UINT64_MAX;
    }
    s->start = start;
    s->bytes = MIN(bytes, size - start);
}

static co_fn int copy_window(struct dd *d)
{
    struct img_progress quiet = {0};
    struct copy c = {
        .sources = &d->source,
        .nsources = 1,
        .target = d->target.node,
        .total_bytes = d->source.bytes,
        .workers = 4, /* both cores, and one piece ahead of each */
        .in_order = true,
        .target_zero = d->target.zero,
        .img = d->img,
        .progress = &quiet,
    };
    int r = copy_run(&c);
    if (r < 0) {
        img_error(d->img, "%s", c.err.text);
    }
    return r;
}

static co_fn int dd(struct dd *d)
{
    struct img *img = d->img;
    const char *format = img->a.format2 ? img->a.format2 : "raw";
    struct err err = {0};

    if (driver_find(format) == NULL) {
        img_error(img, "Unknown file format '%s'", format);
        return -ENOENT;
    }
    int r = img_open(img, d->input, img->a.format, img->a.image_opts, 0, &d->source.node);
    if (r < 0) {
        return r;
    }
    choose_window(d);
    r = img_target_create(img, d->output, format, NULL, d->source.bytes, 0, &d->target, &err);
    if (r < 0) {
        img_error(img, "%s: error while creating output image: %s", d->output, err.text);
        return r;
    }
    if ((r = copy_window(d)) == 0 && (r = img_target_commit(&d->target, &err)) < 0) {
        img_error(img, "%s: %s", d->output, err.text);
    }
    return r;
}

static co_fn int run(struct img *img)
{
    struct dd d = {.img = img, .block_bytes = 512, .count = IMG_NOT_GIVEN};
    int r = parse_operands(&d);

    if (r == 0) {
        r = dd(&d);
    }
    img_target_end(&d.target);
    node_unref(d.source.node);
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    {'f', "format", IMG_ARG_STRING, IMG_FIELD(format), "FORMAT", "format of the input (default: probed)"},
    {'O', "output-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT",
     "format of the output (default raw)"},
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_dd = {
    .name = "dd",
    .synopsis = "[bs=BYTES] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
    .summary = "Copy blocks of an image into a new one",
    .args = args,
    .max_operands = -1,
    .run = run,
};
