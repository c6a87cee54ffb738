/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a power cut has lost. A loss is legal if an honest disk may have it, too: nothing had promised that
 * the write is durable, and every sector holds one of the things that were written to it.
 */
#include <stdio.h>

#include "base/json.h"
#include "block/report_file.h"
#include "drivers/wcache/internal.h"

const char *const wc_fate_names[] = {"lost", "torn", "rolled-back", "split", "zeroed", "garbage"};

_Static_assert(ARRAY_SIZE(wc_fate_names) == WC_FATE_COUNT, "a name for each fate");

/* ---- finding losses ---- */

/* Is all that the piece has of the sector covered by @by? */
static bool covers(struct wc_part by, struct wc_part part)
{
    return by.start <= part.start && by.end >= part.end;
}

/* From the newest piece of a page down: where does a newer one survive? */
static void hide(struct wcache *c, uint32_t top)
{
    struct wc_part newer[WC_PAGE_SECTORS] = {0};

    for (uint32_t i = top; i != WC_NIL; i = c->pieces[i].below) {
        struct wc_piece *p = &c->pieces[i];
        p->hidden = 0;
        for (unsigned sector = 0; sector < WC_PAGE_SECTORS; sector++) {
            struct wc_part part = wc_part_of(p, sector);
            if (!(wc_sectors(p) & 1u << sector)) {
                continue;
            }
            if (covers(newer[sector], part)) {
                p->hidden |= (uint8_t)(1u << sector);
            } else if (p->keep & 1u << sector) {
                newer[sector] = part;
            }
        }
    }
}

/* Of which writes do parts survive? */
static void look_at_writes(struct wcache *c)
{
    for (uint32_t i = c->oldest, next; i != WC_NIL; i = next) {
        bool some = false;
        uint64_t write = c->pieces[i].write;
        for (next = i; next != WC_NIL && c->pieces[next].write == write; next = c->pieces[next].newer) {
            some |= c->pieces[next].keep || c->pieces[next].torn_at;
        }
        for (uint32_t at = i; at != next; at = c->pieces[at].newer) {
            c->pieces[at].partial = some;
        }
    }
}

static enum wc_fate fate_of(const struct wcache *c, const struct wc_piece *p, unsigned sector)
{
    if (p->fill & 1u << sector) {
        return c->cut.fill == WCACHE_FILL_ZERO ? WC_ZEROED : WC_GARBAGE;
    }
    if (p->torn_at && (p->torn_at - 1u) / SECTOR_SIZE == sector) {
        return WC_SPLIT;
    }
    if (c->cut.survivors == WCACHE_OLDER || c->cut.survivors == WCACHE_ERASE_BLOCK) {
        return WC_ROLLED_BACK;
    }
    return p->partial ? WC_TORN : WC_LOST;
}

