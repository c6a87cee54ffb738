/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Partition tables on a raw disk: MBR with a chain of logical partitions, and GPT as UEFI (chapter 5) has it,
 * with a protective MBR and the backup at the end. All numbers are little-endian.
 */
#include "fuzz/formats.h"
#include "fuzz/formats/build.h"
#include "fuzz/formats/fields.h"

#define GPT_SIGNATURE UINT64_C(0x5452415020494645) /* "EFI PART" */

static const struct field mbr_fields[] = {
    LE("boot_code", FIELD_BYTES, 0, 440),
    LE("disk_signature", FIELD_CODE, 440, 4),
    LE("unknown", FIELD_RESERVED, 444, 2),
    LE("signature", FIELD_MAGIC, 510, 2, .min = 0xaa55),
    {0},
};
const struct layout mbr_layout = {"MBR", mbr_fields, 512, 0};

static const struct field partition_fields[] = {
    LE("status", FIELD_CODE, 0, 1, .what = "0x80: active"),
    LE("first_head", FIELD_NUMBER, 1, 1),
    LE("first_sector", FIELD_NUMBER, 2, 1),
    LE("first_cylinder", FIELD_NUMBER, 3, 1),
    LE("type", FIELD_CODE, 4, 1, .what = "0xee: GPT; 5, 0xf: logical partitions"),
    LE("last_head", FIELD_NUMBER, 5, 1),
    LE("last_sector", FIELD_NUMBER, 6, 1),
    LE("last_cylinder", FIELD_NUMBER, 7, 1),
    LE("lba", FIELD_OFFSET, 8, 4, .unit = 512,
       .what = "first sector; in a chain: from the beginning of this table or of the chain"),
    LE("sectors", FIELD_COUNT, 12, 4),
    {0},
};
const struct layout mbr_partition_layout = {"MBR partition", partition_fields, 16, 0};

static const struct field header_fields[] = {
    LE("signature", FIELD_MAGIC, 0, 8, .min = GPT_SIGNATURE, .what = "\"EFI PART\""),
    LE("revision", FIELD_CODE, 8, 4, .min = 0x10000, .max = 0x10000, .what = "1.0"),
    LE("header_size", FIELD_LENGTH, 12, 4, .min = 92, .max = 4096),
    LE("header_crc32", FIELD_CHECKSUM, 16, 4, .what = "of header_size bytes with this field zero"),
    LE("reserved", FIELD_RESERVED, 20, 4),
    LE("my_lba", FIELD_OFFSET, 24, 8, .unit = 512, .what = "of this header"),
    LE("alternate_lba", FIELD_OFFSET, 32, 8, .unit = 512, .what = "of the other header"),
    LE("first_usable_lba", FIELD_OFFSET, 40, 8, .unit = 512),
    LE("last_usable_lba", FIELD_OFFSET, 48, 8, .unit = 512),
    LE("disk_guid", FIELD_BYTES, 56, 16),
    LE("partition_entry_lba", FIELD_OFFSET, 72, 8, .unit = 512, .what = "of the partition entries"),
    LE("number_of_entries", FIELD_COUNT, 80, 4, .what = "of partition entries"),
    LE("size_of_entry", FIELD_LENGTH, 84, 4, .min = 128, .max = 4096, .what = "128 times a power of two"),
    LE("entries_crc32", FIELD_CHECKSUM, 88, 4, .what = "of all partition entries"),
    {0},
};
const struct layout gpt_header_layout = {"GPT header", header_fields, 92, 0};

static const struct field entry_fields[] = {
    LE("type_guid", FIELD_BYTES, 0, 16, .what = "zero: not in use"),
    LE("unique_guid", FIELD_BYTES, 16, 16),
    LE("first_lba", FIELD_OFFSET, 32, 8, .unit = 512),
    LE("last_lba", FIELD_OFFSET, 40, 8, .unit = 512, .what = "included"),
    LE("attributes", FIELD_FLAGS, 48, 8),
    LE("name", FIELD_BYTES, 56, 72, .what = "UTF-16"),
    {0},
};
const struct layout gpt_entry_layout = {"GPT partition entry", entry_fields, 128, 0};

#define PARTITIONS_MAX 12u
#define LOGICAL_MAX    6u
#define LBA(n)         ((uint64_t)(n)*SECTOR_SIZE)

struct disk {
    uint64_t sectors;
    uint64_t first[PARTITIONS_MAX], last[PARTITIONS_MAX]; /* sectors, both included */
    unsigned partitions;
};

