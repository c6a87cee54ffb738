/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nodes and requests: what everybody above the drivers uses.
 *
 * A node is an open block device: a driver with its state and children. The gate (node_io) is the
 * only way into it. All functions here run on the loop of the graph, and those marked co_fn in a
 * coroutine. Offsets, sizes and lengths are bytes.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <jansson.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"

struct node;
struct driver;
struct graph;

#define BLOCK_SIZE_MAX    (INT64_MAX & ~UINT64_C(511)) /* largest node: fits off_t */
#define REQ_BYTES_MAX     (UINT64_C(2147483136))       /* largest request, as QEMU's: 2^31 - 512 */
#define NODE_CHILDREN_MAX 8
#define GRAPH_DEPTH_MAX   64    /* nodes below each other: more is an endless chain */
#define PROBE_BYTES       2048u /* what a format's probe sees of a file */

/* ---- requests ---- */

enum req_op {
    REQ_READ,
    REQ_WRITE,
    REQ_ZERO,     /* make the range read as zeroes */
    REQ_DISCARD,  /* the range's content is no longer needed: may then read as anything */
    REQ_FLUSH,    /* all that was acknowledged before becomes durable */
    REQ_STATUS,   /* what lies at offset: fills extent */
    REQ_TRUNCATE, /* new size: offset; flags: preallocation */
    REQ_CACHE,    /* prefetch hint */
    REQ_OP_COUNT
};

enum req_flags {
    REQ_FUA = 1 << 0,               /* WRITE, ZERO, DISCARD: durable when it returns */
    REQ_UNMAP = 1 << 1,             /* ZERO: may deallocate */
    REQ_NO_FALLBACK = 1 << 2,       /* ZERO: -ENOTSUP rather than writing zeroes */
    REQ_UNSTABLE = 1 << 3,          /* the client may change or reuse the memory meanwhile: what has to
                                       see the same bytes twice copies them first */
    REQ_GROW = 1 << 4,              /* may go past the end: reads see zeroes there, writes extend the node
                                       (formats set it on their children) */
    REQ_COMPRESSED = 1 << 5,        /* WRITE: store compressed, whole clusters */
    REQ_SERIALISE = 1 << 6,         /* wait for, and hold off, whatever overlaps */
    REQ_PREALLOC_FALLOC = 1 << 7,   /* TRUNCATE that grows: allocate by fallocate */
    REQ_PREALLOC_FULL = 1 << 8,     /* TRUNCATE that grows: write zeroes */
    REQ_PREALLOC_METADATA = 1 << 9, /* TRUNCATE that grows: formats allocate their metadata */
    REQ_EXACT = 1 << 10,            /* TRUNCATE: exactly this size, or fail (a block device cannot shrink) */
    REQ_VMSTATE = 1 << 11,          /* READ, WRITE: the VM state area of a format that has one */
    REQ_COMPARE = 1 << 12, /* READ: change no memory: 0 if the bytes are those of @iov, else -EILSEQ */
    REQ_BULK = 1 << 13,    /* READ, WRITE: one of many in flight, and what counts is when all are done.
                              STATUS: a hole may be called data where looking for it takes longer than reading */
};

/* What lies at the beginning of a range (after the NBD and QEMU notions). */
struct extent {
    uint64_t bytes; /* length from the asked offset, > 0; at most the asked bytes */
    bool data;      /* stored in this layer: false means a hole (or the backing file's) */
    bool zero;      /* reads as zeroes */
    bool allocated; /* this layer decides the content, not its backing file */
    bool compressed;
    bool eof;        /* reaches the end of the node */
    bool has_offset; /* the bytes lie unchanged at @offset of @file */
    uint64_t offset;
    struct node *file;
    unsigned depth; /* 0: the node asked; 1: its backing file; ... */
};

