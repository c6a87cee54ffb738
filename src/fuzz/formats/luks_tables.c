/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The headers of LUKS1 (On-Disk Format Specification 1.2.3) and LUKS2 (On-Disk Format Specification 1.1).
 * All numbers are big-endian.
 */
#include "fuzz/formats/luks.h"

static const struct field v1_fields[] = {
    BE("magic", FIELD_BYTES, 0, 6, .what = "\"LUKS\\xba\\xbe\""),
    BE("version", FIELD_NUMBER, 6, 2, .min = 1, .max = 1),
    BE("cipher_name", FIELD_BYTES, 8, 32, .what = "\"aes\", \"serpent\", \"twofish\", \"cast5\""),
    BE("cipher_mode", FIELD_BYTES, 40, 32, .what = "\"xts-plain64\", \"cbc-essiv:sha256\", ..."),
    BE("hash_spec", FIELD_BYTES, 72, 32, .what = "\"sha1\", \"sha256\", \"sha512\", \"ripemd160\""),
    BE("payload_offset", FIELD_OFFSET, 104, 4, .unit = 512, .what = "of the encrypted data, in sectors"),
    BE("key_bytes", FIELD_LENGTH, 108, 4, .min = 16, .max = 64),
    BE("mk_digest", FIELD_BYTES, 112, 20, .what = "PBKDF2 of the master key"),
    BE("mk_digest_salt", FIELD_BYTES, 132, 32),
    BE("mk_digest_iter", FIELD_COUNT, 164, 4, .min = 1, .max = UINT32_MAX),
    BE("uuid", FIELD_BYTES, 168, 40, .what = "as text"),
    {0},
};
const struct layout luks1_header_layout = {"LUKS1 header", v1_fields, 208, 0};

static const struct field slot_fields[] = {
    BE("active", FIELD_CODE, 0, 4, .what = "0x00ac71f3: in use, 0x0000dead: not"),
    BE("iterations", FIELD_COUNT, 4, 4, .what = "of PBKDF2"),
    BE("salt", FIELD_BYTES, 8, 32),
    BE("key_material_offset", FIELD_OFFSET, 40, 4, .unit = 512, .what = "in sectors"),
    BE("stripes", FIELD_COUNT, 44, 4, .min = 4000, .max = 4000, .what = "of the anti-forensic splitter"),
    {0},
};
const struct layout luks1_slot_layout = {"LUKS1 key slot", slot_fields, 48, 0};

static const struct field v2_fields[] = {
    BE("magic", FIELD_BYTES, 0, 6, .what = "\"LUKS\\xba\\xbe\"; the second header: \"SKUL\\xba\\xbe\""),
    BE("version", FIELD_NUMBER, 6, 2, .min = 2, .max = 2),
    BE("hdr_size", FIELD_LENGTH, 8, 8, .min = 16 * KiB, .max = 4 * MiB,
       .what = "with the JSON area; 16 KiB to 4 MiB, a power of two"),
    BE("seqid", FIELD_NUMBER, 16, 8, .what = "the header with the larger one is newer"),
    BE("label", FIELD_BYTES, 24, 48),
    BE("checksum_alg", FIELD_BYTES, 72, 32, .what = "\"sha256\""),
    BE("salt", FIELD_BYTES, 104, 64, .what = "differs between the headers"),
    BE("uuid", FIELD_BYTES, 168, 40, .what = "as text"),
    BE("subsystem", FIELD_BYTES, 208, 48),
    BE("hdr_offset", FIELD_OFFSET, 256, 8, .what = "of this header"),
    BE("padding", FIELD_BYTES, 264, 184),
    BE("csum", FIELD_BYTES, 448, 64, .what = "of header and JSON area with this field zero"),
    {0},
};
const struct layout luks2_header_layout = {"LUKS2 header", v2_fields, 512, 0};
