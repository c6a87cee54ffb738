/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver struct: what a driver author fills in, at the bottom of the driver's file. Everything
 * left out has the default named here. Listed in drivers.c.
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include "base/option.h"
#include "block/block.h"
#include "block/explain.h"
#include "block/metric.h"
#include "block/presence.h"

/* The blkdebug events, in QEMU's order. (clang-format 14 never comes to rest on this list.) */
/* clang-format off */
#define BLOCK_EVENTS(X) \
    X(l1_update) X(l1_grow_alloc_table) X(l1_grow_write_table) X(l1_grow_activate_table) X(l2_load) \
    X(l2_update) X(l2_update_compressed) X(l2_alloc_cow_read) X(l2_alloc_write) X(read_aio) \
    X(read_backing_aio) X(read_compressed) X(write_aio) X(write_compressed) X(vmstate_load) \
    X(vmstate_save) X(cow_read) X(cow_write) X(reftable_load) X(reftable_grow) X(reftable_update) \
    X(refblock_load) X(refblock_update) X(refblock_update_part) X(refblock_alloc) \
    X(refblock_alloc_hookup) X(refblock_alloc_write) X(refblock_alloc_write_blocks) \
    X(refblock_alloc_write_table) X(refblock_alloc_switch_table) X(cluster_alloc) X(cluster_alloc_bytes) \
    X(cluster_free) X(flush_to_os) X(flush_to_disk) X(pwritev_rmw_head) X(pwritev_rmw_after_head) \
    X(pwritev_rmw_tail) X(pwritev_rmw_after_tail) X(pwritev) X(pwritev_zero) X(pwritev_done) \
    X(empty_image_prepare) X(l1_shrink_write_table) X(l1_shrink_free_l2_clusters) X(cor_write) \
    X(cluster_alloc_space) X(none)
/* clang-format on */

enum block_event {
#define BLOCK_EVENT_NAME(name) EVENT_##name,
    BLOCK_EVENTS(BLOCK_EVENT_NAME)
#undef BLOCK_EVENT_NAME
        BLOCK_EVENT_COUNT
};

enum driver_kind {
    DRIVER_PROTOCOL, /* reaches bytes: file, nbd, mem, null */
    DRIVER_FILTER,   /* same bytes as its child, other behaviour: verify, delay */
    DRIVER_FORMAT,   /* maps guest bytes to children: raw, qcow2, cow */
};

enum child_role {
    CHILD_FILTERED,  /* a filter's one child: size, limits and status default to its */
    CHILD_FILE,      /* a format's metadata (and data, unless there is a data child) */
    CHILD_DATA,      /* guest data */
    CHILD_BACKING,   /* what is not allocated here is read from there; opened read-only */
    CHILD_REFERENCE, /* trusted copy: opened as raw bytes, a format is never probed for it */
};

struct child_def {
    const char *name;
    enum child_role role;
    bool required;
    bool probe; /* a format may be probed when only a file name is given */
};

struct limits {
    uint32_t align;         /* offsets and lengths the driver takes (power of two) */
    uint32_t mem_align;     /* of buffers (power of two) */
    uint64_t max_transfer;  /* READ, WRITE; 0: none */
    uint64_t max_zero;      /* ZERO; 0: none */
    uint64_t max_discard;   /* DISCARD; 0: none */
    uint32_t zero_align;    /* ZERO and DISCARD work on whole units of this (multiple of align): */
    uint32_t discard_align; /*   the gate writes the rest of a ZERO, leaves out that of a DISCARD */
    uint32_t preferred;     /* a good size for requests, for exports to advertise; 0: 4096 */
    unsigned supported;     /* REQ_FUA, REQ_UNMAP, REQ_NO_FALLBACK, REQ_COMPRESSED it handles itself;
                               the gate emulates FUA by a flush. REQ_COMPARE: of a PROTOCOL without
                               alignment or largest transfer, where it beats reading */
    bool serialise;         /* overlapping requests wait for each other (reads may share) */
};

/* Where guest bytes live; answer of a format's map. */
enum map_kind {
    MAP_DATA,    /* at .offset of .node */
    MAP_ZERO,    /* read as zeroes */
    MAP_BACKING, /* not here: the backing child at the same offset, zeroes past its end */
    MAP_SPECIAL, /* only read_special can read it (compressed) */
};
struct mapping {
    enum map_kind kind;
    uint64_t bytes; /* from the asked offset, > 0, at most what was asked */
    struct node *node;
    uint64_t offset;
    bool allocated; /* MAP_ZERO: space is reserved for it */
    bool compressed;
    uint64_t cookie; /* MAP_SPECIAL: the format's */
};

