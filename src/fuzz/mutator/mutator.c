/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fuzzer's mutations for other fuzzers: a library that AFL++ loads (AFL_CUSTOM_MUTATOR_LIBRARY) and that
 * a libFuzzer target links. An input is an image: it is parsed by the field tables, one to three of its
 * fields become hostile, and it stays an image otherwise. An input of a format without a parser is known if
 * it came from here: its list of mutations becomes another. For what is not known, and once in a while, a new
 * image takes its place. The environment says which: BLKPROOF_FUZZ_FORMAT (qcow2) and
 * BLKPROOF_FUZZ_CONFIG (paths and choices, as --config of blkproof fuzz, separated by blanks).
 */
#include <stdio.h>
#include <xxhash.h>

#include "base/json.h"
#include "fuzz/fuzz.h"

#define FRESH 32     /* one of so many inputs is a new image */
#define TRIES 32     /* until one is short enough */
#define KNOWN 32768u /* outputs whose records are remembered, a KiB each or less */

struct known {
    uint64_t hash;
    char *record;
    bool queued; /* the fuzzer will come back to it: it stays */
};

struct mutator {
    struct fuzz_image *img;
    struct fuzz_config config, recalled;
    const struct fuzz_format *format;
    struct rng rng;
    uint8_t *out;
    struct known *known; /* by hash */
    struct known *last;  /* what went out last; NULL: it is not remembered */
};

/* What AFL++ and libFuzzer call. */
void *afl_custom_init(void *afl, unsigned int seed);
size_t afl_custom_fuzz(void *data, uint8_t *buf, size_t size, uint8_t **out, uint8_t *add, size_t add_size,
                       size_t max);
const char *afl_custom_describe(void *data, size_t max);
uint8_t afl_custom_queue_new_entry(void *data, const uint8_t *name, const uint8_t *from);
void afl_custom_deinit(void *data);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);

static void destroy(struct mutator *m)
{
    if (m) {
        fuzz_image_free(m->img);
        fuzz_config_finish(&m->config);
        fuzz_config_finish(&m->recalled);
        free(m->out);
        for (size_t i = 0; m->known && i < KNOWN; i++) {
            free(m->known[i].record);
        }
        free(m->known);
        free(m);
    }
}

static int configure(struct mutator *m, struct err *err)
{
    const char *name = getenv("BLKPROOF_FUZZ_FORMAT"), *text = getenv("BLKPROOF_FUZZ_CONFIG");
    AUTO_FREE char *words = strdup(text ? text : "");
    char *save = NULL;
    int r = 0;

    m->format = fuzz_format_find(name ? name : "qcow2");
    if (!m->format || !words) {
        return err_set(err, -EINVAL, "BLKPROOF_FUZZ_FORMAT: unknown format '%s'", name ? name : "");
    }
    for (char *w = strtok_r(words, " ", &save); w && r == 0; w = strtok_r(NULL, " ", &save)) {
        r = fuzz_config_add(&m->config, m->format, w, err);
    }
    return r;
}

/* Nobody else can tell the user: the fuzzer that has loaded this only sees that it failed. */
static struct mutator *create(uint64_t seed)
{
    struct mutator *m = calloc(1, sizeof(*m));
    struct err err = {.text = "no memory"};

    if (m) {
        fuzz_config_init(&m->config);
        rng_init(&m->rng, seed);
        m->img = fuzz_image_new(FUZZ_LIMIT);
        m->out = malloc(FUZZ_LIMIT);
        m->known = calloc(KNOWN, sizeof(*m->known));
        if (m->img && m->out && m->known && configure(m, &err) == 0) {
            return m;
        }
    }
    fprintf(stderr, "blkproof-mutator: %s\n", err.text);
    destroy(m);
    return NULL;
}

/* One that is no longer than inputs may be, if some are. */
static int make_fresh(struct mutator *m, size_t max)
{
    int r = -EINVAL;

    for (int tries = 0; tries < TRIES; tries++) {
        r = fuzz_image_make(m->img, m->format, rng_u64(&m->rng), &m->config, NULL);
        if (r < 0 || m->img->file[0].size <= max) {
            break;
        }
    }
    return r;
}

/* ---- outputs that come back as inputs ---- */

static uint64_t hash_of(const uint8_t *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

static void remember(struct mutator *m, size_t size)
{
    uint64_t hash = hash_of(m->out, size);
    struct known *k = &m->known[hash % KNOWN];
    size_t len;

    m->last = NULL;
    if (!k->queued) {
        free(k->record);
        *k = (struct known){.hash = hash, .record = fuzz_image_record_text(m->img, false, &len)};
        m->last = k;
    }
}

static int recall(struct mutator *m, const uint8_t *buf, size_t size)
{
    uint64_t hash = hash_of(buf, size);
    const struct known *k = &m->known[hash % KNOWN];
    AUTO_JSON json_t *record = k->record && k->hash == hash ? json_loads(k->record, 0, NULL) : NULL;

    fuzz_config_finish(&m->recalled);
    fuzz_config_init(&m->recalled);
    return record ? fuzz_image_from_record(m->img, record, &m->recalled, NULL) : -ENOENT;
}

/* The result stands in m->out, at most @max bytes of it. */
static size_t mutate(struct mutator *m, const uint8_t *buf, size_t size, size_t max)
{
    bool fresh = rng_below(&m->rng, FRESH) == 0;

    max = MIN(max, (size_t)FUZZ_LIMIT);
    if (!fresh && (m->format->parse ? fuzz_image_load(m->img, buf, size, m->format, &m->config)
                                    : recall(m, buf, size)) == 0) {
        fuzz_image_mutate(m->img, &m->rng, 1 + (unsigned)rng_below(&m->rng, m->config.fields));
    } else if (make_fresh(m, max) < 0) {
        return 0;
    }
    if (fuzz_image_apply(m->img, NULL) < 0) {
        return 0;
    }
    size_t len = fuzz_image_bytes(m->img, m->out, max);
    if (!m->format->parse) {
        remember(m, len);
    }
    return len;
}

/* ---- AFL++ ---- */

void *afl_custom_init(void *afl, unsigned int seed)
{
    return create(seed);
}

size_t afl_custom_fuzz(void *data, uint8_t *buf, size_t size, uint8_t **out, uint8_t *add, size_t add_size,
                       size_t max)
{
    struct mutator *m = data;

    *out = m->out;
    return mutate(m, buf, size, max);
}

/* In the name of what AFL++ keeps. */
const char *afl_custom_describe(void *data, size_t max)
{
    return "fields";
}

/* What went out last goes into the queue; false: its bytes are left alone. */
uint8_t afl_custom_queue_new_entry(void *data, const uint8_t *name, const uint8_t *from)
{
    struct mutator *m = data;

    if (m->last && from) {
        m->last->queued = true;
    }
    return 0;
}

void afl_custom_deinit(void *data)
{
    destroy(data);
}

/* ---- libFuzzer, which has no place for our state: it lives as long as the program ---- */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
    static struct mutator *m;

    m = m ? m : create(0);
    if (!m) {
        abort();
    }
    rng_init(&m->rng, seed);
    size_t len = mutate(m, data, size, max);
    memcpy(data, m->out, len);
    return len;
}
