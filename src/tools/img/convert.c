/* SPDX-License-Identifier: BSD-2-Clause */
/* img convert: copy images into one new (or, with -n, existing) image. */
#include "base/json.h"
#include "block/create.h"
#include "tools/img/copy.h"
#include "tools/img/target.h"

#define SPARSE_MAX      (16 * MiB) /* as qemu-img */
#define WORKERS_DEFAULT 8u
#define SOURCES_MAX     1024 /* images joined by one run: far beyond any real use */

struct convert {
    struct img *img;
    const char *target_name, *target_format;
    unsigned source_flags, target_flags;
    struct copy_source *sources;
    unsigned nsources;
    uint64_t total_bytes;
    struct img_target target;
    struct img_progress progress;
};

/* ---- the command line ---- */

static int refuse(const struct img *img, const char *sentence)
{
    img_error(img, "%s", sentence);
    return 1;
}

static int check_sparse(const struct img *img)
{
    uint64_t s = img->a.sparse_bytes;

    if (s != IMG_NOT_GIVEN && (s % SECTOR_SIZE != 0 || s > SPARSE_MAX)) {
        img_error(
            img,
            "Invalid buffer size for sparse output specified. Valid sizes are multiples of %u up to %" PRIu64
            ". Select 0 to disable sparse detection (fully allocates output).",
            SECTOR_SIZE, SPARSE_MAX);
        return 1;
    }
    return -1;
}

#define BACKING_OF_SEVERAL                                                                                   \
    "Having a backing file for the target makes no sense when concatenating multiple input images"

static int check_combinations(const struct img *img)
{
    const struct img_args *a = &img->a;

    if (a->target_is_zero && !a->no_create) {
        return refuse(img, "--target-is-zero requires use of -n flag");
    }
    if (a->target_image_opts && !a->no_create) {
        return refuse(img, "--target-image-opts requires use of -n flag");
    }
    if (a->target_image_opts && a->format2) {
        return refuse(img, "--image-opts and --format are mutually exclusive");
    }
    if (a->no_create && a->options) {
        return refuse(img, "-o has no effect when skipping image creation");
    }
    if (a->skip_broken && !a->bitmaps) {
        return refuse(img, "Use of --skip-broken-bitmaps requires --bitmaps");
    }
    if (a->bitmaps && img->argc > 2) {
        return refuse(img, "Copying bitmaps only possible with single source");
    }
    if (a->backing && img->argc > 2) {
        return refuse(img, BACKING_OF_SEVERAL);
    }
    if (a->offload && a->sparse_bytes != IMG_NOT_GIVEN) {
        return refuse(img, "Cannot enable copy offloading when -S is used");
    }
    if (a->offload && a->salvage) {
        return refuse(img, "Cannot use copy offloading in salvaging mode");
    }
    return check_sparse(img);
}

/* Abilities that belong to formats, asked of the driver that would need them. */
static int check_abilities(const struct img *img)
{
    const struct img_args *a = &img->a;
    const char *name = a->format2 ? a->format2 : "raw";
    const struct driver *d = driver_find(name);

    if (a->target_image_opts) {
        return -1;
    }
    if (d == NULL) {
        img_error(img, "Unknown file format '%s'", name);
        return 1;
    }
    if (a->compress && (d->format == NULL || d->format->write_compressed == NULL)) {
        return refuse(img, "Compression not supported for this file format");
    }
    if (a->backing && !option_find(d->create_options, "backing_file")) {
        img_error(img, "Backing file not supported for file format '%s'", name);
        return 1;
    }
    return -1;
}

/* -B and -F, or the same by -o. */
static int check_backing(const struct img *img, const struct creation *c)
{
    const struct img_args *a = &img->a;
    bool file = a->backing || creation_get(c, "backing_file");
    bool format = a->backing_format || creation_get(c, "backing_fmt");

    if (file && img->argc > 2) {
        return refuse(img, BACKING_OF_SEVERAL);
    }
    if (file && !format) {
        return refuse(img, "Use of backing file requires explicit backing format");
    }
    if (format && !file) {
        return refuse(img, "Backing format cannot be used without backing file");
    }
    return -1;
}

/* Wrong options are told before anything is opened or made. */
static int check_creation(const struct img *img)
{
    struct creation c;
    struct err err = {0};

    if (creation_init(&c, img->argv[img->argc - 1], img->a.format2 ? img->a.format2 : "raw", img->a.options,
                      &err) < 0) {
        img_error(img, "%s", err.text);
        return 1;
    }
    int status = check_backing(img, &c);
    creation_finish(&c);
    return status;
}

