/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What broke parsers of qcow2 once: the fields that the published reports name, with values of their kind. A
 * reader of today refuses such an image, or repairs it, in one clear sentence and bounded time and memory.
 */
#include "fuzz/qcow2/build.h"

static int header(struct fuzz_image *img)
{
    return fuzz_find(img, "header", -1);
}

static void set(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, header(img), 0, field, value);
}

static uint64_t cluster_of(struct fuzz_image *img)
{
    return UINT64_C(1) << fuzz_get(img, header(img), 0, "cluster_bits");
}

/* ---- CVE-2014-0144: numbers of the header ---- */

static void header_length(struct fuzz_image *img)
{
    static const uint32_t values[] = {0x7fffffff, 0xffffffff, 0xfffffff8, 1u << 21};

    set(img, "header_length", values[fuzz_below(img, ARRAY_SIZE(values))]);
}

static void backing_offset(struct fuzz_image *img)
{
    static const uint64_t values[] = {UINT64_C(0xffffffff00000000), UINT64_C(0x7fffffffffffffff), 0xffff, 9};

    set(img, "backing_file_offset", values[fuzz_below(img, ARRAY_SIZE(values))]);
    set(img, "backing_file_size", fuzz_below(img, 2) ? 0xffff : 1024);
}

static void reftable_offset(struct fuzz_image *img)
{
    static const uint64_t values[] = {UINT64_C(0xffffffffffff0000), UINT64_C(0x1234),
                                      UINT64_C(0x7fffffffffff0000)};

    set(img, "refcount_table_offset", values[fuzz_below(img, ARRAY_SIZE(values))]);
}

static void reftable_clusters(struct fuzz_image *img)
{
    static const uint32_t values[] = {0xffffffff, 0x7fffffff, 0x7fffff, 0x20001};

    set(img, "refcount_table_clusters", values[fuzz_below(img, ARRAY_SIZE(values))]);
}

static void snapshot_table(struct fuzz_image *img)
{
    static const uint32_t values[] = {0xffffffff, 0x7fffffff, 65537};

    set(img, "nb_snapshots", values[fuzz_below(img, ARRAY_SIZE(values))]);
    set(img, "snapshots_offset", fuzz_below(img, 2) ? UINT64_C(0x1234) : UINT64_C(0xfffffffffffff000));
}

static void l1_table(struct fuzz_image *img)
{
    static const uint32_t sizes[] = {0xffffffff, 0x7fffffff, 0x2000001, 0};

    set(img, "l1_size", sizes[fuzz_below(img, ARRAY_SIZE(sizes))]);
    if (fuzz_below(img, 2)) {
        set(img, "l1_table_offset", fuzz_below(img, 2) ? UINT64_C(0x7fffffffffff0000) : 0x1234);
    }
}

/* ---- CVE-2014-0143, -0145, -0146, -0147 ---- */

static void snapshot_l1_size(struct fuzz_image *img)
{
    static const uint32_t values[] = {0x10000000, 0x7fffffff, 0xffffffff, 0x2000001};

    fuzz_set(img, fuzz_find(img, "snapshot", 0), 0, "l1_size", values[fuzz_below(img, ARRAY_SIZE(values))]);
}

static void snapshot_l1_longer(struct fuzz_image *img)
{
    int snapshot = fuzz_find(img, "snapshot", 0);

    fuzz_set(img, snapshot, 0, "l1_size",
             fuzz_get(img, header(img), 0, "l1_size") + 1 + fuzz_below(img, 4096));
}

/* The disk is so large that growing its L1 table overflows. */
static void huge_disk(struct fuzz_image *img)
{
    set(img, "size", (UINT64_C(1) << 63) - cluster_of(img));
    set(img, "l1_size", 0x1fffffff);
}

static void cluster_index(struct fuzz_image *img)
{
    int l2 = fuzz_find(img, "l2", 0);

    fuzz_set(img, l2, (uint32_t)fuzz_below(img, 4), "offset", QCOW2_OFFSET_MASK & ~(cluster_of(img) - 1));
}

static void snapshot_error_path(struct fuzz_image *img)
{
    set(img, "nb_snapshots", 1 + fuzz_below(img, 1000));
    set(img, "snapshots_offset", round_up(fuzz_size(img), cluster_of(img)));
}

static void refcounts_of_zero(struct fuzz_image *img)
{
    int block = fuzz_find(img, "refcount_block", 0);

    for (uint32_t i = 0; i < 8; i++) {
        fuzz_set(img, block, i, "refcount", i == 0 || fuzz_below(img, 2) ? 0 : UINT64_MAX);
    }
}

