/* SPDX-License-Identifier: BSD-2-Clause */
/* Write caches, one thing at a time: each policy of a power cut, what the cache holds and for how long,
 * devices that fail below it, rules that cut, verifiers above. (Random clients: wcache-model.c.) */
#include "drivers/fault/fault.h"
#include "drivers/verify/verify.h"
#include "drivers/wcache/wcache.h"
#include "block/driver.h"
#include "world.h"

#define PAGE   4096u
#define WRITES 8u
#define SEEDS  400u

static struct world w;

static co_fn struct node *open_cache(const char *options)
{
    world_init(&w);
    WORLD_OPEN(&w, "{\"driver\":\"write-cache\",%s\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}", options);
    return w.node;
}

static co_fn void put(uint64_t offset, uint64_t bytes, int byte, unsigned flags)
{
    static uint8_t data[64 * KiB];

    memset(data, byte, bytes);
    CHECK_EQ(node_write(w.node, offset, data, bytes, flags), 0);
}

static co_fn uint8_t get(struct node *n, uint64_t offset)
{
    uint8_t byte = 255;

    CHECK_EQ(node_read(n, offset, &byte, 1), 0);
    return byte;
}

static co_fn void cut_power(struct node *n, const char *how)
{
    AUTO_JSON json_t *text = json_string(how);
    struct wcache_cut cut;
    uint64_t number;

    CHECK_EQ(wcache_cut_parse(text, &cut, NULL), 0);
    CHECK_EQ(wcache_power_cut(&n, 1, &cut, &number, NULL), 0);
    CHECK_EQ(wcache_settle(n, NULL), 0);
}

static json_int_t told(const struct node *n, const char *member)
{
    AUTO_JSON json_t *report = wcache_report(n, SIZE_MAX);

    CHECK(json_object_get(report, member) != NULL);
    return json_integer_value(json_object_get(report, member));
}

/* The fates of the losses, one letter each. */
static const char *fates(const struct node *n)
{
    static char text[256];
    AUTO_JSON json_t *report = wcache_report(n, SIZE_MAX);
    json_t *losses = json_object_get(report, "losses"), *loss;
    size_t i;

    memset(text, 0, sizeof(text));
    json_array_foreach(losses, i, loss)
    {
        CHECK(i + 1 < sizeof(text));
        text[i] = json_string_value(json_object_get(loss, "fate"))[0];
    }
    return text;
}

/* ---- policies: what survives of eight writes of two pages each, by seed ---- */

struct outcome {
    const char *how;
    uint8_t bytes[WRITES * 2 * PAGE];
    json_int_t legal_bytes, illegal, illegal_bytes;
    char fates[256];
};

static int eight_writes(void *arg)
{
    struct outcome *o = arg;
    char how[256];

    open_cache("");
    put(0, sizeof(o->bytes) / 2, 100, 0);
    put(sizeof(o->bytes) / 2, sizeof(o->bytes) / 2, 100, 0);
    CHECK_EQ(node_flush(w.node), 0);
    for (unsigned i = 0; i < WRITES; i++) {
        put(i * 2 * PAGE, 2 * PAGE, (int)(i + 1), 0);
    }
    snprintf(how, sizeof(how), "%s,seed=%llu", o->how, (unsigned long long)world_seed);
    cut_power(w.node, how);
    CHECK_EQ(node_read(w.node, 0, o->bytes, sizeof(o->bytes)), 0);
    o->legal_bytes = told(w.node, "legal-bytes");
    o->illegal = told(w.node, "illegal-losses");
    o->illegal_bytes = told(w.node, "illegal-bytes");
    snprintf(o->fates, sizeof(o->fates), "%s", fates(w.node));
    world_close(&w);
    return 0;
}

static struct outcome after(const char *how, uint64_t seed)
{
    struct outcome o = {.how = how};

    world_run(seed, eight_writes, &o);
    return o;
}

