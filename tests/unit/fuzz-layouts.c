/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The field tables of formats without a driver against bytes made by hand from the specifications, and their
 * checksums against published values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fuzz/formats/build.h"
#include "fuzz/formats/luks.h"
#include "fuzz/formats/vhdx.h"
#include "fuzz/formats/vmdk.h"
#include "fuzz/formats/vpc.h"

extern const struct layout qed_header_layout, qcow1_header_layout, vdi_header_layout, parallels_header_layout,
    gpt_header_layout, gpt_entry_layout, mbr_partition_layout;

/* Bytes at their place in a structure, and what the fields there say. */
struct golden {
    const struct layout *layout;
    const char *field;
    uint32_t at; /* from the specification, not from the table */
    const char *bytes;
    size_t len;
    uint64_t value;
};
#define GOLDEN(l, f, at, bytes, value)                                                                       \
    {                                                                                                        \
        &(l), f, at, bytes, sizeof(bytes) - 1, value                                                         \
    }

static const struct golden golden[] = {
    GOLDEN(qed_header_layout, "cluster_size", 4, "\x00\x00\x01\x00", 65536),
    GOLDEN(qed_header_layout, "l1_table_offset", 40, "\x00\x00\x02\x00\x00\x00\x00\x01",
           UINT64_C(0x0100000000020000)),
    GOLDEN(qed_header_layout, "backing_filename_size", 60, "\x04\x03\x00\x00", 0x304),
    GOLDEN(qcow1_header_layout, "size", 24, "\x00\x00\x00\x01\x02\x03\x04\x05", UINT64_C(0x102030405)),
    GOLDEN(qcow1_header_layout, "l2_bits", 33, "\x09", 9),
    GOLDEN(qcow1_header_layout, "l1_table_offset", 40, "\x00\x00\x00\x00\x00\x00\x00\x30", 48),
    GOLDEN(vdi_header_layout, "signature", 64, "\x7f\x10\xda\xbe", 0xbeda107f),
    GOLDEN(vdi_header_layout, "offset_bmap", 340, "\x00\x02\x00\x00", 512),
    GOLDEN(vdi_header_layout, "disk_size", 368, "\x00\x00\x10\x00\x00\x00\x00\x00", 1048576),
    GOLDEN(vdi_header_layout, "blocks_allocated", 388, "\x05\x00\x00\x00", 5),
    GOLDEN(parallels_header_layout, "nb_sectors", 36, "\x00\x08\x00\x00\x00\x00\x00\x00", 2048),
    GOLDEN(parallels_header_layout, "inuse", 44, "v2.1", 0x312e3276),
    GOLDEN(parallels_header_layout, "ext_off", 56, "\x07\x00\x00\x00\x00\x00\x00\x00", 7),
    GOLDEN(vmdk_header_layout, "magic", 0, "KDMV", VMDK_MAGIC),
    GOLDEN(vmdk_header_layout, "capacity", 12, "\x00\x00\x10\x00\x00\x00\x00\x00", 0x100000),
    GOLDEN(vmdk_header_layout, "num_gtes_per_gt", 44, "\x00\x02\x00\x00", 512),
    GOLDEN(vmdk_header_layout, "gd_offset", 56, "\xff\xff\xff\xff\xff\xff\xff\xff", UINT64_MAX),
    GOLDEN(vmdk_header_layout, "newlines", 73, "\n \r\n", VMDK_NEWLINES),
    GOLDEN(vmdk_header_layout, "compress_algorithm", 77, "\x01\x00", 1),
    GOLDEN(vmdk_cowd_layout, "magic", 0, "COWD", VMDK_COWD),
    GOLDEN(vmdk_grain_layout, "size", 8, "\x10\x27\x00\x00", 10000),
    GOLDEN(vhdx_header_layout, "signature", 0, "head", 0x64616568),
    GOLDEN(vhdx_header_layout, "log_length", 68, "\x00\x00\x10\x00", 1048576),
    GOLDEN(vhdx_header_layout, "log_offset", 72, "\x00\x00\x10\x00\x00\x00\x00\x00", 1048576),
    GOLDEN(vhdx_bat_layout, "state", 0, "\x06\x00\x30\x00\x00\x00\x00\x00", VHDX_FULLY_PRESENT),
    GOLDEN(vhdx_bat_layout, "file_offset_mb", 0, "\x06\x00\x30\x00\x00\x00\x00\x00", 3),
    GOLDEN(vhdx_log_layout, "descriptor_count", 24, "\x02\x00\x00\x00", 2),
    GOLDEN(vhdx_log_sector_layout, "sequence_low", 4092, "\x09\x00\x00\x00", 9),
    GOLDEN(vhdx_region_layout, "length", 24, "\x00\x00\x10\x00", 1048576),
    GOLDEN(vpc_footer_layout, "current_size", 48, "\x00\x00\x00\x00\x00\x10\x00\x00", 1048576),
    GOLDEN(vpc_footer_layout, "cylinders", 56, "\x03\xfe", 0x3fe),
    GOLDEN(vpc_footer_layout, "type", 60, "\x00\x00\x00\x03", 3),
    GOLDEN(vpc_header_layout, "table_offset", 16, "\x00\x00\x00\x00\x00\x00\x06\x00", 1536),
    GOLDEN(vpc_header_layout, "block_size", 32, "\x00\x20\x00\x00", 2097152),
    GOLDEN(luks1_header_layout, "payload_offset", 104, "\x00\x00\x10\x00", 4096),
    GOLDEN(luks1_header_layout, "mk_digest_iter", 164, "\x00\x00\x03\xe8", 1000),
    GOLDEN(luks1_slot_layout, "active", 0, "\x00\xac\x71\xf3", LUKS1_ENABLED),
    GOLDEN(luks1_slot_layout, "stripes", 44, "\x00\x00\x0f\xa0", 4000),
    GOLDEN(luks2_header_layout, "hdr_offset", 256, "\x00\x00\x00\x00\x00\x00\x40\x00", 16384),
    GOLDEN(gpt_header_layout, "signature", 0, "EFI PART", UINT64_C(0x5452415020494645)),
    GOLDEN(gpt_header_layout, "partition_entry_lba", 72, "\x02\x00\x00\x00\x00\x00\x00\x00", 2),
    GOLDEN(gpt_header_layout, "entries_crc32", 88, "\x01\x02\x03\x04", 0x04030201),
    GOLDEN(gpt_entry_layout, "last_lba", 40, "\xff\x07\x00\x00\x00\x00\x00\x00", 2047),
    GOLDEN(mbr_partition_layout, "type", 4, "\xee", 0xee),
    GOLDEN(mbr_partition_layout, "lba", 8, "\x01\x00\x00\x00", 1),
};

