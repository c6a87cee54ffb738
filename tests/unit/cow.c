/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The COW format against headers made by hand, of both byte orders and every version, from the offsets
 * that Linux defines (arch/um/drivers/cow_user.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/json.h"
#include "drivers/cow/cow.h"

static char dir[] = "/tmp/blkproof-cow-XXXXXX";
static char image[64], backing[64];
static struct graph g;

#define SECTORS 64u
#define BYTES   (SECTORS * 512u)

/* What is in a sector of the backing file, and of the COW file. */
static void fill(uint8_t *buf, unsigned sector, char who)
{
    for (unsigned i = 0; i < 512; i++) {
        buf[i] = (uint8_t)(who + sector * 3 + i);
    }
}

static void write_file(const char *path, const void *buf, size_t len, uint64_t at)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    assert_true(fd >= 0 && pwrite(fd, buf, len, (off_t)at) == (ssize_t)len);
    close(fd);
}

static uint64_t make_backing(void)
{
    uint8_t buf[512];
    struct stat st;

    for (unsigned i = 0; i < SECTORS; i++) {
        fill(buf, i, 'b');
        write_file(backing, buf, 512, i * 512);
    }
    assert_int_equal(stat(backing, &st), 0);
    return (uint64_t)st.st_mtime;
}

static void put_order(uint8_t *p, uint64_t v, unsigned width, bool big)
{
    for (unsigned i = 0; i < width; i++) {
        p[big ? width - 1 - i : i] = (uint8_t)(v >> (8 * i));
    }
}

struct version {
    const char *what;
    bool big;
    unsigned number, path_at, mtime_at, size_at, sector_at, align_at, header;
    uint64_t bitmap_at, data_at; /* of a disk of 64 sectors */
};

/* v1: 280 + 8 bytes of bitmap = 288, up to 512. v2: 4120 + 8 = 4128, up to 4608. v3 with align 4096:
 * bitmap at 8192, data at 12288; with align 512: bitmap 4608, data 5120 (broken: 4136 likewise). */
static const struct version versions[] = {
    {"v1 little-endian", false, 1, 8, 264, 268, 276, 0, 280, 280, 512},
    {"v1 big-endian", true, 1, 8, 264, 268, 276, 0, 280, 280, 512},
    {"v2", true, 2, 8, 4104, 4108, 4116, 0, 4120, 4120, 4608},
    {"v3", true, 3, 32, 8, 12, 20, 24, 4128, 8192, 12288},
    {"v3 broken", true, 3, 36, 8, 16, 24, 28, 4136, 8192, 12288},
};

/* Sectors 1, 9 and 63 are in the COW file. */
static void make_image(const struct version *v, uint64_t mtime)
{
    uint8_t header[8192] = {0}, bitmap[8] = {0x02, 0x02, 0, 0, 0, 0, 0, 0x80}, buf[512];
    static const unsigned present[] = {1, 9, 63};

    unlink(image);
    put_order(header, 0x4f4f4f4d, 4, v->big);
    put_order(header + 4, v->number, 4, v->big);
    memcpy(header + v->path_at, backing, strlen(backing));
    put_order(header + v->mtime_at, mtime, 4, v->big);
    put_order(header + v->size_at, BYTES, 8, v->big);
    put_order(header + v->sector_at, 512, 4, v->big);
    if (v->align_at) {
        put_order(header + v->align_at, 4096, 4, v->big);
    }
    write_file(image, header, v->header, 0);
    write_file(image, bitmap, 8, v->bitmap_at);
    for (unsigned i = 0; i < 3; i++) {
        fill(buf, present[i], 'c');
        write_file(image, buf, 512, v->data_at + present[i] * 512);
    }
    write_file(image, "", 1, v->data_at + BYTES + 511);
}

static int run(int (*fn)(void *), void *arg)
{
    struct loop *loop;

    assert_int_equal(loop_create(&(struct loop_config){.engine = "threads", .seed = 1}, &loop, NULL), 0);
    graph_init(&g);
    int r = loop_run(loop, fn, arg);
    assert_true(list_empty(&g.nodes));
    loop_destroy(loop);
    return r;
}

static co_fn void assert_sector(struct node *n, unsigned sector, char who)
{
    uint8_t want[512], have[512];

    fill(want, sector, who);
    assert_int_equal(node_read(n, sector * 512, have, 512), 0);
    assert_memory_equal(want, have, 512);
}

