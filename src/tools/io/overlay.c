/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * -s: a temporary qcow2 overlay takes the writes, and is gone when the image is closed. Its file has no
 * name from the beginning, so that not even SIGKILL leaves one behind: the drivers open it through
 * our descriptor's name in /proc.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/create.h"
#include "tools/io/io.h"

/* A file without a name in $TMPDIR, or in /var/tmp, where there is room. */
static int nameless_file(int *ret_fd, struct err *err)
{
    const char *dir = getenv("TMPDIR");
    AUTO_FREE char *path = NULL;

    dir = dir != NULL && *dir != '\0' ? dir : "/var/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && asprintf(&path, "%s/blkproof.XXXXXX", dir) > 0) { /* a file system without O_TMPFILE */
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    if (fd < 0) {
        return err_set_errno(err, -errno, "Could not get temporary filename in '%s'", dir);
    }
    *ret_fd = fd;
    return 0;
}

static co_fn int size_of(struct graph *g, json_t *options, unsigned flags, uint64_t *ret_size,
                         struct err *err)
{
    struct node *n = NULL;
    int r = node_open(g, options, flags & ~(unsigned)OPEN_WRITE, &n, err);

    if (r == 0) {
        *ret_size = node_size(n);
        node_unref(n);
    }
    return r;
}

static co_fn int make_image(struct graph *g, const char *name, uint64_t size, struct err *err)
{
    struct creation c;
    int r = creation_init(&c, name, "qcow2", NULL, err);

    if (r == 0) {
        c.size = size;
        c.has_size = true;
        r = creation_run(&c, g, name, err);
        creation_finish(&c);
    }
    return r;
}

int io_overlay(struct io *io, json_t **options, unsigned *flags, struct err *err)
{
    char name[32];
    uint64_t size = 0;
    int fd = -1;
    int r = size_of(&io->graph, *options, *flags, &size, err);

    if (r < 0 || (r = nameless_file(&fd, err)) < 0) {
        return r;
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    r = make_image(&io->graph, name, size, err);
    json_t *over = r < 0 ? NULL
                         : json_pack("{s:s, s:{s:s, s:s}, s:O}", "driver", "qcow2", "file", "driver", "file",
                                     "filename", name, "backing", *options);
    if (over == NULL) {
        close(fd);
        return r < 0 ? r : err_set(err, -ENOMEM, "no memory for options");
    }
    json_decref(*options);
    *options = over;
    *flags |= OPEN_WRITE | OPEN_NO_FLUSH; /* it need not survive anything */
    io->overlay_fd = fd;
    return 0;
}
