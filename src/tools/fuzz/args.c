/* SPDX-License-Identifier: BSD-2-Clause */
/* Options about images, which several commands share. */
#include "base/size.h"
#include "tools/fuzz/fuzz.h"

void fuzz_args_init(struct fuzz_args *a)
{
    *a = (struct fuzz_args){0};
    fuzz_config_init(&a->config);
}

void fuzz_args_free(struct fuzz_args *a)
{
    fuzz_config_finish(&a->config);
}

int fuzz_number(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno || end == text || *end || *text == '-') {
        return -EINVAL;
    }
    *ret = v;
    return 0;
}

static int list_formats(void)
{
    for (int i = 0; fuzz_formats[i]; i++) {
        printf("%-12s %s\n", fuzz_formats[i]->name, fuzz_formats[i]->summary);
    }
    return -ECANCELED;
}

static int list_recipes(const struct fuzz_format *format, struct err *err)
{
    if (!format) {
        return err_set(err, -EINVAL, "--recipe=help: give --format first");
    }
    for (const struct fuzz_recipe *r = format->recipes; r && r->id; r++) {
        printf("%-36s %s\n", r->id, r->summary);
    }
    return -ECANCELED;
}

static int take_format(struct fuzz_args *a, const char *name, struct err *err)
{
    if (strcmp(name, "help") == 0) {
        return list_formats();
    }
    a->format = fuzz_format_find(name);
    return a->format
               ? 1
               : err_set(err, -EINVAL, "unknown format '%s' (--format=help lists those there are)", name);
}

static int take_copy(char **place, const char *text, struct err *err)
{
    free(*place);
    *place = strdup(text);
    return *place ? 1 : err_set(err, -ENOMEM, "no memory for options");
}

static int take_percent(struct fuzz_args *a, const char *arg, struct err *err)
{
    uint64_t n;

    if (fuzz_number(arg, &n) < 0 || n > 100) {
        return err_set(err, -EINVAL, "--recipes=%s: expected a number from 0 to 100", arg);
    }
    a->config.recipes = (unsigned)n;
    return 1;
}

static int take_limit(struct fuzz_args *a, const char *arg, struct err *err)
{
    if (size_parse(arg, &a->config.limit) < 0 || a->config.limit < FUZZ_LIMIT_MIN ||
        a->config.limit > FUZZ_LIMIT_MAX) {
        return err_set(err, -EINVAL, "--limit=%s: expected a size from 10M to 1G", arg);
    }
    return 1;
}

int fuzz_args_take(struct fuzz_args *a, int opt, const char *arg, struct err *err)
{
    int r;

    switch (opt) {
    case FUZZ_OPT_FORMAT:
        return take_format(a, arg, err);
    case FUZZ_OPT_VALID:
        a->config.valid = true;
        return 1;
    case FUZZ_OPT_BIAS:
        r = fuzz_config_bias(&a->config, arg, err);
        return r < 0 ? r : 1;
    case FUZZ_OPT_CONFIG:
        if (a->texts == FUZZ_CONFIG_TEXTS_MAX) {
            return err_set(err, -E2BIG, "--config is given too often");
        }
        a->text[a->texts++] = arg;
        return 1;
    case FUZZ_OPT_RECIPE:
        return strcmp(arg, "help") == 0 ? list_recipes(a->format, err)
                                        : take_copy(&a->config.recipe, arg, err);
    case FUZZ_OPT_RECIPES:
        return take_percent(a, arg, err);
    case FUZZ_OPT_LIMIT:
        return take_limit(a, arg, err);
    case FUZZ_OPT_DECOY:
        return take_copy(&a->config.decoy, arg, err);
    default:
        return 0;
    }
}

int fuzz_args_finish(struct fuzz_args *a, struct err *err)
{
    for (unsigned i = 0; i < a->texts; i++) {
        int r = fuzz_config_add(&a->config, a->format, a->text[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
