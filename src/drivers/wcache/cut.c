/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The power goes, and comes back. At the instant of the cut nothing waits: all disks that it concerns are off
 * when wcache_power_cut returns. What is on its way to a device then comes to its end there; after that a
 * coroutine for each disk decides what survives, writes that down, and tells.
 */
#include "base/json.h"
#include "drivers/fault/fault.h"
#include "drivers/wcache/internal.h"

static const char *const survivors_values[] = {"none",  "all",         "prefix", "random",
                                               "older", "erase-block", NULL};
static const char *const torn_values[] = {"none", "512", "4096", "bytes", NULL};
static const char *const fill_values[] = {"old", "zero", "garbage", NULL};

#define C(member) offsetof(struct wcache_cut, member)

const struct option wcache_cut_options[] = {
    {"survivors", OPT_ENUM, C(survivors), .def = "none", .values = survivors_values,
     .help = "what of the cache survives: none|all|prefix|random|older|erase-block"},
    {"torn", OPT_ENUM, C(torn), .def = "none", .values = torn_values,
     .help = "writes may survive in part, in units of none|512|4096|bytes"},
    {"fill", OPT_ENUM, C(fill), .def = "old", .values = fill_values,
     .help = "what the lost part of a torn write then holds: old|zero|garbage"},
    {"seed", OPT_UINT, C(seed), .def = "0",
     .help = "of what is left to chance; 0: of the disk's seed, and the number of its cut"},
    {"erase-block", OPT_SIZE, C(erase_block), .def = "256K", .min = WC_PAGE, .max = 1 * GiB,
     .help = "survivors=erase-block: bytes of one"},
    {"off", OPT_NS, C(off_ns), .def = "0", .help = "time without power"},
    {"stay-off", OPT_BOOL, C(stay_off), .def = "off", .help = "no power until power-on"},
    {"mute", OPT_BOOL, C(mute), .def = "off",
     .help = "clients that connect meanwhile are let wait, not refused"},
    {0},
};

int wcache_cut_parse(const json_t *v, struct wcache_cut *ret, struct err *err)
{
    AUTO_JSON json_t *given = NULL;
    struct wcache_cut cut;
    const char *text = json_string_value(v);
    int r = text ? json_from_keyvals(text, NULL, &given, err) : 0;

    if (!v) {
        given = json_object();
    } else if (r == 0 && !text && !(given = json_deep_copy(json_is_object(v) ? v : NULL))) {
        r = err_set(err, -EINVAL, "expected an object, or \"survivors=prefix,torn=512\"");
    }
    r = r == 0 ? options_apply(wcache_cut_options, &cut, given, err) : r;
    if (r < 0) {
        return r;
    }
    if (json_object_size(given) > 0) {
        return err_set(err, -EINVAL, "a power cut has no option '%.100s'",
                       json_object_iter_key(json_object_iter(given)));
    }
    if (cut.erase_block % WC_PAGE) {
        return err_set(err, -EINVAL, "erase-block: expected a multiple of 4096");
    }
    *ret = cut;
    return 0;
}

static void tell(struct wcache *c, const char *event, json_t *more)
{
    struct graph *g = c->node->graph;

    if (g->event) {
        json_t *data =
            json_pack("{s:s, s:I}", "node-name", node_name(c->node), "cut", (json_int_t)c->cut_number);
        json_object_update(data, more);
        graph_event(g, event, data);
    }
    json_decref(more);
}

/* ---- coming back ---- */

static void power_back(struct wcache *c)
{
    timer_disarm(&c->on_timer);
    c->off = false;
    node_reconnected(c->node);
    node_set_presence(c->node, PRESENCE_HERE);
    tell(c, "POWER_ON", json_pack("{s:I}", "operation", (json_int_t)fault_next_opno(c->node)));
}

void wc_on_timer_fires(struct timer *t)
{
    struct wcache *c = container_of(t, struct wcache, on_timer);

    if (c->off && !c->settling) {
        power_back(c);
    }
}

