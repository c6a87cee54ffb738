/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which copies are damaged where. Every node of a member that shows the same bytes at the same offsets points
 * at the member; a member holds its damaged ranges sorted, and apart from each other.
 */
#include "block/eligible.h"

#include "block/driver.h"

struct range {
    uint64_t start, end;
};

struct eligible_member {
    struct eligible_group *group;
    struct node *root; /* NULL: it was closed */
    struct range *ranges;
    unsigned nranges, room;
};

struct eligible_group {
    struct list link; /* graph->groups */
    char *name;
    unsigned faults, nmembers;
    uint64_t refused;
    struct eligible_member members[];
};

/* ---- ranges ---- */

/* The first that ends behind @start. */
static unsigned first_at(const struct eligible_member *m, uint64_t start)
{
    unsigned low = 0, high = m->nranges;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (m->ranges[middle].end > start) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int make_room(struct eligible_member *m)
{
    if (m->nranges < m->room) {
        return 0;
    }
    unsigned room = m->room ? m->room * 2 : 16;
    struct range *more = m->nranges < ELIGIBLE_RANGES_MAX ? realloc(m->ranges, room * sizeof(*more)) : NULL;
    if (!more) {
        return -ENOMEM;
    }
    m->ranges = more;
    m->room = room;
    return 0;
}

static void replace(struct eligible_member *m, unsigned at, unsigned gone, unsigned added)
{
    memmove(m->ranges + at + added, m->ranges + at + gone, (m->nranges - at - gone) * sizeof(*m->ranges));
    m->nranges = m->nranges - gone + added;
}

static bool add(struct eligible_member *m, uint64_t start, uint64_t end)
{
    unsigned at = first_at(m, start), gone = 0;

    if (at < m->nranges && m->ranges[at].start <= start && m->ranges[at].end >= end) {
        return true;
    }
    if (make_room(m) < 0) {
        return false;
    }
    for (; at + gone < m->nranges && m->ranges[at + gone].start < end; gone++) {
        start = MIN(start, m->ranges[at + gone].start);
        end = MAX(end, m->ranges[at + gone].end);
    }
    replace(m, at, gone, 1);
    m->ranges[at] = (struct range){start, end};
    return true;
}

static void cut_out(struct eligible_member *m, uint64_t start, uint64_t end)
{
    unsigned at = first_at(m, start);

    while (at < m->nranges && m->ranges[at].start < end) {
        struct range *r = &m->ranges[at];
        if (r->start < start && r->end > end) { /* a hole in it */
            if (make_room(m) < 0) {
                return; /* it counts as damaged on */
            }
            replace(m, at, 0, 1);
            m->ranges[at].end = start;
            m->ranges[at + 1].start = end;
            return;
        }
        if (r->start < start) {
            r->end = start;
            at++;
        } else if (r->end > end) {
            r->start = end;
        } else {
            replace(m, at, 1, 0);
        }
    }
}

/* ---- asking ---- */

static bool is_damaged(const struct eligible_member *m, uint64_t start, uint64_t end)
{
    unsigned at = first_at(m, start);

    return at < m->nranges && m->ranges[at].start < end;
}

bool eligible_damage(struct node *n, uint64_t offset, uint64_t bytes)
{
    struct eligible_member *m = n->eligible;
    unsigned damaged = 0;

    if (LIKELY(!m) || bytes == 0) {
        return true;
    }
    struct eligible_group *g = m->group;
    for (unsigned i = 0; i < g->nmembers;
         i++) { /* also where each has another part: that errs to the safe side */
        damaged += &g->members[i] != m && is_damaged(&g->members[i], offset, offset + bytes);
    }
    if (damaged >= g->faults || !add(m, offset, offset + bytes)) {
        g->refused++;
        return false;
    }
    return true;
}

void eligible_heal(struct node *n, uint64_t offset, uint64_t bytes)
{
    if (UNLIKELY(n->eligible) && n->eligible->nranges > 0) {
        cut_out(n->eligible, offset, offset + bytes);
    }
}

/* ---- groups ---- */

/* The node and what lies below it at the same offsets. */
static void mark(struct node *n, struct eligible_member *m)
{
    while (n) {
        n->eligible = m;
        n = n->nchildren > 0 && n->drv->kind == DRIVER_FILTER ? node_below(n) : NULL;
    }
}

static void group_free(struct graph *graph, struct eligible_group *g)
{
    struct node *n;

    list_for_each (n, &graph->nodes, link) {
        if (n->eligible && n->eligible->group == g) {
            n->eligible = NULL;
        }
    }
    for (unsigned i = 0; i < g->nmembers; i++) {
        free(g->members[i].ranges);
    }
    list_del(&g->link);
    free(g->name);
    free(g);
}

void eligible_forget(struct node *n)
{
    struct eligible_member *m = n->eligible;

    if (!m) {
        return;
    }
    if (m->root == n) {
        m->root = NULL;
    }
    n->eligible = NULL;
    for (unsigned i = 0; i < m->group->nmembers; i++) {
        if (m->group->members[i].root) {
            return;
        }
    }
    group_free(n->graph, m->group);
}

static struct eligible_group *find(const struct graph *graph, const char *name)
{
    struct eligible_group *g;

    list_for_each (g, &graph->groups, link) {
        if (strcmp(g->name, name) == 0) {
            return g;
        }
    }
    return NULL;
}

static int check_members(const struct eligible_group *old, struct node *const *members, unsigned nmembers,
                         unsigned faults, struct err *err)
{
    if (nmembers < 2 || nmembers > ELIGIBLE_MEMBERS_MAX || faults >= nmembers) {
        return err_set(err, -EINVAL, "a group has 2 to %u members, and fewer faults than these",
                       ELIGIBLE_MEMBERS_MAX);
    }
    for (unsigned i = 0; i < nmembers; i++) {
        if (members[i]->eligible && members[i]->eligible->group != old) {
            return err_set(err, -EINVAL, "node '%s' is in the group '%s' already", node_name(members[i]),
                           members[i]->eligible->group->name);
        }
        for (unsigned k = 0; k < i; k++) {
            if (members[k] == members[i]) {
                return err_set(err, -EINVAL, "node '%s' is named twice", node_name(members[i]));
            }
        }
    }
    return 0;
}

int eligible_group_set(struct graph *graph, const char *name, struct node *const *members, unsigned nmembers,
                       unsigned faults, struct err *err)
{
    struct eligible_group *old = find(graph, name), *g = NULL;
    int r = nmembers ? check_members(old, members, nmembers, faults, err) : 0;

    if (r < 0) {
        return r;
    }
    if (nmembers > 0) {
        g = calloc(1, sizeof(*g) + nmembers * sizeof(g->members[0]));
        if (!g || !(g->name = strdup(name))) {
            free(g);
            return err_set(err, -ENOMEM, "no memory for a group");
        }
    } else if (!old) {
        return err_set(err, -ENOENT, "there is no group '%s'", name);
    }
    if (old) {
        group_free(graph, old);
    }
    if (g) {
        g->faults = faults;
        g->nmembers = nmembers;
        list_add_tail(&graph->groups, &g->link);
        for (unsigned i = 0; i < nmembers; i++) {
            g->members[i] = (struct eligible_member){.group = g, .root = members[i]};
            mark(members[i], &g->members[i]);
        }
    }
    return 0;
}

json_t *eligible_groups(const struct graph *graph)
{
    json_t *list = json_array();
    const struct eligible_group *g;

    list_for_each (g, &graph->groups, link) {
        json_t *members = json_array();
        for (unsigned i = 0; i < g->nmembers; i++) {
            uint64_t bytes = 0;
            for (unsigned k = 0; k < g->members[i].nranges; k++) {
                bytes += g->members[i].ranges[k].end - g->members[i].ranges[k].start;
            }
            if (g->members[i].root) {
                json_array_append_new(members,
                                      json_pack("{s:s, s:I}", "node-name", node_name(g->members[i].root),
                                                "damaged-bytes", (json_int_t)bytes));
            }
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:I, s:o}", "name", g->name, "faults", (int)g->faults,
                                        "refused", (json_int_t)g->refused, "members", members));
    }
    return list;
}
