/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkproof-fuzz-formats(7) says of every structure in generated images what its fields are: the lists in it
 * are printed by this program ("unit-fuzz-docs print") from the tables, and are held against them. Of qcow2,
 * which has a page of its own, only the names must be there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuzz/fuzz.h"

#define SEEDS       400 /* every structure of every format is in one of so many images */
#define LAYOUTS_MAX 64

/* Tests run in the top directory or in the build directory. */
static const char *const paths[] = {"docs/blkproof-fuzz-formats.7.scd",
                                    "../docs/blkproof-fuzz-formats.7.scd"};

struct layouts {
    const struct layout *layout[LAYOUTS_MAX];
    unsigned count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct layout *const *)a)->name, (*(const struct layout *const *)b)->name);
}

/* Files beside an image are of other formats; but "vmdk-flat" belongs to vmdk. */
static bool belongs(const struct fuzz_image *img, const struct fuzz_part *p)
{
    const char *name = img->file[p->file].format->name;
    size_t len = strlen(img->format->name);

    return strncmp(name, img->format->name, len) == 0 && (name[len] == '\0' || name[len] == '-');
}

static void add(struct layouts *l, const struct layout *layout)
{
    for (unsigned i = 0; i < l->count; i++) {
        if (l->layout[i] == layout) {
            return;
        }
    }
    assert_true(l->count < LAYOUTS_MAX);
    l->layout[l->count++] = layout;
}

static void collect(const struct fuzz_format *format, struct layouts *l)
{
    struct fuzz_image *img = fuzz_image_new(FUZZ_LIMIT);
    struct fuzz_config c;

    assert_non_null(img);
    fuzz_config_init(&c);
    c.valid = true;
    l->count = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        assert_int_equal(fuzz_image_make(img, format, seed, &c, NULL), 0);
        for (int i = 1; i < img->parts; i++) {
            if (img->part[i].layout && belongs(img, &img->part[i])) {
                add(l, img->part[i].layout);
            }
        }
    }
    qsort(l->layout, l->count, sizeof(l->layout[0]), by_name);
    fuzz_config_finish(&c);
    fuzz_image_free(img);
}

/* ---- a field as text ---- */

/* scdoc's special characters, escaped. */
static void put(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("\\_*~`<>", *text)) {
            fputc('\\', f);
        }
        fputc(*text, f);
    }
}

static const char *const kinds[] = {
    [FIELD_NUMBER] = "number",  [FIELD_MAGIC] = "magic",       [FIELD_CODE] = "code",
    [FIELD_OFFSET] = "offset",  [FIELD_LENGTH] = "length",     [FIELD_COUNT] = "count",
    [FIELD_SHIFT] = "exponent", [FIELD_ENUM] = "one of",       [FIELD_FLAGS] = "flags",
    [FIELD_TIME] = "time",      [FIELD_CHECKSUM] = "checksum", [FIELD_RESERVED] = "reserved",
    [FIELD_BYTES] = "bytes",
};

static void put_values(FILE *f, const struct field *field)
{
    const char *between = " ";

    for (unsigned i = 0; field->values && field->values[i]; i++) {
        fputs(between, f);
        put(f, field->values[i]);
        between = ", ";
    }
}

static void put_range(FILE *f, const struct field *field)
{
    if (field->kind == FIELD_MAGIC || (field->kind == FIELD_CODE && field->max)) {
        fprintf(f, " 0x%llx", (unsigned long long)field->min);
        if (field->max > field->min) {
            fprintf(f, " to 0x%llx", (unsigned long long)field->max);
        }
    } else if (field->max) {
        fprintf(f, " from %llu to %llu", (unsigned long long)field->min, (unsigned long long)field->max);
    }
}

static void put_field(FILE *f, const struct field *field)
{
    fputs("- *", f);
    fputs(field->name, f);
    fprintf(f, "*, %u at %u", field->width, field->offset);
    if (field->mask) {
        fprintf(f, ", bits 0x%llx", (unsigned long long)field->mask);
    }
    fprintf(f, ": %s", kinds[field->kind]);
    put_values(f, field);
    put_range(f, field);
    if (field->unit > 1) {
        fprintf(f, " in units of %u bytes", field->unit);
    }
    if (field->what) {
        fputs("; ", f);
        put(f, field->what);
    }
    fputc('\n', f);
}

static void put_layout(FILE *f, const struct layout *l)
{
    fputs("## ", f);
    put(f, l->name);
    fprintf(f, ", %u bytes%s\n\n", l->bytes, l->fields[0].order == FIELD_LE ? ", little-endian" : "");
    for (const struct field *field = l->fields; field->name; field++) {
        put_field(f, field);
    }
    fputc('\n', f);
}

static void put_recipes(FILE *f, const struct fuzz_format *format)
{
    for (const struct fuzz_recipe *r = format->recipes; r && r->id; r++) {
        fputs("- *", f);
        fputs(r->id, f);
        fputs("*: ", f);
        put(f, r->summary);
        fputc('\n', f);
    }
    fputc('\n', f);
}

/* The lists of a format. The caller frees. */
static char *lists_of(const struct fuzz_format *format)
{
    struct layouts l;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    collect(format, &l);
    for (unsigned i = 0; i < l.count; i++) {
        put_layout(f, l.layout[i]);
    }
    if (format->recipes) {
        fprintf(f, "## Known-bad recipes of %s\n\n", format->name);
        put_recipes(f, format);
    }
    fclose(f);
    return text;
}

/* ---- the test ---- */

static char *read_page(void)
{
    FILE *f = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(paths) && !f; i++) {
        f = fopen(paths[i], "r");
    }
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

/* Line by line, so that what is missing is shown. */
static void hold_against(const char *page, char *lists)
{
    for (char *line = strtok(lists, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strstr(page, line)) {
            fail_msg("docs/blkproof-fuzz-formats.7.scd: missing: %s\n(unit-fuzz-docs print)", line);
        }
    }
}

static void the_page_has_every_field_and_recipe(void **state)
{
    char *page = read_page();

    for (int i = 0; fuzz_formats[i]; i++) {
        char heading[64];
        snprintf(heading, sizeof(heading), "\n# %s\n", fuzz_formats[i]->name);
        if (!strstr(page, heading)) {
            fail_msg("docs/blkproof-fuzz-formats.7.scd has no section '# %s'", fuzz_formats[i]->name);
        }
        if (strcmp(fuzz_formats[i]->name, "qcow2") != 0) {
            char *lists = lists_of(fuzz_formats[i]);
            hold_against(page, lists);
            free(lists);
        }
    }
    free(page);
}

static void the_page_names_the_structures_of_qcow2(void **state)
{
    char *page = read_page();
    struct layouts l;

    collect(fuzz_format_find("qcow2"), &l);
    assert_true(l.count > 10);
    for (unsigned i = 0; i < l.count; i++) {
        if (!strstr(page, l.layout[i]->name)) {
            fail_msg("docs/blkproof-fuzz-formats.7.scd: missing: %s", l.layout[i]->name);
        }
    }
    free(page);
}

static void print_lists(void)
{
    for (int i = 0; fuzz_formats[i]; i++) {
        char *lists = lists_of(fuzz_formats[i]);
        printf("# %s\n\n%s", fuzz_formats[i]->name, lists);
        free(lists);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_has_every_field_and_recipe),
        cmocka_unit_test(the_page_names_the_structures_of_qcow2),
    };

    if (argc > 1 && strcmp(argv[1], "print") == 0) {
        print_lists();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
