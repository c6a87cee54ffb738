/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small reader of QED images with one bug for each oracle of `blkproof fuzz run`, each behind a field of
 * its own that no valid image has. tests/io/fuzz-planted.bats expects every one of them to be found, and
 * nothing else.
 *
 *     planted info|check|read|repair IMAGE      planted convert|dump IMAGE OUT
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x00444551u

struct header {
    uint32_t magic, cluster_size, table_size, header_size;
    uint64_t features, compat_features, autoclear_features, l1_table_offset, image_size;
    uint32_t backing_filename_offset, backing_filename_size;
};

static struct header h;
static int fd;

static void die(const char *what)
{
    fprintf(stderr, "planted: %s\n", what);
    exit(1);
}

/* signal: table_size is used without a look at it */
__attribute__((noinline)) static void parse_tables(void)
{
    if (h.table_size > 16) {
        abort();
    }
}

/* sanitizer: header_size is the length of a copy */
__attribute__((noinline)) static void parse_header_clusters(void)
{
#if defined(__SANITIZE_ADDRESS__)
    if (h.header_size > 64) {
        volatile size_t len = 64;
        volatile char *copy = malloc(len);
        copy[len + h.header_size % 8] = 1;
        free((void *)copy);
    }
#endif
}

/* timeout: a loop that waits for unknown bits to be cleared; valid images have bit 0 */
static void clear_features(void)
{
    while (*(volatile uint64_t *)&h.autoclear_features > 1) {
    }
}

/* memory: a table for every cluster of the disk */
static void make_table(void)
{
    if (h.image_size > (UINT64_C(1) << 44)) {
        for (size_t i = 0; i < 4096; i++) {
            char *p = malloc(1 << 20);
            if (p) {
                memset(p, 1, 1 << 20);
            }
        }
    }
}

/* output: a line for every feature, again and again */
static void print_features(void)
{
    for (int i = 0; h.features > 7 && i < 200000; i++) {
        printf("unknown feature %d\n", i);
    }
}

/* disk: logs an entry of the L1 table that is not aligned, and logs, and logs. A table that lies somewhere
 * else has more than one of those. */
static void log_entries(void)
{
    static char block[1 << 16];
    uint64_t entry[64] = {0};
    unsigned bad = 0;

    (void)!pread(fd, entry, sizeof(entry), (off_t)h.l1_table_offset);
    for (size_t i = 0; i < sizeof(entry) / sizeof(entry[0]); i++) {
        bad += entry[i] % 512 > 1;
    }
    int log = bad == 1 ? open("log", O_WRONLY | O_CREAT, 0600) : -1;
    memset(block, 1, sizeof(block));
    for (int i = 0; log >= 0 && i < 4096; i++) {
        (void)!write(log, block, sizeof(block));
    }
}

/* escape: opens a backing file that is not in the image */
static void open_backing(void)
{
    if ((off_t)h.backing_filename_offset > lseek(fd, 0, SEEK_END)) {
        int backing = open("../decoy/secret.raw", O_RDONLY);
        if (backing >= 0) {
            close(backing);
        }
    }
}

/* modified: writes to what it should only read */
static void mend_magic(const char *image)
{
    int w = h.magic != MAGIC ? open(image, O_WRONLY) : -1;
    if (w >= 0) {
        (void)!pwrite(w, "QED", 4, 0);
        close(w);
        die("not a QED image");
    }
}

/* check-read: the check does not look at the cluster size */
static void read_all(void)
{
    if (h.cluster_size == 0 || (h.cluster_size & (h.cluster_size - 1))) {
        die("a cluster size that is no power of two");
    }
}

/* differential: one of the two readers believes the length of the name */
static void convert(const char *out, int dump)
{
    FILE *f = fopen(out, "w");
    if (!f) {
        die("cannot write");
    }
    fputs(dump && h.backing_filename_size > 1023 ? "other data" : "data", f);
    fclose(f);
}

/* repair: not idempotent */
static void repair(const char *image)
{
    int w = h.l1_table_offset % 512 ? open(image, O_RDWR) : -1;
    unsigned char byte;
    if (w >= 0 && pread(w, &byte, 1, 100) == 1) {
        byte++;
        (void)!pwrite(w, &byte, 1, 100);
        close(w);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3 || (fd = open(argv[2], O_RDONLY)) < 0 || pread(fd, &h, sizeof(h), 0) != sizeof(h)) {
        die("cannot read");
    }
    const char *verb = argv[1];
    if (strcmp(verb, "info") == 0) {
        mend_magic(argv[2]);
        parse_tables();
        parse_header_clusters();
        open_backing();
        clear_features();
        make_table();
        print_features();
        log_entries();
    } else if (strcmp(verb, "check") == 0) {
        return 0;
    } else if (strcmp(verb, "read") == 0) {
        read_all();
    } else if (strcmp(verb, "repair") == 0) {
        repair(argv[2]);
    } else if (argc > 3) {
        convert(argv[3], strcmp(verb, "dump") == 0);
    }
    return 0;
}
