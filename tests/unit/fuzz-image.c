/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images of the fuzzer: paths, mutations applied and taken back, checksums, records. A small format of the
 * test's own stands for what no real one has all of: packed bits in both orders, and a sum over another sum.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/json.h"
#include "fuzz/compress.h"
#include "fuzz/formats.h"
#include "fuzz/fuzz.h"

/* ---- the toy format: 16 bytes of header, 8 of bits, 8 of numbers; bytes 12..15 are the sum of the first 12
 * ---- */

static const struct field toy_fields[] = {
    {"magic", FIELD_MAGIC, 0, 4, .min = 0x544f5921},
    {"count", FIELD_COUNT, 4, 2},
    {"kind", FIELD_ENUM, 6, 1},
    {"flags", FIELD_FLAGS, 7, 1},
    {"inner", FIELD_CHECKSUM, 8, 4},
    {"outer", FIELD_CHECKSUM, 12, 4},
    {0},
};
static const struct layout toy_layout = {"toy header", toy_fields, 16, 0};
static const struct field bit_fields[] = {{"bit", FIELD_NUMBER, 0, 1}, {0}};
static const struct layout bit_layout = {"bits", bit_fields, 1, 0};
static const struct field number_fields[] = {
    {"low", FIELD_OFFSET, 0, 2, .order = FIELD_LE, .mask = 0x0fff},
    {"high", FIELD_NUMBER, 0, 2, .order = FIELD_LE, .mask = 0xf000, .shift = 12},
    {0}};
static const struct layout number_layout = {"numbers", number_fields, 2, 0};

static void add_up(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    uint32_t total = 0;

    for (uint64_t i = 0; i < bytes; i++) {
        total += data[i];
    }
    put_be32(sum, total);
}

static void toy_build(struct fuzz_image *img)
{
    int header = fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &toy_layout});
    struct fuzz_part table = {.name = "low_first",
                              .layout = &bit_layout,
                              .offset = 16,
                              .element = "bit",
                              .count = 32,
                              .stride_bits = 1};

    memset(fuzz_at(img, 0, 32), 0, 32);
    fuzz_place(img, &table);
    table.name = "high_first";
    table.offset = 20;
    table.count = 16;
    table.stride_bits = 2;
    table.msb_first = true;
    fuzz_place(img, &table);
    fuzz_place(img, &(struct fuzz_part){.name = "numbers",
                                        .many = true,
                                        .index = 7,
                                        .parent = header,
                                        .layout = &number_layout,
                                        .offset = 24,
                                        .element = "entry",
                                        .count = 4});
    fuzz_put(img, header, 0, "magic", 0x544f5921);
    fuzz_put(img, header, 0, "count", fuzz_pick(img, "count", 1, 9));
    fuzz_sum(img, 8, 4, 0, 8, add_up);
    fuzz_sum(img, 12, 4, 0, 12, add_up);
}

static const struct fuzz_format toy = {.name = "toy", .ext = "toy", .summary = "", .build = toy_build};

struct fixture {
    struct fuzz_image *img;
    struct fuzz_config config;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    fuzz_config_init(&f->config);
    f->img = fuzz_image_new(FUZZ_LIMIT);
    *state = f;
    return f->img ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fuzz_image_free(f->img);
    fuzz_config_finish(&f->config);
    free(f);
    return 0;
}

static void make(struct fixture *f, const struct fuzz_format *format, uint64_t seed)
{
    assert_int_equal(fuzz_image_make(f->img, format, seed, &f->config, &f->err), 0);
}

/* A mutation as a person would write it. */
static int add(struct fixture *f, const char *text)
{
    json_t *j = NULL;

    assert_int_equal(json_parse_object(text, &j, &f->err), 0);
    int r = fuzz_image_add(f->img, j, &f->err);
    json_decref(j);
    return r;
}

static void make_toy(struct fixture *f)
{
    f->config.valid = true;
    make(f, &toy, 1);
    assert_int_equal(f->img->mutations, 0);
}

/* ---- fields and bytes ---- */

