/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkdebug's semantics, event by event: what arms, what disarms, what is used up. The events are announced by
 * the test, as a format above would. What is expected is QEMU's behaviour (observed with 7.2), described in
 * blkproof-blkdebug(7).
 */
#include "fault_rig.h"

static co_fn struct node *open_blkdebug(const char *more)
{
    world_init(&rig);
    WORLD_OPEN(&rig, "{\"driver\":\"blkdebug\",%s\"image\":{\"driver\":\"mem\",\"size\":\"1M\"}}",
               quoted(more));
    return rig.node;
}

static co_fn void announce(enum block_event event)
{
    node_event(rig.node, event);
}

static co_fn int zero(void)
{
    return node_zero(rig.node, 0, 512, 0);
}

static co_fn int discard(void)
{
    return node_discard(rig.node, 0, 512);
}

static co_fn int status(void)
{
    struct extent e;
    return node_status(rig.node, 0, 512, &e);
}

/* ---- sticky ---- */

SCENARIO(sticky_an_armed_rule_fails_whatever_comes)
{
    open_blkdebug("'inject-error':[{'event':'read_aio'}],");
    CHECK_EQ(rig_read(0, 512), 0);
    announce(EVENT_read_aio);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_write(4096, 512, 'a', 0), -EIO);
    CHECK_EQ(discard(), -EIO);
    CHECK_EQ(zero(), -EIO);
    CHECK_EQ(node_flush(rig.node), -EIO);
    CHECK_EQ(status(), 0); /* not by default */
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(below(4096), 0); /* nothing was sent down */
    world_close(&rig);
    return 0;
}

SCENARIO(sticky_an_event_without_a_matching_rule_disarms_nothing)
{
    open_blkdebug("'inject-error':[{'event':'read_aio'},{'event':'write_aio','state':2}],");
    announce(EVENT_read_aio);
    announce(EVENT_write_aio); /* not in this state */
    announce(EVENT_l2_load);   /* no rule at all */
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(sticky_an_event_with_a_matching_rule_replaces_what_was_armed)
{
    open_blkdebug(
        "'inject-error':[{'event':'read_aio','errno':5},{'event':'write_aio','errno':28,'iotype':'write'}],");
    announce(EVENT_read_aio);
    announce(EVENT_write_aio);
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -ENOSPC);
    world_close(&rig);
    return 0;
}

