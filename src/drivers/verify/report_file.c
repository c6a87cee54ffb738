/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where reports go: lines for people through graph->notice, one JSON object per mismatch to monitors and into
 * the report file, each by a single write at its end, so that the file is whole up to its last line
 * whatever becomes of the process.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "block/own.h"
#include "drivers/verify/internal.h"

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

int verify_report_open(struct node *n, const char *path, struct err *err)
{
    struct verify *v = n->state;
    struct stat st;
    int r = graph_refuse_own(n->graph, path, err);

    if (r < 0) {
        return r;
    }
    /* Not blocking: the open of a pipe that nobody reads would wait. Its writes may. */
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    r = fd < 0 ? -errno : 0;
    if (r == -ENXIO) {
        return err_set(err, r, "cannot open the report file '%s': it is a pipe that nobody reads", path);
    }
    if (r == 0 && (fstat(fd, &st) < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0)) {
        r = -errno;
    }
    if (r < 0) {
        err_set_errno(err, r, "cannot open the report file '%s'", path);
    } else if (S_ISBLK(st.st_mode) || !holds_reports(path, &st)) {
        r = err_set(err, -EINVAL,
                    "the report file '%s' holds something else: expected a new file, or one of reports",
                    path);
    }
    if (r < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    v->report_fd = fd;
    return 0;
}

void verify_report_close(struct verify *v)
{
    if (v->report_fd >= 0) {
        close(v->report_fd);
        v->report_fd = -1;
    }
}

void verify_notice(struct node *n, enum notice_kind kind, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (!n->graph->notice || (n->graph->standin && kind == NOTICE_DETAIL)) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n->graph->notice(n->graph, kind, text);
}

/* A line that could not be written whole is taken back. */
static void append_line(struct node *n, int fd, const char *line, size_t len)
{
    struct stat before;
    bool file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    ssize_t written;

    do {
        written = write(fd, line, len);
    } while (written < 0 && errno == EINTR);
    if (written == (ssize_t)len) {
        return;
    }
    int rc = written < 0 ? -errno : -ENOSPC;
    if (written > 0 && file && ftruncate(fd, before.st_size) < 0) {
        rc = -errno;
    }
    verify_notice(n, NOTICE_WARNING, "blkverify: cannot write to the report file: %s", err_name(rc));
}

static void append_json(struct node *n, json_t *object)
{
    const struct verify *v = n->state;
    AUTO_FREE char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    AUTO_FREE char *line = NULL;
    int len = text ? asprintf(&line, "%s\n", text) : -1;

    if (len < 0) {
        line = NULL;
        verify_notice(n, NOTICE_WARNING, "blkverify: no memory for the report");
        return;
    }
    append_line(n, v->report_fd, line, (size_t)len);
}

/* To the report file and to monitors. */
void verify_publish(struct node *n, json_t *object)
{
    const struct verify *v = n->state;

    if (v->report_fd >= 0) {
        append_json(n, object);
    }
    if (n->graph->event) { /* where nodes go by this member */
        json_object_set_new(object, "node-name", json_string(node_name(n)));
    }
    graph_event(n->graph, "VERIFY_MISMATCH", object);
}