/* A place for a write; answer of a format's alloc, given back to commit or abort. */
struct placement {
    uint64_t guest_offset, bytes; /* the part of the asked range it serves: bytes > 0 */
    struct node *node;            /* write there */
    uint64_t offset;
    /* Bytes around it in the same new unit that access must fill from the old mapping
     * (copy-on-write); 0 when nothing has to be copied. */
    uint64_t cow_head, cow_tail;
    bool fresh;      /* commit must be called; false: overwrite in place */
    bool zero_first; /* with cow: where all around it reads as zeroes, zeroing the unit first is cheap */
    void *cookie;    /* the format's */
};

struct format_ops {
    bool transparent; /* guest bytes are the child's bytes: status is the child's too (raw) */
    co_fn int (*map)(struct node *n, uint64_t offset, uint64_t bytes, struct mapping *ret);
    /* Find a place for a write of up to @bytes at @offset; changes no mapping a reader could see.
     * Default: the place map names (formats that map everything, like raw). */
    co_fn int (*alloc)(struct node *n, uint64_t offset, uint64_t bytes, struct placement *ret);
    /* The data (head and tail included) is written: publish the mapping. */
    co_fn int (*commit)(struct node *n, struct placement *p);
    /* The data could not be written: give the place back. */
    co_fn void (*abort)(struct node *n, struct placement *p);
    /* Make the range read as zeroes / drop it without data. -ENOTSUP: the gate writes zeroes. */
    co_fn int (*unmap)(struct node *n, uint64_t offset, uint64_t bytes, bool discard, unsigned flags);
    co_fn int (*read_special)(struct node *n, const struct mapping *m, uint64_t offset,
                              const struct iovec *iov, int niov, uint64_t bytes);
    co_fn int (*write_compressed)(struct node *n, struct req *r);
    /* Write cached metadata down and flush the children. Default: flush them (but backing files). */
    co_fn int (*flush)(struct node *n);
    co_fn int (*truncate)(struct node *n, uint64_t size, unsigned flags, struct err *err); /* sets n->size */
};

/* Snapshots inside an image. */
struct snapshot_time {
    uint64_t date_s; /* since 1970 */
    uint32_t date_ns;
};
struct snapshot_ops {
    co_fn int (*create)(struct node *n, const char *name, const struct snapshot_time *t);
    /* Bring the disk back to it. */
    co_fn int (*apply)(struct node *n, const char *id_or_name, struct err *err);
    /* NULL: any id, any name. */
    co_fn int (*delete)(struct node *n, const char *id, const char *name, struct err *err);
    /* From now on the node, which is read-only, shows what the snapshot holds. */
    co_fn int (*show)(struct node *n, const char *id, const char *name, struct err *err);
    /* An array of objects as QEMU's SnapshotInfo. */
    co_fn json_t *(*list)(struct node *n);
};

/* What a check found, as QEMU's ImageCheck counts. */
struct check_result {
    uint64_t check_errors; /* what could not be looked at */
    uint64_t corruptions, leaks, corruptions_fixed, leaks_fixed;
    uint64_t image_end; /* the file is used up to here */
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
};
enum check_severity { CHECK_LEAK, CHECK_CORRUPTION, CHECK_ERROR, CHECK_NOTE };
struct check_problem {
    const char *code;
    enum check_severity severity;
    bool repaired;   /* is being repaired: the counts of the result tell whether it worked */
    uint64_t offset; /* in the file, of the entry that is wrong; UINT64_MAX: none */
    const char *sentence;
};
enum { CHECK_FIX_LEAKS = 1 << 0, CHECK_FIX_ERRORS = 1 << 1 };
typedef void check_report(void *opaque, const struct check_problem *p);
struct check_ops {
    /* Look at all metadata, and repair it (@fix). Found problems are no failure: -errno means that
     * the check could not be completed. Nothing else may use the node meanwhile. */
    co_fn int (*check)(struct node *n, unsigned fix, check_report *report, void *opaque,
                       struct check_result *ret);
};

/* Persistent bitmaps inside an image. Changes are made in memory, and are in the image after store
 * (or close). */
