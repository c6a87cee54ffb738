/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img check: look for damage in the metadata of an image, and repair it. The format's driver does both; here
 * are the words and the exit statuses, which are qemu-img's.
 */
#include "tools/img/img.h"

#include "block/driver.h"

#define LINES_MAX 100000u /* problems told one by one: a hostile image has no end of them */

enum { CHECK_OK = 0, CHECK_INCOMPLETE = 1, CHECK_CORRUPT = 2, CHECK_LEAKY = 3 };

static int prepare(struct img *img)
{
    const char *repair = img->a.repair;

    if (repair != NULL && strcmp(repair, "leaks") != 0 && strcmp(repair, "all") != 0) {
        return img_usage_error(img, "-r option expects 'leaks' or 'all'");
    }
    return -1;
}

/* ---- problems, one by one ---- */

struct lines {
    const struct img *img;
    uint64_t told;
};

static void tell(void *opaque, const struct check_problem *p)
{
    struct lines *l = opaque;

    if (++l->told > LINES_MAX) {
        return;
    }
    if (!l->img->t->standin && p->severity != CHECK_NOTE && p->offset != UINT64_MAX) {
        fprintf(stderr, "%s (at %#" PRIx64 ": %s)\n", p->sentence, p->offset, p->code);
    } else {
        fprintf(stderr, "%s\n", p->sentence);
    }
}

static void tell_rest(const struct lines *l)
{
    if (l->told > LINES_MAX) {
        fprintf(stderr, "... and %" PRIu64 " more\n", l->told - LINES_MAX);
    }
}

/* ---- the result ---- */

static void print_counts(const struct check_result *c)
{
    if (!c->corruptions && !c->leaks && !c->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (c->corruptions) {
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               c->corruptions);
    }
    if (c->leaks) {
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               c->leaks);
    }
    if (c->check_errors) {
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", c->check_errors);
    }
}

static double percent(uint64_t part, uint64_t whole)
{
    return (double)part * 100.0 / (double)whole;
}

static void print_human(const struct check_result *c)
{
    print_counts(c);
    if (c->total_clusters && c->allocated_clusters) {
        printf("%" PRIu64 "/%" PRIu64
               " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               c->allocated_clusters, c->total_clusters, percent(c->allocated_clusters, c->total_clusters),
               percent(c->fragmented_clusters, c->allocated_clusters),
               percent(c->compressed_clusters, c->allocated_clusters));
    }
    if (c->image_end) {
        printf("Image end offset: %" PRIu64 "\n", c->image_end);
    }
}

static void print_json(struct node *n, const char *filename, const struct check_result *c)
{
    const struct {
        const char *name;
        uint64_t value;
        bool always;
    } rows[] = {
        {"image-end-offset", c->image_end, false},
        {"total-clusters", c->total_clusters, false},
        {"allocated-clusters", c->allocated_clusters, false},
        {"fragmented-clusters", c->fragmented_clusters, false},
        {"compressed-clusters", c->compressed_clusters, false},
        {"check-errors", c->check_errors, true},
        {"corruptions", c->corruptions, false},
        {"corruptions-fixed", c->corruptions_fixed, false},
        {"leaks", c->leaks, false},
        {"leaks-fixed", c->leaks_fixed, false},
    };
    json_t *j = json_object();

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].value || rows[i].always) {
            json_object_set_new(j, rows[i].name, json_integer((json_int_t)rows[i].value));
        }
    }
    json_object_set_new(j, "filename", img_json_string(filename));
    json_object_set_new(j, "format", json_string(node_driver_name(n)));
    img_print_json(j);
    json_decref(j);
}

/* ---- running ---- */

static unsigned fixes(const struct img *img)
{
    if (!img->a.repair) {
        return 0;
    }
    return strcmp(img->a.repair, "all") == 0 ? CHECK_FIX_LEAKS | CHECK_FIX_ERRORS : CHECK_FIX_LEAKS;
}

/* Check; if something was repaired, look again. */
static co_fn int check_node(struct img *img, struct node *n, struct check_result *ret)
{
    const struct check_ops *ops = n->drv->check;
    struct lines l = {.img = img};
    int r = ops->check(n, fixes(img), tell, &l, ret);
    uint64_t corruptions = ret->corruptions_fixed, leaks = ret->leaks_fixed;

    tell_rest(&l);
    if (r < 0 || !(corruptions || leaks)) {
        return r;
    }
    if (!img->a.json && !img->a.quiet) {
        printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64
               " leaked clusters\n    %" PRIu64 " corruptions\n\nDouble checking the fixed image now...\n",
               leaks, corruptions);
    }
    l.told = 0;
    r = ops->check(n, 0, tell, &l, ret);
    tell_rest(&l);
    ret->corruptions_fixed = corruptions;
    ret->leaks_fixed = leaks;
    return r;
}

static co_fn int check_and_print(struct img *img, struct node *n)
{
    struct check_result c = {0};
    int r = check_node(img, n, &c);

    if (r == 0 && img->a.json && !img->a.quiet) {
        print_json(n, img->argv[0], &c);
    } else if (r == 0 && !img->a.quiet) {
        print_human(&c);
    }
    if (r < 0 || c.check_errors) {
        fflush(stdout);
        img_error(img, r < 0 ? "Check failed: %s" : "Check failed", err_name(r));
        return CHECK_INCOMPLETE;
    }
    return c.corruptions ? CHECK_CORRUPT : c.leaks ? CHECK_LEAKY : CHECK_OK;
}

static co_fn int run(struct img *img)
{
    unsigned flags = 0;
    struct node *n = NULL;

    if (img->a.src_cache && img_cache_flags(img, img->a.src_cache, "source cache option", &flags) < 0) {
        return 1;
    }
    flags |= OPEN_CHECK | (img->a.repair ? OPEN_WRITE | OPEN_RESIZE : 0);
    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags, &n) < 0) {
        return 1;
    }
    int status = IMG_UNSUPPORTED;
    if (n->drv->check) {
        status = check_and_print(img, n);
    } else {
        img_error(img, "This image format does not support checks");
    }
    node_unref(n);
    return status;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    {'r', "repair", IMG_ARG_STRING, IMG_FIELD(repair), "leaks|all",
     "repair what is found: only leaked clusters, or everything"},
    IMG_ARG_OUTPUT_FORMAT,
    IMG_ARG_QUIET,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_check = {
    .name = "check",
    .synopsis = "IMAGE",
    .summary = "Look for damage in an image's metadata",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .prepare = prepare,
    .run = run,
};
