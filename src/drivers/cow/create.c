/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a COW file: a version 3 header, as Linux writes it, and the file stretched to its full length. */
#include <stdio.h>

#include "base/json.h"
#include "drivers/cow/cow.h"

#define NEW_ALIGN 4096u /* the page size of the hosts that UML runs on */

const struct option cow_create_options[] = {
    {"backing_file", OPT_STRING, offsetof(struct cow_create, backing_file),
     .help = "File name of the base image, which must be raw"},
    {"backing_fmt", OPT_STRING, offsetof(struct cow_create, backing_format), .def = "raw",
     .help = "Only raw"},
    {0},
};

static co_fn int write_header(struct node *file, const char *path, uint64_t size, uint64_t mtime,
                              struct err *err)
{
    const struct layout *l = &cow_layouts[COW_V3];
    const struct field *name = layout_field(l, "backing_file");
    const struct cow_header h = {.magic = COW_MAGIC,
                                 .version = 3,
                                 .mtime = mtime,
                                 .size = size,
                                 .sector_bytes = SECTOR_SIZE,
                                 .align = NEW_ALIGN};
    const struct cow_geometry geo = cow_geometry(COW_V3, &h);
    uint8_t buf[COW_HEADER_BYTES_MAX] = {0};

    layout_write(l, &h, 3, buf, l->bytes);
    memcpy(buf + name->offset, path, strlen(path));
    int r = node_write(file, 0, buf, l->bytes, REQ_GROW);
    r = r < 0 ? r : node_write(file, geo.data_offset + size - 1, "", 1, REQ_GROW);
    r = r < 0 ? r : node_flush(file);
    return r < 0 ? err_set_errno(err, r, "Could not write the COW file") : 0;
}

static co_fn int backing_facts(struct graph *g, const char *path, uint64_t *ret_size, uint64_t *ret_mtime,
                               struct err *err)
{
    struct node *n = NULL;
    int r = node_open_name(g, path, "raw", 0, &n, err);

    if (r < 0) {
        return err_prefix(err, "Could not open backing file: ");
    }
    r = cow_mtime(n, ret_mtime);
    *ret_size = node_size(n);
    node_unref(n);
    return r < 0 ? err_set_errno(err, r, "'%s': the time of its last change is not known", path) : 0;
}

/* A new, empty file under @filename, open. */
static co_fn int make_file(struct graph *g, const char *filename, struct node **ret, struct err *err)
{
    const struct driver *d = driver_find("file");
    AUTO_JSON json_t *none = json_object();
    AUTO_FREE void *state = calloc(1, d->create_state_size);
    int r = none && state ? options_apply(d->create_options, state, none, err)
                          : err_set(err, -ENOMEM, "no memory for an image");

    r = r < 0 ? r : d->create(g, filename, state, 0, err);
    options_free(d->create_options, state);
    return r < 0 ? r : node_open_name(g, filename, NULL, OPEN_WRITE | OPEN_PROTOCOL | OPEN_RESIZE, ret, err);
}

int cow_create(struct graph *g, const char *filename, void *create_state, uint64_t size, struct err *err)
{
    const struct cow_create *c = create_state;
    uint64_t backing_size = 0, mtime = 0;
    struct node *file = NULL;

    if (!c->backing_file) {
        return err_set(err, -EINVAL, "a COW file needs a backing file (backing_file, or -b)");
    }
    if (c->backing_format && strcmp(c->backing_format, "raw") != 0) {
        return err_set(err, -EINVAL, "the backing file of a COW file is always raw, not '%s'",
                       c->backing_format);
    }
    AUTO_FREE char *path = realpath(c->backing_file, NULL);
    if (!path) {
        return err_set_errno(err, -errno, "Could not open backing file '%s'", c->backing_file);
    }
    if (strlen(path) >= layout_field(&cow_layouts[COW_V3], "backing_file")->width) {
        return err_set(err, -ENAMETOOLONG, "the path of the backing file is too long for a COW header");
    }
    int r = backing_facts(g, path, &backing_size, &mtime, err);
    if (r < 0) {
        return r;
    }
    if (size != 0 && size != backing_size) {
        return err_set(err, -EINVAL, "a COW file has the size of its backing file, %llu bytes, not %llu",
                       (unsigned long long)backing_size, (unsigned long long)size);
    }
    if (backing_size == 0) {
        return err_set(err, -EINVAL, "the backing file '%s' is empty", path);
    }
    r = make_file(g, filename, &file, err);
    r = r < 0 ? r : write_header(file, path, backing_size, mtime, err);
    node_unref(file);
    return r;
}