/* Of the sectors of write @i, those that hold it, and those that hold what was there before. */
static void look(const struct outcome *o, unsigned i, unsigned *ret_new, unsigned *ret_old)
{
    *ret_new = *ret_old = 0;
    for (unsigned at = 0; at < 2 * PAGE; at += SECTOR_SIZE) {
        const uint8_t *sector = o->bytes + i * 2 * PAGE + at;
        bool same = memcmp(sector, sector + 1, SECTOR_SIZE - 1) == 0;
        *ret_new += same && sector[0] == i + 1;
        *ret_old += same && sector[0] == 100;
    }
}

/* As many of @n as a fair coin shows, but for one case in ten thousand and less. */
static void assert_half(unsigned hits, unsigned n)
{
    double deviation = 4.5 * 0.5 * __builtin_sqrt(n);

    assert_true(hits > n / 2.0 - deviation && hits < n / 2.0 + deviation);
}

static void none_and_all(void **state)
{
    struct outcome none = after("survivors=none", 1), all = after("survivors=all", 1);
    unsigned new, old;

    for (unsigned i = 0; i < WRITES; i++) {
        look(&none, i, &new, &old);
        assert_int_equal(old, 16);
        look(&all, i, &new, &old);
        assert_int_equal(new, 16);
    }
    assert_int_equal(none.legal_bytes, WRITES * 2 * PAGE);
    assert_int_equal(none.illegal, 0);
    assert_string_equal(none.fates, "llllllll");
    assert_int_equal(all.legal_bytes, 0);
}

static void a_prefix_of_every_length(void **state)
{
    unsigned lengths[WRITES + 1] = {0}, new, old;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=prefix", seed);
        unsigned n = 0;
        for (look(&o, 0, &new, &old); n < WRITES && new == 16; n++) {
            if (n + 1 < WRITES) {
                look(&o, n + 1, &new, &old);
            }
        }
        for (unsigned i = n; i < WRITES; i++) {
            look(&o, i, &new, &old);
            assert_int_equal(old, 16);
        }
        assert_int_equal(o.legal_bytes, (WRITES - n) * 2 * PAGE);
        lengths[n]++;
    }
    for (unsigned i = 0; i <= WRITES; i++) { /* 44 of each are expected, with a deviation of 6.3 */
        assert_in_range(lengths[i], 17, 72);
    }
}

static void a_prefix_may_end_within_a_write(void **state)
{
    unsigned torn = 0, new, old;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=prefix,torn=512", seed);
        unsigned partial = 0, state_of = 16;
        for (unsigned i = 0; i < WRITES; i++) {
            look(&o, i, &new, &old);
            assert_int_equal(new + old, 16);
            assert_true(new <= state_of);
            partial += new > 0 && old > 0;
            state_of = new == 16 ? 16 : 0;
            for (unsigned s = 0; s < new; s++) { /* its first sectors */
                assert_int_equal(o.bytes[i * 2 * PAGE + s * SECTOR_SIZE], i + 1);
            }
        }
        assert_in_range(partial, 0, 1);
        assert_int_equal(strchr(o.fates, 't') != NULL, partial);
        assert_int_equal(o.illegal, 0);
        torn += partial;
    }
    /* In 8 of 9 cases there is such a write, and 15 of 16 cuts leave a part of it: 333 of 400 */
    assert_in_range(torn, 300, 366);
}

static void writes_survive_by_chance(void **state)
{
    unsigned survived[WRITES] = {0}, pairs = 0, new, old;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=random", seed);
        bool first = false;
        for (unsigned i = 0; i < WRITES; i++) {
            look(&o, i, &new, &old);
            assert_true(new == 16 || old == 16);
            survived[i] += new == 16;
            first = i == 0 ? new == 16 : first;
            pairs += i == 1 && first == (new == 16);
        }
    }
    for (unsigned i = 0; i < WRITES; i++) {
        assert_half(survived[i], SEEDS);
    }
    assert_half(pairs, SEEDS); /* whether the second does has nothing to do with the first */
}

