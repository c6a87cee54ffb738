/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of LUKS; see luks_tables.c. */
#ifndef FUZZ_FORMATS_LUKS_H
#define FUZZ_FORMATS_LUKS_H

#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define LUKS1_SLOTS    8u
#define LUKS1_STRIPES  4000u
#define LUKS1_ENABLED  0x00ac71f3u
#define LUKS1_DISABLED 0x0000deadu

extern const struct layout luks1_header_layout, luks1_slot_layout, luks2_header_layout;

/* ---- keys that fit (luks_crypto.c): the passphrase is LUKS_PASSPHRASE ---- */

#define LUKS_PASSPHRASE "blkproof"
#define LUKS_KEY_MAX    64u

struct luks_suite {
    const char *cipher, *mode, *hash; /* as LUKS calls them */
    unsigned key_bytes;
    int gnutls_cipher, gnutls_hash, gnutls_mac; /* 0: none that we can */
};

#define LUKS_SUITES      7u
#define LUKS_SUITES_OPEN 4u /* the first ones: those that we can encrypt with */
extern const struct luks_suite luks_suites[LUKS_SUITES];

struct luks_key {
    const struct luks_suite *suite;
    uint8_t key[LUKS_KEY_MAX];
    uint8_t mk_salt[32], slot_salt[32];
    unsigned mk_iterations, slot_iterations;
};

/* Bytes of the key material of a slot. */
uint64_t luks_material_bytes(const struct luks_suite *s);
/* PBKDF2 of the master key. */
void luks_digest(const struct luks_key *k, uint8_t *digest, size_t len);
/* The key material at @out: the master key, split and encrypted by the passphrase. */
void luks_split(struct fuzz_image *img, const struct luks_key *k, uint8_t *out);
/* Encrypt whole sectors in place; the first has number @sector. */
void luks_encrypt(const struct luks_suite *s, const uint8_t *key, uint64_t sector, uint8_t *bytes,
                  uint64_t len);

void luks2_build(struct fuzz_image *img, struct luks_key *k, bool opens);

#endif
