/* SPDX-License-Identifier: BSD-2-Clause */
/* Sentences, sizes, opening and JSON output: what every subcommand does the same way. */
#include "base/json.h"
#include "base/size.h"
#include "tools/img/img.h"

#define EXIT_USAGE 2

int img_fail_status(const struct img *img)
{
    return img->cmd && img->cmd->error_status ? img->cmd->error_status : 1;
}

int img_usage_error(const struct img *img, const char *fmt, ...)
{
    struct err err;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err.text, sizeof(err.text), fmt, ap);
    va_end(ap);
    if (img->t->standin) {
        img_error(img, "%s", err.text);
        fprintf(stderr, "Try '%s --help' for more information\n", img->t->prefix);
        return 1;
    }
    img_error(img, "%s (see 'blkproof img%s%s --help')", err.text, img->cmd ? " " : "",
              img->cmd ? img->cmd->name : "");
    return EXIT_USAGE;
}

int img_bad_size(const struct img *img, const char *what)
{
    static const char first[] = "You may use k, M, G, T, P or E suffixes for";
    static const char second[] = "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.";

    if (img->t->standin) {
        img_error(img, "Invalid %s specified. %s", what, first);
        img_error(img, "%s", second);
    } else {
        img_error(img, "Invalid %s specified. %s %s", what, first, second);
    }
    return img_fail_status(img);
}

int img_parse_size(const struct img *img, const char *text, const char *what, uint64_t min, uint64_t max,
                   uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    int r = size_parse(text, &bytes);

    max = max ? max : INT64_MAX;
    if (r == -EINVAL) {
        img_bad_size(img, what);
        return r;
    }
    if (r < 0 || bytes < min || bytes > max) {
        img_error(img, "Invalid %s specified. Must be between %" PRIu64 " and %" PRIu64 ".", what, min, max);
        return -EINVAL;
    }
    *ret_bytes = bytes;
    return 0;
}

int img_cache_flags(const struct img *img, const char *mode, const char *kind, unsigned *ret_flags)
{
    if (tool_cache_flags(mode, ret_flags) < 0) {
        img_error(img, "Invalid %s: %s", kind, mode);
        return -EINVAL;
    }
    return 0;
}

int img_open(struct img *img, const char *name, const char *format, bool opts, unsigned flags,
             struct node **ret_node)
{
    struct err err = {0};
    int r;

    if (opts && format) {
        img_error(img, "--image-opts and --format are mutually exclusive");
        return -EINVAL;
    }
    if (img->a.force_share && !(flags & OPEN_WRITE)) {
        flags |= OPEN_FORCE_SHARE;
    }
    r = opts ? node_open_opts(&img->graph, name, flags, ret_node, &err)
             : node_open_name(&img->graph, name, format, flags, ret_node, &err);
    if (r < 0 && !img->t->standin && strncmp(err.text, "Could not open '", 16) == 0) {
        img_error(img, "%s", err.text); /* QEMU says it twice */
    } else if (r < 0) {
        img_error(img, "Could not open '%s': %s", name, err.text);
    }
    return r;
}

bool img_options_want_help(const char *options)
{
    for (const char *p = options; p != NULL && *p != '\0';) {
        size_t n = strcspn(p, ",");
        if ((n == 4 && memcmp(p, "help", 4) == 0) || (n == 1 && *p == '?')) {
            return true;
        }
        p += n + (p[n] == ',');
    }
    return false;
}

json_t *img_json_string(const char *text)
{
    json_t *j = json_string(text);
    if (j != NULL) {
        return j;
    }
    /* Not UTF-8: keep the ASCII, replace the rest byte by byte. */
    AUTO_FREE char *clean = malloc(3 * strlen(text) + 1);
    if (clean == NULL) {
        return NULL;
    }
    char *out = clean;
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x80) {
            *out++ = *text;
        } else {
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
        }
    }
    *out = '\0';
    return json_string(clean);
}

void img_print_json(const json_t *j)
{
    AUTO_FREE char *text = json_dumps(j, JSON_INDENT(4));
    printf("%s\n", text ? text : "{}");
}
