/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The gate against a model: random requests from concurrent clients, random limits of the driver
 * below (which asserts that they are kept) and an adversarial order of completion. The model is a
 * plain array of bytes. Where the node serialises, requests take effect in the order in which they
 * came to the gate, which is what the model does; where it does not, each client keeps to pieces of
 * its own, but these are smaller than the driver's unit, so that read-modify-write has to keep the
 * neighbours' bytes.
 */
#include "world.h"

#define SIZE_MAX_BYTES (40 * KiB)
#define CLIENTS        8
#define IOV_MAX_TEST   6

enum shape { DEVICE, VERIFY, RAW_WINDOW };

struct model {
    struct world w;
    enum shape shape;
    struct rng rng;
    uint64_t size;
    uint8_t bytes[SIZE_MAX_BYTES];
    bool known[SIZE_MAX_BYTES]; /* false after a discard: may read as anything */
    unsigned requests;          /* for each client */
    bool shared;                /* all clients everywhere, serialised; else pieces of their own */
    uint64_t piece;
    uint64_t done[REQ_OP_COUNT];
};

struct client {
    struct model *m;
    unsigned index;
    uint8_t *memory; /* what the scatter lists point into */
    uint8_t *before; /* what a read is to leave there */
    bool *before_known;
};

#define MEMORY_BYTES (2 * SIZE_MAX_BYTES)

/* ---- random requests ---- */

static uint64_t below(struct model *m, uint64_t n)
{
    return rng_below(&m->rng, n);
}

/* Small lengths mostly; sometimes whole units, sometimes large. */
static uint64_t random_length(struct model *m, uint64_t max)
{
    uint64_t n = below(m, 4) == 0   ? 512 * (1 + below(m, 32))
                 : below(m, 3) == 0 ? 1 + below(m, max)
                                    : 1 + below(m, 3000);
    return MIN(n, max);
}

static bool random_range(struct model *m, const struct client *c, struct req *r)
{
    if (m->shared) {
        r->offset = below(m, m->size + 1);
        r->offset = below(m, 2) ? round_down(r->offset, 512) : r->offset;
        r->bytes = random_length(m, SIZE_MAX_BYTES - r->offset);
        if (below(m, 16) != 0) { /* mostly within the node */
            r->bytes = MIN(r->bytes, m->size - r->offset);
        }
        return r->bytes > 0;
    }
    uint64_t pieces = m->size / m->piece / CLIENTS;
    uint64_t start = (below(m, pieces) * CLIENTS + c->index) * m->piece;
    uint64_t skip = below(m, m->piece);
    r->offset = start + skip;
    r->bytes = 1 + below(m, m->piece - skip);
    return true;
}

/* Cut @bytes into elements at random places of the memory, which may overlap: a client may name the
 * same memory twice. */
static int random_iov(struct model *m, const struct client *c, struct iovec *iov, uint64_t bytes)
{
    int n = 0;
    uint64_t next = below(m, 64);
    bool alias = below(m, 4) == 0;
    while (bytes > 0) {
        uint64_t len = n == IOV_MAX_TEST - 1 ? bytes : 1 + below(m, bytes);
        if (alias) {
            next = below(m, MEMORY_BYTES - len);
        }
        iov[n++] = (struct iovec){c->memory + next, len};
        next += len;
        bytes -= len;
    }
    return n;
}

static enum req_op random_op(struct model *m)
{
    static const enum req_op ops[] = {REQ_READ, REQ_READ,    REQ_READ,  REQ_WRITE,  REQ_WRITE, REQ_WRITE,
                                      REQ_ZERO, REQ_DISCARD, REQ_FLUSH, REQ_STATUS, REQ_CACHE};
    if (m->shared && below(m, 60) == 0) {
        return REQ_TRUNCATE;
    }
    return ops[below(m, ARRAY_SIZE(ops))];
}

/* ---- the model's side ---- */