SCENARIO(sticky_a_change_of_state_disarms_nothing)
{
    open_blkdebug("'inject-error':[{'event':'read_aio','state':1}],"
                  "'set-state':[{'event':'l2_load','new_state':2}],");
    announce(EVENT_read_aio);
    announce(EVENT_l2_load);
    CHECK_EQ(fault_state(rig.node), 2);
    CHECK_EQ(rig_read(0, 512), -EIO);
    announce(EVENT_read_aio);
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

SCENARIO(sticky_errno_0_disarms)
{
    open_blkdebug("'inject-error':[{'event':'read_aio'},{'event':'l2_load','errno':0,'once':true}],");
    for (int i = 0; i < 3; i++) { /* it is never used up */
        announce(EVENT_read_aio);
        CHECK_EQ(rig_read(0, 512), -EIO);
        announce(EVENT_l2_load);
        CHECK_EQ(rig_read(0, 512), 0);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(sticky_ping_pong_keeps_failing_without_errno_0)
{
    static const char states[] = "'set-state':[{'event':'read_aio','state':1,'new_state':2},{'event':'read_"
                                 "aio','state':2,'new_state':1}],";
    char more[512];

    snprintf(more, sizeof(more), "'inject-error':[{'event':'read_aio','state':2}],%s", states);
    open_blkdebug(more);
    static const int sticky[] = {0, -EIO, -EIO, -EIO, -EIO};
    for (int i = 0; i < 5; i++) {
        announce(EVENT_read_aio);
        CHECK_EQ(rig_read(0, 512), sticky[i]);
    }
    world_close(&rig);
    snprintf(more, sizeof(more),
             "'inject-error':[{'event':'read_aio','state':2},{'event':'read_aio','state':1,'errno':0}],%s",
             states);
    open_blkdebug(more);
    for (int i = 0; i < 6; i++) { /* the old-state rule: one event does not run through both */
        announce(EVENT_read_aio);
        CHECK_EQ(rig_read(0, 512), i % 2 ? -EIO : 0);
    }
    world_close(&rig);
    return 0;
}

SCENARIO(old_state_all_rules_of_an_event_see_the_state_before_it)
{
    open_blkdebug(
        "'inject-error':[{'event':'l2_load','state':2,'errno':28},{'event':'l2_load','state':1,'errno':5}],"
        "'set-state':[{'event':'l2_load','state':1,'new_state':2},{'event':'l2_load','state':2,'new_state':3}"
        "],");
    announce(EVENT_l2_load);
    CHECK_EQ(fault_state(rig.node), 2);
    CHECK_EQ(rig_read(0, 512), -EIO);
    announce(EVENT_l2_load);
    CHECK_EQ(fault_state(rig.node), 3);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    announce(EVENT_l2_load); /* nothing matches */
    CHECK_EQ(fault_state(rig.node), 3);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    world_close(&rig);
    return 0;
}

SCENARIO(of_several_changes_of_state_the_first_wins)
{
    open_blkdebug("'set-state':[{'event':'l2_load','new_state':5},{'event':'l2_load','new_state':6}],");
    announce(EVENT_l2_load);
    CHECK_EQ(fault_state(rig.node), 5);
    world_close(&rig);
    return 0;
}

/* ---- once, sector, iotype ---- */

SCENARIO(once_is_for_one_request_and_then_for_ever_gone)
{
    open_blkdebug("'inject-error':[{'event':'write_aio','once':'on','errno':28}],");
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -ENOSPC);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    world_close(&rig);
    return 0;
}

SCENARIO(two_once_rules_are_used_up_one_by_one_in_order)
{
    open_blkdebug(
        "'inject-error':[{'event':'write_aio','once':true,'errno':28},{'event':'write_aio','once':true,"
        "'errno':1},{'event':'write_aio','errno':5}],");
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -ENOSPC);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EPERM);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    world_close(&rig);
    return 0;
}

/* A rule that is used up no longer matches its event, so it disarms nothing. */
SCENARIO(a_used_up_rule_leaves_what_is_armed)
{
    open_blkdebug("'inject-error':[{'event':'write_aio','once':true},{'event':'read_aio','errno':28}],");
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    announce(EVENT_read_aio);
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -ENOSPC);
    world_close(&rig);
    return 0;
}

SCENARIO(a_sector_is_hit_by_its_first_byte)
{
    open_blkdebug("'inject-error':[{'event':'none','sector':8}],");
    CHECK_EQ(rig_read(0, 4096), 0);
    CHECK_EQ(rig_read(0, 4097), -EIO);
    CHECK_EQ(rig_read(4096, 1), -EIO);
    CHECK_EQ(rig_read(4097, 511), 0); /* inside the sector, without its first byte */
    CHECK_EQ(rig_write(4096, 512, 'a', 0), -EIO);
    CHECK_EQ(node_flush(rig.node), 0); /* has no sector */
    world_close(&rig);
    return 0;
}

SCENARIO(each_iotype_is_itself_alone)
{
    static const char *const types[] = {"read", "write", "write-zeroes", "discard", "flush", "block-status"};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        char more[128];
        snprintf(more, sizeof(more), "'inject-error':[{'event':'none','iotype':'%s'}],", types[i]);
        open_blkdebug(more);
        CHECK_EQ(rig_read(0, 512), i == 0 ? -EIO : 0);
        CHECK_EQ(rig_write(0, 512, 'a', 0), i == 1 ? -EIO : 0);
        CHECK_EQ(zero(), i == 2 ? -EIO : 0);
        CHECK_EQ(discard(), i == 3 ? -EIO : 0);
        CHECK_EQ(node_flush(rig.node), i == 4 ? -EIO : 0);
        CHECK_EQ(status(), i == 5 ? -EIO : 0);
        /* a FUA is a flush behind the write */
        CHECK_EQ(rig_write(0, 512, 'a', REQ_FUA), i == 1 || i == 4 ? -EIO : 0);
        world_close(&rig);
    }
    return 0;
}

