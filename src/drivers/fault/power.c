/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The action power-cut: at this request the power goes, of the write caches of the rule's own disk or of all.
 * The request itself has not been performed then (when=before), or just has (when=after); nobody hears of it.
 */
#include "drivers/fault/member.h"
#include "drivers/wcache/wcache.h"

const char *const fault_cut_disks[] = {"own", "all", NULL};

FAULT_PARSE(fault_parse_cut)
{
    struct wcache_cut *cut = malloc(sizeof(*cut));

    if (!cut) {
        return err_set(err, -ENOMEM, "no memory for a power cut");
    }
    int r = wcache_cut_parse(v, cut, err);
    if (r < 0) {
        free(cut);
        return r;
    }
    rule->cut = cut;
    return 0;
}

static bool is_below(const struct node *root, const struct node *n)
{
    bool found = root == n;

    for (unsigned i = 0; !found && i < root->nchildren; i++) {
        found = root->children[i].node && is_below(root->children[i].node, n);
    }
    return found;
}

/* Does the cache lie above or below the rule's node, or in another branch of the same disk? */
static bool is_own(const struct node *fault, const struct node *cache)
{
    const struct node *top;

    list_for_each (top, &fault->graph->nodes, link) {
        if (is_below(top, fault) && is_below(top, cache)) {
            return true;
        }
    }
    return false;
}

static const struct fault_word lies[] = {{"flush", FAULT_LIE_FLUSH}, {"fua", FAULT_LIE_FUA}, {0}};

FAULT_PARSE(fault_parse_lie)
{
    return fault_parse_words(lies, v, m, &rule->lie, err);
}

void fault_lies_look(struct fault_engine *e)
{
    const struct fault_rule *liar = NULL;
    struct node *n;

    for (unsigned i = 0; i < e->list.nrules && !liar && !e->dry_run; i++) {
        const struct fault_rule *rule = e->list.rules[i];
        liar = rule->enabled && (rule->lie || rule->lie_age_ns) ? rule : NULL;
    }
    if (!liar && !e->lying) {
        return;
    }
    const struct wcache_lie how = {.flush = liar && (liar->lie & FAULT_LIE_FLUSH),
                                   .fua = liar && (liar->lie & FAULT_LIE_FUA),
                                   .age_ns = liar ? liar->lie_age_ns : 0};
    e->lying = liar != NULL;
    list_for_each (n, &e->node->graph->nodes, link) {
        if (wcache_is(n) && (is_below(e->node, n) || is_own(e->node, n))) {
            wcache_lie(n, liar ? &how : NULL);
        }
    }
}

/* False: nothing has power that it could lose. */
static bool cut(struct fault_engine *e, const struct fault_rule *rule)
{
    struct node *nodes[WCACHE_CUT_NODES_MAX], *n;
    struct wcache_cut how = {0};
    struct err err = {0};
    unsigned nnodes = 0;
    uint64_t number;

    if (rule->cut) {
        how = *rule->cut;
    } else {
        (void)wcache_cut_parse(NULL, &how, NULL);
    }
    list_for_each (n, &e->node->graph->nodes, link) {
        bool meant =
            n->filename && wcache_is(n) && !wcache_is_off(n) && (rule->cut_all || is_own(e->node, n));
        if (meant && nnodes < WCACHE_CUT_NODES_MAX) {
            nodes[nnodes++] = n;
        }
    }
    bool done = nnodes > 0 && wcache_power_cut(nodes, nnodes, &how, &number, &err) == 0;
    if (nnodes > 0 && !done && e->node->graph->notice) {
        e->node->graph->notice(e->node->graph, NOTICE_WARNING, err.text);
    }
    return done;
}

int fault_cut_perform(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    bool before = rule->when == FAULT_BEFORE;

    if (before && cut(e, rule)) {
        return -EIO;
    }
    int ret = node_io(node_below(e->node), r);
    return !before && ret == 0 && cut(e, rule) ? -EIO : ret;
}
