/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each planted defect of the simulated device is caught by the verifier above it and diagnosed by
 * name: first in a script, where the sector and the words are known beforehand, then somewhere in
 * the middle of a random client's work, where it must not stay unseen.
 */
#include "client.h"
#include "drivers/verify/verify.h"

#define DEVICE_BYTES (64 * KiB)
#define CHUNK        4096u
#define CHUNKS       (DEVICE_BYTES / CHUNK)
#define AT           8192u /* what the scripts write to: sectors 16 to 23 */

/* ---- scripts ---- */

struct script {
    const char *device; /* options of the simulated device */
    co_fn void (*run)(struct node *n);
    const char *line;      /* the first line of the report */
    const char *diagnosis; /* NULL: of a return value, there is none */
};

/* Contents that differ in every sector and version. */
static void fill(uint8_t *data, uint64_t offset, uint64_t bytes, unsigned version)
{
    struct rng rng;
    for (uint64_t at = 0; at < bytes; at += SECTOR_SIZE) {
        rng_init(&rng, (offset + at) * 100 + version);
        rng_fill(&rng, data + at, SECTOR_SIZE);
    }
}

static co_fn void write_version(struct node *n, uint64_t offset, unsigned version)
{
    uint8_t data[CHUNK];
    fill(data, offset, CHUNK, version);
    (void)node_write(n, offset, data, CHUNK, 0); /* what it returns is the verifier's business */
}

static co_fn void read_chunk(struct node *n, uint64_t offset)
{
    uint8_t data[CHUNK];
    (void)node_read(n, offset, data, CHUNK);
}

static co_fn void rewrite_and_read(struct node *n)
{
    write_version(n, AT, 2);
    read_chunk(n, AT);
}

static co_fn void rewrite_and_read_elsewhere(struct node *n)
{
    write_version(n, AT, 2);
    read_chunk(n, 3 * AT);
}

static co_fn void just_read(struct node *n)
{
    read_chunk(n, AT);
}

static co_fn void just_write(struct node *n)
{
    write_version(n, AT, 2);
}

static co_fn void just_flush(struct node *n)
{
    (void)node_flush(n);
}

static co_fn void discard_and_read_behind(struct node *n)
{
    CHECK_EQ(node_discard(n, AT, CHUNK), 0);
    read_chunk(n, AT + CHUNK);
}

