/* SPDX-License-Identifier: BSD-2-Clause */
/* The FUSE exports of `blkproof serve`: those of the command line, and those that its monitor makes. */
#include "tools/serve_fuse.h"

#include <stdio.h>
#include <sys/prctl.h>

/* ---- the command line ---- */

static struct fuse_place *new_place(struct serve *s)
{
    struct fuse_place *p = calloc(1, sizeof(*p));

    if (p) {
        p->serve = s;
        list_add_tail(&s->places, &p->link);
    }
    return p;
}

static void free_place(struct fuse_place *p)
{
    list_del(&p->link);
    free(p);
}

void serve_fuse_free(struct serve *s)
{
    struct fuse_place *p;

    while ((p = list_first(&s->places, struct fuse_place, link))) {
        free_place(p);
    }
}

int serve_fuse_add(struct serve *s, const char *text)
{
    size_t len = serve_name_len(text);
    struct fuse_place *p = new_place(s);

    if (!p) {
        return -ENOMEM;
    }
    p->name = text;
    p->name_len = len;
    p->file = len > 0 ? text + len + 1 : text;
    return 0;
}

static const struct image *find_image(const struct serve *s, const struct fuse_place *p)
{
    for (unsigned i = 0; i < s->nimages; i++) {
        const struct image *im = &s->images[i];
        if (strlen(im->export_name) == p->name_len && memcmp(im->export_name, p->name, p->name_len) == 0) {
            return im;
        }
    }
    return NULL;
}

static int resolve(struct serve *s, struct fuse_place *p, struct err *err)
{
    const struct fuse_place *before;

    if (p->name_len == 0 && s->nimages > 1) {
        return err_set(err, -EINVAL, "--fuse=%s: which of the images? --fuse=NAME=%s", p->file, p->file);
    }
    p->image = p->name_len == 0 ? &s->images[0] : find_image(s, p);
    p->growable = s->fuse_growable;
    if (!p->image) {
        return err_set(err, -EINVAL, "--fuse=%s: no image has the export name '%.*s'", p->name,
                       (int)p->name_len, p->name);
    }
    list_for_each (before, &s->places, link) {
        if (before == p) {
            break;
        }
        if (p->growable && before->image == p->image) { /* two that grow it would cut each other off */
            return err_set(err, -EINVAL, "--fuse=%s: with --fuse-growable a disk has one place only",
                           p->file);
        }
    }
    return 0;
}

int serve_fuse_resolve(struct serve *s, struct err *err)
{
    struct fuse_place *p;
    int rc = 0;

    list_for_each (p, &s->places, link) {
        if ((rc = resolve(s, p, err)) < 0) {
            return rc;
        }
    }
    if (list_empty(&s->places) && (s->fuse_growable || s->fuse_allow_other)) {
        return err_set(err, -EINVAL, "%s is of no use without --fuse=FILE",
                       s->fuse_growable ? "--fuse-growable" : "--fuse-allow-other");
    }
    return 0;
}

/* ---- the run ---- */

static void on_notice(void *opaque, const char *sentence)
{
    const struct fuse_place *p = opaque;

    tool_error(p->serve->tool, "%s", sentence);
}

static void on_closed(void *opaque)
{
    const struct fuse_place *p = opaque;

    serve_client_left(p->serve);
}

static bool reachable(const struct serve *s)
{
    const struct fuse_place *p;

    list_for_each (p, &s->places, link) {
        if (!p->gone) {
            return true;
        }
    }
    return s->naddresses > 0;
}

static void on_gone(void *opaque)
{
    struct fuse_place *p = opaque;

    p->gone = true;
    if (!p->serve->quiet) {
        tool_error(p->serve->tool, "'%s' has been unmounted", fuse_export_path(p->export));
    }
    if (!reachable(p->serve)) {
        serve_wind_down(p->serve);
    }
    if (p->serve->qmp) {
        qmp_server_fuse_gone(p->serve->qmp, p->export);
    }
}

/* @want: all but what every place has. */
static co_fn int mount_place(struct fuse_place *p, const struct fuse_export_config *want, struct err *err)
{
    struct fuse_export_config config = *want;

    p->node = want->node;
    p->growable = want->growable;
    config.notice = on_notice;
    config.closed = on_closed;
    config.gone = on_gone;
    config.opaque = p;
    return fuse_export_create(&config, &p->export, err);
}

