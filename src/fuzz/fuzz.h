/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The image fuzzer as a library: make an image from (format, seed, configuration), apply all or some of its
 * mutations, write it to files, keep it as a record and come back from one. Formats see format.h only.
 *
 *   image.c    bytes, files, parts
 *   build.c    choices, space, files beside: what build functions call
 *   path.c     paths: what a field is called, and which one a path means
 *   apply.c    mutations become bytes, and go again
 *   mutate.c   which field becomes hostile, and how
 *   config.c   the configuration
 *   record.c   records; text.c writes JSON
 *   store.c    files written and read
 *   guest.c    what a guest reads from the valid image
 *   formats.c  the list of formats
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <jansson.h>

#include "fuzz/format.h"
#include "fuzz/guest.h"

#define FUZZ_PARTS_MAX     4096 /* more cannot be mutated; a record names them all */
#define FUZZ_MUTATIONS_MAX 16384
#define FUZZ_SUMS_MAX      256
#define FUZZ_FILES_MAX     8 /* an image with its backing chain and data file */
#define FUZZ_KNOBS_MAX     160
#define FUZZ_PATH_MAX      160
#define FUZZ_NAME_MAX      64
#define FUZZ_LIMIT         (10 * MiB)     /* default size limit */
#define FUZZ_LIMIT_MIN     FUZZ_LIMIT     /* formats need room: a VHDX takes some 8 MiB */
#define FUZZ_LIMIT_MAX     (1 * GiB)      /* memory is reserved, not used */
#define FUZZ_PAGE          UINT64_C(4096) /* bytes are known to be used, or a hole, by these */

/* ---- configuration ---- */

struct fuzz_setting {
    char *name;
    uint64_t value;
};

struct fuzz_config {
    bool valid;       /* no mutations */
    unsigned fields;  /* hostile fields: 1 to this number; 0: 3 */
    unsigned percent; /* or this share of all fields, as QEMU's fuzzer had it; 0: no */
    unsigned recipes; /* percent of images made by a known-bad recipe; default 10 */
    char *recipe;     /* this one always; NULL: any */
    char **globs;     /* only these paths; ends with NULL; NULL: all */
    size_t nglobs;
    struct fuzz_setting *settings; /* named choices: cluster_bits = 16 */
    size_t nsettings;
    uint64_t limit; /* size of a file in bytes */
    char *decoy;    /* path for names inside images */
};

void fuzz_config_init(struct fuzz_config *c);
void fuzz_config_finish(struct fuzz_config *c);
/* "header.*", "l2[0].entry[3].offset": only such fields become hostile. Or "name=value": a choice of the
 * layout. Or the JSON array of QEMU's fuzzer: [["header", "version"], ["l2_tables"]]. May be called again. */
int fuzz_config_add(struct fuzz_config *c, const struct fuzz_format *format, const char *text,
                    struct err *err);
/* "5": 1 to 5 fields; "30%". */
int fuzz_config_bias(struct fuzz_config *c, const char *text, struct err *err);
json_t *fuzz_config_json(const struct fuzz_config *c);
int fuzz_config_from_json(struct fuzz_config *c, const json_t *j, struct err *err);

/* ---- an image ---- */

enum fuzz_what {
    FUZZ_SET,      /* a field gets another value */
    FUZZ_BYTES,    /* bytes of a part get others */
    FUZZ_ZERO,     /* an element, or a part, becomes zeroes */
    FUZZ_COPY,     /* an element becomes that of another */
    FUZZ_SWAP,     /* two elements change places */
    FUZZ_TRUNCATE, /* the file gets another size */
};

struct fuzz_mutation {
    enum fuzz_what what;
    const char *op;            /* the operator's name: why this value; static */
    int part;                  /* FUZZ_TRUNCATE: unused */
    uint32_t element;          /* 0 for what is no table */
    const struct field *field; /* FUZZ_SET; FUZZ_BYTES: or NULL */
    unsigned file;
    uint64_t before, after; /* FUZZ_SET: values; FUZZ_TRUNCATE: sizes; FUZZ_COPY, FUZZ_SWAP: .after is
                               the other element; FUZZ_BYTES: .after is where in the part */
    uint32_t len;           /* FUZZ_BYTES */
    uint8_t bytes[FUZZ_BYTES_MAX];
};

struct fuzz_checksum {
    unsigned file;
    uint64_t at, from, bytes;
    uint32_t width;
    fuzz_sum_fn *fn;
};

struct fuzz_knob {
    const char *name;
    unsigned file;
    bool fact;
    uint64_t value;
};

struct fuzz_file {
    char label[16];           /* "" is the image itself; "backing1" */
    char name[FUZZ_NAME_MAX]; /* beside the image; "" for the image itself */
    const struct fuzz_format *format;
    uint8_t *bytes;         /* .room of them; zeroes where nothing was written */
    uint64_t room, size;    /* .size may be larger: mutations grow files */
    uint8_t *own;           /* .bytes, unless they are those of a foreign file, */
    uint64_t foreign_bytes; /* which has so many */
    uint64_t valid_size;    /* without mutations */
    uint64_t *used;         /* a bit for each page that was written */
    uint64_t used_end;      /* no page from here on was */
    uint64_t *taken;        /* a bit for each unit of the fuzz_space */
    uint64_t taken_words;   /* so many words of it may be other than 0 */
};

struct fuzz_undo {
    unsigned file;
    uint64_t offset;
    uint32_t len, at; /* .at: in the buffer of old bytes */
};

