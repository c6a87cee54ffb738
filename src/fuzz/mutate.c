/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which field becomes hostile: parts and fields have weights, tables are hit where they are in use, and the
 * configuration may leave only some paths. How it becomes hostile is operators.c. Known-bad recipes take the
 * place of all this in some of the images.
 */
#include <stdio.h>

#include "base/size.h"
#include "fuzz/internal.h"

#define WEIGHT_DEFAULT  10
#define WEIGHT_MAGIC    1
#define WEIGHT_RESERVED 3

struct fuzz_mutation *fuzz_mutation_add(struct fuzz_image *img, struct fuzz_mutation m)
{
    if (img->mutations >= FUZZ_MUTATIONS_MAX) {
        return NULL;
    }
    img->mutation[img->mutations] = m;
    return &img->mutation[img->mutations++];
}

void fuzz_image_drop(struct fuzz_image *img, unsigned mutation)
{
    assert(mutation < img->mutations);
    img->mutations--;
    memmove(&img->mutation[mutation], &img->mutation[mutation + 1],
            (img->mutations - mutation) * sizeof(*img->mutation));
}

/* ---- weights ---- */

static unsigned default_weight(const struct field *f)
{
    return f->kind == FIELD_MAGIC      ? WEIGHT_MAGIC
           : f->kind == FIELD_RESERVED ? WEIGHT_RESERVED
                                       : WEIGHT_DEFAULT;
}

static unsigned field_weight(const struct fuzz_image *img, const struct fuzz_part *p, const struct field *f)
{
    const struct fuzz_format *format = img->file[p->file].format;
    int whole = 0;

    for (const struct fuzz_weight *w = format ? format->weights : NULL; w && w->layout; w++) {
        if (w->layout == p->layout && !w->field) {
            whole = w->weight;
        }
        if (w->layout == p->layout && w->field && strcmp(w->field, f->name) == 0) {
            return w->weight < 0 ? 0 : (unsigned)w->weight;
        }
    }
    return whole < 0 ? 0 : whole ? (unsigned)whole : default_weight(f);
}

static bool can_change(const struct fuzz_part *p, const struct field *f)
{
    return f->kind == FIELD_BYTES ? f->width > 0 && f->offset + f->width <= p->bytes : fuzz_field_there(p, f);
}

/* Files beside the image matter less. */
static unsigned part_weight(const struct fuzz_part *p)
{
    return p->bytes == 0 ? 0 : p->file == 0 ? p->weight * 4 : p->weight;
}

/* ---- choosing ---- */

static int choose_part(const struct fuzz_image *img, struct rng *rng)
{
    uint64_t total = 0;

    for (int i = 1; i < img->parts; i++) {
        total += part_weight(&img->part[i]);
    }
    uint64_t at = total ? rng_below(rng, total) : 0;
    for (int i = 1; i < img->parts && total; i++) {
        unsigned w = part_weight(&img->part[i]);
        if (at < w) {
            return i;
        }
        at -= w;
    }
    return 0;
}

/* Mostly one that is not zero, among those in use. */
static uint32_t choose_element(const struct fuzz_image *img, int part, struct rng *rng)
{
    const struct fuzz_part *p = &img->part[part];

    if (!p->element || p->count == 0) {
        return 0;
    }
    uint32_t n = rng_below(rng, 16) ? p->used : p->count, element = 0;
    for (int tries = 0; tries < 6; tries++) {
        element = (uint32_t)rng_below(rng, n);
        const struct field *first = p->layout ? &p->layout->fields[0] : NULL;
        if (!first || !fuzz_field_there(p, first) || fuzz_value(img, part, element, first)) {
            break;
        }
    }
    return element;
}

static const struct field *choose_field(const struct fuzz_image *img, const struct fuzz_part *p,
                                        struct rng *rng)
{
    uint64_t total = 0;