static void units_survive_by_chance(void **state)
{
    unsigned sectors = 0, pages = 0, new, old;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=random,torn=512", seed),
                       p = after("survivors=random,torn=4096", seed);
        for (unsigned i = 0; i < WRITES; i++) {
            look(&o, i, &new, &old);
            assert_int_equal(new + old, 16);
            sectors += new;
            look(&p, i, &new, &old);
            assert_int_equal(new % 8, 0);
            assert_int_equal(new + old, 16);
            pages += new / 8;
        }
    }
    assert_half(sectors, SEEDS * WRITES * 16);
    assert_half(pages, SEEDS * WRITES * 2);
}

static void a_sector_may_be_torn_inside(void **state)
{
    unsigned split = 0, new, old;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=random,torn=bytes", seed);
        unsigned mixed = 0;
        for (unsigned i = 0; i < WRITES; i++) {
            look(&o, i, &new, &old);
            mixed += 16 - new - old;
        }
        assert_int_equal(strchr(o.fates, 's') != NULL, mixed > 0);
        assert_int_equal(o.illegal_bytes, mixed * SECTOR_SIZE); /* no disk may */
        split += mixed;
    }
    assert_half(split, SEEDS * WRITES * 2); /* one in two pages has one, nearly */
}

static void what_is_missing_may_be_filled(void **state)
{
    unsigned zeroes = 0, garbage = 0, new, old;

    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct outcome z = after("survivors=random,torn=512,fill=zero", seed);
        struct outcome g = after("survivors=random,torn=512,fill=garbage", seed);
        for (unsigned i = 0; i < WRITES; i++) {
            look(&z, i, &new, &old);
            if (new > 0) { /* it has survived in part: the rest is filled, not old */
                assert_int_equal(old, 0);
            }
            for (unsigned at = 0; at < 2 * PAGE; at += SECTOR_SIZE) {
                zeroes += buffer_is_zero(z.bytes + i * 2 * PAGE + at, SECTOR_SIZE);
            }
            look(&g, i, &new, &old);
            garbage += new > 0 ? 16 - new : 0;
            assert_true(new == 0 || old == 0);
        }
        assert_true(z.illegal > 0);
    }
    assert_half(zeroes, 100 * WRITES * 16);
    assert_half(garbage, 100 * WRITES * 16);
}

static void erase_blocks_share_their_fate(void **state)
{
    unsigned survived = 0, new, old, next;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome o = after("survivors=erase-block,erase-block=16K", seed); /* two writes each */
        for (unsigned i = 0; i < WRITES; i += 2) {
            look(&o, i, &new, &old);
            look(&o, i + 1, &next, &old);
            assert_int_equal(new, next);
            survived += new == 16;
        }
        assert_int_equal(strspn(o.fates, "r"), strlen(o.fates));
    }
    assert_half(survived, SEEDS * WRITES / 2);
}

static int three_generations(void *arg)
{
    unsigned *count = arg;
    char how[64];

    open_cache("");
    put(0, PAGE, 1, 0);
    CHECK_EQ(node_flush(w.node), 0);
    for (int i = 2; i <= 4; i++) {
        put(0, PAGE, i, 0);
    }
    put(PAGE, SECTOR_SIZE, 9, 0);
    snprintf(how, sizeof(how), "survivors=older,seed=%llu", (unsigned long long)world_seed);
    cut_power(w.node, how);
    count[get(w.node, 0)]++;
    CHECK_EQ(get(w.node, PAGE), 0); /* it had one generation only, and lost it */
    CHECK_EQ(told(w.node, "illegal-losses"), 0);
    world_close(&w);
    return 0;
}

static void an_older_write_comes_back(void **state)
{
    unsigned count[256] = {0};

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_run(seed, three_generations, count);
    }
    assert_int_equal(count[4], 0);
    for (int i = 1; i <= 3; i++) { /* 133, with a deviation of 9.4 */
        assert_in_range(count[i], 91, 175);
    }
}

/* ---- the cache itself ---- */