static void model_write(struct model *m, const struct req *r)
{
    uint64_t at = r->offset;
    for (int i = 0; i < r->niov; i++) {
        memcpy(m->bytes + at, r->iov[i].iov_base, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
    memset(m->known + r->offset, true, r->bytes);
}

/* What the client's memory looks like after the read, elements filled from first to last. */
static void model_read(struct model *m, struct client *c, const struct req *r)
{
    uint64_t at = r->offset;
    memcpy(c->before, c->memory, MEMORY_BYTES);
    memset(c->before_known, true, MEMORY_BYTES);
    for (int i = 0; i < r->niov; i++) {
        size_t to = (size_t)((uint8_t *)r->iov[i].iov_base - c->memory);
        memcpy(c->before + to, m->bytes + at, r->iov[i].iov_len);
        memcpy(c->before_known + to, m->known + at, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
}

static void model_resize(struct model *m, uint64_t size)
{
    if (size > m->size) {
        memset(m->bytes + m->size, 0, size - m->size);
        memset(m->known + m->size, true, size - m->size);
    }
    m->size = size;
}

static void model_apply(struct model *m, struct client *c, const struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        model_read(m, c, r);
        break;
    case REQ_WRITE:
        model_write(m, r);
        break;
    case REQ_ZERO:
        memset(m->bytes + r->offset, 0, r->bytes);
        memset(m->known + r->offset, true, r->bytes);
        break;
    case REQ_DISCARD:
        memset(m->known + r->offset, false, r->bytes);
        break;
    case REQ_TRUNCATE:
        model_resize(m, r->offset);
        break;
    default:
        break;
    }
}

/* ---- a client ---- */

static void check_read(const struct client *c)
{
    for (size_t i = 0; i < MEMORY_BYTES; i++) {
        if (c->before_known[i]) {
            CHECK_EQ(c->memory[i], c->before[i]);
        }
    }
}

/* Nothing that the model knew to be other than zero is told to be zeroes. */
static void check_status(const struct req *r, const uint8_t *bytes, const bool *known)
{
    CHECK(r->extent->bytes > 0);
    CHECK(r->extent->bytes <= r->bytes);
    for (uint64_t i = 0; r->extent->zero && i < r->extent->bytes; i++) {
        CHECK(!known[i] || bytes[i] == 0);
    }
}

static void random_flags(struct model *m, struct req *r)
{
    if ((r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD) && below(m, 6) == 0) {
        r->flags |= REQ_FUA;
    }
    if (r->op == REQ_ZERO && below(m, 2) == 0) {
        r->flags |= REQ_UNMAP;
    }
    if (r->op == REQ_WRITE && below(m, 8) == 0) {
        r->flags |= REQ_SERIALISE;
    }
}

static co_fn void one_request(struct client *c)
{
    struct model *m = c->m;
    struct iovec iov[IOV_MAX_TEST];
    struct extent extent;
    struct req r = {.op = random_op(m), .iov = iov, .extent = &extent};

    if (r.op == REQ_TRUNCATE) {
        r.offset = 1 + below(m, SIZE_MAX_BYTES);
    } else if (r.op != REQ_FLUSH && !random_range(m, c, &r)) {
        return;
    }
    if (r.op == REQ_READ || r.op == REQ_WRITE) {
        r.niov = random_iov(m, c, iov, r.bytes);
    }
    if (r.op == REQ_WRITE) {
        rng_fill(&m->rng, c->memory, MEMORY_BYTES / 16);
        c->memory[below(m, MEMORY_BYTES)]++;
    }
    random_flags(m, &r);
    bool past_end = r.op != REQ_TRUNCATE && r.op != REQ_FLUSH && r.offset + r.bytes > m->size;
    if (!past_end) {
        model_apply(m, c, &r);
    }
    if (r.op == REQ_STATUS && !past_end) { /* compare with the state now, not with that afterwards */
        memcpy(c->before, m->bytes + r.offset, r.bytes);
        memcpy(c->before_known, m->known + r.offset, r.bytes);
    }
    enum req_op op = r.op;
    CHECK_EQ(node_io(m->w.node, &r), past_end ? -EIO : 0);
    m->done[op]++;
    if (op == REQ_READ && !past_end) {
        check_read(c);
    } else if (op == REQ_STATUS && !past_end) {
        check_status(&r, c->before, c->before_known);
    }
}

static int client_run(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; i < c->m->requests; i++) {
        one_request(c);
    }
    return 0;
}

static co_fn void run_clients(struct model *m)
{
    struct client clients[CLIENTS];
    struct co_task tasks[CLIENTS];
    struct co_group g;

    co_group_init(&g);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){m, i, calloc(1, MEMORY_BYTES), malloc(MEMORY_BYTES),
                                     malloc(MEMORY_BYTES * sizeof(bool))};
        co_group_start(&g, &tasks[i], client_run, &clients[i]);
    }
    co_group_wait(&g);
    for (unsigned i = 0; i < CLIENTS; i++) {
        free(clients[i].memory);
        free(clients[i].before);
        free(clients[i].before_known);
    }
}

