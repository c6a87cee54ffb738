/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LUKS2: the header with its JSON area twice, each with a SHA-256 sum, and the area of key slots. The
 * encrypted data behind them is a hole.
 */
#include "fuzz/formats/luks.h"

#include <stdio.h>

#define BINARY_BYTES 4096u /* of the header in front of the JSON area */
#define TEXT_MAX     4096u

/* 4 characters for 3 bytes, and a 0. */
static void base64(const uint8_t *bytes, size_t len, char *ret_text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)bytes[i] << 16 | (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
                     (i + 2 < len ? bytes[i + 2] : 0);
        *ret_text++ = digits[v >> 18];
        *ret_text++ = digits[v >> 12 & 63];
        *ret_text++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
        *ret_text++ = i + 2 < len ? digits[v & 63] : '=';
    }
    *ret_text = '\0';
}

static void encryption_of(const struct luks_key *k, char *text, size_t room)
{
    snprintf(text, room, "%s-%s", k->suite->cipher, k->suite->mode);
}

/* The specification's example (chapter 3), with one key slot. */
static int make_json(const struct luks_key *k, const uint8_t *digest, size_t digest_len,
                     uint64_t header_bytes, uint64_t area, uint64_t area_bytes, uint64_t payload,
                     char text[TEXT_MAX])
{
    char encryption[48], slot_salt[48], salt[48], sum[100];

    encryption_of(k, encryption, sizeof(encryption));
    base64(k->slot_salt, 32, slot_salt);
    base64(k->mk_salt, 32, salt);
    base64(digest, digest_len, sum);
    return snprintf(
        text, TEXT_MAX,
        "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":%u,"
        "\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"%s\"},"
        "\"area\":{\"type\":\"raw\",\"offset\":\"%llu\",\"size\":\"%llu\",\"encryption\":\"%s\",\"key_size\":"
        "%u},"
        "\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"%s\",\"iterations\":%u,\"salt\":\"%s\"}}},"
        "\"tokens\":{},"
        "\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"%llu\",\"size\":\"dynamic\",\"iv_tweak\":\"0\","
        "\"encryption\":\"%s\",\"sector_size\":512}},"
        "\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\"],\"segments\":[\"0\"],\"hash\":\"%s\","
        "\"iterations\":%u,\"salt\":\"%s\",\"digest\":\"%s\"}},"
        "\"config\":{\"json_size\":\"%llu\",\"keyslots_size\":\"%llu\"}}",
        k->suite->key_bytes, k->suite->hash, (unsigned long long)area, (unsigned long long)area_bytes,
        encryption, k->suite->key_bytes, k->suite->hash, k->slot_iterations, slot_salt,
        (unsigned long long)payload, encryption, k->suite->hash, k->mk_iterations, salt, sum,
        (unsigned long long)(header_bytes - BINARY_BYTES), (unsigned long long)(payload - 2 * header_bytes));
}

static void put_header(struct fuzz_image *img, bool second, uint64_t bytes, const char *json, size_t json_len)
{
    uint64_t at = second ? bytes : 0;
    uint8_t id[16], salt[64];
    char text[37];

    fuzz_at(img, at, BINARY_BYTES);
    int h = fuzz_place(img, &(struct fuzz_part){.name = second ? "header2" : "header",
                                                .layout = &luks2_header_layout,
                                                .offset = at,
                                                .weight = second ? 5 : 20});
    put_bytes(img, h, 0, "magic", second ? "SKUL\xba\xbe" : "LUKS\xba\xbe", 6);
    fuzz_put(img, h, 0, "version", 2);
    fuzz_put(img, h, 0, "hdr_size", bytes);
    fuzz_put(img, h, 0, "seqid", 3);
    put_text(img, h, 0, "label", "fuzz");
    put_text(img, h, 0, "checksum_alg", "sha256");
    rng_fill(fuzz_rng(img), salt, sizeof(salt));
    put_bytes(img, h, 0, "salt", salt, sizeof(salt));
    make_id(img, fuzz_depth(img), 0, id);
    id_text(id, text);
    put_text(img, h, 0, "uuid", text);
    fuzz_put(img, h, 0, "hdr_offset", at);
    memcpy(fuzz_at(img, at + BINARY_BYTES, json_len), json, json_len);
    fuzz_place(img, &(struct fuzz_part){.name = second ? "json2" : "json",
                                        .offset = at + BINARY_BYTES,
                                        .bytes = json_len,
                                        .weight = second ? 5 : 20});
    fuzz_at(img, at, bytes);
    fuzz_sum(img, at + layout_field(&luks2_header_layout, "csum")->offset, 64, at, bytes, sum_sha256);
}

void luks2_build(struct fuzz_image *img, struct luks_key *k, bool opens)
{
    uint64_t bytes = 16 * KiB << fuzz_pick(img, "header_bits", 0, 2);
    uint64_t area = 2 * bytes + 4 * KiB * fuzz_below(img, 3);
    uint64_t area_bytes = round_up(luks_material_bytes(k->suite), 4 * KiB);
    uint64_t payload = round_up(area + area_bytes, MiB);
    uint8_t digest[64];
    size_t digest_bytes = strcmp(k->suite->hash, "sha1") == 0     ? 20
                          : strcmp(k->suite->hash, "sha512") == 0 ? 64
                                                                  : 32;
    char json[TEXT_MAX];

    k->mk_iterations += 1000; /* cryptsetup refuses fewer */
    k->slot_iterations += 1000;
    if (opens) {
        luks_digest(k, digest, digest_bytes);
        luks_split(img, k, fuzz_at(img, area, area_bytes));
    } else {
        rng_fill(fuzz_rng(img), digest, sizeof(digest));
        fuzz_data(img, area, area_bytes);
    }
    fuzz_place_bytes(img, "key_material", 0, area, area_bytes);
    int len = make_json(k, digest, digest_bytes, bytes, area, area_bytes, payload, json);
    assert(len > 0 && len < (int)sizeof(json));
    put_header(img, false, bytes, json, (size_t)len);
    put_header(img, true, bytes, json, (size_t)len);
    fuzz_set_size(img, payload + SECTOR_SIZE * (1 + fuzz_below(img, 64)));
}
