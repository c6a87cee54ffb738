/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules and events as lines for people, and JSON for programs. */
#include <time.h>

#include "base/json.h"
#include "tools/fault/fault.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

void fault_show_json(const json_t *value)
{
    AUTO_FREE char *text = json_text(value);

    puts(text ? text : "{}");
    fflush(stdout);
}

/* ---- rules ---- */

/* Members that the table of rules shows elsewhere. */
static bool is_shown(const char *key)
{
    static const char *const shown[] = {"id",         "action",    "matched", "fired", "last-matched",
                                        "last-fired", "exhausted", "armed",   "held",  "lapsed"};

    for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
        if (strcmp(shown[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* "a", "a,b", 1: without JSON's marks where it can be. */
static void put_value(FILE *out, const json_t *v)
{
    if (json_is_string(v)) {
        fputs(json_string_value(v), out);
    } else if (json_is_array(v) && json_array_size(v) > 0 && json_is_string(json_array_get(v, 0))) {
        for (size_t i = 0; i < json_array_size(v); i++) {
            fprintf(out, "%s", i ? "," : "");
            put_value(out, json_array_get(v, i));
        }
    } else {
        AUTO_FREE char *text = json_text(v);
        fputs(text ? text : "?", out);
    }
}

char *fault_rule_text(const json_t *rule)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const char *key;
    json_t *v;

    if (!out) {
        return NULL;
    }
    json_object_foreach((json_t *)rule, key, v)
    {
        bool same_tag = strcmp(key, "tag") == 0 && strcmp(text_of(rule, "tag"), text_of(rule, "id")) == 0;
        if (!is_shown(key) && !same_tag) {
            fprintf(out, "%s%s=", ftell(out) > 0 ? " " : "", key);
            put_value(out, v);
        }
    }
    fclose(out);
    return text;
}

static void show_rule(const json_t *rule)
{
    AUTO_FREE char *text = fault_rule_text(rule);
    long long held = number_of(rule, "held");

    printf("  %-10s %-7s %10lld %10lld  %s%s", text_of(rule, "id"), text_of(rule, "action"),
           number_of(rule, "fired"), number_of(rule, "matched"), text ? text : "",
           json_is_true(json_object_get(rule, "exhausted")) ? "  (exhausted)" : "");
    if (json_is_true(json_object_get(rule, "lapsed"))) {
        printf("  (lapsed)");
    }
    if (held > 0) {
        printf("  (holds %lld)", held);
    }
    putchar('\n');
}

static const char *plural(long long n)
{
    return n == 1 ? "" : "s";
}

void fault_show_node(const json_t *info)
{
    json_t *rules = json_object_get(info, "rules"), *rule;
    long long waiting = number_of(info, "waiting");
    size_t i, n = json_array_size(rules);
    const char *device = text_of(info, "device");

    printf("%s%snode %s: state %lld, next operation %lld, %zu rule%s%s", device, *device ? ", " : "",
           text_of(info, "node-name"), number_of(info, "state"), number_of(info, "next-operation"), n,
           plural((long long)n), json_is_true(json_object_get(info, "dry-run")) ? ", dry run" : "");
    if (waiting > 0) {
        printf(", %lld request%s waiting", waiting, plural(waiting));
    }
    putchar('\n');
    if (n > 0) {
        printf("  %-10s %-7s %10s %10s  %s\n", "ID", "ACTION", "FIRED", "MATCHED", "RULE");
    }
    json_array_foreach(rules, i, rule)
    {
        show_rule(rule);
    }
}

/* ---- events ---- */

static void show_time(const json_t *event)
{
    const json_t *stamp = json_object_get(event, "timestamp");
    time_t seconds = (time_t)number_of(stamp, "seconds");
    struct tm tm;
    char text[32] = "";

    if (localtime_r(&seconds, &tm)) {
        strftime(text, sizeof(text), "%H:%M:%S", &tm);
    }
    printf("%s.%06lld ", text, number_of(stamp, "microseconds"));
}

void fault_show_event(const json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    const char *key;
    json_t *v;

    show_time(event);
    printf("%s", text_of(event, "event"));
    json_object_foreach((json_t *)data, key, v)
    {
        bool twice = (strcmp(key, "tag") == 0 && strcmp(text_of(data, "tag"), text_of(data, "rule")) == 0) ||
                     (strcmp(key, "device") == 0 && !*text_of(data, "device"));
        if (!json_is_object(v) && !twice) {
            printf(" %s=", key);
            put_value(stdout, v);
        }
    }
    putchar('\n');
    fflush(stdout);
}
