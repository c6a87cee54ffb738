/* SPDX-License-Identifier: BSD-2-Clause */
/* The LUKS header inside an encrypted image (LUKS on-disk format 1.2.3): read by every program that opens
 * one; no key fits. */
#include "fuzz/qcow2/build.h"

#define SLOTS        8
#define SLOT_SECTORS 504 /* 64 bytes of key, 4000 stripes, rounded up to 4 KiB */

static const struct field luks_fields[] = {
    {"magic", FIELD_MAGIC, 0, 4, .min = 0x4c554b53, .what = "\"LUKS\""},
    {"magic_tail", FIELD_CODE, 4, 2},
    {"version", FIELD_NUMBER, 6, 2, .min = 1, .max = 1},
    {"cipher", FIELD_BYTES, 8, 32},
    {"cipher_mode", FIELD_BYTES, 40, 32},
    {"hash", FIELD_BYTES, 72, 32},
    {"payload_offset", FIELD_OFFSET, 104, 4, .unit = SECTOR_SIZE},
    {"key_bytes", FIELD_LENGTH, 108, 4},
    {"digest", FIELD_BYTES, 112, 20},
    {"salt", FIELD_BYTES, 132, 32},
    {"iterations", FIELD_COUNT, 164, 4},
    {"uuid", FIELD_BYTES, 168, 40},
    {0},
};
static const struct layout luks_layout = {"LUKS1 header", luks_fields, 208, 0};

static const struct field slot_fields[] = {
    {"active", FIELD_CODE, 0, 4},    {"iterations", FIELD_COUNT, 4, 4},
    {"salt", FIELD_BYTES, 8, 32},    {"key_material_offset", FIELD_OFFSET, 40, 4, .unit = SECTOR_SIZE},
    {"stripes", FIELD_COUNT, 44, 4}, {0},
};
static const struct layout slot_layout = {"LUKS1 key slot", slot_fields, 48, 0};

static void put_text(struct fuzz_image *img, uint64_t at, const char *text)
{
    memcpy(fuzz_at(img, at, strlen(text)), text, strlen(text));
}

void q_luks_write(struct fuzz_image *img, uint64_t at)
{
    bool used = fuzz_below(img, 2);

    fuzz_at(img, at, 4096);
    int header = fuzz_place(
        img, &(struct fuzz_part){.name = "luks", .layout = &luks_layout, .offset = at, .weight = 4});
    int slots = fuzz_place(img, &(struct fuzz_part){.name = "slots",
                                                    .parent = header,
                                                    .layout = &slot_layout,
                                                    .offset = at + luks_layout.bytes,
                                                    .element = "slot",
                                                    .count = SLOTS,
                                                    .weight = 4});
    fuzz_put(img, header, 0, "magic", 0x4c554b53);
    fuzz_put(img, header, 0, "magic_tail", 0xbabe);
    fuzz_put(img, header, 0, "version", 1);
    put_text(img, at + 8, "aes");
    put_text(img, at + 40, "xts-plain64");
    put_text(img, at + 72, "sha256");
    fuzz_put(img, header, 0, "payload_offset", 8 + SLOTS * SLOT_SECTORS);
    fuzz_put(img, header, 0, "key_bytes", 64);
    rng_fill(fuzz_rng(img), fuzz_at(img, at + 112, 52), 52);
    fuzz_put(img, header, 0, "iterations", 1000);
    put_text(img, at + 168, "00000000-0000-4000-8000-000000000000");
    for (uint32_t i = 0; i < SLOTS; i++) {
        bool active = used && i == 0;
        fuzz_put(img, slots, i, "active", active ? 0x00ac71f3 : 0x0000dead);
        fuzz_put(img, slots, i, "iterations", active ? 1000 : 0);
        fuzz_put(img, slots, i, "key_material_offset", 8 + i * SLOT_SECTORS);
        fuzz_put(img, slots, i, "stripes", 4000);
    }
}
