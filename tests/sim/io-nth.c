/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every Nth request to a disk fails, N = 1, 2, ... until a run passes untouched; once, and with all
 * that follow failing too; with nothing or a part of a failed write done. The client above sees the
 * disk's own error and nothing else; what it was told is there, is there; a verifier calls one side's
 * error a return value mismatch and never, neither now nor in a scrub of the mended disks, finds
 * contents that differ.
 */
#include "drivers/verify/verify.h"
#include "world.h"

#define DISK_BYTES (32 * KiB)
#define REQUESTS   60
#define INJECTED   (-ENOSPC)
#define STEPS_MAX  2000

struct run {
    const char *json;
    const char *victim; /* the file that fails */
    struct sim_fault fault;
    bool reached;
    /* the model */
    uint8_t bytes[DISK_BYTES];
    bool known[DISK_BYTES];
    uint64_t size;
    uint64_t mismatches, failures; /* over all runs */
};

static struct world w;

/* ---- the model ---- */

static void model_done(struct run *run, const struct req *r, const uint8_t *data, int ret)
{
    uint64_t size = node_size(w.node);
    switch (r->op) {
    case REQ_WRITE:
        memcpy(run->bytes + r->offset, data, r->bytes);
        memset(run->known + r->offset, ret == 0, r->bytes);
        break;
    case REQ_ZERO:
        memset(run->bytes + r->offset, 0, r->bytes);
        memset(run->known + r->offset, ret == 0, r->bytes);
        break;
    case REQ_DISCARD:
        memset(run->known + r->offset, false, r->bytes);
        break;
    case REQ_TRUNCATE: /* what failed may have happened, or half of it */
        for (uint64_t i = MIN(run->size, r->offset); i < DISK_BYTES; i++) {
            run->bytes[i] = 0;
            run->known[i] = ret == 0;
        }
        run->size = size;
        break;
    default:
        break;
    }
    CHECK_EQ(size, run->size);
}

static void model_check(const struct run *run, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (run->known[offset + i]) {
            CHECK_EQ(data[i], run->bytes[offset + i]);
        }
    }
}

/* ---- the client ---- */

static void random_request(struct run *run, struct rng *rng, struct req *r)
{
    static const enum req_op ops[] = {REQ_READ, REQ_READ,    REQ_WRITE, REQ_WRITE,  REQ_WRITE,
                                      REQ_ZERO, REQ_DISCARD, REQ_FLUSH, REQ_STATUS, REQ_TRUNCATE};
    r->op = ops[rng_below(rng, ARRAY_SIZE(ops))];
    r->flags = r->op == REQ_WRITE && rng_below(rng, 4) == 0 ? REQ_FUA : 0;
    if (r->op == REQ_TRUNCATE) {
        r->offset = round_up(1 + rng_below(rng, DISK_BYTES), 512);
    } else if (r->op != REQ_FLUSH) {
        r->offset = rng_below(rng, run->size);
        r->bytes = MIN(run->size - r->offset, 1 + rng_below(rng, 5000));
    }
}

static co_fn void one_request(struct run *run, struct rng *rng)
{
    static uint8_t data[DISK_BYTES];
    struct extent extent;
    struct req r = {.extent = &extent};
    random_request(run, rng, &r);
    struct iovec iov = {data, r.bytes};
    r.iov = &iov;
    r.niov = r.op == REQ_READ || r.op == REQ_WRITE;
    rng_fill(rng, data, r.bytes);

    struct req asked = r;
    int ret = node_io(w.node, &r);
    /* -EIO: a verifier whose reference could not follow a resize */
    CHECK(ret == 0 || ret == INJECTED || (ret == -EIO && asked.op == REQ_TRUNCATE));
    run->failures += ret < 0;
    model_done(run, &asked, data, ret);
    if (asked.op == REQ_READ && ret == 0) {
        model_check(run, asked.offset, data, asked.bytes);
    }
}

