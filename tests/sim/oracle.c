/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle: no legal client and no legal device causes an alarm, and a planted defect is one; also when the
 * book and the device, as they lie at some instant with requests under way, are opened again. SOAK_OPS: as in
 * soak.c.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "client.h"
#include "drivers/verify/verify.h"

#define SEEDS         20
#define OPS_DEFAULT   200000
#define OPS_SANITIZED 40000
#define DEVICE_BYTES  (4 * MiB + 512)

static struct world w;
static uint64_t ops, failed;

static struct client new_client(uint64_t requests)
{
    return (struct client){.w = &w,
                           .size_max = DEVICE_BYTES,
                           .requests = requests,
                           .discard = true,
                           .flush = true,
                           .may_fail = true};
}

static co_fn void no_alarm(void)
{
    struct verify_scrub_result scrub;

    (void)verify_scrub(w.node, NULL, NULL, &scrub); /* the device may give an error */
    if (w.graph.mismatches > 0) {
        fprintf(stderr, "%s", w.text);
    }
    CHECK_EQ(w.graph.mismatches, 0);
}

/* ---- legal devices ---- */

static int legal(void *arg)
{
    struct client c = new_client(ops);

    world_init(&w);
    rng_init(&c.rng, ~world_seed);
    uint64_t align = UINT64_C(1) << client_below(&c, 13);
    WORLD_OPEN(
        &w,
        "{\"driver\":\"oracle\",\"on-mismatch\":\"report\",\"versions\":%llu,\"sector\":\"%s\",\"file\":{"
        "\"driver\":\"sim-device\",\"align\":%llu,\"fua\":\"%s\",\"no-fallback\":\"%s\",\"discard-reads\":\"%"
        "s\","
        "\"latency\":\"%lluus\",\"error-ppm\":%llu,\"error-seed\":%llu,\"error-from\":%llu,\"restart-ppm\":%"
        "llu,"
        "\"file\":{\"driver\":\"mem\",\"size\":%llu}}}",
        (unsigned long long)(1024 << client_below(&c, 6)), "512", (unsigned long long)align,
        client_below(&c, 2) ? "on" : "off", client_below(&c, 2) ? "on" : "off",
        client_below(&c, 2) ? "fickle" : "pass", (unsigned long long)(10 * client_below(&c, 10)),
        (unsigned long long)(world_seed % 3 * 5000), (unsigned long long)(world_seed & 0xffff),
        (unsigned long long)CLIENT_OPNO, (unsigned long long)(client_below(&c, 2) * 1000),
        (unsigned long long)round_up(DEVICE_BYTES, align));
    client_run(&c);
    no_alarm();
    world_close(&w);
    failed += c.failed;
    return 0;
}

static void legal_operations_raise_no_alarm(void **state)
{
    const char *text = getenv("SOAK_OPS");
    uint64_t all = text                           ? strtoull(text, NULL, 0)
                   : getenv("BLKPROOF_SANITIZED") ? OPS_SANITIZED
                                                  : OPS_DEFAULT;

    ops = all / (seed_from_env(SEEDS) - seed_from_env(1) + 1);
    FOR_EACH_SEED (seed, SEEDS) {
        world_run(seed, legal, NULL);
    }
    assert_true(!many_seeds() || failed > ops / 1000);
}

/* ---- defects ---- */

static int random_defect(void *arg)
{
    struct client c = new_client(4000);
    struct rng rng;

    world_init(&w);
    rng_init(&rng, world_seed);
    WORLD_OPEN(
        &w,
        "{\"driver\":\"oracle\",\"on-mismatch\":\"report\",\"file\":{\"driver\":\"sim-device\",\"latency\":"
        "\"50us\",\"defect\":\"%s\",\"nth\":%llu,\"bit\":%llu,\"file\":{\"driver\":\"mem\",\"size\":65536}}}",
        (const char *)arg, (unsigned long long)(1 + rng_below(&rng, 150)),
        (unsigned long long)rng_below(&rng, 32768));
    client_run(&c);
    verify_scrub(w.node, NULL, NULL, NULL);
    w.stops = w.graph.mismatches > 0; /* for the caller */
    world_close(&w);
    return 0;
}

/* As in defects.c: not every strike does harm, nor is it seen before it is undone. */
static void a_single_strike_is_seen_in_many_runs(void **state)
{
    static const char *const defects[] = {"lost-write", "stale-read", "misdirected-write", "torn-write",
                                          "bit-flip",   "zero-read",  "discard-neighbour"};
    for (size_t i = 0; i < ARRAY_SIZE(defects); i++) {
        unsigned seen = 0;
        for (uint64_t seed = 1; seed <= 20; seed++) {
            world_run(seed, random_defect, (void *)defects[i]);
            seen += w.stops;
        }
        if (seen < 7) {
            print_error("%s: seen in %u of 20 runs\n", defects[i], seen);
        }
        assert_true(seen >= 7);
    }
}

/* ---- a killed blkproof: the book and the device as they lie at some instant ---- */

static char book[] = "/tmp/blkproof-oracle-XXXXXX", copy[sizeof(book) + 5];
static uint8_t *image; /* of the device, at that instant */
static bool frozen;

