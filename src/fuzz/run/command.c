/* SPDX-License-Identifier: BSD-2-Clause */
/* Command lines: roles, words with the shell's quotes, names, placeholders. The built-in sets are in sets.c.
 */
#include "fuzz/run/command.h"

#include <ctype.h>
#include <stdio.h>

#include "base/json.h"
#include "fuzz/run/exec.h"
#include "fuzz/run/sets.h"

#define LINE_MAX_BYTES 4096
#define WORDS_MAX      RUN_ARGS_MAX

static const struct {
    const char *word;
    unsigned role;
} role_words[] = {
    {"ro", ROLE_RO},         {"rw", 0},
    {"open", ROLE_OPEN},     {"check", ROLE_CHECK},
    {"read", ROLE_READ},     {"bytes", ROLE_BYTES},
    {"repair", ROLE_REPAIR}, {"closed", ROLE_CLOSED},
    {"stdout", ROLE_STDOUT}, {"rewrites", ROLE_REWRITES},
};

/* ---- roles ---- */

static bool find_role(const char *word, size_t len, unsigned *roles)
{
    for (size_t i = 0; i < ARRAY_SIZE(role_words); i++) {
        if (strlen(role_words[i].word) == len && strncmp(word, role_words[i].word, len) == 0) {
            *roles |= role_words[i].role;
            return true;
        }
    }
    return false;
}

/* "ro,check,@qemu: " in front of a command. Returns what is behind it; a first word that is none of this is
 * the command's. */
static const char *take_roles(const char *line, unsigned *ret_roles, char **ret_group)
{
    const char *end = line + strcspn(line, " \t"), *p = line;
    unsigned roles = 0;
    char *group = NULL;

    if (end == line || end[-1] != ':') {
        return line;
    }
    while (p < end) {
        size_t len = strcspn(p, ",:");
        if (*p == '@' && !group) {
            group = strndup(p + 1, len - 1);
        } else if (!find_role(p, len, &roles)) {
            free(group);
            return line;
        }
        p += len + 1;
    }
    *ret_roles = roles;
    *ret_group = group;
    return end;
}

/* ---- words ---- */