    for (const struct field *f = p->layout ? p->layout->fields : NULL; f && f->name; f++) {
        total += can_change(p, f) ? field_weight(img, p, f) : 0;
    }
    uint64_t at = total ? rng_below(rng, total) : 0;
    for (const struct field *f = p->layout ? p->layout->fields : NULL; total && f->name; f++) {
        unsigned w = can_change(p, f) ? field_weight(img, p, f) : 0;
        if (at < w) {
            return f;
        }
        at -= w;
    }
    return NULL;
}

static bool choose_any(const struct fuzz_image *img, struct rng *rng, struct fuzz_target *t)
{
    for (int tries = 0; tries < 8; tries++) {
        t->part = choose_part(img, rng);
        t->element = t->part ? choose_element(img, t->part, rng) : 0;
        t->field = t->part ? choose_field(img, &img->part[t->part], rng) : NULL;
        if (t->part && (t->field || !img->part[t->part].layout)) {
            return true;
        }
    }
    return false;
}

/* ---- choosing within the configuration: one look at everything, each kept with its share of the weight so
 * far ---- */

struct draw {
    const struct fuzz_image *img;
    struct rng *rng;
    bool by_element; /* some path names an index */
    uint64_t total;
    struct fuzz_target target;
};

static void offer(struct draw *d, int part, uint32_t element, const struct field *f, unsigned weight)
{
    d->total += weight;
    if (weight && rng_below(d->rng, d->total) < weight) {
        d->target = (struct fuzz_target){part, element, f};
    }
}

/* A field, or raw bytes. What a path names is taken even if its weight says never. */
static void offer_field(struct draw *d, int part, const struct field *f)
{
    const struct fuzz_part *p = &d->img->part[part];
    const struct fuzz_config *c = d->img->config;
    unsigned weight = f ? MAX(field_weight(d->img, p, f), 1u) : WEIGHT_DEFAULT;
    char path[FUZZ_PATH_MAX], plain[FUZZ_PATH_MAX];

    fuzz_path_plain(d->img, part, p->element ? 0 : UINT32_MAX, f, plain);
    if (!d->by_element) {
        if (fuzz_config_allows(c, plain, plain)) {
            offer(d, part, choose_element(d->img, part, d->rng), f, weight);
        }
        return;
    }
    for (uint32_t i = 0; i < MAX(p->used, 1u); i++) {
        fuzz_path(d->img, part, p->element ? i : UINT32_MAX, f, path);
        if (fuzz_config_allows(c, path, plain)) {
            offer(d, part, i, f, weight);
        }
    }
}

static bool choose_allowed(const struct fuzz_image *img, struct rng *rng, struct fuzz_target *t)
{
    struct draw d = {.img = img, .rng = rng};

    for (size_t i = 0; i < img->config->nglobs; i++) {
        d.by_element = d.by_element || strchr(img->config->globs[i], '[');
    }
    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        for (const struct field *f = p->layout ? p->layout->fields : NULL; f && f->name; f++) {
            if (can_change(p, f)) {
                offer_field(&d, i, f);
            }
        }
        if (!p->layout && p->bytes) {
            offer_field(&d, i, NULL);
        }
    }
    *t = d.target;
    return d.total > 0;
}

bool fuzz_target_choose(const struct fuzz_image *img, struct rng *rng, struct fuzz_target *t)
{
    return img->config->nglobs ? choose_allowed(img, rng, t) : choose_any(img, rng, t);
}

/* ---- the list ---- */

void fuzz_image_mutate(struct fuzz_image *img, struct rng *rng, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        fuzz_operate(img, rng);
    }
}

/* Every field of everything in use, with this probability. */
static void mutate_share(struct fuzz_image *img, struct rng *rng, unsigned percent)
{
    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        for (uint32_t k = 0; k < MAX(p->used, 1u); k++) {
            for (const struct field *f = p->layout ? p->layout->fields : NULL; f && f->name; f++) {
                char path[FUZZ_PATH_MAX], plain[FUZZ_PATH_MAX];
                if (!can_change(p, f) || rng_below(rng, 100) >= percent) {
                    continue;
                }
                fuzz_path(img, i, k, f, path);
                fuzz_path_plain(img, i, k, f, plain);
                if (fuzz_config_allows(img->config, path, plain)) {
                    fuzz_operate_on(img, rng, &(struct fuzz_target){i, k, f});
                }
            }
        }
    }
}

