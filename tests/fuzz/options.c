/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Option texts as users write them ("a=1,b.c=2" and JSON), against a table with every type and
 * against every driver's own table.
 * fuzz-smoke: 50000 runs
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/option.h"
#include "block/driver.h"

struct state {
    bool flag;
    uint64_t count, size, time;
    char *text;
    int choice;
    json_t *any;
};

static const char *const choices[] = {"first", "second", NULL};

static const struct option table[] = {
    {"flag", OPT_BOOL, offsetof(struct state, flag), .def = "on"},
    {"count", OPT_UINT, offsetof(struct state, count), .min = 1, .max = 64, .def = "1"},
    {"size", OPT_SIZE, offsetof(struct state, size)},
    {"t.ime", OPT_NS, offsetof(struct state, time)},
    {"text", OPT_STRING, offsetof(struct state, text)},
    {"choice", OPT_ENUM, offsetof(struct state, choice), .values = choices, .def = "second"},
    {"any", OPT_JSON, offsetof(struct state, any)},
    {0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply(const struct option *options, size_t state_size, const json_t *given)
{
    struct err err = {0};
    void *state = calloc(1, state_size ? state_size : 1);
    AUTO_JSON json_t *copy = json_deep_copy(given);

    if (state && copy && options) {
        options_apply(options, state, copy, &err);
        options_free(options, state);
    }
    free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    AUTO_JSON json_t *flat = NULL, *nested = NULL;
    struct err err = {0};

    if (!text) {
        return 0;
    }
    int r =
        text[0] == '{' ? json_parse_object(text, &flat, &err) : json_from_keyvals(text, "size", &flat, &err);
    if (r == 0 && json_nest(flat, &nested, &err) == 0) {
        struct state s = {0};
        apply(table, sizeof(s), nested);
        apply(table, sizeof(s), flat);
        for (int i = 0; drivers[i]; i++) {
            apply(drivers[i]->options, drivers[i]->state_size, nested);
            apply(drivers[i]->create_options, drivers[i]->create_state_size, nested);
        }
        free(json_text(nested));
    }
    free(text);
    return 0;
}
