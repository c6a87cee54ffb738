/* SPDX-License-Identifier: BSD-2-Clause */
/* The few helpers of util.h that are too long to be inline. */
#include "base/util.h"

bool buffer_is_zero(const void *p, size_t len)
{
    const unsigned char *b = p;

    /* The first bytes by hand; the rest equals the buffer shifted by 16. memcmp is the
     * fastest vector loop libc has. */
    for (size_t i = 0; i < 16; i++) {
        if (i == len) {
            return true;
        }
        if (b[i] != 0) {
            return false;
        }
    }
    return memcmp(b, b + 16, len - 16) == 0;
}
