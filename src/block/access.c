/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The data path of every mapping format: the format says where guest bytes live, and only this file
 * moves them. Reads follow the map; writes go alloc, data (with the copied head and tail of a new
 * unit), commit. No reader ever sees a mapping before its data.
 */
#include "base/iov.h"
#include "block/driver.h"

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
        .flags = (r->flags & (REQ_UNSTABLE | REQ_FUA | REQ_UNMAP | REQ_NO_FALLBACK)) | REQ_GROW,
        .offset = offset,
        .bytes = bytes,
        .opno = r->opno,
    };
}

/* ---- reading ---- */

static co_fn int read_mapped(struct node *n, const struct req *r, const struct mapping *m, uint64_t offset,
                             const struct iovec *iov, int niov)
{
    struct req data;

    switch (m->kind) {
    case MAP_DATA:
        data = data_req(r, REQ_READ, m->offset, m->bytes);
        data.iov = iov;
        data.niov = niov;
        return node_io(m->node, &data);
    case MAP_BACKING:
        if (m->node) {
            data = data_req(r, REQ_READ, offset, m->bytes);
            data.iov = iov;
            data.niov = niov;
            return node_io(m->node, &data);
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

/* In its own frame: the list of pieces is large. */
static __attribute__((noinline)) co_fn int read_pieces(struct node *n, struct req *r, struct mapping *m)
{
    struct iovec iov[IOV_LIST_MAX];
    uint64_t done = 0;

    for (;;) {
        int niov = iov_slice(iov, r->iov, r->niov, done, m->bytes);
        int ret = read_mapped(n, r, m, r->offset + done, iov, niov);
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
    struct req old = {
        .op = REQ_READ, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1, .opno = r->opno};
    uint64_t inside = offset < n->size ? MIN(bytes, n->size - offset) : 0;

    memset((char *)buf + inside, 0, bytes - inside);
    old.bytes = iov.iov_len = inside;
    return inside ? access_read(n, &old) : 0;
}

/* One write of head, guest data and tail together. */
static __attribute__((noinline)) co_fn int write_cow(struct node *n, const struct req *r,
                                                     const struct placement *p, uint64_t done)
{
    struct iovec iov[IOV_LIST_MAX + 2];
    uint64_t total = p->cow_head + p->bytes + p->cow_tail;
    char *edges = buf_get(p->cow_head + p->cow_tail);
    int niov = 0;

    if (!edges) {
        return -ENOMEM;
    }
    int ret = read_old(n, r, p->guest_offset - p->cow_head, edges, p->cow_head);
    if (ret == 0) {
        ret = read_old(n, r, p->guest_offset + p->bytes, edges + p->cow_head, p->cow_tail);
    }
    if (ret == 0) {
        struct req data = data_req(r, REQ_WRITE, p->offset - p->cow_head, total);
        if (p->cow_head) {
            iov[niov++] = (struct iovec){edges, p->cow_head};
        }
        niov += iov_slice(iov + niov, r->iov, r->niov, done, p->bytes);
        if (p->cow_tail) {
            iov[niov++] = (struct iovec){edges + p->cow_head, p->cow_tail};
        }
        char *flat = NULL;
        if (niov > IOV_LIST_MAX) { /* two more than a request may carry */
            flat = buf_get(total);
            ret = flat ? 0 : -ENOMEM;
            if (flat) {
                iov_to_buf(iov, niov, 0, flat, total);
                iov[0] = (struct iovec){flat, total};
                niov = 1;
            }
        }
        data.iov = iov;
        data.niov = niov;
        ret = ret < 0 ? ret : node_io(p->node, &data);
        buf_put(flat, total);
    }
    buf_put(edges, p->cow_head + p->cow_tail);
    return ret;
}

static __attribute__((noinline)) co_fn int write_slice(const struct req *r, const struct placement *p,
                                                       uint64_t done)
{
    struct iovec iov[IOV_LIST_MAX];
    struct req data = data_req(r, REQ_WRITE, p->offset, p->bytes);

    data.iov = iov;
    data.niov = iov_slice(iov, r->iov, r->niov, done, p->bytes);
    return node_io(p->node, &data);
}

static co_fn int write_placed(struct node *n, const struct req *r, const struct placement *p, uint64_t done)
{
    if (p->cow_head || p->cow_tail) {
        return write_cow(n, r, p, done);
    }
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

static co_fn int status_below(const struct mapping *m, uint64_t offset, struct extent *e)
{
    uint64_t size = node_size(m->node);

    if (offset >= size) { /* past the child's end: zeroes */
        *e = (struct extent){.bytes = m->bytes, .zero = true};
        return 0;
    }
    return node_status(m->node, offset, MIN(m->bytes, size - offset), e);
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
        ret = status_below(&m, m.offset, &below);
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
        if (!m.node) {
            *e = (struct extent){.bytes = m.bytes, .zero = true};
            return 0;
        }
        ret = status_below(&m, r->offset, e);
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
    int ret = f->flush ? f->flush(n) : 0;

    for (unsigned i = 0; ret == 0 && i < n->nchildren; i++) {
        if (n->children[i].node && n->children[i].def->role != CHILD_BACKING) {
            struct req flush = {.op = REQ_FLUSH, .opno = r->opno};
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
        return f->truncate ? f->truncate(n, r->offset, r->flags, NULL) : -ENOTSUP;
    case REQ_CACHE:
    case REQ_OP_COUNT:
        break;
    }
    return -ENOTSUP;
}
