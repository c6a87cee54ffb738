/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LUKS: version 1 (a header with eight key slots, key material, encrypted data) and version 2 (luks2.c). Some
 * images open with the passphrase "blkproof"; in the others the headers are right, and no key fits.
 */
#include "fuzz/formats/luks.h"

#include "fuzz/formats.h"

#define PAYLOAD_MAX (64 * KiB) /* all of it is encrypted: a hole would be noise */
#define HEADER_ROOM (4 * KiB)

uint64_t luks_material_bytes(const struct luks_suite *s)
{
    return (uint64_t)s->key_bytes * LUKS1_STRIPES;
}

static void choose_key(struct fuzz_image *img, struct luks_key *k, bool opens)
{
    k->suite = &luks_suites[fuzz_pick(img, "suite", 0, (opens ? LUKS_SUITES_OPEN : LUKS_SUITES) - 1)];
    k->mk_iterations = 1 + (unsigned)fuzz_below(img, 64);
    k->slot_iterations = 1 + (unsigned)fuzz_below(img, 64);
    rng_fill(fuzz_rng(img), k->key, sizeof(k->key));
    rng_fill(fuzz_rng(img), k->mk_salt, sizeof(k->mk_salt));
    rng_fill(fuzz_rng(img), k->slot_salt, sizeof(k->slot_salt));
}

static int put_header(struct fuzz_image *img, const struct luks_key *k, uint64_t payload, bool opens)
{
    uint8_t digest[20], id[16];
    char text[37];

    fuzz_at(img, 0, HEADER_ROOM);
    int h =
        fuzz_place(img, &(struct fuzz_part){.name = "header", .layout = &luks1_header_layout, .weight = 20});
    put_bytes(img, h, 0, "magic", "LUKS\xba\xbe", 6);
    fuzz_put(img, h, 0, "version", 1);
    put_text(img, h, 0, "cipher_name", k->suite->cipher);
    put_text(img, h, 0, "cipher_mode", k->suite->mode);
    put_text(img, h, 0, "hash_spec", k->suite->hash);
    fuzz_put(img, h, 0, "payload_offset", payload / SECTOR_SIZE);
    fuzz_put(img, h, 0, "key_bytes", k->suite->key_bytes);
    if (opens) {
        luks_digest(k, digest, sizeof(digest));
    } else {
        rng_fill(fuzz_rng(img), digest, sizeof(digest));
    }
    put_bytes(img, h, 0, "mk_digest", digest, sizeof(digest));
    put_bytes(img, h, 0, "mk_digest_salt", k->mk_salt, 32);
    fuzz_put(img, h, 0, "mk_digest_iter", k->mk_iterations);
    make_id(img, fuzz_depth(img), 0, id);
    id_text(id, text);
    put_text(img, h, 0, "uuid", text);
    return h;
}

/* A slot in use has key material; the place of every slot is told, and none lies in another. */
static void put_slots(struct fuzz_image *img, const struct luks_key *k, int header,
                      const struct piece *pieces, bool opens)
{
    uint32_t used = (uint32_t)fuzz_pick(img, "slot", 0, LUKS1_SLOTS - 1);
    int s = fuzz_place(img, &(struct fuzz_part){.name = "slot",
                                                .parent = header,
                                                .layout = &luks1_slot_layout,
                                                .offset = luks1_header_layout.bytes,
                                                .element = "entry",
                                                .count = LUKS1_SLOTS,
                                                .weight = 20});

    for (uint32_t i = 0; i < LUKS1_SLOTS; i++) {
        bool active = i == used || (!opens && fuzz_below(img, 4) == 0);
        fuzz_put(img, s, i, "active", active ? LUKS1_ENABLED : LUKS1_DISABLED);
        fuzz_put(img, s, i, "iterations", active ? k->slot_iterations : 0);
        fuzz_put(img, s, i, "key_material_offset", pieces[i].offset / SECTOR_SIZE);
        fuzz_put(img, s, i, "stripes", LUKS1_STRIPES);
        if (active) {
            put_bytes(img, s, i, "salt", k->slot_salt, 32);
            fuzz_place_bytes(img, "key_material", (int)i, pieces[i].offset, pieces[i].bytes);
        }
        if (active && opens) {
            luks_split(img, k, fuzz_at(img, pieces[i].offset, pieces[i].bytes));
        } else if (active) {
            fuzz_data(img, pieces[i].offset, pieces[i].bytes);
        }
    }
}

static void put_payload(struct fuzz_image *img, const struct luks_key *k, uint64_t at, bool opens)
{
    uint64_t bytes = choose_size(img, SECTOR_SIZE, opens ? PAYLOAD_MAX : MiB);
    uint64_t seed = rng_u64(fuzz_rng(img));
    uint32_t unit_bytes = 1 + (uint32_t)fuzz_below(img, FUZZ_GUEST_UNIT_MAX);
    uint8_t unit[FUZZ_GUEST_UNIT_MAX];

    fuzz_place_bytes(img, "data", 0, at, bytes);
    if (!opens) {
        fuzz_data(img, at, bytes);
        return;
    }
    uint8_t *p = fuzz_at(img, at, bytes);
    fuzz_guest_unit(seed, unit, unit_bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        p[i] = unit[i % unit_bytes];
    }
    luks_encrypt(k->suite, k->key, 0, p, bytes);
    fuzz_guest_size(img, bytes);
    fuzz_guest_repeat(img, 0, bytes, seed, unit_bytes);
}

