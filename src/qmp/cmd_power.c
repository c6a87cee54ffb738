/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about the power of disks with a write cache, and about disks that are copies of each other. */
#include "base/json.h"
#include "block/eligible.h"
#include "drivers/wcache/wcache.h"
#include "qmp/cmd_fault.h"

#define LOSSES_DEFAULT 1000 /* of one disk in a reply: a line of some 200 bytes each */

struct nodes {
    struct node *at[WCACHE_CUT_NODES_MAX];
    unsigned n;
};

static int add(struct qmp_call *call, struct nodes *list, struct node *n)
{
    for (unsigned i = 0; i < list->n; i++) {
        if (list->at[i] == n) {
            return 0;
        }
    }
    if (list->n == WCACHE_CUT_NODES_MAX) {
        qmp_fail(call, -EINVAL, "at most %u disks at once", WCACHE_CUT_NODES_MAX);
        return -EINVAL;
    }
    list->at[list->n++] = n;
    return 0;
}

/* Every write cache at or below @n. */
static int add_caches(struct qmp_call *call, struct nodes *list, struct node *n)
{
    int r = wcache_is(n) ? add(call, list, n) : 0;

    for (unsigned i = 0; r == 0 && i < node_children(n); i++) {
        struct node *child = node_child_at(n, i, NULL);
        r = child ? add_caches(call, list, child) : 0;
    }
    return r;
}

static int add_all(struct qmp_call *call, struct nodes *list)
{
    struct node *n;
    int r = 0;

    list_for_each (n, &call->server->config.graph->nodes, link) {
        r = r == 0 && n->filename && wcache_is(n) ? add(call, list, n) : r;
    }
    if (r == 0 && list->n == 0) {
        qmp_fail(call, -ENOENT, "no disk has a write cache");
        r = -ENOENT;
    }
    return r;
}

/* What the argument (devices or node-names) names. */
static struct node *find_one(struct qmp_call *call, const char *name, bool device)
{
    struct node *n = device ? qmp_find_disk(call->server, name) : NULL;

    n = n ? n : qmp_find_node(call->server, name);
    if (!n) {
        qmp_fail(call, -ENOENT, "there is no %s '%.100s'", device ? "disk" : "node", name);
    }
    return n;
}

/* The write caches of the named disks and nodes; of none: all there are. */
static int targets(struct qmp_call *call, struct nodes *list)
{
    static const char *const members[] = {"devices", "node-names"};
    bool named = false;

    *list = (struct nodes){.n = 0};
    for (size_t m = 0; m < ARRAY_SIZE(members); m++) {
        const json_t *name;
        size_t i;
        json_array_foreach(qmp_arg(call, members[m]), i, name)
        {
            struct node *n = find_one(call, json_string_value(name), m == 0);
            unsigned before = list->n;
            int r = n ? add_caches(call, list, n) : -ENOENT;
            if (r < 0) {
                return r;
            }
            if (list->n == before && !wcache_find(n)) {
                qmp_fail(call, -EINVAL, "there is no write cache at or below '%s'", node_name(n));
                return -EINVAL;
            }
            named = true;
        }
    }
    return named ? 0 : add_all(call, list);
}

static json_t *info(const struct qmp_server *s, struct node *n, size_t losses_max)
{
    json_t *o = n->drv->info(n);

    json_object_set_new(o, "device", json_string(qmp_disk_of(s, n)));
    json_object_set_new(o, "node-name", json_string(node_name(n)));
    json_object_set_new(o, "report", wcache_report(n, losses_max));
    return o;
}

static json_t *infos(struct qmp_call *call, const struct nodes *list)
{
    json_int_t max = qmp_arg_int(call, "losses-max", LOSSES_DEFAULT);
    json_t *array = json_array();

    if (max < 0 || max > 100000) {
        json_decref(array);
        return qmp_fail(call, -EINVAL, "Parameter 'losses-max' expects a number up to 100000");
    }
    for (unsigned i = 0; i < list->n; i++) {
        json_array_append_new(array, info(call->server, list->at[i], (size_t)max));
    }
    return array;
}

/* Once the cuts have taken their effect. @strict: one that has not, wholly, is an error. */
static co_fn json_t *settled(struct qmp_call *call, const struct nodes *list, bool strict)
{
    json_t *result;
    int r = 0;

    for (unsigned i = 0; i < list->n; i++) {
        node_ref(list->at[i]);
    }
    for (unsigned i = 0; i < list->n; i++) {
        int one = wcache_settle(list->at[i], strict ? &call->err : NULL);
        r = strict && r == 0 ? one : r;
    }
    result = r == 0 ? infos(call, list) : NULL;
    for (unsigned i = 0; i < list->n; i++) {
        node_unref(list->at[i]);
    }
    return result;
}

/* Those arguments that are options of a cut. */
static int take_cut(struct qmp_call *call, struct wcache_cut *cut)
{
    AUTO_JSON json_t *given = json_object();

    for (const struct option *o = wcache_cut_options; o->name; o++) {
        if (qmp_arg(call, o->name)) {
            json_object_set(given, o->name, qmp_arg(call, o->name));
        }
    }
    return wcache_cut_parse(given, cut, &call->err);
}

QMP_RUN(qmp_power_cut)
{
    struct nodes list;
    struct wcache_cut cut;
    uint64_t number;

    if (targets(call, &list) < 0 || take_cut(call, &cut) < 0 ||
        wcache_power_cut(list.at, list.n, &cut, &number, &call->err) < 0) {
        return NULL;
    }
    json_t *disks = settled(call, &list, true);
    return disks ? json_pack("{s:I, s:o}", "cut", (json_int_t)number, "disks", disks) : NULL;
}

QMP_RUN(qmp_power_on)
{
    bool named = qmp_arg(call, "devices") || qmp_arg(call, "node-names");
    struct nodes list;
    int r = targets(call, &list), count = 0;

    for (unsigned i = 0; r == 0 && i < list.n; i++) {
        struct node *n = list.at[i];
        if (named || wcache_is_off(n)) {
            node_ref(n);
            r = wcache_power_on(n, &call->err);
            node_unref(n);
            count++;
        }
    }
    return r < 0 ? NULL : json_pack("{s:i}", "disks", count);
}

QMP_RUN(qmp_query_power)
{
    struct nodes list;

    return targets(call, &list) < 0 ? NULL : settled(call, &list, false);
}

/* ---- copies ---- */

QMP_RUN(qmp_fault_group_set)
{
    json_int_t faults = qmp_arg_int(call, "faults", 0);
    struct nodes list = {.n = 0};
    const json_t *name;
    size_t i;

    json_array_foreach(qmp_arg(call, "devices"), i, name)
    {
        struct node *n = find_one(call, json_string_value(name), true);
        if (!n || add(call, &list, n) < 0) {
            return NULL;
        }
    }
    if (faults < 0 || faults > (json_int_t)WCACHE_CUT_NODES_MAX) {
        return qmp_fail(call, -EINVAL, "Parameter 'faults' expects a number from 0");
    }
    int r = eligible_group_set(call->server->config.graph, qmp_arg_str(call, "name"), list.at, list.n,
                               (unsigned)faults, &call->err);
    return r < 0 ? NULL : json_object();
}

QMP_RUN(qmp_query_fault_groups)
{
    return eligible_groups(call->server->config.graph);
}