static void come_back(struct wcache *c)
{
    bool at_once = c->ending || (!c->cut.stay_off && c->cut.off_ns == 0);

    if (at_once || (!c->cut.stay_off && timer_arm(&c->on_timer, loop_clock_ns() + c->cut.off_ns) < 0)) {
        power_back(c);
    }
}

/* ---- going ---- */

static co_fn int write_piece(struct wcache *c, const struct wc_piece *p, uint32_t start, uint32_t end)
{
    struct node *below = node_below(c->node);
    uint32_t i = (uint32_t)(p - c->pieces);
    uint64_t offset = p->page * WC_PAGE + start;

    return p->zero ? node_zero(below, offset, end - start, REQ_UNMAP)
                   : node_write(below, offset, wc_data(c, i) + start, end - start, 0);
}

/* The sectors of @bits, run by run. @data: instead of the piece's own, a page; NULL: its own. */
static co_fn int write_bits(struct wcache *c, const struct wc_piece *p, uint8_t bits, const uint8_t *data)
{
    int ret = 0;

    for (unsigned first = 0, last; ret == 0 && first < WC_PAGE_SECTORS; first = last + 1) {
        last = first;
        if (!(bits & 1u << first)) {
            continue;
        }
        while (last + 1 < WC_PAGE_SECTORS && bits & 1u << (last + 1)) {
            last++;
        }
        uint32_t start = wc_part_of(p, first).start, end = wc_part_of(p, last).end;
        ret = data ? node_write(node_below(c->node), p->page * WC_PAGE + start, data + start, end - start, 0)
                   : write_piece(c, p, start, end);
    }
    return ret;
}

static co_fn int write_survivor(struct wcache *c, const struct wc_piece *p, struct rng *garbage)
{
    uint8_t fill[WC_PAGE];
    int ret = write_bits(c, p, p->keep, NULL);

    if (ret == 0 && p->fill) {
        if (c->cut.fill == WCACHE_FILL_GARBAGE) {
            rng_fill(garbage, fill, sizeof(fill));
        } else {
            memset(fill, 0, sizeof(fill));
        }
        ret = write_bits(c, p, p->fill, fill);
    }
    if (ret == 0 && p->torn_at) {
        ret = write_piece(c, p, wc_part_of(p, (p->torn_at - 1u) / SECTOR_SIZE).start, p->torn_at);
    }
    return ret;
}

/* In the order in which they came: the newest of what survives is on top. */
static co_fn int write_survivors(struct wcache *c)
{
    struct rng garbage;
    int ret = 0;

    rng_init(&garbage, ~c->cut.seed);
    while (c->oldest != WC_NIL) {
        const struct wc_piece *p = &c->pieces[c->oldest];
        int r = write_survivor(c, p, &garbage);
        ret = ret < 0 ? ret : r;
        wc_drop(c, c->oldest);
    }
    return ret;
}

static void settle_main(void *arg)
{
    struct wcache *c = arg;
    struct node *n = c->node;

    if (!c->settling) { /* the cut did not come about */
        node_unref(n);
        return;
    }
    while (!list_empty(&c->moves)) {
        co_queue_wait(&c->freed);
    }
    wc_decide_fates(c);
    c->cut_error = wc_list_losses(c);
    int r = write_survivors(c);
    c->cut_error = c->cut_error < 0 ? c->cut_error : r;
    r = wc_memory_take(c);
    c->cut_error = c->cut_error < 0 ? c->cut_error : r;
    c->settling = false;
    wc_write_report(c);
    tell(c, "POWER_CUT",
         json_pack("{s:I, s:I, s:I}", "operation", (json_int_t)c->cut_opno, "legal-bytes",
                   (json_int_t)c->sum.lost_bytes[1], "illegal-bytes", (json_int_t)c->sum.lost_bytes[0]));
    come_back(c);
    co_queue_wake_all(&c->settled);
    node_unref(n);
}