struct req {
    enum req_op op;
    unsigned flags; /* enum req_flags */
    uint64_t offset, bytes;
    const struct iovec *iov; /* READ, WRITE: adds up to @bytes; at most IOV_LIST_MAX elements */
    int niov;
    struct extent *extent; /* STATUS */
    struct err *why;       /* TRUNCATE: a format's sentence, if it has one; may be NULL */
    uint64_t opno;         /* operation number; 0: the gate gives one */
    unsigned client;       /* number of the NBD connection it came by; 0: none */
    /* What the caller gave at this gate, before it was aligned and split; set by the gate. */
    uint64_t asked_offset, asked_bytes;
    uint64_t drawn_as; /* fault rules draw by this operation number; 0: its own. Set by decisions.c */
    uint64_t below_ns; /* in a graph that is timed: how long the node took that had it last */
};

/* What node_io returns for a request that was dropped: it is never answered, so an export sends no
 * reply. Beyond every errno. */
#define REQ_DROPPED (-4096)

/* The gate. Performs the request and returns 0 or -errno:
 * -EIO past the end, -EPERM on a read-only node, -EINVAL for malformed requests, -ENOTSUP for what
 * neither the driver nor a fallback can do, or the driver's error.
 * @r is read only but for opno, asked_*, drawn_as, below_ns and *extent. One struct req may not be in two
 * calls at once. */
co_fn int node_io(struct node *n, struct req *r);

/* Exports call this before they perform a client's request: it waits while a monitor holds all I/O up (the
 * QMP command stop). What the program itself does to nodes goes on meanwhile. */
co_fn void node_admit(struct node *n);

/* Short forms. */
co_fn int node_read(struct node *n, uint64_t offset, void *buf, uint64_t bytes);
co_fn int node_write(struct node *n, uint64_t offset, const void *buf, uint64_t bytes, unsigned flags);
co_fn int node_zero(struct node *n, uint64_t offset, uint64_t bytes, unsigned flags);
co_fn int node_discard(struct node *n, uint64_t offset, uint64_t bytes);
co_fn int node_flush(struct node *n);
co_fn int node_status(struct node *n, uint64_t offset, uint64_t bytes, struct extent *ret_extent);
co_fn int node_status_bulk(struct node *n, uint64_t offset, uint64_t bytes, struct extent *ret_extent);
co_fn int node_truncate(struct node *n, uint64_t size, unsigned flags, struct err *err);

/* ---- the graph ---- */

enum notice_kind {
    NOTICE_WARNING,    /* a sentence for the user */
    NOTICE_ERROR,      /* another: what nobody is left to return an error to */
    NOTICE_MISMATCH,   /* first line of a verification report */
    NOTICE_DETAIL,     /* the lines that follow it */
    NOTICE_CORRUPT,    /* an image was found damaged and is now read-only */
    NOTICE_BREAKPOINT, /* a request has stopped at a breakpoint, or goes on */
};

struct fault_event;     /* drivers/fault/fault.h */
struct fault_decisions; /* the same */

/* What a tool gives and learns. All nodes of a graph live on one loop. */
struct graph {
    struct list nodes;            /* every open node, in opening order */
    struct list own;              /* file systems that we serve ourselves: see own.h */
    struct list presence_watches; /* see presence.h */
    struct list groups;           /* see eligible.h */
    /* Text for the user; the library itself never prints. */
    void (*notice)(struct graph *g, enum notice_kind kind, const char *text);
    /* A verifier with on-mismatch=stop found a mismatch: the tool ends the process (io) or winds
     * down (serve). May return; the request then fails with -EIO. */
    void (*stop)(struct graph *g, struct node *n);
    /* Something happened that a monitor tells its clients: an event of QMP, and its members (the callee's
     * to decref; may be NULL). Must not wait. NULL: nobody listens. Raise events with graph_event. */
    void (*event)(struct graph *g, const char *name, json_t *data);
    /* Told what fault rules do, as they do it, without anything being allocated (a monitor that lets only
     * some through makes its data member by fault_event_data); must not wait. NULL: nobody wants to know. */
    void (*fault)(struct graph *g, const struct fault_event *event);
    struct fault_decisions *decisions; /* of fault rules, logged or repeated; NULL: neither */
    void *monitor;                     /* event's */
    void *opaque;                      /* the tool's */
    double time_scale;                 /* factor of all times of fault rules; 0: 1 */
    uint64_t mismatches;               /* found so far by any verify node */
    bool injected_stop;  /* it was an injected one that made a verifier stop (on-injected=stop) */
    uint64_t reconnects; /* node_reconnected calls: one load tells a verifier that there was none */
    bool paused;         /* a monitor said stop: see node_admit */
    struct co_queue resumed;
    unsigned next_name;  /* for generated node names */
    uint64_t power_cuts; /* so far, of any write caches */
    bool standin;        /* speak as qemu-io/qemu-img do (byte-form mismatch line, no report) */
    bool trust_image_names;
    bool timed; /* nodes opened from now on measure how long requests take: metric.h */
};
void graph_init(struct graph *g);

