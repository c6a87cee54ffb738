/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * docs/blkproof-qmp.7.scd and the tables agree: every command, argument, result and event stands in the page,
 * in its own paragraph, and every command and event that has a paragraph exists. blkproof-fault.1.scd
 * names every member of a rule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/fault/fault.h"
#include "qmp/schema.h"

#define PAGE_MAX (1 << 20)

/* The page without scdoc's escapes. */
static char *read_page(const char *name)
{
    static const char *const dirs[] = {"docs", "../docs"};
    char *text = malloc(PAGE_MAX), path[256];
    size_t len = 0;
    FILE *f = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(dirs) && !f; i++) {
        snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
        f = fopen(path, "r");
    }
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF && len + 1 < PAGE_MAX;) {
        if (c != '\\') {
            text[len++] = (char)c;
        }
    }
    text[len] = '\0';
    fclose(f);
    return text;
}

/* The lines behind "*name*" at the beginning of one, up to the next such; malloc'ed. NULL: none. */
static char *paragraph(const char *page, const char *name)
{
    char begin[128];

    snprintf(begin, sizeof(begin), "\n*%s*\n", name);
    const char *at = strstr(page, begin);
    if (!at) {
        return NULL;
    }
    at += strlen(begin);
    const char *end = strstr(at, "\n*"), *part = strstr(at, "\n# ");
    end = end && (!part || end < part) ? end : part;
    return end ? strndup(at, (size_t)(end - at)) : strdup(at);
}

static unsigned missing(const char *what, const char *text, const struct qmp_member *members)
{
    unsigned count = 0;

    for (const struct qmp_member *m = members; m && m->name; m++) {
        char word[128];
        snprintf(word, sizeof(word), "*%s*", m->name);
        if (!strstr(text, word)) {
            print_error("'%s' of '%s' is not in blkproof-qmp(7)\n", m->name, what);
            count++;
        }
        if (m->type->kind == QMP_OBJECT) {
            count += missing(what, text, m->type->members);
        }
        for (size_t i = 0; m->type->kind == QMP_ENUM && m->type->values[i]; i++) {
            snprintf(word, sizeof(word), "_%s_", m->type->values[i]);
            if (!strstr(text, word)) {
                print_error("'%s' of '%s' is not in blkproof-qmp(7)\n", m->type->values[i], what);
                count++;
            }
        }
    }
    return count;
}

static void every_command_and_event_is_explained(void **state)
{
    char *page = read_page("blkproof-qmp.7.scd");
    unsigned count = 0;

    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        char *text = paragraph(page, c->name);
        if (!text) {
            print_error("command '%s' is not in blkproof-qmp(7)\n", c->name);
            count++;
        } else {
            count += missing(c->name, text, c->args);
            count += c->returns->kind == QMP_OBJECT ? missing(c->name, text, c->returns->members) : 0;
            if (!!(c->flags & QMP_OOB) != (strstr(text, "out of band") != NULL)) {
                print_error("'%s': may it come out of band?\n", c->name);
                count++;
            }
        }
        free(text);
    }
    for (const struct qmp_event *e = qmp_events; e->name; e++) {
        char *text = paragraph(page, e->name);
        if (!text) {
            print_error("event '%s' is not in blkproof-qmp(7)\n", e->name);
            count++;
        } else {
            count += missing(e->name, text, e->members);
        }
        free(text);
    }
    free(page);
    assert_int_equal(count, 0);
}

static void what_is_explained_exists(void **state)
{
    char *page = read_page("blkproof-qmp.7.scd");
    const char *at = strstr(page, "\n# COMMANDS");
    unsigned found = 0;

    assert_non_null(at);
    while ((at = strstr(at, "\n*"))) {
        char name[128];
        at += 2;
        if (sscanf(at, "%127[^*\n]*\n", name) == 1 && at[strlen(name)] == '*' &&
            at[strlen(name) + 1] == '\n') {
            if (!qmp_command_find(name) && !qmp_event_find(name)) {
                print_error("'%s' is in blkproof-qmp(7) and does not exist\n", name);
                fail();
            }
            found++;
        }
    }
    assert_true(found > 40);
    free(page);
}

static void every_member_of_a_rule_is_an_option(void **state)
{
    char *page = read_page("blkproof-fault.1.scd");
    struct fault_member_doc doc;

    for (unsigned i = 0; fault_member_doc(i, &doc); i++) {
        char option[128];
        snprintf(option, sizeof(option), "*--%s*", doc.name);
        if (!strstr(page, option)) {
            print_error("%s is not in blkproof-fault(1)\n", option);
            fail();
        }
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_and_event_is_explained),
        cmocka_unit_test(what_is_explained_exists),
        cmocka_unit_test(every_member_of_a_rule_is_an_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
