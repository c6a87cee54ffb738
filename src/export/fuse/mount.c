/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mounting and unmounting. All of it may block, on the mount point's own file system or on the program
 * fusermount3, which libfuse starts for users that may not mount: so it runs on a worker thread.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "block/driver.h"
#include "export/fuse/internal.h"

/* ---- what libfuse has to say ---- */

/* It tells the cause of a failure to a log function, which gets no argument of ours. */
static _Thread_local struct err *log_sink;

static void take_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
    if (log_sink) {
        vsnprintf(log_sink->text, sizeof(log_sink->text), fmt, ap);
        log_sink->text[strcspn(log_sink->text, "\n")] = '\0';
    }
}

/* ---- what is mounted ---- */

struct mounted {
    dev_t dev;
    char type[64];
};

/* Paths there have space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; out++) {
        unsigned c;
        if (in[0] == '\\' && sscanf(in + 1, "%3o", &c) == 1) {
            *out = (char)c;
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

/* What is on top at @path, an absolute one. */
static bool find_mounted(const char *path, struct mounted *ret_mounted)
{
    AUTO_FREE char *line = NULL;
    size_t room = 0;
    bool found = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    while (f && getline(&line, &room, f) > 0) {
        char place[PATH_MAX], type[64];
        unsigned major_no, minor_no;
        const char *rest = strstr(line, " - ");
        if (rest && sscanf(line, "%*d %*d %u:%u %*s %4095s", &major_no, &minor_no, place) == 3 &&
            sscanf(rest, " - %63s", type) == 1) {
            unescape(place);
            if (strcmp(place, path) == 0) {
                ret_mounted->dev = makedev(major_no, minor_no);
                strcpy(ret_mounted->type, type);
                found = true;
            }
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

/* ---- mounting ---- */

struct mount_call {
    struct fuse_export *e;
    struct err *err;
};

/* The mount of a server that has died answers everything with ENOTCONN. */
static int remove_dead(const char *path, struct err *err)
{
    struct mounted m;

    if (!find_mounted(path, &m) || strcmp(m.type, "fuse." FUSE_TYPE) != 0 ||
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
        return err_set(err, -ENOTCONN,
                       "cannot export at '%s': a FUSE file system whose server has died is mounted there "
                       "(fusermount3 -u '%s' removes it)",
                       path, path);
    }
    return 0;
}

static int check_mountpoint(const char *path, struct err *err)
{
    struct stat st;
    int rc = stat(path, &st) < 0 ? -errno : 0;

    if (rc == -ENOTCONN && (rc = remove_dead(path, err)) == 0) {
        rc = stat(path, &st) < 0 ? -errno : 0;
    }
    if (rc == -ENOENT) {
        return err_set(err, rc, "cannot export at '%s': there is no such file (an empty one will do)", path);
    }
    if (rc < 0) {
        return err && err->code == rc ? rc : err_set_errno(err, rc, "cannot export at '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
                       "cannot export at '%s': it is %s, and a disk is mounted on a regular file", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    }
    return 0;
}

/* Set e->path, and see whether it can be used. */
static int prepare_here(void *arg)
{
    struct mount_call *c = arg;
    struct mounted m;

    c->e->path = realpath(c->e->config.mountpoint, NULL);
    const char *path = c->e->path ? c->e->path : c->e->config.mountpoint;
    int rc = check_mountpoint(path, c->err);
    if (rc < 0) {
        return rc;
    }
    if (!c->e->path) {
        return err_set(c->err, -ENOMEM, "no memory to export at '%s'", path);
    }
    if (find_mounted(path, &m) && strcmp(m.type, "fuse." FUSE_TYPE) == 0) {
        return err_set(c->err, -EBUSY, "cannot export at '%s': another disk is exported there", path);
    }
    return 0;
}

static int mount_here(void *arg)
{
    struct mount_call *c = arg;
    struct fuse_export *e = c->e;
    struct err why = {0};
    struct mounted m;

    log_sink = &why;
    fuse_set_log_func(take_log);
    int rc = fuse_session_mount(e->session, e->path);
    log_sink = NULL;
    if (rc < 0) {
        return err_set(c->err, -EIO, "cannot export at '%s': %s", e->path,
                       why.text[0] ? why.text : "fusermount3 failed");
    }
    e->fd = fuse_session_fd(e->session);
    int flags = fcntl(e->fd, F_GETFL);
    if (flags < 0 || fcntl(e->fd, F_SETFL, flags | O_NONBLOCK) < 0 || !find_mounted(e->path, &m)) {
        fuse_session_unmount(e->session);
        return err_set(c->err, -EIO, "cannot export at '%s': the mount has vanished", e->path);
    }
    e->own.dev = m.dev;
    return 0;
}

int fuse_mount(struct fuse_export *e, struct err *err)
{
    struct mount_call c = {.e = e, .err = err};
    int rc = loop_work(prepare_here, &c);

    if (rc == 0) {
        rc = graph_refuse_own(e->config.node->graph, e->path, err);
    }
    return rc < 0 ? rc : loop_work(mount_here, &c);
}

/* ---- unmounting ---- */

static int unmount_here(void *arg)
{
    struct fuse_export *e = arg;
    struct mounted m;

    /* Closes the descriptor, which fails all requests that are not answered; unmounts unless the
     * connection had been ended already: by an unmounting, or by an abort, which leaves the mount. */
    fuse_session_unmount(e->session);
    if (find_mounted(e->path, &m) && m.dev == e->own.dev) {
        umount2(e->path, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    return 0;
}

void fuse_export_abandon(struct fuse_export *e)
{
    struct mounted m;

    if (e->running && find_mounted(e->path, &m) && m.dev == e->own.dev &&
        umount2(e->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
        fuse_session_unmount(e->session); /* not root: fusermount3 may. It has to be told by a child. */
    }
}

void fuse_unmount(struct fuse_export *e)
{
    loop_work(unmount_here, e);
}
