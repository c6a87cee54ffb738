/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkdebug's configuration file: QEMU's -readconfig dialect. Sections [inject-error] and [set-state], any
 * number of each, perhaps with an id; options key = "value". What QEMU accepts means the same here; what
 * it refuses is refused; and what it takes for something else than was meant (a value without quotes) gets a
 * sentence.
 */
#include <ctype.h>
#include <stdio.h>

#include "base/json.h"
#include "drivers/fault/internal.h"

#define LINE_CHARS_MAX 1022 /* QEMU's buffer holds 1023, with the newline */
#define WORD_CHARS_MAX 63

struct config {
    const char *name; /* of the file */
    unsigned line;
    json_t *rules[2]; /* inject-error, set-state; the caller's */
    json_t *ids[2];   /* those that sections have used */
    bool in_section, set_state;
    unsigned section_line;
    json_t *section; /* its options, all strings */
};

static const char *const groups[] = {"inject-error", "set-state"};

static int wrong(struct config *c, struct err *err, const char *fmt, ...) PRINTF(3, 4);

static int wrong(struct config *c, struct err *err, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, -EINVAL, "%s:%u: %s", c->name, c->line, text);
}

/* ---- sections ---- */

static int end_section(struct config *c, struct err *err)
{
    json_t *rule = NULL;

    if (!c->in_section) {
        return 0;
    }
    c->in_section = false;
    int r = fault_from_object(c->section, c->set_state, &rule, err);
    if (r < 0) {
        return err_prefix(err, "%s:%u: ", c->name, c->section_line);
    }
    return json_array_append_new(c->rules[c->set_state], rule) < 0
               ? err_set(err, -ENOMEM, "no memory for a rule")
               : 0;
}

static bool id_is_good(const char *id, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)id[i]) && !(i > 0 && strchr("-._", id[i]))) {
            return false;
        }
    }
    return len > 0 && len <= WORD_CHARS_MAX && isalpha((unsigned char)id[0]);
}

static int take_id(struct config *c, const char *id, size_t len, struct err *err)
{
    char name[WORD_CHARS_MAX + 1];

    if (!id_is_good(id, len)) {
        return wrong(c, err,
                     "Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting with a "
                     "letter, at most %d",
                     WORD_CHARS_MAX);
    }
    memcpy(name, id, len);
    name[len] = '\0';
    if (json_object_get(c->ids[c->set_state], name)) {
        return wrong(c, err, "Duplicate ID '%s' for %s", name, groups[c->set_state]);
    }
    return json_object_set_new(c->ids[c->set_state], name, json_true()) < 0
               ? err_set(err, -ENOMEM, "no memory for a rule")
               : 0;
}

/* [group] or [group "id"]; what stands behind the bracket does not matter. */
static int begin_section(struct config *c, const char *line, struct err *err)
{
    size_t len = strcspn(line + 1, "] \t\n");
    const char *rest = line + 1 + len, *id = NULL;
    size_t id_len = 0;
    int r = end_section(c, err);

    if (r < 0) {
        return r;
    }
    if (rest[0] == ' ' && rest[1] == '"') {
        id = rest + 2;
        id_len = strcspn(id, "\"\n");
        rest = id + id_len;
        rest += *rest == '"';
    }
    if (*rest != ']') {
        return wrong(c, err, "a section is [group] or [group \"id\"]");
    }
    unsigned kind = 0;
    while (kind < ARRAY_SIZE(groups) &&
           (strlen(groups[kind]) != len || strncmp(groups[kind], line + 1, len) != 0)) {
        kind++;
    }
    if (kind == ARRAY_SIZE(groups)) {
        return wrong(c, err, "There is no option group '%.*s'", (int)MIN(len, (size_t)WORD_CHARS_MAX),
                     line + 1);
    }
    c->in_section = true;
    c->set_state = kind == 1;
    c->section_line = c->line;
    json_object_clear(c->section);
    return id ? take_id(c, id, id_len, err) : 0;
}

/* ---- options ---- */

/* The reason is looked for only when it is known that something is wrong. */
static int why_no_option(struct config *c, const char *key, size_t key_len, const char *at, struct err *err)
{
    if (memchr(key, '=', key_len)) {
        return wrong(c, err, "Invalid parameter '%.*s': there must be a blank before the '='", (int)key_len,
                     key);
    }
    if (*at != '=') {
        return wrong(c, err, "parse error: expected %.*s = \"value\"", (int)key_len, key);
    }
    return wrong(c, err, "the value of '%.*s' must stand in double quotes", (int)key_len, key);
}

/* blanks KEY blanks = blanks "VALUE": what stands behind the last quote does not matter. */
static int take_option(struct config *c, const char *line, struct err *err)
{
    const char *key = line + strspn(line, " \t");
    size_t key_len = strcspn(key, " \t\r\n");
    const char *at = key + key_len + strspn(key + key_len, " \t");

    if (key_len == 0) {
        return wrong(c, err, "parse error: a line of blanks is no empty line");
    }
    if (!c->in_section) {
        return wrong(c, err, "no group defined: options follow [inject-error] or [set-state]");
    }
    if (key_len > WORD_CHARS_MAX) {
        return wrong(c, err, "the name of an option is longer than %d characters", WORD_CHARS_MAX);
    }
    const char *value = at + (*at == '=');
    value += strspn(value, " \t");
    if (*at != '=' || *value != '"') {
        return why_no_option(c, key, key_len, at, err);
    }
    value++;
    size_t len = strcspn(value, "\"");
    if (value[len] != '"') {
        return wrong(c, err, "the value of '%.*s' has no closing quote", (int)key_len, key);
    }
    char name[WORD_CHARS_MAX + 1];
    memcpy(name, key, key_len);
    name[key_len] = '\0';
    return json_object_set_new(c->section, name, json_stringn(value, len)) < 0 /* the last one counts */
               ? wrong(c, err, "not UTF-8")
               : 0;
}

static int take_line(struct config *c, const char *line, size_t len, struct err *err)
{
    char copy[LINE_CHARS_MAX + 1];

    if (len > LINE_CHARS_MAX) {
        return wrong(c, err, "the line is longer than %d characters", LINE_CHARS_MAX);
    }
    memcpy(copy, line, len);
    copy[len] = '\0';
    if (len == 0 || copy[0] == '#') {
        return 0;
    }
    return copy[0] == '[' ? begin_section(c, copy, err) : take_option(c, copy, err);
}

int fault_parse_config(const char *text, const char *name, json_t *injects, json_t *states, struct err *err)
{
    AUTO_JSON json_t *inject_ids = json_object(), *state_ids = json_object(), *section = json_object();
    struct config c = {
        .name = name, .rules = {injects, states}, .ids = {inject_ids, state_ids}, .section = section};
    int r = inject_ids && state_ids && section ? 0 : err_set(err, -ENOMEM, "no memory for the rules");

    while (r == 0 && *text) {
        size_t len = strcspn(text, "\n");
        c.line++;
        r = take_line(&c, text, len, err);
        text += len + (text[len] == '\n');
    }
    return r < 0 ? r : end_section(&c, err);
}
