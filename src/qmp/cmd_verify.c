/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about blkverify nodes. */
#include "drivers/verify/verify.h"
#include "qmp/commands.h"

/* The first one at or below @n. */
static struct node *verify_find(struct node *n)
{
    struct node *found = verify_is(n) ? n : NULL;

    for (unsigned i = 0; !found && i < node_children(n); i++) {
        found = verify_find(node_child_at(n, i, NULL));
    }
    return found;
}

/* What the arguments mean, or the only one there is; else the call's error is set. */
static struct node *verify_target(struct qmp_call *call)
{
    struct node *n, *found = NULL;

    if (qmp_arg(call, "device") || qmp_arg(call, "node-name")) {
        n = qmp_arg_node(call);
        found = n ? verify_find(n) : NULL;
        if (n && !found) {
            qmp_fail(call, -EINVAL, "there is no blkverify node at or below '%s'", node_name(n));
        }
        return found;
    }
    list_for_each (n, &call->server->config.graph->nodes, link) {
        if (n->filename && verify_is(n)) {
            if (found) {
                qmp_fail(call, -EINVAL,
                         "there are several blkverify nodes: say which, by device or node-name");
                return NULL;
            }
            found = n;
        }
    }
    if (!found) {
        qmp_fail(call, -ENOENT, "there is no blkverify node");
    }
    return found;
}

static json_t *verify_info(const struct qmp_server *s, const struct node *n)
{
    uint64_t opno = 0;
    bool paused = verify_is_paused(n, &opno);
    json_t *o = verify_counts_json(n);

    json_object_set_new(o, "device", json_string(qmp_disk_of(s, n)));
    json_object_set_new(o, "node-name", json_string(node_name(n)));
    json_object_set_new(o, "paused", json_boolean(paused));
    if (paused) {
        json_object_set_new(o, "operation", json_integer((json_int_t)opno));
    }
    return o;
}

QMP_RUN(qmp_verify_query)
{
    json_t *list = json_array();
    struct node *n;

    if (qmp_arg(call, "device") || qmp_arg(call, "node-name")) {
        n = verify_target(call);
        if (!n) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, verify_info(call->server, n));
        return list;
    }
    list_for_each (n, &call->server->config.graph->nodes, link) {
        if (n->filename && verify_is(n)) {
            json_array_append_new(list, verify_info(call->server, n));
        }
    }
    return list;
}

QMP_RUN(qmp_verify_release)
{
    struct node *n = verify_target(call);

    if (!n) {
        return NULL;
    }
    verify_release(n);
    return json_object();
}

QMP_RUN(qmp_verify_sector)
{
    struct node *n = verify_target(call);
    struct err err = {0};
    json_t *sector = NULL;

    if (!n) {
        return NULL;
    }
    json_int_t offset = qmp_arg_int(call, "offset", 0);
    int r = offset < 0 ? err_set(&err, -EINVAL, "offset: expected a place on the disk")
                       : verify_sector(n, (uint64_t)offset, &sector, &err);
    return r < 0 ? qmp_fail(call, r, "%s", err.text) : sector;
}

static bool go_on(void *opaque, uint64_t done_bytes, uint64_t total_bytes)
{
    return !qmp_is_gone(opaque);
}

QMP_RUN(qmp_scrub)
{
    struct node *n = verify_target(call);
    struct verify_scrub_result result = {0};

    if (!n) {
        return NULL;
    }
    uint64_t before = call->server->config.graph->mismatches;
    int r = verify_scrub(n, go_on, call, &result);
    bool told = r == -EIO && call->server->config.graph->mismatches > before;
    if (r < 0 && !told) {
        return qmp_fail(call, r, "scrub: %s", err_name(r));
    }
    return json_pack("{s:I, s:I, s:I}", "compared-bytes", (json_int_t)result.compared_bytes, "skipped-bytes",
                     (json_int_t)result.skipped_bytes, "mismatches", (json_int_t)result.mismatches);
}