static void copy_file(const char *from, const char *to)
{
    static uint8_t piece[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stat st;
    CHECK(in >= 0 && out >= 0 && fstat(in, &st) == 0 && ftruncate(out, st.st_size) == 0);
    for (off_t at = lseek(in, 0, SEEK_DATA); at >= 0 && at < st.st_size; at = lseek(in, at, SEEK_DATA)) {
        ssize_t n = pread(in, piece, sizeof(piece), at);
        CHECK(n > 0 && pwrite(out, piece, (size_t)n, at) == n);
        at += n;
    }
    close(in);
    close(out);
}

/* Nothing else runs while the book is copied and memory is read. */
static int freeze(void *arg)
{
    struct node *mem = graph_find(&w.graph, "mem");
    co_sleep_ns(*(const uint64_t *)arg);
    copy_file(book, copy);
    frozen = node_read(mem, 0, image, DEVICE_BYTES) == 0;
    return 0;
}

static co_fn void open_book(const char *path, const char *device)
{
    world_init(&w);
    WORLD_OPEN(
        &w,
        "{\"driver\":\"oracle\",\"on-mismatch\":\"report\",\"versions\":8192,\"oracle\":\"%s\",\"file\":{"
        "\"driver\":\"sim-device\",%s,\"file\":{\"driver\":\"mem\",\"node-name\":\"mem\",\"size\":%llu}}}",
        path, device, (unsigned long long)DEVICE_BYTES);
}

static co_fn void open_frozen(void)
{
    open_book(copy, "\"latency\":\"20us\"");
    CHECK_EQ(node_write(graph_find(&w.graph, "mem"), 0, image, DEVICE_BYTES, 0), 0);
}

static int killed(void *arg)
{
    struct client c = new_client(1500);
    uint64_t after_ns;
    struct co_group g;
    struct co_task task;

    CHECK(unlink(book) == 0 || errno == ENOENT);
    open_book(book, "\"latency\":\"50us\"");
    rng_init(&c.rng, world_seed);
    after_ns = rng_below(&c.rng, 4 * NS_PER_MS);
    co_group_init(&g);
    co_group_start(&g, &task, freeze, &after_ns);
    client_run(&c);
    co_group_wait(&g);
    CHECK(frozen);
    no_alarm();
    world_close(&w);

    open_frozen();
    no_alarm();
    struct client again = new_client(200);
    client_run(&again);
    no_alarm();
    world_close(&w);
    return 0;
}

/* What was flushed must be there, and unchanged; what was not may be there or not, and nothing else. */
static int damaged(void *arg)
{
    static const char *const said[] = {
        "  there should be the data of operation 2 of all runs, in an earlier one, which is durable\n"
        "  diagnosis: one bit flipped: bit 2 of byte 5 of sector 9, at offset 4613\n",
        "  there should be the data of operation 4 of all runs, in an earlier one, which is indeterminate\n"
        "  diagnosis: misdirected: sector 11 holds the contents of sector 8, written there by operation 1 ",
    };
    uint8_t data[3 * SECTOR_SIZE];

    CHECK_EQ(unlink(book), 0);
    open_book(book, "\"latency\":\"50us\"");
    memset(data, 7, sizeof(data));
    CHECK_EQ(node_write(w.node, 8 * SECTOR_SIZE, data, sizeof(data), 0), 0); /* operation 1 */
    memset(data, 8, sizeof(data));
    CHECK_EQ(node_write(w.node, 9 * SECTOR_SIZE, data, sizeof(data), 0), 0); /* 2: sectors 9, 10, 11 */
    CHECK_EQ(node_flush(w.node), 0);
    memset(data, 9, sizeof(data));
    CHECK_EQ(node_write(w.node, 10 * SECTOR_SIZE, data, sizeof(data), 0), 0); /* 4: sectors 10, 11, 12 */
    CHECK_EQ(node_read(graph_find(&w.graph, "mem"), 0, image, DEVICE_BYTES), 0);
    world_close(&w);

    memset(image + 10 * SECTOR_SIZE, 8, SECTOR_SIZE); /* lost, as it may be: back to operation 2 */
    image[9 * SECTOR_SIZE + 5] ^= 4;
    memset(image + 11 * SECTOR_SIZE, 7,
           SECTOR_SIZE); /* back to what was before the durable one: never there */
    copy_file(book, copy);
    open_frozen();
    for (unsigned i = 0; i < 2; i++) {
        w.text_len = 0;
        CHECK_EQ(node_read(w.node, (i ? 11 : 9) * SECTOR_SIZE, data, SECTOR_SIZE), 0);
        CHECK_EQ(w.graph.mismatches, i + 1);
        if (!strstr(w.text, said[i])) {
            check_failed(__FILE__, __LINE__, w.text, i, 0);
        }
    }
    CHECK_EQ(node_read(w.node, 10 * SECTOR_SIZE, data, SECTOR_SIZE), 0);
    CHECK_EQ(w.graph.mismatches, 2);
    world_close(&w);
    return 0;
}

static void a_killed_blkproof_leaves_a_book_that_holds(void **state)
{
    image = malloc(DEVICE_BYTES);
    CHECK(mkstemp(book) >= 0);
    snprintf(copy, sizeof(copy), "%s.copy", book);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        world_run(seed, killed, NULL);
    }
    world_run(1, damaged, NULL);
    unlink(book);
    unlink(copy);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal_operations_raise_no_alarm),
        cmocka_unit_test(a_single_strike_is_seen_in_many_runs),
        cmocka_unit_test(a_killed_blkproof_leaves_a_book_that_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
