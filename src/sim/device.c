/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim-device: a filter that makes any node a simulated device, for tests on the sim engine (it
 * refuses to open on another). It has limits of its own and asserts that the gate keeps them;
 * it answers after random times; it fails like a legal device (a write that failed may have landed
 * in part, discarded sectors may read as anything, each time anew); and it carries at most one
 * planted defect, an illegal thing done at the nth request that is fit for it, which a verifier
 * above has to catch.
 *
 * Legal errors follow from the operation number and error-seed alone: two devices with the same
 * error-seed under one verifier fail the same requests, as verified twins must. A client that numbers
 * its operations from error-from on keeps the verifier's own requests out of it.
 */
#include "base/iov.h"
#include "block/driver.h"
#include "sim/lossy.h"

#define OLD_MAX    16         /* overwritten contents kept for stale-read */
#define FICKLE_MAX (1 * GiB)  /* discard=fickle forgets in the first part of a device only */
#define BOUNCE_MAX (64 * MiB) /* largest request a defect copies; larger ones pass unharmed */

enum defect {
    DEFECT_NONE,
    DEFECT_LOST_WRITE,
    DEFECT_STALE_READ,
    DEFECT_MISDIRECTED_WRITE,
    DEFECT_TORN_WRITE,
    DEFECT_BIT_FLIP,
    DEFECT_WRONG_RETURN,
    DEFECT_ZERO_READ,
    DEFECT_DISCARD_NEIGHBOUR,
};
static const char *const defect_names[] = {
    "none",     "lost-write",   "stale-read", "misdirected-write", "torn-write",
    "bit-flip", "wrong-return", "zero-read",  "discard-neighbour", NULL};
static const char *const op_names[] = {"read", "write", "zero", "discard", "flush", NULL};
static const char *const discard_names[] = {"pass", "fickle", NULL};

/* What a range held before a write. */
struct old {
    uint64_t offset, bytes;
    uint8_t *data;
};

struct device {
    int defect;
    uint64_t nth;
    bool sticky;
    uint64_t bit, shift, error;
    int op; /* of wrong-return; the values of enum req_op */
    uint64_t error_ppm, error_seed, error_from;
    uint64_t latency_ns;
    uint64_t restart_ppm;
    int discard;
    uint64_t align, mem_align, max_transfer, max_zero, max_discard, zero_align, discard_align;
    bool fua, no_fallback, unmap, serialise;

    uint64_t fit; /* requests so far that the defect could hit */
    struct old old[OLD_MAX];
    unsigned next_old;
    struct lossy lossy; /* restart-ppm */
    uint8_t *fickle;    /* a bit for each sector that a discard made indeterminate */
};

