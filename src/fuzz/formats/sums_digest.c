/* SPDX-License-Identifier: BSD-2-Clause */
/* The checksums that are cryptographic digests, by GnuTLS; see build.h. */
#include "fuzz/formats/build.h"

#include <gnutls/crypto.h>

void sum_md5(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    int r = gnutls_hash_fast(GNUTLS_DIG_MD5, data, bytes, sum);

    assert(r == 0);
}

void sum_sha256(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    int r = gnutls_hash_fast(GNUTLS_DIG_SHA256, data, bytes, sum);

    assert(r == 0);
}
