/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the verbs share: messages, the loop a verb runs on, the graph whose notices reach the user,
 * and the words for cache, discard and aio modes. Nothing here knows a verb.
 */
#include "tools/tools.h"

#include <stdio.h>

#include "base/size.h"

void tool_error(const struct tool *t, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout); /* keeps the order when both go to one place */
    fprintf(stderr, "%s: ", t->prefix);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* QEMU has no word for this, so its stand-in keeps silent. */
static void loop_notice(void *opaque, const char *sentence)
{
    const struct tool *t = opaque;
    if (!t->standin) {
        fprintf(stderr, "%s: %s\n", t->prefix, sentence);
    }
}

int tool_run(struct tool *t, int (*fn)(void *arg), void *arg)
{
    struct loop_config config = {.engine = t->engine, .seed = t->seed, .notice = loop_notice, .opaque = t};
    struct loop *loop;
    struct err err = {0};

    if (loop_create(&config, &loop, &err) < 0) {
        tool_error(t, "%s", err.text);
        return 1;
    }
    int status = loop_run(loop, fn, arg);
    loop_destroy(loop);
    return status;
}

/* Reports are whole lines already, as are QEMU's capital warnings; others lack a beginning. */
static void graph_notice(struct graph *g, enum notice_kind kind, const char *text)
{
    const struct tool *t = g->opaque;
    if (kind == NOTICE_BREAKPOINT) { /* an answer to commands, not a complaint */
        printf("%s\n", text);
        return;
    }
    fflush(stdout);
    if (kind == NOTICE_WARNING && strncmp(text, "WARNING: ", 9) != 0) {
        fprintf(stderr, "%s: warning: %s\n", t->prefix, text);
    } else if (kind == NOTICE_ERROR) {
        tool_error(t, "%s", text);
    } else {
        fprintf(stderr, "%s\n", text);
    }
}

void tool_graph_init(struct tool *t, struct graph *g)
{
    graph_init(g);
    g->notice = graph_notice;
    g->opaque = t;
    g->standin = t->standin;
    g->trust_image_names = t->trust_image_names;
}

int tool_common_option(struct tool *t, int opt, const char *arg)
{
    switch (opt) {
    case TOOL_OPT_ENGINE:
        t->engine = arg;
        return 0;
    case TOOL_OPT_SEED:
        if (size_parse(arg, &t->seed) < 0) {
            tool_error(t, "'%s' is not a seed: a number from 0 to 2^63 - 1 was expected", arg);
            return -EINVAL;
        }
        return 0;
    case TOOL_OPT_TRUST:
        t->trust_image_names = true;
        return 0;
    default:
        return -EINVAL;
    }
}

struct mode_word {
    const char *word;
    unsigned flags;
};

static int find_mode(const struct mode_word *table, size_t n, const char *word, unsigned *ret_flags)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].word, word) == 0) {
            *ret_flags = table[i].flags;
            return 0;
        }
    }
    return -EINVAL;
}

int tool_cache_flags(const char *mode, unsigned *ret_flags)
{
    static const struct mode_word modes[] = {
        {"writethrough", OPEN_WRITETHROUGH},
        {"writeback", 0},
        {"none", OPEN_DIRECT},
        {"off", OPEN_DIRECT},
        {"directsync", OPEN_DIRECT | OPEN_WRITETHROUGH},
        {"unsafe", OPEN_NO_FLUSH},
    };
    return find_mode(modes, ARRAY_SIZE(modes), mode, ret_flags);
}

int tool_discard_flags(const char *mode, unsigned *ret_flags)
{
    static const struct mode_word modes[] = {
        {"ignore", 0},
        {"off", 0},
        {"unmap", OPEN_UNMAP},
        {"on", OPEN_UNMAP},
    };
    return find_mode(modes, ARRAY_SIZE(modes), mode, ret_flags);
}

int tool_aio_engine(const char *mode, const char **ret_engine)
{
    static const char *const modes[][2] = {{"threads", "threads"}, {"native", NULL}, {"io_uring", "uring"}};
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i][0], mode) == 0) {
            *ret_engine = modes[i][1];
            return 0;
        }
    }
    return -EINVAL;
}

void tool_version(const struct tool *t)
{
    printf("%s version %s\n", t->prefix, BLKPROOF_VERSION);
}