static void a_mutation_changes_the_bytes_of_its_field(void **state)
{
    struct fixture *f = *state;
    const uint8_t *b = f->img->file[0].bytes;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'header.count', 'new': '0x1234'}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[2].high', 'new': 10}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[2].low', 'new': 2748}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[4], 0x12);
    assert_int_equal(b[5], 0x34);
    assert_int_equal(b[28], 0xbc); /* 0xabc with 0xa above it, little-endian */
    assert_int_equal(b[29], 0xaa);
}

static void packed_elements_lie_in_either_order(void **state)
{
    struct fixture *f = *state;
    const uint8_t *b = f->img->file[0].bytes;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'low_first.bit[0].bit', 'new': 1}"), 0);
    assert_int_equal(add(f, "{'path': 'low_first.bit[9].bit', 'new': 1}"), 0);
    assert_int_equal(add(f, "{'path': 'high_first.bit[0].bit', 'new': 2}"), 0);
    assert_int_equal(add(f, "{'path': 'high_first.bit[7].bit', 'new': 3}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[16], 0x01);
    assert_int_equal(b[17], 0x02);
    assert_int_equal(b[20], 0x80);
    assert_int_equal(b[21], 0x03);
}

static void elements_are_copied_swapped_and_erased(void **state)
{
    struct fixture *f = *state;
    const uint8_t *b = f->img->file[0].bytes;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[0].low', 'new': 1}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[1].low', 'new': 2}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[0]', 'what': 'swap', 'with': 1}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[3]', 'what': 'copy', 'with': 0}"), 0);
    assert_int_equal(add(f, "{'path': 'header.numbers[7].entry[1]', 'what': 'zero'}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[24], 2);
    assert_int_equal(b[26], 0);
    assert_int_equal(b[30], 2);
    assert_int_equal(add(f, "{'path': 'header.numbers[7]', 'what': 'zero'}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[24], 0);
    assert_int_equal(b[30], 0);
}

static void any_part_of_the_list_can_be_applied_and_taken_back(void **state)
{
    struct fixture *f = *state;
    const bool second[] = {false, true};
    const uint8_t *b = f->img->file[0].bytes;

    make_toy(f);
    uint64_t valid = fuzz_image_hash(f->img);
    assert_int_equal(add(f, "{'path': 'header.kind', 'new': 5}"), 0);
    assert_int_equal(add(f, "{'path': 'header.flags', 'new': 6}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[6], 5);
    assert_int_equal(b[7], 6);
    assert_int_equal(fuzz_image_apply(f->img, second), 0);
    assert_int_equal(b[6], 0);
    assert_int_equal(b[7], 6);
    fuzz_image_drop(f->img, 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(b[6], 0);
    assert_int_equal(b[7], 6);
    fuzz_image_revert(f->img);
    assert_true(fuzz_image_hash(f->img) == valid);
}

static void a_file_is_cut_or_grows_and_comes_back(void **state)
{
    struct fixture *f = *state;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'file', 'what': 'truncate', 'new': 20}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(f->img->file[0].size, 20);
    f->img->mutations = 0;
    assert_int_equal(add(f, "{'path': 'file', 'what': 'truncate', 'new': 1000000}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(f->img->file[0].size, 1000000);
    fuzz_image_revert(f->img);
    assert_int_equal(f->img->file[0].size, 32);
}

/* ---- checksums: 'T'+'O'+'Y'+'!' is 0x54 + 0x4f + 0x59 + 0x21 = 285 ---- */

static uint32_t inner(const struct fixture *f)
{
    return get_be32(f->img->file[0].bytes + 8);
}

static uint32_t outer(const struct fixture *f)
{
    return get_be32(f->img->file[0].bytes + 12);
}

static void checksums_are_made_right_in_their_order(void **state)
{
    struct fixture *f = *state;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'header.count', 'new': 515}"), 0); /* 2 + 3 */
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(inner(f), 290);
    assert_int_equal(outer(f), 290 + 1 + 34); /* 290 is 0x0122 */
}

static void a_checksum_that_is_hostile_stays_so(void **state)
{
    struct fixture *f = *state;

    make_toy(f);
    assert_int_equal(add(f, "{'path': 'header.count', 'new': 515}"), 0);
    assert_int_equal(add(f, "{'path': 'header.inner', 'new': 7}"), 0);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    assert_int_equal(inner(f), 7);
    assert_int_equal(outer(f), 290 + 7);
}

/* ---- paths ---- */

static void every_field_is_found_by_its_path(void **state)
{
    struct fixture *f = *state;
    unsigned looked = 0;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        make(f, &fuzz_qcow2, seed);
        for (int i = 1; i < f->img->parts; i++) {
            const struct fuzz_part *p = &f->img->part[i];
            uint32_t element = p->element ? p->count / 2 : 0;
            for (const struct field *d = p->layout ? p->layout->fields : NULL; d && d->name && p->count;
                 d++) {
                char path[FUZZ_PATH_MAX];
                int part = 0;
                uint32_t found = 0;
                const struct field *field = NULL;
                fuzz_path(f->img, i, element, d, path);
                if (fuzz_path_find(f->img, path, &part, &found, &field) < 0) {
                    fail_msg("seed %llu: '%s' is not found", (unsigned long long)seed, path);
                }
                assert_int_equal(part, i);
                assert_int_equal(found, element);
                assert_ptr_equal(field, d);
                looked++;
            }
        }
    }
    assert_true(looked > 1000);
}

static void paths_that_mean_nothing_are_refused(void **state)
{
    static const char *const bad[] = {
        "{'path': 'header.nothing', 'new': 1}",
        "{'path': 'headers.count', 'new': 1}",
        "{'path': 'low_first.bit[32].bit', 'new': 1}",
        "{'path': 'low_first.bit[-1].bit', 'new': 1}",
        "{'path': 'low_first.bit[99999999999].bit', 'new': 1}",
        "{'path': 'header', 'new': 1}",
        "{'path': 'header.count'}",
        "{'path': 'header.count', 'new': 'many'}",
        "{'path': 'header.count', 'what': 'explode', 'new': 1}",
        "{'path': 'header.numbers[7].entry[1]', 'what': 'swap', 'with': 4}",
        "{'path': 'low_first.bit[1]', 'what': 'swap', 'with': 2}",
        "{'path': 'header', 'what': 'bytes', 'at': 10, 'new': '00112233445566'}",
        "{'path': 'header', 'what': 'bytes', 'at': 0, 'new': '0'}",
        "{'path': 'backing1:file', 'what': 'truncate', 'new': 0}",
        "{'new': 1}",
    };
    struct fixture *f = *state;

    make_toy(f);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (add(f, bad[i]) == 0) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_true(f->err.text[0] != '\0');
    }
    assert_int_equal(f->img->mutations, 0);
}

static void globs_match_as_people_expect(void **state)
{
    static const struct {
        const char *glob, *path;
        bool match;
    } cases[] = {{"header.*", "header.l1_size", true},
                 {"header.*", "header", false},
                 {"l2.*.offset", "l2.entry.offset", true},
                 {"l2.*.offset", "l2.entry.zero", false},
                 {"*", "anything", true},
                 {"*size", "header.l1_size", true},
                 {"*size", "header.size_of", false},
                 {"l?.entry.*", "l1.entry.offset", true},
                 {"l?.entry.*", "l12.entry.offset", false},
                 {"a*b*c", "axxbyybzzc", true},
                 {"a*b*c", "axxbyybzz", false},
                 {"", "", true},
                 {"", "x", false},
                 {"l2[3].*", "l2[3].entry[1].zero", true},
                 {"l2[3].*", "l2[31].entry[1].zero", false}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (fuzz_glob_match(cases[i].glob, cases[i].path) != cases[i].match) {
            fail_msg("'%s' against '%s'", cases[i].glob, cases[i].path);
        }
    }
}

/* ---- configuration ---- */

static void only_the_paths_of_the_configuration_become_hostile(void **state)
{
    struct fixture *f = *state;
    char path[FUZZ_PATH_MAX];

    assert_int_equal(fuzz_config_add(&f->config, &fuzz_qcow2, "l1.*.offset", &f->err), 0);
    assert_int_equal(fuzz_config_add(&f->config, &fuzz_qcow2, "header.l1_size", &f->err), 0);
    for (uint64_t seed = 1; seed <= 100; seed++) {
        make(f, &fuzz_qcow2, seed);
        assert_in_range(f->img->mutations, 1, 3);
        for (unsigned i = 0; i < f->img->mutations; i++) {
            const struct fuzz_mutation *m = &f->img->mutation[i];
            assert_int_equal(m->what, FUZZ_SET);
            fuzz_path(f->img, m->part, m->element, m->field, path);
            if (strcmp(path, "header.l1_size") != 0 && strncmp(path, "l1.entry[", 9) != 0) {
                fail_msg("seed %llu: %s", (unsigned long long)seed, path);
            }
        }
    }
}

static void a_path_with_an_index_is_one_field(void **state)
{
    struct fixture *f = *state;
    char path[FUZZ_PATH_MAX];

    assert_int_equal(fuzz_config_add(&f->config, &fuzz_qcow2, "refcount_block[0].entry[3].refcount", &f->err),
                     0);
    make(f, &fuzz_qcow2, 5);
    assert_true(f->img->mutations >= 1);
    fuzz_path(f->img, f->img->mutation[0].part, f->img->mutation[0].element, f->img->mutation[0].field, path);
    assert_string_equal(path, "refcount_block[0].entry[3].refcount");
}

static void qemus_arrays_are_understood(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fuzz_config_add(&f->config, &fuzz_qcow2,
                                     "[[\"header\", \"version\"], [\"l2_tables\"], [\"backing_file_name\"]]",
                                     &f->err),
                     0);
    assert_int_equal(f->config.nglobs, 5);
    assert_string_equal(f->config.globs[0], "header.*version");
    assert_string_equal(f->config.globs[1], "l2");
    assert_string_equal(f->config.globs[2], "l2.*");
    assert_string_equal(f->config.globs[3], "backing_name");
    assert_false(f->config.valid);
    assert_int_equal(fuzz_config_add(&f->config, &fuzz_qcow2, "[]", &f->err), 0);
    assert_true(f->config.valid);
}

static void wrong_configurations_are_refused(void **state)
{
    static const char *const bad[] = {"",       "[",           "[1]",     "[[1]]", "[[\"a\",\"b\",\"c\"]]",
                                      "size=x", "[[\"a\",2]]", "count=-1"};
    static const char *const bias[] = {"", "0", "-1", "1001", "101%", "3x", "%"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_true(fuzz_config_add(&f->config, NULL, bad[i], &f->err) < 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bias); i++) {
        assert_true(fuzz_config_bias(&f->config, bias[i], &f->err) < 0);
    }
    assert_int_equal(f->config.nglobs, 0);
}

static void choices_can_be_set(void **state)
{
    struct fixture *f = *state;

    f->config.valid = true;
    assert_int_equal(fuzz_config_add(&f->config, NULL, "cluster_bits=12", &f->err), 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        make(f, &fuzz_qcow2, seed);
        assert_int_equal(get_be32(f->img->file[0].bytes + 20), 12);
    }
}

static void bias_moves_the_number_of_hostile_fields(void **state)
{
    struct fixture *f = *state;
    unsigned most = 0;

    f->config.recipes = 0;
    assert_int_equal(fuzz_config_bias(&f->config, "40", &f->err), 0);
    for (uint64_t seed = 1; seed <= 50; seed++) {
        make(f, &fuzz_qcow2, seed);
        most = MAX(most, f->img->mutations);
    }
    assert_true(most > 20);
    assert_int_equal(fuzz_config_bias(&f->config, "30%", &f->err), 0);
    make(f, &fuzz_qcow2, 1);
    assert_true(f->img->mutations > 20);
}

/* ---- the same bytes ---- */

static void nothing_of_one_image_is_left_in_the_next(void **state)
{
    struct fixture *f = *state;

    for (uint64_t seed = 1; seed <= 50; seed++) {
        make(f, &fuzz_qcow2, seed);
        assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
        uint64_t hash = fuzz_image_hash(f->img);
        make(f, &fuzz_qcow2, seed + 1000);
        assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
        assert_true(fuzz_image_hash(f->img) != hash);
        make(f, &fuzz_qcow2, seed);
        assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
        assert_true(fuzz_image_hash(f->img) == hash);
    }
}

static void a_hostile_image_has_the_layout_of_its_valid_twin(void **state)
{
    struct fixture *f = *state;

    f->config.recipes = 0; /* a recipe chooses some of the layout */
    for (uint64_t seed = 1; seed <= 50; seed++) {
        f->config.valid = false;
        make(f, &fuzz_qcow2, seed);
        assert_true(f->img->mutations > 0);
        uint64_t hash = fuzz_image_hash(f->img);
        f->config.valid = true;
        make(f, &fuzz_qcow2, seed);
        assert_true(fuzz_image_hash(f->img) == hash);
    }
}

static void a_record_makes_the_same_image(void **state)
{
    struct fixture *f = *state;
    struct fuzz_config other;

    for (int i = 0; fuzz_formats[i]; i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            make(f, fuzz_formats[i], seed);
            assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
            uint64_t hash = fuzz_image_hash(f->img);
            json_t *j = fuzz_image_record(f->img, false);
            assert_non_null(j);
            fuzz_config_init(&other);
            if (fuzz_image_from_record(f->img, j, &other, &f->err) < 0) {
                fail_msg("%s, seed %llu: %s", fuzz_formats[i]->name, (unsigned long long)seed, f->err.text);
            }
            assert_true(fuzz_image_hash(f->img) == hash);
            json_decref(j);
            fuzz_config_finish(&other);
        }
    }
}

/* As if the generator had changed since. */
static void a_whole_record_needs_no_generator(void **state)
{
    struct fixture *f = *state;
    struct fuzz_config other;

    make(f, &fuzz_qcow2, 3);
    assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
    uint64_t hash = fuzz_image_hash(f->img);
    json_t *whole = fuzz_image_record(f->img, true), *thin = fuzz_image_record(f->img, false);
    json_object_set_new(whole, "seed", json_string("4"));
    json_object_set_new(thin, "seed", json_string("4"));
    fuzz_config_init(&other);
    assert_int_equal(fuzz_image_from_record(f->img, whole, &other, &f->err), 0);
    assert_true(fuzz_image_hash(f->img) == hash);
    assert_true(f->img->parts > 1);
    assert_true(fuzz_image_from_record(f->img, thin, &other, &f->err) < 0);
    json_decref(whole);
    json_decref(thin);
    fuzz_config_finish(&other);
}

static void every_part_lies_in_its_file(void **state)
{
    struct fixture *f = *state;

    f->config.valid = true;
    for (int i = 0; fuzz_formats[i]; i++) {
        for (uint64_t seed = 1; seed <= 100; seed++) {
            make(f, fuzz_formats[i], seed);
            for (int k = 1; k < f->img->parts; k++) {
                const struct fuzz_part *p = &f->img->part[k];
                assert_true(p->offset + p->bytes <= f->img->file[p->file].size);
                assert_true(f->img->file[p->file].size <= FUZZ_LIMIT);
            }
        }
    }
}

/* Whatever the operators do, the image can be made, and goes back to what it was. */
static void mutations_of_every_format_apply(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fuzz_config_bias(&f->config, "50", &f->err), 0);
    for (int i = 0; fuzz_formats[i]; i++) {
        for (uint64_t seed = 1; seed <= 100; seed++) {
            make(f, fuzz_formats[i], seed);
            uint64_t valid = fuzz_image_hash(f->img);
            assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
            fuzz_image_revert(f->img);
            assert_true(fuzz_image_hash(f->img) == valid);
        }
    }
}

static void every_recipe_makes_something_hostile(void **state)
{
    struct fixture *f = *state;
    unsigned made = 0;

    for (int i = 0; fuzz_formats[i]; i++) {
        for (const struct fuzz_recipe *r = fuzz_formats[i]->recipes; r && r->id; r++) {
            unsigned hostile = 0;
            free(f->config.recipe);
            f->config.recipe = strdup(r->id);
            for (uint64_t seed = 1; seed <= 20; seed++) {
                make(f, fuzz_formats[i], seed);
                assert_ptr_equal(f->img->recipe, r);
                assert_true(f->img->mutations > 0);
                hostile += strcmp(f->img->mutation[0].op, "recipe") == 0;
            }
            if (hostile < 8) { /* some layouts have no room for what it needs */
                fail_msg("%s: only %u of 20 images are as it says", r->id, hostile);
            }
            made++;
        }
    }
    assert_true(made > 20);
    free(f->config.recipe);
    f->config.recipe = strdup("no-such-recipe");
    assert_true(fuzz_image_make(f->img, &fuzz_qcow2, 1, &f->config, &f->err) < 0);
}

/* ---- compressed data: what the real decoders say ---- */

static void zlib_and_zstd_read_what_we_compress(void **state)
{
    static const struct {
        size_t len;
        uint64_t total;
    } cases[] = {{1, 512}, {512, 512}, {17, 65536}, {512, 65536}, {100, 2 * MiB},
                 {1, 1},   {3, 4},     {3, 261},    {3, 262}};
    static uint8_t out[64 * KiB], back[2 * MiB + 1], data[512];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 37 + 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = cases[i].len, total = cases[i].total;
        size_t n = fuzz_deflate(data, len, total, out);
        assert_true(n <= fuzz_compressed_max(len, total));
        z_stream z = {.next_in = out, .avail_in = (uInt)n, .next_out = back, .avail_out = sizeof(back)};
        assert_int_equal(inflateInit2(&z, -12), Z_OK);
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_int_equal(z.total_out, total);
        assert_int_equal(z.avail_in, 0);
        inflateEnd(&z);
        assert_memory_equal(back, data, len);
        assert_true(buffer_is_zero(back + len, total - len));
        memset(back, 0xee, sizeof(back));
        n = fuzz_zstd(data, len, total, out);
        assert_true(n <= fuzz_compressed_max(len, total));
        assert_int_equal(ZSTD_decompress(back, sizeof(back), out, n), total);
        assert_memory_equal(back, data, len);
        assert_true(buffer_is_zero(back + len, total - len));
    }
}

