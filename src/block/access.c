/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The data path of every mapping format: the format says where guest bytes live, and only this file
 * moves them. Reads follow the map; writes go alloc, data (with the copied head and tail of a new
 * unit), commit. No reader ever sees a mapping before its data.
 */
#include "block/event.h"
#include "block/room.h"

#define STACK_DEPTH     12    /* nodes of a backing chain that share one stack */
#define MERGE_BYTES_MAX 16384 /* up to this much between head and tail, both are read at once */

static co_fn int ask_map(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *m)
{
    int ret = n->drv->format->map(n, offset, bytes, m);

    if (ret == 0) {
        assert(m->bytes > 0);
        m->bytes = MIN(m->bytes, bytes);
    }
    return ret;
}

static struct req data_req(const struct req *r, enum req_op op, uint64_t offset, uint64_t bytes)
{
    return (struct req){
        .op = op,
        .flags = (r->flags & (REQ_UNSTABLE | REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK | REQ_BULK)) | REQ_GROW,
        .offset = offset,
        .bytes = bytes,
        .opno = r->opno,
        .client = r->client,
    };
}

/* ---- reading ---- */

struct deep_read {
    struct node *n;
    struct req *r;
};

static co_fn int read_deep(void *arg)
{
    struct deep_read *d = arg;

    return node_io(d->n, d->r);
}

/* A backing chain may be longer than one stack is deep: every so often it goes on upon another. */
static co_fn int backing_io(struct node *backing, struct req *r)
{
    struct co_group group;
    struct co_task task;
    struct deep_read d = {backing, r};

    if (LIKELY(backing->depth % STACK_DEPTH != STACK_DEPTH - 1)) {
        return node_io(backing, r);
    }
    co_group_init(&group);
    co_group_start(&group, &task, read_deep, &d);
    co_group_wait(&group);
    return task.result;
}

static co_fn int read_mapped(struct node *n, const struct req *r, const struct mapping *m, uint64_t offset,
                             const struct iovec *iov, int niov)
{
    struct req data;

    switch (m->kind) {
    case MAP_DATA:
        node_event(node_below(n), EVENT_read_aio);
        data = data_req(r, REQ_READ, m->offset, m->bytes);
        data.iov = iov;
        data.niov = niov;
        return node_io(m->node, &data);
    case MAP_BACKING:
        if (m->node) {
            node_event(node_below(n), EVENT_read_backing_aio);
            data = data_req(r, REQ_READ, offset, m->bytes);
            data.iov = iov;
            data.niov = niov;
            return backing_io(m->node, &data);
        }
        break;
    case MAP_ZERO:
        break;
    case MAP_SPECIAL:
        return n->drv->format->read_special(n, m, offset, iov, niov, m->bytes);
    }
    iov_memset(iov, niov, 0, 0, m->bytes);
    return 0;
}

/* In its own frame: the room for pieces is large. */
static __attribute__((noinline)) co_fn int read_pieces(struct node *n, struct req *r, struct mapping *m)
{
    AUTO_IOV_ROOM struct iov_room room;
    uint64_t done = 0;

    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    for (;;) {
        int niov = iov_slice(room.iov, r->iov, r->niov, done, m->bytes);
        int ret = read_mapped(n, r, m, r->offset + done, room.iov, niov);
        if (ret < 0) {
            return ret;
        }
        done += m->bytes;
        if (done == r->bytes) {
            return 0;
        }
        ret = ask_map(n, r->offset + done, r->bytes - done, m);
        if (ret < 0) {
            return ret;
        }
    }
}

static co_fn int access_read(struct node *n, struct req *r)
{
    struct mapping m;
    int ret = ask_map(n, r->offset, r->bytes, &m);

    if (ret < 0) {
        return ret;
    }
    if (LIKELY(m.bytes == r->bytes)) {
        return read_mapped(n, r, &m, r->offset, r->iov, r->niov);
    }
    return read_pieces(n, r, &m);
}

/* ---- writing ---- */

