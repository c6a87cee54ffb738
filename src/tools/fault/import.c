/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --file, --metadata and --journal: ranges of the disk by what lies there. Before they go into a rule it is
 * made sure, as far as that can be seen from here, that they lie on the disk that the rule is for: its
 * clients' offsets are the node's, the disk has the node's size, and where the disk is a file that the server
 * itself has mounted, it is that of this disk.
 */
#include "base/json.h"
#include "block/driver.h"
#include "tools/fault/fault.h"

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

/* The one fault node that is meant. */
static co_fn int query_node(struct fault_tool *f, json_t **ret_info, struct err *err)
{
    AUTO_JSON json_t *list = NULL;
    int r = client_execute(&f->client, "query-faults", fault_target(f, NULL), &list, err);

    if (r < 0) {
        return r;
    }
    if (json_array_size(list) != 1) {
        return err_set(err, -EINVAL, "there %s: say which, by --disk or --node",
                       json_array_size(list) ? "are several fault nodes" : "is no fault node");
    }
    *ret_info = json_incref(json_array_get(list, 0));
    return 0;
}

/* The node that clients of the disk see. */
static co_fn int query_top(struct fault_tool *f, const json_t *info, char **ret_name, struct err *err)
{
    AUTO_JSON json_t *blocks = NULL;
    json_t *b;
    size_t i;
    int r = client_execute(&f->client, "query-block", NULL, &blocks, err);

    json_array_foreach(blocks, i, b)
    {
        if (strcmp(text(b, "device"), text(info, "device")) == 0) {
            free(*ret_name);
            *ret_name = strdup(text(json_object_get(b, "inserted"), "node-name"));
        }
    }
    return r;
}

/* Another disk of the same server, by where it is mounted? */
static co_fn int check_mount(struct fault_tool *f, const struct disk_place *p, const json_t *info,
                             struct err *err)
{
    AUTO_JSON json_t *exports = NULL;
    AUTO_FREE char *top = NULL;
    json_t *e;
    size_t i;
    int r = p->backing ? client_execute(&f->client, "query-block-exports", NULL, &exports, err) : 0;

    r = r == 0 && exports ? query_top(f, info, &top, err) : r;
    json_array_foreach(exports, i, e)
    {
        AUTO_FREE char *where = *text(e, "mountpoint") ? realpath(text(e, "mountpoint"), NULL) : NULL;
        if (r == 0 && where && strcmp(where, p->backing) == 0 && top &&
            strcmp(text(e, "node-name"), top) != 0) {
            return err_set(err, -EINVAL, "lies on another disk of the server, which is mounted as '%s'",
                           where);
        }
    }
    return r;
}

static co_fn int check_place(struct fault_tool *f, const struct disk_place *p, const json_t *info,
                             struct err *err)
{
    uint64_t size = (uint64_t)json_integer_value(json_object_get(info, "size"));

    if (!json_is_true(json_object_get(info, "same-offsets"))) {
        return err_set(
            err, -EINVAL,
            "an image format is above the node '%s': what lies where in its file is not known here",
            text(info, "node-name"));
    }
    if (p->size != size) {
        return err_set(
            err, -EINVAL,
            "does not lie on this disk: its own (%s) has %llu bytes, this one %llu (rules of a file: "
            "--rules)",
            p->backing ? p->backing : p->path, (unsigned long long)p->size, (unsigned long long)size);
    }
    return check_mount(f, p, info, err);
}

static co_fn int gather(struct fault_tool *f, const json_t *info, json_t *list, struct err *err)
{
    for (unsigned i = 0; i < f->nimports; i++) {
        struct disk_place p = {0};
        int r = ranges_find(f->imports[i].kind, f->imports[i].path, list, &p, err);
        if (r == 0 && info) {
            r = check_place(f, &p, info, err);
            if (r < 0) {
                err_prefix(err, "'%s' ", f->imports[i].path);
            }
        }
        disk_place_finish(&p);
        if (r < 0) {
            return r;
        }
    }
    return json_array_size(list) ? 0
                                 : err_set(err, -EINVAL, "'%s' has nothing on the disk", f->imports[0].path);
}

int fault_import(struct fault_tool *f, struct err *err)
{
    AUTO_JSON json_t *info = NULL, *list = json_array();
    json_t *given = json_object_get(f->rule, "ranges");
    int r = query_node(f, &info, err);

    r = r < 0 ? r : gather(f, info, list, err);
    if (r == 0 && json_is_array(given)) {
        json_array_extend(list, given);
    } else if (r == 0 && given) {
        json_array_append(list, given);
    }
    if (r == 0) {
        json_object_set(f->rule, "ranges", list);
    }
    return r;
}

FAULT_COMMAND(fault_cmd_ranges)
{
    AUTO_JSON json_t *list = json_array();

    if (f->nimports == 0) {
        return err_set(err, -EINVAL, "ranges: of what? Say --file, --metadata or --journal");
    }
    int r = gather(f, NULL, list, err);
    if (r == 0) {
        fault_show_json(list);
    }
    return r;
}