static int prepare(struct img *img)
{
    const char *format = img->a.format2 ? img->a.format2 : "raw";

    if (img_options_want_help(img->a.options)) {
        return img_print_options(img, img->argc > 0 ? img->argv[img->argc - 1] : NULL, format);
    }
    if (img->argc < 2) {
        img_error(img, "Must specify image file name");
        return img->t->standin ? 1 : 2;
    }
    if (img->argc - 1 > SOURCES_MAX) {
        return refuse(img, "At most 1024 images can be joined");
    }
    int status = check_combinations(img);
    if (status < 0) {
        status = check_abilities(img);
    }
    return status < 0 && !img->a.no_create ? check_creation(img) : status;
}

static int parse_caches(struct convert *v)
{
    const struct img_args *a = &v->img->a;
    int r = img_cache_flags(v->img, a->cache ? a->cache : "unsafe", "cache option", &v->target_flags);

    if (r == 0) {
        r = img_cache_flags(v->img, a->src_cache ? a->src_cache : "writeback", "source cache option",
                            &v->source_flags);
    }
    return r;
}

/* ---- the work ---- */

static bool has_bitmaps(const struct node *n)
{
    return n->drv->bitmap && n->drv->bitmap->supported(n);
}

/* -l: "snapshot.id=ID,snapshot.name=NAME", or an id or name. The strings are those of @options. */
static int parse_snapshot(const struct img *img, json_t *options, const char **ret_id, const char **ret_name)
{
    const char *key;
    json_t *v;

    json_object_foreach(options, key, v)
    {
        if (strcmp(key, "snapshot.id") == 0) {
            *ret_id = json_string_value(v);
        } else if (strcmp(key, "snapshot.name") == 0) {
            *ret_name = json_string_value(v);
        } else {
            img_error(img, "Invalid parameter '%s'", key);
            img_error(img, "Failed in parsing snapshot param '%s'", img->a.snapshot);
            return -EINVAL;
        }
    }
    return 0;
}

static co_fn int show_snapshot(struct convert *v)
{
    struct img *img = v->img;
    struct copy_source *s = &v->sources[0];
    const struct snapshot_ops *ops = s->node->drv->snapshot;
    const char *id = NULL, *name = img->a.snapshot;
    AUTO_JSON json_t *options = NULL;
    struct err err = {0};
    int r = 0;

    if (v->nsources > 1) {
        img_error(img, "No support for concatenating multiple snapshot");
        return -ENOTSUP;
    }
    if (strncmp(name, "snapshot.", 9) == 0) {
        r = json_from_keyvals(img->a.snapshot, NULL, &options, &err);
        if (r < 0) {
            img_error(img, "%s", err.text);
            return r;
        }
        name = NULL;
        r = parse_snapshot(img, options, &id, &name);
        if (r < 0) {
            return r;
        }
    }
    if (!ops) {
        r = err_set(&err, -ENOTSUP,
                    "Block format '%s' used by device '' does not support temporarily loading "
                    "internal snapshots",
                    node_driver_name(s->node));
    } else if (id || options) {
        r = ops->show(s->node, id, name, &err);
    } else { /* an id, or else a name */
        r = ops->show(s->node, name, NULL, &err);
        r = r == -ENOENT ? ops->show(s->node, NULL, name, &err) : r;
    }
    if (r < 0) {
        img_error(img, "Failed to load snapshot: %s", err.text);
        return r;
    }
    s->bytes = v->total_bytes = node_size(s->node);
    return 0;
}

static co_fn int open_sources(struct convert *v)
{
    struct img *img = v->img;

    for (int i = 0; i < img->argc - 1; i++) {
        struct copy_source *s = &v->sources[i];
        int r = img_open(img, img->argv[i], img->a.format, img->a.image_opts, v->source_flags, &s->node);
        if (r < 0) {
            return r;
        }
        s->at = v->total_bytes;
        s->bytes = node_size(s->node);
        v->nsources++;
        if (s->bytes > BLOCK_SIZE_MAX - v->total_bytes) {
            img_error(img, "The images together are larger than an image can be");
            return -EFBIG;
        }
        v->total_bytes += s->bytes;
    }
    if (img->a.bitmaps && !has_bitmaps(v->sources[0].node)) {
        img_error(img, "Source lacks bitmap support");
        return -ENOTSUP;
    }
    if (img->a.snapshot) {
        return show_snapshot(v);
    }
    return 0;
}

static co_fn int open_existing_target(struct convert *v)
{
    struct img *img = v->img;
    const char *format = img->a.target_image_opts ? NULL : v->target_format;
    int r = img_open(img, v->target_name, format, img->a.target_image_opts,
                     v->target_flags | OPEN_WRITE | OPEN_UNMAP, &v->target.node);

    if (r < 0) {
        return r;
    }
    v->target.zero = img->a.target_is_zero;
    v->target.backed = img->a.backing != NULL;
    if (node_size(v->target.node) < v->total_bytes) {
        img_error(img, "output file is smaller than input file");
        return -EINVAL;
    }
    return 0;
}

