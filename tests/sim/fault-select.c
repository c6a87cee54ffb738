/* SPDX-License-Identifier: BSD-2-Clause */
/* Selectors that look at the request, at its bytes, and at what came before it; each against what is expected
 * by hand. Those that look at the clock are in fault-time.c. */
#include <fcntl.h>

#include "fault_rig.h"

/* Writes of the sizes given in KiB, in turn: x where one fails. */
static co_fn const char *writes(const unsigned *kib, int n)
{
    static char text[33];

    for (int i = 0; i < n; i++) {
        text[i] = rig_write(0, kib[i] * KiB, 'w', 0) < 0 ? 'x' : '.';
    }
    text[n] = 0;
    return text;
}

#define EXPECT_WRITES(rules, expected, ...)                                                                  \
    do {                                                                                                     \
        static const unsigned kib[] = {__VA_ARGS__};                                                         \
        rig_open(rules, "");                                                                                 \
        const char *got = writes(kib, ARRAY_SIZE(kib));                                                      \
        if (strcmp(got, expected) != 0) {                                                                    \
            fprintf(stderr, "%s: %s, expected %s\n", rules, got, expected);                                  \
            CHECK(false);                                                                                    \
        }                                                                                                    \
        world_close(&rig);                                                                                   \
    } while (0)

/* ---- bytes ---- */

SCENARIO(budgets_in_bytes)
{
    /* 4+4 match first; the next one finds 8 of 8 passed */
    EXPECT_WRITES("[{'skip-bytes':'8k','action':'error'}]", "..xxx", 4, 4, 4, 1, 64);
    EXPECT_WRITES("[{'skip-bytes':'9k','action':'error'}]", "...xx", 4, 4, 4, 1, 64);
    /* the one that reaches the budget still fails */
    EXPECT_WRITES("[{'count-bytes':'8k','action':'error'}]", "xx...", 4, 4, 4, 4, 4);
    EXPECT_WRITES("[{'count-bytes':'9k','action':'error'}]", "xxx..", 4, 4, 4, 4, 4);
    EXPECT_WRITES("[{'skip-bytes':'4k','count-bytes':'1k','action':'error'}]", ".x...", 4, 4, 4, 4, 4);
    EXPECT_WRITES("[{'skip-bytes':'8k','every':2,'action':'error'}]", "...x.x", 4, 4, 4, 4, 4, 4);
    return 0;
}

