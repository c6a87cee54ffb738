/* SPDX-License-Identifier: BSD-2-Clause */
/* The FUSE exports of `blkproof serve`. */
#include "tools/serve_fuse.h"

#include <sys/prctl.h>

#include "export/fuse/fuse.h"

/* ---- the command line ---- */

void serve_fuse_add(struct serve *s, const char *text)
{
    size_t len = serve_name_len(text);

    s->places[s->nplaces++] = (struct fuse_place){
        .serve = s, .name = text, .name_len = len, .file = len > 0 ? text + len + 1 : text};
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

int serve_fuse_resolve(struct serve *s, struct err *err)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        struct fuse_place *p = &s->places[i];
        if (p->name_len == 0 && s->nimages > 1) {
            return err_set(err, -EINVAL, "--fuse=%s: which of the images? --fuse=NAME=%s", p->file, p->file);
        }
        p->image = p->name_len == 0 ? &s->images[0] : find_image(s, p);
        if (!p->image) {
            return err_set(err, -EINVAL, "--fuse=%s: no image has the export name '%.*s'", p->name,
                           (int)p->name_len, p->name);
        }
        for (unsigned j = 0; s->fuse_growable && j < i; j++) {
            if (s->places[j].image == p->image) { /* two that grow it would cut each other off */
                return err_set(err, -EINVAL, "--fuse=%s: with --fuse-growable a disk has one place only",
                               p->file);
            }
        }
    }
    if (s->nplaces == 0 && (s->fuse_growable || s->fuse_allow_other)) {
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
    for (unsigned i = 0; i < s->nplaces; i++) {
        if (!s->places[i].gone) {
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
}

int serve_fuse_begin(struct serve *s, struct err *err)
{
    int rc = 0;

    /* The kernel may need us to write pages back in order to find memory for us. Inherited by programs that
     * are started, which it is not meant for; and refused without CAP_SYS_RESOURCE, at a small risk. */
    if (s->nplaces > 0 && !s->run) {
        prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    }
    for (unsigned i = 0; rc == 0 && i < s->nplaces; i++) {
        struct fuse_place *p = &s->places[i];
        const struct fuse_export_config config = {
            .mountpoint = p->file,
            .node = p->image->node,
            .read_only = s->read_only || node_is_read_only(p->image->node),
            .growable = s->fuse_growable,
            .allow_other = s->fuse_allow_other,
            .spin_ns = s->nplaces == 1 && s->naddresses == 0 ? s->config.spin_ns : 0,
            .notice = on_notice,
            .closed = on_closed,
            .gone = on_gone,
            .opaque = p,
        };
        rc = fuse_export_create(&config, &p->export, err);
    }
    return rc;
}

bool serve_fuse_idle(const struct serve *s)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        if (s->places[i].export && fuse_export_opens(s->places[i].export) > 0) {
            return false;
        }
    }
    return true;
}

const char *serve_fuse_place(const struct serve *s, const struct image *im, unsigned n)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        const struct fuse_place *p = &s->places[i];
        if (p->image == im && n-- == 0) {
            return fuse_export_path(p->export);
        }
    }
    return NULL;
}

void serve_fuse_stop(struct serve *s)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        if (s->places[i].export) {
            fuse_export_stop(s->places[i].export);
        }
    }
}

unsigned serve_fuse_wait(struct serve *s)
{
    unsigned hang = 0;

    for (unsigned i = 0; i < s->nplaces; i++) {
        if (s->places[i].export) {
            hang += fuse_export_wait(s->places[i].export);
        }
    }
    return hang;
}

void serve_fuse_finish(struct serve *s)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        fuse_export_destroy(TAKE_PTR(s->places[i].export));
    }
}

void serve_fuse_abandon(struct serve *s)
{
    for (unsigned i = 0; i < s->nplaces; i++) {
        if (s->places[i].export) {
            fuse_export_abandon(s->places[i].export);
        }
    }
}
