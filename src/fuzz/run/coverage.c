/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz/run/coverage.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define MAGIC "bpcover1"

/* ---- the file ---- */

static int map_file(const char *path, struct coverage_seen **ret, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set_errno(err, -errno, "open '%s'", path);
    }
    bool fresh = st.st_size == 0;
    if (fresh && ftruncate(fd, sizeof(**ret)) < 0) {
        return err_set_errno(err, -errno, "make '%s'", path);
    }
    if (!fresh && st.st_size != sizeof(**ret)) {
        return err_set(err, -EINVAL, "'%s' is not what --coverage keeps", path);
    }
    struct coverage_seen *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) {
        return err_set_errno(err, -errno, "map '%s'", path);
    }
    if (fresh) {
        memcpy(s->magic, MAGIC, sizeof(s->magic));
    }
    if (memcmp(s->magic, MAGIC, sizeof(s->magic)) != 0) {
        coverage_close(s);
        return err_set(err, -EINVAL, "'%s' is not what --coverage keeps", path);
    }
    *ret = s;
    return 0;
}

int coverage_open(const char *out, struct coverage_seen **ret, struct err *err)
{
    AUTO_FREE char *corpus = NULL, *path = NULL;

    if (asprintf(&corpus, "%s/" COVERAGE_CORPUS, out) < 0 || asprintf(&path, "%s/" COVERAGE_FILE, out) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    if (mkdir(corpus, 0777) < 0 && errno != EEXIST) {
        return err_set_errno(err, -errno, "make the directory '%s'", corpus);
    }
    return map_file(path, ret, err);
}

void coverage_close(struct coverage_seen *seen)
{
    if (seen) {
        munmap(seen, sizeof(*seen));
    }
}

/* ---- the map ---- */

int coverage_attach(struct coverage *c, struct coverage_seen *seen, const char *out, struct err *err)
{
    char number[16], size[16];

    *c = (struct coverage){.seen = seen, .out = out};
    int id = shmget(IPC_PRIVATE, COVERAGE_EDGES, IPC_CREAT | IPC_EXCL | 0600);
    void *map = id >= 0 ? shmat(id, NULL, 0) : (void *)-1;
    int code = -errno;
    if (id >= 0) {
        shmctl(id, IPC_RMID, NULL); /* it goes with us; until then Linux lets others attach it */
    }
    if (map == (void *)-1) {
        return err_set_errno(err, code, "make shared memory for --coverage");
    }
    c->map = map;
    snprintf(number, sizeof(number), "%d", id);
    snprintf(size, sizeof(size), "%u", COVERAGE_EDGES);
    return setenv(COVERAGE_ENV, number, 1) < 0 || setenv("AFL_MAP_SIZE", size, 1) < 0
               ? err_set(err, -ENOMEM, "no memory")
               : 0;
}

void coverage_detach(struct coverage *c)
{
    if (c->map) {
        shmdt(TAKE_PTR(c->map));
    }
}

void coverage_begin(struct coverage *c)
{
    memset(c->map, 0, COVERAGE_EDGES);
}

/* Ranges, so that a loop's every further round is nothing new: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128-255. */
static uint8_t range_of(uint8_t count)
{
    static const uint8_t from[] = {1, 2, 3, 4, 8, 16, 32, 128};
    unsigned i = ARRAY_SIZE(from) - 1;

    while (count < from[i]) {
        i--;
    }
    return (uint8_t)(1u << i);
}

static bool note(struct coverage_seen *seen, size_t edge, uint8_t count)
{
    uint8_t range = range_of(count);

    if (atomic_load_explicit(&seen->counts[edge], memory_order_relaxed) & range) {
        return false;
    }
    uint8_t before = atomic_fetch_or(&seen->counts[edge], range);
    if (!before) {
        atomic_fetch_add(&seen->edges, 1);
    }
    return !(before & range);
}

int coverage_end(struct coverage *c, bool *ret_new, struct err *err)
{
    bool fresh = false, any = false;

    for (size_t i = 0; i < COVERAGE_EDGES; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, c->map + i, sizeof(word));
        for (size_t k = i; word && k < i + sizeof(word); k++) {
            any = true;
            fresh = (c->map[k] && note(c->seen, k, c->map[k])) || fresh;
        }
    }
    if (!any && atomic_load(&c->seen->edges) == 0) {
        return err_set(err, -ENOTSUP,
                       "--coverage: no command counts its edges; build the program with afl-cc, or with "
                       "-fsanitize-coverage=trace-pc-guard and libblkproof-coverage.a");
    }
    *ret_new = fresh;
    return 0;
}

/* ---- what is kept ---- */

static char *record_path(const char *out, uint64_t n)
{
    char *path = NULL;
    return asprintf(&path, "%s/" COVERAGE_CORPUS "/test-%llu.json", out, (unsigned long long)n) < 0 ? NULL
                                                                                                    : path;
}

int coverage_keep(struct coverage *c, struct fuzz_image *img, uint64_t n, struct err *err)
{
    size_t len;
    AUTO_FREE char *text = fuzz_image_record_text(img, false, &len), *path = record_path(c->out, n);

    if (!text || !path) {
        return err_set(err, -ENOMEM, "no memory");
    }
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len) {
        return err_set_errno(err, -errno, "write '%s'", path);
    }
    uint32_t at = atomic_load(&c->seen->kept);
    do {
        if (at >= COVERAGE_KEPT_MAX) {
            return 0; /* its file is there, for people */
        }
    } while (!atomic_compare_exchange_weak(&c->seen->kept, &at, at + 1));
    atomic_store(&c->seen->test[at], n + 1); /* only now may others read it */
    return 0;
}

json_t *coverage_record(const char *out, uint64_t n)
{
    AUTO_FREE char *path = record_path(out, n);
    return path ? json_load_file(path, 0, NULL) : NULL;
}

json_t *coverage_pick(const struct coverage *c, struct rng *rng)
{
    uint32_t kept = atomic_load(&c->seen->kept);
    uint64_t n = kept ? atomic_load(&c->seen->test[rng_below(rng, MIN(kept, COVERAGE_KEPT_MAX))]) : 0;

    return n ? coverage_record(c->out, n - 1) : NULL;
}