static co_fn json_int_t info(const char *member)
{
    AUTO_JSON json_t *o = w.node->drv->info(w.node);

    return json_integer_value(json_object_get(o, member));
}

/* With fifo, the device has exactly the oldest writes, whatever is cut when. */
static int in_order(void *arg)
{
    open_cache("\"size\":\"64K\",");
    for (unsigned i = 0; i < 100; i++) {
        put(i * PAGE, 1 + i * 37 % PAGE, 1, 0);
        CHECK(info("used-bytes") <= (json_int_t)(64 * KiB));
        CHECK(info("dirty-bytes") <= info("used-bytes"));
    }
    CHECK_EQ(info("used-bytes"), 64 * KiB);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(get(node_below(w.node), i * PAGE), i < 84);
        CHECK_EQ(get(w.node, i * PAGE), 1);
    }
    CHECK_EQ(node_flush(w.node), 0);
    CHECK_EQ(info("used-bytes"), 0);
    world_close(&w);
    return 0;
}

static void memory_is_bounded_and_fifo_keeps_the_order(void **state)
{
    world_run(1, in_order, NULL);
}

static int by_age(void *arg)
{
    open_cache("\"age\":\"10ms\",");
    put(0, PAGE, 1, 0);
    co_sleep_ns(6 * NS_PER_MS);
    put(2 * PAGE, PAGE, 2, 0);
    co_sleep_ns(5 * NS_PER_MS);
    CHECK_EQ(get(node_below(w.node), 0), 1);
    CHECK_EQ(get(node_below(w.node), 2 * PAGE), 0);
    co_sleep_ns(10 * NS_PER_MS);
    CHECK_EQ(get(node_below(w.node), 2 * PAGE), 2);
    world_close(&w);
    return 0;
}

static void what_is_old_enough_is_written_down(void **state)
{
    world_run(1, by_age, NULL);
}

static int failing_device(void *arg)
{
    struct err err = {0};
    char byte[PAGE] = {1};
    struct sim_file *disk = sim_file_create("disk", &(struct sim_disk){.size = 1 * MiB});

    world_init(&w);
    WORLD_OPEN(
        &w,
        "{\"driver\":\"write-cache\",\"size\":\"64K\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}}");
    for (unsigned i = 0; i < 16; i++) {
        put(i * PAGE, PAGE, 7, 0);
    }
    sim_set_faults(disk, &(struct sim_fault){.op = SIM_WRITE, .error = -EIO, .nth = 1, .sticky = true}, 1);
    CHECK_EQ(node_write(w.node, 20 * PAGE, byte, PAGE, 0), -EIO); /* there is no room for it */
    CHECK_EQ(node_flush(w.node), -EIO);
    CHECK_EQ(get(w.node, 0), 7); /* nothing is lost by that */
    sim_set_faults(disk, NULL, 0);
    CHECK_EQ(node_flush(w.node), 0);
    uint8_t there = 0;
    sim_file_peek(disk, 15 * PAGE, &there, 1);
    CHECK_EQ(there, 7);
    sim_set_faults(disk, &(struct sim_fault){.op = SIM_WRITE, .error = -EIO, .nth = 1, .sticky = true}, 1);
    put(0, PAGE, 8, 0);
    /* What survives a cut cannot be written: that is said. */
    struct wcache_cut cut;
    uint64_t number;
    CHECK_EQ(wcache_cut_parse(NULL, &cut, NULL), 0);
    cut.survivors = WCACHE_ALL;
    CHECK_EQ(wcache_power_cut(&w.node, 1, &cut, &number, NULL), 0);
    CHECK_EQ(wcache_settle(w.node, &err), -EIO);
    CHECK(strstr(err.text, "not complete") != NULL);
    sim_set_faults(disk, NULL, 0);
    CHECK_EQ(node_flush(w.node), 0);
    world_close(&w);
    return 0;
}

static void a_device_that_fails_below_loses_nothing(void **state)
{
    world_run(1, failing_device, NULL);
}

/* ---- power ---- */

