/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An allocator that can be told to fail at its nth call, once or from then on. Programs that include this are
 * linked with --wrap for each of its functions (tests/meson.build).
 */
#ifndef TESTS_SIM_NTH_HEAP_H
#define TESTS_SIM_NTH_HEAP_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/util.h"

static struct {
    pthread_t thread;
    bool armed, sticky;
    unsigned count, fail_at;
    int live; /* allocations that are not freed yet */
} heap;

/* Only the loop's thread is failed: a worker that cannot report would have to wait for memory. */
static bool must_fail(void)
{
    if (!heap.armed || !pthread_equal(heap.thread, pthread_self())) {
        return false;
    }
    heap.count++;
    return heap.sticky ? heap.count >= heap.fail_at : heap.count == heap.fail_at;
}

static void *counted(void *p)
{
    if (p) {
        __atomic_add_fetch(&heap.live, 1, __ATOMIC_RELAXED);
    }
    return p;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
int __real_posix_memalign(void **ret, size_t align, size_t size);
void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
int __wrap_posix_memalign(void **ret, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void __wrap_free(void *p);

void *__wrap_malloc(size_t size)
{
    return must_fail() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    return p ? __real_realloc(p, size) : counted(__real_realloc(p, size));
}

char *__wrap_strdup(const char *s)
{
    return must_fail() ? NULL : counted(__real_strdup(s));
}

int __wrap_posix_memalign(void **ret, size_t align, size_t size)
{
    if (must_fail()) {
        return ENOMEM;
    }
    int r = __real_posix_memalign(ret, align, size);
    if (r == 0) {
        counted(*ret);
    }
    return r;
}

void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (must_fail()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, len, prot, flags, fd, offset);
}

void __wrap_free(void *p)
{
    if (p) {
        __atomic_sub_fetch(&heap.live, 1, __ATOMIC_RELAXED);
    }
    __real_free(p);
}

static inline void heap_arm(unsigned nth, bool sticky)
{
    heap.thread = pthread_self();
    heap.count = 0;
    heap.fail_at = nth;
    heap.sticky = sticky;
    heap.armed = true;
}

#endif
