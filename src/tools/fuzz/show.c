/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show: what is where in an image, and what is hostile. Of a seed or a record everything is known; of a
 * foreign image what its format's parser finds.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "base/json.h"
#include "tools/fuzz/fuzz.h"

#define RECORD_BYTES_MAX (64 * MiB)

struct show {
    struct tool *tool;
    struct fuzz_args args;
    const char *word;
    bool json;
};

enum { OPT_JSON_OUT = FUZZ_OPT_FIRST_FREE };

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    FUZZ_ARGS_LONG_OPTIONS,
    {"json", no_argument, NULL, OPT_JSON_OUT},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz show [OPTIONS] IMAGE|RECORD|SEED\n"
           "Tell what is where in an image, and which fields are hostile.\n"
           "\n"
           "  IMAGE    a file; with its record NAME.json beside it, that is shown\n"
           "  RECORD   a record as gen writes it\n"
           "  SEED     a number: the image that gen makes of it, with the same options\n"
           "\n"
           "Options:\n" FUZZ_ARGS_HELP "      --json             as JSON\n"
           "  -h, --help             this text\n"
           "\n"
           "See blkproof-fuzz(1).\n");
}

/* ---- printing ---- */

static void print_fields(const struct fuzz_image *img, int part)
{
    const struct fuzz_part *p = &img->part[part];

    for (const struct field *f = p->layout->fields; f->name; f++) {
        if (f->kind == FIELD_BYTES || f->since > p->version ||
            p->offset + p->bytes > img->file[p->file].size) {
            continue;
        }
        if (f->width <= 8 && is_pow2(f->width)) {
            printf("                         .%-28s 0x%" PRIx64 "%s%s\n", f->name,
                   fuzz_value(img, part, 0, f), f->what ? "  " : "", f->what ? f->what : "");
        }
    }
}

static void print_text(struct fuzz_image *img)
{
    for (unsigned i = 0; i < img->files; i++) {
        const struct fuzz_file *f = &img->file[i];
        printf("%s%s%s: %s, %" PRIu64 " bytes\n", f->label[0] ? f->label : "image", f->name[0] ? " " : "",
               f->name, f->format ? f->format->name : "of no known format", f->size);
    }
    if (img->recipe) {
        printf("recipe %s: %s\n", img->recipe->id, img->recipe->summary);
    }
    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        char path[FUZZ_PATH_MAX];
        fuzz_path(img, i, UINT32_MAX, NULL, path);
        printf("0x%010" PRIx64 " %10" PRIu64 "  %s", p->offset, p->bytes, path);
        if (p->element) {
            printf(" (%" PRIu32 " x %s)", p->count, p->layout ? p->layout->name : "bytes");
        }
        printf("\n");
        if (p->layout && !p->element) {
            print_fields(img, i);
        }
    }
    for (unsigned i = 0; i < img->mutations; i++) {
        char text[512];
        fuzz_mutation_text(img, &img->mutation[i], text, sizeof(text));
        printf("hostile: %s\n", text);
    }
}

static int print(const struct show *s, struct fuzz_image *img, struct err *err)
{
    if (!s->json) {
        print_text(img);
        return 0;
    }
    AUTO_JSON json_t *j = fuzz_image_record(img, false);
    if (!j || json_object_set_new(j, "parts", fuzz_image_layout(img, true)) < 0) {
        return err_set(err, -ENOMEM, "no memory for a record");
    }
    json_dumpf(j, stdout, JSON_INDENT(2));
    printf("\n");
    return 0;
}

/* ---- where it comes from ---- */