#define AT(member) offsetof(struct device, member)
static const struct option device_options[] = {
    {.name = "defect",
     .type = OPT_ENUM,
     .offset = AT(defect),
     .def = "none",
     .values = defect_names,
     .help = "the planted defect"},
    {.name = "nth",
     .type = OPT_UINT,
     .offset = AT(nth),
     .def = "1",
     .min = 1,
     .max = UINT32_MAX,
     .help = "the defect strikes at the nth request fit for it, from 1"},
    {.name = "sticky",
     .type = OPT_BOOL,
     .offset = AT(sticky),
     .def = "off",
     .help = "and at every fit request after that"},
    {.name = "bit",
     .type = OPT_UINT,
     .offset = AT(bit),
     .def = "0",
     .max = UINT32_MAX,
     .help = "bit-flip: which bit of the data read, from 0, modulo its length"},
    {.name = "shift",
     .type = OPT_SIZE,
     .offset = AT(shift),
     .def = "4k",
     .help = "misdirected-write: bytes beyond the right place, modulo the size"},
    {.name = "op",
     .type = OPT_ENUM,
     .offset = AT(op),
     .def = "read",
     .values = op_names,
     .help = "wrong-return: of which operation"},
    {.name = "errno",
     .type = OPT_UINT,
     .offset = AT(error),
     .def = "5",
     .min = 1,
     .max = 4095,
     .help = "errno of wrong-return and of legal errors"},
    {.name = "error-ppm",
     .type = OPT_UINT,
     .offset = AT(error_ppm),
     .def = "0",
     .max = 1000000,
     .help = "legal errors: chance per million operation numbers"},
    {.name = "error-seed",
     .type = OPT_UINT,
     .offset = AT(error_seed),
     .def = "0",
     .help = "chooses which operation numbers fail"},
    {.name = "error-from",
     .type = OPT_UINT,
     .offset = AT(error_from),
     .def = "0",
     .help = "legal errors: only operation numbers from this one on"},
    {.name = "restart-ppm",
     .type = OPT_UINT,
     .offset = AT(restart_ppm),
     .def = "0",
     .max = 1000000,
     .help = "chance per million requests that it restarts: what was not flushed may be lost"},
    {.name = "latency",
     .type = OPT_NS,
     .offset = AT(latency_ns),
     .def = "0",
     .help = "each request waits up to this long before and after it takes effect"},
    {.name = "discard-reads",
     .type = OPT_ENUM,
     .offset = AT(discard),
     .def = "pass",
     .values = discard_names,
     .help = "fickle: discarded sectors read as anything, each time anew"},
    {.name = "align",
     .type = OPT_SIZE,
     .offset = AT(align),
     .def = "1",
     .min = 1,
     .max = 1 << 20,
     .help = "offsets and lengths, a power of two"},
    {.name = "mem-align",
     .type = OPT_SIZE,
     .offset = AT(mem_align),
     .def = "1",
     .min = 1,
     .max = 4096,
     .help = "memory, a power of two"},
    {.name = "max-transfer", .type = OPT_SIZE, .offset = AT(max_transfer), .help = "0: no limit"},
    {.name = "max-zero", .type = OPT_SIZE, .offset = AT(max_zero), .help = "0: no limit"},
    {.name = "max-discard", .type = OPT_SIZE, .offset = AT(max_discard), .help = "0: no limit"},
    {.name = "zero-align",
     .type = OPT_SIZE,
     .offset = AT(zero_align),
     .def = "1",
     .min = 1,
     .max = 1 << 20,
     .help = "unit of write-zeroes, a power of two"},
    {.name = "discard-align",
     .type = OPT_SIZE,
     .offset = AT(discard_align),
     .def = "1",
     .min = 1,
     .max = 1 << 20,
     .help = "unit of discard, a power of two"},
    {.name = "fua", .type = OPT_BOOL, .offset = AT(fua), .def = "off", .help = "handles FUA itself"},
    {.name = "no-fallback",
     .type = OPT_BOOL,
     .offset = AT(no_fallback),
     .def = "off",
     .help = "handles write-zeroes that must not fall back"},
    {.name = "unmap",
     .type = OPT_BOOL,
     .offset = AT(unmap),
     .def = "off",
     .help = "handles write-zeroes that may unmap"},
    {.name = "serialise",
     .type = OPT_BOOL,
     .offset = AT(serialise),
     .def = "off",
     .help = "asks the gate to keep overlapping requests apart"},
    {0},
};

/* ---- opening ---- */

static int check_limits(const struct device *d, struct err *err)
{
    if (!is_pow2(d->align) || !is_pow2(d->mem_align) || !is_pow2(d->zero_align) ||
        !is_pow2(d->discard_align)) {
        return err_set(err, -EINVAL, "sim-device: the alignments must be powers of two");
    }
    if (d->max_transfer % d->align || d->max_zero % d->align || d->max_discard % d->align) {
        return err_set(err, -EINVAL, "sim-device: the maxima must be multiples of align");
    }
    return 0;
}