/* Ranges that do not overlap, between two sectors. */
static unsigned choose_ranges(struct fuzz_image *img, uint64_t *first, uint64_t *last, unsigned n,
                              uint64_t begin, uint64_t end)
{
    unsigned count = 0;

    for (uint64_t at = begin; count < n && at < end; count++) {
        first[count] = at + fuzz_below(img, MIN(end - at, UINT64_C(64)));
        last[count] = first[count] + fuzz_below(img, (end - first[count]) / 2 + 1);
        last[count] = MIN(last[count], end - 1);
        at = last[count] + 1;
    }
    return count;
}

static void put_data(struct fuzz_image *img, const struct disk *d)
{
    for (unsigned i = 0; i < d->partitions; i++) {
        uint64_t bytes = LBA(d->last[i] - d->first[i] + 1);
        fuzz_data(img, LBA(d->first[i]), bytes);
        fuzz_place_bytes(img, "data", (int)i, LBA(d->first[i]), bytes);
    }
}

/* ---- MBR ---- */

/* Cylinder, head and sector as far as they go: the last ones stand for "too far". */
static void put_chs(struct fuzz_image *img, int part, uint32_t entry, bool last, uint64_t lba)
{
    uint64_t cylinder = lba / 63 / 255;
    bool far = cylinder > 1023;

    fuzz_put(img, part, entry, last ? "last_head" : "first_head", far ? 254 : lba / 63 % 255);
    fuzz_put(img, part, entry, last ? "last_sector" : "first_sector",
             far ? 255 : (lba % 63 + 1) | (cylinder >> 8 << 6));
    fuzz_put(img, part, entry, last ? "last_cylinder" : "first_cylinder", far ? 255 : cylinder & 0xff);
}

static void put_partition(struct fuzz_image *img, int part, uint32_t entry, unsigned type, uint64_t lba,
                          uint64_t sectors, uint64_t base)
{
    fuzz_put(img, part, entry, "type", type);
    fuzz_put(img, part, entry, "lba", lba - base);
    fuzz_put(img, part, entry, "sectors", sectors);
    put_chs(img, part, entry, false, lba);
    put_chs(img, part, entry, true, lba + sectors - 1);
}

/* An MBR, or the table of a logical partition. Returns the part of its four partitions. */
static int put_table(struct fuzz_image *img, const char *name, const char *partitions, int index, uint64_t at)
{
    fuzz_at(img, at, SECTOR_SIZE);
    int m = fuzz_place(img, &(struct fuzz_part){.name = name,
                                                .many = index >= 0,
                                                .index = index >= 0 ? (uint32_t)index : 0,
                                                .layout = &mbr_layout,
                                                .offset = at,
                                                .weight = 5});
    fuzz_put(img, m, 0, "signature", 0xaa55);
    return fuzz_place(img, &(struct fuzz_part){.name = partitions,
                                               .many = index >= 0,
                                               .index = index >= 0 ? (uint32_t)index : 0,
                                               .parent = m,
                                               .layout = &mbr_partition_layout,
                                               .offset = at + 446,
                                               .element = "entry",
                                               .count = 4,
                                               .weight = 20});
}

/* A table in front of each logical partition; it names the partition, from itself on, and the next table,
 * from the first one on. */
static void put_logical(struct fuzz_image *img, uint64_t begin, uint64_t end)
{
    uint64_t first[LOGICAL_MAX], last[LOGICAL_MAX], table[LOGICAL_MAX];
    unsigned n =
        choose_ranges(img, first, last, (unsigned)fuzz_pick(img, "logical", 1, LOGICAL_MAX), begin + 1, end);
    unsigned count = 0;

    for (unsigned i = 0; i < n; i++) { /* a table right in front, where a sector is left */
        uint64_t at = i == 0 ? begin : last[i - 1] + 1;
        if (first[i] <= at && i > 0) {
            first[i] = at + 1;
        }
        if (first[i] > last[i]) {
            break;
        }
        table[count++] = at;
    }
    for (unsigned i = 0; i < count; i++) {
        int p = put_table(img, "ebr", "ebr_partition", (int)i, LBA(table[i]));
        put_partition(img, p, 0, 0x83, first[i], last[i] - first[i] + 1, table[i]);
        if (i + 1 < count) {
            put_partition(img, p, 1, 5, table[i + 1], last[i + 1] - table[i + 1] + 1, begin);
        }
    }
}

static void build_mbr(struct fuzz_image *img, struct disk *d)
{
    bool extended = fuzz_chance(img, "extended", 60);

    d->partitions =
        choose_ranges(img, d->first, d->last, (unsigned)fuzz_pick(img, "partitions", 1, 4), 1, d->sectors);
    int p = put_table(img, "mbr", "partition", -1, 0);
    fuzz_put(img, fuzz_find(img, "mbr", -1), 0, "disk_signature", fuzz_seed(img));
    for (uint32_t i = 0; i < d->partitions; i++) {
        uint64_t sectors = d->last[i] - d->first[i] + 1;
        bool chain = extended && sectors > 64;
        put_partition(img, p, i, chain ? (fuzz_below(img, 2) ? 0xf : 5) : 0x83, d->first[i], sectors, 0);
        if (chain) {
            put_logical(img, d->first[i], d->last[i] + 1);
            extended = false;
        }
    }
    fuzz_put(img, p, 0, "status", fuzz_below(img, 2) ? 0x80 : 0);
}

