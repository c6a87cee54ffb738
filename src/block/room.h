/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Room for a part of a request's list of memory pieces. Requests with few pieces, nearly all of them,
 * find it on the stack; the rest in a pooled buffer: a stack has to hold a whole backing chain's frames.
 */
#ifndef BLOCK_ROOM_H
#define BLOCK_ROOM_H

#include "base/iov.h"
#include "loop/loop.h"

#define IOV_ROOM_FIXED 8

struct iov_room {
    struct iovec *iov; /* NULL: there is no memory */
    size_t bytes;
    struct iovec fixed[IOV_ROOM_FIXED];
};

/* @room must not move afterwards. */
static inline bool iov_room_init(struct iov_room *room, int niov)
{
    room->bytes = 0;
    room->iov = room->fixed;
    if (niov > IOV_ROOM_FIXED) {
        room->bytes = sizeof(struct iovec) * (size_t)niov;
        room->iov = buf_get(room->bytes);
    }
    return room->iov != NULL;
}

static inline void iov_room_finish(struct iov_room *room)
{
    if (room->bytes) {
        buf_put(room->iov, room->bytes);
    }
}
#define AUTO_IOV_ROOM CLEANUP(iov_room_finish)

#endif