static co_fn int make_target(struct convert *v)
{
    struct err err = {0};
    int r = img_target_create(v->img, v->target_name, v->target_format, v->img->a.options, v->total_bytes,
                              v->target_flags | OPEN_UNMAP, &v->target, &err);

    if (r < 0) {
        img_error(v->img, "%s: error while converting %s: %s", v->target_name, v->target_format, err.text);
    }
    return r;
}

static co_fn int compress_setup(const struct convert *v, struct copy *c)
{
    const struct driver *d = v->target.node->drv;
    AUTO_JSON json_t *facts = d->image_info ? d->image_info(v->target.node) : NULL;
    json_int_t cluster = json_integer_value(json_object_get(facts, "cluster-size"));

    if (d->format == NULL || d->format->write_compressed == NULL || cluster <= 0) {
        return err_set(&c->err, -ENOTSUP, "Compression not supported for this file format");
    }
    c->compress_bytes = (uint64_t)cluster;
    if (c->sparse_bytes > 0) { /* a part of a cluster cannot be left out, and a whole one can */
        c->sparse_bytes = c->compress_bytes;
    }
    return 0;
}

/* An existing target may be longer than the sources: what is behind them is not touched. */
static co_fn int copy_all(struct convert *v)
{
    const struct img_args *a = &v->img->a;
    struct copy c = {
        .sources = v->sources,
        .nsources = v->nsources,
        .target = v->target.node,
        .total_bytes = v->total_bytes,
        .workers = a->workers != IMG_NOT_GIVEN ? (unsigned)a->workers : WORKERS_DEFAULT,
        .sparse_bytes = a->sparse_bytes != IMG_NOT_GIVEN ? a->sparse_bytes : COPY_SPARSE_DEFAULT,
        .bytes_per_s = a->rate != IMG_NOT_GIVEN ? a->rate : 0,
        .in_order = !a->out_of_order,
        .target_zero = v->target.zero,
        .same_backing = v->target.backed,
        .salvage = a->salvage,
        .img = v->img,
        .progress = &v->progress,
    };
    int r = a->compress ? compress_setup(v, &c) : 0;
    if (r == 0) {
        r = copy_run(&c);
    }
    if (r < 0) {
        img_error(v->img, "%s", c.err.text);
    }
    return r;
}

/* ---- bitmaps ---- */

static bool flagged(const json_t *bitmap, const char *flag)
{
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(bitmap, "flags"), i, f)
    {
        if (strcmp(json_string_value(f), flag) == 0) {
            return true;
        }
    }
    return false;
}

static co_fn int copy_bitmap(struct convert *v, const json_t *b, struct err *err)
{
    struct node *from = v->sources[0].node, *to = v->target.node;
    const char *name = json_string_value(json_object_get(b, "name"));
    struct bitmap_view view;
    int r = from->drv->bitmap->get(from, name, &view, err);

    r = r < 0 ? r : to->drv->bitmap->add(to, name, view.granularity, err);
    r = r < 0 ? r : to->drv->bitmap->merge(to, name, &view, err);
    return r < 0 || flagged(b, "auto") ? r : to->drv->bitmap->enable(to, name, false, err);
}

/* A broken one is told before anything is copied. */
static co_fn int check_bitmaps(struct convert *v)
{
    struct node *from = v->sources[0].node;
    AUTO_JSON json_t *list = from->drv->bitmap->list(from);
    size_t i;
    json_t *b;

    if (!has_bitmaps(v->target.node)) {
        img_error(v->img, "Format driver '%s' does not support bitmaps", node_driver_name(v->target.node));
        return -ENOTSUP;
    }
    json_array_foreach(list, i, b)
    {
        if (flagged(b, "in-use") && !v->img->a.skip_broken) {
            img_error(v->img,
                      "Cannot copy inconsistent bitmap '%s'; Try --skip-broken-bitmaps, or use "
                      "'img bitmap --remove'",
                      json_string_value(json_object_get(b, "name")));
            return -EINVAL;
        }
    }
    return 0;
}

static co_fn int copy_bitmaps(struct convert *v)
{
    struct node *from = v->sources[0].node, *to = v->target.node;
    AUTO_JSON json_t *list = from->drv->bitmap->list(from);
    struct err err = {0};
    size_t i;
    json_t *b;
    int r = 0;

    json_array_foreach(list, i, b)
    {
        const char *name = json_string_value(json_object_get(b, "name"));
        if (flagged(b, "in-use")) {
            img_error(v->img, "warning: Skipping inconsistent bitmap '%s'", name);
            continue;
        }
        r = copy_bitmap(v, b, &err);
        if (r < 0) {
            img_error(v->img, "Failed to populate bitmap %s: %s", name, err.text);
            return r;
        }
    }
    r = to->drv->bitmap->store(to, &err);
    if (r < 0) {
        img_error(v->img, "%s", err.text);
    }
    return r;
}

