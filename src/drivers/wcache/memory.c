/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sectors that power cuts have changed, each with a hash of what it holds since, and which loss is behind
 * it: a verifier that finds one learns that it is no corruption. A sector that is written again is forgotten,
 * but for reads that were on their way.
 */
#include <xxhash.h>

#include "drivers/wcache/internal.h"

#define READ_BYTES  (256 * KiB) /* looked at by one request */
#define WC_PAST_MAX 4096u /* sectors: more than the requests that are on their way at once usually touch */

static struct wc_mark *slot_of(const struct wc_memory *m, uint64_t sector)
{
    uint64_t at = ((sector + 1) * UINT64_C(0x9e3779b97f4a7c15)) >> 20;

    while (m->marks[at & (m->slots - 1)].sector != 0 && m->marks[at & (m->slots - 1)].sector != sector + 1) {
        at++;
    }
    return &m->marks[at & (m->slots - 1)];
}

void wc_memory_finish(struct wc_memory *m)
{
    free(m->marks);
    free(m->past);
    *m = (struct wc_memory){.most = m->most};
}

/* Into twice the slots, or as many; only those of cut @only if that is not 0. */
static int rehash(struct wc_memory *m, uint64_t slots, uint32_t only)
{
    struct wc_memory next = *m;

    next.marks = calloc(slots, sizeof(*next.marks));
    next.slots = slots;
    next.used = 0;
    if (!next.marks) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < m->slots; i++) {
        const struct wc_mark *mark = &m->marks[i];
        if (mark->sector && (!only || mark->cut == only)) {
            *slot_of(&next, mark->sector - 1) = *mark;
            next.used++;
        }
    }
    free(m->marks);
    *m = next;
    return 0;
}

static int put(struct wc_memory *m, const struct wc_mark *mark)
{
    int ret = 0;

    if (m->used >= m->most) { /* the older cuts' sectors give way: those of one are never more than this */
        ret = rehash(m, m->slots, mark->cut);
    }
    if (ret == 0 && (m->used + 1) * 2 > m->slots) {
        ret = rehash(m, m->slots ? m->slots * 2 : 256, 0);
    }
    if (ret < 0) {
        return ret;
    }
    struct wc_mark *slot = slot_of(m, mark->sector - 1);
    bool again = slot->sector && slot->cut == mark->cut;
    bool legal = mark->legal && !(again && !slot->legal);
    m->used += slot->sector == 0;
    if (!again || !mark->legal) {
        *slot = *mark;
    }
    slot->hash = mark->hash;
    slot->legal = legal;
    return 0;
}

static void keep_past(struct wc_memory *m, const struct wc_mark *mark)
{
    m->past = m->past ? m->past : calloc(WC_PAST_MAX, sizeof(*m->past));
    if (m->past) {
        m->past[m->npast++ % WC_PAST_MAX] = (struct wc_past){*mark, m->last_opno};
    }
}

static void forget_one(struct wc_memory *m, uint64_t sector)
{
    struct wc_mark *hole = slot_of(m, sector);

    if (hole->sector == 0) {
        return;
    }
    keep_past(m, hole);
    m->used--;
    hole->sector = 0;
    for (struct wc_mark *at = hole;;) { /* those behind may have wanted its place */
        at = at + 1 == m->marks + m->slots ? m->marks : at + 1;
        if (at->sector == 0) {
            return;
        }
        struct wc_mark moved = *at;
        at->sector = 0;
        *slot_of(m, moved.sector - 1) = moved;
    }
}

void wc_memory_forget(struct wc_memory *m, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset / SECTOR_SIZE, end = (offset + bytes + SECTOR_SIZE - 1) / SECTOR_SIZE;

    if (LIKELY(m->used == 0)) {
        return;
    }
    if (end - first <= m->slots) {
        for (uint64_t sector = first; sector < end; sector++) {
            forget_one(m, sector);
        }
        return;
    }
    for (uint64_t i = 0;
         i < m->slots;) { /* larger than all that is known; what moves into i is looked at, too */
        uint64_t sector = m->marks[i].sector;
        if (sector > first && sector <= end) {
            forget_one(m, sector - 1);
        } else {
            i++;
        }
    }
}