SCENARIO(none_happens_when_the_node_is_opened)
{
    open_blkdebug("'inject-error':[{'event':'none','state':1},{'event':'none','state':2,'errno':28}],"
                  "'set-state':[{'event':'none','new_state':4}],");
    CHECK_EQ(fault_state(rig.node), 4);
    CHECK_EQ(rig_read(0, 512), -EIO);
    world_close(&rig);
    return 0;
}

/* The error comes in either form; without immediately after a turn of the loop. */
SCENARIO(immediately_or_after_a_turn)
{
    static struct bg b;
    open_blkdebug("'inject-error':[{'event':'none','iotype':'read','immediately':'on'},"
                  "{'event':'none','iotype':'write','immediately':'off'}],");
    bg_start(&b, REQ_READ, 0, 0);
    CHECK(b.done);
    CHECK_EQ(b.result, -EIO);
    bg_start(&b, REQ_WRITE, 0, 0);
    CHECK(!b.done);
    co_yield ();
    co_yield ();
    CHECK(b.done);
    CHECK_EQ(b.result, -EIO);
    world_close(&rig);
    return 0;
}

/* ---- the events of the gate ---- */

SCENARIO(writes_announce_themselves)
{
    /* An error armed by pwritev hits the very write; by pwritev_done, the next request. */
    open_blkdebug("'inject-error':[{'event':'pwritev','once':true}],");
    CHECK_EQ(rig_read(0, 512), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    world_close(&rig);
    open_blkdebug("'inject-error':[{'event':'pwritev_done','once':true}],");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(rig_read(0, 512), -EIO);
    CHECK_EQ(rig_read(0, 512), 0);
    world_close(&rig);
    open_blkdebug("'inject-error':[{'event':'pwritev_zero','once':true}],");
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(zero(), -EIO);
    world_close(&rig);
    return 0;
}

/* Read-modify-write: an error armed by an event of the beginning or end hits that read, or the next thing. */
SCENARIO(edges_announce_themselves)
{
    static const struct {
        const char *event;
        uint64_t offset, bytes;
        bool fails;
    } cases[] = {
        {"pwritev_rmw_head", 100, 4096 - 100, true}, {"pwritev_rmw_head", 0, 5000, false},
        {"pwritev_rmw_tail", 0, 5000, true},         {"pwritev_rmw_tail", 100, 4096 - 100, false},
        {"pwritev_rmw_after_head", 100, 9000, true}, {"pwritev_rmw_after_head", 0, 9000, false},
        {"pwritev_rmw_after_tail", 100, 9000, true}, {"pwritev_rmw_after_tail", 100, 8192 - 100, false},
        {"pwritev_rmw_head", 100, 100, true},        {"pwritev_rmw_tail", 100, 100, true},
        {"pwritev_rmw_head", 0, 8192, false},        {"pwritev_rmw_tail", 0, 8192, false},
        {"pwritev_rmw_head", 0, 100, false},         {"pwritev_rmw_after_head", 0, 100, false},
        {"pwritev_rmw_tail", 0, 100, true},          {"pwritev_rmw_tail", 100, 4096 - 100, false},
        {"pwritev_rmw.after_tail", 100, 100, true}, /* as it was called until 2.5 */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char more[128];
        snprintf(more, sizeof(more), "'align':4096,'inject-error':[{'event':'%s'}],", cases[i].event);
        open_blkdebug(more);
        int ret = rig_write(cases[i].offset, cases[i].bytes, 'a', 0);
        if (ret != (cases[i].fails ? -EIO : 0)) {
            fprintf(stderr, "%s %llu+%llu: %d\n", cases[i].event, (unsigned long long)cases[i].offset,
                    (unsigned long long)cases[i].bytes, ret);
            CHECK(false);
        }
        world_close(&rig);
    }
    return 0;
}

SCENARIO(flushes_are_announced_to_the_node_below)
{
    static const char *const events[] = {"flush_to_os", "flush_to_disk"};
    for (int i = 0; i < 2; i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "{'driver':'raw','file':{'driver':'blkdebug','inject-error':[{'event':'%s'}],'image':"
                 "{'driver':'mem','size':'1M'}}}",
                 events[i]);
        world_init(&rig);
        WORLD_OPEN(&rig, "%s", quoted(text));
        CHECK_EQ(node_flush(rig.node), i == 0 ? -EIO : 0); /* nothing to reach the disk for */
        world_close(&rig);
        world_init(&rig);
        WORLD_OPEN(&rig, "%s", quoted(text));
        CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
        CHECK_EQ(node_flush(rig.node), -EIO);
        world_close(&rig);
    }
    return 0;
}