static int off_for_a_while(void *arg)
{
    open_cache("");
    uint64_t before = loop_clock_ns();
    cut_power(w.node, "off=5s");
    CHECK(wcache_is_off(w.node));
    CHECK_EQ(node_presence(w.node), PRESENCE_REFUSED);
    CHECK_EQ(node_flush(w.node), -EIO);
    co_sleep_ns(5 * NS_PER_SEC);
    CHECK(!wcache_is_off(w.node));
    CHECK_EQ(node_presence(w.node), PRESENCE_HERE);
    CHECK(loop_clock_ns() - before >= 5 * NS_PER_SEC);
    CHECK_EQ(w.node->reconnects, 1);
    cut_power(w.node, "stay-off=on,mute=on");
    CHECK_EQ(node_presence(w.node), PRESENCE_MUTED);
    world_close(&w); /* also without power */
    return 0;
}

static void no_power_for_a_while(void **state)
{
    world_run(1, off_for_a_while, NULL);
}

static int all_or_none(void *arg)
{
    struct world other;
    struct wcache_cut cut;
    uint64_t number = 0;

    open_cache("");
    other = w;
    AUTO_JSON json_t *options = json_pack("{s:s, s:{s:s}}", "driver", "write-cache", "file", "driver", "mem");
    CHECK_EQ(node_open(&w.graph, options, OPEN_WRITE, &other.node, NULL), 0);
    CHECK_EQ(wcache_cut_parse(NULL, &cut, NULL), 0);
    put(0, PAGE, 1, 0);
    cut_power(other.node, "stay-off=on");
    struct node *both[] = {w.node, other.node, node_below(w.node)};
    CHECK_EQ(wcache_power_cut(both, 2, &cut, &number, NULL), -EBUSY);
    CHECK(!wcache_is_off(w.node));
    CHECK_EQ(get(w.node, 0), 1);
    CHECK_EQ(wcache_power_on(other.node, NULL), 0);
    CHECK_EQ(wcache_power_cut(both, 3, &cut, &number, NULL), -EINVAL); /* one is no cache */
    CHECK_EQ(wcache_power_cut(both, 2, &cut, &number, NULL), 0);
    CHECK_EQ(number, 2);
    CHECK(wcache_is_off(w.node) && wcache_is_off(other.node)); /* now, not later */
    CHECK_EQ(wcache_settle(w.node, NULL), 0);
    CHECK_EQ(wcache_settle(other.node, NULL), 0);
    CHECK_EQ(get(w.node, 0), 0);
    node_unref(other.node);
    world_close(&w);
    return 0;
}

static void several_disks_are_cut_together_or_not_at_all(void **state)
{
    world_run(1, all_or_none, NULL);
}

static int rule_cuts(void *arg)
{
    const bool *after_it = arg;
    char data[PAGE] = {5};

    world_init(&w);
    WORLD_OPEN(&w,
               "{\"driver\":\"fault\",\"rules\":[{\"op\":\"write\",\"nth\":3,\"action\":\"power-cut\","
               "\"when\":\"%s\","
               "\"cut\":{\"survivors\":\"all\",\"stay-off\":true}}],\"file\":{\"driver\":\"write-cache\","
               "\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}}",
               *after_it ? "after" : "before");
    struct node *cache = node_below(w.node);
    put(0, PAGE, 1, 0);
    put(PAGE, PAGE, 2, 0);
    CHECK_EQ(node_write(w.node, 2 * PAGE, data, PAGE, 0), -EIO);
    CHECK(wcache_is_off(cache));
    CHECK_EQ(node_write(w.node, 3 * PAGE, data, PAGE, 0), -EIO);
    CHECK_EQ(wcache_settle(cache, NULL), 0);
    CHECK_EQ(told(cache, "operation"), 4);
    CHECK_EQ(wcache_power_on(cache, NULL), 0);
    CHECK_EQ(get(w.node, PAGE), 2);
    CHECK_EQ(get(w.node, 2 * PAGE), *after_it ? 5 : 0);
    CHECK_EQ(get(w.node, 3 * PAGE), 0);
    world_close(&w);
    return 0;
}

