/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the image of a test comes from: our generators; images that are there, which get mutations; or a
 * program:
 *
 *     COMMAND with {img}, {seed}, {fmt} and {dir} replaced makes the file {img} within the limits of a test,
 * the same bytes for the same seed, and exits with 0. Another status ends the campaign: a generator must not
 * fail.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "fuzz/run/campaign.h"

#define FILES_MAX      (UINT64_C(1) << 20)
#define SEED_OF_FILES  UINT64_C(0x66696c65)
#define GUEST_BYTES    (16 * MiB) /* where commands read and write if nobody knows how large the disk is */
#define FIELDS_DEFAULT 3

/* ---- images that are there ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_file(struct source *s, const char *dir, const char *name, struct err *err)
{
    char *path = NULL;
    struct stat st;

    if (asprintf(&path, "%s%s%s", dir, *name ? "/" : "", name) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    char **more = stat(path, &st) == 0 && S_ISREG(st.st_mode) && s->nfiles < FILES_MAX
                      ? realloc(s->files, (s->nfiles + 1) * sizeof(*more))
                      : NULL;
    if (!more) {
        free(path); /* a directory, a socket */
        return 0;
    }
    s->files = more;
    s->files[s->nfiles++] = path;
    return 0;
}

static int list_files(struct source *s, const char *path, struct err *err)
{
    DIR *dir = opendir(path);
    int r = 0;

    if (!dir) {
        r = add_file(s, path, "", err);
    }
    for (struct dirent *e; dir && r == 0 && (e = readdir(dir));) {
        if (e->d_name[0] != '.') {
            r = add_file(s, path, e->d_name, err);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (r == 0 && s->nfiles == 0) {
        return err_set(err, -ENOENT, "no images in '%s'", path);
    }
    if (r == 0) {
        qsort(s->files, s->nfiles, sizeof(*s->files), by_name);
    }
    return r;
}

static int make_from_file(struct source *s, const struct fuzz_format *format, uint64_t n, struct err *err)
{
    const struct fuzz_config *c = &s->config->fuzz;
    struct rng rng;

    int r = fuzz_image_open(s->img, s->files[n % s->nfiles], format, c, err);
    if (r == 0 && !c->valid) {
        rng_init(&rng, campaign_test_seed(s->config->seed, n) ^ SEED_OF_FILES);
        fuzz_image_mutate(s->img, &rng,
                          1 + (unsigned)rng_below(&rng, c->fields ? c->fields : FIELDS_DEFAULT));
    }
    return r;
}

/* ---- a program ---- */

static int make_by_program(struct source *s, const struct fuzz_format *format, uint64_t n, struct err *err)
{
    AUTO_FREE char *path = NULL;
    AUTO_FREE char **argv = NULL;
    struct run_result result;

    if (asprintf(&path, "%s/made.%s", s->work, s->ext) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    const struct run_values v = {.img = path,
                                 .out = path,
                                 .dir = s->work,
                                 .fmt = s->fmt,
                                 .seed = campaign_test_seed(s->config->seed, n)};
    unlink(path);
    int r = run_command_expand(&s->generator, &v, &argv, err);
    r = r < 0 ? r : executor_run(s->exec, argv, NULL, &result, err);
    if (r < 0) {
        return r;
    }
    if (result.end != RUN_EXITED || result.code != 0) {
        AUTO_FREE char *said = executor_output(s->exec, 256);
        return err_set(
            err, -EIO, "the generator failed for seed %llu (%s %d): %s", (unsigned long long)v.seed,
            result.end == RUN_EXITED ? "exit status" : "ended by signal", result.code, said ? said : "");
    }
    return fuzz_image_open(s->img, path, format, &s->config->fuzz, err);
}

/* ---- what reached something new ---- */

#define SEED_OF_FEEDBACK UINT64_C(0x65646765)
#define KEPT_PERCENT     75 /* of the images, once there are some: the others look elsewhere */
#define MUTATIONS_MANY   8  /* lists do not grow for ever: parsers fail at the first hostile field they see */

/* Some hostile fields go, some come. */
static void mutate_list(struct source *s, struct rng *rng)
{
    const struct fuzz_config *c = &s->config->fuzz;
    unsigned more = 1 + (unsigned)rng_below(rng, c->fields ? c->fields : FIELDS_DEFAULT);

    while (s->img->mutations > 0 && (s->img->mutations > MUTATIONS_MANY || rng_below(rng, 3) == 0)) {
        fuzz_image_drop(s->img, (unsigned)rng_below(rng, s->img->mutations));
    }
    fuzz_image_mutate(s->img, rng, more);
}

/* -ENOENT: this test makes an image of its own. */
static int make_from_kept(struct source *s, uint64_t n, struct err *err)
{
    struct rng rng;

    rng_init(&rng, campaign_test_seed(s->config->seed, n) ^ SEED_OF_FEEDBACK);
    if (!s->coverage || s->config->fuzz.valid || rng_below(&rng, 100) >= KEPT_PERCENT) {
        return -ENOENT;
    }
    AUTO_JSON json_t *record = coverage_pick(s->coverage, &rng);
    if (!record || source_take(s, record, NULL) < 0) {
        return -ENOENT; /* of a program that is older than its images */
    }
    mutate_list(s, &rng);
    return 0;
}

/* ---- any ---- */

int source_init(struct source *s, const struct campaign_config *config, struct executor *exec,
                const char *work, struct err *err)
{
    struct run_commands one = {0};
    int r = 0;

    *s = (struct source){
        .config = config, .exec = exec, .work = work, .img = fuzz_image_new(config->fuzz.limit)};
    fuzz_config_init(&s->kept);
    if (!s->img) {
        return err_set(err, -ENOMEM, "no memory for an image");
    }
    if (config->images) {
        r = list_files(s, config->images, err);
    }
    if (r == 0 && config->generator && (r = run_commands_add(&one, config->generator, err)) == 0) {
        s->generator = one.list[0];
    }
    return r;
}

void source_finish(struct source *s)
{
    struct run_commands one = {.list = {s->generator}, .n = s->generator.text ? 1 : 0};

    run_commands_finish(&one);
    fuzz_image_free(s->img);
    fuzz_config_finish(&s->kept);
    for (size_t i = 0; i < s->nfiles; i++) {
        free(s->files[i]);
    }
    free(s->files);
    *s = (struct source){0};
}

/* Multiples of this are where commands read and write. */
static uint64_t guest_bytes(const struct fuzz_image *img)
{
    for (size_t i = 0; i < img->guest.count; i++) {
        const struct fuzz_extent *e = &img->guest.extent[i];
        if (e->file == 0 && e->kind == FUZZ_EXTENT_SIZE) {
            return e->bytes;
        }
    }
    return GUEST_BYTES;
}

static void take_names(struct source *s)
{
    s->fmt = s->img->format->name;
    s->ext = s->img->format->ext;
}

int source_take(struct source *s, const json_t *record, struct err *err)
{
    fuzz_config_finish(&s->kept);
    fuzz_config_init(&s->kept);
    int r = fuzz_image_from_record(s->img, record, &s->kept, err);
    if (r == 0) {
        take_names(s);
        s->guest_bytes = guest_bytes(s->img);
    }
    return r;
}

int source_make(struct source *s, uint64_t n, struct err *err)
{
    const struct campaign_config *c = s->config;
    const char *name = c->nformats ? c->formats[n % c->nformats] : NULL;
    const struct fuzz_format *format = name ? fuzz_format_find(name) : NULL;
    int r = make_from_kept(s, n, err);

    if (r == 0) {
        return fuzz_image_apply(s->img, NULL);
    }
    s->fmt = name ? name : "raw";
    s->ext = format ? format->ext : name ? name : "img";
    if (s->generator.text) {
        r = make_by_program(s, format, n, err);
    } else if (s->files) {
        r = make_from_file(s, format, n, err);
    } else {
        r = fuzz_image_make(s->img, format, campaign_test_seed(c->seed, n), &c->fuzz, err);
    }
    if (r == 0 && !name && s->img->format) {
        take_names(s);
    }
    s->guest_bytes = guest_bytes(s->img);
    return r < 0 ? r : fuzz_image_apply(s->img, NULL);
}
