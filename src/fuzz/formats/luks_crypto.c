/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What makes a LUKS image one that opens: PBKDF2, the anti-forensic splitter (LUKS1 specification 2.4) and
 * the encryption of sectors, by GnuTLS.
 */
#include "fuzz/formats/luks.h"

#include <gnutls/crypto.h>

#define HASH_MAX 64

const struct luks_suite luks_suites[LUKS_SUITES] = {
    {"aes", "xts-plain64", "sha256", 64, GNUTLS_CIPHER_AES_256_XTS, GNUTLS_DIG_SHA256, GNUTLS_MAC_SHA256},
    {"aes", "xts-plain64", "sha1", 32, GNUTLS_CIPHER_AES_128_XTS, GNUTLS_DIG_SHA1, GNUTLS_MAC_SHA1},
    {"aes", "cbc-plain64", "sha512", 32, GNUTLS_CIPHER_AES_256_CBC, GNUTLS_DIG_SHA512, GNUTLS_MAC_SHA512},
    {"aes", "cbc-plain64", "sha256", 16, GNUTLS_CIPHER_AES_128_CBC, GNUTLS_DIG_SHA256, GNUTLS_MAC_SHA256},
    {"aes", "cbc-essiv:sha256", "sha1", 32, 0, 0, 0},
    {"serpent", "xts-plain64", "sha256", 32, 0, 0, 0},
    {"twofish", "cbc-plain64", "sha1", 16, 0, 0, 0},
};

static void pbkdf2(const struct luks_suite *s, const void *secret, size_t secret_len, const uint8_t salt[32],
                   unsigned iterations, uint8_t *out, size_t len)
{
    gnutls_datum_t k = {(unsigned char *)secret, (unsigned)secret_len}, t = {(unsigned char *)salt, 32};
    int r = gnutls_pbkdf2((gnutls_mac_algorithm_t)s->gnutls_mac, &k, &t, iterations, out, len);

    assert(r == 0);
}

void luks_digest(const struct luks_key *k, uint8_t *digest, size_t len)
{
    pbkdf2(k->suite, k->key, k->suite->key_bytes, k->mk_salt, k->mk_iterations, digest, len);
}

/* Each piece as long as the digest becomes the digest of its number and itself. */
static void diffuse(const struct luks_suite *s, uint8_t *block)
{
    gnutls_digest_algorithm_t hash = (gnutls_digest_algorithm_t)s->gnutls_hash;
    size_t len = gnutls_hash_get_len(hash);
    uint8_t input[4 + HASH_MAX], digest[HASH_MAX];

    for (size_t at = 0; at < s->key_bytes; at += len) {
        size_t part = MIN(len, s->key_bytes - at);
        put_be32(input, (uint32_t)(at / len));
        memcpy(input + 4, block + at, part);
        int r = gnutls_hash_fast(hash, input, 4 + part, digest);
        assert(r == 0);
        memcpy(block + at, digest, part);
    }
}

void luks_encrypt(const struct luks_suite *s, const uint8_t *key, uint64_t sector, uint8_t *bytes,
                  uint64_t len)
{
    gnutls_datum_t k = {(unsigned char *)key, s->key_bytes};
    uint8_t iv[16] = {0};
    gnutls_datum_t v = {iv, sizeof(iv)};
    gnutls_cipher_hd_t h;
    int r = gnutls_cipher_init(&h, (gnutls_cipher_algorithm_t)s->gnutls_cipher, &k, &v);

    assert(r == 0);
    for (uint64_t at = 0; at < len && r == 0; at += SECTOR_SIZE) {
        put_le64(iv, sector++); /* "plain64" */
        gnutls_cipher_set_iv(h, iv, sizeof(iv));
        r = gnutls_cipher_encrypt(h, bytes + at, SECTOR_SIZE);
        assert(r == 0);
    }
    gnutls_cipher_deinit(h);
}

void luks_split(struct fuzz_image *img, const struct luks_key *k, uint8_t *out)
{
    unsigned n = k->suite->key_bytes;
    uint8_t d[LUKS_KEY_MAX] = {0}, slot_key[LUKS_KEY_MAX];
    uint8_t *last = out + (uint64_t)n * (LUKS1_STRIPES - 1);

    rng_fill(fuzz_rng(img), out, (size_t)n * (LUKS1_STRIPES - 1));
    for (uint8_t *stripe = out; stripe < last; stripe += n) {
        for (unsigned i = 0; i < n; i++) {
            d[i] ^= stripe[i];
        }
        diffuse(k->suite, d);
    }
    for (unsigned i = 0; i < n; i++) {
        last[i] = d[i] ^ k->key[i];
    }
    pbkdf2(k->suite, LUKS_PASSPHRASE, strlen(LUKS_PASSPHRASE), k->slot_salt, k->slot_iterations, slot_key, n);
    luks_encrypt(k->suite, slot_key, 0, out, round_up(luks_material_bytes(k->suite), SECTOR_SIZE));
}