/* ---- GPT ---- */

struct gpt {
    uint32_t entries, entry_bytes;
    uint64_t table_sectors, first_usable, last_usable;
};

static int put_header(struct fuzz_image *img, const struct disk *d, const struct gpt *g, bool backup)
{
    uint64_t lba = backup ? d->sectors - 1 : 1;
    uint8_t id[16];

    fuzz_at(img, LBA(lba), SECTOR_SIZE);
    int h = fuzz_place(img, &(struct fuzz_part){.name = backup ? "backup" : "header",
                                                .layout = &gpt_header_layout,
                                                .offset = LBA(lba),
                                                .weight = backup ? 5 : 20});
    fuzz_put(img, h, 0, "signature", GPT_SIGNATURE);
    fuzz_put(img, h, 0, "revision", 0x10000);
    fuzz_put(img, h, 0, "header_size", gpt_header_layout.bytes);
    fuzz_put(img, h, 0, "my_lba", lba);
    fuzz_put(img, h, 0, "alternate_lba", backup ? 1 : d->sectors - 1);
    fuzz_put(img, h, 0, "first_usable_lba", g->first_usable);
    fuzz_put(img, h, 0, "last_usable_lba", g->last_usable);
    make_id(img, 0, 0, id);
    put_bytes(img, h, 0, "disk_guid", id, sizeof(id));
    fuzz_put(img, h, 0, "partition_entry_lba", backup ? d->sectors - 1 - g->table_sectors : 2);
    fuzz_put(img, h, 0, "number_of_entries", g->entries);
    fuzz_put(img, h, 0, "size_of_entry", g->entry_bytes);
    return h;
}

static void put_entries(struct fuzz_image *img, const struct disk *d, const struct gpt *g, bool backup)
{
    static const uint8_t linux_data[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                           0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
    uint64_t at = LBA(backup ? d->sectors - 1 - g->table_sectors : 2);
    uint64_t bytes = (uint64_t)g->entries * g->entry_bytes;

    uint8_t *p = fuzz_at(img, at, bytes);
    int e = fuzz_place(img, &(struct fuzz_part){.name = backup ? "backup_entries" : "entries",
                                                .layout = &gpt_entry_layout,
                                                .offset = at,
                                                .element = "entry",
                                                .count = g->entries,
                                                .used = MAX(d->partitions, 1u),
                                                .stride_bits = g->entry_bytes * 8,
                                                .unit = SECTOR_SIZE,
                                                .weight = backup ? 3 : 20});
    for (uint32_t i = 0; i < d->partitions; i++) {
        uint8_t id[16];
        uint8_t *entry = p + i * g->entry_bytes;
        char name[] = "partition 0";
        memcpy(entry, linux_data, sizeof(linux_data));
        make_id(img, 0, 1 + i, id);
        memcpy(entry + 16, id, sizeof(id));
        name[10] = (char)('0' + i % 10);
        put_utf16(entry + 56, 72, name, FIELD_LE);
        fuzz_put(img, e, i, "first_lba", d->first[i]);
        fuzz_put(img, e, i, "last_lba", d->last[i]);
        fuzz_put(img, e, i, "attributes", i % 3 == 2 ? 4 : 0);
    }
    uint64_t header = LBA(backup ? d->sectors - 1 : 1);
    fuzz_sum(img, header + 88, 4, at, bytes, sum_crc32_le);
    fuzz_sum(img, header + 16, 4, header, gpt_header_layout.bytes, sum_crc32_le);
}

static void build_gpt(struct fuzz_image *img, struct disk *d)
{
    struct gpt g = {.entries = 128, .entry_bytes = 128};

    if (fuzz_chance(img, "other_entries", 10)) {
        g.entries = 4u << fuzz_below(img, 7);
        g.entry_bytes = 128u << fuzz_below(img, 3);
    }
    g.table_sectors = div_up((uint64_t)g.entries * g.entry_bytes, SECTOR_SIZE);
    g.first_usable = 2 + MAX(g.table_sectors, UINT64_C(32));
    g.last_usable = d->sectors - 2 - g.table_sectors;
    d->partitions = choose_ranges(img, d->first, d->last,
                                  (unsigned)MIN(fuzz_pick(img, "partitions", 0, PARTITIONS_MAX), g.entries),
                                  g.first_usable, g.last_usable + 1);
    int p = put_table(img, "mbr", "partition", -1, 0);
    put_partition(img, p, 0, 0xee, 1, d->sectors - 1, 0);
    for (int backup = 0; backup < 2; backup++) {
        put_header(img, d, &g, backup);
        put_entries(img, d, &g, backup);
    }
}

static void build(struct fuzz_image *img)
{
    struct disk d = {.sectors = 2048 + fuzz_below(img, (fuzz_limit(img) - MiB) / SECTOR_SIZE - 2048)};

    fuzz_set_size(img, LBA(d.sectors));
    fuzz_guest_size(img, LBA(d.sectors));
    fuzz_guest_at(img, 0, LBA(d.sectors), 0);
    if (fuzz_pick(img, "type", 0, 9) < 6) {
        build_gpt(img, &d);
    } else {
        build_mbr(img, &d);
    }
    put_data(img, &d);
    fuzz_set_size(img, LBA(d.sectors));
}

/* ---- known-bad images ---- */

static void set_header(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "header", -1), 0, field, value);
}

