/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New clusters for a repair. They lie behind the end of the file, where nothing can be overwritten, and
 * where no entry points: an entry that names a cluster behind the end reads as zeroes, and would read what
 * a repair puts there.
 */
#include "drivers/qcow2/check.h"

#define NAMED_MAX (UINT64_C(1) << 26) /* clusters behind the end that are told apart: 8 MiB of bits */

/* How many new clusters there may be: a repair may double the file, not more (entries that share a cluster
 * may be many). */
static uint64_t new_max(const struct check *c, uint64_t end)
{
    return MIN((end >> c->q->cluster_bits) + 1024, NAMED_MAX / 4);
}

/* Twice as many are told apart, and one table of the largest size: there is room behind what is named. */
static int open_named(struct check *c)
{
    uint64_t first = div_up(c->file_bytes, c->q->cluster_bytes);
    uint64_t clusters =
        2 * new_max(c, c->file_bytes) + ((QCOW2_L1_BYTES_MAX + QCOW2_REFTABLE_MAX) >> c->q->cluster_bits);

    c->named = calloc(1, div_up(clusters, 8));
    if (!c->named) {
        return -ENOMEM;
    }
    c->named_first = first;
    c->named_end = first + clusters;
    return 0;
}

int check_note_beyond(struct check *c, uint64_t offset, uint64_t bytes)
{
    if (!(c->fix & CHECK_FIX_ERRORS) || offset >= QCOW2_HOST_END) { /* nothing is put there */
        return 0;
    }
    int r = c->named ? 0 : open_named(c);
    if (r < 0) {
        return r;
    }
    bytes = MIN(bytes, QCOW2_HOST_END);
    uint64_t first = MAX(offset >> c->q->cluster_bits, c->named_first);
    uint64_t end = MIN(((offset + bytes - 1) >> c->q->cluster_bits) + 1, c->named_end);
    for (uint64_t k = first; k < end; k++) {
        uint64_t i = k - c->named_first;
        c->named[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return 0;
}

void check_forget_beyond(struct check *c)
{
    if (c->named) {
        memset(c->named, 0, div_up(c->named_end - c->named_first, 8));
    }
}

static bool named(const struct check *c, uint64_t cluster)
{
    uint64_t i = cluster - c->named_first;

    return cluster >= c->named_first && cluster < c->named_end && (c->named[i / 8] >> i % 8 & 1);
}

int check_unnamed(const struct check *c, uint64_t first, uint64_t count, uint64_t *ret_first)
{
    for (uint64_t k = first; c->named && k < first + count; k++) {
        if (named(c, k)) {
            first = k + 1;
        }
    }
    if (c->named && first + count > c->named_end) { /* who knows who points there */
        return -ENOSPC;
    }
    *ret_first = first;
    return 0;
}

int check_new_cluster(struct check *c, uint64_t count, uint64_t *ret_host)
{
    const struct qcow2 *q = c->q;
    uint64_t first = 0;

    if (c->new_at == 0) {
        c->new_at = c->new_first = round_up(c->file_bytes, q->cluster_bytes);
        c->new_left = new_max(c, c->new_at);
    }
    int r = count > c->new_left ? -ENOSPC : check_unnamed(c, qcow2_cluster_of(q, c->new_at), count, &first);
    if (r < 0 || (first + count) << q->cluster_bits > QCOW2_HOST_END) {
        return -ENOSPC;
    }
    *ret_host = first << q->cluster_bits;
    c->new_at = (first + count) << q->cluster_bits;
    c->new_left -= count;
    return 0;
}

int check_copy_away(struct check *c, uint64_t host, uint64_t bytes, uint64_t *ret_host)
{
    uint64_t cluster = c->q->cluster_bytes, to;
    uint8_t *buf = buf_get(cluster);
    int r = buf ? check_new_cluster(c, div_up(bytes, cluster), &to) : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < bytes; at += cluster) {
        uint64_t some = MIN(cluster, bytes - at);
        memset(buf, 0, cluster);
        if (host + at < cluster && host + at + some <= cluster) { /* as it was before the repair */
            memcpy(buf, c->header + host + at, some);
        } else {
            r = check_read(c, host + at, buf, some);
        }
        r = r < 0 ? r : check_write(c, to + at, buf, cluster);
    }
    buf_put(buf, cluster);
    if (r == 0) {
        *ret_host = to;
    }
    return r;
}