static co_fn struct node *open_image(unsigned flags)
{
    struct node *n = NULL;
    struct err err = {0};

    if (node_open_name(&g, image, NULL, flags, &n, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(node_driver_name(n), "cow");
    return n;
}

static int versions_main(void *arg)
{
    uint64_t mtime = make_backing();

    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        const struct version *v = &versions[i];
        uint8_t buf[512], byte;
        print_message("%s\n", v->what);
        make_image(v, mtime);
        struct node *n = open_image(OPEN_WRITE);
        assert_int_equal(node_size(n), BYTES);
        for (unsigned s = 0; s < SECTORS; s++) {
            assert_sector(n, s, s == 1 || s == 9 || s == 63 ? 'c' : 'b');
        }
        fill(buf, 12, 'n');
        assert_int_equal(node_write(n, 12 * 512, buf, 512, 0), 0);
        assert_int_equal(node_write(n, 20 * 512 + 7, "part", 4, 0), 0); /* the rest of sector 20 is copied */
        assert_int_equal(node_zero(n, 30 * 512, 512, 0), 0);
        node_unref(n);

        /* Bits 12, 20 and 30: bytes 1, 2 and 3 of the bitmap; sectors in their own places. */
        static const uint8_t expected[] = {0x02, 0x12, 0x10, 0x40, 0, 0, 0, 0x80};
        uint8_t on_disk[8];
        int fd = open(image, O_RDONLY);
        assert_int_equal(pread(fd, on_disk, 8, (off_t)v->bitmap_at), 8);
        assert_memory_equal(on_disk, expected, 8);
        assert_int_equal(pread(fd, &byte, 1, (off_t)(v->data_at + 20 * 512 + 8)), 1);
        assert_int_equal(byte, 'a');
        close(fd);

        n = open_image(0);
        assert_sector(n, 12, 'n');
        assert_sector(n, 13, 'b');
        assert_int_equal(node_read(n, 30 * 512 + 100, &byte, 1), 0);
        assert_int_equal(byte, 0);
        fill(buf, 20, 'b');
        memcpy(buf + 7, "part", 4);
        uint8_t have[512];
        assert_int_equal(node_read(n, 20 * 512, have, 512), 0);
        assert_memory_equal(buf, have, 512);
        node_unref(n);
    }
    return 0;
}

static void every_version_reads_and_writes_in_place(void **state)
{
    run(versions_main, NULL);
}

/* ---- creating ---- */

static int create_main(void *arg)
{
    uint64_t mtime = make_backing();
    struct cow_create c = {.backing_file = backing};
    uint8_t header[4128];
    struct stat st;

    unlink(image);
    assert_int_equal(cow_create(&g, image, &c, 0, NULL), 0);
    int fd = open(image, O_RDONLY);
    assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
    assert_memory_equal(header, "OOOM\0\0\0\3", 8); /* 0x4f4f4f4d is "OOOM" */
    assert_int_equal(get_be32(header + 8), (uint32_t)mtime);
    assert_int_equal(get_be64(header + 12), BYTES);
    assert_int_equal(get_be32(header + 20), 512);
    assert_int_equal(get_be32(header + 24), 4096);
    assert_int_equal(get_be32(header + 28), 0);
    assert_string_equal((char *)header + 32, backing);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 12288 + BYTES);
    close(fd);
    struct node *n = open_image(OPEN_WRITE);
    assert_sector(n, 5, 'b');
    node_unref(n);
    return 0;
}

static void new_files_are_version_3(void **state)
{
    run(create_main, NULL);
}

/* ---- refusals ---- */

static co_fn void assert_refused(const char *says, unsigned flags)
{
    struct node *n = NULL;
    struct err err = {0};

    assert_true(node_open_name(&g, image, "cow", flags, &n, &err) < 0);
    if (!strstr(err.text, says)) {
        fail_msg("'%s' does not say '%s'", err.text, says);
    }
}