static void entries_huge(struct fuzz_image *img)
{
    set_header(img, "number_of_entries", UINT32_MAX);
}

static void entry_size_0(struct fuzz_image *img)
{
    set_header(img, "size_of_entry", 0);
}

static void entries_wrap(struct fuzz_image *img)
{
    set_header(img, "number_of_entries", UINT32_C(1) << 25);
    set_header(img, "size_of_entry", 128);
}

static void entry_size_odd(struct fuzz_image *img)
{
    set_header(img, "size_of_entry", 127);
}

static void header_size_huge(struct fuzz_image *img)
{
    set_header(img, "header_size", UINT32_MAX);
}

static void header_size_0(struct fuzz_image *img)
{
    set_header(img, "header_size", 0);
}

static void alternate_is_itself(struct fuzz_image *img)
{
    set_header(img, "alternate_lba", 1);
    fuzz_set(img, fuzz_find(img, "backup", -1), 0, "alternate_lba",
             fuzz_get(img, fuzz_find(img, "backup", -1), 0, "my_lba"));
}

static void usable_all(struct fuzz_image *img)
{
    set_header(img, "first_usable_lba", 0);
    set_header(img, "last_usable_lba", UINT64_MAX);
}

static void entry_backwards(struct fuzz_image *img)
{
    int e = fuzz_find(img, "entries", -1);

    fuzz_set(img, e, 0, "first_lba", UINT64_MAX);
    fuzz_set(img, e, 0, "last_lba", 0);
}

static void chain_loops(struct fuzz_image *img)
{
    int e = fuzz_find(img, "ebr_partition", 0);

    fuzz_set(img, e, 1, "type", 5);
    fuzz_set(img, e, 1, "lba", 0);
    fuzz_set(img, e, 1, "sectors", 64);
}

static void chain_beyond_end(struct fuzz_image *img)
{
    int e = fuzz_find(img, "ebr_partition", 0);

    fuzz_set(img, e, 1, "type", 5);
    fuzz_set(img, e, 1, "lba", UINT32_MAX);
    fuzz_set(img, e, 1, "sectors", UINT32_MAX);
}

static const struct fuzz_recipe recipes[] = {
    {"gpt-entries-huge", "2^32 - 1 partition entries", "type=0", entries_huge},
    {"gpt-entry-size-0", "partition entries of no bytes", "type=0", entry_size_0},
    {"gpt-entries-wrap", "a table of 2^32 bytes: 0 in 32 bits", "type=0", entries_wrap},
    {"gpt-entry-size", "partition entries of 127 bytes", "type=0", entry_size_odd},
    {"gpt-header-size-huge", "a header of 4 GiB, over which the checksum is", "type=0", header_size_huge},
    {"gpt-header-size-0", "a header of no bytes", "type=0", header_size_0},
    {"gpt-alternate", "each header says that it is the other one", "type=0", alternate_is_itself},
    {"gpt-usable", "all sectors are usable, and all that can be counted", "type=0", usable_all},
    {"gpt-entry-backwards", "a partition that ends before it begins", "type=0,partitions=3", entry_backwards},
    {"mbr-chain-loops", "a logical partition's table is its own successor", "type=9,extended=1,partitions=1",
     chain_loops},
    {"mbr-chain-beyond-end", "the next table lies behind the end of the disk",
     "type=9,extended=1,partitions=1", chain_beyond_end},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&gpt_header_layout, "revision", 1},
    {&mbr_layout, NULL, 2},
    {0},
};

const struct fuzz_format fuzz_gpt = {
    .name = "gpt",
    .ext = "img",
    .summary = "partition tables on a raw disk: GPT, or MBR with logical partitions",
    .backing = "raw",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