static int add_loss(struct wcache *c, size_t *room, const struct wc_loss *l)
{
    struct wc_loss *last = c->nlosses ? &c->losses[c->nlosses - 1] : NULL;

    if (last && last->write == l->write && last->fate == l->fate && last->offset + last->bytes == l->offset) {
        last->bytes += l->bytes;
        return 0;
    }
    if (c->nlosses == *room) {
        *room = *room ? *room * 2 : 64;
        struct wc_loss *more = realloc(c->losses, *room * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        c->losses = more;
    }
    c->losses[c->nlosses++] = *l;
    return 0;
}

static int list_piece(struct wcache *c, size_t *room, const struct wc_piece *p)
{
    unsigned gone = wc_sectors(p) & (uint8_t)~p->keep & (uint8_t)~p->hidden;
    int ret = 0;

    for (unsigned sector = 0; ret == 0 && gone >> sector; sector++) {
        struct wc_part part = wc_part_of(p, sector);
        if (gone & 1u << sector) {
            ret = add_loss(c, room,
                           &(struct wc_loss){.offset = p->page * WC_PAGE + part.start,
                                             .bytes = part.end - part.start,
                                             .opno = p->opno,
                                             .write = p->write,
                                             .acked_ns = p->acked_ns,
                                             .covered = p->covered,
                                             .fua = p->fua,
                                             .fate = fate_of(c, p, sector)});
        }
    }
    return ret;
}

int wc_list_losses(struct wcache *c)
{
    size_t room = 0;
    int ret = 0;

    free(TAKE_PTR(c->losses));
    c->nlosses = 0;
    look_at_writes(c);
    for (uint32_t i = c->oldest; i != WC_NIL; i = c->pieces[i].newer) {
        if (c->pieces[i].above == WC_NIL) {
            hide(c, i);
        }
    }
    for (uint32_t i = c->oldest; ret == 0 && i != WC_NIL; i = c->pieces[i].newer) {
        ret = list_piece(c, &room, &c->pieces[i]);
    }
    for (size_t i = 0; i < c->nlosses; i++) {
        bool legal = wc_is_legal(&c->losses[i]);
        c->sum.lost[legal]++;
        c->sum.lost_bytes[legal] += c->losses[i].bytes;
    }
    return ret;
}

/* ---- showing them ---- */

static const char *why(const struct wc_loss *l)
{
    return l->fua                ? "the disk lied: it was written with FUA"
           : l->covered          ? "the disk lied: a flush covered it"
           : l->fate >= WC_SPLIT ? "a sector holds what was never written to it"
                                 : "it was never flushed";
}

static json_t *loss_json(const struct wc_loss *l)
{
    json_t *o =
        json_pack("{s:I, s:I, s:s, s:I, s:I, s:b, s:s}", "offset", (json_int_t)l->offset, "bytes",
                  (json_int_t)l->bytes, "fate", wc_fate_names[l->fate], "operation", (json_int_t)l->opno,
                  "acknowledged-ns", (json_int_t)l->acked_ns, "legal", (int)wc_is_legal(l), "why", why(l));

    if (l->fua) {
        json_object_set_new(o, "fua", json_true());
    }
    if (l->covered) {
        json_object_set_new(o, "flush", json_integer((json_int_t)l->covered));
    }
    return o;
}

static const char *word(const char *option, int value)
{
    return option_find(wcache_cut_options, option)->values[value];
}

json_t *wcache_report(const struct node *n, size_t losses_max)
{
    const struct wcache *c = n->state;
    const struct wc_sum *s = &c->sum;

    if (c->cut_number == 0 || c->settling) {
        return json_null();
    }
    json_t *losses = json_array();
    for (size_t i = 0; i < MIN(c->nlosses, losses_max); i++) {
        json_array_append_new(losses, loss_json(&c->losses[i]));
    }
    json_t *o =
        json_pack("{s:I, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:b}", "cut", (json_int_t)c->cut_number,
                  "node-name", node_name(n), "file", node_filename(node_below(n)), "operation",
                  (json_int_t)c->cut_opno, "time-ns", (json_int_t)c->cut_ns, "survivors",
                  word("survivors", c->cut.survivors), "torn", word("torn", c->cut.torn), "fill",
                  word("fill", c->cut.fill), "seed", (json_int_t)c->cut.seed, "lying", (int)c->lied);
    json_t *more =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:o}", "cached-writes",
                  (json_int_t)s->writes, "cached-bytes", (json_int_t)s->bytes, "legal-losses",
                  (json_int_t)s->lost[1], "legal-bytes", (json_int_t)s->lost_bytes[1], "illegal-losses",
                  (json_int_t)s->lost[0], "illegal-bytes", (json_int_t)s->lost_bytes[0], "spared-bytes",
                  (json_int_t)s->spared_bytes, "complete", (int)(c->cut_error == 0), "omitted",
                  (json_int_t)(c->nlosses - MIN(c->nlosses, losses_max)), "losses", losses);
    json_object_update(o, more);
    json_decref(more);
    return o;
}

/* ---- the file ---- */

int wc_report_open(struct wcache *c, const char *path, struct err *err)
{
    wc_report_close(c);
    return report_file_open(c->node->graph, path, &c->report_fd, err);
}

void wc_report_close(struct wcache *c)
{
    if (c->report_fd >= 0) {
        close(c->report_fd);
        c->report_fd = -1;
    }
}

void wc_write_report(struct wcache *c)
{
    AUTO_JSON json_t *report = c->report_fd >= 0 ? wcache_report(c->node, SIZE_MAX) : NULL;
    int r = c->report_fd >= 0 ? report_file_append(c->report_fd, report) : 0;
    char sentence[256];

    if (r < 0 && c->node->graph->notice) {
        snprintf(sentence, sizeof(sentence), "node '%s': the report of power cut %llu is not written: %s",
                 node_name(c->node), (unsigned long long)c->cut_number, err_name(r));
        c->node->graph->notice(c->node->graph, NOTICE_WARNING, sentence);
    }
}
