/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * While a file exists. The kernel tells what happens in its directory (inotify), and that is asked without
 * waiting when a request comes: a file that was made before the request was sent is seen by it, and no
 * look-up of a path ever holds the loop up.
 */
#include <stdio.h>
#include <sys/inotify.h>

#include "drivers/fault/member.h"

#define SEEN                                                                                                 \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct fault_file {
    int fd;
    bool exists;
    const char *name; /* in the directory: the end of path */
    char path[];
};

void fault_file_free(struct fault_file *f)
{
    if (f) {
        close(f->fd);
        free(f);
    }
}

static int watch_directory(const struct fault_file *f)
{
    char *dir = strndup(f->path, (size_t)(f->name - f->path));

    if (!dir) {
        return -ENOMEM;
    }
    int r = inotify_add_watch(f->fd, *dir ? dir : ".", SEEN) < 0 ? -errno : 0;
    free(dir);
    return r;
}

FAULT_PARSE(fault_parse_while_file)
{
    const char *path = json_string_value(v), *slash = path ? strrchr(path, '/') : NULL;

    if (!path || !*path || (slash && !slash[1])) {
        return err_set(err, -EINVAL, "while-file: expected the path of a file");
    }
    struct fault_file *f = malloc(sizeof(*f) + strlen(path) + 1);
    if (!f) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    strcpy(f->path, path);
    f->name = slash ? f->path + (slash - path) + 1 : f->path;
    f->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int r = f->fd < 0 ? -errno : watch_directory(f);
    if (r < 0) {
        err_set_errno(err, r, "while-file: the directory of '%s' cannot be watched", path);
        if (f->fd >= 0) {
            close(f->fd);
        }
        free(f);
        return r;
    }
    f->exists = access(path, F_OK) == 0; /* behind the watch: nothing is missed */
    rule->while_file = f;
    return 0;
}

static void take_event(struct fault_file *f, const struct inotify_event *event)
{
    if (event->mask & (IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        f->exists = access(f->path, F_OK) == 0; /* rare: the queue is lost, or the directory */
    } else if (event->len > 0 && strcmp(event->name, f->name) == 0) {
        f->exists = (event->mask & (IN_CREATE | IN_MOVED_TO)) != 0;
    }
}

FAULT_ASK(fault_file_holds)
{
    struct fault_file *f = rule->while_file;
    _Alignas(struct inotify_event) char buf[4096];
    ssize_t n;

    while ((n = read(f->fd, buf, sizeof(buf))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(buf + at);
            take_event(f, event);
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
    return f->exists;
}
