/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks and nodes by the names that clients know them by. */
#include "qmp/internal.h"

struct node *qmp_find_disk(const struct qmp_server *s, const char *id)
{
    for (unsigned i = 0; i < s->ndisks; i++) {
        if (strcmp(s->disks[i].id, id) == 0) {
            return s->disks[i].node;
        }
    }
    return NULL;
}

struct node *qmp_find_node(const struct qmp_server *s, const char *name)
{
    struct node *n = graph_find(s->config.graph, name);

    return n && n->filename ? n : NULL; /* not one that is just being opened */
}

const char *qmp_server_disk(const struct qmp_server *s, const struct node *n)
{
    for (unsigned i = 0; i < s->ndisks; i++) {
        if (s->disks[i].node == n) {
            return s->disks[i].id;
        }
    }
    return "";
}

static bool is_below(const struct node *root, const struct node *n)
{
    if (root == n) {
        return true;
    }
    for (unsigned i = 0; i < node_children(root); i++) {
        if (is_below(node_child_at(root, i, NULL), n)) {
            return true;
        }
    }
    return false;
}

const char *qmp_disk_of(const struct qmp_server *s, const struct node *n)
{
    for (unsigned i = 0; i < s->ndisks; i++) {
        if (is_below(s->disks[i].node, n)) {
            return s->disks[i].id;
        }
    }
    return "";
}

struct node *qmp_arg_node(struct qmp_call *call)
{
    const char *device = qmp_arg_str(call, "device"), *name = qmp_arg_str(call, "node-name");
    struct node *n = device ? qmp_find_disk(call->server, device) : NULL;

    if (!n && name) {
        n = qmp_find_node(call->server, name);
    }
    if (!n && device && !name) {
        n = qmp_find_node(call->server, device); /* of a disk that was made by blockdev-add */
    }
    if (!n) {
        qmp_fail(call, -ENOENT, "Cannot find device='%.100s' nor node-name='%.100s'", device ? device : "",
                 name ? name : "");
    }
    return n;
}
