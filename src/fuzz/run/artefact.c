/* SPDX-License-Identifier: BSD-2-Clause */
/* What is kept of a finding: the image before and after, what the program said, the record, and a script. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "fuzz/run/campaign.h"

#define OPEN_DIRS 16

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void artefact_remove(const char *dir)
{
    nftw(dir, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

char *artefact_dir(const char *out, const char *oracle, const char *id)
{
    char *path = NULL;
    return asprintf(&path, "%s/findings/%s-%s", out, oracle, id) < 0 ? NULL : path;
}

static int write_text(const char *dir, const char *name, const char *text, mode_t mode, struct err *err)
{
    AUTO_FREE char *path = NULL;

    if (!text || asprintf(&path, "%s/%s", dir, name) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    size_t len = strlen(text);
    return fd >= 0 && write(fd, text, len) == (ssize_t)len ? 0
                                                           : err_set_errno(err, -errno, "write '%s'", path);
}

static int write_images(const struct test *t, const char *dir, struct err *err)
{
    AUTO_FREE char *before = NULL, *image = NULL, *after = NULL, *changed = NULL;

    if (asprintf(&before, "%s/before", dir) < 0 || asprintf(&image, "%s/%s", before, t->dir->image) < 0 ||
        asprintf(&after, "%s/after", dir) < 0 || asprintf(&changed, "%s/%s", after, t->dir->image) < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    if (mkdir(dir, 0777) < 0 || mkdir(before, 0777) < 0) {
        return err_set_errno(err, -errno, "make '%s'", before);
    }
    int r = fuzz_image_write(t->img, image, err);
    if (r == 0 && testdir_modified(t->dir)) {
        r = mkdir(after, 0777) < 0 ? err_set_errno(err, -errno, "make '%s'", after)
                                   : testdir_copy(t->dir, t->dir->image, changed, err);
    }
    return r;
}

int artefact_write(const struct test *t, const struct test_hit *hit, const char *dir, struct err *err)
{
    AUTO_FREE char *script = NULL;
    AUTO_JSON json_t *record = fuzz_image_record(t->img, false);
    AUTO_FREE char *text = record ? json_dumps(record, JSON_INDENT(1)) : NULL;
    const char *asan = getenv("ASAN_OPTIONS"), *ubsan = getenv("UBSAN_OPTIONS");

    if (asprintf(&script,
                 "#!/bin/sh\n# %s\n# test seed %llu; the image is made again by `blkproof fuzz replay`\n"
                 "cd \"$(dirname \"$0\")/before\" && ASAN_OPTIONS='%s' UBSAN_OPTIONS='%s' LC_ALL=C %s\n",
                 hit->bucket.title, (unsigned long long)t->seed, asan ? asan : "", ubsan ? ubsan : "",
                 hit->shell ? hit->shell : "false") < 0) {
        return err_set(err, -ENOMEM, "no memory");
    }
    int r = write_images(t, dir, err);
    r = r < 0 ? r : write_text(dir, "output.txt", hit->output ? hit->output : "", 0666, err);
    r = r < 0 || !text ? r : write_text(dir, "record.json", text, 0666, err);
    return r < 0 ? r : write_text(dir, "command.sh", script, 0777, err);
}
