/* SPDX-License-Identifier: BSD-2-Clause */
/* xoshiro256**, seeded through splitmix64 (Blackman, Vigna): the one source of randomness, always
 * from a seed that is printed. Not for cryptography. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include "base/util.h"

struct rng {
    uint64_t s[4];
};

static inline uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        r->s[i] = splitmix64(&seed);
    }
}

static inline uint64_t rng_rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rng_rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rng_rotl(s[3], 45);
    return result;
}

/* The upper half of a * b; not every machine has a 128-bit type. */
static inline uint64_t mul_high(uint64_t a, uint64_t b)
{
    uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX);
    uint64_t cross = (a & UINT32_MAX) * (b >> 32), other = (a >> 32) * (b & UINT32_MAX);
    uint64_t middle = (low >> 32) + (cross & UINT32_MAX) + (other & UINT32_MAX);

    return (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32) + (middle >> 32);
}

/* Uniform in [0, n); n > 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    assert(n > 0);
    return mul_high(rng_u64(r), n);
}

/* True with probability @ppm / 1,000,000. */
static inline bool rng_chance_ppm(struct rng *r, uint32_t ppm)
{
    return rng_below(r, 1000000) < ppm;
}

void rng_fill(struct rng *r, void *buf, size_t len);

#endif