int serve_fuse_begin(struct serve *s, struct err *err)
{
    struct fuse_place *p;
    bool lone = s->naddresses == 0 && s->nqmp == 0 && s->places.next->next == &s->places;
    int rc = 0;

    /* The kernel may need us to write pages back in order to find memory for us. Inherited by programs that
     * are started, which it is not meant for; and refused without CAP_SYS_RESOURCE, at a small risk. */
    if (!list_empty(&s->places) && !s->run) {
        prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    }
    list_for_each (p, &s->places, link) {
        const struct fuse_export_config config = {
            .mountpoint = p->file,
            .node = p->image->node,
            .read_only = s->read_only || node_is_read_only(p->image->node),
            .growable = s->fuse_growable,
            .allow_other = s->fuse_allow_other,
            .spin_ns = lone ? s->config.spin_ns : 0,
        };
        if ((rc = mount_place(p, &config, err)) < 0) {
            return rc;
        }
    }
    return 0;
}

bool serve_fuse_idle(const struct serve *s)
{
    const struct fuse_place *p;

    list_for_each (p, &s->places, link) {
        if (p->export && fuse_export_opens(p->export) > 0) {
            return false;
        }
    }
    return true;
}

const char *serve_fuse_place(const struct serve *s, const struct image *im, unsigned n)
{
    const struct fuse_place *p;

    list_for_each (p, &s->places, link) {
        if (p->image == im && n-- == 0) {
            return fuse_export_path(p->export);
        }
    }
    return NULL;
}

/* ---- the monitor's ---- */

int serve_fuse_announce(struct serve *s, struct err *err)
{
    const struct fuse_place *p, *before;
    int rc = 0;

    list_for_each (p, &s->places, link) {
        char id[300];
        unsigned n = 1;
        list_for_each (before, &s->places, link) {
            if (before == p) {
                break;
            }
            n += before->image == p->image;
        }
        snprintf(id, sizeof(id), n > 1 ? "%s-fuse%u" : "%s-fuse", qmp_server_disk(s->qmp, p->node), n);
        rc = qmp_server_add_fuse(s->qmp, id, p->export, p->node, err);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

int serve_fuse_make(void *serve, const struct fuse_export_config *want, struct fuse_export **ret_export,
                    struct err *err)
{
    struct serve *s = serve;
    struct fuse_place *p, *other;

    list_for_each (other, &s->places, link) {
        if (other->node == want->node && (want->growable || other->growable)) {
            return err_set(err, -EINVAL, "a disk that can grow has one place only");
        }
    }
    p = new_place(s);
    if (!p) {
        return err_set(err, -ENOMEM, "no memory to export at '%s'", want->mountpoint);
    }
    int rc = mount_place(p, want, err);
    if (rc == 0 && s->draining) { /* the end came first, and did not see it */
        fuse_export_destroy(TAKE_PTR(p->export));
        rc = err_set(err, -ESHUTDOWN, "the server ends");
    }
    if (rc < 0) {
        free_place(p);
        return rc;
    }
    *ret_export = p->export;
    return 0;
}

void serve_fuse_end(void *serve, struct fuse_export *e)
{
    struct serve *s = serve;
    struct fuse_place *p;

    s->fuse_ending++;
    fuse_export_finish(e);
    list_for_each (p, &s->places, link) {
        if (p->export == e && !s->draining) { /* else serve_fuse_finish looks after it */
            fuse_export_destroy(e);
            free_place(p);
            break;
        }
    }
    s->fuse_ending--;
    co_queue_wake_all(&s->changed);
}

/* ---- the end ---- */

void serve_fuse_stop(struct serve *s)
{
    const struct fuse_place *p;

    list_for_each (p, &s->places, link) {
        if (p->export) {
            fuse_export_stop(p->export);
        }
    }
}

unsigned serve_fuse_wait(struct serve *s)
{
    const struct fuse_place *p;
    unsigned hang = 0;

    list_for_each (p, &s->places, link) {
        if (p->export) {
            hang += fuse_export_wait(p->export);
        }
    }
    return hang;
}

void serve_fuse_finish(struct serve *s)
{
    struct fuse_place *p;

    while (s->fuse_ending > 0) {
        co_queue_wait(&s->changed);
    }
    list_for_each (p, &s->places, link) {
        fuse_export_destroy(TAKE_PTR(p->export));
    }
}

void serve_fuse_abandon(struct serve *s)
{
    const struct fuse_place *p;

    list_for_each (p, &s->places, link) {
        if (p->export) {
            fuse_export_abandon(p->export);
        }
    }
}
