/* SPDX-License-Identifier: BSD-2-Clause */
/* img snapshot: snapshots inside an image. */
#include <time.h>

#include "base/json.h"
#include "base/size.h"
#include "block/driver.h"
#include "tools/img/img.h"

/* ---- the table that also info prints ---- */

static uint64_t number(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

static const char *word(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void print_snapshot(const json_t *s, unsigned columns)
{
    char size[SIZE_TEXT_MAX], date[32] = "", icount[24] = "";
    time_t t = (time_t)number(s, "date-sec");
    uint64_t clock_s = number(s, "vm-clock-sec");
    struct tm tm;

    if (localtime_r(&t, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    if (json_object_get(s, "icount")) {
        snprintf(icount, sizeof(icount), "%" PRIu64, number(s, "icount"));
    }
    char clock[48];
    snprintf(clock, sizeof(clock), "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64, clock_s / 3600,
             clock_s / 60 % 60, clock_s % 60, number(s, "vm-clock-nsec") / 1000000);
    printf("%*s%-9s %-16s %8s%20s%13s%11s\n", (int)columns, "", word(s, "id"), word(s, "name"),
           size_text_short(number(s, "vm-state-size"), size), date, clock, icount);
}

void img_print_snapshots(const json_t *list, unsigned columns)
{
    size_t i;
    json_t *s;

    if (json_array_size(list) == 0) {
        return;
    }
    printf("%*sSnapshot list:\n", (int)columns, "");
    printf("%*s%-9s %-16s %8s%20s%13s%11s\n", (int)columns, "", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
           "ICOUNT");
    json_array_foreach(list, i, s)
    {
        print_snapshot(s, columns);
    }
}

/* ---- the command ---- */

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

static struct snapshot_time now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (struct snapshot_time){(uint64_t)t.tv_sec, (uint32_t)(t.tv_nsec / 1000 * 1000)}; /* as QEMU's */
}

static co_fn int create(const struct img *img, struct node *n, const char *name)
{
    const struct snapshot_ops *ops = n->drv->snapshot;
    const struct snapshot_time t = now();
    int r = ops ? ops->create(n, name, &t) : -ENOTSUP;

    if (r < 0) {
        img_error(img, "Could not create snapshot '%s': %s", name, err_name(r));
    }
    return r;
}

static co_fn int apply(const struct img *img, struct node *n, const char *name)
{
    const struct snapshot_ops *ops = n->drv->snapshot;
    struct err err = {0};
    int r =
        ops ? ops->apply(n, name, &err) : err_set(&err, -ENOTSUP, "Block driver does not support snapshots");

    if (r < 0) {
        img_error(img, "Could not apply snapshot '%s': %s", name, err.text);
    }
    return r;
}

static bool exists(struct node *n, const char *name)
{
    AUTO_JSON json_t *list = n->drv->snapshot ? n->drv->snapshot->list(n) : NULL;
    bool found = false;
    size_t i;
    json_t *s;

    json_array_foreach(list, i, s)
    {
        const char *has = json_string_value(json_object_get(s, "name"));
        found = found || (has && strcmp(has, name) == 0);
    }
    return found;
}

static co_fn int delete (const struct img *img, struct node *n, const char *name)
{
    struct err err = {0};

    if (!exists(n, name)) {
        img_error(img, "Could not delete snapshot '%s': snapshot not found", name);
        return -ENOENT;
    }
    int r = n->drv->snapshot->delete (n, NULL, name, &err);
    if (r < 0) {
        img_error(img, "Could not delete snapshot '%s': %s", name, err.text);
    }
    return r;
}

static co_fn int list(struct node *n)
{
    AUTO_JSON json_t *l = n->drv->snapshot ? n->drv->snapshot->list(n) : NULL;

    img_print_snapshots(l, 0);
    return 0;
}

static co_fn int run(struct img *img)
{
    const struct img_args *a = &img->a;
    bool writes = a->snapshot_create || a->snapshot_apply || a->snapshot_delete;
    struct node *n = NULL;

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, writes ? OPEN_WRITE | OPEN_UNMAP : 0,
                 &n) < 0) {
        return 1;
    }
    int r = a->snapshot_create   ? create(img, n, a->snapshot_create)
            : a->snapshot_apply  ? apply(img, n, a->snapshot_apply)
            : a->snapshot_delete ? delete (img, n, a->snapshot_delete)
                                 : list(n);
    if (r == 0 && writes) {
        r = node_flush(n);
        if (r < 0) {
            img_error(img, "Could not flush '%s': %s", img->argv[0], err_name(r));
        }
    }
    node_unref(n);
    return r < 0 ? 1 : 0;
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
