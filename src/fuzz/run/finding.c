/* SPDX-License-Identifier: BSD-2-Clause */
/* A finding of a campaign, found again by name. */
#include "fuzz/run/finding.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Up from @path to the directory in "findings"; cut there. */
static bool find_dir(char *path)
{
    for (char *slash; (slash = strrchr(path, '/')) && slash > path;) {
        *slash = '\0';
        bool found = strcmp(base_name(path), "findings") == 0;
        if (found) {
            *slash = '/';
            return true;
        }
    }
    return false;
}

static int locate(struct finding *f, const char *name, const char *out, struct err *err)
{
    char path[PATH_MAX];
    AUTO_FREE char *in_out = NULL;

    if (asprintf(&in_out, "%s/findings/%s", out, name) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    /* there may be something inside of it: DIR/newest */
    if (!realpath(name, path) && !realpath(in_out, path)) {
        return err_set(err, -ENOENT, "no finding '%s', neither as a directory nor in '%s'", name, out);
    }
    if (strlen(path) + 2 < sizeof(path)) {
        strcat(path, "/");
    }
    if (!find_dir(path)) {
        return err_set(err, -EINVAL, "'%s' is not in a campaign's directory of findings", name);
    }
    f->dir = strdup(path);
    char *up = strrchr(path, '/');
    *up = '\0';
    up = strrchr(path, '/');
    *up = '\0';
    f->out = strdup(path);
    return f->dir && f->out ? 0 : err_set(err, -ENOMEM, "no memory");
}

static char *take_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return strdup(text ? text : "");
}

static int read_row(struct finding *f, struct err *err)
{
    const char *dash = strrchr(base_name(f->dir), '-');
    char sql[256];
    AUTO_JSON json_t *rows = NULL;

    for (const char *p = dash ? dash + 1 : ""; *p; p++) {
        if (!strchr("0123456789abcdef", *p)) {
            dash = NULL;
            break;
        }
    }
    if (!dash) {
        return err_set(err, -EINVAL, "'%s' is not the directory of a finding", f->dir);
    }
    snprintf(sql, sizeof(sql), "SELECT * FROM finding WHERE id = '%.32s'", dash + 1);
    int r = state_query(&f->state, sql, &rows, err);
    const json_t *row = r < 0 ? NULL : json_array_get(rows, 0);
    if (!row) {
        return r < 0 ? r : err_set(err, -ENOENT, "%s knows no finding '%s'", f->state.path, dash + 1);
    }
    f->id = take_text(row, "id");
    f->oracle = take_text(row, "oracle");
    f->title = take_text(row, "title");
    f->command = take_text(row, "command");
    f->n = (uint64_t)json_integer_value(json_object_get(row, "smallest_n"));
    f->needs = (uint64_t)json_integer_value(json_object_get(row, "needs"));
    return 0;
}

int finding_open(struct finding *f, const char *name, const char *out, struct err *err)
{
    *f = (struct finding){0};
    campaign_config_init(&f->config);
    free(TAKE_PTR(f->config.fuzz.decoy));
    int r = locate(f, name, out, err);
    r = r < 0 ? r : state_open(&f->state, f->out, false, true, err);
    if (r < 0) {
        return r;
    }
    AUTO_FREE char *text = state_get(&f->state, "config");
    AUTO_JSON json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    if (!config) {
        return err_set(err, -EINVAL, "%s has no configuration", f->state.path);
    }
    r = campaign_config_from_json(&f->config, config, err);
    return r < 0 ? r : read_row(f, err);
}

void finding_close(struct finding *f)
{
    state_close(&f->state, NULL);
    campaign_config_finish(&f->config);
    free(f->out);
    free(f->dir);
    free(f->id);
    free(f->oracle);
    free(f->title);
    free(f->command);
    *f = (struct finding){0};
}

int finding_image(const struct finding *f, struct place *p, bool *ret_changed, struct err *err)
{
    AUTO_FREE char *record_path = NULL, *image_path = NULL;
    char hash[32];

    *ret_changed = false;
    int r = source_make(&p->source, f->n, err);
    if (r < 0) {
        return r;
    }
    snprintf(hash, sizeof(hash), "0x%016" PRIx64, fuzz_image_hash(p->source.img));
    if (asprintf(&record_path, "%s/smallest/record.json", f->dir) < 0 ||
        asprintf(&image_path, "%s/smallest/before/test.%s", f->dir, p->source.ext) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    AUTO_JSON json_t *record = json_load_file(record_path, 0, NULL);
    const char *kept = json_string_value(json_object_get(record, "hash"));
    if (!kept || strtoull(kept, NULL, 16) == strtoull(hash, NULL, 16)) {
        return 0;
    }
    if (source_take(&p->source, record, NULL) == 0) {
        return 0; /* with --coverage a test's image is not that of its seed */
    }
    *ret_changed = true;
    return fuzz_image_open(p->source.img, image_path, NULL, &f->config.fuzz, err);
}
