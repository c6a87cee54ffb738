/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What build functions call: choices, free space, guest data, files beside the image; and making an image,
 * which is calling them. The layout's random numbers and those of the mutations come from the seed
 * separately, so that an image and its valid twin have the same layout.
 */
#include <stdio.h>

#include "fuzz/internal.h"

#define MUTATION_STREAM UINT64_C(0x6d75746174696f6e)
#define DEPTH_MAX       3 /* of backing chains made beside an image */

/* ---- choices ---- */

struct rng *fuzz_rng(struct fuzz_image *img)
{
    return &img->rng;
}

uint64_t fuzz_below(struct fuzz_image *img, uint64_t n)
{
    return rng_below(&img->rng, n);
}

static void note(struct fuzz_image *img, const char *name, uint64_t value, bool fact)
{
    if (img->knobs < FUZZ_KNOBS_MAX) {
        img->knob[img->knobs++] =
            (struct fuzz_knob){.name = name, .file = img->cur, .fact = fact, .value = value};
    }
}

void fuzz_fact(struct fuzz_image *img, const char *name, uint64_t value)
{
    note(img, name, value, true);
}

/* The random number is drawn in any case: what comes after does not depend on the configuration. */
uint64_t fuzz_pick(struct fuzz_image *img, const char *name, uint64_t min, uint64_t max)
{
    uint64_t value = min + rng_below(&img->rng, max - min + 1), set;

    if (fuzz_setting_of(img, name, &set)) {
        value = MAX(min, MIN(max, set));
    }
    note(img, name, value, false);
    return value;
}

bool fuzz_chance(struct fuzz_image *img, const char *name, unsigned percent)
{
    bool value = rng_below(&img->rng, 100) < percent;
    uint64_t set;

    if (fuzz_setting_of(img, name, &set)) {
        value = set != 0;
    }
    note(img, name, value, false);
    return value;
}

uint64_t fuzz_seed(const struct fuzz_image *img)
{
    return img->seed & UINT32_MAX;
}

const char *fuzz_decoy(const struct fuzz_image *img)
{
    return img->config->decoy ? img->config->decoy : "decoy.raw";
}

/* ---- guest data ---- */

/* Runs of bytes that compress badly, a few for each megabyte: what is read wrong is seen. */
void fuzz_data(struct fuzz_image *img, uint64_t offset, uint64_t bytes)
{
    uint64_t runs = 1 + (rng_below(&img->rng, 4) == 0);

    for (uint64_t i = 0; i < runs && bytes > 0; i++) {
        uint64_t len = 1 + rng_below(&img->rng, MIN(bytes, UINT64_C(768)));
        uint64_t at = rng_below(&img->rng, bytes - len + 1);
        at = rng_below(&img->rng, 2) ? round_down(at, SECTOR_SIZE) : at;
        rng_fill(&img->rng, fuzz_at(img, offset + at, len), len);
    }
    if (bytes > 0 && offset + bytes > fuzz_size(img)) {
        fuzz_set_size(img, offset + bytes);
    }
}

/* ---- space ---- */

static bool is_taken(const struct fuzz_file *f, uint64_t unit)
{
    return unit / 64 < f->taken_words && (f->taken[unit / 64] >> unit % 64 & 1);
}

static void take(struct fuzz_file *f, uint64_t first, uint64_t n)
{
    for (uint64_t u = first; u < first + n; u++) {
        f->taken[u / 64] |= UINT64_C(1) << u % 64;
    }
    f->taken_words = MAX(f->taken_words, div_up(first + n, 64));
}

void fuzz_space_init(struct fuzz_image *img, struct fuzz_space *s, uint64_t unit, uint64_t reserved,
                     uint64_t spread)
{
    uint64_t units = fuzz_limit(img) / unit;

    assert(unit >= SECTOR_SIZE && div_up(reserved, unit) <= units);
    *s = (struct fuzz_space){.unit = unit, .units = units, .next = div_up(reserved, unit)};
    s->spread = MIN(units, MAX(s->next, spread));
    take(&img->file[img->cur], 0, s->next);
}

static bool is_free(const struct fuzz_file *f, uint64_t first, uint64_t n)
{
    for (uint64_t u = first; u < first + n; u++) {
        if (is_taken(f, u)) {
            return false;
        }
    }
    return true;
}