struct bitmap_view {
    const uint8_t *data; /* bit i: byte i / 8, value 1 << i % 8; valid until the node changes */
    uint64_t bits;
    uint64_t granularity; /* bytes of the disk a bit stands for */
    uint64_t disk_bytes;
};
struct bitmap_ops {
    bool (*supported)(const struct node *n);
    /* An array of objects as QEMU's Qcow2BitmapInfo: name, granularity, flags. */
    co_fn json_t *(*list)(struct node *n);
    /* Empty and enabled. @granularity: 0: the default. */
    co_fn int (*add)(struct node *n, const char *name, uint64_t granularity, struct err *err);
    co_fn int (*remove)(struct node *n, const char *name, struct err *err);
    co_fn int (*clear)(struct node *n, const char *name, struct err *err);
    co_fn int (*enable)(struct node *n, const char *name, bool enable, struct err *err);
    co_fn int (*get)(struct node *n, const char *name, struct bitmap_view *ret, struct err *err);
    co_fn int (*merge)(struct node *n, const char *name, const struct bitmap_view *src, struct err *err);
    co_fn int (*store)(struct node *n, struct err *err);
};

/* One structure of an image: where it lies, what it is, its number where it is one of many (else
 * UINT64_MAX), and its fields (the callee's to decref). */
typedef void dump_out(void *opaque, uint64_t offset, const char *what, uint64_t index, json_t *fields);

/* Tells who waits how far long work is; step NULL: nobody wants to know. */
struct progress {
    void (*step)(void *opaque, uint64_t done, uint64_t total);
    void *opaque;
};

struct driver {
    const char *name;
    enum driver_kind kind;
    const char *summary;              /* one sentence: help, QMP and the manual show it */
    const struct option *options;     /* ends with {0}; stored in the state */
    const struct child_def *children; /* ends with {0} */
    const char *const *prefixes;      /* file-name prefixes this driver owns: {"nbd:", "nbd://", NULL} */
    bool
        probe_above; /* FILTER: its name stands for a file, in which a format is probed, as in a protocol's */
    /* Turn a name that begins with one of the prefixes (or, for "file", any plain name) into
     * options. */
    int (*parse_name)(const char *name, json_t *options, struct err *err);
    /* The name a user would write for an open node, malloc'ed; NULL: json:{...}. */
    char *(*make_name)(const struct node *n);
    size_t state_size; /* zeroed and owned by the core; options are applied before open */
    /* Children are open when this is called. May set n->size and n->limits; both default to the
     * filtered (or file) child's. */
    co_fn int (*open)(struct node *n, struct err *err);
    /* Accepts half-open state; never fails. Children are closed by the core afterwards. */
    co_fn void (*close)(struct node *n);
    /* PROTOCOL, FILTER: one request, already clamped, aligned, split. Default: pass it to the
     * first child. A filter that passes @r itself on needs no copy. Formats leave it out. */
    co_fn int (*io)(struct node *n, struct req *r);
    /* The node above tells what it is about to do (event.h). Default: nobody listens. */
    co_fn void (*on_event)(struct node *n, enum block_event event);
    /* Let go of the requests that the node holds back; see node_unhold. May come before open. Default:
     * it holds none. */
    void (*unhold)(struct node *n, bool ending);
    /* Did this node do, on purpose, what was seen? See explain.h; must not wait. Default: no. */
    bool (*explain)(const struct node *n, const struct blame *b, struct explanation *ret);
    /* Its own numbers, in the order of one table; must not wait. Those of every node (operations, times) are
     * told anyway. Default: none. */
    void (*metrics)(const struct node *n, metric_out *out, void *opaque);
    bool injects_delay; /* FILTER: lets requests wait on purpose, and hands them on as they are */
    const struct format_ops *format;
    /* FORMAT: 0 (no) to 100 (certainly) for the first @len bytes of a file. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /* Make a new image, with create_options applied to @create_state. A PROTOCOL makes the thing the
     * name means, of @size bytes; a FORMAT finds it there, empty, and writes itself into it. See create.h. */
    const struct option *create_options;
    size_t create_state_size;
    co_fn int (*create)(struct graph *g, const char *filename, void *create_state, uint64_t size,
                        struct err *err);
    /* FORMAT: bytes the file of a new image would need to hold what @source does (NULL: nothing), and
     * once all @size bytes of it are allocated. */
    co_fn int (*measure)(void *create_state, struct node *source, uint64_t size, uint64_t *ret_required,
                         uint64_t *ret_full, struct err *err);
    /* Apply a run-time option that changed in the state. */
    co_fn int (*set)(struct node *n, const char *option, struct err *err);
    /* FORMAT: every structure in the file, one call of @out each. */
    co_fn int (*dump)(struct node *n, dump_out *out, void *opaque, struct err *err);
    /* Driver-specific facts for info, as QEMU's format-specific data; NULL if none. */
    co_fn json_t *(*info)(struct node *n);
    /* What QEMU's ImageInfo has beside them: cluster-size, backing-filename,
     * backing-filename-format, full-backing-filename, dirty-flag, encrypted, vm-state-offset; those
     * that apply. NULL if none. */
    co_fn json_t *(*image_info)(struct node *n);
    co_fn int (*allocated_bytes)(struct node *n, uint64_t *ret_bytes);
    const struct snapshot_ops *snapshot;
    const struct check_ops *check;
    const struct bitmap_ops *bitmap;
    /* FORMAT: bytes that bitmaps (as of bitmap_ops.list, of an image of @size bytes) need in a new image. */
    uint64_t (*measure_bitmaps)(const void *create_state, const json_t *bitmaps, uint64_t size);
    /* Change what an image was created with. @options: as the user wrote them; what is known is taken
     * out. */
    const struct option *amend_options;
    co_fn int (*amend)(struct node *n, json_t *options, const struct progress *progress, struct err *err);
    /* FORMAT: another name of the backing file in the image (NULL or "": none); the open one stays. */
    co_fn int (*change_backing)(struct node *n, const char *name, const char *format);
    /* FORMAT: drop all data, so that the backing file shows everywhere. */
    co_fn int (*make_empty)(struct node *n);
};

