/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A new image gets its name when it is whole: until then it is a temporary file in the same folder.
 * Ctrl-C, SIGTERM and an early exit remove that file. A signal must find it without the loop (which
 * may be waiting for a dead server), so its name is a variable of the process: there is at most one.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

#include "block/name.h"
#include "tools/img/img.h"

static char *volatile doomed; /* to remove when the process ends */

static void remove_doomed(void)
{
    if (doomed != NULL) {
        unlink(doomed);
    }
}

static void on_signal(int signo)
{
    remove_doomed();
    signal(signo, SIG_DFL);
    raise(signo);
}

static void watch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    static bool registered;

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        struct sigaction old, sa = {.sa_handler = on_signal};
        /* nohup and scripts in the background ignore some: so do we */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(signals[i], &sa, NULL);
        }
    }
    if (!registered) {
        registered = atexit(remove_doomed) == 0;
    }
}

/* The path of the file system that @name means; NULL if it is no plain path. */
static const char *plain_path(const char *name)
{
    if (strncmp(name, "json:", 5) == 0) {
        return NULL;
    }
    const struct driver *d = name_driver(name);
    if (d == NULL) {
        size_t n = strcspn(name, ":/");
        return name[n] == ':' ? NULL : name; /* an unknown protocol is refused by who opens it */
    }
    return strncmp(name, "file:", 5) == 0 ? name + 5 : NULL;
}

/* Mode of the file to be replaced, or what a new one would get. */
static mode_t wanted_mode(const struct stat *old)
{
    if (old != NULL) {
        return old->st_mode & 0777;
    }
    mode_t mask = umask(0);
    umask(mask);
    return 0644 & ~mask;
}

static int make_temporary(const char *final, const struct stat *old, char **ret_name, struct err *err)
{
    const char *slash = strrchr(final, '/');
    int folder_len = slash ? (int)(slash - final) + 1 : 0;
    AUTO_FREE char *name = NULL;

    if (asprintf(&name, "%.*s.blkproof-XXXXXX", folder_len, final) < 0) {
        name = NULL;
        return err_set(err, -ENOMEM, "no memory for a file name");
    }
    AUTO_CLOSE int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        int r = -errno;
        if (r == -EACCES || r == -EPERM || r == -EROFS) {
            return err_set_errno(err, r, "Could not create a temporary file beside '%s'", final);
        }
        return err_set_errno(err, r, "Could not create '%s'", final);
    }
    if (fchmod(fd, wanted_mode(old)) < 0) {
        int r = err_set_errno(err, -errno, "Could not set the mode of '%s'", name);
        unlink(name);
        return r;
    }
    *ret_name = TAKE_PTR(name);
    return 0;
}

static co_fn int begin_temporary(struct img *img, const char *path, const struct stat *old,
                                 struct img_pending *p, struct err *err)
{
    p->final = old ? realpath(path, NULL) : strdup(path); /* a symbolic link stays one */
    if (p->final == NULL) {
        return err_set_errno(err, -errno, "Could not find '%s'", path);
    }
    if (old != NULL) {
        /* Nobody's image in use is replaced: its lock is ours until the new one has its name. */
        int r = node_open_name(&img->graph, path, NULL, OPEN_WRITE | OPEN_PROTOCOL, &p->guard, err);
        if (r < 0) {
            return r;
        }
    }
    int r = make_temporary(p->final, old, &p->name, err);
    if (r == 0) {
        doomed = p->name;
        watch_signals();
    }
    return r;
}

int img_pending_begin(struct img *img, const char *name, struct img_pending *ret, struct err *err)
{
    struct img_pending p = {0};
    struct stat st;
    const char *path = plain_path(name);
    bool exists = path != NULL && stat(path, &st) == 0;
    int r = 0;

    if (path != NULL && *path != '\0' && (!exists || S_ISREG(st.st_mode))) {
        r = begin_temporary(img, path, exists ? &st : NULL, &p, err);
    } else if ((p.name = strdup(name)) == NULL) {
        r = err_set(err, -ENOMEM, "no memory for a file name");
    }
    if (r < 0) {
        img_pending_end(&p);
        return r;
    }
    *ret = p;
    return 0;
}

void img_pending_error(const struct img_pending *p, struct err *err)
{
    struct err told = *err;
    size_t len = p->name ? strlen(p->name) : 0, used = 0;

    if (p->final == NULL || len == 0) {
        return;
    }
    for (const char *in = told.text; *in != '\0' && used < sizeof(err->text) - 1;) {
        if (strncmp(in, p->name, len) == 0) {
            int n = snprintf(err->text + used, sizeof(err->text) - used, "%s", p->final);
            used = MIN(used + (size_t)n, sizeof(err->text) - 1);
            in += len;
        } else {
            err->text[used++] = *in++;
        }
    }
    err->text[used] = '\0';
}

int img_pending_commit(struct img_pending *p, struct err *err)
{
    if (p->final == NULL) {
        return 0;
    }
    if (rename(p->name, p->final) < 0) {
        return err_set_errno(err, -errno, "Could not rename the finished image to '%s'", p->final);
    }
    doomed = NULL;
    free(TAKE_PTR(p->final));
    return 0;
}

void img_pending_end(struct img_pending *p)
{
    if (p->final != NULL && p->name != NULL) {
        unlink(p->name);
        doomed = NULL;
    }
    node_unref(TAKE_PTR(p->guard));
    free(TAKE_PTR(p->name));
    free(TAKE_PTR(p->final));
}
