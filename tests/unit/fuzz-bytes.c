/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same seed makes the same bytes everywhere. Uses nothing but the C library, because it also runs built
 * for a 32-bit and for a big-endian machine (scripts/check arch), where what "fuzz-bytes print" says is held
 * against what the native build says. Here the hashes of qcow2 images are held against those of today: a
 * change of the generator that was not meant to be one is seen.
 */
#include <stdio.h>

#include "fuzz/formats.h"
#include "fuzz/formats/luks.h"
#include "fuzz/fuzz.h"

#define SEEDS 100

#ifdef NO_DIGESTS /* where there is no library for them: any bytes will do, if they are the same everywhere  \
                   */
static void put_any(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    uint64_t h = bytes;

    for (uint64_t i = 0; i < bytes; i++) {
        h = rng_rotl(h ^ data[i], 11) * UINT64_C(0x9e3779b185ebca87);
    }
    put_le64(sum, h);
}

fuzz_sum_fn sum_md5, sum_sha256;

void sum_md5(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    put_any(data, bytes, sum);
}

void sum_sha256(const uint8_t *data, uint64_t bytes, uint8_t *sum)
{
    put_any(data, bytes, sum);
}

/* And for ciphers: no key fits, which nobody tries here. */
const struct luks_suite luks_suites[LUKS_SUITES] = {
    {"aes", "xts-plain64", "sha256", 64, 0, 0, 0},
    {"aes", "xts-plain64", "sha1", 32, 0, 0, 0},
    {"aes", "cbc-plain64", "sha512", 32, 0, 0, 0},
    {"aes", "cbc-plain64", "sha256", 16, 0, 0, 0},
    {"a", "b", "sha1", 32, 0, 0, 0},
    {"c", "d", "sha256", 32, 0, 0, 0},
    {"e", "f", "sha1", 16, 0, 0, 0},
};

void luks_digest(const struct luks_key *k, uint8_t *digest, size_t len)
{
    memset(digest, k->key[0], len);
}

void luks_split(struct fuzz_image *img, const struct luks_key *k, uint8_t *out)
{
    rng_fill(fuzz_rng(img), out, k->suite->key_bytes);
}

void luks_encrypt(const struct luks_suite *s, const uint8_t *key, uint64_t sector, uint8_t *bytes,
                  uint64_t len)
{
    put_any(key, s->key_bytes, bytes);
}
#endif

/* Of SEEDS images; valid ones, and those of the default mix. Who changes the generator changes these: "print"
 * shows the new ones. Backing files are left out, because every new format is one more to choose from. */
#define QCOW2_VALID   UINT64_C(0x0ea635bf7d8828b7)
#define QCOW2_HOSTILE UINT64_C(0xb948f01c80e90638)

static int hash_of(struct fuzz_image *img, const struct fuzz_format *format, bool valid, uint64_t *ret)
{
    struct fuzz_setting no_backing = {(char *)"backing", 0};
    struct fuzz_config c = {.valid = valid,
                            .fields = 3,
                            .recipes = 10,
                            .limit = FUZZ_LIMIT,
                            .settings = &no_backing,
                            .nsettings = 1};
    uint64_t h = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        int r = fuzz_image_make(img, format, seed * UINT64_C(0x100000001), &c, NULL);
        if (r < 0 || fuzz_image_apply(img, NULL) < 0) {
            return -1;
        }
        h = rng_rotl(h, 7) ^ fuzz_image_hash(img);
    }
    *ret = h;
    return 0;
}

static int print(struct fuzz_image *img)
{
    for (int i = 0; fuzz_formats[i]; i++) {
        uint64_t valid, hostile;
        if (hash_of(img, fuzz_formats[i], true, &valid) < 0 ||
            hash_of(img, fuzz_formats[i], false, &hostile) < 0) {
            return 1;
        }
        printf("%s 0x%016llx 0x%016llx\n", fuzz_formats[i]->name, (unsigned long long)valid,
               (unsigned long long)hostile);
    }
    return 0;
}

static bool check(int number, struct fuzz_image *img, bool valid, uint64_t expected)
{
    uint64_t h = 0;
    bool good = hash_of(img, &fuzz_qcow2, valid, &h) == 0 && h == expected;

    if (!good) {
        printf("# the hash is 0x%016llx\n", (unsigned long long)h);
    }
    printf("%sok %d - %s qcow2 images are those of before\n", good ? "" : "not ", number,
           valid ? "valid" : "hostile");
    return good;
}

int main(int argc, char **argv)
{
    struct fuzz_image *img = fuzz_image_new(FUZZ_LIMIT);
    int status;

    if (!img) {
        return 1;
    }
    if (argc > 1 && strcmp(argv[1], "print") == 0) {
        status = print(img);
    } else {
        printf("1..2\n");
        bool valid = check(1, img, true, QCOW2_VALID), hostile = check(2, img, false, QCOW2_HOSTILE);
        status = !(valid && hostile);
    }
    fuzz_image_free(img);
    return status;
}