/* Formats without alloc map everything: write where map says. */
static co_fn int place_for(struct node *n, uint64_t offset, uint64_t bytes, struct placement *p)
{
    const struct format_ops *f = n->drv->format;
    struct mapping m;

    if (f->alloc) {
        return f->alloc(n, offset, bytes, p);
    }
    int ret = ask_map(n, offset, bytes, &m);
    if (ret == 0) {
        assert(m.kind == MAP_DATA);
        *p = (struct placement){.guest_offset = offset, .bytes = m.bytes, .node = m.node, .offset = m.offset};
    }
    return ret;
}

/* The old content of @bytes at guest @offset, into flat memory. */
static co_fn int read_old(struct node *n, const struct req *r, uint64_t offset, void *buf, uint64_t bytes)
{
    struct iovec iov = {buf, bytes};
    struct req old = {.op = REQ_READ,
                      .offset = offset,
                      .bytes = bytes,
                      .iov = &iov,
                      .niov = 1,
                      .opno = r->opno,
                      .client = r->client};

    if (bytes == 0) {
        return 0;
    }
    node_event(node_below(n), EVENT_cow_read);
    return access_read(n, &old);
}

/* Does a range read as zeroes, as far as the tables tell without asking a protocol? */
static co_fn bool is_known_zero(struct node *n, uint64_t offset, uint64_t bytes)
{
    struct mapping m;

    while (bytes > 0) {
        if (n->drv->kind != DRIVER_FORMAT || n->drv->format->transparent ||
            ask_map(n, offset, bytes, &m) < 0 || m.kind == MAP_DATA || m.kind == MAP_SPECIAL) {
            return false;
        }
        if (m.kind == MAP_BACKING && m.node && offset < node_size(m.node)) {
            uint64_t below = MIN(m.bytes, node_size(m.node) - offset);
            if (m.node->depth >= n->depth + STACK_DEPTH || !is_known_zero(m.node, offset, below)) {
                return false;
            }
            m.bytes = below;
        }
        offset += m.bytes;
        bytes -= m.bytes;
    }
    return true;
}

/* Zero the whole new unit, so that nothing has to be copied. */
static co_fn int zero_unit(struct node *n, const struct req *r, const struct placement *p)
{
    struct req zero = {
        .op = REQ_ZERO,
        .flags = REQ_NO_FALLBACK | REQ_GROW,
        .offset = p->offset - p->cow_head,
        .bytes = p->cow_head + p->bytes + p->cow_tail,
        .opno = r->opno,
        .client = r->client,
    };

    if (!p->zero_first || !is_known_zero(n, p->guest_offset - p->cow_head, p->cow_head) ||
        !is_known_zero(n, p->guest_offset + p->bytes, p->cow_tail)) {
        return -ENOTSUP;
    }
    node_event(node_below(n), EVENT_cluster_alloc_space);
    return node_io(p->node, &zero);
}

/* Head and tail into @edges, which has room for them and, if they are read at once, what is between. */
static co_fn int read_edges(struct node *n, const struct req *r, const struct placement *p, char *edges,
                            bool merge)
{
    uint64_t from = p->guest_offset - p->cow_head;

    if (merge) {
        return read_old(n, r, from, edges, p->cow_head + p->bytes + p->cow_tail);
    }
    int ret = read_old(n, r, from, edges, p->cow_head);
    return ret < 0 ? ret : read_old(n, r, p->guest_offset + p->bytes, edges + p->cow_head, p->cow_tail);
}

