/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands that ask: length, info, alloc, map. */
#include "base/json.h"
#include "base/size.h"
#include "block/driver.h"
#include "tools/io/io.h"

IO_COMMAND(io_cmd_length)
{
    char text[SIZE_TEXT_MAX];

    puts(size_text(node_size(io->node), text));
    return 0;
}

/* ---- info ---- */

/* One member of the format-specific facts and what is below it, as qemu-io shows them. */
static void print_fact(const char *key, const json_t *value, int indent);

static void print_members(const json_t *value, int indent)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            char number[32];
            snprintf(number, sizeof(number), "[%zu]", i);
            print_fact(number, member, indent);
        }
        return;
    }
    json_object_foreach((json_t *)value, key, member)
    {
        print_fact(key, member, indent);
    }
}

static void print_fact(const char *key, const json_t *value, int indent)
{
    printf("%*s", indent * 4, "");
    for (const char *p = key; *p; p++) {
        putchar(*p == '-' ? ' ' : *p);
    }
    if (json_is_object(value) || json_is_array(value)) {
        puts(":");
        print_members(value, indent + 1);
    } else if (json_is_string(value)) {
        printf(": %s\n", json_string_value(value));
    } else if (json_is_integer(value)) {
        printf(": %lld\n", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        printf(": %f\n", json_real_value(value));
    } else {
        printf(": %s\n", json_is_true(value) ? "true" : "false");
    }
}

static uint64_t number(const json_t *facts, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(facts, key));

    return v > 0 ? (uint64_t)v : 0;
}

/* Formats and files have a cluster size, if only of 0; other protocols have none to tell. */
static bool has_clusters(const struct node *n)
{
    while (n->drv->kind == DRIVER_FILTER || (n->drv->kind == DRIVER_FORMAT && n->drv->format->transparent)) {
        n = node_below(n);
    }
    return n->drv->kind == DRIVER_FORMAT || strcmp(n->drv->name, "file") == 0;
}

IO_COMMAND(io_cmd_info)
{
    const struct driver *d = io->node->drv;
    char cluster[SIZE_TEXT_MAX], vmstate[SIZE_TEXT_MAX];

    /* as it was asked for: a driver may have more names than one */
    const char *asked = json_string_value(json_object_get(io->node->options, "driver"));
    const char *name = asked != NULL ? asked : d->name;
    printf("format name: %s\n", name);
    if (d->kind != DRIVER_FORMAT && d->prefixes != NULL) {
        printf("format name: %s\n", name); /* once as a driver, once as a protocol */
    }
    if (!has_clusters(io->node)) {
        return -ENOTSUP;
    }
    AUTO_JSON json_t *facts = d->info != NULL ? d->info(io->node) : NULL;
    AUTO_JSON json_t *general = d->image_info != NULL ? d->image_info(io->node) : NULL;
    printf("cluster size: %s\n", size_text(number(general, "cluster-size"), cluster));
    printf("vm state offset: %s\n", size_text(number(general, "vm-state-offset"), vmstate));
    if (d->kind == DRIVER_FORMAT && facts != NULL && json_object_size(facts) > 0) {
        puts("Format specific information:");
        print_members(facts, 1);
    }
    return 0;
}

/* ---- alloc, map ---- */

/* Bytes from @offset on, at most @bytes, that this layer does or does not hold. */
static co_fn int allocated_run(struct node *n, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes,
                               bool *ret_allocated)
{
    uint64_t run = 0;

    while (run < bytes) {
        struct extent e;
        int r = node_status(n, offset + run, bytes - run, &e);
        if (r < 0) {
            return r;
        }
        if (run > 0 && e.allocated != *ret_allocated) {
            break;
        }
        *ret_allocated = e.allocated;
        run += e.bytes;
    }
    *ret_bytes = run;
    return 0;
}

IO_COMMAND(io_cmd_alloc)
{
    uint64_t offset, count = SECTOR_SIZE, allocated_bytes = 0;
    char text[SIZE_TEXT_MAX];
    int r = io_number(argv[1], &offset);

    if (r < 0 || (argc == 3 && (r = io_number(argv[2], &count)) < 0)) {
        return r;
    }
    uint64_t size = node_size(io->node);
    count = offset < size ? MIN(count, size - offset) : 0;
    for (uint64_t done = 0, run; done < count; done += run) {
        bool allocated;
        r = allocated_run(io->node, offset + done, count - done, &run, &allocated);
        if (r < 0) {
            printf("is_allocated failed: %s\n", err_name(r));
            return r;
        }
        allocated_bytes += allocated ? run : 0;
    }
    printf("%llu/%llu bytes allocated at offset %s\n", (unsigned long long)allocated_bytes,
           (unsigned long long)count, size_text(offset, text));
    return 0;
}

IO_COMMAND(io_cmd_map)
{
    uint64_t size = node_size(io->node);

    for (uint64_t offset = 0, run; offset < size; offset += run) {
        char run_text[SIZE_TEXT_MAX], offset_text[SIZE_TEXT_MAX];
        bool allocated;
        int r = allocated_run(io->node, offset, size - offset, &run, &allocated);
        if (r < 0) {
            tool_error(io->tool, "Failed to get allocation status: %s", err_name(r));
            return r;
        }
        printf("%s (0x%llx) bytes %s at offset %s (0x%llx)\n", size_text(run, run_text),
               (unsigned long long)run, allocated ? "    allocated" : "not allocated",
               size_text(offset, offset_text), (unsigned long long)offset);
    }
    return 0;
}
