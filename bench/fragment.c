/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment MIB: for steady measurements on a virtual machine that gives its free memory back to the host
 * (free page reporting). What was given back must be fetched again, page by page, at a tenth of the speed of
 * a copy; which pages that hits is chance, and the spread hides everything else. Only runs of 2 MiB are given
 * back: this program touches MIB of memory and keeps one page of each 2 MiB, until it is killed. It says so
 * when it is ready, and then costs two thousandths of MIB.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define RUN  (2u << 20)

int main(int argc, char **argv)
{
    size_t size = argc == 2 ? (size_t)strtoull(argv[1], NULL, 10) << 20 : 0;
    char *memory =
        size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
             : MAP_FAILED;

    if (memory == MAP_FAILED) {
        fprintf(stderr, "usage: fragment MIB (of memory that is free)\n");
        return 1;
    }
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += PAGE) {
        memory[at] = 1;
    }
    for (size_t at = 0; at < size; at += RUN) {
        madvise(memory + at + PAGE, RUN - PAGE, MADV_DONTNEED);
    }
    printf("ready\n");
    fflush(stdout);
    pause();
    return 0;
}