void fuzz_mutations_make(struct fuzz_image *img, struct rng *rng)
{
    const struct fuzz_config *c = img->config;

    if (img->recipe) {
        img->recipe->make(img);
    } else if (c->percent) {
        mutate_share(img, rng, c->percent);
    }
    if (img->mutations == 0) { /* also where the layout has nothing that the recipe is about */
        fuzz_image_mutate(img, rng, 1 + (unsigned)rng_below(rng, c->fields ? c->fields : 1));
    }
}

/* ---- recipes ---- */

void fuzz_set(struct fuzz_image *img, int part, uint32_t element, const char *field, uint64_t value)
{
    const struct fuzz_part *p = &img->part[part];
    const struct field *f = part && p->layout ? layout_field(p->layout, field) : NULL;

    if (f && fuzz_field_there(p, f) && element < MAX(p->count, 1u)) {
        value &= fuzz_field_max(p, f);
        fuzz_mutation_add(img, (struct fuzz_mutation){.what = FUZZ_SET,
                                                      .op = "recipe",
                                                      .part = part,
                                                      .element = element,
                                                      .field = f,
                                                      .file = p->file,
                                                      .before = fuzz_value(img, part, element, f),
                                                      .after = value});
    }
}

void fuzz_set_bytes(struct fuzz_image *img, int part, uint64_t at, const void *bytes, uint32_t len)
{
    struct fuzz_mutation m = {.what = FUZZ_BYTES, .op = "recipe", .part = part, .after = at};

    m.len = MIN(len, (uint32_t)FUZZ_BYTES_MAX);
    memcpy(m.bytes, bytes, m.len);
    if (part) {
        fuzz_mutation_add(img, m);
    }
}

void fuzz_truncate(struct fuzz_image *img, uint64_t size)
{
    fuzz_mutation_add(
        img,
        (struct fuzz_mutation){
            .what = FUZZ_TRUNCATE, .op = "recipe", .file = 0, .before = img->file[0].size, .after = size});
}

static const struct fuzz_recipe *find_recipe(const struct fuzz_format *format, const char *id)
{
    for (const struct fuzz_recipe *r = format->recipes; r && r->id; r++) {
        if (strcmp(r->id, id) == 0) {
            return r;
        }
    }
    return NULL;
}

/* "version=3,snapshots=2" */
static void take_settings(struct fuzz_image *img)
{
    char *save = NULL;

    snprintf(img->recipe_text, sizeof(img->recipe_text), "%s", img->recipe->knobs ? img->recipe->knobs : "");
    for (char *s = strtok_r(img->recipe_text, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        struct fuzz_setting *setting = &img->recipe_setting[img->recipe_settings++];
        char *equals = strchr(s, '=');
        assert(equals);
        *equals = '\0';
        setting->name = s;
        int r = size_parse(equals + 1, &setting->value);
        assert(r == 0 && img->recipe_settings < ARRAY_SIZE(img->recipe_setting));
    }
}

int fuzz_recipe_choose(struct fuzz_image *img, struct rng *rng, struct err *err)
{
    const struct fuzz_recipe *r = img->format->recipes;
    const struct fuzz_config *c = img->config;
    unsigned n = 0;

    bool wanted = rng_below(rng, 100) < c->recipes && !c->nglobs && !c->percent;
    while (r && r[n].id) {
        n++;
    }
    if (c->recipe) {
        img->recipe = find_recipe(img->format, c->recipe);
        if (!img->recipe) {
            return err_set(err, -EINVAL, "format %s has no recipe '%s'", img->format->name, c->recipe);
        }
    } else if (wanted && n) {
        img->recipe = &r[rng_below(rng, n)];
    }
    if (img->recipe) {
        take_settings(img);
    }
    return 0;
}
