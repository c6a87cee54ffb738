/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a format gives to the image fuzzer: its field tables and one function that lays out a random valid
 * image. All else (mutations, paths, records, checksums, files) is the same code for every format.
 *
 * A build function writes bytes into the current file and *places* parts over them: a part is one structure,
 * a table of them, or raw bytes (data, names). What is placed can be mutated, shown and minimised by its
 * path: "l2[3].entry[7].offset" is the field offset of element 7 of the part l2[3].
 *
 * Rules of a build function:
 *   - every choice comes from fuzz_pick, fuzz_chance, fuzz_below or fuzz_data: nothing else is random, and
 * nothing depends on the host. Named choices (fuzz_pick, fuzz_chance) can be set by the configuration, and
 * are written into the record.
 *   - at most one of these calls stands in an expression, an initialiser or a list of arguments: in which
 * order compilers make the calls is their choice, and they differ.
 *   - without mutations the image is valid: clean for the format's checker, readable by its driver.
 *   - it is quick (some ten microseconds): few bytes are written, large areas stay holes.
 *   - it stays below fuzz_limit() and needs no memory of its own.
 */
#ifndef FUZZ_FORMAT_H
#define FUZZ_FORMAT_H

#include "base/bytes.h"
#include "base/field.h"
#include "base/rng.h"

struct fuzz_image;

/* One placed structure. Zero is a good value for whatever is left out. */
struct fuzz_part {
    const char *name;            /* "l2" */
    bool many;                   /* there are several of this name: .index tells which */
    uint32_t index;              /* l2[3] */
    int parent;                  /* what fuzz_place returned for the part it belongs to; 0: none */
    const struct layout *layout; /* of it, or of each of its elements; NULL: raw bytes */
    unsigned version;            /* for .since of the fields; 0: they are all there */
    uint64_t offset, bytes;      /* in the file; .bytes 0: what layout and elements take */
    /* A table: */
    const char *element;  /* what one is called: "entry"; NULL: this is no table */
    uint32_t count;       /* elements */
    uint32_t used;        /* so many from the first on mean something and are mutated most; 0: all */
    uint32_t stride_bits; /* from one to the next; 0: the layout's bytes. Below 8: packed, see .msb_first */
    bool msb_first;       /* packed elements begin at the highest bit of a byte, not at the lowest */
    /* What mutations need to know: */
    uint64_t unit;   /* bytes that 1 stands for in an offset field whose table says no unit; 0: 1 */
    uint64_t align;  /* what good offsets are multiples of, in bytes; 0: 512 */
    unsigned weight; /* how often it is chosen, against other parts; 0: 10 */
    unsigned file;   /* set by fuzz_place: the file it lies in */
};

/* How often a field is chosen, against the others of its structure. Default: 10; a FIELD_MAGIC 1, a
 * FIELD_RESERVED 3. What makes every reader give up at once should be rare (1), or never (FUZZ_NEVER). */
struct fuzz_weight {
    const struct layout *layout;
    const char *field; /* NULL: every field of the layout that no row names */
    int weight;
};
#define FUZZ_NEVER (-1)

/* Image bytes that broke a parser once. */
struct fuzz_recipe {
    const char *id;      /* "CVE-2014-0144-l1-size" */
    const char *summary; /* one sentence: what is wrong in the image */
    const char *knobs;   /* choices that the build needs: "version=3,snapshots=2"; NULL: any */
    void (*make)(struct fuzz_image *img); /* calls fuzz_set and its like on the finished image */
};

struct fuzz_format {
    const char *name;    /* as --format and QEMU call it: "qcow2" */
    const char *ext;     /* of file names, without the dot */
    const char *summary; /* one line for people */
    const char *backing; /* as what format an image on top opens it: "qcow2", "raw"; NULL: as none */
    void (*build)(struct fuzz_image *img);
    const struct fuzz_weight *weights; /* ends with {0}; NULL: defaults */
    const struct fuzz_recipe *recipes; /* ends with {0}; NULL: none */
    /* Names of parts in the configuration of QEMU's fuzzer: {"l2_tables", "l2"}; ends with {0}; NULL: none */
    const struct fuzz_alias {
        const char *alias, *name;
    } * aliases;
    /* A foreign image: is it of this format, and place what can be found. NULL: cannot. Nothing about the
     * bytes is true: fuzz_look says what is there. */
    bool (*probe)(const uint8_t *bytes, uint64_t size);
    void (*parse)(struct fuzz_image *img);
};

/* ---- choices ---- */

/* Uniform in [min, max], unless the configuration says. @name: static. */
uint64_t fuzz_pick(struct fuzz_image *img, const char *name, uint64_t min, uint64_t max);
/* True @percent times in 100, unless the configuration says (0 or 1). */
bool fuzz_chance(struct fuzz_image *img, const char *name, unsigned percent);
/* A named fact about the image that follows from other choices, for the record. */
void fuzz_fact(struct fuzz_image *img, const char *name, uint64_t value);
/* Uniform in [0, n): small choices without a name. */
uint64_t fuzz_below(struct fuzz_image *img, uint64_t n);
struct rng *fuzz_rng(struct fuzz_image *img);

