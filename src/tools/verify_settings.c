/* SPDX-License-Identifier: BSD-2-Clause */
/* Puts --on-mismatch, --on-injected, --report and --oracle into the options of an image, before it is opened.
 */
#include "base/json.h"
#include "block/name.h"
#include "tools/tools.h"

static bool is_string(const json_t *object, const char *key, const char *begins, bool whole)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL && (whole ? strcmp(s, begins) == 0 : strncmp(s, begins, strlen(begins)) == 0);
}

/* {"filename":"blkverify:a:b", ...} to {"driver":"blkverify", ...}; with a format given beside the
 * name, to {"driver":FORMAT,"file":{"driver":"blkverify",...}}. */
static int write_name_out(json_t *options, struct err *err)
{
    AUTO_JSON json_t *name = json_incref(json_object_get(options, "filename"));
    AUTO_JSON json_t *named = NULL;
    bool has_driver = json_object_get(options, "driver") != NULL;

    if (has_driver && json_object_get(options, "file") != NULL) {
        return 0; /* two names for one child: the open says so */
    }
    int r = name_to_options(json_string_value(name), &named, err);
    if (r < 0) {
        return r;
    }
    json_object_del(options, "filename");
    r = has_driver ? json_object_set(options, "file", named) : json_object_update_missing(options, named);
    return r < 0 ? err_set(err, -ENOMEM, "no memory for options") : 0;
}

static int set_missing(json_t *options, const char *key, const char *value, struct err *err)
{
    if (value == NULL || json_object_get(options, key) != NULL) {
        return 0;
    }
    return json_object_set_new(options, key, json_string(value)) < 0
               ? err_set(err, -EINVAL, "%s: '%s' is not UTF-8", key, value)
               : 0;
}

static int settings_below(json_t *options, const struct verify_settings *v, int depth, struct err *err)
{
    const char *key;
    json_t *member;
    int r = 0;

    if (is_string(options, "filename", "blkverify:", false) && (r = write_name_out(options, err)) < 0) {
        return r;
    }
    if ((is_string(options, "driver", "blkverify", true) || is_string(options, "driver", "oracle", true)) &&
        ((r = set_missing(options, "on-mismatch", v->on_mismatch, err)) < 0 ||
         (r = set_missing(options, "on-injected", v->on_injected, err)) < 0 ||
         (r = set_missing(options, "report", v->report, err)) < 0)) {
        return r;
    }
    json_object_foreach(options, key, member)
    {
        if (json_is_object(member) && depth < GRAPH_DEPTH_MAX &&
            (r = settings_below(member, v, depth + 1, err)) < 0) {
            return r;
        }
    }
    return 0;
}

int tool_verify_settings(json_t *options, const struct verify_settings *v, struct err *err)
{
    return v->on_mismatch != NULL || v->on_injected != NULL || v->report != NULL
               ? settings_below(options, v, 0, err)
               : 0;
}

int tool_add_oracle(json_t **options, const struct verify_settings *v, struct err *err)
{
    if (v->oracle == NULL) {
        return 0;
    }
    json_t *above = json_pack("{s:s, s:s, s:O}", "driver", "oracle", "oracle", v->oracle, "file", *options);
    if (above == NULL) {
        return err_set(err, -EINVAL, "--oracle: '%s' is not UTF-8", v->oracle);
    }
    json_decref(*options);
    *options = above;
    return 0;
}
