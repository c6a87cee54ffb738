/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a failure happened, read from text: reports of ASan, UBSan, MSan, TSan and LSan; assert(), g_assert()
 * and what glibc says about its heap; stacks of the preload library or gdb. What is not ours to understand
 * leaves the command's name as the bucket.
 */
#include "fuzz/run/bucket.h"

#include <ctype.h>
#include <stdio.h>
#include <xxhash.h>

#include "fuzz/run/preload.h"

#define FRAMES_IN_KEY 3

const struct oracle_word oracle_words[ORACLES] = {
    [ORACLE_SIGNAL] = {"signal", "a signal ended the program"},
    [ORACLE_SANITIZER] = {"sanitizer", "a sanitizer reported an error"},
    [ORACLE_TIMEOUT] = {"timeout", "the program did not end in time"},
    [ORACLE_MEMORY] = {"memory", "the program took more memory than it may"},
    [ORACLE_DISK] = {"disk", "the program wrote more to its directory than it may"},
    [ORACLE_OUTPUT] = {"output", "the program printed more than it may"},
    [ORACLE_REPAIR] = {"repair", "a repair left errors, did something again the second time, or lost data"},
    [ORACLE_CHECK_READ] = {"check-read", "the check found nothing wrong, but reading fails"},
    [ORACLE_DIFFERENTIAL] = {"differential", "two commands read different bytes"},
    [ORACLE_MODIFIED] = {"modified", "a command that only reads changed the image"},
    [ORACLE_ESCAPE] = {"escape", "a command opened a file that the image named"},
};

enum oracle oracle_find(const char *name)
{
    int i = 0;
    while (i < ORACLES && strcmp(oracle_words[i].name, name) != 0) {
        i++;
    }
    return (enum oracle)i;
}

int oracles_parse(const char *text, unsigned *ret_mask, struct err *err)
{
    unsigned mask = *text == '-' ? ORACLES_ALL : 0;

    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        bool off = *p == '-';
        AUTO_FREE char *word = strndup(p + off, len - off);
        unsigned bits = word && strcmp(word, "all") == 0 ? ORACLES_ALL : 0;
        enum oracle o = word ? oracle_find(word) : ORACLES;
        if (o == ORACLES && !bits) {
            return err_set(err, -EINVAL, "'%s' is not an oracle", word ? word : "");
        }
        bits = bits ? bits : 1u << o;
        mask = off ? mask & ~bits : mask | bits;
        p += len + (p[len] == ',');
    }
    if (!mask) {
        return err_set(err, -EINVAL, "no oracle is left");
    }
    *ret_mask = mask;
    return 0;
}

/* ---- small pieces of text ---- */

static const char *line_end(const char *p)
{
    return p + strcspn(p, "\n");
}

static void append(char *to, size_t size, const char *text, size_t len)
{
    size_t have = strlen(to);
    if (have + 1 < size) {
        len = MIN(len, size - have - 1);
        memcpy(to + have, text, len);
        to[have + len] = '\0';
    }
}

/* Numbers become '#' (not the end of a name: qcow2), quoted names '*', what cannot be printed '?'. */
static void mask(const char *from, const char *end, char *to, size_t size)
{
    size_t n = 0;

    for (const char *p = from; p < end && n + 2 < size;) {
        const char *close = *p == '\'' ? memchr(p + 1, '\'', (size_t)(end - p - 1)) : NULL;
        if (isdigit((unsigned char)*p) && (p == from || !isalpha((unsigned char)p[-1]))) {
            bool hex = *p == '0' && p + 1 < end && p[1] == 'x';
            p += hex ? 2 : 0;
            while (p < end && (hex ? isxdigit((unsigned char)*p) : isdigit((unsigned char)*p))) {
                p++;
            }
            to[n++] = '#';
        } else if (close) {
            to[n++] = '*';
            p = close + 1;
        } else {
            to[n++] = isprint((unsigned char)*p) ? *p : '?';
            p++;
        }
    }
    to[n] = '\0';
}

void bucket_first_line(const char *output, char *to, size_t size)
{
    const char *p = output ? output : "";

    p += strspn(p, "\n");
    mask(p, line_end(p), to, size);
}

static const char *base_of(const char *p, const char *end)
{
    const char *slash = memrchr(p, '/', (size_t)(end - p));
    return slash ? slash + 1 : p;
}

/* ---- sanitizers ---- */

static const char *find_report(const char *output)
{
    static const char *const words[] = {"AddressSanitizer", "MemorySanitizer", "ThreadSanitizer",
                                        "LeakSanitizer"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const char *p = strstr(output, words[i]);
        if (p) {
            return p;
        }
    }
    return NULL;
}

