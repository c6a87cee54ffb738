/* SPDX-License-Identifier: BSD-2-Clause */
/* Rule files: reading one, wherever it comes from, and what it says once for all its rules. */
#include <fcntl.h>

#include "base/json.h"
#include "block/own.h"
#include "drivers/fault/internal.h"

#define RULE_FILE_MAX (16 * MiB) /* more than FAULT_RULES_MAX rules need */

static co_fn int read_all(struct lfile *f, char **ret_text, struct err *err)
{
    uint64_t size = 0;
    int r = lfile_size(f, &size);

    if (r == 0 && size > RULE_FILE_MAX) {
        return err_set(err, -EFBIG, "more than %llu bytes", (unsigned long long)RULE_FILE_MAX);
    }
    char *text = r == 0 ? malloc(size + 1) : NULL;
    if (r == 0 && !text) {
        return err_set(err, -ENOMEM, "no memory for it");
    }
    if (r == 0) {
        struct iovec iov = {text, size};
        r = size ? lfile_read(f, &iov, 1, 0, 0) : 0;
        text[size] = '\0';
    }
    if (r == 0 && strlen(text) != size) {
        r = err_set(err, -EINVAL, "not a text: it has a zero byte");
        free(text);
        return r;
    }
    if (r < 0) {
        free(text);
        return err_set_errno(err, r, "cannot be read");
    }
    *ret_text = text;
    return 0;
}

/* What is no file: /dev/null, or a pipe. Its read may block, so it runs on a worker thread. */
struct stream {
    const char *path;
    char *text;
    struct err *err;
};

static int read_stream(void *arg)
{
    struct stream *s = arg;
    size_t len = 0, max = 64 * KiB;
    AUTO_CLOSE int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    AUTO_FREE char *text = malloc(max);
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 && text && len < RULE_FILE_MAX) {
        if (max - len < 2) {
            char *grown = realloc(text, max *= 2);
            if (!grown) {
                break;
            }
            text = grown;
        }
        n = read(fd, text + len, max - len - 1);
        len += n > 0 ? (size_t)n : 0;
    }
    if (n < 0) {
        return err_set_errno(s->err, -errno, "Could not open '%s'", s->path);
    }
    if (n > 0 || !text || memchr(text, '\0', len)) {
        return err_set(s->err, -EINVAL, "'%s': not a text, or more than %llu bytes of it", s->path,
                       (unsigned long long)RULE_FILE_MAX);
    }
    text[len] = '\0';
    s->text = TAKE_PTR(text);
    return 0;
}

int fault_read_text(struct graph *g, const char *path, char **ret_text, struct err *err)
{
    struct lfile *f;
    int r = g ? graph_refuse_own(g, path, err) : 0;

    if (r < 0) {
        return r;
    }
    r = lfile_open(path, O_RDONLY, 0, &f);

    if (r == -ENOTBLK) {
        struct stream s = {.path = path, .err = err};
        r = loop_work(read_stream, &s);
        if (r == 0) {
            *ret_text = s.text;
        }
        return r;
    }
    if (r < 0) {
        return err_set_errno(err, r, "Could not open '%s'", path);
    }
    r = read_all(f, ret_text, err);
    if (r < 0) {
        err_prefix(err, "'%s': ", path);
    }
    lfile_close(f);
    return r;
}

/* "ranges": "@NAME", or in a list of ranges, stands for what the file calls so. */
static int use_set(json_t *rule, const json_t *sets, struct err *err)
{
    json_t *given = json_object_get(rule, "ranges"), *one;
    AUTO_JSON json_t *list = json_is_array(given) ? json_incref(given) : json_pack("[O]", given);
    AUTO_JSON json_t *out = json_array();
    size_t i;

    json_array_foreach(list, i, one)
    {
        const char *name = json_string_value(one);
        json_t *set = name && *name == '@' ? json_object_get(sets, name + 1) : NULL;
        if (name && *name == '@' && !set) {
            return err_set(err, -EINVAL, "there are no range-sets called '%.60s'", name + 1);
        }
        if (json_is_array(set) ? json_array_extend(out, set) : json_array_append(out, set ? set : one)) {
            return err_set(err, -ENOMEM, "no memory for the rules");
        }
    }
    return json_object_set(rule, "ranges", out);
}

static int use_sets(json_t *rules, const json_t *sets, struct err *err)
{
    json_t *rule;
    size_t i;
    int r = json_is_object(sets) ? 0 : err_set(err, -EINVAL, "range-sets: expected {\"NAME\": ranges, ...}");

    json_array_foreach(rules, i, rule)
    {
        r = r == 0 && json_object_get(rule, "ranges") ? use_set(rule, sets, err) : r;
    }
    return r;
}

/* What a file says once for all its rules goes into each. */
static int scale_rules(json_t *rules, const json_t *scale, struct err *err)
{
    double all = 1, own;
    json_t *rule;
    size_t i;
    int r = fault_parse_scale(scale, &all, err);

    json_array_foreach(rules, i, rule)
    {
        const json_t *given = json_object_get(rule, "time-scale");
        own = 1;
        r = r == 0 && given ? fault_parse_scale(given, &own, err) : r;
        if (r == 0 && json_is_object(rule)) {
            json_object_set_new(rule, "time-scale", json_real(all * own));
        }
    }
    return r;
}

/* {"rules": [...], "time-scale": ..., "range-sets": {...}}, or the rules alone. */
static int take_parts(json_t *j, json_t **ret_rules, struct err *err)
{
    json_t *rules = json_is_array(j) ? j : json_object_get(j, "rules"), *scale = NULL, *sets = NULL;

    if (!json_is_array(rules) || (rules != j && json_unpack(j, "{s:o, s?o, s?o !}", "rules", &rules,
                                                            "time-scale", &scale, "range-sets", &sets) < 0)) {
        return err_set(err, -EINVAL, "expected {\"rules\": [...]} or [...]");
    }
    int r = scale ? scale_rules(rules, scale, err) : 0;
    r = r == 0 && sets ? use_sets(rules, sets, err) : r;
    if (r == 0) {
        *ret_rules = json_incref(rules);
    }
    return r;
}

int fault_read_file(struct graph *g, const char *path, json_t **ret_rules, struct err *err)
{
    AUTO_FREE char *text = NULL;
    json_error_t e;
    int r = fault_read_text(g, path, &text, err);

    if (r < 0) {
        return r;
    }
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!j) {
        return err_set(err, -EINVAL, "'%s': line %d: %s", path, e.line, e.text);
    }
    r = take_parts(j, ret_rules, err);
    json_decref(j);
    return r < 0 ? err_prefix(err, "'%s': ", path) : 0;
}
