/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands from stdin: with a line editor, history and completion on a terminal; in lines of at most
 * 1023 bytes from anything else, with the prompt printed just the same, as qemu-io does. Lines are
 * waited for on a worker thread, so that what is in the background goes on meanwhile.
 */
#include <ctype.h>
#include <histedit.h>
#include <unistd.h>

#include "tools/io/io.h"

#define LINE_MAX_BYTES 1023 /* of a line that is not typed: the rest is the next line, as qemu-io's */
#define HISTORY_LINES  1000 /* kept in memory: more than anybody types */

struct shell {
    const struct io *io;
    char prompt[32];
    EditLine *editor; /* NULL: not a terminal */
    History *history;
    char *line; /* the last one read, malloc'ed; NULL at the end */
};

/* ---- a pipe or a file ---- */

static int read_plain(void *arg)
{
    struct shell *s = arg;
    char *buf = malloc(LINE_MAX_BYTES + 1);

    if (buf == NULL || fgets(buf, LINE_MAX_BYTES + 1, stdin) == NULL) {
        free(buf);
        return 0;
    }
    s->line = buf;
    return 0;
}

/* ---- a terminal ---- */

static char *editor_prompt(EditLine *e)
{
    struct shell *s;

    el_get(e, EL_CLIENTDATA, &s);
    return s->prompt;
}

static int read_edited(void *arg)
{
    struct shell *s = arg;
    int n;
    const char *line = el_gets(s->editor, &n);

    if (line == NULL || n <= 0) {
        putchar('\n'); /* the user's ^D leaves the cursor behind the prompt */
        return 0;
    }
    if (line[strspn(line, " \n")] != '\0') {
        HistEvent ev;
        history(s->history, &ev, H_ENTER, line);
    }
    s->line = strdup(line);
    return 0;
}

/* What fits the word so far: how many, and what they have in common beyond it. */
struct matches {
    const char *prefix;
    size_t prefix_len;
    unsigned n;
    char common[64];
};

static void add_match(struct matches *m, const char *word)
{
    if (strncmp(word, m->prefix, m->prefix_len) != 0) {
        return;
    }
    if (m->n++ == 0) {
        snprintf(m->common, sizeof(m->common), "%s", word);
        return;
    }
    size_t i = 0;
    while (m->common[i] != '\0' && m->common[i] == word[i]) {
        i++;
    }
    m->common[i] = '\0';
}

/* The options of a command, from its usage: "[-Cq]", "[-P pattern", "(-r|-w)". */
static void match_options(struct matches *m, const struct io_command *cmd, bool print)
{
    for (const char *p = cmd->args != NULL ? strchr(cmd->args, '-') : NULL; p != NULL; p = strchr(p, '-')) {
        for (p++; isalpha((unsigned char)*p); p++) {
            char option[] = {'-', *p, '\0'};
            if (print && strncmp(option, m->prefix, m->prefix_len) == 0) {
                printf("  %s", option);
            }
            add_match(m, option);
        }
    }
}

static void match_commands(struct matches *m, const struct io *io, bool print)
{
    for (const struct io_command *c = io_commands; c->name != NULL; c++) {
        if (!io_command_exists(io, c)) {
            continue;
        }
        if (print && strncmp(c->name, m->prefix, m->prefix_len) == 0) {
            printf("  %s", c->name);
        }
        add_match(m, c->name);
    }
}

/* The words that may stand at the cursor. @print: show them too. */
static void find_matches(struct matches *m, const struct io *io, const char *line, size_t cursor, bool print)
{
    size_t start = cursor;

    while (start > 0 && line[start - 1] != ' ') {
        start--;
    }
    *m = (struct matches){.prefix = line + start, .prefix_len = cursor - start};
    size_t first = strspn(line, " ");
    size_t first_len = strcspn(line + first, " \n");
    char name[32];
    if (start <= first) {
        match_commands(m, io, print);
        return;
    }
    snprintf(name, sizeof(name), "%.*s", (int)MIN(first_len, sizeof(name) - 1), line + first);
    const struct io_command *cmd = io_command_find(io, name);
    if (cmd != NULL && cmd->run == io_cmd_help) {
        match_commands(m, io, print);
    } else if (cmd != NULL && m->prefix_len > 0 && *m->prefix == '-') {
        match_options(m, cmd, print);
    }
}

/* Tab: complete as far as it is clear; where nothing more is, show what there is. */
static unsigned char complete(EditLine *e, int key)
{
    const LineInfo *info = el_line(e);
    const struct shell *s;
    struct matches m;

    el_get(e, EL_CLIENTDATA, &s);
    find_matches(&m, s->io, info->buffer, (size_t)(info->cursor - info->buffer), false);
    if (m.n == 0) {
        return CC_REFRESH_BEEP;
    }
    size_t more = strlen(m.common) - m.prefix_len;
    if (m.n > 1 && more == 0) {
        putchar('\n');
        find_matches(&m, s->io, info->buffer, (size_t)(info->cursor - info->buffer), true);
        putchar('\n');
        fflush(stdout);
        return CC_REDISPLAY;
    }
    if ((more > 0 && el_insertstr(e, m.common + m.prefix_len) < 0) ||
        (m.n == 1 && el_insertstr(e, " ") < 0)) {
        return CC_ERROR;
    }
    return CC_REFRESH;
}

static void editor_init(struct shell *s)
{
    HistEvent ev;

    s->history = history_init();
    s->editor = s->history != NULL ? el_init("blkproof", stdin, stdout, stderr) : NULL;
    if (s->editor == NULL) {
        return; /* it works without */
    }
    history(s->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(s->history, &ev, H_SETUNIQUE, 1);
    el_set(s->editor, EL_CLIENTDATA, s);
    el_set(s->editor, EL_PROMPT, editor_prompt);
    el_set(s->editor, EL_EDITOR, "emacs");
    el_set(s->editor, EL_HIST, history, s->history);
    el_set(s->editor, EL_ADDFN, "io-complete", "complete a command or its options", complete);
    el_set(s->editor, EL_BIND, "^I", "io-complete", NULL);
    el_source(s->editor, NULL); /* the user's ~/.editrc */
}

static void editor_finish(struct shell *s)
{
    if (s->editor != NULL) {
        el_end(s->editor);
    }
    if (s->history != NULL) {
        history_end(s->history);
    }
}

/* ---- both ---- */

static co_fn bool next_line(struct shell *s)
{
    free(s->line);
    s->line = NULL;
    if (s->editor == NULL) {
        fputs(s->prompt, stdout);
    }
    fflush(stdout);
    if (loop_work(s->editor != NULL ? read_edited : read_plain, s) < 0 || s->line == NULL) {
        return false;
    }
    s->line[strcspn(s->line, "\n")] = '\0';
    return true;
}

void io_shell(struct io *io)
{
    struct shell s = {.io = io};

    snprintf(s.prompt, sizeof(s.prompt), "%s> ", io->tool->prefix);
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
        editor_init(&s);
    }
    while (!io->quit && next_line(&s)) {
        io_run_line(io, s.line);
    }
    free(s.line);
    editor_finish(&s);
}
