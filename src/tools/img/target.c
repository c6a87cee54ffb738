/* SPDX-License-Identifier: BSD-2-Clause */
/* Making the image that convert and dd write, and the text of -o help. */
#include "tools/img/target.h"

#include "block/create.h"

static const char *type_word(const struct option *o)
{
    switch (o->type) {
    case OPT_BOOL:
        return "bool (on/off)";
    case OPT_SIZE:
        return "size";
    case OPT_UINT:
        return "num";
    default:
        return "str";
    }
}

#define OPTIONS_MAX 64 /* of a format and a protocol together: several times any driver's */

struct option_list {
    const struct option *rows[OPTIONS_MAX];
    unsigned n;
};

static void collect(struct option_list *list, const struct option *table)
{
    for (const struct option *o = table; o && o->type != OPT_END && list->n < OPTIONS_MAX; o++) {
        list->rows[list->n++] = o;
    }
}

static int by_name(const void *a, const void *b)
{
    const struct option *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void print_rows(struct option_list *list)
{
    qsort(list->rows, list->n, sizeof(list->rows[0]), by_name);
    for (unsigned i = 0; i < list->n; i++) {
        char left[80];
        snprintf(left, sizeof(left), "%s=<%s>", list->rows[i]->name, type_word(list->rows[i]));
        printf("  %-22s - %s\n", left, list->rows[i]->help ? list->rows[i]->help : "");
    }
}

void img_print_option_rows(const struct option *table)
{
    struct option_list list = {.n = 0};

    collect(&list, table);
    print_rows(&list);
}

int img_print_options(struct img *img, const char *filename, const char *format)
{
    static const struct option size[] = {{"size", OPT_SIZE, .help = "Virtual disk size"}, {0}};
    struct option_list list = {.n = 0};
    struct creation c;
    struct err err = {0};

    if (creation_find(&c, filename, format, &err) < 0) {
        img_error(img, "%s", err.text);
        return 1;
    }
    collect(&list, c.format && option_find(c.format->create_options, "size") ? NULL : size);
    collect(&list, c.format ? c.format->create_options : NULL);
    collect(&list, c.protocol ? c.protocol->create_options : NULL);
    printf(filename ? "Supported options:\n" : "Supported %s options:\n", format);
    print_rows(&list);
    if (!filename) {
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    }
    return 0;
}

/* -B and -F of convert are options of formats that have a backing file. */
static int set_backing(const struct img_args *a, struct creation *c, struct err *err)
{
    int r = a->backing ? creation_set(c, "backing_file", a->backing, err) : 0;

    return r == 0 && a->backing_format ? creation_set(c, "backing_fmt", a->backing_format, err) : r;
}

static co_fn int create_and_open(struct img *img, struct creation *c, const char *format, unsigned flags,
                                 struct img_target *t, struct err *err)
{
    int r = creation_run(c, &img->graph, t->pending.name, err);
    if (r == 0) {
        r = node_open_name(&img->graph, t->pending.name, format, flags | OPEN_WRITE, &t->node, err);
    }
    const char *backing = creation_get(c, "backing_file");
    t->backed = backing && *backing;
    t->zero = t->pending.final != NULL && !t->backed; /* a file that did not exist before, nothing below */
    return r;
}

int img_target_create(struct img *img, const char *name, const char *format, const char *options,
                      uint64_t size, unsigned flags, struct img_target *ret, struct err *err)
{
    struct img_target t = {0};
    struct creation c;
    int r = creation_init(&c, name, format, options, err);
    if (r < 0) {
        return r;
    }
    c.size = size;
    c.has_size = true;
    r = set_backing(&img->a, &c, err);
    if (r == 0) {
        r = img_pending_begin(img, name, &t.pending, err);
    }
    if (r == 0) {
        r = create_and_open(img, &c, format, flags, &t, err);
        if (r < 0) {
            img_pending_error(&t.pending, err);
        }
    }
    creation_finish(&c);
    if (r < 0) {
        img_target_end(&t);
        return r;
    }
    *ret = t;
    return 0;
}

int img_target_commit(struct img_target *t, struct err *err)
{
    int r = node_flush(t->node);
    if (r < 0) {
        return err_set_errno(err, r, "error while flushing");
    }
    node_unref(TAKE_PTR(t->node));
    return img_pending_commit(&t->pending, err);
}

void img_target_end(struct img_target *t)
{
    node_unref(TAKE_PTR(t->node));
    img_pending_end(&t->pending);
}