/* ---- after a cut ---- */

static co_fn int take_range(struct wcache *c, const struct wc_loss *l, uint64_t start, uint64_t end,
                            uint8_t *buf)
{
    struct node *below = node_below(c->node);
    uint64_t bytes = MIN(end, node_size(below)) - start;
    int ret = node_read(below, start, buf, bytes);

    memset(buf + bytes, 0, end - start - bytes);
    for (uint64_t at = start; ret == 0 && at < end; at += SECTOR_SIZE) {
        ret = put(&c->memory, &(struct wc_mark){.sector = at / SECTOR_SIZE + 1,
                                                .hash = XXH64(buf + (at - start), SECTOR_SIZE, 0),
                                                .opno = l->opno,
                                                .cut = (uint32_t)c->cut_number,
                                                .legal = wc_is_legal(l),
                                                .fate = l->fate});
    }
    return ret;
}

int wc_memory_take(struct wcache *c)
{
    uint8_t *buf = buf_get(READ_BYTES);
    int ret = buf ? 0 : -ENOMEM;

    for (size_t i = 0; ret == 0 && i < c->nlosses; i++) {
        const struct wc_loss *l = &c->losses[i];
        uint64_t end = round_up(l->offset + l->bytes, SECTOR_SIZE);
        for (uint64_t at = round_down(l->offset, SECTOR_SIZE); ret == 0 && at < end; at += READ_BYTES) {
            ret = take_range(c, l, at, MIN(end, at + READ_BYTES), buf);
        }
    }
    buf_put(buf, READ_BYTES);
    return ret;
}

/* ---- asked ---- */

static const char *what_of(bool legal, uint8_t fate)
{
    return legal              ? "power cut: it was never flushed"
           : fate >= WC_SPLIT ? "power cut: a torn sector"
                              : "power cut: the disk lied about a flush";
}

static const struct wc_mark *find_past(const struct wc_memory *m, uint64_t opno, uint64_t sector,
                                       uint64_t hash)
{
    for (uint64_t i = 0; i < MIN(m->npast, (uint64_t)WC_PAST_MAX); i++) {
        const struct wc_past *p = &m->past[i];
        if (p->mark.sector == sector + 1 && p->mark.hash == hash && opno && opno <= p->until) {
            return &p->mark;
        }
    }
    return NULL;
}

static const struct wc_mark *find(const struct wc_memory *m, const struct blame *b)
{
    uint64_t sector = b->offset / SECTOR_SIZE;

    if (b->offset % SECTOR_SIZE != 0 || b->bytes != SECTOR_SIZE || (m->used == 0 && m->npast == 0)) {
        return NULL;
    }
    uint64_t hash = XXH64(b->data, SECTOR_SIZE, 0);
    const struct wc_mark *mark = m->used ? slot_of(m, sector) : NULL;
    return mark && mark->sector && mark->hash == hash ? mark : find_past(m, b->opno, sector, hash);
}

bool wc_explain(const struct node *n, const struct blame *b, struct explanation *ret)
{
    const struct wcache *c = n->state;

    if (!b->data) { /* it came while there was no power, or was under way when it went */
        bool then = b->result == -EIO && b->opno >= c->first_failed && b->opno <= c->last_failed;
        *ret = (struct explanation){
            .legal = true, .opno = c->cut_opno, .node = node_name(n), .what = "power cut: no power"};
        return then;
    }
    const struct wc_mark *mark = find(&c->memory, b);
    if (!mark) {
        return false;
    }
    *ret = (struct explanation){.legal = mark->legal,
                                .opno = mark->opno,
                                .node = node_name(n),
                                .what = what_of(mark->legal, mark->fate)};
    return true;
}