/* Raise an event; @data is used up. Where making it costs something, look at graph->event first. */
void graph_event(struct graph *g, const char *name, json_t *data);

enum open_flags {
    OPEN_WRITE = 1 << 0,        /* else read-only */
    OPEN_DIRECT = 1 << 1,       /* bypass the host page cache (cache.direct) */
    OPEN_NO_FLUSH = 1 << 2,     /* ignore flushes (cache.no-flush) */
    OPEN_WRITETHROUGH = 1 << 3, /* every write of the root is FUA */
    OPEN_UNMAP = 1 << 4,        /* pass discards on (discard=unmap) */
    OPEN_FORCE_SHARE = 1 << 5,  /* do not lock (-U) */
    OPEN_NO_BACKING = 1 << 6,   /* do not open the backing file */
    OPEN_PROTOCOL = 1 << 7,     /* never probe a format: the raw bytes of the named thing */
    OPEN_CHECK = 1 << 8,        /* open for check and repair: tolerate damage */
    OPEN_RESIZE = 1 << 9,
    OPEN_NO_IO = 1 << 10, /* only metadata is looked at: data files are not opened */
};

/* Build a node and its children from options: a JSON object whose members are the driver's
 * options, child objects (or node names, strings), and the generic ones: driver, node-name,
 * read-only, cache.direct, cache.no-flush, discard. "filename" without "driver" is parsed as a
 * name (see name.h). Without "driver" the format is probed. Steals nothing: @options stays the
 * caller's. On failure nothing is left open. */
co_fn int node_open(struct graph *g, json_t *options, unsigned flags, struct node **ret_node,
                    struct err *err);

/* The usual entry of tools: a file name as users write it (plain path, blkverify:..., nbd:...,
 * json:{...}), and -f FORMAT or NULL to probe. */
co_fn int node_open_name(struct graph *g, const char *name, const char *format, unsigned flags,
                         struct node **ret_node, struct err *err);
/* --image-opts text: "driver=qcow2,file.filename=x". */
co_fn int node_open_opts(struct graph *g, const char *text, unsigned flags, struct node **ret_node,
                         struct err *err);

struct node *node_ref(struct node *n);
/* Drop a reference; the last one closes the node and its children. NULL is fine. */
co_fn void node_unref(struct node *n);
struct node *graph_find(struct graph *g, const char *node_name);

/* ---- asking a node ---- */

uint64_t node_size(const struct node *n);
const char *node_name(const struct node *n);
/* The name a user knows it by: the plain file name if it has one, else json:{...}. */
const char *node_filename(const struct node *n);
const char *node_driver_name(const struct node *n);
bool node_is_read_only(const struct node *n);
unsigned node_children(const struct node *n);
/* Child by index, with its name ("file", "raw", "test", "backing", ...). */
struct node *node_child_at(const struct node *n, unsigned i, const char **ret_name);
/* Child by name; NULL if there is none. */
struct node *node_child(const struct node *n, const char *name);
/* Requests now between entering and leaving the gate. */
unsigned node_in_flight(const struct node *n);
/* Wait until there are none. */
co_fn void node_drain(struct node *n);
/* Let go of requests that this node or one below it holds back (faults, breakpoints); @ending: and hold
 * none from now on, so that everything in flight comes to its end. Before waiting for that. */
void node_unhold(struct node *n, bool ending);
/* The same for every node, because all of them are about to be closed. */
void graph_unhold(struct graph *g);
/* Bytes the host uses for it; -ENOTSUP if unknown. */
co_fn int node_allocated_bytes(struct node *n, uint64_t *ret_bytes);

/* ---- a graph on its loop, for tools ---- */

#endif
