/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rule JSON, of ours and of blkdebug, put into a live node: it takes all or nothing, and what was refused
 * has changed nothing. Then requests meet the rules. fuzz-smoke: 3000 runs
 */
#include "base/json.h"
#include "drivers/fault/fault.h"
#include "sim/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    char *text;
};

static co_fn void ask(void *arg)
{
    struct node *n = arg;
    char buf[512] = {0};

    for (uint64_t i = 0; i < 4; i++) {
        (void)node_read(n, i * 4096, buf, sizeof(buf));
        (void)node_write(n, i * 512, buf, sizeof(buf), i & 1 ? REQ_FUA : 0);
    }
    (void)node_zero(n, 0, 4096, 0);
    (void)node_flush(n);
}

static void put(struct node *n, enum fault_change_kind kind, const json_t *rules)
{
    AUTO_JSON json_t *before = fault_list(n);
    struct fault_change c = {
        .node = n, .kind = kind, .rules = rules, .id = kind == FAULT_SET ? "keep" : NULL};
    struct err err = {0};
    int r = fault_apply(&c, 1, &err);
    AUTO_JSON json_t *after = fault_list(n);

    assert((r < 0) == (err.text[0] != 0));
    assert(r == 0 || json_equal(before, after));
}

static co_fn int run(void *arg)
{
    const struct input *in = arg;
    struct graph g;
    struct node *n;
    AUTO_JSON json_t *rules = json_loads(in->text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    AUTO_JSON json_t *dialect = NULL;
    AUTO_JSON json_t *options =
        json_pack("{s:s, s:[{s:s, s:s, s:s}], s:{s:s, s:i}}", "driver", "fault", "rules", "id", "keep", "op",
                  "discard", "action", "error", "file", "driver", "mem", "size", 65536);

    graph_init(&g);
    if (!rules || node_open(&g, options, OPEN_WRITE, &n, NULL) < 0) {
        return 0;
    }
    put(n, FAULT_ADD, rules);
    put(n, FAULT_SET, rules);
    if (fault_from_blkdebug(rules, &dialect, NULL) == 0) {
        put(n, FAULT_ADD, dialect);
    }
    co_start(ask, n);
    co_sleep_ns(1000 * NS_PER_MS);
    node_unref(n); /* lets go of what is held */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {strndup((const char *)data, size)};

    if (in.text) {
        sim_run(1, run, &in, NULL);
    }
    free(in.text);
    return 0;
}
