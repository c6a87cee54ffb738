/* SPDX-License-Identifier: BSD-2-Clause */
/* Decisions of fault rules are logged, and repeated for a client that gives the same requests in another
 * order: the same ones fail, wait as long, and read the same wrong bits. */
#include "fault_rig.h"

#define PLACES   40
#define TIMES    3
#define REQUESTS (PLACES * TIMES * 2) /* writes and reads */

static const char rules[] =
    "[{'id':'slow','action':'delay','distribution':'uniform','delay-max':'10ms','probability':0.3},"
    "{'id':'bad','action':'error','op':'write','probability':0.2,'skip':5},"
    "{'id':'flip','action':'corrupt','op':'read','probability':0.3}]";

/* By operation, place, and how many came before. */
struct outcomes {
    int result[2][PLACES][TIMES];
    uint64_t took_ns[2][PLACES][TIMES];
    uint64_t data[2][PLACES][TIMES]; /* hash of what was read */
    unsigned failed, slow, wrong;
};

static char dir[64], log_a[96], log_b[96];

static uint64_t fnv(const char *data, size_t len)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (uint8_t)data[i]) * 1099511628211u;
    }
    return h;
}

/* All requests, @at_once of them at a time, in the order of the multiples of @step. */
static co_fn void client(unsigned step, unsigned at_once, struct outcomes *ret)
{
    static struct bg b[8];
    unsigned times[2][PLACES] = {0};
    static const char zeroes[512];

    *ret = (struct outcomes){0};
    for (unsigned i = 0; i < REQUESTS; i += at_once) {
        unsigned place[8], nth[8], n = MIN(at_once, REQUESTS - i);
        bool read[8];
        uint64_t began = loop_clock_ns();
        for (unsigned k = 0; k < n; k++) {
            unsigned number = (i + k) * step % REQUESTS;
            read[k] = number % 2;
            place[k] = number / 2 % PLACES;
            nth[k] = times[read[k]][place[k]]++;
            bg_start(&b[k], read[k] ? REQ_READ : REQ_WRITE, place[k] * 512, 0);
        }
        co_sleep_ns(NS_PER_SEC);
        for (unsigned k = 0; k < n; k++) {
            CHECK(b[k].done);
            uint64_t took = b[k].done_ns - began;
            ret->result[read[k]][place[k]][nth[k]] = b[k].result;
            ret->took_ns[read[k]][place[k]][nth[k]] = took;
            ret->data[read[k]][place[k]][nth[k]] = fnv(b[k].data, 512);
            ret->failed += b[k].result < 0;
            ret->slow += took > 0;
            ret->wrong += memcmp(b[k].data, zeroes, 512) != 0;
        }
    }
}

static bool same(const struct outcomes *a, const struct outcomes *b)
{
    return memcmp(a->result, b->result, sizeof(a->result)) == 0 &&
           memcmp(a->took_ns, b->took_ns, sizeof(a->took_ns)) == 0 &&
           memcmp(a->data, b->data, sizeof(a->data)) == 0;
}

static void make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/fault-decisions-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    snprintf(log_a, sizeof(log_a), "%s/a", dir);
    snprintf(log_b, sizeof(log_b), "%s/b", dir);
}

static void remove_dir(void)
{
    unlink(log_a);
    unlink(log_b);
    CHECK_EQ(rmdir(dir), 0);
}

static co_fn void end(void)
{
    rig_events[0] = 0;
    world_close(&rig);
    fault_decisions_end(&rig.graph);
}