static void fields_lie_where_the_specifications_say(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        const struct golden *g = &golden[i];
        const struct field *f = layout_field(g->layout, g->field);
        uint8_t bytes[4096], back[4096];

        assert_non_null(f);
        memset(bytes, 0xa5, sizeof(bytes));
        memset(back, 0xa5, sizeof(back));
        memcpy(bytes + g->at, g->bytes, g->len);
        if (field_get(f, bytes) != g->value) {
            fail_msg("%s: %s is 0x%llx", g->layout->name, g->field, (unsigned long long)field_get(f, bytes));
        }
        field_put(f, back, g->value);
        if (f->mask == 0) {
            assert_memory_equal(bytes, back, sizeof(back));
        }
    }
}

/* No two fields of a structure share bits, and none lies behind its end. */
static void fields_do_not_overlap(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        const struct layout *l = golden[i].layout;
        for (const struct field *f = l->fields; f->name; f++) {
            assert_true(f->offset + f->width <= l->bytes);
            for (const struct field *g = f + 1; g->name; g++) {
                bool masked = f->mask && g->mask && f->offset == g->offset && !(f->mask & g->mask);
                if (!masked && ranges_overlap(f->offset, f->width, g->offset, g->width)) {
                    fail_msg("%s: %s and %s overlap", l->name, f->name, g->name);
                }
            }
        }
    }
}

/* The check values of the catalogue of CRCs, RFC 1321's and FIPS 180's; the sum of 'a' and 'b' by hand. */
static void checksums_have_their_published_values(void **state)
{
    static const uint8_t digits[] = "123456789", abc[] = "abc", ab[] = "ab";
    static const uint8_t md5[16] = {0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                    0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72};
    static const uint8_t sha256[8] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
    uint8_t sum[64] = {0};

    sum_crc32c_le(digits, 9, sum);
    assert_memory_equal(sum, "\x83\x92\x06\xe3", 4); /* 0xe3069283 */
    sum_crc32_le(digits, 9, sum);
    assert_memory_equal(sum, "\x26\x39\xf4\xcb", 4); /* 0xcbf43926 */
    sum_vhd(ab, 2, sum);
    assert_memory_equal(sum, "\xff\xff\xff\x3c", 4); /* ~(0x61 + 0x62) */
    sum_md5(abc, 3, sum);
    assert_memory_equal(sum, md5, sizeof(md5));
    sum_sha256(abc, 3, sum);
    assert_memory_equal(sum, sha256, sizeof(sha256));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_lie_where_the_specifications_say),
        cmocka_unit_test(fields_do_not_overlap),
        cmocka_unit_test(checksums_have_their_published_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
