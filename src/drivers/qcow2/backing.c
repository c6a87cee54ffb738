/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that an image names: its backing file and its data file. Whoever made the image chose the
 * names, so they are not trusted: only a plain path, and a backing format that is told, are followed,
 * unless the user said --trust-image-names. Loops end at the depth limit of the graph.
 */
#include "drivers/qcow2/qcow2.h"

#include "base/json.h"
#include "block/name.h"

int qcow2_resolve_name(const struct node *n, const char *name, const char *what, char **ret_path,
                       struct err *err)
{
    return name_inside_image(n->graph, node_filename(qcow2_file(n)), name, what, ret_path, err);
}

/* ---- the backing file ---- */

#define BACKING_FAILED "Could not open backing file: "

static int backing_options(const struct node *n, const char *path, json_t **ret_options, struct err *err)
{
    const struct qcow2 *q = n->state;
    bool is_json = strncmp(path, "json:", 5) == 0;
    AUTO_JSON json_t *options = is_json ? json_object() : json_pack("{s:s}", "filename", path);

    if (!options ||
        (q->backing_format && json_object_set_new(options, "driver", json_string(q->backing_format)) < 0)) {
        return err_set(err, -EINVAL, "its name or format is not UTF-8");
    }
    int r = is_json ? name_join_json(path, options, err) : 0;
    if (r == 0) {
        *ret_options = TAKE_PTR(options);
    }
    return r;
}

int qcow2_open_backing(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    AUTO_FREE char *path = NULL;

    if (!q->backing_name || (n->flags & OPEN_NO_BACKING) || node_backing_given(n)) {
        q->backing = node_child(n, "backing");
        return 0;
    }
    int r = qcow2_resolve_name(n, q->backing_name, "backing file", &path, err);
    if (r < 0) {
        return err_prefix(err, "Could not open backing file: ");
    }
    json_t *given = json_object_get(n->options, "backing");
    if (!q->backing_format && !json_object_get(given, "driver") && !n->graph->trust_image_names) {
        return err_set(err, -EPERM,
                       "Could not open backing file: the image does not tell the format of its backing file "
                       "'%s', and guessing is dangerous: name it, or use --trust-image-names",
                       q->backing_name);
    }
    AUTO_JSON json_t *options = NULL;
    r = backing_options(n, path, &options, err);
    r = r < 0 ? r : node_add_backing(n, options, err);
    if (r == -ELOOP && err && strncmp(err->text, BACKING_FAILED, strlen(BACKING_FAILED)) == 0) {
        return r; /* of a chain that does not end, once is enough */
    }
    if (r < 0) {
        return err_prefix(err, BACKING_FAILED);
    }
    q->backing = node_child(n, "backing");
    return 0;
}

/* ---- another one ---- */

static int replace(char **place, const char *text)
{
    char *copy = text && *text ? strdup(text) : NULL;

    if (text && *text && !copy) {
        return -ENOMEM;
    }
    *place = copy;
    return 0;
}

int qcow2_change_backing(struct node *n, const char *name, const char *format)
{
    struct qcow2 *q = qcow2_of(n);
    char *old_name = q->backing_name, *old_format = q->backing_format;
    char *new_name = NULL, *new_format = NULL;

    if (name &&
        (strlen(name) > QCOW2_BACKING_NAME_MAX || ((q->h.autoclear & QCOW2_DATA_FILE_RAW) && *name))) {
        return -EINVAL;
    }
    int r = replace(&new_name, name);
    r = r < 0 ? r : replace(&new_format, name && *name ? format : NULL);
    if (r < 0) {
        free(new_name);
        return r;
    }
    co_mutex_lock(&q->lock);
    q->backing_name = new_name;
    q->backing_format = new_format;
    r = qcow2_settle(n); /* what was written for its sake */
    r = r < 0 ? r : qcow2_write_header(n);
    if (r < 0) {
        q->backing_name = old_name;
        q->backing_format = old_format;
        old_name = new_name;
        old_format = new_format;
    }
    co_mutex_unlock(&q->lock);
    free(old_name);
    free(old_format);
    return r;
}

/* ---- the data file ---- */

/* Its name is relative to the working directory, not to the image: so QEMU has it. */
static int data_path(const struct node *n, const char *name, char **ret_path, struct err *err)
{
    int r = qcow2_resolve_name(n, name, "data file", ret_path, err);

    if (r == 0) {
        free(*ret_path);
        *ret_path = strdup(name);
        r = *ret_path ? 0 : err_set(err, -ENOMEM, "no memory for a file name");
    }
    return r;
}

int qcow2_open_data_file(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct node *given = node_child(n, "data-file");
    AUTO_FREE char *path = NULL;

    q->data = qcow2_file(n);
    if (!qcow2_has_data_file(q)) {
        bool raw = q->h.autoclear & QCOW2_DATA_FILE_RAW;
        if (raw && !(n->flags & OPEN_NO_IO)) { /* else zeroes meant for it would go to the image file */
            return err_set(err, -EINVAL, "data-file-raw requires a data file");
        }
        return given ? err_set(err, -EINVAL,
                               "'data-file' can only be set for images with an external data file")
                     : 0;
    }
    if (!given && (n->flags & OPEN_NO_IO)) {
        q->data = NULL;
        return 0;
    }
    if (!given) {
        if (!q->data_name) {
            return err_set(err, -EINVAL, "'data-file' is required for this image");
        }
        int r = data_path(n, q->data_name, &path, err);
        AUTO_JSON json_t *options = r == 0 ? json_pack("{s:s}", "filename", path) : NULL;
        r = r < 0      ? r
            : !options ? err_set(err, -EINVAL, "its name is not UTF-8")
                       : node_add_child(n, "data-file", options, err);
        if (r < 0) {
            return r;
        }
        given = node_child(n, "data-file");
    }
    q->data = given;
    return 0;
}
