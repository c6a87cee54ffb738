/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMDK: a sparse file with its descriptor inside (monolithicSparse, over a parent perhaps), a stream of
 * compressed grains (streamOptimized), or a descriptor as a file of its own that names extents of four kinds.
 */
#include "fuzz/formats/vmdk.h"

#include <stdio.h>

#include "fuzz/formats.h"

#define NO_PARENT   UINT32_MAX
#define EXTENTS_MAX 4u
#define TEXT_MAX    2048u

/* ---- descriptors ---- */

/* What a file on top knows this one by. */
static uint32_t content_id(const struct fuzz_image *img, unsigned depth)
{
    uint8_t id[16];

    make_id(img, depth, 0, id);
    return get_le32(id) & INT32_MAX;
}

uint64_t vmdk_put_descriptor(struct fuzz_image *img, uint64_t offset, uint64_t room, const char *type,
                             const char *parent, uint64_t sectors, const char *extents)
{
    char text[TEXT_MAX], hint[160] = "";

    if (parent) {
        snprintf(hint, sizeof(hint), "parentFileNameHint=\"%s\"\n", parent);
    }
    int len = snprintf(
        text, sizeof(text),
        "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n%s\n"
        "# Extent description\n%s\n"
        "# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%llu\"\n"
        "ddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n",
        (unsigned)content_id(img, fuzz_depth(img)),
        (unsigned)(parent ? content_id(img, fuzz_depth(img) + 1) : NO_PARENT), type, hint, extents,
        (unsigned long long)(sectors / 16 / 63));
    assert(len > 0 && (size_t)len < sizeof(text) && (uint64_t)len <= room);
    memcpy(fuzz_at(img, offset, (uint64_t)len), text, (size_t)len);
    fuzz_place(img, &(struct fuzz_part){
                        .name = "descriptor", .offset = offset, .bytes = (uint64_t)len, .weight = 10});
    return (uint64_t)len;
}

/* ---- a descriptor as a file ---- */

static void build_flat(struct fuzz_image *img)
{
    uint64_t size = SECTOR_SIZE * (8 + fuzz_below(img, 4096));

    fuzz_data(img, 0, size);
    fuzz_place_bytes(img, "data", -1, 0, size);
    fuzz_guest_size(img, size);
    fuzz_guest_at(img, 0, size, 0);
}

static void build_extent_sparse(struct fuzz_image *img)
{
    vmdk_build_sparse(img, false);
}

static const struct fuzz_format flat = {.name = "vmdk-flat", .ext = "vmdk", .build = build_flat};
static const struct fuzz_format sparse = {.name = "vmdk-sparse", .ext = "vmdk", .build = build_extent_sparse};
static const struct fuzz_format cowd = {.name = "vmdk-cowd", .ext = "vmdk", .build = vmdk_build_cowd};

static const struct kind {
    const char *create_type, *extent;
    const struct fuzz_format *format;
} kinds[] = {
    {"monolithicFlat", "FLAT", &flat},           {"twoGbMaxExtentFlat", "FLAT", &flat},
    {"twoGbMaxExtentSparse", "SPARSE", &sparse}, {"vmfs", "VMFS", &flat},
    {"vmfsSparse", "VMFSSPARSE", &cowd},
};

/* Returns the sectors of the extent, and writes its line. */
static uint64_t put_extent(struct fuzz_image *img, const struct kind *k, uint64_t guest, char *line,
                           size_t room)
{
    const char *name = fuzz_beside(img, "extent", k->format);
    uint64_t sectors = fuzz_guest_size_of(img, name) / SECTOR_SIZE;
    uint64_t skip = strcmp(k->extent, "FLAT") == 0 && fuzz_below(img, 2) ? fuzz_below(img, 8) : 0;

    if (!name) {
        line[0] = '\0';
        return 0;
    }
    sectors -= skip;
    int len = snprintf(line, room, "RW %llu %s \"%s\"", (unsigned long long)sectors, k->extent, name);
    snprintf(line + len, room - (size_t)len, strcmp(k->extent, "FLAT") == 0 ? " %llu\n" : "\n",
             (unsigned long long)skip);
    fuzz_guest_from(img, guest, sectors * SECTOR_SIZE, name, skip * SECTOR_SIZE);
    return sectors;
}