/* One word of the shell's, without quotes, into @to. Returns what is behind it, NULL for an open quote. */
static const char *take_word(const char *p, char *to)
{
    char quote = 0;

    for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
        if (quote ? *p == quote : *p == '\'' || *p == '"') {
            quote = quote ? 0 : *p;
        } else if (*p == '\\' && quote != '\'' && p[1]) {
            *to++ = *++p;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    return quote ? NULL : p;
}

static int split(const char *line, char *words[], size_t *ret_n, struct err *err)
{
    char word[LINE_MAX_BYTES];
    size_t n = 0;

    if (strlen(line) >= sizeof(word)) {
        return err_set(err, -EINVAL, "a command is longer than %d bytes", LINE_MAX_BYTES);
    }
    for (const char *p = line; *(p += strspn(p, " \t\r\n"));) {
        p = take_word(p, word);
        if (!p || n + 1 >= WORDS_MAX || !(words[n] = strdup(word))) {
            for (size_t i = 0; i < n; i++) {
                free(words[i]);
            }
            return err_set(err, -EINVAL, "command '%s': %s", line,
                           p ? "too many words" : "a quote is not closed");
        }
        n++;
    }
    *ret_n = n;
    return 0;
}

/* ---- names ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_verb(const char *word)
{
    for (const char *p = word; *p; p++) {
        if (!islower((unsigned char)*p)) {
            return false;
        }
    }
    return *word;
}

/* "qemu-img check", "qemu-io read", "blkproof img check": the program, its verbs, or the first word behind
 * -c. */
static char *make_name(char *const words[], size_t n)
{
    const char *program = base_name(words[0]);
    char *name = NULL;

    for (size_t i = 1; i + 1 < n; i++) {
        if (strcmp(words[i], "-c") == 0 && strchr(words[i + 1], ' ')) {
            bool verb = is_verb(words[1]);
            return asprintf(&name, "%s%s%s %.*s", program, verb ? " " : "", verb ? words[1] : "",
                            (int)strcspn(words[i + 1], " "), words[i + 1]) < 0
                       ? NULL
                       : name;
        }
    }
    bool one = n > 1 && is_verb(words[1]), two = one && n > 2 && is_verb(words[2]);
    return asprintf(&name, "%s%s%s%s%s", program, one ? " " : "", one ? words[1] : "", two ? " " : "",
                    two ? words[2] : "") < 0
               ? NULL
               : name;
}

static char *make_group(const char *program)
{
    const char *base = base_name(program);
    return strndup(base, strcspn(base, "-"));
}

/* ---- the list ---- */

static void command_finish(struct run_command *c)
{
    for (size_t i = 0; c->words && c->words[i]; i++) {
        free(c->words[i]);
    }
    free(c->words);
    free(c->text);
    free(c->name);
    free(c->group);
    *c = (struct run_command){0};
}

/* Takes the words over. @group: NULL or malloc'ed, taken over. */
static int add(struct run_commands *c, const char *text, char *words[], size_t n, unsigned roles, char *group,
               struct err *err)
{
    struct run_command cmd = {.text = strdup(text), .roles = roles, .words = calloc(n + 1, sizeof(char *))};
    char *path = NULL;
    int r = 0;

    if (!cmd.text || !cmd.words) {
        r = err_set(err, -ENOMEM, "no memory");
    } else {
        memcpy(cmd.words, words, n * sizeof(*words));
        cmd.name = make_name(words, n);
        cmd.group = group ? group : make_group(words[0]);
        r = c->n == RUN_COMMANDS_MAX ? err_set(err, -E2BIG, "more than %d commands", RUN_COMMANDS_MAX) : 0;
        r = r < 0 ? r : run_find_program(words[0], &path, err);
    }
    if (r < 0) {
        command_finish(&cmd);
        return r;
    }
    free(cmd.words[0]);
    cmd.words[0] = path;
    c->list[c->n++] = cmd;
    return 0;
}

int run_commands_add(struct run_commands *c, const char *line, struct err *err)
{
    char *words[WORDS_MAX];
    char *group = NULL;
    unsigned roles = 0;
    size_t n = 0;

    line += strspn(line, " \t");
    if (*line == '#' || !line[strspn(line, " \t\r\n")]) {
        return 0;
    }
    AUTO_JSON json_t *as_json = json_string(line);
    if (!as_json) { /* it is kept as JSON */
        return err_set(err, -EINVAL, "a command is not UTF-8");
    }
    const char *command = take_roles(line, &roles, &group);
    command += strspn(command, " \t");
    AUTO_FREE char *text = strndup(command, strcspn(command, "\r\n"));
    int r = !text ? err_set(err, -ENOMEM, "no memory") : split(text, words, &n, err);
    if (r == 0 && n == 0) {
        r = err_set(err, -EINVAL, "'%s': no command behind the roles", line);
    }
    if (r < 0) {
        free(group);
        return r;
    }
    return add(c, text, words, n, roles, group, err);
}

int run_commands_add_words(struct run_commands *c, char *const words[], size_t n, struct err *err)
{
    AUTO_FREE char *line = n < WORDS_MAX ? run_command_shell(words) : NULL;
    int r = line ? run_commands_add(c, line, err)
                 : err_set(err, -E2BIG, "a command of more than %d words", WORDS_MAX);

    if (r == 0 && c->n > 0) {
        c->list[c->n - 1].roles |= ROLE_OPEN;
    }
    return r;
}

static int add_lines(struct run_commands *c, const char *text, struct err *err)
{
    int r = 0;

    for (const char *p = text; *p && r == 0;) {
        size_t len = strcspn(p, "\n");
        AUTO_FREE char *line = strndup(p, len);
        r = line ? run_commands_add(c, line, err) : err_set(err, -ENOMEM, "no memory");
        p += len + (p[len] == '\n');
    }
    return r;
}

int run_commands_load(struct run_commands *c, const char *name, struct err *err)
{
    char text[64 * KiB];
    size_t n;

    if (*name == '@') {
        for (size_t i = 0; i < run_nsets; i++) {
            if (strcmp(run_sets[i].name, name + 1) == 0) {
                return add_lines(c, run_sets[i].lines, err);
            }
        }
        return err_set(err, -ENOENT, "no set of commands '%s'", name);
    }
    FILE *f = fopen(name, "re");
    if (!f) {
        return err_set_errno(err, -errno, "read '%s'", name);
    }
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    int r = n == sizeof(text) - 1 ? err_set(err, -EFBIG, "larger than %zu bytes", sizeof(text) - 1)
                                  : add_lines(c, text, err);
    return r < 0 ? err_prefix(err, "%s: ", name) : 0;
}

void run_commands_finish(struct run_commands *c)
{
    while (c->n > 0) {
        command_finish(&c->list[--c->n]);
    }
}

const char *run_set_name(size_t i)
{
    return i < run_nsets ? run_sets[i].name : NULL;
}

const char *run_set_text(size_t i)
{
    return i < run_nsets ? run_sets[i].lines : NULL;
}

/* ---- JSON ---- */

json_t *run_commands_json(const struct run_commands *c)
{
    json_t *lines = json_array();

    for (size_t i = 0; i < c->n; i++) {
        const struct run_command *cmd = &c->list[i];
        char line[LINE_MAX_BYTES + 256] = "";
        for (size_t k = 0; k < ARRAY_SIZE(role_words); k++) {
            if (cmd->roles & role_words[k].role) {
                strcat(strcat(line, role_words[k].word), ",");
            }
        }
        size_t used = strlen(line);
        snprintf(line + used, sizeof(line) - used, "@%s: %s", cmd->group, cmd->text);
        json_array_append_new(lines, json_string(line));
    }
    return lines;
}

int run_commands_from_json(struct run_commands *c, const json_t *lines, struct err *err)
{
    size_t i;
    json_t *line;
    int r = 0;

    json_array_foreach(lines, i, line)
    {
        r = r < 0 || !json_is_string(line) ? r : run_commands_add(c, json_string_value(line), err);
    }
    return r;
}

/* ---- placeholders ---- */

struct sink {
    char *to;
    size_t len, max;
};

static void put(struct sink *s, const char *text, size_t len)
{
    if (s->len + len < s->max) {
        memcpy(s->to + s->len, text, len);
        s->to[s->len + len] = '\0';
    }
    s->len += len; /* what did not fit is found out at the end */
}

/* Replaced text of the placeholder that @p begins with; its length, 0 for none. */
static size_t placeholder(const char *p, const struct run_values *v, char number[24], const char **ret_value)
{
    const struct {
        const char *name, *text;
        uint64_t number;
    } known[] = {
        {"{img}", v->img, 0},   {"{off}", NULL, v->off}, {"{len}", NULL, v->len},   {"{fmt}", v->fmt, 0},
        {"{out}", v->out, 0},   {"{dir}", v->dir, 0},    {"{seed}", NULL, v->seed}, {"$test_img", v->img, 0},
        {"$off", NULL, v->off}, {"$len", NULL, v->len},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t len = strlen(known[i].name);
        if (strncmp(p, known[i].name, len) == 0) {
            snprintf(number, 24, "%llu", (unsigned long long)known[i].number);
            *ret_value = known[i].text ? known[i].text : number;
            return len;
        }
    }
    return 0;
}

static void put_word(struct sink *s, const char *word, const struct run_values *v)
{
    char number[24];
    const char *value;

    for (const char *p = word; *p;) {
        size_t len = placeholder(p, v, number, &value);
        put(s, len ? value : p, len ? strlen(value) : 1);
        p += len ? len : 1;
    }
    put(s, "", 1);
}

int run_command_expand(const struct run_command *c, const struct run_values *v, char ***ret_argv,
                       struct err *err)
{
    enum { ROOM = 32 * KiB };
    size_t n = 0;

    while (c->words[n]) {
        n++;
    }
    char **argv = malloc((n + 1) * sizeof(*argv) + ROOM);
    if (!argv) {
        return err_set(err, -ENOMEM, "no memory");
    }
    struct sink s = {.to = (char *)(argv + n + 1), .max = ROOM};
    for (size_t i = 0; i < n; i++) {
        argv[i] = s.to + MIN(s.len, s.max - 1);
        put_word(&s, c->words[i], v);
    }
    argv[n] = NULL;
    if (s.len >= s.max) {
        free(argv);
        return err_set(err, -E2BIG, "command '%s' becomes longer than %d bytes", c->text, ROOM);
    }
    *ret_argv = argv;
    return 0;
}

static bool is_plain_word(const char *word)
{
    return *word &&
           !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:=@+%{}")];
}

char *run_command_shell(char *const argv[])
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    for (size_t i = 0; f && argv[i]; i++) {
        bool plain = is_plain_word(argv[i]);
        fprintf(f, "%s%s", i ? " " : "", plain ? "" : "'");
        for (const char *p = argv[i]; *p; p++) {
            fputs(!plain && *p == '\'' ? "'\\''" : (char[]){*p, 0}, f);
        }
        fputs(plain ? "" : "'", f);
    }
    if (f) {
        fclose(f);
    }
    return text;
}