static co_fn void compare_all(struct model *m)
{
    static uint8_t bytes[SIZE_MAX_BYTES];
    CHECK_EQ(node_size(m->w.node), m->size);
    CHECK_EQ(node_read(m->w.node, 0, bytes, m->size), 0);
    for (uint64_t i = 0; i < m->size; i++) {
        if (m->known[i]) {
            CHECK_EQ(bytes[i], m->bytes[i]);
        }
    }
}

/* ---- scenarios ---- */

static const char *on_off(bool b)
{
    return b ? "on" : "off";
}

static uint64_t random_pow2(struct model *m, unsigned bits_max)
{
    return UINT64_C(1) << below(m, bits_max + 1);
}

/* A multiple of @unit, or no limit. */
static uint64_t random_max(struct model *m, uint64_t unit)
{
    return below(m, 3) == 0 ? 0 : unit * (1 + below(m, 12));
}

/* Options of a simulated device over memory of @size bytes. */
static void device_options(struct model *m, char *text, size_t len, uint64_t size)
{
    uint64_t align = random_pow2(m, 12);
    uint64_t zero_align = align << below(m, 4);
    uint64_t discard_align = align << below(m, 4);

    snprintf(text, len,
             "{\"driver\":\"sim-device\",\"serialise\":\"%s\",\"latency\":\"20us\",\"align\":%llu,"
             "\"mem-align\":%llu,\"max-transfer\":%llu,\"zero-align\":%llu,\"max-zero\":%llu,"
             "\"discard-align\":%llu,\"max-discard\":%llu,\"fua\":\"%s\",\"unmap\":\"%s\","
             "\"discard-reads\":\"%s\",\"file\":{\"driver\":\"mem\",\"size\":%llu}}",
             on_off(m->shared), (unsigned long long)align, (unsigned long long)random_pow2(m, 12),
             (unsigned long long)random_max(m, align), (unsigned long long)zero_align,
             (unsigned long long)random_max(m, zero_align), (unsigned long long)discard_align,
             (unsigned long long)random_max(m, discard_align), on_off(below(m, 2)), on_off(below(m, 2)),
             below(m, 2) ? "fickle" : "pass", (unsigned long long)size);
}

static co_fn void open_graph(struct model *m)
{
    char device[1024];
    uint64_t window = m->shape == RAW_WINDOW ? below(m, 10000) : 0;

    device_options(m, device, sizeof(device), m->size + 2 * window);
    switch (m->shape) {
    case DEVICE:
        WORLD_OPEN(&m->w, "%s", device);
        break;
    case VERIFY:
        WORLD_OPEN(&m->w, "{\"driver\":\"blkverify\",\"test\":%s,\"raw\":{\"driver\":\"mem\",\"size\":%llu}}",
                   device, (unsigned long long)m->size);
        break;
    case RAW_WINDOW:
        WORLD_OPEN(&m->w, "{\"driver\":\"raw\",\"offset\":%llu,\"size\":%llu,\"file\":%s}",
                   (unsigned long long)window, (unsigned long long)m->size, device);
        break;
    }
}