/* The 16 writes of the first version come first: the 17th is the script's. */
static const struct script scripts[] = {
    {"\"defect\":\"lost-write\",\"nth\":17", rewrite_and_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 16\n", "lost write"},
    {"\"defect\":\"stale-read\"", rewrite_and_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 16\n", "stale read"},
    {"\"defect\":\"misdirected-write\",\"nth\":17,\"shift\":16384", rewrite_and_read_elsewhere,
     "blkverify: read sector_num=48 nb_sectors=8 contents mismatch in sector 48\n", "misdirected"},
    {"\"defect\":\"misdirected-write\",\"nth\":17,\"shift\":16384", rewrite_and_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 16\n", "lost write"},
    {"\"defect\":\"torn-write\",\"nth\":17", rewrite_and_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 20\n", "torn write"},
    {"\"defect\":\"bit-flip\",\"bit\":8003", just_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 17\n", "one bit flipped"},
    {"\"defect\":\"zero-read\"", just_read,
     "blkverify: read sector_num=16 nb_sectors=8 contents mismatch in sector 16\n", "all zero"},
    {"\"defect\":\"discard-neighbour\"", discard_and_read_behind,
     "blkverify: read sector_num=24 nb_sectors=8 contents mismatch in sector 24\n",
     "discard or zero ate a neighbour"},
    {"\"defect\":\"wrong-return\"", just_read,
     "blkverify: read sector_num=16 nb_sectors=8 return value mismatch -5 != 0\n", NULL},
    {"\"defect\":\"wrong-return\",\"op\":\"write\",\"nth\":17,\"errno\":28", just_write,
     "blkverify: write sector_num=16 nb_sectors=8 return value mismatch -28 != 0\n", NULL},
    {"\"defect\":\"wrong-return\",\"op\":\"flush\"", just_flush,
     "blkverify: flush sector_num=0 nb_sectors=0 return value mismatch -5 != 0\n", NULL},
};

static struct world w;

static co_fn void open_verified(const char *device, const char *mode, uint64_t size)
{
    world_init(&w);
    WORLD_OPEN(&w,
               "{\"driver\":\"blkverify\",\"on-mismatch\":\"%s\",\"raw\":{\"driver\":\"mem\",\"size\":%llu},"
               "\"test\":{\"driver\":\"sim-device\",\"latency\":\"50us\",%s,"
               "\"file\":{\"driver\":\"mem\",\"size\":%llu}}}",
               mode, (unsigned long long)size, device, (unsigned long long)size);
}

/* The words of the diagnosis: what stands between "diagnosis: " and the next colon. */
static void check_diagnosis(const char *expected)
{
    const char *text = strstr(w.text, "  diagnosis: ");
    if (!text || strncmp(text + 13, expected, strlen(expected)) != 0 || text[13 + strlen(expected)] != ':') {
        fprintf(stderr, "%s", w.text);
        check_failed(__FILE__, __LINE__, expected, 0, 0);
    }
}

static int script_run(void *arg)
{
    const struct script *s = arg;
    open_verified(s->device, "report", DEVICE_BYTES);
    for (uint64_t at = 0; at < DEVICE_BYTES; at += CHUNK) {
        write_version(w.node, at, 1);
    }
    CHECK_EQ(w.graph.mismatches, 0);
    s->run(w.node);
    CHECK_EQ(w.graph.mismatches, 1);
    if (strncmp(w.text, s->line, strlen(s->line)) != 0) {
        fprintf(stderr, "%s", w.text);
        check_failed(__FILE__, __LINE__, s->line, 0, 0);
    }
    if (s->diagnosis) {
        check_diagnosis(s->diagnosis);
    }
    world_close(&w);
    return 0;
}

static void each_defect_is_diagnosed_by_name(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        world_run(1, script_run, (void *)&scripts[i]);
    }
}

/* Without its defect each script passes. */
static int harmless(void *arg)
{
    const struct script *s = arg;
    open_verified("\"defect\":\"none\"", "report", DEVICE_BYTES);
    for (uint64_t at = 0; at < DEVICE_BYTES; at += CHUNK) {
        write_version(w.node, at, 1);
    }
    s->run(w.node);
    CHECK_EQ(w.graph.mismatches, 0);
    CHECK_EQ(w.text_len, 0);
    world_close(&w);
    return 0;
}

static void without_a_defect_nothing_is_said(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        world_run(1, harmless, (void *)&scripts[i]);
    }
}

static int stopping(void *arg)
{
    uint8_t data[CHUNK];
    open_verified("\"defect\":\"bit-flip\"", "stop", DEVICE_BYTES);
    CHECK_EQ(node_read(w.node, 0, data, CHUNK), -EIO);
    CHECK_EQ(w.stops, 1);
    CHECK_EQ(node_read(w.node, AT, data, CHUNK), -EIO);
    CHECK_EQ(w.graph.mismatches, 1);
    world_close(&w);
    return 0;
}

static void on_mismatch_stop_stops(void **state)
{
    world_run(1, stopping, NULL);
}

/* ---- among a random client's requests ---- */

static int random_run(void *arg)
{
    const char *defect = arg;
    struct client c = {.w = &w,
                       .size_max = DEVICE_BYTES,
                       .requests = 4000,
                       .discard = true,
                       .flush = true,
                       .may_fail = true};
    char device[256];
    struct rng rng;
    rng_init(&rng, world_seed);
    snprintf(device, sizeof(device), "\"defect\":\"%s\",\"nth\":%llu,\"bit\":%llu,\"op\":\"%s\"", defect,
             (unsigned long long)(1 + rng_below(&rng, 150)), (unsigned long long)rng_below(&rng, 32768),
             rng_below(&rng, 2) ? "read" : "write");
    open_verified(device, "report", DEVICE_BYTES);
    client_run(&c);
    verify_scrub(w.node, NULL, NULL, NULL);
    sim_trace_add(w.graph.mismatches);
    w.stops = w.graph.mismatches > 0; /* for the caller */
    world_close(&w);
    return 0;
}

/* A single strike may do no harm, or be undone before anybody looks (rewritten, discarded, zeroes over
 * zeroes): not all runs can see it. */
#define RUNS     20
#define RUNS_MIN 7
static void a_single_strike_is_seen_in_many_runs(void **state)
{
    static const char *const defects[] = {"lost-write", "stale-read",       "misdirected-write",
                                          "torn-write", "bit-flip",         "wrong-return",
                                          "zero-read",  "discard-neighbour"};
    for (size_t i = 0; i < ARRAY_SIZE(defects); i++) {
        unsigned seen = 0;
        for (uint64_t seed = 1; seed <= RUNS; seed++) {
            world_run(seed, random_run, (void *)defects[i]);
            seen += w.stops;
        }
        if (seen < RUNS_MIN) {
            print_error("%s: seen in %u of %u runs\n", defects[i], seen, RUNS);
        }
        assert_true(seen >= RUNS_MIN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_defect_is_diagnosed_by_name),
        cmocka_unit_test(without_a_defect_nothing_is_said),
        cmocka_unit_test(on_mismatch_stop_stops),
        cmocka_unit_test(a_single_strike_is_seen_in_many_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
