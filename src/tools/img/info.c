/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img info: facts about an image, built once as JSON; the human form is printed from the same
 * object. Opens nothing but the image: with --backing-chain also what lies behind it.
 */
#include "base/json.h"
#include "base/size.h"
#include "block/driver.h"
#include "tools/img/img.h"

#define CHAIN_MAX 200 /* images behind each other: more is a loop in all but name */
#define INDENT    4

/* ---- collecting ---- */

/* Steals @value; a missing one leaves the member out. */
static void put(json_t *object, const char *key, json_t *value)
{
    if (value != NULL) {
        json_object_set_new(object, key, value);
    }
}

static co_fn json_t *node_facts(struct node *n);

static co_fn json_t *children_facts(struct node *n)
{
    json_t *list = json_array();

    for (unsigned i = 0; list != NULL && i < node_children(n); i++) {
        const char *name;
        struct node *child = node_child_at(n, i, &name);
        if (strcmp(name, "backing") != 0) {
            json_array_append_new(list, json_pack("{s:s, s:o}", "name", name, "info", node_facts(child)));
        }
    }
    return list;
}

/* What the image says about itself; vm-state-offset is io's affair. */
static co_fn void put_image_facts(struct node *n, json_t *o)
{
    AUTO_JSON json_t *facts = n->drv->image_info ? n->drv->image_info(n) : NULL;
    AUTO_JSON json_t *snapshots = n->drv->snapshot ? n->drv->snapshot->list(n) : NULL;

    json_object_update(o, facts);
    json_object_del(o, "vm-state-offset");
    if (json_array_size(snapshots) > 0) {
        json_object_set(o, "snapshots", snapshots);
    }
}

static co_fn json_t *node_facts(struct node *n)
{
    json_t *o = json_object();
    uint64_t allocated;

    if (node_children(n) > 0) {
        put(o, "children", children_facts(n));
    }
    put(o, "virtual-size", json_integer((json_int_t)node_size(n)));
    put(o, "filename", img_json_string(node_filename(n)));
    put(o, "format", json_string(node_driver_name(n)));
    if (node_allocated_bytes(n, &allocated) == 0) {
        put(o, "actual-size", json_integer((json_int_t)allocated));
    }
    json_t *specific = n->drv->info ? n->drv->info(n) : NULL;
    if (specific != NULL) {
        put(o, "format-specific", json_pack("{s:s, s:o}", "type", node_driver_name(n), "data", specific));
    }
    put(o, "dirty-flag", json_false());
    put_image_facts(n, o);
    return o;
}

/* ---- the human form ---- */

static void indent(unsigned depth)
{
    printf("%*s", (int)(depth * INDENT), "");
}

static void print_value(const json_t *v, unsigned depth);

static void print_members(const json_t *object, unsigned depth)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)object, key, v)
    {
        indent(depth);
        for (const char *c = key; *c != '\0'; c++) {
            putchar(*c == '-' ? ' ' : *c);
        }
        putchar(':');
        print_value(v, depth);
    }
}

static void print_elements(const json_t *array, unsigned depth)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        indent(depth);
        printf("[%zu]:", i);
        print_value(json_array_get(array, i), depth);
    }
}

/* Behind "key:"; ends the line. */
static void print_value(const json_t *v, unsigned depth)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        putchar('\n');
        print_members(v, depth + 1);
        return;
    case JSON_ARRAY:
        putchar('\n');
        print_elements(v, depth + 1);
        return;
    case JSON_STRING:
        printf(" %s\n", json_string_value(v));
        return;
    case JSON_INTEGER:
        printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
        return;
    case JSON_REAL:
        printf(" %g\n", json_real_value(v));
        return;
    default:
        printf(" %s\n", json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
    }
}

static void print_size_line(const char *label, const json_t *bytes, bool both, unsigned depth)
{
    char text[SIZE_TEXT_MAX];

    indent(depth);
    if (bytes == NULL) {
        printf("%s: unavailable\n", label);
        return;
    }
    json_int_t v = json_integer_value(bytes);
    printf("%s: %s", label, size_text_short((uint64_t)v, text));
    if (both) {
        printf(" (%" JSON_INTEGER_FORMAT " bytes)", v);
    }
    putchar('\n');
}

