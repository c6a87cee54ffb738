/* SPDX-License-Identifier: BSD-2-Clause */
/* query-block and query-named-block-nodes, in the form of QEMU 7.2. */
#include "base/json.h"
#include "qmp/commands.h"

#define CHAIN_MAX 200 /* backing files behind each other */

static json_t *clean_string(const char *text)
{
    AUTO_FREE char *clean = qmp_clean(text, strlen(text)); /* a file name may be anything */

    return json_string(clean ? clean : "");
}

static struct node *backing_of(const struct node *n)
{
    return node_child(n, "backing");
}

/* ImageInfo. */
static co_fn json_t *image_info(struct node *n)
{
    json_t *o = json_pack("{s:o, s:o, s:s}", "virtual-size", json_integer((json_int_t)node_size(n)),
                          "filename", clean_string(node_filename(n)), "format", node_driver_name(n));
    AUTO_JSON json_t *facts = n->drv->image_info ? n->drv->image_info(n) : NULL;
    AUTO_JSON json_t *snapshots = n->drv->snapshot ? n->drv->snapshot->list(n) : NULL;
    json_t *specific = n->drv->info ? n->drv->info(n) : NULL;
    uint64_t allocated;

    if (node_allocated_bytes(n, &allocated) == 0) {
        json_object_set_new(o, "actual-size", json_integer((json_int_t)allocated));
    }
    json_object_update(o, facts);
    json_object_del(o, "vm-state-offset");
    if (json_array_size(snapshots) > 0) {
        json_object_set(o, "snapshots", snapshots);
    }
    if (specific) {
        json_object_set_new(o, "format-specific",
                            json_pack("{s:s, s:o}", "type", node_driver_name(n), "data", specific));
    }
    return o;
}

static co_fn json_t *image_chain(struct node *n)
{
    json_t *first = NULL, *last = NULL;

    for (int i = 0; n && i < CHAIN_MAX; i++, n = backing_of(n)) {
        json_t *info = image_info(n);
        if (last) {
            json_object_set_new(last, "backing-image", info);
        } else {
            first = info;
        }
        last = info;
    }
    return first;
}

static unsigned chain_depth(const struct node *n)
{
    unsigned depth = 0;

    while (depth < CHAIN_MAX && (n = backing_of(n))) {
        depth++;
    }
    return depth;
}

/* BlockDeviceInfo. What we have no notion of is there with its neutral value. */
static co_fn json_t *node_info(struct node *n, bool flat)
{
    static const char *const zeroes[] = {"iops",   "iops_rd", "iops_wr",        "bps",
                                         "bps_rd", "bps_wr",  "write_threshold"};
    json_t *o = json_pack("{s:s, s:s, s:b, s:s, s:b, s:i, s:{s:b, s:b, s:b}}", "node-name", node_name(n),
                          "drv", node_driver_name(n), "ro", (int)node_is_read_only(n), "detect_zeroes", "off",
                          "encrypted", 0, "backing_file_depth", (int)chain_depth(n), "cache", "writeback",
                          !(n->flags & OPEN_WRITETHROUGH), "direct", (n->flags & OPEN_DIRECT) != 0,
                          "no-flush", (n->flags & OPEN_NO_FLUSH) != 0);

    for (size_t i = 0; i < ARRAY_SIZE(zeroes); i++) {
        json_object_set_new(o, zeroes[i], json_integer(0));
    }
    json_object_set_new(o, "file", clean_string(node_filename(n)));
    if (backing_of(n)) {
        json_object_set_new(o, "backing_file", clean_string(node_filename(backing_of(n))));
    }
    json_object_set_new(o, "image", flat ? image_info(n) : image_chain(n));
    return o;
}

QMP_RUN(qmp_query_block)
{
    const struct qmp_server *s = call->server;
    json_t *list = json_array();

    for (unsigned i = 0; i < s->ndisks; i++) {
        json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s, s:o}", "device", s->disks[i].id, "locked",
                                              0, "removable", 0, "type", "unknown", "inserted",
                                              node_info(s->disks[i].node, false)));
    }
    return list;
}

/* Others may open and close nodes while one is asked: the names are taken first. */
QMP_RUN(qmp_query_nodes)
{
    struct graph *g = call->server->config.graph;
    AUTO_JSON json_t *names = json_array();
    json_t *list = json_array(), *name;
    struct node *n;
    size_t i;

    list_for_each (n, &g->nodes, link) {
        if (n->filename) { /* open to its end */
            json_array_append_new(names, json_string(n->name));
        }
    }
    json_array_foreach(names, i, name)
    {
        n = qmp_find_node(call->server, json_string_value(name));
        if (n) {
            node_ref(n);
            json_array_append_new(list, node_info(n, qmp_arg_bool(call, "flat", false)));
            node_unref(n);
        }
    }
    return list;
}