struct gate {
    struct list in_flight;
    unsigned count;
    unsigned serialising;
    struct co_queue drained;
};

struct child {
    const struct child_def *def;
    struct node *node;
};

struct node_stats {
    uint64_t ops[REQ_OP_COUNT], bytes[REQ_OP_COUNT], errors[REQ_OP_COUNT];
};

struct node {
    const struct driver *drv;
    void *state;
    struct graph *graph;
    struct list link; /* graph->nodes */
    char *name;
    char *filename;
    json_t *options; /* as given, children included */
    unsigned flags;  /* enum open_flags */
    unsigned refs;
    unsigned depth;  /* nodes above it when it was opened */
    unsigned height; /* nodes below it, on the longest way */
    bool read_only;
    enum presence presence;           /* see presence.h */
    struct eligible_member *eligible; /* NULL: in no group; see eligible.h */
    bool probed;                      /* the format was guessed */
    bool pass_by; /* a filter with the flags of its child that has nothing to do just now */
    uint64_t size;
    struct node_times *times; /* NULL: not measured */
    struct limits limits;
    struct child children[NODE_CHILDREN_MAX];
    unsigned nchildren;
    struct gate gate;
    struct node_stats stats;
    uint64_t last_opno;
    uint64_t writes, flushed_writes; /* that have ended; that a flush covers */
    uint64_t reconnects;             /* see node_reconnected */
};

/* A protocol driver lost its device and has reached it again: what was acknowledged and not yet
 * flushed may be gone. Call it before anything that came over the new connection is handed up, and
 * also when requests are sent again there. A verifier above then takes what it had not flushed for
 * indeterminate. */
static inline void node_reconnected(struct node *n)
{
    n->reconnects++;
    n->graph->reconnects++;
}

/* The first child: a filter's or format's main one. */
static inline struct node *node_below(const struct node *n)
{
    return n->children[0].node;
}

/* Open a child that the driver finds out about while it opens itself (a backing file that the image
 * names). @name: of the driver's child table. */
co_fn int node_add_child(struct node *n, const char *name, json_t *options, struct err *err);

/* The same for the backing file: what the user gave for it (options without a file name: its driver, its
 * node name) wins over @options, which are changed. */
co_fn int node_add_backing(struct node *n, json_t *options, struct err *err);

/* Can the main child be another node from now on (a filter's only one, a format's file), of at least the
 * same size? -EINVAL and a sentence if not. */
int node_can_replace(const struct node *n, const char *name, const struct node *next, struct err *err);
/* Make it so. No requests may be in @n. */
co_fn int node_replace_child(struct node *n, const char *name, struct node *next, struct err *err);

/* True if the user said which backing file to use (perhaps: none): the one in the image does not count. */
static inline bool node_backing_given(const struct node *n)
{
    json_t *given = json_object_get(n->options, "backing");

    for (unsigned i = 0; i < n->nchildren; i++) {
        if (n->children[i].def->role == CHILD_BACKING) {
            return true;
        }
    }
    return given != NULL && json_is_null(given);
}

/* access.c: the io of every format. */
co_fn int access_io(struct node *n, struct req *r);

/* drivers.c */
const struct driver *driver_find(const char *name);
extern const struct driver *const drivers[]; /* NULL-terminated */

/* Read-only view of a request's data for drivers that want one flat buffer: returns the base if
 * there is a single element, else NULL. */
static inline void *req_flat(const struct req *r)
{
    return r->niov == 1 ? r->iov[0].iov_base : NULL;
}

#endif