struct fuzz_image {
    const struct fuzz_format *format; /* NULL: a foreign image of no format we know */
    uint64_t seed;
    const struct fuzz_config *config; /* of fuzz_image_make, which it must outlive the image */
    struct rng rng;
    unsigned cur, depth; /* the file that is built */
    struct fuzz_file file[FUZZ_FILES_MAX];
    unsigned files;
    struct fuzz_part *part; /* part[0] is nothing */
    int parts;
    struct fuzz_checksum sum[FUZZ_SUMS_MAX];
    unsigned sums;
    struct fuzz_knob knob[FUZZ_KNOBS_MAX];
    unsigned knobs;
    const struct fuzz_recipe *recipe;       /* what made the mutations; NULL: the operators */
    struct fuzz_setting recipe_setting[16]; /* its .knobs; names within recipe_text */
    unsigned recipe_settings;
    char recipe_text[256];
    struct fuzz_mutation *mutation;
    unsigned mutations;
    struct fuzz_undo *undo; /* what apply changed, in order */
    size_t undos, undos_max, old_bytes, old_max;
    uint8_t *old;
    int failed; /* apply ran out of memory */
    struct fuzz_guest guest;
};

/* Reusable: memory is taken once. @limit: the largest .limit of configurations it will be used with. NULL: no
 * memory. */
struct fuzz_image *fuzz_image_new(uint64_t limit);
void fuzz_image_free(struct fuzz_image *img);

/* Build the valid image of this seed, and its list of mutations; they are not applied yet. */
int fuzz_image_make(struct fuzz_image *img, const struct fuzz_format *format, uint64_t seed,
                    const struct fuzz_config *config, struct err *err);
/* Make the bytes those of the valid image with its mutations, checksums made right; @keep: one flag for each
 * mutation, NULL: all. May be called again and again. -ENOMEM. */
int fuzz_image_apply(struct fuzz_image *img, const bool *keep);
/* The bytes of the valid image again. */
void fuzz_image_revert(struct fuzz_image *img);

/* Add @n mutations of @rng's choice, within the configuration. For feedback: mutations of mutation lists. */
void fuzz_image_mutate(struct fuzz_image *img, struct rng *rng, unsigned n);
void fuzz_image_drop(struct fuzz_image *img, unsigned mutation);
/* Add one, as text or JSON says; a sentence if the path means nothing here. */
int fuzz_image_add(struct fuzz_image *img, const json_t *mutation, struct err *err);
/* A hash over all files: names, sizes, bytes. The same on every machine. */
uint64_t fuzz_image_hash(const struct fuzz_image *img);

/* ---- paths ---- */

/* "backing1:l2[0].entry[3].offset"; @field NULL: of the element; @element UINT32_MAX: of the part. */
void fuzz_path(const struct fuzz_image *img, int part, uint32_t element, const struct field *field,
               char ret_path[FUZZ_PATH_MAX]);
/* -ENOENT: there is nothing of that name. */
int fuzz_path_find(const struct fuzz_image *img, const char *path, int *ret_part, uint32_t *ret_element,
                   const struct field **ret_field);
/* '*' stands for any text, '?' for one character; a glob without '[' is held against the path without
 * indices. */
bool fuzz_glob_match(const char *glob, const char *path);
/* A value of a field, as it is now. */
uint64_t fuzz_value(const struct fuzz_image *img, int part, uint32_t element, const struct field *field);

/* ---- records ---- */

/* Format, seed, configuration, choices, mutations. @whole: and the bytes of the valid image, so that the
 * record stands for itself when the generator has changed. NULL: no memory. */
json_t *fuzz_image_record(struct fuzz_image *img, bool whole);
/* The same as text, malloc'ed: ten times as fast. */
char *fuzz_image_record_text(struct fuzz_image *img, bool whole, size_t *ret_len);
/* As fuzz_image_make, mutations included. */
int fuzz_image_from_record(struct fuzz_image *img, const json_t *record, struct fuzz_config *config,
                           struct err *err);
/* One mutation as JSON, and in words: "l2[0].entry[3].offset = 0xfffffffffffe00". */
json_t *fuzz_mutation_json(const struct fuzz_image *img, const struct fuzz_mutation *m);
void fuzz_mutation_text(const struct fuzz_image *img, const struct fuzz_mutation *m, char *text, size_t size);
/* All parts as JSON: path, offset, bytes, layout, fields. @fields: with the values of what is no table. */
json_t *fuzz_image_layout(const struct fuzz_image *img, bool fields);

/* ---- files ---- */

/* Write the image to @path, and what stands beside it into the same folder; sparse. */
int fuzz_image_write(struct fuzz_image *img, const char *path, struct err *err);
/* The same relative to an open folder, for many images quickly. */
int fuzz_image_write_at(struct fuzz_image *img, int dirfd, const char *name, struct err *err);
/* A foreign image. @format: NULL: probed; then img->format may be NULL: nothing is placed but all bytes. */
int fuzz_image_open(struct fuzz_image *img, const char *path, const struct fuzz_format *format,
                    const struct fuzz_config *config, struct err *err);
/* The same of @size bytes in memory. -EINVAL: they are not of this format, or it cannot parse; -EFBIG. */
int fuzz_image_load(struct fuzz_image *img, const uint8_t *bytes, size_t size,
                    const struct fuzz_format *format, const struct fuzz_config *config);
/* The image (without files beside it) into @out, at most @max bytes; how many they are. */
size_t fuzz_image_bytes(const struct fuzz_image *img, uint8_t *out, size_t max);

#endif
