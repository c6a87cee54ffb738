/* SPDX-License-Identifier: BSD-2-Clause */
/* Small helpers every layer uses: cleanup attributes, rounding, overflow checks. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define KiB         (UINT64_C(1) << 10)
#define MiB         (UINT64_C(1) << 20)
#define GiB         (UINT64_C(1) << 30)
#define SECTOR_SIZE 512u
#define NS_PER_SEC  UINT64_C(1000000000)
#define NS_PER_MS   UINT64_C(1000000)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* Arguments are evaluated once; the names are unique so that calls may be nested. */
#define CAT_(a, b) a##b
#define CAT(a, b)  CAT_(a, b)
#define PICK_(a, b, op, x, y)                                                                                \
    ({                                                                                                       \
        __typeof__(a) x = (a);                                                                               \
        __typeof__(b) y = (b);                                                                               \
        x op y ? x : y;                                                                                      \
    })
#define MIN(a, b)                       PICK_(a, b, <, CAT(min_a_, __COUNTER__), CAT(min_b_, __COUNTER__))
#define MAX(a, b)                       PICK_(a, b, >, CAT(max_a_, __COUNTER__), CAT(max_b_, __COUNTER__))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define PRINTF(fmt, args)               __attribute__((format(printf, fmt, args)))
#define UNUSED                          __attribute__((unused))

/* Own a local: the named function runs on it when it goes out of scope. */
#define CLEANUP(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
#define AUTO_FREE CLEANUP(cleanup_free)

static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}
#define AUTO_CLOSE CLEANUP(cleanup_close)

/* Hand over ownership: the value, leaving NULL (or -1) behind. */
#define TAKE_PTR(p)                                                                                          \
    ({                                                                                                       \
        __typeof__(p) _taken = (p);                                                                          \
        (p) = NULL;                                                                                          \
        _taken;                                                                                              \
    })
#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int _taken = (fd);                                                                                   \
        (fd) = -1;                                                                                           \
        _taken;                                                                                              \
    })

static inline bool is_pow2(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/* @a is any non-zero unit. round_up must not overflow: the caller has range-checked x. */
static inline uint64_t round_down(uint64_t x, uint64_t a)
{
    return x - x % a;
}

static inline uint64_t round_up(uint64_t x, uint64_t a)
{
    return x % a == 0 ? x : x - x % a + a;
}

/* The same for a power of two, without a division. */
static inline uint64_t align_down(uint64_t x, uint64_t a)
{
    return x & ~(a - 1);
}

static inline uint64_t align_up(uint64_t x, uint64_t a)
{
    return align_down(x + a - 1, a);
}

static inline uint64_t div_up(uint64_t x, uint64_t a)
{
    return x / a + (x % a != 0);
}

/* True if [a, a+alen) and [b, b+blen) share a byte. */
static inline bool ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

/* True if all @len bytes at @p are zero. */
bool buffer_is_zero(const void *p, size_t len);

#endif
