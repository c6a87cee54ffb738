/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directory of a test: the image and what stands beside it, put back to what they were between two
 * commands; what commands leave there; and who opened what. The same directory serves one test after the
 * other.
 */
#ifndef FUZZ_RUN_TESTDIR_H
#define FUZZ_RUN_TESTDIR_H

#include "fuzz/fuzz.h"

#define TESTDIR_DECOY      "../decoy/secret.raw" /* for names inside images: nobody should ever open it */
#define TESTDIR_OUT_MAX    64                    /* results that commands may leave at once */
#define TESTDIR_NAME_BYTES 80

struct testdir {
    char *path; /* absolute */
    int fd;
    int inotify_fd, dir_watch, decoy_watch;
    char image[TESTDIR_NAME_BYTES]; /* name of the image: "test.qcow2" */
    struct fuzz_image *img;
    char opened[TESTDIR_NAME_BYTES]; /* what testdir_opened found */
};

/* Make @work/test and @work/decoy. */
int testdir_init(struct testdir *d, const char *work, struct err *err);
void testdir_finish(struct testdir *d);

/* Nothing but the files of @img, as it is now. @img must not change until the next begin. */
int testdir_begin(struct testdir *d, struct fuzz_image *img, const char *ext, struct err *err);
/* Has any file of the image been written to, since it was put there? */
bool testdir_touched(const struct testdir *d);
/* Do the bytes of any file differ from the image's? */
bool testdir_modified(const struct testdir *d);
/* Put back what was touched, and remove every other file but those called out-*. */
int testdir_restore(struct testdir *d, struct err *err);
void testdir_remove_outs(struct testdir *d);
/* Forget what was opened so far. */
void testdir_forget_opens(struct testdir *d);
/* The file beside the image, or the decoy, that was opened since; NULL: none. */
const char *testdir_opened(struct testdir *d);
/* Bytes allocated, of everything (for executor.disk_usage). */
uint64_t testdir_usage(void *testdir);
/* The same bytes in both files, whatever is a hole in one, zeroes at the end of the longer one not counted.
 * *@ret_at: the first difference. */
bool testdir_same_bytes(const struct testdir *d, const char *a, const char *b, uint64_t *ret_at);
/* Copy a file of the directory, holes as holes. */
int testdir_copy(const struct testdir *d, const char *name, const char *to, struct err *err);

#endif