static int scenario(void *arg)
{
    struct model *m = arg;
    world_init(&m->w);
    rng_init(&m->rng, world_seed);
    memset(m->bytes, 0, sizeof(m->bytes));
    memset(m->known, true, sizeof(m->known));
    m->size = m->shared ? 1 + below(m, SIZE_MAX_BYTES) : SIZE_MAX_BYTES;
    m->piece = 1 + below(m, 1500);
    m->requests = 60;
    open_graph(m);
    run_clients(m);
    compare_all(m);
    CHECK_EQ(m->w.graph.mismatches, 0);
    world_close(&m->w);
    return 0;
}

static void many_scenarios(enum shape shape, bool shared)
{
    static struct model m;
    memset(m.done, 0, sizeof(m.done));
    FOR_EACH_SEED (seed, 150) {
        m.shared = shared;
        m.shape = shape;
        world_run(seed, scenario, &m);
    }
    for (int op = 0; many_seeds() && op < REQ_OP_COUNT; op++) {
        assert_true(m.done[op] > 100 || (op == REQ_TRUNCATE && !shared));
    }
}

static void serialised_requests_act_in_the_order_they_came(void **state)
{
    many_scenarios(DEVICE, true);
}

static void read_modify_write_keeps_the_neighbours(void **state)
{
    many_scenarios(DEVICE, false);
}

static void a_verifier_acts_in_the_order_they_came_and_is_silent(void **state)
{
    many_scenarios(VERIFY, true);
}

static void a_raw_window_over_a_device_keeps_the_neighbours(void **state)
{
    many_scenarios(RAW_WINDOW, false);
}

static void a_seed_gives_one_trace(void **state)
{
    static struct model m;
    m.shared = true;
    m.shape = DEVICE;
    assert_true(world_run(7, scenario, &m) == world_run(7, scenario, &m));
    uint64_t first[REQ_OP_COUNT];
    memset(m.done, 0, sizeof(m.done));
    world_run(7, scenario, &m);
    memcpy(first, m.done, sizeof(first));
    memset(m.done, 0, sizeof(m.done));
    world_run(7, scenario, &m);
    assert_memory_equal(first, m.done, sizeof(first));
}

/* ---- what a driver cannot do ---- */

static int without_fallback(void *arg)
{
    static struct world w;
    uint8_t data[1024], back[1024];
    world_init(&w);
    WORLD_OPEN(
        &w, "{\"driver\":\"sim-device\",\"zero-align\":4096,\"file\":{\"driver\":\"mem\",\"size\":65536}}");
    memset(data, 'a', sizeof(data));
    CHECK_EQ(node_write(w.node, 0, data, sizeof(data), 0), 0);
    CHECK_EQ(node_zero(w.node, 0, 1024, REQ_NO_FALLBACK), -ENOTSUP);
    CHECK_EQ(node_read(w.node, 0, back, sizeof(back)), 0);
    CHECK(memcmp(back, data, sizeof(data)) == 0);
    CHECK_EQ(node_zero(w.node, 0, 1024, 0), 0);
    CHECK_EQ(node_read(w.node, 0, back, sizeof(back)), 0);
    CHECK(buffer_is_zero(back, sizeof(back)));
    world_close(&w);
    return 0;
}

static void zeroes_that_must_not_be_written_are_refused(void **state)
{
    world_run(1, without_fallback, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serialised_requests_act_in_the_order_they_came),
        cmocka_unit_test(read_modify_write_keeps_the_neighbours),
        cmocka_unit_test(a_verifier_acts_in_the_order_they_came_and_is_silent),
        cmocka_unit_test(a_raw_window_over_a_device_keeps_the_neighbours),
        cmocka_unit_test(a_seed_gives_one_trace),
        cmocka_unit_test(zeroes_that_must_not_be_written_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