static void a_rule_cuts_before_or_after_its_request(void **state)
{
    world_run(1, rule_cuts, &(bool){false});
    world_run(1, rule_cuts, &(bool){true});
}

/* ---- a verifier above ---- */

static int verified(void *arg)
{
    const bool *lying = arg;
    struct verify_counts c = {0};
    char data[PAGE], planted[SECTOR_SIZE] = "nobody's";

    world_init(&w);
    WORLD_OPEN(
        &w,
        "{\"driver\":\"blkverify\",\"on-mismatch\":\"report\",\"raw\":{\"driver\":\"mem\",\"size\":\"1M\"},"
        "\"test\":{\"driver\":\"write-cache\",\"flush\":\"%s\",\"file\":{\"driver\":\"mem\",\"size\":\"1M\"}}"
        "}",
        *lying ? "lie" : "honest");
    struct node *cache = node_child(w.node, "test");
    put(0, 8 * PAGE, 1, 0);
    CHECK_EQ(node_flush(w.node), 0);
    put(0, PAGE, 2, 0); /* may be lost */
    put(8 * PAGE, PAGE, 3, 0);
    cut_power(cache, "survivors=none");
    for (uint64_t at = 0; at < 9 * PAGE; at += PAGE) {
        CHECK_EQ(node_read(w.node, at, data, PAGE), 0);
    }
    CHECK_EQ(verify_counts(w.node, &c), 0);
    CHECK_EQ(c.mismatches, 0);
    CHECK_EQ(c.injected > 0, *lying);
    CHECK_EQ(w.stops, 0);
    /* Beside what was lost, something that the cut did not do. */
    CHECK_EQ(node_write(node_below(cache), 5 * PAGE, planted, SECTOR_SIZE, 0), 0);
    (void)node_read(w.node, 5 * PAGE, data, PAGE);
    CHECK_EQ(verify_counts(w.node, &c), 0);
    CHECK_EQ(c.mismatches, 1);
    /* Written anew, then as the cut had left it: that is not the cut's doing any more. */
    put(0, PAGE, 6, 0);
    CHECK_EQ(node_read(w.node, 0, data, PAGE), 0);
    CHECK_EQ(node_flush(w.node), 0);
    cut_power(cache, "survivors=all");
    memset(data, *lying ? 0 : 1, sizeof(data));
    CHECK_EQ(node_write(node_below(cache), 0, data, PAGE, 0), 0);
    (void)node_read(w.node, 0, data, PAGE);
    CHECK_EQ(verify_counts(w.node, &c), 0);
    CHECK(c.mismatches > 1);
    world_close(&w);
    return 0;
}

static void a_verifier_knows_what_a_cut_took(void **state)
{
    world_run(1, verified, &(bool){false});
}

static void and_what_a_lie_took(void **state)
{
    world_run(1, verified, &(bool){true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_and_all),
        cmocka_unit_test(a_prefix_of_every_length),
        cmocka_unit_test(a_prefix_may_end_within_a_write),
        cmocka_unit_test(writes_survive_by_chance),
        cmocka_unit_test(units_survive_by_chance),
        cmocka_unit_test(a_sector_may_be_torn_inside),
        cmocka_unit_test(what_is_missing_may_be_filled),
        cmocka_unit_test(erase_blocks_share_their_fate),
        cmocka_unit_test(an_older_write_comes_back),
        cmocka_unit_test(memory_is_bounded_and_fifo_keeps_the_order),
        cmocka_unit_test(what_is_old_enough_is_written_down),
        cmocka_unit_test(a_device_that_fails_below_loses_nothing),
        cmocka_unit_test(no_power_for_a_while),
        cmocka_unit_test(several_disks_are_cut_together_or_not_at_all),
        cmocka_unit_test(a_rule_cuts_before_or_after_its_request),
        cmocka_unit_test(a_verifier_knows_what_a_cut_took),
        cmocka_unit_test(and_what_a_lie_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