/* ---- refcounts and overlaps: what assertions did not expect ---- */

static void reftable_empty(struct fuzz_image *img)
{
    set(img, "refcount_table_offset", 0);
    if (fuzz_below(img, 2)) {
        set(img, "refcount_table_clusters", 0);
    }
}

static void refblock_empty(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "refcount_table", -1), 0, "offset", 0);
}

static void refblock_outside(struct fuzz_image *img)
{
    uint64_t cluster = cluster_of(img);
    const uint64_t places[] = {UINT64_C(1) << 54, round_up(fuzz_size(img), cluster), UINT64_C(1) << 62};

    fuzz_set(img, fuzz_find(img, "refcount_table", -1), 0, "offset",
             places[fuzz_below(img, ARRAY_SIZE(places))]);
}

static void unaligned(struct fuzz_image *img)
{
    static const struct {
        const char *part;
        int index;
    } tables[] = {{"l1", -1}, {"l2", 0}, {"refcount_table", -1}};
    uint64_t i = fuzz_below(img, ARRAY_SIZE(tables));
    int part = fuzz_find(img, tables[i].part, tables[i].index);

    for (uint32_t k = 0; k < 3; k++) {
        fuzz_set(img, part, k, "offset", cluster_of(img) * (1 + fuzz_below(img, 8)) + SECTOR_SIZE);
    }
}

static void unaligned_zero(struct fuzz_image *img)
{
    int l2 = fuzz_find(img, "l2", 0);

    fuzz_set(img, l2, 0, "offset", cluster_of(img) + SECTOR_SIZE);
    fuzz_set(img, l2, 0, "zero", 1);
}

static void l2_is_l1(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "l1", -1), 0, "offset", fuzz_get(img, header(img), 0, "l1_table_offset"));
}

static void data_is_refblock(struct fuzz_image *img)
{
    int block = fuzz_find(img, "refcount_block", 0);

    fuzz_set(img, fuzz_find(img, "l2", 0), (uint32_t)fuzz_below(img, 2), "offset",
             fuzz_offset_of(img, block));
}

static void l2_of_snapshot(struct fuzz_image *img)
{
    int snapshot = fuzz_find(img, "snapshot", 0);

    fuzz_set(img, fuzz_find(img, "l1", -1), 0, "offset", fuzz_get(img, snapshot, 0, "l1_table_offset"));
}

/* ---- names: a program must not open what an image names ---- */

static void put_name(struct fuzz_image *img, const char *part, const char *name)
{
    int id = fuzz_find(img, part, -1);
    uint64_t room = id ? fuzz_part_of(img, id)->bytes : 0;
    uint8_t text[FUZZ_BYTES_MAX] = {0};

    memcpy(text, name, MIN(strlen(name), sizeof(text)));
    fuzz_set_bytes(img, id, 0, text, (uint32_t)MIN(room, sizeof(text)));
}

/* A name longer than the one that is there needs room behind it: the rest of the cluster has some. */
static void name_backing(struct fuzz_image *img, const char *name)
{
    uint64_t at = cluster_of(img) - FUZZ_BYTES_MAX;
    uint32_t len = (uint32_t)MIN(strlen(name), (size_t)FUZZ_BYTES_MAX);
    int part = fuzz_place_bytes(img, "planted_name", -1, at, FUZZ_BYTES_MAX);

    fuzz_set_bytes(img, part, 0, name, len);
    set(img, "backing_file_offset", at);
    set(img, "backing_file_size", len);
}

static void backing_decoy(struct fuzz_image *img)
{
    name_backing(img, fuzz_decoy(img));
}

static void backing_above(struct fuzz_image *img)
{
    name_backing(img, "../../../../../../../../etc/hostname");
}

static void backing_json(struct fuzz_image *img)
{
    name_backing(img, "json:{\"driver\":\"file\",\"filename\":\"/etc/hostname\"}");
}

static void data_file_decoy(struct fuzz_image *img)
{
    put_name(img, "data_name", fuzz_decoy(img));
}

static void data_file_json(struct fuzz_image *img)
{
    put_name(img, "data_name", "json:{\"file.filename\":\"/etc/hostname\"}");
}

/* ---- exhaustion ---- */

static void size_bomb(struct fuzz_image *img)
{
    static const uint64_t sizes[] = {UINT64_C(1) << 40, UINT64_C(1) << 50, UINT64_C(1) << 62};

    set(img, "size", sizes[fuzz_below(img, ARRAY_SIZE(sizes))]);
    set(img, "l1_size", 4 * MiB);
}