static int load_record(const char *path, json_t **ret, struct err *err)
{
    struct stat st;
    json_error_t where;

    if (stat(path, &st) < 0) {
        return err_set_errno(err, -errno, "open '%s'", path);
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > RECORD_BYTES_MAX) {
        return err_set(err, -EINVAL, "'%s' is not a record", path);
    }
    json_t *j = json_load_file(path, 0, &where);
    if (!j) {
        return err_set(err, -EINVAL, "'%s' is not a record: line %d: %s", path, where.line, where.text);
    }
    if (!json_is_integer(json_object_get(j, "blkproof-fuzz"))) {
        json_decref(j);
        return err_set(err, -EINVAL, "'%s' is not a record of this program", path);
    }
    *ret = j;
    return 0;
}

/* IMAGE's record, if it has one: NAME.json for NAME.EXT. */
static bool record_beside(const char *image, char *path, size_t size)
{
    const char *dot = strrchr(image, '.'), *slash = strrchr(image, '/');
    int stem = dot && dot > (slash ? slash : image) ? (int)(dot - image) : (int)strlen(image);

    snprintf(path, size, "%.*s.json", stem, image);
    return strcmp(path, image) != 0 && access(path, R_OK) == 0;
}

static int show_record(struct show *s, struct fuzz_image *img, const char *path, struct err *err)
{
    AUTO_JSON json_t *j = NULL;
    int r = load_record(path, &j, err);

    r = r < 0 ? r : fuzz_image_from_record(img, j, &s->args.config, err);
    return r < 0 ? r : print(s, img, err);
}

static int show_word(struct show *s, struct fuzz_image *img, struct err *err)
{
    char path[4096];
    uint64_t seed;
    size_t len = strlen(s->word);
    int r;

    if (access(s->word, F_OK) < 0 && fuzz_number(s->word, &seed) == 0) {
        if (!s->args.format) {
            return err_set(err, -EINVAL, "a seed needs --format");
        }
        r = fuzz_image_make(img, s->args.format, seed, &s->args.config, err);
        r = r < 0 ? r : fuzz_image_apply(img, NULL);
        return r < 0 ? r : print(s, img, err);
    }
    if (len > 5 && strcmp(s->word + len - 5, ".json") == 0) {
        return show_record(s, img, s->word, err);
    }
    if (!s->args.format && record_beside(s->word, path, sizeof(path))) {
        return show_record(s, img, path, err);
    }
    r = fuzz_image_open(img, s->word, s->args.format, &s->args.config, err);
    return r < 0 ? r : print(s, img, err);
}

/* ---- the command line ---- */

/* -1: go on; else the exit status. */
static int parse(struct show *s, int argc, char **argv, struct err *err)
{
    int opt, r = 0;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == '?' || (opt < TOOL_OPT_FIRST_FREE && tool_common_option(s->tool, opt, optarg) < 0)) {
            return FUZZ_EXIT_USAGE;
        }
        if (opt == OPT_JSON_OUT) {
            s->json = true;
        } else if (opt >= TOOL_OPT_FIRST_FREE && (r = fuzz_args_take(&s->args, opt, optarg, err)) < 0) {
            return r == -ECANCELED ? 0 : fuzz_usage(s->tool, "show", err);
        }
    }
    if (argc - optind != 1) {
        err_set(err, -EINVAL, "expected one image, record or seed");
        return fuzz_usage(s->tool, "show", err);
    }
    s->word = argv[optind];
    return fuzz_args_finish(&s->args, err) < 0 ? fuzz_usage(s->tool, "show", err) : -1;
}

int fuzz_cmd_show(struct tool *t, int argc, char **argv)
{
    struct show s = {.tool = t};
    struct err err = {0};

    fuzz_args_init(&s.args);
    int status = parse(&s, argc, argv, &err);
    if (status < 0) {
        struct fuzz_image *img = fuzz_image_new(FUZZ_LIMIT_MAX);
        int r = img ? show_word(&s, img, &err) : err_set(&err, -ENOMEM, "no memory for an image");
        fuzz_image_free(img);
        if (r < 0) {
            tool_error(t, "fuzz show: %s", err.text);
        }
        status = r < 0 ? EXIT_FAILURE : 0;
    }
    fuzz_args_free(&s.args);
    return status;
}