static void build_descriptor(struct fuzz_image *img)
{
    const struct kind *k = &kinds[fuzz_pick(img, "create_type", 0, ARRAY_SIZE(kinds) - 1)];
    uint64_t n = fuzz_pick(img, "extents", 1, EXTENTS_MAX), sectors = 0;
    char lines[EXTENTS_MAX * 160] = "";

    for (uint64_t i = 0; i < n; i++) {
        size_t len = strlen(lines);
        sectors += put_extent(img, k, sectors * SECTOR_SIZE, lines + len, sizeof(lines) - len);
    }
    uint64_t len = vmdk_put_descriptor(img, 0, TEXT_MAX, k->create_type, NULL, sectors, lines);
    fuzz_set_size(img, len);
    fuzz_guest_size(img, sectors * SECTOR_SIZE);
}

static void build(struct fuzz_image *img)
{
    uint64_t kind = fuzz_pick(img, "type", 0, 9);

    if (kind < 5) {
        vmdk_build_sparse(img, true);
    } else if (kind < 8 || fuzz_depth(img) > 1) {
        vmdk_build_stream(img);
    } else {
        build_descriptor(img);
    }
}

/* ---- known-bad images ---- */

static void set_header(struct fuzz_image *img, const char *field, uint64_t value)
{
    fuzz_set(img, fuzz_find(img, "header", -1), 0, field, value);
}

static void capacity_huge(struct fuzz_image *img)
{
    set_header(img, "capacity", UINT64_C(0x7fffffffffffff00));
}

static void grain_size_huge(struct fuzz_image *img)
{
    set_header(img, "grain_size", UINT64_C(0xff000000000000fe));
}

static void grain_size_0(struct fuzz_image *img)
{
    set_header(img, "grain_size", 0);
}

static void grain_size_too_large(struct fuzz_image *img)
{
    set_header(img, "grain_size", 0x200001);
}

static void l2_size_huge(struct fuzz_image *img)
{
    set_header(img, "num_gtes_per_gt", UINT32_MAX);
}

static void l2_size_0(struct fuzz_image *img)
{
    set_header(img, "num_gtes_per_gt", 0);
}

static void l1_size_huge(struct fuzz_image *img)
{
    set_header(img, "capacity", UINT64_C(1) << 58);
    set_header(img, "grain_size", 1);
}

static void descriptor_huge(struct fuzz_image *img)
{
    set_header(img, "descriptor_size", UINT64_C(1) << 54);
}

static void truncated(struct fuzz_image *img)
{
    fuzz_truncate(img, 10 * KiB);
}

/* Nearly as much as two grains: the marker and the data do not fit into what was read. */
static void grain_marker_size(struct fuzz_image *img)
{
    uint64_t bytes = fuzz_get(img, fuzz_find(img, "header", -1), 0, "grain_size") * SECTOR_SIZE;

    fuzz_set(img, fuzz_find(img, "grain", 0), 0, "size", 2 * bytes);
}

static void grain_marker_size_0(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "grain", 0), 0, "size", 0);
}

static void grain_marker_size_huge(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "grain", 0), 0, "size", UINT32_MAX);
}

static void footer_at_end_again(struct fuzz_image *img)
{
    fuzz_set(img, fuzz_find(img, "footer", -1), 0, "gd_offset", VMDK_GD_AT_END);
}

static void footer_differs(struct fuzz_image *img)
{
    int f = fuzz_find(img, "footer", -1);

    fuzz_set(img, f, 0, "grain_size", fuzz_get(img, f, 0, "grain_size") * 2);
    fuzz_set(img, f, 0, "descriptor_offset", 0);
}