static co_fn int convert(struct convert *v)
{
    struct err err = {0};
    int r = parse_caches(v);

    if (r < 0 || (r = open_sources(v)) < 0) {
        return r;
    }
    img_progress_start(&v->progress, v->img->a.progress && !v->img->a.quiet, v->total_bytes, 1);
    r = v->img->a.no_create ? open_existing_target(v) : make_target(v);
    if (r == 0 && v->img->a.bitmaps) {
        r = check_bitmaps(v);
    }
    r = r < 0 ? r : copy_all(v);
    if (r == 0 && v->img->a.bitmaps) {
        r = copy_bitmaps(v);
    }
    if (r == 0) {
        r = img_target_commit(&v->target, &err);
        if (r < 0) {
            img_error(v->img, "%s: %s", v->target_name, err.text);
        }
    }
    img_progress_end(&v->progress, r == 0);
    return r;
}

static co_fn int run(struct img *img)
{
    struct convert v = {
        .img = img,
        .target_name = img->argv[img->argc - 1],
        .target_format = img->a.format2 ? img->a.format2 : "raw",
        .sources = calloc((size_t)img->argc, sizeof(struct copy_source)),
    };

    if (v.sources == NULL) {
        img_error(img, "no memory for the list of images");
        return 1;
    }
    int r = convert(&v);
    img_target_end(&v.target);
    for (unsigned i = 0; i < v.nsources; i++) {
        node_unref(v.sources[i].node);
    }
    free(v.sources);
    return r < 0 ? 1 : 0;
}

#define WORKERS_WRONG "Invalid number of coroutines. Allowed number of coroutines is between 1 and 16"

static const struct img_arg args[] = {
    {'f', "source-format", IMG_ARG_STRING, IMG_FIELD(format), "FORMAT",
     "format of the sources (default: probed)"},
    {'O', "target-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT",
     "format of the target (default raw)"},
    IMG_ARG_OPTIONS,
    {'n', "no-create", IMG_ARG_FLAG, IMG_FIELD(no_create), NULL, "write into an existing target, in place"},
    {0, "target-is-zero", IMG_ARG_FLAG, IMG_FIELD(target_is_zero), NULL,
     "with -n: the target reads as zeroes already"},
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    {'m', "parallel", IMG_ARG_NUMBER, IMG_FIELD(workers), "N",
     "pieces in work at a time, 1 to 16 (default 8)", WORKERS_WRONG, 1, COPY_WORKERS_MAX},
    {'W', "oob", IMG_ARG_FLAG, IMG_FIELD(out_of_order), NULL,
     "write in any order: faster where seeking is cheap"},
    {'S', "sparse-size", IMG_ARG_SIZE, IMG_FIELD(sparse_bytes), "SIZE",
     "runs of zeroes of this size become holes (default 4k); 0: write all", "buffer size for sparse output"},
    {'r', "rate-limit", IMG_ARG_SIZE, IMG_FIELD(rate), "RATE", "at most so many bytes per second",
     "rate limit", 1, 0},
    {0, "salvage", IMG_ARG_FLAG, IMG_FIELD(salvage), NULL,
     "go on after read errors: what is unreadable is zero"},
    IMG_ARG_CACHE,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    {0, "target-image-opts", IMG_ARG_FLAG, IMG_FIELD(target_image_opts), NULL,
     "with -n: the target's name is options"},
    {'c', "compress", IMG_ARG_FLAG, IMG_FIELD(compress), NULL, "compress, where the target's format can"},
    {'C', "copy-range-offloading", IMG_ARG_FLAG, IMG_FIELD(offload), NULL,
     "accepted as qemu-img's; the data is read and written as always"},
    {'B', "backing", IMG_ARG_STRING, IMG_FIELD(backing), "FILE",
     "backing file of the target; must have what the source's has"},
    {'F', "backing-format", IMG_ARG_STRING, IMG_FIELD(backing_format), "FORMAT", "its format"},
    {'l', "snapshot", IMG_ARG_STRING, IMG_FIELD(snapshot), "SNAPSHOT",
     "read this internal snapshot of the source"},
    {0, "bitmaps", IMG_ARG_FLAG, IMG_FIELD(bitmaps), NULL, "copy persistent bitmaps"},
    {0, "skip-broken-bitmaps", IMG_ARG_FLAG, IMG_FIELD(skip_broken), NULL,
     "with --bitmaps: leave out those that are inconsistent"},
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_convert = {
    .name = "convert",
    .synopsis = "SOURCE... TARGET",
    .summary = "Copy images, one behind the other, into a new one",
    .args = args,
    .max_operands = -1,
    .operands_wrong = "Must specify image file name",
    .prepare = prepare,
    .run = run,
};
