/* SPDX-License-Identifier: BSD-2-Clause */
/* Members of rules that say something by name: operations, flags, events, errors, actions. */
#include <stdio.h>

#include "drivers/fault/member.h"

/* ---- lists of names ---- */

static int name_bits(const struct fault_word *names, const char *text, size_t len,
                     const struct fault_member *m, unsigned *bits, struct err *err)
{
    char list[256] = "";
    size_t used = 0;

    for (const struct fault_word *n = names; n->name; n++) {
        if (strlen(n->name) == len && strncmp(n->name, text, len) == 0) {
            *bits |= n->bits;
            return 0;
        }
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", n->name);
        used = MIN(used, sizeof(list) - 1);
    }
    return err_set(err, -EINVAL, "%s '%.*s' is not known: expected %s", m->opt.name, (int)MIN(len, 60u), text,
                   list);
}

/* "a,b" */
static int names_in_text(const struct fault_word *names, const char *text, const struct fault_member *m,
                         unsigned *bits, struct err *err)
{
    int r = 0;

    do {
        size_t len = strcspn(text, ",");
        r = name_bits(names, text, len, m, bits, err);
        text += len;
    } while (r == 0 && *text++ == ',');
    return r;
}

/* "a", "a,b", or ["a", "b"] */
int fault_parse_words(const struct fault_word *names, const json_t *v, const struct fault_member *m,
                      unsigned *ret_bits, struct err *err)
{
    unsigned bits = 0;
    int r = 0;

    if (json_is_string(v)) {
        r = names_in_text(names, json_string_value(v), m, &bits, err);
    } else if (!json_is_array(v) || json_array_size(v) == 0) {
        return err_set(err, -EINVAL, "%s: expected a name or a list of names", m->opt.name);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(v); i++) {
        const char *text = json_string_value(json_array_get(v, i));
        r = text ? names_in_text(names, text, m, &bits, err)
                 : err_set(err, -EINVAL, "%s: every element must be a string", m->opt.name);
    }
    if (r == 0) {
        *ret_bits = bits;
    }
    return r;
}

static const struct fault_word op_names[] = {
    {"read", 1u << REQ_READ},           {"write", 1u << REQ_WRITE},
    {"zero", 1u << REQ_ZERO},           {"discard", 1u << REQ_DISCARD},
    {"flush", 1u << REQ_FLUSH},         {"status", 1u << REQ_STATUS},
    {"truncate", 1u << REQ_TRUNCATE},   {"cache", 1u << REQ_CACHE},
    {"any", (1u << REQ_OP_COUNT) - 1},  {"write-zeroes", 1u << REQ_ZERO}, /* QEMU's names */
    {"block-status", 1u << REQ_STATUS}, {0},
};

const char *fault_op_name(enum req_op op)
{
    return op_names[op].name; /* in the order of the enum */
}

FAULT_PARSE(fault_parse_ops)
{
    return fault_parse_words(op_names, v, m, &rule->ops, err);
}

static const struct fault_word flag_names[] = {
    {"fua", REQ_FUA},
    {"unmap", REQ_UNMAP},
    {"no-fallback", REQ_NO_FALLBACK},
    {"compressed", REQ_COMPRESSED},
    {0},
};

FAULT_PARSE(fault_parse_flags)
{
    return fault_parse_words(flag_names, v, m, &rule->flags_set, err);
}

FAULT_PARSE(fault_parse_without)
{
    return fault_parse_words(flag_names, v, m, &rule->flags_clear, err);
}

/* ---- single names ---- */

FAULT_PARSE(fault_parse_event)
{
    const char *name = json_string_value(v);

    rule->event = name ? fault_event_by_name(name) : FAULT_NO_EVENT;
    return rule->event == FAULT_NO_EVENT
               ? err_set(err, -EINVAL, "there is no event '%.60s'", name ? name : "?")
               : 0;
}

FAULT_PARSE(fault_parse_errno)
{
    const char *name = json_string_value(v);
    long long number = json_is_integer(v) ? json_integer_value(v) : -1;

    if (name && *name >= '0' && *name <= '9') {
        char *end;
        number = strtoll(name, &end, 0);
        number = *end ? -1 : number;
    }
    for (int i = 1; name && number < 0 && i < 256; i++) {
        const char *known = strerrorname_np(i);
        number = known && strcmp(known, name) == 0 ? i : number;
    }
    if (number < 1 || number > FAULT_ERRNO_MAX) {
        return err_set(err, -EINVAL, "errno: expected a name such as EIO, or a number from 1 to %u",
                       FAULT_ERRNO_MAX);
    }
    rule->error = (int)number;
    return 0;
}

FAULT_PARSE(fault_parse_action)
{
    const char *name = json_string_value(v);
    char list[256] = "";
    size_t used = 0;

    for (int i = 0; fault_actions[i].name; i++) {
        if (name && strcmp(fault_actions[i].name, name) == 0) {
            rule->action = i;
            return 0;
        }
        used +=
            (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", fault_actions[i].name);
        used = MIN(used, sizeof(list) - 1);
    }
    return err_set(err, -EINVAL, "there is no action '%.60s': expected %s", name ? name : "?", list);
}

FAULT_PARSE(fault_parse_comment)
{
    return json_is_string(v) ? 0 : err_set(err, -EINVAL, "comment: expected a string");
}