SCENARIO(a_changed_budget_counts_what_was_before)
{
    rig_open("[{'id':'a','count-bytes':'4k','action':'error'}]", "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), -EIO);
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(change(rig.node, FAULT_SET, "a", "{'count-bytes':'8k'}"), 0);
    CHECK_EQ(rig_write(0, 4096, 'a', 0), -EIO);
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    world_close(&rig);
    return 0;
}

/* ---- size and place ---- */

SCENARIO(size_and_alignment)
{
    EXPECT_WRITES("[{'request-size':'4k','action':'error'}]", "..x..", 1, 3, 4, 5, 64);
    EXPECT_WRITES("[{'request-size':'3k-5k','action':'error'}]", ".xxx.", 1, 3, 4, 5, 64);
    EXPECT_WRITES("[{'request-size':'5k+','action':'error'}]", "...xx", 1, 3, 4, 5, 64);
    EXPECT_WRITES("[{'request-size':1024,'action':'error'}]", "x....", 1, 3, 4, 5, 64);
    EXPECT_WRITES("[{'aligned':'4k','action':'error'}]", "..x.x", 1, 3, 4, 5, 64);
    EXPECT_WRITES("[{'unaligned':'4k','action':'error'}]", "xx.x.", 1, 3, 4, 5, 64);
    rig_open("[{'aligned':'4k','action':'error'}]", "");
    CHECK_EQ(rig_write(512, 4096, 'a', 0), 0);
    CHECK_EQ(rig_write(8192, 8192, 'a', 0), -EIO);
    CHECK_EQ(node_flush(rig.node), 0); /* has no place */
    world_close(&rig);
    rig_open("[{'request-size':'0+','action':'error'}]", "");
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_read(0, 1), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(overlap_inside_and_first)
{
    rig_open("[{'ranges':['8k+4k','12k+4k','32k+512'],'overlap':'inside','action':'error'}]", "");
    CHECK_EQ(rig_read(8192, 8192), -EIO); /* ranges that touch are one */
    CHECK_EQ(rig_read(8191, 2), 0);
    CHECK_EQ(rig_read(16383, 1), -EIO);
    CHECK_EQ(rig_read(16383, 2), 0);
    CHECK_EQ(rig_read(0, 64 * KiB), 0);
    CHECK_EQ(rig_read(32 * KiB, 512), -EIO);
    world_close(&rig);
    rig_open("[{'ranges':['32k+512','8k+4k'],'overlap':'first','action':'error'}]", "");
    CHECK_EQ(rig_read(8191, 2), 0);
    CHECK_EQ(rig_read(8192, 64 * KiB), -EIO);
    CHECK_EQ(rig_read(12287, 2), -EIO);
    CHECK_EQ(rig_read(12288, 64 * KiB), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(a_request_that_is_split_fails_where_the_range_begins)
{
    rig_open("[{'op':'write','ranges':['4k+4k','12k+4k'],'overlap':'split','nth':2,'action':'error'}]", "");
    CHECK_EQ(rig_write(0, 64 * KiB, 'a', 0), -EIO);
    CHECK_EQ(below(0), 'a');
    CHECK_EQ(below(12287), 'a'); /* the first piece in a range was no second match */
    CHECK_EQ(below(12288), 0);
    CHECK_EQ(below(16384), 0); /* nothing behind what failed */
    CHECK_EQ(counters(rig.node, "r1").matched, 2);
    CHECK_EQ(rig_read(0, 64 * KiB), 0);
    world_close(&rig);
    /* pieces that go on carry the right bytes; a hundred elements in the list */
    rig_open("[{'ranges':'4000+5000','overlap':'split','action':'delay','delay':'1ms'}]", "");
    static uint8_t data[10000], back[10000];
    static struct iovec iov[100];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (int i = 0; i < 100; i++) {
        iov[i] = (struct iovec){data + (size_t)i * 100, 100};
    }
    struct req r = {.op = REQ_WRITE, .offset = 10, .bytes = sizeof(data), .iov = iov, .niov = 100};
    uint64_t began = loop_clock_ns();
    CHECK_EQ(node_io(rig.node, &r), 0);
    CHECK_EQ(loop_clock_ns() - began, NS_PER_MS);
    CHECK_EQ(node_read(node_below(rig.node), 10, back, sizeof(back)), 0);
    CHECK(memcmp(data, back, sizeof(data)) == 0);
    world_close(&rig);
    return 0;
}

static void remove_all(struct timer *t)
{
    CHECK_EQ(change(rig.node, FAULT_CLEAR, NULL, NULL), 0);
}

SCENARIO(rules_may_be_removed_between_the_pieces)
{
    rig_open("[{'op':'write','ranges':'4k+4k','overlap':'split','action':'delay','delay':'10ms'}]", "");
    struct timer t = {.fire = remove_all};
    CHECK_EQ(timer_arm(&t, loop_clock_ns() + NS_PER_MS), 0);
    CHECK_EQ(rig_write(0, 64 * KiB, 'a', 0), 0);
    CHECK_EQ(below(65535), 'a');
    world_close(&rig);
    return 0;
}

/* ---- who, and how many ---- */

SCENARIO(in_flight_and_client)
{
    static struct bg b[4];
    rig_open("[{'op':'write','in-flight':'3+','action':'error'},"
             " {'op':'write','action':'delay','delay':'1ms'}]",
             "");
    for (int i = 0; i < 4; i++) {
        bg_start(&b[i], REQ_WRITE, (uint64_t)i * 512, 'a');
    }
    CHECK_EQ(rig_write(8192, 512, 'a', 0), -EIO);
    co_sleep_ns(5 * NS_PER_MS);
    static const int expected[] = {0, 0, -EIO, -EIO}; /* those that failed have left by then */
    for (int i = 0; i < 4; i++) {
        CHECK(b[i].done);
        CHECK_EQ(b[i].result, expected[i]);
    }
    world_close(&rig);

    rig_open("[{'client':'2-3','action':'error'}]", "");
    for (unsigned client = 0; client < 6; client++) {
        char buf[512];
        struct iovec iov = {buf, 512};
        struct req r = {.op = REQ_READ, .bytes = 512, .iov = &iov, .niov = 1, .client = client};
        CHECK_EQ(node_io(rig.node, &r), client == 2 || client == 3 ? -EIO : 0);
    }
    world_close(&rig);
    return 0;
}

/* ---- what is written ---- */

static co_fn int write_text(const char *text, uint64_t at, uint64_t bytes)
{
    static char buf[64 * KiB];
    memset(buf, 0, bytes);
    memcpy(buf + at, text, strlen(text));
    /* in two parts, cut through the text */
    struct iovec iov[2] = {{buf, at + 2}, {buf + at + 2, bytes - at - 2}};
    struct req r = {.op = REQ_WRITE, .bytes = bytes, .iov = iov, .niov = 2};
    return node_io(rig.node, &r);
}

SCENARIO(data_of_a_write)
{
    rig_open("[{'payload':'MAGIC','payload-at':512,'action':'error'}]", "");
    CHECK_EQ(write_text("MAGIC", 512, 4096), -EIO);
    CHECK_EQ(write_text("MAGIC", 513, 4096), 0);
    CHECK_EQ(write_text("MAGI", 512, 4096), 0);
    CHECK_EQ(write_text("MAGIC", 512, 517), -EIO);
    CHECK_EQ(write_text("MAGI", 512, 516), 0); /* it ends before the pattern does */
    CHECK_EQ(rig_read(0, 4096), 0);
    CHECK_EQ(node_zero(rig.node, 0, 4096, 0), 0);
    world_close(&rig);
    /* 4D 41 47 is MAG */
    rig_open("[{'payload':'0x4d4147','payload-every':'4k','payload-at':8,'action':'error'}]", "");
    CHECK_EQ(write_text("MAG", 8, 512), -EIO);
    CHECK_EQ(write_text("MAG", 8 + 12288, 16384), -EIO);
    CHECK_EQ(write_text("MAG", 8 + 12287, 16384), 0);
    CHECK_EQ(write_text("MAG", 0, 4096), 0);
    world_close(&rig);
    rig_open("[{'payload':'AB','payload-is':'differs','action':'error'}]", "");
    CHECK_EQ(write_text("AB", 0, 512), 0);
    CHECK_EQ(write_text("AC", 0, 512), -EIO);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    return 0;
}

/* ---- what came before ---- */

SCENARIO(the_first_read_since_the_write)
{
    rig_open("[{'op':'read','history':'first-read','action':'error'}]", "");
    CHECK_EQ(rig_read(0, 512), 0); /* nothing was written yet */
    CHECK_EQ(rig_write(8192, 4096, 'a', 0), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_read(8192, 512), -EIO);
    CHECK_EQ(rig_read(8192, 512), 0);
    CHECK_EQ(rig_write(8192, 512, 'a', 0), 0);
    CHECK_EQ(rig_read(0, 64 * KiB), -EIO); /* shares the block */
    CHECK_EQ(rig_read(0, 64 * KiB), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(what_no_flush_has_covered)
{
    rig_open("[{'op':'read','history':'unflushed','action':'error'},"
             " {'op':'flush','state':2,'action':'error'}]",
             "");
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_read(0, 512), -EIO); /* reading changes nothing */
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 4096, 'a', REQ_FUA), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    struct fault_change c = {.node = rig.node, .kind = FAULT_STATE, .state = 2};
    CHECK_EQ(fault_apply(&c, 1, NULL), 0);
    CHECK_EQ(rig_write(0, 4096, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), -EIO); /* a flush that failed covers nothing */
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(a_flush_does_not_cover_a_write_that_is_under_way)
{
    static struct bg b;
    rig_open("[{'op':'read','history':'unflushed','action':'error'},"
             " {'op':'write','action':'delay','delay':'5ms'}]",
             "");
    bg_start(&b, REQ_WRITE, 0, 'a');
    co_sleep_ns(NS_PER_MS);
    CHECK_EQ(node_flush(rig.node), 0);
    co_sleep_ns(10 * NS_PER_MS);
    CHECK(b.done);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(written_within_a_time)
{
    rig_open("[{'op':'read','written-within':'100ms','action':'error'}]", "");
    co_sleep_ns(1000 * NS_PER_MS);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    co_sleep_ns(99 * NS_PER_MS);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_read(4096, 512), 0);
    co_sleep_ns(2 * NS_PER_MS);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    return 0;
}

/* More than can be remembered: the oldest is forgotten, and the latest is not. */
SCENARIO(history_is_bounded)
{
    world_init(&rig);
    WORLD_OPEN(&rig, "%s",
               quoted("{'driver':'fault','rules':[{'op':'read','history':'written','action':'error'}],"
                      "'file':{'driver':'null-co','size':'1T'}}"));
    static char buf[512];
    const uint64_t chunks = 20000; /* of 1 MiB; 16384 are kept */
    for (uint64_t i = 0; i < chunks; i++) {
        CHECK_EQ(node_write(rig.node, i * MiB + i % 250 * 4096, buf, 512, 0), 0);
    }
    for (uint64_t i = 0; i < chunks; i++) {
        CHECK_EQ(node_read(rig.node, i * MiB + i % 250 * 4096, buf, 512), i < chunks - 16384 ? 0 : -EIO);
        CHECK_EQ(node_read(rig.node, i * MiB + (i % 250 + 1) * 4096, buf, 512), 0);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(position_in_the_flush_epoch)
{
    rig_open("[{'op':'write','epoch-write':2,'action':'error'},"
             " {'op':'read','epoch-write':'3+','action':'error','errno':'ENOSPC'}]",
             "");
    for (int epoch = 0; epoch < 3; epoch++) {
        CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
        CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
        CHECK_EQ(rig_read(0, 512), 0);
        CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
        CHECK_EQ(rig_read(0, 512), -ENOSPC);
        CHECK_EQ(node_flush(rig.node), 0);
    }
    world_close(&rig);
    rig_open("[{'op':'any','action':'pass','flush-epoch':'99'}]", "");
    CHECK_EQ(node_flush(rig.node), 0);
    /* its count begins here */
    CHECK_EQ(change(rig.node, FAULT_ADD, NULL, "{'op':'write','flush-epoch':1,'action':'error'}"), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    CHECK_EQ(node_flush(rig.node), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    world_close(&rig);
    return 0;
}

/* ---- while a file exists ---- */

static void make(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

SCENARIO(while_a_file_exists)
{
    char dir[] = "/tmp/fault-file-XXXXXX", path[64], other[64], rules[256];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/on", dir);
    snprintf(other, sizeof(other), "%s/off", dir);
    snprintf(rules, sizeof(rules), "[{'op':'read','while-file':'%s','action':'error'}]", path);
    make(path); /* there from the beginning */
    rig_open(rules, "");
    CHECK_EQ(rig_read(0, 512), -EIO);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(unlink(path), 0);
        CHECK_EQ(rig_read(0, 512), 0);
        make(other);
        CHECK_EQ(rig_read(0, 512), 0);
        CHECK_EQ(rename(other, path), 0);
        CHECK_EQ(rig_read(0, 512), -EIO);
        CHECK_EQ(rename(path, other), 0);
        CHECK_EQ(rig_read(0, 512), 0);
        make(path);
        CHECK_EQ(rig_read(0, 512), -EIO);
    }
    /* more events than one look takes */
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(unlink(other) == 0 || errno == ENOENT, 1);
        make(other);
    }
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(unlink(other), 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rmdir(dir), 0);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    return 0;
}

/* ---- what is refused ---- */

SCENARIO(what_means_nothing_is_refused)
{
    rig_open("[]", "");
    refused("{'action':'error','request-size':'4k-'}",
            "request-size: expected a size such as 4k, 4k-64k, or 64k+ (and above), not \"4k-\"");
    refused("{'action':'error','request-size':'8k-4k'}",
            "request-size: expected a size such as 4k, 4k-64k, or 64k+ (and above), not \"8k-4k\"");
    refused("{'action':'error','in-flight':'1.5'}",
            "in-flight: expected a number N, FROM-TO, or N+ (and above), not \"1.5\"");
    refused("{'action':'error','client':true}",
            "client: expected a number N, FROM-TO, or N+ (and above), not true");
    refused("{'action':'error','overlap':'inside'}", "overlap needs the member ranges or sectors");
    refused("{'action':'error','payload-at':4}", "payload-at needs the member payload");
    refused("{'action':'error','payload':'0xabc'}",
            "payload: expected a text, or 0x and pairs of hex digits, of up to 512 bytes");
    refused("{'action':'error','payload':'a','op':'read'}",
            "only writes carry data: such a rule would never act");
    refused("{'action':'error','history':'unread'}",
            "history 'unread' is not known: expected first-read, unflushed, written");
    struct err err = {0};
    AUTO_JSON json_t *j = parsed("{'action':'error','while-file':'/nowhere/at/all'}");
    struct fault_change c = {.node = rig.node, .kind = FAULT_ADD, .rules = j};
    CHECK_EQ(fault_apply(&c, 1, &err), -ENOENT);
    CHECK(strcmp(err.text,
                 "while-file: the directory of '/nowhere/at/all' cannot be watched: No such file or "
                 "directory") == 0);
    world_close(&rig);
    return 0;
}

/* A rule may say everything at once. */
SCENARIO(every_selector_at_once)
{
    rig_open(
        "[{'op':'write','flags':'fua','without':'unmap','ranges':'4k+4k','overlap':'inside','request-size':'"
        "512+',"
        "'aligned':512,'unaligned':'4k','in-flight':'1','client':'0-9','from':'1ms','until':'3600s',"
        "'on-for':'3600s','off-for':'1ms','epoch-write':'1','flush-epoch':'1','history':'written,unflushed',"
        "'written-within':'3600s','payload':'a','while-file':'/tmp/x','event':'pwritev','state':0,'skip':1,"
        "'skip-bytes':'512','nth':1,'every':1,'probability':1,'count':1,'count-bytes':1,'action':'error'}]",
        "");
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_in_bytes),
        cmocka_unit_test(a_changed_budget_counts_what_was_before),
        cmocka_unit_test(size_and_alignment),
        cmocka_unit_test(overlap_inside_and_first),
        cmocka_unit_test(a_request_that_is_split_fails_where_the_range_begins),
        cmocka_unit_test(rules_may_be_removed_between_the_pieces),
        cmocka_unit_test(in_flight_and_client),
        cmocka_unit_test(data_of_a_write),
        cmocka_unit_test(the_first_read_since_the_write),
        cmocka_unit_test(what_no_flush_has_covered),
        cmocka_unit_test(a_flush_does_not_cover_a_write_that_is_under_way),
        cmocka_unit_test(written_within_a_time),
        cmocka_unit_test(history_is_bounded),
        cmocka_unit_test(position_in_the_flush_epoch),
        cmocka_unit_test(while_a_file_exists),
        cmocka_unit_test(what_means_nothing_is_refused),
        cmocka_unit_test(every_selector_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
