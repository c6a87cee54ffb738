/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof fault presets`: the table of presets, for people; the engine's, so that no server is asked. */
#include "base/json.h"
#include "drivers/fault/fault.h"
#include "tools/fault/fault.h"

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool is_verified(const json_t *preset)
{
    return json_is_true(json_object_get(preset, "verified"));
}

static void show_one(const json_t *preset)
{
    const json_t *rule, *param;
    size_t i;

    printf("%s: %s\nSource: %s\n", text(preset, "name"), text(preset, "help"), text(preset, "source"));
    if (!is_verified(preset)) {
        puts("Unverified: some of its numbers are not from the source, or nobody has looked them up.");
    }
    json_array_foreach(json_object_get(preset, "params"), i, param)
    {
        AUTO_FREE char *def = json_text(json_object_get(param, "default"));
        printf("  --param=%s=VALUE  %s (default %s)\n", text(param, "name"), text(param, "help"),
               def ? def : "?");
    }
    json_array_foreach(json_object_get(preset, "rules"), i, rule)
    {
        AUTO_FREE char *line = json_text(rule);
        printf("  %s\n", line ? line : "?");
    }
}

static void show_line(const json_t *preset)
{
    printf("%-21s %s\n%-21s Source: %s%s\n", text(preset, "name"), text(preset, "help"), "",
           text(preset, "source"), is_verified(preset) ? "" : " (unverified)");
}

FAULT_COMMAND(fault_cmd_presets)
{
    AUTO_JSON json_t *presets = fault_presets_json();
    const char *name = f->nwords > 0 ? f->words[0] : NULL;
    json_t *preset;
    size_t i;
    bool found = false;

    json_array_foreach(presets, i, preset)
    {
        bool meant = !name || strcmp(name, text(preset, "name")) == 0;
        found |= meant;
        if (meant && f->json) {
            fault_show_json(preset);
        } else if (meant && name) {
            show_one(preset);
        } else if (meant) {
            show_line(preset);
        }
    }
    return found ? 0 : err_set(err, -ENOENT, "there is no preset '%s'", name);
}