static void build_1(struct fuzz_image *img, const struct luks_key *k, bool opens)
{
    struct piece pieces[LUKS1_SLOTS];

    for (unsigned i = 0; i < LUKS1_SLOTS; i++) {
        pieces[i].bytes = round_up(luks_material_bytes(k->suite), SECTOR_SIZE);
    }
    uint64_t payload = place_pieces(img, pieces, LUKS1_SLOTS, HEADER_ROOM, 4 * KiB, 10, false);
    payload += 4 * KiB * fuzz_below(img, 4);
    int header = put_header(img, k, payload, opens);
    put_slots(img, k, header, pieces, opens);
    put_payload(img, k, payload, opens);
}

static void build(struct fuzz_image *img)
{
    struct luks_key k;
    bool second = fuzz_pick(img, "version", 1, 2) == 2, opens = fuzz_chance(img, "opens", 10);

    choose_key(img, &k, opens);
    if (second) {
        luks2_build(img, &k, opens);
    } else {
        build_1(img, &k, opens);
    }
}

/* ---- known-bad images ---- */

static int header_of(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void payload_in_header(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "payload_offset", 0);
}

static void payload_beyond_end(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "payload_offset", UINT32_MAX);
}

static void stripes_0(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "slot", -1), 0, "stripes", 0);
}

static void stripes_huge(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "slot", -1), 0, "stripes", UINT32_MAX);
}

static void key_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "key_bytes", UINT32_MAX);
}

static void key_0(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "key_bytes", 0);
}

static void iterations_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "mk_digest_iter", UINT32_MAX);
    for (uint32_t i = 0; i < LUKS1_SLOTS; i++) {
        fuzz_set(img, fuzz_find(img, "slot", -1), i, "iterations", UINT32_MAX);
    }
}

static void slots_overlap(struct fuzz_image *img)
{
    int s = fuzz_find(img, "slot", -1);

    fuzz_set(img, s, 1, "key_material_offset", fuzz_get(img, s, 0, "key_material_offset") + 1);
}

static void slot_in_header(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "slot", -1), 0, "key_material_offset", 0);
}

static void cipher_unterminated(struct fuzz_image *img)
{
    char a[32];

    memset(a, 'a', sizeof(a));
    fuzz_set_bytes(img, header_of(img), 8, a, sizeof(a));
}

static void json_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "hdr_size", UINT64_C(1) << 62);
}

static void json_size_small(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "hdr_size", 512);
}

static void json_open(struct fuzz_image *img)
{
    fuzz_set_bytes(img, fuzz_find(img, "json", -1), 0, "[[[[[[[[[[[[[[[[", 16);
}

static void header_elsewhere(struct fuzz_image *img)
{
    fuzz_set(img, header_of(img), 0, "hdr_offset", UINT64_MAX);
}

static const struct fuzz_recipe recipes[] = {
    {"luks-payload-0", "the encrypted data begins with the header", "version=1", payload_in_header},
    {"luks-payload-beyond-end", "the encrypted data lies behind the end of the file", "version=1",
     payload_beyond_end},
    {"luks-stripes-0", "key material of no stripes: a division by zero", "version=1", stripes_0},
    {"luks-stripes-huge", "key material of 2^32 - 1 stripes", "version=1", stripes_huge},
    {"luks-key-huge", "a key of 4 GiB", "version=1", key_huge},
    {"luks-key-0", "a key of no bytes", "version=1", key_0},
    {"CVE-2015-5162-luks-iterations", "2^32 - 1 rounds to derive a key: hours of CPU time", "version=1",
     iterations_huge},
    {"luks-slots-overlap", "two slots share key material", "version=1", slots_overlap},
    {"luks-slot-in-header", "key material lies in the header", "version=1", slot_in_header},
    {"luks-cipher-name", "the name of the cipher does not end", "version=1", cipher_unterminated},
    {"luks2-header-huge", "a header of 2^62 bytes", "version=2", json_size_huge},
    {"luks2-header-small", "a header without room for JSON", "version=2", json_size_small},
    {"luks2-json", "the JSON area holds no object", "version=2", json_open},
    {"luks2-header-offset", "the header says that it is elsewhere", "version=2", header_elsewhere},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&luks1_header_layout, "version", 1},
    {&luks2_header_layout, "version", 1},
    {0},
};

const struct fuzz_format fuzz_luks = {
    .name = "luks",
    .ext = "luks",
    .summary = "LUKS versions 1 and 2; some open with the passphrase \"blkproof\"",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
