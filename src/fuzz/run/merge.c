/* SPDX-License-Identifier: BSD-2-Clause */
/* Campaigns of one configuration become one: the states are joined, then the directories of what the joined
 * state calls newest and smallest are copied. */
#include "fuzz/run/merge.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"

#define DEPTH_MAX 8 /* of a finding's directory; it is 3 */

/* ---- copying ---- */

static int copy_file(const char *from, const char *to, struct err *err)
{
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (in < 0 || fstat(in, &st) < 0) {
        return err_set_errno(err, -errno, "read '%s'", from);
    }
    AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777);
    if (out < 0 || ftruncate(out, st.st_size) < 0) {
        return err_set_errno(err, -errno, "write '%s'", to);
    }
    for (off_t at = 0; (at = lseek(in, at, SEEK_DATA)) >= 0;) { /* holes stay holes */
        off_t end = lseek(in, at, SEEK_HOLE), place = at;
        while (at < end) {
            ssize_t n = copy_file_range(in, &at, out, &place, (size_t)(end - at), 0);
            if (n <= 0) {
                return err_set_errno(err, n < 0 ? -errno : -EIO, "copy '%s' to '%s'", from, to);
            }
        }
    }
    return 0;
}

static int copy_any(const char *from, const char *to, unsigned depth, struct err *err)
{
    struct stat st;

    if (lstat(from, &st) < 0) {
        return err_set_errno(err, -errno, "'%s'", from);
    }
    if (S_ISREG(st.st_mode)) {
        return copy_file(from, to, err);
    }
    DIR *dir = S_ISDIR(st.st_mode) && depth < DEPTH_MAX ? opendir(from) : NULL;
    if (!dir) {
        return 0; /* symbolic links are made anew */
    }
    int r = mkdir(to, 0777) < 0 && errno != EEXIST ? err_set_errno(err, -errno, "make '%s'", to) : 0;
    for (struct dirent *e; r == 0 && (e = readdir(dir));) {
        AUTO_FREE char *a = NULL, *b = NULL;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        r = asprintf(&a, "%s/%s", from, e->d_name) < 0 || asprintf(&b, "%s/%s", to, e->d_name) < 0
                ? err_set(err, -ENOMEM, "no memory")
                : copy_any(a, b, depth + 1, err);
    }
    closedir(dir);
    return r;
}

/* ---- findings ---- */

/* What @from has of one test, and of what belongs to the finding as a whole. */
static int copy_test(const char *from, const char *to, const char *name, struct err *err)
{
    AUTO_FREE char *a = NULL, *b = NULL;

    if (asprintf(&a, "%s/%s", from, name) < 0 || asprintf(&b, "%s/%s", to, name) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    return access(a, F_OK) < 0 ? 0 : copy_any(a, b, 0, err);
}

static int point(const char *dir, const char *name, const char *to, struct err *err)
{
    AUTO_FREE char *link = NULL;

    if (asprintf(&link, "%s/%s", dir, name) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    unlink(link);
    return symlink(to, link) < 0 ? err_set_errno(err, -errno, "make '%s'", link) : 0;
}

static int copy_finding(struct campaign *c, const json_t *row, const char *part, struct err *err)
{
    const char *oracle = json_string_value(json_object_get(row, "oracle"));
    const char *id = json_string_value(json_object_get(row, "id"));
    AUTO_FREE char *from = artefact_dir(part, oracle, id), *to = artefact_dir(c->out, oracle, id);
    char newest[40], smallest[40];

    if (!from || !to) {
        return err_set(err, -ENOMEM, "no memory");
    }
    snprintf(newest, sizeof(newest), "test-%lld",
             (long long)json_integer_value(json_object_get(row, "newest_n")));
    snprintf(smallest, sizeof(smallest), "test-%lld",
             (long long)json_integer_value(json_object_get(row, "smallest_n")));
    if (mkdir(to, 0777) < 0 && errno != EEXIST) {
        return err_set_errno(err, -errno, "make '%s'", to);
    }
    const char *const names[] = {newest, smallest, "finding.json", "minimal"};
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++) {
        r = copy_test(from, to, names[i], err);
    }
    r = r < 0 ? r : point(to, "newest", newest, err);
    return r < 0 ? r : point(to, "smallest", smallest, err);
}

/* ---- one part ---- */

/* The configuration, whichever part of the tests it is for. */
static json_t *whole_config(json_t *config)
{
    json_object_set_new(config, "shard", json_integer(0));
    json_object_set_new(config, "shards", json_integer(1));
    return config;
}

int merge_config(const char *part, json_t **ret_config, struct err *err)
{
    struct state s;
    int r = state_open(&s, part, false, true, err);

    if (r < 0) {
        return r;
    }
    AUTO_FREE char *text = state_get(&s, "config");
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    state_close(&s, NULL);
    if (!config) {
        return err_set(err, -EINVAL, "'%s' is not the directory of a campaign", part);
    }
    *ret_config = whole_config(config);
    return 0;
}

int merge_part(struct campaign *c, const char *part, struct err *err)
{
    AUTO_JSON json_t *theirs = NULL;
    AUTO_JSON json_t *ours = whole_config(campaign_config_json(c->config));
    AUTO_JSON json_t *rows = NULL;
    AUTO_FREE char *path = NULL;
    size_t i;
    json_t *row;

    int r = merge_config(part, &theirs, err);
    if (r < 0) {
        return r;
    }
    if (!json_equal(ours, theirs)) {
        return err_set(err, -EINVAL, "'%s' is another campaign", part);
    }
    if (asprintf(&path, "%s/%s", part, STATE_FILE) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    r = state_merge(&c->state, path, err);
    r = r < 0 ? r : state_query(&c->state, "SELECT * FROM finding", &rows, err);
    json_array_foreach(rows, i, row)
    {
        r = r < 0 ? r : copy_finding(c, row, part, err);
    }
    return r;
}
