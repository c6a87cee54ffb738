/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Oracles that look at several commands: what a check says against what a read does, a repair against check,
 * read and itself, and the bytes that two commands read.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz/run/test.h"

#define NONE SIZE_MAX

static bool was_good(const struct test *t, size_t i)
{
    const struct run_result *r = &t->results[i];
    return r->ran && r->end == RUN_EXITED && r->code == 0;
}

/* It said no by itself; what a limit or a signal ended is another oracle's. */
static bool was_refused(const struct test *t, size_t i)
{
    const struct run_result *r = &t->results[i];
    return r->ran && r->end == RUN_EXITED && r->code != 0;
}

/* The next command in @mask behind @after (NONE: from the first) with @role, of @group (NULL: any). */
static size_t next(const struct test *t, uint64_t mask, unsigned role, const char *group, size_t after)
{
    for (size_t i = after == NONE ? 0 : after + 1; i < t->commands->n; i++) {
        const struct run_command *c = &t->commands->list[i];
        if ((mask & UINT64_C(1) << i) && (c->roles & role) && (!group || strcmp(c->group, group) == 0)) {
            return i;
        }
    }
    return NONE;
}

static uint64_t bit(size_t i)
{
    return i == NONE ? 0 : UINT64_C(1) << i;
}

static const char *group_of(const struct test *t, size_t i)
{
    return t->commands->list[i].group;
}

/* ---- check and read ---- */

static int check_against_read(struct test *t, uint64_t mask, struct err *err)
{
    for (size_t check = NONE; (check = next(t, mask, ROLE_CHECK, NULL, check)) != NONE;) {
        if (!was_good(t, check)) {
            continue;
        }
        for (size_t read = NONE; (read = next(t, mask, ROLE_READ, group_of(t, check), read)) != NONE;) {
            char line[96];
            if (!was_refused(t, read)) {
                continue;
            }
            int r = test_command(t, read, err); /* its words were lost since */
            if (r < 0) {
                return r;
            }
            AUTO_FREE char *text = executor_output(t->exec, 4 * KiB);
            bucket_first_line(text, line, sizeof(line));
            if (was_refused(t, read)) {
                test_hit(t, ORACLE_CHECK_READ, read, bit(check), line);
            }
        }
    }
    return 0;
}

/* ---- repair ---- */

struct repairing {
    size_t repair, check, read, bytes;
    bool could_read;
    char before[32]; /* the bytes that were read before: a file */
};

static void hit_repair(struct test *t, const struct repairing *p, const char *detail)
{
    test_hit(t, ORACLE_REPAIR, p->repair, bit(p->check) | bit(p->read) | bit(p->bytes), detail);
}

/* After a repair that says that all is well. */
static int after_repair(struct test *t, const struct repairing *p, struct err *err)
{
    uint64_t at;
    int r = 0;

    if (p->check != NONE && (r = test_command_again(t, p->check, err)) == 0 && was_refused(t, p->check)) {
        hit_repair(t, p, "the check finds errors afterwards");
    }
    if (r == 0 && p->read != NONE && p->could_read && (r = test_command_again(t, p->read, err)) == 0 &&
        was_refused(t, p->read)) {
        hit_repair(t, p, "what could be read before cannot be read afterwards");
    }
    if (r < 0 || p->bytes == NONE || !*p->before) {
        return r;
    }
    char after[32];
    test_out_name(p->bytes, after);
    r = test_command_again(t, p->bytes, err);
    if (r == 0 && was_good(t, p->bytes) && !testdir_same_bytes(t->dir, p->before, after, &at)) {
        hit_repair(t, p, "other data is read afterwards");
    }
    return r;
}

/* A second repair finds nothing to do. */
static int repair_again(struct test *t, const struct repairing *p, struct err *err)
{
    char first[] = "out-repaired";
    uint64_t at;
    char *path = NULL;

    if (asprintf(&path, "%s/%s", t->dir->path, first) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    int r = testdir_copy(t->dir, t->dir->image, path, err);
    free(path);
    r = r < 0 ? r : test_command_again(t, p->repair, err);
    if (r < 0) {
        return r;
    }
    if (was_refused(t, p->repair)) {
        hit_repair(t, p, "a second repair fails");
    } else if (!(t->commands->list[p->repair].roles & ROLE_REWRITES) && was_good(t, p->repair) &&
               !testdir_same_bytes(t->dir, first, t->dir->image, &at)) {
        hit_repair(t, p, "a second repair changes the image again");
    }
    return 0;
}

static int repair(struct test *t, size_t i, uint64_t mask, struct err *err)
{
    const char *group = group_of(t, i);
    struct repairing p = {.repair = i,
                          .check = next(t, mask, ROLE_CHECK, group, NONE),
                          .read = next(t, mask, ROLE_READ, group, NONE),
                          .bytes = next(t, mask, ROLE_BYTES, group, NONE)};

    p.could_read = p.read != NONE && was_good(t, p.read);
    if (p.bytes != NONE && was_good(t, p.bytes)) {
        char name[32];
        test_out_name(p.bytes, name);
        snprintf(p.before, sizeof(p.before), "out-before");
        if (renameat(t->dir->fd, name, t->dir->fd, p.before) < 0) {
            p.before[0] = '\0';
        }
    }
    int r = test_command(t, i, err);
    if (r < 0 || !was_good(t, i) || !(t->oracles & (1u << ORACLE_REPAIR)) || !testdir_touched(t->dir)) {
        return r; /* nothing was wrong, or it said that it cannot */
    }
    r = repair_again(t, &p, err);
    return r < 0 ? r : after_repair(t, &p, err);
}

/* ---- bytes ---- */

static int compare_bytes(struct test *t, uint64_t mask, struct err *err)
{
    size_t a = NONE;

    while ((a = next(t, mask, ROLE_BYTES, NULL, a)) != NONE && !was_good(t, a)) {
    }
    for (size_t b = a; b != NONE && (b = next(t, mask, ROLE_BYTES, NULL, b)) != NONE;) {
        char name_a[32], name_b[32], detail[96];
        uint64_t at;
        test_out_name(a, name_a);
        test_out_name(b, name_b);
        if (was_good(t, b) && !testdir_same_bytes(t->dir, name_a, name_b, &at)) {
            snprintf(detail, sizeof(detail), "not those of %s", t->commands->list[a].name);
            test_hit(t, ORACLE_DIFFERENTIAL, b, bit(a), detail);
        }
    }
    return 0;
}

int test_sequences(struct test *t, uint64_t mask, struct err *err)
{
    int r = 0;

    if (t->oracles & (1u << ORACLE_DIFFERENTIAL)) {
        r = compare_bytes(t, mask, err);
    }
    if (r == 0 && (t->oracles & (1u << ORACLE_CHECK_READ))) {
        r = check_against_read(t, mask, err);
    }
    for (size_t i = NONE; r == 0 && (i = next(t, mask, ROLE_REPAIR, NULL, i)) != NONE;) {
        r = repair(t, i, mask, err);
    }
    return r;
}
