/* SPDX-License-Identifier: BSD-2-Clause */
/* File names as users write them; see name.h. */
#include "block/name.h"

#include "base/json.h"

const struct driver *name_driver(const char *name)
{
    for (int i = 0; drivers[i]; i++) {
        for (const char *const *p = drivers[i]->prefixes; p && *p; p++) {
            if (strncmp(name, *p, strlen(*p)) == 0) {
                return drivers[i];
            }
        }
    }
    return NULL;
}

/* Length of "word" in "word:rest" where no slash comes before the colon; 0 if there is none. */
static size_t protocol_length(const char *name)
{
    size_t n = strcspn(name, ":/");

    return name[n] == ':' ? n : 0;
}

/* Members of @from that @to does not have; objects are looked into. */
static int join_missing(json_t *to, json_t *from, struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(from, key, value)
    {
        json_t *there = json_object_get(to, key);
        int r = 0;
        if (!there) {
            r = json_object_set(to, key, value) < 0 ? err_set(err, -ENOMEM, "no memory for options") : 0;
        } else if (json_is_object(there) && json_is_object(value)) {
            r = join_missing(there, value, err);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int name_join_json(const char *name, json_t *options, struct err *err)
{
    AUTO_JSON json_t *parsed = NULL;
    int r = name_to_options(name, &parsed, err);

    return r < 0 ? r : join_missing(options, parsed, err);
}

int name_to_options(const char *name, json_t **ret_options, struct err *err)
{
    if (!*name) {
        return err_set(err, -EINVAL, "The 'file' block driver requires a file name");
    }
    if (strncmp(name, "json:", 5) == 0) {
        AUTO_JSON json_t *parsed = NULL;
        int r = json_parse_object(name + 5, &parsed, err);
        if (r < 0) {
            return err_prefix(err, "Could not parse the JSON options: ");
        }
        return json_nest(parsed, ret_options, err);
    }
    const struct driver *d = name_driver(name);
    size_t protocol = protocol_length(name);
    if (!d && protocol > 0) {
        return err_set(err, -EINVAL, "Unknown protocol '%.*s'", (int)protocol, name);
    }
    AUTO_JSON json_t *options = json_object();
    if (!options || json_object_set_new(options, "driver", json_string(d ? d->name : "file")) < 0) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    int r = 0;
    if (d) {
        r = d->parse_name(name, options, err);
    } else if (json_object_set_new(options, "filename", json_string(name)) < 0) {
        r = err_set(err, -EINVAL, "the file name is not UTF-8");
    }
    if (r == 0) {
        *ret_options = TAKE_PTR(options);
    }
    return r;
}

/* @name relative to the folder of @image. */
static char *beside(const char *image, const char *name)
{
    const char *slash = strrchr(image, '/');

    if (*name == '/' || !slash || strncmp(image, "json:", 5) == 0) {
        return strdup(name);
    }
    size_t folder = (size_t)(slash + 1 - image);
    char *path = malloc(folder + strlen(name) + 1);
    if (path) {
        memcpy(path, image, folder);
        strcpy(path + folder, name);
    }
    return path;
}

int name_inside_image(const struct graph *g, const char *image, const char *name, const char *what,
                      char **ret_path, struct err *err)
{
    bool protocol = protocol_length(name) > 0 || name[0] == ':';

    if (protocol && !g->trust_image_names) {
        return err_set(err, -EPERM,
                       "the image names '%s' as its %s: only plain paths are followed "
                       "(--trust-image-names allows it)",
                       name, what);
    }
    char *path = protocol ? strdup(name) : beside(image, name);
    if (!path) {
        return err_set(err, -ENOMEM, "no memory for a file name");
    }
    *ret_path = path;
    return 0;
}
