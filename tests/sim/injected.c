/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Injected, legal or real: a random client that knows nothing but the requests it makes, over a disk that
 * does what there is to do wrong, by rules that change all the time, and whose power is cut. Whatever is
 * wrong is explained; and a defect planted below is not. With a reference, and with an oracle. SOAK_OPS:
 * operations of the first two tests together, over all seeds.
 */
#include "client.h"
#include "drivers/fault/fault.h"
#include "drivers/verify/verify.h"
#include "drivers/wcache/wcache.h"

#define SEEDS          20
#define OPS_DEFAULT    20000
#define DEVICE_BYTES   (512 * KiB)
#define OPS_PER_CHANGE 150

static struct world w;
static struct client c;
static struct rng rng;
static uint64_t ops;
static bool done, oracle;
static struct verify_counts sum;
static char diary[1 << 20]; /* what was done to the disk: shown if it was not explained */
static size_t diary_len;

static PRINTF(1, 2) void note(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(diary + diary_len, sizeof(diary) - diary_len, fmt, ap);
    va_end(ap);
    diary_len = MIN(diary_len + (size_t)n, sizeof(diary) - 1);
}

/* Every action there is, where no client has to be let go by hand. %s: more selectors. */
static const char *const rules[] = {
    "{\"op\":\"write\",\"action\":\"deferred-error\",\"data\":\"drop\",\"probability\":0.1%s}",
    "{\"action\":\"lost\",\"visible\":\"evict\",\"cache\":\"16k\",\"probability\":0.2%s}",
    "{\"action\":\"error\",\"probability\":0.1%s}",
    "{\"op\":\"read\",\"action\":\"error\",\"probability\":0.1,\"when\":\"after\"%s}",
    "{\"op\":\"flush\",\"action\":\"error\",\"probability\":0.3%s}",
    "{\"action\":\"misdirect\",\"op\":\"read\",\"lba-bit\":4,\"probability\":0.2%s}",
    "{\"action\":\"corrupt\",\"op\":\"read\",\"probability\":0.2%s}",
    "{\"action\":\"corrupt\",\"op\":\"read\",\"retry\":\"same\",\"mode\":\"random\",\"probability\":0.2%s}",
    "{\"action\":\"bad-sectors\",\"one-in\":16%s}",
    "{\"action\":\"bad-sectors\",\"one-in\":32,\"repair\":\"never\"%s}",
    "{\"action\":\"read-only\",\"errno\":\"EIO\",\"count\":20%s}",
    "{\"action\":\"full\",\"size\":\"256k\",\"errno\":\"EIO\",\"count\":20%s}",
    "{\"action\":\"shrink\",\"size\":\"384k\",\"count\":20%s}",
    "{\"action\":\"delay\",\"distribution\":\"exponential\",\"delay\":\"100us\"%s}",
    "{\"action\":\"stall\",\"on-for\":\"100us\",\"off-for\":\"1ms\"%s}",
    "{\"action\":\"disconnect\",\"down\":\"200us\",\"at\":\"1ms\"%s}",
    "{\"action\":\"hang\",\"count\":2,\"deadman\":\"1ms\"%s}",
    "{\"op\":[\"write\",\"zero\"],\"action\":\"error\",\"persist\":\"all\",\"probability\":0.2%s}",
    "{\"op\":[\"write\",\"zero\"],\"action\":\"error\",\"persist\":\"prefix\",\"probability\":0.3%s}",
    "{\"op\":\"write\",\"action\":\"deferred-error\",\"probability\":0.1%s}",
    "{\"action\":\"lost\",\"probability\":0.2%s}",
    "{\"op\":\"flush\",\"action\":\"lost\",\"probability\":0.3%s}",
    "{\"action\":\"torn\",\"probability\":0.2%s}",
    "{\"action\":\"torn\",\"persist\":\"suffix\",\"probability\":0.2%s}",
    "{\"action\":\"torn\",\"persist\":\"random\",\"probability\":0.2%s}",
    "{\"action\":\"misdirect\",\"op\":[\"write\",\"zero\"],\"probability\":0.2%s}",
    "{\"action\":\"misdirect\",\"op\":\"write\",\"keep\":true,\"by\":\"-1k\",\"probability\":0.2%s}",
    "{\"action\":\"corrupt\",\"op\":\"read\",\"where\":\"media\",\"mode\":\"zero\",\"probability\":0.1%s}",
    "{\"action\":\"corrupt\",\"op\":\"write\",\"mode\":\"swap\",\"probability\":0.2%s}",
    "{\"action\":\"wrap\",\"size\":\"128k\",\"count\":20%s}",
    "{\"op\":[\"write\",\"zero\"],\"action\":\"replay\",\"after\":5,\"probability\":0.2%s}",
    "{\"op\":[\"write\",\"zero\"],\"action\":\"replay\",\"probability\":0.2%s}",
    "{\"op\":\"read\",\"action\":\"stale\",\"probability\":0.3%s}",
    "{\"op\":\"read\",\"action\":\"stale\",\"age\":2,\"probability\":0.3%s}",
    "{\"op\":[\"write\",\"zero\"],\"action\":\"reorder\",\"probability\":0.5%s}",
};