static int check_nodes(struct node *const *nodes, unsigned nnodes, struct err *err)
{
    if (nnodes == 0 || nnodes > WCACHE_CUT_NODES_MAX) {
        return err_set(err, -EINVAL, "the power is cut for 1 to %u disks at once", WCACHE_CUT_NODES_MAX);
    }
    for (unsigned i = 0; i < nnodes; i++) {
        if (!wcache_is(nodes[i])) {
            return err_set(err, -EINVAL, "node '%s' is no write cache", node_name(nodes[i]));
        }
        const struct wcache *c = nodes[i]->state;
        if (c->off || c->settling) {
            return err_set(err, -EBUSY, "node '%s' has no power already", node_name(nodes[i]));
        }
        for (unsigned k = 0; k < i; k++) {
            if (nodes[k] == nodes[i]) {
                return err_set(err, -EINVAL, "node '%s' is named twice", node_name(nodes[i]));
            }
        }
    }
    return 0;
}

/* At this instant. */
static void cut_one(struct wcache *c, const struct wcache_cut *cut, unsigned turn, uint64_t number)
{
    uint64_t mix = c->seed + (c->epoch * WCACHE_CUT_NODES_MAX + turn) * UINT64_C(0x9e3779b97f4a7c15);

    c->epoch++;
    c->off = c->settling = true;
    c->cut = *cut;
    mix = cut->seed ? cut->seed + turn : mix;
    c->cut.seed = splitmix64(&mix) >> 1; /* JSON's integers are signed */
    c->cut_number = number;
    c->cut_opno = fault_next_opno(c->node);
    c->cut_ns = loop_clock_ns();
    c->cut_error = 0;
    c->first_failed = UINT64_MAX;
    c->last_failed = 0;
    c->lied = c->flush == WC_LIE || c->fua == WC_LIE;
    timer_disarm(&c->age_timer);
    node_set_presence(c->node, cut->mute ? PRESENCE_MUTED : PRESENCE_REFUSED);
    co_queue_wake_all(&c->freed);
}

int wcache_power_cut(struct node *const *nodes, unsigned nnodes, const struct wcache_cut *cut,
                     uint64_t *ret_cut, struct err *err)
{
    int r = check_nodes(nodes, nnodes, err);

    for (unsigned i = 0; r == 0 && i < nnodes; i++) { /* those started in vain see that they are not needed */
        r = co_start_later(settle_main, nodes[i]->state);
        if (r == 0) {
            node_ref(nodes[i]);
        } else {
            err_set(err, r, "no memory to cut the power");
        }
    }
    if (r < 0) {
        return r;
    }
    uint64_t number = ++nodes[0]->graph->power_cuts;
    for (unsigned i = 0; i < nnodes; i++) {
        cut_one(nodes[i]->state, cut, i, number);
    }
    *ret_cut = number;
    return 0;
}

int wcache_settle(struct node *n, struct err *err)
{
    struct wcache *c = n->state;

    while (c->settling) {
        co_queue_wait(&c->settled);
    }
    return c->cut_error < 0
               ? err_set_errno(err, c->cut_error, "node '%s': the power cut is not complete", node_name(n))
               : 0;
}

int wcache_power_on(struct node *n, struct err *err)
{
    struct wcache *c = n->state;

    if (!wcache_is(n) || !c->off) {
        return err_set(err, -EINVAL, "node '%s' has its power", node_name(n));
    }
    c->cut.stay_off = false;
    c->cut.off_ns = 0;
    int r = wcache_settle(n, err);
    if (c->off && !c->settling) {
        power_back(c);
    }
    return r;
}

bool wcache_is_off(const struct node *n)
{
    return ((const struct wcache *)n->state)->off;
}

void wc_unhold(struct node *n, bool ending)
{
    struct wcache *c = n->state;

    if (!ending || !c->node) {
        return; /* or it was never opened */
    }
    c->ending = true;
    if (c->off && !c->settling) {
        power_back(c);
    }
}