static co_fn int device_open(struct node *n, struct err *err)
{
    struct device *d = n->state;

    if (strcmp(loop_engine_name(), "sim") != 0) {
        return err_set(err, -ENOTSUP, "driver 'sim-device' is for tests: it exists on the sim engine only");
    }
    int ret = check_limits(d, err);
    if (ret < 0) {
        return ret;
    }
    if (d->discard == 1 && !(d->fickle = calloc(1, FICKLE_MAX / SECTOR_SIZE / 8))) {
        return err_set(err, -ENOMEM, "sim-device: no memory");
    }
    if (d->restart_ppm > 0 && lossy_init(&d->lossy) < 0) {
        return err_set(err, -ENOMEM, "sim-device: no memory");
    }
    struct limits *l = &n->limits;
    l->align = MAX(l->align, (uint32_t)d->align);
    l->mem_align = MAX(l->mem_align, (uint32_t)d->mem_align);
    l->max_transfer = d->max_transfer;
    l->max_zero = d->max_zero;
    l->max_discard = d->max_discard;
    l->zero_align = MAX(l->align, (uint32_t)d->zero_align);
    l->discard_align = MAX(l->align, (uint32_t)d->discard_align);
    l->serialise = d->serialise;
    l->supported =
        (d->fua ? REQ_FUA : 0u) | (d->no_fallback ? REQ_NO_FALLBACK : 0u) | (d->unmap ? REQ_UNMAP : 0u);
    return 0;
}

static co_fn void device_close(struct node *n)
{
    struct device *d = n->state;
    for (unsigned i = 0; i < OLD_MAX; i++) {
        free(d->old[i].data);
    }
    lossy_finish(&d->lossy);
    free(d->fickle);
}

/* ---- what the gate owes ---- */

static void assert_within(uint64_t bytes, uint64_t max)
{
    assert(max == 0 || bytes <= max);
}

/* In whole units; the last one of a node may be cut short. */
static void assert_units(const struct node *n, const struct req *r, uint64_t unit, uint64_t max)
{
    assert(r->offset % unit == 0);
    assert(r->bytes % unit == 0 || r->offset + r->bytes == n->size);
    assert_within(r->bytes, MAX(max, max ? unit : 0));
}

static void assert_limits(const struct node *n, const struct req *r)
{
    const struct limits *l = &n->limits;

    if (r->op == REQ_FLUSH || r->op == REQ_TRUNCATE) {
        return;
    }
    assert(r->bytes > 0);
    assert((r->flags & REQ_GROW) || r->offset + r->bytes <= n->size);
    assert(!(r->flags & REQ_FUA) || (l->supported & REQ_FUA));
    if (r->op == REQ_READ || r->op == REQ_WRITE) {
        assert(iov_size(r->iov, r->niov) == r->bytes);
        assert_units(n, r, l->align, l->max_transfer);
        for (int i = 0; i < r->niov; i++) {
            assert((uintptr_t)r->iov[i].iov_base % l->mem_align == 0);
        }
    } else if (r->op == REQ_ZERO) {
        assert_units(n, r, l->zero_align, l->max_zero);
    } else if (r->op == REQ_DISCARD) {
        assert_units(n, r, l->discard_align, l->max_discard);
    }
}

/* ---- legal trouble ---- */

static co_fn void dawdle(const struct device *d)
{
    if (d->latency_ns > 0) {
        co_sleep_ns(rng_below(loop_rng(), d->latency_ns + 1));
    }
}

static bool fails_legally(const struct device *d, const struct req *r)
{
    if (r->opno < d->error_from || d->error_ppm == 0 || r->op == REQ_STATUS || r->op == REQ_TRUNCATE) {
        return false;
    }
    uint64_t x = r->opno ^ d->error_seed << 40;
    return splitmix64(&x) % 1000000 < d->error_ppm;
}

/* The sectors of a write that fails: each lands or not. */
static co_fn void write_some(struct node *n, const struct req *r)
{
    uint64_t unit = MAX(SECTOR_SIZE, n->limits.align);
    for (uint64_t done = 0; done < r->bytes; done += unit) {
        struct iovec part[IOV_LIST_MAX];
        struct req sub = *r;
        sub.flags &= ~(unsigned)REQ_FUA;
        sub.offset += done;
        sub.bytes = MIN(unit, r->bytes - done);
        if (rng_below(loop_rng(), 2) == 0) {
            continue;
        }
        if (r->op == REQ_WRITE) {
            sub.iov = part;
            sub.niov = iov_slice(part, r->iov, r->niov, done, sub.bytes);
        }
        (void)node_io(node_below(n), &sub);
    }
}

