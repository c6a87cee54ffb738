/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img dump: every structure of an image with its place in the file, a line each; as text, or as one
 * JSON array. Opens nothing but the image.
 */
#include "base/json.h"
#include "block/driver.h"
#include "tools/img/img.h"

struct lines {
    bool json, any;
};

/* Text of the image goes to a terminal: nothing but printable characters as they are. */
static bool is_plain(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f || (unsigned char)*s == 0xc2) { /* C1 begins so */
            return false;
        }
    }
    return true;
}

static void print_value(const json_t *v)
{
    if (json_is_string(v) && is_plain(json_string_value(v))) {
        printf("%s", json_string_value(v));
    } else {
        AUTO_FREE char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        printf("%s", text ? text : "?");
    }
}

static void print_text(uint64_t offset, const char *what, uint64_t index, json_t *fields)
{
    const char *key, *separator = ":";
    json_t *v;

    printf("0x%08" PRIx64 " %s", offset, what);
    if (index != UINT64_MAX) {
        printf(" %" PRIu64, index);
    }
    json_object_foreach(fields, key, v)
    {
        printf("%s %s ", separator, key);
        print_value(v);
        separator = ",";
    }
    putchar('\n');
}

static void print_json(uint64_t offset, const char *what, uint64_t index, json_t *fields, bool first)
{
    AUTO_FREE char *text = json_dumps(fields, JSON_COMPACT);

    printf("%s\n{\"offset\":%" PRIu64 ",\"structure\":\"%s\",", first ? "[" : ",", offset, what);
    if (index != UINT64_MAX) {
        printf("\"index\":%" PRIu64 ",", index);
    }
    printf("\"fields\":%s}", text ? text : "{}");
}

static void line(void *opaque, uint64_t offset, const char *what, uint64_t index, json_t *fields)
{
    struct lines *l = opaque;

    if (l->json) {
        print_json(offset, what, index, fields, !l->any);
    } else {
        print_text(offset, what, index, fields);
    }
    l->any = true;
    json_decref(fields);
}

static co_fn int run(struct img *img)
{
    struct node *n = NULL;
    struct err err = {0};
    struct lines l = {.json = img->a.json};
    unsigned flags = OPEN_CHECK | OPEN_NO_BACKING | OPEN_NO_IO | (img->a.force_share ? OPEN_FORCE_SHARE : 0);

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags, &n) < 0) {
        return 1;
    }
    int r = n->drv->dump
                ? n->drv->dump(n, line, &l, &err)
                : err_set(&err, -ENOTSUP, "the format '%s' has no structures to dump", node_driver_name(n));
    if (l.json && r == 0) {
        printf("%s\n]\n", l.any ? "" : "[");
    }
    node_unref(n);
    if (r < 0) {
        img_error(img, "%s: %s", img->argv[0], err.text);
    }
    return r < 0 ? 1 : 0;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT, IMG_ARG_IMAGE_OPTS, IMG_ARG_OUTPUT_FORMAT, IMG_ARG_SHARE, IMG_ARG_COMMON, {0},
};

const struct img_command img_dump = {
    .name = "dump",
    .synopsis = "FILE",
    .summary = "Print every structure of an image, with its place in the file",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .run = run,
};
