/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gdb in batch mode: the process runs to its crash, then its modules and stack are printed. Addresses are
 * turned into MODULE+0xOFFSET, so that buckets are the same whoever found the stack.
 */
#include "fuzz/run/gdb.h"

#include <stdio.h>

#include "fuzz/run/preload.h"

#define GDB_TEXT_HALF (128 * KiB)
#define GDB_SECONDS   30
#define MODULES_MAX   128

struct mapping {
    uint64_t from, to, base;
    const char *name; /* in the text */
    int name_len;
};

/* "0x5555 0x5556 0x1000 0x0 r--p /usr/bin/x" of `info proc mappings`. */
static size_t parse_mappings(const char *text, struct mapping map[MODULES_MAX])
{
    size_t n = 0;

    for (const char *p = text; *p && n < MODULES_MAX; p += strcspn(p, "\n"), p += *p == '\n') {
        unsigned long long from, to;
        int used = 0, len = (int)strcspn(p, "\n");
        const char *slash = memchr(p, '/', (size_t)len);
        if (!slash || sscanf(p, " 0x%llx 0x%llx%n", &from, &to, &used) != 2 || !used) {
            continue;
        }
        const char *name = (const char *)memrchr(slash, '/', (size_t)(p + len - slash)) + 1;
        struct mapping m = {
            .from = from, .to = to, .base = from, .name = name, .name_len = (int)(p + len - name)};
        for (size_t i = 0; i < n; i++) {
            if (map[i].name_len == m.name_len && strncmp(map[i].name, name, (size_t)m.name_len) == 0) {
                m.base = map[i].base;
                break;
            }
        }
        map[n++] = m;
    }
    return n;
}

static void put_frame(FILE *f, const struct mapping *map, size_t n, uint64_t pc)
{
    for (size_t i = 0; i < n; i++) {
        if (pc >= map[i].from && pc < map[i].to) {
            fprintf(f, "%.*s+0x%llx\n", map[i].name_len, map[i].name, (unsigned long long)(pc - map[i].base));
            return;
        }
    }
    fprintf(f, "?+0x%llx\n", (unsigned long long)pc);
}

/* The preload library's form of what gdb printed. */
static char *with_frames(const char *text)
{
    const char *pc_line = strstr(text, "blkproof pc=");
    struct mapping map[MODULES_MAX];
    unsigned long long pc;
    char *all = NULL;
    size_t len;

    if (!pc_line || sscanf(pc_line, "blkproof pc=%llx", &pc) != 1) {
        return NULL;
    }
    FILE *f = open_memstream(&all, &len);
    if (!f) {
        return NULL;
    }
    size_t n = parse_mappings(text, map);
    fputs(PRELOAD_STACK_LINE "(gdb)\n", f);
    put_frame(f, map, n, pc);
    for (const char *p = pc_line; (p = strstr(p, "\n#"));) {
        p += 2;
        unsigned number;
        if (sscanf(p, "%u  0x%llx", &number, &pc) == 2 && number > 0) {
            put_frame(f, map, n, pc);
        }
    }
    fprintf(f, "\n%s", text);
    fclose(f);
    return all;
}

char *gdb_backtrace(struct executor *x, char *const argv[])
{
    static const char *const before[] = {"-nx",
                                         "-q",
                                         "-batch",
                                         "-iex",
                                         "set auto-load off",
                                         "-iex",
                                         "set debuginfod enabled off",
                                         "-ex",
                                         "set confirm off",
                                         "-ex",
                                         "set width 0",
                                         "-ex",
                                         "run",
                                         "-ex",
                                         "info proc mappings",
                                         "-ex",
                                         "printf \"blkproof pc=%lx\\n\", $pc",
                                         "-ex",
                                         "bt 40",
                                         "--args"};
    AUTO_FREE char *gdb = NULL;
    char *words[RUN_ARGS_MAX + ARRAY_SIZE(before) + 2];
    size_t n = 0;
    struct run_result r;

    if (run_find_program("gdb", &gdb, NULL) < 0) {
        return NULL;
    }
    words[n++] = gdb;
    for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
        words[n++] = (char *)before[i];
    }
    for (size_t i = 0; argv[i] && n + 1 < ARRAY_SIZE(words); i++) {
        words[n++] = argv[i];
    }
    words[n] = NULL;

    const struct run_limits limits = x->limits;
    bool fork_server = x->fork_server;
    x->limits.time_ns = GDB_SECONDS * NS_PER_SEC;
    x->limits.memory_bytes = UINT64_MAX; /* gdb's own */
    x->limits.as_bytes = UINT64_MAX;
    x->fork_server = false;
    int code = executor_run(x, words, NULL, &r, NULL);
    x->limits = limits;
    x->fork_server = fork_server;
    if (code < 0) {
        return NULL;
    }
    AUTO_FREE char *text = executor_output(x, GDB_TEXT_HALF);
    return text ? with_frames(text) : NULL;
}