static co_fn void check_mended(struct run *run)
{
    static uint8_t data[DISK_BYTES];
    CHECK_EQ(node_read(w.node, 0, data, run->size), 0);
    model_check(run, 0, data, run->size);
    if (verify_is(w.node)) {
        CHECK_EQ(verify_scrub(w.node, NULL, NULL, NULL), 0);
    }
    if (strstr(w.text, "contents mismatch")) {
        fprintf(stderr, "%s", w.text);
        check_failed(__FILE__, __LINE__, "no contents mismatch", (long long)run->fault.nth, 0);
    }
}

static int one_run(void *arg)
{
    struct run *run = arg;
    struct rng rng;
    struct sim_disk disk = {.size = DISK_BYTES, .align = 512};

    rng_init(&rng, world_seed);
    memset(run->bytes, 0, sizeof(run->bytes));
    memset(run->known, true, sizeof(run->known));
    run->size = DISK_BYTES;
    CHECK(sim_file_create("disk", &disk) != NULL);
    CHECK(sim_file_create("reference", &disk) != NULL);
    world_init(&w);
    WORLD_OPEN(&w, "%s", run->json);

    struct sim_file *victim = sim_file_find(run->victim);
    sim_set_faults(victim, &run->fault, 1);
    for (unsigned i = 0; i < REQUESTS; i++) {
        one_request(run, &rng);
    }
    run->reached = sim_fault_seen(victim, 0) >= run->fault.nth;
    sim_set_faults(victim, NULL, 0);
    check_mended(run);
    run->mismatches += w.graph.mismatches;
    CHECK(run->reached || w.graph.mismatches == 0);
    world_close(&w);
    CHECK_EQ(sim_file_handles(victim), 0);
    return 0;
}

static void every_step(const char *json, const char *victim, bool expect_failures)
{
    for (unsigned variant = 0; variant < 4; variant++) {
        struct run run = {.json = json, .victim = victim};
        run.fault = (struct sim_fault){
            .op = SIM_ANY, .error = INJECTED, .sticky = variant & 1, .partial = variant & 2};
        do {
            run.fault.nth++;
            assert_true(run.fault.nth < STEPS_MAX);
            world_run(seed_from_env(1 + variant), one_run, &run);
        } while (run.reached);
        assert_true(run.fault.nth > REQUESTS / 2);
        assert_true((run.failures > 0) == expect_failures || !expect_failures);
        assert_true(run.mismatches > 0 || !strstr(json, "blkverify"));
    }
}

#define FILE_DISK "{\"driver\":\"file\",\"filename\":\"disk\"}"
#define FILE_REF  "{\"driver\":\"file\",\"filename\":\"reference\"}"
#define VERIFY(raw, test)                                                                                    \
    "{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"raw\":" raw ",\"test\":" test "}"

static void file(void **state)
{
    every_step(FILE_DISK, "disk", true);
}

static void file_that_wants_alignment(void **state)
{
    every_step("{\"driver\":\"file\",\"filename\":\"disk\",\"cache.direct\":\"on\"}", "disk", true);
}

static void raw_over_file(void **state)
{
    every_step("{\"driver\":\"raw\",\"file\":" FILE_DISK "}", "disk", true);
}

static void the_test_device_under_verify(void **state)
{
    every_step(VERIFY(FILE_REF, FILE_DISK), "disk", true);
}

static void the_reference_under_verify(void **state)
{
    every_step(VERIFY(FILE_REF, FILE_DISK), "reference", false);
}

static void a_format_under_verify(void **state)
{
    every_step(VERIFY(FILE_REF, "{\"driver\":\"raw\",\"file\":" FILE_DISK "}"), "disk", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file),
        cmocka_unit_test(file_that_wants_alignment),
        cmocka_unit_test(raw_over_file),
        cmocka_unit_test(the_test_device_under_verify),
        cmocka_unit_test(the_reference_under_verify),
        cmocka_unit_test(a_format_under_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