static co_fn void open_disk(const char *defect)
{
    char below[1024];

    world_init(&w);
    snprintf(
        below, sizeof(below),
        "{\"driver\":\"fault\",\"node-name\":\"fault\",\"seed\":%llu,\"file\":{\"driver\":\"write-cache\","
        "\"node-name\":\"cache\",\"size\":\"%lluk\",\"evict\":\"%s\",\"flush\":\"%s\",\"fua\":\"%s\","
        "\"file\":{"
        "\"driver\":\"sim-device\",\"latency\":\"20us\",%s,\"file\":{\"driver\":\"mem\",\"size\":%llu}}}}",
        (unsigned long long)world_seed, (unsigned long long)(64 << rng_below(&rng, 4)),
        world_seed % 3 == 0   ? "lru"
        : world_seed % 3 == 1 ? "fifo"
                              : "random",
        world_seed % 5 == 0 ? "lie" : "honest", world_seed % 7 == 0 ? "lie" : "honest", defect,
        (unsigned long long)DEVICE_BYTES);
    if (oracle) {
        WORLD_OPEN(&w, "{\"driver\":\"oracle\",\"on-mismatch\":\"report\",\"file\":%s}", below);
    } else {
        WORLD_OPEN(
            &w,
            "{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"test\":%s,\"raw\":{\"driver\":\"mem\","
            "\"size\":%llu}}",
            below, (unsigned long long)DEVICE_BYTES);
    }
}

