/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing metadata in the image's file. Guest data goes through access.c instead. */
#include "drivers/qcow2/qcow2.h"

/* The last cluster of a file may be cut off where its zeroes begin: QEMU makes such files. */
int qcow2_read_meta(struct node *n, uint64_t host, void *buf, uint64_t bytes)
{
    uint64_t size = node_size(qcow2_file(n));
    uint64_t have = host < size ? MIN(bytes, size - host) : bytes; /* not there at all: that is an error */

    memset((char *)buf + have, 0, bytes - have);
    return node_read(qcow2_file(n), host, buf, have);
}

int qcow2_write_meta(struct node *n, unsigned allowed, uint64_t host, const void *buf, uint64_t bytes)
{
    int r = qcow2_check_write(n, allowed, host, bytes);

    return r < 0 ? r : node_write(qcow2_file(n), host, buf, bytes, REQ_GROW);
}

int qcow2_read_table(struct node *n, uint64_t host, uint64_t entries, uint64_t **ret_table)
{
    AUTO_FREE uint64_t *table = calloc(entries + 1, sizeof(*table));
    int r = !table ? -ENOMEM : entries ? qcow2_read_meta(n, host, table, entries * 8) : 0;

    if (r < 0) {
        return r;
    }
    for (uint64_t i = 0; i < entries; i++) {
        table[i] = get_be64(&table[i]);
    }
    *ret_table = TAKE_PTR(table);
    return 0;
}

int qcow2_write_table(struct node *n, unsigned allowed, uint64_t host, const uint64_t *table,
                      uint64_t entries)
{
    uint8_t *bytes = buf_get(entries * 8);

    if (!bytes) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < entries; i++) {
        put_be64(bytes + 8 * i, table[i]);
    }
    int r = qcow2_write_meta(n, allowed, host, bytes, entries * 8);
    buf_put(bytes, entries * 8);
    return r;
}