/* ---- limits: blkdebug asserts that they are kept ---- */

SCENARIO(limits_are_kept_and_bytes_arrive)
{
    struct rng *rng = loop_rng();
    static uint8_t model[1 * MiB], seen[1 * MiB];

    open_blkdebug("'align':4096,'max-transfer':12288,'opt-write-zero':12288,'max-write-zero':36864,"
                  "'opt-discard':20480,'max-discard':40960,");
    CHECK(!rig.node->pass_by);
    memset(model, 0, sizeof(model));
    for (int i = 0; i < 2000; i++) {
        uint64_t at = rng_below(rng, MiB), bytes = 1 + rng_below(rng, MIN(MiB - at, (uint64_t)100000));
        switch (rng_below(rng, 4)) {
        case 0:
            CHECK_EQ(rig_write(at, bytes, (char)i, 0), 0);
            memset(model + at, (char)i, bytes);
            break;
        case 1:
            CHECK_EQ(node_zero(rig.node, at, bytes, 0), 0);
            memset(model + at, 0, bytes);
            break;
        case 2:
            CHECK_EQ(node_read(rig.node, at, seen, bytes), 0);
            CHECK(memcmp(seen, model + at, bytes) == 0);
            break;
        case 3: /* may change what is there: only of what is written anew */
            CHECK_EQ(node_discard(rig.node, at, bytes), 0);
            CHECK_EQ(rig_write(at, bytes, (char)i, 0), 0);
            memset(model + at, (char)i, bytes);
            break;
        }
    }
    CHECK_EQ(node_read(rig.node, 0, seen, MiB), 0);
    CHECK(memcmp(seen, model, MiB) == 0);
    world_close(&rig);
    return 0;
}

SCENARIO(limits_that_cannot_be_met_are_refused)
{
    static const struct {
        const char *more, *sentence;
    } cases[] = {
        {"'align':1000,", "Cannot meet constraints with align 1000"},
        {"'align':'2G',", "Cannot meet constraints with align 2147483648"},
        {"'align':4096,'max-transfer':6144,", "Cannot meet constraints with max-transfer 6144"},
        {"'align':4096,'opt-write-zero':512,", "Cannot meet constraints with opt-write-zero 512"},
        {"'opt-write-zero':8192,'max-write-zero':12288,",
         "Cannot meet constraints with max-write-zero 12288"},
        {"'align':512,'opt-discard':100,", "Cannot meet constraints with opt-discard 100"},
        {"'opt-discard':8192,'max-discard':4096,", "Cannot meet constraints with max-discard 4096"},
        {"'take-child-perms':['eat'],", "take-child-perms: expected a list of consistent-read, write, "
                                        "write-unchanged, resize"},
        {"'inject-error':[{'errno':5}],", "Missing event name for rule"},
        {"'inject-error':[{'event':'none','new_state':2}],",
         "[inject-error] section doesn't support the option 'new_state'"},
        {"'inject-error':[{'event':'none','iotype':'all'}],",
         "Parameter 'iotype' does not accept value 'all': expected read, write, write-zeroes, discard, "
         "flush, "
         "block-status"},
        {"'inject-error':['none'],", "Invalid parameter type for 'inject-error', expected: object"},
        {"'inject-error':[{'event':'none','errno':5000}],", "option 'errno': 5000 is out of range 0 to 4095"},
        {"'set-state':{'event':'nothing'},", "invalid parameter value: nothing"},
        {"'config':'absent',", "Could not open 'absent': No such file or directory"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err err = {0};
        world_init(&rig);
        CHECK(world_open(&rig, OPEN_WRITE, &err,
                         "{\"driver\":\"blkdebug\",%s\"image\":{\"driver\":\"mem\",\"size\":\"1M\"}}",
                         quoted(cases[i].more)) < 0);
        if (strcmp(err.text, cases[i].sentence) != 0) {
            fprintf(stderr, "%s: %s\nexpected: %s\n", cases[i].more, err.text, cases[i].sentence);
            CHECK(false);
        }
        CHECK(list_empty(&rig.graph.nodes));
    }
    return 0;
}

/* ---- dialects ---- */

SCENARIO(rules_of_a_file_come_before_those_of_options)
{
    static const char config[] =
        "# rules\n[inject-error]\nevent = \"none\"\nerrno = \"28\"\nonce = \"on\"\n\n"
        "[set-state]\nevent = \"none\"\nnew_state = \"6\"\n";
    struct sim_file *f = sim_file_create("c.conf", &(struct sim_disk){.size = sizeof(config) - 1});
    CHECK_EQ(sim_file_poke(f, 0, config, sizeof(config) - 1), 0);
    open_blkdebug("'config':'c.conf','inject-error':{'event':'none','errno':1},"
                  "'set-state':[{'event':'none','new_state':7}],");
    CHECK_EQ(fault_state(rig.node), 6);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);
    CHECK_EQ(rig_read(0, 512), -EPERM);
    CHECK(strncmp(node_filename(rig.node), "json:", 5) == 0);
    world_close(&rig);
    return 0;
}