/* One write of head, guest data and tail together. */
static co_fn int write_joined(struct node *n, const struct req *r, const struct placement *p, uint64_t done,
                              const char *head, const char *tail)
{
    AUTO_IOV_ROOM struct iov_room room;
    uint64_t total = p->cow_head + p->bytes + p->cow_tail;
    struct req data = data_req(r, REQ_WRITE, p->offset - p->cow_head, total);
    char *flat = NULL;
    int niov = 0;

    if (!iov_room_init(&room, r->niov + 2)) {
        return -ENOMEM;
    }
    struct iovec *iov = room.iov;
    if (p->cow_head) {
        iov[niov++] = (struct iovec){(char *)head, p->cow_head};
    }
    niov += iov_slice(iov + niov, r->iov, r->niov, done, p->bytes);
    if (p->cow_tail) {
        iov[niov++] = (struct iovec){(char *)tail, p->cow_tail};
    }
    if (niov > IOV_LIST_MAX) { /* two more than a request may carry */
        flat = buf_get(total);
        if (!flat) {
            return -ENOMEM;
        }
        iov_to_buf(iov, niov, 0, flat, total);
        iov[0] = (struct iovec){flat, total};
        niov = 1;
    }
    data.iov = iov;
    data.niov = niov;
    node_event(node_below(n), EVENT_write_aio);
    node_event(node_below(n), EVENT_cow_write);
    int ret = node_io(p->node, &data);
    buf_put(flat, total);
    return ret;
}

static co_fn int write_cow(struct node *n, const struct req *r, const struct placement *p, uint64_t done)
{
    bool merge = p->cow_head && p->cow_tail && p->bytes <= MERGE_BYTES_MAX;
    uint64_t room = p->cow_head + p->cow_tail + (merge ? p->bytes : 0);
    char *edges = buf_get(room);

    if (!edges) {
        return -ENOMEM;
    }
    int ret = read_edges(n, r, p, edges, merge);
    if (ret == 0) {
        ret = write_joined(n, r, p, done, edges, edges + p->cow_head + (merge ? p->bytes : 0));
    }
    buf_put(edges, room);
    return ret;
}

static __attribute__((noinline)) co_fn int write_slice(const struct req *r, const struct placement *p,
                                                       uint64_t done)
{
    AUTO_IOV_ROOM struct iov_room room;
    struct req data = data_req(r, REQ_WRITE, p->offset, p->bytes);

    if (!iov_room_init(&room, r->niov)) {
        return -ENOMEM;
    }
    data.iov = room.iov;
    data.niov = iov_slice(room.iov, r->iov, r->niov, done, p->bytes);
    return node_io(p->node, &data);
}

static co_fn int write_placed(struct node *n, const struct req *r, const struct placement *p, uint64_t done)
{
    if ((p->cow_head || p->cow_tail) && zero_unit(n, r, p) < 0) {
        return write_cow(n, r, p, done);
    }
    node_event(node_below(n), EVENT_write_aio);
    if (p->bytes < r->bytes) {
        return write_slice(r, p, done);
    }
    struct req data = data_req(r, REQ_WRITE, p->offset, p->bytes);
    data.iov = r->iov;
    data.niov = r->niov;
    return node_io(p->node, &data);
}

static co_fn int access_write(struct node *n, struct req *r)
{
    const struct format_ops *f = n->drv->format;

    if (r->flags & REQ_COMPRESSED) {
        return f->write_compressed ? f->write_compressed(n, r) : -ENOTSUP;
    }
    for (uint64_t done = 0; done < r->bytes;) {
        struct placement p = {0};
        int ret = place_for(n, r->offset + done, r->bytes - done, &p);
        if (ret < 0) {
            return ret;
        }
        assert(p.bytes > 0 && p.bytes <= r->bytes - done && p.guest_offset == r->offset + done);
        ret = write_placed(n, r, &p, done);
        if (p.fresh && ret < 0) {
            f->abort(n, &p);
        } else if (p.fresh) {
            ret = f->commit(n, &p);
        }
        if (ret < 0) {
            return ret;
        }
        done += p.bytes;
    }
    return 0;
}

/* ---- zeroes, discards ---- */

