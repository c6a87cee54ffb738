/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/rng.h"

#include <endian.h>

void rng_fill(struct rng *r, void *buf, size_t len)
{
    char *p = buf;
    while (len > 0) {
        uint64_t v = htole64(rng_u64(r)); /* the same bytes on every machine */
        size_t n = MIN(len, sizeof(v));
        memcpy(p, &v, n);
        p += n;
        len -= n;
    }
}