/* Somewhere below @spread; 0: not found. */
static uint64_t take_random(struct fuzz_image *img, const struct fuzz_space *s, uint64_t n)
{
    uint64_t most = MIN(s->spread, s->units);

    for (int tries = 0; tries < 8 && n <= most; tries++) {
        uint64_t at = rng_below(&img->rng, most - n + 1);
        if (is_free(&img->file[img->cur], at, n)) {
            return at;
        }
    }
    return 0;
}

/* In the first gap that is large enough. */
static uint64_t take_first(const struct fuzz_image *img, const struct fuzz_space *s, uint64_t n)
{
    for (uint64_t at = 1; n <= s->units && at <= s->units - n; at++) {
        if (is_free(&img->file[img->cur], at, n)) {
            return at;
        }
    }
    return 0;
}

uint64_t fuzz_space_take(struct fuzz_image *img, struct fuzz_space *s, uint64_t n)
{
    uint64_t first = n ? take_random(img, s, n) : 0;

    if (first == 0 && n > 0 && n <= s->units) {
        first = s->next <= s->units - n ? s->next : take_first(img, s, n);
    }
    if (first == 0) {
        return 0;
    }
    take(&img->file[img->cur], first, n);
    s->next = MAX(s->next, first + n);
    return first * s->unit;
}

bool fuzz_space_taken(const struct fuzz_image *img, const struct fuzz_space *s, uint64_t unit)
{
    return unit < s->next && is_taken(&img->file[img->cur], unit);
}

/* ---- files ---- */

unsigned fuzz_depth(const struct fuzz_image *img)
{
    return img->depth;
}

struct fuzz_file *fuzz_file_add(struct fuzz_image *img, const struct fuzz_format *format, const char *label)
{
    struct fuzz_file *f = &img->file[img->files];

    f->format = format;
    snprintf(f->label, sizeof(f->label), "%s", label);
    if (*label) { /* the name is part of the image's bytes: it depends on the seed and on nothing else */
        snprintf(f->name, sizeof(f->name), "%llu-%s.%s", (unsigned long long)img->seed, label, format->ext);
    }
    img->files++;
    return f;
}

/* Files of the same label are told apart by a number. */
static void make_label(const struct fuzz_image *img, const char *label, char *ret, size_t size)
{
    unsigned same = 1;
    size_t len = strlen(label);

    for (unsigned i = 0; i < img->files; i++) {
        same += strncmp(img->file[i].label, label, len) == 0;
    }
    snprintf(ret, size, "%s%u", label, same);
}

const char *fuzz_beside(struct fuzz_image *img, const char *label, const struct fuzz_format *format)
{
    char numbered[sizeof(img->file[0].label)];
    unsigned above = img->cur;

    if (img->files >= FUZZ_FILES_MAX || img->depth >= DEPTH_MAX) {
        return NULL;
    }
    make_label(img, label, numbered, sizeof(numbered));
    struct fuzz_file *f = fuzz_file_add(img, format, numbered);
    img->cur = img->files - 1;
    img->depth++;
    format->build(img);
    img->depth--;
    img->cur = above;
    return f->name;
}

const struct fuzz_format *fuzz_backing_format(struct fuzz_image *img)
{
    unsigned n = 0;

    for (unsigned i = 0; fuzz_formats[i]; i++) {
        n += fuzz_formats[i]->backing != NULL;
    }
    uint64_t chosen = fuzz_pick(img, "backing_format", 0, n - 1);
    for (unsigned i = 0; fuzz_formats[i]; i++) {
        if (fuzz_formats[i]->backing && chosen-- == 0) {
            return fuzz_formats[i];
        }
    }
    return NULL;
}

/* ---- an image ---- */

int fuzz_image_make(struct fuzz_image *img, const struct fuzz_format *format, uint64_t seed,
                    const struct fuzz_config *config, struct err *err)
{
    struct rng mutations;

    if (config->limit > img->file[0].room) {
        return err_set(err, -EINVAL, "fuzz: images of %llu bytes are larger than what was prepared for",
                       (unsigned long long)config->limit);
    }
    fuzz_image_clear(img);
    img->format = format;
    img->seed = seed;
    img->config = config;
    rng_init(&mutations, seed ^ MUTATION_STREAM);
    int r = config->valid ? 0 : fuzz_recipe_choose(img, &mutations, err);
    if (r < 0) {
        return r;
    }
    rng_init(&img->rng, seed);
    fuzz_file_add(img, format, "");
    format->build(img);
    for (unsigned i = 0; i < img->files; i++) {
        img->file[i].valid_size = img->file[i].size;
    }
    if (!config->valid) {
        fuzz_mutations_make(img, &mutations);
    }
    return 0;
}
