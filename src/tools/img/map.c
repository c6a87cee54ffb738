/* SPDX-License-Identifier: BSD-2-Clause */
/* img map: where the bytes of an image live. Neighbours of one kind are one line. */
#include "base/json.h"
#include "tools/img/img.h"

struct map {
    struct img *img;
    bool first; /* nothing printed yet */
    int status;
};

struct entry {
    uint64_t start;
    struct extent e; /* bytes: of the entry */
};

static void print_json_entry(struct map *m, const struct entry *n)
{
    static const char *const words[] = {"false", "true"};

    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
           ", \"depth\": %u, \"present\": %s, \"zero\": %s, "
           "\"data\": %s, \"compressed\": %s",
           m->first ? "" : ",\n", n->start, n->e.bytes, n->e.depth, words[n->e.allocated], words[n->e.zero],
           words[n->e.data], words[n->e.compressed]);
    if (n->e.has_offset) {
        printf(", \"offset\": %" PRIu64, n->e.offset);
    }
    printf("}");
    m->first = false;
}

static void print_entry(struct map *m, const struct entry *n)
{
    if (m->img->a.json) {
        print_json_entry(m, n);
        return;
    }
    if (!n->e.data || n->e.zero) {
        return;
    }
    if (!n->e.has_offset) {
        img_error(m->img, "File contains external, encrypted or compressed clusters.");
        m->status = 1;
        return;
    }
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", n->start, n->e.bytes, n->e.offset,
           n->e.file ? node_filename(n->e.file) : "");
}

/* True if @b carries on what @a is. */
static bool continues(const struct extent *a, const struct extent *b)
{
    if (a->data != b->data || a->zero != b->zero || a->allocated != b->allocated || a->depth != b->depth ||
        a->compressed != b->compressed || a->has_offset != b->has_offset) {
        return false;
    }
    return !a->has_offset || (a->file == b->file && a->offset + a->bytes == b->offset);
}

/* "present" is told by the file of the chain that decides the content, wherever in the chain that is. */
static co_fn int look_at_depth(struct node *n, uint64_t at, struct extent *e)
{
    for (unsigned i = 0; i < e->depth && n != NULL; i++) {
        n = node_child(n, "backing");
    }
    if (e->depth == 0 || n == NULL) {
        return 0;
    }
    struct extent below;
    int r = node_status(n, at, e->bytes, &below);
    if (r == 0) {
        e->allocated = below.allocated;
        e->bytes = MIN(e->bytes, below.bytes);
    }
    return r;
}

static co_fn int map_node(struct map *m, struct node *node)
{
    const struct img_args *a = &m->img->a;
    uint64_t start = a->start != IMG_NOT_GIVEN ? a->start : 0;
    uint64_t end = node_size(node);
    struct entry last = {.start = start};

    if (a->max_length != IMG_NOT_GIVEN && start < end) {
        end = start + MIN(a->max_length, end - start);
    }
    for (uint64_t at = start; at < end && m->status == 0;) {
        struct entry next = {.start = at};
        int r = node_status(node, at, end - at, &next.e);
        if (r == 0) {
            r = look_at_depth(node, at, &next.e);
        }
        if (r < 0) {
            img_error(m->img, "Failed to read image metadata: %s", err_name(r));
            return r;
        }
        at += next.e.bytes;
        if (last.e.bytes > 0 && continues(&last.e, &next.e)) {
            last.e.bytes += next.e.bytes;
            continue;
        }
        if (last.e.bytes > 0) {
            print_entry(m, &last);
        }
        last = next;
    }
    if (m->status == 0) {
        print_entry(m, &last);
    }
    return 0;
}

static co_fn int run(struct img *img)
{
    struct map m = {.img = img, .first = true};
    struct node *node = NULL;

    if (img_open(img, img->argv[0], img->a.format, img->a.image_opts, 0, &node) < 0) {
        return 1;
    }
    if (img->a.json) {
        printf("[");
    } else {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    int r = map_node(&m, node);
    if (img->a.json && r == 0) {
        printf("]\n");
    }
    node_unref(node);
    return r < 0 ? 1 : m.status;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    {'s', "start-offset", IMG_ARG_SIZE, IMG_FIELD(start), "OFFSET", "begin here", "start offset"},
    {'l', "max-length", IMG_ARG_SIZE, IMG_FIELD(max_length), "BYTES", "look at so many bytes", "max length"},
    IMG_ARG_OUTPUT_FORMAT,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_map = {
    .name = "map",
    .synopsis = "IMAGE",
    .summary = "Show where the data of an image lies",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .run = run,
};
