/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The header changes: by one write within one sector, which a crash finds done or not done. Where that cannot
 * be known because a request failed, what was there is written back; where that fails, too, nothing is
 * written to the image any more. A header of several sectors (names, extensions) changes by way of one that
 * needs only the first: so there is a whole one at any time.
 */
#include "drivers/qcow2/qcow2.h"

static co_fn int write_durably(struct node *n, uint64_t offset, const void *bytes, uint64_t len)
{
    int r = qcow2_write_meta(n, QCOW2_PART_HEADER, offset, bytes, len);

    return r < 0 ? r : node_flush(qcow2_file(n));
}

int qcow2_switch_header(struct node *n, uint64_t offset, const void *bytes, uint64_t len)
{
    uint8_t before[SECTOR_SIZE];

    assert(offset / SECTOR_SIZE == (offset + len - 1) / SECTOR_SIZE);
    int r = qcow2_read_meta(n, offset, before, len);
    if (r < 0) {
        return r;
    }
    r = write_durably(n, offset, bytes, len);
    if (r < 0 && !qcow2_of(n)->corrupt && write_durably(n, offset, before, len) < 0) {
        qcow2_give_up(n);
    }
    return r;
}

int qcow2_write_header_field(struct node *n, const char *name)
{
    struct qcow2 *q = qcow2_of(n);
    const struct field *f = layout_field(&qcow2_header_layout, name);
    uint8_t bytes[QCOW2_HEADER_BYTES] = {0};

    assert(f);
    field_put(f, bytes, field_member(f, &q->h));
    return qcow2_switch_header(n, f->offset, bytes + f->offset, f->width);
}

/* ---- all of it ---- */

/* What a reader of this first cluster looks at lies before: extensions, names. */
static uint64_t used_end(const uint8_t *cluster, uint64_t cluster_bytes)
{
    struct qcow2_header h;

    layout_parse(&qcow2_header_layout, cluster, QCOW2_HEADER_BYTES, get_be32(cluster + 4), &h);
    uint64_t at = h.version < 3 ? QCOW2_V2_HEADER_BYTES : h.header_bytes;
    uint64_t end = h.backing_offset ? h.backing_offset : cluster_bytes;
    while (at + 8 <= end) {
        uint32_t type = get_be32(cluster + at), bytes = get_be32(cluster + at + 4);
        at += 8;
        if (type == QCOW2_EXT_END || bytes > end - at) {
            break;
        }
        at += round_up((uint64_t)bytes, 8);
    }
    return MAX(at, h.backing_offset + (h.backing_offset ? h.backing_bytes : 0));
}

/* From @from to @to, of which the reader of @from looks at more than the first sector: first a header that
 * says the same as @to in one sector, with the backing file's name behind everything else. */
static co_fn int bridge(struct node *n, const uint8_t *from, const uint8_t *to, uint8_t *between)
{
    const struct qcow2 *q = qcow2_of(n);
    uint64_t name_at =
        round_up(MAX(used_end(from, q->cluster_bytes), used_end(to, q->cluster_bytes)), SECTOR_SIZE);
    int r = qcow2_render_bridge(q, name_at, between);

    if (r == 0 && q->backing_name) {
        r = write_durably(n, name_at, between + name_at, strlen(q->backing_name));
    }
    return r < 0 ? r : qcow2_switch_header(n, 0, between, SECTOR_SIZE);
}

/* In any order: names so long that there is no other way. */
static co_fn int write_at_once(struct node *n, const uint8_t *to)
{
    int r = write_durably(n, 0, to, qcow2_of(n)->cluster_bytes);

    if (r < 0 && !qcow2_of(n)->corrupt) {
        qcow2_give_up(n);
    }
    return r;
}

/* Nobody looks at what lies behind the first sector: it goes down, then the first. */
static co_fn int write_in_order(struct node *n, const uint8_t *to)
{
    uint64_t end = round_up(used_end(to, qcow2_of(n)->cluster_bytes), SECTOR_SIZE);
    int r = end > SECTOR_SIZE ? write_durably(n, SECTOR_SIZE, to + SECTOR_SIZE, end - SECTOR_SIZE) : 0;

    return r < 0 ? r : qcow2_switch_header(n, 0, to, SECTOR_SIZE);
}

static co_fn int replace(struct node *n, const uint8_t *from, const uint8_t *to, uint8_t *between)
{
    struct qcow2 *q = qcow2_of(n);

    if (memcmp(from + SECTOR_SIZE, to + SECTOR_SIZE, q->cluster_bytes - SECTOR_SIZE) == 0) {
        return qcow2_switch_header(n, 0, to, SECTOR_SIZE);
    }
    if (used_end(from, q->cluster_bytes) <= SECTOR_SIZE) {
        return write_in_order(n, to);
    }
    int r = bridge(n, from, to, between);
    if (r == -ENOSPC) {
        return write_at_once(n, to);
    }
    if (r == 0) {
        write_in_order(n, to); /* if that fails the one between stays, which says the same */
        r = q->corrupt ? -EIO : 0;
    }
    return r;
}

/* What the file has of it; the rest is zeroes. */
static co_fn int read_first_cluster(struct node *n, uint8_t *cluster)
{
    uint64_t bytes = qcow2_of(n)->cluster_bytes, have = MIN(bytes, node_size(qcow2_file(n)));

    memset(cluster + have, 0, bytes - have);
    return qcow2_read_meta(n, 0, cluster, have);
}

int qcow2_write_header(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = q->cluster_bytes;
    uint8_t *from = buf_get(bytes), *to = buf_get(bytes), *between = buf_get(bytes);
    int r = from && to && between ? qcow2_render_header(q, to) : -ENOMEM;

    r = r < 0 ? r : read_first_cluster(n, from);
    r = r < 0 ? r : replace(n, from, to, between);
    if (r == 0) { /* names may have moved */
        struct qcow2_header h;
        layout_parse(&qcow2_header_layout, to, QCOW2_HEADER_BYTES, q->h.version, &h);
        q->h.backing_offset = h.backing_offset;
        q->h.backing_bytes = h.backing_bytes;
    }
    buf_put(from, bytes);
    buf_put(to, bytes);
    buf_put(between, bytes);
    return r;
}