static co_fn int apply_patch(const char *text, bool replace)
{
    AUTO_JSON json_t *given = parsed(text), *rules = NULL;
    struct err err = {0};
    int r = fault_from_blkdebug(given, &rules, &err);

    if (r == 0) {
        struct fault_change c = {.node = rig.node,
                                 .kind = replace ? FAULT_REPLACE : FAULT_ADD,
                                 .rules = rules,
                                 .new_engine = true};
        r = fault_apply(&c, 1, &err);
    }
    CHECK((r == 0) == (err.code == 0));
    return r;
}

SCENARIO(the_patch_of_2014)
{
    open_blkdebug("'inject-error':{'event':'read_aio'},'set-state':{'event':'l2_load','new_state':3},");
    announce(EVENT_read_aio);
    announce(EVENT_l2_load);
    CHECK_EQ(rig_read(0, 512), -EIO);
    /* as printed there: integers where the code of the patch takes booleans */
    CHECK_EQ(apply_patch("[{'event':'write_aio','type':'inject-error','immediately':1,'once':0,'state':1}]",
                         false),
             0);
    CHECK_EQ(fault_state(rig.node), 1); /* begins anew */
    CHECK_EQ(rig_read(0, 512), -EIO);   /* what was armed stays */
    announce(EVENT_write_aio);
    CHECK_EQ(rig_write(0, 512, 'a', 0), -EIO);
    CHECK_EQ(apply_patch("[]", true), 0);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0);
    CHECK_EQ(
        apply_patch("[{'event':'flush_to_os','type':'set-state','new_state':2},"
                    "{'event':'flush_to_os','type':'inject-error','errno':28,'sector':-1,'iotype':'read'}]",
                    true),
        0);
    announce(EVENT_flush_to_os);
    CHECK_EQ(fault_state(rig.node), 2);
    CHECK_EQ(rig_read(0, 512), -ENOSPC);

    static const char *const bad[] = {
        "{}",
        "[5]",
        "[{'event':'read_aio'}]",
        "[{'type':'inject-error'}]",
        "[{'type':5,'event':'read_aio'}]",
        "[{'type':'explode','event':'read_aio'}]",
        "[{'type':'inject-error','event':'nothing'}]",
        "[{'type':'inject-error','event':5}]",
        "[{'type':'inject-error','event':'read_aio','once':2}]",
        "[{'type':'inject-error','event':'read_aio','errno':'EIO'}]",
        "[{'type':'set-state','event':'read_aio','errno':5}]",
        "[{'type':'inject-error','event':'read_aio'},{'type':'set-state','event':'l2load'}]",
    };
    AUTO_JSON json_t *before = fault_list(rig.node);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(apply_patch(bad[i], true) < 0);
    }
    AUTO_JSON json_t *after = fault_list(rig.node);
    CHECK(json_equal(before, after));
    world_close(&rig);
    return 0;
}