/* Many guest clusters decompress from one place. */
static void compressed_bomb(struct fuzz_image *img)
{
    int l2 = fuzz_find(img, "l2", 0);

    for (uint32_t i = 0; i < 64; i++) {
        fuzz_set(img, l2, i, "compressed", 1);
        fuzz_set(img, l2, i, "offset", SECTOR_SIZE * (i % 8));
    }
}

static void reftable_memory(struct fuzz_image *img)
{
    set(img, "refcount_table_clusters", (8 * MiB) >> fuzz_get(img, header(img), 0, "cluster_bits"));
}

static void l1_index(struct fuzz_image *img)
{
    set(img, "size", fuzz_get(img, header(img), 0, "size") * 1024 + cluster_of(img));
}

#define SNAPSHOT "with_snapshots=1,cluster_bits=12,data_file=0,luks=0,aes=0,refcount_16=1"
#define MAPPED   "cluster_bits=12,mapped=24,empty_disk=0,sectors=8192"
#define DATA     "v2=0,data_file=1,cluster_bits=14,data_file_raw=0"
#define PLAIN    "backing=0,cluster_bits=12"

const struct fuzz_recipe q_recipes[] = {
    {"CVE-2014-0144-header-length", "header_length reaches far behind the first cluster", "v2=0",
     header_length},
    {"CVE-2014-0144-backing", "the backing file's name lies outside, or is longer than there is room", NULL,
     backing_offset},
    {"CVE-2014-0144-refcount-table", "the refcount table's offset is unaligned or overflows", NULL,
     reftable_offset},
    {"CVE-2014-0144-refcount-clusters", "the refcount table is said to be huge", NULL, reftable_clusters},
    {"CVE-2014-0144-snapshots", "a snapshot table of billions of entries, or at an impossible place", NULL,
     snapshot_table},
    {"CVE-2014-0144-l1", "the L1 table's size or place overflows", NULL, l1_table},
    {"CVE-2014-0143-snapshot-l1",
     "a snapshot's L1 table has so many entries that its size in bytes overflows", SNAPSHOT,
     snapshot_l1_size},
    {"CVE-2014-0143-l1-growth", "a disk so large that the L1 table for it overflows", NULL, huge_disk},
    {"CVE-2014-0143-cluster-index", "an L2 entry names the last cluster that can be written down", MAPPED,
     cluster_index},
    {"CVE-2014-0145-snapshot-l1", "a snapshot's L1 table is longer than the active one", SNAPSHOT,
     snapshot_l1_longer},
    {"CVE-2014-0146-snapshots", "the snapshot table lies behind the end of the file", "cluster_bits=12",
     snapshot_error_path},
    {"CVE-2014-0147-refcounts", "clusters in use have refcounts of zero or of all ones", "cluster_bits=12",
     refcounts_of_zero},
    {"empty-refcount-table", "no refcount table", NULL, reftable_empty},
    {"empty-refcount-block", "no refcount block for the header itself", NULL, refblock_empty},
    {"refcount-block-outside", "the refcount block lies behind the end of the file", NULL, refblock_outside},
    {"unaligned-entries", "entries of a table name places within a cluster", MAPPED, unaligned},
    {"unaligned-zero-cluster", "a preallocated zero cluster begins within a cluster", MAPPED, unaligned_zero},
    {"l2-is-l1", "an L1 entry names the L1 table", MAPPED, l2_is_l1},
    {"data-is-refcount-block", "guest data lies in a refcount block", MAPPED, data_is_refblock},
    {"l2-is-snapshot-l1", "an L1 entry names the L1 table of a snapshot", SNAPSHOT, l2_of_snapshot},
    {"CVE-2015-5163-backing", "the backing file is a path of the host", PLAIN, backing_decoy},
    {"CVE-2015-1851-backing", "the backing file's name climbs out of its folder", PLAIN, backing_above},
    {"CVE-2024-4467-backing-json", "the backing file's name is a json: object", PLAIN, backing_json},
    {"CVE-2024-32498-data-file", "the data file is a path of the host", DATA, data_file_decoy},
    {"CVE-2024-4467-data-file-json", "the data file's name is a json: object", DATA, data_file_json},
    {"CVE-2015-5162-size", "a disk of terabytes in a file of kilobytes", NULL, size_bomb},
    {"CVE-2013-4463-compressed", "compressed clusters that overlap each other and the header", MAPPED,
     compressed_bomb},
    {"refcount-table-memory", "the largest refcount table that is allowed, in a file that ends before", NULL,
     reftable_memory},
    {"l1-index", "the disk is larger than what the L1 table covers", MAPPED, l1_index},
    {0},
};
