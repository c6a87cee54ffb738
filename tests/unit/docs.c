/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The manual pages agree with the tables: every driver has its page docs/blkproof-NAME.7.scd, every
 * option and child of the driver stands in it, and every option that stands in it exists.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/driver.h"

/* Tests run in the top directory (scripts/check) or in the build directory (meson test). */
static const char *const docs_dirs[] = {"docs", "../docs"};

/* "blkverify" is QEMU's name of the driver; the page is called after what it does. */
static const char *page_name(const char *driver)
{
    return strcmp(driver, "blkverify") == 0 ? driver + 3 : driver;
}

/* Drivers that only the tests of this tree can open have no page. */
static bool is_for_users(const struct driver *d)
{
    return strncmp(d->name, "sim", 3) != 0;
}

/* The page, with scdoc's escapes removed; NULL if there is none. */
static char *read_page(const char *driver)
{
    FILE *f = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(docs_dirs) && !f; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/blkproof-%s.7.scd", docs_dirs[i], page_name(driver));
        f = fopen(path, "r");
    }
    if (!f) {
        return NULL;
    }
    size_t len = 0;
    char *text = malloc(1 << 20);
    assert_non_null(text);
    for (int c; (c = fgetc(f)) != EOF && len + 1 < 1 << 20;) {
        if (c != '\\') {
            text[len++] = (char)c;
        }
    }
    text[len] = '\0';
    fclose(f);
    return text;
}

static bool stands_in(const char *page, const char *name)
{
    char marked[128];
    snprintf(marked, sizeof(marked), "*%s*", name);
    return strstr(page, marked) != NULL;
}

static const struct option *find(const struct option *table, const char *name)
{
    for (const struct option *o = table; o && o->name; o++) {
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool is_known(const struct driver *d, const char *name)
{
    if (find(d->options, name) || find(d->create_options, name)) {
        return true;
    }
    for (const struct child_def *c = d->children; c && c->name; c++) {
        if (strcmp(c->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static unsigned check_table(const struct driver *d, const char *page, const struct option *table)
{
    unsigned missing = 0;
    for (const struct option *o = table; o && o->name; o++) {
        if (!stands_in(page, o->name)) {
            print_error("option '%s' of driver '%s' is not in its page\n", o->name, d->name);
            missing++;
        }
    }
    return missing;
}

static void every_option_has_its_entry(void **state)
{
    unsigned missing = 0;
    for (int i = 0; drivers[i]; i++) {
        const struct driver *d = drivers[i];
        if (!is_for_users(d)) {
            continue;
        }
        char *page = read_page(d->name);
        if (!page) {
            print_error("no page docs/blkproof-%s.7.scd\n", page_name(d->name));
            missing++;
            continue;
        }
        missing += check_table(d, page, d->options) + check_table(d, page, d->create_options);
        for (const struct child_def *c = d->children; c && c->name; c++) {
            if (!stands_in(page, c->name)) {
                print_error("child '%s' of driver '%s' is not in its page\n", c->name, d->name);
                missing++;
            }
        }
        free(page);
    }
    assert_int_equal(missing, 0);
}

/* An entry is a line that begins with "*name*=". */
static void every_entry_exists(void **state)
{
    unsigned unknown = 0, entries = 0;
    for (int i = 0; drivers[i]; i++) {
        char *page = is_for_users(drivers[i]) ? read_page(drivers[i]->name) : NULL;
        for (char *line = page; line && *line; line += strcspn(line, "\n"), line += *line == '\n') {
            char name[64];
            int len = 0;
            if (sscanf(line, "*%63[a-z0-9._-]*=%n", name, &len) != 1 || len == 0) {
                continue;
            }
            entries++;
            if (!is_known(drivers[i], name)) {
                print_error("'%s' stands in the page of driver '%s', which has no such option\n", name,
                            drivers[i]->name);
                unknown++;
            }
        }
        free(page);
    }
    assert_true(entries > 10); /* else this reads the wrong thing */
    assert_int_equal(unknown, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_has_its_entry),
        cmocka_unit_test(every_entry_exists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