SCENARIO(a_state_that_can_never_be_gets_a_warning)
{
    open_blkdebug(
        "'inject-error':[{'event':'l2_load','state':2},{'event':'read_aio','state':4}],"
        "'set-state':[{'event':'l2_load','state':3,'new_state':2},{'event':'l2_load','new_state':4}],");
    CHECK(strstr(rig.text, "'l2_load' in state 2 can never act"));
    CHECK(strstr(rig.text, "'l2_load' in state 3 can never act"));
    CHECK(!strstr(rig.text, "state 4"));
    world_close(&rig);
    open_blkdebug("'inject-error':[{'event':'l2_load','state':2}],'set-state':[{'event':'l2_load','state':1,"
                  "'new_state':2}],");
    CHECK(rig.text[0] == 0);
    world_close(&rig);
    return 0;
}

SCENARIO(every_event_arms_and_the_old_names_too)
{
    static const char *const names[] = {
#define NAME(name) #name,
        BLOCK_EVENTS(NAME)
#undef NAME
    };
    static const struct {
        const char *old;
        enum block_event event;
    } old[] = {
        {"l1_grow.alloc_table", EVENT_l1_grow_alloc_table},
        {"l1_grow.write_table", EVENT_l1_grow_write_table},
        {"l1_grow.activate_table", EVENT_l1_grow_activate_table},
        {"l2_alloc.cow_read", EVENT_l2_alloc_cow_read},
        {"l2_alloc.write", EVENT_l2_alloc_write},
        {"refblock_alloc.hookup", EVENT_refblock_alloc_hookup},
        {"refblock_alloc.write", EVENT_refblock_alloc_write},
        {"refblock_alloc.write_blocks", EVENT_refblock_alloc_write_blocks},
        {"refblock_alloc.write_table", EVENT_refblock_alloc_write_table},
        {"refblock_alloc.switch_table", EVENT_refblock_alloc_switch_table},
        {"pwritev_rmw.head", EVENT_pwritev_rmw_head},
        {"pwritev_rmw.after_head", EVENT_pwritev_rmw_after_head},
        {"pwritev_rmw.tail", EVENT_pwritev_rmw_tail},
        {"pwritev_rmw.after_tail", EVENT_pwritev_rmw_after_tail},
    };
    CHECK_EQ(ARRAY_SIZE(names), 48);
    for (size_t i = 0; i < ARRAY_SIZE(names) + ARRAY_SIZE(old); i++) {
        bool is_old = i >= ARRAY_SIZE(names);
        enum block_event event = is_old ? old[i - ARRAY_SIZE(names)].event : (enum block_event)i;
        char more[128];
        snprintf(more, sizeof(more), "'inject-error':[{'event':'%s','iotype':'read'}],",
                 is_old ? old[i - ARRAY_SIZE(names)].old : names[i]);
        open_blkdebug(more);
        for (int e = 0; e < BLOCK_EVENT_COUNT; e++) {
            if (e != (int)event) {
                announce(e);
            }
        }
        CHECK_EQ(rig_read(0, 512), event == EVENT_none ? -EIO : 0); /* that one has been when it was opened */
        announce(event);
        CHECK_EQ(rig_read(0, 512), -EIO);
        world_close(&rig);
    }
    static const char *const wrong[] = {"l2.load", "read.aio", "l1_grow_alloc.table",
                                        "L2_LOAD", "l2_loa",   "l2_load_"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        open_blkdebug("");
        CHECK_EQ(fault_break(rig.node, wrong[i], "t"), -ENOENT);
        world_close(&rig);
    }
    return 0;
}

/* ---- breakpoints ---- */

static unsigned told_at(const char *what)
{
    const char *at = strstr(rig.text, what);
    return at ? (unsigned)(at - rig.text) + 1 : 0;
}

