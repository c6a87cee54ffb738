/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy-on-read: what is read and is not in the image below, but behind it, is written into the image. The
 * gate lets nobody write there between the read and the copy (limits.serialise).
 */
#include "block/driver.h"
#include "block/event.h"
#include "block/room.h"

static int cor_open(struct node *n, struct err *err)
{
    if (!(n->flags & OPEN_WRITE) || n->read_only || node_is_read_only(node_below(n))) {
        return err_set(err, -EACCES, "Block node is read-only");
    }
    n->limits.serialise = true;
    return 0;
}

/* Bytes of @r from @done on, which were just read. */
static co_fn int copy(struct node *image, const struct req *r, struct iov_room *room, uint64_t done,
                      uint64_t bytes)
{
    struct req w = {.op = REQ_WRITE, .offset = r->offset + done, .bytes = bytes, .opno = r->opno};

    w.iov = room->iov;
    w.niov = iov_slice(room->iov, r->iov, r->niov, done, bytes);
    node_event(image, EVENT_cor_write);
    if (iov_is_zero(w.iov, w.niov)) {
        w.op = REQ_ZERO;
        w.iov = NULL;
        w.niov = 0;
    }
    return node_io(image, &w);
}

static co_fn int copy_missing(struct node *image, const struct req *r)
{
    AUTO_IOV_ROOM struct iov_room room;
    struct extent e;
    int ret = iov_room_init(&room, r->niov) ? 0 : -ENOMEM;

    for (uint64_t done = 0; ret == 0 && done < r->bytes; done += e.bytes) {
        ret = node_status(image, r->offset + done, r->bytes - done, &e);
        if (ret == 0 && !e.allocated) {
            ret = copy(image, r, &room, done, e.bytes);
        }
    }
    return ret;
}

static int cor_io(struct node *n, struct req *r)
{
    struct node *image = node_below(n);
    int ret = node_io(image, r);

    if (ret < 0 || r->op != REQ_READ || (r->flags & REQ_VMSTATE) || n->read_only ||
        node_is_read_only(image)) {
        return ret;
    }
    return copy_missing(image, r);
}

const struct driver driver_copy_on_read = {
    .name = "copy-on-read",
    .kind = DRIVER_FILTER,
    .summary = "Copies what is read from a backing file into the image.",
    .children = (const struct child_def[]){{"file", CHILD_FILTERED, .required = true, .probe = true}, {0}},
    .open = cor_open,
    .io = cor_io,
};