SCENARIO(another_order_gets_the_same_faults)
{
    static struct outcomes a, b;
    struct err err = {0};
    make_dir();
    rig_open(rules, "'node-name':'f',");
    CHECK_EQ(fault_decisions_log_to(&rig.graph, log_a, &err), 0);
    client(1, 1, &a);
    end();
    /* 120 writes and 120 reads: 21 of 115 at 0.2, 36 at 0.3, 72 of 240 at 0.3; five sigmas are 22, 25, 36 */
    CHECK(a.failed > 0 && a.failed < 46);
    CHECK(a.wrong > 10 && a.wrong < 62);
    CHECK(a.slow > 35 && a.slow < 109);

    rig_open(rules, "'node-name':'f',");
    client(7, 8, &b); /* without the log it is another story */
    end();
    CHECK(!same(&a, &b));

    rig_open(rules, "'node-name':'f',");
    CHECK_EQ(fault_decisions_replay(&rig.graph, log_a, &err), 0);
    CHECK_EQ(fault_decisions_log_to(&rig.graph, log_b, &err), 0);
    client(7, 8, &b);
    CHECK_EQ(counters(rig.node, "bad").fired, a.failed);
    CHECK_EQ(counters(rig.node, "flip").fired, a.wrong);
    end();
    CHECK(same(&a, &b));
    CHECK(!strstr(rig.text, "not repeated")); /* all were met */

    rig_open(rules, "'node-name':'f',"); /* and what was repeated can be */
    CHECK_EQ(fault_decisions_replay(&rig.graph, log_b, &err), 0);
    client(11, 3, &b);
    CHECK_EQ(b.failed, a.failed);
    CHECK(memcmp(a.result, b.result, sizeof(a.result)) == 0);
    end();
    remove_dir();
    return 0;
}

SCENARIO(what_never_came_is_told)
{
    struct err err = {0};
    make_dir();
    rig_open("[{'id':'e','action':'error','op':'read'}]", "'node-name':'f',");
    CHECK_EQ(fault_decisions_log_to(&rig.graph, log_a, &err), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_read(512, 512), -EIO);
    end();
    rig_open("[{'id':'e','action':'error','op':'read'},{'id':'new','action':'error','op':'read'}]",
             "'node-name':'f',");
    CHECK_EQ(fault_decisions_replay(&rig.graph, log_a, &err), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(counters(rig.node, "e").fired, 1);
    CHECK_EQ(rig_read(1024, 512), -EIO); /* by the rule that the log does not know */
    CHECK_EQ(counters(rig.node, "e").fired, 1);
    CHECK_EQ(counters(rig.node, "new").fired, 1);
    end();
    CHECK(strstr(rig.text, "2 of 3 decisions were not repeated"));
    remove_dir();
    return 0;
}

static co_fn uint64_t read_takes_ns(uint64_t offset, uint64_t bytes)
{
    uint64_t began = loop_clock_ns();
    CHECK_EQ(rig_read(offset, bytes), 0);
    return loop_clock_ns() - began;
}

/* A rule that cuts requests where its range begins and ends is used up earlier in one run than in the other.
 */
SCENARIO(pieces_are_the_same_when_a_rule_is_used_up)
{
    static const char split[] =
        "[{'id':'e','action':'delay','delay':'1ms','ranges':'512+512','overlap':'split','count':1},"
        "{'id':'l','action':'delay','delay':'3ms','ranges':'1k+512'}]";
    struct err err = {0};
    make_dir();
    rig_open(split, "'node-name':'f',");
    CHECK_EQ(fault_decisions_log_to(&rig.graph, log_a, &err), 0);
    CHECK_EQ(read_takes_ns(512, 512), NS_PER_MS);
    CHECK_EQ(read_takes_ns(0, 4096), 3 * NS_PER_MS);
    end();
    rig_open(split, "'node-name':'f',");
    CHECK_EQ(fault_decisions_replay(&rig.graph, log_a, &err), 0);
    CHECK_EQ(read_takes_ns(0, 4096), 4 * NS_PER_MS); /* the first to come to that sector, here */
    CHECK_EQ(read_takes_ns(512, 512), 0);
    end();
    CHECK(!strstr(rig.text, "not repeated"));
    remove_dir();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_order_gets_the_same_faults),
        cmocka_unit_test(what_never_came_is_told),
        cmocka_unit_test(pieces_are_the_same_when_a_rule_is_used_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
