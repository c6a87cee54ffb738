/* SPDX-License-Identifier: BSD-2-Clause */
/* How large the file of a new image would be: its metadata, and the clusters that hold data. */
#include "drivers/qcow2/qcow2.h"

/* Refcount blocks and table that describe @clusters and themselves. */
static uint64_t refcount_clusters(uint64_t clusters, uint64_t cluster_bytes, uint64_t refcount_bits)
{
    uint64_t per_block = cluster_bytes * 8 / refcount_bits, per_table = cluster_bytes / 8;
    uint64_t blocks = 0, table = 0;

    for (uint64_t last = UINT64_MAX; last != blocks + table;) {
        last = blocks + table;
        blocks = div_up(clusters + last, per_block);
        table = div_up(blocks, per_table);
    }
    return blocks + table;
}

/* With all of @bytes (whole clusters) allocated. */
static uint64_t full_bytes(const struct qcow2_create *c, uint64_t bytes)
{
    uint64_t per_l2 = c->cluster_bytes / (c->extended_l2 ? 16 : 8);
    uint64_t data = bytes / c->cluster_bytes;
    uint64_t l2 = div_up(data, per_l2);
    uint64_t l1 = div_up(l2, c->cluster_bytes / 8);
    uint64_t used = 1 + data + l2 + l1;

    return (used + refcount_clusters(used, c->cluster_bytes, c->refcount_bits)) * c->cluster_bytes;
}

/* Bytes of the clusters that hold data of @source, wherever in its chain. */
static co_fn int count_data(const struct qcow2_create *c, struct node *source, uint64_t *ret, struct err *err)
{
    uint64_t size = node_size(source), used = 0;

    for (uint64_t at = 0; at < size;) {
        struct extent x;
        int r = node_status(source, at, size - at, &x);
        if (r < 0) {
            return err_set_errno(err, r, "Unable to get block status");
        }
        uint64_t end = at + x.bytes;
        if (!x.zero && x.data) {
            end = round_up(end, c->cluster_bytes);
            used += end - round_down(at, c->cluster_bytes);
        }
        at = end;
    }
    *ret = used;
    return 0;
}

int qcow2_measure(void *create_state, struct node *source, uint64_t size, uint64_t *ret_required,
                  uint64_t *ret_full, struct err *err)
{
    const struct qcow2_create *c = create_state;
    int r = qcow2_check_create(c, size, err);

    if (r == -EFBIG) {
        return err_set(err, r, "The image size is too large (try using a larger cluster size)");
    }
    if (r < 0) {
        return r;
    }
    uint64_t bytes = round_up(size, c->cluster_bytes), used = 0;
    if ((c->backing_file && source) || qcow2_prealloc_takes_space(c)) {
        used = bytes; /* how much the source shares with the backing file is not known */
    } else if (source && (r = count_data(c, source, &used, err)) < 0) {
        return r;
    }
    *ret_full = full_bytes(c, bytes);
    *ret_required = *ret_full - bytes + MIN(used, bytes);
    return 0;
}

uint64_t qcow2_measure_bitmaps(const void *create_state, const json_t *bitmaps, uint64_t size)
{
    const struct qcow2_create *c = create_state;
    uint64_t total = 0, directory = 0;
    size_t i;
    json_t *b;

    json_array_foreach(bitmaps, i, b)
    {
        const json_t *flag = json_array_get(json_object_get(b, "flags"), 0);
        if (flag && strcmp(json_string_value(flag), "in-use") == 0) {
            continue; /* is not copied */
        }
        uint64_t granularity = (uint64_t)json_integer_value(json_object_get(b, "granularity"));
        uint64_t clusters = div_up(div_up(div_up(size, granularity), 8), c->cluster_bytes);
        total += (clusters + div_up(clusters * 8, c->cluster_bytes)) * c->cluster_bytes;
        directory += round_up(24 + strlen(json_string_value(json_object_get(b, "name"))), 8);
    }
    return total + round_up(directory, c->cluster_bytes);
}