static void change_rules(void)
{
    char text[2048] = "[", more[64];
    size_t len = 1, n = 1 + rng_below(&rng, 3);

    for (size_t i = 0; i < n; i++) {
        uint64_t at = rng_below(&rng, DEVICE_BYTES) & ~UINT64_C(511);
        const char *rule = rules[rng_below(&rng, ARRAY_SIZE(rules))];
        bool ranged = rng_below(&rng, 2) && !strstr(rule, "flush") && !strstr(rule, "size");
        more[0] = '\0';
        if (ranged) {
            snprintf(more, sizeof(more), ",\"ranges\":\"%llu+64k\"", (unsigned long long)at);
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", i ? "," : "");
        char with[512];
        const char *hole = strstr(rule, "%s");
        snprintf(with, sizeof(with), "%.*s%s}", (int)(hole - rule), rule, more);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", with);
    }
    snprintf(text + len, sizeof(text) - len, "]");
    note("from operation %llu on: %s\n", (unsigned long long)c.opno, text);
    AUTO_JSON json_t *list = json_loads(text, 0, NULL);
    struct fault_change change = {
        .node = graph_find(&w.graph, "fault"), .kind = FAULT_REPLACE, .rules = list};
    struct err err = {0};
    if (!list || fault_apply(&change, 1, &err) < 0) {
        check_failed(__FILE__, __LINE__, err.text, 0, 0);
    }
}

static co_fn void cut_power(void)
{
    struct node *cache = graph_find(&w.graph, "cache");
    uint64_t number;
    struct wcache_cut cut = {.survivors = (int)rng_below(&rng, 6),
                             .torn = (int)rng_below(&rng, 4),
                             .fill = (int)rng_below(&rng, 3),
                             .seed = rng_u64(&rng),
                             .erase_block = 16 * KiB,
                             .off_ns = 0};
    struct err err = {0};

    if (cut.survivors != WCACHE_PREFIX && cut.survivors != WCACHE_RANDOM && cut.survivors != WCACHE_OLDER) {
        cut.torn = WCACHE_TORN_NONE;
    }
    note("operation %llu: power cut, survivors %d, torn %d, fill %d\n", (unsigned long long)c.opno,
         cut.survivors, cut.torn, cut.fill);
    if (wcache_power_cut(&cache, 1, &cut, &number, &err) < 0 || wcache_settle(cache, &err) < 0) {
        check_failed(__FILE__, __LINE__, err.text, 0, 0);
    }
}

/* Beside the client: other rules, and sometimes the power goes. */
static int trouble(void *arg)
{
    while (!done) {
        change_rules();
        uint64_t until = c.requests > OPS_PER_CHANGE ? c.requests - OPS_PER_CHANGE : 0;
        do {
            co_sleep_ns(50000);
        } while (!done && c.requests > until);
        if (rng_below(&rng, 3) == 0) {
            cut_power();
        }
    }
    return 0;
}

static co_fn void work(void)
{
    struct co_group g;
    struct co_task task;

    c = (struct client){.w = &w,
                        .size_max = DEVICE_BYTES,
                        .requests = ops,
                        .discard = true,
                        .flush = true,
                        .may_fail = true,
                        .may_drop = true};
    done = false;
    co_group_init(&g);
    co_group_start(&g, &task, trouble, NULL);
    client_run(&c);
    done = true;
    co_group_wait(&g);
    struct fault_change clear = {.node = graph_find(&w.graph, "fault"), .kind = FAULT_CLEAR};
    CHECK_EQ(fault_apply(&clear, 1, NULL), 0);
    while (wcache_is_off(graph_find(&w.graph, "cache"))) {
        co_sleep_ns(100000);
    }
    verify_scrub(w.node, NULL, NULL, NULL);
}

static int explained(void *arg)
{
    struct verify_counts counts;

    rng_init(&rng, ~world_seed);
    diary_len = 0;
    open_disk("\"defect\":\"none\"");
    work();
    if (w.graph.mismatches > 0) {
        const char *m = strstr(w.text, "mismatch");
        fprintf(stderr, "%s%.4000s", diary, m && m - w.text > 400 ? m - 400 : w.text);
    }
    CHECK_EQ(w.graph.mismatches, 0);
    CHECK_EQ(verify_counts(w.node, &counts), 0);
    sum.injected += counts.injected;
    sum.injected_bytes += counts.injected_bytes;
    sum.legal += counts.legal;
    sum.legal_bytes += counts.legal_bytes;
    sum.unverified_bytes += counts.unverified_bytes;
    world_close(&w);
    return 0;
}

static void explain_all(bool with_oracle)
{
    const char *text = getenv("SOAK_OPS");

    oracle = with_oracle;
    sum = (struct verify_counts){0};
    ops = (text ? strtoull(text, NULL, 0) : OPS_DEFAULT) / 2 / (seed_from_env(SEEDS) - seed_from_env(1) + 1);
    FOR_EACH_SEED (seed, SEEDS) {
        world_run(seed, explained, NULL);
    }
    if (many_seeds()) { /* it was not idle */
        assert_true(sum.injected_bytes > 100000);
        assert_true(sum.legal_bytes > 10000);
    }
    if (text) {
        print_message("injected %llu (%llu bytes), legal %llu (%llu bytes), unverified %llu bytes\n",
                      (unsigned long long)sum.injected, (unsigned long long)sum.injected_bytes,
                      (unsigned long long)sum.legal, (unsigned long long)sum.legal_bytes,
                      (unsigned long long)sum.unverified_bytes);
    }
}

static void with_a_reference_whatever_is_wrong_is_explained(void **state)
{
    explain_all(false);
}

static void with_an_oracle_whatever_is_wrong_is_explained(void **state)
{
    explain_all(true);
}

/* ---- a defect beside them ---- */

static int planted(void *arg)
{
    char defect[128];

    rng_init(&rng, ~world_seed);
    snprintf(defect, sizeof(defect), "\"defect\":\"%s\",\"nth\":%llu,\"bit\":%llu", (const char *)arg,
             (unsigned long long)(1 + rng_below(&rng, 100)), (unsigned long long)rng_below(&rng, 4096));
    open_disk(defect);
    work();
    w.stops = w.graph.mismatches > 0; /* for the caller */
    world_close(&w);
    return 0;
}

static void a_defect_beside_them_is_reported(void **state)
{
    static const char *const defects[] = {"lost-write", "misdirected-write", "torn-write", "bit-flip"};

    ops = 1000;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(defects); i++) {
        unsigned seen = 0;
        oracle = i % 2;
        for (uint64_t seed = 1; seed <= 16; seed++) {
            world_run(seed, planted, (void *)defects[i / 2]);
            seen += w.stops;
        }
        if (seen < 2) {
            print_error("%s: seen in %u of 16 runs\n", defects[i / 2], seen);
        }
        assert_true(seen >= 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_reference_whatever_is_wrong_is_explained),
        cmocka_unit_test(with_an_oracle_whatever_is_wrong_is_explained),
        cmocka_unit_test(a_defect_beside_them_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