/* Over the line of the extent; a name too long for the place is cut off. */
static void set_extent_line(struct fuzz_image *img, const char *before, const char *after)
{
    int d = fuzz_find(img, "descriptor", -1);
    const struct fuzz_part *p = fuzz_part_of(img, d);
    const uint8_t *text = d ? fuzz_look(img, p->offset, p->bytes) : NULL;
    const uint8_t *at = text ? memmem(text, p->bytes, "RW ", 3) : NULL;
    char line[FUZZ_BYTES_MAX + 1];

    if (at) {
        uint64_t room = p->bytes - (uint64_t)(at - text);
        int len =
            snprintf(line, sizeof(line), "%s%s%s", before, after ? fuzz_decoy(img) : "", after ? after : "");
        uint64_t most = MIN((uint64_t)len, MIN(room, (uint64_t)FUZZ_BYTES_MAX));
        fuzz_set_bytes(img, d, (uint64_t)(at - text), line, (uint32_t)most);
    }
}

static void flat_elsewhere(struct fuzz_image *img)
{
    set_extent_line(img, "RW 8 FLAT \"", "\" 0\n#");
}

static void vmfs_negative(struct fuzz_image *img)
{
    set_extent_line(img, "RW 12582912 VMFS \"dummy.vmdk\" -1\n#", NULL);
}

static void extent_negative(struct fuzz_image *img)
{
    set_extent_line(img, "RW -1 FLAT \"dummy.vmdk\" 0\n#", NULL);
}

static void extent_itself(struct fuzz_image *img)
{
    set_extent_line(img, "RW 99999999999 SPARSE \".\"\n#", NULL);
}

static const struct fuzz_recipe recipes[] = {
    {"iotest-059-capacity", "a capacity of 2^63 sectors", "type=0", capacity_huge},
    {"iotest-059-grain-size", "grains of 2^64 - 2^56 sectors", "type=0", grain_size_huge},
    {"vmdk-grain-size-0", "grains of no sectors: a division by zero", "type=0", grain_size_0},
    {"iotest-059-grain-size-limit", "grains one sector larger than allowed", "type=0", grain_size_too_large},
    {"CVE-2014-0144-vmdk-l2-size", "grain tables of 2^32 - 1 entries", "type=0", l2_size_huge},
    {"iotest-059-l2-size-0", "grain tables of no entries", "type=0", l2_size_0},
    {"iotest-059-l1-size", "a grain directory larger than memory", "type=0", l1_size_huge},
    {"vmdk-descriptor-size", "a descriptor of 2^63 bytes", "type=0", descriptor_huge},
    {"iotest-059-truncated", "the file ends before the first grain", "type=0,grains=20", truncated},
    {"iotest-059-vmfs", "a VMFS extent with a negative place in its file", "type=9,create_type=3",
     vmfs_negative},
    {"iotest-059-extent-size", "an extent of -1 sectors", "type=9,create_type=0", extent_negative},
    {"vmdk-extent-itself", "an extent that is the folder", "type=9,create_type=2", extent_itself},
    {"CVE-2022-47951-flat", "a FLAT extent that is a file of the host", "type=9,create_type=0",
     flat_elsewhere},
    {"CVE-2022-47951-embedded", "a descriptor inside a sparse file with a FLAT extent", "type=0",
     flat_elsewhere},
    {"CVE-2026-2243-grain-marker", "compressed data as long as the buffer, behind its marker",
     "type=5,grains=20", grain_marker_size},
    {"vmdk-grain-marker-0", "compressed data of no bytes", "type=5,grains=20", grain_marker_size_0},
    {"vmdk-grain-marker-huge", "compressed data of 4 GiB", "type=5,grains=20", grain_marker_size_huge},
    {"vmdk-footer-at-end", "the footer, too, says that the footer tells where the directory is",
     "type=5,footer=1", footer_at_end_again},
    {"vmdk-footer-differs", "header and footer do not agree", "type=5,footer=1", footer_differs},
    {0},
};

static const struct fuzz_weight weights[] = {
    {&vmdk_header_layout, "version", 2},
    {&vmdk_header_layout, "newlines", 2},
    {&vmdk_header_layout, "num_gtes_per_gt", 3},
    {0},
};

const struct fuzz_format fuzz_vmdk = {
    .name = "vmdk",
    .ext = "vmdk",
    .summary = "VMware: monolithicSparse, streamOptimized, descriptors with flat, sparse and COWD extents",
    .backing = "vmdk",
    .build = build,
    .weights = weights,
    .recipes = recipes,
};