SCENARIO(several_breakpoints_of_an_event_all_hit_and_all_must_be_resumed)
{
    static struct bg b, other;
    struct node *n = open_blkdebug("");
    CHECK_EQ(fault_break(n, "pwritev", "A"), 0);
    CHECK_EQ(fault_break(n, "pwritev", "B"), 0);
    CHECK_EQ(fault_resume(n, "A"), -ENOENT); /* not stopped yet */
    bg_start(&b, REQ_WRITE, 0, 'a');
    CHECK(fault_is_stopped(n, "A") && fault_is_stopped(n, "B"));
    CHECK(told_at("Suspended request 'B'") &&
          told_at("Suspended request 'B'") < told_at("Suspended request 'A'"));
    bg_start(&other, REQ_WRITE, 4096, 'b'); /* each is for one request */
    CHECK(other.done);
    CHECK_EQ(fault_resume(n, "A"), 0);
    co_yield ();
    CHECK(!b.done);
    CHECK_EQ(fault_resume(n, "A"), -ENOENT);
    CHECK_EQ(fault_resume(n, "B"), 0);
    co_yield ();
    CHECK(b.done);
    CHECK_EQ(b.result, 0);
    world_close(&rig);
    return 0;
}

SCENARIO(resume_wakes_one_and_remove_wakes_all)
{
    static struct bg b[3];
    struct node *n = open_blkdebug("");
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fault_break(n, "pwritev", "T"), 0);
        bg_start(&b[i], REQ_WRITE, (uint64_t)i * 4096, 'a');
    }
    CHECK_EQ(fault_break(n, "pwritev", "T"), 0);
    CHECK_EQ(fault_resume(n, "T"), 0);
    co_yield ();
    CHECK_EQ(b[0].done + b[1].done + b[2].done, 1);
    CHECK_EQ(fault_remove_break(n, "T"), 0);
    co_yield ();
    CHECK_EQ(b[0].done + b[1].done + b[2].done, 3);
    CHECK_EQ(fault_remove_break(n, "T"), -ENOENT);
    CHECK_EQ(rig_write(0, 512, 'a', 0), 0); /* the fourth is gone, too */
    world_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sticky_an_armed_rule_fails_whatever_comes),
        cmocka_unit_test(sticky_an_event_without_a_matching_rule_disarms_nothing),
        cmocka_unit_test(sticky_an_event_with_a_matching_rule_replaces_what_was_armed),
        cmocka_unit_test(sticky_a_change_of_state_disarms_nothing),
        cmocka_unit_test(sticky_errno_0_disarms),
        cmocka_unit_test(sticky_ping_pong_keeps_failing_without_errno_0),
        cmocka_unit_test(old_state_all_rules_of_an_event_see_the_state_before_it),
        cmocka_unit_test(of_several_changes_of_state_the_first_wins),
        cmocka_unit_test(once_is_for_one_request_and_then_for_ever_gone),
        cmocka_unit_test(two_once_rules_are_used_up_one_by_one_in_order),
        cmocka_unit_test(a_used_up_rule_leaves_what_is_armed),
        cmocka_unit_test(a_sector_is_hit_by_its_first_byte),
        cmocka_unit_test(each_iotype_is_itself_alone),
        cmocka_unit_test(none_happens_when_the_node_is_opened),
        cmocka_unit_test(immediately_or_after_a_turn),
        cmocka_unit_test(writes_announce_themselves),
        cmocka_unit_test(edges_announce_themselves),
        cmocka_unit_test(flushes_are_announced_to_the_node_below),
        cmocka_unit_test(limits_are_kept_and_bytes_arrive),
        cmocka_unit_test(limits_that_cannot_be_met_are_refused),
        cmocka_unit_test(rules_of_a_file_come_before_those_of_options),
        cmocka_unit_test(the_patch_of_2014),
        cmocka_unit_test(a_state_that_can_never_be_gets_a_warning),
        cmocka_unit_test(every_event_arms_and_the_old_names_too),
        cmocka_unit_test(several_breakpoints_of_an_event_all_hit_and_all_must_be_resumed),
        cmocka_unit_test(resume_wakes_one_and_remove_wakes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