/* ---- bytes of the current file ---- */

/* The image must stay below this size in bytes. */
uint64_t fuzz_limit(const struct fuzz_image *img);
/* @bytes bytes at @offset, to be written by the caller. They are zero at first, and the file reaches at least
 * behind them. It is the caller's bug to ask for what lies at or behind fuzz_limit(). */
uint8_t *fuzz_at(struct fuzz_image *img, uint64_t offset, uint64_t bytes);
/* The same bytes to be read: NULL if they do not lie wholly in the file (for .parse). */
const uint8_t *fuzz_look(const struct fuzz_image *img, uint64_t offset, uint64_t bytes);
/* The size of the file, which may end in a hole. */
void fuzz_set_size(struct fuzz_image *img, uint64_t size);
uint64_t fuzz_size(const struct fuzz_image *img);
/* Guest data: some bytes of the @bytes at @offset get random values, the rest stays zero (and mostly a hole).
 */
void fuzz_data(struct fuzz_image *img, uint64_t offset, uint64_t bytes);

/* ---- free space: units handed out at random positions ---- */

struct fuzz_space {
    uint64_t unit;   /* bytes */
    uint64_t units;  /* of the whole file */
    uint64_t next;   /* first unit behind everything taken */
    uint64_t spread; /* positions are chosen below this unit */
};
/* One space at a time per file. Units below @reserved (bytes) are taken. @spread: units that positions are
 * chosen from; more is appended up to the limit. */
void fuzz_space_init(struct fuzz_image *img, struct fuzz_space *s, uint64_t unit, uint64_t reserved,
                     uint64_t spread);
/* @n units in a row: their offset in bytes; 0: there is no room. */
uint64_t fuzz_space_take(struct fuzz_image *img, struct fuzz_space *s, uint64_t n);
bool fuzz_space_taken(const struct fuzz_image *img, const struct fuzz_space *s, uint64_t unit);

/* ---- parts ---- */

/* Returns its number, from 1 on; 0 when there are too many already: then it cannot be mutated. */
int fuzz_place(struct fuzz_image *img, const struct fuzz_part *part);
/* Raw bytes in short: data, names. */
int fuzz_place_bytes(struct fuzz_image *img, const char *name, int index, uint64_t offset, uint64_t bytes);
/* Write one field of element @element (0 for what is no table) of the valid image. */
void fuzz_put(struct fuzz_image *img, int part, uint32_t element, const char *field, uint64_t value);
uint64_t fuzz_get(const struct fuzz_image *img, int part, uint32_t element, const char *field);
/* A part by its name; 0: there is none. @index: -1 for what there is one of. */
int fuzz_find(const struct fuzz_image *img, const char *name, int index);
const struct fuzz_part *fuzz_part_of(const struct fuzz_image *img, int part);
uint64_t fuzz_offset_of(const struct fuzz_image *img, int part); /* 0 for part 0 */

/* ---- checksums ---- */

/* Put the checksum of @data at @sum, where zeroes stand now (even if that is within @data). */
typedef void fuzz_sum_fn(const uint8_t *data, uint64_t bytes, uint8_t *sum);
/* The @width bytes at @at are kept to be the checksum of [from, from + bytes). In the order in which they
 * depend on each other. After mutations they are made right again, unless they are a mutation's target. */
void fuzz_sum(struct fuzz_image *img, uint64_t at, uint32_t width, uint64_t from, uint64_t bytes,
              fuzz_sum_fn *fn);

/* ---- files beside the image ---- */

/* Build an image of @format beside this one. @label: "backing1"; static. Returns the name to write into
 * the image; NULL: there are too many. */
const char *fuzz_beside(struct fuzz_image *img, const char *label, const struct fuzz_format *format);
/* A format for a backing file. */
const struct fuzz_format *fuzz_backing_format(struct fuzz_image *img);
/* How deep this build is in others: 0 for the image itself. */
unsigned fuzz_depth(const struct fuzz_image *img);
/* A path that must never be opened, for names inside images: the decoy of the configuration. */
const char *fuzz_decoy(const struct fuzz_image *img);
/* The first 32 bits of the seed, for identifiers (UUIDs are taken from fuzz_rng). */
uint64_t fuzz_seed(const struct fuzz_image *img);

/* ---- mutations, for recipes ---- */

/* Make a field hostile. Nothing happens where part or field is not there. */
void fuzz_set(struct fuzz_image *img, int part, uint32_t element, const char *field, uint64_t value);
/* Other bytes in a part (at most FUZZ_BYTES_MAX). */
#define FUZZ_BYTES_MAX 64
void fuzz_set_bytes(struct fuzz_image *img, int part, uint64_t at, const void *bytes, uint32_t len);
void fuzz_truncate(struct fuzz_image *img, uint64_t size);

/* ---- the list ---- */

extern const struct fuzz_format *const fuzz_formats[]; /* ends with NULL */
const struct fuzz_format *fuzz_format_find(const char *name);

#endif
