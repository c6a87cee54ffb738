/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Oracles, and the buckets their findings fall into: a key that is the same for the same bug, and a title for
 * people. The key comes from what the program said (sanitizer report, assertion) or from a stack, never from
 * addresses or numbers that change from image to image.
 */
#ifndef FUZZ_RUN_BUCKET_H
#define FUZZ_RUN_BUCKET_H

#include "base/err.h"

enum oracle {
    ORACLE_SIGNAL,
    ORACLE_SANITIZER,
    ORACLE_TIMEOUT,
    ORACLE_MEMORY,
    ORACLE_DISK,
    ORACLE_OUTPUT,
    ORACLE_REPAIR,
    ORACLE_CHECK_READ,
    ORACLE_DIFFERENTIAL,
    ORACLE_MODIFIED,
    ORACLE_ESCAPE,
    ORACLES, /* their number */
};
#define ORACLES_ALL ((1u << ORACLES) - 1)

extern const struct oracle_word {
    const char *name, *what;
} oracle_words[ORACLES];

/* "signal,timeout", "all,-output". */
int oracles_parse(const char *text, unsigned *ret_mask, struct err *err);
/* The oracle of that name; ORACLES: none. */
enum oracle oracle_find(const char *name);

#define BUCKET_KEY_MAX 256
struct bucket {
    char key[BUCKET_KEY_MAX];   /* "signal qcow2.c qcow2_get_refcount: x < y" */
    char title[BUCKET_KEY_MAX]; /* "qemu-img check: assertion x < y in qcow2_get_refcount (qcow2.c)" */
    char id[20];                /* of the key, for names of files */
};

/* Is it a sanitizer's report? Status and words decide. */
bool bucket_is_sanitizer(const char *output, int exit_status);
/* Does @output say where a signal came from: a report, an assertion, a stack? */
bool bucket_has_place(const char *output);

/* @command: its name; @detail: what an oracle has to add, or NULL; @output: of the program, or NULL; @signal:
 * 0 for none. */
void bucket_make(struct bucket *b, enum oracle oracle, const char *command, int signal, const char *output,
                 const char *detail);

/* The first line of @output that says what failed, with numbers and names of files masked: "qemu-img: Could
 * not open
 * '*': L# table" -> for details. */
void bucket_first_line(const char *output, char *to, size_t size);

#endif