/* ---- foreign images ---- */

static void parsers_bear_any_bytes(void **state)
{
    struct fixture *f = *state;
    struct rng rng;
    char path[] = "/tmp/fuzz-image-XXXXXX";

    close(mkstemp(path));
    rng_init(&rng, 1);
    assert_int_equal(fuzz_config_bias(&f->config, "30", &f->err), 0);
    for (int i = 0; fuzz_formats[i]; i++) {
        for (uint64_t seed = 1; fuzz_formats[i]->parse && seed <= 60; seed++) {
            make(f, fuzz_formats[i], seed);
            assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
            assert_int_equal(fuzz_image_write(f->img, path, &f->err), 0);
            assert_int_equal(fuzz_image_open(f->img, path, fuzz_formats[i], &f->config, &f->err), 0);
            fuzz_image_mutate(f->img, &rng, 5);
            assert_int_equal(fuzz_image_apply(f->img, NULL), 0);
            json_decref(fuzz_image_layout(f->img, true));
        }
    }
    make(f, &fuzz_qcow2, 1); /* the foreign file is forgotten */
    for (unsigned i = 1; i < f->img->files; i++) {
        remove(f->img->file[i].name);
    }
    remove(path);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mutation_changes_the_bytes_of_its_field),
        TEST(packed_elements_lie_in_either_order),
        TEST(elements_are_copied_swapped_and_erased),
        TEST(any_part_of_the_list_can_be_applied_and_taken_back),
        TEST(a_file_is_cut_or_grows_and_comes_back),
        TEST(checksums_are_made_right_in_their_order),
        TEST(a_checksum_that_is_hostile_stays_so),
        TEST(every_field_is_found_by_its_path),
        TEST(paths_that_mean_nothing_are_refused),
        TEST(globs_match_as_people_expect),
        TEST(only_the_paths_of_the_configuration_become_hostile),
        TEST(a_path_with_an_index_is_one_field),
        TEST(qemus_arrays_are_understood),
        TEST(wrong_configurations_are_refused),
        TEST(choices_can_be_set),
        TEST(bias_moves_the_number_of_hostile_fields),
        TEST(nothing_of_one_image_is_left_in_the_next),
        TEST(a_hostile_image_has_the_layout_of_its_valid_twin),
        TEST(a_record_makes_the_same_image),
        TEST(a_whole_record_needs_no_generator),
        TEST(every_part_lies_in_its_file),
        TEST(mutations_of_every_format_apply),
        TEST(every_recipe_makes_something_hostile),
        TEST(zlib_and_zstd_read_what_we_compress),
        TEST(parsers_bear_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