static void print_backing(const json_t *facts, unsigned depth)
{
    const char *name = json_string_value(json_object_get(facts, "backing-filename"));
    const char *full = json_string_value(json_object_get(facts, "full-backing-filename"));
    const char *format = json_string_value(json_object_get(facts, "backing-filename-format"));

    if (!name) {
        return;
    }
    indent(depth);
    printf("backing file: %s", name);
    if (!full) {
        printf(" (cannot determine actual path)");
    } else if (strcmp(name, full) != 0) {
        printf(" (actual path: %s)", full);
    }
    putchar('\n');
    if (format) {
        indent(depth);
        printf("backing file format: %s\n", format);
    }
}

static void print_image_facts(const json_t *facts, unsigned depth)
{
    const json_t *cluster = json_object_get(facts, "cluster-size");

    if (json_is_true(json_object_get(facts, "encrypted"))) {
        indent(depth);
        printf("encrypted: yes\n");
    }
    if (cluster) {
        indent(depth);
        printf("cluster_size: %" JSON_INTEGER_FORMAT "\n", json_integer_value(cluster));
    }
    if (json_is_true(json_object_get(facts, "dirty-flag"))) {
        indent(depth);
        printf("cleanly shut down: no\n");
    }
    print_backing(facts, depth);
    img_print_snapshots(json_object_get(facts, "snapshots"), depth * INDENT);
}

/* @path: of the child nodes on the way here; "" for the image itself. */
static void print_facts(const json_t *facts, unsigned depth, const char *path)
{
    bool child = *path != '\0';
    json_t *specific = json_object_get(json_object_get(facts, "format-specific"), "data");

    indent(depth);
    printf("%s: %s\n", child ? "filename" : "image", json_string_value(json_object_get(facts, "filename")));
    indent(depth);
    printf("%s: %s\n", child ? "protocol type" : "file format",
           json_string_value(json_object_get(facts, "format")));
    print_size_line(child ? "file length" : "virtual size", json_object_get(facts, "virtual-size"), true,
                    depth);
    print_size_line("disk size", json_object_get(facts, "actual-size"), false, depth);
    print_image_facts(facts, depth);
    if (json_object_size(specific) > 0) {
        indent(depth);
        printf("Format specific information:\n");
        print_members(specific, depth + 1);
    }

    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(facts, "children"), i, c)
    {
        AUTO_FREE char *child_path = NULL;
        if (asprintf(&child_path, "%s/%s", path, json_string_value(json_object_get(c, "name"))) < 0) {
            child_path = NULL;
            return;
        }
        indent(depth);
        printf("Child node '%s':\n", child_path);
        print_facts(json_object_get(c, "info"), depth + 1, child_path);
    }
}

/* ---- the command ---- */

/* Facts of the image and, if asked, of each backing file in turn. */
static co_fn int collect(struct img *img, json_t *list)
{
    unsigned flags = OPEN_NO_IO | (img->a.backing_chain ? 0 : OPEN_NO_BACKING);
    struct node *top = NULL;
    int r = img_open(img, img->argv[0], img->a.format, img->a.image_opts, flags, &top);

    if (r < 0) {
        return r;
    }
    struct node *n = top;
    for (unsigned i = 0; n != NULL && i < CHAIN_MAX; i++) {
        json_array_append_new(list, node_facts(n));
        n = img->a.backing_chain ? node_child(n, "backing") : NULL;
    }
    node_unref(top);
    return 0;
}

static co_fn int run(struct img *img)
{
    AUTO_JSON json_t *list = json_array();

    if (list == NULL || collect(img, list) < 0) {
        return 1;
    }
    if (img->a.json) {
        img_print_json(img->a.backing_chain ? list : json_array_get(list, 0));
        return 0;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i > 0) {
            putchar('\n');
        }
        print_facts(json_array_get(list, i), 0, "");
    }
    return 0;
}

static const struct img_arg args[] = {
    IMG_ARG_FORMAT,
    IMG_ARG_OUTPUT_FORMAT,
    {0, "backing-chain", IMG_ARG_FLAG, IMG_FIELD(backing_chain), NULL,
     "also the backing files, one after the other"},
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_info = {
    .name = "info",
    .synopsis = "IMAGE",
    .summary = "Show what an image is and how large",
    .args = args,
    .min_operands = 1,
    .max_operands = 1,
    .operands_wrong = "Expecting one image file name",
    .run = run,
};
