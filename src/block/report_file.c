/* SPDX-License-Identifier: BSD-2-Clause */
/* Which files a report may be appended to, and how. */
#include "block/report_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "block/own.h"

/* Every line that we write begins with a brace. What begins otherwise, a disk image most likely, is not ours
 * to append to. */
static bool holds_reports(const char *path, const struct stat *st)
{
    if (!S_ISREG(st->st_mode) || st->st_size == 0) {
        return true;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char first = '{'; /* what may be written and not read is believed */
    if (fd >= 0) {
        ssize_t n = pread(fd, &first, 1, 0);
        (void)n;
        close(fd);
    }
    return first == '{';
}

int report_file_open(struct graph *g, const char *path, int *ret_fd, struct err *err)
{
    struct stat st;
    int r = graph_refuse_own(g, path, err);

    if (r < 0) {
        return r;
    }
    /* Not blocking: the open of a pipe that nobody reads would wait. Its writes may. */
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (fd < 0 && errno == ENXIO) {
        return err_set(err, -ENXIO, "cannot open the report file '%s': it is a pipe that nobody reads", path);
    }
    if (fd < 0 || fstat(fd, &st) < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0) {
        return err_set_errno(err, -errno, "cannot open the report file '%s'", path);
    }
    if (S_ISBLK(st.st_mode) || !holds_reports(path, &st)) {
        return err_set(err, -EINVAL,
                       "the report file '%s' holds something else: expected a new file, or one of reports",
                       path);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* A line that could not be written whole is taken back. */
static int append_line(int fd, const char *line, size_t len)
{
    struct stat before;
    bool file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    ssize_t written;

    do {
        written = write(fd, line, len);
    } while (written < 0 && errno == EINTR);
    if (written == (ssize_t)len) {
        return 0;
    }
    int r = written < 0 ? -errno : -ENOSPC;
    return written > 0 && file && ftruncate(fd, before.st_size) < 0 ? -errno : r;
}

int report_file_append(int fd, const json_t *object)
{
    AUTO_FREE char *text = object ? json_text(object) : NULL;
    AUTO_FREE char *line = NULL;
    int len = text ? asprintf(&line, "%s\n", text) : -1;

    if (len < 0) {
        line = NULL;
        return -ENOMEM;
    }
    return append_line(fd, line, (size_t)len);
}
