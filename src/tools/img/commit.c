/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img commit: write an image's data into its backing file, or into one further down. The chain is opened
 * twice: once to see what it is made of, then with the one that is written to opened for writing.
 */
#include "base/json.h"
#include "block/driver.h"
#include "block/name.h"
#include "tools/img/img.h"

#define PIECE_BYTES (2 * MiB)

struct commit {
    struct img *img;
    unsigned depth;       /* of the base below the image: 1 is its backing file */
    bool uneven;          /* an image on the way is shorter: it decides the rest as well */
    json_t *base_options; /* of the base, and of the image over it */
    json_t *top_options;
    struct node *base, *top;
    struct img_progress progress;
    uint64_t started_ns;
};

/* ---- the chain ---- */

/* Two paths of one file. */
static bool same_file(const char *a, const char *b)
{
    AUTO_FREE char *x = realpath(a, NULL), *y = realpath(b, NULL);

    return strcmp(x ? x : a, y ? y : b) == 0;
}

/* A relative @name is relative to the folder of the image over @n, as it is inside that image. */
static bool is_named(const struct node *over, const struct node *n, const char *name)
{
    AUTO_FREE char *path = NULL;
    struct graph trusting = {.trust_image_names = true}; /* the user gave the name */

    return name_inside_image(&trusting, node_filename(over), name, "backing file", &path, NULL) == 0 &&
           same_file(path, node_filename(n));
}

/* The options that open @n over what @below says (NULL: what the image says). */
static json_t *options_over(const struct node *n, json_t *below)
{
    json_t *o = json_deep_copy(n->options);

    if (o && below) {
        json_object_set(o, "backing", below);
    }
    return o;
}

static json_t *nested_options(const struct node *n, unsigned depth, const char *base)
{
    AUTO_JSON json_t *below =
        depth == 1 ? json_string(base) : nested_options(node_child(n, "backing"), depth - 1, base);

    return below ? options_over(n, below) : NULL;
}

static int find_base(struct commit *c, struct node *top)
{
    const struct img *img = c->img;
    struct node *over = top, *n = node_child(top, "backing");

    if (!n) {
        img_error(img, "Image does not have a backing file");
        return -EINVAL;
    }
    for (c->depth = 1; n && img->a.backing && !is_named(over, n, img->a.backing); c->depth++) {
        c->uneven = c->uneven || node_size(n) < node_size(top);
        over = n;
        n = node_child(n, "backing");
    }
    if (!n) {
        img_error(img, "Did not find '%s' in the backing chain of '%s'", img->a.backing, img->argv[0]);
        return -EINVAL;
    }
    c->base_options = json_deep_copy(n->options);
    json_object_set_new(c->base_options, "node-name", json_string("commit-base"));
    c->top_options = nested_options(top, c->depth, "commit-base");
    return c->base_options && c->top_options ? 0 : -ENOMEM;
}

static co_fn int look(struct commit *c)
{
    struct img *img = c->img;
    struct node *top = NULL;
    int r = img_open(img, img->argv[0], img->a.format, img->a.image_opts, OPEN_WRITE, &top);

    r = r < 0 ? r : find_base(c, top);
    node_unref(top);
    return r;
}

static co_fn int open_chain(struct commit *c, unsigned flags)
{
    struct graph *g = &c->img->graph;
    struct err err = {0};
    int r = node_open(g, c->base_options, flags | OPEN_WRITE | OPEN_RESIZE | OPEN_UNMAP, &c->base, &err);

    if (r == 0) {
        r = node_open(g, c->top_options, flags | OPEN_WRITE | OPEN_UNMAP, &c->top, &err);
    }
    if (r < 0) {
        img_error(c->img, "Could not open '%s': %s", c->img->argv[0], err.text);
    }
    return r;
}

/* ---- the data ---- */

static co_fn void keep_rate(const struct commit *c, uint64_t done)
{
    uint64_t rate = c->img->a.rate, now_ns = loop_clock_ns();

    if (rate != IMG_NOT_GIVEN) {
        uint64_t due_ns = c->started_ns + (uint64_t)((double)done / (double)rate * (double)NS_PER_SEC);
        if (due_ns > now_ns) {
            co_sleep_ns(due_ns - now_ns);
        }
    }
}

static co_fn int copy_range(struct commit *c, uint64_t at, const struct extent *x, char *buf)
{
    if (x->zero) {
        return node_zero(c->base, at, x->bytes, REQ_UNMAP);
    }
    for (uint64_t done = 0; done < x->bytes;) {
        uint64_t part = MIN(x->bytes - done, PIECE_BYTES);
        keep_rate(c, at + done);
        int r = node_read(c->top, at + done, buf, part);
        r = r < 0 ? r : node_write(c->base, at + done, buf, part, 0);
        if (r < 0) {
            return r;
        }
        done += part;
    }
    return 0;
}

static co_fn int copy_all(struct commit *c)
{
    uint64_t size = node_size(c->top);
    char *buf = buf_get(PIECE_BYTES);
    int r = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < size;) {
        struct extent x;
        r = node_status(c->top, at, size - at, &x);
        if (r < 0) {
            break;
        }
        bool above = x.depth < c->depth && (x.allocated || x.depth > 0);
        if (above || c->uneven) {
            r = copy_range(c, at, &x, buf);
        }
        at += x.bytes;
        img_progress_add(&c->progress, x.bytes);
    }
    buf_put(buf, PIECE_BYTES);
    return r;
}

static co_fn int commit(struct commit *c)
{
    struct err err = {0};
    uint64_t size = node_size(c->top);
    int r = 0;

    img_progress_start(&c->progress, c->img->a.progress && !c->img->a.quiet, size, 1);
    c->started_ns = loop_clock_ns();
    if (node_size(c->base) < size) {
        r = node_truncate(c->base, size, 0, &err);
    }
    r = r < 0 ? r : copy_all(c);
    r = r < 0 ? r : node_flush(c->base); /* before anything of the image goes */
    img_progress_end(&c->progress, r == 0);
    if (r < 0) {
        const char *why = err.code ? err.text : err_name(r);
        if (c->img->t->standin) {
            img_error(c->img, "Block job failed: %s", why);
        } else {
            img_error(c->img, "Could not commit '%s': %s", c->img->argv[0], why);
        }
        return r;
    }
    if (!c->img->a.delete_base && !c->img->a.backing && c->top->drv->make_empty) {
        r = c->top->drv->make_empty(c->top);
        if (r < 0) {
            img_error(c->img, "Failed to empty %s: %s", c->img->argv[0], err_name(r));
        }
    }
    return r;
}

static co_fn int run(struct img *img)
{
    struct commit c = {.img = img};
    unsigned flags = 0;

    if (img->a.cache && img_cache_flags(img, img->a.cache, "cache option", &flags) < 0) {
        return 1;
    }
    int r = look(&c);
    r = r < 0 ? r : open_chain(&c, flags);
    r = r < 0 ? r : commit(&c);
    node_unref(c.top);
    node_unref(c.base);
    json_decref(c.base_options);
    json_decref(c.top_options);
    if (r == 0 && !img->a.quiet) {
        printf("Image committed.\n");
    }
    return r < 0 ? 1 : 0;
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