static co_fn int fail_legally(struct node *n, const struct req *r)
{
    struct device *d = n->state;
    if (r->op == REQ_READ && rng_below(loop_rng(), 2) == 0) {
        iov_memset(r->iov, r->niov, 0, 0xee, r->bytes); /* a failed read may leave anything */
    }
    if ((r->op == REQ_WRITE || r->op == REQ_ZERO) && rng_below(loop_rng(), 4) != 0) {
        write_some(n, r);
    }
    if (r->op == REQ_FLUSH && d->restart_ppm > 0) { /* as Linux's page cache after a failed fsync */
        lossy_restart(&d->lossy, node_below(n));
    }
    return -(int)d->error;
}

/* ---- discarded sectors that read as anything ---- */

static bool is_fickle(const struct device *d, uint64_t sector)
{
    return d->fickle && sector < FICKLE_MAX / SECTOR_SIZE && (d->fickle[sector / 8] >> sector % 8 & 1);
}

/* Whole sectors become fickle; those touched by a write are no longer. */
static void fickle_set(struct device *d, uint64_t offset, uint64_t bytes, bool on)
{
    if (!d->fickle) {
        return;
    }
    uint64_t first = on ? div_up(offset, SECTOR_SIZE) : offset / SECTOR_SIZE;
    uint64_t end = on ? (offset + bytes) / SECTOR_SIZE : div_up(offset + bytes, SECTOR_SIZE);
    end = MIN(end, FICKLE_MAX / SECTOR_SIZE);
    for (uint64_t s = first; s < end; s++) {
        uint8_t mask = (uint8_t)(1u << s % 8);
        d->fickle[s / 8] = on ? d->fickle[s / 8] | mask : d->fickle[s / 8] & (uint8_t)~mask;
    }
}

static void fickle_read(const struct device *d, const struct req *r)
{
    uint64_t end = r->offset + r->bytes;
    for (uint64_t at = r->offset; at < end;) {
        uint64_t n = MIN(SECTOR_SIZE - at % SECTOR_SIZE, end - at);
        if (is_fickle(d, at / SECTOR_SIZE)) {
            iov_memset(r->iov, r->niov, at - r->offset, (int)rng_below(loop_rng(), 256), n);
        }
        at += n;
    }
}

static bool fickle_any(const struct device *d, uint64_t offset, uint64_t bytes)
{
    for (uint64_t s = offset / SECTOR_SIZE; d->fickle && s <= (offset + bytes - 1) / SECTOR_SIZE; s++) {
        if (is_fickle(d, s)) {
            return true;
        }
    }
    return false;
}

/* A list that names some memory twice: what is made up for one sector must not hide another's data that
 * comes later in the list. */
static co_fn int read_aliased(struct node *n, const struct req *r)
{
    void *buf = buf_get(r->bytes);
    struct iovec iov = {buf, r->bytes};
    struct req flat = *r;

    if (!buf) {
        return -ENOMEM;
    }
    flat.iov = &iov;
    flat.niov = 1;
    int ret = node_io(node_below(n), &flat);
    if (ret == 0) {
        fickle_read(n->state, &flat);
        iov_from_buf(r->iov, r->niov, 0, buf, r->bytes);
    }
    buf_put(buf, r->bytes);
    return ret;
}

/* A device without any defect. */
static co_fn int legal_io(struct node *n, struct req *r)
{
    struct device *d = n->state;

    if (d->fickle && r->op == REQ_DISCARD) {
        fickle_set(d, r->offset, r->bytes, true);
        return 0;
    }
    if (d->fickle && r->op == REQ_READ && iov_aliases(r->iov, r->niov)) {
        return read_aliased(n, r);
    }
    int ret = node_io(node_below(n), r);
    if (!d->fickle || ret < 0) {
        return ret;
    }
    if (r->op == REQ_TRUNCATE && r->offset < FICKLE_MAX) { /* what comes back later is zeroes */
        fickle_set(d, r->offset, FICKLE_MAX - r->offset, false);
    } else if (r->op == REQ_WRITE || r->op == REQ_ZERO) {
        fickle_set(d, r->offset, r->bytes, false);
    } else if (r->op == REQ_READ) {
        fickle_read(d, r);
    } else if (r->op == REQ_STATUS && fickle_any(d, r->offset, r->extent->bytes)) {
        *r->extent = (struct extent){
            .bytes = r->extent->bytes, .data = true, .allocated = true, .eof = r->extent->eof};
    }
    return ret;
}