bool bucket_is_sanitizer(const char *output, int exit_status)
{
    return output && exit_status != 0 && (find_report(output) || strstr(output, ": runtime error: "));
}

/* A frame of a sanitizer's or gdb's stack: "    #0 0x55 in name file:line", "#1  0x55 in name (". */
static bool frame_name(const char *line, const char *end, const char **ret_name, size_t *ret_len)
{
    const char *p = line + strspn(line, " \t");

    if (*p != '#' || !isdigit((unsigned char)p[1])) {
        return false;
    }
    const char *in = memmem(p, (size_t)(end - p), " in ", 4);
    if (!in) { /* gdb leaves the address of a frame out that begins a line: "#0  name (" */
        in = p + 1 + strspn(p + 1, "0123456789");
        in += strspn(in, " ") - 4;
    }
    const char *name = in + 4;
    size_t len = strcspn(name, " (\n");
    if (name >= end || len == 0 || name[0] == '?' || strncmp(name, "0x", 2) == 0) {
        return false;
    }
    *ret_name = name;
    *ret_len = len;
    return true;
}

/* Names that say nothing about the bug. */
static bool is_noise(const char *name, size_t len)
{
    static const char *const noise[] = {
        "__asan",    "__interceptor", "__sanitizer", "__ubsan",   "__msan",  "__tsan",   "__lsan",
        "mem",       "str",           "malloc",      "calloc",    "realloc", "free",     "abort",
        "raise",     "__assert",      "__GI_",       "__pthread", "pthread", "g_assert", "g_malloc",
        "g_realloc", "printf",        "operator",    "__libc",    "_start"};

    for (size_t i = 0; i < ARRAY_SIZE(noise); i++) {
        size_t n = strlen(noise[i]);
        if (len >= n && strncmp(name, noise[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* The first frames that say something, " < " between them. */
static void named_frames(const char *from, char *to, size_t size)
{
    unsigned n = 0;
    bool any = false;

    to[0] = '\0';
    for (const char *p = from; *p && n < FRAMES_IN_KEY;) {
        const char *end = line_end(p), *name;
        size_t len;
        bool is_frame = p[strspn(p, " \t")] == '#';
        if (any && !is_frame) {
            break; /* the first stack is the one */
        }
        any = any || is_frame;
        if (frame_name(p, end, &name, &len) && !is_noise(name, len)) {
            append(to, size, n ? " < " : "", n ? 3 : 0);
            append(to, size, name, len);
            n++;
        }
        p = end + (*end == '\n');
    }
}

static bool sanitizer_place(const char *output, char *to, size_t size)
{
    const char *report = find_report(output);
    char what[96], frames[160];

    if (report) {
        const char *end = line_end(report), *kind = strstr(report, ": ");
        kind = kind && kind < end ? kind + 2 : report;
        const char *stop = kind + strcspn(kind, " \n(");
        if (strncmp(kind, "detected", 8) == 0) {
            stop = end;
        }
        mask(kind, MIN(stop, end), what, sizeof(what));
        named_frames(end, frames, sizeof(frames));
        snprintf(to, size, "%.*s: %s%s%s", (int)strcspn(report, ": "), report, what, *frames ? " in " : "",
                 frames);
        return true;
    }
    const char *error = strstr(output, ": runtime error: ");
    if (!error) {
        return false;
    }
    const char *line = error;
    while (line > output && line[-1] != '\n') {
        line--;
    }
    mask(error + 17, line_end(error), what, sizeof(what));
    const char *file = base_of(line, error);
    snprintf(to, size, "UBSan: %s in %.*s", what, (int)strcspn(file, ":"), file);
    return true;
}

/* ---- assertions ---- */

/* "prog: ../block/x.c:12: func: Assertion `a < b' failed." */
static bool libc_assertion(const char *output, char *to, size_t size)
{
    const char *a = strstr(output, ": Assertion `"), *line = a;
    if (!a) {
        return false;
    }
    while (line > output && line[-1] != '\n') {
        line--;
    }
    const char *expr = a + 13, *end = strstr(expr, "' failed");
    const char *func = memrchr(line, ' ', (size_t)(a - line)), *file = strchr(line, ' ');
    if (!end || !func || !file) {
        return false;
    }
    file = base_of(file + 1, a);
    snprintf(to, size, "assertion %.*s in %.*s (%.*s)", (int)MIN(end - expr, 120), expr, (int)(a - func - 1),
             func + 1, (int)strcspn(file, ":"), file);
    return true;
}

/* "ERROR:../block/x.c:12:func: assertion failed: (a < b)", "**\nERROR:...: code should not be reached" */
static bool glib_assertion(const char *output, char *to, size_t size)
{
    const char *p = strstr(output, "ERROR:");
    char what[128];

    if (!p || !(strstr(p, "assertion failed") || strstr(p, "should not be reached"))) {
        return false;
    }
    const char *end = line_end(p), *file = p + 6;
    const char *colon = memchr(file, ':', (size_t)(end - file));
    if (!colon) {
        return false;
    }
    const char *rest = colon + 1 + strspn(colon + 1, "0123456789:");
    mask(rest, end, what, sizeof(what));
    file = base_of(file, colon);
    snprintf(to, size, "%s (%.*s)", what, (int)(colon - file), file);
    return true;
}

/* ---- stacks of module+offset ---- */

static bool is_libc(const char *line)
{
    static const char *const names[] = {"libc.so",          "libc-", "ld-linux", "libpthread", "libglib",
                                        "libblkproof-fork", "?"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strncmp(line, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static bool module_frames(const char *output, char *to, size_t size)
{
    const char *p = strstr(output, PRELOAD_STACK_LINE);
    unsigned n = 0;

    to[0] = '\0';
    if (!p) {
        return false;
    }
    for (p = line_end(p); *p == '\n' && n < FRAMES_IN_KEY;) {
        const char *line = ++p, *end = line_end(line);
        p = end;
        if (!memmem(line, (size_t)(end - line), "+0x", 3)) {
            break;
        }
        if (!is_libc(line)) {
            append(to, size, n ? " < " : "", n ? 3 : 0);
            append(to, size, line, (size_t)(end - line));
            n++;
        }
    }
    return n > 0;
}

/* What glibc says about a heap that is no longer one. */
static bool heap_words(const char *output, char *to, size_t size)
{
    static const char *const words[] = {
        "free(): ",         "malloc(): ",  "realloc(): ",        "corrupted ",
        "munmap_chunk(): ", "double free", "*** stack smashing", "*** buffer overflow"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const char *p = strstr(output, words[i]);
        if (p && (p == output || p[-1] == '\n')) {
            mask(p, line_end(p), to, size);
            return true;
        }
    }
    return false;
}

/* Where, in one line; false if the output does not tell. */
static bool find_place(const char *output, char *to, size_t size)
{
    char heap[96], frames[160];

    if (!output) {
        return false;
    }
    if (sanitizer_place(output, to, size) || libc_assertion(output, to, size) ||
        glib_assertion(output, to, size)) {
        return true;
    }
    bool has_heap = heap_words(output, heap, sizeof(heap));
    if (!module_frames(output, frames, sizeof(frames))) {
        return false;
    }
    snprintf(to, size, "%s%sat %s", has_heap ? heap : "", has_heap ? " " : "", frames);
    return true;
}

bool bucket_has_place(const char *output)
{
    char place[BUCKET_KEY_MAX];
    return find_place(output, place, sizeof(place));
}

/* ---- buckets ---- */

/* It goes to terminals, JSON and SQLite: printable ASCII, whatever a program said. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        *text = *text >= 0x20 && *text < 0x7f ? *text : '?';
    }
}

void bucket_make(struct bucket *b, enum oracle oracle, const char *command, int signal, const char *output,
                 const char *detail)
{
    char place[160] = "";
    bool crash = oracle == ORACLE_SIGNAL || oracle == ORACLE_SANITIZER;
    const char *name = signal ? sigabbrev_np(signal) : NULL;
    char number[24] = "";

    if (signal) {
        snprintf(number, sizeof(number), "SIG%s", name ? name : "?");
    }
    *b = (struct bucket){0};
    if (crash && find_place(output, place, sizeof(place))) {
        /* the same place is the same bug, whatever command came there */
        snprintf(b->key, sizeof(b->key), "%s %s %s", oracle_words[oracle].name, number, place);
    } else {
        snprintf(b->key, sizeof(b->key), "%s %s %s %s", oracle_words[oracle].name, number, command,
                 detail ? detail : "");
    }
    snprintf(b->title, sizeof(b->title), "%s: %s%s%s%s", command, signal ? number : oracle_words[oracle].what,
             *place || detail ? ", " : "", place, detail && !*place ? detail : "");
    make_printable(b->key);
    make_printable(b->title);
    snprintf(b->id, sizeof(b->id), "%012llx",
             (unsigned long long)(XXH3_64bits(b->key, strlen(b->key)) & UINT64_C(0xffffffffffff)));
}