/* Formats without unmap hand the range to where it is mapped. */
static co_fn int access_unmap(struct node *n, struct req *r)
{
    const struct format_ops *f = n->drv->format;

    if (f->unmap) {
        return f->unmap(n, r->offset, r->bytes, r->op == REQ_DISCARD, r->flags);
    }
    for (uint64_t done = 0; done < r->bytes;) {
        struct mapping m;
        int ret = ask_map(n, r->offset + done, r->bytes - done, &m);
        if (ret < 0) {
            return ret;
        }
        if (m.kind != MAP_DATA) {
            return -ENOTSUP;
        }
        struct req part = data_req(r, r->op, m.offset, m.bytes);
        ret = node_io(m.node, &part);
        if (ret < 0) {
            return ret;
        }
        done += m.bytes;
    }
    return 0;
}

/* ---- status ---- */

static co_fn int status_below(unsigned flags, const struct mapping *m, uint64_t offset, struct extent *e)
{
    uint64_t size = node_size(m->node);

    if (offset >= size) { /* past the child's end: zeroes */
        *e = (struct extent){.bytes = m->bytes, .zero = true};
        return 0;
    }
    struct req status = {.op = REQ_STATUS,
                         .flags = flags & REQ_BULK,
                         .offset = offset,
                         .bytes = MIN(m->bytes, size - offset),
                         .extent = e};
    return backing_io(m->node, &status);
}

static co_fn int access_status(struct node *n, struct req *r)
{
    const struct format_ops *f = n->drv->format;
    struct extent *e = r->extent, below;
    struct mapping m;
    int ret = ask_map(n, r->offset, r->bytes, &m);

    if (ret < 0) {
        return ret;
    }
    switch (m.kind) {
    case MAP_DATA:
        /* where a format keeps data there are holes only if it was preallocated: then there are many */
        ret = status_below(f->transparent ? r->flags : REQ_BULK, &m, m.offset, &below);
        if (ret < 0) {
            return ret;
        }
        if (f->transparent) {
            *e = below;
            return 0;
        }
        *e = (struct extent){.bytes = below.bytes,
                             .data = true,
                             .allocated = true,
                             .zero = below.zero,
                             .has_offset = true,
                             .offset = m.offset,
                             .file = m.node};
        return 0;
    case MAP_ZERO:
        *e = (struct extent){.bytes = m.bytes,
                             .zero = true,
                             .allocated = true,
                             .has_offset = m.allocated,
                             .offset = m.offset,
                             .file = m.node};
        return 0;
    case MAP_BACKING:
        if (!m.node || r->offset >= node_size(m.node)) {
            *e = (struct extent){.bytes = m.bytes, .zero = true};
            return 0;
        }
        ret = status_below(r->flags, &m, r->offset, e);
        e->allocated = false;
        e->depth++;
        return ret;
    case MAP_SPECIAL:
        *e = (struct extent){.bytes = m.bytes, .data = true, .allocated = true, .compressed = m.compressed};
        return 0;
    }
    return -EINVAL;
}

/* ---- the rest ---- */

static co_fn int access_flush(struct node *n, struct req *r)
{
    const struct format_ops *f = n->drv->format;
    int ret = 0;

    if (f->flush) {
        return f->flush(n);
    }
    for (unsigned i = 0; ret == 0 && i < n->nchildren; i++) {
        if (n->children[i].node && n->children[i].def->role != CHILD_BACKING) {
            struct req flush = {.op = REQ_FLUSH, .opno = r->opno, .client = r->client};
            ret = node_io(n->children[i].node, &flush);
        }
    }
    return ret;
}

int access_io(struct node *n, struct req *r)
{
    const struct format_ops *f = n->drv->format;

    switch (r->op) {
    case REQ_READ:
        return access_read(n, r);
    case REQ_WRITE:
        return access_write(n, r);
    case REQ_ZERO:
    case REQ_DISCARD:
        return access_unmap(n, r);
    case REQ_FLUSH:
        return access_flush(n, r);
    case REQ_STATUS:
        return access_status(n, r);
    case REQ_TRUNCATE:
        return f->truncate ? f->truncate(n, r->offset, r->flags, r->why) : -ENOTSUP;
    case REQ_CACHE:
    case REQ_OP_COUNT:
        break;
    }
    return -ENOTSUP;
}