/* ---- planted defects ---- */

/* Count a request that is fit for the defect; true if it strikes now. */
static bool strikes(struct device *d)
{
    d->fit++;
    return d->sticky ? d->fit >= d->nth : d->fit == d->nth;
}

/* stale-read: remember what a write is about to replace. */
static co_fn void keep_old(struct node *n, const struct req *r)
{
    struct device *d = n->state;
    struct old *o = &d->old[d->next_old];
    if (r->bytes > BOUNCE_MAX) {
        return;
    }
    d->next_old = (d->next_old + 1) % OLD_MAX;
    free(o->data);
    *o = (struct old){.offset = r->offset, .bytes = r->bytes, .data = malloc(r->bytes)};
    if (!o->data || node_read(node_below(n), r->offset, o->data, r->bytes) < 0) {
        free(o->data);
        *o = (struct old){0};
    }
}

static const struct old *find_old(const struct device *d, const struct req *r)
{
    for (unsigned i = 1; i <= OLD_MAX; i++) { /* the newest first */
        const struct old *o = &d->old[(d->next_old + OLD_MAX - i) % OLD_MAX];
        if (o->data && ranges_overlap(o->offset, o->bytes, r->offset, r->bytes)) {
            return o;
        }
    }
    return NULL;
}

static co_fn int stale_read(struct node *n, struct req *r)
{
    struct device *d = n->state;
    if (r->op == REQ_WRITE) {
        keep_old(n, r);
    }
    int ret = legal_io(n, r);
    const struct old *o = r->op == REQ_READ && ret == 0 ? find_old(d, r) : NULL;
    if (o && strikes(d)) {
        uint64_t from = MAX(o->offset, r->offset);
        uint64_t to = MIN(o->offset + o->bytes, r->offset + r->bytes);
        iov_from_buf(r->iov, r->niov, from - r->offset, o->data + (from - o->offset), to - from);
    }
    return ret;
}

static co_fn int misdirected_write(struct node *n, struct req *r)
{
    struct device *d = n->state;
    struct req wrong = *r;
    if (r->op == REQ_WRITE && r->bytes + d->shift <= n->size && strikes(d)) {
        wrong.offset = (r->offset + d->shift) % round_down(n->size - r->bytes + 1, n->limits.align);
        wrong.offset = round_down(wrong.offset, n->limits.align);
        return node_io(node_below(n), &wrong);
    }
    return legal_io(n, r);
}

static co_fn int torn_write(struct node *n, struct req *r)
{
    struct device *d = n->state;
    uint64_t unit = MAX(SECTOR_SIZE, n->limits.align);
    if (r->op != REQ_WRITE || r->bytes < 2 * unit || !strikes(d)) {
        return legal_io(n, r);
    }
    struct iovec head[IOV_LIST_MAX];
    struct req torn = *r;
    torn.bytes = round_up(r->bytes / 2, unit);
    torn.iov = head;
    torn.niov = iov_slice(head, r->iov, r->niov, 0, torn.bytes);
    return node_io(node_below(n), &torn);
}

static void flip_bit(const struct req *r, uint64_t bit)
{
    uint8_t byte;
    uint64_t at = bit / 8 % r->bytes;
    iov_to_buf(r->iov, r->niov, at, &byte, 1);
    byte ^= (uint8_t)(1u << bit % 8);
    iov_from_buf(r->iov, r->niov, at, &byte, 1);
}

static co_fn int spoilt_read(struct node *n, struct req *r)
{
    struct device *d = n->state;
    int ret = legal_io(n, r);
    if (r->op != REQ_READ || ret < 0 || (d->defect == DEFECT_ZERO_READ && iov_is_zero(r->iov, r->niov)) ||
        !strikes(d)) {
        return ret;
    }
    if (d->defect == DEFECT_ZERO_READ) {
        iov_memset(r->iov, r->niov, 0, 0, r->bytes);
    } else {
        flip_bit(r, d->bit);
    }
    return 0;
}

