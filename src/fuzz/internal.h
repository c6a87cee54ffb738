/* SPDX-License-Identifier: BSD-2-Clause */
/* What the core's files share, and formats and the runner need not see. */
#ifndef FUZZ_INTERNAL_H
#define FUZZ_INTERNAL_H

#include "fuzz/fuzz.h"

/* ---- image.c ---- */

/* Nothing is left of what was there. */
void fuzz_image_clear(struct fuzz_image *img);
/* Bytes to write to; NULL: there is no room. */
uint8_t *fuzz_file_bytes(struct fuzz_file *f, uint64_t offset, uint64_t bytes);
/* Pages that may hold anything, from the beginning on; is this one of them; the first such from @page on, or
 * @end. */
uint64_t fuzz_pages(const struct fuzz_file *f);
bool fuzz_page_used(const struct fuzz_file *f, uint64_t page);
uint64_t fuzz_page_next(const struct fuzz_file *f, uint64_t page, uint64_t end);
/* Offset in the file of element @element. */
uint64_t fuzz_element_at(const struct fuzz_part *p, uint32_t element);
/* Is it a number, of the part's version, and within it? */
bool fuzz_field_there(const struct fuzz_part *p, const struct field *f);
/* @bytes: of the element. */
void fuzz_value_put(const struct fuzz_part *p, uint32_t element, const struct field *field, uint8_t *bytes,
                    uint64_t value);
void fuzz_sum_make(struct fuzz_image *img, const struct fuzz_checksum *s);

/* ---- mutate.c ---- */

struct fuzz_target {
    int part;
    uint32_t element;
    const struct field *field; /* NULL: raw bytes */
};

/* NULL: the list is full. */
struct fuzz_mutation *fuzz_mutation_add(struct fuzz_image *img, struct fuzz_mutation m);
/* A field that may become hostile; false: there is none. */
bool fuzz_target_choose(const struct fuzz_image *img, struct rng *rng, struct fuzz_target *t);
/* Decide whether a recipe makes the mutations, and which: its choices then hold for the build. */
int fuzz_recipe_choose(struct fuzz_image *img, struct rng *rng, struct err *err);
/* The list for a new image, as the configuration wants it. */
void fuzz_mutations_make(struct fuzz_image *img, struct rng *rng);

/* ---- operators.c ---- */

/* The largest value a field can take. */
uint64_t fuzz_field_max(const struct fuzz_part *p, const struct field *f);
/* Add a mutation (a pair: two), of anything or of this target. */
void fuzz_operate(struct fuzz_image *img, struct rng *rng);
void fuzz_operate_on(struct fuzz_image *img, struct rng *rng, const struct fuzz_target *t);

/* ---- config.c ---- */

/* What the configuration (or the recipe) says about a choice. */
bool fuzz_setting_of(const struct fuzz_image *img, const char *name, uint64_t *ret_value);
struct text;
void fuzz_config_text(const struct fuzz_config *c, struct text *t);
/* @plain: the path without indices. */
bool fuzz_config_allows(const struct fuzz_config *c, const char *path, const char *plain);

/* ---- path.c ---- */

/* As fuzz_path, without indices: "l2.entry.offset". */
void fuzz_path_plain(const struct fuzz_image *img, int part, uint32_t element, const struct field *field,
                     char ret_path[FUZZ_PATH_MAX]);

/* ---- build.c ---- */

struct fuzz_file *fuzz_file_add(struct fuzz_image *img, const struct fuzz_format *format, const char *label);

#endif