static int refuse_main(void *arg)
{
    uint64_t mtime = make_backing();
    uint8_t word[8];
    struct node *n = NULL;

    make_image(&versions[3], mtime + 1);
    assert_refused("was changed at", 0);
    char text[256];
    snprintf(text, sizeof(text),
             "json:{\"driver\":\"cow\",\"check-backing\":false,\"file\":{\"driver\":\"file\",\"filename\":\"%"
             "s\"}}",
             image);
    assert_int_equal(node_open_name(&g, text, NULL, 0, &n, NULL), 0);
    node_unref(n);

    make_image(&versions[3], mtime);
    put_be64(word, BYTES + 512);
    write_file(image, word, 8, 12);
    assert_refused("the COW header says 33280", 0);
    put_be64(word, UINT64_MAX);
    write_file(image, word, 8, 12);
    assert_refused("the size 18446744073709551615 is out of range", 0);

    make_image(&versions[3], mtime);
    write_file(image, "\0\0\0\0", 4, 24);
    assert_refused("the alignment 0 is not", 0);
    make_image(&versions[3], mtime);
    write_file(image, "\0\0\1\0", 4, 20);
    assert_refused("sector size 256", 0);
    make_image(&versions[3], mtime);
    write_file(image, "\0\0\0\1", 4, 28);
    assert_refused("the format 1 is not known", 0);
    make_image(&versions[3], mtime);
    write_file(image, "\0\0\0\4", 4, 4);
    assert_refused("COW version 4: expected 1, 2 or 3", 0);
    make_image(&versions[3], mtime);
    write_file(image, "nbd:localhost:1", 16, 32);
    assert_refused("only plain paths are followed", 0);
    make_image(&versions[3], mtime);
    assert_int_equal(truncate(image, 4000), 0);
    assert_refused("ends within its COW header", 0);
    assert_int_equal(truncate(image, 0), 0);
    assert_refused("too short for a header", 0);
    return 0;
}

static void damaged_headers_get_one_clear_sentence(void **state)
{
    run(refuse_main, NULL);
}

/* QEMU wrote C structs: path of 1024 bytes, then mtime, size and sectorsize where the compiler put them. */
static int qemu_main(void *arg)
{
    static const struct {
        unsigned size_at, sector_at;
        const char *who;
    } builds[] = {{1036, 1044, "QEMU on a 32-bit host"}, {1040, 1048, "QEMU on a 64-bit host"}};

    for (unsigned i = 0; i < 2; i++) {
        uint8_t header[8192] = {0};
        put_be32(header, 0x4f4f4f4d);
        put_be32(header + 4, 2);
        memcpy(header + 8, backing, strlen(backing));
        put_be64(header + builds[i].size_at, BYTES);
        put_be32(header + builds[i].sector_at, 512);
        unlink(image);
        write_file(image, header, sizeof(header), 0);
        assert_refused(builds[i].who, 0);
    }
    return 0;
}

static void what_qemu_wrote_is_called_by_its_name(void **state)
{
    run(qemu_main, NULL);
}

/* 513 sectors need 65 bytes of bitmap; v2 has (513*512 + 511) / 4096 = 64: sector 512 has no bit. */
static int short_bitmap_main(void *arg)
{
    struct version v = versions[2];
    uint8_t header[8192] = {0}, buf[512];
    uint64_t bytes = 513 * 512;

    assert_int_equal(truncate(backing, (off_t)bytes), 0);
    struct stat st;
    assert_int_equal(stat(backing, &st), 0);
    put_be32(header, 0x4f4f4f4d);
    put_be32(header + 4, 2);
    memcpy(header + 8, backing, strlen(backing));
    put_be32(header + v.mtime_at, (uint32_t)st.st_mtime);
    put_be64(header + v.size_at, bytes);
    put_be32(header + v.sector_at, 512);
    unlink(image);
    write_file(image, header, v.header, 0);
    write_file(image, "", 1, 4608 + bytes - 1);
    struct node *n = open_image(OPEN_WRITE);
    memset(buf, 7, sizeof(buf));
    assert_int_equal(node_write(n, 511 * 512, buf, 512, 0), 0);
    assert_int_equal(node_write(n, 512 * 512, buf, 512, 0), -ENOTSUP);
    assert_int_equal(node_read(n, 512 * 512, buf, 512), 0);
    assert_int_equal(buf[0], 0);
    node_unref(n);
    return 0;
}

static void sectors_without_a_bit_are_never_written(void **state)
{
    run(short_bitmap_main, NULL);
}

static int setup(void **state)
{
    if (!mkdtemp(dir)) {
        return -1;
    }
    snprintf(image, sizeof(image), "%s/disk.cow", dir);
    snprintf(backing, sizeof(backing), "%s/base.img", dir);
    return 0;
}

static int teardown(void **state)
{
    unlink(image);
    unlink(backing);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_reads_and_writes_in_place),
        cmocka_unit_test(new_files_are_version_3),
        cmocka_unit_test(damaged_headers_get_one_clear_sentence),
        cmocka_unit_test(what_qemu_wrote_is_called_by_its_name),
        cmocka_unit_test(sectors_without_a_bit_are_never_written),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
