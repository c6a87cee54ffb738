/* SPDX-License-Identifier: BSD-2-Clause */
/* Copying devices, one behind the other, into one target: the engine of convert and dd. */
#ifndef TOOLS_IMG_COPY_H
#define TOOLS_IMG_COPY_H

#include "tools/img/img.h"

#define COPY_WORKERS_MAX    16        /* as qemu-img */
#define COPY_PIECE_BYTES    (1 * MiB) /* at most read and written at once, unless -S asks for more */
#define COPY_BUFFER_BYTES   (4 * MiB) /* in all buffers, likewise: more falls out of the caches */
#define COPY_SPARSE_DEFAULT 4096u

/* Bytes [start, start + bytes) of @node come at @at of the target. */
struct copy_source {
    struct node *node;
    uint64_t start, bytes, at;
};

struct copy {
    /* Set by the caller: */
    const struct copy_source *sources; /* in order, without gaps */
    unsigned nsources;
    struct node *target;
    uint64_t total_bytes;
    unsigned workers;        /* 1 to COPY_WORKERS_MAX */
    uint64_t sparse_bytes;   /* zero runs of this length and alignment stay holes; 0: all is written */
    uint64_t compress_bytes; /* store compressed; clusters of the target have this size. 0: not compressed */
    uint64_t bytes_per_s;    /* 0: as fast as possible */
    bool in_order;           /* writes begin in the order of their offsets */
    bool target_zero;        /* the target reads as zeroes already */
    bool same_backing;       /* what a source has from its backing file, the target has from its own */
    bool salvage;            /* unreadable sectors are warned of and become zeroes */
    struct img *img;         /* whose warnings they are */
    struct img_progress *progress;
    /* The engine's: */
    struct co_mutex pick;
    uint64_t piece_bytes;
    uint64_t next;      /* first byte that no worker has taken */
    uint64_t known_end; /* what is known about the range at next, up to here */
    bool known_zero, known_below;
    uint64_t started; /* in_order: the writes of all before this have begun */
    struct co_queue turn;
    uint64_t moving_bytes; /* in the buffers of all workers */
    struct co_queue room;  /* one waits for these to get fewer */
    uint64_t started_ns;
    int result;
    struct err err;
};

/* 0, or -errno with the sentence in c->err. */
co_fn int copy_run(struct copy *c);

#endif
