/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One test: an image, every command of the campaign on it, and what the oracles say. The same code serves
 * campaigns, replays and the minimiser, which ask for fewer commands.
 */
#ifndef FUZZ_RUN_TEST_H
#define FUZZ_RUN_TEST_H

#include "fuzz/run/bucket.h"
#include "fuzz/run/command.h"
#include "fuzz/run/exec.h"
#include "fuzz/run/testdir.h"

#define TEST_HITS_MAX 32 /* findings of one test; its commands fail in the same way mostly */

struct test_hit {
    enum oracle oracle;
    size_t command; /* the one that showed it */
    uint64_t needs; /* commands that are needed to see it again: a bit each */
    struct bucket bucket;
    struct run_result result;
    char *output; /* of the command; malloc'ed */
    char *shell;  /* the command with its values */
};

struct test {
    /* What the caller sets: */
    struct executor *exec;
    struct testdir *dir;
    const struct run_commands *commands;
    unsigned oracles; /* a bit for each */
    bool gdb;         /* stacks by gdb where nothing else gives one */
    const char *fmt, *ext;
    /* Called when a hit is made, while the directory is as the command left it. */
    void (*on_hit)(struct test *t, struct test_hit *hit);
    void *opaque;
    /* Of the current test: */
    struct fuzz_image *img;
    uint64_t seed, off, len;
    struct run_result results[RUN_COMMANDS_MAX];
    struct test_hit hits[TEST_HITS_MAX];
    size_t nhits;
    bool opened;       /* a command with that role got in */
    unsigned executed; /* processes */
};

/* Run the commands in @mask (a bit each) on @img as it is. @size: of the guest's disk before mutations; {off}
 * and {len} follow from @seed and it. An error is one of the machine, not of the target. */
int test_run(struct test *t, struct fuzz_image *img, uint64_t seed, uint64_t size, uint64_t mask,
             struct err *err);
/* Was bucket @id hit? */
const struct test_hit *test_find(const struct test *t, const char *id);
void test_finish(struct test *t);

/* ---- between test.c and sequence.c ---- */

/* Put the image back, run command @i, apply the oracles that look at one command. */
int test_command(struct test *t, size_t i, struct err *err);
/* The same on the image as it is now. */
int test_command_again(struct test *t, size_t i, struct err *err);
/* The output and values of the last command go into the hit. @detail: or NULL. */
void test_hit(struct test *t, enum oracle oracle, size_t command, uint64_t needs, const char *detail);
/* The name of what command @i leaves as {out}. */
void test_out_name(size_t i, char name[32]);
/* The oracles that look at several commands. */
int test_sequences(struct test *t, uint64_t mask, struct err *err);

#endif
