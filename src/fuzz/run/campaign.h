/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A campaign: tests numbered from 0, each a function of (configuration, seed, number) and of nothing else, so
 * that campaigns can be stopped, resumed, divided among machines and put together again.
 */
#ifndef FUZZ_RUN_CAMPAIGN_H
#define FUZZ_RUN_CAMPAIGN_H

#include "fuzz/run/coverage.h"
#include "fuzz/run/sandbox.h"
#include "fuzz/run/state.h"
#include "fuzz/run/test.h"

#define CAMPAIGN_FORMATS_MAX 32
#define CAMPAIGN_JOBS_MAX    64

struct campaign_config {
    /* What a test is: kept with the campaign, the same for every resume and shard. */
    char *formats[CAMPAIGN_FORMATS_MAX]; /* taken in turn */
    size_t nformats;
    uint64_t seed;
    struct fuzz_config fuzz;
    char *generator; /* a command that makes the image in place of ours; NULL */
    char *images;    /* a file or directory of images to mutate in place of making some; NULL */
    struct run_commands commands;
    unsigned oracles;
    struct run_limits limits;
    uint64_t shard, shards; /* tests of number % shards == shard */
    bool gdb;               /* stacks by gdb where nothing else gives one */
    bool coverage;          /* images also come from those that reached something new */
    /* How it is run: */
    bool fork_server, no_sandbox;
    unsigned again; /* reruns of a finding, to see whether it is a steady one */
};

void campaign_config_init(struct campaign_config *c);
void campaign_config_finish(struct campaign_config *c);
/* What a test is, as JSON; equal text means equal tests. */
json_t *campaign_config_json(const struct campaign_config *c);
int campaign_config_from_json(struct campaign_config *c, const json_t *j, struct err *err);
/* The seed of test @n: also what `blkproof fuzz gen --seed` takes to make its image. */
uint64_t campaign_test_seed(uint64_t seed, uint64_t n);

/* ---- where images come from (source.c) ---- */

struct source {
    const struct campaign_config *config;
    struct fuzz_image *img;
    char **files; /* of config->images */
    size_t nfiles;
    struct run_command generator; /* config->generator; .text NULL: none */
    struct executor *exec;        /* for the generator */
    const char *work;             /* directory for what it makes */
    struct coverage *coverage;    /* NULL: no feedback */
    struct fuzz_config kept;      /* of an image that came from a record */
    /* Of the current image: */
    const char *fmt, *ext;
    uint64_t guest_bytes;
};

int source_init(struct source *s, const struct campaign_config *config, struct executor *exec,
                const char *work, struct err *err);
void source_finish(struct source *s);
/* The image of test @n in s->img, mutations applied. */
int source_make(struct source *s, uint64_t n, struct err *err);
/* The image of a record in its place. */
int source_take(struct source *s, const json_t *record, struct err *err);

/* ---- one worker's place: namespace, directory, executor (place.c) ---- */

struct place {
    struct executor exec;
    struct testdir dir;
    struct source source;
    struct test test;
    const struct campaign_config *config;
};

/* In the calling process, which becomes a subreaper. @work: an empty directory for tests. */
int place_init(struct place *p, const struct campaign_config *config, const char *work, struct err *err);
void place_finish(struct place *p);
/* Test @n, the commands of @mask. */
int place_run(struct place *p, uint64_t n, uint64_t mask, struct err *err);
/* The image that s->img holds now, again. */
int place_run_image(struct place *p, uint64_t n, uint64_t mask, struct err *err);

/* ---- findings on disk (artefact.c) ---- */

/* Everything about @hit into the new directory @dir: before/, after/ (if it changed), output.txt,
 * record.json, command.sh. */
int artefact_write(const struct test *t, const struct test_hit *hit, const char *dir, struct err *err);
/* Remove a directory and what is in it. */
void artefact_remove(const char *dir);
/* OUT/findings/ORACLE-ID, malloc'ed. */
char *artefact_dir(const char *out, const char *oracle, const char *id);

/* ---- workers (worker.c) ---- */

struct worker_args {
    const struct campaign_config *config;
    const char *out, *work;
    unsigned index;
    struct coverage_seen *seen; /* NULL: no feedback */
    int fd; /* SOCK_SEQPACKET: test numbers come in (uint64_t), a JSON object for each goes out */
};
/* Runs until the other side closes. Returns the exit status. */
int worker_run(void *args);

/* ---- the campaign itself (campaign.c) ---- */

struct campaign_worker {
    pid_t pid;
    int fd;
    uint64_t given[2]; /* tests it has */
    unsigned ngiven;
};

struct campaign {
    const struct campaign_config *config;
    char *out; /* absolute */
    int lock_fd;
    struct state state;
    struct coverage_seen *seen; /* NULL: no feedback */
    enum sandbox_level sandbox;
    struct campaign_worker workers[CAMPAIGN_JOBS_MAX];
    unsigned jobs;
    uint64_t duration_ns; /* start no test after it; 0: no end */
    uint64_t count;       /* tests are numbered below this; 0: no end */
    bool until_finding;   /* stop with the first */
    /* What is known while it runs: */
    struct state_totals totals, at_start;
    uint64_t started_ns, stopped_ns, next, done_end;
    uint64_t retry[2 * CAMPAIGN_JOBS_MAX]; /* tests of a worker that died */
    unsigned nretry, deaths;
    bool stopping;
    int stop_fd; /* readable: stop (a signalfd); -1: none */
    /* What the user may want to see; NULL: nothing. */
    void (*on_notice)(void *opaque, const char *sentence);
    void (*on_finding)(void *opaque, const json_t *hit, bool fresh);
    void (*on_tick)(void *opaque, const struct campaign *c); /* about once a second */
    void *opaque;
};

/* Make @out the directory of a campaign, or go on with the one that is there. *@ret_kept: the configuration
 * it was begun with, as JSON; NULL: it is new and has now that of @config. */
int campaign_open(struct campaign *c, const char *out, const struct campaign_config *config,
                  json_t **ret_kept, struct err *err);
int campaign_run(struct campaign *c, struct err *err);
int campaign_close(struct campaign *c, struct err *err);
uint64_t campaign_clock_ns(void);

#endif