static co_fn int wrong_return(struct node *n, struct req *r)
{
    struct device *d = n->state;
    int ret = legal_io(n, r);
    if ((int)r->op != d->op || !strikes(d)) {
        return ret;
    }
    return ret < 0 ? 0 : -(int)d->error;
}

/* The sector behind the discarded range goes too; before it, if it ends the device. */
static co_fn int discard_neighbour(struct node *n, struct req *r)
{
    struct device *d = n->state;
    uint64_t unit = MAX(SECTOR_SIZE, n->limits.align);
    uint64_t end = r->offset + r->bytes;
    bool behind = end + unit <= n->size;

    int ret = legal_io(n, r);
    if (r->op != REQ_DISCARD || ret < 0 || (!behind && r->offset < unit) || !strikes(d)) {
        return ret;
    }
    return node_zero(node_below(n), behind ? end : r->offset - unit, unit, 0);
}

static co_fn int defective_io(struct node *n, struct req *r)
{
    struct device *d = n->state;

    switch ((enum defect)d->defect) {
    case DEFECT_LOST_WRITE:
        return r->op == REQ_WRITE && strikes(d) ? 0 : legal_io(n, r);
    case DEFECT_STALE_READ:
        return stale_read(n, r);
    case DEFECT_MISDIRECTED_WRITE:
        return misdirected_write(n, r);
    case DEFECT_TORN_WRITE:
        return torn_write(n, r);
    case DEFECT_BIT_FLIP:
    case DEFECT_ZERO_READ:
        return spoilt_read(n, r);
    case DEFECT_WRONG_RETURN:
        return wrong_return(n, r);
    case DEFECT_DISCARD_NEIGHBOUR:
        return discard_neighbour(n, r);
    case DEFECT_NONE:
        break;
    }
    return legal_io(n, r);
}

/* ---- restarts ---- */

static co_fn void maybe_restart(struct node *n, const struct req *r)
{
    struct device *d = n->state;

    if (d->restart_ppm > 0 && rng_chance_ppm(loop_rng(), (uint32_t)d->restart_ppm)) {
        lossy_restart(&d->lossy, node_below(n));
        node_reconnected(n);
    }
    if (d->restart_ppm > 0 && (r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD)) {
        lossy_before_change(&d->lossy, node_below(n), r->offset, r->bytes);
    }
}

/* @size: of the node before the request. */
static void note_durable(struct device *d, const struct req *r, uint64_t size)
{
    if (d->restart_ppm == 0) {
        return;
    }
    if (r->op == REQ_FLUSH) {
        lossy_durable(&d->lossy, 0, UINT64_MAX);
    } else if (r->op == REQ_TRUNCATE) { /* sizes are, and the sector where the shorter ends */
        lossy_durable(&d->lossy, MIN(r->offset, size), UINT64_MAX);
    } else if (r->flags & REQ_FUA) {
        lossy_durable(&d->lossy, r->offset, r->bytes);
    }
}

static co_fn int device_io(struct node *n, struct req *r)
{
    struct device *d = n->state;

    uint64_t size = n->size;

    assert_limits(n, r);
    dawdle(d);
    maybe_restart(n, r);
    int ret = fails_legally(d, r) ? fail_legally(n, r) : defective_io(n, r);
    if (ret == 0) {
        note_durable(d, r, size);
    }
    dawdle(d);
    return ret;
}

static const struct child_def device_children[] = {
    {.name = "file", .role = CHILD_FILTERED, .required = true, .probe = false},
    {0},
};

const struct driver driver_sim_device = {
    .name = "sim-device",
    .kind = DRIVER_FILTER,
    .summary = "a simulated device with limits, latency, errors and planted defects (sim engine only)",
    .options = device_options,
    .children = device_children,
    .state_size = sizeof(struct device),
    .open = device_open,
    .close = device_close,
    .io = device_io,
};
