/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration files of blkdebug. Whatever they hold, the parser answers with rules that the engine takes,
 * or with one sentence. fuzz-smoke: 20000 runs
 */
#include "base/json.h"
#include "drivers/fault/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    AUTO_JSON json_t *injects = json_array(), *states = json_array();
    struct err err = {0};

    if (!text) {
        return 0;
    }
    int r = fault_parse_config(text, "config", injects, states, &err);
    free(text);
    assert((r < 0) == (err.text[0] != 0));
    json_t *lists[] = {injects, states};
    for (int i = 0; r == 0 && i < 2; i++) {
        size_t k;
        json_t *spec;
        json_array_foreach(lists[i], k, spec)
        {
            struct fault_rule *rule;
            int parsed = fault_rule_parse(spec, "r", 1, &rule, &err);
            assert(parsed == 0);
            fault_rule_unref(rule);
        }
    }
    return 0;
}
